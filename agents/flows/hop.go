package flows

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/state"
)

// listHop names, beside the lists of the store, the ports that have an address on a network: state.AtAddress. The store does not keep them: few addresses are asked for, those
// that routes with several next hops lead to, and of each change the compiler asks whether it touches one of them.
const listHop state.List = 255

func depOfHop(network string, a netip.Addr) dep {
	return dep{list: listHop, id: state.AtAddress(network, a)}
}

// portWith is the port that has an address on a network, by itself or because it has announced it last; or nil. Who has announced it goes before one that is bound nowhere or down.
func (x *emitter) portWith(network *state.Network, a netip.Addr) *state.Port {
	x.read(depOfHop(network.ID, a))
	var found *state.Port
	x.view.Each(state.Index{List: state.ListPortsOfNetwork, ID: network.ID}, state.KindPort, func(o state.Object) bool {
		if p, ok := o.(*state.Port); ok && hasAddress(p, a) && (found == nil || p.ID < found.ID) {
			found = p
		}
		return true
	})
	if found != nil {
		if found = get[*state.Port](x, found.ID); found.Bound() && !isDown(x, found) {
			return found
		}
	}
	best := newest(all[*state.Neighbor](x, state.ListNeighborsOfNetwork, network.ID))[a]
	if best == nil || best.Port == "" {
		return found
	}
	return get[*state.Port](x, best.Port)
}

func hasAddress(p *state.Port, a netip.Addr) bool {
	for _, f := range p.FixedIPs {
		if f.Address == a {
			return true
		}
	}
	return false
}

// markHops has those compiled again who asked for a port by an address that it had or has.
func (c *Compiler) markHops(o state.Object) {
	p, ok := o.(*state.Port)
	if !ok || c.hops == 0 {
		return
	}
	for _, f := range p.FixedIPs {
		c.mark(depOfHop(p.Network, f.Address))
	}
}
