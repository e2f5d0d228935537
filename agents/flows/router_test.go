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
	if got := l.compiler.Stats().Units; got != 1 {
		t.Errorf("%d units are left without a port, want the static one", got)
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
