package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lines makes a stream: "ACTION PKG TEST [OUTPUT...]".
func lines(t *testing.T, words ...string) string {
	t.Helper()
	var b strings.Builder
	for _, w := range words {
		f := strings.SplitN(w, " ", 4)
		f = append(f, "", "", "")
		b.WriteString(`{"Action":"` + f[0] + `","Package":"` + f[1] + `","Test":"` + f[2] + `","Output":"` + f[3] + `\n","Elapsed":1}` + "\n")
	}
	return b.String()
}

func account(t *testing.T, streams ...string) string {
	t.Helper()
	all := newTally()
	for _, s := range streams {
		if err := all.read(strings.NewReader(s)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	all.sum().print(&out)
	return out.String()
}

func TestAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		streams []string
		closing string
		says    []string
		not     []string
	}{
		{
			"leaves are counted, parents are not",
			[]string{lines(t, "run p A", "run p A/x", "run p A/y", "pass p A/x", "pass p A/y", "pass p A", "pass p ")},
			"2 passed, 0 failed, 0 skipped", nil, []string{"failures:"},
		},
		{
			"a skip in one stream and a pass in the other is a pass",
			[]string{lines(t, "run p A", "skip p A"), lines(t, "run p A", "pass p A")},
			"1 passed, 0 failed, 0 skipped", nil, []string{"skipped tests"},
		},
		{
			"a failure in one stream is not healed by a pass in the other, and keeps its output",
			[]string{lines(t, "run p A", "output p A data-race-here", "fail p A"), lines(t, "run p A", "pass p A")},
			"0 passed, 1 failed, 0 skipped",
			[]string{"p A", "data-race-here"}, nil,
		},
		{
			"the failure of a parent and of its package repeats its child's",
			[]string{lines(t, "run p A", "run p A/x", "output p A/x no-such-site", "fail p A/x", "fail p A", "fail p ")},
			"0 passed, 1 failed, 0 skipped", nil, nil,
		},
		{
			"a package that fails on its own counts: it did not build or panicked",
			[]string{lines(t, "run p A", "pass p A", "output p  undefined:-x", "fail p ")},
			"1 passed, 1 failed, 0 skipped",
			[]string{"undefined:-x"}, nil,
		},
		{
			"a test that never ended failed",
			[]string{lines(t, "run p A", "run p B", "pass p B")},
			"1 passed, 1 failed, 0 skipped",
			[]string{"did not end"}, nil,
		},
		{
			"skips are named with their reason, without its position",
			[]string{lines(t, "run p A", "output p A === RUN A", "output p A     a_test.go:12: needs root", "skip p A", "run p B", "pass p B")},
			"1 passed, 0 failed, 1 skipped",
			[]string{"p A: needs root\n"},
			[]string{"=== RUN"},
		},
		{
			"nothing ran",
			[]string{lines(t, "skip p ")},
			"0 passed, 0 failed, 0 skipped",
			[]string{"no test ran"}, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := account(t, tt.streams...)
			if !strings.HasSuffix(got, "\n"+tt.closing+"\n") {
				t.Errorf("closing line: got %q, want %q", got, tt.closing)
			}
			for _, s := range tt.says {
				if !strings.Contains(got, s) {
					t.Errorf("got %q, want it to say %q", got, s)
				}
			}
			for _, s := range tt.not {
				if strings.Contains(got, s) {
					t.Errorf("got %q, want nothing of %q", got, s)
				}
			}
		})
	}
}

// TestRun runs go test on small modules, as make does.
func TestRun(t *testing.T) { // not parallel: it changes the working directory
	for _, tt := range []struct {
		name, file, content string
		status              int
		closing             string
	}{
		{"passes", "a_test.go", "package a\nimport \"testing\"\nfunc TestA(t *testing.T) {}\n", 0, "1 passed, 0 failed, 0 skipped"},
		{"fails", "a_test.go", "package a\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Error(`wrong`) }\n", 1, "0 passed, 1 failed, 0 skipped"},
		{"panics", "a_test.go", "package a\nimport \"testing\"\nfunc TestA(t *testing.T) { panic(`wrong`) }\n", 1, "0 passed, 1 failed, 0 skipped"},
		{"does not build", "a_test.go", "package a\nvar x int = ``\n", 1, "0 passed, 1 failed, 0 skipped"},
		{"is no package", "a_test.go", "packag a\n", 1, "0 passed, 1 failed, 0 skipped"},
		{"has no test", "a.go", "package a\n", 0, "0 passed, 0 failed, 0 skipped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			for name, content := range map[string]string{"go.mod": "module example.org/a\n\ngo 1.26\n", tt.file: tt.content} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs bytes.Buffer
			if got := process([]string{"run", "-o", "s.json", "--", "./..."}, &out, &errs); got != tt.status {
				t.Errorf("run: status %d, want %d; it printed %s%s", got, tt.status, out.String(), errs.String())
			}
			out.Reset()
			got := process([]string{"sum", "s.json"}, &out, &errs)
			if want := tt.status; got != want && tt.name != "has no test" || got == 0 && tt.name == "has no test" {
				t.Errorf("sum: status %d; it printed %s", got, out.String())
			}
			if !strings.HasSuffix(out.String(), "\n"+tt.closing+"\n") {
				t.Errorf("sum: got %q, want closing line %q", out.String(), tt.closing)
			}
		})
	}
}

func TestStep(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		args   []string
		status int
	}{
		{"passes", []string{"vet", "--", "true"}, 0},
		{"fails", []string{"vet", "--", "false"}, 1},
		{"cannot start", []string{"vet", "--", "/no/such/tool"}, 1},
		{"prints, which is allowed", []string{"vet", "--", "echo", "x"}, 0},
		{"prints, which is not allowed", []string{"gofmt", "-empty", "--", "echo", "x.go"}, 1},
		{"has no name", []string{"--", "true"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "s.json")
			var out, errs bytes.Buffer
			if got := process(append([]string{"step", "-o", file}, tt.args...), &out, &errs); got != tt.status {
				t.Errorf("status %d, want %d; it printed %s%s", got, tt.status, out.String(), errs.String())
			}
		})
	}
}
