// Package ovsdb is a client of OVSDB servers: RFC 7047 with the extensions of
// Open vSwitch (ovsdb-server(7)): monitor_cond_since, update3, monitor_canceled
// and the _Server database.
//
// A Client keeps a replica of the tables that it was asked for. Each change of the
// database arrives whole: what one transaction changed becomes visible in one step.
// A lost connection is made again by itself; the replica keeps its last state
// meanwhile, and what differs afterwards arrives as one change.
//
// Nothing is asked of the server that its schema lacks: a column of a newer schema
// stays at its zero value on an older server.
package ovsdb
