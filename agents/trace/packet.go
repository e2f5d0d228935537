package trace

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/headwater-cloud/headwater/agents/state"
)

// EtherType is what an Ethernet frame carries.
type EtherType uint16

// The types that are told apart.
const (
	IPv4 EtherType = 0x0800
	ARP  EtherType = 0x0806
	IPv6 EtherType = 0x86dd
)

// Protocols of IP.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
	SCTP   = 132
)

// Packet is a packet as a guest sends it. What does not belong to its type is zero.
type Packet struct {
	EthSrc, EthDst   state.MAC
	VLAN             uint16 // 0: no tag; a subport always has its own
	Type             EtherType
	Src, Dst         netip.Addr // of ARP: the sender's and the target's protocol addresses
	Proto            int
	SrcPort, DstPort uint16
	ICMPType         uint8
	ICMPCode         uint8
	TTL              uint8
	Length           int // of the IP packet in bytes; 0: small

	ARPOp    uint16
	ARPSHA   state.MAC
	NDTarget netip.Addr // of ICMPv6 135 and 136
	NDOption state.MAC  // source or target link-layer address; 0: absent

	// Established says that the connection was let by before, in this direction.
	Established bool
	// Answer says that it belongs to a connection that the other end began, or is an error about one. It is the simulation's: switches are not told.
	Answer bool
}

// Text is the packet in the words of ovs-fields(7), for ofproto/trace.
func (p *Packet) Text() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, ","+format, args...) }
	fmt.Fprintf(&b, "eth_src=%s,eth_dst=%s", p.EthSrc, p.EthDst)
	if p.VLAN != 0 {
		add("dl_vlan=%d", p.VLAN)
	}
	add("eth_type=%#04x", uint16(p.Type))
	switch p.Type {
	case ARP:
		add("arp_op=%d,arp_spa=%s,arp_tpa=%s,arp_sha=%s", p.ARPOp, p.Src, p.Dst, p.ARPSHA)
		return b.String()
	case IPv4:
		add("nw_src=%s,nw_dst=%s,nw_proto=%d,nw_ttl=%d", p.Src, p.Dst, p.Proto, p.TTL)
	case IPv6:
		add("ipv6_src=%s,ipv6_dst=%s,nw_proto=%d,nw_ttl=%d", p.Src, p.Dst, p.Proto, p.TTL)
	default:
		return b.String()
	}
	switch p.Proto {
	case TCP:
		add("tcp_src=%d,tcp_dst=%d", p.SrcPort, p.DstPort)
	case UDP:
		add("udp_src=%d,udp_dst=%d", p.SrcPort, p.DstPort)
	case SCTP:
		add("sctp_src=%d,sctp_dst=%d", p.SrcPort, p.DstPort)
	case ICMP:
		add("icmp_type=%d,icmp_code=%d", p.ICMPType, p.ICMPCode)
	case ICMPv6:
		add("icmpv6_type=%d,icmpv6_code=%d", p.ICMPType, p.ICMPCode)
		p.discovery(add)
	}
	return b.String()
}

func (p *Packet) discovery(add func(string, ...any)) {
	if !p.NDTarget.IsValid() {
		return
	}
	add("nd_target=%s", p.NDTarget)
	switch {
	case p.NDOption == 0:
	case p.ICMPType == 135:
		add("nd_sll=%s,nd_options_type=1", p.NDOption)
	case p.ICMPType == 136:
		add("nd_tll=%s,nd_options_type=2", p.NDOption)
	}
}

// Fields are those that decided a step, in the words of ovs-fields(7).
type Fields []string
