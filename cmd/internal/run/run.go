// Package run is what every main function calls: it gives a program its
// context, ends it on signals, and turns its error into one line and an exit
// status. It is the only place where a context begins.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
)

// Process is a whole program. It gets the arguments without the program's name,
// looks variables up with getenv, writes results to stdout, and returns when
// ctx ends. It touches no other part of the process, so that a test can call it.
type Process func(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error

// The exit statuses of Main.
const (
	StatusOK     = 0 // done
	StatusFailed = 1 // what was asked for failed, or was interrupted
	StatusUsage  = 2 // the command line or the configuration cannot be used as written
)

// Main runs p and returns the exit status for os.Exit.
//
// SIGINT and SIGTERM cancel p's context; Main then waits for p to return. A
// second signal ends the program at once. An error is printed to standard error
// as one line that begins with the program's name.
func Main(p Process) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var wait sync.WaitGroup
	wait.Go(func() {
		select {
		case <-signals:
			// Before cancelling, so that whoever sees the cancelled context and signals again kills.
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			cancel()
		case <-ctx.Done():
		}
	})
	err := p(ctx, os.Args[1:], os.Getenv, os.Stdout)
	interrupted := ctx.Err() != nil
	cancel()
	wait.Wait()
	return finish(os.Stderr, filepath.Base(os.Args[0]), err, interrupted)
}

// finish reports err and picks the exit status.
func finish(stderr io.Writer, name string, err error, interrupted bool) int {
	if err == nil {
		return StatusOK
	}
	var quiet quietError
	switch {
	case errors.As(err, &quiet):
	case interrupted && errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "%s: interrupted\n", name)
	default:
		fmt.Fprintf(stderr, "%s: %s\n", name, oneLine(err))
	}
	var usage usageError
	if errors.As(err, &usage) {
		return StatusUsage
	}
	return StatusFailed
}

// oneLine joins the lines of an error: errors.Join and servers' replies have several.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// usageError marks an error whose cure is another command line.
type usageError struct{ err error }

// Error returns the marked error's text.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap returns the marked error.
func (e usageError) Unwrap() error { return e.err }

// Usage marks err as the caller's mistake on the command line or in the
// configuration: the exit status is 2. It returns nil for nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// Usagef is Usage of fmt.Errorf.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// quietError marks an error that the program has already told in its own words.
type quietError struct{ err error }

// Error returns the marked error's text.
func (e quietError) Error() string { return e.err.Error() }

// Unwrap returns the marked error.
func (e quietError) Unwrap() error { return e.err }

// Quiet marks err as already printed: it decides the exit status and is not
// printed again. It returns nil for nil.
func Quiet(err error) error {
	if err == nil {
		return nil
	}
	return quietError{err}
}

// Version returns what was built: the module version that the go command
// stamped from the commit ("v0.0.0-20260102150405-abcdef123456", with "+dirty"
// after it when files had changed), or "devel" for a build without a stamp.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
