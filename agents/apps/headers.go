package apps

import (
	"encoding/binary"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Headers are what stands at the head of a frame. Slices are the frame's own bytes.
type Headers struct {
	EthDst, EthSrc state.MAC
	Is4, Is6       bool
	Src, Dst       netip.Addr // of IP
	Proto          layers.IPProtocol
	HopLimit       uint8  // or TTL
	Later          bool   // a fragment that is not the first
	IP             []byte // the IP packet, from its header on, without Ethernet's padding
	Transport      []byte // what follows the IP headers, nil of later fragments
	UDP            *layers.UDP
	ARP            *layers.ARP

	layers headerLayers
}

// headerLayers are gopacket's layers, used again for each frame. They are asked one by one and not by a parser of gopacket's, which would go
// on into IP within IP and write over the outer header.
type headerLayers struct {
	eth  layers.Ethernet
	arp  layers.ARP
	ip4  layers.IPv4
	ip6  layers.IPv6
	skip layers.IPv6ExtensionSkipper
	frag layers.IPv6Fragment
	udp  layers.UDP
}

// clear forgets the last frame.
func (h *Headers) clear() { *h = Headers{layers: h.layers} }

// decode reads the headers of a frame as far as they can be read. What cannot is left zero: a director that needs it passes.
func (h *Headers) decode(frame []byte) {
	h.clear()
	l := &h.layers
	if l.eth.DecodeFromBytes(frame, gopacket.NilDecodeFeedback) != nil {
		return
	}
	h.EthDst, h.EthSrc = state.MACOf(l.eth.DstMAC), state.MACOf(l.eth.SrcMAC)
	switch l.eth.EthernetType {
	case layers.EthernetTypeARP:
		ok := l.arp.DecodeFromBytes(l.eth.Payload, gopacket.NilDecodeFeedback) == nil
		if ok && l.arp.HwAddressSize == 6 && l.arp.ProtAddressSize == 4 && l.arp.Protocol == layers.EthernetTypeIPv4 {
			h.ARP = &l.arp
		}
	case layers.EthernetTypeIPv4:
		h.ipv4()
	case layers.EthernetTypeIPv6:
		h.ipv6()
	}
	if h.Later {
		h.Transport = nil
	}
	if h.Proto == layers.IPProtocolUDP && h.Transport != nil && l.udp.DecodeFromBytes(h.Transport, gopacket.NilDecodeFeedback) == nil {
		h.UDP = &l.udp
	}
}

func (h *Headers) ipv4() {
	ip := &h.layers.ip4
	if ip.DecodeFromBytes(h.layers.eth.Payload, gopacket.NilDecodeFeedback) != nil || ip.Version != 4 {
		return
	}
	h.Is4, h.Proto, h.HopLimit, h.Later, h.Transport = true, ip.Protocol, ip.TTL, ip.FragOffset != 0, ip.Payload
	h.Src, _ = netip.AddrFromSlice(ip.SrcIP)
	h.Dst, _ = netip.AddrFromSlice(ip.DstIP)
	h.IP = h.layers.eth.Payload[:len(ip.Contents)+len(ip.Payload)]
}

// maxExtensions bounds the IPv6 extension headers that are walked over.
const maxExtensions = 8

func (h *Headers) ipv6() {
	l := &h.layers
	if l.ip6.DecodeFromBytes(l.eth.Payload, gopacket.NilDecodeFeedback) != nil || l.ip6.Version != 6 {
		return
	}
	h.Is6, h.Proto, h.HopLimit, h.Transport = true, l.ip6.NextHeader, l.ip6.HopLimit, l.ip6.Payload
	if l.ip6.HopByHop != nil {
		h.Proto = l.ip6.HopByHop.NextHeader
	}
	h.Src, _ = netip.AddrFromSlice(l.ip6.SrcIP)
	h.Dst, _ = netip.AddrFromSlice(l.ip6.DstIP)
	h.IP = l.eth.Payload[:min(40+int(l.ip6.Length), len(l.eth.Payload))]
	for range maxExtensions {
		switch h.Proto {
		case layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination:
			if l.skip.DecodeFromBytes(h.Transport, gopacket.NilDecodeFeedback) != nil {
				h.Transport = nil
				return
			}
			h.Proto, h.Transport = l.skip.NextHeader, l.skip.Payload
		case layers.IPProtocolIPv6Fragment:
			if l.frag.DecodeFromBytes(h.Transport, gopacket.NilDecodeFeedback) != nil {
				h.Transport = nil
				return
			}
			h.Proto, h.Transport, h.Later = l.frag.NextHeader, l.frag.Payload, l.frag.FragmentOffset != 0
			if h.Later {
				return
			}
		default:
			return
		}
	}
	h.Transport = nil
}

// icmp is the type and code of ICMP or ICMPv6; ok says whether it is one.
func (h *Headers) icmp() (kind, code uint8, ok bool) {
	ok = len(h.Transport) >= 4 && (h.Is4 && h.Proto == layers.IPProtocolICMPv4 || h.Is6 && h.Proto == layers.IPProtocolICMPv6)
	if !ok {
		return 0, 0, false
	}
	return h.Transport[0], h.Transport[1], true
}

// nd is the body of a neighbour discovery message that has come over one link and is whole (RFC 4861 section 6.1): what follows its type, code and
// checksum. nil: it is none.
func (h *Headers) nd(kind uint8, least int) []byte {
	if t, code, ok := h.icmp(); !ok || !h.Is6 || t != kind || code != 0 || h.HopLimit != 255 || len(h.Transport) < least {
		return nil
	}
	if icmp6Sum(h.Src, h.Dst, h.Transport) != 0 {
		return nil
	}
	return h.Transport[4:]
}

// ndOption finds the first option of a type behind a neighbour discovery message's fixed part; ok is false when the options cannot be read.
func ndOption(options []byte, kind uint8) (value []byte, ok bool) {
	for len(options) > 0 {
		if len(options) < 2 || options[1] == 0 || len(options) < int(options[1])*8 {
			return nil, false
		}
		n := int(options[1]) * 8
		if options[0] == kind && value == nil {
			value = options[2:n]
		}
		options = options[n:]
	}
	return value, true
}

// icmp6Sum is the checksum of an ICMPv6 message under its addresses: 0 of one whose own checksum is right.
func icmp6Sum(src, dst netip.Addr, message []byte) uint16 {
	s, d := src.As16(), dst.As16()
	sum := sum16(s[:], 0)
	sum = sum16(d[:], sum)
	sum += uint32(len(message)) + uint32(layers.IPProtocolICMPv6) //nolint:gosec // at most 64 KiB
	return ^fold(sum16(message, sum))
}

// sum16 adds the 16-bit words of b to a sum.
func sum16(b []byte, sum uint32) uint32 {
	for len(b) >= 2 {
		sum += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// fold is the sum in ones' complement.
func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum) //nolint:gosec // just folded
}
