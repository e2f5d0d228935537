// Package retry repeats what may be repeated: calls of an adaptor that change
// nothing when done twice and that failed because the site was unavailable for
// a moment. What must not be repeated blindly (Create, an action) it passes
// through once.
package retry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Config says how often and how long. A zero member takes its default.
type Config struct {
	Attempts int                                        // in all (4)
	Base     time.Duration                              // greatest delay before the second attempt (200 ms); it doubles with each
	Max      time.Duration                              // greatest delay (5 s); a site that asks for a longer one is not tried again
	Random   func() float64                             // in [0,1); nil: math/rand
	Sleep    func(context.Context, time.Duration) error // nil: a timer
}

// Adaptor repeats the calls of another. Its optional powers are reached by sites.As and are repeated, too.
type Adaptor struct {
	inner sites.Adaptor
	conf  Config
}

var _ sites.Adaptor = (*Adaptor)(nil)

// Wrap returns an adaptor that repeats the idempotent calls of inner. It
// belongs around sites/limit, so that each attempt waits for its place.
func Wrap(inner sites.Adaptor, c Config) *Adaptor {
	if c.Attempts <= 0 {
		c.Attempts = 4
	}
	if c.Base <= 0 {
		c.Base = 200 * time.Millisecond
	}
	if c.Max <= 0 {
		c.Max = 5 * time.Second
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	return &Adaptor{inner: inner, conf: c}
}

// sleep waits, or returns why it did not.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run repeats a call while it fails as Unavailable, and returns the last outcome.
func run[T any](ctx context.Context, c Config, call func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		got, err := call()
		if err == nil || attempt >= c.Attempts || !fault.Is(err, fault.Unavailable) {
			return got, err
		}
		delay, ok := c.delay(attempt, err)
		if deadline, bounded := ctx.Deadline(); bounded && time.Until(deadline) <= delay {
			ok = false // the caller is better off with the reason than with its own time-out
		}
		if !ok || c.Sleep(ctx, delay) != nil {
			return got, err
		}
	}
}

// delay is how long to wait after a failed attempt: full jitter under a
// doubling bound, not less than the site asked for. It reports false when the site asked for too much.
func (c Config) delay(attempt int, err error) (time.Duration, bool) {
	bound := min(c.Base<<min(attempt-1, 20), c.Max)
	d := time.Duration(float64(bound) * c.Random())
	var e *fault.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		asked := time.Duration(e.RetryAfter) * time.Second
		return asked + d, asked <= c.Max
	}
	return d, true
}

// do is run for a call that returns only an error.
func do(ctx context.Context, c Config, call func() error) error {
	_, err := run(ctx, c, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// Unwrap returns the adaptor that is not repeated, for sites.As.
func (a *Adaptor) Unwrap() sites.Adaptor { return a.inner }

// Powers returns the inner adaptor's optional powers, repeated, for sites.As.
func (a *Adaptor) Powers() []any {
	var powers []any
	if p, ok := sites.As[sites.ProjectMaker](a.inner); ok {
		powers = append(powers, projects{p, a.conf})
	}
	if p, ok := sites.As[sites.FlavorMaker](a.inner); ok {
		powers = append(powers, flavors{p, a.conf})
	}
	return powers
}

// Site returns the name of the site.
func (a *Adaptor) Site() ident.SiteID { return a.inner.Site() }

// Account implements sites.Adaptor.
func (a *Adaptor) Account(ctx context.Context) (sites.Account, error) {
	return run(ctx, a.conf, func() (sites.Account, error) { return a.inner.Account(ctx) })
}

// Probe implements sites.Adaptor; it is not repeated: an operator waits for its reason.
func (a *Adaptor) Probe(ctx context.Context) (sites.Capabilities, error) { return a.inner.Probe(ctx) }

// Create implements sites.Adaptor; it is not repeated: the caller looks for the marker first.
func (a *Adaptor) Create(ctx context.Context, kind sites.Kind, body sites.Body, opts sites.CreateOptions) (sites.Object, error) {
	return a.inner.Create(ctx, kind, body, opts)
}

// Show implements sites.Adaptor.
func (a *Adaptor) Show(ctx context.Context, kind sites.Kind, id ident.BottomID) (sites.Object, error) {
	return run(ctx, a.conf, func() (sites.Object, error) { return a.inner.Show(ctx, kind, id) })
}

// List implements sites.Adaptor. It is repeated only while each has seen nothing.
func (a *Adaptor) List(ctx context.Context, kind sites.Kind, q sites.Query, each func(sites.Object) error) error {
	var final error
	begun := false
	err := do(ctx, a.conf, func() error {
		err := a.inner.List(ctx, kind, q, func(o sites.Object) error {
			begun = true
			return each(o)
		})
		if begun {
			final = err
			return nil
		}
		return err
	})
	if begun {
		return final
	}
	return err
}

// Update implements sites.Adaptor.
func (a *Adaptor) Update(ctx context.Context, kind sites.Kind, id ident.BottomID, body sites.Body) (sites.Object, error) {
	return run(ctx, a.conf, func() (sites.Object, error) { return a.inner.Update(ctx, kind, id, body) })
}

// Delete implements sites.Adaptor. NotFound after a lost reply means done, as always.
func (a *Adaptor) Delete(ctx context.Context, kind sites.Kind, id ident.BottomID) error {
	return do(ctx, a.conf, func() error { return a.inner.Delete(ctx, kind, id) })
}

// FindMarked implements sites.Adaptor.
func (a *Adaptor) FindMarked(ctx context.Context, kind sites.Kind, marker ident.TopID) ([]sites.Object, error) {
	return run(ctx, a.conf, func() ([]sites.Object, error) { return a.inner.FindMarked(ctx, kind, marker) })
}

// Do implements sites.Adaptor. It is repeated when the request is idempotent and its body can be sent again.
func (a *Adaptor) Do(ctx context.Context, r sites.Request) (sites.Reply, error) {
	if _, stream := r.Body.(io.Reader); stream || !idempotent(r) {
		return a.inner.Do(ctx, r)
	}
	return run(ctx, a.conf, func() (sites.Reply, error) { return a.inner.Do(ctx, r) })
}

func idempotent(r sites.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Idempotent
}

// Upload implements sites.Adaptor; it is not repeated: the data was read already.
func (a *Adaptor) Upload(ctx context.Context, image ident.BottomID, data io.Reader, size int64) error {
	return a.inner.Upload(ctx, image, data, size)
}

// Download implements sites.Adaptor; its beginning is repeated, what breaks later the caller resumes by offset.
func (a *Adaptor) Download(ctx context.Context, image ident.BottomID, offset int64) (io.ReadCloser, int64, error) {
	var n int64
	data, err := run(ctx, a.conf, func() (data io.ReadCloser, err error) {
		data, n, err = a.inner.Download(ctx, image, offset)
		return data, err
	})
	return data, n, err
}

// projects is a sites.ProjectMaker whose calls are repeated.
type projects struct {
	inner sites.ProjectMaker
	conf  Config
}

var _ sites.ProjectMaker = projects{}

// EnsureProject implements sites.ProjectMaker.
func (p projects) EnsureProject(ctx context.Context, name, description string, password ident.Secret) (projectID, userID string, err error) {
	err = do(ctx, p.conf, func() (err error) {
		projectID, userID, err = p.inner.EnsureProject(ctx, name, description, password)
		return err
	})
	return projectID, userID, err
}

// DeleteProject implements sites.ProjectMaker.
func (p projects) DeleteProject(ctx context.Context, projectID, userID string) error {
	return do(ctx, p.conf, func() error { return p.inner.DeleteProject(ctx, projectID, userID) })
}

// SetQuota implements sites.ProjectMaker.
func (p projects) SetQuota(ctx context.Context, projectID string, limits map[sites.Service]map[string]int64) error {
	return do(ctx, p.conf, func() error { return p.inner.SetQuota(ctx, projectID, limits) })
}

// flavors is a sites.FlavorMaker whose calls are repeated.
type flavors struct {
	inner sites.FlavorMaker
	conf  Config
}

var _ sites.FlavorMaker = flavors{}

// EnsureFlavor implements sites.FlavorMaker.
func (f flavors) EnsureFlavor(ctx context.Context, flavor sites.FlavorInfo, projects ...string) (ident.BottomID, error) {
	return run(ctx, f.conf, func() (ident.BottomID, error) { return f.inner.EnsureFlavor(ctx, flavor, projects...) })
}
