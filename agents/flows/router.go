package flows

import (
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// leg is a router in one of its networks.
type leg struct {
	network   *state.Network
	mac       state.MAC
	addresses []netip.Prefix // not masked
	gateway   bool
}

// legsOf are the legs of a router whose networks are known: its interfaces, then its gateway.
func legsOf(x *emitter, router *state.Router) []leg {
	var out []leg
	for _, i := range router.Interfaces {
		if n := get[*state.Network](x, i.Network); n != nil {
			out = append(out, leg{n, i.MAC, i.Addresses, false})
		}
	}
	if g := router.Gateway; g != nil {
		if n := get[*state.Network](x, g.Network); n != nil {
			out = append(out, leg{n, g.MAC, g.Addresses, true})
		}
	}
	return out
}

// own are the leg's addresses, with the link-local one where there are others of IPv6.
func (l leg) own() []netip.Addr {
	var out []netip.Addr
	v6 := false
	for _, p := range l.addresses {
		out = append(out, p.Addr())
		v6 = v6 || p.Addr().Is6()
	}
	if v6 && !slices.Contains(out, l.mac.LinkLocal()) {
		out = append(out, l.mac.LinkLocal())
	}
	return out
}

// routerBits makes a router the packet's; 0 is none.
func routerBits(key uint32) openflow.Action {
	return load(openflow.Metadata, MetaRouterFrom, MetaRouterBits, uint64(key))
}

// leavingTo is a packet that a router passes on to a network.
func leavingTo(router *state.Router, network *state.Network) openflow.Match {
	return atRouter(router.Key).Num(ROutNet, uint64(network.Key))
}

// compileRouter makes a router, as this host acts as it, and has the networks that it joins compiled.
func compileRouter(x *emitter, id string) {
	router := get[*state.Router](x, id)
	if router == nil || router.Down {
		return
	}
	acts := actsAsGateway(x, router)
	for _, i := range router.Interfaces {
		x.need(ruleNetwork, i.Network)
	}
	if router.Gateway != nil {
		x.need(ruleGateway, id)
	}
	legs := legsOf(x, router)
	seen := map[string]bool{}
	for _, l := range legs {
		arrive(x, router, l, acts)
		if !seen[l.network.ID] { // several interfaces in one network send with the address of the first
			seen[l.network.ID] = true
			leave(x, router, l, legs)
		}
		if !acts {
			disguise(x, router, l)
		}
	}
	routes(x, router, legs)
	admitElsewhere(x, router, acts)
}

// gatewayHost is the host that acts as a router's gateway: the first of those named that is not known to be dead; "" where none is named.
func gatewayHost(x *emitter, router *state.Router) string {
	if router.Gateway == nil {
		return ""
	}
	for _, h := range router.Gateway.Hosts {
		if h == x.c.cfg.Host || get[*state.Down](x, h) == nil {
			return h
		}
	}
	return ""
}

// actsAsGateway says whether this host is the one for a router: where the router is met from outside, and by what lives on its physical networks
// and on none of our hosts.
func actsAsGateway(x *emitter, router *state.Router) bool {
	return gatewayHost(x, router) == x.c.cfg.Host
}

// arrive makes how packets come to a leg. Every host answers its own guests. Who asks from a physical network is answered by the one host that acts as
// the gateway, and what comes from there for the router's address is that host's alone: the others would pass on a second copy of what a physical
// switch floods.
func arrive(x *emitter, router *state.Router, l leg, acts bool) {
	if !l.gateway || acts {
		in := inNetwork(l.network.Key)
		if l.network.Segment != state.Overlay && !acts {
			in = flagged(in, FlagUplink, false)
		}
		x.flow(router.Ref(), TRouterMAC, PNormal, ethDst(in, l.mac), apply(routerBits(router.Key)), goTo(TRouterIn))
		for _, a := range l.own() {
			answer(x, router.Ref(), in, a, l.mac, true)
		}
	}
	if !l.gateway {
		for _, p := range l.addresses { // the next hop of another router's route: every host acts as that router too
			hereToo(x, router.Ref(), l.network, p.Addr(), l.mac)
		}
	}
	if acts && !l.gateway {
		// From another host, for this one to act as the gateway: the Ethernet destination still says where the packet entered the router.
		x.flow(router.Ref(), TRouterMAC, PNormal, ethDst(inNetwork(0).Part(openflow.Metadata, MetaRouterFrom, MetaRouterBits, uint64(router.Key)), l.mac),
			apply(enter(l.network.Key)), goTo(TNatIn))
	}
	for _, a := range l.own() {
		m := dest(atRouter(router.Key), host(a))
		if l.gateway && a.Is4() && router.Gateway.Snat != state.SnatNone {
			m = proto(m, protoICMP).Num(openflow.ICMPv4Type, 8) // all else may be an answer to what was translated: TPolicy has the rest of it
		}
		x.flow(router.Ref(), TRouterIn, PTop, m, goTo(TRouterOwn))
	}
}

// leave makes how packets go on from a leg.
func leave(x *emitter, router *state.Router, l leg, legs []leg) {
	out := leavingTo(router, l.network)
	for _, m := range []openflow.Match{ipv4(out), ipv6(out)} { // a TTL is lowered only where there is known to be one
		x.flow(router.Ref(), TRouterOut, PNormal, m, apply(append([]openflow.Action{setMAC(openflow.EthSrc, l.mac)}, onward()...)...), goTo(TDestination))
	}
	var larger []string
	for _, other := range legs { // what comes from elsewhere fits, and is not measured
		if other.network.MTU > l.network.MTU && !slices.Contains(larger, other.network.ID) {
			larger = append(larger, other.network.ID)
			x.flow(router.Ref(), TSize, PNormal, out.Part(openflow.Metadata, 0, MetaNetworkBits, uint64(other.network.Key)), apply(measure(l.network.MTU)), goTo(TTooBig))
		}
	}
	if len(larger) > 0 {
		x.flow(router.Ref(), TTooBig, PNormal, flagged(out, FlagTooBig, true), apply(x.counted(punt(OpTooBig, tooBig(l.network.MTU)...))...))
	}
}

// onward is what every router does to what it passes on.
func onward() []openflow.Action {
	return []openflow.Action{
		&openflow.DecNWTTL{}, raise(FlagRouted), load(RFlags, FlagTunnel, 1, 0), move(ROutNet, 0, MetaNetworkBits, openflow.Metadata, 0), anywhere(),
	}
}

// measure compares the packet with what a network takes. The switch counts the Ethernet header, without the tag that is put on only where
// the packet leaves.
func measure(mtu int) openflow.Action {
	return &openflow.CheckPktLarger{Len: uint16(min(mtu+14, 0xffff)), To: openflow.Bit(RFlags, FlagTooBig)} //nolint:gosec // bounded
}

func tooBig(mtu int) []byte { return []byte{byte(mtu >> 8), byte(mtu)} }

// disguise gives what leaves with a router's address by a bridge to a physical network the host's own: all hosts act as the router, and the switches
// there would see its address at each of them.
func disguise(x *emitter, router *state.Router, l leg) {
	if l.network.Segment == state.Overlay {
		return
	}
	uplink, self := get[*state.Uplink](x, l.network.Physical), get[*state.Host](x, x.c.cfg.Host)
	if uplink == nil || self == nil {
		return
	}
	x.flow(router.Ref(), TOutput, PTop, ethSrc(inNetwork(l.network.Key), l.mac).Num(ROFPort, uint64(uplink.OFPort)),
		apply(append([]openflow.Action{setMAC(openflow.EthSrc, self.MAC())}, outside(l.network, uplink)...)...))
}

// staticRouter is what all routers do alike.
func staticRouter(x *emitter) {
	for _, ttl := range []uint64{0, 1} {
		x.flow(Reason(""), TRouterIn, PNormal+10, ipv4(match()).Num(openflow.IPTTL, ttl), apply(x.counted(punt(OpTTL))...))
		x.flow(Reason(""), TRouterIn, PNormal+10, ipv6(match()).Num(openflow.IPTTL, ttl), apply(x.counted(punt(OpTTL))...))
	}
	// RFC 1812 sections 5.3.7 and 4.2.3.1, RFC 3927 section 7, RFC 4291 sections 2.5.2 to 2.5.6 and 2.7.
	for _, p := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128", "fe80::/10", "ff00::/8"} {
		x.flow(Reason("martian"), TRouterIn, PHigh, source(match(), netip.MustParsePrefix(p)))
		x.flow(Reason("martian"), TRouterIn, PHigh, dest(match(), netip.MustParsePrefix(p)))
	}
	// What DHCP servers and clients say to each other is for one link, and relays ask from a server's port (RFC 2131 section 4.1). Security groups let it by,
	// and are not to be passed that way from afar, or to there. A client whose server is elsewhere renews through its relay.
	for i, m := range families() {
		for _, ports := range [][2]uint64{outSide().dhcp[i], inSide().dhcp[i]} {
			x.flow(Reason("dhcp-routed"), TRouterIn, PHigh, proto(m, protoUDP).Num(openflow.UDPSrc, ports[0]).Num(openflow.UDPDst, ports[1]))
		}
	}
	staticOwn(x)
	staticTurn(x)
	// What a floating IP or the like sends has its Ethernet source already.
	x.flow(Reason(""), TRouterOut, PHigh, ipv4(flagged(match(), FlagSource, true)), apply(onward()...), goTo(TDestination))
	x.flow(Reason(""), TRouterOut, PHigh, ipv6(flagged(match(), FlagSource, true)), apply(onward()...), goTo(TDestination))
}

// staticOwn answers for the addresses of routers. An echo reply goes back to where the request came from, whatever network its sender is in.
func staticOwn(x *emitter) {
	swap := func(a, b openflow.FieldID) []openflow.Action {
		return []openflow.Action{&openflow.Push{From: openflow.Whole(a)}, &openflow.Push{From: openflow.Whole(b)},
			&openflow.Pop{To: openflow.Whole(a)}, &openflow.Pop{To: openflow.Whole(b)}}
	}
	echo := func(m openflow.Match, src, dst, kind openflow.FieldID, reply uint64) {
		do := append(swap(openflow.EthSrc, openflow.EthDst), swap(src, dst)...)
		x.flow(Reason(""), TRouterOwn, PNormal, m, apply(append(do, set(kind, reply), &openflow.SetNWTTL{TTL: 64})...), goTo(TReply))
	}
	echo(proto(ipv4(match()), protoICMP).Num(openflow.ICMPv4Type, 8).Num(openflow.ICMPv4Code, 0), openflow.IPv4Src, openflow.IPv4Dst, openflow.ICMPv4Type, 0)
	echo(icmpv6(match(), 128).Num(openflow.ICMPv6Code, 0), openflow.IPv6Src, openflow.IPv6Dst, openflow.ICMPv6Type, 129)
	for _, n := range []int{protoTCP, protoUDP} {
		x.flow(Reason(""), TRouterOwn, PNormal, proto(ipv4(match()), n), apply(x.counted(punt(OpUnreachable, 3))...))
		x.flow(Reason(""), TRouterOwn, PNormal, proto(ipv6(match()), n), apply(x.counted(punt(OpUnreachable, 3))...))
	}
}

// staticTurn has a packet routed once more whose destination on an external network is at this host too, as if it had come back from there: a guest
// that speaks to a floating IP beside it, or to its own. What was translated on its way in does not turn: it would do so for ever.
func staticTurn(x *emitter) {
	turn := flagged(match(), FlagTurn, true)
	again := []openflow.Action{&openflow.CTClear{}, routerBits(0), set(RSource, 0)}
	for _, flag := range []int{FlagTunnel, FlagUplink, FlagRouted, FlagTooBig, FlagSource, FlagTurn} {
		again = append(again, load(RFlags, flag, 1, 0))
	}
	x.flow(Reason(""), TDestination, PTop, flagged(turn, FlagNatted, false), apply(append(again, lookUp(TRouterMAC))...))
	x.flow(Reason("no-connection"), TDestination, PTop, flagged(turn, FlagNatted, true))
}
