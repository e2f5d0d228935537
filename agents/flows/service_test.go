package flows

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// What guests ask of the agent goes to it, from wherever the question is sent to: metadata, names of ports where that is asked for, and who has an
// address that may move.
func TestServices(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.compiler = New(Config{Host: labHost, Names: true})
	l.store = state.NewStore()
	l.set(&state.Network{ID: "net", Key: 5, MTU: 1450, DNSDomain: "cloud.example"}, &state.Network{ID: "plain", Key: 6, MTU: 1450},
		&state.Subnet{ID: "s", Network: "net", CIDR: netip.MustParsePrefix("10.0.0.0/24")})
	l.plug(1, "net", "10.0.0.1", func(p *state.Port) {
		p.AllowedPairs = []state.AddressPair{{Prefix: netip.MustParsePrefix("10.0.0.100/32"), MAC: p.MAC}, {Prefix: netip.MustParsePrefix("10.0.0.128/25"), MAC: p.MAC}}
	})
	l.plug(2, "plain", "10.0.0.1", nil)
	for _, tt := range []struct{ what, flow, want string }{
		{"metadata", "in_port=1,tcp,dl_src=fa:16:3e:00:00:01,dl_dst=02:00:00:00:00:99,nw_src=10.0.0.1,nw_dst=169.254.169.254,tp_dst=80", "userdata=09"},
		{"metadata over IPv6", "in_port=1,tcp6,dl_src=fa:16:3e:00:00:01,ipv6_src=fe80::1,ipv6_dst=fe80::a9fe:a9fe,tp_dst=80", "userdata=09"},
		{"another service there", "in_port=1,tcp,dl_src=fa:16:3e:00:00:01,nw_src=10.0.0.1,nw_dst=169.254.169.254,tp_dst=22", ""},
		{"a name", "in_port=1,udp,dl_src=fa:16:3e:00:00:01,nw_src=10.0.0.1,nw_dst=9.9.9.9,udp_dst=53", "userdata=08"},
		{"a name without a domain", "in_port=2,udp,dl_src=fa:16:3e:00:00:02,nw_src=10.0.0.1,nw_dst=9.9.9.9,udp_dst=53", ""},
		{"metadata without a subnet", "in_port=2,tcp,dl_src=fa:16:3e:00:00:02,nw_src=10.0.0.1,nw_dst=169.254.169.254,tp_dst=80", ""},
		{"an address that moves", "in_port=1,arp,dl_src=fa:16:3e:00:00:01,arp_sha=fa:16:3e:00:00:01,arp_spa=10.0.0.100,arp_tpa=10.0.0.100,arp_op=1", "userdata=0a"},
		{"its own address", "in_port=1,arp,dl_src=fa:16:3e:00:00:01,arp_sha=fa:16:3e:00:00:01,arp_spa=10.0.0.1,arp_tpa=10.0.0.1,arp_op=1", ""},
		{"one of a prefix", "in_port=1,arp,dl_src=fa:16:3e:00:00:01,arp_sha=fa:16:3e:00:00:01,arp_spa=10.0.0.200,arp_tpa=10.0.0.200,arp_op=1", ""},
	} {
		_, how := l.trace(tt.flow)
		if got := strings.Contains(how, "userdata="); got != (tt.want != "") || !strings.Contains(how, tt.want) {
			t.Errorf("%s: to the agent %t, want %q\n%s", tt.what, got, tt.want, how)
		}
	}
	l.expect("who has the metadata address", "in_port=1,arp,dl_src=fa:16:3e:00:00:01,arp_sha=fa:16:3e:00:00:01,arp_spa=10.0.0.1,arp_tpa=169.254.169.254,arp_op=1",
		`.*arp\(sip=169\.254\.169\.254,tip=10\.0\.0\.1,op=2,sha=02:00:a9:fe:a9:fe.*p1.*`)
}
