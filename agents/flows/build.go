package flows

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// The words in which the rules are written.

const (
	ethIPv4 = 0x0800
	ethARP  = 0x0806
	ethVLAN = 0x8100
	ethIPv6 = 0x86dd

	ethProviderVLAN = 0x88a8 // IEEE 802.1ad

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// match is a match that begins with nothing.
func match() openflow.Match { return nil }

// inNetwork is a packet of a network.
func inNetwork(key uint32) openflow.Match {
	return match().Part(openflow.Metadata, 0, MetaNetworkBits, uint64(key))
}

// atRouter is a packet that a router handles.
func atRouter(key uint32) openflow.Match {
	return match().Part(openflow.Metadata, MetaRouterFrom, MetaRouterBits, uint64(key))
}

// from is a packet that a port of this host sent.
func from(key uint32) openflow.Match { return match().Num(RSource, uint64(key)) }

// to is a packet for a port.
func to(key uint32) openflow.Match { return match().Num(RDest, uint64(key)) }

// flagged is a packet with a flag, or without.
func flagged(m openflow.Match, flag int, on bool) openflow.Match {
	v := uint64(0)
	if on {
		v = 1
	}
	return m.Part(RFlags, flag, 1, v)
}

func ipv4(m openflow.Match) openflow.Match { return m.Num(openflow.EthType, ethIPv4) }
func ipv6(m openflow.Match) openflow.Match { return m.Num(openflow.EthType, ethIPv6) }
func arp(m openflow.Match) openflow.Match  { return m.Num(openflow.EthType, ethARP) }

func proto(m openflow.Match, n int) openflow.Match { return m.Num(openflow.IPProto, uint64(n)) } //nolint:gosec // 8 bits

// icmpv6 is a packet of ICMPv6 of a type.
func icmpv6(m openflow.Match, kind uint8) openflow.Match {
	return proto(ipv6(m), protoICMPv6).Num(openflow.ICMPv6Type, uint64(kind))
}

// source and dest are packets from and to a prefix.
func source(m openflow.Match, p netip.Prefix) openflow.Match {
	if p.Addr().Is4() {
		return ipv4(m).Prefix(openflow.IPv4Src, p)
	}
	return ipv6(m).Prefix(openflow.IPv6Src, p)
}

func dest(m openflow.Match, p netip.Prefix) openflow.Match {
	if p.Addr().Is4() {
		return ipv4(m).Prefix(openflow.IPv4Dst, p)
	}
	return ipv6(m).Prefix(openflow.IPv6Dst, p)
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ethSrc(m openflow.Match, a state.MAC) openflow.Match { return m.Num(openflow.EthSrc, uint64(a)) }
func ethDst(m openflow.Match, a state.MAC) openflow.Match { return m.Num(openflow.EthDst, uint64(a)) }

// goTo goes on in a table.
func goTo(t Table) openflow.Instruction { return &openflow.InstrGoto{Table: uint8(t)} }

// apply does actions at once.
func apply(actions ...openflow.Action) openflow.Instruction {
	return &openflow.InstrApply{Actions: actions}
}

// throttle counts at a meter.
func throttle(id uint32) openflow.Instruction { return &openflow.InstrMeter{Meter: id} }

// set sets all of a field.
func set(f openflow.FieldID, v uint64) openflow.Action {
	return &openflow.SetField{Field: f, Value: openflow.Num(v)}
}

func setMAC(f openflow.FieldID, a state.MAC) openflow.Action { return set(f, uint64(a)) }

func setAddr(f openflow.FieldID, a netip.Addr) openflow.Action {
	return &openflow.SetField{Field: f, Value: openflow.Bytes(a.AsSlice())}
}

// load sets some bits of a field.
func load(f openflow.FieldID, fromBit, n int, v uint64) openflow.Action {
	return &openflow.Load{To: openflow.Part{Field: f, From: fromBit, N: n}, Value: v}
}

// move copies bits of one field to another.
func move(f openflow.FieldID, fromBit, n int, target openflow.FieldID, toBit int) openflow.Action {
	return &openflow.Move{From: openflow.Part{Field: f, From: fromBit, N: n}, To: openflow.Part{Field: target, From: toBit, N: n}}
}

// copyField copies all of a field to one as wide.
func copyField(f, target openflow.FieldID) openflow.Action { return move(f, 0, f.Bits(), target, 0) }

// raise sets a flag.
func raise(flag int) openflow.Action { return load(RFlags, flag, 1, 1) }

// enter makes a network the packet's.
func enter(key uint32) openflow.Action {
	return load(openflow.Metadata, 0, MetaNetworkBits, uint64(key))
}

// portNone is OpenFlow's OFPP_NONE: the packet came from no port.
const portNone = 0xffff

// anywhere lets a packet go out of the port that it came from. No other number but this does for packets that an agent has sent too: when connection tracking
// gives such a packet back, ovs-vswitchd looks for the device of the port, and drops the packet where it never had one.
func anywhere() openflow.Action { return load(openflow.NXMInPort, 0, 16, portNone) }

// output sends the packet to a port.
func output(port uint32) openflow.Action { return &openflow.Output{Port: port} }

// lookUp has the packet looked up in a table, and goes on behind.
func lookUp(t Table) openflow.Action {
	return &openflow.Resubmit{InPort: openflow.ResubmitInPort, Table: uint8(t)}
}

// punt sends the packet to the agent, with what it is to do.
func punt(op Op, rest ...byte) *openflow.Controller {
	return &openflow.Controller{MaxLen: openflow.NoLimit, Reason: openflow.ReasonAction, UserData: append([]byte{byte(op)}, rest...)}
}
