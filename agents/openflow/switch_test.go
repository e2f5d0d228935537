package openflow_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// bridge is a real bridge and our connection to it.
type bridge struct {
	*of.Conn
	sw *ovstest.Switch

	mu  sync.Mutex // guards the field below
	got []of.Message
	new chan struct{}
}

func newBridge(t *testing.T) *bridge {
	t.Helper()
	b := &bridge{sw: ovstest.New(t), new: make(chan struct{}, 1)}
	b.sw.Vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy", "fail_mode=secure",
		"--", "add-port", "br0", "p1", "--", "set", "Interface", "p1", "type=dummy", "ofport_request=1",
		"--", "add-port", "br0", "p2", "--", "set", "Interface", "p2", "type=dummy", "ofport_request=2")
	b.connect(t)
	return b
}

func (b *bridge) connect(t *testing.T) {
	t.Helper()
	c, err := of.Dial(t.Context(), of.Config{Network: "unix", Address: b.sw.Mgmt("br0"), Handle: b.handle})
	if err != nil {
		t.Fatal(err)
	}
	b.Conn = c
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func (b *bridge) handle(_ uint32, m of.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, m)
	select {
	case b.new <- struct{}{}:
	default:
	}
}

// wait returns the first message that fits, and forgets those before it.
func wait[M of.Message](t *testing.T, b *bridge, fits func(M) bool) M {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		b.mu.Lock()
		for len(b.got) > 0 {
			m, ok := b.got[0].(M)
			b.got = b.got[1:]
			if ok && fits(m) {
				b.mu.Unlock()
				return m
			}
		}
		b.mu.Unlock()
		select {
		case <-b.new:
		case <-limit:
			t.Fatal("the message did not come within 30 s")
		}
	}
}

func (b *bridge) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// flows dumps the bridge.
func (b *bridge) flows(t *testing.T) []of.FlowStats {
	t.Helper()
	parts, err := b.Multipart(t.Context(), of.PartFlow, of.EveryFlow())
	if err != nil {
		t.Fatal(err)
	}
	var all []of.FlowStats
	for _, p := range parts {
		all = append(all, p.(*of.FlowStatsList).Flows...)
	}
	return all
}

// What we send is what the switch shows, byte for byte, for each kind of match and action: the agent's comparison rests on it. And
// ovs-ofctl reads our flows as it reads its own.
func TestSwitchShowsWhatItWasSent(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.sw.Vsctl(collectors...)
	needs := []of.Message{
		&of.GroupMod{Type: of.GroupIndirect, ID: 5, Buckets: []of.Bucket{of.NewBucket(&of.Output{Port: 1})}},
	}
	b.must(t, b.SendAll(t.Context(), options()))
	b.must(t, b.SendAll(t.Context(), []of.Message{&of.MeterMod{Flags: of.MeterKBPS, ID: 9, Bands: []of.Band{{Type: 1, Rate: 1000}}}}))
	want := map[uint64]*of.FlowMod{}
	text := map[uint64]string{}
	add := func(words string, match of.Match, actions []of.Instruction) {
		cookie := uint64(len(want) + 1)
		f := flow(of.FlowAdd, func(m *of.FlowMod) {
			m.Cookie, m.Table, m.Priority, m.Match, m.Instructions = cookie, 3, uint16(100+cookie), match, actions
		})
		want[cookie], text[cookie] = f, words
		needs = append(needs, f)
	}
	for _, tt := range matches {
		if strings.Contains(tt.text, "dp_hash") {
			continue // only the switch itself may use it
		}
		add(tt.text, tt.want, apply(&of.Output{Port: 1}))
	}
	for _, tt := range acts {
		on, words, found := strings.Cut(tt.text, "|")
		if !found {
			on, words = "ip", tt.text
		}
		add(words, actsOn[on], apply(tt.want...))
	}
	add("instructions", nil, []of.Instruction{&of.InstrMeter{Meter: 9}, &of.InstrApply{Actions: []of.Action{&of.Output{Port: 1}}}, &of.InstrClear{},
		&of.InstrWrite{Actions: []of.Action{&of.Group{Group: 5}}}, &of.InstrWriteMetadata{Value: 5, Mask: 0xff}, &of.InstrGoto{Table: 9}})
	add("conjunctions", nil, apply(&of.Conjunction{ID: 5, Clause: 0, N: 2}, &of.Conjunction{ID: 6, Clause: 2, N: 3}))
	b.must(t, b.Bundle(t.Context(), needs))

	got := b.flows(t)
	if len(got) != len(want) {
		t.Errorf("the switch shows %d flows, want %d", len(got), len(want))
	}
	for _, g := range got {
		w := want[g.Cookie]
		if g.Match.Key() != w.Match.Key() {
			t.Errorf("%s: the switch shows the match\n%swant\n%s", text[g.Cookie], hex.Dump([]byte(g.Match.Key())), hex.Dump([]byte(w.Match.Key())))
		}
		gi, err1 := of.InstructionsKey(g.Instructions)
		wi, err2 := of.InstructionsKey(w.Instructions)
		if err := errors.Join(err1, err2); err != nil || gi != wi {
			t.Errorf("%s: %v, the switch shows the instructions\n%swant\n%s", text[g.Cookie], err, hex.Dump([]byte(gi)), hex.Dump([]byte(wi)))
		}
	}
}

// collectors makes the set 1 of collectors, which samples name.
var collectors = []string{"--id=@br", "get", "Bridge", "br0", "--", "--id=@ipfix", "create", "IPFIX", `targets="127.0.0.1:9"`, "--",
	"create", "Flow_Sample_Collector_Set", "id=1", "bridge=@br", "ipfix=@ipfix"}

var actsOn = map[string]of.Match{
	"ip": ip(), "ipv6": ip6(), "tcp6": ip6().Num(of.IPProto, 6), "tcp": tcp(), "udp": udp(), "ct_state=+trk+est,ip": ip().Masked(of.CTState, of.Num(0x22), of.Num(0x22)),
}

// Each answer of the switch is read whole, and written again the same.
func TestAnswers(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.must(t, b.SendAll(t.Context(), []of.Message{
		&of.MeterMod{Flags: of.MeterPktPS | of.MeterBurst | of.MeterCount, ID: 4, Bands: []of.Band{{Type: 1, Rate: 100, Burst: 10}}},
		&of.GroupMod{Type: of.GroupSelect, ID: 5, Buckets: []of.Bucket{{Weight: 1, WatchPort: of.PortAny, WatchGroup: of.AnyGroup, Actions: []of.Action{&of.Output{Port: 1}}},
			{Weight: 2, WatchPort: 2, WatchGroup: of.AnyGroup, Actions: []of.Action{&of.Output{Port: 2}}}}},
		flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.Group{Group: 5}) }),
	}))
	for _, tt := range []struct {
		kind  of.PartKind
		body  of.Body
		check func(of.Body) bool
	}{
		{of.PartDesc, nil, func(b of.Body) bool { return b.(*of.SwitchDesc).Hardware == "Open vSwitch" }},
		{of.PartAggregate, of.EveryFlow(), func(b of.Body) bool { return b.(*of.AggregateStats).Flows == 1 }},
		{of.PartTable, nil, func(b of.Body) bool { l := b.(*of.TableStatsList).Tables; return len(l) == 254 && l[0].Active == 1 }},
		{of.PartPortStats, &of.PortRequest{Port: 1}, func(b of.Body) bool { l := b.(*of.PortStatsList).Ports; return len(l) == 1 && l[0].Port == 1 }},
		{of.PartPortDesc, nil, func(b of.Body) bool { return len(b.(*of.PortDescList).Ports) == 3 }},
		{of.PartQueue, &of.QueueRequest{Port: of.PortAny, Queue: of.AllQueues}, func(b of.Body) bool { _, ok := b.(*of.QueueStatsList); return ok }},

		{of.PartGroup, &of.GroupRequest{Group: of.AllGroups}, func(b of.Body) bool {
			l := b.(*of.GroupStatsList).Groups
			return len(l) == 1 && len(l[0].Buckets) == 2 && l[0].References == 1
		}},
		{of.PartGroupDesc, nil, func(b of.Body) bool {
			l := b.(*of.GroupDescList).Groups
			return len(l) == 1 && l[0].Type == of.GroupSelect && l[0].Buckets[1].WatchPort == 2
		}},
		{of.PartGroupFeatures, nil, func(b of.Body) bool { return b.(*of.GroupFeatures).Types == 0xf }},
		{of.PartMeter, &of.MeterRequest{Meter: of.AllMeters}, func(b of.Body) bool { l := b.(*of.MeterStatsList).Meters; return len(l) == 1 && len(l[0].Bands) == 1 }},
		{of.PartMeterConfig, &of.MeterRequest{Meter: 4}, func(b of.Body) bool {
			l := b.(*of.MeterConfigList).Meters
			return len(l) == 1 && l[0].Bands[0].Burst == 10
		}},
		{of.PartMeterFeatures, nil, func(b of.Body) bool { return b.(*of.MeterFeatures).Max > 0 }},
		{of.PartTableFeatures, nil, func(b of.Body) bool { return len(b.(*of.TableFeaturesList).Tables) > 0 }},
	} {
		parts, err := b.Multipart(t.Context(), tt.kind, tt.body)
		if err != nil || len(parts) == 0 || !tt.check(parts[0]) {
			t.Errorf("multipart %d: %v, %+v", tt.kind, err, parts)
		}
	}
	if m, err := b.Call(t.Context(), &of.FeaturesRequest{}); err != nil || m.(*of.FeaturesReply).Tables != 254 {
		t.Errorf("features: %v, %+v", err, m)
	}
	if m, err := b.Call(t.Context(), &of.RoleRequest{}); err != nil || m.(*of.RoleReply).Role != 1 {
		t.Errorf("role: %v, %+v", err, m)
	}
	if m, err := b.Call(t.Context(), &of.GetAsyncRequest{}); err != nil || m.(*of.GetAsyncReply).PortStatus != [2]uint32{7, 7} {
		t.Errorf("sent unasked: %v, %+v", err, m)
	}
	if m, err := b.Call(t.Context(), &of.QueueConfigRequest{Port: 1}); err != nil || m.(*of.QueueConfigReply).Port != 1 {
		t.Errorf("queues: %v, %+v", err, m)
	}
	b.must(t, b.Send(t.Context(), 0, &of.SetAsync2{Masks: []of.AsyncMask{{Kind: of.AsyncPortStatus, Mask: 5}}}))
	if m, err := b.Call(t.Context(), &of.GetAsyncRequest{}); err != nil || m.(*of.GetAsyncReply).PortStatus != [2]uint32{5, 7} {
		t.Errorf("sent unasked: %v, %+v", err, m)
	}
	if m, err := b.Call(t.Context(), &of.TLVTableRequest{}); err != nil || m.(*of.TLVTableReply).MaxFields == 0 {
		t.Errorf("tunnel options: %v, %+v", err, m)
	}
}

// What comes before a bundle is done first, and what is refused of it is told and hinders nothing; when the bundle is refused, it is done all the same.
func TestBundleAfter(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	at := func(priority uint16) of.Message {
		return flow(of.FlowAdd, func(m *of.FlowMod) { m.Priority, m.Instructions = priority, apply(&of.Output{Port: 1}) })
	}
	bad := flow(of.FlowAdd, func(m *of.FlowMod) { m.Priority, m.Instructions = 7, apply(&of.Group{Group: 404}) })
	var refusal *of.SwitchError
	refused, err := b.BundleAfter(t.Context(), []of.Message{bad, at(1)}, []of.Message{at(2)})
	if err != nil || !errors.As(refused, &refusal) || refusal.Message != of.Message(bad) || len(b.flows(t)) != 2 {
		t.Errorf("got %v, refused %v, and %d flows; want two, and the first message refused", err, refused, len(b.flows(t)))
	}
	refused, err = b.BundleAfter(t.Context(), []of.Message{at(3)}, []of.Message{at(4), bad})
	if refused != nil || !errors.As(err, &refusal) || refusal.Message != of.Message(bad) || len(b.flows(t)) != 3 {
		t.Errorf("got %v, refused %v, and %d flows; want three, and the bundle refused", err, refused, len(b.flows(t)))
	}
	// More than is sent at once.
	var all []of.Message
	for i := range 20000 {
		all = append(all, ruleFlow(i))
	}
	refused, err = b.BundleAfter(t.Context(), all[:10000], all[10000:])
	if n := len(b.flows(t)); err != nil || refused != nil || n != 3+len(all) {
		t.Errorf("got %v, refused %v, and %d flows, want %d", err, refused, n, 3+len(all))
	}
}

// A bundle with one message that the switch refuses changes nothing, and says which message it was.
func TestBundleIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	good := flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(&of.Output{Port: 1}) })
	bad := flow(of.FlowAdd, func(m *of.FlowMod) { m.Priority, m.Instructions = 7, apply(&of.Group{Group: 404}) })
	err := b.Bundle(t.Context(), []of.Message{good, bad})
	var refused *of.SwitchError
	if !errors.As(err, &refused) || len(b.flows(t)) != 0 {
		t.Errorf("got %v and %d flows, want a refusal and none", err, len(b.flows(t)))
	}
	if err == nil || !strings.Contains(err.Error(), "group") {
		t.Errorf("the refusal says %v", err)
	}
	// This one Open vSwitch refuses when it is put into the bundle, and would commit the others.
	err = b.Bundle(t.Context(), []of.Message{good, flow(of.FlowAdd, func(m *of.FlowMod) { m.Match = of.Match{}.Num(of.TCPDst, 80) }), good})
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "prerequisite") || len(b.flows(t)) != 0 {
		t.Errorf("got %v and %d flows, want a refusal and none", err, len(b.flows(t)))
	}
	if err := b.Bundle(t.Context(), []of.Message{good, &of.GroupMod{Command: of.GroupDelete, ID: 1}}); !fault.Is(err, fault.BadRequest) || len(b.flows(t)) != 0 {
		t.Errorf("a group was deleted in a bundle: %v", err)
	}
	b.must(t, b.Bundle(t.Context(), []of.Message{good}))
	if n := len(b.flows(t)); n != 1 {
		t.Errorf("%d flows after the bundle, want 1", n)
	}
	err = b.SendAll(t.Context(), []of.Message{bad, flow(of.FlowAdd, func(m *of.FlowMod) { m.Priority = 8 })})
	if !errors.As(err, &refused) || refused.Message != of.Message(bad) || len(b.flows(t)) != 2 {
		t.Errorf("got %v and %d flows, want the refusal of the first message and the other's flow", err, len(b.flows(t)))
	}
}

// A packet that a flow sends to the controller comes with the flow's own bytes, waits, and goes on when it is resumed.
func TestPacketInAndResume(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	for _, m := range []of.Message{
		&of.SetConfig{SwitchConfig: of.SwitchConfig{MissSendLen: of.NoLimit}}, &of.SetPacketInFormat{Format: of.FormatPacketIn2},
		&of.SetAsync{Async: of.Async{PacketIn: [2]uint32{7, 7}, PortStatus: [2]uint32{7, 7}, FlowRemoved: [2]uint32{15, 15}}},
		flow(of.FlowAdd, func(m *of.FlowMod) {
			m.Match, m.Cookie = of.Match{}.Num(of.InPort, 1), 0xabc
			m.Instructions = apply(&of.SetField{Field: of.Reg3, Value: of.Num(42)},
				&of.Controller{MaxLen: of.NoLimit, Reason: of.ReasonAction, UserData: []byte{9, 8, 7}, Pause: true}, &of.Output{Port: 2})
		}),
	} {
		b.must(t, b.Send(t.Context(), 0, m))
	}
	b.must(t, b.Barrier(t.Context()))
	packet := "0200000000010200000000020800450000140000000040010000c0000201c0000202"
	b.sw.Appctl("netdev-dummy/receive", "p1", packet)
	in := wait(t, b, func(*of.PacketIn2) bool { return true })
	reg, _ := in.Metadata.Find(of.Reg3)
	port, _ := in.Metadata.Find(of.InPort)
	if in.Cookie != 0xabc || !bytes.Equal(in.UserData, []byte{9, 8, 7}) || reg.Value != of.Num(42) || port.Value != of.Num(1) || len(in.Continuation) == 0 {
		t.Errorf("the packet-in is %+v", in)
	}
	raw, err := of.Append(nil, 0, in)
	if err != nil {
		t.Fatal(err)
	}
	if _, again, err := of.Decode(raw); err != nil || !strings.HasPrefix(hex.EncodeToString(again.(*of.PacketIn2).Packet), packet) {
		t.Errorf("read again: %v, %+v", err, again)
	}
	if tx := txPackets(t, b, 2); tx != 0 {
		t.Errorf("%d packets left before it was resumed", tx)
	}
	b.must(t, b.Send(t.Context(), 0, &of.Resume{PacketIn2: *in}))
	b.must(t, b.Barrier(t.Context()))
	if tx := txPackets(t, b, 2); tx != 1 {
		t.Errorf("%d packets left after it was resumed, want 1", tx)
	}
	b.must(t, b.Send(t.Context(), 0, &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Actions: []of.Action{&of.Output{Port: 2}}, Data: in.Packet}))
	b.must(t, b.Barrier(t.Context()))
	if tx := txPackets(t, b, 2); tx != 2 {
		t.Errorf("%d packets left after a packet-out, want 2", tx)
	}
}

func txPackets(t *testing.T, b *bridge, port uint32) uint64 {
	t.Helper()
	parts, err := b.Multipart(t.Context(), of.PartPortStats, &of.PortRequest{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	return parts[0].(*of.PortStatsList).Ports[0].TxPackets
}

// A monitor tells of what others change, in full, and of ports and flows that go.
func TestMonitor(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	parts, err := b.Multipart(t.Context(), of.PartFlowMonitor, &of.FlowMonitorRequest{ID: 1, OutPort: of.PortAny, Table: of.AllTables,
		Flags: of.MonitorInitial | of.MonitorAdd | of.MonitorDelete | of.MonitorModify | of.MonitorActions})
	if err != nil || len(parts) != 1 {
		t.Fatalf("monitor: %v, %v", err, parts)
	}
	update := func(event uint16) of.FlowUpdate {
		var found of.FlowUpdate
		wait(t, b, func(m *of.MultipartReply) bool {
			for _, u := range m.Body.(*of.FlowUpdateList).Updates {
				if u.Event == event {
					found = u
					return true
				}
			}
			return false
		})
		return found
	}
	b.sw.Ofctl("add-flow", b.sw.Mgmt("br0"), "table=5,priority=9,cookie=0x7,tcp,tp_dst=80,actions=output:2")
	u := update(of.FlowAdded)
	want := tcp().Num(of.TCPDst, 80)
	if u.Table != 5 || u.Priority != 9 || u.Cookie != 7 || u.Match.Key() != want.Key() || len(u.Instructions) != 1 {
		t.Errorf("told of %+v", u)
	}
	b.sw.Ofctl("mod-flows", b.sw.Mgmt("br0"), "table=5,actions=drop")
	if u := update(of.FlowModified); len(u.Instructions) != 0 {
		t.Errorf("told of %+v", u)
	}
	b.sw.Ofctl("del-flows", b.sw.Mgmt("br0"), "table=5")
	update(of.FlowDeleted)
	b.must(t, b.SendAll(t.Context(), []of.Message{flow(of.FlowAdd, func(*of.FlowMod) {})}))
	if u := update(of.FlowAbbrev); u.XID == 0 {
		t.Errorf("told of our own change as %+v", u)
	}
	b.must(t, b.Send(t.Context(), 0, &of.SetAsync{Async: of.Async{PortStatus: [2]uint32{7, 7}, FlowRemoved: [2]uint32{15, 15}}}))
	b.must(t, b.Barrier(t.Context()))
	b.sw.Vsctl("add-port", "br0", "p3", "--", "set", "Interface", "p3", "type=dummy")
	wait(t, b, func(m *of.PortStatus) bool { return m.Reason == 0 && m.Port.Name == "p3" })
	b.must(t, b.SendAll(t.Context(), []of.Message{
		flow(of.FlowAdd, func(m *of.FlowMod) { m.Table, m.Cookie, m.Flags = 6, 66, of.FlowSendRemoved }),
		flow(of.FlowDelete, func(m *of.FlowMod) { m.Table = 6 }),
	}))
	wait(t, b, func(m *of.FlowRemoved) bool { return m.Cookie == 66 && m.Reason == 2 && m.Table == 6 })
}

// When the switch dies, what waits for it ends, and says that the outcome is open; a new connection works.
func TestSwitchDies(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.must(t, b.Barrier(t.Context()))
	b.sw.KillSwitchd()
	if err := b.Barrier(t.Context()); !fault.Is(err, fault.Ambiguous) && !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := of.Dial(t.Context(), of.Config{Network: "unix", Address: b.sw.Mgmt("br0")}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("dialled a dead switch: %v", err)
	}
	b.sw.StartSwitchd()
	b.sw.Vsctl("--timeout=30", "set", "bridge", "br0", "other_config:x=y") // waits until it is configured
	b.connect(t)
	b.must(t, b.Barrier(t.Context()))
}

// A switch that speaks only another version is refused with a sentence that says what to do.
func TestOtherVersion(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.sw.Vsctl("set", "bridge", "br0", "protocols=OpenFlow10")
	_, err := of.Dial(t.Context(), of.Config{Network: "unix", Address: b.sw.Mgmt("br0")})
	if err == nil || !strings.Contains(err.Error(), "OpenFlow 1.3") {
		t.Errorf("got %v", err)
	}
}
