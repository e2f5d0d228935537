package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// agentProgram is the headwater-agent of this tree, built once for all tests.
var agentProgram = sync.OnceValues(func() (string, error) { return buildAgent("agent", nil) }) //nolint:gochecknoglobals // computed once

// agentDirs is where the programs are that buildAgent builds, behind it the number of the test's process.
const agentDirs = "headwater-agent-"

func agentDir() string { return filepath.Join(os.TempDir(), fmt.Sprint(agentDirs, os.Getpid())) }

// TestMain removes the agents that were built when all tests have ended, and those of tests that were killed before they had.
func TestMain(m *testing.M) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), agentDirs+"*")) // the pattern is one
	for _, dir := range dirs {
		_, of, _ := strings.Cut(filepath.Base(dir), agentDirs)
		if pid, err := strconv.Atoi(of); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
	m.Run()
	_ = os.RemoveAll(agentDir())
}

// buildAgent builds a headwater-agent, with some files of the tree replaced by others.
func buildAgent(name string, overlay map[string]string) (string, error) {
	dir := agentDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := []string{"build", "-o", path}
	if len(overlay) > 0 {
		raw, err := json.Marshal(map[string]any{"Replace": overlay})
		if err != nil {
			return "", err
		}
		file := path + ".overlay.json"
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			return "", err
		}
		args = append(args, "-overlay", file)
	}
	cmd := exec.Command("go", append(args, "./cmd/headwater-agent")...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build headwater-agent: %w\n%s", err, out)
	}
	return path, nil
}

// fleet is a bed whose hosts have agents, as processes, that are told the same state by a file each.
type fleet struct {
	t       *testing.T
	bed     *hosts.Bed
	program string
	state   *api.State
	agents  map[string]*hosts.Process
	port    uint32 // key of the last port
}

// newFleet makes hosts of one site with their agents, and a network n1 with IPv4 and IPv6.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := newBareFleet(t, n)
	f.commit()
	for _, h := range f.bed.Hosts() {
		f.start(h)
	}
	return f
}

// newBareFleet is a fleet whose agents the test starts.
func newBareFleet(t *testing.T, n int) *fleet {
	t.Helper()
	return newFleetOn(t, hosts.Config{Hosts: n, Outside: hosts.Segments()})
}

// newFleetOn is a bare fleet whose bed the test describes.
func newFleetOn(t *testing.T, cfg hosts.Config) *fleet {
	t.Helper()
	hosts.Need(t)
	program, err := agentProgram()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, bed: hosts.Up(t, cfg), program: program, state: &api.State{}, agents: map[string]*hosts.Process{}}
	for i, h := range f.bed.Hosts() {
		f.state.Hosts = append(f.state.Hosts, &api.Host{Id: h.Name, Key: uint32(i + 1), Site: "s1", TunnelEnds: []*api.TunnelEnd{{Address: h.UnderlayIP.String()}}})
	}
	f.state.Networks = []*api.Network{{Id: "n1", Key: 1}}
	f.state.Subnets = []*api.Subnet{{Id: "n1-4", Network: "n1", Cidr: "10.0.0.0/16"}, {Id: "n1-6", Network: "n1", Cidr: "fd00::/64"}}
	return f
}

func (f *fleet) file(h *hosts.Host) string   { return filepath.Join(h.Dir, "state.json") }
func (f *fleet) runDir(h *hosts.Host) string { return filepath.Join(h.Dir, "agent") }

// commit gives all agents the state as it is now.
func (f *fleet) commit() {
	f.t.Helper()
	raw, err := protojson.Marshal(f.state)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, h := range f.bed.Hosts() {
		if err := os.WriteFile(f.file(h)+".new", raw, 0o600); err != nil {
			f.t.Fatal(err)
		}
		if err := os.Rename(f.file(h)+".new", f.file(h)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// start starts a host's agent, with its state file, unless the flags name servers.
func (f *fleet) start(h *hosts.Host, more ...string) {
	f.t.Helper()
	if !slices.Contains(more, "--server") {
		more = append(more, "--state", f.file(h))
	}
	args := append([]string{"run", "--host", h.Name, "--ovsdb", h.OVSDB(), "--datapath", "netdev", "--run-dir", f.runDir(h),
		"--state-dir", filepath.Join(h.Dir, "kept"), "--bridge-mapping", hosts.Physnet + "=" + hosts.Provider}, more...)
	p, err := h.Start(filepath.Join(h.Dir, "agent.out"), f.program, args...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.agents[h.Name] = p
	f.t.Cleanup(func() {
		if f.t.Failed() {
			said, _ := os.ReadFile(filepath.Join(h.Dir, "agent.out"))
			f.t.Logf("agent of %s:\n%s", h.Name, said)
		}
	})
}

// tool runs a command of headwater-agent that asks the agent of a host, and returns what it printed.
func (f *fleet) tool(ctx context.Context, h *hosts.Host, args ...string) (string, error) {
	return h.Exec(ctx, f.program, append(args, "--run-dir", f.runDir(h))...)
}

// same waits until no host's switch differs from its agent's program.
func (f *fleet) same(ctx context.Context) {
	f.t.Helper()
	f.sameAt(ctx, f.bed.Hosts()...)
}

func (f *fleet) sameAt(ctx context.Context, at ...*hosts.Host) {
	f.t.Helper()
	for _, h := range at {
		f.await(ctx, h.Name+" is as it should be", func() error {
			_, err := f.tool(ctx, h, "diff")
			return err
		})
	}
}

// await waits until something is so.
func (f *fleet) await(ctx context.Context, what string, so func() error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := so()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("%s: not yet: %v", what, err)
		case <-ticker.C:
		}
	}
}

// vm makes a VM on a host with a port of n1, which the next commit tells the agents.
func (f *fleet) vm(name string, h *hosts.Host, cfg hosts.VMConfig) (*hosts.VM, *api.Port) {
	f.t.Helper()
	f.port++
	v4, v6 := netip.AddrFrom4([4]byte{10, 0, 1, byte(f.port)}), netip.MustParseAddr(fmt.Sprintf("fd00::1:%d", f.port))
	cfg.IPs = []netip.Prefix{netip.PrefixFrom(v4, 16), netip.PrefixFrom(v6, 64)}
	vm := f.bed.VM(name, h, cfg)
	p := &api.Port{Id: vm.IfaceID, Key: f.port, Network: "n1", Mac: vm.MAC.String(), Host: h.Name, PortSecurity: true, BindingEpoch: 1,
		FixedIps: []*api.FixedIP{{Subnet: "n1-4", Address: v4.String()}, {Subnet: "n1-6", Address: v6.String()}}}
	f.allow(p)
	f.state.Ports = append(f.state.Ports, p)
	return vm, p
}

// allow gives a port a security group that lets everything by.
func (f *fleet) allow(p *api.Port) {
	if len(f.state.SecurityGroups) == 0 {
		g := &api.SecurityGroup{Id: "all"}
		for _, direction := range []api.SecurityRule_Direction{api.SecurityRule_INGRESS, api.SecurityRule_EGRESS} {
			for _, family := range []api.SecurityRule_Family{api.SecurityRule_IPV4, api.SecurityRule_IPV6} {
				g.Rules = append(g.Rules, &api.SecurityRule{Id: strings.ToLower(direction.String() + "-" + family.String()), Direction: direction, Family: family})
			}
		}
		f.state.SecurityGroups = append(f.state.SecurityGroups, g)
	}
	p.SecurityGroups = []string{"all"}
}

// crowd adds n ports on another host, so that each host has many flows.
func (f *fleet) crowd(n int, h *hosts.Host) {
	for i := range n {
		f.port++
		f.state.Ports = append(f.state.Ports, &api.Port{Id: fmt.Sprintf("crowd-%d", i), Key: f.port, Network: "n1", Host: h.Name,
			Mac:      fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", f.port>>16&0xff, f.port>>8&0xff, f.port&0xff),
			FixedIps: []*api.FixedIP{{Subnet: "n1-4", Address: netip.AddrFrom4([4]byte{10, 0, byte(2 + i/250), byte(1 + i%250)}).String()}}})
	}
}

// pings is a ping of a VM to another each 2 ms, over IPv4 and IPv6.
type pings struct {
	t       *testing.T
	streams []*probe.Stream
}

func (f *fleet) pings(ctx context.Context, from, to *hosts.VM) *pings {
	f.t.Helper()
	p := &pings{t: f.t}
	for i := range from.IPs {
		s, err := probe.Open(from, "eth0")
		if err != nil {
			f.t.Fatal(err)
		}
		st, err := s.Stream(ctx, probe.Path{Src: from.IPs[i].Addr(), Dst: to.IPs[i].Addr()}, 2*time.Millisecond)
		if err != nil {
			f.t.Fatal(err)
		}
		p.streams = append(p.streams, st)
	}
	p.go1(ctx, 50)
	return p
}

// go1 waits until n more pings are answered.
func (p *pings) go1(ctx context.Context, n int) {
	p.t.Helper()
	for _, s := range p.streams {
		if err := s.Await(ctx, n); err != nil {
			p.t.Fatal(err)
		}
	}
}

// stop ends the pings and says how many were lost.
func (p *pings) stop(what string) (lost int) {
	p.t.Helper()
	for i, s := range p.streams {
		r, err := s.Stop()
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Logf("%s, IPv%d: %d of %d pings lost, longest gap %s", what, 4+2*i, len(r.Lost), r.Sent, r.LongestGap.Round(time.Millisecond))
		lost += len(r.Lost)
	}
	return lost
}
