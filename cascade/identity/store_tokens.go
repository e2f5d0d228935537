package identity

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
)

// tokenRow reads a token; fault.Unauthorized when there is none.
func (s *Store) tokenRow(ctx context.Context, hash string) (dbschema.IdentityToken, error) {
	var rows []dbschema.IdentityToken
	if err := s.db.Read(ctx).Where("hash = ?", hash).Limit(1).Find(&rows).Error; err != nil {
		return dbschema.IdentityToken{}, fmt.Errorf("read token: %w", err)
	}
	if len(rows) == 0 {
		return dbschema.IdentityToken{}, unauthorized()
	}
	return rows[0], nil
}

func insertToken(tx dbschema.Tx, row dbschema.IdentityToken) error {
	if err := tx.Gorm().Create(&row).Error; err != nil {
		return fmt.Errorf("store token: %w", err)
	}
	return nil
}

func deleteToken(tx dbschema.Tx, hash string) (int64, error) {
	done := tx.Gorm().Where("hash = ?", hash).Delete(&dbschema.IdentityToken{})
	return done.RowsAffected, done.Error
}

// deleteTokens ends every token that the condition selects.
func deleteTokens(tx dbschema.Tx, where string, args ...any) error {
	if err := tx.Gorm().Where(where, args...).Delete(&dbschema.IdentityToken{}).Error; err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

func tokenExists(tx dbschema.Tx, hash string) (bool, error) {
	var n int64
	err := tx.Gorm().Model(&dbschema.IdentityToken{}).Where("hash = ?", hash).Count(&n).Error
	return n > 0, err
}

// samePassword reports whether the user is there, enabled and has the password that the row had.
func samePassword(tx dbschema.Tx, row dbschema.IdentityUser) (bool, error) {
	var n int64
	err := tx.Gorm().Model(&dbschema.IdentityUser{}).
		Where("id = ? AND enabled AND password_hash = ?", row.ID, row.PasswordHash).Count(&n).Error
	return n > 0, err
}

func credentialExists(tx dbschema.Tx, id string) (bool, error) {
	var n int64
	err := tx.Gorm().Model(&dbschema.IdentityCredential{}).Where("id = ?", id).Count(&n).Error
	return n > 0, err
}

// sweepBatch bounds the rows that one transaction deletes, so that others do not wait long.
const sweepBatch = 1000

// Sweep deletes the tokens whose Config.ExpiredWindow is over and returns how many there were.
func (s *Store) Sweep(ctx context.Context) (int64, error) {
	before := s.stamp().Add(-s.cfg.ExpiredWindow)
	var total int64
	for {
		var n int64
		err := s.db.Write(ctx, func(tx dbschema.Tx) error {
			batch := tx.Gorm().Model(&dbschema.IdentityToken{}).Select("hash").Where("expires_at < ?", before).Limit(sweepBatch)
			done := tx.Gorm().Where("hash IN (?)", batch).Delete(&dbschema.IdentityToken{})
			n = done.RowsAffected
			return done.Error
		})
		total += n
		if err != nil || n < sweepBatch {
			return total, err
		}
	}
}
