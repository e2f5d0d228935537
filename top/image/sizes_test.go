package image_test

import (
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
)

// Sorting by what is no column of the index, and the filter by size, were refused or found nothing (Tempest's ListUserImagesTest).
func TestSizes(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	a := newAPI(t, s)
	c := a.client("member:p1")
	for name, size := range map[string]int{"a": 30, "b": 10, "c": 20, "d": 10} {
		made, err := images.Create(t.Context(), c, images.CreateOpts{Name: name, DiskFormat: map[bool]string{true: "raw", false: "qcow2"}[name < "c"], ContainerFormat: "bare"}).Extract()
		if err != nil {
			t.Fatal(err)
		}
		if err := imagedata.Upload(t.Context(), c, made.ID, strings.NewReader(strings.Repeat("x", size))).ExtractErr(); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"sort=size:asc,name:desc": "d b c a", "sort_key=size&sort_dir=desc&sort_key=name&sort_dir=asc": "a c b d",
		"sort=disk_format:asc,container_format:asc,size:desc,name:asc": "c d a b", "size=20": "c", "size=10&sort=name:asc": "b d",
	} {
		for _, limit := range []string{"&limit=100", "&limit=1", "&limit=3"} {
			var seen []string
			for next := "/v2/images?" + query + limit; next != ""; {
				got := a.Ask("member:p1", "GET", next, nil)
				if got.Code != 200 {
					t.Fatalf("%s: %s", next, got.Raw)
				}
				for _, one := range got.Body["images"].([]any) {
					seen = append(seen, one.(map[string]any)["name"].(string))
				}
				next, _ = got.Body["next"].(string)
			}
			if got := strings.Join(seen, " "); got != want {
				t.Errorf("%s%s: %s, want %s", query, limit, got, want)
			}
		}
	}
}
