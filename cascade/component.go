package cascade

import (
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// together tells the kinds that live at one site with what they are connected to.
func together(kind sites.Kind) bool {
	switch kind {
	case sites.Network, sites.Subnet, sites.Port, sites.Router, sites.FloatingIP:
		return true
	default:
		return false
	}
}

// Place puts the connected component of the given rows (network, subnets,
// ports, routers, floating IPs) at a site, within the transaction (cascade/README.md: Late placement).
// Rows that are there already stay; one that is at another site is
// fault.Conflict naming both. What belongs to no project (external and shared networks) connects nothing.
func (tx *Tx) Place(site ident.SiteID, ids ...ident.TopID) error {
	component, err := tx.component(ids)
	if err != nil {
		return err
	}
	for _, r := range component {
		switch r.Site {
		case site:
		case "":
			r.Site = site
			if err := tx.core.Index.SaveQuietly(tx.Tx, r); err != nil {
				return err
			}
			if a, ok := tx.core.makers[r.Kind].(Arriver); ok && r.State != index.Deleting {
				if err := a.Arrived(tx, r); err != nil {
					return err
				}
			}
		default:
			return fault.New(fault.Conflict, "cascade.Place", "%s %s is at site %s and cannot be used at site %s.", r.Kind, r.ID, r.Site, site)
		}
	}
	return nil
}

// SiteOf returns the site at which the connected component of the rows lives, with the row that says so; "" when it is unplaced.
func (tx *Tx) SiteOf(ids ...ident.TopID) (ident.SiteID, *index.Resource, error) {
	component, err := tx.component(ids)
	if err != nil {
		return "", nil, err
	}
	for _, r := range component {
		if r.Site != "" {
			return r.Site, r, nil
		}
	}
	return "", nil, nil
}

// component walks references, parents and devices from the rows on, in both
// directions, as far as they are unplaced, and up to the first placed ones.
func (tx *Tx) component(ids []ident.TopID) ([]*index.Resource, error) {
	seen := map[ident.TopID]bool{}
	var out []*index.Resource
	for todo := ids; len(todo) > 0; {
		id := todo[0]
		todo = todo[1:]
		if id == "" || seen[id] {
			continue
		}
		seen[id] = true
		r, err := tx.Load(id)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !together(r.Kind) || r.ProjectID == "" || r.State == index.Deleted {
			continue
		}
		out = append(out, r)
		if r.Site != "" {
			continue // what is placed has all its connections placed: Place never leaves a component half-way
		}
		next, err := tx.neighbours(r)
		if err != nil {
			return nil, err
		}
		todo = append(todo, next...)
	}
	return out, nil
}

func (tx *Tx) neighbours(r *index.Resource) ([]ident.TopID, error) {
	next := []ident.TopID{r.ParentID, r.DeviceID}
	uses, err := tx.core.Index.UsesIn(tx.Tx, r.ID, "")
	if err != nil {
		return nil, err
	}
	for _, u := range uses {
		next = append(next, u.To)
	}
	users, err := tx.core.Index.UsedByIn(tx.Tx, r.ID, "")
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		next = append(next, u.From)
	}
	for _, kind := range []sites.Kind{sites.Subnet, sites.Port} {
		children, err := tx.core.Index.Children(tx.Tx, r.ID, string(kind))
		if err != nil {
			return nil, err
		}
		for _, c := range children {
			next = append(next, c.ID)
		}
	}
	if r.Kind == sites.Router {
		ports, err := tx.core.Index.OfDevice(tx.Tx, r.ID, string(sites.Port))
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			next = append(next, p.ID)
		}
	}
	return next, nil
}
