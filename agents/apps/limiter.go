package apps

import (
	"log/slog"
	"sync"
	"time"
)

// limiter is a token bucket for each of a bounded number of keys.
type limiter[K comparable] struct {
	rate  float64 // tokens a second
	burst float64
	max   int // keys

	mu      sync.Mutex // guards the fields below
	buckets map[K]bucket
}

type bucket struct {
	tokens float64
	filled time.Time
}

func newLimiter[K comparable](rate, burst float64, most int) *limiter[K] {
	return &limiter[K]{rate: rate, burst: burst, max: most, buckets: map[K]bucket{}}
}

// allow takes a token of a key, if there is one. With too many keys the full buckets are forgotten, which changes nothing for them; where that
// does not help, a new key gets none.
func (l *limiter[K]) allow(k K, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[k]
	if !ok {
		if len(l.buckets) >= l.max && !l.sweep(now) {
			return false
		}
		b = bucket{l.burst, now}
	}
	b.tokens = min(l.burst, b.tokens+max(0, now.Sub(b.filled).Seconds())*l.rate)
	b.filled = now
	ok = b.tokens >= 1
	if ok {
		b.tokens--
	}
	l.buckets[k] = b
	return ok
}

func (l *limiter[K]) sweep(now time.Time) bool {
	for k, b := range l.buckets {
		if b.tokens+now.Sub(b.filled).Seconds()*l.rate >= l.burst {
			delete(l.buckets, k)
		}
	}
	return len(l.buckets) < l.max
}

// alarms logs what an operator should see, of each port at most once a minute: guests must not fill the log.
type alarms struct {
	log   *slog.Logger
	limit *limiter[uint32]
}

func newAlarms(log *slog.Logger) *alarms {
	return &alarms{log: log, limit: newLimiter[uint32](1.0/60, 1, 4096)}
}

func (a *alarms) raise(c *Case, message string, args ...any) {
	if a.log == nil || !a.limit.allow(c.Source, c.Now) {
		return
	}
	if c.Port != nil {
		args = append(args, "port", c.Port.ID, "network", c.Port.Network)
	}
	a.log.Warn(message, args...)
}
