package index

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// scanRows is how many rows a list with Match reads at a time.
const scanRows = 1000

// List returns the rows that q selects, in its order.
func (s *Store) List(ctx context.Context, q Query) ([]*Resource, error) {
	return list(s.db.Read(ctx), q)
}

// ListIn is List inside a transaction, and sees what that has written.
func (s *Store) ListIn(tx dbschema.Tx, q Query) ([]*Resource, error) { return list(tx.Gorm(), q) }

func list(on *gorm.DB, q Query) ([]*Resource, error) {
	keys := sortKeys(q.Sort)
	base := filtered(on, q)
	if q.Bare {
		base = base.Omit("observed", "observed_admin")
	}
	if q.Marker != "" {
		var err error
		if base, err = after(scoped(on, q), base, keys, q.Marker); err != nil {
			return nil, err
		}
	}
	for _, k := range keys {
		base = base.Order(string(k.Field) + map[bool]string{false: " ASC", true: " DESC"}[k.Desc])
	}
	if q.Match == nil {
		if q.Limit > 0 {
			base = base.Limit(q.Limit)
		}
		return read(base)
	}
	return matching(base, q)
}

// Count returns how many rows q selects; Marker, Limit, Sort and Match are not looked at.
func (s *Store) Count(ctx context.Context, q Query) (int64, error) {
	var n int64
	if err := filtered(s.db.Read(ctx), q).Model(&dbschema.Resource{}).Count(&n).Error; err != nil {
		return 0, fmt.Errorf("count %s: %w", q.Kind, err)
	}
	return n, nil
}

// Promise is a row that is being made: where, and what was asked for.
type Promise struct {
	Site ident.SiteID
	Spec json.RawMessage
}

// Promises returns the rows of a kind in state Creating. Their number, not that of all rows, is what it costs.
func (s *Store) Promises(ctx context.Context, kind sites.Kind) ([]Promise, error) {
	var rows []dbschema.Resource
	// The state is a literal: with a parameter SQLite does not see that the index resources_creating fits.
	err := s.db.Read(ctx).Select("site", "spec").Where("kind = ? AND state = 'creating'", string(kind)).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list what is being made: %w", err)
	}
	out := make([]Promise, len(rows))
	for i := range rows {
		out[i] = Promise{Site: ident.SiteID(rows[i].Site), Spec: json.RawMessage(rows[i].Spec)}
	}
	return out, nil
}

// scoped are the rows of q's kind that its project may see at all.
func scoped(on *gorm.DB, q Query) *gorm.DB {
	db := on.Where("kind = ?", string(q.Kind))
	switch {
	case q.AllProjects && !q.Shared:
		db = db.Where("project_id <> ''")
	case q.AllProjects:
	case q.Open != "":
		db = db.Where("project_id IN ? OR visibility IN ? OR id IN (SELECT from_id FROM refs WHERE to_id = ? AND role = ?)",
			[]string{q.Project, ""}, []string{"public", "community"}, q.Project, q.Open)
	case q.Shared && q.ForAll:
		db = db.Where("project_id IN ? OR id IN (SELECT from_id FROM refs WHERE to_id = ? AND role = ?)", []string{q.Project, ""}, forAll, forAll)
	case q.Shared:
		db = db.Where("project_id IN ?", []string{q.Project, ""})
	default:
		db = db.Where("project_id = ?", q.Project)
	}
	return db
}

func filtered(on *gorm.DB, q Query) *gorm.DB {
	db := scoped(on, q)
	for f, values := range q.In {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !storable(v) })
		if len(values) == 1 {
			db = db.Where(string(f)+" = ?", values[0])
		} else {
			db = db.Where(string(f)+" IN ?", values)
		}
	}
	if q.Pin != "" {
		db = db.Where("site IN ?", []string{string(q.Pin), ""})
	}
	if !q.ChangedSince.IsZero() {
		db = db.Where("updated_at >= ?", Stamp(q.ChangedSince))
	}
	var hide []string
	if !q.Deleted {
		hide = append(hide, string(Deleted))
	}
	if !q.Hidden && hiddenWhileDeleting(q.Kind) {
		hide = append(hide, string(Deleting))
	}
	if len(hide) > 0 {
		db = db.Where("state NOT IN ?", hide)
	}
	return db.Session(&gorm.Session{})
}

func sortKeys(keys []Sort) []Sort {
	if len(keys) == 0 {
		keys = []Sort{{ByCreated, true}}
	}
	if slices.ContainsFunc(keys, func(k Sort) bool { return k.Field == ByID }) {
		return keys
	}
	return append(slices.Clone(keys), Sort{ByID, keys[0].Desc})
}

// after keeps the rows behind the marker row in the order of keys: the usual
// expansion (a > A) or (a = A and b > B) or ..., with each key's own direction. The marker is one of seen: a row that was
// deleted or changed since the page before may be one, another project's may not, not even to tell that it is there.
func after(seen, db *gorm.DB, keys []Sort, marker ident.TopID) (*gorm.DB, error) {
	if !storable(string(marker)) {
		return nil, fault.New(fault.BadRequest, "cascade/index.List", "marker not found")
	}
	row := map[string]any{}
	if err := seen.Model(&dbschema.Resource{}).Where("id = ?", string(marker)).Limit(1).Find(&row).Error; err != nil {
		return nil, fmt.Errorf("read marker: %w", err)
	}
	if len(row) == 0 {
		return nil, fault.New(fault.BadRequest, "cascade/index.List", "marker [%s] not found", marker)
	}
	var terms []string
	var args []any
	for i, k := range keys {
		var term []string
		for _, before := range keys[:i] {
			term = append(term, string(before.Field)+" = ?")
			args = append(args, row[string(before.Field)])
		}
		term = append(term, string(k.Field)+map[bool]string{false: " > ?", true: " < ?"}[k.Desc])
		args = append(args, row[string(k.Field)])
		terms = append(terms, "("+strings.Join(term, " AND ")+")")
	}
	return db.Where(strings.Join(terms, " OR "), args...).Session(&gorm.Session{}), nil
}

func read(db *gorm.DB) ([]*Resource, error) {
	var rows []dbschema.Resource
	if err := db.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	out := make([]*Resource, len(rows))
	for i := range rows {
		var err error
		if out[i], err = fromRow(&rows[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// matching reads on until Match kept enough rows. The offset is counted from
// the marker, so a page costs what it skips and no more.
func matching(db *gorm.DB, q Query) ([]*Resource, error) {
	db = db.Session(&gorm.Session{})
	var kept []*Resource
	for skip := 0; ; skip += scanRows {
		rows, err := read(db.Offset(skip).Limit(scanRows))
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if !q.Match(r) {
				continue
			}
			if kept = append(kept, r); q.Limit > 0 && len(kept) == q.Limit {
				return kept, nil
			}
		}
		if len(rows) < scanRows {
			return kept, nil
		}
	}
}
