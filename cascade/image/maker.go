package image

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// maker makes an image at a site: first the queued record, marked and with Top's
// id where the site allows it, then, in Finish, the bytes. A copy that broke off
// goes on with the same record, since a deleted Glance id can never be used again.
type maker struct{ *Service }

var (
	_ cascade.Maker    = maker{}
	_ cascade.Creator  = maker{}
	_ cascade.Finisher = maker{}
	_ cascade.Changer  = maker{}
	_ cascade.Remover  = maker{}
)

// Needs returns nothing: the bytes come from another site, not from another resource.
func (maker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body returns the image's record. The name is the tenant's; the visibility is what the session there may set.
func (m maker) Body(_ context.Context, r *index.Resource, _ cascade.At) (sites.Body, error) {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	body := sites.Body{"id": string(r.ID), "name": r.Name, "min_disk": spec.MinDisk, "min_ram": spec.MinRAM, "visibility": Private}
	for k, v := range map[string]string{"disk_format": spec.DiskFormat, "container_format": spec.ContainerFormat} {
		if v != "" {
			body[k] = v
		}
	}
	for k, v := range spec.Properties {
		body[k] = v
	}
	return body, nil
}

// session is as whom an image lives at a site: images for everybody belong to
// the site's own account where that is an administrator, others to their project.
func (m maker) session(ctx context.Context, r *index.Resource, at cascade.At) (sites.Adaptor, bool, error) {
	site, err := m.registry.Site(ctx, at.Site)
	if err != nil {
		return nil, false, err
	}
	if r.Visibility != Public && r.Visibility != Community || !site.Capabilities.Admin {
		return at.Adaptor, false, nil
	}
	a, err := at.Admin(ctx)
	return a, true, err
}

// Create makes the queued record, with Top's id unless that was used at the site before.
func (m maker) Create(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) (sites.Object, error) {
	a, admin, err := m.session(ctx, r, at)
	if err != nil {
		return sites.Object{}, err
	}
	if admin {
		body["visibility"] = Public
	}
	opts := sites.CreateOptions{Marker: r.ID}
	obj, err := a.Create(ctx, sites.Image, body, opts)
	if !fault.Is(err, fault.Conflict) {
		return obj, err
	}
	body = maps.Clone(body)
	delete(body, "id")
	return a.Create(ctx, sites.Image, body, opts)
}

// Finish copies the bytes from a site that has them. An image whose first bytes are yet to come from the tenant is finished without.
func (m maker) Finish(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	if r.Status != Active && r.Status != Deactivated {
		return nil
	}
	a, _, err := m.session(ctx, r, at)
	if err != nil {
		return err
	}
	have, err := a.Show(ctx, sites.Image, bottom)
	if err != nil {
		return err
	}
	switch have.Text("status") {
	case Active:
		return m.verify(r, at.Site, have)
	case Saving:
		return &cascade.WaitError{After: copyPoll, For: "another copy of " + describe(r, at.Site)}
	}
	select {
	case m.copies <- struct{}{}:
		defer func() { <-m.copies }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.copy(ctx, r, at.Site, a, bottom); err != nil {
		return err
	}
	if have, err = a.Show(ctx, sites.Image, bottom); err != nil {
		return err
	}
	return m.verify(r, at.Site, have)
}

// copy streams the bytes from the best source to the queued record at a site.
func (m maker) copy(ctx context.Context, r *index.Resource, to ident.SiteID, a sites.Adaptor, bottom ident.BottomID) error {
	data, size, from, err := m.open(ctx, r, to, 0)
	if err != nil {
		return err
	}
	began := m.core.Now()
	err = a.Upload(ctx, bottom, data, size)
	if err = errors.Join(err, data.Close()); err != nil {
		// A broken copy leaves the record queued: the next try begins anew on the same one.
		return &fault.Error{Op: "cascade/image.copy", Site: string(to), Kind: fault.Unavailable, Err: fmt.Errorf("copy %s from %s: %w", describe(r, to), from, err)}
	}
	m.core.Log().InfoContext(ctx, "image copied", "site", to, "top_id", r.ID, "bottom_id", bottom, "from", from, "bytes", size, "elapsed", m.core.Now().Sub(began))
	return nil
}

// verify compares what the site says of the bytes with what Top knows; a wrong
// copy is deleted by nobody but reported, and never used.
func (m maker) verify(r *index.Resource, site ident.SiteID, have sites.Object) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	for _, c := range []struct{ what, want, got string }{
		{"os_hash_value", hashOf(spec, have), have.Text("os_hash_value")}, {"checksum", spec.Checksum, have.Text("checksum")},
	} {
		if c.want != "" && c.got != "" && c.want != c.got {
			return &fault.Error{Op: "cascade/image.verify", Site: string(site), Kind: fault.Conflict, Msg: fmt.Sprintf("The copy of image %s at site %s has another %s than the original.", r.ID, site, c.what)}
		}
	}
	return nil
}

// hashOf returns the known hash if the site uses the same algorithm.
func hashOf(spec Spec, have sites.Object) string {
	if spec.HashAlgo != have.Text("os_hash_algo") {
		return ""
	}
	return spec.HashValue
}

// Change pushes name and properties; members that are gone at Top go at the site.
func (m maker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	a, _, err := m.session(ctx, r, at)
	if err != nil {
		return err
	}
	body, err := m.Body(ctx, r, at)
	if err != nil {
		return err
	}
	delete(body, "id")
	delete(body, "visibility")
	have, err := a.Show(ctx, sites.Image, bottom)
	if err != nil {
		return err
	}
	for k := range body {
		if fmt.Sprint(have.Body[k]) == fmt.Sprint(body[k]) || (k == "disk_format" || k == "container_format") && have.Text("status") != Queued {
			delete(body, k) // formats cannot change once there are bytes
		}
	}
	if len(body) == 0 {
		return nil
	}
	_, err = a.Update(ctx, sites.Image, bottom, body)
	return err
}

// Remove deletes the image in the session that owns it.
func (m maker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	err := at.Adaptor.Delete(ctx, sites.Image, bottom)
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.NotFound) {
		admin, aerr := at.Admin(ctx) // made as public image by the site's own account
		if aerr != nil {
			return false, aerr
		}
		err = admin.Delete(ctx, sites.Image, bottom)
	}
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return true, err
}

// open returns the bytes of an image from offset on, from the home site if that
// answers, else from any other site that has them.
func (m maker) open(ctx context.Context, r *index.Resource, except ident.SiteID, offset int64) (io.ReadCloser, int64, ident.SiteID, error) {
	bound, err := m.core.Bindings.OfTop(ctx, r.ID)
	if err != nil {
		return nil, 0, "", err
	}
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return nil, 0, "", err
	}
	sources := slices.DeleteFunc(slices.Clone(bound), func(b *binding.Binding) bool { return !b.Known() || b.Generation == 0 || b.Site == except })
	slices.SortStableFunc(sources, func(a, b *binding.Binding) int {
		return map[bool]int{true: 0, false: 1}[a.Site == spec.Home] - map[bool]int{true: 0, false: 1}[b.Site == spec.Home]
	})
	var errs []error
	for _, b := range sources {
		at, err := m.core.At(ctx, r, b.Site)
		if err == nil {
			var data io.ReadCloser
			var size int64
			if data, size, err = at.Adaptor.Download(ctx, b.BottomID, offset); err == nil {
				return data, size, b.Site, nil
			}
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, 0, "", errNoBytes(r)
	}
	return nil, 0, "", &fault.Error{Op: "cascade/image.open", Kind: fault.Unavailable, RetryAfter: 30, Err: errors.Join(errs...), Msg: fmt.Sprintf("No site that has the bytes of image %s answers.", r.ID)}
}

// hasher sums what is read through it, in the algorithm that Glance uses by default.
type hasher struct {
	from io.Reader
	sum  hash.Hash
	n    int64
}

func newHasher(from io.Reader) *hasher { return &hasher{from: from, sum: sha512.New()} }

// Read implements io.Reader.
func (h *hasher) Read(p []byte) (int, error) {
	n, err := h.from.Read(p)
	h.sum.Write(p[:n])
	h.n += int64(n)
	return n, err
}

func (h *hasher) hex() string { return hex.EncodeToString(h.sum.Sum(nil)) }
