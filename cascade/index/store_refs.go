package index

import (
	"context"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Ref says that From uses To, in a role of the kind's own choosing ("image", "port", "group", ...).
type Ref struct {
	From, To ident.TopID
	Role     string
}

// AddRefs records uses; repeating one changes nothing.
func (s *Store) AddRefs(tx dbschema.Tx, refs ...Ref) error {
	if len(refs) == 0 {
		return nil
	}
	rows := make([]dbschema.Ref, len(refs))
	for i, r := range refs {
		rows[i] = dbschema.Ref{FromID: string(r.From), ToID: string(r.To), Role: r.Role}
	}
	if err := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&rows).Error; err != nil {
		return fmt.Errorf("add references of %s: %w", refs[0].From, err)
	}
	return nil
}

// RemoveRefs forgets uses; one that is not there changes nothing.
func (s *Store) RemoveRefs(tx dbschema.Tx, refs ...Ref) error {
	for _, r := range refs {
		err := tx.Gorm().Where("from_id = ? AND to_id = ? AND role = ?", string(r.From), string(r.To), r.Role).Delete(&dbschema.Ref{}).Error
		if err != nil {
			return fmt.Errorf("remove reference %s -> %s: %w", r.From, r.To, err)
		}
	}
	return nil
}

// SetRefs makes the uses that from has in a role exactly the given ones.
func (s *Store) SetRefs(tx dbschema.Tx, from ident.TopID, role string, to ...ident.TopID) error {
	err := tx.Gorm().Where("from_id = ? AND role = ?", string(from), role).Delete(&dbschema.Ref{}).Error
	if err != nil {
		return fmt.Errorf("replace references of %s: %w", from, err)
	}
	for _, id := range to {
		if err := s.AddRefs(tx, Ref{From: from, To: id, Role: role}); err != nil {
			return err
		}
	}
	return nil
}

// DropRefs forgets every use that from makes, when it is gone.
func (s *Store) DropRefs(tx dbschema.Tx, from ident.TopID) error {
	if err := tx.Gorm().Where("from_id = ?", string(from)).Delete(&dbschema.Ref{}).Error; err != nil {
		return fmt.Errorf("drop references of %s: %w", from, err)
	}
	return nil
}

// Uses returns what from uses, in a role or, with "", in any.
func (s *Store) Uses(ctx context.Context, from ident.TopID, role string) ([]Ref, error) {
	return refs(s.db.Read(ctx).Where("from_id = ?", string(from)), role)
}

// UsesIn is Uses inside a transaction.
func (s *Store) UsesIn(tx dbschema.Tx, from ident.TopID, role string) ([]Ref, error) {
	return refs(tx.Gorm().Where("from_id = ?", string(from)), role)
}

// UsedBy returns who uses to, in a role or, with "", in any; rows in state Deleted use nothing.
func (s *Store) UsedBy(ctx context.Context, to ident.TopID, role string) ([]Ref, error) {
	return refs(s.db.Read(ctx).Where("to_id = ?", string(to)), role)
}

// UsedByIn is UsedBy inside a transaction: the base of every in-use check.
func (s *Store) UsedByIn(tx dbschema.Tx, to ident.TopID, role string) ([]Ref, error) {
	return refs(tx.Gorm().Where("to_id = ?", string(to)), role)
}

func refs(db *gorm.DB, role string) ([]Ref, error) {
	if role != "" {
		db = db.Where("role = ?", role)
	}
	var rows []dbschema.Ref
	if err := db.Order("from_id, to_id, role").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read references: %w", err)
	}
	out := make([]Ref, len(rows))
	for i, r := range rows {
		out[i] = Ref{From: ident.TopID(r.FromID), To: ident.TopID(r.ToID), Role: r.Role}
	}
	return out, nil
}

// Children returns the rows whose parent is id, of one kind, in order of creation, inside a transaction; rows in state Deleted are left out.
func (s *Store) Children(tx dbschema.Tx, id ident.TopID, kind string) ([]*Resource, error) {
	return read(tx.Gorm().Where("parent_id = ? AND kind = ? AND state <> ?", string(id), kind, string(Deleted)).Order("created_at, id"))
}

// OfDevice returns the rows of a kind that belong to a device, inside a transaction; rows in state Deleted are left out.
func (s *Store) OfDevice(tx dbschema.Tx, id ident.TopID, kind string) ([]*Resource, error) {
	return read(tx.Gorm().Where("device_id = ? AND kind = ? AND state <> ?", string(id), kind, string(Deleted)).Order("created_at, id"))
}

// AtSiteIn returns the rows that live at a site, of the given kinds or of all, inside a transaction; rows in state Deleted are left out.
func (s *Store) AtSiteIn(tx dbschema.Tx, site ident.SiteID, kinds ...sites.Kind) ([]*Resource, error) {
	q := tx.Gorm().Where("site = ? AND state <> ?", string(site), string(Deleted))
	if len(kinds) > 0 {
		q = q.Where("kind IN ?", texts(kinds))
	}
	return read(q.Order("created_at, id"))
}

// NamedIn returns the rows of a kind that belong to no project and have a name, inside a transaction; rows in state Deleted are left out.
func (s *Store) NamedIn(tx dbschema.Tx, kind sites.Kind, name string) ([]*Resource, error) {
	return read(tx.Gorm().Where("name = ? AND kind = ? AND project_id = '' AND state <> ?", name, string(kind), string(Deleted)).Order("created_at, id"))
}

// OfProjectIn returns a project's rows, inside a transaction; rows in state Deleted are left out.
func (s *Store) OfProjectIn(tx dbschema.Tx, project string) ([]*Resource, error) {
	return read(tx.Gorm().Where("project_id = ? AND state <> ?", project, string(Deleted)).Order("created_at, id"))
}

// SetForAll makes a row visible to every project, or to its own alone. The row is to be saved by the caller.
func (s *Store) SetForAll(tx dbschema.Tx, r *Resource, all bool) error {
	if !all {
		r.Visibility = ""
		return s.SetRefs(tx, r.ID, forAll)
	}
	r.Visibility = ForAll
	return s.SetRefs(tx, r.ID, forAll, forAll)
}
