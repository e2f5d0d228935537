package network

import (
	"slices"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func ptr[T any](v T) *T { return &v }

func TestDiffRules(t *testing.T) {
	t.Parallel()
	web := wanted{id: "web", tuple: tuple{direction: "ingress", ethertype: "IPv4", protocol: "6", min: "80", max: "80"}}
	out := wanted{id: "out", tuple: tuple{direction: "egress", ethertype: "IPv4"}}
	for _, tt := range []struct {
		name   string
		want   []wanted
		have   map[ident.BottomID]tuple
		add    []ident.TopID
		remove []ident.BottomID
	}{
		{"nothing to do", []wanted{web}, map[ident.BottomID]tuple{"1": web.tuple}, nil, nil},
		{"new group: the site's own rules go", []wanted{web}, map[ident.BottomID]tuple{"1": out.tuple}, []ident.TopID{"web"}, []ident.BottomID{"1"}},
		{"all gone", nil, map[ident.BottomID]tuple{"1": web.tuple}, nil, []ident.BottomID{"1"}},
		{"empty site", []wanted{web, out}, nil, []ident.TopID{"web", "out"}, nil},
		{"asked for twice", []wanted{web, web}, nil, []ident.TopID{"web"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			add, remove := diffRules(tt.want, tt.have)
			var ids []ident.TopID
			for _, w := range add {
				ids = append(ids, w.id)
			}
			if !slices.Equal(ids, tt.add) || !slices.Equal(remove, tt.remove) {
				t.Errorf("add %v, remove %v; want %v, %v", ids, remove, tt.add, tt.remove)
			}
		})
	}
}

// A rule is the same rule however it is spelled: by Top as it was asked for, by the site as it stores it.
func TestTuple(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		top  RuleSpec
		site sites.Body
	}{
		{
			"protocol by name and by number", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Protocol: ptr("tcp"), PortMin: ptr(1), PortMax: ptr(2)},
			sites.Body{"direction": "ingress", "ethertype": "IPv4", "protocol": "6", "port_range_min": 1.0, "port_range_max": 2.0},
		},
		{
			"icmp of IPv6", RuleSpec{Direction: "ingress", Ethertype: "IPv6", Protocol: ptr("icmp")},
			sites.Body{"direction": "ingress", "ethertype": "IPv6", "protocol": "ipv6-icmp"},
		},
		{
			"prefix with host bits", RuleSpec{Direction: "egress", Ethertype: "IPv4", Prefix: ptr("10.0.0.7/24")},
			sites.Body{"direction": "egress", "ethertype": "IPv4", "remote_ip_prefix": "10.0.0.0/24"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if top, site := tupleOf(&tt.top, ""), bottomTuple(sites.Object{Body: tt.site}); top != site {
				t.Errorf("%+v at Top, %+v at the site", top, site)
			}
		})
	}
}

func TestCheckRule(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string // the exception; "" when the rule is valid
		rule       RuleSpec
	}{
		{"all", "", RuleSpec{Direction: "ingress", Ethertype: "IPv4"}},
		{"ports", "", RuleSpec{Direction: "ingress", Ethertype: "ipv4", Protocol: ptr("TCP"), PortMin: ptr(1), PortMax: ptr(65535)}},
		{"ICMP type", "", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Protocol: ptr("icmp"), PortMin: ptr(8)}},
		{"ICMP code alone", "SecurityGroupMissingIcmpType", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Protocol: ptr("icmp"), PortMax: ptr(0)}},
		{"one address", "", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Prefix: ptr("10.0.0.1")}},
		{"ports without protocol", "SecurityGroupProtocolRequiredWithPorts", RuleSpec{Direction: "ingress", Ethertype: "IPv4", PortMin: ptr(1), PortMax: ptr(1)}},
		{"ports in the wrong order", "SecurityGroupInvalidPortRange", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Protocol: ptr("udp"), PortMin: ptr(2), PortMax: ptr(1)}},
		{"ports of gre", "SecurityGroupInvalidProtocolForPort", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Protocol: ptr("gre"), PortMin: ptr(1), PortMax: ptr(1)}},
		{"no such protocol", "SecurityGroupRuleInvalidProtocol", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Protocol: ptr("foo")}},
		{"protocol 256", "SecurityGroupRuleInvalidProtocol", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Protocol: ptr("256")}},
		{"families mixed", "SecurityGroupRuleParameterConflict", RuleSpec{Direction: "ingress", Ethertype: "IPv6", Prefix: ptr("10.0.0.0/8")}},
		{"two remotes", "SecurityGroupMultipleRemoteEntites", RuleSpec{Direction: "ingress", Ethertype: "IPv4", Prefix: ptr("10.0.0.0/8"), RemoteGroup: "g"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := checkRule(&tt.rule)
			got := ""
			if n, ok := err.(interface{ NeutronType() string }); ok { //nolint:errorlint // made here, unwrapped
				got = n.NeutronType()
			}
			if got != tt.want || err != nil && !fault.Is(err, fault.BadRequest) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestNewSubnetSpec(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string // "gateway pools", or a part of the sentence that refuses
		f          Fields
	}{
		{"plain", "10.0.0.1 [10.0.0.2-10.0.0.254]", Fields{"cidr": "10.0.0.0/24", "ip_version": 4}},
		{"no gateway", "none [10.0.0.1-10.0.0.254]", Fields{"cidr": "10.0.0.0/24", "ip_version": 4, "gateway_ip": nil}},
		{"IPv6", "2001:db8::1 [2001:db8::2-2001:db8::ffff:ffff:ffff:ffff]", Fields{"cidr": "2001:db8::/64", "ip_version": 6}},
		{"not a CIDR", "bla is not in a CIDR format", Fields{"cidr": "bla", "ip_version": 4}},
		{"host bits", "'10.0.0.0/24' is recommended", Fields{"cidr": "10.0.0.1/24", "ip_version": 4}},
		{"wrong family", "does not match the ip_version 6", Fields{"cidr": "10.0.0.0/24", "ip_version": 6}},
		{"gateway in a pool", "conflicts with allocation pool", Fields{"cidr": "10.0.0.0/24", "ip_version": 4, "allocation_pools": []any{Fields{"start": "10.0.0.1", "end": "10.0.0.9"}}}},
		{"pool outside", "spans beyond the subnet cidr", Fields{"cidr": "10.0.0.0/24", "ip_version": 4, "allocation_pools": []any{Fields{"start": "10.0.0.9", "end": "10.0.1.9"}}}},
		{"pool turned round", "is not valid", Fields{"cidr": "10.0.0.0/24", "ip_version": 4, "allocation_pools": []any{Fields{"start": "10.0.0.9", "end": "10.0.0.2"}}}},
		{"pools overlap", "Found overlapping allocation pools", Fields{"cidr": "10.0.0.0/24", "ip_version": 4, "allocation_pools": []any{Fields{"start": "10.0.0.9", "end": "10.0.0.20"}, Fields{"start": "10.0.0.20", "end": "10.0.0.30"}}}},
		{"SLAAC of IPv4", "cannot be set when ip_version is 4", Fields{"cidr": "10.0.0.0/24", "ip_version": 4, "ipv6_ra_mode": "slaac"}},
		{"SLAAC of a long prefix", "requires the prefix to be /64", Fields{"cidr": "2001:db8::/80", "ip_version": 6, "ipv6_address_mode": "slaac"}},
		{"modes that disagree", "must be the same value", Fields{"cidr": "2001:db8::/64", "ip_version": 6, "ipv6_address_mode": "slaac", "ipv6_ra_mode": "dhcpv6-stateful"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec, err := newSubnetSpec(tt.f)
			got := ""
			if err != nil {
				got = fault.Message(err)
			} else {
				gateway := "none"
				if spec.Gateway != nil {
					gateway = *spec.Gateway
				}
				var pools []string
				for _, r := range ranges(spec.Pools) {
					pools = append(pools, r.String())
				}
				got = gateway + " [" + strings.Join(pools, " ") + "]"
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
