package flows

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// crowd is a host with n ports in networks of 50, each with an address of either family and no security group.
func crowd(n int) []state.Object {
	objects := []state.Object{&state.Host{ID: labHost, Key: 1, TunnelEnds: []state.TunnelEnd{{Address: netip.MustParseAddr(labUnderlay), Port: 4789}}}}
	for i := range n / 50 {
		objects = append(objects, &state.Network{ID: fmt.Sprintf("n%d", i), Key: uint32(i + 1), MTU: 1450}) //nolint:gosec // small
	}
	for i := range n {
		objects = append(objects, crowdPort(i, fmt.Sprintf("n%d", i/50)), crowdPlug(i))
	}
	return objects
}

func crowdPort(i int, network string, groups ...string) *state.Port {
	return &state.Port{ID: fmt.Sprintf("p%d", i), Key: uint32(i + 1), Network: network, MAC: labMAC(i), Host: labHost, PortSecurity: true, //nolint:gosec // small
		QoS: state.QoS{DSCP: -1}, SecurityGroups: groups, FixedIPs: []state.FixedIP{{Address: crowdAddr(i)},
			{Address: netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})}}}
}

func crowdAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func crowdPlug(i int) *state.Plug {
	return &state.Plug{ID: fmt.Sprintf("p%d", i), OFPort: uint32(1000 + i), Zone: uint16(i + 1)} //nolint:gosec // small
}

// grouped are the crowd's ports with a security group.
func grouped(n int, groups ...string) (out []state.Object) {
	for i := range n {
		out = append(out, crowdPort(i, fmt.Sprintf("n%d", i/50), groups...))
	}
	return out
}

// crowdGroup has three rules, as the first that a cloud gives a project: in from members, out anywhere; and ports of TCP.
func crowdGroup(ports ...uint16) *state.SecurityGroup {
	g := &state.SecurityGroup{ID: "sg", Rules: []state.SecurityRule{
		{Egress: true, Protocol: -1, ICMPType: -1, ICMPCode: -1}, {Egress: true, V6: true, Protocol: -1, ICMPType: -1, ICMPCode: -1},
		{Protocol: protoICMP, ICMPType: -1, ICMPCode: -1},
	}}
	for _, p := range ports {
		g.Rules = append(g.Rules, state.SecurityRule{Protocol: protoTCP, PortMin: p, PortMax: p, ICMPType: -1, ICMPCode: -1})
	}
	return g
}

// members is the set of the first n of the crowd's addresses, in one part.
func members(n int) *state.AddressSet {
	s := &state.AddressSet{ID: "members", Set: "members"}
	for i := range n {
		s.Prefixes = append(s.Prefixes, host(crowdAddr(i)))
	}
	return s
}

func withRemote(g *state.SecurityGroup, set string) *state.SecurityGroup {
	g.Rules = append(g.Rules, state.SecurityRule{Protocol: -1, ICMPType: -1, ICMPCode: -1, RemoteSet: set})
	return g
}

// bare is a compiler without a switch.
type bare struct {
	c *Compiler
	s *state.Store
}

func newBare(objects ...state.Object) (*bare, *Delta) {
	b := &bare{New(Config{Host: labHost, PuntRate: 100, LogRate: 100, LogBurst: 25}), state.NewStore()}
	return b, b.set(objects...)
}

func (b *bare) set(objects ...state.Object) *Delta { return b.apply(objects) }

func (b *bare) apply(set []state.Object, gone ...state.Ref) (d *Delta) {
	changes := b.s.Apply(set, gone)
	b.s.Read(func(v *state.View) { d = b.c.Update(v, changes) })
	return d
}

// With 1,000 ports of one group on the host, what changes about the group is a few flows.
func TestFewFlowsChange(t *testing.T) {
	t.Parallel()
	const n = 1000
	b, _ := newBare(crowd(n)...)
	b.set(append(grouped(n, "sg"), crowdGroup(), members(n))...)
	for _, tt := range []struct {
		name string
		to   []state.Object
		most int
	}{
		{"a rule", []state.Object{crowdGroup(22)}, 2},
		{"another rule", []state.Object{crowdGroup(22, 80)}, 2},
		{"a rule less", []state.Object{crowdGroup(22)}, 2},
		{"a rule with a remote group of 1,000", []state.Object{withRemote(crowdGroup(22), "members")}, n + 3},
		{"a second one of the same group", []state.Object{withRemote(withRemote(crowdGroup(22), "members"), "members")}, 0},
		{"a member", []state.Object{members(n + 1)}, 1},
		{"a member less", []state.Object{members(n)}, 1},
		{"a port with the set of groups", []state.Object{crowdPort(n, "n0", "sg"), crowdPlug(n)}, 25},
		{"a port with a set of its own", []state.Object{&state.SecurityGroup{ID: "other", Rules: crowdGroup(22).Rules}, crowdPort(n+1, "n0", "other", "sg"), crowdPlug(n + 1)}, 35},
	} {
		if got := len(b.set(tt.to...).Flows); got > tt.most {
			t.Errorf("%s: %d flows change, want %d at most", tt.name, got, tt.most)
		}
	}
}

// A flow takes so many clauses. What stands beyond is not allowed, and is told of; all else is as it was.
func TestMoreGroupsThanOneFlowTakes(t *testing.T) {
	t.Parallel()
	objects := []state.Object{&state.Network{ID: "n0", Key: 1, MTU: 1450}}
	for i := range mostClauses + 10 {
		p := crowdPort(i, "n0", fmt.Sprint("g", i))
		objects = append(objects, p, crowdPlug(i), &state.SecurityGroup{ID: p.SecurityGroups[0], Rules: []state.SecurityRule{{Protocol: -1, ICMPType: -1, ICMPCode: -1}}})
	}
	b, _ := newBare(objects...)
	f, ok := b.c.Flow(FlowKey{TInRules, pStateful, ipv4(match()).Key()})
	do, err := openflow.DecodeInstructions(f.Instructions)
	if !ok || err != nil || len(do) != 1 || len(do[0].(*openflow.InstrApply).Actions) != mostClauses { //nolint:errcheck,forcetypeassert // what the compiler makes
		t.Errorf("the flow is %v, %v, want one with %d clauses", do, err, mostClauses)
	}
	if b.c.Stats().Clashes != 1 {
		t.Errorf("%d clashes, want 1 that tells of it", b.c.Stats().Clashes)
	}
}

// BenchmarkUpdate is the compiler's share of what happens on a host with 1,000 ports.
func BenchmarkUpdate(b *testing.B) {
	const n = 1000
	run := func(name string, before []state.Object, do func(x *bare) *Delta, undo func(x *bare)) {
		b.Run("ports=1000/"+name, func(b *testing.B) {
			b.ReportAllocs()
			x, _ := newBare(before...)
			flows := 0
			for b.Loop() {
				flows = len(do(x).Flows)
				if undo != nil {
					b.StopTimer()
					undo(x)
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(flows), "flows")
		})
	}
	all := append(append(crowd(n), grouped(n, "sg")...), crowdGroup(), members(n))
	run("from scratch", nil, func(*bare) *Delta { _, d := newBare(all...); return d }, nil)
	run("one port more", all, func(x *bare) *Delta { return x.set(crowdPort(n, "n3", "sg"), crowdPlug(n)) },
		func(x *bare) { x.apply(nil, crowdPort(n, "n3").Ref(), crowdPlug(n).Ref()) })
	wide := append(all, &state.Host{ID: "h2", Key: 2})
	for i := range 11 * n { // of which the first are here
		p := crowdPort(i, "n1", "sg")
		if i > n {
			p.Host = "h2"
		}
		wide = append(wide, p)
	}
	run("one port more of a network of 11000", wide, func(x *bare) *Delta { return x.set(crowdPort(n, "n1", "sg"), crowdPlug(n)) },
		func(x *bare) { x.apply(nil, crowdPort(n, "n1").Ref(), crowdPlug(n).Ref()) })
	run("one unplugged of a network of 11000", wide, func(x *bare) *Delta { return x.apply(nil, crowdPlug(60).Ref()) }, func(x *bare) { x.set(crowdPlug(60)) })
	run("first group", crowd(n), func(x *bare) *Delta { return x.set(append(grouped(n, "sg"), crowdGroup())...) },
		func(x *bare) { x.set(grouped(n)...) })
	run("one rule more", all, func(x *bare) *Delta { return x.set(crowdGroup(22)) }, func(x *bare) { x.set(crowdGroup()) })
	run("remote group of 1000", all, func(x *bare) *Delta { return x.set(withRemote(crowdGroup(), "members")) }, func(x *bare) { x.set(crowdGroup()) })
	remote := append(all, withRemote(crowdGroup(), "members"))
	run("one member more", remote, func(x *bare) *Delta { return x.set(members(n + 1)) }, func(x *bare) { x.set(members(n)) })
}

// BenchmarkPending is a small delta that is added to what waits for a switch that is away.
func BenchmarkPending(b *testing.B) {
	x, all := newBare(crowd(1000)...)
	var p Pending
	p.Add(all)
	b.ReportAllocs()
	for b.Loop() {
		p.Add(x.set(crowdPort(1000, "n3"), crowdPlug(1000)))
		p.Add(x.apply(nil, crowdPort(1000, "n3").Ref(), crowdPlug(1000).Ref()))
	}
	b.ReportMetric(float64(p.Flows()), "flows")
}

// BenchmarkGroups is BenchmarkUpdate with what a real ovs-vswitchd takes to carry it out.
func BenchmarkGroups(b *testing.B) {
	const n = 1000
	run := func(name string, before []state.Object, do, undo []state.Object) {
		b.Run("ports=1000/"+name, func(b *testing.B) {
			l := newLab(b)
			l.set(before...)
			flows := 0
			for b.Loop() {
				flows = len(l.set(do...).Flows)
				b.StopTimer()
				l.set(undo...)
				b.StartTimer()
			}
			b.ReportMetric(float64(flows), "flows")
		})
	}
	all := append(append(crowd(n), grouped(n, "sg")...), crowdGroup(), members(n))
	run("first group", crowd(n), append(grouped(n, "sg"), crowdGroup()), grouped(n))
	run("one rule more", all, []state.Object{crowdGroup(22)}, []state.Object{crowdGroup()})
	run("remote group of 1000", all, []state.Object{withRemote(crowdGroup(), "members")}, []state.Object{crowdGroup()})
}

// BenchmarkHosts is what the hosts of a large site cost each host.
func BenchmarkHosts(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	for b.Loop() {
		l, _ := newBare(&state.Tunnel{ID: state.TunnelID(state.VXLAN, 4789), Port: 4789, OFPort: 1})
		empty := heap()
		var all []state.Object
		for i := range 1000 {
			all = append(all, &state.Host{ID: fmt.Sprintf("host-%d", i), Key: uint32(i + 1), //nolint:gosec // small
				TunnelEnds: []state.TunnelEnd{{Address: netip.AddrFrom4([4]byte{172, 31, byte(i >> 8), byte(i)}), Port: 4789}}})
		}
		l.set(all...)
		b.ReportMetric(heap()-empty, "MiB")
		runtime.KeepAlive(l)
	}
}
