package compute

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// FlavorSpec is the desired state of a flavor.
type FlavorSpec struct {
	Size
	RxTx   float64           `json:"rxtx_factor"`
	Public bool              `json:"public"`
	Extra  map[string]string `json:"extra_specs,omitempty"`
	Access []string          `json:"access,omitempty"` // projects that may use a private one
	// Adopted says that it came from a site: it ends when no site has it any more and no server.
	Adopted bool `json:"adopted,omitempty"`
}

// Flavor is a flavor's row with its desired state.
type Flavor struct {
	*index.Resource
	Spec FlavorSpec
}

const (
	public  = "public"
	private = "private"
)

func decodeFlavor(r *index.Resource) (*Flavor, error) {
	f := &Flavor{Resource: r}
	return f, r.Decode(&f.Spec)
}

func (f *Flavor) usableBy(c sites.Caller) bool {
	return f.Spec.Public || c.Admin() || c.ProjectID != "" && slices.Contains(f.Spec.Access, c.ProjectID)
}

// info is the flavor as sites know it.
func (f *Flavor) info() sites.FlavorInfo {
	return sites.FlavorInfo{
		Name: f.Name, VCPUs: int(f.Spec.VCPUs), RAM: int(f.Spec.RAM), Disk: int(f.Spec.Disk), Ephemeral: int(f.Spec.Ephemeral),
		Swap: int(f.Spec.Swap), RxTxFactor: f.Spec.RxTx, Public: f.Spec.Public, Extra: f.Spec.Extra,
	}
}

// madeInfo is the flavor as Top makes it at a site: under a name that no flavor of the site's own has.
func (f *Flavor) madeInfo() sites.FlavorInfo {
	i := f.info()
	i.Name = sites.MarkedName(f.ID)
	return i
}

// Flavor returns a flavor that the caller may use, by its id at Top or at a site.
func (s *Service) Flavor(ctx context.Context, caller sites.Caller, id string) (*Flavor, error) {
	caller.Pin = "" // flavors are everywhere
	r, err := s.core.Index.Find(ctx, caller, sites.Flavor, id)
	if err != nil {
		return nil, flavorNotFound(err, id)
	}
	f, err := decodeFlavor(r)
	if err != nil {
		return nil, err
	}
	if !f.usableBy(caller) {
		return nil, flavorNotFound(index.NotFound(sites.Flavor, id), id)
	}
	return f, nil
}

func flavorNotFound(err error, id string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "cascade/compute.Flavor", "Flavor %s could not be found.", id)
	}
	return err
}

// FlavorQuery selects flavors.
type FlavorQuery struct {
	Public  *bool // nil: both (administrators)
	MinRAM  int64 // MiB
	MinDisk int64 // GiB
	Sort    []index.Sort
	Marker  string
	Limit   int
}

// Flavors lists the flavors that the caller may use, those of equal size once.
func (s *Service) Flavors(ctx context.Context, caller sites.Caller, q FlavorQuery) ([]*Flavor, error) {
	var out []*Flavor
	var failed error
	_, err := s.core.Index.List(ctx, index.Query{
		Kind: sites.Flavor, Shared: true, Sort: q.Sort, Marker: ident.TopID(q.Marker), Limit: q.Limit,
		Match: func(r *index.Resource) bool {
			f, err := decodeFlavor(r)
			if err != nil {
				failed = err
				return false
			}
			if q.Public != nil && *q.Public != f.Spec.Public && !(*q.Public && f.usableBy(sites.Caller{ProjectID: caller.ProjectID})) {
				return false
			}
			if !f.usableBy(caller) || f.Spec.RAM < q.MinRAM || f.Spec.Disk < q.MinDisk {
				return false
			}
			out = append(out, f)
			return true
		},
	})
	if err == nil {
		err = failed
	}
	return out, err
}

// CreateFlavor records a flavor. It is made at a site when a server there needs it. An id or name in use is fault.Conflict.
func (s *Service) CreateFlavor(ctx context.Context, caller sites.Caller, id, name, description string, spec FlavorSpec) (*Flavor, error) {
	f := &Flavor{Resource: index.New(sites.Flavor, caller, name), Spec: spec}
	f.ProjectID, f.State, f.Description, f.Visibility = "", index.Live, description, visibility(spec.Public)
	if id != "" && id != "auto" {
		f.ID = ident.TopID(id)
	}
	if err := f.Encode(&f.Spec); err != nil {
		return nil, err
	}
	err := s.core.Commit(ctx, caller, "flavor.create", func(tx *cascade.Tx) error {
		old, err := s.core.Index.Load(tx.Tx, f.ID)
		switch {
		case err == nil && (old.State != index.Deleted || old.Kind != sites.Flavor):
			return fault.New(fault.Conflict, "cascade/compute.CreateFlavor", "Flavor with ID %s already exists.", f.ID)
		case err == nil: // an id of a deleted flavor may be used again
			f.Version, f.CreatedAt = old.Version, s.core.Now()
		case !fault.Is(err, fault.NotFound):
			return err
		}
		all, err := s.allFlavors(tx)
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Name == name {
				return fault.New(fault.Conflict, "cascade/compute.CreateFlavor", "Flavor with name %s already exists.", name)
			}
		}
		if old != nil && old.ID != "" {
			f.Generation = old.Generation + 1
			return tx.Save(f.Resource)
		}
		return tx.Insert(f.Resource)
	})
	return f, err
}

func visibility(isPublic bool) string {
	if isPublic {
		return public
	}
	return private
}

// UpdateFlavor changes a flavor as change says.
func (s *Service) UpdateFlavor(ctx context.Context, caller sites.Caller, id, action string, change func(*Flavor) error) (*Flavor, error) {
	found, err := s.Flavor(ctx, caller, id)
	if err != nil {
		return nil, err
	}
	var out *Flavor
	err = s.core.Commit(ctx, caller, action, func(tx *cascade.Tx) error {
		r, err := tx.Load(found.ID)
		if err != nil {
			return err
		}
		if out, err = decodeFlavor(r); err != nil {
			return err
		}
		specs := out.Spec.Extra
		if err := change(out); err != nil {
			return err
		}
		if !maps.Equal(specs, out.Spec.Extra) {
			out.Spec.Adopted = false // it is Top's own now
		}
		r.Visibility = visibility(out.Spec.Public)
		if err := out.Encode(&out.Spec); err != nil {
			return err
		}
		if err := s.partFlavor(tx, r.ID, specs, out.Spec.Extra); err != nil {
			return err
		}
		return tx.Changed(r)
	})
	return out, err
}

// partFlavor unbinds a flavor from what sites have of their own, when its extra specs are no longer theirs: the next
// server there gets a flavor that fits.
func (s *Service) partFlavor(tx *cascade.Tx, id ident.TopID, before, after map[string]string) error {
	if maps.Equal(before, after) {
		return nil
	}
	bound, err := s.core.Bindings.OfTopIn(tx.Tx, id)
	if err != nil {
		return err
	}
	for _, b := range bound {
		if b.Adopted {
			if err := s.core.Bindings.Forget(tx.Tx, id, b.Site); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteFlavor ends a flavor. Servers keep what they have; what sites had before Top stays there.
func (s *Service) DeleteFlavor(ctx context.Context, caller sites.Caller, id string) error {
	f, err := s.Flavor(ctx, caller, id)
	if err != nil {
		return err
	}
	return s.core.Commit(ctx, caller, "flavor.delete", func(tx *cascade.Tx) error {
		r, err := tx.Load(f.ID)
		if err != nil {
			return err
		}
		return tx.Delete(r)
	})
}

func (s *Service) allFlavors(tx *cascade.Tx) ([]*Flavor, error) {
	rows, err := s.core.Index.ListIn(tx.Tx, index.Query{Kind: sites.Flavor, Shared: true, Sort: []index.Sort{{Field: index.ByCreated}}})
	if err != nil {
		return nil, err
	}
	out := make([]*Flavor, len(rows))
	for i, r := range rows {
		if out[i], err = decodeFlavor(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

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

// sameFlavor says that servers cannot tell two flavors apart: size and specs are equal.
func sameFlavor(a, b sites.FlavorInfo) bool {
	return a.VCPUs == b.VCPUs && a.RAM == b.RAM && a.Disk == b.Disk && a.Ephemeral == b.Ephemeral && a.Swap == b.Swap && maps.Equal(a.Extra, b.Extra)
}

// AdoptSite takes over the public flavors of a site: those of equal size and
// specs become one flavor at Top. Flavors that vanished there are no longer
// bound there; the rows stay while another site or Top's administrator keeps them. It is idempotent.
func (s *Service) AdoptSite(ctx context.Context, site ident.SiteID, caps sites.Capabilities) error {
	return s.core.Internal(ctx, func(tx *cascade.Tx) error {
		tops, err := s.allFlavors(tx)
		if err != nil {
			return err
		}
		bound, err := s.core.Bindings.OfSiteIn(tx.Tx, site, sites.Flavor)
		if err != nil {
			return err
		}
		a := adoption{s: s, tx: tx, site: site, tops: tops, at: map[ident.TopID]*binding.Binding{}}
		for _, b := range bound {
			a.at[b.TopID] = b
		}
		return a.run(caps.Flavors)
	})
}

// adoption is one walk over a site's flavors.
type adoption struct {
	s    *Service
	tx   *cascade.Tx
	site ident.SiteID
	tops []*Flavor
	at   map[ident.TopID]*binding.Binding // at this site
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
		if b.Adopted && !kept[id] {
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
