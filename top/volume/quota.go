package volume

import (
	"maps"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// limits handles GET /limits.
func (h *Handler) limits(c echo.Context) error {
	who := auth.From(c)
	if err := who.Require("get_limits", ""); err != nil {
		return err
	}
	f, err := h.service.Figures(c.Request().Context(), who.Caller().ProjectID)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": map[string]any{
		"maxTotalVolumes": f["volumes"].Limit, "maxTotalSnapshots": f["snapshots"].Limit, "maxTotalVolumeGigabytes": f["gigabytes"].Limit,
		"maxTotalBackups": f["backups"].Limit, "maxTotalBackupGigabytes": f["backup_gigabytes"].Limit,
		"totalVolumesUsed": f["volumes"].Used, "totalSnapshotsUsed": f["snapshots"].Used, "totalGigabytesUsed": f["gigabytes"].Used,
		"totalBackupsUsed": f["backups"].Used, "totalBackupGigabytesUsed": f["backup_gigabytes"].Used,
	}}})
}

// mayQuota lets a project see its own quota, and administrators all.
func mayQuota(c echo.Context, rule string) (string, error) {
	target := c.Param("target")
	who := auth.From(c)
	return target, who.Require(rule, target)
}

// showQuota handles GET /os-quota-sets/{project}, with ?usage=True in Cinder's longer form.
func (h *Handler) showQuota(c echo.Context) error {
	target, err := mayQuota(c, "get_quota")
	if err != nil {
		return err
	}
	f, err := h.service.Figures(c.Request().Context(), target)
	if err != nil {
		return err
	}
	out := map[string]any{"id": target}
	for name, figure := range f {
		if isTrue(c.QueryParam("usage")) {
			out[name] = map[string]int64{"limit": figure.Limit, "in_use": figure.Used, "reserved": 0, "allocated": 0}
		} else {
			out[name] = figure.Limit
		}
	}
	return c.JSON(http.StatusOK, map[string]any{"quota_set": out})
}

// defaultQuota handles GET /os-quota-sets/{project}/defaults.
func (h *Handler) defaultQuota(c echo.Context) error {
	target, err := mayQuota(c, "get_quota")
	if err != nil {
		return err
	}
	out := map[string]any{"id": target}
	for _, name := range volume.QuotaNames() {
		out[name], _ = quota.Default(name)
	}
	return c.JSON(http.StatusOK, map[string]any{"quota_set": out})
}

// setQuota handles PUT /os-quota-sets/{project}.
func (h *Handler) setQuota(c echo.Context) error {
	in, _, err := wire.Object(c, "quota_set")
	if err != nil {
		return err
	}
	delete(in, "tenant_id")
	delete(in, "force")
	limits := map[string]int64{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		var n wire.Int
		if err := in.Take(name, &n); err != nil {
			return err
		}
		limits[name] = int64(n)
		if !slices.Contains(volume.QuotaNames(), name) {
			return wire.BadRequest("Bad key(s) in quota set: %s", name)
		}
		if n < -1 {
			return wire.BadRequest("Invalid input for field/attribute %s. Value: %d. %d is less than the minimum of -1", name, n, n)
		}
	}
	if len(limits) == 0 {
		return wire.BadRequest("Invalid input for field/attribute quota_set. It names no quota.")
	}
	target, err := mayQuota(c, "update_quota")
	if err != nil {
		return err
	}
	if err := h.service.SetLimits(c.Request().Context(), auth.From(c).Caller(), target, limits); err != nil {
		return err
	}
	return h.showQuota(c)
}

// resetQuota handles DELETE /os-quota-sets/{project}.
func (h *Handler) resetQuota(c echo.Context) error {
	target, err := mayQuota(c, "delete_quota")
	if err != nil {
		return err
	}
	if err := h.service.ResetLimits(c.Request().Context(), auth.From(c).Caller(), target); err != nil {
		return err
	}
	return c.NoContent(http.StatusOK)
}

// listTypes handles GET /types.
func (h *Handler) listTypes(c echo.Context) error {
	if err := auth.From(c).Require("get_volume_type", ""); err != nil {
		return err
	}
	caller := auth.From(c).Caller()
	rows, err := h.service.List(c.Request().Context(), index.Query{
		Kind: sites.VolumeType, Shared: true, Sort: []index.Sort{{Field: index.ByName}}, Match: func(r *index.Resource) bool { return volume.TypeVisible(caller, r) },
	})
	if err != nil {
		return err
	}
	items := []map[string]any{}
	for _, r := range rows {
		v, err := viewType(c, r)
		if err != nil {
			return err
		}
		items = append(items, v)
	}
	return c.JSON(http.StatusOK, map[string]any{"volume_types": items})
}

// findType looks a type up by id, or the default one.
func (h *Handler) findType(c echo.Context) (*index.Resource, error) {
	who := auth.From(c)
	if err := who.Require("get_volume_type", ""); err != nil {
		return nil, err
	}
	id := c.Param("id")
	if id == "default" {
		id = "__DEFAULT__" // Cinder's own, since Train
	}
	if r, err := h.service.Find(c.Request().Context(), who.Caller(), sites.VolumeType, id); err == nil && volume.TypeVisible(who.Caller(), r) {
		return r, nil
	}
	if id == "" { // FindType's word for no type at all
		return nil, index.NotFound(sites.VolumeType, id)
	}
	r, err := h.service.FindType(c.Request().Context(), who.Caller(), id)
	if fault.Is(err, fault.NotFound) && c.Param("id") == "default" {
		err = fault.New(fault.NotFound, "top/volume.findType", "Default volume type can not be found.")
	}
	return r, err
}

// showType handles GET /types/{id}.
func (h *Handler) showType(c echo.Context) error {
	r, err := h.findType(c)
	if err != nil {
		return err
	}
	v, err := viewType(c, r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"volume_type": v})
}

// typeSpecs handles GET /types/{id}/extra_specs.
func (h *Handler) typeSpecs(c echo.Context) error {
	r, err := h.findType(c)
	if err != nil {
		return err
	}
	var spec volume.TypeSpec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"extra_specs": shownSpecs(auth.From(c).Caller(), spec)})
}
