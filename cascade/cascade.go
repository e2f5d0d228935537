// Package cascade turns one request into one or many at the bottoms: it records
// what a tenant asked for, makes it true at a site, and remembers which bottom
// stands for which top. It promises that an accepted request ends done or in an
// error that says why, over any crash, and that nothing is made twice.
//
// Core knows no kind of resource by itself: each has a Maker, registered by cmd.
package cascade

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Directory gives sessions at sites.
type Directory interface {
	// Admin returns the session of the site's own account.
	Admin(ctx context.Context, site ident.SiteID) (sites.Adaptor, error)
	// Tenant returns a session that acts for a Top project at the site, making what the tenancy needs on first use.
	Tenant(ctx context.Context, site ident.SiteID, project string) (sites.Adaptor, error)
}

// Config is what a Core is made of.
type Config struct {
	DB        *dbschema.DB
	Index     *index.Store
	Bindings  *binding.Store
	Quota     *quota.Store
	Audit     *audit.Store
	Directory Directory
	Log       *slog.Logger
	Now       func() time.Time
	// CallTimeout bounds one site call. Default 60 s.
	CallTimeout time.Duration
	// SettleTime is how long after an attempt without an answer the site may still carry it out; a second
	// attempt waits for its end. Default twice CallTimeout (cascade/README.md: Markers).
	SettleTime time.Duration
	// Makers knows each kind. The map is owned by the Core after New.
	Makers map[sites.Kind]Maker
}

// DefaultCallTimeout bounds a site call unless Config says otherwise.
const DefaultCallTimeout = 60 * time.Second

// Core is the engine.
type Core struct {
	DB       *dbschema.DB
	Index    *index.Store
	Bindings *binding.Store
	Quota    *quota.Store
	Audit    *audit.Store

	directory Directory
	log       *slog.Logger
	now       func() time.Time
	timeout   time.Duration
	settle    time.Duration
	makers    map[sites.Kind]Maker
	flight    *singleflight.Group // one Ensure per pair in this process
}

// New returns a Core.
func New(cfg Config) *Core {
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = DefaultCallTimeout
	}
	if cfg.SettleTime == 0 {
		cfg.SettleTime = 2 * cfg.CallTimeout
	}
	if cfg.Makers == nil {
		cfg.Makers = map[sites.Kind]Maker{}
	}
	return &Core{
		DB: cfg.DB, Index: cfg.Index, Bindings: cfg.Bindings, Quota: cfg.Quota, Audit: cfg.Audit,
		directory: cfg.Directory, log: cfg.Log, now: cfg.Now, timeout: cfg.CallTimeout, settle: cfg.SettleTime,
		makers: cfg.Makers, flight: &singleflight.Group{},
	}
}

// Register adds the maker of a kind. It is for set-up, before anything runs:
// a vertical needs the Core that its makers are registered with.
func (c *Core) Register(kind sites.Kind, m Maker) { c.makers[kind] = m }

// Now is the Core's clock, as it is stored.
func (c *Core) Now() time.Time { return index.Stamp(c.now()) }

// Log is the Core's logger.
func (c *Core) Log() *slog.Logger { return c.log }

func (c *Core) maker(kind sites.Kind) (Maker, error) {
	m, ok := c.makers[kind]
	if !ok {
		return nil, fmt.Errorf("no maker is registered for kind %s", kind)
	}
	return m, nil
}

// session returns the adaptor that holds resources of the row: its project's, or the site's own for what belongs to no project.
func (c *Core) session(ctx context.Context, site ident.SiteID, project string) (sites.Adaptor, error) {
	if project == "" {
		return c.directory.Admin(ctx, site)
	}
	return c.directory.Tenant(ctx, site, project)
}

// At returns the session in which a row's bottom lives at a site.
func (c *Core) At(ctx context.Context, r *index.Resource, site ident.SiteID) (At, error) {
	a, err := c.session(ctx, site, r.ProjectID)
	if err != nil {
		return At{}, err
	}
	return At{Site: site, Adaptor: a, core: c}, nil
}

// At is one site as one project sees it, with the translation of ids.
type At struct {
	Site    ident.SiteID
	Adaptor sites.Adaptor
	core    *Core
}

// Bottom returns the id that a top resource has at the site; fault.Conflict when it has none there.
func (a At) Bottom(ctx context.Context, id ident.TopID) (ident.BottomID, error) {
	b, err := a.core.Bindings.Get(ctx, id, a.Site)
	if err != nil {
		return "", err
	}
	if !b.Known() {
		return "", &fault.Error{Op: "cascade.Bottom", Site: string(a.Site), Kind: fault.Conflict, Msg: fmt.Sprintf("%s does not exist at site %s.", id, a.Site)}
	}
	return b.BottomID, nil
}

// Top returns the top id that a bottom id of the kind stands for, or "" when nothing is bound to it.
func (a At) Top(ctx context.Context, kind sites.Kind, id ident.BottomID) (ident.TopID, error) {
	tops, err := a.core.Bindings.Tops(ctx, a.Site, kind, id)
	return tops[id], err
}

// Tops is Top for many ids at once; those that nothing is bound to are left out.
func (a At) Tops(ctx context.Context, kind sites.Kind, ids ...ident.BottomID) (map[ident.BottomID]ident.TopID, error) {
	return a.core.Bindings.Tops(ctx, a.Site, kind, ids...)
}

// Admin returns the session of the site's own account.
func (a At) Admin(ctx context.Context) (sites.Adaptor, error) {
	return a.core.directory.Admin(ctx, a.Site)
}
