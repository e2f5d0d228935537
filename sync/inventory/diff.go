package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// A diff stops with an alarm when more suspicions than both of these come up in
// one kind: sites lose roles and lists come back short far more often than somebody deletes a tenth of everything behind our back.
const (
	fewSuspects  = 5
	suspectShare = 0.10
)

// sweepAge is how old a second or orphaned bottom must be: younger ones may belong to a create that is under way.
const sweepAge = 10 * time.Minute

func diffKinds() []sites.Kind {
	return []sites.Kind{
		sites.Server, sites.Volume, sites.Snapshot, sites.Network, sites.Subnet, sites.Port, sites.Router, sites.FloatingIP,
		sites.SecurityGroup, sites.Image,
	}
}

// diff lists everything that Top holds at a site and looks at what is missing, doubled or orphaned.
func (inv *Inventory) diff(ctx context.Context, s *registry.Site, cur *Cursor) error {
	list, err := inv.sessions(ctx, s)
	if err != nil {
		return err
	}
	var errs []error
	cur.Alarm = inv.scope(ctx, s, list)
	if cur.Alarm == "" {
		for _, kind := range diffKinds() {
			if _, offered := s.Capabilities.Services[kind.Service()]; !offered {
				continue
			}
			alarm, err := inv.diffKind(ctx, s, list, kind)
			if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Unauthorized) {
				// The token in hand may say nothing of a role that was lost since; the list does.
				alarm, err = fmt.Sprintf("the account of site %s may not list its %ss any more: %s", s.Name, kind, fault.Message(err)), nil
			}
			if err != nil { // of this kind alone: a service that is down must not hide what the others hold
				errs = append(errs, fmt.Errorf("compare %ss of %s: %w", kind, s.Name, err))
			}
			if alarm != "" {
				cur.Alarm = alarm
				break
			}
		}
	}
	inv.alarms.WithLabelValues(string(s.Name)).Set(map[bool]float64{true: 1, false: 0}[cur.Alarm != ""])
	if cur.Alarm != "" {
		inv.cfg.Log.ErrorContext(ctx, "full comparison was stopped", "site", s.Name, "err", cur.Alarm)
	}
	return errors.Join(errs...)
}

// scope proves that the accounts see what they should: an administrator's list of
// all projects is worth nothing without the role.
func (inv *Inventory) scope(ctx context.Context, s *registry.Site, list []session) string {
	for _, ses := range list {
		acc, err := ses.adaptor.Account(ctx)
		if err != nil {
			return "the account could not be read: " + err.Error()
		}
		if ses.all && !slices.Contains(acc.Roles, "admin") {
			return fmt.Sprintf("the account %s at site %s has no role admin any more", acc.UserName, s.Name)
		}
	}
	return ""
}

func (inv *Inventory) diffKind(ctx context.Context, s *registry.Site, list []session, kind sites.Kind) (alarm string, err error) {
	core, site := inv.cfg.Core, s.Name
	began := inv.cfg.Now()
	bound, err := core.Bindings.OfSite(ctx, site, kind)
	if err != nil {
		return "", err
	}
	seen := map[ident.BottomID]bool{}
	marked := map[ident.TopID][]sites.Object{}
	for _, ses := range list {
		err := inv.look(ctx, site, ses, kind, sites.Query{AllProjects: ses.all}, func(o sites.Object) {
			seen[o.ID] = true
			if top, ok := sites.MarkerOf(o.Body); ok {
				marked[top] = append(marked[top], o)
			}
		})
		if err != nil {
			return "", err
		}
	}
	suspects, ours, err := inv.suspects(ctx, bound, seen, began)
	if err != nil {
		return "", err
	}
	if n := len(suspects); n > fewSuspects && float64(n) > suspectShare*float64(ours) {
		return fmt.Sprintf("%d of %d %ss are missing from the list of site %s: too many to be believed", n, ours, kind, site), nil
	}
	for _, r := range suspects {
		if err := inv.suspect(ctx, site, r); err != nil {
			return "", err
		}
	}
	return "", inv.sweep(ctx, s, kind, bound, marked)
}

// suspects returns the live rows whose bottoms were not listed although they were there before the list began, and how many bottoms are ours.
func (inv *Inventory) suspects(ctx context.Context, bound []*binding.Binding, seen map[ident.BottomID]bool, began time.Time) ([]*index.Resource, int, error) {
	var ids []ident.TopID
	ours := 0
	for _, b := range bound {
		if !b.Known() || b.Adopted || b.State != binding.Bound {
			continue
		}
		ours++
		if !seen[b.BottomID] {
			ids = append(ids, b.TopID)
		}
	}
	rows, err := inv.cfg.Core.Index.GetAll(ctx, ids)
	var out []*index.Resource
	for _, r := range rows {
		if r.State == index.Live && !r.Outstanding() && r.CreatedAt.Before(began.Add(-overlap)) && r.ObservedAt.Before(began) {
			out = append(out, r)
		}
	}
	return out, ours, err
}

// suspect looks at one id: a first 404 is noted, and a job looks again.
func (inv *Inventory) suspect(ctx context.Context, site ident.SiteID, r *index.Resource) error {
	core := inv.cfg.Core
	b, err := core.Bindings.Get(ctx, r.ID, site)
	if err != nil || !b.Known() {
		return err
	}
	if r.Site == "" {
		return inv.lostCopy(ctx, r, b)
	}
	_, err = core.Refresh(ctx, r, site, b.BottomID)
	if err == nil || !fault.Is(err, fault.Unavailable) {
		return err
	}
	return core.Internal(ctx, func(tx *cascade.Tx) error { return tx.Follow(r) })
}

// lostCopy forgets the bottom of what lives at several sites (a group, an image)
// when it is gone from one of them: it is made there again when it is needed next.
func (inv *Inventory) lostCopy(ctx context.Context, r *index.Resource, b *binding.Binding) error {
	core := inv.cfg.Core
	at, err := core.At(ctx, r, b.Site)
	if err != nil {
		return err
	}
	if _, err := at.Adaptor.Show(ctx, r.Kind, b.BottomID); !fault.Is(err, fault.NotFound) {
		return err
	}
	inv.cfg.Log.WarnContext(ctx, "copy at a site was gone", "site", b.Site, "kind", r.Kind, "top_id", r.ID, "bottom_id", b.BottomID)
	return core.Internal(ctx, func(tx *cascade.Tx) error { return core.Bindings.Forget(tx.Tx, r.ID, b.Site) })
}

// sweep deletes second bottoms of one marker, keeping the bound one, and what is marked for a row that is deleted.
// What carries a marker that Top never gave (another Top's, or after a restore) is left alone.
func (inv *Inventory) sweep(ctx context.Context, s *registry.Site, kind sites.Kind, bound []*binding.Binding, marked map[ident.TopID][]sites.Object) error {
	byTop := make(map[ident.TopID]*binding.Binding, len(bound))
	taken := make(map[ident.BottomID]bool, len(bound))
	for _, b := range bound {
		byTop[b.TopID] = b
		taken[b.BottomID] = true
	}
	var ids []ident.TopID
	for top, objs := range marked {
		if len(objs) > 1 || byTop[top] == nil {
			ids = append(ids, top)
		}
	}
	rows, err := inv.cfg.Core.Index.GetAll(ctx, ids)
	if err != nil {
		return err
	}
	for _, top := range ids {
		r, b := rows[top], byTop[top]
		for _, o := range marked[top] {
			extra := b.Known() && b.BottomID != o.ID || b == nil && r != nil && r.State == index.Deleted
			if r == nil || r.Kind != kind || !extra || taken[o.ID] || heir(kind, o) || !inv.old(o, s.Capabilities.ClockSkew) {
				continue
			}
			if err := inv.remove(ctx, s.Name, r, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// heir tells an image that may have its marker from another one: Nova and Cinder copy an image's properties to the
// servers and volumes made of it, and from there to the images that are made of those. Only a record without bytes is surely ours.
func heir(kind sites.Kind, o sites.Object) bool {
	return kind == sites.Image && o.Text("status") != "queued"
}

// old reports whether an object was made longer than sweepAge ago, by the site's own time stamp and clock; one without a time is not old.
func (inv *Inventory) old(o sites.Object, skew time.Duration) bool {
	for _, key := range []string{"created", "created_at"} {
		for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05.999999"} {
			if t, err := time.Parse(form, o.Text(key)); err == nil {
				return inv.cfg.Now().Add(skew).Sub(t) > sweepAge
			}
		}
	}
	return false
}

func (inv *Inventory) remove(ctx context.Context, site ident.SiteID, r *index.Resource, o sites.Object) error {
	at, err := inv.cfg.Core.At(ctx, r, site)
	if err != nil {
		return err
	}
	if err := at.Adaptor.Delete(ctx, r.Kind, o.ID); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	inv.swept.WithLabelValues(string(site), string(r.Kind)).Inc()
	inv.cfg.Log.WarnContext(ctx, "bottom without a place was deleted", "site", site, "kind", r.Kind, "top_id", r.ID, "bottom_id", o.ID)
	return nil
}
