package apps

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// dhcp is a message of a client in a frame, as it is sent without an address.
func dhcp(mac state.MAC, m *dhcpv4.DHCPv4) []byte {
	return udp(mac, broadcast, "0.0.0.0", "255.255.255.255", 68, 67, m.ToBytes())
}

// message4 is a DHCPv4 message of a client.
func message4(tb testing.TB, kind dhcpv4.MessageType, mac state.MAC, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	tb.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac.Bytes()), dhcpv4.WithMessageType(kind)}, mods...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// reply4 is the DHCPv4 message in a reply.
func reply4(tb testing.TB, r Reply) *dhcpv4.DHCPv4 {
	tb.Helper()
	p := open(tb, r.Frame)
	m, err := dhcpv4.FromBytes(layer[*layers.UDP](tb, p).Payload)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// Each message of a client, in each state that it can be in, and what it gets (RFC 2131 section 4.3).
func TestDHCPv4Messages(t *testing.T) {
	t.Parallel()
	requested := func(a string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a))) }
	server := func(a string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a))) }
	ciaddr := func(a string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(a)) }
	rapid := dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))
	const none = dhcpv4.MessageType(0)
	for _, tt := range []struct {
		name    string
		kind    dhcpv4.MessageType
		mods    []dhcpv4.Modifier
		outcome Outcome
		want    dhcpv4.MessageType
		yiaddr  string
		to      string // IP destination
	}{
		{"discover", dhcpv4.MessageTypeDiscover, nil, Answered, dhcpv4.MessageTypeOffer, "10.0.0.11", "10.0.0.11"},
		{"discover with the broadcast flag", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithBroadcast(true)}, Answered, dhcpv4.MessageTypeOffer, "10.0.0.11", "255.255.255.255"},
		{"discover asking for another's", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{requested("10.0.0.99")}, Answered, dhcpv4.MessageTypeOffer, "10.0.0.11", "10.0.0.11"},
		{"discover with rapid commit", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{rapid}, Answered, dhcpv4.MessageTypeAck, "10.0.0.11", "10.0.0.11"},
		{"request, selecting", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{requested("10.0.0.11"), server("10.0.0.1")}, Answered, dhcpv4.MessageTypeAck, "10.0.0.11", "10.0.0.11"},
		{"request, selecting another server", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{requested("10.0.0.11"), server("10.0.0.77")}, Silent, none, "", ""},
		{"request, selecting a wrong address", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{requested("10.0.0.12"), server("10.0.0.1")}, Refused, dhcpv4.MessageTypeNak, "0.0.0.0", "255.255.255.255"},
		{"request, init-reboot", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{requested("10.0.0.11")}, Answered, dhcpv4.MessageTypeAck, "10.0.0.11", "10.0.0.11"},
		{"request, init-reboot in another network", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{requested("192.168.1.5")}, Refused, dhcpv4.MessageTypeNak, "0.0.0.0", "255.255.255.255"},
		{"request, renewing", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{ciaddr("10.0.0.11")}, Answered, dhcpv4.MessageTypeAck, "10.0.0.11", "10.0.0.11"},
		{"request, rebinding a lost address", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{ciaddr("10.0.0.44")}, Refused, dhcpv4.MessageTypeNak, "0.0.0.0", "255.255.255.255"},
		{"request for nothing", dhcpv4.MessageTypeRequest, nil, Malformed, none, "", ""},
		{"inform", dhcpv4.MessageTypeInform, []dhcpv4.Modifier{ciaddr("10.0.0.11")}, Answered, dhcpv4.MessageTypeAck, "0.0.0.0", "10.0.0.11"},
		{"decline", dhcpv4.MessageTypeDecline, []dhcpv4.Modifier{requested("10.0.0.11"), server("10.0.0.1")}, Noted, none, "", ""},
		{"release", dhcpv4.MessageTypeRelease, []dhcpv4.Modifier{ciaddr("10.0.0.11"), server("10.0.0.1")}, Noted, none, "", ""},
		{"relayed", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithGatewayIP(net.IPv4(10, 0, 0, 9))}, Foreign, none, "", ""},
		{"an offer", dhcpv4.MessageTypeOffer, nil, Malformed, none, "", ""},
		{"of a guest's guest", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithHwAddr(macVM2.Bytes())}, Foreign, none, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := message4(t, tt.kind, macVM1, tt.mods...)
			outcome, replies := newLab(t).ask(t, from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, m)))
			if outcome != tt.outcome {
				t.Fatalf("outcome %s, want %s", outcome, tt.outcome)
			}
			if tt.want == none {
				if len(replies) != 0 {
					t.Errorf("%d replies, want none", len(replies))
				}
				return
			}
			r := one(t, replies, ToPort)
			got, p := reply4(t, r), open(t, r.Frame)
			if got.MessageType() != tt.want || got.YourIPAddr.String() != tt.yiaddr || got.TransactionID != m.TransactionID || r.Port != keyVM1 {
				t.Errorf("%s to port %d, want %s for %s", got.Summary(), r.Port, tt.want, tt.yiaddr)
			}
			if ip := layer[*layers.IPv4](t, p); ip.DstIP.String() != tt.to || ip.SrcIP.String() != "10.0.0.1" {
				t.Errorf("from %s to %s, want from the gateway to %s", ip.SrcIP, ip.DstIP, tt.to)
			}
			eth := layer[*layers.Ethernet](t, p)
			if to := map[bool]state.MAC{true: broadcast, false: macVM1}[tt.to == "255.255.255.255"]; state.MACOf(eth.DstMAC) != to || state.MACOf(eth.SrcMAC) != macRouter {
				t.Errorf("frame from %s to %s, want from the router to %s", eth.SrcMAC, eth.DstMAC, to)
			}
			if got.ServerIdentifier().String() != "10.0.0.1" {
				t.Errorf("server %s, want the gateway", got.ServerIdentifier())
			}
			if lease := got.IPAddressLeaseTime(0); (lease != 0) == (tt.kind == dhcpv4.MessageTypeInform || tt.want == dhcpv4.MessageTypeNak) {
				t.Errorf("lease %s", lease)
			}
		})
	}
}

func TestDHCPv4Options(t *testing.T) {
	t.Parallel()
	asked := []dhcpv4.OptionCode{dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionDomainNameServer, dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionBroadcastAddress,
		dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionDNSDomainSearchList, dhcpv4.GenericOptionCode(249)}
	l := newLab(t, &state.Subnet{ID: "s4", Network: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DHCP: true, LeaseSeconds: 86400,
		DNSServers: []netip.Addr{addr("9.9.9.9"), addr("1.1.1.1")}, HostRoutes: []state.Route{{Destination: prefix("172.16.0.0/12"), NextHop: addr("10.0.0.254")}}})
	_, replies := l.ask(t, from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1,
		dhcpv4.WithOption(dhcpv4.OptParameterRequestList(asked...)), dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1442)), dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{1, 2, 3}))))))
	r := one(t, replies, ToPort)
	m := reply4(t, r)
	routes := []byte{12, 172, 16, 10, 0, 0, 254, 0, 10, 0, 0, 1}
	for code, want := range map[uint8][]byte{
		1: {255, 255, 255, 0}, 3: {10, 0, 0, 1}, 6: {9, 9, 9, 9, 1, 1, 1, 1}, 12: []byte("web"), 15: []byte("cloud.example"), 26: {1442 >> 8, 1442 & 0xff}, 28: {10, 0, 0, 255},
		51: {0, 1, 0x51, 0x80}, 58: {0, 0, 0xa8, 0xc0}, 59: {0, 1, 0x27, 0x50}, 54: {10, 0, 0, 1}, 61: {1, 2, 3}, 119: []byte("\x05cloud\x07example\x00"), 121: routes, 249: routes,
	} {
		if got := m.Options.Get(dhcpv4.GenericOptionCode(code)); !bytes.Equal(got, want) {
			t.Errorf("option %d is %v, want %v", code, got, want)
		}
	}
	if got, want := order(t, r), append([]uint8{61, 53, 54}, codes(asked)...); !slices.Equal(got[:len(want)], want) {
		t.Errorf("options in the order %v, want first %v", got, want)
	}
}

func codes(list []dhcpv4.OptionCode) (out []uint8) {
	for _, c := range list {
		out = append(out, c.Code())
	}
	return out
}

// order is the codes of the options as they stand in a reply.
func order(tb testing.TB, r Reply) (out []uint8) {
	tb.Helper()
	b := layer[*layers.UDP](tb, open(tb, r.Frame)).Payload[240:]
	for len(b) > 1 && b[0] != 255 {
		out = append(out, b[0])
		b = b[2+int(b[1]):]
	}
	return out
}

// A subnet without a router has its metadata on the link, and a server that needs none of its addresses.
func TestDHCPv4WithoutGateway(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, replies := l.ask(t, from(flows.OpDHCPv4, keyVM2, keyIsle, dhcp(macVM2, message4(t, dhcpv4.MessageTypeDiscover, macVM2))))
	r := one(t, replies, ToPort)
	m := reply4(t, r)
	if m.ServerIdentifier().String() != "169.254.169.254" || m.Router() != nil || m.IPAddressLeaseTime(0) != time.Hour {
		t.Errorf("%s: want the server 169.254.169.254, no router, an hour", m.Summary())
	}
	if got, want := m.Options.Get(dhcpv4.OptionClasslessStaticRoute), []byte{32, 169, 254, 169, 254, 0, 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("routes %v, want %v", got, want)
	}
	if eth := layer[*layers.Ethernet](t, open(t, r.Frame)); state.MACOf(eth.SrcMAC) != state.ServiceMAC {
		t.Errorf("from %s, want %s", eth.SrcMAC, state.ServiceMAC)
	}
	// And it renews with that server.
	o, _ := l.ask(t, from(flows.OpDHCPv4, keyVM2, keyIsle, dhcp(macVM2, message4(t, dhcpv4.MessageTypeRequest, macVM2,
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(169, 254, 169, 254))), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 1, 0, 12)))))))
	if o != Answered {
		t.Errorf("request: %s", o)
	}
}

// What a port's owner chose takes the place of ours; what cannot be read is left out, and what the protocol needs is not for choosing.
func TestDHCPv4ChosenOptions(t *testing.T) {
	t.Parallel()
	port := &state.Port{ID: "vm1", Key: keyVM1, Network: "net", MAC: macVM1, Host: "h1", FixedIPs: []state.FixedIP{{Subnet: "s4", Address: addr("10.0.0.11")}},
		DHCPOptions: []state.DHCPOption{
			{Code: 26, Value: "9000"}, {Code: 42, Value: "10.0.0.5,10.0.0.6"}, {Code: 66, Value: "boot.example"}, {Code: 67, Value: "pxelinux.0"}, {Code: 150, Value: "10.0.0.7"},
			{Code: 210, Value: "/pxe/"}, {Code: 224, Value: "01:02:ff"}, {Code: 54, Value: "6.6.6.6"}, {Code: 6, Value: "nonsense"}, {Code: 23, V6: true, Value: "2001:db8::1"},
			{Code: 121, Value: "192.168.0.0/16,10.0.0.3"}, {Code: 100, Value: "UTC0"},
		}}
	_, replies := newLab(t, port).ask(t, from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1,
		dhcpv4.WithOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionDomainNameServer))))))
	m := reply4(t, one(t, replies, ToPort))
	for code, want := range map[uint8][]byte{
		26: {0x23, 0x28}, 42: {10, 0, 0, 5, 10, 0, 0, 6}, 66: []byte("boot.example"), 67: []byte("pxelinux.0"), 150: {10, 0, 0, 7}, 210: []byte("/pxe/"), 224: {1, 2, 255},
		54: {10, 0, 0, 1}, 6: {9, 9, 9, 9, 1, 1, 1, 1}, 23: nil, 121: {16, 192, 168, 10, 0, 0, 3}, 100: []byte("UTC0"),
	} {
		if got := m.Options.Get(dhcpv4.GenericOptionCode(code)); !bytes.Equal(got, want) {
			t.Errorf("option %d is %q, want %q", code, got, want)
		}
	}
	if m.ServerIPAddr.String() != "10.0.0.7" || m.BootFileName != "pxelinux.0" || m.ServerHostName != "boot.example" {
		t.Errorf("next server %s %q, file %q", m.ServerIPAddr, m.ServerHostName, m.BootFileName)
	}
}

// A message is no longer than the client takes: what was asked for first comes first, and the rest is left out whole.
func TestDHCPv4FitsTheClient(t *testing.T) {
	t.Parallel()
	s := &state.Subnet{ID: "s4", Network: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DHCP: true, LeaseSeconds: 86400, DNSServers: []netip.Addr{addr("9.9.9.9")}}
	for i := range 100 {
		s.HostRoutes = append(s.HostRoutes, state.Route{Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24), NextHop: addr("10.0.0.254")})
	}
	for size, want := range map[uint16]bool{576: false, 1400: true} {
		_, replies := newLab(t, s).ask(t, from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1,
			dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(size)), dhcpv4.WithOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionDomainNameServer))))))
		r := one(t, replies, ToPort)
		m := reply4(t, r)
		if n := len(r.Frame) - 14; n > int(size) {
			t.Errorf("%d bytes, and the client takes %d", n, size)
		}
		if got := len(m.Options.Get(dhcpv4.OptionClasslessStaticRoute)) == 805; got != want || m.DNS() == nil || m.SubnetMask() == nil {
			t.Errorf("at %d: all routes %t, want %t; name servers %v, mask %v", size, got, want, m.DNS(), m.SubnetMask())
		}
	}
}

// A port with several addresses gets the one that it asks for; without DHCP on any of its subnets nobody answers, so that a tenant's own server can.
func TestDHCPv4Subnets(t *testing.T) {
	t.Parallel()
	two := &state.Port{ID: "vm1", Key: keyVM1, Network: "net", MAC: macVM1, Host: "h1", FixedIPs: []state.FixedIP{
		{Subnet: "s4", Address: addr("10.0.0.11")}, {Subnet: "s4", Address: addr("10.0.0.12")}}}
	_, replies := newLab(t, two).ask(t, from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1,
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 0, 12)))))))
	if m := reply4(t, one(t, replies, ToPort)); m.YourIPAddr.String() != "10.0.0.12" {
		t.Errorf("offered %s, want the one asked for", m.YourIPAddr)
	}
	off := &state.Subnet{ID: "s4", Network: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1")}
	p := paused(from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1))))
	outcome, replies := newLab(t, off).ask(t, p)
	if r := one(t, replies, ToResume); outcome != Passed || !bytes.Equal(r.Frame, p.Frame) {
		t.Errorf("%s, want the packet to go on as it was", outcome)
	}
}

// The library's own client state machine takes what we answer, from DISCOVER to a renewed lease.
func TestDHCPv4Client(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	exchange := func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		_, replies := l.ask(t, from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, m)))
		return reply4(t, one(t, replies, ToPort))
	}
	discover, err := dhcpv4.NewDiscovery(macVM1.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	offer := exchange(discover)
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	ack := exchange(request)
	renew, err := dhcpv4.NewRenewFromAck(ack)
	if err != nil {
		t.Fatal(err)
	}
	if again := exchange(renew); again.MessageType() != dhcpv4.MessageTypeAck || !again.YourIPAddr.Equal(ack.YourIPAddr) || again.IPAddressLeaseTime(0) != 24*time.Hour {
		t.Errorf("renewed: %s", again.Summary())
	}
}

func FuzzDHCPv4(f *testing.F) {
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform} {
		f.Add(message4(f, kind, macVM1, dhcpv4.WithOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionRouter, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter)), dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(900))).ToBytes())
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		_, replies := newLab(t).ask(t, from(flows.OpDHCPv4, keyVM1, keyNet, udp(macVM1, broadcast, "0.0.0.0", "255.255.255.255", 68, 67, message)))
		for _, r := range replies {
			reply4(t, r)
		}
	})
}

// What we read in a message is what the DHCP library reads.
func FuzzClient4(f *testing.F) {
	f.Add(message4(f, dhcpv4.MessageTypeRequest, macVM1, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 0, 12))),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1)))).ToBytes())
	parts := message4(f, dhcpv4.MessageTypeDiscover, macVM1).ToBytes()[:fixed4Size]
	f.Add(append(slices.Clone(parts), 53, 1, 1, 0, 0, 55, 2, 1, 3, 61, 0, 55, 1, 6, 55, 1, 15, 255, 9))
	f.Add(append(slices.Clone(parts), 53, 1, 1, 50, 5, 1, 2, 3, 4, 5, 255))
	f.Add(append(slices.Clone(parts), 53, 1, 1))
	f.Add(append(slices.Clone(parts), 53, 7, 1))
	f.Add(parts[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == fixed4Size {
			t.Skip("the library takes a message without options, of which nobody could tell what it asks")
		}
		var m client4
		ok := m.read(raw)
		want, err := dhcpv4.FromBytes(raw)
		if ok != (err == nil) {
			t.Fatalf("read %t; the library says %v", ok, err)
		}
		if !ok {
			return
		}
		isRequest := want.OpCode == dhcpv4.OpcodeBootRequest && want.HWType == iana.HWTypeEthernet && len(want.ClientHWAddr) == 6
		if m.isRequest() != isRequest || isRequest && m.mac() != state.MACOf(want.ClientHWAddr) || !bytes.Equal(m.xid(), want.TransactionID[:]) || m.flags() != want.Flags ||
			m.broadcast() != want.IsBroadcast() || m.client().String() != want.ClientIPAddr.String() || m.gateway().String() != want.GatewayIPAddr.String() || m.kind() != want.MessageType() {
			t.Errorf("read %+v, want %s", m, want.Summary())
		}
		for code := range 256 {
			got, has := m.get(dhcpv4.GenericOptionCode(code))
			if w := want.Options[uint8(code)]; !bytes.Equal(got, w) || has != want.Options.Has(dhcpv4.GenericOptionCode(code)) {
				t.Errorf("option %d is %x, %t; want %x", code, got, has, w)
			}
		}
		if a, ok := m.address(dhcpv4.OptionServerIdentifier); ok != (want.ServerIdentifier() != nil) || ok && a.String() != want.ServerIdentifier().String() {
			t.Errorf("server %s, want %s", a, want.ServerIdentifier())
		}
	})
}

// Offers a second through the whole chain, and with admission and delivery around it.
func BenchmarkDHCPOffer(b *testing.B) {
	l := newLab(b)
	discover := from(flows.OpDHCPv4, keyVM1, keyNet, dhcp(macVM1, message4(b, dhcpv4.MessageTypeDiscover, macVM1, dhcpv4.WithOption(
		dhcpv4.OptGeneric(dhcpv4.OptionParameterRequestList, []byte{1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42})))))
	b.ReportAllocs()
	c := &Case{}
	for b.Loop() {
		l.sent = nil
		if o := l.apps.answer(b.Context(), c, &discover); o != Answered {
			b.Fatal(o)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "offers/s")
}
