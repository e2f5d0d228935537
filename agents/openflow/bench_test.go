package openflow_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
)

// l2Flow is a flow as an agent has most of: one for each address that it knows.
func l2Flow(i int) *of.FlowMod {
	return flow(of.FlowAdd, func(m *of.FlowMod) {
		m.Table, m.Cookie, m.Match = 60, uint64(i), of.Match{}.Num(of.EthDst, uint64(i)).Num(of.Metadata, 7) //nolint:gosec // small
		m.Instructions = append(apply(&of.SetField{Field: of.Reg2, Value: of.Num(uint64(i))}), &of.InstrGoto{Table: 65})
	})
}

// ruleFlow is a flow of a security group.
func ruleFlow(i int) *of.FlowMod {
	return flow(of.FlowAdd, func(m *of.FlowMod) {
		m.Table, m.Cookie, m.Match = 22, uint64(i), tcp().Num(of.Reg1, uint64(i)).Masked(of.CTState, of.Num(0x21), of.Num(0x23)).Num(of.TCPDst, 443)         //nolint:gosec // small
		m.Instructions = apply(&of.Load{To: of.Part{Field: of.Reg8, N: 32}, Value: uint64(i)}, &of.CT{Flags: of.CTCommit, ZoneOf: reg(6, 0, 16), Table: 23}) //nolint:gosec // small
	})
}

func BenchmarkEncode(b *testing.B) {
	for name, make_ := range map[string]func(int) *of.FlowMod{"l2": l2Flow, "rule": ruleFlow} {
		b.Run(name+"/flows=20000", func(b *testing.B) {
			b.ReportAllocs()
			messages := make([]of.Message, 20000)
			for i := range messages {
				messages[i] = make_(i)
			}
			var out []byte
			for b.Loop() {
				out = out[:0]
				add := &of.BundleAdd{ID: 1, Flags: 3}
				for i, m := range messages {
					var err error
					add.XID, add.Message = uint32(i), m //nolint:gosec // small
					if out, err = of.Append(out, add.XID, add); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(len(messages))*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
		})
	}
}

func BenchmarkDecodeDump(b *testing.B) {
	for name, make_ := range map[string]func(int) *of.FlowMod{"l2": l2Flow, "rule": ruleFlow} {
		b.Run(name+"/flows=100000", func(b *testing.B) {
			b.ReportAllocs()
			var messages [][]byte
			for i := 0; i < 100000; i += 400 { // as many as Open vSwitch puts into one
				list := &of.FlowStatsList{}
				for j := range 400 {
					m := make_(i + j)
					list.Flows = append(list.Flows, of.FlowStats{Table: m.Table, Cookie: m.Cookie, Priority: m.Priority, Match: m.Match, Instructions: m.Instructions})
				}
				raw, err := of.Append(nil, 1, &of.MultipartReply{Multipart: of.Multipart{Kind: of.PartFlow, Flags: of.More, Body: list}})
				if err != nil {
					b.Fatal(err)
				}
				messages = append(messages, raw)
			}
			for b.Loop() {
				for _, raw := range messages {
					if _, _, err := of.Decode(raw); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(100000*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
		})
	}
}

func BenchmarkDecodePacketIn(b *testing.B) {
	b.ReportAllocs()
	raw, err := of.Append(nil, 0, &of.PacketIn2{BufferID: of.NoBuffer, Packet: make([]byte, 342), Table: 10, Cookie: 5, Reason: of.ReasonAction, UserData: make([]byte, 16),
		Metadata: of.Match{}.Num(of.InPort, 1).Num(of.Metadata, 7).Num(of.Reg0, 1).Num(of.Reg1, 2).Num(of.Reg6, 3)})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := of.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// benchSwitch is a real switch of a benchmark, and our connection to it.
func benchSwitch(b *testing.B, handle func(*of.Conn, of.Message)) *of.Conn {
	b.Helper()
	ovstest.Need(b, "ovs-vswitchd")
	sw := ovstest.New(b)
	sw.Vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy", "fail_mode=secure", "--", "add-port", "br0", "p1", "--", "set", "Interface", "p1", "type=dummy")
	var c *of.Conn
	c, err := of.Dial(b.Context(), of.Config{Network: "unix", Address: sw.Mgmt("br0"), Timeout: time.Minute, Handle: func(_ uint32, m of.Message) { handle(c, m) }})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() { _ = c.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// BenchmarkBundle is what flows cost in one bundle, the switch's own work with it.
func BenchmarkBundle(b *testing.B) {
	c := benchSwitch(b, func(*of.Conn, of.Message) {})
	for _, n := range []int{1000, 20000} {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			messages := make([]of.Message, n)
			for i := range messages {
				messages[i] = l2Flow(i)
			}
			for b.Loop() {
				if err := c.Bundle(b.Context(), messages); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
		})
	}
}

// BenchmarkDump reads 100,000 flows from a switch: as views, as flows part by part, and as flows all at once.
func BenchmarkDump(b *testing.B) {
	c := benchSwitch(b, func(*of.Conn, of.Message) {})
	messages := make([]of.Message, 100000)
	for i := range messages {
		messages[i] = l2Flow(i)
	}
	if err := c.Bundle(b.Context(), messages); err != nil {
		b.Fatal(err)
	}
	count := func(n *int) func(of.Body) error {
		return func(body of.Body) error { *n += len(body.(*of.FlowStatsList).Flows); return nil }
	}
	for _, way := range []struct {
		name string
		dump func() (n int, err error)
	}{
		{"views", func() (n int, err error) {
			err = c.EachFlow(b.Context(), of.EveryFlow(), func(*of.FlowView) error { n++; return nil })
			return n, err
		}},
		{"parts", func() (n int, err error) {
			err = c.Stream(b.Context(), of.PartFlow, of.EveryFlow(), count(&n))
			return n, err
		}},
		{"whole", func() (n int, err error) {
			bodies, err := c.Multipart(b.Context(), of.PartFlow, of.EveryFlow())
			for _, body := range bodies {
				_ = count(&n)(body)
			}
			return n, err
		}},
	} {
		b.Run(way.name+"/flows=100000", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, err := way.dump(); err != nil || n != len(messages) {
					b.Fatal(err, n)
				}
			}
			b.ReportMetric(100000*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
		})
	}
}

// BenchmarkPacketIn answers packet-ins: each answer is a packet-out that the switch sends to the controller again.
func BenchmarkPacketIn(b *testing.B) {
	for _, outstanding := range []int{1, 32} {
		b.Run(fmt.Sprintf("outstanding=%d", outstanding), func(b *testing.B) {
			b.ReportAllocs()
			var left atomic.Int64
			done := make(chan struct{})
			answer := func(c *of.Conn, packet []byte) {
				err := c.Offer(0, &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Data: packet,
					Actions: []of.Action{&of.Resubmit{InPort: of.ResubmitInPort, Table: 10}}})
				if err != nil {
					b.Error(err)
				}
			}
			c := benchSwitch(b, func(c *of.Conn, m of.Message) {
				in, ok := m.(*of.PacketIn2)
				if !ok {
					return
				}
				if left.Add(-1) > 0 {
					answer(c, in.Packet)
				} else if left.Load() == 0 {
					close(done)
				}
			})
			if err := c.SendAll(b.Context(), []of.Message{&of.SetConfig{SwitchConfig: of.SwitchConfig{MissSendLen: of.NoLimit}}, &of.SetPacketInFormat{Format: of.FormatPacketIn2},
				flow(of.FlowAdd, func(m *of.FlowMod) {
					m.Table, m.Instructions = 10, apply(&of.Controller{MaxLen: of.NoLimit, Reason: of.ReasonAction, UserData: []byte{1, 2, 3, 4}})
				})}); err != nil {
				b.Fatal(err)
			}
			packet := make([]byte, 342) // a DHCP request has about as many
			packet[12], packet[13] = 8, 0
			b.ResetTimer()
			left.Store(int64(b.N))
			for range min(outstanding, b.N) {
				answer(c, packet)
			}
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
		})
	}
}
