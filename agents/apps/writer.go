package apps

import (
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/state"
)

// writer makes frames. It is used by one goroutine at a time; the frames are their receiver's.
type writer struct {
	buf gopacket.SerializeBuffer
	eth layers.Ethernet
	ip4 layers.IPv4
	ip6 layers.IPv6
	udp layers.UDP
}

// ends are both ends of a frame.
type ends struct {
	srcMAC, dstMAC state.MAC
	src, dst       netip.Addr
}

// back are the ends of an answer.
func (e ends) back() ends { return ends{e.dstMAC, e.srcMAC, e.dst, e.src} }

const broadcast state.MAC = 0xffffffffffff

// multicastMAC is the Ethernet address of an IPv6 multicast address (RFC 2464 section 7).
func multicastMAC(a netip.Addr) state.MAC {
	b := a.As16()
	return state.MACOf([]byte{0x33, 0x33, b[12], b[13], b[14], b[15]})
}

// solicitedNode is the multicast address of those whose address ends like a (RFC 4291 section 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

func allNodes() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 1}) }

// serialize writes layers, outermost first. It cannot fail: addresses are of their families and nothing is longer than what it answers. Where
// gopacket sees that otherwise, there is no frame, and nothing is sent.
func (w *writer) serialize(parts ...gopacket.SerializableLayer) []byte {
	if w.buf == nil {
		w.buf = gopacket.NewSerializeBufferExpectedSize(128, 1500)
	}
	if err := gopacket.SerializeLayers(w.buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		return nil
	}
	return slices.Clone(w.buf.Bytes())
}

// ip prepares the headers up to IP's.
func (w *writer) ip(e ends, proto layers.IPProtocol, hops uint8) (network gopacket.SerializableLayer) {
	w.eth = layers.Ethernet{SrcMAC: e.srcMAC.Bytes(), DstMAC: e.dstMAC.Bytes(), EthernetType: layers.EthernetTypeIPv4}
	if e.src.Is4() {
		w.ip4 = layers.IPv4{Version: 4, IHL: 5, TTL: hops, Protocol: proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
		return &w.ip4
	}
	w.eth.EthernetType = layers.EthernetTypeIPv6
	w.ip6 = layers.IPv6{Version: 6, HopLimit: hops, NextHeader: proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
	return &w.ip6
}

// datagram is a UDP datagram.
func (w *writer) datagram(e ends, from, to uint16, payload []byte) []byte {
	network := w.ip(e, layers.IPProtocolUDP, 64)
	w.udp = layers.UDP{SrcPort: layers.UDPPort(from), DstPort: layers.UDPPort(to)}
	if err := w.udp.SetNetworkLayerForChecksum(network.(gopacket.NetworkLayer)); err != nil {
		return nil
	}
	return w.serialize(&w.eth, network, &w.udp, gopacket.Payload(payload))
}

// icmp is an ICMP or ICMPv6 message: its type, its code, and what follows the checksum.
func (w *writer) icmp(e ends, kind, code, hops uint8, body []byte) []byte {
	message := append([]byte{kind, code, 0, 0}, body...)
	proto, sum := layers.IPProtocolICMPv4, uint16(0)
	if e.src.Is4() {
		sum = ^fold(sum16(message, 0))
	} else {
		proto, sum = layers.IPProtocolICMPv6, icmp6Sum(e.src, e.dst, message)
	}
	message[2], message[3] = byte(sum>>8), byte(sum)
	network := w.ip(e, proto, hops)
	return w.serialize(&w.eth, network, gopacket.Payload(message))
}

// arp is an ARP message; of an announcement, a request whose both addresses are the sender's.
func (w *writer) arp(op uint16, srcMAC state.MAC, src netip.Addr, dstMAC, targetMAC state.MAC, target netip.Addr) []byte {
	w.eth = layers.Ethernet{SrcMAC: srcMAC.Bytes(), DstMAC: dstMAC.Bytes(), EthernetType: layers.EthernetTypeARP}
	return w.serialize(&w.eth, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: srcMAC.Bytes(), SourceProtAddress: src.AsSlice(), DstHwAddress: targetMAC.Bytes(), DstProtAddress: target.AsSlice(),
	})
}

// reverse is a request of reverse ARP (RFC 903), which nobody answers: it shows switches where an Ethernet address is.
func (w *writer) reverse(mac state.MAC) []byte {
	w.eth = layers.Ethernet{SrcMAC: mac.Bytes(), DstMAC: broadcast.Bytes(), EthernetType: 0x8035}
	none := make([]byte, 4)
	return w.serialize(&w.eth, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 3,
		SourceHwAddress: mac.Bytes(), SourceProtAddress: none, DstHwAddress: mac.Bytes(), DstProtAddress: none,
	})
}

// ndLinkLayer is a neighbour discovery option with an Ethernet address: 1 the sender's, 2 the target's.
func ndLinkLayer(b []byte, kind uint8, mac state.MAC) []byte {
	return append(append(b, kind, 1), mac.Bytes()...)
}

// solicit asks who has an IPv6 address: all that might, or whom dstMAC names.
func (w *writer) solicit(srcMAC state.MAC, src netip.Addr, dstMAC state.MAC, target netip.Addr) []byte {
	e := ends{srcMAC, dstMAC, src, target}
	if dstMAC == 0 {
		e.dst = solicitedNode(target)
		e.dstMAC = multicastMAC(e.dst)
	}
	t := target.As16()
	return w.icmp(e, ndSolicitation, 0, 255, ndLinkLayer(append(make([]byte, 4), t[:]...), 1, srcMAC))
}

// advertise tells all of a link who has an IPv6 address now.
func (w *writer) advertise(mac state.MAC, addr netip.Addr, router bool) []byte {
	t, flags := addr.As16(), byte(0x20) // override
	if router {
		flags |= 0x80
	}
	e := ends{mac, multicastMAC(allNodes()), addr, allNodes()}
	return w.icmp(e, ndAdvertisement, 0, 255, ndLinkLayer(append([]byte{flags, 0, 0, 0}, t[:]...), 2, mac))
}

// Types of neighbour discovery (RFC 4861 section 4).
const (
	routerSolicitation  = 133
	routerAdvertisement = 134
	ndSolicitation      = 135
	ndAdvertisement     = 136
)

// ethernet is a frame of a type.
func (w *writer) ethernet(src, dst state.MAC, kind layers.EthernetType, payload []byte) []byte {
	w.eth = layers.Ethernet{SrcMAC: src.Bytes(), DstMAC: dst.Bytes(), EthernetType: kind}
	return w.serialize(&w.eth, gopacket.Payload(payload))
}
