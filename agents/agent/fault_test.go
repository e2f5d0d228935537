package agent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
)

// newFakeHost is a host whose switch is one in memory, that fails when it is told to. Its database is a real one, to which the test writes what ovs-vswitchd would.
func newFakeHost(t testing.TB) (*host, *ovstest.FakeSwitch) {
	t.Helper()
	fake := ovstest.NewFake(t)
	h := &host{t: t, ovs: ovstest.NewDB(t), cfg: Default()}
	h.cfg.Host, h.cfg.Bridge, h.cfg.DatapathType, h.cfg.OVSDB, h.cfg.OVSRunDir = "h1", "br0", "dummy", h.ovs.Endpoint(), filepath.Dir(fake.Address)
	h.cfg.RunDir, h.cfg.StateDir, h.cfg.PuntRate = h.ovs.Dir, t.TempDir(), 50
	h.start()
	h.await("the bridge", func() (bool, string) { return h.column("Bridge", "br0", "fail_mode") == "secure", "" })
	for i, name := range []string{"d1", "d2"} {
		h.ovs.Vsctl("--no-wait", "add-port", "br0", name, "--", "set", "Interface", name, fmt.Sprintf("ofport=%d", i+1), fmt.Sprintf("external_ids:iface-id=p%d", i+1))
	}
	return h, fake
}

// faultless waits until the fake has the program's flows, groups and meters, and no others.
func (h *host) faultless(fake *ovstest.FakeSwitch) {
	h.t.Helper()
	h.await("the switch carries the program out", func() (bool, string) {
		have := &carried{flows: map[flows.FlowKey]flows.Flow{}, groups: map[uint32]string{}, meters: map[uint32]flows.Meter{}}
		for _, f := range fake.Flows() {
			instr, err := openflow.InstructionsKey(f.Instructions)
			if err != nil {
				return false, err.Error()
			}
			have.flows[flows.FlowKey{Table: flows.Table(f.Table), Priority: f.Priority, Match: f.Match.Key()}] = flows.Flow{Cookie: flows.Cookie(f.Cookie), Instructions: instr}
		}
		for _, g := range fake.Groups() {
			have.groups[g.Group] = groupKey(g.Type, g.Group, g.Buckets)
		}
		for _, m := range fake.Meters() {
			have.meters[m.Meter] = flows.Meter{Flags: m.Flags, Bands: m.Bands}
		}
		h.core.mu.Lock()
		defer h.core.mu.Unlock()
		if !h.core.ready() || h.core.applied != h.core.gen {
			return false, "not all is applied"
		}
		told := have.canary()
		d := compare(h.core.compiler, have, h.core.epoch)
		return d.size() == 0 && told.found, fmt.Sprintf("%d differences, canary %+v", d.size(), told)
	})
}

// Whatever goes wrong once, at whatever message, the switch ends with the program, and each port is told ready only when its flows are in.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]ovstest.Fault{
		"connection closed":         {Close: true},
		"carried out, then closed":  {Last: true},
		"answer late":               {Delay: 50 * time.Millisecond},
		"message refused":           {Refuse: &openflow.Error{Type: 5, Code: 1}},
		"carried out, answer alone": {Mute: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, fake := newFakeHost(t)
			var at, seen, hit atomic.Int64
			fake.Inject(func(m openflow.Message) ovstest.Fault {
				switch m.(type) {
				case *openflow.BundleAdd, *openflow.BundleControl, *openflow.MultipartRequest, *openflow.MeterMod, *openflow.BarrierRequest:
				default:
					return ovstest.Fault{}
				}
				_, add := m.(*openflow.BundleAdd)
				_, meter := m.(*openflow.MeterMod)
				if (fault.Mute || fault.Refuse != nil) && !add && !meter {
					return ovstest.Fault{}
				}
				if seen.Add(1) != at.Load() {
					return ovstest.Fault{}
				}
				hit.Add(1)
				return fault
			})
			text := twoPorts
			for i := range 12 {
				seen.Store(0)
				at.Store(int64(1 + rand.IntN(40)))
				text += fmt.Sprintf("- {id: x%d, key: %d, network: n1, mac: 'fa:16:3e:00:01:%02x', fixed_ips: [{subnet: s1, address: 10.0.0.%d}], host: h2}\n", i, 100+i, i, 100+i)
				h.Commit(snapshot(t, uint64(i+1), text))
				if fault.Refuse == nil {
					h.faultless(fake)
				} else if i == 0 { // the first work is long enough; what comes later may be one work, and short
					h.await("something is refused", func() (bool, string) { return hit.Load() > 0, "" })
				}
			}
			if fault.Refuse != nil {
				fake.Inject(nil)
				fake.Hangup() // a new connection tries everything again
				h.faultless(fake)
				h.told(alarmRefused, false)
				h.told(alarmRefused, true) // nothing is refused any more
			}
		})
	}
}

// A switch that restarts again and again is filled again and again.
func TestSwitchKeepsRestarting(t *testing.T) {
	t.Parallel()
	h, fake := newFakeHost(t)
	h.Commit(snapshot(t, 1, twoPorts))
	for range 10 {
		h.faultless(fake)
		fake.Restart()
	}
	h.faultless(fake)
}

// While the switch is slow, revisions add up: each is carried out, few bundles are sent.
func TestSlowSwitch(t *testing.T) {
	t.Parallel()
	h, fake := newFakeHost(t)
	h.Commit(snapshot(t, 1, twoPorts))
	h.faultless(fake)
	var bundles atomic.Int64
	hold := make(chan struct{})
	fake.Inject(func(m openflow.Message) ovstest.Fault {
		if c, ok := m.(*openflow.BundleControl); ok && c.Type == openflow.BundleCommit {
			if bundles.Add(1) == 1 {
				return ovstest.Fault{Until: hold}
			}
		}
		return ovstest.Fault{}
	})
	text := twoPorts
	for i := range 100 {
		text += fmt.Sprintf("- {id: x%d, key: %d, network: n1, mac: 'fa:16:3e:00:01:%02x', host: h2}\n", i, 100+i, i)
		h.Commit(snapshot(t, uint64(i+2), text))
		if i == 0 {
			h.await("the first bundle", func() (bool, string) { return bundles.Load() == 1, "" })
		}
	}
	h.await("all revisions are looked at", func() (bool, string) {
		h.core.mu.Lock()
		defer h.core.mu.Unlock()
		return h.core.revision == 101, fmt.Sprint(h.core.revision)
	})
	close(hold)
	h.faultless(fake)
	if n := bundles.Load(); n > 4 {
		t.Errorf("%d bundles for 100 revisions behind a slow one, want two or three", n)
	}
}

// kill -9 of everything, at random, in any order: in the end the switch carries the program out.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	h := begin(t)
	text := twoPorts
	for i := range 15 {
		text += fmt.Sprintf("- {id: x%d, key: %d, network: n1, mac: 'fa:16:3e:00:01:%02x', host: h2}\n", i, 100+i, i)
		c := snapshot(t, uint64(i+2), text)
		h.Commit(c)
		if rand.IntN(2) == 0 {
			<-time.After(time.Duration(rand.IntN(30)) * time.Millisecond) // at any point of what the agent does
		}
		switch rand.IntN(4) {
		case 0:
			h.ovs.KillSwitchd()
			h.ovs.StartSwitchd()
		case 1:
			h.ovs.KillDB()
			h.ovs.StartDB()
		case 2:
			h.restart(c)
		case 3:
			h.ovs.KillDB()
			h.ovs.KillSwitchd()
			h.ovs.StartDB()
			h.ovs.StartSwitchd()
			h.restart(c)
		}
	}
	h.settled()
	h.ready("d1")
}

// With RestoreWait a switch that starts forwards nothing until it is filled, and an agent that ends in order leaves none that waits.
func TestRestoreWait(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.cfg.RestoreWait = true
	h.start()
	h.Commit(snapshot(t, 1, twoPorts))
	waits := func() string {
		return strings.TrimSpace(h.ovs.Vsctl("--if-exists", "get", "Open_vSwitch", ".", "other_config:flow-restore-wait"))
	}
	h.await("the next start will wait", func() (bool, string) { return waits() == `"true"`, waits() })
	h.settled()
	h.ovs.KillSwitchd()
	h.ovs.StartSwitchd()
	h.settled()
	h.plug("d1", "p1")
	h.ready("d1")
	h.await("the next start will wait again", func() (bool, string) { return waits() == `"true"`, waits() })
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if got := waits(); got != "" {
		t.Errorf("after the agent has ended, flow-restore-wait is %s", got)
	}
	h.start()
}

// An agent that has died leaves its socket: the next one takes the place. A run directory that cannot be used ends the agent with a word about it.
func TestRunDirectory(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.cfg.RunDir = filepath.Join(h.ovs.Dir, "file")
	if err := os.WriteFile(h.cfg.RunDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(h.cfg, Parts{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "run directory") {
		t.Errorf("it ended with %v", err)
	}
}

// A zone is emptied before a port gets it, also where the connection to the switch ends just then: no comparison of flows would tell that it was not.
func TestZonesAreEmptiedInTheEnd(t *testing.T) {
	t.Parallel()
	h, fake := newFakeHost(t)
	var lost sync.Once
	emptied := make(chan uint16, 64)
	fake.Inject(func(m openflow.Message) (f ovstest.Fault) {
		if flush, ok := m.(*openflow.CTFlushZone); ok {
			lost.Do(func() { f.Close = true })
			if !f.Close {
				emptied <- flush.Zone
			}
		}
		return f
	})
	h.Commit(snapshot(t, 1, twoPorts))
	h.faultless(fake)
	close(emptied)
	seen := map[uint16]bool{}
	for zone := range emptied {
		seen[zone] = true
	}
	h.core.mu.Lock()
	defer h.core.mu.Unlock()
	for owner, zone := range h.core.zones.of {
		if !seen[zone] {
			t.Errorf("zone %d of %s was not emptied", zone, owner)
		}
	}
	if len(h.core.zones.of) == 0 {
		t.Error("nobody has a zone")
	}
}
