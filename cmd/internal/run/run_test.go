package run

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be the program that the signal tests run.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_TEST_PROGRAM") != "" {
		os.Exit(Main(program))
	}
	os.Exit(m.Run())
}

// program says "ready", waits for its context, and then does what args say.
func program(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	fmt.Fprintln(stdout, "ready", getenv("RUN_TEST_PROGRAM"))
	<-ctx.Done()
	fmt.Fprintln(stdout, "cancelled")
	switch args[0] {
	case "hang":
		select {}
	case "wrap":
		return fmt.Errorf("serve: %w", ctx.Err())
	}
	return nil
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, arg string
		signal    syscall.Signal
		again     bool
		status    int // -1: ended by the signal
		stderr    string
	}{
		{"SIGINT ends it", "return", syscall.SIGINT, false, 0, ""},
		{"SIGTERM ends it", "return", syscall.SIGTERM, false, 0, ""},
		{"an interrupted call is one line", "wrap", syscall.SIGTERM, false, 1, "interrupted\n"},
		{"a second signal kills", "hang", syscall.SIGINT, true, -1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], tt.arg)
			cmd.Env = append(os.Environ(), "RUN_TEST_PROGRAM=x")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			for _, want := range []string{"ready x", "cancelled"} {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("got line %q, want %q", lines.Text(), want)
				}
				if want == "ready x" || tt.again {
					if err := cmd.Process.Signal(tt.signal); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait() // its verdict is the exit code
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("exit status %d, want %d", got, tt.status)
			}
			if got := stderr.String(); !strings.HasSuffix(got, tt.stderr) || tt.stderr == "" && got != "" {
				t.Errorf("standard error %q, want %q", got, tt.stderr)
			}
		})
	}
}

func TestFinish(t *testing.T) {
	t.Parallel()
	errDisk := errors.New("disk full")
	for _, tt := range []struct {
		name   string
		err    error
		status int
		stderr string
	}{
		{"none", nil, 0, ""},
		{"failure", fmt.Errorf("open database: %w", errDisk), 1, "headwater: open database: disk full\n"},
		{"several lines become one", errors.Join(errDisk, errors.New("site west: no answer\n")), 1, "headwater: disk full; site west: no answer\n"},
		{"usage", fmt.Errorf("site add: %w", Usagef("no cloud %q in clouds.yaml", "x")), 2, "headwater: site add: no cloud \"x\" in clouds.yaml\n"},
		{"already printed", Quiet(errDisk), 1, ""},
		{"already printed usage", Quiet(Usage(errDisk)), 2, ""},
		{"cancelled by ourselves, not by a signal", context.Canceled, 1, "headwater: context canceled\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			if got := finish(&stderr, "headwater", tt.err, false); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if got := stderr.String(); got != tt.stderr {
				t.Errorf("printed %q, want %q", got, tt.stderr)
			}
		})
	}
	if Usage(nil) != nil || Quiet(nil) != nil {
		t.Error("marking no error made one")
	}
}
