package flows

import (
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// exit is a router's gateway as this host has it.
type exit struct {
	router  *state.Router
	network *state.Network // the external one
	mode    state.SnatMode
	acts    bool // this host is the gateway
	zone    uint16
	own     []*state.SnatAddress // what this host translates to
	shared  uint16               // zone of the network, where others share what own has; 0: nobody does
}

// pToGateway is between what leaves from here by its own address (PNormal) and what has a floating IP (PHigh).
const pToGateway = PNormal + 10

// compileGateway makes a router's way to its external network: which packets leave from here, which the gateway's host has to take out, and whose
// sources are translated to what. Floating IPs are not this unit's: they stand above all that is made here.
func compileGateway(x *emitter, id string) {
	router := get[*state.Router](x, id)
	if router == nil || router.Down || router.Gateway == nil {
		return
	}
	network := get[*state.Network](x, router.Gateway.Network)
	if network == nil {
		return
	}
	x.need(ruleExternal, network.ID)
	e := exit{router: router, network: network, mode: router.Gateway.Snat, acts: actsAsGateway(x, router)}
	var floating uint16
	if zone := get[*state.Zone](x, id); zone != nil {
		e.zone, floating = zone.Snat, zone.Dnat
	}
	if e.zone != 0 {
		e.addresses(x)
		e.translate(x)
	}
	for _, zone := range []uint16{e.zone, e.shared, floating} {
		if zone != 0 {
			e.contain(x, zone)
		}
	}
	e.policy(x)
	if e.mode != state.SnatNone {
		// Whose source is hidden is reached only by what he asked for.
		x.flow(Reason("not-translated"), TNatIn, PLow, ipv4(e.in()))
		// What is for the router itself, and belongs to no connection. A floating IP's guest comes first: it may answer who was translated to the address.
		for _, p := range router.Gateway.Addresses {
			if p.Addr().Is4() {
				x.flow(router.Ref(), TPolicy, pToGateway, dest(e.out(), host(p.Addr())), goTo(TRouterOwn))
			}
		}
	}
	if e.acts {
		e.act(x)
	}
}

// contain keeps what has not been translated from going out with its guest's address, which nobody outside is to see: what no connection is known of and none
// begins with; and what would begin one where there is no room for it, in the zone or among the ports of the address. The datapath in user space passes
// that on as it is; the kernel's drops it.
func (e *exit) contain(x *emitter, zone uint16) {
	in := func(state uint64) openflow.Match {
		return tracked(e.out(), state, 0).Num(openflow.CTZone, uint64(zone))
	}
	x.flow(Reason("untranslated"), TRouterOut, PTop, in(ctInvalid))
	for _, p := range e.inside() {
		x.flow(Reason("untranslated"), TRouterOut, PTop, source(in(ctNew), p))
		if zone == e.zone && e.shared != 0 {
			x.flow(Reason("untranslated"), TNatShared, PTop, source(in(ctNew), p))
		}
	}
	if zone == e.shared {
		x.flow(Reason("untranslated"), TRouterOut, PTop, source(in(ctNew), netip.PrefixFrom(between(0), 16)))
	}
}

// inside are the addresses of IPv4 that come to the router from its own side.
func (e *exit) inside() (out []netip.Prefix) {
	add := func(p netip.Prefix) {
		if p = p.Masked(); p.Addr().Is4() && p.Bits() > 0 && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, i := range e.router.Interfaces {
		for _, p := range i.Addresses {
			add(p)
		}
	}
	for _, r := range e.router.Routes {
		add(r.Destination)
	}
	return out
}

func (e *exit) in() openflow.Match {
	return inNetwork(e.network.Key).Part(openflow.Metadata, MetaRouterFrom, MetaRouterBits, uint64(e.router.Key))
}

func (e *exit) out() openflow.Match { return leavingTo(e.router, e.network) }

// addresses are what this host translates to: what is the router's own, or else what is for all routers.
func (e *exit) addresses(x *emitter) {
	if e.mode != state.SnatHost && e.mode != state.SnatBlocks {
		return
	}
	var own, shared []*state.SnatAddress
	for _, a := range all[*state.SnatAddress](x, state.ListSnatOnHost, state.OnHost(e.network.ID, x.c.cfg.Host)) {
		switch {
		case allPorts(a) != (e.mode == state.SnatHost):
		case a.Router == e.router.ID:
			own = append(own, a)
		case a.Router == "":
			shared = append(shared, a)
		}
	}
	if e.own = own; len(own) > 0 || len(shared) == 0 {
		return
	}
	if zone := get[*state.Zone](x, state.NetworkZone(e.network.ID)); zone != nil && zone.Snat != 0 {
		e.own, e.shared = shared, zone.Snat
	}
}

// allPorts says whether an address is a host's with all its ports.
func allPorts(a *state.SnatAddress) bool { return a.Ports == 1<<16 }

// covered are the packets that this host's own addresses are for: a block has no place for what has no ports, but errors about what has are translated
// where that is.
func (e *exit) covered(m openflow.Match) []openflow.Match {
	if e.mode != state.SnatBlocks {
		return []openflow.Match{ipv4(m)}
	}
	out := []openflow.Match{proto(ipv4(m), protoTCP), proto(ipv4(m), protoUDP)}
	for _, kind := range icmpErrors() {
		out = append(out, proto(ipv4(m), protoICMP).Num(openflow.ICMPv4Type, kind))
	}
	return out
}

// icmpErrors are the types of ICMP's messages that are about other packets: destination unreachable, time exceeded, parameter problem (RFC 792).
func icmpErrors() []uint64 { return []uint64{3, 11, 12} }

// policy sends to the gateway's host what cannot leave from here.
func (e *exit) policy(x *emitter) {
	if e.acts {
		return
	}
	x.flow(Reason("not-gateway"), TPolicy, PTop, flagged(e.out(), FlagTunnel, true)) // its host thinks that this is the gateway's
	away, reason := redirect(x, e.router)
	elsewhere := func(priority uint16, m openflow.Match) {
		if away != nil {
			x.flow(e.router.Ref(), TPolicy, priority, m, away...)
		} else {
			x.flow(Reason(reason), TPolicy, priority, m)
		}
	}
	if !x.leads(e.network) {
		elsewhere(PLow, e.out())
		return
	}
	if e.mode == state.SnatNone {
		return
	}
	elsewhere(PLow, ipv4(e.out()))
	if len(e.own) > 0 {
		for _, m := range e.covered(e.out()) {
			x.flow(e.router.Ref(), TPolicy, PNormal, m, goTo(TNeighbor))
		}
	}
}

// leads says whether this host has a way into a network: a bridge, or tunnels.
func (x *emitter) leads(network *state.Network) bool {
	return network.Segment == state.Overlay || get[*state.Uplink](x, network.Physical) != nil
}

// redirect sends a packet to the host that acts as a router's gateway, which takes it up where this one leaves it.
func redirect(x *emitter, router *state.Router) (away []openflow.Instruction, reason string) {
	end, ok := endOf(x, gatewayHost(x, router))
	if !ok {
		return nil, "no-gateway"
	}
	return []openflow.Instruction{apply(append(end.set(), set(openflow.TunID, TunnelKey(TunnelRouter, router.Key)),
		move(RFlags, FlagTrace, 1, openflow.TunID, TunnelTraceBit), set(ROFPort, uint64(end.port)), anywhere())...), goTo(TTapOut)}, ""
}

// translate makes the translation to this host's own addresses.
func (e *exit) translate(x *emitter) {
	if len(e.own) == 0 {
		return
	}
	if e.shared == 0 {
		for _, m := range e.covered(e.out()) {
			x.flow(e.router.Ref(), TNatOut, PNormal, m, apply(e.hide(x, e.zone, e.router.Key)...))
		}
		for _, a := range e.own {
			x.flow(a.Ref(), TNatIn, PNormal, dest(e.in(), host(a.Address)), apply(raise(FlagNatted), natKnown(e.zone, TRoute)))
			x.flow(Reason("no-connection"), TRoute, PTop, dest(e.in(), host(a.Address)))
		}
		return
	}
	// Tenants have the same addresses as others: each router's connections are first translated in a zone of its own to an address that nobody else
	// has, and then, all in one zone, to what they share. Answers go the same way back.
	mine := between(e.zone)
	for _, m := range e.covered(e.out()) {
		x.flow(e.router.Ref(), TNatOut, PNormal, m, apply(natSource(e.zone, TNatShared, mine)))
	}
	for _, m := range e.covered(e.out()) {
		x.flow(e.router.Ref(), TNatShared, PNormal, m, apply(e.hide(x, e.shared, e.router.Key)...))
	}
	x.flow(e.router.Ref(), TNatBack, PNormal, dest(inNetwork(e.network.Key), host(mine)), apply(routerBits(e.router.Key), natKnown(e.zone, TRoute)))
}

// between is the address of a router's connections between its own zone and a shared one, from the range for measurements within a
// network (RFC 2544, appendix C.2.2). No packet has it outside of the switch.
func between(zone uint16) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(zone >> 8), byte(zone)})
}

// hide are the actions that translate a connection's source to one of this host's addresses or blocks.
func (e *exit) hide(x *emitter, zone uint16, key uint32) []openflow.Action {
	one := func(a *state.SnatAddress) []openflow.Action {
		nat := &openflow.NAT{Flags: openflow.NATSrc, Min: a.Address.AsSlice()}
		if allPorts(a) {
			return []openflow.Action{setMAC(openflow.EthSrc, a.MAC), raise(FlagSource), viaNAT(zone, openflow.CTCommit, TRouterOut, nat)}
		}
		nat.MinPort, nat.MaxPort = max(a.FirstPort, 1), a.FirstPort+uint16(a.Ports-1) //nolint:gosec // below 65,536
		return []openflow.Action{viaNAT(zone, openflow.CTCommit, TRouterOut, nat)}
	}
	if len(e.own) == 1 {
		return one(e.own[0])
	}
	var buckets []openflow.Bucket
	for _, a := range e.own[:min(len(e.own), maxTargets)] {
		b := openflow.NewBucket(one(a)...)
		b.Weight = 1
		buckets = append(buckets, b)
	}
	x.group(GroupSnat|key, openflow.GroupSelect, buckets)
	return []openflow.Action{&openflow.Group{Group: GroupSnat | key}}
}

// maxTargets is how many next hops, or addresses or blocks of one host, share connections: so many buckets fit a message.
const maxTargets = 256

// act makes what only the host does that is the gateway: it is met at the gateway's address, and translates what no other host can.
func (e *exit) act(x *emitter) {
	g := e.router.Gateway
	for _, p := range g.Addresses {
		hereToo(x, e.router.Ref(), e.network, p.Addr(), g.MAC)
	}
	if e.mode == state.SnatNone || e.zone == 0 {
		return
	}
	if i := slices.IndexFunc(g.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() }); i >= 0 {
		a := g.Addresses[i].Addr()
		x.flow(e.router.Ref(), TNatOut, PLow, ipv4(e.out()), apply(natSource(e.zone, TRouterOut, a)))
		x.flow(e.router.Ref(), TNatIn, PNormal, dest(e.in(), host(a)), apply(raise(FlagNatted), natKnown(e.zone, TRoute)))
	}
}
