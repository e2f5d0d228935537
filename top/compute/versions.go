package compute

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/top/wire"
)

// The discovery documents: they need no token, and answer with and without a slash at the end.

func (h *Handler) versionDoc(c echo.Context, full bool) object {
	base := wire.Base(c, h.public) + "/compute/v2.1/"
	o := object{
		"id": "v2.1", "status": "CURRENT", "version": dialect.Max.String(), "min_version": dialect.Min.String(), "updated": "2013-07-23T11:33:21Z",
		"links": []wire.Link{{Rel: "self", Href: base}},
	}
	if full {
		o["media-types"] = []object{{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}}
		o["links"] = []wire.Link{{Rel: "self", Href: base}, {Rel: "describedby", Href: "http://docs.openstack.org/"}}
	}
	return o
}

// legacyDoc is version 2.0, which Nova lists first: 2.1 without microversions.
func (h *Handler) legacyDoc(c echo.Context, full bool) object {
	base := wire.Base(c, h.public) + "/compute/v2/"
	o := object{
		"id": "v2.0", "status": "SUPPORTED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z",
		"links": []wire.Link{{Rel: "self", Href: base}},
	}
	if full {
		o["media-types"] = []object{{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2"}}
		o["links"] = []wire.Link{{Rel: "self", Href: base}, {Rel: "describedby", Href: "http://docs.openstack.org/"}}
	}
	return o
}

func (h *Handler) versions(c echo.Context) error {
	return c.JSON(http.StatusOK, object{"versions": []object{h.legacyDoc(c, false), h.versionDoc(c, false)}})
}

func (h *Handler) legacyVersion(c echo.Context) error {
	return c.JSON(http.StatusOK, object{"version": h.legacyDoc(c, true)})
}

// legacy serves /v2/... as /v2.1/... in its first microversion, whatever the request's headers ask for, as Nova does
// (nova/api/openstack/compute/routes.py and wsgi.py, LegacyV2CompatibleWrapper).
func (h *Handler) legacy(c echo.Context) error {
	r := c.Request()
	r.Header.Del("X-Openstack-Nova-Api-Version")
	r.Header.Del("Openstack-Api-Version")
	r.URL.Path = strings.Replace(r.URL.Path, "/v2/", "/v2.1/", 1)
	r.URL.RawPath = strings.Replace(r.URL.RawPath, "/v2/", "/v2.1/", 1)
	c.SetHandler(func(echo.Context) error { return errNoRoute }) // Find leaves it alone when nothing fits
	c.Echo().Router().Find(r.Method, echo.GetPath(r), c)
	return c.Handler()(c)
}

func (h *Handler) version(c echo.Context) error {
	return c.JSON(http.StatusOK, object{"version": h.versionDoc(c, true)})
}

// extensions are the ones that clients look for; all of Nova's are part of 2.1.
var extensions = []string{
	"os-availability-zone", "os-aggregates", "os-console-output", "os-consoles", "os-extended-volumes", "os-flavor-access", "os-flavor-extra-specs",
	"os-hypervisors", "os-interface", "os-attach-interfaces", "os-instance-actions", "os-keypairs", "os-quota-sets", "os-rescue", "os-scheduler-hints",
	"os-server-groups", "os-server-password", "os-services", "os-shelve", "os-simple-tenant-usage", "os-suspend-server", "os-pause-server",
	"os-volume-attachments", "os-volumes", "os-user-data", "os-config-drive", "os-lock-server", "os-remote-consoles",
}

func extension(alias string) object {
	return object{"alias": alias, "name": alias, "description": "Part of the API.", "namespace": "http://docs.openstack.org/compute/ext/fake_xml", "updated": "2014-12-03T00:00:00Z", "links": []object{}}
}

func listExtensions(k *call) error {
	out := make([]object, len(extensions))
	for i, alias := range extensions {
		out[i] = extension(alias)
	}
	return k.ok(object{"extensions": out})
}

func showExtension(k *call) error {
	for _, alias := range extensions {
		if alias == k.Param("id") {
			return k.ok(object{"extension": extension(alias)})
		}
	}
	return errNoRoute
}
