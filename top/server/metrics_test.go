package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Metrics were open to whoever reached the listener.
func TestWhoSeesMetrics(t *testing.T) {
	t.Parallel()
	const shown = "headwater_server_requests_in_flight"
	for _, tt := range []struct {
		name, token, peer, header, value string
		code                             int
	}{
		{"this machine", "", "127.0.0.1:5", "", "", 200},
		{"this machine, IPv6", "", "[::1]:5", "", "", 200},
		{"another", "", "192.0.2.1:5", "", "", 403},
		{"a proxy on this machine", "", "127.0.0.1:5", "X-Forwarded-For", "192.0.2.1", 403},
		{"no token", "s3", "127.0.0.1:5", "", "", 401},
		{"another token", "s3", "127.0.0.1:5", "Authorization", "Bearer s4", 401},
		{"the token, from elsewhere", "s3", "192.0.2.1:5", "Authorization", "Bearer s3", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(c *Config) { c.MetricsToken = ident.Secret(tt.token) })
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.RemoteAddr = tt.peer
			if tt.header != "" {
				r.Header.Set(tt.header, tt.value)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != tt.code || strings.Contains(w.Body.String(), shown) != (tt.code == 200) {
				t.Errorf("%d %.200s; want %d", w.Code, w.Body, tt.code)
			}
		})
	}
}

// On an address of its own it is there alone, and the API's has none.
func TestMetricsListener(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *Config) { c.MetricsListen, c.MetricsToken = "127.0.0.1:0", "s3" })
	if w := ask(s, "GET", "/metrics", nil, "Authorization", "Bearer s3"); w.Code != 404 {
		t.Errorf("on the API's address: %d", w.Code)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", s.cfg.MetricsListen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.serveMetricsOn(ctx, ln) })
	for path, want := range map[string]int{"/metrics": 200, "/metrics?plain": 401, "/compute/where": 404} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ln.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want != 401 {
			r.Header.Set("Authorization", "Bearer s3")
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d; want %d", path, resp.StatusCode, want)
		}
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
