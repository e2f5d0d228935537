package members

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// sockets is the network as the transport needs it.
type sockets struct {
	packets net.PacketConn
	streams net.Listener
	dial    func(ctx context.Context, address string) (net.Conn, error)
}

// listen opens the sockets of a real network.
func listen(ctx context.Context, bind netip.AddrPort) (sockets, error) {
	var config net.ListenConfig
	streams, err := config.Listen(ctx, "tcp", bind.String())
	if err != nil {
		return sockets{}, err
	}
	packets, err := config.ListenPacket(ctx, "udp", bind.String())
	if err != nil {
		return sockets{}, errors.Join(err, streams.Close())
	}
	if udp, ok := packets.(*net.UDPConn); ok {
		_ = udp.SetReadBuffer(2 << 20) // the kernel gives what it may; news that are lost come again
	}
	var dialer net.Dialer
	return sockets{packets, streams, func(ctx context.Context, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	}}, nil
}

// transport carries memberlist's packets and streams. It counts what it carries, and it ends: memberlist's own leaves connections open
// behind it, dials what no context can stop, and takes 64 KiB of fresh memory for each packet.
type transport struct {
	sockets
	at      netip.AddrPort
	metrics *metrics
	packet  chan *memberlist.Packet // never closed
	stream  chan net.Conn           // never closed
	done    chan struct{}           // closed by Shutdown
	calls   context.Context         // ends what this member itself has dialled
	hangUp  context.CancelFunc
	loops   sync.WaitGroup
	open    sync.WaitGroup // of connections

	mu       sync.Mutex // guards the fields below
	conns    map[*conn]struct{}
	incoming int // of conns
	ended    bool
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// packetQueue is how many packets wait for memberlist before they wait in the kernel.
const packetQueue = 256

// Whoever reaches the port may connect, and memberlist listens to what it says before it knows whether it has the key.
const (
	// maxIncoming is how many connections from others there may be at once; memberlist answers 128 exchanges at once.
	maxIncoming = 128
	// maxStream is how many bytes one of them may bring: an exchange of 10,000 members whose announcements are as long as they may be.
	maxStream = 8 << 20
)

// newTransport carries on until Shutdown, which memberlist calls. ctx gives values only.
func newTransport(ctx context.Context, s sockets, advertise netip.AddrPort, m *metrics) *transport {
	t := &transport{
		sockets: s, at: advertise, metrics: m,
		packet: make(chan *memberlist.Packet, packetQueue), stream: make(chan net.Conn), done: make(chan struct{}),
		conns: map[*conn]struct{}{},
	}
	t.calls, t.hangUp = context.WithCancel(context.WithoutCancel(ctx))
	t.loops.Go(t.receive)
	t.loops.Go(t.accept)
	return t
}

// receive hands on packets until the socket is closed.
func (t *transport) receive() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := t.packets.ReadFrom(buf)
		if t.failed(err) {
			return
		}
		if err != nil || n == 0 {
			continue
		}
		t.metrics.received.packets.Add(float64(n))
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}
		select {
		case t.packet <- p:
		case <-t.done:
			return
		}
	}
}

// accept hands on connections until the listener is closed.
func (t *transport) accept() {
	for {
		raw, err := t.streams.Accept()
		if t.failed(err) {
			return
		}
		if err != nil {
			continue
		}
		c, ok := t.adopt(raw, nil)
		if !ok {
			t.metrics.refused.WithLabelValues(refusedBusy).Inc()
			continue // or the listener is closed too
		}
		select {
		case t.stream <- c:
		case <-t.done:
			_ = c.Close()
			return
		}
	}
}

// failed reports whether a socket's loop is over. What else may be wrong (no file descriptors left, an ICMP error that came back) passes;
// until then the loop takes breath.
func (t *transport) failed(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	select {
	case <-t.done:
		return true
	case <-time.After(5 * time.Millisecond):
		return false
	}
}

// FinalAdvertiseAddr is where the others reach this member.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.at.Addr().AsSlice(), int(t.at.Port()), nil
}

// WriteTo sends a packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %q: %w", addr, err)
	}
	n, err := t.packets.WriteTo(b, net.UDPAddrFromAddrPort(to))
	t.metrics.sent.packets.Add(float64(n))
	return time.Now(), err
}

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, to.Addr)
}

// PacketCh is where packets come in.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packet }

// StreamCh is where connections come in.
func (t *transport) StreamCh() <-chan net.Conn { return t.stream }

// DialTimeout connects.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.calls, timeout)
	defer cancel()
	raw, err := t.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c, ok := t.adopt(raw, t.calls)
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// DialAddressTimeout connects.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(to.Addr, timeout)
}

// Shutdown closes everything and returns when no connection is in use any more.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return nil
	}
	t.ended = true
	for c := range t.conns {
		_ = c.Conn.Close() // under its user, who then closes it himself
	}
	t.mu.Unlock()
	t.hangUp()
	close(t.done)
	err := errors.Join(t.packets.Close(), t.streams.Close())
	t.loops.Wait()
	t.open.Wait()
	return err
}

// queued is how many packets wait for memberlist.
func (t *transport) queued() int { return len(t.packet) }

// conn is a connection that is counted, and closed at the latest by Shutdown.
type conn struct {
	net.Conn
	of    *transport
	leave func() bool // of the context that ends it; nil: it came in
	left  int         // bytes that it may still bring, where it came in; its one reader's
	once  sync.Once
}

// adopt makes a connection one of the transport's, or closes it. while ends it early; it is nil for one that came in.
func (t *transport) adopt(raw net.Conn, while context.Context) (net.Conn, bool) {
	c := &conn{Conn: raw, of: t, left: maxStream}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || while == nil && t.incoming >= maxIncoming {
		_ = raw.Close()
		return nil, false
	}
	t.conns[c] = struct{}{}
	t.open.Add(1)
	if while == nil {
		t.incoming++
	} else {
		c.leave = context.AfterFunc(while, func() { _ = raw.Close() })
	}
	return c, true
}

// errStream ends a connection that brings more than any member would.
var errStream = errors.New("more than a member would send")

// Read counts.
func (c *conn) Read(b []byte) (int, error) {
	if c.leave == nil && c.left <= 0 {
		return 0, errStream
	}
	n, err := c.Conn.Read(b)
	c.left -= n
	c.of.metrics.received.streams.Add(float64(n))
	return n, err
}

// Write counts, and closes a connection that is broken: where memberlist cannot write its label it drops the connection as it is.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.of.metrics.sent.streams.Add(float64(n))
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// Close ends it.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		err = c.Conn.Close()
		c.of.mu.Lock()
		delete(c.of.conns, c)
		if c.leave == nil {
			c.of.incoming--
		}
		c.of.mu.Unlock()
		if c.leave != nil {
			c.leave()
		}
		c.of.open.Done()
	})
	return err
}
