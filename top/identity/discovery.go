package identity

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// versionInfo is the one version that is spoken: Zed's, v3.14.
func (h *Handler) versionInfo(c echo.Context) object {
	return object{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []object{{"rel": "self", "href": h.link(c) + "/"}},
		"media-types": []object{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

// versions handles GET /: 300 with every version, which is one.
func (h *Handler) versions(c echo.Context) error {
	c.Response().Header().Set("Location", h.link(c)+"/")
	return c.JSON(http.StatusMultipleChoices, object{"versions": object{"values": []object{h.versionInfo(c)}}})
}

// version handles GET /v3.
func (h *Handler) version(c echo.Context) error {
	return c.JSON(http.StatusOK, object{"version": h.versionInfo(c)})
}
