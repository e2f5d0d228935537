package emulator

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c *Cloud) hostRoutes(h func(string, handler)) {
	h("GET /v2.1/os-availability-zone", c.zones(false))
	h("GET /v2.1/os-availability-zone/detail", c.zones(true))
	h("GET /v2.1/os-hypervisors", c.listHypervisors(false))
	h("GET /v2.1/os-hypervisors/detail", c.listHypervisors(true))
	h("GET /v2.1/os-hypervisors/statistics", c.hypervisorStatistics)
	h("GET /v2.1/os-hypervisors/{id}", c.showHypervisor)
	h("GET /v2.1/os-hypervisors/{id}/uptime", c.hypervisorUptime)
	h("GET /v2.1/os-hypervisors/{id}/servers", c.oldHypervisors(true))
	h("GET /v2.1/os-hypervisors/{id}/search", c.oldHypervisors(false))
	h("GET /v2.1/os-security-groups", c.oldGroups)
	h("GET /v2.1/os-security-groups/{id}", c.oldGroup)
	h("GET /v2.1/os-services", c.listComputeServices)
	h("GET /v2.1/os-aggregates", c.listAggregates)
	h("GET /v2.1/os-aggregates/{id}", c.showAggregate)
	h("GET /v2.1/limits", c.computeLimits)
	h("GET /v2.1/os-quota-sets/{id}", c.showQuotaSet(""))
	h("GET /v2.1/os-quota-sets/{id}/detail", c.showQuotaSet("detail"))
	h("GET /v2.1/os-quota-sets/{id}/defaults", c.showQuotaSet("defaults"))
	h("PUT /v2.1/os-quota-sets/{id}", c.setQuotaSet)
	h("DELETE /v2.1/os-quota-sets/{id}", c.resetQuotaSet)
	h("GET /v2.1/os-simple-tenant-usage", c.listUsage)
	h("GET /v2.1/os-simple-tenant-usage/{id}", c.showUsage)
	h("GET /v2.1/os-migrations", func(q *request) (*reply, error) {
		if !q.admin {
			return nil, policyError("os-migrations:index")
		}
		return ok(object{{"migrations", []object{}}})
	})
	h("GET /v2.1/extensions", func(*request) (*reply, error) { return ok(object{{"extensions", []object{}}}) })
	gone := func(*request) (*reply, error) { return nil, fail(404, "The resource could not be found.") }
	for _, p := range []string{"images", "os-volumes", "os-networks", "os-floating-ips", "os-snapshots"} {
		h("GET /v2.1/"+p, gone)
		h("GET /v2.1/"+p+"/{id}", gone)
	}
}

func (c *Cloud) zones(detail bool) handler {
	return func(q *request) (*reply, error) {
		if detail && !q.admin {
			return nil, policyError("os-availability-zone:detail")
		}
		beat := func() object {
			return object{{"available", true}, {"active", true}, {"updated_at", stamp(c.now(), micros)}}
		}
		out := []object{}
		for _, z := range c.cfg.Zones {
			hosts := any(nil)
			if detail {
				var list object
				for _, h := range c.hosts() {
					if h.zone == z {
						list = append(list, kv{h.name, object{{"nova-compute", beat()}}})
					}
				}
				hosts = list
			}
			out = append(out, object{{"zoneName", z}, {"zoneState", object{{"available", true}}}, {"hosts", hosts}})
		}
		if detail {
			out = append(out, object{{"zoneName", "internal"}, {"zoneState", object{{"available", true}}},
				{"hosts", object{{c.cfg.Name, object{{"nova-scheduler", beat()}, {"nova-conductor", beat()}}}}}})
		}
		return ok(object{{"availabilityZoneInfo", out}})
	}
}

func (c *Cloud) hostRef(q *request, h *host) any {
	if q.at(53) {
		return fixedUUID(h.name)
	}
	return slices.Index(c.hosts(), h) + 1
}

func hostStatus(h *host) string {
	if h.disabled {
		return "disabled"
	}
	return "enabled"
}

func (c *Cloud) figures(list []*host) object {
	n := len(list)
	capacity := c.cfg.Capacity
	cores, ram, disk, used := 0, 0, 0, 0
	for _, h := range list {
		cores, ram, disk, used = cores+h.vcpus, ram+h.ram, disk+h.disk, used+h.used
	}
	return object{{"vcpus", n * capacity.VCPUs}, {"memory_mb", n * capacity.MemoryMB}, {"local_gb", n * capacity.DiskGB}, {"vcpus_used", cores}, {"memory_mb_used", ram}, {"local_gb_used", disk},
		{"free_ram_mb", n*capacity.MemoryMB - ram}, {"free_disk_gb", n*capacity.DiskGB - disk}, {"current_workload", 0}, {"running_vms", used}, {"disk_available_least", n*capacity.DiskGB - disk}}
}

func (c *Cloud) hypervisorView(q *request, h *host, detail bool) object {
	v := object{{"id", c.hostRef(q, h)}, {"hypervisor_hostname", h.name}, {"state", "up"}, {"status", hostStatus(h)}}
	if q.at(53) && q.query.Get("with_servers") != "" {
		v = append(v, kv{"servers", c.serversOn(h)})
	}
	if !detail {
		return v
	}
	serviceID := any(fixedUUID(h.name + "nova-compute"))
	if !q.at(53) {
		serviceID = slices.Index(c.hosts(), h) + 3
	}
	v = append(v, kv{"hypervisor_type", "fake"}, kv{"hypervisor_version", 1000}, kv{"host_ip", "127.0.0.1"}, kv{"service", object{{"id", serviceID}, {"host", h.name}, {"disabled_reason", nil}}})
	if q.at(88) {
		return append(v, kv{"uptime", nil})
	}
	v = append(v, c.figures([]*host{h})...)
	const cpu = `{"arch": "x86_64", "model": "Nehalem", "vendor": "Intel", "features": ["pge", "clflush"], "topology": {"cores": 1, "threads": 1, "sockets": 4}}`
	if q.at(28) {
		return append(v, kv{"cpu_info", object{{"arch", "x86_64"}, {"model", "Nehalem"}, {"vendor", "Intel"}, {"features", []string{"pge", "clflush"}}, {"topology", object{{"cores", 1}, {"threads", 1}, {"sockets", 4}}}}})
	}
	return append(v, kv{"cpu_info", cpu})
}

func (c *Cloud) serversOn(h *host) []object {
	out := []object{}
	for _, s := range c.compute.servers.all {
		if s.host == h {
			out = append(out, object{{"name", instanceName(s.number)}, {"uuid", s.ID}})
		}
	}
	return out
}

func (c *Cloud) listHypervisors(detail bool) handler {
	return func(q *request) (*reply, error) {
		if !q.admin {
			rule := "os-hypervisors:list"
			if detail {
				rule += "-detail"
			}
			return nil, policyError(rule)
		}
		out := []object{}
		name := q.query.Get("hypervisor_hostname_pattern")
		for _, h := range slices.Backward(c.hosts()) {
			if name == "" || strings.Contains(h.name, name) {
				out = append(out, c.hypervisorView(q, h, detail))
			}
		}
		if name != "" && len(out) == 0 {
			return nil, fail(404, "No hypervisor matching '"+name+"' could be found.")
		}
		return ok(object{{"hypervisors", out}})
	}
}

func (c *Cloud) showHypervisor(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-hypervisors:show")
	}
	h, err := c.hostAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"hypervisor", c.hypervisorView(q, h, true)}})
}

func (c *Cloud) hostAt(q *request) (*host, error) {
	if q.at(53) && !uuidPattern.MatchString(q.path("id")) {
		return nil, fail(400, "Invalid uuid "+q.path("id"))
	}
	for _, h := range c.hosts() {
		if toText(c.hostRef(q, h)) == q.path("id") {
			return h, nil
		}
	}
	return nil, fail(404, "Hypervisor with ID '"+q.path("id")+"' could not be found.")
}

func notAnyMore() error { return fail(404, "The resource could not be found.") }

// hypervisorUptime is there up to 2.87.
func (c *Cloud) hypervisorUptime(q *request) (*reply, error) {
	if q.at(88) {
		return nil, notAnyMore()
	}
	if !q.admin {
		return nil, policyError("os-hypervisors:uptime")
	}
	h, err := c.hostAt(q)
	if err != nil {
		return nil, err
	}
	v := append(c.hypervisorView(q, h, false), kv{"uptime", c.now().Format(" 15:04:05") + " up 93 days, 18:25,  0 users,  load average: 0.12, 0.14, 0.56"})
	return ok(object{{"hypervisor", v}})
}

// oldHypervisors finds by a part of the name, up to 2.52.
func (c *Cloud) oldHypervisors(servers bool) handler {
	return func(q *request) (*reply, error) {
		if q.at(53) {
			return nil, notAnyMore()
		}
		if !q.admin {
			return nil, policyError("os-hypervisors:search")
		}
		out := []object{}
		for _, h := range c.hosts() {
			if strings.Contains(h.name, q.path("id")) {
				v := c.hypervisorView(q, h, false)
				if servers {
					v = append(v, kv{"servers", c.serversOn(h)})
				}
				out = append(out, v)
			}
		}
		if len(out) == 0 {
			return nil, fail(404, "No hypervisor matching '"+q.path("id")+"' could be found.")
		}
		return ok(object{{"hypervisors", out}})
	}
}

// oldGroups is Nova's view of Neutron's groups, up to 2.35; the CLI still looks groups up there.
func (c *Cloud) oldGroups(q *request) (*reply, error) {
	if q.at(36) {
		return nil, notAnyMore()
	}
	out := []object{}
	for _, g := range c.network.groups.of(q.project) {
		out = append(out, c.oldGroupView(g))
	}
	return ok(object{{"security_groups", out}})
}

func (c *Cloud) oldGroup(q *request) (*reply, error) {
	if q.at(36) {
		return nil, notAnyMore()
	}
	if !uuidPattern.MatchString(q.path("id")) {
		return nil, fail(400, "Security group id should be uuid")
	}
	if g, found := c.network.groups.get(q.path("id")); found && (q.admin || g.Project == q.project) {
		return ok(object{{"security_group", c.oldGroupView(g)}})
	}
	return nil, fail(404, "Security group "+q.path("id")+" not found.")
}

func (c *Cloud) hypervisorStatistics(q *request) (*reply, error) {
	if q.at(88) {
		return nil, fail(404, "The resource could not be found.")
	}
	if !q.admin {
		return nil, policyError("os-hypervisors:statistics")
	}
	return ok(object{{"hypervisor_statistics", append(object{{"count", len(c.hosts())}}, c.figures(c.hosts())...)}})
}

func (c *Cloud) listComputeServices(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-services:list")
	}
	out := []object{}
	add := func(n int, binary, name, zone, state string) {
		if !match(q, "binary", binary) || !match(q, "host", name) {
			return
		}
		id := any(n)
		if q.at(53) {
			id = fixedUUID(name + binary)
		}
		v := object{{"binary", binary}, {"host", name}, {"id", id}, {"zone", zone}, {"status", state}, {"state", "up"}, {"updated_at", stamp(c.now(), micros)}, {"disabled_reason", nil}}
		if q.at(11) {
			v = append(v, kv{"forced_down", false})
		}
		out = append(out, v)
	}
	add(1, "nova-scheduler", c.cfg.Name, "internal", "enabled")
	add(2, "nova-conductor", c.cfg.Name, "internal", "enabled")
	for i, h := range c.hosts() {
		add(i+3, "nova-compute", h.name, h.zone, hostStatus(h))
	}
	return ok(object{{"services", out}})
}

func (c *Cloud) aggregateView(q *request, n int) object {
	zone := c.cfg.Zones[n]
	names := []string{}
	for _, h := range c.hosts() {
		if h.zone == zone {
			names = append(names, h.name)
		}
	}
	v := object{{"id", n + 1}}
	if q.at(41) {
		v = append(v, kv{"uuid", fixedUUID(c.cfg.Name + zone)})
	}
	return append(v, kv{"name", zone}, kv{"hosts", names}, kv{"metadata", object{{"availability_zone", zone}}}, kv{"created_at", "2026-01-01T00:00:00.000000"}, kv{"updated_at", nil},
		kv{"deleted_at", nil}, kv{"deleted", false}, kv{"availability_zone", zone})
}

func (c *Cloud) listAggregates(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-aggregates:index")
	}
	out := []object{}
	for n := range c.cfg.Zones {
		out = append(out, c.aggregateView(q, n))
	}
	return ok(object{{"aggregates", out}})
}

func (c *Cloud) showAggregate(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-aggregates:show")
	}
	if n, err := strconv.Atoi(q.path("id")); err == nil && n > 0 && n <= len(c.cfg.Zones) {
		return ok(object{{"aggregate", c.aggregateView(q, n-1)}})
	}
	return nil, fail(404, "Aggregate "+q.path("id")+" could not be found.")
}

// novaQuotas are the quotas of Nova 2.57 and later with their defaults, in its order.
func (c *Cloud) novaQuotas() []kv {
	list := []kv{{"cores", 20}, {"instances", 10}, {"key_pairs", 100}, {"metadata_items", 128}, {"ram", 51200}, {"server_group_members", 10}, {"server_groups", 10}}
	if c.cfg.Unlimited {
		for i := range list {
			list[i].V = -1
		}
	}
	return list
}

// oldQuotas are members that 2.36 and 2.57 took away.
func oldQuotas(q *request) []kv {
	var v []kv
	if !q.at(57) {
		v = append(v, kv{"injected_file_content_bytes", 10240}, kv{"injected_file_path_bytes", 255}, kv{"injected_files", 5})
	}
	if !q.at(36) {
		v = append(v, kv{"fixed_ips", -1}, kv{"floating_ips", -1}, kv{"security_group_rules", -1}, kv{"security_groups", -1})
	}
	return v
}

func (c *Cloud) novaLimit(name, project string) int {
	if n, set := c.compute.quotas[project][name]; set {
		return n
	}
	for _, x := range c.novaQuotas() {
		if x.K == name {
			return x.V.(int)
		}
	}
	return -1
}

func (c *Cloud) novaUsed(name, project string) int {
	u := c.compute.usage[project]
	if u == nil {
		u = &usage{}
	}
	switch name {
	case "cores":
		return u.cores
	case "instances":
		return u.servers
	case "ram":
		return u.ram
	case "server_groups":
		return len(c.compute.groups.of(project))
	}
	return 0
}

// serverQuota refuses a growth that a quota forbids.
func (c *Cloud) serverQuota(project string, servers, cores, ram int) error {
	var over, asked, used, limits []string
	for _, x := range []struct {
		name string
		n    int
	}{{"cores", cores}, {"instances", servers}, {"ram", ram}} {
		limit, have := c.novaLimit(x.name, project), c.novaUsed(x.name, project)
		if limit >= 0 && x.n > 0 && have+x.n > limit {
			over, asked, used, limits = append(over, x.name), append(asked, strconv.Itoa(x.n)), append(used, strconv.Itoa(have)), append(limits, strconv.Itoa(limit))
		}
	}
	if len(over) == 0 {
		return nil
	}
	j := func(l []string) string { return strings.Join(l, ", ") }
	return fail(403, "Quota exceeded for "+j(over)+": Requested "+j(asked)+", but already used "+j(used)+" of "+j(limits)+" "+j(over))
}

func (c *Cloud) computeLimits(q *request) (*reply, error) {
	p := q.project
	if t := q.query.Get("tenant_id"); t != "" {
		if t != p && !q.admin {
			return nil, policyError("limits:other_project")
		}
		p = t
	}
	v := object{{"maxTotalInstances", c.novaLimit("instances", p)}, {"maxTotalCores", c.novaLimit("cores", p)}, {"maxTotalRAMSize", c.novaLimit("ram", p)}, {"maxServerMeta", c.novaLimit("metadata_items", p)},
		{"maxTotalKeypairs", c.novaLimit("key_pairs", p)}, {"maxServerGroups", c.novaLimit("server_groups", p)}, {"maxServerGroupMembers", c.novaLimit("server_group_members", p)}}
	if !q.at(57) {
		v = append(v, kv{"maxPersonality", 5}, kv{"maxPersonalitySize", 10240})
	}
	if !q.at(39) {
		v = append(v, kv{"maxImageMeta", 128})
	}
	if !q.at(36) {
		v = append(v, kv{"maxTotalFloatingIps", -1}, kv{"maxSecurityGroups", -1}, kv{"maxSecurityGroupRules", -1})
	}
	v = append(v, kv{"totalRAMUsed", c.novaUsed("ram", p)}, kv{"totalCoresUsed", c.novaUsed("cores", p)}, kv{"totalInstancesUsed", c.novaUsed("instances", p)}, kv{"totalServerGroupsUsed", c.novaUsed("server_groups", p)})
	return ok(object{{"limits", object{{"rate", []any{}}, {"absolute", v}}}})
}

func (c *Cloud) showQuotaSet(how string) handler {
	return func(q *request) (*reply, error) {
		if !q.admin && q.path("id") != q.project && how != "defaults" {
			return nil, policyError("os-quota-sets:show")
		}
		v := object{{"id", q.path("id")}}
		for _, x := range append(c.novaQuotas(), oldQuotas(q)...) {
			limit := c.novaLimit(x.K, q.path("id"))
			if how == "defaults" {
				limit = x.V.(int)
			}
			if how == "detail" {
				v = append(v, kv{x.K, object{{"limit", limit}, {"in_use", c.novaUsed(x.K, q.path("id"))}, {"reserved", 0}}})
			} else {
				v = append(v, kv{x.K, limit})
			}
		}
		return ok(object{{"quota_set", v}})
	}
}

func (c *Cloud) setQuotaSet(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-quota-sets:update")
	}
	if _, found := c.identity.projects.get(q.path("id")); !found {
		return nil, fail(400, "Project ID "+q.path("id")+" is not a valid project.")
	}
	d := q.body.sub("quota_set")
	set := maps.Clone(c.compute.quotas[q.path("id")])
	if set == nil {
		set = map[string]int{}
	}
	known := append(c.novaQuotas(), oldQuotas(q)...)
	for name := range d {
		if name == "force" {
			continue
		}
		if !slices.ContainsFunc(known, func(x kv) bool { return x.K == name }) {
			return nil, badField("quota_set", string(mustJSON(map[string]any(d))), "Additional properties are not allowed ('"+name+"' was unexpected)")
		}
		n, isNumber := d.num(name)
		if !isNumber || n < -1 {
			return nil, badField(name, d[name], toText(d[name])+" is less than the minimum of -1")
		}
		set[name] = n
	}
	c.compute.quotas[q.path("id")] = set
	var v object
	for _, x := range known {
		v = append(v, kv{x.K, c.novaLimit(x.K, q.path("id"))})
	}
	return ok(object{{"quota_set", v}})
}

func (c *Cloud) resetQuotaSet(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-quota-sets:delete")
	}
	delete(c.compute.quotas, q.path("id"))
	return accepted(nil)
}

func (c *Cloud) usageView(q *request, project string, detail bool) object {
	end := c.now()
	start := end.Add(-24 * time.Hour)
	if t, isTime := parseTime(q.query.Get("start")); isTime {
		start = t
	}
	if t, isTime := parseTime(q.query.Get("end")); isTime {
		end = t
	}
	hours, cores, ram, disk := 0.0, 0.0, 0.0, 0.0
	servers := []object{}
	for _, s := range c.compute.servers.of(project) {
		from := s.created
		if from.Before(start) {
			from = start
		}
		h := max(0, end.Sub(from).Hours())
		hours += h
		cores, ram, disk = cores+h*float64(s.flavor.vcpus), ram+h*float64(s.flavor.ram), disk+h*float64(s.flavor.disk)
		if detail {
			servers = append(servers, object{{"hours", h}, {"flavor", s.flavor.name}, {"instance_id", s.ID}, {"name", s.name}, {"tenant_id", project}, {"memory_mb", s.flavor.ram}, {"local_gb", s.flavor.disk},
				{"vcpus", s.flavor.vcpus}, {"started_at", stamp(s.launched, micros)}, {"ended_at", nil}, {"state", s.vm}, {"uptime", int(h * 3600)}})
		}
	}
	v := object{{"tenant_id", project}, {"total_local_gb_usage", disk}, {"total_vcpus_usage", cores}, {"total_memory_mb_usage", ram}, {"total_hours", hours}, {"start", stamp(start, micros)}, {"stop", stamp(end, micros)}}
	if detail {
		v = append(v, kv{"server_usages", servers})
	}
	return v
}

func (c *Cloud) listUsage(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-simple-tenant-usage:list")
	}
	out := []object{}
	for _, p := range c.identity.projects.all {
		if len(c.compute.servers.of(p.ID)) > 0 {
			out = append(out, c.usageView(q, p.ID, q.query.Get("detailed") == "1"))
		}
	}
	return ok(object{{"tenant_usages", out}})
}

func (c *Cloud) showUsage(q *request) (*reply, error) {
	p := q.path("id")
	if !q.admin && p != q.project {
		return nil, policyError("os-simple-tenant-usage:show")
	}
	if len(c.compute.servers.of(p)) == 0 {
		return ok(object{{"tenant_usage", object{}}})
	}
	return ok(object{{"tenant_usage", c.usageView(q, p, true)}})
}
