package identity

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func (h *Handler) groupView(c echo.Context) func(identity.Group) object {
	return func(g identity.Group) object {
		return withExtra(g.Extra, object{
			"id": g.ID, "name": g.Name, "domain_id": g.DomainID, "description": g.Description,
			"links": object{"self": h.link(c, "groups", g.ID)},
		})
	}
}

func (h *Handler) showGroupAs(c echo.Context, status int, g identity.Group, err error) error {
	if err != nil {
		return err
	}
	return c.JSON(status, object{"group": h.groupView(c)(g)})
}

// listGroups handles GET /v3/groups.
func (h *Handler) listGroups(c echo.Context) error {
	if err := require(c, "identity:list_groups"); err != nil {
		return err
	}
	list, err := h.store.Groups(c.Request().Context(), identity.GroupFilter{Name: c.QueryParam("name"), DomainID: c.QueryParam("domain_id")})
	if err != nil {
		return err
	}
	return h.list(c, "groups", views(list, h.groupView(c)))
}

// createGroup handles POST /v3/groups.
func (h *Handler) createGroup(c echo.Context) error {
	f, err := decode(c, "group")
	if err != nil {
		return err
	}
	if err := require(c, "identity:create_group"); err != nil {
		return err
	}
	g := identity.Group{Name: or(f.text("name"), ""), DomainID: or(f.text("domain_id"), ""), Description: or(f.text("description"), "")}
	if g.Extra, err = f.rest(); err != nil {
		return err
	}
	made, err := h.store.CreateGroup(c.Request().Context(), g)
	return h.showGroupAs(c, http.StatusCreated, made, err)
}

// showGroup handles GET /v3/groups/{id}.
func (h *Handler) showGroup(c echo.Context) error {
	if err := require(c, "identity:get_group"); err != nil {
		return err
	}
	g, err := h.store.Group(c.Request().Context(), c.Param("group"))
	return h.showGroupAs(c, http.StatusOK, g, err)
}

// updateGroup handles PATCH /v3/groups/{id}.
func (h *Handler) updateGroup(c echo.Context) error {
	f, err := decode(c, "group")
	if err != nil {
		return err
	}
	if err := require(c, "identity:update_group"); err != nil {
		return err
	}
	change := identity.Changed{Name: f.text("name"), Description: f.text("description")}
	f.text("domain_id")
	if change.Extra, err = f.rest(); err != nil {
		return err
	}
	g, err := h.store.UpdateGroup(c.Request().Context(), c.Param("group"), change)
	return h.showGroupAs(c, http.StatusOK, g, err)
}

// deleteGroup handles DELETE /v3/groups/{id}.
func (h *Handler) deleteGroup(c echo.Context) error {
	if err := require(c, "identity:delete_group"); err != nil {
		return err
	}
	return empty(c, h.store.DeleteGroup(c.Request().Context(), c.Param("group")))
}

// listMembers handles GET /v3/groups/{id}/users.
func (h *Handler) listMembers(c echo.Context) error {
	if err := require(c, "identity:list_users"); err != nil {
		return err
	}
	if _, err := h.store.Group(c.Request().Context(), c.Param("group")); err != nil {
		return err
	}
	list, err := h.store.Users(c.Request().Context(), identity.UserFilter{GroupID: c.Param("group"), Name: c.QueryParam("name")})
	if err != nil {
		return err
	}
	return h.list(c, "users", views(list, h.userView(c)))
}

// addMember handles PUT /v3/groups/{id}/users/{user}.
func (h *Handler) addMember(c echo.Context) error {
	if err := require(c, "identity:update_group"); err != nil {
		return err
	}
	return empty(c, h.store.AddMember(c.Request().Context(), c.Param("group"), c.Param("user")))
}

// isMember handles GET and HEAD /v3/groups/{id}/users/{user}.
func (h *Handler) isMember(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:get_group"); err != nil {
		return err
	}
	in, err := h.store.IsMember(c.Request().Context(), c.Param("group"), c.Param("user"))
	if err == nil && !in {
		err = fault.New(fault.NotFound, "top/identity.isMember", "Could not find user in group: %s.", c.Param("user"))
	}
	return empty(c, err)
}

// removeMember handles DELETE /v3/groups/{id}/users/{user}.
func (h *Handler) removeMember(c echo.Context) error {
	if err := require(c, "identity:update_group"); err != nil {
		return err
	}
	return empty(c, h.store.RemoveMember(c.Request().Context(), c.Param("group"), c.Param("user")))
}
