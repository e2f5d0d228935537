package identity

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
)

// trusting returns a Top that trusts the Keystone at the URL.
func trusting(t *testing.T, cfg auth.ExternalConfig) (*top, *auth.External) {
	t.Helper()
	external, err := auth.NewExternal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &top{t: t, users: map[string]string{}}
	w.serve(external, Config{External: external})
	return w, external
}

// The built-in service plays the external Keystone.
func TestExternal(t *testing.T) {
	t.Parallel()
	keystone := newTop(t)
	w, external := trusting(t, auth.ExternalConfig{
		AuthURL: keystone.url, Username: "admin", Password: "admin-pw", Project: "admin", Domain: "Default",
		Roles: map[string]string{"member": "reader"},
	})
	checkExternal(t, w, external, passwordBody("ann", "ann-pw", projectScope("demo")))

	token := w.login("ann", "demo")
	got, err := external.Validate(t.Context(), token)
	if err != nil || strings.Join(got.RoleNames(), " ") != "reader" {
		t.Errorf("roles %v, %v: want member mapped to reader", got.RoleNames(), err)
	}
	if a := w.do("DELETE", "/auth/tokens", token, nil, "X-Subject-Token", token); a.status != 204 {
		t.Errorf("revoke: %d %s", a.status, a.text)
	}
	if a := w.do("GET", "/auth/catalog", token, nil); a.status != 401 {
		t.Errorf("revoked token: %d, want 401 at once", a.status)
	}
	for _, path := range []string{"/../secret", "/%2e%2e/secret", "/users/../../secret"} {
		if a := w.do("GET", path, "", nil); a.status == 200 {
			t.Errorf("%s reaches out of /v3: %s", path, a.text)
		}
	}
}

// checkExternal walks what holds with every external Keystone.
func checkExternal(t *testing.T, w *top, external *auth.External, login string) {
	t.Helper()
	a := w.do("POST", "/auth/tokens", "", login)
	if a.status != http.StatusCreated {
		t.Fatalf("login: %d %s", a.status, a.text)
	}
	token := a.header.Get("X-Subject-Token")
	if endpoint := dig(t, a.body, "token", "catalog", 0, "endpoints", 0).(map[string]any); endpoint["region"] != "Global" || !strings.HasPrefix(endpoint["url"].(string), w.url) {
		t.Errorf("catalog is not Top's: %v", endpoint)
	}
	if strings.Contains(a.text, external.URL().Host) {
		t.Errorf("the answer names the other Keystone: %s", a.text)
	}
	if b := w.do("GET", "/auth/tokens", token, nil, "X-Subject-Token", token); b.status != 200 || dig(t, b.body, "token", "catalog", 0, "endpoints", 3, "region") != "east" {
		t.Errorf("show: %d %s", b.status, b.text)
	}
	if b := w.do("HEAD", "/auth/tokens", token, nil, "X-Subject-Token", token); b.status != 200 {
		t.Errorf("head: %d", b.status)
	}
	w.ok(200, "GET", "/auth/catalog", token, nil)
	w.ok(200, "GET", "/regions", token, nil)
	projects := w.do("GET", "/auth/projects", token, nil)
	if projects.status != 200 || strings.Contains(projects.text, external.URL().Host) {
		t.Errorf("projects: %d %s", projects.status, projects.text)
	}
	w.ok(403, "POST", "/users", token, `{"user":{"name":"x"}}`)
	bad := w.do("POST", "/auth/tokens", "", strings.Replace(login, `"password":"`, `"password":"x`, 1))
	if bad.status != 401 || !strings.Contains(bad.header.Get("WWW-Authenticate"), w.url) {
		t.Errorf("wrong password: %d %v", bad.status, bad.header)
	}
	if _, err := external.Validate(t.Context(), "nonsense"); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("nonsense: %v, want unauthorized", err)
	}
	got, err := external.Validate(t.Context(), token)
	if err != nil || got.Project == nil || got.User.DomainName == "" || got.ExpiresAt.IsZero() {
		t.Errorf("validated as %+v, %v", got, err)
	}
}

func TestExternalDown(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	w, external := trusting(t, auth.ExternalConfig{AuthURL: gone.URL, Username: "u", Password: "p", Project: "p", Domain: "d"})
	if _, err := external.Validate(t.Context(), "token"); !fault.Is(err, fault.Unavailable) || strings.Contains(fault.Message(err), gone.URL) {
		t.Errorf("validate: %v, want unavailable", err)
	}
	a := w.do("POST", "/auth/tokens", "", passwordBody("ann", "x", ""))
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("login: %d %v %s", a.status, a.header, a.text)
	}
}

// An account that may not validate tokens is our configuration's fault, not the tenant's.
func TestExternalRefusesUs(t *testing.T) {
	t.Parallel()
	keystone := newTop(t)
	for _, account := range []auth.ExternalConfig{
		{Username: "admin", Password: "wrong", Project: "admin"},
		{Username: "ann", Password: "ann-pw", Project: "demo"},
	} {
		account.AuthURL, account.Domain = keystone.url, "Default"
		_, external := trusting(t, account)
		if _, err := external.Validate(t.Context(), keystone.login("rita", "demo")); !fault.Is(err, fault.Unavailable) {
			t.Errorf("as %s: %v, want unavailable", account.Username, err)
		}
	}
}

// TestExternalReal trusts the Keystone of a real region.
func TestExternalReal(t *testing.T) {
	t.Parallel()
	file := os.Getenv("HEADWATER_REALCLOUD")
	if file == "" {
		t.Skip("HEADWATER_REALCLOUD does not name a clouds.yaml of real regions")
	}
	admin, demo := cloud(t, file, "east"), cloud(t, file, "east-demo")
	w, external := trusting(t, auth.ExternalConfig{
		AuthURL: admin["auth_url"], Username: admin["username"], Password: ident.Secret(admin["password"]), Project: admin["project_name"], Domain: "Default",
	})
	checkExternal(t, w, external, passwordBody(demo["username"], demo["password"], projectScope(demo["project_name"])))
	c := w.cli(t, "OS_USERNAME="+demo["username"], "OS_PASSWORD="+demo["password"], "OS_PROJECT_NAME="+demo["project_name"],
		"OS_USER_DOMAIN_ID=default", "OS_PROJECT_DOMAIN_ID=default")
	c.run("token", "issue")
	if got := c.run("catalog", "list"); !strings.Contains(got, "/sites/east/") || strings.Contains(got, external.URL().Host) {
		t.Errorf("catalog: %s", got)
	}
}

func cloud(t *testing.T, file, name string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Clouds map[string]struct {
			Auth map[string]string `yaml:"auth"`
		} `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	out := all.Clouds[name].Auth
	if u, err := url.Parse(out["auth_url"]); err != nil || u.Host == "" {
		t.Fatalf("%s has no cloud %s: %v", file, name, fmt.Sprint(err))
	}
	return out
}

var _ identity.Provider = (*auth.External)(nil)
