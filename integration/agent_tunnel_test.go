package integration

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// tunnelScene is hosts that are joined by tunnels of one kind. a, b and c are in one network, one on each host; d is behind a router of it, which leads
// outside too.
type tunnelScene struct {
	*fleet
	mtu        int // of the network, which makes outer packets as large as the underlay takes
	a, b, c, d *hosts.VM
	out        *hosts.Outside
}

// What crosses tunnels crosses them in each encapsulation, over either family: within a network, to all of it, through routers, to and from outside, and
// in packets of the full size.
func TestAgentsTunnel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		encap api.Encapsulation
		v6    bool
		only  string // is between the hosts
		wire  string // what tcpdump calls it
	}{
		{"Geneve", api.Encapsulation_GENEVE, false, "ip and udp dst port 6081", "172.31.1.%d.6081: Geneve, Flags [none], vni 0x"},
		{"Geneve over IPv6", api.Encapsulation_GENEVE, true, "ip6 and udp dst port 6081", "fd31:0:1::%x.6081: Geneve, Flags [none], vni 0x"},
		{"VXLAN over IPv6", api.Encapsulation_VXLAN, true, "ip6 and udp dst port 4789", "fd31:0:1::%x.4789: VXLAN, flags [I] (0x08), vni "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newTunnelScene(t, tt.encap, tt.v6)
			site := s.bed.Site(1)
			wanted, other := site.Capture("br-ul", tt.only), site.Capture("br-ul", "udp and not ("+tt.only+")")
			for _, part := range []struct {
				name string
				test func(context.Context)
			}{{"within a network", s.within}, {"to all", s.toAll}, {"routed", s.routed}, {"full size", s.fullSize}, {"outside", s.outside}} {
				s.inGroup(t, part.name, part.test)
			}
			for i := range 3 {
				if _, err := wanted.Await(t.Context(), " > "+fmt.Sprintf(tt.wire, 11+i)); err != nil {
					t.Errorf("into the tunnel to host %d: %v", i+1, err)
				}
			}
			if _, err := wanted.Await(t.Context(), ", length 1514: "); err != nil {
				t.Errorf("no frame is as large as the underlay takes: %v", err)
			}
			if _, err := wanted.Stop(); err != nil {
				t.Error(err)
			}
			lines, err := other.Stop()
			if text := strings.TrimSpace(strings.Join(lines, "\n")); err != nil || text != "" {
				t.Errorf("between the hosts is something else than %s: %v\n%s", tt.name, err, text)
			}
		})
	}
}

func newTunnelScene(t *testing.T, encap api.Encapsulation, v6 bool) *tunnelScene {
	t.Helper()
	s := &tunnelScene{fleet: newFleetOn(t, hosts.Config{Hosts: 3, Outside: hosts.Segments(), UnderlayV6: v6}), mtu: 1450}
	for i, h := range s.bed.Hosts() {
		end := &api.TunnelEnd{Address: h.UnderlayIP.String(), Encapsulation: encap}
		if v6 {
			end.Address, s.mtu = h.UnderlayV6.String(), 1430
		}
		s.state.Hosts[i].TunnelEnds = []*api.TunnelEnd{end}
	}
	s.out = s.bed.Outside(1)
	s.network("red", 11, uint32(s.mtu), "10.1.0.0/24", "2001:db8:1::/64") //nolint:gosec // small
	s.network("blue", 12, 1400, "10.2.0.0/24", "2001:db8:2::/64")
	s.state.Networks = append(s.state.Networks, &api.Network{Id: "ext", Key: 14, Mtu: 1500, External: true,
		Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: hosts.Physnet}})
	s.router("r1", 21, "red 10.1.0.1/24 2001:db8:1::1/64", "blue 10.2.0.1/24 2001:db8:2::1/64").Gateway = &api.Gateway{Network: "ext", Mac: outsideMAC(5),
		Addresses: []string{"203.0.113.5/24", "2001:db8:113::5/64"}, NextHops: []string{"203.0.113.1", "2001:db8:113::1"}, Snat: api.SnatMode_SNAT_GATEWAY, Hosts: []string{"s1h1"}}
	h := s.bed.Hosts()
	var shared *api.Port
	s.a, _ = s.guest("a", h[0], "red", hosts.VMConfig{MTU: s.mtu}, "10.1.0.11/24", "2001:db8:1::11/64")
	s.b, shared = s.guest("b", h[1], "red", hosts.VMConfig{MTU: s.mtu}, "10.1.0.12/24", "2001:db8:1::12/64")
	s.c, _ = s.guest("c", h[2], "red", hosts.VMConfig{MTU: s.mtu}, "10.1.0.13/24", "2001:db8:1::13/64")
	s.d, _ = s.guest("d", h[2], "blue", hosts.VMConfig{MTU: 1400}, "10.2.0.14/24", "2001:db8:2::14/64")
	shared.AllowedPairs = []*api.AddressPair{{Prefix: "10.1.0.200"}}
	s.b.Run("ip", "addr", "add", "10.1.0.200/32", "dev", "eth0")
	s.state.FloatingIps = []*api.FloatingIP{{Id: "f", Network: "ext", Router: "r1", Address: "203.0.113.51", Mac: outsideMAC(51), Port: s.d.IfaceID, FixedIp: "10.2.0.14"}}
	s.commit()
	for _, host := range h {
		s.start(host)
	}
	for _, vm := range []*hosts.VM{s.a, s.b, s.c, s.d} {
		serve(vm, 7)
	}
	for _, a := range hosts.Far() {
		for _, network := range []string{"tcp", "udp"} {
			s.out.Serve(network, netip.AddrPortFrom(a, 7))
		}
	}
	return s
}

func (s *tunnelScene) within(ctx context.Context) {
	vms := []*hosts.VM{s.a, s.b, s.c}
	for _, from := range vms {
		for _, to := range vms {
			for i := range to.IPs {
				if from != to {
					from.MustReach(to.IPs[i].Addr())
					s.talks(ctx, from.Node, netip.AddrPortFrom(to.IPs[i].Addr(), 7), from.IPs[i].Addr().String())
				}
			}
		}
	}
}

// toAll is what one copy for each host carries: questions for addresses that no switch answers, broadcasts, multicasts.
func (s *tunnelScene) toAll(ctx context.Context) {
	s.a.MustReach(mustAddr("10.1.0.200")) // by ARP: nobody has told whose it is
	for _, vm := range []*hosts.VM{s.b, s.c} {
		s.a.MustReach(mustAddr(eui64("fe80::", vm.MAC) + "%eth0")) // by neighbour discovery, likewise
	}
	heard := map[*hosts.VM]*hosts.Capture{}
	for _, vm := range []*hosts.VM{s.b, s.c, s.d} {
		heard[vm] = vm.Capture("eth0", "udp port 9 or (icmp6 and ip6[40] == 128 and dst ff02::1)")
	}
	broadcast, err := s.a.Dial(ctx, "udp", "10.1.0.255:9")
	if err == nil {
		_, err = fmt.Fprint(broadcast, "to all")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	_ = broadcast.Close()
	s.await(ctx, "all nodes answer", func() error {
		said, err := s.a.Exec(ctx, "ping", "-n", "-c", "1", "-W", "0.3", "ff02::1%eth0")
		if err == nil && !strings.Contains(said, "1 received") {
			err = fmt.Errorf("it said %s", said)
		}
		return err
	})
	for _, vm := range []*hosts.VM{s.b, s.c} {
		if _, err := heard[vm].Await(ctx, "> ff:ff:ff:ff:ff:ff", "10.1.0.11", "10.1.0.255.9: UDP"); err != nil {
			s.t.Errorf("a broadcast, to %s: %v", vm.Name, err)
		}
		if _, err := heard[vm].Await(ctx, "ff02::1: ICMP6, echo request"); err != nil {
			s.t.Errorf("a multicast, to %s: %v", vm.Name, err)
		}
	}
	for vm, capture := range heard {
		lines, err := capture.Stop()
		if err != nil {
			s.t.Error(err)
		}
		text, want := strings.Join(lines, "\n"), 1
		if vm == s.d {
			want = 0 // it is in another network
		}
		if n := strings.Count(text, "10.1.0.255.9: UDP"); n != want {
			s.t.Errorf("%s got %d copies of a broadcast, want %d:\n%s", vm.Name, n, want, text)
		}
	}
}

func (s *tunnelScene) routed(ctx context.Context) {
	for _, vm := range []*hosts.VM{s.a, s.b} {
		for i, p := range s.d.IPs {
			vm.MustReach(p.Addr())
			s.talks(ctx, vm.Node, netip.AddrPortFrom(p.Addr(), 7), vm.IPs[i].Addr().String())
			s.talks(ctx, s.d.Node, netip.AddrPortFrom(vm.IPs[i].Addr(), 7), p.Addr().String())
		}
	}
}

// fullSize sends what fills the underlay's packets, which nobody may split; and what is larger than the next network takes, which the router says.
func (s *tunnelScene) fullSize(ctx context.Context) {
	for i, headers := range []int{28, 48} {
		to := s.c.IPs[i].Addr()
		s.a.MustReach(to, "-M", "do", "-s", fmt.Sprint(s.mtu-headers))
		if err := transfer(ctx, s.a, netip.AddrPortFrom(to, 7)); err != nil {
			s.t.Errorf("TCP to %s, and back: %v", to, err)
		}
		if err := transfer(ctx, s.a, netip.AddrPortFrom(s.d.IPs[i].Addr(), 7)); err != nil {
			s.t.Errorf("TCP to %s, and back: %v", s.d.IPs[i].Addr(), err)
		}
	}
}

// outside is by the gateway's host, in tunnels of the router, and to a floating IP at its own.
func (s *tunnelScene) outside(ctx context.Context) {
	for _, p := range []string{"2001:db8:1::/64", "2001:db8:2::/64"} {
		s.out.Run("ip", "route", "add", p, "via", "2001:db8:113::5")
	}
	for _, vm := range []*hosts.VM{s.b, s.c} {
		s.talks(ctx, vm.Node, far(0), "203.0.113.5")
		vm.MustReach(far(0).Addr())
		s.talks(ctx, vm.Node, far(1), vm.IPs[1].Addr().String())
		s.out.MustReach(vm.IPs[1].Addr())
	}
	s.talks(ctx, s.d.Node, far(0), "203.0.113.51")
	s.talks(ctx, s.out.Node, at("203.0.113.51", 7), "203.0.113.1")
	s.talks(ctx, s.a.Node, at("203.0.113.51", 7), "203.0.113.5")
}

// A site that runs changes from VXLAN to Geneve, and on to IPv6, host by host, and loses nothing: what was there goes only when nobody sends that way.
func TestAgentsChangeTunnels(t *testing.T) {
	t.Parallel()
	f := newFleetOn(t, hosts.Config{Hosts: 3, Outside: hosts.Segments(), UnderlayV6: true})
	ctx := t.Context()
	h := f.bed.Hosts()
	var vms []*hosts.VM
	for i := range h {
		vm, _ := f.vm(fmt.Sprintf("vm%d", i+1), h[i], hosts.VMConfig{MTU: 1430})
		vms = append(vms, vm)
	}
	f.commit()
	for _, host := range h {
		f.start(host)
	}
	f.settle(ctx)
	const vxlan, geneve, geneve6 = "vxlan", "geneve", "geneve over IPv6"
	ends := func(i int, kinds ...string) {
		f.state.Hosts[i].TunnelEnds = nil
		for _, k := range kinds {
			end := &api.TunnelEnd{Address: h[i].UnderlayIP.String()}
			if k != vxlan {
				end.Encapsulation = api.Encapsulation_GENEVE
			}
			if k == geneve6 {
				end.Address = h[i].UnderlayV6.String()
			}
			f.state.Hosts[i].TunnelEnds = append(f.state.Hosts[i].TunnelEnds, end)
		}
	}
	all := func() {
		for _, from := range vms {
			for _, to := range vms {
				if from != to {
					from.MustReach(to.IPs[0].Addr())
					from.MustReach(to.IPs[1].Addr(), "-s", "1382", "-M", "do")
				}
			}
		}
	}
	all()
	// A switch in user space drops what goes into a tunnel until it knows whose the other end's address is. It learns from what its host is told.
	for _, from := range h {
		for _, to := range h {
			if from != to {
				from.MustReach(to.UnderlayV6)
			}
		}
	}
	for _, tt := range []struct{ from, to, only string }{{vxlan, geneve, "udp port 6081"}, {geneve, geneve6, "ip6 and udp port 6081"}} {
		for i := range h {
			ends(i, tt.from, tt.to)
		}
		f.settle(ctx) // all can receive it, none sends it
		first, second := f.pings(ctx, vms[0], vms[1]), f.pings(ctx, vms[2], vms[0])
		for i := range h {
			ends(i, tt.to, tt.from)
			f.settle(ctx)
			all()
		}
		first.go1(ctx, 50)
		second.go1(ctx, 50)
		for i := range h {
			ends(i, tt.to)
			f.settle(ctx)
		}
		wrong := f.bed.Site(1).Capture("br-ul", "udp and not ("+tt.only+")")
		first.go1(ctx, 50)
		second.go1(ctx, 50)
		for what, p := range map[string]*pings{"vm1 to vm2": first, "vm3 to vm1": second} {
			if lost := p.stop(what + ", from " + tt.from + " to " + tt.to); lost > 0 {
				t.Errorf("%s lost %d pings while tunnels changed from %s to %s, want none", what, lost, tt.from, tt.to)
			}
		}
		all()
		lines, err := wrong.Stop()
		if text := strings.TrimSpace(strings.Join(lines, "\n")); err != nil || text != "" {
			t.Errorf("between hosts is something else than %s: %v\n%s", tt.to, err, text)
		}
	}
}
