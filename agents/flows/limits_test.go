package flows

import (
	"fmt"
	"net/netip"
	"regexp"
	"testing"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// A network may have ports on more hosts than one group has room for.
func TestFloodToManyHosts(t *testing.T) {
	t.Parallel()
	const hosts = 2_000
	store, c := state.NewStore(), New(Config{Host: "h0"})
	objects := []state.Object{
		&state.Tunnel{ID: state.TunnelID(state.VXLAN, 4789), Encap: state.VXLAN, Port: 4789, OFPort: labTunnel},
		&state.Network{ID: "n1", Key: 7, MTU: 1450}, &state.Plug{ID: "p0", OFPort: 1, Zone: 1},
	}
	for i := range hosts {
		h := fmt.Sprintf("h%d", i)
		end := state.TunnelEnd{Address: netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)}), Port: 4789}
		objects = append(objects, &state.Host{ID: h, Key: uint32(i + 1), TunnelEnds: []state.TunnelEnd{end}}, //nolint:gosec // small
			&state.Port{ID: fmt.Sprintf("p%d", i), Key: uint32(i + 1), Network: "n1", MAC: labMAC(i), Host: h, QoS: state.QoS{DSCP: -1}}) //nolint:gosec // small
	}
	changes := store.Apply(objects, nil)
	store.Read(func(v *state.View) { c.Update(v, changes) })

	// Who is reached, through however many groups.
	reached := map[string]int{}
	var follow func(id uint32)
	follow = func(id uint32) {
		g, ok := c.Group(id)
		if !ok {
			t.Fatalf("group %#x is referred to and not there", id)
		}
		for _, b := range g.Buckets {
			for _, a := range b.Actions {
				switch a := a.(type) {
				case *openflow.Group:
					follow(a.Group)
				case *openflow.SetField:
					if a.Field == openflow.TunIPv6Dst {
						reached[fmt.Sprint(a.Value)]++
					}
				}
			}
		}
	}
	follow(GroupFlood | 7)
	if len(reached) != hosts-1 {
		t.Errorf("a broadcast reaches %d hosts, want %d", len(reached), hosts-1)
	}
	for to, n := range reached {
		if n != 1 {
			t.Errorf("%s gets %d copies", to, n)
		}
	}
}

// A tag within a tag would leave a flat network, by the bridge of its physical network, as that of another network there, and reach a trunk's guest
// as if from the network of one of its subports.
func TestInnerTagsGoNowhere(t *testing.T) {
	t.Parallel()
	const udp = "4500001c0000400040110000" + "0a000003" + "0a000009" + "0001000200080000"
	for _, limit := range []string{"1", "2"} { // how many tags the switch looks at
		t.Run("vlan-limit "+limit, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.ovs.Vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit="+limit)
			l.set(&state.Network{ID: "n1", Key: 7, MTU: 1500, Segment: state.Flat, Physical: "physnet1"},
				&state.Network{ID: "n2", Key: 8, MTU: 1500, Segment: state.VLAN, VLAN: 300, Physical: "physnet1"})
			l.plug(1, "n1", "10.0.0.1", nil)
			l.plug(2, "n2", "10.0.0.2", nil)
			sub := l.port(3, "n1", labHost, "10.0.0.3", func(p *state.Port) { p.Parent, p.ParentVLAN = "p2", 5 })
			l.set(sub, &state.Plug{ID: sub.ID, OFPort: 2, Zone: 3})
			for _, tt := range []struct{ what, from, tags, want string }{
				{"a subport's packet", "2", "81000005", "(?:pop_vlan,)?.*p1.*up0.*"},
				{"a tag within a subport's", "2", "81000005810000c8", "drop"},
				{"one of a provider's", "2", "8100000588a800c8", "drop"},
				{"a tag within a priority", "1", "81006000810000c8", "drop"},
				{"a tag from outside within a network's", "101", "8100012c810000c8", "drop"},
			} {
				got, how := l.trace("in_port="+tt.from, "ffffffffffff"+"fa163e000003"+tt.tags+"0800"+udp)
				if !regexp.MustCompile("^(?:" + tt.want + ")$").MatchString(got) {
					t.Errorf("%s: the switch does %s, want %s\n%s", tt.what, got, tt.want, how)
				}
			}
		})
	}
}

// A guest that announces its moving address without end has its own meter; nobody else's announcements count there.
func TestAnnouncementsAreMeteredByPort(t *testing.T) {
	t.Parallel()
	store, c := state.NewStore(), New(Config{Host: labHost, PuntRate: 100, OpRate: 1000})
	objects := []state.Object{&state.Network{ID: "n1", Key: 7, MTU: 1450}}
	for n := 1; n <= 2; n++ {
		p := &state.Port{ID: fmt.Sprintf("p%d", n), Key: uint32(n), Network: "n1", MAC: labMAC(n), Host: labHost, QoS: state.QoS{DSCP: -1}, //nolint:gosec // small
			AllowedPairs: []state.AddressPair{{Prefix: netip.MustParsePrefix("10.0.0.100/32"), MAC: labMAC(n)}}}
		objects = append(objects, p, &state.Plug{ID: p.ID, OFPort: uint32(n), Zone: uint16(n)}) //nolint:gosec // small
	}
	changes := store.Apply(objects, nil)
	store.Read(func(v *state.View) { c.Update(v, changes) })
	meters := map[uint32]int{}
	c.Flows(func(k FlowKey, f Flow) bool {
		if k.Table != TPuntClass {
			return true
		}
		do, err := openflow.DecodeInstructions(f.Instructions)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range do {
			if apply, ok := i.(*openflow.InstrApply); ok {
				for _, a := range apply.Actions {
					if up, ok := a.(*openflow.Controller); ok {
						meters[up.Meter]++
					}
				}
			}
		}
		return true
	})
	if len(meters) != 2 || meters[MeterPunt|1] != 1 || meters[MeterPunt|2] != 1 {
		t.Errorf("announcements by meter: %#v, want one at each port's", meters)
	}
	for id := range meters {
		if _, ok := c.Meter(id); !ok {
			t.Errorf("meter %#x is not there", id)
		}
	}
}
