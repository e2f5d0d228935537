package members

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

// TestFigures measures a pool of default settings: how long a death takes to be noticed, what a member sends, and what it takes of memory. It fails
// where the README's promises are broken by far. HEADWATER_FIGURES=1 has it measure large pools too.
func TestFigures(t *testing.T) {
	sizes := []int{10}
	if !testing.Short() {
		sizes = append(sizes, 100)
	}
	if os.Getenv("HEADWATER_FIGURES") != "" {
		sizes = append(sizes, 1000)
	}
	for _, n := range sizes {
		t.Run(fmt.Sprintf("members=%d", n), func(t *testing.T) { // one after the other: the heap is measured
			inBubble(t, func(t *testing.T, f *fabric) { figures(t, f, n, Site, 25*time.Second) })
		})
	}
	t.Run("wan", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fabric) { figures(t, f, 10, WAN, 25*time.Second) })
	})
}

func figures(t *testing.T, f *fabric, n int, scope Scope, limit time.Duration) {
	before := heap()
	all := f.fleet(t, 1, n, func(c *Config) {
		d := Default(scope)
		d.Site, d.Host, d.Bind, d.Keys, d.Seeds, d.Meta = c.Site, c.Host, c.Bind, c.Keys, c.Seeds, c.Meta
		*c = d
	})
	joined := when(t, 5*time.Minute, "all know all", func() bool {
		return !slices.ContainsFunc(all, func(r *running) bool { return r.known() < n })
	})
	step(2 * time.Minute) // what spreads the news of the joins ends
	memory := float64(heap()-before) / float64(n)

	const span = 6 * time.Minute // of 10, 100 and 1,000 members, each exchanges all it knows so many times in it: 12, 4 and 2
	packets, streams := f.carried()
	step(span)
	p, s := f.carried()
	rate := func(bytes int) float64 { return float64(bytes) / float64(n) / span.Seconds() }
	t.Logf("%s, %d members: all knew all after %s; each sends %.0f B/s in packets and %.0f B/s in streams; %.0f KiB of heap each", scope, n, joined, rate(p-packets), rate(s-streams), memory/1024)

	var first, last []time.Duration
	for range min(10, n/5) {
		gone := all[len(all)-1]
		all = all[:len(all)-1]
		knows := func(r *running) bool { return r.dead(gone.id) }
		f.kill(gone)
		killed := time.Now()
		when(t, 2*limit, "one knows of the death", func() bool { return slices.ContainsFunc(all, knows) })
		first = append(first, time.Since(killed))
		when(t, 2*limit, "all know of it", func() bool { return !slices.ContainsFunc(all, func(r *running) bool { return !knows(r) }) })
		last = append(last, time.Since(killed))
		step(10 * time.Second)
	}
	slices.Sort(first)
	slices.Sort(last)
	middle := func(d []time.Duration) time.Duration { return d[len(d)/2] }
	t.Logf("%s, %d members: a death is known to the first after %s (at most %s), to all after %s (at most %s); %d deaths",
		scope, n, middle(first), first[len(first)-1], middle(last), last[len(last)-1], len(last))
	if most := last[len(last)-1]; most > limit {
		t.Errorf("a death took %s to be known to all", most)
	}
	endAll(t, all)
}

// when is await for many members: it looks ten times a second, and not at views, which would all have to be made.
func when(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > limit {
			t.Fatalf("after %s: not yet %s", limit, what)
		}
		step(100 * time.Millisecond)
	}
	return time.Since(began)
}

func (r *running) known() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.members)
}

func (r *running) dead(id ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members[id].State == Dead
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
