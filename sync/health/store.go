package health

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// rows is the table site_health as the loop uses it.
type rows interface {
	// ensure adds a row for each site that has none: due now.
	ensure(ctx context.Context, sites []ident.SiteID, now, probe time.Time) error
	// due reports whether some row waits for a check.
	due(ctx context.Context, now time.Time) (bool, error)
	// claim takes up to limit due rows for the holder of token until a time.
	claim(ctx context.Context, token string, now, until time.Time, limit int) ([]dbschema.SiteHealth, error)
	// finish stores a claimed row and gives it back. It reports false when the claim was lost.
	finish(ctx context.Context, row dbschema.SiteHealth) (bool, error)
	// hasten makes a row due.
	hasten(ctx context.Context, site ident.SiteID, now time.Time) error
	// all returns every row.
	all(ctx context.Context) ([]dbschema.SiteHealth, error)
}

// store keeps site_health in the database.
type store struct{ db *dbschema.DB }

var _ rows = store{}

func (s store) ensure(ctx context.Context, names []ident.SiteID, now, probe time.Time) error {
	fresh := make([]dbschema.SiteHealth, len(names))
	for i, name := range names {
		fresh[i] = dbschema.SiteHealth{Site: string(name), State: "unknown", Since: now, NextCheckAt: now, NextProbeAt: probe}
	}
	return s.db.Write(ctx, func(tx dbschema.Tx) error {
		for _, row := range fresh {
			err := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
			if dbschema.IsForeignKey(err) {
				// Removed a moment ago. The transaction is spoiled on PostgreSQL: the next tick knows better.
				return fmt.Errorf("site %s: removed meanwhile: %w", row.Site, err)
			}
			if err != nil {
				return fmt.Errorf("begin checks of site %s: %w", row.Site, err)
			}
		}
		return nil
	})
}

const dueWhere = "next_check_at <= ? AND (claim_until IS NULL OR claim_until <= ?)"

func (s store) due(ctx context.Context, now time.Time) (bool, error) {
	var n int64
	err := s.db.Read(ctx).Model(&dbschema.SiteHealth{}).Where(dueWhere, now, now).Count(&n).Error
	if err != nil {
		return false, fmt.Errorf("look for due checks: %w", err)
	}
	return n > 0, nil
}

func (s store) claim(ctx context.Context, token string, now, until time.Time, limit int) ([]dbschema.SiteHealth, error) {
	var taken []dbschema.SiteHealth
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		taken = nil
		return tx.Gorm().Raw(`UPDATE site_health SET claim_token = ?, claim_until = ?
			WHERE site IN (SELECT site FROM site_health WHERE `+dueWhere+` ORDER BY next_check_at LIMIT ?)
			AND `+dueWhere+` RETURNING *`, token, until, now, now, limit, now, now).Scan(&taken).Error
	})
	if err != nil {
		return nil, fmt.Errorf("claim checks: %w", err)
	}
	return taken, nil
}

func (s store) finish(ctx context.Context, row dbschema.SiteHealth) (bool, error) {
	kept := false
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		done := tx.Gorm().Model(&dbschema.SiteHealth{}).Where("site = ? AND claim_token = ?", row.Site, row.ClaimToken).
			Updates(map[string]any{
				"state": row.State, "reason": row.Reason, "since": row.Since, "run": row.Run, "run_worse": row.RunWorse,
				"run_state": row.RunState, "run_reason": row.RunReason, "checked_at": row.CheckedAt, "lost": row.Lost,
				"next_check_at": row.NextCheckAt, "next_probe_at": row.NextProbeAt, "claim_token": "", "claim_until": nil,
			})
		kept = done.RowsAffected > 0
		return done.Error
	})
	if err != nil {
		return false, fmt.Errorf("store the check of site %s: %w", row.Site, err)
	}
	return kept, nil
}

func (s store) hasten(ctx context.Context, site ident.SiteID, now time.Time) error {
	return s.db.Write(ctx, func(tx dbschema.Tx) error {
		return tx.Gorm().Model(&dbschema.SiteHealth{}).Where("site = ? AND next_check_at > ?", string(site), now).
			Update("next_check_at", now).Error
	})
}

func (s store) all(ctx context.Context) ([]dbschema.SiteHealth, error) {
	var list []dbschema.SiteHealth
	if err := s.db.Read(ctx).Order("site").Find(&list).Error; err != nil {
		return nil, fmt.Errorf("read the sites' health: %w", err)
	}
	return list, nil
}
