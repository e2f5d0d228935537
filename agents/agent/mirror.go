package agent

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/agents/ovsdb"
)

// mirror is what the switch's database says of the bridge: kept up to date change by change, since a host may have thousands of interfaces.
type mirror struct {
	bridge     string
	id         ovsdb.UUID // of the bridge; "": it is not there
	ids        map[string]string
	datapath   string                    // its datapath_type
	onBridge   map[ovsdb.UUID]struct{}   // ports of the bridge
	ports      map[ovsdb.UUID]portRow    // of all bridges
	portOf     map[ovsdb.UUID]ovsdb.UUID // by interface
	interfaces map[ovsdb.UUID]interfaceRow
	byIfaceID  map[string]map[ovsdb.UUID]struct{}
	byName     map[string]ovsdb.UUID
	own        map[ovsdb.UUID]struct{} // interfaces that the agent has made
	told       map[string]uint32       // by name, numbers that the switch has told of and the database has not yet
}

func newMirror(bridge string) *mirror {
	return &mirror{
		bridge: bridge, onBridge: map[ovsdb.UUID]struct{}{}, ports: map[ovsdb.UUID]portRow{}, portOf: map[ovsdb.UUID]ovsdb.UUID{},
		interfaces: map[ovsdb.UUID]interfaceRow{}, byIfaceID: map[string]map[ovsdb.UUID]struct{}{}, byName: map[string]ovsdb.UUID{},
		own: map[ovsdb.UUID]struct{}{}, told: map[string]uint32{},
	}
}

// touched is what a change of the database may have changed for the agent.
type touched struct {
	guests map[string]struct{} // iface-ids
	zones  map[string]struct{} // ids of state.Zone
	marks  map[string]struct{} // ids of state.Zone of which the bridge's row may say something else than it said
	bridge bool                // it is another one
	wiring bool                // bridges, and the agent's own ports
}

// marked notes of whom a bridge's row says something else than it said.
func (t *touched) marked(was, is map[string]string) {
	note := func(key string) {
		if owner, ok := strings.CutPrefix(key, keyZoneOf); ok {
			if t.marks == nil {
				t.marks = map[string]struct{}{}
			}
			t.marks[owner] = struct{}{}
		}
	}
	for key, value := range was {
		if now, still := is[key]; !still || now != value {
			note(key)
		}
	}
	for key := range is {
		if _, before := was[key]; !before {
			note(key)
		}
	}
}

func (t *touched) zone(id string) {
	if t.zones == nil {
		t.zones = map[string]struct{}{}
	}
	t.zones[id] = struct{}{}
}

// update takes changes in, and says what they touch.
func (m *mirror) update(changes []ovsdb.Change) touched {
	t := touched{guests: map[string]struct{}{}}
	for _, c := range changes {
		switch c.Table {
		case "Open_vSwitch":
			t.wiring = true
		case "Bridge":
			m.updateBridge(c, &t)
		case "Port":
			m.updatePort(c, &t)
		case "Interface":
			m.updateInterface(c, &t)
		}
	}
	return t
}

func (m *mirror) updateBridge(c ovsdb.Change, t *touched) {
	row := ovsdb.As[bridgeName](c.New)
	if c.New == nil && c.ID == m.id || c.New != nil && row.Name == m.bridge {
		other := row.ID != m.id
		m.id, m.datapath = row.ID, row.DatapathType
		if other || c.Touches("ports") {
			m.updatePorts(ovsdb.As[bridgePorts](c.New).Ports, t)
		}
		if other || c.Touches("external_ids") {
			ids := ovsdb.As[bridgeIDs](c.New).ExternalIDs
			t.marked(m.ids, ids)
			m.ids, t.bridge = ids, t.bridge || other
		}
	}
	// Every guest changes its bridge's ports: only what else a bridge is concerns the wiring.
	t.wiring = t.wiring || c.Touches("name") || c.Touches("protocols") || c.Touches("fail_mode")
}

// updatePorts takes in which ports the bridge has.
func (m *mirror) updatePorts(ports []ovsdb.UUID, t *touched) {
	is := make(map[ovsdb.UUID]struct{}, len(ports))
	for _, p := range ports {
		is[p] = struct{}{}
		if _, was := m.onBridge[p]; !was {
			m.touchPort(p, t)
		}
	}
	for p := range m.onBridge {
		if _, still := is[p]; !still {
			m.touchPort(p, t)
		}
	}
	m.onBridge = is
}

func (m *mirror) updatePort(c ovsdb.Change, t *touched) {
	for _, i := range m.ports[c.ID].Interfaces {
		delete(m.portOf, i)
		m.touchInterface(i, t)
	}
	if c.New == nil {
		delete(m.ports, c.ID)
		return
	}
	row := ovsdb.As[portRow](c.New)
	m.ports[c.ID] = row
	for _, i := range row.Interfaces {
		m.portOf[i] = c.ID
		m.touchInterface(i, t)
	}
}

func (m *mirror) updateInterface(c ovsdb.Change, t *touched) {
	m.touchInterface(c.ID, t)
	if old, ok := m.interfaces[c.ID]; ok {
		id := old.ExternalIDs[keyIfaceID]
		if delete(m.byIfaceID[id], c.ID); len(m.byIfaceID[id]) == 0 {
			delete(m.byIfaceID, id)
		}
		if m.byName[old.Name] == c.ID {
			delete(m.byName, old.Name)
		}
	}
	delete(m.interfaces, c.ID)
	delete(m.own, c.ID)
	if c.New == nil {
		m.forget(ovsdb.As[interfaceRow](c.Old).Name, t)
		return
	}
	row := ovsdb.As[interfaceRow](c.New)
	m.interfaces[c.ID], m.byName[row.Name] = row, c.ID
	if row.OFPort != nil {
		delete(m.told, row.Name)
	}
	if id := row.ExternalIDs[keyIfaceID]; id != "" {
		if m.byIfaceID[id] == nil {
			m.byIfaceID[id] = map[ovsdb.UUID]struct{}{}
		}
		m.byIfaceID[id][c.ID] = struct{}{}
	}
	if row.ExternalIDs[keyTunnel] != "" || row.ExternalIDs[keyUplink] != "" {
		m.own[c.ID] = struct{}{}
	}
	m.touchInterface(c.ID, t)
}

// portWord is what the switch says of a port: that there is one of a name, or no more; or, without a name, that what it said before may not hold any more.
type portWord struct {
	name   string
	number uint32
	gone   bool
}

// longestName is that of a port that the switch's messages have room for. A name as long may be the beginning of another.
const longestName = 15

// hear takes in what the switch says of its ports. It says so while it makes them; their numbers are in the database only when it has done all that it was asked
// for at that time, which takes a tenth of a second beside a thousand others.
func (m *mirror) hear(words []portWord, t *touched) {
	for _, w := range words {
		switch {
		case w.name == "":
			for name := range m.told {
				m.forget(name, t)
			}
		case w.gone:
			m.forget(w.name, t)
		case len(w.name) < longestName && w.number <= mostPorts:
			id, known := m.byName[w.name]
			if known && m.interfaces[id].OFPort != nil {
				continue // it has another that is going, or has been given up: the database will say
			}
			m.told[w.name] = w.number
			m.touchInterface(id, t)
		}
	}
}

// forget forgets what the switch has said of a port. What is given the name next must be spoken of anew.
func (m *mirror) forget(name string, t *touched) {
	if _, ok := m.told[name]; ok {
		delete(m.told, name)
		m.touchInterface(m.byName[name], t)
	}
}

// number is the switch's number of an interface, or 0 while it has none: the database's word, and as long as it says nothing, the switch's own.
func (m *mirror) number(r interfaceRow) uint32 {
	if r.OFPort != nil {
		return r.number()
	}
	return m.told[r.Name]
}

func (m *mirror) touchPort(id ovsdb.UUID, t *touched) {
	for _, i := range m.ports[id].Interfaces {
		m.touchInterface(i, t)
	}
}

func (m *mirror) touchInterface(id ovsdb.UUID, t *touched) {
	row, ok := m.interfaces[id]
	if !ok {
		return
	}
	if guest := row.ExternalIDs[keyIfaceID]; guest != "" {
		t.guests[guest] = struct{}{}
	}
	if _, ours := m.own[id]; ours {
		t.wiring = true
	}
}

// epoch is the one that the database remembers, or 0.
func (m *mirror) epoch() uint16 {
	n, err := strconv.ParseUint(m.ids[keyEpoch], 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// here says whether an interface is one of the bridge.
func (m *mirror) here(id ovsdb.UUID) bool {
	port, ok := m.portOf[id]
	if !ok {
		return false
	}
	_, ok = m.onBridge[port]
	return ok
}

// guest is how a port is plugged.
type guest struct {
	interfaceRow
	number uint32   // 0: none yet
	rivals []string // names of other interfaces that claim the same port and work too
}

// guest is the interface that a port is plugged by. Of several that claim one port and that the switch could make, the one that had the port first
// keeps it, so that nobody takes a running guest's port by naming it; it is known by its zone. ok says whether there is any.
func (m *mirror) guest(ifaceID string) (g guest, ok bool) {
	var all []interfaceRow
	for _, id := range slices.Sorted(maps.Keys(m.byIfaceID[ifaceID])) {
		if m.here(id) {
			all = append(all, m.interfaces[id])
		}
	}
	if len(all) == 0 {
		return g, false
	}
	rank := func(r interfaceRow) int {
		switch {
		case m.number(r) == 0:
			return 2
		case r.ExternalIDs[keyZone] == "":
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b interfaceRow) int { return rank(a) - rank(b) })
	g.interfaceRow, g.number = all[0], m.number(all[0])
	for _, r := range all[1:] {
		if m.number(r) != 0 {
			g.rivals = append(g.rivals, r.Name)
		}
	}
	return g, true
}

// ours are the agent's own interfaces of the bridge that have a number, by the value of a key.
func (m *mirror) ours(key string) map[string]interfaceRow {
	out := map[string]interfaceRow{}
	for id := range m.own {
		row := m.interfaces[id]
		if value := row.ExternalIDs[key]; value != "" && m.here(id) && m.number(row) != 0 {
			out[value] = row
		}
	}
	return out
}

// zonesIn are the zones that an external_ids column records: by owner, "" being the row's own.
func zonesIn(ids map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range ids {
		if key == keyZone {
			out[""] = value
		} else if owner, ok := strings.CutPrefix(key, keyZoneOf); ok {
			out[owner] = value
		}
	}
	return out
}
