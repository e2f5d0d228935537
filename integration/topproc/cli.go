package topproc

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Clouds writes a clouds.yaml with an entry for each user, named after it: the
// administrator "admin" of project admin, and those that NewTenant made, given as user to
// project. It returns the file. Entries name every region, Global first.
func (p *Top) Clouds(t testing.TB, regions []string, users map[string]string) string {
	t.Helper()
	text := "clouds:\n"
	for user, project := range merged(users) {
		text += fmt.Sprintf("  %s:\n    region_name: Global\n    regions: [Global, %s]\n    identity_api_version: 3\n"+
			"    auth: {auth_url: \"%s/identity/v3\", username: %s, password: %s, project_name: %s, user_domain_id: default, project_domain_id: default}\n",
			user, strings.Join(regions, ", "), p.URL, user, Password, project)
	}
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func merged(users map[string]string) map[string]string {
	out := map[string]string{"admin": "admin"}
	for u, p := range users {
		out[u] = p
	}
	return out
}

// Headwater runs the operator's command line with the given environment, and returns what it printed. A failure ends the test.
func Headwater(t testing.TB, env []string, args ...string) string {
	t.Helper()
	said, err := TryHeadwater(t, env, args...)
	if err != nil {
		t.Fatalf("headwater %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return said
}

// TryHeadwater is Headwater for commands that may fail: the error says how, and what was printed is followed by the complaint.
func TryHeadwater(t testing.TB, env []string, args ...string) (string, error) {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), file, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"HOME=" + cmd.Dir, "PATH=/usr/bin:/bin"}, env...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String() + complaint.String(), err
	}
	return out.String(), nil
}
