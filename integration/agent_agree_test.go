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
	t.Logf("%d topologies, ends of packets: %v; %d answers", runs, seen, a.answered)
	if a.answered == 0 {
		t.Error("nobody answered: the packets prove less than they should")
	}
	for _, v := range []trace.Verdict{trace.Dropped, trace.Delivered, trace.Outside, trace.Answered, trace.Served} {
		if seen[v] == 0 {
			t.Errorf("no packet was %s: the packets prove less than they should", v)
		}
	}
}

// agreement is guests whose devices stay while their ports become others. Each device is a trunk: two subports of each, in networks of their own where
// all is allowed, carry what tells that a packet must have arrived by now, at guests and outside.
type agreement struct {
	*fleet
	guests   []*guest
	outside  *witness   // what comes to the external network
	fenced   *witness   // what comes to the marks' own
	base     *api.State // what is in each topology
	devices  map[string]map[string]trace.Device
	answered int    // answers and errors that came back
	next     uint16 // source port or identifier of the next packet: no two are of one connection
}

const (
	agreeGuests = 6
	markVLAN    = 4000
)

// guest is a device, with all that it has received.
type guest struct {
	*hosts.VM
	*witness
}

// witness has what a device has received: the first frame of each number.
type witness struct {
	socket *probe.Socket

	mu   sync.Mutex // guards the field below
	seen map[uint64][]byte
}

// witness is one that reads by itself. A second device is not known to have been read as far: look is for that.
func (a *agreement) witness(at probe.Place, device string) *witness {
	a.t.Helper()
	w := a.late(at, device)
	var reading sync.WaitGroup
	reading.Go(w.read)
	a.t.Cleanup(func() { _ = w.socket.Close(); reading.Wait() })
	return w
}

// late is a witness that reads when it is told to look.
func (a *agreement) late(at probe.Place, device string) *witness {
	a.t.Helper()
	w := &witness{seen: map[uint64][]byte{}}
	var err error
	if w.socket, err = probe.Open(at, device); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = w.socket.Close() })
	return w
}

func newAgreement(t *testing.T) *agreement {
	t.Helper()
	a := &agreement{fleet: newFleet(t, 3), devices: map[string]map[string]trace.Device{}, next: 2000}
	a.state.Networks, a.state.Subnets = []*api.Network{{Id: "marks", Key: 90}, {Id: "marks-out", Key: 91, Segment: &api.Segment{Kind: api.Segment_VLAN, PhysicalNetwork: hosts.Physnet, Vlan: 100}},
		{Id: "ext", Key: 92, Mtu: 1500, External: true, Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: hosts.Physnet}}}, nil
	for i := range agreeGuests {
		h := a.bed.Hosts()[i%3]
		vm := a.bed.VM(fmt.Sprintf("g%d", i), h, hosts.VMConfig{IfaceID: fmt.Sprintf("g%d-agreement", i)})
		a.guests = append(a.guests, &guest{VM: vm, witness: a.witness(vm, "eth0")})
		for n, network := range []string{"marks", "marks-out"} {
			a.state.Ports = append(a.state.Ports, &api.Port{Id: network + "-" + vm.Name, Key: uint32(50 + 10*n + i), Network: network, Mac: markMAC(i).String(), Host: h.Name, //nolint:gosec // small
				Parent: vm.IfaceID, ParentVlan: markVLAN + uint32(n)}) //nolint:gosec // small
		}
		if a.devices[h.Name] == nil {
			a.devices[h.Name] = map[string]trace.Device{hosts.Provider: {Physical: hosts.Physnet}}
		}
		a.devices[h.Name][vm.Tap] = trace.Device{Port: vm.IfaceID}
	}
	out := a.bed.Outside(1)
	a.outside, a.fenced = a.late(out, out.Segments[0].Device()), a.witness(out, out.Segments[1].Device())
	router := hosts.MACOf(out.Name + out.Segments[0].Device()).String()
	a.state.Neighbors = []*api.Neighbor{{Id: "out4", Network: "ext", Address: "203.0.113.1", Mac: router}, {Id: "out6", Network: "ext", Address: "2001:db8:113::1", Mac: router}}
	a.base = &api.State{Hosts: a.state.Hosts, Networks: a.state.Networks, Ports: a.state.Ports}
	return a
}

func markMAC(i int) net.HardwareAddr { return net.HardwareAddr{0xfa, 0x16, 0x3e, 0xee, 0, byte(i)} }

// markWord stands before the number of each packet.
const markWord = "HeadMark"

// read notes the numbers of all frames that come, until the socket is closed.
func (w *witness) read() {
	for {
		frame, err := w.socket.Receive(time.Now().Add(time.Hour))
		if err != nil {
			return
		}
		w.note(frame)
	}
}

// look notes the numbers of all frames that have come by now.
func (w *witness) look() error {
	for {
		frame, err := w.socket.Waiting()
		if err != nil || frame == nil {
			return err
		}
		w.note(frame)
	}
}

func (w *witness) note(frame []byte) {
	if i := bytes.Index(frame, []byte(markWord)); i >= 0 && len(frame) >= i+len(markWord)+8 {
		number := binary.BigEndian.Uint64(frame[i+len(markWord):])
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.seen[number] == nil {
			w.seen[number] = bytes.Clone(frame)
		}
	}
}

func (w *witness) got(number uint64) bool { return w.frame(number) != nil }

// frame is the one with a number, or nil.
func (w *witness) frame(number uint64) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[number]
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
	snat     []*api.SnatAddress
	floating []*api.FloatingIP
	encap    api.Encapsulation
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
	a.state.SnatAddresses, a.state.FloatingIps = d.snat, d.floating
	for _, h := range a.state.Hosts {
		h.TunnelEnds[0].Encapsulation = d.encap
	}
	a.settle(ctx)
	for _, h := range a.bed.Hosts() {
		for name := range a.devices[h.Name] {
			if a.devices[h.Name][name].Tunnel {
				delete(a.devices[h.Name], name)
			}
		}
		for _, name := range strings.Fields(h.Vsctl("--bare", "--columns=name", "find", "Interface", "type="+strings.ToLower(d.encap.String()))) {
			a.devices[h.Name][name] = trace.Device{Tunnel: true}
		}
	}
	// A switch in user space drops the first packet into a tunnel: it has to ask the underlay who the other end is.
	for i := range a.guests {
		a.settled(ctx, i, a.number(a.next))
		a.next++
	}
}

// asked is the switch of a host.
type asked struct {
	*hosts.Host
	devices map[string]trace.Device
	answer  bool // it is asked of what belongs to a connection that the other end began
}

func (s asked) Trace(ctx context.Context, flow string, established bool) (*api.TraceResult, error) {
	options := trace.Established(established || s.answer)
	for i := range options {
		if s.answer && options[i] == "trk,est" {
			options[i] = "trk,est,rpl"
		}
	}
	text, err := s.Exec(ctx, "ovs-appctl", append([]string{"-t", s.Dir + "/ovs-vswitchd.ctl", "ofproto/trace", "--names", hosts.Integration, flow}, options...)...)
	return &api.TraceResult{Text: text}, err
}

func (s asked) Devices() map[string]trace.Device { return s.devices }

// compare simulates a packet, has it checked and sends it, and then what its receiver answers. It returns where the packet should end.
func (a *agreement) compare(ctx context.Context, seed int, s sent) []trace.End {
	a.t.Helper()
	store := a.store()
	g := a.guests[s.from]
	simulated := a.judge(ctx, seed, store, s)
	number := a.number(a.next)
	if err := g.socket.Send(frameOf(s.packet, a.next, marked(number))); err != nil {
		a.t.Fatal(err)
	}
	a.arrived(ctx, seed, s, simulated)
	if told(simulated.Ends) && s.packet.Type != trace.ARP && a.owns(s) {
		a.await(ctx, g.Name+" is told of "+s.packet.Text(), func() error {
			if !g.got(number) {
				return errors.New("it is not")
			}
			return nil
		})
	}
	if !simulated.Many && len(simulated.Ends) == 1 && simulated.Ends[0].Verdict == trace.Delivered && a.owns(s) {
		a.answers(ctx, seed, store, s, number)
	}
	return simulated.Ends
}

// store is the state as agents have it.
func (a *agreement) store() *state.Store {
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
	return store
}

// judge simulates a packet and has it checked, which should agree.
func (a *agreement) judge(ctx context.Context, seed int, store *state.Store, s sent) (simulated *trace.Result) {
	a.t.Helper()
	port := a.guests[s.from].IfaceID
	store.Read(func(v *state.View) {
		var checked *trace.Result
		var err error
		if simulated, err = trace.Simulate(v, port, s.packet); err != nil {
			a.t.Fatal(err)
		}
		checked, err = trace.Check(ctx, v, func(host string) trace.Switch { return asked{a.bed.Host(host), a.devices[host], s.packet.Answer} }, port, s.packet)
		if err != nil {
			a.t.Fatal(err)
		}
		if !trace.Agree(port, simulated, checked) {
			a.t.Errorf("topology %d: %s sends %s\nsimulated:\n%schecked:\n%s", seed, a.guests[s.from].Name, s.packet.Text(), simulated, checked)
		}
	})
	return simulated
}

// arrived waits until the packet of the next number has come wherever it comes, and holds that against the simulation.
func (a *agreement) arrived(ctx context.Context, seed int, s sent, simulated *trace.Result) {
	a.t.Helper()
	number := a.number(a.next)
	a.settled(ctx, s.from, number)
	a.next++
	want, outside := map[string]bool{}, false
	for _, e := range simulated.Ends {
		switch e.Verdict {
		case trace.Delivered:
			want[e.Port] = true
		case trace.Outside:
			outside = true
		}
	}
	g := a.guests[s.from]
	for _, to := range a.guests {
		if got := to.got(number); to != g && got != want[to.IfaceID] {
			a.t.Errorf("topology %d: %s sends %s\nsimulated:\n%sbut that a real packet arrives at %s is %t", seed, g.Name, s.packet.Text(), simulated, to.Name, got)
		}
	}
	if err := a.outside.look(); err != nil {
		a.t.Fatal(err)
	}
	frame := a.outside.frame(number)
	if (frame != nil) != outside {
		a.t.Errorf("topology %d: %s sends %s\nsimulated:\n%sbut that a real packet arrives outside is %t", seed, g.Name, s.packet.Text(), simulated, !outside)
	} else if src := a.seenAs(s, simulated); outside && sourceOf(frame) != src {
		a.t.Errorf("topology %d: %s sends %s\nsimulated:\n%sbut outside a real packet is from %s, want %s", seed, g.Name, s.packet.Text(), simulated, sourceOf(frame), src)
	}
}

// seenAs is the source that a packet has when it leaves.
func (a *agreement) seenAs(s sent, simulated *trace.Result) netip.Addr {
	i := slices.IndexFunc(simulated.Steps, func(s trace.Step) bool { return s.Point == "nat-out" })
	if i < 0 {
		return s.packet.Src
	}
	switch by := simulated.Steps[i].Object; by.Kind {
	case state.KindFloatingIP:
		i = slices.IndexFunc(a.state.FloatingIps, func(f *api.FloatingIP) bool { return f.Id == by.ID })
		return mustAddr(a.state.FloatingIps[i].Address)
	case state.KindSnatAddress:
		i = slices.IndexFunc(a.state.SnatAddresses, func(f *api.SnatAddress) bool { return f.Id == by.ID })
		return mustAddr(a.state.SnatAddresses[i].Address)
	default:
		i = slices.IndexFunc(a.state.Routers, func(r *api.Router) bool { return r.Id == by.ID })
		return netip.MustParsePrefix(a.state.Routers[i].Gateway.Addresses[0]).Addr()
	}
}

// ipOf is where a frame's IP packet begins, and sourceOf and destOf are its addresses.
const ipOf = 14

func sourceOf(frame []byte) netip.Addr { return addressIn(frame, 12, 8) }
func destOf(frame []byte) netip.Addr   { return addressIn(frame, 16, 24) }

func addressIn(frame []byte, at4, at6 int) netip.Addr {
	if frame[12] == 0x08 {
		a, _ := netip.AddrFromSlice(frame[ipOf+at4:][:4])
		return a
	}
	a, _ := netip.AddrFromSlice(frame[ipOf+at6:][:16])
	return a
}

// answers has the guest answer that got a packet: with what is the answer by the packet's protocol, and by an error. Where the state says that they find
// the way back, no rule stands in theirs.
func (a *agreement) answers(ctx context.Context, seed int, store *state.Store, s sent, number uint64) {
	a.t.Helper()
	from := slices.IndexFunc(a.guests, func(g *guest) bool { return g.got(number) && g != a.guests[s.from] })
	if from < 0 {
		return // said already
	}
	frame := a.guests[from].frame(number)
	if destOf(frame) != mustAddr(a.fixedIP(from, destOf(frame).Is4())) {
		return // nobody's, or an allowed pair's
	}
	reply := trace.Packet{EthSrc: state.MACOf(a.guests[from].MAC), EthDst: state.MACOf(frame[6:12]), Type: s.packet.Type, Src: destOf(frame), Dst: sourceOf(frame), Proto: s.packet.Proto,
		SrcPort: s.packet.DstPort, DstPort: a.next - 1, TTL: 64, Answer: true}
	failure := reply
	failure.SrcPort, failure.DstPort, failure.Proto, failure.ICMPType, failure.ICMPCode = 0, 0, trace.ICMP, 3, 3
	if failure.Type == trace.IPv6 {
		failure.Proto, failure.ICMPType, failure.ICMPCode = trace.ICMPv6, 1, 4
	}
	if reply.Proto == trace.ICMP || reply.Proto == trace.ICMPv6 {
		reply.SrcPort, reply.DstPort, reply.ICMPType = 0, 0, map[int]uint8{trace.ICMP: 0, trace.ICMPv6: 129}[reply.Proto]
	}
	port := reply.SrcPort
	if port == 0 {
		port = a.next - 1 // the identifier of an echo
	}
	quoted := bytes.Index(frame, []byte(markWord)) // an error quotes what stands before the number
	for _, r := range []struct {
		trace.Packet
		port  uint16
		quote []byte
	}{{failure, 0, frame[ipOf:quoted]}, {reply, port, nil}} {
		simulated := a.judge(ctx, seed, store, sent{from, r.Packet})
		if !slices.Equal(simulated.Ends, []trace.End{{Verdict: trace.Delivered, Port: a.guests[s.from].IfaceID, Host: a.guests[s.from].Host().Name}}) {
			continue // another way leads back than the packet came, to where nobody knows the connection
		}
		if err := a.guests[from].socket.Send(frameOf(r.Packet, r.port, append(r.quote[:len(r.quote):len(r.quote)], marked(a.number(a.next))...))); err != nil {
			a.t.Fatal(err)
		}
		a.arrived(ctx, seed, sent{from, r.Packet}, simulated)
		a.answered++
	}
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

// fixedIP is a guest's own address of a family.
func (a *agreement) fixedIP(guest int, v4 bool) string {
	for _, p := range a.state.Ports {
		for _, f := range p.FixedIps {
			if p.Id == a.guests[guest].IfaceID && mustAddr(f.Address).Is4() == v4 {
				return f.Address
			}
		}
	}
	return "::"
}

// number is what a packet is known by; those above it are its marks.
func (a *agreement) number(packet uint16) uint64 { return uint64(packet) << 32 }

// settled waits until what a guest has sent has come wherever it comes.
func (a *agreement) settled(ctx context.Context, from int, number uint64) {
	a.t.Helper()
	// What a switch has begun with when the first mark comes, it has done when it begins with the second one.
	for range 2 {
		number++
		a.marks(ctx, from, number)
	}
	for range 2 { // by now at all hosts, and what leaves one of them stays in order
		a.soon(ctx, "marks are outside", func() error {
			for i := range a.bed.Hosts() {
				if number := number + uint64(1+i); !a.fenced.got(number) {
					if err := a.guests[i].socket.Send(probe.Tagged(probe.Ethernet(probe.Broadcast(), markMAC(i), 0x88b5, marked(number)), markVLAN+1)); err != nil {
						return err
					}
				}
			}
			for i := range a.bed.Hosts() {
				if !a.fenced.got(number + uint64(1+i)) {
					return fmt.Errorf("not of %s", a.bed.Hosts()[i].Name)
				}
			}
			return nil
		})
		number += uint64(len(a.bed.Hosts()))
	}
}

// soon is await for what takes less than a millisecond.
func (a *agreement) soon(ctx context.Context, what string, so func() error) {
	a.t.Helper()
	ticker := time.NewTicker(200 * time.Microsecond)
	defer ticker.Stop()
	for range 20 {
		if so() == nil {
			return
		}
		<-ticker.C
	}
	a.await(ctx, what, so)
}

// marks sends a mark to all other guests, and waits until it is there.
func (a *agreement) marks(ctx context.Context, from int, number uint64) {
	a.t.Helper()
	mark := probe.Tagged(probe.Ethernet(probe.Broadcast(), markMAC(from), 0x88b5, marked(number)), markVLAN)
	a.soon(ctx, "a mark is everywhere", func() error {
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
	case p.Proto == trace.TCP: // SYN, and what answers it
		b = append([]byte{12: 5 << 4, 13: 2, 14: 0xff, 19: 0}, mark...)
		if p.Answer {
			b[11], b[13] = 1, 0x12
		}
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

var _ trace.Switch = asked{}
