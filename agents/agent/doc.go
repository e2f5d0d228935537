// Package agent is a host's agent: it makes the host's Open vSwitch carry out the desired state that it is given, and keeps it so.
//
// It needs nobody to go on: what it was last told is on disk, what the switch carries out is read back from the switch, and only the difference is
// ever sent, at once. It never takes away what it has not something better for: until it knows the desired state and what is plugged, it
// leaves the switch as it finds it.
package agent
