package integration

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRelease builds what `make build` gives to users, by that very command. A
// program that needs a loader or a library would not run on another
// distribution; one whose SQLite is the stub of a build without cgo would not
// run at all.
func TestRelease(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the release build: not in the short suite")
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "make", "build", "BIN="+bin)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	for _, name := range []string{"headwater", "headwater-agent"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if sources, err := filepath.Glob(filepath.Join("..", "cmd", name, "*.go")); err != nil || len(sources) == 0 {
				t.Skipf("cmd/%s is not in the tree yet", name)
			}
			static(t, filepath.Join(bin, name))
		})
	}
}

// static fails the test if the program asks for a loader or for libraries.
func static(t *testing.T, name string) {
	t.Helper()
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s asks for a loader (PT_INTERP): it is not static", name)
		}
	}
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("%s needs libraries %v (%v): it is not static", name, libs, err)
	}
	if fi, err := os.Stat(name); err != nil || fi.Mode()&0o111 == 0 {
		t.Errorf("%s cannot be run: %v, %v", name, fi, err)
	}
}

// TestAgentNeedsNoCgo builds the agent with no C compiler in reach.
func TestAgentNeedsNoCgo(t *testing.T) {
	t.Parallel()
	if sources, err := filepath.Glob(filepath.Join("..", "cmd", "headwater-agent", "*.go")); err != nil || len(sources) == 0 {
		t.Skip("cmd/headwater-agent is not in the tree yet")
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(t.TempDir(), "headwater-agent"), "./cmd/headwater-agent")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "CC=/no/such/compiler")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/headwater-agent without cgo: %v\n%s", err, out)
	}
}
