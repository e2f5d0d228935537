package emulator

import (
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// attr describes one attribute of a Neutron resource.
type attr struct {
	name      string
	kind      byte // s text, b boolean, i number, l list, m object, x anything; 0: not writable
	post, put bool
	admin     bool // only an admin may set it, and sees it
	adminSee  bool // only an admin sees it
}

// netResource is one stored Neutron resource.
type netResource interface {
	storable
	meta() *std
	attr(c *Cloud, name string) any
}

// netKind is everything that is generic about one kind of resource.
type netKind struct {
	one, many string
	notFound  string // exception name
	missing   string // message, with %s for the id
	attrs     []attr
	all       func(q *request) []netResource // what the caller may see, oldest first
	get       func(id string) (netResource, bool)
	create    func(q *request, d doc) (netResource, error)
	update    func(q *request, r netResource, d doc) error
	remove    func(q *request, r netResource) error
	mine      func(q *request, r netResource) bool // may the caller, who sees it, change it?
}

func neutronErr(status int, kind, msg string) error {
	return &apiError{status: status, kind: kind, msg: msg}
}

func badRequest(msg string) error { return neutronErr(400, "HTTPBadRequest", msg) }

func denied(rule string) error {
	return neutronErr(403, "PolicyNotAuthorized", rule+" is disallowed by policy")
}

func stdAttrs(attrs ...attr) []attr {
	out := []attr{{name: "id"}, {name: "name", kind: 's', post: true, put: true}, {name: "tenant_id", kind: 's', post: true}, {name: "project_id", kind: 's', post: true}}
	out = append(out, attrs...)
	return append(out, attr{name: "description", kind: 's', post: true, put: true}, attr{name: "tags"}, attr{name: "created_at"}, attr{name: "updated_at"}, attr{name: "revision_number"})
}

func (s *std) common(r *row, name string) (any, bool) {
	switch name {
	case "id":
		return r.ID, true
	case "name":
		return s.name, true
	case "description":
		return s.description, true
	case "tenant_id", "project_id":
		return r.Project, true
	case "tags":
		if s.tags == nil {
			return []string{}, true
		}
		return s.tags, true
	case "created_at":
		return s.created.Format(zulu), true
	case "updated_at":
		return s.updated.Format(zulu), true
	case "revision_number":
		return s.revision, true
	}
	return nil, false
}

func (k *netKind) view(q *request, r netResource, fields []string) object {
	v := make(object, 0, len(k.attrs))
	for _, a := range k.attrs {
		if a.name == "is_default" && r.attr(q.c, "router:external") != true { // Neutron shows it on external networks only
			continue
		}
		if (a.admin || a.adminSee) && !q.admin || len(fields) > 0 && !slices.Contains(fields, a.name) {
			continue
		}
		v = append(v, kv{a.name, r.attr(q.c, a.name)})
	}
	return v
}

func (c *Cloud) crud(k *netKind) {
	h := func(pattern string, f handler) { c.handle(networkSvc, pattern, changes, f) }
	path := " /v2.0/" + strings.ReplaceAll(k.many, "_", "-")
	h("GET"+path, func(q *request) (*reply, error) { return k.list(q) })
	h("GET"+path+"/{id}", func(q *request) (*reply, error) {
		r, err := k.find(q, q.path("id"))
		if err != nil {
			return nil, err
		}
		return ok(object{{k.one, k.view(q, r, q.query["fields"])}})
	})
	h("POST"+path, k.post)
	h("PUT"+path+"/{id}", k.put)
	h("DELETE"+path+"/{id}", k.del)
	h("GET"+path+"/{id}/tags", k.tags)
	h("PUT"+path+"/{id}/tags", k.setTags)
	h("DELETE"+path+"/{id}/tags", k.setTags)
	h("GET"+path+"/{id}/tags/{tag}", k.tag)
	h("PUT"+path+"/{id}/tags/{tag}", k.tag)
	h("DELETE"+path+"/{id}/tags/{tag}", k.tag)
}

// find returns a resource that the caller may see.
func (k *netKind) find(q *request, id string) (netResource, error) {
	if r, found := k.get(id); found && k.sees(q, r) {
		return r, nil
	}
	return nil, neutronErr(404, k.notFound, strings.ReplaceAll(k.missing, "%s", id))
}

func (k *netKind) sees(q *request, r netResource) bool {
	if q.admin || r.base().Project == q.project {
		return true
	}
	switch r := r.(type) {
	case *network:
		return r.seenBy(q)
	case *subnet:
		return r.network.usedBy(q)
	case *port:
		return r.network.Project == q.project
	}
	return false
}

func (k *netKind) post(q *request) (*reply, error) {
	if many := q.body.list(k.many); many != nil {
		return k.bulk(q, many)
	}
	d := q.body.sub(k.one)
	if d == nil {
		return nil, badRequest("Unable to find '" + k.one + "' in request body")
	}
	r, err := k.make(q, d)
	if err != nil {
		return nil, err
	}
	return made(object{{k.one, k.madeView(q, r)}})
}

// madeView is the view of the answer to a POST, where Neutron shows is_default on every network.
func (k *netKind) madeView(q *request, r netResource) object {
	v := k.view(q, r, nil)
	if n, is := r.(*network); is && !n.external {
		v = append(v, kv{"is_default", n.isDefault})
	}
	return v
}

// bulk makes all or nothing.
func (k *netKind) bulk(q *request, many []any) (*reply, error) {
	var done []netResource
	var views []object
	for _, one := range many {
		d, _ := one.(map[string]any)
		r, err := k.make(q, d)
		if err != nil {
			for _, r := range slices.Backward(done) {
				_ = k.remove(q, r) // it was made a moment ago under the same lock
			}
			return nil, err
		}
		done = append(done, r)
		views = append(views, k.madeView(q, r))
	}
	return made(object{{k.many, views}})
}

func (k *netKind) make(q *request, d doc) (netResource, error) {
	if d == nil {
		return nil, badRequest("Invalid input for " + k.many + ". Reason: it is not a list of dictionaries.")
	}
	if err := k.check(q, d, true); err != nil {
		return nil, err
	}
	owner := d.str("project_id")
	if owner == "" {
		owner = d.str("tenant_id")
	}
	if owner == "" {
		d["project_id"] = q.project
	} else {
		if owner != q.project && !q.admin {
			return nil, denied("rule:create_" + k.one)
		}
		d["project_id"] = owner
	}
	if err := q.c.netQuota(k.one, d.str("project_id")); err != nil {
		return nil, err
	}
	return k.create(q, d)
}

func (k *netKind) put(q *request) (*reply, error) {
	r, err := k.find(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	d := q.body.sub(k.one)
	if d == nil {
		return nil, badRequest("Unable to find '" + k.one + "' in request body")
	}
	if err := k.check(q, d, false); err != nil {
		return nil, err
	}
	if !q.admin && !k.mine(q, r) {
		return nil, denied("rule:update_" + k.one)
	}
	if err := matchRevision(q, r.meta()); err != nil {
		return nil, err
	}
	if err := k.update(q, r, d); err != nil {
		return nil, err
	}
	m := r.meta()
	if d.has("name") {
		m.name = d.str("name")
	}
	if d.has("description") {
		m.description = d.str("description")
	}
	q.c.touch(m)
	return ok(object{{k.one, k.view(q, r, nil)}})
}

func matchRevision(q *request, m *std) error {
	for _, want := range q.http.Header.Values("If-Match") {
		if n, found := strings.CutPrefix(want, "revision_number="); found && n != strconv.Itoa(m.revision) {
			return neutronErr(http.StatusPreconditionFailed, "RevisionNumberConstraintFailed", "Constrained to "+n+", but current revision is "+strconv.Itoa(m.revision))
		}
	}
	return nil
}

func (k *netKind) del(q *request) (*reply, error) {
	r, err := k.find(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	if !q.admin && !k.mine(q, r) {
		return nil, denied("rule:delete_" + k.one)
	}
	if err := matchRevision(q, r.meta()); err != nil {
		return nil, err
	}
	if err := k.remove(q, r); err != nil {
		return nil, err
	}
	return noContent()
}

// check refuses attributes that do not exist, may not be written, have a wrong type or are an admin's.
func (k *netKind) check(q *request, d doc, post bool) error {
	verb := "update"
	if post {
		verb = "create"
	}
	names := make([]string, 0, len(d))
	for name := range d {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		i := slices.IndexFunc(k.attrs, func(a attr) bool { return a.name == name })
		if i < 0 {
			return badRequest("Unrecognized attribute(s) '" + name + "'")
		}
		a := k.attrs[i]
		if post && !a.post {
			return badRequest("Attribute '" + name + "' not allowed in POST")
		}
		if !post && !a.put {
			return badRequest("Cannot update read-only attribute " + name)
		}
		if err := a.typed(d[name]); err != nil {
			return err
		}
		if a.admin && !q.admin {
			return denied("(rule:" + verb + "_" + k.one + " and rule:" + verb + "_" + k.one + ":" + name + ")")
		}
	}
	return nil
}

func (a attr) typed(v any) error {
	if v == nil {
		return nil
	}
	var valid bool
	switch a.kind {
	case 's':
		_, valid = v.(string)
		if !valid {
			return badRequest("Invalid input for " + a.name + ". Reason: '" + toText(v) + "' is not a valid string.")
		}
		if s := v.(string); a.name == "name" && len(s) > 255 {
			return badRequest("Invalid input for " + a.name + ". Reason: '" + s + "' exceeds maximum length of 255.")
		}
	case 'b':
		if _, valid = toBool(v); !valid {
			return badRequest("Invalid input for " + a.name + ". Reason: '" + toText(v) + "' cannot be converted to boolean.")
		}
	case 'i':
		if _, valid = toInt(v); !valid {
			return badRequest("Invalid input for " + a.name + ". Reason: '" + toText(v) + "' is not an integer.")
		}
	case 'l':
		if _, valid = v.([]any); !valid {
			return badRequest("Invalid input for " + a.name + ". Reason: '" + toText(v) + "' is not a list.")
		}
	case 'm':
		if _, valid = v.(map[string]any); !valid {
			return badRequest("Invalid input for " + a.name + ". Reason: '" + toText(v) + "' is not a dictionary.")
		}
	}
	return nil
}

func (k *netKind) list(q *request) (*reply, error) {
	if err := k.checkFilters(q); err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(k.all(q), func(r netResource) bool { return !k.matches(q, r) })
	k.sort(q, rows)
	rows, links, err := k.page(q, rows)
	if err != nil {
		return nil, err
	}
	out := make([]object, len(rows))
	for i, r := range rows {
		out[i] = k.view(q, r, q.query["fields"])
	}
	body := object{{k.many, out}}
	if links != nil {
		body = append(body, kv{k.many + "_links", links})
	}
	return ok(body)
}

func isPaging(key string) bool {
	switch key {
	case "fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse", "tags", "tags-any", "not-tags", "not-tags-any", "changed_since":
		return true
	}
	return false
}

func (k *netKind) checkFilters(q *request) error {
	var unknown []string
	for key := range q.query {
		if key == "changed_since" && !q.c.cfg.ChangedSince || !isPaging(key) && !slices.ContainsFunc(k.attrs, func(a attr) bool { return a.name == key }) {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return badRequest("['" + strings.Join(unknown, "', '") + "'] is invalid attribute for filtering")
	}
	return nil
}

func (k *netKind) matches(q *request, r netResource) bool {
	for key, want := range q.query {
		if isPaging(key) {
			continue
		}
		if !attrMatches(key, r.attr(q.c, key), want) {
			return false
		}
	}
	m := r.meta()
	if since := q.query.Get("changed_since"); since != "" {
		if t, isTime := parseTime(since); isTime && m.updated.Before(t) {
			return false
		}
	}
	return tagsMatch(q.query, m.tags)
}

func attrMatches(key string, have any, want []string) bool {
	return slices.ContainsFunc(want, func(w string) bool {
		switch have := have.(type) {
		case bool:
			b, isBool := toBool(w)
			return isBool && b == have
		case []string:
			return slices.Contains(have, w)
		case []object: // fixed_ips=ip_address=10.0.0.5
			name, value, _ := strings.Cut(w, "=")
			return slices.ContainsFunc(have, func(o object) bool {
				return slices.ContainsFunc(o, func(m kv) bool {
					return m.K == name && toText(m.V) == value || m.K+"_substr" == name && strings.Contains(toText(m.V), value)
				})
			})
		}
		return toText(have) == w
	})
}

func tagsMatch(query url.Values, tags []string) bool {
	for key, all := range map[string]bool{"tags": true, "tags-any": false, "not-tags": true, "not-tags-any": false} {
		for _, list := range query[key] {
			want := strings.Split(list, ",")
			n := 0
			for _, w := range want {
				if slices.Contains(tags, w) {
					n++
				}
			}
			hit := all && n == len(want) || !all && n > 0
			if hit == strings.HasPrefix(key, "not-") {
				return false
			}
		}
	}
	return true
}

func (k *netKind) sort(q *request, rows []netResource) {
	keys, dirs := q.query["sort_key"], q.query["sort_dir"]
	if len(keys) == 0 {
		return
	}
	slices.SortStableFunc(rows, func(a, b netResource) int {
		for i, key := range keys {
			n := cmpStrings(toText(a.attr(q.c, key)), toText(b.attr(q.c, key)))
			if i < len(dirs) && strings.EqualFold(dirs[i], "desc") {
				n = -n
			}
			if n != 0 {
				return n
			}
		}
		return cmpStrings(a.base().ID, b.base().ID)
	})
}

func (k *netKind) page(q *request, rows []netResource) ([]netResource, []object, error) {
	marker := q.query.Get("marker")
	if marker != "" {
		i := slices.IndexFunc(rows, func(r netResource) bool { return r.base().ID == marker })
		if i < 0 {
			return nil, nil, neutronErr(404, k.notFound, strings.ReplaceAll(k.missing, "%s", marker))
		}
		rows = rows[i+1:]
	}
	text := q.query.Get("limit")
	if text == "" {
		return rows, nil, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 0 {
		return nil, nil, neutronErr(400, "BadRequest", "Bad limit request: Limit must be an integer 0 or greater and not '"+text+"'.")
	}
	if limit == 0 || limit > 1000 {
		limit = 1000 // pagination_max_limit, as the regions have it
	}
	if len(rows) < limit || len(rows) == 0 {
		return rows, k.links(q, rows, false), nil
	}
	rows = rows[:limit]
	return rows, k.links(q, rows, true), nil
}

func (k *netKind) links(q *request, rows []netResource, next bool) []object {
	if len(rows) == 0 {
		return nil
	}
	href := func(marker string, back bool) string {
		v := url.Values{}
		for key, list := range q.query {
			if key != "marker" && key != "page_reverse" {
				v[key] = list
			}
		}
		v.Set("marker", marker)
		if back {
			v.Set("page_reverse", "True")
		}
		return q.url("/v2.0/" + strings.ReplaceAll(k.many, "_", "-") + "?" + v.Encode())
	}
	var out []object
	if next {
		out = append(out, object{{"rel", "next"}, {"href", href(rows[len(rows)-1].base().ID, false)}})
	}
	if q.query.Get("marker") != "" || next {
		out = append(out, object{{"rel", "previous"}, {"href", href(rows[0].base().ID, true)}})
	}
	return out
}

func (k *netKind) tags(q *request) (*reply, error) {
	r, err := k.find(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	return ok(object{{"tags", r.attr(q.c, "tags")}})
}

func (k *netKind) setTags(q *request) (*reply, error) {
	r, err := k.find(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	m := r.meta()
	q.c.touch(m)
	if q.http.Method == http.MethodDelete {
		m.tags = nil
		return noContent()
	}
	if !q.body.has("tags") {
		return nil, badRequest("Invalid input for operation: Invalid tags body.")
	}
	m.tags = nil
	for _, t := range anyStrings(q.body.list("tags")) {
		if !slices.Contains(m.tags, t) {
			m.tags = append(m.tags, t)
		}
	}
	return ok(object{{"tags", r.attr(q.c, "tags")}})
}

func (k *netKind) tag(q *request) (*reply, error) {
	r, err := k.find(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	m, tag := r.meta(), q.path("tag")
	has := slices.Contains(m.tags, tag)
	switch q.http.Method {
	case http.MethodPut:
		if !has {
			m.tags = append(m.tags, tag)
			q.c.touch(m)
		}
		return &reply{status: 201, raw: []byte("null"), ctype: "application/json"}, nil
	case http.MethodDelete:
		if !has {
			break
		}
		m.tags = slices.DeleteFunc(m.tags, func(t string) bool { return t == tag })
		q.c.touch(m)
		return noContent()
	}
	if !has {
		return nil, neutronErr(404, "TagNotFound", "Tag "+tag+" could not be found.")
	}
	return noContent()
}
