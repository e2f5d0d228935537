package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// middleware installs what every request goes through, outermost first.
func (s *Server) middleware() {
	s.echo.Pre(
		s.requestID, // first: everything below logs and answers with it
		s.trace,     // outside measure, so that what is measured and logged is within the span
		s.measure,   // counts and logs also what fails below
		s.recover,   // inside measure, so that a panic is counted as the 500 that it becomes
		s.textOnly,  // no service or database need know of ids that nothing can have
		s.pinSite,   // before routing: /sites/NAME is cut off, the services know only their own paths
	)
}

// traceForm is W3C's traceparent, of the only version that there is.
var traceForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// trace makes a span of the request, if spans are made. Probes and scrapes are nobody's work.
func (s *Server) trace(next echo.HandlerFunc) echo.HandlerFunc {
	if s.cfg.Trace == nil {
		return next
	}
	return func(c echo.Context) error {
		r := c.Request()
		if r.URL.Path == "/healthz" || r.URL.Path == "/metrics" {
			return next(c)
		}
		path := r.URL.Path // before a site's prefix is cut off
		ctx, end := s.cfg.Trace(r.Context())
		c.SetRequest(r.WithContext(ctx))
		err := next(c)
		code, failure, project := c.Response().Status, "", ""
		if code >= 500 {
			failure = http.StatusText(code)
		}
		if who := auth.Peek(c); who != nil {
			project = who.Caller().ProjectID
		}
		end(r.Method+" "+cmp.Or(c.Path(), "/"), failure, slog.String("http.request.method", r.Method), slog.String("http.route", c.Path()), slog.String("url.path", path),
			slog.Int("http.response.status_code", code), slog.String("headwater.request_id", c.Response().Header().Get("X-Openstack-Request-Id")),
			slog.String("headwater.project_id", project), slog.String("headwater.site", string(auth.Pin(c))))
		return err
	}
}

var requestIDForm = regexp.MustCompile(`^req-[0-9A-Za-z-]{1,64}$`)

// requestID gives the request its id, or keeps a well-formed one that the client sent as its global id, and answers with it.
func (s *Server) requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		id := ident.NewRequestID()
		ctx := ident.WithRequestID(r.Context(), id)
		if global := r.Header.Get("X-Openstack-Request-Id"); requestIDForm.MatchString(global) {
			ctx = ident.WithRequestID(ctx, global)
		}
		if trace := r.Header.Get("Traceparent"); traceForm.MatchString(trace) {
			ctx = ident.WithTrace(ctx, trace)
		}
		c.SetRequest(r.WithContext(ctx))
		h := c.Response().Header()
		h.Set("X-Openstack-Request-Id", id)
		if strings.Contains(r.URL.Path, "/compute") {
			h.Set("X-Compute-Request-Id", id)
		}
		return next(c)
	}
}

// measure counts, times and (for what changes or fails) logs the request. Successful reads are not logged: they are no change of state.
func (s *Server) measure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := s.cfg.Now()
		s.metrics.inFlight.Inc()
		defer s.metrics.inFlight.Dec()
		if err := next(c); err != nil {
			c.Error(err)
		}
		took := s.cfg.Now().Sub(began)
		r, code := c.Request(), c.Response().Status
		service := "none"
		if m := s.mountOf(r.URL.Path); m != nil {
			service = strings.Trim(m.Prefix, "/")
		}
		s.metrics.observe(service, r.Method, code, took)
		level := slog.LevelDebug
		if code >= 500 && r.URL.Path != "/healthz" { // a probe that is told to wait is no failure
			level = slog.LevelWarn
		}
		s.cfg.Log.Log(r.Context(), level, "request answered", "request_id", c.Response().Header().Get("X-Openstack-Request-Id"),
			"service", service, "kind", r.Method, "path", r.URL.Path, "status", code, "elapsed", took)
		return nil
	}
}

// recover turns a panic of a handler into a 500 with the request id; the log has the stack.
func (s *Server) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
				panic(p) // a proxy's way to cut the connection
			}
			s.cfg.Log.ErrorContext(c.Request().Context(), "handler panicked", "request_id", c.Response().Header().Get("X-Openstack-Request-Id"),
				"err", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "top/server.recover", "panic")
		}()
		return next(c)
	}
}

// textOnly refuses paths and queries that no id or name can equal, since PostgreSQL cannot even look for them: what is
// not UTF-8, or holds a NUL.
func (s *Server) textOnly(next echo.HandlerFunc) echo.HandlerFunc {
	bad := func(text string) bool { return !utf8.ValidString(text) || strings.ContainsRune(text, 0) }
	return func(c echo.Context) error {
		u := c.Request().URL
		if bad(u.Path) {
			return fault.New(fault.NotFound, "top/server.textOnly", "The resource could not be found.")
		}
		for name, values := range u.Query() {
			if bad(name) || slices.ContainsFunc(values, bad) {
				return fault.New(fault.BadRequest, "top/server.textOnly", "The query is not valid text.")
			}
		}
		return next(c)
	}
}

// errNoRoute is what an unknown path gets.
var errNoRoute = fault.New(fault.NotFound, "top/server.route", "The resource could not be found.")

// pinSite cuts /sites/NAME off the path and remembers the site: the services behind a site's region are the same as Global's.
func (s *Server) pinSite(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		rest, ok := strings.CutPrefix(r.URL.Path, "/sites/")
		if !ok {
			return next(c)
		}
		name, path, _ := strings.Cut(rest, "/")
		enabled, err := s.cfg.Sites.Enabled(r.Context())
		if err != nil {
			return err
		}
		if !slices.Contains(enabled, ident.SiteID(name)) {
			return fault.New(fault.NotFound, "top/server.pinSite", "There is no site %q in this cloud.", name)
		}
		r.URL.Path, r.URL.RawPath = "/"+path, "" // in place: echo routes by the request that it was called with
		auth.WithPin(c, ident.SiteID(name))
		return next(c)
	}
}

// limitBody refuses bodies over the service's limit, before and while they are read.
func (s *Server) limitBody(m Mount) echo.MiddlewareFunc {
	limit := s.cfg.MaxBody
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if r.Body == nil || m.Streams != nil && m.Streams(r) {
				return next(c)
			}
			if r.ContentLength > limit {
				return fault.New(fault.TooLarge, "top/server.limitBody", "The request body has %d bytes; at most %d are taken.", r.ContentLength, limit)
			}
			if r.ContentLength != 0 {
				s.hurryBody(c)
			}
			r.Body = http.MaxBytesReader(c.Response(), r.Body, limit)
			return next(c)
		}
	}
}

// hurryBody gives the client Config.BodyTime to send its body: whoever sends a byte a minute must not hold a request
// for ever. Image data has no limit of size, and none of time.
func (s *Server) hurryBody(c echo.Context) {
	conn := http.NewResponseController(c.Response().Writer)
	if conn.SetReadDeadline(time.Now().Add(s.cfg.BodyTime)) != nil {
		return // not a connection: a call within this process
	}
	// With the body at its end net/http goes on to watch for the client's leaving: that read has no deadline.
	c.Request().Body = &hurriedBody{c.Request().Body, func() { _ = conn.SetReadDeadline(time.Time{}) }}
}

// hurriedBody calls ended when its end was read.
type hurriedBody struct {
	io.ReadCloser
	ended func()
}

// Read implements io.Reader.
func (b *hurriedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) { // after another error net/http still reads the rest before it answers
		b.ended()
	}
	return n, err
}

// audit records changing requests of services that do not record their verbs themselves.
func (s *Server) audit(m Mount) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if !m.Audited || r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
				return next(c)
			}
			err := next(c)
			who := auth.Peek(c)
			if who == nil && err != nil && !attemptedLogin(r, err) {
				return err // nobody did nothing: who has no token must not be able to fill the database
			}
			var caller sites.Caller
			if who != nil {
				caller = who.Caller()
			}
			caller.RequestID, caller.RemoteAddr = c.Response().Header().Get("X-Openstack-Request-Id"), auth.RemoteAddr(c)
			e := audit.By(caller, strings.Trim(m.Prefix, "/")+" "+r.Method, storable(r.URL.Path))
			if e.Outcome = "done"; err != nil {
				e.Outcome = fault.KindOf(err).String()
			}
			// The client may have gone: what it did is recorded all the same.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), auditTime)
			defer cancel()
			if failed := s.cfg.Audit.Append(ctx, e); failed != nil {
				s.cfg.Log.ErrorContext(ctx, "audit event was not recorded", "request_id", caller.RequestID, "kind", e.Action, "path", e.Target, "err", failed)
				err = errors.Join(err, failed)
			}
			return err
		}
	}
}

// auditTime is how long an audit event may take to be written.
const auditTime = 10 * time.Second

// attemptedLogin tells a refused login from other requests without a token. One that was refused unchecked, for too
// many before it, is not told: their number is what the limit on them is for.
func attemptedLogin(r *http.Request, err error) bool {
	var e *fault.Error
	return strings.HasSuffix(r.URL.Path, "/auth/tokens") && !(errors.As(err, &e) && e.RetryAfter > 0)
}

// storable cuts a path to what is worth keeping.
func storable(path string) string {
	const most = 255
	if len(path) > most {
		path = path[:most]
	}
	return strings.ToValidUTF8(path, "?") // a character may have been cut
}

// renderError is echo's error handler: every fault in the dialect of the service that was asked.
func (s *Server) renderError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	r := c.Request()
	asked := faultjson.Asked{
		Service: faultjson.Operator, RequestID: c.Response().Header().Get("X-Openstack-Request-Id"), AuthURL: auth.BaseURL(c, s.cfg.PublicURL) + "/identity/v3",
	}
	if m := s.mountOf(r.URL.Path); m != nil {
		asked.Service = m.Dialect
	}
	err = classify(err)
	if fault.KindOf(err) == fault.Internal {
		s.cfg.Log.ErrorContext(r.Context(), "request failed", "request_id", asked.RequestID, "kind", r.Method, "path", r.URL.Path, "err", err)
	}
	faultjson.Write(c.Response(), asked, err)
}

// classify gives echo's and net/http's own errors a kind.
func classify(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fault.New(fault.TooLarge, "top/server", "The request body is over the limit of %d bytes.", tooLarge.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && fault.Is(err, fault.Internal) {
		return fault.New(fault.BadRequest, "top/server", "The request body took too long to arrive.")
	}
	var he *echo.HTTPError
	if !errors.As(err, &he) {
		return err
	}
	switch he.Code {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return errNoRoute
	case http.StatusRequestEntityTooLarge:
		return fault.Wrap(fault.TooLarge, "top/server", err)
	case http.StatusUnauthorized:
		return fault.Wrap(fault.Unauthorized, "top/server", err)
	default:
		if he.Code < 500 {
			return fault.New(fault.BadRequest, "top/server", "%v", he.Message)
		}
		return fault.Wrap(fault.Internal, "top/server", err)
	}
}
