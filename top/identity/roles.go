package identity

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
)

func (h *Handler) roleView(c echo.Context) func(identity.Role) object {
	return func(r identity.Role) object {
		var domain any // null for a global role
		if r.DomainID != "" {
			domain = r.DomainID
		}
		return withExtra(r.Extra, object{
			"id": r.ID, "name": r.Name, "domain_id": domain, "description": r.Description,
			"options": object{}, "links": object{"self": h.link(c, "roles", r.ID)},
		})
	}
}

func (h *Handler) showRoleAs(c echo.Context, status int, r identity.Role, err error) error {
	if err != nil {
		return err
	}
	return c.JSON(status, object{"role": h.roleView(c)(r)})
}

// listRoles handles GET /v3/roles.
func (h *Handler) listRoles(c echo.Context) error {
	if err := require(c, "identity:list_roles"); err != nil {
		return err
	}
	list, err := h.store.Roles(c.Request().Context(), identity.RoleFilter{Name: c.QueryParam("name"), DomainID: c.QueryParam("domain_id")})
	if err != nil {
		return err
	}
	return h.list(c, "roles", views(list, h.roleView(c)))
}

// createRole handles POST /v3/roles.
func (h *Handler) createRole(c echo.Context) error {
	f, err := decode(c, "role")
	if err != nil {
		return err
	}
	if err := require(c, "identity:create_role"); err != nil {
		return err
	}
	r := identity.Role{Name: or(f.text("name"), ""), DomainID: or(f.text("domain_id"), ""), Description: or(f.text("description"), "")}
	if r.Extra, err = f.rest(); err != nil {
		return err
	}
	made, err := h.store.CreateRole(c.Request().Context(), r)
	return h.showRoleAs(c, http.StatusCreated, made, err)
}

// showRole handles GET /v3/roles/{id}.
func (h *Handler) showRole(c echo.Context) error {
	if err := require(c, "identity:get_role"); err != nil {
		return err
	}
	r, err := h.store.Role(c.Request().Context(), c.Param("role"))
	return h.showRoleAs(c, http.StatusOK, r, err)
}

// updateRole handles PATCH /v3/roles/{id}.
func (h *Handler) updateRole(c echo.Context) error {
	f, err := decode(c, "role")
	if err != nil {
		return err
	}
	if err := require(c, "identity:update_role"); err != nil {
		return err
	}
	change := identity.Changed{Name: f.text("name"), Description: f.text("description")}
	if domain := f.text("domain_id"); domain != nil {
		if r, err := h.store.Role(c.Request().Context(), c.Param("role")); err != nil || r.DomainID != *domain {
			return orElse(err, badRequest("A role cannot be moved to another domain."))
		}
	}
	if change.Extra, err = f.rest(); err != nil {
		return err
	}
	r, err := h.store.UpdateRole(c.Request().Context(), c.Param("role"), change)
	return h.showRoleAs(c, http.StatusOK, r, err)
}

// deleteRole handles DELETE /v3/roles/{id}.
func (h *Handler) deleteRole(c echo.Context) error {
	if err := require(c, "identity:delete_role"); err != nil {
		return err
	}
	return empty(c, h.store.DeleteRole(c.Request().Context(), c.Param("role")))
}

// inference pairs a role with what it implies.
func (h *Handler) inferences(c echo.Context) ([]object, error) {
	list, err := h.store.Roles(c.Request().Context(), identity.RoleFilter{})
	if err != nil {
		return nil, err
	}
	short := func(r identity.Role) object {
		return object{"id": r.ID, "name": r.Name, "links": object{"self": h.link(c, "roles", r.ID)}}
	}
	var out []object
	for _, prior := range list {
		implied := []object{}
		for _, r := range list {
			if r.Name == identity.Implied(prior.Name) {
				implied = append(implied, short(r))
			}
		}
		if len(implied) > 0 {
			out = append(out, object{"prior_role": short(prior), "implies": implied})
		}
	}
	return out, nil
}

// listInferences handles GET /v3/role_inferences.
func (h *Handler) listInferences(c echo.Context) error {
	if err := require(c, "identity:list_roles"); err != nil {
		return err
	}
	items, err := h.inferences(c)
	if err != nil {
		return err
	}
	return h.list(c, "role_inferences", items)
}

// listImplied handles GET /v3/roles/{id}/implies.
func (h *Handler) listImplied(c echo.Context) error {
	if err := require(c, "identity:list_roles"); err != nil {
		return err
	}
	role, err := h.store.Role(c.Request().Context(), c.Param("role"))
	if err != nil {
		return err
	}
	items, err := h.inferences(c)
	if err != nil {
		return err
	}
	for _, o := range items {
		if o["prior_role"].(object)["id"] == role.ID {
			return c.JSON(http.StatusOK, object{"role_inference": o})
		}
	}
	short := object{"id": role.ID, "name": role.Name, "links": object{"self": h.link(c, "roles", role.ID)}}
	return c.JSON(http.StatusOK, object{"role_inference": object{"prior_role": short, "implies": []object{}}})
}
