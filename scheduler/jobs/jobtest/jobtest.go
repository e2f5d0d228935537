// Package jobtest lets tests run jobs one by one, in their own goroutine, so that
// what changed can be looked at in between: act, step the clock, run, compare.
package jobtest

import (
	"testing"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
)

// limit ends a drain that jobs keep alive for ever by snoozing for no time.
const limit = 100_000

// New returns an engine on db with the default configuration and no workers:
// give it some with jobs.Add, and do not Run it.
func New(t testing.TB, db *dbschema.DB) *jobs.Engine {
	t.Helper()
	e, err := jobs.New(db, jobs.Default(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Add is jobs.Add with a function.
func Add[A jobs.Args](t testing.TB, e *jobs.Engine, work jobs.WorkerFunc[A]) {
	t.Helper()
	if err := jobs.Add[A](e, work); err != nil {
		t.Fatal(err)
	}
}

// Step works one available job and reports false when there is none.
func Step(t testing.TB, e *jobs.Engine) bool {
	t.Helper()
	worked, err := e.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return worked
}

// Drain works jobs until none is available, and returns how many attempts it
// made. Jobs that wait for their time stay: step a dbtest.Clock and drain again.
func Drain(t testing.TB, e *jobs.Engine) int {
	t.Helper()
	for n := range limit {
		if !Step(t, e) {
			return n
		}
	}
	t.Fatalf("jobs were still available after %d attempts", limit)
	return limit
}

// Insert inserts one job in a transaction of its own.
func Insert(t testing.TB, db *dbschema.DB, args jobs.Args, o jobs.Options) (id jobs.ID) {
	t.Helper()
	err := db.Write(t.Context(), func(tx dbschema.Tx) (err error) {
		id, err = jobs.Insert(t.Context(), tx, args, o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Show returns the job's record.
func Show(t testing.TB, db *dbschema.DB, id jobs.ID) jobs.Record {
	t.Helper()
	r, err := jobs.NewStore(db).Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
