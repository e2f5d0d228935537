package flows

import (
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

const (
	portDNS  = 53
	portHTTP = 80
)

// metadata4 and metadata6 are packets to where guests ask for their metadata.
func metadata4(m openflow.Match) openflow.Match {
	return proto(dest(m, host(state.MetadataIPv4())), protoTCP).Num(openflow.TCPDst, portHTTP)
}

func metadata6(m openflow.Match) openflow.Match {
	return proto(dest(m, host(state.MetadataIPv6())), protoTCP).Num(openflow.TCPDst, portHTTP)
}

// serveMetadata sends what a network's guests ask of the metadata address to the agent, whichever Ethernet address they sent it to: that of their
// gateway or, where the address is on the link, the agent's, which they are told.
func serveMetadata(x *emitter, network *state.Network) {
	asked := flagged(inNetwork(network.Key), FlagPunt, true)
	x.flow(network.Ref(), TPunt, PNormal, metadata4(asked), apply(punt(OpMetadata)))
	x.flow(network.Ref(), TPunt, PNormal, metadata6(asked), apply(punt(OpMetadata)))
	here := flagged(inNetwork(network.Key), FlagUplink, false)
	answer(x, network.Ref(), here, state.MetadataIPv4(), state.ServiceMAC, false)
	answer(x, network.Ref(), here, state.MetadataIPv6(), state.ServiceMAC, false)
}

// serveNames has the agent look at questions for names before they go on. They are not of what a port's meter counts: a guest may ask much, and what
// the agent does not answer must not be lost.
func serveNames(x *emitter, network *state.Network) {
	asked := flagged(inNetwork(network.Key), FlagUplink, false)
	for _, m := range []openflow.Match{ipv4(asked), ipv6(asked)} {
		x.flow(network.Ref(), TPuntClass, PNormal, proto(m, protoUDP).Num(openflow.UDPDst, portDNS), apply(pause(OpDNS)), goTo(TARP))
	}
}

// pause has the packet wait for the agent, which may change it or end it, before it goes on.
func pause(op Op) openflow.Action {
	return &openflow.Controller{MaxLen: openflow.NoLimit, Reason: openflow.ReasonAction, UserData: []byte{byte(op)}, Pause: true}
}

// await is pause as often as the operation's meter allows: what is more is dropped. The actions before are done at once.
func (x *emitter) await(op Op, next Table, before ...openflow.Action) []openflow.Instruction {
	out := []openflow.Instruction{apply(append(before, pause(op))...), goTo(next)}
	if x.c.cfg.OpRate > 0 {
		return append([]openflow.Instruction{throttle(MeterOp | uint32(op))}, out...)
	}
	return out
}

// hear tells the agent when a port says that it has an address that may move between ports: one of its allowed address pairs. Pairs with whole
// prefixes are not about such addresses. The port's own meter bounds the copies, so that a guest that announces without end keeps nobody else's from being heard.
func hear(x *emitter, port *state.Port) {
	copied := &openflow.Controller{MaxLen: openflow.NoLimit, Reason: openflow.ReasonAction, UserData: []byte{byte(OpAnnounce)}}
	if x.c.cfg.PuntRate > 0 {
		copied.Meter = MeterPunt | port.Key
	}
	for _, a := range port.AllowedPairs {
		if !a.Prefix.IsSingleIP() {
			continue
		}
		said := ethSrc(from(port.Key), a.MAC)
		if a.Prefix.Addr().Is4() {
			said = arp(said).Addr(openflow.ARPSPA, a.Prefix.Addr())
		} else {
			said = icmpv6(said, 136).Addr(openflow.NDTarget, a.Prefix.Addr())
		}
		x.flow(port.Ref(), TPuntClass, PNormal, said, apply(copied), goTo(TARP))
	}
}
