package emulator

import (
	"net/http"
	"slices"
)

type endpointKind struct{ name, kind, path string }

// endpoints returns the services of the catalog in a real region's order; PROJECT stands for the token's project.
func endpoints() []endpointKind {
	return []endpointKind{
		{"placement", "placement", "/placement"}, {"keystone", "identity", "/identity/v3"}, {"glance", "image", "/image"},
		{"neutron", "network", "/network"}, {"cinderv3", "volumev3", "/volume/v3/PROJECT"}, {"cinder", "block-storage", "/volume/v3/PROJECT"},
		{"nova", "compute", "/compute/v2.1"},
	}
}

func (c *Cloud) catalog(q *request) []object { return c.catalogFor(q, q.project) }

func (c *Cloud) catalogFor(q *request, projectID string) []object {
	out := []object{}
	for _, e := range endpoints() {
		path := e.path
		if n := len("PROJECT"); len(path) > n && path[len(path)-n:] == "PROJECT" {
			path = path[:len(path)-n] + projectID
		}
		var list []object
		for _, face := range []string{"admin", "internal", "public"} {
			list = append(list, object{{"id", fixedID(c.cfg.Name + e.kind + face)}, {"interface", face}, {"region_id", c.cfg.Name},
				{"url", q.base + path}, {"region", c.cfg.Name}})
		}
		out = append(out, object{{"endpoints", list}, {"id", fixedID(c.cfg.Name + e.kind)}, {"type", e.kind}, {"name", e.name}})
	}
	return out
}

func (c *Cloud) listServices(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_services"); err != nil {
		return nil, err
	}
	out := []object{}
	for _, e := range endpoints() {
		if (q.query.Get("type") == "" || q.query.Get("type") == e.kind) && (q.query.Get("name") == "" || q.query.Get("name") == e.name) {
			out = append(out, c.serviceView(q, e))
		}
	}
	return ok(object{{"services", out}, {"links", links(q)}})
}

func (c *Cloud) serviceView(q *request, e endpointKind) object {
	id := fixedID(c.cfg.Name + e.kind)
	return object{{"name", e.name}, {"id", id}, {"type", e.kind}, {"enabled", true}, {"links", selfLink(q, "/v3/services/"+id)}}
}

func (c *Cloud) showService(q *request) (*reply, error) {
	if err := q.needAdmin("identity:get_service"); err != nil {
		return nil, err
	}
	for _, e := range endpoints() {
		if fixedID(c.cfg.Name+e.kind) == q.path("id") {
			return ok(object{{"service", c.serviceView(q, e)}})
		}
	}
	return nil, fail(http.StatusNotFound, "Could not find service: "+q.path("id")+".")
}

func (c *Cloud) listEndpoints(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_endpoints"); err != nil {
		return nil, err
	}
	out := []object{}
	for _, e := range endpoints() {
		for _, face := range []string{"admin", "internal", "public"} {
			id, svc := fixedID(c.cfg.Name+e.kind+face), fixedID(c.cfg.Name+e.kind)
			if f := q.query.Get("interface"); f != "" && f != face {
				continue
			}
			if f := q.query.Get("service_id"); f != "" && f != svc {
				continue
			}
			if f := q.query.Get("region_id"); f != "" && f != c.cfg.Name {
				continue
			}
			url := e.path
			if i := len(url) - len("PROJECT"); i > 0 && url[i:] == "PROJECT" {
				url = url[:i] + "%(tenant_id)s"
			}
			out = append(out, object{{"id", id}, {"interface", face}, {"region_id", c.cfg.Name}, {"service_id", svc}, {"url", q.base + url},
				{"enabled", true}, {"region", c.cfg.Name}, {"links", selfLink(q, "/v3/endpoints/"+id)}})
		}
	}
	return ok(object{{"endpoints", out}, {"links", links(q)}})
}

func (c *Cloud) regionView(q *request) object {
	return object{{"id", c.cfg.Name}, {"description", ""}, {"parent_region_id", nil}, {"links", selfLink(q, "/v3/regions/"+c.cfg.Name)}}
}

func (c *Cloud) domainView(q *request) object {
	return object{{"id", "default"}, {"name", "Default"}, {"description", "The default domain"}, {"enabled", true}, {"tags", []string{}},
		{"options", object{}}, {"links", selfLink(q, "/v3/domains/default")}}
}

func (c *Cloud) authDomains(q *request) (*reply, error) {
	return ok(object{{"domains", []object{}}, {"links", links(q)}})
}

func selfLink(q *request, path string) object { return object{{"self", q.url(path)}} }

// fixedID derives a stable id from a name (FNV-1a, twice 64 bits).
func fixedID(name string) string {
	const digits = "0123456789abcdef"
	h := [2]uint64{14695981039346656037, 1099511628211}
	for i := range len(name) {
		for k := range h {
			h[k] = (h[k] ^ uint64(name[i]+byte(k))) * 1099511628211
		}
	}
	out := make([]byte, 0, 32)
	for _, v := range h {
		for range 16 {
			out = append(out, digits[v&15])
			v >>= 4
		}
	}
	return string(out)
}

// fixedUUID is fixedID spelled as a UUID.
func fixedUUID(name string) string {
	h := fixedID(name)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

func (c *Cloud) grantRoutes(h func(string, access, handler)) {
	h("GET /v3/roles", needsToken, c.listRoles)
	h("GET /v3/roles/{id}", needsToken, c.showRole)
	const g = " /v3/projects/{project}/users/{user}/roles"
	h("GET"+g, needsToken, c.userRoles)
	h("PUT"+g+"/{role}", needsToken, c.putGrant)
	h("GET"+g+"/{role}", needsToken, c.checkGrant)
	h("DELETE"+g+"/{role}", needsToken, c.deleteGrant)
	h("GET /v3/role_assignments", needsToken, c.roleAssignments)
	h("GET /v3/services", needsToken, c.listServices)
	h("GET /v3/services/{id}", needsToken, c.showService)
	h("GET /v3/endpoints", needsToken, c.listEndpoints)
	h("GET /v3/regions", needsToken, func(q *request) (*reply, error) {
		return ok(object{{"regions", []object{c.regionView(q)}}, {"links", links(q)}})
	})
	h("GET /v3/regions/{id}", needsToken, func(q *request) (*reply, error) {
		if q.path("id") != c.cfg.Name {
			return nil, fail(http.StatusNotFound, "Could not find region: "+q.path("id")+".")
		}
		return ok(object{{"region", c.regionView(q)}})
	})
	h("GET /v3/domains", needsToken, c.listDomains)
	h("GET /v3/domains/{id}", needsToken, func(q *request) (*reply, error) {
		if q.path("id") != "default" {
			return nil, fail(http.StatusNotFound, "Could not find domain: "+q.path("id")+".")
		}
		return ok(object{{"domain", c.domainView(q)}})
	})
	h("GET /v3/limits", needsToken, func(q *request) (*reply, error) { return ok(object{{"limits", []object{}}, {"links", links(q)}}) })
	h("GET /v3/groups", needsToken, func(q *request) (*reply, error) { return ok(object{{"groups", []object{}}, {"links", links(q)}}) })
}

func (c *Cloud) listDomains(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_domains"); err != nil {
		return nil, err
	}
	out := []object{}
	if n := q.query.Get("name"); n == "" || n == "Default" {
		out = append(out, c.domainView(q))
	}
	return ok(object{{"domains", out}, {"links", links(q)}})
}

func (c *Cloud) roleView(q *request, r *role) object {
	options := object{{"immutable", true}}
	if r.name == "service" {
		options = object{}
	}
	return object{{"id", r.id}, {"name", r.name}, {"domain_id", nil}, {"description", nil}, {"options", options}, {"links", selfLink(q, "/v3/roles/"+r.id)}}
}

func (c *Cloud) listRoles(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_roles"); err != nil {
		return nil, err
	}
	out := []object{}
	for _, r := range c.identity.roles {
		if n := q.query.Get("name"); n == "" || n == r.name {
			out = append(out, c.roleView(q, r))
		}
	}
	return ok(object{{"roles", out}, {"links", links(q)}})
}

func (c *Cloud) showRole(q *request) (*reply, error) {
	if err := q.needAdmin("identity:get_role"); err != nil {
		return nil, err
	}
	r := c.roleByID(q.path("id"))
	if r == nil {
		return nil, fail(http.StatusNotFound, "Could not find role: "+q.path("id")+".")
	}
	return ok(object{{"role", c.roleView(q, r)}})
}

func (c *Cloud) userRoles(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_grants"); err != nil {
		return nil, err
	}
	out := []object{}
	for _, r := range c.identity.roles {
		if c.identity.grants[grant{q.path("user"), q.path("project"), r.id}] {
			out = append(out, c.roleView(q, r))
		}
	}
	return ok(object{{"roles", out}, {"links", links(q)}})
}

func (c *Cloud) grantOf(q *request, rule string) (grant, error) {
	g := grant{q.path("user"), q.path("project"), q.path("role")}
	if err := q.needAdmin(rule); err != nil {
		return g, err
	}
	if c.roleByID(g.role) == nil {
		return g, fail(http.StatusNotFound, "Could not find role: "+g.role+".")
	}
	if _, found := c.identity.users.get(g.user); !found {
		return g, fail(http.StatusNotFound, "Could not find user: "+g.user+".")
	}
	if _, found := c.identity.projects.get(g.project); !found {
		return g, fail(http.StatusNotFound, "Could not find project: "+g.project+".")
	}
	return g, nil
}

func (c *Cloud) putGrant(q *request) (*reply, error) {
	g, err := c.grantOf(q, "identity:create_grant")
	if err != nil {
		return nil, err
	}
	c.identity.grants[g] = true
	return noContent()
}

func (g grant) missing() error {
	return fail(http.StatusNotFound, "Could not find role assignment with role: "+g.role+", user or group: "+g.user+", project, domain, or system: "+g.project+".")
}

func (c *Cloud) checkGrant(q *request) (*reply, error) {
	g, err := c.grantOf(q, "identity:check_grant")
	if err != nil {
		return nil, err
	}
	if !c.identity.grants[g] {
		return nil, g.missing()
	}
	return noContent()
}

func (c *Cloud) deleteGrant(q *request) (*reply, error) {
	g, err := c.grantOf(q, "identity:revoke_grant")
	if err != nil {
		return nil, err
	}
	if !c.identity.grants[g] {
		return nil, g.missing()
	}
	delete(c.identity.grants, g)
	return noContent()
}

func (c *Cloud) roleAssignments(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_role_assignments"); err != nil {
		return nil, err
	}
	_, names := q.query["include_names"]
	var list []grant
	for g := range c.identity.grants {
		if match(q, "user.id", g.user) && match(q, "scope.project.id", g.project) && match(q, "role.id", g.role) {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b grant) int { return cmpStrings(a.project+a.user+a.role, b.project+b.user+b.role) })
	out := []object{}
	for _, g := range list {
		p, u, r := object{{"id", g.project}}, object{{"id", g.user}}, object{{"id", g.role}}
		if names {
			dom := object{{"id", "default"}, {"name", "Default"}}
			if pr, found := c.identity.projects.get(g.project); found {
				p = append(p, kv{"name", pr.name}, kv{"domain", dom})
			}
			if us, found := c.identity.users.get(g.user); found {
				u = append(u, kv{"name", us.name}, kv{"domain", dom})
			}
			r = append(r, kv{"name", c.roleByID(g.role).name})
		}
		out = append(out, object{{"links", object{{"assignment", q.url("/v3/projects/" + g.project + "/users/" + g.user + "/roles/" + g.role)}}},
			{"scope", object{{"project", p}}}, {"user", u}, {"role", r}})
	}
	return ok(object{{"role_assignments", out}, {"links", links(q)}})
}

func match(q *request, key, value string) bool {
	v := q.query.Get(key)
	return v == "" || v == value
}

func cmpStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
