package flows

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// A watched packet is lifted where it comes in and where it leaves, carries its mark to the next host, and is lifted there; others are left alone.
func TestTap(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n1", "10.0.0.2", nil)
	l.set(l.port(3, "n1", "h2", "10.0.0.3", nil), &state.Tap{ID: "t", Slot: 5, Port: "p1", Protocol: 6, DstPort: 80})
	l.same()
	const tcp = "in_port=1,tcp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:03,nw_src=10.0.0.1,nw_dst=10.0.0.3,tcp_dst="
	lifts := func(flow string) int { _, how := l.trace(flow); return strings.Count(how, "controller(userdata=0b") }
	if got := lifts(tcp + "80"); got != 2 {
		t.Errorf("a watched packet was lifted %d times, want in and out", got)
	}
	l.expect("the mark goes with it", tcp+"80", `(?:.*userspace.*,)+`+tunnelled("12", "0xa00003"))
	if got := lifts(tcp + "81"); got != 0 {
		t.Errorf("a packet that nobody watches was lifted %d times", got)
	}
	if got := lifts("in_port=100,tun_id=0xa00002,tun_src=172.31.1.12,tun_dst=172.31.1.11,tcp,dl_dst=fa:16:3e:00:00:02"); got != 2 {
		t.Errorf("a marked packet of another host was lifted %d times, want where it arrives and where it leaves", got)
	}
	if got := lifts(strings.Replace(tcp+"80", "dl_dst=fa:16:3e:00:00:03", "dl_dst=fa:16:3e:00:00:77", 1)); got != 2 {
		t.Errorf("a watched packet for nobody was lifted %d times, want in and where it is dropped", got)
	}
	l.set(&state.Subnet{ID: "s", Network: "n1", CIDR: netip.MustParsePrefix("10.0.0.0/24")}, &state.Tap{ID: "t", Slot: 5, Port: "p1", Protocol: -1})
	if got := lifts("in_port=1,arp,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=10.0.0.1,arp_sha=fa:16:3e:00:00:01,arp_tpa=10.0.0.2"); got != 2 {
		t.Errorf("a watched question that a flow answers was lifted %d times, want in and the answer", got)
	}
	l.remove(state.Ref{Kind: state.KindTap, ID: "t"})
	l.same()
}
