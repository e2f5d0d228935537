package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/statefile"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Status is what an agent says of itself.
type Status struct {
	Host           string          `json:"host"`
	Bridge         string          `json:"bridge"`
	Connected      bool            `json:"connected"`
	Epoch          uint16          `json:"epoch"`
	Layout         int             `json:"layout"`
	Incarnation    string          `json:"incarnation"`
	Revision       uint64          `json:"revision"`
	Applied        uint64          `json:"applied_revision"`
	Objects        int             `json:"objects"`
	Flows          int             `json:"flows"`
	Groups         int             `json:"groups"`
	Meters         int             `json:"meters"`
	ForeignChanges uint64          `json:"foreign_changes"`
	Ports          json.RawMessage `json:"ports"`
	Alarms         json.RawMessage `json:"alarms"`
}

func (a *Agent) statusView(*http.Request) (any, error) {
	full := a.Status()
	ports, alarms := []json.RawMessage{}, []json.RawMessage{}
	for _, p := range full.Ports {
		raw, err := protojson.Marshal(p)
		if err != nil {
			return nil, err
		}
		ports = append(ports, raw)
	}
	for _, p := range full.Alarms {
		raw, err := protojson.Marshal(p)
		if err != nil {
			return nil, err
		}
		alarms = append(alarms, raw)
	}
	rawPorts, err := json.Marshal(ports)
	if err != nil {
		return nil, err
	}
	rawAlarms, err := json.Marshal(alarms)
	if err != nil {
		return nil, err
	}
	c := a.core
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Host: a.cfg.Host, Bridge: a.cfg.Bridge, Connected: a.switcher.connection() != nil, Epoch: c.epoch, Layout: flows.Layout,
		Incarnation: c.incarnation, Revision: c.revision, Applied: c.done.revision, Flows: c.compiler.Stats().Flows, Groups: len(c.compiler.Groups()),
		Meters: len(c.compiler.Meters()), ForeignChanges: c.foreign, Ports: rawPorts, Alarms: rawAlarms}
	c.store.Read(func(v *state.View) { s.Objects = v.Len() })
	return s, nil
}

// Object is an object of the replica.
type Object struct {
	Kind   string          `json:"kind"`
	ID     string          `json:"id"`
	Object json.RawMessage `json:"object"` // see inWords
}

func (a *Agent) stateView(r *http.Request) (any, error) {
	kind, id := r.FormValue("kind"), r.FormValue("id")
	out := []Object{}
	known := kind == ""
	var err error
	a.core.store.Read(func(v *state.View) {
		for _, k := range allKinds() {
			if kind != "" && kind != k.String() {
				continue
			}
			known = true
			for _, oid := range v.IDs(state.Index{List: state.ListAll, ID: k.String()}) {
				if id == "" || id == oid {
					words, e := inWords(v.Get(state.Ref{Kind: k, ID: oid}))
					err = errors.Join(err, e)
					out = append(out, Object{k.String(), oid, words})
				}
			}
		}
	})
	if !known {
		return nil, badRequest("kind %s: there are %s", kind, kindWords())
	}
	if id != "" && len(out) == 0 {
		return nil, fault.New(fault.NotFound, "", "%s %s: there is none", kind, id)
	}
	return out, err
}

func allKinds() []state.Kind {
	return append(desiredKinds[:len(desiredKinds):len(desiredKinds)], state.KindPlug, state.KindUplink, state.KindTunnel, state.KindZone, state.KindTap, state.KindDown)
}

func kindWords() string {
	var out []string
	for _, k := range allKinds() {
		out = append(out, k.String())
	}
	return strings.Join(out, ", ")
}

// Flow is a flow as it is shown.
type Flow struct {
	Table    uint8  `json:"table"`
	Name     string `json:"table_name"`
	Priority uint16 `json:"priority"`
	Cookie   string `json:"cookie"`
	Class    string `json:"class"` // the part of the compiler that makes it
	About    string `json:"about"` // the object that it is there for
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`
	Text     string `json:"text"`             // in the words of ovs-ofctl, with names
	Change   string `json:"change,omitempty"` // of a difference: what would become of it in the switch
}

// object is one of the replica, or nil. The caller holds the lock.
func (c *core) object(k state.Kind, id string) (o state.Object) {
	c.store.Read(func(v *state.View) { o = v.Get(state.Ref{Kind: k, ID: id}) })
	return o
}

// namer knows what cookies, tables and ports are called.
type namer struct {
	c      *core
	tables map[uint8]string
	ports  map[uint32]string
	about  map[state.Kind]map[uint32]string
	names  openflow.Names
}

// newNamer is for one request. The caller holds the core's lock.
func newNamer(c *core) *namer {
	n := &namer{c: c, tables: map[uint8]string{}, ports: map[uint32]string{}, about: map[state.Kind]map[uint32]string{}}
	for _, t := range flows.TableMap() {
		n.tables[uint8(t.Table)] = t.Name
	}
	for id, row := range c.mirror.interfaces {
		if number := c.mirror.number(row); number != 0 && c.mirror.here(id) {
			n.ports[number] = row.Name
		}
	}
	n.names = openflow.Names{Table: func(t uint8) string { return n.tables[t] }, Port: func(p uint32) string { return n.ports[p] }}
	return n
}

// object is what a cookie is about, in a word or two.
func (n *namer) object(k flows.Cookie) string {
	kind, id := n.what(k)
	if kind == "" {
		return id
	}
	return kind + " " + id
}

// what is what a cookie is about: an object, or without a kind the reason of a drop.
func (n *namer) what(k flows.Cookie) (kind, id string) {
	if k.Kind() == 0 {
		return "", n.c.compiler.Reason(k)
	}
	ids := n.about[k.Kind()]
	if ids == nil {
		ids = map[uint32]string{}
		n.about[k.Kind()] = ids
		n.c.store.Read(func(v *state.View) {
			for _, id := range v.IDs(state.Index{List: state.ListAll, ID: k.Kind().String()}) {
				ids[flows.Hash(id)] = id
			}
		})
	}
	return k.Kind().String(), ids[k.Object()]
}

func (n *namer) view(k flows.FlowKey, f flows.Flow, packets, bytes uint64) (Flow, error) {
	m, err := openflow.DecodeMatch(k.Match)
	if err != nil {
		return Flow{}, err
	}
	instr, err := openflow.DecodeInstructions(f.Instructions)
	if err != nil {
		return Flow{}, err
	}
	out := Flow{Table: uint8(k.Table), Name: n.tables[uint8(k.Table)], Priority: k.Priority, Cookie: fmt.Sprintf("%#x", uint64(f.Cookie)), Packets: packets, Bytes: bytes,
		Text: n.names.FlowStats(&openflow.FlowStats{Table: uint8(k.Table), Priority: k.Priority, Match: m, Instructions: instr}, false)}
	if f.Cookie.Class() == canaryClass {
		out.Class, out.About = "canary", fmt.Sprintf("epoch %d, layout %d", f.Cookie.Epoch(), layoutOf(f))
	} else if f.Cookie.Class() != 0 {
		out.Class, out.About = f.Cookie.Class().String(), n.object(f.Cookie)
	}
	return out, nil
}

// flowsView shows the flows of the switch, with their counters.
func (a *Agent) flowsView(r *http.Request) (any, error) {
	conn := a.switcher.connection()
	if conn == nil {
		return nil, fault.New(fault.Unavailable, "", "no connection to the switch")
	}
	table, port := r.FormValue("table"), r.FormValue("port")
	type counted struct {
		key            flows.FlowKey
		flow           flows.Flow
		packets, bytes uint64
	}
	var all []counted
	err := conn.EachFlow(r.Context(), openflow.EveryFlow(), func(f *openflow.FlowView) error {
		all = append(all, counted{flows.FlowKey{Table: flows.Table(f.Table), Priority: f.Priority, Match: string(f.Match)},
			flows.Flow{Cookie: flows.Cookie(f.Cookie), Instructions: string(f.Instructions)}, f.Packets, f.ByteCount})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(x, y counted) int { return x.key.Compare(y.key) })
	a.core.mu.Lock()
	defer a.core.mu.Unlock()
	n := newNamer(a.core)
	if table != "" && !slices.ContainsFunc(flows.TableMap(), func(t flows.TableInfo) bool { return t.Name == table || fmt.Sprint(t.Table) == table }) {
		return nil, badRequest("table %s: there is none; headwater-agent flows names those that there are", table)
	}
	if _, plugged := a.core.plugged[port]; port != "" && !plugged && a.core.object(state.KindPort, port) == nil {
		return nil, fault.New(fault.NotFound, "", "port %s: there is none", port)
	}
	out := []Flow{}
	for _, f := range all {
		if table != "" && table != n.tables[uint8(f.key.Table)] && table != fmt.Sprint(f.key.Table) {
			continue
		}
		shown, err := n.view(f.key, f.flow, f.packets, f.bytes)
		if err != nil {
			return nil, err
		}
		if port != "" && shown.About != "port "+port {
			continue
		}
		out = append(out, shown)
	}
	return out, nil
}

func (a *Agent) groupsView(r *http.Request) (any, error) {
	conn := a.switcher.connection()
	if conn == nil {
		return nil, fault.New(fault.Unavailable, "", "no connection to the switch")
	}
	bodies, err := conn.Multipart(r.Context(), openflow.PartGroupDesc, &openflow.GroupDescRequest{})
	if err != nil {
		return nil, err
	}
	a.core.mu.Lock()
	defer a.core.mu.Unlock()
	n := newNamer(a.core)
	out := []string{}
	for _, b := range bodies {
		for _, g := range b.(*openflow.GroupDescList).Groups { //nolint:errcheck,forcetypeassert // what such a request is answered with
			out = append(out, n.names.GroupDesc(&g))
		}
	}
	return out, nil
}

// Difference is what would have to be changed in the switch.
type Difference struct {
	Flows  []Flow   `json:"flows"`
	Groups []string `json:"groups"` // "+ 0x10000001", "- ...": what is missing or different, and what is too much
	Meters []string `json:"meters"`
	Same   int      `json:"same"` // flows that are as they should be
	// Of a comparison with another version's program: the layout of the tables now, and then.
	Layout    uint32 `json:"layout,omitempty"`
	NewLayout uint32 `json:"new_layout,omitempty"`
}

func (a *Agent) diffView(r *http.Request) (any, error) {
	have, err := a.dump(r.Context())
	if err != nil {
		return nil, err
	}
	a.core.mu.Lock()
	defer a.core.mu.Unlock()
	return a.core.difference(a.core.compiler, have)
}

// dump reads the switch, between two things that it is sent.
func (a *Agent) dump(ctx context.Context) (*carried, error) {
	asked := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case a.switcher.audit <- asked:
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "", "no connection to the switch")
	}
	select {
	case got := <-asked:
		return got.have, got.err
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "", "the switch did not answer")
	}
}

// difference shows how a switch differs from a program. The caller holds the lock.
func (c *core) difference(p *flows.Compiler, have *carried) (*Difference, error) {
	epoch := have.canary().epoch
	was := maps.Clone(have.flows)
	d := compare(p, have, epoch)
	n := newNamer(c)
	out := &Difference{Flows: []Flow{}, Groups: changesOf(d.groups, d.oldG), Meters: changesOf(d.meters, d.oldM), Same: p.Stats().Flows - len(d.missing)}
	add := func(k flows.FlowKey, f flows.Flow, change string) error {
		shown, err := n.view(k, f, 0, 0)
		shown.Change = change
		out.Flows = append(out.Flows, shown)
		return err
	}
	for _, k := range d.missing {
		want, _ := p.Flow(k)
		if old, ok := was[k]; ok {
			if err := add(k, old, "-"); err != nil {
				return nil, err
			}
		}
		if err := add(k, want, "+"); err != nil {
			return nil, err
		}
	}
	for _, k := range d.stale {
		if err := add(k, was[k], "-"); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(out.Flows, func(a, b Flow) int { return cmp.Compare(a.Table, b.Table) })
	return out, nil
}

func changesOf(set, gone []uint32) []string {
	out := []string{}
	for _, id := range set {
		out = append(out, fmt.Sprintf("+ %#x", id))
	}
	for _, id := range gone {
		out = append(out, fmt.Sprintf("- %#x", id))
	}
	return out
}

// plan compiles a state beside what runs, with what is plugged here, and compares it with the switch.
func (a *Agent) plan(ctx context.Context, name string, raw []byte) (*Difference, error) {
	objects, err := statefile.Parse(cmp.Or(name, "state"), raw)
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, "", err)
	}
	have, err := a.dump(ctx)
	if err != nil {
		return nil, err
	}
	a.core.mu.Lock()
	defer a.core.mu.Unlock()
	c := a.core
	side := newCore(c.cfg, c.now)
	side.mirror, side.seen = c.mirror, true
	maps.Copy(side.zones.of, c.zones.of)
	maps.Copy(side.zones.used, c.zones.used)
	side.take(news{commits: []Commit{{Snapshot: true, Set: objects}}})
	t := touched{guests: map[string]struct{}{}}
	t.everything(side)
	side.retake(t)
	return side.difference(side.compiler, have)
}

// debugView is what helps to find out why an agent is slow or large.
func (a *Agent) debugView(*http.Request) (any, error) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	c := a.core
	c.mu.Lock()
	defer c.mu.Unlock()
	return map[string]any{
		"compiler":   c.compiler.Stats(),
		"compiling":  c.compiling.String(),
		"steps":      c.steps,
		"generation": c.gen, "carried_out": c.applied,
		"pending_flows": c.pending.Flows(),
		"zones":         len(c.zones.used),
		"interfaces":    len(c.mirror.interfaces),
		"goroutines":    runtime.NumGoroutine(),
		"heap_bytes":    mem.HeapAlloc, "system_bytes": mem.Sys, "collections": mem.NumGC,
	}, nil
}
