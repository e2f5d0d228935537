package identity

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func secret(s string) ident.Secret { return ident.Secret(s) }

// withExtra returns the view with the members that Top does not know; known ones win.
func withExtra(extra identity.Extra, known object) object {
	for k, v := range extra {
		if _, ok := known[k]; !ok {
			known[k] = v
		}
	}
	return known
}

func (h *Handler) userView(c echo.Context) func(identity.User) object {
	return func(u identity.User) object {
		o := object{
			"id": u.ID, "name": u.Name, "domain_id": u.DomainID, "enabled": u.Enabled, "password_expires_at": nil,
			"options": object{}, "links": object{"self": h.link(c, "users", u.ID)},
		}
		if u.DefaultProjectID != "" {
			o["default_project_id"] = u.DefaultProjectID
		}
		return withExtra(u.Extra, o)
	}
}

func (h *Handler) showUserAs(c echo.Context, status int, u identity.User, err error) error {
	if err != nil {
		return err
	}
	return c.JSON(status, object{"user": h.userView(c)(u)})
}

// listUsers handles GET /v3/users.
func (h *Handler) listUsers(c echo.Context) error {
	if err := require(c, "identity:list_users"); err != nil {
		return err
	}
	list, err := h.store.Users(c.Request().Context(), identity.UserFilter{
		Name: c.QueryParam("name"), DomainID: c.QueryParam("domain_id"), Enabled: queryFlag(c, "enabled"),
	})
	if err != nil {
		return err
	}
	return h.list(c, "users", views(list, h.userView(c)))
}

// createUser handles POST /v3/users.
func (h *Handler) createUser(c echo.Context) error {
	f, err := decode(c, "user")
	if err != nil {
		return err
	}
	if err := require(c, "identity:create_user"); err != nil {
		return err
	}
	password := f.text("password")
	u := identity.User{
		Name: or(f.text("name"), ""), DomainID: or(f.text("domain_id"), ""),
		Enabled: or(f.flag("enabled"), true), DefaultProjectID: or(f.text("default_project_id"), ""),
	}
	delete(f.left, "password_expires_at")
	if u.Extra, err = f.rest(); err != nil {
		return err
	}
	made, err := h.store.CreateUser(c.Request().Context(), u, secret(or(password, "")))
	return h.showUserAs(c, http.StatusCreated, made, err)
}

// showUser handles GET /v3/users/{id}.
func (h *Handler) showUser(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:get_user"); err != nil {
		return err
	}
	u, err := h.store.User(c.Request().Context(), c.Param("user"))
	return h.showUserAs(c, http.StatusOK, u, err)
}

// updateUser handles PATCH /v3/users/{id}.
func (h *Handler) updateUser(c echo.Context) error {
	f, err := decode(c, "user")
	if err != nil {
		return err
	}
	if err := require(c, "identity:update_user"); err != nil {
		return err
	}
	change := identity.UserChange{
		Changed:          identity.Changed{Name: f.text("name"), Enabled: f.flag("enabled")},
		DefaultProjectID: f.text("default_project_id"),
	}
	var password string
	if f.take("password", &password) {
		p := secret(password)
		change.Password = &p
	}
	if domain := f.text("domain_id"); domain != nil {
		if u, err := h.store.User(c.Request().Context(), c.Param("user")); err != nil || u.DomainID != *domain {
			return orElse(err, badRequest("A user cannot be moved to another domain."))
		}
	}
	delete(f.left, "password_expires_at")
	if change.Extra, err = f.rest(); err != nil {
		return err
	}
	u, err := h.store.UpdateUser(c.Request().Context(), c.Param("user"), change)
	return h.showUserAs(c, http.StatusOK, u, err)
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// deleteUser handles DELETE /v3/users/{id}.
func (h *Handler) deleteUser(c echo.Context) error {
	if err := require(c, "identity:delete_user"); err != nil {
		return err
	}
	return empty(c, h.store.DeleteUser(c.Request().Context(), c.Param("user")))
}

// userProjects handles GET /v3/users/{id}/projects.
func (h *Handler) userProjects(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:list_projects"); err != nil {
		return err
	}
	if _, err := h.store.User(c.Request().Context(), c.Param("user")); err != nil {
		return err
	}
	list, err := h.store.Projects(c.Request().Context(), identity.ProjectFilter{UserID: c.Param("user"), Name: c.QueryParam("name")})
	if err != nil {
		return err
	}
	return h.list(c, "projects", views(list, h.projectView(c)))
}

// userGroups handles GET /v3/users/{id}/groups.
func (h *Handler) userGroups(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:list_groups"); err != nil {
		return err
	}
	list, err := h.store.Groups(c.Request().Context(), identity.GroupFilter{UserID: c.Param("user"), Name: c.QueryParam("name")})
	if err != nil {
		return err
	}
	return h.list(c, "groups", views(list, h.groupView(c)))
}
