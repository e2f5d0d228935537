package flows

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/agents/state"
)

// lab is one host with a real Open vSwitch on dummy devices: what the compiler makes goes in, and ofproto/trace says what becomes of packets.
type lab struct {
	t        testing.TB
	ovs      *ovstest.Switch
	conn     *openflow.Conn
	store    *state.Store
	compiler *Compiler
	meters   map[uint32]bool
}

const (
	labHost     = "h1"
	labTunnel   = 100 // the switch's port for VXLAN
	labUplink   = 101 // towards physical network physnet1
	labUnderlay = "172.31.1.11"
)

// newLab starts a host h1 with a tunnel to h2 (172.31.1.12) and h3 (172.31.1.13), and an uplink.
func newLab(t testing.TB) *lab {
	t.Helper()
	return newLabOf(t, Config{Host: labHost, LogRate: 100, LogBurst: 25}, nil)
}

// newLabOf is newLab for a compiler of another configuration, with what becomes of packet-ins.
func newLabOf(t testing.TB, cfg Config, handle func(uint32, openflow.Message)) *lab {
	t.Helper()
	l := &lab{t: t, ovs: ovstest.New(t), store: state.NewStore(), compiler: New(cfg), meters: map[uint32]bool{}}
	l.ovs.Vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy", "fail_mode=secure", "protocols=OpenFlow13")
	l.ovs.Vsctl("add-port", "br0", "vx0", "--", "set", "Interface", "vx0", "type=vxlan", "options:remote_ip=flow", "options:key=flow",
		fmt.Sprintf("ofport_request=%d", labTunnel))
	l.device("up0", labUplink)
	// The underlay: the tunnels' addresses are on a bridge of its own, whose other hosts are known.
	l.ovs.Vsctl("add-br", "br1", "--", "set", "Bridge", "br1", "datapath_type=dummy", "--", "add-port", "br1", "ul0", "--", "set", "Interface", "ul0", "type=dummy")
	l.ovs.Appctl("netdev-dummy/ip4addr", "br1", labUnderlay+"/24")
	l.ovs.Appctl("ovs/route/add", "172.31.1.0/24", "br1")
	for n := 12; n <= 13; n++ {
		l.ovs.Appctl("tnl/arp/set", "br1", fmt.Sprintf("172.31.1.%d", n), fmt.Sprintf("02:00:00:00:00:%02d", n))
	}
	conn, err := openflow.Dial(t.Context(), openflow.Config{Network: "unix", Address: l.ovs.Mgmt("br0"), Handle: handle})
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error { _ = conn.Run(t.Context()); return nil })
	t.Cleanup(func() { _ = conn.Close(); _ = g.Wait() })
	l.conn = conn
	if err := conn.SendAll(t.Context(), []openflow.Message{SwitchConfig()}); err != nil {
		t.Fatal(err)
	}
	objects := []state.Object{
		&state.Tunnel{ID: state.TunnelID(state.VXLAN, 4789), Encap: state.VXLAN, Port: 4789, OFPort: labTunnel},
		&state.Uplink{ID: "physnet1", OFPort: labUplink},
	}
	for i := range 3 {
		objects = append(objects, &state.Host{ID: fmt.Sprintf("h%d", i+1), Key: uint32(i + 1), //nolint:gosec // small
			TunnelEnds: []state.TunnelEnd{{Address: netip.AddrFrom4([4]byte{172, 31, 1, byte(11 + i)}), Port: 4789}}})
	}
	l.set(objects...)
	return l
}

func (l *lab) device(name string, ofport int) {
	l.ovs.Vsctl("add-port", "br0", name, "--", "set", "Interface", name, "type=dummy", fmt.Sprintf("ofport_request=%d", ofport))
}

// set makes objects, and the switch carry them out. It fails the test when the compiler is at odds with itself.
func (l *lab) set(objects ...state.Object) *Delta { l.t.Helper(); return l.apply(objects, nil) }

func (l *lab) remove(refs ...state.Ref) *Delta { l.t.Helper(); return l.apply(nil, refs) }

func (l *lab) apply(objects []state.Object, gone []state.Ref) *Delta {
	l.t.Helper()
	changes := l.store.Apply(objects, gone)
	var d *Delta
	l.store.Read(func(v *state.View) { d = l.compiler.Update(v, changes) })
	if clashes := l.compiler.Clashes(); len(clashes) > 0 {
		m, _ := openflow.DecodeMatch(clashes[0].Match)
		l.t.Fatalf("two parts of the compiler want a flow differently: table %d, priority %d, %s", clashes[0].Table, clashes[0].Priority, m)
	}
	first, bundle, last := l.compiler.Messages(d, 1, func(id uint32) bool { return l.meters[id] })
	if err := l.conn.SendAll(l.t.Context(), first); err != nil {
		l.t.Fatalf("meters: %v", err)
	}
	if err := l.conn.Bundle(l.t.Context(), bundle); err != nil {
		l.t.Fatalf("bundle: %v", err)
	}
	if err := l.conn.SendAll(l.t.Context(), last); err != nil {
		l.t.Fatalf("meters: %v", err)
	}
	for _, id := range d.Meters {
		l.meters[id] = true
	}
	for _, id := range d.MetersGone {
		delete(l.meters, id)
	}
	return d
}

// plug makes a guest's device and a port of a network on this host. It has no security groups and no port security unless change says so.
func (l *lab) plug(n int, network string, addresses string, change func(*state.Port)) *state.Port {
	l.t.Helper()
	p := l.port(n, network, labHost, addresses, change)
	l.device(fmt.Sprintf("p%d", n), n)
	l.set(p, &state.Plug{ID: p.ID, OFPort: uint32(n), Zone: uint16(n)}) //nolint:gosec // small
	return p
}

// port is a port p<n> with key n, MAC fa:16:3e:00:00:<n>; addresses are separated by spaces.
func (l *lab) port(n int, network, host, addresses string, change func(*state.Port)) *state.Port {
	p := &state.Port{ID: fmt.Sprintf("p%d", n), Key: uint32(n), Network: network, MAC: labMAC(n), Host: host, QoS: state.QoS{DSCP: -1}} //nolint:gosec // small
	for _, a := range strings.Fields(addresses) {
		p.FixedIPs = append(p.FixedIPs, state.FixedIP{Subnet: "s-" + network, Address: netip.MustParseAddr(a)})
	}
	if change != nil {
		change(p)
	}
	return p
}

func labMAC(n int) state.MAC { return 0xfa163e000000 | state.MAC(n) } //nolint:gosec // small

// command runs a command of ovs-appctl(8), without a process for each.
func (l *lab) command(name string, args ...string) string {
	l.t.Helper()
	c, err := net.Dial("unix", filepath.Join(l.ovs.Dir, "vswitchd.ctl"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // all was read
	var answer struct {
		Result string `json:"result"`
		Error  any    `json:"error"`
	}
	if err := json.NewEncoder(c).Encode(map[string]any{"method": name, "params": append([]string{}, args...), "id": 0}); err != nil {
		l.t.Fatal(err)
	}
	if err := json.NewDecoder(c).Decode(&answer); err != nil || answer.Error != nil {
		l.t.Fatalf("%s %q: %v %v", name, args, answer.Error, err)
	}
	return answer.Result
}

// trace asks the switch what it would do with a packet, and returns the datapath's actions, with the names of devices: p1 of a guest, vx0, up0. flow is in the words of ovs-fields(7).
func (l *lab) trace(flow string, args ...string) (does, how string) {
	l.t.Helper()
	out := l.command("ofproto/trace", append([]string{"--names", "br0", flow}, args...)...)
	all := datapathActions.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		l.t.Fatalf("no datapath actions in\n%s", out)
	}
	var last []string
	for _, m := range all {
		last = append(last, m[1])
	}
	return strings.Join(last, " | "), out
}

var datapathActions = regexp.MustCompile(`Datapath actions: (.*)`)

// tunnelled is what the datapath does for a packet that goes to another host.
func tunnelled(host, key string) string {
	return `(?:tnl_push|clone\(tnl_push)\([^|]*dst=172\.31\.1\.` + host + `,[^|]*vni=` + key + `\)[^|]*\),ul0\)?`
}

// expect traces a packet and compares what the datapath does with a regular expression.
func (l *lab) expect(what, flow, want string) {
	l.t.Helper()
	if got, how := l.trace(flow); !regexp.MustCompile("^(?:" + want + ")$").MatchString(got) {
		l.t.Errorf("%s: %s\n does   %s\n want   %s\n%s", what, flow, got, want, how)
	}
}

// same fails the test where the switch's flows are not the program's.
func (l *lab) same() {
	l.t.Helper()
	bodies, err := l.conn.Multipart(l.t.Context(), openflow.PartFlow, openflow.EveryFlow())
	if err != nil {
		l.t.Fatal(err)
	}
	have := map[FlowKey]Flow{}
	for _, b := range bodies {
		for _, f := range b.(*openflow.FlowStatsList).Flows { //nolint:errcheck,forcetypeassert // what the request is answered with
			instr, err := openflow.InstructionsKey(f.Instructions)
			if err != nil {
				l.t.Fatal(err)
			}
			have[FlowKey{Table(f.Table), f.Priority, f.Match.Key()}] = Flow{Cookie(f.Cookie).WithEpoch(0), instr}
		}
	}
	l.compiler.Flows(func(k FlowKey, f Flow) bool {
		if have[k] != f {
			m, _ := openflow.DecodeMatch(k.Match)
			l.t.Errorf("table %d, priority %d, %s: the switch does not have what was compiled", k.Table, k.Priority, m)
		}
		delete(have, k)
		return true
	})
	for k := range have {
		m, _ := openflow.DecodeMatch(k.Match)
		l.t.Errorf("table %d, priority %d, %s: the switch has it, the program has not", k.Table, k.Priority, m)
	}
}
