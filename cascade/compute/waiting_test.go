package compute_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// elsewhere is a server at one site and an image whose bytes are only at the other.
func elsewhere(t *testing.T) (s *cascadetest.Stack, who sites.Caller, one *compute.Server, img *index.Resource) {
	t.Helper()
	s = cascadetest.New(t, twoSites())
	who = cascadetest.Member("p1")
	img = s.NewImage(t, who, "img")
	home, err := s.Image.Residency(t.Context(), img)
	if err != nil || len(home[img.ID]) != 1 {
		t.Fatalf("residency: %v, %v", home, err)
	}
	other := twoSites()[0]
	if other == home[img.ID][0] {
		other = twoSites()[1]
	}
	pinned := who
	pinned.Pin = other
	base := s.NewImage(t, pinned, "base")
	net := s.NewNetwork(t, who, "net", "10.1.0.0/24")
	made, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "web", Image: string(base.ID), Flavor: string(s.Flavor(t).ID), NetworkMode: "list", Zone: string(other),
		Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 1, Max: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, who, s.Await(t, who, made[0].ID, "ACTIVE"), img
}

// A rebuild or rescue with an image that was not at the site yet was answered 503 while it was copied.
func TestVerbWaitsForImage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		verb, now, then string
		do              func(*cascadetest.Stack, sites.Caller, *compute.Server, *index.Resource) error
	}{
		{"rebuild", "REBUILD", "ACTIVE", func(s *cascadetest.Stack, who sites.Caller, one *compute.Server, img *index.Resource) error {
			_, _, err := s.Compute.RebuildServer(t.Context(), who, string(one.ID), compute.Rebuild{Image: string(img.ID)})
			return err
		}},
		{"rescue", "ACTIVE", "RESCUE", func(s *cascadetest.Stack, who sites.Caller, one *compute.Server, img *index.Resource) error {
			_, err := s.Compute.Rescue(t.Context(), who, string(one.ID), "", string(img.ID))
			return err
		}},
	} {
		t.Run(tt.verb, func(t *testing.T) {
			t.Parallel()
			s, who, one, img := elsewhere(t)
			faults := s.Clouds[one.Site].Faults()
			id, err := faults.Add(emulator.Fault{Service: "image", Method: "PUT", Path: `/file$`, Count: 1, Stall: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.do(s, who, one, img); err != nil {
				t.Fatalf("%s: %v", tt.verb, err)
			}
			if err := faults.Wait(t.Context(), id, 1); err != nil {
				t.Fatal(err)
			}
			b, err := s.Core.Bindings.Get(t.Context(), one.ID, one.Site)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Core.Refresh(t.Context(), one.Resource, one.Site, b.BottomID)
			if err != nil || got.Status != tt.now || got.TaskState == "" {
				t.Errorf("while the image is copied: %s %q, %v; want %s and a task", got.Status, got.TaskState, err, tt.now)
			}
			faults.Release(id)
			done := s.Await(t, who, one.ID, tt.then)
			if len(done.Spec.Waiting) != 0 || tt.verb == "rebuild" && done.ImageID != img.ID {
				t.Errorf("server of image %s, waiting %v; want %s", done.ImageID, done.Spec.Waiting, img.ID)
			}
		})
	}
}

// What was accepted and could not be carried out is an error that says why, and another verb clears it.
func TestWaitingVerbRefused(t *testing.T) {
	t.Parallel()
	s, who, one, img := elsewhere(t)
	_, err := s.Clouds[one.Site].Faults().Add(emulator.Fault{Service: "image", Method: "POST", Path: `/v2/images$`, Count: 2, Status: 403, Body: "quota of images is used up"})
	if err != nil {
		t.Fatal(err)
	}
	name := "new"
	if _, _, err := s.Compute.RebuildServer(t.Context(), who, string(one.ID), compute.Rebuild{Image: string(img.ID), Name: &name}); err != nil {
		t.Fatal(err)
	}
	got := s.Await(t, who, one.ID, "ERROR")
	if got.Fault == nil || !strings.Contains(got.Fault.Message, "quota of images") || got.ImageID != one.ImageID || got.Name != one.Name {
		t.Errorf("fault %+v, image %s, name %s", got.Fault, got.ImageID, got.Name)
	}
	if err := s.Compute.Reboot(t.Context(), who, string(one.ID), true); err != nil {
		t.Fatal(err)
	}
	s.Await(t, who, one.ID, "ACTIVE")
}

// An attach of a port that another worker is making was answered 503, and the port given up 100 s later.
func TestAttachWaitsForPort(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	ports, err := s.Network.CreatePorts(t.Context(), who, []network.Fields{{"network_id": string(s.NewNetwork(t, who, "other", "10.2.0.0/24").ID)}})
	if err != nil {
		t.Fatal(err)
	}
	port := ports[0]
	if _, _, err := s.Core.Bindings.Claim(t.Context(), port.ID, "east", sites.Port, "p1", 2*time.Second); err != nil {
		t.Fatal(err)
	}
	got, err := s.Compute.AttachInterface(t.Context(), who, string(one.ID), compute.AttachRequest{Port: string(port.ID)})
	if err != nil || got.Port != port.ID {
		t.Fatalf("AttachInterface = %+v, %v", got, err)
	}
	cascadetest.Until(t, "attached port", func() (any, bool) {
		there := s.Clouds["east"].Servers()
		now, err := s.Compute.Server(t.Context(), who, string(one.ID))
		return there, err == nil && len(there) == 1 && len(there[0].Ports) == 2 && len(now.Spec.Waiting) == 0 && !fault.Is(err, fault.NotFound)
	})
}

// A job of a later verb that carried out an earlier one ended with that, and left its own to nobody. Two jobs that
// read the row at one time both told the site: the second answer, that the port is in use, took the port from the server.
func TestWaitingVerbsInTurn(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	other := string(s.NewNetwork(t, who, "other", "10.2.0.0/24").ID)
	ports, err := s.Network.CreatePorts(t.Context(), who, []network.Fields{{"network_id": other}, {"network_id": other}})
	if err != nil {
		t.Fatal(err)
	}
	var made []*binding.Claim
	for _, port := range ports {
		claim, _, err := s.Core.Bindings.Claim(t.Context(), port.ID, "east", sites.Port, "p1", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, claim)
	}
	for _, port := range ports {
		if _, err := s.Compute.AttachInterface(t.Context(), who, string(one.ID), compute.AttachRequest{Port: string(port.ID)}); err != nil {
			t.Fatal(err)
		}
	}
	row, err := s.Core.Index.Get(t.Context(), one.ID)
	if err != nil {
		t.Fatal(err)
	}
	var told []bool
	again := *row
	for range 2 { // both read the row before either wrote it
		w, err := compute.ServerResumer(s.Compute).Waiting(row, row.VerbNo)
		if err != nil || w == nil {
			t.Fatalf("Waiting = %v, %v", w, err)
		}
		ok, err := w.Sent(&again, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, ok)
	}
	if !told[0] || told[1] {
		t.Errorf("told the site: %v, want once", told)
	}
	cancelFirst(t, s, one.ID)
	for _, claim := range made {
		if err := claim.Release(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	cascadetest.Until(t, "both attached", func() (any, bool) {
		there := s.Clouds["east"].Servers()
		now, err := s.Compute.Server(t.Context(), who, string(one.ID))
		return there, err == nil && len(there) == 1 && len(there[0].Ports) == 3 && len(now.Spec.Waiting) == 0
	})
}

// cancelFirst cancels the job of the first verb of a server that waits.
func cancelFirst(t *testing.T, s *cascadetest.Stack, id ident.TopID) {
	t.Helper()
	store := jobs.NewStore(s.DB)
	list, err := store.List(t.Context(), jobs.Filter{Kind: "cascade.settle"})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range slices.Backward(list) {
		if !j.State.Ended() && strings.Contains(string(j.Args), string(id)) && !strings.Contains(string(j.Args), `"verb":0`) {
			if err := store.Cancel(t.Context(), j.ID); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no job of %s waits", id)
}

// A server that was lost while a rescue waited kept the rescue's password until it was deleted.
func TestLostServerKeepsNoPassword(t *testing.T) {
	t.Parallel()
	s, who, one, img := elsewhere(t)
	faults := s.Clouds[one.Site].Faults()
	id, err := faults.Add(emulator.Fault{Service: "image", Method: "PUT", Path: `/file$`, Count: 1, Stall: true})
	if err != nil {
		t.Fatal(err)
	}
	defer faults.Release(id)
	if _, err := s.Compute.Rescue(t.Context(), who, string(one.ID), "open sesame", string(img.ID)); err != nil {
		t.Fatal(err)
	}
	if err := faults.Wait(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Core.Fail(t.Context(), one.ID, fault.New(fault.NotFound, "test", "lost")); err != nil {
		t.Fatal(err)
	}
	row, err := s.Core.Index.Get(t.Context(), one.ID)
	if err != nil || row.State != index.Failed || strings.Contains(string(row.Spec), "sesame") {
		t.Errorf("row %s, %v: %s", row.State, err, row.Spec)
	}
}
