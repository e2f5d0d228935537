// Package ident gives identifiers types, so that a swapped top and bottom id
// does not compile, and carries the request id, job id and trace through a
// context by typed functions. It holds nothing else. Standard library only.
package ident

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
)

// SiteID names one registered site: its unique name, [a-z][a-z0-9-]{0,30}. It
// is the name of the site's region and availability zone and never changes.
type SiteID string

// TopID is the id that Top minted for a resource: a UUID in canonical lower-case text.
type TopID string

// BottomID is the id of a resource at one site, as that site spells it.
type BottomID string

// NewTopID returns a random (version 4, RFC 9562) UUID.
func NewTopID() TopID { return TopID(NewUUID()) }

// NewUUID returns a random version 4 UUID as text.
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand.Read aborts the program instead (Go 1.24)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	out[8] = '-'
	hex.Encode(out[9:13], b[4:6])
	out[13] = '-'
	hex.Encode(out[14:18], b[6:8])
	out[18] = '-'
	hex.Encode(out[19:23], b[8:10])
	out[23] = '-'
	hex.Encode(out[24:], b[10:])
	return string(out[:])
}

// NewHexID returns 32 random hexadecimal digits, the form of Keystone's ids of users, projects and roles.
func NewHexID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Secret is text that must never be printed: every formatted, logged or
// JSON-encoded form of it is "REDACTED". Reveal returns the text itself.
type Secret string

const redacted = "REDACTED"

// Reveal returns the secret text.
func (s Secret) Reveal() string { return string(s) }

// String returns "REDACTED".
func (Secret) String() string { return redacted }

// GoString returns "REDACTED".
func (Secret) GoString() string { return redacted }

// LogValue returns "REDACTED".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "REDACTED".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

type key int

const (
	requestKey key = iota
	jobKey
	traceKey
)

// WithRequestID returns ctx carrying the id of the request being served, "req-" and a UUID.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey, id)
}

// RequestID returns the request id that ctx carries, or "".
func RequestID(ctx context.Context) string { return text(ctx, requestKey) }

// NewRequestID returns a fresh request id.
func NewRequestID() string { return "req-" + NewUUID() }

// WithJobID returns ctx carrying the id of the job being worked.
func WithJobID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, jobKey, id)
}

// JobID returns the job id that ctx carries, or "".
func JobID(ctx context.Context) string { return text(ctx, jobKey) }

// WithTrace returns ctx carrying a W3C traceparent header value.
func WithTrace(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceKey, traceparent)
}

// Trace returns the traceparent that ctx carries, or "".
func Trace(ctx context.Context) string { return text(ctx, traceKey) }

func text(ctx context.Context, k key) string {
	s, _ := ctx.Value(k).(string)
	return s
}
