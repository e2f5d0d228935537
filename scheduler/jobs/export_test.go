package jobs

import (
	"context"

	"github.com/headwater-cloud/headwater/dbschema"
)

// DeleteAll deletes all jobs.
func DeleteAll(tx dbschema.Tx) error { return tx.Gorm().Exec("DELETE FROM jobs").Error }

// Heartbeat sends one heartbeat at once.
func Heartbeat(e *Engine, ctx context.Context) error { return e.heartbeat(ctx) }

// Held is a claimed job that nobody works yet. Dropping it is what a crash does.
type Held struct {
	Record
	c claimed
	e *Engine
}

// Work makes the attempt.
func (h Held) Work(ctx context.Context) { h.e.work(ctx, h.c) }

// Hold claims up to most jobs.
func Hold(e *Engine, ctx context.Context, queue string, most int) (held []Held, err error) {
	got, _, err := e.claim(ctx, queue, most)
	for _, c := range got {
		held = append(held, Held{record(c.row), c, e})
	}
	return held, err
}
