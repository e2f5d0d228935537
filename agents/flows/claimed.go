package flows

import (
	"cmp"
	"slices"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// pClaimed is below the ports' own Ethernet addresses, which nobody takes from them, and above what sends to where nobody is known.
const pClaimed = PNormal - 100

// MostClaimants is to how many ports what is for an Ethernet address that they share is sent, one by one, where it is not known who has it now. Where more share one, it is sent to all of the network.
const MostClaimants = 32

// compileClaimed sends what is for an Ethernet address that ports have in their allowed address pairs, the virtual one of VRRP (RFC 9568 section 7.3), say, to the port that has it now.
// That is the one that announced an address with it last. Where no one did, it is for each of them: who does not have it does not listen to it.
func compileClaimed(x *emitter, id string) {
	claimants := slices.DeleteFunc(all[*state.Port](x, state.ListPortsOfMAC, id), func(p *state.Port) bool { return isDown(x, p) })
	if len(claimants) == 0 {
		return
	}
	network := get[*state.Network](x, claimants[0].Network)
	if network == nil {
		return
	}
	mac := claimedBy(claimants[0], id)
	fits := ethDst(inNetwork(network.Key), mac)
	if p := holder(x, mac, network, claimants); p != nil {
		x.flow(p.Ref(), TSwitch, pClaimed, fits, apply(set(RDest, uint64(p.Key))), goTo(TDestination))
		return
	}
	if network.Segment != state.Overlay { // outside there may be others who have it, and one copy is for all of those
		claimants = slices.DeleteFunc(claimants, func(p *state.Port) bool { return p.Host != x.c.cfg.Host })
	}
	claimants = slices.DeleteFunc(claimants, func(p *state.Port) bool { return dead(x, p) })
	switch {
	case len(claimants) == 0:
		return // as for an address that nobody has
	case len(claimants) > MostClaimants:
		x.flow(network.Ref(), TSwitch, pClaimed, fits, goTo(TFlood))
		return
	}
	var each []openflow.Action
	for _, p := range claimants {
		each = append(each, &openflow.Clone{Actions: []openflow.Action{set(RDest, uint64(p.Key)), lookUp(TDestination)}})
	}
	if network.Segment != state.Overlay {
		if uplink := get[*state.Uplink](x, network.Physical); uplink != nil {
			out := append(slices.Clone(each), set(ROFPort, uint64(uplink.OFPort)))
			x.flow(network.Ref(), TSwitch, pClaimed+10, flagged(fits, FlagUplink, false), apply(out...), goTo(TDestPPS))
		}
	}
	x.flow(network.Ref(), TSwitch, pClaimed, fits, apply(each...))
}

// claimedBy is the Ethernet address of a port's allowed address pairs that a list of state.ListPortsOfMAC is about.
func claimedBy(p *state.Port, id string) state.MAC {
	for _, a := range p.AllowedPairs {
		if state.WithMAC(p.Network, a.MAC) == id {
			return a.MAC
		}
	}
	return 0
}

// holder is the port that has an Ethernet address that several may have; nil: that is not known.
func holder(x *emitter, mac state.MAC, network *state.Network, claimants []*state.Port) *state.Port {
	if len(claimants) == 1 && network.Segment == state.Overlay { // which nobody else can be in
		return claimants[0]
	}
	var found *state.Port
	var by *state.Neighbor
	for _, p := range claimants {
		for _, n := range all[*state.Neighbor](x, state.ListNeighborsOfPort, p.ID) {
			newer := by == nil || cmp.Or(cmp.Compare(n.Epoch, by.Epoch), cmp.Compare(by.ID, n.ID)) > 0
			if newer && n.Network == network.ID && goesWith(p, n, mac) && !dead(x, p) {
				found, by = p, n
			}
		}
	}
	return found
}

// goesWith says whether a port that has announced an address has an Ethernet address with it: the one that it named, or that of the address's pair where it named its own. Linux
// names that when it asks from such an address for others.
func goesWith(p *state.Port, n *state.Neighbor, mac state.MAC) bool {
	return n.MAC == mac || n.MAC == p.MAC && slices.Contains(p.AllowedPairs, state.AddressPair{Prefix: host(n.Address), MAC: mac})
}
