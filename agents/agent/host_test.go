package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/statefile"
)

// host is a host with a real Open vSwitch on dummy devices, and an agent that can be ended and started again.
type host struct {
	t   testing.TB
	ovs *ovstest.Switch
	cfg Config
	*Agent
	stop    func() error
	prepare func(*Agent) // of one that starts; nil: nothing

	mu      sync.Mutex // guards the fields below
	reports []*api.Report
	applied uint64
	answers []*api.Answer
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, ovs: ovstest.New(t), cfg: Default()}
	h.cfg.Host, h.cfg.DatapathType, h.cfg.OVSDB = "h1", "dummy", h.ovs.Endpoint()
	h.cfg.RunDir, h.cfg.StateDir, h.cfg.PuntRate = h.ovs.Dir, t.TempDir(), 50
	return h
}

// Applied is told of revisions.
func (h *host) Applied(_ string, revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applied = revision
}

// Report is told of what changes.
func (h *host) Report(r *api.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reports = append(h.reports, r)
}

// Answer is told of answers.
func (h *host) Answer(a *api.Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = append(h.answers, a)
}

// Commit hands the agent a revision.
func (h *host) Commit(c Commit) {
	h.t.Helper()
	if err := h.Agent.Commit(h.t.Context(), c); err != nil {
		h.t.Error(err)
	}
}

// start starts an agent, which ends with the test.
func (h *host) start() {
	h.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	a, err := New(h.cfg, Parts{Log: log, Reporter: h})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Agent = a
	if h.prepare != nil {
		h.prepare(a)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- a.Run(ctx) })
	h.stop = sync.OnceValue(func() error { cancel(); wg.Wait(); return <-done })
	h.t.Cleanup(func() {
		if err := h.stop(); err != nil {
			h.t.Errorf("the agent ended with: %v", err)
		}
	})
}

// restart ends the agent and starts another, which is told the same state.
func (h *host) restart(c Commit) {
	h.t.Helper()
	if err := h.stop(); err != nil {
		h.t.Fatal(err)
	}
	h.start()
	h.Commit(c)
}

// plug makes a device and claims a port with it.
func (h *host) plug(device, port string, more ...string) {
	h.t.Helper()
	args := []string{"--", "add-port", h.cfg.Bridge, device, "--", "set", "Interface", device, "type=dummy"}
	if port != "" {
		args = append(args, "external_ids:iface-id="+port)
	}
	h.ovs.Vsctl(append(args, more...)...)
}

// await waits until something is so.
func (h *host) await(what string, so func() (bool, string)) {
	h.t.Helper()
	limit := time.After(time.Minute)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	var why string
	for {
		var ok bool
		if ok, why = so(); ok {
			return
		}
		select {
		case <-limit:
			h.t.Fatalf("%s: not after a minute: %s", what, why)
		case <-ticker.C:
		}
	}
}

// column is a value in the database, as ovs-vsctl prints it.
func (h *host) column(table, row, column string) string {
	h.t.Helper()
	return strings.Trim(strings.TrimSpace(h.ovs.Vsctl("--if-exists", "get", table, row, column)), `"`)
}

// ready waits until an interface's flows are in.
func (h *host) ready(device string) {
	h.t.Helper()
	h.await(device+" is ready", func() (bool, string) {
		ids := h.column("Interface", device, "external_ids")
		return strings.Contains(ids, keyReady), ids
	})
}

// settled waits until the switch carries out the program, and nothing else.
func (h *host) settled() {
	h.t.Helper()
	h.await("the switch carries the program out", func() (bool, string) {
		conn := h.dial()
		defer conn.close()
		have, err := read(h.t.Context(), conn.Conn)
		if err != nil {
			return false, err.Error()
		}
		h.core.mu.Lock()
		defer h.core.mu.Unlock()
		if h.core.applied != h.core.gen || !h.core.ready() {
			return false, "not all is applied"
		}
		c := have.canary()
		if c.layout != flows.Layout || c.epoch != h.core.epoch {
			return false, fmt.Sprintf("canary %+v, epoch %d", c, h.core.epoch)
		}
		d := compare(h.core.compiler, have, c.epoch)
		return d.size() == 0, fmt.Sprintf("%+v", d)
	})
}

// other is a connection of somebody else.
type other struct {
	*openflow.Conn
	close func()
}

func (h *host) dial() other {
	h.t.Helper()
	var conn *openflow.Conn
	h.await("the bridge's socket", func() (bool, string) {
		var err error
		conn, err = openflow.Dial(h.t.Context(), openflow.Config{Network: "unix", Address: h.ovs.Mgmt(h.cfg.Bridge)})
		return err == nil, fmt.Sprint(err)
	})
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(h.t.Context())
	wg.Go(func() { _ = conn.Run(ctx) })
	return other{conn, func() { cancel(); wg.Wait() }}
}

// alarm waits until an alarm stands.
func (h *host) alarmed(code string) *api.Alarm {
	h.t.Helper()
	var found *api.Alarm
	h.await("alarm "+code, func() (bool, string) {
		for _, a := range h.Status().Alarms {
			if a.Code == code {
				found = a
			}
		}
		return found != nil, fmt.Sprint(h.Status().Alarms)
	})
	return found
}

// parsed is the state of a text.
func parsed(t testing.TB, text string) []state.Object {
	t.Helper()
	objects, err := statefile.Parse("state.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// twoPorts is a network with two ports of h1 and one of h2.
const twoPorts = `
hosts:
- {id: h1, key: 1, tunnel_ends: [{address: 172.31.1.11}]}
- {id: h2, key: 2, tunnel_ends: [{address: 172.31.1.12}]}
networks:
- {id: n1, key: 1}
subnets:
- {id: s1, network: n1, cidr: 10.0.0.0/24, gateway: 10.0.0.1, dhcp: true}
ports:
- {id: p1, key: 1, network: n1, mac: "fa:16:3e:00:00:01", fixed_ips: [{subnet: s1, address: 10.0.0.11}], port_security: true, host: h1}
- {id: p2, key: 2, network: n1, mac: "fa:16:3e:00:00:02", fixed_ips: [{subnet: s1, address: 10.0.0.12}], host: h1}
- {id: p3, key: 3, network: n1, mac: "fa:16:3e:00:00:03", fixed_ips: [{subnet: s1, address: 10.0.0.13}], host: h2}
`

func snapshot(t testing.TB, revision uint64, text string) Commit {
	t.Helper()
	return Commit{Incarnation: "test", Revision: revision, Snapshot: true, Set: parsed(t, text)}
}
