package agent

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovsdb"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Commit is a revision of the desired state, or what brings the state to one.
type Commit struct {
	Incarnation string
	Revision    uint64
	Snapshot    bool // what is not in Set is no more
	Set         []state.Object
	Gone        []state.Ref
}

// core is what the host should be: the replica of the desired state, what is plugged, and the program that both make. What it is told of at one time is
// taken in at one time; what the switch is to change adds up until the switch has room.
type core struct {
	cfg     Config
	now     func() time.Time
	alarmed chan struct{} // an alarm begins or ends that nothing else comes of

	mu       sync.Mutex // guards the fields below
	store    *state.Store
	compiler *flows.Compiler
	mirror   *mirror
	zones    *zones
	alarms   *alarms

	known       bool // the desired state, of some revision
	seen        bool // the switch's database
	incarnation string
	revision    uint64

	pending flows.Pending      // not sent yet
	since   time.Time          // when the first of pending was told
	flush   []uint16           // zones to be emptied before pending is sent
	forget  []openflow.Message // of connections, once pending is carried out
	handed  struct {           // what of both the switch was told of, and has not answered for yet
		flush  []uint16
		forget []openflow.Message
	}
	gen     uint64   // of the program; rises with each change
	applied uint64   // the generation that the switch carries out
	epoch   uint16   // that the switch is in; 0: not filled yet
	foreign uint64   // changes by others that were mended
	audited uint64   // of them, those up to the last comparison of all
	done    struct { // what of the desired state the switch carries out
		incarnation string
		revision    uint64
	}
	revisions []generation            // not applied yet
	plugged   map[string]*plugging    // by port
	unmarked  map[string]struct{}     // ports of which the database may have to be told
	unzoned   map[string]struct{}     // ids of state.Zone of which the bridge's row may have to be told
	left      map[ovsdb.UUID]struct{} // interfaces that a port is not plugged by any more
	untold    map[string]struct{}     // ports of which the reporter may have to be told
	compiling time.Duration           // in all
	steps     uint64
	drops     map[string]uint64 // packets by reason
	// Of zones that have a bound, when they were last counted: connections, and zones that may have no more.
	connections uint64
	full        int
	learned     map[state.Ref]struct{} // neighbours found here: not part of what snapshots say
	unsaid      []state.Change         // taken in, not carried out
	saying      []state.Change         // handed to the switch
}

// generation says with which generation of the program a revision is carried out.
type generation struct {
	gen         uint64
	incarnation string
	revision    uint64
}

// plugging is a port that is plugged here, or should be.
type plugging struct {
	iface  ovsdb.UUID
	name   string
	gen    uint64 // with which its flows are in; 0: nothing is known of the port
	marked bool   // hw-ready stands in the database, with its zone
	rivals []string
	error  string
	epoch  uint64 // binding epoch
	ready  bool   // its flows are in
}

func newCore(cfg Config, now func() time.Time) *core {
	return &core{cfg: cfg, now: now, store: state.NewStore(), compiler: flows.New(cfg.compiled()),
		mirror: newMirror(cfg.Bridge), zones: newZones(now), alarms: newAlarms(), plugged: map[string]*plugging{}, unmarked: map[string]struct{}{}, unzoned: map[string]struct{}{}, left: map[ovsdb.UUID]struct{}{}, untold: map[string]struct{}{},
		learned: map[state.Ref]struct{}{}}
}

// news is what the core is told of at one time.
type news struct {
	commits  []Commit
	database []ovsdb.Change
	synced   bool           // the database was read
	ports    []portWord     // of the switch itself
	local    []state.Object // made by this host: neighbours that it found, packets that are watched
	gone     []state.Ref
	since    time.Time // when the first of it came
}

func (n *news) begin() {
	if n.since.IsZero() {
		n.since = time.Now()
	}
}

func (n *news) empty() bool {
	return len(n.commits) == 0 && len(n.database) == 0 && !n.synced && len(n.ports) == 0 && len(n.local) == 0 && len(n.gone) == 0
}

// effect is what taking news in has changed.
type effect struct {
	program bool // the switch has something to do
	wiring  bool // bridges and ports may have to be made or removed
	marks   bool // the database may have to be told of ports
}

// take takes news in.
func (c *core) take(n news) effect {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	t := touched{guests: map[string]struct{}{}}
	if len(n.database) > 0 {
		t = c.mirror.update(n.database)
		c.recall()
	}
	c.mirror.hear(n.ports, &t)
	before := c.known && c.seen
	var changes []state.Change
	for _, commit := range n.commits {
		changes = append(changes, c.commit(commit)...)
	}
	if len(n.local)+len(n.gone) > 0 {
		for _, r := range n.gone {
			delete(c.learned, r)
		}
		for _, o := range n.local {
			c.learned[o.Ref()] = struct{}{}
		}
		changes = append(changes, c.store.Apply(n.local, n.gone)...)
	}
	first := n.synced && !c.seen
	c.seen = c.seen || n.synced
	t.add(c, changes)
	if first {
		t.everything(c)
	}
	if !before && c.known && c.seen {
		for owner := range zonesIn(c.mirror.ids) { // of routers that have gone while no agent ran
			t.zone(owner)
		}
	}
	changes = append(changes, c.own(t)...)
	c.unzone(t)
	c.disconnect(changes)
	c.refuse(changes)
	e := effect{wiring: t.wiring, marks: len(t.guests) > 0}
	if len(changes) == 0 && len(n.commits) == 0 && !first {
		return e
	}
	if c.since.IsZero() {
		c.since = n.since
	}
	c.compile(changes)
	if len(n.commits) > 0 {
		if len(c.revisions) >= maxBacklog { // the switch is away: when it is back, the last ones will do
			c.revisions = slices.Delete(c.revisions, 0, maxBacklog/2)
		}
		c.revisions = append(c.revisions, generation{c.gen, c.incarnation, c.revision})
	}
	c.steps++
	c.compiling += time.Since(began)
	e.program = true
	return e
}

// own brings the host's own objects up to date.
func (c *core) own(t touched) []state.Change {
	local, gone := c.locals(t)
	return c.store.Apply(local, gone)
}

// unzone notes of which zones the bridge's row may have to be told.
func (c *core) unzone(t touched) {
	maps.Copy(c.unzoned, t.zones)
	maps.Copy(c.unzoned, t.marks)
	if !t.bridge {
		return
	}
	c.store.Read(func(v *state.View) {
		for _, id := range v.IDs(state.Index{List: state.ListAll, ID: state.KindZone.String()}) {
			c.unzoned[id] = struct{}{}
		}
	})
}

// compile makes another generation of the program.
func (c *core) compile(changes []state.Change) {
	c.gen++
	var delta *flows.Delta
	c.store.Read(func(v *state.View) { delta = c.compiler.Update(v, changes) })
	c.pending.Add(delta)
	clashes := c.compiler.Stats().Clashes
	c.alarms.set(clashes > 0, alarmClash, c.cfg.Bridge, "%d flows are not what all that is desired asks for: a rule that too many sets of groups have alike, or a defect", clashes)
	c.unsaid = joined(append(c.unsaid, changes...))
	c.settle(changes)
}

// maxBacklog bounds what waits for a switch that is away.
const maxBacklog = 4096

// joined makes one change of all to an object, where there are many.
func joined(changes []state.Change) []state.Change {
	if len(changes) < maxBacklog {
		return changes
	}
	at := make(map[state.Ref]int, len(changes))
	out := changes[:0]
	for _, ch := range changes {
		if i, ok := at[ch.Ref]; ok {
			out[i].New = ch.New
			continue
		}
		at[ch.Ref] = len(out)
		out = append(out, ch)
	}
	return slices.DeleteFunc(out, func(ch state.Change) bool { return ch.Old == nil && ch.New == nil })
}

// retake looks at what is touched again.
func (c *core) retake(t touched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compile(c.own(t))
}

// commit takes one revision in.
func (c *core) commit(n Commit) []state.Change {
	gone := n.Gone
	set := n.Set
	if n.Snapshot {
		gone, set = nil, nil
		there := make(map[state.Ref]struct{}, len(n.Set))
		for _, o := range n.Set {
			there[o.Ref()] = struct{}{}
		}
		c.store.Read(func(v *state.View) {
			for _, o := range n.Set {
				if was := v.Get(o.Ref()); was == nil || !reflect.DeepEqual(was, o) {
					set = append(set, o) // what is as it was need not be compiled again
				}
			}
			for _, kind := range desiredKinds {
				for _, id := range v.IDs(state.Index{List: state.ListAll, ID: kind.String()}) {
					r := state.Ref{Kind: kind, ID: id}
					_, still := there[r]
					_, ours := c.learned[r]
					if !still && !ours {
						gone = append(gone, r)
					}
				}
			}
		})
	}
	c.known, c.incarnation, c.revision = true, n.Incarnation, n.Revision
	return c.store.Apply(set, gone)
}

// desiredKinds are the kinds of objects that come from outside.
var desiredKinds = [...]state.Kind{state.KindHost, state.KindNetwork, state.KindSubnet, state.KindPort, state.KindRouter, state.KindFloatingIP,
	state.KindSecurityGroup, state.KindAddressSet, state.KindSnatAddress, state.KindNeighbor, state.KindSecurityLog, state.KindMirror}

// ready says whether all is known that the program depends on. Before, the switch is left as it is.
func (c *core) ready() bool { return c.known && c.seen && c.mirror.id != "" }

// recall takes the zones that the database records.
func (c *core) recall() {
	if c.seen {
		return // from then on, ours is what holds
	}
	for _, row := range c.mirror.interfaces {
		id := row.ExternalIDs[keyIfaceID]
		if id == "" {
			continue
		}
		for owner, zone := range zonesIn(row.ExternalIDs) {
			if owner == "" {
				owner = id
			}
			if n, err := strconv.ParseUint(zone, 10, 16); err == nil {
				c.zones.keep("port "+owner, uint16(n))
			}
		}
	}
	for owner, pair := range zonesIn(c.mirror.ids) {
		var snat, dnat uint16
		if _, err := fmt.Sscanf(pair, "%d,%d", &snat, &dnat); err == nil {
			c.zones.keep("snat "+owner, snat)
			c.zones.keep("dnat "+owner, dnat)
		}
	}
}

// add adds what changes of the desired state touch of the host's own objects.
func (t *touched) add(c *core, changes []state.Change) {
	for _, ch := range changes {
		switch ch.Ref.Kind {
		case state.KindPort:
			t.guests[ch.Ref.ID] = struct{}{}
		case state.KindRouter:
			t.zone(ch.Ref.ID)
		case state.KindNetwork:
			t.zone(state.NetworkZone(ch.Ref.ID))
		case state.KindHost:
			t.wiring = true
		}
	}
	// A subport is plugged with its parent.
	c.store.Read(func(v *state.View) {
		for id := range maps.Clone(t.guests) {
			for _, sub := range v.IDs(state.Index{List: state.ListSubports, ID: id}) {
				t.guests[sub] = struct{}{}
			}
		}
	})
}

// everything touches all that there is: the database was read for the first time.
func (t *touched) everything(c *core) {
	t.wiring = true
	for id := range c.mirror.byIfaceID {
		t.guests[id] = struct{}{}
	}
	c.store.Read(func(v *state.View) {
		for _, id := range v.IDs(state.Index{List: state.ListAll, ID: state.KindPort.String()}) {
			t.guests[id] = struct{}{}
		}
	})
}

// locals are the host's own objects that have changed.
func (c *core) locals(t touched) (set []state.Object, gone []state.Ref) {
	if !c.seen {
		return nil, nil
	}
	put := func(now state.Object, r state.Ref, same func(state.Object) bool) {
		var was state.Object
		c.store.Read(func(v *state.View) { was = v.Get(r) })
		switch {
		case now == nil && was != nil:
			gone = append(gone, r)
		case now != nil && (was == nil || !same(was)):
			set = append(set, now)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.guests)) {
		plug := c.plug(id)
		if plug == nil {
			c.release("port " + id)
			put(nil, state.Ref{Kind: state.KindPlug, ID: id}, nil)
			continue
		}
		put(plug, plug.Ref(), func(o state.Object) bool { return *o.(*state.Plug) == *plug }) //nolint:errcheck,forcetypeassert // by its kind
	}
	for _, id := range slices.Sorted(maps.Keys(t.zones)) {
		zone := c.zone(id)
		if zone == nil {
			c.release("snat " + id)
			c.release("dnat " + id)
			put(nil, state.Ref{Kind: state.KindZone, ID: id}, nil)
			continue
		}
		put(zone, zone.Ref(), func(o state.Object) bool { return *o.(*state.Zone) == *zone }) //nolint:errcheck,forcetypeassert // by its kind
	}
	if t.wiring {
		c.wired(put)
	}
	return set, gone
}

// wired are the tunnels and uplinks that the switch has.
func (c *core) wired(put func(state.Object, state.Ref, func(state.Object) bool)) {
	have := map[state.Ref]bool{}
	for id, row := range c.mirror.ours(keyTunnel) {
		tunnel := tunnelOf(id, c.mirror.number(row))
		if tunnel == nil {
			continue
		}
		have[tunnel.Ref()] = true
		put(tunnel, tunnel.Ref(), func(o state.Object) bool { return *o.(*state.Tunnel) == *tunnel }) //nolint:errcheck,forcetypeassert // by its kind
	}
	for id, row := range c.mirror.ours(keyUplink) {
		uplink := &state.Uplink{ID: id, OFPort: c.mirror.number(row)}
		have[uplink.Ref()] = true
		put(uplink, uplink.Ref(), func(o state.Object) bool { return *o.(*state.Uplink) == *uplink }) //nolint:errcheck,forcetypeassert // by its kind
	}
	for _, kind := range []state.Kind{state.KindTunnel, state.KindUplink} {
		var ids []string
		c.store.Read(func(v *state.View) { ids = v.IDs(state.Index{List: state.ListAll, ID: kind.String()}) })
		for _, id := range ids {
			if r := (state.Ref{Kind: kind, ID: id}); !have[r] {
				put(nil, r, nil)
			}
		}
	}
}

// tunnelOf reads a tunnel's id.
func tunnelOf(id string, ofport uint32) *state.Tunnel {
	encap, port, ok := strings.Cut(id, "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil {
		return nil
	}
	for _, e := range []state.Encap{state.VXLAN, state.Geneve} {
		if e.String() == encap {
			return &state.Tunnel{ID: id, Encap: e, Port: uint16(n), OFPort: ofport}
		}
	}
	return nil
}

// plug is how a port is plugged now, or nil. It notes what there is to say of the port.
func (c *core) plug(id string) *state.Plug {
	var port *state.Port
	c.store.Read(func(v *state.View) { port = state.Find[*state.Port](v, id) })
	ifaceID := id
	if port != nil && port.Parent != "" {
		ifaceID = port.Parent
	}
	g, ok := c.mirror.guest(ifaceID)
	p := c.plugged[id]
	c.changed(id)
	if !ok {
		if p != nil {
			c.left[p.iface] = struct{}{}
			delete(c.plugged, id)
		}
		c.alarms.end(alarmRivals, id)
		c.alarms.end(alarmInterface, id)
		return nil
	}
	if p == nil || p.iface != g.ID {
		if p != nil {
			c.left[p.iface] = struct{}{}
		}
		p = &plugging{iface: g.ID}
		c.plugged[id] = p
	}
	p.name, p.rivals, p.error = g.Name, g.rivals, g.problem()
	c.alarms.set(len(p.rivals) > 0, alarmRivals, id, "interface %s is the port; %s claims to be it too", p.name, strings.Join(p.rivals, ", "))
	c.alarms.set(p.error != "", alarmInterface, id, "interface %s: %s", p.name, p.error)
	if g.number == 0 {
		p.gen, p.ready, p.marked = 0, false, false
		return nil
	}
	zone, fresh := c.zones.take("port " + id)
	if fresh {
		c.flush = append(c.flush, zone)
	}
	c.alarms.set(zone == 0, alarmZones, id, "all connection tracking zones are taken: the port is not carried out")
	if zone == 0 { // sharing one with others, its guest's connections could be theirs
		p.gen, p.ready = 0, false
		return nil
	}
	return &state.Plug{ID: id, OFPort: g.number, Zone: zone}
}

// changed notes that there may be something to tell of a port.
func (c *core) changed(id string) {
	c.unmarked[id], c.untold[id] = struct{}{}, struct{}{}
}

// release takes an owner's zone back. Its connections end with it.
func (c *core) release(owner string) {
	if zone := c.zones.free(owner); zone != 0 {
		c.flush = append(c.flush, zone)
	}
}

// zone are the zones of a router, where it has a gateway, or of an external network.
func (c *core) zone(id string) *state.Zone {
	var router *state.Router
	var network *state.Network
	c.store.Read(func(v *state.View) {
		if name, ok := strings.CutPrefix(id, state.NetworkZone("")); ok {
			network = state.Find[*state.Network](v, name)
		} else {
			router = state.Find[*state.Router](v, id)
		}
	})
	if (router == nil || router.Gateway == nil) && (network == nil || !network.External) {
		return nil
	}
	snat, fresh := c.zones.take("snat " + id)
	if fresh {
		c.flush = append(c.flush, snat)
	}
	if network != nil {
		return &state.Zone{ID: id, Snat: snat}
	}
	dnat, fresh := c.zones.take("dnat " + id)
	if fresh {
		c.flush = append(c.flush, dnat)
	}
	return &state.Zone{ID: id, Snat: snat, Dnat: dnat}
}

// settle notes with which generation the ports that changed are carried out.
func (c *core) settle(changes []state.Change) {
	c.store.Read(func(v *state.View) {
		for _, ch := range changes {
			if ch.Ref.Kind != state.KindPlug && ch.Ref.Kind != state.KindPort && ch.Ref.Kind != state.KindNetwork {
				continue
			}
			ids := []string{ch.Ref.ID}
			if ch.Ref.Kind == state.KindNetwork {
				ids = v.IDs(state.Index{List: state.ListPortsOnHost, ID: state.OnHost(ch.Ref.ID, c.cfg.Host)})
			}
			for _, id := range ids {
				if p := c.plugged[id]; p != nil {
					c.settlePort(v, id, p)
				}
			}
		}
	})
}

func (c *core) settlePort(v *state.View, id string, p *plugging) {
	port := state.Find[*state.Port](v, id)
	carried := port != nil && !port.Down && port.On(c.cfg.Host) && v.Get(state.Ref{Kind: state.KindNetwork, ID: port.Network}) != nil &&
		v.Get(state.Ref{Kind: state.KindPlug, ID: id}) != nil
	if port != nil {
		p.epoch = port.BindingEpoch
	}
	c.changed(id)
	switch {
	case !carried:
		p.gen, p.ready, p.marked = 0, false, false
	case p.gen == 0:
		p.gen = c.gen
	}
}
