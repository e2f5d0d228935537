package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/headwater-cloud/headwater/agents/ovsdb"
	"github.com/headwater-cloud/headwater/agents/state"
)

// writer changes the switch's database: the bridge and the agent's own ports, and what it notes on the rows of others.
type writer struct {
	cfg  Config
	log  *slog.Logger
	core *core
	db   *ovsdb.Client
	wake chan struct{}
	// wiring says that bridges or our own ports have changed, or what they should be.
	wiring atomic.Bool
}

// Run writes what is to be written until ctx ends. One transaction takes all that has added up since the one before.
func (w *writer) Run(ctx context.Context) error {
	restored, said := uint16(0), ""
	for {
		again, err := w.step(ctx, &restored)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was to end
		}
		var retry <-chan time.Time
		w.core.alarm(err != nil, alarmDatabase, w.cfg.Bridge, "%v", err)
		if err != nil {
			if err.Error() != said {
				w.log.WarnContext(ctx, "switch's database was not written", "bridge", w.cfg.Bridge, "err", err)
			}
			said, retry = err.Error(), time.After(time.Second)
		} else if again {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-retry:
		}
	}
}

// step makes at most one transaction of each kind, and says whether there may be more to do.
func (w *writer) step(ctx context.Context, restored *uint16) (again bool, err error) {
	if !w.core.databaseSeen() {
		return false, nil
	}
	if w.wiring.Swap(false) {
		if err := w.wire(ctx); err != nil {
			w.wiring.Store(true)
			return false, fmt.Errorf("wire the bridge: %w", err)
		}
	}
	m := w.core.marks()
	if len(m.ops) > 0 {
		if _, err := w.db.Transact(ctx, m.ops...); err != nil {
			w.core.unmark(m)
			return false, fmt.Errorf("note what is ready: %w", err)
		}
		w.core.marked(m)
		return true, nil
	}
	if m.epoch != 0 && m.epoch != *restored {
		if err := w.restore(ctx); err != nil {
			return false, fmt.Errorf("flow-restore-wait: %w", err)
		}
		*restored = m.epoch
	}
	return false, nil
}

// wire makes the bridge and its ports what they should be. The transaction changes what it looked at, so that it is looked at again.
func (w *writer) wire(ctx context.Context) error {
	ops, problems := wire(w.db.View(), w.cfg, w.core.wantsNow())
	w.core.problems(problems)
	if len(ops) == 0 {
		return nil
	}
	if _, err := w.db.Transact(ctx, ops...); err != nil {
		return err
	}
	w.log.InfoContext(ctx, "bridge was wired", "bridge", w.cfg.Bridge, "operations", len(ops))
	return nil
}

const restoreWait = "flow-restore-wait"

// restore tells a switch that has waited for its flows that they are in, and, where that is wanted, has it wait again the next time
// that it starts. ovs-vswitchd looks at the key until it is gone once.
func (w *writer) restore(ctx context.Context) error {
	sw, ok := ovsdb.Find(w.db.View(), func(switchRow) bool { return true })
	waits := ok && sw.OtherConfig[restoreWait] == "true"
	if !ok || !waits && !w.cfg.RestoreWait {
		return nil
	}
	if waits {
		results, err := w.db.Transact(ctx, ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "other_config", Mutator: "delete", Value: []string{restoreWait}}),
			ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "next_cfg", Mutator: "+=", Value: 1}), ovsdb.Select("Open_vSwitch", nil, "next_cfg"))
		if err != nil {
			return err
		}
		if err := w.done(ctx, ovsdb.As[ovsdb.OpenVSwitch](results[2].Rows[0]).NextCfg); err != nil {
			return err
		}
	}
	if !w.cfg.RestoreWait {
		return nil
	}
	_, err := w.db.Transact(ctx, ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "other_config", Mutator: "insert", Value: map[string]string{restoreWait: "true"}}))
	return err
}

// done waits until ovs-vswitchd has taken a change in.
func (w *writer) done(ctx context.Context, want int64) error {
	for {
		results, err := w.db.Transact(ctx, ovsdb.Select("Open_vSwitch", nil, "cur_cfg"))
		if err != nil {
			return err
		}
		if len(results[0].Rows) == 1 && ovsdb.As[ovsdb.OpenVSwitch](results[0].Rows[0]).CurCfg >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// leave lets a switch that restarts while the agent is stopped start without it. Its flows are gone then, but other bridges go on.
func (w *writer) leave(ctx context.Context) error {
	if !w.cfg.RestoreWait || !w.db.Connected() {
		return nil
	}
	_, err := w.db.Transact(ctx, ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "other_config", Mutator: "delete", Value: []string{restoreWait}}))
	return err
}

func (c *core) databaseSeen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

func (c *core) wantsNow() wants {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wants()
}

// problems raises the alarms of the wiring, and ends those that are over.
func (c *core) problems(list []problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer poke(c.alarmed)
	for id := range c.mirror.own {
		row := c.mirror.interfaces[id]
		if p := row.problem(); p != "" {
			list = append(list, problem{alarmTunnel, row.Name, p})
		}
	}
	stands := map[alarmKey]bool{}
	for _, p := range list {
		stands[alarmKey{p.code, p.object}] = true
		c.alarms.set(true, p.code, p.object, "%s", p.text)
	}
	for k := range c.alarms.standing {
		if (k.code == alarmBridge || k.code == alarmTunnel || k.code == alarmSource || k.code == alarmHost) && !stands[k] {
			c.alarms.end(k.code, k.object)
		}
	}
}

// marks are what the database is to be told of ports, routers and the epoch.
type marks struct {
	ops    []ovsdb.Op
	ready  map[string]ovsdb.UUID // ports, and the interface that was marked
	looked map[string]struct{}   // ports that this is about
	left   map[ovsdb.UUID]struct{}
	zones  map[string]struct{} // and state.Zones
	epoch  uint16
}

// marks writes down which ports are ready, and who has which zone. A port's zone stands on its interface, and goes with it.
func (c *core) marks() marks {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := marks{ready: map[string]ovsdb.UUID{}, epoch: c.epoch}
	values := map[ovsdb.UUID]map[string]string{}
	if !c.known {
		return m
	}
	m.looked, m.left = c.unmarked, c.left
	c.unmarked, c.left = map[string]struct{}{}, map[ovsdb.UUID]struct{}{}
	for id := range m.looked {
		p := c.plugged[id]
		if p == nil || p.marked || !p.ready {
			continue
		}
		row, ok := c.mirror.interfaces[p.iface]
		if !ok {
			continue
		}
		if values[p.iface] == nil {
			values[p.iface] = map[string]string{}
		}
		zone := strconv.Itoa(int(c.zones.of["port "+id]))
		if row.ExternalIDs[keyIfaceID] == id {
			values[p.iface][keyZone], values[p.iface][keyReady] = zone, strconv.FormatUint(c.done.revision, 10)
		} else {
			values[p.iface][keyZoneOf+id] = zone
		}
		m.ready[id] = p.iface
	}
	for _, iface := range slices.Sorted(maps.Keys(values)) {
		m.ops = append(m.ops, setKeys("Interface", iface, c.mirror.interfaces[iface].ExternalIDs, values[iface], nil)...)
	}
	m.ops = append(m.ops, c.forsaken(m)...)
	m.ops = append(m.ops, c.unready(m.looked)...)
	m.ops = append(m.ops, c.bridgeMarks(&m)...)
	return m
}

// forsaken takes the zones off interfaces that are those of subports that are not plugged by them any more: subports come and go while their parent stays. One
// that a restart found there, and that nobody is, is given back.
func (c *core) forsaken(m marks) (ops []ovsdb.Op) {
	ifaces := maps.Clone(m.left)
	for id := range m.looked {
		if p := c.plugged[id]; p != nil {
			ifaces[p.iface] = struct{}{}
		}
	}
	for _, iface := range slices.Sorted(maps.Keys(ifaces)) {
		row := c.mirror.interfaces[iface]
		var gone []string
		for owner := range zonesIn(row.ExternalIDs) {
			p := c.plugged[owner]
			if owner == "" || p != nil && p.iface == iface {
				continue
			}
			if gone = append(gone, keyZoneOf+owner); p == nil {
				c.release("port " + owner)
			}
		}
		slices.Sort(gone)
		if len(gone) > 0 {
			ops = append(ops, setKeys("Interface", iface, row.ExternalIDs, nil, gone)...)
		}
	}
	return ops
}

// unready takes the word back of interfaces whose port is not what they were ready for.
func (c *core) unready(looked map[string]struct{}) (ops []ovsdb.Op) {
	for ifaceID := range looked {
		for id := range c.mirror.byIfaceID[ifaceID] {
			row := c.mirror.interfaces[id]
			if row.ExternalIDs[keyReady] == "" {
				continue
			}
			if p := c.plugged[ifaceID]; p == nil || p.iface != id || p.gen == 0 {
				ops = append(ops, setKeys("Interface", id, row.ExternalIDs, nil, []string{keyReady})...)
			}
		}
	}
	return ops
}

// bridgeMarks tells the bridge's row of the epoch, and of zones, which the row has as long as they are there.
func (c *core) bridgeMarks(m *marks) []ovsdb.Op {
	if c.mirror.id == "" || c.epoch == 0 {
		return nil // the zones stay noted
	}
	m.zones, c.unzoned = c.unzoned, map[string]struct{}{}
	want := map[string]string{keyEpoch: strconv.Itoa(int(c.epoch))}
	var gone []string
	c.store.Read(func(v *state.View) {
		for id := range m.zones {
			key := keyZoneOf + id
			if z := state.Find[*state.Zone](v, id); z != nil {
				want[key] = fmt.Sprintf("%d,%d", z.Snat, z.Dnat)
			} else if _, there := c.mirror.ids[key]; there && id != "" {
				gone = append(gone, key)
			}
		}
	})
	slices.Sort(gone)
	return setKeys("Bridge", c.mirror.id, c.mirror.ids, want, gone)
}

// setKeys are the operations that set keys of a row's external_ids, of which it has some, and take others away; none where it is so already.
func setKeys(table string, id ovsdb.UUID, has, want map[string]string, gone []string) []ovsdb.Op {
	set := map[string]string{}
	for k, v := range want {
		if has[k] != v {
			set[k] = v
			if _, there := has[k]; there {
				gone = append(gone, k)
			}
		}
	}
	var mutations []ovsdb.Mutation
	if len(gone) > 0 {
		mutations = append(mutations, ovsdb.Mutation{Column: "external_ids", Mutator: "delete", Value: gone})
	}
	if len(set) > 0 {
		mutations = append(mutations, ovsdb.Mutation{Column: "external_ids", Mutator: "insert", Value: set})
	}
	if len(mutations) == 0 {
		return nil
	}
	return []ovsdb.Op{ovsdb.Mutate(table, ovsdb.ByID(id), mutations...)}
}

// unmark has the ports looked at again: what was to be written of them may not be.
func (c *core) unmark(m marks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.unmarked, m.looked)
	maps.Copy(c.left, m.left)
	maps.Copy(c.unzoned, m.zones)
}

// marked notes that a transaction is made.
func (c *core) marked(m marks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, iface := range m.ready {
		if p := c.plugged[id]; p != nil && p.iface == iface {
			p.marked = true
		}
	}
}
