package agent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
)

// gateways is a network outside, and routers with a gateway there.
func gateways(routers ...int) string {
	var text strings.Builder
	text.WriteString("hosts:\n- {id: h1, key: 1, tunnel_ends: [{address: 172.31.1.11}]}\nnetworks:\n- {id: out, key: 99, segment: {kind: VLAN, physical_network: physnet1, vlan: 100}, external: true}\nrouters:\n")
	for _, r := range routers {
		fmt.Fprintf(&text, "- {id: r%d, key: %d, gateway: {network: out, mac: 'fa:16:3e:01:00:%02x', addresses: [203.0.113.%d/24], hosts: [h1]}}\n", r, 1000+r, r, r)
	}
	return text.String()
}

// zonesMarked are the words that the bridge's row should have of zones.
func (c *core) zonesMarked() map[string]string {
	want := map[string]string{}
	c.store.Read(func(v *state.View) {
		for _, z := range state.All[*state.Zone](v, state.Index{List: state.ListAll, ID: state.KindZone.String()}) {
			want[z.ID] = fmt.Sprintf("%d,%d", z.Snat, z.Dnat)
		}
	})
	return want
}

// Of many zones only those are looked at that have changed; and none is forgotten while there is no bridge to tell, or when it could not be told.
func TestFewZonesAreLookedAt(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Host = "h1"
	c := newCore(cfg, time.Now)
	c.seen = true
	var all []int
	for i := range 100 {
		all = append(all, i+1)
	}
	c.take(news{commits: []Commit{snapshot(t, 1, gateways(all...))}})
	if m := c.marks(); len(m.zones)+len(m.ops) != 0 {
		t.Errorf("without a bridge, %d zones are looked at", len(m.zones))
	}
	c.mirror.id, c.mirror.ids, c.epoch = "b", map[string]string{}, 1
	m := c.marks()
	if len(m.zones) != 101 || len(m.ops) != 1 {
		t.Errorf("%d zones are looked at, in %d operations; want 101, in 1", len(m.zones), len(m.ops))
	}
	c.unmark(m) // the database did not take it
	if m = c.marks(); len(m.zones) != 101 || len(m.ops) != 1 {
		t.Errorf("again, %d zones are looked at, in %d operations; want 101, in 1", len(m.zones), len(m.ops))
	}
	c.marked(m)
	for owner, zones := range c.zonesMarked() {
		c.mirror.ids[keyZoneOf+owner] = zones
	}
	c.mirror.ids[keyEpoch] = "1"
	c.take(news{commits: []Commit{{Incarnation: "test", Revision: 2, Gone: []state.Ref{{Kind: state.KindRouter, ID: "r7"}}}}})
	if m = c.marks(); len(m.zones) != 1 || len(m.ops) != 1 {
		t.Errorf("when a router goes, %d zones are looked at, in %d operations; want 1, in 1", len(m.zones), len(m.ops))
	}
	delete(c.mirror.ids, keyZoneOf+"r7")
	c.take(news{commits: []Commit{{Incarnation: "test", Revision: 3}}})
	if m = c.marks(); len(m.zones)+len(m.ops) != 0 {
		t.Errorf("when nothing changes, %d zones are looked at, in %d operations", len(m.zones), len(m.ops))
	}
}

// The bridge's row has the zones of the routers that there are, whatever comes, goes, and is written there by others.
func TestZonesOfRouters(t *testing.T) {
	t.Parallel()
	h, _ := newFakeHost(t)
	right := func() {
		t.Helper()
		h.await("the zones are right", func() (bool, string) {
			ids := h.column("Bridge", "br0", "external_ids")
			got := map[string]string{}
			for pair := range strings.SplitSeq(strings.Trim(ids, "{}"), `", `) {
				if key, value, ok := strings.Cut(pair, "="); ok {
					if owner, ok := strings.CutPrefix(strings.Trim(key, `"`), keyZoneOf); ok {
						got[owner] = strings.Trim(value, `"`)
					}
				}
			}
			h.core.mu.Lock()
			defer h.core.mu.Unlock()
			return h.core.known && maps.Equal(got, h.core.zonesMarked()), ids
		})
	}
	var last Commit
	for i := range 12 {
		var routers []int
		for r := range 6 {
			if rand.IntN(2) == 0 {
				routers = append(routers, r+1)
			}
		}
		last = snapshot(t, uint64(i+1), gateways(routers...))
		h.Commit(last)
		switch rand.IntN(4) {
		case 0:
			h.ovs.Vsctl("--no-wait", "remove", "Bridge", "br0", "external_ids", fmt.Sprintf("hw-zone\\:r%d", 1+rand.IntN(6)))
		case 1:
			h.ovs.Vsctl("--no-wait", "set", "Bridge", "br0", fmt.Sprintf(`external_ids:"hw-zone:r%d"="1,2"`, 1+rand.IntN(6)))
		case 2:
			right()
		}
	}
	right()
	h.ovs.Vsctl("--no-wait", "set", "Bridge", "br0", `external_ids:"hw-zone:nobody"="1,2"`)
	h.restart(last)
	right()
}
