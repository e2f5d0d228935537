package integration

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
)

// life is a site of a tenancy that gives Top no administrator, and two projects of Top that live there at once: one with the
// unmodified client, the other with plain requests and the same names for everything.
type life struct {
	*day
	site   string
	region sites.Adaptor // the region's administrator, past Top
	// alice and bob are the ids of the region's projects in which the two projects of Top act.
	alice, bob string
	other      *topproc.Client // bob's
	env        []string        // of the operator's command
}

// A server's whole life where Top is an ordinary user: at east each project of Top has an account that the operator
// gave (static), at west all have one account (shared). East is emptied by its tenants, west by the operator's purge.
func TestTenanciesLive(t *testing.T) {
	cloud := realcloud.Need(t, "east", "west")
	realcloud.NeedClient(t)
	before := map[string]realcloud.Snapshot{}
	for _, region := range []string{"east", "west"} {
		snap, err := cloud.Snapshot(t.Context(), region)
		if err != nil {
			t.Fatal(err)
		}
		before[region] = snap
	}
	top := topproc.Start(t, topproc.Config{CallTimeout: 60 * time.Second, SettleTime: 120 * time.Second, Lease: 90 * time.Second, InventoryEvery: 2 * time.Second, DiffEvery: 20 * time.Second})
	alice := top.NewTenant(t, "acme", "alice", "member")
	bob := top.NewTenant(t, "bobs", "bob", "member")
	d := &day{t: t, cloud: cloud, clouds: top.Clouds(t, []string{"east", "west"}, map[string]string{"alice": "acme", "bob": "bobs"}), prefix: "hw" + ident.NewHexID()[:6] + "-"}
	file := d.accounts()
	t.Run("sites", func(t *testing.T) {
		for _, l := range []*life{
			{day: d, site: "east", other: bob, env: []string{"OS_CLIENT_CONFIG_FILE=" + file}},
			{day: d, site: "west", other: bob, env: []string{"OS_CLIENT_CONFIG_FILE=" + file}},
		} {
			t.Run(map[string]string{"east": "static", "west": "shared"}[l.site], func(t *testing.T) {
				t.Parallel()
				sub := *d
				sub.t = t
				l.day, l.region = &sub, administrator(t, cloud.Region(t, l.site))
				if l.site == "east" {
					l.static(alice.ProjectID)
				} else {
					l.shared()
				}
			})
		}
	})
	topproc.Await(t, "the end of the removed sites' metrics", func(context.Context) bool {
		shown := top.Metrics()
		return t.Failed() || !strings.Contains(shown, `site="east"`) && !strings.Contains(shown, `site="west"`)
	})
	if t.Failed() {
		t.Logf("Top's log ends:\n%s", lastLines(top.Log(), 60))
	}
	cloud.NothingLeft(t, before, 2*time.Minute)
}

// accounts writes a clouds.yaml with Top's users, the regions' ordinary ones, and those that static makes.
func (d *day) accounts() string {
	d.t.Helper()
	users, err := os.ReadFile(d.clouds)
	if err != nil {
		d.t.Fatal(err)
	}
	regions, err := os.ReadFile(d.cloud.CloudsFile)
	if err != nil {
		d.t.Fatal(err)
	}
	text := string(users) + strings.TrimPrefix(string(regions), "clouds:\n")
	for _, who := range []string{"alice", "bob"} {
		text += fmt.Sprintf("  %s:\n    region_name: east\n    auth: {auth_url: %[2]q, username: %[1]s, password: %[3]s, project_name: %[1]s, user_domain_id: default, project_domain_id: default}\n",
			d.own("hw-"+who), d.cloud.Region(d.t, "east").AuthURL, realcloud.Password)
	}
	file := filepath.Join(d.t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return file
}

func administrator(t *testing.T, region realcloud.Region) sites.Adaptor {
	t.Helper()
	a, err := openstack.New(openstack.Config{Site: ident.SiteID(region.Name), Credential: siteAccount(region, "admin"), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// headwater runs the operator's command.
func (l *life) headwater(args ...string) string {
	l.t.Helper()
	return topproc.Headwater(l.t, l.env, append(args, "--cloud", "admin")...)
}

// static gives each project of Top an account at the site, lives there, and leaves it as it was.
func (l *life) static(project string) {
	maker, ok := l.region.(sites.ProjectMaker)
	if !ok {
		l.t.Fatal("the adaptor makes no projects")
	}
	made := map[string]string{}
	for _, who := range []string{"alice", "bob"} {
		name := l.own("hw-" + who)
		bottom, user, err := maker.EnsureProject(l.t.Context(), name, "an account that an operator gives", realcloud.Password)
		if err != nil {
			l.t.Fatal(err)
		}
		made[who] = bottom
		l.t.Cleanup(func() {
			if err := maker.DeleteProject(context.WithoutCancel(l.t.Context()), bottom, user); err != nil {
				l.t.Errorf("delete the account of %s: %v", who, err)
			}
		})
	}
	l.alice, l.bob = made["alice"], made["bob"]
	l.added("static")
	if said := l.as("alice", "--os-region-name", l.site, "network", "create", "hw-none").Fails(l.t); !strings.Contains(said, "409") || !strings.Contains(said, l.site) || !strings.Contains(said, "site project set") {
		l.t.Errorf("without an account: %s; want a 409 that names the site and what the operator must do", said)
	}
	l.headwater("site", "project", "set", l.site, project, "--os-cloud", l.own("hw-alice"))
	l.headwater("site", "drain", l.site)
	if said := l.as("alice", "--os-region-name", l.site, "network", "create", "hw-none").Fails(l.t); !strings.Contains(said, "503") || !strings.Contains(said, "drained") {
		l.t.Errorf("at a site that is being drained: %s; want a 503 that says so", said)
	}
	l.headwater("site", "drain", l.site, "--off")
	l.headwater("site", "project", "set", l.site, l.other.ProjectID, "--os-cloud", l.own("hw-bob"))
	l.live()
	l.tenantsLeave()
	l.headwater("site", "remove", l.site, "--wait")
}

// shared lives in the site's one account; the operator then takes the site out with all that is there.
func (l *life) shared() {
	demo, err := openstack.New(openstack.Config{Site: ident.SiteID(l.site), Credential: siteAccount(l.cloud.Region(l.t, l.site), "demo"), Timeout: time.Minute})
	if err != nil {
		l.t.Fatal(err)
	}
	who, err := demo.Account(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	l.alice, l.bob = who.ProjectID, who.ProjectID
	l.added("shared")
	l.live()
	l.purge()
	for _, c := range [][]string{{"server", "list"}, {"volume", "list"}} {
		if got := l.do(append(c, "-f", "value", "-c", "Name")...); strings.Contains(got, l.own("hw-"+l.site)) {
			l.t.Errorf("after the purge openstack %s shows:\n%s", strings.Join(c, " "), got)
		}
	}
}

// purge has the operator take the site out. At first the region refuses the network, since somebody else put a port into it; the
// command says so and ends, and goes on when it is given again.
func (l *life) purge() {
	l.t.Helper()
	network := l.one(sites.NetworkSvc, "networks?name="+url.QueryEscape(l.name("net"))+"&description="+url.QueryEscape("hw:"+l.here("network", "show", l.name("net"), "-f", "value", "-c", "id")),
		"networks", func(sites.Body) bool { return true })
	made, err := l.region.Do(l.t.Context(), sites.Request{Service: sites.NetworkSvc, Method: http.MethodPost, Path: "ports",
		Body: sites.Body{"port": sites.Body{"network_id": network["id"], "name": l.name("foreign")}}})
	if err != nil {
		l.t.Fatal(err)
	}
	port, _ := made.Body["port"].(map[string]any)
	bottom := ident.BottomID(fmt.Sprint(port["id"]))
	free := sync.OnceValue(func() error { return l.region.Delete(context.WithoutCancel(l.t.Context()), sites.Port, bottom) })
	defer free() //nolint:errcheck // looked at below
	said, err := topproc.TryHeadwater(l.t, l.env, "site", "remove", l.site, "--purge", "--wait", "--cloud", "admin")
	if err == nil || !strings.Contains(said, "is not removed: failed") || !strings.Contains(said, "did not delete 2") || !strings.Contains(said, l.name("net")) {
		l.t.Fatalf("purge of a site with a foreign port: %v\n%s\nwant a failure that names the network and its subnet", err, said)
	}
	if shown := l.headwater("site", "show", l.site, "-f", "value", "-c", "Removal"); !strings.Contains(shown, "network: 1") || strings.Contains(shown, "server") {
		l.t.Errorf("headwater site show tells of the removal %q", shown)
	}
	if err := free(); err != nil {
		l.t.Fatal(err)
	}
	l.headwater("site", "remove", l.site, "--purge", "--wait")
}

// added registers the site with its ordinary account and waits until it serves.
func (l *life) added(tenancy string) {
	l.t.Helper()
	said := l.headwater("site", "add", l.site, "--os-cloud", l.site+"-demo", "--tenancy", tenancy)
	if !strings.Contains(said, tenancy) || !strings.Contains(said, "server create, show, list, delete and actions") || !strings.Contains(said, "subnet list, show of an external network") {
		l.t.Errorf("site add tells neither tenancy nor verbs:\n%s", said)
	}
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(l.do("--os-region-name", l.site, "flavor", "list", "-f", "value", "-c", "Name"), "m1.small") || !strings.Contains(l.do("network", "list", "--external", "-f", "value", "-c", "Name"), "public") {
		if time.Now().After(deadline) {
			l.t.Fatalf("the flavors and networks of %s did not appear at Top", l.site)
		}
	}
}

// name is what a thing of the site is called.
func (l *life) name(what string) string { return l.own("hw-" + l.site + "-" + what) }

// here runs the client in the site's region.
func (l *life) here(args ...string) string {
	l.t.Helper()
	return l.do(append([]string{"--os-region-name", l.site}, args...)...)
}

// live plays the life of a server with everything around it, and of a neighbour of the same names.
func (l *life) live() {
	l.begin()
	neighbour := l.neighbour()
	server := l.boot()
	l.seen(server)
	l.apart(server, neighbour)
	l.use()
}

// begin makes what a server needs.
func (l *life) begin() {
	image := filepath.Join(l.t.TempDir(), "image")
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	if err := os.WriteFile(image, data, 0o600); err != nil {
		l.t.Fatal(err)
	}
	n := l.name
	l.here("image", "create", "--disk-format", "raw", "--container-format", "bare", "--file", image, n("img"))
	l.here("network", "create", n("net"))
	l.here("subnet", "create", "--network", n("net"), "--subnet-range", "10.71.0.0/24", n("sub"))
	l.here("router", "create", n("r"))
	l.here("router", "add", "subnet", n("r"), n("sub"))
	l.here("router", "set", "--external-gateway", "public", n("r"))
	l.gateway()
	l.here("security", "group", "create", n("sg"))
	l.here("security", "group", "rule", "create", "--protocol", "icmp", n("sg"))
	l.here("port", "create", "--network", n("net"), "--security-group", n("sg"), n("port"))
	l.here("keypair", "create", n("key"))
}

// gateway wants the router's way out told as the site itself tells it to an ordinary user, who does not see the subnet that it names.
func (l *life) gateway() {
	l.t.Helper()
	var router struct {
		Info struct {
			Network string `json:"network_id"`
			Fixed   []struct {
				Subnet string `json:"subnet_id"`
				IP     string `json:"ip_address"`
			} `json:"external_fixed_ips"`
		} `json:"external_gateway_info"`
	}
	l.as("alice", "router", "show", l.name("r"), "-f", "json").JSON(l.t, &router)
	var public struct {
		ID      string   `json:"id"`
		Subnets []string `json:"subnets"`
	}
	l.as("alice", "--os-region-name", l.site, "network", "show", "public", "-f", "json").JSON(l.t, &public)
	if fixed := router.Info.Fixed; router.Info.Network != public.ID || len(fixed) != 1 || fixed[0].IP == "" || !slices.Contains(public.Subnets, fixed[0].Subnet) {
		l.t.Fatalf("the router's gateway is %+v, want an address in one of the subnets of %+v", router.Info, public)
	}
	l.as("alice", "subnet", "show", router.Info.Fixed[0].Subnet).Fails(l.t)
}

// boot boots the server by its zone.
func (l *life) boot() (id string) {
	var made struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Key    string `json:"key_name"`
	}
	l.as("alice", "server", "create", "--availability-zone", l.site+"/az1", "--flavor", "m1.tiny", "--image", l.name("img"), "--port", l.name("port"),
		"--key-name", l.name("key"), "--wait", "-f", "json", l.name("s")).JSON(l.t, &made)
	if made.Status != "ACTIVE" || made.Key != l.name("key") {
		l.t.Fatalf("after --wait the server is %+v", made)
	}
	return made.ID
}

// seen looks the server and what was made for it up in the region itself.
func (l *life) seen(top string) {
	l.t.Helper()
	project := l.alice
	server := l.one(sites.Compute, "servers/detail?all_tenants=1&name="+url.QueryEscape(l.name("s"))+"&project_id="+project, "servers", func(s sites.Body) bool {
		return slices.Contains(list(s["tags"]), "hw:"+top)
	})
	key, _ := server["key_name"].(string)
	if server["tenant_id"] != project || server["status"] != "ACTIVE" || server["OS-EXT-AZ:availability_zone"] != "az1" || !strings.HasPrefix(key, "hw-") {
		l.t.Errorf("the server in the region itself: project %v (want %s), status %v, zone %v, key %v", server["tenant_id"], project, server["status"], server["OS-EXT-AZ:availability_zone"], key)
	}
	for _, n := range []struct{ plural, what string }{{"networks", "net"}, {"subnets", "sub"}, {"routers", "r"}, {"ports", "port"}, {"security-groups", "sg"}} {
		id := l.here(strings.Fields(map[string]string{"networks": "network", "subnets": "subnet", "routers": "router", "ports": "port", "security-groups": "security group"}[n.plural] + " show " + l.name(n.what) + " -f value -c id")...)
		thing := l.one(sites.NetworkSvc, n.plural+"?description="+url.QueryEscape("hw:"+id), strings.ReplaceAll(n.plural, "-", "_"), func(sites.Body) bool { return true })
		if thing["project_id"] != project || thing["name"] != l.name(n.what) {
			l.t.Errorf("%s in the region itself: project %v (want %s), name %v (want %s)", n.plural, thing["project_id"], project, thing["name"], l.name(n.what))
		}
	}
}

// one reads a list of the region as its administrator, and wants one row that fits.
func (l *life) one(service sites.Service, path, plural string, fits func(sites.Body) bool) sites.Body {
	l.t.Helper()
	at, query, _ := strings.Cut(path, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		l.t.Fatal(err)
	}
	reply, err := l.region.Do(l.t.Context(), sites.Request{Service: service, Method: http.MethodGet, Path: at, Query: q})
	if err != nil {
		l.t.Fatal(err)
	}
	var found []sites.Body
	rows, _ := reply.Body[plural].([]any)
	for _, r := range rows {
		if body, ok := r.(map[string]any); ok && fits(body) {
			found = append(found, body)
		}
	}
	if len(found) != 1 {
		l.t.Fatalf("region %s has %d rows that fit at %s, want 1 (of %d)", l.site, len(found), path, len(rows))
	}
	return found[0]
}

func list(v any) []string {
	var out []string
	items, _ := v.([]any)
	for _, i := range items {
		s, _ := i.(string)
		out = append(out, s)
	}
	return out
}

// neighbour begins, as the other project, what has the same names and addresses, and returns its server's id.
func (l *life) neighbour() string {
	l.t.Helper()
	at := "/sites/" + l.site
	var net struct{ Network struct{ ID string } }
	l.other.Must(l.t, "POST", at+"/network/v2.0/networks", topproc.Object{"network": topproc.Object{"name": l.name("net")}}, &net)
	l.other.Must(l.t, "POST", at+"/network/v2.0/subnets", topproc.Object{"subnet": topproc.Object{"network_id": net.Network.ID, "ip_version": 4, "cidr": "10.71.0.0/24", "name": l.name("sub")}}, nil)
	l.other.Must(l.t, "POST", at+"/network/v2.0/security-groups", topproc.Object{"security_group": topproc.Object{"name": l.name("sg")}}, nil)
	l.other.Must(l.t, "POST", at+"/compute/v2.1/os-keypairs", topproc.Object{"keypair": topproc.Object{"name": l.name("key")}}, nil)
	var flavors struct{ Flavors []struct{ ID, Name string } }
	l.other.Must(l.t, "GET", at+"/compute/v2.1/flavors", nil, &flavors)
	var images struct{ Images []struct{ ID, Name string } }
	l.other.Must(l.t, "GET", at+"/image/v2/images?name=tiny", nil, &images)
	flavor := ""
	for _, f := range flavors.Flavors {
		if f.Name == "m1.tiny" {
			flavor = f.ID
		}
	}
	if flavor == "" || len(images.Images) == 0 {
		l.t.Fatalf("the other project sees flavors %v, images %v", flavors.Flavors, images.Images)
	}
	var server struct{ Server struct{ ID string } }
	l.other.Must(l.t, "POST", at+"/compute/v2.1/servers", topproc.Object{"server": topproc.Object{"name": l.name("s"), "flavorRef": flavor, "imageRef": images.Images[0].ID,
		"availability_zone": l.site, "key_name": l.name("key"), "networks": []topproc.Object{{"uuid": net.Network.ID}}, "security_groups": []topproc.Object{{"name": l.name("sg")}}}}, &server)
	return server.Server.ID
}

// apart checks that neither project sees the other's things, at Top, by the ids of either end.
func (l *life) apart(alices, bobs string) {
	l.t.Helper()
	at := "/sites/" + l.site
	topproc.Await(l.t, "the other project's server", func(ctx context.Context) bool {
		a, err := l.other.Do(ctx, "GET", at+"/compute/v2.1/servers/"+bobs, nil)
		if err == nil && strings.Contains(a.Text, `"status":"ERROR"`) {
			l.t.Fatalf("the other project's server: %s", a.Text)
		}
		return err == nil && strings.Contains(a.Text, `"status":"ACTIVE"`)
	})
	bottom := l.one(sites.Compute, "servers/detail?all_tenants=1&name="+url.QueryEscape(l.name("s"))+"&project_id="+l.bob, "servers", func(s sites.Body) bool {
		return slices.Contains(list(s["tags"]), "hw:"+bobs)
	})
	foreign := l.one(sites.Compute, "servers/detail?all_tenants=1&name="+url.QueryEscape(l.name("s"))+"&project_id="+l.alice, "servers", func(s sites.Body) bool {
		return slices.Contains(list(s["tags"]), "hw:"+alices)
	})
	if bottom["key_name"] == foreign["key_name"] {
		l.t.Errorf("both servers have the key %v in the region", bottom["key_name"])
	}
	for _, id := range []string{alices, fmt.Sprint(foreign["id"])} {
		if a, err := l.other.Do(l.t.Context(), "GET", at+"/compute/v2.1/servers/"+id, nil); err != nil || a.Status != http.StatusNotFound {
			l.t.Errorf("the other project asks for server %s: %d, %v", id, a.Status, err)
		}
	}
	for _, id := range []string{bobs, fmt.Sprint(bottom["id"])} {
		l.as("alice", "--os-region-name", l.site, "server", "show", id).Fails(l.t)
	}
	for path, plural := range map[string]string{"/compute/v2.1/servers": "servers", "/network/v2.0/networks?router:external=false": "networks", "/network/v2.0/subnets": "subnets",
		"/network/v2.0/ports": "ports", "/network/v2.0/routers": "routers", "/network/v2.0/floatingips": "floatingips", "/volume/v3/volumes": "volumes"} {
		var own map[string]json.RawMessage
		l.other.Must(l.t, "GET", at+path, nil, &own)
		var rows []struct{ ID, Name string }
		if err := json.Unmarshal(own[plural], &rows); err != nil {
			l.t.Fatal(err)
		}
		if want := map[string]int{"servers": 1, "networks": 1, "subnets": 1, "ports": 1}[plural]; len(rows) != want {
			l.t.Errorf("the other project lists %d %s, want its own %d: %v", len(rows), plural, want, rows)
		}
	}
	if got := l.here("server", "list", "-f", "value", "-c", "ID"); got != alices {
		l.t.Errorf("the project lists the servers %q, want %s alone", got, alices)
	}
}

// use does with the server what a day brings.
func (l *life) use() {
	n := l.name
	l.do("volume", "create", "--size", "1", "--availability-zone", l.site, n("vol"))
	l.reads("available", "status", "volume", "show", n("vol"))
	l.do("server", "add", "volume", n("s"), n("vol"))
	l.reads("in-use", "status", "volume", "show", n("vol"))
	ip := l.here("floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address")
	l.do("server", "add", "floating", "ip", n("s"), ip)
	l.reads("ACTIVE", "status", "floating", "ip", "show", ip)
	if got := l.field("addresses", "server", "show", n("s")); !strings.Contains(got, ip) || !strings.Contains(got, "10.71.0.") {
		l.t.Errorf("addresses %s do not hold the floating IP %s", got, ip)
	}
	l.do("server", "reboot", "--wait", n("s"))
	l.reads("ACTIVE", "status", "server", "show", n("s"))
}

// tenantsLeave deletes everything as the tenants do.
func (l *life) tenantsLeave() {
	n := l.name
	at := "/sites/" + l.site
	for _, kind := range []struct{ service, plural string }{{"compute/v2.1", "servers"}, {"network/v2.0", "networks"}, {"network/v2.0", "security-groups"}} {
		topproc.Await(l.t, "the other project's "+kind.plural+" to go", func(ctx context.Context) bool {
			var all map[string]json.RawMessage
			l.other.Must(l.t, "GET", at+"/"+kind.service+"/"+kind.plural+"?name="+n(map[string]string{"servers": "s", "networks": "net", "security-groups": "sg"}[kind.plural]), nil, &all)
			var rows []struct{ ID, Name string }
			if err := json.Unmarshal(all[strings.ReplaceAll(kind.plural, "-", "_")], &rows); err != nil {
				l.t.Fatal(err)
			}
			for _, r := range rows {
				_, _ = l.other.Do(ctx, "DELETE", at+"/"+kind.service+"/"+kind.plural+"/"+r.ID, nil)
			}
			return len(rows) == 0
		})
	}
	l.other.Must(l.t, "DELETE", at+"/compute/v2.1/os-keypairs/"+n("key"), nil, nil)
	ip := l.here("floating", "ip", "list", "-f", "value", "-c", "Floating IP Address")
	l.do("server", "remove", "volume", n("s"), n("vol"))
	l.reads("available", "status", "volume", "show", n("vol"))
	l.do("server", "delete", "--wait", n("s"))
	l.do("volume", "delete", n("vol"))
	l.do("floating", "ip", "delete", ip)
	l.do("router", "unset", "--external-gateway", n("r"))
	l.do("router", "remove", "subnet", n("r"), n("sub"))
	l.do("router", "delete", n("r"))
	l.do("port", "delete", n("port"))
	l.do("network", "delete", n("net"))
	l.do("security", "group", "delete", n("sg"))
	l.do("keypair", "delete", n("key"))
	l.do("image", "delete", n("img"))
}
