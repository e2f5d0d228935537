package emulator

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
)

func (c *Cloud) flavorRoutes(h func(string, handler)) {
	h("GET /v2.1/flavors", c.listFlavors(false))
	h("GET /v2.1/flavors/detail", c.listFlavors(true))
	h("POST /v2.1/flavors", c.createFlavor)
	h("GET /v2.1/flavors/{id}", func(q *request) (*reply, error) {
		f, err := c.flavorFor(q, q.path("id"))
		if err != nil {
			return nil, err
		}
		return ok(object{{"flavor", q.flavorView(f)}})
	})
	h("PUT /v2.1/flavors/{id}", c.updateFlavor)
	h("DELETE /v2.1/flavors/{id}", c.deleteFlavor)
	h("POST /v2.1/flavors/{id}/action", c.flavorAction)
	h("GET /v2.1/flavors/{id}/os-flavor-access", c.flavorAccess)
	h("GET /v2.1/flavors/{id}/os-extra_specs", c.flavorSpecs)
	h("POST /v2.1/flavors/{id}/os-extra_specs", c.flavorSpecs)
	h("GET /v2.1/flavors/{id}/os-extra_specs/{key}", c.flavorSpec)
	h("PUT /v2.1/flavors/{id}/os-extra_specs/{key}", c.flavorSpec)
	h("DELETE /v2.1/flavors/{id}/os-extra_specs/{key}", c.flavorSpec)
}

// flavorFor returns a flavor that the caller may use.
func (c *Cloud) flavorFor(q *request, id string) (*flavor, error) {
	if f, found := c.compute.flavors.get(id); found && (f.public || q.admin || f.access[q.project]) {
		return f, nil
	}
	return nil, fail(404, "Flavor "+id+" could not be found.")
}

func (q *request) flavorView(f *flavor) object {
	swap := any(f.swap)
	if f.swap == 0 && !q.at(75) {
		swap = ""
	}
	v := object{{"id", f.ID}, {"name", f.name}, {"ram", f.ram}, {"disk", f.disk}, {"swap", swap}, {"OS-FLV-EXT-DATA:ephemeral", f.ephemeral}, {"OS-FLV-DISABLED:disabled", f.disabled},
		{"vcpus", f.vcpus}, {"os-flavor-access:is_public", f.public}, {"rxtx_factor", f.rxtx}, {"links", q.bothLinks("flavors", f.ID)}}
	if q.at(55) {
		v = append(v, kv{"description", orNil(f.description)})
	}
	if q.at(61) {
		v = append(v, kv{"extra_specs", orEmptyMap(f.specs)})
	}
	return v
}

func (c *Cloud) listFlavors(detail bool) handler {
	return func(q *request) (*reply, error) {
		rows := c.flavorsSeen(q)
		if m := q.query.Get("marker"); m != "" {
			i := slices.IndexFunc(rows, func(f *flavor) bool { return f.ID == m })
			if i < 0 {
				return nil, fail(400, "marker ["+m+"] not found")
			}
			rows = rows[i+1:]
		}
		limit := novaMaxLimit
		if n, err := strconv.Atoi(q.query.Get("limit")); err == nil && n > 0 {
			limit = min(n, novaMaxLimit)
		} else if t := q.query.Get("limit"); t != "" && (err != nil || n < 0) {
			return nil, badQuery("limit", t, "does not match '^[0-9]*$'")
		}
		full := len(rows) >= limit
		rows = rows[:min(limit, len(rows))]
		out := make([]object, len(rows))
		for i, f := range rows {
			if out[i] = q.flavorView(f); !detail {
				out[i] = object{{"id", f.ID}, {"name", f.name}, {"links", q.bothLinks("flavors", f.ID)}}
				if q.at(55) {
					out[i] = append(out[i], kv{"description", orNil(f.description)})
				}
			}
		}
		body := object{{"flavors", out}}
		if full && len(rows) > 0 {
			v := url.Values{}
			maps.Copy(v, q.query)
			v.Set("marker", rows[len(rows)-1].ID)
			path := "/v2.1/flavors"
			if detail {
				path += "/detail"
			}
			body = append(body, kv{"flavors_links", []object{{{"rel", "next"}, {"href", q.url(path + "?" + v.Encode())}}}})
		}
		return ok(body)
	}
}

// flavorsSeen lists by flavor id, which is Nova's default order.
func (c *Cloud) flavorsSeen(q *request) []*flavor {
	var rows []*flavor
	public, filtered := true, !q.admin || q.query.Get("is_public") == ""
	if q.admin && q.query.Get("is_public") != "" {
		public, filtered = toBool(q.query.Get("is_public"))
	}
	minRAM, _ := strconv.Atoi(q.query.Get("minRam"))
	minDisk, _ := strconv.Atoi(q.query.Get("minDisk"))
	for _, f := range c.compute.flavors.all {
		seen := !filtered || f.public == public
		if !q.admin && f.access[q.project] {
			seen = true
		}
		if seen && f.ram >= minRAM && f.disk >= minDisk {
			rows = append(rows, f)
		}
	}
	slices.SortFunc(rows, func(a, b *flavor) int { return cmpStrings(a.ID, b.ID) })
	return rows
}

var digitsOnly = regexp.MustCompile(`^[0-9]+$`)

func flavorNumber(d doc, name string, least int, required bool) (int, error) {
	if !d.has(name) {
		if required {
			return 0, badField("flavor", string(appendJSON(nil, map[string]any(d))), "'"+name+"' is a required property")
		}
		return 0, nil
	}
	if text, isText := d[name].(string); isText && !digitsOnly.MatchString(text) {
		return 0, badField(name, text, "'"+text+"' does not match '^[0-9]+$'")
	}
	n, isNumber := d.num(name)
	if !isNumber || n < least {
		return 0, badField(name, d[name], toText(d[name])+" is less than the minimum of "+strconv.Itoa(least))
	}
	return n, nil
}

func (c *Cloud) createFlavor(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-flavor-manage:create")
	}
	d := q.body.sub("flavor")
	if d == nil {
		return nil, fail(400, "'flavor' is a required property")
	}
	if err := checkServerName(d["name"]); err != nil {
		return nil, err
	}
	f := &flavor{name: d.str("name"), description: d.str("description"), rxtx: 1, public: d.truth("os-flavor-access:is_public", true), access: map[string]bool{}}
	for name, x := range map[string]struct {
		to       *int
		least    int
		required bool
	}{"ram": {&f.ram, 1, true}, "vcpus": {&f.vcpus, 1, true}, "disk": {&f.disk, 0, true}, "swap": {&f.swap, 0, false}, "OS-FLV-EXT-DATA:ephemeral": {&f.ephemeral, 0, false}} {
		n, err := flavorNumber(d, name, x.least, x.required)
		if err != nil {
			return nil, err
		}
		*x.to = n
	}
	f.ID = toText(d["id"])
	if f.ID == "" {
		f.ID = newID()
	}
	for _, o := range c.compute.flavors.all {
		if o.name == f.name {
			return nil, fail(409, "Flavor with name "+f.name+" already exists.")
		}
		if o.ID == f.ID {
			return nil, fail(409, "Flavor with ID "+f.ID+" already exists.")
		}
	}
	c.compute.flavors.add(f)
	return ok(object{{"flavor", q.flavorView(f)}})
}

func (c *Cloud) updateFlavor(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-flavor-manage:update")
	}
	f, err := c.flavorFor(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	f.description = q.body.sub("flavor").str("description")
	return ok(object{{"flavor", q.flavorView(f)}})
}

func (c *Cloud) deleteFlavor(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-flavor-manage:delete")
	}
	f, err := c.flavorFor(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	c.compute.flavors.remove(f)
	return accepted(nil)
}

func (f *flavor) accessView() []object {
	out := []object{}
	for _, p := range slices.Sorted(maps.Keys(f.access)) {
		out = append(out, object{{"flavor_id", f.ID}, {"tenant_id", p}})
	}
	return out
}

func (c *Cloud) flavorAccess(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-flavor-access")
	}
	f, err := c.flavorFor(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	if f.public {
		return nil, fail(404, "Access list not available for public flavors.")
	}
	return ok(object{{"flavor_access", f.accessView()}})
}

func (c *Cloud) flavorAction(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-flavor-access:add_tenant_access")
	}
	f, err := c.flavorFor(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	if add := q.body.sub("addTenantAccess"); add != nil {
		if f.public {
			return nil, fail(409, "Can not add access to a public flavor.")
		}
		p := add.str("tenant")
		if _, found := c.identity.projects.get(p); !found {
			return nil, fail(400, "Project ID "+p+" is not a valid project.")
		}
		if f.access[p] {
			return nil, fail(409, "Flavor access already exists for flavor "+f.ID+" and project "+p+" combination.")
		}
		f.access[p] = true
		return ok(object{{"flavor_access", f.accessView()}})
	}
	p := q.body.sub("removeTenantAccess").str("tenant")
	if !f.access[p] {
		return nil, fail(404, "Flavor access not found for "+f.ID+" / "+p+" combination.")
	}
	delete(f.access, p)
	return ok(object{{"flavor_access", f.accessView()}})
}

func (c *Cloud) flavorSpecs(q *request) (*reply, error) {
	f, err := c.flavorFor(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	if q.http.Method == http.MethodPost {
		if !q.admin {
			return nil, policyError("os-flavor-extra-specs:create")
		}
		f.specs = maps.Clone(f.specs)
		if f.specs == nil {
			f.specs = map[string]string{}
		}
		maps.Copy(f.specs, q.body.stringMap("extra_specs"))
	}
	return ok(object{{"extra_specs", orEmptyMap(f.specs)}})
}

func (c *Cloud) flavorSpec(q *request) (*reply, error) {
	f, err := c.flavorFor(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	key := q.path("key")
	if q.http.Method != http.MethodGet && !q.admin {
		return nil, policyError("os-flavor-extra-specs:update")
	}
	if q.http.Method == http.MethodPut {
		v, given := q.body[key]
		if !given || len(q.body) != 1 {
			return nil, fail(400, "Request body and URI mismatch")
		}
		f.specs = maps.Clone(f.specs)
		if f.specs == nil {
			f.specs = map[string]string{}
		}
		f.specs[key] = toText(v)
	}
	v, found := f.specs[key]
	if !found {
		return nil, fail(404, "Flavor "+f.ID+" has no extra specs with key "+key+".")
	}
	if q.http.Method == http.MethodDelete {
		f.specs = maps.Clone(f.specs)
		delete(f.specs, key)
		return &reply{status: 200}, nil
	}
	return ok(map[string]string{key: v})
}
