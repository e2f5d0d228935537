package integration

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// What a router needs an agent for: the next hop outside, which nobody has told of, and the errors that tell a path and its MTU. The flows' own
// part is integration/routing's.
func TestAgentsRoute(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	ctx := t.Context()
	gateways := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::ffff")}
	a, pa := f.vm("vm1", f.bed.Host("s1h1"), hosts.VMConfig{Gateways: gateways})
	b, _ := f.vm("vm2", f.bed.Host("s1h2"), hosts.VMConfig{Gateways: gateways})
	f.state.Networks = append(f.state.Networks, &api.Network{Id: "n2", Key: 2, Mtu: 1400},
		&api.Network{Id: "ext", Key: 3, Mtu: 1500, External: true, Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: hosts.Physnet}})
	c := f.bed.VM("vm3", f.bed.Host("s1h2"), hosts.VMConfig{IPs: []netip.Prefix{netip.MustParsePrefix("10.2.0.3/24"), netip.MustParsePrefix("fd02::3/64")},
		Gateways: []netip.Addr{netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("fd02::ffff")}})
	d, pd := f.vm("vm4", f.bed.Host("s1h1"), hosts.VMConfig{Gateways: gateways})
	pc := &api.Port{Id: c.IfaceID, Key: 900, Network: "n2", Mac: c.MAC.String(), Host: "s1h2", PortSecurity: true, BindingEpoch: 1,
		FixedIps: []*api.FixedIP{{Address: "10.2.0.3"}, {Address: "fd02::3"}}}
	f.allow(pc)
	f.state.Ports = append(f.state.Ports, pc)
	f.state.Routers = []*api.Router{{Id: "r", Key: 1,
		Interfaces: []*api.RouterInterface{
			{Network: "n1", Mac: "fa:16:3e:20:00:01", Addresses: []string{"10.0.0.1/16", "fd00::ffff/64"}},
			{Network: "n2", Mac: "fa:16:3e:20:00:02", Addresses: []string{"10.2.0.1/24", "fd02::ffff/64"}}},
		Gateway: &api.Gateway{Network: "ext", Mac: "fa:16:3e:20:00:03", Addresses: []string{"203.0.113.5/24"}, NextHops: []string{"203.0.113.1"},
			Snat: api.SnatMode_SNAT_GATEWAY, Hosts: []string{"s1h2"}}}}
	f.state.FloatingIps = []*api.FloatingIP{{Id: "f", Network: "ext", Router: "r", Address: "203.0.113.51", Mac: "fa:16:3e:20:00:51", Port: pa.Id, FixedIp: a.IPs[0].Addr().String()}}
	f.commit()
	f.same(ctx)

	far := hosts.Far()[0]
	a.MustReach(far) // by its floating IP, from its own host
	b.MustReach(far) // by the gateway
	c.MustReach(far)
	a.MustReach(c.IPs[0].Addr())
	a.MustReach(c.IPs[1].Addr())
	out := f.bed.Outside(1)
	out.MustReach(netip.MustParseAddr("203.0.113.51"))

	for _, tt := range []struct {
		name string
		from *hosts.Node
		to   string
		args []string
		want string
	}{
		{"the TTL ends", a.Node, far.String(), []string{"-t", "1"}, "From 10.0.0.1 icmp_seq=1 Time to live exceeded"},
		{"the hop limit ends", a.Node, "fd02::3", []string{"-t", "1"}, "From fd00::ffff icmp_seq=1 Time exceeded: Hop limit"},
		{"too big for the next network", a.Node, "10.2.0.3", []string{"-M", "do", "-s", "1400"}, "From 10.0.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)"},
		{"too big for the next network, IPv6", a.Node, "fd02::3", []string{"-M", "do", "-s", "1380"}, "From fd00::ffff icmp_seq=1 Packet too big: mtu=1400"},
		{"too big for a floating IP's network", out.Node, "203.0.113.51", []string{"-M", "do", "-s", "1460"}, "From 203.0.113.51 icmp_seq=1 Frag needed and DF set (mtu = 1450)"},
		{"the TTL ends at a floating IP", out.Node, "203.0.113.51", []string{"-t", "1"}, "From 203.0.113.51 icmp_seq=1 Time to live exceeded"},
	} {
		said, err := tt.from.Exec(ctx, "ping", append(append([]string{"-n", "-c", "1", "-W", "20"}, tt.args...), tt.to)...)
		if err == nil || !strings.Contains(said+err.Error(), tt.want) {
			t.Errorf("%s: %v\n%s\nwant %s", tt.name, err, said, tt.want)
		}
	}
	for _, router := range []string{"10.0.0.1", "10.2.0.1", "fd00::ffff"} {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		if _, err := a.Talk(ctx, "udp", netip.AddrPortFrom(netip.MustParseAddr(router), 9)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port of the router at %s: %v, want it refused", router, err)
		}
		cancel()
	}

	// A floating IP changes its port at one host: what goes on as the connection that was there reaches the new one.
	floating := netip.MustParseAddr("203.0.113.51")
	out.MustReach(floating, "-e", "77")
	f.state.FloatingIps[0].Port, f.state.FloatingIps[0].FixedIp = pd.Id, d.IPs[0].Addr().String()
	capture := d.Capture("eth0", "icmp")
	f.commit()
	f.same(ctx)
	out.MustReach(floating, "-e", "77")
	if _, err := capture.Await(ctx, "203.0.113.1 > "+d.IPs[0].Addr().String(), "id 77"); err != nil {
		t.Errorf("the floating IP's new port gets nothing of it: %v", err)
	}
	if _, err := capture.Stop(); err != nil {
		t.Error(err)
	}
	f.same(ctx)
}
