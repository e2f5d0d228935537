package identity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Credential is an application credential: a secret that logs in as a user in one project with some of the user's roles.
type Credential struct {
	ID, UserID, ProjectID string
	Name, Description     string
	RoleIDs               []string
	Unrestricted          bool       // its tokens may make and delete credentials
	ExpiresAt             *time.Time // nil: never
	secretHash            string
}

func toCredential(r dbschema.IdentityCredential) Credential {
	c := Credential{
		ID: r.ID, UserID: r.UserID, ProjectID: r.ProjectID, Name: r.Name, Description: r.Description,
		RoleIDs: decodeList(r.RoleIDs), Unrestricted: r.Unrestricted, secretHash: r.SecretHash,
	}
	if r.ExpiresAt != nil {
		at := r.ExpiresAt.UTC()
		c.ExpiresAt = &at
	}
	return c
}

// NewCredential is what makes an application credential.
type NewCredential struct {
	Credential // ID and secret are minted; RoleIDs empty means all of the maker's roles
	// RoleNames are further roles, by name.
	RoleNames []string
	// Secret is the one to use; "" has one made of 512 random bits.
	Secret ident.Secret
}

// CreateCredential makes an application credential for the token's own user
// and project, with roles that the token has (fault.BadRequest names one that
// it has not). The secret is returned this once.
func (s *Store) CreateCredential(ctx context.Context, by *Token, n NewCredential) (Credential, ident.Secret, error) {
	roles, err := s.credentialRoles(ctx, by, n)
	if err == nil {
		err = s.checkCredential(by, n)
	}
	if err != nil {
		return Credential{}, "", err
	}
	secret, hash := n.Secret, ""
	if secret == "" {
		secret = ident.Secret(random(64))
		hash = hashRandom(secret.Reveal())
	} else if hash, err = s.newPassword(ctx, secret); err != nil {
		return Credential{}, "", err
	}
	row := dbschema.IdentityCredential{
		ID: newID(), UserID: by.User.ID, ProjectID: by.Project.ID, Name: n.Name, Description: n.Description,
		SecretHash: hash, RoleIDs: encodeList(roles), Unrestricted: n.Unrestricted, CreatedAt: s.stamp(),
	}
	if n.ExpiresAt != nil {
		at := n.ExpiresAt.UTC().Truncate(time.Microsecond)
		row.ExpiresAt = &at
	}
	err = s.db.Write(ctx, func(tx dbschema.Tx) error { return tx.Gorm().Create(&row).Error })
	if dbschema.IsForeignKey(err) {
		return Credential{}, "", notFound("user", by.User.ID)
	}
	return toCredential(row), secret, stored(err, "application credential", n.Name)
}

func (s *Store) checkCredential(by *Token, n NewCredential) error {
	switch {
	case by.Project == nil:
		return badRequest("An application credential is for one project: use a token that is scoped to it.")
	case by.Restricted():
		return forbidden("A token of a restricted application credential cannot make another.")
	case n.ExpiresAt != nil && !n.ExpiresAt.After(s.now()):
		return badRequest("expires_at lies in the past.")
	}
	if err := checkName("application credential", n.Name, maxName); err != nil {
		return err
	}
	return checkText("description", n.Description, maxDescription)
}

// credentialRoles returns the ids of the roles asked for, each of which the token must have.
func (s *Store) credentialRoles(ctx context.Context, by *Token, n NewCredential) ([]string, error) {
	var out []string
	for _, r := range by.Roles {
		all := len(n.RoleIDs)+len(n.RoleNames) == 0
		if all || slices.Contains(n.RoleIDs, r.ID) || slices.Contains(n.RoleNames, r.Name) {
			out = append(out, r.ID)
		}
	}
	has := func(f func(Ref) bool) bool { return slices.ContainsFunc(by.Roles, f) }
	for _, id := range n.RoleIDs {
		if !has(func(r Ref) bool { return r.ID == id }) {
			return nil, badRequest("Invalid application credential: the user has no role %s in the project.", id)
		}
	}
	for _, name := range n.RoleNames {
		if !has(func(r Ref) bool { return r.Name == name }) {
			return nil, badRequest("Invalid application credential: the user has no role %s in the project.", name)
		}
	}
	return out, nil
}

// Credentials returns the user's application credentials, by name; with a name, the one of that name.
func (s *Store) Credentials(ctx context.Context, userID, name string) ([]Credential, error) {
	on := s.db.Read(ctx).Where("user_id = ?", userID).Order("name")
	if name != "" {
		on = on.Where("name = ?", name)
	}
	return all(on, "application credentials", toCredential)
}

// Credential returns one of the user's application credentials.
func (s *Store) Credential(ctx context.Context, userID, id string) (Credential, error) {
	c, err := s.credential(ctx, id)
	if err == nil && c.UserID != userID {
		err = notFound("application credential", id)
	}
	return c, err
}

// DeleteCredential removes one of the user's application credentials and ends its tokens.
func (s *Store) DeleteCredential(ctx context.Context, userID, id string) error {
	return s.change(ctx, func(tx dbschema.Tx) error {
		done := tx.Gorm().Where("id = ? AND user_id = ?", id, userID).Delete(&dbschema.IdentityCredential{})
		if err := deleted(done, "application credential", id); err != nil {
			return err
		}
		return deleteTokens(tx, "credential_id = ?", id)
	})
}

func (s *Store) credential(ctx context.Context, id string) (Credential, error) {
	row, err := first[dbschema.IdentityCredential](s.db.Read(ctx).Where("id = ?", id), "application credential", id)
	return toCredential(row), err
}

// findCredential returns what a login names; an empty one with fault.NotFound.
func (s *Store) findCredential(ctx context.Context, p CredentialProof) (Credential, error) {
	if p.ID != "" {
		return s.credential(ctx, p.ID)
	}
	if !storable(p.Name) {
		return Credential{}, notFound("application credential", "")
	}
	user, err := s.findUser(ctx, p.User)
	if err != nil {
		return Credential{}, err
	}
	row, err := first[dbschema.IdentityCredential](s.db.Read(ctx).Where("user_id = ? AND name = ?", user.ID, p.Name), "application credential", p.Name)
	if err != nil {
		return Credential{}, fmt.Errorf("of user %s: %w", user.ID, err)
	}
	return toCredential(row), nil
}
