package apps

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// solicitation is a router solicitation of vm1, from an address or from none.
func solicitation(src netip.Addr, options ...byte) []byte {
	e := ends{macVM1, multicastMAC(addr("ff02::2")), src, addr("ff02::2")}
	return (&writer{}).icmp(e, routerSolicitation, 0, 255, append(make([]byte, 4), options...))
}

func advertisementOf(tb testing.TB, r Reply) (*layers.ICMPv6RouterAdvertisement, map[layers.ICMPv6Opt][]byte) {
	tb.Helper()
	p := open(tb, r.Frame)
	ra := layer[*layers.ICMPv6RouterAdvertisement](tb, p)
	options := map[layers.ICMPv6Opt][]byte{}
	for _, o := range ra.Options {
		options[o.Type] = o.Data
	}
	if ip := layer[*layers.IPv6](tb, p); ip.HopLimit != 255 || ip.SrcIP.String() != macRouter.LinkLocal().String() {
		tb.Errorf("from %s with hop limit %d, want from the router's link-local address with 255", ip.SrcIP, ip.HopLimit)
	}
	return ra, options
}

// What is advertised by the modes of a subnet: M, O, and A of its prefix (RFC 4861 section 4.2, 4.6.2).
func TestAdvertisementByMode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode       state.IPv6Mode
		gateway    string
		m, o, auto bool
		lifetime   uint16
	}{
		{state.SLAAC, "2001:db8::1", false, false, true, 300},
		{state.DHCPStateless, "2001:db8::1", false, true, true, 300},
		{state.DHCPStateful, "2001:db8::1", true, true, false, 300},
		{state.SLAAC, "2001:db8::ff", false, false, true, 0}, // somebody else is the gateway
	} {
		s := &state.Subnet{ID: "s6", Network: "net", CIDR: prefix("2001:db8::/64"), Gateway: addr(tt.gateway), DHCP: true, RAMode: tt.mode, AddressMode: tt.mode,
			DNSServers: []netip.Addr{addr("2001:db8::53"), addr("9.9.9.9")}}
		outcome, replies := newLab(t, s).ask(t, from(flows.OpSolicit, keyVM1, keyNet, solicitation(macVM1.LinkLocal(), ndLinkLayer(nil, 1, macVM1)...)))
		if outcome != Answered {
			t.Fatalf("mode %d: %s", tt.mode, outcome)
		}
		ra, options := advertisementOf(t, one(t, replies, ToPort))
		info := options[layers.ICMPv6OptPrefixInfo]
		if ra.ManagedAddressConfig() != tt.m || ra.OtherConfig() != tt.o || info[1]&0x40 != 0 != tt.auto || info[0] != 64 || info[1]&0x80 == 0 || ra.RouterLifetime != tt.lifetime {
			t.Errorf("mode %d: M %t, O %t, prefix flags %#x, lifetime %d", tt.mode, ra.ManagedAddressConfig(), ra.OtherConfig(), info[1], ra.RouterLifetime)
		}
		if !bytes.Equal(info[14:], addr("2001:db8::").AsSlice()) || binary.BigEndian.Uint32(options[layers.ICMPv6OptMTU][2:]) != 1442 ||
			!bytes.Equal(options[layers.ICMPv6OptSourceAddress], macRouter.Bytes()) {
			t.Errorf("mode %d: options %v", tt.mode, options)
		}
		if servers := options[25]; tt.lifetime > 0 && (len(servers) != 22 || !bytes.Equal(servers[6:], addr("2001:db8::53").AsSlice())) {
			t.Errorf("mode %d: name servers %v", tt.mode, servers)
		}
		if search := options[31]; tt.lifetime > 0 && !bytes.Contains(search, []byte("\x05cloud\x07example\x00")) {
			t.Errorf("mode %d: domains %q", tt.mode, search)
		}
	}
}

func TestSolicitationsThatAreRefused(t *testing.T) {
	t.Parallel()
	far := solicitation(macVM1.LinkLocal())
	far[14+7] = 64 // came through a router
	for name, frame := range map[string][]byte{
		"hop limit":                    far,
		"link layer of no address":     solicitation(netip.IPv6Unspecified(), ndLinkLayer(nil, 1, macVM1)...),
		"option of no length":          solicitation(macVM1.LinkLocal(), 1, 0, 0, 0, 0, 0, 0, 0),
		"option longer than the frame": solicitation(macVM1.LinkLocal(), 1, 9, 0, 0, 0, 0, 0, 0),
	} {
		if o, _ := newLab(t).ask(t, from(flows.OpSolicit, keyVM1, keyNet, frame)); o != Malformed {
			t.Errorf("%s: %s", name, o)
		}
	}
	if o, _ := newLab(t, &state.Router{ID: "r", Key: keyRouter}).ask(t, from(flows.OpSolicit, keyVM1, keyNet, solicitation(macVM1.LinkLocal()))); o != Silent {
		t.Errorf("without a router: %s", o)
	}
}

// A plugged port gets three advertisements soon, then one in a random time; what changes is told again; of a router that goes, its end (RFC 4861 section 6.2).
func TestUnsolicitedAdvertisements(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	to := func(replies []Reply, port uint32) (n int) {
		for _, r := range replies {
			if r.Port == port {
				n++
				advertisementOf(t, r)
			}
		}
		return n
	}
	first := l.pass(t, 40*time.Second)
	if n := to(first, keyVM1); n != 3 {
		t.Errorf("%d in the first 40 s, want 3", n)
	}
	if n := to(first, keyVM2); n != 0 {
		t.Errorf("%d to a network without a router", n)
	}
	if n := to(l.pass(t, 10*time.Minute), keyVM1); n < 6 || n > 20 {
		t.Errorf("%d in ten minutes, want one in 30 to 100 s", n)
	}
	l.change([]state.Object{&state.Network{ID: "net", Key: keyNet, MTU: 1400}})
	if n := to(l.pass(t, 40*time.Second), keyVM1); n != 3 {
		t.Errorf("%d after a change, want 3", n)
	}
	l.change(nil, state.Ref{Kind: state.KindRouter, ID: "r"})
	last := l.pass(t, time.Minute)
	for _, r := range last {
		if ra, _ := advertisementOf(t, r); ra.RouterLifetime != 0 {
			t.Errorf("a router that has gone still lives %d s", ra.RouterLifetime)
		}
	}
	if n := to(last, keyVM1); n != 3 || len(l.pass(t, time.Hour)) != 0 {
		t.Errorf("%d last ones, want 3 and no more", n)
	}
}

func FuzzSolicitation(f *testing.F) {
	f.Add(solicitation(macVM1.LinkLocal(), ndLinkLayer(nil, 1, macVM1)...)[54:])
	f.Add(solicitation(netip.IPv6Unspecified())[54:])
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) < 4 || len(message) > math.MaxInt16 {
			return
		}
		frame := (&writer{}).icmp(ends{macVM1, macRouter, macVM1.LinkLocal(), addr("ff02::2")}, message[0], message[1], 255, message[4:])
		for _, op := range []flows.Op{flows.OpSolicit, flows.OpAnnounce, flows.OpNeighbor} {
			_, replies := newLab(t).ask(t, from(op, keyVM1, keyNet, frame))
			for _, r := range replies {
				open(t, r.Frame)
			}
		}
	})
}
