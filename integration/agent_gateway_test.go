package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// gatewayScene is a router to an external network whose gateway s1h1 is, or else s1h2, by what the hosts' gossip says. b is on s1h2; a and d are on s1h3, d
// with a floating IP. What leaves over IPv6 leaves by the gateway as it is.
type gatewayScene struct {
	*fleet
	a, b, d *hosts.VM
	r       *api.Router
	out     *hosts.Outside
	keys    string
}

const gatewayMAC = "fa:16:3e:0b:00:05"

func newGatewayScene(t *testing.T, snat api.SnatMode) *gatewayScene {
	t.Helper()
	s := &gatewayScene{fleet: newBareFleet(t, 3)}
	s.out = s.bed.Outside(1)
	s.keys = filepath.Join(s.bed.Dir, "gossip.key")
	if err := os.WriteFile(s.keys, []byte("MDEyMzQ1Njc4OWFiY2RlZg==\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.network("red", 11, 1450, "10.1.0.0/24", "2001:db8:1::/64")
	s.state.Networks = append(s.state.Networks, &api.Network{Id: "ext", Key: 14, Mtu: 1500, External: true,
		Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: hosts.Physnet}})
	s.r = s.router("r1", 21, "red 10.1.0.1/24 2001:db8:1::1/64")
	s.r.Gateway = &api.Gateway{Network: "ext", Mac: gatewayMAC, Addresses: []string{"203.0.113.5/24", "2001:db8:113::5/64"},
		NextHops: []string{"203.0.113.1", "2001:db8:113::1"}, Snat: snat, Hosts: []string{"s1h1", "s1h2"}}
	h := s.bed.Hosts()
	s.a, _ = s.guest("a", h[2], "red", hosts.VMConfig{}, "10.1.0.11/24", "2001:db8:1::11/64")
	s.b, _ = s.guest("b", h[1], "red", hosts.VMConfig{}, "10.1.0.12/24", "2001:db8:1::12/64")
	s.d, _ = s.guest("d", h[2], "red", hosts.VMConfig{}, "10.1.0.14/24", "2001:db8:1::14/64")
	s.state.FloatingIps = []*api.FloatingIP{{Id: "f", Network: "ext", Router: "r1", Address: "203.0.113.51", Mac: outsideMAC(51), Port: s.d.IfaceID, FixedIp: "10.1.0.14"}}
	s.commit()
	for _, host := range h {
		s.join(host)
	}
	serve(s.d, 8)
	for _, far := range hosts.Far() {
		for _, network := range []string{"tcp", "udp"} {
			s.out.Serve(network, netip.AddrPortFrom(far, 7))
		}
	}
	s.out.Run("ip", "route", "add", "2001:db8:1::/64", "via", "2001:db8:113::5")
	s.await(t.Context(), "all are members", func() error {
		for _, host := range h {
			if out, err := s.tool(t.Context(), host, "metrics"); err != nil || !strings.Contains(out, `headwater_members_alive{pool="site",role="host"} 3`) {
				return fmt.Errorf("%s does not know all: %w", host.Name, errors.Join(err))
			}
		}
		return nil
	})
	return s
}

// join starts a host's agent, which joins its site's pool by any other host.
func (s *gatewayScene) join(h *hosts.Host) {
	s.t.Helper()
	flags := []string{"--site", "s1", "--gossip", h.UnderlayIP.String(), "--gossip-keys", s.keys}
	for _, other := range s.bed.Hosts() {
		flags = append(flags, "--gossip-seed", other.UnderlayIP.String())
	}
	s.start(h, flags...)
}

// acts waits until the physical switch has heard the gateway by the link of a host.
func (s *gatewayScene) acts(ctx context.Context, host string) {
	s.t.Helper()
	s.await(ctx, host+" is the gateway", func() error {
		if at := s.out.Behind(gatewayMAC); at != host {
			return fmt.Errorf("the gateway is behind %q", at)
		}
		return nil
	})
}

// stream pings who is far over both families, each 2 ms.
func (s *gatewayScene) stream(ctx context.Context, from *hosts.VM) *pings {
	s.t.Helper()
	p := &pings{t: s.t}
	for i, via := range []string{"10.1.0.1", "2001:db8:1::1"} {
		socket, err := probe.Open(from, "eth0")
		if err != nil {
			s.t.Fatal(err)
		}
		st, err := socket.Stream(ctx, probe.Path{Src: from.IPs[i].Addr(), Dst: hosts.Far()[i], Via: mustAddr(via)}, 2*time.Millisecond)
		if err != nil {
			s.t.Fatal(err)
		}
		p.streams = append(p.streams, st)
	}
	p.go1(ctx, 50)
	return p
}

// The host that is a router's gateway dies, the next one takes its place, and it gives it back when the first is there again.
func TestAgentsGatewayDies(t *testing.T) {
	t.Parallel()
	s := newGatewayScene(t, api.SnatMode_SNAT_GATEWAY)
	ctx := t.Context()
	first, second := s.bed.Host("s1h1"), s.bed.Host("s1h2")
	for _, vm := range []*hosts.VM{s.a, s.b} {
		s.talks(ctx, vm.Node, far(0), "203.0.113.5")
	}
	s.acts(ctx, "s1h1")
	s.talks(ctx, s.a.Node, far(1), "2001:db8:1::11")
	s.talks(ctx, s.d.Node, far(0), "203.0.113.51")
	as6 := s.hold(ctx, s.a.Node, far(1))                 // by the gateway, as it is
	floating := s.hold(ctx, s.d.Node, far(0))            // by its own host
	in := s.hold(ctx, s.out.Node, at("203.0.113.51", 8)) // likewise
	told := s.out.Capture("s1h2", "arp and ether src "+gatewayMAC)

	s.agents["s1h1"].Kill()
	first.KillSwitch()
	began := time.Now()
	for what, c := range map[string]*connection{"from a floating IP": floating, "to a floating IP": in} {
		if err := c.say(ctx, 10*time.Second); err != nil {
			t.Errorf("a connection %s, whose hosts live, ends with another host: %v", what, err)
		}
	}
	s.acts(ctx, "s1h2")
	t.Logf("the second host is the gateway %s after the first has died", time.Since(began).Round(time.Millisecond))
	if _, err := told.Await(ctx, "Request who-has 203.0.113.5 ", " tell 203.0.113.5"); err != nil {
		t.Errorf("the new gateway does not say that it is one: %v", err)
	}
	for _, vm := range []*hosts.VM{s.a, s.b} {
		s.talks(ctx, vm.Node, far(0), "203.0.113.5")
	}
	if err := as6.say(ctx, 60*time.Second); err != nil {
		t.Errorf("a connection that nobody translated ends with its gateway: %v", err)
	}
	if _, err := told.Stop(); err != nil {
		t.Error(err)
	}

	// An agent that starts while the first host is dead knows that it is.
	p := s.stream(ctx, s.a)
	for _, h := range []*hosts.Host{second, s.bed.Host("s1h3")} {
		s.agents[h.Name].Kill()
		s.join(h)
	}
	s.sameAt(ctx, second, s.bed.Host("s1h3"))
	p.go1(ctx, 100)
	if lost := p.stop("agents start again while the first gateway is dead"); lost > 0 {
		t.Errorf("%d pings were lost, want none", lost)
	}

	// It gives the work back, once: when all know that the first one lives, nobody else says that he is the gateway.
	p = s.stream(ctx, s.a)
	first.StartSwitch()
	s.join(first)
	s.acts(ctx, "s1h1")
	s.dead(ctx, second)
	s.dead(ctx, s.bed.Host("s1h3"))
	s.same(ctx)
	others := s.out.Capture("s1h2", "inbound and ether src "+gatewayMAC)
	p.go1(ctx, 500)
	p.stop("the first gateway is back")
	s.talks(ctx, s.a.Node, far(0), "203.0.113.5")
	lines, err := others.Stop()
	if text := strings.TrimSpace(strings.Join(lines, "\n")); err != nil || text != "" {
		t.Errorf("the second host goes on as the gateway: %v\n%s", err, text)
	}
	s.acts(ctx, "s1h1")
}

// dead waits until a host knows just these for dead.
func (s *gatewayScene) dead(ctx context.Context, at *hosts.Host, want ...string) {
	s.t.Helper()
	s.await(ctx, fmt.Sprintf("%s knows the dead: %s", at.Name, want), func() error {
		out, err := s.tool(ctx, at, "state", "down", "-f", "value", "-c", "id")
		if got := strings.Join(strings.Fields(out), " "); err == nil && got != strings.Join(want, " ") {
			err = fmt.Errorf("it knows %q", got)
		}
		return err
	})
}

// A gateway that only gossip does not reach any more goes on as one, since it cannot know better; the others have the next one. Both are met at one address:
// what comes of that hangs on the physical switch. Within the site all goes on. When gossip gets through again, one remains.
func TestAgentsGossipIsCut(t *testing.T) {
	t.Parallel()
	s := newGatewayScene(t, api.SnatMode_SNAT_GATEWAY)
	ctx := t.Context()
	first, second := s.bed.Host("s1h1"), s.bed.Host("s1h2")
	c, _ := s.guest("c", first, "red", hosts.VMConfig{}, "10.1.0.13/24", "2001:db8:1::13/64")
	s.commit()
	for _, vm := range []*hosts.VM{s.a, s.b, c} {
		s.talks(ctx, vm.Node, far(0), "203.0.113.5")
	}
	for _, way := range []string{"udp,tp_dst", "udp,tp_src", "tcp,tp_dst", "tcp,tp_src"} {
		first.AddFlows(hosts.Underlay, "priority=100,"+way+"=7946,actions=drop")
	}
	s.dead(ctx, first, "s1h2", "s1h3")
	s.dead(ctx, second, "s1h1")
	s.dead(ctx, s.bed.Host("s1h3"), "s1h1")
	for _, vm := range []*hosts.VM{s.a, s.b} { // tunnels do not care
		vm.MustReach(c.IPs[0].Addr())
		vm.MustReach(c.IPs[1].Addr())
	}
	s.talks(ctx, s.d.Node, far(0), "203.0.113.51") // nor do floating IPs
	s.talks(ctx, s.out.Node, at("203.0.113.51", 8), "203.0.113.1")
	first.Ofctl("--strict", "del-flows", hosts.Underlay, "priority=100,udp,tp_dst=7946")
	for _, way := range []string{"udp,tp_src", "tcp,tp_dst", "tcp,tp_src"} {
		first.Ofctl("--strict", "del-flows", hosts.Underlay, "priority=100,"+way+"=7946")
	}
	for _, h := range s.bed.Hosts() {
		s.dead(ctx, h)
	}
	s.same(ctx)
	others := s.out.Capture("s1h2", "inbound and ether src "+gatewayMAC)
	for _, vm := range []*hosts.VM{s.a, s.b, c} {
		s.talks(ctx, vm.Node, far(0), "203.0.113.5")
	}
	s.acts(ctx, "s1h1")
	lines, err := others.Stop()
	if text := strings.TrimSpace(strings.Join(lines, "\n")); err != nil || text != "" {
		t.Errorf("the second host goes on as the gateway: %v\n%s", err, text)
	}
}

// exchange has an exchange over a connection, and says as whom its end here is seen.
func exchange(ctx context.Context, c net.Conn, limit time.Duration) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return hosts.Exchange(ctx, c)
}

// Hosts that share an address by blocks of ports lose no connection with the host that answers for it: it knows of none. What has no ports goes by the
// gateway, whose place the next one takes.
func TestAgentsShareAnAddress(t *testing.T) {
	t.Parallel()
	s := newGatewayScene(t, api.SnatMode_SNAT_BLOCKS)
	ctx := t.Context()
	const size = 1024
	for i, h := range []string{"s1h1", "s1h2", "s1h3", "s1h3"} {
		s.state.SnatAddresses = append(s.state.SnatAddresses, &api.SnatAddress{Id: fmt.Sprintf("block-%d", i), Network: "ext", Host: h, Owner: "s1h1", Address: "203.0.113.70",
			Mac: outsideMAC(70), FirstPort: uint32(size * (4 + i)), Ports: size}) //nolint:gosec // small
	}
	first := s.bed.Host("s1h1")
	c, _ := s.guest("c", first, "red", hosts.VMConfig{}, "10.1.0.13/24", "2001:db8:1::13/64")
	s.commit()
	blocks := map[string][]uint16{"s1h1": {4}, "s1h2": {5}, "s1h3": {6, 7}}
	type held struct {
		net.Conn
		name string
		seen netip.AddrPort
	}
	var all []held
	for _, vm := range []*hosts.VM{s.a, s.b, c} {
		for _, network := range []string{"tcp", "udp"} {
			s.talks(ctx, vm.Node, far(0), "203.0.113.70")
			for range 3 {
				conn, err := vm.Dial(ctx, network, far(0).String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				seen, err := exchange(ctx, conn, 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(blocks[vm.Host().Name], seen.Port()/size) || seen.Addr() != mustAddr("203.0.113.70") {
					t.Errorf("%s on %s is seen as %s, want a port of its host's blocks", vm.Name, vm.Host().Name, seen)
				}
				if vm != c {
					all = append(all, held{conn, vm.Name + " " + network, seen})
				}
			}
		}
		vm.MustReach(far(0).Addr())
		s.refused(ctx, vm.Node, "udp", netip.AddrPortFrom(far(0).Addr(), 9999)) // the error comes to the owner, who does not know whose it is
	}
	s.handsOut(first)

	s.agents["s1h1"].Kill()
	first.KillSwitch()
	for _, a := range s.state.SnatAddresses {
		a.Owner = "s1h2"
	}
	s.commit()
	for _, h := range all {
		seen, err := exchange(ctx, h, 60*time.Second)
		if err != nil || seen != h.seen {
			t.Errorf("a connection of %s ends with the owner of its address: it was seen as %s, is as %s: %v", h.name, h.seen, seen, err)
		}
	}
	s.handsOut(s.bed.Host("s1h2"))
	s.acts(ctx, "s1h2")
	for _, vm := range []*hosts.VM{s.a, s.b} {
		vm.MustReach(far(0).Addr())
		s.talks(ctx, vm.Node, far(0), "203.0.113.70")
		s.refused(ctx, vm.Node, "udp", netip.AddrPortFrom(far(0).Addr(), 9999))
	}
}

// handsOut fails the test unless a host has one flow for each block and protocol.
func (s *gatewayScene) handsOut(h *hosts.Host) {
	s.t.Helper()
	masked := regexp.MustCompile(`(tcp|udp),.*nw_dst=203\.0\.113\.70,tp_dst=0x1[0-9a-f]00/0xfc00`)
	n := 0
	for _, flow := range h.DumpFlows(hosts.Integration) {
		if masked.MatchString(flow) {
			n++
		}
	}
	if n != 8 {
		s.t.Errorf("%s hands out what comes by %d flows, want one for each of four blocks, TCP and UDP", h.Name, n)
	}
}
