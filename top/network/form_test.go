package network_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// What is wrong with a request is said in Neutron's words, and nothing is stored.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	net := text(s.do(201, "POST", "networks", object{"network": object{}}), "id")
	for _, tt := range []struct {
		name, path, exception, message string
		status                         int
		body                           any
	}{
		{"no JSON", "networks", "HTTPBadRequest", "Body contains invalid data", 400, `{"x`},
		{"an array", "networks", "HTTPBadRequest", "Body contains invalid data", 400, `[]`},
		{"two values", "networks", "HTTPBadRequest", "Body contains invalid data", 400, `{} {}`},
		{"nothing", "networks", "HTTPBadRequest", "Unable to find 'network' in request body", 400, nil},
		{"another resource", "networks", "HTTPBadRequest", "Unable to find 'network' in request body", 400, object{"port": object{}}},
		{"no object", "networks", "HTTPBadRequest", "Object 'network' contains invalid data", 400, object{"network": 3}},
		{"empty bulk", "networks", "HTTPBadRequest", "Resources required", 400, object{"networks": []any{}}},
		{"name of a wrong type", "networks", "HTTPBadRequest", "Invalid input for name. Reason: '3' is not a valid string.", 400, object{"network": object{"name": 3}}},
		{"absurd name", "networks", "HTTPBadRequest", "exceeds maximum length of 255", 400, object{"network": object{"name": strings.Repeat("ü", 256)}}},
		{"no boolean", "networks", "InvalidInput", "Invalid input for operation: 'maybe' cannot be converted to boolean.", 400, object{"network": object{"admin_state_up": "maybe"}}},
		{"read-only", "networks", "HTTPBadRequest", "Attribute 'status' not allowed in POST", 400, object{"network": object{"status": "x"}}},
		{"no member name", "networks", "HTTPBadRequest", "Unrecognized attribute(s) 'a b'", 400, object{"network": object{"a b": 1}}},
		{"an extension that is not listed", "networks", "HTTPBadRequest", "Unrecognized attribute(s) 'qos_policy_id'", 400, object{"network": object{"qos_policy_id": "x"}}},
		{"shared by a member", "networks", "PolicyNotAuthorized", "create_network:shared) is disallowed by policy", 403, object{"network": object{"shared": true}}},
		{"another's", "networks", "HTTPBadRequest", "requires admin or advsvc privileges", 400, object{"network": object{"tenant_id": "p2"}}},
		{"required", "subnets", "HTTPBadRequest", "Required attribute 'ip_version' not specified", 400, object{"subnet": object{"network_id": net, "cidr": "10.0.0.0/24"}}},
		{"no CIDR", "subnets", "InvalidInput", "bla is not in a CIDR format", 400, object{"subnet": object{"network_id": net, "ip_version": 4, "cidr": "bla"}}},
		{"no UUID", "ports", "HTTPBadRequest", "'x' is not a valid UUID", 400, object{"port": object{"network_id": "x"}}},
		{"unknown network", "ports", "NetworkNotFound", "could not be found", 404, object{"port": object{"network_id": "00000000-0000-4000-8000-000000000000"}}},
		{"multicast MAC", "ports", "HTTPBadRequest", "is not a valid MAC address", 400, object{"port": object{"network_id": net, "mac_address": "01:00:5e:00:00:01"}}},
		{"direction", "security-group-rules", "HTTPBadRequest", "is not in ['ingress', 'egress']", 400, object{"security_group_rule": object{"security_group_id": net, "direction": "up"}}},
		{"second default group", "security-groups", "SecurityGroupDefaultAlreadyExists", "already exists", 409, object{"security_group": object{"name": "default"}}},
	} {
		status, out := s.call("p1-member", "POST", tt.path, tt.body)
		e, _ := out["NeutronError"].(object)
		if status != tt.status || e["type"] != tt.exception || !strings.Contains(text(e, "message"), tt.message) {
			t.Errorf("%s: %d %v, want %d %s %s", tt.name, status, out, tt.status, tt.exception, tt.message)
		}
	}
	if n := len(s.items("networks")) + len(s.items("subnets")) + len(s.items("ports")); n != 1 {
		t.Errorf("%d resources after refused requests, want one", n)
	}
}

// Who may see and change what is decided before anything is told.
func TestIsolation(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	net := text(s.do(201, "POST", "networks", object{"network": object{"name": "mine"}}), "id")
	sub := text(s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net, "ip_version": 4, "cidr": "10.0.0.0/24"}}), "id")
	port := text(s.do(201, "POST", "ports", object{"port": object{"network_id": net}}), "id")
	router := text(s.do(201, "POST", "routers", object{"router": object{}}), "id")
	group := text(s.do(201, "POST", "security-groups", object{"security_group": object{"name": "g"}}), "id")
	rule := text(s.items("security-group-rules?security_group_id=" + group)[0], "id")
	_, out := s.call("p2-member", "POST", "networks", object{"network": object{"name": "theirs"}})
	theirs := text(out["network"].(object), "id")
	for path, one := range map[string]string{
		"networks/" + net: "network", "subnets/" + sub: "subnet", "ports/" + port: "port", "routers/" + router: "router",
		"security-groups/" + group: "security_group", "security-group-rules/" + rule: "security_group_rule",
	} {
		change := object{one: object{"description": "x"}}
		for _, tt := range []struct {
			token            string
			get, put, remove int
		}{
			{"nobody", 401, 401, 401}, {"p2-member", 404, 404, 404}, {"p2-reader", 404, 404, 404}, {"p1-reader", 200, 403, 403},
		} {
			if got, out := s.call(tt.token, "GET", path, nil); got != tt.get {
				t.Errorf("GET %s as %s: %d %v, want %d", path, tt.token, got, out, tt.get)
			}
			if got, out := s.call(tt.token, "DELETE", path, nil); got != tt.remove {
				t.Errorf("DELETE %s as %s: %d %v, want %d", path, tt.token, got, out, tt.remove)
			}
			if one == "security_group_rule" {
				continue // cannot be changed
			}
			if got, out := s.call(tt.token, "PUT", path, change); got != tt.put {
				t.Errorf("PUT %s as %s: %d %v, want %d", path, tt.token, got, out, tt.put)
			}
		}
		if got, out := s.call("p3-admin", "GET", path, nil); got != 200 {
			t.Errorf("GET %s as an administrator: %d %v", path, got, out)
		}
	}
	for _, tt := range []struct {
		token, path string
		body        any
		want        int
	}{
		{"p1-reader", "networks", object{"network": object{}}, 403},
		{"p2-member", "ports", object{"port": object{"network_id": net}}, 404},
		{"p2-member", "ports", object{"port": object{"network_id": theirs, "device_id": router}}, 403}, // another's router
		{"p2-member", "ports", object{"port": object{"network_id": theirs, "device_owner": "network:router_interface"}}, 403},
		{"p2-member", "subnets", object{"subnet": object{"network_id": net, "ip_version": 4, "cidr": "10.1.0.0/24"}}, 404},
		{"p2-member", "security-group-rules", object{"security_group_rule": object{"security_group_id": group, "direction": "egress"}}, 404},
	} {
		if got, out := s.call(tt.token, "POST", tt.path, tt.body); got != tt.want {
			t.Errorf("POST %s as %s: %d %v, want %d", tt.path, tt.token, got, out, tt.want)
		}
	}
	if got, out := s.call("p2-member", "GET", "networks", nil); got != 200 || len(out["networks"].([]any)) != 1 {
		t.Errorf("another project's list: %d %v", got, out)
	}
	if got, _ := s.call("p2-member", "GET", "quotas/p1", nil); got != 403 {
		t.Errorf("another project's quota: %d, want 403", got)
	}
	if got, _ := s.call("p1-member", "PUT", "quotas/p1", object{"quota": object{"network": 1000}}); got != 403 {
		t.Errorf("a member sets a quota: %d, want 403", got)
	}
}

func names(rows []object) string {
	var out []string
	for _, r := range rows {
		out = append(out, text(r, "name"))
	}
	return strings.Join(out, " ")
}

func TestLists(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var nets []object
	for i := range 5 {
		nets = append(nets, s.do(201, "POST", "networks", object{"network": object{"name": fmt.Sprint("n", i), "admin_state_up": i%2 == 0}}))
	}
	sub := s.do(201, "POST", "subnets", object{"subnet": object{"network_id": nets[0]["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}})
	for range 2 {
		s.do(201, "POST", "ports", object{"port": object{"network_id": nets[0]["id"], "name": "p"}})
	}
	s.do(201, "PUT", "networks/"+text(nets[1], "id")+"/tags/blue", nil)
	s.do(200, "PUT", "networks/"+text(nets[2], "id")+"/tags", object{"tags": []any{"blue", "red"}})
	for _, tt := range []struct{ query, want string }{
		{"", "n0 n1 n2 n3 n4"},
		{"name=n1&name=n3", "n1 n3"},
		{"admin_state_up=False", "n1 n3"},
		{"name=nope", ""},
		{"tenant_id=p2", ""},
		{"sort_key=name&sort_dir=desc", "n4 n3 n2 n1 n0"},
		{"limit=2", "n0 n1"},
		{"limit=2&marker=" + text(nets[1], "id"), "n2 n3"},
		{"limit=2&page_reverse=True&marker=" + text(nets[3], "id"), "n1 n2"},
		{"tags=blue", "n1 n2"},
		{"tags=blue,red", "n2"},
		{"not-tags-any=blue,red", "n0 n3 n4"},
		{"tags=blue&limit=1", "n1"},
	} {
		if got := names(s.items("networks?" + tt.query)); got != tt.want {
			t.Errorf("networks?%s: %s, want %s", tt.query, got, tt.want)
		}
	}
	for query, want := range map[string]int{
		"fixed_ips=ip_address=10.0.0.2": 1, "fixed_ips=subnet_id=" + text(sub, "id"): 2, "fixed_ips=ip_address_substr=10.0.0": 2,
		"fixed_ips=ip_address=10.0.0.99": 0, "network_id=" + text(nets[1], "id"): 0, "device_id=": 2, "status=DOWN": 2,
		"security_groups=" + text(s.items("security-groups")[0], "id"): 2,
	} {
		if got := len(s.items("ports?" + query)); got != want {
			t.Errorf("ports?%s: %d, want %d", query, got, want)
		}
	}
	s.refused(400, "HTTPBadRequest", "GET", "networks?foo=bar", nil)
	s.refused(400, "HTTPBadRequest", "GET", "networks?sort_key=foo&sort_dir=asc", nil)
	s.refused(404, "NetworkNotFound", "GET", "networks?marker=zzz&limit=1", nil)
	s.refused(400, "BadRequest", "GET", "networks?limit=-1", nil)
	if one := s.items("networks?fields=id&fields=name&name=n0")[0]; len(one) != 2 || one["name"] != "n0" {
		t.Errorf("two fields: %v", one)
	}
}

// A client that follows the links sees each row once.
func TestPages(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var bulk []any
	for i := range 7 {
		bulk = append(bulk, object{"name": fmt.Sprint("n", i)})
	}
	if _, out := s.call("p1-member", "POST", "networks", object{"networks": bulk}); len(out["networks"].([]any)) != 7 {
		t.Fatalf("bulk create: %v", out)
	}
	seen := map[string]int{}
	for next := s.url + "/network/v2.0/networks?limit=3&sort_key=name&sort_dir=asc"; next != ""; {
		_, out := s.call("p1-member", "GET", strings.TrimPrefix(next, s.url), nil)
		for _, n := range out["networks"].([]any) {
			seen[text(n.(object), "name")]++
		}
		next = ""
		links, _ := out["networks_links"].([]any)
		for _, l := range links {
			if l := l.(object); l["rel"] == "next" {
				next = text(l, "href")
				if _, err := url.Parse(next); err != nil || !strings.HasPrefix(next, s.url) {
					t.Fatalf("link %s does not lead back to Top", next)
				}
			}
		}
	}
	if len(seen) != 7 {
		t.Errorf("pages showed %v", seen)
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	net := s.do(201, "POST", "networks", object{"network": object{}})
	path, change := "networks/"+text(net, "id"), object{"network": object{"name": "b"}}
	match := "revision_number=" + text(net, "revision_number")
	status, out := s.call("p1-member", "PUT", path, change, "If-Match", match)
	if n, _ := out["network"].(object); status != 200 || n["revision_number"] == net["revision_number"] {
		t.Fatalf("update of the present revision: %d %v", status, out)
	}
	for _, method := range []string{"PUT", "DELETE"} {
		status, out = s.call("p1-member", method, path, change, "If-Match", match)
		if e, _ := out["NeutronError"].(object); status != 412 || e["type"] != "RevisionNumberConstraintFailed" {
			t.Errorf("%s of an old revision: %d %v, want 412", method, status, out)
		}
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	if got, out := s.call("p9-admin", "PUT", "quotas/p1", object{"quota": object{"network": 1}}); got != 200 {
		t.Fatalf("set a quota: %d %v", got, out)
	}
	s.do(201, "POST", "networks", object{"network": object{}})
	for _, tt := range []struct {
		protocol  string
		low, high any
		want      string
	}{
		{"tcp", -16, 80, "Invalid value for port -16"}, {"tcp", 80, 65536, "Invalid value for port 65536"}, {"tcp", 80, 79, "port_range_min must be <= port_range_max"},
		{"icmp", 1, 256, "Invalid value for ICMP code (port_range_max) 256"}, {"icmp", 300, 1, "Invalid value for ICMP type (port_range_min) 300"},
	} {
		group := s.items("security-groups")[0]["id"]
		status, out := s.call("p1-member", "POST", "security-group-rules", object{"security_group_rule": object{
			"security_group_id": group, "direction": "ingress", "protocol": tt.protocol, "port_range_min": tt.low, "port_range_max": tt.high}})
		if fault, _ := out["NeutronError"].(object); status != 400 || !strings.Contains(text(fault, "message"), tt.want) {
			t.Errorf("%s %v to %v: %d %v, want %q", tt.protocol, tt.low, tt.high, status, out, tt.want)
		}
	}
	// An empty gateway asks for none (Tempest makes its routers so); it was looked up as a network without an id.
	if made := s.do(201, "POST", "routers", object{"router": object{"external_gateway_info": object{}}}); made["external_gateway_info"] != nil {
		t.Errorf("router with an empty gateway: %v", made)
	}
	s.refused(409, "OverQuota", "POST", "networks", object{"network": object{}})
	figures := s.do(200, "GET", "quotas/p1/details", nil)
	if n, _ := figures["network"].(object); n["limit"] != 1.0 || n["used"] != 1.0 {
		t.Errorf("figures %v", figures)
	}
	if got, _ := s.call("p9-admin", "DELETE", "quotas/p1", nil); got != 204 {
		t.Errorf("reset a quota: %d", got)
	}
	s.do(201, "POST", "networks", object{"network": object{}})
	if q := s.do(200, "GET", "quotas/p1", nil); q["network"] != 100.0 || q["port"] != 500.0 {
		t.Errorf("default limits %v", q)
	}
}

// Addresses follow the port: given, moved, given back; each in the subnet's own way.
func TestAddresses(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	net := s.do(201, "POST", "networks", object{"network": object{}})["id"]
	sub := s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net, "ip_version": 4, "cidr": "10.0.0.0/29"}})["id"]
	port := func(ips ...any) (int, object) {
		body := object{"network_id": net}
		if ips != nil {
			body["fixed_ips"] = ips
		}
		status, out := s.call("p1-member", "POST", "ports", object{"port": body})
		p, _ := out["port"].(object)
		if p == nil {
			p, _ = out["NeutronError"].(object)
		}
		return status, p
	}
	_, first := port() // .2; .1 is the gateway, .5 and .6 are the site's
	s.refused(409, "IpAddressAlreadyAllocated", "POST", "ports", object{"port": object{"network_id": net, "fixed_ips": []any{object{"ip_address": "10.0.0.2"}}}})
	s.refused(409, "IpAddressAlreadyAllocated", "POST", "ports", object{"port": object{"network_id": net, "fixed_ips": []any{object{"ip_address": "10.0.0.6"}}}})
	s.refused(400, "InvalidIpForNetwork", "POST", "ports", object{"port": object{"network_id": net, "fixed_ips": []any{object{"ip_address": "10.9.0.2"}}}})
	s.refused(400, "InvalidIpForSubnet", "POST", "ports", object{"port": object{"network_id": net, "fixed_ips": []any{object{"ip_address": "10.0.0.7"}}}})
	port()
	port()
	if status, e := port(); status != 409 || e["type"] != "IpAddressGenerationFailure" {
		t.Errorf("the subnet is full: %d %v", status, e)
	}
	s.do(204, "DELETE", "ports/"+text(first, "id"), nil)
	if status, p := port(object{"subnet_id": sub}); status != 201 || text(p["fixed_ips"].([]any)[0].(object), "ip_address") != "10.0.0.2" {
		t.Errorf("a freed address: %d %v", status, p)
	}
	_, bare := port([]any{}...) // asked for without any
	if n := len(bare["fixed_ips"].([]any)); n != 0 {
		t.Errorf("a port without addresses has %d", n)
	}
	s.do(204, "DELETE", "ports/"+text(bare, "id"), nil)
	six := s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net, "ip_version": 6, "cidr": "2001:db8::/64", "ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac"}})
	for _, p := range s.items("ports") {
		if n := len(p["fixed_ips"].([]any)); n != 2 {
			t.Errorf("port %v has %d addresses after an automatic subnet was added, want 2", p["fixed_ips"], n)
		}
	}
	s.do(204, "DELETE", "subnets/"+text(six, "id"), nil)
	for _, p := range s.items("ports") {
		if n := len(p["fixed_ips"].([]any)); n != 1 {
			t.Errorf("port %v has %d addresses after the automatic subnet was removed, want 1", p["fixed_ips"], n)
		}
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, path := range []string{"/network", "/network/", "/sites/east/network/"} {
		status, out := s.call("nobody", "GET", path, nil)
		v := out["versions"].([]any)[0].(object)
		href := text(v["links"].([]any)[0].(object), "href")
		if status != 200 || v["id"] != "v2.0" || v["status"] != "CURRENT" || !strings.HasSuffix(href, strings.TrimRight(path, "/")+"/v2.0/") {
			t.Errorf("GET %s: %d %v", path, status, out)
		}
	}
	for _, path := range []string{"/network/v2.0", "/network/v2.0/"} {
		if status, _ := s.call("nobody", "GET", path, nil); status != 200 {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	if e := s.do(200, "GET", "extensions/router", nil); e["alias"] != "router" {
		t.Errorf("extension %v", e)
	}
	for _, path := range []string{"subnetpools", "rbac-policies", "address-scopes", "qos/policies", "trunks"} {
		if status, _ := s.call("p1-member", "GET", path, nil); status != 404 {
			t.Errorf("GET %s: %d, want 404: its extension is not listed", path, status)
		}
	}
}

func FuzzCreate(f *testing.F) {
	s := newStack(f)
	f.Add("networks", `{"network":{"name":"a","tags":["x"],"mtu":1400}}`)
	f.Add("ports", `{"port":{"network_id":"00000000-0000-4000-8000-000000000000","fixed_ips":[{"ip_address":"::1"}]}}`)
	f.Add("subnets", `{"subnet":{"cidr":"10.0.0.0/8","ip_version":4,"allocation_pools":[{"start":"1","end":"2"}]}}`)
	f.Add("routers", `{"router":{"external_gateway_info":{"network_id":"x"}}}`)
	f.Add("security-group-rules", `{"security_group_rule":{"port_range_min":1e9}}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		switch path {
		case "networks", "subnets", "ports", "routers", "floatingips", "security-groups", "security-group-rules":
		default:
			t.Skip()
		}
		s := *s
		s.t = t
		if status, out := s.call("p1-member", "POST", path, body); status >= 500 {
			t.Errorf("POST %s %q: %d %v", path, body, status, out)
		}
	})
}
