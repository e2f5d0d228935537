package jobs_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	dto "github.com/prometheus/client_model/go"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/scheduler/jobs/jobtest"
)

// start runs an engine until the test ends, or until the returned function is called.
func start(t *testing.T, e *jobs.Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = e.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// engine returns an engine with the given settings and worker.
func engine(t *testing.T, db *dbschema.DB, cfg jobs.Config, work jobs.WorkerFunc[task]) *jobs.Engine {
	t.Helper()
	e, err := jobs.New(db, cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	jobtest.Add(t, e, work)
	return e
}

// await waits until the job is in the state.
func await(t *testing.T, db *dbschema.DB, id jobs.ID, want jobs.State) jobs.Record {
	t.Helper()
	changed := time.NewTicker(5 * time.Millisecond)
	defer changed.Stop()
	for {
		rec := jobtest.Show(t, db, id)
		if rec.State == want {
			return rec
		}
		select {
		case <-changed.C:
		case <-t.Context().Done():
			t.Fatalf("job %d is still %s, want %s", id, rec.State, want)
		}
	}
}

func TestRunStartsAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		ran := make(chan time.Time)
		start(t, engine(t, db, jobs.Default(), func(context.Context, jobs.Job[task]) error {
			ran <- time.Now()
			return nil
		}))
		best := time.Hour
		for range 10 {
			inserted := time.Now()
			jobtest.Insert(t, db, task{}, jobs.Options{})
			best = min(best, (<-ran).Sub(inserted))
		}
		// The poll alone would take half a second on average.
		if best > 50*time.Millisecond {
			t.Errorf("the fastest of ten jobs began %v after its insertion", best)
		}
	})
}

func TestSeveralEnginesShareTheWork(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		const engines, count, resources = 3, 300, 40
		var total, most atomic.Int64
		var mu sync.Mutex
		busy := map[string]bool{}
		times := map[jobs.ID]int{}
		by := map[int]int{}
		for n := range engines {
			cfg := jobs.Default()
			cfg.Queues = map[string]jobs.QueueConfig{jobs.DefaultQueue: {Workers: 8, PerSite: 100}}
			start(t, engine(t, db, cfg, func(_ context.Context, job jobs.Job[task]) error {
				mu.Lock()
				if busy[job.ResourceID] {
					t.Errorf("two jobs of resource %s at once", job.ResourceID)
				}
				busy[job.ResourceID] = true
				times[job.ID]++
				by[n]++
				most.Store(max(most.Load(), int64(len(busy))))
				mu.Unlock()
				err := db.Write(t.Context(), job.Guard)
				mu.Lock()
				delete(busy, job.ResourceID)
				mu.Unlock()
				total.Add(1)
				return err
			}))
		}
		var last jobs.ID
		for i := range count {
			last = jobtest.Insert(t, db, task{}, jobs.Options{ResourceID: string(rune('A' + i%resources))})
		}
		for total.Load() < count {
			await(t, db, last, jobs.Completed)
		}
		mu.Lock()
		defer mu.Unlock()
		for id, n := range times {
			if n != 1 {
				t.Errorf("job %d ran %d times", id, n)
			}
		}
		if len(times) != count || len(by) < 2 {
			t.Errorf("%d jobs ran on %d engines, want %d on several", len(times), len(by), count)
		}
	})
}

// After a crash and a restart on SQLite, nobody waits for the dead process's leases.
func TestRestartTakesBackAtOnce(t *testing.T) {
	t.Parallel()
	cfg := dbtest.SQLiteConfig(t)
	db, err := dbschema.Open(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := jobtest.Insert(t, db, task{}, jobs.Options{})
	work := func(context.Context, jobs.Job[task]) error { return nil }
	if held, err := jobs.Hold(engine(t, db, jobs.Default(), work), t.Context(), jobs.DefaultQueue, 1); len(held) != 1 || err != nil {
		t.Fatalf("claimed %v, %v", held, err)
	}
	if n, err := engine(t, db, jobs.Default(), work).Rescue(t.Context()); n != 0 || err != nil {
		t.Fatalf("another engine of the same process rescued %d, %v", n, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = dbschema.Open(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	start(t, engine(t, db, jobs.Default(), work))
	if rec := await(t, db, id, jobs.Completed); rec.Attempt != 2 {
		t.Errorf("completed in attempt %d, want 2", rec.Attempt)
	}
}

// A short snooze must not last until the next poll.
func TestSnoozesAreKept(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		start(t, engine(t, db, jobs.Default(), func(_ context.Context, job jobs.Job[task]) error {
			if job.Snoozes < 10 {
				return jobs.Snooze(10 * time.Millisecond)
			}
			return nil
		}))
		began := time.Now()
		id := jobtest.Insert(t, db, task{}, jobs.Options{})
		await(t, db, id, jobs.Completed)
		if took := time.Since(began); took < 100*time.Millisecond || took > 5*time.Second {
			t.Errorf("ten snoozes of 10 ms took %v", took)
		}
	})
}

func TestStopWaitsThenGivesBack(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		cfg := jobs.Default()
		cfg.Grace = 50 * time.Millisecond
		begun := make(chan struct{})
		goOn := make(chan struct{})
		stop := start(t, engine(t, db, cfg, func(ctx context.Context, job jobs.Job[task]) error {
			begun <- struct{}{}
			if job.Args.Name == "quick" {
				<-goOn
				return nil
			}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), jobs.ErrStopping) {
				t.Errorf("context ended for %v, want ErrStopping", context.Cause(ctx))
			}
			return ctx.Err()
		}))
		quick := jobtest.Insert(t, db, task{"quick"}, jobs.Options{})
		slow := jobtest.Insert(t, db, task{"slow"}, jobs.Options{})
		<-begun
		<-begun
		close(goOn)
		stop()
		if rec := jobtest.Show(t, db, quick); rec.State != jobs.Completed {
			t.Errorf("a job that ended within the grace period is %s", rec.State)
		}
		if rec := jobtest.Show(t, db, slow); rec.State != jobs.Available || rec.Attempt != 0 {
			t.Errorf("a job that did not is %s after %d attempts, want available after none", rec.State, rec.Attempt)
		}
		later := jobtest.Insert(t, db, task{"quick"}, jobs.Options{})
		if rec := jobtest.Show(t, db, later); rec.State != jobs.Available {
			t.Errorf("a stopped engine took job %d", later)
		}
	})
}

func TestCancelReachesARunningJob(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		begun := make(chan jobs.ID, 1)
		start(t, engine(t, db, jobs.Default(), func(ctx context.Context, job jobs.Job[task]) error {
			begun <- job.ID
			<-ctx.Done()
			return context.Cause(ctx)
		}))
		jobtest.Insert(t, db, task{}, jobs.Options{})
		id := <-begun
		if err := jobs.NewStore(db).Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		await(t, db, id, jobs.Cancelled)
	})
}

func TestHeartbeatsKeepALongJob(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		cfg := jobs.Default()
		cfg.Lease = 3 * time.Second
		e := engine(t, db, cfg, func(ctx context.Context, job jobs.Job[task]) error {
			first, ok := ctx.Deadline()
			if !ok || job.LeaseLeft() > cfg.Lease {
				t.Errorf("deadline %v, lease left %v of %v", first, job.LeaseLeft(), cfg.Lease)
			}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if now, _ := ctx.Deadline(); now.After(first) {
						return nil // a heartbeat moved it
					}
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		})
		start(t, e)
		id := jobtest.Insert(t, db, task{}, jobs.Options{})
		if rec := await(t, db, id, jobs.Completed); rec.Attempt != 1 {
			t.Errorf("took %d attempts", rec.Attempt)
		}
	})
}

// A worker whose heartbeats stopped must be told before others may take the job.
func TestLostLeaseEndsTheContext(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	cfg := jobs.Default()
	cfg.Lease = 3 * time.Second
	e := engine(t, db, cfg, func(ctx context.Context, job jobs.Job[task]) error {
		<-ctx.Done() // Step sends no heartbeats
		if left := job.LeaseLeft(); left > 0 || !errors.Is(context.Cause(ctx), jobs.ErrClaimLost) {
			t.Errorf("ended for %v with %v of the lease left", context.Cause(ctx), left)
		}
		return ctx.Err()
	})
	id := jobtest.Insert(t, db, task{}, jobs.Options{})
	jobtest.Step(t, e)
	if rec := jobtest.Show(t, db, id); rec.State != jobs.Running {
		t.Errorf("the job is %s: only a rescue may take it back", rec.State)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	reg := prometheus.NewRegistry()
	e, err := jobs.New(db, jobs.Default(), reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	jobtest.Add(t, e, func(context.Context, jobs.Job[task]) error { return nil })
	if n := value(t, reg, "headwater_jobs_attempts_total", "failed"); n != 0 {
		t.Errorf("before any job, failed attempts are %v, want 0 and present", n)
	}
	jobtest.Insert(t, db, task{}, jobs.Options{})
	jobtest.Drain(t, e)
	if n := value(t, reg, "headwater_jobs_attempts_total", "completed"); n != 1 {
		t.Errorf("completed attempts %v, want 1", n)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "headwater_jobs_") {
			t.Errorf("metric %s", f.GetName())
		}
	}
}

// value returns the counter's value of the series that has the label value, or -1.
func value(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && hasLabel(m, label) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func hasLabel(m *dto.Metric, value string) bool {
	for _, l := range m.GetLabel() {
		if l.GetValue() == value {
			return true
		}
	}
	return false
}
