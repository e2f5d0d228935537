package members

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/sites/ident"
)

func gateways(n int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{ID: ID{"east", fmt.Sprintf("gw-%02d", i)}, Meta: Meta{Gateway: true}}
	}
	return out
}

// TestForwarderMovesNoMoreThanItMust: the property for which rendezvous hashing is chosen.
func TestForwarderMovesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Custom(func(t *rapid.T) Member {
			return Member{ID: ID{ident.SiteID(rapid.StringMatching(`[a-z][a-z0-9]{0,5}`).Draw(t, "site")), rapid.StringMatching(`[a-z0-9-]{1,12}`).Draw(t, "host")}}
		})
		all := rapid.SliceOfNDistinct(id, 1, 12, func(m Member) ID { return m.ID }).Draw(t, "members")
		network := rapid.Uint32().Draw(t, "network")
		chosen, ok := Forwarder(network, all)
		if !ok || !slices.ContainsFunc(all, func(m Member) bool { return m.ID == chosen }) {
			t.Fatalf("chose %s, %v", chosen, ok)
		}
		mixed := slices.Clone(all)
		rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		if got, _ := Forwarder(network, mixed); got != chosen {
			t.Fatalf("in another order %s, not %s", got, chosen)
		}
		for i, gone := range all {
			rest := slices.Delete(slices.Clone(all), i, i+1)
			got, ok := Forwarder(network, rest)
			if ok != (len(rest) > 0) || gone.ID != chosen && got != chosen {
				t.Fatalf("without %s the network moved from %s to %s", gone.ID, chosen, got)
			}
			if gone.ID == chosen && got == chosen {
				t.Fatalf("who is gone still forwards")
			}
		}
	})
}

// TestForwarderShares: hosts' names differ in their last digits and networks' keys follow each other; both must not show.
func TestForwarderShares(t *testing.T) {
	t.Parallel()
	const networks = 20000
	for _, n := range []int{2, 3, 8, 16} {
		all := gateways(n)
		count := map[ID]int{}
		moved := map[ID]int{} // where the networks of the first go when it dies
		for key := range uint32(networks) {
			id, _ := Forwarder(key+1, all)
			count[id]++
			if id == all[0].ID {
				next, _ := Forwarder(key+1, all[1:])
				moved[next]++
			}
		}
		check := func(what string, got map[ID]int, total, ways int) {
			mean := float64(total) / float64(ways)
			for id, c := range got {
				if math.Abs(float64(c)-mean) > 5*math.Sqrt(mean) { // five standard deviations
					t.Errorf("%s of %d: %s has %d, the mean is %.0f", what, n, id, c, mean)
				}
			}
			if len(got) != ways {
				t.Errorf("%s of %d: %d of %d have any", what, n, len(got), ways)
			}
		}
		check("networks", count, networks, n)
		check("networks after a death", moved, count[all[0].ID], n-1)
	}
}

// TestForwarderForever: gateways of different versions must agree, or networks hear everything twice, or nothing.
func TestForwarderForever(t *testing.T) {
	t.Parallel()
	var got []string
	all := gateways(5)
	for _, network := range []uint32{0, 1, 2, 3, 1000, 1<<21 - 1, math.MaxUint32} {
		id, _ := Forwarder(network, all)
		got = append(got, id.Host)
	}
	want := []string{"gw-00", "gw-00", "gw-04", "gw-03", "gw-04", "gw-01", "gw-04"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if w := weight(42, ID{"east", "gw-00"}); w != 0x5ea6af4b2955d5e5 {
		t.Errorf("weight %#x", w)
	}
}

func TestNoForwarder(t *testing.T) {
	t.Parallel()
	if id, ok := Forwarder(1, nil); ok {
		t.Errorf("of nobody, %s", id)
	}
}

func TestGateways(t *testing.T) {
	t.Parallel()
	m := func(host string, s State, gateway bool, h Health) Member {
		return Member{ID: ID{"east", host}, State: s, Meta: Meta{Gateway: gateway, Health: h}}
	}
	for _, tt := range []struct {
		name    string
		members []Member
		want    []string
	}{
		{"only gateways", []Member{m("a", Alive, false, Healthy), m("b", Alive, true, Healthy)}, []string{"b"}},
		{"only the living", []Member{m("a", Dead, true, Healthy), m("b", Left, true, Leaving), m("c", Alive, true, Healthy)}, []string{"c"}},
		{"not the sick", []Member{m("a", Alive, true, Sick), m("b", Alive, true, Healthy)}, []string{"b"}},
		{"not the leaving", []Member{m("a", Alive, true, Leaving), m("b", Alive, true, Healthy)}, []string{"b"}},
		{"the leaving before nobody", []Member{m("a", Alive, true, Leaving), m("b", Alive, true, Sick)}, []string{"a"}},
		{"the sick never", []Member{m("b", Alive, true, Sick)}, nil},
		{"of the site", []Member{{ID: ID{"west", "a"}, Meta: Meta{Gateway: true}}, m("b", Alive, true, Healthy)}, []string{"b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, g := range (&View{members: tt.members}).Gateways("east") {
				got = append(got, g.Host)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func BenchmarkForwarder(b *testing.B) {
	all := gateways(16)
	b.ReportAllocs()
	var network uint32
	for b.Loop() {
		network++
		Forwarder(network, all)
	}
}
