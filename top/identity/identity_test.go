package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

type siteList []ident.SiteID

func (s siteList) Enabled(context.Context) ([]ident.SiteID, error) { return s, nil }

// top is a listening identity service with an admin, and ann and rita: member and reader of demo.
type top struct {
	t     testing.TB
	store *identity.Store
	echo  *echo.Echo
	url   string // ends in /identity/v3
	demo  string
	users map[string]string
}

func newTop(t testing.TB) *top {
	t.Helper()
	store, err := identity.New(identity.Default(), identity.Options{DB: dbtest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := store.Bootstrap(ctx, identity.Bootstrap{AdminPassword: "admin-pw"}); err != nil {
		t.Fatal(err)
	}
	w := &top{t: t, store: store, users: map[string]string{}}
	for user, role := range map[string]string{"ann": identity.RoleMember, "rita": identity.RoleReader} {
		if w.demo, w.users[user], err = store.EnsureMember(ctx, "demo", user, ident.Secret(user+"-pw"), role); err != nil {
			t.Fatal(err)
		}
	}
	w.serve(store, Config{Store: store})
	return w
}

// serve mounts the service as the server does.
func (w *top) serve(provider identity.Provider, cfg Config) {
	w.t.Helper()
	policy, err := auth.NewPolicy(nil, Rules())
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.Auth, cfg.Sites = auth.New(provider, policy), siteList{"west", "east"}
	w.echo = echo.New()
	w.echo.HTTPErrorHandler = func(err error, c echo.Context) {
		asked := faultjson.Asked{Service: faultjson.Identity, RequestID: "req-test", AuthURL: auth.BaseURL(c, "") + "/identity/v3"}
		if he, ok := err.(*echo.HTTPError); ok { //nolint:errorlint // as echo makes it
			faultjson.RenderStatus(asked, he.Code, fmt.Sprint(he.Message), "").WriteTo(c.Response())
			return
		}
		w.t.Logf("%s %s: %v", c.Request().Method, c.Request().URL, err)
		faultjson.Write(c.Response(), asked, err)
	}
	New(cfg).Routes(w.echo.Group("/identity"))
	srv := httptest.NewServer(w.echo)
	w.t.Cleanup(srv.Close)
	w.url = srv.URL + "/identity/v3"
}

// answer is what a request brought.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (w *top) do(method, path, token string, body any, header ...string) answer {
	w.t.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			w.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a.body); err != nil {
			w.t.Errorf("%s %s: not JSON: %s", method, path, text)
		}
	}
	return a
}

// ok is do that wants a status and returns the body.
func (w *top) ok(status int, method, path, token string, body any) map[string]any {
	w.t.Helper()
	a := w.do(method, path, token, body)
	if a.status != status {
		w.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.text, status)
	}
	return a.body
}

func passwordBody(user, password, scope string) string {
	body := fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"id":"default"},"password":%q}}}`, user, password)
	if scope != "" {
		body += `,"scope":` + scope
	}
	return body + "}}"
}

func projectScope(name string) string {
	return fmt.Sprintf(`{"project":{"name":%q,"domain":{"name":"Default"}}}`, name)
}

func (w *top) login(user, project string) string {
	w.t.Helper()
	scope := `"unscoped"`
	if project != "" {
		scope = projectScope(project)
	}
	a := w.do(http.MethodPost, "/auth/tokens", "", passwordBody(user, user+"-pw", scope))
	if a.status != http.StatusCreated {
		w.t.Fatalf("login as %s: %d %s", user, a.status, a.text)
	}
	return a.header.Get("X-Subject-Token")
}

// dig follows keys and indexes into a decoded body.
func dig(t testing.TB, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("no member %q in %v", p, v)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				t.Fatalf("no element %d in %v", p, v)
			}
			v = l[p]
		}
	}
	return v
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	for path, status := range map[string]int{"": 200, "/": 200, "/..": 300, "/../": 300} {
		url := strings.Replace(w.url+path, "/v3/..", "", 1)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		req.Header.Set("X-Forwarded-Host", "cloud.example")
		req.Header.Set("X-Forwarded-Proto", "https")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != status || !strings.Contains(string(text), `"href":"https://cloud.example/identity/v3/"`) {
			t.Errorf("%s: %d %s, want %d with the address that the client used", url, resp.StatusCode, text, status)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	a := w.do(http.MethodPost, "/auth/tokens", "", passwordBody("ann", "ann-pw", projectScope("demo")))
	token := a.header.Get("X-Subject-Token")
	if a.status != http.StatusCreated || token == "" {
		t.Fatalf("login: %d %s", a.status, a.text)
	}
	if got := dig(t, a.body, "token", "project", "id"); got != w.demo {
		t.Errorf("project %v, want %s", got, w.demo)
	}
	var catalog []string
	for _, s := range dig(t, a.body, "token", "catalog").([]any) {
		first := dig(t, s, "endpoints", 0).(map[string]any)
		if first["region"] != "Global" || first["region_id"] != "Global" {
			t.Errorf("the first region of %v is %v, want Global", dig(t, s, "type"), first["region"])
		}
		pinned := dig(t, s, "endpoints", 3).(map[string]any)
		if !strings.Contains(pinned["url"].(string), "/sites/east/") || pinned["region"] != "east" {
			t.Errorf("second region: %v", pinned)
		}
		if n := len(dig(t, s, "endpoints").([]any)); n != 9 {
			t.Errorf("%d endpoints, want 3 regions of 3 interfaces", n)
		}
		catalog = append(catalog, fmt.Sprint(dig(t, s, "type"), "=", strings.TrimPrefix(first["url"].(string), strings.TrimSuffix(w.url, "/identity/v3"))))
	}
	want := "identity=/identity/v3 compute=/compute/v2.1 image=/image network=/network volumev3=/volume/v3 block-storage=/volume/v3"
	if got := strings.Join(catalog, " "); got != want {
		t.Errorf("catalog %s, want %s", got, want)
	}

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if got := w.do(method, "/auth/tokens", token, nil, "X-Subject-Token", token); got.status != 200 || got.header.Get("X-Subject-Token") != token {
			t.Errorf("%s token: %d", method, got.status)
		}
	}
	if got := w.do(http.MethodGet, "/auth/tokens?nocatalog", token, nil, "X-Subject-Token", token); strings.Contains(got.text, "catalog") {
		t.Error("?nocatalog shows the catalog")
	}
	if got := w.do(http.MethodGet, "/auth/tokens", w.login("rita", "demo"), nil, "X-Subject-Token", token); got.status != 403 {
		t.Errorf("somebody else validates ann's token: %d, want 403", got.status)
	}
	if got := w.do(http.MethodGet, "/auth/tokens", w.login("admin", "admin"), nil, "X-Subject-Token", "nope"); got.status != 404 {
		t.Errorf("unknown subject: %d, want 404", got.status)
	}
	if got := w.do(http.MethodDelete, "/auth/tokens", token, nil, "X-Subject-Token", token); got.status != 204 {
		t.Errorf("revoke: %d %s", got.status, got.text)
	}
	got := w.do(http.MethodGet, "/auth/catalog", token, nil)
	if got.status != 401 || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), `Keystone uri="http://127.0.0.1`) {
		t.Errorf("revoked token: %d %v", got.status, got.header)
	}
}

func TestUnscopedThenScoped(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	unscoped := w.login("ann", "")
	if got := w.do(http.MethodGet, "/auth/catalog", unscoped, nil); got.status != 403 {
		t.Errorf("catalog of an unscoped token: %d, want 403", got.status)
	}
	projects := w.ok(200, http.MethodGet, "/auth/projects", unscoped, nil)
	if got := dig(t, projects, "projects", 0, "name"); got != "demo" {
		t.Errorf("projects %v", projects)
	}
	for _, scope := range []string{fmt.Sprintf(`{"project":{"id":%q}}`, w.demo), projectScope("demo")} {
		a := w.do(http.MethodPost, "/auth/tokens", "", fmt.Sprintf(`{"auth":{"identity":{"methods":["token"],"token":{"id":%q}},"scope":%s}}`, unscoped, scope))
		if a.status != 201 || dig(t, a.body, "token", "project", "name") != "demo" {
			t.Errorf("rescope: %d %s", a.status, a.text)
		}
	}
	for _, path := range []string{"/auth/domains", "/auth/system", "/users/" + w.users["ann"] + "/projects", "/users/" + w.users["ann"]} {
		w.ok(200, http.MethodGet, path, unscoped, nil)
	}
}

func TestBadAuthBodies(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	for _, tt := range []struct {
		body string
		want int
	}{
		{``, 400},
		{`[]`, 400},
		{`null`, 400},
		{`{"auth":{}}`, 400},
		{`{"auth":{"identity":{"methods":[]}}}`, 400},
		{`{"auth":{"identity":{"methods":["password","token"]}}}`, 400},
		{`{"auth":{"identity":{"methods":["password"]}}}`, 400},
		{`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"ann","password":"x"}}}}}`, 400},
		{`{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"a","password":12345678}}}}}`, 400},
		{`{"auth":{"identity":{"methods":["saml2"]}}}`, 401},
		{passwordBody("ann", "ann-pw", `{"system":{"all":true}}`), 401},
		{passwordBody("ann", "ann-pw", `{"project":{"id":"x"},"domain":{"id":"y"}}`), 400},
		{passwordBody("ann", "ann-pw", `{"project":{"name":"demo"}}`), 400},
		{passwordBody("ann", "ann-pw", `17`), 400},
		{passwordBody("ann", "wrong", ""), 401},
	} {
		a := w.do(http.MethodPost, "/auth/tokens", "", tt.body)
		if a.status != tt.want || dig(t, a.body, "error", "code") != float64(tt.want) {
			t.Errorf("%.100s: %d %s, want %d", tt.body, a.status, a.text, tt.want)
		}
		if strings.Contains(a.text, "ann-pw") || strings.Contains(a.text, "12345678") {
			t.Errorf("the answer repeats a secret: %s", a.text)
		}
	}
}

func TestUsersAndProjects(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	admin := w.login("admin", "admin")
	p := w.ok(201, "POST", "/projects", admin, `{"project":{"name":"p","description":"d","domain_id":"default","tags":["b","a"],"x_cost":7}}`)
	pid := dig(t, p, "project", "id").(string)
	if len(pid) != 32 || dig(t, p, "project", "parent_id") != "default" || dig(t, p, "project", "x_cost") != 7.0 || dig(t, p, "project", "tags", 0) != "a" {
		t.Errorf("project %v", p)
	}
	u := w.ok(201, "POST", "/users", admin, map[string]any{"user": map[string]any{"name": "bob", "password": "bob-pw", "email": "b@x", "default_project_id": pid}})
	uid := dig(t, u, "user", "id").(string)
	if strings.Contains(fmt.Sprint(u), "bob-pw") || dig(t, u, "user", "email") != "b@x" || dig(t, u, "user", "enabled") != true {
		t.Errorf("user %v", u)
	}
	roles := w.ok(200, "GET", "/roles?name=member", admin, nil)
	grant := "/projects/" + pid + "/users/" + uid + "/roles/" + dig(t, roles, "roles", 0, "id").(string)
	w.ok(404, "HEAD", grant, admin, nil)
	w.ok(204, "PUT", grant, admin, nil)
	w.ok(204, "HEAD", grant, admin, nil)
	w.ok(200, "GET", "/projects/"+pid+"/users/"+uid+"/roles", admin, nil)
	bob := w.login("bob", "p")

	named := w.ok(200, "GET", "/role_assignments?include_names&user.id="+uid, admin, nil)
	if dig(t, named, "role_assignments", 0, "role", "name") != "member" || dig(t, named, "role_assignments", 0, "user", "domain", "name") != "Default" {
		t.Errorf("assignments %v", named)
	}
	effective := w.ok(200, "GET", "/role_assignments?effective=True&scope.project.id="+pid, admin, nil)
	if n := len(dig(t, effective, "role_assignments").([]any)); n != 2 {
		t.Errorf("%d effective assignments, want member and reader", n)
	}

	w.ok(200, "PATCH", "/users/"+uid, admin, `{"user":{"email":null,"name":"bobby"}}`)
	w.ok(401, "POST", "/users/"+uid+"/password", "", `{"user":{"original_password":"no","password":"new"}}`)
	w.ok(204, "POST", "/users/"+uid+"/password", "", `{"user":{"original_password":"bob-pw","password":"new"}}`)
	w.ok(401, "GET", "/auth/projects", bob, nil)

	w.ok(200, "PATCH", "/projects/"+pid, admin, `{"project":{"description":"e","enabled":false}}`)
	w.ok(201, "PUT", "/projects/"+pid+"/tags/c", admin, nil)
	tags := w.ok(200, "GET", "/projects/"+pid+"/tags", admin, nil)
	if got := fmt.Sprint(tags["tags"]); got != "[a b c]" {
		t.Errorf("tags %v", got)
	}
	w.ok(409, "POST", "/projects", admin, `{"project":{"name":"p"}}`)
	w.ok(400, "POST", "/projects", admin, `{"project":{"name":""}}`)
	w.ok(400, "POST", "/projects", admin, `{"project":{"name":5}}`)
	w.ok(403, "POST", "/projects", admin, fmt.Sprintf(`{"project":{"name":"q","parent_id":%q}}`, pid))
	w.ok(404, "GET", "/users/%00", admin, nil)
	w.ok(404, "GET", "/projects/%ff", admin, nil)
	w.ok(400, "GET", "/users?name=%00", admin, nil)
	w.ok(400, "POST", "/users", admin, `{"user":{"name":"y","domain_id":"\u0000"}}`)
	w.ok(400, "PATCH", "/users/"+uid, admin, `{"user":{"original_password":"leak"}}`)
	w.ok(400, "POST", "/users", admin, `{"user":{"name":"z","options":{"multi_factor_auth_enabled":true}}}`)
	w.ok(204, "DELETE", "/projects/"+pid, admin, nil)
	w.ok(204, "DELETE", "/users/"+uid, admin, nil)
	w.ok(404, "GET", "/users/"+uid, admin, nil)
	w.ok(404, "GET", "/projects/"+pid, admin, nil)
}

func TestApplicationCredential(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	ann := w.login("ann", "demo")
	path := "/users/" + w.users["ann"] + "/application_credentials"
	made := w.ok(201, "POST", path, ann, `{"application_credential":{"name":"ci","roles":[{"name":"reader"}],"expires_at":"2099-01-01T00:00:00"}}`)
	id, secret := dig(t, made, "application_credential", "id").(string), dig(t, made, "application_credential", "secret").(string)
	a := w.do("POST", "/auth/tokens", "", fmt.Sprintf(`{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":%q,"secret":%q}}}}`, id, secret))
	if a.status != 201 || dig(t, a.body, "token", "application_credential", "restricted") != true || dig(t, a.body, "token", "roles", 0, "name") != "reader" {
		t.Fatalf("login: %d %s", a.status, a.text)
	}
	token := a.header.Get("X-Subject-Token")
	shown := w.do("GET", path+"/"+id, token, nil)
	if shown.status != 200 || strings.Contains(shown.text, secret) {
		t.Errorf("show: %d %s", shown.status, shown.text)
	}
	w.ok(403, "POST", path, token, `{"application_credential":{"name":"more"}}`)
	w.ok(403, "DELETE", path+"/"+id, token, nil)
	w.ok(400, "POST", path, ann, `{"application_credential":{"name":"x","access_rules":[{"path":"/"}]}}`)
	w.ok(400, "POST", path, ann, `{"application_credential":{"name":"x","roles":[{"name":"admin"}]}}`)
	w.ok(403, "POST", path, w.login("admin", "admin"), `{"application_credential":{"name":"x"}}`)
	w.ok(403, "GET", path, w.login("rita", "demo"), nil)
	w.ok(204, "DELETE", path+"/"+id, ann, nil)
	w.ok(401, "GET", "/auth/catalog", token, nil)
}

// Every route is tried as no one, as a reader, as a member and as an administrator of things that are not theirs.
func TestIsolation(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	tokens := map[string]string{"no one": "", "reader": w.login("rita", "demo"), "member": w.login("ann", "demo")}
	open := map[string]bool{"POST /v3/auth/tokens": true, "POST /v3/users/:user/password": true}
	// What every signed-in caller may ask: it shows nothing but the caller's own and the catalog.
	own := map[string]bool{
		"/v3/auth/projects": true, "/v3/auth/domains": true, "/v3/auth/system": true, "/v3/auth/catalog": true, "/v3/auth/tokens": true,
		"/v3/regions": true, "/v3/services": true, "/v3/endpoints": true, "/v3/regions/:region": true, "/v3/services/:service": true,
		"/v3/endpoints/:endpoint": true, "/v3/roles": true, "/v3/roles/:role": true, "/v3/role_inferences": true, "/v3/roles/:role/implies": true,
		"/v3/projects": true, "/v3/credentials": true,
	}
	walked := 0
	for _, r := range w.echo.Routes() {
		path := strings.TrimPrefix(r.Path, "/identity")
		if !strings.HasPrefix(path, "/v3/") || path == "/v3/" || open[r.Method+" "+path] || strings.Contains(r.Method, "echo_route_not_found") {
			continue
		}
		walked++
		for who, token := range tokens {
			adminID := "of-somebody-else"
			target := strings.NewReplacer("/v3", "", ":user", adminID, ":project", adminID, ":domain", adminID, ":group", adminID).Replace(path)
			a := w.do(r.Method, target, token, `{"user":{"name":"x"},"project":{"name":"x"},"domain":{"name":"x"},"group":{"name":"x"},"role":{"name":"x"},"application_credential":{"name":"x"}}`)
			want := http.StatusForbidden
			if who == "no one" {
				want = http.StatusUnauthorized
			} else if own[path] && (auth.Safe(r.Method) || path == "/v3/auth/tokens") {
				if a.status >= 500 {
					t.Errorf("%s %s as %s: %d", r.Method, path, who, a.status)
				}
				continue
			}
			if a.status != want {
				t.Errorf("%s %s as %s: %d %s, want %d", r.Method, path, who, a.status, a.text, want)
			}
		}
	}
	if walked < 60 {
		t.Errorf("walked %d routes only", walked)
	}
	// The list of all is the administrators', as Keystone's is: a member's own stand elsewhere, where the client looks then.
	list := w.ok(200, "GET", "/auth/projects", tokens["member"], nil)
	if n := len(dig(t, list, "projects").([]any)); n != 1 {
		t.Errorf("a member sees %d projects, want his own", n)
	}
}

func FuzzParseAuth(f *testing.F) {
	f.Add([]byte(passwordBody("ann", "pw", projectScope("demo"))))
	f.Add([]byte(passwordBody("ann", "pw", `{"domain":{"id":"default"}}`)))
	f.Add([]byte(`{"auth":{"identity":{"methods":["token"],"token":{"id":"x"}},"scope":"unscoped"}}`))
	f.Add([]byte(`{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"name":"n","user":{"id":"u"},"secret":"s"}},"scope":{"unscoped":{}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseAuth(data)
		if err != nil {
			return
		}
		given := 0
		if l.Password != nil {
			given++
		}
		if l.Credential != nil {
			given++
		}
		if l.Token != "" {
			given++
		}
		if given != 1 {
			t.Errorf("%q gives %d proofs", data, given)
		}
		if l.Password != nil && l.Password.User.ID == "" && l.Password.User.DomainID == "" && l.Password.User.DomainName == "" {
			t.Errorf("%q names a user without a domain", data)
		}
	})
}
