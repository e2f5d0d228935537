package identity

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
)

const (
	actorUser     = "user"
	actorGroup    = "group"
	targetProject = "project"
	targetDomain  = "domain"
)

// actorSQL selects the assignments of a user (given twice), direct ones and those of the user's groups.
const actorSQL = "((actor_kind = 'user' AND actor_id = ?) OR (actor_kind = 'group' AND actor_id IN (SELECT group_id FROM identity_group_users WHERE user_id = ?)))"

// implied says which role a role brings with it. The three are Keystone's own defaults.
var implied = map[string]string{RoleAdmin: RoleMember, RoleMember: RoleReader}

func toRole(r dbschema.IdentityRole) Role {
	return Role{ID: r.ID, DomainID: r.DomainID, Name: r.Name, Description: r.Description, Extra: decodeExtra(r.Extra)}
}

// Implied returns the name of the role that the named one brings with it, or "".
func Implied(role string) string { return implied[role] }

// CreateRole makes a role, of its domain if it names one. Only the global roles admin, member and reader mean something to Top unless its policy is
// configured.
func (s *Store) CreateRole(ctx context.Context, r Role) (Role, error) {
	if err := checkName("role", r.Name, maxName); err != nil {
		return Role{}, err
	}
	if err := checkText("description", r.Description, maxDescription); err != nil {
		return Role{}, err
	}
	extra, err := encodeExtra(r.Extra)
	if err != nil {
		return Role{}, err
	}
	row := dbschema.IdentityRole{ID: newID(), DomainID: r.DomainID, Name: r.Name, Description: r.Description, Extra: extra, CreatedAt: s.stamp()}
	err = s.db.Write(ctx, func(tx dbschema.Tx) error {
		if row.DomainID != "" {
			if _, err := first[dbschema.IdentityDomain](tx.Gorm().Where("id = ?", row.DomainID), "domain", row.DomainID); err != nil {
				return err
			}
		}
		return tx.Gorm().Create(&row).Error
	})
	return toRole(row), stored(err, "role", r.Name)
}

// Role returns a role by id.
func (s *Store) Role(ctx context.Context, id string) (Role, error) {
	row, err := first[dbschema.IdentityRole](s.db.Read(ctx).Where("id = ?", id), "role", id)
	return toRole(row), err
}

// RoleFilter selects roles: the global ones, or those of one domain; an empty Name selects all of them.
type RoleFilter struct{ Name, DomainID string }

// Roles returns the selected roles, by name.
func (s *Store) Roles(ctx context.Context, f RoleFilter) ([]Role, error) {
	on := s.db.Read(ctx).Order("name").Where("domain_id = ?", f.DomainID)
	if f.Name != "" {
		on = on.Where("name = ?", f.Name)
	}
	return all(on, "roles", toRole)
}

// UpdateRole changes a role; the name of a role that Top's rules ask for stays.
func (s *Store) UpdateRole(ctx context.Context, id string, c Changed) (Role, error) {
	if err := c.check("role", maxName); err != nil {
		return Role{}, err
	}
	var row dbschema.IdentityRole
	err := s.change(ctx, func(tx dbschema.Tx) error {
		var err error
		if row, err = first[dbschema.IdentityRole](tx.Gorm().Where("id = ?", id), "role", id); err != nil {
			return err
		}
		if c.Name != nil && *c.Name != row.Name && builtIn(row) {
			return forbidden("The role %s cannot be renamed: Top's rules ask for it.", row.Name)
		}
		if row.Extra, err = mergeExtra(row.Extra, c.Extra); err != nil {
			return err
		}
		set(&row.Name, c.Name)
		set(&row.Description, c.Description)
		return tx.Gorm().Save(&row).Error
	})
	return toRole(row), stored(err, "role", row.Name)
}

// DeleteRole removes a role from everybody; admin, member and reader stay (fault.Forbidden).
func (s *Store) DeleteRole(ctx context.Context, id string) error {
	return s.change(ctx, func(tx dbschema.Tx) error {
		row, err := first[dbschema.IdentityRole](tx.Gorm().Where("id = ?", id), "role", id)
		if err != nil {
			return err
		}
		if builtIn(row) {
			return forbidden("The role %s cannot be deleted: Top's rules ask for it.", row.Name)
		}
		return tx.Gorm().Delete(&row).Error
	})
}

func builtIn(r dbschema.IdentityRole) bool {
	return r.DomainID == "" && (r.Name == RoleAdmin || r.Name == RoleMember || r.Name == RoleReader)
}

// Assignment gives a role to a user or a group, in a project or a domain: one of each pair is set.
type Assignment struct {
	RoleID            string
	UserID, GroupID   string
	ProjectID, Domain string
}

func (a Assignment) row() dbschema.IdentityAssignment {
	row := dbschema.IdentityAssignment{ActorKind: actorUser, ActorID: a.UserID, TargetKind: targetProject, TargetID: a.ProjectID, RoleID: a.RoleID}
	if a.GroupID != "" {
		row.ActorKind, row.ActorID = actorGroup, a.GroupID
	}
	if a.Domain != "" {
		row.TargetKind, row.TargetID = targetDomain, a.Domain
	}
	return row
}

func toAssignment(r dbschema.IdentityAssignment) Assignment {
	a := Assignment{RoleID: r.RoleID}
	if r.ActorKind == actorUser {
		a.UserID = r.ActorID
	} else {
		a.GroupID = r.ActorID
	}
	if r.TargetKind == targetProject {
		a.ProjectID = r.TargetID
	} else {
		a.Domain = r.TargetID
	}
	return a
}

// Assign gives the role; it may be repeated. fault.NotFound names what does not exist.
func (s *Store) Assign(ctx context.Context, a Assignment) error {
	return s.change(ctx, func(tx dbschema.Tx) error { return assign(tx, a) })
}

func assign(tx dbschema.Tx, a Assignment) error {
	row := a.row()
	if err := assignable(tx, row); err != nil {
		return err
	}
	if err := sameDomain(tx, a); err != nil {
		return err
	}
	return tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
}

// sameDomain refuses a role of one domain in a project of another (fault.Forbidden), as Keystone does.
func sameDomain(tx dbschema.Tx, a Assignment) error {
	if a.ProjectID == "" {
		return nil
	}
	var n int64
	err := tx.Gorm().Table("identity_roles").Where("id = ? AND domain_id <> '' AND domain_id <> (SELECT domain_id FROM identity_projects WHERE id = ?)",
		a.RoleID, a.ProjectID).Count(&n).Error
	if err != nil {
		return fmt.Errorf("read role: %w", err)
	}
	if n > 0 {
		return forbidden("Project %s must be in the same domain as the role %s being assigned.", a.ProjectID, a.RoleID)
	}
	return nil
}

// tables says where the things lie that an assignment names.
var tables = map[string]string{
	actorUser: "identity_users", actorGroup: "identity_groups",
	targetProject: "identity_projects", targetDomain: "identity_domains", "role": "identity_roles",
}

func assignable(tx dbschema.Tx, row dbschema.IdentityAssignment) error {
	for _, part := range [][2]string{{row.ActorKind, row.ActorID}, {row.TargetKind, row.TargetID}, {"role", row.RoleID}} {
		var n int64
		if err := tx.Gorm().Table(tables[part[0]]).Where("id = ?", part[1]).Count(&n).Error; err != nil {
			return fmt.Errorf("read %s: %w", part[0], err)
		}
		if n == 0 {
			return notFound(part[0], part[1])
		}
	}
	return nil
}

// Unassign takes the role away; fault.NotFound when it was not given.
func (s *Store) Unassign(ctx context.Context, a Assignment) error {
	r := a.row()
	return s.change(ctx, func(tx dbschema.Tx) error {
		if err := assignable(tx, r); err != nil {
			return err
		}
		done := tx.Gorm().Where("actor_kind = ? AND actor_id = ? AND target_kind = ? AND target_id = ? AND role_id = ?",
			r.ActorKind, r.ActorID, r.TargetKind, r.TargetID, r.RoleID).Delete(&dbschema.IdentityAssignment{})
		return deleted(done, "role assignment", r.RoleID)
	})
}

// Assignments returns the assignments that agree with the set members of f.
func (s *Store) Assignments(ctx context.Context, f Assignment) ([]Assignment, error) {
	on := s.db.Read(ctx).Order("actor_kind DESC, actor_id, target_kind DESC, target_id, role_id")
	if f.UserID != "" {
		on = on.Where("actor_kind = 'user' AND actor_id = ?", f.UserID)
	}
	if f.GroupID != "" {
		on = on.Where("actor_kind = 'group' AND actor_id = ?", f.GroupID)
	}
	if f.ProjectID != "" {
		on = on.Where("target_kind = 'project' AND target_id = ?", f.ProjectID)
	}
	if f.Domain != "" {
		on = on.Where("target_kind = 'domain' AND target_id = ?", f.Domain)
	}
	if f.RoleID != "" {
		on = on.Where("role_id = ?", f.RoleID)
	}
	return all(on, "role assignments", toAssignment)
}

// EffectiveAssignments is Assignments with groups replaced by their members and
// implied roles added: who may do what in the end.
func (s *Store) EffectiveAssignments(ctx context.Context, f Assignment) ([]Assignment, error) {
	if f.GroupID != "" {
		return nil, badRequest("A group cannot be combined with effective: groups are replaced by their members.")
	}
	direct, err := s.Assignments(ctx, Assignment{ProjectID: f.ProjectID, Domain: f.Domain})
	if err != nil {
		return nil, err
	}
	roles, err := s.roleNames(ctx)
	if err != nil {
		return nil, err
	}
	members, err := s.members(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[Assignment]bool{}
	var out []Assignment
	for _, a := range direct {
		users := []string{a.UserID}
		if a.GroupID != "" {
			users = members[a.GroupID]
		}
		for _, user := range users {
			for _, role := range expand([]string{a.RoleID}, roles) {
				e := Assignment{RoleID: role.ID, UserID: user, ProjectID: a.ProjectID, Domain: a.Domain}
				if seen[e] || f.UserID != "" && f.UserID != user || f.RoleID != "" && f.RoleID != role.ID {
					continue
				}
				seen[e] = true
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// members returns the users of every group.
func (s *Store) members(ctx context.Context) (map[string][]string, error) {
	var rows []dbschema.IdentityGroupUser
	if err := s.db.Read(ctx).Order("user_id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list group members: %w", err)
	}
	out := map[string][]string{}
	for _, r := range rows {
		out[r.GroupID] = append(out[r.GroupID], r.UserID)
	}
	return out, nil
}

// roleNames returns every global role's name by id: a role of a domain, whatever its name, opens nothing.
func (s *Store) roleNames(ctx context.Context) (map[string]string, error) {
	var rows []dbschema.IdentityRole
	if err := s.db.Read(ctx).Where("domain_id = ''").Select("id", "name").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	out := make(map[string]string, len(rows))
	for _, r := range rows {
		out[r.ID] = r.Name
	}
	return out, nil
}

// rolesOf returns the user's roles in a project or domain, implied ones included, by name.
func (s *Store) rolesOf(ctx context.Context, userID, targetKind, targetID string) ([]Ref, error) {
	var ids []string
	err := s.db.Read(ctx).Model(&dbschema.IdentityAssignment{}).Distinct("role_id").
		Where("target_kind = ? AND target_id = ? AND "+actorSQL, targetKind, targetID, userID, userID).Pluck("role_id", &ids).Error
	if err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	names, err := s.roleNames(ctx)
	if err != nil {
		return nil, err
	}
	return expand(ids, names), nil
}

// expand adds to roles those that they imply and returns all, by name. Names holds every global role's
// name by id; the other roles are left out, as Keystone leaves roles of a domain out of tokens.
func expand(ids []string, names map[string]string) []Ref {
	byName := make(map[string]string, len(names))
	for id, name := range names {
		byName[name] = id
	}
	var out []Ref
	add := func(id, name string) bool {
		if id == "" || name == "" || slices.ContainsFunc(out, func(r Ref) bool { return r.ID == id }) {
			return false
		}
		out = append(out, Ref{ID: id, Name: name})
		return true
	}
	for _, id := range ids {
		for name := names[id]; add(byName[name], name); name = implied[name] {
		}
	}
	slices.SortFunc(out, func(a, b Ref) int { return compareText(a.Name, b.Name) })
	return out
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// HasRole reports whether exactly this assignment was made; fault.NotFound when something in it does not exist.
func (s *Store) HasRole(ctx context.Context, a Assignment) error {
	found, err := s.Assignments(ctx, a)
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "cascade/identity.HasRole", "Could not find role assignment with role: %s.", a.RoleID)
	}
	return err
}

// DomainsOf returns the enabled domains in which the user has a role.
func (s *Store) DomainsOf(ctx context.Context, userID string) ([]Domain, error) {
	on := s.db.Read(ctx).Order("name").
		Where("enabled AND id IN (SELECT target_id FROM identity_assignments WHERE target_kind = 'domain' AND "+actorSQL+")", userID, userID)
	return all(on, "domains", toDomain)
}
