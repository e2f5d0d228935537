package inventory

import (
	"context"
	"errors"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// settle looks, by its id, at each bottom that the lists did not show.
func (d *differ) settle(ctx context.Context, kind sites.Kind) error {
	core := d.cfg.Core
	for {
		list, err := core.Bindings.Suspects(ctx, d.site.Name, kind, d.at.Walk, d.at.Settled, batch)
		if err != nil || len(list) == 0 {
			return err
		}
		if err := d.sighted(ctx, kind, list); err != nil {
			return err
		}
		ids := make([]ident.TopID, len(list))
		for i, b := range list {
			ids[i] = b.TopID
		}
		rows, err := core.Index.GetAll(ctx, ids)
		if err != nil {
			return err
		}
		for _, b := range list {
			if r := rows[b.TopID]; shouldShow(r, d.at.Walk) {
				if err := d.suspect(ctx, r, b); err != nil {
					return err
				}
			}
			if err := core.Internal(ctx, func(tx *cascade.Tx) error { return core.Bindings.Settled(tx.Tx, b) }); err != nil {
				return err
			}
			d.at.Settled = b.TopID
			if err := d.pause(); err != nil {
				return err
			}
		}
	}
}

// sighted proves, for each account that suspects belong to, that it finds what is known to be there.
func (d *differ) sighted(ctx context.Context, kind sites.Kind, suspects []*binding.Binding) error {
	for _, ses := range d.list {
		own := suspects
		if ses.project != "" {
			own = slices.DeleteFunc(slices.Clone(suspects), func(b *binding.Binding) bool { return b.ProjectID != ses.project })
		}
		if len(own) == 0 {
			continue
		}
		if err := d.cfg.Core.Sighted(ctx, cascade.At{Site: d.site.Name, Adaptor: ses.adaptor}, kind, ses.all, own); err != nil {
			return err
		}
	}
	return nil
}

// suspect looks at one id: a first 404 is noted, and a job looks again.
func (d *differ) suspect(ctx context.Context, r *index.Resource, b *binding.Binding) error {
	core := d.cfg.Core
	if r.Site == "" {
		return d.lostCopy(ctx, r, b)
	}
	_, err := core.Refresh(ctx, r, b.Site, b.BottomID)
	var wait *cascade.WaitError
	if errors.As(err, &wait) {
		return core.Internal(ctx, func(tx *cascade.Tx) error { return tx.Follow(r) })
	}
	if fault.Is(err, fault.NotFound) {
		return nil // ended meanwhile
	}
	return err
}

// lostCopy forgets the bottom of what lives at several sites (a group, an image)
// when it is gone from one of them, by the rule of cascade.Lost: it is made there again when it is needed next.
func (d *differ) lostCopy(ctx context.Context, r *index.Resource, b *binding.Binding) error {
	core := d.cfg.Core
	at, err := core.At(ctx, r, b.Site)
	if err != nil {
		return err
	}
	gone, err := core.Lost(ctx, at, b, nil)
	if err != nil || !gone {
		return err
	}
	d.cfg.Log.WarnContext(ctx, "copy at a site was gone", "site", b.Site, "kind", r.Kind, "top_id", r.ID, "bottom_id", b.BottomID)
	return core.Internal(ctx, func(tx *cascade.Tx) error { return core.Bindings.Forget(tx.Tx, r.ID, b.Site) })
}
