package flows

import (
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// compileNetwork makes what is a network's own, and has all that lives in it compiled.
func compileNetwork(x *emitter, id string) {
	network := get[*state.Network](x, id)
	if network == nil {
		return
	}
	x.need(ruleFlood, id)
	x.need(ruleServices, id)
	x.needAll(rulePeer, state.ListPortsOfNetwork, id)
	// A router whose gateway is here leads elsewhere only from its other networks.
	for _, router := range all[*state.Router](x, state.ListRoutersOfNetwork, id) {
		if slices.ContainsFunc(router.Interfaces, func(i state.RouterInterface) bool { return i.Network == id }) {
			x.need(ruleRouter, router.ID)
		}
	}
	x.need(ruleNeighbor, id)
	x.need(ruleExternal, id)
}

// physical joins a network to the bridge that leads to its physical network.
func physical(x *emitter, network *state.Network, uplink *state.Uplink) {
	in := match().Num(openflow.InPort, uint64(uplink.OFPort))
	known := []openflow.Action{enter(network.Key), raise(FlagUplink)}
	if network.Learn {
		known = append(known, x.learn(network.Ref(), mostOutside, ROFPort, uplink.OFPort))
	}
	if network.Segment == state.VLAN {
		tag := 0x1000 | uint64(network.VLAN)
		x.flow(network.Ref(), TClassify, PNormal, in.Num(openflow.VLANVID, tag), apply(append([]openflow.Action{&openflow.PopVLAN{}}, known...)...), goTo(TTap))
		x.flow(network.Ref(), TOutput, PHigh, inNetwork(network.Key).Num(ROFPort, uint64(uplink.OFPort)), apply(outside(network, uplink)...))
	} else {
		x.flow(network.Ref(), TClassify, PNormal, in.Num(openflow.VLANVID, 0), apply(known...), goTo(TTap))
	}
	// Somebody whom nobody has told of is out there; of what comes from there nobody here has asked.
	out := flagged(inNetwork(network.Key), FlagUplink, false)
	if !network.Learn {
		x.flow(network.Ref(), TSwitch, PLow, out, apply(set(ROFPort, uint64(uplink.OFPort))), goTo(TDestPPS))
		return
	}
	toLearned(x, network, uplink)
}

// compileFlood makes the groups that reach all of a network. There is one copy for each other host, whatever the number of its ports.
// Ports of this host are spread over groups of their own, so that one more changes few buckets and no group grows beyond what a message holds.
func compileFlood(x *emitter, id string) {
	network := get[*state.Network](x, id)
	if network == nil {
		return
	}
	here := floodHere(x, network)
	buckets := []openflow.Bucket{openflow.NewBucket(&openflow.Group{Group: here})}
	if network.Segment == state.Overlay {
		buckets = append(buckets, floodAway(x, network)...)
	} else if uplink := get[*state.Uplink](x, network.Physical); uplink != nil {
		buckets = append(buckets, openflow.NewBucket(set(ROFPort, uint64(uplink.OFPort)), lookUp(TTapOut)))
	}
	x.group(GroupFlood|network.Key, openflow.GroupOfAll, buckets)
	x.flow(network.Ref(), TFlood, PNormal, flagged(inNetwork(network.Key), FlagTunnel, false), apply(&openflow.Group{Group: GroupFlood | network.Key}))
	x.flow(network.Ref(), TFlood, PNormal, flagged(inNetwork(network.Key), FlagTunnel, true), apply(&openflow.Group{Group: here}))
}

// floodChunks is over how many groups the ports of one network are spread.
const floodChunks = 64

func floodHere(x *emitter, network *state.Network) uint32 {
	var chunks [floodChunks][]openflow.Bucket
	for _, port := range all[*state.Port](x, state.ListPortsOnHost, state.OnHost(network.ID, x.c.cfg.Host)) {
		n := port.Key % floodChunks
		chunks[n] = append(chunks[n], openflow.NewBucket(set(RDest, uint64(port.Key)), lookUp(TDestination)))
	}
	var buckets []openflow.Bucket
	for n, ports := range chunks {
		if len(ports) > 0 {
			group := GroupFloodChunk | network.Key*floodChunks | uint32(n) //nolint:gosec // 0 to 63
			x.group(group, openflow.GroupOfAll, ports)
			buckets = append(buckets, openflow.NewBucket(&openflow.Group{Group: group}))
		}
	}
	x.group(GroupFloodHere|network.Key, openflow.GroupOfAll, buckets)
	return GroupFloodHere | network.Key
}

// floodDirectly is to how many other hosts one group has the copies itself: 2,000 of them would be four times what a message holds.
const floodDirectly = 256

// floodAway are the copies for other hosts. Those of a network that is on many are spread over groups of their own too.
func floodAway(x *emitter, network *state.Network) []openflow.Bucket {
	var chunks [floodChunks][]openflow.Bucket
	ends := endsOf(x, network)
	for _, end := range ends {
		n := end.key % floodChunks
		chunks[n] = append(chunks[n], openflow.NewBucket(append(end.set(), set(openflow.TunID, TunnelKey(TunnelNetwork, network.Key)),
			move(RFlags, FlagTrace, 1, openflow.TunID, TunnelTraceBit), anywhere(), output(end.port))...))
	}
	if len(ends) <= floodDirectly {
		return slices.Concat(chunks[:]...)
	}
	var buckets []openflow.Bucket
	for n, hosts := range chunks {
		if len(hosts) > 0 {
			group := GroupFloodAway | network.Key*floodChunks | uint32(n) //nolint:gosec // 0 to 63
			x.group(group, openflow.GroupOfAll, hosts)
			buckets = append(buckets, openflow.NewBucket(&openflow.Group{Group: group}))
		}
	}
	return buckets
}

// tunnelEnd is another host, as this one's switch reaches it.
type tunnelEnd struct {
	key     uint32 // the host's
	address netip.Addr
	source  netip.Addr // of what is sent; invalid: the tunnel's port has it
	port    uint32     // the switch's
}

// set directs what the tunnel's port sends.
func (e tunnelEnd) set() []openflow.Action {
	to, from := openflow.TunDst, openflow.TunSrc
	if e.address.Is6() {
		to, from = openflow.TunIPv6Dst, openflow.TunIPv6Src
	}
	do := []openflow.Action{setAddr(to, e.address)}
	if !e.source.IsValid() {
		return do
	}
	if do = append(do, setAddr(from, e.source)); e.source.Is6() { // what came by IPv4 has addresses of it, which hold before these
		do = append(do, set(openflow.TunSrc, 0), set(openflow.TunDst, 0))
		slices.Reverse(do)
	}
	return do
}

// endOf is the tunnel to a host.
func endOf(x *emitter, id string) (tunnelEnd, bool) {
	self, other := get[*state.Host](x, x.c.cfg.Host), get[*state.Host](x, id)
	if self == nil || other == nil || id == x.c.cfg.Host {
		return tunnelEnd{}, false
	}
	mine, its, ok := self.Way(other)
	if !ok {
		return tunnelEnd{}, false
	}
	tunnel := get[*state.Tunnel](x, state.TunnelID(its.Encap, its.Port))
	if tunnel == nil {
		return tunnelEnd{}, false
	}
	end := tunnelEnd{key: other.Key, address: its.Address, port: tunnel.OFPort}
	if !self.Source(its.Encap).IsValid() {
		end.source = mine.Address
	}
	return end, true
}

// endsOf are the tunnels to the hosts that have ports of a network, each once.
func endsOf(x *emitter, network *state.Network) []tunnelEnd {
	var out []tunnelEnd
	for _, h := range x.ids(state.ListHostsOfNetwork, network.ID) {
		if end, ok := endOf(x, h); ok {
			out = append(out, end)
		}
	}
	return out
}

// compilePeer makes how a port of a network is found from here: its Ethernet address, its answers, its place. A port that is bound nowhere has none of them: who has announced an address of it has that, and its floating IPs.
func compilePeer(x *emitter, id string) {
	port := get[*state.Port](x, id)
	if port == nil || isDown(x, port) {
		return
	}
	if !port.Bound() {
		for _, f := range x.ids(state.ListFloatingOfPort, id) {
			x.need(ruleFloating, f)
		}
		return
	}
	network := get[*state.Network](x, port.Network)
	if network == nil {
		return
	}
	x.flow(port.Ref(), TSwitch, PNormal, ethDst(inNetwork(network.Key), port.MAC), apply(set(RDest, uint64(port.Key))), goTo(TDestination))
	for _, f := range port.FixedIPs {
		answer(x, port.Ref(), flagged(inNetwork(network.Key), FlagUplink, false), f.Address, port.MAC, false)
	}
	if x.any(state.ListRoutersOfNetwork, network.ID) {
		portNeighbors(x, port, network)
	}
	for _, a := range port.AllowedPairs {
		if a.MAC != port.MAC {
			x.need(ruleClaimed, state.WithMAC(network.ID, a.MAC))
		}
	}
	place(x, port, network)
}

// place says where a port is. A port that is migrating is reached where it was until its host changes; the host where it no longer is passes on
// what still comes, and the one where it is already takes what is passed on.
func place(x *emitter, port *state.Port, network *state.Network) {
	plug := get[*state.Plug](x, port.ID)
	here := x.c.cfg.Host
	if plug != nil && port.On(here) {
		do := []openflow.Instruction{apply(enter(network.Key), set(RZone, uint64(plug.Zone)), set(RGroups, uint64(x.groupsOf(port))), set(ROFPort, uint64(plug.OFPort))), goTo(TInTrack)}
		if port.Host == here {
			x.flow(port.Ref(), TDestination, PNormal, to(port.Key), do...)
			return
		}
		x.flow(port.Ref(), TDestination, PHigh, flagged(to(port.Key), FlagTunnel, true), do...)
	}
	there := port.Host
	if there == here {
		there = port.NextHost
	}
	if network.Segment != state.Overlay {
		if uplink := get[*state.Uplink](x, network.Physical); uplink != nil && (port.Foreign || there != "") {
			x.flow(port.Ref(), TDestination, PNormal, to(port.Key), apply(set(ROFPort, uint64(uplink.OFPort))), goTo(TDestPPS))
		}
		return
	}
	if end, ok := endOf(x, there); ok {
		x.flow(port.Ref(), TDestination, PNormal, to(port.Key), apply(append(end.set(), set(ROFPort, uint64(end.port)))...), goTo(TTunnel))
	}
}

// answer has the switch answer who asks for an address.
func answer(x *emitter, about state.Ref, asked openflow.Match, a netip.Addr, mac state.MAC, router bool) {
	if a.Is4() {
		x.flow(about, TARP, PNormal, arp(asked).Num(openflow.ARPOp, 1).Addr(openflow.ARPTPA, a), apply(
			copyField(openflow.EthSrc, openflow.EthDst), setMAC(openflow.EthSrc, mac), set(openflow.ARPOp, 2),
			copyField(openflow.ARPSHA, openflow.ARPTHA), setMAC(openflow.ARPSHA, mac),
			copyField(openflow.ARPSPA, openflow.ARPTPA), setAddr(openflow.ARPSPA, a)), goTo(TReply))
		return
	}
	flags := uint64(0x60000000) // solicited, override (RFC 4861 section 4.4)
	if router {
		flags |= 0x80000000
	}
	if router {
		// Who asks without the option, and one to one, knows the Ethernet address already (RFC 4861 section 7.2.4); a router has nobody else to answer.
		x.flow(about, TNDPrepare, PNormal, ethDst(icmpv6(asked, 135), mac).Addr(openflow.NDTarget, a).Num(openflow.NDOptionsType, 0), apply(
			copyField(openflow.EthSrc, openflow.EthDst), setMAC(openflow.EthSrc, mac),
			copyField(openflow.IPv6Src, openflow.IPv6Dst), setAddr(openflow.IPv6Src, a),
			set(openflow.ICMPv6Type, 136), set(RScratch, flags)), goTo(TND))
	}
	// Without the option there is no room for ours: who has the address answers.
	x.flow(about, TNDPrepare, PNormal, icmpv6(asked, 135).Addr(openflow.NDTarget, a).Num(openflow.NDOptionsType, 1), apply(
		copyField(openflow.EthSrc, openflow.EthDst), setMAC(openflow.EthSrc, mac),
		copyField(openflow.IPv6Src, openflow.IPv6Dst), setAddr(openflow.IPv6Src, a),
		set(openflow.ICMPv6Type, 136), set(RScratch, flags)), goTo(TND))
}

// compileServices sends to the agent what it answers in a network.
func compileServices(x *emitter, id string) {
	network := get[*state.Network](x, id)
	if network == nil {
		return
	}
	var dhcp4, dhcp6, ra bool
	subnets := all[*state.Subnet](x, state.ListSubnetsOfNetwork, id)
	if len(subnets) > 0 {
		serveMetadata(x, network)
	}
	for _, s := range subnets {
		if s.CIDR.Addr().Is4() {
			dhcp4 = dhcp4 || s.DHCP
			continue
		}
		dhcp6 = dhcp6 || s.DHCP && s.AddressMode >= state.DHCPStateless
		ra = ra || s.RAMode != state.IPv6None
	}
	asked := flagged(inNetwork(network.Key), FlagPunt, true)
	if dhcp4 {
		x.flow(network.Ref(), TPunt, PNormal, proto(ipv4(asked), protoUDP).Num(openflow.UDPDst, 67), apply(punt(OpDHCPv4)))
	}
	if dhcp6 {
		x.flow(network.Ref(), TPunt, PNormal, proto(ipv6(asked), protoUDP).Num(openflow.UDPDst, 547), apply(punt(OpDHCPv6)))
	}
	if ra {
		x.flow(network.Ref(), TPunt, PNormal, icmpv6(asked, 133), apply(punt(OpSolicit)))
	}
}
