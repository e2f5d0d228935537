package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs in the background of a node.
type Process struct {
	PID  int
	Done chan struct{} // closed when it has ended

	name, said string
}

// startLimit bounds how long a daemon may take to answer, on a machine that does much else.
const startLimit = 60 * time.Second

// Start starts a program that runs until the bed ends, if nobody ends it before. What it says is appended to a file.
func (n *Node) Start(said, name string, args ...string) (*Process, error) {
	out, err := os.OpenFile(said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() //nolint:errcheck // the program has its own
	cmd := n.Command(n.bed.ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{PID: cmd.Process.Pid, Done: make(chan struct{}), name: n.Name + ": " + name, said: said}
	n.bed.serving.Go(func() {
		defer close(p.Done)
		_ = cmd.Wait() // it is killed at the end
	})
	return p, nil
}

// Listens waits until the process listens at a Unix socket; the error tells what it said.
func (p *Process) Listens(ctx context.Context, socket string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := await(ctx, startLimit, p.name, func() error {
		select {
		case <-p.Done:
			cancel(errors.New("it has ended"))
			return context.Cause(ctx)
		default:
		}
		c, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Said())
	}
	return nil
}

// Said is what the process has said so far.
func (p *Process) Said() string {
	said, _ := os.ReadFile(p.said)
	return string(said)
}

// Kill ends the process as a crash would, and waits until it has ended.
func (p *Process) Kill() {
	if p != nil {
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		<-p.Done
	}
}

// Stop asks the process to end, as a service manager does, and waits until it has.
func (p *Process) Stop() {
	_ = syscall.Kill(p.PID, syscall.SIGTERM)
	<-p.Done
}

// Usage is what a process has cost so far.
type Usage struct {
	CPU    time.Duration // in user space and in the kernel
	Memory int64         // bytes that are resident
}

// tick is the unit of processor times, which Linux has fixed for user space.
const tick = time.Second / 100

// UsageOf reads what a process has cost, by proc(5).
func UsageOf(pid int) (Usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Usage{}, err
	}
	// The name, which is in parentheses, may have spaces in it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 22 {
		return Usage{}, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
	}
	var v [3]int64
	for i, field := range []string{fields[11], fields[12], fields[21]} {
		if v[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return Usage{}, err
		}
	}
	return Usage{time.Duration(v[0]+v[1]) * tick, v[2] * int64(os.Getpagesize())}, nil
}
