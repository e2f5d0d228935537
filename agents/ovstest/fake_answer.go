package ovstest

import (
	"maps"
	"slices"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

func refuse(kind, code uint16) *of.Error { return &of.Error{Type: kind, Code: code} }

// refuseBundle is an error of bundles in OpenFlow 1.3 (ONF EXT-230).
func refuseBundle(code uint16) *of.Error {
	return &of.Error{Type: 0xffff, Code: code, Vendor: 0x4f4e4600}
}

// refuseNicira is an error of Open vSwitch's own extensions.
func refuseNicira(code uint16) *of.Error { return &of.Error{Type: 0xffff, Code: code, Vendor: 0x2320} }

// answer carries a message out and answers it, or returns the refusal. The caller holds mu.
func (s *FakeSwitch) answer(p *peer, xid uint32, m of.Message) *of.Error {
	switch m := m.(type) {
	case *of.Hello, *of.Error, *of.EchoReply, *of.PortMod, *of.TableMod, *of.SetControllerID, *of.CTFlushZone, *of.CTFlush, *of.Resume, *of.SetAsync2:
	case *of.EchoRequest:
		p.send(xid, &of.EchoReply{Data: m.Data})
	case *of.BarrierRequest:
		p.send(xid, &of.BarrierReply{})
	case *of.FeaturesRequest:
		p.send(xid, &of.FeaturesReply{DatapathID: 1, Tables: 254, Capabilities: 0x4f})
	case *of.GetConfigRequest:
		p.send(xid, &of.GetConfigReply{SwitchConfig: p.config})
	case *of.SetConfig:
		p.config = m.SwitchConfig
	case *of.SetAsync:
		if p.async = m.Async; p.config.MissSendLen == 0 {
			p.config.MissSendLen = 128
		}
	case *of.GetAsyncRequest:
		p.send(xid, &of.GetAsyncReply{Async: p.async})
	case *of.SetPacketInFormat:
		p.format = m.Format
	case *of.RoleRequest:
		if m.Role != 0 {
			p.role = m.RoleBody
		}
		p.send(xid, &of.RoleReply{RoleBody: p.role})
	case *of.PacketOut:
		s.outs = append(s.outs, m)
		s.notify()
	case *of.FlowMod, *of.GroupMod, *of.MeterMod, *of.TLVTableMod:
		changes, refusal := s.state.apply(m, s.now())
		s.tell(p, xid, changes)
		return refusal
	case *of.TLVTableRequest:
		p.send(xid, &of.TLVTableReply{MaxSpace: 256, MaxFields: 64, Maps: slices.Clone(s.state.options)})
	case *of.BundleAdd:
		return p.bundleAdd(m)
	case *of.BundleControl:
		return s.bundle(p, xid, m)
	case *of.MultipartRequest:
		return s.multipart(p, xid, m)
	case *of.FlowMonitorCancel:
		if p.monitors[m.ID] == nil {
			return refuseNicira(8)
		}
		delete(p.monitors, m.ID)
	default:
		return refuse(1, 1)
	}
	return nil
}

// The errors of bundles.
const (
	bundleBadID       = 2302
	bundleClosed      = 2304
	bundleBadType     = 2306
	bundleBadFlags    = 2307
	bundleUnsupported = 2310
	bundleFailed      = 2313
)

// bundleAdd takes a message into a bundle, or refuses it as Open vSwitch does when it decodes it: then the bundle lacks it, and is otherwise as it was.
func (p *peer) bundleAdd(m *of.BundleAdd) *of.Error {
	switch add := m.Message.(type) {
	case *of.FlowMod:
		if refusal := checkFlow(add); refusal != nil {
			return refusal
		}
	case *of.GroupMod:
		if refusal := checkGroup(add); refusal != nil {
			return refusal
		}
	case *of.PacketOut, *of.PortMod:
	default:
		return refuseBundle(bundleUnsupported)
	}
	b := p.bundles[m.ID]
	if b == nil { // an add opens
		b = &bundle{flags: m.Flags}
		p.bundles[m.ID] = b
	}
	if b.closed || b.flags != m.Flags {
		delete(p.bundles, m.ID)
		if b.closed {
			return refuseBundle(bundleClosed)
		}
		return refuseBundle(bundleBadFlags)
	}
	b.adds = append(b.adds, m)
	return nil
}

func (s *FakeSwitch) bundle(p *peer, xid uint32, m *of.BundleControl) *of.Error {
	b := p.bundles[m.ID]
	if m.Type != of.BundleClose { // whatever comes of it, the bundle is no more
		delete(p.bundles, m.ID)
	}
	switch {
	case m.Type > of.BundleDiscard || m.Type&1 != 0:
		return refuseBundle(bundleBadType)
	case (m.Type == of.BundleOpen) != (b == nil):
		return refuseBundle(bundleBadID)
	case m.Type == of.BundleOpen:
		p.bundles[m.ID] = &bundle{flags: m.Flags}
	case m.Type == of.BundleClose && b.closed:
		delete(p.bundles, m.ID)
		return refuseBundle(bundleClosed)
	case m.Type != of.BundleDiscard && b.flags != m.Flags:
		delete(p.bundles, m.ID)
		return refuseBundle(bundleBadFlags)
	case m.Type == of.BundleClose:
		b.closed = true
	case m.Type == of.BundleCommit:
		if refusal := s.commit(p, xid, b); refusal != nil {
			return refusal
		}
	}
	p.send(xid, &of.BundleControl{ID: m.ID, Type: m.Type + 1})
	return nil
}

// commit does all of a bundle or nothing.
func (s *FakeSwitch) commit(p *peer, xid uint32, b *bundle) *of.Error {
	next := s.state.clone()
	var all []change
	var outs []*of.PacketOut
	for _, add := range b.adds {
		if out, ok := add.Message.(*of.PacketOut); ok {
			outs = append(outs, out)
			continue
		}
		changes, refusal := next.apply(add.Message, s.now())
		if refusal != nil {
			if quoted, err := of.Append(nil, add.XID, add); err == nil {
				refusal.Data = quoted[:min(len(quoted), 64)]
			}
			p.send(add.XID, refusal)
			return refuseBundle(bundleFailed)
		}
		all = append(all, changes...)
	}
	s.state, s.outs = next, append(s.outs, outs...)
	s.tell(p, xid, all)
	return nil
}

// tell says what has changed: to the monitors, and of flows that went and had asked for it. by is who changed it, or nil.
func (s *FakeSwitch) tell(by *peer, xid uint32, changes []change) {
	s.notify()
	for p := range s.peers {
		for _, c := range changes {
			if c.event == of.FlowDeleted && c.flow.Flags&of.FlowSendRemoved != 0 && p.wants(p.async.FlowRemoved, c.reason) {
				f := c.flow.FlowStats
				p.send(0, &of.FlowRemoved{Cookie: f.Cookie, Priority: f.Priority, Reason: c.reason, Table: f.Table, Idle: f.Idle, Hard: f.Hard, Match: f.Match})
			}
		}
		for _, id := range slices.Sorted(maps.Keys(p.monitors)) {
			p.monitored(p.monitors[id], p == by, xid, changes)
		}
	}
}

// monitored sends the changes that a monitor asks for: its own ones by their xid alone.
func (p *peer) monitored(r *of.FlowMonitorRequest, own bool, xid uint32, changes []change) {
	var updates []of.FlowUpdate
	for _, c := range changes {
		if wanted := [...]uint16{of.MonitorAdd, of.MonitorDelete, of.MonitorModify}[c.event]; r.Flags&wanted == 0 || !c.flow.selected(r.Table, r.Match, r.OutPort, of.AnyGroup) {
			continue
		}
		if own && r.Flags&of.MonitorOwn == 0 {
			updates = append(updates, of.FlowUpdate{Event: of.FlowAbbrev, XID: xid})
			break
		}
		updates = append(updates, c.flow.update(c, r.Flags))
	}
	for chunk := range slices.Chunk(updates, perPart) {
		p.send(0, &of.MultipartReply{Multipart: of.Multipart{Kind: of.PartFlowMonitor, Body: &of.FlowUpdateList{Updates: chunk}}})
	}
}

// perPart is how many items an answer has before it goes on in another part.
const perPart = 64

// parts sends an answer in as many parts as it needs.
func parts[T any](p *peer, xid uint32, kind of.PartKind, items []T, body func([]T) of.Body) {
	for {
		n, flags := min(len(items), perPart), uint16(0)
		if n < len(items) {
			flags = of.More
		}
		p.send(xid, &of.MultipartReply{Multipart: of.Multipart{Kind: kind, Flags: flags, Body: body(items[:n])}})
		if items = items[n:]; flags == 0 {
			return
		}
	}
}

func (s *FakeSwitch) multipart(p *peer, xid uint32, m *of.MultipartRequest) *of.Error {
	one := func(b of.Body) {
		p.send(xid, &of.MultipartReply{Multipart: of.Multipart{Kind: m.Kind, Body: b}})
	}
	switch r := m.Body.(type) {
	case *of.FlowRequest:
		flows := s.state.stats(r, s.epoch)
		if m.Kind == of.PartAggregate {
			one(&of.AggregateStats{Flows: uint32(len(flows))}) //nolint:gosec // not so many
			return nil
		}
		parts(p, xid, m.Kind, flows, func(l []of.FlowStats) of.Body { return &of.FlowStatsList{Flows: l} })
	case *of.PortRequest:
		parts(p, xid, m.Kind, s.portList(r.Port), func(l []of.PortDesc) of.Body {
			out := &of.PortStatsList{}
			for _, d := range l {
				out.Ports = append(out.Ports, of.PortStats{Port: d.Number})
			}
			return out
		})
	case *of.PortDescRequest:
		parts(p, xid, m.Kind, s.portList(r.Port), func(l []of.PortDesc) of.Body { return &of.PortDescList{Ports: l} })
	case *of.GroupDescRequest:
		parts(p, xid, m.Kind, s.state.groupList(r.Group), func(l []of.GroupDesc) of.Body { return &of.GroupDescList{Groups: l} })
	case *of.GroupRequest:
		parts(p, xid, m.Kind, s.state.groupList(r.Group), func(l []of.GroupDesc) of.Body {
			out := &of.GroupStatsList{}
			for _, g := range l {
				out.Groups = append(out.Groups, of.GroupStats{Group: g.Group, Buckets: make([]of.Counter, len(g.Buckets))})
			}
			return out
		})
	case *of.MeterRequest:
		parts(p, xid, m.Kind, s.state.meterList(r.Meter), func(l []of.MeterConfig) of.Body {
			if m.Kind == of.PartMeterConfig {
				return &of.MeterConfigList{Meters: l}
			}
			out := &of.MeterStatsList{}
			for _, c := range l {
				out.Meters = append(out.Meters, of.MeterStats{Meter: c.Meter, Bands: make([]of.Counter, len(c.Bands))})
			}
			return out
		})
	case *of.QueueRequest:
		one(&of.QueueStatsList{})
	case *of.FlowMonitorRequest:
		return s.monitor(p, xid, r)
	default:
		return s.plainPart(one, m.Kind)
	}
	return nil
}

// plainPart answers the requests that have no arguments.
func (s *FakeSwitch) plainPart(one func(of.Body), kind of.PartKind) *of.Error {
	switch kind {
	case of.PartDesc:
		one(&of.SwitchDesc{Manufacturer: "Headwater", Hardware: "fake"})
	case of.PartTable:
		out := &of.TableStatsList{}
		for t, n := range s.state.perTable() {
			out.Tables = append(out.Tables, of.TableStats{Table: uint8(t), Active: n}) //nolint:gosec // below 254
		}
		one(out)
	case of.PartGroupFeatures:
		one(&of.GroupFeatures{Types: 0xf})
	case of.PartMeterFeatures:
		one(&of.MeterFeatures{Max: maxMeter, BandTypes: 2, MaxBands: 1})
	default:
		return refuse(1, 2)
	}
	return nil
}

func (s *FakeSwitch) portList(number uint32) []of.PortDesc {
	var out []of.PortDesc
	for _, n := range slices.Sorted(maps.Keys(s.ports)) {
		if number == of.PortAny || number == n {
			out = append(out, s.ports[n])
		}
	}
	return out
}

// monitor begins a monitor and answers with the flows that it asks for.
func (s *FakeSwitch) monitor(p *peer, xid uint32, r *of.FlowMonitorRequest) *of.Error {
	if p.monitors[r.ID] != nil {
		return refuseNicira(6)
	}
	p.monitors[r.ID] = r
	var updates []of.FlowUpdate
	if r.Flags&of.MonitorInitial != 0 {
		for _, f := range s.state.sorted() {
			if f.selected(r.Table, r.Match, r.OutPort, of.AnyGroup) {
				updates = append(updates, f.update(change{event: of.FlowAdded, flow: f}, r.Flags))
			}
		}
	}
	parts(p, xid, of.PartFlowMonitor, updates, func(l []of.FlowUpdate) of.Body { return &of.FlowUpdateList{Updates: l} })
	return nil
}
