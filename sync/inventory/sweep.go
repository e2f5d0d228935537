package inventory

import (
	"context"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// sweepAge is how old a second or orphaned bottom must be: younger ones may belong to a create that is under way.
const sweepAge = 10 * time.Minute

// sweep deletes, of a page, second bottoms of one marker, keeping the bound one, and what is marked for a row that is
// deleted. What carries a marker that Top never gave (another Top's, or after a restore) is left alone.
func (w *walk) sweep(ctx context.Context, kind sites.Kind, page []sites.Object) error {
	core, site := w.cfg.Core, w.site.Name
	marked := map[ident.TopID][]sites.Object{}
	var bottoms []ident.BottomID
	for _, o := range page {
		if top, ok := sites.MarkerOf(o.Body); ok && !heir(kind, o) && w.old(o, w.site.Capabilities.ClockSkew) {
			marked[top] = append(marked[top], o)
			bottoms = append(bottoms, o.ID)
		}
	}
	taken, err := core.Bindings.Tops(ctx, site, kind, bottoms...)
	if err != nil {
		return err
	}
	var ids []ident.TopID
	for top, objs := range marked {
		for _, o := range objs {
			if taken[o.ID] == "" { // bound to nothing: rare
				ids = append(ids, top)
				break
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	bound, err := core.Bindings.OfTops(ctx, ids...)
	if err != nil {
		return err
	}
	rows, err := core.Index.GetAll(ctx, ids)
	if err != nil {
		return err
	}
	for _, top := range ids {
		for _, o := range marked[top] {
			if taken[o.ID] != "" || !extra(rows[top], here(bound[top], site), kind, o) {
				continue
			}
			if err := w.remove(ctx, rows[top], o); err != nil {
				return err
			}
		}
	}
	return nil
}

func here(bound []*binding.Binding, site ident.SiteID) *binding.Binding {
	for _, b := range bound {
		if b.Site == site {
			return b
		}
	}
	return nil
}

// extra reports whether a marked bottom that stands for nothing surely has no place: another stands for its row, or its row is deleted.
func extra(r *index.Resource, b *binding.Binding, kind sites.Kind, o sites.Object) bool {
	if r == nil || r.Kind != kind {
		return false
	}
	return b.Known() && b.BottomID != o.ID || b == nil && r.State == index.Deleted
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

func (w *walk) remove(ctx context.Context, r *index.Resource, o sites.Object) error {
	site := w.site.Name
	at, err := w.cfg.Core.At(ctx, r, site)
	if err != nil {
		return err
	}
	if err := at.Adaptor.Delete(ctx, r.Kind, o.ID); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	w.swept.WithLabelValues(string(site), string(r.Kind)).Inc()
	w.cfg.Log.WarnContext(ctx, "bottom without a place was deleted", "site", site, "kind", r.Kind, "top_id", r.ID, "bottom_id", o.ID)
	return nil
}
