package apps

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// frame6 is a message of a DHCPv6 client, as it is sent to all servers.
func frame6(mac state.MAC, raw []byte) []byte {
	return udp(mac, multicastMAC(addr("ff02::1:2")), mac.LinkLocal().String(), "ff02::1:2", 546, 547, raw)
}

func message6(tb testing.TB, kind dhcpv6.MessageType, mods ...dhcpv6.Modifier) *dhcpv6.Message {
	tb.Helper()
	m, err := dhcpv6.NewMessage(append([]dhcpv6.Modifier{dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: macVM1.Bytes()})}, mods...)...)
	if err != nil {
		tb.Fatal(err)
	}
	m.MessageType = kind
	return m
}

func reply6Of(tb testing.TB, r Reply) *dhcpv6.Message {
	tb.Helper()
	m, err := dhcpv6.MessageFromBytes(layer[*layers.UDP](tb, open(tb, r.Frame)).Payload)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// association is an identity association with addresses.
func association(id byte, addrs ...string) dhcpv6.Modifier {
	ia := &dhcpv6.OptIANA{IaId: [4]byte{3: id}}
	for _, a := range addrs {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(a)})
	}
	return func(d dhcpv6.DHCPv6) { d.AddOption(ia) }
}

// Each message of a client and what it gets (RFC 9915 section 18.3).
func TestDHCPv6Messages(t *testing.T) {
	t.Parallel()
	ours, theirs := dhcpv6.WithServerID(duid6()), dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: macVM2.Bytes()})
	rapid := dhcpv6.WithOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	anonymous := func(d dhcpv6.DHCPv6) { d.(*dhcpv6.Message).Options.Del(dhcpv6.OptionClientID) }
	own := []string{"2001:db8::11"}
	for _, tt := range []struct {
		name    string
		kind    dhcpv6.MessageType
		mods    []dhcpv6.Modifier
		outcome Outcome
		want    dhcpv6.MessageType
		addrs   []string // of the first association, with a lifetime
		status  iana.StatusCode
	}{
		{"solicit", dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{association(1)}, Answered, dhcpv6.MessageTypeAdvertise, own, 0},
		{"solicit with rapid commit", dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{association(1), rapid}, Answered, dhcpv6.MessageTypeReply, own, 0},
		{"solicit with a server", dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{association(1), ours}, Malformed, 0, nil, 0},
		{"solicit of nobody", dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{association(1), anonymous}, Malformed, 0, nil, 0},
		{"request", dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{association(1, own...), ours}, Answered, dhcpv6.MessageTypeReply, own, 0},
		{"request to another server", dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{association(1), theirs}, Silent, 0, nil, 0},
		{"request without a server", dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{association(1)}, Malformed, 0, nil, 0},
		{"request for an address of elsewhere", dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{association(1, "2001:db8:9::1"), ours}, Answered, dhcpv6.MessageTypeReply, nil, iana.StatusNotOnLink},
		{"renew", dhcpv6.MessageTypeRenew, []dhcpv6.Modifier{association(1, own...), ours}, Answered, dhcpv6.MessageTypeReply, own, 0},
		{"rebind", dhcpv6.MessageTypeRebind, []dhcpv6.Modifier{association(1, own...)}, Answered, dhcpv6.MessageTypeReply, own, 0},
		{"confirm", dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{association(1, own...)}, Answered, dhcpv6.MessageTypeReply, nil, iana.StatusSuccess},
		{"confirm elsewhere", dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{association(1, "2001:db8:9::1")}, Refused, dhcpv6.MessageTypeReply, nil, iana.StatusNotOnLink},
		{"confirm nothing", dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{association(1)}, Silent, 0, nil, 0},
		{"release", dhcpv6.MessageTypeRelease, []dhcpv6.Modifier{association(1, own...), ours}, Answered, dhcpv6.MessageTypeReply, nil, iana.StatusSuccess},
		{"release of another's", dhcpv6.MessageTypeRelease, []dhcpv6.Modifier{association(1, "2001:db8::77"), ours}, Answered, dhcpv6.MessageTypeReply, nil, iana.StatusNoBinding},
		{"decline", dhcpv6.MessageTypeDecline, []dhcpv6.Modifier{association(1, own...), ours}, Answered, dhcpv6.MessageTypeReply, nil, iana.StatusSuccess},
		{"information-request", dhcpv6.MessageTypeInformationRequest, []dhcpv6.Modifier{anonymous}, Answered, dhcpv6.MessageTypeReply, nil, 0},
		{"information-request for addresses", dhcpv6.MessageTypeInformationRequest, []dhcpv6.Modifier{association(1)}, Malformed, 0, nil, 0},
		{"a reply", dhcpv6.MessageTypeReply, []dhcpv6.Modifier{association(1)}, Malformed, 0, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := message6(t, tt.kind, tt.mods...)
			outcome, replies := newLab(t).ask(t, from(flows.OpDHCPv6, keyVM1, keyNet, frame6(macVM1, m.ToBytes())))
			if outcome != tt.outcome {
				t.Fatalf("outcome %s, want %s", outcome, tt.outcome)
			}
			if tt.want == 0 {
				if len(replies) != 0 {
					t.Errorf("%d replies, want none", len(replies))
				}
				return
			}
			got := reply6Of(t, one(t, replies, ToPort))
			if got.Type() != tt.want || got.TransactionID != m.TransactionID || !got.Options.ServerID().Equal(duid6()) {
				t.Errorf("%s, want a %s of ours", got.Summary(), tt.want)
			}
			addrs, status := ofFirst(got)
			if !slices.Equal(addrs, tt.addrs) || status != tt.status {
				t.Errorf("addresses %v and status %s, want %v and %s", addrs, status, tt.addrs, tt.status)
			}
		})
	}
}

// ofFirst is what a reply's first association holds, and its status, or that of the reply.
func ofFirst(m *dhcpv6.Message) (addrs []string, status iana.StatusCode) {
	if ia := m.Options.OneIANA(); ia != nil {
		for _, a := range ia.Options.Addresses() {
			if a.ValidLifetime > 0 {
				addrs = append(addrs, a.IPv6Addr.String())
			}
		}
		if s := ia.Options.Status(); s != nil {
			return addrs, s.StatusCode
		}
	}
	if s := m.Options.Status(); s != nil {
		status = s.StatusCode
	}
	return addrs, status
}

func TestDHCPv6Configuration(t *testing.T) {
	t.Parallel()
	ask := dhcpv6.WithRequestedOptions(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionFQDN, dhcpv6.OptionBootfileURL)
	l := newLab(t)
	var p state.Port
	l.store.Read(func(v *state.View) { p = *state.Find[*state.Port](v, "vm1") })
	p.DHCPOptions = []state.DHCPOption{{Code: 59, V6: true, Value: "tftp://[2001:db8::5]/grub"}, {Code: 59, Value: "7"}}
	l.change([]state.Object{&p})
	_, replies := l.ask(t, from(flows.OpDHCPv6, keyVM1, keyNet, frame6(macVM1, message6(t, dhcpv6.MessageTypeSolicit, association(1), association(2), ask,
		dhcpv6.WithIAPD([4]byte{9})).ToBytes())))
	m := reply6Of(t, one(t, replies, ToPort))
	if d := m.Options.DNS(); len(d) != 1 || d[0].String() != "2001:db8::53" {
		t.Errorf("name servers %v", d)
	}
	if d := m.Options.DomainSearchList(); d == nil || !slices.Equal(d.Labels, []string{"cloud.example"}) {
		t.Errorf("domains %v", d)
	}
	if f := m.Options.FQDN(); f == nil || f.DomainName.Labels[0] != "web.cloud.example" {
		t.Errorf("name %v", f)
	}
	if m.Options.BootFileURL() != "tftp://[2001:db8::5]/grub" {
		t.Errorf("boot file %q", m.Options.BootFileURL())
	}
	first, second := m.Options.IANA()[0], m.Options.IANA()[1]
	if first.T1 != time.Hour || first.T2 != 5760*time.Second || first.Options.OneAddress().ValidLifetime != 2*time.Hour {
		t.Errorf("first association %s", first)
	}
	if second.Options.Status().StatusCode != iana.StatusNoAddrsAvail || m.Options.OneIAPD().Options.Status().StatusCode != iana.StatusNoPrefixAvail {
		t.Errorf("second association %s, prefixes %s; want none", second, m.Options.OneIAPD())
	}
	if m.Options.Preference() != 255 {
		t.Errorf("preference %d, want 255: nobody else will answer", m.Options.Preference())
	}
}

// Guests of a stateless subnet get options, and no addresses; relays and guests of subnets without DHCPv6 nothing.
func TestDHCPv6Subnets(t *testing.T) {
	t.Parallel()
	subnet := func(m state.IPv6Mode) *state.Subnet {
		return &state.Subnet{ID: "s6", Network: "net", CIDR: prefix("2001:db8::/64"), DHCP: true, LeaseSeconds: 7200, RAMode: m, AddressMode: m}
	}
	solicit := frame6(macVM1, message6(t, dhcpv6.MessageTypeSolicit, association(1)).ToBytes())
	_, replies := newLab(t, subnet(state.DHCPStateless)).ask(t, from(flows.OpDHCPv6, keyVM1, keyNet, solicit))
	if addrs, status := ofFirst(reply6Of(t, one(t, replies, ToPort))); len(addrs) != 0 || status != iana.StatusNoAddrsAvail {
		t.Errorf("stateless: %v %s, want no address", addrs, status)
	}
	if o, replies := newLab(t, subnet(state.SLAAC)).ask(t, from(flows.OpDHCPv6, keyVM1, keyNet, solicit)); o != Passed || len(replies) != 0 {
		t.Errorf("SLAAC: %s", o)
	}
	relay, err := dhcpv6.EncapsulateRelay(message6(t, dhcpv6.MessageTypeSolicit, association(1)), dhcpv6.MessageTypeRelayForward, net.ParseIP("2001:db8::9"), net.ParseIP("fe80::9"))
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := newLab(t).ask(t, from(flows.OpDHCPv6, keyVM1, keyNet, frame6(macVM1, relay.ToBytes()))); o != Foreign {
		t.Errorf("relay: %s, want foreign", o)
	}
}

func FuzzDHCPv6(f *testing.F) {
	for _, kind := range []dhcpv6.MessageType{dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind} {
		f.Add(message6(f, kind, association(1, "2001:db8::11"), dhcpv6.WithRequestedOptions(23, 24, 39)).ToBytes())
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		_, replies := newLab(t).ask(t, from(flows.OpDHCPv6, keyVM1, keyNet, frame6(macVM1, message)))
		for _, r := range replies {
			reply6Of(t, r)
		}
	})
}

func TestOptionValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    state.DHCPOption
		want []byte // nil: refused
	}{
		{state.DHCPOption{Code: 26, Value: "1400"}, []byte{5, 0x78}},
		{state.DHCPOption{Code: 26, Value: "65536"}, nil},
		{state.DHCPOption{Code: 19, Value: "true"}, []byte{1}},
		{state.DHCPOption{Code: 2, Value: "-3600"}, []byte{0xff, 0xff, 0xf1, 0xf0}},
		{state.DHCPOption{Code: 3, Value: "10.0.0.1; 10.0.0.2"}, []byte{10, 0, 0, 1, 10, 0, 0, 2}},
		{state.DHCPOption{Code: 3, Value: "2001:db8::1"}, nil},
		{state.DHCPOption{Code: 119, Value: "a.b,c"}, []byte("\x01a\x01b\x00\x01c\x00")},
		{state.DHCPOption{Code: 119, Value: "a..b"}, nil},
		{state.DHCPOption{Code: 121, Value: "10.0.0.0/8,10.1.1.1,0.0.0.0/0,10.1.1.2"}, []byte{8, 10, 10, 1, 1, 1, 0, 10, 1, 1, 2}},
		{state.DHCPOption{Code: 121, Value: "10.0.0.0/8"}, nil},
		{state.DHCPOption{Code: 43, Value: "01:04:ff"}, []byte{1, 4, 255}},
		{state.DHCPOption{Code: 43, Value: "300"}, []byte{1, 44}},
		{state.DHCPOption{Code: 43, Value: "vendor says"}, []byte("vendor says")},
		{state.DHCPOption{Code: 67, Value: ""}, nil},
		{state.DHCPOption{Code: 255, Value: "10.0.0.9"}, []byte{10, 0, 0, 9}},
	} {
		got, err := encodeOption(optionForms4, tt.o)
		if (err == nil) != (tt.want != nil) || !bytes.Equal(got, tt.want) {
			t.Errorf("option %d %q is %v %v, want %v", tt.o.Code, tt.o.Value, got, err, tt.want)
		}
	}
}

func FuzzOptionValue(f *testing.F) {
	f.Add(uint16(121), "10.0.0.0/8,10.1.1.1")
	f.Add(uint16(119), "a.b,c")
	f.Add(uint16(43), "01:04:ff")
	f.Fuzz(func(t *testing.T, code uint16, value string) {
		for _, forms := range []map[uint16]optionForm{optionForms4, optionForms6} {
			if b, err := encodeOption(forms, state.DHCPOption{Code: code, Value: value}); err == nil && len(b) == 0 {
				t.Errorf("option %d %q has no bytes and no error", code, value)
			}
		}
	})
}
