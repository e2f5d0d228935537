package image_test

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A site's public image that was deactivated for a while was not in its list, ended at Top, and came back under another
// id: every script that named it broke.
func TestDeactivatedImageStays(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	obj, err := admin.Create(t.Context(), sites.Image, sites.Body{"name": "debian", "disk_format": "raw", "container_format": "bare", "visibility": "public"}, sites.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Upload(t.Context(), obj.ID, strings.NewReader("bytes"), 5); err != nil {
		t.Fatal(err)
	}
	state := func() index.State {
		t.Helper()
		s.Adopt(t, "east")
		r, err := s.Core.Index.Get(t.Context(), ident.TopID(obj.ID))
		if err != nil {
			t.Fatal(err)
		}
		return r.State
	}
	if got := state(); got != index.Live {
		t.Fatalf("adopted image is %s", got)
	}
	do := func(action string) {
		t.Helper()
		_, err := admin.Do(t.Context(), sites.Request{Service: sites.ImageService, Method: "POST", Path: "images/" + string(obj.ID) + "/actions/" + action})
		if err != nil {
			t.Fatal(err)
		}
	}
	do("deactivate")
	if got := state(); got != index.Live {
		t.Errorf("deactivated image is %s at Top", got)
	}
	do("reactivate")
	list, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.Image, AllProjects: true, Shared: true})
	if err != nil || state() != index.Live || len(list) != 1 || list[0].Status != image.Active {
		t.Errorf("images = %+v, %v", list, err)
	}
	if err := admin.Delete(t.Context(), sites.Image, obj.ID); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the end of an image that is gone from the site", func() (any, bool) {
		got := state()
		return got, got == index.Deleted
	})
}
