package flows

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/state"
)

// packet is what security groups look at, beside what the connection tracker says of it.
type packet struct {
	v6           bool
	protocol     int
	src, dst     netip.Addr
	port         uint16 // destination, of TCP, UDP and SCTP
	kind, code   int    // of ICMP
	fragment     bool   // not the first: it has no port or type
	from         uint16 // source port
	ct           string // in ofproto/trace's words, such as "trk,est,rpl"
	in, outBlock bool   // bits of ct_mark
}

func (p packet) is(bit string) bool { return slices.Contains(strings.Split(p.ct, ","), bit) }

// text is the packet in the words of ovs-fields(7), without where it comes from and goes.
func (p packet) text() string {
	var fields []string
	family, six, src, dst := "ip", "", "nw_src", "nw_dst"
	if p.v6 {
		family, six, src, dst = "ipv6", "6", "ipv6_src", "ipv6_dst"
	}
	add := func(format string, args ...any) { fields = append(fields, fmt.Sprintf(format, args...)) }
	switch {
	case p.v6 && p.fragment:
		add("ipv6,nw_proto=44")
	case p.protocol == protoTCP:
		add("tcp%s", six)
	case p.protocol == protoUDP:
		add("udp%s", six)
	case p.protocol == protoSCTP:
		add("sctp%s", six)
	case p.protocol == icmpOf(p.v6):
		add("icmp%s", six)
	default:
		add("%s,nw_proto=%d", family, p.protocol)
	}
	add("%s=%s,%s=%s", src, p.src, dst, p.dst)
	mark := bit(p.in)<<MarkInBlocked | bit(p.outBlock)<<MarkOutBlocked
	if mark != 0 {
		add("ct_mark=%d", mark)
	}
	ports := p.protocol == protoTCP || p.protocol == protoUDP || p.protocol == protoSCTP
	icmp := p.protocol == icmpOf(p.v6)
	switch {
	case p.fragment:
		add("ip_frag=later")
	case ports:
		name := map[int]string{protoTCP: "tcp", protoUDP: "udp", protoSCTP: "sctp"}[p.protocol]
		add("%s_src=%d,%s_dst=%d", name, p.from, name, p.port)
	case icmp && p.v6:
		add("icmpv6_type=%d,icmpv6_code=%d", p.kind, p.code)
	case icmp:
		add("icmp_type=%d,icmp_code=%d", p.kind, p.code)
	}
	return strings.Join(fields, ",")
}

func icmpOf(v6 bool) int {
	if v6 {
		return protoICMPv6
	}
	return protoICMP
}

// allows is the oracle: what security groups mean, without a thought of flows.
func allows(v *state.View, port *state.Port, egress bool, p packet) bool {
	if !port.PortSecurity || essential(egress, p) {
		return true
	}
	var stateful, stateless []state.SecurityRule
	keeps := false
	for _, id := range port.SecurityGroups {
		g := state.Find[*state.SecurityGroup](v, id)
		switch {
		case g == nil:
		case g.Stateless:
			stateless = append(stateless, g.Rules...)
		default:
			keeps = true
			stateful = append(stateful, g.Rules...)
		}
	}
	blockedHere, blockedThere := p.in, p.outBlock
	if egress {
		blockedHere, blockedThere = blockedThere, blockedHere
	}
	switch {
	case !keeps:
		p.ct = ""
	case p.is("inv"):
	case p.is("rpl"):
		if !blockedThere {
			return true
		}
	case p.is("rel"):
		if !blockedHere {
			return true
		}
	default:
		if anyAllows(v, stateful, egress, p) {
			return true
		}
	}
	return anyAllows(v, stateless, egress, p)
}

func anyAllows(v *state.View, rules []state.SecurityRule, egress bool, p packet) bool {
	return slices.ContainsFunc(rules, func(r state.SecurityRule) bool { return r.Egress == egress && ruleAllows(v, r, egress, p) })
}

func ruleAllows(v *state.View, r state.SecurityRule, egress bool, p packet) bool {
	other := p.src
	if egress {
		other = p.dst
	}
	unknown := p.v6 && p.fragment // protocol
	if r.V6 != p.v6 || r.Protocol >= 0 && r.Protocol != p.protocol && !unknown {
		return false
	}
	if r.Remote.IsValid() && !r.Remote.Contains(other) {
		return false
	}
	if r.RemoteSet != "" && !slices.ContainsFunc(state.All[*state.AddressSet](v, state.Index{List: state.ListPartsOfSet, ID: r.RemoteSet}), func(s *state.AddressSet) bool {
		return slices.ContainsFunc(s.Prefixes, func(x netip.Prefix) bool { return x.Contains(other) })
	}) {
		return false
	}
	if p.fragment {
		return true // of some packet
	}
	if r.HasPorts() && (p.port < r.PortMin || p.port > r.PortMax) {
		return false
	}
	return r.ICMPType < 0 || r.ICMPType == p.kind && (r.ICMPCode < 0 || r.ICMPCode == p.code)
}

// essential is what no network works without.
func essential(egress bool, p packet) bool {
	if p.fragment {
		return false
	}
	switch p.protocol {
	case protoICMPv6:
		types := []int{130, 131, 132, 134, 135, 136}
		if egress {
			types = []int{130, 131, 132, 133, 135, 136, 143}
		}
		return p.v6 && slices.Contains(types, p.kind)
	case protoUDP:
		client, server := uint16(68), uint16(67)
		if p.v6 {
			client, server = 546, 547
		}
		if egress {
			return p.from == client && p.port == server
		}
		return p.from == server && p.port == client
	}
	return false
}

// fenced is a lab with p1, which has security groups, and p2, which has none.
type fenced struct{ *lab }

func newFenced(t testing.TB, groups ...string) *fenced {
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1 2001:db8::1", func(p *state.Port) { p.PortSecurity, p.SecurityGroups = true, groups })
	l.plug(2, "n1", "10.0.0.2 2001:db8::2", nil)
	return &fenced{l}
}

// passes says whether the switch lets a packet out of p1, to p2, or into it from there.
func (l *fenced) passes(egress bool, p packet) (bool, string) {
	l.t.Helper()
	in, src, dst, out := 2, 2, 1, "p1"
	if egress {
		in, src, dst, out = 1, 1, 2, "p2"
	}
	var next []string
	if p.ct != "" {
		next = []string{"--ct-next", p.ct}
	}
	does, how := l.trace(fmt.Sprintf("in_port=%d,dl_src=%s,dl_dst=%s,%s", in, labMAC(src), labMAC(dst), p.text()), next...)
	acts := does[strings.LastIndex(does, "|")+1:]
	return strings.HasSuffix(acts, out), how
}

// check fails the test where the switch does not decide as the oracle does.
func (l *fenced) check(egress bool, p packet) {
	l.t.Helper()
	var want bool
	l.store.Read(func(v *state.View) { want = allows(v, state.Find[*state.Port](v, "p1"), egress, p) })
	if got, how := l.passes(egress, p); got != want {
		l.t.Errorf("egress %t, %+v: passes %t, want %t\n%s", egress, p, got, want, how)
	}
}

func TestEveryKindOfRule(t *testing.T) {
	t.Parallel()
	l := newFenced(t, "g1")
	l.set(&state.AddressSet{ID: "a1", Set: "a", Prefixes: prefixes("10.0.0.2/32", "2001:db8::/64")}, &state.AddressSet{ID: "a2", Set: "a", Prefixes: prefixes("10.0.0.64/26")},
		&state.AddressSet{ID: "every", Set: "every", Prefixes: prefixes("0.0.0.0/0", "::/0")})
	peer4, peer6, far := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("10.9.0.1")
	any4 := state.SecurityRule{Protocol: -1, ICMPType: -1, ICMPCode: -1}
	with := func(f func(*state.SecurityRule)) state.SecurityRule { r := any4; f(&r); return r }
	for _, tt := range []struct {
		name   string
		rule   state.SecurityRule
		passes []packet
		dies   []packet
	}{
		{"any of IPv4", any4, []packet{{protocol: 6, port: 1}, {protocol: 47}, {protocol: 1, kind: 8}}, []packet{{v6: true, protocol: 6}}},
		{"any of IPv6", with(func(r *state.SecurityRule) { r.V6 = true }), []packet{{v6: true, protocol: 58, kind: 128}}, []packet{{protocol: 6}}},
		{"a protocol", with(func(r *state.SecurityRule) { r.Protocol = 112 }), []packet{{protocol: 112}}, []packet{{protocol: 6}}},
		{"a port", with(func(r *state.SecurityRule) { r.Protocol, r.PortMin, r.PortMax = 6, 22, 22 }),
			[]packet{{protocol: 6, port: 22}, {protocol: 6, fragment: true}}, []packet{{protocol: 6, port: 23}, {protocol: 17, fragment: true}, {protocol: 17, port: 22}}},
		{"ports", with(func(r *state.SecurityRule) { r.Protocol, r.PortMin, r.PortMax = 17, 1000, 2000 }),
			[]packet{{protocol: 17, port: 1000}, {protocol: 17, port: 1999}, {protocol: 17, port: 2000}}, []packet{{protocol: 17, port: 999}, {protocol: 17, port: 2001}}},
		{"ports of SCTP from 0", with(func(r *state.SecurityRule) { r.Protocol, r.PortMax = 132, 9 }), []packet{{protocol: 132, port: 0}, {protocol: 132, fragment: true}}, []packet{{protocol: 132, port: 10}}},
		{"a type of ICMP", with(func(r *state.SecurityRule) { r.Protocol, r.ICMPType = 1, 8 }),
			[]packet{{protocol: 1, kind: 8}, {protocol: 1, kind: 8, code: 3}, {protocol: 1, fragment: true}}, []packet{{protocol: 1, kind: 0}}},
		{"type and code", with(func(r *state.SecurityRule) { r.Protocol, r.ICMPType, r.ICMPCode = 1, 3, 4 }), []packet{{protocol: 1, kind: 3, code: 4}}, []packet{{protocol: 1, kind: 3, code: 1}}},
		{"a type of ICMPv6", with(func(r *state.SecurityRule) { r.V6, r.Protocol, r.ICMPType = true, 58, 128 }), []packet{{v6: true, protocol: 58, kind: 128}, {v6: true, protocol: 58, fragment: true}}, []packet{{v6: true, protocol: 58, kind: 129}}},
		{"a prefix", with(func(r *state.SecurityRule) { r.Protocol, r.Remote = 6, netip.MustParsePrefix("10.0.0.0/30") }), []packet{{protocol: 6}}, []packet{{protocol: 6, src: far, dst: far}, {protocol: 17}}},
		{"all as a prefix", with(func(r *state.SecurityRule) { r.Remote = netip.MustParsePrefix("0.0.0.0/0") }), []packet{{protocol: 6}, {protocol: 6, src: far, dst: far}}, nil},
		{"a set", with(func(r *state.SecurityRule) { r.RemoteSet = "a" }), []packet{{protocol: 6}}, []packet{{protocol: 6, src: far, dst: far}, {v6: true, protocol: 6}}},
		{"a set in IPv6", with(func(r *state.SecurityRule) { r.V6, r.RemoteSet = true, "a" }), []packet{{v6: true, protocol: 6}}, []packet{{protocol: 6}}},
		{"a set of all", with(func(r *state.SecurityRule) { r.RemoteSet = "every" }), []packet{{protocol: 6}, {protocol: 6, src: far, dst: far}}, []packet{{v6: true, protocol: 6}}},
		{"a set of nobody", with(func(r *state.SecurityRule) { r.RemoteSet = "nobody" }), nil, []packet{{protocol: 6}, {protocol: 6, src: far, dst: far}}},
	} {
		for _, egress := range []bool{false, true} {
			tt.rule.Egress = egress
			l.set(&state.SecurityGroup{ID: "g1", Rules: []state.SecurityRule{tt.rule}})
			try := func(want bool, packets []packet) {
				for _, p := range packets {
					own, peer := netip.MustParseAddr("10.0.0.1"), peer4
					if p.v6 {
						own, peer = netip.MustParseAddr("2001:db8::1"), peer6
					}
					if p.src.IsValid() {
						peer = p.src
					}
					if p.src, p.dst = peer, own; egress {
						p.src, p.dst = own, peer
					}
					p.ct = "trk,new"
					if got, how := l.passes(egress, p); got != want {
						t.Errorf("%s, egress %t, %+v: passes %t, want %t\n%s", tt.name, egress, p, got, want, how)
					}
					l.check(egress, p)
				}
			}
			try(true, tt.passes)
			try(false, tt.dies)
		}
	}
	l.same()
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// The states that a connection tracker tells, and what becomes of connections and their answers.
func TestConnections(t *testing.T) {
	t.Parallel()
	l := newFenced(t, "g1")
	ssh := []state.SecurityRule{{ID: "ssh", Protocol: 6, PortMin: 22, PortMax: 22, ICMPType: -1, ICMPCode: -1}}
	p := packet{protocol: 6, src: netip.MustParseAddr("10.0.0.2"), dst: netip.MustParseAddr("10.0.0.1"), port: 22}
	back := packet{protocol: 6, src: p.dst, dst: p.src, from: 22}
	set := func(group string, stateless bool, rules []state.SecurityRule) {
		l.set(&state.SecurityGroup{ID: group, Stateless: stateless, Rules: rules})
	}
	does := func(what string, egress bool, p packet, ct string, inBlocked, want bool, words ...string) {
		t.Helper()
		p.ct, p.in = ct, inBlocked
		got, how := l.passes(egress, p)
		acts := fmt.Sprint(datapathActions.FindAllString(how, -1))
		for _, w := range words {
			if with, ok := strings.CutPrefix(w, "not "); ok == strings.Contains(acts, with) {
				t.Errorf("%s: does %q, want %q\n%s", what, acts, w, how)
			}
		}
		if got != want {
			t.Errorf("%s: passes %t, want %t\n%s", what, got, want, how)
		}
		if ct != "" {
			l.check(egress, p)
		}
	}
	set("g1", false, ssh)
	conj := ""
	for c := range l.compiler.numbers[spaceConjunction].name {
		conj = fmt.Sprintf("label=%#x/0xffffffff", c)
		if r, ok := l.compiler.RuleOf(c); !ok || r.Group != "g1" || r.Egress {
			t.Errorf("rule of %#x is %+v", c, r)
		}
	}
	does("new", false, p, "trk,new", false, true, "ct(commit,zone=1,mark=0/0x1,"+conj)
	does("goes on", false, p, "trk,est", false, true, "not commit")
	does("its answer", true, back, "trk,est,rpl", false, true, "not commit")
	does("allowed again", false, p, "trk,est", true, true, "commit", "mark=0/0x1")
	does("an error about it, from the guest", true, packet{protocol: 1, src: p.dst, dst: p.src, kind: 3}, "trk,rel,rpl", false, true)
	does("an error about an answer", false, packet{protocol: 1, src: p.src, dst: p.dst, kind: 3}, "trk,rel", false, true)
	does("what belongs to nothing", false, p, "trk,inv", false, false)
	does("of its own accord", true, back, "trk,new", false, false)

	set("g1", false, nil) // the rule goes
	does("cut", false, p, "trk,est", false, false, "ct(commit,zone=1,mark=0x1/0x1)")
	does("stays cut", false, p, "trk,est", true, false, "not commit")
	does("its answer is cut", true, back, "trk,est,rpl", true, false)
	does("an error from the guest is cut", true, packet{protocol: 1, src: p.dst, dst: p.src, kind: 3}, "trk,rel,rpl", true, false)
	does("an error about an answer is cut", false, packet{protocol: 1, src: p.src, dst: p.dst, kind: 3}, "trk,rel", true, false)

	set("g1", true, ssh)
	does("stateless", false, p, "", false, true, "not ct(")
	does("stateless: the answer needs a rule", true, back, "", false, false, "not ct(")
	set("g1", true, append(ssh, state.SecurityRule{Egress: true, Protocol: -1, ICMPType: -1, ICMPCode: -1}))
	does("stateless: the answer has one", true, back, "", false, true, "not ct(")

	set("g2", false, nil)
	both := *state.Find[*state.Port](l.view(), "p1")
	both.SecurityGroups = []string{"g1", "g2"}
	l.set(&both)
	does("stateless beside stateful", false, p, "trk,new", false, true, "not commit")
	does("stateless, and what belongs to nothing", false, p, "trk,inv", false, true, "not commit")
	set("g2", false, ssh)
	does("where both allow, the connection is kept", false, p, "trk,new", false, true, "commit")
	set("g2", false, nil)
	does("stateless keeps no connection", false, p, "trk,est", false, true, "mark=0x1/0x1")
	l.same()
}

func (l *lab) view() (out *state.View) {
	l.store.Read(func(v *state.View) { out = v })
	return out
}

// A port with port security and no groups: nothing but what no network works without.
func TestNoGroups(t *testing.T) {
	t.Parallel()
	l := newFenced(t)
	own, peer := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	l.check(true, packet{protocol: 6, src: own, dst: peer})
	l.check(false, packet{protocol: 6, src: peer, dst: own})
	l.check(false, packet{protocol: 17, src: peer, dst: own, from: 67, port: 68})
	l.check(false, packet{v6: true, protocol: 58, src: netip.MustParseAddr("fe80::2"), dst: netip.MustParseAddr("2001:db8::1"), kind: 134})
	l.expect("ARP to it", "in_port=2,arp,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:01,arp_op=2,arp_spa=10.0.0.2,arp_tpa=10.0.0.1,arp_sha=fa:16:3e:00:00:02,arp_tha=fa:16:3e:00:00:01", "p1")
	l.expect("some other protocol to it", "in_port=2,dl_type=0x88b5,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:01", "drop")
	if got, _ := l.passes(false, packet{protocol: 6, src: peer, dst: own}); got {
		t.Error("a port without groups takes TCP")
	}
}

// Both ends are guests of this host: each asks its own groups, in its own zone.
func TestTwoEndsOfOneHost(t *testing.T) {
	t.Parallel()
	l := newFenced(t, "g1")
	l.plug(3, "n1", "10.0.0.3", func(p *state.Port) { p.PortSecurity, p.SecurityGroups = true, []string{"g2"} })
	rule := func(egress bool) []state.SecurityRule {
		return []state.SecurityRule{{Egress: egress, Protocol: 6, PortMin: 80, PortMax: 80, ICMPType: -1, ICMPCode: -1}}
	}
	flow := "in_port=1,tcp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:03,nw_src=10.0.0.1,nw_dst=10.0.0.3,tp_src=99,tp_dst=80"
	const out, in = `ct\(zone=1\),recirc\(0x[0-9a-f]+\) \| `, `ct\(commit,zone=1,[^)]*\),ct\(zone=3\),recirc\(0x[0-9a-f]+\) \| `
	l.set(&state.SecurityGroup{ID: "g1", Rules: rule(true)}, &state.SecurityGroup{ID: "g2", Rules: rule(true)})
	l.expect("the receiver does not let it in", flow, out+in+`drop`)
	l.set(&state.SecurityGroup{ID: "g2", Rules: rule(false)})
	l.expect("both allow", flow, out+in+`ct\(commit,zone=3,[^)]*\),p3`)
	l.set(&state.SecurityGroup{ID: "g1"})
	l.expect("the sender does not let it out", flow, out+`drop`)
	l.expect("from another host", "in_port=100,tun_id=0x200003,tun_src=172.31.1.12,tun_dst=172.31.1.11,tcp,dl_dst=fa:16:3e:00:00:03,tp_dst=80", `ct\(zone=3\),recirc\(0x[0-9a-f]+\) \| ct\(commit,zone=3,[^)]*\),p3`)
	l.expect("to all", "in_port=2,tcp,dl_src=fa:16:3e:00:00:02,dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.0.0.2,nw_dst=10.0.0.255,tp_dst=80",
		`ct\(zone=1\),recirc\(0x[0-9a-f]+\),ct\(zone=3\),recirc\(0x[0-9a-f]+\) \| drop \| ct\(commit,zone=3,[^)]*\),p3`)
}

// Two subports of one trunk: each has its own zone, and the packet leaves by the port that it came in by, with the other's tag.
func TestGroupsOfSubports(t *testing.T) {
	t.Parallel()
	l := newFenced(t)
	for n := 4; n <= 5; n++ {
		l.set(l.port(n, "n1", labHost, fmt.Sprintf("10.0.0.%d", n), func(p *state.Port) {
			p.Parent, p.ParentVLAN, p.PortSecurity, p.SecurityGroups = "p2", uint16(10*n), true, []string{"g"} //nolint:gosec // small
		}), &state.Plug{ID: fmt.Sprint("p", n), OFPort: 2, Zone: uint16(n)}) //nolint:gosec // small
	}
	l.set(&state.SecurityGroup{ID: "g", Rules: []state.SecurityRule{{Protocol: 6, ICMPType: -1, ICMPCode: -1}, {Egress: true, Protocol: 6, ICMPType: -1, ICMPCode: -1}}})
	l.expect("from one to the other", "in_port=2,dl_vlan=40,tcp,dl_src=fa:16:3e:00:00:04,dl_dst=fa:16:3e:00:00:05,nw_src=10.0.0.4,nw_dst=10.0.0.5,tcp_dst=80",
		`pop_vlan,ct\(zone=4\),recirc\(0x[0-9a-f]+\) \| ct\(commit,zone=4,[^)]*\),ct\(zone=5\),recirc\(0x[0-9a-f]+\) \| ct\(commit,zone=5,[^)]*\),push_vlan\(vid=50,pcp=0\),p2`)
	l.expect("what no rule allows", "in_port=2,dl_vlan=40,udp,dl_src=fa:16:3e:00:00:04,dl_dst=fa:16:3e:00:00:05,nw_src=10.0.0.4,nw_dst=10.0.0.5,udp_dst=80",
		`pop_vlan,ct\(zone=4\),recirc\(0x[0-9a-f]+\) \| drop`)
}

// Whatever the groups, the switch decides as the oracle does.
func TestGroupsDecideAsTheyShould(t *testing.T) {
	t.Parallel()
	l := newFenced(t)
	rapid.Check(t, func(t *rapid.T) {
		w := world{t}
		port := *state.Find[*state.Port](l.view(), "p1")
		port.PortSecurity, port.SecurityGroups = w.number("secure", 10) > 0, w.some("groups", 3, "g")
		objects := []state.Object{&port}
		for i := range 3 {
			g := w.group().(*state.SecurityGroup) //nolint:errcheck,forcetypeassert // it is one
			g.ID = fmt.Sprint("g", i)
			objects = append(objects, g)
		}
		for i := range 4 {
			s := w.part().(*state.AddressSet) //nolint:errcheck,forcetypeassert // it is one
			s.ID, s.Set = fmt.Sprint("part", i), fmt.Sprint("a", i%3)
			objects = append(objects, s)
		}
		log := w.log() // of no consequence
		l.set(append(objects, log)...)
		for range 25 {
			egress := w.yes("egress")
			p := w.packet(egress)
			got, how := l.passes(egress, p)
			if want := allows(l.view(), &port, egress, p); got != want {
				t.Fatalf("egress %t, %+v: passes %t, want %t\n%s", egress, p, got, want, how)
			}
		}
		l.remove(log.Ref())
	})
	l.same()
}

// packet draws a packet of p1.
func (w world) packet(egress bool) packet {
	p := packet{
		v6: w.yes("v6"), protocol: max(w.protocol(), 1), port: uint16(w.number("port", 140)), from: uint16(w.number("from", 2) * 67), //nolint:gosec // small
		kind: w.number("type", 4), code: w.number("code", 3), fragment: w.number("fragment", 6) == 0, in: w.yes("in blocked"), outBlock: w.yes("out blocked"),
		ct: w.one("state", "trk,new", "trk,new", "trk,est", "trk,est,rpl", "trk,rel", "trk,rel,rpl", "trk,inv"),
	}
	p.src, p.dst = netip.AddrFrom4([4]byte{10, 0, 0, byte(6 + w.number("peer", 12))}), netip.MustParseAddr("10.0.0.1")
	if p.v6 {
		p.src, p.dst = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(w.number("net", 2)), 15: byte(6 + w.number("peer", 12))}), netip.MustParseAddr("2001:db8::1")
	}
	if p.v6 && w.yes("essential") {
		p.kind = rapid.SampledFrom([]int{130, 131, 132, 133, 143}).Draw(w.T, "kind") // port security asks more of others
	}
	if egress {
		p.src, p.dst = p.dst, p.src
		if p.from == 67 { // port security lets no guest be a server
			p.from = 68
		}
	}
	return p
}

func TestMaskedPorts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint16().Draw(t, "first")
		last := rapid.Uint16Range(first, 65535).Draw(t, "last")
		got := maskedPorts(first, last)
		for _, port := range []uint16{first, last, first - 1, last + 1, rapid.Uint16().Draw(t, "port")} {
			n := 0
			for _, m := range got {
				if port&m.mask == m.value {
					n++
				}
			}
			if want := bit(port >= first && port <= last); n != want {
				t.Fatalf("%d is in %d masks of [%d, %d], want %d: %x", port, n, first, last, want, got)
			}
		}
		if len(got) > 30 {
			t.Fatalf("%d masks", len(got))
		}
	})
	if got := len(maskedPorts(1000, 2000)); got != 8 {
		t.Errorf("1000 to 2000 are %d masks, want 8", got)
	}
}
