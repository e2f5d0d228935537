package identity

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
)

func (h *Handler) projectView(c echo.Context) func(identity.Project) object {
	return func(p identity.Project) object {
		return withExtra(p.Extra, object{
			"id": p.ID, "name": p.Name, "domain_id": p.DomainID, "parent_id": p.DomainID, "description": p.Description,
			"enabled": p.Enabled, "is_domain": false, "tags": orEmpty(p.Tags), "options": object{},
			"links": object{"self": h.link(c, "projects", p.ID)},
		})
	}
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (h *Handler) showProjectAs(c echo.Context, status int, p identity.Project, err error) error {
	if err != nil {
		return err
	}
	return c.JSON(status, object{"project": h.projectView(c)(p)})
}

// listProjects handles GET /v3/projects: every project to an administrator, his own to anybody else.
func (h *Handler) listProjects(c echo.Context) error {
	if err := require(c, "identity:list_projects"); err != nil {
		return err // one's own stand at /v3/auth/projects and /v3/users/ID/projects, where clients look then
	}
	f := identity.ProjectFilter{Name: c.QueryParam("name"), DomainID: c.QueryParam("domain_id"), Enabled: queryFlag(c, "enabled")}
	if parent := c.QueryParam("parent_id"); parent != "" && f.DomainID == "" {
		f.DomainID = parent
	}
	if domains := queryFlag(c, "is_domain"); domains != nil && *domains {
		return h.list(c, "projects", nil) // domains are not projects here
	}
	list, err := h.store.Projects(c.Request().Context(), f)
	if err != nil {
		return err
	}
	return h.list(c, "projects", views(tagged(c, list), h.projectView(c)))
}

// createProject handles POST /v3/projects.
func (h *Handler) createProject(c echo.Context) error {
	f, err := decode(c, "project")
	if err != nil {
		return err
	}
	if err := require(c, "identity:create_project"); err != nil {
		return err
	}
	p := identity.Project{
		Name: or(f.text("name"), ""), DomainID: or(f.text("domain_id"), ""),
		Description: or(f.text("description"), ""), Enabled: or(f.flag("enabled"), true),
	}
	f.take("tags", &p.Tags)
	if err := h.checkParent(c, f, &p); err != nil {
		return err
	}
	if p.Extra, err = f.rest(); err != nil {
		return err
	}
	made, err := h.store.CreateProject(c.Request().Context(), p)
	return h.showProjectAs(c, http.StatusCreated, made, err)
}

// checkParent refuses what Top has not: projects in projects, and domains made through the project API.
func (h *Handler) checkParent(c echo.Context, f *fields, p *identity.Project) error {
	if domain := f.flag("is_domain"); domain != nil && *domain {
		return notOffered("A domain is made with POST /v3/domains.")
	}
	parent := or(f.text("parent_id"), "")
	if p.DomainID == "" {
		p.DomainID = identity.DefaultDomain
		if parent != "" {
			p.DomainID = parent
		}
	}
	if parent == "" {
		return nil
	}
	_, err := h.store.Domain(c.Request().Context(), parent)
	if parent != p.DomainID || fault.Is(err, fault.NotFound) {
		return notOffered("Projects are not nested: parent_id can only be the domain.")
	}
	return err
}

// requireProject lets in who the rule allows and, to look, who has a role in the project.
func (h *Handler) requireProject(c echo.Context, id string) error {
	who := auth.From(c).Token()
	if who.ProjectID() == id {
		return nil
	}
	refused := require(c, "identity:get_project")
	if refused == nil {
		return nil
	}
	own, err := h.store.Projects(c.Request().Context(), identity.ProjectFilter{UserID: who.User.ID})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(own, func(p identity.Project) bool { return p.ID == id }) {
		return nil
	}
	return refused
}

// showProject handles GET /v3/projects/{id}.
func (h *Handler) showProject(c echo.Context) error {
	if err := h.requireProject(c, c.Param("project")); err != nil {
		return err
	}
	p, err := h.store.Project(c.Request().Context(), c.Param("project"))
	return h.showProjectAs(c, http.StatusOK, p, err)
}

// updateProject handles PATCH /v3/projects/{id}.
func (h *Handler) updateProject(c echo.Context) error {
	f, err := decode(c, "project")
	if err != nil {
		return err
	}
	if err := require(c, "identity:update_project"); err != nil {
		return err
	}
	change := f.changed()
	var tags []string
	f.take("tags", &tags)
	for _, fixed := range []string{"domain_id", "parent_id"} {
		if to := f.text(fixed); to != nil {
			p, err := h.store.Project(c.Request().Context(), c.Param("project"))
			if err != nil || p.DomainID != *to {
				return orElse(err, notOffered("A project cannot be moved."))
			}
		}
	}
	f.flag("is_domain")
	if change.Extra, err = f.rest(); err != nil {
		return err
	}
	p, err := h.store.UpdateProject(c.Request().Context(), c.Param("project"), change, tags)
	return h.showProjectAs(c, http.StatusOK, p, err)
}

// deleteProject handles DELETE /v3/projects/{id}.
func (h *Handler) deleteProject(c echo.Context) error {
	if err := require(c, "identity:delete_project"); err != nil {
		return err
	}
	return empty(c, h.store.DeleteProject(c.Request().Context(), c.Param("project")))
}

// listTags handles GET /v3/projects/{id}/tags.
func (h *Handler) listTags(c echo.Context) error {
	if err := h.requireProject(c, c.Param("project")); err != nil {
		return err
	}
	p, err := h.store.Project(c.Request().Context(), c.Param("project"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, object{"tags": orEmpty(p.Tags), "links": object{"self": h.link(c, "projects", p.ID, "tags"), "previous": nil, "next": nil}})
}

// replaceTags handles PUT /v3/projects/{id}/tags.
func (h *Handler) replaceTags(c echo.Context) error {
	data, err := body(c)
	if err != nil {
		return err
	}
	var in struct {
		Tags []string `json:"tags"`
	}
	if err := unmarshal(data, &in); err != nil {
		return err
	}
	if err := require(c, "identity:update_project"); err != nil {
		return err
	}
	if in.Tags == nil {
		return badRequest("The member tags must be a list.")
	}
	if twice(in.Tags) {
		return badRequest("The tags of a project differ from each other.")
	}
	if err := h.setTags(c, func([]string) []string { return in.Tags }); err != nil {
		return err
	}
	return h.listTags(c)
}

// twice reports whether a list has something more than once.
func twice(list []string) bool {
	for i, item := range list {
		if slices.Contains(list[:i], item) {
			return true
		}
	}
	return false
}

// removeTags handles DELETE /v3/projects/{id}/tags.
func (h *Handler) removeTags(c echo.Context) error {
	return empty(c, h.setTags(c, func([]string) []string { return []string{} }))
}

// hasTag handles GET and HEAD /v3/projects/{id}/tags/{tag}.
func (h *Handler) hasTag(c echo.Context) error {
	if err := h.requireProject(c, c.Param("project")); err != nil {
		return err
	}
	p, err := h.store.Project(c.Request().Context(), c.Param("project"))
	if err == nil && !slices.Contains(p.Tags, c.Param("tag")) {
		err = fault.New(fault.NotFound, "top/identity.hasTag", "Could not find project tag: %s.", c.Param("tag"))
	}
	return empty(c, err)
}

// addTag handles PUT /v3/projects/{id}/tags/{tag}.
func (h *Handler) addTag(c echo.Context) error {
	had := false
	err := h.setTags(c, func(old []string) []string {
		had = slices.Contains(old, c.Param("tag"))
		return append(old, c.Param("tag"))
	})
	switch {
	case err != nil:
		return err
	case had: // Keystone holds the list with the new tag against its schema, which wants every item once
		return badRequest("The project has the tag %s already.", c.Param("tag"))
	}
	return c.NoContent(http.StatusCreated)
}

// removeTag handles DELETE /v3/projects/{id}/tags/{tag}.
func (h *Handler) removeTag(c echo.Context) error {
	if err := h.setTags(c, func(old []string) []string {
		return slices.DeleteFunc(orEmpty(old), func(t string) bool { return t == c.Param("tag") })
	}); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (h *Handler) setTags(c echo.Context, change func([]string) []string) error {
	if err := require(c, "identity:update_project"); err != nil {
		return err
	}
	p, err := h.store.Project(c.Request().Context(), c.Param("project"))
	if err != nil {
		return err
	}
	_, err = h.store.UpdateProject(c.Request().Context(), p.ID, identity.Changed{}, change(p.Tags))
	return err
}
