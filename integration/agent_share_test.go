package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// A guest that has all the connections that a port may have begins no more of them. Those that it has stand, and nobody else is any the worse for it. The
// bound is there again after the switch has restarted.
func TestAgentsBoundConnections(t *testing.T) {
	t.Parallel()
	const bound = 30
	f := newBareFleet(t, 2)
	ctx := t.Context()
	h := f.bed.Hosts()
	f.commit()
	f.start(h[0], "--port-connections", fmt.Sprint(bound))
	f.start(h[1], "--port-connections", "0")
	greedy, port := f.vm("greedy", h[0], hosts.VMConfig{})
	beside, _ := f.vm("beside", h[0], hosts.VMConfig{})
	web, _ := f.vm("web", h[1], hosts.VMConfig{})
	f.settle(ctx)
	serve(web, 80)
	to := netip.AddrPortFrom(web.IPs[0].Addr(), 80)
	f.exchanges(ctx, beside, "tcp", to)
	bounded := func(what string) {
		t.Helper()
		f.await(ctx, what, func() error {
			out := h[0].Appctl("dpctl/ct-get-limits", "netdev@ovs-netdev")
			if n := strings.Count(out, fmt.Sprintf("limit=%d,", bound)); n != 2 {
				return fmt.Errorf("%d ports are bounded: %s", n, out)
			}
			return nil
		})
	}
	bounded("the bounds are set")

	theirs := f.hold(ctx, beside.Node, to)
	var held []*connection
	full := func() bool {
		return strings.Contains(h[0].Appctl("dpctl/ct-get-limits", "netdev@ovs-netdev"), fmt.Sprintf("limit=%d,count=%d", bound, bound))
	}
	for range 3 * bound { // a slow machine may take too long over one or the other
		if c, err := begin(ctx, greedy.Node, to); err == nil {
			held = append(held, c)
			t.Cleanup(c.end)
		} else if full() {
			break
		}
	}
	if len(held) > bound || len(held) < bound/2 {
		t.Errorf("the guest has %d connections, want %d", len(held), bound)
	}
	f.cut(ctx, greedy, "tcp", to, beside, to)
	for i, c := range append(held, theirs) {
		if err := c.say(ctx, 20*time.Second); err != nil {
			t.Errorf("connection %d of %s does not go on: %v", i, c.from.Name, err)
		}
	}
	f.await(ctx, "it is told of", func() error {
		status, err := f.tool(ctx, h[0], "status")
		if err == nil && !(strings.Contains(status, "connections-full") && strings.Contains(status, port.GetId())) {
			err = errors.New(status)
		}
		if err != nil {
			return err
		}
		figures, err := f.tool(ctx, h[0], "metrics")
		if err == nil && !strings.Contains(figures, "headwater_agent_full_zones 1\n") {
			err = errors.New("no full zone among the metrics")
		}
		return err
	})
	h[0].RestartSwitch()
	bounded("the bounds are set after a restart of the switch")
	f.exchanges(ctx, greedy, "tcp", to)
}

// begin is a connection that may not come about.
func begin(ctx context.Context, from *hosts.Node, to netip.AddrPort) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	c := newConnection(conn, from)
	if err := c.say(ctx, 5*time.Second); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// A guest that floods its host's agent with everything that a router has for it does not keep another from being told of the MTU of its path, of the
// end of its packet's time, of a closed port, and from meeting a neighbour outside that nobody had met before.
func TestAgentsShare(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	ctx := t.Context()
	h := f.bed.Hosts()[0]
	gateways := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::ffff")}
	flooder, _ := f.vm("flooder", h, hosts.VMConfig{Gateways: gateways})
	guest, _ := f.vm("guest", h, hosts.VMConfig{Gateways: gateways})
	leg := net.HardwareAddr{0xfa, 0x16, 0x3e, 0x20, 0, 1}
	f.state.Networks = append(f.state.Networks, &api.Network{Id: "n2", Key: 2, Mtu: 1300},
		&api.Network{Id: "ext", Key: 3, Mtu: 1500, External: true, Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: hosts.Physnet}})
	f.state.Routers = []*api.Router{{Id: "r", Key: 1,
		Interfaces: []*api.RouterInterface{
			{Network: "n1", Mac: leg.String(), Addresses: []string{"10.0.0.1/16", "fd00::ffff/64"}},
			{Network: "n2", Mac: "fa:16:3e:20:00:02", Addresses: []string{"10.2.0.1/24", "fd02::ffff/64"}}},
		Gateway: &api.Gateway{Network: "ext", Mac: "fa:16:3e:20:00:03", Addresses: []string{"203.0.113.5/24"}, NextHops: []string{"203.0.113.1"},
			Snat: api.SnatMode_SNAT_GATEWAY, Hosts: []string{h.Name}}}}
	f.state.Ports = append(f.state.Ports, &api.Port{Id: "small", Key: 900, Network: "n2", Mac: "fa:16:3e:20:09:00", Host: h.Name,
		FixedIps: []*api.FixedIP{{Address: "10.2.0.3"}, {Address: "fd02::3"}}})
	f.commit()
	f.same(ctx)

	flood, stop := context.WithCancel(ctx)
	var sending errgroup.Group
	sent := make(chan struct{})
	sending.Go(func() error { return floodRouter(flood, flooder, leg, sent) })
	t.Cleanup(func() { stop(); _ = sending.Wait() })
	select {
	case <-sent:
	case <-ctx.Done():
	}
	for range 5 {
		for _, tt := range []struct {
			name, to, want string
			args           []string
		}{
			{"the TTL ends", hosts.Far()[0].String(), "From 10.0.0.1 icmp_seq=1 Time to live exceeded", []string{"-t", "1"}},
			{"too big", "10.2.0.3", "From 10.0.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1300)", []string{"-M", "do", "-s", "1400"}},
			{"too big, IPv6", "fd02::3", "From fd00::ffff icmp_seq=1 Packet too big: mtu=1300", []string{"-M", "do", "-s", "1380"}},
		} {
			var said string
			told := false
			for try := 0; try < 3 && !told; try++ { // were it left to chance, hardly any would be
				guest.Run("ip", "-4", "route", "flush", "cache") // what it has found of its paths
				guest.Run("ip", "-6", "route", "flush", "cache")
				out, err := guest.Exec(ctx, "ping", append(append([]string{"-n", "-c", "1", "-W", "5"}, tt.args...), tt.to)...)
				said = fmt.Sprint(out, err)
				told = err != nil && strings.Contains(said, tt.want)
			}
			if !told {
				t.Errorf("%s: %s\nwant %s", tt.name, said, tt.want)
			}
		}
	}
	f.refused(ctx, guest.Node, "udp", at("10.0.0.1", 9))
	guest.MustReach(hosts.Far()[0]) // by the next hop outside
	stop()
	if err := sending.Wait(); err != nil {
		t.Error(err)
	}
}

// floodRouter sends a router what it has something to tell its agent of, some thousands a second, until ctx ends. It closes sent after the first second.
func floodRouter(ctx context.Context, from *hosts.VM, router net.HardwareAddr, sent chan<- struct{}) error {
	s, err := probe.Open(from, "eth0")
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // it ends
	v4, v6 := from.IPs[0].Addr(), from.IPs[1].Addr()
	big, small := make([]byte, 1360), make([]byte, 8)
	frames := [][]byte{
		probe.IP(from.MAC, router, v4, mustAddr("192.0.2.1"), 17, 1, small),
		probe.IP(from.MAC, router, v4, mustAddr("10.2.0.3"), 17, 64, big),
		probe.IP(from.MAC, router, v6, mustAddr("fd02::3"), 17, 64, big),
		probe.UDP(from.MAC, router, netip.AddrPortFrom(v4, 9), at("10.0.0.1", 9), small),
	}
	for i := range 20 {
		frames = append(frames, probe.UDP(from.MAC, router, netip.AddrPortFrom(v4, 9), netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i)}), 9), small)) //nolint:gosec // small
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		for _, frame := range frames {
			if err := s.Send(frame); err != nil {
				return err
			}
		}
		if n == 100 {
			close(sent)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
