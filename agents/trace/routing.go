package trace

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/state"
)

// hop is where a route leads.
type hop struct {
	network string
	mac     state.MAC // the router's, there
	next    netip.Addr
	dest    netip.Prefix
	gateway bool
	drop    string // why nothing goes there
}

// route is a router's work.
func (w *walk) route(r *state.Router) {
	if !w.away && w.refused(r) {
		return
	}
	w.forward(r)
}

// forward is the way on by a router's routes.
func (w *walk) forward(r *state.Router) {
	hops := lookup(r, w.p.Dst)
	if len(hops) == 0 {
		w.step("route", r.Ref(), Fields{"ip_dst"}, "router %s has no route to %s", r.ID, w.p.Dst)
		w.drop("no-route")
		return
	}
	if hops[0].drop != "" {
		w.rule("route", r.Ref(), hops[0].dest.String(), Fields{"ip_dst"}, "router %s: %s", r.ID, hops[0].drop)
		w.drop(hops[0].drop)
		return
	}
	w.onward(r, w.alive(r, hops)[0])
}

// alive are the hops that are left when those are left out of which it is known that nobody takes a packet; all, where that is so of all.
func (w *walk) alive(r *state.Router, hops []hop) []hop {
	if len(hops) < 2 {
		return hops
	}
	var out []hop
	for _, h := range hops {
		if port := w.portWith(h); port == nil || !w.dead(port) {
			out = append(out, h)
			continue
		}
		w.rule("route", r.Ref(), h.dest.String(), Fields{"ip_dst"}, "router %s: nobody is at %s, one of %d next hops", r.ID, h.next, len(hops))
	}
	if len(out) == 0 {
		return hops
	}
	return out
}

// portWith is the port that has a next hop's address, by itself or because it has announced it last, where that is known; or nil. Who has announced it goes before one that is bound nowhere or down.
func (w *walk) portWith(h hop) *state.Port {
	n := state.Find[*state.Network](w.v, h.network)
	if n == nil || h.gateway && n.Segment != state.Overlay {
		return nil
	}
	var of *state.Port
	for _, port := range state.All[*state.Port](w.v, state.Index{List: state.ListPortsOfNetwork, ID: n.ID}) {
		for _, f := range port.FixedIPs {
			if f.Address != h.next {
				continue
			}
			if of = port; port.Bound() && !w.down(port) {
				return port
			}
		}
	}
	if _, by := w.announced(n.ID, h.next); by != nil {
		return by
	}
	return of
}

// dead says whether it is known that a port takes no packets: it is down, plugged nowhere, or on a host that is dead.
func (w *walk) dead(port *state.Port) bool {
	if port.Foreign {
		return false
	}
	if w.down(port) || port.Unplugged || port.Host == "" || state.Find[*state.Down](w.v, port.Host) != nil {
		return true
	}
	return w.plugsKnown(port.Host) && state.Find[*state.Plug](w.v, port.ID) == nil
}

// plugsKnown says whether the state is one that the host itself holds, which has what is plugged there: if it has anything of that, it has all.
func (w *walk) plugsKnown(host string) bool {
	known := false
	w.v.Each(state.Index{List: state.ListAll, ID: state.KindPlug.String()}, state.KindPlug, func(o state.Object) bool {
		port := state.Find[*state.Port](w.v, o.Ref().ID)
		known = port != nil && port.Host == host
		return !known
	})
	return known
}

// refused is what a router does not pass on.
func (w *walk) refused(r *state.Router) bool {
	p := &w.p
	switch {
	case w.ownedBy(r, p.Dst) && !w.mayAnswer(r):
		w.ownRouter(r)
		return true
	case p.Dst.IsMulticast(), p.Dst.IsLinkLocalUnicast(), p.Src.IsLinkLocalUnicast(), p.Src.IsUnspecified(), p.Src.IsLoopback(), p.Dst.IsLoopback(), p.Src.IsMulticast():
		w.step("router-in", r.Ref(), Fields{"ip_src", "ip_dst"}, "what no router passes on")
		w.drop("martian")
		return true
	case p.ofDHCPServer(), p.ofDHCPClient():
		w.step("router-in", r.Ref(), Fields{"udp_src", "udp_dst"}, "what DHCP servers and clients say to each other is for one link")
		w.drop("dhcp-routed")
		return true
	case p.TTL <= 1:
		w.step("router-in", r.Ref(), Fields{"ip_ttl"}, "its time is over")
		w.served("ttl")
		return true
	}
	return false
}

// ownRouter is what a router does with what is for itself.
func (w *walk) ownRouter(r *state.Router) {
	p := &w.p
	switch {
	case p.Type == IPv4 && p.Proto == ICMP && p.ICMPType == 8 || p.Type == IPv6 && p.Proto == ICMPv6 && p.ICMPType == 128:
		w.step("router-in", r.Ref(), Fields{"ip_dst", "icmp_type"}, "router %s answers", r.ID)
		w.r.end(End{Verdict: Answered, Host: w.at})
		if w.at == w.src.Host {
			w.copies(w.src, false)
		}
	case p.Proto == TCP || p.Proto == UDP:
		w.step("router-in", r.Ref(), Fields{"ip_dst", "ip_proto"}, "router %s itself has no such port", r.ID)
		w.served("unreachable")
	default:
		w.step("router-in", r.Ref(), Fields{"ip_dst"}, "router %s itself serves nothing", r.ID)
		w.drop("to-router")
	}
}

func (w *walk) ownedBy(r *state.Router, a netip.Addr) bool {
	for _, i := range r.Interfaces {
		if i.Network == w.net.ID && i.MAC.LinkLocal() == a {
			return true
		}
		for _, have := range i.Addresses {
			if have.Addr() == a {
				return true
			}
		}
	}
	return ownedByGateway(r, a)
}

// mayAnswer says whether a packet for the address that a router's gateway translates to may be an answer to who was translated.
func (w *walk) mayAnswer(r *state.Router) bool {
	p := &w.p
	return p.Type == IPv4 && r.Gateway != nil && r.Gateway.Snat != state.SnatNone && ownedByGateway(r, p.Dst) && (p.Proto != ICMP || p.ICMPType != 8)
}

// lookup are the next hops of the longest prefix; several share the load.
func lookup(r *state.Router, dst netip.Addr) []hop {
	var best []hop
	longest := -1
	offer := func(p netip.Prefix, connected bool, hops ...hop) {
		if !p.Contains(dst) {
			return
		}
		// A connected network comes before a static route to the same.
		n := 2 * p.Bits()
		if connected {
			n++
		}
		if n > longest {
			longest, best = n, hops
		}
	}
	for _, i := range r.Interfaces {
		for _, a := range i.Addresses {
			offer(a.Masked(), true, hop{network: i.Network, mac: i.MAC, next: dst, dest: a.Masked()})
		}
	}
	if g := r.Gateway; g != nil {
		for _, a := range g.Addresses {
			offer(a.Masked(), true, hop{network: g.Network, mac: g.MAC, next: dst, dest: a.Masked(), gateway: true})
		}
	}
	for _, s := range r.Routes {
		hops := []hop{}
		for _, n := range s.NextHops {
			if h, ok := towards(r, n); ok {
				h.dest = s.Destination
				hops = append(hops, h)
			}
		}
		switch {
		case len(s.NextHops) == 0:
			hops = []hop{{drop: "blackhole", dest: s.Destination}}
		case len(hops) == 0:
			hops = []hop{{drop: "no-next-hop", dest: s.Destination}}
		}
		offer(s.Destination, false, hops...)
	}
	if g := r.Gateway; g != nil {
		var v4, v6 []hop
		for _, n := range g.NextHops {
			h := hop{network: g.Network, mac: g.MAC, next: n, gateway: true}
			if n.Is4() {
				h.dest = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
				v4 = append(v4, h)
			} else {
				h.dest = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
				v6 = append(v6, h)
			}
		}
		if len(v4) > 0 {
			offer(v4[0].dest, false, v4...)
		}
		if len(v6) > 0 {
			offer(v6[0].dest, false, v6...)
		}
	}
	return best
}

// towards is the interface in whose prefix a next hop is.
func towards(r *state.Router, next netip.Addr) (hop, bool) {
	for _, i := range r.Interfaces {
		for _, a := range i.Addresses {
			if a.Masked().Contains(next) && a.Addr() != next {
				return hop{network: i.Network, mac: i.MAC, next: next}, true
			}
		}
	}
	if g := r.Gateway; g != nil {
		for _, a := range g.Addresses {
			if a.Masked().Contains(next) && a.Addr() != next {
				return hop{network: g.Network, mac: g.MAC, next: next, gateway: true}, true
			}
		}
	}
	return hop{}, false
}

// onward is the way from a router to the next hop.
func (w *walk) onward(r *state.Router, h hop) {
	w.rule("route", r.Ref(), h.dest.String(), Fields{"ip_dst"}, "router %s: %s by %s in network %s", r.ID, w.p.Dst, h.next, h.network)
	out := state.Find[*state.Network](w.v, h.network)
	if out == nil {
		w.drop("no-route")
		return
	}
	if h.gateway && !w.exit(r, out) {
		return
	}
	w.away = false
	w.net, w.p.EthSrc = out, h.mac
	w.p.TTL--
	w.routed++
	if w.p.Length > out.MTU {
		w.step("too-big", out.Ref(), Fields{"length"}, "%d bytes into an MTU of %d", w.p.Length, out.MTU)
		w.served("too-big")
		return
	}
	if h.gateway {
		w.beyond(r, out, h.next)
		return
	}
	for _, port := range state.All[*state.Port](w.v, state.Index{List: state.ListPortsOfNetwork, ID: out.ID}) {
		for _, f := range port.FixedIPs {
			if f.Address == h.next && port.Bound() && !w.down(port) {
				w.p.EthDst = port.MAC
				w.step("neighbor", port.Ref(), Fields{"ip_dst"}, "%s is port %s", h.next, port.ID)
				w.deliver(port)
				return
			}
		}
	}
	if next, nic := w.routerHaving(out, h.next, r); next != nil {
		if w.routed > 16 {
			w.drop("loop")
			return
		}
		w.step("neighbor", next.Ref(), Fields{"ip_dst"}, "%s is router %s", h.next, next.ID)
		w.p.EthDst = nic.MAC
		w.route(next)
		return
	}
	if n, by := w.announced(out.ID, h.next); by != nil && !by.Down {
		w.step("neighbor", n.Ref(), Fields{"ip_dst"}, "%s was announced by port %s last", h.next, by.ID)
		w.p.EthDst = n.MAC
		w.deliver(by)
		return
	}
	w.step("neighbor", out.Ref(), Fields{"ip_dst"}, "nobody in network %s is known to have %s", out.ID, h.next)
	if out.Segment != state.Overlay || out.External {
		w.served("neighbor")
		return
	}
	w.drop("no-neighbor")
}

func (w *walk) routerHaving(n *state.Network, a netip.Addr, not *state.Router) (*state.Router, *state.RouterInterface) {
	for _, r := range state.All[*state.Router](w.v, state.Index{List: state.ListRoutersOfNetwork, ID: n.ID}) {
		if r.Down || r.ID == not.ID {
			continue
		}
		for i := range r.Interfaces {
			for _, have := range r.Interfaces[i].Addresses {
				if r.Interfaces[i].Network == n.ID && have.Addr() == a {
					return r, &r.Interfaces[i]
				}
			}
		}
	}
	return nil, nil
}
