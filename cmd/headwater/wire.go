package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/trace"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/limit"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/sync/health"
	"github.com/headwater-cloud/headwater/sync/inventory"
)

// runner is a long-lived part: Run blocks until ctx ends and returns after everything that it started has ended.
type runner interface {
	Run(ctx context.Context) error
}

// top is a whole Top, put together and not yet running.
type top struct {
	cfg       topConfig
	log       *slog.Logger
	metrics   *prometheus.Registry
	tracer    *trace.Tracer // nil when tracing is off
	db        *dbschema.DB
	clock     *dbschema.Clock // the database's, which all replicas share
	keys      *registry.Keyring
	registry  *registry.Registry
	core      *cascade.Core
	placer    *placement.Placer
	identity  *identity.Store
	audit     *audit.Store
	jobs      *jobs.Engine
	compute   *compute.Service
	network   *network.Service
	image     *image.Service
	volume    *volume.Service
	health    *health.Loop
	inventory *inventory.Inventory
	runners   []runner
}

// newTop opens the database and puts the parts together. The caller closes it.
func newTop(ctx context.Context, cfg topConfig, log *slog.Logger) (*top, error) {
	t := &top{cfg: cfg, log: log, metrics: prometheus.NewRegistry()}
	t.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of dir: %w", err)
	}
	var err error
	if t.tracer, err = trace.New(ctx, cfg.Tracing, run.Version(), log); err != nil {
		return nil, err
	}
	if t.db, err = dbschema.Open(ctx, cfg.Database, log); err != nil {
		return nil, err
	}
	if t.clock, err = t.db.Clock(ctx, time.Now); err != nil {
		return nil, errors.Join(err, t.db.Close())
	}
	if err := t.build(ctx); err != nil {
		return nil, errors.Join(err, t.db.Close())
	}
	return t, nil
}

func (t *top) build(ctx context.Context) error {
	for _, step := range []func(context.Context) error{t.buildSites, t.buildIdentity, t.buildVerticals, t.buildSync} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// buildSites makes what knows the sites and the engine over them.
func (t *top) buildSites(ctx context.Context) error {
	keys, made, err := registry.OpenKeyring(t.cfg.KeyFile)
	if err != nil {
		return err
	}
	if made {
		t.log.InfoContext(ctx, "key file made", "path", t.cfg.KeyFile)
	}
	counts, err := limit.NewMetrics(t.metrics)
	if err != nil {
		return err
	}
	t.keys = keys
	makers := newAdaptors(t.cfg.Sites, counts, t.tracer, t.log)
	late := &lateRemover{}
	t.registry, err = registry.New(ctx, registry.Config{
		DB: t.db, Keys: keys, Adaptor: makers.make, Decorate: makers.decorate(), Remover: late, Gone: func(site ident.SiteID) {
			makers.forget(site)
			t.inventory.Gone(site) // made by now: before anything runs nothing is removed
		}, Log: t.log, Now: time.Now,
	})
	if err != nil {
		return err
	}
	t.health, err = health.New(health.Config{DB: t.db, Directory: t.registry, Log: t.log, Registerer: t.metrics, Now: time.Now})
	if err != nil {
		return err
	}
	makers.report = t.health.Report
	t.audit = audit.NewStore(t.db, t.clock.Now)
	t.core = cascade.New(cascade.Config{
		DB: t.db, Index: index.NewStore(t.db, t.clock.Now), Bindings: binding.NewStore(t.db, t.clock.Now), Quota: quota.NewStore(t.db),
		Audit: t.audit, Directory: t.registry, Log: t.log, Now: t.clock.Now,
		CallTimeout: t.cfg.Sites.CallTimeout, SettleTime: t.cfg.Sites.SettleTime,
	})
	homes := placement.NewHomeStore(t.db, t.clock.Now)
	t.placer = placement.New(t.registry, t.core.Index, t.core.Bindings, homes)
	if t.jobs, err = jobs.New(t.db, t.cfg.Jobs, t.metrics, t.log); err != nil {
		return err
	}
	t.jobs.Trace(t.tracer.Jobs())
	cursors := inventory.NewStore(t.db)
	remover := cascade.NewSiteRemover(t.core, homes.Forget, cursors.Forget)
	remover.DropFrom(t.registry)
	late.Remover = remover
	return errors.Join(t.core.RegisterJobs(t.jobs), remover.RegisterJobs(t.jobs),
		cascade.NewProjectCleaner(t.core, t.registry).RegisterJobs(t.jobs))
}

// buildIdentity makes the built-in Keystone and its first administrator.
func (t *top) buildIdentity(ctx context.Context) error {
	cfg := identity.Default()
	cfg.TokenLife = t.cfg.Identity.TokenLife
	var err error
	t.identity, err = identity.New(cfg, identity.Options{DB: t.db, Now: time.Now, Log: t.log, Metrics: t.metrics, ProjectGone: t.core.ProjectGone})
	if err != nil || t.cfg.Identity.External.AuthURL != "" {
		return err
	}
	return t.identity.Bootstrap(ctx, identity.Bootstrap{AdminPassword: t.cfg.adminPassword, Generate: func() (ident.Secret, error) {
		file := filepath.Join(t.cfg.Dir, "admin-password")
		t.log.InfoContext(ctx, "user admin is made with a generated password", "path", file)
		return firstPassword(file)
	}})
}

// buildVerticals makes what knows each kind of resource.
func (t *top) buildVerticals(context.Context) error {
	addresses, err := ipam.New(ipam.Config{DB: t.db})
	if err != nil {
		return err
	}
	t.network = network.New(network.Config{Core: t.core, Placer: t.placer, IPAM: addresses})
	t.image = image.New(t.core, t.placer, t.registry)
	t.volume = volume.New(t.core, t.placer, t.image, t.registry)
	t.compute = compute.New(compute.Config{
		Core: t.core, Placer: t.placer, Registry: t.registry, Ports: t.network, Networks: t.network,
		Volumes: volume.ForServers{Service: t.volume}, Images: t.image,
	})
	t.network.Register()
	t.image.Register()
	t.volume.Register()
	t.compute.Register()
	return t.image.RegisterJobs(t.jobs)
}

// buildSync makes the loops that keep the record true.
func (t *top) buildSync(context.Context) error {
	t.inventory = inventory.New(inventory.Config{
		Core: t.core, Directory: t.registry, Store: inventory.NewStore(t.db), Log: t.log, Now: t.clock.Now, Metrics: t.metrics,
		Every: t.cfg.Inventory.Every, DiffEvery: t.cfg.Inventory.DiffEvery,
		Adopters: []inventory.Adopter{t.network, t.compute, t.volume, t.image},
	})
	reconciler, err := cascade.NewReconciler(t.core, t.metrics)
	if err != nil {
		return err
	}
	t.runners = append(t.runners, t.clock, reconciler, t.jobs, t.health, t.inventory, t.identity,
		keeper{what: "audit event", expire: t.audit.Expire, keep: t.cfg.Audit.Keep, log: t.log},
		keeper{what: "deleted resource", expire: t.core.Index.Expire, keep: index.KeepDeleted, log: t.log})
	return nil
}

// serve runs the front and all loops until ctx ends, and closes the database after them.
func (t *top) serve(ctx context.Context, front runner) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range append(t.runners, front) {
		g.Go(func() error { return part.Run(ctx) })
	}
	err := g.Wait()
	if lost := t.tracer.Close(ctx); lost != nil {
		t.log.WarnContext(ctx, "the last spans were lost", "err", lost)
	}
	return errors.Join(err, t.db.Close())
}
