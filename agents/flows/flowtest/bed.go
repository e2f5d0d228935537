// Package flowtest gives tests hosts whose real Open vSwitches, on dummy devices, carry out what the compiler makes of one desired state. No packet moves;
// ofproto/trace says what would become of one.
package flowtest

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
)

// Numbers of the ports that every host's bridge has beside its guests'.
const (
	TunnelPort = 1000
	UplinkPort = 1001 // to physical network Physical
	Physical   = "physnet1"
)

// Bed is some hosts with one desired state.
type Bed struct {
	t     testing.TB
	Store *state.Store
	Hosts []*Host
}

// Host is one of them. It implements trace.Switch.
type Host struct {
	ID       string
	Compiler *flows.Compiler
	OVS      *ovstest.Switch
	Conn     *openflow.Conn
	// Plugs are the ports that are plugged here; Apply keeps them to those whose host this is.
	local   *state.Store
	devices int
	meters  map[uint32]bool
	t       testing.TB
}

// New starts n hosts h1, h2, ..., with underlay addresses 172.31.1.11, .12, ..., that know of each other, and with devices p1 to p<devices> each.
func New(t testing.TB, n, devices int) *Bed {
	t.Helper()
	b := &Bed{t: t, Store: state.NewStore()}
	for i := range n {
		h := &Host{ID: fmt.Sprintf("h%d", i+1), OVS: ovstest.New(t), devices: devices, meters: map[uint32]bool{}, t: t}
		h.start(i, n)
		b.Hosts = append(b.Hosts, h)
	}
	b.Reset()
	return b
}

func underlay(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 31, 1, byte(11 + i)}) } //nolint:gosec // a few

func (h *Host) start(i, n int) {
	h.t.Helper()
	args := []string{"add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy", "fail_mode=secure", "protocols=OpenFlow13",
		"--", "add-port", "br0", "vx0", "--", "set", "Interface", "vx0", "type=vxlan", "options:remote_ip=flow", "options:key=flow", fmt.Sprintf("ofport_request=%d", TunnelPort),
		"--", "add-port", "br0", "up0", "--", "set", "Interface", "up0", "type=dummy", fmt.Sprintf("ofport_request=%d", UplinkPort),
		"--", "add-br", "br1", "--", "set", "Bridge", "br1", "datapath_type=dummy", "--", "add-port", "br1", "ul0", "--", "set", "Interface", "ul0", "type=dummy"}
	for d := 1; d <= h.devices; d++ {
		name := fmt.Sprintf("p%d", d)
		args = append(args, "--", "add-port", "br0", name, "--", "set", "Interface", name, "type=dummy", fmt.Sprintf("ofport_request=%d", d))
	}
	h.OVS.Vsctl(args...)
	h.OVS.Appctl("netdev-dummy/ip4addr", "br1", underlay(i).String()+"/24")
	h.OVS.Appctl("ovs/route/add", "172.31.1.0/24", "br1")
	for other := range n {
		if other != i {
			h.OVS.Appctl("tnl/arp/set", "br1", underlay(other).String(), fmt.Sprintf("02:00:00:00:00:%02x", 11+other))
		}
	}
	conn, err := openflow.Dial(h.t.Context(), openflow.Config{Network: "unix", Address: h.OVS.Mgmt("br0")})
	if err != nil {
		h.t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error { _ = conn.Run(h.t.Context()); return nil })
	h.t.Cleanup(func() { _ = conn.Close(); _ = g.Wait() })
	h.Conn = conn
	if err := conn.SendAll(h.t.Context(), []openflow.Message{flows.SwitchConfig()}); err != nil {
		h.t.Fatal(err)
	}
}

// Reset takes all flows and all of the state away, but for the hosts.
func (b *Bed) Reset() {
	b.t.Helper()
	b.Store = state.NewStore()
	var hosts []state.Object
	for i, h := range b.Hosts {
		hosts = append(hosts, &state.Host{ID: h.ID, Key: uint32(i + 1), TunnelEnds: []state.TunnelEnd{{Address: underlay(i), Port: 4789}}}) //nolint:gosec // a few
		h.Compiler, h.local = flows.New(flows.Config{Host: h.ID, PuntRate: 100, OpRate: 100, NameRate: 100, LogRate: 100, LogBurst: 25}), state.NewStore()
		gone := openflow.NewFlowMod(openflow.FlowDelete)
		gone.Table = openflow.AllTables
		if err := h.Conn.SendAll(b.t.Context(), []openflow.Message{gone, &openflow.GroupMod{Command: openflow.GroupDelete, ID: openflow.AllGroups},
			&openflow.MeterMod{Command: openflow.MeterDelete, ID: openflow.AllMeters}}); err != nil {
			b.t.Fatal(err)
		}
		h.meters = map[uint32]bool{}
	}
	b.Apply(hosts, nil)
}

// Apply changes the desired state and has each host carry it out. A port is plugged on its host, into the device whose number is its key; its zone is its key
// too. Routers have zones 2000 and 3000 above their keys, external networks 4000.
func (b *Bed) Apply(set []state.Object, gone []state.Ref) {
	b.t.Helper()
	b.Store.Apply(set, gone)
	b.Store.Read(func(v *state.View) {
		var shared []state.Object
		for kind := state.KindHost; kind <= state.KindMirror; kind++ {
			for _, id := range v.IDs(state.Index{List: state.ListAll, ID: kind.String()}) {
				shared = append(shared, v.Get(state.Ref{Kind: kind, ID: id}))
			}
		}
		for _, h := range b.Hosts {
			h.sync(v, shared)
		}
	})
}

func (h *Host) sync(v *state.View, shared []state.Object) {
	h.t.Helper()
	local := []state.Object{&state.Tunnel{ID: state.TunnelID(state.VXLAN, 4789), Port: 4789, OFPort: TunnelPort}, &state.Uplink{ID: Physical, OFPort: UplinkPort}}
	for _, p := range state.All[*state.Port](v, state.Index{List: state.ListPortsOfHost, ID: h.ID}) {
		device := p.Key
		if parent := state.Find[*state.Port](v, p.Parent); parent != nil {
			device = parent.Key
		}
		if p.Host == h.ID {
			local = append(local, &state.Plug{ID: p.ID, OFPort: device, Zone: uint16(p.Key)}) //nolint:gosec // small
		}
	}
	for _, r := range state.All[*state.Router](v, state.Index{List: state.ListAll, ID: state.KindRouter.String()}) {
		local = append(local, &state.Zone{ID: r.ID, Snat: uint16(2000 + r.Key), Dnat: uint16(3000 + r.Key)}) //nolint:gosec // small
	}
	for _, n := range state.All[*state.Network](v, state.Index{List: state.ListAll, ID: state.KindNetwork.String()}) {
		if n.External {
			local = append(local, &state.Zone{ID: state.NetworkZone(n.ID), Snat: uint16(4000 + n.Key)}) //nolint:gosec // small
		}
	}
	changes := append(h.local.Replace(shared, false), h.local.Replace(local, true)...)
	var d *flows.Delta
	h.local.Read(func(v *state.View) { d = h.Compiler.Update(v, changes) })
	if clashes := h.Compiler.Clashes(); len(clashes) > 0 {
		m, _ := openflow.DecodeMatch(clashes[0].Match)
		h.t.Fatalf("two parts of the compiler want a flow differently: table %d, priority %d, %s", clashes[0].Table, clashes[0].Priority, m)
	}
	first, bundle, last := h.Compiler.Messages(d, 1, func(id uint32) bool { return h.meters[id] })
	for _, step := range []func() error{
		func() error { return h.Conn.SendAll(h.t.Context(), first) },
		func() error { return h.Conn.Bundle(h.t.Context(), bundle) },
		func() error { return h.Conn.SendAll(h.t.Context(), last) },
	} {
		if err := step(); err != nil {
			h.t.Fatalf("host %s: %v", h.ID, err)
		}
	}
	for _, id := range d.Meters {
		h.meters[id] = true
	}
	for _, id := range d.MetersGone {
		delete(h.meters, id)
	}
}

// Trace implements trace.Switch.
func (h *Host) Trace(_ context.Context, flow string, established bool) (*api.TraceResult, error) {
	text, err := h.OVS.Try("ovs-appctl", append([]string{"-t", h.OVS.Dir + "/vswitchd.ctl", "ofproto/trace", "--names", "br0", flow}, trace.Established(established)...)...)
	return &api.TraceResult{Text: text}, err
}

// Devices implements trace.Switch.
func (h *Host) Devices() map[string]trace.Device {
	out := map[string]trace.Device{"vx0": {Tunnel: true}, "up0": {Physical: Physical}}
	h.local.Read(func(v *state.View) {
		for _, p := range state.All[*state.Plug](v, state.Index{List: state.ListAll, ID: state.KindPlug.String()}) {
			if port := state.Find[*state.Port](v, p.ID); port != nil && port.Parent == "" {
				out[fmt.Sprintf("p%d", p.OFPort)] = trace.Device{Port: p.ID}
			}
		}
	})
	return out
}

// Switch is the switch of a host, or nil.
func (b *Bed) Switch(host string) trace.Switch {
	for _, h := range b.Hosts {
		if h.ID == host {
			return h
		}
	}
	return nil
}
