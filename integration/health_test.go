package integration

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/sync/health"
)

// watched is two emulated sites, of which one is hurt, and the loop that watches both.
type watched struct {
	t      *testing.T
	sites  *registry.Registry
	loop   *health.Loop
	clouds map[ident.SiteID]*emulator.Cloud
}

func watch(t *testing.T) *watched {
	t.Helper()
	r, db := register(t)
	w := &watched{t: t, sites: r, clouds: map[ident.SiteID]*emulator.Cloud{}}
	for _, name := range []ident.SiteID{"east", "west"} {
		w.clouds[name] = emulator.New(emulator.Default(string(name)))
		server := httptest.NewServer(w.clouds[name])
		t.Cleanup(server.Close)
		cred := sites.Credential{AuthURL: server.URL + "/identity/v3", Region: string(name), Username: "admin", Password: "secret",
			UserDomainID: "default", ProjectName: "admin", ProjectDomainID: "default"}
		if _, err := r.Add(t.Context(), registry.Spec{Name: name, Credential: cred, Tenancy: sites.TenancyProject}, false); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.loop, err = health.New(health.Config{DB: db, Directory: r}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.loop.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

// until waits for a state of east; callers report it all the while, so that checks follow each other in seconds.
func (w *watched) until(want registry.HealthState, reason string) {
	w.t.Helper()
	deadline := time.After(45 * time.Second)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var last registry.Health
	for {
		w.loop.Report("east", fault.New(fault.Unavailable, "test", "a caller's call failed"))
		site, err := w.sites.Site(w.t.Context(), "east")
		if err != nil {
			w.t.Fatal(err)
		}
		if last = site.Health; last.State == want && strings.Contains(last.Reason, reason) {
			return
		}
		select {
		case <-deadline:
			w.t.Fatalf("east is %+v, want %s with %q", last, want, reason)
		case <-ticker.C:
		}
	}
}

// A site goes through an outage, the loss of one service and the loss of its
// account's role, and comes back each time by itself; the other site never shows a thing.
func TestHealthOfHurtSite(t *testing.T) {
	t.Parallel()
	w := watch(t)
	east := w.clouds["east"].Faults()
	w.until(registry.Up, "")

	east.Outage("compute")
	w.until(registry.Down, "compute: ")
	if site, err := w.sites.Site(t.Context(), "east"); err != nil || site.Usable() {
		t.Errorf("a site without compute is usable: %v", err)
	}
	east.Recover()
	w.until(registry.Up, "")

	east.Outage("network")
	w.until(registry.Degraded, "network: ")
	east.Recover()
	w.until(registry.Up, "")

	east.LoseRoles("admin", "admin")
	w.until(registry.Degraded, "lost a role")
	site, err := w.sites.Site(t.Context(), "east")
	if err != nil || !site.Capabilities.Admin || len(site.Capabilities.Flavors) == 0 {
		t.Errorf("a lost role changed what is known of the site: %v", err)
	}
	if found, err := w.sites.Probe(t.Context(), "east", false); err != nil || found.Lost == "" {
		t.Errorf("a probe without the role = %q, %v, want what is lost", found.Lost, err)
	}
	east.RestoreRoles("admin")
	w.until(registry.Up, "")

	if west, err := w.sites.Site(t.Context(), "west"); err != nil || west.Health.State != registry.Up || !west.Health.Since.Before(site.Health.Since) {
		t.Errorf("west is %+v, %v; want it up from the beginning", west.Health, err)
	}
}

// The tenancy project on an emulated site whose answers get lost: one project, one user, a password that works.
func TestProjectMadeThroughLostReplies(t *testing.T) {
	t.Parallel()
	w := watch(t)
	_, err := w.clouds["east"].Faults().Add(emulator.Fault{Method: "POST", Service: "identity", Path: "projects$", LostReply: true, Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	project := ident.NewHexID()
	// The adaptor may look by name itself after the lost reply; if it does not, the next use does.
	tenant, err := w.sites.Tenant(t.Context(), "east", project)
	if fault.Is(err, fault.Ambiguous) || fault.Is(err, fault.Unavailable) {
		tenant, err = w.sites.Tenant(t.Context(), "east", project)
	}
	if err != nil {
		t.Fatal(err)
	}
	if who := act(t, tenant); who.ProjectName != "hw-"+project {
		t.Errorf("acts as %+v", who)
	}
	if left := w.clouds["east"].Faults().List(); len(left) != 0 {
		t.Error("no reply was lost: the test tests nothing")
	}
	if err := w.sites.ReleaseProject(t.Context(), "east", project); err != nil {
		t.Fatal(err)
	}
	if id := w.clouds["east"].ProjectID("hw-" + project); id != "" {
		t.Errorf("the project %s is left behind", id)
	}
}
