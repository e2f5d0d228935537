package flows

import (
	"math/bits"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Bits of ip_frag.
const fragmentLater = 1 << 1

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
	m = proto(m, r.Protocol)
	switch {
	case r.HasPorts():
		return portsOf(r, m)
	case r.ICMPType >= 0:
		return typesOf(r, m)
	}
	return []openflow.Match{m}
}

// A fragment that is not the first has no ports. The connection tracker knows those of the whole: a datapath that puts fragments together for the
// look-up and takes them apart again says so of each.

func whole(m openflow.Match) openflow.Match {
	return m.Masked(openflow.IPFrag, openflow.Num(0), openflow.Num(fragmentLater))
}

func later(m openflow.Match, protocol int) openflow.Match {
	m = tracked(m, 0, ctInvalid)
	return m.Masked(openflow.IPFrag, openflow.Num(fragmentLater), openflow.Num(fragmentLater)).Num(openflow.CTNWProto, uint64(protocol)) //nolint:gosec // 8 bits
}

func portsOf(r *state.SecurityRule, m openflow.Match) []openflow.Match {
	field := map[int]openflow.FieldID{protoTCP: openflow.TCPDst, protoUDP: openflow.UDPDst, protoSCTP: openflow.SCTPDst}[r.Protocol]
	var out []openflow.Match
	for _, p := range maskedPorts(r.PortMin, r.PortMax) {
		value, mask := openflow.Num(uint64(p.value)), openflow.Num(uint64(p.mask))
		out = append(out, whole(m).Masked(field, value, mask), later(m, r.Protocol).Masked(openflow.CTTPDst, value, mask))
	}
	return out
}

func typesOf(r *state.SecurityRule, m openflow.Match) []openflow.Match {
	kind, code := openflow.ICMPv4Type, openflow.ICMPv4Code
	if r.V6 {
		kind, code = openflow.ICMPv6Type, openflow.ICMPv6Code
	}
	first, rest := whole(m).Num(kind, uint64(r.ICMPType)), later(m, r.Protocol).Num(openflow.CTTPSrc, uint64(r.ICMPType)) //nolint:gosec // 8 bits
	if r.ICMPCode >= 0 {
		first, rest = first.Num(code, uint64(r.ICMPCode)), rest.Num(openflow.CTTPDst, uint64(r.ICMPCode)) //nolint:gosec // 8 bits
	}
	return []openflow.Match{first, rest}
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
