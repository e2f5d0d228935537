package admin_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/top/admin/admintest"
)

// call makes a request as a user ("" is no one) and returns the status, the JSON answer and its text.
func call(t *testing.T, top *admintest.Top, user, method, path, body string) (int, map[string]any, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, top.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if user != "" {
		req.Header.Set("X-Auth-Token", "token-"+user)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	_ = json.Unmarshal(text, &got) // pages and empty answers are no JSON
	if resp.StatusCode >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %s: %d as %s", method, path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return resp.StatusCode, got, string(text)
}

const eastBody = `{"name":"east","credential":{"auth_url":"http://east.test/v3","username":"admin","password":"secret",
	"user_domain_id":"default","project_name":"admin","project_domain_id":"default"}}`

func addEast(t *testing.T, top *admintest.Top) {
	t.Helper()
	if status, _, text := call(t, top, "admin", "POST", "/v1/sites", eastBody); status != http.StatusCreated {
		t.Fatalf("add east: %d %s", status, text)
	}
}

// Who may call what.
func TestRoles(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	addEast(t, top)
	for _, tt := range []struct {
		method, path, body string
		viewer, demo       int // what these get; admin gets less than 400, no one gets 401
	}{
		{"GET", "/v1/sites", "", 200, 200},
		{"POST", "/v1/placement/explain", `{"server":{}}`, 403, 200},
		{"GET", "/v1/sites/east", "", 403, 403},
		{"POST", "/v1/sites?dry_run=true", strings.ReplaceAll(eastBody, "east", "other"), 403, 403},
		{"PATCH", "/v1/sites/east", `{"draining":false}`, 403, 403},
		{"POST", "/v1/sites/east/probe", "", 403, 403},
		{"GET", "/v1/sites/east/zones", "", 403, 403},
		{"PUT", "/v1/sites/east/zones", `{"zones":[]}`, 403, 403},
		{"GET", "/v1/sites/east/projects", "", 403, 403},
		{"GET", "/v1/jobs", "", 403, 403},
		{"GET", "/v1/jobs/1", "", 403, 403},
		{"POST", "/v1/jobs/1/cancel", "", 403, 403},
		{"POST", "/v1/jobs/1/redo", "", 403, 403},
		{"GET", "/v1/audit", "", 403, 403},
		{"POST", "/v1/keys/rotate", "{}", 403, 403},
		{"DELETE", "/v1/sites/east", "", 403, 403},
	} {
		for user, want := range map[string]int{"": 401, "viewer": tt.viewer, "demo": tt.demo} {
			if got, _, text := call(t, top, user, tt.method, tt.path, tt.body); got != want {
				t.Errorf("%s %s as %q: %d %s, want %d", tt.method, tt.path, user, got, text, want)
			}
		}
		if got, _, text := call(t, top, "admin", tt.method, tt.path, tt.body); got >= 400 {
			t.Errorf("%s %s as admin: %d %s", tt.method, tt.path, got, text)
		}
	}
}

// What a tenant sees of a site.
func TestTenantsSeeLittle(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	addEast(t, top)
	_, got, text := call(t, top, "viewer", "GET", "/v1/sites", "")
	list, _ := got["sites"].([]any)
	if len(list) != 1 {
		t.Fatalf("sites = %s", text)
	}
	site, _ := list[0].(map[string]any)
	var names []string
	for name := range site {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"capacity", "draining", "health", "name", "volume_zones", "zones"}; !slices.Equal(names, want) {
		t.Errorf("a tenant sees %v, want %v", names, want)
	}
	if level := site["capacity"].(map[string]any); len(level) != 1 || level["level"] != "plenty" {
		t.Errorf("capacity = %v", level)
	}
	if zones, _ := json.Marshal(site["zones"]); string(zones) != `["east","east/az1","east/az2"]` {
		t.Errorf("zones = %s", zones)
	}
	if status, _, _ := call(t, top, "admin", "PATCH", "/v1/sites/east", `{"enabled":false}`); status != 200 {
		t.Fatal(status)
	}
	if _, got, _ := call(t, top, "viewer", "GET", "/v1/sites", ""); len(got["sites"].([]any)) != 0 {
		t.Error("a tenant sees a disabled site")
	}
}

func TestAddSite(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	if status, got, text := call(t, top, "admin", "POST", "/v1/sites?dry_run=true", eastBody); status != 200 || strings.Contains(text, "secret") ||
		got["report"].(map[string]any)["tenancy"] != "project" {
		t.Errorf("dry run: %d %s", status, text)
	}
	if status, _, _ := call(t, top, "admin", "GET", "/v1/sites/east", ""); status != 404 {
		t.Errorf("after a dry run the site is there: %d", status)
	}
	addEast(t, top)
	for _, tt := range []struct {
		name, body, want string
		status           int
	}{
		{"twice", eastBody, `"code":"duplicate_name"`, 409},
		{"same cloud", strings.Replace(eastBody, `"east"`, `"again"`, 1), `"code":"cloud_already_registered"`, 409},
		{"wrong password", strings.NewReplacer("east", "west", "secret", "hunter2").Replace(eastBody), `"code":"credential_refused"`, 400},
		{"unreachable", strings.NewReplacer("east.test", "nowhere.invalid", "east", "west").Replace(eastBody), `"code":"unreachable"`, 400},
		{"unknown field", strings.Replace(eastBody, `"name"`, `"color":"red","name"`, 1), `unexpected property`, 422},
		{"unknown query", eastBody, "unknown query parameter", 422},
		{"wrong type", `{"name":7,"credential":{"auth_url":"http://x","password":["hunter2"]}}`, `body.name`, 422},
		{"malformed", `{"name":`, "detail", 400},
		{"no body", "", "detail", 400},
		{"absurd name", strings.Replace(eastBody, `"east"`, `"`+strings.Repeat("x", 5000)+`"`, 1), "invalid_name", 400},
	} {
		path := "/v1/sites"
		if tt.name == "unknown query" {
			path += "?dryrun=true"
		}
		status, _, text := call(t, top, "admin", "POST", path, tt.body)
		if status != tt.status || !strings.Contains(text, tt.want) || strings.Contains(text, "hunter2") {
			t.Errorf("%s: %d %s, want %d with %s", tt.name, status, text, tt.status, tt.want)
		}
	}
	if status, _, _ := call(t, top, "admin", "POST", "/v1/sites", `{"name":"`+strings.Repeat("x", 10<<20)+`"}`); status != 413 {
		t.Errorf("a body of 10 MB: %d, want 413", status)
	}
	if all, err := top.Sites.Sites(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("sites stored: %d, %v, want east alone", len(all), err)
	}
	for _, path := range []string{"/v1/sites", "/v1/sites/east", "/v1/sites/east/projects", "/v1/sites/east/zones"} {
		if _, _, text := call(t, top, "admin", "GET", path, ""); strings.Contains(text, "secret") {
			t.Errorf("GET %s shows the password: %s", path, text)
		}
	}
}

func TestUpdateAndRemove(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	addEast(t, top)
	_, got, text := call(t, top, "admin", "PATCH", "/v1/sites/east", `{"draining":true,"enabled":true}`)
	if site := got["site"].(map[string]any); site["draining"] != true || site["enabled"] != true {
		t.Errorf("PATCH = %s", text)
	}
	bad := `{"credential":{"auth_url":"http://east.test/v3","username":"admin","password":"hunter2","user_domain_id":"default","project_name":"admin","project_domain_id":"default"}}`
	if status, _, text := call(t, top, "admin", "PATCH", "/v1/sites/east", bad); status != 400 || !strings.Contains(text, "credential_refused") {
		t.Errorf("a wrong account: %d %s", status, text)
	}
	top.TakeAdmin()
	if status, got, text := call(t, top, "admin", "POST", "/v1/sites/east/probe", ""); status != 200 || !strings.Contains(got["lost"].(string), "no administrator") {
		t.Errorf("probe without the role: %d %s", status, text)
	}
	top.Hold(map[sites.Kind]int{sites.Server: 2})
	if status, _, text := call(t, top, "admin", "DELETE", "/v1/sites/east", ""); status != 409 || !strings.Contains(text, "server: 2") {
		t.Errorf("removing a site in use: %d %s", status, text)
	}
	if status, _, text := call(t, top, "admin", "DELETE", "/v1/sites/east?resources=burn", ""); status != 422 {
		t.Errorf("an unknown fate: %d %s", status, text)
	}
	if status, _, text := call(t, top, "admin", "DELETE", "/v1/sites/east?resources=purge", ""); status != 202 {
		t.Errorf("purge: %d %s", status, text)
	}
	if status, _, text := call(t, top, "admin", "DELETE", "/v1/sites/east?resources=keep", ""); status != 204 {
		t.Errorf("keep: %d %s", status, text)
	}
	if status, _, _ := call(t, top, "admin", "DELETE", "/v1/sites/east", ""); status != 404 {
		t.Errorf("again: %d, want 404", status)
	}
}

func TestZonesAndAccounts(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	if status, _, text := call(t, top, "admin", "POST", "/v1/sites", strings.Replace(eastBody, `"credential"`, `"tenancy":"static","credential"`, 1)); status != 201 {
		t.Fatal(status, text)
	}
	put := `{"zones":[{"zone":"east/gold","service":"compute","bottom_zone":"az2"}]}`
	if status, _, text := call(t, top, "admin", "PUT", "/v1/sites/east/zones", put); status != 200 || !strings.Contains(text, `"east/gold"`) {
		t.Errorf("edit zones: %d %s", status, text)
	}
	if status, _, text := call(t, top, "admin", "PUT", "/v1/sites/east/zones", strings.Replace(put, "az2", "az9", 1)); status != 400 || !strings.Contains(text, "no zone") {
		t.Errorf("a zone that the site lacks: %d %s", status, text)
	}
	cred := `{"credential":{"auth_url":"http://east.test/v3","username":"demo","password":"secret","user_domain_id":"default","project_name":"demo","project_domain_id":"default"}}`
	if status, _, text := call(t, top, "admin", "PUT", "/v1/sites/east/projects/p1", cred); status != 200 || strings.Contains(text, "secret") {
		t.Errorf("give an account: %d %s", status, text)
	}
	if status, _, text := call(t, top, "admin", "PUT", "/v1/sites/east/projects/p2", cred); status != 409 {
		t.Errorf("one account for two projects: %d %s", status, text)
	}
	if status, _, text := call(t, top, "admin", "DELETE", "/v1/sites/east/projects/p1", ""); status != 204 {
		t.Errorf("take it away: %d %s", status, text)
	}
	if status, _, _ := call(t, top, "admin", "DELETE", "/v1/sites/east/projects/p1", ""); status != 404 {
		t.Errorf("again: %d", status)
	}
}

func TestJobsAndAudit(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	if _, got, text := call(t, top, "admin", "GET", "/v1/jobs?state=available,running&limit=5", ""); len(got["jobs"].([]any)) != 1 {
		t.Errorf("jobs = %s", text)
	}
	if _, _, text := call(t, top, "admin", "GET", "/v1/jobs/1", ""); !strings.Contains(text, `"args":{"top_id":"7"}`) {
		t.Errorf("job = %s", text)
	}
	if status, _, text := call(t, top, "admin", "POST", "/v1/jobs/1/cancel", ""); status != 200 || !strings.Contains(text, `"state":"cancelled"`) {
		t.Errorf("cancel = %d %s", status, text)
	}
	// What such a body held was not looked at.
	for body, want := range map[string]int{"{": 400, "[]": 400, `{"force":true}`: 400, "{}": 404, " ": 404} {
		if status, _, text := call(t, top, "admin", "POST", "/v1/jobs/99/redo", body); status != want {
			t.Errorf("redo with body %q = %d %s; want %d", body, status, text, want)
		}
	}
	if status, _, _ := call(t, top, "admin", "GET", "/v1/jobs/99", ""); status != 404 {
		t.Errorf("an unknown job: %d", status)
	}
	if status, _, _ := call(t, top, "admin", "GET", "/v1/jobs?limit=0", ""); status != 422 {
		t.Errorf("limit 0: %d", status)
	}
	if err := top.Audit.Append(t.Context(), audit.Event{Action: "site.add", Target: "east", UserName: "admin"}); err != nil {
		t.Fatal(err)
	}
	if _, got, text := call(t, top, "admin", "GET", "/v1/audit?action=site.add&since=2020-01-01T00:00:00Z", ""); len(got["events"].([]any)) != 1 {
		t.Errorf("audit = %s", text)
	}
}

// The document describes every operation, and the page needs nothing from elsewhere.
func TestDocument(t *testing.T) {
	t.Parallel()
	top := admintest.New(t)
	status, doc, text := call(t, top, "", "GET", "/v1/openapi.json", "")
	if status != 200 || len(doc["paths"].(map[string]any)) != 13 || strings.Contains(text, "$schema\"") {
		t.Errorf("openapi.json: %d, %d paths", status, len(doc["paths"].(map[string]any)))
	}
	for path, want := range map[string]string{"/docs": "/docs/docs.js", "/docs/docs.js": "/v1/openapi.json", "/docs/docs.css": "grid"} {
		status, _, text := call(t, top, "", "GET", path, "")
		if status != 200 || !strings.Contains(text, want) || strings.Contains(text, "https://") {
			t.Errorf("GET %s: %d", path, status)
		}
	}
}
