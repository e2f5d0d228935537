package flows

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/state"
)

// needs fails unless the compiler has exactly the units that roots need, over any number of others, and knows of each how many need it.
func (c *Compiler) needs(t *rapid.T) {
	t.Helper()
	counts, circles, reached := map[*unit]int{}, map[*unit]map[*unit]struct{}{}, map[*unit]bool{}
	var todo []*unit
	for _, u := range c.units {
		if u.root {
			counts[u]++
			reached[u] = true
			todo = append(todo, u)
		}
	}
	for len(todo) > 0 {
		u := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range u.needs {
			if counts[n]++; u.circle.may && n.circle.may {
				if circles[n] == nil {
					circles[n] = map[*unit]struct{}{}
				}
				circles[n][u] = struct{}{}
			}
			if !reached[n] {
				reached[n] = true
				todo = append(todo, n)
			}
		}
	}
	for k, u := range c.units {
		if !reached[u] {
			t.Fatalf("unit %d %q is there, and nobody needs it", k.rule, k.id)
		}
		if u.needed != counts[u] || !maps.Equal(u.circle.by, circles[u]) {
			t.Fatalf("unit %d %q: needed by %d, of those %d in circles; want %d, %d", k.rule, k.id, u.needed, len(u.circle.by), counts[u], len(circles[u]))
		}
		if u.circle.dead || u.circle.suspect || u.dirty {
			t.Fatalf("unit %d %q: dead %t, suspect %t, dirty %t", k.rule, k.id, u.circle.dead, u.circle.suspect, u.dirty)
		}
	}
	if len(reached) != len(c.units) {
		t.Fatalf("%d units are needed, %d are there", len(reached), len(c.units))
	}
}

// maze draws networks and routers that join them every which way, and ports here and elsewhere that come and go.
func (w world) maze() (state.Object, state.Ref) {
	const n = 5
	var o state.Object
	id := w.number("id", n)
	switch w.number("kind", 5) {
	case 0:
		o = &state.Network{ID: fmt.Sprint("n", id), Key: uint32(id + 1), MTU: 1450, External: id == 4} //nolint:gosec // small
	case 1, 2:
		r := &state.Router{ID: fmt.Sprint("r", id), Key: uint32(100 + id)} //nolint:gosec // small
		for i := range n - 1 {
			if w.number("joined", 3) == 0 {
				r.Interfaces = append(r.Interfaces, state.RouterInterface{Network: fmt.Sprint("n", i), MAC: labMAC(500 + 10*id + i)})
			}
		}
		if w.number("gateway", 4) == 0 {
			r.Gateway = &state.Gateway{Network: "n4", MAC: labMAC(600 + id), Hosts: w.some("hosts", 2, "h")}
		}
		o = r
	case 3:
		o = &state.Port{ID: fmt.Sprint("p", id), Key: uint32(id + 1), Network: fmt.Sprint("n", id%(n-1)), MAC: labMAC(id), Host: w.one("host", labHost, labHost, "h2"), QoS: state.QoS{DSCP: -1}} //nolint:gosec // small
	case 4:
		o = &state.Plug{ID: fmt.Sprint("p", id), OFPort: uint32(10 + id), Zone: uint16(id + 1)} //nolint:gosec // small
	}
	return o, o.Ref()
}

// Whatever order routers, networks and ports come and go in, what nobody needs goes with the last who needs it, though routers and networks need each other.
func TestCirclesGo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		store, c := state.NewStore(), New(Config{Host: labHost})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			var set []state.Object
			var gone []state.Ref
			for range rapid.IntRange(1, 3).Draw(t, "at once") {
				if o, ref := (world{t}).maze(); rapid.IntRange(0, 3).Draw(t, "goes") == 0 {
					gone = append(gone, ref)
				} else {
					set = append(set, o)
				}
			}
			changes := store.Apply(set, gone)
			store.Read(func(v *state.View) { c.Update(v, changes) })
			c.needs(t)
		}
	})
}
