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

// pause has the packet wait for the agent, which may change it or end it, before it goes on.
func pause(op Op) openflow.Action {
	c := punt(op)
	c.Pause = true
	return c
}

// hear tells the agent when a port says that it has an address that may move between ports: one of its allowed address pairs. Pairs with whole
// prefixes are not about such addresses. The port's own meter bounds the copies, so that a guest that announces without end keeps nobody else's from being heard.
func hear(x *emitter, port *state.Port) {
	copied := punt(OpAnnounce)
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
