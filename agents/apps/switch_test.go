package apps

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/headwater-cloud/headwater/agents/flows/flowtest"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// bed is the services on a real Open vSwitch that carries out compiled flows, with dummy devices: p1 and p2 of guests, up0 to the outside.
type bed struct {
	t    *testing.T
	host *flowtest.Host

	mu    sync.Mutex // guards the field below
	found []*state.Neighbor
}

func newBed(t *testing.T, objects ...state.Object) *bed {
	t.Helper()
	on := flowtest.New(t, 1, 2)
	b := &bed{t: t, host: on.Hosts[0]}
	on.Apply(objects, nil)
	for _, device := range []string{"p1", "p2", "up0"} {
		b.host.OVS.Vsctl("set", "Interface", device, "options:tx_pcap="+b.capture(device))
	}
	store := state.NewStore()
	store.Apply(append(objects, &state.Host{ID: "h1", Key: 1}, &state.Plug{ID: "vm1", OFPort: 1}, &state.Plug{ID: "vm2", OFPort: 2}), nil)
	var conn *openflow.Conn
	a, err := New(Config{Host: "h1", Store: store, Metadata: MetadataConfig{Upstream: "http://127.0.0.1:1", Secret: "s"},
		Send: func(ctx context.Context, r []Reply) error { return Sender(store, conn)(ctx, r) },
		Learned: func(found []state.Object, _ []state.Ref) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, o := range found {
				b.found = append(b.found, o.(*state.Neighbor))
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err = openflow.Dial(t.Context(), openflow.Config{Network: "unix", Address: b.host.OVS.Mgmt("br0"), Handle: func(_ uint32, m openflow.Message) { a.Handle(t.Context(), m, conn.Waiting()) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = conn.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	if err := conn.SendAll(t.Context(), []openflow.Message{
		&openflow.SetConfig{SwitchConfig: openflow.SwitchConfig{MissSendLen: 0xffff}}, &openflow.SetPacketInFormat{Format: openflow.FormatPacketIn2},
		&openflow.SetAsync{Async: openflow.Async{PacketIn: [2]uint32{63, 0}}},
	}); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bed) capture(device string) string { return filepath.Join(b.host.OVS.Dir, device+".pcap") }

// inject has a frame come in at a device.
func (b *bed) inject(device string, frame []byte) {
	b.host.OVS.Appctl("netdev-dummy/receive", device, hex.EncodeToString(frame))
}

// await waits for a frame that goes out of a device.
func (b *bed) await(what, device string, is func(gopacket.Packet) bool) gopacket.Packet {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		all := b.sent(device)
		if i := slices.IndexFunc(all, is); i >= 0 {
			return all[i]
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("%s: not among what left by %s: %s", what, device, all)
		}
	}
}

// sent are the frames that have gone out of a device.
func (b *bed) sent(device string) (out []gopacket.Packet) {
	f, err := os.Open(b.capture(device))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	r, err := pcapgo.NewReader(f)
	if err != nil {
		return nil // its head is not written yet
	}
	for {
		data, _, err := r.ReadPacketData()
		if err != nil {
			return out
		}
		out = append(out, gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default))
	}
}

// What the compiler's flows send up is what the services answer, and what they answer arrives: on one real switch, each service.
func TestThroughTheSwitch(t *testing.T) {
	t.Parallel()
	out := &state.Network{ID: "out", Key: keyOut, MTU: 1400, External: true, Segment: state.Flat, Physical: flowtest.Physical}
	b := newBed(t, out,
		&state.Network{ID: "net", Key: keyNet, MTU: 1450},
		&state.Subnet{ID: "s4", Network: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DHCP: true, LeaseSeconds: 86400},
		&state.Subnet{ID: "s6", Network: "net", CIDR: prefix("2001:db8::/64"), Gateway: addr("2001:db8::1"), DHCP: true, LeaseSeconds: 7200, RAMode: state.DHCPStateful, AddressMode: state.DHCPStateful},
		&state.Router{ID: "r", Key: keyRouter, Interfaces: []state.RouterInterface{
			{Network: "net", MAC: macRouter, Addresses: []netip.Prefix{prefix("10.0.0.1/24"), prefix("2001:db8::1/64")}},
		}, Gateway: &state.Gateway{Network: "out", MAC: macGateway, Addresses: []netip.Prefix{prefix("203.0.113.10/24")}, NextHops: []netip.Addr{addr("203.0.113.1")}, Hosts: []string{"h1"}}},
		&state.Port{ID: "vm1", Key: 1, Network: "net", MAC: macVM1, Host: "h1", PortSecurity: false, Device: "server-1", QoS: state.QoS{DSCP: -1},
			FixedIPs: []state.FixedIP{{Subnet: "s4", Address: addr("10.0.0.11")}, {Subnet: "s6", Address: addr("2001:db8::11")}}},
		&state.Port{ID: "vm2", Key: 2, Network: "net", MAC: macVM2, Host: "h1", PortSecurity: true, QoS: state.QoS{DSCP: -1},
			FixedIPs: []state.FixedIP{{Subnet: "s4", Address: addr("10.0.0.12")}}, AllowedPairs: []state.AddressPair{{Prefix: prefix("10.0.0.100/32"), MAC: macVM2}}},
	)

	b.inject("p1", dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1)))
	b.await("an offer", "p1", func(p gopacket.Packet) bool {
		d, ok := p.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
		return ok && d.YourClientIP.String() == "10.0.0.11"
	})
	b.inject("p1", solicitation(macVM1.LinkLocal()))
	b.await("a router advertisement", "p1", func(p gopacket.Packet) bool {
		ip, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		return ok && p.Layer(layers.LayerTypeICMPv6RouterAdvertisement) != nil && ip.DstIP.String() == macVM1.LinkLocal().String()
	})

	b.inject("p1", (&writer{}).arp(layers.ARPRequest, macVM1, addr("10.0.0.11"), broadcast, 0, state.MetadataIPv4()))
	b.await("the metadata address answered", "p1", func(p gopacket.Packet) bool {
		a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		return ok && a.Operation == layers.ARPReply && state.MACOf(a.SourceHwAddress) == state.ServiceMAC
	})
	b.inject("p1", syn(macVM1, macRouter, "10.0.0.11", "169.254.169.254"))
	b.inject("p1", syn(macVM1, state.ServiceMAC, macVM1.LinkLocal().String(), "fe80::a9fe:a9fe"))
	for _, from := range []string{"169.254.169.254", "fe80::a9fe:a9fe"} {
		b.await("a connection from "+from, "p1", func(p gopacket.Packet) bool {
			s, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			return ok && s.SYN && s.ACK && s.SrcPort == 80 && p.NetworkLayer().NetworkFlow().Src().String() == from
		})
	}

	ended := udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 33434, nil)
	ended[14+8], ended[14+10], ended[14+11] = 1, 0, 0 // TTL; the checksum follows
	sum := ^fold(sum16(ended[14:34], 0))
	ended[14+10], ended[14+11] = byte(sum>>8), byte(sum)
	b.inject("p1", ended)
	isError := func(kind, code uint8) func(gopacket.Packet) bool {
		return func(p gopacket.Packet) bool {
			i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			return ok && i.TypeCode == layers.CreateICMPv4TypeCode(kind, code)
		}
	}
	b.await("time exceeded", "p1", isError(11, 0))

	b.inject("p1", udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 2, []byte("first")))
	b.await("a question for the next hop", "up0", func(p gopacket.Packet) bool {
		a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		return ok && bytes.Equal(a.DstProtAddress, []byte{203, 0, 113, 1}) && state.MACOf(a.SourceHwAddress) == macHost
	})
	b.inject("up0", arpReply(macOutside, "203.0.113.1"))
	b.await("the packet that waited", "up0", func(p gopacket.Packet) bool {
		ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		eth, _ := p.LinkLayer().(*layers.Ethernet)
		return ok && ip.DstIP.String() == "192.0.2.1" && ip.TTL == 63 && state.MACOf(eth.DstMAC) == macOutside && state.MACOf(eth.SrcMAC) == macGateway
	})

	b.inject("p1", udp(macVM1, macRouter, "10.0.0.11", "203.0.113.1", 1, 2, make([]byte, 1410)))
	p := b.await("fragmentation needed", "p1", isError(3, 4))
	if i := layer[*layers.ICMPv4](t, p); i.Seq != 1400 {
		t.Errorf("MTU %d, want that of the next network", i.Seq)
	}

	b.inject("p2", (&writer{}).arp(layers.ARPRequest, macVM2, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100")))
	b.await("the announcement itself", "p1", func(p gopacket.Packet) bool {
		a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		return ok && bytes.Equal(a.SourceProtAddress, []byte{10, 0, 0, 100})
	})
	for deadline := time.After(time.Minute); !b.knows("10.0.0.100", "vm2"); {
		select {
		case <-deadline:
			t.Fatalf("found %+v, want vm2 as the owner of 10.0.0.100", b.found)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (b *bed) knows(a, port string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.found, func(n *state.Neighbor) bool { return n.Address == addr(a) && n.Port == port })
}

// syn is the first packet of a TCP connection to port 80.
func syn(src, dst state.MAC, from, to string) []byte {
	var w writer
	network := w.ip(ends{src, dst, addr(from), addr(to)}, layers.IPProtocolTCP, 64)
	s := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 1, SYN: true, Window: 65535}
	_ = s.SetNetworkLayerForChecksum(network.(gopacket.NetworkLayer))
	return w.serialize(&w.eth, network, s)
}
