package flows

import (
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// way is where a route leads: a next hop, or the destination itself, on a network.
type way struct {
	hop     netip.Addr // invalid: the destination itself
	network *state.Network
	silent  bool // who lives in the network answers for himself: nothing is known of the hop
}

// route is what a router does with a prefix. Without ways it drops.
type route struct {
	prefix netip.Prefix
	ways   []way
	reason string // of the drop
}

// routes makes a router's routes: the longest prefix has the highest priority. Of one prefix, a connected route holds before a static one, and that
// before the gateway's.
func routes(x *emitter, router *state.Router, legs []leg) {
	all := routesOf(router, legs)
	for _, r := range all {
		r.ways = alive(x, r.ways)
		m := dest(atRouter(router.Key), r.prefix)
		priority := PNormal + uint16(r.prefix.Bits()) //nolint:gosec // at most 128
		switch len(r.ways) {
		case 0:
			x.flow(Reason(r.reason), TRoute, priority, m)
		case 1:
			x.flow(router.Ref(), TRoute, priority, m, apply(r.ways[0].take(r.prefix.Addr().Is4())...), goTo(TPolicy))
		default:
			x.flow(router.Ref(), TRoute, priority, m, apply(&openflow.Group{Group: balance(x, router, r)}))
		}
	}
}

// take makes a way the packet's.
func (w way) take(v4 bool) []openflow.Action {
	do := []openflow.Action{set(ROutNet, uint64(w.network.Key))}
	switch {
	case v4 && w.hop.IsValid():
		return append(do, setAddr(RNextHop, w.hop))
	case v4:
		return append(do, copyField(openflow.IPv4Dst, RNextHop))
	case w.hop.IsValid():
		return append(do, setAddr(RNextV6, w.hop))
	default:
		return append(do, copyField(openflow.IPv6Dst, RNextV6))
	}
}

// alive leaves out the ways of which it is known that nobody is there to take a packet. Where that is so of all, they stay as they are: what is sent
// is lost as it would be with one next hop, and does not leave by a wider route that its sender did not mean.
func alive(x *emitter, ways []way) []way {
	if len(ways) < 2 {
		return ways
	}
	var out []way
	for _, w := range ways {
		if !w.dead(x) {
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		return ways
	}
	return out
}

// dead says whether the next hop is an address of a port that is down, is plugged nowhere, or is on a host that is dead. An address that no port has is not known to be.
func (w way) dead(x *emitter) bool {
	if w.silent {
		return false
	}
	port := x.portWith(w.network, w.hop)
	return port != nil && dead(x, port)
}

// dead says whether it is known that a port takes no packets.
func dead(x *emitter, port *state.Port) bool {
	switch {
	case port.Foreign:
		return false
	case isDown(x, port), port.Unplugged, port.Host == "":
		return true
	case port.Host == x.c.cfg.Host:
		return get[*state.Plug](x, port.ID) == nil
	default:
		return get[*state.Down](x, port.Host) != nil
	}
}

// balance makes the group that spreads the connections of a route over its ways.
func balance(x *emitter, router *state.Router, r route) uint32 {
	var buckets []openflow.Bucket
	for _, w := range r.ways[:min(len(r.ways), maxTargets)] {
		b := openflow.NewBucket(append(w.take(r.prefix.Addr().Is4()), lookUp(TPolicy))...)
		b.Weight = 1
		buckets = append(buckets, b)
	}
	id := GroupRoute | x.number(spaceRoute, router.ID+" "+r.prefix.String())
	x.group(id, openflow.GroupSelect, buckets)
	return id
}

// routesOf are the routes of a router, each prefix once, in the order of their prefixes.
func routesOf(router *state.Router, legs []leg) []route {
	found := map[netip.Prefix]route{}
	add := func(r route) {
		if _, ok := found[r.prefix]; !ok {
			found[r.prefix] = r
		}
	}
	for _, l := range legs {
		for _, p := range l.addresses {
			if !p.Addr().IsLinkLocalUnicast() {
				add(route{prefix: p.Masked(), ways: []way{{network: l.network}}})
			}
		}
	}
	static := map[netip.Prefix][]netip.Addr{}
	for _, s := range router.Routes {
		static[s.Destination] = append(static[s.Destination], s.NextHops...)
	}
	for p, hops := range static {
		add(reach(p, hops, legs, false))
	}
	if g := router.Gateway; g != nil {
		for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
			hops := slices.DeleteFunc(slices.Clone(g.NextHops), func(a netip.Addr) bool { return a.Is4() != all.Addr().Is4() })
			if len(hops) > 0 {
				add(reach(all, hops, legs, true))
			}
		}
	}
	out := make([]route, 0, len(found))
	for _, r := range found {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b route) int { return a.prefix.Compare(b.prefix) })
	return out
}

// reach is the route by some next hops. Those that are on none of the router's networks are left out, but the gateway's own may be anywhere on its.
func reach(p netip.Prefix, hops []netip.Addr, legs []leg, gateway bool) route {
	r := route{prefix: p, reason: "no-next-hop"}
	if len(hops) == 0 {
		r.reason = "blackhole"
	}
	hops = slices.Clone(hops)
	slices.SortFunc(hops, netip.Addr.Compare)
	for _, hop := range slices.Compact(hops) {
		at := slices.IndexFunc(legs, func(l leg) bool {
			return slices.ContainsFunc(l.addresses, func(p netip.Prefix) bool { return p.Contains(hop) && p.Addr() != hop })
		})
		if at < 0 && gateway {
			at = slices.IndexFunc(legs, func(l leg) bool { return l.gateway })
		}
		if at >= 0 {
			r.ways = append(r.ways, way{hop, legs[at].network, legs[at].gateway && legs[at].network.Segment != state.Overlay})
		}
	}
	return r
}
