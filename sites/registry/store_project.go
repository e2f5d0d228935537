package registry

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The states of a row of site_projects.
const (
	projectPending   = "pending"   // perhaps made at the site
	projectReady     = "ready"     // can be used
	projectReleasing = "releasing" // being removed at the site
)

func (store) project(on *gorm.DB, site ident.SiteID, project string) (dbschema.SiteProject, bool, error) {
	var rows []dbschema.SiteProject
	if err := on.Where("site = ? AND project_id = ?", string(site), project).Limit(1).Find(&rows).Error; err != nil {
		return dbschema.SiteProject{}, false, fmt.Errorf("read the account of project %s at site %s: %w", project, site, err)
	}
	if len(rows) == 0 {
		return dbschema.SiteProject{}, false, nil
	}
	return rows[0], true, nil
}

// projects returns the accounts at a site.
func (s store) projects(ctx context.Context, site ident.SiteID) ([]dbschema.SiteProject, error) {
	var rows []dbschema.SiteProject
	if err := s.db.Read(ctx).Where("site = ?", string(site)).Order("project_id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list the accounts at site %s: %w", site, err)
	}
	return rows, nil
}

// offer stores the row unless the project has one at the site, and returns the one that counts.
func (s store) offer(ctx context.Context, row dbschema.SiteProject) (dbschema.SiteProject, error) {
	var won dbschema.SiteProject
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		if err := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
			return fmt.Errorf("store the account of project %s at site %s: %w", row.ProjectID, row.Site, err)
		}
		var err error
		won, _, err = s.project(tx.Gorm(), ident.SiteID(row.Site), row.ProjectID)
		return err
	})
	return won, err
}

// put stores the row in place of the one that is there.
func (s store) put(ctx context.Context, row dbschema.SiteProject) error {
	return s.db.Write(ctx, func(tx dbschema.Tx) error {
		return tx.Gorm().Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "site"}, {Name: "project_id"}},
			DoUpdates: clause.AssignmentColumns([]string{"bottom_project_id", "bottom_user_id", "credential",
				"key_id", "version", "state", "made", "updated_at"}),
		}).Create(&row).Error
	})
}

// ready records the ids that the site gave a pending account. It reports false when the row is not pending any more.
func (s store) ready(ctx context.Context, row dbschema.SiteProject, now time.Time) (bool, error) {
	done := false
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		set := tx.Gorm().Model(&dbschema.SiteProject{}).
			Where("site = ? AND project_id = ? AND state = ?", row.Site, row.ProjectID, projectPending).
			Updates(map[string]any{"bottom_project_id": row.BottomProjectID, "bottom_user_id": row.BottomUserID,
				"state": projectReady, "version": now.UnixMicro(), "updated_at": now})
		done = set.RowsAffected > 0
		return set.Error
	})
	return done, err
}

// releasing marks an account as being removed.
func (s store) releasing(ctx context.Context, site ident.SiteID, project string, now time.Time) error {
	return s.db.Write(ctx, func(tx dbschema.Tx) error {
		return tx.Gorm().Model(&dbschema.SiteProject{}).Where("site = ? AND project_id = ?", string(site), project).
			Updates(map[string]any{"state": projectReleasing, "version": gorm.Expr("version + 1"), "updated_at": now}).Error
	})
}

func (s store) removeProject(ctx context.Context, site ident.SiteID, project string) error {
	return s.db.Write(ctx, func(tx dbschema.Tx) error {
		return tx.Gorm().Where("site = ? AND project_id = ?", string(site), project).Delete(&dbschema.SiteProject{}).Error
	})
}
