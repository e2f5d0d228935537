package dbtest

import (
	"sync/atomic"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
)

// Clock moves the clock of a test's database; the zero value runs with the real one.
type Clock struct{ ahead atomic.Int64 }

// Option makes a database use c. It is an Option of SQLite, Postgres and Each.
func (c *Clock) Option(cfg *dbschema.Config) {
	cfg.Skew = func() time.Duration { return time.Duration(c.ahead.Load()) }
}

// Step moves the clock forward by d.
func (c *Clock) Step(d time.Duration) { c.ahead.Add(int64(d)) }
