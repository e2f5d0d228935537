package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func toUser(r dbschema.IdentityUser) User {
	return User{
		ID: r.ID, DomainID: r.DomainID, Name: r.Name, Enabled: r.Enabled,
		DefaultProjectID: r.DefaultProjectID, HasPassword: r.PasswordHash != "", Extra: decodeExtra(r.Extra),
	}
}

// CreateUser makes a user; an empty ID gets one, an empty DomainID means the default domain. Without a
// password the user cannot log in until one is set. The default project need not exist, as in Keystone.
func (s *Store) CreateUser(ctx context.Context, u User, password ident.Secret) (User, error) {
	return s.createUser(ctx, u, password, nil)
}

// createUser is CreateUser with more to do in the same transaction.
func (s *Store) createUser(ctx context.Context, u User, password ident.Secret, more func(tx dbschema.Tx, id string) error) (User, error) {
	if u.DomainID == "" {
		u.DomainID = DefaultDomain
	}
	if err := checkName("user", u.Name, maxName); err != nil {
		return User{}, err
	}
	if err := errors.Join(checkText("default_project_id", u.DefaultProjectID, maxName), checkText("domain_id", u.DomainID, maxName)); err != nil {
		return User{}, err
	}
	extra, err := encodeExtra(u.Extra)
	if err != nil {
		return User{}, err
	}
	now := s.stamp()
	row := dbschema.IdentityUser{
		ID: u.ID, DomainID: u.DomainID, Name: u.Name, Enabled: u.Enabled,
		DefaultProjectID: u.DefaultProjectID, Extra: extra, CreatedAt: now,
	}
	if row.ID == "" {
		row.ID = newID()
	}
	if password != "" {
		if row.PasswordHash, err = s.newPassword(ctx, password); err != nil {
			return User{}, err
		}
		row.PasswordAt = &now
	}
	err = s.db.Write(ctx, func(tx dbschema.Tx) error {
		if err := tx.Gorm().Create(&row).Error; err != nil || more == nil {
			return err
		}
		return more(tx, row.ID)
	})
	if dbschema.IsForeignKey(err) {
		return User{}, notFound("domain", u.DomainID)
	}
	return toUser(row), stored(err, "user", u.Name)
}

// newPassword returns the stored form of a password that is allowed.
func (s *Store) newPassword(ctx context.Context, password ident.Secret) (string, error) {
	if n := len(password); n < s.cfg.MinPassword || n > maxPassword {
		return "", badRequest("A password has %d to %d bytes.", s.cfg.MinPassword, maxPassword)
	}
	return s.hasher.hash(ctx, password.Reveal())
}

// User returns a user by id.
func (s *Store) User(ctx context.Context, id string) (User, error) {
	row, err := first[dbschema.IdentityUser](s.db.Read(ctx).Where("id = ?", id), "user", id)
	return toUser(row), err
}

// UserFilter selects users; empty members select all.
type UserFilter struct {
	Name, DomainID, GroupID string
	Enabled                 *bool
}

// Users returns the selected users, by name.
func (s *Store) Users(ctx context.Context, f UserFilter) ([]User, error) {
	on := s.db.Read(ctx).Order("name, id")
	if f.Name != "" {
		on = on.Where("name = ?", f.Name)
	}
	if f.DomainID != "" {
		on = on.Where("domain_id = ?", f.DomainID)
	}
	if f.Enabled != nil {
		on = on.Where("enabled = ?", *f.Enabled)
	}
	if f.GroupID != "" {
		on = on.Where("id IN (SELECT user_id FROM identity_group_users WHERE group_id = ?)", f.GroupID)
	}
	return all(on, "users", toUser)
}

// UserChange is what an update wants of a user; nil leaves a member alone.
type UserChange struct {
	Changed          // Description is not a user's: Keystone keeps it among the extra members
	DefaultProjectID *string
	Password         *ident.Secret // not empty
}

// UpdateUser changes a user. A new password, and disabling, end all the user's tokens.
func (s *Store) UpdateUser(ctx context.Context, id string, c UserChange) (User, error) {
	if err := c.check("user", maxName); err != nil {
		return User{}, err
	}
	if _, err := s.User(ctx, id); err != nil { // before the costly hash
		return User{}, err
	}
	if c.DefaultProjectID != nil {
		if err := checkText("default_project_id", *c.DefaultProjectID, maxName); err != nil {
			return User{}, err
		}
	}
	var hash string
	if c.Password != nil {
		var err error
		if hash, err = s.newPassword(ctx, *c.Password); err != nil {
			return User{}, err
		}
	}
	var row dbschema.IdentityUser
	err := s.change(ctx, func(tx dbschema.Tx) error {
		var err error
		if row, err = first[dbschema.IdentityUser](tx.Gorm().Where("id = ?", id), "user", id); err != nil {
			return err
		}
		if row.Extra, err = mergeExtra(row.Extra, c.Extra); err != nil {
			return err
		}
		set(&row.Name, c.Name)
		set(&row.Enabled, c.Enabled)
		set(&row.DefaultProjectID, c.DefaultProjectID)
		if hash != "" {
			now := s.stamp()
			row.PasswordHash, row.PasswordAt = hash, &now
		}
		if hash != "" || !row.Enabled {
			if err := deleteTokens(tx, "user_id = ?", id); err != nil {
				return err
			}
		}
		return tx.Gorm().Save(&row).Error
	})
	return toUser(row), stored(err, "user", row.Name)
}

// ChangePassword sets a user's password on the proof of the old one, and ends
// all the user's tokens. A wrong old password is fault.Unauthorized and counts as a failed login.
func (s *Store) ChangePassword(ctx context.Context, id string, old, fresh ident.Secret, address string) error {
	if _, err := s.checkPassword(ctx, PasswordProof{User: Named{ID: id}, Password: old}, address); err != nil {
		return err
	}
	if old == fresh {
		return badRequest("The new password must differ from the old one.")
	}
	_, err := s.UpdateUser(ctx, id, UserChange{Password: &fresh})
	return err
}

// DeleteUser removes a user with the roles, credentials and tokens. What the user made in projects stays.
func (s *Store) DeleteUser(ctx context.Context, id string) error {
	return s.change(ctx, func(tx dbschema.Tx) error {
		if err := tx.Gorm().Exec("DELETE FROM identity_assignments WHERE actor_kind = 'user' AND actor_id = ?", id).Error; err != nil {
			return fmt.Errorf("delete user %s: %w", id, err)
		}
		return deleted(tx.Gorm().Where("id = ?", id).Delete(&dbschema.IdentityUser{}), "user", id)
	})
}

// findUser returns the row of a user by id or by name and domain; an empty row with fault.NotFound.
func (s *Store) findUser(ctx context.Context, n Named) (dbschema.IdentityUser, error) {
	if !n.storable() {
		return dbschema.IdentityUser{}, notFound("user", "")
	}
	on := s.db.Read(ctx)
	if n.ID != "" {
		return first[dbschema.IdentityUser](on.Where("id = ?", n.ID), "user", n.ID)
	}
	d, err := s.findDomain(ctx, n.DomainID, n.DomainName)
	if err != nil {
		return dbschema.IdentityUser{}, err
	}
	return first[dbschema.IdentityUser](on.Where("domain_id = ? AND name = ?", d.ID, n.Name), "user", n.Name)
}

// enabledUser returns the user as tokens show it; fault.Forbidden when it or its domain is disabled.
func (s *Store) enabledUser(ctx context.Context, id string) (Ref, error) {
	u, err := s.User(ctx, id)
	if err != nil {
		return Ref{}, err
	}
	if !u.Enabled {
		return Ref{}, fault.New(fault.Forbidden, "cascade/identity", "The user is disabled.")
	}
	d, err := s.enabledDomain(ctx, u.DomainID)
	return Ref{ID: u.ID, Name: u.Name, DomainID: d.ID, DomainName: d.Name}, err
}
