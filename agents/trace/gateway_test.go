package trace_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/flows/flowtest"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
)

// The ways out of a router: through the host that is its gateway, by an address of the host's own, as a floating IP. The simulation names what translated
// and where, and the switches do the same.
func TestWaysOut(t *testing.T) {
	t.Parallel()
	bed := flowtest.New(t, 2, 2)
	router := &state.Router{
		ID: "r1", Key: 1, Interfaces: []state.RouterInterface{{Network: "n1", MAC: routerMAC(1, 1), Addresses: []netip.Prefix{v4(1, 241, 24)}}},
		Gateway: &state.Gateway{Network: "n9", MAC: routerMAC(1, 9), Addresses: []netip.Prefix{v4(9, 241, 24)}, NextHops: []netip.Addr{v4(9, 1, 32).Addr()}, Snat: state.SnatGateway, Hosts: []string{"h1"}},
	}
	guest := &state.Port{ID: "p1", Key: 1, Network: "n1", MAC: mac(1), Host: "h2", FixedIPs: []state.FixedIP{{Address: v4(1, 1, 32).Addr()}}, QoS: state.QoS{DSCP: -1}}
	bed.Apply([]state.Object{
		&state.Network{ID: "n1", Key: 101, MTU: 1450}, &state.Network{ID: "n9", Key: 109, MTU: 1450, External: true, Segment: state.VLAN, Physical: flowtest.Physical, VLAN: 49},
		&state.Subnet{ID: "s1", Network: "n1", CIDR: v4(1, 0, 24), Gateway: v4(1, 241, 32).Addr()},
		router, guest, &state.Neighbor{ID: "gw", Network: "n9", Address: v4(9, 1, 32).Addr(), MAC: mac(0xee)},
	}, nil)
	out := func(what string, want ...string) {
		t.Helper()
		bed.Store.Read(func(v *state.View) {
			p, err := trace.Compose(v, "p1", netip.MustParseAddr("192.0.2.9"), trace.Packet{Proto: trace.TCP, SrcPort: 1024, DstPort: 80})
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
			got := simulated.String()
			if i := slices.IndexFunc(want, func(w string) bool { return !strings.Contains(got, w) }); i >= 0 {
				t.Errorf("%s: %q is not in\n%s", what, want[i], got)
			}
		})
	}
	out("through the gateway's host", "host h1 at 172.31.1.11 is the gateway of router r1", "source 10.0.1.1 becomes the gateway's 10.0.9.241", "=> outside network n9 at h1")

	byHost := *router
	gateway := *router.Gateway
	gateway.Snat = state.SnatHost
	byHost.Gateway = &gateway
	bed.Apply([]state.Object{&byHost, &state.SnatAddress{ID: "a2", Network: "n9", Router: "r1", Host: "h2", Owner: "h2", Address: v4(9, 102, 32).Addr(), MAC: mac(0xd2), Ports: 1 << 16}}, nil)
	out("by an address of the host's own", "source 10.0.1.1 becomes 10.0.9.102", "=> outside network n9 at h2")

	bed.Apply([]state.Object{&state.FloatingIP{ID: "f1", Network: "n9", Router: "r1", Address: v4(9, 11, 32).Addr(), MAC: mac(0xf1), Port: "p1", FixedIP: v4(1, 1, 32).Addr()}}, nil)
	out("as a floating IP", "source 10.0.1.1 becomes floating 10.0.9.11", "=> outside network n9 at h2")
}
