package dataplane

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Each contender gets through everything, and has the same figures.
func TestMeasure(t *testing.T) {
	t.Parallel()
	hosts.Need(t)
	ovn, err := NewOVN(t.Context())
	if err != nil {
		t.Skip(err)
	}
	figures, err := Measure(t.Context(), ovn, Sizes{First: 2, FirstMany: 2, Bulk: []int{3, 5}, Rules: 2, TCP: time.Second}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		t.Logf("%s: %v %s", f.Name, f.Value, f.Unit)
		if f.Value < 0 {
			t.Errorf("%s is %v %s", f.Name, f.Value, f.Unit)
		}
	}
}
