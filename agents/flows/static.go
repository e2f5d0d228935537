package flows

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// compileStatic makes the flows that every host has.
func compileStatic(x *emitter, _ string) {
	for _, t := range TableMap() {
		switch {
		case t.Miss != 0:
			x.flow(Reason(""), t.Table, PMiss, match(), goTo(t.Miss))
		case t.Reason != "":
			x.flow(Reason(t.Reason), t.Table, PMiss, match())
		}
	}
	staticTrace(x)
	staticTags(x)
	staticSource(x)
	staticPunt(x)
	staticTunnel(x)
	staticFence(x)
	staticSwitch(x)
	staticAnswers(x)
	staticRouter(x)
	staticAdmit(x)
	staticOutput(x)
	staticMirror(x)
}

// staticTags takes tags of VLAN 0 off: they carry a priority and no VLAN (IEEE 802.1Q).
func staticTags(x *emitter) {
	x.flow(Reason(""), TClassify, PTop, match().Masked(openflow.VLANVID, openflow.Num(0x1000), openflow.Num(0x1fff)), apply(&openflow.PopVLAN{}, lookUp(TClassify)))
}

// staticOutput sends packets out. Networks and subports that have tags put them on above.
func staticOutput(x *emitter) {
	x.flow(Reason(""), TOutput, PLow, match(), apply(&openflow.OutputReg{From: openflow.Whole(ROFPort)}))
	x.flow(Reason("not-plugged"), TOutput, PNormal, match().Num(ROFPort, 0))
	x.flow(Reason(""), TReply, PNormal, match(), apply(sendBack()...), goTo(TOutput))
}

// Priorities of TSourceL2 and TSourceIP, from the top: what nobody may send; what is not of a guest, or of one that may say anything; what no guest may say; what this guest
// may say of neighbours; what it may not; all else that it may.
const (
	pNobody    = PTop + 10
	pUnsecured = PTop
	pNever     = PHigh
	pOwnDAD    = PNormal + 40
	pOthersDAD = PNormal + 30
	pOwnND     = PNormal + 20
	pOthersND  = PNormal + 10
)

// nobodyV6 is the source of who has no address yet.
func nobodyV6() netip.Prefix { return host(netip.IPv6Unspecified()) }

// staticSource is what port security says of all ports. Ports without it pass above.
func staticSource(x *emitter) {
	// The tag that says which network it is has been taken off. One within it would go on into networks without tags, where it says another to whoever
	// is next: a physical switch, or a trunk's guest. Beyond its other_config:vlan-limit the switch knows of it by the packet's type only.
	for _, m := range []openflow.Match{
		match().Masked(openflow.VLANVID, openflow.Num(0x1000), openflow.Num(0x1000)),
		match().Num(openflow.EthType, ethVLAN), match().Num(openflow.EthType, ethProviderVLAN),
	} {
		x.flow(Reason("inner-tag"), TSourceL2, pNobody, m)
	}
	x.flow(Reason(""), TSourceL2, pUnsecured, flagged(match(), FlagUplink, true), goTo(TARP))
	x.flow(Reason("rogue-router"), TSourceL2, pNever, icmpv6(match(), 134))
	x.flow(Reason("rogue-router"), TSourceL2, pNever, icmpv6(match(), 137))
	x.flow(Reason("source-nd"), TSourceL2, pOthersDAD, icmpv6(source(match(), nobodyV6()), 135)) // RFC 4862 section 5.4.3
	x.flow(Reason("source-nd"), TSourceL2, pOthersND, icmpv6(match(), 135))
	x.flow(Reason("source-nd"), TSourceL2, pOthersND, icmpv6(match(), 136))

	x.flow(Reason("rogue-dhcp"), TSourceIP, pNever, proto(ipv4(match()), protoUDP).Num(openflow.UDPSrc, 67).Num(openflow.UDPDst, 68))
	x.flow(Reason("rogue-dhcp"), TSourceIP, pNever, proto(ipv6(match()), protoUDP).Num(openflow.UDPSrc, 547).Num(openflow.UDPDst, 546))
	nobody := netip.MustParsePrefix("0.0.0.0/32")
	x.flow(Reason(""), TSourceIP, PNormal, proto(source(match(), nobody), protoUDP).Num(openflow.UDPSrc, 68).Num(openflow.UDPDst, 67), goTo(TSourceRate))
	for _, kind := range []uint8{133, 135, 143} { // what is said before there is an address: RFC 4861 sections 4.1 and 4.3, RFC 3810 section 5.2.13
		x.flow(Reason(""), TSourceIP, PNormal, icmpv6(source(match(), netip.MustParsePrefix("::/128")), kind), goTo(TSourceRate))
	}
}

// staticPunt marks what may need the agent. Only packets of this host's ports come here.
func staticPunt(x *emitter) {
	for _, m := range []openflow.Match{
		proto(ipv4(match()), protoUDP).Num(openflow.UDPSrc, 68).Num(openflow.UDPDst, 67),
		proto(ipv6(match()), protoUDP).Num(openflow.UDPSrc, 546).Num(openflow.UDPDst, 547),
		icmpv6(match(), 133), metadata4(match()), metadata6(match()),
	} {
		x.flow(Reason(""), TPuntClass, PNormal, m, apply(raise(FlagPunt)), goTo(TPuntAdmit))
	}
}

// sendBack sends an answer where the question came from.
func sendBack() []openflow.Action {
	return []openflow.Action{copyField(RSource, RDest), set(ROFPort, 0), move(openflow.NXMInPort, 0, 16, ROFPort, 0), anywhere()}
}

// staticTunnel reads the keys of what comes from other hosts, and writes those of what goes there. What no known host has sent is dropped before: compileSender
// makes the flows of those that are known.
func staticTunnel(x *emitter) {
	for _, t := range all[*state.Tunnel](x, state.ListAll, state.KindTunnel.String()) {
		in := match().Num(openflow.InPort, uint64(t.OFPort))
		x.flow(Reason("tunnel-source"), TClassify, PLow, in)
		from := func(kind int, next Table, do ...openflow.Action) {
			do = append(do, raise(FlagTunnel))
			x.flow(t.Ref(), TTunnelIn, PNormal, in.Part(openflow.TunID, 21, 2, uint64(kind)), apply(do...), goTo(next)) //nolint:gosec // one of four types
			x.flow(t.Ref(), TTunnelIn, PHigh, in.Part(openflow.TunID, 21, 3, uint64(4|kind)),                           //nolint:gosec // the bit above them is TunnelTraceBit
				apply(append(do, raise(FlagTrace), lift(TraceArrived))...), goTo(next))
		}
		from(TunnelPort, TDestination, move(openflow.TunID, 0, 21, RDest, 0))
		from(TunnelMoved, TDestination, move(openflow.TunID, 0, 21, RDest, 0), raise(FlagOnce))
		from(TunnelRouter, TRouterMAC, move(openflow.TunID, 0, 21, openflow.Metadata, MetaRouterFrom))
		from(TunnelNetwork, TFlood, move(openflow.TunID, 0, 21, openflow.Metadata, 0))
	}
	key := func(kind int) []openflow.Action {
		return []openflow.Action{move(RDest, 0, 21, openflow.TunID, 0), load(openflow.TunID, 21, 3, uint64(kind)), //nolint:gosec // one of four types
			move(RFlags, FlagTrace, 1, openflow.TunID, TunnelTraceBit), anywhere()}
	}
	x.flow(Reason(""), TTunnel, PNormal, flagged(match(), FlagTunnel, false), apply(key(TunnelPort)...), goTo(TTapOut))
	x.flow(Reason(""), TTunnel, PNormal, flagged(flagged(match(), FlagTunnel, true), FlagOnce, false), apply(key(TunnelMoved)...), goTo(TTapOut))
	x.flow(Reason("moved-twice"), TTunnel, PHigh, flagged(match(), FlagOnce, true))
}

// staticSwitch sends what is for many to all.
func staticSwitch(x *emitter) {
	x.flow(Reason(""), TSwitch, PNormal, match().Part(openflow.EthDst, 40, 1, 1), goTo(TFlood))
}

// staticAnswers is what all responders share.
func staticAnswers(x *emitter) {
	// A probe for an address that the sender wants (RFC 5227, RFC 4862 section 5.4) must not be answered with its own; who has it answers. Those from a physical
	// network are of nobody who lives here, and agents ask so.
	x.flow(Reason(""), TARP, PTop, arp(flagged(match(), FlagUplink, false)).Addr(openflow.ARPSPA, netip.IPv4Unspecified()), goTo(TOutTrack))
	x.flow(Reason(""), TNDPrepare, PTop, icmpv6(source(match(), netip.MustParsePrefix("::/128")), 135), goTo(TOutTrack))
	x.flow(Reason(""), TND, PNormal, icmpv6(match(), 136), apply(
		copyField(openflow.EthSrc, openflow.NDTLL), set(openflow.NDOptionsType, 2), copyField(RScratch, openflow.NDReserved)), goTo(TReply))
	x.flow(Reason(""), TND, PNormal+10, icmpv6(match(), 136).Num(openflow.NDOptionsType, 0), apply(copyField(RScratch, openflow.NDReserved)), goTo(TReply))
}
