package flows

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// A guest that is told to be somebody else's address must not get away with it, and its own must pass.
func TestPortSecurity(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	// Security groups are another matter: without any, a port with port security sends nothing, so what is let by shows in the table that it reaches.
	l.plug(1, "n1", "10.0.0.1 2001:db8::1", func(p *state.Port) {
		p.PortSecurity = true
		p.AllowedPairs = []state.AddressPair{{Prefix: netip.MustParsePrefix("10.9.0.0/16"), MAC: labMAC(0x99)}}
	})
	l.plug(2, "n1", "10.0.0.2 2001:db8::2", nil)
	const own, pair, other = "dl_src=fa:16:3e:00:00:01,", "dl_src=fa:16:3e:00:00:99,", "dl_src=fa:16:3e:00:00:02,"
	for _, tt := range []struct {
		what, flow string
		passes     bool
	}{
		{"its own", own + "icmp,nw_src=10.0.0.1", true},
		{"another's MAC", other + "icmp,nw_src=10.0.0.1", false},
		{"another's address", own + "icmp,nw_src=10.0.0.2", false},
		{"an allowed pair", pair + "icmp,nw_src=10.9.1.1", true},
		{"an allowed pair's address from its own MAC", own + "icmp,nw_src=10.9.1.1", false},
		{"its own address from a pair's MAC", pair + "icmp,nw_src=10.0.0.1", false},
		{"its own v6", own + "icmp6,ipv6_src=2001:db8::1", true},
		{"its own link-local", own + "icmp6,ipv6_src=fe80::f816:3eff:fe00:1", true},
		{"another's v6", own + "icmp6,ipv6_src=2001:db8::2", false},
		{"before it has an address", own + "udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67", true},
		{"nobody, other ports", own + "udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=69,udp_dst=67", false},
		{"nobody, from another MAC", other + "udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67", false},
		{"a DHCP server", own + "udp,nw_src=10.0.0.1,udp_src=67,udp_dst=68", false},
		{"a DHCPv6 server", own + "udp6,ipv6_src=2001:db8::1,udp_src=547,udp_dst=546", false},
		{"a router advertisement", own + "icmp6,ipv6_src=fe80::f816:3eff:fe00:1,icmpv6_type=134,icmpv6_code=0", false},
		{"an ICMPv6 redirect", own + "icmp6,ipv6_src=fe80::f816:3eff:fe00:1,icmpv6_type=137,icmpv6_code=0", false},
		{"ARP", own + "arp,arp_op=1,arp_sha=fa:16:3e:00:00:01,arp_spa=10.0.0.1,arp_tpa=10.0.0.77", true},
		{"ARP for another's address", own + "arp,arp_op=2,arp_sha=fa:16:3e:00:00:01,arp_spa=10.0.0.2,arp_tpa=10.0.0.77", false},
		{"ARP with another's MAC within", own + "arp,arp_op=2,arp_sha=fa:16:3e:00:00:02,arp_spa=10.0.0.1,arp_tpa=10.0.0.77", false},
		{"an ARP probe", own + "arp,arp_op=1,arp_sha=fa:16:3e:00:00:01,arp_spa=0.0.0.0,arp_tpa=10.0.0.1", true},
		// Its owner would take the question for another's claim, and not use its address.
		{"an ARP probe for another's address", own + "arp,arp_op=1,arp_sha=fa:16:3e:00:00:01,arp_spa=0.0.0.0,arp_tpa=10.0.0.2", false},
		{"an ARP answer from nobody", own + "arp,arp_op=2,arp_sha=fa:16:3e:00:00:01,arp_spa=0.0.0.0,arp_tpa=10.0.0.77", false},
		{"a neighbour advertisement", own + "icmp6,ipv6_src=2001:db8::1,nw_ttl=255,icmpv6_type=136,icmpv6_code=0,nd_target=2001:db8::1,nd_tll=fa:16:3e:00:00:01", true},
		{"one without the option", own + "icmp6,ipv6_src=2001:db8::1,nw_ttl=255,icmpv6_type=136,icmpv6_code=0,nd_target=2001:db8::1", true},
		{"one for another", own + "icmp6,ipv6_src=2001:db8::1,nw_ttl=255,icmpv6_type=136,icmpv6_code=0,nd_target=2001:db8::2,nd_tll=fa:16:3e:00:00:01", false},
		{"one with another's MAC within", own + "icmp6,ipv6_src=2001:db8::1,nw_ttl=255,icmpv6_type=136,icmpv6_code=0,nd_target=2001:db8::1,nd_tll=fa:16:3e:00:00:02", false},
		{"a solicitation", own + "icmp6,ipv6_src=2001:db8::1,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,nd_target=2001:db8::77,nd_sll=fa:16:3e:00:00:01", true},
		{"one with another's MAC within", own + "icmp6,ipv6_src=2001:db8::1,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,nd_target=2001:db8::77,nd_sll=fa:16:3e:00:00:02", false},
		{"detection of duplicates of another's address", own + "icmp6,ipv6_src=::,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,nd_target=2001:db8::2", false},
		{"detection of duplicates", own + "icmp6,ipv6_src=::,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,nd_target=2001:db8::1", true},
		{"no IP at all", own + "dl_type=0x88cc", false},
		{"a tag", own + "dl_vlan=5,icmp,nw_src=10.0.0.1", false},
		{"a priority tag", own + "vlan_tci=0xe000,icmp,nw_src=10.0.0.1", true},
	} {
		_, how := l.trace("in_port=1,dl_dst=fa:16:3e:00:00:02," + tt.flow)
		if passed := strings.Contains(how, "\n 7. "); passed != tt.passes {
			t.Errorf("%s: passes %v, want %v\n%s", tt.what, passed, tt.passes, how)
		}
	}
}

func TestTrunk(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450}, &state.Network{ID: "n2", Key: 8, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n2", "10.0.1.2", nil)
	sub := l.port(3, "n2", labHost, "10.0.1.3", func(p *state.Port) { p.Parent, p.ParentVLAN = "p1", 33 })
	l.set(sub, &state.Plug{ID: "p3", OFPort: 1, Zone: 3})
	l.same()
	l.expect("the subport's tag names its network", "in_port=1,dl_vlan=33,ip,dl_src=fa:16:3e:00:00:03,dl_dst=fa:16:3e:00:00:02", "pop_vlan,p2")
	l.expect("the parent's network is another", "in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02", "drop")
	l.expect("another tag", "in_port=1,dl_vlan=34,ip,dl_dst=fa:16:3e:00:00:02", "drop")
	l.expect("to the subport", "in_port=2,ip,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:03", `push_vlan\(vid=33,pcp=0\),p1`)
	l.expect("an answer to the subport keeps its tag", "in_port=1,dl_vlan=33,arp,dl_src=fa:16:3e:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=10.0.1.3,arp_tpa=10.0.1.2,arp_sha=fa:16:3e:00:00:03",
		`set\(eth\(.*\)\),set\(arp\(.*\)\),p1`)
	l.set(l.port(4, "n1", labHost, "10.0.0.4", func(p *state.Port) { p.Parent, p.ParentVLAN = "p1", 44 }), &state.Plug{ID: "p4", OFPort: 1, Zone: 4})
	l.expect("from a subport to its parent", "in_port=1,dl_vlan=44,ip,dl_src=fa:16:3e:00:00:04,dl_dst=fa:16:3e:00:00:01", "pop_vlan,p1")
	l.expect("from the parent to all, a subport among them", "in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff", `push_vlan\(vid=44,pcp=0\),p1`)
	l.expect("what it sends to all does not come back", "in_port=1,dl_vlan=33,ip,dl_src=fa:16:3e:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff", "pop_vlan,p2")
}

func TestProviderNetwork(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	vlan := &state.Network{ID: "n1", Key: 7, MTU: 1500, Segment: state.VLAN, Physical: "physnet1", VLAN: 42}
	l.set(vlan, &state.Network{ID: "n2", Key: 8, MTU: 1500, Segment: state.Flat, Physical: "physnet1"})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n2", "10.0.1.2", nil)
	l.set(l.port(3, "n1", "h2", "10.0.0.3", nil))
	l.same()
	l.expect("to a port elsewhere", "in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:03", `push_vlan\(vid=42,pcp=0\),up0`)
	l.expect("to somebody outside", "in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=02:00:00:00:00:77", `push_vlan\(vid=42,pcp=0\),up0`)
	l.expect("to all", "in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff", `push_vlan\(vid=42,pcp=0\),up0`)
	l.expect("from outside", "in_port=101,dl_vlan=42,ip,dl_src=02:00:00:00:00:77,dl_dst=fa:16:3e:00:00:01", `pop_vlan,p1`)
	l.expect("from outside, for all", "in_port=101,dl_vlan=42,ip,dl_src=02:00:00:00:00:77,dl_dst=ff:ff:ff:ff:ff:ff", `pop_vlan,p1`)
	l.expect("from outside, for a port elsewhere", "in_port=101,dl_vlan=42,ip,dl_src=02:00:00:00:00:77,dl_dst=fa:16:3e:00:00:03", `drop`)
	l.expect("from outside, another tag", "in_port=101,dl_vlan=43,ip,dl_dst=fa:16:3e:00:00:01", `drop`)
	l.expect("from outside, without a tag", "in_port=101,ip,dl_dst=fa:16:3e:00:00:02", `p2`)
	l.expect("without a tag", "in_port=2,ip,dl_src=fa:16:3e:00:00:02,dl_dst=02:00:00:00:00:77", `up0`)
	l.expect("its owner answers, not this host for another", "in_port=101,dl_vlan=42,arp,arp_op=1,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.0.9,arp_tpa=10.0.0.3", `pop_vlan,p1`)
}

// A port that migrates is delivered to where it is at every moment: before, between and after.
func TestMigration(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1", nil)
	toP2, tunnelP2 := "in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02", "in_port=100,tun_id=0x200002,tun_src=172.31.1.13,tun_dst=172.31.1.11,ip,dl_dst=fa:16:3e:00:00:02"
	moving := func(host, next string) {
		l.set(l.port(2, "n1", host, "10.0.0.2", func(p *state.Port) { p.NextHost = next }))
	}

	// Coming here from h2.
	moving("h2", labHost)
	l.expect("not here yet", toP2, tunnelled("12", "0x200002"))
	l.device("p2", 2)
	l.set(&state.Plug{ID: "p2", OFPort: 2, Zone: 2})
	l.expect("plugged, not yet its host", toP2, tunnelled("12", "0x200002"))
	l.expect("what h2 passes on is for the guest that runs here", strings.Replace(tunnelP2, "0x200002", "0x600002", 1), "p2")
	moving(labHost, "h2")
	l.expect("here", toP2, "p2")
	moving(labHost, "")
	l.expect("here to stay", tunnelP2, "p2")

	// Leaving for h3.
	moving(labHost, "h3")
	l.expect("still here", toP2, "p2")
	l.remove(state.Ref{Kind: state.KindPlug, ID: "p2"})
	l.expect("gone, and nobody has said so yet", toP2, tunnelled("13", "0x200002"))
	l.expect("what others still send here goes after it", tunnelP2, tunnelled("13", "0x600002"))
	l.expect("but only once", strings.Replace(tunnelP2, "0x200002", "0x600002", 1), "drop")
	moving("h3", labHost)
	l.expect("gone", tunnelP2, tunnelled("13", "0x600002"))
	moving("h3", "")
	l.expect("gone for good", toP2, tunnelled("13", "0x200002"))
	l.same()
}

func TestQoS(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1", func(p *state.Port) {
		p.QoS = state.QoS{EgressKbps: 1000, IngressKbps: 2000, IngressBurstKbit: 300, EgressPPS: 10, IngressPPS: 20, DSCP: 46}
	})
	l.plug(2, "n1", "10.0.0.2", nil)
	l.same()
	l.expect("what it sends", "in_port=1,udp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02,nw_src=10.0.0.1", `meter\(\d+\),meter\(\d+\),set\(ipv4\(tos=0xb8/0xfc\)\),p2`)
	l.expect("what it gets", "in_port=2,ip,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:01", `meter\(\d+\),meter\(\d+\),p1`)
	// One is for all ports: that of traces.
	if got := l.ovs.Ofctl("dump-meters", l.ovs.Mgmt("br0")); strings.Count(got, "meter=") != 4+1 || !strings.Contains(got, "rate=2000 burst_size=300") {
		t.Errorf("meters:\n%s", got)
	}
	l.set(l.port(1, "n1", labHost, "10.0.0.1", nil))
	l.same()
	if got := l.ovs.Ofctl("dump-meters", l.ovs.Mgmt("br0")); strings.Count(got, "meter=") != 1 {
		t.Errorf("limits that are no more have left meters:\n%s", got)
	}
}

// A guest at its limit loses its own copy of what is flooded, and nobody else's.
func TestLimitsOfOneAmongMany(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	for n, limit := range []func(*state.Port){
		nil, func(p *state.Port) { p.QoS.IngressKbps = 1000 }, func(p *state.Port) { p.QoS.IngressPPS = 20 },
		func(p *state.Port) { p.QoS.IngressKbps, p.QoS.IngressPPS = 1000, 20 }, func(p *state.Port) { p.QoS.EgressKbps = 1000 },
	} {
		l.plug(n+1, "n1", "", limit)
	}
	l.set(l.port(6, "n1", "h2", "", nil))
	l.same()
	l.expect("to all", "in_port=1,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,dl_type=0x88b5",
		`clone\(meter\(\d+\),p2\),clone\(meter\(\d+\),p3\),clone\(meter\(\d+\),meter\(\d+\),p4\),p5,`+tunnelled("12", fmt.Sprintf("%#x", TunnelKey(TunnelNetwork, 7))))
	l.expect("to one", "in_port=1,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:04,dl_type=0x88b5", `meter\(\d+\),meter\(\d+\),p4`)
}
