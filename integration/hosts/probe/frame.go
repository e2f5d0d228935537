package probe

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
)

// Kinds of frames and of what is in them.
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeRARP = 0x8035
	typeIPv6 = 0x86dd

	typeExperimental = 0x88b5 // for local use (IEEE 802 clause 9.2.3)

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// headers is the length of an Ethernet header; frames are at least least bytes long, without their check sequence.
const (
	headers = 14
	least   = 60
)

// Broadcast is everybody's address.
func Broadcast() net.HardwareAddr { return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// Ethernet is a frame of a type, at least as long as the shortest.
func Ethernet(dst, src net.HardwareAddr, kind uint16, payload []byte) []byte {
	b := append(append(append(make([]byte, 0, least), dst...), src...), byte(kind>>8), byte(kind))
	b = append(b, payload...)
	for len(b) < least {
		b = append(b, 0)
	}
	return b
}

// kind is a frame's type.
func kind(frame []byte) uint16 {
	if len(frame) < headers {
		return 0
	}
	return binary.BigEndian.Uint16(frame[12:])
}

// sum adds 16-bit words as RFC 1071 has it.
func sum(acc uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		acc += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

func fold(acc uint32) uint16 {
	for acc>>16 != 0 {
		acc = acc&0xffff + acc>>16
	}
	return ^uint16(acc)
}

// pseudo is the sum of the pseudo header, RFC 8200 section 8.1 and RFC 768.
func pseudo(src, dst netip.Addr, proto byte, length int) uint32 {
	return sum(sum(uint32(proto)+uint32(length), src.AsSlice()), dst.AsSlice())
}

// ip wraps a payload in an IPv4 or IPv6 header; hops is the TTL.
func ip(src, dst netip.Addr, proto, hops byte, payload []byte) (kind uint16, packet []byte) {
	if dst.Is4() {
		h := make([]byte, 20, 20+len(payload))
		h[0], h[8], h[9] = 0x45, hops, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(h[10:], fold(sum(0, h)))
		return typeIPv4, append(h, payload...)
	}
	h := make([]byte, 40, 40+len(payload))
	h[0], h[6], h[7] = 0x60, proto, hops
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return typeIPv6, append(h, payload...)
}

// unwrap returns the sender and the payload of an IP packet that has a protocol.
func unwrap(frame []byte, proto byte) (src netip.Addr, payload []byte, ok bool) {
	switch b := frame[min(headers, len(frame)):]; {
	case kind(frame) == typeIPv4 && len(b) >= 20 && b[9] == proto:
		n, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if n < 20 || total < n || total > len(b) {
			return src, nil, false
		}
		src, _ = netip.AddrFromSlice(b[12:16])
		return src, b[n:total], true
	case kind(frame) == typeIPv6 && len(b) >= 40 && b[6] == proto:
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) {
			return src, nil, false
		}
		src, _ = netip.AddrFromSlice(b[8:24])
		return src, b[40:total], true
	}
	return src, nil, false
}

// UDP is a datagram from one machine and port to another.
func UDP(mac, to net.HardwareAddr, src, dst netip.AddrPort, payload []byte) []byte {
	u := binary.BigEndian.AppendUint16(make([]byte, 0, 8+len(payload)), src.Port())
	u = binary.BigEndian.AppendUint16(u, dst.Port())
	u = append(binary.BigEndian.AppendUint16(u, uint16(8+len(payload))), 0, 0)
	u = append(u, payload...)
	binary.BigEndian.PutUint16(u[6:], fold(sum(pseudo(src.Addr(), dst.Addr(), protoUDP, len(u)), u)))
	kind, packet := ip(src.Addr(), dst.Addr(), protoUDP, 64, u)
	return Ethernet(to, mac, kind, packet)
}

// IP is a packet of a protocol whose checksum is filled in where the protocol is TCP, UDP, ICMP or ICMPv6; hops is its TTL.
func IP(mac, to net.HardwareAddr, src, dst netip.Addr, proto, hops byte, transport []byte) []byte {
	b := bytes.Clone(transport)
	start := pseudo(src, dst, proto, len(b))
	if proto == protoICMP {
		start = 0
	}
	if at, ok := map[byte]int{protoTCP: 16, protoUDP: 6, protoICMP: 2, protoICMPv6: 2}[proto]; ok {
		b[at], b[at+1] = 0, 0
		binary.BigEndian.PutUint16(b[at:], fold(sum(start, b)))
	}
	kind, packet := ip(src, dst, proto, hops, b)
	return Ethernet(to, mac, kind, packet)
}

// Tagged is a frame with the tag of a VLAN put in.
func Tagged(frame []byte, vlan uint16) []byte {
	b := append(bytes.Clone(frame[:12]), 0x81, 0, byte(vlan>>8), byte(vlan))
	return append(b, frame[12:]...)
}

// echoID marks our echo requests.
const echoID = 0x6877

// Echo is an ICMP echo request that carries a number.
func Echo(mac, to net.HardwareAddr, src, dst netip.Addr, number uint64) []byte {
	b := make([]byte, 16)
	b[0] = 8
	binary.BigEndian.PutUint16(b[4:], echoID)
	binary.BigEndian.PutUint16(b[6:], uint16(number))
	binary.BigEndian.PutUint64(b[8:], number)
	proto, start := byte(protoICMP), uint32(0)
	if dst.Is6() {
		b[0] = 128
		proto, start = protoICMPv6, pseudo(src, dst, protoICMPv6, len(b))
	}
	binary.BigEndian.PutUint16(b[2:], fold(sum(start, b)))
	kind, packet := ip(src, dst, proto, 64, b)
	return Ethernet(to, mac, kind, packet)
}

// echoed is the number of an echo request of ours that a frame answers.
func echoed(frame []byte, from netip.Addr) (number uint64, ok bool) {
	proto, reply := byte(protoICMP), byte(0)
	if from.Is6() {
		proto, reply = protoICMPv6, 129
	}
	src, b, ok := unwrap(frame, proto)
	if !ok || src != from || len(b) < 16 || b[0] != reply || binary.BigEndian.Uint16(b[4:]) != echoID {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}

// ARP is a message about IPv4 with an operation: 1 asks, 2 answers. A kind of frame other than 0x0806 makes it one of ARP's kin.
func ARP(kind, op uint16, mac net.HardwareAddr, spa netip.Addr, tha net.HardwareAddr, tpa netip.Addr, to net.HardwareAddr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, byte(op >> 8), byte(op)}
	b = append(append(b, mac...), spa.AsSlice()...)
	b = append(append(b, tha...), tpa.AsSlice()...)
	return Ethernet(to, mac, kind, b)
}

// Solicit asks who has an address: ARP, or a neighbour solicitation to its group of RFC 4291 section 2.7.1.
func Solicit(mac net.HardwareAddr, src, target netip.Addr) []byte {
	if target.Is4() {
		return ARP(typeARP, 1, mac, src, make(net.HardwareAddr, 6), target, Broadcast())
	}
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	b := append(append(make([]byte, 8, 32), t[:]...), 1, 1)
	b[0] = 135
	b = append(b, mac...)
	binary.BigEndian.PutUint16(b[2:], fold(sum(pseudo(src, group, protoICMPv6, len(b)), b)))
	kind, packet := ip(src, group, protoICMPv6, 255, b)
	return Ethernet(net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}, mac, kind, packet)
}

// solicited is the hardware address that a frame says an address has.
func solicited(frame []byte, target netip.Addr) net.HardwareAddr {
	if target.Is4() {
		if kind(frame) != typeARP || len(frame) < 42 || frame[21] != 2 || !bytes.Equal(frame[28:32], target.AsSlice()) {
			return nil
		}
		return bytes.Clone(frame[22:28])
	}
	_, b, ok := unwrap(frame, protoICMPv6)
	if !ok || len(b) < 24 || b[0] != 136 || !bytes.Equal(b[8:24], target.AsSlice()) {
		return nil
	}
	if len(b) >= 32 && b[24] == 2 {
		return bytes.Clone(b[26:32])
	}
	return bytes.Clone(frame[6:12])
}
