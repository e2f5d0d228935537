// Package trace answers where a packet goes, and why.
//
// Simulate walks a packet over the desired state alone: what should happen. It shares no code with the compiler of package flows, so that one
// can be held against the other. Check asks the switches of the hosts on the way, by ofproto/trace, what they would do: what
// would happen. Run does both, follows a real packet besides, and compares the three: where the first two differ the compiler is wrong, or somebody else has changed
// the switch; where both differ from what the packet did, the switch or the underlay is.
package trace
