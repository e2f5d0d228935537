package registry

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
)

// sealedSite returns a site whose account is sealed with another key than the given one.
func (s store) sealedSite(ctx context.Context, key string) (dbschema.Site, bool, error) {
	var rows []dbschema.Site
	err := s.db.Read(ctx).Select("name", "key_id", "credential", "credential_version").
		Where("key_id <> ?", key).Order("name").Limit(1).Find(&rows).Error
	if err != nil || len(rows) == 0 {
		return dbschema.Site{}, false, wrapRotate(err)
	}
	return rows[0], true, nil
}

func (s store) sealedProject(ctx context.Context, key string) (dbschema.SiteProject, bool, error) {
	var rows []dbschema.SiteProject
	err := s.db.Read(ctx).Where("key_id <> ?", key).Order("site, project_id").Limit(1).Find(&rows).Error
	if err != nil || len(rows) == 0 {
		return dbschema.SiteProject{}, false, wrapRotate(err)
	}
	return rows[0], true, nil
}

// swapSite replaces the box of a row unless the account was replaced meanwhile. The account is the same, so its version stays.
func (store) swapSite(tx dbschema.Tx, row dbschema.Site, key string, box []byte) error {
	return wrapRotate(tx.Gorm().Model(&dbschema.Site{}).
		Where("name = ? AND key_id = ? AND credential_version = ?", row.Name, row.KeyID, row.CredentialVersion).
		UpdateColumns(map[string]any{"credential": box, "key_id": key}).Error)
}

func (store) swapProject(tx dbschema.Tx, row dbschema.SiteProject, key string, box []byte) error {
	return wrapRotate(tx.Gorm().Model(&dbschema.SiteProject{}).
		Where("site = ? AND project_id = ? AND key_id = ? AND version = ?", row.Site, row.ProjectID, row.KeyID, row.Version).
		UpdateColumns(map[string]any{"credential": box, "key_id": key}).Error)
}

func wrapRotate(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("seal again: %w", err)
}
