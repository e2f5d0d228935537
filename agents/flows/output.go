package flows

import (
	"cmp"
	"slices"

	"github.com/headwater-cloud/headwater/agents/openflow"
)

// FlowKey is what makes a flow the flow it is: two flows of one key cannot be in the switch at once.
type FlowKey struct {
	Table    Table
	Priority uint16
	Match    string // openflow.Match.Key
}

// Compare orders flows by their tables, and else in some fixed order.
func (k FlowKey) Compare(o FlowKey) int {
	return cmp.Or(cmp.Compare(k.Table, o.Table), -cmp.Compare(k.Priority, o.Priority), cmp.Compare(k.Match, o.Match))
}

// Flow is what a flow does.
type Flow struct {
	Cookie       Cookie // without its epoch
	Instructions string // openflow.InstructionsKey
}

// Group is a group of the switch.
type Group struct {
	Type    openflow.GroupType
	Buckets []openflow.Bucket
	key     string
}

// Meter is a meter of the switch.
type Meter struct {
	Flags uint16
	Bands []openflow.Band
}

// FlowChange is a flow that is made, changed or gone; Old or New is nil where there is none.
type FlowChange struct {
	Key      FlowKey
	Old, New *Flow
}

// Delta is what has changed. What it holds is in fixed order, and belongs to the caller; the groups and meters in it are not to be changed.
type Delta struct {
	Flows      []FlowChange // by FlowKey.Compare
	Groups     []uint32     // made or changed: see Program.Group
	GroupsGone []uint32
	Meters     []uint32
	MetersGone []uint32
}

// Empty says whether nothing has changed.
func (d *Delta) Empty() bool {
	return len(d.Flows)+len(d.Groups)+len(d.GroupsGone)+len(d.Meters)+len(d.MetersGone) == 0
}

// Merge adds what has changed after d.
func (d *Delta) Merge(later *Delta) {
	at := make(map[FlowKey]int, len(d.Flows))
	for i, f := range d.Flows {
		at[f.Key] = i
	}
	for _, f := range later.Flows {
		if i, ok := at[f.Key]; ok {
			d.Flows[i].New = f.New
		} else {
			d.Flows = append(d.Flows, f)
		}
	}
	d.Flows = slices.DeleteFunc(d.Flows, func(f FlowChange) bool {
		return f.Old == nil && f.New == nil || f.Old != nil && f.New != nil && *f.Old == *f.New
	})
	slices.SortFunc(d.Flows, func(a, b FlowChange) int { return a.Key.Compare(b.Key) })
	d.Groups, d.GroupsGone = mergeIDs(d.Groups, d.GroupsGone, later.Groups, later.GroupsGone)
	d.Meters, d.MetersGone = mergeIDs(d.Meters, d.MetersGone, later.Meters, later.MetersGone)
}

// mergeIDs merges what was set and what went first with what came later: the later word holds. What went and came again is set.
func mergeIDs(set, gone, laterSet, laterGone []uint32) (outSet, outGone []uint32) {
	last := map[uint32]bool{}
	for _, id := range set {
		last[id] = true
	}
	for _, id := range gone {
		last[id] = false
	}
	for _, id := range laterSet {
		last[id] = true
	}
	for _, id := range laterGone {
		last[id] = false
	}
	for id, there := range last {
		if there {
			outSet = append(outSet, id)
		} else {
			outGone = append(outGone, id)
		}
	}
	slices.Sort(outSet)
	slices.Sort(outGone)
	return outSet, outGone
}

// contribution is what one unit says of a flow.
type contribution struct {
	from   *unit
	cookie Cookie
	instr  string // of a flow that stands alone
	conj   *openflow.Conjunction
}

// slot is a flow and who asks for it. Nearly always that is one.
type slot struct {
	one  contribution
	more []contribution
	n    int
}

func (s *slot) add(c contribution) {
	if s.n == 0 {
		s.one = c
	} else {
		s.more = append(s.more, c)
	}
	s.n++
}

func (s *slot) drop(u *unit) {
	all := s.all()
	all = slices.DeleteFunc(all, func(c contribution) bool { return c.from == u })
	*s = slot{}
	for _, c := range all {
		s.add(c)
	}
}

func (s *slot) all() []contribution {
	if s.n == 0 {
		return nil
	}
	return append([]contribution{s.one}, s.more...)
}

// flow is what the contributions make together: the clauses of conjunctions join into one flow; of others, which should be
// alike, the first in the order of their units holds.
func (s *slot) flow() (out *Flow, clash bool) {
	if s.n == 0 {
		return nil, false
	}
	if s.n == 1 && s.one.conj == nil {
		return &Flow{s.one.cookie, s.one.instr}, false
	}
	all := s.all()
	slices.SortFunc(all, func(a, b contribution) int { return a.from.key.compare(b.from.key) })
	var clauses []openflow.Action
	var cookie Cookie
	for _, c := range all {
		if c.conj == nil {
			clash = clash || len(clauses) > 0 || c.instr != all[0].instr
			return &Flow{c.cookie, c.instr}, clash || all[len(all)-1].conj != nil
		}
		if cookie == 0 {
			cookie = c.cookie
		}
		clauses = append(clauses, c.conj)
	}
	slices.SortFunc(clauses, func(a, b openflow.Action) int {
		x, y := a.(*openflow.Conjunction), b.(*openflow.Conjunction) //nolint:errcheck,forcetypeassert // nothing else is put in
		return cmp.Or(cmp.Compare(x.ID, y.ID), cmp.Compare(x.Clause, y.Clause))
	})
	clauses = slices.CompactFunc(clauses, func(a, b openflow.Action) bool {
		x, y := a.(*openflow.Conjunction), b.(*openflow.Conjunction) //nolint:errcheck,forcetypeassert // as above
		return *x == *y
	})
	instr, err := openflow.InstructionsKey([]openflow.Instruction{&openflow.InstrApply{Actions: clauses}})
	return &Flow{cookie, instr}, err != nil
}

// Messages are what makes a switch carry a delta out: first what must be there before and cannot ride in a bundle, then the bundle, then
// what may go when the bundle is in. has says which meters the switch has.
func (c *Compiler) Messages(d *Delta, epoch uint16, has func(meter uint32) bool) (first, bundle, last []openflow.Message) {
	for _, id := range d.Meters {
		m := c.meters[id].value
		command := openflow.MeterAdd
		if has(id) {
			command = openflow.MeterModify
		}
		first = append(first, &openflow.MeterMod{Command: command, Flags: m.Flags, ID: id, Bands: m.Bands})
	}
	for _, id := range d.Groups {
		g := c.groups[id].value
		bundle = append(bundle, &openflow.GroupMod{Command: openflow.GroupAddOrModify, Type: g.Type, ID: id, Buckets: g.Buckets})
	}
	for _, f := range slices.Backward(d.Flows) {
		bundle = append(bundle, f.Key.Message(f.New, epoch))
	}
	for _, id := range d.GroupsGone {
		last = append(last, &openflow.GroupMod{Command: openflow.GroupDelete, ID: id})
	}
	for _, id := range d.MetersGone {
		last = append(last, &openflow.MeterMod{Command: openflow.MeterDelete, ID: id})
	}
	return first, bundle, last
}

// Message makes the flow in the switch what f says, or takes it away where f is nil.
func (k FlowKey) Message(f *Flow, epoch uint16) openflow.Message {
	if f == nil {
		return &openflow.RawFlow{Command: openflow.FlowDeleteStrict, Table: uint8(k.Table), Priority: k.Priority, Match: k.Match}
	}
	return &openflow.RawFlow{Command: openflow.FlowAdd, Cookie: uint64(f.Cookie.WithEpoch(epoch)), Table: uint8(k.Table), Priority: k.Priority,
		Match: k.Match, Instructions: f.Instructions}
}
