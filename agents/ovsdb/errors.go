package ovsdb

import (
	"errors"
	"fmt"
)

// The errors that an operation or a commit ends with, by RFC 7047 (sections 3.1, 4.1.3
// and 5.2) and ovsdb-server. An *OpError matches the one that it is with errors.Is.
var (
	ErrAborted       = errors.New("aborted")                         // by an Abort operation
	ErrTimedOut      = errors.New("timed out")                       // a Wait operation's condition did not come true
	ErrConstraint    = errors.New("constraint violation")            // a value, an index or a count that the schema refuses
	ErrReferential   = errors.New("referential integrity violation") // a reference to a row that is not there
	ErrDuplicateName = errors.New("duplicate uuid-name")             // two inserts of one name in a transaction
	ErrNotOwner      = errors.New("not owner")                       // an Assert of a lock that is not held
	ErrDomain        = errors.New("domain error")                    // a Mutate without a result: divided by zero
	ErrRange         = errors.New("range error")                     // a Mutate whose result does not fit
	ErrResources     = errors.New("resources exhausted")             // of the server
	ErrIO            = errors.New("I/O error")                       // the commit could not be made durable
	ErrPermission    = errors.New("permission error")                // by role-based access control
	ErrNotLeader     = errors.New("not leader")                      // of a clustered database
	ErrNoDatabase    = errors.New("unknown database")                // the server has none of that name
	ErrSyntax        = errors.New("syntax error")                    // the request cannot be read
	ErrNotAllowed    = errors.New("not allowed")                     // on a read-only server, or for this method
	ErrUnknownLock   = errors.New("unknown lock")                    // no such lock was asked for here
	ErrNoMonitor     = errors.New("unknown monitor")                 // the server keeps none of that id for us
)

var serverErrors = []error{
	ErrAborted, ErrTimedOut, ErrConstraint, ErrReferential, ErrDuplicateName, ErrNotOwner, ErrDomain, ErrRange,
	ErrResources, ErrIO, ErrPermission, ErrNotLeader, ErrNoDatabase, ErrSyntax, ErrNotAllowed, ErrUnknownLock, ErrNoMonitor,
}

// OpError is the server's refusal of a request or of one operation of a transaction.
type OpError struct {
	Op      int    // the operation's place in the transaction, from 0; -1 when the commit or the whole request was refused
	Name    string // the server's name of the error: "constraint violation"
	Details string // the server's sentence; may be empty
	Syntax  string // the piece of the request that could not be read; may be empty
}

// Error is the server's words.
func (e *OpError) Error() string {
	text := e.Name
	if e.Op >= 0 {
		text = fmt.Sprintf("operation %d: %s", e.Op, e.Name)
	}
	if e.Details != "" {
		text += ": " + e.Details
	}
	if e.Syntax != "" {
		text += " (" + e.Syntax + ")"
	}
	return text
}

// Is reports whether target is the sentinel of the error's name.
func (e *OpError) Is(target error) bool {
	for _, known := range serverErrors {
		if errors.Is(target, known) {
			return known.Error() == e.Name
		}
	}
	return false
}

// InterfaceError says that Open vSwitch could not make an interface.
type InterfaceError struct {
	Interface string
	Message   string // column "error" of the interface
}

// Error names the interface and repeats Open vSwitch's words.
func (e *InterfaceError) Error() string { return "interface " + e.Interface + ": " + e.Message }

var (
	errClosed   = errors.New("the connection ended")
	errTooLarge = errors.New("a message is larger than the limit")
	errCanceled = errors.New("the server canceled the monitor: its schema changed")
	errLag      = errors.New("the peer does not answer")
)
