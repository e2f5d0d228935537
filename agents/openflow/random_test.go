package openflow_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

// kinds are what a match may begin with, and the fields that it may then have.
var kinds = []struct {
	begin  of.Match
	fields []of.FieldID
}{
	{nil, nil},
	{of.Match{}.Num(of.EthType, 0x88cc), nil},
	{ip(), []of.FieldID{of.IPv4Src, of.IPv4Dst, of.IPDSCP, of.IPECN, of.IPTTL, of.IPFrag}},
	{ip6(), []of.FieldID{of.IPv6Src, of.IPv6Dst, of.IPv6Label, of.IPDSCP, of.IPECN, of.IPTTL, of.IPFrag}},
	{tcp(), []of.FieldID{of.IPv4Src, of.IPv4Dst, of.TCPSrc, of.TCPDst, of.TCPFlags}},
	{ip6().Num(of.IPProto, 6), []of.FieldID{of.IPv6Src, of.IPv6Dst, of.TCPSrc, of.TCPDst, of.TCPFlags}},
	{udp(), []of.FieldID{of.IPv4Src, of.IPv4Dst, of.UDPSrc, of.UDPDst}},
	{ip6().Num(of.IPProto, 17), []of.FieldID{of.UDPSrc, of.UDPDst, of.IPv6Src}},
	{ip().Num(of.IPProto, 132), []of.FieldID{of.SCTPSrc, of.SCTPDst}},
	{ip().Num(of.IPProto, 1), []of.FieldID{of.ICMPv4Type, of.ICMPv4Code}},
	{icmp6(), []of.FieldID{of.ICMPv6Type, of.ICMPv6Code}},
	{icmp6().Num(of.ICMPv6Type, 135).Num(of.ICMPv6Code, 0), []of.FieldID{of.NDTarget, of.NDSLL, of.NDReserved, of.NDOptionsType}},
	{icmp6().Num(of.ICMPv6Type, 136).Num(of.ICMPv6Code, 0), []of.FieldID{of.NDTarget, of.NDTLL, of.NDReserved, of.NDOptionsType}},
	{arp(), []of.FieldID{of.ARPOp, of.ARPSPA, of.ARPTPA, of.ARPSHA, of.ARPTHA}},
}

// anywhere are the fields that every match may have.
var anywhere = []of.FieldID{of.EthSrc, of.EthDst, of.TunID, of.TunSrc, of.TunDst, of.TunIPv6Src, of.TunIPv6Dst, of.Reg0, of.Reg1, of.Reg7, of.Reg14, of.Reg15, of.PktMark,
	of.CTState, of.CTZone, of.CTMark, of.CTLabel, of.Metadata, of.TunMetadata(0, 4), of.TunMetadata(1, 8), of.InPort, of.VLANVID}

// maskable are the fields of which a condition may be on any bits.
var maskable = []of.FieldID{of.EthSrc, of.EthDst, of.TunID, of.TunSrc, of.TunDst, of.TunIPv6Src, of.TunIPv6Dst, of.Reg0, of.Reg1, of.Reg7, of.Reg14, of.Reg15, of.PktMark, of.CTMark,
	of.CTLabel, of.Metadata, of.TunMetadata(0, 4), of.TunMetadata(1, 8), of.IPv4Src, of.IPv4Dst, of.IPv6Src, of.IPv6Dst, of.IPv6Label, of.TCPSrc, of.TCPDst, of.TCPFlags, of.UDPSrc,
	of.UDPDst, of.SCTPSrc, of.SCTPDst, of.NDTarget, of.NDSLL, of.NDTLL, of.ARPSPA, of.ARPTPA, of.ARPSHA, of.ARPTHA}

// aValue draws one of n bits, often of few ones or all of them.
func aValue(t *rapid.T, n int, what string) of.Value {
	switch rapid.IntRange(0, 3).Draw(t, what) {
	case 0:
		return of.Ones(n)
	case 1: // as of a prefix
		k := rapid.IntRange(0, n).Draw(t, "zeros")
		return of.Ones(n - k).Shl(k % 128).And(of.Ones(n))
	default:
		return of.Value{Hi: rapid.Uint64().Draw(t, "high"), Lo: rapid.Uint64().Draw(t, "low")}.And(of.Ones(n))
	}
}

func aMatch(t *rapid.T) of.Match {
	kind := rapid.SampledFrom(kinds).Draw(t, "kind")
	m := kind.begin
	for _, f := range rapid.SliceOfNDistinct(rapid.SampledFrom(append(slices.Clone(anywhere), kind.fields...)), 0, 6, rapid.ID).Draw(t, "fields") {
		value, mask := aValue(t, f.Bits(), "value"), of.Ones(f.Bits())
		if slices.Contains(maskable, f) {
			mask = aValue(t, f.Bits(), "mask")
		}
		switch f {
		case of.InPort:
			value = of.Num(rapid.SampledFrom([]uint64{1, 2, of.PortLocal}).Draw(t, "port"))
		case of.IPFrag:
			value = of.Num(rapid.SampledFrom([]uint64{0, 1, 3}).Draw(t, "fragment"))
		case of.CTState:
			mask = of.Num(rapid.Uint64Range(1, 0xff).Draw(t, "states"))
		case of.VLANVID:
			value = value.Or(of.Num(0x1000))
		case of.ARPOp:
			value = of.Num(value.Lo & 0xff) // Open vSwitch knows no others
		}
		m = m.Masked(f, value.And(mask), mask)
	}
	return m
}

func aPart(t *rapid.T, n int) of.Part {
	f := rapid.SampledFrom([]of.FieldID{of.Reg0, of.Reg3, of.Reg15, of.Metadata, of.XReg1, of.XXReg0, of.TunID, of.PktMark, of.EthDst}).Draw(t, "field")
	n = min(n, f.Bits())
	return of.Part{Field: f, From: rapid.IntRange(0, f.Bits()-n).Draw(t, "from"), N: n}
}

// anAction draws one that any packet can have, up to two within each other.
func anAction(t *rapid.T, depth int) of.Action {
	n := rapid.IntRange(1, 32).Draw(t, "bits")
	number := func(most uint64) uint64 { return rapid.Uint64Range(0, most).Draw(t, "number") }
	bytes := func(from, to int) []byte { return rapid.SliceOfN(rapid.Byte(), from, to).Draw(t, "bytes") }
	choices := []func() of.Action{
		func() of.Action { return &of.Output{Port: uint32(1 + number(1))} }, //nolint:gosec // small
		func() of.Action { return &of.Load{To: aPart(t, n), Value: number(1<<n - 1)} },
		func() of.Action { return &of.Move{From: aPart(t, n), To: aPart(t, n)} },
		func() of.Action {
			f := rapid.SampledFrom([]of.FieldID{of.Reg3, of.EthSrc, of.TunID, of.Metadata, of.XXReg1, of.TunDst, of.TunIPv6Dst, of.TunMetadata(0, 4), of.TunMetadata(1, 8)}).Draw(t, "set")
			return &of.SetField{Field: f, Value: aValue(t, f.Bits(), "value")}
		},
		func() of.Action {
			return &of.Resubmit{InPort: of.ResubmitInPort, Table: uint8(number(253))} //nolint:gosec // small
		},
		func() of.Action { return &of.Push{From: aPart(t, n)} },
		func() of.Action { return &of.Pop{To: aPart(t, n)} },
		func() of.Action { return &of.Note{Data: slices.Concat(bytes(6, 6), make([]byte, 8*number(2)))} },
		func() of.Action { return &of.OutputReg{From: aPart(t, 16), MaxLen: of.NoLimit} },
		func() of.Action { return &of.CheckPktLarger{Len: uint16(number(9000)), To: aPart(t, 1)} }, //nolint:gosec // small
		func() of.Action { return &of.OutputTrunc{Port: 1, MaxLen: uint32(14 + number(9000))} },    //nolint:gosec // small
		func() of.Action {
			return &of.Controller{MaxLen: uint16(number(of.NoLimit)), ID: uint16(number(9)), Reason: uint8(number(2)), UserData: bytes(0, 20), Pause: number(1) == 1} //nolint:gosec // small
		},
		func() of.Action { return &of.CTClear{} },
		func() of.Action {
			return &of.Multipath{Fields: of.HashSymmetricL4, Links: 2, To: aPart(t, 16), Basis: uint16(number(9))}
		}, //nolint:gosec // small
		func() of.Action {
			learn := &of.Learn{Table: uint8(number(253)), Idle: uint16(number(9)), Priority: uint16(number(0xffff)), Cookie: number(99), Limit: uint32(number(2)), //nolint:gosec // small
				Specs: []of.LearnSpec{{Kind: of.LearnMatch, From: of.Whole(of.EthSrc), To: of.Whole(of.EthDst)}}}
			for range number(2) {
				part := aPart(t, n)
				learn.Specs = append(learn.Specs, of.LearnSpec{Kind: of.LearnTo(number(1)), From: aPart(t, part.N), To: part}) //nolint:gosec // small
				if s := &learn.Specs[len(learn.Specs)-1]; s.From.N != s.To.N {
					s.From = s.To
				}
			}
			return learn
		},
	}
	if depth > 0 {
		choices = append(choices, func() of.Action { return &of.Clone{Actions: someOf(t, depth-1)} })
	}
	return choices[rapid.IntRange(0, len(choices)-1).Draw(t, "action")]()
}

func someOf(t *rapid.T, depth int) []of.Action {
	var out []of.Action
	for range rapid.IntRange(1, 4).Draw(t, "actions") {
		out = append(out, anAction(t, depth))
	}
	return out
}

// Whatever flows are sent, the switch shows the same bytes, our text of each is ovs-ofctl's, and what is read of them is what was sent.
func TestRandomFlows(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.must(t, b.SendAll(t.Context(), options()))
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		sent := map[uint64]*of.FlowMod{}
		all := []of.Message{flow(of.FlowDelete, func(m *of.FlowMod) { m.Table = of.AllTables })}
		for i := range uint64(rapid.IntRange(1, 12).Draw(t, "flows")) { //nolint:gosec // small
			sent[i] = flow(of.FlowAdd, func(m *of.FlowMod) {
				m.Cookie, m.Priority, m.Table, m.Match, m.Instructions = i, uint16(i), 3, aMatch(t), apply(someOf(t, 2)...) //nolint:gosec // small
			})
			all = append(all, sent[i])
		}
		if err := b.Bundle(ctx, all); err != nil {
			var texts []string
			for _, m := range all {
				texts = append(texts, fmt.Sprint(m))
			}
			t.Fatalf("%v:\n%s", err, strings.Join(texts, "\n"))
		}
		var ours []string
		err := b.EachFlow(context.Background(), of.EveryFlow(), func(v *of.FlowView) error {
			want := sent[v.Cookie]
			key, err := of.InstructionsKey(want.Instructions)
			if err != nil || string(v.Match) != want.Match.Key() || string(v.Instructions) != key {
				t.Errorf("%v: the switch shows\n%x %x\nof %s, which is\n%x %x", err, v.Match, v.Instructions, want, want.Match.Key(), key)
			}
			f, err := v.Flow()
			if err != nil || f.Match.Key() != want.Match.Key() {
				t.Errorf("%v: read as %v, want %v", err, &f, want)
			}
			ours = append(ours, of.Names{}.FlowStats(&f, false))
			return nil
		})
		if err != nil || len(ours) != len(sent) {
			t.Fatalf("%v: the switch has %d flows, want %d", err, len(ours), len(sent))
		}
		theirs := lines(b.sw.Ofctl("dump-flows", b.sw.Mgmt("br0")))
		slices.Sort(ours)
		slices.Sort(theirs)
		if !slices.Equal(ours, theirs) {
			t.Fatalf("ours:\n%s\novs-ofctl's:\n%s", strings.Join(ours, "\n"), strings.Join(theirs, "\n"))
		}
	})
}
