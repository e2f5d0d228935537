package flows

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Priorities of TNeighbor, from the top: what is at this host; the ports' own addresses; what was learned; the rest is asked for.
const (
	pNeighborHere    = PHigh
	pNeighborPort    = PNormal + 10
	pNeighborLearned = PNormal
	pNeighborAsk     = PLow
)

// hopTo is a packet that a router passes on to an address on a network.
func hopTo(network *state.Network, a netip.Addr) openflow.Match {
	m := match().Num(ROutNet, uint64(network.Key))
	if a.Is4() {
		return m.Addr(RNextHop, a)
	}
	b := a.As16()
	for i := range 4 { // a match knows the four registers only one by one
		m = m.Num(openflow.Reg(12+i), uint64(binary.BigEndian.Uint32(b[4*i:])))
	}
	return m
}

// found is a next hop's Ethernet address, and its port, 0 where it has none.
func found(mac state.MAC, port uint32) []openflow.Instruction {
	return []openflow.Instruction{apply(setMAC(openflow.EthDst, mac), set(RDest, uint64(port))), goTo(TSize)}
}

// portNeighbors are a port's addresses as next hops.
func portNeighbors(x *emitter, port *state.Port, network *state.Network) {
	for _, f := range port.FixedIPs {
		x.flow(port.Ref(), TNeighbor, pNeighborPort, hopTo(network, f.Address), found(port.MAC, port.Key)...)
	}
}

// hereToo is an address on a network that this host has itself: what is routed there is routed once more.
func hereToo(x *emitter, about state.Ref, network *state.Network, a netip.Addr, mac state.MAC) {
	x.flow(about, TNeighbor, pNeighborHere, hopTo(network, a), apply(setMAC(openflow.EthDst, mac), set(RDest, 0), raise(FlagTurn)), goTo(TSize))
}

// compileNeighbors makes what was learned of who has which address on a network: next hops, and addresses that move between ports. Of two for one
// address the one of the higher epoch holds.
func compileNeighbors(x *emitter, id string) {
	network := get[*state.Network](x, id)
	if network == nil {
		return
	}
	for a, n := range newest(all[*state.Neighbor](x, state.ListNeighborsOfNetwork, id)) {
		if n.Port == "" {
			x.flow(n.Ref(), TNeighbor, pNeighborLearned, hopTo(network, a), found(n.MAC, 0)...)
			refresh(x, n, network)
			continue
		}
		if port := get[*state.Port](x, n.Port); port != nil && !port.Down {
			x.flow(n.Ref(), TNeighbor, pNeighborLearned, hopTo(network, a), found(n.MAC, port.Key)...)
		}
	}
}

// newest is what holds of each address.
func newest(of []*state.Neighbor) map[netip.Addr]*state.Neighbor {
	best := map[netip.Addr]*state.Neighbor{}
	for _, n := range of {
		was := best[n.Address]
		if was == nil || cmp.Or(cmp.Compare(n.Epoch, was.Epoch), cmp.Compare(was.ID, n.ID)) > 0 {
			best[n.Address] = n
		}
	}
	return best
}

// refresh tells the agent when somebody outside says that he has an address that was learned: it may have moved.
func refresh(x *emitter, n *state.Neighbor, network *state.Network) {
	in := flagged(inNetwork(network.Key), FlagUplink, true)
	if n.Address.Is6() {
		x.flow(n.Ref(), TNDPrepare, PHigh, icmpv6(in, 136).Addr(openflow.NDTarget, n.Address), apply(x.heard(network)), goTo(TOutTrack))
		return
	}
	said := arp(in).Addr(openflow.ARPSPA, n.Address)
	x.flow(n.Ref(), TARP, PHigh, said.Num(openflow.ARPOp, 2), apply(x.heard(network)), goTo(TNDPrepare))
	x.flow(n.Ref(), TARP, PHigh, said.Num(openflow.ARPOp, 1).Addr(openflow.ARPTPA, n.Address), apply(x.heard(network)), goTo(TNDPrepare))
}
