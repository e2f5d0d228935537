// Package apps answers the packets that flows alone cannot answer: DHCP, router advertisements, errors of routers, addresses of unknown hosts,
// metadata and names. It decides from the replica of the desired state that the host has; no packet waits for another machine of ours.
//
// A packet goes through a chain. Advisors find out what it is and whose; then directors are asked, by falling altitude, and the first
// that answers ends it; then observers count. The chain is a function of a Packet and the state, and gives Replies; what it has to do with
// OpenFlow stands in wire.go. Around it, Apps shares packets out to workers by the port that sent them, and admits of each port its fair share.
package apps
