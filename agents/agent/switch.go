package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// switcher keeps a connection to the bridge and has it carry out what the core says.
type switcher struct {
	cfg      Config
	log      *slog.Logger
	core     *core
	packetIn func(ctx context.Context, m openflow.Message, waiting int) bool
	ports    func(portWord) // the switch has said something of a port
	metrics  *metrics
	wake     chan struct{}      // the program has changed, or something is to be mended
	audit    chan chan<- answer // who wants the switch read now
	again    chan chan<- error  // who wants all flows sent again
	carried  func()             // a generation was carried out
	// connected is called when there is a connection to the switch, which may have been started anew.
	connected func()

	mu   sync.Mutex // guards the field below
	conn *openflow.Conn
}

// answer is what a comparison found.
type answer struct {
	have *carried
	err  error
}

// setup is how packets come to us and what of others' doings we are told.
func (s *switcher) setup(ctx context.Context, conn *openflow.Conn) error {
	const allPackets, portChanges = 1<<6 - 1, 1<<3 - 1
	return conn.SendAll(ctx, []openflow.Message{
		flows.SwitchConfig(),
		&openflow.SetPacketInFormat{Format: openflow.FormatPacketIn2},
		&openflow.SetAsync{Async: openflow.Async{PacketIn: [2]uint32{allPackets, 0}, PortStatus: [2]uint32{portChanges, 0}}},
		&openflow.SetAsync2{Masks: []openflow.AsyncMask{{Kind: openflow.AsyncForward, Mask: 3}}}, // groups and meters of other controllers
	})
}

// Run keeps the bridge filled until ctx ends.
func (s *switcher) Run(ctx context.Context) error {
	backoff := 20 * time.Millisecond
	lost, saidAt := time.Now(), time.Time{}
	for {
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was to end
		}
		if time.Since(began) > 5*time.Second {
			backoff, lost = 20*time.Millisecond, time.Now()
			s.log.WarnContext(ctx, "connection to the switch was lost", "bridge", s.cfg.Bridge, "err", err)
		}
		if time.Since(lost) > 5*time.Second {
			s.core.alarm(true, alarmSwitch, s.cfg.Bridge, "%v", err)
			if time.Since(saidAt) >= time.Minute { // told once a minute, not at each attempt
				saidAt = time.Now()
				s.log.WarnContext(ctx, "switch was not reached", "bridge", s.cfg.Bridge, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, time.Second)
	}
}

// session is one connection.
type session struct {
	*switcher
	conn    *openflow.Conn
	epoch   uint16
	filled  bool
	meters  map[uint32]bool
	refused map[flows.FlowKey]bool
	refuses bool      // something, since all was read last
	checked time.Time // when all was read last

	mu      sync.Mutex // guards the fields below
	foreign []openflow.FlowUpdate
	others  bool // somebody has changed a group or a meter
}

func (s *switcher) session(ctx context.Context) error {
	n := &session{switcher: s, meters: map[uint32]bool{}, refused: map[flows.FlowKey]bool{}}
	conn, err := openflow.Dial(ctx, openflow.Config{Network: "unix", Address: filepath.Join(s.cfg.ovsRunDir(), s.cfg.Bridge+".mgmt"),
		Handle: func(_ uint32, m openflow.Message) { n.handle(ctx, m) }, Timeout: time.Minute})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("ovs-vswitchd serves no bridge %s: it does not run, or cannot make the bridge, and its log says why (a bridge of datapath type system needs "+
			"the kernel's module openvswitch, one of type netdev does not): %w", s.cfg.Bridge, err)
	}
	if err != nil {
		return err
	}
	n.conn = conn
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return conn.Run(ctx) })
	g.Go(func() error { return n.serve(ctx) })
	err = g.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
	s.metrics.connected.Set(0)
	s.ports(portWord{})
	return err
}

func (n *session) serve(ctx context.Context) error {
	if err := n.setup(ctx, n.conn); err != nil {
		return fmt.Errorf("set the connection up: %w", err)
	}
	n.switcher.mu.Lock()
	n.switcher.conn = n.conn
	n.switcher.mu.Unlock()
	n.metrics.connected.Set(1)
	n.core.alarm(false, alarmSwitch, n.cfg.Bridge, "")
	n.connected()
	var tick <-chan time.Time
	if n.cfg.AuditInterval > 0 {
		ticker := time.NewTicker(n.cfg.AuditInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		if err := n.step(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-tick:
			if err := n.check(ctx); err != nil {
				return err
			}
		case asked := <-n.audit:
			have, err := read(ctx, n.conn)
			asked <- answer{have, err}
			if err != nil {
				return err
			}
		case asked := <-n.again:
			err := n.reissue(ctx)
			asked <- err
			if err != nil {
				return err
			}
		}
	}
}

// reissue sends all flows again, in a new epoch, and takes those of the old one away in the same bundle.
func (n *session) reissue(ctx context.Context) error {
	if !n.filled {
		return fault.New(fault.Unavailable, "", "not all is known yet that the flows depend on")
	}
	have, err := read(ctx, n.conn)
	if err != nil {
		return err
	}
	w := n.core.refill(have, true)
	n.epoch = w.epoch
	return n.do(ctx, w)
}

// checkEvery bounds how often all of the switch is read because somebody else has changed a group or a meter.
const checkEvery = time.Second

// step brings the switch to where the core is.
func (n *session) step(ctx context.Context) error {
	if !n.filled {
		return n.fill(ctx)
	}
	n.mu.Lock()
	foreign, others := n.foreign, n.others
	n.foreign, n.others = nil, false
	n.mu.Unlock()
	if others {
		// All is read: whoever changes groups all the time must not have us do nothing else.
		if since := time.Since(n.checked); since < checkEvery {
			n.mu.Lock()
			n.others = true
			n.mu.Unlock()
			time.AfterFunc(checkEvery-since, func() { poke(n.wake) })
		} else {
			return n.check(ctx)
		}
	}
	w, mended := n.core.work(n.epoch, n.meters, foreign, n.refused)
	if mended > 0 {
		n.log.WarnContext(ctx, "flows changed by somebody else were mended", "bridge", n.cfg.Bridge, "flows", mended)
	}
	return n.do(ctx, w)
}

// fill brings a switch, of which nothing is known, to the program. It does nothing until all that the program depends on is known.
func (n *session) fill(ctx context.Context) error {
	if !n.core.isReady() {
		return nil
	}
	began := time.Now()
	// The monitor first: what changes between it and the dump is seen twice, never not at all.
	_, err := n.conn.Multipart(ctx, openflow.PartFlowMonitor, &openflow.FlowMonitorRequest{ID: 1, OutPort: openflow.PortAny, Table: openflow.AllTables,
		Flags: openflow.MonitorAdd | openflow.MonitorDelete | openflow.MonitorModify | openflow.MonitorActions})
	if err != nil {
		return fmt.Errorf("monitor flows: %w", err)
	}
	have, err := read(ctx, n.conn)
	if err != nil {
		return err
	}
	for id := range have.meters {
		n.meters[id] = true
	}
	found := len(have.flows)
	w := n.core.refill(have, false)
	n.epoch, n.filled = w.epoch, true
	if err := n.doAll(ctx, w); err != nil {
		return err
	}
	n.log.InfoContext(ctx, "switch was filled", "bridge", n.cfg.Bridge, "found", found, "changes", len(w.bundle), "epoch", w.epoch, "elapsed", time.Since(began))
	n.metrics.fills.Inc()
	return nil
}

// check compares all of the switch with the program, and mends what differs.
func (n *session) check(ctx context.Context) error {
	if !n.filled {
		return nil
	}
	have, err := read(ctx, n.conn)
	if err != nil {
		return err
	}
	n.checked = time.Now()
	w, found := n.core.mend(have, n.epoch, n.refused)
	if found > 0 {
		n.log.WarnContext(ctx, "switch differed from the program and was mended", "bridge", n.cfg.Bridge, "differences", found)
	}
	return n.doAll(ctx, w)
}

// doAll is do, of all that the switch lacks: what it takes now it refuses no longer.
func (n *session) doAll(ctx context.Context, w *work) error {
	n.refuses = false
	err := n.do(ctx, w)
	if err == nil && !n.refuses {
		n.core.alarm(false, alarmRefused, n.cfg.Bridge, "")
	}
	return err
}

// do has the switch do work, and tells who waits for it. What the switch refuses is left out and told of; all else must not wait for it.
func (n *session) do(ctx context.Context, w *work) error {
	if w == nil {
		return nil
	}
	began := time.Now()
	if err := n.bundles(ctx, w); err != nil {
		return err
	}
	if len(w.last) > 0 {
		if err := n.refusals(ctx, n.conn.SendAll(ctx, w.last)); err != nil {
			return err
		}
	}
	for _, id := range w.meters {
		n.meters[id] = true
	}
	for _, id := range w.gone {
		delete(n.meters, id)
	}
	if !w.empty() {
		n.metrics.bundle.Observe(time.Since(began).Seconds())
		n.metrics.changes.Add(float64(len(w.bundle)))
	}
	if !w.since.IsZero() {
		n.metrics.reaction.Observe(time.Since(w.since).Seconds())
	}
	n.core.carried(w.gen, w.epoch)
	n.switcher.carried()
	return nil
}

// bundles has the switch do what comes first, and the bundles.
func (n *session) bundles(ctx context.Context, w *work) error {
	first := w.first
	for _, bundle := range w.bundles() {
		if len(bundle) == 0 {
			continue
		}
		if err := n.commit(ctx, first, bundle); err != nil {
			return err
		}
		first = nil
	}
	if len(first) == 0 {
		return nil
	}
	return n.refusals(ctx, n.conn.SendAll(ctx, first))
}

// commit has the switch do all of a bundle that it does not refuse, behind what comes first.
func (n *session) commit(ctx context.Context, first, bundle []openflow.Message) error {
	for len(bundle) > 0 {
		refused, err := n.conn.BundleAfter(ctx, first, bundle)
		if err := n.refusals(ctx, refused); err != nil {
			return err
		}
		if first = nil; err == nil {
			return nil
		}
		if bundle, err = n.without(ctx, bundle, err); err != nil {
			return err
		}
	}
	return nil
}

// without returns a bundle without what the switch has refused of it.
func (n *session) without(ctx context.Context, bundle []openflow.Message, err error) ([]openflow.Message, error) {
	bad := map[openflow.Message]bool{}
	for _, e := range refusalsIn(err) {
		if e.Message != nil {
			bad[e.Message] = true
		}
	}
	out := slices.DeleteFunc(slices.Clone(bundle), func(m openflow.Message) bool { return bad[m] })
	if len(out) == len(bundle) {
		return nil, fmt.Errorf("bundle of %d: %w", len(bundle), err)
	}
	for m := range bad {
		if f, ok := m.(*openflow.RawFlow); ok {
			n.refused[flows.FlowKey{Table: flows.Table(f.Table), Priority: f.Priority, Match: f.Match}] = true
		}
	}
	n.log.ErrorContext(ctx, "switch refused a flow or a group", "bridge", n.cfg.Bridge, "err", err)
	n.core.alarm(true, alarmRefused, n.cfg.Bridge, "%v", err)
	n.refuses = true
	n.metrics.refused.Add(float64(len(bundle) - len(out)))
	return out, nil
}

// refusals logs what the switch has refused; any other error is returned.
func (n *session) refusals(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if len(refusalsIn(err)) == 0 {
		return err
	}
	n.log.ErrorContext(ctx, "switch refused a message", "bridge", n.cfg.Bridge, "err", err)
	n.core.alarm(true, alarmRefused, n.cfg.Bridge, "%v", err)
	n.refuses = true
	n.metrics.refused.Inc()
	return nil
}

// refusalsIn are the switch's refusals in an error.
func refusalsIn(err error) []*openflow.SwitchError {
	if err == nil {
		return nil
	}
	if e, ok := err.(*openflow.SwitchError); ok { //nolint:errorlint // the tree is walked here
		return []*openflow.SwitchError{e}
	}
	switch x := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() []error }:
		var out []*openflow.SwitchError
		for _, e := range x.Unwrap() {
			out = append(out, refusalsIn(e)...)
		}
		return out
	default:
		return refusalsIn(errors.Unwrap(err))
	}
}

// handle takes what the switch says unasked. It must not wait.
func (n *session) handle(ctx context.Context, m openflow.Message) {
	switch m := m.(type) {
	case *openflow.PacketIn2:
		n.packetIn(ctx, m, n.conn.Waiting())
	case *openflow.MultipartReply:
		if list, ok := m.Body.(*openflow.FlowUpdateList); ok {
			n.seen(list.Updates)
		}
	case *openflow.PortStatus:
		const added, deleted = 0, 1
		if m.Reason == added || m.Reason == deleted {
			n.ports(portWord{m.Port.Name, m.Port.Number, m.Reason == deleted})
		}
	case *openflow.RequestForward:
		n.mu.Lock()
		n.others = true
		n.mu.Unlock()
		poke(n.wake)
	}
}

// seen notes what others have changed. Our own changes come as their numbers only.
func (n *session) seen(updates []openflow.FlowUpdate) {
	n.mu.Lock()
	before := len(n.foreign)
	for _, u := range updates {
		if u.Event != openflow.FlowAbbrev && u.Idle == 0 && u.Hard == 0 {
			n.foreign = append(n.foreign, u)
		}
	}
	some := len(n.foreign) > before
	n.mu.Unlock()
	if some {
		poke(n.wake)
	}
}

// poke wakes a loop, or leaves it to the poke that it has not seen yet.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// connection is the one that there is at this moment, or nil.
func (s *switcher) connection() *openflow.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}
