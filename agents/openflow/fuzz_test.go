package openflow_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

// FuzzDecode reads any bytes as a message. What is read can be written, and is read as the same then.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		raw, err := of.Append(nil, 7, m)
		if err != nil {
			f.Fatalf("%T: %v", m, err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, m, err := of.Decode(raw)
		if err != nil {
			return
		}
		again, err := of.Append(nil, 7, m)
		if err != nil {
			t.Fatalf("%T was read and cannot be written: %v", m, err)
		}
		_, m, err = of.Decode(again)
		if err != nil {
			t.Fatalf("%x was written and cannot be read: %v", again, err)
		}
		_ = fmt.Sprint(m) // there is a text of anything
		if reply, ok := m.(*of.MultipartReply); ok {
			if list, ok := reply.Body.(*of.FlowStatsList); ok {
				for i := range list.Flows {
					_ = list.Flows[i].String()
				}
			}
		}
		if twice, err := of.Append(nil, 7, m); err != nil || !bytes.Equal(again, twice) {
			t.Errorf("%T was written as\n%x\nand again, %v, as\n%x", m, again, err, twice)
		}
	})
}

// samples are messages of each kind.
func samples() []of.Message {
	out := []of.Message{
		&of.Hello{Versions: 16}, &of.Error{Type: 5, Code: 1, Data: []byte{1}}, &of.Error{Type: 0xffff, Vendor: 0x2320, Code: 6, Data: []byte{1}},
		&of.EchoRequest{Data: []byte("x")}, &of.EchoReply{}, &of.FeaturesRequest{}, &of.FeaturesReply{DatapathID: 1}, &of.GetConfigRequest{}, &of.GetConfigReply{},
		&of.SetConfig{}, &of.PacketIn{Match: of.Match{}.Num(of.InPort, 1), Data: []byte{1, 2}}, &of.FlowRemoved{Match: ip()},
		&of.PortStatus{Port: of.PortDesc{HWAddr: mac("02:00:00:00:00:01"), Name: "p"}}, &of.PortMod{HWAddr: mac("02:00:00:00:00:01")}, &of.TableMod{},
		&of.BarrierRequest{}, &of.BarrierReply{}, &of.RoleRequest{}, &of.RoleReply{}, &of.GetAsyncRequest{}, &of.GetAsyncReply{}, &of.SetAsync{},
		&of.SetPacketInFormat{Format: 2}, &of.SetControllerID{ID: 1}, &of.TLVTableRequest{}, &of.TLVTableReply{Maps: []of.TLVMap{{Class: 1}}},
		&of.PacketIn2{BufferID: of.NoBuffer, Packet: []byte{1}, Metadata: of.Match{}.Num(of.InPort, 1), UserData: []byte{2}, Continuation: []byte{3}},
		&of.Resume{PacketIn2: of.PacketIn2{BufferID: of.NoBuffer, Cookie: 5}}, &of.BundleControl{ID: 1}, &of.BundleAdd{ID: 1, XID: 7, Message: of.NewFlowMod(of.FlowAdd)},
		&of.RoleStatus{}, &of.RequestForward{XID: 3, Message: &of.GroupMod{ID: 1}}, &of.FlowMonitorCancel{}, &of.FlowMonitorPaused{}, &of.FlowMonitorResumed{}, &of.QueueConfigRequest{Port: 1},
		&of.QueueConfigReply{Port: 1, Queues: []of.QueueConfig{{Queue: 1, Port: 1, Properties: []of.QueueProperty{{Kind: 1, Rate: 100}}}}},
		&of.SetAsync2{Masks: []of.AsyncMask{{Kind: of.AsyncPacketIn, Mask: 7}}},
	}
	for _, tt := range messages {
		out = append(out, tt.want)
	}
	for _, tt := range acts {
		out = append(out, flow(of.FlowAdd, func(m *of.FlowMod) { m.Match, m.Instructions = ip(), apply(tt.want...) }))
	}
	for _, tt := range matches {
		out = append(out, &of.MultipartReply{Multipart: of.Multipart{Kind: of.PartFlow, Flags: of.More, Body: &of.FlowStatsList{Flows: []of.FlowStats{{Match: tt.want}}}}})
	}
	for _, tt := range requests {
		out = append(out, &of.MultipartRequest{Multipart: of.Multipart{Kind: tt.kind, Body: tt.want}})
	}
	for kind, body := range map[of.PartKind]of.Body{
		of.PartDesc: &of.SwitchDesc{Serial: "s"}, of.PartAggregate: &of.AggregateStats{}, of.PartTable: &of.TableStatsList{Tables: []of.TableStats{{}}},
		of.PartPortStats: &of.PortStatsList{Ports: []of.PortStats{{}}}, of.PartQueue: &of.QueueStatsList{Queues: []of.QueueStats{{}}},
		of.PartGroup:     &of.GroupStatsList{Groups: []of.GroupStats{{Buckets: []of.Counter{{}}}}},
		of.PartGroupDesc: &of.GroupDescList{Groups: []of.GroupDesc{{Buckets: []of.Bucket{of.NewBucket(&of.Output{})}}}}, of.PartGroupFeatures: &of.GroupFeatures{},
		of.PartMeter: &of.MeterStatsList{Meters: []of.MeterStats{{Bands: []of.Counter{{}}}}}, of.PartMeterConfig: &of.MeterConfigList{Meters: []of.MeterConfig{{Bands: []of.Band{{Type: 1}}}}},
		of.PartMeterFeatures: &of.MeterFeatures{}, of.PartTableFeatures: &of.TableFeaturesList{Tables: []of.TableFeatures{{Name: "t", Properties: []of.TableProperty{
			{Types: []of.FeatureID{{Type: 1}, {Type: 0xffff, Vendor: 5}}}, {Kind: of.TableNext, Tables: []byte{1, 2, 3}}, {Kind: of.TableMatch, Fields: []of.FieldHead{{Header: 0x80000004}, {Header: 0xffff5406, Vendor: 9}}}}}}}, of.PartPortDesc: &of.PortDescList{Ports: []of.PortDesc{{HWAddr: mac("02:00:00:00:00:01")}}},
		of.PartFlowMonitor: &of.FlowUpdateList{Updates: []of.FlowUpdate{{Match: ip(), Instructions: apply(&of.Output{Port: 1})}, {Event: of.FlowAbbrev, XID: 5}}},
	} {
		out = append(out, &of.MultipartReply{Multipart: of.Multipart{Kind: kind, Body: body}})
	}
	return append(out, &of.MultipartRequest{Multipart: of.Multipart{Kind: of.PartFlowMonitor, Body: &of.FlowMonitorRequest{ID: 1, Match: ip()}}})
}

// Every message that is written is read as it was.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	seen := map[reflect.Type]bool{}
	for _, m := range samples() {
		raw, err := of.Append([]byte("before"), 99, m)
		if err != nil {
			t.Errorf("%T: %v", m, err)
			continue
		}
		xid, got, err := of.Decode(raw[6:])
		if err != nil || xid != 99 {
			t.Errorf("%T: %v, xid %d", m, err, xid)
			continue
		}
		again, err := of.Append(nil, 99, got)
		if err != nil || string(again) != string(raw[6:]) {
			t.Errorf("%T: %v, written again as\n%x\nwas\n%x", m, err, again, raw[6:])
		}
		seen[reflect.TypeOf(m)] = true
		for n := range raw[6:] { // a message that was cut off is an error
			if _, _, err := of.Decode(raw[6 : 6+n]); err == nil {
				t.Errorf("%T cut off at %d bytes was read", m, n)
			}
		}
	}
	if len(seen) < 46 {
		t.Errorf("%d kinds of messages were tried, want all", len(seen))
	}
}

// What does not fit is refused, and what was written so far stays as it was.
func TestRefusedValues(t *testing.T) {
	t.Parallel()
	many := make([]of.Action, 5000)
	for i := range many {
		many[i] = &of.Output{Port: 1}
	}
	for name, m := range map[string]of.Message{
		"too long":          flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(many...) }),
		"no such bits":      flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.Load{To: reg(0, 20, 20)}) }),
		"value too wide":    flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.Load{To: reg(0, 0, 4), Value: 16}) }),
		"widths differ":     flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.Move{From: reg(0, 0, 4), To: reg(1, 0, 5)}) }),
		"no field":          flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.SetField{}) }),
		"a bad address":     flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.CT{Actions: []of.Action{&of.NAT{Min: []byte{1}}}}) }),
		"a bad MAC address": &of.PortMod{},
		"a learned width":   flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.Learn{Specs: []of.LearnSpec{{Value: []byte{1}}}}) }),
	} {
		if got, err := of.Append([]byte("kept"), 1, m); err == nil || string(got) != "kept" {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
}
