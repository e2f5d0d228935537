package limit

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// fake is an adaptor whose Show does what the test says; it can make projects.
type fake struct {
	sites.Adaptor
	sites.ProjectMaker
	show func(context.Context) error
}

func (f *fake) Site() ident.SiteID { return "east" }

func (f *fake) Show(ctx context.Context, _ sites.Kind, id ident.BottomID) (sites.Object, error) {
	return sites.Object{ID: id}, f.show(ctx)
}

func (f *fake) List(_ context.Context, _ sites.Kind, _ sites.Query, each func(sites.Object) error) error {
	return each(sites.Object{ID: "1"})
}

func (f *fake) Download(context.Context, ident.BottomID, int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader("x")), 1, nil
}

func (f *fake) SetQuota(ctx context.Context, _ string, _ map[sites.Service]map[string]int64) error {
	return f.show(ctx)
}

var errDown = &fault.Error{Op: "x", Kind: fault.Unavailable, Msg: "site east does not answer"}

// fixed removes jitter: 0.8 + 0.4*0.5 is 1.
func fixed() float64 { return 0.5 }

func show(t *testing.T, a sites.Adaptor) error {
	t.Helper()
	_, err := a.Show(t.Context(), sites.Server, "1")
	return err
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var phases []Phase
		down, calls := true, 0
		l := New("east", Config{OpenAfter: 3, CloseAfter: 2, OpenFor: 10 * time.Second, MaxOpenFor: 15 * time.Second, Random: fixed,
			OnChange: func(s State) { phases = append(phases, s.Phase) }})
		f := &fake{show: func(context.Context) error {
			calls++
			if down {
				return errDown
			}
			return nil
		}}
		one, other := l.Wrap(f), l.Wrap(f) // two accounts of the site share the breaker
		for range 3 {
			_ = show(t, one)
		}
		err := show(t, other)
		var e *fault.Error
		if !errors.As(err, &e) || e.Kind != fault.Unavailable || e.RetryAfter != 10 || !strings.Contains(e.Msg, "east") || calls != 3 {
			t.Fatalf("after three failures: %v (retry after %d), %d calls; want a refusal that names east, retry after 10, 3 calls", err, e.RetryAfter, calls)
		}
		time.Sleep(10 * time.Second)
		if _ = show(t, one); calls != 4 || l.State().Phase != Open {
			t.Fatalf("the trial after 10 s: %d calls, %s; want 4, open", calls, l.State().Phase)
		}
		time.Sleep(14 * time.Second)
		if _ = show(t, one); calls != 4 {
			t.Fatalf("%d calls 14 s after a failed trial, want 4: the period doubles, up to its bound of 15 s", calls)
		}
		time.Sleep(time.Second)
		down = false
		if err := show(t, one); err != nil || l.State().Phase != HalfOpen {
			t.Fatalf("the first good trial: %v, %s; want half-open", err, l.State().Phase)
		}
		if err := show(t, one); err != nil || l.State().Phase != Closed {
			t.Fatalf("the second good trial: %v, %s; want closed", err, l.State().Phase)
		}
		want := []Phase{Open, HalfOpen, Open, HalfOpen, Closed}
		if len(phases) != len(want) {
			t.Fatalf("phases %v, want %v", phases, want)
		}
	})
}

func TestHalfOpenLetsOneThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var block bool
		l := New("east", Config{OpenAfter: 1, OpenFor: time.Second, Random: fixed})
		a := l.Wrap(&fake{show: func(context.Context) error {
			if block {
				<-release
				return nil
			}
			return errDown
		}})
		_ = show(t, a)
		time.Sleep(time.Second)
		block = true
		var wg sync.WaitGroup
		wg.Go(func() { _ = show(t, a) })
		synctest.Wait()
		if err := show(t, a); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a second call during the trial: %v, want Unavailable", err)
		}
		if _, _, err := a.Download(t.Context(), "i", 0); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a download during the trial: %v, want Unavailable", err)
		}
		close(release)
		wg.Wait()
	})
}

func TestWhatCountsAgainstASite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want Phase
	}{
		{"unavailable", errDown, Open},
		{"ambiguous", &fault.Error{Kind: fault.Ambiguous}, Open},
		{"busy, says when", &fault.Error{Kind: fault.Unavailable, RetryAfter: 3}, Closed},
		{"not found", &fault.Error{Kind: fault.NotFound}, Closed},
		{"wrong password", &fault.Error{Kind: fault.Unauthorized}, Closed},
		{"nobody's", errors.New("x"), Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := New("east", Config{OpenAfter: 2})
			a := l.Wrap(&fake{show: func(context.Context) error { return tt.err }})
			for range 2 {
				_ = show(t, a)
			}
			if got := l.State().Phase; got != tt.want {
				t.Errorf("after two: %s, want %s", got, tt.want)
			}
		})
	}
}

// A caller that hangs up after a moment says nothing about the site.
func TestHastyCallerDoesNotOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New("east", Config{OpenAfter: 1})
		a := l.Wrap(&fake{show: func(ctx context.Context) error {
			<-ctx.Done()
			return errDown
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = a.Show(ctx, sites.Server, "1")
		if got := l.State().Phase; got != Closed {
			t.Errorf("after a hasty caller: %s, want closed", got)
		}
		if _ = show(t, a); l.State().Phase != Open { // the limiter's own minute
			t.Errorf("after a time-out: %s, want open", l.State().Phase)
		}
	})
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		l := New("east", Config{Concurrency: 3})
		a := l.Wrap(&fake{show: func(context.Context) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}})
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() { _ = show(t, a) })
		}
		synctest.Wait()
		if s := l.State(); s.Running != 3 || s.Waiting != 9 {
			t.Errorf("running %d, waiting %d; want 3 and 9", s.Running, s.Waiting)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := a.Show(ctx, sites.Server, "1"); !fault.Is(err, fault.Unavailable) {
			t.Errorf("no place in time: %v, want Unavailable", err)
		}
		wg.Wait()
		if s := l.State(); most != 3 || s.Running != 0 || s.Waiting != 0 {
			t.Errorf("at most %d at once, %d running and %d waiting at the end; want 3, 0, 0", most, s.Running, s.Waiting)
		}
	})
}

func TestTransfersHoldTheirPlace(t *testing.T) {
	t.Parallel()
	l := New("east", Config{Transfers: 1})
	a := l.Wrap(&fake{show: func(context.Context) error { return nil }})
	first, _, err := a.Download(t.Context(), "i", 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.Download(ctx, "i", 0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a second transfer: %v, want Unavailable", err)
	}
	if err := show(t, a); err != nil {
		t.Errorf("a call beside a transfer: %v", err)
	}
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	again, _, err := a.Download(t.Context(), "i", 0)
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	_ = again.Close()
}

func TestPowersStayReachable(t *testing.T) {
	t.Parallel()
	l := New("east", Config{OpenAfter: 1})
	a := l.Wrap(&fake{show: func(context.Context) error { return errDown }})
	maker, ok := sites.As[sites.ProjectMaker](a)
	if !ok {
		t.Fatal("the power to make projects is lost")
	}
	_ = maker.SetQuota(t.Context(), "p", nil)
	if l.State().Phase != Open {
		t.Error("the power is reached past the limiter")
	}
	if _, ok := sites.As[sites.FlavorMaker](a); ok {
		t.Error("a power appeared that the adaptor lacks")
	}
}

// Whoever is told of a change may look at the limiter, and each change is told once, in order.
func TestChangesAreToldWithoutALock(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []Phase
	var l *Limiter
	l = New("east", Config{OpenAfter: 1, OnChange: func(s State) {
		_ = l.State()
		mu.Lock()
		defer mu.Unlock()
		told = append(told, s.Phase)
	}})
	a := l.Wrap(&fake{show: func(context.Context) error { return errDown }})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _ = show(t, a) })
	}
	wg.Wait()
	if len(told) != 1 || told[0] != Open {
		t.Errorf("told %v, want open once", told)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	l := New("east", Config{OpenAfter: 2, Metrics: m})
	a := l.Wrap(&fake{show: func(context.Context) error { return errDown }})
	for range 3 {
		_ = show(t, a)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			name := f.GetName()
			for _, label := range series.GetLabel() {
				if label.GetName() == "outcome" {
					name = label.GetValue()
				}
			}
			got[name] = series.GetCounter().GetValue() + series.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{"unavailable": 2, "refused": 1, "done": 0, "busy": 0, "ambiguous": 0,
		"headwater_limit_breaker_open": 1, "headwater_limit_calls_running": 0} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, ok, want)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	l.Retire()
	_ = show(t, a) // by an adaptor that somebody kept: its series came back
	if families, err = reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d families of a removed site (%v), want none", len(families), err)
	}
}

// An error of the function given to List is no failure of the site, and comes back as it is.
func TestListKeepsTheCallersError(t *testing.T) {
	t.Parallel()
	l := New("east", Config{OpenAfter: 1})
	own := &fault.Error{Kind: fault.Unavailable, Msg: "our database"}
	err := l.Wrap(&fake{}).List(t.Context(), sites.Server, sites.Query{}, func(sites.Object) error { return own })
	if !errors.Is(err, own) || l.State().Phase != Closed {
		t.Errorf("got %v, %s; want the caller's error, closed", err, l.State().Phase)
	}
}
