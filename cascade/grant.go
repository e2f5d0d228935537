package cascade

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Granter makes a row usable, at a site, for a project that does not own it: an image that was shared, a private volume type. What a
// project may see at Top is decided above; at the site its resources lie in another project.
type Granter interface {
	// Grant is called whenever a row of the project needs r at the site, so it costs nothing when there is nothing to do.
	Grant(ctx context.Context, r *index.Resource, at At, bottom ident.BottomID, project string) error
}

// EnsureFor is Ensure on behalf of a project: what belongs to another is made usable for it there.
func (c *Core) EnsureFor(ctx context.Context, site ident.SiteID, id ident.TopID, project string) (ident.BottomID, error) {
	bottom, err := c.Ensure(ctx, site, id)
	if err != nil {
		return "", err
	}
	r, err := c.Index.Get(ctx, id)
	if err != nil {
		return "", err
	}
	return bottom, c.grant(ctx, site, r, bottom, project)
}

func (c *Core) grant(ctx context.Context, site ident.SiteID, r *index.Resource, bottom ident.BottomID, project string) error {
	g, ok := c.makers[r.Kind].(Granter)
	if !ok || r.ProjectID == project {
		return nil
	}
	at, err := c.At(ctx, r, site)
	if err != nil {
		return err
	}
	if err := g.Grant(ctx, r, at, bottom, project); err != nil {
		return fmt.Errorf("grant %s %s at %s: %w", r.Kind, r.ID, site, err)
	}
	return nil
}

// ProjectOf returns the id of the project at the site in which a project of Top acts.
func (a At) ProjectOf(ctx context.Context, project string) (string, error) {
	session, err := a.core.session(ctx, a.Site, project)
	if err != nil {
		return "", err
	}
	account, err := session.Account(ctx)
	return account.ProjectID, err
}
