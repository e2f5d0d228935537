package image_test

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func twoSites() []ident.SiteID { return []ident.SiteID{"east", "west"} }

// The life of an image through gophercloud: bytes come back as they went, sums are right, and the second site gets
// them when something there first needs them, under the same id.
func TestLife(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	c := a.client("member:p1")
	made, err := images.Create(t.Context(), c, images.CreateOpts{
		Name: "cirros", DiskFormat: "raw", ContainerFormat: "bare", Tags: []string{"b", "a"}, Properties: map[string]string{"os_distro": "cirros"},
	}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if made.Status != images.ImageStatusQueued || made.Visibility != images.ImageVisibilityShared || made.Properties["os_distro"] != "cirros" {
		t.Errorf("made: %+v", made)
	}
	const data = "the bytes of a disk"
	if err := imagedata.Upload(t.Context(), c, made.ID, strings.NewReader(data)).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	got, err := images.Get(t.Context(), c, made.ID).Extract()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512([]byte(data))
	if got.Status != images.ImageStatusActive || got.SizeBytes != int64(len(data)) || got.Properties["os_hash_value"] != hex.EncodeToString(sum[:]) {
		t.Errorf("after the upload: %+v", got)
	}
	home, _ := got.Properties["headwater:sites"].(string)
	if home != "east" && home != "west" {
		t.Fatalf("headwater:sites is %q, want one site", home)
	}
	other := ident.SiteID(map[string]string{"east": "west", "west": "east"}[home])
	bottom, err := s.Core.EnsureFor(t.Context(), other, ident.TopID(made.ID), "p1")
	if err != nil || string(bottom) != made.ID {
		t.Fatalf("copy to %s: %s, %v; want the same id", other, bottom, err)
	}
	if got, _ := images.Get(t.Context(), c, made.ID).Extract(); got.Properties["headwater:sites"] != "east,west" {
		t.Errorf("headwater:sites after the copy: %v", got.Properties["headwater:sites"])
	}
	body, err := imagedata.Download(t.Context(), c, made.ID).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := io.ReadAll(body); string(raw) != data {
		t.Errorf("downloaded %q, want %q", raw, data)
	}
	changed, err := images.Update(t.Context(), c, made.ID, images.UpdateOpts{images.ReplaceImageName{NewName: "cirros-2"}, images.UpdateImageProperty{Op: images.RemoveOp, Name: "os_distro"}}).Extract()
	if err != nil || changed.Name != "cirros-2" || changed.Properties["os_distro"] != nil {
		t.Errorf("update: %+v, %v", changed, err)
	}
	cascadetest.Until(t, "the change at both sites", func() (any, bool) {
		var seen []any
		for _, site := range twoSites() {
			o := a.atSite("p1", site, made.ID)
			seen = append(seen, o.Body["name"], o.Body["os_distro"])
		}
		return seen, fmt.Sprint(seen) == "[cirros-2 <nil> cirros-2 <nil>]"
	})
	if err := images.Delete(t.Context(), c, made.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the end at both sites", func() (any, bool) {
		var left []string
		for _, cloud := range s.Clouds {
			for _, r := range cloud.Everything() {
				if r.Kind == "image" && r.ID == made.ID {
					left = append(left, r.ID)
				}
			}
		}
		return left, len(left) == 0
	})
	if got := a.Ask("member:p1", "POST", "/v2/images", map[string]any{"id": made.ID, "name": "again"}); got.Code != 409 {
		t.Errorf("an id that was used: %d %s, want 409", got.Code, got.Raw)
	}
}

// atSite returns an image as its owner's project sees it at a site.
func (a *api) atSite(project string, site ident.SiteID, id string) sites.Object {
	a.T.Helper()
	session, err := a.Stack.Registry.Tenant(a.T.Context(), site, project)
	if err != nil {
		a.T.Fatal(err)
	}
	o, err := session.Show(a.T.Context(), sites.Image, ident.BottomID(id))
	if err != nil {
		a.T.Fatal(err)
	}
	return o
}

// status waits until an image has a status.
func (a *api) status(token, id, want string) {
	a.T.Helper()
	cascadetest.Until(a.T, "image in status "+want, func() (any, bool) {
		got := a.Ask(token, "GET", "/v2/images/"+id, nil).Body["status"]
		return got, got == want
	})
}

// A client that breaks off leaves the image queued, and its next try succeeds; meanwhile there are no bytes.
func TestUploadBreaksOff(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	id := a.make("member:p1", nil)
	for range 2 {
		in, out := io.Pipe()
		var g sync.WaitGroup
		g.Go(func() { a.Ask("member:p1", "PUT", "/v2/images/"+id+"/file", in, octets) })
		if _, err := out.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		a.status("member:p1", id, "saving")
		_ = out.CloseWithError(errors.New("the client went away"))
		g.Wait()
		a.status("member:p1", id, "queued")
	}
	if got := a.Ask("member:p1", "GET", "/v2/images/"+id+"/file", nil); got.Code != 204 {
		t.Errorf("download of a queued image: %d, want 204", got.Code)
	}
	if got := a.Ask("member:p1", "GET", "/v2/images/"+id, nil).Body; got["headwater:sites"] != nil || got["size"] != nil {
		t.Errorf("a queued image says it has bytes: %v", got)
	}
	a.fill("member:p1", id, "whole")
	if got := a.Ask("member:p1", "GET", "/v2/images/"+id+"/file", nil); string(got.Raw) != "whole" {
		t.Errorf("download: %q", got.Raw)
	}
}

// While one upload runs another is refused, and the first one wins.
func TestUploadsExclude(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	id := a.make("member:p1", nil)
	in, out := io.Pipe()
	var first cascadetest.Answer
	var g sync.WaitGroup
	t.Cleanup(func() { _ = out.Close() })
	g.Go(func() { first = a.Ask("member:p1", "PUT", "/v2/images/"+id+"/file", in, octets) })
	if _, err := out.Write([]byte("slow ")); err != nil {
		t.Fatal(err)
	}
	a.status("member:p1", id, "saving")
	if got := a.Ask("member:p1", "PUT", "/v2/images/"+id+"/file", "fast", octets); got.Code != 409 {
		t.Errorf("a second upload: %d %s, want 409", got.Code, got.Raw)
	}
	// A site that needs the image meanwhile waits for its bytes, and gets all of them.
	for _, site := range twoSites() {
		r, err := s.Core.Index.Get(t.Context(), ident.TopID(id))
		if err != nil {
			t.Fatal(err)
		}
		var spec image.Spec
		if err := r.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		if site == spec.Home {
			continue
		}
		if _, err := s.Core.Ensure(t.Context(), site, ident.TopID(id)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a copy of what is being uploaded: %v, want to be told to wait", err)
		}
	}
	_, _ = out.Write([]byte("bytes"))
	_ = out.Close()
	if g.Wait(); first.Code != 204 {
		t.Fatalf("the first upload: %d %s", first.Code, first.Raw)
	}
	if got := a.Ask("member:p1", "GET", "/v2/images/"+id+"/file", nil); string(got.Raw) != "slow bytes" {
		t.Errorf("download: %q", got.Raw)
	}
	for _, site := range twoSites() {
		if _, err := s.Core.Ensure(t.Context(), site, ident.TopID(id)); err != nil {
			t.Errorf("a copy at %s afterwards: %v", site, err)
		} else if o := a.atSite("p1", site, id); o.Text("status") != "active" || fmt.Sprint(o.Body["size"]) != "10" {
			t.Errorf("the copy at %s: %v", site, o.Body)
		}
	}
	if got := a.Ask("member:p1", "PUT", "/v2/images/"+id+"/file", "more", octets); got.Code != 409 {
		t.Errorf("an upload to an active image: %d, want 409", got.Code)
	}
}

// Who may use an image decides Top; a server of another project must then boot from it at the site, where it lies in its owner's project.
func TestOtherProjectsBoot(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	other := cascadetest.Member("p2")
	net := s.NewNetwork(t, other, "net", "10.1.0.0/24")
	for _, tt := range []struct{ visibility, owner string }{{"public", "admin:ops"}, {"community", "member:p1"}, {"shared", "member:p1"}} {
		t.Run(tt.visibility, func(t *testing.T) {
			// made private, used at the site, and only then opened: what is there must change too
			id := a.make(tt.owner, map[string]any{"visibility": "private"})
			a.fill(tt.owner, id, "disk of "+tt.visibility)
			if got := a.Ask("member:p2", "GET", "/v2/images/"+id, nil); got.Code != 404 {
				t.Fatalf("a private image of another project: %d, want 404", got.Code)
			}
			if got := a.Ask(tt.owner, "PATCH", "/v2/images/"+id, []any{map[string]any{"op": "replace", "path": "/visibility", "value": tt.visibility}}, patch); got.Code != 200 {
				t.Fatalf("set visibility: %d %s", got.Code, got.Raw)
			}
			if tt.visibility == "shared" {
				if got := a.Ask(tt.owner, "POST", "/v2/images/"+id+"/members", map[string]any{"member": "p2"}); got.Code != 200 {
					t.Fatalf("add member: %d %s", got.Code, got.Raw)
				}
			}
			img, err := s.Image.Find(t.Context(), other, id)
			if err != nil {
				t.Fatal(err)
			}
			s.Boot(t, other, "from-"+tt.visibility, img, net)
		})
	}
}

// A member that is taken away loses the image at the sites as well.
func TestMemberRemoved(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	id := a.make("member:p1", nil)
	a.fill("member:p1", id, "disk")
	a.Ask("member:p1", "POST", "/v2/images/"+id+"/members", map[string]any{"member": "p2"})
	if _, err := s.Core.EnsureFor(t.Context(), "east", ident.TopID(id), "p2"); err != nil {
		t.Fatal(err)
	}
	a.atSite("p2", "east", id) // it sees it
	if got := a.Ask("member:p1", "DELETE", "/v2/images/"+id+"/members/p2", nil); got.Code != 204 {
		t.Fatalf("remove member: %d %s", got.Code, got.Raw)
	}
	session, err := s.Registry.Tenant(t.Context(), "east", "p2")
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the end of the share at the site", func() (any, bool) {
		_, err := session.Show(t.Context(), sites.Image, ident.BottomID(id))
		return err, err != nil
	})
}

// Who sees, lists, changes and answers what.
func TestIsolation(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	ids := map[string]string{}
	for _, v := range []string{"private", "shared", "community"} {
		ids[v] = a.make("member:p1", map[string]any{"name": v, "visibility": v})
	}
	ids["public"] = a.make("admin:ops", map[string]any{"name": "public", "visibility": "public"})
	shared := "/v2/images/" + ids["shared"]
	for _, step := range []struct {
		name, token, method, path string
		body                      any
		header                    string
		code                      int
	}{
		{"another adds itself", "member:p2", "POST", shared + "/members", map[string]any{"member": "p2"}, "", 404},
		{"the owner adds", "member:p1", "POST", shared + "/members", map[string]any{"member": "p2"}, "", 200},
		{"the owner adds again", "member:p1", "POST", shared + "/members", map[string]any{"member": "p2"}, "", 409},
		{"a member adds", "member:p2", "POST", shared + "/members", map[string]any{"member": "p3"}, "", 403},
		{"the owner answers for the member", "member:p1", "PUT", shared + "/members/p2", map[string]any{"status": "accepted"}, "", 403},
		{"a third answers", "member:p3", "PUT", shared + "/members/p2", map[string]any{"status": "accepted"}, "", 404},
		{"a wrong answer", "member:p2", "PUT", shared + "/members/p2", map[string]any{"status": "perhaps"}, "", 400},
		{"a reader answers", "reader:p2", "PUT", shared + "/members/p2", map[string]any{"status": "accepted"}, "", 403},
		{"the member sees it", "member:p2", "GET", shared, nil, "", 200},
		{"a third does not", "member:p3", "GET", shared, nil, "", 404},
		{"the member changes it", "member:p2", "PATCH", shared, "[]", patch, 403},
		{"the member deletes it", "member:p2", "DELETE", shared, nil, "", 403},
		{"the member uploads", "member:p2", "PUT", shared + "/file", "x", octets, 403},
		{"the member removes itself", "member:p2", "DELETE", shared + "/members/p2", nil, "", 403},
		{"another deletes a private one", "member:p2", "DELETE", "/v2/images/" + ids["private"], nil, "", 404},
		{"another deletes a public one", "member:p2", "DELETE", "/v2/images/" + ids["public"], nil, "", 403},
		{"another deactivates a public one", "member:p2", "POST", "/v2/images/" + ids["public"] + "/actions/deactivate", nil, "", 403},
		{"a member publishes", "member:p1", "PATCH", "/v2/images/" + ids["private"], `[{"op":"replace","path":"/visibility","value":"public"}]`, patch, 403},
		{"a member makes a public one", "member:p1", "POST", "/v2/images", map[string]any{"visibility": "public"}, "", 403},
		{"a member makes one for another", "member:p1", "POST", "/v2/images", map[string]any{"owner": "p2"}, "", 403},
		{"a member gives one away", "member:p1", "PATCH", "/v2/images/" + ids["private"], `[{"op":"replace","path":"/owner","value":"p2"}]`, patch, 403},
		{"a reader makes one", "reader:p1", "POST", "/v2/images", map[string]any{}, "", 403},
		{"members of a private one", "member:p1", "GET", "/v2/images/" + ids["private"] + "/members", nil, "", 403},
		{"no token", "", "GET", "/v2/images", nil, "", 401},
	} {
		t.Run(step.name, func(t *testing.T) {
			if got := a.Ask(step.token, step.method, step.path, step.body, step.header); got.Code != step.code {
				t.Errorf("got %d %s, want %d", got.Code, got.Raw, step.code)
			}
		})
	}
	list := func(token, query string) string {
		got := a.Ask(token, "GET", "/v2/images"+query, nil)
		if got.Code != 200 {
			t.Fatalf("list %s: %d %s", query, got.Code, got.Raw)
		}
		var names []string
		for _, one := range got.Body["images"].([]any) {
			names = append(names, one.(map[string]any)["name"].(string))
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for _, tt := range []struct{ token, query, want string }{
		{"member:p1", "", "private public shared"},
		{"member:p2", "", "public"},
		{"member:p2", "?member_status=pending", "public shared"},
		{"member:p2", "?visibility=community", "community"},
		{"member:p2", "?visibility=all&member_status=all", "community public shared"},
		{"member:p2", "?visibility=shared", ""},
		{"member:p3", "?visibility=all&member_status=all", "community public"},
		{"member:p3", "?owner=p1", "community"},
		{"admin:ops", "", "private public shared"},
		{"admin:ops", "?visibility=all", "community private public shared"},
	} {
		if got := list(tt.token, tt.query); got != tt.want {
			t.Errorf("list%s as %s: %q, want %q", tt.query, tt.token, got, tt.want)
		}
	}
	if got := a.Ask("member:p2", "PUT", shared+"/members/p2", map[string]any{"status": "accepted"}); got.Code != 200 || got.Body["status"] != "accepted" {
		t.Fatalf("accept: %d %s", got.Code, got.Raw)
	}
	if got := list("member:p2", ""); got != "public shared" {
		t.Errorf("list after accepting: %q", got)
	}
	if got := a.Ask("admin:ops", "PATCH", "/v2/images/"+ids["private"], `[{"op":"replace","path":"/owner","value":"p2"}]`, patch); got.Code != 200 || got.Body["owner"] != "p2" {
		t.Errorf("an administrator gives an image away: %d %s", got.Code, got.Raw)
	}
}

// The forms in which Glance refuses.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	const me = "member:p1"
	id := a.make(me, map[string]any{"protected": true, "colour": "red"})
	a.fill(me, id, "0123456789")
	at := "/v2/images/" + id
	for _, tt := range []struct {
		name, method, path string
		body               any
		header             string
		code               int
	}{
		{"read-only member", "POST", "/v2/images", map[string]any{"status": "active"}, "", 403},
		{"reserved member", "POST", "/v2/images", map[string]any{"deleted": "x"}, "", 403},
		{"a property of ours", "POST", "/v2/images", map[string]any{"headwater:sites": "x"}, "", 403},
		{"our marker", "POST", "/v2/images", map[string]any{"hw_marker": "x"}, "", 403},
		{"a property that is no text", "POST", "/v2/images", map[string]any{"x": 7}, "", 400},
		{"visibility null", "POST", "/v2/images", map[string]any{"visibility": nil}, "", 400},
		{"format unknown", "POST", "/v2/images", map[string]any{"disk_format": "floppy"}, "", 400},
		{"format null", "POST", "/v2/images", map[string]any{"disk_format": nil}, "", 201},
		{"min_disk null", "POST", "/v2/images", map[string]any{"min_disk": nil}, "", 400},
		{"tags null", "POST", "/v2/images", map[string]any{"tags": nil}, "", 400},
		{"id of another form", "POST", "/v2/images", map[string]any{"id": "x"}, "", 400},
		{"id taken", "POST", "/v2/images", map[string]any{"id": id}, "", 409},
		{"patch of another type", "PATCH", at, "[]", "Content-Type: application/json", 415},
		{"patch that is no list", "PATCH", at, "{}", patch, 400},
		{"patch null", "PATCH", at, "null", patch, 400},
		{"patch without a value", "PATCH", at, `[{"op":"add","path":"/x"}]`, patch, 400},
		{"patch with an unknown operation", "PATCH", at, `[{"op":"move","path":"/x","value":"y"}]`, patch, 400},
		{"patch with a deep path", "PATCH", at, `[{"op":"add","path":"/x/y","value":"z"}]`, patch, 400},
		{"replace what is not there", "PATCH", at, `[{"op":"replace","path":"/x","value":"z"}]`, patch, 409},
		{"remove what is not there", "PATCH", at, `[{"op":"remove","path":"/x"}]`, patch, 409},
		{"remove a base member", "PATCH", at, `[{"op":"remove","path":"/name"}]`, patch, 403},
		{"another format with bytes", "PATCH", at, `[{"op":"replace","path":"/disk_format","value":"qcow2"}]`, patch, 403},
		{"the older dialect", "PATCH", at, `[{"replace":"/colour","value":"blue"}]`, "Content-Type: application/openstack-images-v2.0-json-patch", 200},
		{"upload of another type", "PUT", at + "/file", "x", "Content-Type: text/plain", 415},
		{"delete of a protected one", "DELETE", at, nil, "", 403},
		{"range behind the end", "GET", at + "/file", nil, "Range: bytes=10-", 416},
		{"range", "GET", at + "/file", nil, "Range: bytes=2-4", 206},
		{"unknown sort key", "GET", "/v2/images?sort_key=colour", nil, "", 400},
		{"unknown sort direction", "GET", "/v2/images?sort=name:up", nil, "", 400},
		{"two ways to sort", "GET", "/v2/images?sort=name&sort_key=id", nil, "", 400},
		{"unknown member status", "GET", "/v2/images?member_status=maybe", nil, "", 400},
		{"unknown visibility", "GET", "/v2/images?visibility=secret", nil, "", 400},
		{"negative limit", "GET", "/v2/images?limit=-1", nil, "", 400},
		{"unknown marker", "GET", "/v2/images?marker=x", nil, "", 400},
		{"changes-since", "GET", "/v2/images?changes-since=2020-01-01", nil, "", 400},
		{"tag with a body", "PUT", at + "/tags/x", "{}", "", 400}, // such bodies were not looked at
		{"deactivate with a body", "POST", at + "/actions/deactivate", "x", "", 400},
		{"delete with a body", "DELETE", at, "{}", "", 400},
		{"tag that is not there", "DELETE", at + "/tags/x", nil, "", 404},
		{"unknown schema", "GET", "/v2/schemas/x", nil, "", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := a.Ask(me, tt.method, tt.path, tt.body, tt.header); got.Code != tt.code {
				t.Errorf("got %d %s, want %d", got.Code, got.Raw, tt.code)
			}
		})
	}
	got := a.Ask(me, "GET", at+"/file", nil, "Range: bytes=-3")
	if string(got.Raw) != "789" || got.Header.Get("Content-Range") != "bytes 7-9/10" {
		t.Errorf("the last three bytes: %q %s", got.Raw, got.Header.Get("Content-Range"))
	}
	if got := a.Ask(me, "POST", at+"/actions/deactivate", nil); got.Code != 204 {
		t.Fatalf("deactivate: %d %s", got.Code, got.Raw)
	}
	if got := a.Ask(me, "GET", at+"/file", nil); got.Code != 403 {
		t.Errorf("bytes of a deactivated image: %d, want 403", got.Code)
	}
	if got := a.Ask("admin:ops", "GET", at+"/file", nil); got.Code != 200 {
		t.Errorf("bytes of a deactivated image for an administrator: %d, want 200", got.Code)
	}
}

// A walk in pages, sorted and filtered, sees every image once.
func TestPages(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, nil, cascadetest.Idle())
	a := newAPI(t, s)
	for i := range 7 {
		a.make("member:p1", map[string]any{"name": fmt.Sprintf("img-%d", i), "os_hidden": i == 6, "tags": []string{"t"}, "odd": fmt.Sprint(i%2 == 1)})
	}
	var seen []string
	next := "/v2/images?limit=2&sort_key=name&sort_dir=asc"
	for next != "" {
		got := a.Ask("reader:p1", "GET", next, nil)
		for _, one := range got.Body["images"].([]any) {
			seen = append(seen, one.(map[string]any)["name"].(string))
		}
		next, _ = got.Body["next"].(string)
	}
	if got := strings.Join(seen, " "); got != "img-0 img-1 img-2 img-3 img-4 img-5" {
		t.Errorf("saw %s", got)
	}
	for query, want := range map[string]int{
		"?os_hidden=true": 1, "?odd=true": 3, "?tag=t": 6, "?tag=u": 0, "?name=in:img-1,img-2": 2, "?limit=0": 0,
		"?created_at=gt:2020-01-01T00:00:00Z": 6, "?created_at=lt:2020-01-01T00:00:00Z": 0, "?size_min=1": 0, "?status=queued": 6, "?protected=false": 6,
	} {
		if got := a.Ask("reader:p1", "GET", "/v2/images"+query, nil); len(got.Body["images"].([]any)) != want {
			t.Errorf("list%s: %s, want %d", query, got.Raw, want)
		}
	}
}

// An image that two sites have, with the same name and bytes, is one at Top; two alike at one site stay two.
func TestAdoption(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	plant := func(site ident.SiteID, name, data string) string {
		session, err := s.Registry.Admin(t.Context(), site)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := session.Do(t.Context(), sites.Request{Service: sites.ImageService, Method: "POST", Path: "images", Body: sites.Body{
			"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public", "os_version": "1",
		}})
		if err != nil {
			t.Fatal(err)
		}
		id, _ := reply.Body["id"].(string)
		if err := session.Upload(t.Context(), ident.BottomID(id), strings.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := plant("east", "debian", "same")
	plant("west", "debian", "same")
	plant("west", "twin", "alike")
	plant("west", "twin", "alike")
	for range 3 {
		for _, site := range twoSites() {
			s.Adopt(t, site)
		}
	}
	count := map[string]int{}
	var debian map[string]any
	for _, one := range a.Ask("reader:p1", "GET", "/v2/images", nil).Body["images"].([]any) {
		one := one.(map[string]any)
		if count[one["name"].(string)]++; one["name"] == "debian" {
			debian = one
		}
	}
	if count["debian"] != 1 || count["twin"] != 2 || debian["id"] != first || debian["headwater:sites"] != "east,west" || debian["os_version"] != "1" {
		t.Errorf("adopted: %v; debian is %v", count, debian)
	}
	session, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "another second, which the site's time of change needs", func() (any, bool) {
		if _, err := session.Update(t.Context(), sites.Image, ident.BottomID(first), sites.Body{"os_version": "2"}); err != nil {
			t.Fatal(err)
		}
		s.Adopt(t, "east")
		got := a.Ask("reader:p1", "GET", "/v2/images/"+first, nil).Body
		return got["os_version"], got["os_version"] == "2"
	})
	if got := a.Ask("admin:ops", "PATCH", "/v2/images/"+first, "[]", patch); got.Code != 409 {
		t.Errorf("a change of a site's own image: %d, want 409", got.Code)
	}
	if err := session.Delete(t.Context(), sites.Image, ident.BottomID(first)); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "its end at east, at the second look", func() (any, bool) {
		s.Adopt(t, "east")
		got := a.Ask("reader:p1", "GET", "/v2/images/"+first, nil).Body
		return got, got["headwater:sites"] == "west"
	})
}

// What the maker finds at a site in the wrong state is replaced, under another id there, and filled anew.
func TestWrongCopyIsReplaced(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	id := a.make("member:p1", nil)
	a.fill("member:p1", id, "the whole disk")
	home := ident.SiteID(a.Ask("member:p1", "GET", "/v2/images/"+id, nil).Body["headwater:sites"].(string))
	other := ident.SiteID(map[ident.SiteID]string{"east": "west", "west": "east"}[home])
	session, err := s.Registry.Tenant(t.Context(), other, "p1")
	if err != nil {
		t.Fatal(err)
	}
	// As after a crash between the create and the end of a copy whose stream broke: marked, active, half.
	half, err := session.Create(t.Context(), sites.Image, sites.Body{"id": id, "name": "img", "disk_format": "raw", "container_format": "bare"}, sites.CreateOptions{Marker: ident.TopID(id)})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Upload(t.Context(), half.ID, strings.NewReader("the who"), 7); err != nil {
		t.Fatal(err)
	}
	err = s.Core.Internal(t.Context(), func(tx *cascade.Tx) error {
		return s.Core.Bindings.Adopt(tx.Tx, binding.Binding{TopID: ident.TopID(id), Site: other, Kind: sites.Image, ProjectID: "p1", BottomID: half.ID})
	})
	if err != nil {
		t.Fatal(err)
	}
	var bottom ident.BottomID
	cascadetest.Until(t, "a whole copy", func() (any, bool) {
		bottom, err = s.Core.Ensure(t.Context(), other, ident.TopID(id))
		return err, err == nil
	})
	if o := a.atSite("p1", other, string(bottom)); bottom == half.ID || o.Body["os_hash_value"] != a.Ask("member:p1", "GET", "/v2/images/"+id, nil).Body["os_hash_value"] {
		t.Errorf("copy %s: %v", bottom, o.Body)
	}
}
