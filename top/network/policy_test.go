package network_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
)

var update = flag.Bool("update", false, "write testdata/verdicts.json from the real region")

// verdict is what a Neutron said to a request that names an attribute.
type verdict struct {
	Status int    `json:"status"`
	Type   string `json:"type,omitempty"` // of a refusal
}

// asker sends a request as a "member" or an "admin" of another project.
type asker func(role, method, path string, in any) (int, object)

// named is one attribute of one kind of resource, with the values that are tried.
type named struct {
	path, one, name string
	values          []any
	base            object // of a create
	on              string // what an update changes; "" for none
	note            string // tells two rows of one attribute apart
}

// walker walks the attributes that Neutron's default policy knows.
type walker struct {
	t    *testing.T
	ask  asker
	made []string
	all  map[string]verdict
}

func (w *walker) make(role, path string, in object) string {
	w.t.Helper()
	status, out := w.ask(role, http.MethodPost, path, in)
	for _, v := range out {
		if one, ok := v.(object); ok && status == http.StatusCreated {
			w.made = append(w.made, path+"/"+text(one, "id"))
			return text(one, "id")
		}
	}
	w.t.Fatalf("POST %s as %s: %d %v", path, role, status, out)
	return ""
}

// walk tries everything with the site's own shared network and its external one, and removes what it made.
func walk(t *testing.T, ask asker, shared, sharedSub, external, externalSub string) map[string]verdict {
	t.Helper()
	w := &walker{t: t, ask: ask, all: map[string]verdict{}}
	net := w.make("member", "networks", object{"network": object{"name": "h3-walk"}})
	sub := w.make("member", "subnets", object{"subnet": object{"network_id": net, "ip_version": 4, "cidr": "10.199.0.0/24"}})
	port := w.make("member", "ports", object{"port": object{"network_id": net}})
	router := w.make("member", "routers", object{"router": object{"name": "h3-walk"}})
	there := w.make("member", "ports", object{"port": object{"network_id": shared}})
	rows := []named{
		{"networks", "network", "shared", []any{true, false}, object{}, net, ""},
		{"networks", "network", "router:external", []any{true, false}, object{}, net, ""},
		{"networks", "network", "is_default", []any{true, false}, object{}, net, ""},
		{"networks", "network", "provider:network_type", []any{"vxlan"}, object{}, net, ""},
		{"networks", "network", "provider:physical_network", []any{nil}, object{}, net, ""},
		{"networks", "network", "provider:segmentation_id", []any{777}, object{}, net, ""},
		{"networks", "network", "port_security_enabled", []any{false}, object{}, net, ""},
		{"networks", "network", "mtu", []any{1400}, object{}, net, ""},
		{"subnets", "subnet", "service_types", []any{[]any{}}, object{"network_id": net, "ip_version": 4, "cidr": "10.197.0.0/24"}, sub, ""},
		{"routers", "router", "distributed", []any{false, nil}, object{}, router, ""},
		{"routers", "router", "ha", []any{false, nil}, object{}, router, ""},
		{"floatingips", "floatingip", "floating_ip_address", []any{"198.51.100.9", nil}, object{"floating_network_id": external}, "", ""},
		{"floatingips", "floatingip", "subnet_id", []any{externalSub}, object{"floating_network_id": external}, "", ""},
	}
	for _, own := range []bool{true, false} {
		base, on, note, first := object{"network_id": net}, port, " own network", "10.199.0."
		subnet := sub
		if !own {
			base, on, note, first, subnet = object{"network_id": shared}, there, " shared network", "10.80.0.", sharedSub
		}
		for name, values := range map[string][]any{
			"device_owner": {"network:dhcp", "network:x", "compute:nova", "x"}, "mac_address": {"fa:16:3e:00:99:01"},
			"fixed_ips":             {[]any{object{"ip_address": first + "77"}}, []any{object{"subnet_id": subnet}}, []any{object{"subnet_id": subnet, "ip_address": first + "78"}}, []any{}},
			"port_security_enabled": {true, false}, "binding:host_id": {"h", ""}, "binding:profile": {object{"a": "b"}, object{}}, "binding:vnic_type": {"direct", "bla"},
			"allowed_address_pairs": {[]any{object{"ip_address": "1.2.3.4"}}, []any{}}, "extra_dhcp_opts": {[]any{object{"opt_name": "a", "opt_value": "b"}}},
			"device_id": {"x"}, "binding:vif_type": {"ovs"},
		} {
			rows = append(rows, named{"ports", "port", name, values, base, on, note})
		}
	}
	for _, info := range []object{
		{"enable_snat": true}, {"enable_snat": false}, {"external_fixed_ips": []any{object{"subnet_id": externalSub}}},
		{"external_fixed_ips": []any{object{"ip_address": "198.51.100.5"}}}, {"external_fixed_ips": []any{}}, {},
	} {
		info["network_id"] = external
		rows = append(rows, named{"routers", "router", "external_gateway_info", []any{info}, object{}, router, ""})
	}
	rows = append(rows, named{"routers", "router", "external_gateway_info", []any{object{}}, object{}, router, ""})
	names := strings.NewReplacer(external, "EXT", externalSub, "EXTSUB", sub, "SUB", sharedSub, "SHAREDSUB", "10.199.0.", "SUB.", "10.80.0.", "SHAREDSUB.")
	for _, r := range rows {
		for _, value := range r.values {
			shown, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			w.try(r, value, names.Replace(string(shown)))
		}
	}
	for i := len(w.made) - 1; i >= 0; i-- {
		if status, out := ask("admin", http.MethodDelete, w.made[i], nil); status != http.StatusNoContent {
			t.Errorf("DELETE %s: %d %v", w.made[i], status, out)
		}
	}
	return w.all
}

// try names one value in a create and in an update, as both.
func (w *walker) try(r named, value any, shown string) {
	for _, role := range []string{"member", "admin"} {
		in := object{r.name: value}
		for k, v := range r.base {
			in[k] = v
		}
		status, out := w.ask(role, http.MethodPost, r.path, object{r.one: in})
		w.note(fmt.Sprintf("POST %s%s %s=%s as %s", r.path, r.note, r.name, shown, role), status, out)
		if one, ok := out[r.one].(object); ok && status == http.StatusCreated {
			if status, out := w.ask("admin", http.MethodDelete, r.path+"/"+text(one, "id"), nil); status != http.StatusNoContent {
				w.t.Errorf("DELETE %s: %d %v", r.path, status, out)
			}
		}
	}
	if r.on == "" {
		return
	}
	for _, role := range []string{"member", "admin"} {
		_, was := w.ask("admin", http.MethodGet, r.path+"/"+r.on, nil)
		before, _ := was[r.one].(object)
		status, out := w.ask(role, http.MethodPut, r.path+"/"+r.on, object{r.one: object{r.name: value}})
		w.note(fmt.Sprintf("PUT %s%s %s=%s as %s", r.path, r.note, r.name, shown, role), status, out)
		back := before[r.name]
		if r.name == "external_gateway_info" {
			back = object{}
		}
		if status == http.StatusOK && (back != nil || r.name == "device_id") {
			w.ask("admin", http.MethodPut, r.path+"/"+r.on, object{r.one: object{r.name: back}})
		}
	}
}

func (w *walker) note(what string, status int, out object) {
	v := verdict{Status: status}
	if e, ok := out["NeutronError"].(object); ok && status == http.StatusForbidden {
		v.Type = text(e, "type")
	}
	w.all[what] = v
}

const verdictFile = "testdata/verdicts.json"

func recorded(t *testing.T) map[string]verdict {
	t.Helper()
	raw, err := os.ReadFile(verdictFile)
	all := map[string]verdict{}
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The verdicts of the file are those of a real Neutron with its default policy.
func TestRealVerdicts(t *testing.T) {
	t.Parallel()
	if os.Getenv("HEADWATER_REALCLOUD") == "" {
		t.Skip("HEADWATER_REALCLOUD is not set: no real region to test on")
	}
	at := accounts(t, "east", "east", "http://127.0.1.1:5000/v3")
	shared := provider(t, at, "h3-provider", "10.80.0.0/24")
	ask := func(role, method, path string, in any) (int, object) {
		return at.raw(t, map[string]string{"member": "demo", "admin": "admin"}[role], method, path, in)
	}
	status, out := ask("admin", http.MethodGet, "subnets?network_id="+string(shared), nil)
	subs, _ := out["subnets"].([]any)
	if status != http.StatusOK || len(subs) != 1 {
		t.Fatalf("subnets of the shared network: %d %v", status, out)
	}
	got := walk(t, ask, string(shared), text(subs[0].(object), "id"),
		string(at.caps.ExternalNetworks[0].ID), sites.Object{Body: at.caps.ExternalNetworks[0].Subnets[0]}.Text("id"))
	if *update {
		raw, err := json.MarshalIndent(got, "", " ")
		if err == nil {
			err = os.WriteFile(verdictFile, append(raw, '\n'), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	want := recorded(t)
	for what, v := range got {
		if v != want[what] {
			t.Errorf("%s: the region says %v, the file %v", what, v, want[what])
		}
	}
}

// raw sends a request straight to the site's Neutron.
func (at *site) raw(t *testing.T, user, method, path string, in any) (int, object) {
	t.Helper()
	if at.tokens == nil {
		at.tokens = map[string]string{}
	}
	if at.tokens[user] == "" {
		login := object{"auth": object{
			"identity": object{"methods": []string{"password"}, "password": object{"user": object{"name": user, "domain": object{"id": "default"}, "password": "secret"}}},
			"scope":    object{"project": object{"name": user, "domain": object{"id": "default"}}},
		}}
		_, h, _ := send(t, "", http.MethodPost, at.authURL+"/auth/tokens", login)
		at.tokens[user] = h.Get("X-Subject-Token")
	}
	base := strings.TrimSuffix(strings.TrimSuffix(at.caps.Services[sites.NetworkSvc].URL, "/"), "/v2.0")
	status, _, out := send(t, at.tokens[user], method, base+"/v2.0/"+path, in)
	return status, out
}

func send(t *testing.T, token, method, url string, in any) (int, http.Header, object) {
	t.Helper()
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var out object
	if resp.StatusCode != http.StatusNoContent {
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatalf("%s %s: %d, %v", method, url, resp.StatusCode, err)
		}
	}
	return resp.StatusCode, resp.Header, out
}
