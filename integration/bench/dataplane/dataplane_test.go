package dataplane

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Each contender gets through everything, and what it is measured by is the same.
func TestMeasure(t *testing.T) {
	t.Parallel()
	hosts.Need(t)
	if testing.Short() {
		t.Skip("twice four hosts: not in short mode")
	}
	sizes := Sizes{First: 2, FirstMany: 2, Bulk: []int{3, 5}, Rules: 2, TCP: time.Second}
	for name, make := range map[string]func(*testing.T) Contender{"headwater": headwater, "ovn": ovn} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			figures, err := Measure(t.Context(), make(t), sizes, t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range figures {
				t.Logf("%s: %.4g %s", f.Name, f.Value, f.Unit)
				if f.Value < 0 && !strings.Contains(f.Name, "share") && f.Unit != "flows" {
					t.Errorf("%s is %v %s", f.Name, f.Value, f.Unit)
				}
			}
		})
	}
}

func headwater(t *testing.T) Contender {
	t.Helper()
	return NewHeadwater(build(t, "cmd/headwater-agent"))
}

// build makes a program of ours.
func build(t *testing.T, folder string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(folder))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/headwater-cloud/headwater/"+folder)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", folder, err, said)
	}
	return program
}

func ovn(t *testing.T) Contender {
	t.Helper()
	o, err := NewOVN(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return o
}

// Each controller gives back what it is sent, and what it is measured by is the same.
func TestMeasureControllers(t *testing.T) {
	t.Parallel()
	hosts.Need(t)
	if testing.Short() {
		t.Skip("a host and two controllers: not in short mode")
	}
	for name, make := range map[string]func(*testing.T) Controller{"headwater": ourController, "os-ken": osKen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := MeasureControllers(t.Context(), ControllerSizes{One: 20, Many: 200}, t.Logf, make(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all[0] {
				t.Logf("%s: %.4g %s", f.Name, f.Value, f.Unit)
				if f.Value <= 0 && f.Unit == "1/s" {
					t.Errorf("%s is %v %s", f.Name, f.Value, f.Unit)
				}
			}
		})
	}
}

func ourController(t *testing.T) Controller {
	t.Helper()
	return NewOpenFlow(build(t, "integration/bench"), "giveback")
}

func osKen(t *testing.T) Controller {
	t.Helper()
	c, err := NewOSKen(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return c
}
