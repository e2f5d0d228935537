package topproc

import (
	"context"
	"testing"
	"time"
)

// awaitLimit is how long Await waits: far longer than anything takes that works.
const awaitLimit = 90 * time.Second

// Await asks until ok says yes; the test fails when that takes over 90 seconds.
func Await(t testing.TB, what string, ok func(context.Context) bool) {
	t.Helper()
	AwaitFor(t, awaitLimit, what, ok)
}

// AwaitFor is Await with another limit.
func AwaitFor(t testing.TB, limit time.Duration, what string, ok func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		if ok(ctx) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v in vain for %s", limit, what)
		case <-time.After(pause):
		}
	}
}
