package trace

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/agents/state"
)

// fence is the security groups of a port, for what it sends or gets. It says whether the packet goes on.
func (w *walk) fence(port *state.Port, egress bool) bool {
	point, reason := "in-rules", "in-denied"
	if egress {
		point, reason = "out-rules", "out-denied"
	}
	if !port.PortSecurity || w.p.Type == ARP || w.exempt(egress) {
		return true
	}
	if w.p.Type != IPv4 && w.p.Type != IPv6 {
		return true
	}
	if w.p.Answer && w.remembers(port) {
		w.step(strings.TrimSuffix(point, "rules")+"state", port.Ref(), Fields{"ct_state"}, "an answer to what was let by")
		return true
	}
	for _, id := range port.SecurityGroups {
		group := state.Find[*state.SecurityGroup](w.v, id)
		if group == nil {
			continue
		}
		for i := range group.Rules {
			if rule := &group.Rules[i]; rule.Egress == egress {
				if ok, fields := w.allows(rule); ok {
					w.rule(point, group.Ref(), rule.ID, fields, "allowed")
					return true
				}
			}
		}
	}
	w.step(point, port.Ref(), nil, "no rule of its %d groups allows it", len(port.SecurityGroups))
	w.drop(reason)
	return false
}

// remembers says whether the connections of a port are kept: whether one of its groups is stateful.
func (w *walk) remembers(port *state.Port) bool {
	return slices.ContainsFunc(port.SecurityGroups, func(id string) bool {
		group := state.Find[*state.SecurityGroup](w.v, id)
		return group != nil && !group.Stateless
	})
}

// exempt is what groups do not decide: DHCP between a client and its server, neighbour discovery, and reports of multicast listeners.
func (w *walk) exempt(egress bool) bool {
	p := &w.p
	if p.Proto == UDP {
		client, server := uint16(68), uint16(67)
		if p.Type == IPv6 {
			client, server = 546, 547
		}
		if egress {
			return p.SrcPort == client && p.DstPort == server
		}
		return p.SrcPort == server && p.DstPort == client
	}
	if p.Type != IPv6 || p.Proto != ICMPv6 {
		return false
	}
	switch p.ICMPType {
	case 130, 131, 132, 135, 136:
		return true
	case 133, 143:
		return egress
	case 134:
		return !egress
	}
	return false
}

// allows says whether a rule fits the packet, and by what.
func (w *walk) allows(r *state.SecurityRule) (ok bool, fields Fields) {
	p := &w.p
	if r.V6 != (p.Type == IPv6) {
		return false, nil
	}
	fields = Fields{"eth_type"}
	if r.Protocol >= 0 {
		if fields = append(fields, "ip_proto"); r.Protocol != p.Proto {
			return false, nil
		}
	}
	if r.HasPorts() {
		if fields = append(fields, "tp_dst"); p.DstPort < r.PortMin || p.DstPort > r.PortMax {
			return false, nil
		}
	}
	if r.ICMPType >= 0 {
		if fields = append(fields, "icmp_type"); r.ICMPType != int(p.ICMPType) {
			return false, nil
		}
	}
	if r.ICMPCode >= 0 {
		if fields = append(fields, "icmp_code"); r.ICMPCode != int(p.ICMPCode) {
			return false, nil
		}
	}
	remote, field := p.Src, "ip_src"
	if r.Egress {
		remote, field = p.Dst, "ip_dst"
	}
	switch {
	case r.Remote.IsValid():
		return r.Remote.Contains(remote), append(fields, field)
	case r.RemoteSet != "":
		return w.inSet(r.RemoteSet, remote), append(fields, field)
	}
	return true, fields
}

func (w *walk) inSet(set string, a netip.Addr) bool {
	for _, part := range state.All[*state.AddressSet](w.v, state.Index{List: state.ListPartsOfSet, ID: set}) {
		if within(part.Prefixes, a) {
			return true
		}
	}
	return false
}
