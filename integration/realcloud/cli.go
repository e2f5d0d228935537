package realcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// client is Debian's own: one found by PATH might be somebody's virtualenv.
const client = "/usr/bin/openstack"

// commandTimeout bounds one command, --wait included.
const commandTimeout = 5 * time.Minute

// Result is what a command left.
type Result struct {
	Command string
	Stdout  string
	Stderr  string
	Status  int // the exit status; -1 when a signal or the time-out ended it
}

// NeedClient skips the test where the real openstack command is missing, or
// fails it when HEADWATER_REQUIRE_REALCLOUD=1.
func NeedClient(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(client); err != nil {
		missing(t, "the openstack command: Debian's package python3-openstackclient is not installed")
	}
}

// OpenStack runs the real openstack command and returns what came of it. env
// tells it the cloud, for instance c.Demo("east"); it sees nothing else of the
// caller's environment, configuration or cached tokens.
func OpenStack(t testing.TB, env []string, args ...string) Result {
	t.Helper()
	NeedClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, client, args...)
	home := t.TempDir()
	cmd.Dir = home
	cmd.Env = append([]string{"HOME=" + home, "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "NO_PROXY=*", "no_proxy=*", "PYTHONWARNINGS=ignore"}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("openstack %s: %v", strings.Join(args, " "), err)
	}
	return Result{"openstack " + strings.Join(args, " "), stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// OK fails the test unless the command succeeded, and returns its output
// without blanks around it.
func (r Result) OK(t testing.TB) string {
	t.Helper()
	if r.Status != 0 {
		t.Fatalf("%s: status %d\n%s%s", r.Command, r.Status, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Fails fails the test if the command succeeded, and returns what it complained of.
func (r Result) Fails(t testing.TB) string {
	t.Helper()
	if r.Status == 0 {
		t.Fatalf("%s: succeeded, which it should not\n%s", r.Command, r.Stdout)
	}
	return strings.TrimSpace(r.Stderr)
}

// JSON is OK, and decodes the output of a command with -f json into v.
func (r Result) JSON(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.OK(t)), v); err != nil {
		t.Fatalf("%s: no JSON: %v\n%s", r.Command, err, r.Stdout)
	}
}

// NeedTempest skips the test where OpenStack's own test suite is missing, or
// fails it when HEADWATER_REQUIRE_REALCLOUD=1.
func NeedTempest(t testing.TB) {
	t.Helper()
	for _, tool := range []string{"tempest", "jq", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "OpenStack's test suite: Debian's packages tempest, jq and curl are not installed")
		}
	}
}
