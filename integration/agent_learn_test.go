package integration

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// On a network of the physical network guests and machines that nobody has told of speak to each other, and no other guest gets what is for one of them. Where the network learns, so it
// is with machines that are behind a guest, once they have said something.
func TestAgentsSpeakToForeignMachines(t *testing.T) {
	t.Parallel()
	for _, learns := range []bool{false, true} {
		t.Run(fmt.Sprintf("learns %v", learns), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2)
			ctx := t.Context()
			h, machine := f.bed.Hosts(), f.bed.Outside(1)
			f.network("vlan", 31, 1500, "198.51.100.0/24", "2001:db8:198::/64")
			f.state.Networks[len(f.state.Networks)-1].Segment = &api.Segment{Kind: api.Segment_VLAN, PhysicalNetwork: hosts.Physnet, Vlan: 100}
			f.state.Networks[len(f.state.Networks)-1].Learn = learns
			a, _ := f.guest("a", h[0], "vlan", hosts.VMConfig{}, "198.51.100.11/24", "2001:db8:198::11/64")
			b, bridge := f.guest("b", h[0], "vlan", hosts.VMConfig{}, "198.51.100.12/24", "2001:db8:198::12/64")
			c, _ := f.guest("c", h[0], "vlan", hosts.VMConfig{}, "198.51.100.13/24", "2001:db8:198::13/64")
			d, _ := f.guest("d", h[1], "vlan", hosts.VMConfig{}, "198.51.100.14/24", "2001:db8:198::14/64")
			bridge.PortSecurity, bridge.SecurityGroups = false, nil // it may send for others
			f.settle(ctx)
			for _, vm := range []*hosts.VM{a, d} {
				for _, gateway := range []string{"198.51.100.1", "2001:db8:198::1"} {
					vm.MustReach(mustAddr(gateway))
				}
				for _, p := range vm.IPs {
					machine.MustReach(p.Addr())
				}
			}
			heard := c.Capture("eth0", "ip host 198.51.100.11 and host 198.51.100.1 and icmp")
			for range 5 {
				a.MustReach(mustAddr("198.51.100.1"))
			}
			lines, err := heard.Stop()
			if err != nil || strings.TrimSpace(strings.Join(lines, "")) != "" {
				t.Errorf("another guest gets what is for the machine outside: %v %q", err, lines)
			}

			foreign := net.HardwareAddr{0x02, 0, 0, 0, 0, 0x88}
			say := func(m []byte) []byte {
				return probe.UDP(foreign, a.MAC, netip.AddrPortFrom(b.IPs[0].Addr(), 9), netip.AddrPortFrom(a.IPs[0].Addr(), 9), m)
			}
			ask := func(m []byte) []byte {
				return probe.UDP(a.MAC, foreign, netip.AddrPortFrom(a.IPs[0].Addr(), 9), netip.AddrPortFrom(b.IPs[0].Addr(), 9), m)
			}
			marks := uint64(0)
			arrives := func(from, to *hosts.VM, frame func(m []byte) []byte) bool {
				w := f.watch(from, to)
				marks += 1 << 16 // what comes back as an error is of another one
				w.sent = marks
				return w.arrives(ctx, frame)
			}
			if arrives(a, b, ask) != learns {
				t.Errorf("to a machine that has said nothing: want that it is sent to all: %v", learns)
			}
			if !arrives(b, a, say) {
				t.Error("a guest without port security does not speak for a machine behind it")
			}
			if arrives(a, b, ask) != learns || arrives(a, c, ask) {
				t.Errorf("to a machine that was seen behind a guest: want that it arrives there: %v, and not at another guest", learns)
			}
			fromAway := func(m []byte) []byte {
				return probe.UDP(d.MAC, foreign, netip.AddrPortFrom(d.IPs[0].Addr(), 9), netip.AddrPortFrom(b.IPs[0].Addr(), 9), m)
			}
			if arrives(d, b, fromAway) != learns {
				t.Errorf("to it from another host, through the physical network: want that it arrives: %v", learns)
			}
			f.same(ctx) // what the switch has learned is no difference
			a.MustReach(mustAddr("198.51.100.1"))
		})
	}
}
