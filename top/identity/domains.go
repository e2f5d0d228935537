package identity

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/top/auth"
)

func (h *Handler) domainView(c echo.Context) func(identity.Domain) object {
	return func(d identity.Domain) object {
		return withExtra(d.Extra, object{
			"id": d.ID, "name": d.Name, "description": d.Description, "enabled": d.Enabled, "tags": []string{},
			"options": object{}, "links": object{"self": h.link(c, "domains", d.ID)},
		})
	}
}

func (h *Handler) showDomainAs(c echo.Context, status int, d identity.Domain, err error) error {
	if err != nil {
		return err
	}
	return c.JSON(status, object{"domain": h.domainView(c)(d)})
}

// listDomains handles GET /v3/domains.
func (h *Handler) listDomains(c echo.Context) error {
	if err := require(c, "identity:list_domains"); err != nil {
		return err
	}
	list, err := h.store.Domains(c.Request().Context(), c.QueryParam("name"))
	if err != nil {
		return err
	}
	var kept []identity.Domain
	for _, d := range list {
		if want := queryFlag(c, "enabled"); want == nil || *want == d.Enabled {
			kept = append(kept, d)
		}
	}
	return h.list(c, "domains", views(kept, h.domainView(c)))
}

// createDomain handles POST /v3/domains.
func (h *Handler) createDomain(c echo.Context) error {
	f, err := decode(c, "domain")
	if err != nil {
		return err
	}
	if err := require(c, "identity:create_domain"); err != nil {
		return err
	}
	d := identity.Domain{Name: or(f.text("name"), ""), Description: or(f.text("description"), ""), Enabled: or(f.flag("enabled"), true)}
	if d.Extra, err = f.rest(); err != nil {
		return err
	}
	made, err := h.store.CreateDomain(c.Request().Context(), d)
	return h.showDomainAs(c, http.StatusCreated, made, err)
}

// showDomain handles GET /v3/domains/{id}; everybody sees his own.
func (h *Handler) showDomain(c echo.Context) error {
	if auth.From(c).Token().User.DomainID != c.Param("domain") {
		if err := require(c, "identity:get_domain"); err != nil {
			return err
		}
	}
	d, err := h.store.Domain(c.Request().Context(), c.Param("domain"))
	return h.showDomainAs(c, http.StatusOK, d, err)
}

// updateDomain handles PATCH /v3/domains/{id}.
func (h *Handler) updateDomain(c echo.Context) error {
	f, err := decode(c, "domain")
	if err != nil {
		return err
	}
	if err := require(c, "identity:update_domain"); err != nil {
		return err
	}
	change := f.changed()
	if change.Extra, err = f.rest(); err != nil {
		return err
	}
	d, err := h.store.UpdateDomain(c.Request().Context(), c.Param("domain"), change)
	return h.showDomainAs(c, http.StatusOK, d, err)
}

// deleteDomain handles DELETE /v3/domains/{id}.
func (h *Handler) deleteDomain(c echo.Context) error {
	if err := require(c, "identity:delete_domain"); err != nil {
		return err
	}
	return empty(c, h.store.DeleteDomain(c.Request().Context(), c.Param("domain")))
}
