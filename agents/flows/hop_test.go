package flows

import (
	"regexp"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Of several next hops those are left out of which it is known that nobody is there, and they come back. A change that has nothing to do with them does not
// have the router compiled again.
func TestNextHopsThatAreGone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(func(r *state.Router) {
		r.Routes = []state.StaticRoute{{Destination: prefixes("10.9.0.0/16")[0], NextHops: addrs("10.0.2.12", "10.0.2.13", "10.0.2.14")}}
	})
	l.plug(1, "n1", "10.0.1.11", nil)
	p2, p3 := l.plug(2, "n2", "10.0.2.12", nil), l.plug(3, "n2", "10.0.2.13", nil)
	p4 := l.port(4, "n2", "h2", "10.0.2.14", nil)
	l.set(p4)
	with := func(p *state.Port, change func(*state.Port)) *state.Port {
		other := *p
		change(&other)
		return &other
	}
	sent := sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_ttl=64,nw_dst=10.9.0.1")
	toP2, toP3 := changed(labLeg2, "fa:16:3e:00:00:02", 63)+"p2", changed(labLeg2, "fa:16:3e:00:00:03", 63)+"p3"
	toP4 := `.*` + tunnelled("12", "0x200004")
	const balanced = `hash\(sym_l4\(0\)\),recirc\(0x[0-9a-f]+\)`
	hops := func(what string, n int, one string) {
		t.Helper()
		l.same()
		for id, g := range l.compiler.groups {
			if id>>28 == GroupRoute>>28 && len(g.value().Buckets) != n {
				t.Errorf("%s: %d next hops, want %d", what, len(g.value().Buckets), n)
			}
		}
		if got, how := l.trace(sent); !regexp.MustCompile("^(?:" + one + ")$").MatchString(got) {
			t.Errorf("%s: does %s\n want %s\n%s", what, got, one, how)
		}
	}
	down := state.Ref{Kind: state.KindDown, ID: "h2"}
	hops("all are there", 3, balanced)
	l.set(&state.Down{ID: "h2"})
	hops("a host is dead", 2, balanced)
	l.set(with(p2, func(p *state.Port) { p.Down = true }))
	hops("and a port is down", 0, toP3)
	l.remove(state.Ref{Kind: state.KindPlug, ID: "p3"})
	hops("and nothing is plugged: all stay as they are", 3, balanced)
	l.remove(down)
	hops("the host is alive", 0, toP4)
	l.set(p2)
	hops("the port is up", 2, balanced)
	l.set(with(p4, func(p *state.Port) { p.Unplugged = true }))
	hops("another host has nothing plugged", 0, toP2)
	l.set(with(p4, func(p *state.Port) { p.Host = "" }))
	hops("it is on no host", 0, toP2)
	l.set(with(p4, func(p *state.Port) { p.FixedIPs = nil }))
	hops("nobody is known to have the address: it stays", 2, balanced)
	l.set(&state.Neighbor{ID: "moved", Network: "n2", Address: addrs("10.0.2.14")[0], MAC: p3.MAC, Port: "p3", Host: labHost, Epoch: 1})
	hops("a port that is not plugged has announced it", 0, toP2)
	l.set(&state.Plug{ID: "p3", OFPort: 3, Zone: 3})
	hops("it is plugged", 3, balanced)

	// What does not matter to the hops is cheap.
	before := l.compiler.Stats().Compiled
	l.set(l.port(5, "n2", "h3", "10.0.2.15", nil))
	if n := l.compiler.Stats().Compiled - before; n > 4 {
		t.Errorf("%d units were compiled for another port of the network, want the network, its flood, and the port", n)
	}
	l.routed(nil)
	if l.compiler.hops != 0 {
		t.Errorf("%d next hops are still watched without a route", l.compiler.hops)
	}
}
