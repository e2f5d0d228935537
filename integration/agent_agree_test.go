package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/statefile"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// agreeRuns names a number of topologies other than agreeRunsUsual.
const (
	agreeRuns      = "HEADWATER_AGREE_RUNS"
	agreeRunsUsual = 8
)

// What should happen by the state alone, what the switches of agents would do, and what a real packet does are the same, for random packets of random
// topologies. The topologies are the same in each run of the test; with more runs, more follow.
func TestAgentsAgree(t *testing.T) {
	t.Parallel()
	runs := agreeRunsUsual
	if more := os.Getenv(agreeRuns); more != "" {
		var err error
		if runs, err = strconv.Atoi(more); err != nil {
			t.Fatalf("%s: %v", agreeRuns, err)
		}
	}
	a := newAgreement(t)
	seen := map[trace.Verdict]int{}
	gen := rapid.Custom(a.draw)
	for seed := range runs {
		top := gen.Example(seed)
		a.becomes(t.Context(), top)
		for _, s := range top.sent {
			for _, e := range a.compare(t.Context(), seed, s) {
				seen[e.Verdict]++
			}
		}
	}
	t.Logf("%d topologies, ends of packets: %v", runs, seen)
	for _, v := range []trace.Verdict{trace.Dropped, trace.Delivered, trace.Answered, trace.Served} {
		if seen[v] == 0 {
			t.Errorf("no packet was %s: the packets prove less than they should", v)
		}
	}
}

// agreement is guests whose devices stay while their ports become others. Each device is a trunk: a subport of each, in a network of their own where
// all is allowed, carries what tells that a packet must have arrived by now.
type agreement struct {
	*fleet
	guests  []*guest
	base    *api.State // what is in each topology
	devices map[string]map[string]trace.Device
	next    uint16 // source port or identifier of the next packet: no two are of one connection
}

const (
	agreeGuests = 6
	markVLAN    = 4000
)

// guest is a device, with all that it has received.
type guest struct {
	*hosts.VM
	socket *probe.Socket

	mu   sync.Mutex // guards the field below
	seen map[uint64]bool
}

func newAgreement(t *testing.T) *agreement {
	t.Helper()
	a := &agreement{fleet: newFleet(t, 3), devices: map[string]map[string]trace.Device{}, next: 2000}
	a.state.Networks, a.state.Subnets = []*api.Network{{Id: "marks", Key: 90}}, nil
	for i := range agreeGuests {
		h := a.bed.Hosts()[i%3]
		vm := a.bed.VM(fmt.Sprintf("g%d", i), h, hosts.VMConfig{IfaceID: fmt.Sprintf("g%d-agreement", i)})
		g := &guest{VM: vm, seen: map[uint64]bool{}}
		var err error
		if g.socket, err = probe.Open(vm, "eth0"); err != nil {
			t.Fatal(err)
		}
		var reading sync.WaitGroup
		reading.Go(g.read)
		t.Cleanup(func() { _ = g.socket.Close(); reading.Wait() })
		a.guests = append(a.guests, g)
		mark := &api.Port{Id: "mark-" + vm.Name, Key: uint32(50 + i), Network: "marks", Mac: markMAC(i).String(), Host: h.Name, Parent: vm.IfaceID, ParentVlan: markVLAN} //nolint:gosec // small
		a.state.Ports = append(a.state.Ports, mark)
		if a.devices[h.Name] == nil {
			a.devices[h.Name] = map[string]trace.Device{}
		}
		a.devices[h.Name][vm.Tap] = trace.Device{Port: vm.IfaceID}
	}
	a.base = &api.State{Hosts: a.state.Hosts, Networks: a.state.Networks, Ports: a.state.Ports}
	return a
}

func markMAC(i int) net.HardwareAddr { return net.HardwareAddr{0xfa, 0x16, 0x3e, 0xee, 0, byte(i)} }

// markWord stands before the number of each packet.
const markWord = "HeadMark"

// read notes the numbers of all frames that come, until the socket is closed.
func (g *guest) read() {
	for {
		frame, err := g.socket.Receive(time.Now().Add(time.Hour))
		if err != nil {
			return
		}
		if i := bytes.Index(frame, []byte(markWord)); i >= 0 && len(frame) >= i+len(markWord)+8 {
			g.mu.Lock()
			g.seen[binary.BigEndian.Uint64(frame[i+len(markWord):])] = true
			g.mu.Unlock()
		}
	}
}

func (g *guest) got(number uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[number]
}

func marked(number uint64) []byte { return binary.BigEndian.AppendUint64([]byte(markWord), number) }

// drawn is a topology and what its guests send.
type drawn struct {
	networks []*api.Network
	subnets  []*api.Subnet
	ports    []*api.Port
	routers  []*api.Router
	groups   []*api.SecurityGroup
	sets     []*api.AddressSet
	sent     []sent
}

type sent struct {
	from   int // guest
	packet trace.Packet
}

// becomes has the agents carry out another topology.
func (a *agreement) becomes(ctx context.Context, d *drawn) {
	a.t.Helper()
	a.state.Networks, a.state.Subnets = append(slices.Clone(a.base.Networks), d.networks...), d.subnets
	a.state.Ports, a.state.Routers = append(slices.Clone(a.base.Ports), d.ports...), d.routers
	a.state.SecurityGroups, a.state.AddressSets = d.groups, d.sets
	a.settle(ctx)
	for _, h := range a.bed.Hosts() {
		for name := range a.devices[h.Name] {
			if a.devices[h.Name][name].Tunnel {
				delete(a.devices[h.Name], name)
			}
		}
		for _, name := range strings.Fields(h.Vsctl("--bare", "--columns=name", "find", "Interface", "type=vxlan")) {
			a.devices[h.Name][name] = trace.Device{Tunnel: true}
		}
	}
	// A switch in user space drops the first packet into a tunnel: it has to ask the underlay who the other end is.
	for i := range a.guests {
		a.marks(ctx, i, a.number(a.next))
		a.next++
	}
}

// asked is the switch of a host.
type asked struct {
	*hosts.Host
	devices map[string]trace.Device
}

func (s asked) Trace(ctx context.Context, flow string, established bool) (*api.TraceResult, error) {
	text, err := s.Exec(ctx, "ovs-appctl", append([]string{"-t", s.Dir + "/ovs-vswitchd.ctl", "ofproto/trace", "--names", hosts.Integration, flow}, trace.Established(established)...)...)
	return &api.TraceResult{Text: text}, err
}

func (s asked) Devices() map[string]trace.Device { return s.devices }

// compare simulates a packet, has it checked and sends it. It returns where the packet should end.
func (a *agreement) compare(ctx context.Context, seed int, s sent) []trace.End {
	a.t.Helper()
	raw, err := protojson.Marshal(a.state)
	if err != nil {
		a.t.Fatal(err)
	}
	objects, err := statefile.Parse("state.json", raw)
	if err != nil {
		a.t.Fatal(err)
	}
	store := state.NewStore()
	store.Apply(objects, nil)
	g := a.guests[s.from]
	var simulated, checked *trace.Result
	store.Read(func(v *state.View) {
		if simulated, err = trace.Simulate(v, g.IfaceID, s.packet); err != nil {
			a.t.Fatal(err)
		}
		checked, err = trace.Check(ctx, v, func(host string) trace.Switch { return asked{a.bed.Host(host), a.devices[host]} }, g.IfaceID, s.packet)
		if err != nil {
			a.t.Fatal(err)
		}
	})
	if !trace.Agree(g.IfaceID, simulated, checked) {
		a.t.Errorf("topology %d: %s sends %s\nsimulated:\n%schecked:\n%s", seed, g.Name, s.packet.Text(), simulated, checked)
	}
	want := map[string]bool{}
	for _, e := range simulated.Ends {
		if e.Verdict == trace.Delivered {
			want[e.Port] = true
		}
	}
	for i, got := range a.real(ctx, s) {
		to := a.guests[i]
		if to != g && got != want[to.IfaceID] {
			a.t.Errorf("topology %d: %s sends %s\nsimulated:\n%sbut that a real packet arrives at %s is %t", seed, g.Name, s.packet.Text(), simulated, to.Name, got)
		}
	}
	if told(simulated.Ends) && s.packet.Type != trace.ARP && a.owns(s) {
		a.await(ctx, g.Name+" is told of "+s.packet.Text(), func() error {
			if !g.got(a.number(a.next - 1)) {
				return errors.New("it is not")
			}
			return nil
		})
	}
	return simulated.Ends
}

// told says whether the sender gets an answer, or an error that quotes the packet.
func told(ends []trace.End) bool {
	return slices.ContainsFunc(ends, func(e trace.End) bool {
		return e.Verdict == trace.Answered || e.Verdict == trace.Served && (e.Reason == "ttl" || e.Reason == "unreachable")
	})
}

// owns says whether an answer would come back to the sender.
func (a *agreement) owns(s sent) bool {
	return slices.ContainsFunc(a.state.Ports, func(p *api.Port) bool {
		return p.Id == a.guests[s.from].IfaceID && slices.ContainsFunc(p.FixedIps, func(f *api.FixedIP) bool { return f.Address == s.packet.Src.String() })
	})
}

// number is what a packet is known by; those above it are its marks.
func (a *agreement) number(packet uint16) uint64 { return uint64(packet) << 32 }

// real sends a packet and says which guests it reaches.
func (a *agreement) real(ctx context.Context, s sent) []bool {
	a.t.Helper()
	g := a.guests[s.from]
	number := a.number(a.next)
	if err := g.socket.Send(frameOf(s.packet, a.next, marked(number))); err != nil {
		a.t.Fatal(err)
	}
	// What a switch has begun with when the first mark comes, it has done when it begins with the second one.
	for range 2 {
		number++
		a.marks(ctx, s.from, number)
	}
	a.next++
	reached := make([]bool, len(a.guests))
	for i, to := range a.guests {
		reached[i] = to.got(a.number(a.next - 1))
	}
	return reached
}

// marks sends a mark to all other guests, and waits until it is there.
func (a *agreement) marks(ctx context.Context, from int, number uint64) {
	a.t.Helper()
	mark := probe.Tagged(probe.Ethernet(probe.Broadcast(), markMAC(from), 0x88b5, marked(number)), markVLAN)
	a.await(ctx, "a mark is everywhere", func() error {
		if err := a.guests[from].socket.Send(mark); err != nil {
			return err
		}
		for i, g := range a.guests {
			if i != from && !g.got(number) {
				return fmt.Errorf("not at %s", g.Name)
			}
		}
		return nil
	})
}

func hardware(m state.MAC) net.HardwareAddr { return m.Bytes() }

// frameOf is a packet as it is sent; port is its source port, or the identifier of its echo request.
func frameOf(p trace.Packet, port uint16, mark []byte) []byte {
	var b []byte
	switch {
	case p.Type == trace.ARP:
		return append(probe.ARP(uint16(trace.ARP), p.ARPOp, hardware(p.ARPSHA), p.Src, make(net.HardwareAddr, 6), p.Dst, hardware(p.EthDst)), mark...)
	case p.Proto == trace.TCP: // SYN
		b = append([]byte{12: 5 << 4, 13: 2, 14: 0xff, 19: 0}, mark...)
		binary.BigEndian.PutUint16(b, port)
		binary.BigEndian.PutUint16(b[2:], p.DstPort)
	case p.Proto == trace.UDP:
		b = append([]byte{7: 0}, mark...)
		binary.BigEndian.PutUint16(b, port)
		binary.BigEndian.PutUint16(b[2:], p.DstPort)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b))) //nolint:gosec // small
	default:
		b = append([]byte{p.ICMPType, p.ICMPCode, 7: 0}, mark...)
		binary.BigEndian.PutUint16(b[4:], port)
	}
	return probe.IP(hardware(p.EthSrc), hardware(p.EthDst), p.Src, p.Dst, byte(p.Proto), p.TTL, b) //nolint:gosec // 8 bits
}

// draw draws a topology.
func (a *agreement) draw(r *rapid.T) *drawn {
	d := &drawn{}
	for n := 1; n <= 3; n++ {
		id := fmt.Sprintf("n%d", n)
		d.networks = append(d.networks, &api.Network{Id: id, Key: uint32(n)}) //nolint:gosec // small
		d.subnets = append(d.subnets, &api.Subnet{Id: id + "-4", Network: id, Cidr: fmt.Sprintf("10.0.%d.0/24", n)}, &api.Subnet{Id: id + "-6", Network: id, Cidr: fmt.Sprintf("fd00:%d::/64", n)})
	}
	for i := range 3 {
		group := &api.SecurityGroup{Id: fmt.Sprintf("sg%d", i)}
		for n := range rapid.IntRange(1, 5).Draw(r, "rules") {
			group.Rules = append(group.Rules, drawRule(r, n))
		}
		for _, direction := range []api.SecurityRule_Direction{api.SecurityRule_INGRESS, api.SecurityRule_EGRESS} {
			for _, family := range []api.SecurityRule_Family{api.SecurityRule_IPV4, api.SecurityRule_IPV6} {
				if rapid.IntRange(0, 2).Draw(r, "open") > 0 { // most packets should come further than to the first fence
					group.Rules = append(group.Rules, &api.SecurityRule{Id: fmt.Sprintf("open-%d-%d", direction, family), Direction: direction, Family: family})
				}
			}
		}
		set := &api.AddressSet{Id: fmt.Sprintf("set%d", i)}
		for range rapid.IntRange(0, 3).Draw(r, "members") {
			n, guest := rapid.IntRange(1, 3).Draw(r, "n"), rapid.IntRange(0, agreeGuests-1).Draw(r, "guest")
			set.Addresses = append(set.Addresses, v4(n, 10+guest), v6(n, 10+guest))
		}
		slices.Sort(set.Addresses)
		set.Addresses = slices.Compact(set.Addresses)
		d.groups, d.sets = append(d.groups, group), append(d.sets, set)
	}
	for i := range rapid.IntRange(1, 2).Draw(r, "routers") {
		d.routers = append(d.routers, drawRouter(r, i))
	}
	for i, g := range a.guests {
		n := rapid.IntRange(1, 3).Draw(r, "network")
		p := &api.Port{Id: g.IfaceID, Key: uint32(10 + i), Network: fmt.Sprintf("n%d", n), Mac: g.MAC.String(), Host: g.Host().Name, BindingEpoch: 1, //nolint:gosec // small
			PortSecurity: rapid.IntRange(0, 4).Draw(r, "secure") > 0, FixedIps: []*api.FixedIP{{Subnet: fmt.Sprintf("n%d-4", n), Address: v4(n, 10+i)}, {Subnet: fmt.Sprintf("n%d-6", n), Address: v6(n, 10+i)}}}
		for s := range 3 {
			if rapid.IntRange(0, 2).Draw(r, "in group") > 0 {
				p.SecurityGroups = append(p.SecurityGroups, fmt.Sprintf("sg%d", s))
			}
		}
		if rapid.IntRange(0, 3).Draw(r, "pair") == 0 {
			p.AllowedPairs = []*api.AddressPair{{Prefix: fmt.Sprintf("10.0.%d.200/29", n)}}
		}
		d.ports = append(d.ports, p)
	}
	for range 15 {
		d.sent = append(d.sent, a.drawPacket(r, d))
	}
	return d
}

func v4(n, i int) string { return fmt.Sprintf("10.0.%d.%d", n, i) }
func v6(n, i int) string { return fmt.Sprintf("fd00:%d::%x", n, i) }

func drawRule(r *rapid.T, n int) *api.SecurityRule {
	rule := &api.SecurityRule{Id: fmt.Sprintf("r%d", n), Direction: api.SecurityRule_Direction(rapid.IntRange(0, 1).Draw(r, "direction")), //nolint:gosec // small
		Family: api.SecurityRule_Family(rapid.IntRange(0, 1).Draw(r, "family"))} //nolint:gosec // small
	icmp := trace.ICMP
	if rule.Family == api.SecurityRule_IPV6 {
		icmp = trace.ICMPv6
	}
	switch proto := rapid.SampledFrom([]int{-1, -1, icmp, trace.TCP, trace.UDP}).Draw(r, "protocol"); proto {
	case trace.TCP, trace.UDP:
		rule.ProtocolPlusOne = uint32(proto + 1) //nolint:gosec // small
		rule.PortMin = uint32(rapid.IntRange(1, 100).Draw(r, "from"))
		rule.PortMax = uint32(rapid.IntRange(int(rule.PortMin), 200).Draw(r, "to"))
	case icmp:
		rule.ProtocolPlusOne = uint32(proto + 1) //nolint:gosec // small
	}
	switch rapid.IntRange(0, 4).Draw(r, "remote") {
	case 0:
		if rule.RemotePrefix = v4(rapid.IntRange(1, 3).Draw(r, "n"), 0) + "/24"; rule.Family == api.SecurityRule_IPV6 {
			rule.RemotePrefix = v6(rapid.IntRange(1, 3).Draw(r, "n"), 0) + "/64"
		}
	case 1:
		rule.RemoteSet = fmt.Sprintf("set%d", rapid.IntRange(0, 2).Draw(r, "set"))
	}
	return rule
}

func routerMAC(i, n int) state.MAC { return 0xfa163e0d0000 | state.MAC(i<<8|n) } //nolint:gosec // small

func drawRouter(r *rapid.T, i int) *api.Router {
	router := &api.Router{Id: fmt.Sprintf("r%d", i), Key: uint32(70 + i)} //nolint:gosec // small
	for n := 1; n <= 3; n++ {
		if rapid.IntRange(0, 3).Draw(r, "joins") > 0 {
			router.Interfaces = append(router.Interfaces, &api.RouterInterface{Network: fmt.Sprintf("n%d", n), Mac: routerMAC(i, n).String(),
				Addresses: []string{v4(n, 240+i) + "/24", v6(n, 240+i) + "/64"}})
		}
	}
	if rapid.Bool().Draw(r, "route") {
		route := &api.StaticRoute{Destination: rapid.SampledFrom([]string{"192.0.2.0/24", "10.0.3.0/24", "0.0.0.0/0", "10.0.1.10/32"}).Draw(r, "destination")}
		if rapid.IntRange(0, 3).Draw(r, "blackhole") > 0 {
			route.NextHops = []string{v4(rapid.IntRange(1, 3).Draw(r, "n"), rapid.SampledFrom([]int{10, 11, 12, 240, 241}).Draw(r, "hop"))}
		}
		router.Routes = append(router.Routes, route)
	}
	return router
}

// drawPacket draws a packet from a guest that means something to the topology, most of the time.
func (a *agreement) drawPacket(r *rapid.T, d *drawn) sent {
	from, to := rapid.IntRange(0, agreeGuests-1).Draw(r, "from"), rapid.IntRange(0, agreeGuests-1).Draw(r, "to")
	family := rapid.IntRange(0, 1).Draw(r, "family")
	mac := func(i int) state.MAC { return state.MACOf(a.guests[i].MAC) }
	address := func(i int) netip.Addr { return netip.MustParseAddr(d.ports[i].FixedIps[family].Address) }
	p := trace.Packet{EthSrc: mac(from), EthDst: mac(to), Type: trace.IPv4, Src: address(from), Dst: address(to), TTL: 64, SrcPort: 2000}
	if family == 1 {
		p.Type = trace.IPv6
	}
	switch rapid.IntRange(0, 2).Draw(r, "protocol") {
	case 0:
		p.SrcPort, p.Proto, p.ICMPType = 0, trace.ICMP, 8
		if family == 1 {
			p.Proto, p.ICMPType = trace.ICMPv6, 128
		}
	case 1:
		p.Proto = trace.TCP
	default:
		p.Proto = trace.UDP
	}
	if p.SrcPort != 0 {
		p.DstPort = uint16(rapid.IntRange(1, 210).Draw(r, "port")) //nolint:gosec // small
	}
	if d.ports[from].Network != d.ports[to].Network || rapid.IntRange(0, 5).Draw(r, "routed") == 0 {
		drawRouted(r, d, from, &p)
	}
	drawOdd(r, mac(from), mac(to), address(from), address(to), &p)
	return sent{from, p}
}

// drawRouted sends a packet to a router that is in the sender's network, if there is one.
func drawRouted(r *rapid.T, d *drawn, from int, p *trace.Packet) {
	for _, i := range rapid.Permutation([]int{0, 1}).Draw(r, "which router") {
		if i >= len(d.routers) {
			continue
		}
		for _, in := range d.routers[i].Interfaces {
			if in.Network != d.ports[from].Network {
				continue
			}
			m, err := state.ParseMAC(in.Mac)
			if err != nil {
				r.Fatal(err)
			}
			p.EthDst = m
			switch rapid.IntRange(0, 11).Draw(r, "how") {
			case 0:
				p.TTL = 1
			case 1:
				if p.Type == trace.IPv4 {
					p.Dst = netip.MustParseAddr("192.0.2.9")
				}
			case 2:
				for _, own := range in.Addresses {
					if own := netip.MustParsePrefix(own).Addr(); own.Is4() == (p.Type == trace.IPv4) {
						p.Dst = own
					}
				}
			}
			return
		}
	}
}

// drawOdd makes a packet of another kind, now and then.
func drawOdd(r *rapid.T, from, to state.MAC, own, other netip.Addr, p *trace.Packet) {
	switch rapid.IntRange(0, 15).Draw(r, "odd") {
	case 0:
		p.EthSrc = to
	case 1:
		p.Src = other
	case 2:
		p.EthDst = 0xffffffffffff
	case 3:
		p.EthDst = 0xfa163effffff
	case 4:
		if own.Is4() {
			*p = trace.Packet{EthSrc: from, EthDst: 0xffffffffffff, Type: trace.ARP, ARPOp: 1, ARPSHA: from, Src: own, Dst: other}
		}
	case 5:
		if own.Is4() {
			*p = trace.Packet{EthSrc: from, EthDst: to, Type: trace.ARP, ARPOp: 2, ARPSHA: from, Src: other, Dst: own}
		}
	}
}

var _ trace.Switch = asked{}
