package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// demoNames are the emulated sites.
func demoNames() []ident.SiteID { return []ident.SiteID{"east", "west"} }

// demo is a Top with two emulated sites, all in one process, that proves itself by booting a server.
type demo struct {
	dir      string
	listen   string
	once     bool
	out      io.Writer
	stderr   io.Writer
	password ident.Secret // of admin and demo, new at each start
	top      *top
	url      string
	prepared atomic.Bool
	sites    map[ident.SiteID]string // identity URLs of the emulated sites
}

// demoCommand is "headwater demo".
func demoCommand(stderr io.Writer) *cobra.Command {
	d := &demo{stderr: stderr, password: ident.Secret(ident.NewHexID()[:16])}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run Top with two emulated sites and boot a server",
		Long: "Run Top on an embedded database with two emulated OpenStack sites, east and west, boot a server as proof, print how to\n" +
			"use it, and run until Ctrl-C. Everything is kept in one folder, which each start empties of the last demo.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context())
		},
	}
	c.Flags().StringVar(&d.dir, "dir", ".demo", "folder of the demo's database, keys and clouds.yaml")
	c.Flags().StringVar(&d.listen, "listen", defaultConfig().Listen, "address of the API")
	c.Flags().BoolVar(&d.once, "once", false, "do the proof, print what it found and exit: 0 when it held, 1 when not")
	return c
}

func (d *demo) run(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w (another demo may be running; --listen takes another address)", d.listen, err)
	}
	d.url = "http://" + ln.Addr().String()
	if err := d.build(ctx); err != nil {
		return errors.Join(err, ln.Close())
	}
	front, err := d.top.front(d.ready)
	if err != nil {
		return errors.Join(err, ln.Close(), d.top.db.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	d.sites = map[ident.SiteID]string{}
	for _, name := range demoNames() {
		if err := d.emulate(ctx, g, name); err != nil {
			return errors.Join(err, ln.Close(), d.top.db.Close())
		}
	}
	g.Go(func() error { return d.top.serve(ctx, onListener{front, ln}) })
	g.Go(func() error {
		if err := d.prepare(ctx); err != nil {
			return err
		}
		if d.once {
			stop()
		}
		return nil
	})
	return g.Wait()
}

// onListener runs a server on a listener that is open already.
type onListener struct {
	server interface {
		Serve(ctx context.Context, ln net.Listener) error
	}
	ln net.Listener
}

// Run implements runner.
func (o onListener) Run(ctx context.Context) error { return o.server.Serve(ctx, o.ln) }

// build empties the folder of the last demo and puts a Top together in it.
func (d *demo) build(ctx context.Context) error {
	if err := emptyDemo(d.dir); err != nil {
		return err
	}
	cfg := defaultConfig()
	cfg.Dir, cfg.Listen, cfg.Inventory.Every, cfg.Grace = d.dir, d.listen, time.Second, 2*time.Second
	cfg.Log.Level, cfg.adminPassword = "warn", d.password
	cfg.Jobs.Grace = 2 * time.Second
	cfg.resolve()
	var err error
	d.top, err = newTop(ctx, cfg, cfg.Log.logger(d.stderr))
	return err
}

// ready answers /healthz: the demo is ready when all that it promises is there.
func (d *demo) ready(ctx context.Context) error {
	if !d.prepared.Load() {
		return errors.New("the demo is being prepared")
	}
	return ready(d.top.db)(ctx)
}

// emulate starts one site.
func (d *demo) emulate(ctx context.Context, g *errgroup.Group, name ident.SiteID) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("emulate site %s: %w", name, err)
	}
	cfg := emulator.Default(string(name))
	cfg.AdminPassword = d.password
	d.sites[name] = "http://" + ln.Addr().String() + "/identity/v3"
	g.Go(func() error { return emulator.ServeOn(ctx, ln, emulator.New(cfg)) })
	return nil
}

// prepare does what an operator does: projects and users, sites, the client's configuration; then the proof.
func (d *demo) prepare(ctx context.Context) error {
	if _, _, err := d.top.identity.EnsureMember(ctx, "demo", "demo", d.password, "member"); err != nil {
		return err
	}
	for _, name := range demoNames() {
		report, err := d.top.registry.Add(ctx, registry.Spec{Name: name, Tenancy: sites.TenancyProject, Credential: sites.Credential{
			AuthURL: d.sites[name], Region: string(name), Username: "admin", Password: d.password, UserDomainID: "default",
			ProjectName: "admin", ProjectDomainID: "default",
		}}, false)
		if err != nil {
			return fmt.Errorf("add site %s: %w %v", name, err, report.Problems)
		}
	}
	if err := d.writeClient(); err != nil {
		return err
	}
	proof := &proof{url: d.url, password: d.password, out: d.out}
	if err := proof.run(ctx); err != nil {
		return fmt.Errorf("the demo's proof failed: %w", err)
	}
	d.prepared.Store(true)
	return d.tell()
}

// writeClient writes clouds.yaml and openrc.
func (d *demo) writeClient() error {
	yaml := "clouds:\n"
	for _, c := range []struct{ name, user, project, region string }{
		{"headwater", "demo", "demo", "Global"}, {"headwater-east", "demo", "demo", "east"},
		{"headwater-west", "demo", "demo", "west"}, {"headwater-admin", "admin", "admin", "Global"},
	} {
		regions := c.region
		if c.region == "Global" {
			regions = "Global, east, west" // what --os-region-name may then name
		}
		yaml += fmt.Sprintf("  %s:\n    region_name: %s\n    regions: [%s]\n    identity_api_version: 3\n    auth:\n      auth_url: %s/identity/v3\n      username: %s\n"+
			"      password: %s\n      project_name: %s\n      user_domain_id: default\n      project_domain_id: default\n",
			c.name, c.region, regions, d.url, c.user, d.password.Reveal(), c.project)
	}
	rc := fmt.Sprintf("export OS_AUTH_URL=%s/identity/v3 OS_USERNAME=demo OS_PASSWORD=%s OS_PROJECT_NAME=demo\n"+
		"export OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default OS_IDENTITY_API_VERSION=3 OS_REGION_NAME=Global\n", d.url, d.password.Reveal())
	return errors.Join(
		os.WriteFile(filepath.Join(d.dir, "clouds.yaml"), []byte(yaml), 0o600),
		os.WriteFile(filepath.Join(d.dir, "openrc"), []byte(rc), 0o600),
	)
}

// tell prints how to go on.
func (d *demo) tell() error {
	if d.once {
		_, err := fmt.Fprintln(d.out, "The demo's proof held.")
		return err
	}
	_, err := fmt.Fprintf(d.out, `
Headwater is ready at %[1]s
  dashboard   %[1]s/dashboard   (user demo, password %[2]s; operator: admin, same password)
  API docs    %[1]s/docs
  clients     export OS_CLIENT_CONFIG_FILE=%[3]s/clouds.yaml   (or: source %[3]s/openrc)

Try, in another shell:
  openstack --os-cloud headwater availability zone list
  openstack --os-cloud headwater server create --flavor m1.tiny --image demo-image --network west-net --availability-zone west --wait my-server
  openstack --os-cloud headwater-admin hypervisor list

Ctrl-C ends it.
`, d.url, d.password.Reveal(), d.dir)
	return err
}
