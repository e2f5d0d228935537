package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Frame is an IP packet as it is sent, with correct checksums: id is the identification of IPv4, of an echo request, and of TCP's first packet.
// Where p says a length, the payload is filled up to it.
func Frame(p Packet, id uint16, payload []byte) ([]byte, error) {
	if p.Type != IPv4 && p.Type != IPv6 || p.Src.Is4() != p.Dst.Is4() || p.Src.Is4() != (p.Type == IPv4) {
		return nil, fmt.Errorf("%s: only IP packets can be sent", p.Text())
	}
	head := 20
	if p.Type == IPv6 {
		head = 40
	}
	body := transport(&p, id, payload)
	if more := p.Length - head - len(body); more > 0 {
		body = transport(&p, id, append(payload[:len(payload):len(payload)], make([]byte, more)...))
	}
	if head+len(body) > 1<<16-1 {
		return nil, errors.New("the packet is longer than IP allows")
	}
	out := append(append([]byte{}, p.EthDst.Bytes()...), p.EthSrc.Bytes()...)
	out = binary.BigEndian.AppendUint16(out, uint16(p.Type))
	if p.Type == IPv4 {
		h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, p.TTL, byte(p.Proto), 0, 0} //nolint:gosec // 8 bits
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))            //nolint:gosec // checked above
		binary.BigEndian.PutUint16(h[4:], id)
		h = append(append(h, p.Src.AsSlice()...), p.Dst.AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], checksum(0, h))
		return append(append(out, h...), body...), nil
	}
	h := []byte{0x60, 0, 0, 0, 0, 0, byte(p.Proto), p.TTL} //nolint:gosec // 8 bits
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))   //nolint:gosec // checked above
	h = append(append(h, p.Src.AsSlice()...), p.Dst.AsSlice()...)
	return append(append(out, h...), body...), nil
}

// transport is what the IP packet carries.
func transport(p *Packet, id uint16, payload []byte) []byte {
	var b []byte
	at := -1 // the checksum
	switch p.Proto {
	case TCP: // SYN (RFC 9293 section 3.1)
		b, at = []byte{4: byte(id >> 8), 5: byte(id), 12: 5 << 4, 13: 2, 14: 0xff, 15: 0xff, 19: 0}, 16
	case UDP:
		b, at = []byte{7: 0}, 6
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload))) //nolint:gosec // Frame checks the length
	case SCTP:
		b = []byte{11: 0}
	case ICMP, ICMPv6:
		b, at = []byte{p.ICMPType, p.ICMPCode, 0, 0, byte(id >> 8), byte(id), 0, 1}, 2
	default:
		return payload
	}
	if p.Proto == TCP || p.Proto == UDP || p.Proto == SCTP {
		binary.BigEndian.PutUint16(b, p.SrcPort)
		binary.BigEndian.PutUint16(b[2:], p.DstPort)
	}
	b = append(b, payload...)
	switch p.Proto {
	case SCTP: // RFC 9260 appendix A
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	case ICMP:
		binary.BigEndian.PutUint16(b[at:], checksum(0, b))
	default:
		sum := checksum(pseudo(p, len(b)), b)
		if p.Proto == UDP && sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(b[at:], sum)
	}
	return b
}

// pseudo is the sum of the addresses, the protocol and the length, which checksums of transports include.
func pseudo(p *Packet, length int) uint32 {
	sum := uint32(p.Proto) + uint32(length) //nolint:gosec // small
	for _, a := range [][]byte{p.Src.AsSlice(), p.Dst.AsSlice()} {
		for i := 0; i < len(a); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(a[i:]))
		}
	}
	return sum
}

// checksum is the Internet's (RFC 1071).
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum) //nolint:gosec // folded just now
}

// Read reads a frame's fields. What it cannot read, such as a later fragment's ports, stays zero.
func Read(frame []byte) (Packet, error) {
	r, err := take(frame)
	return r.packet, err
}

// taken is a frame taken apart.
type taken struct {
	packet   Packet
	fragment uint16 // of IPv4: flags and offset
	id       []byte // what the network layer has that no host on the way changes
	body     []byte // of IP: the transport; of others: all after the Ethernet header
	later    bool   // a fragment that is not the first
}

var errShort = errors.New("the frame is too short")

// take takes a frame apart.
func take(frame []byte) (t taken, err error) {
	if len(frame) < 14 {
		return t, errShort
	}
	p := &t.packet
	p.EthDst, p.EthSrc = state.MACOf(frame[:6]), state.MACOf(frame[6:12])
	kind, b := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	if kind == 0x8100 && len(b) >= 4 {
		p.VLAN, kind, b = binary.BigEndian.Uint16(b)&0xfff, binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	p.Type, t.body = EtherType(kind), b
	switch {
	case p.Type == IPv4 && len(b) >= 20:
		return t, t.v4(b)
	case p.Type == IPv6 && len(b) >= 40:
		return t, t.v6(b)
	case p.Type == ARP && len(b) >= 28:
		t.body = b[:28]
		p.ARPOp, p.ARPSHA = binary.BigEndian.Uint16(b[6:]), state.MACOf(b[8:14])
		p.Src, p.Dst = netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	case p.Type == IPv4, p.Type == IPv6, p.Type == ARP:
		return t, errShort
	}
	return t, nil
}

func (t *taken) v4(b []byte) error {
	p := &t.packet
	head, length := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < 20 || length < head || length > len(b) {
		return errShort
	}
	t.id, t.fragment = b[4:8], binary.BigEndian.Uint16(b[6:])
	t.later = t.fragment&0x1fff != 0
	p.TTL, p.Proto, p.Length = b[8], int(b[9]), length
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	t.body = b[head:length]
	t.ports()
	return nil
}

func (t *taken) v6(b []byte) error {
	p := &t.packet
	length := int(binary.BigEndian.Uint16(b[4:]))
	if 40+length > len(b) {
		return errShort
	}
	t.id = []byte{b[1] & 0xf, b[2], b[3]} // the flow label
	p.Proto, p.TTL, p.Length = int(b[6]), b[7], 40+length
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	t.body = b[40 : 40+length]
	t.ports()
	return nil
}

// ports reads what belongs to the transport.
func (t *taken) ports() {
	p, b := &t.packet, t.body
	if t.later || len(b) < 8 {
		return
	}
	switch p.Proto {
	case TCP, UDP, SCTP:
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if p.Proto == TCP && len(b) >= 20 {
			p.Established = b[13]&0x12 != 2 // any but the first of a connection
		}
	case ICMP, ICMPv6:
		p.ICMPType, p.ICMPCode = b[0], b[1]
		if p.Proto == ICMPv6 && (b[0] == 135 || b[0] == 136) && len(b) >= 24 {
			p.NDTarget = netip.AddrFrom16([16]byte(b[8:24]))
			if len(b) >= 32 && b[25] == 1 && (b[24] == 1 && b[0] == 135 || b[24] == 2 && b[0] == 136) {
				p.NDOption = state.MACOf(b[26:32])
			}
		}
	}
}

// constant is what of a frame stays the same, whatever hosts on the way do with it: neither addresses nor ports, which are translated, nor what depends on
// them. Two packets that have it in common are, but for a coincidence, the same one.
func (t *taken) constant() string {
	p, b := &t.packet, t.body
	out := binary.BigEndian.AppendUint16(nil, uint16(p.Type))
	if p.Type != IPv4 && p.Type != IPv6 {
		return string(append(out, b...))
	}
	out = append(append(out, byte(p.Proto)), t.id...) //nolint:gosec // 8 bits
	without := func(parts ...[]byte) string {
		for _, part := range parts {
			out = append(out, part...)
		}
		return string(out)
	}
	switch {
	case t.later || len(b) < 8:
		return without(b)
	case p.Proto == TCP && len(b) >= 20:
		return without(b[4:16], b[18:])
	case p.Proto == UDP:
		return without(b[4:6], b[8:])
	case p.Proto == SCTP && len(b) >= 12:
		return without(b[4:8], b[12:])
	case p.Proto == ICMP && (b[0] == 3 || b[0] == 11 || b[0] == 12), p.Proto == ICMPv6 && b[0] < 128:
		return without(b[:2]) // errors quote a packet, whose addresses are translated too
	case p.Proto == ICMP || p.Proto == ICMPv6:
		return without(b[:2], b[4:])
	}
	return without(b)
}

// ends are the addresses of a packet, between which it is the only one with its constant part.
func (t *taken) ends() string {
	p := &t.packet
	return fmt.Sprintf("%s %s %s %s %d %d", p.EthSrc, p.EthDst, p.Src, p.Dst, p.SrcPort, p.DstPort)
}
