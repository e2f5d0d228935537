package trace

import (
	"github.com/headwater-cloud/headwater/agents/state"
)

// enter is the network: to a router, to a port, or to all.
func (w *walk) enter() {
	if w.p.EthDst>>40&1 == 1 {
		w.flood()
		return
	}
	if r := w.routerAt(); r != nil && (w.p.Type == IPv4 || w.p.Type == IPv6) {
		w.step("router-mac", r.Ref(), Fields{"eth_dst"}, "to router %s", r.ID)
		w.route(r)
		return
	}
	for _, port := range state.All[*state.Port](w.v, state.Index{List: state.ListPortsOfNetwork, ID: w.net.ID}) {
		if port.MAC == w.p.EthDst && port.Bound() && !w.down(port) {
			w.step("switch", port.Ref(), Fields{"eth_dst"}, "to port %s", port.ID)
			w.deliver(port)
			return
		}
	}
	if w.claimed() {
		return
	}
	if w.net.Segment != state.Overlay && w.net.Learn {
		w.step("switch", w.net.Ref(), Fields{"eth_dst"}, "no port has that address: to where a switch has seen it, or to all")
		w.flood()
		return
	}
	if w.net.Segment != state.Overlay {
		w.step("switch", w.net.Ref(), Fields{"eth_dst"}, "of nobody here: out to %s", w.net.Physical)
		w.r.end(End{Verdict: Outside, Network: w.net.ID, Host: w.at})
		return
	}
	w.step("switch", w.net.Ref(), Fields{"eth_dst"}, "nobody in network %s has that address", w.net.ID)
	w.drop("unknown-mac")
}

// routerAt is the router whose Ethernet address in the network the packet is for.
func (w *walk) routerAt() *state.Router {
	for _, r := range state.All[*state.Router](w.v, state.Index{List: state.ListRoutersOfNetwork, ID: w.net.ID}) {
		if r.Down {
			continue
		}
		for i := range r.Interfaces {
			if r.Interfaces[i].Network == w.net.ID && r.Interfaces[i].MAC == w.p.EthDst {
				return r
			}
		}
	}
	return nil
}

// flood is a copy for each port of the network but the sender.
func (w *walk) flood() {
	w.r.Many = true
	w.step("flood", w.net.Ref(), Fields{"eth_dst"}, "to all of network %s", w.net.ID)
	if w.net.Segment != state.Overlay {
		w.r.end(End{Verdict: Outside, Network: w.net.ID, Host: w.at})
	}
	for _, port := range state.All[*state.Port](w.v, state.Index{List: state.ListPortsOfNetwork, ID: w.net.ID}) {
		if port.ID == w.src.ID || w.down(port) || port.Host == "" || port.Foreign {
			continue
		}
		if w.net.Segment != state.Overlay && port.Host != w.at {
			continue // the physical network brings it there
		}
		each := *w
		each.deliver(port)
	}
}

// deliver is the way from the network to the guest, on its host.
func (w *walk) deliver(port *state.Port) {
	switch {
	case port.Foreign && w.net.Segment != state.Overlay, w.net.Segment != state.Overlay && port.Host != "" && port.Host != w.at:
		w.step("destination", port.Ref(), Fields{"eth_dst"}, "through %s", w.net.Physical)
		w.r.end(End{Verdict: Outside, Network: w.net.ID, Host: w.at})
		return
	case port.Host == "":
		w.step("destination", port.Ref(), nil, "port %s is plugged nowhere", port.ID)
		w.drop("unknown-destination")
		return
	case port.Host != w.at:
		from, to := state.Find[*state.Host](w.v, w.at), state.Find[*state.Host](w.v, port.Host)
		if from == nil || to == nil {
			w.drop("unknown-destination")
			return
		}
		end, ok := from.Reach(to)
		if !ok {
			w.step("destination", to.Ref(), nil, "hosts %s and %s have no underlay zone in common", from.ID, to.ID)
			w.drop("unknown-destination")
			return
		}
		w.step("tunnel", to.Ref(), nil, "to host %s at %s in %s, key %#x", to.ID, end.Address, end.Encap, 1<<21|port.Key)
		w.at = to.ID
	}
	w.step("destination", port.Ref(), nil, "port %s is here", port.ID)
	// Out of a trunk's device its own packet could go back; out of another's the switch sends none that came in there.
	own := w.routed == 0 && port.ID == w.src.ID
	trunk := port.Parent != "" || len(w.v.IDs(state.Index{List: state.ListSubports, ID: port.ID})) > 0
	if !(own && trunk) && !w.fence(port, false) {
		return
	}
	if own {
		w.step("output", port.Ref(), nil, "it is the sender")
		w.drop("own-packet")
		return
	}
	w.r.end(End{Verdict: Delivered, Port: port.ID, Host: w.at})
	w.copies(port, false)
}
