package flows

import (
	"cmp"
	"errors"
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

var errTooMany = errors.New("more clauses than one flow takes")

// contribution is what one unit says of a flow.
type contribution struct {
	from   *unit
	serial uint64 // the compilation that said so last
	cookie Cookie // without its epoch
	instr  string // of a flow that stands alone
	conj   openflow.Conjunction
}

// isClause says whether the contribution is a clause of a conjunction.
func (c *contribution) isClause() bool { return c.conj.N > 0 }

// compare orders contributions, so that which is first does not depend on which came first.
func (c *contribution) compare(o *contribution) int {
	return cmp.Or(c.from.key.compare(o.from.key), cmp.Compare(c.cookie, o.cookie), cmp.Compare(c.instr, o.instr))
}

// slot is a flow and who asks for it. Nearly always that is one.
type slot struct {
	key  FlowKey
	n    int
	one  contribution
	more []contribution

	touched bool // since the last delta
	had     bool // there was a flow then: was
	was     Flow
}

func (s *slot) add(c contribution) {
	if s.n == 0 {
		s.one = c
	} else {
		s.more = append(s.more, c)
	}
	s.n++
}

// each calls f with the contributions until it returns false.
func (s *slot) each(f func(*contribution) bool) {
	if s.n == 0 || !f(&s.one) {
		return
	}
	for i := range s.more {
		if !f(&s.more[i]) {
			return
		}
	}
}

// again says whether a unit has contributed the same before, and that it has done so again.
func (s *slot) again(with contribution) bool {
	found := false
	s.each(func(c *contribution) bool {
		if c.from == with.from && c.conj == with.conj && c.instr == with.instr && c.cookie == with.cookie {
			c.serial, found = with.serial, true
		}
		return !found
	})
	return found
}

// stale says whether a unit has contributed what it has not contributed again in a compilation.
func (s *slot) stale(u *unit, serial uint64) bool {
	found := false
	s.each(func(c *contribution) bool {
		found = c.from == u && c.serial != serial
		return !found
	})
	return found
}

// drop takes away what a unit has not contributed again.
func (s *slot) drop(u *unit, serial uint64) {
	gone := func(c contribution) bool { return c.from == u && c.serial != serial }
	s.more = slices.DeleteFunc(s.more, gone)
	if s.n = len(s.more) + 1; !gone(s.one) {
		return
	}
	s.n--
	if s.one = (contribution{}); s.n > 0 {
		s.one = s.more[s.n-1]
		s.more[s.n-1] = contribution{}
		s.more = s.more[:s.n-1]
	}
}

// flow is what the contributions make together: the clauses of conjunctions join into one flow; of others, which should be
// alike, the first in the order of their units holds.
func (s *slot) flow() (out Flow, clash, there bool) {
	if s.n == 0 {
		return Flow{}, false, false
	}
	first, clauses := &s.one, 0
	s.each(func(c *contribution) bool {
		if c.compare(first) < 0 {
			first = c
		}
		if c.isClause() {
			clauses++
		} else {
			clash = clash || c.instr != s.one.instr
		}
		return true
	})
	if clauses == 0 {
		return Flow{first.cookie, first.instr}, clash, true
	}
	if clauses < s.n {
		s.each(func(c *contribution) bool { // what stands alone holds
			first = c
			return c.isClause()
		})
		return Flow{first.cookie, first.instr}, true, true
	}
	out, err := s.joined(first.cookie)
	return out, err != nil, true
}

// mostClauses is how many clauses one flow takes: 16 bytes each, of the 65,535 of a message.
const mostClauses = 4000

// joined is one flow with all clauses, each once. Those that one flow cannot take are left out, and with them what they would have
// allowed: a host with ports of 4,000 groups, all with one same rule.
func (s *slot) joined(cookie Cookie) (Flow, error) {
	clauses := make([]*openflow.Conjunction, 0, s.n)
	s.each(func(c *contribution) bool {
		clauses = append(clauses, &c.conj)
		return true
	})
	slices.SortFunc(clauses, func(a, b *openflow.Conjunction) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Clause, b.Clause))
	})
	clauses = slices.CompactFunc(clauses, func(a, b *openflow.Conjunction) bool { return *a == *b })
	actions := make([]openflow.Action, min(len(clauses), mostClauses))
	for i := range actions {
		actions[i] = clauses[i]
	}
	instr, err := openflow.InstructionsKey([]openflow.Instruction{&openflow.InstrApply{Actions: actions}})
	if len(clauses) > mostClauses {
		err = errTooMany
	}
	return Flow{cookie, instr}, err
}

// SwitchConfig is what the switch must be told for the program to mean what it says: packets of which it has the first fragment are matched by their ports, and
// packet-ins are whole.
func SwitchConfig() *openflow.SetConfig {
	return &openflow.SetConfig{SwitchConfig: openflow.SwitchConfig{Flags: openflow.FragmentsMatch, MissSendLen: 0xffff}}
}

// Messages are what makes a switch carry a delta out: first what must be there before and cannot ride in a bundle, then the bundle, then
// what may go when the bundle is in. has says which meters the switch has.
func (c *Compiler) Messages(d *Delta, epoch uint16, has func(meter uint32) bool) (first, bundle, last []openflow.Message) {
	for _, id := range d.Meters {
		m := c.meters[id].value()
		command := openflow.MeterAdd
		if has(id) {
			command = openflow.MeterModify
		}
		first = append(first, &openflow.MeterMod{Command: command, Flags: m.Flags, ID: id, Bands: m.Bands})
	}
	for _, id := range d.Groups {
		g := c.groups[id].value()
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
