package compute

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// route is one line of the table of routes.
type route struct {
	method, path string
	rule         string
	serve        func(*call) error
}

const (
	get  = http.MethodGet
	post = http.MethodPost
	put  = http.MethodPut
	del  = http.MethodDelete
)

// routes is every route below /v2.1 and /v2.1/PROJECT.
func routes() []route {
	list := []route{
		{get, "/extensions", "get_extension", listExtensions},
		{get, "/extensions/:id", "get_extension", showExtension},

		{get, "/servers", "get_server", listServers},
		{get, "/servers/detail", "get_server", detailServers},
		{post, "/servers", "create_server", createServer},
		{post, "/os-volumes_boot", "create_server", createServer},
		{get, "/servers/:id", "get_server", showServer},
		{put, "/servers/:id", "update_server", updateServer},
		{del, "/servers/:id", "delete_server", deleteServer},
		{post, "/servers/:id/action", "get_server", actOnServer}, // each action has a rule of its own

		{get, "/servers/:id/metadata", "get_server_metadata", listMetadata},
		{post, "/servers/:id/metadata", "create_server_metadata", writeMetadata(false)},
		{put, "/servers/:id/metadata", "update_server_metadata", writeMetadata(true)},
		{get, "/servers/:id/metadata/:key", "get_server_metadata", showMetadatum},
		{put, "/servers/:id/metadata/:key", "update_server_metadata", putMetadatum},
		{del, "/servers/:id/metadata/:key", "delete_server_metadata", deleteMetadatum},

		{get, "/servers/:id/tags", "get_server_tag", from(26, listTags)},
		{put, "/servers/:id/tags", "update_server_tag", from(26, replaceTags)},
		{del, "/servers/:id/tags", "delete_server_tag", from(26, deleteTags)},
		{get, "/servers/:id/tags/:tag", "get_server_tag", from(26, showTag)},
		{put, "/servers/:id/tags/:tag", "update_server_tag", from(26, putTag)},
		{del, "/servers/:id/tags/:tag", "delete_server_tag", from(26, deleteTag)},

		{get, "/servers/:id/ips", "get_server", listIPs},
		{get, "/servers/:id/ips/:network", "get_server", showIPs},
		{get, "/servers/:id/os-security-groups", "get_server", serverGroups},
		{get, "/servers/:id/diagnostics", "get_hypervisor", diagnostics},
		{get, "/servers/:id/os-server-password", "get_server", showPassword},
		{del, "/servers/:id/os-server-password", "update_server", clearPassword},
		{post, "/servers/:id/remote-consoles", "get_console", from(6, remoteConsole)},
		{get, "/servers/:id/os-instance-actions", "get_server", listActions},
		{get, "/servers/:id/os-instance-actions/:request", "get_server", showAction},

		{get, "/servers/:id/os-volume_attachments", "get_volume_attachment", listAttachments},
		{post, "/servers/:id/os-volume_attachments", "create_volume_attachment", createAttachment},
		{get, "/servers/:id/os-volume_attachments/:volume", "get_volume_attachment", showAttachment},
		{put, "/servers/:id/os-volume_attachments/:volume", "update_volume_attachment", updateAttachment},
		{del, "/servers/:id/os-volume_attachments/:volume", "delete_volume_attachment", deleteAttachment},
		{get, "/servers/:id/os-interface", "get_interface", listInterfaces},
		{post, "/servers/:id/os-interface", "create_interface", createInterface},
		{get, "/servers/:id/os-interface/:port", "get_interface", showInterface},
		{del, "/servers/:id/os-interface/:port", "delete_interface", deleteInterface},

		{get, "/flavors", "get_flavor", listFlavors(false)},
		{get, "/flavors/detail", "get_flavor", listFlavors(true)},
		{post, "/flavors", "create_flavor", createFlavor},
		{get, "/flavors/:id", "get_flavor", showFlavor},
		{put, "/flavors/:id", "update_flavor", from(55, updateFlavor)},
		{del, "/flavors/:id", "delete_flavor", deleteFlavor},
		{post, "/flavors/:id/action", "update_flavor", changeAccess},
		{get, "/flavors/:id/os-flavor-access", "get_flavor_access", listAccess},
		{get, "/flavors/:id/os-extra_specs", "get_flavor", listSpecs},
		{post, "/flavors/:id/os-extra_specs", "update_flavor", createSpecs},
		{get, "/flavors/:id/os-extra_specs/:key", "get_flavor", showSpec},
		{put, "/flavors/:id/os-extra_specs/:key", "update_flavor", putSpec},
		{del, "/flavors/:id/os-extra_specs/:key", "update_flavor", deleteSpec},

		{get, "/os-keypairs", "get_keypair", listKeypairs},
		{post, "/os-keypairs", "create_keypair", createKeypair},
		{get, "/os-keypairs/:name", "get_keypair", showKeypair},
		{del, "/os-keypairs/:name", "delete_keypair", deleteKeypair},

		{get, "/os-server-groups", "get_server_group", listServerGroups},
		{post, "/os-server-groups", "create_server_group", createServerGroup},
		{get, "/os-server-groups/:id", "get_server_group", showServerGroup},
		{del, "/os-server-groups/:id", "delete_server_group", deleteServerGroup},

		{get, "/os-availability-zone", "get_availability_zone", listZones(false)},
		{get, "/os-availability-zone/detail", "get_hypervisor", listZones(true)},
		{get, "/os-hypervisors", "get_hypervisor", listHypervisors(false)},
		{get, "/os-hypervisors/detail", "get_hypervisor", listHypervisors(true)},
		{get, "/os-hypervisors/statistics", "get_hypervisor", until(87, hypervisorStatistics)},
		{get, "/os-hypervisors/:id", "get_hypervisor", showHypervisor},
		{get, "/os-hypervisors/:id/uptime", "get_hypervisor", until(87, uptime)},
		{get, "/os-hypervisors/:id/search", "get_hypervisor", until(52, searchHypervisors(false))},
		{get, "/os-hypervisors/:id/servers", "get_hypervisor", until(52, searchHypervisors(true))},
		{get, "/os-hosts", "get_hypervisor", until(lastHosts, listHosts)},
		{get, "/os-hosts/:id", "get_hypervisor", until(lastHosts, showHost)},
		{put, "/os-hosts/:id", "get_hypervisor", until(lastHosts, updateHost)},
		{get, "/os-hosts/:id/startup", "get_hypervisor", until(lastHosts, powerHost)},
		{get, "/os-hosts/:id/shutdown", "get_hypervisor", until(lastHosts, powerHost)},
		{get, "/os-hosts/:id/reboot", "get_hypervisor", until(lastHosts, powerHost)},
		{get, "/os-services", "get_service", listServices},
		{put, "/os-services/:id", "update_service", fixedHosts},
		{del, "/os-services/:id", "delete_service", fixedHosts},
		{get, "/os-aggregates", "get_aggregate", listAggregates},
		{post, "/os-aggregates", "create_aggregate", fixedHosts},
		{get, "/os-aggregates/:id", "get_aggregate", showAggregate},
		{put, "/os-aggregates/:id", "update_aggregate", fixedHosts},
		{del, "/os-aggregates/:id", "delete_aggregate", fixedHosts},
		{post, "/os-aggregates/:id/action", "update_aggregate", fixedHosts},

		{get, "/limits", "get_limits", showLimits},
		{get, "/os-quota-sets/:id", "get_quota", showQuota(limitOf)},
		{get, "/os-quota-sets/:id/detail", "get_quota", showQuota(detailOf)},
		{get, "/os-quota-sets/:id/defaults", "get_quota", defaultQuota},
		{put, "/os-quota-sets/:id", "update_quota", updateQuota},
		{del, "/os-quota-sets/:id", "delete_quota", deleteQuota},
		{get, "/os-quota-class-sets/:id", "update_quota", quotaClass},
		{put, "/os-quota-class-sets/:id", "update_quota", fixedDefaults},
		{get, "/os-simple-tenant-usage", "get_usage", listUsage},
		{get, "/os-simple-tenant-usage/:id", "get_usage", showUsage},

		// What other services took over; see proxy.go.
		{get, "/images", "get_image", until(lastProxy, listImages(false))},
		{get, "/images/detail", "get_image", until(lastProxy, listImages(true))},
		{get, "/images/:id", "get_image", until(lastProxy, showImage)},
		{del, "/images/:id", "delete_image", until(lastProxy, deleteImage)},
		{get, "/images/:id/metadata", "get_image", until(lastImageMeta, listImageMeta)},
		{post, "/images/:id/metadata", "update_image", until(lastImageMeta, writeImageMeta(false))},
		{put, "/images/:id/metadata", "update_image", until(lastImageMeta, writeImageMeta(true))},
		{get, "/images/:id/metadata/:key", "get_image", until(lastImageMeta, showImageMetum)},
		{put, "/images/:id/metadata/:key", "update_image", until(lastImageMeta, putImageMetum)},
		{del, "/images/:id/metadata/:key", "update_image", until(lastImageMeta, deleteImageMetum)},
		{get, "/os-security-groups", "get_security_group", until(lastProxy, listGroupProxy)},
		{post, "/os-security-groups", "create_security_group", until(lastProxy, createGroupProxy)},
		{get, "/os-security-groups/:id", "get_security_group", until(lastProxy, showGroupProxy)},
		{put, "/os-security-groups/:id", "update_security_group", until(lastProxy, updateGroupProxy)},
		{del, "/os-security-groups/:id", "delete_security_group", until(lastProxy, remove(groupsPath))},
		{post, "/os-security-group-rules", "create_security_group_rule", until(lastProxy, createRuleProxy)},
		{del, "/os-security-group-rules/:id", "delete_security_group_rule", until(lastProxy, remove(rulesPath))},
		{get, "/os-networks", "get_network", until(lastProxy, listOldNetworks)},
		{get, "/os-networks/:id", "get_network", until(lastProxy, showOldNetwork)},
		{get, "/os-tenant-networks", "get_network", until(lastProxy, listTenantNetworks)},
		{get, "/os-tenant-networks/:id", "get_network", until(lastProxy, showTenantNetwork)},
		{get, "/os-floating-ip-pools", "get_floatingip", until(lastProxy, listPools)},
		{get, "/os-floating-ips", "get_floatingip", until(lastProxy, listFloatingIPs)},
		{post, "/os-floating-ips", "create_floatingip", until(lastProxy, createFloatingIP)},
		{get, "/os-floating-ips/:id", "get_floatingip", until(lastProxy, showFloatingIP)},
		{del, "/os-floating-ips/:id", "delete_floatingip", until(lastProxy, deleteFloatingIP)},
	}
	for plural, o := range map[string]old{"/os-volumes": oldVolumes, "/os-snapshots": oldSnapshots} {
		list = append(list,
			route{get, plural, "get_" + o.singular, until(lastProxy, o.list)}, route{get, plural + "/detail", "get_" + o.singular, until(lastProxy, o.list)},
			route{post, plural, "create_" + o.singular, until(lastProxy, o.create)}, route{get, plural + "/:id", "get_" + o.singular, until(lastProxy, o.show)},
			route{del, plural + "/:id", "delete_" + o.singular, until(lastProxy, o.remove)})
	}
	return list
}

// Routes registers the service's routes on the group of its prefix, /compute.
func (h *Handler) Routes(g *echo.Group) {
	for _, path := range []string{"", "/"} {
		g.GET(path, h.versions)
		g.GET("/v2.1"+path, h.version)
		g.GET("/v2"+path, h.legacyVersion)
	}
	g.Match([]string{get, post, put, del}, "/v2/*", h.legacy, h.auth.Project) // also for what is no route
	for _, r := range routes() {
		serve := h.do(r.rule, r.serve)
		g.Add(r.method, "/v2.1"+r.path, serve, h.auth.Project)
		g.Add(r.method, "/v2.1/:project_id"+r.path, serve, h.auth.Project)
	}
}
