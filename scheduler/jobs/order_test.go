package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/scheduler/jobs/jobtest"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func TestOrderOfOneResource(t *testing.T) {
	t.Parallel()
	each(t, func(r *rig) {
		r.returns("1", jobs.Snooze(time.Minute))
		for i := range 4 {
			r.insert(fmt.Sprint(i), jobs.Options{ResourceID: "r"})
		}
		r.insert("other", jobs.Options{ResourceID: "s", Priority: 1})
		jobtest.Drain(r.t, r.e)
		// 1 is snoozed and keeps its place: 2 and 3 do not overtake it.
		if want := []string{"0", "1", "other"}; !slices.Equal(r.ran, want) {
			r.t.Fatalf("ran %v, want %v", r.ran, want)
		}
		r.returns("1", nil)
		r.clock.Step(2 * time.Minute)
		jobtest.Drain(r.t, r.e)
		if want := []string{"0", "1", "other", "1", "2", "3"}; !slices.Equal(r.ran, want) {
			r.t.Errorf("ran %v, want %v", r.ran, want)
		}
	})
}

// A job in the middle of a resource's line was cancelled, and the one behind it
// then ran beside the one before it.
func TestCancelInTheMiddleKeepsOrder(t *testing.T) {
	t.Parallel()
	each(t, func(r *rig) {
		store := jobs.NewStore(r.db)
		var b, c, d jobs.ID
		r.during("a", func(jobs.Job[task]) {
			r.check(store.Cancel(r.t.Context(), b))
			r.want(c, jobs.Waiting)
			r.check(store.Cancel(r.t.Context(), c)) // the last: the line's end goes back to a
			d = r.insert("d", jobs.Options{ResourceID: "r"})
			r.want(d, jobs.Waiting)
		}, nil)
		r.insert("a", jobs.Options{ResourceID: "r"})
		b = r.insert("b", jobs.Options{ResourceID: "r"})
		c = r.insert("c", jobs.Options{ResourceID: "r"})
		jobtest.Drain(r.t, r.e)
		if want := []string{"a", "d"}; !slices.Equal(r.ran, want) {
			r.t.Errorf("ran %v, want %v", r.ran, want)
		}
		r.want(d, jobs.Completed)
	})
}

func TestCancelResource(t *testing.T) {
	t.Parallel()
	each(t, func(r *rig) {
		var rest []jobs.ID
		var last jobs.ID
		r.during("a", func(jobs.Job[task]) {
			r.check(r.db.Write(r.t.Context(), func(tx dbschema.Tx) (err error) {
				running, err := jobs.CancelResource(tx, "r")
				if err == nil && running != 1 {
					r.t.Errorf("%d of the resource's jobs run, want 1", running)
				}
				if err == nil {
					last, err = jobs.Insert(r.t.Context(), tx, task{"delete"}, jobs.Options{ResourceID: "r"})
				}
				return err
			}))
		}, nil)
		r.insert("a", jobs.Options{ResourceID: "r"})
		rest = append(rest, r.insert("b", jobs.Options{ResourceID: "r"}), r.insert("c", jobs.Options{ResourceID: "r", RunAt: time.Now().Add(time.Hour)}))
		jobtest.Drain(r.t, r.e)
		for _, id := range rest {
			r.want(id, jobs.Cancelled)
		}
		r.want(last, jobs.Completed)
		if want := []string{"a", "delete"}; !slices.Equal(r.ran, want) {
			r.t.Errorf("ran %v, want %v", r.ran, want)
		}
	})
}

func TestSiteLimitLeavesWorkersToOthers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		cfg := jobs.Default()
		cfg.SiteLimits = map[ident.SiteID]int{"slow": 2}
		e := make([]*jobs.Engine, 2) // the limit holds over all replicas
		for i := range e {
			var err error
			if e[i], err = jobs.New(db, cfg, nil, nil); err != nil {
				t.Fatal(err)
			}
			jobtest.Add(t, e[i], func(context.Context, jobs.Job[task]) error { return nil })
		}
		for range 20 {
			jobtest.Insert(t, db, task{"s"}, jobs.Options{Site: "slow"})
		}
		for range 3 {
			jobtest.Insert(t, db, task{"f"}, jobs.Options{Site: "fast"})
		}
		got := map[ident.SiteID]int{}
		for _, e := range e {
			held, err := jobs.Hold(e, t.Context(), jobs.DefaultQueue, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range held {
				got[h.Site]++
			}
		}
		if got["slow"] != 2 || got["fast"] != 3 {
			t.Errorf("claimed %v, want 2 of slow and 3 of fast", got)
		}
	})
}

func TestPriorityAndKinds(t *testing.T) {
	t.Parallel()
	each(t, func(r *rig) {
		r.insert("late", jobs.Options{Priority: 5})
		r.insert("normal", jobs.Options{})
		r.insert("early", jobs.Options{Priority: -5})
		unknown := jobtest.Insert(r.t, r.db, strange{}, jobs.Options{Priority: -9})
		jobtest.Drain(r.t, r.e)
		if want := []string{"early", "normal", "late"}; !slices.Equal(r.ran, want) {
			r.t.Errorf("ran %v, want %v", r.ran, want)
		}
		r.want(unknown, jobs.Available) // for a replica that knows the kind
	})
}

type strange struct{}

func (strange) Kind() string { return "strange" }

func TestResults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want jobs.State
	}{
		{"user's fault", fault.New(fault.OverQuota, "x", "too many"), jobs.Failed},
		{"wrapped user's fault", fmt.Errorf("make port: %w", fault.New(fault.Conflict, "x", "in use")), jobs.Failed},
		{"site down", fault.New(fault.Unavailable, "x", "no route"), jobs.Scheduled},
		{"ambiguous", fault.New(fault.Ambiguous, "x", "reply lost"), jobs.Scheduled},
		{"reclassified", fault.Wrap(fault.Internal, "x", fault.New(fault.NotFound, "y", "gone")), jobs.Scheduled},
		{"wrapped snooze", fmt.Errorf("wait: %w", jobs.Snooze(time.Minute)), jobs.Scheduled},
		{"context of its own", context.DeadlineExceeded, jobs.Scheduled},
		{"given up", jobs.Cancel(errors.New("never")), jobs.Failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, dbtest.SQLite(t), nil)
			r.returns("a", tt.err)
			id := r.insert("a", jobs.Options{})
			jobtest.Drain(t, r.e)
			r.want(id, tt.want)
		})
	}
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, dbtest.SQLite(t), nil)
		r.result["a"] = func(context.Context, jobs.Job[task]) error { panic("nil map") }
		id := r.insert("a", jobs.Options{})
		jobtest.Drain(t, r.e)
		if rec := r.want(id, jobs.Scheduled); rec.LastError() != "panic: nil map" {
			t.Errorf("error %q", rec.LastError())
		}
	})
}

// A replica that stood still past its lease goes on: what it does now must not count.
func TestStalledReplicaCommitsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(r *rig) {
		other := jobtest.New(r.t, r.db)
		attempts := 0
		commit := func(ctx context.Context, job jobs.Job[task]) error {
			return r.db.Write(r.t.Context(), func(tx dbschema.Tx) error {
				if err := errors.Join(job.Guard(tx), jobs.Guard(ctx, tx)); err != nil {
					return err
				}
				attempts++
				_, err := jobs.Insert(r.t.Context(), tx, strange{}, jobs.Options{})
				return err
			})
		}
		jobtest.Add(r.t, other, commit)
		r.result["a"] = func(ctx context.Context, job jobs.Job[task]) error {
			r.clock.Step(time.Hour) // the replica stands still, and another one takes over
			if _, err := other.Rescue(ctx); err != nil {
				return err
			}
			jobtest.Drain(r.t, other)
			err := commit(ctx, job)
			if !errors.Is(err, jobs.ErrClaimLost) {
				r.t.Errorf("commit of the stalled replica: %v, want ErrClaimLost", err)
			}
			only := r.db.Write(context.WithoutCancel(ctx), func(tx dbschema.Tx) error { return jobs.Guard(ctx, tx) })
			if !errors.Is(only, jobs.ErrClaimLost) {
				r.t.Errorf("guard by the context: %v, want ErrClaimLost", only)
			}
			return nil // even if it thinks that all is well
		}
		id := r.insert("a", jobs.Options{})
		jobtest.Drain(r.t, r.e)
		rec := r.want(id, jobs.Completed)
		if attempts != 1 || rec.Attempt != 2 {
			r.t.Errorf("%d commits in attempt %d, want 1 in attempt 2", attempts, rec.Attempt)
		}
	})
}

// While a worker's transaction that began with Guard is open, nobody can take the job over.
func TestGuardHoldsOffRescue(t *testing.T) {
	t.Parallel()
	clock := &dbtest.Clock{}
	db := dbtest.Postgres(t, clock.Option) // SQLite has one writer, so the question does not arise there
	r := newRig(t, db, clock)
	other := jobtest.New(t, db)
	r.result["a"] = func(ctx context.Context, job jobs.Job[task]) error {
		err := db.Write(ctx, func(tx dbschema.Tx) error {
			if err := job.Guard(tx); err != nil {
				return err
			}
			clock.Step(time.Hour)
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			if n, err := other.Rescue(short); n != 0 || err == nil {
				t.Errorf("rescued %d, %v while the guard was held; want it to wait", n, err)
			}
			return nil
		})
		clock.Step(-time.Hour)
		return err
	}
	id := r.insert("a", jobs.Options{})
	jobtest.Drain(t, r.e)
	r.want(id, jobs.Completed)
}

func TestListAndShow(t *testing.T) {
	t.Parallel()
	each(t, func(r *rig) {
		store := jobs.NewStore(r.db)
		for i := range 25 {
			r.insert("a", jobs.Options{Site: ident.SiteID(fmt.Sprintf("s%d", i%2)), ProjectID: fmt.Sprintf("p%d", i%5)})
		}
		var seen []jobs.ID
		for f := (jobs.Filter{Site: "s1", Limit: 5, States: []jobs.State{jobs.Available}, Kind: "task"}); ; {
			page, err := store.List(r.t.Context(), f)
			r.check(err)
			for _, rec := range page {
				seen = append(seen, rec.ID)
			}
			if len(page) < 5 {
				break
			}
			f.Before = page[4].ID
		}
		if len(seen) != 12 || !slices.IsSortedFunc(seen, func(a, b jobs.ID) int { return int(b - a) }) {
			r.t.Errorf("pages of s1: %v, want 12 jobs, newest first", seen)
		}
		if page, _ := store.List(r.t.Context(), jobs.Filter{ProjectID: "p3"}); len(page) != 5 {
			r.t.Errorf("project p3 has %d jobs, want 5", len(page))
		}
		if _, err := store.Show(r.t.Context(), 4711); !fault.Is(err, fault.NotFound) {
			r.t.Errorf("show of no job: %v, want fault.NotFound", err)
		}
		if err := store.Redo(r.t.Context(), seen[0]); !fault.Is(err, fault.Conflict) {
			r.t.Errorf("redo of an available job: %v, want fault.Conflict", err)
		}
		a, b := r.insert("a", jobs.Options{}), jobs.ID(0)
		b = r.insert("b", jobs.Options{After: []jobs.ID{a}})
		if rec := jobtest.Show(r.t, r.db, a); !slices.Equal(rec.Blocks, []jobs.ID{b}) {
			r.t.Errorf("job %d blocks %v, want %d", a, rec.Blocks, b)
		}
	})
}
