package flows

import (
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Whatever goes to the agent is counted by a meter of whoever caused it, so that a flood costs nobody else his answers: of a port of this host its own, one
// for each kind of service, so that it does not cost the port the others either; of all else the router's whose packet it is, or the network's.

// perSecond makes a meter that lets so many packets by in a second, with bursts as large.
func (x *emitter) perSecond(id, rate uint32) {
	x.meter(id, openflow.MeterPktPS|openflow.MeterBurst, openflow.Band{Type: 1, Rate: rate, Burst: rate})
}

// admit bounds what a port can have the agent do.
func admit(x *emitter, port *state.Port, network *state.Network) {
	if rate := x.c.cfg.PuntRate; rate > 0 {
		x.perSecond(MeterPunt|port.Key, rate)
		x.flow(port.Ref(), TPuntAdmit, PNormal, from(port.Key), throttle(MeterPunt|port.Key), goTo(TPunt))
	}
	if rate := x.c.cfg.OpRate; rate > 0 && x.any(state.ListRoutersOfNetwork, network.ID) {
		x.perSecond(MeterRouted|port.Key, rate)
		x.flow(port.Ref(), TRouterAdmit, PHigh, match().Num(ROrigin, uint64(port.Key)), throttle(MeterRouted|port.Key))
	}
	if x.c.cfg.Names && network.DNSDomain != "" {
		admitNames(x, port)
	}
}

// admitNames has the agent look at a port's questions for names before they go on. They have a meter of their own, since a guest may ask much.
func admitNames(x *emitter, port *state.Port) {
	do := []openflow.Instruction{apply(pause(OpDNS)), goTo(TARP)}
	if rate := x.c.cfg.NameRate; rate > 0 {
		x.perSecond(MeterNames|port.Key, rate)
		do = append([]openflow.Instruction{throttle(MeterNames | port.Key)}, do...)
	}
	for _, m := range []openflow.Match{ipv4(from(port.Key)), ipv6(from(port.Key))} {
		x.flow(port.Ref(), TPuntClass, PNormal, proto(m, protoUDP).Num(openflow.UDPDst, portDNS), do...)
	}
}

// A gateway does not know which guest of another host a packet is of. Its source says so in most cases: it is hashed into one of the router's shares.
const (
	gatewayShareBits = 3
	gatewayShareFrom = MetaRouterBits
)

// admitElsewhere bounds what a router has for the agent of packets that no port of this host has sent. Tenants' routers do not share; within one, a guest
// of another host leaves the others all shares but its own.
func admitElsewhere(x *emitter, router *state.Router, acts bool) {
	rate := x.c.cfg.OpRate
	if rate == 0 {
		return
	}
	x.perSecond(MeterRouter|router.Key, rate)
	x.flow(router.Ref(), TRouterAdmit, PLow, atRouter(router.Key), throttle(MeterRouter|router.Key))
	if !acts || router.Gateway == nil {
		return
	}
	share := openflow.Part{Field: RScratch, N: gatewayShareBits}
	x.flow(router.Ref(), TRouterAdmit, PNormal, flagged(atRouter(router.Key), FlagTunnel, true), apply(&openflow.Multipath{
		Fields: openflow.HashIPSrc, Basis: uint16(router.Key & 0xffff), Algorithm: openflow.ChooseModulo, Links: 1 << gatewayShareBits, To: share}), goTo(TRouterShare)) //nolint:gosec // 16 bits
	for i := range uint32(1 << gatewayShareBits) {
		id := MeterGateway | i<<gatewayShareFrom | router.Key
		x.perSecond(id, rate)
		x.flow(router.Ref(), TRouterShare, PNormal, atRouter(router.Key).Part(share.Field, share.From, share.N, uint64(i)), throttle(id))
	}
}

// staticAdmit is for what has come to a router that this host does not know, which should not be: its packets share one meter.
func staticAdmit(x *emitter) {
	if rate := x.c.cfg.OpRate; rate > 0 {
		x.perSecond(MeterOp, rate)
		x.flow(Reason(""), TRouterAdmit, PMiss, match(), throttle(MeterOp))
	}
}

// counted are actions for which a packet first passes the meter of whoever caused it; what is beyond that goes no further.
func (x *emitter) counted(actions ...openflow.Action) []openflow.Action {
	if x.c.cfg.OpRate == 0 {
		return actions
	}
	return append([]openflow.Action{lookUp(TRouterAdmit)}, actions...)
}

// heard sends the agent a copy of what is said outside on a network of who has which address.
func (x *emitter) heard(network *state.Network) openflow.Action {
	c := punt(OpAnnounce)
	if rate := x.c.cfg.OpRate; rate > 0 {
		x.perSecond(MeterAnnounce|network.Key, rate)
		c.Meter = MeterAnnounce | network.Key
	}
	return c
}
