package compute_test

import (
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Whoever looks right after os-resetState sees the new state; it showed the old one until the next look at the site.
func TestResetStateShowsAtOnce(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	s.Await(t, who, one.ID, "ACTIVE")
	path := "/v2.1/servers/" + string(one.ID)
	for state, want := range map[string]string{"error": "ERROR", "active": "ACTIVE"} {
		if got := a.ask("admin:ops", "", "POST", path+"/action", map[string]any{"os-resetState": map[string]any{"state": state}}); got.code != 202 {
			t.Fatalf("reset to %s: %d %s", state, got.code, got.raw)
		}
		if shown := a.ask("admin:ops", "", "GET", path, nil).body["server"].(map[string]any); shown["status"] != want {
			t.Errorf("right after a reset to %s: %v", state, shown["status"])
		}
	}
}

// A volume that is not bootable boots no server: it did, and the server's guest would have found nothing.
func TestBootFromUnbootable(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	v, err := s.Volume.Create(t.Context(), who, volume.CreateRequest{Name: "data", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the volume", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), v.ID)
		return r, err == nil && r.Status == "available" && r.State == index.Live && r.Observed["bootable"] == "false"
	})
	got := a.ask("member:p1", "", "POST", "/v2.1/servers", map[string]any{"server": map[string]any{"name": "x", "flavorRef": s.Flavor(t).ID, "imageRef": "",
		"block_device_mapping_v2": []map[string]any{{"boot_index": "0", "uuid": v.ID, "source_type": "volume", "destination_type": "volume"}}}})
	if got.code != 400 {
		t.Errorf("%d %s, want 400", got.code, got.raw)
	}
	if r, err := s.Core.Index.Find(t.Context(), who, sites.Volume, string(v.ID)); err != nil || r.Status != "available" {
		t.Errorf("the volume afterwards: %+v, %v", r, err)
	}
}

// From 2.75 on an administrator's rebuild shows all members, and the user data by their plain name only (Tempest's ServersAdmin275Test).
func TestRebuildShowsUserDataOnce(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	img := s.NewImage(t, who, "img")
	one := s.Boot(t, who, "web", img, s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	s.Await(t, who, one.ID, "ACTIVE")
	got := a.ask("admin:ops", "2.75", "POST", "/v2.1/servers/"+string(one.ID)+"/action", map[string]any{"rebuild": map[string]any{"imageRef": img.ID}})
	if got.code != 202 {
		t.Fatalf("%d %s", got.code, got.raw)
	}
	shown := got.body["server"].(map[string]any)
	_, plain := shown["user_data"]
	if _, prefixed := shown["OS-EXT-SRV-ATTR:user_data"]; prefixed || !plain {
		t.Errorf("rebuild: %s", got.raw)
	}
}
