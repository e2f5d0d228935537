// Package realcloud gives tests real, unmodified OpenStack regions, which the
// scripts beside it make from Debian's own packages on loopback. A test names
// the regions that it needs; the first one on a machine starts them, which takes
// half a minute to three, and they stay up for the next.
//
// The regions are shared by all tests of the machine. A test deletes what it
// makes, and proves it with Snapshot and NothingLeft.
package realcloud

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Password is every password in every region.
const Password = "secret"

// Require names the environment variable that turns "there are no regions
// here" from a skip into a failure.
const Require = "HEADWATER_REQUIRE_REALCLOUD"

// upTimeout bounds the first start on a slow machine, which installs 350 packages.
const upTimeout = 20 * time.Minute

// Cloud is a set of running regions.
type Cloud struct {
	// Dir is the folder of state and logs.
	Dir string
	// CloudsFile is the path of a clouds.yaml with two clouds for each region:
	// NAME is user admin of project admin, NAME-demo is user demo, an ordinary
	// member of project demo.
	CloudsFile string

	regions map[string]Region
}

// Region is one OpenStack of its own, with its own Keystone.
type Region struct {
	Name    string
	AuthURL string // Keystone's, with /v3
}

// Need returns a cloud in which the named regions run, and starts those that do
// not. It skips the test in the short suite, and where regions cannot run:
// without root, or not on Debian. With HEADWATER_REQUIRE_REALCLOUD=1 the latter
// is a failure. A region that does not come up is a failure always.
func Need(t testing.TB, names ...string) *Cloud {
	t.Helper()
	if testing.Short() {
		t.Skip("real OpenStack regions: not in the short suite")
	}
	if why := unable(); why != "" {
		missing(t, "real OpenStack regions: "+why)
	}
	dir := os.Getenv("REALCLOUD_DIR")
	if dir == "" {
		dir = "/var/tmp/realcloud"
	}
	if err := up(t, dir, names); err != nil {
		t.Fatalf("start the real regions %s: %v", strings.Join(names, ", "), err)
	}
	c := &Cloud{Dir: dir, CloudsFile: filepath.Join(dir, "clouds.yaml"), regions: map[string]Region{}}
	for _, name := range names {
		r, err := c.load(name)
		if err != nil {
			t.Fatal(err)
		}
		c.regions[name] = r
	}
	return c
}

// unable says why this machine can run no regions, or nothing.
func unable() string {
	if os.Getuid() != 0 {
		return "they need root"
	}
	if _, err := os.Stat("/etc/debian_version"); err != nil {
		return "they are made of Debian's packages, and this is no Debian"
	}
	return ""
}

// missing skips the test, or fails it where nothing may be missing.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(Require) == "1" {
		t.Fatalf("%s (%s=1 makes this a failure)", why, Require)
	}
	t.Skip(why)
}

// up starts regions; one test process at a time, since two would start each daemon twice.
func up(t testing.TB, dir string, names []string) error {
	t.Helper()
	scripts, err := folder()
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Clean(dir)+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // nothing was written; closing lets go of the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	// Into a file: a daemon that inherited a pipe would keep us waiting for its end.
	log, err := os.Create(filepath.Join(t.TempDir(), "up.log"))
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // read back below
	cmd := exec.CommandContext(t.Context(), "timeout", append([]string{fmt.Sprintf("%.0f", upTimeout.Seconds()), filepath.Join(scripts, "up")}, names...)...)
	cmd.Env = append(os.Environ(), "REALCLOUD_DIR="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		said, readErr := os.ReadFile(log.Name())
		if readErr != nil {
			return readErr
		}
		return fmt.Errorf("integration/realcloud/up: %w\n%s", err, said)
	}
	return nil
}

// folder finds the scripts: in the folder of this package, found from the
// working directory, which the go command makes the tested package's own.
func folder() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := at; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "integration", "realcloud"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above %s", at)
		}
	}
}

// load reads where a region listens.
func (c *Cloud) load(name string) (Region, error) {
	file := filepath.Join(c.Dir, "openrc-"+name)
	data, err := os.ReadFile(file)
	if err != nil {
		return Region{}, err
	}
	for line := range strings.Lines(string(data)) {
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "export OS_AUTH_URL="); ok {
			return Region{Name: name, AuthURL: url}, nil
		}
	}
	return Region{}, fmt.Errorf("%s: no OS_AUTH_URL", file)
}

// Region returns one of the regions that were named to Need. The test fails on
// any other name.
func (c *Cloud) Region(t testing.TB, name string) Region {
	t.Helper()
	r, ok := c.regions[name]
	if !ok {
		t.Fatalf("region %s was not asked of realcloud.Need", name)
	}
	return r
}

// Admin returns the environment in which OpenStack commands are the region's administrator.
func (c *Cloud) Admin(region string) []string {
	return []string{"OS_CLIENT_CONFIG_FILE=" + c.CloudsFile, "OS_CLOUD=" + region}
}

// Demo returns the environment in which OpenStack commands are the ordinary
// user demo, a member of the region's project demo.
func (c *Cloud) Demo(region string) []string {
	return []string{"OS_CLIENT_CONFIG_FILE=" + c.CloudsFile, "OS_CLOUD=" + region + "-demo"}
}
