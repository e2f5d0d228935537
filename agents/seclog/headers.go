package seclog

import (
	"encoding/binary"
	"net/netip"
)

// headers are what a record says of a packet.
type headers struct {
	src, dst netip.Addr
	v6       bool
	proto    uint8
	later    bool // a fragment behind the first: nothing follows the headers of IP
	ports    bool
	srcPort  uint16
	dstPort  uint16
	icmp     bool
	kind     uint8
	code     uint8
}

const (
	ethLength   = 14
	ethIPv4     = 0x0800
	ethIPv6     = 0x86dd
	ipv4Length  = 20
	ipv6Length  = 40
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// parse reads the headers of a frame of IP without tags, as far as there is any of it.
func parse(frame []byte) (h headers, ok bool) {
	if len(frame) < ethLength {
		return h, false
	}
	packet := frame[ethLength:]
	var rest []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case ethIPv4:
		rest, ok = h.ipv4(packet)
	case ethIPv6:
		rest, ok = h.ipv6(packet)
	}
	if !ok || h.later {
		return h, ok
	}
	switch {
	case (h.proto == protoTCP || h.proto == protoUDP || h.proto == protoSCTP) && len(rest) >= 4:
		h.ports, h.srcPort, h.dstPort = true, binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	case (h.proto == protoICMP && !h.v6 || h.proto == protoICMPv6 && h.v6) && len(rest) >= 2:
		h.icmp, h.kind, h.code = true, rest[0], rest[1]
	}
	return h, true
}

func (h *headers) ipv4(p []byte) (rest []byte, ok bool) {
	if len(p) < ipv4Length || p[0]>>4 != 4 {
		return nil, false
	}
	length := int(p[0]&0xf) * 4
	if length < ipv4Length {
		return nil, false
	}
	h.src, h.dst = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	h.proto, h.later = p[9], binary.BigEndian.Uint16(p[6:])&0x1fff != 0
	return p[min(length, len(p)):], true
}

// IPv6's extension headers (RFC 8200 section 4) that Open vSwitch looks behind, too.
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAH          = 51
	extDestination = 60
)

func (h *headers) ipv6(p []byte) (rest []byte, ok bool) {
	if len(p) < ipv6Length || p[0]>>4 != 6 {
		return nil, false
	}
	h.v6, h.src, h.dst = true, netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	h.proto, rest = p[6], p[ipv6Length:]
	for len(rest) >= 8 {
		length := 8 + int(rest[1])*8
		switch h.proto {
		case extHopByHop, extRouting, extDestination:
		case extAH:
			length = 8 + int(rest[1])*4
		case extFragment:
			length = 8
			if h.proto, h.later = rest[0], binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0; h.later {
				return nil, true
			}
			rest = rest[length:]
			continue
		default:
			return rest, true
		}
		h.proto, rest = rest[0], rest[min(length, len(rest)):]
	}
	return rest, true
}
