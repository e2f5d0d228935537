// Package flows turns the desired state of a host into the flows, groups and meters of its switch.
//
// It is pure: what comes out depends on the state that is there and on nothing else, neither on what was there before nor on the time.
// It is incremental: what is compiled remembers what it read, and is compiled again when that changes. It compiles only what the
// ports that are plugged on the host can reach, whatever else the state holds.
package flows

//go:generate go run ./internal/tabledoc
