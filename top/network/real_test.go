package network_test

import (
	"os"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// On a real region, as an ordinary member: what Top allocated is what the
// region has, and nothing is left behind.
func TestRealRegion(t *testing.T) {
	t.Parallel()
	if os.Getenv("HEADWATER_REALCLOUD") == "" {
		t.Skip("HEADWATER_REALCLOUD is not set: no real region to test on")
	}
	at := accounts(t, "east", "east", "http://127.0.1.1:5000/v3")
	wholeLife(t, newStack(t, at), at)
}

// wholeLife takes a network with its router, port and floating IP through all of its life at a site.
func wholeLife(t *testing.T, s *stack, at *site) {
	net := s.do(201, "POST", "networks", object{"network": object{"name": "n-life"}})
	id := text(net, "id")
	sub := s.do(201, "POST", "subnets", object{"subnet": object{"network_id": id, "ip_version": 4, "cidr": "10.77.0.0/24"}})
	six := s.do(201, "POST", "subnets", object{"subnet": object{"network_id": id, "ip_version": 6, "cidr": "2001:db8:77::/64", "ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac"}})
	group := s.do(201, "POST", "security-groups", object{"security_group": object{"name": "n-web"}})
	s.do(201, "POST", "security-group-rules", object{"security_group_rule": object{
		"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 80, "remote_group_id": group["id"],
	}})
	port := s.do(201, "POST", "ports", object{"port": object{"network_id": id, "security_groups": []any{group["id"]}}})
	router := s.do(201, "POST", "routers", object{"router": object{"name": "n-router"}})
	rid := text(router, "id")
	leg := s.do(200, "PUT", "routers/"+rid+"/add_router_interface", object{"subnet_id": sub["id"]})
	made := map[sites.Kind]object{sites.Network: net, sites.Subnet: sub, sites.Port: port, sites.Router: router, sites.SecurityGroup: group}
	if n := at.count(t, made); n != 0 {
		t.Errorf("%d resources at the site before anything is placed", n)
	}
	external := s.items("networks?router:external=true")
	if len(external) != 1 {
		t.Fatalf("%d external networks, want one", len(external))
	}
	float := s.gateway(rid, text(external[0], "id"), text(port, "id"))
	if text(float, "fixed_ip_address") != "10.77.0.2" || text(float, "router_id") != rid {
		t.Errorf("floating IP %v", float)
	}
	s.sameAtSite(at, port)
	s.inUse(id, text(sub, "id"), rid, text(leg, "port_id"), text(group, "id"))
	s.do(200, "PUT", "floatingips/"+text(float, "id"), object{"floatingip": object{"port_id": nil}})
	s.do(204, "DELETE", "floatingips/"+text(float, "id"), nil)
	s.do(204, "DELETE", "ports/"+text(port, "id"), nil)
	s.do(200, "PUT", "routers/"+rid+"/remove_router_interface", object{"subnet_id": sub["id"]})
	s.do(204, "DELETE", "routers/"+rid, nil)
	s.do(204, "DELETE", "subnets/"+text(six, "id"), nil)
	s.do(204, "DELETE", "networks/"+id, nil)
	s.do(204, "DELETE", "security-groups/"+text(group, "id"), nil)
	made[sites.FloatingIP] = float
	s.until("the site to be empty", func() bool { return at.count(t, made) == 0 })
}

// gateway gives the router a way out and the port a floating IP: the first needs of a site.
func (s *stack) gateway(router, external, port string) object {
	s.t.Helper()
	r := s.do(200, "PUT", "routers/"+router, object{"router": object{"external_gateway_info": object{"network_id": external}}})
	info, _ := r["external_gateway_info"].(object)
	fixed, _ := info["external_fixed_ips"].([]any)
	if len(fixed) == 0 || info["network_id"] != external {
		s.t.Errorf("gateway %v has no address on network %s", info, external)
	}
	return s.do(201, "POST", "floatingips", object{"floatingip": object{"floating_network_id": external, "port_id": port}})
}

// sameAtSite compares a port with its bottom.
func (s *stack) sameAtSite(at *site, port object) {
	s.t.Helper()
	found, err := at.member.FindMarked(s.t.Context(), sites.Port, ident.TopID(text(port, "id")))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("port at the site: %d, %v", len(found), err)
	}
	have := map[string]bool{}
	list, _ := found[0].Body["fixed_ips"].([]any)
	for _, ip := range list {
		one, _ := ip.(object)
		have[text(one, "ip_address")] = true
	}
	want, _ := port["fixed_ips"].([]any)
	for _, ip := range want {
		one, _ := ip.(object)
		if !have[text(one, "ip_address")] {
			s.t.Errorf("the site has %v, Top gave %v", list, want)
		}
	}
	if len(want) != 2 || len(list) != 2 || found[0].Text("mac_address") != text(port, "mac_address") {
		s.t.Errorf("port at the site: %v, at Top: %v", found[0].Body, port)
	}
	shown := s.do(200, "GET", "ports/"+string(found[0].ID), nil)
	if shown["id"] != port["id"] {
		s.t.Errorf("the site's id of the port shows %v", shown["id"])
	}
	if rows := s.items("ports?network_id=" + found[0].Text("network_id")); len(rows) != 2 { // and the router's leg
		s.t.Errorf("ports by the site's id of the network: %v", rows)
	}
	for _, ip := range list {
		one, _ := ip.(object)
		if text(one, "ip_address") != "10.77.0.2" {
			continue
		}
		named := s.do(201, "POST", "ports", object{"port": object{"network_id": found[0].Text("network_id"), "security_groups": []any{}, "fixed_ips": []any{object{"subnet_id": one["subnet_id"]}}}})
		s.do(204, "DELETE", "ports/"+text(named, "id"), nil)
	}
}

// inUse tries to delete what is in use.
func (s *stack) inUse(net, sub, router, leg, group string) {
	s.t.Helper()
	s.refused(409, "NetworkInUse", "DELETE", "networks/"+net, nil)
	s.refused(409, "SubnetInUse", "DELETE", "subnets/"+sub, nil)
	s.refused(409, "RouterInUse", "DELETE", "routers/"+router, nil)
	s.refused(409, "ServicePortInUse", "DELETE", "ports/"+leg, nil)
	s.refused(409, "SecurityGroupInUse", "DELETE", "security-groups/"+group, nil)
	s.refused(409, "RouterInterfaceInUseByFloatingIP", "PUT", "routers/"+router+"/remove_router_interface", object{"subnet_id": sub})
	s.refused(409, "RouterExternalGatewayInUseByFloatingIp", "PUT", "routers/"+router, object{"router": object{"external_gateway_info": object{}}})
}

// count counts what the site has of the given resources of Top's.
func (at *site) count(t *testing.T, made map[sites.Kind]object) int {
	t.Helper()
	n := 0
	for kind, o := range made {
		found, err := at.member.FindMarked(t.Context(), kind, ident.TopID(text(o, "id")))
		if err != nil {
			t.Fatalf("look for %s at the site: %v", kind, err)
		}
		n += len(found)
	}
	return n
}
