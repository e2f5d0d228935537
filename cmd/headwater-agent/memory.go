package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The agent's heap grows by half between two collections: memory is the guests', and the agent has little to do most of the time. But it grows by leastGrowth
// bytes at least: while packets are answered by the ten thousand a second, collecting a small heap each time would be a quarter of the work.
const (
	growth      = 50 // percent
	leastGrowth = 8 << 20
)

// paceCollections sets after each collection when the next one is, until ctx ends.
func paceCollections(ctx context.Context) { paceNext(pace{ctx, 0}) }

// pace is what is set: percent, 0 before anything is.
type pace struct {
	ctx     context.Context
	percent int
}

func paceNext(p pace) {
	if p.ctx.Err() != nil {
		return
	}
	if want := percentOf(keptBytes()); p.percent == 0 || max(want, p.percent)*10 > min(want, p.percent)*11 { // it stops the program for a moment
		debug.SetGCPercent(want)
		p.percent = want
	}
	runtime.AddCleanup(new([4]*byte), paceNext, p) // that is garbage already: the next collection is the end of it
}

// percentOf is by how much a heap of so many bytes may grow.
func percentOf(kept uint64) int {
	return int(max(growth, leastGrowth*100/max(kept, 1<<20))) //nolint:gosec // at most 800
}

// keptBytes is what the last collection has left, and what else Go counts with it.
func keptBytes() (sum uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
