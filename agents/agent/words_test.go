package agent

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// What is shown of an object is what a state file says of it, and no more.
func TestObjectsInWords(t *testing.T) {
	t.Parallel()
	const text = `
networks:
- {id: n1, key: 1, segment: {kind: VLAN, physical_network: physnet1, vlan: 7}}
subnets:
- {id: s1, network: n1, cidr: 2001:db8::/64, dhcp: true, address_mode: DHCPV6_STATEFUL}
ports:
- {id: p1, key: 1, network: n1, mac: "fa:16:3e:00:00:01", fixed_ips: [{subnet: s1, address: "2001:db8::5"}], port_security: true, host: h1, qos: {egress_kbps: 1000}}
routers:
- {id: r1, key: 1, gateway: {network: n1, mac: "fa:16:3e:00:00:09", addresses: [203.0.113.1/24], snat: SNAT_HOST}}
security_groups:
- {id: g1, rules: [{id: r, direction: EGRESS, protocol_plus_one: 2, icmp_type_plus_one: 1, remote_prefix: 10.0.0.0/8}]}
`
	want := map[string]string{
		"n1": `{"id":"n1","key":1,"mtu":1450,"segment":"VLAN","physical":"physnet1","vlan":7}`,
		"s1": `{"id":"s1","network":"n1","cidr":"2001:db8::/64","dhcp":true,"address_mode":"DHCPV6_STATEFUL","lease_seconds":86400}`,
		"p1": `{"id":"p1","key":1,"network":"n1","mac":"fa:16:3e:00:00:01","fixed_ips":[{"subnet":"s1","address":"2001:db8::5"}],` +
			`"port_security":true,"host":"h1","qos":{"egress_kbps":1000}}`,
		"r1": `{"id":"r1","key":1,"gateway":{"network":"n1","mac":"fa:16:3e:00:00:09","addresses":["203.0.113.1/24"],"snat":"SNAT_HOST"}}`,
		"g1": `{"id":"g1","rules":[{"id":"r","egress":true,"protocol":1,"icmp_type":0,"remote":"10.0.0.0/8"}]}`,
	}
	for _, o := range parsed(t, text) {
		got, err := inWords(o)
		if err != nil || string(got) != want[o.Ref().ID] {
			t.Errorf("%s: %v\n got %s\nwant %s", o.Ref(), err, got, want[o.Ref().ID])
		}
	}
	got, err := inWords(&state.Plug{ID: "p1", OFPort: 5, Zone: 2})
	if err != nil || string(got) != `{"id":"p1","ofport":5,"zone":2}` {
		t.Errorf("a plug: %s, %v", got, err)
	}
	if got, err := inWords(&state.Tunnel{ID: "vxlan/4789", Port: 4789}); err != nil || !strings.Contains(string(got), `"port":4789`) {
		t.Errorf("a tunnel: %s, %v", got, err)
	}
}
