package retry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// flaky fails a number of times and counts.
type flaky struct {
	sites.Adaptor
	sites.ProjectMaker
	failures, calls int
	err             error
	rows            int // told before a failure
}

func (f *flaky) try() error {
	f.calls++
	if f.calls <= f.failures {
		return f.err
	}
	return nil
}

func (f *flaky) Show(context.Context, sites.Kind, ident.BottomID) (sites.Object, error) {
	return sites.Object{}, f.try()
}

func (f *flaky) Create(context.Context, sites.Kind, sites.Body, sites.CreateOptions) (sites.Object, error) {
	return sites.Object{}, f.try()
}

func (f *flaky) Delete(context.Context, sites.Kind, ident.BottomID) error { return f.try() }

func (f *flaky) List(_ context.Context, _ sites.Kind, _ sites.Query, each func(sites.Object) error) error {
	for range f.rows {
		if err := each(sites.Object{}); err != nil {
			return err
		}
	}
	return f.try()
}

func (f *flaky) Do(context.Context, sites.Request) (sites.Reply, error) {
	return sites.Reply{}, f.try()
}

func (f *flaky) Upload(context.Context, ident.BottomID, io.Reader, int64) error { return f.try() }

func (f *flaky) DeleteProject(context.Context, string, string) error { return f.try() }

// now is a configuration whose delays take no time; it notes them.
func now(delays *[]time.Duration) Config {
	return Config{Attempts: 3, Base: 100 * time.Millisecond, Max: 2 * time.Second, Random: func() float64 { return 0.5 },
		Sleep: func(ctx context.Context, d time.Duration) error {
			*delays = append(*delays, d)
			return ctx.Err()
		}}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	unavailable := &fault.Error{Kind: fault.Unavailable}
	ctx := t.Context()
	for _, tt := range []struct {
		name     string
		failures int
		err      error
		rows     int
		call     func(sites.Adaptor) error
		calls    int
		fails    bool
	}{
		{"show recovers", 2, unavailable, 0, func(a sites.Adaptor) error { _, err := a.Show(ctx, sites.Server, "1"); return err }, 3, false},
		{"show gives up", 9, unavailable, 0, func(a sites.Adaptor) error { _, err := a.Show(ctx, sites.Server, "1"); return err }, 3, true},
		{"definite answer", 9, &fault.Error{Kind: fault.NotFound}, 0, func(a sites.Adaptor) error { _, err := a.Show(ctx, sites.Server, "1"); return err }, 1, true},
		{"site asks for too long", 9, &fault.Error{Kind: fault.Unavailable, RetryAfter: 30}, 0, func(a sites.Adaptor) error { return a.Delete(ctx, sites.Server, "1") }, 1, true},
		{"delete", 1, unavailable, 0, func(a sites.Adaptor) error { return a.Delete(ctx, sites.Server, "1") }, 2, false},
		{"create never", 1, unavailable, 0, func(a sites.Adaptor) error {
			_, err := a.Create(ctx, sites.Server, nil, sites.CreateOptions{})
			return err
		}, 1, true},
		{"upload never", 1, unavailable, 0, func(a sites.Adaptor) error { return a.Upload(ctx, "i", nil, 0) }, 1, true},
		{"list before the first row", 1, unavailable, 0, func(a sites.Adaptor) error {
			return a.List(ctx, sites.Server, sites.Query{}, func(sites.Object) error { return nil })
		}, 2, false},
		{"list after a row", 1, unavailable, 1, func(a sites.Adaptor) error {
			return a.List(ctx, sites.Server, sites.Query{}, func(sites.Object) error { return nil })
		}, 1, true},
		{"do get", 1, unavailable, 0, func(a sites.Adaptor) error {
			_, err := a.Do(ctx, sites.Request{Method: http.MethodGet})
			return err
		}, 2, false},
		{"do post", 1, unavailable, 0, func(a sites.Adaptor) error {
			_, err := a.Do(ctx, sites.Request{Method: http.MethodPost})
			return err
		}, 1, true},
		{"do idempotent post", 1, unavailable, 0, func(a sites.Adaptor) error {
			_, err := a.Do(ctx, sites.Request{Method: http.MethodPost, Idempotent: true})
			return err
		}, 2, false},
		{"do with a stream", 1, unavailable, 0, func(a sites.Adaptor) error {
			_, err := a.Do(ctx, sites.Request{Method: http.MethodPut, Body: bytes.NewReader(nil)})
			return err
		}, 1, true},
		{"power", 1, unavailable, 0, func(a sites.Adaptor) error {
			p, ok := sites.As[sites.ProjectMaker](a)
			if !ok {
				return errors.New("the power is lost")
			}
			return p.DeleteProject(ctx, "p", "u")
		}, 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var delays []time.Duration
			f := &flaky{failures: tt.failures, err: tt.err, rows: tt.rows}
			err := tt.call(Wrap(f, now(&delays)))
			if f.calls != tt.calls || (err != nil) != tt.fails {
				t.Errorf("%d calls, error %v; want %d calls, an error: %v", f.calls, err, tt.calls, tt.fails)
			}
		})
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	var delays []time.Duration
	f := &flaky{failures: 9, err: &fault.Error{Kind: fault.Unavailable}}
	c := now(&delays)
	c.Attempts = 8
	_ = Wrap(f, c).Delete(t.Context(), sites.Server, "1")
	want := []int64{50, 100, 200, 400, 800, 1000, 1000}
	for i, d := range delays {
		if d.Milliseconds() != want[i] {
			t.Errorf("delay %d is %v, want %d ms", i, d, want[i])
		}
	}
	if len(delays) != len(want) {
		t.Errorf("%d delays, want %d", len(delays), len(want))
	}
}

// A caller with little time gets the site's reason, not its own time-out.
func TestDeadlineKeepsTheReason(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var delays []time.Duration
	f := &flaky{failures: 9, err: &fault.Error{Kind: fault.Unavailable, Msg: "down"}}
	err := Wrap(f, now(&delays)).Delete(ctx, sites.Server, "1")
	if fault.Message(err) != "down" || f.calls != 1 || len(delays) != 0 {
		t.Errorf("got %v after %d calls and delays %v; want the site's reason at once", err, f.calls, delays)
	}
}
