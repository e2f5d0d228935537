package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// requestMetrics counts requests by service, method and status class: bounded labels, no path and no id.
type requestMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newRequestMetrics(reg prometheus.Registerer) *requestMetrics {
	m := &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_server_requests_total", Help: "Requests answered."}, []string{"service", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "headwater_server_request_duration_seconds", Help: "Time to answer.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"service", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "headwater_server_requests_in_flight", Help: "Requests being answered."}),
	}
	reg.MustRegister(m.requests, m.seconds, m.inFlight)
	return m
}

func (m *requestMetrics) observe(service, method string, code int, took time.Duration) {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE":
	default:
		method = "other" // a method is the client's text: it must not make labels
	}
	m.requests.WithLabelValues(service, method, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(service, method).Observe(took.Seconds())
}

// showMetrics handles GET /metrics on the API's listener.
func (s *Server) showMetrics(c echo.Context) error {
	r := c.Request()
	if s.cfg.MetricsToken == "" && !local(r) {
		return fault.New(fault.Forbidden, "top/server.showMetrics", "Metrics are shown to this machine only, unless metrics.listen or a token is set.")
	}
	if !s.bears(r) {
		c.Response().Header().Set("WWW-Authenticate", "Bearer")
		return fault.New(fault.Unauthorized, "top/server.showMetrics", "Metrics want their token (Authorization: Bearer).")
	}
	s.metricsHandler().ServeHTTP(c.Response(), r)
	return nil
}

// bears reports whether a request has the token of metrics, if there is one.
func (s *Server) bears(r *http.Request) bool {
	want := "Bearer " + s.cfg.MetricsToken.Reveal()
	return s.cfg.MetricsToken == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) == 1
}

// local reports whether a request comes from this machine, and not from a proxy on it that speaks for others.
func local(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

func (s *Server) metricsHandler() http.Handler {
	return promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{})
}

// serveMetrics serves /metrics on its own address until ctx ends.
func (s *Server) serveMetrics(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.MetricsListen)
	if err != nil {
		return fmt.Errorf("listen on %s for metrics: %w", s.cfg.MetricsListen, err)
	}
	return s.serveMetricsOn(ctx, ln)
}

// serveMetricsOn is serveMetrics on a listener that is open already; it closes it.
func (s *Server) serveMetricsOn(ctx context.Context, ln net.Listener) error {
	mux, show := http.NewServeMux(), s.metricsHandler()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !s.bears(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "metrics want their token", http.StatusUnauthorized)
			return
		}
		show.ServeHTTP(w, r)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn)}
	s.cfg.Log.InfoContext(ctx, "listener opened", "kind", "metrics", "url", "http://"+ln.Addr().String()+"/metrics")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve metrics: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		return srv.Close()
	})
	return g.Wait()
}
