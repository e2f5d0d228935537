package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/scheduler/jobs/jobtest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// world is what the test knows of the jobs that it made, apart from the database.
type world struct {
	*rapid.T
	r    *rig
	jobs []*known
	held []jobs.Held
	line int // the next place in a resource's line
}

type known struct {
	id       jobs.ID
	resource string
	after    []*known
	needs    jobs.OnDependencyFailure
	place    int
}

// TestRandomHistories inserts, claims, works, crashes, rescues, cancels and
// redoes at random, and holds every claim against the rules: no two jobs of one
// resource at once and none out of order, none before its dependencies, none lost.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	each(t, func(r *rig) {
		rapid.Check(r.t, func(t *rapid.T) {
			w := &world{T: t, r: r}
			clear(r.result)
			if err := r.db.Write(r.t.Context(), jobs.DeleteAll); err != nil { // what a failed history left
				t.Fatal(err)
			}
			t.Repeat(map[string]func(*rapid.T){
				"insert": w.insert,
				"claim":  w.claim,
				"work":   w.work,
				"crash":  w.crash,
				"rescue": w.rescue,
				"cancel": w.cancel,
				"redo":   w.redo,
				"time":   func(*rapid.T) { r.clock.Step(10 * time.Second) },
			})
			w.finish()
		})
	})
}

func (w *world) insert(t *rapid.T) {
	name := fmt.Sprintf("j%d", len(w.jobs))
	k := &known{
		resource: rapid.SampledFrom([]string{"", "r0", "r1", "r2"}).Draw(t, "resource"),
		needs:    rapid.SampledFrom([]jobs.OnDependencyFailure{jobs.Run, jobs.Fail}).Draw(t, "needs"),
		place:    w.line,
	}
	w.line++
	o := jobs.Options{ResourceID: k.resource, OnDependencyFailure: k.needs, MaxAttempts: 2,
		Site: "east", Priority: rapid.IntRange(-1, 1).Draw(t, "priority")}
	for _, on := range w.jobs {
		if rapid.IntRange(0, 5).Draw(t, "after") == 0 {
			k.after = append(k.after, on)
			o.After = append(o.After, on.id)
		}
	}
	w.r.result[name] = []func(context.Context, jobs.Job[task]) error{
		nil, nil,
		func(context.Context, jobs.Job[task]) error { return errors.New("boom") },
		func(context.Context, jobs.Job[task]) error { return fault.New(fault.Conflict, "x", "in use") },
		func(_ context.Context, job jobs.Job[task]) error {
			if job.Snoozes > 1 {
				return nil
			}
			return jobs.Snooze(5 * time.Second)
		},
	}[rapid.IntRange(0, 4).Draw(t, "result")]
	k.id = w.r.insert(name, o)
	w.jobs = append(w.jobs, k)
}

func (w *world) state(k *known) jobs.State { return jobtest.Show(w.r.t, w.r.db, k.id).State }

func (w *world) claim(t *rapid.T) {
	held, err := jobs.Hold(w.r.e, w.r.t.Context(), jobs.DefaultQueue, rapid.IntRange(1, 3).Draw(t, "most"))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		i := slices.IndexFunc(w.jobs, func(k *known) bool { return k.id == h.ID })
		w.checkClaim(t, w.jobs[i])
	}
	w.held = append(w.held, held...)
}

// checkClaim checks the rules for a job that was claimed just now.
func (w *world) checkClaim(t *rapid.T, k *known) {
	for _, on := range k.after {
		if s := w.state(on); !s.Ended() && on.place < k.place {
			t.Fatalf("job %d was claimed, but %d, which it is after, is %s", k.id, on.id, s)
		}
	}
	for _, other := range w.jobs {
		if other == k || k.resource == "" || other.resource != k.resource {
			continue
		}
		switch s := w.state(other); {
		case s == jobs.Running:
			t.Fatalf("job %d was claimed while %d of the same resource runs", k.id, other.id)
		case other.place < k.place && !s.Ended():
			t.Fatalf("job %d was claimed before %d of the same resource, which is %s", k.id, other.id, s)
		}
	}
}

func (w *world) work(t *rapid.T) {
	if len(w.held) == 0 {
		t.Skip("nothing is claimed")
	}
	i := rapid.IntRange(0, len(w.held)-1).Draw(t, "held")
	w.held[i].Work(w.r.t.Context())
	w.held = slices.Delete(w.held, i, i+1)
}

// crash forgets a claim, as an engine does that dies: its lease runs on.
func (w *world) crash(t *rapid.T) {
	if len(w.held) == 0 {
		t.Skip("nothing is claimed")
	}
	i := rapid.IntRange(0, len(w.held)-1).Draw(t, "held")
	w.held = slices.Delete(w.held, i, i+1)
}

// rescue lets all leases run out. Those who still hold a job then work it, too
// late: w.work follows sooner or later, and must change nothing.
func (w *world) rescue(t *rapid.T) {
	w.r.clock.Step(time.Hour)
	if _, err := w.r.e.Rescue(w.r.t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) cancel(t *rapid.T) { w.steer(t, jobs.NewStore(w.r.db).Cancel, func(*known) {}) }

func (w *world) redo(t *rapid.T) {
	w.steer(t, jobs.NewStore(w.r.db).Redo, func(k *known) {
		k.place, k.after = w.line, nil
		w.line++
	})
}

func (w *world) steer(t *rapid.T, verb func(context.Context, jobs.ID) error, done func(*known)) {
	if len(w.jobs) == 0 {
		t.Skip("no jobs")
	}
	k := rapid.SampledFrom(w.jobs).Draw(t, "job")
	err := verb(w.r.t.Context(), k.id)
	if err == nil {
		done(k)
	} else if !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
}

// finish works everything that is left, and wants every job ended.
func (w *world) finish() {
	for range 100 {
		w.rescue(w.T)
		jobtest.Drain(w.r.t, w.r.e)
		left, err := jobs.NewStore(w.r.db).List(w.r.t.Context(), jobs.Filter{Limit: 1000,
			States: []jobs.State{jobs.Waiting, jobs.Scheduled, jobs.Available, jobs.Running}})
		if err != nil {
			w.Fatal(err)
		}
		if len(left) == 0 {
			w.noEdges()
			return
		}
	}
	for _, k := range w.jobs {
		if rec := jobtest.Show(w.r.t, w.r.db, k.id); !rec.State.Ended() {
			w.Errorf("job %d is still %s, waits for %v", k.id, rec.State, rec.WaitsFor)
		}
	}
	w.FailNow()
}

// noEdges wants nothing left of what waited.
func (w *world) noEdges() {
	var edges int64
	err := w.r.db.Read(w.r.t.Context()).Raw("SELECT count(*) FROM job_edges").Scan(&edges).Error
	var odd int64
	if err == nil {
		err = w.r.db.Read(w.r.t.Context()).Raw("SELECT count(*) FROM jobs WHERE tail OR claim <> '' OR lease_until <> 0").Scan(&odd).Error
	}
	if err != nil || edges != 0 || odd != 0 {
		w.Fatalf("after all ended: %d edges and %d unclean rows, %v", edges, odd, err)
	}
}
