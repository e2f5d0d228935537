package image

import (
	"context"
	"fmt"
	"net/http"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Who may use an image is decided at Top. At a site its bytes lie in its owner's
// project there, and Nova and Cinder look for them as the project that boots. So
// a public image is public there (community, which its owner may set, where Top is no
// administrator), a community one is community, and a shared one gets the member when a
// project first needs it there. Where all projects share one account nothing is to do.

// publish makes a public image public at a site, or as good as that.
func (m maker) publish(ctx context.Context, r *index.Resource, at cascade.At, have sites.Object) error {
	if r.Visibility != Public {
		return nil
	}
	site, err := m.registry.Site(ctx, at.Site)
	if err != nil {
		return err
	}
	a, want := at.Adaptor, Community
	if site.Capabilities.Admin {
		want = Public
		if a, err = at.Admin(ctx); err != nil {
			return err
		}
	}
	if have.Text("visibility") == want {
		return nil
	}
	_, err = a.Update(ctx, sites.Image, have.ID, sites.Body{"visibility": want})
	return err
}

// Grant lets another project use an image at a site where it needs it.
func (m maker) Grant(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID, project string) error {
	if r.ProjectID == "" {
		return nil // a site's own, for all
	}
	if r.Visibility != Shared {
		return m.caughtUp(ctx, r, at.Site)
	}
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	if _, member := spec.Members[project]; !member {
		return nil // an administrator's server: what the site says to it is the answer
	}
	owner, err := at.ProjectOf(ctx, r.ProjectID)
	if err != nil {
		return err
	}
	there, err := at.ProjectOf(ctx, project)
	if err != nil || there == owner {
		return err
	}
	if err := m.caughtUp(ctx, r, at.Site); err != nil {
		return err
	}
	_, err = at.Adaptor.Do(ctx, sites.Request{
		Service: sites.ImageService, Method: http.MethodPost, Path: memberPath(bottom, ""), Body: sites.Body{"member": there}, Idempotent: true,
	})
	if fault.Is(err, fault.Conflict) {
		err = nil // a member already
	}
	return err
}

// caughtUp waits until a changed visibility is pushed to a site.
func (m maker) caughtUp(ctx context.Context, r *index.Resource, site ident.SiteID) error {
	b, err := m.core.Bindings.Get(ctx, r.ID, site)
	if err == nil && b.Known() && !b.Adopted && b.Generation < r.Generation {
		err = &cascade.WaitError{After: copyPoll / 4, For: "the change of " + describe(r, site)}
	}
	return err
}

// unshare takes an image at a site from the projects that are no members any more. Members that Top does not know stay.
func (m maker) unshare(ctx context.Context, spec Spec, at cascade.At, have sites.Object) error {
	if have.Text("visibility") != Shared {
		return nil // Glance tells members of shared images only
	}
	reply, err := at.Adaptor.Do(ctx, sites.Request{Service: sites.ImageService, Method: http.MethodGet, Path: memberPath(have.ID, "")})
	if err != nil {
		return err
	}
	list, _ := reply.Body["members"].([]any)
	if len(list) == 0 {
		return nil
	}
	accounts, err := m.registry.Projects(ctx, at.Site)
	if err != nil {
		return err
	}
	tops := map[string]string{}
	for _, a := range accounts {
		tops[a.BottomProjectID] = a.ProjectID
	}
	for _, item := range list {
		one, _ := item.(map[string]any)
		there, _ := one["member_id"].(string)
		project, ours := tops[there]
		if _, member := spec.Members[project]; !ours || member {
			continue
		}
		_, err := at.Adaptor.Do(ctx, sites.Request{Service: sites.ImageService, Method: http.MethodDelete, Path: memberPath(have.ID, there)})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("take image %s from project %s: %w", have.ID, there, err)
		}
	}
	return nil
}

func memberPath(image ident.BottomID, member string) string {
	path := "images/" + string(image) + "/members"
	if member != "" {
		path += "/" + member
	}
	return path
}
