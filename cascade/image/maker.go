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
	"net/http"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
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
	_ cascade.Granter  = maker{}
	_ cascade.Failer   = maker{}
	_ cascade.Reviver  = maker{}
)

// Failed sets Glance's word for an image that came to nothing.
func (maker) Failed(r *index.Resource) { r.Status = Killed }

// Needs returns nothing: the bytes come from another site, not from another resource.
func (maker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body returns the image's record. It lies in its owner's project; a public one is published by Finish.
func (m maker) Body(_ context.Context, r *index.Resource, _ cascade.At) (sites.Body, error) {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	body := sites.Body{"id": string(r.ID), "name": r.Name, "min_disk": spec.MinDisk, "min_ram": spec.MinRAM, "visibility": r.Visibility}
	if r.Visibility == Public {
		body["visibility"] = Private
	}
	for k, v := range map[string]string{"disk_format": spec.DiskFormat, "container_format": spec.ContainerFormat} {
		if v != "" {
			body[k] = v
		}
	}
	for k, v := range spec.Properties {
		if spec.Properties["image_type"] == "snapshot" && (k == "base_image_ref" || k == "instance_uuid") {
			continue // ids of Top's; the site that made the image has its own there
		}
		body[k] = v
	}
	return body, nil
}

// Create makes the queued record, with Top's id unless that was used at the site before.
func (m maker) Create(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) (sites.Object, error) {
	opts := sites.CreateOptions{Marker: r.ID}
	obj, err := at.Adaptor.Create(ctx, sites.Image, body, opts)
	if !fault.Is(err, fault.Conflict) {
		return obj, err
	}
	body = maps.Clone(body)
	delete(body, "id")
	return at.Adaptor.Create(ctx, sites.Image, body, opts)
}

// Finish publishes the record if need be and copies the bytes from a site that
// has them. At its home an image whose bytes are yet to come from the tenant is finished without.
func (m maker) Finish(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	have, err := at.Adaptor.Show(ctx, sites.Image, bottom)
	if fault.Is(err, fault.NotFound) {
		return errors.Join(m.discard(ctx, r, at, bottom), &cascade.WaitError{After: copyPoll, For: describe(r, at.Site)})
	}
	if err != nil {
		return err
	}
	if err := m.publish(ctx, r, at, have); err != nil {
		return err
	}
	switch {
	case r.Status == Active || r.Status == Deactivated:
		if err := m.fill(ctx, r, at, have); err != nil || r.Status == Active {
			return err
		}
		if have, err = at.Adaptor.Show(ctx, sites.Image, bottom); err != nil {
			return err
		}
		return m.setStatus(ctx, r, at, have)
	case at.Site == spec.Home:
		return nil
	case r.Status == Saving:
		return &cascade.WaitError{After: copyPoll, For: "the upload of " + describe(r, spec.Home)}
	default:
		return errNoBytes(r)
	}
}

// fill makes sure that the record holds the image's bytes.
func (m maker) fill(ctx context.Context, r *index.Resource, at cascade.At, have sites.Object) error {
	switch have.Text("status") {
	case Active, Deactivated:
		return m.verify(ctx, r, at, have)
	case Saving:
		if since, err := time.Parse(time.RFC3339, have.Text("updated_at")); err == nil && m.core.Now().Sub(since) > copyStuck {
			return errors.Join(m.discard(ctx, r, at, have.ID), &cascade.WaitError{After: copyPoll, For: "a new record of " + describe(r, at.Site)})
		}
		return &cascade.WaitError{After: copyPoll, For: "another copy of " + describe(r, at.Site)}
	}
	select {
	case m.copies <- struct{}{}:
		defer func() { <-m.copies }()
	default: // no worker waits for a place: it has other work, and the job comes back
		return &cascade.WaitError{After: copyPoll, For: fmt.Sprintf("one of %d other copies of images to end", copiesAtOnce)}
	}
	if err := m.copy(ctx, r, at, have.ID); err != nil {
		return err
	}
	have, err := at.Adaptor.Show(ctx, sites.Image, have.ID)
	if err != nil {
		return err
	}
	return m.verify(ctx, r, at, have)
}

// copyStuck is how long a record may say that it is being filled before nobody is believed to fill it: more than
// the largest image takes on a slow line.
const copyStuck = 6 * time.Hour

// copy streams the bytes from the best source to the queued record at a site.
func (m maker) copy(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	data, size, err := m.open(ctx, r, at.Site, 0)
	if err != nil {
		return err
	}
	began, summed := m.core.Now(), newHasher(data)
	err = at.Adaptor.Upload(ctx, bottom, summed, size)
	if err = errors.Join(err, data.Close()); err != nil {
		// A broken copy leaves the record queued: the next try begins anew on the same one.
		return &fault.Error{Op: "cascade/image.copy", Site: string(at.Site), Kind: fault.Unavailable, Err: fmt.Errorf("copy %s from %s: %w", describe(r, at.Site), data.from, err)}
	}
	if spec.HashAlgo == "sha512" && spec.HashValue != "" && spec.HashValue != summed.hex() {
		return errors.Join(&fault.Error{Op: "cascade/image.copy", Site: string(data.from), Kind: fault.Conflict,
			Msg: fmt.Sprintf("Site %s gives other bytes of image %s than those that were uploaded.", data.from, r.ID)}, m.discard(ctx, r, at, bottom))
	}
	m.core.Log().InfoContext(ctx, "image copied", "site", at.Site, "top_id", r.ID, "bottom_id", bottom, "from", data.from, "bytes", summed.n, "elapsed", m.core.Now().Sub(began))
	return nil
}

// verify compares what the site says of the bytes with what Top knows. A copy
// that differs (its stream broke, and Glance took what had come for the whole) is discarded and made anew.
func (m maker) verify(ctx context.Context, r *index.Resource, at cascade.At, have sites.Object) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	for _, c := range []struct{ what, want, got string }{
		{"os_hash_value", hashOf(spec, have), have.Text("os_hash_value")}, {"checksum", spec.Checksum, have.Text("checksum")},
	} {
		if c.want == "" || c.got == "" || c.want == c.got {
			continue
		}
		if at.Site == spec.Home { // the tenant's own upload: nothing here could make it better
			return &fault.Error{Op: "cascade/image.verify", Site: string(at.Site), Kind: fault.Conflict, Msg: fmt.Sprintf("Image %s has another %s at site %s than when it was uploaded.", r.ID, c.what, at.Site)}
		}
		return errors.Join(m.discard(ctx, r, at, have.ID), &cascade.WaitError{After: copyPoll, For: "another copy of " + describe(r, at.Site) + ", whose " + c.what + " was wrong"})
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

// Change pushes owner, name, properties, visibility and whether the image is deactivated; properties and members that are gone at Top go at the site.
func (m maker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	body, err := m.Body(ctx, r, at)
	if err != nil {
		return err
	}
	have, err := m.owned(ctx, r, at, bottom)
	if err != nil {
		return err
	}
	if err := errors.Join(m.publish(ctx, r, at, have), m.unshare(ctx, spec, at, have), m.setStatus(ctx, r, at, have)); err != nil {
		return err
	}
	delete(body, "id")
	if r.Visibility == Public {
		delete(body, "visibility") // publish did that
	}
	for k := range body {
		if fmt.Sprint(have.Body[k]) == fmt.Sprint(body[k]) || (k == "disk_format" || k == "container_format") && have.Text("status") != Queued {
			delete(body, k) // formats cannot change once there are bytes
		}
	}
	for _, k := range spec.Dropped {
		if _, there := have.Body[k]; there && !builtin[k] {
			body[k] = nil
		}
	}
	if len(body) == 0 {
		return nil
	}
	_, err = at.Adaptor.Update(ctx, sites.Image, bottom, body)
	return err
}

// setStatus deactivates or reactivates a copy as Top's image is.
func (m maker) setStatus(ctx context.Context, r *index.Resource, at cascade.At, have sites.Object) error {
	action := ""
	switch status := have.Text("status"); {
	case r.Status == Deactivated && status == Active:
		action = "deactivate"
	case r.Status == Active && status == Deactivated:
		action = "reactivate"
	default:
		return nil
	}
	req := sites.Request{Service: sites.ImageService, Method: http.MethodPost, Path: "images/" + string(have.ID) + "/actions/" + action, Idempotent: true}
	_, err := at.Adaptor.Do(ctx, req)
	if fault.Is(err, fault.Forbidden) { // older releases leave it to administrators
		admin, aerr := at.Admin(ctx)
		if aerr != nil {
			return errors.Join(err, aerr)
		}
		_, err = admin.Do(ctx, req)
	}
	if fault.Is(err, fault.Forbidden) {
		m.core.Log().WarnContext(ctx, "image cannot be deactivated or reactivated at a site", "site", at.Site, "top_id", r.ID, "err", err)
		err = nil // Top's own word holds all the same for whoever comes through Top
	}
	return err
}

// owned returns the image as its owner sees it at a site. Where it still lies in the project of an owner before,
// the site's administrator gives it to the new one.
func (m maker) owned(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (sites.Object, error) {
	have, err := at.Adaptor.Show(ctx, sites.Image, bottom)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return have, err
	}
	owner, perr := at.ProjectOf(ctx, r.ProjectID)
	if perr != nil {
		return have, perr
	}
	if err == nil && have.Text("owner") == owner || r.ProjectID == "" {
		return have, err
	}
	admin, aerr := at.Admin(ctx)
	if aerr != nil {
		return have, aerr
	}
	if _, aerr = admin.Update(ctx, sites.Image, bottom, sites.Body{"owner": owner}); aerr != nil {
		return have, errors.Join(err, aerr)
	}
	return at.Adaptor.Show(ctx, sites.Image, bottom)
}

// Remove deletes the image in the session that owns it.
func (m maker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	err := at.Adaptor.Delete(ctx, sites.Image, bottom)
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.NotFound) {
		admin, aerr := at.Admin(ctx) // its owner's account lost its right, or is gone
		if aerr != nil {
			return false, errors.Join(err, aerr)
		}
		if aerr = admin.Delete(ctx, sites.Image, bottom); !fault.Is(aerr, fault.Forbidden) {
			err = aerr
		}
	}
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return true, err
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
