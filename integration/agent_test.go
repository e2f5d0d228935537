package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Three hosts whose agents read a file: VMs reach each other across hosts, over IPv4 and IPv6.
func TestAgentsJoinHosts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	var vms []*hosts.VM
	for i, h := range f.bed.Hosts() {
		vm, _ := f.vm(fmt.Sprintf("vm%d", i+1), h, hosts.VMConfig{})
		vms = append(vms, vm)
	}
	began := time.Now()
	f.commit()
	for _, from := range vms {
		for _, to := range vms {
			if from != to {
				for _, ip := range to.IPs {
					from.MustReach(ip.Addr())
				}
			}
		}
	}
	t.Logf("all pairs reached each other %s after the file was written", time.Since(began).Round(time.Millisecond))
	f.same(t.Context())
	for _, h := range f.bed.Hosts() {
		if out, err := f.tool(t.Context(), h, "status"); err != nil || !strings.Contains(out, h.Name) {
			t.Errorf("status of %s: %v\n%s", h.Name, err, out)
		}
	}
	// What is wrong in a file is said with its lines, and what was there before goes on.
	h := f.bed.Host("s1h1")
	if err := os.WriteFile(f.file(h), []byte("networks:\n- id: n1\n  kay: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.await(t.Context(), "the bad file is complained of", func() error {
		said, err := os.ReadFile(filepath.Join(h.Dir, "agent.out"))
		if err == nil && !strings.Contains(string(said), `state.json:3: Network has no field`) {
			err = fmt.Errorf("it said %s", said)
		}
		return err
	})
	vms[0].MustReach(vms[1].IPs[0].Addr())
}

// crowdOf is how many ports make 100,000 flows on each host; a short test has fewer.
func crowdOf(t *testing.T) int {
	if testing.Short() {
		return 2_000
	}
	return 34_000
}

// Nothing is lost while an agent is killed and started again, while its successor has another layout of the tables, and while all flows
// are sent again.
func TestNoLossOverRestarts(t *testing.T) {
	f := newFleet(t, 2)
	ctx := t.Context()
	first, second := f.bed.Host("s1h1"), f.bed.Host("s1h2")
	a, _ := f.vm("vm1", first, hosts.VMConfig{})
	b, _ := f.vm("vm2", second, hosts.VMConfig{})
	f.crowd(crowdOf(t), second)
	f.commit()
	a.MustReach(b.IPs[0].Addr(), "-w", "30")
	a.MustReach(b.IPs[1].Addr(), "-w", "30")
	f.same(ctx)
	t.Logf("%d flows on %s", first.FlowCount(hosts.Integration), first.Name)

	again := func(h *hosts.Host) {
		f.agents[h.Name].Kill()
		f.start(h)
	}
	filled := func(h *hosts.Host, epoch string) {
		t.Helper()
		f.await(ctx, "epoch "+epoch+" of "+h.Name, func() error {
			out, err := f.tool(ctx, h, "status", "-f", "value", "-c", "epoch")
			if err == nil && strings.TrimSpace(out) != epoch {
				err = fmt.Errorf("epoch %s", out)
			}
			return err
		})
		f.same(ctx)
	}
	next := upgraded(t)
	for _, tt := range []struct {
		name  string
		do    func()
		epoch string
	}{
		{"agents killed and started again", func() { again(first); again(second) }, "1"},
		{"all flows sent again", func() {
			for _, h := range []*hosts.Host{first, second} {
				if _, err := f.tool(ctx, h, "reissue"); err != nil {
					t.Error(err)
				}
			}
		}, "2"},
		{"agents with another layout of the tables", func() { f.program = next; again(first); again(second) }, "3"},
	} {
		p := f.pings(ctx, a, b)
		tt.do()
		filled(first, tt.epoch)
		filled(second, tt.epoch)
		p.go1(ctx, 100)
		if lost := p.stop(tt.name); lost > 0 {
			t.Errorf("%s: %d pings were lost, want none", tt.name, lost)
		}
	}

	// A switch that restarts loses its flows, and packets with them: how long is what there is to say.
	p := f.pings(ctx, a, b)
	first.RestartSwitch()
	f.same(ctx)
	p.go1(ctx, 100)
	p.stop("switch restarted")
}

// upgraded is an agent of another version: its pipeline has other numbers.
func upgraded(t *testing.T) string {
	t.Helper()
	file, err := filepath.Abs("../agents/flows/fields.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for _, change := range [][2]string{{`TOutput +Table = 90`, "TOutput Table = 95"}, {`TSwitch +Table = 60`, "TSwitch Table = 62"}, {`TLearned +Table = 61`, "TLearned Table = 63"},
		{`const Layout = (\d+)`, "const Layout = 100${1}"}, {`RDest += openflow.Reg2`, "RDest = openflow.Reg10"}, {`ROrigin += openflow.Reg10`, "ROrigin = openflow.Reg2"}} {
		changed := regexp.MustCompile(change[0]).ReplaceAllString(text, change[1])
		if changed == text {
			t.Fatalf("fields.go has no %s", change[0])
		}
		text = changed
	}
	other := filepath.Join(t.TempDir(), "fields.go")
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := buildAgent("upgraded", map[string]string{file: other})
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// A VM migrates: the port is bound to both hosts, then to the new one. What is lost is what the hypervisor's own pause costs, and is counted.
func TestAgentsMigrate(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	ctx := t.Context()
	a, _ := f.vm("vm1", f.bed.Host("s1h1"), hosts.VMConfig{})
	b, port := f.vm("vm2", f.bed.Host("s1h2"), hosts.VMConfig{Migrates: true})
	c, _ := f.vm("vm3", f.bed.Host("s1h3"), hosts.VMConfig{})
	f.commit()
	a.MustReach(b.IPs[0].Addr())
	a.MustReach(b.IPs[1].Addr())
	// The hosts know each other: a switch in user space drops what goes into a tunnel until it has found out whose address the other end's is, which
	// now and then takes it a second.
	a.MustReach(c.IPs[0].Addr())
	b.MustReach(c.IPs[0].Addr())
	p := f.pings(ctx, a, b)
	to := f.bed.Host("s1h3")
	port.NextHost = to.Name
	f.commit()
	m := b.Migrate(to)
	f.await(ctx, "the port is ready on "+to.Name, func() error { return f.ready(ctx, to, port.Id) })
	m.CutOver()
	port.Host, port.NextHost, port.BindingEpoch = to.Name, "", 2
	f.commit()
	f.same(ctx)
	m.Finish()
	p.go1(ctx, 100)
	if lost := p.stop("migration"); lost > 50 {
		t.Errorf("%d pings were lost, more than 50 ms of each", lost)
	}
	f.same(ctx)
}

// ready says whether an interface is marked as ready.
func (f *fleet) ready(ctx context.Context, h *hosts.Host, port string) error {
	out, err := h.Exec(ctx, "ovs-vsctl", "--db="+h.OVSDB(), "--columns=external_ids", "find", "Interface", "external_ids:iface-id="+port)
	if err == nil && !strings.Contains(out, "hw-ready") {
		err = fmt.Errorf("%s", out)
	}
	return err
}

// Hosts know by gossip whose agent is dead, and that it lives again.
func TestAgentsKnowTheDead(t *testing.T) {
	t.Parallel()
	f := newBareFleet(t, 3)
	ctx := t.Context()
	f.commit()
	key := filepath.Join(f.bed.Dir, "gossip.key")
	if err := os.WriteFile(key, []byte("MDEyMzQ1Njc4OWFiY2RlZg==\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := f.bed.Host("s1h1")
	start := func(h *hosts.Host) {
		f.start(h, "--site", "s1", "--gossip", h.UnderlayIP.String(), "--gossip-seed", first.UnderlayIP.String(), "--gossip-keys", key)
	}
	for _, h := range f.bed.Hosts() {
		start(h)
	}
	knows := func(want string) {
		t.Helper()
		f.await(ctx, first.Name+" knows the dead: "+want, func() error {
			out, err := f.tool(ctx, first, "state", "down", "-f", "value", "-c", "id")
			if err == nil && strings.TrimSpace(out) != want {
				err = fmt.Errorf("it knows %q", out)
			}
			return err
		})
	}
	f.await(ctx, "all are members", func() error {
		out, err := f.tool(ctx, first, "metrics")
		if err == nil && !strings.Contains(out, `headwater_members_alive{pool="site",role="host"} 3`) {
			err = errors.New("not yet")
		}
		return err
	})
	last := f.bed.Host("s1h3")
	f.agents[last.Name].Kill()
	knows(last.Name)
	start(last)
	knows("")
}
