package flows

import (
	"fmt"
	"unique"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// emitter is what a rule sees: the state, whose reading is remembered, and what it makes.
type emitter struct {
	c     *Compiler
	view  *state.View
	unit  *unit
	reads []*origin
	needs []*unit
	made  made
}

func (x *emitter) read(d dep) {
	s := x.c.origins[d]
	if s == nil {
		s = &origin{dep: d}
		x.c.origins[d] = s
		if d.list == listHop {
			x.c.hops++
		}
		if d.number > 0 {
			x.c.numbers[d.number-1].claim(d.id)
		}
	}
	if s.seen != x.c.serial {
		s.seen = x.c.serial
		x.reads = append(x.reads, s)
	}
}

// get is an object, or nil.
func get[T state.Object](x *emitter, id string) T {
	x.read(dep{kind: state.KindOf[T](), id: id})
	return state.Find[T](x.view, id)
}

// all are the objects of a list. Each is read.
func all[T state.Object](x *emitter, l state.List, id string) []T {
	ids := x.ids(l, id)
	out := make([]T, 0, len(ids))
	for _, id := range ids {
		x.read(dep{kind: state.KindOf[T](), id: id})
		out = append(out, state.Find[T](x.view, id))
	}
	return out
}

// ids are the ids of a list: who asks for no more is not compiled again when a member changes.
func (x *emitter) ids(l state.List, id string) []string {
	index := state.Index{List: l, ID: id}
	x.read(depOfList(index))
	return x.view.IDs(index)
}

// any says whether a list has members: who asks for no more is compiled again when any enters or leaves it.
func (x *emitter) any(l state.List, id string) bool {
	index := state.Index{List: l, ID: id}
	x.read(depOfList(index))
	return x.view.Has(index)
}

// needAll has a unit compiled for each member of a list.
func (x *emitter) needAll(r rule, l state.List, id string) {
	index := state.Index{List: l, ID: id}
	x.read(depOfList(index))
	for member := range x.view.Members(index) {
		x.need(r, member)
	}
}

// need has another unit compiled as long as this one is.
func (x *emitter) need(r rule, id string) {
	n := x.c.unit(unitKey{r, id})
	if n.seen != x.c.serial {
		n.seen = x.c.serial
		n.needed++
		n.neededBy(x.unit)
		x.needs = append(x.needs, n)
	}
}

// cookie is that of the unit's flows, about an object.
func (x *emitter) cookie(r state.Ref) Cookie {
	if r.Kind == 0 && r.ID != "" {
		x.c.reasons[Hash(r.ID)] = r.ID
	}
	return Cookie(uint64(x.unit.key.rule)<<40 | uint64(r.Kind)<<32 | uint64(Hash(r.ID)))
}

// flow makes a flow about an object.
func (x *emitter) flow(about state.Ref, t Table, priority uint16, m openflow.Match, do ...openflow.Instruction) {
	instr, err := openflow.InstructionsKey(do)
	if err != nil {
		panic(fmt.Sprintf("flows: %s: %v", about, err)) // a number too large for its field: every one was checked when the object was read
	}
	x.put(FlowKey{t, priority, m.Key()}, contribution{cookie: x.cookie(about), instr: word(instr)})
}

// clause makes a flow that fulfils one clause of a conjunction. Clauses of the same match join into one flow.
func (x *emitter) clause(about state.Ref, t Table, priority uint16, m openflow.Match, conj openflow.Conjunction) {
	x.put(FlowKey{t, priority, m.Key()}, contribution{cookie: x.cookie(about), conj: conj})
}

func (x *emitter) put(k FlowKey, with contribution) {
	with.from, with.serial = x.unit, x.c.serial
	s := x.c.flows[k]
	if s == nil {
		s = &slot{key: k}
		x.c.flows[k] = s
	}
	if len(x.unit.made) == 0 || !s.again(with) {
		x.c.touch(s)
		s.add(with)
	}
	x.made.flows = append(x.made.flows, s)
}

// group makes a group.
func (x *emitter) group(id uint32, kind openflow.GroupType, buckets []openflow.Bucket) {
	key, err := openflow.Append(nil, 0, &openflow.GroupMod{Type: kind, ID: id, Buckets: buckets})
	if err != nil {
		panic(fmt.Sprintf("flows: group %#x: %v", id, err)) // its maker keeps the number of buckets below what a message holds
	}
	own(x.c.groups, x.c.touched.groups, id, x.unit, Group{kind, buckets, string(key)})
	x.made.groups = append(x.made.groups, id)
}

// meter makes a meter.
func (x *emitter) meter(id uint32, flags uint16, bands ...openflow.Band) {
	own(x.c.meters, x.c.touched.meters, id, x.unit, Meter{flags, bands})
	x.made.meters = append(x.made.meters, id)
}

// word is one copy of instructions that many flows share.
func word(s string) string { return unique.Make(s).Value() }
