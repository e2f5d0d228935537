package ipam

import (
	"context"
	"fmt"
	"math/big"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// siteRange is a slice, or a part of one, with its site ("" when no site has it yet).
type siteRange struct {
	Range
	site ident.SiteID
}

func (s *Store) sliceRows(db *gorm.DB, id ident.TopID) ([]siteRange, error) {
	var rows []dbschema.IPAMSlice
	if err := db.Where("subnet_id = ?", string(id)).Order("first_address").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read slices of %s: %w", id, err)
	}
	out := make([]siteRange, len(rows))
	for i, r := range rows {
		first, err := fromKey(r.First)
		if err != nil {
			return nil, err
		}
		last, err := fromKey(r.Last)
		if err != nil {
			return nil, err
		}
		out[i] = siteRange{Range{first, last}, ident.SiteID(r.Site)}
	}
	return out, nil
}

// reserve keeps up to n addresses from the end of what is free for a site and returns them.
func (s *Store) reserve(tx dbschema.Tx, id ident.TopID, site ident.SiteID, n int) ([]Range, error) {
	var got []Range
	for n > 0 {
		r, ok, err := freeRange(ofSubnet(tx, id), "first_address DESC")
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		part := r.tail(min(n, r.size()))
		if err := s.carve(tx, id, r, part); err != nil {
			return nil, err
		}
		row := dbschema.IPAMSlice{SubnetID: string(id), First: key(part.First), Last: key(part.Last), Site: string(site)}
		if err := tx.Gorm().Create(&row).Error; err != nil {
			return nil, fmt.Errorf("reserve %s of %s: %w", part, id, err)
		}
		got = append(got, part)
		n -= part.size()
	}
	return got, nil
}

// Slice returns what a site may use of a subnet for itself: the pools of the
// subnet there. On first use the site gets what AddSubnet kept, or when another
// site has that, as many addresses more; it may be empty in a subnet that has none to spare.
func (s *Store) Slice(ctx context.Context, subnet ident.TopID, site ident.SiteID, n int) ([]Range, error) {
	own, err := s.sliceRows(s.db.Read(ctx), subnet)
	if err != nil {
		return nil, err
	}
	if got := ofSite(own, site); len(got) > 0 {
		return got, nil
	}
	var got []Range
	err = s.db.Write(ctx, func(tx dbschema.Tx) error {
		err := ofSubnet(tx, subnet).Model(&dbschema.IPAMSlice{}).Where("site = ''").Update("site", string(site)).Error
		if err != nil {
			return fmt.Errorf("claim the slice of %s: %w", subnet, err)
		}
		own, err := s.sliceRows(tx.Gorm(), subnet)
		if err != nil {
			return err
		}
		if got = ofSite(own, site); len(got) > 0 {
			return nil
		}
		got, err = s.reserve(tx, subnet, site, n)
		return err
	})
	return got, err
}

// Enlarge adds up to n addresses to a site's slice and returns all of it. It is
// for a site that reports its own pool as used up; ErrExhausted when nothing is free.
func (s *Store) Enlarge(ctx context.Context, subnet ident.TopID, site ident.SiteID, n int) ([]Range, error) {
	var got []Range
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		more, err := s.reserve(tx, subnet, site, n)
		if err != nil {
			return err
		}
		if len(more) == 0 {
			return fmt.Errorf("enlarge the slice of subnet %s: %w", subnet, ErrExhausted)
		}
		own, err := s.sliceRows(tx.Gorm(), subnet)
		got = ofSite(own, site)
		return err
	})
	return got, err
}

func ofSite(own []siteRange, site ident.SiteID) []Range {
	var got []Range
	for _, r := range own {
		if r.site == site {
			got = append(got, r.Range)
		}
	}
	return got
}

// Usage is how much of a subnet's pools is in use, the sites' slices included.
type Usage struct {
	Total, Used *big.Int
}

// UsageOf returns the figures of some subnets; those that the store does not know are left out.
func (s *Store) UsageOf(ctx context.Context, subnets ...ident.TopID) (map[ident.TopID]Usage, error) {
	out := make(map[ident.TopID]Usage, len(subnets))
	for _, id := range subnets {
		var rows []dbschema.IPAMSubnet
		if err := s.db.Read(ctx).Where("subnet_id = ?", string(id)).Find(&rows).Error; err != nil {
			return nil, fmt.Errorf("read subnet %s: %w", id, err)
		}
		if len(rows) == 0 {
			continue
		}
		pools, err := decodeRanges(rows[0].Pools)
		if err != nil {
			return nil, err
		}
		var free []dbschema.IPAMFree
		if err := s.db.Read(ctx).Where("subnet_id = ?", string(id)).Find(&free).Error; err != nil {
			return nil, fmt.Errorf("read free addresses of %s: %w", id, err)
		}
		left := new(big.Int)
		for _, f := range free {
			first, err := fromKey(f.First)
			if err != nil {
				return nil, err
			}
			last, err := fromKey(f.Last)
			if err != nil {
				return nil, err
			}
			left.Add(left, Count(Range{first, last}))
		}
		total := Count(pools...)
		out[id] = Usage{Total: total, Used: new(big.Int).Sub(total, left)}
	}
	return out, nil
}
