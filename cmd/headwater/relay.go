package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/relay"
	"github.com/headwater-cloud/headwater/agents/stream"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

//go:embed relay.example.yaml
var exampleRelay string

// relayConfig is the configuration of "headwater relay"; relay.example.yaml says what each setting is.
type relayConfig struct {
	Listen     string        `yaml:"listen"`
	Upstream   []string      `yaml:"upstream"`
	Dir        string        `yaml:"dir"`
	TLS        relayTLS      `yaml:"tls"`
	QueueBytes int           `yaml:"queue_bytes"`
	Ring       int           `yaml:"ring"`
	Metrics    metricsConfig `yaml:"metrics"`
	Log        logConfig     `yaml:"log"`
}

type relayTLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	CAFile   string `yaml:"ca_file"`
	Domain   string `yaml:"domain"`
}

func defaultRelay() relayConfig {
	return relayConfig{
		Listen: "0.0.0.0:8782", Dir: "/var/lib/headwater-relay", TLS: relayTLS{Domain: mtls.DefaultDomain}, QueueBytes: 8 << 20, Ring: 1 << 16,
		Log: logConfig{Level: "info", Format: "text"},
	}
}

// loadRelay reads defaults and then the file.
func loadRelay(file string) (relayConfig, error) {
	cfg := defaultRelay()
	data, err := os.ReadFile(file)
	if err != nil {
		return cfg, run.Usage(fmt.Errorf("read configuration: %w", err))
	}
	if err := readConfig(data, &cfg); err != nil {
		return cfg, run.Usage(fmt.Errorf("configuration %s: %w", file, err))
	}
	return cfg, run.Usage(cfg.validate())
}

// validate reports everything that is wrong at once.
func (c *relayConfig) validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	address := func(s string) bool {
		_, port, err := net.SplitHostPort(s)
		return err == nil && port != ""
	}
	add(address(c.Listen), "listen %q: want ADDRESS:PORT", c.Listen)
	add(len(c.Upstream) > 0, "upstream: want at least one HOST:PORT")
	for _, s := range c.Upstream {
		add(address(s), "upstream %q: want HOST:PORT", s)
	}
	add(c.TLS.CertFile != "" && c.TLS.KeyFile != "" && c.TLS.CAFile != "", "tls: cert_file, key_file and ca_file are needed")
	add(len(c.controlSocket()) < maxSocket, "dir %q: want a path of at most %d bytes, since a socket is in it", c.Dir, maxSocket-1-len("/relay.sock"))
	add(c.QueueBytes >= 64<<10, "queue_bytes %d: want at least 65536", c.QueueBytes)
	add(c.Ring >= 1, "ring %d: want at least 1", c.Ring)
	add(c.Metrics.Listen == "" || address(c.Metrics.Listen) && c.Metrics.Listen != c.Listen, "metrics.listen %q: want ADDRESS:PORT, another than listen", c.Metrics.Listen)
	return errors.Join(append(errs, c.Log.validate())...)
}

// relayCommand is "headwater relay": Top's stream of desired network state, repeated at a site.
func relayCommand(stderr io.Writer) *cobra.Command {
	var file string
	var example bool
	c := &cobra.Command{
		Use:   "relay",
		Short: "Run a relay: the desired network state for the hosts of a site",
		Long: "Run a relay, which repeats to the hosts of a site what Top sends for the site, until SIGINT or SIGTERM. While nobody above answers it\n" +
			"goes on with what it holds. All settings, with their defaults (headwater relay --print-example prints the same, to begin a file with):\n\n" + exampleRelay,
		Args: argsOf(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if example {
				_, err := io.WriteString(cmd.OutOrStdout(), exampleRelay)
				return err
			}
			cfg, err := loadRelay(file)
			if err != nil {
				return err
			}
			return runRelay(cmd.Context(), cfg, cfg.Log.logger(stderr))
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/headwater/relay.yaml", "configuration file (YAML)")
	c.Flags().BoolVar(&example, "print-example", false, "print the annotated example configuration and exit")
	c.AddCommand(relayTraceCommand())
	return c
}

func runRelay(ctx context.Context, cfg relayConfig, log *slog.Logger) error {
	cred, err := mtls.Load(mtls.Config{
		CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, CAFile: cfg.TLS.CAFile, Domain: cfg.TLS.Domain,
		Refused: func(err error) {
			log.WarnContext(ctx, "changed certificate was not read", "err", err)
		},
	})
	if err != nil {
		return run.Usage(err)
	}
	who := cred.Identity()
	if who.Role != mtls.Relay {
		return run.Usagef("the certificate names %s: a relay's names /site/SITE/relay/NAME", who)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of dir: %w", err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	up, err := relay.NewUpstream(stream.Config{
		Servers: cfg.Upstream, Site: who.Site, Version: run.Version(), Credentials: cred, File: filepath.Join(cfg.Dir, "state"), Log: log, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server, err := relay.New(relay.Config{
		Source: up, Site: who.Site, Credentials: cred, Listener: listener, QueueBytes: cfg.QueueBytes, Ring: cfg.Ring, Log: log, Metrics: metrics,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	log.InfoContext(ctx, "relay started", "site", who.Site, "relay", who.Name, "address", listener.Addr().String())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return run.ServeMetrics(ctx, cfg.Metrics.Listen, metrics) })
	g.Go(func() error { return serveControl(ctx, cfg.controlSocket(), server) })
	return g.Wait()
}
