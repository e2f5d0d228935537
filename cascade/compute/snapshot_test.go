package compute_test

import (
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// fromVolume boots a server from a new volume.
func fromVolume(t *testing.T, s *cascadetest.Stack, who sites.Caller, img, net *index.Resource, zone string) *compute.Server {
	t.Helper()
	first := 0
	made, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "bfv", Flavor: string(s.Flavor(t).ID), NetworkMode: "list", Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Zone: zone, Min: 1, Max: 1,
		Blocks: []compute.BlockRequest{{Source: "image", Destination: "volume", ID: string(img.ID), BootIndex: &first, SizeGiB: 1, Delete: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Await(t, who, made[0].ID, "ACTIVE")
}

func activeImage(t *testing.T, s *cascadetest.Stack, who sites.Caller, id ident.TopID) (*index.Resource, image.Spec) {
	t.Helper()
	var spec image.Spec
	var got *index.Resource
	cascadetest.Until(t, "active image", func() (any, bool) {
		var err error
		got, err = s.Image.Find(t.Context(), who, string(id))
		return got, err == nil && got.Status == "active"
	})
	if err := got.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	return got, spec
}

func snapshots(t *testing.T, s *cascadetest.Stack, who sites.Caller) []*index.Resource {
	t.Helper()
	list, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.Snapshot, Project: who.ProjectID})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A server that boots from a volume was refused (409): the site makes snapshots of its volumes, and an image of them from which a
// server boots, at that site.
func TestImageOfVolumeBacked(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	one := fromVolume(t, s, who, img, net, "west")
	id, err := s.Compute.CreateImage(t.Context(), who, string(one.ID), "golden", map[string]string{"role": "db"})
	if err != nil {
		t.Fatal(err)
	}
	_, spec := activeImage(t, s, who, id)
	snaps := snapshots(t, s, who)
	if len(snaps) != 1 || snaps[0].ParentID != one.Spec.Volumes[0].ID || snaps[0].Name != "snapshot for golden" || snaps[0].Site != "west" {
		t.Fatalf("snapshots: %+v", snaps)
	}
	if !strings.Contains(spec.Properties["block_device_mapping"], string(snaps[0].ID)) || spec.Properties["role"] != "db" || *spec.Size != 0 {
		t.Errorf("image: %+v, want one of no bytes that names snapshot %s", spec, snaps[0].ID)
	}
	if _, told := spec.Properties[sites.ImageMarker]; told {
		t.Error("the tenant is shown the marker")
	}
	other := s.NewNetwork(t, who, "other", "10.2.0.0/24")
	two, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "two", Image: string(id), Flavor: string(s.Flavor(t).ID), NetworkMode: "list", Networks: []compute.NetworkRequest{{Network: string(other.ID)}}, Min: 1, Max: 1,
		Blocks: []compute.BlockRequest{{Source: "image", Destination: "local", ID: string(id), BootIndex: new(int), Delete: true}}, // as the openstack command does
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Await(t, who, two[0].ID, "ACTIVE"); got.Site != "west" || got.ImageID != "" || len(got.Spec.Volumes) != 1 {
		t.Errorf("the server of that image: site %s, image %q, volumes %+v", got.Site, got.ImageID, got.Spec.Volumes)
	}
	if _, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "three", Image: string(id), Flavor: string(s.Flavor(t).ID), NetworkMode: "none", Zone: "east", Min: 1, Max: 1,
	}); !fault.Is(err, fault.Conflict) {
		t.Errorf("at the other site: %v, want a conflict", err)
	}
}

// The snapshots take quota, which is looked at before the site is asked.
func TestImageOfVolumeBackedOverQuota(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	one := fromVolume(t, s, who, s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"), "")
	if err := s.Volume.SetLimits(t.Context(), cascadetest.Admin(), "p1", map[string]int64{"snapshots": 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compute.CreateImage(t.Context(), who, string(one.ID), "golden", nil); !fault.Is(err, fault.OverQuota) {
		t.Errorf("CreateImage = %v, want over quota", err)
	}
	if n := kinds(s, "snapshot"); n != 0 {
		t.Errorf("%d snapshots at the site", n)
	}
}

func kinds(s *cascadetest.Stack, kind string) int {
	n := 0
	for _, r := range s.Clouds["east"].Everything() {
		if r.Kind == kind && !r.Auto {
			n++
		}
	}
	return n
}

// The answer of a createImage that is lost left an image, and perhaps snapshots, that nobody at Top knew, and a client that tried
// again made another.
func TestLostAnswerOfCreateImage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		volume bool
		fault  emulator.Fault
		made   bool
	}{
		{"made, answer lost", false, emulator.Fault{LostReply: true}, true},
		{"made late", false, emulator.Fault{LateBy: 1500 * time.Millisecond}, true},
		{"of volumes, answer lost", true, emulator.Fault{LostReply: true}, true},
		{"never made", true, emulator.Fault{Reset: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := cascadetest.New(t, east(), cascadetest.Timeouts(time.Second, 2*time.Second))
			who := cascadetest.Member("p1")
			img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
			one := s.Boot(t, who, "web", img, net)
			if tt.volume {
				one = fromVolume(t, s, who, img, net, "")
			}
			before := kinds(s, "image")
			f := tt.fault
			f.Service, f.Method, f.Path, f.Count = "compute", "POST", `/servers/[^/]+/action$`, 1
			if _, err := s.Clouds["east"].Faults().Add(f); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Compute.CreateImage(t.Context(), who, string(one.ID), "golden", map[string]string{"role": "db"}); !fault.Is(err, fault.Unavailable) {
				t.Fatalf("CreateImage = %v, want unavailable", err)
			}
			cascadetest.Until(t, "decision", func() (any, bool) {
				got, err := s.Compute.Server(t.Context(), who, string(one.ID))
				return got, err == nil && len(got.Spec.Saving) == 0 && !got.Outstanding() && got.TaskState == ""
			})
			list, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.Image, Project: who.ProjectID})
			if err != nil {
				t.Fatal(err)
			}
			var golden *index.Resource
			for _, r := range list {
				if r.Name == "golden" {
					golden = r
				}
			}
			snaps := len(snapshots(t, s, who))
			if !tt.made {
				if golden != nil || kinds(s, "image") != before || snaps != 0 {
					t.Errorf("image %+v, %d at the site, before %d", golden, kinds(s, "image"), before)
				}
				if q, _ := s.Volume.Figures(t.Context(), "p1"); q["snapshots"].Used != 0 {
					t.Errorf("quota of snapshots in use: %d", q["snapshots"].Used)
				}
				return
			}
			if golden == nil || kinds(s, "image") != before+1 {
				t.Fatalf("image %+v, %d at the site, before %d: want it found by its marker", golden, kinds(s, "image"), before)
			}
			if _, spec := activeImage(t, s, who, golden.ID); spec.Properties["role"] != "db" || spec.Properties["instance_uuid"] != string(one.ID) {
				t.Errorf("properties = %v", spec.Properties)
			}
			if tt.volume && (snaps != 1 || kinds(s, "snapshot") != 1) {
				t.Errorf("%d snapshots, %d at the site", snaps, kinds(s, "snapshot"))
			}
		})
	}
}

// A server that ended while an image of it was undecided kept the quota of its snapshots for ever, and its row the user data.
func TestEndOfServerWithUndecidedImage(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east(), cascadetest.Timeouts(time.Second, time.Hour))
	who := cascadetest.Member("p1")
	one := fromVolume(t, s, who, s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"), "")
	if _, err := s.Clouds["east"].Faults().Add(emulator.Fault{Service: "compute", Method: "POST", Path: `/servers/[^/]+/action$`, Count: 1, Reset: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compute.CreateImage(t.Context(), who, string(one.ID), "golden", nil); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("CreateImage = %v, want unavailable", err)
	}
	if err := s.Compute.Delete(t.Context(), who, string(one.ID)); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "end of the server", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), one.ID)
		return r, err == nil && r.State == index.Deleted
	})
	if q, _ := s.Volume.Figures(t.Context(), "p1"); q["snapshots"].Used != 0 {
		t.Errorf("quota of snapshots in use: %d", q["snapshots"].Used)
	}
}
