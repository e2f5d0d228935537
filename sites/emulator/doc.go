// Package emulator is an OpenStack over HTTP, in one process and in memory:
// Keystone, Nova, Glance, Neutron, Cinder and Placement under one address, by
// path, that an unmodified client cannot tell from a real region for the verbs
// it implements. It serves demos, fault tests and scale tests. It never stands
// in for a real region as proof that an adaptor is right.
//
// # Promises
//
//   - Status codes, error bodies, field names and microversion windows are those
//     of OpenStack Zed; a test that is enabled by HEADWATER_REALCLOUD compares them
//     with a real region, verb by verb.
//   - Transitions (BUILD to ACTIVE, creating to available, ...) take the time
//     that Config.Durations says, on Config.Now, and are worked out when somebody
//     looks: two runs with the same clock see the same states. There is no loop to run.
//   - A cloud holds 100,000 servers with their ports in under 300 MB.
//   - Names, ids, tokens and everything else are lost when the process ends.
//
// # Faults
//
// Cloud.Faults adds latency, errors, stalls, resets, outages, lost replies and
// late executions to chosen calls, takes roles from accounts and skews the
// clock. The same is offered over HTTP below /_emulator/ to whoever sends
// Config.ControlToken as X-Emulator-Token:
//
//	GET    /_emulator/faults           {"faults":[Fault...]}
//	POST   /_emulator/faults           Fault -> {"id":1}; see Fault for the members
//	DELETE /_emulator/faults[/{id}]    remove one or all; releases what they stalled
//	POST   /_emulator/faults/{id}/release   release what the fault has stalled so far
//	PUT    /_emulator/outage           {"services":["compute"]} or {"services":[]} for all; DELETE ends it
//	PUT    /_emulator/roles            {"user":"admin","roles":["admin"]}; DELETE gives them back
//	PUT    /_emulator/clock            {"skew":"90s"}
//	GET    /_emulator/calls            {"calls":[Call...]}; DELETE forgets them
//	GET    /_emulator/census           {"census":{project:{kind:count}}}
//	GET    /_emulator/everything       {"resources":[Resource...]}
//	GET    /_emulator/servers          {"servers":[Server...]}
//	POST   /_emulator/seed             Seeding -> {"servers":n}
//
// # What is not there
//
// Swift, Heat, Barbican, Octavia; Keystone's groups, trusts, federation and
// system scope; Nova's migrations API, server diagnostics and host aggregates'
// writes; Neutron's subnet pools, trunks, QoS, RBAC writes and agents' writes; Cinder's groups,
// QoS specs, transfers and consistency groups. Their lists are empty where a
// client looks for them, their writes are the service's own 404.
package emulator
