package ovstest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

// state is what a switch holds. What is in its maps is never changed, only replaced, so that a copy of it is one of the maps.
type state struct {
	flows   map[flowKey]*fakeFlow
	groups  map[uint32]of.GroupDesc
	meters  map[uint32]of.MeterConfig
	options []of.TLVMap
}

// flowKey is what a table has one flow of.
type flowKey struct {
	table    uint8
	priority uint16
	match    string
}

type fakeFlow struct {
	of.FlowStats
	key     flowKey
	created time.Duration
}

// change is what a message did to a flow.
type change struct {
	event  uint16
	reason uint8 // of a deletion
	flow   *fakeFlow
}

// The reasons of a deletion.
const (
	removedByDelete uint8 = 2
	removedByGroup  uint8 = 3
	removedByMeter  uint8 = 4
)

// maxMeter is how many meters there may be; highestMeter is the highest number of one (OFPM13_MAX).
const (
	maxMeter     = 200000
	highestMeter = 0xffff0000
)

func newState() *state {
	return &state{flows: map[flowKey]*fakeFlow{}, groups: map[uint32]of.GroupDesc{}, meters: map[uint32]of.MeterConfig{}}
}

func (st *state) clone() *state {
	return &state{maps.Clone(st.flows), maps.Clone(st.groups), maps.Clone(st.meters), slices.Clone(st.options)}
}

// apply does a message, or changes nothing and says why.
func (st *state) apply(m of.Message, now time.Duration) ([]change, *of.Error) {
	switch m := m.(type) {
	case *of.FlowMod:
		return st.flowMod(m, now)
	case *of.GroupMod:
		return st.groupMod(m)
	case *of.MeterMod:
		return st.meterMod(m)
	case *of.TLVTableMod:
		return nil, st.tlvMod(m)
	case *of.PortMod:
		return nil, nil
	default:
		return nil, refuse(1, 1)
	}
}

func (st *state) flowMod(m *of.FlowMod, now time.Duration) ([]change, *of.Error) {
	if m.Command > of.FlowDeleteStrict {
		return nil, refuse(5, 6)
	}
	if refusal := checkFlow(m); refusal != nil {
		return nil, refusal
	}
	if m.Command == of.FlowAdd {
		return st.add(m, now)
	}
	hits := st.hits(m)
	if len(hits) == 0 && ownsHidden(m) {
		return nil, refuse(1, 5)
	}
	if len(hits) > 0 && (m.Command == of.FlowModify || m.Command == of.FlowModifyStrict) {
		if refusal := st.checkActions(m); refusal != nil {
			return nil, refusal
		}
	}
	var out []change
	for _, f := range hits {
		if m.Command == of.FlowDelete || m.Command == of.FlowDeleteStrict {
			delete(st.flows, f.key)
			out = append(out, change{of.FlowDeleted, removedByDelete, f})
			continue
		}
		next := *f
		next.Instructions = m.Instructions
		st.flows[f.key] = &next
		if !same(f.Instructions, next.Instructions) { // else nobody is told
			out = append(out, change{of.FlowModified, 0, &next})
		}
	}
	return out, nil
}

func (st *state) add(m *of.FlowMod, now time.Duration) ([]change, *of.Error) {
	f := &fakeFlow{created: now, FlowStats: of.FlowStats{Table: m.Table, Priority: m.Priority, Idle: m.Idle, Hard: m.Hard,
		Flags: m.Flags, Cookie: m.Cookie, Match: m.Match, Instructions: m.Instructions}}
	if f.Table == of.AllTables {
		f.Table = 0
	}
	f.key = flowKey{f.Table, f.Priority, m.Match.Key()}
	if refusal := st.checkActions(m); refusal != nil {
		return nil, refusal
	}
	if st.flows[f.key] == nil && m.Flags&of.FlowCheckOverlap != 0 && st.overlaps(f) {
		return nil, refuse(5, 3)
	}
	st.flows[f.key] = f
	return []change{{of.FlowAdded, 0, f}}, nil // of a flow that takes another's place too
}

func same(a, b []of.Instruction) bool {
	x, err1 := of.InstructionsKey(a)
	y, err2 := of.InstructionsKey(b)
	return err1 == nil && err2 == nil && x == y
}

// hits are the flows that a modification or a deletion is about, in the order of sorted.
func (st *state) hits(m *of.FlowMod) []*fakeFlow {
	outPort, outGroup := m.OutPort, m.OutGroup
	strict := m.Command == of.FlowModifyStrict || m.Command == of.FlowDeleteStrict
	if m.Command == of.FlowModify || m.Command == of.FlowModifyStrict {
		outPort, outGroup = of.PortAny, of.AnyGroup
	}
	if strict && m.Table != of.AllTables { // it is at most one
		f := st.flows[flowKey{m.Table, m.Priority, m.Match.Key()}]
		if f == nil || !f.chosen(m.Cookie, m.CookieMask) || !f.selected(m.Table, nil, outPort, outGroup) {
			return nil
		}
		return []*fakeFlow{f}
	}
	var out []*fakeFlow
	key := m.Match.Key()
	for _, f := range st.flows {
		if f.chosen(m.Cookie, m.CookieMask) && f.selected(m.Table, m.Match, outPort, outGroup) && (!strict || f.Priority == m.Priority && f.key.match == key) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, compare)
	return out
}

// chosen reports whether the cookie is one that is asked for.
func (f *fakeFlow) chosen(cookie, mask uint64) bool { return (f.Cookie^cookie)&mask == 0 }

// selected reports whether the flow is in a table, its match says at least what is asked, and it sends to a port and a group.
func (f *fakeFlow) selected(table uint8, match of.Match, outPort, outGroup uint32) bool {
	if table != of.AllTables && table != f.Table {
		return false
	}
	for _, want := range match {
		got, ok := f.Match.Find(want.Field)
		if !ok || got.Mask.And(want.Mask) != want.Mask || got.Value.And(want.Mask) != want.Value {
			return false
		}
	}
	return (outPort == of.PortAny || f.does(func(a of.Action) bool { o, ok := a.(*of.Output); return ok && o.Port == outPort })) &&
		(outGroup == of.AnyGroup || f.does(func(a of.Action) bool { g, ok := a.(*of.Group); return ok && g.Group == outGroup }))
}

// does reports whether one of the flow's actions is such a one, those within others included.
func (f *fakeFlow) does(is func(of.Action) bool) bool {
	for _, i := range f.Instructions {
		switch i := i.(type) {
		case *of.InstrApply:
			if anyAction(i.Actions, is) {
				return true
			}
		case *of.InstrWrite:
			if anyAction(i.Actions, is) {
				return true
			}
		}
	}
	return false
}

func anyAction(actions []of.Action, is func(of.Action) bool) bool {
	return slices.ContainsFunc(actions, func(a of.Action) bool {
		switch a := a.(type) {
		case *of.Clone:
			return anyAction(a.Actions, is)
		case *of.CT:
			return anyAction(a.Actions, is)
		}
		return is(a)
	})
}

func (st *state) overlaps(f *fakeFlow) bool {
	for _, other := range st.flows {
		if other.Table == f.Table && other.Priority == f.Priority && overlap(other.Match, f.Match) {
			return true
		}
	}
	return false
}

// overlap reports whether a packet could fit both.
func overlap(a, b of.Match) bool {
	for _, x := range a {
		if y, ok := b.Find(x.Field); ok {
			both := x.Mask.And(y.Mask)
			if x.Value.And(both) != y.Value.And(both) {
				return false
			}
		}
	}
	return true
}

func compare(a, b *fakeFlow) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.key.match, b.key.match))
}

func (st *state) sorted() []*fakeFlow {
	return slices.SortedFunc(maps.Values(st.flows), compare)
}

// stats are the flows that a request is about.
func (st *state) stats(r *of.FlowRequest, epoch time.Time) []of.FlowStats {
	now := time.Since(epoch)
	var out []of.FlowStats
	for _, f := range st.sorted() {
		if !f.chosen(r.Cookie, r.CookieMask) || !f.selected(r.Table, r.Match, r.OutPort, r.OutGroup) {
			continue
		}
		stats, age := f.FlowStats, now-f.created
		stats.Seconds, stats.Nanos = uint32(age/time.Second), uint32(age%time.Second) //nolint:gosec // positive
		out = append(out, stats)
	}
	return out
}

func (st *state) perTable() []uint32 {
	out := make([]uint32, 254)
	for _, f := range st.flows {
		out[f.Table]++
	}
	return out
}

// update is what a monitor tells of a change.
func (f *fakeFlow) update(c change, flags uint16) of.FlowUpdate {
	u := of.FlowUpdate{Event: c.event, Priority: f.Priority, Idle: f.Idle, Hard: f.Hard, Table: f.Table, Cookie: f.Cookie, Match: f.Match}
	if c.event == of.FlowDeleted {
		u.Reason = uint16(c.reason)
	}
	if flags&of.MonitorActions != 0 {
		u.Instructions = f.Instructions
	}
	return u
}

// prerequisites are the Ethertypes and protocols of which a match on a field must speak; 0: any.
var prerequisites = func() map[of.FieldID][][2]uint64 {
	m := map[of.FieldID][][2]uint64{}
	set := func(needs [][2]uint64, fields ...of.FieldID) {
		for _, f := range fields {
			m[f] = needs
		}
	}
	const v4, v6, arp, rarp = 0x800, 0x86dd, 0x806, 0x8035
	set([][2]uint64{{v4, 0}}, of.IPv4Src, of.IPv4Dst)
	set([][2]uint64{{v6, 0}}, of.IPv6Src, of.IPv6Dst, of.IPv6Label)
	set([][2]uint64{{v4, 0}, {v6, 0}}, of.IPFrag, of.IPDSCP, of.IPECN, of.IPTTL, of.IPProto)
	set([][2]uint64{{arp, 0}, {rarp, 0}}, of.ARPOp, of.ARPSPA, of.ARPTPA, of.ARPSHA, of.ARPTHA)
	set([][2]uint64{{v4, 6}, {v6, 6}}, of.TCPSrc, of.TCPDst, of.TCPFlags)
	set([][2]uint64{{v4, 17}, {v6, 17}}, of.UDPSrc, of.UDPDst)
	set([][2]uint64{{v4, 132}, {v6, 132}}, of.SCTPSrc, of.SCTPDst)
	set([][2]uint64{{v4, 1}}, of.ICMPv4Type, of.ICMPv4Code)
	set([][2]uint64{{v6, 58}}, of.ICMPv6Type, of.ICMPv6Code, of.NDTarget, of.NDSLL, of.NDTLL, of.NDReserved, of.NDOptionsType)
	return m
}()

// checkFlow refuses what Open vSwitch does when it decodes a FlowMod, as far as an agent gets it wrong.
func checkFlow(m *of.FlowMod) *of.Error {
	ether, _ := m.Match.Find(of.EthType)
	proto, _ := m.Match.Find(of.IPProto)
	for _, x := range m.Match {
		needs, ok := prerequisites[x.Field]
		if ok && !slices.ContainsFunc(needs, func(n [2]uint64) bool { return ether.Value.Lo == n[0] && (n[1] == 0 || proto.Value.Lo == n[1]) }) {
			return refuse(4, 9)
		}
	}
	for _, i := range m.Instructions {
		if i, ok := i.(*of.InstrGoto); ok && (m.Table != of.AllTables && i.Table <= m.Table || i.Table > 253) {
			return refuse(3, 2)
		}
	}
	return nil
}

// ownsHidden reports whether a change of all tables is also about the flows that Open vSwitch has for itself, behind the last table. It finds them by their
// cookie, 0, and refuses what is about nothing else.
func ownsHidden(m *of.FlowMod) bool {
	return (m.Command == of.FlowDelete || m.Command == of.FlowModify) && m.Table == of.AllTables && m.Cookie == 0 && m.CookieMask == ^uint64(0) &&
		m.OutPort == of.PortAny && m.OutGroup == of.AnyGroup && !slices.ContainsFunc(m.Match, func(x of.MatchField) bool { return x.Field != of.Reg0 })
}

// checkActions refuses a flow that names a meter or a group that is not there. Open vSwitch looks at that last, and only where there is a flow to change.
func (st *state) checkActions(m *of.FlowMod) *of.Error {
	for _, i := range m.Instructions {
		switch i := i.(type) {
		case *of.InstrMeter:
			if _, ok := st.meters[i.Meter]; !ok {
				return refuse(12, 2)
			}
		case *of.InstrApply:
			if st.unknownGroup(i.Actions) {
				return refuse(2, 9)
			}
		case *of.InstrWrite:
			if st.unknownGroup(i.Actions) {
				return refuse(2, 9)
			}
		}
	}
	return nil
}

func (st *state) unknownGroup(actions []of.Action) bool {
	return anyAction(actions, func(a of.Action) bool {
		g, ok := a.(*of.Group)
		if ok {
			_, ok = st.groups[g.Group]
			return !ok
		}
		return false
	})
}

func (st *state) groupList(id uint32) []of.GroupDesc {
	var out []of.GroupDesc
	for _, n := range slices.Sorted(maps.Keys(st.groups)) {
		if id == of.AllGroups || id == n {
			out = append(out, st.groups[n])
		}
	}
	return out
}

func (st *state) meterList(id uint32) []of.MeterConfig {
	var out []of.MeterConfig
	for _, n := range slices.Sorted(maps.Keys(st.meters)) {
		if id == of.AllMeters || id == n {
			out = append(out, st.meters[n])
		}
	}
	return out
}

func (st *state) groupMod(m *of.GroupMod) ([]change, *of.Error) {
	if m.Command == of.GroupDelete {
		var out []change
		for _, g := range st.groupList(m.ID) {
			delete(st.groups, g.Group)
			out = append(out, st.drop(removedByGroup, func(f *fakeFlow) bool {
				return f.does(func(a of.Action) bool { x, ok := a.(*of.Group); return ok && x.Group == g.Group })
			})...)
		}
		return out, nil
	}
	if refusal := checkGroup(m); refusal != nil {
		return nil, refusal
	}
	_, exists := st.groups[m.ID]
	switch {
	case m.Command == of.GroupAdd && exists:
		return nil, refuse(6, 0)
	case m.Command == of.GroupModify && !exists:
		return nil, refuse(6, 8)
	case m.Command != of.GroupAdd && m.Command != of.GroupModify && m.Command != of.GroupAddOrModify:
		return nil, refuse(6, 11)
	}
	st.groups[m.ID] = of.GroupDesc{Type: m.Type, Group: m.ID, Buckets: m.Buckets}
	return nil, nil
}

func checkGroup(m *of.GroupMod) *of.Error {
	switch {
	case m.Command == of.GroupDelete:
		return nil
	case m.ID > 0xffffff00:
		return refuse(6, 1)
	case m.Type > of.GroupFastFailover:
		return refuse(6, 10)
	case m.Type == of.GroupIndirect && len(m.Buckets) != 1:
		return refuse(6, 1)
	}
	for _, b := range m.Buckets {
		watches := b.WatchPort != of.PortAny || b.WatchGroup != of.AnyGroup
		if m.Type == of.GroupFastFailover && !watches {
			return refuse(6, 1)
		}
		if watches && (m.Type == of.GroupOfAll || m.Type == of.GroupIndirect) {
			return refuse(6, 6)
		}
		if m.Type != of.GroupSelect && b.Weight != 0 {
			return refuse(6, 1)
		}
	}
	return nil
}

// drop deletes the flows that are such.
func (st *state) drop(reason uint8, is func(*fakeFlow) bool) []change {
	var out []change
	for _, f := range st.sorted() {
		if is(f) {
			delete(st.flows, f.key)
			out = append(out, change{of.FlowDeleted, reason, f})
		}
	}
	return out
}

func (st *state) meterMod(m *of.MeterMod) ([]change, *of.Error) {
	_, exists := st.meters[m.ID]
	switch {
	case m.Command == of.MeterDelete:
		var out []change
		for _, meter := range st.meterList(m.ID) {
			delete(st.meters, meter.Meter)
			out = append(out, st.drop(removedByMeter, func(f *fakeFlow) bool {
				return slices.ContainsFunc(f.Instructions, func(i of.Instruction) bool { x, ok := i.(*of.InstrMeter); return ok && x.Meter == meter.Meter })
			})...)
		}
		return out, nil
	case m.Command > of.MeterDelete:
		return nil, refuse(12, 4)
	case m.ID == 0 || m.ID > highestMeter:
		return nil, refuse(12, 2)
	case m.Command == of.MeterAdd && exists:
		return nil, refuse(12, 1)
	case m.Command == of.MeterModify && !exists:
		return nil, refuse(12, 3)
	case len(m.Bands) > 1:
		return nil, refuse(12, 11)
	}
	st.meters[m.ID] = of.MeterConfig{Flags: m.Flags, Meter: m.ID, Bands: m.Bands}
	return nil, nil
}

func (st *state) tlvMod(m *of.TLVTableMod) *of.Error {
	switch m.Command {
	case 0:
		st.options = append(slices.Clone(st.options), m.Maps...)
	case 1:
		st.options = slices.DeleteFunc(slices.Clone(st.options), func(t of.TLVMap) bool {
			return slices.ContainsFunc(m.Maps, func(x of.TLVMap) bool { return x.Class == t.Class && x.Type == t.Type })
		})
	case 2:
		st.options = nil
	default:
		return refuseNicira(16)
	}
	return nil
}
