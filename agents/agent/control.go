package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	rpprof "runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// control serves the agent's own socket: JSON over HTTP for the commands that look at a running agent, its metrics, and Go's profiles. Only
// root reaches it, or whoever has the run directory.
func (a *Agent) control(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.RunDir, 0o700); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	path := a.cfg.ControlSocket()
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return errors.Join(fmt.Errorf("agent's socket: another agent answers at %s: agents of several bridges need a run directory each", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of an agent that has died
		return fmt.Errorf("agent's socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("agent's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("agent's socket: %w", err), l.Close())
	}
	s := &http.Server{Handler: a.routes(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	g.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("agent's socket: %w", err)
		}
		return nil
	})
	return g.Wait()
}

func (a *Agent) routes() http.Handler {
	m := http.NewServeMux()
	get := func(path string, f func(*http.Request) (any, error)) {
		m.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { answerJSON(w, r, f) })
	}
	get("GET /v1/status", a.statusView)
	get("GET /v1/state", a.stateView)
	get("GET /v1/flows", a.flowsView)
	get("GET /v1/groups", a.groupsView)
	get("GET /v1/diff", a.diffView)
	get("GET /v1/running", a.runningView)
	get("GET /v1/wait", a.waitView)
	get("GET /v1/debug", a.debugView)
	get("POST /v1/plan", a.planView)
	get("POST /v1/ofproto", a.ofprotoView)
	get("POST /v1/trace", a.pathView)
	m.HandleFunc("POST /v1/ask", a.askView)
	get("POST /v1/reissue", a.reissueView)
	if g, ok := a.registry.(prometheus.Gatherer); ok {
		m.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	}
	get("GET /debug/pprof/{name}", func(r *http.Request) (any, error) {
		return nil, fault.New(fault.BadRequest, "", "profile %s: there are %s, profile and trace", r.PathValue("name"), strings.Join(profiles(), ", "))
	})
	for _, name := range profiles() {
		m.Handle("GET /debug/pprof/"+name, pprof.Handler(name))
	}
	m.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return m
}

// profiles are those that the program can always give.
func profiles() (out []string) {
	for _, p := range rpprof.Profiles() {
		out = append(out, p.Name())
	}
	return out
}

// maxBody bounds what is sent to the agent: a state file.
const maxBody = 256 << 20

func answerJSON(w http.ResponseWriter, r *http.Request, f func(*http.Request) (any, error)) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	out, err := f(r)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusInternalServerError
		switch fault.KindOf(err) {
		case fault.BadRequest:
			code = http.StatusBadRequest
		case fault.NotFound:
			code = http.StatusNotFound
		case fault.Unavailable:
			code = http.StatusServiceUnavailable
		}
		w.WriteHeader(code)
		out = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(out) // whoever asked has gone, otherwise
}

func badRequest(format string, args ...any) error {
	return fault.New(fault.BadRequest, "", format, args...)
}

// Wait returns when the switch carries out a revision, or a later one.
func (a *Agent) Wait(ctx context.Context, revision uint64) error {
	stop := context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.told.Broadcast()
	})
	defer stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		a.core.mu.Lock()
		done := a.core.epoch != 0 && a.core.done.revision >= revision
		at, told := a.core.done.revision, a.core.revision
		a.core.mu.Unlock()
		switch {
		case done:
			return nil
		case a.ends:
			return fault.New(fault.Unavailable, "", "the agent ends")
		case ctx.Err() != nil:
			return fault.New(fault.Unavailable, "", "revision %d is not carried out yet: the switch carries out %d, and the agent was told of %d", revision, at, told)
		}
		a.told.Wait()
	}
}

func (a *Agent) waitView(r *http.Request) (any, error) {
	revision, err := strconv.ParseUint(r.FormValue("revision"), 10, 64)
	if err != nil {
		return nil, badRequest("revision: want a number")
	}
	timeout, err := time.ParseDuration(r.FormValue("timeout"))
	if err != nil {
		return nil, badRequest("timeout: want a time, such as 30s")
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	if err := a.Wait(ctx, revision); err != nil {
		return nil, err
	}
	return a.statusView(r)
}

// ofprotoView has the switch say what it would do with a packet that a port sends.
func (a *Agent) ofprotoView(r *http.Request) (any, error) {
	port, flow := r.FormValue("port"), r.FormValue("flow")
	var plug *state.Plug
	a.core.store.Read(func(v *state.View) { plug = state.Find[*state.Plug](v, port) })
	if plug == nil {
		return nil, fault.New(fault.NotFound, "", "port %s is not plugged here", port)
	}
	text, err := a.ofprotoTrace(r.Context(), fmt.Sprintf("in_port=%d,%s", plug.OFPort, flow), r.Form["option"]...)
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, "", err)
	}
	return map[string]string{"text": text}, nil
}

// ofprotoTrace asks the switch what it would do with a packet: ofproto/trace of ovs-vswitchd(8) on the bridge, with names.
func (a *Agent) ofprotoTrace(ctx context.Context, flow string, options ...string) (string, error) {
	return a.cfg.command(ctx, "ofproto/trace", append([]string{"--names", a.cfg.Bridge, flow}, options...)...)
}

// planView compiles a state file, beside what runs, and says what it would change in the switch.
func (a *Agent) planView(r *http.Request) (any, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, "", err)
	}
	return a.plan(r.Context(), r.FormValue("name"), raw)
}

// reissueView sends all flows again.
func (a *Agent) reissueView(r *http.Request) (any, error) {
	asked := make(chan error, 1)
	select {
	case a.switcher.again <- asked:
	case <-r.Context().Done():
		return nil, fault.New(fault.Unavailable, "", "no connection to the switch")
	}
	select {
	case err := <-asked:
		if err != nil {
			return nil, err
		}
		return a.statusView(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
