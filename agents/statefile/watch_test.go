package statefile

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
)

// A file is read when it comes, when it is written, and when another is moved into its place; a bad one is complained of once.
func TestWatch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.yaml")
	got, bad := make(chan int, 16), make(chan string, 16)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := Watch(ctx, path, func(o []state.Object) { got <- len(o) }, func(err error) { bad <- err.Error() })
		if err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	expect := func(what string, want int) {
		t.Helper()
		for {
			select {
			case n := <-got:
				if n == want {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: %d objects were not read", what, want)
			}
		}
	}
	if text := <-bad; !strings.Contains(text, "no such file") {
		t.Errorf("a file that is not there: %s", text)
	}
	write := func(p, text string) {
		t.Helper()
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "networks:\n- {id: n1, key: 1}\n")
	expect("it comes", 1)
	write(path+".new", "networks:\n- {id: n1, key: 1}\n- {id: n2, key: 2}\n")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("another in its place", 2)
	write(path, "networks:\n- {id: n1, colour: 1}\n")
	for text := range bad {
		if strings.Contains(text, "colour") {
			break
		}
	}
	write(path, "")
	expect("it is mended", 0)
}
