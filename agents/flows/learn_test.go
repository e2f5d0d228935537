package flows

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// On a physical network what is for an address that nobody has told of goes out, and nowhere else; what comes from outside for such an address goes nowhere.
func TestForeignAddresses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1500, Segment: state.Flat, Physical: "physnet1"})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n1", "10.0.0.2", nil)
	l.same()
	l.expect("to a machine outside", "in_port=1,ip,dl_src=fa:16:3e:00:00:01,dl_dst=02:00:00:00:00:77", "up0")
	l.expect("from a machine outside", "in_port=101,ip,dl_src=02:00:00:00:00:77,dl_dst=fa:16:3e:00:00:01", "p1")
	l.expect("from one machine outside to another", "in_port=101,ip,dl_src=02:00:00:00:00:77,dl_dst=02:00:00:00:00:78", "drop")
}

// A network that learns sends to all what is for an address that was not seen yet, and after that to where it was seen: outside, or behind a port without port security.
func TestLearning(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1500, Segment: state.VLAN, VLAN: 100, Physical: "physnet1", Learn: true})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n1", "10.0.0.2", nil)
	l.plug(3, "n1", "10.0.0.3", func(p *state.Port) { p.PortSecurity = true })
	l.same()
	const outside, behind = "02:00:00:00:00:77", "02:00:00:00:00:88"
	guest := func(port, src, dst string) string { return "in_port=" + port + ",ip,dl_src=" + src + ",dl_dst=" + dst }
	wire := func(src, dst string) string { return "in_port=101,dl_vlan=100,ip,dl_src=" + src + ",dl_dst=" + dst }
	const out = `push_vlan\(vid=100,pcp=0\),up0`
	const fromGuest, fromWire = "fa:16:3e:00:00:01", "02:00:00:00:00:99"
	all := func(what, flow string, ports ...string) {
		t.Helper()
		got, how := l.trace(flow)
		for _, p := range []string{"p1", "p2", "up0"} {
			want := false
			for _, w := range ports {
				want = want || w == p
			}
			if strings.Contains(got, p) != want {
				t.Errorf("%s: does %s, want %v\n%s", what, got, ports, how)
			}
		}
	}
	all("seen nowhere, from a guest", guest("1", fromGuest, outside), "p2", "up0")
	all("seen nowhere, from outside", wire(fromWire, behind), "p1", "p2")
	l.trace(wire(outside, fromGuest), "-generate")
	l.trace(guest("2", behind, fromGuest), "-generate")
	l.expect("seen outside", guest("1", fromGuest, outside), out)
	l.expect("seen behind a port, from a guest", guest("1", fromGuest, behind), "p2")
	l.expect("seen behind a port, from outside", wire(fromWire, behind), `pop_vlan,p2`)
	l.expect("seen outside, from outside", wire(fromWire, outside), "drop")
	l.expect("to the sender's own port", guest("2", "fa:16:3e:00:00:02", behind), "drop")
	l.trace(guest("3", "02:00:00:00:00:66", fromGuest), "-generate")
	all("what may not be sent is not learned", guest("1", fromGuest, "02:00:00:00:00:66"), "p2", "up0")
	// An address of a port is the port's, whoever says otherwise.
	l.trace(wire("fa:16:3e:00:00:02", fromGuest), "-generate")
	l.expect("a known address is not learned", guest("1", fromGuest, "fa:16:3e:00:00:02"), "p2")
	// It has moved, and is seen there.
	l.trace(wire(behind, fromGuest), "-generate")
	l.expect("moved outside", guest("1", fromGuest, behind), out)
	l.trace(guest("2", behind, fromGuest), "-generate")
	l.expect("and back", guest("1", fromGuest, behind), "p2")
	// What is behind a port goes with it.
	l.remove(state.Ref{Kind: state.KindPlug, ID: "p2"})
	all("its port is gone", guest("1", fromGuest, behind), "up0")
	l.expect("others are known", guest("1", fromGuest, outside), out)
}
