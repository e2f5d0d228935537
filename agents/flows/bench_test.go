package flows

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// crowd is a host with n ports in networks of 50, each with an address of either family and a security group of its network.
func crowd(n int) []state.Object {
	objects := []state.Object{&state.Host{ID: labHost, Key: 1, TunnelEnds: []state.TunnelEnd{{Address: netip.MustParseAddr(labUnderlay), Port: 4789}}}}
	for i := range n / 50 {
		objects = append(objects, &state.Network{ID: fmt.Sprintf("n%d", i), Key: uint32(i + 1), MTU: 1450})
	}
	for i := range n {
		objects = append(objects, crowdPort(i, fmt.Sprintf("n%d", i/50))...)
	}
	return objects
}

// crowdPort is a port that is plugged.
func crowdPort(i int, network string) []state.Object {
	p := &state.Port{ID: fmt.Sprintf("p%d", i), Key: uint32(i + 1), Network: network, MAC: labMAC(i), Host: labHost, PortSecurity: true, QoS: state.QoS{DSCP: -1},
		SecurityGroups: []string{"sg"}, FixedIPs: []state.FixedIP{{Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
			{Address: netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})}}}
	return []state.Object{p, &state.Plug{ID: p.ID, OFPort: uint32(i + 1), Zone: uint16(i + 1)}}
}

// BenchmarkUpdate is the compiler's share of what happens on a host with 1,000 ports.
func BenchmarkUpdate(b *testing.B) {
	objects := crowd(1000)
	update := func(c *Compiler, s *state.Store, set []state.Object, gone ...state.Ref) *Delta {
		changes := s.Apply(set, gone)
		var d *Delta
		s.Read(func(v *state.View) { d = c.Update(v, changes) })
		return d
	}
	b.Run("ports=1000/from scratch", func(b *testing.B) {
		b.ReportAllocs()
		flows := 0
		for b.Loop() {
			flows = len(update(New(Config{Host: labHost, PuntRate: 100}), state.NewStore(), objects).Flows)
		}
		b.ReportMetric(float64(flows), "flows")
	})
	b.Run("ports=1000/one more", func(b *testing.B) {
		b.ReportAllocs()
		c, s := New(Config{Host: labHost, PuntRate: 100}), state.NewStore()
		update(c, s, objects)
		flows := 0
		for b.Loop() {
			flows = len(update(c, s, crowdPort(2000, "n3")).Flows)
			b.StopTimer()
			update(c, s, nil, state.Ref{Kind: state.KindPort, ID: "p2000"}, state.Ref{Kind: state.KindPlug, ID: "p2000"})
			b.StartTimer()
		}
		b.ReportMetric(float64(flows), "flows")
	})
}
