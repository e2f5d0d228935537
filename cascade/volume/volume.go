// Package volume knows what volumes, their snapshots and types are: it
// validates each verb as Cinder would, records it with its quota and
// references, and says how each kind becomes one at a site.
package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Spec is the desired state of a volume.
type Spec struct {
	SizeGiB    int64             `json:"size"`
	Type       string            `json:"volume_type,omitempty"`
	TypeID     ident.TopID       `json:"volume_type_id,omitempty"`
	Snapshot   ident.TopID       `json:"snapshot_id,omitempty"`
	Source     ident.TopID       `json:"source_volid,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	BottomZone string            `json:"bottom_zone,omitempty"`
	// ForceDelete says that an administrator wants the end in any status.
	ForceDelete bool `json:"force_delete,omitempty"`
	// Extra are members of the request that Headwater does not know; they go down as they are.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
}

// SnapshotSpec is the desired state of a snapshot. Its volume is the row's parent.
type SnapshotSpec struct {
	SizeGiB  int64                      `json:"size"`
	Force    bool                       `json:"force,omitempty"`
	Metadata map[string]string          `json:"metadata,omitempty"`
	Extra    map[string]json.RawMessage `json:"extra,omitempty"`
	// ForceDelete says that an administrator wants the end in any status.
	ForceDelete bool `json:"force_delete,omitempty"`
}

// TypeSpec is the desired state of a volume type.
type TypeSpec struct {
	Public     bool              `json:"public"`
	ExtraSpecs map[string]string `json:"extra_specs,omitempty"`
	// Projects may use a private type by Top's word, There by the sites' own lists; all are ids of Top's projects.
	Projects []string                  `json:"projects,omitempty"`
	There    map[ident.SiteID][]string `json:"there,omitempty"`
}

// The roles of references.
const (
	roleImage    = "image"
	roleSnapshot = "snapshot"
	roleSource   = "source"
	roleType     = "type"
	roleVolume   = "snapshot_of" // not "volume": that is a server's use of it
)

// Placer chooses sites and knows zones.
type Placer interface {
	Choose(ctx context.Context, w placement.Want) (placement.Decision, error)
	BottomZone(ctx context.Context, zone string, site ident.SiteID, service sites.Service) (string, error)
}

// Images are what a volume can be made from and be saved as.
type Images interface {
	Find(ctx context.Context, c sites.Caller, id string) (*index.Resource, error)
	FromVolume(tx *cascade.Tx, made image.FromVolumeRequest) (*index.Resource, error)
}

// Service is the volume vertical.
type Service struct {
	core     *cascade.Core
	placer   Placer
	images   Images
	accounts Accounts
}

// New returns a Service.
func New(core *cascade.Core, p Placer, images Images, accounts Accounts) *Service {
	return &Service{core: core, placer: p, images: images, accounts: accounts}
}

// Register adds the makers of the service's kinds to its Core.
func (s *Service) Register() {
	s.core.Register(sites.Volume, volumeMaker{s})
	s.core.Register(sites.Snapshot, snapshotMaker{s})
	s.core.Register(sites.VolumeType, typeMaker{s})
}

// CreateRequest is what a tenant asks of a new volume. Ids may be Top's or the site's.
type CreateRequest struct {
	Name, Description, Zone       string
	SizeGiB                       int64 // 0 takes the source's
	Type                          string
	ImageID, SnapshotID, SourceID string
	Metadata                      map[string]string
	Spread                        bool // scheduler hint headwater:spread
	Extra                         map[string]json.RawMessage
}

// source is what a volume is made from.
type source struct {
	image, snapshot, volume *index.Resource
	ties                    []placement.Tie
	refs                    []index.Ref
	minGiB                  int64
	minDisk                 int64 // of an image
}

// Create records a volume and the job that makes it.
func (s *Service) Create(ctx context.Context, c sites.Caller, req CreateRequest) (*index.Resource, error) {
	const op = "cascade/volume.Create"
	src, err := s.source(ctx, c, req)
	if err != nil {
		return nil, err
	}
	if req.SizeGiB == 0 {
		req.SizeGiB = src.minGiB
		if src.image != nil || src.minGiB == 0 {
			return nil, fault.New(fault.BadRequest, op, "Invalid input received: Volume size 'None' must be an integer and greater than 0")
		}
	}
	if err := errors.Join(src.checkSize(req.SizeGiB), checkMetadata(req.Metadata), s.fits(ctx, c.ProjectID, req.SizeGiB)); err != nil {
		return nil, err
	}
	typ, err := s.typeFor(ctx, c, req.Type)
	if err != nil {
		return nil, err
	}
	want := placement.Want{Caller: c, Zone: req.Zone, Service: sites.BlockStorage, Ties: src.ties, Spread: req.Spread}
	if src.image != nil {
		want.Image = src.image.ID
	}
	d, err := s.choose(ctx, want, typ)
	if err != nil {
		return nil, err
	}
	r := index.New(sites.Volume, c, req.Name)
	r.Description, r.Zone, r.Site, r.Status = req.Description, req.Zone, d.Site, "creating"
	spec := Spec{SizeGiB: req.SizeGiB, Metadata: req.Metadata, BottomZone: d.BottomZone, Extra: req.Extra}
	refs := src.apply(r, &spec)
	if typ != nil {
		spec.Type, spec.TypeID = typ.Name, typ.ID
		refs = append(refs, index.Ref{To: typ.ID, Role: roleType})
	}
	return r, s.record(ctx, c, r, spec, refs)
}

// checkSize says in Cinder's words (cinder/volume/flows/api/create_volume.py) when a volume is smaller than what it is made of.
func (src *source) checkSize(gib int64) error {
	const op = "cascade/volume.Create"
	switch {
	case gib >= src.minGiB:
		return nil
	case src.image != nil && gib < src.minDisk:
		return fault.New(fault.BadRequest, op, "Invalid input received: Volume size %dGB cannot be smaller than the image minDisk size %dGB.", gib, src.minDisk)
	case src.image != nil:
		return fault.New(fault.BadRequest, op, "Invalid input received: Size of specified image %dGB is larger than volume size %dGB.", src.minGiB, gib)
	case src.snapshot != nil:
		return fault.New(fault.BadRequest, op, "Invalid input received: Volume size '%d'GB cannot be smaller than the snapshot size %dGB. They must be >= original snapshot size.", gib, src.minGiB)
	default:
		return fault.New(fault.BadRequest, op, "Invalid input received: Volume size '%d'GB cannot be smaller than original volume size %dGB. They must be >= original volume size.", gib, src.minGiB)
	}
}

// fits holds a volume's size against the project's limit for each.
func (s *Service) fits(ctx context.Context, project string, gib int64) error {
	all, err := s.core.Quota.Figures(ctx, project)
	if err != nil {
		return err
	}
	if limit := all["per_volume_gigabytes"].Limit; limit >= 0 && gib > limit {
		return fault.New(fault.OverQuota, "cascade/volume", "Requested volume size %dG is larger than maximum allowed limit %dG.", gib, limit)
	}
	return nil
}

// choose picks the site; a volume type that few sites have decides as a reference does.
func (s *Service) choose(ctx context.Context, want placement.Want, typ *index.Resource) (placement.Decision, error) {
	if typ == nil {
		return s.placer.Choose(ctx, want)
	}
	bound, err := s.core.Bindings.OfTop(ctx, typ.ID)
	if err != nil {
		return placement.Decision{}, err
	}
	var at []string
	for _, b := range bound {
		at = append(at, string(b.Site))
	}
	if len(at) == 1 {
		want.Ties = append(slices.Clone(want.Ties), placement.Tie{ID: typ.ID, Kind: sites.VolumeType, Site: bound[0].Site})
	}
	d, err := s.placer.Choose(ctx, want)
	if err == nil && !slices.Contains(at, string(d.Site)) {
		err = fault.New(fault.Conflict, "cascade/volume.Create", "Site %s has no volume type %s; those that have it: %s.", d.Site, typ.Name, strings.Join(at, ", "))
	}
	return d, err
}

func (s *Service) record(ctx context.Context, c sites.Caller, r *index.Resource, spec Spec, refs []index.Ref) error {
	if err := r.Encode(spec); err != nil {
		return err
	}
	return s.core.Commit(ctx, c, "volume.create", func(tx *cascade.Tx) error {
		for _, ref := range refs {
			if err := usable(tx, ref.To); err != nil {
				return err
			}
		}
		if err := tx.Insert(r, refs...); err != nil {
			return err
		}
		_, err := tx.Make(r)
		return err
	})
}

// usable makes sure, in the transaction, that a source is not being deleted at the same time.
func usable(tx *cascade.Tx, id ident.TopID) error {
	r, err := tx.Load(id)
	if err != nil {
		return err
	}
	if r.State != index.Live && r.State != index.Creating {
		return fault.New(fault.BadRequest, "cascade/volume", "Invalid source: %s %s is %s.", r.Kind, r.ID, r.State)
	}
	return nil
}

func (src *source) apply(r *index.Resource, spec *Spec) []index.Ref {
	if src.image != nil {
		r.ImageID = src.image.ID
	}
	if src.snapshot != nil {
		spec.Snapshot = src.snapshot.ID
	}
	if src.volume != nil {
		spec.Source = src.volume.ID
	}
	return src.refs
}

// source finds what the new volume is to be made from and what follows from it.
func (s *Service) source(ctx context.Context, c sites.Caller, req CreateRequest) (*source, error) {
	const op = "cascade/volume.Create"
	src := &source{}
	n := 0
	for _, id := range []string{req.ImageID, req.SnapshotID, req.SourceID} {
		if id != "" {
			n++
		}
	}
	if n > 1 {
		return nil, fault.New(fault.BadRequest, op, "Invalid input received: give at most one of imageRef, snapshot_id and source_volid.")
	}
	switch {
	case req.ImageID != "":
		return src, s.fromImage(ctx, c, req.ImageID, src)
	case req.SnapshotID != "":
		snap, err := s.core.Index.Find(ctx, c, sites.Snapshot, req.SnapshotID)
		if err != nil {
			return nil, err
		}
		var spec SnapshotSpec
		if err := snap.Decode(&spec); err != nil {
			return nil, err
		}
		if snap.Status != "available" {
			return nil, fault.New(fault.BadRequest, op, "Invalid snapshot: Originating snapshot status must be one of 'available' values")
		}
		src.snapshot, src.minGiB = snap, spec.SizeGiB
		src.tie(snap, roleSnapshot)
	case req.SourceID != "":
		vol, err := s.core.Index.Find(ctx, c, sites.Volume, req.SourceID)
		if err != nil {
			return nil, err
		}
		var spec Spec
		if err := vol.Decode(&spec); err != nil {
			return nil, err
		}
		if vol.Status != "available" && vol.Status != "in-use" {
			return nil, fault.New(fault.BadRequest, op, "Invalid volume: Originating volume status must be available or in-use; it is %s.", vol.Status)
		}
		src.volume, src.minGiB = vol, spec.SizeGiB
		src.tie(vol, roleSource)
	}
	return src, nil
}

func (src *source) tie(r *index.Resource, role string) {
	src.ties = append(src.ties, placement.Tie{ID: r.ID, Kind: r.Kind, Site: r.Site})
	src.refs = append(src.refs, index.Ref{To: r.ID, Role: role})
}

func (s *Service) fromImage(ctx context.Context, c sites.Caller, id string, src *source) error {
	img, err := s.images.Find(ctx, c, id)
	if err != nil {
		return fault.New(fault.BadRequest, "cascade/volume.Create", "Invalid image identifier or unable to access requested image.")
	}
	if img.Status != "active" {
		return fault.New(fault.BadRequest, "cascade/volume.Create", "Image %s is not active.", img.ID)
	}
	var spec struct {
		MinDisk int64  `json:"min_disk"`
		Size    *int64 `json:"size"`
	}
	if err := img.Decode(&spec); err != nil {
		return err
	}
	src.image, src.minGiB, src.minDisk = img, spec.MinDisk, spec.MinDisk
	if spec.Size != nil {
		src.minGiB = max(src.minGiB, (*spec.Size+1<<30-1)>>30)
	}
	src.refs = append(src.refs, index.Ref{To: img.ID, Role: roleImage})
	return nil
}

// typeFor finds a volume type by id or name; nil when none was asked for: the site's default then holds.
func (s *Service) typeFor(ctx context.Context, c sites.Caller, nameOrID string) (*index.Resource, error) {
	if nameOrID == "" {
		return nil, nil
	}
	if r, err := s.core.Index.Find(ctx, c, sites.VolumeType, nameOrID); err == nil && TypeVisible(c, r) {
		return r, nil
	}
	rows, err := s.core.Index.List(ctx, index.Query{
		Kind: sites.VolumeType, In: map[index.Field][]string{index.ByName: {nameOrID}}, Limit: 1, Match: func(r *index.Resource) bool { return TypeVisible(c, r) },
	})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fault.New(fault.NotFound, "cascade/volume", "Volume type %s could not be found.", nameOrID)
	}
	return rows[0], nil
}

// ForServers is the Service as servers use it.
type ForServers struct{ *Service }

var _ compute.Volumes = ForServers{}

// Create records a volume for a server, in state Creating, with its quota and its job.
func (s ForServers) Create(tx *cascade.Tx, want compute.VolumeRequest) (*index.Resource, error) {
	r := index.New(sites.Volume, tx.Caller, "")
	r.Site, r.Status, r.ImageID = want.Site, "creating", want.Image
	spec := Spec{SizeGiB: want.SizeGiB, Snapshot: want.Snapshot}
	var refs []index.Ref
	if want.Image != "" {
		refs = append(refs, index.Ref{To: want.Image, Role: roleImage})
	}
	if want.Snapshot != "" {
		refs = append(refs, index.Ref{To: want.Snapshot, Role: roleSnapshot})
		snap, err := tx.Load(want.Snapshot)
		if err != nil {
			return nil, err
		}
		var have SnapshotSpec
		if err := snap.Decode(&have); err != nil {
			return nil, err
		}
		if spec.SizeGiB = max(spec.SizeGiB, have.SizeGiB); snap.Site != want.Site {
			return nil, fault.New(fault.Conflict, "cascade/volume", "Snapshot %s is at site %s and cannot be used at site %s.", snap.ID, snap.Site, want.Site)
		}
	}
	if want.Type != "" {
		typ, err := s.typeFor(tx.Context(), tx.Caller, want.Type)
		if err != nil {
			return nil, err
		}
		spec.Type, spec.TypeID = typ.Name, typ.ID
		refs = append(refs, index.Ref{To: typ.ID, Role: roleType})
	}
	for _, ref := range refs {
		if err := usable(tx, ref.To); err != nil {
			return nil, err
		}
	}
	zone, err := s.placer.BottomZone(tx.Context(), want.Zone, want.Site, sites.BlockStorage)
	if err != nil {
		return nil, err
	}
	spec.BottomZone = zone
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	if err := tx.Insert(r, refs...); err != nil {
		return nil, err
	}
	_, err = tx.Make(r)
	return r, err
}

// HoldSnapshots takes the quota of a snapshot of each volume.
func (s ForServers) HoldSnapshots(tx *cascade.Tx, project string, volumes []ident.TopID) (map[string]int64, error) {
	held := map[string]int64{"snapshots": int64(len(volumes))}
	for _, id := range volumes {
		v, err := tx.Load(id)
		if err != nil {
			return nil, err
		}
		var spec Spec
		if err := v.Decode(&spec); err != nil {
			return nil, err
		}
		held["gigabytes"] += spec.SizeGiB
	}
	return held, tx.Quota(project, held)
}

// AdoptSnapshot records a snapshot that the site made by itself. The id that the site gave becomes its Top id; it gets the marker by a job.
func (s ForServers) AdoptSnapshot(tx *cascade.Tx, site ident.SiteID, found compute.FoundSnapshot) error {
	id := ident.TopID(found.Object.ID)
	if _, err := tx.Load(id); err == nil || !fault.Is(err, fault.NotFound) {
		return err
	}
	vol, err := tx.Load(found.Volume)
	if err != nil {
		return err
	}
	var have Spec
	if err := vol.Decode(&have); err != nil {
		return err
	}
	size := have.SizeGiB
	if n, ok := found.Object.Body["size"].(json.Number); ok {
		if v, err := n.Int64(); err == nil {
			size = v
		}
	}
	r := index.New(sites.Snapshot, tx.Caller, found.Object.Text("name"))
	r.ID, r.ProjectID, r.UserID, r.Site, r.ParentID = id, vol.ProjectID, vol.UserID, site, vol.ID
	r.State, r.Status, r.Description = index.Live, found.Object.Text("status"), found.Object.Text("description")
	if err := r.Encode(SnapshotSpec{SizeGiB: size, Force: true}); err != nil {
		return err
	}
	if err := tx.Insert(r, index.Ref{To: vol.ID, Role: roleVolume}); err != nil {
		return err
	}
	err = s.core.Bindings.Adopt(tx.Tx, binding.Binding{
		TopID: r.ID, Site: site, Kind: sites.Snapshot, ProjectID: r.ProjectID, BottomID: found.Object.ID, Generation: r.Generation,
	})
	if err != nil {
		return err
	}
	if err := tx.Changed(r); err != nil {
		return err
	}
	return tx.Follow(r)
}

func merged(extra map[string]json.RawMessage, body sites.Body) (sites.Body, error) {
	for k, raw := range extra {
		if _, known := body[k]; known {
			continue
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("member %q: %w", k, err)
		}
		body[k] = v
	}
	return body, nil
}

func cloned(m map[string]string) map[string]string {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]string{}
	}
	return out
}
