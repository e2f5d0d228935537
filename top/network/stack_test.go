package network_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
	topnetwork "github.com/headwater-cloud/headwater/top/network"
)

// site is one bottom of a stack, with its two accounts.
type site struct {
	name          ident.SiteID
	admin, member sites.Adaptor
	caps          sites.Capabilities
	cloud         *emulator.Cloud // nil for a real region
	authURL       string
	tokens        map[string]string // by user, of requests past the adaptor
}

// accounts are the usual two of a region: admin in project admin, demo in project demo.
func accounts(t testing.TB, name ident.SiteID, region, authURL string) *site {
	t.Helper()
	login := func(user, project string) sites.Adaptor {
		a, err := openstack.New(openstack.Config{Site: name, Credential: sites.Credential{
			AuthURL: authURL, Region: region, Username: user, Password: "secret", UserDomainID: "default", ProjectName: project, ProjectDomainID: "default",
		}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	s := &site{name: name, authURL: authURL, admin: login("admin", "admin"), member: login("demo", "demo")}
	caps, err := s.admin.Probe(t.Context())
	if err != nil {
		t.Fatalf("probe %s: %v", name, err)
	}
	s.caps = caps
	return s
}

// bottoms are the sites of a stack, as Core and Placer want them.
type bottoms []*site

func (b bottoms) find(name ident.SiteID) (*site, error) {
	for _, s := range b {
		if s.name == name {
			return s, nil
		}
	}
	return nil, fault.New(fault.NotFound, "test", "no site %s", name)
}

func (b bottoms) Admin(_ context.Context, name ident.SiteID) (sites.Adaptor, error) {
	s, err := b.find(name)
	if err != nil {
		return nil, err
	}
	return s.admin, nil
}

func (b bottoms) Tenant(_ context.Context, name ident.SiteID, _ string) (sites.Adaptor, error) {
	s, err := b.find(name)
	if err != nil {
		return nil, err
	}
	return s.member, nil
}

func (b bottoms) Sites(context.Context) ([]registry.Site, error) {
	var out []registry.Site
	for _, s := range b {
		out = append(out, registry.Site{
			Name: s.name, Enabled: true, State: registry.Active, Capabilities: &s.caps, Health: registry.Health{State: registry.Up},
			Zones: []registry.Zone{{Top: string(s.name) + "/nova", Service: sites.NetworkSvc, Bottom: "nova"}},
		})
	}
	return out, nil
}

// tokens are who calls: "PROJECT-ROLE" is a token of that role in that project.
type tokens struct{}

func (tokens) Validate(_ context.Context, token string) (*identity.Token, error) {
	project, role, ok := strings.Cut(token, "-")
	if !ok {
		return nil, fault.New(fault.Unauthorized, "test", "")
	}
	roles := map[string][]string{"admin": {"admin", "member", "reader"}, "member": {"member", "reader"}, "reader": {"reader"}}[role]
	t := &identity.Token{User: identity.Ref{ID: "user-" + project}, Project: &identity.Ref{ID: project}}
	for _, r := range roles {
		t.Roles = append(t.Roles, identity.Ref{ID: r, Name: r})
	}
	return t, nil
}

// stack is Top's network service on a database and sites, with jobs running.
type stack struct {
	t       testing.TB
	url     string
	service *network.Service
	core    *cascade.Core
}

func newStack(t testing.TB, list ...*site) *stack {
	t.Helper()
	return newStackOf(t, network.Config{}, list...)
}

// newStackOf is newStack with settings of the service.
func newStackOf(t testing.TB, cfg network.Config, list ...*site) *stack {
	t.Helper()
	return newStackOn(t, dbtest.SQLite(t), cfg, list...)
}

// newStackOn is newStackOf on a given database.
func newStackOn(t testing.TB, db *dbschema.DB, cfg network.Config, list ...*site) *stack {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b := bottoms(list)
	core := cascade.New(cascade.Config{
		DB: db, Index: index.NewStore(db, time.Now), Bindings: binding.NewStore(db, time.Now), Quota: quota.NewStore(db),
		Audit: audit.NewStore(db, time.Now), Directory: b, Log: log, Now: time.Now, CallTimeout: 20 * time.Second,
	})
	addresses, err := ipam.New(ipam.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	placer := placement.New(b, core.Index, core.Bindings, placement.NewHomeStore(db, time.Now))
	cfg.Core, cfg.Placer, cfg.IPAM = core, placer, addresses
	service := network.New(cfg)
	service.Register()
	engine, err := jobs.New(db, jobs.Default(), prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	if err := core.RegisterJobs(engine); err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if err := service.AdoptSite(t.Context(), s.name, s.caps); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	wg.Go(func() {
		if err := engine.Run(ctx); err != nil {
			t.Errorf("jobs: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	srv := httptest.NewServer(front(t, service))
	t.Cleanup(srv.Close)
	return &stack{t: t, url: srv.URL, service: service, core: core}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// front is what top/server does around the service, as far as the tests need it.
func front(t testing.TB, service *network.Service) http.Handler {
	t.Helper()
	policy, err := auth.NewPolicy(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		var he *echo.HTTPError
		if asHTTP(err, &he) {
			err = fault.New(fault.NotFound, "test", "The resource could not be found.")
		}
		if fault.KindOf(err) == fault.Internal {
			t.Errorf("%s %s: %v", c.Request().Method, c.Request().URL, err)
		}
		faultjson.Write(c.Response(), faultjson.Asked{Service: faultjson.Network, RequestID: "req-test"}, err)
	}
	e.Pre(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if rest, ok := strings.CutPrefix(c.Request().URL.Path, "/sites/"); ok {
				name, path, _ := strings.Cut(rest, "/")
				c.Request().URL.Path = "/" + path
				auth.WithPin(c, ident.SiteID(name))
			}
			return next(c)
		}
	})
	topnetwork.New(topnetwork.Config{Service: service, Auth: auth.New(tokens{}, policy)}).Routes(e.Group("/network"))
	return e
}

func asHTTP(err error, into **echo.HTTPError) bool {
	he, ok := err.(*echo.HTTPError) //nolint:errorlint // echo's own, unwrapped
	*into = he
	return ok
}

type object = map[string]any

// call sends a request as the owner of a token and returns the status and the decoded answer.
func (s *stack) call(token, method, path string, in any, header ...string) (int, object) {
	s.t.Helper()
	var r io.Reader
	switch b := in.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		r = bytes.NewReader(raw)
	}
	prefix := "/network/v2.0/"
	if strings.HasPrefix(path, "/") {
		prefix = ""
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+prefix+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(auth.TokenHeader, token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var out object
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			s.t.Fatalf("%s %s: %s is no JSON object", method, path, raw)
		}
	}
	return resp.StatusCode, out
}

// do is call as a member of project p1 that must succeed with the status; it returns the one resource in the answer.
func (s *stack) do(want int, method, path string, in any) object {
	s.t.Helper()
	got, out := s.call("p1-member", method, path, in)
	if got != want {
		s.t.Fatalf("%s %s: %d %v, want %d", method, path, got, out, want)
	}
	if len(out) == 1 {
		for _, v := range out {
			if one, ok := v.(object); ok {
				return one
			}
		}
	}
	return out
}

// refused is a call as a member of project p1 that must fail with the status and Neutron's exception name.
func (s *stack) refused(status int, exception, method, path string, in any) {
	s.t.Helper()
	got, out := s.call("p1-member", method, path, in)
	e, _ := out["NeutronError"].(object)
	if got != status || e["type"] != exception {
		s.t.Errorf("%s %s: %d %v, want %d %s", method, path, got, out, status, exception)
	}
}

// items lists a collection.
func (s *stack) items(path string) []object {
	s.t.Helper()
	out := s.do(http.StatusOK, http.MethodGet, path, nil)
	for k, v := range out {
		if strings.HasSuffix(k, "_links") {
			continue
		}
		list, _ := v.([]any)
		rows := make([]object, len(list))
		for i, item := range list {
			rows[i], _ = item.(object)
		}
		return rows
	}
	return nil
}

func text(o object, key string) string {
	if o[key] == nil {
		return ""
	}
	return fmt.Sprint(o[key])
}

// until waits for a condition by looking again, at most for a minute.
func (s *stack) until(what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			s.t.Fatalf("waited a minute for %s", what)
		}
	}
}
