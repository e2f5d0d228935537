package relay

import (
	"maps"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/interest"
	"github.com/headwater-cloud/headwater/agents/state"
)

// session is one stream. The server's mutex guards its fields.
type session struct {
	host  string // "" of a relay
	relay string // "" of a host
	boot  uint64
	end   func(error) // ends the stream; safe at any time

	ahead bool   // the client has a later revision than we have, or we have none yet: it is told nothing before we have
	wants uint64 // that revision, of incarnation had
	had   string

	queue    map[state.Ref]*frame.Object // nil: gone
	bytes    int
	whole    bool // send the present state, whatever is queued
	due      bool // send a frame though nothing is queued
	revision uint64
	messages []*api.ToAgent
	wake     chan struct{}

	frames   int       // since the last digest
	digested time.Time // when that was
	told     time.Time // when the last frame was made
}

// The reasons for which a client is sent the whole state.
const (
	reasonFirst       = "first"       // it had none
	reasonOld         = "old"         // it had a revision that is not remembered
	reasonIncarnation = "incarnation" // it had another incarnation's
	reasonOverflow    = "overflow"    // it did not read as fast as things changed
)

func reasons() []string { return []string{reasonFirst, reasonOld, reasonIncarnation, reasonOverflow} }

// maxMessages bounds the requests that wait for a stream.
const maxMessages = 256

func (x *session) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// start decides what brings a client to the present.
func (s *Server) start(x *session) {
	if x.ahead = s.incarnation == "" || x.had == s.incarnation && x.wants > s.revision; x.ahead {
		return
	}
	x.digested = s.cfg.Now()
	switch {
	case x.had == "":
		s.snapshot(x, reasonFirst)
	case x.had != s.incarnation:
		s.snapshot(x, reasonIncarnation)
	case !s.resume(x):
		s.snapshot(x, reasonOld)
	}
}

// resume sends what has changed since the client's revision, if that is remembered.
func (s *Server) resume(x *session) bool {
	entries, ok := s.ring.since(x.wants)
	if !ok || x.host != "" && s.hosts[x.host].watched > x.wants {
		return false
	}
	x.revision, x.due = s.revision, true
	s.metrics.resumed.Inc()
	if x.relay != "" {
		for _, e := range entries {
			for _, r := range e.changed {
				s.put(x, r)
			}
		}
	} else {
		steps := make([]*interest.Step, 0, len(entries))
		for _, e := range entries {
			steps = append(steps, e.step)
		}
		s.enqueue(x, s.graph.Since(x.host, steps))
	}
	x.poke()
	return true
}

// snapshot makes the next frame of a stream the whole state.
func (s *Server) snapshot(x *session, reason string) {
	x.whole, x.ahead = true, false
	x.queue, x.bytes = nil, 0
	s.metrics.snapshots.WithLabelValues(reason).Inc()
	x.poke()
}

// enqueue queues what a revision means to a host.
func (s *Server) enqueue(x *session, d interest.Delta) {
	if x.whole || x.ahead {
		return
	}
	for _, r := range d.Gone {
		s.put1(x, r, nil)
	}
	for _, r := range d.Set {
		s.put1(x, r, s.objects[r])
	}
	s.queued(x)
}

// enqueueAll queues a revision for a relay.
func (s *Server) enqueueAll(x *session, set []*frame.Object, gone []state.Ref) {
	if x.whole || x.ahead {
		return
	}
	for _, r := range gone {
		s.put1(x, r, nil)
	}
	for _, o := range set {
		s.put1(x, o.Ref, o)
	}
	x.due = true // a relay is told every revision, so that its hosts can go on from each
	s.queued(x)
}

func (s *Server) queued(x *session) {
	x.revision = s.revision
	if x.bytes > s.cfg.QueueBytes {
		s.snapshot(x, reasonOverflow)
	}
	x.poke()
}

// put queues an object as it is now.
func (s *Server) put(x *session, r state.Ref) { s.put1(x, r, s.objects[r]) }

// put1 queues an object's last state; what was queued of it before is forgotten.
func (s *Server) put1(x *session, r state.Ref, o *frame.Object) {
	if x.queue == nil {
		x.queue = map[state.Ref]*frame.Object{}
	}
	old, was := x.queue[r]
	if was {
		x.bytes -= cost(r, old)
	}
	x.queue[r] = o
	x.bytes += cost(r, o)
}

// cost is what an entry of a queue counts. Objects are shared with all other streams, but nobody else may hold an old one.
func cost(r state.Ref, o *frame.Object) int {
	if o == nil {
		return len(r.ID) + 16
	}
	return o.Size() + 16
}

// take returns what is to be sent now: messages, and a frame or nil.
func (s *Server) take(x *session) ([]*api.ToAgent, *frame.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages := x.messages
	x.messages = nil
	if x.ahead || !x.whole && !x.due && len(x.queue) == 0 {
		return messages, nil
	}
	f := &frame.Frame{Incarnation: s.incarnation, Revision: s.revision}
	switch {
	case x.whole && x.relay != "":
		f.Snapshot, f.Set = true, slices.Collect(maps.Values(s.objects))
		slices.SortFunc(f.Set, frame.Compare)
	case x.whole:
		f.Snapshot, f.Set = true, s.setOf(x.host)
	default:
		for r, o := range x.queue {
			if o == nil {
				f.Gone = append(f.Gone, r)
			} else {
				f.Set = append(f.Set, o)
			}
		}
		slices.SortFunc(f.Set, frame.Compare)
		slices.SortFunc(f.Gone, state.Ref.Compare)
	}
	if x.frames++; x.frames >= digestFrames || s.cfg.Now().Sub(x.digested) >= digestEvery {
		f.Digests = s.digests(x)
		x.frames, x.digested = 0, s.cfg.Now()
	}
	x.queue, x.bytes, x.whole, x.due, x.revision, x.told = nil, 0, false, false, s.revision, s.cfg.Now()
	return messages, f
}

// setOf are the objects of a host.
func (s *Server) setOf(host string) []*frame.Object {
	refs := s.graph.Set(host)
	out := make([]*frame.Object, 0, len(refs))
	for _, r := range refs {
		out = append(out, s.objects[r])
	}
	return out
}

// digests are of all that a client has when it has got what is queued.
func (s *Server) digests(x *session) []frame.Digest {
	var d frame.Digests
	if x.relay != "" {
		for _, o := range s.objects {
			d.Add(o)
		}
	} else {
		for _, o := range s.setOf(x.host) {
			d.Add(o)
		}
	}
	return d.List()
}
