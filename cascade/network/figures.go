package network

import (
	"context"
	"math/big"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Figures say how many addresses there are and are in use, the sites' own slices included.
type Figures struct {
	Total, Used *big.Int
	Subnets     map[ident.TopID]ipam.Usage // those whose addresses are Top's
}

// Usage counts the addresses of subnets.
func (s *Service) Usage(ctx context.Context, subnets ...ident.TopID) (Figures, error) {
	out := Figures{Total: new(big.Int), Used: new(big.Int)}
	var err error
	if out.Subnets, err = s.ipam.UsageOf(ctx, subnets...); err != nil {
		return out, err
	}
	for _, u := range out.Subnets {
		out.Total.Add(out.Total, u.Total)
		out.Used.Add(out.Used, u.Used)
	}
	return out, nil
}

// Zones lists the network zones that the caller sees.
func (s *Service) Zones(ctx context.Context, caller sites.Caller) ([]placement.Zone, error) {
	return s.placer.Zones(ctx, caller, sites.NetworkSvc)
}

// SetLimits writes a project's own limits.
func (s *Service) SetLimits(ctx context.Context, caller sites.Caller, project string, limits map[string]int64) error {
	return s.core.Commit(ctx, caller, "quota.update", func(tx *cascade.Tx) error {
		if err := s.core.Quota.SetLimits(tx.Tx, project, limits); err != nil {
			return err
		}
		return tx.Audit(project, "")
	})
}

// ResetLimits makes the default limits of the named resources hold for a project again.
func (s *Service) ResetLimits(ctx context.Context, caller sites.Caller, project string, resources ...string) error {
	return s.core.Commit(ctx, caller, "quota.delete", func(tx *cascade.Tx) error {
		if err := s.core.Quota.ResetLimits(tx.Tx, project, resources...); err != nil {
			return err
		}
		return tx.Audit(project, "")
	})
}
