package limit

import (
	"context"
	"errors"
	"io"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Adaptor is an adaptor under a Limiter. Its optional powers are reached by sites.As and are under it, too.
type Adaptor struct {
	inner   sites.Adaptor
	limiter *Limiter
}

// Wrap puts an adaptor of the limiter's site under the limiter.
func (l *Limiter) Wrap(inner sites.Adaptor) *Adaptor { return &Adaptor{inner: inner, limiter: l} }

// Unwrap returns the adaptor without the limiter, for sites.As.
func (a *Adaptor) Unwrap() sites.Adaptor { return a.inner }

// Powers returns the inner adaptor's optional powers under the limiter, for sites.As.
func (a *Adaptor) Powers() []any {
	var powers []any
	if p, ok := sites.As[sites.ProjectMaker](a.inner); ok {
		powers = append(powers, projects{p, a.limiter})
	}
	if p, ok := sites.As[sites.FlavorMaker](a.inner); ok {
		powers = append(powers, flavors{p, a.limiter})
	}
	return powers
}

// Site returns the name of the site.
func (a *Adaptor) Site() ident.SiteID { return a.inner.Site() }

// Account implements sites.Adaptor.
func (a *Adaptor) Account(ctx context.Context) (sites.Account, error) {
	return run(ctx, a.limiter, "sites/limit.Account", quick, a.inner.Account)
}

// Probe implements sites.Adaptor.
func (a *Adaptor) Probe(ctx context.Context) (sites.Capabilities, error) {
	return run(ctx, a.limiter, "sites/limit.Probe", long, a.inner.Probe)
}

// Create implements sites.Adaptor.
func (a *Adaptor) Create(ctx context.Context, kind sites.Kind, body sites.Body, opts sites.CreateOptions) (sites.Object, error) {
	return run(ctx, a.limiter, "sites/limit.Create", quick, func(ctx context.Context) (sites.Object, error) {
		return a.inner.Create(ctx, kind, body, opts)
	})
}

// Show implements sites.Adaptor.
func (a *Adaptor) Show(ctx context.Context, kind sites.Kind, id ident.BottomID) (sites.Object, error) {
	return run(ctx, a.limiter, "sites/limit.Show", quick, func(ctx context.Context) (sites.Object, error) { return a.inner.Show(ctx, kind, id) })
}

// List implements sites.Adaptor. It holds one place until the last page: each must not wait for another call to the site.
func (a *Adaptor) List(ctx context.Context, kind sites.Kind, q sites.Query, each func(sites.Object) error) error {
	var own error
	t, err := a.limiter.admit(ctx, "sites/limit.List", long)
	if err != nil {
		return err
	}
	err = a.inner.List(ctx, kind, q, func(o sites.Object) error {
		own = each(o)
		return own
	})
	if own != nil {
		t.done(nil) // the site did answer
	} else {
		t.done(err)
	}
	return err
}

// Update implements sites.Adaptor.
func (a *Adaptor) Update(ctx context.Context, kind sites.Kind, id ident.BottomID, body sites.Body) (sites.Object, error) {
	return run(ctx, a.limiter, "sites/limit.Update", quick, func(ctx context.Context) (sites.Object, error) {
		return a.inner.Update(ctx, kind, id, body)
	})
}

// Delete implements sites.Adaptor.
func (a *Adaptor) Delete(ctx context.Context, kind sites.Kind, id ident.BottomID) error {
	return do(ctx, a.limiter, "sites/limit.Delete", quick, func(ctx context.Context) error { return a.inner.Delete(ctx, kind, id) })
}

// FindMarked implements sites.Adaptor.
func (a *Adaptor) FindMarked(ctx context.Context, kind sites.Kind, marker ident.TopID) ([]sites.Object, error) {
	return run(ctx, a.limiter, "sites/limit.FindMarked", long, func(ctx context.Context) ([]sites.Object, error) {
		return a.inner.FindMarked(ctx, kind, marker)
	})
}

// Do implements sites.Adaptor.
func (a *Adaptor) Do(ctx context.Context, r sites.Request) (sites.Reply, error) {
	return run(ctx, a.limiter, "sites/limit.Do", quick, func(ctx context.Context) (sites.Reply, error) { return a.inner.Do(ctx, r) })
}

// Upload implements sites.Adaptor.
func (a *Adaptor) Upload(ctx context.Context, image ident.BottomID, data io.Reader, size int64) error {
	return do(ctx, a.limiter, "sites/limit.Upload", transfer, func(ctx context.Context) error { return a.inner.Upload(ctx, image, data, size) })
}

// Download implements sites.Adaptor. The place is held until the reader is closed.
func (a *Adaptor) Download(ctx context.Context, image ident.BottomID, offset int64) (io.ReadCloser, int64, error) {
	t, err := a.limiter.admit(ctx, "sites/limit.Download", transfer)
	if err != nil {
		return nil, 0, err
	}
	data, n, err := a.inner.Download(ctx, image, offset)
	if err != nil {
		t.done(err)
		return nil, 0, err
	}
	return &held{ReadCloser: data, ticket: t}, n, nil
}

// held is a download that holds its place.
type held struct {
	io.ReadCloser
	ticket *ticket
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		h.ticket.done(err)
	}
	return n, err
}

// Close implements io.Closer.
func (h *held) Close() error {
	h.ticket.done(nil)
	return h.ReadCloser.Close()
}

// projects is a sites.ProjectMaker under a limiter.
type projects struct {
	inner   sites.ProjectMaker
	limiter *Limiter
}

var _ sites.ProjectMaker = projects{}

// EnsureProject implements sites.ProjectMaker.
func (p projects) EnsureProject(ctx context.Context, name, description string, password ident.Secret) (projectID, userID string, err error) {
	err = do(ctx, p.limiter, "sites/limit.EnsureProject", long, func(ctx context.Context) (err error) {
		projectID, userID, err = p.inner.EnsureProject(ctx, name, description, password)
		return err
	})
	return projectID, userID, err
}

// DeleteProject implements sites.ProjectMaker.
func (p projects) DeleteProject(ctx context.Context, projectID, userID string) error {
	return do(ctx, p.limiter, "sites/limit.DeleteProject", long, func(ctx context.Context) error {
		return p.inner.DeleteProject(ctx, projectID, userID)
	})
}

// SetQuota implements sites.ProjectMaker.
func (p projects) SetQuota(ctx context.Context, projectID string, limits map[sites.Service]map[string]int64) error {
	return do(ctx, p.limiter, "sites/limit.SetQuota", long, func(ctx context.Context) error { return p.inner.SetQuota(ctx, projectID, limits) })
}

// flavors is a sites.FlavorMaker under a limiter.
type flavors struct {
	inner   sites.FlavorMaker
	limiter *Limiter
}

var _ sites.FlavorMaker = flavors{}

// EnsureFlavor implements sites.FlavorMaker.
func (f flavors) EnsureFlavor(ctx context.Context, flavor sites.FlavorInfo, projects ...string) (ident.BottomID, error) {
	return run(ctx, f.limiter, "sites/limit.EnsureFlavor", long, func(ctx context.Context) (ident.BottomID, error) {
		return f.inner.EnsureFlavor(ctx, flavor, projects...)
	})
}

// retryAfter returns the delay that the outermost fault names.
func retryAfter(err error) int {
	var e *fault.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
