package image

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// AdoptSite takes over the public images of a site. Images with the same name
// and the same bytes (hash) at several sites are one at Top: that a system image
// has another id in each region is the first complaint of those who use several. A *cascade.DoubtError says that what
// is there was taken over and what is not was not believed.
func (s *Service) AdoptSite(ctx context.Context, site ident.SiteID, caps sites.Capabilities) error {
	at, err := s.core.At(ctx, &index.Resource{Kind: sites.Image}, site)
	if err != nil {
		return err
	}
	var found []sites.Object
	look := cascade.Look{Kind: sites.Image, Began: s.core.Now(), Admin: caps.Admin, Shown: map[ident.BottomID]bool{}, Still: func(o sites.Object) bool {
		return o.Text("visibility") == Public && o.Text("status") != "deleted"
	}}
	q := sites.Query{Params: url.Values{"visibility": {Public}, "status": {Active}}}
	err = at.Adaptor.List(ctx, sites.Image, q, func(o sites.Object) error {
		if _, ours := sites.MarkerOf(o.Body); !ours && o.Text("visibility") == Public && o.Text("status") == Active {
			found = append(found, o)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list public images of %s: %w", site, err)
	}
	known, err := s.shared(ctx)
	if err != nil {
		return err
	}
	for _, o := range found {
		look.Shown[o.ID] = true
		if err := s.adopt(ctx, site, o, known); err != nil {
			return fmt.Errorf("adopt image %s of %s: %w", o.ID, site, err)
		}
	}
	return s.dropVanished(ctx, at, look)
}

// shared returns the adopted images by what makes them the same.
func (s *Service) shared(ctx context.Context) (map[string]*index.Resource, error) {
	rows, err := s.core.Index.List(ctx, index.Query{Kind: sites.Image})
	out := map[string]*index.Resource{}
	for _, r := range rows {
		var spec Spec
		if err := r.Decode(&spec); err != nil {
			return nil, err
		}
		if spec.Adopted {
			out[sameness(r.Name, spec.HashValue)] = r
		}
	}
	return out, err
}

func sameness(name, hash string) string { return hash + "\x00" + name }

func (s *Service) adopt(ctx context.Context, site ident.SiteID, o sites.Object, known map[string]*index.Resource) error {
	tops, err := s.core.Bindings.Tops(ctx, site, sites.Image, o.ID)
	if err != nil {
		return err
	}
	if top := tops[o.ID]; top != "" {
		return s.refresh(ctx, site, top, o)
	}
	r := known[sameness(o.Text("name"), o.Text("os_hash_value"))]
	fresh := r == nil || o.Text("os_hash_value") == ""
	if !fresh {
		// The site may have two such images, or a copy that Top made before the site had its own.
		b, err := s.core.Bindings.Get(ctx, r.ID, site)
		if err != nil {
			return err
		}
		if b != nil && !b.Adopted {
			return nil
		}
		fresh = b.Known()
	}
	if fresh {
		if r, err = s.adopted(ctx, site, o); err != nil {
			return err
		}
		known[sameness(r.Name, o.Text("os_hash_value"))] = r
	}
	return s.core.Internal(ctx, func(tx *cascade.Tx) error {
		if fresh {
			if err := tx.Insert(r); err != nil {
				return err
			}
		}
		return s.core.Bindings.Adopt(tx.Tx, binding.Binding{
			TopID: r.ID, Site: site, Kind: sites.Image, BottomID: o.ID, Generation: r.Generation, Adopted: true,
		})
	})
}

// adopted returns the row of a site's own image: the same id when no other image has it.
func (s *Service) adopted(ctx context.Context, site ident.SiteID, o sites.Object) (*index.Resource, error) {
	r := index.New(sites.Image, sites.Caller{}, o.Text("name"))
	taken, err := s.core.Index.GetAll(ctx, []ident.TopID{ident.TopID(o.ID)})
	if err != nil {
		return nil, err
	}
	if len(taken) == 0 {
		r.ID = ident.TopID(o.ID)
	}
	r.State, r.Status, r.Visibility, r.Generation = index.Live, Active, Public, 1
	if at, err := time.Parse(time.RFC3339, o.Text("created_at")); err == nil {
		r.CreatedAt = index.Stamp(at)
	}
	return r, describeAs(r, site, o)
}

// describeAs takes over what a site says of its own image.
func describeAs(r *index.Resource, site ident.SiteID, o sites.Object) error {
	spec := Spec{Home: site, Adopted: true, Properties: custom(o.Body)}
	spec.Hidden, _ = o.Body["os_hidden"].(bool)
	tags, _ := o.Body["tags"].([]any)
	for _, t := range tags {
		if text, ok := t.(string); ok {
			spec.Tags = append(spec.Tags, text)
		}
	}
	for key, to := range map[string]*int64{"min_disk": &spec.MinDisk, "min_ram": &spec.MinRAM} {
		if n := int64Of(o.Body, key); n != nil {
			*to = *n
		}
	}
	r.Name = o.Text("name")
	if err := r.Encode(spec); err != nil {
		return err
	}
	return learn(r, o)
}

// refresh takes over what changed of an adopted image at the site that it was first seen at.
func (s *Service) refresh(ctx context.Context, site ident.SiteID, top ident.TopID, o sites.Object) error {
	r, err := s.core.Index.Get(ctx, top)
	if err != nil {
		return err
	}
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	changed, _ := o.Body["updated_at"].(string)
	if was, _ := r.Observed["updated_at"].(string); !spec.Adopted || spec.Home != site || was == changed {
		return nil
	}
	return s.core.Internal(ctx, func(tx *cascade.Tx) error {
		r, err := tx.Load(top)
		if err != nil || r.State != index.Live {
			return err
		}
		if err := describeAs(r, site, o); err != nil {
			return err
		}
		return tx.Save(r)
	})
}

// custom returns the properties that are the owner's own and not Glance's or the site's.
func custom(body sites.Body) map[string]string {
	out := map[string]string{}
	for k, v := range body {
		if text, ok := v.(string); ok && !builtin[k] {
			out[k] = text
		}
	}
	return out
}

// builtin are the members of an image that are not custom properties (glance/api/v2/images.py, the base schema),
// those that name a site's own stores, and our marker.
var builtin = map[string]bool{
	"id": true, "name": true, "status": true, "visibility": true, "protected": true, "os_hidden": true, "checksum": true,
	"os_hash_algo": true, "os_hash_value": true, "owner": true, "size": true, "virtual_size": true, "container_format": true,
	"disk_format": true, "created_at": true, "updated_at": true, "tags": true, "direct_url": true, "min_ram": true, "min_disk": true,
	"self": true, "file": true, "schema": true, "locations": true, "stores": true, "store": true,
	"os_glance_failed_import": true, "os_glance_importing_to_stores": true, "os_glance_import_task": true, sites.ImageMarker: true,
}

// dropVanished forgets copies that a site no longer has, by the rule of cascade.Vanished; an image that is left at no
// site ends, since nobody can use it. One that is hidden, or deactivated for a while, is not listed and still there:
// one that ended would have another id at Top when it comes back.
func (s *Service) dropVanished(ctx context.Context, at cascade.At, look cascade.Look) error {
	bound, err := s.core.Bindings.OfSite(ctx, at.Site, sites.Image)
	if err != nil {
		return err
	}
	bound = slices.DeleteFunc(bound, func(b *binding.Binding) bool { return !b.Adopted })
	gone, err := s.core.Vanished(ctx, at, look, bound)
	if err != nil {
		return err
	}
	for _, b := range gone {
		if err := s.core.Internal(ctx, func(tx *cascade.Tx) error { return s.drop(tx, b) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) drop(tx *cascade.Tx, b *binding.Binding) error {
	if err := s.core.Bindings.Forget(tx.Tx, b.TopID, b.Site); err != nil {
		return err
	}
	left, err := s.core.Bindings.OfTopIn(tx.Tx, b.TopID)
	if err != nil || len(left) > 0 {
		return err
	}
	r, err := tx.Load(b.TopID)
	if err != nil || r.State != index.Live {
		return err
	}
	return tx.End(r)
}
