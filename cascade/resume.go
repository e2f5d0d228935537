package cascade

import (
	"context"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Resumer carries out verbs that were accepted before what they need was at the site.
type Resumer interface {
	// Waiting returns the first of the row's verbs, up to a number, that was accepted and has not been carried out; nil when there is none.
	Waiting(r *index.Resource, verb int64) (*Waiting, error)
}

// Waiting is a verb that was accepted (Core.Accept) and waits for what it needs.
type Waiting struct {
	Verb              // without Begin
	No                int64
	Needs             []ident.TopID
	Status, TaskState string    // before the verb
	SentAt            time.Time // when the site was last told; zero for never
	// Sent notes in the row, which may have changed, that the site is told now. It reports false when it was told meanwhile,
	// or the verb has come to its end: then somebody else carries it out.
	Sent func(r *index.Resource, at time.Time) (bool, error)
	// Carried reports whether the site has carried the verb out, or is at it.
	Carried func(ctx context.Context, at At, bottom ident.BottomID) (bool, error)
	// Refused writes into the row why the verb came to nothing; Undo has run.
	Refused func(r *index.Resource, cause error) error
}

// IsWait reports whether an error says that something is not there yet: a *WaitError.
func IsWait(err error) bool { return isWait(err) }

// Accept commits a verb's intent as Run does and leaves it to a job to carry it
// out, once what it needs is at the site. The verb's Begin must have the row's Waiting return it, under the number after the row's.
func (c *Core) Accept(ctx context.Context, caller sites.Caller, id ident.TopID, v Verb) error {
	return c.Commit(ctx, caller, v.Action, func(tx *Tx) error {
		var before index.Resource
		r, err := tx.loadLive(id, v, &before)
		if err != nil {
			return err
		}
		r.VerbNo++
		if err := tx.Save(r); err != nil {
			return err
		}
		if err := tx.resume(r); err != nil {
			return err
		}
		return tx.Audit(string(id), r.Site)
	})
}

// resume takes a waiting verb one step further. Several jobs may try at once: each verb's own, and those of the verbs after it.
func (w settleWorker) resume(ctx context.Context, r *index.Resource, x *Waiting, job jobs.Job[settleArgs]) error {
	err := w.ensureAll(ctx, r, x.Needs)
	if err != nil {
		if isWait(err) || !definite(err) && !lastChance(err, job.Info) {
			return w.outcome(err, r.UpdatedAt)
		}
		return w.endWaiting(ctx, r, x, job.Args.Verb, sites.Reply{}, err)
	}
	if !x.SentAt.IsZero() {
		if wait := w.settle - w.Now().Sub(x.SentAt); wait > 0 {
			return jobs.Snooze(min(wait, maxPoll))
		}
		carried, err := w.carried(ctx, r, x)
		if err != nil {
			return w.outcome(undecided(err), r.UpdatedAt)
		}
		if carried {
			return w.endWaiting(ctx, r, x, job.Args.Verb, sites.Reply{}, nil)
		}
	}
	mine := false
	err = w.internal(ctx, func(tx *Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil {
			return err
		}
		if mine, err = x.Sent(row, w.Now()); err != nil || !mine {
			return err
		}
		return tx.Save(row)
	})
	if err != nil {
		return err
	}
	if !mine {
		return jobs.Snooze(minPoll)
	}
	reply, err := w.callThrough(ctx, r, x.Verb)
	if err != nil && !definite(err) {
		return jobs.Snooze(maxPoll) // whether it was carried out is looked at when the site has settled
	}
	return w.endWaiting(ctx, r, x, job.Args.Verb, reply, err)
}

func (c *Core) ensureAll(ctx context.Context, r *index.Resource, ids []ident.TopID) error {
	for _, id := range ids {
		if _, err := c.EnsureFor(ctx, r.Site, id, r.ProjectID); err != nil {
			return err
		}
	}
	return nil
}

func (c *Core) carried(ctx context.Context, r *index.Resource, x *Waiting) (bool, error) {
	at, err := c.At(ctx, r, r.Site)
	if err != nil {
		return false, err
	}
	bottom, err := at.Bottom(ctx, r.ID)
	if err != nil {
		return false, err
	}
	return x.Carried(ctx, at, bottom)
}

// endWaiting commits what became of a waiting verb. The job of a later one, numbered verb, goes on to that.
func (c *Core) endWaiting(ctx context.Context, r *index.Resource, x *Waiting, verb int64, reply sites.Reply, cause error) error {
	mine, before := *r, *r
	mine.VerbNo, before.Status, before.TaskState = x.No, x.Status, x.TaskState
	v := x.Verb
	v.Undo = func(tx *Tx, row *index.Resource) error {
		if x.Undo != nil {
			if err := x.Undo(tx, row); err != nil {
				return err
			}
		}
		return x.Refused(row, cause)
	}
	err := c.acknowledge(ctx, &mine, v, &before, reply, cause, 0)
	switch {
	case err != nil:
		return err
	case x.No < verb:
		return jobs.Snooze(minPoll)
	case cause != nil:
		return jobs.Cancel(cause)
	default:
		return nil
	}
}
