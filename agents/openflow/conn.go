package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// Config says how to speak to a switch.
type Config struct {
	// Network and Address are those of net.Dial: "unix" and the path of a bridge's .mgmt socket, or "tcp".
	Network, Address string
	// Handle gets each message that answers no call: packet-ins, changes of ports, updates of monitors, in their order; one that cannot be taken apart is an
	// *OtherMessage. Until it returns, nothing else is read: it sends by Offer, and must not wait for an answer. What it offers leaves as soon as all is
	// handled that was read at once. nil: they are dropped.
	Handle func(xid uint32, m Message)
	// Timeout bounds the handshake, each call, and each part of an answer in many parts; 0 stands for 10 s.
	Timeout time.Duration
	// Probe is how long the switch may be silent before it is asked for an echo; after as long again the connection is given up. 0 stands for 5 s.
	Probe time.Duration
}

// maxQueued bounds the bytes that wait to be sent; who sends more waits. maxOffered bounds them for Offer, so that packets do not crowd flows out.
const (
	maxQueued  = 1 << 20
	maxOffered = maxQueued / 4
)

// ErrBusy is the answer of Offer while too much waits to be sent.
var ErrBusy = errors.New("too much waits to be sent to the switch")

// Conn is a connection to a switch, or of a switch to its controller. Its methods may be called at the same time while Run runs.
type Conn struct {
	cfg   Config
	net   net.Conn
	sock  *socket // net's; nil: it is none
	in    *bufio.Reader
	born  time.Time
	heard atomic.Int64 // when a message last came in, in nanoseconds since born: a clock that is set makes nobody silent
	busy  atomic.Bool  // one is being handled, and nothing is read
	done  chan struct{}

	mu      sync.Mutex // guards the fields below
	out     coder      // its bytes wait to be written
	left    []byte     // waits before them: what the switch did not take at once
	spare   []byte     // room for out while that is written
	writing bool       // what was taken is being written, and nothing else may be
	corked  bool       // the reader has messages to handle, and writes what is offered after them
	wake    chan struct{}
	room    chan struct{} // closed when out is taken, and made anew by who waits for that; else nil
	serial  uint32
	waiting map[uint32]*waiter
	spans   []*span
	bundle  uint32
	ended   bool
}

// Dial connects to a switch and shakes hands.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	var d net.Dialer
	n, err := d.DialContext(ctx, cfg.Network, cfg.Address)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "agents/openflow.Dial", err)
	}
	c, err := New(ctx, n, cfg)
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.Unavailable, "agents/openflow.Dial", fmt.Errorf("%s: %w", cfg.Address, err)), n.Close())
	}
	return c, nil
}

// New shakes hands over a connection that is there; either end may be the switch.
func New(ctx context.Context, n net.Conn, cfg Config) (*Conn, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Probe == 0 {
		cfg.Probe = 5 * time.Second
	}
	c := &Conn{cfg: cfg, net: n, born: time.Now(), sock: newSocket(n), done: make(chan struct{}), wake: make(chan struct{}, 1), serial: 1, waiting: map[uint32]*waiter{}}
	var from io.Reader = n
	if c.sock != nil {
		from = c.sock
	}
	c.in = bufio.NewReaderSize(from, 1<<17)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(cfg.Timeout)
	}
	hello, err := Append(nil, 0, &Hello{Versions: 1 << Version})
	if err != nil {
		return nil, err
	}
	if err := n.SetDeadline(deadline); err != nil {
		return nil, err
	}
	var g errgroup.Group // both ends may speak first
	g.Go(func() error { _, err := n.Write(hello); return err })
	g.Go(c.greeted)
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return c, n.SetDeadline(time.Time{})
}

// greeted reads the peer's hello and refuses a peer that does not speak OpenFlow 1.3.
func (c *Conn) greeted() error {
	raw, err := c.next()
	if err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	_, m, err := Decode(raw)
	if err != nil {
		return err
	}
	hello, ok := m.(*Hello)
	if !ok {
		return fmt.Errorf("%w: %T before hello", ErrType, m)
	}
	if common := hello.Versions&(1<<Version) != 0; !common && (hello.Versions != 0 || raw[0] < Version) {
		return fmt.Errorf("%w: the peer does not speak OpenFlow 1.3 (versions %#x); allow it in the bridge's protocols", ErrType, hello.Versions)
	}
	return nil
}

// next reads one message's bytes, which stay valid until the next call.
func (c *Conn) next() ([]byte, error) {
	head, err := c.in.Peek(headerSize)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if size < headerSize {
		return nil, fmt.Errorf("%w: a message of %d bytes", ErrLength, size)
	}
	raw, err := c.in.Peek(size) // the buffer has room for the largest
	if err != nil {
		return nil, err
	}
	_, err = c.in.Discard(size)
	return raw, err
}

// Run serves the connection until it ends, by the peer, by an error or by ctx, and says why. It closes it.
func (c *Conn) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	c.hears()
	g.Go(func() error {
		<-ctx.Done()
		return errors.Join(context.Cause(ctx), c.net.Close())
	})
	g.Go(func() error { return c.read(ctx) })
	g.Go(func() error { return c.write(ctx) })
	g.Go(func() error { return c.keepAlive(ctx) })
	err := g.Wait()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	close(c.done)
	return err
}

func (c *Conn) read(ctx context.Context) error {
	for {
		raw, err := c.next()
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		c.busy.Store(true)
		err = c.hear(ctx, raw)
		c.hears() // it was not silent while it was not listened to
		c.busy.Store(false)
		if err != nil {
			return err
		}
		if !c.more() {
			c.uncork()
		}
	}
}

// more says whether another whole message has been read.
func (c *Conn) more() bool {
	n := c.in.Buffered()
	if n < headerSize {
		return false
	}
	head, err := c.in.Peek(headerSize)
	return err == nil && n >= int(binary.BigEndian.Uint16(head[2:]))
}

// Waiting is how many bytes of the switch's messages have been read and wait for Handle to return, which alone may call it.
func (c *Conn) Waiting() int { return c.in.Buffered() }

// hear gives one message to who waits for it, or to Handle.
func (c *Conn) hear(ctx context.Context, raw []byte) error {
	if c.streams(ctx, raw) {
		return nil
	}
	xid, m, err := Decode(raw)
	if err != nil {
		if c.unreadable(xid, err) {
			return nil
		}
		m = &OtherMessage{Type: raw[1], Data: slices.Clone(raw[headerSize:])}
	}
	if echo, ok := m.(*EchoRequest); ok {
		return c.push(xid, &EchoReply{Data: echo.Data})
	}
	if !c.answers(xid, m) && c.cfg.Handle != nil {
		c.cork()
		c.cfg.Handle(xid, m)
	}
	return nil
}

// push queues a message without waiting for room: for answers of the reader, which must not wait for the writer.
func (c *Conn) push(xid uint32, m Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.append(xid, m)
}

// append queues a message. The caller holds mu.
func (c *Conn) append(xid uint32, m Message) error {
	if c.ended {
		return errEnded
	}
	if err := c.out.message(xid, m); err != nil {
		return err
	}
	c.poke()
	return nil
}

var errEnded = fault.New(fault.Unavailable, "agents/openflow.Conn", "the connection to the switch has ended")

// lock takes mu as soon as there is room to queue more.
func (c *Conn) lock(ctx context.Context) error {
	for {
		c.mu.Lock()
		if len(c.out.b) < maxQueued || c.ended {
			return nil
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.done:
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, "agents/openflow.Conn", ctx.Err())
		}
	}
}

func (c *Conn) hears() { c.heard.Store(int64(time.Since(c.born))) }

// keepAlive asks a silent switch for an echo, and ends the connection when it stays silent.
func (c *Conn) keepAlive(ctx context.Context) error {
	ticker := time.NewTicker(c.cfg.Probe / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if c.busy.Load() { // it is we who do not listen
				continue
			}
			silent := time.Since(c.born) - time.Duration(c.heard.Load())
			if silent >= 2*c.cfg.Probe {
				return fmt.Errorf("the switch was silent for %s", silent.Round(time.Millisecond))
			}
			if silent >= c.cfg.Probe {
				if err := c.push(0, &EchoRequest{}); err != nil {
					return err
				}
			}
		}
	}
}

// Send sends a message that has no answer, or whose answer Handle gets; its xid is the peer's where it answers one, else 0. It waits while
// more than 1 MiB waits to be sent.
func (c *Conn) Send(ctx context.Context, xid uint32, m Message) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	return c.append(xid, m)
}

// Offer is Send that never waits: it returns ErrBusy, and has sent nothing, while more than 256 KiB wait to be sent. Packets are sent by it.
func (c *Conn) Offer(xid uint32, m Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out.b) > maxOffered {
		return ErrBusy
	}
	if c.corked && !c.ended {
		return c.out.message(xid, m)
	}
	return c.append(xid, m)
}

// Close ends the connection without Run.
func (c *Conn) Close() error { return c.net.Close() }

var _ io.Closer = (*Conn)(nil)
