package apps

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

func question(tb testing.TB, name string, kind dnsmessage.Type, edns bool) []byte {
	tb.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 77, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	if edns {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(4096, dnsmessage.RCodeSuccess, false); err != nil {
			tb.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Names of ports are answered here, whichever server is asked; all others go on to it.
func TestNamesOfPorts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		kind dnsmessage.Type
		want string // "-": goes on
	}{
		{"web.cloud.example.", dnsmessage.TypeA, "[10 0 0 11]"},
		{"WEB.Cloud.Example.", dnsmessage.TypeA, "[10 0 0 11]"},
		{"web.cloud.example.", dnsmessage.TypeAAAA, "[32 1 13 184 0 0 0 0 0 0 0 0 0 0 0 17]"},
		{"web.cloud.example.", dnsmessage.TypeMX, ""},
		{"host-10-0-0-13.cloud.example.", dnsmessage.TypeA, "[10 0 0 13]"},
		{"host-10-0-0-13.cloud.example.", dnsmessage.TypeAAAA, ""},
		{"host-10-0-0-99.cloud.example.", dnsmessage.TypeA, "-"},
		{"11.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "web.cloud.example."},
		{"13.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "host-10-0-0-13.cloud.example."},
		{"1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", dnsmessage.TypePTR, "web.cloud.example."},
		{"8.8.8.8.in-addr.arpa.", dnsmessage.TypePTR, "-"},
		{"other.cloud.example.", dnsmessage.TypeA, "-"},
		{"a.web.cloud.example.", dnsmessage.TypeA, "-"},
		{"example.org.", dnsmessage.TypeA, "-"},
	} {
		frame := udp(macVM3, macRouter, "10.0.0.13", "9.9.9.9", 5353, 53, question(t, tt.name, tt.kind, true))
		outcome, replies := newLab(t).ask(t, paused(from(flows.OpDNS, keyVM3, keyNet, frame)))
		if tt.want == "-" {
			if r := one(t, replies, ToResume); outcome != Passed || !bytes.Equal(r.Frame, frame) {
				t.Errorf("%s %s: %s, want it to go on", tt.name, tt.kind, outcome)
			}
			continue
		}
		p := open(t, one(t, replies, ToPort).Frame)
		if ip, u := layer[*layers.IPv4](t, p), layer[*layers.UDP](t, p); ip.SrcIP.String() != "9.9.9.9" || u.SrcPort != 53 || u.DstPort != 5353 {
			t.Errorf("answer from %s:%d to %d", ip.SrcIP, u.SrcPort, u.DstPort)
		}
		var m dnsmessage.Message
		if err := m.Unpack(layer[*layers.UDP](t, p).Payload); err != nil || m.ID != 77 || !m.Response || m.RCode != 0 || len(m.Additionals) != 1 {
			t.Fatalf("%s: %v %+v", tt.name, err, m.Header)
		}
		got := ""
		for _, a := range m.Answers {
			switch b := a.Body.(type) {
			case *dnsmessage.AResource:
				got = fmt.Sprint(b.A)
			case *dnsmessage.AAAAResource:
				got = fmt.Sprint(b.AAAA)
			case *dnsmessage.PTRResource:
				got = b.PTR.String()
			}
		}
		if got != tt.want {
			t.Errorf("%s %s is %q, want %q", tt.name, tt.kind, got, tt.want)
		}
	}
}

func FuzzDNS(f *testing.F) {
	f.Add(question(f, "web.cloud.example.", dnsmessage.TypeA, true))
	f.Add(question(f, "13.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, false))
	f.Fuzz(func(t *testing.T, message []byte) {
		p := paused(from(flows.OpDNS, keyVM3, keyNet, udp(macVM3, macRouter, "10.0.0.13", "9.9.9.9", 5353, 53, message)))
		outcome, replies := newLab(t, &state.Network{ID: "net", Key: keyNet, MTU: 1442, DNSDomain: "cloud.example"}).ask(t, p)
		if len(replies) != 1 || (outcome == Passed) != (replies[0].To == ToResume) {
			t.Errorf("%s: %d replies", outcome, len(replies))
		}
	})
}
