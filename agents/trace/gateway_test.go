package trace_test

import (
	"fmt"
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
	from, to := "p1", "192.0.2.9"
	var source netip.Addr // its own
	out := func(what string, want ...string) {
		t.Helper()
		bed.Store.Read(func(v *state.View) {
			p, err := trace.Compose(v, from, netip.MustParseAddr(to), trace.Packet{Proto: trace.TCP, SrcPort: 1024, DstPort: 80, Src: source})
			if err != nil {
				t.Fatal(err)
			}
			simulated, err := trace.Simulate(v, from, p)
			if err != nil {
				t.Fatal(err)
			}
			checked, err := trace.Check(t.Context(), v, bed.Switch, from, p)
			if err != nil {
				t.Fatal(err)
			}
			if !trace.Agree(from, simulated, checked) {
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

	bed.Apply([]state.Object{&state.Port{ID: "p2", Key: 2, Network: "n1", MAC: mac(2), Host: "h2", FixedIPs: []state.FixedIP{{Address: v4(1, 2, 32).Addr()}}, QoS: state.QoS{DSCP: -1}}}, nil)
	from, to = "p2", "10.0.9.11"
	out("to a floating IP beside it", "source 10.0.1.2 becomes 10.0.9.102", "destination 10.0.9.11 becomes 10.0.1.1", "=> delivered port p1 at h2")
	from = "p1"
	out("to its own floating IP", "source 10.0.1.1 becomes floating 10.0.9.11", "destination 10.0.9.11 becomes 10.0.1.1", "=> delivered port p1 at h2")

	// A virtual IP, which a port keeps that is bound nowhere: it is where it was announced, and so is its floating IP.
	virtual := v4(1, 100, 32)
	bed.Apply([]state.Object{
		&state.Port{ID: "p2", Key: 2, Network: "n1", MAC: mac(2), Host: "h2", FixedIPs: []state.FixedIP{{Address: v4(1, 2, 32).Addr()}}, QoS: state.QoS{DSCP: -1},
			AllowedPairs: []state.AddressPair{{Prefix: virtual, MAC: mac(2)}}},
		&state.Port{ID: "keeper", Key: 3, Network: "n1", MAC: mac(3), FixedIPs: []state.FixedIP{{Address: virtual.Addr()}}, QoS: state.QoS{DSCP: -1}},
		&state.FloatingIP{ID: "f2", Network: "n9", Router: "r1", Address: v4(9, 12, 32).Addr(), MAC: mac(0xf2), Port: "keeper", FixedIP: virtual.Addr()},
	}, nil)
	to = "10.0.9.12"
	out("to the floating IP of an address that nobody has announced", "source 10.0.1.1 becomes floating 10.0.9.11", "served neighbor")
	bed.Apply([]state.Object{&state.Neighbor{ID: "v", Network: "n1", Address: virtual.Addr(), MAC: mac(2), Port: "p2", Host: "h2", Epoch: 1}}, nil)
	out("to it where it is", "destination 10.0.9.12 becomes 10.0.1.100", "10.0.1.100 was announced by port p2 last", "=> delivered port p2 at h2")
	from, to, source = "p2", "192.0.2.9", virtual.Addr()
	out("from it", "source 10.0.1.100 becomes floating 10.0.9.12", "=> outside network n9 at h2")

	// In tunnels it is none: the agent refuses it.
	bed.Apply([]state.Object{&state.Network{ID: "n9", Key: 109, MTU: 1450, External: true}}, nil)
	bed.Store.Read(func(v *state.View) {
		p, err := trace.Compose(v, "p1", netip.MustParseAddr("192.0.2.9"), trace.Packet{Proto: trace.TCP, SrcPort: 1024, DstPort: 80})
		if err != nil {
			t.Fatal(err)
		}
		simulated, err := trace.Simulate(v, "p1", p)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(simulated.String(), "floating") {
			t.Errorf("a floating IP is made in a network of tunnels:\n%s", simulated)
		}
	})
}

// A packet that is too big for a network that it is routed to is answered by the agent, and others go on: ofproto/trace tells of both, and the check takes the one
// that the packet's length means.
func TestSizes(t *testing.T) {
	t.Parallel()
	bed := flowtest.New(t, 2, 2)
	guest := func(i int, network, host string) *state.Port {
		return &state.Port{ID: fmt.Sprintf("p%d", i), Key: uint32(i), Network: network, MAC: mac(i), Host: host, FixedIPs: []state.FixedIP{{Address: v4(i, 1, 32).Addr()}}, QoS: state.QoS{DSCP: -1}} //nolint:gosec // small
	}
	bed.Apply([]state.Object{
		&state.Network{ID: "n1", Key: 101, MTU: 1450}, &state.Network{ID: "n2", Key: 102, MTU: 1400},
		&state.Subnet{ID: "s1", Network: "n1", CIDR: v4(1, 0, 24), Gateway: v4(1, 241, 32).Addr()},
		&state.Router{ID: "r1", Key: 1, Interfaces: []state.RouterInterface{{Network: "n1", MAC: routerMAC(1, 1), Addresses: []netip.Prefix{v4(1, 241, 24)}},
			{Network: "n2", MAC: routerMAC(1, 2), Addresses: []netip.Prefix{v4(2, 241, 24)}}}},
		guest(1, "n1", "h1"), guest(2, "n2", "h2"),
	}, nil)
	for length, want := range map[int]string{0: "delivered port p2 at h2", 1400: "delivered port p2 at h2", 1401: "served too-big at h1"} {
		bed.Store.Read(func(v *state.View) {
			p, err := trace.Compose(v, "p1", v4(2, 1, 32).Addr(), trace.Packet{Length: length})
			if err != nil {
				t.Fatal(err)
			}
			simulated, err := trace.Simulate(v, "p1", p)
			if err != nil {
				t.Fatal(err)
			}
			checked, err := trace.Check(t.Context(), v, bed.Switch, "p1", p)
			if err != nil || !trace.Agree("p1", simulated, checked) || fmt.Sprint(simulated.Ends) != "["+want+"]" {
				t.Errorf("%d bytes: want %s, %v\nsimulated:\n%schecked:\n%s", length, want, err, simulated, checked)
			}
		})
	}
}
