package jobs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// Sentinels of what ends an attempt from outside; context.Cause of a worker's
// context returns one of them.
var (
	// ErrClaimLost says that another replica may have taken the job over: what
	// this attempt would commit now must not be committed.
	ErrClaimLost = errors.New("the claim on the job is lost")
	// ErrCancelled says that an operator or a later request cancelled the job.
	ErrCancelled = errors.New("the job was cancelled")
	// ErrStopping says that the engine stops; the job goes back to be claimed again.
	ErrStopping = errors.New("the engine is stopping")
)

type snooze struct{ delay time.Duration }

func (s snooze) Error() string { return fmt.Sprintf("snoozed for %v", s.delay) }

// Snooze returns the result of an attempt that should be made again after d (at
// least 0) and costs nothing: the world is not ready, for instance the site is down.
func Snooze(d time.Duration) error { return snooze{max(d, 0)} }

type cancelled struct{ err error }

func (c cancelled) Error() string { return c.err.Error() }
func (c cancelled) Unwrap() error { return c.err }

// Cancel returns the result of an attempt after which trying again is useless:
// the job ends in failed with err, which must not be nil.
func Cancel(err error) error { return cancelled{err} }

// final holds the faults that repeating the same request cannot change.
var final = map[fault.Kind]bool{
	fault.BadRequest: true, fault.Unauthorized: true, fault.Forbidden: true, fault.NotFound: true, fault.Conflict: true,
	fault.OverQuota: true, fault.TooLarge: true, fault.NotAcceptable: true, fault.NotImplemented: true,
}

// The delay after the n-th failed attempt is minBackoff doubled n-1 times, at
// most maxBackoff, and shortened at random by up to a quarter so that a site that
// comes back is not met by all jobs in one second.
const (
	minBackoff = time.Second
	maxBackoff = 10 * time.Minute
)

func backoff(attempt int) time.Duration {
	d := maxBackoff
	if shift := max(attempt-1, 0); shift < 10 { // 2^10 s is over the maximum
		d = min(minBackoff<<shift, maxBackoff)
	}
	return d - rand.N(d/4)
}

// Outcome is how one attempt went.
type outcome struct {
	name  string // label of the metric
	state State  // what the job becomes
	free  bool   // the attempt does not count
	delay time.Duration
	err   error // to be kept; nil for none
}

// The names of outcomes, for metrics.
const (
	outCompleted = "completed"
	outSnoozed   = "snoozed"
	outRetried   = "retried"
	outFailed    = "failed"
	outCancelled = "cancelled"
	outReturned  = "returned" // the engine stopped
	outLost      = "lost"     // somebody else has it
)

func outcomes() []string {
	return []string{outCompleted, outSnoozed, outRetried, outFailed, outCancelled, outReturned, outLost}
}

// judge decides what becomes of a job whose attempt returned err, when its
// context ended for cause (nil if it did not).
func judge(info Info, err, cause error) outcome {
	var s snooze
	var c cancelled
	var f *fault.Error
	switch {
	case errors.Is(err, ErrClaimLost), err != nil && errors.Is(cause, ErrClaimLost):
		return outcome{name: outLost}
	case err == nil:
		return outcome{name: outCompleted, state: Completed}
	case errors.Is(cause, ErrCancelled):
		return outcome{name: outCancelled, state: Cancelled, err: ErrCancelled}
	case errors.As(err, &s):
		return outcome{name: outSnoozed, state: Scheduled, free: true, delay: s.delay}
	case errors.As(err, &c), final[fault.KindOf(err)]:
		return outcome{name: outFailed, state: Failed, err: err}
	case errors.Is(cause, ErrStopping):
		return outcome{name: outReturned, state: Available, free: true}
	case info.Last():
		return outcome{name: outFailed, state: Failed, err: err}
	}
	delay := backoff(info.Attempt)
	if errors.As(err, &f) {
		delay = max(delay, time.Duration(f.RetryAfter)*time.Second)
	}
	return outcome{name: outRetried, state: Scheduled, delay: delay, err: err}
}

// origin returns the site and request id of the innermost fault that has a
// request id: the bottom's own.
func origin(err error) (site, requestID string) {
	for {
		var f *fault.Error
		if !errors.As(err, &f) {
			return site, requestID
		}
		if f.RequestID != "" {
			site, requestID = f.Site, f.RequestID
		}
		err = f.Err
	}
}
