// Package trace answers where a packet goes, and why.
//
// Simulate walks a packet over the desired state alone: what should happen. It shares no code with the compiler of package flows, so that one
// can be held against the other. Check asks the switches of the hosts on the way, by ofproto/trace, what they would do: what
// would happen. Where the two differ the compiler or the switch is wrong; where both differ from what a real packet did, the underlay is.
package trace
