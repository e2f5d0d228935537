// Package packets holds the tests in which what agents/flows compiles carries real packets: VMs on emulated hosts, whose Open vSwitches are
// given the compiler's program without an agent between.
package packets

import (
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Fleet is the hosts of a bed, all of which carry one desired state out.
type Fleet struct {
	*hosts.Bed
	t     testing.TB
	hosts map[*hosts.Host]*programmed
	order []*programmed
	ports uint32 // keys given
}

// programmed is a host and what it was told.
type programmed struct {
	host     *hosts.Host
	store    *state.Store
	compiler *flows.Compiler
	conn     *openflow.Conn
	meters   map[uint32]bool
	zones    uint16 // given
}

// Up makes hosts that know of each other and of nothing else.
func Up(t testing.TB, cfg hosts.Config) *Fleet {
	t.Helper()
	f := &Fleet{Bed: hosts.Up(t, cfg), t: t, hosts: map[*hosts.Host]*programmed{}}
	var all []state.Object
	for i, h := range f.Hosts() {
		p := &programmed{host: h, store: state.NewStore(), compiler: flows.New(flows.Config{Host: h.Name}), meters: map[uint32]bool{}}
		f.hosts[h], f.order = p, append(f.order, p)
		f.connect(p)
		f.local(p, &state.Tunnel{ID: state.TunnelID(state.VXLAN, 4789), Port: 4789, OFPort: uint32(h.AddVXLAN("vxlan0"))}) //nolint:gosec // a port number
		all = append(all, &state.Host{ID: h.Name, Key: uint32(i + 1), TunnelEnds: []state.TunnelEnd{{Address: h.UnderlayIP, Port: 4789}}})
	}
	f.Set(all...)
	return f
}

func (f *Fleet) connect(p *programmed) {
	f.t.Helper()
	var err error
	if p.conn, err = openflow.Dial(f.t.Context(), openflow.Config{Network: "unix", Address: p.host.Mgmt(hosts.Integration)}); err != nil {
		f.t.Fatalf("connect to %s: %v", p.host.Name, err)
	}
	var g errgroup.Group
	g.Go(func() error { return p.conn.Run(f.t.Context()) })
	f.t.Cleanup(func() { _ = p.conn.Close(); _ = g.Wait() })
	if err := p.conn.SendAll(f.t.Context(), []openflow.Message{flows.SwitchConfig()}); err != nil {
		f.t.Fatalf("configure %s: %v", p.host.Name, err)
	}
}

// Set makes objects at all hosts.
func (f *Fleet) Set(objects ...state.Object) {
	f.t.Helper()
	for _, p := range f.order {
		f.local(p, objects...)
	}
}

// local makes objects at one host.
func (f *Fleet) local(p *programmed, objects ...state.Object) {
	f.t.Helper()
	f.apply(p, objects, nil)
}

func (f *Fleet) apply(p *programmed, objects []state.Object, gone []state.Ref) {
	f.t.Helper()
	changes := p.store.Apply(objects, gone)
	var d *flows.Delta
	p.store.Read(func(v *state.View) { d = p.compiler.Update(v, changes) })
	first, bundle, last := p.compiler.Messages(d, 1, func(id uint32) bool { return p.meters[id] })
	for _, id := range d.Meters {
		p.meters[id] = true
	}
	for _, id := range d.MetersGone {
		delete(p.meters, id)
	}
	ctx := f.t.Context()
	for _, step := range []func() error{
		func() error { return p.conn.SendAll(ctx, first) }, func() error { return p.conn.Bundle(ctx, bundle) }, func() error { return p.conn.SendAll(ctx, last) },
	} {
		if err := step(); err != nil {
			f.t.Fatalf("program %s: %v", p.host.Name, err)
		}
	}
	p.host.Appctl("revalidator/wait") // what the datapath has decided before is decided anew a moment later
}

// Guest makes a VM and its port on a network, with the VM's addresses; change may make the port another.
func (f *Fleet) Guest(name string, h *hosts.Host, network string, cfg hosts.VMConfig, change func(*state.Port)) (*hosts.VM, *state.Port) {
	f.t.Helper()
	vm := f.VM(name, h, cfg)
	f.ports++
	port := &state.Port{ID: name, Key: f.ports, Network: network, MAC: state.MACOf(vm.MAC), Host: h.Name, PortSecurity: true, QoS: state.QoS{DSCP: -1}}
	for _, a := range cfg.IPs {
		port.FixedIPs = append(port.FixedIPs, state.FixedIP{Address: a.Addr()})
	}
	if change != nil {
		change(port)
	}
	p := f.hosts[h]
	p.zones++
	f.local(p, &state.Plug{ID: name, OFPort: uint32(vm.OFPort()), Zone: p.zones}) //nolint:gosec // a port number
	f.Set(port)
	return vm, port
}
