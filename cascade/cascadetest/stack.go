// Package cascadetest gives tests the whole engine over emulated sites: a
// database, the registry with its adaptors, the jobs, and every vertical, in one
// process. Nothing in it is a fake but the clouds, which speak OpenStack over HTTP.
package cascadetest

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Stack is an engine over emulated sites.
type Stack struct {
	DB       *dbschema.DB
	Registry *registry.Registry
	Core     *cascade.Core
	Placer   *placement.Placer
	Jobs     *jobs.Engine
	Compute  *compute.Service
	Network  *network.Service
	Image    *image.Service
	Volume   *volume.Service
	Clouds   map[ident.SiteID]*emulator.Cloud
	admins   map[ident.SiteID]sites.Credential // the clouds' own administrators
}

// Option changes how the stack is made.
type Option func(*options)

type options struct {
	db      *dbschema.DB
	timeout time.Duration
	settle  time.Duration
	cloud   func(*emulator.Config)
	idle    bool
	tenancy sites.Tenancy
}

// OnDatabase uses a database that the test has opened, instead of SQLite in a file.
func OnDatabase(db *dbschema.DB) Option { return func(o *options) { o.db = db } }

// Timeouts sets the limit of one site call and the settle time; the defaults are 5 s and 6 s.
func Timeouts(call, settle time.Duration) Option {
	return func(o *options) { o.timeout, o.settle = call, settle }
}

// Cloud changes the configuration of each emulated cloud.
func Cloud(change func(*emulator.Config)) Option { return func(o *options) { o.cloud = change } }

// As registers the sites under a tenancy: static and shared with the account of the ordinary user demo, project (the default) with the administrator's.
func As(tenancy sites.Tenancy) Option { return func(o *options) { o.tenancy = tenancy } }

// Idle leaves the jobs unworked: the test runs Jobs itself, or never.
func Idle() Option { return func(o *options) { o.idle = true } }

// New returns a running stack over emulated sites of the given names. Everything ends with the test.
func New(t testing.TB, names []ident.SiteID, opts ...Option) *Stack {
	t.Helper()
	o := options{timeout: 5 * time.Second, settle: 6 * time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	if o.db == nil {
		o.db = dbtest.SQLite(t)
	}
	s := &Stack{DB: o.db, Clouds: map[ident.SiteID]*emulator.Cloud{}, admins: map[ident.SiteID]sites.Credential{}}
	s.build(t, o)
	if !o.idle {
		s.Run(t)
	}
	for _, name := range names {
		s.AddSite(t, name, o)
	}
	return s
}

func (s *Stack) build(t testing.TB, o options) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	keys, _, err := registry.OpenKeyring(filepath.Join(t.TempDir(), "keys"))
	must(t, err)
	late := &lateRemover{}
	s.Registry, err = registry.New(t.Context(), registry.Config{
		DB: s.DB, Keys: keys, Remover: late, Log: log, Fresh: time.Millisecond,
		Adaptor: func(site ident.SiteID, cred sites.Credential) (sites.Adaptor, error) {
			return openstack.New(openstack.Config{Site: site, Credential: cred, Timeout: o.timeout, Log: log})
		},
	})
	must(t, err)
	s.Core = cascade.New(cascade.Config{
		DB: s.DB, Index: index.NewStore(s.DB, time.Now), Bindings: binding.NewStore(s.DB, time.Now), Quota: quota.NewStore(s.DB),
		Audit: audit.NewStore(s.DB, time.Now), Directory: s.Registry, Log: log, Now: time.Now, CallTimeout: o.timeout, SettleTime: o.settle,
	})
	homes := placement.NewHomeStore(s.DB, time.Now)
	s.Placer = placement.New(s.Registry, s.Core.Index, s.Core.Bindings, homes)
	cfg := jobs.Default()
	cfg.Grace = time.Second
	s.Jobs, err = jobs.New(s.DB, cfg, prometheus.NewRegistry(), log)
	must(t, err)
	remover := cascade.NewSiteRemover(s.Core, homes.Forget)
	remover.DropFrom(s.Registry)
	late.Remover = remover
	addresses, err := ipam.New(ipam.Config{DB: s.DB})
	must(t, err)
	s.Network = network.New(network.Config{Core: s.Core, Placer: s.Placer, IPAM: addresses})
	s.Image = image.New(s.Core, s.Placer, s.Registry)
	s.Volume = volume.New(s.Core, s.Placer, s.Image, s.Registry)
	s.Compute = compute.New(compute.Config{
		Core: s.Core, Placer: s.Placer, Registry: s.Registry, Ports: s.Network, Networks: s.Network,
		Volumes: volume.ForServers{Service: s.Volume}, Images: s.Image,
	})
	for _, register := range []func(){s.Network.Register, s.Image.Register, s.Volume.Register, s.Compute.Register} {
		register()
	}
	must(t, errors.Join(s.Core.RegisterJobs(s.Jobs), s.Image.RegisterJobs(s.Jobs), remover.RegisterJobs(s.Jobs)))
}

// lateRemover stands for the remover that is made after the registry which needs it.
type lateRemover struct{ registry.Remover }

// Run works the jobs until the test ends.
func (s *Stack) Run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // t's own ends before the clean-up
	var g errgroup.Group
	g.Go(func() error { return s.Jobs.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Errorf("the jobs ended with %v", err)
		}
	})
}

// AddSite starts an emulated cloud, registers it, and takes over what everybody there shares.
func (s *Stack) AddSite(t testing.TB, name ident.SiteID, o options) {
	t.Helper()
	cfg := emulator.Default(string(name))
	cfg.Durations = emulator.Durations{
		Build: 30 * time.Millisecond, Action: 30 * time.Millisecond, Resize: 30 * time.Millisecond, Delete: 30 * time.Millisecond,
		Snapshot: 30 * time.Millisecond, Volume: 30 * time.Millisecond, Image: 30 * time.Millisecond, PortReady: 10 * time.Millisecond,
	}
	if o.cloud != nil {
		o.cloud(&cfg)
	}
	cloud := emulator.New(cfg)
	srv := httptest.NewServer(cloud)
	t.Cleanup(srv.Close)
	s.Clouds[name] = cloud
	account := func(user string, password ident.Secret) sites.Credential {
		return sites.Credential{AuthURL: srv.URL + "/identity/v3", Username: user, Password: password, ProjectName: user,
			UserDomainID: "default", ProjectDomainID: "default", Region: string(name)}
	}
	s.admins[name] = account("admin", cfg.AdminPassword)
	own := s.admins[name]
	if o.tenancy == sites.TenancyStatic || o.tenancy == sites.TenancyShared {
		own = account("demo", cfg.DemoPassword)
	}
	report, err := s.Registry.Add(t.Context(), registry.Spec{Name: name, Credential: own, Tenancy: o.tenancy}, false)
	if err != nil {
		t.Fatalf("add site %s: %v (%+v)", name, err, report)
	}
	s.Adopt(t, name)
}

// GiveAccount gives a project an account of its own at a site of the tenancy static, in a project of that name.
func (s *Stack) GiveAccount(t testing.TB, name ident.SiteID, project string) {
	t.Helper()
	cred := s.admins[name]
	admin, err := openstack.New(openstack.Config{Site: name, Credential: cred})
	must(t, err)
	cred.Username, cred.ProjectName, cred.Password = project, project, "given-Secret-1"
	_, _, err = admin.EnsureProject(t.Context(), project, "", cred.Password)
	must(t, err)
	_, err = s.Registry.SetProject(t.Context(), name, project, cred)
	must(t, err)
}

// Adopt takes over what everybody at a site shares, as the inventory does after each probe.
func (s *Stack) Adopt(t testing.TB, name ident.SiteID) {
	t.Helper()
	site, err := s.Registry.Site(t.Context(), name)
	must(t, err)
	for _, v := range []interface {
		AdoptSite(context.Context, ident.SiteID, sites.Capabilities) error
	}{s.Network, s.Compute, s.Volume, s.Image} {
		must(t, v.AdoptSite(t.Context(), name, *site.Capabilities))
	}
}

// Member returns a caller with the role member in a project of the given name.
func Member(project string) sites.Caller {
	return sites.Caller{UserID: "user-of-" + project, UserName: "user", DomainID: "default", ProjectID: project, Roles: []string{"member"}, RequestID: "req-" + project}
}

// Admin returns an administrator.
func Admin() sites.Caller {
	return sites.Caller{UserID: "admin", UserName: "admin", DomainID: "default", ProjectID: "admin", Roles: []string{"admin"}, RequestID: "req-admin"}
}

// Until asks again until ok says true, or fails the test with what was last seen after 20 s.
func Until(t testing.TB, what string, ok func() (seen any, done bool)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		seen, done := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not come about; last seen: %+v", what, seen)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
