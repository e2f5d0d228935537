package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/statefile"
	"github.com/headwater-cloud/headwater/agents/stream"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// runFlags are the flags of run that are not the agent's own words.
type runFlags struct {
	state          string
	servers        []string
	site           string
	identity       mtls.Config
	tunnelAddress  string
	gossip         gossipFlags
	metadataSecret string
	metrics        string
	logLevel       string
}

func runCommand(stderr io.Writer) *cobra.Command {
	cfg := agent.Default()
	cfg.Host, _ = os.Hostname()
	var f runFlags
	c := &cobra.Command{
		Use:   "run (--state FILE | --server HOST:PORT...)",
		Short: "Run the agent",
		Long: "Makes the host's Open vSwitch carry out a desired state, and keeps it so until it is ended. The switch goes on with its flows when the agent ends.\n\n" +
			"With --server, it is followed from relays or from Top, and kept in the state directory, so that the agent starts without them.\n\n" +
			"With --state, the desired state is a file: YAML with the lists hosts, networks, subnets, ports, routers, floating_ips, security_groups,\n" +
			"address_sets, snat_addresses, neighbors, security_logs and mirrors. It is read again when it changes. A file with something wrong in it changes nothing.",
		Args: argsOf(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return runAgent(c.Context(), cfg, f, stderr) },
	}
	flags := c.Flags()
	flags.StringVar(&f.state, "state", "", "the file with the desired state")
	flags.StringArrayVar(&f.servers, "server", nil, "a relay, or Top, that the desired state comes from; may be repeated")
	flags.StringVar(&f.site, "site", "", "the site, with --server or --gossip")
	flags.StringVar(&f.identity.CertFile, "cert", "", "this host's certificate, with --server; read again when it changes")
	flags.StringVar(&f.identity.KeyFile, "key", "", "its key")
	flags.StringVar(&f.identity.CAFile, "ca", "", "the authorities that servers' certificates are checked against")
	flags.StringVar(&f.identity.Domain, "trust-domain", mtls.DefaultDomain, "trust domain of the certificates")
	flags.StringVar(&cfg.Metadata.Upstream, "metadata", "", "the site's metadata service, such as http://nova-metadata:8775; without one guests get none")
	flags.StringVar(&f.metadataSecret, "metadata-secret-file", "", "the file with its secret, which Nova knows as neutron.metadata_proxy_shared_secret")
	flags.StringVar(&cfg.Host, "host", cfg.Host, "this host's id")
	flags.StringVar(&cfg.Bridge, "bridge", cfg.Bridge, "the bridge that guests are plugged into; it is made when it is not there")
	flags.StringVar(&cfg.DatapathType, "datapath", cfg.DatapathType, "the type of the bridge when it is made: system (the kernel's) or netdev")
	flags.StringVar(&cfg.OVSDB, "ovsdb", cfg.OVSDB, "endpoint of the switch's database")
	flags.StringVar(&cfg.OVSRunDir, "ovs-run-dir", "", "where the sockets of Open vSwitch are (the directory of the database's)")
	flags.StringVar(&cfg.RunDir, "run-dir", cfg.RunDir, "where the agent's own socket is")
	flags.StringVar(&cfg.StateDir, "state-dir", cfg.StateDir, "where the last known desired state is kept")
	flags.StringToStringVar(&cfg.BridgeMappings, "bridge-mapping", nil, "a physical network and the bridge that leads to it, NETWORK=BRIDGE; may be repeated")
	flags.StringVar(&f.tunnelAddress, "tunnel-address", "", "source of tunnelled packets (the host's own in the desired state)")
	flags.Uint32Var(&cfg.PuntRate, "punt-rate", cfg.PuntRate, "packets of each port that may go to the agent in a second; 0: no limit")
	flags.BoolVar(&cfg.Names, "names", cfg.Names, "answer guests' DNS questions for names of ports, on networks with a domain; the others pass by the agent")
	flags.Uint32Var(&cfg.OpRate, "op-rate", cfg.OpRate, "packets that routers have for the agent, in a second, of each port and of each router from elsewhere; 0: no limit")
	flags.Uint32Var(&cfg.NameRate, "name-rate", cfg.NameRate, "DNS questions of each port that may pass by the agent in a second, with --names; 0: no limit")
	flags.StringVar(&cfg.SecurityLog.File, "sg-log", "", "the file for the records of security group logs (standard error)")
	flags.Int64Var(&cfg.SecurityLog.MaxBytes, "sg-log-size", cfg.SecurityLog.MaxBytes, "bytes of that file before it is moved away and another one begins; 0: any number")
	flags.IntVar(&cfg.SecurityLog.Keep, "sg-log-keep", cfg.SecurityLog.Keep, "how many files that were moved away are kept")
	flags.Uint32Var(&cfg.LogRate, "sg-log-rate", cfg.LogRate, "records in a second, of each set of security groups of ports, of what is accepted and of what is dropped; 0: no logs")
	flags.Uint32Var(&cfg.LogBurst, "sg-log-burst", cfg.LogBurst, "as many of them at once")
	flags.Uint32Var(&cfg.PortConnections, "port-connections", cfg.PortConnections, "connections that each port may have in the host's connection tracker; 0: no limit")
	flags.Uint32Var(&cfg.RouterConnections, "router-connections", cfg.RouterConnections, "connections that each router may translate on this host, and as many to floating IPs; 0: no limit")
	flags.DurationVar(&cfg.AuditInterval, "audit-interval", cfg.AuditInterval, "how often all of the switch is compared with what it should be; 0: never")
	flags.BoolVar(&cfg.RestoreWait, "restore-wait", false, "have a restarting ovs-vswitchd wait for the agent (see the README for its price)")
	f.gossip.add(flags)
	flags.StringVar(&f.metrics, "metrics", "", "ADDRESS:PORT that serves /metrics, and nothing else, to Prometheus; headwater-agent metrics shows them anyway")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

func runAgent(ctx context.Context, cfg agent.Config, f runFlags, stderr io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return run.Usagef("--log-level %s: want debug, info, warn or error", f.logLevel)
	}
	if (f.state == "") == (len(f.servers) == 0) {
		return run.Usagef("headwater-agent run: give either --state FILE or --server HOST:PORT, which say what the desired state is")
	}
	if f.metadataSecret != "" {
		raw, err := os.ReadFile(f.metadataSecret)
		if err != nil {
			return run.Usage(fmt.Errorf("--metadata-secret-file: %w", err))
		}
		cfg.Metadata.Secret = ident.Secret(strings.TrimSpace(string(raw)))
	}
	if f.tunnelAddress != "" {
		a, err := netip.ParseAddr(f.tunnelAddress)
		if err != nil {
			return run.Usage(fmt.Errorf("--tunnel-address: %w", err))
		}
		cfg.TunnelAddress = a
	}
	if err := f.gossip.into(&cfg, f.site); err != nil {
		return run.Usage(err)
	}
	if err := cfg.Validate(); err != nil {
		return run.Usage(err)
	}
	if _, chosen := os.LookupEnv("GOGC"); !chosen {
		paceCollections(ctx)
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})).With("host", cfg.Host)
	log.InfoContext(ctx, "agent starts", "version", run.Version(), "bridge", cfg.Bridge, "ovsdb", cfg.OVSDB)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	parts := agent.Parts{Log: log, Metrics: registry, Stderr: stderr}
	metrics := func(ctx context.Context) error { return run.ServeMetrics(ctx, f.metrics, registry) }
	if f.state != "" {
		a, err := agent.New(cfg, parts)
		if err != nil {
			return err
		}
		return together(ctx, a.Run, metrics, func(ctx context.Context) error { return follow(ctx, a, f.state, log) })
	}
	return together(ctx, metrics, func(ctx context.Context) error { return runWithServers(ctx, cfg, f, parts) })
}

// together runs parts until one ends with an error, or ctx ends.
func together(ctx context.Context, parts ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		g.Go(func() error { return part(ctx) })
	}
	return g.Wait()
}

// runWithServers runs the agent with the state of relays or Top.
func runWithServers(ctx context.Context, cfg agent.Config, f runFlags, parts agent.Parts) error {
	if f.site == "" || f.identity.CertFile == "" || f.identity.KeyFile == "" || f.identity.CAFile == "" {
		return run.Usagef("headwater-agent run: --server needs --site, --cert, --key and --ca")
	}
	f.identity.Refused = func(err error) { parts.Log.ErrorContext(ctx, "changed certificate was not taken", "err", err) }
	credentials, err := mtls.Load(f.identity)
	if err != nil {
		return run.Usage(err)
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return run.Usage(fmt.Errorf("state directory: %w", err))
	}
	var a *agent.Agent // made below: each needs the other
	client, err := stream.New(stream.Config{
		Servers: f.servers, Host: cfg.Host, Site: f.site, Version: run.Version(), Credentials: credentials, File: filepath.Join(cfg.StateDir, "state"),
		Commit:  func(ctx context.Context, c stream.Commit) error { return a.Commit(ctx, agent.Commit(c)) },
		Request: func(m *api.ToAgent) { a.Request(m) },
		Log:     parts.Log, Metrics: parts.Metrics,
	})
	if err != nil {
		return run.Usage(err)
	}
	parts.Reporter = client
	if a, err = agent.New(cfg, parts); err != nil {
		return err
	}
	return together(ctx, a.Run, client.Run)
}

// follow hands a state file to the agent, each time that it changes as another revision.
func follow(ctx context.Context, a *agent.Agent, path string, log *slog.Logger) error {
	var revision uint64
	return statefile.Watch(ctx, path, func(objects []state.Object) {
		revision++
		a.StateFile(nil)
		log.InfoContext(ctx, "state file was read", "file", path, "revision", revision, "objects", len(objects))
		_ = a.Commit(ctx, agent.Commit{Incarnation: "file", Revision: revision, Snapshot: true, Set: objects}) // a snapshot waits for nothing
	}, func(err error) {
		a.StateFile(err)
		log.ErrorContext(ctx, "state file was not taken", "file", path, "err", strings.ReplaceAll(err.Error(), "\n", "; "))
	})
}
