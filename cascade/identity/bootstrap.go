package identity

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Bootstrap is what a Top needs before anybody can log in.
type Bootstrap struct {
	// AdminPassword is the password of the user admin. It counts only when that user is made: a password that
	// was changed since is not put back. "" asks Generate.
	AdminPassword ident.Secret
	// Generate makes the password when AdminPassword is "", only where that user has to be made. nil makes no user, so
	// that nobody has a password everybody knows.
	Generate func() (ident.Secret, error)
}

// Bootstrap makes the domain default, the project admin, the roles admin,
// member and reader, and the user admin with the role admin in that project and
// domain, each unless it is there. It may run at every start and in several processes at once.
func (s *Store) Bootstrap(ctx context.Context, b Bootstrap) error {
	_, err := s.CreateDomain(ctx, Domain{ID: DefaultDomain, Name: "Default", Description: "The default domain", Enabled: true})
	if err = unlessThere(err); err != nil {
		return fmt.Errorf("make domain default: %w", err)
	}
	for _, name := range []string{RoleReader, RoleMember, RoleAdmin} {
		if _, err := s.CreateRole(ctx, Role{Name: name}); unlessThere(err) != nil {
			return fmt.Errorf("make role %s: %w", name, err)
		}
	}
	project, err := s.ensureProject(ctx, "admin", "Project of the operators")
	if err != nil {
		return err
	}
	// An admin who is there and lost a role since lost it on purpose.
	_, err = s.findUser(ctx, Named{Name: "admin", DomainID: DefaultDomain})
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	password := b.AdminPassword
	if password == "" && b.Generate != nil {
		if password, err = b.Generate(); err != nil {
			return err
		}
	}
	if password == "" {
		return nil
	}
	return s.ensureAdmin(ctx, project, password)
}

func (s *Store) ensureProject(ctx context.Context, name, description string) (Project, error) {
	_, err := s.CreateProject(ctx, Project{DomainID: DefaultDomain, Name: name, Description: description, Enabled: true})
	if err = unlessThere(err); err != nil {
		return Project{}, fmt.Errorf("make project %s: %w", name, err)
	}
	return s.findProject(ctx, Named{Name: name, DomainID: DefaultDomain})
}

// ensureAdmin makes the user and gives the roles in one transaction, so that a crash leaves no admin without power.
func (s *Store) ensureAdmin(ctx context.Context, project Project, password ident.Secret) error {
	roles, err := s.Roles(ctx, RoleFilter{Name: RoleAdmin})
	if err != nil || len(roles) == 0 {
		return fmt.Errorf("read role admin: %w", err)
	}
	user := User{DomainID: DefaultDomain, Name: "admin", Enabled: true, DefaultProjectID: project.ID}
	_, err = s.createUser(ctx, user, password, func(tx dbschema.Tx, id string) error {
		if err := assign(tx, Assignment{RoleID: roles[0].ID, UserID: id, ProjectID: project.ID}); err != nil {
			return err
		}
		return assign(tx, Assignment{RoleID: roles[0].ID, UserID: id, Domain: DefaultDomain})
	})
	if err = unlessThere(err); err != nil {
		return fmt.Errorf("make user admin: %w", err)
	}
	return nil
}

// unlessThere forgives that somebody made it before.
func unlessThere(err error) error {
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// EnsureMember makes, unless they are there, a project and an ordinary user in the default domain with
// one role in it, as demos and tests need. A user that is there keeps the password.
func (s *Store) EnsureMember(ctx context.Context, project, user string, password ident.Secret, role string) (projectID, userID string, err error) {
	p, err := s.ensureProject(ctx, project, "")
	if err != nil {
		return "", "", err
	}
	_, err = s.CreateUser(ctx, User{DomainID: DefaultDomain, Name: user, Enabled: true, DefaultProjectID: p.ID}, password)
	if err = unlessThere(err); err != nil {
		return "", "", fmt.Errorf("make user %s: %w", user, err)
	}
	u, err := s.findUser(ctx, Named{Name: user, DomainID: DefaultDomain})
	if err != nil {
		return "", "", err
	}
	roles, err := s.Roles(ctx, RoleFilter{Name: role})
	if err != nil {
		return "", "", err
	}
	if len(roles) == 0 {
		return "", "", notFound("role", role)
	}
	return p.ID, u.ID, s.Assign(ctx, Assignment{RoleID: roles[0].ID, UserID: u.ID, ProjectID: p.ID})
}
