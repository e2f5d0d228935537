package openflow

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// Names puts names into the texts of flows. A Names without functions writes what ovs-ofctl --no-names writes, and what
// it reads; the String methods of this package are those of such a one. A name makes a text one for people.
type Names struct {
	// Table names a table, which is written as name(number); "": it has no name.
	Table func(uint8) string
	// Port names a port; "": it has no name.
	Port func(uint32) string
	// Parts are the bits of a field that have names. A condition on all bits of a part is written with its name, and so is an action on exactly these.
	Parts func(FieldID) []NamedPart
}

// NamedPart is some bits of a field, of up to 64, and their name.
type NamedPart struct {
	Name string
	Part Part
}

// printer appends text to b.
type printer struct {
	b []byte
	n Names
}

func (p *printer) put(s string)              { p.b = append(p.b, s...) }
func (p *printer) dec(v uint64)              { p.b = strconv.AppendUint(p.b, v, 10) }
func (p *printer) printf(f string, a ...any) { p.b = fmt.Appendf(p.b, f, a...) }

// hex is C's %#x: 0 has no prefix.
func (p *printer) hex(v uint64) {
	if v != 0 {
		p.put("0x")
	}
	p.b = strconv.AppendUint(p.b, v, 16)
}

// field puts a key, a number and the mark between fields, if the number says something.
func (p *printer) field(key string, v uint16) {
	if v != 0 {
		p.put(key)
		p.dec(uint64(v))
		p.put(", ")
	}
}

// drop takes a mark away that ended the text.
func (p *printer) drop(mark byte) {
	if n := len(p.b); n > 0 && p.b[n-1] == mark {
		p.b = p.b[:n-1]
	}
}

func (p *printer) table(t uint8) {
	if p.n.Table != nil {
		if name := p.n.Table(t); name != "" {
			p.printf("%s(%d)", name, t)
			return
		}
	}
	p.dec(uint64(t))
}

// reservedPorts are the ports that ovs-ofctl writes as words.
var reservedPorts = map[uint32]string{
	PortIn: "IN_PORT", PortTable: "TABLE", PortNormal: "NORMAL", PortFlood: "FLOOD", PortAll: "ALL", PortController: "CONTROLLER", PortLocal: "LOCAL",
	PortAny: "ANY", 0xfffffff7: "UNSET",
}

func (p *printer) port(port uint32) {
	name := reservedPorts[port]
	if name == "" && p.n.Port != nil {
		name = p.n.Port(port)
	}
	if name == "" {
		name = strconv.FormatUint(uint64(port), 10)
	}
	p.put(name)
}

// port16 is a port of OpenFlow 1.0, as the actions of Open vSwitch have them: the reserved ones have 16 bits.
func (p *printer) port16(port uint16) {
	if port >= 0xff00 {
		p.port(0xffff0000 | uint32(port))
		return
	}
	p.port(uint32(port))
}

// flowFlags are the words of a flow's flags, by bit.
var flowFlags = []string{"send_flow_rem ", "check_overlap ", "reset_counts ", "no_packet_counts ", "no_byte_counts "}

// common puts what a FlowMod and a FlowStats share, from the timeouts on.
func (p *printer) common(idle, hard, flags, importance, priority uint16, m Match) {
	p.field("idle_timeout=", idle)
	p.field("hard_timeout=", hard)
	for i, word := range flowFlags {
		if flags>>i&1 != 0 {
			p.put(word)
		}
	}
	p.field("importance=", importance)
	before := len(p.b)
	if priority != defaultPriority {
		p.put("priority=")
		p.dec(uint64(priority))
		p.put(",")
	}
	p.match(m)
	p.drop(',')
	if len(p.b) != before {
		p.put(" ")
	}
}

// defaultPriority is that of a flow whose text says none.
const defaultPriority = 0x8000

// commands are the words that ovs-ofctl reads before a flow in a file.
var commands = map[FlowCommand]string{FlowModify: "modify ", FlowModifyStrict: "modify_strict ", FlowDelete: "delete ", FlowDeleteStrict: "delete_strict "}

// String is the flow as ovs-ofctl reads it: after add-flow, and in a file with what is to be done before it. The actions of a *OtherAction and the conditions
// on unknown fields are written as bytes, which ovs-ofctl does not read.
func (m *FlowMod) String() string { return Names{}.FlowMod(m) }

// FlowMod is m.String with names.
func (n Names) FlowMod(m *FlowMod) string {
	p := printer{n: n}
	p.put(commands[m.Command])
	deletes := m.Command == FlowDelete || m.Command == FlowDeleteStrict
	switch {
	case m.CookieMask != 0:
		p.printf("cookie=%#x/%#x, ", m.Cookie, m.CookieMask)
	case m.Cookie != 0 && m.Command == FlowAdd:
		p.printf("cookie=%#x, ", m.Cookie)
	}
	if deletes && m.Table != AllTables || !deletes && (m.Table != 0 || n.Table != nil && n.Table(0) != "") {
		p.put("table=")
		p.table(m.Table)
		p.put(", ")
	}
	if m.OutPort != PortAny {
		p.put("out_port=")
		p.port(m.OutPort)
		p.put(", ")
	}
	if m.OutGroup != AnyGroup {
		p.printf("out_group=%d, ", m.OutGroup)
	}
	priority := m.Priority
	if m.Command == FlowDelete {
		priority = defaultPriority // it has none
	}
	p.common(m.Idle, m.Hard, m.Flags, m.Importance, priority, m.Match)
	if deletes {
		p.drop(' ')
		p.drop(',')
		return string(p.b)
	}
	p.put("actions=")
	p.instructions(m.Instructions)
	return string(p.b)
}

// String is the flow as ovs-ofctl dump-flows writes it, with its counters.
func (f *FlowStats) String() string { return Names{}.FlowStats(f, true) }

// FlowStats is f.String with names, and without the counters where they are not asked for.
func (n Names) FlowStats(f *FlowStats, counters bool) string {
	p := printer{n: n}
	if counters || f.Cookie != 0 {
		p.printf("cookie=0x%x, ", f.Cookie)
	}
	if counters {
		p.put("duration=")
		p.duration(f.Seconds, f.Nanos)
		p.put(", ")
	}
	if counters || f.Table != 0 || n.Table != nil && n.Table(0) != "" {
		p.put("table=")
		p.table(f.Table)
		p.put(", ")
	}
	if counters {
		p.printf("n_packets=%d, n_bytes=%d, ", f.Packets, f.ByteCount)
	}
	p.common(f.Idle, f.Hard, f.Flags, f.Importance, f.Priority, f.Match)
	p.put("actions=")
	p.instructions(f.Instructions)
	return string(p.b)
}

// duration is written with milliseconds, or as exactly as it needs.
func (p *printer) duration(seconds, nanos uint32) {
	p.dec(uint64(seconds))
	switch {
	case nanos == 0:
	case nanos%1e6 == 0:
		p.printf(".%03d", nanos/1e6)
	default:
		p.printf(".%09d", nanos)
		for p.b[len(p.b)-1] == '0' {
			p.b = p.b[:len(p.b)-1]
		}
	}
	p.put("s")
}

// instructionOrder is the order in which ovs-ofctl writes instructions and reads them.
var instructionOrder = [...]int{6: 0, 4: 1, 5: 2, 3: 3, 2: 4, 1: 5}

func (p *printer) instructions(items []Instruction) {
	sorted := slices.SortedStableFunc(slices.Values(items), func(a, b Instruction) int {
		return cmp.Compare(instructionOrder[a.number()], instructionOrder[b.number()])
	})
	before := len(p.b)
	for _, i := range sorted {
		switch i := i.(type) {
		case *InstrMeter:
			p.printf("meter:%d", i.Meter)
		case *InstrApply:
			if len(i.Actions) == 0 {
				continue
			}
			p.actions(i.Actions)
		case *InstrClear:
			p.put("clear_actions")
		case *InstrWrite:
			p.put("write_actions(")
			p.actions(i.Actions)
			p.put(")")
		case *InstrWriteMetadata:
			p.put("write_metadata:")
			if p.hex(i.Value); i.Mask != ^uint64(0) {
				p.put("/")
				p.hex(i.Mask)
			}
		case *InstrGoto:
			p.put("goto_table:")
			p.table(i.Table)
		}
		p.put(",")
	}
	if p.drop(','); len(p.b) == before {
		p.put("drop")
	}
}

// String is the match as ovs-ofctl writes it; one that is true of every packet is empty.
func (m Match) String() string { return Names{}.Match(m) }

// Match is m.String with names.
func (n Names) Match(m Match) string {
	p := printer{n: n}
	p.match(m)
	p.drop(',')
	return string(p.b)
}

// Actions are the actions as ovs-ofctl writes them; none are "drop".
func (n Names) Actions(actions []Action) string {
	p := printer{n: n}
	p.actions(actions)
	return string(p.b)
}

// Instructions are a flow's actions as ovs-ofctl writes them; none are "drop".
func (n Names) Instructions(items []Instruction) string {
	p := printer{n: n}
	p.instructions(items)
	return string(p.b)
}

// groupCommands are the words that ovs-ofctl reads before a group in a file.
var groupCommands = map[GroupCommand]string{GroupModify: "modify ", GroupDelete: "delete ", GroupAddOrModify: "add_or_mod "}

// String is the group as ovs-ofctl reads it: after add-group, and in a file with what is to be done before it.
func (m *GroupMod) String() string { return Names{}.GroupMod(m) }

// GroupMod is m.String with names.
func (n Names) GroupMod(m *GroupMod) string {
	p := printer{n: n}
	p.put(groupCommands[m.Command])
	switch {
	case m.Command == GroupDelete && m.ID == AllGroups:
		p.put("group_id=all")
	case m.Command == GroupDelete:
		p.printf("group_id=%d", m.ID)
	default:
		p.group(m.ID, m.Type, m.Buckets)
	}
	return string(p.b)
}

// String is the group as ovs-ofctl dump-groups writes it.
func (g *GroupDesc) String() string { return Names{}.GroupDesc(g) }

// GroupDesc is g.String with names.
func (n Names) GroupDesc(g *GroupDesc) string {
	p := printer{n: n}
	p.group(g.Group, g.Type, g.Buckets)
	return string(p.b)
}

// String is the type in ovs-ofctl's words.
func (t GroupType) String() string {
	if words := [...]string{"all", "select", "indirect", "ff"}; int(t) < len(words) {
		return words[t]
	}
	return "unknown"
}

func (p *printer) group(id uint32, kind GroupType, buckets []Bucket) {
	p.printf("group_id=%d,type=%s", id, kind)
	weight := uint16(0)
	if kind == GroupSelect {
		weight = 1
	}
	for _, b := range buckets {
		p.put(",bucket=")
		if b.Weight != weight {
			p.printf("weight:%d,", b.Weight)
		}
		if b.WatchPort != PortAny {
			p.put("watch_port:")
			p.port(b.WatchPort)
			p.put(",")
		}
		if b.WatchGroup != AnyGroup {
			p.printf("watch_group:%d,", b.WatchGroup)
		}
		p.put("actions=")
		p.actions(b.Actions)
	}
}

// String is the meter as ovs-ofctl reads it after add-meter, mod-meter or del-meter.
func (m *MeterMod) String() string { return meterText(m.ID, m.Flags, m.Bands) }

// String is the meter as ovs-ofctl dump-meters writes it, on one line.
func (m *MeterConfig) String() string { return meterText(m.Meter, m.Flags, m.Bands) }

// meterNames are the meters that stand for something.
var meterNames = map[uint32]string{AllMeters: "all", 0xfffffffe: "controller", 0xfffffffd: "slowpath"}

func meterText(id uint32, flags uint16, bands []Band) string {
	p := printer{}
	p.put("meter=")
	if name := meterNames[id]; name != "" {
		p.put(name)
	} else {
		p.dec(uint64(id))
	}
	for i, word := range []string{" kbps", " pktps", " burst", " stats"} {
		if flags>>i&1 != 0 {
			p.put(word)
		}
	}
	for i, b := range bands {
		if i == 0 {
			p.put(" bands=")
		} else {
			p.put(" ")
		}
		kind := map[uint16]string{1: "drop", 2: "dscp_remark"}[b.Type]
		if kind == "" {
			kind = strconv.Itoa(int(b.Type))
		}
		p.printf("type=%s rate=%d", kind, b.Rate)
		if flags&MeterBurst != 0 {
			p.printf(" burst_size=%d", b.Burst)
		}
		if b.Type == 2 {
			p.printf(" prec_level=%d", b.Level)
		}
	}
	return string(p.b)
}
