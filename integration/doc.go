// Package integration holds Headwater's whole-system tests: the real programs
// as processes, driven by real clients, over emulated sites and over real
// OpenStack regions. What a machine lacks skips its tests by name; with the
// HEADWATER_REQUIRE_* variables of .ci/run it fails them.
package integration
