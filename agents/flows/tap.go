package flows

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// traceRate is how many copies of traced packets a host's agent gets in a second, with bursts as large.
const traceRate = 500

// lift sends a copy of a traced packet to the agent.
func lift(where ...byte) openflow.Action {
	return &openflow.Controller{MaxLen: openflow.NoLimit, Reason: openflow.ReasonAction, UserData: append([]byte{byte(OpTrace)}, where...), Meter: MeterOp | uint32(OpTrace)}
}

// staticTrace lifts traced packets where they leave, where they are answered, and where the miss of a table drops them. Where they arrive from
// other hosts, staticTunnel does.
func staticTrace(x *emitter) {
	x.meter(MeterOp|uint32(OpTrace), openflow.MeterPktPS|openflow.MeterBurst, openflow.Band{Type: 1, Rate: traceRate, Burst: traceRate})
	traced := flagged(match(), FlagTrace, true)
	x.flow(Reason(""), TTapOut, PNormal, traced, apply(lift(TraceOut)), goTo(TOutput))
	x.flow(Reason(""), TReply, PHigh, traced, apply(append([]openflow.Action{lift(TraceAnswered)}, sendBack()...)...), goTo(TOutput))
	for _, t := range TableMap() {
		if t.Reason != "" {
			x.flow(Reason(t.Reason), t.Table, PMiss+1, traced, apply(lift(TraceDrop, byte(t.Table))))
		}
	}
}

// compileTap marks and lifts what a watched port sends.
func compileTap(x *emitter, id string) {
	tap := get[*state.Tap](x, id)
	if tap == nil {
		return
	}
	port := get[*state.Port](x, tap.Port)
	if port == nil {
		return
	}
	mark := []openflow.Action{raise(FlagTrace), load(openflow.Metadata, MetaTraceFrom, MetaTraceBits, uint64(tap.Slot)), lift(TraceIn)}
	for _, m := range watched(from(port.Key), tap) {
		x.flow(tap.Ref(), TTap, PNormal, m, apply(mark...), goTo(TSourcePPS))
	}
}

// watched are the matches that a tap makes: one, or one for each family where nothing says which it is.
func watched(m openflow.Match, tap *state.Tap) []openflow.Match {
	var out []openflow.Match
	v4, v6 := true, true
	for _, p := range []netip.Prefix{tap.Source, tap.Dest} {
		if p.IsValid() {
			v4, v6 = v4 && p.Addr().Is4(), v6 && p.Addr().Is6()
		}
	}
	if v4 && v6 && tap.Protocol < 0 {
		return []openflow.Match{m}
	}
	if v4 {
		out = append(out, narrowed(ipv4(m), tap))
	}
	if v6 {
		out = append(out, narrowed(ipv6(m), tap))
	}
	return out
}

func narrowed(m openflow.Match, tap *state.Tap) openflow.Match {
	if tap.Source.IsValid() {
		m = source(m, tap.Source)
	}
	if tap.Dest.IsValid() {
		m = dest(m, tap.Dest)
	}
	if tap.Protocol < 0 {
		return m
	}
	m = proto(m, tap.Protocol)
	ports := map[int][2]openflow.FieldID{protoTCP: {openflow.TCPSrc, openflow.TCPDst}, protoUDP: {openflow.UDPSrc, openflow.UDPDst}, protoSCTP: {openflow.SCTPSrc, openflow.SCTPDst}}
	if f, ok := ports[tap.Protocol]; ok {
		if tap.SrcPort != 0 {
			m = m.Num(f[0], uint64(tap.SrcPort))
		}
		if tap.DstPort != 0 {
			m = m.Num(f[1], uint64(tap.DstPort))
		}
	}
	return m
}
