package cascade

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/scheduler/jobs/jobtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func reconciler(t *testing.T, r *rig) *Reconciler {
	t.Helper()
	rc, err := NewReconciler(r.Core, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

func (r *rig) pass(rc *Reconciler) {
	r.t.Helper()
	if err := rc.Pass(r.t.Context()); err != nil {
		r.t.Error(err)
	}
}

// crash has a process claim the next job and vanish before it did anything, and its lease run out.
func (r *rig) crash() {
	r.t.Helper()
	ctx, kill := context.WithCancel(r.t.Context())
	e, core := jobtest.New(r.t, r.db), r.another()
	at, gone := make(chan struct{}), make(chan struct{})
	core.Register(sites.Server, &fakeMaker{needs: func(*index.Resource) ([]ident.TopID, error) {
		close(at)
		<-gone // for ever, as far as this process is concerned
		return nil, context.Canceled
	}})
	if err := core.RegisterJobs(e); err != nil {
		r.t.Fatal(err)
	}
	var process sync.WaitGroup
	r.t.Cleanup(func() { kill(); close(gone); process.Wait() })
	process.Go(func() { _, _ = e.Step(ctx) })
	select {
	case <-at:
	case <-time.After(30 * time.Second):
		r.t.Fatal("no job was claimed")
	}
	r.clock.step(10 * time.Minute)
	if _, err := r.jobs.Rescue(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// A process that was killed at a server's last attempt left a job that had ended and a server that was BUILD for ever, until an
// operator said `headwater job redo`.
func TestLastAttemptCrashed(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Server)
		for range jobs.DefaultMaxAttempts {
			r.crash()
		}
		r.run(5 * time.Second)
		if got := r.row(row.ID); got.State != index.Creating {
			t.Fatalf("after the last attempt the row is %s: the test is not what it says", got.State)
		}
		rc := reconciler(t, r)
		r.run(2 * time.Minute)
		r.pass(rc)
		r.run(time.Second)
		r.one(row)
		r.remove(row.ID)
		r.run(time.Second)
		r.none(row)
	})
}

// cancelJobs ends all jobs of a row that have not ended, as an operator does.
func (r *rig) cancelJobs(id ident.TopID) {
	r.t.Helper()
	store := jobs.NewStore(r.db)
	list, err := store.List(r.t.Context(), jobs.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, j := range list {
		if !j.State.Ended() && strings.Contains(string(j.Args), string(id)) {
			if err := store.Cancel(r.t.Context(), j.ID); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// What an operator cancelled says so and can be deleted; a delete that he cancelled can be asked for again.
func TestCancelledByOperator(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		rc := reconciler(t, r)
		row := r.create(sites.Server)
		r.cancelJobs(row.ID)
		r.clock.step(2 * time.Minute)
		r.pass(rc)
		if got := r.row(row.ID); got.State != index.Failed || got.Fault == nil || !strings.Contains(got.Fault.Message, "cancelled job") {
			t.Errorf("row = %s %+v", got.State, got.Fault)
		}
		r.remove(row.ID)
		r.cancelJobs(row.ID)
		r.clock.step(2 * time.Minute)
		r.pass(rc)
		if got := r.row(row.ID); got.State != index.Failed || got.Fault == nil || !strings.Contains(got.Fault.Message, "was not deleted") {
			t.Errorf("row = %s %+v", got.State, got.Fault)
		}
		r.remove(row.ID)
		r.run(time.Second)
		r.none(row)
	})
}

// A verb whose job is gone is decided, and a row in transition is looked at, more and more seldom; what has a job is left alone.
func TestLiveRowWithoutJob(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		rc := reconciler(t, r)
		row := r.create(sites.Server)
		r.run(0)
		verb := Verb{
			Action: "server.reboot", Settle: true,
			Begin: func(_ *Tx, row *index.Resource) error { row.Status = "BUILD"; return nil },
			Call:  func(context.Context, At, ident.BottomID) (sites.Reply, error) { return sites.Reply{}, lost() },
		}
		if _, err := r.Run(t.Context(), tenant, row.ID, verb); err == nil {
			t.Fatal("a lost answer was taken for success")
		}
		r.clock.step(2 * time.Minute)
		r.pass(rc)
		if n := r.pending(row.ID); n != 1 {
			t.Fatalf("%d jobs after a pass with one", n)
		}
		r.cancelJobs(row.ID)
		r.pass(rc)
		if n := r.pending(row.ID); n != 1 {
			t.Fatalf("%d jobs after a pass with none", n)
		}
		r.cancelJobs(row.ID)
		r.pass(rc)
		if n := r.pending(row.ID); n != 0 {
			t.Fatalf("%d jobs at once after the last was lost: want a pause", n)
		}
		r.clock.step(2 * time.Minute)
		r.pass(rc)
		r.run(30 * time.Second)
		if got := r.row(row.ID); got.Outstanding() || got.Status != "ACTIVE" {
			t.Errorf("row = %s, outstanding %t", got.Status, got.Outstanding())
		}
	})
}

// pending is how many jobs of a row have not ended.
func (r *rig) pending(id ident.TopID) int {
	r.t.Helper()
	list, err := jobs.NewStore(r.db).List(r.t.Context(), jobs.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, j := range list {
		if !j.State.Ended() && strings.Contains(string(j.Args), string(id)) {
			n++
		}
	}
	return n
}
