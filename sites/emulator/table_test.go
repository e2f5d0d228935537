package emulator

import (
	"fmt"
	"testing"
)

func TestTableKeepsOrderAndProjects(t *testing.T) {
	t.Parallel()
	tab := newTable[*volume]()
	for i := range 10 {
		tab.add(&volume{row: row{ID: fmt.Sprint(i), Project: fmt.Sprint(i % 2)}})
	}
	for _, id := range []string{"0", "4", "9", "4"} { // one of them twice
		if v, found := tab.get(id); found {
			tab.remove(v)
		}
	}
	names := func(list []*volume) string {
		out := ""
		for v := range newestFirst(list) {
			out += v.ID
		}
		return out
	}
	for project, want := range map[string]string{"": "8765321", "0": "862", "1": "7531", "2": ""} {
		if got := names(tab.of(project)); got != want {
			t.Errorf("rows of %q are %s, want %s", project, got, want)
		}
	}
	if tab.len() != 7 {
		t.Errorf("%d rows, want 7", tab.len())
	}
}
