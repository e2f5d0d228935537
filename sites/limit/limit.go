// Package limit keeps one site from hurting the rest and from being hurt: the
// calls of all its accounts share a bound on how many go on at once, a time
// limit each, and a circuit breaker that answers for a dead site at once.
package limit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Config bounds what one site is asked. A zero member takes its default.
type Config struct {
	// Concurrency is how many calls go on at once (32: a Nova or Neutron API has a few dozen workers).
	Concurrency int
	// Transfers is how many images move at once, besides the calls (4).
	Transfers int
	// Timeout bounds one call once it has begun (60 s). Listings, probes and transfers are bounded by the
	// adaptor, part by part.
	Timeout time.Duration
	// OpenAfter is how many failures in a row open the breaker (5). Fewer would take a restart of one of a
	// site's workers for the site.
	OpenAfter int
	// CloseAfter is how many good answers in a row close it again (2).
	CloseAfter int
	// OpenFor is how long it stays open before one call is let through as a trial (5 s); each trial that
	// fails doubles it, up to MaxOpenFor (60 s).
	OpenFor    time.Duration
	MaxOpenFor time.Duration
	// OnChange is told each new state of the breaker, in order, while no lock is held. May be nil.
	OnChange func(State)
	Metrics  *Metrics         // nil: nothing is counted
	Now      func() time.Time // nil: time.Now
	Random   func() float64   // in [0,1), for jitter; nil: math/rand
}

// defaults fills in what is zero.
func (c Config) defaults() Config {
	for _, n := range []struct {
		to   *int
		from int
	}{{&c.Concurrency, 32}, {&c.Transfers, 4}, {&c.OpenAfter, 5}, {&c.CloseAfter, 2}} {
		if *n.to <= 0 {
			*n.to = n.from
		}
	}
	for _, d := range []struct {
		to   *time.Duration
		from time.Duration
	}{{&c.Timeout, time.Minute}, {&c.OpenFor, 5 * time.Second}, {&c.MaxOpenFor, time.Minute}} {
		if *d.to <= 0 {
			*d.to = d.from
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	return c
}

// Phase is the state of a breaker.
type Phase string

// The phases.
const (
	Closed   Phase = "closed"    // calls pass
	Open     Phase = "open"      // calls are refused until State.RetryAt
	HalfOpen Phase = "half-open" // one call at a time passes, as a trial
)

// State is what a limiter can tell of its site.
type State struct {
	Site     ident.SiteID
	Phase    Phase
	Since    time.Time // when the phase began
	RetryAt  time.Time // when a trial is let through; zero unless Open
	Failures int       // in a row
	Reason   string    // of the last failure, for the operator
	Running  int       // calls and transfers that go on
	Waiting  int       // calls that wait for a slot
}

// Limiter bounds the calls to one site. It is shared by the adaptors of all its accounts.
type Limiter struct {
	site      ident.SiteID
	conf      Config
	calls     *semaphore.Weighted
	transfers *semaphore.Weighted

	mu      sync.Mutex // guards the fields below
	state   State
	good    int // answers in a row while half-open
	trial   bool
	openFor time.Duration
	news    []State // not yet told to OnChange

	telling sync.Mutex // held by whoever tells

	counting sync.RWMutex // guards the field below; taken after mu
	retired  bool
}

// New returns the limiter of one site.
func New(site ident.SiteID, c Config) *Limiter {
	c = c.defaults()
	c.Metrics.begin(site)
	return &Limiter{site: site, conf: c, openFor: c.OpenFor,
		calls: semaphore.NewWeighted(int64(c.Concurrency)), transfers: semaphore.NewWeighted(int64(c.Transfers)),
		state: State{Site: site, Phase: Closed, Since: c.Now()}}
}

// Retire ends the counting for a site that was removed and drops its series, for good: calls that are still under way, or come
// late by an adaptor that somebody kept, are limited as before and counted no more.
func (l *Limiter) Retire() {
	l.counting.Lock()
	defer l.counting.Unlock()
	l.retired = true
	l.conf.Metrics.Forget(l.site)
}

// tally counts, unless the site was removed.
func (l *Limiter) tally(count func(*Metrics)) {
	l.counting.RLock()
	defer l.counting.RUnlock()
	if !l.retired {
		count(l.conf.Metrics)
	}
}

// State returns the present state.
func (l *Limiter) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// sort says how a call is bounded.
type sort uint8

const (
	quick    sort = iota // by the slots of calls and Config.Timeout
	long                 // by the slots of calls; the adaptor bounds its parts
	transfer             // by the slots of transfers
)

// ticket is the leave to make one call; done ends it.
type ticket struct {
	limiter *Limiter
	slots   *semaphore.Weighted
	caller  context.Context //nolint:containedctx // to tell the caller's end from the site's silence
	began   time.Time
	trial   bool
	once    sync.Once
}

// admit waits for a slot and passes the breaker.
func (l *Limiter) admit(ctx context.Context, op string, s sort) (*ticket, error) {
	if err := l.refused(op); err != nil { // before the queue: a dead site's callers must not wait
		l.tally(func(m *Metrics) { m.turnedAway(l.site, outcomeRefused) })
		return nil, err
	}
	t := &ticket{limiter: l, slots: l.calls, caller: ctx}
	if s == transfer {
		t.slots = l.transfers
	}
	l.count(func(st *State) { st.Waiting++ })
	err := t.slots.Acquire(ctx, 1)
	l.count(func(st *State) { st.Waiting-- })
	if err != nil {
		l.tally(func(m *Metrics) { m.turnedAway(l.site, outcomeBusy) })
		return nil, &fault.Error{Op: op, Site: string(l.site), Kind: fault.Unavailable, Err: err,
			Msg: fmt.Sprintf("site %s is busy: no place became free in time", l.site)}
	}
	err = l.pass(op, t, s)
	l.tell()
	if err != nil {
		t.slots.Release(1)
		l.tally(func(m *Metrics) { m.turnedAway(l.site, outcomeRefused) })
		return nil, err
	}
	t.began = l.conf.Now()
	return t, nil
}

func (l *Limiter) count(change func(*State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.state)
	l.tally(func(m *Metrics) { m.state(l.state) })
}

// refused answers for an open breaker.
func (l *Limiter) refused(op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Phase == Open && l.conf.Now().Before(l.state.RetryAt) {
		return l.refusal(op)
	}
	return nil
}

// refusal is called with the mutex held.
func (l *Limiter) refusal(op string) error {
	wait := 1
	if d := l.state.RetryAt.Sub(l.conf.Now()); d > time.Second {
		wait = int((d + time.Second - 1) / time.Second)
	}
	msg := fmt.Sprintf("site %s does not answer; it is tried again in %d s", l.site, wait)
	return &fault.Error{Op: op, Site: string(l.site), Kind: fault.Unavailable, RetryAfter: wait, Msg: msg, Err: errOpen{l.state.Reason}}
}

// errOpen is the cause of a refusal.
type errOpen struct{ reason string }

// Error implements error.
func (e errOpen) Error() string { return "breaker open: " + e.reason }

// pass lets a call through the breaker or refuses it.
func (l *Limiter) pass(op string, t *ticket, s sort) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Phase == Open {
		if l.conf.Now().Before(l.state.RetryAt) {
			return l.refusal(op)
		}
		l.enter(HalfOpen)
	}
	if l.state.Phase == HalfOpen {
		// A transfer takes too long to be a trial.
		if l.trial || s == transfer {
			return l.refusal(op)
		}
		l.trial, t.trial = true, true
	}
	l.state.Running++
	l.tally(func(m *Metrics) { m.state(l.state) })
	return nil
}

// enter changes the phase; the mutex is held.
func (l *Limiter) enter(p Phase) {
	l.state.Phase, l.state.Since, l.good = p, l.conf.Now(), 0
	l.state.RetryAt = time.Time{}
	if p == Open {
		// Jitter keeps the replicas of Top from trying a site in step.
		l.state.RetryAt = l.state.Since.Add(time.Duration(float64(l.openFor) * (0.8 + 0.4*l.conf.Random())))
	}
	if l.conf.OnChange != nil {
		l.news = append(l.news, l.state)
	}
}

// tell passes new states on, in order, whoever made them.
func (l *Limiter) tell() {
	for l.untold() && l.telling.TryLock() {
		for {
			l.mu.Lock()
			if len(l.news) == 0 {
				l.mu.Unlock()
				break
			}
			next := l.news[0]
			l.news = l.news[1:]
			l.mu.Unlock()
			l.conf.OnChange(next)
		}
		l.telling.Unlock()
	}
}

func (l *Limiter) untold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.news) > 0
}

// done gives the slot back and tells the breaker what came of the call.
func (t *ticket) done(err error) {
	t.once.Do(func() {
		t.slots.Release(1)
		l := t.limiter
		l.tally(func(m *Metrics) { m.called(l.site, l.conf.Now().Sub(t.began), err) })
		l.judge(t, err)
		l.tell()
	})
}

// judge lets the breaker learn from a call that ended.
func (l *Limiter) judge(t *ticket, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Running--
	if t.trial {
		l.trial = false
	}
	switch t.verdict(err) {
	case answered:
		l.succeed(t)
	case failed:
		l.fail(t, err)
	}
	l.tally(func(m *Metrics) { m.state(l.state) })
}

// verdict is what a call says of its site.
type verdict uint8

const (
	nothing verdict = iota
	answered
	failed
)

// patience is how long a caller must have waited before its giving up counts against the site.
const patience = 10 * time.Second

func (t *ticket) verdict(err error) verdict {
	if err == nil {
		return answered
	}
	kind := fault.KindOf(err)
	if kind != fault.Unavailable && kind != fault.Ambiguous {
		if kind == fault.Internal {
			return nothing // the caller's own, such as of the function given to List
		}
		return answered
	}
	if retryAfter(err) > 0 {
		return nothing // it answered, and said when it will have time
	}
	if t.caller.Err() != nil && t.limiter.conf.Now().Sub(t.began) < min(patience, t.limiter.conf.Timeout/2) {
		return nothing
	}
	return failed
}

// succeed and fail are called with the mutex held.
func (l *Limiter) succeed(t *ticket) {
	switch l.state.Phase {
	case Closed:
		l.state.Failures, l.state.Reason = 0, ""
	case HalfOpen:
		if !t.trial {
			return // begun before the breaker opened
		}
		if l.good++; l.good >= l.conf.CloseAfter {
			l.state.Failures, l.state.Reason, l.openFor = 0, "", l.conf.OpenFor
			l.enter(Closed)
		}
	}
}

func (l *Limiter) fail(t *ticket, err error) {
	l.state.Failures++
	l.state.Reason = fault.Message(err)
	switch {
	case l.state.Phase == Closed && l.state.Failures >= l.conf.OpenAfter:
		l.enter(Open)
	case l.state.Phase == HalfOpen && t.trial:
		l.openFor = min(2*l.openFor, l.conf.MaxOpenFor)
		l.enter(Open)
	}
}

// run makes one call under the limits.
func run[T any](ctx context.Context, l *Limiter, op string, s sort, call func(context.Context) (T, error)) (got T, err error) {
	t, err := l.admit(ctx, op, s)
	if err != nil {
		return got, err
	}
	defer func() { t.done(err) }()
	if s == quick {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.conf.Timeout)
		defer cancel()
	}
	return call(ctx)
}

// do is run for a call that returns only an error.
func do(ctx context.Context, l *Limiter, op string, s sort, call func(context.Context) error) error {
	_, err := run(ctx, l, op, s, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

var _ sites.Adaptor = (*Adaptor)(nil)
