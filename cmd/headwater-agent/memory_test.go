package main

import "testing"

// A small heap may grow by as much as keeps collections rare, and a large one by half of it and no more.
func TestPercentOf(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for kept, want := range map[uint64]int{0: 800, 4 * mb: 200, 8 * mb: 100, 16 * mb: 50, 200 * mb: 50} {
		if got := percentOf(kept); got != want {
			t.Errorf("of %d MiB %d %%, want %d %%", kept/mb, got, want)
		}
	}
	if keptBytes() == 0 {
		t.Error("the runtime does not say what is kept: a metric has another name")
	}
}
