package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/apps"
	"github.com/headwater-cloud/headwater/agents/ovsdb"
	"github.com/headwater-cloud/headwater/agents/seclog"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Reporter is told what the host does. Its methods must not wait.
type Reporter interface {
	// Applied says that the switch carries out all up to a revision.
	Applied(incarnation string, revision uint64)
	// Report tells what has changed since the last report.
	Report(r *api.Report)
	// Answer answers a request.
	Answer(a *api.Answer)
}

// Parts are what an agent works with beside its configuration. All may be nil.
type Parts struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Reporter Reporter
	Now      func() time.Time
	// Stderr is where records of security group logs go that are to go to no file.
	Stderr io.Writer
}

// Agent is the agent of a host.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	core     *core
	registry prometheus.Registerer
	metrics  *metrics
	reporter Reporter
	db       *ovsdb.Client
	writer   *writer
	switcher *switcher
	apps     *apps.Apps
	seclog   *seclog.Logger
	limits   *limits
	liveness *liveness // nil: no pool
	wake     chan struct{}
	report   chan struct{}
	requests chan *api.ToAgent
	lifts    lifts

	mu   sync.Mutex // guards the fields below
	news news
	told *sync.Cond // the core or the switch has gone on
	ends bool
}

// New returns an agent that does nothing until Run.
func New(cfg Config, with Parts) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if with.Log == nil {
		with.Log = slog.New(slog.DiscardHandler)
	}
	if with.Now == nil {
		with.Now = time.Now
	}
	a := &Agent{cfg: cfg, log: with.Log, reporter: with.Reporter, registry: with.Metrics, core: newCore(cfg, with.Now), wake: make(chan struct{}, 1), report: make(chan struct{}, 1),
		requests: make(chan *api.ToAgent, maxRequests), lifts: lifts{open: map[uint8]*lift{}}}
	a.told = sync.NewCond(&a.mu)
	a.core.alarmed = a.report
	a.metrics = newMetrics(with.Metrics, a.core)
	var err error
	a.db, err = ovsdb.New(ovsdb.Config{Endpoint: cfg.OVSDB, Database: "Open_vSwitch", Models: models(), Lock: cfg.lock(), Changed: a.databaseChanged, MaxBackoff: time.Second}, with.Log)
	if err != nil {
		return nil, err
	}
	a.writer = &writer{cfg: cfg, log: with.Log, core: a.core, db: a.db, wake: make(chan struct{}, 1)}
	a.apps, err = apps.New(apps.Config{Host: cfg.Host, Store: a.core.store, Send: a.send, Learned: a.learned, Metadata: cfg.Metadata, Log: with.Log,
		Registerer: with.Metrics, Now: with.Now})
	if err != nil {
		return nil, err
	}
	a.seclog, err = seclog.New(cfg.SecurityLog, seclog.Parts{Host: cfg.Host, Store: a.core.store, RuleOf: a.core.ruleOf, Stderr: with.Stderr, Log: with.Log,
		Registerer: with.Metrics, Now: with.Now})
	if err != nil {
		return nil, err
	}
	if a.liveness, err = newLiveness(a); err != nil {
		return nil, err
	}
	a.limits = newLimits(cfg, a.core, a.report)
	a.switcher = &switcher{cfg: cfg, log: with.Log, core: a.core, packetIn: a.packetIn, ports: a.portTold, metrics: a.metrics, wake: make(chan struct{}, 1),
		audit: make(chan chan<- answer), again: make(chan chan<- error), carried: a.carried, connected: a.limits.again}
	return a, nil
}

// maxCommits bounds how many revisions wait to be looked at.
const maxCommits = 16

// Commit hands the agent a revision of the desired state. It does not wait for it to be carried out, but for those before to have been looked at, where
// there are many; its error is ctx's.
func (a *Agent) Commit(ctx context.Context, c Commit) error {
	stop := context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.told.Broadcast()
	})
	defer stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.news.commits) >= maxCommits && !c.Snapshot {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.told.Wait()
	}
	if c.Snapshot {
		a.news.commits = a.news.commits[:0] // what has not been looked at yet does not matter any more
	}
	a.news.commits = append(a.news.commits, c)
	a.news.begin()
	poke(a.wake)
	return nil
}

// learned takes neighbours that were found and lost on this host.
func (a *Agent) learned(found []state.Object, lost []state.Ref) {
	a.local(found, lost)
	if a.reporter != nil {
		a.reporter.Report(neighborReport(found, lost))
	}
}

// local takes objects that this host makes and takes away.
func (a *Agent) local(set []state.Object, gone []state.Ref) {
	a.mu.Lock()
	a.news.local, a.news.gone = append(a.news.local, set...), append(a.news.gone, gone...)
	a.news.begin()
	a.mu.Unlock()
	poke(a.wake)
}

// send sends answers by the connection that there is now. Without one they are lost: who asked asks again.
func (a *Agent) send(ctx context.Context, replies []apps.Reply) error {
	conn := a.switcher.connection()
	if conn == nil {
		return fault.New(fault.Unavailable, "agents/agent.send", "no connection to the switch")
	}
	return apps.Sender(a.core.store, conn)(ctx, replies)
}

// State is the replica that the agent works from.
func (a *Agent) State() *state.Store { return a.core.store }

// StateFile tells of a state file that could not be taken, or with nil that one was.
func (a *Agent) StateFile(err error) {
	a.core.alarm(err != nil, alarmState, a.cfg.Host, "%v", err)
}

func (a *Agent) databaseChanged(changes []ovsdb.Change) {
	a.mu.Lock()
	a.news.database = append(a.news.database, changes...)
	a.news.synced = true
	a.news.begin()
	a.mu.Unlock()
	poke(a.wake)
}

// portTold takes what the switch says of a port.
func (a *Agent) portTold(w portWord) {
	a.mu.Lock()
	a.news.ports = append(a.news.ports, w)
	a.news.begin()
	a.mu.Unlock()
	poke(a.wake)
}

// carried is called when the switch has carried a generation out.
func (a *Agent) carried() {
	if changes := a.core.carriedChanges(); len(changes) > 0 {
		a.apps.Changed(changes)
	}
	poke(a.writer.wake)
	poke(a.report)
	a.mu.Lock()
	a.told.Broadcast()
	a.mu.Unlock()
}

// ErrTaken says that another agent has the bridge.
var ErrTaken = errors.New("another headwater-agent has the bridge")

// Run works until ctx ends. The switch goes on with the flows that it has.
func (a *Agent) Run(ctx context.Context) error {
	// The database is left last, so that a word can be left there.
	after, leave := context.WithCancel(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var db errgroup.Group
	db.Go(func() error {
		defer cancel()
		return a.db.Run(after)
	})
	err := a.run(ctx)
	last, done := context.WithTimeout(after, time.Second)
	err = errors.Join(err, a.writer.leave(last))
	done()
	leave()
	return errors.Join(err, db.Wait())
}

func (a *Agent) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.guard(ctx) })
	g.Go(func() error { return a.apps.Run(ctx) })
	g.Go(func() error { return a.seclog.Run(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		a.mu.Lock()
		a.ends = true
		a.told.Broadcast()
		a.mu.Unlock()
		return nil
	})
	g.Go(func() error {
		if err := a.own(ctx); err != nil {
			return err
		}
		g.Go(func() error { return a.control(ctx) })
		g.Go(func() error { return a.think(ctx) })
		g.Go(func() error { return a.writer.Run(ctx) })
		g.Go(func() error { return a.switcher.Run(ctx) })
		g.Go(func() error { return a.tell(ctx) })
		g.Go(func() error { return a.answerRequests(ctx) })
		g.Go(func() error { return a.count(ctx) })
		g.Go(func() error { return a.limits.Run(ctx) })
		if a.liveness != nil {
			g.Go(func() error { return a.liveness.Run(ctx) })
			g.Go(func() error { return a.liveness.Watch(ctx) })
		}
		return nil
	})
	return g.Wait()
}

// own waits until the bridge is this agent's. The lock ends with the connection of whoever had it, so that an agent that has just
// died is in nobody's way.
func (a *Agent) own(ctx context.Context) error {
	if err := a.db.Synced(ctx); err != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	limit, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := a.db.Await(limit, func(*ovsdb.View) (bool, error) { return a.db.Held(), nil })
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w %s: the lock %s of %s is held", ErrTaken, a.cfg.Bridge, a.cfg.lock(), a.cfg.OVSDB)
	}
	return nil
}

// guard ends the agent when somebody else has taken the bridge over.
func (a *Agent) guard(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	lost := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if lost++; !a.db.Connected() || a.db.Held() {
			lost = 0
		}
		if lost > 5 {
			return fmt.Errorf("%w %s: the lock %s of %s was lost", ErrTaken, a.cfg.Bridge, a.cfg.lock(), a.cfg.OVSDB)
		}
	}
}

// think takes in what has become known, all that there is at a time.
func (a *Agent) think(ctx context.Context) error {
	for {
		a.mu.Lock()
		n := a.news
		a.news = news{}
		a.mu.Unlock()
		if !n.empty() {
			began := time.Now()
			e := a.core.take(n)
			a.metrics.compile.Observe(time.Since(began).Seconds())
			if e.program {
				poke(a.switcher.wake)
			}
			if e.wiring {
				a.writer.wiring.Store(true)
			}
			poke(a.writer.wake)
			poke(a.limits.wake)
			poke(a.report)
			a.mu.Lock()
			a.told.Broadcast()
			a.mu.Unlock()
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		}
	}
}
