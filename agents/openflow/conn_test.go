package openflow_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// dialRun connects to a switch and runs the connection; ended gets why it ended.
func dialRun(t *testing.T, cfg of.Config) (c *of.Conn, ended chan error) {
	t.Helper()
	cfg.Network = "unix"
	c, err := of.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { ended <- c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c, ended
}

func awaitEnd(t *testing.T, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the connection did not end within 30 s")
		return nil
	}
}

// A dump comes flow by flow, with the bytes that tell flows apart; one who has seen enough stops it, and the connection goes on.
func TestEachFlow(t *testing.T) {
	t.Parallel()
	sw := ovstest.NewFake(t)
	c, _ := dialRun(t, of.Config{Address: sw.Address})
	var all []of.Message
	for i := range 1000 {
		all = append(all, ruleFlow(i))
	}
	if err := c.Bundle(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	err := c.EachFlow(t.Context(), of.EveryFlow(), func(v *of.FlowView) error {
		seen[v.Cookie] = true
		want := all[v.Cookie].(*of.FlowMod)
		key, err := of.InstructionsKey(want.Instructions)
		if err != nil || string(v.Match) != want.Match.Key() || string(v.Instructions) != key || v.Table != want.Table || v.Priority != want.Priority {
			t.Errorf("%v: the view is %+v of %s", err, v, want)
		}
		if f, err := v.Flow(); err != nil || of.Names.FlowStats(of.Names{}, &f, false) != want.String() {
			t.Errorf("%v: the flow is %v, want %v", err, &f, want)
		}
		return nil
	})
	if err != nil || len(seen) != len(all) {
		t.Errorf("%v: %d flows, want %d", err, len(seen), len(all))
	}
	enough := errors.New("enough")
	for range 10 { // what is still on its way does not disturb
		if err := c.EachFlow(t.Context(), of.EveryFlow(), func(*of.FlowView) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
		if err := c.Stream(t.Context(), of.PartFlow, of.EveryFlow(), func(of.Body) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
	}
	if err := c.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
	refused := &of.SwitchError{}
	if err := c.Stream(t.Context(), of.PartTableFeatures, nil, func(of.Body) error { return nil }); !errors.As(err, &refused) {
		t.Errorf("a refused request: %v", err)
	}
}

// A view of a real switch's flow has the keys of what it was sent.
func TestEachFlowOfARealSwitch(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.must(t, b.Bundle(t.Context(), []of.Message{l2Flow(1), ruleFlow(2)}))
	n := 0
	b.must(t, b.EachFlow(t.Context(), of.EveryFlow(), func(v *of.FlowView) error {
		want := map[uint64]*of.FlowMod{1: l2Flow(1), 2: ruleFlow(2)}[v.Cookie]
		key, err := of.InstructionsKey(want.Instructions)
		if err != nil || string(v.Match) != want.Match.Key() || string(v.Instructions) != key {
			t.Errorf("%v: the view is %+v of %s", err, v, want)
		}
		n++
		return nil
	}))
	if n != 2 {
		t.Errorf("%d flows, want 2", n)
	}
}

// A switch that does not read makes senders wait, and what need not arrive is dropped, while little memory is held; when it reads again, all goes on.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	sw := ovstest.NewFake(t)
	c, _ := dialRun(t, of.Config{Address: sw.Address})
	release := make(chan struct{})
	sw.Inject(func(of.Message) ovstest.Fault { return ovstest.Fault{Until: release} })
	packet := &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Data: make([]byte, 1400)}
	sent := 0
	for ; ; sent++ {
		if err := c.Offer(0, packet); errors.Is(err, of.ErrBusy) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if sent > 10000 {
			t.Fatal("the switch does not read, and 14 MB were taken")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for err := error(nil); err == nil; sent++ { // flows have more room
		if err = c.Send(ctx, 0, packet); err != nil && !fault.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
		if sent > 10000 {
			t.Fatal("the switch does not read, and 14 MB were taken")
		}
	}
	close(release)
	if err := c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(sw.PacketOuts()); got != sent-1 {
		t.Errorf("%d packets came, %d were sent", got, sent-1)
	}
}

// countingConn counts what is written, and holds the first write back until it is released.
type countingConn struct {
	net.Conn
	writes  atomic.Int64
	release chan struct{}
}

func (c *countingConn) Write(b []byte) (int, error) {
	if c.writes.Add(1) == 2 { // behind the hello
		<-c.release
	}
	return c.Conn.Write(b)
}

// What is sent while a write is under way leaves in one write.
func TestSmallMessagesLeaveTogether(t *testing.T) {
	t.Parallel()
	sw := ovstest.NewFake(t)
	n, err := net.Dial("unix", sw.Address)
	if err != nil {
		t.Fatal(err)
	}
	counting := &countingConn{Conn: n, release: make(chan struct{})}
	c, err := of.New(t.Context(), counting, of.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	for range 1000 {
		if err := c.Offer(0, &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Data: []byte("small")}); err != nil {
			t.Fatal(err)
		}
	}
	close(counting.release)
	if err := c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := counting.writes.Load(); got > 4 || len(sw.PacketOuts()) != 1000 {
		t.Errorf("%d packets in %d writes", len(sw.PacketOuts()), got)
	}
}

// Many senders at the same time: each one's messages come in its order, and the calls between them are answered.
func TestPipelining(t *testing.T) {
	t.Parallel()
	sw := ovstest.NewFake(t)
	c, _ := dialRun(t, of.Config{Address: sw.Address})
	var wg sync.WaitGroup
	const each = 2000
	for sender := range byte(4) {
		wg.Go(func() {
			for i := range each {
				data := []byte{sender, byte(i >> 8), byte(i)}
				if err := c.Send(t.Context(), 0, &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Data: data}); err != nil {
					t.Error(err)
				}
				if i%500 == 0 {
					if err := c.Barrier(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := [4]int{-1, -1, -1, -1}
	for _, out := range sw.PacketOuts() {
		sender, i := out.Data[0], int(out.Data[1])<<8|int(out.Data[2])
		if i != last[sender]+1 {
			t.Fatalf("sender %d: %d came behind %d", sender, i, last[sender])
		}
		last[sender] = i
	}
	if last != [4]int{each - 1, each - 1, each - 1, each - 1} {
		t.Errorf("the last ones are %v", last)
	}
}

// An ovs-vswitchd that is killed is noticed at once, one that hangs after the probe.
func TestDeadSwitchIsNoticed(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	_, ended := dialRun(t, of.Config{Address: b.sw.Mgmt("br0"), Probe: time.Hour})
	b.sw.KillSwitchd()
	if err := awaitEnd(t, ended); err == nil || strings.Contains(err.Error(), "silent") {
		t.Errorf("got %v", err)
	}

	b.sw.StartSwitchd()
	b.sw.Vsctl("--timeout=30", "set", "bridge", "br0", "other_config:x=y")               // waits until it is configured
	c, ended := dialRun(t, of.Config{Address: b.sw.Mgmt("br0"), Probe: 2 * time.Second}) // what a busy machine may take to answer
	if err := c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.sw.FreezeSwitchd()
	asked := time.Now()
	if err := c.Barrier(t.Context()); err == nil {
		t.Error("a switch that hangs answered")
	}
	if err := awaitEnd(t, ended); err == nil || !strings.Contains(err.Error(), "silent") || time.Since(asked) > 30*time.Second {
		t.Errorf("got %v after %s", err, time.Since(asked))
	}
	b.sw.ThawSwitchd()
}

// pipe is a connection of which the test is the switch's end, in the time of a bubble.
func pipe(t *testing.T, cfg of.Config) (c *of.Conn, peer net.Conn, ended chan error) {
	t.Helper()
	ours, peer := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		if head := read(t, peer); head[1] != 0 {
			t.Errorf("the first message is of type %d", head[1])
		}
		say(t, peer, 0, &of.Hello{Versions: 1 << 4})
	})
	c, err := of.New(t.Context(), ours, cfg)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	ended = make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { ended <- c.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return c, peer, ended
}

func say(t *testing.T, peer net.Conn, xid uint32, m of.Message) {
	t.Helper()
	raw, err := of.Append(nil, xid, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write(raw); err != nil {
		t.Errorf("%T: %v", m, err)
	}
}

// A silent switch is asked once the probe's time is over, and given up when it stays silent; one that we do not listen to is not.
func TestProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handled, release := 0, make(chan struct{})
		_, peer, ended := pipe(t, of.Config{Probe: 4 * time.Second, Handle: func(uint32, of.Message) { handled++; <-release }})
		begin := time.Now()
		if raw := read(t, peer); raw[1] != 2 || time.Since(begin) < 4*time.Second {
			t.Errorf("a message of type %d came after %s", raw[1], time.Since(begin))
		}
		say(t, peer, 0, &of.PortStatus{Port: of.PortDesc{HWAddr: mac("02:00:00:00:00:01")}})
		time.Sleep(time.Minute) // the bubble's: nothing is read while one is handled
		select {
		case err := <-ended:
			t.Fatalf("given up while a message was handled: %v", err)
		default:
		}
		close(release)
		say(t, peer, 0, &of.EchoReply{})
		begin = time.Now()
		if raw := read(t, peer); raw[1] != 2 {
			t.Errorf("a message of type %d came", raw[1])
		}
		raw := make([]byte, 100)
		for {
			if _, err := peer.Read(raw); err != nil {
				break
			}
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "silent") || time.Since(begin) > 11*time.Second || handled != 1 {
			t.Errorf("%v after %s, %d handled", err, time.Since(begin), handled)
		}
	})
}

// What cannot be taken apart ends the call that waits for it, or is handled as bytes, and the connection goes on: another program's flow must not
// part an agent from its switch.
func TestUnreadableMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan of.Message, 1)
		c, peer, _ := pipe(t, of.Config{Handle: func(_ uint32, m of.Message) { heard <- m }})
		var wg sync.WaitGroup
		wg.Go(func() {
			raw := read(t, peer)
			if _, err := peer.Write([]byte{4, 25, 0, 9, raw[4], raw[5], raw[6], raw[7], 1}); err != nil { // a role that is cut off
				t.Error(err)
			}
		})
		if _, err := c.Call(t.Context(), &of.RoleRequest{}); !errors.Is(err, of.ErrShort) {
			t.Errorf("got %v", err)
		}
		wg.Wait()
		strange := []byte{1, 1, 0, 12, 0, 0, 0, 9, 0xb0, 0xc2, 0, 0} // an error of OpenFlow 1.0, which Open vSwitch sends for some
		if _, err := peer.Write(strange); err != nil {
			t.Fatal(err)
		}
		if m, ok := (<-heard).(*of.OtherMessage); !ok || m.Type != 1 || !slices.Equal(m.Data, strange[8:]) {
			t.Errorf("it came as %+v", m)
		}
	})
}
