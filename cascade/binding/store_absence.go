package binding

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Range selects known bindings at a site in the order of their bottoms' ids, byte by byte.
type Range struct {
	Site ident.SiteID
	Kind sites.Kind
	// Project selects one project's; "" is all of them.
	Project string
	// After excludes the bottoms up to it, UpTo those behind it; "" is no bound.
	After, UpTo ident.BottomID
	Limit       int
}

// Between returns the bindings of a range. Equal ids of what is only mapped must not be cut apart by Limit: no range of those kinds is asked for.
func (s *Store) Between(ctx context.Context, r Range) ([]*Binding, error) {
	column := "bottom_id"
	if s.db.Driver() == dbschema.Postgres {
		column = `bottom_id COLLATE "C"` // the database's own may pass over the hyphens
	}
	q := s.db.Read(ctx).Where("site = ? AND kind = ? AND "+column+" > ?", string(r.Site), string(r.Kind), string(r.After))
	if r.UpTo != "" {
		q = q.Where(column+" <= ?", string(r.UpTo))
	}
	if r.Project != "" {
		q = q.Where("project_id = ?", r.Project)
	}
	return many(q.Order(column).Limit(r.Limit))
}

// Count returns how many bottoms of a kind are bound at a site and were made by us; adopted ones are not counted.
func (s *Store) Count(ctx context.Context, site ident.SiteID, kind sites.Kind) (int64, error) {
	var n int64
	err := s.ours(s.db.Read(ctx), site, kind).Where("bottom_id <> ''").Count(&n).Error
	if err != nil {
		return 0, fmt.Errorf("count bindings of %s: %w", site, err)
	}
	return n, nil
}

func (s *Store) ours(db *gorm.DB, site ident.SiteID, kind sites.Kind) *gorm.DB {
	return db.Model(&dbschema.Binding{}).Where("site = ? AND kind = ? AND adopted = ? AND state = ?", string(site), string(kind), false, string(Bound))
}

// Suspect notes that a list which began at the given time showed none of the bottoms.
func (s *Store) Suspect(tx dbschema.Tx, began time.Time, list ...*Binding) error {
	return s.mark(tx, list, map[string]any{"absent_at": began.UTC().Truncate(time.Microsecond)})
}

// Seen takes suspicions back: the bottoms are there.
func (s *Store) Seen(tx dbschema.Tx, list ...*Binding) error {
	return s.mark(tx, list, map[string]any{"absent_at": nil, "missing_since": nil})
}

// Missing notes that a look by id did not find the bottom, the first time since it was seen.
func (s *Store) Missing(tx dbschema.Tx, b *Binding, at time.Time) error {
	return s.mark(tx, []*Binding{b}, map[string]any{"missing_since": at.UTC().Truncate(time.Microsecond)})
}

// Settled notes that the suspicion of the last list was looked into.
func (s *Store) Settled(tx dbschema.Tx, b *Binding) error {
	return s.mark(tx, []*Binding{b}, map[string]any{"absent_at": nil})
}

// mark writes bindings of one site that stand for what they stood for when they were read.
func (s *Store) mark(tx dbschema.Tx, list []*Binding, set map[string]any) error {
	for part := range slices.Chunk(list, 400) { // stays below SQLite's limit on variables
		tops, bottoms := make([]string, len(part)), make([]string, len(part))
		for i, b := range part {
			tops[i], bottoms[i] = string(b.TopID), string(b.BottomID)
		}
		err := tx.Gorm().Model(&dbschema.Binding{}).
			Where("site = ? AND top_id IN ? AND bottom_id IN ?", string(part[0].Site), tops, bottoms).Updates(set).Error
		if err != nil {
			return fmt.Errorf("mark bindings at %s: %w", part[0].Site, err)
		}
	}
	return nil
}

// Suspects returns bindings that a list begun at or after the given time did not show and nobody has looked into, in order of their Top ids.
func (s *Store) Suspects(ctx context.Context, site ident.SiteID, kind sites.Kind, since time.Time, after ident.TopID, limit int) ([]*Binding, error) {
	return many(s.ours(s.db.Read(ctx), site, kind).
		Where("absent_at >= ? AND top_id > ?", since.UTC().Truncate(time.Microsecond), string(after)).Order("top_id").Limit(limit))
}
