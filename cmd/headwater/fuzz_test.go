package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/admin"
	topcompute "github.com/headwater-cloud/headwater/top/compute"
	topidentity "github.com/headwater-cloud/headwater/top/identity"
	topimage "github.com/headwater-cloud/headwater/top/image"
	topnetwork "github.com/headwater-cloud/headwater/top/network"
	"github.com/headwater-cloud/headwater/top/server"
	topvolume "github.com/headwater-cloud/headwater/top/volume"
)

// The fuzz targets, one for each service, send whatever they find to any of its routes of a whole Top over one emulated
// site, as anybody: path, query, headers and body. No answer is a failure of ours, and each refusal is in the service's dialect.

func FuzzIdentity(f *testing.F) {
	fuzz(f, server.Mount{Prefix: "/identity", Routes: topidentity.New(topidentity.Config{}).Routes}, []string{
		`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo","domain":{"id":"default"},"password":"x"}}},"scope":{"project":{"name":"demo","domain":{"id":"default"}}}}}`,
		`{"auth":{"identity":{"methods":["token"],"token":{"id":"x"}},"scope":"unscoped"}}`,
		`{"user":{"name":"u","password":"p","email":"e","enabled":true,"domain_id":"default","original_password":"q","options":{"lock_password":true}}}`,
		`{"project":{"name":"p","domain_id":"default","parent_id":"default","tags":["a"],"enabled":"yes","extra":{"a":[1]}}}`,
		`{"application_credential":{"name":"c","secret":"s","expires_at":"2030-01-01T00:00:00","roles":[{"name":"member"}],"unrestricted":false,"access_rules":[]}}`,
		`{"role":{"name":"r","domain_id":null}}`, `{"group":{"name":"g","domain_id":"default"}}`, `{"domain":{"name":"d","enabled":false}}`, `{"tags":["a","b"]}`,
	}, "name=a&enabled=true&domain_id=default", "name__contains=a&tags=a,b&limit=1&marker=x", "user.id=a&scope.project.id=b&include_names", "effective&group.id=x")
}

func FuzzCompute(f *testing.F) {
	actions := []string{}
	for _, a := range []string{`os-start`, `os-stop`, `pause`, `unpause`, `suspend`, `resume`, `lock`, `unlock`, `shelve`, `unshelve`, `confirmResize`, `revertResize`, `unrescue`, `os-resetState`, `forceDelete`, `restore`} {
		actions = append(actions, fmt.Sprintf(`{%q:null}`, a), fmt.Sprintf(`{%q:{"state":"active","locked_reason":"r","availability_zone":"east"}}`, a))
	}
	fuzz(f, server.Mount{Prefix: "/compute", Routes: topcompute.New(topcompute.Config{}).Routes}, append(actions,
		`{"reboot":{"type":"SOFT"}}`, `{"resize":{"flavorRef":"2","OS-DCF:diskConfig":"AUTO"}}`, `{"rebuild":{"imageRef":"x","name":"n","metadata":{"a":"b"},"user_data":null,"preserve_ephemeral":false,"personality":[]}}`,
		`{"rescue":{"adminPass":"p","rescue_image_ref":"x"}}`, `{"createImage":{"name":"i","metadata":{}}}`, `{"os-getConsoleOutput":{"length":"5"}}`, `{"os-getVNCConsole":{"type":"novnc"}}`,
		`{"addSecurityGroup":{"name":"default"}}`, `{"changePassword":{"adminPass":"p"}}`, `{"addFloatingIp":{"address":"10.0.0.1"}}`, `{"os-migrateLive":{"host":null,"block_migration":"auto"}}`, `{"createBackup":{"name":"n","backup_type":"daily","rotation":1}}`,
		`{"server":{"name":"x","flavorRef":1,"imageRef":"","networks":"auto","min_count":"2","security_groups":[{"name":"a"}],"block_device_mapping_v2":[{"boot_index":"-1","uuid":"b","source_type":"blank"}]},"os:scheduler_hints":{"group":7}}`,
		`{"server":{"name":"n","accessIPv4":"1.2.3.4","OS-DCF:diskConfig":"MANUAL","description":null,"hostname":"h"}}`,
		`{"metadata":{"a":"b"}}`, `{"meta":{"k":"v"}}`, `{"tags":["a","b"]}`, `{"keypair":{"name":"k","public_key":"ssh-rsa AAAA","type":"ssh","user_id":"u"}}`, `{"server_group":{"name":"g","policies":["affinity"],"policy":"affinity","rules":{"max_server_per_host":1}}}`,
		`{"interfaceAttachment":{"net_id":"n","fixed_ips":[{"ip_address":"::1"}],"tag":"t"}}`, `{"volumeAttachment":{"volumeId":"v","device":"/dev/vdb","delete_on_termination":true}}`, `{"remote_console":{"protocol":"vnc","type":"novnc"}}`,
		`{"quota_set":{"cores":-1,"force":true}}`, `{"flavor":{"name":"f","ram":64,"vcpus":"1","disk":0,"id":"auto","rxtx_factor":"1.0","swap":""}}`, `{"extra_specs":{"hw:x":"y"}}`, `{"addTenantAccess":{"tenant":"t"}}`, `{"aggregate":{"name":"a"}}`),
		"limit=1&marker=x&sort_key=created_at&sort_dir=asc", "changes-since=2026-01-01T00:00:00Z&changes-before=2027-01-01T00:00:00&deleted=True", "status=ACTIVE&name=a.*&ip=10&flavor=1&image=x&all_tenants=1", "tags=a,b&not-tags-any=c&locked=true&project_id=x&user_id=y", "start=2026-01-01T00:00:00.000000&end=2026-02-01&detailed=1", "is_public=None&minRam=1&minDisk=x")
}

func FuzzNetwork(f *testing.F) {
	fuzz(f, server.Mount{Prefix: "/network", Routes: topnetwork.New(topnetwork.Config{}).Routes}, []string{
		`{"network":{"name":"a","tags":["x"],"mtu":1400,"shared":true,"admin_state_up":"false","router:external":true,"provider:segmentation_id":5,"availability_zone_hints":["east"]}}`,
		`{"networks":[{"name":"a"},{"network":{"name":"b"}}]}`,
		`{"subnet":{"network_id":"n","cidr":"10.0.0.0/8","ip_version":4,"allocation_pools":[{"start":"1","end":"2"}],"gateway_ip":null,"dns_nameservers":["::1"],"host_routes":[{"destination":"10.0.0.0/24","nexthop":"10.0.0.1"}],"ipv6_ra_mode":"slaac"}}`,
		`{"port":{"network_id":"n","fixed_ips":[{"ip_address":"::1","subnet_id":"s"}],"mac_address":"fa:16:3e:00:00:01","allowed_address_pairs":[{"ip_address":"10.0.0.0/8"}],"security_groups":null,"port_security_enabled":false,"binding:profile":{}}}`,
		`{"router":{"external_gateway_info":{"network_id":"x","enable_snat":false,"external_fixed_ips":[{"subnet_id":"s"}]},"routes":[{"destination":"0.0.0.0/0","nexthop":"10.0.0.1"}],"distributed":null}}`,
		`{"subnet_id":"s"}`, `{"port_id":"p"}`, `{"floatingip":{"floating_network_id":"f","port_id":null,"fixed_ip_address":"10.0.0.5","floating_ip_address":"1.2.3.4"}}`,
		`{"security_group":{"name":"g","stateful":true}}`, `{"security_group_rule":{"security_group_id":"g","direction":"ingress","ethertype":"IPv6","protocol":"tcp","port_range_min":1e9,"port_range_max":"22","remote_ip_prefix":"::/0"}}`,
		`{"quota":{"port":"-1","network":5}}`, `{"tags":["a"]}`,
	}, "fields=id&fields=name&limit=1&marker=x&page_reverse=True", "sort_key=name&sort_dir=desc&sort_key=id&sort_dir=asc", "fixed_ips=ip_address=10.0.0.1&fixed_ips=subnet_id=x", "router:external=True&shared=0&tags=a&not-tags=b&device_owner=network:", "changed_since=2026-01-01T00:00:00", "ip_version=six&enable_dhcp=maybe&revision_number=1&project_id=x")
}

func FuzzImage(f *testing.F) {
	fuzz(f, server.Mount{Prefix: "/image", Routes: topimage.New(topimage.Config{}).Routes}, []string{
		`{"name":"i","disk_format":"raw","container_format":"bare","visibility":"public","min_disk":-1,"tags":["a"],"protected":true,"hw_x":"y","owner":"o","id":"00000000-0000-4000-8000-000000000000"}`,
		`[{"op":"replace","path":"/name","value":null}]`, `[{"op":"add","path":"/a~1b","value":"c"},{"op":"remove","path":"/a~1b"}]`, `[{"replace":"/visibility","value":"shared"}]`, `[{"op":"replace","path":"/tags","value":["a","a"]}]`,
		`{"member":"p"}`, `{"status":"accepted"}`, "bytes of an image",
	}, "limit=1&marker=x&sort=name:asc,created_at:desc", "sort_key=name&sort_dir=asc&visibility=all&member_status=all", "created_at=gt:2026-01-01T00:00:00Z&updated_at=lt:x&size_min=1&size_max=y", "name=in:a,\"b,c\"&status=neq:x&os_hidden=true&protected=x&tag=a&tag=b")
}

func FuzzVolume(f *testing.F) {
	fuzz(f, server.Mount{Prefix: "/volume", Routes: topvolume.New(topvolume.Config{}).Routes}, []string{
		`{"volume":{"size":"1","name":"v","imageRef":"","snapshot_id":null,"source_volid":"x","availability_zone":"east","metadata":{"a":"b"},"volume_type":"t","multiattach":true},"OS-SCH-HNT:scheduler_hints":{"x":1}}`,
		`{"snapshot":{"volume_id":"v","name":"s","force":"true","metadata":{}}}`, `{"metadata":{"a":"b"}}`, `{"meta":{"k":"v"}}`, `{"volume_type":{"name":"t","is_public":false,"extra_specs":{}}}`,
		`{"os-extend":{"new_size":2}}`, `{"os-reset_status":{"status":"error","attach_status":"detached"}}`, `{"os-set_bootable":{"bootable":"True"}}`, `{"os-update_readonly_flag":{"readonly":1}}`, `{"os-volume_upload_image":{"image_name":"i","force":true,"disk_format":"raw","visibility":"private"}}`,
		`{"os-set_image_metadata":{"metadata":{"a":"b"}}}`, `{"os-unset_image_metadata":{"key":"a"}}`, `{"os-show_image_metadata":null}`, `{"os-retype":{"new_type":"t","migration_policy":"never"}}`, `{"os-force_delete":{}}`, `{"revert":{"snapshot_id":"s"}}`, `{"os-attach":{"instance_uuid":"i","mountpoint":"/dev/vdb","mode":"rw"}}`, `{"os-reserve":null}`,
		`{"quota_set":{"volumes":1,"gigabytes":"-1"}}`,
	}, "limit=1&marker=x&sort=name:asc&offset=5", "metadata={'a':'b'}&status=available&name~=x&all_tenants=1", "sort_key=size&sort_dir=up&with_count=True&created_at=gt:2026-01-01T00:00:00", "usage=True&is_public=none&group_id=x&glance_metadata={}")
}

func FuzzOperator(f *testing.F) {
	fuzz(f, server.Mount{Prefix: "/v1", Routes: admin.New(admin.Config{}).Routes}, []string{
		`{"name":"s","tenancy":"project","region":"r","credential":{"auth_url":"http://127.0.0.1:1/v3","username":"u","password":"p","project_name":"q","cacert":"-----BEGIN"}}`,
		`{"state":"enabled"}`, `{"drain":true}`, `{"zones":[{"name":"a","zones":["nova"]}]}`, `{"project_id":"p","credential":{}}`, `{"existing":"hwk"}`, `{"server":{"name":"x","flavorRef":"1","imageRef":"y","networks":"none"}}`, `{}`,
	}, "state=available,running&kind=x&limit=1&before=5", "since=2026-01-01T00:00:00Z&until=x&action=a&project_id=p", "dry_run=true&purge=1&keep=x")
}

// fuzzed is a Top in this process with a tenant that has one thing of each kind.
type fuzzed struct {
	front  http.Handler
	tokens []string // of a member, of the administrator, of nobody
	ids    map[string]string
}

func fuzz(f *testing.F, m server.Mount, bodies []string, queries ...string) {
	if testing.Short() {
		f.Skip("starts a whole Top")
	}
	// The project in Nova's paths is another spelling of the same routes.
	routes := slices.DeleteFunc(server.Routes(m), func(r server.Route) bool { return strings.Contains(r.Path, "/:project_id/") && m.Prefix == "/compute" })
	top := newFuzzed(f)
	headers := []string{"", "OpenStack-API-Version: compute 2.93", "OpenStack-API-Version: volume 3.70", "X-OpenStack-Nova-API-Version: latest", "X-Auth-Token: gAAAA", "Range: bytes=0-1,5-", "Content-Range: bytes 1-2/3",
		"Content-Type: application/openstack-images-v2.1-json-patch", "Content-Type: application/openstack-images-v2.0-json-patch", "Content-Type: application/octet-stream", "If-Match: revision_number=1", "X-Subject-Token: x", "Traceparent: 00-zz", "X-Openstack-Request-Id: req-x"}
	for i, r := range routes {
		switch r.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch:
			for j, body := range bodies {
				if action := strings.HasSuffix(r.Path, "/action"); !action && j > 0 && !strings.Contains(body, word(r.Path)) {
					continue // of another route: what differs is for the fuzzer to find
				}
				f.Add(uint16(i), uint8(j), "", "", headers[(i+j)%len(headers)], []byte(body))
			}
		default:
			for j, query := range append(queries, "") {
				f.Add(uint16(i), uint8(j), "", query, headers[(i+j)%len(headers)], []byte(nil))
			}
		}
	}
	f.Add(uint16(0), uint8(0), "%00\xff", "a=%00", "X-Auth-Token: \x80", []byte("[[[["))
	f.Fuzz(func(t *testing.T, route uint16, who uint8, id, query, header string, body []byte) {
		top.try(t, routes[int(route)%len(routes)], int(who), id, query, header, body)
	})
}

// word is what a route is about, as bodies spell it: "volume" of /volume/v3/:project/volumes.
func word(path string) string {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '-' })
	for _, part := range slices.Backward(parts) {
		if !strings.HasPrefix(part, ":") {
			return strings.TrimSuffix(part, "s")
		}
	}
	return path
}

var pathParameter = regexp.MustCompile(`:[a-z_]+`)

// try makes one request. An empty id stands for the tenant's own thing, where the request does not delete it.
func (z *fuzzed) try(t *testing.T, r server.Route, who int, id, query, header string, body []byte) {
	t.Helper()
	if len(query) > 4000 || len(id) > 1000 || strings.Contains(r.Path, "/probe") || strings.Contains(r.Path, "/keys/rotate") {
		return
	}
	last := ""
	path := pathParameter.ReplaceAllStringFunc(r.Path, func(name string) string {
		before, _, _ := strings.Cut(r.Path, name)
		what := before[strings.LastIndex(strings.TrimSuffix(before, "/"), "/")+1:]
		if last = id; id == "" && r.Method != http.MethodDelete {
			last = z.ids[strings.Trim(what, "/")]
		}
		return strings.ReplaceAll(last, "/", "%")
	})
	req := (&http.Request{Method: r.Method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}, Host: "top", RemoteAddr: "127.0.0.1:1",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, ContentLength: int64(len(body))}).WithContext(t.Context())
	if len(body) > 0 {
		req.Body = struct{ *noClose }{&noClose{bytes.NewReader(body)}}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Auth-Token", z.tokens[who%len(z.tokens)])
	if name, value, ok := strings.Cut(header, ": "); ok && len(value) < 4000 {
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	// A request that does not end would only look as if fuzzing were slow: the panic shows where it is, and keeps the input.
	late := time.AfterFunc(20*time.Second, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("%s %q?%q as %d with %q and %q takes longer than 20 s", r.Method, path, query, who%len(z.tokens), header, body))
	})
	z.front.ServeHTTP(w, req)
	late.Stop()
	if w.Code >= 500 && w.Code != http.StatusNotImplemented && w.Code != http.StatusServiceUnavailable {
		t.Errorf("%s %q?%q as %d with %q and %q: %d %.300s", r.Method, path, query, who%len(z.tokens), header, body, w.Code, w.Body)
	}
	if text := w.Body.Bytes(); w.Code >= 400 && r.Method != http.MethodHead && !json.Valid(text) && !strings.HasPrefix(r.Path, "/image") {
		t.Errorf("%s %q: %d in no dialect: %.300q", r.Method, path, w.Code, text)
	}
}

type noClose struct{ *bytes.Reader }

// Close does nothing.
func (noClose) Close() error { return nil }

// newFuzzed starts a Top over one emulated site, has a tenant make things, and stops all that runs by itself: what an
// input covers must not depend on the moment.
func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	cfg := defaultConfig()
	cfg.Dir, cfg.adminPassword = f.TempDir(), "secret"
	cfg.Jobs.Grace = 2 * time.Second
	cfg.resolve()
	top, err := newTop(f.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := top.db.Close(); err != nil {
			f.Error(err)
		}
	})
	front, err := top.front(ready(top.db))
	if err != nil {
		f.Fatal(err)
	}
	site := emulator.Default("east")
	site.AdminPassword = "secret"
	bottom := httptest.NewServer(emulator.New(site))
	f.Cleanup(bottom.Close)
	if _, err := top.registry.Add(f.Context(), registry.Spec{Name: "east", Tenancy: sites.TenancyProject, Credential: sites.Credential{
		AuthURL: bottom.URL + "/identity/v3", Username: "admin", Password: "secret", ProjectName: "admin", UserDomainName: "Default", ProjectDomainName: "Default", Region: "east",
	}}, false); err != nil {
		f.Fatal(err)
	}
	z := &fuzzed{front: front, ids: map[string]string{"regions": "east", "sites": "east", "domains": "default", "metadata": "k", "tags": "k", "os-extra_specs": "k", "flavors": "1"}}
	running, stop := context.WithCancel(f.Context())
	var g errgroup.Group
	for _, part := range top.runners {
		g.Go(func() error { return part.Run(running) })
	}
	z.settle(f)
	stop()
	if err := g.Wait(); err != nil {
		f.Fatal(err)
	}
	return z
}

// ask makes one request for the preparation and returns the object in the answer.
func (z *fuzzed) ask(f *testing.F, token, method, path string, body any) (map[string]any, http.Header) {
	f.Helper()
	text, raw := body.([]byte)
	if !raw && body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			f.Fatal(err)
		}
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(text)).WithContext(f.Context())
	r.Header.Set("X-Auth-Token", token)
	if raw {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	w := httptest.NewRecorder()
	z.front.ServeHTTP(w, r)
	if w.Code >= 300 {
		f.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	var got map[string]any
	if w.Body.Len() > 0 && json.Unmarshal(w.Body.Bytes(), &got) != nil {
		f.Fatalf("%s %s: %s", method, path, w.Body)
	}
	for _, v := range got {
		if one, ok := v.(map[string]any); ok && len(got) == 1 {
			got = one
		}
	}
	return got, w.Header()
}

// settle makes a project with one thing of each kind.
func (z *fuzzed) settle(f *testing.F) {
	f.Helper()
	type o = map[string]any
	login := func(user, project string) string {
		_, h := z.ask(f, "", "POST", "/identity/v3/auth/tokens", o{"auth": o{"identity": o{"methods": []string{"password"}, "password": o{"user": o{"name": user, "domain": o{"id": "default"}, "password": "secret"}}},
			"scope": o{"project": o{"name": project, "domain": o{"id": "default"}}}}})
		return h.Get("X-Subject-Token")
	}
	operator := login("admin", "admin")
	put := func(token, kind, path string, body o) string {
		got, _ := z.ask(f, token, "POST", path, body)
		z.ids[kind], _ = got["id"].(string)
		return z.ids[kind]
	}
	project := put(operator, "projects", "/identity/v3/projects", o{"project": o{"name": "demo", "domain_id": "default"}})
	user := put(operator, "users", "/identity/v3/users", o{"user": o{"name": "demo", "domain_id": "default", "password": "secret"}})
	role := put(operator, "roles", "/identity/v3/roles", o{"role": o{"name": "extra"}})
	z.ask(f, operator, "PUT", "/identity/v3/projects/"+project+"/users/"+user+"/roles/"+role, nil)
	roles, _ := z.ask(f, operator, "GET", "/identity/v3/roles?name=member", nil)
	list, _ := roles["roles"].([]any)
	member, _ := list[0].(o)
	z.ask(f, operator, "PUT", fmt.Sprintf("/identity/v3/projects/%s/users/%s/roles/%s", project, user, member["id"]), nil)
	token := login("demo", "demo")
	z.tokens = []string{token, operator, ""}
	z.ids["v3"], z.ids["os-quota-sets"], z.ids["quotas"] = project, project, project
	volumes := "/volume/v3/" + project
	network := put(token, "networks", "/network/v2.0/networks", o{"network": o{"name": "n"}})
	put(token, "subnets", "/network/v2.0/subnets", o{"subnet": o{"network_id": network, "ip_version": 4, "cidr": "10.8.0.0/24"}})
	put(token, "ports", "/network/v2.0/ports", o{"port": o{"network_id": network}})
	put(token, "routers", "/network/v2.0/routers", o{"router": o{"name": "r"}})
	group := put(token, "security-groups", "/network/v2.0/security-groups", o{"security_group": o{"name": "g"}})
	put(token, "security-group-rules", "/network/v2.0/security-group-rules", o{"security_group_rule": o{"security_group_id": group, "direction": "ingress"}})
	image := put(token, "images", "/image/v2/images", o{"name": "i", "disk_format": "raw", "container_format": "bare"})
	z.ask(f, token, "PUT", "/image/v2/images/"+image+"/file", []byte("some bytes of an image"))
	z.ask(f, token, "POST", "/compute/v2.1/os-keypairs", o{"keypair": o{"name": "k"}})
	z.ids["os-keypairs"] = "k"
	put(token, "os-server-groups", "/compute/v2.1/os-server-groups", o{"server_group": o{"name": "g", "policies": []string{"affinity"}}})
	put(token, "volumes", volumes+"/volumes", o{"volume": o{"size": 1}})
	var flavors o
	for len(flavors) == 0 || len(flavors["flavors"].([]any)) == 0 { // adopted by the first poll of the site
		flavors, _ = z.ask(f, token, "GET", "/compute/v2.1/flavors", nil)
	}
	first, _ := flavors["flavors"].([]any)[0].(o)
	z.ids["flavors"], _ = first["id"].(string)
	server := put(token, "servers", "/compute/v2.1/servers", o{"server": o{"name": "s", "flavorRef": first["id"], "imageRef": image, "networks": []o{{"uuid": network}}}})
	for limit := time.Now().Add(time.Minute); ; {
		if got, _ := z.ask(f, token, "GET", "/compute/v2.1/servers/"+server, nil); got["status"] == "ACTIVE" {
			break
		}
		if time.Now().After(limit) {
			f.Fatal("the server does not come up")
		}
	}
}

// Whatever is in a configuration file, it is refused with a reason or works.
func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("headwater.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{"", "listen: [", "jobs: {queues: {a: {workers: 1, per_site: 1}}, site_limits: {east: 1}}", "grace: 1s\ngrace: 2s", "identity: {policy: {create_server: admin}}", "a: &a [*a]", "tracing: {endpoint: 'http://[::1', sample: .nan}"} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(dir, "top.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := loadConfig(file, noEnv)
		if err == nil && cfg.validate() != nil {
			t.Errorf("taken, and not valid: %q", data)
		}
	})
}
