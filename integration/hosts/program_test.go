package hosts_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/integration/hosts"
)

// A program that is no test gets errors for what would fail a test, and its clean-up in any case.
func TestProgram(t *testing.T) {
	t.Parallel()
	own := errors.New("own")
	for _, tt := range []struct {
		name string
		f    func(hosts.T) error
		want string
	}{
		{"well", func(hosts.T) error { return nil }, ""},
		{"its own error", func(hosts.T) error { return own }, "own"},
		{"failed", func(t hosts.T) error { t.Fatalf("host %s is gone", "s1h1"); return nil }, "host s1h1 is gone"},
	} {
		var order []string
		err := hosts.Program(t.Logf, func(t hosts.T) error {
			t.Cleanup(func() { order = append(order, "first") })
			t.Cleanup(func() { order = append(order, "second") })
			return tt.f(t)
		})
		if got := strings.Join(order, " "); got != "second first" {
			t.Errorf("%s: cleaned up %q", tt.name, got)
		}
		if (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want {
			t.Errorf("%s: error is %v, want %q", tt.name, err, tt.want)
		}
	}
}
