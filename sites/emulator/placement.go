package emulator

import (
	"net/http"
	"time"
)

func (c *Cloud) placementRoutes() {
	h := func(pattern string, a access, f handler) { c.handle(placementSvc, pattern, a, f) }
	root := func(*request) (*reply, error) {
		return ok(object{{"versions", []object{{{"id", "v1.0"}, {"max_version", "1.39"}, {"min_version", "1.0"}, {"status", "CURRENT"}, {"links", []object{{{"rel", "self"}, {"href", ""}}}}}}}})
	}
	h("GET /{$}", open, root)
	h("GET ", open, root)
	h("GET /resource_providers", needsToken, c.listProviders)
	h("GET /resource_providers/{id}", needsToken, c.provider(func(q *request, host *host) object { return c.providerView(q, host) }))
	h("GET /resource_providers/{id}/inventories", needsToken, c.provider(c.inventories))
	h("GET /resource_providers/{id}/usages", needsToken, c.provider(func(_ *request, host *host) object {
		return object{{"resource_provider_generation", 3}, {"usages", object{{"VCPU", host.vcpus}, {"MEMORY_MB", host.ram}, {"DISK_GB", host.disk}}}}
	}))
	h("GET /resource_providers/{id}/aggregates", needsToken, c.provider(func(_ *request, host *host) object {
		return object{{"aggregates", []string{fixedUUID(c.cfg.Name + host.zone)}}, {"resource_provider_generation", 3}}
	}))
	h("GET /resource_providers/{id}/traits", needsToken, c.provider(func(*request, *host) object {
		return object{{"traits", []string{"COMPUTE_NODE", "COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_VOLUME_EXTEND"}}, {"resource_provider_generation", 3}}
	}))
	for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
		h(m+" /", needsToken, func(*request) (*reply, error) { return nil, fail(404, "The resource could not be found.\n\n   ") })
	}
}

func placementDenied(rule string) error {
	return fail(403, "Access was denied to this resource.\n\n Policy does not allow placement:"+rule+" to be performed.  ")
}

func fresh(rep *reply) *reply {
	return rep.set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat)).set("Cache-Control", "no-cache")
}

func (c *Cloud) providerView(q *request, h *host) object {
	id := fixedUUID(h.name)
	v := object{{"uuid", id}, {"name", h.name}, {"generation", 3}}
	rels := []string{"inventories", "usages"}
	for _, x := range []struct {
		since int
		rel   string
	}{{1, "aggregates"}, {6, "traits"}, {11, "allocations"}} {
		if q.at(x.since) {
			rels = append(rels, x.rel)
		}
	}
	links := []object{{{"rel", "self"}, {"href", "/placement/resource_providers/" + id}}}
	for _, rel := range rels {
		links = append(links, object{{"rel", rel}, {"href", "/placement/resource_providers/" + id + "/" + rel}})
	}
	v = append(v, kv{"links", links})
	if q.at(14) {
		v = append(v, kv{"parent_provider_uuid", nil}, kv{"root_provider_uuid", id})
	}
	return v
}

func (c *Cloud) listProviders(q *request) (*reply, error) {
	if !q.admin {
		return nil, placementDenied("resource_providers:list")
	}
	out := []object{}
	for _, h := range c.hosts() {
		if match(q, "name", h.name) && match(q, "uuid", fixedUUID(h.name)) {
			out = append(out, c.providerView(q, h))
		}
	}
	return fresh(&reply{status: 200, body: object{{"resource_providers", out}}}), nil
}

func (c *Cloud) provider(view func(*request, *host) object) handler {
	return func(q *request) (*reply, error) {
		if !q.admin {
			return nil, placementDenied("resource_providers:show")
		}
		for _, h := range c.hosts() {
			if fixedUUID(h.name) == q.path("id") {
				return fresh(&reply{status: 200, body: view(q, h)}), nil
			}
		}
		return nil, fail(404, "The resource could not be found.\n\n No resource provider with uuid "+q.path("id")+" found  ")
	}
}

func (c *Cloud) inventories(*request, *host) object {
	one := func(total int, ratio float64) object {
		return object{{"total", total}, {"reserved", 0}, {"min_unit", 1}, {"max_unit", total}, {"step_size", 1}, {"allocation_ratio", ratio}}
	}
	capacity := c.cfg.Capacity
	return object{{"resource_provider_generation", 3}, {"inventories", object{{"VCPU", one(capacity.VCPUs, 16)}, {"MEMORY_MB", one(capacity.MemoryMB, 1.5)}, {"DISK_GB", one(capacity.DiskGB, 1)}}}}
}
