// Package openflow speaks OpenFlow 1.3 (ONF TS-012) with the extensions of Open vSwitch (nicira-ext.h): packet-in2 with continuations,
// conjunctions, connection tracking with NAT, learned flows, atomic bundles (ONF EXT-230) and flow monitors (ONF EXT-187).
//
// Every message is described once, by a function that both encodes and decodes it; what is read and what is written
// cannot part. So each end of a connection can be played: an agent speaks to a switch, and a test is the switch.
//
// Matches and actions are written as Open vSwitch itself writes them, in its order and its choice among equal forms: a flow
// that was sent and the same flow in a dump are equal byte for byte. Tests hold that against ovs-ofctl and ovs-vswitchd.
package openflow
