package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/stream"
)

// Feed is a Source that is told each revision by its owner: a database's reader, a test, a file of states.
type Feed struct {
	tell func(*api.FromAgent)

	mu          sync.Mutex // guards the fields below; held while sinks take a revision, so that all see one order
	incarnation string
	revision    uint64
	objects     map[state.Ref]*frame.Object
	sinks       map[*Sink]struct{}
}

// NewFeed returns a feed at a revision without objects. What hosts say goes to tell, which may be nil and must not block.
func NewFeed(incarnation string, revision uint64, tell func(*api.FromAgent)) *Feed {
	return &Feed{tell: tell, incarnation: incarnation, revision: revision, objects: map[state.Ref]*frame.Object{}, sinks: map[*Sink]struct{}{}}
}

var _ Source = (*Feed)(nil)

// Commit makes the next revision: the objects of set are made or changed, those of gone are no more. It returns its number.
func (f *Feed) Commit(ctx context.Context, set []*api.Object, gone []state.Ref) (uint64, error) {
	objects := make([]*frame.Object, 0, len(set))
	for _, o := range set {
		e, err := frame.Encode(o)
		if err != nil {
			return 0, err
		}
		objects = append(objects, e)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.revision + 1
	return next, f.apply(ctx, &frame.Frame{Incarnation: f.incarnation, Revision: next, Set: objects, Gone: gone})
}

// Apply makes a revision of the owner's own numbering: higher than the last, or with Snapshot set and all objects.
func (f *Feed) Apply(ctx context.Context, r *frame.Frame) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !r.Snapshot && (r.Incarnation != f.incarnation || r.Revision <= f.revision) {
		return fmt.Errorf("revision %d of %s cannot follow %d of %s", r.Revision, r.Incarnation, f.revision, f.incarnation)
	}
	return f.apply(ctx, r)
}

func (f *Feed) apply(ctx context.Context, r *frame.Frame) error {
	if r.Snapshot {
		clear(f.objects)
	}
	for _, ref := range r.Gone {
		delete(f.objects, ref)
	}
	for _, o := range r.Set {
		f.objects[o.Ref] = o
	}
	f.incarnation, f.revision = r.Incarnation, r.Revision
	var errs []error
	for s := range f.sinks {
		errs = append(errs, (*s).Apply(ctx, r))
	}
	return errors.Join(errs...)
}

// Watch hands out the present state and then each revision.
func (f *Feed) Watch(ctx context.Context, to Sink) error {
	if err := f.join(ctx, &to); err != nil {
		return err
	}
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sinks, &to)
	return nil
}

func (f *Feed) join(ctx context.Context, to *Sink) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sinks[to] = struct{}{}
	all := slices.Collect(maps.Values(f.objects))
	slices.SortFunc(all, frame.Compare)
	return (*to).Apply(ctx, &frame.Frame{Incarnation: f.incarnation, Revision: f.revision, Snapshot: true, Set: all})
}

// Tell passes on what a host has said.
func (f *Feed) Tell(m *api.FromAgent) {
	if f.tell != nil {
		f.tell(m)
	}
}

// Upstream is the Source of a relay: another server's stream for all of the site.
type Upstream struct {
	client *stream.Client
	to     Sink // of Watch
}

var _ Source = (*Upstream)(nil)

// NewUpstream returns a source that follows the servers of a configuration, in which Host, Commit, Frame and Request are not set.
func NewUpstream(cfg stream.Config) (*Upstream, error) {
	if cfg.Host != "" || cfg.Commit != nil || cfg.Frame != nil || cfg.Request != nil {
		return nil, errors.New("a relay's upstream subscribes to the whole site and takes the frames itself")
	}
	u := &Upstream{}
	cfg.Frame = func(ctx context.Context, f *frame.Frame) error { return u.to.Apply(ctx, f) }
	cfg.Request = func(m *api.ToAgent) { u.to.Deliver(m) }
	var err error
	u.client, err = stream.New(cfg)
	return u, err
}

// Watch follows the servers until ctx ends.
func (u *Upstream) Watch(ctx context.Context, to Sink) error {
	u.to = to
	return u.client.Run(ctx)
}

// Tell passes on what a host has said, now or when there is a server again.
func (u *Upstream) Tell(m *api.FromAgent) { u.client.Send(m) }
