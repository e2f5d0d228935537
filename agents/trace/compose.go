package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Compose makes the packet that a guest behind a port would send to an address: from the port's first address of the family, to the Ethernet address of
// whoever has the address in its network, or else of the router that the network's subnet names as its gateway. The protocol is ICMP's echo where p says none;
// p's other fields stay.
func Compose(v *state.View, port string, to netip.Addr, p Packet) (Packet, error) {
	src := state.Find[*state.Port](v, port)
	if src == nil {
		return p, fmt.Errorf("port %s: there is none in the state that this was asked of", port)
	}
	p.Dst, p.Type = to, IPv4
	if to.Is6() {
		p.Type = IPv6
	}
	if p.EthSrc == 0 {
		p.EthSrc = src.MAC
	}
	if !p.Src.IsValid() {
		for _, f := range src.FixedIPs {
			if f.Address.Is4() == to.Is4() {
				p.Src = f.Address
				break
			}
		}
		if !p.Src.IsValid() {
			return p, fmt.Errorf("port %s has no address of the family of %s: say which one it sends from", port, to)
		}
	}
	if p.Proto == 0 {
		p.Proto, p.ICMPType = ICMP, 8
		if to.Is6() {
			p.Proto, p.ICMPType = ICMPv6, 128
		}
	}
	if p.TTL == 0 {
		p.TTL = 64
	}
	if p.EthDst == 0 {
		var err error
		if p.EthDst, err = nextHop(v, src, to); err != nil {
			return p, err
		}
	}
	return p, nil
}

// nextHop is the Ethernet address that a guest learns for what it sends to an address.
func nextHop(v *state.View, src *state.Port, to netip.Addr) (state.MAC, error) {
	at := netip.Addr{}
	for _, s := range state.All[*state.Subnet](v, state.Index{List: state.ListSubnetsOfNetwork, ID: src.Network}) {
		if s.CIDR.Contains(to) {
			at = to
			break
		}
		if s.Gateway.IsValid() && s.Gateway.Is4() == to.Is4() && !at.IsValid() {
			at = s.Gateway
		}
	}
	ports := state.All[*state.Port](v, state.Index{List: state.ListPortsOfNetwork, ID: src.Network})
	has := func(p *state.Port, a netip.Addr) bool {
		return slices.ContainsFunc(p.FixedIPs, func(f state.FixedIP) bool { return f.Address == a })
	}
	if slices.ContainsFunc(ports, func(p *state.Port) bool { return has(p, to) }) {
		at = to
	}
	if !at.IsValid() {
		return 0, fmt.Errorf("%s is outside of the subnets of network %s, and none of them has a gateway: the guest has no way there", to, src.Network)
	}
	for _, p := range ports {
		if has(p, at) {
			return p.MAC, nil
		}
	}
	for _, r := range state.All[*state.Router](v, state.Index{List: state.ListRoutersOfNetwork, ID: src.Network}) {
		for _, i := range r.Interfaces {
			for _, a := range i.Addresses {
				if i.Network == src.Network && a.Addr() == at {
					return i.MAC, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("nobody in network %s has %s: the guest's question for its Ethernet address stays without an answer", src.Network, at)
}
