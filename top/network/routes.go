package network

import (
	"github.com/labstack/echo/v4"
)

// Routes registers everything below g, which stands at /network.
func (h *Handler) Routes(g *echo.Group) {
	for _, path := range []string{"", "/"} { // with and without the slash: clients do either
		g.GET(path, h.versions)
		g.GET("/v2.0"+path, h.resources)
	}
	v2 := g.Group("/v2.0", h.cfg.Auth.Project, preconditions)
	v2.GET("/extensions", h.listExtensions)
	v2.GET("/extensions/:alias", h.showExtension)
	for _, col := range h.collections {
		v2.GET("/"+col.path, h.list(col))
		v2.POST("/"+col.path, h.create(col))
		v2.GET("/"+col.path+"/:id", h.show(col))
		v2.DELETE("/"+col.path+"/:id", h.remove(col))
		if col.update == nil {
			continue
		}
		v2.PUT("/"+col.path+"/:id", h.update(col))
		v2.GET("/"+col.path+"/:id/tags", h.listTags(col))
		v2.PUT("/"+col.path+"/:id/tags", h.replaceTags(col))
		v2.DELETE("/"+col.path+"/:id/tags", h.clearTags(col))
		v2.GET("/"+col.path+"/:id/tags/:tag", h.hasTag(col))
		v2.PUT("/"+col.path+"/:id/tags/:tag", h.addTag(col))
		v2.DELETE("/"+col.path+"/:id/tags/:tag", h.removeTag(col))
	}
	v2.PUT("/routers/:id/add_router_interface", h.addRouterInterface)
	v2.PUT("/routers/:id/remove_router_interface", h.removeRouterInterface)
	v2.PUT("/routers/:id/add_extraroutes", h.addExtraRoutes)
	v2.PUT("/routers/:id/remove_extraroutes", h.removeExtraRoutes)

	v2.GET("/quotas", h.listQuotas)
	v2.GET("/quotas/tenant", h.quotaTenant)
	v2.GET("/quotas/project", h.quotaTenant)
	v2.GET("/quotas/:project", h.showQuota)
	v2.PUT("/quotas/:project", h.updateQuota)
	v2.DELETE("/quotas/:project", h.resetQuota)
	v2.GET("/quotas/:project/default", h.defaultQuota)
	v2.GET("/quotas/:project/details", h.quotaDetails)
	v2.GET("/quotas/:project/details.json", h.quotaDetails)

	v2.GET("/availability_zones", h.zones)
	v2.GET("/agents", h.agents)
	v2.GET("/network-ip-availabilities", h.availabilities)
	v2.GET("/network-ip-availabilities/:id", h.availability)
}
