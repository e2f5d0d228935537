package emulator

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

// refused ends the test unless err is a Neutron error of the given code and type.
func refused(t *testing.T, err error, code int, kind string) {
	t.Helper()
	wantCode(t, err, code)
	if !strings.Contains(err.Error(), `"`+kind+`"`) {
		t.Fatalf("got %v, want type %s", err, kind)
	}
}

func TestNetworkInUse(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	ctx, pub := t.Context(), s.publicNetwork(t, c)
	g := must(groups.Create(ctx, c.network, groups.CreateOpts{Name: "web", Description: "hw:g"}).Extract())(t)
	p := must(ports.Create(ctx, c.network, ports.CreateOpts{NetworkID: r.network, SecurityGroups: &[]string{g.ID}, Description: "hw:p"}).Extract())(t)
	router := must(routers.Create(ctx, c.network, routers.CreateOpts{Name: "r"}).Extract())(t)
	must(routers.AddInterface(ctx, c.network, router.ID, routers.AddInterfaceOpts{SubnetID: r.subnet}).Extract())(t)
	_, err := floatingips.Create(ctx, c.network, floatingips.CreateOpts{FloatingNetworkID: pub, PortID: p.ID}).Extract()
	refused(t, err, 404, "ExternalGatewayForFloatingIPNotFound")
	must(routers.Update(ctx, c.network, router.ID, routers.UpdateOpts{GatewayInfo: &routers.GatewayInfo{NetworkID: pub}}).Extract())(t)
	fip := must(floatingips.Create(ctx, c.network, floatingips.CreateOpts{FloatingNetworkID: pub, PortID: p.ID}).Extract())(t)
	if got := must(floatingips.Get(ctx, c.network, fip.ID).Extract())(t); got.Status != "ACTIVE" || got.RouterID != router.ID {
		t.Errorf("floating IP is %s by %s, want ACTIVE by the router", got.Status, got.RouterID)
	}
	refused(t, routers.Delete(ctx, c.network, router.ID).ExtractErr(), 409, "RouterInUse")
	refused(t, networks.Delete(ctx, c.network, r.network).ExtractErr(), 409, "NetworkInUse")
	refused(t, subnets.Delete(ctx, c.network, r.subnet).ExtractErr(), 409, "SubnetInUse")
	refused(t, groups.Delete(ctx, c.network, g.ID).ExtractErr(), 409, "SecurityGroupInUse")
	_, err = routers.RemoveInterface(ctx, c.network, router.ID, routers.RemoveInterfaceOpts{SubnetID: r.subnet}).Extract()
	refused(t, err, 409, "RouterInterfaceInUseByFloatingIP")
	for _, err := range []error{
		floatingips.Delete(ctx, c.network, fip.ID).ExtractErr(), ports.Delete(ctx, c.network, p.ID).ExtractErr(),
		groups.Delete(ctx, c.network, g.ID).ExtractErr(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(routers.RemoveInterface(ctx, c.network, router.ID, routers.RemoveInterfaceOpts{SubnetID: r.subnet}).Extract())(t)
	if err := routers.Delete(ctx, c.network, router.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := networks.Delete(ctx, c.network, r.network).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	left := s.Census()[s.ProjectID("demo")]
	delete(left, "image")
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPortAddresses(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	ctx := t.Context()
	n := must(networks.Create(ctx, c.network, networks.CreateOpts{Name: "n"}).Extract())(t)
	sub := must(subnets.Create(ctx, c.network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.7.0.0/24", IPVersion: 4, AllocationPools: []subnets.AllocationPool{{Start: "10.7.0.10", End: "10.7.0.12"}}}).Extract())(t)
	must(subnets.Create(ctx, c.network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "fd00:7::/64", IPVersion: 6, IPv6AddressMode: "slaac", IPv6RAMode: "slaac"}).Extract())(t)
	outside := must(ports.Create(ctx, c.network, ports.CreateOpts{NetworkID: n.ID, MACAddress: "fa:16:3e:77:00:01", FixedIPs: []ports.IP{{SubnetID: sub.ID, IPAddress: "10.7.0.100"}}}).Extract())(t)
	if len(outside.FixedIPs) != 2 || outside.FixedIPs[1].IPAddress != "fd00:7::f816:3eff:fe77:1" {
		t.Errorf("addresses are %+v, want one outside the pool and EUI-64", outside.FixedIPs)
	}
	_, err := ports.Create(ctx, c.network, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: sub.ID, IPAddress: "10.7.0.100"}}}).Extract()
	refused(t, err, 409, "IpAddressAlreadyAllocated")
	_, err = ports.Create(ctx, c.network, ports.CreateOpts{NetworkID: n.ID, MACAddress: "fa:16:3e:77:00:01"}).Extract()
	refused(t, err, 409, "MacAddressInUse")
	for range 2 { // the DHCP port has the first of three
		must(ports.Create(ctx, c.network, ports.CreateOpts{NetworkID: n.ID}).Extract())(t)
	}
	_, err = ports.Create(ctx, c.network, ports.CreateOpts{NetworkID: n.ID}).Extract()
	refused(t, err, 409, "IpAddressGenerationFailure")
	list := must(ports.ExtractPorts(must(ports.List(c.network, ports.ListOpts{NetworkID: n.ID, DeviceOwner: "network:dhcp"}).AllPages(ctx))(t)))(t)
	if len(list) != 1 || list[0].Status != "ACTIVE" {
		t.Errorf("DHCP ports are %+v, want one that is ACTIVE", list)
	}
}

func TestNetworkPolicyForMembers(t *testing.T) {
	t.Parallel()
	s := instant(t)
	admin, c := s.clients(t, "admin", "admin"), s.clients(t, "demo", "demo")
	post := func(sc *gophercloud.ServiceClient, path string, body map[string]any) error {
		_, err := sc.Post(t.Context(), sc.ServiceURL(path), body, nil, nil)
		return err
	}
	var shared struct{ Network struct{ ID string } }
	if _, err := admin.network.Post(t.Context(), admin.network.ServiceURL("networks"), map[string]any{"network": map[string]any{"name": "shared", "shared": true, "provider:network_type": "vlan", "provider:physical_network": "physnet1", "provider:segmentation_id": 150}}, &shared, nil); err != nil {
		t.Fatal(err)
	}
	sub := must(subnets.Create(t.Context(), admin.network, subnets.CreateOpts{NetworkID: shared.Network.ID, CIDR: "10.9.0.0/24", IPVersion: 4}).Extract())(t)
	for _, tt := range []struct {
		name, path, kind string
		member           string
		value            any
	}{
		{"provider network", "networks", "network", "provider:network_type", "vxlan"},
		{"shared network", "networks", "network", "shared", true},
		{"external network", "networks", "network", "router:external", true},
		{"binding", "ports", "port", "binding:host_id", "h"},
		{"address on a network of others", "ports", "port", "fixed_ips", []any{map[string]any{"subnet_id": sub.ID, "ip_address": "10.9.0.77"}}},
		{"MAC on a network of others", "ports", "port", "mac_address", "fa:16:3e:00:00:01"},
		{"SNAT", "routers", "router", "external_gateway_info", map[string]any{"network_id": s.publicNetwork(t, c), "enable_snat": false}},
	} {
		body := map[string]any{tt.member: tt.value}
		if tt.kind == "port" {
			body["network_id"] = shared.Network.ID
		}
		err := post(c.network, tt.path, map[string]any{tt.kind: body})
		if err == nil {
			t.Errorf("%s: allowed to a member", tt.name)
			continue
		}
		refused(t, err, 403, "PolicyNotAuthorized")
	}
	if err := post(c.network, "ports", map[string]any{"port": map[string]any{"network_id": shared.Network.ID}}); err != nil {
		t.Errorf("plain port on a shared network: %v", err)
	}
	refused(t, networks.Delete(t.Context(), c.network, shared.Network.ID).ExtractErr(), 403, "PolicyNotAuthorized")
}

func TestNetworkListFilters(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	for _, d := range []string{"hw:1", "hw:2", "hw:3"} {
		must(networks.Create(t.Context(), c.network, networks.CreateOpts{Name: "n", Description: d}).Extract())(t)
	}
	one := must(networks.ExtractNetworks(must(networks.List(c.network, networks.ListOpts{Description: "hw:2"}).AllPages(t.Context()))(t)))(t)
	if len(one) != 1 || one[0].Description != "hw:2" {
		t.Errorf("description hw:2 finds %+v", one)
	}
	paged := must(networks.ExtractNetworks(must(networks.List(c.network, networks.ListOpts{Name: "n", Limit: 2, SortKey: "description", SortDir: "desc"}).AllPages(t.Context()))(t)))(t)
	if len(paged) != 3 || paged[0].Description != "hw:3" {
		t.Errorf("paged and sorted: %+v", paged)
	}
	_, err := c.network.Get(t.Context(), c.network.ServiceURL("networks")+"?bogus=1", nil, nil)
	refused(t, err, 400, "HTTPBadRequest")
}

func TestDefaultPools(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ cidr, gateway, want string }{
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.2-10.0.0.254"},
		{"10.0.0.0/24", "10.0.0.9", "10.0.0.1-10.0.0.8 10.0.0.10-10.0.0.254"},
		{"10.0.0.0/24", "10.0.0.254", "10.0.0.1-10.0.0.253"},
		{"10.0.0.0/24", "", "10.0.0.1-10.0.0.254"},
		{"fd00::/64", "fd00::1", "fd00::2-fd00::ffff:ffff:ffff:ffff"},
	} {
		gw, _ := netip.ParseAddr(tt.gateway)
		var got []string
		for _, r := range defaultPools(netip.MustParsePrefix(tt.cidr), gw) {
			got = append(got, r.first.String()+"-"+r.last.String())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("pools of %s with gateway %s are %s, want %s", tt.cidr, tt.gateway, s, tt.want)
		}
	}
}
