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
		t.Skip("three times two hosts: not in short mode")
	}
	sizes := Sizes{First: 2, FirstMany: 2, Bulk: []int{3, 5}, Rules: 2, TCP: time.Second}
	base, err := MeasureBase(t.Context(), sizes, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(*testing.T) Contender{"headwater": headwater, "ovn": ovn} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			figures, err := Measure(t.Context(), make(t), base, sizes, t.Logf)
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
	program := filepath.Join(t.TempDir(), "headwater-agent")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/headwater-cloud/headwater/cmd/headwater-agent")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build headwater-agent: %v\n%s", err, said)
	}
	return NewHeadwater(program)
}

func ovn(t *testing.T) Contender {
	t.Helper()
	o, err := NewOVN(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return o
}
