package flows

import (
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// compileExternal joins a network to its physical network, for its own ports and for the routers that lead there. What lives in the network is not
// compiled by it: an external network may have the addresses of a whole site.
func compileExternal(x *emitter, id string) {
	network := get[*state.Network](x, id)
	if network == nil || network.Segment == state.Overlay {
		return
	}
	uplink := get[*state.Uplink](x, network.Physical)
	if uplink == nil {
		return
	}
	physical(x, network, uplink)
	x.need(ruleNeighbor, id)
	heard := x.heard(network)
	x.flow(network.Ref(), TDestination, PNormal, flagged(inNetwork(network.Key), FlagRouted, true).Num(RDest, 0), apply(set(ROFPort, uint64(uplink.OFPort))), goTo(TDestPPS))
	x.flow(network.Ref(), TNeighbor, pNeighborAsk, match().Num(ROutNet, uint64(network.Key)), apply(x.counted(set(RDest, 0), pause(OpNeighbor))...), goTo(TSize))
	// What the agent says to all of a network of which nothing lives here: compileFlood makes the flow for all others.
	x.flow(network.Ref(), TFlood, PLow, flagged(flagged(inNetwork(network.Key), FlagTunnel, false), FlagUplink, false), apply(set(ROFPort, uint64(uplink.OFPort))), goTo(TDestPPS))
	if self := get[*state.Host](x, x.c.cfg.Host); self != nil { // what the agent has asked
		in := ethDst(flagged(inNetwork(network.Key), FlagUplink, true), self.MAC())
		x.flow(network.Ref(), TARP, PTop-1, arp(in).Num(openflow.ARPOp, 2), apply(heard))
		x.flow(network.Ref(), TNDPrepare, PTop-1, icmpv6(in, 136), apply(heard))
	}
}

// outside are the actions that send a network's packet out by the bridge of its physical network.
func outside(network *state.Network, uplink *state.Uplink) []openflow.Action {
	if network.Segment != state.VLAN {
		return []openflow.Action{output(uplink.OFPort)}
	}
	return []openflow.Action{&openflow.PushVLAN{EtherType: ethVLAN}, set(openflow.VLANVID, 0x1000|uint64(network.VLAN)), output(uplink.OFPort)}
}
