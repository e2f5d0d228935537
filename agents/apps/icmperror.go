package apps

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// icmpErrors answers packets that a router cannot pass on (RFC 792, RFC 1812 section 4.3; RFC 4443), with at most so many a second for each
// router and port as are needed to trace a path or to find its MTU.
type icmpErrors struct{ limit *limiter[[2]uint32] }

func newICMPErrors() *icmpErrors { return &icmpErrors{newLimiter[[2]uint32](20, 40, 4096)} }

// problem is what a router says of a packet: type and code of both families, and the number behind the checksum.
type problem struct {
	type4, code4 uint8
	type6, code6 uint8
	mtu          uint32
}

// minMTU6 is the least that every IPv6 link carries (RFC 8200 section 5).
const minMTU6 = 1280

func hopsEnded() problem       { return problem{type4: 11, code4: 0, type6: 3, code6: 0} }
func hostUnreachable() problem { return problem{type4: 3, code4: 1, type6: 1, code6: 3} }

func tooBig(mtu int) problem {
	return problem{type4: 3, code4: 4, type6: 2, code6: 0, mtu: uint32(mtu)} //nolint:gosec // 16 bits
}

// unreachable is IPv4's code of destination unreachable in both families.
func unreachable(code uint8) problem {
	code6 := map[uint8]uint8{0: 0, 1: 3, 3: 4, 9: 1, 10: 1, 13: 1}[code]
	return problem{type4: 3, code4: code, type6: 1, code6: code6}
}

func (e *icmpErrors) direct(c *Case) Outcome {
	var p problem
	switch c.Op {
	case flows.OpTTL:
		p = hopsEnded()
	case flows.OpTooBig:
		if len(c.Data) < 2 {
			return Malformed
		}
		p = tooBig(int(binary.BigEndian.Uint16(c.Data)))
	case flows.OpUnreachable:
		code := uint8(0)
		if len(c.Data) > 0 {
			code = c.Data[0]
		}
		p = unreachable(code)
	default:
		return Passed
	}
	return e.send(c, p)
}

// send answers the packet of a case with an error, unless the rules forbid it.
func (e *icmpErrors) send(c *Case, p problem) Outcome {
	switch {
	case c.Gateway == nil:
		return Foreign
	case !c.Is4 && !c.Is6:
		return Malformed
	case !c.mayBeTold(p):
		return Silent
	}
	translated := c.translated()
	source, mac, network := c.routerSource(translated)
	if !source.IsValid() {
		return Foreign
	}
	if !e.limit.allow([2]uint32{c.Gateway.Key, c.Source}, c.Now) {
		return Limited
	}
	back := ends{mac, c.EthSrc, source, c.Src}
	if c.Port != nil && !translated {
		if c.isRouter(c.EthSrc) {
			back.dstMAC = c.Port.MAC // the router had already put its own address there
		}
		c.toPort(c.write.icmpError(back, p, c.IP))
		return Answered
	}
	// The source was translated, or came from outside: the router finds the way back, and translates what is quoted too.
	back.dstMAC = mac
	c.Replies = append(c.Replies, Reply{To: ToRouter, Network: network, Router: c.Router, Frame: c.write.icmpError(back, p, c.IP)})
	return Answered
}

// icmpError is the error about a packet.
func (w *writer) icmpError(e ends, p problem, quoted []byte) []byte {
	if e.src.Is4() {
		quoted = quoted[:min(len(quoted), 576-20-8)] // RFC 1812 section 4.3.2.3
		return w.icmp(e, p.type4, p.code4, 64, append(binary.BigEndian.AppendUint32(nil, p.mtu), quoted...))
	}
	quoted = quoted[:min(len(quoted), minMTU6-40-8)] // RFC 4443 section 2.4 (c)
	return w.icmp(e, p.type6, p.code6, 64, append(binary.BigEndian.AppendUint32(nil, p.mtu), quoted...))
}

// mayBeTold says whether there may be an error about the packet at all (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)). Packets without
// "don't fragment" are told of the MTU too: the switch cannot fragment them, and hosts learn from it.
func (c *Case) mayBeTold(p problem) bool {
	kind, _, isICMP := c.icmp()
	unique := c.Src.IsValid() && !c.Src.IsUnspecified() && !c.Src.IsLoopback() && !c.Src.IsMulticast()
	if c.Later || !unique {
		return false
	}
	group := c.EthDst>>40&1 == 1 || c.Dst.IsMulticast()
	if c.Is4 {
		reserved := c.Src.As4()[0] >= 240 || c.Dst == broadcast4()
		return !group && !reserved && !(isICMP && isError4(kind))
	}
	if c.Proto == layers.IPProtocolICMPv6 && !isICMP {
		return false // cut short: it may be an error
	}
	return (!group || p.type6 == 2) && !(isICMP && (kind < 128 || kind == 137))
}

// isError4 says whether an ICMP message is not a question or an answer.
func isError4(kind uint8) bool { return slices.Contains([]uint8{3, 4, 5, 11, 12}, kind) }

// routerSource is the address that the router has towards the packet's sender (RFC 1812 section 4.3.2.4), its interface's Ethernet address, and the key
// of that network.
func (c *Case) routerSource(translated bool) (netip.Addr, state.MAC, uint32) {
	n := c.Net
	if c.Port != nil {
		n = state.Find[*state.Network](c.View, c.Port.Network)
	}
	if n == nil {
		return netip.Addr{}, 0, 0
	}
	if !translated {
		for i := range c.Gateway.Interfaces {
			if in := &c.Gateway.Interfaces[i]; in.Network == n.ID {
				if a := nearest(in.Addresses, c.Src); a.IsValid() {
					return a, in.MAC, n.Key
				}
			}
		}
	}
	g := c.Gateway.Gateway
	if g == nil {
		return netip.Addr{}, 0, 0
	}
	key := n.Key
	if out := state.Find[*state.Network](c.View, g.Network); out != nil {
		key = out.Key
	}
	return nearest(g.Addresses, c.Src), g.MAC, key
}

// nearest is the address of the other's family, if possible one whose prefix the other is in.
func nearest(list []netip.Prefix, other netip.Addr) (out netip.Addr) {
	for _, p := range list {
		if p.Addr().Is4() != other.Is4() {
			continue
		}
		if p.Contains(other) {
			return p.Addr()
		}
		if !out.IsValid() {
			out = p.Addr()
		}
	}
	return out
}

func (c *Case) isRouter(mac state.MAC) bool {
	if c.Gateway.Gateway != nil && c.Gateway.Gateway.MAC == mac {
		return true
	}
	return slices.ContainsFunc(c.Gateway.Interfaces, func(i state.RouterInterface) bool { return i.MAC == mac })
}

// translated says whether the packet's source is not the sender's own any more but one that the router put there.
func (c *Case) translated() bool {
	g := c.Gateway.Gateway
	if g == nil {
		return false
	}
	if slices.ContainsFunc(g.Addresses, func(p netip.Prefix) bool { return p.Addr() == c.Src }) {
		return true
	}
	for _, f := range state.All[*state.FloatingIP](c.View, state.Index{List: state.ListFloatingOfRouter, ID: c.Gateway.ID}) {
		if f.Address == c.Src {
			return true
		}
	}
	for _, s := range state.All[*state.SnatAddress](c.View, state.Index{List: state.ListSnatOfNetwork, ID: g.Network}) {
		if s.Address == c.Src {
			return true
		}
	}
	return false
}
