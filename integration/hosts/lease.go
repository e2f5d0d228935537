package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/headwater-cloud/headwater/agents/ovstest"
)

// lease is the directory of a bed, held by a lock that ends with the process: a bed whose lock is
// free belongs to nobody any more, and no process number, which somebody else may have by then, has to be trusted.
type lease struct {
	dir  string
	lock *os.File
}

// marker is the file in a directory that says that this is a bed. It is made under the lock: a directory without it and
// without a lock may be one that is just being made.
const marker = "bed"

// netnsDir is where ip-netns(8) keeps the names of namespaces.
const netnsDir = "/run/netns"

// takeLease makes the directory of a new bed, after removing beds of this prefix whose owners have ended.
func takeLease(prefix string) (*lease, error) {
	if err := sweep(prefix); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", prefix+"-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // ovs-vsctl and others run as whom they like
		return nil, err
	}
	l := &lease{dir: dir}
	if l.lock, err = lockDir(dir, unix.LOCK_EX); err != nil {
		return nil, err
	}
	return l, os.WriteFile(filepath.Join(dir, marker), fmt.Appendln(nil, os.Getpid()), 0o600)
}

func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

func (l *lease) release() error {
	return errors.Join(os.RemoveAll(l.dir), l.lock.Close())
}

// sweep removes the beds of a prefix that nobody holds.
func sweep(prefix string) error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // held, or gone
		}
		if _, err := os.Stat(filepath.Join(dir, marker)); err == nil {
			names, err := namespaces(filepath.Base(dir) + "-")
			errs = append(errs, err, removeNamespaces(names), os.RemoveAll(dir))
		}
		errs = append(errs, lock.Close())
	}
	return errors.Join(errs...)
}

// namespaces are the named ones that begin so.
func namespaces(prefix string) ([]string, error) {
	all, err := os.ReadDir(netnsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range all {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// removeNamespaces kills every process that still lives in one of the namespaces, and removes them.
func removeNamespaces(names []string) error {
	if len(names) == 0 {
		return nil
	}
	gone, ours := []string{}, map[uint64]bool{}
	for _, name := range names {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(netnsDir, name), &st) == nil {
			ours[st.Ino] = true
			gone = append(gone, "netns del "+name)
		}
	}
	return errors.Join(endResidents(ours), ipBatch("", gone...))
}

// endResidents kills the processes whose network namespace has one of the inode numbers, and waits until they are gone.
// Daemons that a test started and that left its process group, as DHCP clients do, end here.
func endResidents(namespaces map[uint64]bool) error {
	deadline := time.Now().Add(10 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		left := residents(namespaces)
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", left)
		}
		<-ticker.C
	}
}

func residents(namespaces map[uint64]bool) []int {
	all, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil
	}
	var pids []int
	for _, file := range all {
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		// This process may be seen in a namespace while one of its threads is there. A process that
		// has ended and is not yet waited for has no namespace.
		if err != nil || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(file, &st) == nil && namespaces[st.Ino] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// ipBatch runs ip(8) commands in one process, in a namespace or, when it is "", in this process's own.
func ipBatch(netns string, commands ...string) error {
	if len(commands) == 0 {
		return nil
	}
	ip, err := ovstest.Program("ip")
	if err != nil {
		return err
	}
	var args []string
	if netns != "" {
		args = []string{"-n", netns}
	}
	cmd := exec.Command(ip, append(args, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip in %q: %w: %s\n%s", netns, err, bytes.TrimSpace(said), strings.Join(commands, "\n"))
	}
	return nil
}
