package openflow_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

// sockets are both ends of a connection of Unix sockets of a kind.
func sockets(t *testing.T, kind int) (ours, peer net.Conn) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "socket")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], ends[1]
}

// overSocket is a connection over sockets of which the test is the switch's end.
func overSocket(t *testing.T, kind int, handle func(*of.Conn, uint32)) (c *of.Conn, peer net.Conn) {
	t.Helper()
	ours, peer := sockets(t, kind)
	say(t, peer, 0, &of.Hello{Versions: 1 << 4})
	c, err := of.New(t.Context(), ours, of.Config{Handle: func(xid uint32, _ of.Message) { handle(c, xid) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Read(make([]byte, 100)); err != nil { // our hello
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c, peer
}

// packetIns are packet-ins with the numbers from first on, as bytes.
func packetIns(t *testing.T, first, n uint32) (raw []byte) {
	t.Helper()
	for i := range n {
		var err error
		if raw, err = of.Append(raw, first+i, &of.PacketIn2{BufferID: of.NoBuffer, Packet: make([]byte, 342)}); err != nil {
			t.Fatal(err)
		}
	}
	return raw
}

func answer(c *of.Conn, xid uint32) error {
	return c.Offer(xid, &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Data: make([]byte, 342)})
}

// What is answered of messages that came together leaves together, and an answer to one alone leaves alone.
func TestAnswersLeaveTogether(t *testing.T) {
	t.Parallel()
	_, peer := overSocket(t, syscall.SOCK_SEQPACKET, func(c *of.Conn, xid uint32) { // a read is what was written at once
		if err := answer(c, xid); err != nil {
			t.Error(err)
		}
	})
	buf := make([]byte, 1<<16)
	first := uint32(1)
	for _, n := range []uint32{1, 30, 1, 2} {
		if _, err := peer.Write(packetIns(t, first, n)); err != nil {
			t.Fatal(err)
		}
		got, err := peer.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		rest := buf[:got]
		for i := range n {
			if len(rest) < 8 || rest[1] != 13 || binary.BigEndian.Uint32(rest[4:]) != first+i {
				t.Fatalf("of %d messages %d answers left with the first: %x", n, i, rest[:min(len(rest), 8)])
			}
			rest = rest[binary.BigEndian.Uint16(rest[2:]):]
		}
		if len(rest) > 0 {
			t.Fatalf("%d bytes behind the answers to %d messages", len(rest), n)
		}
		first += n
	}
}

// Answers that the switch does not take at once, and what others send meanwhile, come whole and each sender's in its order, once it reads.
func TestAnswersWaitForTheSwitch(t *testing.T) {
	t.Parallel()
	const packets, sent = 3000, 300
	var offered atomic.Int64
	full := make(chan struct{})
	var once sync.Once
	c, peer := overSocket(t, syscall.SOCK_STREAM, func(c *of.Conn, xid uint32) {
		switch err := answer(c, xid); {
		case err == nil:
			offered.Add(1)
		case errors.Is(err, of.ErrBusy):
			once.Do(func() { close(full) })
		default:
			t.Error(err)
		}
	})
	if err := peer.(*net.UnixConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := peer.Write(packetIns(t, 1, packets)); err != nil {
			t.Error(err)
		}
		say(t, peer, 0, &of.EchoRequest{})
	})
	wg.Go(func() {
		for i := range uint32(sent) {
			if err := c.Send(t.Context(), 1<<20+i, &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortController, Data: make([]byte, 342)}); err != nil {
				t.Error(err)
			}
		}
	})
	select {
	case <-full: // all buffers are: now the switch reads
	case <-time.After(30 * time.Second):
		t.Fatal("the switch does not read, and everything was taken")
	}
	next, count, echoed := map[bool]uint32{}, map[bool]int64{}, false
	for !echoed || count[true] < sent {
		raw := read(t, peer)
		if raw[1] == 3 { // the echo's answer, behind all others of the reader
			echoed = true
			continue
		}
		xid := binary.BigEndian.Uint32(raw[4:])
		other := xid >= 1<<20
		if raw[1] != 13 || xid < next[other] {
			t.Fatalf("a message of type %d; %d came behind %d", raw[1], xid, next[other])
		}
		next[other] = xid + 1
		count[other]++
	}
	wg.Wait()
	if count[false] != offered.Load() {
		t.Errorf("%d answers came, %d were taken", count[false], offered.Load())
	}
}
