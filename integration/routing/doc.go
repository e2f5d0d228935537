// Package routing holds the test that real packets take the ways that agents/flows compiles: between networks, to floating IPs, out by translated
// sources. Emulated hosts carry out one desired state; no agent runs, so that what is shown is the flows alone.
package routing
