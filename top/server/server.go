// Package server is the one listener of Top: it gives every request an id, a
// limit and a time, finds which service is asked and which site its path pins,
// and turns every fault into that service's own error. It owns no verb.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// Mount is one service and where it stands.
type Mount struct {
	// Prefix is the path below which the service answers: "/compute".
	Prefix string
	// Dialect is how its errors are spelled.
	Dialect faultjson.Dialect
	// Routes registers its routes, whose paths begin below Prefix.
	Routes func(*echo.Group)
	// Streams, when set, tells the requests whose body may have any size and take any time: image data. The
	// service's other requests, which are read whole into memory, keep to Config.MaxBody.
	Streams func(*http.Request) bool
	// Audited has every request that changes something recorded; services that record their verbs themselves say false.
	Audited bool
}

// SiteNames tells which sites a path may pin.
type SiteNames interface {
	Enabled(ctx context.Context) ([]ident.SiteID, error)
}

// Config is what New needs.
type Config struct {
	// Listen is the address, "127.0.0.1:8780" by default.
	Listen string
	// CertFile and KeyFile turn TLS on; both or none. They are read again when they change.
	CertFile, KeyFile string
	// PublicURL is how clients reach Top, without a trailing slash; "" takes it from each request.
	PublicURL string
	// MaxBody is the greatest request body in bytes.
	MaxBody int64
	// BodyTime is how long a client may take to send a request body that is not image data.
	BodyTime time.Duration
	// Grace is how long a shutdown waits for requests under way.
	Grace time.Duration

	Mounts []Mount
	// Handlers are plain handlers by prefix: the dashboard.
	Handlers map[string]http.Handler
	Sites    SiteNames
	Audit    *audit.Store
	// Ready says whether Top can serve; its error is shown at /healthz.
	Ready   func(context.Context) error
	Metrics *prometheus.Registry
	// MetricsListen is an address for /metrics alone, in plain HTTP; "" serves it on Listen.
	MetricsListen string
	// MetricsToken is what a request for /metrics must bear (Authorization: Bearer TOKEN). Without one, /metrics on
	// Listen answers peers on this machine only, and on MetricsListen whoever reaches it.
	MetricsToken ident.Secret
	// Trace begins the span of a request under the traceparent that ctx carries (ident.Trace), and returns a context
	// with the span's own and what ends it; nil makes none.
	Trace func(ctx context.Context) (context.Context, func(name, failure string, attrs ...slog.Attr))
	Log   *slog.Logger
	Now   func() time.Time
}

// The values of Config that are not given.
const (
	DefaultListen  = "127.0.0.1:8780"
	DefaultMaxBody = 1 << 20 // as Nova's and Neutron's own limit of 114,688 bytes, with room for user data and bulk creates
	DefaultGrace   = 20 * time.Second
	// DefaultBodyTime is for 1 MiB over a slow line.
	DefaultBodyTime = time.Minute
	headerTime      = 10 * time.Second
)

// Server is Top's HTTP front.
type Server struct {
	cfg     Config
	echo    *echo.Echo
	metrics *requestMetrics
}

// New returns a Server with all routes and middleware in place.
func New(cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.BodyTime == 0 {
		cfg.BodyTime = DefaultBodyTime
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, errors.New("top/server: cert_file and key_file go together: give both, or none for plain HTTP")
	}
	s := &Server{cfg: cfg, echo: echo.New(), metrics: newRequestMetrics(cfg.Metrics)}
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.HTTPErrorHandler = s.renderError
	s.echo.RouteNotFound("/*", func(echo.Context) error { return errNoRoute })
	s.middleware()
	s.echo.GET("/healthz", s.healthz)
	if cfg.MetricsListen == "" {
		s.echo.GET("/metrics", s.showMetrics)
	}
	for _, m := range cfg.Mounts {
		g := s.echo.Group(m.Prefix, s.limitBody(m), s.audit(m))
		m.Routes(g)
	}
	for prefix, h := range cfg.Handlers {
		s.echo.Any(prefix, echo.WrapHandler(h))
		s.echo.Any(prefix+"/*", echo.WrapHandler(h))
	}
	return s, nil
}

// ServeHTTP answers one request with all middleware, for callers in this process (the dashboard).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Run listens until ctx ends, then finishes the requests under way within the grace period.
func (s *Server) Run(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.cfg.Listen, err)
	}
	return s.Serve(ctx, ln)
}

// Serve is Run on a listener that is open already; it closes it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s.echo, ReadHeaderTimeout: headerTime, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }, // requests outlive ctx by the grace
		ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
	}
	scheme := "http"
	if s.cfg.CertFile != "" {
		scheme = "https"
		certs := &certFiles{cert: s.cfg.CertFile, key: s.cfg.KeyFile}
		if _, err := certs.get(nil); err != nil {
			return errors.Join(fmt.Errorf("TLS certificate: %w", err), ln.Close())
		}
		srv.TLSConfig = &tls.Config{GetCertificate: certs.get, MinVersion: tls.VersionTLS12}
		ln = tls.NewListener(ln, srv.TLSConfig)
	}
	s.cfg.Log.InfoContext(ctx, "listener opened", "url", scheme+"://"+ln.Addr().String())
	g, gctx := errgroup.WithContext(ctx)
	if s.cfg.MetricsListen != "" {
		g.Go(func() error { return s.serveMetrics(gctx) })
	}
	g.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
		defer cancel()
		if err := srv.Shutdown(bye); err != nil {
			return errors.Join(fmt.Errorf("requests were cut off after %v: %w", s.cfg.Grace, err), srv.Close())
		}
		return nil
	})
	return g.Wait()
}

// healthz answers 200 when Top can serve, else 503 with the reason.
func (s *Server) healthz(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 5*time.Second)
	defer cancel()
	if err := s.cfg.Ready(ctx); err != nil {
		return c.String(http.StatusServiceUnavailable, err.Error()+"\n")
	}
	return c.String(http.StatusOK, "ok\n")
}

// mountOf returns the service that a path asks, after the site's prefix is gone.
func (s *Server) mountOf(path string) *Mount {
	for i := range s.cfg.Mounts {
		m := &s.cfg.Mounts[i]
		if path == m.Prefix || strings.HasPrefix(path, m.Prefix+"/") {
			return m
		}
	}
	return nil
}
