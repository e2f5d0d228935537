package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// lifts are the slots that are armed here. A packet that is marked says its slot on the host where it was marked; on others it says only that it is
// marked, and goes to every slot that is armed there: who asked knows its own by what does not change on the way.
type lifts struct {
	mu   sync.Mutex // guards the field below
	open map[uint8]*lift
}

type lift struct {
	tell    func(*api.Answer)
	packets uint32 // that may still be marked
	copies  uint32 // that may still be told
	end     *time.Timer
}

// maxCopies bounds the copies that one slot is told of.
const maxCopies = 4096

// tapID is the id of a slot's state.Tap.
func tapID(slot uint8) string { return fmt.Sprintf("slot-%d", slot) }

// arm has copies of packets lifted for a while, or ends that. All answers go to tell, the first of which is that it is armed. end ends it before its time.
func (a *Agent) arm(ctx context.Context, tell func(*api.Answer), r *api.TraceArm, limit time.Duration) (end func(), err error) {
	if r.GetSlot() > 255 {
		return nil, fmt.Errorf("slot %d: want 1 to 255, or 0 for one that is free", r.GetSlot())
	}
	if r.GetDisarm() {
		a.disarm(uint8(r.GetSlot()), nil) //nolint:gosec // in the range just checked
		tell(&api.Answer{})
		return func() {}, nil
	}
	l := &lift{tell: tell, packets: max(r.GetLimit(), 1), copies: maxCopies}
	slot, err := a.lifts.take(uint8(r.GetSlot()), l) //nolint:gosec // in the range just checked
	if err != nil {
		return nil, err
	}
	end = func() { a.disarm(slot, l) }
	a.lifts.mu.Lock()
	l.end = time.AfterFunc(limit, end)
	a.lifts.mu.Unlock()
	mark, err := a.marking(slot, l, r)
	if err == nil {
		tell(&api.Answer{What: &api.Answer_TraceArmed{TraceArmed: &api.TraceArmed{Slot: uint32(slot)}}})
		err = mark(ctx)
	}
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// take takes a slot: the one that is asked for, or with 0 one that is free.
func (t *lifts) take(slot uint8, l *lift) (uint8, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slot != 0 && t.open[slot] != nil {
		return 0, fmt.Errorf("slot %d is armed already", slot)
	}
	if slot == 0 {
		for slot = 255; slot > 0 && t.open[slot] != nil; slot-- { //nolint:revive // the body is the condition
		}
		if slot == 0 {
			return 0, errors.New("all slots of traces are armed")
		}
	}
	t.open[slot] = l
	return slot, nil
}

// marking returns what sends a packet that is marked, or has those of a port marked.
func (a *Agent) marking(slot uint8, l *lift, r *api.TraceArm) (func(context.Context) error, error) {
	switch {
	case len(r.GetFrame()) > 0:
		return func(ctx context.Context) error {
			a.copied(l, &api.TraceLifted{Slot: uint32(slot), Point: "in", Port: r.GetPort(), Frame: r.GetFrame(), Sure: true})
			return a.sendTraced(ctx, slot, r.GetPort(), r.GetFrame())
		}, nil
	case r.GetPort() != "":
		tap, err := tapOf(slot, r)
		return func(context.Context) error {
			a.local([]state.Object{tap}, nil)
			return nil
		}, err
	}
	return func(context.Context) error { return nil }, nil
}

// packetIn takes what flows send to the agent, of which more bytes wait. It does not wait.
func (a *Agent) packetIn(ctx context.Context, m openflow.Message, waiting int) bool {
	if p, ok := m.(*openflow.PacketIn2); ok && len(p.UserData) > 0 {
		switch op := flows.Op(p.UserData[0]); {
		case op == flows.OpTrace:
			a.lifted(p)
			return true
		case op == flows.OpLog:
			a.seclog.Handle(p)
			return true
		case op != flows.OpAnnounce && part(p.Metadata, flows.RFlags)>>flows.FlagTrace&1 == 1: // the packet itself, not a copy of it
			a.liftedAs(p, &api.TraceLifted{Point: "served", Reason: op.String()})
		}
	}
	return a.apps.Handle(ctx, m, waiting)
}

// disarm frees a slot, if it is still the one of l; nil: whosever it is.
func (a *Agent) disarm(slot uint8, l *lift) {
	a.lifts.mu.Lock()
	now := a.lifts.open[slot]
	if now == nil || l != nil && now != l {
		a.lifts.mu.Unlock()
		return
	}
	delete(a.lifts.open, slot)
	if now.end != nil {
		now.end.Stop()
	}
	a.lifts.mu.Unlock()
	a.untap(slot)
}

// untap ends the marking of packets.
func (a *Agent) untap(slot uint8) {
	a.local(nil, []state.Ref{{Kind: state.KindTap, ID: tapID(slot)}})
}

func tapOf(slot uint8, r *api.TraceArm) (*state.Tap, error) {
	f := r.GetFilter()
	tap := &state.Tap{ID: tapID(slot), Slot: slot, Port: r.GetPort(), Protocol: -1}
	var errs error
	prefix := func(field, s string) netip.Prefix {
		if s == "" {
			return netip.Prefix{}
		}
		if p, err := netip.ParsePrefix(s); err == nil {
			return p.Masked()
		}
		addr, err := netip.ParseAddr(s)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s %q: want an address or a prefix", field, s))
			return netip.Prefix{}
		}
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	tap.Source, tap.Dest = prefix("source", f.GetSource()), prefix("destination", f.GetDestination())
	if f.GetProtocol() > 255 || f.GetSourcePort() > 65535 || f.GetDestinationPort() > 65535 {
		errs = errors.Join(errs, errors.New("a protocol has 8 bits, a port 16"))
	}
	if f.GetProtocol() > 0 {
		tap.Protocol = int(f.GetProtocol())
	}
	tap.SrcPort, tap.DstPort = uint16(f.GetSourcePort()), uint16(f.GetDestinationPort()) //nolint:gosec // checked just now
	if tap.Source.IsValid() && tap.Dest.IsValid() && tap.Source.Addr().Is4() != tap.Dest.Addr().Is4() {
		errs = errors.Join(errs, errors.New("source and destination are of two families"))
	}
	return tap, errs
}

// sendTraced sends a packet as if its port had, marked.
func (a *Agent) sendTraced(ctx context.Context, slot uint8, port string, frame []byte) error {
	var plug *state.Plug
	a.core.store.Read(func(v *state.View) { plug = state.Find[*state.Plug](v, port) })
	conn := a.switcher.connection()
	switch {
	case plug == nil:
		return fmt.Errorf("port %s is not plugged on host %s", port, a.cfg.Host)
	case conn == nil:
		return fmt.Errorf("host %s has no connection to its switch", a.cfg.Host)
	}
	return conn.Send(ctx, 0, &openflow.PacketOut{BufferID: openflow.NoBuffer, InPort: plug.OFPort, Data: frame, Actions: []openflow.Action{
		&openflow.Load{To: openflow.Part{Field: flows.RFlags, From: flows.FlagTrace, N: 1}, Value: 1},
		&openflow.Load{To: openflow.Part{Field: openflow.Metadata, From: flows.MetaTraceFrom, N: flows.MetaTraceBits}, Value: uint64(slot)},
		&openflow.Resubmit{InPort: openflow.ResubmitInPort, Table: uint8(flows.TClassify)},
	}})
}

// lifted takes a copy that a flow made of a marked packet.
func (a *Agent) lifted(p *openflow.PacketIn2) {
	l := &api.TraceLifted{Point: "in"}
	if len(p.UserData) > 1 {
		switch p.UserData[1] {
		case flows.TraceOut:
			l.Point = "out"
		case flows.TraceArrived:
			l.Point = "arrived"
		case flows.TraceAnswered:
			l.Point = "answered"
		case flows.TraceDrop:
			l.Point, l.Reason = "dropped", "dropped"
			if len(p.UserData) > 2 {
				l.Reason = reasonOf(flows.Table(p.UserData[2]))
			}
		}
	}
	a.liftedAs(p, l)
}

// liftedAs tells who armed the slot of a marked packet. When a slot's limit is reached, no more are marked; those that are under way are told.
func (a *Agent) liftedAs(p *openflow.PacketIn2, l *api.TraceLifted) {
	slot := uint8(part(p.Metadata, openflow.Metadata) >> flows.MetaTraceFrom) //nolint:gosec // the uppermost 8 bits
	l.Frame, l.Sure = p.Packet, slot != 0
	a.placed(p, l)
	var done []uint8
	tell := map[uint8]*lift{}
	a.lifts.mu.Lock()
	for s, t := range a.lifts.open {
		if slot != 0 && s != slot || t.copies == 0 || l.GetPoint() == "in" && t.packets == 0 {
			continue
		}
		t.copies--
		if l.GetPoint() == "in" {
			if t.packets--; t.packets == 0 {
				done = append(done, s)
			}
		}
		tell[s] = t
	}
	a.lifts.mu.Unlock()
	for s, t := range tell {
		each := proto.CloneOf(l)
		each.Slot = uint32(s)
		a.copied(t, each)
	}
	for _, s := range done {
		a.untap(s)
	}
}

// placed says where a marked packet is, and where it leaves for, from the registers that it has there.
func (a *Agent) placed(p *openflow.PacketIn2, l *api.TraceLifted) {
	device := uint32(part(p.Metadata, flows.ROFPort)) //nolint:gosec // 32 bits
	a.core.store.Read(func(v *state.View) {
		if o, ok := v.ByKey(state.KindPort, uint32(part(p.Metadata, flows.RSource))).(*state.Port); ok { //nolint:gosec // 32 bits
			l.Port = o.ID
		}
		if o, ok := v.ByKey(state.KindNetwork, uint32(part(p.Metadata, openflow.Metadata))).(*state.Network); ok { //nolint:gosec // the lower 32 bits are the network
			l.Network = o.ID
		}
		if l.GetPoint() != "out" {
			return
		}
		for _, t := range state.All[*state.Tunnel](v, state.Index{List: state.ListAll, ID: state.KindTunnel.String()}) {
			if t.OFPort == device {
				l.ToAddress = tunnelTo(p.Metadata)
				return
			}
		}
		for _, u := range state.All[*state.Uplink](v, state.Index{List: state.ListAll, ID: state.KindUplink.String()}) {
			if u.OFPort == device {
				l.ToPhysical = u.ID
				return
			}
		}
		if o, ok := v.ByKey(state.KindPort, uint32(part(p.Metadata, flows.RDest))).(*state.Port); ok { //nolint:gosec // 32 bits
			l.ToPort = o.ID
		}
	})
}

// part is the value of a field of up to 64 bits that a packet came with, or 0.
func part(m openflow.Match, field openflow.FieldID) uint64 {
	for _, f := range m {
		if f.Field == field {
			return f.Value.Lo
		}
	}
	return 0
}

// tunnelTo is the tunnel end that a packet is sent to.
func tunnelTo(m openflow.Match) string {
	for _, f := range m {
		switch f.Field {
		case openflow.TunDst:
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(f.Value.Lo)))).String() //nolint:gosec // 32 bits
		case openflow.TunIPv6Dst:
			return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, f.Value.Hi), f.Value.Lo))).String()
		}
	}
	return ""
}

// copied tells who armed a slot of a packet.
func (a *Agent) copied(t *lift, l *api.TraceLifted) {
	l.UnixNano = uint64(a.core.now().UnixNano()) //nolint:gosec // after 1970
	t.tell(&api.Answer{What: &api.Answer_TraceLifted{TraceLifted: l}})
}

// reasonOf is why a table drops what no flow of it fits.
func reasonOf(t flows.Table) string {
	for _, info := range flows.TableMap() {
		if info.Table == t {
			return info.Reason
		}
	}
	return "dropped"
}
