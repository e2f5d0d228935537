package health

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// world is a directory of sites whose services fail as the test says.
type world struct {
	mu     sync.Mutex // guards the fields below
	sites  []registry.Site
	fail   map[ident.SiteID]map[sites.Service]error
	hang   map[ident.SiteID]bool
	lost   string
	checks map[ident.SiteID]int
	probes int
}

func newWorld(names ...ident.SiteID) *world {
	w := &world{fail: map[ident.SiteID]map[sites.Service]error{}, hang: map[ident.SiteID]bool{}, checks: map[ident.SiteID]int{}}
	for _, n := range names {
		w.fail[n] = map[sites.Service]error{}
		w.sites = append(w.sites, registry.Site{Name: n, Tenancy: sites.TenancyProject, Created: time.Now(), Capabilities: &sites.Capabilities{
			Services: map[sites.Service]sites.ServiceInfo{sites.Compute: {}, sites.NetworkSvc: {}}}})
	}
	return w
}

func (w *world) Sites(context.Context) ([]registry.Site, error) { return w.sites, nil }
func (w *world) Invalidate()                                    {}

func (w *world) Bare(_ context.Context, site ident.SiteID) (sites.Adaptor, error) {
	return &bottom{world: w, site: site}, nil
}

func (w *world) Probe(context.Context, ident.SiteID, bool) (registry.Probed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes++
	return registry.Probed{Lost: w.lost}, nil
}

func (w *world) set(site ident.SiteID, service sites.Service, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail[site][service] = err
}

type bottom struct {
	sites.Adaptor // nil: nothing else is called
	world         *world
	site          ident.SiteID
}

func (b *bottom) Do(ctx context.Context, r sites.Request) (sites.Reply, error) {
	b.world.mu.Lock()
	err, hang := b.world.fail[b.site][r.Service], b.world.hang[b.site]
	if r.Service == sites.Identity {
		b.world.checks[b.site]++
	}
	b.world.mu.Unlock()
	if hang {
		<-ctx.Done()
		return sites.Reply{}, &fault.Error{Kind: fault.Unavailable, Err: ctx.Err()}
	}
	return sites.Reply{}, err
}

// memory is site_health without a database.
type memory struct {
	mu   sync.Mutex // guards rows
	rows map[string]dbschema.SiteHealth
}

func (m *memory) ensure(_ context.Context, names []ident.SiteID, now, probe time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range names {
		if _, ok := m.rows[string(n)]; !ok {
			m.rows[string(n)] = dbschema.SiteHealth{Site: string(n), State: "unknown", NextCheckAt: now, NextProbeAt: probe}
		}
	}
	return nil
}

func (m *memory) due(ctx context.Context, now time.Time) (bool, error) {
	return true, nil
}

func (m *memory) claim(_ context.Context, token string, now, until time.Time, limit int) ([]dbschema.SiteHealth, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var taken []dbschema.SiteHealth
	for name, row := range m.rows {
		if len(taken) < limit && !row.NextCheckAt.After(now) && (row.ClaimUntil == nil || !row.ClaimUntil.After(now)) {
			row.ClaimToken, row.ClaimUntil = token, &until
			m.rows[name] = row
			taken = append(taken, row)
		}
	}
	return taken, nil
}

func (m *memory) finish(_ context.Context, row dbschema.SiteHealth) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows[row.Site].ClaimToken != row.ClaimToken {
		return false, nil
	}
	row.ClaimToken, row.ClaimUntil = "", nil
	m.rows[row.Site] = row
	return true, nil
}

func (m *memory) hasten(_ context.Context, site ident.SiteID, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.rows[string(site)]
	row.NextCheckAt = now
	m.rows[string(site)] = row
	return nil
}

func (m *memory) all(context.Context) ([]dbschema.SiteHealth, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []dbschema.SiteHealth
	for _, row := range m.rows {
		list = append(list, row)
	}
	return list, nil
}

func (m *memory) state(site string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[site].State + " " + m.rows[site].Reason
}

// start runs n loops over one table until the returned function is called.
func start(t *testing.T, w *world, n int, reg prometheus.Registerer) (*memory, []*Loop, func()) {
	t.Helper()
	m := &memory{rows: map[string]dbschema.SiteHealth{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var loops []*Loop
	for i := range n {
		c := Config{Directory: w, Random: func() float64 { return 0 }}
		if i == 0 {
			c.Registerer = reg
		}
		l, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		l.rows = m
		loops = append(loops, l)
		wg.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return m, loops, func() { cancel(); wg.Wait() }
}

var refused = &fault.Error{Kind: fault.Unavailable, Msg: "connection refused"}

// step lets the fake time pass and everything that is due end.
func step(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSiteGoesDownAndComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("east", "west")
		reg := prometheus.NewRegistry()
		m, _, stop := start(t, w, 1, reg)
		defer stop()
		step(time.Second)
		if m.state("east") != "up " || m.state("west") != "up " {
			t.Fatalf("at first: %q, %q", m.state("east"), m.state("west"))
		}
		w.set("east", sites.Compute, refused)
		step(Every)
		if m.state("east") != "up " {
			t.Errorf("after one failure: %q, want up", m.state("east"))
		}
		step(InDoubt + 2*tick)
		if m.state("east") != "down compute: connection refused" || m.state("west") != "up " {
			t.Errorf("after two: %q, west %q", m.state("east"), m.state("west"))
		}
		w.set("east", sites.Compute, nil)
		step(Every)
		if !strings.HasPrefix(m.state("east"), "down") {
			t.Errorf("before the third success: %q, want down", m.state("east"))
		}
		step(2*InDoubt + 3*tick)
		if m.state("east") != "up " {
			t.Errorf("after three: %q, want up", m.state("east"))
		}
		checkMetrics(t, reg)
	})
}

// checkMetrics wants one change of east to down, and names as they should be.
func checkMetrics(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	changes := -1.0
	for _, f := range families {
		for _, metric := range f.Metric {
			if f.GetName() == "headwater_health_changes_total" && metric.Label[0].GetValue() == "east" && metric.Label[1].GetValue() == "down" {
				changes = metric.Counter.GetValue()
			}
		}
	}
	if changes != 1 {
		t.Errorf("%v changes to down were counted, want 1", changes)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

// A caller's failure brings the check forward; it turns no state by itself.
func TestReportHastens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("east")
		m, loops, stop := start(t, w, 1, nil)
		defer stop()
		step(2 * time.Second)
		for range 100 {
			loops[0].Report("east", refused)
		}
		step(100 * time.Millisecond)
		if w.checks["east"] != 2 || m.state("east") != "up " {
			t.Errorf("%d checks, %q; want one more check of a site that is well", w.checks["east"], m.state("east"))
		}
		loops[0].Report("east", nil)
		loops[0].Report("east", &fault.Error{Kind: fault.NotFound})
		step(100 * time.Millisecond)
		if w.checks["east"] != 2 {
			t.Errorf("what says nothing of the site hastened a check")
		}
	})
}

// Three replicas make no more checks than one, and one that hangs delays no other site.
func TestReplicasShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("east", "west")
		w.hang["west"] = true
		m, _, stop := start(t, w, 3, nil)
		defer stop()
		step(10 * Every)
		if n := w.checks["east"]; n < 9 || n > 11 {
			t.Errorf("%d checks of east in ten intervals", n)
		}
		if !strings.HasPrefix(m.state("west"), "down") || !strings.Contains(m.state("west"), "no answer in time") || m.state("east") != "up " {
			t.Errorf("west %q, east %q", m.state("west"), m.state("east"))
		}
	})
}

// An account that lost its roles: degraded with the reason, never down, and well again when they are back.
func TestLostRolesDegrade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("east")
		m, _, stop := start(t, w, 1, nil)
		defer stop()
		w.set("east", sites.Identity, &fault.Error{Kind: fault.Forbidden, Msg: "you are not authorized"})
		step(3 * Every)
		if got := m.state("east"); got != "degraded Top's account lost a role: identity: you are not authorized" {
			t.Errorf("forbidden: %q", got)
		}
		w.set("east", sites.Identity, nil)
		step(5 * Every)
		w.mu.Lock()
		w.lost = "the account is no administrator any more"
		w.mu.Unlock()
		step(ProbeEvery + 2*Every)
		if got := m.state("east"); got != "degraded the account is no administrator any more" {
			t.Errorf("after a probe that found less: %q", got)
		}
		w.mu.Lock()
		w.lost = ""
		w.mu.Unlock()
		step(ProbeAgain + 5*Every)
		if got := m.state("east"); got != "up " {
			t.Errorf("after the roles came back: %q", got)
		}
	})
}

func TestSum(t *testing.T) {
	t.Parallel()
	denied := &fault.Error{Kind: fault.Unauthorized, Msg: "wrong password"}
	for _, tt := range []struct {
		name    string
		tenancy sites.Tenancy
		errs    map[sites.Service]error
		want    Finding
	}{
		{"well", sites.TenancyProject, nil, Finding{State: registry.Up}},
		{"network alone", sites.TenancyShared, map[sites.Service]error{sites.NetworkSvc: refused},
			Finding{registry.Degraded, "network: connection refused"}},
		{"everything", sites.TenancyShared, map[sites.Service]error{sites.Identity: refused, sites.Compute: refused, sites.NetworkSvc: refused},
			Finding{registry.Down, "identity: connection refused; compute: connection refused; network: connection refused"}},
		{"account refused, shared", sites.TenancyShared, map[sites.Service]error{sites.Identity: denied, sites.Compute: denied},
			Finding{registry.Down, "the site refuses Top's account: wrong password"}},
		{"account refused, projects", sites.TenancyProject, map[sites.Service]error{sites.Identity: denied, sites.Compute: denied},
			Finding{registry.Degraded, "the site refuses Top's account: wrong password"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			site := newWorld("east").sites[0]
			site.Tenancy = tt.tenancy
			calls := looks(site)
			errs := make([]error, len(calls))
			for i, l := range calls {
				if err := tt.errs[l.service]; err != nil {
					errs[i] = err
				}
			}
			if got := sum(site, calls, errs); got != tt.want {
				t.Errorf("sum = %+v, want %+v", got, tt.want)
			}
		})
	}
}
