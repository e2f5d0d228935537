package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// lifts are the slots that are armed here. A packet that is marked says its slot on the host where it was marked; on others it says only that it is
// marked, and goes to every slot that is armed there.
type lifts struct {
	mu   sync.Mutex // guards the field below
	open map[uint8]*lift
}

type lift struct {
	request uint64
	left    uint32 // copies that may still be told
}

// tapID is the id of a slot's state.Tap.
func tapID(slot uint8) string { return fmt.Sprintf("slot-%d", slot) }

// arm has copies of packets lifted, or ends that.
func (a *Agent) arm(ctx context.Context, request uint64, r *api.TraceArm) error {
	if r.GetSlot() < 1 || r.GetSlot() > 255 {
		return fmt.Errorf("slot %d: want 1 to 255", r.GetSlot())
	}
	slot := uint8(r.GetSlot()) //nolint:gosec // in the range just checked
	if r.GetDisarm() {
		a.disarm(slot)
		return nil
	}
	a.lifts.mu.Lock()
	a.lifts.open[slot] = &lift{request, max(r.GetLimit(), 1)}
	a.lifts.mu.Unlock()
	err := a.watch(ctx, request, slot, r)
	if err != nil {
		a.disarm(slot)
	}
	return err
}

// watch sends a packet that is marked, or has those of a port marked.
func (a *Agent) watch(ctx context.Context, request uint64, slot uint8, r *api.TraceArm) error {
	switch {
	case len(r.GetFrame()) > 0:
		if err := a.sendTraced(ctx, slot, r.GetPort(), r.GetFrame()); err != nil {
			return err
		}
		a.copy(request, slot, "in", r.GetPort(), r.GetFrame())
	case r.GetPort() != "":
		tap, err := tapOf(slot, r)
		if err != nil {
			return err
		}
		a.local([]state.Object{tap}, nil)
	}
	return nil
}

// packetIn takes what flows send to the agent, of which more bytes wait. It does not wait.
func (a *Agent) packetIn(ctx context.Context, m openflow.Message, waiting int) bool {
	if p, ok := m.(*openflow.PacketIn2); ok && len(p.UserData) > 0 {
		switch flows.Op(p.UserData[0]) {
		case flows.OpTrace:
			a.lifted(p)
			return true
		case flows.OpLog:
			a.seclog.Handle(p)
			return true
		}
	}
	return a.apps.Handle(ctx, m, waiting)
}

func (a *Agent) disarm(slot uint8) {
	a.lifts.mu.Lock()
	delete(a.lifts.open, slot)
	a.lifts.mu.Unlock()
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

// lifted tells who armed a slot of a copy. Slots whose limit is reached are disarmed.
func (a *Agent) lifted(p *openflow.PacketIn2) {
	point, slot, source := "in", uint8(0), uint32(0)
	if len(p.UserData) > 1 && p.UserData[1] == flows.TraceOut {
		point = "out"
	} else if len(p.UserData) > 2 && p.UserData[1] == flows.TraceDrop {
		point = reasonOf(flows.Table(p.UserData[2]))
	}
	for _, f := range p.Metadata {
		switch f.Field {
		case openflow.Metadata:
			slot = uint8(f.Value.Lo >> flows.MetaTraceFrom) //nolint:gosec // the uppermost 8 bits
		case flows.RSource:
			source = uint32(f.Value.Lo & state.MaxKey) //nolint:gosec // just masked
		}
	}
	port := ""
	a.core.store.Read(func(v *state.View) {
		if o, ok := v.ByKey(state.KindPort, source).(*state.Port); ok {
			port = o.ID
		}
	})
	var done []uint8
	a.lifts.mu.Lock()
	for s, l := range a.lifts.open {
		if slot != 0 && s != slot || l.left == 0 {
			continue
		}
		if l.left--; l.left == 0 && point == "in" {
			done = append(done, s)
		}
		a.copy(l.request, s, point, port, p.Packet)
	}
	a.lifts.mu.Unlock()
	for _, s := range done {
		a.disarm(s)
	}
}

// copy tells who armed a slot of a packet.
func (a *Agent) copy(request uint64, slot uint8, point, port string, packet []byte) {
	a.answer(&api.Request{Id: request}, &api.Answer{What: &api.Answer_TraceLifted{TraceLifted: &api.TraceLifted{
		Slot: uint32(slot), Point: point, Port: port, Frame: packet, UnixNano: uint64(a.core.now().UnixNano())}}}) //nolint:gosec // after 1970
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
