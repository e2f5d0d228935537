package trace

import (
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
)

// exit is the way from a router to its external network: which host it leaves from, and with what source. It says whether the packet goes on
// from here to the next hop; the rest is told.
func (w *walk) exit(r *state.Router, out *state.Network) bool {
	if w.p.Type == IPv4 && w.exitFloating(r, out) {
		return true
	}
	g := r.Gateway
	acts := w.gatewayHost(r) == w.at
	if w.away && !acts {
		w.step("policy", r.Ref(), nil, "another host takes this one for the gateway of router %s", r.ID)
		w.drop("not-gateway")
		return false
	}
	if w.p.Type == IPv4 && g.Snat != state.SnatNone && ownedByGateway(r, w.p.Dst) {
		w.ownRouter(r)
		return false
	}
	if w.p.Type == IPv6 || g.Snat == state.SnatNone {
		return acts || w.leads(out) || w.redirect(r)
	}
	if a := w.translated(r, out); a != nil && (acts || w.leads(out)) {
		w.step("nat-out", a.Ref(), Fields{"ip_src"}, "source %s becomes %s", w.p.Src, a.Address)
		w.p.Src, w.p.EthSrc = a.Address, a.MAC
		return true
	}
	if !acts {
		return w.redirect(r)
	}
	for _, p := range g.Addresses {
		if p.Addr().Is4() {
			w.step("nat-out", r.Ref(), Fields{"ip_src"}, "source %s becomes the gateway's %s", w.p.Src, p.Addr())
			w.p.Src = p.Addr()
			return true
		}
	}
	return true
}

// ownedByGateway says whether an address is one of those that a router has on its external network.
func ownedByGateway(r *state.Router, a netip.Addr) bool {
	return r.Gateway != nil && slices.ContainsFunc(r.Gateway.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
}

// exitFloating is the source that a floating IP stands for, at the host of its port.
func (w *walk) exitFloating(r *state.Router, out *state.Network) bool {
	if out.Segment == state.Overlay { // refused
		return false
	}
	for _, f := range state.All[*state.FloatingIP](w.v, state.Index{List: state.ListFloatingOfRouter, ID: r.ID}) {
		if f.Network != out.ID || f.FixedIP != w.p.Src {
			continue
		}
		port := w.behind(f)
		if port == nil || port.Down || port.Host != w.at {
			continue
		}
		w.step("nat-out", f.Ref(), Fields{"ip_src"}, "source %s becomes floating %s", w.p.Src, f.Address)
		w.p.Src, w.p.EthSrc = f.Address, f.MAC
		return true
	}
	return false
}

// behind is the port that a floating IP is at.
func (w *walk) behind(f *state.FloatingIP) *state.Port {
	port := state.Find[*state.Port](w.v, f.Port)
	if port != nil && !port.Down && !port.Bound() {
		_, port = w.announced(port.Network, f.FixedIP)
	}
	return port
}

// announced is who was the last to announce an address, and his port; nil: nobody has, or somebody who is no port.
func (w *walk) announced(network string, a netip.Addr) (*state.Neighbor, *state.Port) {
	var best *state.Neighbor
	for _, n := range state.All[*state.Neighbor](w.v, state.Index{List: state.ListNeighborsOfNetwork, ID: network}) {
		if n.Address == a && (best == nil || n.Epoch > best.Epoch) {
			best = n
		}
	}
	if best == nil {
		return nil, nil
	}
	return best, state.Find[*state.Port](w.v, best.Port)
}

// translated is the address of this host's own that hides a router's sources, or nil.
func (w *walk) translated(r *state.Router, out *state.Network) *state.SnatAddress {
	mode := r.Gateway.Snat
	if mode == state.SnatGateway || mode == state.SnatBlocks && w.p.Proto != TCP && w.p.Proto != UDP {
		return nil
	}
	var shared *state.SnatAddress
	for _, a := range state.All[*state.SnatAddress](w.v, state.Index{List: state.ListSnatOfNetwork, ID: out.ID}) {
		if a.Host != w.at || (a.Ports == 1<<16) != (mode == state.SnatHost) {
			continue
		}
		if a.Router == r.ID {
			return a
		}
		if a.Router == "" && shared == nil {
			shared = a
		}
	}
	return shared
}

// gatewayHost is the host that acts as a router's gateway. Who is dead, the state does not say: the first that is named.
func (w *walk) gatewayHost(r *state.Router) string {
	if r.Gateway == nil {
		return ""
	}
	for _, h := range r.Gateway.Hosts {
		if state.Find[*state.Down](w.v, h) == nil || h == w.at {
			return h
		}
	}
	return ""
}

// leads says whether the host that the packet is at has a way into a network.
func (w *walk) leads(n *state.Network) bool {
	if n.Segment == state.Overlay {
		return true
	}
	h := state.Find[*state.Host](w.v, w.at)
	return h != nil && (w.uplinks == nil || w.uplinks(w.at, n.Physical))
}

// redirect takes the packet to the host that acts as the gateway, where the router goes on with it.
func (w *walk) redirect(r *state.Router) bool {
	here, there := state.Find[*state.Host](w.v, w.at), state.Find[*state.Host](w.v, w.gatewayHost(r))
	if here != nil && there != nil && here != there {
		if end, ok := here.Reach(there); ok {
			w.step("policy", there.Ref(), nil, "host %s at %s is the gateway of router %s", there.ID, end.Address, r.ID)
			w.at, w.away = there.ID, true
			w.route(r)
			return false
		}
	}
	w.step("policy", r.Ref(), nil, "no host is the gateway of router %s", r.ID)
	w.drop("no-gateway")
	return false
}

// beyond is the next hop on a network that leads outside.
func (w *walk) beyond(r *state.Router, out *state.Network, next netip.Addr) {
	if w.p.Dst == next && w.turn(out) {
		return
	}
	for _, n := range state.All[*state.Neighbor](w.v, state.Index{List: state.ListNeighborsOfNetwork, ID: out.ID}) {
		if n.Address == next && n.Port == "" {
			w.step("neighbor", n.Ref(), Fields{"ip_dst"}, "%s is at %s", next, n.MAC)
			w.r.end(End{Verdict: Outside, Network: out.ID, Host: w.at})
			return
		}
	}
	w.step("neighbor", out.Ref(), Fields{"ip_dst"}, "nobody in network %s is known to have %s: the agent asks", out.ID, next)
	w.served("neighbor")
}

// turn is a floating IP whose port is at this host: the packet goes out and comes back in, as if from outside.
func (w *walk) turn(out *state.Network) bool {
	if out.Segment == state.Overlay { // refused
		return false
	}
	for _, f := range state.All[*state.FloatingIP](w.v, state.Index{List: state.ListFloatingOfNetwork, ID: out.ID}) {
		port, r := w.behind(f), state.Find[*state.Router](w.v, f.Router)
		if f.Address != w.p.Dst || port == nil || port.Down || port.Host != w.at || r == nil || r.Down || r.Gateway == nil || r.Gateway.Network != out.ID {
			continue
		}
		w.step("neighbor", f.Ref(), Fields{"ip_dst"}, "%s is a floating IP of a port here: the packet comes back in", f.Address)
		if w.turned {
			w.drop("no-connection")
			return true
		}
		w.turned, w.net, w.p.EthDst = true, out, f.MAC
		if w.refused(r) {
			return true
		}
		w.step("nat-in", f.Ref(), Fields{"ip_dst"}, "destination %s becomes %s", w.p.Dst, f.FixedIP)
		w.p.Dst = f.FixedIP
		w.forward(r)
		return true
	}
	return false
}
