package identity

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// How logins that fail are slowed down. A name may fail freeTries times from one
// address; then each failure doubles the wait before the next try from there, up to maxWait.
// Over all addresses it may fail freeEverywhere times, so that one who guesses
// from one machine cannot lock the owner out. forgetAfter a quiet time all is forgiven.
//
// Names that do not exist are slowed down the same way, so that a delay tells
// nothing. Each process counts for itself: with n of them the limits are n-fold.
const (
	freeTries      = 5
	freeEverywhere = 50
	maxWait        = time.Minute
	forgetAfter    = 15 * time.Minute
	maxThrottled   = 20_000 // names remembered; beyond it the quiet ones go, then any
)

// throttle counts failed logins.
type throttle struct {
	now func() time.Time

	mu    sync.Mutex // guards the fields below
	tries map[[sha256.Size]byte]*tries
}

type tries struct {
	failed int
	last   time.Time
	until  time.Time // no try before it
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, tries: map[[sha256.Size]byte]*tries{}}
}

type login struct{ name, address string }

// counter is what one kind of failure is counted under and how many are free. The
// key is a hash, because a name is as long as its sender likes.
type counter struct {
	key  [sha256.Size]byte
	free int
}

func (l login) counters() [2]counter {
	return [2]counter{{keyOf(l.name + "\x00" + l.address), freeTries}, {keyOf(l.name), freeEverywhere}}
}

// allow returns nil when a try may be made now, else fault.Unauthorized with the wait.
func (t *throttle) allow(l login) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, k := range l.counters() {
		if e := t.tries[k.key]; e != nil && now.Before(e.until) {
			wait := int(e.until.Sub(now)/time.Second) + 1
			err := fault.New(fault.Unauthorized, "cascade/identity.Login",
				"Too many failed logins for this name: try again in %d seconds.", wait)
			err.RetryAfter = wait
			return err
		}
	}
	return nil
}

// failed counts a failure.
func (t *throttle) failed(l login) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, k := range l.counters() {
		e := t.tries[k.key]
		if e == nil || now.Sub(e.last) > forgetAfter {
			t.room(now)
			e = &tries{}
			t.tries[k.key] = e
		}
		e.failed++
		e.last = now
		if over := e.failed - k.free; over >= 0 {
			e.until = now.Add(min(time.Second<<min(over, 10), maxWait))
		}
	}
}

// succeeded forgives what failed from this address before.
func (t *throttle) succeeded(l login) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tries, l.counters()[0].key)
}

// room makes place for one more name; mu is held.
func (t *throttle) room(now time.Time) {
	if len(t.tries) < maxThrottled {
		return
	}
	for k, e := range t.tries {
		if now.Sub(e.last) > forgetAfter {
			delete(t.tries, k)
		}
	}
	for k := range t.tries {
		if len(t.tries) < maxThrottled*9/10 {
			return
		}
		delete(t.tries, k)
	}
}
