// Package quota holds each project's limits and what it uses of them. A
// reservation is part of the transaction that records the resource, so usage
// and resources never part; limits are checked there and nowhere else.
package quota

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// defaults are the limits of a project that has none of its own, in the words
// and with the figures of Nova (nova/conf/quota.py), Cinder (cinder/quota.py)
// and Neutron (neutron/conf/quota.py). -1 is unlimited.
var defaults = map[string]int64{
	"instances": 10, "cores": 20, "ram": 51200, "metadata_items": 128, "key_pairs": 100,
	"server_groups": 10, "server_group_members": 10, "injected_files": 5, "injected_file_content_bytes": 10240, "injected_file_path_bytes": 255,
	"volumes": 10, "snapshots": 10, "gigabytes": 1000, "backups": 10, "backup_gigabytes": 1000, "per_volume_gigabytes": -1, "groups": 10,
	"network": 100, "subnet": 100, "port": 500, "router": 10, "floatingip": 50, "security_group": 10, "security_group_rule": 100,
	"rbac_policy": 10, "subnetpool": -1, "trunk": -1,
}

// Default returns the limit that holds for a project without one of its own, and whether the resource is known.
func Default(resource string) (int64, bool) {
	n, ok := defaults[resource]
	return n, ok
}

// Store reads and writes limits and usage.
type Store struct{ db *dbschema.DB }

// NewStore returns a Store over db.
func NewStore(db *dbschema.DB) *Store { return &Store{db: db} }

// Figure is one resource's limit and use.
type Figure struct {
	Limit int64 // -1 is unlimited
	Used  int64
}

// Figures returns the limit and use of every known resource.
func (s *Store) Figures(ctx context.Context, project string) (map[string]Figure, error) {
	out := make(map[string]Figure, len(defaults))
	for r, n := range defaults {
		out[r] = Figure{Limit: n}
	}
	limits, err := ownLimits(s.db.Read(ctx), project)
	if err != nil {
		return nil, err
	}
	for r, n := range limits {
		out[r] = Figure{Limit: n}
	}
	var usage []dbschema.QuotaUsage
	if err := s.db.Read(ctx).Where("project_id = ?", project).Find(&usage).Error; err != nil {
		return nil, fmt.Errorf("read quota usage: %w", err)
	}
	for _, u := range usage {
		f := out[u.Resource]
		f.Used = u.Used
		out[u.Resource] = f
	}
	return out, nil
}

// Projects returns the projects that have limits of their own, in order.
func (s *Store) Projects(ctx context.Context) ([]string, error) {
	var out []string
	err := s.db.Read(ctx).Model(&dbschema.QuotaLimit{}).Distinct("project_id").Order("project_id").Pluck("project_id", &out).Error
	if err != nil {
		return nil, fmt.Errorf("list projects with quotas: %w", err)
	}
	return out, nil
}

// Reserve takes what a new resource needs. It returns fault.OverQuota, naming
// the resource, when a limit would be passed. Call it first in a transaction (lock order: quota, resource, job).
func (s *Store) Reserve(tx dbschema.Tx, project string, need map[string]int64) error {
	var limits map[string]int64
	for _, resource := range slices.Sorted(maps.Keys(need)) { // one order for all: no deadlock
		n := need[resource]
		if n == 0 {
			continue
		}
		used, err := s.add(tx, project, resource, n)
		if err != nil {
			return err
		}
		if n < 0 {
			continue
		}
		if limits == nil {
			if limits, err = ownLimits(tx.Gorm(), project); err != nil {
				return err
			}
		}
		if limit := effective(limits, resource); limit >= 0 && used > limit {
			return &OverQuota{Resource: resource, Requested: n, Used: used - n, Limit: limit}
		}
	}
	return nil
}

// Release gives back what a resource that is gone had taken.
func (s *Store) Release(tx dbschema.Tx, project string, had map[string]int64) error {
	back := make(map[string]int64, len(had))
	for r, n := range had {
		back[r] = -n
	}
	return s.Reserve(tx, project, back)
}

// add changes what a project uses and returns what it is then. The row is locked
// from here on (PostgreSQL); on SQLite there is one writer.
func (s *Store) add(tx dbschema.Tx, project, resource string, n int64) (int64, error) {
	row := dbschema.QuotaUsage{ProjectID: project, Resource: resource}
	for range 2 {
		var used []int64
		err := tx.Gorm().Raw(`UPDATE quota_usage SET used = CASE WHEN used + ? < 0 THEN 0 ELSE used + ? END
			WHERE project_id = ? AND resource = ? RETURNING used`, n, n, project, resource).Scan(&used).Error
		if err != nil {
			return 0, fmt.Errorf("change quota usage: %w", err)
		}
		if len(used) > 0 {
			return used[0], nil
		}
		if err := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
			return 0, fmt.Errorf("open quota usage: %w", err)
		}
	}
	return 0, fault.New(fault.Internal, "cascade/quota.add", "the usage of %s of project %s cannot be opened", resource, project)
}

// effective returns the limit that holds for a resource, given a project's own ones.
func effective(own map[string]int64, resource string) int64 {
	if n, ok := own[resource]; ok {
		return n
	}
	if n, ok := defaults[resource]; ok {
		return n
	}
	return -1
}

// ownLimits returns the limits that a project has of its own.
func ownLimits(db *gorm.DB, project string) (map[string]int64, error) {
	var rows []dbschema.QuotaLimit
	if err := db.Where("project_id = ?", project).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read quota limits: %w", err)
	}
	out := make(map[string]int64, len(rows))
	for _, l := range rows {
		out[l.Resource] = l.HardLimit
	}
	return out, nil
}

// SetLimits writes a project's own limits; resources that are not known are fault.BadRequest.
func (s *Store) SetLimits(tx dbschema.Tx, project string, limits map[string]int64) error {
	for _, resource := range slices.Sorted(maps.Keys(limits)) {
		if _, ok := defaults[resource]; !ok {
			return fault.New(fault.BadRequest, "cascade/quota.SetLimits", "Unknown quota resource %q.", resource)
		}
		if limits[resource] < -1 {
			return fault.New(fault.BadRequest, "cascade/quota.SetLimits", "Quota limit %d for %s must be -1 or greater.", limits[resource], resource)
		}
		row := dbschema.QuotaLimit{ProjectID: project, Resource: resource, HardLimit: limits[resource]}
		err := tx.Gorm().Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "project_id"}, {Name: "resource"}}, DoUpdates: clause.AssignmentColumns([]string{"hard_limit"}),
		}).Create(&row).Error
		if err != nil {
			return fmt.Errorf("write quota limit: %w", err)
		}
	}
	return nil
}

// ResetLimits drops a project's own limits: the defaults hold again.
func (s *Store) ResetLimits(tx dbschema.Tx, project string, resources ...string) error {
	q := tx.Gorm().Where("project_id = ?", project)
	if len(resources) > 0 {
		q = q.Where("resource IN ?", resources)
	}
	if err := q.Delete(&dbschema.QuotaLimit{}).Error; err != nil {
		return fmt.Errorf("reset quota limits: %w", err)
	}
	return nil
}

// OverQuota says which limit a request would have passed. Its fault kind is OverQuota.
type OverQuota struct {
	Resource               string
	Requested, Used, Limit int64
}

// Error returns the sentence for the tenant, as the resource's own service words it, since clients look into it
// (neutron_lib/exceptions, OverQuota; cinder/exception.py, QuotaError; nova/exception.py, TooManyInstances).
func (e *OverQuota) Error() string {
	switch e.Resource {
	case "network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule":
		return fmt.Sprintf("Quota exceeded for resources: ['%s'].", e.Resource)
	case "gigabytes", "backup_gigabytes":
		what := map[string]string{"gigabytes": "volume or snapshot", "backup_gigabytes": "backup"}[e.Resource]
		return fmt.Sprintf("Requested %s exceeds allowed %s quota. Requested %dG, quota is %dG and %dG has been consumed.", what, e.Resource, e.Requested, e.Limit, e.Used)
	case "volumes":
		return fmt.Sprintf("Maximum number of volumes allowed (%d) exceeded for quota 'volumes'.", e.Limit)
	case "snapshots", "backups":
		return fmt.Sprintf("Maximum number of %s allowed (%d) exceeded", e.Resource, e.Limit)
	default:
		return fmt.Sprintf("Quota exceeded for %s: Requested %d, but already used %d of %d %s", e.Resource, e.Requested, e.Used, e.Limit, e.Resource)
	}
}

// Unwrap gives the error its kind.
func (e *OverQuota) Unwrap() error {
	return &fault.Error{Op: "cascade/quota.Reserve", Kind: fault.OverQuota, Msg: e.Error()}
}
