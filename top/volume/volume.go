// Package volume is Cinder's API (v3, microversions 3.0 to 3.70) over Top's volumes.
package volume

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// zones lists availability zones.
type zones interface {
	Zones(ctx context.Context, caller sites.Caller, service sites.Service) ([]placement.Zone, error)
}

// siteList gives the sites as they are now.
type siteList interface {
	Sites(ctx context.Context) ([]registry.Site, error)
}

// Config is what New needs.
type Config struct {
	Service   *volume.Service
	Auth      *auth.Authenticator
	Zones     zones
	Sites     siteList
	PublicURL string
}

// Handler serves the API.
type Handler struct {
	service   *volume.Service
	auth      *auth.Authenticator
	zones     zones
	sites     siteList
	publicURL string
}

// New returns a Handler.
func New(cfg Config) *Handler {
	return &Handler{service: cfg.Service, auth: cfg.Auth, zones: cfg.Zones, sites: cfg.Sites, publicURL: cfg.PublicURL}
}

// dialect is Cinder's microversions.
var dialect = wire.Dialect{Name: "volume", Min: wire.Version{Major: 3}, Max: wire.Version{Major: 3, Minor: 70}}

const versionKey = "headwater.volume.version"

// negotiate is middleware that reads the microversion.
func negotiate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		v, err := dialect.Negotiate(c)
		if err != nil {
			return err
		}
		c.Set(versionKey, v)
		return next(c)
	}
}

func version(c echo.Context) wire.Version {
	v, _ := c.Get(versionKey).(wire.Version)
	return v
}

// ownProject is middleware that wants a path's project to be the token's; administrators may name another.
func ownProject(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		caller := auth.From(c).Caller()
		if project := c.Param("project"); project == caller.ProjectID {
			return next(c)
		} else if !projectForm.MatchString(project) {
			return fault.New(fault.NotFound, "top/volume", "The resource could not be found.") // a path without a project that does not exist
		}
		if !caller.Admin() {
			return wire.BadRequest("Malformed request url")
		}
		return next(c)
	}
}

// discover handles GET / (300) and GET /v3/ (200).
func (h *Handler) discover(status int) echo.HandlerFunc {
	return func(c echo.Context) error {
		return c.JSON(status, map[string]any{"versions": []any{map[string]any{
			"id": "v3.0", "status": "CURRENT", "version": dialect.Max.String(), "min_version": dialect.Min.String(), "updated": "2022-08-31T00:00:00Z",
			"links":       []wire.Link{{Rel: "self", Href: wire.Base(c, h.publicURL) + "/volume/v3/"}},
			"media-types": []map[string]string{{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}},
		}}})
	}
}

// endpoint is the address below which the caller reached the API, for links.
func (h *Handler) endpoint(c echo.Context) (versioned, bare string) {
	base := wire.Base(c, h.publicURL) + "/volume"
	project := c.Param("project")
	if project == "" {
		return base + "/v3", base
	}
	return base + "/v3/" + project, base + "/" + project
}

// zonesOf handles GET /os-availability-zone.
func (h *Handler) zonesOf(c echo.Context) error {
	who := auth.From(c)
	if err := who.Require("get_availability_zone", ""); err != nil {
		return err
	}
	list, err := h.zones.Zones(c.Request().Context(), who.Caller(), sites.BlockStorage)
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for _, z := range list {
		out = append(out, map[string]any{"zoneName": z.Name, "zoneState": map[string]bool{"available": z.Available}})
	}
	return c.JSON(http.StatusOK, map[string]any{"availabilityZoneInfo": out})
}

// services handles GET /os-services: each site is one host (top/README.md: Hosts).
func (h *Handler) services(c echo.Context) error {
	if err := auth.From(c).Require("get_service", ""); err != nil {
		return err
	}
	list, err := h.sites.Sites(c.Request().Context())
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for i := range list {
		s := &list[i]
		status, state := "enabled", "up"
		if placeable, _ := s.Placeable(); !placeable {
			status = "disabled"
		}
		if !s.Usable() {
			state = "down"
		}
		out = append(out, map[string]any{
			"binary": "cinder-volume", "host": string(s.Name), "zone": string(s.Name), "status": status, "state": state,
			"disabled_reason": orNil(s.Health.Reason), "updated_at": wire.Micros(s.Health.CheckedAt),
		})
	}
	return c.JSON(http.StatusOK, map[string]any{"services": out})
}

// pools handles GET /scheduler-stats/get_pools: each site is one pool.
func (h *Handler) pools(c echo.Context) error {
	if err := auth.From(c).Require("get_service", ""); err != nil {
		return err
	}
	list, err := h.sites.Sites(c.Request().Context())
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for i := range list {
		pool := map[string]any{"name": string(list[i].Name)}
		if cap := list[i].Capabilities.Capacity; c.QueryParam("detail") == "true" || c.QueryParam("detail") == "True" {
			pool["capabilities"] = map[string]any{"total_capacity_gb": cap.VolumesMax, "allocated_capacity_gb": cap.Volumes, "free_capacity_gb": max(cap.VolumesMax-cap.Volumes, 0)}
		}
		out = append(out, pool)
	}
	return c.JSON(http.StatusOK, map[string]any{"pools": out})
}

// refused is the answer to what volumes at Top cannot do, in one sentence.
func refused(sentence string) echo.HandlerFunc {
	return func(echo.Context) error {
		return fault.New(fault.Forbidden, "top/volume", "%s", sentence)
	}
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}
