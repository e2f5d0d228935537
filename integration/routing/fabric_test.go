package routing_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// fabric is some hosts whose switches carry out one desired state.
type fabric struct {
	t       *testing.T
	bed     *hosts.Bed
	members map[string]*member
	keys    uint32
	changed bool // since settle
}

// member is a host's compiler and switch.
type member struct {
	*hosts.Host
	store    *state.Store
	compiler *flows.Compiler
	conn     *openflow.Conn
	meters   map[uint32]bool
	zones    uint16
}

func newFabric(t *testing.T, n int) *fabric {
	t.Helper()
	f := &fabric{t: t, bed: hosts.Up(t, hosts.Config{Hosts: n, Outside: hosts.Segments()}), members: map[string]*member{}}
	var all []state.Object
	for i, h := range f.bed.Hosts() {
		m := &member{Host: h, store: state.NewStore(), compiler: flows.New(flows.Config{Host: h.Name, PuntRate: 100, OpRate: 100}), meters: map[uint32]bool{}}
		h.Vsctl("add-port", hosts.Integration, "int-ex", "--", "set", "Interface", "int-ex", "type=patch", "options:peer=ex-int",
			"--", "add-port", hosts.Provider, "ex-int", "--", "set", "Interface", "ex-int", "type=patch", "options:peer=int-ex")
		conn, err := openflow.Dial(t.Context(), openflow.Config{Network: "unix", Address: h.Mgmt(hosts.Integration)})
		if err != nil {
			t.Fatal(err)
		}
		var g errgroup.Group
		g.Go(func() error { _ = conn.Run(t.Context()); return nil })
		t.Cleanup(func() { _ = conn.Close(); _ = g.Wait() })
		m.conn = conn
		f.members[h.Name] = m
		f.at(h.Name,
			&state.Tunnel{ID: state.TunnelID(state.VXLAN, 4789), Port: 4789, OFPort: uint32(h.AddVXLAN("vxlan0"))}, //nolint:gosec // small
			&state.Uplink{ID: hosts.Physnet, OFPort: uint32(h.OFPort("int-ex"))})                                   //nolint:gosec // small
		all = append(all, &state.Host{ID: h.Name, Key: uint32(i + 1), TunnelEnds: []state.TunnelEnd{{Address: h.UnderlayIP, Port: 4789}}}) //nolint:gosec // small
	}
	f.set(all...)
	return f
}

// set makes objects of the desired state.
func (f *fabric) set(objects ...state.Object) {
	f.t.Helper()
	f.changed = true
	for _, m := range f.members {
		m.apply(f.t, objects, nil)
	}
}

// at makes objects that one host knows itself.
func (f *fabric) at(host string, objects ...state.Object) {
	f.t.Helper()
	f.changed = true
	f.members[host].apply(f.t, objects, nil)
}

func (f *fabric) remove(refs ...state.Ref) {
	f.t.Helper()
	f.changed = true
	for _, m := range f.members {
		m.apply(f.t, nil, refs)
	}
}

func (m *member) apply(t *testing.T, objects []state.Object, gone []state.Ref) {
	t.Helper()
	changes := m.store.Apply(objects, gone)
	var d *flows.Delta
	m.store.Read(func(v *state.View) { d = m.compiler.Update(v, changes) })
	if n := len(m.compiler.Clashes()); n > 0 {
		t.Fatalf("%s: the compiler is at odds with itself over %d flows", m.Name, n)
	}
	first, bundle, last := m.compiler.Messages(d, 1, func(id uint32) bool { return m.meters[id] })
	for _, id := range d.Meters {
		m.meters[id] = true
	}
	for _, id := range d.MetersGone {
		delete(m.meters, id)
	}
	for _, err := range []error{m.conn.SendAll(t.Context(), first), m.conn.Bundle(t.Context(), bundle), m.conn.SendAll(t.Context(), last)} {
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
	}
}

// vm makes a guest with one address of each family in a network, and the first of each prefix as its router.
func (f *fabric) vm(name, host, network string, addresses ...string) *hosts.VM {
	f.t.Helper()
	cfg := hosts.VMConfig{}
	f.keys++
	port := &state.Port{ID: name, Key: f.keys, Network: network, Host: host, QoS: state.QoS{DSCP: -1}, PortSecurity: true, SecurityGroups: []string{"open"}}
	for _, a := range addresses {
		p := netip.MustParsePrefix(a)
		cfg.IPs = append(cfg.IPs, p)
		cfg.Gateways = append(cfg.Gateways, p.Masked().Addr().Next())
		port.FixedIPs = append(port.FixedIPs, state.FixedIP{Address: p.Addr()})
	}
	vm := f.bed.VM(name, f.bed.Host(host), cfg)
	port.MAC = state.MACOf(vm.MAC)
	m := f.members[host]
	m.zones++
	f.at(host, &state.Plug{ID: name, OFPort: uint32(vm.OFPort()), Zone: m.zones}) //nolint:gosec // small
	f.set(port)
	return vm
}

// settle waits until no switch forwards by flows that were changed: what it has worked out for a connection stays for a moment.
func (f *fabric) settle() {
	f.t.Helper()
	if !f.changed {
		return
	}
	f.changed = false
	for _, m := range f.members {
		m.Appctl("revalidator/wait")
	}
}

// talks fails unless an exchange goes well, and the answerer sees one of the addresses.
func (f *fabric) talks(who *hosts.Node, network string, to netip.AddrPort, seenAs ...string) netip.AddrPort {
	f.t.Helper()
	f.settle()
	seen, err := who.Talk(f.t.Context(), network, to)
	if err != nil {
		f.t.Errorf("%s to %s %s: %v", who.Name, network, to, err)
		return seen
	}
	for _, a := range seenAs {
		if seen.Addr() == netip.MustParseAddr(a) {
			return seen
		}
	}
	f.t.Errorf("%s to %s %s: is seen as %s, want %s", who.Name, network, to, seen, strings.Join(seenAs, " or "))
	return seen
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func at(a string, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr(a), port) }

func interfaces(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func mac(n int) state.MAC { return 0xfa163e100000 | state.MAC(n) } //nolint:gosec // small

// knows makes a host know who has an address outside, as its agent would have learned.
func (f *fabric) knows(network, address string, whose state.MAC) state.Object {
	return &state.Neighbor{ID: fmt.Sprint(network, "-", address), Network: network, Address: addr(address), MAC: whose}
}
