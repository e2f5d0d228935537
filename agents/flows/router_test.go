package flows

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// Ethernet addresses of the lab's router: in networks n1 and n2, and its gateway's.
const (
	labLeg1    = "fa:16:3e:00:01:01"
	labLeg2    = "fa:16:3e:00:01:02"
	labGateway = "fa:16:3e:00:01:09"
	labOuter   = "0c:00:00:00:00:01" // the next hop outside
	labSelf    = "0a:48:77:00:00:01" // the host's own
)

// routed makes a router r1 between the networks n1 (10.0.1.0/24, 2001:db8:1::/64) and n2 (10.0.2.0/24, 2001:db8:2::/64), with a
// gateway to the flat network ext (203.0.113.0/24) where the next hop 203.0.113.254 is known.
func (l *lab) routed(change func(*state.Router)) {
	l.t.Helper()
	r := &state.Router{ID: "r1", Key: 5, Interfaces: []state.RouterInterface{
		{Network: "n1", MAC: labMAC(0x101), Addresses: prefixes("10.0.1.1/24", "2001:db8:1::1/64")},
		{Network: "n2", MAC: labMAC(0x102), Addresses: prefixes("10.0.2.1/24", "2001:db8:2::1/64")},
	}, Gateway: &state.Gateway{Network: "ext", MAC: labMAC(0x109), Addresses: prefixes("203.0.113.1/24"), NextHops: addrs("203.0.113.254")}}
	if change != nil {
		change(r)
	}
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450}, &state.Network{ID: "n2", Key: 8, MTU: 1450}, r, &state.Zone{ID: "r1", Snat: 201, Dnat: 202},
		&state.Network{ID: "ext", Key: 9, MTU: 1500, External: true, Segment: state.Flat, Physical: "physnet1"},
		&state.Neighbor{ID: "hop", Network: "ext", Address: netip.MustParseAddr("203.0.113.254"), MAC: 0x0c0000000001})
}

// sends is one from a lab's port, to an Ethernet address, in the words of ovs-fields(7).
func sends(port int, to, kind string, more ...string) string {
	return fmt.Sprintf("in_port=%d,%s,dl_src=%s,dl_dst=%s,", port, kind, labMAC(port), to) + strings.Join(more, ",")
}

// changed is how the datapath rewrites the addresses of a packet of IPv4 that a router passes on.
func changed(src, dst string, ttl int) string {
	return fmt.Sprintf(`set\(eth\(src=%s,dst=%s\)\),set\(ipv4\((?:src=[0-9.]*,)?(?:dst=[0-9.]*,)?ttl=%d\)\),`, src, dst, ttl)
}

func TestRouterBetweenNetworks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(nil)
	l.plug(1, "n1", "10.0.1.11 2001:db8:1::11", nil)
	l.plug(2, "n2", "10.0.2.12 2001:db8:2::12", nil)
	l.set(l.port(3, "n2", "h2", "10.0.2.13 2001:db8:2::13", nil))
	l.same()
	v4 := func(dst string) string { return sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_ttl=64,nw_dst="+dst) }
	l.expect("to a port here", v4("10.0.2.12"), changed(labLeg2, "fa:16:3e:00:00:02", 63)+"p2")
	l.expect("to a port elsewhere", v4("10.0.2.13"), changed(labLeg2, "fa:16:3e:00:00:03", 63)+tunnelled("12", "0x200003"))
	l.expect("back to who sent it", v4("10.0.1.11"), changed(labLeg1, "fa:16:3e:00:00:01", 63)+"p1")
	l.expect("to nobody", v4("10.0.2.99"), "drop")
	l.expect("to nowhere", sends(1, labLeg1, "udp6", "ipv6_src=2001:db8:1::11,ipv6_dst=2001:db8:9::1,nw_ttl=64"), "drop")
	l.expect("IPv6", sends(1, labLeg1, "udp6", "ipv6_src=2001:db8:1::11,ipv6_dst=2001:db8:2::12,nw_ttl=64"),
		`set\(eth\(src=`+labLeg2+`,dst=fa:16:3e:00:00:02\)\),set\(ipv6\(hlimit=63\)\),p2`)
	l.expect("IPv6 link-local is not routed", sends(1, labLeg1, "udp6", "ipv6_src=fe80::1,ipv6_dst=2001:db8:2::12,nw_ttl=64"), "drop")
	for _, src := range []string{"127.0.0.1", "0.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255"} {
		l.expect("a source that nobody has", sends(1, labLeg1, "udp", "nw_src="+src+",nw_dst=10.0.2.12,nw_ttl=64"), "drop")
	}
	l.expect("the TTL ends", sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_dst=10.0.2.12,nw_ttl=1"), "userspace.*")
	l.expect("the TTL ends at the router itself, whose packet it is", sends(1, labLeg1, "icmp", "nw_src=10.0.1.11,nw_dst=10.0.1.1,nw_ttl=1,icmp_type=8"),
		`set\(eth\(src=`+labLeg1+`,dst=fa:16:3e:00:00:01\)\),set\(ipv4\(src=10.0.1.1,dst=10.0.1.11,ttl=64\)\),set\(icmp\(type=0,code=0\)\),p1`)

	l.set(&state.Router{ID: "r1", Key: 5, Down: true})
	l.same()
	l.expect("a router that is down", v4("10.0.2.12"), "drop")
	l.remove(state.Ref{Kind: state.KindPlug, ID: "p1"}, state.Ref{Kind: state.KindPlug, ID: "p2"})
	if got := l.compiler.Stats().Units; got != 4 {
		t.Errorf("%d units are left without a port, want the static one and one for each host", got)
	}
}

// A new port is compiled alone: the router and its other ports stay as they are.
func TestRouterStandsWhilePortsCome(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(nil)
	l.plug(1, "n1", "10.0.1.11", nil)
	before := l.compiler.Stats().Compiled
	d := l.set(l.port(40, "n2", "h2", "10.0.2.40", nil))
	if got := l.compiler.Stats().Compiled - before; got > 4 {
		t.Errorf("%d units were compiled for a port elsewhere, want its own, its network's and the flood groups'", got)
	}
	if len(d.Flows) > 4 {
		t.Errorf("%d flows for a port of one address elsewhere, want at most 4", len(d.Flows))
	}
}

func TestRouterAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(nil)
	l.plug(1, "n1", "10.0.1.11 2001:db8:1::11", nil)
	l.expect("who has the gateway", sends(1, "ff:ff:ff:ff:ff:ff", "arp", "arp_op=1,arp_spa=10.0.1.11,arp_tpa=10.0.1.1,arp_sha=fa:16:3e:00:00:01"),
		`set\(eth\(src=`+labLeg1+`,dst=fa:16:3e:00:00:01\)\),set\(arp\(sip=10.0.1.1,tip=10.0.1.11,op=2,sha=`+labLeg1+`,tha=fa:16:3e:00:00:01\)\),p1`)
	ns := "ipv6_src=2001:db8:1::11,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,"
	advertised := func(target string) string {
		return `set\(eth\(src=` + labLeg1 + `,dst=fa:16:3e:00:00:01\)\),set\(ipv6\(src=` + target + `,dst=2001:db8:1::11\)\),set\(nd_ext\(nd_reserved=0xe0000000,nd_options_type=2\)\),set\(nd\(tll=` + labLeg1 + `\)\),set\(icmpv6\(type=136,code=0\)\),p1`
	}
	l.expect("who has the gateway's v6 address", sends(1, "33:33:ff:00:00:01", "icmp6", ns+"ipv6_dst=ff02::1:ff00:1,nd_target=2001:db8:1::1,nd_sll=fa:16:3e:00:00:01,nd_options_type=1"), advertised("2001:db8:1::1"))
	l.expect("who has its link-local address", sends(1, "33:33:ff:00:01:01", "icmp6", ns+"ipv6_dst=ff02::1:ff00:101,nd_target=fe80::f816:3eff:fe00:101,nd_sll=fa:16:3e:00:00:01,nd_options_type=1"),
		advertised("fe80::f816:3eff:fe00:101"))
	l.expect("are you still there, without an option", sends(1, labLeg1, "icmp6", ns+"ipv6_dst=2001:db8:1::1,nd_target=2001:db8:1::1"),
		`set\(eth\(src=`+labLeg1+`,dst=fa:16:3e:00:00:01\)\),set\(ipv6\(src=2001:db8:1::1,dst=2001:db8:1::11\)\),set\(nd_ext\(nd_reserved=0xe0000000.*\)\),set\(icmpv6\(type=136,code=0\)\),p1`)
	for _, a := range []string{"10.0.1.1", "10.0.2.1", "203.0.113.1"} {
		l.expect("ping "+a, sends(1, labLeg1, "icmp", "nw_src=10.0.1.11,nw_dst="+a+",nw_ttl=64,icmp_type=8"),
			`set\(eth\(src=`+labLeg1+`,dst=fa:16:3e:00:00:01\)\),set\(ipv4\(src=`+a+`,dst=10.0.1.11\)\),set\(icmp\(type=0,code=0\)\),p1`)
	}
	l.expect("ping6", sends(1, labLeg1, "icmp6", "ipv6_src=2001:db8:1::11,ipv6_dst=2001:db8:2::1,nw_ttl=64,icmpv6_type=128"),
		`set\(eth\(src=`+labLeg1+`,dst=fa:16:3e:00:00:01\)\),set\(ipv6\(src=2001:db8:2::1,dst=2001:db8:1::11\)\),set\(icmpv6\(type=129,code=0\)\),p1`)
	l.expect("ping6 of the link-local address", sends(1, labLeg1, "icmp6", "ipv6_src=fe80::1,ipv6_dst=fe80::f816:3eff:fe00:101,nw_ttl=64,icmpv6_type=128"), `.*set\(icmpv6\(type=129,code=0\)\),p1`)
	l.expect("a port of the router's", sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_dst=10.0.1.1,nw_ttl=64"), "userspace.*")
	l.expect("an echo reply that nobody asked for", sends(1, labLeg1, "icmp", "nw_src=10.0.1.11,nw_dst=10.0.1.1,nw_ttl=64,icmp_type=0"), "drop")
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(func(r *state.Router) {
		r.Routes = []state.StaticRoute{
			{Destination: prefixes("10.8.0.0/16")[0], NextHops: addrs("10.0.2.12")},
			{Destination: prefixes("10.8.1.0/24")[0]},
			{Destination: prefixes("10.8.2.0/24")[0], NextHops: addrs("10.77.0.1")},
			{Destination: prefixes("10.0.2.0/24")[0], NextHops: addrs("10.0.1.13")},
			{Destination: prefixes("10.9.0.0/16")[0], NextHops: addrs("10.0.2.12", "10.0.2.13")},
			{Destination: prefixes("2001:db8:9::/48")[0], NextHops: addrs("2001:db8:2::12")},
		}
	})
	l.plug(1, "n1", "10.0.1.11 2001:db8:1::11", nil)
	l.plug(2, "n2", "10.0.2.12 2001:db8:2::12", nil)
	l.plug(3, "n2", "10.0.2.13", nil)
	l.same()
	v4 := func(dst string) string { return sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_ttl=64,nw_dst="+dst) }
	toP2 := changed(labLeg2, "fa:16:3e:00:00:02", 63) + "p2"
	toP3 := changed(labLeg2, "fa:16:3e:00:00:03", 63) + "p3"
	l.expect("by a next hop", v4("10.8.9.9"), toP2)
	l.expect("IPv6 by a next hop", sends(1, labLeg1, "udp6", "ipv6_src=2001:db8:1::11,ipv6_dst=2001:db8:9::1,nw_ttl=64"), `set\(eth\(src=`+labLeg2+`,dst=fa:16:3e:00:00:02\)\),set\(ipv6\(hlimit=63\)\),p2`)
	l.expect("the longer prefix: nowhere", v4("10.8.1.1"), "drop")
	l.expect("a next hop that is in none of its networks does not fall back", v4("10.8.2.1"), "drop")
	l.expect("a connected network is no static route", v4("10.0.2.13"), toP3)
	l.expect("one of several", v4("10.9.0.1"), `hash\(sym_l4\(0\)\),recirc\(0x[0-9a-f]+\)`)
	l.expect("outside", v4("192.0.2.80"), toOuter(labSelf))

	l.routed(func(r *state.Router) {
		r.Routes = []state.StaticRoute{{Destination: prefixes("0.0.0.0/0")[0], NextHops: addrs("10.0.2.12")}}
	})
	l.same()
	l.expect("a static default goes before the gateway's", v4("192.0.2.80"), toP2)
	l.expect("what is gone", v4("10.8.9.9"), toP2)
}

// Two tenants have the same addresses.
func TestRoutersApart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(nil)
	l.set(&state.Network{ID: "n3", Key: 17, MTU: 1450}, &state.Network{ID: "n4", Key: 18, MTU: 1450}, &state.Router{ID: "r2", Key: 6, Interfaces: []state.RouterInterface{
		{Network: "n3", MAC: labMAC(0x103), Addresses: prefixes("10.0.1.1/24")}, {Network: "n4", MAC: labMAC(0x104), Addresses: prefixes("10.0.2.1/24")}}})
	l.plug(1, "n1", "10.0.1.11", nil)
	l.plug(2, "n2", "10.0.2.12", nil)
	l.plug(3, "n3", "10.0.1.11", nil)
	l.plug(4, "n4", "10.0.2.12", nil)
	l.same()
	l.expect("the one", sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_dst=10.0.2.12,nw_ttl=64"), changed(labLeg2, "fa:16:3e:00:00:02", 63)+"p2")
	l.expect("the other", sends(3, "fa:16:3e:00:01:03", "udp", "nw_src=10.0.1.11,nw_dst=10.0.2.12,nw_ttl=64"), changed("fa:16:3e:00:01:04", "fa:16:3e:00:00:04", 63)+"p4")
	l.expect("the one through the other's router", sends(1, "fa:16:3e:00:01:03", "udp", "nw_src=10.0.1.11,nw_dst=10.0.2.12,nw_ttl=64"), "drop")
}

func TestMTU(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(nil)
	l.set(&state.Network{ID: "n2", Key: 8, MTU: 1400})
	l.plug(1, "n1", "10.0.1.11", nil)
	l.plug(2, "n2", "10.0.2.12", nil)
	l.same()
	l.expect("into the smaller", sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_dst=10.0.2.12,nw_ttl=64"),
		`set\(eth\(dst=fa:16:3e:00:00:02\)\),check_pkt_len\(size=1414,gt\(userspace.*\),le\(set\(eth\(src=`+labLeg2+`\)\),set\(ipv4\(ttl=63\)\),p2\)\)`)
	l.expect("into the larger, unmeasured", sends(2, labLeg2, "udp", "nw_src=10.0.2.12,nw_dst=10.0.1.11,nw_ttl=64"), changed(labLeg1, "fa:16:3e:00:00:01", 63)+"p1")
}

// A router in a VLAN of the physical network, where machines live that nobody has told of.
func TestRouterIntoVLAN(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const leg3, machine = "fa:16:3e:00:01:03", "0c:00:00:00:00:02"
	vlan := func(hosts ...string) {
		l.routed(func(r *state.Router) {
			r.Interfaces = append(r.Interfaces, state.RouterInterface{Network: "n3", MAC: labMAC(0x103), Addresses: prefixes("10.0.3.1/24")})
			r.Gateway.Hosts = hosts
		})
	}
	vlan("h2")
	l.set(&state.Network{ID: "n3", Key: 17, MTU: 1500, Segment: state.VLAN, Physical: "physnet1", VLAN: 100})
	l.plug(1, "n1", "10.0.1.11", nil)
	l.plug(2, "n3", "10.0.3.12", nil)
	l.set(l.port(3, "n3", "h2", "10.0.3.13", nil))
	l.same()
	v4 := func(dst string) string { return sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_ttl=64,nw_dst="+dst) }
	tagged := func(src, dst string) string {
		return `set\(eth\(src=` + src + `,dst=` + dst + `\)\),set\(ipv4\(ttl=63\)\),push_vlan\(vid=100,pcp=0\),up0`
	}
	in := func(to, kind, more string) string {
		return fmt.Sprintf("in_port=%d,%s,dl_vlan=100,dl_src=%s,dl_dst=%s,%s", labUplink, kind, machine, to, more)
	}
	asked := in("ff:ff:ff:ff:ff:ff", "arp", "arp_op=1,arp_spa=10.0.3.99,arp_tpa=10.0.3.1,arp_sha="+machine)
	enters := in(leg3, "udp", "nw_src=10.0.3.99,nw_dst=10.0.1.11,nw_ttl=64")
	l.expect("to a guest here", v4("10.0.3.12"), changed(leg3, "fa:16:3e:00:00:02", 63)+"p2")
	l.expect("to a guest elsewhere, with the host's own address", v4("10.0.3.13"), tagged(labSelf, "fa:16:3e:00:00:03"))
	if _, how := l.trace(v4("10.0.3.99")); !strings.Contains(how, fmt.Sprintf("controller(userdata=%02x,pause)", uint8(OpNeighbor))) {
		t.Errorf("to a machine that is not known: does not wait for the agent, who asks\n%s", how)
	}
	l.set(&state.Neighbor{ID: "old", Network: "n3", Address: netip.MustParseAddr("10.0.3.99"), MAC: 0x0c0000000009, Epoch: 1},
		&state.Neighbor{ID: "new", Network: "n3", Address: netip.MustParseAddr("10.0.3.99"), MAC: 0x0c0000000002, Epoch: 2},
		&state.Neighbor{ID: "vip", Network: "n3", Address: netip.MustParseAddr("10.0.3.50"), MAC: labMAC(2), Port: "p2"})
	l.same()
	l.expect("to a machine, as the later word has it", v4("10.0.3.99"), tagged(labSelf, machine))
	l.expect("to an address that a port has now", v4("10.0.3.50"), changed(leg3, "fa:16:3e:00:00:02", 63)+"p2")
	l.expect("who is the router: its guest asks", sends(2, "ff:ff:ff:ff:ff:ff", "arp", "arp_op=1,arp_spa=10.0.3.12,arp_tpa=10.0.3.1,arp_sha=fa:16:3e:00:00:02"), `.*sip=10.0.3.1,.*,p2`)
	l.expect("who is the router: a machine asks, and another host answers", asked, "pop_vlan,p2")
	l.expect("for the router, and another host takes it", enters, "drop")
	vlan("h1")
	l.same()
	l.expect("a machine asks the gateway's host", asked, `.*sip=10.0.3.1,.*,up0`)
	l.expect("for the router, at the gateway's host", enters, `set\(eth\(dst=fa:16:3e:00:00:01\)\),pop_vlan,check_pkt_len\(size=1464,gt\(userspace.*\),le\(set\(eth\(src=`+labLeg1+`\)\),set\(ipv4\(ttl=63\)\),p1\)\)`)
	l.expect("to a machine, from there", v4("10.0.3.99"), tagged(leg3, machine))
	l.expect("what it says of itself is told", in("ff:ff:ff:ff:ff:ff", "arp", "arp_op=2,arp_spa=10.0.3.99,arp_tpa=10.0.3.99,arp_sha="+machine), `.*userspace.*p2`)
	l.expect("what it answers to this host is the agent's", in(labSelf, "arp", "arp_op=2,arp_spa=10.0.3.98,arp_tpa=10.0.3.1,arp_sha="+machine), `(?:pop_vlan,)?userspace.*`)
}
