package openflow

import (
	"encoding/hex"
	"math/bits"
	"net/netip"
	"strconv"
)

// textOrder is the order in which ovs-ofctl writes conditions (match_format of Open vSwitch); NoField is the place of the word for the protocol.
var textOrder = []FieldID{
	PktMark, RecircID, DPHash, ConjID, ActsetOutput, CTState, CTZone, CTMark, CTLabel, CTNWSrc, CTIPv6Src, CTNWDst, CTIPv6Dst, CTNWProto, CTTPSrc, CTTPDst,
	PacketType, NoField, Reg0, Reg1, Reg2, Reg3, Reg4, Reg5, Reg6, Reg7, Reg8, Reg9, Reg10, Reg11, Reg12, Reg13, Reg14, Reg15,
	XReg0, XReg1, XReg2, XReg3, XReg4, XReg5, XReg6, XReg7, XXReg0, XXReg1, XXReg2, XXReg3,
	TunID, TunSrc, TunDst, TunIPv6Src, TunIPv6Dst, TunFlags, tunMetadata, Metadata, NXMInPort, InPort, NXMVLANTCI, VLANVID, VLANPCP, EthSrc, EthDst, EthType,
	IPv6Src, IPv6Dst, IPv6Label, ARPSPA, ARPTPA, IPv4Src, IPv4Dst, IPProto, ARPOp, ARPSHA, ARPTHA, NXMDSCP, IPDSCP, IPECN, IPTTL, IPFrag,
	ICMPv4Type, ICMPv4Code, ICMPv6Type, ICMPv6Code, NDTarget, NDSLL, NDTLL, NDReserved, NDOptionsType,
	TCPSrc, UDPSrc, SCTPSrc, TCPDst, UDPDst, SCTPDst, TCPFlags,
}

// shortNames are the keys of conditions that are not the field's own name.
var shortNames = map[FieldID]string{
	EthSrc: "dl_src", EthDst: "dl_dst", EthType: "dl_type", IPv4Src: "nw_src", IPv4Dst: "nw_dst", IPFrag: "nw_frag", InPort: "in_port",
	TCPSrc: "tp_src", UDPSrc: "tp_src", SCTPSrc: "tp_src", TCPDst: "tp_dst", UDPDst: "tp_dst", SCTPDst: "tp_dst", IPDSCP: "nw_tos",
	ICMPv6Type: "icmp_type", ICMPv6Code: "icmp_code",
}

// etherWords and protoWords are the words for an Ethertype and for what it carries.
var (
	etherWords = map[uint64]string{0x800: "ip", 0x86dd: "ipv6", 0x806: "arp", 0x8035: "rarp", 0x8847: "mpls", 0x8848: "mplsm"}
	protoWords = map[[2]uint64]string{{0x800, 1}: "icmp", {0x800, 6}: "tcp", {0x800, 17}: "udp", {0x800, 132}: "sctp",
		{0x86dd, 58}: "icmp6", {0x86dd, 6}: "tcp6", {0x86dd, 17}: "udp6", {0x86dd, 132}: "sctp6"}
)

// match puts conditions, each with a comma behind it.
func (p *printer) match(m Match) {
	var at [fieldCount]*MatchField
	for i := range m {
		if m[i].Other == "" && m[i].Field.plain() < fieldCount {
			at[m[i].Field.plain()] = &m[i]
		}
	}
	word, proto := "", false
	if ether := at[EthType]; ether != nil {
		word = etherWords[ether.Value.Lo]
		if ip := at[IPProto]; ip != nil {
			if carried := protoWords[[2]uint64{ether.Value.Lo, ip.Value.Lo}]; carried != "" {
				word, proto = carried, true
			}
		}
	}
	for _, f := range textOrder {
		switch {
		case f == NoField && word != "":
			p.put(word + ",")
		case f == NoField, at[f] == nil && f != tunMetadata, f == EthType && word != "", f == IPProto && proto:
		case f == tunMetadata:
			for n := tunMetadata; n < Reg0; n++ {
				if at[n] != nil {
					p.condition(*at[n])
				}
			}
		case f == VLANVID, f == VLANPCP && at[VLANVID] == nil:
			p.vlan(at[VLANVID], at[VLANPCP])
		case f == VLANPCP:
		default:
			p.condition(*at[f])
		}
	}
	for i := range m {
		if m[i].Other != "" {
			p.put("oxm(" + hex.EncodeToString([]byte(m[i].Other)) + "),")
		}
	}
}

// condition puts the parts of a field that have names, and then what is left of it.
func (p *printer) condition(x MatchField) {
	if p.n.Parts != nil {
		for _, part := range p.n.Parts(x.Field) {
			mask := Ones(part.Part.N).Shl(part.Part.From)
			if part.Part.Field != x.Field || x.Mask.And(mask) != mask {
				continue
			}
			p.put(part.Name + "=")
			p.hex(x.Value.Shr(part.Part.From).And(Ones(part.Part.N)).Lo)
			p.put(",")
			if x.Mask = x.Mask.And(mask.Not()); x.Mask.IsZero() {
				return
			}
			x.Value = x.Value.And(x.Mask)
		}
	}
	if name := shortNames[x.Field]; name != "" {
		p.put(name)
	} else {
		p.put(x.Field.String())
	}
	if x.Field.option() && x.Mask.IsZero() { // the option is there
		p.put(",")
		return
	}
	p.put("=")
	p.masked(x)
	p.put(",")
}

// masked puts a condition's value and, where it is not on all bits, its mask.
func (p *printer) masked(x MatchField) {
	whole := x.Mask == Ones(x.Field.Bits())
	info := x.Field.info()
	switch {
	case x.Field == EthType:
		p.printf("0x%04x", x.Value.Lo)
	case x.Field == IPDSCP:
		p.dec(x.Value.Lo << 2)
	case x.Field == IPv6Label:
		p.printf("0x%05x", x.Value.Lo)
		if !whole {
			p.printf("/0x%05x", x.Mask.Lo)
		}
	case x.Field == CTLabel || x.Field.option(), x.Field.Bits() > 64 && info.form == hexadecimal:
		p.bytes(x.Value)
		if !whole {
			p.put("/")
			p.bytes(x.Mask)
		}
	case info.form == decimal && !whole:
		p.printf("0x%x/0x%x", x.Value.Lo, x.Mask.Lo)
	case info.form == hexadecimal:
		p.hex(x.Value.Lo)
		if !whole {
			p.put("/")
			p.hex(x.Mask.Lo)
		}
	default:
		p.value(x)
	}
}

// vlan puts the conditions on a tag, which Open vSwitch shows as one.
func (p *printer) vlan(vid, pcp *MatchField) {
	var tci, mask uint64
	if vid != nil {
		tci, mask = vid.Value.Lo, vid.Mask.Lo
	}
	if pcp != nil {
		tci, mask = tci|pcp.Value.Lo<<13|0x1000, mask|pcp.Mask.Lo<<13|0x1000
	}
	vidMask, pcpMask := mask&0xfff, mask>>13
	switch {
	case mask&tci&0x1000 != 0 && (vidMask == 0 || vidMask == 0xfff) && (pcpMask == 0 || pcpMask == 7) && vidMask|pcpMask != 0:
		if vidMask != 0 {
			p.printf("dl_vlan=%d,", tci&0xfff)
		}
		if pcpMask != 0 {
			p.printf("dl_vlan_pcp=%d,", tci>>13)
		}
	default:
		p.printf("vlan_tci=0x%04x/0x%04x,", tci, mask)
	}
}

func (p *printer) bytes(v Value) {
	if v.Hi == 0 {
		p.hex(v.Lo)
		return
	}
	p.printf("0x%x%016x", v.Hi, v.Lo)
}

// The words of flags, by bit.
var (
	stateWords  = []string{"new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"}
	tcpWords    = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"}
	tunnelWords = []string{"oam", "df", "csum", "key"}
)

// fragments are the words of ip_frag, by value and mask.
var fragments = map[[2]uint64]string{{0, 3}: "no", {1, 1}: "yes", {1, 3}: "first", {3, 3}: "later", {0, 2}: "not_later", {0, 1}: "no", {2, 2}: "later"}

// value puts a value in the form of its field.
func (p *printer) value(x MatchField) {
	whole := x.Mask == Ones(x.Field.Bits())
	switch x.Field.info().form {
	case port:
		if x.Field == NXMInPort {
			p.port16(uint16(x.Value.Lo)) //nolint:gosec // 16 bits
			return
		}
		p.port(uint32(x.Value.Lo)) //nolint:gosec // 32 bits
		return
	case stateFlags:
		p.flags(stateWords, x, 0xff)
		return
	case tcpFlags:
		p.flags(tcpWords, x, 0xfff)
		return
	case tunnelFlags:
		p.flags(tunnelWords, x, 0xf)
		return
	case fragment:
		p.put(fragments[[2]uint64{x.Value.Lo, x.Mask.Lo}])
		return
	case mac:
		p.mac(x.Value)
		if !whole {
			p.put("/")
			p.mac(x.Mask)
		}
		return
	case ipv4, ipv6:
		p.address(x.Value, x.Field.Bits())
		if !whole {
			p.prefix(x.Mask, x.Field.Bits())
		}
		return
	case decimal:
		p.dec(x.Value.Lo)
	case hexadecimal:
		p.bytes(x.Value)
	}
	if !whole {
		p.put("/")
		p.bytes(x.Mask)
	}
}

// flags puts words with a sign each, or, where each flag has a condition, those that are set.
func (p *printer) flags(words []string, x MatchField, all uint64) {
	value, mask := x.Value.Lo&all, x.Mask.Lo&all
	if mask == all {
		if value == 0 {
			p.put("0")
		}
		for ; value != 0; value &= value - 1 {
			p.put(words[bits.TrailingZeros64(value)] + "|")
		}
		p.drop('|')
		return
	}
	if mask == 0 {
		p.put("0/0")
	}
	for ; mask != 0; mask &= mask - 1 {
		sign := "-"
		if value&mask&-mask != 0 {
			sign = "+"
		}
		p.put(sign + words[bits.TrailingZeros64(mask)])
	}
}

func (p *printer) mac(v Value) {
	for i, b := range v.raw(6) {
		if i > 0 {
			p.put(":")
		}
		p.b = append(p.b, "0123456789abcdef"[b>>4], "0123456789abcdef"[b&15])
	}
}

// address puts an IP address as inet_ntop does, which writes the last 32 bits of some of IPv6 as IPv4.
func (p *printer) address(v Value, bits int) {
	if bits == 32 {
		p.b = netip.AddrFrom4([4]byte(v.raw(4))).AppendTo(p.b)
		return
	}
	if v.Hi == 0 && v.Lo>>32 == 0 && v.Lo > 0xffff {
		p.put("::")
		p.address(v, 32)
		return
	}
	p.b = netip.AddrFrom16([16]byte(v.raw(16))).AppendTo(p.b)
}

// prefix puts a mask as a length if it is that of one.
func (p *printer) prefix(mask Value, bits int) {
	p.put("/")
	if n := bits - mask.trailing(); mask == Ones(n).Shl(bits-n) {
		p.put(strconv.Itoa(n))
		return
	}
	p.address(mask, bits)
}
