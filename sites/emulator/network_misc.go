package emulator

import (
	"maps"
	"math"
	"slices"
	"strings"
)

type extension struct{ alias, name, updated string }

// extensions are those of the region's that the emulator carries out.
func extensions() []extension {
	return []extension{
		{"agent", "agent", "2013-02-03T10:00:00-00:00"},
		{"allowed-address-pairs", "Allowed Address Pairs", "2013-07-23T10:00:00-00:00"},
		{"availability_zone", "Availability Zone", "2015-01-01T10:00:00-00:00"},
		{"availability_zone_filter", "Availability Zone Filter Extension", "2018-06-22T10:00:00-00:00"},
		{"empty-string-filtering", "Empty String Filtering Extension", "2018-05-01T10:00:00-00:00"},
		{"external-net", "Neutron external network", "2013-01-14T10:00:00-00:00"},
		{"extra_dhcp_opt", "Neutron Extra DHCP options", "2013-03-17T12:00:00-00:00"},
		{"extraroute", "Neutron Extra Route", "2013-02-01T10:00:00-00:00"},
		{"filter-validation", "Filter parameters validation", "2018-07-04T10:00:00-00:00"},
		{"fip-port-details", "Floating IP Port Details Extension", "2018-04-09T10:00:00-00:00"},
		{"ip-substring-filtering", "IP address substring filtering", "2017-11-28T09:00:00-00:00"},
		{"router", "Neutron L3 Router", "2012-07-20T10:00:00-00:00"},
		{"ext-gw-mode", "Neutron L3 Configurable external gateway mode", "2013-03-28T10:00:00-00:00"},
		{"l3-port-ip-change-not-allowed", "Prevent L3 router ports IP address change extension", "2018-10-09T10:00:00-00:00"},
		{"net-mtu", "Network MTU", "2015-03-25T10:00:00-00:00"},
		{"net-mtu-writable", "Network MTU (writable)", "2017-07-12T00:00:00-00:00"},
		{"network_availability_zone", "Network Availability Zone", "2015-01-01T10:00:00-00:00"},
		{"network-ip-availability", "Network IP Availability", "2015-09-24T00:00:00-00:00"},
		{"pagination", "Pagination support", "2016-06-12T00:00:00-00:00"},
		{"binding", "Port Binding", "2014-02-03T10:00:00-00:00"},
		{"port-security", "Port Security", "2012-07-23T10:00:00-00:00"},
		{"project-id", "project_id field enabled", "2016-09-09T09:09:09-09:09"},
		{"provider", "Provider Network", "2012-09-07T10:00:00-00:00"},
		{"quota-check-limit", "Quota engine limit check", "2021-09-08T16:00:00-00:00"},
		{"quotas", "Quota management support", "2012-07-29T10:00:00-00:00"},
		{"quota_details", "Quota details management support", "2017-02-10T10:00:00-00:00"},
		{"revision-if-match", "If-Match constraints based on revision_number", "2016-12-11T00:00:00-00:00"},
		{"standard-attr-revisions", "Resource revision numbers", "2016-04-11T10:00:00-00:00"},
		{"router_availability_zone", "Router Availability Zone", "2015-01-01T10:00:00-00:00"},
		{"security-groups-normalized-cidr", "Normalized CIDR field for security group rules", "2020-07-28T10:00:00-00:00"},
		{"port-security-groups-filtering", "Port filtering on security groups", "2018-01-09T09:00:00-00:00"},
		{"security-groups-shared-filtering", "Security group filtering on the shared field", "2021-10-05T09:00:00-00:00"},
		{"security-group", "security-group", "2012-10-05T10:00:00-00:00"},
		{"service-type", "Neutron Service Type Management", "2013-01-20T00:00:00-00:00"},
		{"sorting", "Sorting support", "2016-06-12T00:00:00-00:00"},
		{"standard-attr-description", "standard-attr-description", "2016-02-10T10:00:00-00:00"},
		{"stateful-security-group", "Stateful security group", "2019-11-26T09:00:00-00:00"},
		{"subnet-service-types", "Subnet service types", "2016-03-15T18:00:00-00:00"},
		{"standard-attr-tag", "Tag support for resources with standard attribute: port, subnet, subnetpool, network, security_group, router, floatingip, policy, trunk, network_segment_range", "2017-01-01T00:00:00-00:00"},
		{"standard-attr-timestamp", "Resource timestamps", "2016-09-12T10:00:00-00:00"},
	}
}

func (c *Cloud) networkRoutes() {
	h := func(pattern string, a access, f handler) { c.handle(networkSvc, pattern, a, f) }
	versions := func(q *request) (*reply, error) {
		return ok(object{{"versions", []object{{{"id", "v2.0"}, {"status", "CURRENT"}, {"links", []object{{{"rel", "self"}, {"href", q.url("/v2.0/")}}}}}}}})
	}
	h("GET /{$}", open, versions)
	h("GET ", open, versions)
	h("GET /v2.0", needsToken, unknownPath) // a real one knows it with the slash only
	h("GET /v2.0/{$}", needsToken, func(q *request) (*reply, error) {
		var list []object
		for _, n := range []string{"network", "subnet", "subnetpool", "port"} {
			list = append(list, object{{"name", n}, {"collection", n + "s"}, {"links", []object{{{"rel", "self"}, {"href", q.url("/v2.0/" + n + "s")}}}}})
		}
		return ok(object{{"resources", list}})
	})
	h("GET /v2.0/extensions", needsToken, listExtensions)
	h("GET /v2.0/extensions/{alias}", needsToken, showExtension)
	for _, k := range []*netKind{c.networkKind(), c.subnetKind(), c.portKind(), c.routerKind(), c.groupKind(), c.ruleKind(), c.fipKind()} {
		c.crud(k)
	}
	h("PUT /v2.0/routers/{id}/add_router_interface", needsToken, c.addInterface)
	h("PUT /v2.0/routers/{id}/remove_router_interface", needsToken, c.removeInterface)
	h("GET /v2.0/quotas", needsToken, c.listNetQuotas)
	h("GET /v2.0/quotas/{id}", needsToken, c.showNetQuota)
	h("GET /v2.0/quotas/{id}/default", needsToken, c.showNetQuota)
	h("GET /v2.0/quotas/{id}/details", needsToken, c.netQuotaDetails)
	h("GET /v2.0/quotas/{id}/details.json", needsToken, c.netQuotaDetails)
	h("PUT /v2.0/quotas/{id}", needsToken, c.setNetQuota)
	h("DELETE /v2.0/quotas/{id}", needsToken, c.resetNetQuota)
	h("GET /v2.0/agents", needsToken, c.listAgents)
	h("GET /v2.0/agents/{id}", needsToken, c.showAgent)
	h("GET /v2.0/availability_zones", needsToken, func(*request) (*reply, error) {
		return ok(object{{"availability_zones", []object{{{"state", "available"}, {"name", "nova"}, {"resource", "network"}}, {{"state", "available"}, {"name", "nova"}, {"resource", "router"}}}}})
	})
	h("GET /v2.0/network-ip-availabilities", needsToken, c.ipAvailabilities)
	h("GET /v2.0/network-ip-availabilities/{id}", needsToken, c.ipAvailability)
	h("GET /v2.0/rbac-policies", needsToken, c.listRBAC)
	h("POST /v2.0/rbac-policies", changes, c.createRBAC)
	h("DELETE /v2.0/rbac-policies/{id}", changes, c.deleteRBAC)
	for path, many := range map[string]string{"qos/policies": "policies", "subnetpools": "subnetpools", "address-scopes": "address_scopes", "trunks": "trunks"} {
		h("GET /v2.0/"+path, needsToken, func(*request) (*reply, error) { return ok(object{{many, []object{}}}) })
	}
	for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
		h(m+" /", needsToken, unknownPath)
	}
}

func (e extension) view() object {
	return object{{"name", e.name}, {"alias", e.alias}, {"description", e.name}, {"updated", e.updated}, {"links", []any{}}}
}

func listExtensions(*request) (*reply, error) {
	var out []object
	for _, e := range extensions() {
		out = append(out, e.view())
	}
	return ok(object{{"extensions", out}})
}

func showExtension(q *request) (*reply, error) {
	for _, e := range extensions() {
		if e.alias == q.path("alias") {
			return ok(object{{"extension", e.view()}})
		}
	}
	return nil, neutronErr(404, "ExtensionNotFound", "Extension with alias "+q.path("alias")+" does not exist")
}

// netQuotas are the resources that Neutron counts, in its order, with their default limits.
func (c *Cloud) netQuotas() []kv {
	list := []kv{{"network", 100}, {"subnet", 100}, {"subnetpool", -1}, {"port", 500}, {"router", 10}, {"floatingip", 50}, {"rbac_policy", 10},
		{"security_group", 10}, {"security_group_rule", 100}, {"trunk", -1}}
	if c.cfg.Unlimited {
		for i := range list {
			list[i].V = -1
		}
	}
	return list
}

func (c *Cloud) netLimit(resource, project string) int {
	if n, set := c.network.quotas[project][resource]; set {
		return n
	}
	for _, x := range c.netQuotas() {
		if x.K == resource {
			return x.V.(int)
		}
	}
	return -1
}

func (c *Cloud) netUsed(resource, project string) int {
	n := &c.network
	switch resource {
	case "network":
		return len(n.networks.of(project))
	case "subnet":
		return len(n.subnets.of(project))
	case "port":
		return len(n.ports.of(project))
	case "router":
		return len(n.routers.of(project))
	case "floatingip":
		return len(n.fips.of(project))
	case "security_group":
		return len(n.groups.of(project))
	case "security_group_rule":
		return len(n.rules.of(project))
	}
	return 0
}

func (c *Cloud) netQuota(resource, project string) error {
	if limit := c.netLimit(resource, project); limit >= 0 && c.netUsed(resource, project) >= limit {
		return neutronErr(409, "OverQuota", "Quota exceeded for resources: ['"+resource+"'].")
	}
	return nil
}

func (c *Cloud) netQuotaView(project string) object {
	var v object
	for _, x := range c.netQuotas() {
		v = append(v, kv{x.K, c.netLimit(x.K, project)})
	}
	return v
}

func quotaAccess(q *request, rule string) error {
	if !q.admin && (q.path("id") != q.project || rule == "update_quota" || rule == "delete_quota") {
		return denied("rule:" + rule)
	}
	return nil
}

func (c *Cloud) listNetQuotas(q *request) (*reply, error) {
	if !q.admin {
		return nil, denied("rule:get_quota")
	}
	out := []object{}
	for _, project := range slices.Sorted(maps.Keys(c.network.quotas)) {
		out = append(out, append(c.netQuotaView(project), kv{"tenant_id", project}, kv{"project_id", project}))
	}
	return ok(object{{"quotas", out}})
}

func (c *Cloud) showNetQuota(q *request) (*reply, error) {
	if err := quotaAccess(q, "get_quota"); err != nil {
		return nil, err
	}
	project := q.path("id")
	if strings.HasSuffix(q.http.URL.Path, "/default") {
		project = ""
	}
	return ok(object{{"quota", c.netQuotaView(project)}})
}

func (c *Cloud) netQuotaDetails(q *request) (*reply, error) {
	if err := quotaAccess(q, "get_quota"); err != nil {
		return nil, err
	}
	var v object
	for _, x := range c.netQuotas() {
		v = append(v, kv{x.K, object{{"limit", c.netLimit(x.K, q.path("id"))}, {"used", c.netUsed(x.K, q.path("id"))}, {"reserved", 0}}})
	}
	return ok(object{{"quota", v}})
}

func (c *Cloud) setNetQuota(q *request) (*reply, error) {
	if err := quotaAccess(q, "update_quota"); err != nil {
		return nil, err
	}
	d := q.body.sub("quota")
	set := maps.Clone(c.network.quotas[q.path("id")])
	if set == nil {
		set = map[string]int{}
	}
	for name := range d {
		limit, isNumber := d.num(name)
		if !slices.ContainsFunc(c.netQuotas(), func(x kv) bool { return x.K == name }) {
			if name == "tenant_id" || name == "project_id" || name == "force" || name == "check_limit" {
				continue
			}
			return nil, badRequest("Unrecognized attribute(s) '" + name + "'")
		}
		if !isNumber || limit < -1 || limit > math.MaxInt32 {
			return nil, badRequest("Invalid input for " + name + ". Reason: '" + toText(d[name]) + "' is not an integer.")
		}
		set[name] = limit
	}
	c.network.quotas[q.path("id")] = set
	return ok(object{{"quota", c.netQuotaView(q.path("id"))}})
}

func (c *Cloud) resetNetQuota(q *request) (*reply, error) {
	if err := quotaAccess(q, "delete_quota"); err != nil {
		return nil, err
	}
	if _, set := c.network.quotas[q.path("id")]; !set {
		return nil, neutronErr(404, "TenantQuotaNotFound", "Quota for tenant "+q.path("id")+" could not be found.")
	}
	delete(c.network.quotas, q.path("id"))
	return noContent()
}

func (c *Cloud) agentView(a *agent) object {
	const spaced = "2006-01-02 15:04:05"
	now := stamp(c.now(), spaced)
	zone, conf := any("nova"), object{{"log_agent_heartbeats", false}}
	if a.kind == "Open vSwitch agent" || a.kind == "Metadata agent" {
		zone = nil
		conf = object{{"bridge_mappings", object{{"physnet1", "br-ex"}}}, {"datapath_type", "netdev"}, {"tunnel_types", []string{"vxlan"}}}
	}
	return object{{"id", a.id}, {"agent_type", a.kind}, {"binary", a.binary}, {"topic", a.topic}, {"host", a.host}, {"admin_state_up", true}, {"created_at", now}, {"started_at", now},
		{"heartbeat_timestamp", now}, {"description", nil}, {"resources_synced", nil}, {"availability_zone", zone}, {"alive", true}, {"configurations", conf}}
}

func (c *Cloud) listAgents(q *request) (*reply, error) {
	out := []object{}
	for _, a := range c.network.agents {
		if q.admin && match(q, "host", a.host) && match(q, "agent_type", a.kind) && match(q, "binary", a.binary) {
			out = append(out, c.agentView(a))
		}
	}
	return ok(object{{"agents", out}})
}

func (c *Cloud) showAgent(q *request) (*reply, error) {
	for _, a := range c.network.agents {
		if q.admin && a.id == q.path("id") {
			return ok(object{{"agent", c.agentView(a)}})
		}
	}
	return nil, neutronErr(404, "AgentNotFound", "Agent "+q.path("id")+" could not be found.")
}

func availability(n *network) object {
	total, used := 0.0, 0
	subs := []object{}
	for _, s := range n.subnets {
		size := 0.0
		for _, p := range s.pools {
			size += span(p)
		}
		total += size
		used += len(s.used)
		subs = append(subs, object{{"subnet_id", s.ID}, {"ip_version", s.version()}, {"cidr", s.cidr.String()}, {"subnet_name", s.name}, {"used_ips", len(s.used)}, {"total_ips", whole(size)}})
	}
	return object{{"network_id", n.ID}, {"network_name", n.name}, {"tenant_id", n.Project}, {"project_id", n.Project}, {"subnet_ip_availability", subs}, {"used_ips", used}, {"total_ips", whole(total)}}
}

func whole(f float64) any {
	if f < math.MaxInt64/2 {
		return int64(f)
	}
	return f
}

// span is the number of addresses in a range; a float, for IPv6.
func span(r addrRange) float64 {
	a, b, n := r.first.AsSlice(), r.last.AsSlice(), 0.0
	for i := range a {
		n = n*256 + float64(b[i]) - float64(a[i])
	}
	return n + 1
}

func (c *Cloud) ipAvailabilities(q *request) (*reply, error) {
	out := []object{}
	for _, n := range c.network.networks.all {
		if q.admin && match(q, "network_id", n.ID) && match(q, "network_name", n.name) && match(q, "project_id", n.Project) && match(q, "tenant_id", n.Project) {
			out = append(out, availability(n))
		}
	}
	return ok(object{{"network_ip_availabilities", out}})
}

func (c *Cloud) ipAvailability(q *request) (*reply, error) {
	if n, found := c.network.networks.get(q.path("id")); found && q.admin {
		return ok(object{{"network_ip_availability", availability(n)}})
	}
	return nil, neutronErr(404, "NetworkNotFound", "Network "+q.path("id")+" could not be found.")
}
