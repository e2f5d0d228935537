package ovstest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

// FakeSwitch is a switch in memory: flows, groups, meters, bundles and monitors as Open vSwitch has them, and faults when a test wants them.
// It forwards nothing. A test holds it against a real switch.
type FakeSwitch struct {
	// Address is the path of its Unix socket, which stays the same over Restart.
	Address string

	t    testing.TB
	wg   sync.WaitGroup
	done chan struct{} // closed when the test ends

	mu      sync.Mutex // guards the fields below
	state   *state
	ports   map[uint32]of.PortDesc
	peers   map[*peer]bool
	fault   func(of.Message) Fault
	outs    []*of.PacketOut
	changed chan struct{} // closed and made anew at each change
	epoch   time.Time
}

// Fault is what goes wrong with one message. They are tried in the order of the fields.
type Fault struct {
	Until  <-chan struct{} // nothing happens before it is closed, and nothing that comes after the message either
	Delay  time.Duration
	Close  bool      // the connection ends, and the message is lost
	Ignore bool      // the message is lost
	Refuse *of.Error // the message is answered with this; its Data is filled in
	Mute   bool      // the message is carried out, its answers are lost
	Last   bool      // the message is carried out, and the connection ends before an answer
}

// NewFake starts a switch without flows, whose ports are 1 to 3 and the local one.
func NewFake(t testing.TB) *FakeSwitch {
	t.Helper()
	dir, err := os.MkdirTemp("", "hwof")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &FakeSwitch{Address: filepath.Join(dir, "br0.mgmt"), t: t, state: newState(), ports: map[uint32]of.PortDesc{}, peers: map[*peer]bool{},
		done: make(chan struct{}), changed: make(chan struct{}), epoch: time.Now()}
	for _, n := range []uint32{1, 2, 3, of.PortLocal} {
		s.ports[n] = port(n)
	}
	l, err := net.Listen("unix", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { close(s.done); _ = l.Close(); s.Hangup(); s.wg.Wait() })
	return s
}

func port(n uint32) of.PortDesc {
	name := "br0"
	if n != of.PortLocal {
		name = "p" + string(rune('0'+n%10))
	}
	return of.PortDesc{Number: n, HWAddr: net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)}, Name: name, State: 4}
}

// Inject has each message that comes in from now on go by what f says of it; nil ends that. f is called by one connection at a time.
func (s *FakeSwitch) Inject(f func(of.Message) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Hangup closes all connections; the flows stay.
func (s *FakeSwitch) Hangup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.peers {
		_ = p.net.Close()
	}
}

// Restart is an ovs-vswitchd that ends and starts again: all connections close, and the flows, groups and meters are gone.
func (s *FakeSwitch) Restart() {
	s.mu.Lock()
	s.state = newState()
	s.notify()
	s.mu.Unlock()
	s.Hangup()
}

// notify wakes who waits for a change. The caller holds mu.
func (s *FakeSwitch) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Await returns when cond is true, which is asked again after each change; the test fails after half a minute.
func (s *FakeSwitch) Await(what string, cond func() bool) {
	s.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			s.t.Fatalf("after 30 s: no %s", what)
		}
	}
}

// Flows are the flows, by table, falling priority and match.
func (s *FakeSwitch) Flows() []of.FlowStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.stats(of.EveryFlow(), s.epoch)
}

// Dump is the flows in ovs-ofctl's words, without counters, in the order of Flows.
func (s *FakeSwitch) Dump() []string {
	flows := s.Flows()
	out := make([]string, len(flows))
	for i := range flows {
		out[i] = of.Names{}.FlowStats(&flows[i], false)
	}
	return out
}

// Groups are the groups by number.
func (s *FakeSwitch) Groups() []of.GroupDesc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.groupList(of.AllGroups)
}

// Meters are the meters by number.
func (s *FakeSwitch) Meters() []of.MeterConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.meterList(of.AllMeters)
}

// Connections is how many controllers there are.
func (s *FakeSwitch) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers)
}

// PacketOuts are the packets that were sent so far.
func (s *FakeSwitch) PacketOuts() []*of.PacketOut {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.outs)
}

// Apply does a *FlowMod, *GroupMod or *MeterMod as if another controller had sent it, and returns the refusal; monitors tell of it.
func (s *FakeSwitch) Apply(m of.Message) *of.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, refusal := s.state.apply(m, s.now())
	s.tell(nil, 0, changes)
	return refusal
}

func (s *FakeSwitch) now() time.Duration { return time.Since(s.epoch) }

// PacketIn sends a packet to the controllers that want such ones, in the form that each has asked for.
func (s *FakeSwitch) PacketIn(in *of.PacketIn2) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.peers {
		if !p.wants(p.async.PacketIn, in.Reason) {
			continue
		}
		if p.format == of.FormatPacketIn2 {
			p.send(0, in)
			continue
		}
		p.send(0, &of.PacketIn{BufferID: of.NoBuffer, TotalLen: uint16(len(in.Packet)), Reason: in.Reason, Table: in.Table, Cookie: in.Cookie, //nolint:gosec // a packet
			Match: in.Metadata, Data: in.Packet})
	}
}

// SetPort adds a port or changes it, and tells the controllers.
func (s *FakeSwitch) SetPort(p of.PortDesc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reason := uint8(0)
	if _, was := s.ports[p.Number]; was {
		reason = 2
	}
	s.ports[p.Number] = p
	s.portStatus(reason, p)
}

// RemovePort removes a port and tells the controllers.
func (s *FakeSwitch) RemovePort(number uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, was := s.ports[number]; was {
		delete(s.ports, number)
		s.portStatus(1, p)
	}
}

func (s *FakeSwitch) portStatus(reason uint8, p of.PortDesc) {
	for peer := range s.peers {
		if peer.wants(peer.async.PortStatus, reason) {
			peer.send(0, &of.PortStatus{Reason: reason, Port: p})
		}
	}
	s.notify()
}

// peer is a controller. What it has is guarded by FakeSwitch.mu; out by its own.
type peer struct {
	net      net.Conn
	config   of.SwitchConfig
	async    of.Async
	format   uint32
	role     of.RoleBody
	bundles  map[uint32]*bundle
	monitors map[uint32]*of.FlowMonitorRequest

	mu    sync.Mutex // guards the fields below
	out   []byte
	wake  chan struct{}
	muted bool
}

type bundle struct {
	flags  uint16
	closed bool
	adds   []*of.BundleAdd
}

// wants reports whether a message with a reason is sent unasked. One who connects by the bridge's own socket has to ask first.
func (p *peer) wants(masks [2]uint32, reason uint8) bool {
	return p.config.MissSendLen > 0 && masks[0]>>reason&1 != 0
}

// send queues a message; nothing waits for the controller to read.
func (p *peer) send(xid uint32, m of.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.muted {
		return
	}
	out, err := of.Append(p.out, xid, m)
	if err != nil {
		return // the fuzz tests of openflow hold that whatever was read can be written
	}
	p.out = out
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *peer) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		p.mu.Lock()
		raw := p.out
		p.out = nil
		p.mu.Unlock()
		if _, err := p.net.Write(raw); err != nil {
			_ = p.net.Close()
			return
		}
	}
}

// serve plays the switch to one controller.
func (s *FakeSwitch) serve(c net.Conn) {
	p := &peer{net: c, wake: make(chan struct{}, 1), bundles: map[uint32]*bundle{}, monitors: map[uint32]*of.FlowMonitorRequest{},
		async: of.Async{PacketIn: [2]uint32{3, 0}, PortStatus: [2]uint32{7, 7}, FlowRemoved: [2]uint32{15, 0}}}
	p.role.Role = 1
	s.mu.Lock()
	s.peers[p] = true
	s.notify()
	s.mu.Unlock()
	p.send(0, &of.Hello{Versions: 1 << of.Version})
	ctx, cancel := context.WithCancel(context.Background()) // until the connection ends
	var writing sync.WaitGroup
	writing.Go(func() { p.write(ctx) })
	if err := s.read(p); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.t.Logf("fake switch: %v", err)
	}
	_ = c.Close()
	cancel()
	writing.Wait()
	s.mu.Lock()
	delete(s.peers, p)
	s.notify()
	s.mu.Unlock()
}

// errHangup ends a connection that a fault was injected into.
var errHangup = io.EOF

func (s *FakeSwitch) read(p *peer) error {
	in := bufio.NewReaderSize(p.net, 1<<17)
	for {
		head, err := in.Peek(8)
		if err != nil {
			return err
		}
		size := max(int(binary.BigEndian.Uint16(head[2:])), 8)
		raw, err := in.Peek(size)
		if err != nil {
			return err
		}
		xid, m, err := of.Decode(raw)
		if err != nil {
			p.send(xid, &of.Error{Type: 1, Code: 6, Data: slices.Clone(raw[:min(size, 64)])})
		} else if err := s.hear(p, xid, m, raw[:min(size, 64)]); err != nil {
			return err
		}
		if _, err := in.Discard(size); err != nil {
			return err
		}
	}
}

// hear carries one message out, as the faults have it.
func (s *FakeSwitch) hear(p *peer, xid uint32, m of.Message, raw []byte) error {
	s.mu.Lock()
	inject := s.fault
	s.mu.Unlock()
	var f Fault
	if inject != nil {
		f = inject(m)
	}
	if f.Until != nil {
		select {
		case <-f.Until:
		case <-s.done:
		}
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-s.done:
		}
	}
	if f.Close {
		return errHangup
	}
	if f.Ignore {
		return nil
	}
	refusal := f.Refuse
	if refusal == nil {
		p.mute(f.Mute || f.Last)
		s.mu.Lock()
		refusal = s.answer(p, xid, m)
		s.mu.Unlock()
	}
	if refusal != nil {
		e := *refusal
		e.Data = slices.Clone(raw)
		p.send(xid, &e)
	}
	p.mute(false)
	if f.Last {
		return errHangup
	}
	return nil
}

// mute has what is sent be lost.
func (p *peer) mute(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muted = on
}
