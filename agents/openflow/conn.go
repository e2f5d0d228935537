package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
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
	// Handle gets each message that answers no call: packet-ins, changes of ports, updates of monitors, in their order. Until it
	// returns, nothing else is read. nil: they are dropped.
	Handle func(xid uint32, m Message)
	// Timeout bounds the handshake and each call; 0 stands for 10 s.
	Timeout time.Duration
	// Probe is how long the switch may be silent before it is asked for an echo; after as long again the connection is given up. 0 stands for 5 s.
	Probe time.Duration
}

// maxQueued bounds the bytes that wait to be sent; who sends more waits.
const maxQueued = 4 << 20

// Conn is a connection to a switch, or of a switch to its controller. Its methods may be called at the same time while Run runs.
type Conn struct {
	cfg   Config
	net   net.Conn
	in    *bufio.Reader
	heard atomic.Int64 // when a message last came in, in Unix nanoseconds
	done  chan struct{}

	mu      sync.Mutex // guards the fields below
	out     []byte     // waits to be written
	wake    chan struct{}
	room    chan struct{} // closed and made anew when out was taken
	serial  uint32
	waiting map[uint32]*waiter
	spans   []*span
	bundle  uint32
	ended   bool
}

// waiter gets the replies to one request.
type waiter struct {
	got  chan Message // the last reply
	part []Body       // of a multipart reply
	err  error
	m    Message
}

// span gets the errors of a run of messages that have no reply of their own.
type span struct {
	first, n uint32
	messages []Message
	errs     []error
}

// maxErrors bounds how many refusals of one run of messages are kept.
const maxErrors = 16

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
	c := &Conn{cfg: cfg, net: n, in: bufio.NewReaderSize(n, 1<<17), done: make(chan struct{}), wake: make(chan struct{}, 1), room: make(chan struct{}),
		serial: 1, waiting: map[uint32]*waiter{}}
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
	c.heard.Store(time.Now().UnixNano())
	g.Go(func() error {
		<-ctx.Done()
		return errors.Join(context.Cause(ctx), c.net.Close())
	})
	g.Go(c.read)
	g.Go(func() error { return c.write(ctx) })
	g.Go(func() error { return c.keepAlive(ctx) })
	err := g.Wait()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	close(c.done)
	return err
}

func (c *Conn) read() error {
	for {
		raw, err := c.next()
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		c.heard.Store(time.Now().UnixNano())
		xid, m, err := Decode(raw)
		if err != nil {
			return err
		}
		if echo, ok := m.(*EchoRequest); ok {
			if err := c.push(xid, &EchoReply{Data: echo.Data}); err != nil {
				return err
			}
			continue
		}
		if !c.answers(xid, m) && c.cfg.Handle != nil {
			c.cfg.Handle(xid, m)
		}
	}
}

// answers gives a message to the call that waits for it.
func (c *Conn) answers(xid uint32, m Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.waiting[xid]; w != nil {
		switch m := m.(type) {
		case *Error:
			w.err = &SwitchError{Refusal: *m, Message: w.m}
		case *MultipartReply:
			if w.part = append(w.part, m.Body); m.Flags&More != 0 {
				return true
			}
		}
		delete(c.waiting, xid)
		w.got <- m
		return true
	}
	refused, ok := m.(*Error)
	if !ok {
		_, ok = m.(*EchoReply)
		return ok
	}
	for _, s := range c.spans {
		if at := xid - s.first; at < s.n {
			if len(s.errs) < maxErrors {
				s.errs = append(s.errs, &SwitchError{Refusal: *refused, Message: s.messages[at]})
			}
			return true
		}
	}
	return false
}

func (c *Conn) write(ctx context.Context) error {
	var spare []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		c.mu.Lock()
		raw := c.out
		c.out = spare[:0]
		close(c.room)
		c.room = make(chan struct{})
		c.mu.Unlock()
		if _, err := c.net.Write(raw); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		spare = raw
	}
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
	out, err := Append(c.out, xid, m)
	if err != nil {
		return err
	}
	c.out = out
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

var errEnded = fault.New(fault.Unavailable, "agents/openflow.Conn", "the connection to the switch has ended")

// lock takes mu as soon as there is room to queue more.
func (c *Conn) lock(ctx context.Context) error {
	for {
		c.mu.Lock()
		if len(c.out) < maxQueued || c.ended {
			return nil
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

// keepAlive asks a silent switch for an echo, and ends the connection when it stays silent.
func (c *Conn) keepAlive(ctx context.Context) error {
	ticker := time.NewTicker(c.cfg.Probe / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			silent := now.Sub(time.Unix(0, c.heard.Load()))
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
// more than 4 MiB wait to be sent.
func (c *Conn) Send(ctx context.Context, xid uint32, m Message) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	return c.append(xid, m)
}

// Call sends a request and returns its answer; a refusal is a *SwitchError. fault.Ambiguous says that no answer came.
func (c *Conn) Call(ctx context.Context, m Message) (Message, error) {
	w := &waiter{got: make(chan Message, 1), m: m}
	reply, err := c.wait(ctx, w)
	if err == nil {
		err = w.err
	}
	return reply, err
}

// Multipart sends a request and returns the bodies of all parts of its answer.
func (c *Conn) Multipart(ctx context.Context, kind PartKind, body Body) ([]Body, error) {
	m := &MultipartRequest{Multipart{Kind: kind, Body: body}}
	w := &waiter{got: make(chan Message, 1), m: m}
	if _, err := c.wait(ctx, w); err != nil {
		return nil, err
	}
	return w.part, w.err
}

func (c *Conn) wait(ctx context.Context, w *waiter) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	xid := c.xids(1)
	c.waiting[xid] = w
	err := c.append(xid, w.m)
	if err != nil {
		delete(c.waiting, xid)
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case m := <-w.got:
		return m, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		err = errEnded
	}
	c.mu.Lock()
	delete(c.waiting, xid)
	c.mu.Unlock()
	select {
	case m := <-w.got: // it came at the last moment
		return m, nil
	default:
		return nil, fault.Wrap(fault.Ambiguous, "agents/openflow.Call", fmt.Errorf("%T: %w", w.m, err))
	}
}

// xids reserves n numbers of messages, none of them 0. The caller holds mu.
func (c *Conn) xids(n uint32) uint32 {
	if c.serial > ^uint32(0)-n {
		c.serial = 1
	}
	first := c.serial
	c.serial += n
	return first
}

// Barrier returns when the switch has done all that was sent before.
func (c *Conn) Barrier(ctx context.Context) error {
	_, err := c.Call(ctx, &BarrierRequest{})
	return err
}

// SendAll sends messages that have no answer and returns when the switch has done them; the error joins its refusals, up to 16 of them.
// Those that it does not name were carried out.
func (c *Conn) SendAll(ctx context.Context, messages []Message) error {
	if len(messages) == 0 {
		return c.Barrier(ctx)
	}
	s := c.span(messages)
	defer c.forget(s)
	for i, m := range messages {
		if err := c.Send(ctx, s.first+uint32(i), m); err != nil { //nolint:gosec // not so many
			return err
		}
	}
	return errors.Join(c.Barrier(ctx), c.refusals(s))
}

// span reserves xids for messages that have no answer, under which their refusals are gathered. forget ends it.
func (c *Conn) span(messages []Message) *span {
	s := &span{messages: messages, n: uint32(len(messages))} //nolint:gosec // not so many
	c.mu.Lock()
	defer c.mu.Unlock()
	s.first = c.xids(s.n)
	c.spans = append(c.spans, s)
	return s
}

// refusals joins the refusals that have come so far.
func (c *Conn) refusals(s *span) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(s.errs...)
}

func (c *Conn) forget(s *span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.spans {
		if other == s {
			c.spans = append(c.spans[:i:i], c.spans[i+1:]...)
			return
		}
	}
}

// Bundle has the switch do messages (*FlowMod, *GroupMod, *PacketOut) all or none, in their order, without a packet seeing a part of
// them. After an error none was done, but for fault.Ambiguous, which leaves it open; the error joins the refusals, up to 16 of them.
//
// Groups are deleted after the bundle, not in it, and that is refused here: when a message behind the deletion of a group that flows use is refused, Open vSwitch
// puts the flows back before the group, finds no group, and aborts (ofproto_group_mod_revert, in every version up to 2026).
// A FlowModify or a FlowDelete should stand before the flows that are added: it finds some of them and some not.
func (c *Conn) Bundle(ctx context.Context, messages []Message) error {
	for _, m := range messages {
		if g, ok := m.(*GroupMod); ok && g.Command == GroupDelete {
			return fault.Wrap(fault.BadRequest, "agents/openflow.Bundle", fmt.Errorf("%s: groups are deleted after a bundle, not in it", g))
		}
	}
	c.mu.Lock()
	c.bundle++
	id := c.bundle
	c.mu.Unlock()
	control := func(do BundleType) error {
		_, err := c.Call(ctx, &BundleControl{ID: id, Type: do, Flags: bundleFlags})
		return err
	}
	if err := control(BundleOpen); err != nil {
		return undone("open", messages, err)
	}
	s := c.span(messages)
	defer c.forget(s)
	err := c.fill(ctx, id, s)
	if err == nil {
		err = control(BundleClose)
	}
	// A message that the switch refuses while the bundle is filled is not in it, and a commit would do the others: the answer to the close is behind all refusals.
	if err := errors.Join(err, c.refusals(s)); err != nil {
		_ = c.push(0, &BundleControl{ID: id, Type: BundleDiscard, Flags: bundleFlags}) // else the switch keeps it for 10 s
		return undone("fill", messages, err)
	}
	if err := control(BundleCommit); err != nil {
		return fmt.Errorf("commit bundle of %d messages: %w", len(messages), errors.Join(c.refusals(s), err))
	}
	return nil
}

// bundleFlags are those of all bundles. Open vSwitch wants the same ones in each message.
const bundleFlags = BundleAtomic | BundleOrdered

// fill sends the messages of a bundle.
func (c *Conn) fill(ctx context.Context, id uint32, s *span) error {
	add := &BundleAdd{ID: id, Flags: bundleFlags}
	for i, m := range s.messages {
		add.XID, add.Message = s.first+uint32(i), m //nolint:gosec // not so many
		if err := c.Send(ctx, add.XID, add); err != nil {
			return err
		}
	}
	return nil
}

// undone is the failure of a bundle that was not committed: whatever is open about it, nothing was done.
func undone(step string, messages []Message, err error) error {
	err = fmt.Errorf("%s bundle of %d messages: %w", step, len(messages), err)
	if fault.Is(err, fault.Ambiguous) {
		return fault.Wrap(fault.Unavailable, "agents/openflow.Bundle", err)
	}
	return err
}

// Close ends the connection without Run.
func (c *Conn) Close() error { return c.net.Close() }

var _ io.Closer = (*Conn)(nil)
