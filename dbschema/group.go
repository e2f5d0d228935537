package dbschema

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
)

const (
	// maxBatch and maxBatchAge bound the transactions that share one commit, and
	// so how long the first of them waits for the others.
	maxBatch    = 128
	maxBatchAge = 20 * time.Millisecond
)

// group lets writers that queue for SQLite's one writing connection share
// commits, each of which costs a sync of the disk: at 5 ms a sync, 1,000 waiting
// writers take 0.1 s instead of 5 s.
//
// Who finds the queue empty commits at once. Else the first, the leader, leaves
// its transaction open and queues again behind those who wait; each of them runs
// in a savepoint of it; then the leader commits for all. All learn the outcome of
// that one commit, so nobody acts on what may still be undone.
type group struct {
	writer  *gorm.DB
	turn    chan struct{} // holding its one place is the right to write; waiters are served in order
	waiting atomic.Int64
	open    *batch // held by turn
}

// batch is an open transaction with what several writers did in it.
type batch struct {
	tx      *gorm.DB
	began   time.Time
	members int
	done    chan struct{} // closed by whoever ended the transaction, after err was set
	err     error
}

// errBatch says that the transaction that a writer shared was undone: it runs again.
var errBatch = errors.New("the shared transaction was undone")

func newGroup(writer *gorm.DB) *group { return &group{writer: writer, turn: make(chan struct{}, 1)} }

// once runs f in a transaction, perhaps a shared one. SQLite's statements are
// not interrupted when ctx ends, since that would undo the whole transaction.
func (g *group) once(ctx context.Context, state *txState, f func(tx Tx) error) error {
	g.waiting.Add(1)
	select {
	case g.turn <- struct{}{}:
		g.waiting.Add(-1)
	case <-ctx.Done():
		g.waiting.Add(-1)
		return ctx.Err()
	}
	if g.open != nil {
		return g.follow(ctx, state, f)
	}
	return g.lead(ctx, state, f)
}

// lead runs f in a transaction of its own, which others may join.
func (g *group) lead(ctx context.Context, state *txState, f func(tx Tx) error) error {
	inTurn := true
	defer func() {
		if inTurn {
			<-g.turn
		}
	}()
	tx := g.writer.WithContext(context.WithoutCancel(ctx)).Begin()
	if tx.Error != nil {
		return fmt.Errorf("begin: %w", tx.Error)
	}
	ended := false
	defer func() {
		if !ended { // f failed, panicked or called runtime.Goexit
			tx.Rollback()
		}
	}()
	state.gorm = tx
	if err := run(ctx, state, f); err != nil {
		return err
	}
	ended = true
	b := &batch{tx: tx, began: time.Now(), members: 1, done: make(chan struct{})}
	if g.waiting.Load() == 0 {
		return b.commit()
	}
	g.open = b
	inTurn = false
	<-g.turn
	select {
	case g.turn <- struct{}{}: // behind those who wait now
		inTurn = true
	case <-b.done:
		return b.err
	}
	if g.open == b { // else a follower has ended it
		g.open = nil
		return b.commit()
	}
	return b.err
}

// follow runs f in a savepoint of the open transaction and waits for its commit.
func (g *group) follow(ctx context.Context, state *txState, f func(tx Tx) error) error {
	inTurn := true
	defer func() {
		if inTurn {
			<-g.turn
		}
	}()
	b := g.open
	err := g.join(ctx, b, state, f)
	if b.members++; g.open == b && (b.members >= maxBatch || time.Since(b.began) > maxBatchAge) {
		g.open = nil
		_ = b.commit() // every member reads b.err
	}
	inTurn = false
	<-g.turn
	<-b.done
	switch {
	case b.err == nil, err != nil && outage(err) != "":
		return err
	case err == nil:
		return b.err
	}
	return errors.Join(errBatch, err) // what f saw was undone, so its error means nothing: it runs again
}

// join runs f in a savepoint.
func (g *group) join(ctx context.Context, b *batch, state *txState, f func(tx Tx) error) error {
	state.gorm = b.tx.WithContext(context.WithoutCancel(ctx))
	if err := state.gorm.Exec("SAVEPOINT follower").Error; err != nil {
		g.spoil(b, err)
		return b.err
	}
	done := false
	defer func() {
		if done {
			return
		}
		if err := state.gorm.Exec("ROLLBACK TO follower").Error; err != nil {
			g.spoil(b, err)
		}
	}()
	if err := run(ctx, state, f); err != nil {
		return err
	}
	if err := state.gorm.Exec("RELEASE follower").Error; err != nil {
		return fmt.Errorf("release: %w", err)
	}
	done = true
	return nil
}

// run calls f, and fails when ctx has ended meanwhile.
func run(ctx context.Context, state *txState, f func(tx Tx) error) error {
	if err := f(Tx{state}); err != nil {
		return err
	}
	return ctx.Err()
}

// spoil ends a transaction that SQLite has undone by itself, for instance on a full disk.
func (g *group) spoil(b *batch, cause error) {
	g.open = nil
	b.tx.Rollback()
	b.err = fmt.Errorf("%w: %w", errBatch, cause)
	close(b.done)
}

// commit ends the transaction and tells all members how. When it fails, the
// driver rolls back.
func (b *batch) commit() error {
	if err := b.tx.Commit().Error; err != nil {
		b.err = fmt.Errorf("commit: %w", err)
	}
	close(b.done)
	return b.err
}
