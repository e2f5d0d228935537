package identity

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func toDomain(r dbschema.IdentityDomain) Domain {
	return Domain{ID: r.ID, Name: r.Name, Description: r.Description, Enabled: r.Enabled, Extra: decodeExtra(r.Extra)}
}

func toProject(r dbschema.IdentityProject) Project {
	return Project{
		ID: r.ID, DomainID: r.DomainID, Name: r.Name, Description: r.Description, Enabled: r.Enabled,
		Tags: decodeList(r.Tags), Extra: decodeExtra(r.Extra),
	}
}

// first reads one row, or returns fault.NotFound in Keystone's words.
func first[R any](on *gorm.DB, kind, id string) (R, error) {
	var rows []R
	if !storable(id) {
		var none R
		return none, fault.New(fault.NotFound, "cascade/identity", "Could not find the %s.", kind)
	}
	if err := on.Limit(1).Find(&rows).Error; err != nil {
		var none R
		return none, fmt.Errorf("read %s: %w", kind, err)
	}
	if len(rows) == 0 {
		var none R
		return none, notFound(kind, id)
	}
	return rows[0], nil
}

// all reads rows and turns each into the package's own type.
func all[R, T any](on *gorm.DB, what string, to func(R) T) ([]T, error) {
	var rows []R
	if err := on.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = to(r)
	}
	return out, nil
}

// stored turns a unique key's refusal into fault.Conflict.
func stored(err error, kind, name string) error {
	if dbschema.IsUnique(err) {
		return duplicate(kind, name)
	}
	return err
}

// CreateDomain makes a domain; an empty ID gets one. fault.Conflict when the name is taken.
func (s *Store) CreateDomain(ctx context.Context, d Domain) (Domain, error) {
	if err := errors.Join(checkName("domain", d.Name, maxProjectName), checkText("description", d.Description, maxDescription)); err != nil {
		return Domain{}, err
	}
	extra, err := encodeExtra(d.Extra)
	if err != nil {
		return Domain{}, err
	}
	if d.ID == "" {
		d.ID = newID()
	}
	row := dbschema.IdentityDomain{ID: d.ID, Name: d.Name, Description: d.Description, Enabled: d.Enabled, Extra: extra, CreatedAt: s.stamp()}
	err = s.db.Write(ctx, func(tx dbschema.Tx) error { return tx.Gorm().Create(&row).Error })
	return toDomain(row), stored(err, "domain", d.Name)
}

// Domain returns a domain by id.
func (s *Store) Domain(ctx context.Context, id string) (Domain, error) {
	row, err := first[dbschema.IdentityDomain](s.db.Read(ctx).Where("id = ?", id), "domain", id)
	return toDomain(row), err
}

// Domains returns the domains, by name; with a name, the one of that name.
func (s *Store) Domains(ctx context.Context, name string) ([]Domain, error) {
	on := s.db.Read(ctx).Order("name")
	if name != "" {
		on = on.Where("name = ?", name)
	}
	return all(on, "domains", toDomain)
}

// UpdateDomain changes a domain. Disabling it ends its users' tokens and those scoped to it.
func (s *Store) UpdateDomain(ctx context.Context, id string, c Changed) (Domain, error) {
	if err := c.check("domain", maxProjectName); err != nil {
		return Domain{}, err
	}
	if id == DefaultDomain && c.Enabled != nil && !*c.Enabled {
		return Domain{}, forbidden("The default domain cannot be disabled.")
	}
	var row dbschema.IdentityDomain
	err := s.change(ctx, func(tx dbschema.Tx) error {
		var err error
		if row, err = first[dbschema.IdentityDomain](tx.Gorm().Where("id = ?", id), "domain", id); err != nil {
			return err
		}
		if row.Extra, err = mergeExtra(row.Extra, c.Extra); err != nil {
			return err
		}
		set(&row.Name, c.Name)
		set(&row.Description, c.Description)
		set(&row.Enabled, c.Enabled)
		if !row.Enabled {
			if err := deleteTokens(tx, "user_id IN (SELECT id FROM identity_users WHERE domain_id = ?) OR domain_id = ? OR project_id IN (SELECT id FROM identity_projects WHERE domain_id = ?)", id, id, id); err != nil {
				return err
			}
		}
		return tx.Gorm().Save(&row).Error
	})
	return toDomain(row), stored(err, "domain", row.Name)
}

// DeleteDomain removes a disabled domain with its users, groups and roles in it. One that still has
// projects is refused with fault.Forbidden: each owns resources, whose end must be asked for by itself.
func (s *Store) DeleteDomain(ctx context.Context, id string) error {
	return s.change(ctx, func(tx dbschema.Tx) error {
		row, err := first[dbschema.IdentityDomain](tx.Gorm().Where("id = ?", id), "domain", id)
		if err != nil {
			return err
		}
		if row.Enabled {
			return forbidden("Cannot delete a domain that is enabled, please disable it first.")
		}
		var projects int64
		if err := tx.Gorm().Model(&dbschema.IdentityProject{}).Where("domain_id = ?", id).Count(&projects).Error; err != nil {
			return err
		}
		if projects > 0 {
			return forbidden("Cannot delete a domain that has %d projects: delete those first.", projects)
		}
		for _, sql := range []string{
			"DELETE FROM identity_assignments WHERE actor_kind = 'user' AND actor_id IN (SELECT id FROM identity_users WHERE domain_id = ?)",
			"DELETE FROM identity_assignments WHERE actor_kind = 'group' AND actor_id IN (SELECT id FROM identity_groups WHERE domain_id = ?)",
			"DELETE FROM identity_assignments WHERE target_kind = 'domain' AND target_id = ?",
			"DELETE FROM identity_groups WHERE domain_id = ?",
			"DELETE FROM identity_roles WHERE domain_id = ?",
			"DELETE FROM identity_users WHERE domain_id = ?",
			"DELETE FROM identity_domains WHERE id = ?",
		} {
			if err := tx.Gorm().Exec(sql, id).Error; err != nil {
				return fmt.Errorf("delete domain %s: %w", id, err)
			}
		}
		return nil
	})
}

// CreateProject makes a project; an empty ID gets one, an empty DomainID means the default domain.
func (s *Store) CreateProject(ctx context.Context, p Project) (Project, error) {
	if p.DomainID == "" {
		p.DomainID = DefaultDomain
	}
	if err := errors.Join(checkName("project", p.Name, maxProjectName), checkText("description", p.Description, maxDescription),
		checkText("domain_id", p.DomainID, maxName)); err != nil {
		return Project{}, err
	}
	tags, err := checkTags(p.Tags)
	if err != nil {
		return Project{}, err
	}
	extra, err := encodeExtra(p.Extra)
	if err != nil {
		return Project{}, err
	}
	if p.ID == "" {
		p.ID = newID()
	}
	row := dbschema.IdentityProject{
		ID: p.ID, DomainID: p.DomainID, Name: p.Name, Description: p.Description, Enabled: p.Enabled,
		Tags: encodeList(tags), Extra: extra, CreatedAt: s.stamp(),
	}
	err = s.db.Write(ctx, func(tx dbschema.Tx) error { return tx.Gorm().Create(&row).Error })
	if dbschema.IsForeignKey(err) {
		return Project{}, notFound("domain", p.DomainID)
	}
	return toProject(row), stored(err, "project", p.Name)
}

// Project returns a project by id.
func (s *Store) Project(ctx context.Context, id string) (Project, error) {
	row, err := first[dbschema.IdentityProject](s.db.Read(ctx).Where("id = ?", id), "project", id)
	return toProject(row), err
}

// ProjectFilter selects projects; empty members select all.
type ProjectFilter struct {
	Name, DomainID string
	// UserID selects the enabled projects in which the user has a role, directly or by a group.
	UserID  string
	Enabled *bool
}

// Projects returns the selected projects, by name.
func (s *Store) Projects(ctx context.Context, f ProjectFilter) ([]Project, error) {
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
	if f.UserID != "" {
		on = on.Where("enabled AND id IN (SELECT target_id FROM identity_assignments WHERE target_kind = 'project' AND "+actorSQL+")", f.UserID, f.UserID)
	}
	return all(on, "projects", toProject)
}

// UpdateProject changes a project; tags, when not nil, replace the old ones. Disabling it ends the tokens scoped to it.
func (s *Store) UpdateProject(ctx context.Context, id string, c Changed, tags []string) (Project, error) {
	err := c.check("project", maxProjectName)
	if err == nil && tags != nil {
		tags, err = checkTags(tags)
	}
	if err != nil {
		return Project{}, err
	}
	var row dbschema.IdentityProject
	err = s.change(ctx, func(tx dbschema.Tx) error {
		var err error
		if row, err = first[dbschema.IdentityProject](tx.Gorm().Where("id = ?", id), "project", id); err != nil {
			return err
		}
		if row.Extra, err = mergeExtra(row.Extra, c.Extra); err != nil {
			return err
		}
		set(&row.Name, c.Name)
		set(&row.Description, c.Description)
		set(&row.Enabled, c.Enabled)
		if tags != nil {
			row.Tags = encodeList(tags)
		}
		if !row.Enabled {
			if err := deleteTokens(tx, "project_id = ?", id); err != nil {
				return err
			}
		}
		return tx.Gorm().Save(&row).Error
	})
	return toProject(row), stored(err, "project", row.Name)
}

// DeleteProject removes a project, its roles, credentials and tokens, if Options.ProjectGone lets it go.
func (s *Store) DeleteProject(ctx context.Context, id string) error {
	return s.change(ctx, func(tx dbschema.Tx) error {
		if _, err := first[dbschema.IdentityProject](tx.Gorm().Where("id = ?", id), "project", id); err != nil {
			return err
		}
		if s.gone != nil {
			if err := s.gone(ctx, tx, id); err != nil {
				return err
			}
		}
		for _, sql := range []string{
			"DELETE FROM identity_tokens WHERE project_id = ?",
			"DELETE FROM identity_assignments WHERE target_kind = 'project' AND target_id = ?",
			"UPDATE identity_users SET default_project_id = '' WHERE default_project_id = ?",
			"DELETE FROM identity_projects WHERE id = ?",
		} {
			if err := tx.Gorm().Exec(sql, id).Error; err != nil {
				return fmt.Errorf("delete project %s: %w", id, err)
			}
		}
		return nil
	})
}

// check looks at the members that an update wants.
func (c Changed) check(kind string, nameLimit int) error {
	if c.Name != nil {
		if err := checkName(kind, *c.Name, nameLimit); err != nil {
			return err
		}
	}
	if c.Description != nil {
		return checkText("description", *c.Description, maxDescription)
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// findDomain returns an enabled or disabled domain by id or name.
func (s *Store) findDomain(ctx context.Context, id, name string) (Domain, error) {
	if id != "" {
		return s.Domain(ctx, id)
	}
	row, err := first[dbschema.IdentityDomain](s.db.Read(ctx).Where("name = ?", name), "domain", name)
	return toDomain(row), err
}

func (s *Store) findProject(ctx context.Context, n Named) (Project, error) {
	if !n.storable() {
		return Project{}, notFound("project", "")
	}
	if n.ID != "" {
		return s.Project(ctx, n.ID)
	}
	d, err := s.findDomain(ctx, n.DomainID, n.DomainName)
	if err != nil {
		return Project{}, err
	}
	row, err := first[dbschema.IdentityProject](s.db.Read(ctx).Where("domain_id = ? AND name = ?", d.ID, n.Name), "project", n.Name)
	return toProject(row), err
}

// enabledDomain returns the domain as tokens show it; fault.Forbidden when it is disabled.
func (s *Store) enabledDomain(ctx context.Context, id string) (*Ref, error) {
	d, err := s.Domain(ctx, id)
	if err == nil && !d.Enabled {
		err = fault.New(fault.Forbidden, "cascade/identity", "The domain is disabled.")
	}
	return &Ref{ID: d.ID, Name: d.Name}, err
}

// enabledProject returns the project as tokens show it; fault.Forbidden when it or its domain is disabled.
func (s *Store) enabledProject(ctx context.Context, id string) (*Ref, error) {
	p, err := s.Project(ctx, id)
	if err != nil {
		return nil, err
	}
	if !p.Enabled {
		return nil, fault.New(fault.Forbidden, "cascade/identity", "The project is disabled.")
	}
	d, err := s.enabledDomain(ctx, p.DomainID)
	if err != nil {
		return nil, err
	}
	return &Ref{ID: p.ID, Name: p.Name, DomainID: d.ID, DomainName: d.Name}, nil
}
