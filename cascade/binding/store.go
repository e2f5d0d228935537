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

// Store reads and writes the rows.
type Store struct {
	db  *dbschema.DB
	now func() time.Time
}

// NewStore returns a Store over db. Now is the clock for what is only shown; claims go by the database's clock.
func NewStore(db *dbschema.DB, now func() time.Time) *Store { return &Store{db: db, now: now} }

func (s *Store) stamp() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Get returns the binding of top at site, or nil when there is none.
func (s *Store) Get(ctx context.Context, top ident.TopID, site ident.SiteID) (*Binding, error) {
	return one(s.db.Read(ctx).Where("top_id = ? AND site = ?", string(top), string(site)))
}

// GetIn is Get inside a transaction.
func (s *Store) GetIn(tx dbschema.Tx, top ident.TopID, site ident.SiteID) (*Binding, error) {
	return one(tx.Gorm().Where("top_id = ? AND site = ?", string(top), string(site)))
}

// OfBottomIn returns the binding of a bottom of the kind at a site inside a transaction, or nil when nothing is bound to it.
func (s *Store) OfBottomIn(tx dbschema.Tx, site ident.SiteID, kind sites.Kind, bottom ident.BottomID) (*Binding, error) {
	return one(tx.Gorm().Where("site = ? AND kind = ? AND bottom_id = ?", string(site), string(kind), string(bottom)))
}

func one(db *gorm.DB) (*Binding, error) {
	list, err := many(db.Limit(1))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

func many(db *gorm.DB) ([]*Binding, error) {
	var rows []dbschema.Binding
	if err := db.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read bindings: %w", err)
	}
	out := make([]*Binding, len(rows))
	for i := range rows {
		out[i] = fromRow(&rows[i])
	}
	return out, nil
}

// OfTop returns all bindings of a top resource, in order of the sites' names.
func (s *Store) OfTop(ctx context.Context, top ident.TopID) ([]*Binding, error) {
	return many(s.db.Read(ctx).Where("top_id = ?", string(top)).Order("site"))
}

// OfTops is OfTop for many top resources in one query.
func (s *Store) OfTops(ctx context.Context, tops ...ident.TopID) (map[ident.TopID][]*Binding, error) {
	out := make(map[ident.TopID][]*Binding, len(tops))
	for len(tops) > 0 {
		n := min(len(tops), 500) // stays below SQLite's limit on variables
		texts := make([]string, n)
		for i, id := range tops[:n] {
			texts[i] = string(id)
		}
		list, err := many(s.db.Read(ctx).Where("top_id IN ?", texts).Order("site"))
		if err != nil {
			return nil, err
		}
		for _, b := range list {
			out[b.TopID] = append(out[b.TopID], b)
		}
		tops = tops[n:]
	}
	return out, nil
}

// OfTopIn is OfTop inside a transaction.
func (s *Store) OfTopIn(tx dbschema.Tx, top ident.TopID) ([]*Binding, error) {
	return many(tx.Gorm().Where("top_id = ?", string(top)).Order("site"))
}

// OfSite returns all bindings of one kind at a site.
func (s *Store) OfSite(ctx context.Context, site ident.SiteID, kind sites.Kind) ([]*Binding, error) {
	return many(s.db.Read(ctx).Where("site = ? AND kind = ?", string(site), string(kind)).Order("top_id"))
}

// OfSiteIn is OfSite inside a transaction.
func (s *Store) OfSiteIn(tx dbschema.Tx, site ident.SiteID, kind sites.Kind) ([]*Binding, error) {
	return many(tx.Gorm().Where("site = ? AND kind = ?", string(site), string(kind)).Order("top_id"))
}

// CountSite returns how many bottoms of each kind at a site we made (Adopted ones are not counted).
func (s *Store) CountSite(ctx context.Context, site ident.SiteID) (map[sites.Kind]int64, error) {
	return countSite(s.db.Read(ctx), site)
}

// CountSiteIn is CountSite inside a transaction.
func (s *Store) CountSiteIn(tx dbschema.Tx, site ident.SiteID) (map[sites.Kind]int64, error) {
	return countSite(tx.Gorm(), site)
}

func countSite(db *gorm.DB, site ident.SiteID) (map[sites.Kind]int64, error) {
	var rows []struct {
		Kind string
		N    int64
	}
	err := db.Model(&dbschema.Binding{}).Select("kind, count(*) AS n").
		Where("site = ? AND adopted = ?", string(site), false).Group("kind").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("count bindings of %s: %w", site, err)
	}
	out := make(map[sites.Kind]int64, len(rows))
	for _, r := range rows {
		out[sites.Kind(r.Kind)] = r.N
	}
	return out, nil
}

// Tops translates bottom ids of one kind at a site; ids that nothing is bound to are left out.
func (s *Store) Tops(ctx context.Context, site ident.SiteID, kind sites.Kind, bottoms ...ident.BottomID) (map[ident.BottomID]ident.TopID, error) {
	out := make(map[ident.BottomID]ident.TopID, len(bottoms))
	for len(bottoms) > 0 {
		n := min(len(bottoms), 500) // stays below SQLite's limit on variables
		texts := make([]string, n)
		for i, b := range bottoms[:n] {
			texts[i] = string(b)
		}
		list, err := many(s.db.Read(ctx).Where("site = ? AND kind = ? AND bottom_id IN ?", string(site), string(kind), texts).Order("top_id DESC"))
		if err != nil {
			return nil, err
		}
		for _, b := range list {
			out[b.BottomID] = b.TopID
		}
		bottoms = bottoms[n:]
	}
	return out, nil
}

// Adopt records, or replaces, what stands for top at a site and was there before us.
func (s *Store) Adopt(tx dbschema.Tx, b Binding) error {
	now := s.stamp()
	row := dbschema.Binding{
		TopID: string(b.TopID), Site: string(b.Site), Kind: string(b.Kind), ProjectID: b.ProjectID, BottomID: string(b.BottomID),
		State: string(Bound), Generation: b.Generation, Adopted: b.Adopted, Detail: b.Detail, CreatedAt: now, UpdatedAt: now,
	}
	err := tx.Gorm().Clauses(clause.OnConflict{
		Columns:   []clause.Column{{Name: "top_id"}, {Name: "site"}},
		DoUpdates: clause.AssignmentColumns([]string{"bottom_id", "state", "generation", "adopted", "detail", "updated_at", "absent_at", "missing_since"}),
	}).Create(&row).Error
	if err != nil {
		return fmt.Errorf("adopt %s %s at %s: %w", b.Kind, b.BottomID, b.Site, err)
	}
	return nil
}

// Forget drops the binding of top at site: its bottom is gone, or is left to itself.
func (s *Store) Forget(tx dbschema.Tx, top ident.TopID, site ident.SiteID) error {
	err := tx.Gorm().Where("top_id = ? AND site = ?", string(top), string(site)).Delete(&dbschema.Binding{}).Error
	if err != nil {
		return fmt.Errorf("forget binding of %s at %s: %w", top, site, err)
	}
	return nil
}

// ForgetSite drops every binding at a site and returns how many there were.
func (s *Store) ForgetSite(tx dbschema.Tx, site ident.SiteID) (int64, error) {
	done := tx.Gorm().Where("site = ?", string(site)).Delete(&dbschema.Binding{})
	if done.Error != nil {
		return 0, fmt.Errorf("forget bindings at %s: %w", site, done.Error)
	}
	return done.RowsAffected, nil
}

// Note changes a known binding's state, generation and detail.
func (s *Store) Note(tx dbschema.Tx, b *Binding) error {
	err := tx.Gorm().Model(&dbschema.Binding{}).Where("top_id = ? AND site = ?", string(b.TopID), string(b.Site)).
		Updates(map[string]any{"state": string(b.State), "generation": b.Generation, "detail": b.Detail, "updated_at": s.stamp()}).Error
	if err != nil {
		return fmt.Errorf("note binding of %s at %s: %w", b.TopID, b.Site, err)
	}
	return nil
}

// Give records that a bottom belongs to another project of Top.
func (s *Store) Give(tx dbschema.Tx, b *Binding, project string) error {
	err := tx.Gorm().Model(&dbschema.Binding{}).Where("top_id = ? AND site = ?", string(b.TopID), string(b.Site)).
		Updates(map[string]any{"project_id": project, "updated_at": s.stamp()}).Error
	if err != nil {
		return fmt.Errorf("give binding of %s at %s to %s: %w", b.TopID, b.Site, project, err)
	}
	return nil
}
