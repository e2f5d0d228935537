package flows

import (
	"slices"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// compileSnat has the address compiled that an address or a block of this host, or one that this host answers for, is of.
func compileSnat(x *emitter, id string) {
	a := get[*state.SnatAddress](x, id)
	if a == nil {
		return
	}
	x.need(ruleExternal, a.Network)
	x.need(ruleAddress, state.AtAddress(a.Network, a.Address))
}

// compileAddress makes how packets come to an address that sources are translated to. Its owner answers for it. Where hosts share it, the owner hands
// out what comes by the block that the destination port is in, through the physical network, to the Ethernet address of the block's host: it
// keeps no connections, so that it may be another host the next moment. Errors of ICMP go to all: only who has the connection takes them.
func compileAddress(x *emitter, id string) {
	blocks := all[*state.SnatAddress](x, state.ListSnatOfAddress, id)
	if len(blocks) == 0 {
		return
	}
	first := blocks[0]
	network, self := get[*state.Network](x, first.Network), get[*state.Host](x, x.c.cfg.Host)
	if network == nil || self == nil {
		return
	}
	s := &sharedAddress{x: x, first: first, network: network, self: self, owner: first.Owner == x.c.cfg.Host}
	if s.owner {
		answer(x, first.Ref(), inNetwork(network.Key), first.Address, first.MAC, false)
		hereToo(x, first.Ref(), network, first.Address, first.MAC)
	}
	for _, b := range blocks {
		s.block(b)
	}
	s.errors(id)
	zone := get[*state.Zone](x, state.NetworkZone(network.ID))
	if zone != nil && zone.Snat != 0 && slices.ContainsFunc(blocks, func(b *state.SnatAddress) bool { return b.Router == "" && b.Host == x.c.cfg.Host }) {
		in := dest(inNetwork(network.Key).Part(openflow.Metadata, MetaRouterFrom, MetaRouterBits, 0), host(first.Address))
		x.flow(first.Ref(), TNatIn, PNormal, in, apply(raise(FlagNatted), natKnown(zone.Snat, TNatBack)))
	}
}

// sharedAddress is an address on its way through compileAddress.
type sharedAddress struct {
	x       *emitter
	first   *state.SnatAddress
	network *state.Network
	self    *state.Host
	owner   bool
	ways    []openflow.Bucket // to each host that has a block
	told    []string          // which those are
}

// comes is what comes to the address here.
func (s *sharedAddress) comes() openflow.Match {
	mac := s.self.MAC()
	if s.owner {
		mac = s.first.MAC
	}
	return dest(ethDst(inNetwork(s.network.Key), mac), host(s.first.Address))
}

func (s *sharedAddress) block(b *state.SnatAddress) {
	do, table, ok := s.onward(b)
	if !ok {
		return
	}
	if allPorts(b) {
		s.x.flow(b.Ref(), TRouterMAC, PNormal, s.comes(), apply(do...), goTo(table))
		return
	}
	mask := openflow.Num(uint64(0xffff &^ (b.Ports - 1))) //nolint:gosec // a power of two below 65,536
	port := openflow.Num(uint64(b.FirstPort))
	s.x.flow(b.Ref(), TRouterMAC, PNormal, proto(s.comes(), protoTCP).Masked(openflow.TCPDst, port, mask), apply(do...), goTo(table))
	s.x.flow(b.Ref(), TRouterMAC, PNormal, proto(s.comes(), protoUDP).Masked(openflow.UDPDst, port, mask), apply(do...), goTo(table))
	if to := b.Host + " " + b.Router; b.Host != s.x.c.cfg.Host && !slices.Contains(s.told, b.Host) || b.Host == s.x.c.cfg.Host && !slices.Contains(s.told, to) {
		if b.Host != s.x.c.cfg.Host {
			to = b.Host
		}
		s.told = append(s.told, to)
		s.ways = append(s.ways, openflow.NewBucket(append(do, lookUp(table))...))
	}
}

// onward takes a packet to the host of a block: here into its router, if it is one's own; else to the host's Ethernet address.
func (s *sharedAddress) onward(b *state.SnatAddress) ([]openflow.Action, Table, bool) {
	if b.Host == s.x.c.cfg.Host {
		key := uint32(0)
		if b.Router != "" {
			router := get[*state.Router](s.x, b.Router)
			if router == nil {
				return nil, 0, false
			}
			key = router.Key
		}
		return []openflow.Action{routerBits(key)}, TRouterIn, true
	}
	holder, uplink := get[*state.Host](s.x, b.Host), get[*state.Uplink](s.x, s.network.Physical)
	if !s.owner || holder == nil || uplink == nil || s.network.Segment == state.Overlay {
		return nil, 0, false
	}
	return []openflow.Action{setMAC(openflow.EthSrc, s.self.MAC()), setMAC(openflow.EthDst, holder.MAC()), set(ROFPort, uint64(uplink.OFPort)), anywhere()}, TTapOut, true
}

// errors hands ICMP's errors to each host that has a block.
func (s *sharedAddress) errors(id string) {
	if len(s.ways) == 0 {
		return
	}
	group := GroupHandOut | s.x.number(spaceHandOut, id)
	s.x.group(group, openflow.GroupOfAll, s.ways[:min(len(s.ways), maxTargets)])
	for _, kind := range icmpErrors() {
		s.x.flow(s.first.Ref(), TRouterMAC, PNormal, proto(s.comes(), protoICMP).Num(openflow.ICMPv4Type, kind), apply(&openflow.Group{Group: group}))
	}
}
