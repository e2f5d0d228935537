package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/interest"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Server hands out the state of one site.
type Server struct {
	cfg      Config
	metrics  *metrics
	children sync.WaitGroup // goroutines of streams

	mu          sync.Mutex // guards the fields below and all of sessions and hosts
	incarnation string     // "": nothing is held yet
	revision    uint64
	objects     map[state.Ref]*frame.Object
	graph       *interest.Graph
	ring        ring
	sessions    map[*session]struct{}
	hosts       map[string]*host
	moved       chan struct{} // closed and replaced when there is a revision or a host has applied one
	asks        map[uint64]*ask
	lastAsk     uint64
}

// New checks the configuration. Nothing happens before Run.
func New(cfg Config) (*Server, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, objects: map[state.Ref]*frame.Object{}, graph: interest.New(), ring: ring{limit: cfg.Ring},
		sessions: map[*session]struct{}{}, hosts: map[string]*host{}, moved: make(chan struct{}), asks: map[uint64]*ask{}}
	s.lastAsk = uint64(cfg.Now().UnixNano()) //nolint:gosec // only has to differ from those of another start
	var err error
	s.metrics, err = newMetrics(cfg.Metrics, s)
	return s, err
}

// Run follows the source and serves streams until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.cfg.Credentials.Server())),
		grpc.ForceServerCodecV2(frame.Codec()),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(subscribeLimit),
		grpc.MaxConcurrentStreams(4), // one, and those that are just ending
		// A thousand streams that mostly rest: buffers of 32 KiB each way would be most of their memory.
		grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(16<<10),
	)
	api.RegisterNetworkStateServer(server, service{server: s})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.cfg.Source.Watch(ctx, s) })
	g.Go(func() error {
		if err := server.Serve(s.cfg.Listener); err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve streams: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		s.keepHouse(ctx)
		server.Stop()
		return nil
	})
	err := g.Wait()
	s.children.Wait()
	return err
}

// Apply takes a revision of the source. It implements Sink.
func (s *Server) Apply(ctx context.Context, f *frame.Frame) error {
	began := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	set, gone := s.changes(f)
	parsed, refused := s.parse(ctx, set)
	deltas, step := s.graph.Apply(parsed, append(refused, gone...))
	for _, r := range gone {
		delete(s.objects, r)
	}
	for _, o := range set {
		s.objects[o.Ref] = o
	}
	if f.Incarnation != s.incarnation {
		s.restart(f)
	} else {
		s.ring.push(f.Revision, step, set, gone)
		s.revision = f.Revision
		s.spread(deltas, set, gone)
	}
	for name := range deltas {
		s.concern(name, began)
	}
	s.watchHosts(parsed)
	s.notify()
	s.metrics.commits.Inc()
	s.metrics.applySeconds.Observe(s.cfg.Now().Sub(began).Seconds())
	return nil
}

// spread queues a revision for all whom it concerns.
func (s *Server) spread(deltas map[string]interest.Delta, set []*frame.Object, gone []state.Ref) {
	for name, d := range deltas {
		if x := s.hosts[name].route; x != nil && x.relay == "" {
			s.enqueue(x, d)
		}
	}
	for x := range s.sessions {
		switch {
		case x.ahead:
			s.start(x)
		case x.relay != "":
			s.enqueueAll(x, set, gone)
		}
	}
}

// watchHosts watches the hosts of the site from their first revision on, so that one that comes from another relay can go on here where it was.
func (s *Server) watchHosts(set []state.Object) {
	for _, o := range set {
		if h, ok := o.(*state.Host); ok && s.hosts[h.ID] == nil && (h.Site == "" || h.Site == s.cfg.Site) {
			s.watch(h.ID)
		}
	}
}

// watch keeps the set of a host from now on.
func (s *Server) watch(name string) *host {
	h := &host{watched: s.revision}
	s.hosts[name] = h
	s.graph.Watch(name)
	return h
}

// notify wakes whoever waits for hosts to apply a revision.
func (s *Server) notify() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// changes are what a revision changes.
func (s *Server) changes(f *frame.Frame) (set []*frame.Object, gone []state.Ref) {
	for _, r := range f.Gone {
		if s.objects[r] != nil {
			gone = append(gone, r)
		}
	}
	if f.Snapshot {
		stays := make(map[state.Ref]struct{}, len(f.Set))
		for _, o := range f.Set {
			stays[o.Ref] = struct{}{}
		}
		for r := range s.objects {
			if _, ok := stays[r]; !ok {
				gone = append(gone, r)
			}
		}
	}
	for _, o := range f.Set {
		if old := s.objects[o.Ref]; old == nil || old.Number != o.Number {
			set = append(set, o)
		}
	}
	return set, gone
}

// parse reads what decides about sets. An object that cannot be read is in no host's set; relays below are sent it all the same.
func (s *Server) parse(ctx context.Context, set []*frame.Object) (out []state.Object, refused []state.Ref) {
	for _, o := range set {
		p, err := o.Parse()
		if err == nil {
			out = append(out, p)
			continue
		}
		refused = append(refused, o.Ref)
		if !errors.Is(err, state.ErrUnknownKind) {
			s.metrics.unread.Inc()
			s.cfg.Log.ErrorContext(ctx, "an object was left out", "kind", o.Ref.Kind.String(), "object", o.Ref.ID, "err", err)
		}
	}
	return out, refused
}

// restart begins another incarnation: no client can go on from what it has.
func (s *Server) restart(f *frame.Frame) {
	s.incarnation, s.revision = f.Incarnation, f.Revision
	s.ring.reset(f.Revision)
	for _, h := range s.hosts {
		h.watched, h.applied, h.concern = f.Revision, 0, 0
		h.since = time.Time{}
	}
	for x := range s.sessions {
		if x.ahead { // it came before there was anything here, and may have just this
			s.start(x)
		} else {
			s.snapshot(x, reasonIncarnation)
		}
	}
}

// concern notes that a revision matters to a host, and with it what waits for hosts to apply it.
func (s *Server) concern(name string, now time.Time) {
	h := s.hosts[name]
	h.concern = s.revision
	if h.since.IsZero() {
		h.since = now
	}
}

// ring remembers the last revisions.
type ring struct {
	limit   int
	base    uint64 // the revision before the first entry
	entries []entry
	first   int // of entries: those before are forgotten
}

type entry struct {
	revision uint64
	step     *interest.Step
	changed  []state.Ref
}

func (r *ring) reset(revision uint64) { *r = ring{limit: r.limit, base: revision} }

func (r *ring) push(revision uint64, step *interest.Step, set []*frame.Object, gone []state.Ref) {
	e := entry{revision, step, make([]state.Ref, 0, len(set)+len(gone))}
	for _, o := range set {
		e.changed = append(e.changed, o.Ref)
	}
	e.changed = append(e.changed, gone...)
	r.entries = append(r.entries, e)
	if len(r.entries)-r.first > r.limit {
		r.base = r.entries[r.first].revision
		r.entries[r.first] = entry{}
		r.first++
	}
	if r.first > r.limit { // moved seldom, so that it costs little
		r.entries = append([]entry(nil), r.entries[r.first:]...)
		r.first = 0
	}
}

// since returns the entries after a revision, if that is one which was handed out.
func (r *ring) since(revision uint64) ([]entry, bool) {
	list := r.entries[r.first:]
	if revision == r.base {
		return list, true
	}
	low, high := 0, len(list)
	for low < high {
		if mid := (low + high) / 2; list[mid].revision < revision {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(list) && list[low].revision == revision {
		return list[low+1:], true
	}
	return nil, false
}
