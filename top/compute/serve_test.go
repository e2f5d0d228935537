package compute_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/compute"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// tokens are "ROLE:PROJECT".
type tokens struct{}

func (tokens) Validate(_ context.Context, text string) (*identity.Token, error) {
	role, project, ok := strings.Cut(text, ":")
	if !ok {
		return nil, fault.New(fault.Unauthorized, "test", "no such token")
	}
	return &identity.Token{
		User: identity.Ref{ID: "user-of-" + project, Name: "user", DomainID: "default"}, Project: &identity.Ref{ID: project, Name: project, DomainID: "default"},
		Roles: []identity.Ref{{ID: role, Name: role}},
	}, nil
}

// api is Top's Nova over a stack.
type api struct {
	t     testing.TB
	stack *cascadetest.Stack
	echo  *echo.Echo
}

func newAPI(t testing.TB, stack *cascadetest.Stack) *api {
	t.Helper()
	return apiOf(t, stack, stack.Compute)
}

func apiOf(t testing.TB, stack *cascadetest.Stack, service *engine.Service) *api {
	t.Helper()
	policy, err := auth.NewPolicy(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		faultjson.Write(c.Response(), faultjson.Asked{Service: faultjson.Compute, RequestID: "req-1"}, err)
	}
	h := compute.New(compute.Config{Service: service, Auth: auth.New(tokens{}, policy)})
	h.Routes(e.Group("/compute"))
	return &api{t: t, stack: stack, echo: e}
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   map[string]any
	raw    []byte
}

// ask makes one request as "ROLE:PROJECT" at a microversion ("" sends none).
func (a *api) ask(token, version, method, path string, body any) answer {
	a.t.Helper()
	var reader io.Reader
	if text, ok := body.(string); ok {
		reader = strings.NewReader(text)
	} else if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			a.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	r := httptest.NewRequest(method, "http://top/compute"+path, reader)
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	if version != "" {
		r.Header.Set("OpenStack-API-Version", "compute "+version)
	}
	w := httptest.NewRecorder()
	a.echo.ServeHTTP(w, r)
	out := answer{code: w.Code, header: w.Header(), raw: w.Body.Bytes()}
	if w.Body.Len() > 0 && w.Body.Bytes()[0] == '{' {
		if err := json.Unmarshal(w.Body.Bytes(), &out.body); err != nil {
			a.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return out
}

func TestCreateShowDelete(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	img, net, flavor := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"), s.Flavor(t)
	const me = "member:p1"
	made := a.ask(me, "2.93", "POST", "/v2.1/servers", map[string]any{"server": map[string]any{
		"name": "web", "imageRef": img.ID, "flavorRef": flavor.ID, "networks": []any{map[string]any{"uuid": net.ID}}, "metadata": map[string]any{"a": "b"},
		"block_device_mapping_v2": []any{map[string]any{"uuid": img.ID, "boot_index": 0, "source_type": "image", "destination_type": "local", "delete_on_termination": true}},
		"min_count":               1, "max_count": 1, "tags": []any{"t1"}, "availability_zone": "east",
	}})
	if made.code != 202 {
		t.Fatalf("create: %d %s", made.code, made.raw)
	}
	server := made.body["server"].(map[string]any)
	id := server["id"].(string)
	if at := made.header.Get("Location"); at != "http://top/compute/v2.1/servers/"+id || server["adminPass"] == "" {
		t.Errorf("create: Location %q, body %s", at, made.raw)
	}
	s.Await(t, who, ident.TopID(id), "ACTIVE")

	shown := a.ask(me, "2.93", "GET", "/v2.1/servers/"+id, nil).body["server"].(map[string]any)
	for key, want := range map[string]any{
		"status": "ACTIVE", "OS-EXT-AZ:availability_zone": "east", "OS-EXT-STS:vm_state": "active", "OS-EXT-STS:task_state": nil, "locked": false,
		"tenant_id": "p1", "description": nil, "key_name": nil,
	} {
		if got, ok := shown[key]; !ok || got != want {
			t.Errorf("%s: got %v (there: %v), want %v", key, got, ok, want)
		}
	}
	if ip := shown["addresses"].(map[string]any)["net"].([]any)[0].(map[string]any); ip["version"] != 4.0 || ip["OS-EXT-IPS:type"] != "fixed" {
		t.Errorf("addresses: %v", shown["addresses"])
	}
	if f := shown["flavor"].(map[string]any); f["original_name"] != flavor.Name {
		t.Errorf("flavor: %v", f)
	}
	for _, tt := range []struct {
		version string
		member  string
		there   bool
	}{{"2.8", "locked", false}, {"2.9", "locked", true}, {"2.25", "tags", false}, {"2.26", "tags", true}, {"2.70", "server_groups", false}, {"2.71", "server_groups", true}, {"2.72", "locked_reason", false}, {"2.73", "locked_reason", true}} {
		one := a.ask(me, tt.version, "GET", "/v2.1/servers/"+id, nil).body["server"].(map[string]any)
		if _, ok := one[tt.member]; ok != tt.there {
			t.Errorf("%s at %s: there %v, want %v", tt.member, tt.version, ok, tt.there)
		}
	}
	if got := a.ask(me, "", "GET", "/v2.1/p1/servers/"+id, nil); got.code != 200 || got.header.Get("X-OpenStack-Nova-API-Version") != "2.1" {
		t.Errorf("with the project in the path: %d, %v", got.code, got.header)
	}
	if got := a.ask(me, "", "DELETE", "/v2.1/servers/"+id, nil); got.code != 204 {
		t.Errorf("delete: %d %s", got.code, got.raw)
	}
	cascadetest.Until(t, "404", func() (any, bool) {
		got := a.ask(me, "", "GET", "/v2.1/servers/"+id, nil)
		return string(got.raw), got.code == 404
	})
}

// The forms in which Nova refuses, each with its own error body.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	server := "/v2.1/servers/" + string(one.ID)
	for _, tt := range []struct {
		name, token, version, method, path string
		body                               any
		code                               int
		outer                              string
	}{
		{"no token", "", "", "GET", "/v2.1/servers", nil, 401, "error"},
		{"malformed version", "member:p1", "banana", "GET", "/v2.1/servers", nil, 400, "badRequest"},
		{"version outside the window", "member:p1", "2.9999", "GET", "/v2.1/servers", nil, 406, ""},
		{"another project's server", "member:p2", "", "GET", server, nil, 404, "itemNotFound"},
		{"another project's server, to delete", "member:p2", "", "DELETE", server, nil, 404, "itemNotFound"},
		{"a reader's delete", "reader:p1", "", "DELETE", server, nil, 403, "forbidden"},
		{"a reader's action", "reader:p1", "", "POST", server + "/action", `{"os-stop":null}`, 403, "forbidden"},
		{"all tenants for a member", "member:p1", "", "GET", "/v2.1/servers?all_tenants=1", nil, 403, "forbidden"},
		{"no JSON", "member:p1", "", "POST", "/v2.1/servers", `{"server":`, 400, "badRequest"},
		{"wrong type", "member:p1", "", "POST", "/v2.1/servers", `{"server":{"name":7}}`, 400, "badRequest"},
		{"no flavor", "member:p1", "", "POST", "/v2.1/servers", `{"server":{"name":"x"}}`, 400, "badRequest"},
		{"networks needed since 2.37", "member:p1", "2.37", "POST", "/v2.1/servers", `{"server":{"name":"x","flavorRef":"1","imageRef":"y"}}`, 400, "badRequest"},
		{"no server", "member:p1", "", "POST", "/v2.1/servers", `{"server":{"name":"x","flavorRef":"1","imageRef":"y","min_count":0}}`, 400, "badRequest"},
		{"no server at most", "member:p1", "", "POST", "/v2.1/servers", `{"server":{"name":"x","flavorRef":"1","imageRef":"y","max_count":0}}`, 400, "badRequest"},
		{"a blank for a public key", "member:p1", "", "POST", "/v2.1/os-keypairs", `{"keypair":{"name":"blank","public_key":" "}}`, 400, "badRequest"},
		{"interface with a member beside it", "member:p1", "", "POST", server + "/os-interface", `{"interfaceAttachment":{},"colour":"red"}`, 400, "badRequest"},
		{"interface with an unknown member", "member:p1", "2.93", "POST", server + "/os-interface", `{"interfaceAttachment":{"colour":"red"}}`, 400, "badRequest"},
		{"interface with a tag before 2.49", "member:p1", "2.48", "POST", server + "/os-interface", `{"interfaceAttachment":{"tag":"red"}}`, 400, "badRequest"},
		{"interface with an address without its member", "member:p1", "2.93", "POST", server + "/os-interface", `{"interfaceAttachment":{"net_id":"6bf03325-1a49-44af-b1df-27facd99cbde","fixed_ips":[{}]}}`, 400, "badRequest"},
		{"an unknown aggregate, to delete", "admin:ops", "", "DELETE", "/v2.1/os-aggregates/999", nil, 404, "itemNotFound"},
		{"a site as an aggregate, to delete", "admin:ops", "", "DELETE", "/v2.1/os-aggregates/east", nil, 409, "conflictingRequest"},
		{"an unknown service, to change", "admin:ops", "2.53", "PUT", "/v2.1/os-services/nothing", `{"status":"disabled"}`, 404, "itemNotFound"},
		{"unshelve at a host", "member:p1", "2.91", "POST", server + "/action", `{"unshelve":{"host":"west"}}`, 400, "badRequest"},
		{"clear the password", "member:p1", "", "DELETE", server + "/os-server-password", nil, 204, ""},
		{"unknown action", "member:p1", "", "POST", server + "/action", `{"dance":null}`, 400, "badRequest"},
		{"two actions", "member:p1", "", "POST", server + "/action", `{"pause":null,"suspend":null}`, 400, "badRequest"},
		{"action in a wrong state", "member:p1", "", "POST", server + "/action", `{"unpause":null}`, 409, "conflictingRequest"},
		{"unknown query since 2.75", "member:p1", "2.75", "GET", "/v2.1/servers?colour=red", nil, 400, "badRequest"},
		{"unknown query before 2.75", "member:p1", "2.74", "GET", "/v2.1/servers?colour=red", nil, 200, "servers"},
		{"negative limit", "member:p1", "", "GET", "/v2.1/servers?limit=-1", nil, 400, "badRequest"},
		{"unknown marker", "member:p1", "", "GET", "/v2.1/servers?marker=x", nil, 400, "badRequest"},
		{"tags before 2.26", "member:p1", "2.25", "GET", server + "/tags", nil, 404, "itemNotFound"},
		{"a member makes a flavor", "member:p1", "", "POST", "/v2.1/flavors", `{"flavor":{"name":"x","ram":1,"vcpus":1,"disk":1}}`, 403, "forbidden"},
		{"hypervisors for a member", "member:p1", "", "GET", "/v2.1/os-hypervisors", nil, 403, "forbidden"},
		{"another project's quota", "member:p1", "", "GET", "/v2.1/os-quota-sets/p2", nil, 403, "forbidden"},
		{"another project in the path", "member:p1", "", "GET", "/v2.1/p2/servers", nil, 400, "badRequest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.ask(tt.token, tt.version, tt.method, tt.path, tt.body)
			if got.code != tt.code {
				t.Fatalf("got %d %s, want %d", got.code, got.raw, tt.code)
			}
			if _, ok := got.body[tt.outer]; tt.outer != "" && !ok {
				t.Errorf("body %s lacks %s", got.raw, tt.outer)
			}
		})
	}
}

// A walk in pages sees every server once and each link leads back to Top.
func TestPages(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.Idle())
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	seed(t, s, who, 7)
	seen := map[string]bool{}
	next := "/v2.1/servers/detail?limit=3&sort_key=display_name&sort_dir=asc"
	for next != "" {
		got := a.ask("reader:p1", "2.1", "GET", next, nil)
		if got.code != 200 {
			t.Fatalf("%s: %d %s", next, got.code, got.raw)
		}
		for _, one := range got.body["servers"].([]any) {
			name := one.(map[string]any)["name"].(string)
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		next = ""
		if links, ok := got.body["servers_links"].([]any); ok {
			next = strings.TrimPrefix(links[0].(map[string]any)["href"].(string), "http://top/compute")
		}
	}
	if len(seen) != 7 {
		t.Errorf("saw %d servers, want 7", len(seen))
	}
	for query, want := range map[string]int{"limit=0": 0, "limit=0&status=ACTIVE": 0, "status=ACTIVE": 7, "status=nonsense": 0, "name=s-[12]": 2, "uuid=x": 7, "sort_key=created_at&sort_dir=asc&limit=2": 2} {
		if got := a.ask("member:p1", "2.1", "GET", "/v2.1/servers?"+query, nil); got.code != 200 || len(got.body["servers"].([]any)) != want {
			t.Errorf("%s: %d with %d servers, want %d", query, got.code, len(got.body["servers"].([]any)), want)
		}
	}
	if got := a.ask("admin:other", "2.1", "GET", "/v2.1/servers?all_tenants=1&name=^s-3$", nil); len(got.body["servers"].([]any)) != 1 {
		t.Errorf("an administrator's search: %s", got.raw)
	}
}

// Nova keeps an address of IPv6 in its canonical form, whatever the tenant wrote.
func TestAccessAddress(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	img, net := s.NewImage(t, cascadetest.Member("p1"), "img"), s.NewNetwork(t, cascadetest.Member("p1"), "net", "10.0.0.0/24")
	got := a.ask("member:p1", "", "POST", "/v2.1/servers", map[string]any{"server": map[string]any{"name": "x", "flavorRef": s.Flavor(t).ID, "imageRef": img.ID,
		"networks": []map[string]any{{"uuid": net.ID}}, "accessIPv6": "0000:0000:0000:0000:0000:babe:220.12.22.2", "accessIPv4": "10.1.2.3"}})
	if got.code != 202 {
		t.Fatalf("%d %s", got.code, got.raw)
	}
	id := got.body["server"].(map[string]any)["id"].(string)
	shown := a.ask("member:p1", "", "GET", "/v2.1/servers/"+id, nil).body["server"].(map[string]any)
	if shown["accessIPv6"] != "::babe:dc0c:1602" || shown["accessIPv4"] != "10.1.2.3" {
		t.Errorf("addresses: %v %v", shown["accessIPv6"], shown["accessIPv4"])
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, nil, cascadetest.Idle())
	a := newAPI(t, s)
	for _, path := range []string{"", "/"} {
		if got := a.ask("", "", "GET", path, nil); got.code != 200 || got.body["versions"].([]any)[1].(map[string]any)["version"] != "2.93" {
			t.Errorf("GET /compute%s: %d %s", path, got.code, got.raw)
		}
		if got := a.ask("", "", "GET", "/v2.1"+path, nil); got.code != 200 || got.body["version"].(map[string]any)["id"] != "v2.1" {
			t.Errorf("GET /compute/v2.1%s: %d %s", path, got.code, got.raw)
		}
		if got := a.ask("", "", "GET", "/v2"+path, nil); got.code != 200 || got.body["version"].(map[string]any)["id"] != "v2.0" {
			t.Errorf("GET /compute/v2%s: %d %s", path, got.code, got.raw)
		}
	}
	// Nova lists 2.0 first; what is below it is 2.1 without microversions.
	if got := a.ask("member:p1", "2.93", "GET", "/v2/p1/servers/detail", nil); got.code != 200 || got.body["servers"] == nil {
		t.Errorf("servers of v2: %d %s", got.code, got.raw)
	}
	if got := a.ask("", "", "GET", "/v2/servers", nil); got.code != 401 {
		t.Errorf("servers of v2 without a token: %d %s", got.code, got.raw)
	}
	if got := a.ask("member:p1", "", "GET", "/v2/nothing", nil); got.code != 404 {
		t.Errorf("an unknown path of v2: %d %s", got.code, got.raw)
	}
}

// downFor shows every site as down for some time.
type downFor struct {
	*registry.Registry
	d time.Duration
}

// Sites returns the sites, all down.
func (r downFor) Sites(ctx context.Context) ([]registry.Site, error) {
	all, err := r.Registry.Sites(ctx)
	all = slices.Clone(all)
	for i := range all {
		all[i].Health = registry.Health{State: registry.Down, Reason: "test", Since: time.Now().Add(-r.d), CheckedAt: time.Now()}
	}
	return all, err
}

// A server at a site that is down for long has a status that nobody knows (2.69); before, and for a while, the last seen one.
func TestUnknownWhenTheSiteIsDown(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	for _, tt := range []struct {
		down          time.Duration
		version, want string
	}{{time.Second, "2.69", "ACTIVE"}, {time.Hour, "2.68", "ACTIVE"}, {time.Hour, "2.69", "UNKNOWN"}} {
		a := apiOf(t, s, engine.New(engine.Config{Core: s.Core, Placer: s.Placer, Registry: downFor{s.Registry, tt.down}, Ports: s.Network, Networks: s.Network}))
		for _, path := range []string{"/v2.1/servers/" + string(one.ID), "/v2.1/servers/detail"} {
			got := a.ask("member:p1", tt.version, "GET", path, nil)
			shown, ok := got.body["server"].(map[string]any)
			if !ok {
				shown = got.body["servers"].([]any)[0].(map[string]any)
			}
			if shown["status"] != tt.want || got.header.Get("X-Headwater-Freshness") == "" {
				t.Errorf("%s at %s, down for %v: status %v, freshness %q; want %s", path, tt.version, tt.down, shown["status"], got.header.Get("X-Headwater-Freshness"), tt.want)
			}
		}
	}
}
