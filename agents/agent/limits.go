package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
)

// limits keeps the bounds of how many connections each zone may have in the datapath's tracker, which all guests of the host share. They are set and
// counted by commands of ovs-vswitchd (ovs-vswitchd(8), dpctl/ct-set-limits), which forgets them when it ends.
type limits struct {
	bridge string
	core   *core
	do     func(ctx context.Context, method string, args ...string) (string, error)
	wake   chan struct{}
	told   chan struct{} // alarms may have changed
	lost   atomic.Bool   // ovs-vswitchd may be another than the one that was told

	known bool // what the datapath has
	have  map[uint16]tracked
	mine  map[uint16]struct{} // zones that were ours since the agent began: only theirs are taken away
}

// tracked is what the datapath knows of a zone that has a bound.
type tracked struct{ limit, count uint32 }

func newLimits(cfg Config, c *core, told chan struct{}) *limits {
	return &limits{bridge: cfg.Bridge, core: c, do: cfg.command, wake: make(chan struct{}, 1), told: told, have: map[uint16]tracked{}, mine: map[uint16]struct{}{}}
}

// gatherFor is how long changes of zones are gathered: all zones are looked at for each.
const gatherFor = 20 * time.Millisecond

// again has all of it looked at: there is a new connection to the switch.
func (l *limits) again() {
	l.lost.Store(true)
	poke(l.wake)
}

// Run keeps the bounds until ctx ends.
func (l *limits) Run(ctx context.Context) error {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	for read := true; ; {
		err := l.step(ctx, read)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was to end
		}
		var retry <-chan time.Time
		if l.tell(err); err != nil {
			l.known = false
			if !errors.As(err, new(commandError)) { // ovs-vswitchd is not there: it comes back
				retry = time.After(time.Second)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
			select {
			case <-ctx.Done():
			case <-time.After(gatherFor):
			}
			read = l.lost.Swap(false)
		case <-ticker.C:
			read = true
		case <-retry:
			read = true
		}
	}
}

// tell tells of a datapath that takes no bounds. Everything else goes on without them.
func (l *limits) tell(err error) {
	if err == nil || errors.As(err, new(commandError)) { // that ovs-vswitchd is not there is told elsewhere
		l.core.alarm(err != nil, alarmUnbounded, l.bridge, "guests may fill the connection tracker, which all of them share: %v", err)
	}
	poke(l.told)
}

// step makes the datapath's bounds what they should be; with read, what it has is looked at first, and counted.
func (l *limits) step(ctx context.Context, read bool) error {
	datapath, want := l.core.bounds()
	if datapath == "" {
		return nil
	}
	for zone := range want {
		l.mine[zone] = struct{}{}
	}
	if read || !l.known {
		text, err := l.do(ctx, "dpctl/ct-get-limits", datapath)
		if err != nil {
			return err
		}
		l.have, l.known = readLimits(text), true
		l.core.countConnections(l.have)
	}
	return l.change(ctx, datapath, want)
}

// atOnce is how many zones one command is about.
const atOnce = 500

func (l *limits) change(ctx context.Context, datapath string, want map[uint16]uint32) error {
	var set, gone []string
	for _, zone := range slices.Sorted(maps.Keys(l.mine)) {
		has, there := l.have[zone]
		switch limit := want[zone]; {
		case limit != 0 && has.limit != limit:
			set = append(set, fmt.Sprintf("zone=%d,limit=%d", zone, limit))
		case limit == 0 && there:
			gone = append(gone, fmt.Sprint(zone))
		}
	}
	for chunk := range slices.Chunk(set, atOnce) {
		if _, err := l.do(ctx, "dpctl/ct-set-limits", append([]string{datapath}, chunk...)...); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(gone, atOnce) {
		if _, err := l.do(ctx, "dpctl/ct-del-limits", datapath, "zone="+strings.Join(chunk, ",")); err != nil {
			return err
		}
	}
	for zone := range l.mine {
		if limit, ours := want[zone]; limit != 0 {
			l.have[zone] = tracked{limit: limit, count: l.have[zone].count}
		} else if delete(l.have, zone); !ours {
			delete(l.mine, zone)
		}
	}
	return nil
}

// readLimits reads what dpctl/ct-get-limits says: a line "zone=N,limit=N,count=N" for each zone that has a bound of its own.
func readLimits(text string) map[uint16]tracked {
	out := map[uint16]tracked{}
	for line := range strings.Lines(text) {
		var zone uint16
		var t tracked
		if n, _ := fmt.Sscanf(line, "zone=%d,limit=%d,count=%d", &zone, &t.limit, &t.count); n == 3 {
			out[zone] = t
		}
	}
	return out
}

// bounds are how many connections each zone in use may have, 0 where there is no bound, and the datapath that they are for; "": it is not known yet.
// The zone of an external network has none: it is many tenants', whose connections are bounded before they come there.
func (c *core) bounds() (datapath string, of map[uint16]uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seen || c.mirror.id == "" {
		return "", nil
	}
	of = make(map[uint16]uint32, len(c.zones.of))
	for owner, zone := range c.zones.of {
		kind, id, _ := strings.Cut(owner, " ")
		switch {
		case kind == "port":
			of[zone] = c.cfg.PortConnections
		case strings.HasPrefix(id, state.NetworkZone("")):
			of[zone] = 0
		default:
			of[zone] = c.cfg.RouterConnections
		}
	}
	kind := c.mirror.datapath
	if kind == "" {
		kind = "system"
	}
	return kind + "@ovs-" + kind, of
}

// countConnections takes in how many connections zones have, and raises the alarms of those that may have no more.
func (c *core) countConnections(have map[uint16]tracked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connections, c.full = 0, 0
	stands := map[string]string{}
	for _, owner := range slices.Sorted(maps.Keys(c.zones.of)) {
		h, bounded := have[c.zones.of[owner]]
		if c.connections += uint64(h.count); !bounded || h.limit == 0 {
			continue
		}
		_, id, _ := strings.Cut(owner, " ")
		_, was := c.alarms.standing[alarmKey{alarmConnections, id}]
		if h.count >= h.limit {
			c.full++
		}
		if h.count >= h.limit || was && h.count >= h.limit-h.limit/10 { // not told anew each time that one of them ends
			stands[id] = fmt.Sprintf("the %s has the %d connections that it may have; no more are begun", describe(owner), h.limit)
		}
	}
	for k := range maps.Clone(c.alarms.standing) {
		if k.code == alarmConnections && stands[k.object] == "" {
			c.alarms.end(k.code, k.object)
		}
	}
	for id, text := range stands {
		c.alarms.set(true, alarmConnections, id, "%s", text)
	}
}

// describe is the owner of a zone in words.
func describe(owner string) string {
	kind, id, _ := strings.Cut(owner, " ")
	return map[string]string{"port": "port " + id, "snat": "router " + id + ", for sources that it translates,", "dnat": "router " + id + ", for floating IPs,"}[kind]
}
