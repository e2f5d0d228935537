package flows

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// viaNAT hands the packet to the connection tracker in a zone, which translates it; what it sends on goes on in a table.
func viaNAT(zone uint16, flags uint16, next Table, nat *openflow.NAT) openflow.Action {
	return &openflow.CT{Flags: flags, Zone: zone, Table: uint8(next), Actions: []openflow.Action{nat}}
}

// natSource and natDest translate the first packet of a connection; the rest of it follows, both ways.
func natSource(zone uint16, next Table, a netip.Addr) openflow.Action {
	return viaNAT(zone, openflow.CTCommit, next, &openflow.NAT{Flags: openflow.NATSrc, Min: a.AsSlice()})
}

func natDest(zone uint16, next Table, a netip.Addr) openflow.Action {
	return viaNAT(zone, openflow.CTCommit, next, &openflow.NAT{Flags: openflow.NATDst, Min: a.AsSlice()})
}

// natKnown translates what belongs to a connection that is known.
func natKnown(zone uint16, next Table) openflow.Action {
	return viaNAT(zone, 0, next, &openflow.NAT{})
}

// floatingPort is the port that a floating IP is at: the one that it is of, or, where that is bound nowhere, the one that announced its fixed IP last.
func floatingPort(x *emitter, f *state.FloatingIP) *state.Port {
	port := get[*state.Port](x, f.Port)
	if port == nil || port.Down || port.Bound() {
		return port
	}
	n := newest(all[*state.Neighbor](x, state.ListNeighborsOfNetwork, port.Network))[f.FixedIP]
	if n == nil {
		return nil
	}
	return get[*state.Port](x, n.Port)
}

// compileFloating makes a floating IP at the host of its port, and nowhere else: there it is answered for, and translated to the port's own address and
// back. Security groups see the port's own address. Where the external network travels in tunnels there is nobody outside to answer: hosts would have to be told at which of them each
// address is, and the agent refuses it.
func compileFloating(x *emitter, id string) {
	f := get[*state.FloatingIP](x, id)
	if f == nil {
		return
	}
	port, router, outer := floatingPort(x, f), get[*state.Router](x, f.Router), get[*state.Network](x, f.Network)
	zone := get[*state.Zone](x, f.Router)
	if port == nil || port.Down || port.Host != x.c.cfg.Host || outer == nil || zone == nil || zone.Dnat == 0 {
		return
	}
	if outer.Segment == state.Overlay || router == nil || router.Down || router.Gateway == nil || router.Gateway.Network != outer.ID {
		return
	}
	x.need(ruleExternal, outer.ID)
	x.need(ruleRouter, router.ID)
	in := dest(inNetwork(outer.Key), host(f.Address))
	answer(x, f.Ref(), inNetwork(outer.Key), f.Address, f.MAC, false)
	arrived := []openflow.Action{routerBits(router.Key)}
	if inner := get[*state.Network](x, port.Network); inner != nil && inner.MTU < outer.MTU {
		// Before it is translated: the answer must tell of the packet as its sender knows it.
		arrived = append(arrived, measure(inner.MTU))
		x.flow(f.Ref(), TRouterIn, PNormal, flagged(in, FlagTooBig, true), apply(x.counted(punt(OpTooBig, tooBig(inner.MTU)...))...))
	}
	x.flow(f.Ref(), TRouterMAC, PNormal, ethDst(in, f.MAC), apply(arrived...), goTo(TRouterIn))
	x.flow(f.Ref(), TNatIn, PNormal, in.Part(openflow.Metadata, MetaRouterFrom, MetaRouterBits, uint64(router.Key)),
		apply(raise(FlagNatted), natDest(zone.Dnat, TRoute, f.FixedIP)))

	out := source(leavingTo(router, outer), host(f.FixedIP))
	x.flow(f.Ref(), TPolicy, PHigh, out, goTo(TNeighbor))
	x.flow(f.Ref(), TNatOut, PHigh, out, apply(setMAC(openflow.EthSrc, f.MAC), raise(FlagSource), natSource(zone.Dnat, TRouterOut, f.Address)))
	hereToo(x, f.Ref(), outer, f.Address, f.MAC)
}
