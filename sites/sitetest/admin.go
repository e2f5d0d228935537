package sitetest

import (
	"context"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// projects makes a project twice, works in it, meets its limits and removes it twice.
func (s *suite) projects(t *testing.T) {
	t.Parallel()
	if s.admin == nil || s.target.Login == nil {
		t.Skip("no administrator's account was given")
	}
	maker, ok := sites.As[sites.ProjectMaker](s.admin)
	if !ok {
		t.Fatal("the administrator's adaptor cannot make projects")
	}
	ctx := t.Context()
	project, user, err := maker.EnsureProject(ctx, s.prefix, "of a test", "First-password-1")
	if err != nil {
		t.Fatalf("ensure a project: %v", err)
	}
	removed := false
	t.Cleanup(func() {
		if !removed {
			_ = maker.DeleteProject(context.WithoutCancel(ctx), project, user)
		}
	})
	password := ident.Secret("Second-password-2")
	again, sameUser, err := maker.EnsureProject(ctx, s.prefix, "of a test", password)
	if err != nil || again != project || sameUser != user {
		t.Fatalf("ensure it again: %s, %s, %v; want %s, %s", again, sameUser, err, project, user)
	}
	_, err = s.target.Login(t, project, user, "First-password-1").Account(ctx)
	want(t, "log in with the old password", err, fault.Unauthorized)
	member := s.target.Login(t, project, user, password)
	who, err := member.Account(ctx)
	if err != nil || who.ProjectID != project || who.UserID != user {
		t.Fatalf("log in: %+v, %v; want user %s in project %s", who, err, user, project)
	}
	caps, err := member.Probe(ctx)
	if err != nil || caps.Admin {
		t.Errorf("probe as the new member: administrator %v, error %v; want an ordinary one", caps.Admin, err)
	}
	s.limits(t, maker, member, project)
	for range 2 {
		if err := maker.DeleteProject(ctx, project, user); err != nil {
			t.Errorf("delete the project: %v", err)
		}
	}
	removed = true
	_, err = s.target.Login(t, project, user, password).Account(ctx)
	want(t, "log in to what is deleted", err, fault.Unauthorized)
}

// limits sets a project's limits to nothing and runs into each.
func (s *suite) limits(t *testing.T, maker sites.ProjectMaker, member sites.Adaptor, project string) {
	t.Helper()
	ctx := t.Context()
	limits := map[sites.Service]map[string]int64{
		sites.Compute:    {"instances": 0, "cores": -1, "ram": 1024},
		sites.NetworkSvc: {"network": 0, "port": -1},
	}
	if s.target.Without[sites.Volume] == "" {
		limits[sites.BlockStorage] = map[string]int64{"volumes": 0, "gigabytes": -1}
	}
	if err := maker.SetQuota(ctx, project, limits); err != nil {
		t.Fatalf("set limits: %v", err)
	}
	caps, err := member.Probe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if q := caps.Quota[sites.Compute]; q["instances"] != 0 || q["cores"] != -1 || q["ram"] != 1024 {
		t.Errorf("remaining compute limits %v, want instances 0, cores -1, ram 1024", q)
	}
	if q := caps.Quota[sites.NetworkSvc]; q["network"] != 0 || q["port"] != -1 {
		t.Errorf("remaining network limits %v, want network 0, port -1", q)
	}
	_, err = member.Create(ctx, sites.Network, sites.Body{"name": s.prefix}, sites.CreateOptions{Marker: s.marker(sites.Network)})
	want(t, "create a network over the limit", err, fault.OverQuota)
	if s.target.Without[sites.Volume] == "" {
		_, err = member.Create(ctx, sites.Volume, sites.Body{"size": 1}, sites.CreateOptions{Marker: s.marker(sites.Volume)})
		want(t, "create a volume over the limit", err, fault.OverQuota)
	}
	images := list(t, member, sites.Image, sites.Query{})
	for _, image := range images {
		if image.Text("visibility") == "public" && image.Text("status") == "active" {
			_, err = member.Create(ctx, sites.Server, sites.Body{"name": s.prefix, "imageRef": string(image.ID), "flavorRef": string(s.flavor(t)), "networks": "none"},
				sites.CreateOptions{Marker: s.marker(sites.Server)})
			want(t, "boot a server over the limit", err, fault.OverQuota)
			return
		}
	}
}

// flavors makes a private flavor twice and gives the member's project access.
func (s *suite) flavors(t *testing.T) {
	t.Parallel()
	if s.admin == nil {
		t.Skip("no administrator's account was given")
	}
	maker, ok := sites.As[sites.FlavorMaker](s.admin)
	if !ok {
		t.Skip("the administrator's adaptor cannot make flavors")
	}
	who, err := s.member.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := sites.FlavorInfo{Name: s.prefix, VCPUs: 1, RAM: 64, Disk: 1, Swap: 32, Extra: map[string]string{"hw:cpu_policy": "shared"}}
	id, err := maker.EnsureFlavor(t.Context(), f, who.ProjectID)
	if err != nil {
		t.Fatalf("ensure a flavor: %v", err)
	}
	defer func() {
		if err := s.admin.Delete(t.Context(), sites.Flavor, id); err != nil {
			t.Errorf("delete the flavor: %v", err)
		}
	}()
	if again, err := maker.EnsureFlavor(t.Context(), f, who.ProjectID); err != nil || again != id {
		t.Errorf("ensure it again: %s, %v; want %s", again, err, id)
	}
	f.RAM = 128
	_, err = maker.EnsureFlavor(t.Context(), f)
	want(t, "ensure a flavor of another size", err, fault.Conflict)
	shown, err := s.member.Show(t.Context(), sites.Flavor, id)
	if err != nil || shown.Text("name") != s.prefix {
		t.Errorf("the member is shown %q, error %v; want the private flavor", shown.Text("name"), err)
	}
	caps, err := s.member.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, seen := range caps.Flavors {
		if seen.ID == id {
			if seen.Public || seen.Swap != 32 || seen.Extra["hw:cpu_policy"] != "shared" {
				t.Errorf("the member's probe shows %+v, want it private with swap 32 and its extra specs", seen)
			}
			return
		}
	}
	t.Error("the member's probe lacks the private flavor")
}
