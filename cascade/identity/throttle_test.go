package identity

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func TestThrottle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.SQLite(t))
	try := func(user, secret, from string) error {
		l := password(user, secret, "")
		l.RemoteAddr = from
		_, err := w.Login(t.Context(), l)
		return err
	}
	for _, user := range []string{"ann", "nobody"} {
		for range freeTries {
			if err := try(user, "wrong", "192.0.2.9"); strings.Contains(fault.Message(err), "Too many") {
				t.Fatalf("%s: slowed down too early: %v", user, err)
			}
		}
		if err := try(user, "wrong", "192.0.2.9"); !strings.Contains(fault.Message(err), "Too many") {
			t.Errorf("%s: %v, want a wait", user, err)
		}
	}
	if err := try("ann", "ann-pw", "192.0.2.9"); !strings.Contains(fault.Message(err), "Too many") {
		t.Errorf("the right password during the wait: %v, want a wait", err)
	}
	if err := try("ann", "ann-pw", "192.0.2.10"); err != nil {
		t.Errorf("the owner elsewhere was locked out: %v", err)
	}
	w.clock.step(maxWait)
	if err := try("ann", "ann-pw", "192.0.2.9"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	for i := range freeEverywhere + 1 {
		_ = try("ann", "wrong", fmt.Sprint("addr", i))
	}
	if got := counted(t, w.Store, MethodPassword, loginThrottled); got < 3 {
		t.Errorf("%v throttled logins counted", got)
	}
	if err := try("ann", "wrong", "fresh"); !strings.Contains(fault.Message(err), "Too many") {
		t.Errorf("guessing from everywhere: %v, want a wait", err)
	}
}

// counted returns how many logins the metric has of a method and outcome.
func counted(t *testing.T, s *Store, method, outcome string) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.logins)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("metrics: %v %v", families, err)
	}
	for _, m := range families[0].GetMetric() {
		if l := m.GetLabel(); l[0].GetValue() == method && l[1].GetValue() == outcome {
			return m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric for %s %s", method, outcome)
	return 0
}
