package flows

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// world draws objects. Ids are few, so that objects change, go and come again, and refer to what is there, was there, or comes later. What must be
// unique in a state (keys, addresses, ports of the switch) follows from the id.
type world struct{ *rapid.T }

func (w world) number(what string, n int) int { return rapid.IntRange(0, n-1).Draw(w.T, what) }
func (w world) yes(what string) bool          { return rapid.Bool().Draw(w.T, what) }

func (w world) one(what string, of ...string) string {
	return rapid.SampledFrom(of).Draw(w.T, what)
}

func (w world) some(what string, n int, prefix string) []string {
	var out []string
	for i := range n {
		if w.yes(what) {
			out = append(out, fmt.Sprint(prefix, i))
		}
	}
	return out
}

func (w world) protocol() int {
	return rapid.SampledFrom([]int{-1, 1, 6, 17, 47, 58, 132}).Draw(w.T, "protocol")
}

// makers draw one object each. Kinds that more of the compiler depends on stand here with all that it reads of them.
func (w world) makers() []func() state.Object {
	return []func() state.Object{w.host, w.network, w.subnet, w.port, w.port, w.port, w.plug, w.plug, w.group, w.group, w.part, w.part, w.uplink, w.tunnel,
		w.router, w.router, w.floating, w.snat, w.neighbor, w.zone, w.down, w.log, w.mirror}
}

func (w world) host() state.Object {
	n := w.number("host", 3)
	h := &state.Host{ID: fmt.Sprint("h", n+1), Key: uint32(n + 1)} //nolint:gosec // small
	for e := range w.number("ends", 3) {
		h.TunnelEnds = append(h.TunnelEnds, state.TunnelEnd{Address: netip.AddrFrom4([4]byte{172, 31, byte(e), byte(11 + n)}), Zone: w.one("zone", "", "z"), Port: 4789})
	}
	return h
}

func (w world) network() state.Object {
	n := w.number("network", 3)
	return &state.Network{ID: fmt.Sprint("n", n), Key: uint32(n + 1), MTU: 1450, Segment: state.SegmentKind(w.number("segment", 3)), //nolint:gosec // small
		Physical: fmt.Sprint("physnet", n), VLAN: uint16(100 + n), Learn: w.yes("learn"), External: n == 2, DNSDomain: w.one("domain", "", "cloud.example")} //nolint:gosec // small
}

func (w world) subnet() state.Object {
	n := w.number("subnet", 6)
	s := &state.Subnet{ID: fmt.Sprint("s", n), Network: fmt.Sprint("n", n/2), DHCP: w.yes("dhcp"), CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, 0}), 16)}
	if n%2 == 1 {
		s.CIDR = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(n)}), 64)
		s.RAMode, s.AddressMode = state.IPv6Mode(w.number("ra", 4)), state.IPv6Mode(w.number("address mode", 4)) //nolint:gosec // small
	}
	return s
}

func (w world) port() state.Object {
	n := w.number("port", 8)
	network := n % 3
	p := &state.Port{
		ID: fmt.Sprint("p", n), Key: uint32(n + 1), Network: fmt.Sprint("n", network), MAC: labMAC(n), PortSecurity: w.yes("secure"), //nolint:gosec // small
		Project:        w.one("project", "", "a", "b"),
		SecurityGroups: w.some("groups", 3, "g"), Host: w.one("host", "", "h1", "h1", "h2", "h3"), NextHost: w.one("next host", "", "", "h1", "h2"),
		Down: w.number("down", 6) == 0, Foreign: w.number("foreign", 6) == 0, Unplugged: w.number("unplugged", 6) == 0, QoS: state.QoS{DSCP: w.number("dscp", 3) - 1},
	}
	if w.yes("v4") {
		p.FixedIPs = append(p.FixedIPs, state.FixedIP{Address: netip.AddrFrom4([4]byte{10, byte(2 * network), 0, byte(n + 10)})})
	}
	if w.yes("v6") {
		p.FixedIPs = append(p.FixedIPs, state.FixedIP{Address: netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(2*network + 1), 15: byte(n + 10)})})
	}
	if w.number("pair", 3) == 0 {
		p.AllowedPairs = []state.AddressPair{{Prefix: netip.MustParsePrefix("10.99.0.0/24"), MAC: p.MAC}}
	}
	if w.number("virtual", 3) == 0 {
		p.AllowedPairs = append(p.AllowedPairs, state.AddressPair{Prefix: netip.MustParsePrefix("10.99.0.1/32"), MAC: virtualMAC})
	}
	if w.number("limit", 3) == 0 {
		p.QoS.EgressKbps, p.QoS.IngressPPS = uint64(w.number("rate", 2))*1000, 50 //nolint:gosec // small
	}
	if w.number("sub", 5) == 0 && n > 0 {
		p.Parent, p.ParentVLAN = "p0", uint16(200+n) //nolint:gosec // small
	}
	return p
}

func (w world) plug() state.Object {
	n := w.number("plug", 8)
	return &state.Plug{ID: fmt.Sprint("p", n), OFPort: uint32(10 + n), Zone: uint16(n + 1)} //nolint:gosec // small
}

func (w world) uplink() state.Object {
	n := w.number("uplink", 3)
	return &state.Uplink{ID: fmt.Sprint("physnet", n), OFPort: uint32(labUplink + n)} //nolint:gosec // small
}

func (w world) tunnel() state.Object {
	return &state.Tunnel{ID: state.TunnelID(state.VXLAN, 4789), Port: 4789, OFPort: uint32(labTunnel - w.number("tunnel", 2))} //nolint:gosec // small
}

// router draws a router: its interfaces are in n0 and n1, its gateway in n2.
func (w world) router() state.Object {
	n := w.number("router", 2)
	r := &state.Router{ID: fmt.Sprint("r", n), Key: uint32(n + 1), Down: w.number("down", 6) == 0} //nolint:gosec // small
	for i := range 2 {
		if w.yes("interface") {
			r.Interfaces = append(r.Interfaces, state.RouterInterface{Network: fmt.Sprint("n", i), MAC: labMAC(0x100 + 16*n + i), Addresses: []netip.Prefix{
				netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(2 * i), 0, byte(1 + n)}), 16),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(2*i + 1), 15: byte(1 + n)}), 64)}})
		}
	}
	for i := range w.number("routes", 3) {
		route := state.StaticRoute{Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)}
		for h := range w.number("hops", 3) {
			route.NextHops = append(route.NextHops, netip.AddrFrom4([4]byte{10, 2 * byte(w.number("through", 2)), 0, byte(10 + h)})) //nolint:gosec // small
		}
		r.Routes = append(r.Routes, route)
	}
	if w.yes("gateway") {
		r.Gateway = &state.Gateway{Network: "n2", MAC: labMAC(0x180 + n), NextHops: []netip.Addr{netip.MustParseAddr("10.4.0.254")}, Snat: state.SnatMode(w.number("snat", 4)), //nolint:gosec // small
			Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 4, 0, byte(1 + n)}), 16)}, Hosts: w.some("gateway host", 4, "h")} // h0 is no host
	}
	return r
}

func (w world) floating() state.Object {
	n := w.number("floating", 3)
	return &state.FloatingIP{ID: fmt.Sprint("f", n), Network: "n2", Router: fmt.Sprint("r", w.number("its router", 2)), Address: netip.AddrFrom4([4]byte{10, 4, 1, byte(n)}),
		MAC: labMAC(0x200 + n), Port: fmt.Sprint("p", w.number("its port", 8)), FixedIP: netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + n)})}
}

// snat draws a whole address, or one of four blocks that share another.
func (w world) snat() state.Object {
	n := w.number("address", 6)
	s := &state.SnatAddress{ID: fmt.Sprint("x", n), Network: "n2", Router: w.one("whose", "", "r0", "r1"), Host: w.one("host", "h1", "h1", "h2"),
		Address: netip.AddrFrom4([4]byte{10, 4, 2, byte(n)}), MAC: labMAC(0x300 + n), Ports: 1 << 16}
	if s.Owner = s.Host; n >= 2 {
		s.Address, s.MAC, s.Owner, s.Ports, s.FirstPort = netip.MustParseAddr("10.4.2.99"), labMAC(0x399), "h1", 1024, uint16(1024*n) //nolint:gosec // small
	}
	return s
}

func (w world) neighbor() state.Object {
	n := w.number("neighbor", 4)
	mac := labMAC(0x400 + n)
	if w.yes("virtual") {
		mac = virtualMAC
	}
	return &state.Neighbor{ID: fmt.Sprint("y", n), Network: fmt.Sprint("n", 2*w.number("where", 2)), Address: netip.AddrFrom4([4]byte{10, 4, 0, byte(250 + n/2)}),
		MAC: mac, Port: w.one("port", "", "p0", "p2"), Epoch: uint64(w.number("epoch", 2))} //nolint:gosec // small
}

func (w world) zone() state.Object {
	n := w.number("zone", 3)
	return &state.Zone{ID: []string{"r0", "r1", state.NetworkZone("n2")}[n], Snat: uint16(100 + 2*n), Dnat: uint16(101 + 2*n)} //nolint:gosec // small
}

func (w world) down() state.Object { return &state.Down{ID: fmt.Sprint("h", w.number("dead", 3)+1)} }

// log draws a log of a port, of a group, of both, or of a project.
func (w world) log() state.Object {
	l := &state.SecurityLog{ID: fmt.Sprint("l", w.number("log", 3)), Project: w.one("project", "a", "b"), SecurityGroup: w.one("of", "", "g0", "g1"), Port: w.one("port", "", "p0", "p1")}
	l.Accept = w.yes("accept")
	l.Drop = !l.Accept || w.yes("drop")
	return l
}

func (w world) mirror() state.Object {
	n := w.number("mirror", 3)
	m := &state.Mirror{ID: fmt.Sprint("m", n), Key: uint32(1000 + n), Port: fmt.Sprint("p", w.number("of", 4)), Target: fmt.Sprint("p", 4+w.number("for", 4)), In: w.yes("in")} //nolint:gosec // small
	m.Out = !m.In || w.yes("out")
	return m
}

func (w world) group() state.Object {
	g := &state.SecurityGroup{ID: fmt.Sprint("g", w.number("group", 3)), Stateless: w.number("stateless", 3) == 0}
	for range w.number("rules", 4) {
		g.Rules = append(g.Rules, w.rule())
	}
	return g
}

func (w world) rule() state.SecurityRule {
	r := state.SecurityRule{Egress: w.yes("egress"), V6: w.yes("v6"), Protocol: w.protocol(), ICMPType: -1, ICMPCode: -1}
	switch r.Protocol {
	case protoTCP, protoUDP, protoSCTP:
		if w.yes("ports") {
			r.PortMin = uint16(w.number("first port", 4))               //nolint:gosec // small
			r.PortMax = r.PortMin + uint16(w.number("more ports", 130)) //nolint:gosec // small
		}
	case icmpOf(r.V6):
		if r.ICMPType = w.number("type", 4) - 1; r.ICMPType >= 0 {
			r.ICMPCode = w.number("code", 3) - 1
		}
	}
	switch w.number("remote", 4) {
	case 0:
		r.Remote = w.prefix(r.V6)
	case 1, 2:
		r.RemoteSet = fmt.Sprint("a", w.number("set", 3))
	}
	return r
}

// prefix draws a prefix around the addresses of the ports of network n1.
func (w world) prefix(v6 bool) netip.Prefix {
	if v6 {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: 1, 15: byte(8 + w.number("address", 8))})
		return netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 32, 64, 126, 128}).Draw(w.T, "length")).Masked()
	}
	a := netip.AddrFrom4([4]byte{10, 0, 0, byte(8 + w.number("address", 8))})
	return netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 1, 24, 30, 32}).Draw(w.T, "length")).Masked()
}

// part draws a part of a set: of a0 there are two.
func (w world) part() state.Object {
	n := w.number("part", 4)
	s := &state.AddressSet{ID: fmt.Sprint("part", n), Set: fmt.Sprint("a", n%3)}
	for range w.number("addresses", 4) {
		s.Prefixes = append(s.Prefixes, w.prefix(w.yes("v6")))
	}
	slices.SortFunc(s.Prefixes, netip.Prefix.Compare)
	s.Prefixes = slices.Compact(s.Prefixes)
	return s
}

// program is all that a compiler would have in the switch.
type program struct {
	flows  map[FlowKey]Flow
	groups map[uint32]string
	meters map[uint32]string
}

func newProgram() program {
	return program{map[FlowKey]Flow{}, map[uint32]string{}, map[uint32]string{}}
}

// follow makes a delta's changes. It fails where the delta says that something was as it was not.
func (p program) follow(t *rapid.T, c *Compiler, d *Delta) {
	for _, f := range d.Flows {
		if was, there := p.flows[f.Key]; there != (f.Old != nil) || there && was != *f.Old {
			t.Fatalf("%s: the delta says that it was %v, it was %v", f.Key, f.Old, was)
		}
		if delete(p.flows, f.Key); f.New != nil {
			p.flows[f.Key] = *f.New
		}
	}
	for _, id := range d.GroupsGone {
		delete(p.groups, id)
	}
	for _, id := range d.MetersGone {
		delete(p.meters, id)
	}
	for _, id := range d.Groups {
		g, _ := c.Group(id)
		p.groups[id] = g.key
	}
	for _, id := range d.Meters {
		m, _ := c.Meter(id)
		p.meters[id] = fmt.Sprint(m)
	}
}

func (k FlowKey) String() string {
	m, _ := openflow.DecodeMatch(k.Match)
	return fmt.Sprintf("table %d, priority %d, %s", k.Table, k.Priority, m)
}

// same fails where two programs differ.
func (p program) same(t *rapid.T, what string, want program) {
	for k, f := range want.flows {
		if have, ok := p.flows[k]; !ok || have != f {
			t.Fatalf("%s: %s: there is %v, want %v", what, k, have, f)
		}
	}
	for k := range p.flows {
		if _, ok := want.flows[k]; !ok {
			t.Fatalf("%s: %s: is there, and should not", what, k)
		}
	}
	if !maps.Equal(p.groups, want.groups) || !maps.Equal(p.meters, want.meters) {
		t.Fatalf("%s: groups or meters differ: %v %v, want %v %v", what, p.groups, p.meters, want.groups, want.meters)
	}
}

// device is a switch as far as meters and groups go: what refers to one that is not there is refused, and what refers to one that is deleted goes with it.
type device struct {
	flows          map[FlowKey]references
	groups, meters map[uint32]references
}

// references are the groups and meters that something uses.
type references struct{ groups, meters []uint32 }

func (r *references) add(actions []openflow.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case *openflow.Group:
			r.groups = append(r.groups, a.Group)
		case *openflow.Controller:
			if a.Meter != 0 {
				r.meters = append(r.meters, a.Meter)
			}
		case *openflow.Clone:
			r.add(a.Actions)
		}
	}
}

func referencesOf(t *rapid.T, f *openflow.RawFlow) (r references) {
	do, err := openflow.DecodeInstructions(f.Instructions)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range do {
		switch i := i.(type) {
		case *openflow.InstrMeter:
			r.meters = append(r.meters, i.Meter)
		case *openflow.InstrApply:
			r.add(i.Actions)
		}
	}
	return r
}

func (d device) has(t *rapid.T, who string, r references) {
	for _, id := range r.meters {
		if _, ok := d.meters[id]; !ok {
			t.Fatalf("%s refers to meter %#x, which is not there", who, id)
		}
	}
	for _, id := range r.groups {
		if _, ok := d.groups[id]; !ok {
			t.Fatalf("%s refers to group %#x, which is not there", who, id)
		}
	}
}

// whole fails where anything refers to what is not there.
func (d device) whole(t *rapid.T, when string) {
	for k, r := range d.flows {
		d.has(t, fmt.Sprintf("%s: %s", when, k), r)
	}
	for id, r := range d.groups {
		d.has(t, fmt.Sprintf("%s: group %#x", when, id), r)
	}
}

func (d device) do(t *rapid.T, messages []openflow.Message) {
	for _, m := range messages {
		switch m := m.(type) {
		case *openflow.MeterMod:
			if _, there := d.meters[m.ID]; m.Command == openflow.MeterAdd && there || m.Command == openflow.MeterModify && !there {
				t.Fatalf("meter %#x: command %d, and it is there: %t", m.ID, m.Command, there)
			}
			if d.meters[m.ID] = (references{}); m.Command == openflow.MeterDelete {
				delete(d.meters, m.ID)
			}
		case *openflow.GroupMod:
			var r references
			for _, b := range m.Buckets {
				r.add(b.Actions)
			}
			if d.groups[m.ID] = r; m.Command == openflow.GroupDelete {
				delete(d.groups, m.ID)
			}
		case *openflow.RawFlow:
			k := FlowKey{Table(m.Table), m.Priority, m.Match}
			if delete(d.flows, k); m.Command != openflow.FlowDeleteStrict {
				d.flows[k] = referencesOf(t, m)
			}
		}
	}
}

// A switch takes a flow with its meter away when the meter goes, and refuses one whose meter is not there. After any history, however many changes are sent
// together, each step of them leaves all that a flow refers to; and what nobody refers to any more is not left behind.
func TestMetersAndGroupsOutliveTheirFlows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		store, compiler := state.NewStore(), New(Config{Host: labHost, PuntRate: 100, OpRate: 100, NameRate: 100, Names: true})
		d := device{map[FlowKey]references{}, map[uint32]references{}, map[uint32]references{}}
		var pending Pending
		send := func() {
			first, bundle, last := compiler.Messages(pending.Take(), 1, func(id uint32) bool { _, ok := d.meters[id]; return ok })
			for i, part := range [][]openflow.Message{first, bundle, last} {
				d.do(t, part)
				d.whole(t, [...]string{"before the bundle", "after it", "at the end"}[i])
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			changes := store.Apply(world{t}.step())
			store.Read(func(v *state.View) { pending.Add(compiler.Update(v, changes)) })
			if rapid.Bool().Draw(t, "send") { // else the switch is busy
				send()
			}
		}
		send()
		if have, want := slices.Sorted(maps.Keys(d.meters)), compiler.Meters(); !slices.Equal(have, want) {
			t.Fatalf("the switch has meters %#x, want %#x", have, want)
		}
		if have, want := slices.Sorted(maps.Keys(d.groups)), compiler.Groups(); !slices.Equal(have, want) {
			t.Fatalf("the switch has groups %#x, want %#x", have, want)
		}
		used := map[uint32]bool{MeterOp: true, MeterOp | uint32(OpTrace): true}
		for _, r := range d.flows {
			for _, id := range r.meters {
				used[id] = true
			}
		}
		for id := range d.meters {
			if !used[id] && id>>24 != MeterAnnounce>>24 {
				t.Fatalf("meter %#x is there for nobody", id)
			}
		}
	})
}

// Deltas that add up are one: what it says was, was when the last one was taken; what it says is, is; and nothing that is as it was is in it.
func TestDeltasAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		store, compiler, sent := state.NewStore(), New(Config{Host: labHost, PuntRate: 100}), newProgram()
		var pending Pending
		take := func() {
			flows, all := pending.Flows(), pending.Len()
			d := pending.Take()
			if n := len(d.Flows) + len(d.Groups) + len(d.GroupsGone) + len(d.Meters) + len(d.MetersGone); flows != len(d.Flows) || all != n || !pending.Empty() {
				t.Fatalf("%d flows and %d in all were pending, %d and %d were taken; empty then: %t", flows, all, len(d.Flows), n, pending.Empty())
			}
			for i, f := range d.Flows {
				if f.Old != nil && f.New != nil && *f.Old == *f.New || f.Old == nil && f.New == nil {
					t.Fatalf("%s is as it was: %v", f.Key, f.Old)
				}
				if i > 0 && d.Flows[i-1].Key.Compare(f.Key) >= 0 {
					t.Fatalf("%s comes behind %s", f.Key, d.Flows[i-1].Key)
				}
			}
			sent.follow(t, compiler, d)
			held := newProgram()
			compiler.Flows(func(k FlowKey, f Flow) bool { held.flows[k] = f; return true })
			for _, id := range compiler.Groups() {
				g, _ := compiler.Group(id)
				held.groups[id] = g.key
			}
			for _, id := range compiler.Meters() {
				m, _ := compiler.Meter(id)
				held.meters[id] = fmt.Sprint(m)
			}
			sent.same(t, "what was taken", held)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			changes := store.Apply(world{t}.step())
			store.Read(func(v *state.View) { pending.Add(compiler.Update(v, changes)) })
			if rapid.IntRange(0, 2).Draw(t, "take") == 0 {
				take()
			}
		}
		take()
	})
}

// The program depends on the state and not on how it came about: after any history it is what a new compiler makes of the last state, what the deltas
// add up to, and no two parts of the compiler want a flow differently.
func TestProgramDependsOnStateAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Host: labHost, PuntRate: 100, OpRate: 100, NameRate: 100, Names: true, LogRate: 100, LogBurst: 25}
		store, compiler, followed := state.NewStore(), New(cfg), newProgram()
		if w := (world{t}); w.number("crowded", 3) == 0 {
			for _, n := range compiler.numbers { // names that share numbers
				n.hash = func(name string) uint32 { return uint32(len(name) % 4) } //nolint:gosec // small
			}
		}
		there := map[state.Ref]state.Object{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			objects, gone := world{t}.step()
			changes := store.Apply(objects, gone)
			for _, ch := range changes {
				if delete(there, ch.Ref); ch.New != nil {
					there[ch.Ref] = ch.New
				}
			}
			store.Read(func(v *state.View) { followed.follow(t, compiler, compiler.Update(v, changes)) })
			compiler.needs(t)
			if clashes := compiler.Clashes(); len(clashes) > 0 {
				t.Fatalf("%s: two parts of the compiler want it differently", clashes[0])
			}
		}
		fresh, want := New(cfg), newProgram()
		for i, n := range fresh.numbers {
			n.hash = compiler.numbers[i].hash
		}
		store.Read(func(v *state.View) {
			var all []state.Change
			for r, o := range there {
				all = append(all, state.Change{Ref: r, New: o})
			}
			want.follow(t, fresh, fresh.Update(v, all))
		})
		followed.same(t, "what the deltas add up to", want)
		held := newProgram()
		compiler.Flows(func(k FlowKey, f Flow) bool { held.flows[k] = f; return true })
		held.groups, held.meters = followed.groups, followed.meters
		held.same(t, "what the compiler holds", want)
		if got, want := compiler.Stats(), fresh.Stats(); got.Units != want.Units || len(compiler.origins) != len(fresh.origins) {
			t.Fatalf("%d units and %d origins are left, want %d and %d", got.Units, len(compiler.origins), want.Units, len(fresh.origins))
		}
	})
}

// step draws what one revision changes.
func (w world) step() (set []state.Object, gone []state.Ref) {
	makers := w.makers()
	seen := map[state.Ref]bool{}
	for range rapid.IntRange(1, 8).Draw(w.T, "changes") {
		o := makers[w.number("kind", len(makers))]()
		if seen[o.Ref()] {
			continue
		}
		if seen[o.Ref()] = true; w.number("goes", 4) == 0 {
			gone = append(gone, o.Ref())
		} else {
			set = append(set, o)
		}
	}
	return set, gone
}
