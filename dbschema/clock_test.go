package dbschema_test

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema/dbtest"
)

// Replicas whose own clocks differ by minutes reckon one clock, the database's.
func TestClockOfReplicas(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t)
	var clocks []time.Time
	for _, ahead := range []time.Duration{0, 7 * time.Minute, -7 * time.Minute} {
		c, err := db.Clock(t.Context(), func() time.Time { return time.Now().Add(ahead) })
		if err != nil {
			t.Fatal(err)
		}
		clocks = append(clocks, c.Now())
	}
	told, err := db.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range clocks {
		if off := told.Sub(c).Abs(); off > 30*time.Second {
			t.Errorf("clock %d is off by %v", i, off)
		}
	}
}
