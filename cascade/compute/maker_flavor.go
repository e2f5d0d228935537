package compute

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

// flavorMaker makes flavors at sites, where Top may.
type flavorMaker struct{ *Service }

var (
	_ cascade.Adopter = flavorMaker{}
	_ cascade.Creator = flavorMaker{}
	_ cascade.Changer = flavorMaker{}
)

// Needs returns nothing: a flavor stands alone.
func (flavorMaker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body returns nothing: Create does it all.
func (flavorMaker) Body(context.Context, *index.Resource, cascade.At) (sites.Body, error) {
	return sites.Body{}, nil
}

// Adopt binds a public flavor of equal size and specs that the site has.
func (m flavorMaker) Adopt(ctx context.Context, r *index.Resource, at cascade.At) (ident.BottomID, error) {
	f, err := decodeFlavor(r)
	if err != nil {
		return "", err
	}
	all, err := m.registry.Sites(ctx)
	if err != nil {
		return "", err
	}
	for i := range all {
		if all[i].Name != at.Site {
			continue
		}
		var any ident.BottomID
		for _, there := range all[i].Capabilities.Flavors {
			if !there.Public || !sameFlavor(f.info(), there) {
				continue
			}
			if there.Name == f.Name {
				return there.ID, nil
			}
			any = there.ID
		}
		return any, nil
	}
	return "", nil
}

// Create makes the flavor where the site's account is an administrator.
func (m flavorMaker) Create(ctx context.Context, r *index.Resource, at cascade.At, _ sites.Body) (sites.Object, error) {
	f, err := decodeFlavor(r)
	if err != nil {
		return sites.Object{}, err
	}
	power, ok := sites.As[sites.FlavorMaker](at.Adaptor)
	if !ok {
		return sites.Object{}, noFlavor(f, at.Site)
	}
	id, err := power.EnsureFlavor(ctx, f.madeInfo())
	if fault.Is(err, fault.Forbidden) {
		err = noFlavor(f, at.Site)
	}
	return sites.Object{ID: id}, err
}

func noFlavor(f *Flavor, site ident.SiteID) error {
	return &fault.Error{Op: "cascade/compute.Create", Site: string(site), Kind: fault.Conflict,
		Msg: fmt.Sprintf("Site %s has no flavor of the size of %s (%d vCPUs, %d MiB, %d GiB), and Top may not make one there.", site, f.Name, f.Spec.VCPUs, f.Spec.RAM, f.Spec.Disk)}
}

// Change gives the flavor that Top made at a site the extra specs that it has now; its size never changes.
func (m flavorMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	f, err := decodeFlavor(r)
	if err != nil {
		return err
	}
	path := "flavors/" + string(bottom) + "/os-extra_specs"
	reply, err := at.Adaptor.Do(ctx, sites.Request{Service: sites.Compute, Method: http.MethodGet, Path: path})
	if err != nil {
		return err
	}
	have, _ := reply.Body["extra_specs"].(map[string]any)
	for key := range have {
		if _, wanted := f.Spec.Extra[key]; wanted {
			continue
		}
		_, err := at.Adaptor.Do(ctx, sites.Request{Service: sites.Compute, Method: http.MethodDelete, Path: path + "/" + key})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	if len(f.Spec.Extra) == 0 {
		return nil
	}
	_, err = at.Adaptor.Do(ctx, sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: path, Body: sites.Body{"extra_specs": f.Spec.Extra}, Idempotent: true})
	return err
}

// grantFlavor gives the project's account at the site the use of a private flavor that Top made there.
func (s *Service) grantFlavor(ctx context.Context, id ident.TopID, at cascade.At) error {
	r, err := s.core.Index.Get(ctx, id)
	if err != nil {
		return err
	}
	f, err := decodeFlavor(r)
	if err != nil || f.Spec.Public {
		return err
	}
	b, err := s.core.Bindings.Get(ctx, id, at.Site)
	if err != nil || b == nil || b.Adopted {
		return err
	}
	account, err := at.Adaptor.Account(ctx)
	if err != nil {
		return err
	}
	admin, err := at.Admin(ctx)
	if err != nil {
		return err
	}
	power, ok := sites.As[sites.FlavorMaker](admin)
	if !ok {
		return nil
	}
	_, err = power.EnsureFlavor(ctx, f.madeInfo(), account.ProjectID)
	return err
}
