package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
)

// Global is the region that means all sites.
const Global = "Global"

// services are what Top offers, in the order of the catalog. Image and network carry no version, because
// gophercloud appends its own; block storage stands under its old type too, which older clients ask for.
var services = []struct{ kind, name, path string }{
	{"identity", "keystone", "/identity/v3"},
	{"compute", "nova", "/compute/v2.1"},
	{"image", "glance", "/image"},
	{"network", "neutron", "/network"},
	{"volumev3", "cinderv3", "/volume/v3"},
	{"block-storage", "cinderv3", "/volume/v3"},
}

var interfaces = []string{"public", "internal", "admin"}

// region is one entry of the site picker.
type region struct{ name, url string }

// regions returns Global first, because Horizon takes the first one when the user has not chosen.
func (h *Handler) regions(c echo.Context) ([]region, error) {
	names, err := h.cfg.Sites.Enabled(c.Request().Context())
	if err != nil {
		return nil, err
	}
	names = slices.Clone(names)
	slices.Sort(names)
	base := auth.BaseURL(c, h.cfg.PublicURL)
	out := []region{{Global, base}}
	for _, name := range names {
		out = append(out, region{string(name), base + "/sites/" + string(name)})
	}
	return out, nil
}

// stableID makes the 32 hexadecimal digits of a catalog entry from its name, so that all replicas agree.
func stableID(parts ...string) string {
	hash := sha256.New()
	for _, p := range parts {
		hash.Write([]byte(p))
		hash.Write([]byte{0})
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// catalog returns the services with their endpoints, as tokens carry them.
func (h *Handler) catalog(c echo.Context) ([]object, error) {
	regions, err := h.regions(c)
	if err != nil {
		return nil, err
	}
	out := make([]object, len(services))
	for i, s := range services {
		endpoints := make([]object, 0, len(regions)*len(interfaces))
		for _, r := range regions {
			for _, face := range interfaces {
				endpoints = append(endpoints, object{
					"id": stableID(s.kind, r.name, face), "interface": face,
					"region": r.name, "region_id": r.name, "url": r.url + s.path,
				})
			}
		}
		out[i] = object{"id": stableID(s.kind), "type": s.kind, "name": s.name, "endpoints": endpoints}
	}
	return out, nil
}

// authCatalog handles GET /v3/auth/catalog.
func (h *Handler) authCatalog(c echo.Context) error {
	if t := auth.From(c).Token(); t.Project == nil && t.Domain == nil {
		return fault.New(fault.Forbidden, "top/identity.authCatalog", "An unscoped token has no catalog.")
	}
	items, err := h.catalog(c)
	if err != nil {
		return err
	}
	return h.list(c, "catalog", items)
}

// listRegions handles GET /v3/regions.
func (h *Handler) listRegions(c echo.Context) error {
	items, err := h.regionViews(c)
	if err != nil {
		return err
	}
	return h.list(c, "regions", items)
}

func (h *Handler) regionViews(c echo.Context) ([]object, error) {
	regions, err := h.regions(c)
	if err != nil {
		return nil, err
	}
	return views(regions, func(r region) object {
		text := "The site " + r.name
		if r.name == Global {
			text = "All sites"
		}
		return object{"id": r.name, "description": text, "parent_region_id": nil, "links": object{"self": h.link(c, "regions", r.name)}}
	}), nil
}

// showRegion handles GET /v3/regions/{id}.
func (h *Handler) showRegion(c echo.Context) error {
	items, err := h.regionViews(c)
	return showOne(c, "region", items, err)
}

// serviceViews lists the catalog's services, with a type those of that type.
func (h *Handler) serviceViews(c echo.Context) []object {
	var out []object
	for _, s := range services {
		out = append(out, object{
			"id": stableID(s.kind), "type": s.kind, "name": s.name, "enabled": true, "description": "",
			"links": object{"self": h.link(c, "services", stableID(s.kind))},
		})
	}
	return out
}

// listServices handles GET /v3/services.
func (h *Handler) listServices(c echo.Context) error {
	return h.list(c, "services", filter(c, h.serviceViews(c), "type", "name"))
}

// showService handles GET /v3/services/{id}.
func (h *Handler) showService(c echo.Context) error {
	return showOne(c, "service", h.serviceViews(c), nil)
}

func (h *Handler) endpointViews(c echo.Context) ([]object, error) {
	items, err := h.catalog(c)
	if err != nil {
		return nil, err
	}
	var out []object
	for _, s := range items {
		for _, e := range s["endpoints"].([]object) {
			e["service_id"], e["enabled"] = s["id"], true
			e["links"] = object{"self": h.link(c, "endpoints", e["id"].(string))}
			out = append(out, e)
		}
	}
	return out, nil
}

// listEndpoints handles GET /v3/endpoints.
func (h *Handler) listEndpoints(c echo.Context) error {
	items, err := h.endpointViews(c)
	if err != nil {
		return err
	}
	return h.list(c, "endpoints", filter(c, items, "interface", "service_id", "region_id"))
}

// showEndpoint handles GET /v3/endpoints/{id}.
func (h *Handler) showEndpoint(c echo.Context) error {
	items, err := h.endpointViews(c)
	return showOne(c, "endpoint", items, err)
}

// filter keeps what agrees with the query's members of the given names.
func filter(c echo.Context, items []object, names ...string) []object {
	return slices.DeleteFunc(items, func(o object) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			want := c.QueryParam(n)
			return want != "" && o[n] != want
		})
	})
}

// showOne answers with the one whose id the path's parameter of that name gives.
func showOne(c echo.Context, name string, items []object, err error) error {
	if err != nil {
		return err
	}
	for _, o := range items {
		if o["id"] == c.Param(name) {
			return c.JSON(http.StatusOK, object{name: o})
		}
	}
	return fault.New(fault.NotFound, "top/identity", "Could not find %s: %s.", name, c.Param(name))
}
