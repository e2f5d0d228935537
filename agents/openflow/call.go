package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// waiter gets the replies to one request.
type waiter struct {
	m   Message
	xid uint32
	got chan Message // the last reply
	err error        // set before got is sent to

	parts chan []byte   // of a stream: its messages, closed behind the last
	free  chan []byte   // what was used of them
	gone  chan struct{} // closed when nobody takes them any more
}

// span gets the errors of a run of messages that have no reply of their own.
type span struct {
	first, n uint32
	messages []Message
	errs     []error
}

// maxErrors bounds how many refusals of one run of messages are kept.
const maxErrors = 16

// answers gives a message to the call that waits for it.
func (c *Conn) answers(xid uint32, m Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	refused, isError := m.(*Error)
	if w := c.waiting[xid]; w != nil {
		if isError {
			w.err = &SwitchError{Refusal: *refused, Message: w.m}
		}
		delete(c.waiting, xid)
		w.got <- m
		return true
	}
	if !isError {
		_, echo := m.(*EchoReply)
		return echo
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

// unreadable ends the call whose answer cannot be read.
func (c *Conn) unreadable(xid uint32, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[xid]
	if w == nil {
		return false
	}
	delete(c.waiting, xid)
	w.err = err
	w.got <- nil
	return true
}

// streams gives a part of an answer to the stream that waits for it, as bytes: who waits takes them apart. While the stream has some parts to
// take, nothing is read, so that a slow one slows the switch and not the memory.
func (c *Conn) streams(ctx context.Context, raw []byte) bool {
	const multipartReply, flagsAt = 19, 10
	if raw[1] != multipartReply || len(raw) < flagsAt+2 {
		return false
	}
	xid := binary.BigEndian.Uint32(raw[4:])
	last := binary.BigEndian.Uint16(raw[flagsAt:])&More == 0
	c.mu.Lock()
	w := c.waiting[xid]
	if w == nil || w.parts == nil {
		c.mu.Unlock()
		return false
	}
	if last {
		delete(c.waiting, xid)
	}
	c.mu.Unlock()
	c.uncork() // who takes the parts may be slow
	var part []byte
	select {
	case part = <-w.free:
	default:
	}
	select {
	case w.parts <- append(part[:0], raw...):
	case <-w.gone:
	case <-ctx.Done():
	}
	if last {
		close(w.parts)
	}
	return true
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
	var out []Body
	err := c.Stream(ctx, kind, body, func(b Body) error { out = append(out, b); return nil })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Stream sends a request and calls each with the body of each part of its answer as it comes, until each returns an error. What
// each does not take yet is not read from the switch, so each must not wait for an answer of the switch.
func (c *Conn) Stream(ctx context.Context, kind PartKind, body Body, each func(Body) error) error {
	return c.stream(ctx, kind, body, func(raw []byte) error {
		_, m, err := Decode(raw)
		if err != nil {
			return err
		}
		reply, ok := m.(*MultipartReply)
		if !ok {
			return fmt.Errorf("%w: %T as a part of an answer", ErrType, m)
		}
		return each(reply.Body)
	})
}

// streamed is how many parts of an answer, of up to 64 KiB, wait to be taken.
const streamed = 4

// stream sends a request and calls each with each part of its answer, which is valid until each returns.
func (c *Conn) stream(ctx context.Context, kind PartKind, body Body, each func(raw []byte) error) error {
	w := &waiter{got: make(chan Message, 1), m: &MultipartRequest{Multipart{Kind: kind, Body: body}},
		parts: make(chan []byte, streamed), free: make(chan []byte, streamed+1), gone: make(chan struct{})}
	if err := c.request(ctx, w); err != nil {
		return err
	}
	defer close(w.gone) // the reader drops what still comes
	timer := time.NewTimer(c.cfg.Timeout)
	defer timer.Stop()
	for {
		raw, more, err := c.part(ctx, w, timer.C)
		if err != nil || !more {
			return err
		}
		if err := each(raw); err != nil {
			return err
		}
		select {
		case w.free <- raw:
		default:
		}
		timer.Reset(c.cfg.Timeout)
	}
}

// part waits for a part of a stream; more says that there was one.
func (c *Conn) part(ctx context.Context, w *waiter, limit <-chan time.Time) (raw []byte, more bool, err error) {
	select {
	case raw, more = <-w.parts:
		return raw, more, nil
	case <-w.got:
		return nil, false, w.err
	case <-limit:
		err = fmt.Errorf("no answer within %s", c.cfg.Timeout)
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		select {
		case raw, more = <-w.parts: // it came before the end
			return raw, more, nil
		default:
			err = errEnded
		}
	}
	return nil, false, fault.Wrap(fault.Ambiguous, "agents/openflow.Stream", fmt.Errorf("%T: %w", w.m, err))
}

// request sends the request of a waiter under an xid of its own.
func (c *Conn) request(ctx context.Context, w *waiter) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	w.xid = c.xids(1)
	if err := c.append(w.xid, w.m); err != nil {
		return err
	}
	c.waiting[w.xid] = w
	return nil
}

func (c *Conn) giveUp(xid uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, xid)
}

func (c *Conn) wait(ctx context.Context, w *waiter) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.request(ctx, w); err != nil {
		return nil, err
	}
	return c.answer(ctx, w)
}

// answer waits for the answer to a request that was sent.
func (c *Conn) answer(ctx context.Context, w *waiter) (m Message, err error) {
	select {
	case m := <-w.got:
		return m, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		err = errEnded
	}
	c.giveUp(w.xid)
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
	_, err := c.BundleAfter(ctx, nil, messages)
	return err
}

// BundleAfter is Bundle behind messages that cannot ride in a bundle and have no answer: the switch has done those before it commits. refused joins its refusals of
// them, as SendAll does; they do not hinder the bundle. All but the commit is sent in one go, so that a switch that is busy with something else has to look only twice.
func (c *Conn) BundleAfter(ctx context.Context, before, messages []Message) (refused, err error) {
	for _, m := range messages {
		if g, ok := m.(*GroupMod); ok && g.Command == GroupDelete {
			return nil, fault.Wrap(fault.BadRequest, "agents/openflow.Bundle", fmt.Errorf("%s: groups are deleted after a bundle, not in it", g))
		}
	}
	first, s := c.span(before), c.span(messages)
	defer c.forget(first)
	defer c.forget(s)
	c.mu.Lock()
	c.bundle++
	id := c.bundle
	c.mu.Unlock()
	err = c.fill(ctx, id, first, s)
	refused = c.refusals(first)
	// A message that the switch refuses while the bundle is filled is not in it, and a commit would do the others: the answer to the close is behind all refusals.
	if err := errors.Join(err, c.refusals(s)); err != nil {
		_ = c.push(0, &BundleControl{ID: id, Type: BundleDiscard, Flags: bundleFlags}) // else the switch keeps it for 10 s
		return refused, undone("fill", messages, err)
	}
	if _, err := c.Call(ctx, &BundleControl{ID: id, Type: BundleCommit, Flags: bundleFlags}); err != nil {
		return refused, fmt.Errorf("commit bundle of %d messages: %w", len(messages), errors.Join(c.refusals(s), err))
	}
	return refused, nil
}

// bundleFlags are those of all bundles. Open vSwitch wants the same ones in each message.
const bundleFlags = BundleAtomic | BundleOrdered

// fill sends what is to be done before a bundle, and the bundle from its open to its close, and waits for the answers.
func (c *Conn) fill(ctx context.Context, id uint32, before, s *span) error {
	asked, err := c.queue(ctx, id, before, s)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	for _, w := range asked {
		if err != nil {
			c.giveUp(w.xid)
		} else if _, err = c.answer(ctx, w); err == nil {
			err = w.err
		}
	}
	return err
}

// queue queues what fill sends, in one piece unless there is no room for so much. asked are those of it that have an answer.
func (c *Conn) queue(ctx context.Context, id uint32, before, s *span) (asked []*waiter, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	put := func(xid uint32, m Message) {
		if err == nil && len(c.out.b) >= maxQueued {
			c.mu.Unlock()
			if err = c.lock(ctx); err != nil {
				c.mu.Lock()
			}
		}
		if err == nil {
			err = c.append(xid, m)
		}
	}
	ask := func(m Message) {
		w := &waiter{m: m, xid: c.xids(1), got: make(chan Message, 1)}
		if put(w.xid, m); err == nil {
			c.waiting[w.xid] = w
			asked = append(asked, w)
		}
	}
	for i, m := range before.messages {
		put(before.first+uint32(i), m) //nolint:gosec // not so many
	}
	if before.n > 0 {
		ask(&BarrierRequest{})
	}
	ask(&BundleControl{ID: id, Type: BundleOpen, Flags: bundleFlags})
	add := &BundleAdd{ID: id, Flags: bundleFlags}
	for i, m := range s.messages {
		add.XID, add.Message = s.first+uint32(i), m //nolint:gosec // not so many
		put(add.XID, add)
	}
	ask(&BundleControl{ID: id, Type: BundleClose, Flags: bundleFlags})
	return asked, err
}

// undone is the failure of a bundle that was not committed: whatever is open about it, nothing was done.
func undone(step string, messages []Message, err error) error {
	err = fmt.Errorf("%s bundle of %d messages: %w", step, len(messages), err)
	if fault.Is(err, fault.Ambiguous) {
		return fault.Wrap(fault.Unavailable, "agents/openflow.Bundle", err)
	}
	return err
}
