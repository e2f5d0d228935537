package emulator

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (c *Cloud) projectRoutes(h func(string, access, handler)) {
	h("GET /v3/projects", needsToken, c.listProjects)
	h("POST /v3/projects", needsToken, c.createProject)
	h("GET /v3/projects/{id}", needsToken, c.showProject)
	h("PATCH /v3/projects/{id}", needsToken, c.updateProject)
	h("DELETE /v3/projects/{id}", needsToken, c.deleteProject)
}

func (c *Cloud) userRoutes(h func(string, access, handler)) {
	h("GET /v3/users", needsToken, c.listUsers)
	h("POST /v3/users", needsToken, c.createUser)
	h("GET /v3/users/{id}", needsToken, c.showUser)
	h("PATCH /v3/users/{id}", needsToken, c.updateUser)
	h("DELETE /v3/users/{id}", needsToken, c.deleteUser)
	h("POST /v3/users/{id}/password", needsToken, c.changeOwnPassword)
	h("GET /v3/users/{id}/projects", needsToken, c.userProjects)
	h("GET /v3/users/{id}/groups", needsToken, func(q *request) (*reply, error) { return ok(object{{"groups", []object{}}, {"links", links(q)}}) })
	h("GET /v3/users/{id}/application_credentials", needsToken, c.listAppCreds)
	h("POST /v3/users/{id}/application_credentials", needsToken, c.createAppCred)
	h("GET /v3/users/{id}/application_credentials/{cred}", needsToken, c.showAppCred)
	h("DELETE /v3/users/{id}/application_credentials/{cred}", needsToken, c.deleteAppCred)
}

func (c *Cloud) projectView(q *request, p *project) object {
	tags := p.tags
	if tags == nil {
		tags = []string{}
	}
	v := object{{"id", p.ID}, {"name", p.name}, {"domain_id", "default"}, {"description", p.description}, {"enabled", p.enabled},
		{"parent_id", "default"}, {"is_domain", false}, {"tags", tags}, {"options", object{}}}
	for _, k := range slices.Sorted(maps.Keys(p.extra)) {
		v = append(v, kv{k, p.extra[k]})
	}
	return append(v, kv{"links", selfLink(q, "/v3/projects/"+p.ID)})
}

func (c *Cloud) listProjects(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_projects"); err != nil {
		return nil, err
	}
	out := []object{}
	for _, p := range c.identity.projects.all {
		if match(q, "name", p.name) && match(q, "domain_id", "default") && match(q, "parent_id", "default") && c.projectTagsMatch(q, p) && match(q, "enabled", boolText(p.enabled, q.query.Get("enabled"))) {
			out = append(out, c.projectView(q, p))
		}
	}
	return ok(object{{"projects", out}, {"links", links(q)}})
}

// boolText spells b the way the client spelled its filter, so that they compare.
func boolText(b bool, asked string) string {
	if v, isBool := toBool(asked); isBool && v == b {
		return asked
	}
	return "?"
}

func (c *Cloud) projectTagsMatch(q *request, p *project) bool {
	if t := q.query.Get("tags"); t != "" {
		for _, one := range strings.Split(t, ",") {
			if !slices.Contains(p.tags, one) {
				return false
			}
		}
	}
	if t := q.query.Get("tags-any"); t != "" {
		return slices.ContainsFunc(strings.Split(t, ","), func(one string) bool { return slices.Contains(p.tags, one) })
	}
	return true
}

func (c *Cloud) projectAt(q *request) (*project, error) {
	p, found := c.identity.projects.get(q.path("id"))
	if !found {
		return nil, fail(http.StatusNotFound, "Could not find project: "+q.path("id")+".")
	}
	return p, nil
}

func (c *Cloud) showProject(q *request) (*reply, error) {
	if !q.admin && q.path("id") != q.project {
		return nil, forbiddenRule("identity:get_project")
	}
	p, err := c.projectAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"project", c.projectView(q, p)}})
}

func checkName(d doc, required bool) error {
	if !required && !d.has("name") {
		return nil
	}
	name, isText := d["name"].(string)
	switch {
	case !d.has("name"):
		return fail(400, "'name' is a required property")
	case !isText:
		return fail(400, "Invalid input for field 'name': "+toText(d["name"])+" is not of type 'string'")
	case strings.TrimSpace(name) == "":
		return fail(400, "Invalid input for field 'name': '"+name+"' is too short")
	case len(name) > 255:
		return fail(400, "Invalid input for field 'name': '"+name+"' is too long")
	}
	return nil
}

func (c *Cloud) createProject(q *request) (*reply, error) {
	if err := q.needAdmin("identity:create_project"); err != nil {
		return nil, err
	}
	d := q.body.sub("project")
	if d == nil {
		return nil, fail(400, "'project' is a required property")
	}
	if err := checkName(d, true); err != nil {
		return nil, err
	}
	if len(d.str("name")) > 64 {
		return nil, fail(400, "Invalid input for field 'name': '"+d.str("name")+"' is too long")
	}
	if c.projectNamed(d.str("name")) != nil {
		return nil, fail(409, "Conflict occurred attempting to store project - it is not permitted to have two projects with either the same name or same id in the same domain: name is "+d.str("name")+", project id "+newHex()+".")
	}
	if dom := d.str("domain_id"); dom != "" && dom != "default" {
		return nil, fail(404, "Could not find domain: "+dom+".")
	}
	p := c.addProject(d.str("name"), d.str("description"))
	p.setFrom(d)
	return made(object{{"project", c.projectView(q, p)}})
}

func (p *project) setFrom(d doc) {
	for k, v := range d {
		switch k {
		case "name":
			p.name, _ = v.(string)
		case "description":
			p.description, _ = v.(string)
		case "enabled":
			p.enabled = d.truth("enabled", true)
		case "tags":
			p.tags = anyStrings(d.list("tags"))
		case "domain_id", "parent_id", "is_domain", "id", "links", "options", "domain":
		default:
			if p.extra == nil {
				p.extra = map[string]any{}
			}
			p.extra[k] = v
		}
	}
}

func (c *Cloud) updateProject(q *request) (*reply, error) {
	if err := q.needAdmin("identity:update_project"); err != nil {
		return nil, err
	}
	p, err := c.projectAt(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("project")
	if err := checkName(d, false); err != nil {
		return nil, err
	}
	if other := c.projectNamed(d.str("name")); other != nil && other != p {
		return nil, fail(409, "Conflict occurred attempting to store project - it is not permitted to have two projects with either the same name or same id in the same domain: name is "+d.str("name")+", project id "+p.ID+".")
	}
	p.setFrom(d)
	return ok(object{{"project", withExtra(c.projectView(q, p), p.extra)}})
}

// withExtra adds the member that Keystone has in answers to a PATCH only.
func withExtra(v object, extra map[string]any) object {
	if extra == nil {
		extra = map[string]any{}
	}
	return append(v, kv{"extra", extra})
}

func (c *Cloud) deleteProject(q *request) (*reply, error) {
	if err := q.needAdmin("identity:delete_project"); err != nil {
		return nil, err
	}
	p, err := c.projectAt(q)
	if err != nil {
		return nil, err
	}
	c.identity.projects.remove(p)
	for g := range c.identity.grants {
		if g.project == p.ID {
			delete(c.identity.grants, g)
		}
	}
	for _, a := range slices.Clone(c.identity.appCreds.of(p.ID)) {
		c.identity.appCreds.remove(a)
	}
	return noContent()
}

func (c *Cloud) projectsOf(u *user) []*project {
	var out []*project
	for _, p := range c.identity.projects.all {
		if p.enabled && len(c.rolesOf(u, p.ID)) > 0 {
			out = append(out, p)
		}
	}
	return out
}

func (c *Cloud) ownProjects(q *request) (*reply, error) { return c.projectsReply(q, q.user) }

func (c *Cloud) projectsReply(q *request, u *user) (*reply, error) {
	out := []object{}
	for _, p := range c.projectsOf(u) {
		out = append(out, c.projectView(q, p))
	}
	return ok(object{{"projects", out}, {"links", links(q)}})
}

func (c *Cloud) userProjects(q *request) (*reply, error) {
	u, err := c.userAt(q, "identity:list_user_projects")
	if err != nil {
		return nil, err
	}
	return c.projectsReply(q, u)
}

// userAt returns the user of the path, whom only an admin and himself may see.
func (c *Cloud) userAt(q *request, rule string) (*user, error) {
	if !q.admin && q.path("id") != q.user.ID {
		return nil, forbiddenRule(rule)
	}
	u, found := c.identity.users.get(q.path("id"))
	if !found {
		return nil, fail(http.StatusNotFound, "Could not find user: "+q.path("id")+".")
	}
	return u, nil
}

func (c *Cloud) userView(q *request, u *user) object {
	var v object
	for _, k := range slices.Sorted(maps.Keys(u.extra)) {
		v = append(v, kv{k, u.extra[k]})
	}
	v = append(v, kv{"id", u.ID}, kv{"name", u.name}, kv{"domain_id", "default"}, kv{"enabled", u.enabled})
	if u.defaultProject != "" {
		v = append(v, kv{"default_project_id", u.defaultProject})
	}
	return append(v, kv{"password_expires_at", nil}, kv{"options", object{}}, kv{"links", selfLink(q, "/v3/users/"+u.ID)})
}

func (c *Cloud) listUsers(q *request) (*reply, error) {
	if err := q.needAdmin("identity:list_users"); err != nil {
		return nil, err
	}
	out := []object{}
	for _, u := range c.identity.users.all {
		if match(q, "name", u.name) && match(q, "domain_id", "default") {
			out = append(out, c.userView(q, u))
		}
	}
	return ok(object{{"users", out}, {"links", links(q)}})
}

func (c *Cloud) showUser(q *request) (*reply, error) {
	u, err := c.userAt(q, "identity:get_user")
	if err != nil {
		return nil, err
	}
	return ok(object{{"user", c.userView(q, u)}})
}

func (u *user) setFrom(d doc) {
	for k, v := range d {
		switch k {
		case "name":
			u.name, _ = v.(string)
		case "password":
			u.password, _ = v.(string)
		case "enabled":
			u.enabled = d.truth("enabled", true)
		case "default_project_id":
			u.defaultProject, _ = v.(string)
		case "domain_id", "id", "links", "options", "domain", "original_password":
		default:
			if u.extra == nil {
				u.extra = map[string]any{}
			}
			u.extra[k] = v
		}
	}
}

func (c *Cloud) createUser(q *request) (*reply, error) {
	if err := q.needAdmin("identity:create_user"); err != nil {
		return nil, err
	}
	d := q.body.sub("user")
	if d == nil {
		return nil, fail(400, "'user' is a required property")
	}
	if err := checkName(d, true); err != nil {
		return nil, err
	}
	if c.userNamed(d.str("name")) != nil {
		return nil, fail(409, "Conflict occurred attempting to store user - Duplicate entry found with name "+d.str("name")+" at domain ID default.")
	}
	u := c.addUser(d.str("name"), "", "")
	u.setFrom(d)
	return made(object{{"user", c.userView(q, u)}})
}

func (c *Cloud) updateUser(q *request) (*reply, error) {
	if err := q.needAdmin("identity:update_user"); err != nil {
		return nil, err
	}
	u, err := c.userAt(q, "identity:update_user")
	if err != nil {
		return nil, err
	}
	d := q.body.sub("user")
	if err := checkName(d, false); err != nil {
		return nil, err
	}
	if other := c.userNamed(d.str("name")); d.has("name") && other != nil && other != u {
		return nil, fail(409, "Conflict occurred attempting to store user - Duplicate entry found with name "+d.str("name")+" at domain ID default.")
	}
	u.setFrom(d)
	if d.has("password") || d.has("enabled") && !u.enabled {
		c.revokeUser(u.ID)
	}
	return ok(object{{"user", withExtra(c.userView(q, u), u.extra)}})
}

func (c *Cloud) changeOwnPassword(q *request) (*reply, error) {
	u, err := c.userAt(q, "identity:change_password")
	if err != nil {
		return nil, err
	}
	d := q.body.sub("user")
	if d.str("original_password") != u.password || d.str("password") == "" {
		return nil, unauthenticated()
	}
	u.password = d.str("password")
	c.revokeUser(u.ID)
	return noContent()
}

func (c *Cloud) revokeUser(id string) {
	for tid, t := range c.identity.tokens {
		if t.user == id {
			delete(c.identity.tokens, tid)
		}
	}
}

func (c *Cloud) deleteUser(q *request) (*reply, error) {
	if err := q.needAdmin("identity:delete_user"); err != nil {
		return nil, err
	}
	u, err := c.userAt(q, "identity:delete_user")
	if err != nil {
		return nil, err
	}
	c.identity.users.remove(u)
	c.revokeUser(u.ID)
	for g := range c.identity.grants {
		if g.user == u.ID {
			delete(c.identity.grants, g)
		}
	}
	for _, a := range slices.Clone(c.identity.appCreds.all) {
		if a.user == u.ID {
			c.identity.appCreds.remove(a)
		}
	}
	return noContent()
}

func (c *Cloud) appCredView(q *request, a *appCred, secret bool) object {
	var roles []object
	for _, name := range a.roles {
		r := c.roleView(q, c.roleNamed(name))
		roles = append(roles, r[:len(r)-1])
	}
	v := object{{"id", a.ID}, {"name", a.name}, {"description", orNil(a.description)}, {"user_id", a.user}, {"project_id", a.Project},
		{"system", nil}, {"expires_at", stamp(a.expires, "2006-01-02T15:04:05.000000")}, {"unrestricted", a.unrestricted}, {"roles", roles}}
	if secret {
		v = append(v, kv{"secret", a.secret})
	}
	return append(v, kv{"links", selfLink(q, "/v3/users/"+a.user+"/application_credentials/"+a.ID)})
}

func (c *Cloud) listAppCreds(q *request) (*reply, error) {
	u, err := c.userAt(q, "identity:list_application_credentials")
	if err != nil {
		return nil, err
	}
	out := []object{}
	for _, a := range c.identity.appCreds.all {
		if a.user == u.ID && match(q, "name", a.name) {
			out = append(out, c.appCredView(q, a, false))
		}
	}
	return ok(object{{"application_credentials", out}, {"links", links(q)}})
}

func (c *Cloud) createAppCred(q *request) (*reply, error) {
	if q.path("id") != q.user.ID || q.project == "" || q.token.roles != nil {
		return nil, forbiddenRule("identity:create_application_credential")
	}
	d := q.body.sub("application_credential")
	if err := checkName(d, true); err != nil {
		return nil, err
	}
	a := &appCred{row: row{ID: newHex(), Project: q.project}, user: q.user.ID, name: d.str("name"), description: d.str("description"),
		secret: d.str("secret"), roles: slices.Clone(q.roles), unrestricted: d["unrestricted"]}
	if a.secret == "" {
		a.secret = newHex() + newHex()
	}
	for _, other := range c.identity.appCreds.all {
		if other.user == a.user && other.name == a.name {
			return nil, fail(409, "Conflict occurred attempting to store application_credential - Duplicate entry found with name "+a.name+".")
		}
	}
	if given := d.list("roles"); given != nil {
		a.roles = nil
		for _, g := range given {
			m, _ := g.(map[string]any)
			r := c.roleByID(doc(m).str("id"))
			if r == nil {
				r = c.roleNamed(doc(m).str("name"))
			}
			if r == nil || !slices.Contains(q.roles, r.name) {
				return nil, fail(400, "Invalid application credential: Could not find role assignment.")
			}
			a.roles = append(a.roles, r.name)
		}
	}
	if at, isTime := parseTime(d.str("expires_at")); isTime {
		a.expires = at.Truncate(time.Microsecond)
	}
	c.identity.appCreds.add(a)
	return made(object{{"application_credential", c.appCredView(q, a, true)}})
}

func (c *Cloud) appCredAt(q *request) (*appCred, error) {
	u, err := c.userAt(q, "identity:get_application_credential")
	if err != nil {
		return nil, err
	}
	a, found := c.identity.appCreds.get(q.path("cred"))
	if !found || a.user != u.ID {
		return nil, fail(http.StatusNotFound, "Could not find Application Credential: "+q.path("cred")+".")
	}
	return a, nil
}

func (c *Cloud) showAppCred(q *request) (*reply, error) {
	a, err := c.appCredAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"application_credential", c.appCredView(q, a, false)}})
}

func (c *Cloud) deleteAppCred(q *request) (*reply, error) {
	a, err := c.appCredAt(q)
	if err != nil {
		return nil, err
	}
	c.identity.appCreds.remove(a)
	return noContent()
}
