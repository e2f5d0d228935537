package openflow

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// FieldID names a field of a packet or of its metadata. The options of a tunnel have more than one size each, see TunMetadata; every other field
// is one of the constants.
type FieldID uint16

// The fields, in the order in which Open vSwitch writes a match (nx-match.c, nx_put_raw).
const (
	NoField FieldID = iota
	PacketType
	DPHash
	RecircID
	ConjID
	InPort
	ActsetOutput
	EthSrc
	EthDst
	EthType
	VLANVID // bit 12 says that there is a tag
	VLANPCP
	IPv4Src
	IPv4Dst
	IPv6Src
	IPv6Dst
	IPFrag // bit 0: a fragment, bit 1: not the first
	IPDSCP
	IPECN
	IPTTL
	IPv6Label
	IPProto
	TCPSrc
	TCPDst
	TCPFlags
	UDPSrc
	UDPDst
	SCTPSrc
	SCTPDst
	ICMPv4Type
	ICMPv4Code
	ICMPv6Type
	ICMPv6Code
	NDReserved
	NDTarget
	NDOptionsType
	NDSLL
	NDTLL
	ARPOp
	ARPSPA
	ARPTPA
	ARPSHA
	ARPTHA
	TunID
	TunFlags
	TunSrc
	TunDst
	TunIPv6Src
	TunIPv6Dst
	tunMetadata                     // the first of 64
	Reg0        FieldID = iota + 63 // behind the others
	Reg1
	Reg2
	Reg3
	Reg4
	Reg5
	Reg6
	Reg7
	Reg8
	Reg9
	Reg10
	Reg11
	Reg12
	Reg13
	Reg14
	Reg15
	PktMark
	CTState
	CTZone
	CTMark
	CTLabel
	CTNWSrc
	CTIPv6Src
	CTNWDst
	CTIPv6Dst
	CTNWProto
	CTTPSrc
	CTTPDst
	Metadata

	// Views of two or four registers, for actions; a match shows the registers themselves.
	XReg0
	XReg1
	XReg2
	XReg3
	XReg4
	XReg5
	XReg6
	XReg7
	XXReg0
	XXReg1
	XXReg2
	XXReg3
	// The older numbers of three fields, which Open vSwitch's own actions use.
	NXMInPort // 16 bits
	NXMVLANTCI
	NXMDSCP
	fieldCount
)

// The classes of fields (OpenFlow 1.3 section 7.2.3.3, nicira-ext.h).
const (
	classNXM0  = 0x0000
	classNXM1  = 0x0001
	classNXOXM = 0x1000
	classOXM   = 0x8000
	classRegs  = 0x8001
	classExp   = 0xffff // of the ONF: OpenFlow 1.5's fields in earlier versions
)

// maskKind says how much of a field a match may leave out.
type maskKind uint8

const (
	wholly  maskKind = iota // all or nothing
	bitwise                 // any bits
)

type fieldInfo struct {
	name  string // in a condition, and in set_field
	long  string // in a part of the field, before its bits
	class uint16
	num   uint8
	bits  int
	mask  maskKind
	form  form
}

// form is how a value is written as text.
type form uint8

const (
	decimal form = iota
	hexadecimal
	mac
	ipv4
	ipv6
	port
	stateFlags
	tcpFlags
	tunnelFlags
	fragment
)

// fields describes each field: meta-flow.h of Open vSwitch 3.1.
var fields = [fieldCount]fieldInfo{
	PacketType:    {"packet_type", "OXM_OF_PACKET_TYPE", classOXM, 44, 32, wholly, hexadecimal},
	DPHash:        {"dp_hash", "NXM_NX_DP_HASH", classNXM1, 35, 32, bitwise, hexadecimal},
	RecircID:      {"recirc_id", "NXM_NX_RECIRC_ID", classNXM1, 36, 32, wholly, hexadecimal},
	ConjID:        {"conj_id", "NXM_NX_CONJ_ID", classNXM1, 37, 32, wholly, decimal},
	InPort:        {"in_port_oxm", "OXM_OF_IN_PORT", classOXM, 0, 32, wholly, port},
	ActsetOutput:  {"actset_output", "ONFOXM_ET_ACTSET_OUTPUT", classExp, 43, 32, wholly, port},
	EthSrc:        {"eth_src", "NXM_OF_ETH_SRC", classOXM, 4, 48, bitwise, mac},
	EthDst:        {"eth_dst", "NXM_OF_ETH_DST", classOXM, 3, 48, bitwise, mac},
	EthType:       {"eth_type", "NXM_OF_ETH_TYPE", classOXM, 5, 16, wholly, hexadecimal},
	VLANVID:       {"vlan_vid", "OXM_OF_VLAN_VID", classOXM, 6, 13, bitwise, decimal},
	VLANPCP:       {"vlan_pcp", "OXM_OF_VLAN_PCP", classOXM, 7, 3, wholly, decimal},
	IPv4Src:       {"ip_src", "NXM_OF_IP_SRC", classOXM, 11, 32, bitwise, ipv4},
	IPv4Dst:       {"ip_dst", "NXM_OF_IP_DST", classOXM, 12, 32, bitwise, ipv4},
	IPv6Src:       {"ipv6_src", "NXM_NX_IPV6_SRC", classOXM, 26, 128, bitwise, ipv6},
	IPv6Dst:       {"ipv6_dst", "NXM_NX_IPV6_DST", classOXM, 27, 128, bitwise, ipv6},
	IPFrag:        {"ip_frag", "NXM_NX_IP_FRAG", classNXM1, 26, 2, bitwise, fragment},
	IPDSCP:        {"ip_dscp", "OXM_OF_IP_DSCP", classOXM, 8, 6, wholly, decimal},
	IPECN:         {"nw_ecn", "NXM_NX_IP_ECN", classOXM, 9, 2, wholly, decimal},
	IPTTL:         {"nw_ttl", "NXM_NX_IP_TTL", classNXM1, 29, 8, wholly, decimal},
	IPv6Label:     {"ipv6_label", "NXM_NX_IPV6_LABEL", classOXM, 28, 20, bitwise, hexadecimal},
	IPProto:       {"nw_proto", "NXM_OF_IP_PROTO", classOXM, 10, 8, wholly, decimal},
	TCPSrc:        {"tcp_src", "NXM_OF_TCP_SRC", classOXM, 13, 16, bitwise, decimal},
	TCPDst:        {"tcp_dst", "NXM_OF_TCP_DST", classOXM, 14, 16, bitwise, decimal},
	TCPFlags:      {"tcp_flags", "NXM_NX_TCP_FLAGS", classExp, 42, 12, bitwise, tcpFlags},
	UDPSrc:        {"udp_src", "NXM_OF_UDP_SRC", classOXM, 15, 16, bitwise, decimal},
	UDPDst:        {"udp_dst", "NXM_OF_UDP_DST", classOXM, 16, 16, bitwise, decimal},
	SCTPSrc:       {"sctp_src", "OXM_OF_SCTP_SRC", classOXM, 17, 16, bitwise, decimal},
	SCTPDst:       {"sctp_dst", "OXM_OF_SCTP_DST", classOXM, 18, 16, bitwise, decimal},
	ICMPv4Type:    {"icmp_type", "NXM_OF_ICMP_TYPE", classOXM, 19, 8, wholly, decimal},
	ICMPv4Code:    {"icmp_code", "NXM_OF_ICMP_CODE", classOXM, 20, 8, wholly, decimal},
	ICMPv6Type:    {"icmpv6_type", "NXM_NX_ICMPV6_TYPE", classOXM, 29, 8, wholly, decimal},
	ICMPv6Code:    {"icmpv6_code", "NXM_NX_ICMPV6_CODE", classOXM, 30, 8, wholly, decimal},
	NDReserved:    {"nd_reserved", "ERICOXM_OF_ICMPV6_ND_RESERVED", classNXOXM, 1, 32, wholly, decimal},
	NDTarget:      {"nd_target", "NXM_NX_ND_TARGET", classOXM, 31, 128, bitwise, ipv6},
	NDOptionsType: {"nd_options_type", "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE", classNXOXM, 2, 8, wholly, decimal},
	NDSLL:         {"nd_sll", "NXM_NX_ND_SLL", classOXM, 32, 48, bitwise, mac},
	NDTLL:         {"nd_tll", "NXM_NX_ND_TLL", classOXM, 33, 48, bitwise, mac},
	ARPOp:         {"arp_op", "NXM_OF_ARP_OP", classOXM, 21, 16, wholly, decimal},
	ARPSPA:        {"arp_spa", "NXM_OF_ARP_SPA", classOXM, 22, 32, bitwise, ipv4},
	ARPTPA:        {"arp_tpa", "NXM_OF_ARP_TPA", classOXM, 23, 32, bitwise, ipv4},
	ARPSHA:        {"arp_sha", "NXM_NX_ARP_SHA", classOXM, 24, 48, bitwise, mac},
	ARPTHA:        {"arp_tha", "NXM_NX_ARP_THA", classOXM, 25, 48, bitwise, mac},
	TunID:         {"tun_id", "NXM_NX_TUN_ID", classOXM, 38, 64, bitwise, hexadecimal},
	TunFlags:      {"tun_flags", "NXM_NX_TUN_FLAGS", classNXM1, 104, 16, bitwise, tunnelFlags},
	TunSrc:        {"tun_src", "NXM_NX_TUN_IPV4_SRC", classNXM1, 31, 32, bitwise, ipv4},
	TunDst:        {"tun_dst", "NXM_NX_TUN_IPV4_DST", classNXM1, 32, 32, bitwise, ipv4},
	TunIPv6Src:    {"tun_ipv6_src", "NXM_NX_TUN_IPV6_SRC", classNXM1, 109, 128, bitwise, ipv6},
	TunIPv6Dst:    {"tun_ipv6_dst", "NXM_NX_TUN_IPV6_DST", classNXM1, 110, 128, bitwise, ipv6},
	Reg0:          {"reg0", "NXM_NX_REG0", classNXM1, 0, 32, bitwise, hexadecimal},
	Reg1:          {"reg1", "NXM_NX_REG1", classNXM1, 1, 32, bitwise, hexadecimal},
	Reg2:          {"reg2", "NXM_NX_REG2", classNXM1, 2, 32, bitwise, hexadecimal},
	Reg3:          {"reg3", "NXM_NX_REG3", classNXM1, 3, 32, bitwise, hexadecimal},
	Reg4:          {"reg4", "NXM_NX_REG4", classNXM1, 4, 32, bitwise, hexadecimal},
	Reg5:          {"reg5", "NXM_NX_REG5", classNXM1, 5, 32, bitwise, hexadecimal},
	Reg6:          {"reg6", "NXM_NX_REG6", classNXM1, 6, 32, bitwise, hexadecimal},
	Reg7:          {"reg7", "NXM_NX_REG7", classNXM1, 7, 32, bitwise, hexadecimal},
	Reg8:          {"reg8", "NXM_NX_REG8", classNXM1, 8, 32, bitwise, hexadecimal},
	Reg9:          {"reg9", "NXM_NX_REG9", classNXM1, 9, 32, bitwise, hexadecimal},
	Reg10:         {"reg10", "NXM_NX_REG10", classNXM1, 10, 32, bitwise, hexadecimal},
	Reg11:         {"reg11", "NXM_NX_REG11", classNXM1, 11, 32, bitwise, hexadecimal},
	Reg12:         {"reg12", "NXM_NX_REG12", classNXM1, 12, 32, bitwise, hexadecimal},
	Reg13:         {"reg13", "NXM_NX_REG13", classNXM1, 13, 32, bitwise, hexadecimal},
	Reg14:         {"reg14", "NXM_NX_REG14", classNXM1, 14, 32, bitwise, hexadecimal},
	Reg15:         {"reg15", "NXM_NX_REG15", classNXM1, 15, 32, bitwise, hexadecimal},
	PktMark:       {"pkt_mark", "NXM_NX_PKT_MARK", classNXM1, 33, 32, bitwise, hexadecimal},
	CTState:       {"ct_state", "NXM_NX_CT_STATE", classNXM1, 105, 32, bitwise, stateFlags},
	CTZone:        {"ct_zone", "NXM_NX_CT_ZONE", classNXM1, 106, 16, wholly, decimal},
	CTMark:        {"ct_mark", "NXM_NX_CT_MARK", classNXM1, 107, 32, bitwise, hexadecimal},
	CTLabel:       {"ct_label", "NXM_NX_CT_LABEL", classNXM1, 108, 128, bitwise, hexadecimal},
	CTNWSrc:       {"ct_nw_src", "NXM_NX_CT_NW_SRC", classNXM1, 120, 32, bitwise, ipv4},
	CTIPv6Src:     {"ct_ipv6_src", "NXM_NX_CT_IPV6_SRC", classNXM1, 122, 128, bitwise, ipv6},
	CTNWDst:       {"ct_nw_dst", "NXM_NX_CT_NW_DST", classNXM1, 121, 32, bitwise, ipv4},
	CTIPv6Dst:     {"ct_ipv6_dst", "NXM_NX_CT_IPV6_DST", classNXM1, 123, 128, bitwise, ipv6},
	CTNWProto:     {"ct_nw_proto", "NXM_NX_CT_NW_PROTO", classNXM1, 119, 8, wholly, decimal},
	CTTPSrc:       {"ct_tp_src", "NXM_NX_CT_TP_SRC", classNXM1, 124, 16, bitwise, decimal},
	CTTPDst:       {"ct_tp_dst", "NXM_NX_CT_TP_DST", classNXM1, 125, 16, bitwise, decimal},
	Metadata:      {"metadata", "OXM_OF_METADATA", classOXM, 2, 64, bitwise, hexadecimal},
	XReg0:         {"xreg0", "OXM_OF_PKT_REG0", classRegs, 0, 64, bitwise, hexadecimal},
	XReg1:         {"xreg1", "OXM_OF_PKT_REG1", classRegs, 1, 64, bitwise, hexadecimal},
	XReg2:         {"xreg2", "OXM_OF_PKT_REG2", classRegs, 2, 64, bitwise, hexadecimal},
	XReg3:         {"xreg3", "OXM_OF_PKT_REG3", classRegs, 3, 64, bitwise, hexadecimal},
	XReg4:         {"xreg4", "OXM_OF_PKT_REG4", classRegs, 4, 64, bitwise, hexadecimal},
	XReg5:         {"xreg5", "OXM_OF_PKT_REG5", classRegs, 5, 64, bitwise, hexadecimal},
	XReg6:         {"xreg6", "OXM_OF_PKT_REG6", classRegs, 6, 64, bitwise, hexadecimal},
	XReg7:         {"xreg7", "OXM_OF_PKT_REG7", classRegs, 7, 64, bitwise, hexadecimal},
	XXReg0:        {"xxreg0", "NXM_NX_XXREG0", classNXM1, 111, 128, bitwise, hexadecimal},
	XXReg1:        {"xxreg1", "NXM_NX_XXREG1", classNXM1, 112, 128, bitwise, hexadecimal},
	XXReg2:        {"xxreg2", "NXM_NX_XXREG2", classNXM1, 113, 128, bitwise, hexadecimal},
	XXReg3:        {"xxreg3", "NXM_NX_XXREG3", classNXM1, 114, 128, bitwise, hexadecimal},
	NXMInPort:     {"in_port", "NXM_OF_IN_PORT", classNXM0, 0, 16, wholly, port},
	NXMVLANTCI:    {"vlan_tci", "NXM_OF_VLAN_TCI", classNXM0, 4, 16, bitwise, hexadecimal},
	NXMDSCP:       {"nw_tos", "NXM_OF_IP_TOS", classNXM0, 5, 8, wholly, decimal},
}

// older are Open vSwitch's own numbers for fields that OpenFlow has numbered since. Both are read; actions of Open vSwitch are
// written with the older one, all else with OpenFlow's.
var older = map[uint32]FieldID{
	head(classNXM1, 16, 0): TunID, head(classNXM0, 1, 0): EthDst, head(classNXM0, 2, 0): EthSrc, head(classNXM0, 3, 0): EthType,
	head(classNXM0, 6, 0): IPProto, head(classNXM0, 7, 0): IPv4Src, head(classNXM0, 8, 0): IPv4Dst, head(classNXM0, 9, 0): TCPSrc,
	head(classNXM0, 10, 0): TCPDst, head(classNXM0, 11, 0): UDPSrc, head(classNXM0, 12, 0): UDPDst, head(classNXM0, 13, 0): ICMPv4Type,
	head(classNXM0, 14, 0): ICMPv4Code, head(classNXM0, 15, 0): ARPOp, head(classNXM0, 16, 0): ARPSPA, head(classNXM0, 17, 0): ARPTPA,
	head(classNXM1, 17, 0): ARPSHA, head(classNXM1, 18, 0): ARPTHA, head(classNXM1, 19, 0): IPv6Src, head(classNXM1, 20, 0): IPv6Dst,
	head(classNXM1, 21, 0): ICMPv6Type, head(classNXM1, 22, 0): ICMPv6Code, head(classNXM1, 23, 0): NDTarget, head(classNXM1, 24, 0): NDSLL,
	head(classNXM1, 25, 0): NDTLL, head(classNXM1, 27, 0): IPv6Label, head(classNXM1, 28, 0): IPECN, head(classNXM1, 34, 0): TCPFlags,
}

func head(class uint16, num, size uint8) uint32 {
	return uint32(class)<<16 | uint32(num)<<9 | uint32(size)
}

// firstTunMetadata is the number of tun_metadata0 in its class; the other 63 follow it.
const firstTunMetadata = 40

// byHead finds a field by its class and number; those of a tunnel's options have no size yet.
var byHead = func() map[uint32]FieldID {
	m := make(map[uint32]FieldID, int(fieldCount)+len(older))
	for id := NoField + 1; id < fieldCount; id++ {
		m[head(id.info().class, id.info().num, 0)] = id
	}
	for h, id := range older {
		m[h] = id
	}
	m[head(classOXM, 42, 0)], m[head(classOXM, 43, 0)] = TCPFlags, ActsetOutput
	return m
}()

// olderHeads are the older numbers by field; 0: none.
var olderHeads = func() (heads [fieldCount]uint32) {
	for h, id := range older {
		heads[id] = h
	}
	return heads
}()

// Reg is the register of a number in [0, 15].
func Reg(n int) FieldID { return Reg0 + FieldID(n) } //nolint:gosec // small

// TunMetadata is the tunnel option that TLVTableMod gave the index n, in [0, 63]; size is its size in bytes, up to 124. A condition and a SetField take
// up to 16 of them.
func TunMetadata(n, size int) FieldID {
	return tunMetadata + FieldID(n) | FieldID(size)<<8 //nolint:gosec // small
}

// plain is the field without the size that TunMetadata gave it: an index of fields.
func (f FieldID) plain() FieldID { return f & 0xff }

// option reports whether the field is a tunnel's option.
func (f FieldID) option() bool { return f.plain() >= tunMetadata && f.plain() < Reg0 }

// known reports whether there is such a field.
func (f FieldID) known() bool {
	return f != NoField && f.plain() < fieldCount && (f == f.plain()) != f.option() && f>>8 <= 124
}

// info describes the field.
func (f FieldID) info() fieldInfo {
	if f.option() {
		n := uint8(f.plain() - tunMetadata) //nolint:gosec // below 64
		return fieldInfo{fmt.Sprint("tun_metadata", n), fmt.Sprint("NXM_NX_TUN_METADATA", n), classNXM1, firstTunMetadata + n, int(f>>8) * 8, bitwise, hexadecimal}
	}
	return fields[f.plain()]
}

// String is the field's name in ovs-fields(7).
func (f FieldID) String() string {
	if f.plain() == NoField || f.plain() >= fieldCount {
		return fmt.Sprintf("field(%d)", uint16(f))
	}
	return f.info().name
}

// Bits is the field's width.
func (f FieldID) Bits() int {
	if f.option() {
		return int(f>>8) * 8
	}
	if f >= fieldCount {
		return 0
	}
	return fields[f].bits
}

// size is the field's width on the wire, in bytes.
func (f FieldID) size() int {
	n := (f.Bits() + 7) / 8
	if n == 3 && !f.option() {
		n = 4
	}
	return n
}

// class and number are the field's in its header.
func (f FieldID) class() uint16 {
	if f.option() {
		return classNXM1
	}
	return fields[f.plain()].class
}

func (f FieldID) number() uint8 {
	if f.option() {
		return firstTunMetadata + uint8(f.plain()-tunMetadata) //nolint:gosec // below 64
	}
	return fields[f.plain()].num
}

// header is the field's 4 bytes before its value.
func (f FieldID) header(masked bool) uint32 {
	size := f.size()
	if masked {
		size *= 2
	}
	if f.class() == classExp {
		size += 4
	}
	h := head(f.class(), f.number(), uint8(size)) //nolint:gosec // at most 248
	if masked {
		h |= 1 << 8
	}
	return h
}

// code codes the header of an unmasked field, as actions name their fields.
func (f *FieldID) code(c *coder) {
	h := uint32(0)
	if !c.reading {
		if !f.known() {
			c.fail(fmt.Errorf("%w: an action without a field", ErrValue))
			return
		}
		if h = f.header(false); olderHeads[f.plain()] != 0 {
			h = olderHeads[f.plain()] | uint32(f.size()) //nolint:gosec // at most 16
		}
		if h>>16 == classExp {
			c.fail(fmt.Errorf("%w: an action with the field %s", ErrValue, f))
		}
	}
	c.u32(&h)
	if c.reading && c.err == nil {
		id, ok := byHead[h&^0x1ff]
		if id.option() {
			id |= FieldID(h&0xff) << 8 //nolint:gosec // 8 bits
		}
		if !ok || !id.known() {
			c.fail(fmt.Errorf("%w: field %#08x", ErrType, h))
			return
		}
		*f = id
	}
}

// Value is an unsigned number of up to 128 bits.
type Value struct{ Hi, Lo uint64 }

// Num is a value of up to 64 bits.
func Num(v uint64) Value { return Value{Lo: v} }

// Bytes is the value of up to 16 bytes in network order: of an address.
func Bytes(b []byte) Value {
	var raw [16]byte
	copy(raw[16-min(len(b), 16):], b)
	return Value{binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])}
}

// Ones is the value whose lowest n bits are 1.
func Ones(n int) Value {
	switch {
	case n <= 0:
		return Value{}
	case n < 64:
		return Value{Lo: 1<<n - 1}
	case n < 128:
		return Value{Hi: 1<<(n-64) - 1, Lo: ^uint64(0)}
	default:
		return Value{^uint64(0), ^uint64(0)}
	}
}

// Shl is v shifted left by n bits in [0, 127].
func (v Value) Shl(n int) Value {
	if n >= 64 {
		return Value{Hi: v.Lo << (n - 64)}
	}
	if n == 0 {
		return v
	}
	return Value{v.Hi<<n | v.Lo>>(64-n), v.Lo << n}
}

// Shr is v shifted right by n bits in [0, 127].
func (v Value) Shr(n int) Value {
	if n >= 64 {
		return Value{Lo: v.Hi >> (n - 64)}
	}
	if n == 0 {
		return v
	}
	return Value{v.Hi >> n, v.Lo>>n | v.Hi<<(64-n)}
}

// And is the bits that both have.
func (v Value) And(o Value) Value { return Value{v.Hi & o.Hi, v.Lo & o.Lo} }

// Or is the bits that either has.
func (v Value) Or(o Value) Value { return Value{v.Hi | o.Hi, v.Lo | o.Lo} }

// Not is the bits that v has not.
func (v Value) Not() Value { return Value{^v.Hi, ^v.Lo} }

// IsZero reports whether no bit is set.
func (v Value) IsZero() bool { return v == Value{} }

// width is the number of bits up to the highest that is set.
func (v Value) width() int {
	if v.Hi != 0 {
		return 64 + bits.Len64(v.Hi)
	}
	return bits.Len64(v.Lo)
}

// trailing is the number of zeros below the lowest bit that is set.
func (v Value) trailing() int {
	if v.Lo != 0 {
		return bits.TrailingZeros64(v.Lo)
	}
	return 64 + bits.TrailingZeros64(v.Hi)
}

// raw is the lowest n bytes in network order, n in [1, 16].
func (v Value) raw(n int) []byte { return v.append(nil, n) }

// Bytes16 is the value in network order.
func (v Value) Bytes16() [16]byte { return [16]byte(v.raw(16)) }

// append appends the lowest n bytes in network order.
func (v Value) append(b []byte, n int) []byte {
	switch n {
	case 4:
		return binary.BigEndian.AppendUint32(b, uint32(v.Lo)) //nolint:gosec // the lowest bytes
	case 2:
		return binary.BigEndian.AppendUint16(b, uint16(v.Lo)) //nolint:gosec // the lowest bytes
	}
	for i := n - 1; i >= 0; i-- {
		word, at := v.Lo, i
		if at >= 8 {
			word, at = v.Hi, at-8
		}
		b = append(b, byte(word>>(8*at)))
	}
	return b
}
