package volume

import (
	"context"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/sites"
)

// QuotaNames are the block-storage resources that have limits, in Cinder's words.
func QuotaNames() []string {
	return []string{"volumes", "snapshots", "gigabytes", "backups", "backup_gigabytes", "per_volume_gigabytes", "groups"}
}

// Figures returns a project's limits and use of the block-storage resources.
func (s *Service) Figures(ctx context.Context, project string) (map[string]quota.Figure, error) {
	all, err := s.core.Quota.Figures(ctx, project)
	if err != nil {
		return nil, err
	}
	out := map[string]quota.Figure{}
	for _, name := range QuotaNames() {
		out[name] = all[name]
	}
	return out, nil
}

// SetLimits writes a project's own limits.
func (s *Service) SetLimits(ctx context.Context, c sites.Caller, project string, limits map[string]int64) error {
	return s.core.Commit(ctx, c, "volume.quota", func(tx *cascade.Tx) error {
		if err := tx.Audit(project, ""); err != nil {
			return err
		}
		return s.core.Quota.SetLimits(tx.Tx, project, limits)
	})
}

// ResetLimits drops a project's own limits of the block-storage resources.
func (s *Service) ResetLimits(ctx context.Context, c sites.Caller, project string) error {
	return s.core.Commit(ctx, c, "volume.quota", func(tx *cascade.Tx) error {
		if err := tx.Audit(project, ""); err != nil {
			return err
		}
		return s.core.Quota.ResetLimits(tx.Tx, project, QuotaNames()...)
	})
}

// Find returns a volume, snapshot or type that the caller may see.
func (s *Service) Find(ctx context.Context, c sites.Caller, kind sites.Kind, id string) (*index.Resource, error) {
	return s.core.Index.Find(ctx, c, kind, id)
}

// FindType returns a volume type by id or name.
func (s *Service) FindType(ctx context.Context, c sites.Caller, nameOrID string) (*index.Resource, error) {
	return s.typeFor(ctx, c, nameOrID)
}

// List returns the rows that q selects.
func (s *Service) List(ctx context.Context, q index.Query) ([]*index.Resource, error) {
	return s.core.Index.List(ctx, q)
}

// Count returns how many rows q selects, pages and Match left out.
func (s *Service) Count(ctx context.Context, q index.Query) (int64, error) {
	return s.core.Index.Count(ctx, q)
}
