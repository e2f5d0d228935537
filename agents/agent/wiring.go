package agent

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/agents/ovsdb"
	"github.com/headwater-cloud/headwater/agents/state"
)

// wants is what the bridge should have beside guests.
type wants struct {
	known   bool                         // the desired state; before, no tunnel is made or removed
	others  []string                     // hosts of the desired state, where this one is not among them
	tunnels map[string]map[string]string // options, by state.TunnelID
	uplinks map[string]string            // bridges by physical network
	stray   bool                         // tunnelled packets come from an address that is none of the host's tunnel ends
}

// wants reads from the desired state which kinds of tunnels there are to be: those by which this host and some other reach each other.
func (c *core) wants() wants {
	w := wants{known: c.known, tunnels: map[string]map[string]string{}, uplinks: c.cfg.BridgeMappings}
	c.store.Read(func(v *state.View) {
		self := state.Find[*state.Host](v, c.cfg.Host)
		if self == nil {
			w.others = v.IDs(state.Index{List: state.ListAll, ID: state.KindHost.String()})
			return
		}
		ends := self.TunnelEnds
		w.stray = c.cfg.TunnelAddress.IsValid() && !slices.ContainsFunc(ends, func(e state.TunnelEnd) bool { return e.Address == c.cfg.TunnelAddress })
		for _, other := range state.All[*state.Host](v, state.Index{List: state.ListAll, ID: state.KindHost.String()}) {
			if end, ok := self.Reach(other); ok && other.ID != self.ID {
				ends = append(ends[:len(ends):len(ends)], end)
			}
		}
		for _, end := range ends {
			options := map[string]string{"key": "flow", "remote_ip": "flow", "dst_port": strconv.Itoa(int(end.Port))}
			options["local_ip"] = c.source(self, end.Encap)
			w.tunnels[state.TunnelID(end.Encap, end.Port)] = options
		}
	})
	return w
}

// source is the address that tunnelled packets come from, or that their flows say which. Left to the routes of the host it could be one that the others do not know,
// and do not take packets from.
func (c *core) source(self *state.Host, e state.Encap) string {
	if c.cfg.TunnelAddress.IsValid() {
		return c.cfg.TunnelAddress.String()
	}
	if one := self.Source(e); one.IsValid() {
		return one.String()
	}
	return "flow"
}

// problem is what stands in the way of the wiring.
type problem struct{ code, object, text string }

// wire says what the database must be changed by. It looks at nothing but the view, and does nothing where all is right.
func wire(v *ovsdb.View, cfg Config, w wants) (ops []ovsdb.Op, problems []problem) {
	sw, ok := ovsdb.Find(v, func(switchRow) bool { return true })
	if !ok {
		return nil, []problem{{alarmSwitch, cfg.Bridge, "the database has no row in Open_vSwitch: run ovs-vsctl init"}}
	}
	bridges := map[string]bridgeRow{}
	for _, b := range ovsdb.All[bridgeRow](v) {
		bridges[b.Name] = b
	}
	br, ok := bridges[cfg.Bridge]
	if !ok {
		return makeBridge(sw, cfg), nil
	}
	ops = mendBridge(br)
	have := interfacesOf(v)
	if w.known {
		ops = append(ops, wireTunnels(br, have, w)...)
	}
	more, problems := wireUplinks(br, bridges, have, w)
	if len(w.others) > 0 {
		const shown = 3
		names := strings.Join(w.others[:min(len(w.others), shown)], ", ")
		if len(w.others) > shown {
			names += " and others"
		}
		problems = append(problems, problem{alarmHost, cfg.Host, fmt.Sprintf("the desired state has the hosts %s, but not this one: there are no tunnels", names)})
	}
	if w.stray {
		problems = append(problems, problem{alarmSource, cfg.Bridge, fmt.Sprintf("tunnelled packets come from %s, which is none of the host's tunnel_ends: the other hosts drop them", cfg.TunnelAddress)})
	}
	return append(ops, more...), problems
}

func makeBridge(sw switchRow, cfg Config) []ovsdb.Op {
	return []ovsdb.Op{
		ovsdb.Insert("Interface", "i", ovsdb.Values{"name": cfg.Bridge, "type": "internal"}),
		ovsdb.Insert("Port", "p", ovsdb.Values{"name": cfg.Bridge, "interfaces": []ovsdb.NamedUUID{"i"}}),
		ovsdb.Insert("Bridge", "b", ovsdb.Values{"name": cfg.Bridge, "ports": []ovsdb.NamedUUID{"p"}, "datapath_type": cfg.DatapathType,
			"fail_mode": "secure", "other_config": map[string]string{"disable-in-band": "true"}}),
		ovsdb.Mutate("Open_vSwitch", ovsdb.ByID(sw.ID), ovsdb.Mutation{Column: "bridges", Mutator: "insert", Value: []ovsdb.NamedUUID{"b"}}),
		ovsdb.Comment("headwater-agent: the bridge of guests"),
	}
}

// mendBridge makes flows outlive the agent, and lets OpenFlow 1.3 be spoken. Changing fail_mode flushes no flows.
func mendBridge(br bridgeRow) (ops []ovsdb.Op) {
	if br.FailMode == nil || *br.FailMode != "secure" {
		ops = append(ops, ovsdb.Update("Bridge", ovsdb.ByID(br.ID), ovsdb.Values{"fail_mode": "secure"}))
	}
	if len(br.Protocols) > 0 && !slices.Contains(br.Protocols, "OpenFlow13") {
		ops = append(ops, ovsdb.Mutate("Bridge", ovsdb.ByID(br.ID), ovsdb.Mutation{Column: "protocols", Mutator: "insert", Value: []string{"OpenFlow13"}}))
	}
	return ops
}

// wired is one of the agent's own interfaces, where it is.
type wired struct {
	interfaceRow
	port   ovsdb.UUID
	bridge ovsdb.UUID
}

// interfacesOf are the interfaces that the agent has made, on all bridges.
func interfacesOf(v *ovsdb.View) []wired {
	mine := map[ovsdb.UUID]interfaceRow{}
	for id, row := range ovsdb.All[interfaceRow](v) {
		if row.ExternalIDs[keyTunnel] != "" || row.ExternalIDs[keyUplink] != "" {
			mine[id] = row
		}
	}
	ports := map[ovsdb.UUID]interfaceRow{}
	for id, row := range ovsdb.All[portRow](v) {
		for _, i := range row.Interfaces {
			if m, ok := mine[i]; ok {
				ports[id] = m
			}
		}
	}
	var out []wired
	for id, row := range ovsdb.All[bridgeRow](v) {
		for _, p := range row.Ports {
			if m, ok := ports[p]; ok {
				out = append(out, wired{m, p, id})
			}
		}
	}
	slices.SortFunc(out, func(a, b wired) int { return compareStrings(a.Name, b.Name) })
	return out
}

func wireTunnels(br bridgeRow, have []wired, w wants) (ops []ovsdb.Op) {
	there := map[string]bool{}
	for _, h := range have {
		id := h.ExternalIDs[keyTunnel]
		if id == "" || h.bridge != br.ID {
			continue
		}
		options, wanted := w.tunnels[id]
		switch {
		case !wanted || there[id]:
			ops = append(ops, ovsdb.PortDeleteOps(h.bridge, h.port)...)
			continue
		case !maps.Equal(options, h.Options):
			ops = append(ops, ovsdb.Update("Interface", ovsdb.ByID(h.ID), ovsdb.Values{"options": options}))
		}
		there[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(w.tunnels)) {
		if !there[id] {
			t := tunnelOf(id, 0)
			ops = append(ops, addPort(br.ID, ownName("hwt", id), ovsdb.Values{"type": t.Encap.String(), "options": w.tunnels[id],
				"external_ids": map[string]string{keyTunnel: id}})...)
		}
	}
	return ops
}

// wireUplinks joins the bridge by patch ports to those that lead to physical networks. Those bridges are the operator's: they are not made here.
func wireUplinks(br bridgeRow, bridges map[string]bridgeRow, have []wired, w wants) (ops []ovsdb.Op, problems []problem) {
	there := map[string]bool{}
	for _, h := range have {
		network := h.ExternalIDs[keyUplink]
		if network == "" {
			continue
		}
		outer := bridges[w.uplinks[network]]
		inner, outside := ownName("hwi", network), ownName("hwo", network)
		fits := outer.ID != "" && (h.bridge == br.ID && h.Name == inner && h.Options["peer"] == outside || h.bridge == outer.ID && h.Name == outside && h.Options["peer"] == inner)
		if !fits || there[h.Name] {
			ops = append(ops, ovsdb.PortDeleteOps(h.bridge, h.port)...)
			continue
		}
		there[h.Name] = true
	}
	for _, network := range slices.Sorted(maps.Keys(w.uplinks)) {
		outer, ok := bridges[w.uplinks[network]]
		if !ok {
			problems = append(problems, problem{alarmBridge, w.uplinks[network], fmt.Sprintf("the bridge of physical network %s is not there", network)})
			continue
		}
		inner, outside := ownName("hwi", network), ownName("hwo", network)
		for _, end := range []struct {
			bridge     ovsdb.UUID
			name, peer string
		}{{br.ID, inner, outside}, {outer.ID, outside, inner}} {
			if !there[end.name] {
				ops = append(ops, addPort(end.bridge, end.name, ovsdb.Values{"type": "patch", "options": map[string]string{"peer": end.peer},
					"external_ids": map[string]string{keyUplink: network}})...)
			}
		}
	}
	return ops, problems
}

// addPort is ovsdb.PortOps, with names of rows that are unlike those of others in the transaction.
func addPort(bridge ovsdb.UUID, name string, row ovsdb.Values) []ovsdb.Op {
	id := strings.ReplaceAll(name, "-", "_")
	i, p := ovsdb.NamedUUID("i_"+id), ovsdb.NamedUUID("p_"+id)
	row["name"] = name
	return []ovsdb.Op{
		ovsdb.Insert("Interface", i, row),
		ovsdb.Insert("Port", p, ovsdb.Values{"name": name, "interfaces": []ovsdb.NamedUUID{i}}),
		ovsdb.Mutate("Bridge", ovsdb.ByID(bridge), ovsdb.Mutation{Column: "ports", Mutator: "insert", Value: []ovsdb.NamedUUID{p}}),
	}
}

// ownName is the name of a port of the agent's: a network device's, of at most 15 bytes.
func ownName(prefix, id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return fmt.Sprintf("%s-%08x", prefix, h.Sum32())
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
