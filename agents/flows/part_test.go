package flows

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/interest"
	"github.com/headwater-cloud/headwater/agents/state"
)

// A host is sent a part of its site's state. Whatever the site holds, the compiler makes of the part what it would make of the whole.
func TestPartOfStateSuffices(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		site, whole := interest.New(), map[state.Ref]state.Object{}
		site.Watch(labHost)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			set, gone := world{t}.step()
			// The compiler follows routers that share a network; a host is sent only what packets can get to.
			set = slices.DeleteFunc(set, func(o state.Object) bool { return o.Ref() == state.Ref{Kind: state.KindRouter, ID: "r1"} })
			for _, o := range set { // on a physical network others answer for themselves, and are not sent
				if n, ok := o.(*state.Network); ok && n.ID == "n2" {
					n.Segment = state.Overlay
				}
			}
			for _, r := range gone {
				delete(whole, r)
			}
			for _, o := range set {
				whole[o.Ref()] = o
			}
			site.Apply(set, gone)
		}
		part := map[state.Ref]state.Object{}
		for r, o := range whole {
			if r.Kind >= state.KindPlug { // of the host itself
				part[r] = o
			}
		}
		for _, r := range site.Set(labHost) {
			part[r] = whole[r]
		}
		compiled(t, part).same(t, "of the part that the host is sent", compiled(t, whole))
	})
}

// compiled is what a new compiler makes of some objects.
func compiled(t *rapid.T, objects map[state.Ref]state.Object) program {
	store, c, out := state.NewStore(), New(Config{Host: labHost, PuntRate: 100, OpRate: 1000, LogRate: 100, LogBurst: 25}), newProgram()
	var all []state.Object
	for _, o := range objects {
		all = append(all, o)
	}
	changes := store.Apply(all, nil)
	store.Read(func(v *state.View) { out.follow(t, c, c.Update(v, changes)) })
	return out
}
