package integration

import (
	"context"
	"net/http"
	"testing"

	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/emulator"
)

// Nova's microversions up to 2.35 carry what other services took over. Clients that pin an old one (and Tempest) still
// ask Nova for them; Top answered 404.
func TestOldComputeProxies(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	top := topproc.Start(t, topproc.Config{})
	top.AddEmulated(t, topproc.Emulate(t, emulator.Default("east"), nil))
	c := top.NewTenant(t, "old", "olga", "member")
	type object = topproc.Object
	at := func(path string) string { return "/compute/v2.1" + path }
	get := func(path, name string) object {
		t.Helper()
		var out object
		c.Must(t, "GET", at(path), nil, &out)
		one, _ := out[name].(object)
		return one
	}
	list := func(path, name string) []any {
		t.Helper()
		var out object
		c.Must(t, "GET", at(path), nil, &out)
		all, _ := out[name].([]any)
		return all
	}
	post := func(path, name string, body object) object {
		t.Helper()
		var out object
		c.Must(t, "POST", at(path), body, &out)
		one, _ := out[name].(object)
		return one
	}
	refused := func(want int, method, path string, body any, header ...string) {
		t.Helper()
		a, err := c.Do(t.Context(), method, at(path), body, header...)
		if err != nil || a.Status != want {
			t.Errorf("%s %s: %d %s %v; want %d", method, path, a.Status, a.Text, err, want)
		}
	}
	gone := func(path string) { t.Helper(); refused(http.StatusNotFound, "GET", path, nil) }

	t.Run("security groups", func(t *testing.T) {
		g := post("/os-security-groups", "security_group", object{"security_group": object{"name": "web", "description": "d"}})
		id := g["id"].(string)
		if g["name"] != "web" || g["tenant_id"] != c.ProjectID || len(g["rules"].([]any)) != 0 {
			t.Errorf("made: %v", g)
		}
		r := post("/os-security-group-rules", "security_group_rule", object{"security_group_rule": object{
			"parent_group_id": id, "ip_protocol": "tcp", "from_port": 22, "to_port": "22", "cidr": "10.0.0.0/8"}})
		if r["from_port"] != 22.0 || r["parent_group_id"] != id || r["ip_range"].(object)["cidr"] != "10.0.0.0/8" {
			t.Errorf("rule: %v", r)
		}
		peer := post("/os-security-group-rules", "security_group_rule", object{"security_group_rule": object{
			"parent_group_id": id, "ip_protocol": "udp", "group_id": id}})
		if peer["group"].(object)["name"] != "web" || peer["to_port"] != 65535.0 {
			t.Errorf("rule of a group: %v", peer)
		}
		if shown := get("/os-security-groups/"+id, "security_group"); len(shown["rules"].([]any)) != 2 {
			t.Errorf("shown: %v", shown)
		}
		if all := list("/os-security-groups", "security_groups"); len(all) != 2 {
			t.Errorf("%d groups, want web and default: %v", len(all), all)
		}
		for _, bad := range []object{
			{"parent_group_id": id, "ip_protocol": "tcp", "from_port": 23, "to_port": 22}, {"parent_group_id": id, "ip_protocol": "xyz", "from_port": 1, "to_port": 2},
			{"parent_group_id": id, "ip_protocol": "tcp", "from_port": "a", "to_port": 2}, {"parent_group_id": "x", "ip_protocol": "tcp", "from_port": 1, "to_port": 2},
		} {
			refused(http.StatusBadRequest, "POST", "/os-security-group-rules", object{"security_group_rule": bad})
		}
		refused(http.StatusAccepted, "DELETE", "/os-security-group-rules/"+r["id"].(string), nil)
		refused(http.StatusAccepted, "DELETE", "/os-security-groups/"+id, nil)
		gone("/os-security-groups/" + id)
		refused(http.StatusNotFound, "GET", "/os-security-groups", nil, "OpenStack-API-Version: compute 2.36")
	})
	t.Run("volumes", func(t *testing.T) {
		v := post("/os-volumes", "volume", object{"volume": object{"size": 1, "display_name": "v", "metadata": object{"a": "b"}}})
		id := v["id"].(string)
		topproc.Await(t, "the volume", func(context.Context) bool { return get("/os-volumes/"+id, "volume")["status"] == "available" })
		if v := get("/os-volumes/"+id, "volume"); v["displayName"] != "v" || v["size"] != 1.0 || v["metadata"].(object)["a"] != "b" {
			t.Errorf("shown: %v", v)
		}
		s := post("/os-snapshots", "snapshot", object{"snapshot": object{"volume_id": id, "display_name": "s"}})
		if s["volumeId"] != id || s["displayName"] != "s" {
			t.Errorf("snapshot: %v", s)
		}
		topproc.Await(t, "the snapshot", func(context.Context) bool {
			return get("/os-snapshots/"+s["id"].(string), "snapshot")["status"] == "available"
		})
		refused(http.StatusAccepted, "DELETE", "/os-snapshots/"+s["id"].(string), nil)
		topproc.Await(t, "the snapshot to go", func(context.Context) bool { return len(list("/os-snapshots/detail", "snapshots")) == 0 })
		refused(http.StatusBadRequest, "POST", "/os-volumes", object{"volume": object{"size": 0}})
		refused(http.StatusBadRequest, "POST", "/os-volumes", object{"volume": object{}})
		refused(http.StatusAccepted, "DELETE", "/os-volumes/"+id, nil)
		topproc.Await(t, "the volume to go", func(context.Context) bool { return len(list("/os-volumes", "volumes")) == 0 })
	})
	t.Run("images", func(t *testing.T) {
		var i object
		c.Must(t, "POST", "/image/v2/images", object{"name": "i", "disk_format": "raw", "container_format": "bare", "colour": "red"}, &i)
		id := i["id"].(string)
		c.Must(t, "PUT", "/image/v2/images/"+id+"/file", []byte("bytes"), nil, "Content-Type: application/octet-stream")
		if got := get("/images/"+id, "image"); got["status"] != "ACTIVE" || got["progress"] != 100.0 || got["OS-EXT-IMG-SIZE:size"] != 5.0 || got["metadata"].(object)["colour"] != "red" {
			t.Errorf("shown: %v", got)
		}
		if all := list("/images/detail?name=i&status=ACTIVE", "images"); len(all) != 1 {
			t.Errorf("listed: %v", all)
		}
		var meta object
		c.Must(t, "PUT", at("/images/"+id+"/metadata/shape"), object{"meta": object{"shape": "round"}}, nil)
		c.Must(t, "POST", at("/images/"+id+"/metadata"), object{"metadata": object{"colour": "blue"}}, nil)
		c.Must(t, "GET", at("/images/"+id+"/metadata"), nil, &meta)
		if m := meta["metadata"].(object); m["colour"] != "blue" || m["shape"] != "round" || len(m) != 2 {
			t.Errorf("metadata: %v", m)
		}
		refused(http.StatusNoContent, "DELETE", "/images/"+id+"/metadata/shape", nil)
		gone("/images/" + id + "/metadata/shape")
		refused(http.StatusNoContent, "DELETE", "/images/"+id, nil)
		gone("/images/" + id)
	})
	t.Run("networks and floating IPs", func(t *testing.T) {
		var n object
		c.Must(t, "POST", "/network/v2.0/networks", object{"network": object{"name": "mine"}}, &n)
		id := n["network"].(object)["id"].(string)
		if got := get("/os-networks/"+id, "network"); got["label"] != "mine" {
			t.Errorf("network: %v", got)
		}
		if got := get("/os-tenant-networks/"+id, "network"); got["label"] != "mine" || got["cidr"] != "None" {
			t.Errorf("network of the tenant: %v", got)
		}
		gone("/os-networks/nothing")
		if pools := list("/os-floating-ip-pools", "floating_ip_pools"); len(pools) != 1 || pools[0].(object)["name"] != "public" {
			t.Errorf("pools: %v", pools)
		}
		f := post("/os-floating-ips", "floating_ip", object{"pool": "public"})
		if f["ip"] == nil || f["pool"] != "public" || f["instance_id"] != nil {
			t.Errorf("floating IP: %v", f)
		}
		refused(http.StatusNotFound, "POST", "/os-floating-ips", object{"pool": "nowhere"})
		if all := list("/os-floating-ips", "floating_ips"); len(all) != 1 {
			t.Errorf("floating IPs: %v", all)
		}
		refused(http.StatusAccepted, "DELETE", "/os-floating-ips/"+f["id"].(string), nil)
		gone("/os-floating-ips/" + f["id"].(string))
	})
	t.Run("hosts", func(t *testing.T) {
		c = top.Admin(t)
		if all := list("/os-hosts", "hosts"); len(all) != 1 || all[0].(object)["host_name"] != "east" || all[0].(object)["zone"] != "east" {
			t.Errorf("hosts: %v", all)
		}
		if got := list("/os-hosts/east", "host"); len(got) != 2 || got[0].(object)["resource"].(object)["host"] != "east" {
			t.Errorf("host: %v", got)
		}
		gone("/os-hosts/nothing")
		gone("/os-hosts/nothing/startup")
		refused(http.StatusBadRequest, "PUT", "/os-hosts/east", object{"status": "x"})
		refused(http.StatusBadRequest, "PUT", "/os-hosts/east", object{})
		refused(http.StatusConflict, "PUT", "/os-hosts/east", object{"status": "disable"})
		refused(http.StatusNotFound, "GET", "/os-hosts", nil, "OpenStack-API-Version: compute 2.43")
	})
	// A pinned path stays with its site.
	var pinned object
	c.Must(t, "GET", "/sites/east/compute/v2.1/os-networks", nil, &pinned)
	if pinned["networks"] == nil {
		t.Errorf("networks of the site: %v", pinned)
	}
}
