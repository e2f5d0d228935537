package image

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

type watchArgs struct {
	ID   ident.TopID  `json:"id"`
	Site ident.SiteID `json:"site"` // that makes the image by itself; "" for an upload
	// Upload is the number of the upload that is watched (Spec.Uploads).
	Upload int64 `json:"upload,omitempty"`
}

// Kind names the job.
func (watchArgs) Kind() string { return "image.watch" }

// The watch looks at an upload less and less often; one whose stream ended
// without a word from its Top is settled within uploadWatch.
const (
	uploadWatch   = 30 * time.Second
	snapshotWatch = time.Second
	// uploadGrace is how long an upload may take before its first byte reaches the site: a project made there on first
	// use, the record, and the calls before, each bounded by the call's own limit.
	uploadGrace = 5 * time.Minute
)

// RegisterJobs adds the vertical's kinds of job.
func (s *Service) RegisterJobs(e *jobs.Engine) error { return jobs.Add(e, watcher{s}) }

// watcher follows an image that a site is filling until it is active or never will be.
type watcher struct{ *Service }

// Work looks once; it may run twice.
func (w watcher) Work(ctx context.Context, job jobs.Job[watchArgs]) error {
	r, err := w.core.Index.Get(ctx, job.Args.ID)
	if fault.Is(err, fault.NotFound) || err == nil && (r.State != index.Live || r.Status != Saving && r.Status != Queued) {
		return nil
	}
	if err != nil {
		return err
	}
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	uploading, site := job.Args.Site == "", job.Args.Site
	if uploading {
		if spec.Uploads != job.Args.Upload || r.Status != Saving {
			return nil // that upload ended
		}
		site = spec.Home
	}
	obj, err := w.look(ctx, r, site)
	switch {
	case fault.Is(err, fault.NotFound) && uploading:
		return w.brokeOff(ctx, r, job, job.CreatedAt)
	case fault.Is(err, fault.NotFound):
		return w.core.Fail(ctx, r.ID, fault.New(fault.NotFound, "cascade/image.watch", "Site %s dropped the image while it was being made.", site))
	case err != nil:
		return jobs.Snooze(uploadWatch)
	}
	return w.settle(ctx, r, obj, job)
}

// brokeOff ends an upload that nobody carries any more, once it is too late for its Top to begin it or to tell its end.
func (w watcher) brokeOff(ctx context.Context, r *index.Resource, job jobs.Job[watchArgs], since time.Time) error {
	if w.core.Now().Sub(since) < uploadGrace {
		return jobs.Snooze(uploadWatch)
	}
	return w.endUpload(ctx, r.ID, job.Args.Upload, sites.Object{}, fault.New(fault.Unavailable, "cascade/image.watch", "The upload broke off."))
}

func (w watcher) look(ctx context.Context, r *index.Resource, site ident.SiteID) (sites.Object, error) {
	b, err := w.core.Bindings.Get(ctx, r.ID, site)
	if err != nil {
		return sites.Object{}, err
	}
	if !b.Known() {
		return sites.Object{}, index.NotFound(sites.Image, string(r.ID))
	}
	at, err := w.core.At(ctx, r, site)
	if err != nil {
		return sites.Object{}, err
	}
	return at.Adaptor.Show(ctx, sites.Image, b.BottomID)
}

func (w watcher) settle(ctx context.Context, r *index.Resource, obj sites.Object, job jobs.Job[watchArgs]) error {
	uploading, age := job.Args.Site == "", w.core.Now().Sub(job.CreatedAt)
	switch status := obj.Text("status"); {
	case status == Active && !uploading:
		return w.filled(ctx, r.ID, obj)
	case (status == Active || status == Queued) && uploading:
		// The stream ended, and the Top that carried it did not say so within the time that it had: what the site
		// holds may be less than what the tenant sent, so it is sent again.
		since := job.CreatedAt
		if at, err := time.Parse(time.RFC3339, obj.Text("updated_at")); err == nil && at.After(since) {
			since = at
		}
		return w.brokeOff(ctx, r, job, since)
	case status == Killed || status == "deleted" || status == "pending_delete":
		return w.core.Fail(ctx, r.ID, fault.New(fault.Conflict, "cascade/image.watch", "The site could not make the image: it is %s there.", status))
	case uploading:
		return jobs.Snooze(uploadWatch)
	default:
		return jobs.Snooze(min(max(age/2, snapshotWatch), uploadWatch))
	}
}

// filled records that an image's bytes are there.
func (s *Service) filled(ctx context.Context, id ident.TopID, obj sites.Object) error {
	return s.core.Internal(ctx, func(tx *cascade.Tx) error {
		r, err := tx.Load(id)
		if err != nil || r.State != index.Live || r.Status == Active {
			return err
		}
		r.Status = Active
		if err := learn(r, obj); err != nil {
			return err
		}
		return tx.Save(r)
	})
}

// Snapshot records, idempotently, the image that a site is making of a server: the id that the site gave becomes its Top id.
func (s *Service) Snapshot(tx *cascade.Tx, made compute.SnapshotRequest) (*index.Resource, error) {
	id := ident.TopID(made.Bottom)
	if r, err := tx.Load(id); err == nil || !fault.Is(err, fault.NotFound) {
		return r, err
	}
	r := index.New(sites.Image, tx.Caller, made.Name)
	r.ID, r.ProjectID, r.UserID = id, made.Server.ProjectID, made.Server.UserID
	r.State, r.Status, r.Visibility, r.ImageID = index.Live, Queued, Private, made.Server.ImageID
	spec := Spec{Home: made.Site, Properties: map[string]string{}}
	if err := s.inherit(tx, made.Server.ImageID, &spec); err != nil {
		return nil, err
	}
	props := spec.Properties
	maps.Copy(props, made.Metadata)
	for _, key := range []string{"block_device_mapping", "bdm_v2", "root_device_name"} {
		delete(props, key)
	}
	maps.Copy(props, made.Mapping)
	props["image_type"], props["instance_uuid"] = "snapshot", string(made.Server.ID)
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	if err := tx.Insert(r); err != nil {
		return nil, err
	}
	return r, s.bindAndWatch(tx, r, made.Site)
}

// notInherited are the properties that Nova does not hand on (nova/compute/utils.py, nova/conf/compute.py); so are those that begin with os_glance.
var notInherited = []string{
	"cinder_encryption_key_id", "cinder_encryption_key_deletion_policy", "img_signature", "img_signature_hash_method",
	"img_signature_key_type", "img_signature_certificate_uuid", "cache_in_nova", "bittorrent",
}

// inherit gives a server's image the properties of the one that the server was made of, as Nova does at the site.
func (s *Service) inherit(tx *cascade.Tx, base ident.TopID, spec *Spec) error {
	if base == "" {
		return nil
	}
	r, err := tx.Load(base)
	if err != nil {
		return ignoreMissing(err)
	}
	var from Spec
	if err := r.Decode(&from); err != nil {
		return err
	}
	spec.MinDisk, spec.MinRAM = from.MinDisk, from.MinRAM
	for k, v := range from.Properties {
		if !slices.Contains(notInherited, k) && !strings.HasPrefix(k, "os_glance") {
			spec.Properties[k] = v
		}
	}
	spec.Properties["base_image_ref"] = string(base)
	return nil
}

func ignoreMissing(err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// FromVolumeRequest is an image that a site is making of a volume.
type FromVolumeRequest struct {
	Bottom                            ident.BottomID // the image's id at the site, which becomes its Top id
	Volume                            *index.Resource
	Name, DiskFormat, ContainerFormat string
	Visibility                        string
	Protected                         bool
}

// FromVolume records, idempotently, the image that a site is making of a volume.
func (s *Service) FromVolume(tx *cascade.Tx, made FromVolumeRequest) (*index.Resource, error) {
	id := ident.TopID(made.Bottom)
	if r, err := tx.Load(id); err == nil || !fault.Is(err, fault.NotFound) {
		return r, err
	}
	r := index.New(sites.Image, tx.Caller, made.Name)
	r.ID, r.ProjectID, r.UserID = id, made.Volume.ProjectID, made.Volume.UserID
	r.State, r.Status, r.Visibility = index.Live, Queued, made.Visibility
	spec := Spec{Home: made.Volume.Site, DiskFormat: made.DiskFormat, ContainerFormat: made.ContainerFormat, Protected: made.Protected}
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	if err := tx.Insert(r); err != nil {
		return nil, err
	}
	if err := s.bindAndWatch(tx, r, made.Volume.Site); err != nil || r.Visibility == Private {
		return r, err
	}
	return r, tx.Changed(r) // the site made it private
}

func (s *Service) bindAndWatch(tx *cascade.Tx, r *index.Resource, site ident.SiteID) error {
	err := s.core.Bindings.Adopt(tx.Tx, binding.Binding{
		TopID: r.ID, Site: site, Kind: sites.Image, ProjectID: r.ProjectID, BottomID: ident.BottomID(r.ID), Generation: r.Generation,
	})
	if err != nil {
		return err
	}
	return s.watch(tx, r, watchArgs{ID: r.ID, Site: site}, 0)
}

func (s *Service) watch(tx *cascade.Tx, r *index.Resource, args watchArgs, delay time.Duration) error {
	o := jobs.Options{ProjectID: r.ProjectID}
	if delay > 0 {
		o.RunAt = s.core.Now().Add(delay)
	}
	_, err := jobs.Insert(tx.Context(), tx.Tx, args, o)
	return err
}

// Revive puts in the watch of an upload, or of an image that a site is making, that nobody follows any more.
func (m maker) Revive(tx *cascade.Tx, r *index.Resource) (bool, error) {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return false, err
	}
	switch {
	case r.Status == Saving && spec.Home != "":
		return true, m.watch(tx, r, watchArgs{ID: r.ID, Upload: spec.Uploads}, 0)
	case r.Status != Queued || spec.Uploads > 0 || spec.Home == "":
		return false, nil // its bytes are yet to come from the tenant
	}
	b, err := m.core.Bindings.GetIn(tx.Tx, r.ID, spec.Home)
	if err != nil || !b.Known() {
		return false, err
	}
	return true, m.watch(tx, r, watchArgs{ID: r.ID, Site: spec.Home}, 0)
}
