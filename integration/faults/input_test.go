package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/server"
)

// The secrets that tenants and operators send; none may be in a log.
const (
	userPassword = "hunter2-of-the-user"
	serverData   = "c2VjcmV0LXVzZXItZGF0YS1vZi1hLXNlcnZlcg=="
)

// changing are the routes that take a body, once for each spelling of a path that matters.
func changing() []server.Route {
	var out []server.Route
	for _, r := range routes() {
		if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
			out = append(out, r)
		}
	}
	return out
}

// stored counts everything that a tenant has.
func (e *estate) stored(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, k := range kinds() {
		out[k.name] = len(e.states(t, k.of(e.world)))
	}
	for what, list := range map[string]string{"image": "/image/v2/images", "keypair": "/compute/v2.1/os-keypairs", "server group": "/compute/v2.1/os-server-groups",
		"rule": "/network/v2.0/security-group-rules", "snapshot": "/volume/v3/" + e.tenant.ProjectID + "/snapshots"} {
		out[what] = strings.Count(e.tenant.Must(t, "GET", list, nil, nil).Text, `"name"`)
	}
	for what, list := range map[string]string{"project": "/identity/v3/projects", "user": "/identity/v3/users", "role": "/identity/v3/roles", "group": "/identity/v3/groups", "site": "/v1/sites"} {
		out[what] = strings.Count(e.callers["admin"].Must(t, "GET", list, nil, nil).Text, `"name"`)
	}
	return out
}

// dialect reports whether a body is an error as the asked service spells it.
func dialect(path, text string) bool {
	var body map[string]any
	if json.Unmarshal([]byte(text), &body) != nil {
		return strings.HasPrefix(path, "/image") && text != "" // Glance answers in HTML
	}
	inner := func(v any) map[string]any { m, _ := v.(map[string]any); return m }
	switch service := strings.Split(path, "/")[1]; service {
	case "network":
		return inner(body["NeutronError"])["message"] != nil
	case "identity":
		return inner(body["error"])["message"] != nil
	case "v1":
		return body["title"] != nil && body["status"] != nil
	case "compute", "volume":
		for _, v := range body {
			return len(body) == 1 && (inner(v)["message"] != nil || service == "compute" && body["errors"] != nil)
		}
	}
	return strings.HasPrefix(path, "/image")
}

// Every route that takes a body meets garbage, wrong types, too much, and names of an absurd sort, from those who may use
// it: the service's own 4xx comes back, nothing is stored, and no secret is in the log.
func TestBadInput(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	e := newEstate(t, topproc.Config{Database: dbtest.PostgresConfig(t)}) // the stricter of the two
	before := e.stored(t)
	big := strings.Repeat(`{"a":`, 10) + `"` + strings.Repeat("x", 10<<20) + `"` + strings.Repeat("}", 10)
	for _, r := range changing() {
		if strings.HasSuffix(r.Path, "/file") {
			continue // takes any bytes
		}
		for name, body := range map[string]string{
			"cut off": `{"server": {"adminPass": "` + userPassword, "no JSON": "\x00\xff<xml/>", "an array": `[1, "` + userPassword + `"]`,
			"a number": "7", "null": "null", "deep": strings.Repeat("[", 20000), "numbers for objects": everyKey(`5`), "arrays for objects": everyKey(`[]`),
			"strings for objects": everyKey(`"` + userPassword + `"`), "objects of wrong types": everyKey(wrongTypes),
			"10 MB": big,
		} {
			e.refuse(t, r, name, body)
		}
	}
	e.absurdNames(t)
	e.strangeIDs(t)
	e.microversions(t)
	e.foreignIDs(t)
	if after := e.stored(t); !maps.Equal(before, after) {
		t.Errorf("stored before %v, after %v", before, after)
	}
	e.noSecrets(t)
}

// everyKey has each service's outer keys with one value.
func everyKey(value string) string {
	var parts []string
	for _, k := range []string{"server", "keypair", "server_group", "flavor", "metadata", "meta", "network", "subnet", "port", "router", "floatingip",
		"security_group", "security_group_rule", "volume", "snapshot", "auth", "user", "project", "domain", "role", "group", "quota", "quota_set", "tags",
		"application_credential", "volumeAttachment", "interfaceAttachment", "remote_console", "extra_specs", "volume_type", "os-extend", "reboot", "name", "member", "credential", "pool"} {
		parts = append(parts, fmt.Sprintf("%q:%s", k, value))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

const wrongTypes = `{"name":{"a":[]},"id":[],"flavorRef":{},"imageRef":[],"networks":{"x":1},"size":"many","cidr":9,"ip_version":"six","network_id":{},` +
	`"security_group_id":[],"direction":3,"floating_network_id":{},"password":{"x":"` + userPassword + `"},"identity":7,"fixed_ips":"all","enabled":"perhaps",` +
	`"port":"zero","cores":"all","policies":7,"volumeId":{},"type":[],"protocol":{}}`

// refuse sends one body as a member and, where only an administrator may come so far, as one.
func (e *estate) refuse(t *testing.T, r server.Route, name, body string) {
	t.Helper()
	path := e.fill(r.Path, true)
	for _, who := range []string{"member", "admin"} {
		a, err := e.callers[who].Do(t.Context(), r.Method, path, body)
		if err != nil {
			if len(body) > 1<<20 && !refusedConnection(err) {
				continue // closed on us in the middle of too much
			}
			t.Errorf("%s %s, %s: %v", r.Method, r.Path, name, err)
			continue
		}
		if a.Status/100 != 4 && !(a.OK() && unread(r, body)) {
			t.Errorf("%s %s as %s, %s: %d %.200s", r.Method, r.Path, who, name, a.Status, a.Text)
		}
		if a.Status >= 400 && !dialect(path, a.Text) {
			t.Errorf("%s %s, %s: %d in no dialect: %.200s", r.Method, r.Path, name, a.Status, a.Text)
		}
		if a.Status != http.StatusForbidden {
			return
		}
	}
}

func refusedConnection(err error) bool { return strings.Contains(err.Error(), "connection refused") }

// unread tells the requests whose body the real services do not look at, as long as it is JSON (for Keystone: an
// object), and the one garbage that says something there: an empty list of tags.
func unread(r server.Route, body string) bool {
	switch service, path, _ := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/"); {
	case strings.HasSuffix(path, "/tags"):
		return strings.Contains(body, `"tags":[]`)
	case strings.HasSuffix(path, "_extraroutes"): // a router without routes
		return !strings.Contains(body, `"routes"`) && json.Valid([]byte(body))
	case service == "network":
		return strings.HasSuffix(path, "/tags/:tag") && json.Valid([]byte(body))
	case service == "identity":
		var object map[string]any
		return (strings.HasSuffix(path, "/tags/:tag") || strings.HasSuffix(path, "/roles/:role") || strings.HasSuffix(path, "/users/:user")) &&
			r.Method == http.MethodPut && json.Unmarshal([]byte(body), &object) == nil && object != nil
	}
	return false
}

// absurdNames creates each kind under names that no service takes.
func (e *estate) absurdNames(t *testing.T) {
	t.Helper()
	bodies := e.bodies()
	for _, c := range []struct{ path, key string }{
		{"/compute/v2.1/servers", "server"}, {"/compute/v2.1/os-keypairs", "keypair"}, {"/compute/v2.1/os-server-groups", "server_group"},
		{"/network/v2.0/networks", "network"}, {"/network/v2.0/ports", "port"}, {"/network/v2.0/routers", "router"}, {"/network/v2.0/subnets", "subnet"},
		{"/network/v2.0/security-groups", "security_group"}, {"/volume/v3/:project/volumes", "volume"}, {"/volume/v3/:project/snapshots", "snapshot"},
		{"/image/v2/images", ""},
	} {
		for what, name := range map[string]any{"10,000 characters": strings.Repeat("n", 10000), "a number": 12, "an object": object{"n": "m"}, "NUL": "a\x00b"} {
			body := bodies["POST "+c.path]
			if c.key == "" {
				body = with(body, "name", name)
			} else {
				inner, _ := body[c.key].(object)
				body = object{c.key: with(inner, "name", name)}
			}
			a, err := e.tenant.Do(t.Context(), "POST", e.fill(c.path, true), body)
			if err != nil || a.Status/100 != 4 || !dialect(c.path, a.Text) {
				t.Errorf("POST %s, name of %s: %d %.200s %v", c.path, what, a.Status, a.Text, err)
			}
		}
	}
}

// strangeIDs asks for things by ids that nothing can have, and filters lists by them.
func (e *estate) strangeIDs(t *testing.T) {
	t.Helper()
	for _, r := range routes() {
		if r.Method != http.MethodGet {
			continue
		}
		for _, id := range []string{"%00", "%FF", "%27%3B--", "..%2F..", strings.Repeat("i", 3000)} {
			path := strings.Replace(r.Path, "/volume/v3/:project", "/volume/v3/"+e.tenant.ProjectID, 1)
			path = parameter.ReplaceAllString(path, id)
			if path == r.Path {
				path += "?name=" + id + "&marker=" + id + "&limit=" + id
			}
			for _, who := range []string{"member", "admin"} {
				a, err := e.callers[who].Do(t.Context(), r.Method, path, nil)
				if err != nil || a.Status >= 500 && a.Status != http.StatusNotImplemented {
					t.Errorf("GET %.200s as %s: %d %.200s %v", path, who, a.Status, a.Text, err)
				}
			}
		}
	}
}

// microversions asks for versions that are not there.
func (e *estate) microversions(t *testing.T) {
	t.Helper()
	for _, tt := range []struct {
		path, header string
		want         int
	}{
		{"/compute/v2.1/servers", "OpenStack-API-Version: compute 2.999", http.StatusNotAcceptable},
		{"/compute/v2.1/servers", "OpenStack-API-Version: compute 3.1", http.StatusNotAcceptable},
		{"/compute/v2.1/servers", "OpenStack-API-Version: compute x.y", http.StatusBadRequest},
		{"/compute/v2.1/servers", "X-OpenStack-Nova-API-Version: 2.999", http.StatusNotAcceptable},
		{"/volume/v3/" + e.tenant.ProjectID + "/volumes", "OpenStack-API-Version: volume 3.999", http.StatusNotAcceptable},
		{"/volume/v3/" + e.tenant.ProjectID + "/volumes", "OpenStack-API-Version: volume nonsense", http.StatusBadRequest},
	} {
		a, err := e.tenant.Do(t.Context(), "GET", tt.path, nil, tt.header)
		if err != nil || a.Status != tt.want {
			t.Errorf("GET %s, %s: %d %.200s %v", tt.path, tt.header, a.Status, a.Text, err)
		}
	}
}

// foreignIDs puts ids of this project into bodies of another, and ids of nothing into bodies of this one: the same answers.
func (e *estate) foreignIDs(t *testing.T) {
	t.Helper()
	other := e.callers["other"]
	for _, c := range []struct {
		name, path, outer, inner string
		body                     object
		id                       string
	}{
		{"a port in a foreign network", "/network/v2.0/ports", "port", "network_id", object{}, "networks"},
		{"a subnet in a foreign network", "/network/v2.0/subnets", "subnet", "network_id", object{"ip_version": 4, "cidr": "10.3.0.0/24"}, "networks"},
		{"a rule in a foreign group", "/network/v2.0/security-group-rules", "security_group_rule", "security_group_id", object{"direction": "ingress"}, "security-groups"},
		{"a foreign port's floating IP", "/network/v2.0/floatingips", "floatingip", "port_id", object{"floating_network_id": e.public}, "ports"},
		{"a snapshot of a foreign volume", "/volume/v3/" + other.ProjectID + "/snapshots", "snapshot", "volume_id", object{}, "volumes"},
		{"a clone of a foreign volume", "/volume/v3/" + other.ProjectID + "/volumes", "volume", "source_volid", object{"size": 1}, "volumes"},
		{"a volume of a foreign image", "/volume/v3/" + other.ProjectID + "/volumes", "volume", "imageRef", object{"size": 1}, "images"},
		{"a server of a foreign image", "/compute/v2.1/servers", "server", "imageRef", object{"name": "x", "flavorRef": e.flavor}, "images"},
	} {
		foreign, err := other.Do(t.Context(), "POST", c.path, object{c.outer: with(c.body, c.inner, e.ids[c.id])})
		nothing, err2 := other.Do(t.Context(), "POST", c.path, object{c.outer: with(c.body, c.inner, ident.NewUUID())})
		if err != nil || err2 != nil || foreign.Status/100 != 4 || foreign.Status != nothing.Status {
			t.Errorf("%s: %d %.200s; of nothing: %d %.200s %v %v", c.name, foreign.Status, foreign.Text, nothing.Status, nothing.Text, err, err2)
		}
	}
	a, err := other.Do(t.Context(), "POST", "/compute/v2.1/servers", object{"server": object{"name": "x", "flavorRef": e.flavor, "imageRef": e.image, "networks": []object{{"port": e.ids["ports"]}}}})
	if err != nil || a.Status/100 != 4 {
		t.Errorf("a server on a foreign port: %d %.200s %v", a.Status, a.Text, err)
	}
}

// noSecrets sends secrets where they belong and looks for them, and for those of the whole test, in Top's log.
func (e *estate) noSecrets(t *testing.T) {
	t.Helper()
	e.tenant.Must(t, "POST", "/compute/v2.1/servers", object{"server": with(with(e.serverBody("secretive", e.ids["networks"], ""), "adminPass", userPassword), "user_data", serverData)}, nil)
	admin := e.callers["admin"]
	admin.Must(t, "POST", "/identity/v3/users", object{"user": object{"name": "carol", "password": userPassword, "domain_id": "default"}}, nil)
	a, err := e.callers["nobody"].Do(t.Context(), "POST", "/identity/v3/auth/tokens", object{"auth": object{"identity": object{"methods": []string{"password"},
		"password": object{"user": object{"name": "carol", "domain": object{"id": "default"}, "password": userPassword + "-wrong"}}}}})
	if err != nil || a.Status != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d %s %v", a.Status, a.Text, err)
	}
	e.quiet(t, settled)
	log := e.Log()
	secrets := map[string]string{"a user's password": userPassword, "user data": serverData, "the operator's password": topproc.Password, "a site's password": topproc.SitePassword}
	for who, c := range e.callers {
		if c.Token != "" {
			secrets["the token of "+who] = c.Token
		}
	}
	for what, secret := range secrets {
		if i := strings.Index(log, secret); i >= 0 {
			t.Errorf("the log has %s: %.300s", what, log[max(0, i-200):])
		}
	}
}
