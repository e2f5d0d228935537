package index

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Store reads and writes the rows.
type Store struct {
	db  *dbschema.DB
	now func() time.Time
}

// NewStore returns a Store over db. Now is the clock, time.Now outside tests.
func NewStore(db *dbschema.DB, now func() time.Time) *Store { return &Store{db: db, now: now} }

// Insert adds rows; it sets CreatedAt (unless it is set), UpdatedAt, Generation and Version.
func (s *Store) Insert(tx dbschema.Tx, rows ...*Resource) error {
	for _, r := range rows {
		now := Stamp(s.now())
		if r.CreatedAt.IsZero() {
			r.CreatedAt = now
		}
		r.UpdatedAt, r.Version = now, 1
		r.Generation = max(r.Generation, 1)
		row, err := r.row()
		if err != nil {
			return err
		}
		if err := tx.Gorm().Create(row).Error; err != nil {
			return fmt.Errorf("insert %s %s: %w", r.Kind, r.ID, err)
		}
	}
	return nil
}

// ErrStale says that a row was changed by another since it was read: read again.
var errStale = fault.New(fault.Conflict, "cascade/index.Save", "The resource was changed by another request at the same time. Try again.")

// Save writes a row that was read in the same transaction or before; a row changed in between is
// fault.Conflict. UpdatedAt is set to now.
func (s *Store) Save(tx dbschema.Tx, r *Resource) error {
	r.UpdatedAt = Stamp(s.now())
	return s.saveAs(tx, r)
}

// SaveQuietly is Save without touching UpdatedAt, for changes that the tenant did not make and cannot see.
func (s *Store) SaveQuietly(tx dbschema.Tx, r *Resource) error { return s.saveAs(tx, r) }

func (s *Store) saveAs(tx dbschema.Tx, r *Resource) error {
	row, err := r.row()
	if err != nil {
		return err
	}
	row.Version = r.Version + 1
	done := tx.Gorm().Model(&dbschema.Resource{}).Where("id = ? AND version = ?", row.ID, r.Version).Select("*").Updates(row)
	if done.Error != nil {
		return fmt.Errorf("save %s %s: %w", r.Kind, r.ID, done.Error)
	}
	if done.RowsAffected == 0 {
		return errStale
	}
	r.Version++
	return nil
}

// Load reads one row inside a transaction, whatever its state; fault.NotFound when there is none.
func (s *Store) Load(tx dbschema.Tx, id ident.TopID) (*Resource, error) {
	return first(tx.Gorm().Where("id = ?", string(id)), "", string(id))
}

// Get reads one row, whatever its state and owner; fault.NotFound when there is none. For engines, not for tenants.
func (s *Store) Get(ctx context.Context, id ident.TopID) (*Resource, error) {
	return first(s.db.Read(ctx).Where("id = ?", string(id)), "", string(id))
}

// GetAll reads rows by id in one query; ids that are not there are left out.
func (s *Store) GetAll(ctx context.Context, ids []ident.TopID) (map[ident.TopID]*Resource, error) {
	out := make(map[ident.TopID]*Resource, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), 500) // stays below SQLite's limit on variables
		var rows []dbschema.Resource
		if err := s.db.Read(ctx).Where("id IN ?", texts(ids[:n])).Find(&rows).Error; err != nil {
			return nil, fmt.Errorf("read resources: %w", err)
		}
		for i := range rows {
			r, err := fromRow(&rows[i])
			if err != nil {
				return nil, err
			}
			out[r.ID] = r
		}
		ids = ids[n:]
	}
	return out, nil
}

// Names returns the names of rows by id; ids that are not there are left out.
func (s *Store) Names(ctx context.Context, ids []ident.TopID) (map[ident.TopID]string, error) {
	out := make(map[ident.TopID]string, len(ids))
	for part := range slices.Chunk(ids, 500) { // stays below SQLite's limit on variables
		var rows []dbschema.Resource
		if err := s.db.Read(ctx).Select("id", "name").Where("id IN ?", texts(part)).Find(&rows).Error; err != nil {
			return nil, fmt.Errorf("read names: %w", err)
		}
		for _, r := range rows {
			out[ident.TopID(r.ID)] = r.Name
		}
	}
	return out, nil
}

func texts[T ~string](ids []T) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

// Find returns what the caller calls id: a Top id or, within the caller's
// project, a bottom id of any site (cascade/README.md: Aliases). Rows that are hidden, gone or
// another project's are fault.NotFound; administrators see every project's, and
// everybody what belongs to no project. A pinned caller does not see what lives at another site.
func (s *Store) Find(ctx context.Context, c sites.Caller, kind sites.Kind, id string) (*Resource, error) {
	return s.find(s.db.Read(ctx), c, kind, id)
}

// FindIn is Find inside a transaction.
func (s *Store) FindIn(tx dbschema.Tx, c sites.Caller, kind sites.Kind, id string) (*Resource, error) {
	return s.find(tx.Gorm(), c, kind, id)
}

func (s *Store) find(db *gorm.DB, c sites.Caller, kind sites.Kind, id string) (*Resource, error) {
	if !storable(id) {
		return nil, NotFound(kind, strings.ToValidUTF8(strings.ReplaceAll(id, "\x00", ""), ""))
	}
	fresh := func() *gorm.DB { return db.Session(&gorm.Session{}) }
	r, err := first(fresh().Where("id = ? AND kind = ?", id, string(kind)), kind, id)
	if fault.Is(err, fault.NotFound) {
		return byBottom(fresh(), fresh(), c, kind, id)
	}
	if err != nil {
		return nil, err
	}
	if !Visible(c, r) {
		return nil, NotFound(kind, id)
	}
	return r, nil
}

// byBottom finds the row that a site calls id. Two sites may have given one id to different things (flavors are
// mostly "1" to "5"): a pinned caller means the pinned site's, and whoever pins none the first that it may see.
func byBottom(bindings, rows *gorm.DB, c sites.Caller, kind sites.Kind, id string) (*Resource, error) {
	bound := bindings.Model(&dbschema.Binding{}).Select("top_id").Where("kind = ? AND bottom_id = ?", string(kind), id)
	if c.Pin != "" {
		bound = bound.Where("site = ?", string(c.Pin))
	}
	list, err := read(rows.Where("id IN (?) AND kind = ?", bound, string(kind)).Order("created_at, id").Limit(100))
	if err != nil {
		return nil, fmt.Errorf("find %s %s: %w", kind, id, err)
	}
	for _, r := range list {
		if Visible(c, r) {
			return r, nil
		}
	}
	return nil, NotFound(kind, id)
}

// Visible reports whether the caller may see the row at all.
func Visible(c sites.Caller, r *Resource) bool {
	switch {
	case r.State == Deleted:
		return false
	case r.State == Deleting && hiddenWhileDeleting(r.Kind):
		return false
	case c.Pin != "" && r.Site != "" && r.Site != c.Pin:
		return false
	case r.ProjectID == "" || r.Visibility == ForAll || c.Admin():
		return true
	default:
		return r.ProjectID == c.ProjectID && c.ProjectID != ""
	}
}

// hiddenWhileDeleting tells the kinds whose API makes DELETE final: Nova shows a server and Cinder a volume until it is gone.
func hiddenWhileDeleting(kind sites.Kind) bool {
	switch kind {
	case sites.Server, sites.Volume, sites.Snapshot, sites.Backup:
		return false
	default:
		return true
	}
}

func first(q *gorm.DB, kind sites.Kind, id string) (*Resource, error) {
	var rows []dbschema.Resource // Find with a limit: First would sort and log its own not-found error
	if err := q.Limit(1).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	if len(rows) == 0 {
		return nil, NotFound(kind, id)
	}
	return fromRow(&rows[0])
}

// KeepDeleted is how long rows in state Deleted stay for changes-since and late look-ups: longer than any client's
// pause between two polls.
const KeepDeleted = 7 * 24 * time.Hour

// expireBatch bounds one transaction of Expire, so that tenants' writes get their turn in between.
const expireBatch = 1000

// Expire removes rows that have been in state Deleted for longer than keep, and returns how many.
func (s *Store) Expire(ctx context.Context, keep time.Duration) (int64, error) {
	var total int64
	for {
		var n int64
		err := s.db.Write(ctx, func(tx dbschema.Tx) error {
			old := tx.Gorm().Model(&dbschema.Resource{}).Select("id").Limit(expireBatch).
				Where("state = ? AND deleted_at < ?", string(Deleted), Stamp(s.now()).Add(-keep))
			done := tx.Gorm().Where("id IN (?)", old).Delete(&dbschema.Resource{})
			n = done.RowsAffected
			return done.Error
		})
		if err != nil {
			return total, fmt.Errorf("remove rows of what was deleted: %w", err)
		}
		if total += n; n < expireBatch {
			return total, nil
		}
	}
}
