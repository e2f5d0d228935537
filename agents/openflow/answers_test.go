package openflow_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"testing"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

// What a real switch answers is written by us as it was: no byte of it is lost or guessed.
func TestAnswersAreWrittenAgain(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.sw.Vsctl("add-port", "br0", "p3", "--", "set", "Interface", "p3", "type=dummy")
	b.must(t, b.SendAll(t.Context(), options()))
	b.must(t, b.SendAll(t.Context(), []of.Message{
		&of.MeterMod{Flags: of.MeterPktPS | of.MeterBurst | of.MeterCount, ID: 4, Bands: []of.Band{{Type: 1, Rate: 100, Burst: 10}}},
		&of.GroupMod{Type: of.GroupSelect, ID: 5, Buckets: []of.Bucket{{Weight: 1, WatchPort: 1, WatchGroup: of.AnyGroup, Actions: []of.Action{&of.Output{Port: 1}}}}},
		flow(of.FlowAdd, func(m *of.FlowMod) { m.Match, m.Instructions = tcp().Num(of.TCPDst, 80), apply(&of.Group{Group: 5}) }),
	}))
	requests := []of.Message{&of.FeaturesRequest{}, &of.GetConfigRequest{}, &of.RoleRequest{}, &of.GetAsyncRequest{}, &of.TLVTableRequest{},
		&of.QueueConfigRequest{Port: 1}, &of.EchoRequest{Data: []byte("x")}, &of.BarrierRequest{}, &of.BundleControl{ID: 1, Flags: 3}, &of.MeterMod{Command: 9}}
	for kind, body := range map[of.PartKind]of.Body{
		of.PartDesc: nil, of.PartFlow: of.EveryFlow(), of.PartAggregate: of.EveryFlow(), of.PartTable: nil, of.PartPortStats: &of.PortRequest{Port: of.PortAny},
		of.PartQueue: &of.QueueRequest{Port: of.PortAny, Queue: of.AllQueues}, of.PartGroup: &of.GroupRequest{Group: of.AllGroups}, of.PartGroupDesc: nil,
		of.PartGroupFeatures: nil, of.PartMeter: &of.MeterRequest{Meter: of.AllMeters}, of.PartMeterConfig: &of.MeterRequest{Meter: of.AllMeters},
		of.PartMeterFeatures: nil, of.PartTableFeatures: nil, of.PartPortDesc: nil,
		of.PartFlowMonitor: &of.FlowMonitorRequest{ID: 1, OutPort: of.PortAny, Table: of.AllTables, Flags: of.MonitorInitial | of.MonitorAdd | of.MonitorDelete | of.MonitorModify | of.MonitorActions},
	} {
		requests = append(requests, &of.MultipartRequest{Multipart: of.Multipart{Kind: kind, Body: body}})
	}
	c, err := net.Dial("unix", b.sw.Mgmt("br0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	out, err := of.Append(nil, 0, &of.Hello{Versions: 1 << 4})
	for i, m := range append(requests, &of.BarrierRequest{}) {
		if err == nil {
			out, err = of.Append(out, uint32(i+1), m) //nolint:gosec // small
		}
	}
	if _, err2 := c.Write(out); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	answered := map[uint32]bool{}
	for last := uint32(len(requests) + 1); !answered[last]; { //nolint:gosec // small
		raw := read(t, c)
		xid, m, err := of.Decode(raw)
		if err != nil {
			t.Errorf("%v\n%s", err, hex.Dump(raw))
			continue
		}
		if _, ok := m.(*of.Hello); ok {
			continue // it names another version
		}
		if again, err := of.Append(nil, xid, m); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%T: %v, written again as\n%swas\n%s", m, err, hex.Dump(again), hex.Dump(raw))
		}
		answered[xid] = true
	}
	for i, m := range requests {
		if !answered[uint32(i+1)] { //nolint:gosec // small
			t.Errorf("%T %+v was not answered", m, m)
		}
	}
}

// read reads one message.
func read(t *testing.T, r io.Reader) []byte {
	t.Helper()
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, binary.BigEndian.Uint16(head[2:]))
	copy(raw, head)
	if _, err := io.ReadFull(r, raw[8:]); err != nil {
		t.Fatal(err)
	}
	return raw
}
