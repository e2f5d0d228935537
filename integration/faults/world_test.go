package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/emulator"
)

type object = topproc.Object

// gate stands before an emulated site and runs a trap once, at the n-th request from now on.
type gate struct {
	trap   atomic.Pointer[trap]
	caught atomic.Pointer[catcher]
}

// catcher may answer a request itself, and then returns true.
type catcher func(inner http.Handler, w http.ResponseWriter, r *http.Request) bool

// catch puts a catcher before the site, or none; one request meets it at a time.
func (g *gate) catch(f catcher) {
	if f == nil {
		g.caught.Store(nil)
		return
	}
	var mu sync.Mutex
	alone := catcher(func(inner http.Handler, w http.ResponseWriter, r *http.Request) bool {
		if !mu.TryLock() {
			return false
		}
		defer mu.Unlock()
		return f(inner, w, r)
	})
	g.caught.Store(&alone)
}

// trap is sprung by one request: before the site carries it out, or after that and before the answer.
type trap struct {
	left   atomic.Int64 // requests until then
	after  bool
	spring func()
}

func (g *gate) wrap(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := g.caught.Load(); c != nil && (*c)(inner, w, r) {
			return
		}
		t := g.trap.Load()
		mine := t != nil && t.left.Add(-1) == 0
		if mine && !t.after {
			t.spring()
		}
		inner.ServeHTTP(w, r)
		if mine && t.after {
			t.spring()
		}
	})
}

// world is a Top over emulated sites with one tenant.
type world struct {
	*topproc.Top
	sites  []*topproc.Site
	gates  []*gate
	tenant *topproc.Client
	flavor string
	image  string
	public string // the external network
}

// newWorld starts Top and sites of the given names.
func newWorld(t *testing.T, cfg topproc.Config, names ...string) *world {
	t.Helper()
	w := &world{}
	for _, name := range names {
		g := &gate{}
		w.gates = append(w.gates, g)
		c := emulator.Default(name)
		c.CallLog = 20000
		w.sites = append(w.sites, topproc.Emulate(t, c, g.wrap))
	}
	w.Top = topproc.Start(t, cfg)
	w.AddEmulated(t, w.sites...)
	w.tenant = w.NewTenant(t, "demo", "demo", "member")
	w.flavor = w.findFlavor(t, "m1.tiny")
	w.image = w.upload(t, "image")
	w.public = w.external(t)
	return w
}

func (w *world) site(name string) *topproc.Site {
	return w.sites[slices.IndexFunc(w.sites, func(s *topproc.Site) bool { return s.Name == name })]
}

func (w *world) findFlavor(t *testing.T, name string) string {
	t.Helper()
	var got struct{ Flavors []struct{ ID, Name string } }
	w.tenant.Must(t, "GET", "/compute/v2.1/flavors", nil, &got)
	for _, f := range got.Flavors {
		if f.Name == name {
			return f.ID
		}
	}
	t.Fatalf("no flavor %s in %+v", name, got)
	return ""
}

func (w *world) upload(t *testing.T, name string) string {
	t.Helper()
	id := w.create(t, "/image/v2/images", "", object{"name": name, "disk_format": "raw", "container_format": "bare"})
	w.tenant.Must(t, "PUT", "/image/v2/images/"+id+"/file", []byte(strings.Repeat("headwater", 1000)), nil)
	return id
}

// create makes something and returns its id; key is the outer member of the body, "" for none.
func (w *world) create(t *testing.T, path, key string, body object, header ...string) string {
	t.Helper()
	var sent any = body
	if key != "" {
		sent = object{key: body}
	}
	var got object
	w.tenant.Must(t, "POST", path, sent, &got, header...)
	return idIn(got, key)
}

func countLines(text, part string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func idIn(got object, key string) string {
	if inner, ok := got[key].(object); ok {
		got = inner
	}
	id, _ := got["id"].(string)
	return id
}

func (w *world) network(t *testing.T, name, cidr string) (network, subnet string) {
	t.Helper()
	network = w.create(t, "/network/v2.0/networks", "network", object{"name": name})
	subnet = w.create(t, "/network/v2.0/subnets", "subnet", object{"network_id": network, "ip_version": 4, "cidr": cidr})
	return network, subnet
}

// routed joins a subnet to the external network, so that its ports can have floating IPs.
func (w *world) routed(t *testing.T, subnet string) string {
	t.Helper()
	router := w.create(t, "/network/v2.0/routers", "router", object{"name": "r", "external_gateway_info": object{"network_id": w.public}})
	w.tenant.Must(t, "PUT", "/network/v2.0/routers/"+router+"/add_router_interface", object{"subnet_id": subnet}, nil)
	return router
}

func (w *world) external(t *testing.T) string {
	t.Helper()
	var got struct{ Networks []struct{ ID string } }
	topproc.Await(t, "the external network", func(context.Context) bool {
		w.tenant.Must(t, "GET", "/network/v2.0/networks?router:external=true", nil, &got)
		return len(got.Networks) > 0
	})
	return got.Networks[0].ID
}

// instance is a server as its tenant sees it.
type instance struct {
	ID, Name, Status string
	Fault            struct{ Message string }
	Task             string `json:"OS-EXT-STS:task_state"`
}

func (w *world) servers(t *testing.T) map[string]instance {
	t.Helper()
	out := map[string]instance{}
	for _, r := range w.all(t, kinds()[0]) {
		data, err := json.Marshal(r)
		var one instance
		if err = errors.Join(err, json.Unmarshal(data, &one)); err != nil {
			t.Fatal(err)
		}
		out[one.ID] = one
	}
	return out
}

// awaitServer waits until a server has left BUILD and every task.
func (w *world) awaitServer(t *testing.T, id string) instance {
	t.Helper()
	var s instance
	topproc.Await(t, "server "+id+" to settle", func(context.Context) bool {
		var got struct{ Server instance }
		w.tenant.Must(t, "GET", "/compute/v2.1/servers/"+id, nil, &got)
		s = got.Server
		return s.Status != "BUILD" && s.Task == ""
	})
	return s
}

// states lists a kind of resource: id to status, "" for kinds without one.
func (w *world) states(t *testing.T, k kind) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, r := range w.all(t, k) {
		if k.skip != nil && k.skip(r) {
			continue
		}
		id, _ := r["id"].(string)
		out[id], _ = r["status"].(string)
	}
	return out
}

// all lists a kind page by page.
func (w *world) all(t *testing.T, k kind) []object {
	t.Helper()
	var out []object
	for marker := ""; ; {
		var page map[string][]object
		w.tenant.Must(t, "GET", k.list+"?limit=500"+marker, nil, &page)
		out = append(out, page[k.plural]...)
		if len(page[k.plural]) < 500 {
			return out
		}
		id, _ := out[len(out)-1]["id"].(string)
		marker = "&marker=" + id
	}
}

// kind is one sort of resource that a census compares.
type kind struct {
	name   string // as the emulator's census calls it
	plural string
	list   string
	path   string
	rests  []string // statuses in which it stays by itself; nil for kinds whose status says nothing
	quota  string   // its name in Top's quota, "" for none
	skip   func(object) bool
}

func kinds() []kind {
	return []kind{
		{name: "server", plural: "servers", list: "/compute/v2.1/servers/detail", path: "/compute/v2.1/servers/", rests: []string{"ACTIVE", "SHUTOFF", "ERROR"}, quota: "instances"},
		{name: "volume", plural: "volumes", list: "/volume/v3/%s/volumes/detail", path: "/volume/v3/%s/volumes/", rests: []string{"available", "in-use", "error"}, quota: "volumes"},
		{name: "floatingip", plural: "floatingips", list: "/network/v2.0/floatingips", path: "/network/v2.0/floatingips/", quota: "floatingip"},
		{name: "router", plural: "routers", list: "/network/v2.0/routers", path: "/network/v2.0/routers/", quota: "router"},
		{name: "port", plural: "ports", list: "/network/v2.0/ports", path: "/network/v2.0/ports/", quota: "port"},
		{name: "subnet", plural: "subnets", list: "/network/v2.0/subnets", path: "/network/v2.0/subnets/", quota: "subnet", skip: external},
		{name: "network", plural: "networks", list: "/network/v2.0/networks", path: "/network/v2.0/networks/", quota: "network", skip: external},
		{name: "security_group", plural: "security_groups", list: "/network/v2.0/security-groups", path: "/network/v2.0/security-groups/", quota: "security_group"},
	}
}

// external tells what a site shares with everybody.
func external(r object) bool {
	x, _ := r["router:external"].(bool)
	name, _ := r["name"].(string)
	return x || name == "public-v4"
}

func (k kind) of(w *world) kind {
	fill := func(s string) string { return strings.Replace(s, "%s", w.tenant.ProjectID, 1) }
	k.list, k.path = fill(k.list), fill(k.path)
	return k
}

// marked counts what the sites hold of a kind: by the Top id in the marker, the places where it is.
// What nobody marked and the site did not make by itself is under "".
func (w *world) marked(k string) map[string][]string {
	out := map[string][]string{}
	for _, s := range w.sites {
		for _, r := range s.Everything() {
			if r.Kind != k || r.Auto {
				continue
			}
			top := ""
			for _, m := range r.Markers { // a group has a name hw-default beside its marker
				if id, ok := strings.CutPrefix(m, "hw:"); ok || top == "" {
					top = strings.TrimPrefix(id, "hw-")
				}
			}
			out[top] = append(out[top], s.Name+" "+r.ID)
		}
	}
	return out
}

// problems holds Top's own record against the sites; nothing is wrong when it returns nothing.
func (w *world) problems(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, k := range kinds() {
		k = k.of(w)
		have, there := w.states(t, k), w.marked(k.name)
		for id, status := range have {
			if k.rests != nil && !slices.Contains(k.rests, status) {
				out = append(out, fmt.Sprintf("%s %s is in status %s", k.name, id, status))
			}
			if (status == "ACTIVE" || status == "SHUTOFF" || status == "available" || status == "in-use") && (k.name == "server" || k.name == "volume") && len(there[id]) == 0 {
				out = append(out, fmt.Sprintf("%s %s is %s and at no site", k.name, id, status))
			}
		}
		for id, places := range there {
			if _, known := have[id]; !known && !(k.name == "port" && id == "") {
				out = append(out, fmt.Sprintf("%s of marker %q is at %v and Top has none", k.name, id, places))
			}
			if id != "" && len(places) > 1 && k.name != "security_group" {
				out = append(out, fmt.Sprintf("%s %s is twice: %v", k.name, id, places))
			}
		}
		if used := w.used(t, k.quota); k.quota != "" && used != int64(len(have)) {
			out = append(out, fmt.Sprintf("quota %s: used %d, there are %d", k.quota, used, len(have)))
		}
	}
	out = append(out, w.attachments(t)...)
	slices.Sort(out)
	return out
}

// attachments holds which volumes Top says are attached against what is at the sites, and tasks against their end.
func (w *world) attachments(t *testing.T) []string {
	t.Helper()
	var out []string
	attached := map[string]bool{} // bottom id
	for _, s := range w.sites {
		for _, server := range s.Servers() {
			for _, v := range server.Volumes {
				attached[s.Name+" "+v] = true
			}
		}
	}
	there := w.marked("volume")
	for id, status := range w.states(t, kinds()[1].of(w)) {
		for _, place := range there[id] {
			if attached[place] != (status == "in-use") && status != "error" {
				out = append(out, fmt.Sprintf("volume %s is %s, and at its site attached is %t", id, status, attached[place]))
			}
		}
	}
	for id, s := range w.servers(t) {
		if s.Task != "" {
			out = append(out, fmt.Sprintf("server %s is in task %s", id, s.Task))
		}
	}
	return out
}

// used reads the use of one quota.
func (w *world) used(t *testing.T, name string) int64 {
	t.Helper()
	var n struct {
		Quota map[string]struct{ Used int64 }
	}
	var c struct {
		QuotaSet map[string]any `json:"quota_set"`
	}
	project := w.tenant.ProjectID
	switch name {
	case "":
		return 0
	case "instances":
		w.tenant.Must(t, "GET", "/compute/v2.1/os-quota-sets/"+project+"/detail", nil, &c)
		return inUse(c.QuotaSet[name])
	case "volumes":
		w.tenant.Must(t, "GET", "/volume/v3/"+project+"/os-quota-sets/"+project+"?usage=True", nil, &c)
		return inUse(c.QuotaSet[name])
	default:
		w.tenant.Must(t, "GET", "/network/v2.0/quotas/"+project+"/details.json", nil, &n)
		return n.Quota[name].Used
	}
}

func inUse(v any) int64 {
	m, _ := v.(object)
	n, _ := m["in_use"].(float64)
	return int64(n)
}

// quiet waits until nothing is wrong, and says what stays so.
func (w *world) quiet(t *testing.T, within time.Duration) {
	t.Helper()
	var left []string
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		if left = w.problems(t); len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v after the last failure:\n%s", within, strings.Join(left, "\n"))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// clear deletes all that the tenant has, users before what they use, and waits until the sites hold nothing of it.
func (w *world) clear(t *testing.T, within time.Duration) {
	t.Helper()
	limit := time.Now().Add(within)
	for _, k := range kinds() {
		k = k.of(w)
		for first := true; ; first = false {
			have := w.states(t, k)
			if k.name == "security_group" {
				maps.DeleteFunc(have, func(id, _ string) bool { return w.isDefault(t, id) })
			}
			if len(have) == 0 {
				break
			}
			for id := range have {
				if first || k.rests != nil {
					w.remove(t, k, id)
				}
			}
			if time.Now().After(limit) {
				t.Fatalf("still there after %v: %s %v", within, k.name, have)
			}
			select {
			case <-t.Context().Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	w.quiet(t, within)
	for _, k := range kinds() {
		for id, places := range w.marked(k.name) {
			if k.name != "security_group" || !w.isDefault(t, id) {
				t.Errorf("left behind: %s of %q at %v", k.name, id, places)
			}
		}
	}
}

func (w *world) isDefault(t *testing.T, group string) bool {
	t.Helper()
	a, err := w.tenant.Do(t.Context(), "GET", "/network/v2.0/security-groups/"+group, nil)
	return err == nil && strings.Contains(a.Text, `"name":"default"`)
}

// remove deletes one; what is gone, or being deleted already, is no fault.
func (w *world) remove(t *testing.T, k kind, id string) {
	t.Helper()
	if k.name == "router" {
		w.dropInterfaces(t, id)
	}
	a, err := w.tenant.Do(t.Context(), "DELETE", k.path+id, nil)
	if err != nil || !a.OK() && a.Status != http.StatusNotFound && a.Status != http.StatusConflict && a.Status != http.StatusBadRequest {
		t.Errorf("DELETE %s%s: %d %s %v", k.path, id, a.Status, a.Text, err)
	}
}

func (w *world) dropInterfaces(t *testing.T, router string) {
	t.Helper()
	var got struct {
		Ports []struct {
			ID    string
			Owner string `json:"device_owner"`
		}
	}
	w.tenant.Must(t, "GET", "/network/v2.0/ports?device_id="+router, nil, &got)
	for _, p := range got.Ports {
		if p.Owner != "network:router_gateway" {
			w.tenant.Must(t, "PUT", "/network/v2.0/routers/"+router+"/remove_router_interface", object{"port_id": p.ID}, nil)
		}
	}
}
