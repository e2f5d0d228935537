package flows

import (
	"math/bits"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

const (
	fragmentLater = 1 << 1 // a bit of ip_frag
	protoFragment = 44     // IPv6's fragment header
)

// matchesOf are the packets of which a rule speaks, whatever its remote set. No two of them have a packet in common.
func matchesOf(r *state.SecurityRule, s side) []openflow.Match {
	m := ipv4(match())
	if r.V6 {
		m = ipv6(match())
	}
	if r.Remote.IsValid() {
		m = s.remote(m, r.Remote)
	}
	if r.Protocol < 0 {
		return []openflow.Match{m}
	}
	out := partsOf(r, m)
	if len(out) > 0 || r.V6 {
		return append(out, later(r, m))
	}
	return []openflow.Match{proto(m, r.Protocol)}
}

// partsOf are packets of a rule's protocol, and first fragments, with the ports or the type of ICMP that it says.
func partsOf(r *state.SecurityRule, m openflow.Match) []openflow.Match {
	m = proto(m, r.Protocol).Masked(openflow.IPFrag, openflow.Num(0), openflow.Num(fragmentLater))
	switch {
	case r.HasPorts():
		return portsOf(r, m)
	case r.ICMPType >= 0:
		return []openflow.Match{typeOf(r, m)}
	case r.V6:
		return []openflow.Match{m}
	}
	return nil
}

// later is the fragments behind the first. They have no port, and in IPv6 not even a protocol (Open vSwitch says that it is the fragment header's): they pass where
// some packet would of the same protocol, or of any in IPv6. Who gets one can do nothing with it without the first, and where a datapath shows the
// connection tracker fragments at all it lets them go on only when it has seen them all.
func later(r *state.SecurityRule, m openflow.Match) openflow.Match {
	protocol := r.Protocol
	if r.V6 {
		protocol = protoFragment
	}
	return proto(m, protocol).Masked(openflow.IPFrag, openflow.Num(fragmentLater), openflow.Num(fragmentLater))
}

func portsOf(r *state.SecurityRule, m openflow.Match) []openflow.Match {
	field := map[int]openflow.FieldID{protoTCP: openflow.TCPDst, protoUDP: openflow.UDPDst, protoSCTP: openflow.SCTPDst}[r.Protocol]
	var out []openflow.Match
	for _, p := range maskedPorts(r.PortMin, r.PortMax) {
		out = append(out, m.Masked(field, openflow.Num(uint64(p.value)), openflow.Num(uint64(p.mask))))
	}
	return out
}

func typeOf(r *state.SecurityRule, m openflow.Match) openflow.Match {
	kind, code := openflow.ICMPv4Type, openflow.ICMPv4Code
	if r.V6 {
		kind, code = openflow.ICMPv6Type, openflow.ICMPv6Code
	}
	m = m.Num(kind, uint64(r.ICMPType)) //nolint:gosec // 8 bits
	if r.ICMPCode >= 0 {
		m = m.Num(code, uint64(r.ICMPCode)) //nolint:gosec // 8 bits
	}
	return m
}

// masked is the ports whose bits of mask are those of value.
type masked struct{ value, mask uint16 }

// maskedPorts is a range of ports as the fewest masks: from its beginning on, the largest block that is aligned there and ends within it.
func maskedPorts(first, last uint16) []masked {
	var out []masked
	for at, end := uint32(first), uint32(last); at <= end; {
		size := uint32(1) << min(bits.TrailingZeros32(at), 16)
		for at+size-1 > end {
			size /= 2
		}
		out = append(out, masked{uint16(at), ^uint16(size - 1)}) //nolint:gosec // below 1<<16
		at += size
	}
	return out
}
