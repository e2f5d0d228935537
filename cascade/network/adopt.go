package network

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// AdoptSite takes over a site's external networks: one logical network per name
// over all sites, bound wherever it is, with each site's own subnets. It is
// idempotent. What vanished from the site loses its binding there, and ends when no site has it and nothing uses it.
// The slices that the site has of Top's subnets are looked after at the same time.
func (s *Service) AdoptSite(ctx context.Context, site ident.SiteID, caps sites.Capabilities) error {
	external := slices.Clone(caps.ExternalNetworks)
	slices.SortFunc(external, func(a, b sites.ExternalNetwork) int { return strings.Compare(string(a.ID), string(b.ID)) })
	logical, err := s.core.Index.List(ctx, index.Query{Kind: sites.Network, AllProjects: true, Shared: true, In: map[index.Field][]string{index.ByProject: {""}}})
	if err != nil {
		return err
	}
	err = s.core.Internal(ctx, func(tx *cascade.Tx) error {
		seen := map[ident.TopID]bool{}
		names := map[string]bool{}
		for _, n := range external {
			name := n.Name
			if names[name] { // a second one of that name at the site: told apart by its id there
				name = fmt.Sprintf("%s-%.8s", n.Name, n.ID)
			}
			names[name] = true
			id, err := s.adoptNetwork(tx, site, name, n)
			if err != nil {
				return err
			}
			seen[id] = true
			for _, body := range n.Subnets {
				sub, err := s.adoptSubnet(tx, site, id, body)
				if err != nil {
					return err
				}
				seen[sub] = true
			}
		}
		for _, n := range logical { // whose last site was removed meanwhile
			if seen[n.ID] {
				continue
			}
			if err := s.endUnused(tx, n.ID); err != nil {
				return err
			}
		}
		return s.dropVanished(tx, site, seen)
	})
	if err != nil {
		return err
	}
	return s.widen(ctx, site)
}

func (s *Service) adoptNetwork(tx *cascade.Tx, site ident.SiteID, name string, n sites.ExternalNetwork) (ident.TopID, error) {
	id := derived("external network", name)
	shared, _ := n.Body["shared"].(bool)
	up, known := n.Body["admin_state_up"].(bool)
	r := &index.Resource{ID: id, Kind: sites.Network, Name: name, State: index.Live, Status: "ACTIVE"}
	if err := r.Encode(NetworkSpec{AdminStateUp: up || !known, External: true, Shared: shared, PortSecurity: true}); err != nil {
		return id, err
	}
	observe(r, sites.Object{ID: n.ID, Body: n.Body})
	r.ObservedAdmin = nil // each site has its own
	return id, s.adopt(tx, r, site, n.ID)
}

func (s *Service) adoptSubnet(tx *cascade.Tx, site ident.SiteID, network ident.TopID, body sites.Body) (ident.TopID, error) {
	obj := sites.Object{Body: body}
	bottom := ident.BottomID(obj.Text("id"))
	id := derived("external subnet", string(site), string(bottom))
	spec := SubnetSpec{}
	fields := Fields{}
	for _, k := range []string{"ip_version", "cidr", "gateway_ip", "enable_dhcp", "allocation_pools", "dns_nameservers", "host_routes", "ipv6_ra_mode", "ipv6_address_mode"} {
		if v, ok := body[k]; ok {
			fields[k] = v
		}
	}
	if err := overlay(&spec, fields); err != nil {
		return id, err
	}
	spec.SiteAllocated = true
	r := &index.Resource{ID: id, Kind: sites.Subnet, Name: obj.Text("name"), State: index.Live, ParentID: network, Site: site}
	if err := r.Encode(spec); err != nil {
		return id, err
	}
	return id, s.adopt(tx, r, site, bottom)
}

// adopt records, or brings up to date, a row of the sites' and its binding.
func (s *Service) adopt(tx *cascade.Tx, r *index.Resource, site ident.SiteID, bottom ident.BottomID) error {
	old, err := tx.Load(r.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		if err := tx.Insert(r); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		next := *old
		next.Name, next.State, next.Status, next.Spec, next.Observed = r.Name, index.Live, r.Status, r.Spec, r.Observed
		next.ParentID, next.Site, next.DeletedAt = r.ParentID, r.Site, r.DeletedAt
		// A logical network shows what the first site that had it says of it: two sites must not take turns.
		if r.Kind == sites.Network && old.State == index.Live {
			next.Spec, next.Observed, next.Status = old.Spec, old.Observed, old.Status
		}
		if !reflect.DeepEqual(&next, old) {
			if err := tx.Save(&next); err != nil {
				return err
			}
		}
	}
	b, err := s.core.Bindings.GetIn(tx.Tx, r.ID, site)
	if err != nil || b.Known() && b.BottomID == bottom {
		return err
	}
	return s.core.Bindings.Adopt(tx.Tx, binding.Binding{TopID: r.ID, Site: site, Kind: r.Kind, BottomID: bottom, Generation: 1, Adopted: true})
}

func (s *Service) dropVanished(tx *cascade.Tx, site ident.SiteID, seen map[ident.TopID]bool) error {
	for _, kind := range []sites.Kind{sites.Subnet, sites.Network} {
		bound, err := s.core.Bindings.OfSiteIn(tx.Tx, site, kind)
		if err != nil {
			return err
		}
		for _, b := range bound {
			if !b.Adopted || seen[b.TopID] {
				continue
			}
			if err := s.core.Bindings.Forget(tx.Tx, b.TopID, site); err != nil {
				return err
			}
			if err := s.endUnused(tx, b.TopID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) endUnused(tx *cascade.Tx, id ident.TopID) error {
	elsewhere, err := s.core.Bindings.OfTopIn(tx.Tx, id)
	if err != nil || len(elsewhere) > 0 {
		return err
	}
	users, err := s.core.Index.UsedByIn(tx.Tx, id, "")
	if err != nil || len(users) > 0 {
		return err
	}
	r, err := tx.Load(id)
	if err != nil || r.State == index.Deleted {
		return err
	}
	return tx.End(r)
}
