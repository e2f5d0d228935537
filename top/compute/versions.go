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

// extensions are those of Nova's that Top serves, by alias with their names; all are part of 2.1.
var extensions = [][2]string{
	{"OS-DCF", "DiskConfig"}, {"OS-EXT-AZ", "ExtendedAvailabilityZone"}, {"OS-EXT-IMG-SIZE", "ImageSize"}, {"OS-EXT-SRV-ATTR", "ExtendedServerAttributes"},
	{"OS-EXT-STS", "ExtendedStatus"}, {"OS-SCH-HNT", "SchedulerHints"}, {"OS-SRV-USG", "ServerUsage"}, {"os-access-ips", "AccessIPs"},
	{"os-admin-actions", "AdminActions"}, {"os-admin-password", "AdminPassword"}, {"os-aggregates", "Aggregates"}, {"os-attach-interfaces", "AttachInterfaces"},
	{"os-availability-zone", "AvailabilityZone"}, {"os-config-drive", "ConfigDrive"}, {"os-console-output", "ConsoleOutput"}, {"os-consoles", "Consoles"},
	{"os-extended-volumes", "ExtendedVolumes"}, {"os-flavor-access", "FlavorAccess"}, {"os-flavor-extra-specs", "FlavorExtraSpecs"},
	{"os-flavor-manage", "FlavorManage"}, {"os-floating-ip-pools", "FloatingIpPools"}, {"os-floating-ips", "FloatingIps"}, {"os-hosts", "Hosts"},
	{"os-hypervisors", "Hypervisors"}, {"os-instance-actions", "InstanceActions"}, {"os-interface", "AttachInterfaces"}, {"os-keypairs", "Keypairs"},
	{"os-lock-server", "LockServer"}, {"os-multiple-create", "MultipleCreate"}, {"os-networks", "Networks"}, {"os-pause-server", "PauseServer"},
	{"os-quota-class-sets", "QuotaClasses"}, {"os-quota-sets", "Quotas"}, {"os-remote-consoles", "Consoles"}, {"os-rescue", "Rescue"},
	{"os-scheduler-hints", "SchedulerHints"}, {"os-security-groups", "SecurityGroups"}, {"os-server-groups", "ServerGroups"},
	{"os-server-password", "ServerPassword"}, {"os-services", "Services"}, {"os-shelve", "Shelve"}, {"os-simple-tenant-usage", "SimpleTenantUsage"},
	{"os-suspend-server", "SuspendServer"}, {"os-tenant-networks", "OSTenantNetworks"}, {"os-user-data", "UserData"}, {"os-volume-attachments", "VolumeAttachmentUpdate"},
	{"os-volumes", "Volumes"},
}

func extension(e [2]string) object {
	return object{"alias": e[0], "name": e[1], "description": "Part of the API.", "namespace": "http://docs.openstack.org/compute/ext/fake_xml", "updated": "2014-12-03T00:00:00Z", "links": []object{}}
}

func listExtensions(k *call) error {
	out := make([]object, len(extensions))
	for i, e := range extensions {
		out[i] = extension(e)
	}
	return k.ok(object{"extensions": out})
}

func showExtension(k *call) error {
	for _, e := range extensions {
		if e[0] == k.Param("id") {
			return k.ok(object{"extension": extension(e)})
		}
	}
	return errNoRoute
}
