package apps

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// lab is a host "h1" with a tenant network (10.0.0.0/24, 2001:db8::/64, a router), an isolated one (10.1.0.0/24), a provider VLAN network and an
// external one. Port vm1 is on the tenant network, vm2 on the isolated one.
type lab struct {
	store *state.Store
	now   time.Time
	apps  *Apps
	sent  []Reply
	found []*state.Neighbor
	lost  []state.Ref
}

const (
	keyVM1, keyVM2, keyVM3            = 11, 12, 13
	keyNet, keyIsle, keyOut           = 101, 102, 103
	keyRouter                         = 201
	macVM1                  state.MAC = 0xfa163e000011
	macVM2                  state.MAC = 0xfa163e000012
	macVM3                  state.MAC = 0xfa163e000013
	macRouter               state.MAC = 0xfa163e0000fe
	macGateway              state.MAC = 0xfa163e0000fd
	macOutside              state.MAC = 0x525400000001
	macHost                 state.MAC = 0x0a4877000001 // h1 itself
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func objects() []state.Object {
	return []state.Object{
		&state.Host{ID: "h1", Key: 1},
		&state.Network{ID: "net", Key: keyNet, MTU: 1442, DNSDomain: "cloud.example"},
		&state.Network{ID: "isle", Key: keyIsle, MTU: 1450},
		&state.Network{ID: "out", Key: keyOut, MTU: 1500, External: true, Segment: state.VLAN, Physical: "physnet", VLAN: 7},
		&state.Subnet{ID: "s4", Network: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DHCP: true, LeaseSeconds: 86400,
			DNSServers: []netip.Addr{addr("9.9.9.9"), addr("1.1.1.1")}},
		&state.Subnet{ID: "s6", Network: "net", CIDR: prefix("2001:db8::/64"), Gateway: addr("2001:db8::1"), DHCP: true, LeaseSeconds: 7200,
			RAMode: state.DHCPStateful, AddressMode: state.DHCPStateful, DNSServers: []netip.Addr{addr("2001:db8::53")}},
		&state.Subnet{ID: "i4", Network: "isle", CIDR: prefix("10.1.0.0/24"), DHCP: true, LeaseSeconds: 3600, MetadataByDHCP: true},
		&state.Router{ID: "r", Key: keyRouter, Interfaces: []state.RouterInterface{
			{Network: "net", MAC: macRouter, Addresses: []netip.Prefix{prefix("10.0.0.1/24"), prefix("2001:db8::1/64")}},
		}, Gateway: &state.Gateway{Network: "out", MAC: macGateway, Addresses: []netip.Prefix{prefix("203.0.113.10/24")}, NextHops: []netip.Addr{addr("203.0.113.1")}}},
		&state.Port{ID: "vm1", Key: keyVM1, Network: "net", Project: "p1", MAC: macVM1, Host: "h1", PortSecurity: true, DNSName: "web", Device: "server-1",
			FixedIPs: []state.FixedIP{{Subnet: "s4", Address: addr("10.0.0.11")}, {Subnet: "s6", Address: addr("2001:db8::11")}}},
		&state.Port{ID: "vm2", Key: keyVM2, Network: "isle", MAC: macVM2, Host: "h1", FixedIPs: []state.FixedIP{{Subnet: "i4", Address: addr("10.1.0.12")}}},
		&state.Port{ID: "vm3", Key: keyVM3, Network: "net", MAC: macVM3, Host: "h1", FixedIPs: []state.FixedIP{{Subnet: "s4", Address: addr("10.0.0.13")}},
			AllowedPairs: []state.AddressPair{{Prefix: prefix("10.0.0.100/32"), MAC: macVM3}, {Prefix: prefix("2001:db8::100/128"), MAC: macVM3}}},
		&state.Plug{ID: "vm1", OFPort: 1}, &state.Plug{ID: "vm2", OFPort: 2}, &state.Plug{ID: "vm3", OFPort: 3},
	}
}

// newLab returns a lab with more objects, or others in the place of those.
func newLab(tb testing.TB, more ...state.Object) *lab {
	tb.Helper()
	l := &lab{store: state.NewStore(), now: time.Unix(1_800_000_000, 0)}
	l.store.Apply(objects(), nil)
	l.store.Apply(more, nil)
	var err error
	l.apps, err = New(Config{
		Host: "h1", Store: l.store, Now: func() time.Time { return l.now }, Rand: func() float64 { return 0.5 }, Workers: 1, Rate: 1000,
		Send: func(_ context.Context, r []Reply) error { l.sent = append(l.sent, r...); return nil },
		Learned: func(found []state.Object, lost []state.Ref) {
			for _, o := range found {
				l.found = append(l.found, o.(*state.Neighbor))
			}
			l.lost = append(l.lost, lost...)
			l.store.Apply(found, lost)
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// change applies objects and tells the services.
func (l *lab) change(set []state.Object, gone ...state.Ref) {
	l.apps.Changed(l.store.Apply(set, gone))
}

// ask has the chain answer a packet, and returns what it sent.
func (l *lab) ask(tb testing.TB, p Packet) (Outcome, []Reply) {
	tb.Helper()
	l.sent = nil
	o := l.apps.answer(tb.Context(), &Case{}, &p)
	if o == Panicked {
		tb.Fatal("a director panicked")
	}
	return o, l.sent
}

// pass lets time pass, a step at a time, and returns what was sent of its own accord.
func (l *lab) pass(tb testing.TB, d time.Duration) []Reply {
	tb.Helper()
	l.sent = nil
	c := &Case{}
	for end := l.now.Add(d); ; {
		next := l.apps.due(tb.Context(), c)
		if next.IsZero() || next.After(end) {
			l.now = end
			return l.sent
		}
		if !next.After(l.now) {
			tb.Fatalf("something is due at %s that was just done", next)
		}
		l.now = next
	}
}

// from is a packet of a port.
func from(op flows.Op, port, network uint32, frame []byte) Packet {
	return Packet{Op: op, Source: port, Network: network, Frame: frame}
}

// paused is a packet that waits in the switch.
func paused(p Packet) Packet {
	p.Paused = &openflow.PacketIn2{Packet: p.Frame, Continuation: []byte{1}}
	return p
}

// udp is a frame with a UDP datagram.
func udp(src, dst state.MAC, from, to string, sport, dport uint16, payload []byte) []byte {
	return (&writer{}).datagram(ends{src, dst, addr(from), addr(to)}, sport, dport, payload)
}

// open takes a frame apart with all of gopacket's own decoders and checks the checksums.
func open(tb testing.TB, frame []byte) gopacket.Packet {
	tb.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil && binary.BigEndian.Uint16(frame[12:]) != 0x8035 {
		tb.Fatalf("a frame that cannot be read: %v\n%x", e.Error(), frame)
	}
	for _, l := range p.Layers() {
		if t, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := t.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err, bad := p.VerifyChecksums(); err != nil || len(bad) > 0 {
		tb.Fatalf("checksums %v %v of\n%s", bad, err, p)
	}
	return p
}

// one is the only reply, which must go to a target.
func one(tb testing.TB, replies []Reply, to Target) Reply {
	tb.Helper()
	if len(replies) != 1 || replies[0].To != to {
		tb.Fatalf("replies %+v, want one to %d", replies, to)
	}
	return replies[0]
}

// layer is a layer of a packet.
func layer[T gopacket.Layer](tb testing.TB, p gopacket.Packet) T {
	tb.Helper()
	i := slices.IndexFunc(p.Layers(), func(l gopacket.Layer) bool { _, ok := l.(T); return ok })
	if i < 0 {
		var zero T
		tb.Fatalf("no %T in %s", zero, p)
	}
	return p.Layers()[i].(T)
}
