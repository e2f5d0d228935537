package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/scheduler/jobs/jobtest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// task is a job that does what the test's rig says.
type task struct{ Name string }

func (task) Kind() string { return "task" }

// rig is a database, an engine that is stepped by hand, and a clock.
type rig struct {
	t     *testing.T
	db    *dbschema.DB
	clock *dbtest.Clock
	e     *jobs.Engine
	// result is what the worker returns for a job's name; nil when it is not there.
	result map[string]func(ctx context.Context, job jobs.Job[task]) error
	ran    []string
}

// each runs f on both databases.
func each(t *testing.T, f func(r *rig)) {
	t.Helper()
	clock := map[string]*dbtest.Clock{}
	for _, driver := range []string{dbschema.SQLite, dbschema.Postgres} {
		clock[driver] = &dbtest.Clock{}
	}
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		f(newRig(t, db, clock[db.Driver()]))
	}, func(cfg *dbschema.Config) { clock[cfg.Driver].Option(cfg) })
}

func newRig(t *testing.T, db *dbschema.DB, clock *dbtest.Clock) *rig {
	r := &rig{t: t, db: db, clock: clock, e: jobtest.New(t, db), result: map[string]func(context.Context, jobs.Job[task]) error{}}
	jobtest.Add(t, r.e, func(ctx context.Context, job jobs.Job[task]) error {
		r.ran = append(r.ran, job.Args.Name)
		if f := r.result[job.Args.Name]; f != nil {
			return f(ctx, job)
		}
		return nil
	})
	return r
}

func (r *rig) insert(name string, o jobs.Options) jobs.ID {
	r.t.Helper()
	return jobtest.Insert(r.t, r.db, task{name}, o)
}

func (r *rig) returns(name string, err error) {
	r.result[name] = func(context.Context, jobs.Job[task]) error { return err }
}

func (r *rig) want(id jobs.ID, want jobs.State) jobs.Record {
	r.t.Helper()
	rec := jobtest.Show(r.t, r.db, id)
	if rec.State != want {
		r.t.Fatalf("job %d is %s (errors %v), want %s", id, rec.State, rec.Errors, want)
	}
	return rec
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// held makes a job that stays running: the test acts while its worker is called.
func (r *rig) during(name string, f func(job jobs.Job[task]), result error) {
	r.result[name] = func(_ context.Context, job jobs.Job[task]) error {
		f(job)
		return result
	}
}

// arrows is every arrow of the picture in scheduler/README.md, each with a walk along it.
var arrows = map[string]func(r *rig){
	"new > available": func(r *rig) { r.want(r.insert("a", jobs.Options{}), jobs.Available) },
	"new > scheduled": func(r *rig) {
		r.want(r.insert("a", jobs.Options{RunAt: time.Now().Add(time.Hour)}), jobs.Scheduled)
	},
	"new > waiting": func(r *rig) {
		r.want(r.insert("b", jobs.Options{After: []jobs.ID{r.insert("a", jobs.Options{})}}), jobs.Waiting)
	},
	"new > failed": func(r *rig) {
		r.returns("a", jobs.Cancel(errors.New("no such flavor")))
		a := r.insert("a", jobs.Options{})
		jobtest.Drain(r.t, r.e)
		b := r.want(r.insert("b", jobs.Options{After: []jobs.ID{a}}), jobs.Failed)
		if want := fmt.Sprintf("job %d (task), which it needs, ended in failed: no such flavor", a); b.LastError() != want {
			r.t.Errorf("reason %q, want %q", b.LastError(), want)
		}
	},
	"waiting > available": func(r *rig) {
		b := r.insert("b", jobs.Options{After: []jobs.ID{r.insert("a", jobs.Options{})}})
		jobtest.Step(r.t, r.e)
		r.want(b, jobs.Available)
	},
	"waiting > scheduled": func(r *rig) {
		b := r.insert("b", jobs.Options{After: []jobs.ID{r.insert("a", jobs.Options{})}, RunAt: time.Now().Add(time.Hour)})
		r.want(b, jobs.Waiting)
		jobtest.Step(r.t, r.e)
		r.want(b, jobs.Scheduled)
	},
	"waiting > failed": func(r *rig) {
		r.returns("a", fault.New(fault.BadRequest, "sites.Create", "no such flavor"))
		a := r.insert("a", jobs.Options{})
		b := r.insert("b", jobs.Options{After: []jobs.ID{a}})
		c := r.insert("c", jobs.Options{After: []jobs.ID{b}})
		d := r.insert("d", jobs.Options{After: []jobs.ID{a}, OnDependencyFailure: jobs.Run})
		jobtest.Step(r.t, r.e)
		r.want(b, jobs.Failed)
		r.want(c, jobs.Failed)
		r.want(d, jobs.Available)
	},
	"waiting > cancelled": func(r *rig) {
		b := r.insert("b", jobs.Options{After: []jobs.ID{r.insert("a", jobs.Options{})}})
		r.check(jobs.NewStore(r.db).Cancel(r.t.Context(), b))
		r.want(b, jobs.Cancelled)
	},
	"scheduled > available": func(r *rig) {
		a := r.insert("a", jobs.Options{RunAt: time.Now().Add(time.Hour)})
		if jobtest.Step(r.t, r.e) {
			r.t.Fatal("a job ran before its time")
		}
		r.clock.Step(2 * time.Hour)
		// The claim makes everything due available, and takes one: the other shows the arrow.
		r.insert("first", jobs.Options{Priority: -1})
		jobtest.Step(r.t, r.e)
		r.want(a, jobs.Available)
	},
	"scheduled > cancelled": func(r *rig) {
		a := r.insert("a", jobs.Options{RunAt: time.Now().Add(time.Hour)})
		r.check(jobs.NewStore(r.db).Cancel(r.t.Context(), a))
		r.want(a, jobs.Cancelled)
	},
	"available > cancelled": func(r *rig) {
		a := r.insert("a", jobs.Options{})
		r.check(jobs.NewStore(r.db).Cancel(r.t.Context(), a))
		r.want(a, jobs.Cancelled)
		if jobtest.Step(r.t, r.e) {
			r.t.Error("a cancelled job ran")
		}
	},
	"available > running": func(r *rig) {
		r.during("a", func(job jobs.Job[task]) { r.want(job.ID, jobs.Running) }, nil)
		r.insert("a", jobs.Options{})
		jobtest.Step(r.t, r.e)
	},
	"running > completed": func(r *rig) {
		a := r.insert("a", jobs.Options{})
		jobtest.Step(r.t, r.e)
		if rec := r.want(a, jobs.Completed); rec.EndedAt.IsZero() || rec.Attempt != 1 {
			r.t.Errorf("ended at %v after %d attempts, want a time and 1", rec.EndedAt, rec.Attempt)
		}
	},
	"running > scheduled (snoozed)": func(r *rig) {
		r.returns("a", jobs.Snooze(time.Hour))
		a := r.insert("a", jobs.Options{MaxAttempts: 1})
		jobtest.Step(r.t, r.e)
		if rec := r.want(a, jobs.Scheduled); rec.Attempt != 0 || rec.Snoozes != 1 || len(rec.Errors) != 0 {
			r.t.Errorf("attempt %d, snoozes %d, errors %v; want 0, 1, none", rec.Attempt, rec.Snoozes, rec.Errors)
		}
	},
	"running > scheduled (retried)": func(r *rig) {
		r.returns("a", &fault.Error{Op: "sites.Create", Site: "east", Kind: fault.Unavailable, RequestID: "req-1", Err: errors.New("502")})
		a := r.insert("a", jobs.Options{RequestID: "req-own"})
		jobtest.Step(r.t, r.e)
		rec := r.want(a, jobs.Scheduled)
		if len(rec.Errors) != 1 || rec.Errors[0].Site != "east" || rec.Errors[0].RequestID != "req-1" || rec.Errors[0].Attempt != 1 {
			r.t.Errorf("errors %+v: want one of attempt 1 at site east with the bottom's request id", rec.Errors)
		}
	},
	"running > failed": func(r *rig) {
		r.returns("a", errors.New("boom"))
		a := r.insert("a", jobs.Options{MaxAttempts: 2})
		jobtest.Drain(r.t, r.e)
		r.clock.Step(time.Hour)
		jobtest.Drain(r.t, r.e)
		if rec := r.want(a, jobs.Failed); rec.Attempt != 2 || len(rec.Errors) != 2 {
			r.t.Errorf("failed after attempt %d with %d errors, want 2 and 2", rec.Attempt, len(rec.Errors))
		}
	},
	"running > cancelled": func(r *rig) {
		r.during("a", func(job jobs.Job[task]) {
			r.check(jobs.NewStore(r.db).Cancel(r.t.Context(), job.ID))
			r.check(jobs.Heartbeat(r.e, r.t.Context()))
		}, context.Canceled)
		a := r.insert("a", jobs.Options{})
		jobtest.Step(r.t, r.e)
		r.want(a, jobs.Cancelled)
	},
	"running > available (rescued)": func(r *rig) {
		r.during("a", func(job jobs.Job[task]) {
			r.clock.Step(time.Hour)
			n, err := r.e.Rescue(r.t.Context())
			r.check(err)
			if n != 1 {
				r.t.Errorf("%d jobs rescued, want 1", n)
			}
		}, nil)
		a := r.insert("a", jobs.Options{})
		jobtest.Step(r.t, r.e)
		if rec := r.want(a, jobs.Available); len(rec.Errors) != 1 {
			r.t.Errorf("errors %v: want one that tells of the lease", rec.Errors)
		}
	},
	"running > failed (rescued)": func(r *rig) {
		r.during("a", func(jobs.Job[task]) {
			r.clock.Step(time.Hour)
			_, err := r.e.Rescue(r.t.Context())
			r.check(err)
		}, nil)
		a := r.insert("a", jobs.Options{MaxAttempts: 1})
		jobtest.Step(r.t, r.e)
		r.want(a, jobs.Failed)
	},
	"running > available (returned)": func(r *rig) {
		ctx, stop := context.WithCancelCause(r.t.Context())
		r.during("a", func(jobs.Job[task]) { stop(jobs.ErrStopping) }, context.Canceled)
		a := r.insert("a", jobs.Options{})
		if _, err := r.e.Step(ctx); err != nil {
			r.t.Fatal(err)
		}
		if rec := r.want(a, jobs.Available); rec.Attempt != 0 {
			r.t.Errorf("a returned job has used %d attempts", rec.Attempt)
		}
	},
	"failed > available (redo)": func(r *rig) {
		r.returns("a", jobs.Cancel(errors.New("boom")))
		a := r.insert("a", jobs.Options{ResourceID: "r"})
		jobtest.Drain(r.t, r.e)
		r.want(a, jobs.Failed)
		r.check(jobs.NewStore(r.db).Redo(r.t.Context(), a))
		r.want(a, jobs.Available)
		r.returns("a", nil)
		jobtest.Drain(r.t, r.e)
		if rec := r.want(a, jobs.Completed); len(rec.Errors) != 1 {
			r.t.Errorf("errors %v: want the old one kept", rec.Errors)
		}
	},
	"completed > waiting (redo)": func(r *rig) {
		a := r.insert("a", jobs.Options{ResourceID: "r"})
		jobtest.Drain(r.t, r.e)
		b := r.insert("b", jobs.Options{ResourceID: "r"})
		r.check(jobs.NewStore(r.db).Redo(r.t.Context(), a))
		if rec := r.want(a, jobs.Waiting); len(rec.WaitsFor) != 1 || rec.WaitsFor[0] != b {
			r.t.Errorf("waits for %v, want the resource's last job %d", rec.WaitsFor, b)
		}
	},
	"ended > gone": func(r *rig) {
		a := r.insert("a", jobs.Options{})
		jobtest.Drain(r.t, r.e)
		r.clock.Step(23 * time.Hour)
		_, err := r.e.Purge(r.t.Context())
		r.check(err)
		r.want(a, jobs.Completed)
		r.clock.Step(2 * time.Hour)
		if n, err := r.e.Purge(r.t.Context()); n != 1 || err != nil {
			r.t.Fatalf("purged %d, %v; want 1", n, err)
		}
		if _, err := jobs.NewStore(r.db).Show(r.t.Context(), a); !fault.Is(err, fault.NotFound) {
			r.t.Errorf("show of a purged job: %v, want fault.NotFound", err)
		}
	},
}

// TestReadmeListsArrows compares the table of arrows in the README with those that TestArrows walks.
func TestReadmeListsArrows(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z]+ > [a-z ()]+) \|`).FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = true
		if arrows[m[1]] == nil {
			t.Errorf("README has the arrow %q, which no test walks", m[1])
		}
	}
	for name := range arrows {
		if !documented[name] {
			t.Errorf("README lacks the arrow %q", name)
		}
	}
}

func TestArrows(t *testing.T) {
	t.Parallel()
	for name, walk := range arrows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, walk)
		})
	}
}
