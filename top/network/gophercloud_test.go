package network_test

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/mtu"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/networkipavailabilities"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func all[T any](t *testing.T, p pagination.Pager, extract func(pagination.Page) ([]T, error)) []T {
	t.Helper()
	page, err := p.AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := extract(page)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// An unmodified gophercloud, as Terraform uses it, understands every answer.
func TestGophercloud(t *testing.T) {
	t.Parallel()
	s, _ := emulated(t, "east")
	c := &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{TokenID: "p1-member"}, Endpoint: s.url + "/network/", ResourceBase: s.url + "/network/v2.0/",
	}
	ctx := t.Context()

	type fullNetwork struct {
		networks.Network
		external.NetworkExternalExt
		mtu.NetworkMTUExt
		portsecurity.PortSecurityExt
	}
	var net fullNetwork
	if err := networks.Create(ctx, c, networks.CreateOpts{Name: "tf"}).ExtractInto(&net); err != nil || net.ID == "" || net.MTU != 1450 || !net.PortSecurityEnabled || net.CreatedAt.IsZero() {
		t.Fatalf("network %+v, %v", net, err)
	}
	sub := must[*subnets.Subnet](t)(subnets.Create(ctx, c, subnets.CreateOpts{NetworkID: net.ID, CIDR: "10.5.0.0/24", IPVersion: 4, DNSNameservers: []string{"192.0.2.53"}}).Extract())
	group := must[*groups.SecGroup](t)(groups.Create(ctx, c, groups.CreateOpts{Name: "web"}).Extract())
	rule := must[*rules.SecGroupRule](t)(rules.Create(ctx, c, rules.CreateOpts{
		SecGroupID: group.ID, Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolTCP, PortRangeMin: 443, PortRangeMax: 443,
	}).Extract())
	port := must[*ports.Port](t)(ports.Create(ctx, c, ports.CreateOpts{NetworkID: net.ID, FixedIPs: []ports.IP{{SubnetID: sub.ID, IPAddress: "10.5.0.9"}}, SecurityGroups: &[]string{group.ID}}).Extract())
	if port.FixedIPs[0].IPAddress != "10.5.0.9" || port.MACAddress == "" || port.SecurityGroups[0] != group.ID {
		t.Errorf("port %+v", port)
	}
	yes, name := true, "renamed"
	public := all(t, networks.List(c, external.ListOptsExt{ListOptsBuilder: networks.ListOpts{}, External: &yes}), networks.ExtractNetworks)[0]
	router := must[*routers.Router](t)(routers.Create(ctx, c, routers.CreateOpts{Name: "r", GatewayInfo: &routers.GatewayInfo{NetworkID: public.ID}}).Extract())
	if len(router.GatewayInfo.ExternalFixedIPs) == 0 || router.GatewayInfo.ExternalFixedIPs[0].IPAddress == "" {
		t.Errorf("router %+v", router)
	}
	leg := must[*routers.InterfaceInfo](t)(routers.AddInterface(ctx, c, router.ID, routers.AddInterfaceOpts{SubnetID: sub.ID}).Extract())
	if leg.SubnetID != sub.ID || leg.PortID == "" || leg.ID != router.ID {
		t.Errorf("leg %+v", leg)
	}
	float := must[*floatingips.FloatingIP](t)(floatingips.Create(ctx, c, floatingips.CreateOpts{FloatingNetworkID: public.ID, PortID: port.ID}).Extract())
	if float.FixedIP != "10.5.0.9" || float.FloatingIP == "" || float.RouterID != router.ID {
		t.Errorf("floating IP %+v", float)
	}
	port = must[*ports.Port](t)(ports.Update(ctx, c, port.ID, ports.UpdateOpts{Name: &name, AllowedAddressPairs: &[]ports.AddressPair{{IPAddress: "10.5.0.99"}}, RevisionNumber: nil}).Extract())
	if port.Name != name || len(port.AllowedAddressPairs) != 1 || port.AllowedAddressPairs[0].MACAddress != port.MACAddress {
		t.Errorf("port after its update %+v", port)
	}
	must[[]string](t)(attributestags.ReplaceAll(ctx, c, "networks", net.ID, attributestags.ReplaceAllOpts{Tags: []string{"a", "b"}}).Extract())
	if got := all(t, networks.List(c, networks.ListOpts{Tags: "a,b"}), networks.ExtractNetworks); len(got) != 1 || got[0].Subnets[0] != sub.ID {
		t.Errorf("networks by tags %+v", got)
	}
	if got := all(t, ports.List(c, ports.ListOpts{FixedIPs: []ports.FixedIPOpts{{IPAddress: "10.5.0.9"}}, Limit: 1}), ports.ExtractPorts); len(got) != 1 {
		t.Errorf("ports by address %+v", got)
	}
	if got := all(t, rules.List(c, rules.ListOpts{SecGroupID: group.ID}), rules.ExtractRules); len(got) != 3 {
		t.Errorf("rules %+v", got)
	}
	if got := all(t, extensions.List(c), extensions.ExtractExtensions); len(got) < 20 {
		t.Errorf("extensions %+v", got)
	}
	if q := must[*quotas.QuotaDetailSet](t)(quotas.GetDetail(ctx, c, "p1").Extract()); q.Network.Used != 1 || q.FloatingIP.Used != 1 {
		t.Errorf("quota %+v", q)
	}
	if a := must[*networkipavailabilities.NetworkIPAvailability](t)(networkipavailabilities.Get(ctx, c, net.ID).Extract()); a.TotalIPs != "253" || a.UsedIPs != "7" {
		t.Errorf("availability %+v; want the port and the site's six of 253", a)
	}
	for _, err := range []error{
		floatingips.Delete(ctx, c, float.ID).ExtractErr(),
		rules.Delete(ctx, c, rule.ID).ExtractErr(),
		ports.Delete(ctx, c, port.ID).ExtractErr(),
		func() error {
			_, err := routers.RemoveInterface(ctx, c, router.ID, routers.RemoveInterfaceOpts{SubnetID: sub.ID}).Extract()
			return err
		}(),
		routers.Delete(ctx, c, router.ID).ExtractErr(),
		groups.Delete(ctx, c, group.ID).ExtractErr(),
		subnets.Delete(ctx, c, sub.ID).ExtractErr(),
		networks.Delete(ctx, c, net.ID).ExtractErr(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := networks.Get(ctx, c, net.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("a deleted network: %v", err)
	}
}
