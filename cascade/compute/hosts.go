package compute

import (
	"context"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Hosts returns the sites that have a compute service, by name: each is one compute host (top/README.md: Hosts). A pinned caller sees its own.
func (s *Service) Hosts(ctx context.Context, caller sites.Caller) ([]registry.Site, error) {
	all, err := s.registry.Sites(ctx)
	if err != nil {
		return nil, err
	}
	var out []registry.Site
	for i := range all {
		if _, ok := all[i].Capabilities.Services[sites.Compute]; ok && (caller.Pin == "" || caller.Pin == all[i].Name) {
			out = append(out, all[i])
		}
	}
	return out, nil
}

// Zones returns the availability zones of the compute service.
func (s *Service) Zones(ctx context.Context, caller sites.Caller) ([]placement.Zone, error) {
	return s.placer.Zones(ctx, caller, sites.Compute)
}

// ServersAt returns how many servers Top has at each site.
func (s *Service) ServersAt(ctx context.Context, site ident.SiteID) ([]*index.Resource, error) {
	return s.core.Index.List(ctx, index.Query{Kind: sites.Server, AllProjects: true, In: map[index.Field][]string{index.BySite: {string(site)}}})
}

// Quota returns a project's limits and use.
func (s *Service) Quota(ctx context.Context, project string) (map[string]quota.Figure, error) {
	return s.core.Quota.Figures(ctx, project)
}

// SetQuota writes limits of a project. Unless forced, none may be below what is in use.
func (s *Service) SetQuota(ctx context.Context, caller sites.Caller, project string, limits map[string]int64, force bool) error {
	figures, err := s.core.Quota.Figures(ctx, project)
	if err != nil {
		return err
	}
	for resource, n := range limits {
		if used := figures[resource].Used; !force && n >= 0 && n < used {
			return fault.New(fault.BadRequest, "cascade/compute.SetQuota", "Quota limit %d for %s must be greater than or equal to already used and reserved %d.", n, resource, used)
		}
	}
	return s.core.Commit(ctx, caller, "quota.update", func(tx *cascade.Tx) error {
		if err := s.core.Quota.SetLimits(tx.Tx, project, limits); err != nil {
			return err
		}
		return tx.Audit(project, "")
	})
}

// ResetQuota brings back the defaults of the resources for a project.
func (s *Service) ResetQuota(ctx context.Context, caller sites.Caller, project string, resources []string) error {
	return s.core.Commit(ctx, caller, "quota.delete", func(tx *cascade.Tx) error {
		if err := s.core.Quota.ResetLimits(tx.Tx, project, resources...); err != nil {
			return err
		}
		return tx.Audit(project, "")
	})
}

// Census lists the servers of a project, of all with "", that lived at some time, deleted ones too, oldest first.
func (s *Service) Census(ctx context.Context, project string) ([]*Server, error) {
	rows, err := s.core.Index.List(ctx, index.Query{
		Kind: sites.Server, Project: project, AllProjects: project == "", Deleted: true, Sort: []index.Sort{{Field: index.ByCreated}},
	})
	if err != nil {
		return nil, err
	}
	out := make([]*Server, 0, len(rows))
	for _, r := range rows {
		one, err := decodeServer(r)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	slices.SortStableFunc(out, func(a, b *Server) int { return strings.Compare(a.ProjectID, b.ProjectID) })
	return out, nil
}
