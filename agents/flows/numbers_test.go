package flows

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Whatever comes and goes in whatever order, names that are in use have numbers of their own, and the same ones as if nothing else had ever been there.
func TestNumbersDependOnNamesInUse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		crowded := func() *numbers {
			n := newNumbers(31)
			n.hash = func(name string) uint32 { return uint32(name[0]) % 3 }
			return n
		}
		n, have := crowded(), map[string]bool{}
		for _, name := range rapid.SliceOf(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"})).Draw(t, "changes") {
			if have[name] {
				n.drop(name)
				delete(have, name)
			} else {
				n.claim(name)
				have[name] = true
			}
			if rapid.Bool().Draw(t, "settle") {
				n.settle()
			}
		}
		n.settle()
		fresh := crowded()
		for name := range have {
			fresh.claim(name)
		}
		fresh.settle()
		if !maps.Equal(n.of, fresh.of) || !maps.Equal(n.name, fresh.name) || len(n.name) != len(have) {
			t.Fatalf("numbers %v, want %v of %v", n.of, fresh.of, have)
		}
	})
}

// Whoever counts drops finds the reason of each in its flow's cookie.
func TestEveryReasonIsListed(t *testing.T) {
	t.Parallel()
	c := New(Config{Host: labHost})
	state.NewStore().Read(func(v *state.View) { c.Update(v, nil) })
	c.Flows(func(k FlowKey, f Flow) bool {
		if f.Instructions == "" && ReasonOf(f.Cookie) == "" {
			t.Errorf("%s: drops packets for no reason that is listed", k)
		}
		return true
	})
}
