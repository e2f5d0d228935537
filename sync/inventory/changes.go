package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// polledKinds are the kinds whose state a site changes by itself.
func polledKinds() []sites.Kind {
	return []sites.Kind{sites.Server, sites.Volume, sites.Snapshot, sites.Port, sites.Router, sites.FloatingIP, sites.Network}
}

// changes looks at what the site says has changed since the last poll began.
func (inv *Inventory) changes(ctx context.Context, s *registry.Site, since time.Time) error {
	list, err := inv.sessions(ctx, s)
	if err != nil {
		return err
	}
	skew := s.Capabilities.ClockSkew
	asked := since.Add(skew).Add(-2*skew.Abs() - overlap) // by the site's clock
	var errs []error
	for i, ses := range list {
		for _, k := range polledKinds() {
			if _, offered := s.Capabilities.Services[k.Service()]; !offered {
				continue
			}
			// What the site cannot filter by time is listed whole: only what differs from the index costs more.
			params, filtered := s.Capabilities.ChangedSince(k, asked)
			what := paced{site: s.Name, kind: k, account: i}
			if !filtered && !inv.pace.ready(what) {
				continue
			}
			began := time.Now() // the cost, not a moment: it is not on the clock
			if err := inv.look(ctx, s.Name, ses, k, sites.Query{Params: params, AllProjects: ses.all, PageSize: pageSize(filtered)}); err != nil {
				errs = append(errs, fmt.Errorf("poll %ss of %s: %w", k, s.Name, err))
			}
			if !filtered {
				inv.pace.took(what, time.Since(began), inv.cfg.DiffEvery)
			}
		}
	}
	return errors.Join(errs...)
}

// pageSize is large for what is listed whole.
func pageSize(filtered bool) int {
	if filtered {
		return 0
	}
	return wholePage
}

// batch is how many objects are compared with the index at a time.
const batch = 200

// look lists resources and stores what differs from the index.
func (inv *Inventory) look(ctx context.Context, site ident.SiteID, ses session, kind sites.Kind, q sites.Query) error {
	var page []sites.Object
	flush := func() error {
		err := inv.compare(ctx, site, ses, kind, page)
		page = page[:0]
		return err
	}
	err := ses.adaptor.List(ctx, kind, q, func(o sites.Object) error {
		if page = append(page, o); len(page) < batch {
			return nil
		}
		return flush()
	})
	return errors.Join(err, flush())
}

// compare finds the rows that a page of objects belongs to and refreshes those that look different.
func (inv *Inventory) compare(ctx context.Context, site ident.SiteID, ses session, kind sites.Kind, page []sites.Object) error {
	ids := make([]ident.BottomID, len(page))
	for i, o := range page {
		ids[i] = o.ID
	}
	core := inv.cfg.Core
	tops, err := core.Bindings.Tops(ctx, site, kind, ids...)
	if err != nil {
		return err
	}
	rows, err := core.Index.GetAll(ctx, slices.Collect(maps.Values(tops)))
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range page {
		r := rows[tops[o.ID]]
		if r == nil || r.State != index.Live || r.Outstanding() || r.Site != site {
			continue // what several sites have (images, groups, external networks) is Top's: the state of one copy is not its own
		}
		if !differs(r, o, ses.skew) {
			if ses.all && len(r.ObservedAdmin) == 0 { // the verb that made it looked as the project, and nothing changed since
				errs = append(errs, inv.adminOnly(ctx, r, o))
			}
			continue
		}
		errs = append(errs, inv.refresh(ctx, site, ses, r, o))
	}
	return errors.Join(errs...)
}

// differs compares what changes by itself; sub-tables that do not show in a time
// filter are read again by the verb that touched them.
func differs(r *index.Resource, o sites.Object, skew time.Duration) bool {
	if r.Observed == nil {
		return true
	}
	for _, key := range []string{"status", "updated", "updated_at", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state", "OS-EXT-STS:power_state", "revision_number"} {
		has, ok := o.Body[key]
		if _, kept := r.Observed[key]; ok && !kept && key == "updated" {
			ok = changedAfter(text(has), r.ObservedAt.Add(skew))
		} else if ok {
			ok = text(has) != known(r, key)
		}
		if ok {
			return true
		}
	}
	return false
}

// changedAfter reports whether a site's time stamp, which has whole seconds, may lie after an instant of its own clock.
// Servers are compared so, since Top shows a time of its own there: their list must not cost a look at each.
func changedAfter(stamp string, at time.Time) bool {
	t, err := time.Parse(time.RFC3339, stamp)
	return err != nil || t.After(at.Add(-2*time.Second))
}

// known is what a row says of a member: the kinds keep some of them in columns of their own.
func known(r *index.Resource, key string) string {
	kept, ok := r.Observed[key]
	switch {
	case ok:
		return text(kept)
	case key == "status":
		return r.Status
	case key == "OS-EXT-STS:task_state":
		return r.TaskState
	default:
		return text(r.ObservedAdmin[key]) // the site's own revision and time of change: see adminOnly
	}
}

// text renders a member for comparison; null is as good as nothing.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// refresh stores a changed resource as an ordinary user of its project sees it;
// what only the administrator's list showed goes apart. It is read again by its id also where the list
// shows it so: the row was read after the list, and what changed in between could not be told (cascade.Observe).
func (inv *Inventory) refresh(ctx context.Context, site ident.SiteID, ses session, r *index.Resource, o sites.Object) error {
	core := inv.cfg.Core
	seen, err := core.Refresh(ctx, r, site, o.ID)
	var wait *cascade.WaitError
	switch {
	case errors.As(err, &wait):
		return core.Internal(ctx, func(tx *cascade.Tx) error { return tx.Follow(r) }) // gone since the list: looked at again soon
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil || !ses.all:
		return err
	}
	return inv.adminOnly(ctx, seen, o)
}

// adminOnly stores the members that the project's own view lacks.
func (inv *Inventory) adminOnly(ctx context.Context, r *index.Resource, o sites.Object) error {
	extra := sites.Body{}
	for k, v := range o.Body {
		if _, shown := r.Observed[k]; !shown && k != "id" && k != "tags" {
			extra[k] = v
		}
	}
	if r.State != index.Live || len(extra) == 0 || fmt.Sprint(extra) == fmt.Sprint(r.ObservedAdmin) {
		return nil
	}
	return inv.cfg.Core.Internal(ctx, func(tx *cascade.Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil || row.State != index.Live {
			return err
		}
		row.ObservedAdmin = extra
		return inv.cfg.Core.Index.SaveQuietly(tx.Tx, row)
	})
}
