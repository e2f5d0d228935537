package inventory

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
)

func TestPace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		elapsed time.Duration
		pause   time.Duration
	}{
		{"a quick list comes with every poll", 90 * time.Millisecond, 0},
		{"a slow one is a fiftieth of the time", 300 * time.Millisecond, 10 * time.Second},
		{"none is left out for longer than the full comparison", time.Minute, 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
			p := newPace(func() time.Time { return now })
			what := paced{site: "east", kind: sites.Port}
			if !p.ready(what) {
				t.Fatal("a list that never was is not due")
			}
			p.took(what, tt.elapsed, 10*time.Minute)
			if now = now.Add(tt.pause - 1); tt.pause > 0 && p.ready(what) {
				t.Errorf("due again before %v", tt.pause)
			}
			if now = now.Add(1); !p.ready(what) {
				t.Errorf("not due after %v", tt.pause)
			}
			if !p.ready(paced{site: "west", kind: sites.Port}) {
				t.Error("another site waits for it")
			}
		})
	}
}
