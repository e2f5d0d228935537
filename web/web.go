// Package web is the dashboard: pages rendered on the server for a person with a
// browser, below /dashboard. It is a client of the HTTP API like any other: it
// shows what the API gives the person's own token, and nothing else.
//
// What it promises: the token never reaches a script; every form carries a
// secret of the session; every text is escaped; no page needs anything from
// another host, and all of them work without scripts, which only keep them live.
package web

import (
	"embed"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Base is the path below which the dashboard stands.
const Base = "/dashboard"

//go:embed templates static
var files embed.FS

// Sealer keeps the session in the browser's cookie unreadable and unforgeable.
// Seal returns the key's id and the box; Open wants the same use.
type Sealer interface {
	Seal(plain []byte, use string) (id string, box []byte, err error)
	Open(id string, box []byte, use string) ([]byte, error)
}

// Config is what New needs.
type Config struct {
	// API answers requests to Top's HTTP API: InProcess, or a transport to another process.
	API http.RoundTripper
	// URL is the API's address without a trailing slash; it may stay empty with InProcess.
	URL string
	// Seal seals sessions. Replicas that share its key share the sessions.
	Seal Sealer
	// Secure keeps cookies off plain HTTP also where TLS ends before this process.
	Secure bool
	Now    func() time.Time
	Log    *slog.Logger
}

// maxForm bounds a form in bytes: user data is at most 64 KiB.
const maxForm = 1 << 20

// dashboard is the handler's state, which does not change after New.
type dashboard struct {
	cfg   Config
	api   *client
	pages pages
}

// New returns the dashboard, to be mounted at Base and below. It needs API, Seal, Now and Log.
func New(cfg Config) http.Handler {
	if cfg.URL == "" {
		cfg.URL = "http://headwater.internal" // never dialled
	}
	d := &dashboard{cfg: cfg, api: &client{http: &http.Client{Transport: cfg.API, Timeout: apiTimeout}, base: cfg.URL}, pages: parsePages(cfg.Now)}
	mux := http.NewServeMux()
	d.routes(mux)
	origin := http.NewCrossOriginProtection() // beside each form's secret: browsers say themselves where a form came from
	return secure(origin.Handler(mux))
}

// routes are all pages. A handler that ends in an error is answered by fail.
func (d *dashboard) routes(mux *http.ServeMux) {
	mux.Handle("GET "+Base+"/static/", static())
	on := func(pattern string, h http.Handler) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" "+Base+path, h)
	}
	on("GET ", d.public(d.home))
	on("GET /{$}", d.public(d.home))
	on("GET /{path...}", d.public(d.nothing))
	on("GET /signin", d.public(d.showSignIn))
	on("POST /signin", d.public(d.signIn))
	on("POST /signout", d.public(d.signOut))
	on("GET /projects", d.known(d.showProjects))
	on("POST /projects", d.known(d.chooseProject))

	on("GET /sites", d.inProject(d.showSites))
	on("GET /instances", d.inProject(d.listInstances))
	on("GET /instances/{id}", d.inProject(d.showInstance))
	on("GET /instances/{id}/log", d.inProject(d.consoleLog))
	on("GET /instances/{id}/do/{action}", d.inProject(d.confirmAction))
	on("POST /instances/{id}/do/{action}", d.inProject(d.doAction))
	on("GET /launch", d.inProject(d.showLaunch))
	on("POST /launch", d.inProject(d.launch))
	on("POST /launch/placement", d.inProject(d.showPlacement))
}

// secure sets what holds for every answer.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		}
		next.ServeHTTP(w, r)
	})
}
