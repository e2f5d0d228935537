package cascade

import (
	"context"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Tx is one transaction of the engine: rows, references, quota, jobs and the
// audit event appear together or not at all. It is valid inside Commit's
// function only, which may run more than once: load rows inside it.
type Tx struct {
	dbschema.Tx
	Caller sites.Caller
	ctx    context.Context //nolint:containedctx // lives no longer than Commit
	core   *Core
	action string
}

// Commit runs fn in one transaction on behalf of the caller. Action names the
// verb for the audit log ("server.create"); the event's targets are the rows that fn inserts or names by Audit.
func (c *Core) Commit(ctx context.Context, caller sites.Caller, action string, fn func(tx *Tx) error) error {
	return c.DB.Write(ctx, func(t dbschema.Tx) error {
		return fn(&Tx{Tx: t, Caller: caller, ctx: ctx, core: c, action: action})
	})
}

// soft is internal for what is found out again when the machine loses power
// right afterwards (dbschema.WriteSoft): what a site showed or answered. A verb whose answer is lost stays outstanding and is decided by a look.
func (c *Core) soft(ctx context.Context, fn func(tx *Tx) error) error {
	return c.DB.WriteSoft(ctx, func(t dbschema.Tx) error {
		if err := jobs.Guard(ctx, t); err != nil {
			return err
		}
		return fn(&Tx{Tx: t, ctx: ctx, core: c})
	})
}

// internal is Commit for the engine's own changes, which no caller made.
// A job's changes are made only while the job's claim holds (jobs.Guard).
func (c *Core) internal(ctx context.Context, fn func(tx *Tx) error) error {
	return c.Commit(ctx, sites.Caller{}, "", func(tx *Tx) error {
		if err := jobs.Guard(ctx, tx.Tx); err != nil {
			return err
		}
		return fn(tx)
	})
}

// Internal is Commit for what workers and reconcilers change by themselves; it leaves no audit event.
func (c *Core) Internal(ctx context.Context, fn func(tx *Tx) error) error { return c.internal(ctx, fn) }

// Context is the context of Commit.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Insert records a new row, reserves its quota (Usage), adds its references and an audit event. Its state is
// what the caller set: Creating for what a job makes, Live for what is true at once (an unplaced network).
func (tx *Tx) Insert(r *index.Resource, refs ...index.Ref) error {
	if m, ok := tx.core.makers[r.Kind].(Usage); ok && r.ProjectID != "" {
		if err := tx.core.Quota.Reserve(tx.Tx, r.ProjectID, m.Usage(r)); err != nil {
			return err
		}
	}
	if err := tx.core.Index.Insert(tx.Tx, r); err != nil {
		return err
	}
	for i := range refs {
		refs[i].From = r.ID
	}
	if err := tx.core.Index.AddRefs(tx.Tx, refs...); err != nil {
		return err
	}
	return tx.Audit(string(r.ID), r.Site)
}

// Load reads a row of any state for change in this transaction.
func (tx *Tx) Load(id ident.TopID) (*index.Resource, error) { return tx.core.Index.Load(tx.Tx, id) }

// Find is index.Store.FindIn for the transaction's caller.
func (tx *Tx) Find(kind sites.Kind, id string) (*index.Resource, error) {
	return tx.core.Index.FindIn(tx.Tx, tx.Caller, kind, id)
}

// Save writes a row that was loaded in this transaction.
func (tx *Tx) Save(r *index.Resource) error { return tx.core.Index.Save(tx.Tx, r) }

// Audit records the transaction's action on a target; without a caller it does nothing.
func (tx *Tx) Audit(target string, site ident.SiteID) error {
	if tx.Caller.UserID == "" || tx.action == "" {
		return nil
	}
	e := audit.By(tx.Caller, tx.action, target)
	if site != "" {
		e.Site = site
	}
	return tx.core.Audit.Record(tx.Tx, e)
}

// Quota changes what the project uses beyond what Insert and the end of a row do (a resize, an extension);
// negative figures give back. fault.OverQuota when a limit would be passed.
func (tx *Tx) Quota(project string, delta map[string]int64) error {
	return tx.core.Quota.Reserve(tx.Tx, project, delta)
}

// Make enqueues the job that makes the row true at its site.
func (tx *Tx) Make(r *index.Resource, after ...jobs.ID) (jobs.ID, error) {
	return tx.enqueue(createArgs{ID: r.ID}, r, jobs.Options{ResourceID: string(r.ID), After: after})
}

// Changed raises the row's generation, saves it and, when it is bound anywhere, enqueues the job that pushes its Spec there.
func (tx *Tx) Changed(r *index.Resource) error {
	r.Generation++
	if err := tx.Save(r); err != nil {
		return err
	}
	if err := tx.Audit(string(r.ID), r.Site); err != nil {
		return err
	}
	bound, err := tx.core.Bindings.OfTopIn(tx.Tx, r.ID)
	if err != nil || len(bound) == 0 {
		return err
	}
	_, err = tx.enqueue(changeArgs{ID: r.ID}, r, jobs.Options{ResourceID: string(r.ID)})
	return err
}

// Delete marks the row as deleting and enqueues the job that ends it; a row
// that is at no site, bound nowhere and never was attempted ends within this transaction. Repeating it is harmless.
func (tx *Tx) Delete(r *index.Resource, after ...jobs.ID) error { return tx.delete(r, false, after...) }

func (tx *Tx) delete(r *index.Resource, once bool, after ...jobs.ID) error {
	if r.State == index.Deleting || r.State == index.Deleted {
		return nil
	}
	fresh := r.State == index.Creating
	r.State = index.Deleting
	if err := tx.Save(r); err != nil {
		return err
	}
	if err := tx.Audit(string(r.ID), r.Site); err != nil {
		return err
	}
	bound, err := tx.core.Bindings.OfTopIn(tx.Tx, r.ID)
	if err != nil {
		return err
	}
	if len(bound) == 0 && !fresh && r.Site == "" { // what has a site may have a job that is making it right now
		return tx.End(r)
	}
	_, err = tx.enqueue(deleteArgs{ID: r.ID, Once: once}, r, jobs.Options{ResourceID: string(r.ID), After: after, OnDependencyFailure: jobs.Run})
	return err
}

// End finishes a row: quota given back, references dropped, the kind's Ender run, state Deleted.
func (tx *Tx) End(r *index.Resource) error {
	m := tx.core.makers[r.Kind]
	if u, ok := m.(Usage); ok && r.ProjectID != "" {
		if err := tx.core.Quota.Release(tx.Tx, r.ProjectID, u.Usage(r)); err != nil {
			return err
		}
	}
	if e, ok := m.(Ender); ok {
		if err := e.End(tx, r); err != nil {
			return err
		}
	}
	if err := tx.core.Index.DropRefs(tx.Tx, r.ID); err != nil {
		return err
	}
	r.State, r.DeletedAt, r.TaskState = index.Deleted, tx.core.Now(), ""
	return tx.Save(r)
}

func (tx *Tx) enqueue(args jobs.Args, r *index.Resource, o jobs.Options) (jobs.ID, error) {
	o.Site, o.ProjectID, o.RequestID = r.Site, r.ProjectID, tx.Caller.RequestID
	if o.RequestID == "" {
		o.RequestID = ident.RequestID(tx.ctx)
	}
	return jobs.Insert(tx.ctx, tx.Tx, args, o)
}
