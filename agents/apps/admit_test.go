package apps

import (
	"testing"
	"time"
)

// offer has ports send packets for a while, each so many a second, and returns how many of each a second were taken.
func offer(a *admission, rates map[uint32]float64, d time.Duration) map[uint32]float64 {
	now, taken, owed := time.Unix(1_800_000_000, 0), map[uint32]float64{}, map[uint32]float64{}
	const step = 100 * time.Microsecond
	for end := now.Add(d); now.Before(end); now = now.Add(step) {
		for port, rate := range rates {
			for owed[port] += rate * step.Seconds(); owed[port] >= 1; owed[port]-- {
				if a.allow(port, now) {
					taken[port]++
				}
			}
		}
	}
	for port := range taken {
		taken[port] /= d.Seconds()
	}
	return taken
}

// A port that floods takes nothing from those that are modest, and gets what they leave; what comes from elsewhere has half at most.
func TestAdmissionIsFair(t *testing.T) {
	t.Parallel()
	within := func(name string, got, low, high float64) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s: %.0f/s, want %.0f to %.0f", name, got, low, high)
		}
	}
	alone := offer(newAdmission(10_000), map[uint32]float64{1: 50_000}, 5*time.Second)
	within("alone", alone[1], 9_500, 10_500)
	modest := map[uint32]float64{1: 50_000}
	for p := uint32(2); p < 12; p++ {
		modest[p] = 100
	}
	got := offer(newAdmission(10_000), modest, 5*time.Second)
	for p := uint32(2); p < 12; p++ {
		within("modest", got[p], 99, 101)
	}
	within("flooding among modest", got[1], 7_500, 9_500)
	got = offer(newAdmission(10_000), map[uint32]float64{1: 50_000, 2: 50_000}, 5*time.Second)
	within("first of two", got[1], 4_500, 5_500)
	within("second of two", got[2], 4_500, 5_500)
	got = offer(newAdmission(10_000), map[uint32]float64{0: 50_000, 1: 50_000}, 5*time.Second)
	within("elsewhere", got[0], 4_500, 5_500)
	within("a port beside it", got[1], 4_500, 5_500)
}

func TestLimiterForgetsFullBuckets(t *testing.T) {
	t.Parallel()
	l, now := newLimiter[int](1, 1, 2), time.Unix(1_800_000_000, 0)
	if !l.allow(1, now) || l.allow(1, now) || !l.allow(2, now) || l.allow(3, now) {
		t.Error("want one each, and none for a third key while two are in use")
	}
	if now = now.Add(time.Second); !l.allow(3, now) {
		t.Error("a third key gets none though the others are idle")
	}
}

func BenchmarkAdmission(b *testing.B) {
	a, now := newAdmission(1e9), time.Now()
	i := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		i++
		a.allow(i%1000+1, now)
	}
}
