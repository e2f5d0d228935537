package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// outsideScene is two tenants with a router each to one external network. The first has the networks red and blue; the second's network green has
// the addresses of red. Nobody tells the agents who is outside.
type outsideScene struct {
	*fleet
	a, b, c, e   *hosts.VM
	portA, portC *api.Port
	r1           *api.Router
	out          *hosts.Outside
}

// Guests reach the world outside and are reached from there. Agents find the next hops, and tell the physical network what has moved.
func TestAgentsReachOutside(t *testing.T) {
	t.Parallel()
	s := newOutsideScene(t)
	for _, part := range []struct {
		name string
		test func(context.Context)
	}{{"by a gateway", s.byGateway}, {"IPv6", s.untranslated}, {"each host by itself", s.byHost}, {"floating IPs", s.floating}, {"a floating IP of an address that moves", s.shared}, {"a guest moves", s.moves},
		{"a floating IP moves", s.reassociated}} {
		s.inGroup(t, part.name, part.test)
	}
}

func outsideMAC(n int) string { return fmt.Sprintf("fa:16:3e:0b:00:%02x", n) }

func newOutsideScene(t *testing.T) *outsideScene {
	t.Helper()
	s := &outsideScene{fleet: newFleet(t, 3)}
	s.out = s.bed.Outside(1)
	s.network("red", 11, 1450, "10.1.0.0/24", "2001:db8:1::/64")
	s.network("blue", 12, 1450, "10.2.0.0/24", "2001:db8:2::/64")
	s.network("green", 13, 1450, "10.1.0.0/24")
	s.state.Networks = append(s.state.Networks, &api.Network{Id: "ext", Key: 14, Mtu: 1500, External: true,
		Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: hosts.Physnet}})
	s.r1 = s.router("r1", 21, "red 10.1.0.1/24 2001:db8:1::1/64", "blue 10.2.0.1/24 2001:db8:2::1/64")
	s.r1.Gateway = &api.Gateway{Network: "ext", Mac: outsideMAC(5), Addresses: []string{"203.0.113.5/24", "2001:db8:113::5/64"},
		NextHops: []string{"203.0.113.1", "2001:db8:113::1"}, Snat: api.SnatMode_SNAT_GATEWAY, Hosts: []string{"s1h2", "s1h3"}}
	s.router("r2", 22, "green 10.1.0.1/24").Gateway = &api.Gateway{Network: "ext", Mac: outsideMAC(6), Addresses: []string{"203.0.113.6/24"},
		NextHops: []string{"203.0.113.1"}, Snat: api.SnatMode_SNAT_HOST}
	h := s.bed.Hosts()
	s.a, s.portA = s.guest("a", h[0], "red", hosts.VMConfig{Migrates: true}, "10.1.0.11/24", "2001:db8:1::11/64")
	s.b, _ = s.guest("b", h[1], "blue", hosts.VMConfig{}, "10.2.0.12/24", "2001:db8:2::12/64")
	s.c, s.portC = s.guest("c", h[2], "red", hosts.VMConfig{}, "10.1.0.13/24", "2001:db8:1::13/64")
	s.e, _ = s.guest("e", h[2], "green", hosts.VMConfig{}, "10.1.0.13/24")
	s.commit()
	for _, far := range hosts.Far() {
		for _, network := range []string{"tcp", "udp"} {
			s.out.Serve(network, netip.AddrPortFrom(far, 7))
		}
	}
	return s
}

func far(i int) netip.AddrPort { return netip.AddrPortFrom(hosts.Far()[i], 7) }

func (s *outsideScene) byGateway(ctx context.Context) {
	for _, vm := range []*hosts.VM{s.a, s.b, s.c} {
		s.talks(ctx, vm.Node, far(0), "203.0.113.5")
		vm.MustReach(far(0).Addr())
		s.refused(ctx, vm.Node, "udp", netip.AddrPortFrom(far(0).Addr(), 9999)) // the error comes back translated
	}
	// By what the gateway's agent has found out itself.
	out, err := s.tool(ctx, s.bed.Host("s1h2"), "state", "neighbor", "-f", "json")
	var found []agent.Object
	if err == nil {
		err = json.Unmarshal([]byte(out), &found)
	}
	if err != nil || !strings.Contains(out, "203.0.113.1") {
		s.t.Errorf("the gateway's agent has not found 203.0.113.1: %v\n%s", err, out)
	}
}

// untranslated is IPv6, which goes out as it is, by the gateway too.
func (s *outsideScene) untranslated(ctx context.Context) {
	for _, p := range []string{"2001:db8:1::/64", "2001:db8:2::/64"} {
		s.out.Run("ip", "route", "add", p, "via", "2001:db8:113::5")
	}
	for _, vm := range []*hosts.VM{s.a, s.b, s.c} {
		own := vm.IPs[1].Addr()
		s.talks(ctx, vm.Node, far(1), own.String())
		s.out.MustReach(own)
	}
}

// byHost has each host translate to an address of its own, which the two tenants share there.
func (s *outsideScene) byHost(ctx context.Context) {
	s.r1.Gateway.Snat = api.SnatMode_SNAT_HOST
	for i, h := range s.bed.Hosts() {
		s.state.SnatAddresses = append(s.state.SnatAddresses, &api.SnatAddress{Id: "own-" + h.Name, Network: "ext", Host: h.Name, Owner: h.Name,
			Address: fmt.Sprintf("203.0.113.%d", 61+i), Mac: outsideMAC(61 + i)})
	}
	s.commit()
	for _, tt := range []struct {
		vm *hosts.VM
		as string
	}{{s.a, "203.0.113.61"}, {s.b, "203.0.113.62"}, {s.c, "203.0.113.63"}, {s.e, "203.0.113.63"}, {s.c, "203.0.113.63"}} {
		s.talks(ctx, tt.vm.Node, far(0), tt.as)
		tt.vm.MustReach(far(0).Addr())
		s.refused(ctx, tt.vm.Node, "udp", netip.AddrPortFrom(far(0).Addr(), 9999))
	}
}

func (s *outsideScene) floating(ctx context.Context) {
	own := map[*hosts.VM]string{s.a: "203.0.113.51", s.b: "203.0.113.52"}
	for i, vm := range []*hosts.VM{s.a, s.b} {
		s.state.FloatingIps = append(s.state.FloatingIps, &api.FloatingIP{Id: "f-" + vm.Name, Network: "ext", Router: "r1", Address: own[vm], Mac: outsideMAC(51 + i),
			Port: vm.IfaceID, FixedIp: vm.IPs[0].Addr().String()})
		serve(vm, 8)
	}
	serve(s.c, 8)
	s.commit()
	for vm, ip := range own {
		s.out.MustReach(mustAddr(ip))
		s.talks(ctx, s.out.Node, at(ip, 8), "203.0.113.1")
		s.talks(ctx, vm.Node, far(0), ip)
		s.refused(ctx, s.out.Node, "udp", at(ip, 9999))
		for _, other := range own { // beside it, at another host, and its own: each is seen by its own floating IP
			s.talks(ctx, vm.Node, at(other, 8), ip)
		}
		s.talks(ctx, s.c.Node, at(ip, 8), "203.0.113.63") // who has none comes by its host's address
		s.talks(ctx, s.e.Node, at(ip, 8), "203.0.113.63")
	}
}

// shared is a virtual IP of two guests, kept by a port that is bound nowhere, and its floating IP: both are where the address was announced last, as with a pair of load balancers.
func (s *outsideScene) shared(ctx context.Context) {
	const virtual, outer = "10.1.0.100", "203.0.113.60"
	pairs := []*api.AddressPair{{Prefix: virtual}}
	s.portA.AllowedPairs, s.portC.AllowedPairs = pairs, pairs
	ports, floating := len(s.state.Ports), len(s.state.FloatingIps)
	s.state.Ports = append(s.state.Ports, &api.Port{Id: "virtual", Key: 900, Network: "red", Mac: outsideMAC(90), PortSecurity: true,
		FixedIps: []*api.FixedIP{{Subnet: "red-4", Address: virtual}}})
	s.state.FloatingIps = append(s.state.FloatingIps, &api.FloatingIP{Id: "f-virtual", Network: "ext", Router: "r1", Address: outer, Mac: outsideMAC(60), Port: "virtual", FixedIp: virtual})
	s.commit()
	for i, owner := range []*hosts.VM{s.a, s.c, s.a} {
		if i > 0 {
			[]*hosts.VM{s.a, s.c}[i%2^1].Run("ip", "addr", "del", virtual+"/32", "dev", "eth0")
		}
		owner.Run("ip", "addr", "add", virtual+"/32", "dev", "eth0")
		owner.Run("sh", "-c", "arping -q -c 1 -A -I eth0 "+virtual+" >/dev/null 2>&1 &") // which stays for a second after it has sent
		s.await(ctx, owner.Host().Name+" knows that "+owner.Name+" has the address", func() error {
			out, err := s.tool(ctx, owner.Host(), "state", "neighbor", "-f", "json")
			if err == nil && (!strings.Contains(out, virtual) || !strings.Contains(out, owner.IfaceID)) {
				err = fmt.Errorf("it knows %s", out)
			}
			return err
		})
		// What a host says of it, all are told.
		s.state.Neighbors = []*api.Neighbor{{Id: "11/" + virtual, Network: "red", Address: virtual, Mac: owner.MAC.String(), Port: owner.IfaceID, Host: owner.Host().Name,
			Epoch: uint64(time.Now().UnixMilli())}} //nolint:gosec // after 1970
		s.commit()
		s.await(ctx, "the physical switch knows where the floating IP is", func() error {
			if at := s.out.Behind(outsideMAC(60)); at != owner.Host().Name {
				return fmt.Errorf("it is behind %q", at)
			}
			return nil
		})
		sent := owner.Capture("eth0", "icmp and dst "+virtual)
		s.out.MustReach(mustAddr(outer))
		s.b.MustReach(mustAddr(virtual)) // by the router
		other := []*hosts.VM{s.c, s.a}[i%2]
		other.MustReach(mustAddr(virtual)) // in its own network, where flows answer for ports that are somewhere
		if _, err := sent.Await(ctx, "10.2.0.12 > "+virtual); err != nil {
			s.t.Errorf("what is for %s does not come to %s: %v", virtual, owner.Name, err)
		}
		if _, err := sent.Stop(); err != nil {
			s.t.Error(err)
		}
	}
	s.a.Run("ip", "addr", "del", virtual+"/32", "dev", "eth0")
	s.portA.AllowedPairs, s.portC.AllowedPairs, s.state.Neighbors = nil, nil, nil
	s.state.Ports, s.state.FloatingIps = s.state.Ports[:ports], s.state.FloatingIps[:floating]
	s.commit()
}

// moves takes a guest to another host: its agent announces the floating IP there, and a connection that stands goes on there.
func (s *outsideScene) moves(ctx context.Context) {
	held := s.hold(ctx, s.out.Node, at("203.0.113.51", 8))
	if at := s.out.Behind(outsideMAC(51)); at != "s1h1" {
		s.t.Errorf("the floating IP is behind %q, want s1h1", at)
	}
	to := s.bed.Host("s1h3")
	capture := s.out.Capture(to.Name, "arp and ether src "+outsideMAC(51))
	s.portA.NextHost = to.Name
	s.commit()
	m := s.a.Migrate(to)
	s.await(ctx, "the port is ready on "+to.Name, func() error { return s.ready(ctx, to, s.portA.Id) })
	m.CutOver()
	s.portA.Host, s.portA.NextHost, s.portA.BindingEpoch = to.Name, "", 2
	s.commit()
	if _, err := capture.Await(ctx, "Request who-has 203.0.113.51 ", " tell 203.0.113.51"); err != nil {
		s.t.Errorf("no gratuitous ARP came by the link of %s: %v", to.Name, err)
	}
	if _, err := capture.Stop(); err != nil {
		s.t.Error(err)
	}
	s.await(ctx, "the physical switch knows", func() error {
		if at := s.out.Behind(outsideMAC(51)); at != to.Name {
			return fmt.Errorf("the floating IP is behind %q", at)
		}
		return nil
	})
	m.Finish()
	if err := held.say(ctx, 30*time.Second); err != nil {
		s.t.Errorf("the connection that stood does not go on: %v", err)
	}
	s.talks(ctx, s.out.Node, at("203.0.113.51", 8), "203.0.113.1")
	s.talks(ctx, s.a.Node, far(0), "203.0.113.51")
	held.end()
}

// reassociated gives a floating IP to another guest, with another Ethernet address, which who is outside is told before it asks.
func (s *outsideScene) reassociated(ctx context.Context) {
	neighbour := func() string { return s.out.Run("ip", "neigh", "show", "203.0.113.52") }
	s.out.MustReach(mustAddr("203.0.113.52"))
	if now := neighbour(); !strings.Contains(now, outsideMAC(52)) {
		s.t.Errorf("203.0.113.52 is known as %s, want %s", now, outsideMAC(52))
	}
	f := s.state.FloatingIps[1]
	f.Port, f.FixedIp, f.Mac = s.portC.Id, "10.1.0.13", outsideMAC(99)
	s.commit()
	s.await(ctx, "the neighbour's entry outside is renewed", func() error {
		if now := neighbour(); !strings.Contains(now, outsideMAC(99)) {
			return fmt.Errorf("it is %s", now)
		}
		return nil
	})
	s.talks(ctx, s.out.Node, at("203.0.113.52", 8), "203.0.113.1")
	s.talks(ctx, s.c.Node, far(0), "203.0.113.52")
	s.talks(ctx, s.b.Node, far(0), "203.0.113.62")
}
