package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/agents/statefile"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

// program runs a command, and returns what it printed.
func program(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := process(ctx, args, func(string) string { return "" }, &out)
	return out.String(), err
}

// usage says whether an error's status is that of a wrong command line.
func usage(err error) bool {
	return err != nil && run.Usage(err).Error() == err.Error() && fmt.Sprintf("%T", err) == "run.usageError"
}

const twoPorts = `
hosts: [{id: h1, key: 1, tunnel_ends: [{address: 172.31.1.11}]}, {id: h2, key: 2, tunnel_ends: [{address: 172.31.1.12}]}]
networks: [{id: n1, key: 1}]
ports:
- {id: p1, key: 1, network: n1, mac: "fa:16:3e:00:00:01", fixed_ips: [{subnet: s1, address: 10.0.0.11}], host: h1}
- {id: p2, key: 2, network: n1, mac: "fa:16:3e:00:00:02", fixed_ips: [{subnet: s1, address: 10.0.0.12}], host: h2}
`

// An operator's day with one host: the agent runs, is looked at, is planned for, and mends what somebody breaks.
func TestOperator(t *testing.T) {
	t.Parallel()
	ovs := ovstest.New(t)
	file := filepath.Join(ovs.Dir, "state.yaml")
	write(t, file, twoPorts)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if out, err := program(ctx, "run", "--host", "h1", "--state", file, "--ovsdb", ovs.Endpoint(), "--datapath", "dummy", "--run-dir", ovs.Dir, "--state-dir", ovs.Dir,
			"--log-level", "error"); err != nil {
			t.Errorf("run: %v\n%s", err, out)
		}
	})
	defer wg.Wait()
	defer cancel()
	ask := func(args ...string) (string, error) {
		return program(t.Context(), append(args, "--run-dir", ovs.Dir)...)
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := ask(args...)
		if err != nil {
			t.Fatalf("headwater-agent %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	for limit := time.Now().Add(20 * time.Second); ; {
		if _, err := ask("wait", "--revision", "1"); err == nil {
			break
		} else if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
	ovs.Vsctl("add-port", "br-int", "d1", "--", "set", "Interface", "d1", "type=dummy", "external_ids:iface-id=p1")
	for !strings.Contains(ovs.Vsctl("get", "Interface", "d1", "external_ids"), "hw-ready") {
		must("wait", "--revision", "1")
	}
	if out := must("status", "-f", "json"); !strings.Contains(out, `"ready_ports": 1`) && !strings.Contains(strings.ToLower(out), `ready`) {
		t.Errorf("status: %s", out)
	}
	if out := must("state", "port", "p1", "-f", "json"); !strings.Contains(out, `"address": "10.0.0.11"`) || !strings.Contains(out, `"mac": "fa:16:3e:00:00:01"`) {
		t.Errorf("state of p1: %s", out)
	}
	if out := must("state", "plug"); !strings.Contains(out, "p1") || strings.Contains(out, "p2") {
		t.Errorf("plugs: %s", out)
	}
	if out := must("flows", "--table", "classify", "--port", "p1"); !strings.Contains(out, "# port: port p1") || !strings.Contains(out, "table=classify(0)") || !strings.Contains(out, "in_port=d1") {
		t.Errorf("flows of p1: %s", out)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(must("flows", "--json")), &list); err != nil || len(list) < 50 {
		t.Errorf("%d flows, %v", len(list), err)
	}
	if out := must("diff"); !strings.Contains(out, "flows are the same") {
		t.Errorf("diff: %s", out)
	}
	if out := must("plan"); !strings.Contains(out, "flows are the same") {
		t.Errorf("plan of this version: %s", out)
	}
	if out := must("ofproto", "p1", "ip,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02"); !strings.Contains(out, "Datapath actions") {
		t.Errorf("ofproto: %s", out)
	}
	// The host has no route to the other: what should happen and what would happen differ, and the operator learns where.
	if out, err := ask("trace", "p1", "10.0.0.12", "--wait", "1s"); err == nil || !strings.Contains(out, "by the state:    delivered port p2 at h2") ||
		!strings.Contains(out, "by the switches: dropped no way in the underlay at h1") || !strings.Contains(out, "FAULT in layer underlay, host h1") {
		t.Errorf("trace: %v\n%s", err, out)
	}
	if out := must("trace", "p1", "10.0.0.11", "--proto", "tcp", "--dst-port", "22"); !strings.Contains(out, "dropped own-packet") || !strings.Contains(out, "all agree") {
		t.Errorf("trace to the port itself: %s", out)
	}
	if out := must("metrics"); !strings.Contains(out, "headwater_agent_applied_revision 1") || !strings.Contains(out, "process_resident_memory_bytes") {
		t.Errorf("metrics: %s", out)
	}
	if out := must("debug", "--profile", "goroutine"); !strings.Contains(out, "switcher") {
		t.Errorf("goroutines: %.200s", out)
	}
	must("reissue")
	if out := must("flows", "--table", "canary"); !strings.Contains(out, "epoch 2") {
		t.Errorf("canary: %s", out)
	}

	other := filepath.Join(ovs.Dir, "other.yaml")
	write(t, other, twoPorts+"- {id: p3, key: 3, network: n1, mac: \"fa:16:3e:00:00:03\", host: h2}\n")
	before := must("flows")
	out, err := ask("plan", "--state", other)
	if err == nil || !strings.Contains(out, "+ ") || !strings.Contains(out, "port p3") {
		t.Errorf("plan: %v\n%s", err, out)
	}
	if after := must("flows"); strings.Count(after, "\n") != strings.Count(before, "\n") {
		t.Errorf("the plan has changed the switch")
	}
	write(t, file, "networks: [{id: n1, colour: red}]\n")
	for !strings.Contains(must("status"), `colour`) {
		must("wait", "--revision", "1")
	}
	must("diff")

	for _, args := range [][]string{{"state", "colour"}, {"flows", "--table", "colour"}, {"debug", "--profile", "colour"}, {"nothing"}, {"wait", "--revision", "-1"}, {"trace", "p1"},
		{"trace", "p1", "nowhere"}, {"trace", "p1", "10.0.0.12", "--live", "maybe"}} {
		if out, err := ask(args...); !usage(err) && !strings.Contains(fmt.Sprint(err), "unknown") {
			t.Errorf("%s: %v, want a wrong command line\n%s", args, err, out)
		}
	}
	for _, args := range [][]string{{"state", "port", "p9"}, {"flows", "--port", "p9"}, {"ofproto", "p9", "ip"}, {"trace", "p9", "10.0.0.12"}, {"wait", "--revision", "99", "--timeout", "10ms"}} {
		if _, err := ask(args...); err == nil || usage(err) {
			t.Errorf("%s: %v, want a failure", args, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"run"}, []string{"--state FILE or --server"}},
		{[]string{"run", "--state", "x", "--server", "y"}, []string{"either"}},
		{[]string{"run", "--state", "x", "--bridge", "a b", "--host", "h 1", "--bridge-mapping", "physnet1=br-int/", "--ovsdb", "tcp:127.0.0.1:6640"},
			[]string{`host "h 1"`, `bridge "a b"`, `physical network physnet1`, "run directory of Open vSwitch"}},
		{[]string{"run", "--state", "x", "--log-level", "loud"}, []string{"loud"}},
		{[]string{"run", "--server", "x:1", "--site", "s1"}, []string{"--cert, --key and --ca"}},
		{[]string{"run", "--server", "x:1", "--site", "s1", "--cert", "/nowhere", "--key", "/nowhere", "--ca", "/nowhere"}, []string{"certificate", "/nowhere"}},
		{[]string{"trace", "p1", "nowhere", "--from", "here", "--proto", "smoke", "--live", "maybe"}, []string{`ADDRESS "nowhere"`, `--from "here"`, "--proto smoke", "--live maybe"}},
		{[]string{"status", "--run-dir", "/nowhere"}, []string{"no agent answers at /nowhere/agent.sock"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			_, err := program(t.Context(), tt.args...)
			for _, want := range tt.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("%v, want %q in it", err, want)
				}
			}
		})
	}
}

// The state file that the README shows is one.
func TestReadmeState(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(raw), "```yaml\n")
	text, _, ended := strings.Cut(text, "```")
	if !found || !ended {
		t.Fatal("README.md has no state file")
	}
	objects, err := statefile.Parse("README.md", []byte(text))
	if err != nil || len(objects) != 7 {
		t.Errorf("%d objects, %v", len(objects), err)
	}
}
