package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/emulator"
)

// tempestTime is how long the selection may take; it needs about half on two cores that do nothing else.
const tempestTime = 10 * time.Minute

// tempestLeast is how many tests of the selection must have passed: one that skips all would prove nothing.
const tempestLeast = 580

// TestTempest runs OpenStack's own API tests, Debian's package unmodified, at Top over two emulated sites: the tests that
// testdata/tempest/include.txt selects less those of exclude.txt, where each has its reason. Every one must pass or skip itself.
func TestTempest(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("takes minutes: not in the short suite")
	}
	realcloud.NeedTempest(t)
	top := topproc.Start(t, topproc.Config{CallTimeout: 20 * time.Second, SettleTime: 40 * time.Second, Lease: 60 * time.Second, LogLevel: "warn"})
	for _, name := range []string{"east", "west"} {
		top.AddEmulated(t, topproc.Emulate(t, emulator.Default(name), nil))
	}
	root := t.TempDir()
	conf := exec.CommandContext(t.Context(), "realcloud/tempest-conf", "top", top.URL+"/identity/v3")
	conf.Env = append(os.Environ(), "REALCLOUD_DIR="+root, "OS_PASSWORD="+topproc.Password)
	out, err := conf.CombinedOutput()
	if err != nil {
		t.Fatalf("tempest-conf: %v\n%s", err, out)
	}
	lists, err := filepath.Abs("testdata/tempest")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), tempestTime)
	defer cancel()
	run := exec.CommandContext(ctx, "tempest", "run", "--concurrency", "8",
		"--include-list", filepath.Join(lists, "include.txt"), "--exclude-list", filepath.Join(lists, "exclude.txt"))
	run.Dir = filepath.Join(root, "tempest-top")
	run.Env = append(os.Environ(), "HOME="+root, "no_proxy=*", "NO_PROXY=*", "PYTHONWARNINGS=ignore")
	said, err := run.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text := string(said)
	passed := count(text, "Passed")
	t.Logf("tempest: %d passed, %d skipped, %d failed", passed, count(text, "Skipped"), count(text, "Failed"))
	for _, one := range tempestFailures(text) {
		t.Error(one)
	}
	if err != nil && !t.Failed() {
		t.Errorf("tempest run: %v\n%s", err, lastLines(text, 40))
	}
	if passed < tempestLeast {
		t.Errorf("%d tests passed, want %d at least", passed, tempestLeast)
	}
}

// count is a figure of the summary that tempest ends with, 0 when it is not there.
func count(text, what string) int {
	m := regexp.MustCompile(`(?m)^ - ` + what + `: (\d+)$`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) //nolint:errcheck // digits; one too long for an int reads as 0 or the greatest
	return n
}

// tempestFailures are the failed tests, each with the end of its traceback.
func tempestFailures(text string) []string {
	text, _, _ = strings.Cut(text, "\n======\nTotals")
	var out []string
	for _, part := range regexp.MustCompile(`(?m)^\{\d+\} `).Split(text, -1) {
		head, rest, _ := strings.Cut(part, "\n")
		if !strings.HasSuffix(head, "FAILED") {
			continue
		}
		rest, _, _ = strings.Cut(rest, "\nCaptured pythonlogging")
		if i := strings.LastIndex(rest, "File \""); i > 0 {
			rest = rest[i:]
		}
		out = append(out, head+"\n"+lastLines(rest, 12))
	}
	return out
}
