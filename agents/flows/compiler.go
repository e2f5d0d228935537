package flows

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"unique"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// rule compiles one thing about one object. Its name and the object's id are the unit's key.
type rule uint8

// unitKey names a unit: a rule, applied to an object or to something that ids make together.
type unitKey struct {
	rule rule
	id   string
}

func (k unitKey) compare(o unitKey) int {
	return cmp.Or(cmp.Compare(k.rule, o.rule), cmp.Compare(k.id, o.id))
}

// unit is one compilation: what it read, what it made, and which other units it needs.
type unit struct {
	key    unitKey
	needed int // by how many units, or as a root
	dirty  bool
	root   bool
	live   bool // used by sweep

	reads  []dep
	needs  []*unit
	flows  []FlowKey
	groups []uint32
	meters []uint32
}

// dep is something that was read: an object, or the members of a list.
type dep struct {
	ref  state.Ref
	list state.Index
}

// Compiler holds the compiled program of one host. It is not safe for concurrent use.
type Compiler struct {
	cfg    Config
	units  map[unitKey]*unit
	byDep  map[dep]map[*unit]struct{}
	dirty  []*unit
	sweeps bool // a cycle may have lost its last root

	flows   map[FlowKey]*slot
	groups  map[uint32]*owned[Group]
	meters  map[uint32]*owned[Meter]
	touched touched

	clashes []FlowKey
	stats   Stats
}

// owned is a group or a meter and the units that ask for it.
type owned[T any] struct {
	by    map[*unit]T
	value T
}

// touched is what the units changed since the last delta, with what was there before.
type touched struct {
	flows  map[FlowKey]*Flow
	groups map[uint32]*Group
	meters map[uint32]*Meter
}

// Stats counts what the compiler did since it was made.
type Stats struct {
	Compiled uint64 // units, again and again
	Units    int
	Flows    int
	Clashes  int // flows that two units want differently: a defect of the compiler
}

// Config says what a compiler compiles for.
type Config struct {
	Host string // its id
	// PuntRate is how many packets of each port may go to the agent in a second, with bursts as large; 0 is no limit.
	PuntRate uint32
}

// New returns the compiler of a host. Its program is that of a host without ports, which Update with no changes returns.
func New(cfg Config) *Compiler {
	c := &Compiler{
		cfg: cfg, units: map[unitKey]*unit{}, byDep: map[dep]map[*unit]struct{}{},
		flows: map[FlowKey]*slot{}, groups: map[uint32]*owned[Group]{}, meters: map[uint32]*owned[Meter]{},
	}
	c.forget()
	c.root(unitKey{ruleStatic, ""})
	return c
}

func (c *Compiler) forget() {
	c.touched = touched{map[FlowKey]*Flow{}, map[uint32]*Group{}, map[uint32]*Meter{}}
}

// Update compiles what changes touch, of a view that has them, and returns the difference to the program before.
func (c *Compiler) Update(v *state.View, changes []state.Change) *Delta {
	for _, ch := range changes {
		c.mark(dep{ref: ch.Ref})
		for _, x := range ch.Touched() {
			c.mark(dep{list: x})
		}
		for _, r := range rootsOf(ch.Ref) {
			if ch.New != nil {
				c.root(r)
			} else {
				c.unroot(r)
			}
		}
	}
	for len(c.dirty) > 0 {
		u := c.dirty[len(c.dirty)-1]
		c.dirty = c.dirty[:len(c.dirty)-1]
		if u.dirty {
			c.compile(v, u)
		}
		if len(c.dirty) == 0 && c.sweeps {
			c.sweep()
		}
	}
	return c.delta()
}

func (c *Compiler) mark(d dep) {
	for u := range c.byDep[d] {
		c.soil(u)
	}
}

func (c *Compiler) soil(u *unit) {
	if !u.dirty {
		u.dirty = true
		c.dirty = append(c.dirty, u)
	}
}

func (c *Compiler) root(k unitKey) {
	u := c.unit(k)
	if !u.root {
		u.root = true
		u.needed++
	}
}

func (c *Compiler) unroot(k unitKey) {
	if u := c.units[k]; u != nil && u.root {
		u.root = false
		c.release(u)
	}
}

func (c *Compiler) unit(k unitKey) *unit {
	u := c.units[k]
	if u == nil {
		u = &unit{key: k}
		c.units[k] = u
		c.soil(u)
	}
	return u
}

// release takes one need of a unit away. What nobody needs goes; what still is needed may be so only by what it needs itself.
func (c *Compiler) release(u *unit) {
	u.needed--
	if u.needed > 0 {
		c.sweeps = c.sweeps || u.key.rule.mayCycle()
		return
	}
	c.discard(u)
}

// discard takes a unit away with all that it made. What the unit was the last to need goes too.
func (c *Compiler) discard(u *unit) {
	if c.units[u.key] != u {
		return
	}
	delete(c.units, u.key)
	u.dirty = false
	c.withdraw(u)
	needs := u.needs
	u.needs = nil
	for _, n := range needs {
		c.release(n)
	}
}

// sweep discards the units that no root reaches.
func (c *Compiler) sweep() {
	c.sweeps = false
	var todo []*unit
	for _, u := range c.units {
		u.live = u.root
		if u.root {
			todo = append(todo, u)
		}
	}
	for len(todo) > 0 {
		u := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range u.needs {
			if !n.live {
				n.live = true
				todo = append(todo, n)
			}
		}
	}
	for _, u := range c.units {
		if !u.live {
			u.needs = nil // all of them are dead, or their count is kept right below
			c.discard(u)
		}
	}
	for _, u := range c.units {
		u.needed = 0
		if u.root {
			u.needed = 1
		}
	}
	for _, u := range c.units {
		for _, n := range u.needs {
			n.needed++
		}
	}
	c.sweeps = false
}

// withdraw takes away what a unit made and read.
func (c *Compiler) withdraw(u *unit) {
	for _, k := range u.flows {
		s := c.flows[k]
		c.touch(k, s)
		if s.drop(u); s.n == 0 {
			delete(c.flows, k)
		}
	}
	for _, id := range u.groups {
		disown(c.groups, c.touched.groups, id, u)
	}
	for _, id := range u.meters {
		disown(c.meters, c.touched.meters, id, u)
	}
	for _, d := range u.reads {
		delete(c.byDep[d], u)
		if len(c.byDep[d]) == 0 {
			delete(c.byDep, d)
		}
	}
	u.reads, u.flows, u.groups, u.meters = u.reads[:0], u.flows[:0], u.groups[:0], u.meters[:0]
}

// touch keeps what a flow was before the first change to it since the last delta.
func (c *Compiler) touch(k FlowKey, s *slot) {
	if _, ok := c.touched.flows[k]; ok {
		return
	}
	var was *Flow
	if s != nil {
		was, _ = s.flow()
	}
	c.touched.flows[k] = was
}

func (c *Compiler) compile(v *state.View, u *unit) {
	u.dirty = false
	c.stats.Compiled++
	c.withdraw(u)
	before := u.needs
	u.needs = nil
	x := &emitter{c: c, view: v, unit: u, reads: map[dep]struct{}{}, needs: map[*unit]struct{}{}}
	u.key.rule.compile(x, u.key.id)
	for _, n := range before {
		if _, still := x.needs[n]; still {
			n.needed--
		} else {
			c.release(n)
		}
	}
}

func (c *Compiler) delta() *Delta {
	d := &Delta{}
	for k, was := range c.touched.flows {
		var now *Flow
		if s := c.flows[k]; s != nil {
			var clash bool
			if now, clash = s.flow(); clash {
				c.clashes = append(c.clashes, k)
			}
		}
		if was != now && (was == nil || now == nil || *was != *now) {
			d.Flows = append(d.Flows, FlowChange{k, was, now})
		}
	}
	slices.SortFunc(d.Flows, func(a, b FlowChange) int { return a.Key.Compare(b.Key) })
	d.Groups, d.GroupsGone = differ(c.groups, c.touched.groups, func(a, b *Group) bool { return a.key == b.key })
	d.Meters, d.MetersGone = differ(c.meters, c.touched.meters, func(a, b *Meter) bool { return a.Flags == b.Flags && slices.Equal(a.Bands, b.Bands) })
	c.forget()
	return d
}

func differ[T any](have map[uint32]*owned[T], touched map[uint32]*T, same func(a, b *T) bool) (set, gone []uint32) {
	for id, was := range touched {
		now := have[id]
		switch {
		case now == nil && was != nil:
			gone = append(gone, id)
		case now != nil && (was == nil || !same(was, &now.value)):
			set = append(set, id)
		}
	}
	slices.Sort(set)
	slices.Sort(gone)
	return set, gone
}

func own[T any](m map[uint32]*owned[T], touched map[uint32]*T, id uint32, u *unit, value T) {
	o := m[id]
	keep(touched, id, o)
	if o == nil {
		o = &owned[T]{by: map[*unit]T{}, value: value}
		m[id] = o
	}
	o.by[u] = value
	o.settle()
}

func disown[T any](m map[uint32]*owned[T], touched map[uint32]*T, id uint32, u *unit) {
	o := m[id]
	if o == nil {
		return
	}
	keep(touched, id, o)
	if delete(o.by, u); len(o.by) == 0 {
		delete(m, id)
		return
	}
	o.settle()
}

func keep[T any](touched map[uint32]*T, id uint32, o *owned[T]) {
	if _, ok := touched[id]; ok {
		return
	}
	if o == nil {
		touched[id] = nil
		return
	}
	was := o.value
	touched[id] = &was
}

// settle takes the value of the first owner, in the order of their keys.
func (o *owned[T]) settle() {
	var first *unit
	for u := range o.by {
		if first == nil || u.key.compare(first.key) < 0 {
			first = u
		}
	}
	o.value = o.by[first]
}

// Flows calls f with each flow of the program, in no order, until it returns false.
func (c *Compiler) Flows(f func(FlowKey, Flow) bool) {
	for k, s := range c.flows {
		if flow, _ := s.flow(); !f(k, *flow) {
			return
		}
	}
}

// Flow returns a flow of the program.
func (c *Compiler) Flow(k FlowKey) (Flow, bool) {
	s := c.flows[k]
	if s == nil {
		return Flow{}, false
	}
	f, _ := s.flow()
	return *f, true
}

// Group returns a group of the program.
func (c *Compiler) Group(id uint32) (Group, bool) {
	o := c.groups[id]
	if o == nil {
		return Group{}, false
	}
	return o.value, true
}

// Meter returns a meter of the program.
func (c *Compiler) Meter(id uint32) (Meter, bool) {
	o := c.meters[id]
	if o == nil {
		return Meter{}, false
	}
	return o.value, true
}

// Groups and Meters are the numbers of all that the program has, sorted.
func (c *Compiler) Groups() []uint32 { return slices.Sorted(maps.Keys(c.groups)) }

// Meters are the numbers of all meters that the program has, sorted.
func (c *Compiler) Meters() []uint32 { return slices.Sorted(maps.Keys(c.meters)) }

// Stats says what the compiler did.
func (c *Compiler) Stats() Stats {
	s := c.stats
	s.Units, s.Flows, s.Clashes = len(c.units), len(c.flows), len(c.clashes)
	return s
}

// Clashes are the flows that two parts of the compiler wanted differently, which is a defect; none has been found.
func (c *Compiler) Clashes() []FlowKey { return slices.Clone(c.clashes) }

// emitter is what a rule sees: the state, whose reading is remembered, and what it makes.
type emitter struct {
	c     *Compiler
	view  *state.View
	unit  *unit
	reads map[dep]struct{}
	needs map[*unit]struct{}
}

func (x *emitter) read(d dep) {
	if _, ok := x.reads[d]; ok {
		return
	}
	x.reads[d] = struct{}{}
	x.unit.reads = append(x.unit.reads, d)
	if x.c.byDep[d] == nil {
		x.c.byDep[d] = map[*unit]struct{}{}
	}
	x.c.byDep[d][x.unit] = struct{}{}
}

// get is an object, or nil.
func get[T state.Object](x *emitter, id string) T {
	x.read(dep{ref: state.Ref{Kind: state.KindOf[T](), ID: id}})
	return state.Find[T](x.view, id)
}

// all are the objects of a list. Each is read.
func all[T state.Object](x *emitter, l state.List, id string) []T {
	ids := x.ids(l, id)
	out := make([]T, 0, len(ids))
	for _, id := range ids {
		x.read(dep{ref: state.Ref{Kind: state.KindOf[T](), ID: id}})
		out = append(out, state.Find[T](x.view, id))
	}
	return out
}

// ids are the ids of a list: who asks for no more is not compiled again when a member changes.
func (x *emitter) ids(l state.List, id string) []string {
	index := state.Index{List: l, ID: id}
	x.read(dep{list: index})
	return x.view.IDs(index)
}

// need has another unit compiled as long as this one is.
func (x *emitter) need(r rule, id string) {
	n := x.c.unit(unitKey{r, id})
	if _, ok := x.needs[n]; !ok {
		x.needs[n] = struct{}{}
		n.needed++
		x.unit.needs = append(x.unit.needs, n)
	}
}

// cookie is that of the unit's flows, about an object.
func (x *emitter) cookie(r state.Ref) Cookie {
	return Cookie(uint64(x.unit.key.rule)<<40 | uint64(r.Kind)<<32 | uint64(Hash(r.ID)))
}

// flow makes a flow about an object.
func (x *emitter) flow(about state.Ref, t Table, priority uint16, m openflow.Match, do ...openflow.Instruction) {
	instr, err := openflow.InstructionsKey(do)
	if err != nil {
		panic(fmt.Sprintf("flows: %s: %v", about, err)) // a number too large for its field: every one was checked when the object was read
	}
	x.put(FlowKey{t, priority, m.Key()}, contribution{x.unit, x.cookie(about), word(instr), nil})
}

// clause makes a flow that fulfils one clause of a conjunction. Clauses of the same match join into one flow.
func (x *emitter) clause(about state.Ref, t Table, priority uint16, m openflow.Match, conj openflow.Conjunction) {
	x.put(FlowKey{t, priority, m.Key()}, contribution{x.unit, x.cookie(about), "", &conj})
}

func (x *emitter) put(k FlowKey, with contribution) {
	s := x.c.flows[k]
	x.c.touch(k, s)
	if s == nil {
		s = &slot{}
		x.c.flows[k] = s
	}
	s.add(with)
	x.unit.flows = append(x.unit.flows, k)
}

// group makes a group.
func (x *emitter) group(id uint32, kind openflow.GroupType, buckets []openflow.Bucket) {
	key, err := openflow.Append(nil, 0, &openflow.GroupMod{Type: kind, ID: id, Buckets: buckets})
	if err != nil {
		panic(fmt.Sprintf("flows: group %#x: %v", id, err)) // its maker keeps the number of buckets below what a message holds
	}
	own(x.c.groups, x.c.touched.groups, id, x.unit, Group{kind, buckets, string(key)})
	x.unit.groups = append(x.unit.groups, id)
}

// meter makes a meter.
func (x *emitter) meter(id uint32, flags uint16, bands ...openflow.Band) {
	own(x.c.meters, x.c.touched.meters, id, x.unit, Meter{flags, bands})
	x.unit.meters = append(x.unit.meters, id)
}

// word is one copy of instructions that many flows share.
func word(s string) string { return unique.Make(s).Value() }
