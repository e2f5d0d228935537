package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// spare is the number of a slice's addresses that must be free, or it is enlarged.
const spare = 2

// widen looks at what a site uses of its slice in each of Top's subnets there,
// enlarges those that run out, and makes the pools at the site those of the slices (crosssite/README.md: Slices).
func (s *Service) widen(ctx context.Context, site ident.SiteID) error {
	bound, err := s.core.Bindings.OfSite(ctx, site, sites.Subnet)
	if err != nil {
		return err
	}
	tops := map[ident.BottomID]ident.TopID{}
	projects := map[string]ident.TopID{} // with one of its subnets
	for _, b := range bound {
		if b.Known() && !b.Adopted {
			tops[b.BottomID], projects[b.ProjectID] = b.TopID, b.TopID
		}
	}
	var errs []error
	for project, one := range projects {
		if err := s.widenProject(ctx, site, one, tops); err != nil {
			errs = append(errs, fmt.Errorf("slices of project %s at %s: %w", project, site, err))
		}
	}
	return errors.Join(errs...)
}

// widenProject does it for the subnets that the session of a row's project sees.
func (s *Service) widenProject(ctx context.Context, site ident.SiteID, one ident.TopID, tops map[ident.BottomID]ident.TopID) error {
	r, err := s.core.Index.Get(ctx, one)
	if err != nil {
		return err
	}
	at, err := s.core.At(ctx, r, site)
	if err != nil {
		return err
	}
	used, err := infrastructure(ctx, at)
	if err != nil {
		return err
	}
	pools := map[ident.BottomID][]ipam.Range{}
	err = at.Adaptor.List(ctx, sites.Subnet, sites.Query{}, func(o sites.Object) error {
		if tops[o.ID] != "" {
			pools[o.ID] = bottomPools(o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for id, have := range pools {
		errs = append(errs, s.widenSubnet(ctx, at, tops[id], id, have, used[id]))
	}
	return errors.Join(errs...)
}

// infrastructure counts the addresses that the site's own ports have, by subnet.
func infrastructure(ctx context.Context, at cascade.At) (map[ident.BottomID]int, error) {
	used := map[ident.BottomID]int{}
	owners := url.Values{"device_owner": {"network:dhcp", "network:distributed", "network:router_centralized_snat"}}
	err := at.Adaptor.List(ctx, sites.Port, sites.Query{Params: owners}, func(o sites.Object) error {
		list, _ := o.Body["fixed_ips"].([]any)
		for _, e := range list {
			one, _ := e.(map[string]any)
			id, _ := one["subnet_id"].(string)
			used[ident.BottomID(id)]++
		}
		return nil
	})
	return used, err
}

func bottomPools(o sites.Object) []ipam.Range {
	var out []ipam.Range
	list, _ := o.Body["allocation_pools"].([]any)
	for _, e := range list {
		one, _ := e.(map[string]any)
		first, _ := one["start"].(string)
		last, _ := one["end"].(string)
		a, errA := netip.ParseAddr(first)
		b, errB := netip.ParseAddr(last)
		if errA == nil && errB == nil {
			out = append(out, ipam.Range{First: a, Last: b})
		}
	}
	return out
}

func (s *Service) widenSubnet(ctx context.Context, at cascade.At, top ident.TopID, bottom ident.BottomID, have []ipam.Range, used int) error {
	r, err := s.core.Index.Get(ctx, top)
	if err != nil || r.State != index.Live {
		return err
	}
	spec, err := SpecOf[SubnetSpec](r)
	if err != nil || spec.Auto() {
		return err
	}
	slice, err := s.ipam.Slice(ctx, top, at.Site, s.slice)
	if err != nil {
		return err
	}
	if size := ipam.Count(slice...); size.IsInt64() && size.Int64()-int64(used) < spare {
		more, err := s.ipam.Enlarge(ctx, top, at.Site, s.slice)
		switch {
		case errors.Is(err, ipam.ErrExhausted): // all is given: the site has to do with what it has
		case err != nil:
			return err
		default:
			slice = more
			s.core.Log().InfoContext(ctx, "slice enlarged", "site", at.Site, "kind", sites.Subnet, "top_id", top)
		}
	}
	if slices.Equal(joined(slice), joined(have)) {
		return nil
	}
	_, err = at.Adaptor.Update(ctx, sites.Subnet, bottom, sites.Body{"allocation_pools": poolSpecs(joined(slice))})
	return err
}

// joined sorts ranges and joins those that touch, as Neutron shows pools.
func joined(list []ipam.Range) []ipam.Range {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b ipam.Range) int { return a.First.Compare(b.First) })
	var out []ipam.Range
	for _, r := range list {
		if n := len(out); n > 0 && out[n-1].Last.Next() == r.First {
			out[n-1].Last = r.Last
			continue
		}
		out = append(out, r)
	}
	return out
}
