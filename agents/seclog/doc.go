// Package seclog writes the records of security group logs: of each connection that security groups let begin and of packets that they drop, what the switch copied of it
// becomes a line of JSON. Records may be fewer than packets: the switch sends so many in a second, and what is more is counted and gone. No packet waits for its record.
package seclog
