// Package ovstest gives tests a real Open vSwitch of their own: an ovsdb-server, and
// an ovs-vswitchd whose datapath forwards in user space or not at all, each in the test's directory and
// ended with the test. Neither needs root, and nothing of the machine's own Open vSwitch is touched.
//
// For what a real switch does not do when asked, there is a FakeSwitch: an OpenFlow switch in memory that loses messages, refuses
// them, is slow, or hangs up in the middle.
package ovstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Switch is an Open vSwitch of a test.
type Switch struct {
	Dir string // its run directory; the path is short, since that of a Unix socket must be
	t   testing.TB

	killDB, killSwitchd func()
	switchd             *os.Process
}

// Require is the environment variable that, set to 1, makes Need fail instead of skip.
const Require = "HEADWATER_REQUIRE_OVS"

// Need skips the test, by name, where the programs of Debian's package openvswitch-switch are missing.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := Program(p); err != nil {
			if os.Getenv(Require) == "1" {
				t.Fatalf("%s is missing: install openvswitch-switch", p)
			}
			t.Skipf("%s is missing: install openvswitch-switch", p)
		}
	}
}

// Program is the path of a program of Open vSwitch, which may lie where only root's PATH leads.
func Program(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no %s", name)
}

// NewDB starts an ovsdb-server with an empty database Open_vSwitch in which ovs-vsctl init was run.
func NewDB(t testing.TB) *Switch {
	t.Helper()
	Need(t, "ovsdb-server", "ovsdb-tool", "ovs-vsctl")
	dir, err := os.MkdirTemp("", "hwovs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Switch{Dir: dir, t: t}
	s.Run("ovsdb-tool", "create", s.path("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	s.StartDB()
	s.Vsctl("--no-wait", "init")
	return s
}

// New starts an ovsdb-server and an ovs-vswitchd that knows dummy devices.
func New(t testing.TB) *Switch {
	t.Helper()
	Need(t, "ovs-vswitchd", "ovs-ofctl", "ovs-appctl")
	s := NewDB(t)
	s.StartSwitchd()
	return s
}

func (s *Switch) path(name string) string { return filepath.Join(s.Dir, name) }

// Endpoint is the database's, in the words of ovsdb(7).
func (s *Switch) Endpoint() string { return "unix:" + s.path("db.sock") }

// Mgmt is the path of a bridge's OpenFlow socket.
func (s *Switch) Mgmt(bridge string) string { return s.path(bridge + ".mgmt") }

// StartDB starts the ovsdb-server, again after KillDB.
func (s *Switch) StartDB() {
	s.t.Helper()
	s.killDB, _ = s.daemon("ovsdb-server", s.path("conf.db"), "--remote=punix:"+s.path("db.sock"), "--unixctl="+s.path("db.ctl"),
		"--pidfile="+s.path("db.pid"), "--log-file="+s.path("db.log"), "--no-chdir")
	s.reachable(s.path("db.sock"))
}

// KillDB ends the ovsdb-server as a crash would.
func (s *Switch) KillDB() { s.killDB() }

// StartSwitchd starts the ovs-vswitchd, again after KillSwitchd.
func (s *Switch) StartSwitchd() {
	s.t.Helper()
	s.killSwitchd, s.switchd = s.daemon("ovs-vswitchd", s.Endpoint(), "--enable-dummy=system", "--disable-system", "--unixctl="+s.path("vswitchd.ctl"),
		"--pidfile="+s.path("vswitchd.pid"), "--log-file="+s.path("vswitchd.log"), "--no-chdir", "-vconsole:off")
	s.reachable(s.path("vswitchd.ctl"))
}

// KillSwitchd ends the ovs-vswitchd as a crash would.
func (s *Switch) KillSwitchd() { s.killSwitchd() }

// FreezeSwitchd stops the ovs-vswitchd in the middle of what it does, until ThawSwitchd.
func (s *Switch) FreezeSwitchd() { s.signal(syscall.SIGSTOP) }

// ThawSwitchd lets the ovs-vswitchd go on.
func (s *Switch) ThawSwitchd() { s.signal(syscall.SIGCONT) }

func (s *Switch) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.switchd.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// daemon starts a program in the foreground of its own, under the test's directory; it ends with the test.
func (s *Switch) daemon(name string, args ...string) (kill func(), process *os.Process) {
	s.t.Helper()
	path, err := Program(name)
	if err != nil {
		s.t.Fatal(err)
	}
	var output bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background()) // until the test's cleanup
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = environment(s.Dir), s.Dir
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		cancel()
		s.t.Fatal(err)
	}
	var ended bool
	kill = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := cmd.Wait(); err != nil && s.t.Failed() {
			s.t.Logf("%s: %v\n%s", name, err, output.String())
		}
	}
	s.t.Cleanup(kill)
	return kill, cmd.Process
}

func environment(dir string) []string {
	return append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_LOGDIR="+dir, "OVS_DBDIR="+dir)
}

// reachable waits until somebody listens at a Unix socket.
func (s *Switch) reachable(path string) {
	s.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(30 * time.Second)
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-limit:
			s.t.Fatalf("nobody listens at %s after 30 s: %v", path, err)
		case <-ticker.C:
		}
	}
}

// Run runs a program of Open vSwitch and returns what it printed; the test fails when it does.
func (s *Switch) Run(program string, args ...string) string {
	s.t.Helper()
	out, err := s.Try(program, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// Try runs a program of Open vSwitch and returns what it printed.
func (s *Switch) Try(program string, args ...string) (string, error) {
	return Exec(s.t.Context(), s.Dir, program, args...)
}

// Exec runs a program of Open vSwitch whose own files, if it has any, are in a directory.
func Exec(ctx context.Context, dir, program string, args ...string) (string, error) {
	path, err := Program(program)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = environment(dir), dir
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return "", fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// Vsctl runs ovs-vsctl on the test's database.
func (s *Switch) Vsctl(args ...string) string {
	s.t.Helper()
	return strings.TrimSpace(s.Run("ovs-vsctl", append([]string{"--db=" + s.Endpoint()}, args...)...))
}

// Appctl runs ovs-appctl on the test's ovs-vswitchd.
func (s *Switch) Appctl(args ...string) string {
	s.t.Helper()
	return s.Run("ovs-appctl", append([]string{"-t", s.path("vswitchd.ctl")}, args...)...)
}

// Ofctl runs ovs-ofctl with OpenFlow 1.3; "BRIDGE" among the arguments stands for the path of br0's socket.
func (s *Switch) Ofctl(args ...string) string {
	s.t.Helper()
	return s.Run("ovs-ofctl", append([]string{"-O", "OpenFlow13", "--no-names", "--no-stats"}, args...)...)
}
