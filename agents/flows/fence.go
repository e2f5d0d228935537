package flows

import (
	"net/netip"
	"strings"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Security groups. A port's set of groups has a number, which the packet carries in RGroups. In the tables of rules one flow for
// each set that is here says which groups it has, one for each rule what it says of the packet, and one for each address of a remote group
// that it belongs to: a conjunction of them allows. So the flows are as many as there are sets, rules and addresses, and not their
// product; a port with a set that is known, a rule more or a member more is a flow or two.
//
// The numbers of sets and of conjunctions are exact (numbers), since two sets with one number would share their rules.

// side is one direction of a guest's traffic: the tables that decide on it and where they keep what.
type side struct {
	track, state, rules, commit, next Table

	rule    openflow.FieldID // the register that gets the conjunction
	label   int              // its first bit in ct_label
	blocked int              // the bit of ct_mark that says that no rule of this side allows the connection any more
	answers int              // the same bit of the side on which the connection began whose answers go this way
	port    openflow.FieldID // the register with the key of the port at hand
	logged  int              // the flag of what a log has seen
	words   string           // begins the reasons for drops
	plain   []uint8          // types of ICMPv6 without which IPv6 does not work: they go on
	dhcp    [2][2]uint64     // UDP ports, from and to, of DHCPv4 and DHCPv6: they go on
}

func outSide() side {
	return side{
		TOutTrack, TOutState, TOutRules, TOutCommit, TRouterMAC,
		ROutRule, LabelOut, MarkOutBlocked, MarkInBlocked, RSource, FlagLogOut, "out-",
		[]uint8{130, 131, 132, 133, 135, 136, 143}, [2][2]uint64{{68, 67}, {546, 547}},
	}
}

func inSide() side {
	return side{
		TInTrack, TInState, TInRules, TInCommit, TDestPPS,
		RInRule, LabelIn, MarkInBlocked, MarkOutBlocked, RDest, FlagLogIn, "in-",
		[]uint8{130, 131, 132, 134, 135, 136}, [2][2]uint64{{67, 68}, {547, 546}},
	}
}

// remote is a packet whose other end is in a prefix.
func (s side) remote(m openflow.Match, p netip.Prefix) openflow.Match {
	if s.track == TOutTrack {
		return dest(m, p)
	}
	return source(m, p)
}

// remember is what keeps a connection in the zone of the port at hand.
func remember(then ...openflow.Action) openflow.Action {
	return &openflow.CT{Flags: openflow.CTCommit, ZoneOf: zonePart(), Table: openflow.NoTable, Actions: then}
}

// track looks a packet's connection up in the zone of the port at hand and goes on in a table.
func track(t Table) openflow.Action { return &openflow.CT{ZoneOf: zonePart(), Table: uint8(t)} }

func zonePart() openflow.Part { return openflow.Part{Field: RZone, From: 0, N: 16} }

// Bits of ct_state (ovs-fields(7)).
const (
	ctNew         = 1 << 0
	ctEstablished = 1 << 1
	ctRelated     = 1 << 2
	ctReply       = 1 << 3
	ctInvalid     = 1 << 4
	ctTracked     = 1 << 5
)

// tracked is a packet that was looked up, with some bits set and others not.
func tracked(m openflow.Match, with, without uint64) openflow.Match {
	with |= ctTracked
	return m.Masked(openflow.CTState, openflow.Num(with), openflow.Num(with|without))
}

// marked is a packet of a connection whose mark has a bit, or has it not.
func marked(m openflow.Match, bit int, on uint64) openflow.Match {
	return m.Part(openflow.CTMark, bit, 1, on)
}

// Priorities of the tables of rules, from the top: rules of stateful groups; those of stateless ones, which are asked only then, so that
// the connection tracker sees all of a connection that it keeps; what becomes of what no rule allows.
const (
	pStateful  = PHigh
	pStateless = PNormal
)

// staticFence is what all security groups share.
func staticFence(x *emitter) {
	for _, s := range []side{outSide(), inSide()} {
		s.admit(x)
		s.decide(x)
		s.keep(x)
	}
}

// admit lets by what no security group is asked about.
func (s side) admit(x *emitter) {
	on := func(m openflow.Match) { x.flow(Reason(""), s.track, PTop, m, goTo(s.next)) }
	on(match().Num(RGroups, 0))
	on(arp(match()))
	for _, kind := range s.plain {
		on(icmpv6(match(), kind))
	}
	for i, m := range families() {
		on(proto(m, protoUDP).Num(openflow.UDPSrc, s.dhcp[i][0]).Num(openflow.UDPDst, s.dhcp[i][1]))
		x.flow(Reason(""), s.track, PNormal, m, apply(track(s.state)))
	}
}

// decide lets answers by, and errors about a connection from either end, as long as it is not blocked; and says what becomes of what no rule allows.
func (s side) decide(x *emitter) {
	x.flow(Reason(""), s.state, PNormal, marked(tracked(match(), ctReply, ctInvalid), s.answers, 0), goTo(s.next))
	x.flow(Reason(""), s.state, PNormal, marked(tracked(match(), ctRelated, ctReply|ctInvalid), s.blocked, 0), goTo(s.next))

	for _, m := range families() {
		x.flow(Reason(s.words+"cut"), s.rules, PLow, marked(tracked(m, ctEstablished, ctReply|ctInvalid), s.blocked, 0),
			apply(remember(load(openflow.CTMark, s.blocked, 1, 1))))
	}
	x.flow(Reason(s.words+"blocked"), s.rules, PLow, tracked(match(), ctReply, ctInvalid))
	x.flow(Reason(s.words+"blocked"), s.rules, PLow, tracked(match(), ctRelated, ctReply|ctInvalid))
	x.flow(Reason(s.words+"blocked"), s.rules, PLow, marked(tracked(match(), ctEstablished, ctReply|ctInvalid), s.blocked, 1))
	x.flow(Reason(s.words+"invalid"), s.rules, PLow, tracked(match(), ctInvalid, 0))
}

// keep remembers what the rules allow: a connection that is new, or was blocked. What only a stateless group allows is not remembered, and a connection
// that has no other rule any more is blocked, so that its answers need a rule too.
func (s side) keep(x *emitter) {
	stateless := func(m openflow.Match) openflow.Match { return m.Part(s.rule, 31, 1, 1) }
	x.flow(Reason(""), s.commit, PHigh, stateless(match()), goTo(s.next))
	blocked := remember(load(openflow.CTMark, s.blocked, 1, 1))
	allowed := remember(load(openflow.CTMark, s.blocked, 1, 0), move(s.rule, 0, 32, openflow.CTLabel, s.label))
	for _, m := range families() {
		x.flow(Reason(""), s.commit, PTop, marked(tracked(stateless(m), ctEstablished, ctReply|ctInvalid), s.blocked, 0), apply(blocked), goTo(s.next))
		x.flow(Reason(""), s.commit, PNormal, tracked(m, ctNew, 0), apply(allowed), goTo(s.next))
		x.flow(Reason(""), s.commit, PNormal, marked(tracked(m, ctEstablished, 0), s.blocked, 1), apply(allowed), goTo(s.next))
	}
}

// families are the packets that the connection tracker takes: the switch wants their type named beside the action.
func families() []openflow.Match { return []openflow.Match{ipv4(match()), ipv6(match())} }

// Ids of security groups have no commas.
const comma = ","

// setOf is the id of the unit of a set of groups, and the name of its number.
func setOf(port *state.Port) string {
	if len(port.SecurityGroups) == 0 {
		return comma
	}
	return strings.Join(port.SecurityGroups, comma)
}

// groupsOf is the number of the set of security groups of a port; 0: none apply.
func (x *emitter) groupsOf(port *state.Port) uint32 {
	if !port.PortSecurity {
		return 0
	}
	return x.number(spaceGroups, setOf(port))
}

// compileFence has a port's groups compiled.
func compileFence(x *emitter, id string) {
	if port := get[*state.Port](x, id); port != nil {
		x.need(ruleGroups, setOf(port))
		logPort(x, port)
	}
}

// conjunction is what the rules of one group in one direction with one remote set have in common.
type conjunction struct {
	group     string
	egress    bool
	set       string // "": the rules with none
	stateless bool
}

// name is that of the conjunction's number, and the id of its set's unit.
func (j conjunction) name() string {
	kind := [2][2]string{{"in", "out"}, {"stateless-in", "stateless-out"}}
	return j.group + comma + kind[bit(j.stateless)][bit(j.egress)] + comma + j.set
}

func bit(on bool) int {
	if on {
		return 1
	}
	return 0
}

func parseConjunction(name string) (j conjunction) {
	var kind string
	j.group, kind, _ = strings.Cut(name, comma)
	kind, j.set, _ = strings.Cut(kind, comma)
	kind, j.stateless = strings.CutPrefix(kind, "stateless-")
	j.egress = kind == "out"
	return j
}

// number is the conjunction's.
func (j conjunction) number(x *emitter) uint32 {
	n := x.number(spaceConjunction, j.name())
	if j.stateless {
		n |= ConjStateless
	}
	return n
}

// clause is one clause of the conjunction: 0 the set of groups, 1 the rule, 2 the remote set.
func (j conjunction) clause(x *emitter, n uint8) openflow.Conjunction {
	of := uint8(3)
	if j.set == "" {
		of = 2
	}
	return openflow.Conjunction{ID: j.number(x), Clause: n, N: of}
}

func (j conjunction) side() side {
	if j.egress {
		return outSide()
	}
	return inSide()
}

func (j conjunction) priority() uint16 {
	if j.stateless {
		return pStateless
	}
	return pStateful
}

// conjunctionsOf are those of a group, each once.
func conjunctionsOf(group *state.SecurityGroup) []conjunction {
	var out []conjunction
	seen := map[conjunction]bool{}
	for i := range group.Rules {
		if j := conjunctionOf(group, &group.Rules[i]); !seen[j] {
			seen[j] = true
			out = append(out, j)
		}
	}
	return out
}

func conjunctionOf(group *state.SecurityGroup, r *state.SecurityRule) conjunction {
	return conjunction{group.ID, r.Egress, r.RemoteSet, group.Stateless}
}

// compileGroups says which groups a set has.
func compileGroups(x *emitter, id string) {
	number, stateful := x.number(spaceGroups, id), false
	about := state.Ref{Kind: state.KindSecurityGroup, ID: id}
	if id != comma {
		for g := range strings.SplitSeq(id, comma) {
			group := get[*state.SecurityGroup](x, g)
			if group == nil {
				continue
			}
			stateful = stateful || !group.Stateless
			x.need(ruleGroup, g)
			logGroup(x, g, id)
			for _, j := range conjunctionsOf(group) {
				has := match().Num(RGroups, uint64(number))
				if !j.stateless {
					has = tracked(has, 0, ctReply|ctRelated|ctInvalid)
				}
				x.clause(about, j.side().rules, j.priority(), has, j.clause(x, 0))
			}
		}
	}
	if stateful {
		return
	}
	for _, s := range []side{outSide(), inSide()} { // nothing to remember: no look-up, and none of before
		x.flow(about, s.track, PHigh, match().Num(RGroups, uint64(number)), apply(&openflow.CTClear{}), goTo(s.rules))
	}
}

// compileGroup says of packets what the rules of a group say.
func compileGroup(x *emitter, id string) {
	group := get[*state.SecurityGroup](x, id)
	if group == nil {
		return
	}
	for _, j := range conjunctionsOf(group) {
		s, number := j.side(), j.number(x)
		x.flow(group.Ref(), s.rules, j.priority(), match().Num(openflow.ConjID, uint64(number)), apply(set(s.rule, uint64(number))), goTo(s.commit))
		if j.set != "" {
			x.need(ruleSet, j.name())
		}
	}
	for i := range group.Rules {
		r := &group.Rules[i]
		j := conjunctionOf(group, r)
		for _, m := range matchesOf(r, j.side()) {
			x.clause(group.Ref(), j.side().rules, j.priority(), m, j.clause(x, 1))
		}
	}
}

// compileSet has the parts of a set of addresses compiled for a conjunction. A set without any allows nobody.
func compileSet(x *emitter, name string) {
	for _, part := range x.ids(state.ListPartsOfSet, parseConjunction(name).set) {
		x.need(rulePart, part+comma+name)
	}
}

// compilePart says who is in a part of a set.
func compilePart(x *emitter, id string) {
	id, name, _ := strings.Cut(id, comma)
	part, j := get[*state.AddressSet](x, id), parseConjunction(name)
	if part == nil {
		return
	}
	s, clause := j.side(), j.clause(x, 2)
	for _, p := range part.Prefixes {
		for _, p := range halves(p) {
			x.clause(part.Ref(), s.rules, j.priority(), s.remote(match(), p), clause)
		}
	}
}

// halves are a prefix, or the two halves of one that has all addresses: no match of an address may be that of a rule
// without one, since a flow can fulfil only one clause of a conjunction.
func halves(p netip.Prefix) []netip.Prefix {
	if p.Bits() > 0 {
		return []netip.Prefix{p}
	}
	upper := p.Addr().AsSlice()
	upper[0] = 0x80
	a, _ := netip.AddrFromSlice(upper)
	return []netip.Prefix{netip.PrefixFrom(p.Addr(), 1), netip.PrefixFrom(a, 1)}
}

// Rule is what a conjunction stands for, in RInRule, ROutRule and ct_label.
type Rule struct {
	Group     string // security group
	Egress    bool
	RemoteSet string // "": rules that name none
	Stateless bool
}

// RuleOf says what a conjunction of the program stands for.
func (c *Compiler) RuleOf(conjunction uint32) (Rule, bool) {
	name, ok := c.numbers[spaceConjunction].name[conjunction&^ConjStateless]
	if !ok {
		return Rule{}, false
	}
	j := parseConjunction(name)
	return Rule{j.group, j.egress, j.set, j.stateless}, true
}
