package dbschema

import (
	"context"
	"sync/atomic"
	"time"
)

// clockEvery is how often a Clock is set: crystals drift apart by less than a millisecond in that time.
const clockEvery = 30 * time.Second

// Clock is the database's clock as this process reckons it: its own plus an
// offset that is measured now and then, right to about a round trip. All
// replicas of one database share it, so durations between moments that
// different replicas stored are true also when their own clocks differ.
type Clock struct {
	db     *DB
	local  func() time.Time
	offset atomic.Int64 // nanoseconds that the database is ahead of local
}

// Clock measures the database's clock and returns it. Local is this process's own clock, time.Now outside tests.
func (db *DB) Clock(ctx context.Context, local func() time.Time) (*Clock, error) {
	c := &Clock{db: db, local: local}
	return c, c.measure(ctx)
}

// Now is the present moment by the database's clock. It costs no query.
func (c *Clock) Now() time.Time { return c.local().Add(time.Duration(c.offset.Load())) }

// measure takes the offset of the quickest of three questions: the answer is as old as half of its round trip, more or less.
func (c *Clock) measure(ctx context.Context) error {
	if c.db.cfg.Driver == SQLite && c.db.cfg.Skew == nil {
		return nil // one process, one machine, one clock
	}
	quickest := time.Duration(-1)
	var offset time.Duration
	for range 3 {
		asked, began := c.local(), time.Now()
		told, err := c.db.Now(ctx)
		if err != nil {
			return err
		}
		if took := time.Since(began); quickest < 0 || took < quickest {
			quickest, offset = took, told.Sub(asked.Add(took/2))
		}
	}
	c.offset.Store(int64(offset))
	return nil
}

// Run measures anew from time to time until ctx ends. While the database does not answer, the last offset stays.
func (c *Clock) Run(ctx context.Context) error {
	t := time.NewTicker(clockEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			_ = c.measure(ctx) // what cannot be asked is asked again; the database's silence is told elsewhere
		}
	}
}
