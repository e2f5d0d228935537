package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/state"
)

// tracker is a datapath's bounds of connections, which can be lost and can fail.
type tracker struct {
	zones map[uint16]tracked
	fail  error
}

func (d *tracker) do(_ context.Context, method string, args ...string) (string, error) {
	if d.fail != nil {
		return "", d.fail
	}
	if args[0] != "netdev@ovs-netdev" {
		return "", commandError("no such datapath: " + args[0])
	}
	var out strings.Builder
	out.WriteString("default limit=0")
	for _, arg := range args[1:] {
		var zone uint16
		var limit uint32
		if list, ok := strings.CutPrefix(arg, "zone="); ok && method == "dpctl/ct-del-limits" {
			for z := range strings.SplitSeq(list, ",") {
				if _, err := fmt.Sscan(z, &zone); err != nil {
					return "", commandError(err.Error())
				}
				delete(d.zones, zone)
			}
			continue
		}
		if _, err := fmt.Sscanf(arg, "zone=%d,limit=%d", &zone, &limit); err != nil {
			return "", commandError(err.Error())
		}
		d.zones[zone] = tracked{limit: limit, count: d.zones[zone].count}
	}
	for zone, t := range d.zones {
		fmt.Fprintf(&out, "\nzone=%d,limit=%d,count=%d", zone, t.limit, t.count)
	}
	return out.String(), nil
}

// Whatever comes and goes, is lost and fails: once a step has gone through, each zone in use has the bound of who has it, no other zone of ours has one, and
// those of others are as they were.
func TestBoundsFollowZones(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := Default()
		cfg.PortConnections, cfg.RouterConnections = rapid.SampledFrom([]uint32{0, 100}).Draw(t, "ports'"), 400
		now := time.Unix(0, 0)
		c := newCore(cfg, func() time.Time { return now })
		c.seen, c.mirror.id, c.mirror.datapath = true, "x", "netdev"
		c.zones.next = 60_000
		d := &tracker{zones: map[uint16]tracked{59_000: {limit: 7}}}
		l := newLimits(cfg, c, make(chan struct{}, 1))
		l.do = d.do
		owners := []string{"port a", "port b", "port c", "snat r", "dnat r", "snat " + state.NetworkZone("n")}
		read := true
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch owner := rapid.SampledFrom(owners).Draw(t, "owner"); rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				c.zones.take(owner)
			case 3:
				c.release(owner)
			case 4:
				now = now.Add(quarantine)
				c.zones.next = 60_000 // zones are given to others soon
			case 5:
				d.zones, read = map[uint16]tracked{59_000: {limit: 7}}, true
			}
			d.fail = rapid.SampledFrom([]error{nil, nil, errors.New("not there"), commandError("no")}).Draw(t, "failure")
			if err := l.step(t.Context(), read); err != nil {
				l.known = false
				continue
			}
			read = false
			want := map[uint16]tracked{59_000: {limit: 7}}
			for owner, zone := range c.zones.of {
				limit := cfg.RouterConnections
				if strings.HasPrefix(owner, "port ") {
					limit = cfg.PortConnections
				}
				if limit != 0 && !strings.Contains(owner, state.NetworkZone("")) {
					want[zone] = tracked{limit: limit}
				}
			}
			if !maps.Equal(d.zones, want) {
				t.Fatalf("the datapath has %v, want %v of %v", d.zones, want, c.zones.of)
			}
		}
	})
}

// Who has all its connections is told of once, until it has clearly fewer.
func TestFullZones(t *testing.T) {
	t.Parallel()
	cfg := Default()
	c := newCore(cfg, time.Now)
	c.zones.keep("port a", 5)
	c.zones.keep("dnat r", 6)
	for _, tt := range []struct {
		count uint32
		full  bool
		news  int
	}{{99, false, 0}, {100, true, 1}, {95, true, 0}, {100, true, 0}, {89, false, 1}, {100, true, 1}} {
		c.countConnections(map[uint16]tracked{5: {100, tt.count}, 6: {1000, 10}, 7: {1, 1}})
		_, stands := c.alarms.standing[alarmKey{alarmConnections, "a"}]
		if news := c.alarms.told(false); stands != tt.full || len(news) != tt.news {
			t.Errorf("%d of 100 connections: alarm %t, news %v; want %t and %d", tt.count, stands, news, tt.full, tt.news)
		}
	}
	if len(c.alarms.standing) != 1 || c.connections != 110 || c.full != 1 {
		t.Errorf("alarms %v, %d connections, %d full", c.alarms.standing, c.connections, c.full)
	}
}

// A datapath that takes no bounds is told of once; one that is not there just now is told of elsewhere.
func TestDatapathWithoutBounds(t *testing.T) {
	t.Parallel()
	cfg := Default()
	c := newCore(cfg, time.Now)
	c.seen, c.mirror.id = true, "x"
	l := newLimits(cfg, c, make(chan struct{}, 1))
	refused := commandError("failed to get conntrack limit Operation not supported")
	for i, tt := range []struct {
		err    error
		alarms int
		news   int
	}{{errors.New("no socket"), 0, 0}, {refused, 1, 1}, {refused, 1, 0}, {errors.New("no socket"), 1, 0}, {nil, 0, 1}} {
		l.do = func(context.Context, string, ...string) (string, error) { return "", tt.err }
		l.tell(l.step(t.Context(), true))
		if news := c.alarms.told(false); len(c.alarms.standing) != tt.alarms || len(news) != tt.news {
			t.Errorf("after %d steps: alarms %v, news %v; want %d and %d", i+1, c.alarms.standing, news, tt.alarms, tt.news)
		}
	}
}

// With a real ovs-vswitchd: each port's zone has its bound, also after ovs-vswitchd has forgotten all of them; it goes with the port, and another
// bound comes with another configuration.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.cfg.PortConnections = 1234
	h.start()
	h.Commit(snapshot(t, 1, twoPorts))
	bounded := func(what string, want ...uint32) {
		t.Helper()
		h.await(what, func() (bool, string) {
			text, err := h.ovs.Try("ovs-appctl", "-t", h.ovs.Dir+"/vswitchd.ctl", "dpctl/ct-get-limits", "dummy@ovs-dummy")
			if err != nil {
				return false, err.Error()
			}
			var have []uint32
			for _, t := range readLimits(text) {
				have = append(have, t.limit)
			}
			return slices.Equal(have, want), text
		})
	}
	h.await("the bridge", func() (bool, string) { return h.column("Bridge", "br-int", "fail_mode") == "secure", "" })
	h.plug("d1", "p1")
	h.plug("d2", "p2")
	bounded("two ports' bounds", 1234, 1234)
	h.ovs.KillSwitchd()
	h.ovs.StartSwitchd()
	bounded("the bounds after ovs-vswitchd has restarted", 1234, 1234)
	h.ovs.Vsctl("del-port", "d2")
	bounded("the bound of the port that is left", 1234)
	h.ready("d1")
	h.cfg.PortConnections = 4321
	h.restart(snapshot(t, 1, twoPorts))
	bounded("the bound of another configuration", 4321)
	h.cfg.PortConnections = 0
	h.restart(snapshot(t, 1, twoPorts))
	bounded("no bound")
}
