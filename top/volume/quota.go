package volume

import (
	"maps"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/cascade/volume"
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
