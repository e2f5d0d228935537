package faults

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/server"
)

var update = flag.Bool("update", false, "rewrite testdata/routes.txt with what was answered")

// The parts of fixtures' names by which they are recognised in an answer.
const private = "alices-own"

// estate is one thing of each kind in a project, and who may come to it.
type estate struct {
	*world
	ids     map[string]string // by what a path calls it
	callers map[string]*topproc.Client
}

func newEstate(t *testing.T, cfg topproc.Config) *estate {
	t.Helper()
	cfg.LogLevel = "debug"
	e := &estate{world: newWorld(t, cfg, "east"), ids: map[string]string{}}
	name := func(kind string) string { return private + "-" + kind }
	volumes := "/volume/v3/" + e.tenant.ProjectID
	net := e.create(t, "/network/v2.0/networks", "network", object{"name": name("network")})
	subnet := e.create(t, "/network/v2.0/subnets", "subnet", object{"name": name("subnet"), "network_id": net, "ip_version": 4, "cidr": "10.8.0.0/24"})
	group := e.create(t, "/network/v2.0/security-groups", "security_group", object{"name": name("group")})
	volume := e.create(t, volumes+"/volumes", "volume", object{"name": name("volume"), "size": 1, "metadata": object{"k": private}})
	e.quiet(t, settled)
	e.create(t, "/compute/v2.1/os-keypairs", "keypair", object{"name": name("key")})
	maps.Copy(e.ids, map[string]string{
		"networks": net, "subnets": subnet, "security-groups": group, "volumes": volume,
		"ports":                e.create(t, "/network/v2.0/ports", "port", object{"name": name("port"), "network_id": net}),
		"routers":              e.create(t, "/network/v2.0/routers", "router", object{"name": name("router")}),
		"floatingips":          e.create(t, "/network/v2.0/floatingips", "floatingip", object{"description": name("fip"), "floating_network_id": e.public}),
		"security-group-rules": e.create(t, "/network/v2.0/security-group-rules", "security_group_rule", object{"security_group_id": group, "direction": "ingress", "description": name("rule")}),
		"snapshots":            e.create(t, volumes+"/snapshots", "snapshot", object{"volume_id": volume, "name": name("snapshot"), "metadata": object{"k": private}}),
		"images":               e.create(t, "/image/v2/images", "", object{"name": name("image"), "disk_format": "raw", "container_format": "bare", "visibility": "private"}),
		"servers":              e.create(t, "/compute/v2.1/servers", "server", with(e.serverBody(name("server"), net, "east"), "metadata", object{"k": private})),
		"os-server-groups":     e.create(t, "/compute/v2.1/os-server-groups", "server_group", object{"name": name("servergroup"), "policies": []string{"affinity"}}),
		"os-keypairs":          name("key"), "flavors": e.flavor, "projects": e.tenant.ProjectID, "users": e.tenant.UserID,
		"domains": "default", "regions": "east", "extensions": "os-keypairs", "schemas": "image", "os-aggregates": "1", "sites": "east",
	})
	e.awaitServer(t, e.ids["servers"])
	e.callers = map[string]*topproc.Client{
		"nobody": {URL: e.URL, HTTP: e.tenant.HTTP},
		"other":  e.NewTenant(t, "others", "bob", "member"),
		"reader": e.NewTenant(t, "demo", "rita", "reader"),
		"member": e.tenant,
		"admin":  e.Admin(t),
	}
	return e
}

var parameter = regexp.MustCompile(`:[a-z_]+`)

// fill puts ids for a route's parameters: the estate's own, or ids of nothing.
func (e *estate) fill(path string, own bool) string {
	for {
		at := parameter.FindStringIndex(path)
		if at == nil {
			return path
		}
		before := strings.Split(strings.TrimSuffix(path[:at[0]], "/"), "/")
		what := before[len(before)-1]
		value, known := e.ids[what]
		switch name := path[at[0]:at[1]]; {
		case name == ":key", name == ":tag":
			value = "k"
		case what == "v3" || name == ":target" || name == ":project" || strings.HasPrefix(what, "os-quota") || what == "os-simple-tenant-usage":
			value = e.tenant.ProjectID
		case !known || !own:
			value = ident.NewUUID()
		}
		path = path[:at[0]] + value + path[at[1]:]
	}
}

// bodies are requests that would succeed, so that only the caller's role can be what refuses them.
func (e *estate) bodies() map[string]object {
	return map[string]object{
		"POST /compute/v2.1/servers":                                  {"server": e.serverBody("x", e.ids["networks"], "")},
		"PUT /compute/v2.1/servers/:id":                               {"server": object{"name": "x"}},
		"POST /compute/v2.1/servers/:id/action":                       {"os-stop": nil},
		"POST /compute/v2.1/servers/:id/metadata":                     {"metadata": object{"a": "b"}},
		"PUT /compute/v2.1/servers/:id/metadata":                      {"metadata": object{"a": "b"}},
		"PUT /compute/v2.1/servers/:id/metadata/:key":                 {"meta": object{"k": "b"}},
		"POST /compute/v2.1/servers/:id/os-interface":                 {"interfaceAttachment": object{"net_id": e.ids["networks"]}},
		"POST /compute/v2.1/servers/:id/os-volume_attachments":        {"volumeAttachment": object{"volumeId": e.ids["volumes"]}},
		"POST /compute/v2.1/os-keypairs":                              {"keypair": object{"name": "x"}},
		"POST /compute/v2.1/os-server-groups":                         {"server_group": object{"name": "x", "policies": []string{"affinity"}}},
		"POST /compute/v2.1/flavors":                                  {"flavor": object{"name": "x", "ram": 64, "vcpus": 1, "disk": 1}},
		"POST /image/v2/images":                                       {"name": "x", "disk_format": "raw", "container_format": "bare"},
		"POST /image/v2/images/:image/members":                        {"member": e.callers["other"].ProjectID},
		"POST /network/v2.0/networks":                                 {"network": object{"name": "x"}},
		"PUT /network/v2.0/networks/:id":                              {"network": object{"name": "x"}},
		"POST /network/v2.0/subnets":                                  {"subnet": object{"network_id": e.ids["networks"], "ip_version": 4, "cidr": "10.1.0.0/24"}},
		"PUT /network/v2.0/subnets/:id":                               {"subnet": object{"name": "x"}},
		"POST /network/v2.0/ports":                                    {"port": object{"network_id": e.ids["networks"]}},
		"PUT /network/v2.0/ports/:id":                                 {"port": object{"name": "x"}},
		"POST /network/v2.0/routers":                                  {"router": object{"name": "x"}},
		"PUT /network/v2.0/routers/:id":                               {"router": object{"name": "x"}},
		"PUT /network/v2.0/routers/:id/add_router_interface":          {"subnet_id": e.ids["subnets"]},
		"PUT /network/v2.0/routers/:id/remove_router_interface":       {"subnet_id": e.ids["subnets"]},
		"POST /network/v2.0/floatingips":                              {"floatingip": object{"floating_network_id": e.public}},
		"PUT /network/v2.0/floatingips/:id":                           {"floatingip": object{"port_id": e.ids["ports"]}},
		"POST /network/v2.0/security-groups":                          {"security_group": object{"name": "x"}},
		"PUT /network/v2.0/security-groups/:id":                       {"security_group": object{"name": "x"}},
		"POST /network/v2.0/security-group-rules":                     {"security_group_rule": object{"security_group_id": e.ids["security-groups"], "direction": "ingress"}},
		"PUT /network/v2.0/quotas/:project":                           {"quota": object{"port": 1}},
		"POST /volume/v3/:project/volumes":                            {"volume": object{"size": 1}},
		"PUT /volume/v3/:project/volumes/:id":                         {"volume": object{"name": "x"}},
		"POST /volume/v3/:project/volumes/:id/action":                 {"os-extend": object{"new_size": 2}},
		"POST /volume/v3/:project/volumes/:id/metadata":               {"metadata": object{"a": "b"}},
		"POST /volume/v3/:project/snapshots":                          {"snapshot": object{"volume_id": e.ids["volumes"]}},
		"POST /volume/v3/:project/snapshots/:id/action":               {"os-reset_status": object{"status": "error"}},
		"PUT /volume/v3/:project/snapshots/:id":                       {"snapshot": object{"name": "x"}},
		"POST /identity/v3/projects":                                  {"project": object{"name": "x"}},
		"PUT /identity/v3/projects/:project/tags":                     {"tags": []string{"x"}},
		"PATCH /identity/v3/projects/:project":                        {"project": object{"name": "x"}},
		"POST /identity/v3/users":                                     {"user": object{"name": "x", "password": "y"}},
		"PATCH /identity/v3/users/:user":                              {"user": object{"name": "x"}},
		"POST /identity/v3/domains":                                   {"domain": object{"name": "x"}},
		"POST /identity/v3/groups":                                    {"group": object{"name": "x"}},
		"POST /identity/v3/roles":                                     {"role": object{"name": "x"}},
		"POST /identity/v3/users/:user/application_credentials":       {"application_credential": object{"name": "x"}},
		"POST /identity/v3/users/:user/password":                      {"user": object{"password": "a", "original_password": "b"}},
		"POST /compute/v2.1/servers/:id/remote-consoles":              {"remote_console": object{"protocol": "vnc", "type": "novnc"}},
		"PUT /compute/v2.1/os-quota-sets/:id":                         {"quota_set": object{"cores": 1}},
		"PUT /volume/v3/:project/os-quota-sets/:target":               {"quota_set": object{"volumes": 1}},
		"POST /volume/v3/:project/types":                              {"volume_type": object{"name": "x"}},
		"POST /volume/v3/:project/types/:id/action":                   {"addProjectAccess": object{"project": ident.NewUUID()}},
		"PUT /compute/v2.1/flavors/:id":                               {"flavor": object{"description": "x"}},
		"POST /compute/v2.1/flavors/:id/os-extra_specs":               {"extra_specs": object{"hw:x": "y"}},
		"PUT /network/v2.0/routers/:id/add_extraroutes":               {"router": object{"routes": []object{{"destination": "10.3.0.0/24", "nexthop": "10.8.0.7"}}}},
		"POST /compute/v2.1/os-aggregates":                            {"aggregate": object{"name": "x"}},
		"PUT /image/v2/images/:image/members/:member":                 {"status": "accepted"},
		"PUT /network/v2.0/ports/:id/tags/:tag":                       {},
		"PUT /compute/v2.1/servers/:id/os-volume_attachments/:volume": {"volumeAttachment": object{"volumeId": e.ids["volumes"]}},
	}
}

// Every route of every service is asked by no one, by a member of another project with ids of this one, by a reader,
// a member and the administrator. A route that is not in testdata/routes.txt fails: write down who may have it
// (-update does, read the difference). What holds for every route is asserted besides.
func TestIsolation(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	e := newEstate(t, topproc.Config{})
	bodies := e.bodies()
	var lines []string
	for _, r := range routes() {
		line := []string{r.Method + " " + r.Path}
		for _, who := range []string{"nobody", "other", "reader", "member", "admin"} {
			line = append(line, word(e.visit(t, r, who, bodies[longForm(r)])))
		}
		lines = append(lines, strings.Join(line, " "))
	}
	e.compare(t, lines)
	if got := e.states(t, kinds()[0].of(e.world)); got[e.ids["servers"]] == "" {
		t.Error("the server is gone")
	}
}

// longForm is a route as bodies has it: Cinder's paths are spelled with the project and without.
func longForm(r server.Route) string {
	if rest, ok := strings.CutPrefix(r.Path, "/volume/v3/"); ok && !strings.HasPrefix(rest, ":project") {
		return r.Method + " /volume/v3/:project/" + rest
	}
	return r.Method + " " + r.Path
}

// word is what an answer says of the caller's rights. Most 4xx say that the caller may, and that its request is wrong.
func word(status int) string {
	switch {
	case status/100 == 2 || status == http.StatusMultipleChoices:
		return "ok"
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound || status >= 500:
		return fmt.Sprint(status)
	default:
		return "may"
	}
}

// visit makes one request and asserts what holds for its caller on every route.
func (e *estate) visit(t *testing.T, r server.Route, who string, body object) int {
	t.Helper()
	key := r.Method + " " + r.Path
	// Those who may do it ask with nothing to change: the estate stays as it is for the next.
	allowed := who == "member" || who == "admin"
	path := e.fill(r.Path, !allowed || r.Method != http.MethodDelete)
	if body == nil || allowed {
		body = object{}
	}
	var sent any
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodDelete {
		sent = body
	}
	header := []string{"OpenStack-API-Version: volume 3.70"} // the newest; compute's oldest, which has the most routes
	switch key {
	case "PATCH /image/v2/images/:image":
		sent = `[{"op":"replace","path":"/min_ram","value":1}]`
		header = append(header, "Content-Type: application/openstack-images-v2.1-json-patch")
	case "POST /image/v2/images/:image/actions/deactivate", "POST /image/v2/images/:image/actions/reactivate", "PUT /image/v2/images/:image/tags/:tag":
		sent = nil // Glance takes none
	case "PUT /image/v2/images/:image/file":
		sent = []byte("bytes")
	}
	a, err := e.callers[who].Do(t.Context(), r.Method, path, sent, header...)
	if err != nil {
		t.Errorf("%s as %s: %v", key, who, err)
		return 0
	}
	if a.Status >= 500 && a.Status != http.StatusNotImplemented && a.Status != http.StatusServiceUnavailable {
		t.Errorf("%s as %s: %d %s", key, who, a.Status, a.Text)
	}
	switch who {
	case "nobody":
		if a.Status != http.StatusUnauthorized && !public(key) {
			t.Errorf("%s as nobody: %d %.200s", key, a.Status, a.Text)
		}
	case "other":
		e.visitOther(t, r, path, sent, a, header...)
	case "reader":
		if a.OK() && sent != nil && !ownAffair(key) {
			t.Errorf("%s as reader: %d %.200s", key, a.Status, a.Text)
		}
		if len(body) > 0 && sent != nil && a.Status != http.StatusForbidden && !ownAffair(key) {
			t.Errorf("%s as reader, with a body that a member may send: %d %.200s; want 403", key, a.Status, a.Text)
		}
	}
	return a.Status
}

// visitOther asserts that to another project this one's things are as if they were not there.
func (e *estate) visitOther(t *testing.T, r server.Route, path string, sent any, a topproc.Answer, header ...string) {
	t.Helper()
	key := r.Method + " " + r.Path
	if strings.Contains(a.Text, private) && !strings.Contains(path, private) {
		t.Errorf("%s shows another project %.300s", key, a.Text)
	}
	for what, id := range e.ids {
		if strings.Contains(a.Text, id) && !strings.Contains(path+fmt.Sprint(sent), id) && len(id) >= 32 && what != "flavors" {
			t.Errorf("%s shows another project the id of %s: %.300s", key, what, a.Text)
		}
	}
	mine := path != e.fillShared(r.Path)
	if !mine || sharedBy(key) {
		return
	}
	if a.OK() {
		t.Errorf("%s as another project: %d %.200s", key, a.Status, a.Text)
	}
	nothing, err := e.callers["other"].Do(t.Context(), r.Method, e.fill(r.Path, false), sent, header...)
	if err != nil || nothing.Status != a.Status {
		t.Errorf("%s as another project: %d for what is there, %d for what is not: it tells that it exists", key, a.Status, nothing.Status)
	}
}

// fillShared is fill for paths without an id of the project's own; the same as the path when there is none in it.
func (e *estate) fillShared(path string) string { return parameter.ReplaceAllString(path, "") }

// public are the routes that need no token.
func public(key string) bool {
	_, path, _ := strings.Cut(key, " ")
	switch strings.TrimSuffix(path, "/") {
	case "/compute", "/compute/v2", "/compute/v2.1", "/identity", "/identity/v3", "/image", "/image/v2", "/image/versions", "/network", "/network/v2.0", "/volume", "/volume/v3":
		return true
	}
	return strings.HasPrefix(path, "/v1/openapi") || key == "POST /identity/v3/auth/tokens" // refused for its empty body, 400
}

// ownAffair are changes that every user may make, since they concern only itself.
func ownAffair(key string) bool {
	for _, part := range []string{"/identity/v3/auth/", "/application_credentials", "/users/:user/password", "/os-keypairs"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// sharedBy are routes whose ids are everybody's: flavors, extensions, types, regions and the like, and the quota defaults.
func sharedBy(key string) bool {
	for _, part := range []string{"/flavors", "/extensions", "/types", "/regions", "/schemas", "/domains", "/roles", "/services", "/endpoints", "/os-aggregates", "/os-hypervisors", "/defaults", "/default"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// compare holds the lines against the table, or rewrites it.
func (e *estate) compare(t *testing.T, lines []string) {
	t.Helper()
	head := "# Who gets which answer: METHOD PATH nobody other reader member admin\n" +
		"# nobody has no token; other is a member of another project with ids of this one; member and admin send empty bodies,\n" +
		"# and ids of nothing with DELETE: \"may\" and 404 say that they may.\n"
	file := filepath.Join("testdata", "routes.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(head+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(strings.TrimPrefix(string(data), head)), "\n")
	for _, l := range lines {
		if !slices.Contains(want, l) {
			t.Errorf("answered %q, which is not in %s", l, file)
		}
	}
	for _, l := range want {
		if !slices.Contains(lines, l) {
			t.Errorf("%q is in %s and was not answered", l, file)
		}
	}
}
