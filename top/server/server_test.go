package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

type fixedSites []ident.SiteID

func (s fixedSites) Enabled(context.Context) ([]ident.SiteID, error) { return s, nil }

// newServer mounts a small compute service whose handlers do what a test needs.
func newServer(t *testing.T, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		Sites: fixedSites{"east"}, Audit: audit.NewStore(dbtest.SQLite(t), time.Now), Metrics: prometheus.NewRegistry(),
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Ready: func(context.Context) error { return nil }, MaxBody: 1000,
		Mounts: []Mount{{Prefix: "/compute", Dialect: faultjson.Compute, Audited: true, Routes: func(g *echo.Group) {
			g.GET("/where", func(c echo.Context) error { return c.String(http.StatusOK, c.Path()+" "+string(auth.Pin(c))) })
			g.POST("/read", func(c echo.Context) error {
				n, err := io.Copy(io.Discard, c.Request().Body)
				if err != nil {
					return err
				}
				return c.JSON(http.StatusOK, n)
			})
			g.GET("/panic", func(echo.Context) error { panic("the secret is hunter2") })
			g.GET("/internal", func(echo.Context) error { return errors.New("the secret is hunter2") })
			g.GET("/busy", func(echo.Context) error {
				return &fault.Error{Kind: fault.Unavailable, Site: "east", RetryAfter: 7, Msg: "Site east is down."}
			})
		}}},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(s http.Handler, method, path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, tt := range []struct {
		name, method, path string
		body               string
		code               int
		want, not          string
	}{
		{"a route", "GET", "/compute/where", "", 200, "/compute/where ", ""},
		{"a route behind a site's prefix", "GET", "/sites/east/compute/where", "", 200, "/compute/where east", ""},
		{"a site that is not there", "GET", "/sites/north/compute/where", "", 404, "north", ""},
		{"an unknown path in the service's own words", "GET", "/compute/nothing", "", 404, `"itemNotFound"`, ""},
		{"an unknown method likewise", "DELETE", "/compute/where", "", 404, `"itemNotFound"`, ""},
		// They reached PostgreSQL, which cannot look for them, and came back as internal errors.
		{"an id with a NUL", "GET", "/compute/where/%00", "", 404, `"itemNotFound"`, ""},
		{"a query that is no text", "GET", "/compute/where?name=%FF", "", 400, `"badRequest"`, ""},
		{"an unknown service", "GET", "/nothing", "", 404, "could not be found", ""},
		{"a body within the limit", "POST", "/compute/read", strings.Repeat("x", 1000), 200, "1000", ""},
		{"a body over the limit", "POST", "/compute/read", strings.Repeat("x", 1001), 413, "1000", ""},
		{"a panic says only the request's id", "GET", "/compute/panic", "", 500, "req-", "hunter2"},
		{"an unclassified error likewise", "GET", "/compute/internal", "", 500, "req-", "hunter2"},
		{"a site that is down", "GET", "/compute/busy", "", 503, "Site east is down.", ""},
		{"health", "GET", "/healthz", "", 200, "ok", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := ask(s, tt.method, tt.path, strings.NewReader(tt.body))
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) || tt.not != "" && strings.Contains(w.Body.String(), tt.not) {
				t.Errorf("%s %s = %d %s, want %d with %q and without %q", tt.method, tt.path, w.Code, w.Body, tt.code, tt.want, tt.not)
			}
			if !strings.HasPrefix(w.Header().Get("X-Openstack-Request-Id"), "req-") {
				t.Errorf("no request id in the answer: %v", w.Header())
			}
		})
	}
	if w := ask(s, "GET", "/compute/busy", nil); w.Header().Get("Retry-After") != "7" {
		t.Errorf("Retry-After %q, want 7", w.Header().Get("Retry-After"))
	}
}

// A chunked body has no length to refuse by: the limit holds while it is read.
func TestChunkedBodyIsLimited(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodPost, "/compute/read", io.MultiReader(strings.NewReader(strings.Repeat("x", 5000))))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	newServer(t, nil).ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a chunked body of 5000 bytes = %d %s, want 413", w.Code, w.Body)
	}
}

// The client's own id goes down to the sites; the answer's id is always ours.
func TestRequestID(t *testing.T) {
	t.Parallel()
	var seen string
	s := newServer(t, func(c *Config) {
		c.Mounts[0].Routes = func(g *echo.Group) {
			g.GET("/id", func(c echo.Context) error { seen = ident.RequestID(c.Request().Context()); return nil })
		}
	})
	const mine = "req-0b4b4c1e-0000-4000-8000-000000000001"
	w := ask(s, "GET", "/compute/id", nil, "X-Openstack-Request-Id", mine)
	if seen != mine || w.Header().Get("X-Openstack-Request-Id") == mine || w.Header().Get("X-Compute-Request-Id") == "" {
		t.Errorf("handlers see %q, the answer has %v", seen, w.Header())
	}
	ask(s, "GET", "/compute/id", nil, "X-Openstack-Request-Id", "req-evil\r\nX-Injected: 1")
	if strings.Contains(seen, "evil") {
		t.Errorf("a malformed id was taken over: %q", seen)
	}
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *Config) {
		c.Ready = func(context.Context) error { return errors.New("the database does not answer") }
	})
	if w := ask(s, "GET", "/healthz", nil); w.Code != 503 || !strings.Contains(w.Body.String(), "database") {
		t.Errorf("healthz = %d %s", w.Code, w.Body)
	}
}

func TestChangesAreAudited(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	ask(s, "GET", "/compute/where", nil)
	ask(s, "POST", "/compute/read", strings.NewReader("x"))
	events, err := s.cfg.Audit.List(t.Context(), audit.Filter{})
	if err != nil || len(events) != 1 || events[0].Target != "/compute/read" || events[0].Outcome != "done" {
		t.Errorf("audit log %+v, %v, want the POST alone", events, err)
	}
}

// certificate writes a pair for 127.0.0.1 with a serial number, by which a test knows which one it met.
func certificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "headwater"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{key: {Type: "EC PRIVATE KEY", Bytes: keyDER}, cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Unix(serial, 0) // two writes within a tick of the file system's clock must still differ
	if err := os.Chtimes(cert, then, then); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TLS from end to end, a renewed certificate without a restart, and an end that lets a request under way finish.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	began, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, func(c *Config) {
		c.CertFile, c.KeyFile = certificate(t, dir, 1)
		c.Mounts[0].Routes = func(g *echo.Group) {
			g.GET("/slow", func(c echo.Context) error { close(began); <-release; return c.String(http.StatusOK, "done") })
		}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return s.Serve(ctx, ln) })
	var serial int64
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the serial number is looked at instead
		VerifyConnection:   func(cs tls.ConnectionState) error { serial = cs.PeerCertificates[0].SerialNumber.Int64(); return nil },
	}}}
	for want := range int64(2) {
		if want++; want > 1 { // the first one is there: writing it again could meet Serve as it reads
			certificate(t, dir, want)
		}
		resp, err := client.Get("https://" + ln.Addr().String() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if serial != want {
			t.Errorf("certificate %d was shown, want the renewed %d", serial, want)
		}
	}
	answer := make(chan string, 1)
	g.Go(func() error {
		resp, err := client.Get("https://" + ln.Addr().String() + "/compute/slow")
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		answer <- string(body)
		return errors.Join(err, resp.Body.Close())
	})
	<-began
	stop()
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way was answered %q", got)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestHalfTLSIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{CertFile: "a.pem", Metrics: prometheus.NewRegistry()}); err == nil {
		t.Error("a certificate without its key was taken")
	}
}
