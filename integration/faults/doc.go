// Package faults proves what Top promises under failure: that it may be killed,
// stood still, cut off from a site or lied to by one at any moment, and that
// every accepted request still ends done or in an error that says why, with
// nothing made twice and nothing left behind.
//
// It holds tests only. Top runs as a process; the sites are emulated in the
// test's own process, so that they outlive it, or are real regions.
package faults
