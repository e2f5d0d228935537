package network_test

import (
	"testing"

	"github.com/headwater-cloud/headwater/sites"
)

// ordinary is a stack over an emulated site that was probed by an ordinary account.
func ordinary(t *testing.T) (*stack, *site) {
	t.Helper()
	list := clouds(t, "east")
	caps, err := list[0].member.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list[0].caps = caps
	return newStack(t, list...), list[0]
}

// An ordinary account does not see the subnets of an external network. Gateways lacked their subnet_id, the network its subnets, and a
// floating IP could not be asked for from one of them.
func TestUnseenSubnets(t *testing.T) {
	t.Parallel()
	s, one := ordinary(t)
	bottom := text(one.caps.ExternalNetworks[0].Subnets[0], "id")
	if one.caps.ExternalNetworks[0].Subnets[0]["cidr"] != nil || bottom == "" {
		t.Fatalf("the ordinary account sees %v", one.caps.ExternalNetworks[0].Subnets)
	}
	net := s.items("networks?router:external=true")[0]
	subnets := net["subnets"].([]any)
	if len(subnets) != 1 {
		t.Fatalf("the external network names the subnets %v, want one", subnets)
	}
	id := subnets[0].(string)
	if rows := s.items("subnets"); len(rows) != 0 {
		t.Errorf("list of subnets %v, want none, as for an ordinary user of the site", rows)
	}
	for _, unseen := range []string{id, bottom} {
		s.refused(404, "SubnetNotFound", "GET", "subnets/"+unseen, nil)
		s.refused(404, "SubnetNotFound", "DELETE", "subnets/"+unseen, nil)
	}
	r := s.do(201, "POST", "routers", object{"router": object{"name": "r", "external_gateway_info": object{"network_id": net["id"]}}})
	if got := gatewaySubnet(r); got != id {
		t.Errorf("the new router's gateway is in subnet %q, want %s", got, id)
	}
	r = s.do(200, "PUT", "routers/"+text(r, "id"), object{"router": object{"external_gateway_info": object{}}})
	if r["external_gateway_info"] != nil {
		t.Errorf("without a gateway: %v", r["external_gateway_info"])
	}
	s.refused(404, "SubnetNotFound", "PUT", "routers/"+text(r, "id")+"/add_router_interface", object{"subnet_id": id})
	r = s.do(200, "PUT", "routers/"+text(r, "id"), object{"router": object{"external_gateway_info": object{"network_id": net["id"]}}})
	if got := gatewaySubnet(r); got != id {
		t.Errorf("the router's gateway is in subnet %q, want %s", got, id)
	}
	for _, named := range []any{id, bottom} {
		ip := s.do(201, "POST", "floatingips", object{"floatingip": object{"floating_network_id": net["id"], "subnet_id": named}})
		if text(ip, "floating_ip_address") == "" || text(ip, "floating_network_id") != text(net, "id") {
			t.Errorf("floating IP from subnet %v: %v", named, ip)
		}
	}
	s.refused(404, "SubnetNotFound", "POST", "floatingips", object{"floatingip": object{"floating_network_id": net["id"], "subnet_id": "00000000-0000-4000-8000-000000000000"}})

	// An account with more rights sees them whole, and so does Top's administrator; tenants see them no more than at a site; they keep their ids, and stay whole when a later probe sees less.
	for range 2 {
		for _, who := range []sites.Adaptor{one.admin, one.member} {
			caps, err := who.Probe(t.Context())
			if err == nil {
				err = s.service.AdoptSite(t.Context(), one.name, caps)
			}
			if err != nil {
				t.Fatal(err)
			}
			status, out := s.call("p9-admin", "GET", "subnets/"+id, nil)
			if sub, _ := out["subnet"].(object); status != 200 || text(sub, "cidr") == "" || text(sub, "network_id") != text(net, "id") {
				t.Errorf("%d, subnet %v, want it whole", status, sub)
			}
			s.refused(404, "SubnetNotFound", "GET", "subnets/"+id, nil)
			if rows := s.items("subnets"); len(rows) != 0 {
				t.Errorf("list of subnets %v, want none", rows)
			}
		}
	}
}

// gatewaySubnet is the subnet of a router's one external address.
func gatewaySubnet(router object) string {
	info, _ := router["external_gateway_info"].(object)
	list, _ := info["external_fixed_ips"].([]any)
	if len(list) != 1 {
		return ""
	}
	ip, _ := list[0].(object)
	return text(ip, "subnet_id")
}
