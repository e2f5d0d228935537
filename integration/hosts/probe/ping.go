package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Path says between which addresses to ping.
type Path struct {
	Src, Dst netip.Addr
	Via      netip.Addr       // whose hardware address to use: a router's; Dst when zero
	MAC      net.HardwareAddr // known already: nobody is asked for it
}

func (p Path) hop() netip.Addr {
	if p.Via.IsValid() {
		return p.Via
	}
	return p.Dst
}

// Resolve asks every interval for the hardware address of an address until it is answered.
func (s *Socket) Resolve(ctx context.Context, src, target netip.Addr, every time.Duration) (net.HardwareAddr, error) {
	var found net.HardwareAddr
	err := s.repeat(ctx, every, func(int) []byte { return Solicit(s.MAC, src, target) }, func(frame []byte) bool {
		found = solicited(frame, target)
		return found != nil
	})
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", target, err)
	}
	return found, nil
}

// First is when a network was there for a machine, counted from a start.
type First struct {
	Resolved time.Duration // the next hop's hardware address was known; 0 when it was known before
	Reached  time.Duration // the first echo was answered
}

// First resolves the next hop and pings, each every interval, until an answer comes. Durations count from start.
func (s *Socket) First(ctx context.Context, p Path, start time.Time, every time.Duration) (First, error) {
	var f First
	if p.MAC == nil {
		var err error
		if p.MAC, err = s.Resolve(ctx, p.Src, p.hop(), every); err != nil {
			return f, err
		}
		f.Resolved = time.Since(start)
	}
	err := s.repeat(ctx, every, func(i int) []byte { return Echo(s.MAC, p.MAC, p.Src, p.Dst, uint64(i)) }, func(frame []byte) bool {
		_, ok := echoed(frame, p.Dst)
		return ok
	})
	if err != nil {
		return f, fmt.Errorf("ping %s: %w", p.Dst, err)
	}
	f.Reached = time.Since(start)
	return f, nil
}

// repeat sends every interval until a frame is an answer.
func (s *Socket) repeat(ctx context.Context, every time.Duration, request func(i int) []byte, answer func([]byte) bool) error {
	for i := 0; ; i++ {
		if err := s.Send(request(i)); err != nil && !unplugged(err) {
			return err
		}
		for next := time.Now().Add(every); ; {
			frame, err := s.Receive(next)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if answer(frame) {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Stream is a ping at short intervals that goes on until it is stopped.
type Stream struct {
	socket *Socket
	path   Path
	every  time.Duration
	end    context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	sent     []time.Time
	answered []time.Time // zero: not yet
	failed   error
}

// Stream starts to ping every interval, 2 ms say; the socket is the stream's until Stop. The next hop is
// resolved before it returns, so that the loss is that of pings alone.
func (s *Socket) Stream(ctx context.Context, p Path, every time.Duration) (*Stream, error) {
	if p.MAC == nil {
		var err error
		if p.MAC, err = s.Resolve(ctx, p.Src, p.hop(), 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
	st := &Stream{socket: s, path: p, every: every}
	ctx, st.end = context.WithCancel(ctx)
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	st.work.Go(func() {
		defer stopReading()
		st.send(ctx)
		st.settle()
	})
	st.work.Go(func() { st.receive(reading) })
	return st, nil
}

func (st *Stream) send(ctx context.Context) {
	ticker := time.NewTicker(st.every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		st.mu.Lock()
		number := uint64(len(st.sent))
		st.sent, st.answered = append(st.sent, time.Now()), append(st.answered, time.Time{})
		st.mu.Unlock()
		if err := st.socket.Send(Echo(st.socket.MAC, st.path.MAC, st.path.Src, st.path.Dst, number)); err != nil && !unplugged(err) {
			st.fail(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// grace is how long the last answers may take.
const grace = time.Second

// settle waits until the last pings are answered, or will not be.
func (st *Stream) settle() {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.Now().Add(grace); time.Now().Before(limit); {
		st.mu.Lock()
		done := st.failed != nil || len(st.answered) > 0 && !st.answered[len(st.answered)-1].IsZero()
		st.mu.Unlock()
		if done {
			return
		}
		<-ticker.C
	}
}

func (st *Stream) receive(ctx context.Context) {
	for ctx.Err() == nil {
		frame, err := st.socket.Receive(time.Now().Add(20 * time.Millisecond))
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				st.fail(err)
				return
			}
			continue
		}
		number, ok := echoed(frame, st.path.Dst)
		if !ok {
			continue
		}
		now := time.Now()
		st.mu.Lock()
		if number < uint64(len(st.answered)) && st.answered[number].IsZero() {
			st.answered[number] = now
		}
		st.mu.Unlock()
	}
}

// Await waits until n of the pings that are sent from now on have been answered.
func (st *Stream) Await(ctx context.Context, n int) error {
	st.mu.Lock()
	first := len(st.sent)
	st.mu.Unlock()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		answered := 0
		st.mu.Lock()
		for _, at := range st.answered[first:] {
			if !at.IsZero() {
				answered++
			}
		}
		failed := st.failed
		st.mu.Unlock()
		if failed != nil || answered >= n {
			return failed
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pings of %s answered: %w", answered, n, st.path.Dst, ctx.Err())
		case <-ticker.C:
		}
	}
}

func (st *Stream) fail(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.failed = errors.Join(st.failed, err)
}

// Lost is a ping without an answer.
type Lost struct {
	Number int
	At     time.Time // when it was sent
}

// Report is what a stream of pings found.
type Report struct {
	Sent       int
	Lost       []Lost
	LongestGap time.Duration // without an answer, from one to the next or to the end
	RTT        Times
}

// Stop ends the stream and reports, after a grace for the last answers.
func (st *Stream) Stop() (Report, error) {
	st.end()
	st.work.Wait()
	st.mu.Lock()
	defer st.mu.Unlock()
	r := Report{Sent: len(st.sent)}
	if r.Sent == 0 {
		return r, st.failed
	}
	last := st.sent[0]
	gap := func(until time.Time) {
		r.LongestGap = max(r.LongestGap, until.Sub(last))
	}
	for i, at := range st.answered {
		if at.IsZero() {
			r.Lost = append(r.Lost, Lost{i, st.sent[i]})
			continue
		}
		gap(at)
		last = at
		r.RTT = append(r.RTT, at.Sub(st.sent[i]))
	}
	gap(st.sent[len(st.sent)-1])
	return r, st.failed
}
