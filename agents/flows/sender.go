package flows

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// pKnownSender stands above the tunnel's own flow, which drops, and below the flows of guests' ports: what a guest sends is found before a tunnel is thought of.
const pKnownSender = PLow + 10

// compileSender lets in what another host sends by tunnels, whatever it has to do with this one now: a host from which a port has moved here still passes
// on what comes late, and routes need not be the same there and back.
func compileSender(x *emitter, id string) {
	host := get[*state.Host](x, id)
	if host == nil || id == x.c.cfg.Host {
		return
	}
	for _, end := range host.TunnelEnds { // one address may have several
		x.flow(host.Ref(), TClassify, pKnownSender, sentFrom(end.Address), goTo(TTunnelIn))
	}
}

// sentFrom is a packet that came by a tunnel from an address. Packets that came otherwise have none.
func sentFrom(a netip.Addr) openflow.Match {
	if a.Is4() {
		return match().Addr(openflow.TunSrc, a)
	}
	return match().Addr(openflow.TunIPv6Src, a)
}
