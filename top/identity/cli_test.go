package identity

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// cli runs the real openstack client against the service.
type cli struct {
	t   *testing.T
	env []string
}

func (w *top) cli(t *testing.T, env ...string) *cli {
	t.Helper()
	if testing.Short() {
		t.Skip("no openstack client with -short")
	}
	if _, err := exec.LookPath("openstack"); err != nil {
		t.Skip("the openstack client is not installed (Debian: python3-openstackclient)")
	}
	env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "OS_IDENTITY_API_VERSION=3", "OS_REGION_NAME=Global",
		"OS_AUTH_URL="+w.url, "LC_ALL=C.UTF-8")
	return &cli{t, env}
}

func as(user, project string) []string {
	return []string{"OS_USERNAME=" + user, "OS_PASSWORD=" + user + "-pw", "OS_PROJECT_NAME=" + project, "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"}
}

func (c *cli) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openstack", args...)
	cmd.Env = c.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)) + stderr.String(), err
}

func (c *cli) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("openstack %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// TestOpenStackClient is what an operator and a tenant type in a day.
func TestOpenStackClient(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	admin := w.cli(t, as("admin", "admin")...)
	admin.run("token", "issue")
	catalog := admin.run("catalog", "list", "-f", "json")
	if !json.Valid([]byte(catalog)) || strings.Index(catalog, "Global") > strings.Index(catalog, "east") || !strings.Contains(catalog, "/sites/west/") {
		t.Errorf("catalog: %s", catalog)
	}
	admin.run("domain", "create", "--description", "two", "d2")
	admin.run("domain", "set", "--disable", "d2")
	admin.run("domain", "delete", "d2")
	id := admin.run("project", "create", "--description", "lab", "--tag", "blue", "--property", "cost=7", "lab", "-f", "value", "-c", "id")
	if len(id) != 32 {
		t.Errorf("project id %q", id)
	}
	admin.run("project", "set", "--description", "the lab", "lab")
	if got := admin.run("project", "show", "lab", "-f", "json"); !strings.Contains(got, `"the lab"`) || !strings.Contains(got, "blue") || !strings.Contains(got, "cost") {
		t.Errorf("project show: %s", got)
	}
	admin.run("user", "create", "--password", "eve-pw", "--email", "eve@example", "--project", "lab", "eve")
	admin.run("user", "set", "--description", "E.", "eve")
	admin.run("role", "create", "auditor")
	admin.run("role", "add", "--user", "eve", "--project", "lab", "member")
	admin.run("role", "add", "--user", "eve", "--project", "lab", "auditor")
	if got := admin.run("role", "assignment", "list", "--names", "--user", "eve", "-f", "value"); !strings.Contains(got, "eve@Default") || !strings.Contains(got, "auditor") {
		t.Errorf("assignments: %s", got)
	}
	if got := admin.run("user", "list", "--project", "lab", "-f", "value", "-c", "Name"); got != "eve" {
		t.Errorf("users of the project: %q", got)
	}
	admin.run("group", "create", "ops")
	admin.run("group", "add", "user", "ops", "eve")
	admin.run("group", "contains", "user", "ops", "eve")
	for _, list := range []string{"project", "user", "role", "domain", "group", "region", "service", "endpoint", "credential"} {
		admin.run(list, "list")
	}
	admin.run("implied", "role", "list")
	tenant(t, w, admin)
	admin.run("role", "remove", "--user", "eve", "--project", "lab", "auditor")
	admin.run("role", "delete", "auditor")
	admin.run("group", "delete", "ops")
	admin.run("user", "delete", "eve")
	admin.run("project", "delete", "lab")
	if out, err := admin.try("project", "show", "lab"); err == nil || !strings.Contains(out, "No project with a name or ID of 'lab'") {
		t.Errorf("deleted project: %v %s", err, out)
	}
}

// tenant is eve's part.
func tenant(t *testing.T, w *top, admin *cli) {
	t.Helper()
	eve := w.cli(t, as("eve", "lab")...)
	eve.run("token", "issue")
	if got := eve.run("project", "list", "--my-projects", "-f", "value", "-c", "Name"); got != "lab" {
		t.Errorf("my projects: %q", got)
	}
	made := struct{ ID, Secret string }{}
	out := eve.run("application", "credential", "create", "--role", "reader", "--expiration", "2099-01-01T00:00:00", "ci", "-f", "json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Secret == "" {
		t.Fatalf("application credential: %v %s", err, out)
	}
	robot := w.cli(t, "OS_AUTH_TYPE=v3applicationcredential", "OS_APPLICATION_CREDENTIAL_ID="+made.ID, "OS_APPLICATION_CREDENTIAL_SECRET="+made.Secret)
	robot.run("token", "issue")
	if out, err := robot.try("user", "list"); err == nil || !strings.Contains(out, "403") {
		t.Errorf("a reader lists users: %v %s", err, out)
	}
	eve.run("application", "credential", "list")
	eve.run("application", "credential", "delete", "ci")
	if out, err := robot.try("token", "issue"); err == nil || !strings.Contains(out, "401") {
		t.Errorf("deleted credential: %v %s", err, out)
	}
	token := eve.run("token", "issue", "-f", "value", "-c", "id")
	eve.run("user", "password", "set", "--original-password", "eve-pw", "--password", "eve2-pw")
	if out, err := admin.try("token", "revoke", token); err == nil {
		t.Errorf("the token outlived the password: %s", out)
	}
	unscoped := w.cli(t, "OS_USERNAME=eve", "OS_PASSWORD=eve2-pw", "OS_USER_DOMAIN_ID=default")
	unscoped.run("token", "issue")
}
