package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Cursor is how far the polling of one site got. Times are zero before the first.
type Cursor struct {
	Site      ident.SiteID
	PolledAt  time.Time
	DiffedAt  time.Time
	AdoptedAt time.Time
	// Alarm says why the last full comparison stopped, AdoptAlarm why what the site shares was not believed; "" without one.
	Alarm, AdoptAlarm string
	// Progress is of a full comparison that is under way; nil when none is.
	Progress *Progress
	token    string
}

// Store keeps the cursors, and one replica at a time at each site.
type Store struct{ db *dbschema.DB }

// NewStore returns a Store over db.
func NewStore(db *dbschema.DB) *Store { return &Store{db: db} }

// claim takes the site if it is due and nobody holds it; nil when not.
func (s *Store) claim(ctx context.Context, site ident.SiteID, lease time.Duration) (*Cursor, error) {
	var seen []dbschema.InventoryCursor
	if err := s.db.Read(ctx).Where("site = ?", string(site)).Find(&seen).Error; err != nil {
		return nil, fmt.Errorf("read cursor of %s: %w", site, err)
	}
	// The common answer, nothing due, costs no write.
	if len(seen) > 0 && time.Now().Before(seen[0].NextAt) {
		return nil, nil
	}
	token := ident.NewUUID()
	var row dbschema.InventoryCursor
	var taken bool
	err := s.db.WriteSoft(ctx, func(tx dbschema.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		fresh := dbschema.InventoryCursor{Site: string(site), NextAt: now}
		if err := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&fresh).Error; err != nil {
			return err
		}
		done := tx.Gorm().Model(&dbschema.InventoryCursor{}).
			Where("site = ? AND next_at <= ? AND (claim_until IS NULL OR claim_until < ?)", string(site), now, now).
			Updates(map[string]any{"claim_token": token, "claim_until": now.Add(lease)})
		if taken = done.RowsAffected == 1; done.Error != nil || !taken {
			return done.Error
		}
		return tx.Gorm().Where("site = ?", string(site)).Take(&row).Error
	})
	if err != nil || !taken {
		return nil, err
	}
	cur := &Cursor{Site: site, token: token, Alarm: row.Alarm, AdoptAlarm: row.AdoptAlarm}
	if row.Progress != "" {
		cur.Progress = &Progress{}
		if err := json.Unmarshal([]byte(row.Progress), cur.Progress); err != nil {
			return nil, fmt.Errorf("read progress of %s: %w", site, err)
		}
	}
	for _, t := range []struct {
		from *time.Time
		to   *time.Time
	}{{row.PolledAt, &cur.PolledAt}, {row.DiffedAt, &cur.DiffedAt}, {row.AdoptedAt, &cur.AdoptedAt}} {
		if t.from != nil {
			*t.to = t.from.UTC()
		}
	}
	return cur, nil
}

// release stores the cursor, if the claim still holds, and makes the site due again after every.
func (s *Store) release(ctx context.Context, cur *Cursor, every time.Duration) error {
	var progress []byte
	if cur.Progress != nil {
		var err error
		if progress, err = json.Marshal(cur.Progress); err != nil {
			return fmt.Errorf("encode progress of %s: %w", cur.Site, err)
		}
		every = 0 // the rest of the comparison comes at once; what changed meanwhile goes first
	}
	return s.db.WriteSoft(ctx, func(tx dbschema.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		set := map[string]any{
			"claim_token": "", "claim_until": nil, "next_at": now.Add(every), "alarm": cur.Alarm, "adopt_alarm": cur.AdoptAlarm, "progress": string(progress),
		}
		for column, t := range map[string]time.Time{"polled_at": cur.PolledAt, "diffed_at": cur.DiffedAt, "adopted_at": cur.AdoptedAt} {
			if !t.IsZero() {
				set[column] = t.UTC().Truncate(time.Microsecond)
			}
		}
		return tx.Gorm().Model(&dbschema.InventoryCursor{}).Where("site = ? AND claim_token = ?", string(cur.Site), cur.token).Updates(set).Error
	})
}

// Alarms returns why the full comparison of sites is stopped, or what they share is not believed, by site; sites without an alarm are left out.
func (s *Store) Alarms(ctx context.Context) (map[ident.SiteID]string, error) {
	var rows []dbschema.InventoryCursor
	if err := s.db.Read(ctx).Where("alarm <> '' OR adopt_alarm <> ''").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read alarms: %w", err)
	}
	out := map[ident.SiteID]string{}
	for _, r := range rows {
		out[ident.SiteID(r.Site)] = strings.Trim(r.Alarm+"; "+r.AdoptAlarm, "; ")
	}
	return out, nil
}

// Forget drops the cursor of a removed site.
func (s *Store) Forget(tx dbschema.Tx, site ident.SiteID) error {
	if err := tx.Gorm().Where("site = ?", string(site)).Delete(&dbschema.InventoryCursor{}).Error; err != nil {
		return fmt.Errorf("forget cursor of %s: %w", site, err)
	}
	return nil
}
