package apps

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
)

// How often the owner of an address that moves between ports is asked whether it still has it, and how long a silent one keeps it.
const (
	ownerProbed = 10 * time.Second
	ownerEvery  = time.Second
	ownersAtMax = 8192
)

// owners find out which port has an address of its allowed address pairs now: the virtual address of a pair of load balancers, say. A port
// has it that was the last to announce it, for as long as it answers.
type owners struct {
	host string

	mu      sync.Mutex // guards the fields below
	owned   map[hop]*owned
	adopted time.Time // when owners found before a restart were last looked for
}

type owned struct {
	port  string
	mac   state.MAC
	tries int
	next  time.Time
	told  time.Time
	epoch uint64 // of what was told
}

func newOwners(host string) *owners { return &owners{host: host, owned: map[hop]*owned{}} }

// learn takes what a port of this host announces.
func (o *owners) learn(c *Case) Outcome {
	if c.Port == nil {
		return Passed
	}
	addr, mac, ok := c.claim()
	if !ok {
		return Passed
	}
	defer c.letGo()
	if c.Net == nil || !allowed(c.Port, addr, mac) {
		return Foreign
	}
	h := hop{c.Net.Key, addr}
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.owned[h]
	if x == nil && len(o.owned) >= ownersAtMax {
		return Limited
	}
	was := state.Find[*state.Neighbor](c.View, h.id())
	same := x != nil && x.port == c.Port.ID && x.mac == mac
	if !same {
		x = &owned{port: c.Port.ID, mac: mac}
		o.owned[h] = x
	}
	x.tries, x.next = 0, c.Now.Add(ownerProbed)
	holds := was != nil && was.Port == c.Port.ID && was.MAC == mac && was.Host == o.host
	taken := was != nil && was.Epoch > x.epoch // by another, since this one told of it
	if holds || same && !taken && c.Now.Sub(x.told) < tellAgain {
		return Silent // as it was; or the state has not caught up
	}
	x.told, x.epoch = c.Now, nextEpoch(c, h.id())
	c.Learned = append(c.Learned, &state.Neighbor{
		ID: h.id(), Network: c.Net.ID, Address: addr, MAC: mac, Port: c.Port.ID, Host: o.host, Epoch: x.epoch,
	})
	return Noted
}

// allowed says whether an address is one that the port may have besides its own.
func allowed(p *state.Port, addr netip.Addr, mac state.MAC) bool {
	if slices.ContainsFunc(p.FixedIPs, func(f state.FixedIP) bool { return f.Address == addr }) {
		return false
	}
	return slices.ContainsFunc(p.AllowedPairs, func(x state.AddressPair) bool { return x.MAC == mac && x.Prefix.Contains(addr) })
}

func (o *owners) due(c *Case) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.adopt(c)
	next := o.adopted.Add(reachableTime)
	for h, x := range o.owned {
		if !x.next.After(c.Now) && !o.step(c, h, x) {
			delete(o.owned, h)
			continue
		}
		if x.next.Before(next) {
			next = x.next
		}
	}
	return next
}

// adopt takes over the owners that this host had found before it began anew: they are asked like all others.
func (o *owners) adopt(c *Case) {
	if !o.adopted.IsZero() && c.Now.Sub(o.adopted) < reachableTime {
		return
	}
	o.adopted = c.Now
	c.View.Each(state.Index{List: state.ListAll, ID: state.KindNeighbor.String()}, state.KindNeighbor, func(x state.Object) bool {
		was, _ := x.(*state.Neighbor)
		n := state.Find[*state.Network](c.View, was.Network)
		if was.Host == o.host && was.Port != "" && n != nil && o.owned[hop{n.Key, was.Address}] == nil {
			o.owned[hop{n.Key, was.Address}] = &owned{port: was.Port, mac: was.MAC, next: c.Now, told: c.Now, epoch: was.Epoch}
		}
		return true
	})
}

// step asks an owner. It returns false for one that is none any more.
func (o *owners) step(c *Case, h hop, x *owned) bool {
	was := state.Find[*state.Neighbor](c.View, h.id())
	if was != nil && (was.Host != o.host || was.Port != x.port) && was.Epoch > 0 {
		return false // another has it now
	}
	p := state.Find[*state.Port](c.View, x.port)
	if p == nil || !allowed(p, h.addr, x.mac) || x.tries >= solicitTries {
		c.Gone = append(c.Gone, state.Ref{Kind: state.KindNeighbor, ID: h.id()})
		return false
	}
	x.tries++
	x.next = c.Now.Add(ownerEvery)
	if h.addr.Is4() {
		// A probe, which names no address of its own: the answer is the same, and nobody's ARP table is changed (RFC 5227 section 2.1.1).
		c.sendPort(p.Key, c.write.arp(1, state.ServiceMAC, netip.IPv4Unspecified(), x.mac, 0, h.addr))
	} else {
		c.sendPort(p.Key, c.write.solicit(state.ServiceMAC, state.ServiceMAC.LinkLocal(), x.mac, h.addr))
	}
	return true
}
