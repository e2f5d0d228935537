package ovstest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func addFlow(table uint8, cookie uint64) *of.FlowMod {
	m := of.NewFlowMod(of.FlowAdd)
	m.Table, m.Cookie, m.Priority = table, cookie, uint16(cookie) //nolint:gosec // small
	return m
}

// Each fault shows at the controller's end as what it is, and leaves the switch as it would.
func TestFaults(t *testing.T) {
	t.Parallel()
	three := []of.Message{addFlow(1, 1), addFlow(1, 2), addFlow(1, 3)}
	for _, tt := range []struct {
		name  string
		fault func(of.Message) ovstest.Fault
		want  fault.Kind
		flows int
	}{
		{"closed in the middle of a bundle", third(ovstest.Fault{Close: true}), fault.Unavailable, 0},
		{"a message of a bundle is lost", third(ovstest.Fault{Ignore: true}), fault.Internal, 2},
		{"the commit's answer is lost", commit(ovstest.Fault{Mute: true}), fault.Ambiguous, 3},
		{"closed before the commit", commit(ovstest.Fault{Close: true}), fault.Ambiguous, 0},
		{"closed after the commit", commit(ovstest.Fault{Last: true}), fault.Ambiguous, 3},
		{"a message is refused", third(ovstest.Fault{Refuse: &of.Error{Type: 5, Code: 1}}), fault.Internal, 0},
		{"the commit is refused", commit(ovstest.Fault{Refuse: &of.Error{Type: 0xffff, Vendor: 0x4f4e4600, Code: 2305}}), fault.Internal, 0},
		{"slow", third(ovstest.Fault{Delay: 50 * time.Millisecond}), fault.Internal, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sw := ovstest.NewFake(t)
			c := dialFor(t, sw.Address, time.Second)
			sw.Inject(tt.fault)
			err := c.Bundle(t.Context(), three)
			refused := tt.flows == 0 && tt.want == fault.Internal
			var said *of.SwitchError
			if refused != errors.As(err, &said) || !refused && (err != nil) != (tt.want != fault.Internal) || err != nil && fault.KindOf(err) != tt.want {
				t.Errorf("got %v, of kind %s", err, fault.KindOf(err))
			}
			if got := len(sw.Flows()); got != tt.flows {
				t.Errorf("%d flows, want %d", got, tt.flows)
			}
		})
	}
}

// third strikes the third message of a bundle.
func third(f ovstest.Fault) func(of.Message) ovstest.Fault {
	n := 0
	return func(m of.Message) ovstest.Fault {
		if _, ok := m.(*of.BundleAdd); ok {
			if n++; n == 3 {
				return f
			}
		}
		return ovstest.Fault{}
	}
}

func commit(f ovstest.Fault) func(of.Message) ovstest.Fault {
	return func(m of.Message) ovstest.Fault {
		if b, ok := m.(*of.BundleControl); ok && b.Type == of.BundleCommit {
			return f
		}
		return ovstest.Fault{}
	}
}

func dialFor(t *testing.T, path string, timeout time.Duration) *of.Conn {
	t.Helper()
	c, err := of.Dial(t.Context(), of.Config{Network: "unix", Address: path, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// A controller is told what others do, what happens to ports, and gets packets once it has asked for them.
func TestFakeTells(t *testing.T) {
	t.Parallel()
	sw := ovstest.NewFake(t)
	heard := make(chan of.Message, 16)
	c := dial(t, sw.Address, func(_ uint32, m of.Message) { heard <- m })
	sw.PacketIn(&of.PacketIn2{Packet: []byte("lost")})
	if _, err := c.Multipart(t.Context(), of.PartFlowMonitor, &of.FlowMonitorRequest{ID: 1, OutPort: of.PortAny, Table: of.AllTables,
		Flags: of.MonitorInitial | of.MonitorAdd | of.MonitorDelete | of.MonitorModify | of.MonitorActions}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []of.Message{&of.SetConfig{SwitchConfig: of.SwitchConfig{MissSendLen: of.NoLimit}}, &of.SetPacketInFormat{Format: of.FormatPacketIn2},
		&of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Data: []byte("out")}} {
		if err := c.Send(t.Context(), 0, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SendAll(t.Context(), []of.Message{addFlow(2, 7)}); err != nil {
		t.Fatal(err)
	}
	if u := (<-heard).(*of.MultipartReply).Body.(*of.FlowUpdateList).Updates; len(u) != 1 || u[0].Event != of.FlowAbbrev {
		t.Errorf("of our own flow we are told %+v", u)
	}
	foreign := addFlow(3, 9)
	foreign.Flags = of.FlowSendRemoved
	if refusal := sw.Apply(foreign); refusal != nil {
		t.Fatal(refusal.Text())
	}
	if u := (<-heard).(*of.MultipartReply).Body.(*of.FlowUpdateList).Updates; len(u) != 1 || u[0].Event != of.FlowAdded || u[0].Cookie != 9 {
		t.Errorf("of another's flow we are told %+v", u)
	}
	gone := of.NewFlowMod(of.FlowDelete)
	gone.Table = of.AllTables
	sw.Apply(gone)
	if m, ok := (<-heard).(*of.FlowRemoved); !ok || m.Cookie != 9 {
		t.Errorf("of a flow that went we are told %+v", m)
	}
	if u := (<-heard).(*of.MultipartReply).Body.(*of.FlowUpdateList).Updates; len(u) != 2 || u[1].Event != of.FlowDeleted {
		t.Errorf("of flows that went we are told %+v", u)
	}
	sw.PacketIn(&of.PacketIn2{BufferID: of.NoBuffer, Packet: []byte("in"), Reason: of.ReasonAction})
	if in, ok := (<-heard).(*of.PacketIn2); !ok || string(in.Packet) != "in" {
		t.Errorf("the packet came as %+v", in)
	}
	sw.SetPort(of.PortDesc{Number: 9, Name: "tap9", HWAddr: []byte{2, 0, 0, 0, 0, 9}})
	if p, ok := (<-heard).(*of.PortStatus); !ok || p.Reason != 0 || p.Port.Name != "tap9" {
		t.Errorf("of a new port we are told %+v", p)
	}
	sw.RemovePort(9)
	if p, ok := (<-heard).(*of.PortStatus); !ok || p.Reason != 1 {
		t.Errorf("of a port that went we are told %+v", p)
	}
	if outs := sw.PacketOuts(); len(outs) != 1 || string(outs[0].Data) != "out" {
		t.Errorf("the packets sent are %+v", outs)
	}
}

// A restart closes the connections and takes all flows; a dump of many flows comes whole, in its parts.
func TestFakeRestart(t *testing.T) {
	t.Parallel()
	sw := ovstest.NewFake(t)
	c := dial(t, sw.Address, nil)
	var all []of.Message
	for i := range uint64(1000) {
		all = append(all, addFlow(uint8(i%5), i)) //nolint:gosec // small
	}
	if err := c.Bundle(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	parts, err := c.Multipart(t.Context(), of.PartFlow, of.EveryFlow())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range parts {
		n += len(p.(*of.FlowStatsList).Flows)
	}
	if n != 1000 || len(parts) < 2 || len(sw.Dump()) != 1000 || !slices.IsSortedFunc(sw.Flows(), func(a, b of.FlowStats) int { return int(a.Table) - int(b.Table) }) {
		t.Errorf("the dump has %d flows in %d parts", n, len(parts))
	}
	sw.Restart()
	sw.Await("end of the connections", func() bool { return sw.Connections() == 0 })
	if err := c.Barrier(t.Context()); err == nil || len(sw.Flows()) != 0 {
		t.Errorf("after a restart: %v, %d flows", err, len(sw.Flows()))
	}
	again := dial(t, sw.Address, nil)
	if err := again.SendAll(t.Context(), all[:1]); err != nil || !strings.Contains(sw.Dump()[0], "priority=0") {
		t.Errorf("after a restart: %v, %s", err, sw.Dump())
	}
}
