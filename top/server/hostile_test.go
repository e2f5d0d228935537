package server

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
)

// Each POST without a token was a row in the audit log with the path in full, up to a megabyte of it: anybody could fill the database.
func TestNobodyFillsTheAuditLog(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *Config) {
		c.Mounts[0].Routes = func(g *echo.Group) {
			g.POST("/v3/auth/tokens", func(c echo.Context) error {
				e := fault.New(fault.Unauthorized, "test", "no")
				if c.QueryParam("often") != "" {
					e = &fault.Error{Kind: fault.Unauthorized, RetryAfter: 3, Msg: "too often"}
				}
				return e
			})
			g.POST("/*", func(echo.Context) error { return fault.New(fault.Unauthorized, "test", "no") })
		}
	})
	ask(s, "POST", "/compute/"+strings.Repeat("x", 5000), nil)
	ask(s, "DELETE", "/compute/none", nil)
	ask(s, "POST", "/compute/v3/auth/tokens?often=1", nil)
	ask(s, "POST", "/compute/v3/auth/tokens", nil)
	events, err := s.cfg.Audit.List(t.Context(), audit.Filter{})
	if err != nil || len(events) != 1 || events[0].Target != "/compute/v3/auth/tokens" || events[0].Outcome != fault.Unauthorized.String() {
		t.Errorf("audit log %+v, %v; want the refused login alone", events, err)
	}
}

// Whoever closed the connection before the answer kept the change and left no event: it was written with the request's
// own context.
func TestAuditOfThoseWhoLeave(t *testing.T) {
	t.Parallel()
	var leave context.CancelFunc
	s := newServer(t, func(c *Config) {
		a := auth.New(nil, nil)
		c.Mounts[0].Routes = func(g *echo.Group) {
			g.POST("/*", func(c echo.Context) error {
				a.Enter(c, &identity.Token{User: identity.Ref{ID: "mallory"}}, "")
				leave()
				return c.NoContent(http.StatusNoContent)
			})
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	leave = cancel
	r := httptest.NewRequestWithContext(ctx, "POST", "/compute/"+strings.Repeat("x", 5000), nil)
	s.ServeHTTP(httptest.NewRecorder(), r)
	events, err := s.cfg.Audit.List(t.Context(), audit.Filter{})
	if err != nil || len(events) != 1 || events[0].UserID != "mallory" || len(events[0].Target) != 255 {
		t.Errorf("audit log %+v, %v", events, err)
	}
}

// A client that sent its body at a byte a minute held its request, and a connection, for ever.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *Config) { c.BodyTime = 300 * time.Millisecond })
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprint(conn, "POST /compute/read HTTP/1.1\r\nHost: top\r\nContent-Length: 10\r\n\r\nx")
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "too long") {
		t.Errorf("= %d %s, %v", res.StatusCode, body, err)
	}
}

// A request that works for longer than its body may take to arrive is not cut off for it.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *Config) {
		c.BodyTime = 100 * time.Millisecond
		c.Mounts[0].Routes = func(g *echo.Group) {
			g.POST("/slow", func(c echo.Context) error {
				if _, err := io.Copy(io.Discard, c.Request().Body); err != nil {
					return err
				}
				select {
				case <-c.Request().Context().Done():
					return fault.New(fault.Internal, "test", "cut off")
				case <-time.After(500 * time.Millisecond):
					return c.NoContent(http.StatusNoContent)
				}
			})
		}
	})
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	for range 2 { // on one connection
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/compute/slow", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _ = res.Body.Close(); res.StatusCode != http.StatusNoContent {
			t.Errorf("= %d", res.StatusCode)
		}
	}
}

// Image data has no limit of size; the rest of the image service had none either, so that one tenant's endless JSON took all of Top's memory.
func TestOnlyStreamsAreEndless(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *Config) {
		c.Mounts[0].Streams = func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/file")
		}
		read := c.Mounts[0].Routes
		c.Mounts[0].Routes = func(g *echo.Group) {
			read(g)
			g.PUT("/file", func(c echo.Context) error {
				n, err := io.Copy(io.Discard, c.Request().Body)
				return cmp.Or(err, c.JSON(http.StatusOK, n))
			})
		}
	})
	big := strings.Repeat("x", 5000)
	if w := ask(s, "PUT", "/compute/file", strings.NewReader(big)); w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != "5000" {
		t.Errorf("stream = %d %s", w.Code, w.Body)
	}
	for _, body := range []io.Reader{strings.NewReader(big), io.MultiReader(strings.NewReader(big))} { // the second has no Content-Length
		if w := ask(s, "POST", "/compute/read", body); w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("JSON = %d %s", w.Code, w.Body)
		}
	}
}
