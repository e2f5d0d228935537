package volume_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func east() []ident.SiteID     { return []ident.SiteID{"east"} }
func twoSites() []ident.SiteID { return []ident.SiteID{"east", "west"} }

// The life of a volume through gophercloud, with its snapshot, a clone, and the quota after each.
func TestLife(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	c := a.client("member:p1")
	const me = "member:p1"
	// Cinder answers a create without what its extensions show later; Tempest's schema refuses more.
	raw := a.Ask(me, "POST", "/v3/volumes", map[string]any{"volume": map[string]any{"size": 1}})
	brief, _ := raw.Body["volume"].(map[string]any)
	if _, more := brief["os-vol-tenant-attr:tenant_id"]; raw.Code != 202 || more {
		t.Errorf("answer to a create: %s", raw.Raw)
	}
	if full := a.wait(me, "volumes", brief["id"].(string), "available"); full["os-vol-tenant-attr:tenant_id"] != "p1" {
		t.Errorf("shown: %v", full)
	}
	if got := a.Ask(me, "DELETE", "/v3/volumes/"+brief["id"].(string), nil); got.Code != 202 {
		t.Errorf("delete: %s", got.Raw)
	}
	a.gone(me, "/v3/volumes/"+brief["id"].(string))
	made, err := volumes.Create(t.Context(), c, volumes.CreateOpts{Size: 2, Name: "data", Description: "d", AvailabilityZone: "west", Metadata: map[string]string{"a": "b"}}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if made.Status != "creating" || made.AvailabilityZone != "west" || made.Size != 2 {
		t.Errorf("made: %+v", made)
	}
	one := a.wait(me, "volumes", made.ID, "available")
	if fmt.Sprint(one["metadata"]) != "map[a:b]" || one["volume_type"] != "__DEFAULT__" || one["volume_type_id"] == nil || one["availability_zone"] != "west" || one["bootable"] != "false" {
		t.Errorf("available: %v", one)
	}
	bottom, err := s.Core.Bindings.Get(t.Context(), ident.TopID(made.ID), "west")
	if err != nil || !bottom.Known() {
		t.Fatalf("binding: %+v, %v", bottom, err)
	}
	if got, err := volumes.Get(t.Context(), c, string(bottom.BottomID)).Extract(); err != nil || got.ID != made.ID {
		t.Errorf("by the site's id: %+v, %v", got, err)
	}
	name, words := "renamed", ""
	if got, err := volumes.Update(t.Context(), c, made.ID, volumes.UpdateOpts{Name: &name, Description: &words}).Extract(); err != nil || got.Name != "renamed" || got.Description != "" {
		t.Errorf("update: %+v, %v", got, err)
	}
	if err := volumes.ExtendSize(t.Context(), c, made.ID, volumes.ExtendSizeOpts{NewSize: 3}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if one := a.wait(me, "volumes", made.ID, "available"); one["size"] != 3.0 {
		t.Errorf("size after the extension: %v", one["size"])
	}
	// The flag shows at once, not at the next look at the site.
	if got := a.Ask(me, "POST", "/v3/volumes/"+made.ID+"/action", `{"os-update_readonly_flag":{"readonly":true}}`); got.Code != 202 {
		t.Errorf("readonly: %s", got.Raw)
	}
	if got := a.Ask(me, "GET", "/v3/volumes/"+made.ID, nil); got.Body["volume"].(map[string]any)["metadata"].(map[string]any)["readonly"] != "True" {
		t.Errorf("right after readonly: %s", got.Raw)
	}
	if got := a.Ask(me, "POST", "/v3/volumes/"+made.ID+"/action", `{"os-update_readonly_flag":{"readonly":false}}`); got.Code != 202 {
		t.Errorf("not readonly: %s", got.Raw)
	}
	if err := volumes.SetBootable(t.Context(), c, made.ID, volumes.BootableOpts{Bootable: true}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if got, err := volumes.Get(t.Context(), c, made.ID).Extract(); err != nil || got.Bootable != "true" {
		t.Errorf("right after set bootable: %+v, %v", got, err)
	}
	snap, err := snapshots.Create(t.Context(), c, snapshots.CreateOpts{VolumeID: string(bottom.BottomID), Name: "snap"}).Extract()
	if err != nil || snap.VolumeID != made.ID {
		t.Fatalf("snapshot: %+v, %v", snap, err)
	}
	a.wait(me, "snapshots", snap.ID, "available")
	clone, err := volumes.Create(t.Context(), c, volumes.CreateOpts{SnapshotID: snap.ID, Name: "clone"}, nil).Extract()
	if err != nil || clone.Size != 3 {
		t.Fatalf("clone: %+v, %v", clone, err)
	}
	if one := a.wait(me, "volumes", clone.ID, "available"); one["snapshot_id"] != snap.ID || one["availability_zone"] != "west" {
		t.Errorf("clone: %v", one)
	}
	if v, g, n := a.used(me, "p1", "volumes"), a.used(me, "p1", "gigabytes"), a.used(me, "p1", "snapshots"); v != 2.0 || g != 9.0 || n != 1.0 {
		t.Errorf("in use: %v volumes, %v gigabytes, %v snapshots; want 2, 9, 1", v, g, n)
	}
	if err := volumes.Delete(t.Context(), c, made.ID, nil).ExtractErr(); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("delete of a volume with a snapshot: %v, want 400", err)
	}
	if err := volumes.Delete(t.Context(), c, made.ID, volumes.DeleteOpts{Cascade: true}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := volumes.Delete(t.Context(), c, clone.ID, nil).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v3/volumes/" + made.ID, "/v3/snapshots/" + snap.ID, "/v3/volumes/" + clone.ID} {
		a.gone(me, path)
	}
	if v, g, n := a.used(me, "p1", "volumes"), a.used(me, "p1", "gigabytes"), a.used(me, "p1", "snapshots"); v != 0.0 || g != 0.0 || n != 0.0 {
		t.Errorf("in use after the end: %v volumes, %v gigabytes, %v snapshots", v, g, n)
	}
	for _, r := range s.Clouds["west"].Everything() {
		if r.Kind == "volume" || r.Kind == "snapshot" {
			t.Errorf("left at the site: %+v", r)
		}
	}
}

// A volume may be deleted while it is being made; at the site that has to wait.
func TestDeleteWhileCreating(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	a := newAPI(t, s)
	got := a.Ask("member:p1", "POST", "/v3/volumes", map[string]any{"volume": map[string]any{"size": 1}})
	id := got.Body["volume"].(map[string]any)["id"].(string)
	if got := a.Ask("member:p1", "DELETE", "/v3/volumes/"+id, nil); got.Code != 202 {
		t.Fatalf("delete: %d %s", got.Code, got.Raw)
	}
	a.gone("member:p1", "/v3/volumes/"+id)
	if used := a.used("member:p1", "p1", "volumes"); used != 0.0 {
		t.Errorf("volumes in use: %v", used)
	}
}

// The site's refusal of an extension gives size and quota back; so does one that the site forgot.
func TestExtendUndone(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	a := newAPI(t, s)
	const me = "member:p1"
	id := a.make(me, nil)
	session, err := s.Registry.Tenant(t.Context(), "east", "p1")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Core.Bindings.Get(t.Context(), ident.TopID(id), "east")
	if err != nil {
		t.Fatal(err)
	}
	// Behind Top's back: the site knows the volume in another status than Top does.
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	act := func(a sites.Adaptor, name string, args any) {
		t.Helper()
		if _, err := a.Do(t.Context(), sites.Request{Service: sites.BlockStorage, Method: "POST", Path: "volumes/" + string(b.BottomID) + "/action", Body: sites.Body{name: args}}); err != nil {
			t.Fatal(err)
		}
	}
	act(admin, "os-reset_status", sites.Body{"status": "maintenance"})
	if got := a.Ask(me, "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-extend": map[string]any{"new_size": 5}}); got.Code != 400 {
		t.Fatalf("extend: %d %s, want 400", got.Code, got.Raw)
	}
	if size, used := a.Ask(me, "GET", "/v3/volumes/"+id, nil).Body["volume"].(map[string]any)["size"], a.used(me, "p1", "gigabytes"); size != 1.0 || used != 1.0 {
		t.Errorf("after the refusal: size %v, gigabytes in use %v; want 1, 1", size, used)
	}
	act(admin, "os-reset_status", sites.Body{"status": "available"})
	act(session, "os-extend", sites.Body{"new_size": 4})
	cascadetest.Until(t, "the size that the site has", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), ident.TopID(id))
		if err == nil {
			_, err = s.Core.Refresh(t.Context(), r, "east", b.BottomID)
		}
		size, used := a.Ask(me, "GET", "/v3/volumes/"+id, nil).Body["volume"].(map[string]any)["size"], a.used(me, "p1", "gigabytes")
		return []any{err, size, used}, size == 4.0 && used == 4.0
	})
}

// An administrator's verbs are done by the site's own account, and the tenant's are not enough for them.
func TestAdministratorsVerbs(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	a := newAPI(t, s)
	id := a.make("member:p1", nil)
	snap := a.Ask("member:p1", "POST", "/v3/snapshots", map[string]any{"snapshot": map[string]any{"volume_id": id}}).Body["snapshot"].(map[string]any)["id"].(string)
	a.wait("member:p1", "snapshots", snap, "available")
	reset := map[string]any{"os-reset_status": map[string]any{"status": "error"}}
	if got := a.Ask("member:p1", "POST", "/v3/volumes/"+id+"/action", reset); got.Code != 403 {
		t.Errorf("a member's reset: %d %s, want 403", got.Code, got.Raw)
	}
	if got := a.Ask("admin:ops", "POST", "/v3/volumes/"+id+"/action", reset); got.Code != 202 {
		t.Fatalf("reset: %d %s", got.Code, got.Raw)
	}
	a.wait("member:p1", "volumes", id, "error")
	for _, status := range []string{"error", "available"} { // a look right after the reset saw the status before it
		if got := a.Ask("admin:ops", "POST", "/v3/snapshots/"+snap+"/action", map[string]any{"os-reset_status": map[string]any{"status": status}}); got.Code != 202 {
			t.Fatalf("reset of the snapshot: %d %s", got.Code, got.Raw)
		}
		if got := a.Ask("member:p1", "GET", "/v3/snapshots/"+snap, nil).Body["snapshot"].(map[string]any)["status"]; got != status {
			t.Errorf("after the reset to %s the snapshot is %v", status, got)
		}
	}
	if got := a.Ask("member:p1", "POST", "/v3/snapshots/"+snap+"/action", map[string]any{"os-force_delete": nil}); got.Code != 403 {
		t.Errorf("a member's force: %d, want 403", got.Code)
	}
	if got := a.Ask("admin:ops", "POST", "/v3/snapshots/"+snap+"/action", map[string]any{"os-force_delete": nil}); got.Code != 202 {
		t.Fatalf("force delete of the snapshot: %d %s", got.Code, got.Raw)
	}
	a.gone("member:p1", "/v3/snapshots/"+snap)
	if got := a.Ask("admin:ops", "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-reset_status": map[string]any{"status": "maintenance"}}); got.Code != 202 {
		t.Fatalf("reset: %d %s", got.Code, got.Raw)
	}
	a.wait("member:p1", "volumes", id, "maintenance")
	if got := a.Ask("member:p1", "DELETE", "/v3/volumes/"+id, nil); got.Code != 400 {
		t.Errorf("delete in maintenance: %d, want 400", got.Code)
	}
	if got := a.Ask("admin:ops", "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-force_delete": nil}); got.Code != 202 {
		t.Fatalf("force delete: %d %s", got.Code, got.Raw)
	}
	a.gone("member:p1", "/v3/volumes/"+id)
}

// Two changes of metadata at once both count, and the site learns of them.
func TestMetadataAtOnce(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	a := newAPI(t, s)
	const me = "member:p1"
	id := a.make(me, nil)
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			key := fmt.Sprintf("k%d", i)
			if got := a.Ask(me, "PUT", "/v3/volumes/"+id+"/metadata/"+key, map[string]any{"meta": map[string]any{key: "v"}}); got.Code != 200 {
				t.Errorf("set %s: %d %s", key, got.Code, got.Raw)
			}
		})
	}
	g.Wait()
	if got := a.Ask(me, "GET", "/v3/volumes/"+id+"/metadata", nil).Body["metadata"].(map[string]any); len(got) != 8 {
		t.Errorf("metadata: %v, want all 8", got)
	}
	if got := a.Ask(me, "DELETE", "/v3/volumes/"+id+"/metadata/k0", nil); got.Code != 200 {
		t.Errorf("delete: %d %s", got.Code, got.Raw)
	}
	if got := a.Ask(me, "GET", "/v3/volumes/"+id+"/metadata/k0", nil); got.Code != 404 {
		t.Errorf("deleted key: %d, want 404", got.Code)
	}
	b, err := s.Core.Bindings.Get(t.Context(), ident.TopID(id), "east")
	if err != nil {
		t.Fatal(err)
	}
	session, err := s.Registry.Tenant(t.Context(), "east", "p1")
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the metadata at the site", func() (any, bool) {
		o, err := session.Show(t.Context(), sites.Volume, b.BottomID)
		if err != nil {
			t.Fatal(err)
		}
		meta, _ := o.Body["metadata"].(map[string]any)
		top, marked := sites.MarkerOf(o.Body)
		return meta, len(meta) == 8 && marked && string(top) == id // 7 and the marker
	})
}

// An image of a volume, and a volume of an image; ids and properties are Top's.
func TestImages(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	img := s.NewImage(t, who, "img")
	id := a.make("member:p1", map[string]any{"imageRef": img.ID, "availability_zone": "west"})
	one := a.Ask("member:p1", "GET", "/v3/volumes/"+id, nil).Body["volume"].(map[string]any)
	meta, _ := one["volume_image_metadata"].(map[string]any)
	if one["bootable"] != "true" || meta["image_id"] != string(img.ID) || meta["hw_marker"] != nil {
		t.Errorf("volume of an image: %v", one)
	}
	got := a.Ask("member:p1", "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-volume_upload_image": map[string]any{"image_name": "saved", "visibility": "shared", "protected": true}}, at("3.70"))
	if got.Code != 202 {
		t.Fatalf("upload: %d %s", got.Code, got.Raw)
	}
	saved := got.Body["os-volume_upload_image"].(map[string]any)["image_id"].(string)
	cascadetest.Until(t, "an active image", func() (any, bool) {
		r, err := s.Image.Find(t.Context(), who, saved)
		if err != nil {
			t.Fatal(err)
		}
		return r.Status, r.Status == "active" && r.Visibility == "shared"
	})
	a.wait("member:p1", "volumes", id, "available")
	if got := a.Ask("member:p1", "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-volume_upload_image": map[string]any{"image_name": "x", "visibility": "public"}}, at("3.70")); got.Code != 403 {
		t.Errorf("a member publishes: %d, want 403", got.Code)
	}
	if got := a.Ask("member:p1", "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-set_image_metadata": map[string]any{"metadata": map[string]any{"hw_disk_bus": "scsi"}}}); got.Code != 200 {
		t.Errorf("set image metadata: %d %s", got.Code, got.Raw)
	}
	shown := a.Ask("member:p1", "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-show_image_metadata": nil})
	if meta, _ := shown.Body["metadata"].(map[string]any); meta["hw_disk_bus"] != "scsi" || meta["image_id"] != string(img.ID) {
		t.Errorf("image metadata: %s", shown.Raw)
	}
}

// What the site refuses for good leaves an error whose reason can be read, and can be deleted.
func TestErrorTellsWhy(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	a := newAPI(t, s)
	const me = "member:p1"
	got := a.Ask(me, "POST", "/v3/volumes", map[string]any{"volume": map[string]any{"size": 1, "no_such_member": true}}, at("3.0"))
	if got.Code != 202 {
		t.Fatalf("create: %d %s", got.Code, got.Raw)
	}
	id := got.Body["volume"].(map[string]any)["id"].(string)
	a.wait(me, "volumes", id, "error")
	list := a.Ask(me, "GET", "/v3/messages", nil, at("3.70")).Body["messages"].([]any)
	if len(list) != 1 || !strings.Contains(list[0].(map[string]any)["user_message"].(string), "no_such_member") || list[0].(map[string]any)["resource_uuid"] != id {
		t.Errorf("messages: %v", list)
	}
	if got := a.Ask("member:p2", "GET", "/v3/messages", nil, at("3.70")).Body["messages"].([]any); len(got) != 0 {
		t.Errorf("another project's messages: %v", got)
	}
	if got := a.Ask(me, "GET", "/v3/messages/"+id, nil, at("3.70")); got.Code != 200 {
		t.Errorf("one message: %d %s", got.Code, got.Raw)
	}
	if got := a.Ask(me, "DELETE", "/v3/volumes/"+id, nil); got.Code != 202 {
		t.Fatalf("delete: %d %s", got.Code, got.Raw)
	}
	a.gone(me, "/v3/volumes/"+id)
	if used := a.used(me, "p1", "gigabytes"); used != 0.0 {
		t.Errorf("gigabytes in use: %v", used)
	}
}

// The forms in which Cinder refuses.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	const me = "member:p1"
	id := a.make(me, map[string]any{"size": 2, "availability_zone": "east"})
	vol, act := "/v3/volumes/"+id, "/v3/volumes/"+id+"/action"
	img := s.NewImage(t, cascadetest.Member("p1"), "img")
	v := func(members map[string]any) map[string]any { return map[string]any{"volume": members} }
	for _, tt := range []struct {
		name, token, version, method, path string
		body                               any
		code                               int
		outer                              string
	}{
		{"no token", "", "", "GET", "/v3/volumes", nil, 401, "error"},
		{"malformed version", me, "banana", "GET", "/v3/volumes", nil, 400, "badRequest"},
		{"version outside the window", me, "3.999", "GET", "/v3/volumes", nil, 406, ""},
		{"another project's volume", "member:p2", "", "GET", vol, nil, 404, "itemNotFound"},
		{"another project's volume, to delete", "member:p2", "", "DELETE", vol, nil, 404, "itemNotFound"},
		{"another project's volume, to act on", "member:p2", "", "POST", act, `{"os-extend":{"new_size":9}}`, 404, "itemNotFound"},
		{"another project's volume, to snapshot", "member:p2", "", "POST", "/v3/snapshots", map[string]any{"snapshot": map[string]any{"volume_id": id}}, 404, "itemNotFound"},
		{"another project's volume, to clone", "member:p2", "", "POST", "/v3/volumes", v(map[string]any{"source_volid": id}), 404, "itemNotFound"},
		{"another project's image", "member:p2", "", "POST", "/v3/volumes", v(map[string]any{"size": 1, "imageRef": img.ID}), 400, "badRequest"},
		{"another project in the path", me, "", "GET", "/v3/beef/volumes", nil, 400, "badRequest"},
		{"its own project in the path", me, "", "GET", "/v3/p1/volumes/" + id, nil, 200, "volume"},
		{"a reader's create", "reader:p1", "", "POST", "/v3/volumes", v(map[string]any{"size": 1}), 403, "forbidden"},
		{"a reader's delete", "reader:p1", "", "DELETE", vol, nil, 403, "forbidden"},
		{"no JSON", me, "", "POST", "/v3/volumes", `{"volume":`, 400, "badRequest"},
		{"no size", me, "", "POST", "/v3/volumes", v(map[string]any{"name": "x"}), 400, "badRequest"},
		{"size zero", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 0}), 400, "badRequest"},
		{"size out of range", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 1 << 31}), 400, "badRequest"},
		{"size is no number", me, "", "POST", "/v3/volumes", v(map[string]any{"size": "big"}), 400, "badRequest"},
		{"name too long", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 1, "name": strings.Repeat("x", 256)}), 400, "badRequest"},
		{"our own metadata key", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 1, "metadata": map[string]any{"hw": "x"}}), 400, "badRequest"},
		{"metadata too long", me, "", "POST", vol + "/metadata", map[string]any{"metadata": map[string]any{"a": strings.Repeat("x", 256)}}, 400, "badRequest"},
		{"multiattach", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 1, "multiattach": true}), 400, "badRequest"},
		{"a group", me, "3.13", "POST", "/v3/volumes", v(map[string]any{"size": 1, "group_id": id}), 400, "badRequest"},
		{"a null group", me, "3.13", "POST", "/v3/volumes", v(map[string]any{"size": "x", "group_id": nil}), 400, "badRequest"},
		{"a hint that is not offered", me, "", "POST", "/v3/volumes", map[string]any{"volume": map[string]any{"size": 1}, "OS-SCH-HNT:scheduler_hints": map[string]any{"same_host": id}}, 400, "badRequest"},
		{"unknown member since 3.53", me, "3.53", "POST", "/v3/volumes", v(map[string]any{"size": 1, "colour": "red"}), 400, "badRequest"},
		{"two sources", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 2, "source_volid": id, "imageRef": img.ID}), 400, "badRequest"},
		{"smaller than its source", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 1, "source_volid": id}), 400, "badRequest"},
		{"unknown type", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 1, "volume_type": "gold"}), 404, "itemNotFound"},
		{"unknown zone", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 1, "availability_zone": "moon"}), 400, "badRequest"},
		{"another site than its source's", me, "", "POST", "/v3/volumes", v(map[string]any{"source_volid": id, "availability_zone": "west"}), 409, "conflictingRequest"},
		{"over quota", me, "", "POST", "/v3/volumes", v(map[string]any{"size": 5000}), 413, "overLimit"},
		{"unknown member of an update", me, "", "PUT", vol, v(map[string]any{"colour": "red"}), 400, "badRequest"},
		{"unknown action", me, "", "POST", act, `{"dance":null}`, 400, "badRequest"},
		{"two actions", me, "", "POST", act, `{"os-extend":{},"os-retype":{}}`, 400, "badRequest"},
		{"extension to less", me, "", "POST", act, `{"os-extend":{"new_size":1}}`, 400, "badRequest"},
		{"extension over quota", me, "", "POST", act, `{"os-extend":{"new_size":5000}}`, 413, "overLimit"},
		{"extension without a size", me, "", "POST", act, `{"os-extend":{}}`, 400, "badRequest"},
		{"attach here", me, "", "POST", act, `{"os-attach":{}}`, 409, "conflictingRequest"},
		{"status nowhere", "admin:ops", "", "POST", act, `{"os-reset_status":{}}`, 400, "badRequest"},
		{"unknown sort key", me, "", "GET", "/v3/volumes?sort=colour", nil, 400, "badRequest"},
		{"negative offset", me, "", "GET", "/v3/snapshots?offset=-1", nil, 400, "badRequest"},
		{"negative limit", me, "", "GET", "/v3/volumes?limit=-1", nil, 400, "badRequest"},
		{"unknown marker", me, "", "GET", "/v3/volumes?marker=x", nil, 404, "itemNotFound"},
		{"summary before 3.12", me, "3.11", "GET", "/v3/volumes/summary", nil, 404, "itemNotFound"},
		{"summary", me, "3.12", "GET", "/v3/volumes/summary", nil, 200, "volume-summary"},
		{"messages before 3.3", me, "3.2", "GET", "/v3/messages", nil, 404, "itemNotFound"},
		{"another project's quota", me, "", "GET", "/v3/os-quota-sets/p2", nil, 403, "forbidden"},
		{"a member sets a quota", me, "", "PUT", "/v3/os-quota-sets/p1", `{"quota_set":{"volumes":99}}`, 403, "forbidden"},
		{"a quota that is none", "admin:ops", "", "PUT", "/v3/os-quota-sets/p1", `{"quota_set":{"cores":1}}`, 400, "badRequest"},
		{"a quota below -1", "admin:ops", "", "PUT", "/v3/os-quota-sets/p1", `{"quota_set":{"volumes":-2}}`, 400, "badRequest"},
		{"a member makes a type", me, "", "POST", "/v3/types", `{"volume_type":{"name":"x"}}`, 403, "forbidden"},
		{"services for a member", me, "", "GET", "/v3/os-services", nil, 403, "forbidden"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.version != "" {
				header = append(header, at(tt.version))
			}
			got := a.Ask(tt.token, tt.method, tt.path, tt.body, header...)
			if got.Code != tt.code {
				t.Fatalf("got %d %s, want %d", got.Code, got.Raw, tt.code)
			}
			if _, ok := got.Body[tt.outer]; tt.outer != "" && !ok {
				t.Errorf("body %s lacks %s", got.Raw, tt.outer)
			}
		})
	}
	if got := a.Ask("admin:ops", "PUT", "/v3/os-quota-sets/p1", `{"quota_set":{"per_volume_gigabytes":3}}`); got.Code != 200 {
		t.Fatalf("set quota: %d %s", got.Code, got.Raw)
	}
	if got := a.Ask(me, "POST", "/v3/volumes", v(map[string]any{"size": 4})); got.Code != 413 {
		t.Errorf("over the limit of one volume: %d %s, want 413", got.Code, got.Raw)
	}
	for _, tt := range []struct {
		version, member string
		there           bool
	}{{"3.12", "group_id", false}, {"3.13", "group_id", true}, {"3.62", "volume_type_id", false}, {"3.63", "volume_type_id", true}, {"3.64", "consumes_quota", false}, {"3.65", "consumes_quota", true}} {
		one := a.Ask(me, "GET", vol, nil, at(tt.version)).Body["volume"].(map[string]any)
		if _, ok := one[tt.member]; ok != tt.there {
			t.Errorf("%s at %s: there %v, want %v", tt.member, tt.version, ok, tt.there)
		}
	}
}

// Lists: pages, filters, who sees whose, and links that come back to Top.
func TestLists(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	a := newAPI(t, s)
	for i := range 5 {
		a.make("member:p1", map[string]any{"name": fmt.Sprintf("v%d", i), "size": i + 1, "metadata": map[string]any{"odd": fmt.Sprint(i%2 == 1)}})
	}
	a.make("member:p2", map[string]any{"name": "other"})
	names := func(token, path string) (out []string) {
		got := a.Ask(token, "GET", path, nil, at("3.70"))
		list, ok := got.Body["volumes"].([]any)
		if !ok {
			t.Fatalf("%s: %d %s", path, got.Code, got.Raw)
		}
		for _, one := range list {
			out = append(out, one.(map[string]any)["name"].(string))
		}
		return out
	}
	var seen []string
	next := "/v3/p1/volumes/detail?limit=2&sort=name:asc"
	for next != "" {
		seen = append(seen, names("reader:p1", next)...)
		links, _ := a.Ask("reader:p1", "GET", next, nil).Body["volumes_links"].([]any)
		if next = ""; len(links) > 0 {
			href := links[0].(map[string]any)["href"].(string)
			if !strings.HasPrefix(href, a.URL+"/v3/p1/volumes/detail?") {
				t.Fatalf("next link %s leads elsewhere", href)
			}
			next = strings.TrimPrefix(href, a.URL)
		}
	}
	if got := strings.Join(seen, " "); got != "v0 v1 v2 v3 v4" {
		t.Errorf("pages: %s", got)
	}
	for _, tt := range []struct {
		token, query string
		want         int
	}{
		{"reader:p1", "", 5}, {"reader:p1", "?name=v1", 1}, {"reader:p1", "?status=error", 0}, {"reader:p1", "?metadata=%7B'odd':+'true'%7D", 2},
		{"reader:p1", "?all_tenants=1", 5}, {"admin:ops", "?all_tenants=1", 6}, {"admin:ops", "?all_tenants=1&project_id=p2", 1}, {"admin:ops", "", 0},
		{"reader:p1", "?limit=0", 0}, {"reader:p1", "?offset=3", 2}, {"reader:p1", "?offset=1&limit=2", 2}, {"reader:p1", "?offset=9", 0}, {"reader:p1", "?availability_zone=east", 5}, {"reader:p1", "?bootable=true", 0}, {"reader:p1", "?name~=v", 5},
	} {
		if got := names(tt.token, "/v3/volumes"+tt.query); len(got) != tt.want {
			t.Errorf("%s as %s: %v, want %d", tt.query, tt.token, got, tt.want)
		}
	}
	if got := a.Ask("reader:p1", "GET", "/v3/volumes?with_count=true&limit=1", nil, at("3.45")); got.Body["count"] != 5.0 {
		t.Errorf("count: %s", got.Raw)
	}
	sum := a.Ask("reader:p1", "GET", "/v3/volumes/summary", nil, at("3.36")).Body["volume-summary"].(map[string]any)
	odd, _ := sum["metadata"].(map[string]any)["odd"].([]any)
	if sum["total_count"] != 5.0 || sum["total_size"] != 15.0 || len(odd) != 2 {
		t.Errorf("summary: %v", sum)
	}
	limits := a.Ask("reader:p1", "GET", "/v3/limits", nil).Body["limits"].(map[string]any)["absolute"].(map[string]any)
	if limits["totalVolumesUsed"] != 5.0 || limits["totalGigabytesUsed"] != 15.0 {
		t.Errorf("limits: %v", limits)
	}
}

// Types are the sites': private ones are for administrators, and one that a single site has decides where a volume goes.
func TestTypes(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	admin, err := s.Registry.Admin(t.Context(), "west")
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]bool{"gold": true, "secret": false} {
		_, err := admin.Do(t.Context(), sites.Request{Service: sites.BlockStorage, Method: "POST", Path: "types", Body: sites.Body{"volume_type": sites.Body{
			"name": name, "os-volume-type-access:is_public": public, "extra_specs": sites.Body{"volume_backend_name": "x", "multiattach": "<is> True"},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Adopt(t, "west")
	if got := a.names("reader:p1", ""); !slices.Equal(got, []string{"__DEFAULT__", "gold"}) {
		t.Errorf("types for a reader: %v", got)
	}
	if got := a.names("admin:ops", "?is_public=None"); !slices.Contains(got, "secret") {
		t.Errorf("types for an administrator: %v", got)
	}
	if got := a.Ask("reader:p1", "GET", "/v3/types/default", nil); got.Code != 200 {
		t.Errorf("the default type: %d %s", got.Code, got.Raw)
	}
	id := a.make("member:p1", map[string]any{"volume_type": "gold"})
	one := a.Ask("member:p1", "GET", "/v3/volumes/"+id, nil, at("3.63")).Body["volume"].(map[string]any)
	if one["volume_type"] != "gold" || one["availability_zone"] != "west" {
		t.Errorf("volume of a type that west alone has: %v", one)
	}
	got := a.Ask("member:p1", "POST", "/v3/volumes", map[string]any{"volume": map[string]any{"size": 1, "volume_type": "gold", "availability_zone": "east"}})
	if got.Code != 409 || !strings.Contains(string(got.Raw), "east") || !strings.Contains(string(got.Raw), "west") {
		t.Errorf("gold at east: %d %s, want 409 naming both sites", got.Code, got.Raw)
	}
	if got := a.Ask("member:p1", "POST", "/v3/volumes", map[string]any{"volume": map[string]any{"size": 1, "volume_type": "secret"}}); got.Code != 404 {
		t.Errorf("a private type: %d %s, want 404", got.Code, got.Raw)
	}
	typ, _ := one["volume_type_id"].(string)
	specs := a.Ask("reader:p1", "GET", "/v3/types/"+typ+"/extra_specs", nil).Body["extra_specs"].(map[string]any)
	if len(specs) != 1 || specs["multiattach"] == nil {
		t.Errorf("extra specs for a reader: %v", specs)
	}
	if got := a.Ask("member:p1", "POST", "/v3/volumes/"+id+"/action", map[string]any{"os-retype": map[string]any{"new_type": "__DEFAULT__", "migration_policy": "never"}}); got.Code != 202 {
		t.Fatalf("retype: %d %s", got.Code, got.Raw)
	}
	if one := a.wait("member:p1", "volumes", id, "available"); one["volume_type"] != "__DEFAULT__" {
		t.Errorf("after the retype: %v", one["volume_type"])
	}
}
