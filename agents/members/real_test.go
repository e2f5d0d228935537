package members

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// real is settings for the i-th member on a loopback interface, with times for the impatient.
func real(i int, port uint16) Config {
	c := settings(i)
	c.Bind = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 9, byte(i)}), port)
	c.Seeds = []string{"127.0.9.1"}
	c.Probe, c.ProbeTimeout, c.Gossip, c.Rejoin = 200*time.Millisecond, 100*time.Millisecond, 20*time.Millisecond, time.Second
	return c
}

// port returns a port that is free on 127.0.0.0/8, or was a moment ago.
func port(t *testing.T) uint16 {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.9.1:0")
	if err != nil {
		t.Skipf("no loopback interface with 127.0.0.0/8: %v", err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// eye waits for views.
type eye struct {
	mu   sync.Mutex // guards the field below
	view *View
	news chan struct{} // holds one
}

func newEye() *eye { return &eye{view: &View{}, news: make(chan struct{}, 1)} }

func (e *eye) changed(v *View) {
	e.mu.Lock()
	e.view = v
	e.mu.Unlock()
	signal(e.news)
}

func (e *eye) await(t *testing.T, what string, holds func(*View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		e.mu.Lock()
		v := e.view
		e.mu.Unlock()
		if holds(v) {
			return
		}
		select {
		case <-e.news:
		case <-ctx.Done():
			t.Fatalf("not seen: %s, but %+v", what, v.members)
		}
	}
}

func is(i int, s State) func(*View) bool {
	return func(v *View) bool {
		m, ok := v.Member(member(i))
		return ok && m.State == s
	}
}

// TestRealSockets: by a name that the system's resolver knows, over UDP and TCP, and nothing is left open.
func TestRealSockets(t *testing.T) {
	p := port(t)
	before := runtime.NumGoroutine()
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	eyes := []*eye{newEye(), newEye(), newEye()}
	for i, e := range eyes {
		c := real(i+1, p)
		c.Changed = e.changed
		switch i {
		case 0:
			c.Bind, c.Seeds = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p), nil
		case 1:
			c.Seeds = []string{"localhost"}
		case 2:
			c.Seeds = []string{"127.0.9.2"}
		}
		pool, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := pool.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		if i == 0 {
			e.await(t, "itself", is(1, Alive))
		}
	}
	for _, e := range eyes {
		e.await(t, "all", func(v *View) bool { return is(1, Alive)(v) && is(2, Alive)(v) && is(3, Alive)(v) })
	}
	stop()
	running.Wait()
	for range 2 { // both sockets are free again
		s, err := listen(t.Context(), netip.AddrPortFrom(netip.IPv4Unspecified(), p))
		if err != nil {
			t.Fatalf("listen again: %v", err)
		}
		if err := errors.Join(s.packets.Close(), s.streams.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

// TestIPv6: two members on one address.
func TestIPv6(t *testing.T) {
	ports := make([]uint16, 2)
	for i := range ports {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "[::1]:0")
		if err != nil {
			t.Skipf("no IPv6 here: %v", err)
		}
		ports[i] = netip.MustParseAddrPort(l.Addr().String()).Port()
		l.Close()
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	eyes := []*eye{newEye(), newEye()}
	for i, e := range eyes {
		c := real(i+1, ports[i])
		c.Bind = netip.AddrPortFrom(netip.IPv6Loopback(), ports[i])
		c.Seeds = []string{fmt.Sprintf("[::1]:%d", ports[0])}
		c.Changed = e.changed
		pool, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := pool.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	for _, e := range eyes {
		e.await(t, "both", func(v *View) bool { return is(1, Alive)(v) && is(2, Alive)(v) })
	}
}

const childEnv = "HEADWATER_MEMBERS_CHILD"

// TestChild is not a test: it is the process that TestStoppedProcess stops. It tells of each view, and ends with its input.
func TestChild(t *testing.T) {
	number := os.Getenv(childEnv)
	if number == "" {
		t.Skip("a process that TestStoppedProcess starts")
	}
	var p uint16
	if _, err := fmt.Sscan(number, &p); err != nil {
		t.Fatal(err)
	}
	c := real(3, p)
	c.Changed = func(v *View) {
		var alive []string
		for m := range v.Alive() {
			alive = append(alive, m.Host)
		}
		fmt.Printf("alive %s\n", strings.Join(alive, " "))
	}
	pool, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		stop()
	})
	if err := pool.Run(ctx); err != nil {
		t.Fatal(err)
	}
	reading.Wait()
}

// TestStoppedProcess: a process that the kernel stops for longer than its death takes is dead, and one that it lets go on lives and
// believes that the others do.
func TestStoppedProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds that are real")
	}
	p := port(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	eyes := []*eye{newEye(), newEye()}
	for i, e := range eyes {
		c := real(i+1, p)
		c.Changed = e.changed
		pool, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := pool.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestChild$", "-test.v")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childEnv, p))
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	tell := func(s syscall.Signal) {
		t.Helper()
		if err := child.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range eyes {
		e.await(t, "the child", is(3, Alive))
	}
	for range 2 {
		tell(syscall.SIGSTOP)
		for _, e := range eyes {
			e.await(t, "the child's death", is(3, Dead))
		}
		tell(syscall.SIGCONT)
		for _, e := range eyes {
			e.await(t, "the child again", is(3, Alive))
		}
	}
	_ = input.Close()
	for _, e := range eyes {
		e.await(t, "the child has left", is(3, Left))
	}
	var views []string
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if text := lines.Text(); strings.HasPrefix(text, "alive ") {
			views = append(views, text)
		}
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the child: %v", err)
	}
	if !slices.Contains(views, "alive host-001 host-002 host-003") {
		t.Errorf("the child saw %q", views)
	}
}
