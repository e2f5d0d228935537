package faults

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/server"
)

// What TestIsolation asserts of the plain routes holds by every other way to the same things: behind a site's prefix, by
// the ids that they have at the site, in bodies, in filters and markers of lists, and in the dashboard.
func TestIsolationOtherWays(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	e := newEstate(t, topproc.Config{})
	for _, way := range []struct {
		name string
		try  func(*testing.T)
	}{{"behind the prefix", e.behindPrefix}, {"bottom ids", e.bottomIDs}, {"bodies", e.inBodies}, {"lists", e.inLists}, {"dashboard", e.inDashboard}} {
		t.Run(way.name, way.try)
	}
}

// behindPrefix asks every route for the site east: who may not have it plainly does not get it there.
func (e *estate) behindPrefix(t *testing.T) {
	bodies := e.bodies()
	for _, r := range routes() {
		key := r.Method + " " + r.Path
		for _, who := range []string{"nobody", "other", "reader"} {
			if r.Method == http.MethodDelete && who != "nobody" && ownAffair(key) {
				continue // they could
			}
			path := e.fill(r.Path, true)
			sent, header := e.request(r, bodies[longForm(r)])
			if sent != nil && ownAffair(key) {
				continue
			}
			plain, err := e.callers[who].Do(t.Context(), r.Method, path, sent, header...)
			behind, err2 := e.callers[who].Do(t.Context(), r.Method, "/sites/east"+path, sent, header...)
			if err != nil || err2 != nil || word(plain.Status) != word(behind.Status) {
				t.Errorf("%s as %s: %d, and behind /sites/east %d %.200s %v %v", key, who, plain.Status, behind.Status, behind.Text, err, err2)
			}
			if who == "other" && strings.Contains(behind.Text, private) && !strings.Contains(path, private) {
				t.Errorf("%s behind /sites/east shows another project %.300s", key, behind.Text)
			}
			nowhere, err := e.callers[who].Do(t.Context(), r.Method, "/sites/nowhere"+path, sent, header...)
			if err != nil || nowhere.Status != http.StatusNotFound {
				t.Errorf("%s as %s behind a site that is not there: %d %v", key, who, nowhere.Status, err)
			}
		}
	}
}

// request is what a route is asked with: its body, if it takes one, and headers.
func (e *estate) request(r server.Route, body object) (sent any, header []string) {
	if body == nil {
		body = object{}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodDelete {
		sent = body
	}
	header = []string{"OpenStack-API-Version: volume 3.70"}
	switch r.Method + " " + r.Path {
	case "PATCH /image/v2/images/:image":
		return `[{"op":"replace","path":"/min_ram","value":1}]`, append(header, "Content-Type: application/openstack-images-v2.1-json-patch")
	case "POST /image/v2/images/:image/actions/deactivate", "POST /image/v2/images/:image/actions/reactivate", "PUT /image/v2/images/:image/tags/:tag":
		return nil, header // Glance takes none
	case "PUT /image/v2/images/:image/file":
		return []byte("bytes"), header
	}
	return sent, header
}

// bottomIDs are aliases of Top's for whom a thing belongs to, and nothing to anybody else.
func (e *estate) bottomIDs(t *testing.T) {
	kinds := map[string]string{"servers": "server", "volumes": "volume", "networks": "network", "subnets": "subnet", "ports": "port", "security-groups": "security_group"}
	bottom := maps.Clone(e.ids)
	for what, kind := range kinds {
		for _, place := range e.marked(kind)[e.ids[what]] {
			_, bottom[what], _ = strings.Cut(place, " ")
		}
		if bottom[what] == e.ids[what] {
			delete(kinds, what) // not at the site: there is no such id
		}
	}
	if _, ok := kinds["servers"]; !ok || len(kinds) < 4 {
		t.Fatalf("at the site are only %v", slices.Sorted(maps.Keys(kinds)))
	}
	at := *e
	at.ids = bottom
	bodies := at.bodies()
	for _, r := range routes() {
		before, _, found := strings.Cut(r.Path, "/:id")
		what := before[strings.LastIndex(before, "/")+1:]
		if _, ok := kinds[what]; !found || !ok {
			continue
		}
		sent, header := e.request(r, bodies[longForm(r)])
		path := at.fill(r.Path, true)
		own := strings.Replace(path, e.tenant.ProjectID, e.callers["other"].ProjectID, 1)
		got, err := e.callers["other"].Do(t.Context(), r.Method, own, sent, header...)
		missing := *e
		missing.ids = maps.Clone(bottom)
		missing.ids[what] = ident.NewUUID()
		nothing, err2 := e.callers["other"].Do(t.Context(), r.Method, strings.Replace(missing.fill(r.Path, true), e.tenant.ProjectID, e.callers["other"].ProjectID, 1), sent, header...)
		if err != nil || err2 != nil || got.OK() || got.Status != nothing.Status || strings.Contains(got.Text, private) {
			t.Errorf("%s %s by its id at the site, as another project: %d %.200s; of nothing %d %v %v", r.Method, r.Path, got.Status, got.Text, nothing.Status, err, err2)
		}
		if r.Method == http.MethodGet && strings.HasSuffix(r.Path, "/:id") {
			if a, err := e.tenant.Do(t.Context(), r.Method, path, nil, header...); err != nil || a.Status != http.StatusOK || !strings.Contains(a.Text, e.ids[what]) {
				t.Errorf("%s %s by its id at the site, as its owner: %d %.200s %v", r.Method, r.Path, a.Status, a.Text, err)
			}
		}
	}
}

// inBodies names things of this project in requests of another, by Top's ids and by the site's: the answer is as for ids of nothing.
func (e *estate) inBodies(t *testing.T) {
	bob := *e.world
	bob.tenant = e.callers["other"]
	network, subnet := bob.network(t, "bobs", "10.9.0.0/24")
	port := bob.create(t, "/network/v2.0/ports", "port", object{"network_id": network})
	router := bob.create(t, "/network/v2.0/routers", "router", object{"name": "bobs"})
	group := bob.create(t, "/network/v2.0/security-groups", "security_group", object{"name": "bobs"})
	bob.image = bob.upload(t, "bobs")
	own := bob.create(t, "/compute/v2.1/servers", "server", object{"name": "bobs", "flavorRef": e.flavor, "imageRef": bob.image, "networks": []object{{"port": port}}, "availability_zone": "east"})
	bob.awaitServer(t, own)
	volumes := "/volume/v3/" + bob.tenant.ProjectID
	server := func(more object) object {
		base := object{"name": "x", "flavorRef": e.flavor, "imageRef": bob.image, "networks": []object{{"uuid": network}}}
		maps.Copy(base, more)
		return object{"server": base}
	}
	disk := func(kind string) func(string) object {
		return func(id string) object {
			return server(object{"imageRef": "", "block_device_mapping_v2": []object{{"boot_index": 0, "uuid": id, "source_type": kind, "destination_type": "volume", "volume_size": 1}}})
		}
	}
	for _, c := range []struct {
		name, method, path, of string
		body                   func(id string) object
	}{
		{"a server in a network", "POST", "/compute/v2.1/servers", "networks", func(id string) object { return server(object{"networks": []object{{"uuid": id}}}) }},
		{"a server on a port", "POST", "/compute/v2.1/servers", "ports", func(id string) object { return server(object{"networks": []object{{"port": id}}}) }},
		{"a server with a group", "POST", "/compute/v2.1/servers", "security-groups", func(id string) object { return server(object{"security_groups": []object{{"name": id}}}) }},
		{"a server with a key", "POST", "/compute/v2.1/servers", "os-keypairs", func(id string) object { return server(object{"key_name": id}) }},
		{"a server of an image", "POST", "/compute/v2.1/servers", "images", func(id string) object { return server(object{"imageRef": id}) }},
		{"a server on a volume", "POST", "/compute/v2.1/servers", "volumes", disk("volume")},
		{"a server on a snapshot", "POST", "/compute/v2.1/servers", "snapshots", disk("snapshot")},
		{"a server on an image's volume", "POST", "/compute/v2.1/servers", "images", disk("image")},
		{"a server in a server group", "POST", "/compute/v2.1/servers", "os-server-groups", func(id string) object {
			return object{"server": server(nil)["server"], "os:scheduler_hints": object{"group": id}}
		}},
		{"a rebuild", "POST", "/compute/v2.1/servers/" + own + "/action", "images", func(id string) object { return object{"rebuild": object{"imageRef": id}} }},
		{"an added group", "POST", "/compute/v2.1/servers/" + own + "/action", "security-groups", func(id string) object { return object{"addSecurityGroup": object{"name": id}} }},
		{"an attached volume", "POST", "/compute/v2.1/servers/" + own + "/os-volume_attachments", "volumes", func(id string) object {
			return object{"volumeAttachment": object{"volumeId": id}}
		}},
		{"an attached network", "POST", "/compute/v2.1/servers/" + own + "/os-interface", "networks", func(id string) object {
			return object{"interfaceAttachment": object{"net_id": id}}
		}},
		{"an attached port", "POST", "/compute/v2.1/servers/" + own + "/os-interface", "ports", func(id string) object {
			return object{"interfaceAttachment": object{"port_id": id}}
		}},
		{"a port with a group", "POST", "/network/v2.0/ports", "security-groups", func(id string) object {
			return object{"port": object{"network_id": network, "security_groups": []string{id}}}
		}},
		{"a port with a subnet", "POST", "/network/v2.0/ports", "subnets", func(id string) object {
			return object{"port": object{"network_id": network, "fixed_ips": []object{{"subnet_id": id}}}}
		}},
		{"a port's new group", "PUT", "/network/v2.0/ports/" + port, "security-groups", func(id string) object {
			return object{"port": object{"security_groups": []string{id}}}
		}},
		{"a router's gateway", "PUT", "/network/v2.0/routers/" + router, "networks", func(id string) object {
			return object{"router": object{"external_gateway_info": object{"network_id": id}}}
		}},
		{"a router's subnet", "PUT", "/network/v2.0/routers/" + router + "/add_router_interface", "subnets", func(id string) object { return object{"subnet_id": id} }},
		{"a router's port", "PUT", "/network/v2.0/routers/" + router + "/add_router_interface", "ports", func(id string) object { return object{"port_id": id} }},
		{"a rule for a remote group", "POST", "/network/v2.0/security-group-rules", "security-groups", func(id string) object {
			return object{"security_group_rule": object{"security_group_id": group, "direction": "ingress", "remote_group_id": id}}
		}},
		{"a floating IP of a port", "POST", "/network/v2.0/floatingips", "ports", func(id string) object {
			return object{"floatingip": object{"floating_network_id": e.public, "port_id": id}}
		}},
		{"a floating IP in a network", "POST", "/network/v2.0/floatingips", "networks", func(id string) object { return object{"floatingip": object{"floating_network_id": id}} }},
		{"a volume of a snapshot", "POST", volumes + "/volumes", "snapshots", func(id string) object { return object{"volume": object{"size": 1, "snapshot_id": id}} }},
		{"a volume of a volume", "POST", volumes + "/volumes", "volumes", func(id string) object { return object{"volume": object{"size": 1, "source_volid": id}} }},
		{"a volume of an image", "POST", volumes + "/volumes", "images", func(id string) object { return object{"volume": object{"size": 1, "imageRef": id}} }},
		{"a snapshot of a volume", "POST", volumes + "/snapshots", "volumes", func(id string) object { return object{"snapshot": object{"volume_id": id}} }},
		{"a grant of a project", "PUT", "/identity/v3/projects/" + e.tenant.ProjectID + "/tags", "projects", func(string) object { return object{"tags": []string{"x"}} }},
	} {
		ids := []string{e.ids[c.of]}
		if kind := strings.ReplaceAll(strings.TrimSuffix(c.of, "s"), "-", "_"); c.of != "images" && c.of != "snapshots" {
			for _, place := range e.marked(kind)[e.ids[c.of]] {
				_, id, _ := strings.Cut(place, " ")
				ids = append(ids, id)
			}
		}
		nothing, err := bob.tenant.Do(t.Context(), c.method, c.path, c.body(ident.NewUUID()))
		for _, id := range ids {
			got, err2 := bob.tenant.Do(t.Context(), c.method, c.path, c.body(id))
			if err != nil || err2 != nil || got.Status/100 != 4 || got.Status != nothing.Status || shape(got.Text) != shape(nothing.Text) {
				t.Errorf("%s of another project: %d %.300s; of nothing: %d %.300s %v %v", c.name, got.Status, got.Text, nothing.Status, nothing.Text, err, err2)
			}
		}
	}
	_ = subnet
}

var idForm = regexp.MustCompile(`[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|` + private + `-\w+`)

// shape is an answer without the ids and names in it.
func shape(text string) string { return idForm.ReplaceAllString(text, "ID") }

// inLists filters and pages every list by what is another project's: it shows nothing of it, and pages as from nothing.
func (e *estate) inLists(t *testing.T) {
	other := e.callers["other"]
	var filters []string
	for _, name := range []string{"project_id", "tenant_id", "all_tenants", "all_projects", "user_id", "owner", "id", "device_id", "network_id", "name", "ip_address",
		"security_group_id", "router_id", "port_id", "volume_id", "member_status", "visibility", "shared", "reservation_id", "deleted", "instance_uuid"} {
		switch name {
		case "project_id", "tenant_id", "owner":
			filters = append(filters, name+"="+e.tenant.ProjectID, "all_tenants=1&"+name+"="+e.tenant.ProjectID)
		case "user_id":
			filters = append(filters, name+"="+e.tenant.UserID)
		case "all_tenants", "all_projects", "shared", "deleted":
			filters = append(filters, name+"=1", name+"=True")
		case "visibility":
			filters = append(filters, name+"=private", name+"=all", name+"=shared", name+"=community")
		case "member_status":
			filters = append(filters, name+"=all&visibility=shared")
		case "name":
			filters = append(filters, name+"=~"+private, name+"="+private+"-server")
		default:
			for what, id := range e.ids {
				if len(id) >= 32 && what != "flavors" {
					filters = append(filters, name+"="+id)
				}
			}
		}
	}
	for _, r := range routes() {
		if r.Method != http.MethodGet || strings.Contains(strings.Replace(r.Path, "/volume/v3/:project", "", 1), ":") {
			continue
		}
		path := strings.Replace(r.Path, "/volume/v3/:project", "/volume/v3/"+other.ProjectID, 1)
		for _, f := range filters {
			a, err := other.Do(t.Context(), r.Method, path+"?"+f, nil)
			if err != nil || a.Status >= 500 && a.Status != http.StatusNotImplemented {
				t.Errorf("GET %s?%s: %d %.200s %v", path, f, a.Status, a.Text, err)
			}
			e.tellsNothing(t, path+"?"+f, a.Text)
		}
		for what, id := range e.ids {
			if len(id) < 32 || what == "flavors" || sharedBy("GET "+r.Path) {
				continue
			}
			got, err := other.Do(t.Context(), r.Method, path+"?limit=1&marker="+id, nil)
			nothing, err2 := other.Do(t.Context(), r.Method, path+"?limit=1&marker="+ident.NewUUID(), nil)
			if err != nil || err2 != nil || got.Status != nothing.Status {
				t.Errorf("GET %s with a marker of another project's %s: %d %.200s; of nothing: %d", path, what, got.Status, got.Text, nothing.Status)
			}
			e.tellsNothing(t, path+"?marker="+id, got.Text)
		}
	}
}

// tellsNothing asserts that an answer to another project holds nothing of this one's that was not in the question.
func (e *estate) tellsNothing(t *testing.T, asked, text string) {
	t.Helper()
	if strings.Contains(text, private) && !strings.Contains(asked, private) {
		t.Errorf("%s shows another project %.300s", asked, text)
	}
	for what, id := range e.ids {
		if len(id) >= 32 && what != "flavors" && strings.Contains(text, id) && !strings.Contains(asked, id) {
			t.Errorf("%s shows another project the id of %s: %.300s", asked, what, text)
		}
	}
}

// inDashboard looks at every page as no one and as a user of another project.
func (e *estate) inDashboard(t *testing.T) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	bob := &topproc.Client{URL: e.URL, HTTP: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	t.Cleanup(bob.HTTP.CloseIdleConnections)
	server := "/dashboard/instances/" + e.ids["servers"]
	pages := []string{"/dashboard/instances", "/dashboard/launch", "/dashboard/sites", "/dashboard/projects", server, server + "/log", server + "/do/delete"}
	for _, page := range pages {
		if a, err := bob.Do(t.Context(), "GET", page, nil); err != nil || a.OK() || strings.Contains(a.Text, private) {
			t.Errorf("GET %s as no one: %d %.200s %v", page, a.Status, a.Text, err)
		}
	}
	secret := func(page string) string {
		a, err := bob.Do(t.Context(), "GET", page, nil)
		m := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(a.Text)
		if err != nil || m == nil {
			t.Fatalf("GET %s: %d %.300s %v", page, a.Status, a.Text, err)
		}
		return m[1]
	}
	form := func(path string, values url.Values) topproc.Answer {
		a, err := bob.Do(t.Context(), "POST", path, values.Encode(), "Content-Type: application/x-www-form-urlencoded")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := form("/dashboard/signin", url.Values{"csrf": {secret("/dashboard/signin")}, "user": {"bob"}, "password": {topproc.Password}}); a.Status != http.StatusSeeOther {
		t.Fatalf("sign in: %d %.300s", a.Status, a.Text)
	}
	for _, page := range pages {
		a, err := bob.Do(t.Context(), "GET", page, nil)
		if err != nil || strings.Contains(a.Text, private) || a.OK() && strings.HasPrefix(page, server) && !strings.Contains(a.Text, "could not be found") {
			t.Errorf("GET %s as another project: %d %.200s %v", page, a.Status, a.Text, err)
		}
	}
	csrf := secret("/dashboard/launch")
	for _, verb := range []string{"start", "stop", "reboot", "delete"} {
		if a := form(server+"/do/"+verb, url.Values{"csrf": {csrf}}); a.OK() || a.Status == http.StatusSeeOther && !strings.Contains(fmt.Sprint(a.Header), "problem") {
			t.Errorf("POST %s/do/%s as another project: %d %.200s", server, verb, a.Status, a.Text)
		}
	}
	if got := e.states(t, kinds()[0].of(e.world)); got[e.ids["servers"]] != "ACTIVE" {
		t.Errorf("the server is %q", got[e.ids["servers"]])
	}
}
