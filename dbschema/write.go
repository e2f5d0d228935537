package dbschema

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// Tx is one write transaction. It is valid until the function that got it
// returns, and only in that function's goroutine.
type Tx struct{ s *txState }

type txState struct {
	db    *DB
	gorm  *gorm.DB
	hooks []func()
	soft  bool // WriteSoft
}

// Gorm returns the transaction's handle, which has the context of Write; for store files only.
func (tx Tx) Gorm() *gorm.DB { return tx.s.gorm }

// AfterCommit has f called once, after the transaction was committed, in the
// goroutine of Write. It is not called when the transaction fails; when the
// function runs again, only what its last run registered is called. f must not block.
func (tx Tx) AfterCommit(f func()) { tx.s.hooks = append(tx.s.hooks, f) }

// Now returns the database's clock, as DB.Now does.
func (tx Tx) Now() (time.Time, error) { return tx.s.db.now(tx.s.gorm) }

// ClockSQL returns DB.ClockSQL.
func (tx Tx) ClockSQL() string { return tx.s.db.ClockSQL() }

// Instance returns DB.Instance.
func (tx Tx) Instance() string { return tx.s.db.Instance() }

// Driver returns DB.Driver.
func (tx Tx) Driver() string { return tx.s.db.Driver() }

// The pause before a transaction is repeated doubles from minPause to maxPause,
// and each is shortened at random by up to all of it, so that those who collided
// once do not collide again.
const (
	minPause = time.Millisecond
	maxPause = 250 * time.Millisecond
)

// longest bounds one run of a transaction: whoever holds one longer stops everybody.
const longest = time.Minute

const (
	// writeSlots is the number of PostgreSQL transactions of this process that
	// run at once. Measured on 2 cores with transactions that often collide: 4
	// and 8 commit twice as many as 16, because fewer are undone; a server across
	// a network wants more than 4.
	writeSlots = 8
	// aloneAfter is the number of collisions after which a transaction has the
	// process to itself, so that a long one is not undone by short ones for ever.
	aloneAfter = 6
)

// Write runs f in a serializable transaction and commits it; when f returns an
// error or panics, nothing has happened.
//
// f runs again from the start when others collided with it (40001, 40P01,
// SQLITE_BUSY), so it must not change anything but the database and its own
// results. Inside it only tx is used: no Write (refused with ErrNested), no site
// call, hashing or file I/O, since everybody else waits. Locks are taken in the
// order quota, resource, job, revision counter.
//
// It returns f's error, or a fault: Unavailable when the database cannot serve or
// is too busy, Ambiguous when the connection broke during the commit.
func (db *DB) Write(ctx context.Context, f func(tx Tx) error) error { return db.write(ctx, f, false) }

// WriteSoft is Write for what is done again when it is lost: it does not wait
// for the disk. The end of the process loses nothing of it; when the machine loses
// power, the last of what was written may be gone, but never something that was committed before a
// Write that returned. An observation of a site is such a thing, or the claim of a job; what a tenant was promised is not.
func (db *DB) WriteSoft(ctx context.Context, f func(tx Tx) error) error {
	return db.write(ctx, f, true)
}

func (db *DB) write(ctx context.Context, f func(tx Tx) error, soft bool) error {
	id := goroutineID()
	if _, inside := db.nest.LoadOrStore(id, struct{}{}); inside {
		return fault.Wrap(fault.Internal, "dbschema.Write", ErrNested)
	}
	state, err := db.writeRetry(ctx, f, soft, id)
	if err == nil && !soft && db.flusher != nil {
		err = db.flusher.flush()
	}
	if err != nil {
		return Classify(err)
	}
	for _, hook := range state.hooks {
		hook()
	}
	return nil
}

func (db *DB) writeRetry(ctx context.Context, f func(tx Tx) error, soft bool, id uint64) (*txState, error) {
	defer db.nest.Delete(id) // before the hooks run: those may write
	began, pause := time.Now(), minPause
	for tries := 0; ; tries++ {
		state := &txState{db: db, soft: soft}
		var err error
		if db.cfg.Driver == SQLite {
			err = db.group.once(ctx, state, f)
		} else {
			err = db.once(ctx, state, f, tries >= aloneAfter)
		}
		if err == nil || !retryable(err) {
			return state, err
		}
		if time.Since(began) > db.cfg.RetryFor {
			return nil, &fault.Error{Op: "dbschema.Write", Kind: fault.Unavailable, RetryAfter: 1,
				Msg: "the database is busy: try again", Err: err}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("repeat the transaction: %w", errors.Join(ctx.Err(), err))
		case <-time.After(rand.N(pause)):
		}
		pause = min(2*pause, maxPause)
	}
}

// once runs f in one transaction on PostgreSQL, beside others of this process or alone.
func (db *DB) once(ctx context.Context, state *txState, f func(tx Tx) error, alone bool) error {
	leave, err := db.enter(ctx, alone)
	if err != nil {
		return err
	}
	defer leave()
	// A commit that is interrupted has an unknown outcome, so the transaction itself is bounded by time, not by ctx.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
	defer cancel()
	gtx := db.writer.WithContext(whole).Begin(&sql.TxOptions{Isolation: sql.LevelSerializable})
	if gtx.Error != nil {
		return fmt.Errorf("begin: %w", gtx.Error)
	}
	done := false
	defer func() {
		if !done { // f failed, panicked or called runtime.Goexit
			gtx.Rollback()
		}
	}()
	state.gorm = gtx.WithContext(ctx)
	if state.soft {
		if err := state.gorm.Exec("SET LOCAL synchronous_commit TO off").Error; err != nil {
			return fmt.Errorf("soften the commit: %w", err)
		}
	}
	if err := run(ctx, state, f); err != nil {
		return err
	}
	done = true
	return commitError(gtx.Commit().Error)
}

// enter waits for one slot, or for all of them, and returns how to give them back.
func (db *DB) enter(ctx context.Context, alone bool) (leave func(), err error) {
	want, got := 1, 0
	leave = func() {
		for range got {
			<-db.slots
		}
	}
	if alone {
		want = writeSlots
		select { // one at a time collects slots: two would wait for each other
		case db.alone <- struct{}{}:
			defer func() { <-db.alone }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for ; got < want; got++ {
		select {
		case db.slots <- struct{}{}:
		case <-ctx.Done():
			leave()
			return nil, ctx.Err()
		}
	}
	return leave, nil
}

// commitError tells apart a commit that failed and one whose outcome is unknown.
func commitError(err error) error {
	switch {
	case err == nil:
		return nil
	case pgCode(err) != "", errors.Is(err, pgx.ErrTxCommitRollback):
		return fmt.Errorf("commit: %w", err)
	}
	return &fault.Error{Op: "dbschema.Write", Kind: fault.Ambiguous,
		Msg: "the connection to the database broke during the commit", Err: err}
}

// goroutineID returns the number of the calling goroutine, which the runtime
// prints first in its stack. A context cannot show a nested Write, because the
// closure has the outer context at hand; without this, SQLite would wait for ever.
func goroutineID() uint64 {
	var buf [40]byte
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	n, _ := strconv.ParseUint(string(text[:bytes.IndexByte(text, ' ')]), 10, 64)
	return n
}
