package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/openflow"
)

// An empty Open vSwitch gets its bridge, its tunnel port and the flows of what is plugged; each interface is marked when its flows are in.
func TestFirstHost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.start()
	h.Commit(snapshot(t, 7, twoPorts))
	h.await("the bridge", func() (bool, string) {
		out := h.column("Bridge", "br-int", "fail_mode")
		return out == "secure", out
	})
	h.plug("d1", "p1")
	h.plug("d2", "p2")
	h.ready("d1")
	h.ready("d2")
	h.settled()
	if got := h.column("Interface", "d1", "external_ids:hw-ready"); got != "7" {
		t.Errorf("d1 is ready with revision %q, want 7", got)
	}
	if a, b := h.column("Interface", "d1", "external_ids:hw-zone"), h.column("Interface", "d2", "external_ids:hw-zone"); a == b || a == "" {
		t.Errorf("the zones of d1 and d2 are %q and %q, want two of them", a, b)
	}
	if got := h.column("Interface", ownName("hwt", "vxlan/4789"), "options"); !strings.Contains(got, "172.31.1.11") {
		t.Errorf("options of the tunnel's port are %s, want this host's address as their source", got)
	}
	h.await("applied", func() (bool, string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.applied == 7, fmt.Sprint(h.applied)
	})
	h.ovs.Vsctl("del-port", "d1")
	h.await("p1 is unplugged", func() (bool, string) {
		for _, p := range h.Status().Ports {
			if p.Port == "p1" {
				return false, p.String()
			}
		}
		return true, ""
	})
	h.settled()
}

// begin starts a host with p1 and p2 plugged.
func begin(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	h.start()
	h.Commit(snapshot(t, 1, twoPorts))
	h.await("the bridge", func() (bool, string) { return h.column("Bridge", "br-int", "fail_mode") == "secure", "" })
	h.plug("d1", "p1")
	h.plug("d2", "p2")
	h.ready("d1")
	h.ready("d2")
	h.settled()
	return h
}

// An agent that is started again finds everything as it should be, and sends nothing; its ports keep their zones.
func TestRestartSendsNothing(t *testing.T) {
	t.Parallel()
	h := begin(t)
	zone := h.column("Interface", "d1", "external_ids:hw-zone")
	before := h.ovs.Run("ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", h.ovs.Mgmt("br-int"))
	conn := h.dial()
	defer conn.close()
	seen := watchFlows(t, h, func() {
		h.restart(snapshot(t, 1, twoPorts))
		h.settled()
	})
	if seen != 0 {
		t.Errorf("%d flows were changed by a restart, want none", seen)
	}
	if after := h.ovs.Run("ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", h.ovs.Mgmt("br-int")); before != after {
		t.Errorf("flows before:\n%s\nafter:\n%s", before, after)
	}
	if got := h.column("Interface", "d1", "external_ids:hw-zone"); got != zone {
		t.Errorf("the zone of d1 was %s and is %s", zone, got)
	}
}

// What was deleted while the agent was away is gone after it is back; before it knows the state, nothing is.
func TestStaleFlowsGo(t *testing.T) {
	t.Parallel()
	h := begin(t)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.await("the connection", func() (bool, string) { return h.switcher.connection() != nil, "" })
	conn := h.dial()
	defer conn.close()
	have, err := read(t.Context(), conn.Conn)
	if err != nil {
		t.Fatal(err)
	}
	before := len(have.flows)
	h.Commit(snapshot(t, 2, strings.ReplaceAll(twoPorts, "- {id: p3", "#")))
	h.settled()
	if have, err = read(t.Context(), conn.Conn); err != nil {
		t.Fatal(err)
	}
	if len(have.flows) >= before {
		t.Errorf("%d flows with p3, %d without", before, len(have.flows))
	}
}

// What somebody else adds, changes or deletes is mended at once, and told.
func TestForeignChangesAreMended(t *testing.T) {
	t.Parallel()
	h := begin(t)
	mgmt := h.ovs.Mgmt("br-int")
	for _, tt := range []struct{ name, command, flow string }{
		{"add", "add-flow", "table=0,priority=65000,actions=drop"},
		{"change", "mod-flows", "table=60,actions=drop"},
		{"delete", "del-flows", "table=65"},
		{"delete all", "del-flows", ""},
		{"delete the canary", "del-flows", "table=200"},
	} {
		before := h.status()
		args := []string{"-O", "OpenFlow13", tt.command, mgmt}
		if tt.flow != "" {
			args = append(args, tt.flow)
		}
		h.ovs.Run("ovs-ofctl", args...)
		h.await(tt.name+" is counted", func() (bool, string) { return h.status() > before, fmt.Sprint(h.status()) })
		h.settled()
	}
	h.alarmed(alarmForeign)
	group := h.status()
	h.ovs.Run("ovs-ofctl", "-O", "OpenFlow13", "del-groups", mgmt)
	h.await("groups are counted", func() (bool, string) { return h.status() > group, fmt.Sprint(h.status()) })
	h.settled()
	meter := h.status()
	h.ovs.Run("ovs-ofctl", "-O", "OpenFlow13", "del-meters", mgmt)
	h.await("meters are counted", func() (bool, string) { return h.status() > meter, fmt.Sprint(h.status()) })
	h.settled()
}

func (h *host) status() uint64 {
	h.core.mu.Lock()
	defer h.core.mu.Unlock()
	return h.core.foreign
}

// A switch that has lost all is filled again, whatever ended.
func TestDaemonsRestart(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.ovs.KillSwitchd()
	h.ovs.StartSwitchd()
	h.settled()
	h.ovs.KillDB()
	h.ovs.StartDB()
	h.plug("d9", "p9")
	h.settled()
	h.Commit(snapshot(t, 5, twoPorts+"- {id: p9, key: 9, network: n1, mac: 'fa:16:3e:00:00:09', host: h1}\n"))
	h.ready("d9")
	h.settled()
}

// Two agents on one bridge would undo each other's work: the second does not begin.
func TestSecondAgentIsRefused(t *testing.T) {
	t.Parallel()
	h := begin(t)
	cfg := h.cfg
	cfg.RunDir = t.TempDir()
	second, err := New(cfg, Parts{})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, ErrTaken) {
		t.Errorf("a second agent ended with %v, want %v", err, ErrTaken)
	}
	// One for another bridge that has the same run directory would take the socket away.
	cfg.Bridge, cfg.RunDir = "br-two", h.cfg.RunDir
	second, err = New(cfg, Parts{})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "run directory") {
		t.Errorf("an agent with the run directory of another ended with %v", err)
	}
	h.settled()
}

// A port that two interfaces claim stays with the first.
func TestPortClaimedTwice(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.plug("x1", "p1")
	a := h.alarmed(alarmRivals)
	if a.Object != "p1" || !strings.Contains(a.Text, "x1") {
		t.Errorf("alarm %s, want one that names x1 as the rival for p1", a)
	}
	if got := h.column("Interface", "x1", "external_ids:hw-ready"); got != "" {
		t.Errorf("x1 is ready with %q", got)
	}
	h.ovs.Vsctl("del-port", "d1")
	h.ready("x1")
	h.settled()
}

// watchFlows counts the flows that change while f runs.
func watchFlows(t *testing.T, h *host, f func()) int {
	t.Helper()
	var n atomic.Int64
	conn, err := openflow.Dial(t.Context(), openflow.Config{Network: "unix", Address: h.ovs.Mgmt("br-int"), Handle: func(_ uint32, m openflow.Message) {
		if r, ok := m.(*openflow.MultipartReply); ok {
			if l, ok := r.Body.(*openflow.FlowUpdateList); ok {
				n.Add(int64(len(l.Updates)))
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { _ = conn.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	if _, err := conn.Multipart(ctx, openflow.PartFlowMonitor, &openflow.FlowMonitorRequest{ID: 1, OutPort: openflow.PortAny, Table: openflow.AllTables,
		Flags: openflow.MonitorAdd | openflow.MonitorDelete | openflow.MonitorModify}); err != nil {
		t.Fatal(err)
	}
	f()
	if err := conn.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	return int(n.Load())
}

// What the agent changes itself, groups and meters included, is never taken for somebody else's work.
func TestOwnChangesAreNotForeign(t *testing.T) {
	t.Parallel()
	h := begin(t)
	before := h.status()
	const other = `
- {id: q1, key: 21, network: n2, mac: "fa:16:3e:00:02:01", fixed_ips: [{subnet: s2, address: 10.2.0.11}], port_security: true, host: h1, qos: {egress_kbps: 1000, ingress_pps: 500}, security_groups: [g]}
- {id: q2, key: 22, network: n2, mac: "fa:16:3e:00:02:02", fixed_ips: [{subnet: s2, address: 10.2.0.12}], host: h2}
`
	more := strings.Replace(twoPorts, "subnets:", "- {id: n2, key: 2}\nsubnets:\n- {id: s2, network: n2, cidr: 10.2.0.0/24, dhcp: true}", 1) + other[1:] +
		"security_groups:\n- {id: g, rules: [{id: r1, direction: EGRESS}, {id: r2, remote_set: g}]}\naddress_sets:\n- {id: g, addresses: [10.2.0.11, 10.2.0.12]}\n" +
		"routers:\n- {id: r, key: 1, interfaces: [{network: n1, mac: \"fa:16:3e:00:03:01\", addresses: [10.0.0.1/24]}, {network: n2, mac: \"fa:16:3e:00:03:02\", addresses: [10.2.0.1/24]}], routes: [{destination: 10.9.0.0/16, next_hops: [10.0.0.12, 10.2.0.12]}]}\n"
	for i := range 5 {
		h.Commit(snapshot(t, uint64(10+2*i), more))
		h.plug("q1", "q1")
		h.ready("q1")
		h.settled()
		h.Commit(snapshot(t, uint64(11+2*i), twoPorts))
		h.settled()
		h.ovs.Vsctl("del-port", "q1")
		h.settled()
	}
	if after := h.status(); after != before {
		t.Errorf("%d of its own changes were taken for somebody else's", after-before)
	}
}

// told waits until an alarm has been told to the reporter.
func (h *host) told(code string, over bool) *api.Alarm {
	h.t.Helper()
	var found *api.Alarm
	h.await(code+" is told", func() (bool, string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range h.reports {
			for _, m := range r.Alarms {
				if m.Code == code && m.Over == over {
					found = m
				}
			}
		}
		return found != nil, "it is not"
	})
	return found
}

// A state that does not know the host is one of others, or the host has another name there: who wonders why there are no tunnels is told.
func TestStateWithoutThisHost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.start()
	h.Commit(snapshot(t, 1, strings.ReplaceAll(twoPorts, "h1", "h7")))
	if a := h.told(alarmHost, false); a.Object != "h1" || !strings.Contains(a.Text, "h2, h7") {
		t.Errorf("alarm %s, want one of h1 that names h2 and h7", a)
	}
	h.Commit(snapshot(t, 2, twoPorts))
	h.told(alarmHost, true)
}

// A switch that is away is told of at once, though nothing else happens on the host, and that it is back too.
func TestAwaySwitchIsTold(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.ovs.KillSwitchd()
	if a := h.told(alarmSwitch, false); a.Object != "br-int" || !strings.Contains(a.Text, "ovs-vswitchd") {
		t.Errorf("alarm %s", a)
	}
	h.ovs.StartSwitchd()
	h.told(alarmSwitch, true)
	h.settled()
}

// Somebody who changes flows is told of until a comparison finds that he has stopped.
func TestForeignChangesAreTold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.cfg.AuditInterval = 300 * time.Millisecond
	h.start()
	h.Commit(snapshot(t, 1, twoPorts))
	h.settled()
	h.ovs.Ofctl("del-flows", h.ovs.Mgmt("br-int"), "table=5")
	h.told(alarmForeign, false)
	h.settled()
	h.told(alarmForeign, true)
}

// A bridge that somebody else has made is used as it is, but for what the flows need to outlive the agent, and the agent to speak to it.
func TestBridgeOfSomebodyElse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.ovs.Vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=dummy", "protocols=OpenFlow10", "fail_mode=standalone", "external_ids:whose=theirs")
	h.start()
	h.Commit(snapshot(t, 1, twoPorts))
	h.plug("d1", "p1")
	h.ready("d1")
	h.settled()
	if mode, protocols := h.column("Bridge", "br-int", "fail_mode"), h.column("Bridge", "br-int", "protocols"); mode != "secure" || !strings.Contains(protocols, "OpenFlow10") ||
		!strings.Contains(protocols, "OpenFlow13") || h.column("Bridge", "br-int", "external_ids:whose") != "theirs" {
		t.Errorf("fail_mode %s, protocols %s", mode, protocols)
	}
}

// A floating IP whose external network travels in tunnels is refused, until the network is a physical one.
func TestFloatingIPInTunnelsIsRefused(t *testing.T) {
	t.Parallel()
	h := begin(t)
	const floating = "floating_ips:\n- {id: f1, network: ext, router: r1, address: 203.0.113.5, mac: 'fa:16:3e:00:02:05', port: p1, fixed_ip: 10.0.0.11}\n"
	in := func(segment string) string {
		return strings.Replace(twoPorts, "networks:\n", "networks:\n- {id: ext, key: 9, external: true"+segment+"}\n", 1) + floating
	}
	h.Commit(snapshot(t, 2, in("")))
	if a := h.told(alarmFloating, false); a.Object != "f1" || !strings.Contains(a.Text, "VLAN or flat") {
		t.Errorf("alarm %s, want one of f1 that says what is wanted", a)
	}
	h.Commit(snapshot(t, 3, in(", segment: {kind: FLAT, physical_network: physnet1}")))
	h.told(alarmFloating, true)
}
