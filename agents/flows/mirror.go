package flows

import (
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Port mirrors. The copy of a packet has the key of its mirror for a destination, which is one of the ports' keys: in TMirror it becomes a packet for the port that the
// copies are for, or goes into the tunnel to that port's host, by the mirror's key, and there comes from TDestination to the same table. So a copy passes no port security, no security group and
// no limit, and nothing makes a copy of it: who mirrors is marked on the packet (FlagMirrorOut, FlagMirrorIn), and a copy has both marks from the beginning.

// pMirror is above all that TOutput does with a packet for a port.
const pMirror = PTop + 10

// tunnelMTU is what fits into any tunnel: a network's MTU where nobody has said more, and that of networks in tunnels is what their operator says.
const tunnelMTU = 1450

// staticMirror drops copies that are too big for where they go.
func staticMirror(x *emitter) {
	x.flow(Reason("mirror-too-big"), TMirror, PHigh, flagged(match(), FlagTooBig, true))
}

// compileMirror makes the way of a mirror's copies, on the hosts of the port that is mirrored and of the one that gets them.
func compileMirror(x *emitter, id string) {
	m := get[*state.Mirror](x, id)
	if m == nil {
		return
	}
	port := get[*state.Port](x, m.Port)
	here := get[*state.Plug](x, m.Port) != nil && port != nil && port.On(x.c.cfg.Host)
	if here {
		x.need(ruleMirrored, m.Port)
	}
	target, network := targetOf(x, m)
	if target == nil {
		return
	}
	if plug := get[*state.Plug](x, target.ID); plug != nil && target.Host == x.c.cfg.Host {
		x.flow(m.Ref(), TMirror, PNormal, to(m.Key), apply(enter(network.Key), set(RDest, uint64(target.Key)), set(ROFPort, uint64(plug.OFPort)), anywhere()), goTo(TOutput))
		x.flow(m.Ref(), TDestination, PHigh, flagged(to(m.Key), FlagTunnel, true), apply(raise(FlagMirrorOut), raise(FlagMirrorIn)), goTo(TMirror))
		return
	}
	if end, ok := endOf(x, target.Host); here && ok {
		x.flow(m.Ref(), TMirror, PNormal, to(m.Key), apply(append(end.set(), set(openflow.TunID, TunnelKey(TunnelPort, m.Key)), set(ROFPort, uint64(end.port)), anywhere())...), goTo(TOutput))
	}
}

// targetOf is the port that gets a mirror's copies, and its network; nil: none can.
func targetOf(x *emitter, m *state.Mirror) (*state.Port, *state.Network) {
	target := get[*state.Port](x, m.Target)
	if target == nil || isDown(x, target) {
		return nil, nil
	}
	network := get[*state.Network](x, target.Network)
	if network == nil {
		return nil, nil
	}
	return target, network
}

// compileMirrored copies what a port sends before anything else is done with it, and what it gets when nothing else will be. What the agent itself answers
// a guest goes straight to its device, and is not copied.
func compileMirrored(x *emitter, id string) {
	plug, port := get[*state.Plug](x, id), get[*state.Port](x, id)
	if plug == nil || port == nil || !port.On(x.c.cfg.Host) {
		return
	}
	var in, out []openflow.Action
	for _, id := range x.ids(state.ListMirrorsOfPort, id) {
		m := get[*state.Mirror](x, id)
		target, network := targetOf(x, m)
		if target == nil {
			continue
		}
		copied := &openflow.Clone{Actions: []openflow.Action{load(RFlags, FlagTrace, 1, 0), raise(FlagMirrorOut), raise(FlagMirrorIn), set(RDest, uint64(m.Key)),
			measure(mirrorMTU(x, target, network)), lookUp(TMirror)}}
		if m.Out {
			out = append(out, copied)
		}
		if m.In {
			in = append(in, copied)
		}
	}
	if len(out) > 0 {
		x.flow(port.Ref(), TTap, PHigh, flagged(from(port.Key), FlagMirrorOut, false), apply(append(out, raise(FlagMirrorOut), lookUp(TTap))...))
	}
	if len(in) == 0 {
		return
	}
	gets := flagged(to(port.Key).Num(ROFPort, uint64(plug.OFPort)), FlagMirrorIn, false)
	x.flow(port.Ref(), TOutput, pMirror, gets, apply(append(in, raise(FlagMirrorIn), lookUp(TOutput))...))
	if port.Parent == "" && len(x.ids(state.ListSubports, id)) == 0 { // the switch does not send its own packets back; of trunks, TDestination drops them
		x.flow(port.Ref(), TOutput, pMirror+10, gets.Num(openflow.InPort, uint64(plug.OFPort)), apply(raise(FlagMirrorIn), lookUp(TOutput)))
	}
}

// mirrorMTU is the largest copy that a port gets.
func mirrorMTU(x *emitter, target *state.Port, network *state.Network) int {
	if network.Segment != state.Overlay && target.Host != x.c.cfg.Host {
		return min(network.MTU, tunnelMTU)
	}
	return network.MTU
}
