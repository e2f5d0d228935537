package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// pages are the parsed templates by page name. Each holds the layout, the shared parts and one page.
type pages struct {
	named   map[string]*template.Template
	version string // of the static files, so that browsers may keep them for ever
}

// page is what every template gets.
type page struct {
	Title   string
	Tab     string // of the navigation, "" for none
	S       *session
	Version string
	Data    any
}

// parsePages parses what is embedded, so that it cannot fail in a program that passed its tests.
func parsePages(now func() time.Time) pages {
	base := template.Must(template.New("").Funcs(funcs(now)).ParseFS(files, "templates/layout.html", "templates/parts.html"))
	names := must(fs.Glob(files, "templates/*.html"))
	out := pages{named: map[string]*template.Template{}, version: assetVersion()}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name != "layout" && name != "parts" {
			out.named[name] = template.Must(template.Must(base.Clone()).ParseFS(files, file))
		}
	}
	return out
}

// must is for what is embedded.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// assetVersion is a hash of the static files.
func assetVersion() string {
	sum := sha256.New()
	for _, name := range must(fs.Glob(files, "static/*")) {
		sum.Write(must(files.ReadFile(name)))
	}
	return hex.EncodeToString(sum.Sum(nil)[:6])
}

// static serves the script and the style. Their address carries their hash.
func static() http.Handler {
	serve := http.StripPrefix(Base, http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r) // no listing
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		serve.ServeHTTP(w, r)
	})
}

// show renders a page as a whole.
func (d *dashboard) show(w http.ResponseWriter, v *visit, status int, name string, p page) error {
	return d.render(w, v, status, name, "layout", p)
}

// render renders one template of a page. Nothing is sent when that fails.
func (d *dashboard) render(w http.ResponseWriter, v *visit, status int, name, part string, p page) error {
	p.S, p.Version = v.session, d.pages.version
	var out bytes.Buffer
	if err := d.pages.named[name].ExecuteTemplate(&out, part, p); err != nil {
		return fmt.Errorf("render %s of page %s: %w", part, name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store") // it is one person's
	h.Add("Vary", "HX-Request")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the browser may be gone
	return nil
}

// funcs are what templates may call.
func funcs(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"base":   func() string { return Base },
		"ago":    func(t time.Time) string { return ago(now().Sub(t)) },
		"span":   func(t time.Time) string { return span(now().Sub(t)) },
		"stamp":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"rfc":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"mib":    mib,
		"bytes":  func(n int64) string { return mib(n >> 20) },
		"lower":  strings.ToLower,
		"join":   func(list []string) string { return strings.Join(list, ", ") },
		"plural": plural,
		"tone":   tone,
	}
}

// ago says how long back something was.
func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

// span is a time as a person says it.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return plural(max(int(d.Seconds()), 0), "second")
	case d < time.Hour:
		return plural(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return plural(int(d.Hours()), "hour")
	}
	return plural(int(d.Hours()/24), "day")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// mib is an amount of memory or of a file, given in MiB.
func mib(n int64) string {
	if n < 1 {
		return "under 1 MiB"
	}
	amount, unit := float64(n), 0
	units := []string{"MiB", "GiB", "TiB", "PiB"}
	for amount >= 1024 && unit < len(units)-1 {
		amount, unit = amount/1024, unit+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", amount), ".0") + " " + units[unit]
}

// tone is the colour class of a status; the word itself always stands beside it.
func tone(status string) string {
	switch strings.ToLower(status) {
	case "active", "up", "plenty", "fits":
		return "good"
	case "build", "rebuild", "reboot", "hard_reboot", "resize", "verify_resize", "migrating", "password", "revert_resize", "degraded", "scarce":
		return "busy"
	case "error", "down", "deleted", "no":
		return "bad"
	}
	return "quiet" // SHUTOFF, PAUSED, unknown
}
