package image

import (
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/top/wire"
)

// Routes registers the API below g, which stands at /image.
func (h *Handler) Routes(g *echo.Group) {
	for _, path := range []string{"", "/"} {
		g.GET(path, h.discover(http.StatusMultipleChoices))
		g.GET("/versions"+path, h.discover(http.StatusOK))
		g.GET("/v2"+path, h.discover(http.StatusMultipleChoices))
	}
	v2 := g.Group("/v2", h.auth.Project)
	v2.GET("/images", h.list)
	v2.POST("/images", h.create)
	v2.GET("/images/:image", h.show)
	v2.PATCH("/images/:image", h.patch)
	v2.DELETE("/images/:image", h.delete, noBody)
	v2.PUT("/images/:image/file", h.upload)
	v2.GET("/images/:image/file", h.download)
	v2.POST("/images/:image/actions/deactivate", h.setActive(false), noBody)
	v2.POST("/images/:image/actions/reactivate", h.setActive(true), noBody)
	v2.PUT("/images/:image/tags/:tag", h.addTag, noBody)
	v2.DELETE("/images/:image/tags/:tag", h.removeTag, noBody)
	v2.GET("/images/:image/members", h.listMembers)
	v2.POST("/images/:image/members", h.addMember)
	v2.GET("/images/:image/members/:member", h.showMember)
	v2.PUT("/images/:image/members/:member", h.answerMember)
	v2.DELETE("/images/:image/members/:member", h.removeMember, noBody)
	v2.GET("/schemas/:name", h.schema)
	v2.GET("/schemas/metadefs/:name", metadefSchema)
	v2.GET("/metadefs/namespaces", noNamespaces)
	v2.POST("/metadefs/namespaces", refuseMetadefs)
	v2.GET("/metadefs/resource_types", noResourceTypes)
	v2.GET("/info/import", h.importInfo)
	v2.GET("/info/stores", h.storesInfo)
}

// noBody is middleware that refuses a body where Glance takes none (body_reject in glance/api/v2/router.py).
func noBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if n, _ := io.ReadFull(c.Request().Body, make([]byte, 1)); n > 0 {
			return wire.BadRequest("A body is not expected with this request.")
		}
		return next(c)
	}
}
