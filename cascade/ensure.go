package cascade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// WaitError says that nothing is wrong but something is not there yet: look again After.
// To a tenant who waits for an answer it is fault.Unavailable.
type WaitError struct {
	After time.Duration
	For   string // what is waited for
	// Refused is the site's refusal that may pass by itself, and is waited out; nil when nothing was refused.
	Refused error
}

// Error says what is waited for.
func (w *WaitError) Error() string { return "waiting for " + w.For }

// Unwrap gives the error its kind.
func (w *WaitError) Unwrap() error {
	return &fault.Error{Op: "cascade.Ensure", Kind: fault.Unavailable, RetryAfter: int(w.After/time.Second) + 1, Msg: "The request is still being carried out: waiting for " + w.For + "."}
}

// Ensure makes sure that a top resource, with all that it needs, exists at a
// site, and returns its id there. It is idempotent, over crashes and replicas:
// at most one bottom comes to be. A *WaitError says to come back; other errors
// are the site's or the row's own, definite unless Unavailable or Ambiguous.
func (c *Core) Ensure(ctx context.Context, site ident.SiteID, id ident.TopID) (ident.BottomID, error) {
	for {
		bottom, shared, err := c.inFlight(ctx, site, id)
		// What ended the one who did it for all (its tenant went away, its job was lost) did not end us.
		if shared && ctx.Err() == nil && (errors.Is(err, context.Canceled) || errors.Is(err, jobs.ErrClaimLost)) {
			continue
		}
		return bottom, err
	}
}

func (c *Core) ensure(ctx context.Context, site ident.SiteID, id ident.TopID) (ident.BottomID, error) {
	b, err := c.Bindings.Get(ctx, id, site)
	if err != nil {
		return "", err
	}
	if b.Known() && b.Generation > 0 {
		return b.BottomID, nil
	}
	r, err := c.Index.Get(ctx, id)
	if err != nil {
		return "", err
	}
	if r.State == index.Deleting || r.State == index.Deleted {
		return "", fault.New(fault.Conflict, "cascade.Ensure", "%s %s is being deleted.", r.Kind, r.ID)
	}
	m, err := c.maker(r.Kind)
	if err != nil {
		return "", err
	}
	at, err := c.At(ctx, r, site)
	if err != nil {
		return "", err
	}
	if !b.Known() {
		if err := c.ensureNeeds(ctx, m, r, site); err != nil {
			return "", err
		}
		if b, err = c.claimAndMake(ctx, m, r, at); err != nil {
			return "", err
		}
	}
	if err := c.finish(ctx, m, r, at, b); err != nil {
		return "", err
	}
	return b.BottomID, c.catchUp(ctx, r, b)
}

// catchUp pushes what was changed while the bottom was being made: the job of
// that change passed it by, since there was nothing yet to push to.
func (c *Core) catchUp(ctx context.Context, made *index.Resource, b *binding.Binding) error {
	r, err := c.Index.Get(ctx, made.ID)
	if err != nil || r.Generation <= b.Generation || b.Adopted || r.State == index.Deleting || r.State == index.Deleted {
		return err
	}
	return c.pushOne(ctx, r, b)
}

// ensureNeeds ensures what the row needs and waits until each is ready for use.
func (c *Core) ensureNeeds(ctx context.Context, m Maker, r *index.Resource, site ident.SiteID) error {
	needs, err := m.Needs(ctx, r, site)
	if err != nil {
		return err
	}
	for _, id := range needs {
		bottom, err := c.Ensure(ctx, site, id)
		if err != nil {
			return fmt.Errorf("ensure %s for %s %s: %w", id, r.Kind, r.ID, err)
		}
		need, err := c.Index.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := c.grant(ctx, site, need, bottom, r.ProjectID); err != nil {
			return err
		}
		if err := c.ready(ctx, site, need, bottom); err != nil {
			return err
		}
	}
	return nil
}

// ready looks at a needed row until it has settled.
func (c *Core) ready(ctx context.Context, site ident.SiteID, r *index.Resource, bottom ident.BottomID) error {
	s, ok := c.makers[r.Kind].(Settler)
	if !ok || s.Settled(r) {
		return nil
	}
	r, err := c.Refresh(ctx, r, site, bottom)
	if err != nil {
		return err
	}
	if !s.Settled(r) {
		return &WaitError{After: pollAfter(c.now(), r.CreatedAt), For: fmt.Sprintf("%s %s", r.Kind, r.ID)}
	}
	return nil
}

// finish runs the kind's Finisher until it succeeded once for this bottom; generation 0 in a binding says that it did not yet.
func (c *Core) finish(ctx context.Context, m Maker, r *index.Resource, at At, b *binding.Binding) error {
	if b.Generation > 0 {
		return nil
	}
	if f, ok := m.(Finisher); ok {
		if err := f.Finish(ctx, r, at, b.BottomID); err != nil {
			return fmt.Errorf("finish %s %s at %s: %w", r.Kind, r.ID, at.Site, err)
		}
	}
	b.Generation = r.Generation
	return c.DB.Write(ctx, func(tx dbschema.Tx) error { return c.Bindings.Note(tx, b) })
}

func (c *Core) claimAndMake(ctx context.Context, m Maker, r *index.Resource, at At) (*binding.Binding, error) {
	claim, known, err := c.Bindings.Claim(ctx, r.ID, at.Site, r.Kind, r.ProjectID, c.lease())
	if errors.Is(err, binding.ErrHeld) {
		return nil, &WaitError{After: heldWait, For: fmt.Sprintf("%s %s, which another worker is making", r.Kind, r.ID)}
	}
	if err != nil || known != nil {
		return known, err
	}
	if err := c.stillWanted(ctx, claim, r.ID); err != nil {
		return nil, err
	}
	obj, adopted, err := c.make(ctx, claim, m, r, at)
	if err != nil {
		return nil, errors.Join(taken(err), c.release(ctx, claim, surelyNothing(err)))
	}
	generation := int64(0) // Finish comes next
	if _, ok := m.(Finisher); !ok {
		generation = r.Generation
	}
	err = claim.Bind(ctx, obj.ID, generation, adopted, nil)
	if errors.Is(err, binding.ErrLost) {
		if adopted {
			return nil, taken(err)
		}
		return nil, c.late(ctx, r, at, obj.ID)
	}
	if err != nil {
		return nil, err
	}
	c.log.InfoContext(ctx, "binding completed", "site", at.Site, "kind", r.Kind, "top_id", r.ID, "bottom_id", obj.ID)
	b, err := c.Bindings.Get(ctx, r.ID, at.Site)
	if err == nil && !b.Known() {
		err = taken(binding.ErrLost) // forgotten since: its site is being removed
	}
	return b, err
}

// stillWanted looks at the row again once it is claimed. Its delete may have
// begun after the row was read and may have found no binding to wait for: what
// was made then would belong to nobody. The look is a transaction of its own kind: on PostgreSQL a plain read
// could see the row as it was before a delete that saw no claim, and only serializable transactions refuse one of the two.
func (c *Core) stillWanted(ctx context.Context, claim *binding.Claim, id ident.TopID) error {
	var r *index.Resource
	err := c.soft(ctx, func(tx *Tx) error {
		var err error
		r, err = tx.Load(id)
		return err
	})
	if err == nil && (r.State == index.Deleting || r.State == index.Deleted) {
		err = fault.New(fault.Conflict, "cascade.Ensure", "%s %s is being deleted.", r.Kind, r.ID)
	}
	if err == nil {
		return nil
	}
	if r != nil && r.State == index.Deleted && claim.AttemptedAt.IsZero() {
		return errors.Join(err, c.forget(context.WithoutCancel(ctx), &claim.Binding))
	}
	return errors.Join(err, c.release(ctx, claim, false))
}

// taken turns the loss of a claim into a reason to come back: another worker has the pair now, and the row is as good as before.
func taken(err error) error {
	if errors.Is(err, binding.ErrLost) {
		return &WaitError{After: heldWait, For: "the worker that took over"}
	}
	return err
}

// surelyNothing reports whether an error of making proves that the site made nothing. An error of our own proves
// nothing: it may have come after the site was called.
func surelyNothing(err error) bool {
	if isWait(err) || errors.Is(err, binding.ErrLost) {
		return false
	}
	return definite(err) || fault.Is(err, fault.Unauthorized) || fault.Is(err, fault.Unavailable)
}

// release ends a claim even when ctx is over, so that the next worker need not wait for the lease to run out.
func (c *Core) release(ctx context.Context, claim *binding.Claim, definite bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := claim.Release(ctx, definite); err != nil && !errors.Is(err, binding.ErrLost) {
		return err
	}
	return nil
}

func isWait(err error) bool {
	var w *WaitError
	return errors.As(err, &w)
}

// make finds, adopts or creates the bottom of a claimed pair.
func (c *Core) make(ctx context.Context, claim *binding.Claim, m Maker, r *index.Resource, at At) (sites.Object, bool, error) {
	obj, err := c.findMade(ctx, claim, r, at)
	if err != nil || obj.ID != "" {
		return obj, false, err
	}
	if a, ok := m.(Adopter); ok {
		id, err := a.Adopt(ctx, r, at)
		if err != nil || id != "" {
			return sites.Object{ID: id}, true, err
		}
	}
	body, err := m.Body(ctx, r, at)
	if err != nil {
		return sites.Object{}, false, err
	}
	obj, err = c.create(ctx, claim, m, r, at, body)
	return obj, false, err
}

// findMade looks for what an earlier attempt without an answer may have made.
func (c *Core) findMade(ctx context.Context, claim *binding.Claim, r *index.Resource, at At) (sites.Object, error) {
	since, err := claim.Since(ctx)
	if err != nil || claim.AttemptedAt.IsZero() {
		return sites.Object{}, err
	}
	found, err := at.Adaptor.FindMarked(ctx, r.Kind, r.ID)
	if err != nil {
		return sites.Object{}, undecided(err)
	}
	if obj, err := c.unbound(ctx, r, at, found); err != nil || obj.ID != "" {
		return obj, err
	}
	if since < c.settle {
		// The site may still carry out what it was sent: a second create now could make a second bottom.
		return sites.Object{}, &WaitError{After: min(c.settle-since, maxPoll), For: fmt.Sprintf("site %s to settle an attempt without an answer", at.Site)}
	}
	return sites.Object{}, nil
}

// unbound returns the first of the marked objects that stands for nothing else:
// images inherit properties from what they were made of, the marker among them. More than one is the sweeper's, which keeps the bound one.
func (c *Core) unbound(ctx context.Context, r *index.Resource, at At, found []sites.Object) (sites.Object, error) {
	ids := make([]ident.BottomID, len(found))
	for i, o := range found {
		ids[i] = o.ID
	}
	tops, err := at.Tops(ctx, r.Kind, ids...)
	if err != nil {
		return sites.Object{}, err
	}
	for _, o := range found {
		if top, bound := tops[o.ID]; !bound || top == r.ID {
			return o, nil
		}
	}
	return sites.Object{}, nil
}

// undecided makes a failed look-up keep the mark of the attempt: not having looked proves nothing.
func undecided(err error) error {
	return &fault.Error{Op: "cascade.findMade", Kind: fault.Ambiguous, Err: err}
}

func (c *Core) create(ctx context.Context, claim *binding.Claim, m Maker, r *index.Resource, at At, body sites.Body) (sites.Object, error) {
	session := at.Adaptor
	if e, ok := m.(Elevator); ok {
		var err error
		if session, err = e.Session(ctx, r, at, body); err != nil {
			return sites.Object{}, err
		}
	}
	if err := claim.Attempt(ctx); err != nil {
		return sites.Object{}, err
	}
	if creator, ok := m.(Creator); ok {
		return c.held(ctx, claim, func(ctx context.Context) (sites.Object, error) { return creator.Create(ctx, r, at, body) })
	}
	// A replica that was paused past its lease must not send: another may have begun. The deadline is taken before the
	// claim is looked at, so that a pause after that leaves no time to send.
	deadline := time.Now().Add(c.timeout)
	if claim.Left() < c.timeout {
		return sites.Object{}, &WaitError{After: heldWait, For: "a claim that lasts long enough"}
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return session.Create(ctx, r.Kind, body, sites.CreateOptions{Marker: r.ID})
}

// late is for a worker that came back from a create after its claim was lost.
// If another's bottom was bound meanwhile, or the row is gone, ours is one too many and goes.
func (c *Core) late(ctx context.Context, r *index.Resource, at At, ours ident.BottomID) error {
	// The job's own context ends with its lease, which is mostly gone as well. The other's create
	// takes no longer than one call; a Top that stops leaves it to the sweep.
	job := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(job), c.timeout+10*heldWait)
	defer cancel()
	for {
		b, err := c.Bindings.Get(ctx, r.ID, at.Site)
		switch {
		case err != nil:
			return err
		case b.Known() && b.BottomID == ours: // found by its marker
			return &WaitError{After: heldWait, For: "the worker that took over"}
		case b.Known() || b == nil:
			c.log.WarnContext(ctx, "second bottom was deleted", "site", at.Site, "kind", r.Kind, "top_id", r.ID, "bottom_id", ours)
			if err := at.Adaptor.Delete(ctx, r.Kind, ours); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			return &WaitError{After: heldWait, For: "the worker that took over"}
		case b.ClaimUntil.IsZero() || errors.Is(context.Cause(job), jobs.ErrStopping): // nobody is at it: the next finds ours by its marker
			return &WaitError{After: heldWait, For: "the worker that took over"}
		}
		select { // another is making it: only when it has ended is it known whose remains
		case <-ctx.Done():
			return &WaitError{After: heldWait, For: "the worker that took over"}
		case <-time.After(heldWait):
		}
	}
}
