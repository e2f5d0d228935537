package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// traced is a tenant with two networks, a router that leads outside, and guests on three hosts. The guest e lets nothing in.
type traced struct {
	*fleet
	a, b, c, d, e *hosts.VM
	ports         map[string]*api.Port
}

// An operator follows packets: the state, the switches and real packets agree, and where one of them is broken the command says which layer it is.
func TestAgentsTrace(t *testing.T) {
	t.Parallel()
	s := newTraced(t)
	for _, part := range []struct {
		name string
		test func(context.Context)
	}{{"agreement", s.agree}, {"two at once", s.twoAtOnce}, {"real traffic", s.watched}, {"somebody else's flow", s.foreignFlow}, {"a guest out of turn", s.outOfTurn},
		{"the underlay", s.cut}} {
		s.inGroup(t, part.name, part.test)
	}
}

func newTraced(t *testing.T) *traced {
	t.Helper()
	s := &traced{fleet: newFleet(t, 3), ports: map[string]*api.Port{}}
	s.network("red", 11, 1450, "10.1.0.0/24", "fd01::/64")
	s.network("blue", 12, 1450, "10.2.0.0/24")
	s.state.Networks = append(s.state.Networks, &api.Network{Id: "ext", Key: 14, Mtu: 1500, External: true,
		Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: hosts.Physnet}})
	r := s.router("r1", 21, "red 10.1.0.1/24 fd01::1/64", "blue 10.2.0.1/24")
	r.Gateway = &api.Gateway{Network: "ext", Mac: outsideMAC(5), Addresses: []string{"203.0.113.5/24"}, NextHops: []string{"203.0.113.1"}, Snat: api.SnatMode_SNAT_GATEWAY,
		Hosts: []string{"s1h3"}}
	h := s.bed.Hosts()
	for _, g := range []struct {
		vm        **hosts.VM
		name      string
		host      int
		network   string
		addresses []string
	}{
		{&s.a, "a", 0, "red", []string{"10.1.0.11/24", "fd01::11/64"}}, {&s.b, "b", 1, "red", []string{"10.1.0.12/24", "fd01::12/64"}}, {&s.c, "c", 1, "blue", []string{"10.2.0.13/24"}},
		{&s.d, "d", 0, "red", []string{"10.1.0.14/24", "fd01::14/64"}}, {&s.e, "e", 1, "red", []string{"10.1.0.15/24"}},
	} {
		*g.vm, s.ports[g.name] = s.guest(g.name, h[g.host], g.network, hosts.VMConfig{}, g.addresses...)
	}
	s.state.SecurityGroups = append(s.state.SecurityGroups, &api.SecurityGroup{Id: "shut", Rules: []*api.SecurityRule{{Id: "out", Direction: api.SecurityRule_EGRESS}}})
	s.ports["e"].SecurityGroups = []string{"shut"}
	s.state.FloatingIps = []*api.FloatingIP{{Id: "fa", Network: "ext", Router: "r1", Address: "203.0.113.51", Mac: outsideMAC(51), Port: s.a.IfaceID, FixedIp: "10.1.0.11"}}
	s.settle(t.Context())
	for _, vm := range []*hosts.VM{s.a, s.d} { // who is next outside is known from now on
		vm.MustReach(hosts.Far()[0])
	}
	s.a.MustReach(s.c.IPs[0].Addr())
	return s
}

// traces runs the command on a host, with the sockets of the agents of all others.
func (s *traced) traces(ctx context.Context, from *hosts.VM, args ...string) (*trace.Report, string) {
	s.t.Helper()
	args = append([]string{"trace", from.IfaceID}, args...)
	for _, h := range s.bed.Hosts() {
		args = append(args, "--peer", h.Name+"="+agent.Config{RunDir: s.runDir(h)}.ControlSocket())
	}
	out, err := s.tool(ctx, from.Host(), append(args, "--json")...)
	var r trace.Report
	if bad := json.Unmarshal([]byte(out), &r); bad != nil {
		s.t.Fatalf("%s: %v, %v\n%s", strings.Join(args, " "), err, bad, out)
	}
	if (err == nil) != (len(r.Findings) == 0) {
		s.t.Errorf("%s: the command ended with %v, and found %v", strings.Join(args, " "), err, r.Findings)
	}
	return &r, out
}

// ends are where a packet ended by each of the three.
func ends(r *trace.Report) [3]string {
	live := "nowhere"
	if w := r.Followed(); w != nil {
		live = fmt.Sprint(w.Ends)
	}
	return [3]string{fmt.Sprint(r.Simulated.Ends), fmt.Sprint(r.Checked.Ends), live}
}

func (s *traced) agree(ctx context.Context) {
	for _, tt := range []struct {
		name string
		from *hosts.VM
		args []string
		want string
		by   string // what one of the steps says
	}{
		{"same subnet", s.a, []string{"10.1.0.12"}, "[delivered port " + s.b.IfaceID + " at s1h2]", "tunnel host s1h2"},
		{"same subnet, IPv6, TCP", s.a, []string{"fd01::12", "--proto", "tcp", "--dst-port", "80"}, "[delivered port " + s.b.IfaceID + " at s1h2]", "in-rules security-group all"},
		{"same host", s.a, []string{"10.1.0.14", "--proto", "udp", "--dst-port", "53"}, "[delivered port " + s.d.IfaceID + " at s1h1]", "destination port " + s.d.IfaceID},
		{"routed", s.a, []string{"10.2.0.13"}, "[delivered port " + s.c.IfaceID + " at s1h2]", "route router r1"},
		{"a router answers", s.a, []string{"10.1.0.1"}, "[answered at s1h1]", "router-in router r1"},
		{"a router is asked for a port", s.a, []string{"10.1.0.1", "--proto", "udp", "--dst-port", "9"}, "[served unreachable at s1h1]", "router-in router r1"},
		{"the TTL ends", s.a, []string{"10.2.0.13", "--ttl", "1"}, "[served ttl at s1h1]", "router-in router r1"},
		{"a security group drops", s.a, []string{"10.1.0.15", "--proto", "tcp", "--dst-port", "22"}, "[dropped in-denied at s1h2]", "in-rules port " + s.e.IfaceID},
		{"a sender that is not its own", s.a, []string{"10.1.0.12", "--from", "10.1.0.77"}, "[dropped source-ip at s1h1]", "source-ip port " + s.a.IfaceID},
		{"by a floating IP", s.a, []string{"192.0.2.80", "--proto", "tcp", "--dst-port", "7"}, "[outside network ext at s1h1]", "nat-out floating-ip fa"},
		{"its own floating IP", s.a, []string{"203.0.113.51"}, "[delivered port " + s.a.IfaceID + " at s1h1]", "nat-in floating-ip fa"},
		{"too big for where a floating IP leads", s.a, []string{"203.0.113.51", "--length", "1460"}, "[served too-big at s1h1]", "too-big network red"},
		{"by the gateway on another host", s.d, []string{"192.0.2.80"}, "[outside network ext at s1h3]", "nat-out router r1"},
	} {
		r, out := s.traces(ctx, tt.from, append(tt.args, "--wait", "30s")...)
		if got := ends(r); got != [3]string{tt.want, tt.want, tt.want} || len(r.Findings) > 0 {
			s.t.Errorf("%s: by the state, the switches and a packet: %q, want %s of each; found: %v\n%s", tt.name, got, tt.want, r.Findings, out)
		}
		by := ""
		for _, step := range r.Simulated.Steps {
			by += step.Point + " " + step.Object.String() + "\n"
		}
		if !strings.Contains(by, tt.by+"\n") {
			s.t.Errorf("%s: %q is not among what decided:\n%s", tt.name, tt.by, by)
		}
		for _, step := range r.Checked.Steps {
			if step.Foreign {
				s.t.Errorf("%s: %s is said to be somebody else's", tt.name, step)
			}
		}
	}
}

// twoAtOnce follows packets of two guests on one host to one guest on another, again and again: each trace sees its own packets only.
func (s *traced) twoAtOnce(ctx context.Context) {
	var both sync.WaitGroup
	for _, from := range []*hosts.VM{s.a, s.d} {
		both.Go(func() {
			own := "nw_src=" + from.IPs[0].Addr().String() + ","
			for range 5 {
				r, out := s.traces(ctx, from, "10.1.0.12", "--proto", "udp", "--src-port", "1000", "--dst-port", "9", "--wait", "30s")
				w := r.Followed()
				if len(r.Findings) > 0 || w == nil || len(w.Copies) != 4 {
					s.t.Errorf("trace from %s: want 4 copies of a packet, and no fault\n%s", from.Name, out)
					return
				}
				for _, c := range w.Copies {
					if !strings.Contains(c.Packet, own) {
						s.t.Errorf("trace from %s: a copy of another's packet was taken for its own: %s", from.Name, c.Packet)
					}
				}
			}
		})
	}
	both.Wait()
}

// watched follows packets that guests themselves send, of two at once.
func (s *traced) watched(ctx context.Context) {
	var both sync.WaitGroup
	for _, from := range []*hosts.VM{s.a, s.d} {
		both.Go(func() {
			pinging, stop := context.WithCancel(ctx)
			var pings sync.WaitGroup
			defer pings.Wait()
			defer stop()
			pings.Go(func() { _, _ = from.Exec(pinging, "ping", "-i", "0.2", s.c.IPs[0].Addr().String()) })
			r, out := s.traces(ctx, from, s.c.IPs[0].Addr().String(), "--live", "watch", "--count", "3", "--wait", "60s")
			want := "[delivered port " + s.c.IfaceID + " at s1h2]"
			if len(r.Findings) > 0 || len(r.Live) != 3 {
				s.t.Errorf("pings of %s: want 3 packets and no fault\n%s", from.Name, out)
			}
			for _, w := range r.Live {
				if fmt.Sprint(w.Ends) != want || !strings.Contains(w.Packet, "nw_src="+from.IPs[0].Addr().String()+",") {
					s.t.Errorf("pings of %s: %s ended %v, want %s", from.Name, w.Packet, w.Ends, want)
				}
			}
		})
	}
	both.Wait()
	for _, h := range s.bed.Hosts() { // nothing of it is left in the switches
		s.await(ctx, h.Name+" watches nothing", func() error {
			out, err := s.tool(ctx, h, "flows", "--table", "tap", "--json")
			if err == nil && strings.Contains(out, `"class": "tap"`) {
				err = errors.New(out)
			}
			return err
		})
	}
}

// faults runs a trace from a to b and says which layers it blames at which hosts.
func (s *traced) faults(ctx context.Context) (found []string, out string) {
	s.t.Helper()
	r, out := s.traces(ctx, s.a, "10.1.0.12", "--proto", "tcp", "--dst-port", "80", "--wait", "10s")
	for _, f := range r.Findings {
		found = append(found, string(f.Layer)+" "+f.Host)
	}
	return found, out
}

func (s *traced) blames(ctx context.Context, want string) {
	s.t.Helper()
	if found, out := s.faults(ctx); fmt.Sprint(found) != "["+want+"]" {
		s.t.Errorf("blamed is %v, want %s\n%s", found, want, out)
	}
}

// blamesInTime is blames as soon as the switch has seen what was done to the underlay.
func (s *traced) blamesInTime(ctx context.Context, want string) {
	s.t.Helper()
	s.await(ctx, "blamed is ["+want+"]", func() error {
		if found, out := s.faults(ctx); fmt.Sprint(found) != "["+want+"]" {
			return errors.New(out)
		}
		return nil
	})
}

// foreignFlow is a flow above ours, with a timeout, which the agent leaves alone as something that the switch has learned.
func (s *traced) foreignFlow(ctx context.Context) {
	h := s.bed.Host("s1h2")
	flow := fmt.Sprintf("table=%d,priority=65535,ip,nw_dst=10.1.0.12", flows.TInRules)
	h.Ofctl("add-flow", h.Mgmt(hosts.Integration), flow+",hard_timeout=3600,actions=drop")
	s.blames(ctx, "foreign s1h2")
	h.Ofctl("--strict", "del-flows", h.Mgmt(hosts.Integration), flow)
	s.blames(ctx, "")
}

// outOfTurn is a guest that accepts a connection that nobody asked it for, as one whose own packets took another way does: the switch's connection tracker refuses
// what ofproto/trace, which does not know it, lets by.
func (s *traced) outOfTurn(ctx context.Context) {
	socket, err := probe.Open(s.a, "eth0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // of a test
	const flags, synAck = 13, 0x12
	segment := []byte{0, 80, 0x9c, 0x40, 12: 5 << 4, flags: synAck, 14: 0xff, 19: 0} // from port 80 to 40000
	frame := probe.IP(s.a.MAC, s.b.MAC, s.a.IPs[0].Addr(), s.b.IPs[0].Addr(), trace.TCP, 64, segment)
	sending, stop := context.WithCancel(ctx)
	var sender sync.WaitGroup
	defer sender.Wait()
	defer stop()
	sender.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-sending.Done():
				return
			case <-ticker.C:
				_ = socket.Send(frame)
			}
		}
	})
	r, out := s.traces(ctx, s.a, "10.1.0.12", "--proto", "tcp", "--src-port", "80", "--live", "watch", "--wait", "60s")
	want := [3]string{"[delivered port " + s.b.IfaceID + " at s1h2]", "[delivered port " + s.b.IfaceID + " at s1h2]", "[vanished at s1h1]"}
	if len(r.Findings) != 1 || r.Findings[0].Layer != trace.Dataplane || r.Findings[0].Host != "s1h1" || ends(r) != want {
		s.t.Errorf("the packet ends %q, want %q; blamed is %v\n%s", ends(r), want, r.Findings, out)
	}
}

// cut takes the way to the underlay from the sender's host, and then the link to it from the other.
func (s *traced) cut(ctx context.Context) {
	own := s.bed.Host("s1h1")
	own.Run("ip", "link", "set", "br-phy", "down")
	s.blamesInTime(ctx, "underlay s1h1")
	out, err := s.tool(ctx, own, "trace", s.a.IfaceID, "10.1.0.12") // the other host is not asked
	if err == nil || strings.Count(out, "FAULT in layer") != 1 || !strings.Contains(out, "FAULT in layer underlay, host s1h1") || !strings.Contains(out, "lost from s1h1 to s1h2") {
		s.t.Errorf("%v, want one fault, at s1h1\n%s", err, out)
	}
	own.Run("ip", "link", "set", "br-phy", "up")
	s.blamesInTime(ctx, "")
	h := s.bed.Host("s1h2")
	h.Run("ip", "link", "set", "ul0", "down")
	s.blames(ctx, "underlay s1h2")
	h.Run("ip", "link", "set", "ul0", "up")
	s.blamesInTime(ctx, "")
}

// Who serves the stream of a site follows packets through it, with nothing but the hosts' streams.
func TestServerTraces(t *testing.T) {
	t.Parallel()
	f := newBareFleet(t, 2)
	ctx := t.Context()
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, pa := f.vm("vm1", f.bed.Host("s1h1"), hosts.VMConfig{})
	_, pb := f.vm("vm2", f.bed.Host("s1h2"), hosts.VMConfig{})
	_, shut := f.vm("vm3", f.bed.Host("s1h2"), hosts.VMConfig{})
	shut.SecurityGroups = nil
	s := f.serve(ca)
	f.join(ca)
	s.awaitReady(ctx, f, pa, pb, shut)
	f.same(ctx)
	for to, want := range map[*api.Port]string{pb: "[delivered port " + pb.Id + " at s1h2]", shut: "[dropped in-denied at s1h2]"} {
		store, err := s.relay.State()
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range to.FixedIps {
			r, err := trace.Run(ctx, s.relay, store, trace.Question{Port: pa.Id, To: mustAddr(ip.Address), Proto: trace.TCP, DstPort: 80, Wait: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if got := ends(r); got != [3]string{want, want, want} || len(r.Findings)+len(r.Unasked) > 0 {
				t.Errorf("to %s: %q, want %s of each; found %v, not asked %v", ip.Address, got, want, r.Findings, r.Unasked)
			}
		}
	}
	f.agents["s1h2"].Kill() // what it is connected by ends with it
	f.await(ctx, "the server knows that s1h2 is away", func() error {
		store, err := s.relay.State()
		if err != nil {
			return err
		}
		r, err := trace.Run(ctx, s.relay, store, trace.Question{Port: pa.Id, To: mustAddr(pb.FixedIps[0].Address), Wait: 5 * time.Second})
		if err != nil {
			return err
		}
		if got := ends(r); got[1] != "[sent to s1h2]" || got[2] != "[sent to s1h2]" || len(r.Findings) > 0 || r.Unasked["s1h2"] == "" {
			return fmt.Errorf("%q; found %v, not asked %v", got, r.Findings, r.Unasked)
		}
		return nil
	})
}
