package cascade

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// deleteWorker ends a row at every site that has it, and then the row.
type deleteWorker struct{ *Core }

// Work runs one step of the delete; it may run twice. A definite refusal by the
// site (in use by something that Top does not know) puts the row back, with the reason as its fault.
func (w deleteWorker) Work(ctx context.Context, job jobs.Job[deleteArgs]) error {
	r, err := w.Index.Get(ctx, job.Args.ID)
	if err != nil || r.State != index.Deleting {
		return ignoreNotFound(err)
	}
	if err := w.RemoveAll(ctx, r); err != nil {
		var wait *WaitError
		if job.Args.Once && errors.As(err, &wait) && wait.Refused != nil {
			err = wait.Refused
		}
		if !isWait(err) && (definite(err) || lastChance(err, job.Info)) {
			return errors.Join(jobs.Cancel(err), w.undelete(ctx, r, err))
		}
		return w.outcome(err, r.UpdatedAt)
	}
	return w.internal(ctx, func(tx *Tx) error {
		r, err := tx.Load(r.ID)
		if err != nil || r.State != index.Deleting {
			return err
		}
		// Whoever needed the row elsewhere may have begun to make it there since.
		left, err := w.Bindings.OfTopIn(tx.Tx, r.ID)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return jobs.Snooze(heldWait)
		}
		return tx.End(r)
	})
}

// undelete records that a site refused the delete. The row stays visible as failed, and can be deleted again.
func (c *Core) undelete(ctx context.Context, r *index.Resource, cause error) error {
	return c.internal(ctx, func(tx *Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil || row.State != index.Deleting {
			return err
		}
		row.State, row.TaskState, row.Fault = index.Failed, "", FaultOf(cause, c.Now())
		if f, ok := c.makers[row.Kind].(Failer); ok {
			f.Failed(row)
		}
		return tx.Save(row)
	})
}

// RemoveAll ends every bottom of the row; nil when none is left, *WaitError while some are going.
func (c *Core) RemoveAll(ctx context.Context, r *index.Resource) error {
	bound, err := c.Bindings.OfTop(ctx, r.ID)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range bound {
		if err := c.removeOne(ctx, r, b); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeOne ends one bottom and forgets the binding once the site says that it is gone.
func (c *Core) removeOne(ctx context.Context, r *index.Resource, b *binding.Binding) error {
	at, err := c.At(ctx, r, b.Site)
	if err != nil {
		return err
	}
	if !b.Known() {
		return c.removeUnknown(ctx, r, at)
	}
	if b.Adopted {
		return c.forget(ctx, b)
	}
	if b.State != binding.Removing {
		if err := c.requestRemoval(ctx, r, at, b); err != nil {
			return err
		}
	}
	if !lingers(r.Kind) {
		return c.forget(ctx, b)
	}
	obj, err := at.Adaptor.Show(ctx, r.Kind, b.BottomID)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && gone(obj):
		return c.forget(ctx, b)
	case err != nil:
		return err
	case removalFailed(r.Kind, obj):
		// Asked again next time: a driver's error while deleting is often passing.
		b.State = binding.Bound
		if err := c.internal(ctx, func(tx *Tx) error { return c.Bindings.Note(tx.Tx, b) }); err != nil {
			return err
		}
		return &fault.Error{Op: "cascade.removeOne", Site: string(b.Site), Kind: fault.Unavailable, Msg: fmt.Sprintf("The site could not delete %s %s: it is in status %s there.", r.Kind, r.ID, obj.Text("status"))}
	}
	return &WaitError{After: pollAfter(c.now(), r.UpdatedAt), For: fmt.Sprintf("the end of %s %s at %s", r.Kind, r.ID, b.Site)}
}

func (c *Core) requestRemoval(ctx context.Context, r *index.Resource, at At, b *binding.Binding) error {
	done := false
	var err error
	if rm, ok := c.makers[r.Kind].(Remover); ok {
		if done, err = rm.Remove(ctx, r, at, b.BottomID); err != nil {
			return err
		}
	}
	if !done {
		if err := at.Adaptor.Delete(ctx, r.Kind, b.BottomID); err != nil && !fault.Is(err, fault.NotFound) {
			if err := c.notYet(ctx, r, at, b, err); err != nil {
				return err
			}
		}
	}
	b.State = binding.Removing
	return c.internal(ctx, func(tx *Tx) error { return c.Bindings.Note(tx.Tx, b) })
}

// notYet tells a refusal for good from that of a site which is still at it: Cinder deletes no volume that it is making,
// extending or deleting already. Top accepted the delete, so it waits for the end of that; nil says that the bottom is gone.
func (c *Core) notYet(ctx context.Context, r *index.Resource, at At, b *binding.Binding, refusal error) error {
	if !lingers(r.Kind) || !fault.Is(refusal, fault.BadRequest) && !fault.Is(refusal, fault.Conflict) {
		return refusal
	}
	obj, err := at.Adaptor.Show(ctx, r.Kind, b.BottomID)
	status := obj.Text("status")
	var passing error // the refusal, when it may pass
	switch young := c.now().Sub(r.UpdatedAt) < 10*heldWait; {
	case fault.Is(err, fault.NotFound):
		return nil // an earlier attempt's delete, whose answer nobody recorded, ended meanwhile
	case err != nil:
		return refusal
	case inTransition(status):
	case young && status == "available":
		passing = refusal // it was in transition when it refused
	default:
		return refusal
	}
	return &WaitError{Refused: passing, After: pollAfter(c.now(), r.UpdatedAt), For: fmt.Sprintf("%s %s at %s to leave status %s", r.Kind, r.ID, at.Site, status)}
}

// inTransition recognises what Cinder calls a volume, snapshot or backup while it is changing by itself
// (cinder/objects/fields.py): creating, downloading, extending, backing-up, restoring-backup and so on, not error_extending.
func inTransition(status string) bool {
	return strings.HasSuffix(status, "ing") && !strings.HasPrefix(status, "error") || status == "backing-up" || status == "restoring-backup"
}

// removeUnknown ends what an attempt without an answer may have made: it is looked for until the site has settled.
func (c *Core) removeUnknown(ctx context.Context, r *index.Resource, at At) error {
	claim, known, err := c.Bindings.Claim(ctx, r.ID, at.Site, r.Kind, r.ProjectID, c.lease())
	switch {
	case errors.Is(err, binding.ErrHeld):
		return &WaitError{After: heldWait, For: "the worker that is making it"}
	case err != nil:
		return err
	case known != nil:
		return c.removeOne(ctx, r, known)
	}
	obj, err := c.findMade(ctx, claim, r, at)
	if err != nil {
		return errors.Join(err, c.release(ctx, claim, false))
	}
	if obj.ID == "" {
		return c.forget(ctx, &claim.Binding)
	}
	if err := claim.Bind(ctx, obj.ID, r.Generation, false, nil); err != nil {
		return taken(err)
	}
	return &WaitError{After: minPoll, For: "the delete of what was found by its marker"}
}

func (c *Core) forget(ctx context.Context, b *binding.Binding) error {
	return c.internal(ctx, func(tx *Tx) error { return c.Bindings.Forget(tx.Tx, b.TopID, b.Site) })
}

// lingers tells the kinds whose delete is only accepted, and done later.
func lingers(kind sites.Kind) bool {
	switch kind {
	case sites.Server, sites.Volume, sites.Snapshot, sites.Backup:
		return true
	default:
		return false
	}
}

// gone recognises what is shown after its end (Nova shows deleted servers to administrators).
func gone(obj sites.Object) bool {
	s := obj.Text("status")
	return s == "DELETED" || s == "SOFT_DELETED" || s == "deleted"
}

func removalFailed(kind sites.Kind, obj sites.Object) bool {
	if kind == sites.Server {
		task, _ := obj.Body["OS-EXT-STS:task_state"].(string)
		return obj.Text("status") == "ERROR" && task == ""
	}
	return obj.Text("status") == "error_deleting"
}
