package flows

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

func TestSwitching(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1 2001:db8::1", nil)
	l.plug(2, "n1", "10.0.0.2", nil)
	l.set(l.port(3, "n1", "h2", "10.0.0.3 2001:db8::3", nil), l.port(4, "n1", "h3", "10.0.0.4", nil), l.port(5, "n1", "h3", "10.0.0.5", nil))
	l.same()
	ping := func(dst string) string {
		return "in_port=1,icmp,dl_src=fa:16:3e:00:00:01,dl_dst=" + dst + ",nw_src=10.0.0.1,nw_dst=10.0.0.9,nw_ttl=64"
	}
	l.expect("to a port here", ping("fa:16:3e:00:00:02"), "p2")
	l.expect("to a port elsewhere, by its key", ping("fa:16:3e:00:00:03"), tunnelled("12", "0x200003"))
	l.expect("to nobody", ping("fa:16:3e:00:00:09"), "drop")
	l.expect("to all: one copy a host", ping("ff:ff:ff:ff:ff:ff"),
		`p2,`+tunnelled("12", "0x7")+`,`+tunnelled("13", "0x7"))
	l.expect("who has an address elsewhere", "in_port=1,arp,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.3,arp_sha=fa:16:3e:00:00:01",
		`set\(eth\(src=fa:16:3e:00:00:03,dst=fa:16:3e:00:00:01\)\),set\(arp\(sip=10.0.0.3,tip=10.0.0.1,op=2,sha=fa:16:3e:00:00:03,tha=fa:16:3e:00:00:01\)\),p1`)
	l.expect("a probe is for its owner", "in_port=1,arp,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=0.0.0.0,arp_tpa=10.0.0.3,arp_sha=fa:16:3e:00:00:01",
		`p2,`+tunnelled("12", "0x7")+`,`+tunnelled("13", "0x7"))
	l.expect("from elsewhere, for a port here", "in_port=100,tun_id=0x200002,tun_src=172.31.1.12,tun_dst=172.31.1.11,icmp,dl_dst=fa:16:3e:00:00:02", "p2")
	l.expect("from elsewhere, for all", "in_port=100,tun_id=0x7,tun_src=172.31.1.12,tun_dst=172.31.1.11,icmp,dl_dst=ff:ff:ff:ff:ff:ff", "p1,p2")
	l.expect("for a port here, from who is no host", "in_port=100,tun_id=0x200002,tun_src=172.31.1.66,tun_dst=172.31.1.11,icmp,dl_dst=fa:16:3e:00:00:02", "drop")
	l.expect("for all, from who is no host", "in_port=100,tun_id=0x7,tun_src=172.31.1.66,tun_dst=172.31.1.11,icmp,dl_dst=ff:ff:ff:ff:ff:ff", "drop")
	l.expect("from this host's own address", "in_port=100,tun_id=0x200002,tun_src=172.31.1.11,tun_dst=172.31.1.11,icmp,dl_dst=fa:16:3e:00:00:02", "drop")
	l.expect("a network that nobody here is in", "in_port=100,tun_id=0x8,tun_src=172.31.1.12,tun_dst=172.31.1.11,icmp,dl_dst=ff:ff:ff:ff:ff:ff", "drop")
	l.expect("who has a v6 address", "in_port=1,icmp6,dl_src=fa:16:3e:00:00:01,dl_dst=33:33:ff:00:00:03,ipv6_src=2001:db8::1,ipv6_dst=ff02::1:ff00:3,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,nd_target=2001:db8::3,nd_sll=fa:16:3e:00:00:01,nd_options_type=1",
		`set\(eth\(src=fa:16:3e:00:00:03,dst=fa:16:3e:00:00:01\)\),set\(ipv6\(src=2001:db8::3,dst=2001:db8::1\)\),set\(nd_ext\(nd_reserved=0x60000000,nd_options_type=2\)\),set\(nd\(tll=fa:16:3e:00:00:03\)\),set\(icmpv6\(type=136,code=0\)\),p1`)

	l.remove(state.Ref{Kind: state.KindPlug, ID: "p1"}, state.Ref{Kind: state.KindPlug, ID: "p2"})
	l.same()
	if got := l.compiler.Stats().Units; got != 4 {
		t.Errorf("%d units are left without a port, want the static one and one for each host", got)
	}
}

// A host is known by each of its tunnel ends, of either family, and by none that it has no more. One with several sends from the one that it shares with the other.
func TestTunnelSources(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n1", "10.0.0.2", nil)
	l.set(l.port(3, "n1", "h2", "10.0.0.3", nil))
	from := func(source string) string {
		return "in_port=100,tun_id=0x200002," + source + ",icmp,dl_dst=fa:16:3e:00:00:02"
	}
	end := func(a string, e state.Encap) state.TunnelEnd {
		return state.TunnelEnd{Address: netip.MustParseAddr(a), Encap: e, Port: 4789}
	}
	known := func(what string, want map[string]string) {
		t.Helper()
		l.same()
		for source, does := range want {
			l.expect(what+": from "+source, from(source), does)
		}
	}
	l.set(&state.Host{ID: "h2", Key: 2, TunnelEnds: []state.TunnelEnd{end("172.31.1.12", 0), end("172.31.1.22", 0), end("fd00::12", 0), end("172.31.1.12", state.Geneve)}})
	known("several", map[string]string{"tun_src=172.31.1.12": "p2", "tun_src=172.31.1.22": "p2", "tun_ipv6_src=fd00::12": "p2", "tun_ipv6_src=fd00::13": "drop", "tun_src=172.31.1.23": "drop"})
	l.set(&state.Host{ID: "h2", Key: 2, TunnelEnds: []state.TunnelEnd{end("172.31.1.22", 0)}})
	known("another address", map[string]string{"tun_src=172.31.1.12": "drop", "tun_src=172.31.1.22": "p2"})
	l.remove(state.Ref{Kind: state.KindHost, ID: "h2"})
	known("no host any more", map[string]string{"tun_src=172.31.1.22": "drop", "tun_src=172.31.1.13": "p2"})

	// This host comes to have two addresses, and the switch's port is told to ask the flows.
	l.set(&state.Host{ID: "h2", Key: 2, TunnelEnds: []state.TunnelEnd{{Address: netip.MustParseAddr("172.31.1.12"), Zone: "b", Port: 4789}}},
		&state.Host{ID: labHost, Key: 1, TunnelEnds: []state.TunnelEnd{{Address: netip.MustParseAddr(labUnderlay), Zone: "a", Port: 4789}, {Address: netip.MustParseAddr("172.31.1.21"), Zone: "b", Port: 4789}}})
	l.ovs.Vsctl("set", "Interface", "vx0", "options:local_ip=flow")
	l.same()
	// The switch of a lab takes no second address for its own, and sends nothing from it.
	if _, how := l.trace("in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:03"); !strings.Contains(how, "tun_src=172.31.1.21,tun_dst=172.31.1.12") {
		t.Errorf("it is not sent from the end of the other's zone:\n%s", how)
	}
}
