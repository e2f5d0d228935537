package fault

import (
	"errors"
	"fmt"
	"testing"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	notFound := &Error{Op: "sites/emulator.Port", Kind: NotFound, Err: errors.New("no port p1")}
	for _, tt := range []struct {
		name string
		err  error
		want Kind
	}{
		{"unclassified", errors.New("disk full"), Internal},
		{"wrapped", fmt.Errorf("show port: %w", notFound), NotFound},
		{"outermost wins", &Error{Op: "cascade.Port", Kind: Internal, Err: notFound}, Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := KindOf(tt.err); got != tt.want {
				t.Errorf("KindOf(%v) = %v, want %v", tt.err, got, tt.want)
			}
		})
	}
	if Is(nil, Internal) {
		t.Error("Is(nil, Internal) = true, want false: no error is of no kind")
	}
}

func TestMessageHidesInternals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"unclassified", errors.New("pq: password is hunter2"), ""},
		{"internal", Wrap(Internal, "x", errors.New("secret")), ""},
		{"own message", New(Conflict, "x", "port %s is in use", "p1"), "port p1 is in use"},
		{"cause's message", Wrap(Conflict, "x", New(NotFound, "y", "no port p1")), "no port p1"},
		{"plain cause", Wrap(BadRequest, "x", errors.New("name is empty")), "name is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Message(tt.err); got != tt.want {
				t.Errorf("Message(%v) = %q, want %q", tt.err, got, tt.want)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	err := &Error{Op: "sites/openstack.CreatePort", Site: "east", Kind: Conflict, RequestID: "req-1", Msg: "address in use"}
	if got, want := err.Error(), "sites/openstack.CreatePort: site east: conflict: address in use (req-1)"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	for _, k := range Kinds() {
		if k.String() == "" {
			t.Errorf("kind %d has no name", k)
		}
	}
}
