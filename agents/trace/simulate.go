package trace

import (
	"fmt"
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Simulate says what becomes of a packet that a port sends, on the host where the port is plugged, by the state v. The port must be one of v, with a host.
func Simulate(v *state.View, port string, p Packet) (*Result, error) {
	src := state.Find[*state.Port](v, port)
	switch {
	case src == nil:
		return nil, fmt.Errorf("port %s: there is none in the state that this was asked of", port)
	case src.Host == "":
		return nil, fmt.Errorf("port %s is plugged nowhere: it sends nothing", port)
	}
	w := &walk{v: v, r: &Result{}, at: src.Host, src: src, p: p}
	w.leave()
	return w.r.settle(), nil
}

// walk is a packet on its way.
type walk struct {
	v   *state.View
	r   *Result
	at  string // host
	src *state.Port
	net *state.Network
	p   Packet

	turned  bool                             // its destination was a floating IP of the host that it is at
	routed  int                              // routers passed
	away    bool                             // another host sent it here, for this one to act as the gateway
	uplinks func(host, physical string) bool // whether a host has a bridge to a physical network; nil: all have
}

func (w *walk) step(point string, object state.Ref, fields Fields, format string, args ...any) {
	w.r.Steps = append(w.r.Steps, Step{Host: w.at, Point: point, Object: object, Fields: fields, Text: fmt.Sprintf(format, args...)})
}

func (w *walk) rule(point string, object state.Ref, rule string, fields Fields, format string, args ...any) {
	w.step(point, object, fields, format, args...)
	w.r.Steps[len(w.r.Steps)-1].Rule = rule
}

func (w *walk) drop(reason string) { w.r.end(End{Verdict: Dropped, Reason: reason, Host: w.at}) }

func (w *walk) served(by string) { w.r.end(End{Verdict: Served, Reason: by, Host: w.at}) }

// leave is the way from the guest to the network.
func (w *walk) leave() {
	w.net = state.Find[*state.Network](w.v, w.src.Network)
	if w.net == nil || w.down(w.src) {
		w.step("classify", w.src.Ref(), nil, "the port is down, or its network is not known")
		if parent := state.Find[*state.Port](w.v, w.src.Parent); parent != nil && !parent.Down && state.Find[*state.Network](w.v, parent.Network) != nil {
			w.drop("unknown-vlan")
			return
		}
		w.drop("unknown-port")
		return
	}
	if !w.untag() {
		return
	}
	w.step("classify", w.src.Ref(), Fields{"in_port"}, "from port %s in network %s", w.src.ID, w.net.ID)
	w.copies(w.src, true)
	if !w.allowedSource() || w.needsAgent() || w.answered() {
		return
	}
	if !w.fence(w.src, true) {
		return
	}
	w.enter()
}

// down says whether a port is down: by itself, or with the trunk that it is a part of.
func (w *walk) down(p *state.Port) bool {
	if p.Parent == "" {
		return p.Down
	}
	parent := state.Find[*state.Port](w.v, p.Parent)
	return p.Down || parent == nil || parent.Down
}

// untag finds the subport whose tag a packet has.
func (w *walk) untag() bool {
	if w.src.Parent == "" && w.p.VLAN != 0 {
		for _, sub := range state.All[*state.Port](w.v, state.Index{List: state.ListSubports, ID: w.src.ID}) {
			if sub.ParentVLAN == w.p.VLAN {
				w.src, w.net = sub, state.Find[*state.Network](w.v, sub.Network)
				w.p.VLAN = 0
				return w.net != nil
			}
		}
		if len(w.v.IDs(state.Index{List: state.ListSubports, ID: w.src.ID})) > 0 {
			w.drop("unknown-vlan")
		} else {
			w.drop("unknown-port")
		}
		return false
	}
	w.p.VLAN = 0
	return true
}

// senderOf are the prefixes that the port may send from with an Ethernet address; ok is whether it may send with it at all.
func senderOf(p *state.Port, mac state.MAC) (prefixes []netip.Prefix, ok bool) {
	var v6 bool
	if ok = mac == p.MAC; ok {
		for _, f := range p.FixedIPs {
			prefixes = append(prefixes, netip.PrefixFrom(f.Address, f.Address.BitLen()))
		}
	}
	for _, f := range p.FixedIPs {
		v6 = v6 || f.Address.Is6()
	}
	for _, a := range p.AllowedPairs {
		v6 = v6 || a.Prefix.Addr().Is6()
		if a.MAC == mac {
			ok = true
			prefixes = append(prefixes, a.Prefix)
		}
	}
	if ok && v6 {
		prefixes = append(prefixes, netip.PrefixFrom(mac.LinkLocal(), 128))
	}
	return prefixes, ok
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// allowedSource is port security.
func (w *walk) allowedSource() bool {
	if !w.src.PortSecurity {
		return true
	}
	reason, fields := w.sourceFault()
	if reason == "" {
		w.step("source-l2", w.src.Ref(), fields, "the sender is the port's own")
		return true
	}
	point := "source-l2"
	if reason == "source-ip" || reason == "rogue-dhcp" {
		point = "source-ip"
	}
	w.step(point, w.src.Ref(), fields, "port security: %s", reason)
	w.drop(reason)
	return false
}

func (w *walk) sourceFault() (reason string, fields Fields) {
	p := &w.p
	fields = Fields{"eth_src"}
	prefixes, ok := senderOf(w.src, p.EthSrc)
	families := func(is4 bool) bool {
		for _, x := range prefixes {
			if x.Addr().Is4() == is4 {
				return true
			}
		}
		return false
	}
	if p.Type == IPv6 && p.Proto == ICMPv6 && (p.ICMPType == 134 || p.ICMPType == 137) {
		return "rogue-router", Fields{"icmpv6_type"}
	}
	if p.Type == IPv6 && p.Proto == ICMPv6 && (p.ICMPType == 135 || p.ICMPType == 136) {
		fields = append(fields, "icmpv6_type", "nd_target", "nd_sll", "nd_tll")
		if !ok || !families(false) || p.NDOption != 0 && p.NDOption != p.EthSrc || (p.ICMPType == 136 || p.Src.IsUnspecified()) && !within(prefixes, p.NDTarget) ||
			p.ICMPType == 135 && p.Src.IsUnspecified() && p.NDOption != 0 {
			return "source-nd", fields
		}
	}
	if !ok {
		return "source-mac", fields
	}
	switch p.Type {
	case ARP:
		fields = append(fields, "arp_sha", "arp_spa")
		probe := p.ARPOp == 1 && p.Src.IsUnspecified() && within(prefixes, p.Dst)
		if p.ARPSHA != p.EthSrc || !probe && !within(prefixes, p.Src) {
			return "source-mac", fields
		}
		return "", fields
	case IPv4, IPv6:
		if !families(p.Type == IPv4) {
			return "source-mac", fields
		}
	default:
		return "source-mac", append(fields, "eth_type")
	}
	return w.sourceIP(prefixes, append(fields, "ip_src"))
}

// ofDHCPServer says whether it is what a DHCP server says to a client.
func (p *Packet) ofDHCPServer() bool {
	return p.Proto == UDP && (p.Type == IPv4 && p.SrcPort == 67 && p.DstPort == 68 || p.Type == IPv6 && p.SrcPort == 547 && p.DstPort == 546)
}

// ofDHCPClient says whether it is what a DHCP client says to a server.
func (p *Packet) ofDHCPClient() bool {
	return p.Proto == UDP && (p.Type == IPv4 && p.SrcPort == 68 && p.DstPort == 67 || p.Type == IPv6 && p.SrcPort == 546 && p.DstPort == 547)
}

func (w *walk) sourceIP(prefixes []netip.Prefix, fields Fields) (string, Fields) {
	p := &w.p
	if p.ofDHCPServer() {
		return "rogue-dhcp", append(fields, "udp_src", "udp_dst")
	}
	if within(prefixes, p.Src) {
		return "", fields
	}
	if p.Src.IsUnspecified() {
		asks := p.Type == IPv4 && p.Proto == UDP && p.SrcPort == 68 && p.DstPort == 67
		asks = asks || p.Type == IPv6 && p.Proto == ICMPv6 && (p.ICMPType == 133 || p.ICMPType == 135 || p.ICMPType == 143)
		if asks {
			return "", fields
		}
	}
	return "source-ip", fields
}

// needsAgent is what the agent of the host answers.
func (w *walk) needsAgent() bool {
	p := &w.p
	kind := ""
	switch {
	case p.Type == IPv4 && p.Proto == UDP && p.SrcPort == 68 && p.DstPort == 67:
		kind = "dhcpv4"
	case p.Type == IPv6 && p.Proto == UDP && p.SrcPort == 546 && p.DstPort == 547:
		kind = "dhcpv6"
	case p.Type == IPv6 && p.Proto == ICMPv6 && p.ICMPType == 133:
		kind = "solicit"
	default:
		return false
	}
	for _, s := range state.All[*state.Subnet](w.v, state.Index{List: state.ListSubnetsOfNetwork, ID: w.net.ID}) {
		v4 := s.CIDR.Addr().Is4()
		if kind == "dhcpv4" && v4 && s.DHCP || kind == "dhcpv6" && !v4 && s.DHCP && s.AddressMode >= state.DHCPStateless || kind == "solicit" && !v4 && s.RAMode != state.IPv6None {
			w.step("punt", s.Ref(), Fields{"ip_proto"}, "the agent answers: %s", kind)
			w.served(kind)
			return true
		}
	}
	return false
}

// answered is what the switch itself answers: who has an address.
func (w *walk) answered() bool {
	p := &w.p
	var asked netip.Addr
	switch {
	case p.Type == ARP && p.ARPOp == 1 && !p.Src.IsUnspecified():
		asked = p.Dst
	case p.Type == IPv6 && p.Proto == ICMPv6 && p.ICMPType == 135 && !p.Src.IsUnspecified() && p.NDOption != 0:
		asked = p.NDTarget
	default:
		return false
	}
	if r, mac := w.routerWith(asked); r != nil {
		w.step("arp", r.Ref(), Fields{"arp_tpa"}, "the router has it, at %s", mac)
		w.r.end(End{Verdict: Answered, Host: w.at})
		w.copies(w.src, false)
		return true
	}
	for _, port := range state.All[*state.Port](w.v, state.Index{List: state.ListPortsOfNetwork, ID: w.net.ID}) {
		if !port.Bound() || w.down(port) {
			continue
		}
		for _, f := range port.FixedIPs {
			if f.Address == asked {
				w.step("arp", port.Ref(), Fields{"arp_tpa"}, "port %s has it, at %s", port.ID, port.MAC)
				w.r.end(End{Verdict: Answered, Host: w.at})
				w.copies(w.src, false)
				return true
			}
		}
	}
	return false
}

// routerWith is the router that has an address in the network, and the Ethernet address that it has there.
func (w *walk) routerWith(a netip.Addr) (*state.Router, state.MAC) {
	for _, r := range state.All[*state.Router](w.v, state.Index{List: state.ListRoutersOfNetwork, ID: w.net.ID}) {
		if r.Down {
			continue
		}
		for _, i := range r.Interfaces {
			if i.Network != w.net.ID {
				continue
			}
			if i.MAC.LinkLocal() == a {
				return r, i.MAC
			}
			for _, have := range i.Addresses {
				if have.Addr() == a {
					return r, i.MAC
				}
			}
		}
	}
	return nil, 0
}
