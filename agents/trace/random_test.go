package trace_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/flows/flowtest"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
)

// What should happen, by the state alone, and what the switches of the hosts would do are the same for every packet of every topology. Each side is the
// other's proof: they share no code.
func TestSimulationAgreesWithSwitches(t *testing.T) {
	t.Parallel()
	bed := flowtest.New(t, 3, guests)
	seen, points := map[trace.Verdict]int{}, map[string]int{}
	rapid.Check(t, func(r *rapid.T) {
		bed.Reset()
		top := drawTopology(r)
		bed.Apply(top.objects, nil)
		for range 12 {
			port, p := top.packet(r)
			bed.Store.Read(func(v *state.View) {
				simulated, err := trace.Simulate(v, port, p)
				if err != nil {
					r.Fatal(err)
				}
				checked, err := trace.Check(t.Context(), v, bed.Switch, port, p)
				if err != nil {
					r.Fatal(err)
				}
				for range simulated.Copies {
					points["copies"]++
				}
				if !trace.Agree(port, simulated, checked) {
					r.Errorf("port %s sends %s\nsimulated:\n%schecked:\n%s", port, p.Text(), simulated, checked)
				}
				for _, e := range simulated.Ends {
					seen[e.Verdict]++
				}
				for _, s := range simulated.Steps {
					points[s.Point]++
				}
			})
		}
	})
	t.Logf("ends: %v, points: %v", seen, points)
	if testing.Short() {
		return // too few to meet everything
	}
	for _, v := range []trace.Verdict{trace.Dropped, trace.Delivered, trace.Outside, trace.Answered, trace.Served} {
		if seen[v] == 0 {
			t.Errorf("no packet was %s: the packets prove less than they should", v)
		}
	}
	for _, p := range []string{"tunnel", "out-rules", "in-rules", "route", "neighbor", "copies"} {
		if points[p] == 0 {
			t.Errorf("no packet was decided on at %s: the packets prove less than they should", p)
		}
	}
}

const guests = 9

// topology is some networks with ports, groups and routers.
type topology struct {
	objects []state.Object
	ports   []*state.Port
	routers []*state.Router
}

func drawTopology(r *rapid.T) *topology {
	top := &topology{}
	top.outside(r)
	networks := rapid.IntRange(1, 3).Draw(r, "networks")
	for n := 1; n <= networks; n++ {
		top.network(r, n)
	}
	top.groups(r)
	for i := range rapid.IntRange(0, 2).Draw(r, "routers") {
		top.router(r, i+1, networks)
	}
	for i := 1; i <= rapid.IntRange(2, guests).Draw(r, "ports"); i++ {
		top.port(r, i, rapid.IntRange(1, networks).Draw(r, "network"))
	}
	top.mirrors(r)
	return top
}

// mirrors has some ports' packets copied to others.
func (top *topology) mirrors(r *rapid.T) {
	for i := range rapid.IntRange(0, 2).Draw(r, "mirrors") {
		m := &state.Mirror{ID: fmt.Sprintf("m%d", i), Key: uint32(500 + i), Port: rapid.SampledFrom(top.ports).Draw(r, "mirrored").ID, //nolint:gosec // small
			Target: rapid.SampledFrom(top.ports).Draw(r, "target").ID, In: rapid.Bool().Draw(r, "in")}
		if m.Out = !m.In || rapid.Bool().Draw(r, "out"); m.Port != m.Target {
			top.objects = append(top.objects, m)
		}
	}
}

func (top *topology) network(r *rapid.T, n int) {
	net := &state.Network{ID: fmt.Sprintf("n%d", n), Key: uint32(100 + n), MTU: 1450} //nolint:gosec // small
	if rapid.IntRange(0, 3).Draw(r, "segment") == 0 {
		net.Segment, net.Physical, net.VLAN = state.VLAN, flowtest.Physical, uint16(40+n) //nolint:gosec // small
	}
	top.objects = append(top.objects, net,
		&state.Subnet{ID: "s4-" + net.ID, Network: net.ID, CIDR: v4(n, 0, 24), DHCP: rapid.Bool().Draw(r, "dhcp"), LeaseSeconds: 60},
		&state.Subnet{ID: "s6-" + net.ID, Network: net.ID, CIDR: v6(n, 0, 64), RAMode: state.IPv6Mode(rapid.IntRange(0, 3).Draw(r, "ra")), //nolint:gosec // small
			AddressMode: state.IPv6Mode(rapid.IntRange(0, 3).Draw(r, "addresses")), DHCP: true, LeaseSeconds: 60}) //nolint:gosec // small
}

func v4(n, i, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n), byte(i)}), bits) //nolint:gosec // small
}

func v6(n, i, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, byte(n), 15: byte(i)}), bits) //nolint:gosec // small
}

func mac(i int) state.MAC { return 0xfa163e000000 | state.MAC(i) } //nolint:gosec // small

func (top *topology) groups(r *rapid.T) {
	for g := 1; g <= 3; g++ {
		group := &state.SecurityGroup{ID: fmt.Sprintf("g%d", g)}
		for i := range rapid.IntRange(0, 4).Draw(r, "rules") {
			group.Rules = append(group.Rules, drawRule(r, i))
		}
		set := &state.AddressSet{ID: fmt.Sprintf("a%d", g), Set: fmt.Sprintf("a%d", g)}
		for range rapid.IntRange(0, 4).Draw(r, "members") {
			n, i := rapid.IntRange(1, 3).Draw(r, "n"), rapid.IntRange(1, guests).Draw(r, "i")
			set.Prefixes = append(set.Prefixes, rapid.SampledFrom([]netip.Prefix{v4(n, i, 32), v6(n, i, 128), v4(n, 8, 29).Masked()}).Draw(r, "member"))
		}
		top.objects = append(top.objects, group, set)
		if event := rapid.IntRange(0, 3).Draw(r, "log"); event > 0 {
			top.objects = append(top.objects, &state.SecurityLog{ID: "log-" + group.ID, SecurityGroup: group.ID, Accept: event&1 > 0, Drop: event&2 > 0})
		}
	}
}

func drawRule(r *rapid.T, i int) state.SecurityRule {
	rule := state.SecurityRule{ID: fmt.Sprintf("r%d", i), Egress: rapid.Bool().Draw(r, "egress"), V6: rapid.Bool().Draw(r, "v6"), Protocol: -1, ICMPType: -1, ICMPCode: -1}
	icmp := trace.ICMP
	if rule.V6 {
		icmp = trace.ICMPv6
	}
	rule.Protocol = rapid.SampledFrom([]int{-1, icmp, trace.TCP, trace.UDP, trace.SCTP, 50}).Draw(r, "protocol")
	switch rule.Protocol {
	case trace.TCP, trace.UDP, trace.SCTP:
		if rapid.Bool().Draw(r, "ports") {
			rule.PortMin = rapid.Uint16Range(1, 100).Draw(r, "from")
			rule.PortMax = rapid.Uint16Range(rule.PortMin, 200).Draw(r, "to")
		}
	case icmp:
		if rapid.Bool().Draw(r, "typed") {
			rule.ICMPType = rapid.SampledFrom([]int{8, 128, 3}).Draw(r, "type")
		}
	}
	n, i := rapid.IntRange(1, 3).Draw(r, "n"), rapid.IntRange(1, guests).Draw(r, "i")
	switch rapid.IntRange(0, 3).Draw(r, "remote") {
	case 0:
		if rule.Remote = v4(n, i, 32); rule.V6 {
			rule.Remote = v6(n, 0, 64)
		}
	case 1:
		rule.RemoteSet = fmt.Sprintf("a%d", rapid.IntRange(1, 4).Draw(r, "set"))
	}
	return rule
}

// router joins some of the networks. The address of router i in network n ends with 240+i, that of its interfaces is told by both.
func (top *topology) router(r *rapid.T, i, networks int) {
	router := &state.Router{ID: fmt.Sprintf("r%d", i), Key: uint32(i), Down: rapid.IntRange(0, 9).Draw(r, "router down") == 0} //nolint:gosec // small
	for n := 1; n <= networks; n++ {
		if rapid.IntRange(0, 3).Draw(r, "joins") == 0 {
			continue
		}
		addresses := []netip.Prefix{v4(n, 240+i, 24)}
		if rapid.Bool().Draw(r, "router v6") {
			addresses = append(addresses, v6(n, 240+i, 64))
		}
		router.Interfaces = append(router.Interfaces, state.RouterInterface{Network: fmt.Sprintf("n%d", n), MAC: routerMAC(i, n), Addresses: addresses})
	}
	for range rapid.IntRange(0, 2).Draw(r, "routes") {
		n, hop := rapid.IntRange(1, 3).Draw(r, "n"), rapid.SampledFrom([]int{1, 2, 3, 241, 242, 77}).Draw(r, "hop")
		route := state.StaticRoute{Destination: rapid.SampledFrom([]netip.Prefix{v4(rapid.IntRange(1, 3).Draw(r, "to"), 0, 24), netip.MustParsePrefix("192.0.2.0/24"),
			netip.MustParsePrefix("0.0.0.0/0"), v4(1, 3, 32)}).Draw(r, "destination")}
		if rapid.IntRange(0, 4).Draw(r, "blackhole") > 0 {
			route.NextHops = []netip.Addr{v4(n, hop, 32).Addr()}
		}
		if !slices.ContainsFunc(router.Routes, func(s state.StaticRoute) bool { return s.Destination == route.Destination }) {
			router.Routes = append(router.Routes, route)
		}
	}
	top.gateway(r, i, router)
	top.routers = append(top.routers, router)
	top.objects = append(top.objects, router)
}

// outside is an external network, n9, whose first router's address somebody knows or nobody does.
func (top *topology) outside(r *rapid.T) {
	top.objects = append(top.objects, &state.Network{ID: "n9", Key: 109, MTU: 1450, External: true, Segment: state.VLAN, Physical: flowtest.Physical, VLAN: 49})
	if rapid.Bool().Draw(r, "known") {
		top.objects = append(top.objects, &state.Neighbor{ID: "gw", Network: "n9", Address: v4(9, 1, 32).Addr(), MAC: mac(0xee)})
	}
	for h := 1; h <= 3; h++ {
		a := &state.SnatAddress{ID: fmt.Sprintf("snat%d", h), Network: "n9", Host: fmt.Sprintf("h%d", h), Owner: "h1", Address: v4(9, 100+h, 32).Addr(), MAC: mac(0xd0 + h), Ports: 1 << 16}
		if h > 1 && rapid.Bool().Draw(r, "block") {
			a.Ports, a.FirstPort, a.Address = 1024, uint16(1024*h), v4(9, 100, 32).Addr() //nolint:gosec // small
		}
		if rapid.Bool().Draw(r, "leased") {
			top.objects = append(top.objects, a)
		}
	}
}

func (top *topology) gateway(r *rapid.T, i int, router *state.Router) {
	if rapid.IntRange(0, 2).Draw(r, "gateway") == 0 {
		return
	}
	router.Gateway = &state.Gateway{Network: "n9", MAC: routerMAC(i, 9), Addresses: []netip.Prefix{v4(9, 240+i, 24)}, NextHops: []netip.Addr{v4(9, 1, 32).Addr()},
		Snat: state.SnatMode(rapid.IntRange(0, 3).Draw(r, "snat"))} //nolint:gosec // small
	for h := range rapid.IntRange(0, 2).Draw(r, "gateways") {
		router.Gateway.Hosts = append(router.Gateway.Hosts, fmt.Sprintf("h%d", h+1))
	}
}

// floating gives a port a floating IP, now and then.
func (top *topology) floating(r *rapid.T, p *state.Port, i int) {
	for _, router := range top.routers {
		if router.Gateway != nil && rapid.IntRange(0, 2).Draw(r, "floating") == 0 {
			top.objects = append(top.objects, &state.FloatingIP{ID: "f-" + p.ID, Network: "n9", Router: router.ID, Address: v4(9, 10+i, 32).Addr(), MAC: mac(0xf00 + i),
				Port: p.ID, FixedIP: p.FixedIPs[0].Address})
			return
		}
	}
}

func routerMAC(i, n int) state.MAC { return 0xfa163f000000 | state.MAC(i<<8|n) } //nolint:gosec // small

func (top *topology) port(r *rapid.T, i, n int) {
	p := &state.Port{
		ID: fmt.Sprintf("p%d", i), Key: uint32(i), Network: fmt.Sprintf("n%d", n), MAC: mac(i), QoS: state.QoS{DSCP: -1}, //nolint:gosec // small
		Host: fmt.Sprintf("h%d", rapid.IntRange(1, 3).Draw(r, "host")), Down: rapid.IntRange(0, 9).Draw(r, "down") == 0,
		PortSecurity: rapid.IntRange(0, 2).Draw(r, "security") > 0,
	}
	p.FixedIPs = []state.FixedIP{{Subnet: "s4-" + p.Network, Address: v4(n, i, 32).Addr()}}
	if rapid.Bool().Draw(r, "v6") {
		p.FixedIPs = append(p.FixedIPs, state.FixedIP{Subnet: "s6-" + p.Network, Address: v6(n, i, 128).Addr()})
	}
	if rapid.IntRange(0, 3).Draw(r, "pair") == 0 {
		p.AllowedPairs = []state.AddressPair{{Prefix: v4(n, 200, 29).Masked(), MAC: p.MAC}}
	}
	top.virtual(r, p, i, n)
	for g := 1; g <= 3; g++ {
		if rapid.Bool().Draw(r, "in group") {
			p.SecurityGroups = append(p.SecurityGroups, fmt.Sprintf("g%d", g))
		}
	}
	if parent := rapid.SampledFrom(append(top.ports, p)).Draw(r, "parent"); parent != p && parent.Parent == "" && rapid.IntRange(0, 4).Draw(r, "sub") == 0 {
		p.Parent, p.ParentVLAN, p.Host = parent.ID, uint16(500+i), parent.Host //nolint:gosec // small
	}
	top.floating(r, p, i)
	top.ports = append(top.ports, p)
	top.objects = append(top.objects, p)
}

// virtual lets a port have an address with an Ethernet address that others may have, too, now and then, and announce it.
func (top *topology) virtual(r *rapid.T, p *state.Port, i, n int) {
	if rapid.IntRange(0, 2).Draw(r, "virtual") > 0 {
		return
	}
	p.AllowedPairs = append(p.AllowedPairs, state.AddressPair{Prefix: v4(n, 150, 32), MAC: mac(0x5e)})
	keeper := &state.Port{ID: fmt.Sprintf("keeper%d", n), Key: uint32(90 + n), Network: p.Network, MAC: mac(0x90 + n), QoS: state.QoS{DSCP: -1}, //nolint:gosec // small
		FixedIPs: []state.FixedIP{{Subnet: "s4-" + p.Network, Address: v4(n, 150, 32).Addr()}}}
	known := slices.ContainsFunc(top.objects, func(o state.Object) bool { return o.Ref() == keeper.Ref() })
	if !known && rapid.Bool().Draw(r, "kept") {
		top.objects = append(top.objects, keeper)
		top.floating(r, keeper, 30+n)
	}
	if rapid.IntRange(0, 3).Draw(r, "announced") == 0 {
		top.objects = append(top.objects, &state.Neighbor{ID: fmt.Sprintf("v%d", i), Network: p.Network, Address: v4(n, 150, 32).Addr(), MAC: rapid.SampledFrom([]state.MAC{mac(0x5e), p.MAC}).Draw(r, "named"), Port: p.ID, Host: p.Host,
			Epoch: uint64(i)}) //nolint:gosec // small
	}
}

// packet is one that means something to the topology, most of the time.
func (top *topology) packet(r *rapid.T) (string, trace.Packet) {
	from, to := rapid.SampledFrom(top.ports).Draw(r, "from"), rapid.SampledFrom(top.ports).Draw(r, "to")
	p := trace.Packet{EthSrc: from.MAC, EthDst: to.MAC, Type: trace.IPv4, Src: address(from, true), Dst: address(to, true), TTL: 64,
		SrcPort: 1024, DstPort: rapid.Uint16Range(1, 250).Draw(r, "port")}
	if rapid.Bool().Draw(r, "is v6") && address(from, false).IsValid() && address(to, false).IsValid() {
		p.Type, p.Src, p.Dst = trace.IPv6, address(from, false), address(to, false)
	}
	p.Proto = rapid.SampledFrom([]int{trace.TCP, trace.UDP, trace.SCTP, trace.ICMP, 50}).Draw(r, "proto")
	if p.Proto == trace.ICMP {
		p.SrcPort, p.DstPort, p.ICMPType = 0, 0, 8
		if p.Type == trace.IPv6 {
			p.Proto, p.ICMPType = trace.ICMPv6, 128
		}
	}
	if p.Proto == 50 {
		p.SrcPort, p.DstPort = 0, 0
	}
	top.routed(r, from, &p)
	top.odd(r, from, to, &p)
	return from.ID, p
}

// routed sends a packet to a router, to the router itself, or with little time left, now and then.
func (top *topology) routed(r *rapid.T, from *state.Port, p *trace.Packet) {
	if len(top.routers) == 0 || rapid.IntRange(0, 2).Draw(r, "routed") == 0 {
		return
	}
	if rapid.IntRange(0, 2).Draw(r, "outside") == 0 && top.leave(from, p) {
		if rapid.Bool().Draw(r, "virtual source") {
			fromVirtual(from, p)
		}
		return
	}
	router := rapid.SampledFrom(top.routers).Draw(r, "router")
	for _, i := range router.Interfaces {
		if i.Network == from.Network {
			p.EthDst = i.MAC
		}
	}
	switch rapid.IntRange(0, 9).Draw(r, "how") {
	case 0:
		p.TTL = 1
	case 1, 4, 5:
		if p.Type == trace.IPv4 {
			p.Dst = netip.MustParseAddr("192.0.2.9")
		}
	case 6:
		if n := rapid.IntRange(1, 3).Draw(r, "virtual"); p.Type == trace.IPv4 {
			p.Dst = v4(n, 150, 32).Addr()
		}
	case 2:
		if i := rapid.SampledFrom(append(router.Interfaces, state.RouterInterface{})).Draw(r, "own"); len(i.Addresses) > 0 && p.Type == trace.IPv4 {
			p.Dst = i.Addresses[0].Addr()
		}
	case 3:
		if p.Type == trace.IPv4 {
			p.Dst = netip.MustParseAddr("224.0.0.5")
		}
	}
}

// leave sends a packet outside, by a router that has a gateway.
func (top *topology) leave(from *state.Port, p *trace.Packet) bool {
	for _, router := range top.routers {
		for _, i := range router.Interfaces {
			if router.Gateway != nil && !router.Down && i.Network == from.Network && p.Type == trace.IPv4 {
				p.EthDst, p.Dst = i.MAC, netip.MustParseAddr("192.0.2.9")
				return true
			}
		}
	}
	return false
}

// fromVirtual has a port that may have the virtual address send from it.
func fromVirtual(from *state.Port, p *trace.Packet) {
	for _, a := range from.AllowedPairs {
		if a.MAC == mac(0x5e) && p.Type == trace.IPv4 {
			p.EthSrc, p.Src = a.MAC, a.Prefix.Addr()
		}
	}
}

// odd makes a packet of another kind, now and then.
func (top *topology) odd(r *rapid.T, from, to *state.Port, p *trace.Packet) {
	switch rapid.IntRange(0, 16).Draw(r, "odd") {
	case 10:
		p.EthDst = mac(0x5e)
	case 11:
		fromVirtual(from, p)
	case 0:
		p.EthSrc = to.MAC
	case 1:
		p.Src = p.Dst
	case 2:
		p.EthDst = 0xffffffffffff
	case 3:
		p.EthDst = mac(77)
	case 4:
		*p = trace.Packet{EthSrc: from.MAC, EthDst: 0xffffffffffff, Type: trace.ARP, ARPOp: 1, ARPSHA: from.MAC, Src: address(from, true), Dst: address(to, true)}
	case 5:
		*p = trace.Packet{EthSrc: from.MAC, EthDst: 0xffffffffffff, Type: trace.IPv4, Proto: trace.UDP, Src: netip.IPv4Unspecified(),
			Dst: netip.AddrFrom4([4]byte{255, 255, 255, 255}), SrcPort: 68, DstPort: 67, TTL: 64}
	case 6:
		*p = trace.Packet{EthSrc: from.MAC, EthDst: 0x333300000002, Type: trace.IPv6, Proto: trace.ICMPv6, ICMPType: 133, Src: from.MAC.LinkLocal(),
			Dst: netip.MustParseAddr("ff02::2"), TTL: 255}
	case 7:
		target := address(to, false)
		if !target.IsValid() {
			return
		}
		*p = trace.Packet{EthSrc: from.MAC, EthDst: 0x3333ff000001, Type: trace.IPv6, Proto: trace.ICMPv6, ICMPType: 135, Src: from.MAC.LinkLocal(),
			Dst: netip.MustParseAddr("ff02::1:ff00:1"), TTL: 255, NDTarget: target, NDOption: from.MAC}
	case 9:
		*p = trace.Packet{EthSrc: from.MAC, EthDst: 0xffffffffffff, Type: trace.ARP, ARPOp: 1, ARPSHA: from.MAC, Src: netip.IPv4Unspecified(), Dst: address(to, true)}
		if target := address(to, false); target.IsValid() && rapid.Bool().Draw(r, "v6 probe") {
			*p = trace.Packet{EthSrc: from.MAC, EthDst: 0x3333ff000001, Type: trace.IPv6, Proto: trace.ICMPv6, ICMPType: 135, Src: netip.IPv6Unspecified(),
				Dst: netip.MustParseAddr("ff02::1:ff00:1"), TTL: 255, NDTarget: target}
		}
	case 8:
		p.VLAN = 77
	}
}

func address(p *state.Port, is4 bool) netip.Addr {
	for _, f := range p.FixedIPs {
		if f.Address.Is4() == is4 {
			return f.Address
		}
	}
	return netip.Addr{}
}
