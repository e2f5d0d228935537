package volume

import (
	"net/http"
	"regexp"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/cascade/volume"
)

// absent is what Cinder has and Top does not offer. Its lists are empty, as of a cloud where nobody uses it: clients ask
// for them beside what they are after (Horizon's list of volumes shows nothing without the list of transfers). Whoever
// would make one is told why not.
var absent = []struct {
	path, key string
	detail    bool
	why       string
}{
	{"volume-transfers", "transfers", true, "Volumes cannot change hands: a volume stays with the project that made it."},
	{"os-volume-transfer", "transfers", true, "Volumes cannot change hands: a volume stays with the project that made it."},
	{"backups", "backups", true, "Backups of volumes are not offered here: make a snapshot instead."},
	{"groups", "groups", true, "Groups of volumes are not offered here: a snapshot is of one volume."},
	{"group_snapshots", "group_snapshots", true, "Groups of volumes are not offered here: a snapshot is of one volume."},
	{"group_types", "group_types", false, "Groups of volumes are not offered here: a snapshot is of one volume."},
	{"consistencygroups", "consistencygroups", true, "Groups of volumes are not offered here: a snapshot is of one volume."},
	{"cgsnapshots", "cgsnapshots", true, "Groups of volumes are not offered here: a snapshot is of one volume."},
	{"qos-specs", "qos_specs", false, "Volume types are the sites' own, and so is the quality of service that they promise."},
}

func registerAbsent(g *echo.Group) {
	for _, a := range absent {
		none := func(c echo.Context) error { return c.JSON(http.StatusOK, map[string]any{a.key: []any{}}) }
		g.GET("/"+a.path, none)
		if a.detail {
			g.GET("/"+a.path+"/detail", none)
		}
		g.POST("/"+a.path, refused(a.why))
	}
	g.GET("/os-quota-class-sets/default", defaultClass)
	g.PUT("/os-quota-class-sets/default", refused("The default limits are Top's own: set a project's limits with openstack quota set PROJECT."))
	// Not encrypted, as far as Top knows: Cinder answers so for a type without encryption.
	g.GET("/types/:id/encryption", func(c echo.Context) error { return c.JSON(http.StatusOK, map[string]any{}) })
}

// defaultClass handles GET /os-quota-class-sets/default: the limits of a project that has none of its own.
func defaultClass(c echo.Context) error {
	out := map[string]any{"id": "default"}
	for _, name := range volume.QuotaNames() {
		out[name], _ = quota.Default(name)
	}
	return c.JSON(http.StatusOK, map[string]any{"quota_class_set": out})
}

// projectForm is what may stand for a project in a path: Cinder's project_id_regex. Anything else there is a path that does not exist.
var projectForm = regexp.MustCompile(`^[0-9a-f-]+$`)

// offered are the extensions of Cinder that Top answers, by the names that clients ask for: Horizon shows the choice of
// a zone and the list of services only where they are named.
var offered = []struct{ name, alias string }{
	{"AvailabilityZones", "os-availability-zone"}, {"ExtendedSnapshotAttributes", "os-extended-snapshot-attributes"}, {"Quotas", "os-quota-sets"},
	{"Scheduler_stats", "scheduler-stats"}, {"Services", "os-services"}, {"SnapshotActions", "os-snapshot-actions"},
	{"UsedLimits", "os-used-limits"}, {"VolumeActions", "os-volume-actions"},
	{"VolumeTenantAttribute", "os-vol-tenant-attr"},
}

// extensions handles GET /extensions.
func (h *Handler) extensions(c echo.Context) error {
	list := make([]map[string]any, len(offered))
	for i, e := range offered {
		list[i] = map[string]any{"name": e.name, "alias": e.alias, "description": "Part of the API.", "updated": "2012-08-14T00:00:00+00:00", "links": []any{}}
	}
	return c.JSON(http.StatusOK, map[string]any{"extensions": list})
}
