package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// service is one of the six services, by its path prefix.
type service string

const (
	identitySvc  service = "identity"
	computeSvc   service = "compute"
	imageSvc     service = "image"
	networkSvc   service = "network"
	volumeSvc    service = "volume"
	placementSvc service = "placement"
)

// request is one call to a service, authenticated unless its route is open.
type request struct {
	c       *Cloud
	http    *http.Request
	svc     service
	id      string
	base    string // scheme and host that the client used
	query   url.Values
	body    doc
	minor   int // microversion asked for: its minor number
	token   *token
	user    *user
	project string // project id of the token
	roles   []string
	admin   bool

	pathProject string // the project that the path names, of Cinder's and old Nova's paths
}

// path returns a wildcard of the route.
func (q *request) path(name string) string { return q.http.PathValue(name) }

// at reports whether the caller asked for microversion minor or a later one.
func (q *request) at(minor int) bool { return q.minor >= minor }

// url returns the address of a path of the service, as the client reaches it.
func (q *request) url(path string) string { return q.base + "/" + string(q.svc) + path }

// reply is what a handler answers. A nil body is an empty one.
type reply struct {
	status int
	body   any
	raw    []byte
	ctype  string
	header http.Header
}

func ok(body any) (*reply, error)               { return &reply{status: http.StatusOK, body: body}, nil }
func made(body any) (*reply, error)             { return &reply{status: http.StatusCreated, body: body}, nil }
func accepted(body any) (*reply, error)         { return &reply{status: http.StatusAccepted, body: body}, nil }
func noContent() (*reply, error)                { return &reply{status: http.StatusNoContent}, nil }
func status(code int, body any) (*reply, error) { return &reply{status: code, body: body}, nil }

func (r *reply) set(k, v string) *reply {
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(k, v)
	return r
}

// apiError is a failure in the words of the service that was asked.
type apiError struct {
	status int
	kind   string // Neutron's exception name, or the name of Nova's and Cinder's body member when it is unusual
	msg    string
}

func (e *apiError) Error() string { return e.msg }

func fail(status int, msg string) error { return &apiError{status: status, msg: msg} }

type handler func(q *request) (*reply, error)

// route options
type access uint8

const (
	needsToken access = iota
	open              // no token needed; one is read if it is there
	unlocked          // token needed; the handler takes the lock and reads the body by itself
	changes           // token needed; the lock is held for change even on a GET
)

// handle registers a route. GET and HEAD run with the state held still, all
// else with it held for change; the body is decoded before that.
func (c *Cloud) handle(svc service, pattern string, a access, h handler) {
	method, path, _ := strings.Cut(pattern, " ")
	c.mux.HandleFunc(method+" /"+string(svc)+path, func(w http.ResponseWriter, r *http.Request) {
		q := r.Context().Value(requestKey{}).(*request)
		q.http = r
		rep, err := c.run(q, a, h)
		c.respond(w, q, rep, err)
	})
}

type requestKey struct{}

func (c *Cloud) run(q *request, a access, h handler) (*reply, error) {
	if rep, err := c.admit(q, a); rep != nil || err != nil {
		return rep, err
	}
	if a == unlocked {
		return h(q)
	}
	if a != changes && (q.http.Method == http.MethodGet || q.http.Method == http.MethodHead) {
		c.mu.RLock()
		defer c.mu.RUnlock()
		return rendered(h(q))
	}
	if err := q.decode(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return rendered(h(q))
}

// rendered turns a body into bytes while the lock is held, because views share maps and slices with the state.
func rendered(rep *reply, err error) (*reply, error) {
	if rep != nil && rep.body != nil {
		rep.raw, rep.body, rep.ctype = appendJSON(nil, rep.body), nil, "application/json"
	}
	return rep, err
}

// admit runs what is due, authenticates and reads the microversion.
func (c *Cloud) admit(q *request, a access) (*reply, error) {
	c.tick()
	c.mu.RLock()
	err := c.authenticate(q)
	c.mu.RUnlock()
	if err != nil && a != open {
		return unauthorized(q)
	}
	if err == nil && q.pathProject != "" && q.pathProject != q.project {
		return nil, fail(http.StatusBadRequest, "Malformed request url")
	}
	return nil, c.microversion(q)
}

func unauthorized(q *request) (*reply, error) {
	const msg = "The request you have made requires authentication."
	rep := &reply{status: http.StatusUnauthorized}
	rep.set("WWW-Authenticate", `Keystone uri="`+q.base+`/identity/v3"`)
	switch q.svc {
	case imageSvc:
		rep.webob(q, 401, "This server could not verify that you are authorized to access the document you requested. Either you supplied the wrong credentials (e.g., bad password), or your browser does not understand how to supply the credentials required.")
	case identitySvc:
		rep.body = object{{"error", object{{"code", 401}, {"message", msg}, {"title", "Unauthorized"}}}}
	default:
		rep.body = object{{"error", object{{"code", 401}, {"title", "Unauthorized"}, {"message", msg}}}}
	}
	return rep, nil
}

const maxBody = 8 << 20

func (q *request) decode() error {
	raw, err := io.ReadAll(io.LimitReader(q.http.Body, maxBody+1))
	if err != nil {
		return fail(http.StatusBadRequest, "The request body could not be read.")
	}
	if len(raw) > maxBody {
		return fail(http.StatusRequestEntityTooLarge, "Request is too large.")
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	if raw[0] != '{' { // Glance's patches are lists: their handler decodes by itself
		q.http.Body = io.NopCloser(bytes.NewReader(raw))
		if q.svc == imageSvc && q.http.Method == http.MethodPatch {
			return nil
		}
	}
	if err := json.Unmarshal(raw, &q.body); err != nil {
		if q.svc == networkSvc {
			return &apiError{status: http.StatusBadRequest, kind: "HTTPBadRequest", msg: "The server could not comply with the request since it is either malformed or otherwise incorrect."}
		}
		return fail(http.StatusBadRequest, "Malformed request body")
	}
	return nil
}

// respond renders a reply or an error in the dialect of the service.
func (c *Cloud) respond(w http.ResponseWriter, q *request, rep *reply, err error) {
	if err != nil {
		rep = errorReply(q, err)
	}
	h := w.Header()
	for k, v := range rep.header {
		h[k] = v
	}
	h.Set("X-Openstack-Request-Id", q.id)
	h.Set("Date", c.date())
	q.versionHeaders(h)
	body := rep.raw
	if rep.body != nil {
		body = appendJSON(nil, rep.body)
		h.Set("Content-Type", "application/json")
	} else if rep.ctype != "" {
		h.Set("Content-Type", rep.ctype)
	}
	if rep.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(rep.status)
	if q.http.Method != http.MethodHead && rep.status != http.StatusNoContent {
		_, _ = w.Write(body) // the client has gone: nobody is left to tell
	}
}

// date is the time that the site's clock shows, as a header: clients measure skew by it.
func (c *Cloud) date() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.now().Format(http.TimeFormat)
}

func errorReply(q *request, err error) *reply {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, msg: err.Error()}
	}
	rep := &reply{status: e.status}
	switch q.svc {
	case identitySvc:
		rep.body = object{{"error", object{{"code", e.status}, {"message", e.msg}, {"title", http.StatusText(e.status)}}}}
	case networkSvc:
		kind := e.kind
		if kind == "" {
			kind = map[int]string{400: "HTTPBadRequest", 403: "HTTPForbidden", 404: "HTTPNotFound", 409: "Conflict", 500: "HTTPInternalServerError", 503: "HTTPServiceUnavailable"}[e.status]
		}
		rep.body = object{{"NeutronError", object{{"type", kind}, {"message", e.msg}, {"detail", ""}}}}
	case imageSvc:
		rep.webob(q, e.status, e.msg)
	case placementSvc:
		rep.body = object{{"errors", []object{{{"status", e.status}, {"title", http.StatusText(e.status)}, {"detail", e.msg}, {"code", "placement.undefined_code"}, {"request_id", q.id}}}}}
	default:
		inner := object{{"code", e.status}, {"message", e.msg}}
		if e.status == http.StatusRequestEntityTooLarge {
			inner = append(inner, kv{"retryAfter", "0"})
		}
		rep.body = object{{faultName(e), inner}}
		if e.status == http.StatusServiceUnavailable || e.status == http.StatusRequestEntityTooLarge {
			rep.set("Retry-After", "0")
		}
	}
	return rep
}

func faultName(e *apiError) string {
	if e.kind != "" {
		return e.kind
	}
	switch e.status {
	case 400:
		return "badRequest"
	case 401:
		return "unauthorized"
	case 403:
		return "forbidden"
	case 404:
		return "itemNotFound"
	case 405:
		return "badMethod"
	case 409:
		return "conflictingRequest"
	case 413, 429:
		return "overLimit"
	case 415:
		return "badMediaType"
	case 501:
		return "notImplemented"
	case 503:
		return "serviceUnavailable"
	}
	return "computeFault"
}

func escapeHTML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#x27;", `"`, "&quot;").Replace(s)
}

// webob sets the answer that webob makes of an error, in the form that the
// client accepts: a page, JSON, or plain text when it names neither. Glance
// sends it for every error, all WSGI services for unknown paths.
func (r *reply) webob(q *request, code int, msg string) *reply {
	r.status = code
	title := strconv.Itoa(code) + " " + http.StatusText(code)
	switch accept := q.http.Header.Get("Accept"); {
	case strings.Contains(accept, "html") || strings.Contains(accept, "*/*"):
		page := "<html>\n <head>\n  <title>" + title + "</title>\n </head>\n <body>\n  <h1>" + title + "</h1>\n  " + escapeHTML(msg) + "<br /><br />\n\n\n\n </body>\n</html>"
		r.raw, r.ctype = []byte(page), "text/html; charset=UTF-8"
	case strings.Contains(accept, "application/json"):
		r.body = object{{"message", msg + "<br /><br />\n\n\n"}, {"code", title}, {"title", http.StatusText(code)}}
	default:
		r.raw, r.ctype = []byte(title+"\n\n"+msg+"\n\n   "), "text/plain; charset=UTF-8"
	}
	return r
}

// unknownPath answers what no route of a service matches.
func unknownPath(q *request) (*reply, error) {
	if q.svc == networkSvc {
		return nil, &apiError{status: 404, kind: "HTTPNotFound", msg: "The resource could not be found."}
	}
	if q.svc == identitySvc {
		const page = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n"
		return &reply{status: 404, raw: []byte(page), ctype: "text/html; charset=utf-8"}, nil
	}
	return new(reply).webob(q, 404, "The resource could not be found."), nil
}

// microversion reads the version that the client asks for.
func (c *Cloud) microversion(q *request) error {
	name, major, low, high := "", "", 0, 0
	switch q.svc {
	case computeSvc:
		name, major, low, high = "compute", "2", 1, c.cfg.ComputeMax
	case volumeSvc:
		name, major, low, high = "volume", "3", 0, c.cfg.VolumeMax
	case placementSvc:
		name, major, low, high = "placement", "1", 0, 39
	default:
		return nil
	}
	q.minor = low
	asked := askedVersion(q, name)
	if asked == "" {
		return nil
	}
	if asked == "latest" {
		q.minor = high
		return nil
	}
	if !versionPattern.MatchString(asked) {
		return fail(http.StatusBadRequest, "API Version String "+asked+" is of invalid format. Must be of format MajorNum.MinorNum.")
	}
	maj, min, _ := strings.Cut(asked, ".")
	n, err := strconv.Atoi(min)
	if err != nil || maj != major || n < low || n > high {
		q.minor = n
		return &apiError{status: http.StatusNotAcceptable, msg: "Version " + asked + " is not supported by the API. Minimum is " + major + "." + strconv.Itoa(low) + " and maximum is " + major + "." + strconv.Itoa(high) + "."}
	}
	q.minor = n
	return nil
}

var versionPattern = regexp.MustCompile(`^([1-9]\d*)\.([1-9]\d*|0)$`)

func askedVersion(q *request, name string) string {
	for _, line := range q.http.Header.Values("OpenStack-API-Version") {
		for _, part := range strings.Split(line, ",") {
			if svc, v, found := strings.Cut(strings.TrimSpace(part), " "); found && strings.EqualFold(svc, name) {
				return strings.TrimSpace(v)
			}
		}
	}
	if name == "compute" {
		return q.http.Header.Get("X-OpenStack-Nova-API-Version")
	}
	return ""
}

func (q *request) versionHeaders(h http.Header) {
	switch q.svc {
	case computeSvc:
		v := "2." + strconv.Itoa(q.minor)
		h.Set("X-Compute-Request-Id", q.id)
		h.Set("OpenStack-API-Version", "compute "+v)
		h.Set("X-OpenStack-Nova-API-Version", v)
		h.Set("Vary", "OpenStack-API-Version, X-OpenStack-Nova-API-Version")
	case volumeSvc:
		h.Set("X-Compute-Request-Id", q.id)
		h.Set("OpenStack-API-Version", "volume 3."+strconv.Itoa(q.minor))
		h.Set("Vary", "OpenStack-API-Version")
	case placementSvc:
		h.Set("OpenStack-API-Version", "placement 1."+strconv.Itoa(q.minor))
		h.Set("Vary", "OpenStack-API-Version")
	case identitySvc:
		h.Set("Vary", "X-Auth-Token")
	}
}

// ServeHTTP answers one request: first what the faults say, then the service.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/_emulator/") {
		c.serveControl(w, r)
		return
	}
	q := &request{c: c, http: r, id: ident.NewRequestID(), base: baseURL(r), query: r.URL.Query()}
	path := strings.TrimPrefix(r.URL.Path, "/")
	name, _, _ := strings.Cut(path, "/")
	q.svc = service(name)
	c.faults.serve(w, r, q)
}

// serveClean hands the request to its service's route.
func (c *Cloud) serveClean(w http.ResponseWriter, r *http.Request, q *request) {
	r2 := r.WithContext(context.WithValue(r.Context(), requestKey{}, q))
	u := *r.URL
	u.Path, u.RawPath, q.pathProject = normalPath(u.Path)
	r2.URL = &u
	q.http = r2
	if _, pattern := c.mux.Handler(r2); pattern == "" || !strings.Contains(pattern, "/") {
		http.NotFound(w, r)
		return
	}
	c.mux.ServeHTTP(w, r2)
}

var (
	projectPrefix = regexp.MustCompile(`^/(volume/v3|compute/v2\.1)/([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(/|$)`)
	slashes       = regexp.MustCompile(`//+`)
)

// normalPath takes the project out of Cinder's and old Nova's paths and drops a
// second slash, which clients make by joining URLs and the real services forgive.
func normalPath(p string) (path, raw, project string) {
	p = slashes.ReplaceAllString(p, "/")
	if m := projectPrefix.FindStringSubmatch(p); m != nil {
		project = m[2]
	}
	return projectPrefix.ReplaceAllString(p, "/$1$3"), "", project
}

// baseURL is scheme://host as the client wrote it.
func baseURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}
