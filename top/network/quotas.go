package network

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// limited are the resources that Neutron counts.
func limited() []string {
	return []string{"network", "subnet", "subnetpool", "port", "router", "floatingip", "rbac_policy", "security_group", "security_group_rule", "trunk"}
}

// quotaOf authorizes the caller for a project's quota.
func quotaOf(c echo.Context, verb string) (string, error) {
	who, project := auth.From(c), c.Param("project")
	if who.Require(verb+"_quota", project) != nil {
		return "", faultjson.Typed("AdminRequired", fault.New(fault.Forbidden, "top/network", "User does not have admin privileges: Only admin is authorized to access quotas for another project."))
	}
	return project, nil
}

func (h *Handler) quotaTenant(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"tenant": map[string]any{"tenant_id": auth.From(c).Caller().ProjectID}})
}

// listQuotas lists the projects that have limits of their own.
func (h *Handler) listQuotas(c echo.Context) error {
	if err := auth.From(c).Require("update_quota", ""); err != nil {
		return err
	}
	own, err := h.service.Core().Quota.Projects(c.Request().Context())
	if err != nil {
		return err
	}
	out := []view{}
	for _, project := range own {
		one, err := h.limits(c, project)
		if err != nil {
			return err
		}
		one["tenant_id"], one["project_id"] = project, project
		out = append(out, one)
	}
	return c.JSON(http.StatusOK, map[string]any{"quotas": out})
}

func (h *Handler) limits(c echo.Context, project string) (view, error) {
	figures, err := h.service.Core().Quota.Figures(c.Request().Context(), project)
	if err != nil {
		return nil, err
	}
	out := view{}
	for _, name := range limited() {
		out[name] = figures[name].Limit
	}
	return out, nil
}

func (h *Handler) showQuota(c echo.Context) error {
	project, err := quotaOf(c, "get")
	if err != nil {
		return err
	}
	return h.answerQuota(c, project)
}

func (h *Handler) answerQuota(c echo.Context, project string) error {
	out, err := h.limits(c, project)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"quota": out})
}

func (h *Handler) defaultQuota(c echo.Context) error {
	if _, err := quotaOf(c, "get"); err != nil {
		return err
	}
	out := view{}
	for _, name := range limited() {
		n, _ := quota.Default(name)
		out[name] = n
	}
	return c.JSON(http.StatusOK, map[string]any{"quota": out})
}

func (h *Handler) quotaDetails(c echo.Context) error {
	project, err := quotaOf(c, "get")
	if err != nil {
		return err
	}
	figures, err := h.service.Core().Quota.Figures(c.Request().Context(), project)
	if err != nil {
		return err
	}
	out := view{}
	for _, name := range limited() {
		out[name] = view{"limit": figures[name].Limit, "used": figures[name].Used, "reserved": 0}
	}
	return c.JSON(http.StatusOK, map[string]any{"quota": out})
}

func (h *Handler) updateQuota(c echo.Context) error {
	m, err := body(c)
	if err != nil {
		return err
	}
	project, err := quotaOf(c, "update")
	if err != nil {
		return err
	}
	asked, ok := m["quota"].(map[string]any)
	if !ok {
		return bad("Unable to find 'quota' in request body")
	}
	limits := map[string]int64{}
	for name, value := range asked {
		if name == "tenant_id" || name == "project_id" || name == "force" || name == "check_limit" {
			continue
		}
		if !slices.Contains(limited(), name) {
			return bad("Unrecognized attribute(s) '%.60s'", name)
		}
		n, reason := integer(-1)(value)
		if reason != "" {
			return invalid(name, reason)
		}
		limits[name], _ = n.(int64)
	}
	if err := h.service.SetLimits(c.Request().Context(), auth.From(c).Caller(), project, limits); err != nil {
		return err
	}
	return h.answerQuota(c, project)
}

func (h *Handler) resetQuota(c echo.Context) error {
	project, err := quotaOf(c, "delete")
	if err != nil {
		return err
	}
	if err := h.service.ResetLimits(c.Request().Context(), auth.From(c).Caller(), project, limited()...); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
