package statefile

import (
	"context"
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
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
			case <-time.After(time.Minute):
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
	write(path, "{}")
	expect("it is mended", 0)
}

// A file is not read while somebody writes it, and one that was emptied is not the state of a host without guests.
func TestHalfAFileIsNotTaken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.yaml")
	const one, two = "networks:\n- {id: n1, key: 1}\n", "- {id: n2, key: 2}\n"
	if err := os.WriteFile(path, []byte(one+two), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []int
	var said []string
	w := &watched{path: path, got: func(o []state.Object) { got = append(got, len(o)) }, bad: func(err error) { said = append(said, err.Error()) }}
	w.seed = maphash.MakeSeed()
	w.look()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w.look()
	for _, part := range []string{one, two} {
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
		w.look()
	}
	if !slices.Equal(got, []int{2}) || len(said) > 0 {
		t.Errorf("while it was written: %d objects, %q", got, said)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.look()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	w.look()
	if len(got) != 1 || len(said) != 1 || !strings.Contains(said[0], "says nothing") {
		t.Errorf("emptied: %d objects, %q", got, said)
	}
	if err := os.WriteFile(path, []byte(one+two), 0o600); err != nil {
		t.Fatal(err)
	}
	w.look()
	if !slices.Equal(got, []int{2, 2}) {
		t.Errorf("as it was: %d objects, %q", got, said)
	}
}

// Of two writes within a tick of the file system's clock, which leave its times and its size alike, both are seen.
func TestTwoWritesAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.yaml")
	seen := make(chan string, 16)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	write := func(id string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("networks:\n- {id: "+id+", key: 1}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	write("n1")
	wg.Go(func() {
		if err := Watch(ctx, path, func(o []state.Object) { seen <- o[0].Ref().ID }, func(err error) { t.Error(err) }); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("read %s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s was not read", want)
		}
	}
	expect("n1")
	write("n2")
	expect("n2")
}
