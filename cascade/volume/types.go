package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// snapshotWait is how long a volume's delete stays away while its snapshots go.
const snapshotWait = time.Second

// typeMaker maps a volume type onto the site's type of the same name. Top makes none at a site: what a
// type means there (backend, QoS) is the site's operator's to say.
type typeMaker struct{ *Service }

var (
	_ cascade.Maker   = typeMaker{}
	_ cascade.Adopter = typeMaker{}
)

// Needs returns nothing.
func (typeMaker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body is not reached: Adopt maps or refuses.
func (typeMaker) Body(_ context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	return nil, &fault.Error{Op: "cascade/volume.Type", Site: string(at.Site), Kind: fault.Conflict, Msg: fmt.Sprintf("Site %s has no volume type %s.", at.Site, r.Name)}
}

// Adopt finds the site's type of the same name.
func (typeMaker) Adopt(ctx context.Context, r *index.Resource, at cascade.At) (ident.BottomID, error) {
	var id ident.BottomID
	err := at.Adaptor.List(ctx, sites.VolumeType, sites.Query{}, func(o sites.Object) error {
		if o.Text("name") == r.Name {
			id = o.ID
		}
		return nil
	})
	return id, err
}

// AdoptSite takes over the site's volume types: one at Top for each name, bound wherever a site has it. Types that
// vanished there, by the rule of cascade.Vanished, are no longer bound there. A *cascade.DoubtError says that what is
// there was taken over and what is not was not believed.
func (s *Service) AdoptSite(ctx context.Context, site ident.SiteID, caps sites.Capabilities) error {
	at, err := s.core.At(ctx, &index.Resource{Kind: sites.VolumeType}, site)
	if err != nil {
		return err
	}
	look := cascade.Look{Kind: sites.VolumeType, Began: s.core.Now(), Admin: caps.Admin, Shown: map[ident.BottomID]bool{}}
	var there []sites.Object
	err = at.Adaptor.List(ctx, sites.VolumeType, sites.Query{AllProjects: caps.Admin}, func(o sites.Object) error {
		look.Shown[o.ID] = true
		there = append(there, o)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list volume types of %s: %w", site, err)
	}
	bound, err := s.core.Bindings.OfSite(ctx, site, sites.VolumeType)
	if err != nil {
		return err
	}
	access := map[ident.BottomID][]string{}
	if caps.Admin { // the lists are an administrator's to read
		if access, err = s.listed(ctx, at, there); err != nil {
			return err
		}
	}
	gone, doubt := s.core.Vanished(ctx, at, look, bound)
	err = s.core.Internal(ctx, func(tx *cascade.Tx) error {
		for _, o := range there {
			if err := s.adoptType(tx, site, o, access); err != nil {
				return err
			}
		}
		renamed, err := s.renamed(tx, bound, there)
		if err != nil {
			return err
		}
		for _, b := range append(renamed, gone...) {
			if err := s.typeGone(tx, b); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, doubt)
}

// renamed returns the bindings of types that have another name at the site by now: those are other types at Top.
func (s *Service) renamed(tx *cascade.Tx, bound []*binding.Binding, there []sites.Object) ([]*binding.Binding, error) {
	names := map[ident.BottomID]string{}
	for _, o := range there {
		names[o.ID] = o.Text("name")
	}
	var out []*binding.Binding
	for _, b := range bound {
		name, shown := names[b.BottomID]
		if !shown {
			continue
		}
		r, err := tx.Load(b.TopID)
		if err != nil {
			return nil, err
		}
		if r.Name != name {
			out = append(out, b)
		}
	}
	return out, nil
}

func (s *Service) adoptType(tx *cascade.Tx, site ident.SiteID, o sites.Object, access map[ident.BottomID][]string) error {
	rows, err := s.core.Index.NamedIn(tx.Tx, sites.VolumeType, o.Text("name"))
	if err != nil {
		return err
	}
	var r *index.Resource
	if len(rows) > 0 {
		r = rows[0]
		if err := s.refreshType(tx, r, site, o, access); err != nil {
			return err
		}
	} else {
		r = index.New(sites.VolumeType, sites.Caller{}, o.Text("name"))
		r.Description, r.State = o.Text("description"), index.Live
		spec := typeSpec(o)
		spec.set(site, access[o.ID])
		if err := r.Encode(spec); err != nil {
			return err
		}
		if err := tx.Insert(r); err != nil {
			return err
		}
	}
	return s.core.Bindings.Adopt(tx.Tx, binding.Binding{
		TopID: r.ID, Site: site, Kind: sites.VolumeType, BottomID: o.ID, Generation: max(r.Generation, 1), Adopted: true,
	})
}

func typeSpec(o sites.Object) TypeSpec {
	public, _ := o.Body["is_public"].(bool)
	return TypeSpec{Public: public, ExtraSpecs: extraSpecs(o)}
}

// refreshType takes over what changed of a type that only this site has; where several have it, the first one's words
// stay. Who may use it there is each site's own.
func (s *Service) refreshType(tx *cascade.Tx, r *index.Resource, site ident.SiteID, o sites.Object, access map[ident.BottomID][]string) error {
	bound, err := s.core.Bindings.OfTopIn(tx.Tx, r.ID)
	if err != nil {
		return err
	}
	was := *r
	var spec TypeSpec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	if len(bound) == 0 || len(bound) == 1 && bound[0].Site == site {
		fresh := typeSpec(o)
		spec.Public, spec.ExtraSpecs, r.Description = fresh.Public, fresh.ExtraSpecs, o.Text("description")
	}
	if list, read := access[o.ID]; read {
		spec.set(site, list)
	} else if public, _ := o.Body["is_public"].(bool); public {
		spec.set(site, nil)
	}
	if err := r.Encode(spec); err != nil {
		return err
	}
	if r.Description == was.Description && bytes.Equal(r.Spec, was.Spec) {
		return nil
	}
	return tx.Save(r)
}

// extraSpecs are what the site shows to everybody of a type's specs.
func extraSpecs(o sites.Object) map[string]string {
	out := map[string]string{}
	specs, _ := o.Body["extra_specs"].(map[string]any)
	for k, v := range specs {
		out[k] = fmt.Sprint(v)
	}
	return out
}

// typeGone forgets a type that a site no longer has; one that no site has and no volume uses ends.
func (s *Service) typeGone(tx *cascade.Tx, b *binding.Binding) error {
	if err := s.core.Bindings.Forget(tx.Tx, b.TopID, b.Site); err != nil {
		return err
	}
	left, err := s.core.Bindings.OfTopIn(tx.Tx, b.TopID)
	if err != nil || len(left) > 0 {
		return err
	}
	users, err := s.core.Index.UsedByIn(tx.Tx, b.TopID, roleType)
	if err != nil || len(users) > 0 {
		return err
	}
	r, err := tx.Load(b.TopID)
	if err != nil || r.State != index.Live {
		return err
	}
	return tx.End(r)
}
