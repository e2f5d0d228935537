package compute

import (
	"context"
	"maps"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
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
