package members

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Pool is one member's part of a pool. Its methods may be called at the same time.
type Pool struct {
	cfg     Config
	id      ID
	log     *slog.Logger
	now     func() time.Time
	random  func() float64 // in [0, 1)
	metrics *metrics
	listen  func(context.Context, netip.AddrPort) (sockets, error)
	resolve func(context.Context, string) ([]netip.Addr, error)
	wake    chan struct{} // holds one: the view changed. Never closed
	retell  chan struct{} // holds one: the announcement changed. Never closed

	keysMu sync.Mutex // serializes changes; the ring has its own lock
	keys   *memberlist.Keyring

	session atomic.Pointer[session] // of the Run that runs; nil: none does

	mu        sync.Mutex // guards the fields below; nothing of memberlist's is called while it is held
	says      announcement
	announced []byte // says, encoded
	members   map[ID]Member
	conflicts map[conflictKey]*conflict
	view      *View // nil: it is to be made anew
}

// ErrStay, as the cause with which Run's context ends, says that this host's agent will be back at once, after a restart or an upgrade: Run
// ends without leaving, and the others do not notice an absence of less than some seconds.
var ErrStay = errors.New("members: this member will be back")

// New returns a pool that does nothing until Run; its metrics are registered.
func New(cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{
		cfg: cfg, id: ID{cfg.Site, cfg.Host}, log: cfg.Log, now: cfg.Now, random: rand.Float64, listen: listen, resolve: lookUp,
		wake: make(chan struct{}, 1), retell: make(chan struct{}, 1),
		members: map[ID]Member{}, conflicts: map[conflictKey]*conflict{},
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.log = p.log.With("pool", cfg.Scope.String(), "site", string(cfg.Site))
	var err error
	if p.keys, err = keyring(cfg.Keys); err != nil {
		return nil, err
	}
	if err := p.say(func(a *announcement) { a.Meta = cfg.Meta }); err != nil {
		return nil, err
	}
	p.metrics = newMetrics(p)
	return p, p.metrics.register(cfg.Registerer)
}

func keyring(keys []ident.Secret) (*memberlist.Keyring, error) {
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		var err error
		if raw[i], err = decodeKey(k); err != nil {
			return nil, err
		}
	}
	return memberlist.NewKeyring(raw, raw[0])
}

func lookUp(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// Run joins the pool and takes part in it until ctx ends. Then it says goodbye, unless ctx ended because of ErrStay, and returns nil. It tries
// until it finds a seed, and finds the others again however long it was cut off from them.
//
// It returns fault.Conflict when another machine holds the host id; that machine stays a member. It returns what the system said when it could
// not listen. Run may be called again after it returned, not before.
//
// When it returns it has ended what it started and closed what it opened, and Changed is called no more; only a question that memberlist asked
// before may wait for its answer a little longer, until it gives up and ends.
func (p *Pool) Run(ctx context.Context) error {
	s := &session{pool: p, lost: make(chan error, 1)}
	if !p.session.CompareAndSwap(nil, s) {
		return fault.New(fault.Conflict, "agents/members.Run", "the pool runs already")
	}
	defer p.session.Store(nil)
	if err := p.begin(); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	err := s.serve(ctx)
	if err == nil && !errors.Is(context.Cause(ctx), ErrStay) {
		s.leave(ctx)
	}
	s.close(ctx)
	return err
}

// begin forgets an earlier Run.
func (p *Pool) begin() error {
	p.mu.Lock()
	clear(p.members)
	clear(p.conflicts)
	p.view = nil
	p.mu.Unlock()
	return p.say(func(a *announcement) {
		now := p.now()
		a.Joined, a.Boot, a.Bound = false, p.cfg.Boot, p.cfg.Bound
		if a.Boot == 0 {
			a.Boot = millis(now)
		}
		if a.Bound.IsZero() {
			a.Bound = now
		}
	})
}

// View is what is known now. It has nobody before Run, and what was known last after it.
func (p *Pool) View() *View {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view == nil {
		v := &View{self: p.id, members: slices.SortedFunc(maps.Values(p.members), func(a, b Member) int { return a.ID.Compare(b.ID) })}
		for _, c := range p.conflicts {
			v.conflicts = append(v.conflicts, c.Conflict)
		}
		slices.SortFunc(v.conflicts, compareConflicts)
		p.view = v
	}
	return p.view
}

// Update changes what this member announces, and returns before the others know; while Run runs they are told within some gossip intervals,
// of the last of several changes at once. What cannot be announced is refused with fault.BadRequest and changes nothing.
func (p *Pool) Update(change func(*Meta)) error {
	err := p.say(func(a *announcement) { change(&a.Meta) })
	if err == nil {
		signal(p.retell)
	}
	return err
}

// say changes the announcement.
func (p *Pool) say(change func(*announcement)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.says
	next.Ends = slices.Clone(next.Ends)
	change(&next)
	next.Ends = slices.Clone(next.Ends)
	raw, err := next.encode()
	if err != nil {
		return err
	}
	p.says, p.announced = next, raw
	return nil
}

// joined notes that the pool has accepted this member.
func (p *Pool) joined() {
	p.mu.Lock()
	already := p.says.Joined
	p.mu.Unlock()
	if already {
		return
	}
	if err := p.say(func(a *announcement) { a.Joined = true }); err == nil { // it is a bit of a byte that is sent anyway
		signal(p.retell)
	}
}

// change edits the members or conflicts and has the view told.
func (p *Pool) change(edit func()) {
	p.mu.Lock()
	edit()
	p.view = nil
	p.mu.Unlock()
	signal(p.wake)
}

// forget drops what has been gone for long, and conflicts that are over.
func (p *Pool) forget() {
	now := p.now()
	p.mu.Lock()
	gone := 0
	for id, m := range p.members {
		if m.State != Alive && now.Sub(m.Since) > p.cfg.Forget {
			delete(p.members, id)
			gone++
		}
	}
	for key, c := range p.conflicts {
		if time.Since(c.last) > conflictOver {
			delete(p.conflicts, key)
			gone++
		}
	}
	if gone > 0 {
		p.view = nil
	}
	p.mu.Unlock()
	if gone > 0 {
		signal(p.wake)
	}
}

// signal leaves word for who waits on c; one word is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// queued is how many packets wait to be looked at.
func (p *Pool) queued() int {
	if s := p.session.Load(); s != nil && s.ready.Load() {
		return s.transport.queued()
	}
	return 0
}

// degraded is memberlist's health score.
func (p *Pool) degraded() int {
	if s := p.session.Load(); s != nil && s.ready.Load() {
		return s.list.GetHealthScore()
	}
	return 0
}

// configure is memberlist's configuration.
func (p *Pool) configure(ctx context.Context, s *session) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	if p.cfg.Scope == WAN {
		c = memberlist.DefaultWANConfig()
	}
	at := p.cfg.advertise()
	c.Name, c.Label = p.id.String(), p.cfg.label()
	c.Transport = s.transport
	c.BindAddr, c.BindPort = p.cfg.Bind.Addr().String(), int(p.cfg.Bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = at.Addr().String(), int(at.Port())
	c.Keyring = p.keys
	c.Delegate, c.Events, c.Conflict, c.Merge, c.Alive = s, s, s, s, s
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = p.cfg.Probe, p.cfg.ProbeTimeout, p.cfg.Suspicion
	c.GossipInterval, c.PushPullInterval = p.cfg.Gossip, p.cfg.Sync
	c.EnableCompression = false
	c.DeadNodeReclaimTime = reclaim
	c.Logger = newGossipLog(ctx, p.log, p.metrics)
	return c
}

// reclaim is how long a host id stays with the address of a member that died, before a machine with another address may have it.
const reclaim = 10 * time.Second

// open listens and makes this member one, of a pool of its own at first.
func (s *session) open(ctx context.Context) error {
	p := s.pool
	socks, err := p.listen(ctx, p.cfg.Bind)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "agents/members.Run", fmt.Errorf("listen: %w", err))
	}
	s.transport = newTransport(ctx, socks, p.cfg.advertise(), p.metrics)
	s.list, err = memberlist.Create(p.configure(ctx, s))
	if err != nil {
		s.over.Store(true)
		return errors.Join(fault.Wrap(fault.Internal, "agents/members.Run", err), s.transport.Shutdown())
	}
	s.ready.Store(true)
	return nil
}
