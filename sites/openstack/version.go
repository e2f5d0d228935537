package openstack

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// version is a microversion: 2.93.
type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) less(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

func (v version) zero() bool { return v == version{} }

func parseVersion(text string) version {
	major, minor, ok := strings.Cut(text, ".")
	if !ok {
		return version{}
	}
	m, err1 := strconv.Atoi(major)
	n, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil || m < 1 || n < 0 {
		return version{}
	}
	return version{m, n}
}

// ours are the newest microversions that Headwater speaks, which are OpenStack
// Zed's, and how each service is called in the header.
var ours = map[sites.Service]struct {
	header      string
	oldest, new version
}{
	sites.Compute:      {"compute", version{2, 1}, version{2, 93}},
	sites.BlockStorage: {"volume", version{3, 0}, version{3, 70}},
	sites.Placement:    {"placement", version{1, 0}, version{1, 39}},
}

// window is what a service says of its versions.
type window struct {
	current  string // id of the current API version: "v2.1"
	min, max version
}

// windows keeps each service's window once it is known.
type windows struct {
	mu    sync.Mutex // guards the field below
	known map[sites.Service]window
}

func (w *windows) get(s sites.Service) (window, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	found, ok := w.known[s]
	return found, ok
}

func (w *windows) set(s sites.Service, win window) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = map[sites.Service]window{}
	}
	w.known[s] = win
}

// forget lets the next call ask again.
func (w *windows) forget(s sites.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, s)
}

// window asks a service, once, for its versions.
func (a *Adaptor) window(ctx context.Context, s sites.Service) (window, error) {
	if w, ok := a.windows.get(s); ok {
		return w, nil
	}
	return a.discover(ctx, s)
}

// discover asks a service for its versions.
func (a *Adaptor) discover(ctx context.Context, s sites.Service) (window, error) {
	reply, err := a.doJSON(ctx, &call{op: "sites/openstack.discover", service: s, method: http.MethodGet, versions: true, microversion: "none"})
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Forbidden, fault.BadRequest:
		// A gateway that hides the document: the service is used without microversions.
		a.log.WarnContext(ctx, "site version document refused", "site", a.site, "service", s, "err", err)
	default:
		if err != nil {
			return window{}, err
		}
	}
	w := readWindow(reply.Body)
	a.windows.set(s, w)
	return w, nil
}

// readWindow reads {"version": {...}} or {"versions": [...]}, of the list the current version, else the last.
func readWindow(body sites.Body) window {
	var best sites.Body
	if one, ok := body["version"].(map[string]any); ok {
		best = one
	} else {
		rows, ok := body["versions"].([]any)
		if values, wrapped := body["versions"].(map[string]any); wrapped { // Keystone
			rows, ok = values["values"].([]any)
		}
		for i := 0; ok && i < len(rows); i++ {
			row, isRow := rows[i].(map[string]any)
			if isRow && (best == nil || strings.EqualFold(str(row["status"]), "CURRENT") && !strings.EqualFold(str(best["status"]), "CURRENT")) {
				best = row
			}
		}
	}
	w := window{current: str(best["id"])}
	w.min = parseVersion(str(best["min_version"]))
	w.max = parseVersion(firstText(best, "max_version", "version"))
	return w
}

// version returns the header value of the microversion that a call is made with, "" for none.
func (a *Adaptor) version(ctx context.Context, c *call) (string, error) {
	our, known := ours[c.service]
	if !known || c.microversion == "none" {
		return "", nil
	}
	if c.microversion != "" {
		return our.header + " " + c.microversion, nil
	}
	chosen, err := a.chosen(ctx, c.service)
	if err != nil || chosen.zero() {
		return "", err
	}
	return our.header + " " + chosen.String(), nil
}

// chosen returns the microversion spoken with a service: the newest that both sides know; zero when the service has none.
func (a *Adaptor) chosen(ctx context.Context, s sites.Service) (version, error) {
	our := ours[s]
	w, err := a.window(ctx, s)
	if err != nil || w.max.zero() {
		return version{}, err
	}
	chosen := our.new
	if w.max.less(chosen) {
		chosen = w.max
	}
	if chosen.less(w.min) || chosen.less(our.oldest) {
		return version{}, &fault.Error{Op: "sites/openstack.version", Site: string(a.site), Kind: fault.NotAcceptable,
			Msg: fmt.Sprintf("site %s speaks %s %s to %s, which has nothing in common with %s to %s", a.site, s, w.min, w.max, our.oldest, our.new)}
	}
	return chosen, nil
}
