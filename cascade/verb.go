package cascade

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Verb is one call-through verb on a row that is at a site (cascade/README.md: Recorded or call-through): the
// intent is committed, the site is called once, the result is committed, and
// only then the tenant is answered.
type Verb struct {
	Action string // for the audit log: "server.reboot"
	// Begin validates the verb against the row as it is in the transaction and writes the expected
	// Status and TaskState (and changed Spec columns, quota). It may be nil.
	Begin func(tx *Tx, r *index.Resource) error
	// Call makes the site call. Its context ends when the claim to an answer does.
	Call func(ctx context.Context, at At, bottom ident.BottomID) (sites.Reply, error)
	// Done commits what the accepted call means. It may be nil.
	Done func(tx *Tx, r *index.Resource, reply sites.Reply) error
	// Undo takes back what Begin changed besides Status and TaskState, after a definite refusal. It may be nil.
	Undo func(tx *Tx, r *index.Resource) error
	// Settle follows the row by id afterwards until it leaves transition.
	Settle bool
}

// Run carries out a verb on a row. Errors are Begin's, the site's (with its own
// sentence), or, when the site's answer was lost, fault.Unavailable: the
// settle job then reads what became of it.
func (c *Core) Run(ctx context.Context, caller sites.Caller, id ident.TopID, v Verb) (sites.Reply, error) {
	var before index.Resource
	var r *index.Resource
	var follow jobs.ID
	err := c.Commit(ctx, caller, v.Action, func(tx *Tx) error {
		var err error
		if r, follow, err = c.begin(tx, id, v, &before); err != nil {
			return err
		}
		return tx.Audit(string(id), r.Site)
	})
	if err != nil {
		return sites.Reply{}, err
	}
	reply, err := c.callThrough(ctx, r, v)
	if errors.Is(err, errUndecided) {
		return reply, err
	}
	// The tenant may have gone; the result is committed all the same.
	return reply, errors.Join(err, c.acknowledge(context.WithoutCancel(ctx), r, v, &before, reply, err, follow))
}

func (c *Core) begin(tx *Tx, id ident.TopID, v Verb, before *index.Resource) (*index.Resource, jobs.ID, error) {
	r, err := tx.loadLive(id, v, before)
	if err != nil {
		return nil, 0, err
	}
	job, err := tx.Await(r)
	return r, job, err
}

// loadLive reads the row that a verb is for and has the verb begin.
func (tx *Tx) loadLive(id ident.TopID, v Verb, before *index.Resource) (*index.Resource, error) {
	r, err := tx.Load(id)
	if err != nil {
		return nil, err
	}
	*before = *r
	if r.State != index.Live {
		return nil, fault.New(fault.Conflict, "cascade.Run", "%s %s is %s: it cannot be acted on.", r.Kind, r.ID, r.State)
	}
	if v.Begin == nil {
		return r, nil
	}
	return r, v.Begin(tx, r)
}

// Await saves the row with one verb more outstanding at its site: no observation counts until Answered. The
// returned job decides the verb if this process dies before it can write the answer.
//
// Run awaits the row that it is called for; a verb that changes a second row at the site (the volume of an attach) awaits that itself.
func (tx *Tx) Await(r *index.Resource) (jobs.ID, error) {
	r.VerbNo++
	if err := tx.Save(r); err != nil {
		return 0, err
	}
	return tx.enqueue(settleArgs{ID: r.ID, Verb: r.VerbNo}, r, jobs.Options{RunAt: tx.core.Now().Add(tx.core.timeout + tx.core.timeout/4)})
}

// Answered saves an awaited row whose verb the site has acknowledged or refused, and has the row looked at now.
func (tx *Tx) Answered(r *index.Resource, follow jobs.ID) error {
	r.VerbAckedNo, r.VerbAckedAt = r.VerbNo, tx.core.Now()
	if err := tx.Save(r); err != nil {
		return err
	}
	if err := jobs.Withdraw(tx.Tx, follow); err != nil {
		return err
	}
	return tx.Follow(r)
}

// errUndecided marks an answer that was lost; the row stays outstanding until the settle job has looked.
var errUndecided = errors.New("the site's answer was lost")

func (c *Core) callThrough(ctx context.Context, r *index.Resource, v Verb) (sites.Reply, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	at, err := c.At(ctx, r, r.Site)
	if err != nil {
		return sites.Reply{}, err
	}
	bottom, err := at.Bottom(ctx, r.ID)
	if err != nil {
		return sites.Reply{}, err
	}
	reply, err := v.Call(ctx, at, bottom)
	if fault.Is(err, fault.Ambiguous) {
		c.log.WarnContext(ctx, "answer of a verb was lost", "site", r.Site, "top_id", r.ID, "kind", v.Action, "err", err)
		return reply, &fault.Error{Op: "cascade.Run", Site: string(r.Site), Kind: fault.Unavailable, RetryAfter: 5, Err: errUndecided,
			Msg: "Site " + string(r.Site) + " did not answer; what became of the request shows in the resource's status soon."}
	}
	return reply, err
}

// acknowledge commits the verb's result: Done, or the state before it when the site refused.
func (c *Core) acknowledge(ctx context.Context, r *index.Resource, v Verb, before *index.Resource, reply sites.Reply, cause error, follow jobs.ID) error {
	commit := c.soft
	if cause == nil && v.Done != nil {
		commit = c.internal // what only the site's answer said (the id of an image it makes) is found out by no later look
	}
	return commit(ctx, func(tx *Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil {
			return ignoreNotFound(err)
		}
		// A look that began before this answer says nothing of this verb, also when a later one was answered first.
		overtaken := row.VerbAckedNo > r.VerbNo
		row.VerbAckedNo, row.VerbAckedAt = max(row.VerbAckedNo, r.VerbNo), c.Now()
		if overtaken && cause == nil && v.Settle && !row.Outstanding() {
			row.Status, row.TaskState = r.Status, r.TaskState // such a look may have been stored: expected again, until the next
		}
		switch {
		case cause != nil:
			if row.VerbNo == r.VerbNo { // nothing newer began
				row.Status, row.TaskState = before.Status, before.TaskState
			}
			if v.Undo != nil {
				err = v.Undo(tx, row)
			}
		case v.Done != nil:
			err = v.Done(tx, row, reply)
		}
		if err != nil {
			return err
		}
		if err := tx.Save(row); err != nil {
			return err
		}
		if err := jobs.Withdraw(tx.Tx, follow); err != nil {
			return err
		}
		if !v.Settle || cause != nil {
			return nil
		}
		return tx.Follow(row)
	})
}

// Follow enqueues polls by id until the row leaves transition.
func (tx *Tx) Follow(r *index.Resource) error {
	_, err := tx.enqueue(settleArgs{ID: r.ID}, r, jobs.Options{})
	return err
}

// resume enqueues the job that carries out a verb which waits.
func (tx *Tx) resume(r *index.Resource) error {
	_, err := tx.enqueue(settleArgs{ID: r.ID, Verb: r.VerbNo}, r, jobs.Options{})
	return err
}

// settleWorker polls a row by id until it has settled, and decides verbs whose answer was lost.
type settleWorker struct{ *Core }

// Work runs one poll; it may run twice.
func (w settleWorker) Work(ctx context.Context, job jobs.Job[settleArgs]) error {
	r, err := w.Index.Get(ctx, job.Args.ID)
	if err != nil || r.State != index.Live {
		return ignoreNotFound(err)
	}
	if rs, ok := w.makers[r.Kind].(Resumer); ok && job.Args.Verb > 0 {
		x, err := rs.Waiting(r, job.Args.Verb)
		if err != nil {
			return err
		}
		if x != nil {
			return w.resume(ctx, r, x, job)
		}
	}
	d, decides := w.makers[r.Kind].(Decider)
	if job.Args.Verb > 0 && (r.Outstanding() && job.Args.Verb >= r.VerbNo || decides && d.Open(r, job.Args.Verb)) {
		if err := w.decide(ctx, r, job.Args.Verb, job.CreatedAt); err != nil {
			return w.outcome(err, r.UpdatedAt)
		}
	}
	b, err := w.Bindings.Get(ctx, r.ID, r.Site)
	if err != nil || !b.Known() {
		return err
	}
	if r, err = w.Refresh(ctx, r, r.Site, b.BottomID); err != nil {
		return w.outcome(err, r.UpdatedAt)
	}
	if s, ok := w.makers[r.Kind].(Settler); ok && !s.Settled(r) && r.State == index.Live {
		return jobs.Snooze(pollAfter(w.now(), latest(r.VerbAckedAt, r.CreatedAt)))
	}
	return nil
}

// decide ends a verb whose answer was lost once the site must have carried it
// out or never will, or shows that it did: what the site shows from then on is what became of it.
func (c *Core) decide(ctx context.Context, r *index.Resource, verb int64, began time.Time) error {
	wait := c.settle - c.Now().Sub(began)
	commit := func(*Tx, *index.Resource) error { return nil }
	if d, ok := c.makers[r.Kind].(Decider); ok && d.Open(r, verb) {
		at, err := c.At(ctx, r, r.Site)
		if err != nil {
			return err
		}
		sure, found, err := d.Decide(ctx, r, at, verb)
		if err != nil {
			return undecided(err) // not having looked proves nothing
		}
		if commit = found; sure {
			wait = 0
		}
	}
	if wait > 0 {
		return &WaitError{After: min(wait, maxPoll), For: "the site to settle a verb without an answer"}
	}
	return c.internal(ctx, func(tx *Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil {
			return ignoreNotFound(err)
		}
		if err := commit(tx, row); err != nil {
			return err
		}
		if row.VerbAckedNo < verb {
			row.VerbAckedNo, row.VerbAckedAt = verb, c.Now()
		}
		return tx.Save(row)
	})
}
