package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/api"
)

// A port that is taken away from its host is not ready any more, and is again when it comes back.
func TestReadyGoesAndComesBack(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.Commit(snapshot(t, 2, strings.ReplaceAll(twoPorts, "port_security: true, host: h1", "port_security: true, host: h2")))
	h.await("d1 is not ready", func() (bool, string) {
		ids := h.column("Interface", "d1", "external_ids")
		return !strings.Contains(ids, keyReady), ids
	})
	h.settled()
	h.Commit(snapshot(t, 3, twoPorts))
	h.ready("d1")
	if got := h.column("Interface", "d1", "external_ids:hw-ready"); got != "3" {
		t.Errorf("d1 is ready with revision %q, want 3", got)
	}
}

// A subport is plugged by its parent's interface, with a zone of its own that the agent finds again.
func TestSubports(t *testing.T) {
	t.Parallel()
	h := begin(t)
	const trunk = twoPorts + "- {id: sub, key: 9, network: n1, mac: 'fa:16:3e:00:00:09', parent: p1, parent_vlan: 5, host: h1}\n"
	h.Commit(snapshot(t, 2, trunk))
	zone := ""
	h.await("the subport's zone", func() (bool, string) {
		zone = h.column("Interface", "d1", `external_ids:"hw-zone:sub"`)
		return zone != "", h.column("Interface", "d1", "external_ids")
	})
	h.settled()
	h.restart(snapshot(t, 2, trunk))
	h.settled()
	if got := h.column("Interface", "d1", `external_ids:"hw-zone:sub"`); got != zone {
		t.Errorf("the zone of the subport was %s and is %s", zone, got)
	}
	h.core.mu.Lock()
	defer h.core.mu.Unlock()
	if got := fmt.Sprint(h.core.zones.of["port sub"]); got != zone {
		t.Errorf("the agent took zone %s, want %s of before", got, zone)
	}
}

// Subports come and go while their parent stays: nothing of them is left in the database, nor by a restart among the zones that are taken.
func TestSubportsLeaveNothing(t *testing.T) {
	t.Parallel()
	const sub = "- {id: sub, key: 9, network: n1, mac: 'fa:16:3e:00:00:09', parent: p1, parent_vlan: 5, host: h1}\n"
	for name, restart := range map[string]bool{"while the agent runs": false, "while none runs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := begin(t)
			h.Commit(snapshot(t, 2, twoPorts+sub))
			h.await("the subport's zone", func() (bool, string) {
				ids := h.column("Interface", "d1", "external_ids")
				return strings.Contains(ids, keyZoneOf+"sub"), ids
			})
			h.settled()
			if restart {
				h.restart(snapshot(t, 3, twoPorts))
			} else {
				h.Commit(snapshot(t, 3, twoPorts))
			}
			h.await("nothing of the subport", func() (bool, string) {
				ids := h.column("Interface", "d1", "external_ids")
				return !strings.Contains(ids, keyZoneOf+"sub") && strings.Contains(ids, keyZone), ids
			})
			h.settled()
			h.core.mu.Lock()
			defer h.core.mu.Unlock()
			if zone := h.core.zones.of["port sub"]; zone != 0 {
				t.Errorf("zone %d is still the subport's", zone)
			}
		})
	}
}

// A router that goes while no agent runs leaves no zones behind, and one that stays keeps its own: its connections go on.
func TestZonesOfRoutersAfterARestart(t *testing.T) {
	t.Parallel()
	h := begin(t)
	network := strings.Replace(twoPorts, "networks:\n", "networks:\n- {id: ext, key: 9, external: true, segment: {kind: FLAT, physical_network: physnet1}}\n", 1) + "routers:\n"
	router := func(id string, key int) string {
		return fmt.Sprintf("- {id: %s, key: %d, gateway: {network: ext, mac: 'fa:16:3e:00:09:0%d', addresses: [203.0.113.%d/24], snat: SNAT_GATEWAY, hosts: [h1]}}\n", id, key, key, key)
	}
	h.Commit(snapshot(t, 2, network+router("r1", 1)+router("r2", 2)))
	zone := func(id string) string { return h.column("Bridge", "br-int", `external_ids:"hw-zone:`+id+`"`) }
	h.await("zones", func() (bool, string) {
		return zone("r1") != "" && zone("r2") != "", h.column("Bridge", "br-int", "external_ids")
	})
	h.settled()
	was := zone("r1")
	h.restart(snapshot(t, 3, network+router("r1", 1)))
	h.await("no zones of r2", func() (bool, string) { return zone("r2") == "", zone("r2") })
	h.settled()
	if got := zone("r1"); got != was {
		t.Errorf("the zones of r1 were %s and are %s", was, got)
	}
	h.core.mu.Lock()
	defer h.core.mu.Unlock()
	for owner, zone := range h.core.zones.of {
		if strings.HasSuffix(owner, " r2") {
			t.Errorf("zone %d is still that of %s", zone, owner)
		}
	}
}

// What goes up says of each port once what has changed.
func TestReports(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.ovs.Vsctl("del-port", "d2")
	h.plug("d3", "p2", "external_ids:attached-mac=\"fa:16:3e:ff:ff:ff\"")
	h.await("p2 is at odds with its device", func() (bool, string) {
		last := map[string]*api.PortStatus{}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range h.reports {
			for _, p := range r.Ports {
				last[p.Port] = p
			}
		}
		p1, p2 := last["p1"], last["p2"]
		ok := p1.GetPlugged() && p1.GetReady() && p2.GetPlugged() && strings.Contains(p2.GetError(), "fa:16:3e:ff:ff:ff")
		return ok, fmt.Sprint(last)
	})
	h.plug("d4", "", "options:nonsense=1", "type=nonsense", "external_ids:iface-id=p9")
	h.await("the switch's words about d4", func() (bool, string) {
		for _, a := range h.Status().Alarms {
			if a.Code == alarmInterface && a.Object == "p9" {
				return true, ""
			}
		}
		return false, fmt.Sprint(h.Status().Alarms)
	})
}

// A check of a trace is the switch's own words.
func TestTraceCheck(t *testing.T) {
	t.Parallel()
	h := begin(t)
	frame := append([]byte{0xfa, 0x16, 0x3e, 0, 0, 2, 0xfa, 0x16, 0x3e, 0, 0, 1, 8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 11, 10, 0, 0, 12}, make([]byte, 26)...)
	for i, tt := range []struct {
		check *api.TraceCheck
		want  string
	}{
		{&api.TraceCheck{Port: "p1", Frame: frame}, "Datapath actions"},
		{&api.TraceCheck{Port: "nobody", Frame: frame}, "not plugged"},
	} {
		h.Request(&api.ToAgent{Message: &api.ToAgent_Request{Request: &api.Request{Id: uint64(i + 1), What: &api.Request_TraceCheck{TraceCheck: tt.check}}}})
		h.await("the answer", func() (bool, string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, a := range h.answers {
				if a.Id == uint64(i+1) {
					return strings.Contains(a.GetTraceResult().GetText()+a.GetError(), tt.want), a.String()
				}
			}
			return false, "none"
		})
	}
}

// Packets of a port are watched until the limit is reached, each up to where it ends; then nothing of that is left in the switch.
func TestLift(t *testing.T) {
	t.Parallel()
	h := begin(t)
	request := func(id uint64, arm *api.TraceArm) {
		h.Request(&api.ToAgent{Message: &api.ToAgent_Request{Request: &api.Request{Id: id, What: &api.Request_TraceArm{TraceArm: arm}}}})
	}
	lifted := func(id uint64) (points []string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, a := range h.answers {
			if l := a.GetTraceLifted(); a.Id == id && l != nil {
				points = append(points, l.Point+" "+l.Port)
			}
		}
		return points
	}
	request(1, &api.TraceArm{Slot: 7, Port: "p1", Limit: 1, Filter: &api.TraceFilter{Destination: "10.0.0.12", Protocol: 1}})
	h.await("the tap", func() (bool, string) {
		out := h.ovs.Run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", h.ovs.Mgmt("br-int"), "table=2")
		return strings.Contains(out, "nw_dst=10.0.0.12"), out
	})
	const ping = "in_port(1),eth(src=fa:16:3e:00:00:01,dst=fa:16:3e:00:00:02),eth_type(0x0800),ipv4(src=10.0.0.11,dst=10.0.0.12,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)"
	h.ovs.Appctl("netdev-dummy/receive", "d1", ping)
	h.await("a copy of the ping", func() (bool, string) {
		points := lifted(1)
		return len(points) == 2 && points[0] == "in p1" && points[1] == "dropped p1", fmt.Sprint(points)
	})
	h.await("the tap is gone", func() (bool, string) {
		out := h.ovs.Run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", h.ovs.Mgmt("br-int"), "table=2")
		return !strings.Contains(out, "nw_dst=10.0.0.12"), out
	})
	request(2, &api.TraceArm{Slot: 8, Port: "p9", Filter: &api.TraceFilter{Source: "10.0.0.1", Destination: "fd00::1"}})
	h.await("a refusal", func() (bool, string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, a := range h.answers {
			if a.Id == 2 {
				return strings.Contains(a.Error, "two families"), a.Error
			}
		}
		return false, "none"
	})
}
