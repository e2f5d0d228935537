package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
)

// keepLeases sends heartbeats every third of the lease, and when a job was cancelled: at once in this process,
// within pollEvery by another.
func (e *Engine) keepLeases(ctx context.Context) error {
	wake, cancel := e.db.Subscribe(cancelTopic)
	defer cancel()
	tick := time.NewTicker(e.cfg.Lease / 3)
	defer tick.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-wake:
		case <-poll.C:
			if !e.cancelledElsewhere(ctx) {
				continue
			}
		}
		if err := e.heartbeat(ctx); err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "leases not extended", "err", err)
		}
	}
}

// cancelledElsewhere reports whether another replica cancelled a job that runs here.
func (e *Engine) cancelledElsewhere(ctx context.Context) bool {
	if len(e.claims()) == 0 {
		return false
	}
	found, err := cancelling(e.db.Read(ctx), e.name)
	if err != nil && ctx.Err() == nil {
		e.log.ErrorContext(ctx, "cancelled jobs not read", "err", err)
	}
	return found
}

// heartbeat extends the leases of all jobs that run here, and ends the contexts
// of those that were cancelled or lost.
func (e *Engine) heartbeat(ctx context.Context) error {
	before := e.claims()
	if len(before) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Lease/3)
	defer cancel()
	ids := make([]ID, len(before))
	for i, c := range before {
		ids[i] = c.id
	}
	var held []dbschema.Job
	var began time.Time
	err := e.db.WriteSoft(ctx, func(tx dbschema.Tx) (err error) {
		began = e.now()
		held, err = beat(tx, e.name, ids, e.cfg.Lease)
		return err
	})
	if err != nil {
		return err
	}
	has := map[ID]dbschema.Job{}
	for _, row := range held {
		has[ID(row.ID)] = row
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range before {
		switch row, ok := has[c.id]; {
		case !ok || row.Claim != c.token:
			c.end(ErrClaimLost) // harmless when the job has just ended
		case row.CancelRequested:
			c.extend(began.Add(e.cfg.Lease))
			c.end(ErrCancelled)
		default:
			c.extend(began.Add(e.cfg.Lease))
		}
	}
	return nil
}

func (e *Engine) claims() []*claim {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]*claim, 0, len(e.running))
	for _, c := range e.running {
		list = append(list, c)
	}
	return list
}

// keepHouse takes back jobs of dead replicas, deletes old ones and counts the rest.
func (e *Engine) keepHouse(ctx context.Context) error {
	tick := time.NewTicker(rescueEvery)
	defer tick.Stop()
	for {
		if err := e.tidy(ctx); err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "jobs not tidied", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (e *Engine) tidy(ctx context.Context) error {
	_, rescueErr := e.Rescue(ctx)
	_, purgeErr := e.Purge(ctx)
	counts, err := NewStore(e.db).Counts(ctx)
	for state, n := range counts {
		e.metrics.jobs.WithLabelValues(string(state)).Set(float64(n))
	}
	return errors.Join(rescueErr, purgeErr, err)
}

// errLeaseRanOut is the error kept of an attempt that was rescued.
var errLeaseRanOut = errors.New("the lease ran out: the replica that ran the job died or stood still")

// Rescue makes jobs available again whose lease ran out, or on SQLite whose process is gone, ends those that had
// their last attempt or were cancelled, and returns how many there were. Run does it by itself.
func (e *Engine) Rescue(ctx context.Context) (int, error) {
	total := 0
	for {
		n := 0
		err := e.db.WriteSoft(ctx, func(tx dbschema.Tx) error {
			rows, err := expired(tx, rescueBatch)
			if err != nil {
				return err
			}
			n = len(rows)
			for _, row := range rows {
				if err := apply(tx, row, rescue(row)); err != nil {
					return err
				}
			}
			if n > 0 {
				tx.Notify(topic)
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total += n
		e.metrics.rescued.Add(float64(n))
		if n < rescueBatch {
			return total, nil
		}
	}
}

func rescue(row dbschema.Job) change {
	out := outcome{name: outRetried, state: Available, err: errLeaseRanOut}
	switch {
	case row.CancelRequested:
		out = outcome{name: outCancelled, state: Cancelled, err: ErrCancelled}
	case row.Attempt >= row.MaxAttempts:
		out.state = Failed
	}
	return change{out, row.Claim}
}

// Purge deletes jobs that ended longer ago than the configuration keeps them,
// and returns how many. Run does it by itself.
func (e *Engine) Purge(ctx context.Context) (int64, error) {
	var total int64
	for {
		var n int64
		err := e.db.WriteSoft(ctx, func(tx dbschema.Tx) (err error) {
			n, err = purge(tx, e.cfg.KeepCompleted, e.cfg.KeepOthers, purgeBatch)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < purgeBatch {
			return total, nil
		}
	}
}
