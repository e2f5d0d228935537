package binding

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Claim is the exclusive right to make the bottom of one pair, for as long as its lease.
type Claim struct {
	Binding // as it was when the claim was taken
	store   *Store
	token   string
	until   time.Time // by our monotonic clock, so that a jump of the wall clock cannot lengthen it
}

// Claim takes the right to make the bottom of top at site, for the length of the
// lease. A binding whose bottom is known is returned as it is, with a nil Claim. ErrHeld when another holds it.
func (s *Store) Claim(ctx context.Context, top ident.TopID, site ident.SiteID, kind sites.Kind, project string, lease time.Duration) (*Claim, *Binding, error) {
	var claim *Claim
	var known *Binding
	began := time.Now() // monotonic; before the row is written, so our view of the lease ends first
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		claim, known = nil, nil
		now, err := tx.Now()
		if err != nil {
			return err
		}
		if err := s.ensureRow(tx, top, site, kind, project); err != nil {
			return err
		}
		token, until := tx.Instance()+"-"+ident.NewUUID(), now.Add(lease)
		free, args := "claim_until IS NULL OR claim_until < ?", []any{string(top), string(site), now}
		if tx.Driver() == dbschema.SQLite { // one process at a time: a claim of another instance is a dead one's
			free, args = free+" OR instr(claim_token, ?) = 0", append(args, tx.Instance())
		}
		done := tx.Gorm().Model(&dbschema.Binding{}).
			Where("top_id = ? AND site = ? AND bottom_id = '' AND ("+free+")", args...).
			Updates(map[string]any{"claim_token": token, "claim_until": until, "updated_at": s.stamp()})
		if done.Error != nil {
			return fmt.Errorf("claim %s at %s: %w", top, site, done.Error)
		}
		b, err := s.GetIn(tx, top, site)
		switch {
		case err != nil:
			return err
		case done.RowsAffected == 1:
			claim = &Claim{Binding: *b, store: s, token: token, until: began.Add(lease)}
		case b.Known():
			known = b
		default:
			return ErrHeld
		}
		return nil
	})
	return claim, known, err
}

func (s *Store) ensureRow(tx dbschema.Tx, top ident.TopID, site ident.SiteID, kind sites.Kind, project string) error {
	now := s.stamp()
	row := dbschema.Binding{
		TopID: string(top), Site: string(site), Kind: string(kind), ProjectID: project, State: string(Claimed), CreatedAt: now, UpdatedAt: now,
	}
	if err := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
		return fmt.Errorf("open binding of %s at %s: %w", top, site, err)
	}
	return nil
}

// Left is how long the claim surely still holds, by our own clock; it may be negative.
func (c *Claim) Left() time.Duration { return time.Until(c.until) }

// Attempt records that a create is about to be sent. It must be committed before the site is called.
func (c *Claim) Attempt(ctx context.Context) error {
	return c.update(ctx, func(tx dbschema.Tx) (map[string]any, error) {
		now, err := tx.Now()
		return map[string]any{"attempted_at": now}, err
	})
}

// Bind commits the bottom's id and ends the claim, together with what also does
// in the same transaction (also may be nil). ErrLost when the claim is no longer ours: the bottom is then another's to find.
func (c *Claim) Bind(ctx context.Context, bottom ident.BottomID, generation int64, adopted bool, also func(dbschema.Tx) error) error {
	return c.store.db.Write(ctx, func(tx dbschema.Tx) error {
		err := c.set(tx, map[string]any{
			"bottom_id": string(bottom), "state": string(Bound), "generation": generation, "adopted": adopted,
			"claim_token": "", "claim_until": nil, "attempted_at": nil, "updated_at": c.store.stamp(),
		})
		if err != nil || also == nil {
			return err
		}
		return also(tx)
	})
}

// Release ends the claim without a bottom. Definite says that the site certainly
// made nothing; otherwise the mark of the attempt stays.
func (c *Claim) Release(ctx context.Context, definite bool) error {
	return c.update(ctx, func(dbschema.Tx) (map[string]any, error) {
		set := map[string]any{"claim_token": "", "claim_until": nil, "updated_at": c.store.stamp()}
		if definite {
			set["attempted_at"] = nil
		}
		return set, nil
	})
}

func (c *Claim) update(ctx context.Context, set func(dbschema.Tx) (map[string]any, error)) error {
	return c.store.db.Write(ctx, func(tx dbschema.Tx) error {
		values, err := set(tx)
		if err != nil {
			return err
		}
		return c.set(tx, values)
	})
}

func (c *Claim) set(tx dbschema.Tx, values map[string]any) error {
	done := c.mine(tx.Gorm()).Updates(values)
	if done.Error != nil {
		return fmt.Errorf("write claim of %s at %s: %w", c.TopID, c.Site, done.Error)
	}
	if done.RowsAffected == 0 {
		return ErrLost
	}
	return nil
}

func (c *Claim) mine(db *gorm.DB) *gorm.DB {
	return db.Model(&dbschema.Binding{}).Where("top_id = ? AND site = ? AND claim_token = ?", string(c.TopID), string(c.Site), c.token)
}

// Since returns how long ago, by the database's clock, the last attempt without a known answer was recorded; 0 when there is none.
func (c *Claim) Since(ctx context.Context) (time.Duration, error) {
	if c.AttemptedAt.IsZero() {
		return 0, nil
	}
	now, err := c.store.db.Now(ctx)
	if err != nil {
		return 0, err
	}
	return now.Sub(c.AttemptedAt), nil
}

// Extend lengthens the claim to a lease from now on; ErrLost when it is no longer ours.
func (c *Claim) Extend(ctx context.Context, lease time.Duration) error {
	began := time.Now()
	err := c.update(ctx, func(tx dbschema.Tx) (map[string]any, error) {
		now, err := tx.Now()
		return map[string]any{"claim_until": now.Add(lease)}, err
	})
	if err == nil {
		c.until = began.Add(lease)
	}
	return err
}
