package interest

import (
	"maps"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Since tells what several steps together, in their order and up to the present, meant to a host that was watched before the first of them. Objects
// that came and went in between are not in it.
func (g *Graph) Since(host string, steps []*Step) Delta {
	w := g.watchOf(host)
	if w == nil {
		return Delta{}
	}
	old := maps.Clone(w.subs)
	for i := len(steps) - 1; i >= 0; i-- {
		if c := steps[i].subs[w]; c != nil {
			for _, s := range c.added {
				delete(old, s)
			}
			for _, s := range c.removed {
				old[s] = struct{}{}
			}
		}
	}
	touched, nodes := map[*node]*touch{}, map[*node]struct{}{}
	for _, step := range steps {
		for n, t := range step.touched {
			merge(touched, n, t)
			nodes[n] = struct{}{}
		}
	}
	for s := range old {
		if _, stays := w.subs[s]; !stays {
			addMembers(nodes, s)
		}
	}
	for s := range w.subs {
		if _, had := old[s]; !had {
			addMembers(nodes, s)
		}
	}
	d := compare(w, old, touched, nodes)
	return Delta{d.Set, without(d.Gone, d.Set)}
}

func addMembers(nodes map[*node]struct{}, s *section) {
	for n := range s.members {
		nodes[n] = struct{}{}
	}
}

// merge adds a later touch of an object to the earlier ones.
func merge(touched map[*node]*touch, n *node, later *touch) {
	first := touched[n]
	if first == nil {
		touched[n] = &touch{later.existed, later.content, later.places}
		return
	}
	first.content = first.content || later.content
}

// without takes the references of b out of a: an object that went and came again under its name is set. Both are sorted.
func without(a, b []state.Ref) []state.Ref {
	out := a[:0]
	for _, r := range a {
		for len(b) > 0 && b[0].Compare(r) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != r {
			out = append(out, r)
		}
	}
	return out
}
