package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// proc is a process that the run started.
type proc struct {
	cmd   *exec.Cmd
	ended chan struct{}
	wait  sync.WaitGroup
}

func start(cmd *exec.Cmd) (*proc, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &proc{cmd: cmd, ended: make(chan struct{})}
	p.wait.Go(func() {
		defer close(p.ended)
		_ = cmd.Wait() // being stopped is its usual end
	})
	return p, nil
}

// stopLimit is how long a process may take to end by itself.
const stopLimit = 20 * time.Second

// stop ends the process and waits for it.
func (p *proc) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended needs no signal
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
	}
	p.wait.Wait()
}

// memory returns the resident set in MiB, now and at its highest since the process began.
func (p *proc) memory() (now, peak float64) {
	for _, line := range lines(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) {
		for key, into := range map[string]*float64{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, ok := strings.CutPrefix(line, key); ok {
				kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				*into = kib / 1024
			}
		}
	}
	return now, peak
}

// clockTick is the kernel's unit of CPU time in /proc, USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpu returns the CPU time used since the process began.
func (p *proc) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:])) // the name before may have spaces
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick
}

// startSites starts the process of the emulated sites and returns the URL of each.
func startSites(ctx context.Context, log io.Writer, names ...string) (*proc, map[string]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "emulate", "-names", strings.Join(names, ","))
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start the sites: %w", err)
	}
	line := bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the sites: %w", err)
	}
	text, err := line.ReadBytes('\n') // before Wait, which closes the pipe
	p := &proc{cmd: cmd, ended: make(chan struct{})}
	p.wait.Go(func() {
		defer close(p.ended)
		_ = cmd.Wait()
	})
	urls := map[string]string{}
	if err = errors.Join(err, json.Unmarshal(text, &urls)); err != nil {
		p.stop()
		return nil, nil, fmt.Errorf("start the sites: %w", err)
	}
	return p, urls, nil
}

// top is a running Headwater.
type top struct {
	*proc
	url string
	dir string
}

// adminPassword is of the user admin of every Top of the run.
const adminPassword = "bench-Secret-1"

// topSettings are the parts of Top's configuration that differ from its defaults.
type topSettings struct {
	inventory, diff time.Duration // 0: default
	cores           int           // GOMAXPROCS; 0: all
}

// startTop starts Headwater in a folder, which may hold the database of an earlier one, and waits until it is ready.
func (b *bench) startTop(ctx context.Context, dir string, set topSettings) (*top, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	yaml := fmt.Sprintf("listen: 127.0.0.1:%d\ndir: %s\ngrace: 2s\n", port, dir)
	if set.inventory != 0 || set.diff != 0 {
		yaml += fmt.Sprintf("inventory: {every: %v, diff_every: %v}\n", set.inventory, set.diff)
	}
	file := filepath.Join(dir, "top.yaml")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(file, []byte(yaml), 0o600)); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "top.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the process has its own
	cmd := exec.CommandContext(ctx, b.program, "top", "--config", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "HEADWATER_ADMIN_PASSWORD="+adminPassword)
	if set.cores > 0 {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(set.cores))
	}
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	t := &top{proc: p, url: fmt.Sprintf("http://127.0.0.1:%d", port), dir: dir}
	if err := t.ready(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return t, nil
}

// readyLimit is how long a Top may take until it answers.
const readyLimit = 60 * time.Second

func (t *top) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return until(ctx, 20*time.Millisecond, "Top to be ready (see "+filepath.Join(t.dir, "top.log")+")", func() (bool, error) {
		select {
		case <-t.ended:
			return false, errors.New("it ended")
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url+"/healthz", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
}

func freePort(ctx context.Context) (int, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}

// until repeats f until it is true, fails, or ctx ends.
func until(ctx context.Context, every time.Duration, what string, f func() (bool, error)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		ok, err := f()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-t.C:
		}
	}
}
