package identity

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
)

func toGroup(r dbschema.IdentityGroup) Group {
	return Group{ID: r.ID, DomainID: r.DomainID, Name: r.Name, Description: r.Description, Extra: decodeExtra(r.Extra)}
}

// deleted makes fault.NotFound of a deletion that found nothing.
func deleted(done *gorm.DB, kind, id string) error {
	if done.Error != nil {
		return fmt.Errorf("delete %s %s: %w", kind, id, done.Error)
	}
	if done.RowsAffected == 0 {
		return notFound(kind, id)
	}
	return nil
}

// CreateGroup makes a group; an empty DomainID means the default domain.
func (s *Store) CreateGroup(ctx context.Context, g Group) (Group, error) {
	if g.DomainID == "" {
		g.DomainID = DefaultDomain
	}
	if err := errors.Join(checkName("group", g.Name, maxProjectName), checkText("description", g.Description, maxDescription), checkText("domain_id", g.DomainID, maxName)); err != nil {
		return Group{}, err
	}
	extra, err := encodeExtra(g.Extra)
	if err != nil {
		return Group{}, err
	}
	row := dbschema.IdentityGroup{ID: newID(), DomainID: g.DomainID, Name: g.Name, Description: g.Description, Extra: extra, CreatedAt: s.stamp()}
	err = s.db.Write(ctx, func(tx dbschema.Tx) error { return tx.Gorm().Create(&row).Error })
	if dbschema.IsForeignKey(err) {
		return Group{}, notFound("domain", g.DomainID)
	}
	return toGroup(row), stored(err, "group", g.Name)
}

// Group returns a group by id.
func (s *Store) Group(ctx context.Context, id string) (Group, error) {
	row, err := first[dbschema.IdentityGroup](s.db.Read(ctx).Where("id = ?", id), "group", id)
	return toGroup(row), err
}

// GroupFilter selects groups; empty members select all.
type GroupFilter struct{ Name, DomainID, UserID string }

// Groups returns the selected groups, by name.
func (s *Store) Groups(ctx context.Context, f GroupFilter) ([]Group, error) {
	on := s.db.Read(ctx).Order("name, id")
	if f.Name != "" {
		on = on.Where("name = ?", f.Name)
	}
	if f.DomainID != "" {
		on = on.Where("domain_id = ?", f.DomainID)
	}
	if f.UserID != "" {
		on = on.Where("id IN (SELECT group_id FROM identity_group_users WHERE user_id = ?)", f.UserID)
	}
	return all(on, "groups", toGroup)
}

// UpdateGroup changes a group.
func (s *Store) UpdateGroup(ctx context.Context, id string, c Changed) (Group, error) {
	if err := c.check("group", maxProjectName); err != nil {
		return Group{}, err
	}
	var row dbschema.IdentityGroup
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		var err error
		if row, err = first[dbschema.IdentityGroup](tx.Gorm().Where("id = ?", id), "group", id); err != nil {
			return err
		}
		if row.Extra, err = mergeExtra(row.Extra, c.Extra); err != nil {
			return err
		}
		set(&row.Name, c.Name)
		set(&row.Description, c.Description)
		return tx.Gorm().Save(&row).Error
	})
	return toGroup(row), stored(err, "group", row.Name)
}

// DeleteGroup removes a group and the roles that its members had by it.
func (s *Store) DeleteGroup(ctx context.Context, id string) error {
	return s.change(ctx, func(tx dbschema.Tx) error {
		if err := tx.Gorm().Exec("DELETE FROM identity_assignments WHERE actor_kind = 'group' AND actor_id = ?", id).Error; err != nil {
			return fmt.Errorf("delete group %s: %w", id, err)
		}
		return deleted(tx.Gorm().Where("id = ?", id).Delete(&dbschema.IdentityGroup{}), "group", id)
	})
}

// AddMember puts a user into a group; it may be repeated.
func (s *Store) AddMember(ctx context.Context, groupID, userID string) error {
	err := s.change(ctx, func(tx dbschema.Tx) error {
		if _, err := first[dbschema.IdentityUser](tx.Gorm().Where("id = ?", userID), "user", userID); err != nil {
			return err
		}
		if _, err := first[dbschema.IdentityGroup](tx.Gorm().Where("id = ?", groupID), "group", groupID); err != nil {
			return err
		}
		row := dbschema.IdentityGroupUser{GroupID: groupID, UserID: userID}
		return tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
	})
	return err
}

// RemoveMember takes a user out of a group; fault.NotFound when not in it.
func (s *Store) RemoveMember(ctx context.Context, groupID, userID string) error {
	return s.change(ctx, func(tx dbschema.Tx) error {
		return deleted(tx.Gorm().Where("group_id = ? AND user_id = ?", groupID, userID).Delete(&dbschema.IdentityGroupUser{}), "user in group", userID)
	})
}

// IsMember reports whether a user is in a group.
func (s *Store) IsMember(ctx context.Context, groupID, userID string) (bool, error) {
	var n int64
	err := s.db.Read(ctx).Model(&dbschema.IdentityGroupUser{}).Where("group_id = ? AND user_id = ?", groupID, userID).Count(&n).Error
	return n > 0, err
}
