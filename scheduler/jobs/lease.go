package jobs

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
)

// claim is one engine's right to work on a job, for as long as its lease lasts.
type claim struct {
	id    ID
	token string
	now   func() time.Time
	until atomic.Pointer[time.Time] // the lease's end by this machine's clock, never later than the database's
	end   context.CancelCauseFunc   // ends the worker's context
}

// left returns how much of the lease remains. It takes the smaller by the
// monotonic and by the wall clock: the first stands still while a virtual
// machine is suspended, the second may be set back.
func (c *claim) left() time.Duration {
	now, until := c.now(), *c.until.Load()
	return min(until.Sub(now), until.Round(0).Sub(now.Round(0)))
}

func (c *claim) extend(until time.Time) { c.until.Store(&until) }

// LeaseLeft returns how long this attempt surely holds the job; it grows again
// with each heartbeat, up to the lease. A site call is started only when
// LeaseLeft is over the call's timeout. At most 0 means that the job may have
// been taken over.
func (j Job[A]) LeaseLeft() time.Duration {
	if j.claim == nil {
		return time.Hour
	}
	return j.claim.left()
}

// Guard makes the transaction depend on this attempt still holding the job: it
// returns ErrClaimLost, wrapped, when it does not, and else nobody can take the
// job over before the transaction has ended. Every commit of a worker begins with it.
func (j Job[A]) Guard(tx dbschema.Tx) error {
	if j.claim == nil {
		return nil
	}
	return guard(tx, j.claim.id, j.claim.token)
}

// leaseContext has the lease's end as its deadline, which moves: a context made
// from it with a timeout never outlives the lease as known at that moment.
type leaseContext struct {
	context.Context
	claim *claim
}

// Deadline returns the lease's end by this machine's clock.
func (c leaseContext) Deadline() (time.Time, bool) {
	until := *c.claim.until.Load()
	if earlier, ok := c.Context.Deadline(); ok && earlier.Before(until) {
		return earlier, true
	}
	return until, true
}

// claimKey finds the claim in a worker's context.
type claimKey struct{}

// Value returns the claim for Guard, else what the context below has.
func (c leaseContext) Value(key any) any {
	if key == (claimKey{}) {
		return c.claim
	}
	return c.Context.Value(key)
}

// Guard is Job.Guard for code that a worker calls and that has only its context.
// It returns nil when ctx is not a worker's, as in a request of a tenant.
func Guard(ctx context.Context, tx dbschema.Tx) error {
	c, ok := ctx.Value(claimKey{}).(*claim)
	if !ok {
		return nil
	}
	return guard(tx, c.id, c.token)
}
