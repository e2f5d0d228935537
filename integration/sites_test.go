package integration

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/sync/health"
)

// empty holds nothing at any site.
type empty struct{}

func (empty) Holdings(dbschema.Tx, ident.SiteID) (map[sites.Kind]int, error) { return nil, nil }
func (empty) Forget(context.Context, dbschema.Tx, ident.SiteID) error        { return nil }
func (empty) Purge(context.Context, dbschema.Tx, ident.SiteID) error         { return nil }

// register returns a registry of real adaptors over an empty database.
func register(t *testing.T) (*registry.Registry, *dbschema.DB) {
	t.Helper()
	db := dbtest.SQLite(t)
	keys, _, err := registry.OpenKeyring(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(t.Context(), registry.Config{DB: db, Keys: keys, Remover: empty{},
		Adaptor: func(site ident.SiteID, cred sites.Credential) (sites.Adaptor, error) {
			return openstack.New(openstack.Config{Site: site, Credential: cred, Timeout: 20 * time.Second})
		}})
	if err != nil {
		t.Fatal(err)
	}
	return r, db
}

func siteAccount(region realcloud.Region, user string) sites.Credential {
	return sites.Credential{AuthURL: region.AuthURL, Region: region.Name, Username: user, Password: realcloud.Password,
		UserDomainID: "default", ProjectName: user, ProjectDomainID: "default"}
}

// What cannot work at a real region is refused with the exact reason, and nothing is stored.
func TestSiteRefusals(t *testing.T) {
	east := realcloud.Need(t, "east").Region(t, "east")
	r, _ := register(t)
	open, secure := httptest.NewServer(http.NotFoundHandler()), httptest.NewUnstartedServer(http.NotFoundHandler())
	defer open.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of handshakes that are meant to fail
	secure.StartTLS()
	defer secure.Close()
	for _, tt := range []struct {
		name    string
		change  func(*sites.Credential)
		tenancy sites.Tenancy
		code    string
	}{
		{"wrong password", func(c *sites.Credential) { c.Password = "wrong" }, "", registry.CodeUnauthorized},
		{"unknown user", func(c *sites.Credential) { c.Username = "nobody" }, "", registry.CodeUnauthorized},
		{"unknown project", func(c *sites.Credential) { c.ProjectName = "nothing" }, "", registry.CodeUnauthorized},
		{"nothing listens", func(c *sites.Credential) { c.AuthURL = "http://127.0.0.1:1/v3" }, "", registry.CodeUnreachable},
		{"no such host", func(c *sites.Credential) { c.AuthURL = "http://keystone.invalid:5000/v3" }, "", registry.CodeUnreachable},
		{"TLS where there is none", func(c *sites.Credential) { c.AuthURL = strings.Replace(open.URL, "http://", "https://", 1) }, "", registry.CodeTLS},
		{"certificate of an unknown authority", func(c *sites.Credential) { c.AuthURL = secure.URL }, "", registry.CodeTLS},
		{"no Keystone", func(c *sites.Credential) { c.AuthURL = open.URL }, "", registry.CodeNoKeystone},
		{"another region", func(c *sites.Credential) { c.Region = "nowhere" }, "", registry.CodeNoCompute},
		{"no administrator", func(c *sites.Credential) { c.Username, c.ProjectName = "demo", "demo" }, sites.TenancyProject, registry.CodeNotAdmin},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cred := siteAccount(east, "admin")
			tt.change(&cred)
			report, err := r.Add(t.Context(), registry.Spec{Name: "east", Credential: cred, Tenancy: tt.tenancy}, false)
			if !fault.Is(err, fault.BadRequest) || len(report.Problems) == 0 || report.Problems[0].Code != tt.code {
				t.Errorf("Add = %v; problems %+v, want %s", err, report.Problems, tt.code)
			}
			t.Logf("the operator reads: %s", fault.Message(err))
		})
	}
	if all, err := r.Sites(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("stored: %d, %v", len(all), err)
	}
}

// The three tenancies at a real region: as whom a project acts there, and that nothing is left behind.
func TestTenancies(t *testing.T) {
	east := realcloud.Need(t, "east").Region(t, "east")
	project := ident.NewHexID()
	t.Run("project", func(t *testing.T) {
		r, _ := register(t)
		add(t, r, east, "admin", "", sites.TenancyProject)
		tenant, err := r.Tenant(t.Context(), "east", project)
		if err != nil {
			t.Fatal(err)
		}
		who := act(t, tenant)
		if who.ProjectName != "hw-"+project || slices.Contains(who.Roles, "admin") || !slices.Contains(who.Roles, "member") {
			t.Errorf("the project acts as %+v", who)
		}
		limits, err := tenant.Do(t.Context(), sites.Request{Service: sites.Compute, Method: "GET", Path: "limits"})
		if err != nil {
			t.Fatal(err)
		}
		absolute, _ := limits.Body["limits"].(map[string]any)["absolute"].(map[string]any)
		if got := absolute["maxTotalInstances"]; got == nil || strings.TrimSpace(strings.Trim(toText(got), `"`)) != "-1" {
			t.Errorf("maxTotalInstances = %v, want no limit of the site's own", got)
		}
		if gone, err := r.Remove(t.Context(), "east", registry.FateNone); err != nil || !gone {
			t.Fatal(gone, err)
		}
		admin, err := openstack.New(openstack.Config{Site: "east", Credential: siteAccount(east, "admin")})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"projects", "users"} {
			reply, err := admin.Do(t.Context(), sites.Request{Service: sites.Identity, Method: "GET", Path: path, Query: map[string][]string{"name": {"hw-" + project}}})
			if err != nil {
				t.Fatal(err)
			}
			if left, _ := reply.Body[path].([]any); len(left) != 0 {
				t.Errorf("left behind: %s %v", path, left)
			}
		}
	})
	t.Run("static", func(t *testing.T) {
		r, _ := register(t)
		add(t, r, east, "admin", "", sites.TenancyStatic)
		if _, err := r.Tenant(t.Context(), "east", project); !fault.Is(err, fault.Conflict) {
			t.Errorf("without an account: %v, want conflict", err)
		}
		if _, err := r.SetProject(t.Context(), "east", project, siteAccount(east, "demo")); err != nil {
			t.Fatal(err)
		}
		tenant, err := r.Tenant(t.Context(), "east", project)
		if err != nil {
			t.Fatal(err)
		}
		if who := act(t, tenant); who.ProjectName != "demo" {
			t.Errorf("the project acts as %+v, want the account that it was given", who)
		}
	})
	t.Run("shared", func(t *testing.T) {
		r, _ := register(t)
		report := add(t, r, east, "demo", sites.TenancyShared, "")
		if report.Tenancy != sites.TenancyShared || report.Capabilities.Admin {
			t.Errorf("an ordinary account got tenancy %s, administrator %v", report.Tenancy, report.Capabilities.Admin)
		}
		tenant, err := r.Tenant(t.Context(), "east", project)
		if err != nil {
			t.Fatal(err)
		}
		if who := act(t, tenant); who.ProjectName != "demo" {
			t.Errorf("the project acts as %+v", who)
		}
	})
}

// add registers east; want is the tenancy that must come of it when none was asked for.
func add(t *testing.T, r *registry.Registry, region realcloud.Region, user string, want, tenancy sites.Tenancy) registry.Report {
	t.Helper()
	report, err := r.Add(t.Context(), registry.Spec{Name: "east", Credential: siteAccount(region, user), Tenancy: tenancy}, false)
	if err != nil {
		t.Fatal(err)
	}
	if want != "" && report.Tenancy != want {
		t.Errorf("tenancy = %s, want %s", report.Tenancy, want)
	}
	return report
}

// act uses the session and returns as whom.
func act(t *testing.T, a sites.Adaptor) sites.Account {
	t.Helper()
	who, err := a.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.List(t.Context(), sites.Server, sites.Query{}, func(sites.Object) error { return nil }); err != nil {
		t.Errorf("list servers as %s: %v", who.UserName, err)
	}
	return who
}

func toText(v any) string {
	if s, ok := v.(interface{ String() string }); ok {
		return s.String()
	}
	return ""
}

// The checks of sync/health find a real region up, with either kind of account.
func TestHealthOfRealRegion(t *testing.T) {
	east := realcloud.Need(t, "east").Region(t, "east")
	for _, user := range []string{"admin", "demo"} {
		t.Run(user, func(t *testing.T) {
			r, db := register(t)
			add(t, r, east, user, "", "")
			loop, err := health.New(health.Config{DB: db, Directory: r})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel() // before the wait
			wg.Go(func() {
				if err := loop.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			ticker := time.NewTicker(50 * time.Millisecond)
			defer ticker.Stop()
			for checked := false; !checked; {
				select {
				case <-ctx.Done():
					t.Fatal("not checked in 30 s")
				case <-ticker.C:
				}
				site, err := r.Site(t.Context(), "east")
				if err != nil {
					t.Fatal(err)
				}
				if site.Health.State != registry.Up {
					t.Fatalf("health = %+v", site.Health)
				}
				checked = site.Health.CheckedAt.After(site.Capabilities.ProbedAt) && site.Health.CheckedAt.After(site.Created)
			}
		})
	}
}
