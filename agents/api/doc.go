// Package api is what top, relays and agents say to each other: the desired network state (state.proto) and the stream that brings it to
// hosts (stream.proto), as protobuf messages and a gRPC service. It holds nothing else; what the messages mean and what is refused
// stands in package state.
package api

//go:generate ./generate
