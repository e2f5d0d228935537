package apps

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/state"
)

// How long what a router advertises holds, in seconds. The router itself holds for three times the longest time between two advertisements
// (RFC 4861 section 6.2.1), name servers likewise (RFC 8106 section 5.1); prefixes as the same section has it for valid, and as radvd has it for preferred
// lifetimes.
const (
	routerLifetime  = 3 * maxAdvertInterval
	prefixValid     = 86400
	prefixPreferred = 14400
)

// solicited answers router solicitations: each router with an interface in the sender's network does, at once and to that port alone.
type solicited struct{}

func (solicited) direct(c *Case) Outcome {
	if !c.Is6 {
		return Passed
	}
	body := c.nd(routerSolicitation, 8)
	if body == nil {
		return Malformed
	}
	source, ok := ndOption(body[4:], 1)
	if !ok || c.Src.IsUnspecified() && source != nil {
		return Malformed
	}
	if c.Port == nil || c.Net == nil {
		return Foreign
	}
	to, mac := allNodes(), multicastMAC(allNodes())
	if !c.Src.IsUnspecified() {
		to, mac = c.Src, c.EthSrc
	}
	frames := advertisements(c.View, &c.write, c.Net, to, mac, routerLifetime)
	if len(frames) == 0 {
		return Silent
	}
	for _, f := range frames {
		c.toPort(f)
	}
	return Answered
}

// advertisements are those of all routers that advertise in a network, each with a lifetime for routers that are their guests' gateway.
func advertisements(v *state.View, w *writer, n *state.Network, to netip.Addr, mac state.MAC, lifetime uint16) [][]byte {
	var subnets []*state.Subnet
	for _, s := range state.All[*state.Subnet](v, state.Index{List: state.ListSubnetsOfNetwork, ID: n.ID}) {
		if s.RAMode != state.IPv6None && s.CIDR.Addr().Is6() {
			subnets = append(subnets, s)
		}
	}
	if len(subnets) == 0 {
		return nil
	}
	var out [][]byte
	for _, r := range routersOf(v, n.ID) {
		for i := range r.Interfaces {
			in := &r.Interfaces[i]
			if in.Network != n.ID || r.Down {
				continue
			}
			var here []*state.Subnet
			for _, s := range subnets {
				if inSubnet(in, s) {
					here = append(here, s)
				}
			}
			if len(here) > 0 {
				out = append(out, w.icmp(ends{in.MAC, mac, in.MAC.LinkLocal(), to}, routerAdvertisement, 0, 255, advertisement(n, in, here, lifetime)))
			}
		}
	}
	return out
}

func inSubnet(in *state.RouterInterface, s *state.Subnet) bool {
	for _, p := range in.Addresses {
		if s.CIDR.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// advertisement is a router advertisement behind its checksum (RFC 4861 section 4.2).
func advertisement(n *state.Network, in *state.RouterInterface, subnets []*state.Subnet, lifetime uint16) []byte {
	flags, gateway := byte(0), false
	for _, s := range subnets {
		switch s.RAMode {
		case state.DHCPStateful:
			flags |= 0xc0 // addresses and options by DHCPv6
		case state.DHCPStateless:
			flags |= 0x40
		}
		gateway = gateway || hasAddress(in, s) || s.Gateway == in.MAC.LinkLocal()
	}
	if !gateway {
		lifetime = 0 // somebody else is the subnets' default router
	}
	b := []byte{64, flags}
	b = binary.BigEndian.AppendUint16(b, lifetime)
	b = append(b, make([]byte, 8)...) // reachable time, retransmission: unspecified
	b = ndLinkLayer(b, 1, in.MAC)
	b = append(b, 5, 1, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(n.MTU)) //nolint:gosec // at most 65535
	for _, s := range subnets {
		b = appendPrefix(b, s)
	}
	if lifetime == 0 {
		return b
	}
	b = appendServers(b, servers6(subnets))
	return appendSearch(b, n.DNSDomain)
}

// appendPrefix adds a prefix information option (RFC 4861 section 4.6.2). Guests make addresses of 64 bits only.
func appendPrefix(b []byte, s *state.Subnet) []byte {
	flags := byte(0x80) // on-link
	if s.RAMode != state.DHCPStateful && s.CIDR.Bits() == 64 {
		flags |= 0x40
	}
	b = append(b, 3, 4, byte(s.CIDR.Bits()), flags)
	b = binary.BigEndian.AppendUint32(b, prefixValid)
	b = binary.BigEndian.AppendUint32(b, prefixPreferred)
	return append(append(b, 0, 0, 0, 0), s.CIDR.Addr().AsSlice()...)
}

// appendServers adds a recursive DNS server option (RFC 8106 section 5.1).
func appendServers(b []byte, servers []netip.Addr) []byte {
	servers = servers[:min(len(servers), math.MaxUint8/2)]
	if len(servers) == 0 {
		return b
	}
	b = append(b, 25, byte(1+2*len(servers)), 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(routerLifetime))
	for _, a := range servers {
		b = append(b, a.AsSlice()...)
	}
	return b
}

// appendSearch adds a DNS search list option (RFC 8106 section 5.2).
func appendSearch(b []byte, domain string) []byte {
	name := encodeNames(domain)
	if name == nil {
		return b
	}
	units := (8 + len(name) + 7) / 8
	b = append(b, 31, byte(units), 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(routerLifetime))
	b = append(b, name...)
	return append(b, make([]byte, units*8-8-len(name))...)
}
