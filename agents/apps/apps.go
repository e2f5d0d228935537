package apps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Config is what the services need of the agent around them.
type Config struct {
	// Host is this host's id.
	Host string
	// Store holds the desired state, and what is plugged. The services only read it.
	Store *state.Store
	// Send sends replies to the switch. It is called by several goroutines at once.
	Send func(context.Context, []Reply) error
	// Learned is told of neighbours that were found and lost: for the store, and for whoever is above. It may call the store. nil: nobody is told.
	Learned func(found []state.Object, lost []state.Ref)
	// Metadata is the site's metadata service.
	Metadata MetadataConfig
	// Workers is how many packets are answered at once; 0: as many as Go runs at once, up to 4.
	Workers int
	// Rate is how many packets a second are answered in all; 0: 100,000.
	Rate float64
	// Log gets what an operator should see; nil: nobody.
	Log *slog.Logger
	// Registerer gets the metrics; nil: nobody.
	Registerer prometheus.Registerer
	// Now and Rand stand for time.Now and rand.Float64 where they are nil.
	Now  func() time.Time
	Rand func() float64
}

// Validate reports all that is wrong.
func (c *Config) Validate() error {
	var errs []error
	if c.Host == "" {
		errs = append(errs, errors.New("no host"))
	}
	if c.Store == nil || c.Send == nil {
		errs = append(errs, errors.New("no store or no way to send"))
	}
	if c.Workers < 0 || c.Workers > 256 {
		errs = append(errs, fmt.Errorf("workers %d: at most 256", c.Workers))
	}
	if c.Rate < 0 {
		errs = append(errs, fmt.Errorf("rate %g: packets a second", c.Rate))
	}
	return errors.Join(append(errs, c.Metadata.Validate())...)
}

// Apps are the services of a host.
type Apps struct {
	cfg       Config
	chain     *chain
	metrics   *metrics
	metadata  *metadata // nil: none
	admission *admission
	workers   []*worker
	announcer *announcer
	periodic  *advertiser
	timed     []timed
	kick      chan struct{} // something may be due before what was expected
}

// worker answers the packets of some ports, one after the other.
type worker struct {
	queue  chan *Packet
	queued atomic.Int64 // and being answered

	mu sync.Mutex // guards the field below; held by who answers a packet at once
	c  Case
}

// queueFor is the time whose packets each queue has room for: twice the bursts that are admitted, all of which may be of one worker's ports.
const queueFor = 2 * burstFor

// New makes the services. Run runs them.
func New(cfg Config) (*Apps, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("packet services: %w", err)
	}
	if cfg.Workers == 0 {
		cfg.Workers = min(runtime.GOMAXPROCS(0), 4)
	}
	if cfg.Rate == 0 {
		cfg.Rate = 100_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Apps{cfg: cfg, metrics: newMetrics(), kick: make(chan struct{}, 1)}
	if cfg.Registerer != nil {
		if err := a.metrics.register(cfg.Registerer); err != nil {
			return nil, err
		}
	}
	if err := a.assemble(); err != nil {
		return nil, err
	}
	a.admission = newAdmission(cfg.Rate)
	for range cfg.Workers {
		a.workers = append(a.workers, &worker{queue: make(chan *Packet, max(256, int(cfg.Rate*queueFor.Seconds())))})
	}
	return a, nil
}

// assemble builds the chain. The altitudes leave room between them.
func (a *Apps) assemble() error {
	alarm, errs := newAlarms(a.cfg.Log), newICMPErrors()
	neighbours, owners := newResolver(a.cfg.Host, errs), newOwners(a.cfg.Host)
	a.announcer, a.periodic = newAnnouncer(a.cfg.Host), newAdvertiser(a.cfg.Host, a.cfg.Rand)
	a.timed = []timed{a.periodic, a.announcer, neighbours, owners}
	four, six := &dhcp4{alarm}, &dhcp6{alarm}
	directors := []director{
		{"dhcpv4", 800, []flows.Op{flows.OpDHCPv4}, true, four.direct},
		{"dhcpv6", 790, []flows.Op{flows.OpDHCPv6}, true, six.direct},
		{"advertisement", 780, []flows.Op{flows.OpSolicit}, true, solicited{}.direct},
		{"owner", 710, []flows.Op{flows.OpAnnounce, flows.OpNeighbor}, false, owners.learn},
		{"learn", 705, []flows.Op{flows.OpAnnounce, flows.OpNeighbor}, false, neighbours.learn},
		{"neighbor", 700, []flows.Op{flows.OpNeighbor}, false, neighbours.direct},
		{"icmp-error", 600, []flows.Op{flows.OpTTL, flows.OpTooBig, flows.OpUnreachable}, true, errs.direct},
		{"dns", 400, []flows.Op{flows.OpDNS}, false, namesOfPorts{}.direct}, // an address is looked for among all ports of its network
	}
	if a.cfg.Metadata.Upstream != "" {
		m, err := newMetadata(a.cfg.Metadata, a.cfg.Store, a.metrics, a.cfg.Log)
		if err != nil {
			return err
		}
		a.metadata = m
		directors = append(directors, director{"metadata", 500, []flows.Op{flows.OpMetadata}, false, m.direct})
	}
	a.chain = newChain(a.cfg.Log, []advisor{findOwner}, directors, []observer{a.metrics.observe})
	return nil
}

// Submit takes a packet to be answered and says whether it was admitted. It never waits; what it does not admit is counted.
func (a *Apps) Submit(p Packet) bool { return a.admit(&p) && a.enqueue(p) }

// Answer is Submit that answers the packet before it returns, where that is quickly done and no other one of its port waits to be answered: waking a worker takes
// longer than most answers.
func (a *Apps) Answer(ctx context.Context, p Packet) bool {
	if !a.admit(&p) {
		return false
	}
	w := a.workerOf(&p)
	if !a.chain.quick[p.Op] || w.queued.Load() > 0 || !w.mu.TryLock() {
		return a.enqueue(p)
	}
	defer w.mu.Unlock()
	a.answer(ctx, &w.c, &p)
	return true
}

func (a *Apps) workerOf(p *Packet) *worker { return a.workers[int(p.sender())%len(a.workers)] }

func (a *Apps) admit(p *Packet) bool {
	by := p.sender()
	ok := a.admission.allow(by, a.cfg.Now())
	if !ok {
		a.metrics.dropped(by, "share")
	}
	return ok
}

func (a *Apps) enqueue(p Packet) bool {
	w := a.workerOf(&p)
	w.queued.Add(1)
	select {
	case w.queue <- &p:
		return true
	default:
		w.queued.Add(-1)
		a.metrics.dropped(p.sender(), "queue")
		return false
	}
}

// Changed tells the services what has changed in the store, once the switch carries it out.
func (a *Apps) Changed(changes []state.Change) {
	a.cfg.Store.Read(func(v *state.View) { a.announcer.changed(v, changes, a.cfg.Now()) })
	a.periodic.changed(changes)
	a.wake()
}

func (a *Apps) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// Run answers packets until ctx ends.
func (a *Apps) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range a.workers {
		g.Go(func() error { a.work(ctx, w); return nil })
	}
	g.Go(func() error { a.tick(ctx); return nil })
	if a.metadata != nil {
		g.Go(func() error { return a.metadata.run(ctx, a.cfg.Send) })
	}
	return g.Wait()
}

func (a *Apps) work(ctx context.Context, w *worker) {
	c := &Case{}
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-w.queue:
			a.answer(ctx, c, p)
			w.queued.Add(-1)
		}
	}
}

// answer has the chain answer a packet, and delivers what it gave.
func (a *Apps) answer(ctx context.Context, c *Case, p *Packet) Outcome {
	var o Outcome
	a.cfg.Store.Read(func(v *state.View) { o = a.chain.answer(c, p, v, a.cfg.Now()) })
	a.deliver(ctx, c)
	if o == Noted && (p.Op == flows.OpNeighbor || p.Op == flows.OpAnnounce) {
		a.wake() // there is something to ask for again
	}
	return o
}

// deliver sends and tells what a case gave, outside of the store.
func (a *Apps) deliver(ctx context.Context, c *Case) {
	if len(c.Learned)+len(c.Gone) > 0 && a.cfg.Learned != nil {
		a.cfg.Learned(c.Learned, c.Gone)
	}
	if len(c.Replies) == 0 {
		return
	}
	if err := a.cfg.Send(ctx, c.Replies); err != nil && ctx.Err() == nil {
		a.metrics.unsent.Add(float64(len(c.Replies))) // the switch has gone: clients ask again
	}
}

// tick runs what is due of its own accord.
func (a *Apps) tick(ctx context.Context) {
	c := &Case{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.kick:
		case <-timer.C:
		}
		if next := a.due(ctx, c); !next.IsZero() {
			timer.Reset(max(0, next.Sub(a.cfg.Now())))
		}
	}
}

// due does what is due and returns when something will be next.
func (a *Apps) due(ctx context.Context, c *Case) (next time.Time) {
	a.cfg.Store.Read(func(v *state.View) {
		c.reset(nil, v, a.cfg.Now())
		for _, t := range a.timed {
			if n := t.due(c); !n.IsZero() && (next.IsZero() || n.Before(next)) {
				next = n
			}
		}
	})
	a.metrics.sent.Add(float64(len(c.Replies)))
	a.deliver(ctx, c)
	return next
}
