package volume

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites"
)

// Routes registers the API below g, which stands at /volume. Paths with the
// project's id in them, which clients before 3.67 use, answer the same.
func (h *Handler) Routes(g *echo.Group) {
	for _, slash := range []string{"", "/"} {
		g.GET(slash, h.discover(http.StatusMultipleChoices))
		g.GET("/v3"+slash, h.discover(http.StatusOK))
	}
	h.register(g.Group("/v3", h.auth.Project, negotiate))
	h.register(g.Group("/v3/:project", h.auth.Project, ownProject, negotiate))
}

func (h *Handler) register(g *echo.Group) {
	g.GET("/volumes", h.listVolumes(false))
	g.GET("/volumes/detail", h.listVolumes(true))
	g.GET("/volumes/summary", h.summary)
	g.POST("/volumes", h.createVolume)
	g.GET("/volumes/:id", h.showVolume)
	g.PUT("/volumes/:id", h.update(sites.Volume))
	g.DELETE("/volumes/:id", h.deleteVolume)
	g.POST("/volumes/:id/action", h.act(sites.Volume, actions))
	g.GET("/snapshots", h.listSnapshots(false))
	g.GET("/snapshots/detail", h.listSnapshots(true))
	g.POST("/snapshots", h.createSnapshot)
	g.GET("/snapshots/:id", h.showSnapshot)
	g.PUT("/snapshots/:id", h.update(sites.Snapshot))
	g.DELETE("/snapshots/:id", h.deleteSnapshot)
	g.POST("/snapshots/:id/action", h.act(sites.Snapshot, snapshotActions))
	g.GET("/messages", h.listMessages)
	g.GET("/messages/:id", h.showMessage)
	for collection, kind := range map[string]sites.Kind{"volumes": sites.Volume, "snapshots": sites.Snapshot} {
		g.GET("/"+collection+"/:id/metadata", h.showMetadata(kind))
		g.POST("/"+collection+"/:id/metadata", h.setMetadata(kind, false))
		g.PUT("/"+collection+"/:id/metadata", h.setMetadata(kind, true))
		g.GET("/"+collection+"/:id/metadata/:key", h.showMetadatum(kind))
		g.PUT("/"+collection+"/:id/metadata/:key", h.setMetadatum(kind))
		g.DELETE("/"+collection+"/:id/metadata/:key", h.deleteMetadatum(kind))
	}
	g.GET("/types", h.listTypes)
	g.GET("/types/:id", h.showType)
	g.GET("/types/:id/extra_specs", h.typeSpecs)
	g.GET("/types/:id/os-volume-type-access", h.listTypeAccess)
	g.POST("/types/:id/action", h.changeTypeAccess)
	const typesAreTheSites = "Volume types are the sites' own: the operator makes one at a site, and Top takes it over."
	g.POST("/types", refused(typesAreTheSites))
	g.PUT("/types/:id", refused(typesAreTheSites))
	g.DELETE("/types/:id", refused(typesAreTheSites))
	g.GET("/limits", h.limits)
	g.GET("/os-quota-sets/:target", h.showQuota)
	g.GET("/os-quota-sets/:target/defaults", h.defaultQuota)
	g.GET("/os-quota-sets/:target/detail", h.showQuota)
	g.PUT("/os-quota-sets/:target", h.setQuota)
	g.DELETE("/os-quota-sets/:target", h.resetQuota)
	g.GET("/os-availability-zone", h.zonesOf)
	g.GET("/os-services", h.services)
	g.GET("/scheduler-stats/get_pools", h.pools)
	g.GET("/extensions", h.extensions)
	registerAbsent(g)
}
