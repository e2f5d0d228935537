package trace

import (
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// claimed is the way of what is for an Ethernet address that ports have in their allowed address pairs. It returns false where it is for none of them.
func (w *walk) claimed() bool {
	var claimants []*state.Port
	for _, p := range state.All[*state.Port](w.v, state.Index{List: state.ListPortsOfNetwork, ID: w.net.ID}) {
		for _, a := range p.AllowedPairs {
			if a.MAC == w.p.EthDst && !w.down(p) {
				claimants = append(claimants, p)
				break
			}
		}
	}
	if len(claimants) == 1 && w.net.Segment == state.Overlay {
		w.step("switch", claimants[0].Ref(), Fields{"eth_dst"}, "to port %s, the only one that may have that address", claimants[0].ID)
		w.deliver(claimants[0])
		return true
	}
	if p := w.holder(claimants); p != nil {
		w.step("switch", p.Ref(), Fields{"eth_dst"}, "to port %s, which announced an address with that one last", p.ID)
		w.deliver(p)
		return true
	}
	return w.toEach(claimants)
}

// holder is the port that was the last to announce an address with the packet's destination.
func (w *walk) holder(claimants []*state.Port) *state.Port {
	var found *state.Port
	var epoch uint64
	for _, n := range state.All[*state.Neighbor](w.v, state.Index{List: state.ListNeighborsOfNetwork, ID: w.net.ID}) {
		for _, p := range claimants {
			with := n.MAC == w.p.EthDst
			for _, a := range p.AllowedPairs { // it has named its own, of an address that goes with the other
				with = with || n.MAC == p.MAC && a.MAC == w.p.EthDst && a.Prefix.IsSingleIP() && a.Prefix.Addr() == n.Address
			}
			if n.Port == p.ID && with && n.Epoch >= epoch && !w.dead(p) {
				found, epoch = p, n.Epoch
			}
		}
	}
	return found
}

// toEach is a copy for each of some ports, and one outside for those that are not here.
func (w *walk) toEach(claimants []*state.Port) bool {
	var to []*state.Port
	for _, p := range claimants {
		if !w.dead(p) && (w.net.Segment == state.Overlay || p.Host == w.at) {
			to = append(to, p)
		}
	}
	if len(to) == 0 {
		return false
	}
	w.step("switch", w.net.Ref(), Fields{"eth_dst"}, "%d ports may have that address, and none has announced it", len(to))
	if len(to) > flows.MostClaimants {
		w.flood()
		return true
	}
	w.r.Many = true
	if w.net.Segment != state.Overlay {
		w.r.end(End{Verdict: Outside, Network: w.net.ID, Host: w.at})
	}
	for _, p := range to {
		if p.ID != w.src.ID {
			each := *w
			each.deliver(p)
		}
	}
	return true
}
