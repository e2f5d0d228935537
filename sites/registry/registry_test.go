package registry

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func TestAddRefusesWithTheReason(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	for _, tt := range []struct {
		name    string
		spec    Spec
		prepare func(*cloud)
		code    string
		want    string
	}{
		{"capital letter", Spec{Name: "East", Credential: credential("admin")}, nil, CodeName, "lower-case"},
		{"reserved", Spec{Name: "global", Credential: credential("admin")}, nil, CodeName, "reserved"},
		{"no password", Spec{Name: "x", Credential: sites.Credential{AuthURL: "http://k", Username: "a", UserDomainID: "default", ProjectID: "p"}}, nil,
			CodeCredential, "password is missing"},
		{"tenancy", Spec{Name: "x", Credential: credential("admin"), Tenancy: "own"}, nil, CodeTenancy, "want project, static or shared"},
		{"wrong password", Spec{Name: "x", Credential: func() sites.Credential { c := credential("admin"); c.Password = "no"; return c }()}, nil,
			CodeUnauthorized, "refused the credential"},
		{"unreachable", Spec{Name: "x", Credential: credential("admin")}, func(c *cloud) { c.down = true }, CodeUnreachable, "connection refused"},
		{"no compute", Spec{Name: "x", Credential: credential("admin")}, func(c *cloud) {
			c.caps.Services = map[sites.Service]sites.ServiceInfo{sites.Identity: {}, sites.NetworkSvc: {}, sites.ImageService: {}}
		}, CodeNoCompute, "no compute service in region \"east\""},
		{"not admin", Spec{Name: "x", Credential: credential("demo"), Tenancy: sites.TenancyProject}, nil, CodeNotAdmin, "listing projects was refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t, db) // one after the other: all look at one database, which must stay empty
			if tt.prepare != nil {
				tt.prepare(g.cloud)
			}
			report, err := g.Add(t.Context(), tt.spec, false)
			if !fault.Is(err, fault.BadRequest) || !strings.Contains(fault.Message(err), tt.want) {
				t.Errorf("Add = %v, want %q", err, tt.want)
			}
			if len(report.Problems) != 1 || report.Problems[0].Code != tt.code || report.Accepted {
				t.Errorf("report = %+v, want one problem %s", report.Problems, tt.code)
			}
			if list, err := g.Sites(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("Sites = %v, %v, want none", list, err)
			}
		})
	}
}

func TestExplainTLS(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&fault.Error{Kind: fault.Unavailable, Err: fmt.Errorf("get: %w", x509.UnknownAuthorityError{})},
		&fault.Error{Kind: fault.Ambiguous, Err: errors.New("http: server gave HTTP response to HTTPS client")},
	} {
		if code, detail := explain(err, "https://k"); code != CodeTLS || detail == "" {
			t.Errorf("explain(%v) = %s %q, want %s", err, code, detail, CodeTLS)
		}
	}
}

func TestAddListsAndSeals(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		report, err := g.Add(t.Context(), Spec{Name: "east", Credential: credential("admin")}, true)
		if err != nil || !report.Accepted {
			t.Fatalf("dry run: %v, %+v", err, report.Problems)
		}
		if list, _ := g.Sites(t.Context()); len(list) != 0 {
			t.Fatal("a dry run stored the site")
		}
		g.add(t, "east", "admin", "")
		site, err := g.Site(t.Context(), "east")
		if err != nil {
			t.Fatal(err)
		}
		if site.Tenancy != sites.TenancyProject || !site.Enabled || site.Health.State != Up || site.Account.UserName != "admin" {
			t.Errorf("site = %+v", site)
		}
		if ok, why := site.Placeable(); !ok {
			t.Errorf("not placeable: %s", why)
		}
		row, _, err := g.store.row(db.Read(t.Context()), "east")
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := json.Marshal(row); strings.Contains(string(text), `"secret"`) || strings.Contains(string(row.Credential), "secret") {
			t.Error("the password lies open in the database")
		}
		if _, err := g.Add(t.Context(), Spec{Name: "east", Credential: credential("demo")}, false); !fault.Is(err, fault.Conflict) {
			t.Errorf("second site of the name: %v, want conflict", err)
		}
		if _, err := g.Add(t.Context(), Spec{Name: "again", Credential: credential("demo"), Tenancy: sites.TenancyShared}, false); !fault.Is(err, fault.Conflict) ||
			!strings.Contains(fault.Message(err), "registered as site east") {
			t.Errorf("the same cloud again: %v, want conflict naming east", err)
		}
		other := g.replica(t)
		if names, err := other.Enabled(t.Context()); err != nil || len(names) != 1 || names[0] != "east" {
			t.Errorf("Enabled in another process = %v, %v", names, err)
		}
	})
}

// Replicas that add one cloud at once, under one name or several: one of them succeeds, the others say why not.
func TestAddAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		var wg sync.WaitGroup
		var mu sync.Mutex
		added := 0
		for i := range 8 {
			replica := g.replica(t)
			name := ident.SiteID([]string{"east", "oriental"}[i%2])
			wg.Go(func() {
				_, err := replica.Add(t.Context(), Spec{Name: name, Credential: credential("demo")}, false)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					added++
				} else if !fault.Is(err, fault.Conflict) {
					t.Errorf("Add = %v, want conflict", err)
				}
			})
		}
		wg.Wait()
		if list, err := g.replica(t).Sites(t.Context()); err != nil || added != 1 || len(list) != 1 {
			t.Errorf("%d added, %d stored, %v; want one", added, len(list), err)
		}
	})
}

func TestZones(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		g.add(t, "east", "admin", "")
		look := func(top string, service sites.Service) string {
			site, err := g.Site(t.Context(), "east")
			if err != nil {
				t.Fatal(err)
			}
			bottom, ok := site.BottomZone(top, service)
			if !ok {
				return "none"
			}
			return "<" + bottom + ">"
		}
		for _, tt := range []struct {
			top     string
			service sites.Service
			want    string
		}{
			{"east", sites.Compute, "<>"}, {"east/az1", sites.Compute, "<az1>"}, {"east/az1", sites.BlockStorage, "<az1>"},
			{"east/az2", sites.BlockStorage, "<>"}, {"east/ssd", sites.BlockStorage, "<ssd>"}, {"east/ssd", sites.Compute, "none"},
			{"west", sites.Compute, "none"},
		} {
			if got := look(tt.top, tt.service); got != tt.want {
				t.Errorf("BottomZone(%s, %s) = %s, want %s", tt.top, tt.service, got, tt.want)
			}
		}
		edits := []Zone{{Top: "east/gold", Service: sites.Compute, Bottom: "az2"}, {Top: "east/az2", Service: sites.BlockStorage, Bottom: "ssd"}}
		if _, err := g.EditZones(t.Context(), "east", edits); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Probe(t.Context(), "east", false); err != nil {
			t.Fatal(err)
		}
		if look("east/gold", sites.Compute) != "<az2>" || look("east/az2", sites.BlockStorage) != "<ssd>" || look("east/az1", sites.Compute) != "<az1>" {
			t.Error("a probe lost the operator's zones")
		}
		if _, err := g.EditZones(t.Context(), "east", nil); err != nil {
			t.Fatal(err)
		}
		if look("east/gold", sites.Compute) != "none" || look("east/az2", sites.BlockStorage) != "<>" {
			t.Error("edits that were taken back are still there")
		}
		_, err := g.EditZones(t.Context(), "east", []Zone{{Top: "west/a", Service: sites.Compute}, {Top: "east/a", Service: "image"},
			{Top: "east/a", Service: sites.Compute, Bottom: "az9"}})
		if msg := fault.Message(err); !fault.Is(err, fault.BadRequest) || strings.Count(msg, ";") != 2 {
			t.Errorf("bad zones: %v, want three reasons", err)
		}
	})
}

// Two replicas that need a project's account at once, many times over, make it once and use the same password.
func TestTenantIsMadeOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		g.add(t, "east", "admin", sites.TenancyProject)
		replicas := []*Registry{g.Registry, g.replica(t), g.replica(t)}
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				a, err := replicas[i%3].Tenant(t.Context(), "east", "0123")
				if err != nil {
					t.Error(err)
					return
				}
				if who, err := a.Account(t.Context()); err != nil || who.ProjectID != "id-hw-0123" || who.UserID != "user-hw-0123" {
					t.Errorf("the tenant acts as %+v, %v", who, err)
				}
			})
		}
		wg.Wait()
		if g.cloud.ensured != 1 {
			t.Errorf("the project was made %d times", g.cloud.ensured)
		}
		if g.cloud.quotas["id-hw-0123"][sites.Compute]["instances"] != -1 {
			t.Errorf("its limits are %v, want unlimited", g.cloud.quotas)
		}
	})
}

// The site makes the project, the answer is lost and Top dies: the next use finds it and knows its password.
func TestTenantSurvivesCrash(t *testing.T) {
	t.Parallel()
	g := newRig(t, dbtest.SQLite(t))
	g.add(t, "east", "admin", sites.TenancyProject)
	g.cloud.crash = true
	if _, err := g.Tenant(t.Context(), "east", "0123"); err == nil {
		t.Fatal("the lost answer went unnoticed")
	}
	set := g.cloud.passwords["user-hw-0123"]
	g.cloud.crash = false
	a, err := g.replica(t).Tenant(t.Context(), "east", "0123")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Account(t.Context()); err != nil || g.cloud.passwords["user-hw-0123"] != set || g.cloud.ensured != 1 {
		t.Errorf("after the crash: %v, made %d times, password kept %v", err, g.cloud.ensured, g.cloud.passwords["user-hw-0123"] == set)
	}
}

func TestTenancies(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		t.Run("shared", func(t *testing.T) {
			g := newRig(t, db)
			g.add(t, "shared", "demo", "")
			admin, err := g.Admin(t.Context(), "shared")
			if err != nil {
				t.Fatal(err)
			}
			if tenant, err := g.Tenant(t.Context(), "shared", "p1"); err != nil || tenant != admin {
				t.Errorf("a shared site's tenant is not its one account: %v", err)
			}
			if ok, err := g.Remove(t.Context(), "shared", FateNone); err != nil || !ok {
				t.Fatal(ok, err)
			}
		})
		t.Run("static", func(t *testing.T) {
			g := newRig(t, db)
			g.add(t, "static", "admin", sites.TenancyStatic)
			if _, err := g.Tenant(t.Context(), "static", "p1"); !fault.Is(err, fault.Conflict) {
				t.Errorf("a project without account: %v, want conflict", err)
			}
			bad := credential("demo")
			bad.Password = "wrong"
			if _, err := g.SetProject(t.Context(), "static", "p1", bad); !fault.Is(err, fault.BadRequest) {
				t.Errorf("a wrong password: %v, want bad request", err)
			}
			if _, err := g.SetProject(t.Context(), "static", "p1", credential("demo")); err != nil {
				t.Fatal(err)
			}
			if _, err := g.SetProject(t.Context(), "static", "p2", credential("demo")); !fault.Is(err, fault.Conflict) {
				t.Errorf("two projects on one account: %v, want conflict", err)
			}
			a, err := g.Tenant(t.Context(), "static", "p1")
			if err != nil {
				t.Fatal(err)
			}
			if who, err := a.Account(t.Context()); err != nil || who.ProjectID != "p-demo" {
				t.Errorf("acts as %+v, %v", who, err)
			}
			if ok, err := g.Remove(t.Context(), "static", FateNone); err != nil || !ok {
				t.Fatal(ok, err)
			}
		})
	})
}

// A replaced account reaches the other replicas within Config.Fresh.
func TestCredentialChangeEndsSessions(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		g.add(t, "east", "admin", sites.TenancyProject)
		other := g.replica(t)
		old, err := other.Admin(t.Context(), "east")
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := other.Admin(t.Context(), "east"); again != old {
			t.Error("the session was not kept")
		}
		tenant, err := other.Tenant(t.Context(), "east", "p1")
		if err != nil {
			t.Fatal(err)
		}
		g.cloud.mu.Lock()
		g.cloud.passwords["admin"] = "new"
		g.cloud.mu.Unlock()
		fresh := credential("admin")
		fresh.Password = "new"
		if _, err := g.SetCredential(t.Context(), "east", fresh, false); err != nil {
			t.Fatal(err)
		}
		g.clock.step(2 * time.Second)
		a, err := other.Admin(t.Context(), "east")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Account(t.Context()); err != nil || a == old {
			t.Errorf("another replica still uses the old account: %v", err)
		}
		if b, err := other.Tenant(t.Context(), "east", "p1"); err != nil || b == tenant {
			t.Errorf("a member's session outlived the site's account: %v", err)
		}
		elsewhere := fresh
		elsewhere.Region = "west"
		if _, err := g.SetCredential(t.Context(), "east", elsewhere, false); !fault.Is(err, fault.BadRequest) {
			t.Errorf("an account of another region: %v, want bad request", err)
		}
	})
}

func TestFlags(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		g.add(t, "east", "admin", "")
		placeable := func() bool {
			site, err := g.Site(t.Context(), "east")
			if err != nil {
				t.Fatal(err)
			}
			ok, _ := site.Placeable()
			return ok
		}
		for _, tt := range []struct {
			name string
			do   func() error
			want bool
		}{
			{"drain", func() error { return g.SetDraining(t.Context(), "east", true) }, false},
			{"drain ends", func() error { return g.SetDraining(t.Context(), "east", false) }, true},
			{"disable", func() error { return g.SetEnabled(t.Context(), "east", false) }, false},
			{"enable", func() error { return g.SetEnabled(t.Context(), "east", true) }, true},
		} {
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
			if got := placeable(); got != tt.want {
				t.Errorf("after %s placeable = %v", tt.name, got)
			}
		}
		if err := g.SetEnabled(t.Context(), "nowhere", true); !fault.Is(err, fault.NotFound) {
			t.Errorf("an unknown site: %v, want not found", err)
		}
	})
}

func TestRemove(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		g.add(t, "east", "admin", sites.TenancyProject)
		if _, err := g.Tenant(t.Context(), "east", "p1"); err != nil {
			t.Fatal(err)
		}
		g.held.held = map[sites.Kind]int{sites.Server: 3, sites.Volume: 1}
		_, err := g.Remove(t.Context(), "east", FateNone)
		if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), "server: 3, volume: 1") {
			t.Errorf("Remove of a site in use: %v, want the counts", err)
		}
		if gone, err := g.Remove(t.Context(), "east", FatePurge); err != nil || gone || g.held.purges != 1 {
			t.Fatalf("purge: gone %v, %v, begun %d", gone, err, g.held.purges)
		}
		if site, err := g.Site(t.Context(), "east"); err != nil || site.State != Removing || site.Enabled {
			t.Errorf("while purging: %+v, %v", site.State, err)
		}
		if err := g.SetEnabled(t.Context(), "east", true); !fault.Is(err, fault.Conflict) {
			t.Errorf("enabling a site that is being removed: %v, want conflict", err)
		}
		if err := g.Drop(t.Context(), "east"); !fault.Is(err, fault.Conflict) {
			t.Errorf("Drop before the purge ended: %v, want conflict", err)
		}
		g.held.held = nil
		if err := g.Drop(t.Context(), "east"); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Site(t.Context(), "east"); !fault.Is(err, fault.NotFound) {
			t.Errorf("after Drop: %v, want not found", err)
		}
		if len(g.cloud.projects) != 2 || len(g.cloud.passwords) != 2 {
			t.Errorf("left behind at the site: %v, %v", g.cloud.projects, g.cloud.passwords)
		}
		g.add(t, "east", "admin", sites.TenancyProject)
		g.cloud.down = true
		g.held.held = map[sites.Kind]int{sites.Server: 3}
		if gone, err := g.Remove(t.Context(), "east", FateKeep); err != nil || !gone {
			t.Errorf("keeping what a dead site holds: %v, %v", gone, err)
		}
	})
}

// A replica that did not remove a site never learned that it should forget it.
func TestGoneIsToldEverywhere(t *testing.T) {
	t.Parallel()
	g := newRig(t, dbtest.SQLite(t))
	g.add(t, "east", "admin", sites.TenancyProject)
	var mu sync.Mutex
	var gone []ident.SiteID
	other, err := New(t.Context(), Config{DB: g.db, Keys: g.keys, Adaptor: g.cloud.factory, Remover: g.held, Now: g.clock.now, Gone: func(site ident.SiteID) {
		mu.Lock()
		defer mu.Unlock()
		gone = append(gone, site)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Admin(t.Context(), "east"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Remove(t.Context(), "east", FateNone); err != nil {
		t.Fatal(err)
	}
	g.clock.step(2 * time.Second)
	g.add(t, "east", "admin", sites.TenancyProject) // another of the same name
	other.Invalidate()
	if _, err := other.Sites(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(gone) != 1 || gone[0] != "east" || other.session(sessionKey{site: "east"}) != nil {
		t.Errorf("told of %v, session %v; want the removed site once and no session of it", gone, other.session(sessionKey{site: "east"}))
	}
}

// The account lost its roles: the vector that is stored stays as it was.
func TestProbeKeepsWhatWasLost(t *testing.T) {
	t.Parallel()
	g := newRig(t, dbtest.SQLite(t))
	g.add(t, "east", "admin", sites.TenancyProject)
	g.cloud.noAdmin = true
	found, err := g.Probe(t.Context(), "east", false)
	if err != nil || !strings.Contains(found.Lost, "no administrator any more") {
		t.Fatalf("Probe = %q, %v", found.Lost, err)
	}
	if site, _ := g.Site(t.Context(), "east"); !site.Capabilities.Admin {
		t.Error("the loss was stored")
	}
	if _, err := g.Probe(t.Context(), "east", true); err != nil {
		t.Fatal(err)
	}
	if site, _ := g.Site(t.Context(), "east"); site.Capabilities.Admin {
		t.Error("the accepted loss was not stored")
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		g := newRig(t, db)
		g.add(t, "east", "admin", sites.TenancyProject)
		for i := range 3 {
			if _, err := g.Tenant(t.Context(), "east", fmt.Sprint("p", i)); err != nil {
				t.Fatal(err)
			}
		}
		first := g.keys.Primary()
		done, err := g.Rotate(t.Context(), true)
		if err != nil || done.Sites != 1 || done.Projects != 3 || done.Key == first {
			t.Fatalf("Rotate = %+v, %v", done, err)
		}
		if again, err := g.Rotate(t.Context(), false); err != nil || again.Sites+again.Projects != 0 || again.Key != done.Key {
			t.Errorf("a second run = %+v, %v, want nothing to do", again, err)
		}
		if ids, err := g.store.keyIDs(t.Context()); err != nil || len(ids) != 1 || ids[0] != done.Key {
			t.Errorf("keys in use: %v, %v", ids, err)
		}
		a, err := g.replica(t).Tenant(t.Context(), "east", "p1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Account(t.Context()); err != nil {
			t.Errorf("an account that was sealed again does not work: %v", err)
		}
	})
}

func TestNewNeedsTheKey(t *testing.T) {
	t.Parallel()
	g := newRig(t, dbtest.SQLite(t))
	g.add(t, "east", "admin", "")
	cfg := g.cfg
	cfg.Keys = testKeyring(t)
	if _, err := New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "restore the key file") {
		t.Errorf("New with another key file = %v", err)
	}
}

// Decorators see every adaptor and do not hide the project maker.
func TestDecorators(t *testing.T) {
	t.Parallel()
	g := newRig(t, dbtest.SQLite(t))
	type wrapped struct{ sites.Adaptor }
	g.cfg.Decorate = []func(sites.Adaptor) sites.Adaptor{func(a sites.Adaptor) sites.Adaptor { return wrapped{a} }}
	g.add(t, "east", "admin", sites.TenancyProject)
	a, err := g.Tenant(t.Context(), "east", "p1")
	if _, ok := a.(wrapped); err != nil || !ok {
		t.Errorf("Tenant = %T, %v, want it decorated", a, err)
	}
}

func TestCloudURL(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]string{
		{"http://K.example:5000/v3", "http://k.example:5000"},
		{"https://k.example/identity/v3/", "HTTPS://k.example:443/identity"},
		{"http://k.example", "http://k.example:80/"},
	} {
		if a, b := cloudURL(same[0]), cloudURL(same[1]); a != b {
			t.Errorf("%q and %q are spelled %q and %q", same[0], same[1], a, b)
		}
	}
	if cloudURL("http://k:5000/v3") == cloudURL("https://k:5000/v3") {
		t.Error("http and https are one cloud")
	}
}

// A cancelled request does not fail the others that wait for the same reading.
func TestSitesWithCancelledContext(t *testing.T) {
	t.Parallel()
	g := newRig(t, dbtest.SQLite(t))
	g.Invalidate()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Sites(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Sites = %v", err)
	}
	if _, err := g.Sites(t.Context()); err != nil {
		t.Errorf("Sites after a cancelled one = %v", err)
	}
}

func BenchmarkSite(b *testing.B) {
	b.ReportAllocs()
	v := &view{index: map[ident.SiteID]int{"east": 0}, sites: []Site{{Name: "east"}}, read: time.Now()}
	r := &Registry{cfg: Config{Fresh: time.Hour}, now: time.Now}
	r.view.Store(v)
	for b.Loop() {
		if _, err := r.Site(context.Background(), "east"); err != nil {
			b.Fatal(err)
		}
	}
}
