package apps

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
)

// How an address that has come to this host is announced: more than a second apart, since receivers may ignore what comes faster (Linux's
// arp_notify and locktime), and often enough that one may be lost.
const (
	announcements     = 3
	announceEvery     = 1200 * time.Millisecond
	announcedAtOnce   = 64 // a burst of this many, then a pause: a host that begins may have thousands
	announcementPause = 100 * time.Millisecond
)

// announcer tells external and physical networks of addresses that have come to this host: floating IPs, addresses that sources are
// translated to, gateways, and ports that were plugged.
type announcer struct {
	host string

	mu    sync.Mutex // guards the fields below
	held  map[address]bool
	queue []announcement
}

// address is one on a network.
type address struct {
	network string
	addr    netip.Addr // invalid: none is told, only where the Ethernet address is
	mac     state.MAC
}

type announcement struct {
	address
	left int
	next time.Time
}

func newAnnouncer(host string) *announcer { return &announcer{host: host, held: map[address]bool{}} }

// acts says whether this host acts as a router's gateway: the first of those named that is not known to be dead does.
func (a *announcer) acts(v *state.View, r *state.Router) bool {
	for _, h := range r.Gateway.Hosts {
		if h == a.host || state.Find[*state.Down](v, h) == nil {
			return h == a.host
		}
	}
	return false
}

// announce queues an address, again if it already was.
func (a *announcer) announce(x address, now time.Time) {
	a.queue = slices.DeleteFunc(a.queue, func(q announcement) bool { return q.address == x })
	a.queue = append(a.queue, announcement{x, announcements, now})
}

// changed looks which addresses the changes have brought here.
func (a *announcer) changed(v *state.View, changes []state.Change, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ch := range changes {
		if ch.Old != nil {
			a.look(v, ch.Old, now)
		}
		if ch.New != nil {
			a.look(v, ch.New, now)
		}
	}
}

// look holds the addresses that depend on an object against what they were.
func (a *announcer) look(v *state.View, o state.Object, now time.Time) {
	switch o := o.(type) {
	case *state.FloatingIP:
		f := state.Find[*state.FloatingIP](v, o.ID)
		a.hold(address{o.Network, o.Address, o.MAC}, f != nil && *f == *o && a.here(v, behind(v, f)), now)
	case *state.SnatAddress:
		s := state.Find[*state.SnatAddress](v, o.ID)
		a.hold(address{o.Network, o.Address, o.MAC}, s != nil && s.Address == o.Address && s.Owner == a.host, now)
	case *state.Router:
		if g := o.Gateway; g != nil {
			r := state.Find[*state.Router](v, o.ID)
			for _, p := range g.Addresses {
				has := r != nil && r.Gateway != nil && !r.Down && slices.Contains(r.Gateway.Addresses, p) && r.Gateway.MAC == g.MAC && a.acts(v, r)
				a.hold(address{g.Network, p.Addr(), g.MAC}, has, now)
			}
		}
	case *state.Down:
		for _, r := range state.All[*state.Router](v, state.Index{List: state.ListAll, ID: state.KindRouter.String()}) {
			if r.Gateway == nil || !slices.Contains(r.Gateway.Hosts, o.ID) {
				continue
			}
			if a.acts(v, r) && state.Find[*state.Down](v, o.ID) == nil { // it is back, and may have been the gateway for others than us meanwhile
				for _, p := range r.Gateway.Addresses {
					delete(a.held, address{r.Gateway.Network, p.Addr(), r.Gateway.MAC})
				}
			}
			a.look(v, r, now)
		}
	case *state.Neighbor:
		if o.Port == "" {
			return
		}
		for _, f := range state.All[*state.FloatingIP](v, state.Index{List: state.ListAll, ID: state.KindFloatingIP.String()}) {
			if f.FixedIP == o.Address {
				a.look(v, f, now)
			}
		}
	case *state.Plug:
		if p := state.Find[*state.Port](v, o.ID); p != nil {
			a.look(v, p, now)
		}
	case *state.Port:
		for _, f := range state.All[*state.FloatingIP](v, state.Index{List: state.ListFloatingOfPort, ID: o.ID}) {
			a.look(v, f, now)
		}
		// Between hosts, an overlay needs no word; a physical network's switches must learn where the port is.
		if n := state.Find[*state.Network](v, o.Network); n != nil && n.Segment != state.Overlay {
			a.hold(address{network: o.Network, mac: o.MAC}, a.here(v, o.ID), now)
		}
	}
}

// behind is the port that a floating IP is at: the one that it is of, or, where that is bound nowhere, the one that announced its fixed IP last.
func behind(v *state.View, f *state.FloatingIP) string {
	p := state.Find[*state.Port](v, f.Port)
	if p == nil || p.Down || p.Bound() {
		return f.Port
	}
	var owner *state.Neighbor
	for _, n := range state.All[*state.Neighbor](v, state.Index{List: state.ListNeighborsOfNetwork, ID: p.Network}) {
		if n.Address == f.FixedIP && (owner == nil || n.Epoch > owner.Epoch) {
			owner = n
		}
	}
	if owner == nil {
		return ""
	}
	return owner.Port
}

// here says whether a port is plugged here, and packets to it come here.
func (a *announcer) here(v *state.View, port string) bool {
	p := state.Find[*state.Port](v, port)
	if p == nil || p.Down || p.Host != a.host {
		return false
	}
	if p.Parent != "" {
		port = p.Parent
	}
	return state.Find[*state.Plug](v, port) != nil
}

func (a *announcer) hold(x address, has bool, now time.Time) {
	had := a.held[x]
	switch {
	case has && !had:
		a.held[x] = true
		a.announce(x, now)
	case !has && had:
		delete(a.held, x)
		a.queue = slices.DeleteFunc(a.queue, func(q announcement) bool { return q.address == x })
	}
}

func (a *announcer) due(c *Case) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	var next time.Time
	sent := 0
	for i := range a.queue {
		q := &a.queue[i]
		if !q.next.After(c.Now) {
			if sent++; sent > announcedAtOnce {
				return c.Now.Add(announcementPause)
			}
			a.send(c, q.address)
			q.left--
			q.next = c.Now.Add(announceEvery)
		}
		if q.left > 0 && (next.IsZero() || q.next.Before(next)) {
			next = q.next
		}
	}
	a.queue = slices.DeleteFunc(a.queue, func(q announcement) bool { return q.left == 0 })
	return next
}

func (a *announcer) send(c *Case, x address) {
	n := state.Find[*state.Network](c.View, x.network)
	if n == nil {
		return
	}
	switch {
	case !x.addr.IsValid():
		// Not its addresses: a guest that is just finding out whether one is free would take that for somebody else's (RFC 4862 section 5.4).
		c.sendNetwork(n.Key, c.write.reverse(x.mac))
	case x.addr.Is4():
		c.sendNetwork(n.Key, c.write.arp(1, x.mac, x.addr, broadcast, 0, x.addr))
	default:
		c.sendNetwork(n.Key, c.write.advertise(x.mac, x.addr, false))
	}
}
