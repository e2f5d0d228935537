package integration

import (
	"fmt"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// draw draws a topology.
func (a *agreement) draw(r *rapid.T) *drawn {
	d := &drawn{encap: api.Encapsulation(rapid.IntRange(0, 1).Draw(r, "encapsulation"))} //nolint:gosec // small
	for n := 1; n <= 3; n++ {
		id := fmt.Sprintf("n%d", n)
		d.networks = append(d.networks, &api.Network{Id: id, Key: uint32(n)}) //nolint:gosec // small
		d.subnets = append(d.subnets, &api.Subnet{Id: id + "-4", Network: id, Cidr: fmt.Sprintf("10.0.%d.0/24", n)}, &api.Subnet{Id: id + "-6", Network: id, Cidr: fmt.Sprintf("fd00:%d::/64", n)})
	}
	for i := range 3 {
		group := &api.SecurityGroup{Id: fmt.Sprintf("sg%d", i)}
		for n := range rapid.IntRange(1, 5).Draw(r, "rules") {
			group.Rules = append(group.Rules, drawRule(r, n))
		}
		for _, direction := range []api.SecurityRule_Direction{api.SecurityRule_INGRESS, api.SecurityRule_EGRESS} {
			for _, family := range []api.SecurityRule_Family{api.SecurityRule_IPV4, api.SecurityRule_IPV6} {
				if rapid.IntRange(0, 2).Draw(r, "open") > 0 { // most packets should come further than to the first fence
					group.Rules = append(group.Rules, &api.SecurityRule{Id: fmt.Sprintf("open-%d-%d", direction, family), Direction: direction, Family: family})
				}
			}
		}
		set := &api.AddressSet{Id: fmt.Sprintf("set%d", i)}
		for range rapid.IntRange(0, 3).Draw(r, "members") {
			n, guest := rapid.IntRange(1, 3).Draw(r, "n"), rapid.IntRange(0, agreeGuests-1).Draw(r, "guest")
			set.Addresses = append(set.Addresses, v4(n, 10+guest), v6(n, 10+guest))
		}
		slices.Sort(set.Addresses)
		set.Addresses = slices.Compact(set.Addresses)
		d.groups, d.sets = append(d.groups, group), append(d.sets, set)
	}
	for i := range rapid.IntRange(1, 2).Draw(r, "routers") {
		d.routers = append(d.routers, drawRouter(r, i))
	}
	a.drawSnat(r, d)
	for i, g := range a.guests {
		n := rapid.IntRange(1, 3).Draw(r, "network")
		p := &api.Port{Id: g.IfaceID, Key: uint32(10 + i), Network: fmt.Sprintf("n%d", n), Mac: g.MAC.String(), Host: g.Host().Name, BindingEpoch: 1, //nolint:gosec // small
			PortSecurity: rapid.IntRange(0, 4).Draw(r, "secure") > 0, FixedIps: []*api.FixedIP{{Subnet: fmt.Sprintf("n%d-4", n), Address: v4(n, 10+i)}, {Subnet: fmt.Sprintf("n%d-6", n), Address: v6(n, 10+i)}}}
		for s := range 3 {
			if rapid.IntRange(0, 2).Draw(r, "in group") > 0 {
				p.SecurityGroups = append(p.SecurityGroups, fmt.Sprintf("sg%d", s))
			}
		}
		if rapid.IntRange(0, 3).Draw(r, "pair") == 0 {
			p.AllowedPairs = []*api.AddressPair{{Prefix: fmt.Sprintf("10.0.%d.200/29", n)}}
		}
		d.ports = append(d.ports, p)
		drawFloating(r, d, p, i)
	}
	for range 15 {
		d.sent = append(d.sent, a.drawPacket(r, d))
	}
	return d
}

func v4(n, i int) string { return fmt.Sprintf("10.0.%d.%d", n, i) }
func v6(n, i int) string { return fmt.Sprintf("fd00:%d::%x", n, i) }

func drawRule(r *rapid.T, n int) *api.SecurityRule {
	rule := &api.SecurityRule{Id: fmt.Sprintf("r%d", n), Direction: api.SecurityRule_Direction(rapid.IntRange(0, 1).Draw(r, "direction")), //nolint:gosec // small
		Family: api.SecurityRule_Family(rapid.IntRange(0, 1).Draw(r, "family"))} //nolint:gosec // small
	icmp := trace.ICMP
	if rule.Family == api.SecurityRule_IPV6 {
		icmp = trace.ICMPv6
	}
	switch proto := rapid.SampledFrom([]int{-1, -1, icmp, trace.TCP, trace.UDP}).Draw(r, "protocol"); proto {
	case trace.TCP, trace.UDP:
		rule.ProtocolPlusOne = uint32(proto + 1) //nolint:gosec // small
		rule.PortMin = uint32(rapid.IntRange(1, 100).Draw(r, "from"))
		rule.PortMax = uint32(rapid.IntRange(int(rule.PortMin), 200).Draw(r, "to"))
	case icmp:
		rule.ProtocolPlusOne = uint32(proto + 1) //nolint:gosec // small
	}
	switch rapid.IntRange(0, 4).Draw(r, "remote") {
	case 0:
		if rule.RemotePrefix = v4(rapid.IntRange(1, 3).Draw(r, "n"), 0) + "/24"; rule.Family == api.SecurityRule_IPV6 {
			rule.RemotePrefix = v6(rapid.IntRange(1, 3).Draw(r, "n"), 0) + "/64"
		}
	case 1:
		rule.RemoteSet = fmt.Sprintf("set%d", rapid.IntRange(0, 2).Draw(r, "set"))
	}
	return rule
}

func routerMAC(i, n int) state.MAC { return 0xfa163e0d0000 | state.MAC(i<<8|n) } //nolint:gosec // small

func drawRouter(r *rapid.T, i int) *api.Router {
	router := &api.Router{Id: fmt.Sprintf("r%d", i), Key: uint32(70 + i)} //nolint:gosec // small
	for n := 1; n <= 3; n++ {
		if rapid.IntRange(0, 3).Draw(r, "joins") > 0 {
			router.Interfaces = append(router.Interfaces, &api.RouterInterface{Network: fmt.Sprintf("n%d", n), Mac: routerMAC(i, n).String(),
				Addresses: []string{v4(n, 240+i) + "/24", v6(n, 240+i) + "/64"}})
		}
	}
	if rapid.Bool().Draw(r, "route") {
		route := &api.StaticRoute{Destination: rapid.SampledFrom([]string{"192.0.2.0/24", "10.0.3.0/24", "0.0.0.0/0", "10.0.1.10/32"}).Draw(r, "destination")}
		if rapid.IntRange(0, 3).Draw(r, "blackhole") > 0 {
			route.NextHops = []string{v4(rapid.IntRange(1, 3).Draw(r, "n"), rapid.SampledFrom([]int{10, 11, 12, 240, 241}).Draw(r, "hop"))}
		}
		router.Routes = append(router.Routes, route)
	}
	if rapid.IntRange(0, 3).Draw(r, "gateway") > 0 {
		router.Gateway = &api.Gateway{Network: "ext", Mac: routerMAC(i, 9).String(), Addresses: []string{fmt.Sprintf("203.0.113.%d/24", 5+i), fmt.Sprintf("2001:db8:113::%d/64", 5+i)},
			NextHops: []string{"203.0.113.1", "2001:db8:113::1"}, Snat: api.SnatMode(rapid.IntRange(0, 3).Draw(r, "snat"))} //nolint:gosec // small
		router.Gateway.Hosts = rapid.Permutation([]string{"s1h1", "s1h2", "s1h3"}).Draw(r, "gateways")[:rapid.IntRange(0, 2).Draw(r, "how many")]
	}
	return router
}

// drawSnat gives hosts addresses to translate to, whole ones or blocks of one that they share.
func (a *agreement) drawSnat(r *rapid.T, d *drawn) {
	for i, h := range a.bed.Hosts() {
		if rapid.IntRange(0, 2).Draw(r, "own") > 0 {
			d.snat = append(d.snat, &api.SnatAddress{Id: "own-" + h.Name, Network: "ext", Host: h.Name, Owner: h.Name, Address: fmt.Sprintf("203.0.113.%d", 61+i), Mac: outsideMAC(61 + i)})
		}
		if rapid.IntRange(0, 2).Draw(r, "block") > 0 {
			d.snat = append(d.snat, &api.SnatAddress{Id: "block-" + h.Name, Network: "ext", Host: h.Name, Owner: "s1h1", Address: "203.0.113.70", Mac: outsideMAC(70),
				FirstPort: uint32(1024 * (4 + i)), Ports: 1024}) //nolint:gosec // small
		}
	}
}

// drawFloating gives a port a floating IP by a router of its network, now and then.
func drawFloating(r *rapid.T, d *drawn, p *api.Port, i int) {
	for _, router := range d.routers {
		joined := slices.ContainsFunc(router.Interfaces, func(in *api.RouterInterface) bool { return in.Network == p.Network })
		if joined && router.Gateway != nil && rapid.IntRange(0, 2).Draw(r, "floating") == 0 {
			d.floating = append(d.floating, &api.FloatingIP{Id: "f-" + p.Id, Network: "ext", Router: router.Id, Address: fmt.Sprintf("203.0.113.%d", 51+i), Mac: outsideMAC(51 + i),
				Port: p.Id, FixedIp: p.FixedIps[0].Address})
			return
		}
	}
}

// drawPacket draws a packet from a guest that means something to the topology, most of the time.
func (a *agreement) drawPacket(r *rapid.T, d *drawn) sent {
	from, to := rapid.IntRange(0, agreeGuests-1).Draw(r, "from"), rapid.IntRange(0, agreeGuests-1).Draw(r, "to")
	family := rapid.IntRange(0, 1).Draw(r, "family")
	mac := func(i int) state.MAC { return state.MACOf(a.guests[i].MAC) }
	address := func(i int) netip.Addr { return netip.MustParseAddr(d.ports[i].FixedIps[family].Address) }
	p := trace.Packet{EthSrc: mac(from), EthDst: mac(to), Type: trace.IPv4, Src: address(from), Dst: address(to), TTL: 64, SrcPort: 2000}
	if family == 1 {
		p.Type = trace.IPv6
	}
	switch rapid.IntRange(0, 2).Draw(r, "protocol") {
	case 0:
		p.SrcPort, p.Proto, p.ICMPType = 0, trace.ICMP, 8
		if family == 1 {
			p.Proto, p.ICMPType = trace.ICMPv6, 128
		}
	case 1:
		p.Proto = trace.TCP
	default:
		p.Proto = trace.UDP
	}
	if p.SrcPort != 0 {
		p.DstPort = uint16(rapid.IntRange(1, 210).Draw(r, "port")) //nolint:gosec // small
	}
	if d.ports[from].Network != d.ports[to].Network || rapid.IntRange(0, 5).Draw(r, "routed") == 0 {
		drawRouted(r, d, from, &p)
	}
	if pairs := d.ports[from].AllowedPairs; len(pairs) > 0 && family == 0 && rapid.IntRange(0, 2).Draw(r, "of the pair") == 0 {
		p.Src = netip.MustParsePrefix(pairs[0].Prefix).Addr().Next()
	}
	drawOdd(r, mac(from), mac(to), address(from), address(to), &p)
	return sent{from, p}
}

// drawRouted sends a packet to a router that is in the sender's network, if there is one.
func drawRouted(r *rapid.T, d *drawn, from int, p *trace.Packet) {
	for _, i := range rapid.Permutation([]int{0, 1}).Draw(r, "which router") {
		if i >= len(d.routers) {
			continue
		}
		for _, in := range d.routers[i].Interfaces {
			if in.Network != d.ports[from].Network {
				continue
			}
			m, err := state.ParseMAC(in.Mac)
			if err != nil {
				r.Fatal(err)
			}
			p.EthDst = m
			switch rapid.IntRange(0, 11).Draw(r, "how") {
			case 0:
				p.TTL = 1
			case 1, 3, 4, 5:
				if p.Dst = hosts.Far()[0]; p.Type == trace.IPv6 {
					p.Dst = hosts.Far()[1]
				}
			case 6:
				// What a guest with a floating IP says there is no question for the router: its agent may have to ask who is.
				floats := slices.ContainsFunc(d.floating, func(f *api.FloatingIP) bool { return f.Port == d.ports[from].Id })
				if g := d.routers[i].Gateway; g != nil && p.Type == trace.IPv4 && !floats {
					p.Dst = netip.MustParsePrefix(g.Addresses[0]).Addr()
				}
			case 2:
				for _, own := range in.Addresses {
					if own := netip.MustParsePrefix(own).Addr(); own.Is4() == (p.Type == trace.IPv4) {
						p.Dst = own
					}
				}
			}
			return
		}
	}
}

// drawOdd makes a packet of another kind, now and then.
func drawOdd(r *rapid.T, from, to state.MAC, own, other netip.Addr, p *trace.Packet) {
	switch rapid.IntRange(0, 15).Draw(r, "odd") {
	case 0:
		p.EthSrc = to
	case 1:
		p.Src = other
	case 2:
		p.EthDst = 0xffffffffffff
	case 3:
		p.EthDst = 0xfa163effffff
	case 4:
		if own.Is4() {
			*p = trace.Packet{EthSrc: from, EthDst: 0xffffffffffff, Type: trace.ARP, ARPOp: 1, ARPSHA: from, Src: own, Dst: other}
		}
	case 5:
		if own.Is4() {
			*p = trace.Packet{EthSrc: from, EthDst: to, Type: trace.ARP, ARPOp: 2, ARPSHA: from, Src: other, Dst: own}
		}
	}
}
