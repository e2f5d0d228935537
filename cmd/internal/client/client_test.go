package client

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/top/admin/admintest"
)

// files writes files into a folder of their own.
func files(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func none(string) string { return "" }

const good = `
clouds:
  east:
    region_name: east
    auth: {auth_url: "http://k:5000/v3", username: admin, password: hunter2, project_name: admin, user_domain_id: default, project_domain_id: default}
`

func TestFinder(t *testing.T) {
	t.Parallel()
	first, second := files(t, map[string]string{"unrelated": ""}), files(t, map[string]string{"clouds.yaml": good})
	cloud, err := Finder{Getenv: none, Dirs: []string{first, second}}.Cloud("east")
	if err != nil || cloud.File != filepath.Join(second, "clouds.yaml") || cloud.Credential.Password.Reveal() != "hunter2" || cloud.Credential.Region != "east" {
		t.Errorf("from the second folder: %+v, %v", cloud, err)
	}
	named := files(t, map[string]string{"mine.yml": strings.ReplaceAll(good, "http://k:5000/v3", "http://other/v3")})
	env := func(name string) string {
		return map[string]string{"OS_CLIENT_CONFIG_FILE": filepath.Join(named, "mine.yml")}[name]
	}
	cloud, err = Finder{Getenv: env, Dirs: []string{second}}.Cloud("east")
	if err != nil || cloud.Credential.AuthURL != "http://other/v3" {
		t.Errorf("OS_CLIENT_CONFIG_FILE does not come first: %+v, %v", cloud, err)
	}
}

func TestFinderReads(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  func(Cloud) bool
	}{
		{"secure.yaml", map[string]string{
			"clouds.yaml": "clouds: {x: {auth: {auth_url: http://k/v3, username: u, project_name: p}}}",
			"secure.yaml": "clouds: {x: {auth: {password: hunter2}}}",
		}, func(c Cloud) bool {
			return c.Credential.Password.Reveal() == "hunter2" && c.Credential.UserDomainID == "default" && c.Credential.ProjectDomainID == "default"
		}},
		{"application credential", map[string]string{
			"clouds.yaml": "clouds: {x: {auth_type: v3applicationcredential, auth: {auth_url: http://k, application_credential_id: a, application_credential_secret: s}}}",
		}, func(c Cloud) bool {
			return c.Credential.AppCredID == "a" && c.Credential.AppCredSecret.Reveal() == "s" && c.Credential.ProjectDomainID == ""
		}},
		{"profile", map[string]string{
			"clouds.yaml":        "clouds: {x: {profile: v, region_name: r2, auth: {username: u, password: s, project_name: p}}}",
			"clouds-public.yaml": "public-clouds: {v: {region_name: r1, auth: {auth_url: https://vendor/v3}}}",
		}, func(c Cloud) bool {
			return c.Credential.AuthURL == "https://vendor/v3" && c.Credential.Region == "r2"
		}},
		{"json, verify and one region", map[string]string{
			"clouds.json": `{"clouds": {"x": {"verify": false, "regions": [{"name": "r1"}], "auth": {"auth_url": "http://k", "username": "u", "password": "s", "project_id": "p"}}}}`,
		}, func(c Cloud) bool { return c.Credential.Insecure && c.Credential.Region == "r1" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cloud, err := Finder{Getenv: none, Dirs: []string{files(t, tt.files)}}.Cloud("x")
			if err != nil || !tt.want(cloud) {
				t.Errorf("Cloud = %+v, %v", cloud, err)
			}
		})
	}
}

// Each error names the file and the key, and shows no value.
func TestFinderRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"no such cloud", "clouds: {a: {}, b: {}}", `it has no cloud "x"; it has: a, b`},
		{"no clouds", "cloud: {}", `no mapping "clouds"`},
		{"not YAML", "clouds:\n  x: {auth: {password: hunter2", "line "},
		{"no auth_url", "clouds: {x: {auth: {username: u, password: hunter2, project_name: p}}}", "cloud x: auth.auth_url: missing"},
		{"no password", "clouds: {x: {auth: {auth_url: http://k, username: u, project_name: p}}}", "auth.password: missing"},
		{"number", "clouds: {x: {auth: {auth_url: http://k, username: u, password: 1234, project_name: p}}}", "auth.password: not a string"},
		{"token", "clouds: {x: {auth_type: v3token, auth: {auth_url: http://k, token: hunter2}}}", `auth_type: "v3token" is not supported`},
		{"cacert", "clouds: {x: {cacert: /nowhere/ca.pem, auth: {auth_url: http://k, username: u, password: hunter2, project_name: p}}}", "cacert: open /nowhere/ca.pem"},
		{"regions", "clouds: {x: {regions: [a, b], auth: {auth_url: http://k, username: u, password: hunter2, project_name: p}}}", "regions: there are 2"},
		{"profile", "clouds: {x: {profile: v, auth: {}}}", `profile "v"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := files(t, map[string]string{"clouds.yaml": tt.text})
			_, err := Finder{Getenv: none, Dirs: []string{dir}}.Cloud("x")
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), filepath.Join(dir, "clouds.yaml")) {
				t.Fatalf("Cloud = %v, want %q and the file", err, tt.want)
			}
			// The directory's name is random, and may hold the digits of a value.
			if says := strings.ReplaceAll(err.Error(), dir, ""); strings.Contains(says, "hunter2") || strings.Contains(says, "1234") {
				t.Errorf("Cloud = %v shows a value", err)
			}
		})
	}
	if _, err := (Finder{Getenv: none, Dirs: []string{t.TempDir()}}).Cloud("x"); err == nil || !strings.Contains(err.Error(), "no clouds.yaml in") {
		t.Errorf("no file at all: %v", err)
	}
}

func FuzzParseClouds(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("clouds: [1]"))
	f.Add([]byte("clouds: &a {x: *a}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseClouds("f", "clouds", data)
		if err != nil {
			return
		}
		for _, entry := range all {
			r := reader{where: "f"}
			delete(entry, "cacert") // no file is read
			r.credential(entry)
		}
	})
}

func TestClient(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	cloud := Cloud{Name: "headwater-admin", File: "clouds.yaml"}
	cloud.Credential.AuthURL, cloud.Credential.Username, cloud.Credential.Password = top.URL+"/identity/v3", "admin", admintest.Password
	c, err := New(cloud, "")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Sites []any }
	if err := c.Get(t.Context(), "/sites", nil, &got); err != nil || got.Sites == nil {
		t.Errorf("Get = %+v, %v", got, err)
	}
	c.token = "token-of-yesterday"
	if err := c.Get(t.Context(), "/sites", nil, &got); err != nil {
		t.Errorf("with an ended token: %v", err)
	}
	err = c.Get(t.Context(), "/sites/nowhere", nil, nil)
	if !IsStatus(err, http.StatusNotFound) || err.Error() != "site nowhere: not found" {
		t.Errorf("an unknown site: %v", err)
	}
	if err := c.Get(t.Context(), "/jobs", url.Values{"limit": {"0"}}, nil); err == nil || !strings.Contains(err.Error(), "query.limit") {
		t.Errorf("a bad query: %v", err)
	}
	cloud.Credential.Password = "hunter2"
	if c, err = New(cloud, ""); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), "/sites", nil, nil); err == nil || !strings.Contains(err.Error(), "log in as cloud headwater-admin") || !strings.Contains(err.Error(), "wrong user, password") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a wrong password: %v", err)
	}
	cloud.Credential.AuthURL = "http://keystone.example:5000/v3"
	if _, err := New(cloud, ""); err == nil || !strings.Contains(err.Error(), "HEADWATER_URL") {
		t.Errorf("an external Keystone without --url: %v", err)
	}
}
