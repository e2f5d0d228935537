package interest

import (
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
)

// settle moves objects between sections and hosts between subscriptions, and tells what that changed.
func (g *Graph) settle() (map[string]Delta, *Step) {
	b := g.batch
	for n, t := range b.touched { // before any section changes
		if t.content {
			b.audience(n, n.places...)
		}
	}
	for n := range b.stale {
		g.place(n)
	}
	for w := range b.dirty {
		g.subscribe(w)
	}
	for n, t := range b.touched {
		if t.content {
			b.audience(n, n.places...)
			continue
		}
		for _, s := range n.places {
			if !slices.Contains(t.places, s) {
				b.audience(n, s)
			}
		}
	}
	out := map[string]Delta{}
	for w, nodes := range b.pairs {
		old := b.oldSubs[w]
		if old == nil {
			old = w.subs
		}
		if d := compare(w, old, b.touched, nodes); len(d.Set)+len(d.Gone) > 0 {
			out[w.host.ref.ID] = d
		}
	}
	for _, n := range b.orphans {
		g.forget(n)
	}
	g.batch = nil
	return out, &b.Step
}

// place puts an object where its facts say now.
func (g *Graph) place(n *node) {
	b := g.batch
	var places []*section
	if n.facts != nil {
		places = n.facts.places(n)
	}
	if sameSet(places, n.places) {
		return
	}
	b.touch(n)
	b.disturbIfPort(n)
	for _, s := range n.places {
		if !slices.Contains(places, s) {
			b.audience(n, s)
			delete(s.members, n)
		}
	}
	n.places = places
	for _, s := range places {
		s.members[n] = struct{}{}
	}
	b.disturbIfPort(n)
}

// disturbIfPort: a port that comes to a host or leaves it, be it by its trunk's parent, changes what the host reaches.
func (b *batch) disturbIfPort(n *node) {
	for _, s := range n.places {
		if n.ref.Kind == state.KindPort && s.of != nil {
			b.disturbHost(s.of)
		}
	}
}

// sameSet says whether two lists, in which none stands twice, have the same elements.
func sameSet[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

// subscribe finds a host's subscriptions anew.
func (g *Graph) subscribe(w *watch) {
	now := g.reach(w.host)
	var c subsChange
	for s := range w.subs {
		if _, stays := now[s]; !stays {
			c.removed = append(c.removed, s)
		}
	}
	for s := range now {
		if _, had := w.subs[s]; !had {
			c.added = append(c.added, s)
		}
	}
	if len(c.added)+len(c.removed) == 0 {
		return
	}
	b := g.batch
	b.oldSubs[w], b.subs[w] = w.subs, &c
	w.subs = now
	for _, s := range c.removed {
		delete(s.subs, w)
	}
	for _, s := range c.added {
		s.subs[w] = struct{}{}
	}
	for _, list := range [][]*section{c.added, c.removed} {
		for _, s := range list {
			for n := range s.members {
				b.pair(w, n)
			}
		}
	}
}

// compare tells which of some objects have entered, changed within or left a host's set.
func compare(w *watch, old map[*section]struct{}, touched map[*node]*touch, nodes map[*node]struct{}) Delta {
	var d Delta
	for n := range nodes {
		t := touched[n]
		is := n.facts != nil && n.within(w.subs, nil)
		var was bool
		if t == nil {
			was = n.facts != nil && n.within(old, nil)
		} else {
			was = t.existed && n.within(old, t)
		}
		switch {
		case is && (!was || t != nil && t.content):
			d.Set = append(d.Set, n.ref)
		case was && !is:
			d.Gone = append(d.Gone, n.ref)
		}
	}
	slices.SortFunc(d.Set, state.Ref.Compare)
	slices.SortFunc(d.Gone, state.Ref.Compare)
	return d
}

// within says whether the object is, or with t was, in one of the sections.
func (n *node) within(subs map[*section]struct{}, t *touch) bool {
	places := n.places
	if t != nil {
		places = t.places
	}
	for _, s := range places {
		if _, ok := subs[s]; ok {
			return true
		}
	}
	return false
}

// forget drops a node that nothing refers to and that is nothing itself.
func (g *Graph) forget(n *node) {
	if n.uses == 0 && n.facts == nil && g.nodes[n.ref] == n {
		delete(g.nodes, n.ref)
	}
}

// reach finds the sections that matter to a host.
func (g *Graph) reach(host *node) map[*section]struct{} {
	r := &walk{g: g, subs: map[*section]struct{}{g.everyone: {}, host.own(): {}}, seen: map[*node]struct{}{}}
	for n := range host.own().members {
		switch f := n.facts.(type) {
		case *portFacts:
			r.localPort(f)
			r.mirrors(n)
		case *snatFacts:
			r.add(f.network.own())
			if f.router != nil {
				r.add(f.router.own())
			}
		}
	}
	r.enterAll(host.from(linkActs))
	for depth := 1; len(r.next) > 0 && depth <= MaxHops; depth++ {
		now := r.next
		r.next = nil
		for _, n := range now {
			r.router(n)
		}
	}
	return r.subs
}

// walk is one run of reach.
type walk struct {
	g    *Graph
	subs map[*section]struct{}
	seen map[*node]struct{} // routers, and networks of local ports
	next []*node            // routers to look at
}

func (r *walk) add(s *section) { r.subs[s] = struct{}{} }

// inside subscribes to a network and all that answers in it.
func (r *walk) inside(n *node) {
	r.add(n.own())
	r.add(n.ports())
	if isTunnelled(n) {
		r.add(n.beyond())
	}
}

func isTunnelled(n *node) bool {
	f, ok := n.facts.(networkFacts)
	return ok && f.tunnelled
}

// mirrors subscribes to the mirrors of a port's packets, and to those that it gets copies of.
func (r *walk) mirrors(n *node) {
	for _, l := range []link{linkMirrored, linkMirror} {
		for mirror := range n.from(l) {
			r.add(mirror.own())
			if target, ok := mirror.facts.(mirrorFacts).target.facts.(*portFacts); ok {
				r.add(target.network.own())
			}
		}
	}
}

func (r *walk) localPort(f *portFacts) {
	if f.project != nil {
		r.add(f.project.own())
	}
	for _, group := range f.groups {
		r.add(group.own())
		if rules, ok := group.facts.(*groupFacts); ok {
			for _, set := range rules.sets {
				r.add(set.own())
			}
		}
	}
	if _, done := r.seen[f.network]; done {
		return
	}
	r.seen[f.network] = struct{}{}
	r.inside(f.network)
	r.enterAll(f.network.from(linkInterface))
	tunnelled := isTunnelled(f.network)
	for n := range f.network.from(linkGateway) {
		if tunnelled || n.facts.(*routerFacts).open {
			r.enter(n)
		}
	}
}

func (r *walk) enterAll(routers map[*node]struct{}) {
	for n := range routers {
		r.enter(n)
	}
}

func (r *walk) enter(router *node) {
	if _, done := r.seen[router]; !done {
		r.seen[router] = struct{}{}
		r.next = append(r.next, router)
	}
}

func (r *walk) router(n *node) {
	f, ok := n.facts.(*routerFacts)
	if !ok {
		return
	}
	r.add(n.own())
	for _, m := range f.interfaces {
		r.inside(m)
	}
	if f.gateway != nil {
		r.add(f.gateway.own())
		if isTunnelled(f.gateway) {
			r.inside(f.gateway)
		}
	}
	for _, h := range f.wants {
		r.enterAll(r.g.owners[h])
	}
}
