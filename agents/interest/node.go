package interest

import (
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
)

// node stands for an object that is there, or that others refer to.
type node struct {
	ref    state.Ref
	uses   int        // by facts of others; without uses and facts a node is forgotten
	facts  facts      // nil: the object is not there
	places []*section // where the object is, as far as its facts say; never changed, only replaced
	more   *more      // nil: nothing yet
}

// more is what few nodes have.
type more struct {
	own    *section                  // of networks, routers, security groups and address sets; of hosts: what is plugged there
	ports  *section                  // of networks: the ports
	beyond *section                  // of networks: what answers there beside ports
	back   [links]map[*node]struct{} // who refers here
	watch  *watch                    // of hosts that are watched
}

// link is a way in which an object refers to another that is followed backwards.
type link int

const (
	linkInterface link = iota // router: network
	linkGateway               // router: external network
	linkActs                  // router: host that may act as its gateway
	linkFloating              // floating IP: port
	linkSubport               // port: parent
	linkBehind                // neighbour: the port that has its address now
	linkLog                   // log: port
	linkMirrored              // mirror: the port whose packets it copies
	linkMirror                // mirror: the port that gets the copies
	links
)

// section is a part of hosts' sets.
type section struct {
	of      *node // the host whose own section it is; nil of all others
	members map[*node]struct{}
	subs    map[*watch]struct{}
}

// watch is a host whose set is kept.
type watch struct {
	host *node
	subs map[*section]struct{}
}

// hop is an address in a network.
type hop struct {
	network *node
	addr    netip.Addr
}

func (n *node) ext() *more {
	if n.more == nil {
		n.more = &more{}
	}
	return n.more
}

func sectionAt(s **section) *section {
	if *s == nil {
		*s = &section{nil, map[*node]struct{}{}, map[*watch]struct{}{}}
	}
	return *s
}

// own is the node's own section.
func (n *node) own() *section {
	s := sectionAt(&n.ext().own)
	if n.ref.Kind == state.KindHost {
		s.of = n
	}
	return s
}

func (n *node) ports() *section  { return sectionAt(&n.ext().ports) }
func (n *node) beyond() *section { return sectionAt(&n.ext().beyond) }

// from are the nodes that refer here by a link.
func (n *node) from(l link) map[*node]struct{} {
	if n == nil || n.more == nil {
		return nil
	}
	return n.more.back[l]
}

// facts is what of an object decides about sets.
type facts interface {
	// refers calls f with every node that the object refers to, and how; -1 where the way is not followed backwards.
	refers(f func(l link, to *node))
	// places are the sections that the object n is in.
	places(n *node) []*section
	// same says whether other facts, of the same kind, decide the same.
	same(other facts) bool
}

const plain link = -1

type hostFacts struct{ everyone *section }

func (f hostFacts) refers(func(link, *node)) {}

// places: every host has to know whose tunnels it takes packets from, and a host that has nothing to do with it now may still send some late.
func (f hostFacts) places(*node) []*section { return []*section{f.everyone} }

type networkFacts struct{ tunnelled bool }

func (f networkFacts) refers(func(link, *node))  {}
func (f networkFacts) places(n *node) []*section { return []*section{n.own()} }

// inNetwork are the facts of subnets and neighbours.
type inNetwork struct{ network, port *node }

func (f inNetwork) refers(each func(link, *node)) {
	each(plain, f.network)
	if f.port != nil {
		each(linkBehind, f.port)
	}
}
func (f inNetwork) places(*node) []*section { return []*section{f.network.own()} }

type portFacts struct {
	network *node
	on      []*node // hosts
	parent  *node
	groups  []*node
	project *node // nil: none
}

func (f *portFacts) refers(each func(link, *node)) {
	each(plain, f.network)
	if f.parent != nil {
		each(linkSubport, f.parent)
	}
	if f.project != nil {
		each(plain, f.project)
	}
	for _, list := range [][]*node{f.on, f.groups} {
		for _, to := range list {
			each(plain, to)
		}
	}
}

func (f *portFacts) places(n *node) []*section {
	out := f.known(n)
	for _, h := range f.hosts(n) {
		out = append(out, h.own())
	}
	for sub := range n.from(linkSubport) { // it says where its subports are
		for _, s := range sub.facts.(*portFacts).known(sub) {
			out = add(out, s)
		}
	}
	return out
}

// known are the sections of those who send to the port from elsewhere.
func (f *portFacts) known(n *node) []*section {
	out := []*section{f.network.ports()}
	for floating := range n.from(linkFloating) {
		out = add(out, floating.facts.(*floatingFacts).network.beyond())
	}
	for mirror := range n.from(linkMirror) {
		out = add(out, mirror.own())
	}
	for neighbor := range n.from(linkBehind) {
		out = add(out, neighbor.facts.(inNetwork).network.own())
	}
	return out
}

// hosts are those that the port is on: its own, its parent's and its subports'.
func (f *portFacts) hosts(n *node) []*node {
	out := f.on
	extend := func(other *node) {
		if p, ok := other.facts.(*portFacts); ok {
			for _, h := range p.on {
				out = add(out[:len(out):len(out)], h)
			}
		}
	}
	if f.parent != nil {
		extend(f.parent)
	}
	for sub := range n.from(linkSubport) {
		extend(sub)
	}
	return out
}

func add[T comparable](list []T, x T) []T {
	for _, have := range list {
		if have == x {
			return list
		}
	}
	return append(list, x)
}

type routerFacts struct {
	interfaces []*node
	gateway    *node // nil: none
	open       bool  // the gateway lets packets in as they are
	acts       []*node
	owns       []hop // its addresses
	wants      []hop // its next hops, in each of its networks
}

func (f *routerFacts) refers(each func(link, *node)) {
	for _, n := range f.interfaces {
		each(linkInterface, n)
	}
	for _, h := range f.acts {
		each(linkActs, h)
	}
	if f.gateway != nil {
		each(linkGateway, f.gateway)
	}
}

func (f *routerFacts) places(n *node) []*section {
	out := []*section{n.own()}
	for _, m := range f.interfaces { // its addresses there are answered for
		out = append(out, m.ports())
	}
	if f.gateway != nil {
		out = append(out, f.gateway.beyond())
	}
	return out
}

type floatingFacts struct{ network, router, port *node }

func (f *floatingFacts) refers(each func(link, *node)) {
	each(plain, f.network)
	if f.router != nil {
		each(plain, f.router)
	}
	if f.port != nil {
		each(linkFloating, f.port)
	}
}

func (f *floatingFacts) places(*node) []*section {
	out := []*section{f.network.beyond()}
	if f.router != nil {
		out = append(out, f.router.own())
	}
	if f.port != nil {
		if p, ok := f.port.facts.(*portFacts); ok {
			for _, h := range p.hosts(f.port) {
				out = append(out, h.own())
			}
		}
	}
	return out
}

type groupFacts struct{ sets []*node }

func (f *groupFacts) refers(each func(link, *node)) {
	for _, s := range f.sets {
		each(plain, s)
	}
}
func (f *groupFacts) places(n *node) []*section { return []*section{n.own()} }

type partFacts struct{ set *node }

func (f partFacts) refers(each func(link, *node)) { each(plain, f.set) }
func (f partFacts) places(*node) []*section       { return []*section{f.set.own()} }

// logFacts are the facts of a log: of a port, or of all ports of a security group or a project.
type logFacts struct{ port, group *node }

func (f logFacts) refers(each func(link, *node)) {
	switch {
	case f.port != nil:
		each(linkLog, f.port)
	case f.group != nil:
		each(plain, f.group)
	}
}

func (f logFacts) places(*node) []*section {
	var out []*section
	if f.group != nil {
		return append(out, f.group.own())
	}
	if f.port == nil {
		return nil
	}
	if p, ok := f.port.facts.(*portFacts); ok {
		for _, h := range p.hosts(f.port) {
			out = append(out, h.own())
		}
	}
	return out
}

// mirrorFacts are the facts of a mirror, which has a section with itself and its target.
type mirrorFacts struct{ port, target *node }

func (f mirrorFacts) refers(each func(link, *node)) {
	each(linkMirrored, f.port)
	each(linkMirror, f.target)
}
func (f mirrorFacts) places(n *node) []*section { return []*section{n.own()} }

type snatFacts struct {
	network, router *node
	on              []*node // who uses it, and who answers for it
}

func (f *snatFacts) refers(each func(link, *node)) {
	each(plain, f.network)
	if f.router != nil {
		each(plain, f.router)
	}
	for _, h := range f.on {
		each(plain, h)
	}
}

func (f *snatFacts) places(*node) []*section {
	out := []*section{f.network.beyond()}
	for _, h := range f.on {
		out = append(out, h.own())
	}
	return out
}

func (f hostFacts) same(other facts) bool      { return f == other }
func (f networkFacts) same(other facts) bool   { return f == other }
func (f inNetwork) same(other facts) bool      { return f == other }
func (f partFacts) same(other facts) bool      { return f == other }
func (f logFacts) same(other facts) bool       { return f == other }
func (f mirrorFacts) same(other facts) bool    { return f == other }
func (f *floatingFacts) same(other facts) bool { return *f == *other.(*floatingFacts) }
func (f *groupFacts) same(other facts) bool    { return slices.Equal(f.sets, other.(*groupFacts).sets) }

func (f *portFacts) same(other facts) bool {
	o := other.(*portFacts)
	return f.network == o.network && f.parent == o.parent && f.project == o.project && slices.Equal(f.on, o.on) && slices.Equal(f.groups, o.groups)
}

func (f *routerFacts) same(other facts) bool {
	o := other.(*routerFacts)
	return f.gateway == o.gateway && f.open == o.open && slices.Equal(f.interfaces, o.interfaces) && slices.Equal(f.acts, o.acts) &&
		slices.Equal(f.owns, o.owns) && slices.Equal(f.wants, o.wants)
}

func (f *snatFacts) same(other facts) bool {
	o := other.(*snatFacts)
	return f.network == o.network && f.router == o.router && slices.Equal(f.on, o.on)
}
