package flows

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// punted are the packets that came to the agent, by the operation and the port that sent them.
type punted struct {
	mu    sync.Mutex
	count map[string]int
}

func (p *punted) take(_ uint32, m openflow.Message) {
	in, ok := m.(*openflow.PacketIn2)
	if !ok {
		return
	}
	source := uint64(0)
	for _, f := range in.Metadata {
		if f.Field == RSource {
			source = f.Value.Lo
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count[fmt.Sprintf("%s of %d", Op(in.UserData[0]), source)]++
}

// arrived is how many came, once there are as many as wanted, or do not come.
func (p *punted) arrived(l *lab, want int) map[string]int {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := l.conn.Call(l.t.Context(), &openflow.BarrierRequest{}); err != nil {
			l.t.Fatal(err)
		}
		p.mu.Lock()
		out, all := maps.Clone(p.count), 0
		p.mu.Unlock()
		for _, n := range out {
			all += n
		}
		if all >= want || time.Now().After(deadline) {
			return out
		}
	}
}

// receive has a packet come in by a port's device. It is a datapath's flow.
func (l *lab) receive(port int, flow string, length int) {
	l.t.Helper()
	l.command("netdev-dummy/receive", fmt.Sprintf("p%d", port),
		fmt.Sprintf("in_port(%d),eth(src=%s,%s", port, labMAC(port), flow), "--len", fmt.Sprint(length))
}

// toRouter is every kind of packet of a port that a router has something to tell the agent of; and a question for a name.
func toRouter(port int) map[string]string {
	v4 := func(dst string, ttl int) string {
		return fmt.Sprintf("dst=%s),eth_type(0x0800),ipv4(src=10.0.1.%d,dst=%s,proto=17,tos=0,ttl=%d,frag=no),udp(src=1024,dst=53)", labLeg1, 10+port, dst, ttl)
	}
	v6 := func(dst string) string {
		return fmt.Sprintf("dst=%s),eth_type(0x86dd),ipv6(src=2001:db8:1::%d,dst=%s,label=0,proto=17,tclass=0,hlimit=64,frag=no),udp(src=1024,dst=1024)", labLeg1, 10+port, dst)
	}
	return map[string]string{
		"ttl":         strings.Replace(v4("10.0.2.12", 1), "dst=53", "dst=1024", 1),
		"unreachable": strings.Replace(v4("10.0.1.1", 64), "dst=53", "dst=1024", 1),
		"neighbor":    strings.Replace(v4("203.0.113.77", 64), "dst=53", "dst=1024", 1),
		"too-big":     v6("2001:db8:2::12"),
		"dns":         v4("10.0.1.12", 64),
	}
}

// A guest that floods the agent with all that there is leaves the others all that they need of it: errors of routers, without which a path's MTU is not
// found, neighbours, and names.
func TestFloodCostsItsSenderOnly(t *testing.T) {
	t.Parallel()
	const rate, names = 20, 30
	var got punted
	got.count = map[string]int{}
	l := newLabOf(t, Config{Host: labHost, PuntRate: 10, OpRate: rate, NameRate: names, Names: true}, got.take)
	if err := l.conn.SendAll(t.Context(), []openflow.Message{&openflow.SetPacketInFormat{Format: openflow.FormatPacketIn2},
		&openflow.SetAsync{Async: openflow.Async{PacketIn: [2]uint32{63, 0}}}}); err != nil {
		t.Fatal(err)
	}
	l.routed(nil)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450, DNSDomain: "cloud.example"}, &state.Network{ID: "n2", Key: 8, MTU: 1280})
	for n := 1; n <= 3; n++ {
		l.plug(n, "n1", fmt.Sprintf("10.0.1.%d 2001:db8:1::%d", 10+n, 10+n), nil)
	}
	l.set(l.port(12, "n2", labHost, "10.0.2.12 2001:db8:2::12", nil))
	l.same()
	l.command("time/stop")  // meters fill by the clock
	const others = rate / 4 // of each of the four kinds that routers have
	for kind, flow := range toRouter(1) {
		for range 3 * names {
			l.receive(1, flow, 1400)
		}
		for range others {
			l.receive(2, toRouter(2)[kind], 1400)
		}
	}
	have := got.arrived(l, rate+names+5*others)
	spent := 0
	for kind := range toRouter(1) {
		if first := have[kind+" of 1"]; kind != "dns" {
			spent += first
		} else if first != names {
			t.Errorf("%d questions for names of the flood came to the agent, want the %d of its meter", first, names)
		}
		if second := have[kind+" of 2"]; second != others {
			t.Errorf("%s: %d of the other guest's packets came to the agent, want all %d", kind, second, others)
		}
	}
	if spent != rate {
		t.Errorf("%d packets of the flood came to the agent, want the %d of its meter: %v", spent, rate, have)
	}
}

// Whoever no port of this host is has a meter too: a router's from other hosts by their sources, a router's of all else, a port's also where its packet is
// routed once more.
func TestWhoseMeterCounts(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, Config{Host: labHost, OpRate: 20}, nil)
	l.routed(func(r *state.Router) { r.Gateway.Snat, r.Gateway.Hosts = state.SnatGateway, []string{labHost} })
	l.floating()
	l.plug(1, "n1", "10.0.1.11 2001:db8:1::11", nil)
	l.plug(2, "n1", "10.0.1.12", nil)
	l.same()
	tunnelled := func(source string) string {
		return fmt.Sprintf("in_port=%d,tun_id=%#x,tun_src=172.31.1.12,tun_dst=172.31.1.11,udp,dl_src=fa:16:3e:00:00:0c,dl_dst=%s,nw_src=%s,nw_dst=203.0.113.77,nw_ttl=9",
			labTunnel, TunnelKey(TunnelRouter, 5), labLeg1, source)
	}
	counts := func(flow string) string {
		_, how := l.trace(flow)
		var out []string
		for _, m := range meterUsed.FindAllStringSubmatch(how, -1) {
			out = append(out, m[1])
		}
		return strings.Join(slices.Compact(out), ",") // a packet that is measured is traced both ways
	}
	const fromPort, fromOutside = MeterRouted | 1, MeterRouter | 5
	for _, tt := range []struct {
		what, flow string
		want       uint32
	}{
		{"a port's", sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_dst=10.0.2.12,nw_ttl=1"), fromPort},
		{"a port's, for a floating IP beside it, whose time ends at the second router", sends(1, labLeg1, "udp", "nw_src=10.0.1.11,nw_dst=203.0.113.51,nw_ttl=2"), fromPort},
		{"from outside", comes(labGateway, "udp", "nw_src=203.0.113.254,nw_dst=10.0.1.11,nw_ttl=1"), fromOutside},
	} {
		if got := counts(tt.flow); got != fmt.Sprint(tt.want) {
			_, how := l.trace(tt.flow)
			t.Errorf("%s: counted at %q, want %d\n%s", tt.what, got, tt.want, how)
		}
	}
	shares := map[string]bool{}
	for i := range 64 {
		got := counts(tunnelled(netip.AddrFrom4([4]byte{10, 0, 1, byte(100 + i)}).String()))
		var id uint32
		if _, err := fmt.Sscan(got, &id); err != nil || id>>24 != MeterGateway>>24 || id&(1<<gatewayShareFrom-1) != 5 {
			t.Fatalf("from another host: counted at %q, want one of the router's", got)
		}
		shares[got] = true
	}
	if len(shares) != 1<<gatewayShareBits {
		t.Errorf("64 guests of other hosts have %d shares, want all %d", len(shares), 1<<gatewayShareBits)
	}
	l.remove(state.Ref{Kind: state.KindRouter, ID: "r1"})
	for _, id := range l.compiler.Meters() {
		if kind := id >> 24; kind == MeterRouted>>24 || kind == MeterGateway>>24 || kind == MeterRouter>>24 {
			t.Errorf("meter %#x is left without a router", id)
		}
	}
	l.same()
}

var meterUsed = regexp.MustCompile(`(?m)^\s*meter:(\d+)`)
