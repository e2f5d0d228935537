package flows

import (
	"cmp"
	"maps"
	"slices"

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
	circle circle // for rules that may need each other in a circle
	seen   uint64 // the last compilation that needed it

	reads  []read
	needs  []*unit
	made   []*slot // one for each contribution
	groups []uint32
	meters []uint32
}

// dep is something that was read: an object, the members of a list, or the number of a name.
type dep struct {
	kind   state.Kind // 0: a list or a number
	list   state.List
	number space // 1 more than the space
	id     string
}

func depOf(r state.Ref) dep       { return dep{kind: r.Kind, id: r.ID} }
func depOfList(x state.Index) dep { return dep{list: x.List, id: x.ID} }

// origin is a dep and the units that read it.
type origin struct {
	dep  dep
	seen uint64 // the last compilation that read it
	by   []reader
}

// reader is a unit that reads an origin, which is that of unit.reads[at].
type reader struct {
	unit *unit
	at   int
}

// read is an origin that a unit reads, which is that of origin.by[at].
type read struct {
	origin *origin
	at     int
}

// Compiler holds the compiled program of one host. It is not safe for concurrent use.
type Compiler struct {
	cfg     Config
	units   map[unitKey]*unit
	origins map[dep]*origin
	hops    int // origins that are listHop's
	numbers [spaces]*numbers
	dirty   []*unit
	suspect []*unit // may be left in a circle that nobody else needs
	serial  uint64  // of the compilation that is under way

	flows   map[FlowKey]*slot
	groups  map[uint32]*owned[Group]
	meters  map[uint32]*owned[Meter]
	touched touched

	reasons map[uint32]string // of drops, by the hash in the flow's cookie
	clashes map[FlowKey]struct{}
	stats   Stats
	scratch emitter
}

// touched is what the units changed since the last delta. Of groups and meters it has what was there before.
type touched struct {
	flows  []*slot
	groups map[uint32]*Group
	meters map[uint32]*Meter
}

// Stats counts what the compiler did since it was made.
type Stats struct {
	Compiled uint64 // units, again and again
	Units    int
	Flows    int
	Clashes  int // see Compiler.Clashes
}

// Config says what a compiler compiles for.
type Config struct {
	Host string // its id
	// PuntRate is how many packets of each port may go to the agent in a second, with bursts as large; 0 is no limit.
	PuntRate uint32
	// OpRate is how many packets that routers have for the agent may go to it in a second, with bursts as large: of those of each port, and of each router's
	// that no port of this host has sent. So many may be said of addresses on each network outside, too. 0 is no limit.
	OpRate uint32
	// NameRate is how many questions for names each port may ask in a second, with bursts as large; 0 is no limit.
	NameRate uint32
	// Names has the agent see the questions of guests, put to whichever DNS server, on networks that have a domain: it answers those for names of
	// ports. The others wait for it, and while there is no agent none is answered.
	Names bool
	// LogRate is how many records of a security group log the agent is sent in a second of the ports with one set of groups, LogBurst how many at once; LogRate 0: there are no logs.
	LogRate, LogBurst uint32
}

// New returns the compiler of a host. Its program is that of a host without ports, which Update with no changes returns.
func New(cfg Config) *Compiler {
	c := &Compiler{
		cfg: cfg, units: map[unitKey]*unit{}, origins: map[dep]*origin{},
		flows: map[FlowKey]*slot{}, groups: map[uint32]*owned[Group]{}, meters: map[uint32]*owned[Meter]{},
		touched: touched{nil, map[uint32]*Group{}, map[uint32]*Meter{}}, clashes: map[FlowKey]struct{}{}, reasons: map[uint32]string{},
	}
	for s := range c.numbers {
		c.numbers[s] = newNumbers(space(s).limit())
	}
	c.root(unitKey{ruleStatic, ""})
	return c
}

// Update compiles what changes touch, of a view that has them, and returns the difference to the program before.
func (c *Compiler) Update(v *state.View, changes []state.Change) *Delta {
	for _, ch := range changes {
		c.mark(depOf(ch.Ref))
		c.markHops(ch.Old)
		c.markHops(ch.New)
		for _, x := range ch.Touched() {
			c.mark(depOfList(x))
		}
		now := rootsOf(c.cfg.Host, ch.New)
		for _, r := range now {
			c.root(r)
		}
		for _, r := range rootsOf(c.cfg.Host, ch.Old) {
			if !slices.Contains(now, r) {
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
		if len(c.dirty) == 0 {
			c.sweep()
		}
		if len(c.dirty) == 0 {
			c.settle()
		}
	}
	return c.delta()
}

func (c *Compiler) mark(d dep) {
	if s := c.origins[d]; s != nil {
		for _, r := range s.by {
			c.soil(r.unit)
		}
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
		c.release(u, nil)
	}
}

func (c *Compiler) unit(k unitKey) *unit {
	u := c.units[k]
	if u == nil {
		u = &unit{key: k, circle: circle{may: k.rule.mayCycle()}}
		c.units[k] = u
		c.soil(u)
	}
	return u
}

// withdraw takes away what a unit made and read.
func (c *Compiler) withdraw(u *unit) {
	c.serial++ // nothing of the unit is of this compilation
	c.replace(u, made{})
	unlink(u.reads)
	c.orphans(u.reads)
	u.reads = nil
}

// unlink takes a unit from the origins that it read.
func unlink(reads []read) {
	for _, r := range reads {
		by := r.origin.by
		last := len(by) - 1
		by[r.at] = by[last]
		by[r.at].unit.reads[by[r.at].at].at = r.at
		by[last] = reader{}
		r.origin.by = by[:last]
	}
}

// orphans forgets origins that nobody reads any more.
func (c *Compiler) orphans(reads []read) {
	for _, r := range reads {
		if len(r.origin.by) == 0 {
			c.orphan(r.origin)
		}
	}
}

// orphan forgets an origin without readers.
func (c *Compiler) orphan(s *origin) {
	delete(c.origins, s.dep)
	if s.dep.list == listHop {
		c.hops--
	}
	if s.dep.number > 0 {
		c.numbers[s.dep.number-1].drop(s.dep.id)
	}
}

// made is what a compilation made.
type made struct {
	flows          []*slot
	groups, meters []uint32
}

// replace makes m all that a unit made: of what it had contributed before, only what it has contributed again stays.
func (c *Compiler) replace(u *unit, m made) {
	for _, s := range u.made {
		if s.stale(u, c.serial) {
			c.touch(s)
			s.drop(u, c.serial)
		}
	}
	for _, id := range u.groups {
		if !slices.Contains(m.groups, id) {
			disown(c.groups, c.touched.groups, id, u)
		}
	}
	for _, id := range u.meters {
		if !slices.Contains(m.meters, id) {
			disown(c.meters, c.touched.meters, id, u)
		}
	}
	u.made, u.groups, u.meters = refill(u.made, m.flows), refill(u.groups, m.groups), refill(u.meters, m.meters)
}

// refill is a copy of what a list is to hold, in the list's own place where that fits.
func refill[T any](list, with []T) []T {
	if cap(list) < len(with) || cap(list) > 4*len(with) {
		return slices.Clone(with)
	}
	clear(list)
	return append(list[:0], with...)
}

// touch keeps what a flow was before the first change to it since the last delta.
func (c *Compiler) touch(s *slot) {
	if s.touched {
		return
	}
	s.touched = true
	s.was, _, s.had = s.flow()
	c.touched.flows = append(c.touched.flows, s)
}

func (c *Compiler) compile(v *state.View, u *unit) {
	u.dirty = false
	c.stats.Compiled++
	c.serial++
	x := &c.scratch
	*x = emitter{c: c, view: v, unit: u, reads: x.reads[:0], needs: x.needs[:0], made: made{x.made.flows[:0], x.made.groups[:0], x.made.meters[:0]}}
	u.key.rule.compile(x, u.key.id)
	c.replace(u, x.made)
	c.reread(u, x.reads)
	before := u.needs
	u.needs = slices.Clone(x.needs)
	// Those that are needed still were counted again. The others last: what goes with them may be this very unit.
	left := before[:0]
	for _, n := range before {
		if n.seen == c.serial {
			n.needed--
		} else {
			left = append(left, n)
		}
	}
	for _, n := range left {
		c.release(n, u)
	}
}

// reread makes origins all that a unit reads.
func (c *Compiler) reread(u *unit, origins []*origin) {
	if slices.EqualFunc(u.reads, origins, func(r read, s *origin) bool { return r.origin == s }) {
		return
	}
	before := u.reads
	unlink(before)
	u.reads = make([]read, len(origins))
	for i, s := range origins {
		u.reads[i] = read{s, len(s.by)}
		s.by = append(s.by, reader{u, i})
	}
	c.orphans(before)
}

func (c *Compiler) delta() *Delta {
	d := &Delta{Flows: make([]FlowChange, 0, len(c.touched.flows))}
	both := make([]Flow, 0, 2*len(c.touched.flows))
	keep := func(f Flow, there bool) *Flow {
		if !there {
			return nil
		}
		both = append(both, f)
		return &both[len(both)-1]
	}
	for _, s := range c.touched.flows {
		now, clash, there := s.flow()
		if delete(c.clashes, s.key); clash {
			c.clashes[s.key] = struct{}{}
		}
		if there != s.had || now != s.was {
			d.Flows = append(d.Flows, FlowChange{s.key, keep(s.was, s.had), keep(now, there)})
		}
		if s.touched, s.was = false, (Flow{}); !there {
			delete(c.flows, s.key)
		}
	}
	slices.SortFunc(d.Flows, func(a, b FlowChange) int { return a.Key.Compare(b.Key) })
	d.Groups, d.GroupsGone = differ(c.groups, c.touched.groups, func(a, b *Group) bool { return a.key == b.key })
	d.Meters, d.MetersGone = differ(c.meters, c.touched.meters, func(a, b *Meter) bool { return a.Flags == b.Flags && slices.Equal(a.Bands, b.Bands) })
	c.touched.flows = nil
	clear(c.touched.groups)
	clear(c.touched.meters)
	return d
}

// Flows calls f with each flow of the program, in no order, until it returns false.
func (c *Compiler) Flows(f func(FlowKey, Flow) bool) {
	for k, s := range c.flows {
		if flow, _, there := s.flow(); there && !f(k, flow) {
			return
		}
	}
}

// Reason is why a flow with a cookie drops packets; "": it does not, or not because of a rule of all hosts.
func (c *Compiler) Reason(k Cookie) string {
	if k.Kind() != 0 {
		return ""
	}
	return c.reasons[k.Object()]
}

// Flow returns a flow of the program.
func (c *Compiler) Flow(k FlowKey) (Flow, bool) {
	s := c.flows[k]
	if s == nil {
		return Flow{}, false
	}
	f, _, there := s.flow()
	return f, there
}

// Group returns a group of the program.
func (c *Compiler) Group(id uint32) (Group, bool) {
	o := c.groups[id]
	if o == nil {
		return Group{}, false
	}
	return *o.value(), true
}

// Meter returns a meter of the program.
func (c *Compiler) Meter(id uint32) (Meter, bool) {
	o := c.meters[id]
	if o == nil {
		return Meter{}, false
	}
	return *o.value(), true
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

// Clashes are the flows that two parts of the compiler want differently, which is a defect, and those that cannot hold all clauses of conjunctions.
func (c *Compiler) Clashes() []FlowKey {
	return slices.SortedFunc(maps.Keys(c.clashes), FlowKey.Compare)
}
