package apps

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/state"
)

// The times of neighbour discovery (RFC 4861 section 10), which ARP follows here too.
const (
	solicitTries     = 3
	solicitEvery     = time.Second
	reachableTime    = 60 * time.Second // then it is asked whether it is still there
	forgetAfter      = 30 * time.Minute // since a packet last needed it; the next one finds it again
	failedFor        = 2 * time.Second  // that its packets are refused at once, twice as long each time up to
	failedAtMost     = time.Minute
	parkedEach       = 16
	parkedInAll      = 2048
	neighboursAtMost = 8192
	shareOf          = 8 // one party's packets take at most one in so many of the places; those from elsewhere together one in two
)

// hop is an address on a network, by the network's key.
type hop struct {
	network uint32
	addr    netip.Addr
}

// id is the id of the Neighbor of a hop.
func (h hop) id() string { return strconv.Itoa(int(h.network)) + "/" + h.addr.String() }

// phase is how much is known of a neighbour (RFC 4861 section 7.3.2).
type phase uint8

const (
	incomplete phase = iota // asked for, packets wait
	reachable
	probing // asked whether it is still there; packets go on meanwhile
	failed  // did not answer
)

// resolver finds the Ethernet addresses of hosts that nobody has told of: next hops on external and physical networks. Packets to them wait
// in here for as long as that takes.
type resolver struct {
	host   string
	errors *icmpErrors

	mu      sync.Mutex // guards the fields below
	hops    map[hop]*neighbour
	parked  int
	shares  map[party]places
	adopted time.Time // when neighbours found before a restart were last looked for
}

// places is what one party takes of the places that there are.
type places struct {
	parked int
	hops   int // that it was the first to ask for, and that have not been found
}

type neighbour struct {
	by     party // whose packet asked first
	owed   bool  // and whose share it is on, until it is found
	phase  phase
	mac    state.MAC
	asker  ends // who asks: its Ethernet and IP address
	tries  int
	fails  int
	next   time.Time // when something is to be done
	needed time.Time // when a packet last was to go there
	told   time.Time // when its address last was told of
	wait   []waiting
}

// waiting is a packet that waits for a neighbour, and whose share it is on.
type waiting struct {
	packet Packet
	by     party
}

func newResolver(host string, errors *icmpErrors) *resolver {
	return &resolver{host: host, errors: errors, hops: map[hop]*neighbour{}, shares: map[party]places{}}
}

// direct takes a packet whose next hop is not known.
func (r *resolver) direct(c *Case) Outcome {
	if c.ARP != nil || c.Is6 && c.nd(ndAdvertisement, 24) != nil {
		return Passed // of those who learn
	}
	if !c.NextHop.IsValid() || !c.Is4 && !c.Is6 {
		return Malformed
	}
	n, _ := c.View.ByKey(state.KindNetwork, c.OutNet).(*state.Network)
	if n == nil || c.Gateway == nil {
		return Foreign
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h, by := hop{n.Key, c.NextHop}, c.party()
	x := r.hops[h]
	if mac := r.known(c.View, h, n.ID); mac != 0 {
		if x != nil {
			x.needed = c.Now
			r.tell(c, h, x, n.ID)
		}
		c.forward(mac, n.Key)
		return Answered
	}
	switch {
	case x != nil && x.phase == failed && c.Now.Before(x.next):
		return r.errors.send(c, hostUnreachable())
	case x == nil && (len(r.hops) >= neighboursAtMost || r.full(by, neighboursAtMost, func(s places) int { return s.hops })):
		return Limited
	case x == nil || x.phase == failed:
		asker, ok := r.asker(c.View, c.NextHop.Is4())
		if !ok {
			return r.errors.send(c, hostUnreachable()) // no address here to ask from
		}
		if x == nil {
			x = &neighbour{by: by, owed: true}
			r.hops[h] = x
			r.charge(by, places{hops: 1})
		}
		x.phase, x.asker, x.tries, x.next = incomplete, asker, 0, c.Now
		r.solicit(c, h, x)
	}
	x.needed = c.Now
	if len(x.wait) >= parkedEach || r.parked >= parkedInAll || r.full(by, parkedInAll, func(s places) int { return s.parked }) {
		return Limited
	}
	x.wait = append(x.wait, waiting{c.Packet, by})
	r.parked++
	r.charge(by, places{parked: 1})
	return Noted
}

// settled takes a neighbour off the share of who asked for it.
func (r *resolver) settled(x *neighbour) {
	if x.owed {
		r.charge(x.by, places{hops: -1})
		x.owed = false
	}
}

// full says whether a party has all of some places that it may have.
func (r *resolver) full(by party, all int, of func(places) int) bool {
	return of(r.shares[by]) >= all/shareOf || by&afar != 0 && of(r.shares[afar]) >= all/2
}

// charge puts places on a party's share, or takes them off.
func (r *resolver) charge(by party, n places) {
	s := r.shares[by]
	s.parked, s.hops = s.parked+n.parked, s.hops+n.hops
	if r.shares[by] = s; s == (places{}) {
		delete(r.shares, by)
	}
	if by&afar != 0 && by != afar {
		r.charge(afar, n)
	}
}

// known is the address of a neighbour that was found here, or elsewhere.
func (r *resolver) known(v *state.View, h hop, network string) state.MAC {
	if x := r.hops[h]; x != nil && (x.phase == reachable || x.phase == probing) {
		return x.mac
	}
	return elsewhere(v, network, h.addr)
}

// elsewhere is the address that the state has for a neighbour.
func elsewhere(v *state.View, network string, addr netip.Addr) state.MAC {
	var best *state.Neighbor
	for _, n := range state.All[*state.Neighbor](v, state.Index{List: state.ListNeighborsOfNetwork, ID: network}) {
		if n.Address == addr && (best == nil || n.Epoch > best.Epoch) {
			best = n
		}
	}
	if best == nil {
		return 0
	}
	return best.MAC
}

// forward lets the packet go on to a neighbour.
func (c *Case) forward(mac state.MAC, network uint32) {
	copy(c.Frame[:6], mac.Bytes())
	if c.Paused != nil {
		c.resume(c.Frame, c.Paused)
		return
	}
	c.sendNetwork(network, c.Frame)
}

// asker is who asks: the host with an Ethernet address of its own, and no address of IPv4 (RFC 5227 section 2.1.1). Several hosts carry one router: what
// they asked with its address would move that from one to the other in the tables of all who hear them.
func (r *resolver) asker(v *state.View, four bool) (ends, bool) {
	self := state.Find[*state.Host](v, r.host)
	switch {
	case self == nil:
		return ends{}, false
	case four:
		return ends{srcMAC: self.MAC(), src: netip.IPv4Unspecified()}, true
	default:
		return ends{srcMAC: self.MAC(), src: self.MAC().LinkLocal()}, true
	}
}

// solicit asks for a neighbour, or, of one that is known, whether it is still there.
func (r *resolver) solicit(c *Case, h hop, x *neighbour) {
	x.tries++
	x.next = c.Now.Add(solicitEvery)
	to := x.mac
	if x.phase == incomplete {
		to = 0
	}
	if h.addr.Is6() {
		c.sendNetwork(h.network, c.write.solicit(x.asker.srcMAC, x.asker.src, to, h.addr))
		return
	}
	dst := to
	if to == 0 {
		dst = broadcast
	}
	c.sendNetwork(h.network, c.write.arp(1, x.asker.srcMAC, x.asker.src, dst, to, h.addr))
}

// learn takes an answer, or an announcement of one that was asked for.
func (r *resolver) learn(c *Case) Outcome {
	if c.Port != nil {
		return Passed // guests speak for themselves only, see owners
	}
	addr, mac, ok := c.claim()
	if !ok {
		return Passed
	}
	defer c.letGo()
	if c.Net == nil {
		return Foreign
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := hop{c.Net.Key, addr}
	x := r.hops[h]
	if x == nil {
		return Silent // nobody here needs it
	}
	if x.phase == incomplete || x.phase == failed || x.mac != mac {
		x.told = time.Time{}
	}
	r.settled(x)
	x.phase, x.mac, x.tries, x.fails, x.next = reachable, mac, 0, 0, c.Now.Add(reachableTime)
	r.tell(c, h, x, c.Net.ID)
	r.release(c, x, func(p *Case) { p.forward(mac, h.network) })
	return Noted
}

// tellAgain is how long the state may take to hold what it was told of. After that it has lost it, with a snapshot from above, say.
const tellAgain = 2 * time.Second

// tell tells of a neighbour that is known here, unless the state has it.
func (r *resolver) tell(c *Case, h hop, x *neighbour, network string) {
	if !x.told.IsZero() && (c.Now.Sub(x.told) < tellAgain || elsewhere(c.View, network, h.addr) != 0) {
		return
	}
	x.told = c.Now
	c.Learned = append(c.Learned, &state.Neighbor{ID: h.id(), Network: network, Address: h.addr, MAC: x.mac, Host: r.host, Epoch: nextEpoch(c, h.id())})
}

// claim is who says, by ARP or a neighbour advertisement, to have which address.
func (c *Case) claim() (addr netip.Addr, mac state.MAC, ok bool) {
	if a := c.ARP; a != nil {
		addr, _ = netip.AddrFromSlice(a.SourceProtAddress)
		mac = state.MACOf(a.SourceHwAddress)
		// A probe for an address has none of its own yet (RFC 5227 section 2.1.1).
		return addr, mac, a.Operation <= layers.ARPReply && !addr.IsUnspecified() && single(mac)
	}
	body := c.nd(ndAdvertisement, 24)
	if body == nil {
		return addr, 0, false
	}
	addr = netip.AddrFrom16([16]byte(body[4:20]))
	link, ok := ndOption(body[20:], 2)
	if mac = c.EthSrc; len(link) >= 6 {
		mac = state.MACOf(link)
	}
	return addr, mac, ok && !addr.IsMulticast() && !addr.IsUnspecified() && single(mac)
}

// single says whether an address is that of one interface.
func single(m state.MAC) bool { return m != 0 && m>>40&1 == 0 }

// letGo resumes a packet that waits and was only looked at.
func (c *Case) letGo() {
	if c.Paused != nil {
		c.resume(c.Frame, c.Paused)
	}
}

// nextEpoch is the epoch of what is said now of a neighbour: higher than whatever was said before.
func nextEpoch(c *Case, id string) uint64 {
	epoch := uint64(c.Now.UnixMilli()) //nolint:gosec // after 1970
	if was := state.Find[*state.Neighbor](c.View, id); was != nil {
		epoch = max(epoch, was.Epoch+1)
	}
	return epoch
}

// release has each packet that waits for a neighbour dealt with, in a case of its own.
func (r *resolver) release(c *Case, x *neighbour, f func(*Case)) {
	for i := range x.wait {
		p := &Case{}
		p.reset(&x.wait[i].packet, c.View, c.Now)
		findOwner(p)
		f(p)
		c.Replies = append(c.Replies, p.Replies...)
	}
	r.parked -= len(x.wait)
	for _, w := range x.wait {
		r.charge(w.by, places{parked: -1})
	}
	x.wait = nil
}

func (r *resolver) due(c *Case) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adopt(c)
	next := r.adopted.Add(reachableTime)
	for h, x := range r.hops {
		if x.phase == incomplete { // another host may have found it
			if n, _ := c.View.ByKey(state.KindNetwork, h.network).(*state.Network); n != nil {
				if mac := elsewhere(c.View, n.ID, h.addr); mac != 0 {
					r.release(c, x, func(p *Case) { p.forward(mac, h.network) })
					r.settled(x)
					delete(r.hops, h)
					continue
				}
			}
		}
		if !x.next.After(c.Now) && !r.step(c, h, x) {
			r.settled(x)
			delete(r.hops, h)
			continue
		}
		if x.next.Before(next) {
			next = x.next
		}
	}
	return next
}

// step does what is due of a neighbour. It returns false for one to be forgotten.
func (r *resolver) step(c *Case, h hop, x *neighbour) bool {
	switch x.phase {
	case incomplete:
		if x.tries < solicitTries {
			r.solicit(c, h, x)
			return true
		}
		x.phase, x.fails = failed, x.fails+1
		x.next = c.Now.Add(min(failedFor<<min(x.fails-1, 10), failedAtMost))
		r.release(c, x, func(p *Case) { r.errors.send(p, hostUnreachable()) })
		return true
	case reachable:
		if c.Now.Sub(x.needed) >= forgetAfter {
			c.Gone = append(c.Gone, state.Ref{Kind: state.KindNeighbor, ID: h.id()})
			return false
		}
		x.phase, x.tries = probing, 0
		r.solicit(c, h, x)
		return true
	case probing:
		if x.tries < solicitTries {
			r.solicit(c, h, x)
			return true
		}
		c.Gone = append(c.Gone, state.Ref{Kind: state.KindNeighbor, ID: h.id()})
	case failed: // long enough
	}
	return false
}

// adopt takes over what this host had found before it began anew, so that it is asked for again and does not stay for ever.
func (r *resolver) adopt(c *Case) {
	if !r.adopted.IsZero() && c.Now.Sub(r.adopted) < reachableTime {
		return
	}
	r.adopted = c.Now
	for _, was := range state.All[*state.Neighbor](c.View, state.Index{List: state.ListAll, ID: state.KindNeighbor.String()}) {
		n := state.Find[*state.Network](c.View, was.Network)
		if was.Host != r.host || was.Port != "" || n == nil || r.hops[hop{n.Key, was.Address}] != nil {
			continue
		}
		asker, ok := r.asker(c.View, was.Address.Is4())
		if !ok {
			return
		}
		r.hops[hop{n.Key, was.Address}] = &neighbour{phase: reachable, mac: was.MAC, asker: asker, next: c.Now, needed: c.Now, told: c.Now}
	}
}
