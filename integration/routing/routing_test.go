package routing_test

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// scene is two tenants, each with a router to one external network. The first has the networks red and blue; the second's network green has the
// addresses of red.
type scene struct {
	*fabric
	a, b, c, d, e *hosts.VM
	out           *hosts.Outside
	router        state.Router
}

const (
	farV4 = "192.0.2.80"
	farV6 = "2001:db8:fff::80"
)

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{fabric: newFabric(t, 3)}
	s.out = s.bed.Outside(1)
	any4 := state.SecurityRule{ID: "v4", Protocol: -1, ICMPType: -1, ICMPCode: -1}
	any6 := any4
	any6.ID, any6.V6 = "v6", true
	out4, out6 := any4, any6
	out4.ID, out4.Egress, out6.ID, out6.Egress = "out4", true, "out6", true
	s.set(&state.SecurityGroup{ID: "open", Rules: []state.SecurityRule{any4, any6, out4, out6}},
		&state.Network{ID: "red", Key: 11, MTU: 1450}, &state.Network{ID: "blue", Key: 12, MTU: 1450}, &state.Network{ID: "green", Key: 13, MTU: 1450},
		&state.Network{ID: "ext", Key: 14, MTU: 1500, External: true, Segment: state.Flat, Physical: hosts.Physnet},
		&state.Network{ID: "machines", Key: 15, MTU: 1500, Segment: state.VLAN, Physical: hosts.Physnet, VLAN: 100})
	s.router = state.Router{ID: "r1", Key: 21, Interfaces: []state.RouterInterface{
		{Network: "red", MAC: mac(1), Addresses: interfaces("10.0.1.1/24", "2001:db8:1::1/64")},
		{Network: "blue", MAC: mac(2), Addresses: interfaces("10.0.2.1/24", "2001:db8:2::1/64")},
		{Network: "machines", MAC: mac(3), Addresses: interfaces("198.51.100.9/24")},
	}}
	s.gateway(state.SnatNone)
	s.set(&state.Router{ID: "r2", Key: 22, Interfaces: []state.RouterInterface{{Network: "green", MAC: mac(6), Addresses: interfaces("10.0.1.1/24")}},
		Gateway: &state.Gateway{Network: "ext", MAC: mac(7), Addresses: interfaces("203.0.113.6/24"), NextHops: []netip.Addr{addr("203.0.113.1")}, Snat: state.SnatHost}})
	outer := state.MACOf(hosts.MACOf(s.out.Name + s.out.Segments[0].Device()))
	s.set(s.knows("ext", "203.0.113.1", outer), s.knows("ext", "2001:db8:113::1", outer))
	for name := range s.members {
		s.at(name, &state.Zone{ID: "r1", Snat: 1001, Dnat: 1002}, &state.Zone{ID: "r2", Snat: 1003, Dnat: 1004}, &state.Zone{ID: state.NetworkZone("ext"), Snat: 1005})
	}
	s.a = s.vm("a", "s1h1", "red", "10.0.1.11/24", "2001:db8:1::11/64")
	s.b = s.vm("b", "s1h2", "blue", "10.0.2.12/24", "2001:db8:2::12/64")
	s.c = s.vm("c", "s1h3", "red", "10.0.1.13/24", "2001:db8:1::13/64")
	s.d = s.vm("d", "s1h1", "blue", "10.0.2.14/24", "2001:db8:2::14/64")
	s.e = s.vm("e", "s1h3", "green", "10.0.1.13/24")
	for _, far := range []string{farV4, farV6} {
		for _, network := range []string{"tcp", "udp"} {
			s.out.Serve(network, at(far, 7))
		}
	}
	return s
}

// gateway makes the first tenant's router translate in a mode; s1h2 acts as its gateway, or else s1h3.
func (s *scene) gateway(mode state.SnatMode) {
	s.t.Helper()
	r := s.router
	r.Gateway = &state.Gateway{Network: "ext", MAC: mac(5), Addresses: interfaces("203.0.113.5/24", "2001:db8:113::5/64"),
		NextHops: []netip.Addr{addr("203.0.113.1"), addr("2001:db8:113::1")}, Snat: mode, Hosts: []string{"s1h2", "s1h3"}}
	s.set(&r)
}

func TestRouting(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"between networks", s.betweenNetworks}, {"TTL", s.ttl}, {"equal ways", s.equalWays}, {"IPv6 outside", s.outsideV6}, {"machines", s.machines},
		{"floating IPs", s.floating}, {"a host's own address", s.hidden(s.snatHost)}, {"blocks of ports", s.hidden(s.snatBlocks)}, {"gateway", s.hidden(s.snatGateway)},
	} {
		s.t = t // failures of a part are the part's
		t.Run(part.name, func(t *testing.T) {
			s.t = t
			part.test(t)
		})
	}
}

// hidden is a part of the test while which no packet may go outside from an address of a tenant.
func (s *scene) hidden(part func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) {
		capture := s.out.Capture(s.out.Segments[0].Device(), "src net 10.0.0.0/8 or src net 198.18.0.0/15")
		part(t)
		lines, err := capture.Stop()
		if err != nil {
			t.Error(err)
		}
		if seen := strings.TrimSpace(strings.Join(lines, "\n")); seen != "" {
			t.Errorf("what should be translated is seen outside as it is:\n%s", seen)
		}
	}
}

func (s *scene) betweenNetworks(*testing.T) {
	for _, vm := range []*hosts.VM{s.b, s.d} {
		for _, p := range vm.IPs {
			s.a.MustReach(p.Addr())
			s.c.MustReach(p.Addr())
			vm.MustReach(s.a.IPs[0].Addr())
			for _, network := range []string{"tcp", "udp"} {
				vm.Serve(network, netip.AddrPortFrom(p.Addr(), 7))
				s.talks(s.a.Node, network, netip.AddrPortFrom(p.Addr(), 7), "10.0.1.11", "2001:db8:1::11")
				s.talks(s.c.Node, network, netip.AddrPortFrom(p.Addr(), 7), "10.0.1.13", "2001:db8:1::13")
			}
		}
	}
	for _, a := range []string{"10.0.1.1", "10.0.2.1", "203.0.113.5", "2001:db8:1::1", "2001:db8:2::1", mac(1).LinkLocal().String() + "%eth0"} {
		s.a.MustReach(addr(a))
	}
	s.e.MustNotReach(addr("10.0.2.12"))
}

func (s *scene) ttl(*testing.T) {
	for _, a := range []string{"10.0.2.12", "2001:db8:2::12"} {
		s.a.MustReach(addr(a), "-t", "2")
		s.a.MustNotReach(addr(a), "-t", "1")
	}
}

// Connections to 10.9.0.1, which both b and d have, are spread over both; each stays with one.
func (s *scene) equalWays(t *testing.T) {
	r := s.router
	r.Routes = []state.StaticRoute{{Destination: netip.MustParsePrefix("10.9.0.0/16"), NextHops: []netip.Addr{addr("10.0.2.12"), addr("10.0.2.14")}}}
	s.set(&r)
	defer s.gateway(state.SnatNone)
	for _, vm := range []*hosts.VM{s.b, s.d} {
		vm.Run("ip", "addr", "add", "10.9.0.1/32", "dev", "lo")
		vm.Serve("tcp", at("10.9.0.1", 9))
	}
	// Their guests may send from no other address than their own, unless they are allowed to.
	for name, vm := range map[string]*hosts.VM{"b": s.b, "d": s.d} {
		var port *state.Port
		s.members["s1h1"].store.Read(func(v *state.View) { port = state.Find[*state.Port](v, name) })
		allowed := *port
		allowed.AllowedPairs = []state.AddressPair{{Prefix: netip.MustParsePrefix("10.9.0.1/32"), MAC: state.MACOf(vm.MAC)}}
		s.set(&allowed)
	}
	for range 30 {
		s.talks(s.a.Node, "tcp", at("10.9.0.1", 9), "10.0.1.11")
	}
	stats := s.bed.Host("s1h1").Ofctl("-O", "OpenFlow13", "dump-group-stats", hosts.Integration)
	spread := regexp.MustCompile(`bucket0:packet_count=(\d+),byte_count=\d+,bucket1:packet_count=(\d+),`).FindStringSubmatch(stats)
	if spread == nil || spread[1] == "0" || spread[2] == "0" {
		t.Errorf("30 connections are not spread over both: %s", stats)
	}
}

func (s *scene) outsideV6(*testing.T) {
	for _, p := range []string{"2001:db8:1::/64", "2001:db8:2::/64"} {
		s.out.Run("ip", "route", "add", p, "via", "2001:db8:113::5")
	}
	for _, vm := range []*hosts.VM{s.a, s.b, s.c} {
		vm.MustReach(addr(farV6))
		s.out.MustReach(vm.IPs[1].Addr())
		s.talks(vm.Node, "tcp", at(farV6, 7), vm.IPs[1].Addr().String())
	}
}

// A VLAN of the physical network with a machine that no host knows (the gateway outside) and a guest: red is reached from both, and the
// other way.
func (s *scene) machines(t *testing.T) {
	machine := state.MACOf(hosts.MACOf(s.out.Name + s.out.Segments[1].Device()))
	s.set(s.knows("machines", "198.51.100.1", machine))
	s.out.Run("ip", "route", "add", "10.0.1.0/24", "via", "198.51.100.9")
	defer s.out.Run("ip", "route", "del", "10.0.1.0/24")
	s.keys = 50
	vm := s.vm("p", "s1h2", "machines", "198.51.100.20/24")
	vm.Run("ip", "route", "replace", "default", "via", "198.51.100.9")
	capture := s.out.Capture("s1h1", "vlan and icmp")
	s.a.MustReach(addr("198.51.100.20"))
	vm.MustReach(addr("10.0.1.11"))
	vm.MustReach(addr("10.0.1.13"))
	vm.MustReach(addr("198.51.100.1"))
	s.a.MustReach(addr("198.51.100.1"))
	s.out.MustReach(addr("10.0.1.11"))
	s.out.MustReach(addr("10.0.1.13"))
	lines, err := capture.Stop()
	if err != nil {
		t.Error(err)
	}
	own := (&state.Host{Key: 1}).MAC()
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, own.String()+" >") }) {
		t.Errorf("a host sends what it has routed with another address than its own:\n%s", strings.Join(lines, "\n"))
	}
	for _, l := range lines {
		if strings.Contains(l, mac(3).String()+" >") {
			t.Errorf("a host that is not the gateway sends with the router's address: %s", l)
		}
	}
}

func (s *scene) floating(t *testing.T) {
	for i, vm := range map[int]*hosts.VM{51: s.a, 52: s.b, 54: s.d} {
		address := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}) //nolint:gosec // small
		s.set(&state.FloatingIP{ID: "f-" + vm.Name, Network: "ext", Router: "r1", Address: address, MAC: mac(i), Port: vm.Name, FixedIP: vm.IPs[0].Addr()},
			s.knows("ext", address.String(), mac(i)))
	}
	defer s.remove(state.Ref{Kind: state.KindFloatingIP, ID: "f-a"}, state.Ref{Kind: state.KindFloatingIP, ID: "f-b"}, state.Ref{Kind: state.KindFloatingIP, ID: "f-d"})
	for _, vm := range []*hosts.VM{s.a, s.b, s.d} {
		for _, network := range []string{"tcp", "udp"} {
			vm.Serve(network, netip.AddrPortFrom(vm.IPs[0].Addr(), 8))
		}
		vm.MustReach(addr(farV4))
	}
	// By one host alone.
	if said := s.out.Run("arping", "-b", "-c", "2", "-I", s.out.Segments[0].Device(), "203.0.113.51"); !strings.Contains(said, "Received 2 response") {
		t.Errorf("two requests for 203.0.113.51 have not two answers: %s", said)
	}
	own := map[string]string{"a": "203.0.113.51", "b": "203.0.113.52", "d": "203.0.113.54"}
	for _, vm := range []*hosts.VM{s.a, s.b, s.d} {
		s.out.MustReach(addr(own[vm.Name]))
		for _, network := range []string{"tcp", "udp"} {
			s.talks(s.out.Node, network, at(own[vm.Name], 8), "203.0.113.1")
			s.talks(vm.Node, network, at(farV4, 7), own[vm.Name])
			for _, to := range own { // beside it, at another host, and its own
				s.talks(vm.Node, network, at(to, 8), own[vm.Name])
			}
		}
		for _, to := range own {
			vm.MustReach(addr(to))
		}
		s.refused(t, vm.Node, at(farV4, 9999))
	}
	s.refused(t, s.out.Node, at("203.0.113.51", 9999))
}

// refused fails unless what is sent to a UDP port without a listener brings the error of ICMP back.
func (s *scene) refused(t *testing.T, from *hosts.Node, to netip.AddrPort) {
	t.Helper()
	s.settle()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := from.Talk(ctx, "udp", to); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s to UDP %s: %v, want it refused", from.Name, to, err)
	}
}

// Both tenants have 10.0.1.13 at s1h3, and share that host's address.
func (s *scene) snatHost(t *testing.T) {
	s.gateway(state.SnatHost)
	for i, h := range []string{"s1h1", "s1h2", "s1h3"} {
		s.set(&state.SnatAddress{ID: "own-" + h, Network: "ext", Host: h, Owner: h, Address: netip.AddrFrom4([4]byte{203, 0, 113, byte(61 + i)}), MAC: mac(61 + i), Ports: 1 << 16})
		defer s.remove(state.Ref{Kind: state.KindSnatAddress, ID: "own-" + h})
	}
	s.a.MustReach(addr(farV4))
	s.c.MustReach(addr(farV4))
	s.e.MustReach(addr(farV4))
	for _, network := range []string{"tcp", "udp"} {
		s.talks(s.a.Node, network, at(farV4, 7), "203.0.113.61")
		s.talks(s.b.Node, network, at(farV4, 7), "203.0.113.62")
		for range 5 {
			s.talks(s.c.Node, network, at(farV4, 7), "203.0.113.63")
			s.talks(s.e.Node, network, at(farV4, 7), "203.0.113.63")
		}
	}
	s.refused(t, s.c.Node, at(farV4, 9999))
	s.out.MustNotReach(addr("203.0.113.61"))
	// A floating IP wins, and is reached by who has none.
	s.set(&state.FloatingIP{ID: "f-d", Network: "ext", Router: "r1", Address: addr("203.0.113.54"), MAC: mac(54), Port: "d", FixedIP: s.d.IPs[0].Addr()})
	defer s.remove(state.Ref{Kind: state.KindFloatingIP, ID: "f-d"})
	s.talks(s.d.Node, "tcp", at(farV4, 7), "203.0.113.54")
	s.talks(s.a.Node, "tcp", at("203.0.113.54", 8), "203.0.113.61")
}

// One address, two blocks of ports a host; s1h1 answers for it.
func (s *scene) snatBlocks(t *testing.T) {
	s.gateway(state.SnatBlocks)
	first := map[string][]uint16{}
	for i, h := range []string{"s1h1", "s1h2", "s1h3", "s1h3"} {
		port := uint16(1024 * (4 + i)) //nolint:gosec // small
		first[h] = append(first[h], port)
		id := h + "-" + netip.AddrPortFrom(addr("203.0.113.70"), port).String()
		s.set(&state.SnatAddress{ID: id, Network: "ext", Router: "r1", Host: h, Owner: "s1h1", Address: addr("203.0.113.70"), MAC: mac(70), FirstPort: port, Ports: 1024})
		defer s.remove(state.Ref{Kind: state.KindSnatAddress, ID: id})
	}
	for _, vm := range []*hosts.VM{s.a, s.b, s.c} {
		for _, network := range []string{"tcp", "udp"} {
			for range 5 {
				seen := s.talks(vm.Node, network, at(farV4, 7), "203.0.113.70")
				if !slices.Contains(first[vm.Host().Name], seen.Port()&^1023) {
					t.Errorf("%s at %s is seen as %s, want a port of its host's blocks from %v", vm.Name, vm.Host().Name, seen, first[vm.Host().Name])
				}
			}
		}
		s.refused(t, vm.Node, at(farV4, 9999)) // the error comes to the owner, who does not know whose it is
		vm.MustReach(addr(farV4))              // by the gateway: an echo has no port
	}
}

func (s *scene) snatGateway(t *testing.T) {
	s.gateway(state.SnatGateway)
	try := func(through string) {
		s.t.Helper()
		capture := s.out.Capture(through, "icmp")
		for _, vm := range []*hosts.VM{s.a, s.b, s.c} {
			vm.MustReach(addr(farV4))
			for _, network := range []string{"tcp", "udp"} {
				s.talks(vm.Node, network, at(farV4, 7), "203.0.113.5")
			}
			s.refused(t, vm.Node, at(farV4, 9999))
		}
		s.out.MustReach(addr("203.0.113.5"))
		if _, err := capture.Await(t.Context(), "echo request"); err != nil {
			t.Errorf("nothing goes through %s: %v", through, err)
		}
		if _, err := capture.Stop(); err != nil {
			t.Error(err)
		}
	}
	try("s1h2")
	for _, h := range []string{"s1h1", "s1h3"} {
		s.at(h, &state.Down{ID: "s1h2"})
	}
	s.remove(state.Ref{Kind: state.KindPlug, ID: "b"})
	s.b = s.a
	s.members["s1h2"].apply(t, nil, []state.Ref{{Kind: state.KindUplink, ID: hosts.Physnet}}) // it is dead, for all that this test can do
	s.out.Run("ip", "neigh", "flush", "all")
	try("s1h3")
}
