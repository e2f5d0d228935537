package compute

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// sameFlavor says that servers cannot tell two flavors apart: size and specs are equal.
func sameFlavor(a, b sites.FlavorInfo) bool {
	return a.VCPUs == b.VCPUs && a.RAM == b.RAM && a.Disk == b.Disk && a.Ephemeral == b.Ephemeral && a.Swap == b.Swap && maps.Equal(a.Extra, b.Extra)
}

// AdoptSite takes over the public flavors of a site: those of equal size and
// specs become one flavor at Top. Flavors that vanished there, by the rule of
// cascade.Vanished, are no longer bound there; the rows stay while another site or Top's administrator keeps them. It
// is idempotent. A *cascade.DoubtError says that what is there was taken over and what is not was not believed.
func (s *Service) AdoptSite(ctx context.Context, site ident.SiteID, caps sites.Capabilities) error {
	gone, doubt := s.vanished(ctx, site, caps)
	err := s.core.Internal(ctx, func(tx *cascade.Tx) error {
		tops, err := s.allFlavors(tx)
		if err != nil {
			return err
		}
		bound, err := s.core.Bindings.OfSiteIn(tx.Tx, site, sites.Flavor)
		if err != nil {
			return err
		}
		a := adoption{s: s, tx: tx, site: site, tops: tops, at: map[ident.TopID]*binding.Binding{}, gone: gone}
		for _, b := range bound {
			a.at[b.TopID] = b
		}
		return a.run(caps.Flavors)
	})
	return errors.Join(err, doubt)
}

// vanished returns the bottoms of adopted flavors that the site no longer has, or no longer shows to everybody.
func (s *Service) vanished(ctx context.Context, site ident.SiteID, caps sites.Capabilities) (map[ident.BottomID]bool, error) {
	at, err := s.core.At(ctx, &index.Resource{Kind: sites.Flavor}, site)
	if err != nil {
		return nil, err
	}
	bound, err := s.core.Bindings.OfSite(ctx, site, sites.Flavor)
	if err != nil {
		return nil, err
	}
	bound = slices.DeleteFunc(bound, func(b *binding.Binding) bool { return !b.Adopted })
	look := cascade.Look{Kind: sites.Flavor, Began: caps.ProbedAt, Admin: caps.Admin, Shown: map[ident.BottomID]bool{}, Still: isPublic}
	for _, info := range caps.Flavors {
		if info.Public {
			look.Shown[info.ID] = true
		}
	}
	lost, err := s.core.Vanished(ctx, at, look, bound)
	gone := map[ident.BottomID]bool{}
	for _, b := range lost {
		gone[b.BottomID] = true
	}
	return gone, err
}

// isPublic reports whether everybody at the site may use a flavor.
func isPublic(o sites.Object) bool {
	public, told := o.Body["os-flavor-access:is_public"].(bool)
	return public || !told
}

// adoption is one walk over a site's flavors.
type adoption struct {
	s    *Service
	tx   *cascade.Tx
	site ident.SiteID
	tops []*Flavor
	at   map[ident.TopID]*binding.Binding // at this site
	gone map[ident.BottomID]bool          // bound here, and surely no longer there
}

func (a *adoption) run(shown []sites.FlavorInfo) error {
	kept, there := map[ident.TopID]bool{}, map[ident.BottomID]sites.FlavorInfo{}
	for _, info := range shown {
		if !info.Public || strings.HasPrefix(info.Name, "hw-") && !a.bound(info.ID) {
			continue // private, or made there by another Top
		}
		there[info.ID] = info
		f := a.match(info, kept)
		if f == nil {
			var err error
			if f, err = a.insert(info); err != nil {
				return err
			}
		}
		kept[f.ID] = true
		b := a.at[f.ID]
		if b != nil && (b.BottomID == info.ID || !b.Adopted) {
			continue
		}
		if err := a.s.core.Bindings.Adopt(a.tx.Tx, binding.Binding{TopID: f.ID, Site: a.site, Kind: sites.Flavor, BottomID: info.ID, Generation: 1, Adopted: true}); err != nil {
			return err
		}
	}
	for _, f := range a.tops {
		// Two flavors of Top may be mapped onto one of the site, when a server needed the second: both stay.
		if info, ok := there[bottomOf(a.at[f.ID])]; ok && sameFlavor(f.info(), info) {
			kept[f.ID] = true
		}
	}
	for id, b := range a.at {
		if _, shown := there[b.BottomID]; b.Adopted && !kept[id] && (shown || a.gone[b.BottomID]) { // shown: with another size
			if err := a.s.core.Bindings.Forget(a.tx.Tx, id, a.site); err != nil {
				return err
			}
		}
	}
	for _, f := range a.tops {
		if err := a.endOrphan(f); err != nil {
			return err
		}
	}
	return nil
}

func (a *adoption) bound(id ident.BottomID) bool {
	for _, b := range a.at {
		if b.BottomID == id {
			return true
		}
	}
	return false
}

// endOrphan ends a flavor that came from a site, when no site and no server has it any more.
func (a *adoption) endOrphan(f *Flavor) error {
	if !f.Spec.Adopted {
		return nil
	}
	bound, err := a.s.core.Bindings.OfTopIn(a.tx.Tx, f.ID)
	if err != nil || len(bound) > 0 {
		return err
	}
	users, err := a.s.core.Index.UsedByIn(a.tx.Tx, f.ID, roleFlavor)
	if err != nil || len(users) > 0 {
		return err
	}
	r, err := a.tx.Load(f.ID)
	if err != nil {
		return err
	}
	return a.tx.Delete(r)
}

func bottomOf(b *binding.Binding) ident.BottomID {
	if b == nil {
		return ""
	}
	return b.BottomID
}

// match finds the flavor that a site's flavor is at Top: the one it is bound to, then one of its name, then any of its size that is free here.
func (a *adoption) match(info sites.FlavorInfo, kept map[ident.TopID]bool) *Flavor {
	var named, sized *Flavor
	for _, f := range a.tops {
		if kept[f.ID] || !sameFlavor(f.info(), info) {
			continue
		}
		if b := a.at[f.ID]; b.Known() {
			if b.BottomID == info.ID {
				return f
			}
			continue
		}
		if f.Name == info.Name && named == nil {
			named = f
		}
		if sized == nil && f.Spec.Public {
			sized = f
		}
	}
	if named != nil {
		return named
	}
	return sized
}

// insert records a flavor for one that a site has. It keeps the site's id where that is free, and its name where
// that is not another's already.
func (a *adoption) insert(info sites.FlavorInfo) (*Flavor, error) {
	f := &Flavor{Resource: &index.Resource{ID: ident.TopID(info.ID), Kind: sites.Flavor, Name: info.Name, State: index.Live, Visibility: public}}
	f.Spec = FlavorSpec{
		Size: Size{VCPUs: int64(info.VCPUs), RAM: int64(info.RAM), Disk: int64(info.Disk), Ephemeral: int64(info.Ephemeral), Swap: int64(info.Swap)},
		RxTx: info.RxTxFactor, Public: true, Extra: info.Extra, Adopted: true,
	}
	if _, err := a.s.core.Index.Load(a.tx.Tx, f.ID); !fault.Is(err, fault.NotFound) {
		if err != nil {
			return nil, err
		}
		f.ID = ident.NewTopID()
	}
	for _, other := range a.tops {
		if other.Name == f.Name {
			f.Name = info.Name + "@" + string(a.site)
		}
	}
	if err := f.Encode(&f.Spec); err != nil {
		return nil, err
	}
	a.tops = append(a.tops, f)
	return f, a.tx.Insert(f.Resource)
}
