// Package hosts gives tests and benchmarks hypervisor hosts that they may treat as the world does: each a
// network namespace with an ovsdb-server and an ovs-vswitchd of its own, forwarding in user space, joined by an underlay
// that may span several sites. VMs are namespaces plugged into a host's br-int as a compute service does
// it; beyond the hosts stands a physical network with untagged and tagged segments.
//
// Everything belongs to a [Bed], has names that no other bed has, and is gone when its test ends, however
// that ends. It needs root; nothing of the machine's own network or Open vSwitch is touched.
package hosts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/ovstest"
)

// T is what a bed needs of the test that it belongs to. Every testing.TB is one; a program that is no test
// brings its own, whose Fatalf does not return.
type T interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Config says what a bed consists of.
type Config struct {
	Prefix      string            // begins the names of namespaces and of the directory; "hwb" when empty
	Sites       int               // 1 when 0; between sites stands a router
	Hosts       int               // at each site; 2 when 0, at most 200
	UnderlayMTU int               // bytes; 1500 when 0
	UnderlayV6  bool              // tunnels may end at Host.UnderlayV6 too
	Outside     []Segment         // of the physical network at each site; none: hosts have no br-ex
	SwitchArgs  []string          // of ovs-vswitchd; "--enable-dummy" when nil, which DummyPorts needs
	OtherConfig map[string]string // of the row in Open_vSwitch
}

// Names of a host's bridges, and the name by which the physical network is known.
const (
	Integration = "br-int" // VMs and tunnels; fail_mode=secure, empty until somebody fills it
	Underlay    = "br-phy" // the tunnels' endpoint address is that of its local port
	Provider    = "br-ex"  // leads outside; NORMAL until somebody fills it
	Physnet     = "physnet1"
)

// Bed is a set of emulated hosts.
type Bed struct {
	Dir string // of state and logs; its base name begins the names of the bed's namespaces

	t       T
	cfg     Config
	lease   *lease
	ctx     context.Context // ends with the bed: processes and servers live as long
	end     context.CancelFunc
	serving sync.WaitGroup

	sites   []*Node
	outside []*Outside
	hosts   []*Host

	mu    sync.Mutex // guards the fields below
	nodes []*Node    // all, in the order in which they were made
	vms   map[string]*VM
}

// Need skips the test, by name, where not everything is there that a bed and its VMs need; with
// HEADWATER_REQUIRE_OVS=1 the test fails instead. Short runs have no beds.
func Need(t T) {
	t.Helper()
	if testing.Testing() && testing.Short() {
		t.Skipf("a bed is not for short runs")
	}
	missing := func(format string, args ...any) {
		t.Helper()
		if os.Getenv(ovstest.Require) == "1" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	if os.Geteuid() != 0 {
		missing("emulated hosts need root")
	}
	for _, p := range []struct{ program, from string }{
		{"ovs-vswitchd", "openvswitch-switch"}, {"ovsdb-tool", "openvswitch-switch"}, {"ip", "iproute2"}, {"nsenter", "util-linux"},
		{"ethtool", "ethtool"}, {"ping", "iputils-ping"}, {"tcpdump", "tcpdump"},
	} {
		if _, err := ovstest.Program(p.program); err != nil {
			missing("%s is missing: install %s", p.program, p.from)
		}
	}
}

// Up makes the hosts of a test, which has them until it ends. Their names are s1h1, s1h2, s2h1 and so on.
func Up(t T, cfg Config) *Bed {
	t.Helper()
	Need(t)
	b := &Bed{t: t, cfg: cfg.withDefaults(), vms: map[string]*VM{}}
	b.ctx, b.end = context.WithCancel(context.Background()) // a test's own context ends before its clean-up
	var err error
	if b.lease, err = takeLease(b.cfg.Prefix); err != nil {
		b.end()
		t.Fatalf("make a bed: %v", err)
	}
	b.Dir = b.lease.dir
	t.Cleanup(func() {
		if err := b.down(); err != nil {
			t.Logf("take the bed down: %v", err)
		}
	})
	if err := b.up(); err != nil {
		t.Fatalf("make a bed: %v", err)
	}
	return b
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "hwb"
	}
	c.Sites = max(c.Sites, 1)
	if c.Hosts == 0 {
		c.Hosts = 2
	}
	if c.UnderlayMTU == 0 {
		c.UnderlayMTU = 1500
	}
	if c.SwitchArgs == nil {
		c.SwitchArgs = []string{"--enable-dummy"}
	}
	return c
}

// up makes the underlay, then what is outside and all hosts beside each other.
func (b *Bed) up() error {
	if b.cfg.Hosts > 200 || b.cfg.Sites > 200 {
		return fmt.Errorf("%d hosts at %d sites: at most 200 of each", b.cfg.Hosts, b.cfg.Sites)
	}
	if err := b.makeUnderlay(); err != nil {
		return err
	}
	for i := range b.sites {
		for n := range b.cfg.Hosts {
			h, err := b.newHost(i+1, n+1)
			if err != nil {
				return err
			}
			b.hosts = append(b.hosts, h)
		}
		if len(b.cfg.Outside) > 0 {
			o, err := b.newOutside(i + 1)
			if err != nil {
				return err
			}
			b.outside = append(b.outside, o)
		}
	}
	if err := b.connect(); err != nil {
		return err
	}
	var g errgroup.Group
	for _, h := range b.hosts {
		g.Go(h.start)
	}
	for _, o := range b.outside {
		g.Go(o.start)
	}
	return g.Wait()
}

// down ends all processes in the bed's namespaces, and removes those and the directory.
func (b *Bed) down() error {
	b.mu.Lock()
	var names []string
	for _, n := range b.nodes {
		names = append(names, n.ns)
	}
	b.mu.Unlock()
	if b.t.Failed() {
		b.complaints()
	}
	b.end()
	b.serving.Wait()
	return errors.Join(removeNamespaces(names), b.lease.release())
}

func (b *Bed) switches() []*Switch {
	var all []*Switch
	for _, h := range b.hosts {
		all = append(all, &h.Switch)
	}
	for _, o := range b.outside {
		all = append(all, &o.Switch)
	}
	return all
}

// complaints logs what the switches of a failed test warned of.
func (b *Bed) complaints() {
	for _, s := range b.switches() {
		if text := s.warnings(20); text != "" {
			b.t.Logf("%s warned:\n%s", s.node.Name, text)
		}
	}
}

// Hosts are all hosts, those of the first site first.
func (b *Bed) Hosts() []*Host { return slices.Clone(b.hosts) }

// Host is the host of a name such as s1h2.
func (b *Bed) Host(name string) *Host {
	b.t.Helper()
	for _, h := range b.hosts {
		if h.Name == name {
			return h
		}
	}
	b.t.Fatalf("the bed has no host %s", name)
	return nil
}

// VMs are the VMs by name.
func (b *Bed) VMs() map[string]*VM {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.vms)
}

// Site is the node of a site, counted from 1: where what stands at a site but on no host runs. Its address is
// SiteAddr's.
func (b *Bed) Site(n int) *Node { return b.sites[n-1] }

// SiteAddr is the underlay address of a site's node.
func (b *Bed) SiteAddr(n int) netip.Addr { return underlay(n, 2) }

// Outside is the physical network at a site, counted from 1.
func (b *Bed) Outside(site int) *Outside {
	b.t.Helper()
	if len(b.outside) < site {
		b.t.Fatalf("site %d has nothing outside: give Config.Outside", site)
	}
	return b.outside[site-1]
}

// await repeats a condition until it holds; the last error says why it did not within the limit.
func await(ctx context.Context, limit time.Duration, what string, cond func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, limit, err)
		case <-ticker.C:
		}
	}
}
