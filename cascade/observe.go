package cascade

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// missingAfter is how long a bottom must stay unfound, by id, before its row says so (cascade/README.md: Absence).
const missingAfter = 3 * time.Second

// Refresh reads a row's bottom by id, stores what it showed, and returns the row as it is then.
func (c *Core) Refresh(ctx context.Context, r *index.Resource, site ident.SiteID, bottom ident.BottomID) (*index.Resource, error) {
	at, err := c.At(ctx, r, site)
	if err != nil {
		return r, err
	}
	seen, err := c.Index.Get(ctx, r.ID) // as it is before the look begins: see Observe
	if err != nil {
		return r, err
	}
	began := c.Now()
	obj, err := at.Adaptor.Show(ctx, r.Kind, bottom)
	if fault.Is(err, fault.NotFound) {
		return c.missing(ctx, r, site)
	}
	if definite(err) {
		// The site's refusal to show what it holds is about the account (a role was lost), not about the resource.
		err = &fault.Error{Op: "cascade.Refresh", Site: string(site), Kind: fault.Unavailable, Err: err,
			Msg: fmt.Sprintf("Site %s does not show %s %s: %s", site, r.Kind, r.ID, fault.Message(err))}
	}
	if err != nil {
		return r, err
	}
	obj.Began = began // by the clock that all replicas share
	return c.Observe(ctx, seen, at, obj)
}

// missing notes that a bottom was not found by its id. The second time, later
// than missingAfter, the row ends in an error that says so; until then the answer is a *WaitError.
func (c *Core) missing(ctx context.Context, r *index.Resource, site ident.SiteID) (*index.Resource, error) {
	var out *index.Resource
	lost := false
	err := c.soft(ctx, func(tx *Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil || (row.State != index.Live && row.State != index.Creating) {
			out = row
			return err
		}
		out = row
		switch lost = !row.MissingSince.IsZero() && c.Now().Sub(row.MissingSince) >= missingAfter; {
		case lost:
			row.State, row.Status, row.TaskState = index.Failed, "ERROR", ""
			row.Fault = &index.Fault{Code: 404, At: c.Now(), Site: site, Message: fmt.Sprintf("The %s is no longer at site %s: it was deleted there by somebody else.", row.Kind, site)}
			if f, ok := c.makers[row.Kind].(Failer); ok {
				f.Failed(row)
			}
		case row.MissingSince.IsZero():
			row.MissingSince = c.Now()
		default:
			return nil
		}
		return tx.Save(row)
	})
	if err == nil && !lost && out.State != index.Deleting {
		err = &WaitError{After: missingAfter, For: fmt.Sprintf("site %s to show %s %s", site, r.Kind, r.ID)}
	}
	return out, err
}

// Observe stores what a site showed of a row and returns the row. Seen is the
// row as it was read before the look began: an observation counts only if no
// verb was begun or acknowledged and no other look was stored since then
// (cascade/README.md: Index). The row itself tells that, and no clock: replicas' clocks may differ by minutes.
func (c *Core) Observe(ctx context.Context, seen *index.Resource, at At, obj sites.Object) (*index.Resource, error) {
	var out *index.Resource
	err := c.soft(ctx, func(tx *Tx) error {
		r, err := tx.Load(seen.ID)
		if err != nil {
			return err
		}
		out = r
		if r.State == index.Deleted || r.State == index.Failed || r.Outstanding() || !sinceUnchanged(seen, r) {
			return nil
		}
		before := *r
		if err := c.apply(ctx, r, at, obj); err != nil {
			return err
		}
		if same(&before, r) {
			return nil
		}
		if m, ok := c.makers[r.Kind].(Reckoner); ok {
			if err := m.Reckon(tx, &before, r); err != nil {
				return err
			}
		}
		return tx.Save(r)
	})
	return out, err
}

// sinceUnchanged reports whether a look that began after a row was read as seen may be stored in it as it is now.
// The moments are compared for being the same ones, not for their order.
func sinceUnchanged(seen, now *index.Resource) bool {
	return seen.VerbNo == now.VerbNo && seen.VerbAckedNo == now.VerbAckedNo &&
		seen.VerbAckedAt.Equal(now.VerbAckedAt) && seen.ObservedAt.Equal(now.ObservedAt)
}

func (c *Core) apply(ctx context.Context, r *index.Resource, at At, obj sites.Object) error {
	r.MissingSince = time.Time{}
	if r.State == index.Creating {
		r.State = index.Live
	}
	r.ObservedAt = index.Stamp(obj.Began)
	if o, ok := c.makers[r.Kind].(Observer); ok {
		return o.Observe(ctx, r, at, obj)
	}
	if s := obj.Text("status"); s != "" {
		r.Status = s
	}
	r.Observed = obj.Body
	return nil
}

// same reports whether nothing changed but the time of the look: such an
// observation is not written, so that polls of what rests cost no writes.
func same(a, b *index.Resource) bool {
	x, y := *a, *b
	x.ObservedAt, y.ObservedAt = time.Time{}, time.Time{}
	return reflect.DeepEqual(&x, &y)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
