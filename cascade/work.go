package cascade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

type createArgs struct {
	ID ident.TopID `json:"id"`
}

// Kind names the job.
func (createArgs) Kind() string { return "cascade.create" }

type changeArgs struct {
	ID ident.TopID `json:"id"`
}

// Kind names the job.
func (changeArgs) Kind() string { return "cascade.change" }

type deleteArgs struct {
	ID ident.TopID `json:"id"`
	// Once takes the first refusal of the site for its last word, also one that may pass: who asked will ask again.
	Once bool `json:"once,omitempty"`
}

// Kind names the job.
func (deleteArgs) Kind() string { return "cascade.delete" }

type settleArgs struct {
	ID   ident.TopID `json:"id"`
	Verb int64       `json:"verb"` // the verb's number; 0 only polls
}

// Kind names the job.
func (settleArgs) Kind() string { return "cascade.settle" }

// RegisterJobs adds the engine's kinds of job; it fails when one has a worker already.
func (c *Core) RegisterJobs(e *jobs.Engine) error {
	return errors.Join(
		jobs.Add(e, createWorker{c}), jobs.Add(e, changeWorker{c}), jobs.Add(e, deleteWorker{c}), jobs.Add(e, settleWorker{c}),
	)
}

// siteWait is how long a job stays away from a site that does not answer; it grows with the wait so far.
func siteWait(now, since time.Time) time.Duration {
	return min(max(now.Sub(since)/4, time.Second), 30*time.Second)
}

// outcome turns an error of the engine into what the job engine should do: wait,
// come back later at no cost of an attempt, end, or retry.
func (c *Core) outcome(err error, since time.Time) error {
	var w *WaitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &w):
		return jobs.Snooze(w.After)
	case definite(err):
		return jobs.Cancel(err)
	case fault.Is(err, fault.Internal):
		return err // ours: counted attempts, then visible as failed
	default:
		return jobs.Snooze(siteWait(c.now(), since))
	}
}

// definite reports whether repeating cannot help: the request itself, or the site's verdict on it, is the cause.
func definite(err error) bool {
	switch fault.KindOf(err) {
	case fault.BadRequest, fault.Forbidden, fault.NotFound, fault.Conflict, fault.OverQuota, fault.TooLarge, fault.NotImplemented, fault.NotAcceptable:
		return true
	default:
		return false
	}
}

// lastChance reports whether a failure of our own ends the job: the row must then say so, since nobody comes back to it.
func lastChance(err error, job jobs.Info) bool { return fault.Is(err, fault.Internal) && job.Last() }

// createWorker makes a recorded row true at its site and follows it until it has settled.
type createWorker struct{ *Core }

// Work runs one step of the create; it may run twice.
func (w createWorker) Work(ctx context.Context, job jobs.Job[createArgs]) error {
	r, err := w.Index.Get(ctx, job.Args.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.State != index.Creating && r.State != index.Live {
		return nil // deleted meanwhile, or failed
	}
	err = w.makeOne(ctx, r)
	if err == nil || isWait(err) || !definite(err) && !lastChance(err, job.Info) {
		return w.outcome(err, r.CreatedAt)
	}
	if failErr := w.Fail(ctx, r.ID, err); failErr != nil {
		return failErr
	}
	return jobs.Cancel(err)
}

// makeOne ensures the row at its site, records that it lives, and waits for its final status.
func (c *Core) makeOne(ctx context.Context, r *index.Resource) error {
	bottom, err := c.Ensure(ctx, r.Site, r.ID)
	if err != nil {
		return err
	}
	if r, err = c.Refresh(ctx, r, r.Site, bottom); err != nil {
		return err
	}
	if s, ok := c.makers[r.Kind].(Settler); ok && !s.Settled(r) && r.State == index.Live {
		return &WaitError{After: pollAfter(c.now(), r.CreatedAt), For: fmt.Sprintf("%s %s", r.Kind, r.ID)}
	}
	if r.State != index.Live {
		return nil
	}
	return c.Push(ctx, r) // what was changed between the create request's making and its bottom's binding had no job of its own
}

// Fail records that a create ended in err. The row can only be deleted then.
func (c *Core) Fail(ctx context.Context, id ident.TopID, cause error) error {
	return c.internal(ctx, func(tx *Tx) error {
		r, err := tx.Load(id)
		if err != nil || (r.State != index.Creating && r.State != index.Live) {
			return err
		}
		r.State, r.Status, r.TaskState = index.Failed, "ERROR", ""
		r.Fault = FaultOf(cause, tx.core.Now())
		if f, ok := tx.core.makers[r.Kind].(Failer); ok {
			f.Failed(r)
		}
		return tx.Save(r)
	})
}

// FaultOf renders an error as a resource's fault: what a tenant may read of it.
func FaultOf(err error, at time.Time) *index.Fault {
	f := &index.Fault{Code: http.StatusInternalServerError, Message: fault.Message(err), At: at}
	switch fault.KindOf(err) {
	case fault.BadRequest:
		f.Code = http.StatusBadRequest
	case fault.Forbidden, fault.OverQuota:
		f.Code = http.StatusForbidden
	case fault.NotFound:
		f.Code = http.StatusNotFound
	case fault.Conflict:
		f.Code = http.StatusConflict
	case fault.Unavailable, fault.Ambiguous:
		f.Code = http.StatusServiceUnavailable
	}
	var e *fault.Error
	if errors.As(err, &e) {
		f.Site, f.RequestID = ident.SiteID(e.Site), e.RequestID
	}
	if f.Message == "" {
		f.Message = "An unexpected error occurred; the operator finds it by the request id."
	}
	return f
}

// changeWorker pushes a row's Spec to every site that has it.
type changeWorker struct{ *Core }

// Work runs one step of the change; it may run twice.
func (w changeWorker) Work(ctx context.Context, job jobs.Job[changeArgs]) error {
	r, err := w.Index.Get(ctx, job.Args.ID)
	if err != nil || r.State != index.Live {
		return ignoreNotFound(err)
	}
	err = w.Push(ctx, r)
	if err == nil && r.Fault == nil || err != nil && (isWait(err) || !definite(err)) {
		return w.outcome(err, r.UpdatedAt)
	}
	return errors.Join(w.outcome(err, r.UpdatedAt), w.refused(ctx, r, err))
}

// refused notes in the row that a site refused its change, so that Top and the
// site do not part in silence; a change that is carried out clears the note.
func (w changeWorker) refused(ctx context.Context, r *index.Resource, cause error) error {
	return w.internal(ctx, func(tx *Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil || row.State != index.Live || row.Generation != r.Generation {
			return err
		}
		switch {
		case cause != nil:
			row.Fault = FaultOf(cause, w.Now())
		case row.Kind == sites.Server: // its fault is the server's own
			return nil
		default:
			row.Fault = nil
		}
		return w.Index.SaveQuietly(tx.Tx, row)
	})
}

// Push brings every bottom of the row to the row's generation.
func (c *Core) Push(ctx context.Context, r *index.Resource) error {
	bound, err := c.Bindings.OfTop(ctx, r.ID)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range bound {
		if b.Known() && b.Generation > 0 && b.Generation < r.Generation && !b.Adopted {
			errs = append(errs, c.pushOne(ctx, r, b))
		}
	}
	// What will pass comes first, since the first decides what becomes of the job: a refusal by one site must not
	// keep from another, which is down for now, a rule that was taken out of a group.
	slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(rank(a), rank(b)) })
	return errors.Join(errs...)
}

func rank(err error) int {
	if err == nil || !definite(err) {
		return 0
	}
	return 1
}

func (c *Core) pushOne(ctx context.Context, r *index.Resource, b *binding.Binding) error {
	m, err := c.maker(r.Kind)
	if err != nil {
		return err
	}
	at, err := c.At(ctx, r, b.Site)
	if err != nil {
		return err
	}
	if err := c.ensureNeeds(ctx, m, r, b.Site); err != nil {
		return err
	}
	if ch, ok := m.(Changer); ok {
		err = ch.Change(ctx, r, at, b.BottomID)
	} else {
		var body sites.Body
		if body, err = m.Body(ctx, r, at); err == nil {
			_, err = at.Adaptor.Update(ctx, r.Kind, b.BottomID, body)
		}
	}
	if err != nil {
		return fmt.Errorf("change %s %s at %s: %w", r.Kind, r.ID, b.Site, err)
	}
	return c.internal(ctx, func(tx *Tx) error {
		now, err := c.Bindings.GetIn(tx.Tx, r.ID, b.Site) // the kind may have noted something while it changed
		if err != nil || now == nil {
			return err
		}
		now.Generation = r.Generation
		return c.Bindings.Note(tx.Tx, now)
	})
}

func ignoreNotFound(err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
