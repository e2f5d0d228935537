package interest

import (
	"github.com/headwater-cloud/headwater/agents/state"
)

// Graph knows the objects of a site and the sets of the hosts that are watched. It is not safe for use by several goroutines at once.
type Graph struct {
	nodes    map[state.Ref]*node
	owners   index // routers by their addresses
	wanted   index // routers by the next hops of their routes
	everyone *section
	watched  int
	batch    *batch // of the Apply that runs
}

// New returns a graph without objects.
func New() *Graph {
	var s *section
	return &Graph{nodes: map[state.Ref]*node{}, owners: index{}, wanted: index{}, everyone: sectionAt(&s)}
}

// Step is what of a change is needed to tell later what it meant to a host. It holds on to little beyond the graph itself.
type Step struct {
	touched map[*node]*touch
	subs    map[*watch]*subsChange
}

// touch is what an object was before a change.
type touch struct {
	existed bool
	content bool // made, changed or gone, and not only moved between sections
	places  []*section
}

// subsChange is how a host's subscriptions changed.
type subsChange struct{ added, removed []*section }

// batch is the work of one Apply.
type batch struct {
	Step
	stale   map[*node]struct{}            // whose places may have changed
	dirty   map[*watch]struct{}           // whose subscriptions may have changed
	pairs   map[*watch]map[*node]struct{} // that may have changed
	oldSubs map[*watch]map[*section]struct{}
	orphans []*node
}

func newBatch() *batch {
	return &batch{Step{map[*node]*touch{}, map[*watch]*subsChange{}}, map[*node]struct{}{}, map[*watch]struct{}{},
		map[*watch]map[*node]struct{}{}, map[*watch]map[*section]struct{}{}, nil}
}

func (b *batch) loose(n *node) { b.orphans = append(b.orphans, n) }

func (b *batch) touch(n *node) *touch {
	t := b.touched[n]
	if t == nil {
		t = &touch{existed: n.facts != nil, places: n.places}
		b.touched[n] = t
	}
	return t
}

func (b *batch) pair(w *watch, n *node) {
	if b.pairs[w] == nil {
		b.pairs[w] = map[*node]struct{}{}
	}
	b.pairs[w][n] = struct{}{}
}

// audience pairs the object with the subscribers of sections.
func (b *batch) audience(n *node, places ...*section) {
	for _, s := range places {
		for w := range s.subs {
			b.pair(w, n)
		}
	}
}

// Apply makes and changes the objects of set and takes those of gone away, at once; what stands in both is set. It returns, for each watched host whose
// set or whose objects have changed, what that means, and a Step for Since.
func (g *Graph) Apply(set []state.Object, gone []state.Ref) (map[string]Delta, *Step) {
	g.batch = newBatch()
	for _, r := range gone {
		if n := g.nodes[r]; n != nil && n.facts != nil {
			g.change(n, nil)
		}
	}
	for _, o := range set {
		r := o.Ref()
		if f := g.factsOf(o); f != nil {
			g.change(g.node(r.Kind, r.ID), f)
		}
	}
	return g.settle()
}

// Watch begins to keep a host's set. A host that is watched already stays so.
func (g *Graph) Watch(host string) {
	n := g.node(state.KindHost, host)
	if n.ext().watch != nil {
		return
	}
	w := &watch{n, g.reach(n)}
	for s := range w.subs {
		s.subs[w] = struct{}{}
	}
	n.more.watch = w
	n.uses++
	g.watched++
}

// Unwatch ends what Watch began.
func (g *Graph) Unwatch(host string) {
	n := g.nodes[state.Ref{Kind: state.KindHost, ID: host}]
	if n == nil || n.more == nil || n.more.watch == nil {
		return
	}
	for s := range n.more.watch.subs {
		delete(s.subs, n.more.watch)
	}
	n.more.watch = nil
	n.uses--
	g.watched--
	g.forget(n)
}

// Watched is the number of hosts that are watched.
func (g *Graph) Watched() int { return g.watched }

// Set is all that a watched host needs, kind by kind in their order.
func (g *Graph) Set(host string) []state.Ref {
	w := g.watchOf(host)
	if w == nil {
		return nil
	}
	var kinds [kindSet][]state.Ref
	total := 0
	for s := range w.subs {
		for n := range s.members {
			if n.facts == nil || !n.firstIn(s, w.subs) {
				continue
			}
			kinds[n.ref.Kind] = append(kinds[n.ref.Kind], n.ref)
			total++
		}
	}
	out := make([]state.Ref, 0, total)
	for _, list := range kinds {
		out = append(out, list...)
	}
	return out
}

// firstIn says whether s is the first of the object's places that are among the sections, so that it is counted once.
func (n *node) firstIn(s *section, subs map[*section]struct{}) bool {
	for _, p := range n.places {
		if p == s {
			return true
		}
		if _, ok := subs[p]; ok {
			return false
		}
	}
	return false
}

func (g *Graph) watchOf(host string) *watch {
	n := g.nodes[state.Ref{Kind: state.KindHost, ID: host}]
	if n == nil || n.more == nil {
		return nil
	}
	return n.more.watch
}

// change gives an object new facts, nil for none.
func (g *Graph) change(n *node, f facts) {
	b := g.batch
	b.touch(n).content = true
	if f != nil && n.facts != nil && n.facts.same(f) {
		return
	}
	g.stale(n)
	g.disturb(n)
	if n.facts != nil {
		g.unlink(n)
	}
	if n.facts = f; f == nil {
		b.loose(n)
	} else {
		g.link(n)
	}
	g.stale(n)
	g.disturb(n)
}

// stale remembers whose places depend on the object's facts.
func (g *Graph) stale(n *node) {
	mark := func(p *node) {
		g.batch.stale[p] = struct{}{}
		for _, l := range []link{linkFloating, linkLog} { // they are where it is
			for other := range p.from(l) {
				g.batch.stale[other] = struct{}{}
			}
		}
	}
	mark(n)
	switch f := n.facts.(type) {
	case *portFacts:
		if f.parent != nil {
			mark(f.parent)
		}
	case *floatingFacts:
		g.stalePort(f.port)
	case inNetwork:
		g.stalePort(f.port)
	case mirrorFacts:
		g.stalePort(f.target)
	}
	for sub := range n.from(linkSubport) {
		mark(sub)
	}
}

// stalePort remembers that a port, and with it its parent, may have come to other sections or left them.
func (g *Graph) stalePort(n *node) {
	if n == nil {
		return
	}
	g.batch.stale[n] = struct{}{}
	if p, ok := n.facts.(*portFacts); ok && p.parent != nil {
		g.batch.stale[p.parent] = struct{}{}
	}
}

// disturb remembers whose subscriptions may depend on the object's facts. Those of ports are seen where their places change.
func (g *Graph) disturb(n *node) {
	b := g.batch
	all := func(s *section) {
		if s != nil {
			for w := range s.subs {
				b.dirty[w] = struct{}{}
			}
		}
	}
	switch f := n.facts.(type) {
	case networkFacts, *groupFacts:
		all(n.ext().own)
	case *portFacts:
		for _, h := range f.hosts(n) {
			b.disturbHost(h)
		}
		for mirror := range n.from(linkMirror) { // the port's network comes with it
			all(mirror.ext().own)
		}
	case mirrorFacts:
		for _, p := range []*node{f.port, f.target} {
			if port, ok := p.facts.(*portFacts); ok {
				for _, h := range port.hosts(p) {
					b.disturbHost(h)
				}
			}
		}
	case *snatFacts:
		for _, h := range f.on {
			b.disturbHost(h)
		}
	case *routerFacts:
		all(n.ext().own)
		for _, m := range f.interfaces {
			all(m.ext().ports)
		}
		if f.gateway != nil {
			all(f.gateway.ext().ports)
		}
		for _, h := range f.acts {
			b.disturbHost(h)
		}
		for _, h := range f.owns {
			for before := range g.wanted[h] {
				all(before.ext().own)
			}
		}
	}
}

func (b *batch) disturbHost(h *node) {
	if h.more != nil && h.more.watch != nil {
		b.dirty[h.more.watch] = struct{}{}
	}
}
