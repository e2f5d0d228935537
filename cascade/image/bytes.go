package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// copyPoll is how long to stay away from an image whose bytes another is sending.
const copyPoll = 2 * time.Second

// Upload streams the bytes of a queued image to its home site: the one that the
// path pins, else the project's home, else the best. Size is -1 when unknown.
// When the client breaks off, the image is queued again and nothing is kept.
func (s *Service) Upload(ctx context.Context, c sites.Caller, id ident.TopID, data io.Reader, size int64) error {
	decision, err := s.placer.Choose(ctx, placement.Want{Caller: c, Service: sites.ImageService})
	if err != nil {
		return err
	}
	r, attempt, err := s.beginUpload(ctx, c, id, decision.Site)
	if err != nil {
		return err
	}
	obj, err := s.send(ctx, r, data, size)
	// The client may have gone: the result is committed all the same.
	return errors.Join(err, s.endUpload(context.WithoutCancel(ctx), id, attempt, obj, err))
}

func (s *Service) beginUpload(ctx context.Context, c sites.Caller, id ident.TopID, site ident.SiteID) (*index.Resource, int64, error) {
	var out *index.Resource
	var attempt int64
	err := s.core.Commit(ctx, c, "image.upload", func(tx *cascade.Tx) error {
		r, spec, err := s.own(tx, id)
		if err != nil {
			return err
		}
		if r.Status != Queued {
			return fault.New(fault.Conflict, "cascade/image.Upload", "Image status transition from %s to saving is not allowed", r.Status)
		}
		if spec.DiskFormat == "" || spec.ContainerFormat == "" {
			return fault.New(fault.BadRequest, "cascade/image.Upload", "Properties disk_format, container_format must be set prior to saving data.")
		}
		spec.Home = site // what an earlier upload left elsewhere is filled from here when it is needed
		spec.Uploads++
		r.Status = Saving
		out, attempt = r, spec.Uploads
		if err := r.Encode(spec); err != nil {
			return err
		}
		if err := tx.Save(r); err != nil {
			return err
		}
		return s.watch(tx, r, watchArgs{ID: r.ID, Upload: attempt}, uploadWatch) // settles the row if this process dies in the middle
	})
	return out, attempt, err
}

// send puts the bytes to the home site and returns the image as it is there then.
func (s *Service) send(ctx context.Context, r *index.Resource, data io.Reader, size int64) (sites.Object, error) {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return sites.Object{}, err
	}
	at, err := s.core.At(ctx, r, spec.Home)
	if err != nil {
		return sites.Object{}, err
	}
	bottom, err := s.vessel(ctx, r, at)
	if err != nil {
		return sites.Object{}, err
	}
	summed := newHasher(fromClient{data})
	if err := at.Adaptor.Upload(ctx, bottom, summed, size); err != nil {
		return sites.Object{}, err
	}
	obj, err := at.Adaptor.Show(ctx, sites.Image, bottom)
	if err != nil {
		return obj, err
	}
	if obj.Text("os_hash_algo") == "sha512" && obj.Text("os_hash_value") != summed.hex() {
		return obj, &fault.Error{Op: "cascade/image.Upload", Site: string(spec.Home), Kind: fault.Unavailable, Msg: fmt.Sprintf("Site %s stored other bytes than were sent. Upload again.", spec.Home)}
	}
	return obj, nil
}

// fromClient makes the end of a client's stream before its time the client's fault, not ours.
type fromClient struct{ io.Reader }

// Read implements io.Reader.
func (f fromClient) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &fault.Error{Op: "cascade/image.Upload", Kind: fault.BadRequest, Msg: "The image's data ended before their time.", Err: err}
	}
	return n, err
}

// vessel returns a queued record at the home site. One that an earlier upload
// left in another status (its stream broke, and Glance took what had come for the whole) is replaced.
func (s *Service) vessel(ctx context.Context, r *index.Resource, at cascade.At) (ident.BottomID, error) {
	for range 2 {
		bottom, err := s.core.Ensure(ctx, at.Site, r.ID)
		if err != nil {
			return "", err
		}
		obj, err := at.Adaptor.Show(ctx, sites.Image, bottom)
		if err == nil && obj.Text("status") == Queued {
			return bottom, nil
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return "", err
		}
		if err := s.discard(ctx, r, at, bottom); err != nil {
			return "", err
		}
	}
	return "", &fault.Error{Op: "cascade/image.vessel", Site: string(at.Site), Kind: fault.Unavailable, RetryAfter: 5,
		Msg: fmt.Sprintf("Site %s is not ready to take the bytes of image %s. Upload again.", at.Site, r.ID)}
}

// discard deletes a record at a site that cannot be used and forgets it; the next one gets another id there.
func (s *Service) discard(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	if err := at.Adaptor.Delete(ctx, sites.Image, bottom); err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("discard %s: %w", describe(r, at.Site), err)
	}
	s.core.Log().WarnContext(ctx, "unusable image was discarded", "site", at.Site, "top_id", r.ID, "bottom_id", bottom)
	return s.core.Internal(ctx, func(tx *cascade.Tx) error { return s.core.Bindings.Forget(tx.Tx, r.ID, at.Site) })
}

// endUpload records what came of an upload: active with its sums, or queued
// again. A later upload's row is left alone.
func (s *Service) endUpload(ctx context.Context, id ident.TopID, attempt int64, obj sites.Object, cause error) error {
	return s.core.Internal(ctx, func(tx *cascade.Tx) error {
		r, err := tx.Load(id)
		if err != nil {
			return err
		}
		var spec Spec
		if err := r.Decode(&spec); err != nil {
			return err
		}
		switch {
		case spec.Uploads != attempt || r.Status != Saving && (r.Status != Queued || cause != nil):
			return nil // settled by the watch, or a later upload's
		case r.State != index.Live && cause == nil:
			return fault.New(fault.NotFound, "cascade/image.Upload", "Image %s could not be found after upload. The image may have been deleted during the upload.", id)
		case r.State != index.Live:
			return nil
		case cause != nil:
			return s.requeue(tx, r, spec)
		}
		r.Status = Active
		if err := learn(r, obj); err != nil {
			return err
		}
		return tx.Save(r)
	})
}

// requeue takes an upload back. The record at the site counts as unfinished: bytes copied to it later make it whole.
func (s *Service) requeue(tx *cascade.Tx, r *index.Resource, spec Spec) error {
	r.Status = Queued
	b, err := s.core.Bindings.GetIn(tx.Tx, r.ID, spec.Home)
	if err != nil {
		return err
	}
	if b.Known() {
		b.Generation = 0
		if err := s.core.Bindings.Note(tx.Tx, b); err != nil {
			return err
		}
	}
	return tx.Save(r)
}

// learn takes over what a site says of an image's bytes.
func learn(r *index.Resource, obj sites.Object) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	spec.Size, spec.VirtualSize = int64Of(obj.Body, "size"), int64Of(obj.Body, "virtual_size")
	spec.Checksum, spec.HashAlgo, spec.HashValue = obj.Text("checksum"), obj.Text("os_hash_algo"), obj.Text("os_hash_value")
	for key, to := range map[string]*string{"disk_format": &spec.DiskFormat, "container_format": &spec.ContainerFormat} {
		if v := obj.Text(key); *to == "" && v != "" {
			*to = v
		}
	}
	r.Observed = obj.Body
	return r.Encode(spec)
}

// Download returns an image's bytes from offset on and their number, -1 when unknown. When the site breaks off in the
// middle, another that surely has the same bytes goes on. The caller closes.
func (s *Service) Download(ctx context.Context, c sites.Caller, id ident.TopID, offset int64) (io.ReadCloser, int64, error) {
	r, err := s.Find(ctx, c, string(id))
	if err != nil {
		return nil, 0, err
	}
	if r.State != index.Live {
		return nil, 0, errNoBytes(r)
	}
	if r.Status == Deactivated && !c.Admin() {
		return nil, 0, fault.New(fault.Forbidden, "cascade/image.Download", "The requested image has been deactivated. Image data download is forbidden.")
	}
	if r.Status != Active && r.Status != Deactivated {
		return nil, 0, errNoBytes(r)
	}
	data, size, err := maker{s}.open(ctx, r, "", offset)
	if err != nil {
		return nil, 0, err
	}
	return data, size, nil
}
