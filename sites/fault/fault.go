// Package fault is the one error type that crosses package borders with a
// meaning: its Kind tells the caller what can be done. Standard library only.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind classifies a failure by what its receiver can do about it.
type Kind uint8

// The kinds. Internal is the zero value: an error that nobody classified is our
// own defect until somebody says otherwise.
const (
	Internal       Kind = iota // our defect; the tenant sees a request id only
	BadRequest                 // the request cannot be served as written: change it
	Unauthorized               // no valid token
	Forbidden                  // the caller's roles do not allow it
	NotFound                   // no such thing that the caller may see
	Conflict                   // the state of things forbids it now
	OverQuota                  // a quota of the project would be exceeded
	TooLarge                   // the body is over the limit
	NotAcceptable              // a microversion outside the supported window
	NotImplemented             // a verb that is refused on purpose, everywhere or at this site
	Unavailable                // the site or a part of ours does not answer: try again later
	Ambiguous                  // the request may or may not have been carried out: look before repeating
	kindCount
)

var names = [kindCount]string{
	"internal", "bad request", "unauthorized", "forbidden", "not found", "conflict", "over quota",
	"too large", "not acceptable", "not implemented", "unavailable", "ambiguous",
}

// String returns the kind's name in lower case, fit for logs and metrics labels.
func (k Kind) String() string {
	if k >= kindCount {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return names[k]
}

// Kinds returns every kind, in order, for tests and metrics.
func Kinds() []Kind {
	all := make([]Kind, kindCount)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Error is a classified failure.
type Error struct {
	Op        string // package and method that failed: "sites/openstack.CreatePort"
	Site      string // the site's name; "" when the failure is ours
	Kind      Kind
	RequestID string // X-Openstack-Request-Id of the bottom, for its operator; may be ""
	// RetryAfter is the delay in whole seconds that the answerer asked for; 0 when it named none.
	RetryAfter int
	// Msg is the sentence for the tenant: what is wrong and what to do. When it is empty, Err's text serves
	// (never for Internal).
	Msg string
	Err error // the cause; may be nil when Msg says it all
}

// New returns an Error of the given kind whose message is for the tenant.
func New(kind Kind, op, format string, args ...any) *Error {
	return &Error{Op: op, Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// Wrap returns an Error of the given kind around err, or nil when err is nil.
func Wrap(kind Kind, op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Kind: kind, Err: err}
}

// Error returns "op: site NAME: kind: message: cause (request ID)" with the absent parts left out.
func (e *Error) Error() string {
	var parts []string
	if e.Op != "" {
		parts = append(parts, e.Op)
	}
	if e.Site != "" {
		parts = append(parts, "site "+e.Site)
	}
	parts = append(parts, e.Kind.String())
	if e.Msg != "" {
		parts = append(parts, e.Msg)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	text := strings.Join(parts, ": ")
	if e.RequestID != "" {
		text += " (" + e.RequestID + ")"
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the Kind of the outermost Error in err's chain, or Internal.
// The outermost decides so that a layer can reclassify: a 404 for a bottom port
// that we recorded ourselves is Internal to the tenant, not NotFound.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is not nil and of the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Message returns the sentence that may be shown to a tenant: the outermost Error's Msg, else its cause's text.
// It is "" for Internal faults and for errors that nobody classified.
func Message(err error) string {
	var e *Error
	if !errors.As(err, &e) || e.Kind == Internal {
		return ""
	}
	if e.Msg != "" {
		return e.Msg
	}
	var inner *Error
	if errors.As(e.Err, &inner) && inner.Msg != "" {
		return inner.Msg
	}
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.Kind.String()
}
