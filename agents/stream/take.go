package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/state"
)

// The codes of the alarms that a client raises.
const (
	AlarmObjectRefused = "object-refused" // an object that could not be read is left out
	AlarmStateFile     = "state-file"     // the file that keeps the state cannot be written, or could not be read
)

// holding is what was given last. The file's goroutine reads it too.
type holding struct {
	incarnation string
	revision    uint64
	received    int // frames, since the start

	objects *held
	digests frame.Digests
}

// held are the objects, shared with the file's goroutine.
type held struct {
	mu  sync.Mutex // guards the map
	all map[state.Ref]*frame.Object
}

func newHolding() holding { return holding{objects: &held{all: map[state.Ref]*frame.Object{}}} }

// list are the objects in their order.
func (h *holding) list() []*frame.Object { return h.objects.list() }

func (h *held) list() []*frame.Object {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.Collect(maps.Values(h.all))
	slices.SortFunc(out, frame.Compare)
	return out
}

// apply makes the holding what a frame says, and returns the frame as the changes that it makes.
func (h *holding) apply(f *frame.Frame) *frame.Frame {
	h.objects.mu.Lock()
	defer h.objects.mu.Unlock()
	out := &frame.Frame{Incarnation: f.Incarnation, Revision: f.Revision}
	gone := f.Gone
	if f.Snapshot {
		stays := make(map[state.Ref]struct{}, len(f.Set))
		for _, o := range f.Set {
			stays[o.Ref] = struct{}{}
		}
		for r := range h.objects.all {
			if _, ok := stays[r]; !ok {
				gone = append(gone, r)
			}
		}
	}
	for _, r := range gone {
		if old := h.objects.all[r]; old != nil {
			h.digests.Remove(old)
			delete(h.objects.all, r)
			out.Gone = append(out.Gone, r)
		}
	}
	for _, o := range f.Set {
		old := h.objects.all[o.Ref]
		if old != nil && old.Number == o.Number {
			continue
		}
		if old != nil {
			h.digests.Remove(old)
		}
		h.digests.Add(o)
		h.objects.all[o.Ref] = o
		out.Set = append(out.Set, o)
	}
	h.incarnation, h.revision = f.Incarnation, f.Revision
	slices.SortFunc(out.Gone, state.Ref.Compare)
	return out
}

// take applies a whole frame and hands it on.
func (c *Client) take(ctx context.Context, f *frame.Frame) error {
	if !f.Snapshot && (c.fresh || f.Incarnation != c.held.incarnation || f.Revision < c.held.revision) {
		c.fresh = true
		return fmt.Errorf("revision %d of %s cannot follow %d of %s", f.Revision, f.Incarnation, c.held.revision, c.held.incarnation)
	}
	if f.Snapshot {
		c.metrics.snapshots.Inc()
		c.fresh = false
	}
	for _, err := range f.Bad {
		c.metrics.unread.Inc()
		c.cfg.Log.ErrorContext(ctx, "an object without a name was left out", "err", err)
	}
	first := !c.handed
	changes := c.held.apply(f)
	c.held.received++
	if first {
		changes.Snapshot, changes.Set, changes.Gone = true, c.held.list(), nil
	}
	c.metrics.revision.Set(float64(f.Revision))
	c.file.add(changes)
	if err := c.hand(ctx, changes); err != nil {
		return err
	}
	if kind, differs := c.held.digests.Differs(f.Digests); differs {
		c.fresh = true
		c.metrics.differed.Inc()
		return fmt.Errorf("at revision %d the objects of kind %s are not the server's: a snapshot is asked for", f.Revision, kind)
	}
	return nil
}

// hand gives a revision to whoever takes it.
func (c *Client) hand(ctx context.Context, f *frame.Frame) error {
	c.handed = true
	c.metrics.objects.Set(float64(len(c.held.objects.all)))
	c.metrics.commits.Inc()
	if c.cfg.Frame != nil {
		return taken(c.cfg.Frame(ctx, f))
	}
	out := Commit{Incarnation: f.Incarnation, Revision: f.Revision, Snapshot: f.Snapshot, Gone: f.Gone}
	for _, r := range f.Gone {
		c.readable(r)
	}
	for _, o := range f.Set {
		parsed, err := o.Parse()
		if err == nil {
			c.readable(o.Ref)
			out.Set = append(out.Set, parsed)
			continue
		}
		if !f.Snapshot { // what it was before counts no more either: after a restart it would not be there
			out.Gone = append(out.Gone, o.Ref)
		}
		if !errors.Is(err, state.ErrUnknownKind) {
			c.unreadable(ctx, o.Ref, err)
		}
	}
	return taken(c.cfg.Commit(ctx, out))
}

func taken(err error) error {
	if err != nil {
		return errTaker{err}
	}
	return nil
}

// unreadable raises an alarm for an object that is left out, readable ends it.
func (c *Client) unreadable(ctx context.Context, r state.Ref, err error) {
	c.refused[r] = struct{}{}
	c.metrics.unread.Inc()
	c.cfg.Log.ErrorContext(ctx, "an object was left out", "kind", r.Kind.String(), "object", r.ID, "err", err)
	c.alarm(AlarmObjectRefused, r.String(), err.Error(), false)
}

func (c *Client) readable(r state.Ref) {
	if _, was := c.refused[r]; was {
		delete(c.refused, r)
		c.alarm(AlarmObjectRefused, r.String(), "", true)
	}
}
