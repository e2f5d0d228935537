package compute_test

import (
	"slices"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func east() []ident.SiteID     { return []ident.SiteID{"east"} }
func twoSites() []ident.SiteID { return []ident.SiteID{"east", "west"} }

func TestServerLivesAndDies(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		serverLivesAndDies(t, cascadetest.New(t, east(), cascadetest.OnDatabase(db)))
	})
}

func serverLivesAndDies(t *testing.T, s *cascadetest.Stack) {
	t.Helper()
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	one := s.Boot(t, who, "web", img, net)

	there := s.Clouds["east"].Servers()
	if len(there) != 1 || there[0].Name != "web" || !slices.Contains(there[0].Tags, "hw:"+string(one.ID)) || len(there[0].Ports) != 1 {
		t.Fatalf("at the site: %+v, want one marked server named web with one port", there)
	}
	if got, err := s.Compute.Server(t.Context(), who, there[0].ID); err != nil || got.ID != one.ID {
		t.Errorf("by the site's id: %v, %v; want %s", got, err, one.ID)
	}
	if _, err := s.Compute.Server(t.Context(), cascadetest.Member("p2"), string(one.ID)); !fault.Is(err, fault.NotFound) {
		t.Errorf("another project's look: %v, want not found", err)
	}
	quota, err := s.Compute.Quota(t.Context(), "p1")
	if err != nil || quota["instances"].Used != 1 || quota["ram"].Used != one.Spec.RAM {
		t.Errorf("quota in use: %+v, %v", quota["instances"], err)
	}
	if err := s.Compute.Delete(t.Context(), who, string(one.ID)); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "end of the server", func() (any, bool) {
		_, err := s.Compute.Server(t.Context(), who, string(one.ID))
		return err, fault.Is(err, fault.NotFound)
	})
	cascadetest.Until(t, "end of the port at the site", func() (any, bool) {
		var left []emulator.Resource
		for _, r := range s.Clouds["east"].Everything() {
			if (r.Kind == "port" || r.Kind == "server") && !r.Auto {
				left = append(left, r)
			}
		}
		return left, len(left) == 0
	})
	if quota, _ = s.Compute.Quota(t.Context(), "p1"); quota["instances"].Used != 0 || quota["cores"].Used != 0 {
		t.Errorf("quota after the end: %+v %+v, want none in use", quota["instances"], quota["cores"])
	}
}

func TestVerbs(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	id := string(one.ID)
	for _, step := range []struct {
		verb, now, then string
		do              func() error
	}{
		{"os-stop", "ACTIVE", "SHUTOFF", func() error { return s.Compute.Plain(t.Context(), who, id, "os-stop", nil) }},
		{"os-start", "SHUTOFF", "ACTIVE", func() error { return s.Compute.Plain(t.Context(), who, id, "os-start", nil) }},
		{"reboot", "REBOOT", "ACTIVE", func() error { return s.Compute.Reboot(t.Context(), who, id, false) }},
		{"hard reboot", "HARD_REBOOT", "ACTIVE", func() error { return s.Compute.Reboot(t.Context(), who, id, true) }},
		{"pause", "ACTIVE", "PAUSED", func() error { return s.Compute.Plain(t.Context(), who, id, "pause", nil) }},
		{"unpause", "PAUSED", "ACTIVE", func() error { return s.Compute.Plain(t.Context(), who, id, "unpause", nil) }},
		{"rebuild", "REBUILD", "ACTIVE", func() error {
			_, _, err := s.Compute.RebuildServer(t.Context(), who, id, compute.Rebuild{Image: string(one.ImageID)})
			return err
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.verb, err)
		}
		got, err := s.Compute.Server(t.Context(), who, id)
		if err != nil {
			t.Fatal(err)
		}
		if fresh := got.TaskState != ""; fresh && got.Status != step.now {
			t.Errorf("right after %s: status %s, want %s while task %q runs", step.verb, got.Status, step.now, got.TaskState)
		}
		s.Await(t, who, one.ID, step.then)
	}
	err := s.Compute.Plain(t.Context(), who, id, "unpause", nil)
	want := "Cannot 'unpause' instance " + id + " while it is in vm_state active"
	if !fault.Is(err, fault.Conflict) || fault.Message(err) != want {
		t.Errorf("unpause of what runs: %v, want the conflict %q", err, want)
	}
	if err := s.Compute.Lock(t.Context(), who, id, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Compute.Delete(t.Context(), who, id); !fault.Is(err, fault.Conflict) {
		t.Errorf("delete of a locked server: %v, want a conflict", err)
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	big, err := s.Compute.CreateFlavor(t.Context(), cascadetest.Admin(), "big", "big", "", compute.FlavorSpec{Size: compute.Size{VCPUs: 3, RAM: 777, Disk: 9}, RxTx: 1, Public: true})
	if err != nil {
		t.Fatal(err)
	}
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	cores := func(want int64) {
		t.Helper()
		if q, _ := s.Compute.Quota(t.Context(), "p1"); q["cores"].Used != want {
			t.Errorf("cores in use: %d, want %d", q["cores"].Used, want)
		}
	}
	resize := func() {
		t.Helper()
		if err := s.Compute.Resize(t.Context(), who, string(one.ID), "big", "MANUAL"); err != nil {
			t.Fatal(err)
		}
		if got := s.Await(t, who, one.ID, "VERIFY_RESIZE"); got.FlavorID != big.ID || got.Spec.RAM != 777 {
			t.Errorf("resized to %s with %d MiB, want big", got.FlavorID, got.Spec.RAM)
		}
		cores(3)
	}
	resize()
	if err := s.Compute.RevertResize(t.Context(), who, string(one.ID)); err != nil {
		t.Fatal(err)
	}
	if got := s.Await(t, who, one.ID, "ACTIVE"); got.FlavorID != one.FlavorID || got.Spec.RAM != one.Spec.RAM {
		t.Errorf("reverted to %s, want %s", got.FlavorID, one.FlavorID)
	}
	cores(one.Spec.VCPUs)
	resize()
	if err := s.Compute.ConfirmResize(t.Context(), who, string(one.ID)); err != nil {
		t.Fatal(err)
	}
	if got := s.Await(t, who, one.ID, "ACTIVE"); got.FlavorID != big.ID || got.Spec.OldFlavor != nil || got.Spec.DiskConfig != "MANUAL" {
		t.Errorf("confirmed as %s with disk config %s, want big, nothing to go back to, and MANUAL as asked", got.FlavorID, got.Spec.DiskConfig)
	}
	cores(3)
}

func TestPlacementTies(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	create := func(zone string, pin ident.SiteID) (*compute.Server, error) {
		c := who
		c.Pin = pin
		made, err := s.Compute.CreateServers(t.Context(), c, compute.CreateRequest{
			Name: "s", Image: string(img.ID), Flavor: string(s.Flavor(t).ID), NetworkMode: "list", Zone: zone, Min: 1, Max: 1,
			Networks: []compute.NetworkRequest{{Network: string(net.ID)}},
		})
		if err != nil {
			return nil, err
		}
		return made[0], nil
	}
	if _, err := create("mars", ""); !fault.Is(err, fault.BadRequest) {
		t.Errorf("zone mars: %v, want a bad request", err)
	}
	one, err := create("west/az1", "")
	if err != nil || one.Site != "west" || one.Zone != "west/az1" {
		t.Fatalf("zone west/az1: %+v, %v", one, err)
	}
	s.Await(t, who, one.ID, "ACTIVE")
	if _, err := create("east", ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("a network of west on a server of east: %v, want a conflict", err)
	}
	if two, err := create("", ""); err != nil || two.Site != "west" {
		t.Errorf("unpinned: %+v, %v; want it where its network is", two, err)
	}
}

// The states that accepting a create leaves nothing of: quota and port are free again when nothing was recorded.
func TestRefusedCreateLeavesNothing(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	req := compute.CreateRequest{
		Name: "s", Image: string(img.ID), Flavor: string(s.Flavor(t).ID), NetworkMode: "list",
		Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 30, Max: 30,
	}
	if _, err := s.Compute.CreateServers(t.Context(), who, req); !fault.Is(err, fault.OverQuota) {
		t.Errorf("30 servers: %v, want over quota", err)
	}
	req.Min, req.Max, req.KeyName = 1, 1, "nokey"
	if _, err := s.Compute.CreateServers(t.Context(), who, req); !fault.Is(err, fault.BadRequest) {
		t.Errorf("unknown key: %v, want a bad request", err)
	}
	rows, err := s.Core.Index.List(t.Context(), index.Query{Kind: "port", Project: "p1"})
	if err != nil || len(rows) != 0 {
		t.Errorf("ports left: %v, %v", rows, err)
	}
	if q, _ := s.Compute.Quota(t.Context(), "p1"); q["instances"].Used != 0 || q["port"].Used != 0 {
		t.Errorf("quota left in use: %+v %+v", q["instances"], q["port"])
	}
}

// A change that comes while the site is asked for the server reaches the site all the same.
func TestRenameWhileBuilt(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	id, err := s.Clouds["east"].Faults().Add(emulator.Fault{Service: "compute", Method: "POST", Path: `^/compute/v2\.1/servers$`, Count: 1, Stall: true})
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "old", Image: string(img.ID), Flavor: string(s.Flavor(t).ID), NetworkMode: "list",
		Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 1, Max: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Clouds["east"].Faults().Wait(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	name := "new"
	if _, err := s.Compute.UpdateServer(t.Context(), who, string(made[0].ID), compute.Update{Name: &name}); err != nil {
		t.Fatal(err)
	}
	s.Clouds["east"].Faults().Release(id)
	cascadetest.Until(t, "new name at the site", func() (any, bool) {
		there := s.Clouds["east"].Servers()
		return there, len(there) == 1 && there[0].Name == "new"
	})
}
