// Package registry holds the registered sites: what each is and can do, the
// accounts that Top uses there, and a logged-in adaptor for each of them.
//
// What it promises: credentials lie sealed in the database and leave this
// package only inside an adaptor; a site that cannot work is refused with the
// reason; a project gets its account at a site once, however many replicas ask
// at the same time and wherever they crash.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Factory makes an adaptor that acts at a site as an account. It makes no call yet.
type Factory func(ident.SiteID, sites.Credential) (sites.Adaptor, error)

// Config is what New needs.
type Config struct {
	DB *dbschema.DB
	// Keys seal the credentials.
	Keys *Keyring
	// Adaptor makes adaptors.
	Adaptor Factory
	// Decorate wraps every adaptor that is handed out, the first innermost (sites/limit, sites/retry). One that
	// hides sites.ProjectMaker does no harm: the registry asks the bare adaptor for it.
	Decorate []func(sites.Adaptor) sites.Adaptor
	// Remover knows what Top holds at a site.
	Remover Remover
	// Gone is told of each site that was removed, by whichever replica, for what this process keeps by site. May be nil; it may be
	// told twice, and must not call the Registry.
	Gone func(ident.SiteID)
	// Quota is the native limit set of each project that Top makes at a site; nil means DefaultQuota.
	Quota map[sites.Service]map[string]int64
	// Fresh is how old an answer from memory may be, in a process that did not make the change itself. 0 means 1 s.
	Fresh time.Duration
	Log   *slog.Logger
	Now   func() time.Time // nil means time.Now
}

// Registry is the set of registered sites. It is safe for concurrent use.
type Registry struct {
	cfg   Config
	store store
	log   *slog.Logger
	now   func() time.Time

	view   atomic.Pointer[view] // never nil after New
	gen    atomic.Int64         // raised by each change made here: what was read before it is stale
	flight singleflight.Group

	mu       sync.Mutex // guards the field below
	sessions map[sessionKey]*session
}

// view is what one reading of the tables found.
type view struct {
	sites []Site // by name
	index map[ident.SiteID]int
	read  time.Time
	gen   int64
}

// refreshLimit bounds one reading of the site tables, which nobody's cancelled request should end for the others.
const refreshLimit = 10 * time.Second

// New reads the registered sites. It fails when a credential is sealed with a
// key that the key file does not have.
func New(ctx context.Context, cfg Config) (*Registry, error) {
	if cfg.DB == nil || cfg.Keys == nil || cfg.Adaptor == nil || cfg.Remover == nil {
		return nil, errors.New("registry: DB, Keys, Adaptor and Remover are required")
	}
	if cfg.Fresh == 0 {
		cfg.Fresh = time.Second
	}
	if cfg.Quota == nil {
		cfg.Quota = DefaultQuota()
	}
	r := &Registry{cfg: cfg, store: store{cfg.DB}, log: cfg.Log, now: cfg.Now, sessions: map[sessionKey]*session{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	ids, err := r.store.keyIDs(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !cfg.Keys.Has(id) {
			return nil, fmt.Errorf("site credentials are sealed with key %s, which the key file %s does not have: restore the key file", id, cfg.Keys.path)
		}
	}
	r.view.Store(&view{gen: -1})
	_, err = r.current(ctx)
	return r, err
}

// Sites returns every registered site, by name. It reads from memory what this
// or another process changed at most Config.Fresh ago. The result is shared:
// change nothing in it.
func (r *Registry) Sites(ctx context.Context) ([]Site, error) {
	v, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	return v.sites, nil
}

// Site returns one site; fault.NotFound when none has the name.
func (r *Registry) Site(ctx context.Context, name ident.SiteID) (Site, error) {
	v, err := r.current(ctx)
	if err != nil {
		return Site{}, err
	}
	i, ok := v.index[name]
	if !ok {
		return Site{}, fault.New(fault.NotFound, "sites/registry.Site", "site %s: not found", name)
	}
	return v.sites[i], nil
}

// Enabled returns the names of the sites that are enabled and not being
// removed: those that Top talks to.
func (r *Registry) Enabled(ctx context.Context) ([]ident.SiteID, error) {
	all, err := r.Sites(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]ident.SiteID, 0, len(all))
	for _, s := range all {
		if s.Enabled && s.State == Active {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

// current returns a view that is fresh enough.
func (r *Registry) current(ctx context.Context) (*view, error) {
	gen := r.gen.Load()
	if v := r.view.Load(); v.gen == gen && r.now().Sub(v.read) < r.cfg.Fresh {
		return v, nil
	}
	// Keyed by generation: who comes after a change does not get what was read before it.
	done := r.flight.DoChan(fmt.Sprint("view ", gen), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshLimit)
		defer cancel()
		return r.refresh(ctx, gen)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("read the sites: %w", ctx.Err())
	case got := <-done:
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Val.(*view), nil
	}
}

func (r *Registry) refresh(ctx context.Context, gen int64) (*view, error) {
	read := r.now()
	list, err := r.store.sites(ctx, r.view.Load().sites)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Health.age(read)
	}
	v := &view{sites: list, index: make(map[ident.SiteID]int, len(list)), read: read, gen: gen}
	for i, s := range list {
		v.index[s.Name] = i
	}
	if r.gen.Load() == gen {
		r.forget(r.view.Swap(v), v)
	}
	return v, nil
}

// forget drops what this process keeps of sites that are there no more, or are others of the same name.
func (r *Registry) forget(before, now *view) {
	for _, old := range before.sites {
		if i, ok := now.index[old.Name]; ok && now.sites[i].Created.Equal(old.Created) {
			continue
		}
		r.drop(old.Name, "")
		if r.cfg.Gone != nil {
			r.cfg.Gone(old.Name)
		}
	}
}

// Invalidate makes the next look at the sites read the database. Changes made through the Registry do it by themselves.
func (r *Registry) Invalidate() { r.gen.Add(1) }

// stamp is the present as it is stored.
func (r *Registry) stamp() time.Time { return r.now().UTC().Truncate(time.Microsecond) }
