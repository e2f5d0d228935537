// Package image is Glance's API (v2) over Top's images.
package image

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
	"github.com/headwater-cloud/headwater/top/wire"
)

// Config is what New needs.
type Config struct {
	Service   *image.Service
	Auth      *auth.Authenticator
	PublicURL string
}

// Handler serves the API.
type Handler struct {
	service   *image.Service
	auth      *auth.Authenticator
	publicURL string
}

// New returns a Handler.
func New(cfg Config) *Handler {
	return &Handler{service: cfg.Service, auth: cfg.Auth, publicURL: cfg.PublicURL}
}

// versions are the API's minor versions that are spoken, newest first (glance/api/versions.py, Zed). What 2.3 to
// 2.15 added and Top does not offer (tasks, stores, cache) is absent from info and schemas.
func versions() []string {
	return []string{"v2.9", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"}
}

// discover handles GET / (300) and GET /versions (200).
func (h *Handler) discover(status int) echo.HandlerFunc {
	return func(c echo.Context) error {
		href := wire.Base(c, h.publicURL) + "/image/v2/"
		var list []map[string]any
		for i, id := range versions() {
			state := "SUPPORTED"
			if i == 0 {
				state = "CURRENT"
			}
			list = append(list, map[string]any{"id": id, "status": state, "links": []wire.Link{{Rel: "self", Href: href}}})
		}
		return c.JSON(status, map[string]any{"versions": list})
	}
}

// importInfo handles GET /v2/info/import: bytes come by PUT file only.
func (h *Handler) importInfo(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"import-methods": map[string]any{
		"description": "Import methods available.", "type": "array", "value": []string{},
	}})
}

// storesInfo handles GET /v2/info/stores. Where the bytes lie is Top's to choose: sites are not shown as stores.
func (h *Handler) storesInfo(echo.Context) error {
	return fault.New(fault.NotFound, "top/image.storesInfo", "Multi backend is not supported at this site.")
}

// unsupported answers a request of a media type that is not taken: no fault says that.
func unsupported(c echo.Context) error {
	asked := faultjson.Asked{Service: faultjson.Image}
	faultjson.RenderStatus(asked, http.StatusUnsupportedMediaType, "The request media type "+c.Request().Header.Get("Content-Type")+" is not supported by this server.", "").WriteTo(c.Response())
	return nil
}
