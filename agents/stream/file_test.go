package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/state"
)

func client(t testing.TB, path string) *Client {
	t.Helper()
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ca.Issue(t.TempDir(), mtls.Identity{Role: mtls.Host, Site: "east", Name: "h1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := mtls.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Servers: []string{"nowhere"}, Host: "h1", Site: "east", Credentials: cred, File: path,
		Commit: func(context.Context, Commit) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func object(t testing.TB, i, version int) *frame.Object {
	t.Helper()
	o, err := frame.Encode(&api.Object{Kind: &api.Object_Network{Network: &api.Network{Id: fmt.Sprintf("n%d", i), Key: uint32(version + 1), DnsDomain: "example.org"}}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// text is a holding in words.
func text(h *holding) string {
	s := fmt.Sprintf("%s/%d", h.incarnation, h.revision)
	for _, o := range h.list() {
		s += fmt.Sprintf(" %s=%x", o.Ref.ID, o.Number)
	}
	return s
}

// revisions writes a history into a file, and returns what was held after each revision.
func revisions(t testing.TB, c *Client, n int) []string {
	t.Helper()
	c.file = newFile(c.cfg.File, c)
	c.held, c.boot = c.file.load(t.Context())
	states := []string{text(&c.held)}
	for i := range n {
		f := &frame.Frame{Incarnation: "i1", Revision: uint64(i + 1), Snapshot: i == 0}
		for j := range 3 {
			f.Set = append(f.Set, object(t, (i+j)%5, i))
		}
		if i > 0 {
			f.Gone = []state.Ref{{Kind: state.KindNetwork, ID: fmt.Sprintf("n%d", (i+4)%5)}}
		}
		c.take(t.Context(), f) //nolint:errcheck // nothing here can refuse it
		if err := c.file.write(); err != nil {
			t.Fatal(err)
		}
		states = append(states, text(&c.held))
	}
	return states
}

// loaded is what a new start finds, and the alarms that it raises.
func loaded(t testing.TB, path string) (string, *Client) {
	t.Helper()
	c := client(t, path)
	c.file = newFile(path, c)
	c.held, c.boot = c.file.load(t.Context())
	if c.file.open != nil {
		_ = c.file.open.Close()
	}
	return text(&c.held), c
}

func alarms(c *Client) string {
	var out []string
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	for _, box := range c.out.hosts {
		for _, a := range box.all.alarms {
			out = append(out, a.GetCode()+" "+filepath.Base(a.GetObject()))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// Wherever a write is interrupted, the next start finds the last revision that was whole by then.
func TestTruncatedAnywhere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	states := revisions(t, client(t, path), 6)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, path)
	at := 0
	for n := len(raw); n >= 0; n-- {
		for _, tail := range []int{0, 700} { // the file had grown, its content was lost
			if err := os.WriteFile(path, append(slices.Clone(raw[:n]), make([]byte, tail)...), 0o600); err != nil {
				t.Fatal(err)
			}
			c.file, c.held = newFile(path, c), newHolding()
			c.file.sync = func(*os.File) error { return nil } // the machine does not lose power
			c.held, c.boot = c.file.load(t.Context())
			if c.file.open != nil {
				_ = c.file.open.Close()
			}
			got := slices.Index(states, text(&c.held))
			if got < 0 {
				t.Fatalf("cut at %d: %s was never held", n, text(&c.held))
			}
			if n == len(raw) && got != len(states)-1 {
				t.Fatalf("a whole file is at %d", got)
			}
			at = max(at, got)
		}
	}
	if at != len(states)-1 {
		t.Errorf("the best that was found is revision %d", at)
	}
}

// A flipped bit costs at most what came after it; what was never held is never found, and damage that no interrupted write explains is told.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	states := revisions(t, client(t, path), 4)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, path)
	aside := 0
	for bit := range len(raw) * 8 {
		bad := slices.Clone(raw)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path + ".corrupt")
		c.out, c.file = newOutbox(), newFile(path, c)
		c.file.sync = func(*os.File) error { return nil }
		c.held, c.boot = c.file.load(t.Context())
		if c.file.open != nil {
			_ = c.file.open.Close()
		}
		got := text(&c.held)
		if !slices.Contains(states, got) {
			t.Fatalf("bit %d: %s was never held", bit, got)
		}
		if _, err := os.Stat(path + ".corrupt"); err == nil {
			aside++
			if got != states[0] || alarms(c) != AlarmStateFile+" state.corrupt" {
				t.Fatalf("bit %d: set aside, with %s held and alarms %q", bit, got, alarms(c))
			}
		}
	}
	if aside < len(raw) {
		t.Errorf("only %d of %d flips were told", aside, len(raw)*8)
	}
}

// The number of a start rises even when the clock goes back.
func TestBootRises(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	c := client(t, path)
	revisions(t, c, 1)
	last := c.boot
	for i := range 3 {
		c := client(t, path)
		c.cfg.Now = func() time.Time { return time.Unix(int64(1000-i), 0) }
		c.file = newFile(path, c)
		if _, boot := c.file.load(t.Context()); boot <= last {
			t.Errorf("boot %d after %d", boot, last)
		} else {
			last = boot
		}
		_ = c.file.open.Close()
	}
}

// Small changes are appended; the file is written anew when they outgrow the state.
func TestCompaction(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	c := client(t, path)
	revisions(t, c, 3)
	var largest int64
	for i := range 400 {
		big, err := frame.Encode(&api.Object{Kind: &api.Object_Network{Network: &api.Network{Id: "big", Key: uint32(i + 1), DnsDomain: strings.Repeat("x", 20<<10)}}})
		if err != nil {
			t.Fatal(err)
		}
		before := c.file.size
		c.take(t.Context(), &frame.Frame{Incarnation: "i1", Revision: uint64(10 + i), Set: []*frame.Object{big}}) //nolint:errcheck // nothing here can refuse it
		if err := c.file.write(); err != nil {
			t.Fatal(err)
		}
		if grown := c.file.size - before; grown > 21<<10 {
			t.Fatalf("a change of 20 KiB wrote %d bytes", grown)
		}
		largest = max(largest, c.file.size)
	}
	if largest > 2*compactFrom {
		t.Errorf("the file grew to %d bytes", largest)
	}
	if got, _ := loaded(t, path); got != text(&c.held) {
		t.Errorf("found %s, want %s", got, text(&c.held))
	}
}

// A full disk stops nothing: it is told, and when there is room again the file has all.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	c := client(t, path)
	revisions(t, c, 2)
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		c.file.wake = make(chan struct{}, 1)
		c.out = newOutbox()
		c.file.sync = func(f *os.File) error {
			if full.Load() {
				return syscall.ENOSPC
			}
			return f.Sync()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		var p sync.WaitGroup
		p.Go(func() { done <- c.file.run(ctx) })
		for i := range 5 {
			c.take(ctx, &frame.Frame{Incarnation: "i1", Revision: uint64(50 + i), Set: []*frame.Object{object(t, 9, i)}}) //nolint:errcheck // nothing here can refuse it
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if got := alarms(c); got != AlarmStateFile+" state" {
			t.Errorf("alarms %q while the disk is full", got)
		}
		full.Store(false)
		time.Sleep(2 * retryLast)
		synctest.Wait()
		if got := alarms(c); got != "" {
			t.Errorf("alarms %q when it is not", got)
		}
		cancel()
		p.Wait()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	if got, _ := loaded(t, path); got != text(&c.held) {
		t.Errorf("found %s, want %s", got, text(&c.held))
	}
}

func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	revisions(f, client(f, filepath.Join(dir, "state")), 3)
	raw, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, e, err := parse(raw)
		if err != nil && text(&h) != "/0" {
			t.Errorf("a damaged file is believed: %s", text(&h))
		}
		if e.offset > len(raw) || e.whole > e.offset {
			t.Errorf("ends at %d and %d of %d", e.whole, e.offset, len(raw))
		}
	})
}
