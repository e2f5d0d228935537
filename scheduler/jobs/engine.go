package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Engine works jobs. Engines of any number of processes share one database.
type Engine struct {
	db      *dbschema.DB
	cfg     Config
	log     *slog.Logger
	name    string
	now     func() time.Time
	metrics *metrics
	kinds   map[string]kind // not changed once Run was called
	names   []string        // sorted keys of kinds
	span    Span            // nil makes none
	serial  atomic.Uint64   // makes claim tokens unique

	mu      sync.Mutex // guards the fields below
	running map[ID]*claim
	turn    map[string]string // by queue: the site after which the next claim begins
}

// kind is a worker with its arguments' type hidden.
type kind func(ctx context.Context, r Record, c *claim) error

// New returns an engine that works nothing yet: Add its workers, then Run it.
// reg may be nil; log may be nil.
func New(db *dbschema.DB, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("jobs configuration: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{db: db, cfg: cfg, log: log, now: time.Now, metrics: newMetrics(),
		kinds: map[string]kind{}, running: map[ID]*claim{}, turn: map[string]string{}}
	// Two runs of one replica have different names, so that neither extends the other's leases.
	e.name = db.Instance() + "-" + ident.NewHexID()[:8]
	if cfg.Name != "" {
		e.name = cfg.Name + "-" + e.name
	}
	return e, e.metrics.register(reg)
}

// Add gives e the worker of the jobs of A's kind. It is called before Run and
// returns an error when the kind has a worker already. Jobs of kinds without a
// worker stay available, for a replica of another version.
func Add[A Args](e *Engine, w Worker[A]) error {
	var zero A
	name := zero.Kind()
	if _, taken := e.kinds[name]; taken || !validName.MatchString(name) {
		return fmt.Errorf("add worker of kind %q: the name is taken or malformed", name)
	}
	e.kinds[name] = func(ctx context.Context, r Record, c *claim) error {
		job := Job[A]{Info: r.info(), claim: c}
		if err := json.Unmarshal(r.Args, &job.Args); err != nil {
			return Cancel(fmt.Errorf("arguments of job %d: %w", r.ID, err))
		}
		return w.Work(ctx, job)
	}
	e.names = slices.Sorted(maps.Keys(e.kinds))
	e.metrics.kind(name)
	return nil
}

// Span begins the span of one attempt under the traceparent that ctx carries (ident.Trace). It returns a context with the
// span's own, and what ends it: with its name, and why the attempt failed, "" when it did not.
type Span = func(ctx context.Context) (context.Context, func(name, failure string, attrs ...slog.Attr))

// Trace has a span made of each attempt; nil makes none. It is called before Run.
func (e *Engine) Trace(s Span) { e.span = s }

// WorkerFunc is a function as a Worker.
type WorkerFunc[A Args] func(ctx context.Context, job Job[A]) error

// Work calls f.
func (f WorkerFunc[A]) Work(ctx context.Context, job Job[A]) error { return f(ctx, job) }

// Run works jobs until ctx ends, then stops claiming, waits Config.Grace for
// those that run, cancels the rest and gives them back. It returns nil, after
// everything that it started has ended.
func (e *Engine) Run(ctx context.Context) error {
	// Jobs and heartbeats outlive ctx by the grace period.
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	beats, stopBeats := context.WithCancel(work)
	defer stopBeats()

	var claims, keepers errgroup.Group
	var workers sync.WaitGroup
	keepers.Go(func() error { return e.keepLeases(beats) })
	claims.Go(func() error { return e.keepHouse(ctx) })
	for queue := range e.cfg.Queues {
		claims.Go(func() error { return e.claimLoop(ctx, work, queue, &workers) })
	}
	err := claims.Wait()

	timer := time.AfterFunc(e.cfg.Grace, func() { stopWork(ErrStopping) })
	workers.Wait()
	timer.Stop()
	stopBeats()
	return errors.Join(err, keepers.Wait())
}

// claimLoop claims jobs of one queue and starts them in workers under work.
func (e *Engine) claimLoop(ctx, work context.Context, queue string, workers *sync.WaitGroup) error {
	wake, cancel := e.db.Subscribe(topic)
	defer cancel()
	poll := time.NewTimer(pollEvery)
	defer poll.Stop()
	slots := e.cfg.Queues[queue].Workers
	ended := make(chan struct{}, slots) // one value for each worker that ended
	for busy := 0; ; {
		next := pollEvery
		if busy < slots && ctx.Err() == nil {
			var claimed int
			claimed, next = e.claimAndStart(ctx, work, queue, slots-busy, workers, ended)
			if busy += claimed; claimed > 0 && busy < slots {
				continue // there may be more: sites take turns
			}
		}
		poll.Reset(next)
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			busy--
		case <-wake:
		case <-poll.C:
		}
		for len(ended) > 0 { // claim for all who ended meanwhile in one statement
			<-ended
			busy--
		}
	}
}

// claimAndStart returns how many jobs it started and when to look again.
func (e *Engine) claimAndStart(ctx, work context.Context, queue string, most int, workers *sync.WaitGroup, ended chan<- struct{}) (int, time.Duration) {
	claimed, next, err := e.claim(ctx, queue, most)
	if err != nil {
		if ctx.Err() == nil {
			e.log.ErrorContext(ctx, "jobs not claimed", "queue", queue, "err", err)
		}
		return 0, pollEvery
	}
	for _, c := range claimed {
		workers.Go(func() {
			defer func() { ended <- struct{}{} }()
			e.work(work, c)
		})
	}
	return len(claimed), next
}

// claimed is a job that this engine has.
type claimed struct {
	row   dbschema.Job
	claim *claim
}

// claim takes up to most jobs of the queue, and returns when the next scheduled
// one falls due, at most pollEvery.
func (e *Engine) claim(ctx context.Context, queue string, most int) ([]claimed, time.Duration, error) {
	e.mu.Lock()
	first := e.turn[queue]
	e.mu.Unlock()
	o := order{engine: e.name, queue: queue, kinds: e.names, most: most, perSite: e.cfg.perSite(queue), lease: e.cfg.Lease, first: first}
	var rows []dbschema.Job
	var began time.Time
	next := pollEvery
	err := e.db.WriteSoft(ctx, func(tx dbschema.Tx) (err error) {
		// Before the statement, so that our end of the lease is never later than the database's.
		began = e.now()
		o.token = e.name + "-" + strconv.FormatUint(e.serial.Add(1), 36)
		if rows, err = claimJobs(tx, o); err != nil {
			return err
		}
		next, err = nextDue(tx)
		return err
	})
	if fault.Is(err, fault.Ambiguous) {
		return nil, 0, fmt.Errorf("%w (what was claimed comes back when its lease runs out)", err)
	}
	if err != nil {
		return nil, 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]claimed, len(rows))
	for i, row := range rows {
		c := &claim{id: ID(row.ID), token: row.Claim, now: e.now, end: func(error) {}}
		c.extend(began.Add(e.cfg.Lease))
		e.running[c.id] = c
		out[i] = claimed{row, c}
		e.turn[queue] = row.Site
	}
	return out, next, nil
}

// Step claims one available job of any queue and works it in the calling
// goroutine. It reports false when there was none. It is for tests and tools.
func (e *Engine) Step(ctx context.Context) (bool, error) {
	for _, queue := range slices.Sorted(maps.Keys(e.cfg.Queues)) {
		got, _, err := e.claim(ctx, queue, 1)
		if err != nil {
			return false, err
		}
		for _, c := range got {
			e.work(ctx, c)
			return true, nil
		}
	}
	return false, nil
}
