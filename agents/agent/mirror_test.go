package agent

import (
	"fmt"
	"net"
	"testing"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/agents/state"
)

// number waits until a port is plugged by a number of the switch; 0: it is not.
func (h *host) number(port string, want uint32) {
	h.t.Helper()
	h.await(fmt.Sprintf("%s has number %d", port, want), func() (bool, string) {
		got := h.numberNow(port)
		return got == want, fmt.Sprint(got)
	})
}

func (h *host) numberNow(port string) (n uint32) {
	h.core.store.Read(func(v *state.View) {
		if plug := state.Find[*state.Plug](v, port); plug != nil {
			n = plug.OFPort
		}
	})
	return n
}

// A port's flows are in as soon as the switch tells of the port, which is long before its number stands in the database; what the database says counts more, and nothing
// that the switch has said is believed of an interface that comes later.
func TestSwitchTellsOfPortsFirst(t *testing.T) {
	t.Parallel()
	h, fake := newFakeHost(t)
	h.Commit(snapshot(t, 1, twoPorts+`
- {id: p4, key: 4, network: n1, mac: "fa:16:3e:00:00:04", fixed_ips: [{subnet: s1, address: 10.0.0.14}], host: h1}
- {id: p5, key: 5, network: n1, mac: "fa:16:3e:00:00:05", fixed_ips: [{subnet: s1, address: 10.0.0.15}], host: h1}
`))
	h.faultless(fake)
	added := func(name string, number uint32) {
		fake.SetPort(openflow.PortDesc{Number: number, Name: name, HWAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
	}
	claimed := func(device, port string) {
		h.ovs.Vsctl("--no-wait", "add-port", "br0", device, "--", "set", "Interface", device, "external_ids:iface-id="+port)
	}
	known := func(device, port string) { // the agent has seen it
		h.await(device+" is known", func() (bool, string) {
			h.core.mu.Lock()
			defer h.core.mu.Unlock()
			g, ok := h.core.mirror.guest(port)
			return ok && g.Name == device, g.Name
		})
	}
	numbered := func(device string, number int) {
		h.ovs.Vsctl("--no-wait", "set", "Interface", device, fmt.Sprintf("ofport=%d", number))
	}

	claimed("d4", "p4")
	known("d4", "p4")
	added("d4", 7)
	h.ready("d4")
	if in := h.column("Interface", "d4", "ofport"); h.numberNow("p4") != 7 || in != "[]" {
		t.Errorf("the port has number %d, and the database says %s; want 7, and nothing", h.numberNow("p4"), in)
	}
	h.faultless(fake)

	// What the switch takes back goes, and so does what it said on a connection that ends.
	fake.RemovePort(7)
	h.number("p4", 0)
	added("d4", 8)
	h.number("p4", 8)
	fake.Hangup()
	h.number("p4", 0)
	h.faultless(fake)

	// The database counts more, whether it says another number or that there is none.
	fake.RemovePort(8)
	added("d4", 9)
	h.number("p4", 9)
	numbered("d4", 10)
	h.number("p4", 10)
	fake.RemovePort(9) // of which there is nothing to take back
	numbered("d4", -1)
	h.number("p4", 0)
	added("d4", 11)

	// An interface that comes behind the switch's word; and one of a name that may be the beginning of another's.
	const cut = "d23456789012345"
	added("d5", 12)
	claimed("d5", "p5")
	h.number("p5", 12)
	if n := h.numberNow("p4"); n != 0 {
		t.Errorf("the database says that d4 has no number, and its port has %d", n)
	}
	h.ovs.Vsctl("--no-wait", "del-port", "br0", "d4")
	claimed(cut+"6", "p4")
	known(cut+"6", "p4")
	added(cut, 13)
	h.ovs.Vsctl("--no-wait", "del-port", "br0", "d5")
	h.number("p5", 0)
	claimed("d5", "p5") // another of the same name
	known("d5", "p5")
	added("other", 14)
	claimed("d6", "p4")
	h.ovs.Vsctl("--no-wait", "del-port", "br0", cut+"6")
	known("d6", "p4")
	added("d6", 15)
	h.number("p4", 15)
	if n := h.numberNow("p5"); n != 0 {
		t.Errorf("the port has number %d, which was that of the interface before", n)
	}
	fake.RemovePort(12)
	added("d5", 16)
	h.number("p5", 16)
	h.faultless(fake)
	h.ready("d5")
}

// What comes before a bundle is done before it, in one go with it, and refusals of it hinder nothing.
func TestBundleBehindWhatIsRefused(t *testing.T) {
	t.Parallel()
	h, fake := newFakeHost(t)
	fake.Inject(func(m openflow.Message) ovstest.Fault {
		if _, ok := m.(*openflow.CTFlushZone); ok {
			return ovstest.Fault{Refuse: &openflow.Error{Type: 1, Code: 1}}
		}
		return ovstest.Fault{}
	})
	h.Commit(snapshot(t, 1, twoPorts))
	h.faultless(fake)
	h.ready("d1")
	h.alarmed(alarmRefused)
}
