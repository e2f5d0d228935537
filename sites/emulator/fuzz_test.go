package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fuzzCloud is a cloud with one of each thing and the ids to name them by.
type fuzzCloud struct {
	*Cloud
	tokens map[string]string
	ids    *strings.Replacer
}

func (f *fuzzCloud) call(method, path, user, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://emu"+f.ids.Replace(path), strings.NewReader(f.ids.Replace(body)))
	r.Header.Set("X-Auth-Token", f.tokens[user])
	r.Header.Set("OpenStack-API-Version", "compute 2.90, volume 3.70")
	r.Header.Set("Content-Type", "application/openstack-images-v2.1-json-patch")
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func newFuzzCloud(tb testing.TB) *fuzzCloud {
	tb.Helper()
	f := &fuzzCloud{Cloud: New(Config{Name: "emu", Unlimited: true}.Instant()), tokens: map[string]string{}, ids: strings.NewReplacer()}
	for _, user := range []string{"admin", "demo"} {
		w := f.call("POST", "/identity/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"`+user+`","domain":{"id":"default"},"password":"secret"}}},"scope":{"project":{"name":"`+user+`","domain":{"id":"default"}}}}}`)
		f.tokens[user] = w.Header().Get("X-Subject-Token")
	}
	if err := f.Seed(Seeding{Servers: 1, Ports: 1}); err != nil {
		tb.Fatal(err)
	}
	pairs := []string{"DEMO", f.ProjectID("demo"), "IMAGE", f.image.images.all[0].ID, "FLAVOR", f.compute.flavors.all[0].ID, "SERVER", f.compute.servers.all[0].ID, "PORT", f.network.ports.all[0].ID,
		"PUBLIC", f.network.networks.all[0].ID, "NET", f.network.networks.all[1].ID, "SUBNET", f.network.subnets.all[1].ID, "USER", f.userNamed("demo").ID}
	f.ids = strings.NewReplacer(pairs...)
	for _, m := range []struct{ path, body, name, at string }{
		{"/volume/v3/volumes", `{"volume":{"size":1,"name":"v"}}`, "VOLUME", "volume.id"},
		{"/network/v2.0/routers", `{"router":{"name":"r"}}`, "ROUTER", "router.id"},
		{"/network/v2.0/security-groups", `{"security_group":{"name":"g"}}`, "GROUP", "security_group.id"},
		{"/network/v2.0/floatingips", `{"floatingip":{"floating_network_id":"PUBLIC"}}`, "FIP", "floatingip.id"},
	} {
		w := f.call("POST", m.path, "demo", m.body)
		var v any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			tb.Fatal(err)
		}
		pairs = append(pairs, m.name, dig(v, m.at).(string))
		f.ids = strings.NewReplacer(pairs...)
	}
	return f
}

// FuzzBodies sends arbitrary bodies and queries to every writing route: whatever
// comes, the answer is the service's own, never a 500 and never a panic.
func FuzzBodies(f *testing.F) {
	routes := []string{
		"POST /identity/v3/auth/tokens", "POST /identity/v3/projects", "POST /identity/v3/users", "POST /identity/v3/users/USER/application_credentials",
		"POST /compute/v2.1/servers", "PUT /compute/v2.1/servers/SERVER", "POST /compute/v2.1/servers/SERVER/action", "POST /compute/v2.1/servers/SERVER/os-interface", "POST /compute/v2.1/servers/SERVER/os-volume_attachments",
		"POST /compute/v2.1/servers/SERVER/metadata", "PUT /compute/v2.1/servers/SERVER/tags", "POST /compute/v2.1/servers/SERVER/remote-consoles", "POST /compute/v2.1/flavors", "POST /compute/v2.1/flavors/FLAVOR/action",
		"POST /compute/v2.1/os-keypairs", "POST /compute/v2.1/os-server-groups", "PUT /compute/v2.1/os-quota-sets/DEMO", "POST /image/v2/images", "PATCH /image/v2/images/IMAGE", "POST /image/v2/images/IMAGE/members",
		"POST /image/v2/images/IMAGE/import", "POST /network/v2.0/networks", "PUT /network/v2.0/networks/NET", "POST /network/v2.0/subnets", "PUT /network/v2.0/subnets/SUBNET", "POST /network/v2.0/ports", "PUT /network/v2.0/ports/PORT",
		"POST /network/v2.0/routers", "PUT /network/v2.0/routers/ROUTER", "PUT /network/v2.0/routers/ROUTER/add_router_interface", "PUT /network/v2.0/routers/ROUTER/remove_router_interface", "POST /network/v2.0/security-groups",
		"POST /network/v2.0/security-group-rules", "POST /network/v2.0/floatingips", "PUT /network/v2.0/floatingips/FIP", "PUT /network/v2.0/quotas/DEMO", "PUT /network/v2.0/networks/NET/tags", "POST /volume/v3/volumes",
		"PUT /volume/v3/volumes/VOLUME", "POST /volume/v3/volumes/VOLUME/action", "POST /volume/v3/volumes/VOLUME/metadata", "POST /volume/v3/snapshots", "POST /volume/v3/backups", "POST /volume/v3/types", "PUT /volume/v3/os-quota-sets/DEMO",
		"PATCH /identity/v3/users/USER", // last: it may end the token
	}
	for _, s := range []string{
		``, `{}`, `[]`, `null`, `7`, `{"server":null}`, `{"server":[]}`, `{"network":7}`, `{"networks":[7,null]}`, `{"ports":[{}]}`, `{"volume":{"size":{}}}`, `{"auth":{"identity":{"methods":[7],"password":[]}}}`,
		`{"server":{"name":"x","imageRef":"IMAGE","flavorRef":"FLAVOR","networks":[{"uuid":"NET","fixed_ip":"10.0.0.9"}],"block_device_mapping_v2":[{"source_type":"volume","uuid":"VOLUME","boot_index":1}]},"os:scheduler_hints":{"group":7}}`,
		`{"server":{"name":"x","imageRef":"IMAGE","flavorRef":"FLAVOR","networks":"auto","metadata":{"a":1},"security_groups":[7]}}`,
		`{"port":{"network_id":"NET","fixed_ips":[{"subnet_id":"SUBNET"},7],"allowed_address_pairs":[7],"security_groups":[7],"binding:profile":{"a":1}}}`, `{"port":{"fixed_ips":[{"ip_address":"10.0.0.7"}],"device_id":"x"}}`,
		`{"subnet":{"network_id":"NET","cidr":"10.3.0.0/24","ip_version":4,"gateway_ip":null,"allocation_pools":[{"start":"10.3.0.9","end":"10.3.0.5"}]}}`, `{"subnet":{"network_id":"NET","cidr":"0.0.0.0/0","ip_version":4}}`,
		`{"subnet":{"network_id":"NET","cidr":"fd00::/128","ip_version":6,"ipv6_address_mode":"slaac"}}`, `{"subnet":{"gateway_ip":"x","allocation_pools":[]}}`, `{"subnet":{"network_id":"NET","cidr":"10.4.0.0/32","ip_version":4}}`,
		`{"router":{"external_gateway_info":{"network_id":"PUBLIC","external_fixed_ips":[7]},"routes":[7]}}`, `{"router":{"external_gateway_info":7}}`, `{"subnet_id":"SUBNET"}`, `{"port_id":"PORT"}`, `{"floatingip":{"port_id":"PORT","floating_network_id":"PUBLIC"}}`,
		`{"security_group_rule":{"security_group_id":"GROUP","direction":"ingress","protocol":6,"port_range_min":"a"}}`, `{"quota":{"port":"x"}}`, `{"quota_set":{"cores":[]}}`, `{"tags":[7,"a"]}`,
		`{"resize":{"flavorRef":7}}`, `{"rebuild":null}`, `{"createImage":{"name":7}}`, `{"createBackup":{"rotation":1,"backup_type":"x","name":"b"}}`, `{"os-getConsoleOutput":{"length":-5}}`, `{"reboot":7}`, `{"rescue":7}`, `{"shelve":null}`,
		`{"os-extend":{"new_size":"9"}}`, `{"os-volume_upload_image":{"image_name":"x"}}`, `{"os-attach":{}}`, `{"os-update_readonly_flag":{"readonly":true}}`, `{"os-set_image_metadata":{"metadata":{"a":7}}}`,
		`{"snapshot":{"volume_id":"VOLUME","metadata":[]}}`, `{"backup":{"volume_id":"VOLUME","incremental":true}}`, `{"volume":{"imageRef":"IMAGE","display_name":7}}`, `{"volume_type":{"name":"t","extra_specs":7}}`,
		`[{"op":"add","path":"/tags","value":7}]`, `[{"op":"replace","path":"","value":{}}]`, `{"name":7,"tags":[7],"min_ram":"x"}`, `{"method":{"name":"glance-direct"}}`, `{"addTenantAccess":{"tenant":"DEMO"}}`, `{"project":{"name":"p","tags":7,"x":{}}}`,
		`{"user":{"name":"u","password":7,"enabled":"no"}}`, `{"application_credential":{"name":"a","roles":[7,{"name":"member"}],"expires_at":"x"}}`, `{"keypair":{"name":"k","public_key":"ssh-rsa AAAA"}}`, `{"server_group":{"name":"g","policy":"affinity","rules":7}}`,
	} {
		f.Add(s, "limit=1&marker=x&sort_key=id")
	}
	f.Fuzz(func(t *testing.T, body, query string) {
		c := newFuzzCloud(t)
		for _, route := range routes {
			method, path, _ := strings.Cut(route, " ")
			for _, user := range []string{"demo", "admin"} {
				if w := c.call(method, path, user, body); w.Code >= 500 && w.Code != http.StatusNotImplemented || w.Code < 100 {
					t.Fatalf("%s %s as %s of %q: %d %s", method, path, user, body, w.Code, w.Body)
				}
			}
		}
		for _, list := range []string{"/compute/v2.1/servers/detail", "/network/v2.0/ports", "/volume/v3/volumes/detail", "/image/v2/images", "/identity/v3/projects"} {
			if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) {
				return // not a query that can be sent
			}
			if w := c.call("GET", list+"?"+query, "admin", ""); w.Code >= 500 {
				t.Fatalf("GET %s?%s: %d %s", list, query, w.Code, w.Body)
			}
		}
	})
}

func FuzzFaultJSON(f *testing.F) {
	f.Add(`{"service":"compute","latency":"1s","late_by":"-1s"}`)
	f.Add(`{"path":"("}`)
	f.Fuzz(func(t *testing.T, text string) {
		var fault Fault
		if json.Unmarshal([]byte(text), &fault) != nil {
			return
		}
		raw, err := json.Marshal(fault)
		var again Fault
		if err != nil || json.Unmarshal(raw, &again) != nil || again != fault {
			t.Fatalf("%q came back as %+v, %v", text, again, err)
		}
	})
}
