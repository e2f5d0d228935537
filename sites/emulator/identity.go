package emulator

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"
)

type identityState struct {
	projects  *table[*project]
	users     *table[*user]
	roles     []*role
	grants    map[grant]bool // user, project, role ids
	tokens    map[string]*token
	appCreds  *table[*appCred]
	nextSweep time.Time         // when expired tokens are thrown away next
	ids       map[string]string // ids of services and endpoints, by name
}

type project struct {
	row
	name, description string
	enabled           bool
	tags              []string
	extra             map[string]any
}

type user struct {
	row
	name, password string
	enabled        bool
	defaultProject string
	extra          map[string]any
}

type role struct{ id, name string }

type grant struct{ user, project, role string }

type token struct {
	id, user, project string
	methods, audit    []string
	issued, expires   time.Time
	roles             []string // restricted to these role names when it came from an application credential
}

type appCred struct {
	row                       // Project is the credential's project
	user                      string
	name, description, secret string
	roles                     []string // names
	expires                   time.Time
	unrestricted              any
}

func (c *Cloud) seedIdentity() {
	s := &c.identity
	s.projects, s.users, s.appCreds = newTable[*project](), newTable[*user](), newTable[*appCred]()
	s.grants, s.tokens, s.ids = map[grant]bool{}, map[string]*token{}, map[string]string{}
	for _, name := range []string{"admin", "member", "reader", "service"} {
		s.roles = append(s.roles, &role{id: newHex(), name: name})
	}
	admin := c.addProject("admin", "Bootstrap project for initializing the cloud.")
	demo := c.addProject("demo", "")
	c.addProject("service", "")
	au := c.addUser("admin", c.cfg.AdminPassword.Reveal(), "")
	du := c.addUser("demo", c.cfg.DemoPassword.Reveal(), demo.ID)
	for _, name := range []string{"admin", "member", "reader"} {
		s.grants[grant{au.ID, admin.ID, c.roleNamed(name).id}] = true
	}
	for _, name := range []string{"member", "reader"} {
		s.grants[grant{du.ID, demo.ID, c.roleNamed(name).id}] = true
	}
}

func (c *Cloud) addProject(name, description string) *project {
	p := &project{row: row{ID: newHex()}, name: name, description: description, enabled: true}
	c.identity.projects.add(p)
	return p
}

func (c *Cloud) addUser(name, password, defaultProject string) *user {
	u := &user{row: row{ID: newHex()}, name: name, password: password, enabled: true, defaultProject: defaultProject}
	c.identity.users.add(u)
	return u
}

func (c *Cloud) roleNamed(name string) *role {
	for _, r := range c.identity.roles {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (c *Cloud) roleByID(id string) *role {
	for _, r := range c.identity.roles {
		if r.id == id {
			return r
		}
	}
	return nil
}

func (c *Cloud) projectNamed(name string) *project {
	for _, p := range c.identity.projects.all {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (c *Cloud) userNamed(name string) *user {
	for _, u := range c.identity.users.all {
		if strings.EqualFold(u.name, name) {
			return u
		}
	}
	return nil
}

// rolesOf returns the names of the roles that a user has in a project, implied
// ones included and those left out that a fault has taken.
func (c *Cloud) rolesOf(u *user, projectID string) []string {
	var names []string
	for _, r := range c.identity.roles {
		if c.identity.grants[grant{u.ID, projectID, r.id}] {
			names = append(names, r.name)
		}
	}
	implied := map[string][]string{"admin": {"member", "reader"}, "member": {"reader"}}
	for _, n := range slices.Clone(names) {
		for _, more := range implied[n] {
			if !slices.Contains(names, more) {
				names = append(names, more)
			}
		}
	}
	return c.faults.keeps(u.name, names)
}

// authenticate fills in who asks. The lock must be held for reading.
func (c *Cloud) authenticate(q *request) error {
	t, u, roles := c.validToken(q.http.Header.Get("X-Auth-Token"))
	if t == nil {
		return fail(http.StatusUnauthorized, "The request you have made requires authentication.")
	}
	q.token, q.user, q.project, q.roles = t, u, t.project, roles
	q.admin = slices.Contains(roles, "admin")
	if t.project == "" && q.svc != identitySvc {
		return fail(http.StatusUnauthorized, "unscoped")
	}
	return nil
}

// validToken returns the token with its user and present roles; nil when it is
// unknown, expired, revoked, its user or project is gone or disabled, or no role is left.
func (c *Cloud) validToken(id string) (*token, *user, []string) {
	t := c.identity.tokens[id]
	if t == nil || !c.now().Before(t.expires) {
		return nil, nil, nil
	}
	u, found := c.identity.users.get(t.user)
	if !found || !u.enabled {
		return nil, nil, nil
	}
	if t.project == "" {
		return t, u, nil
	}
	p, found := c.identity.projects.get(t.project)
	if !found || !p.enabled {
		return nil, nil, nil
	}
	roles := c.rolesOf(u, t.project)
	if t.roles != nil {
		roles = slices.DeleteFunc(roles, func(r string) bool { return !slices.Contains(t.roles, r) })
	}
	if len(roles) == 0 {
		return nil, nil, nil
	}
	return t, u, roles
}

// tokenUser names the account behind a request, for faults and the log; "" when there is none.
func (c *Cloud) tokenUser(r *http.Request) string {
	id := r.Header.Get("X-Auth-Token")
	if id == "" {
		return ""
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t := c.identity.tokens[id]; t != nil {
		if u, found := c.identity.users.get(t.user); found {
			return u.name
		}
	}
	return ""
}

func (c *Cloud) identityRoutes() {
	h := func(pattern string, a access, f handler) { c.handle(identitySvc, pattern, a, f) }
	for _, p := range []string{"GET /{$}", "GET "} {
		h(p, open, c.identityVersions)
	}
	h("GET /v3", open, c.identityVersion)
	h("GET /v3/{$}", open, c.identityVersion)
	h("POST /v3/auth/tokens", open, c.createToken)
	h("GET /v3/auth/tokens", needsToken, c.showToken)
	h("DELETE /v3/auth/tokens", needsToken, c.revokeToken)
	h("GET /v3/auth/catalog", needsToken, func(q *request) (*reply, error) {
		return ok(object{{"catalog", c.catalog(q)}, {"links", object{{"self", q.url("/v3/auth/catalog")}}}})
	})
	h("GET /v3/auth/projects", needsToken, c.ownProjects)
	h("GET /v3/auth/domains", needsToken, c.authDomains)
	h("GET /v3/auth/system", needsToken, func(q *request) (*reply, error) {
		system := []object{}
		if q.admin {
			system = append(system, object{{"all", true}})
		}
		return ok(object{{"system", system}, {"links", object{{"self", q.url("/v3/auth/system")}}}})
	})
	c.projectRoutes(h)
	c.userRoutes(h)
	c.grantRoutes(h)
	h("GET /", open, unknownPath)
	h("POST /", open, unknownPath)
	h("PUT /", open, unknownPath)
	h("PATCH /", open, unknownPath)
	h("DELETE /", open, unknownPath)
}

func (c *Cloud) identityVersionDoc(q *request) object {
	return object{{"id", "v3.14"}, {"status", "stable"}, {"updated", "2020-04-07T00:00:00Z"},
		{"links", []object{{{"rel", "self"}, {"href", q.url("/v3/")}}}},
		{"media-types", []object{{{"base", "application/json"}, {"type", "application/vnd.openstack.identity-v3+json"}}}}}
}

func (c *Cloud) identityVersions(q *request) (*reply, error) {
	rep := &reply{status: http.StatusMultipleChoices, body: object{{"versions", object{{"values", []object{c.identityVersionDoc(q)}}}}}}
	return rep.set("Location", q.url("/v3/")), nil
}

func (c *Cloud) identityVersion(q *request) (*reply, error) {
	return ok(object{{"version", c.identityVersionDoc(q)}})
}

func links(q *request) object {
	return object{{"next", nil}, {"self", q.base + q.http.URL.RequestURI()}, {"previous", nil}}
}

func unauthenticated() error {
	return fail(http.StatusUnauthorized, "The request you have made requires authentication.")
}

// createToken handles POST /v3/auth/tokens.
func (c *Cloud) createToken(q *request) (*reply, error) {
	auth := q.body.sub("auth")
	identity := auth.sub("identity")
	if identity == nil {
		return nil, fail(400, "'identity' is a required property")
	}
	methods := anyStrings(identity.list("methods"))
	if len(methods) == 0 {
		return nil, fail(400, "'methods' is a required property")
	}
	t := &token{id: newTokenID(), methods: methods, audit: []string{newHex()[:22]}, issued: c.now()}
	t.expires = t.issued.Add(c.cfg.TokenTTL)
	u, err := c.identify(identity, methods[0], t)
	if err != nil {
		rep, _ := unauthorized(q)
		return rep, nil
	}
	t.user = u.ID
	if err := c.scope(auth, u, t); err != nil { // every refusal of a scope is a 401
		rep, _ := unauthorized(q)
		return rep, nil
	}
	c.sweepTokens()
	c.identity.tokens[t.id] = t
	rep := &reply{status: http.StatusCreated, body: object{{"token", c.tokenView(q, t, u)}}}
	return rep.set("X-Subject-Token", t.id), nil
}

func newTokenID() string { return "gAAAAAB" + newHex() + newHex() + newHex() }

func (c *Cloud) sweepTokens() {
	now := c.now()
	if now.Before(c.identity.nextSweep) {
		return
	}
	c.identity.nextSweep = now.Add(c.cfg.TokenTTL / 4)
	for id, t := range c.identity.tokens {
		if !now.Before(t.expires) {
			delete(c.identity.tokens, id)
		}
	}
}

func (c *Cloud) identify(identity doc, method string, t *token) (*user, error) {
	switch method {
	case "password":
		u := c.findUser(identity.sub("password").sub("user"))
		given, _ := identity.sub("password").sub("user")["password"].(string)
		if u == nil || !u.enabled || subtle.ConstantTimeCompare([]byte(u.password), []byte(given)) != 1 {
			return nil, unauthenticated()
		}
		return u, nil
	case "token":
		old, u, _ := c.validToken(identity.sub("token").str("id"))
		if old == nil || old.roles != nil {
			return nil, unauthenticated()
		}
		t.expires = old.expires
		t.methods = append([]string{"token"}, slices.DeleteFunc(slices.Clone(old.methods), func(m string) bool { return m == "token" })...)
		t.audit = append(t.audit, old.audit[len(old.audit)-1])
		return u, nil
	case "application_credential":
		return c.identifyByCredential(identity.sub("application_credential"), t)
	}
	return nil, unauthenticated()
}

func (c *Cloud) identifyByCredential(given doc, t *token) (*user, error) {
	for _, a := range c.identity.appCreds.all {
		if a.ID != given.str("id") && (given.str("name") == "" || a.name != given.str("name") || !c.isUser(given.sub("user"), a.user)) {
			continue
		}
		u, found := c.identity.users.get(a.user)
		if !found || !u.enabled || subtle.ConstantTimeCompare([]byte(a.secret), []byte(given.str("secret"))) != 1 ||
			!a.expires.IsZero() && !c.now().Before(a.expires) {
			return nil, unauthenticated()
		}
		t.project, t.roles = a.Project, a.roles
		return u, nil
	}
	return nil, unauthenticated()
}

func (c *Cloud) isUser(given doc, id string) bool {
	u := c.findUser(given)
	return u != nil && u.ID == id
}

func (c *Cloud) findUser(given doc) *user {
	if id := given.str("id"); id != "" {
		u, _ := c.identity.users.get(id)
		return u
	}
	if d := given.sub("domain"); d != nil && d.str("id") != "default" && d.str("name") != "Default" {
		return nil
	}
	return c.userNamed(given.str("name"))
}

func (c *Cloud) scope(auth doc, u *user, t *token) error {
	want := auth.sub("scope").sub("project")
	switch {
	case t.roles != nil: // an application credential has its own
	case want.str("id") != "":
		t.project = want.str("id")
	case want.str("name") != "":
		if p := c.projectNamed(want.str("name")); p != nil {
			t.project = p.ID
		} else {
			return unauthenticated()
		}
	case auth.has("scope"): // "unscoped", or a domain or the system, where nobody has a role here
		if _, isText := auth["scope"].(string); !isText {
			return unauthenticated()
		}
		return nil
	default:
		if u.defaultProject == "" || len(c.rolesOf(u, u.defaultProject)) == 0 {
			return nil
		}
		t.project = u.defaultProject
	}
	p, found := c.identity.projects.get(t.project)
	if !found || !p.enabled || len(c.rolesOf(u, t.project)) == 0 {
		return unauthenticated()
	}
	return nil
}

func (c *Cloud) tokenView(q *request, t *token, u *user) object {
	dom := object{{"id", "default"}, {"name", "Default"}}
	v := object{{"methods", t.methods}, {"user", object{{"domain", dom}, {"id", u.ID}, {"name", u.name}, {"password_expires_at", nil}}},
		{"audit_ids", t.audit}, {"expires_at", stamp(t.expires, microz)}, {"issued_at", stamp(t.issued, microz)}}
	if t.project == "" {
		return v
	}
	p, _ := c.identity.projects.get(t.project)
	var roles []object
	for _, name := range c.rolesOf(u, t.project) {
		if t.roles == nil || slices.Contains(t.roles, name) {
			roles = append(roles, object{{"id", c.roleNamed(name).id}, {"name", name}})
		}
	}
	v = append(v, kv{"project", object{{"domain", dom}, {"id", p.ID}, {"name", p.name}}}, kv{"is_domain", false}, kv{"roles", roles})
	if _, without := q.query["nocatalog"]; !without {
		v = append(v, kv{"catalog", c.catalogFor(q, t.project)})
	}
	return v
}

// showToken handles GET and HEAD /v3/auth/tokens.
func (c *Cloud) showToken(q *request) (*reply, error) {
	t, u, _ := c.validToken(q.http.Header.Get("X-Subject-Token"))
	if t == nil {
		return nil, fail(http.StatusNotFound, "Could not recognize Fernet token")
	}
	if t.user != q.user.ID && !q.admin {
		return nil, forbiddenRule("identity:validate_token")
	}
	rep := &reply{status: http.StatusOK, body: object{{"token", c.tokenView(q, t, u)}}}
	return rep.set("X-Subject-Token", t.id), nil
}

// revokeToken handles DELETE /v3/auth/tokens.
func (c *Cloud) revokeToken(q *request) (*reply, error) {
	t := c.identity.tokens[q.http.Header.Get("X-Subject-Token")]
	if t == nil {
		return nil, fail(http.StatusNotFound, "Could not recognize Fernet token")
	}
	if t.user != q.user.ID && !q.admin {
		return nil, forbiddenRule("identity:revoke_token")
	}
	delete(c.identity.tokens, t.id)
	return noContent()
}

func forbiddenRule(rule string) error {
	return fail(http.StatusForbidden, "You are not authorized to perform the requested action: "+rule+".")
}

func (q *request) needAdmin(rule string) error {
	if q.admin {
		return nil
	}
	return forbiddenRule(rule)
}
