package placement

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// HomeStore remembers each project's home site.
type HomeStore struct {
	db  *dbschema.DB
	now func() time.Time
}

type homes = HomeStore

// NewHomeStore returns a HomeStore over db.
func NewHomeStore(db *dbschema.DB, now func() time.Time) *HomeStore {
	return &HomeStore{db: db, now: now}
}

func (h *HomeStore) of(ctx context.Context, project string) (ident.SiteID, error) {
	var rows []dbschema.ProjectHome
	if err := h.db.Read(ctx).Where("project_id = ?", project).Limit(1).Find(&rows).Error; err != nil {
		return "", fmt.Errorf("read home of project %s: %w", project, err)
	}
	if len(rows) == 0 {
		return "", nil
	}
	return ident.SiteID(rows[0].Site), nil
}

// settle gives the project a home unless it has one, and returns which it has.
func (h *HomeStore) settle(ctx context.Context, project string, site ident.SiteID) (ident.SiteID, error) {
	if home, err := h.of(ctx, project); err != nil || home != "" {
		return home, err
	}
	err := h.db.Write(ctx, func(tx dbschema.Tx) error {
		row := dbschema.ProjectHome{ProjectID: project, Site: string(site), CreatedAt: h.now().UTC().Truncate(time.Microsecond)}
		return tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
	})
	if err != nil {
		return "", fmt.Errorf("settle home of project %s: %w", project, err)
	}
	return h.of(ctx, project)
}

// Forget drops the homes at a site, when it is removed: their projects choose again.
func (h *HomeStore) Forget(tx dbschema.Tx, site ident.SiteID) error {
	if err := tx.Gorm().Where("site = ?", string(site)).Delete(&dbschema.ProjectHome{}).Error; err != nil {
		return fmt.Errorf("forget homes at %s: %w", site, err)
	}
	return nil
}
