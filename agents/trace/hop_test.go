package trace_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/flows/flowtest"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
)

// Of two next hops the simulation takes the one that is there, as the switches do, and says why.
func TestNextHopsThatAreGone(t *testing.T) {
	t.Parallel()
	bed := flowtest.New(t, 2, 4)
	guest := func(n int, host string) *state.Port {
		id := string(rune('0' + n))
		return &state.Port{ID: "p" + id, Key: uint32(n), Network: "n1", MAC: mac(n), Host: host, FixedIPs: []state.FixedIP{{Address: v4(1, n, 32).Addr()}}, QoS: state.QoS{DSCP: -1}} //nolint:gosec // small
	}
	first, second := guest(2, "h1"), guest(3, "h2")
	bed.Apply([]state.Object{
		&state.Network{ID: "n1", Key: 101, MTU: 1450}, &state.Subnet{ID: "s1", Network: "n1", CIDR: v4(1, 0, 24), Gateway: v4(1, 241, 32).Addr()},
		&state.Router{ID: "r1", Key: 1, Interfaces: []state.RouterInterface{{Network: "n1", MAC: routerMAC(1, 1), Addresses: []netip.Prefix{v4(1, 241, 24)}}},
			Routes: []state.StaticRoute{{Destination: v4(7, 0, 24), NextHops: []netip.Addr{v4(1, 2, 32).Addr(), v4(1, 3, 32).Addr()}}}},
		guest(1, "h1"), first, second,
	}, nil)
	check := func(what, gone, port string) {
		t.Helper()
		bed.Store.Read(func(v *state.View) {
			p, err := trace.Compose(v, "p1", v4(7, 9, 32).Addr(), trace.Packet{Proto: trace.UDP, SrcPort: 1024, DstPort: 80})
			if err != nil {
				t.Fatal(err)
			}
			simulated, err := trace.Simulate(v, "p1", p)
			if err != nil {
				t.Fatal(err)
			}
			checked, err := trace.Check(t.Context(), v, bed.Switch, "p1", p)
			if err != nil {
				t.Fatal(err)
			}
			if !trace.Agree("p1", simulated, checked) {
				t.Errorf("%s: the switches would do something else\nsimulated:\n%schecked:\n%s", what, simulated, checked)
			}
			if got := simulated.String(); !strings.Contains(got, "nobody is at "+gone) || !strings.Contains(got, "port "+port) {
				t.Errorf("%s: want nobody at %s, and port %s, in\n%s", what, gone, port, got)
			}
		})
	}
	changed := func(p *state.Port, change func(*state.Port)) *state.Port {
		other := *p
		change(&other)
		return &other
	}
	bed.Apply([]state.Object{changed(second, func(p *state.Port) { p.Unplugged = true })}, nil)
	check("unplugged elsewhere", "10.0.1.3", "p2")
	bed.Apply([]state.Object{second, changed(first, func(p *state.Port) { p.Down = true })}, nil)
	check("down", "10.0.1.2", "p3")
	bed.Apply([]state.Object{changed(second, func(p *state.Port) { p.Host = "" }), first}, nil)
	check("on no host", "10.0.1.3", "p2")
}
