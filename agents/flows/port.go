package flows

import (
	"math"
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// compilePort makes the way in of a port that is plugged here.
func compilePort(x *emitter, id string) {
	plug, port := get[*state.Plug](x, id), get[*state.Port](x, id)
	if plug == nil || port == nil || isDown(x, port) || !port.On(x.c.cfg.Host) {
		return
	}
	network := get[*state.Network](x, port.Network)
	if network == nil {
		return
	}
	x.need(ruleNetwork, network.ID)
	if port.PortSecurity {
		x.need(ruleFence, id)
	}
	if port.Host == x.c.cfg.Host {
		for _, f := range x.ids(state.ListFloatingOfPort, id) {
			x.need(ruleFloating, f)
		}
	}
	if port.QoS != (state.QoS{DSCP: -1}) {
		x.need(ruleLimit, id)
	}
	classify(x, plug, port, network)
	admit(x, port, network)
	hear(x, port)
	if !port.PortSecurity {
		do := []openflow.Instruction{goTo(TSourceRate)}
		if network.Learn && network.Segment != state.Overlay { // it may send for others, which are behind it
			do = append([]openflow.Instruction{apply(x.learn(port.Ref(), mostBehind, RDest, port.Key))}, do...)
		}
		x.flow(port.Ref(), TSourceL2, pUnsecured, from(port.Key), do...)
		return
	}
	for _, s := range sendersOf(port) {
		secure(x, port, s)
	}
}

// isDown says whether a port is down: by itself, or with the trunk that it is a part of.
func isDown(x *emitter, port *state.Port) bool {
	if port.Parent == "" {
		return port.Down
	}
	parent := get[*state.Port](x, port.Parent)
	return port.Down || parent == nil || parent.Down
}

func classify(x *emitter, plug *state.Plug, port *state.Port, network *state.Network) {
	in := match().Num(openflow.InPort, uint64(plug.OFPort))
	known := []openflow.Action{enter(network.Key), set(RSource, uint64(port.Key)), set(ROrigin, uint64(port.Key)), set(RZone, uint64(plug.Zone)), set(RGroups, uint64(x.groupsOf(port)))}
	if port.Parent != "" {
		tag := 0x1000 | uint64(port.ParentVLAN)
		x.flow(port.Ref(), TTrunk, PNormal, in.Num(openflow.VLANVID, tag), apply(append([]openflow.Action{&openflow.PopVLAN{}}, known...)...), goTo(TTap))
		share(x, plug, port, &openflow.PushVLAN{EtherType: ethVLAN}, set(openflow.VLANVID, tag))
		return
	}
	x.flow(port.Ref(), TClassify, PNormal, in.Num(openflow.VLANVID, 0), apply(known...), goTo(TTap))
	if len(x.ids(state.ListSubports, port.ID)) > 0 {
		x.flow(port.Ref(), TClassify, PLow, in.Masked(openflow.VLANVID, openflow.Num(0x1000), openflow.Num(0x1000)), goTo(TTrunk))
		share(x, plug, port)
	}
}

// share sends what is for a trunk's parent or subport out, also where it came in by the same port of the switch from a sibling, but
// never back to who sent it, unless by a router.
func share(x *emitter, plug *state.Plug, port *state.Port, tag ...openflow.Action) {
	x.flow(port.Ref(), TOutput, PHigh, to(port.Key), apply(append(tag, anywhere(), output(plug.OFPort))...))
	x.flow(Reason("own-packet"), TDestination, PTop, flagged(from(port.Key).Num(RDest, uint64(port.Key)), FlagRouted, false))
}

// sender is an Ethernet address that a port may send from, and the addresses that go with it.
type sender struct {
	mac      state.MAC
	prefixes []netip.Prefix
}

func sendersOf(port *state.Port) []sender {
	out := []sender{{mac: port.MAC}}
	add := func(mac state.MAC, p netip.Prefix) {
		for i := range out {
			if out[i].mac == mac {
				for _, there := range out[i].prefixes {
					if there == p {
						return
					}
				}
				out[i].prefixes = append(out[i].prefixes, p)
				return
			}
		}
		out = append(out, sender{mac, []netip.Prefix{p}})
	}
	v6 := false
	for _, f := range port.FixedIPs {
		add(port.MAC, host(f.Address))
		v6 = v6 || f.Address.Is6()
	}
	for _, a := range port.AllowedPairs {
		add(a.MAC, a.Prefix)
		v6 = v6 || a.Prefix.Addr().Is6()
	}
	for i := range out {
		if v6 {
			add(out[i].mac, host(out[i].mac.LinkLocal()))
		}
	}
	return out
}

// secure lets a sender's packets by. What is not let by here is dropped, and counted by table.
func secure(x *emitter, port *state.Port, s sender) {
	own := ethSrc(from(port.Key), s.mac)
	var v4, v6 bool
	for _, p := range s.prefixes {
		if p.Addr().Is4() {
			v4 = true
			said := arp(own).Num(openflow.ARPSHA, uint64(s.mac))
			x.flow(port.Ref(), TSourceL2, PNormal, said.Prefix(openflow.ARPSPA, p), goTo(TSourceRate))
			// Only who may have an address asks whether it is free (RFC 5227): a question would keep its owner from taking it.
			x.flow(port.Ref(), TSourceL2, PNormal, said.Num(openflow.ARPOp, 1).Addr(openflow.ARPSPA, netip.IPv4Unspecified()).Prefix(openflow.ARPTPA, p), goTo(TSourceRate))
		} else {
			v6 = true
			for _, tll := range []state.MAC{s.mac, 0} { // 0: the option is absent
				x.flow(port.Ref(), TSourceL2, pOwnND, icmpv6(own, 136).Num(openflow.NDTLL, uint64(tll)).Prefix(openflow.NDTarget, p), goTo(TSourceIP))
			}
			x.flow(port.Ref(), TSourceL2, pOwnDAD, icmpv6(source(own, nobodyV6()), 135).Num(openflow.NDSLL, 0).Prefix(openflow.NDTarget, p), goTo(TSourceIP))
		}
		x.flow(port.Ref(), TSourceIP, PNormal, source(own, p), goTo(TSourceRate))
	}
	if v4 {
		x.flow(port.Ref(), TSourceL2, PNormal, ipv4(own), goTo(TSourceIP))
	}
	if v6 {
		for _, sll := range []state.MAC{s.mac, 0} {
			x.flow(port.Ref(), TSourceL2, pOwnND, icmpv6(own, 135).Num(openflow.NDSLL, uint64(sll)), goTo(TSourceIP))
		}
		x.flow(port.Ref(), TSourceL2, PNormal, ipv6(own), goTo(TSourceIP))
	}
}

// compileLimit makes a plugged port's quality of service.
func compileLimit(x *emitter, id string) {
	port := get[*state.Port](x, id)
	if port == nil {
		return
	}
	q := port.QoS
	limit := func(kind uint32, t, next Table, m openflow.Match, flags uint16, rate, burst uint64, actions ...openflow.Action) {
		var do []openflow.Instruction
		if rate > 0 {
			if burst == 0 {
				burst = rate // a second's worth: Open vSwitch's own choice is as much
			}
			flags |= openflow.MeterBurst
			x.meter(kind|port.Key, flags, openflow.Band{Type: 1, Rate: uint32(min(rate, math.MaxUint32)), Burst: uint32(min(burst, math.MaxUint32))})
			do = append(do, throttle(kind|port.Key))
		}
		if len(actions) > 0 {
			do = append(do, apply(actions...))
		}
		if len(do) > 0 {
			x.flow(port.Ref(), t, PNormal, m, append(do, goTo(next))...)
		}
	}
	limit(MeterOutP, TSourcePPS, TSourceL2, from(port.Key), openflow.MeterPktPS, q.EgressPPS, 0)
	if q.IngressPPS > 0 || q.IngressKbps > 0 {
		x.flow(port.Ref(), TDestPPS, PHigh, flagged(to(port.Key), FlagApart, false), apply(apart(raise(FlagApart), lookUp(TDestPPS))))
	}
	limit(MeterInP, TDestPPS, TDestRate, to(port.Key), openflow.MeterPktPS, q.IngressPPS, 0)
	limit(MeterIn, TDestRate, TTapOut, to(port.Key), openflow.MeterKBPS, q.IngressKbps, q.IngressBurstKbit)
	if q.DSCP < 0 {
		limit(MeterOut, TSourceRate, TPuntClass, from(port.Key), openflow.MeterKBPS, q.EgressKbps, q.EgressBurstKbit)
		return
	}
	mark := set(openflow.IPDSCP, uint64(q.DSCP)) //nolint:gosec // 6 bits, checked when it was read
	limit(MeterOut, TSourceRate, TPuntClass, ipv4(from(port.Key)), openflow.MeterKBPS, q.EgressKbps, q.EgressBurstKbit, mark)
	limit(MeterOut, TSourceRate, TPuntClass, ipv6(from(port.Key)), openflow.MeterKBPS, q.EgressKbps, q.EgressBurstKbit, mark)
}

// apart does actions to a copy of the packet that is one to the datapath too. All copies of a flooded packet are the same packet to it otherwise, and a meter that has enough
// drops with one of them all that are still to be made: a guest at its limit would keep everybody behind it from being asked for. Open vSwitch sees whether it needs
// such a copy by the actions that stand here, and not by those of flows that are looked up (until 4.0): the first is one that it cannot take back, and does nothing. What is for one
// port alone, and the last copy, are as they were.
func apart(actions ...openflow.Action) openflow.Action {
	return &openflow.Clone{Actions: append([]openflow.Action{&openflow.OutputTrunc{Port: openflow.PortTable & 0xffff, MaxLen: 14}}, actions...)}
}
