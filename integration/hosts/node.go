package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Node is a network namespace of a bed: a host, a VM, a site's node, what is outside.
type Node struct {
	Name string

	bed *Bed
	ns  string   // its name for ip-netns(8)
	env []string // of what runs there, beside this process's own
}

// newNode makes a namespace with the settings, which are paths below /proc/sys/net.
func (b *Bed) newNode(name string, settings map[string]string) (*Node, error) {
	n := &Node{Name: name, bed: b, ns: filepath.Base(b.Dir) + "-" + name}
	if err := ipBatch("", "netns add "+n.ns); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.nodes = append(b.nodes, n)
	b.mu.Unlock()
	return n, errors.Join(n.set(settings), n.ip("link set lo up"))
}

// forget removes the node before its bed ends.
func (n *Node) forget() error {
	n.bed.mu.Lock()
	for i, other := range n.bed.nodes {
		if other == n {
			n.bed.nodes = append(n.bed.nodes[:i], n.bed.nodes[i+1:]...)
			break
		}
	}
	n.bed.mu.Unlock()
	return removeNamespaces([]string{n.ns})
}

// NetNS is the path of the node's namespace.
func (n *Node) NetNS() string { return filepath.Join(netnsDir, n.ns) }

// noIPv6 keeps a node from speaking IPv6 by itself.
func noIPv6() map[string]string {
	return map[string]string{"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
}

// set writes settings below /proc/sys/net, which shows each thread those of its own namespace.
func (n *Node) set(settings map[string]string) error {
	return n.Do(func() error {
		for name, value := range settings {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// ip runs ip(8) commands in the node.
func (n *Node) ip(commands ...string) error { return ipBatch(n.ns, commands...) }

// Do runs f with its thread in the node's namespace: sockets that f makes belong to the node for good, also
// after Do has returned. What f starts in other goroutines is elsewhere.
func (n *Node) Do(f func() error) (err error) {
	there, err := os.Open(n.NetNS())
	if err != nil {
		return err
	}
	defer there.Close() //nolint:errcheck // only read
	runtime.LockOSThread()
	back, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer back.Close() //nolint:errcheck // only read
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", n.Name, err)
	}
	defer func() {
		if back := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("leave %s: %w", n.Name, back)) // the thread stays locked: nobody else may run on it
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// Command is a program to be run in the node; on a host the tools of Open vSwitch find its switch. It is killed when
// the context or the bed ends.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.NetNS(), "--", name}, args...)...)
	cmd.Env = append(append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin"), n.env...)
	// nsenter becomes the program, so that this is the program's too: it ends with this process, even if that is killed.
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// Exec runs a program in the node and returns what it wrote to its standard output; the error has the rest.
func (n *Node) Exec(ctx context.Context, name string, args ...string) (string, error) {
	return output(n.Command(ctx, name, args...))
}

// Run is Exec for what must succeed: the test fails otherwise.
func (n *Node) Run(name string, args ...string) string {
	n.bed.t.Helper()
	out, err := n.Exec(n.bed.ctx, name, args...)
	if err != nil {
		n.bed.t.Fatalf("%v", err)
	}
	return out
}

func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
		}
		return string(out), fmt.Errorf("%s: %w", strings.Join(cmd.Args[2:], " "), err)
	}
	return string(out), nil
}

// Dial connects from the node; the address is a literal one.
func (n *Node) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens for connections in the node.
func (n *Node) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		var c net.ListenConfig
		l, err = c.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket listens for datagrams in the node.
func (n *Node) ListenPacket(ctx context.Context, network, address string) (l net.PacketConn, err error) {
	err = n.Do(func() error {
		var c net.ListenConfig
		l, err = c.ListenPacket(ctx, network, address)
		return err
	})
	return l, err
}

// Bed is the bed that the node belongs to.
func (n *Node) Bed() *Bed { return n.bed }
