package identity

import (
	"context"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// assignment returns what the path names.
func assignment(c echo.Context) identity.Assignment {
	return identity.Assignment{
		RoleID: c.Param("role"), UserID: c.Param("user"), GroupID: c.Param("group"),
		ProjectID: c.Param("project"), Domain: c.Param("domain"),
	}
}

// listGrants handles GET /v3/{projects|domains}/{id}/{users|groups}/{id}/roles.
func (h *Handler) listGrants(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:list_grants"); err != nil {
		return err
	}
	ctx := c.Request().Context()
	found, err := h.store.Assignments(ctx, assignment(c))
	if err != nil {
		return err
	}
	var roles []identity.Role
	for _, a := range found {
		r, err := h.store.Role(ctx, a.RoleID)
		if err != nil {
			return err
		}
		roles = append(roles, r)
	}
	return h.list(c, "roles", views(roles, h.roleView(c)))
}

// hasGrant handles GET and HEAD on one assignment.
func (h *Handler) hasGrant(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:list_grants"); err != nil {
		return err
	}
	return empty(c, h.store.HasRole(c.Request().Context(), assignment(c)))
}

// grant handles PUT on one assignment.
func (h *Handler) grant(c echo.Context) error {
	if err := require(c, "identity:create_grant"); err != nil {
		return err
	}
	return empty(c, h.store.Assign(c.Request().Context(), assignment(c)))
}

// revokeGrant handles DELETE on one assignment.
func (h *Handler) revokeGrant(c echo.Context) error {
	if err := require(c, "identity:delete_grant"); err != nil {
		return err
	}
	return empty(c, h.store.Unassign(c.Request().Context(), assignment(c)))
}

// listAssignments handles GET /v3/role_assignments.
func (h *Handler) listAssignments(c echo.Context) error {
	f := identity.Assignment{
		RoleID: c.QueryParam("role.id"), UserID: c.QueryParam("user.id"), GroupID: c.QueryParam("group.id"),
		ProjectID: c.QueryParam("scope.project.id"), Domain: c.QueryParam("scope.domain.id"),
	}
	if err := requireSelf(c, f.UserID, "identity:list_role_assignments"); err != nil {
		return err
	}
	if _, ok := c.QueryParams()["scope.system"]; ok {
		return h.list(c, "role_assignments", nil) // Top has no system scope
	}
	read := h.store.Assignments
	if on := queryFlag(c, "effective"); on != nil && *on {
		read = h.store.EffectiveAssignments
	}
	found, err := read(c.Request().Context(), f)
	if err != nil {
		return err
	}
	names := &namer{store: h.store, seen: map[string]object{}}
	if on := queryFlag(c, "include_names"); on != nil && *on {
		names.on = true
	}
	out := make([]object, 0, len(found))
	for _, a := range found {
		o, err := h.viewAssignment(c, a, names)
		if fault.Is(err, fault.NotFound) {
			continue // deleted since
		}
		if err != nil {
			return err
		}
		out = append(out, o)
	}
	return h.list(c, "role_assignments", out)
}

func (h *Handler) viewAssignment(c echo.Context, a identity.Assignment, names *namer) (object, error) {
	ctx := c.Request().Context()
	out := object{}
	link := h.link(c, "projects", a.ProjectID)
	scope := "project"
	scopeID := a.ProjectID
	if a.Domain != "" {
		scope, scopeID, link = "domain", a.Domain, h.link(c, "domains", a.Domain)
	}
	actor, actorID, plural := "user", a.UserID, "users"
	if a.GroupID != "" {
		actor, actorID, plural = "group", a.GroupID, "groups"
	}
	for _, part := range [][2]string{{"role", a.RoleID}, {actor, actorID}, {scope, scopeID}} {
		o, err := names.view(ctx, part[0], part[1])
		if err != nil {
			return nil, err
		}
		if part[0] == scope {
			out["scope"] = object{scope: o}
			continue
		}
		out[part[0]] = o
	}
	out["links"] = object{"assignment": link + "/" + plural + "/" + actorID + "/roles/" + a.RoleID}
	return out, nil
}

// namer shows things by id or, when it is on, with their names; it reads each once.
type namer struct {
	store *identity.Store
	on    bool
	seen  map[string]object
}

func (n *namer) view(ctx context.Context, kind, id string) (object, error) {
	if !n.on {
		return object{"id": id}, nil
	}
	if o, ok := n.seen[kind+id]; ok {
		return o, nil
	}
	name, domain, err := n.read(ctx, kind, id)
	if err != nil {
		return nil, err
	}
	o := object{"id": id, "name": name}
	if domain != "" {
		d, err := n.view(ctx, "domain", domain)
		if err != nil {
			return nil, err
		}
		o["domain"] = d
	}
	n.seen[kind+id] = o
	return o, nil
}

func (n *namer) read(ctx context.Context, kind, id string) (name, domain string, err error) {
	switch kind {
	case "role":
		r, err := n.store.Role(ctx, id)
		return r.Name, r.DomainID, err
	case "user":
		u, err := n.store.User(ctx, id)
		return u.Name, u.DomainID, err
	case "group":
		g, err := n.store.Group(ctx, id)
		return g.Name, g.DomainID, err
	case "project":
		p, err := n.store.Project(ctx, id)
		return p.Name, p.DomainID, err
	default:
		d, err := n.store.Domain(ctx, id)
		return d.Name, "", err
	}
}
