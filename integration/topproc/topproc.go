// Package topproc gives tests a Top as a process of its own, built once for each
// test process, which they may kill, stand still and start again as the world
// does. Its database lies outside the process: an SQLite file or a PostgreSQL
// server, so that what a killed Top had promised is still there.
package topproc

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
)

// Password is of the user admin of every Top, and of the tenants that NewTenant makes.
const Password = "topproc-Secret-1"

// startLimit bounds how long a Top may take until /healthz answers, on a machine that does much else.
const startLimit = 60 * time.Second

// Program is the path of the headwater of this tree, built once; it ends with this process.
func Program() (string, error) { return program() }

var program = sync.OnceValues(build)

// build makes the program as a file without a name, which ends with this process.
func build() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "topproc")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	file := filepath.Join(dir, "headwater")
	cmd := exec.Command("go", "build", "-o", file, "./cmd/headwater")
	cmd.Dir = root
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build headwater: %w\n%s", err, said)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	fd, err := syscall.Dup(int(f.Fd())) // stays open as long as this process; f is closed by its finalizer
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), f.Close()
}

func moduleRoot() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := at; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above %s", at)
		}
	}
}

// Config is how a Top runs. Zero fields take short times, fit for tests of failures.
type Config struct {
	// Database is what it opens; the zero value is a fresh SQLite file. Tops that share a PostgreSQL database take the
	// same Dir, which holds the key file.
	Database dbschema.Config
	Dir      string // default: a folder of the test
	// CallTimeout, SettleTime, Lease, InventoryEvery and DiffEvery are settings of the same names. Defaults: 2 s,
	// 3 s, 6 s, 300 ms, 5 s.
	CallTimeout, SettleTime, Lease, InventoryEvery, DiffEvery time.Duration
	LogLevel                                                  string // default info
	More                                                      string // further lines of the configuration file
}

func (c *Config) fill(t testing.TB) {
	for _, d := range []struct {
		to  *time.Duration
		def time.Duration
	}{{&c.CallTimeout, 2 * time.Second}, {&c.SettleTime, 3 * time.Second}, {&c.Lease, 6 * time.Second}, {&c.InventoryEvery, 300 * time.Millisecond}, {&c.DiffEvery, 5 * time.Second}} {
		if *d.to == 0 {
			*d.to = d.def
		}
	}
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Database.Driver == "" {
		c.Database = dbschema.Config{Driver: dbschema.SQLite, DSN: "headwater.db"}
	}
}

// Top is one process, running, standing still or dead.
type Top struct {
	URL string // http://127.0.0.1:PORT, the same after each start

	t    testing.TB
	cfg  Config
	file string // of the configuration
	log  string // file of the log of all starts

	waits sync.WaitGroup // for the processes

	mu      sync.Mutex // guards the fields below
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
}

// Start builds the program if this test process has not, writes a configuration, starts Top and waits until it is
// ready. Top is killed when the test ends; a failed test shows the end of its log.
func Start(t testing.TB, cfg Config) *Top {
	t.Helper()
	cfg.fill(t)
	port := freePort(t)
	top := &Top{URL: fmt.Sprintf("http://127.0.0.1:%d", port), t: t, cfg: cfg,
		file: filepath.Join(cfg.Dir, fmt.Sprintf("top-%d.yaml", port)), log: filepath.Join(t.TempDir(), "top.log")}
	yaml := fmt.Sprintf(`listen: 127.0.0.1:%d
dir: %s
grace: 1s
database: {driver: %s, dsn: %q}
jobs: {lease: %v, grace: 1s, queues: {default: {workers: 32, per_site: 16}, bulk: {workers: 4, per_site: 4}}}
sites: {call_timeout: %v, settle_time: %v}
inventory: {every: %v, diff_every: %v}
log: {level: %s, format: text}
%s
`, port, cfg.Dir, cfg.Database.Driver, cfg.Database.DSN, cfg.Lease, cfg.CallTimeout, cfg.SettleTime, cfg.InventoryEvery, cfg.DiffEvery, cfg.LogLevel, cfg.More)
	if err := os.WriteFile(top.file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		top.Kill()
		top.waits.Wait()
		if t.Failed() {
			t.Logf("the end of Top's log:\n%s", tail(top.Log(), 8<<10))
		}
	})
	top.Restart()
	return top
}

// freePort finds one below the range from which the system takes ports for outgoing
// connections: else one of those could sit on it while Top is dead.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.N(12000)
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port between 20000 and 32000")
	return 0
}

// Restart starts Top, which must not run, and waits until it is ready.
func (p *Top) Restart() {
	p.t.Helper()
	p.Launch()
	p.Ready()
}

// Launch is Restart without waiting.
func (p *Top) Launch() {
	p.t.Helper()
	file, err := program()
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(file, "top", "--config", p.file)
	cmd.Args[0] = "headwater"
	cmd.Env = []string{"HEADWATER_ADMIN_PASSWORD=" + Password, "TZ=UTC", "HOME=" + p.cfg.Dir}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(errors.Join(err, log.Close()))
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.process, p.ended = cmd, ended
	p.mu.Unlock()
	p.waits.Go(func() {
		defer close(ended)
		_ = cmd.Wait() // being killed is its usual end
		_ = log.Close()
	})
}

// Ready waits until /healthz answers 200; the test fails when Top ends before.
func (p *Top) Ready() {
	p.t.Helper()
	_, ended := p.now()
	limit := time.After(startLimit)
	for {
		resp, err := http.Get(p.URL + "/healthz") //nolint:noctx // bounded by the loop
		if err == nil {
			ok := resp.StatusCode == http.StatusOK
			_ = resp.Body.Close()
			if ok {
				return
			}
		}
		select {
		case <-ended:
			p.t.Fatalf("Top ended before it was ready:\n%s", tail(p.Log(), 4<<10))
		case <-limit:
			p.t.Fatalf("Top was not ready after %v: %v", startLimit, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Top) now() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process, p.ended
}

// Kill ends Top at once, as a power cut would (SIGKILL), and waits until it is gone. A dead one stays dead.
func (p *Top) Kill() { p.end(syscall.SIGKILL) }

// Stop asks Top to end (SIGTERM) and waits for it.
func (p *Top) Stop() { p.end(syscall.SIGTERM) }

func (p *Top) end(s syscall.Signal) {
	process, ended := p.now()
	if process == nil {
		return
	}
	_ = process.Process.Signal(s) // an ended process needs no signal
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = process.Process.Kill()
		<-ended
		p.t.Errorf("Top did not end within 30 s of signal %v", s)
	}
}

// Pause makes Top stand still (SIGSTOP), as a suspended virtual machine does; Resume lets it go on.
func (p *Top) Pause() { p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Top) Resume() { p.signal(syscall.SIGCONT) }

func (p *Top) signal(s syscall.Signal) {
	p.t.Helper()
	process, _ := p.now()
	if err := process.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v to Top: %v", s, err)
	}
}

// Log returns all that Top has logged, over all starts.
func (p *Top) Log() string {
	data, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
	return string(data)
}

// Metrics returns what /metrics shows.
func (p *Top) Metrics() string {
	p.t.Helper()
	resp, err := http.Get(p.URL + "/metrics") //nolint:noctx // answered by a process of the test's own
	if err != nil {
		p.t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

// tail returns the last n bytes of text, from the beginning of a line.
func tail(text string, n int) string {
	if len(text) <= n {
		return text
	}
	text = text[len(text)-n:]
	return text[strings.IndexByte(text, '\n')+1:]
}

// Owns reports whether a connection comes from this Top; address is its own end, as a server sees it (IPv4, ADDRESS:PORT).
func (p *Top) Owns(address string) bool {
	process, _ := p.now()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return false
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false
	}
	inode := ""
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) && f[9] != "0" {
			inode = "socket:[" + f[9] + "]"
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", process.Process.Pid)
	fds, err := os.ReadDir(dir)
	if err != nil || inode == "" {
		return false
	}
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && link == inode {
			return true
		}
	}
	return false
}
