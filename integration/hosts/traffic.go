package hosts

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// pingLimit bounds how long MustReach asks.
const pingLimit = 20 * time.Second

// Ping sends three pings, or what the arguments of ping(8) ask for, and fails unless each is answered.
func (n *Node) Ping(ctx context.Context, dst netip.Addr, args ...string) error {
	args = append(append([]string{"-n", "-q", "-c", "3", "-i", "0.05", "-W", "1"}, args...), dst.String())
	out, err := n.Exec(ctx, "ping", args...)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if !strings.Contains(out, " 0% packet loss") {
		return fmt.Errorf("ping of %s from %s: %s", dst, n.Name, out)
	}
	return nil
}

// MustReach pings until an answer comes; the test fails when none does.
func (n *Node) MustReach(dst netip.Addr, args ...string) {
	n.bed.t.Helper()
	err := await(n.bed.ctx, pingLimit, "reach "+dst.String(), func() error {
		return n.Ping(n.bed.ctx, dst, append([]string{"-c", "1", "-W", "0.3"}, args...)...)
	})
	if err != nil {
		n.bed.t.Fatalf("%s: %v", n.Name, err)
	}
}

// MustNotReach pings three times; the test fails when an answer comes.
func (n *Node) MustNotReach(dst netip.Addr, args ...string) {
	n.bed.t.Helper()
	args = append(append([]string{"-n", "-q", "-c", "3", "-i", "0.05", "-W", "0.5"}, args...), dst.String())
	if out, err := n.Exec(n.bed.ctx, "ping", args...); err == nil {
		n.bed.t.Fatalf("%s reaches %s, which it should not: %s", n.Name, dst, out)
	}
}

// Serve answers at a TCP or UDP address of the node until the bed ends: each line or datagram is answered by the address
// that its sender has here, and what was sent.
func (n *Node) Serve(network string, at netip.AddrPort) {
	n.bed.t.Helper()
	var err error
	if strings.HasPrefix(network, "udp") {
		err = n.serveUDP(network, at)
	} else {
		err = n.serveTCP(network, at)
	}
	if err != nil {
		n.bed.t.Fatalf("serve %s %s at %s: %v", network, at, n.Name, err)
	}
}

func (n *Node) serveUDP(network string, at netip.AddrPort) error {
	c, err := n.ListenPacket(n.bed.ctx, network, at.String())
	if err != nil {
		return err
	}
	context.AfterFunc(n.bed.ctx, func() { _ = c.Close() })
	n.bed.serving.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			got, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil { // an ICMP error for what was sent before is one of the next read
				_, _ = c.WriteTo([]byte(from.String()+" "+string(buf[:got])), from)
			}
		}
	})
	return nil
}

func (n *Node) serveTCP(network string, at netip.AddrPort) error {
	l, err := n.Listen(n.bed.ctx, network, at.String())
	if err != nil {
		return err
	}
	context.AfterFunc(n.bed.ctx, func() { _ = l.Close() })
	n.bed.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.bed.serving.Go(func() {
				defer context.AfterFunc(n.bed.ctx, func() { _ = c.Close() })()
				defer c.Close() //nolint:errcheck // the client sees it
				for in := bufio.NewScanner(c); in.Scan(); {
					if _, err := fmt.Fprintf(c, "%s %s\n", c.RemoteAddr(), in.Text()); err != nil {
						return
					}
				}
			})
		}
	})
	return nil
}

// How long one exchange of Talk may take on a busy machine, unless its context ends before. Over TCP what is lost is sent again meanwhile.
const (
	talkTCPLimit = 20 * time.Second
	talkUDPLimit = 5 * time.Second
)

// Talk has one exchange over TCP or UDP with what Serve answers, and returns the address that the node has
// there.
func (n *Node) Talk(ctx context.Context, network string, to netip.AddrPort) (netip.AddrPort, error) {
	limit := talkTCPLimit
	if strings.HasPrefix(network, "udp") {
		limit = talkUDPLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := n.Dial(ctx, network, to.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("from %s: %w", n.Name, err)
	}
	defer c.Close() //nolint:errcheck // all was read
	return Exchange(ctx, c)
}

// Exchange sends a line over a connection to what Serve answers, and returns the address that the sender has there.
func Exchange(ctx context.Context, c net.Conn) (netip.AddrPort, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return netip.AddrPort{}, err
		}
	}
	const hello = "hello"
	if _, err := fmt.Fprintln(c, hello); err != nil {
		return netip.AddrPort{}, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, said, _ := strings.Cut(strings.TrimSpace(line), " ")
	if said != hello {
		return netip.AddrPort{}, fmt.Errorf("%s answers %q", c.RemoteAddr(), line)
	}
	return netip.ParseAddrPort(addr)
}

// Capture is a running tcpdump(8).
type Capture struct {
	stop func() error

	mu    sync.Mutex // guards the fields below
	lines []string
}

// Capture shows packets at a device of the node, with their Ethernet headers, from now on.
func (n *Node) Capture(device, filter string) *Capture {
	n.bed.t.Helper()
	cmd := n.Command(n.bed.ctx, "tcpdump", "-lnne", "--immediate-mode", "-s", "0", "-i", device, filter)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		n.bed.t.Fatalf("%v", err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		n.bed.t.Fatalf("%v", err)
	}
	if err := cmd.Start(); err != nil {
		n.bed.t.Fatalf("tcpdump: %v", err)
	}
	c := &Capture{}
	ready, done := make(chan string, 1), make(chan error, 1)
	n.bed.serving.Go(func() {
		var read sync.WaitGroup
		read.Go(func() { ready <- listening(stderr) })
		c.read(stdout)
		read.Wait()
		done <- cmd.Wait()
	})
	if failed := <-ready; failed != "" {
		n.bed.t.Fatalf("tcpdump at %s: %s", n.Name, failed)
	}
	c.stop = sync.OnceValue(func() error {
		return errors.Join(cmd.Process.Signal(os.Interrupt), <-done)
	})
	return c
}

// listening reads until tcpdump captures, and returns what it said when it never does.
func listening(r io.Reader) string {
	var said []string
	for in := bufio.NewScanner(r); in.Scan(); said = append(said, in.Text()) {
		if strings.HasPrefix(in.Text(), "listening on") {
			return ""
		}
	}
	return cmp.Or(strings.Join(said, "\n"), "it has ended")
}

func (c *Capture) read(r io.Reader) {
	for in := bufio.NewScanner(r); in.Scan(); {
		c.mu.Lock()
		c.lines = append(c.lines, in.Text())
		c.mu.Unlock()
	}
}

// Lines are the packets so far, as tcpdump shows them.
func (c *Capture) Lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lines)
}

// Await waits until a packet is shown with all the words, and returns its line.
func (c *Capture) Await(ctx context.Context, words ...string) (string, error) {
	var found string
	err := await(ctx, pingLimit, fmt.Sprintf("a packet with %q", words), func() error {
		for _, line := range c.Lines() {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				found = line
				return nil
			}
		}
		return errors.New("there is none")
	})
	return found, err
}

// Stop ends the capture and returns its packets.
func (c *Capture) Stop() ([]string, error) {
	err := c.stop()
	return c.Lines(), err
}
