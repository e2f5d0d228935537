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
// router and party as are needed to trace a path or to find its MTU. What comes from elsewhere is bounded beside what ports send, so that it takes no
// port's place in memory.
type icmpErrors struct{ ports, afar *limiter[addressee] }

// addressee is a router and whom it tells something.
type addressee struct {
	router uint32
	party  party
}

func newICMPErrors() *icmpErrors {
	return &icmpErrors{newLimiter[addressee](20, 40, 4096), newLimiter[addressee](20, 40, 4096)}
}

func (e *icmpErrors) allow(c *Case) bool {
	to, limit := addressee{c.Gateway.Key, c.party()}, e.ports
	if to.party&afar != 0 {
		limit = e.afar
	}
	return limit.allow(to, c.Now)
}

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
	if !e.allow(c) {
		return Limited
	}
	if c.fromOutside() {
		return c.tellOutside(p)
	}
	n := c.Net
	if c.Port != nil {
		n = state.Find[*state.Network](c.View, c.Port.Network)
	}
	in, source := c.leg(func(i *state.RouterInterface) bool { return n != nil && i.Network == n.ID }, c.Src)
	if in == nil {
		return Foreign
	}
	if c.Op == flows.OpUnreachable && p.code4 == 3 {
		source = c.Dst // the router itself, at the address where it was asked
	}
	back := ends{in.MAC, c.EthSrc, source, c.Src}
	if c.Port != nil {
		if c.isRouter(c.EthSrc) {
			back.dstMAC = c.Port.MAC // the router had already put its own address there
		}
		c.toPort(c.write.icmpError(back, p, c.IP))
		return Answered
	}
	back.dstMAC = in.MAC // its port is at another host: the router finds the way back
	c.Replies = append(c.Replies, Reply{To: ToRouter, Network: n.Key, Router: c.Router, Frame: c.write.icmpError(back, p, c.IP)})
	return Answered
}

// fromOutside says whether the packet came from the router's external network.
func (c *Case) fromOutside() bool {
	g := c.Gateway.Gateway
	return c.Port == nil && g != nil && c.Net != nil && c.Net.ID == g.Network
}

// tellOutside answers a sender outside, by the way that the packet came. What it was sent to here is what he knows, and answers him.
func (c *Case) tellOutside(p problem) Outcome {
	g := c.Gateway.Gateway
	if c.outer(c.Dst) {
		c.sendNetwork(c.Net.Key, c.write.icmpError(ends{c.EthDst, c.EthSrc, c.Dst, c.Src}, p, c.IP))
		return Answered
	}
	if c.Is4 && g.Snat != state.SnatNone {
		// An answer to what was translated, whose destination is a guest's again: told as if from where that is, the router translates what is quoted too.
		in, source := c.leg(func(i *state.RouterInterface) bool {
			return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Contains(c.Dst) })
		}, c.Dst)
		if in == nil {
			return Foreign
		}
		n := state.Find[*state.Network](c.View, in.Network)
		if n == nil {
			return Foreign
		}
		c.Replies = append(c.Replies, Reply{To: ToRouter, Network: n.Key, Router: c.Router, Frame: c.write.icmpError(ends{in.MAC, in.MAC, source, c.Src}, p, c.IP)})
		return Answered
	}
	source := nearest(g.Addresses, c.Src)
	if !source.IsValid() {
		return Foreign
	}
	c.sendNetwork(c.Net.Key, c.write.icmpError(ends{g.MAC, c.EthSrc, source, c.Src}, p, c.IP))
	return Answered
}

// outer says whether an address outside is one that the router is met at here: its gateway's, a floating IP, or one that sources are translated to.
func (c *Case) outer(a netip.Addr) bool {
	g := c.Gateway.Gateway
	if slices.ContainsFunc(g.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
		return true
	}
	for _, f := range state.All[*state.FloatingIP](c.View, state.Index{List: state.ListFloatingOfRouter, ID: c.Gateway.ID}) {
		if f.Address == a {
			return true
		}
	}
	return c.View.Has(state.Index{List: state.ListSnatOfAddress, ID: state.AtAddress(g.Network, a)})
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

// leg is an interface of the router and its address towards another one (RFC 1812 section 4.3.2.4); nil: there is none.
func (c *Case) leg(fits func(*state.RouterInterface) bool, towards netip.Addr) (*state.RouterInterface, netip.Addr) {
	for i := range c.Gateway.Interfaces {
		if in := &c.Gateway.Interfaces[i]; fits(in) {
			if a := nearest(in.Addresses, towards); a.IsValid() {
				return in, a
			}
		}
	}
	return nil, netip.Addr{}
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
