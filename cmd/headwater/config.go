package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/trace"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/server"
)

// topConfig is the configuration file of "headwater top". headwater.example.yaml documents every setting.
type topConfig struct {
	// Listen is the address of the API.
	Listen string `yaml:"listen"`
	// PublicURL is how clients reach Top; "" takes it from each request.
	PublicURL string        `yaml:"public_url"`
	TLS       tlsConfig     `yaml:"tls"`
	Dir       string        `yaml:"dir"` // of the database and the key file where they name no folder
	KeyFile   string        `yaml:"key_file"`
	MaxBody   int64         `yaml:"max_body"`
	Grace     time.Duration `yaml:"grace"`

	Database  dbschema.Config `yaml:"database"`
	Jobs      jobs.Config     `yaml:"jobs"`
	Sites     sitesConfig     `yaml:"sites"`
	Identity  identityConfig  `yaml:"identity"`
	Inventory inventoryConfig `yaml:"inventory"`
	Audit     auditConfig     `yaml:"audit"`
	Metrics   metricsConfig   `yaml:"metrics"`
	Tracing   trace.Config    `yaml:"tracing"`
	Log       logConfig       `yaml:"log"`

	// adminPassword comes from the environment only.
	adminPassword ident.Secret
	// externalPassword is of the account that checks tokens at an external Keystone; from the environment only.
	externalPassword ident.Secret
	// metricsToken is what requests for /metrics must bear; from the environment only.
	metricsToken ident.Secret
}

type tlsConfig struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

type sitesConfig struct {
	// CallTimeout bounds one call to a site.
	CallTimeout time.Duration `yaml:"call_timeout"`
	// SettleTime is how long after a call without an answer a site may still carry it out.
	SettleTime time.Duration `yaml:"settle_time"`
	// Concurrency is the number of calls to one site at a time.
	Concurrency int `yaml:"concurrency"`
}

type identityConfig struct {
	TokenLife time.Duration `yaml:"token_life"`
	// External makes Top trust another Keystone instead of its own users.
	External externalConfig `yaml:"external"`
	// Policy overrides which role a rule wants: rule name to role.
	Policy map[string]string `yaml:"policy"`
}

type externalConfig struct {
	AuthURL  string `yaml:"auth_url"` // "" uses the built-in Keystone
	Username string `yaml:"username"`
	Project  string `yaml:"project"`
	Domain   string `yaml:"domain"`
	// CAFile holds the certificates, in PEM, that its TLS is checked against; "" takes the system's.
	CAFile string `yaml:"ca_file"`
	// Roles maps the names of its roles to Top's; those that are not named keep their name.
	Roles map[string]string `yaml:"roles"`
}

type inventoryConfig struct {
	Every     time.Duration `yaml:"every"`
	DiffEvery time.Duration `yaml:"diff_every"`
}

type auditConfig struct {
	Keep time.Duration `yaml:"keep"`
}

type metricsConfig struct {
	Listen string `yaml:"listen"` // "" serves /metrics on the API's address
}

type logConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// The names of the environment's secrets.
const (
	envAdminPassword    = "HEADWATER_ADMIN_PASSWORD"
	envExternalPassword = "HEADWATER_EXTERNAL_PASSWORD"
	envMetricsToken     = "HEADWATER_METRICS_TOKEN"
	envDatabaseDSN      = "HEADWATER_DATABASE_DSN"
)

func defaultConfig() topConfig {
	return topConfig{
		Listen: server.DefaultListen, Dir: "/var/lib/headwater", KeyFile: "headwater.keys", MaxBody: server.DefaultMaxBody, Grace: server.DefaultGrace,
		Database:  dbschema.Default(),
		Jobs:      jobs.Default(),
		Sites:     sitesConfig{CallTimeout: 60 * time.Second, SettleTime: 120 * time.Second, Concurrency: 16},
		Identity:  identityConfig{TokenLife: 8 * time.Hour},
		Inventory: inventoryConfig{Every: 5 * time.Second, DiffEvery: 10 * time.Minute},
		Audit:     auditConfig{Keep: 365 * 24 * time.Hour},
		Tracing:   trace.Config{Sample: 1},
		Log:       logConfig{Level: "info", Format: "text"},
	}
}

// loadConfig reads defaults, then the file ("" for none), then what the flags change, then secrets from the environment.
func loadConfig(file string, getenv func(string) string, flags ...func(*topConfig)) (topConfig, error) {
	cfg := defaultConfig()
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return cfg, run.Usage(fmt.Errorf("read configuration: %w", err))
		}
		if err := readConfig(data, &cfg); err != nil {
			return cfg, run.Usage(fmt.Errorf("configuration %s: %w", file, err))
		}
	}
	cfg.adminPassword, cfg.externalPassword = ident.Secret(getenv(envAdminPassword)), ident.Secret(getenv(envExternalPassword))
	cfg.metricsToken = ident.Secret(getenv(envMetricsToken))
	if dsn := getenv(envDatabaseDSN); dsn != "" {
		cfg.Database.DSN = dsn
	}
	for _, change := range flags {
		change(&cfg)
	}
	cfg.resolve()
	return cfg, run.Usage(cfg.validate())
}

// resolve puts plain file names into Dir.
func (c *topConfig) resolve() {
	for _, name := range []*string{&c.KeyFile, &c.Database.DSN} {
		if *name == "" || filepath.IsAbs(*name) || name == &c.Database.DSN && c.Database.Driver != dbschema.SQLite {
			continue
		}
		*name = filepath.Join(c.Dir, *name)
	}
}

// validate reports everything that is wrong at once.
func (c *topConfig) validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add((c.TLS.CertFile == "") == (c.TLS.KeyFile == ""), "tls: cert_file and key_file go together")
	add(c.MaxBody >= 64<<10, "max_body %d: want at least 65536", c.MaxBody)
	add(c.Grace >= 0, "grace %v: want at least 0", c.Grace)
	add(c.Sites.CallTimeout >= time.Second, "sites.call_timeout %v: want at least 1s", c.Sites.CallTimeout)
	add(c.Sites.SettleTime >= c.Sites.CallTimeout, "sites.settle_time %v: want at least call_timeout (%v)", c.Sites.SettleTime, c.Sites.CallTimeout)
	add(c.Sites.CallTimeout <= c.Jobs.Lease*2/3, "sites.call_timeout %v: want at most two thirds of jobs.lease (%v)", c.Sites.CallTimeout, c.Jobs.Lease)
	add(c.Sites.Concurrency >= 1, "sites.concurrency %d: want at least 1", c.Sites.Concurrency)
	add(c.Identity.TokenLife >= time.Minute, "identity.token_life %v: want at least 1m", c.Identity.TokenLife)
	add(c.Inventory.Every >= 100*time.Millisecond, "inventory.every %v: want at least 100ms", c.Inventory.Every)
	add(c.Inventory.DiffEvery >= c.Inventory.Every, "inventory.diff_every %v: want at least every (%v)", c.Inventory.DiffEvery, c.Inventory.Every)
	add(c.Audit.Keep >= 24*time.Hour, "audit.keep %v: want at least 24h", c.Audit.Keep)
	if c.Metrics.Listen != "" {
		_, port, err := net.SplitHostPort(c.Metrics.Listen)
		add(err == nil && port != "" && c.Metrics.Listen != c.Listen, "metrics.listen %q: want ADDRESS:PORT, another than listen", c.Metrics.Listen)
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		add(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Path == "" || u.Path == "/"), "public_url %q: want http(s)://HOST[:PORT]", c.PublicURL)
	}
	if x := c.Identity.External; x.AuthURL != "" {
		add(x.Username != "" && x.Project != "" && x.Domain != "", "identity.external: username, project and domain are needed with auth_url")
		add(c.externalPassword != "", "identity.external: the password is taken from %s, which is empty", envExternalPassword)
		if _, err := x.transport(); err != nil {
			errs = append(errs, err)
		}
		for _, theirs := range slices.Sorted(maps.Keys(x.Roles)) {
			add(theirs != "" && x.Roles[theirs] != "", "identity.external.roles: %q to %q: neither name may be empty", theirs, x.Roles[theirs])
		}
	}
	return errors.Join(append(errs, c.Log.validate(), c.Database.Validate(), c.Jobs.Validate(), c.Tracing.Validate())...)
}

func (c *logConfig) validate() error {
	var level slog.Level
	var errs []error
	if level.UnmarshalText([]byte(c.Level)) != nil {
		errs = append(errs, fmt.Errorf("log.level %q: want debug, info, warn or error", c.Level))
	}
	if c.Format != "text" && c.Format != "json" {
		errs = append(errs, fmt.Errorf("log.format %q: want text or json", c.Format))
	}
	return errors.Join(errs...)
}

// logger writes to w as configured.
func (c *logConfig) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
