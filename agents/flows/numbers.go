package flows

import "slices"

// space is what numbers are given for. Within one, no two names that are in use have the same number.
type space uint8

const (
	spaceGroups      space = iota // sets of security groups: RGroups
	spaceConjunction              // conjunctions, below ConjStateless
	spaceRoute                    // routes of several ways: GroupRoute
	spaceHandOut                  // addresses that hosts share: GroupHandOut
	spaceLog                      // what is logged: MeterLog
	spaces
)

// limit is the highest number of a space.
func (s space) limit() uint32 {
	switch s {
	case spaceConjunction:
		return ConjStateless - 1
	case spaceRoute, spaceHandOut:
		return groupBits
	case spaceLog:
		return 1<<24 - 1
	default:
		return 1<<32 - 1
	}
}

// numbers gives names numbers of one space. A name's is its hash, unless a name before it in their order has that already, or one
// in a row from there; then it is the next that is free. So the numbers depend on the names that are in use, and not on who came first.
type numbers struct {
	limit  uint32
	hash   func(name string) uint32
	of     map[string]uint32
	name   map[uint32]string
	moved  int  // how many names have not the number that their hash says
	unsure bool // something has changed while some were moved
}

func newNumbers(limit uint32) *numbers {
	return &numbers{limit: limit, hash: func(name string) uint32 { return Hash(name) }, of: map[string]uint32{}, name: map[uint32]string{}}
}

func (n *numbers) home(name string) uint32 { return max(n.hash(name)&n.limit, 1) }

// claim takes a name into use. Where it is not alone at its number, what it gets is unique, and settle says whether that stands.
func (n *numbers) claim(name string) uint32 {
	if have, ok := n.of[name]; ok {
		return have
	}
	home := n.home(name)
	at := n.free(home)
	if at != home {
		n.moved++
	}
	n.unsure = n.unsure || n.moved > 0
	n.of[name], n.name[at] = at, name
	return at
}

// free is the first number from one on that nobody has.
func (n *numbers) free(at uint32) uint32 {
	for n.name[at] != "" {
		at = max((at+1)&n.limit, 1)
	}
	return at
}

// drop takes a name out of use.
func (n *numbers) drop(name string) {
	at, ok := n.of[name]
	if !ok {
		return
	}
	n.unsure = n.unsure || n.moved > 0
	if at != n.home(name) {
		n.moved--
	}
	delete(n.of, name)
	delete(n.name, at)
}

// settle gives every name the number that it has by the rule, and returns the names whose number was another.
func (n *numbers) settle() []string {
	if !n.unsure {
		return nil
	}
	n.unsure = false
	was := n.of
	names := make([]string, 0, len(was))
	for name := range was {
		names = append(names, name)
	}
	slices.Sort(names)
	n.of, n.name, n.moved = make(map[string]uint32, len(was)), make(map[uint32]string, len(was)), 0
	var changed []string
	for _, name := range names {
		if at := n.claim(name); at != was[name] {
			changed = append(changed, name)
		}
	}
	n.unsure = false
	return changed
}

// number is the number of a name, which is in use as long as somebody who asked for it is compiled; it is never 0, and name is never "".
func (x *emitter) number(s space, name string) uint32 {
	x.read(dep{number: s + 1, id: name})
	return x.c.numbers[s].of[name]
}

// settle has those compiled again who used a number that is another now.
func (c *Compiler) settle() {
	for s, n := range c.numbers {
		for _, name := range n.settle() {
			c.mark(dep{number: space(s) + 1, id: name}) //nolint:gosec // few
		}
	}
}
