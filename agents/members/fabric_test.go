package members

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// fabric is a network in memory, for bubbles of synctest: packets take a tenth of a millisecond, may be lost, and pass no cut.
type fabric struct {
	mu     sync.Mutex // guards the fields below
	nics   map[netip.AddrPort]*nic
	cut    func(from, to netip.AddrPort) bool // nil: nothing is
	loss   float64
	sent   [2]int             // bytes of packets, with the headers of IPv4 and UDP, and of streams, with those of IPv4 and TCP
	direct map[*pipe]struct{} // open connections
	all    []*running
}

const travel = 100 * time.Microsecond

func newFabric() *fabric {
	return &fabric{nics: map[netip.AddrPort]*nic{}, direct: map[*pipe]struct{}{}}
}

// nic is where a member is plugged in.
type nic struct {
	f      *fabric
	at     netip.AddrPort
	in     chan datagram
	calls  chan net.Conn
	done   chan struct{}
	once   sync.Once
	frozen bool       // packets wait in held, as in the kernel under a process that is stopped; nothing is sent
	held   []datagram // at most a kernel's buffer
}

type datagram struct {
	data []byte
	from netip.AddrPort
}

// open is a Pool's listen.
func (f *fabric) open(_ context.Context, at netip.AddrPort) (sockets, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nics[at] != nil {
		return sockets{}, syscall.EADDRINUSE
	}
	n := &nic{f: f, at: at, in: make(chan datagram, 256), calls: make(chan net.Conn), done: make(chan struct{})}
	f.nics[at] = n
	return sockets{packets: (*packetNIC)(n), streams: (*streamNIC)(n), dial: n.dial}, nil
}

func (f *fabric) passes(from, to netip.AddrPort) bool { return f.cut == nil || !f.cut(from, to) }

// set changes the network; connections that no longer pass are cut.
func (f *fabric) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	for p := range f.direct {
		if !f.passes(p.from, p.to) {
			p.Conn.Close()
		}
	}
}

// carried is the bytes of packets and of streams so far.
func (f *fabric) carried() (packets, streams int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[0], f.sent[1]
}

func (f *fabric) heal() { f.set(func() { f.cut = nil }) }

// apart cuts the network in two: those for whom left holds, and the others.
func (f *fabric) apart(left func(netip.AddrPort) bool) {
	f.set(func() { f.cut = func(from, to netip.AddrPort) bool { return left(from) != left(to) } })
}

// freeze stops a member as SIGSTOP would, as far as the others can see.
func (f *fabric) freeze(at netip.AddrPort) { f.set(func() { f.nics[at].frozen = true }) }

func (f *fabric) thaw(at netip.AddrPort) {
	f.set(func() {
		n := f.nics[at]
		n.frozen = false
		for _, d := range n.held {
			n.put(d)
		}
		n.held = nil
	})
}

func (n *nic) put(d datagram) {
	select {
	case n.in <- d:
	default: // as a full socket does
	}
}

func (n *nic) close() error {
	err := net.ErrClosed
	n.once.Do(func() {
		n.f.mu.Lock()
		delete(n.f.nics, n.at)
		n.f.mu.Unlock()
		close(n.done)
		err = nil
	})
	return err
}

type packetNIC nic

func (n *packetNIC) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-n.in:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-n.done:
		return 0, nil, net.ErrClosed
	}
}

func (n *packetNIC) WriteTo(b []byte, to net.Addr) (int, error) {
	target := netip.MustParseAddrPort(to.String())
	d := datagram{slices.Clone(b), n.at}
	n.f.mu.Lock()
	lost := n.frozen || !n.f.passes(n.at, target) || n.f.loss > 0 && rand.Float64() < n.f.loss
	n.f.sent[0] += len(b) + 28
	n.f.mu.Unlock()
	if !lost {
		time.AfterFunc(travel, func() {
			n.f.mu.Lock()
			defer n.f.mu.Unlock()
			switch at := n.f.nics[target]; {
			case at == nil:
			case at.frozen && len(at.held) < 1000:
				at.held = append(at.held, d)
			case !at.frozen:
				at.put(d)
			}
		})
	}
	return len(b), nil
}

func (n *packetNIC) Close() error                     { return (*nic)(n).close() }
func (n *packetNIC) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(n.at) }
func (*packetNIC) SetDeadline(time.Time) error        { return nil }
func (*packetNIC) SetReadDeadline(time.Time) error    { return nil }
func (*packetNIC) SetWriteDeadline(t time.Time) error { return nil }

type streamNIC nic

func (n *streamNIC) Accept() (net.Conn, error) {
	select {
	case c := <-n.calls:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *streamNIC) Close() error {
	_ = (*nic)(n).close()
	return nil
}
func (n *streamNIC) Addr() net.Addr { return net.TCPAddrFromAddrPort(n.at) }

// dial connects, is refused where nobody listens, and waits in vain where nothing passes.
func (n *nic) dial(ctx context.Context, address string) (net.Conn, error) {
	to := netip.MustParseAddrPort(address)
	n.f.mu.Lock()
	target := n.f.nics[to]
	silent := !n.f.passes(n.at, to) || n.frozen || target != nil && target.frozen
	n.f.sent[1] += 8 * 40 // a connection's beginning and end
	n.f.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if target == nil {
		return nil, syscall.ECONNREFUSED
	}
	a, b := net.Pipe()
	mine := &pipe{Conn: a, f: n.f, from: n.at, to: to}
	select {
	case target.calls <- &pipe{Conn: b, f: n.f, from: to, to: n.at}:
	case <-target.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.f.set(func() { n.f.direct[mine] = struct{}{} })
	return mine, nil
}

type pipe struct {
	net.Conn
	f        *fabric
	from, to netip.AddrPort
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	p.f.mu.Lock()
	p.f.sent[1] += n + (n/1448+1)*52*3/2 // and an acknowledgement for two
	p.f.mu.Unlock()
	return n, err
}

func (p *pipe) Close() error {
	p.f.mu.Lock()
	delete(p.f.direct, p)
	p.f.mu.Unlock()
	return p.Conn.Close()
}

// RemoteAddr is what memberlist logs.
func (p *pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.to) }

// key is a key of the tests.
func key(b byte) ident.Secret {
	return ident.Secret(base64.StdEncoding.EncodeToString(slices.Repeat([]byte{b}, 32)))
}

// at is where the i-th member of a test is.
func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), SitePort)
}

func member(i int) ID { return ID{"east", fmt.Sprintf("host-%03d", i)} }

// settings are the i-th member's: at(i), with default times and the first two members as seeds.
func settings(i int) Config {
	c := Default(Site)
	c.Site, c.Host, c.Bind = "east", member(i).Host, at(i)
	c.Keys = []ident.Secret{key(1)}
	c.Seeds = []string{at(1).Addr().String(), at(2).String()}
	c.Meta = Meta{Agent: "1.0", Ends: []state.TunnelEnd{{Address: at(i).Addr(), Zone: "rack", Encap: state.VXLAN, Port: 4789}}}
	if testing.Verbose() && os.Getenv("HEADWATER_DEBUG") != "" {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("me", i)
	}
	return c
}

// running is a pool that runs.
type running struct {
	*Pool
	t     *testing.T
	at    netip.AddrPort
	stop  context.CancelCauseFunc
	done  sync.WaitGroup
	ended atomic.Bool
	err   error // of Run, once it has ended
}

// start runs the i-th member; edit may be nil.
func (f *fabric) start(t *testing.T, i int, edit func(*Config)) *running {
	t.Helper()
	cfg := settings(i)
	if edit != nil {
		edit(&cfg)
	}
	return f.run(t, cfg, nil)
}

func (f *fabric) run(t *testing.T, cfg Config, edit func(*Pool)) *running {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.listen = f.open
	p.resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
		return nil, fmt.Errorf("no such host: %s", name)
	}
	if edit != nil {
		edit(p)
	}
	r := &running{Pool: p, t: t, at: cfg.Bind}
	f.all = append(f.all, r)
	r.again()
	return r
}

// again runs the pool once more.
func (r *running) again() {
	ctx, cancel := context.WithCancelCause(context.Background())
	r.stop = cancel
	r.ended.Store(false)
	r.done.Go(func() {
		r.err = r.Run(ctx)
		r.ended.Store(true)
	})
}

// end has Run end and returns what it returned; cause may be nil.
func (r *running) end(cause error) error {
	r.stop(cause)
	r.done.Wait()
	return r.err
}

// failed waits until Run returns by itself, and returns what it returned.
func (r *running) failed(t *testing.T, limit time.Duration) error {
	t.Helper()
	await(t, limit, "Run has returned", r.ended.Load)
	r.done.Wait()
	return r.err
}

// kill ends the member as a power failure would.
func (f *fabric) kill(r *running) {
	f.mu.Lock()
	cut := f.cut
	f.mu.Unlock()
	f.set(func() {
		f.cut = func(from, to netip.AddrPort) bool { return from == r.at || to == r.at || cut != nil && cut(from, to) }
	})
	_ = r.end(ErrStay)
	f.set(func() { f.cut = cut })
}

// bubble runs a test beside others with a clock of its own, and sees that all members ended and left nothing behind.
func bubble(t *testing.T, test func(t *testing.T, f *fabric)) {
	t.Helper()
	t.Parallel()
	inBubble(t, test)
}

func inBubble(t *testing.T, test func(t *testing.T, f *fabric)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		defer func() { // also where the test has failed and is on its way out
			for _, r := range f.all {
				r.stop(ErrStay)
				r.done.Wait()
			}
		}()
		test(t, f)
		step(2 * time.Minute) // for questions of memberlist that wait for answers; the bubble then finds what did not end
	})
}

// step lets the bubble's clock go on.
func step(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// fleet starts members first to last.
func (f *fabric) fleet(t *testing.T, first, last int, edit func(*Config)) []*running {
	t.Helper()
	var all []*running
	for i := first; i <= last; i++ {
		all = append(all, f.start(t, i, edit))
	}
	return all
}

func endAll(t *testing.T, all []*running) {
	t.Helper()
	for _, r := range all {
		r.stop(ErrStay)
	}
	for _, r := range all {
		r.done.Wait()
		if r.err != nil {
			t.Errorf("Run of %s: %v", r.id, r.err)
		}
	}
}

// await waits until a condition holds, at most for a time of the bubble's clock, and returns the time that it took.
func await(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > limit {
			t.Fatalf("after %s: not yet %s", limit, what)
		}
		step(10 * time.Millisecond)
	}
	return time.Since(began)
}

// sees reports whether exactly the members of the numbers are alive in a view.
func sees(r *running, numbers ...int) bool {
	var alive []ID
	for m := range r.View().Alive() {
		alive = append(alive, m.ID)
	}
	want := make([]ID, len(numbers))
	for i, n := range numbers {
		want[i] = member(n)
	}
	return slices.Equal(alive, want)
}

// allSee reports whether sees holds for all of them.
func allSee(all []*running, numbers ...int) func() bool {
	return func() bool { return !slices.ContainsFunc(all, func(r *running) bool { return !sees(r, numbers...) }) }
}

// upTo is first, first+1, ... last.
func upTo(first, last int) []int {
	var out []int
	for i := first; i <= last; i++ {
		out = append(out, i)
	}
	return out
}

// watch looks at a pool's views with Changed and counts what it saw.
type watch struct {
	mu     sync.Mutex // guards the fields below
	states map[ID][]State
	calls  int
	busy   atomic.Bool
	twice  atomic.Bool // called twice at once
}

func (w *watch) changed(v *View) {
	if !w.busy.CompareAndSwap(false, true) {
		w.twice.Store(true)
	}
	defer w.busy.Store(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.states == nil {
		w.states = map[ID][]State{}
	}
	w.calls++
	for m := range v.All() {
		if s := w.states[m.ID]; len(s) == 0 || s[len(s)-1] != m.State {
			w.states[m.ID] = append(s, m.State)
		}
	}
}

// count is the calls so far.
func (w *watch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// saw is the states of a member, in their order.
func (w *watch) saw(id ID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, s := range w.states[id] {
		out = append(out, s.String())
	}
	return strings.Join(out, " ")
}
