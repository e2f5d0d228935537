package inventory

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A walk lists a kind in the order of its ids and compares it with Top's
// bindings in the same order, piece by piece, as one merges two sorted files:
// memory is bounded, and the last id says where to go on. What a site's list
// never shows in any order (hidden images) is asked for apart.

// errDisorder says that a site does not list in the order that it was asked for.
var errDisorder = errors.New("the site does not list by id")

// walk is one account's listing of one kind.
type walk struct {
	*differ
	ses    session
	kind   sites.Kind
	aside  map[ident.BottomID]bool // there, though the list does not show it
	page   []sites.Object
	marker ident.BottomID // the last id that was compared
}

// walk goes on from the trail; where each marker of it is gone, from the start.
func (d *differ) walk(ctx context.Context, kind sites.Kind, ses session) error {
	w := &walk{differ: d, ses: ses, kind: kind}
	if err := w.unlisted(ctx); err != nil {
		return err
	}
	for {
		w.marker, w.page = "", nil
		if n := len(d.at.Trail); n > 0 {
			w.marker = d.at.Trail[n-1]
		}
		err := w.list(ctx)
		switch gone := fault.Is(err, fault.NotFound) || fault.Is(err, fault.BadRequest); {
		case errors.Is(err, errDisorder):
			d.cfg.Log.WarnContext(ctx, "site lists in no order and is compared in one go", "site", d.site.Name, "kind", kind)
			return w.inOneGo(ctx)
		case gone && len(d.at.Trail) > 0:
			d.at.Trail = d.at.Trail[:len(d.at.Trail)-1]
		case fault.Is(err, fault.BadRequest) && w.marker == "": // it refuses to sort
			return w.inOneGo(ctx)
		default:
			return err
		}
	}
}

func (w *walk) list(ctx context.Context) error {
	params := sites.ByID(w.kind)
	if w.marker != "" {
		params.Set("marker", string(w.marker))
	}
	last := w.marker
	err := w.ses.adaptor.List(ctx, w.kind, sites.Query{Params: params, AllProjects: w.ses.all, PageSize: wholePage}, func(o sites.Object) error {
		if o.ID <= last {
			return errDisorder
		}
		last = o.ID
		if w.page = append(w.page, o); len(w.page) < batch {
			return nil
		}
		if err := w.piece(ctx, last); err != nil {
			return err
		}
		return w.pause()
	})
	if err != nil {
		return err
	}
	return w.piece(ctx, "")
}

// piece compares what was listed behind the marker and up to an id, "" being the end.
func (w *walk) piece(ctx context.Context, upTo ident.BottomID) error {
	listed := make(map[ident.BottomID]bool, len(w.page))
	for _, o := range w.page {
		listed[o.ID] = true
	}
	err := w.looked(ctx)
	if err == nil {
		err = w.absent(ctx, upTo, func(id ident.BottomID) bool { return listed[id] || w.aside[id] })
	}
	if err != nil || upTo == "" {
		return err
	}
	w.at.Trail = w.trail()
	w.marker, w.page = upTo, w.page[:0]
	return nil
}

// trail returns markers for the next slice: the last id, and before it some to go back to.
func (w *walk) trail() []ident.BottomID {
	const back, apart = 8, batch / 8
	ids := []ident.BottomID{w.page[len(w.page)-1].ID}
	for i := len(w.page) - 1 - apart; i >= 0; i -= apart {
		ids = append(ids, w.page[i].ID)
	}
	if n := len(w.at.Trail); n > 0 {
		ids = append(ids[:min(len(ids), back-1)], w.at.Trail[n-1])
	}
	slices.Reverse(ids)
	return ids
}

// looked stores what the page shows and sweeps what has no place. A row that cannot be looked at, or a bottom that cannot
// be deleted, holds up none of the rest, unless it is the site that does not answer.
func (w *walk) looked(ctx context.Context) error {
	err := errors.Join(w.compare(ctx, w.site.Name, w.ses, w.kind, w.page), w.sweep(ctx, w.kind, w.page))
	if err == nil || fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Internal) || ctx.Err() != nil {
		return err
	}
	w.at.Failed = true
	w.cfg.Log.WarnContext(ctx, "part of a comparison failed", "site", w.site.Name, "kind", w.kind, "err", err)
	return nil
}

// inOneGo compares a site that lists in no order: its ids are kept until the end of the list.
func (w *walk) inOneGo(ctx context.Context) error {
	w.marker, w.page, w.at.Trail = "", nil, nil
	seen := map[ident.BottomID]bool{}
	flush := func() error {
		err := w.looked(ctx)
		w.page = w.page[:0]
		return err
	}
	err := w.ses.adaptor.List(ctx, w.kind, sites.Query{AllProjects: w.ses.all, PageSize: wholePage}, func(o sites.Object) error {
		seen[o.ID] = true
		if w.page = append(w.page, o); len(w.page) < batch {
			return nil
		}
		return flush()
	})
	if err := errors.Join(err, flush()); err != nil {
		return err
	}
	return w.absent(ctx, "", func(id ident.BottomID) bool { return seen[id] || w.aside[id] })
}

// unlisted reads what there is and no list shows unless it is asked for: images that are hidden.
func (w *walk) unlisted(ctx context.Context) error {
	if w.kind != sites.Image {
		return nil
	}
	w.aside = map[ident.BottomID]bool{}
	q := sites.Query{Params: url.Values{"os_hidden": {"true"}}, AllProjects: w.ses.all, PageSize: wholePage}
	return w.ses.adaptor.List(ctx, w.kind, q, func(o sites.Object) error {
		w.aside[o.ID] = true
		return nil
	})
}

// absent notes which of the bottoms behind the marker and up to an id were not listed, and takes back what was suspected of the others.
func (w *walk) absent(ctx context.Context, upTo ident.BottomID, listed func(ident.BottomID) bool) error {
	core := w.cfg.Core
	r := binding.Range{Site: w.site.Name, Kind: w.kind, Project: w.ses.project, After: w.marker, UpTo: upTo, Limit: wholePage}
	for {
		bound, err := core.Bindings.Between(ctx, r)
		if err != nil {
			return err
		}
		var missing, back []*binding.Binding
		for _, b := range bound {
			switch there := listed(b.BottomID); {
			case there && (!b.AbsentAt.IsZero() || !b.MissingSince.IsZero()):
				back = append(back, b)
			case !there && !b.Adopted && b.State == binding.Bound && b.BoundAt.Before(w.at.Walk.Add(-overlap)):
				missing = append(missing, b)
			}
		}
		if missing, err = w.suspicious(ctx, missing); err != nil {
			return err
		}
		if err := w.note(ctx, missing, back); err != nil || len(bound) < r.Limit {
			return err
		}
		r.After = bound[len(bound)-1].BottomID
	}
}

// note stores suspicions. Too many of them end the comparison at once.
func (w *walk) note(ctx context.Context, missing, back []*binding.Binding) error {
	if len(missing)+len(back) == 0 {
		return nil
	}
	w.at.Suspects += len(missing)
	if err := cascade.TooMany(w.site.Name, w.kind, w.at.Suspects, int(w.at.Known)); err != nil {
		return err
	}
	core := w.cfg.Core
	return core.Internal(ctx, func(tx *cascade.Tx) error {
		return errors.Join(core.Bindings.Suspect(tx.Tx, w.at.Walk, missing...), core.Bindings.Seen(tx.Tx, back...))
	})
}

// suspicious returns those of the bindings whose rows should be at the site, and were there before the list began.
func (w *walk) suspicious(ctx context.Context, list []*binding.Binding) ([]*binding.Binding, error) {
	ids := make([]ident.TopID, len(list))
	for i, b := range list {
		ids[i] = b.TopID
	}
	rows, err := w.cfg.Core.Index.GetAll(ctx, ids)
	return slices.DeleteFunc(list, func(b *binding.Binding) bool { return !shouldShow(rows[b.TopID], w.at.Walk) }), err
}

func shouldShow(r *index.Resource, began time.Time) bool {
	return r != nil && r.State == index.Live && !r.Outstanding() && r.CreatedAt.Before(began.Add(-overlap)) && r.ObservedAt.Before(began)
}
