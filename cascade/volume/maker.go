package volume

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// volumeMaker makes a volume at a site.
type volumeMaker struct{ *Service }

var (
	_ cascade.Maker    = volumeMaker{}
	_ cascade.Changer  = volumeMaker{}
	_ cascade.Observer = volumeMaker{}
	_ cascade.Settler  = volumeMaker{}
	_ cascade.Usage    = volumeMaker{}
	_ cascade.Failer   = volumeMaker{}
	_ cascade.Remover  = volumeMaker{}
	_ cascade.Reckoner = volumeMaker{}
)

// Needs returns the volume's source and type.
func (volumeMaker) Needs(_ context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	var needs []ident.TopID
	for _, id := range []ident.TopID{spec.TypeID, r.ImageID, spec.Snapshot, spec.Source} {
		if id != "" {
			needs = append(needs, id)
		}
	}
	return needs, nil
}

// Body returns the volume as Cinder takes it.
func (m volumeMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	body := sites.Body{"size": spec.SizeGiB, "name": r.Name, "description": r.Description}
	if len(spec.Metadata) > 0 {
		body["metadata"] = spec.Metadata
	}
	if spec.BottomZone != "" {
		body["availability_zone"] = spec.BottomZone
	}
	for _, ref := range []struct {
		id  ident.TopID
		key string
	}{{r.ImageID, "imageRef"}, {spec.Snapshot, "snapshot_id"}, {spec.Source, "source_volid"}, {spec.TypeID, "volume_type"}} {
		if ref.id == "" {
			continue
		}
		bottom, err := at.Bottom(ctx, ref.id)
		if err != nil {
			return nil, err
		}
		body[ref.key] = string(bottom)
	}
	return merged(spec.Extra, body)
}

// Change pushes name, description and metadata.
func (volumeMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	meta := cloned(spec.Metadata)
	meta[sites.MetadataMarker] = sites.MarkerText(r.ID) // an update replaces all metadata
	_, err := at.Adaptor.Update(ctx, sites.Volume, bottom, sites.Body{"name": r.Name, "description": r.Description, "metadata": meta})
	return err
}

// Usage is one volume and its GiB.
func (volumeMaker) Usage(r *index.Resource) map[string]int64 {
	var spec Spec
	if r.Decode(&spec) != nil {
		return nil
	}
	return map[string]int64{"volumes": 1, "gigabytes": spec.SizeGiB}
}

// Failed sets Cinder's spelling of the error status.
func (volumeMaker) Failed(r *index.Resource) { r.Status = "error" }

// Settled reports whether the site is done with the volume for now.
func (volumeMaker) Settled(r *index.Resource) bool {
	return r.State == index.Failed || settled(r.Status)
}

// transitional are Cinder's statuses that end by themselves (cinder/objects/fields.py VolumeStatus).
var transitional = []string{
	"creating", "downloading", "uploading", "attaching", "detaching", "extending", "retyping", "backing-up", "restoring-backup",
	"deleting", "managing", "unmanaging", "reserved", "awaiting-transfer-accept", "updating",
}

func settled(status string) bool { return !slices.Contains(transitional, status) }

// Observe takes over what Cinder showed, with Top's ids in place of the site's.
func (m volumeMaker) Observe(ctx context.Context, r *index.Resource, at cascade.At, obj sites.Object) error {
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	body := sites.Body{}
	admin := sites.Body{}
	for k, v := range obj.Body {
		if adminOnly(k) {
			admin[k] = v
		} else {
			body[k] = v
		}
	}
	r.Status = obj.Text("status")
	attachments, server, err := m.attachments(ctx, r, at, obj.Body)
	if err != nil {
		return err
	}
	body["attachments"], r.DeviceID = attachments, server
	if err := m.translate(ctx, r, at, body); err != nil {
		return err
	}
	changed := false
	if spec.TypeID == "" && spec.Type != obj.Text("volume_type") { // the site's default: the tenant named none
		spec.Type, changed = obj.Text("volume_type"), true
	}
	if n, ok := obj.Body["size"].(json.Number); ok && settled(r.Status) {
		// An extension whose answer was lost, or that failed later, shows here; Reckon puts the quota right.
		if size, err := n.Int64(); err == nil && size > 0 && size != spec.SizeGiB {
			spec.SizeGiB, changed = size, true
		}
	}
	if changed {
		if err := r.Encode(spec); err != nil {
			return err
		}
	}
	r.Observed = body
	if len(admin) > 0 {
		r.ObservedAdmin = admin
	}
	return nil
}

// translate puts Top's ids and the tenant's own words into a body that is to be shown.
func (m volumeMaker) translate(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) error {
	if meta, ok := body["volume_image_metadata"].(map[string]any); ok {
		meta = maps.Clone(meta)
		delete(meta, sites.ImageMarker)
		bottom, _ := meta["image_id"].(string)
		image, err := at.Top(ctx, sites.Image, ident.BottomID(bottom))
		if err != nil {
			return err
		}
		if image == "" {
			image = r.ImageID
		}
		if image != "" {
			meta["image_id"] = string(image)
		}
		body["volume_image_metadata"] = meta
	}
	if bottom, ok := body["volume_type_id"].(string); ok {
		top, err := at.Top(ctx, sites.VolumeType, ident.BottomID(bottom))
		if err != nil {
			return err
		}
		body["volume_type_id"] = string(top)
	}
	// What Cinder itself writes there (cinder/api/api_utils.py, add_visible_admin_metadata); the rest is in Spec.
	given, _ := body["metadata"].(map[string]any)
	visible := map[string]any{}
	for _, key := range []string{"readonly", "attached_mode"} {
		if v, ok := given[key]; ok {
			visible[key] = v
		}
	}
	body["metadata"] = visible
	return nil
}

// Reckon charges the project for the size that the site shows. It is not refused: the volume has it.
func (volumeMaker) Reckon(tx *cascade.Tx, before, after *index.Resource) error {
	var was, is Spec
	if err := errors.Join(before.Decode(&was), after.Decode(&is)); err != nil || was.SizeGiB == is.SizeGiB {
		return err
	}
	err := tx.Quota(after.ProjectID, map[string]int64{"gigabytes": is.SizeGiB - was.SizeGiB})
	if fault.Is(err, fault.OverQuota) {
		err = nil
	}
	return err
}

func adminOnly(member string) bool {
	return strings.HasPrefix(member, "os-vol-host-attr:") || strings.HasPrefix(member, "os-vol-mig-status-attr:") ||
		strings.HasPrefix(member, "os-volume-replication:") || member == "migration_status" || member == "cluster_name" || member == "provider_id"
}

// attachments translates the servers that have the volume, and returns the first of them.
func (m volumeMaker) attachments(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) ([]any, ident.TopID, error) {
	list, _ := body["attachments"].([]any)
	out := []any{}
	var first ident.TopID
	for _, item := range list {
		a, ok := item.(map[string]any)
		if !ok {
			continue
		}
		a = maps.Clone(a)
		bottom, _ := a["server_id"].(string)
		top, err := at.Top(ctx, sites.Server, ident.BottomID(bottom))
		if err != nil {
			return nil, "", err
		}
		if top != "" {
			a["server_id"] = string(top)
		}
		if first == "" {
			first = top
		}
		a["id"], a["volume_id"] = string(r.ID), string(r.ID)
		a["host_name"] = nil // as an ordinary user sees it
		out = append(out, a)
	}
	return out, first, nil
}

// snapshotMaker makes a snapshot at its volume's site.
type snapshotMaker struct{ *Service }

var (
	_ cascade.Maker    = snapshotMaker{}
	_ cascade.Changer  = snapshotMaker{}
	_ cascade.Observer = snapshotMaker{}
	_ cascade.Settler  = snapshotMaker{}
	_ cascade.Usage    = snapshotMaker{}
	_ cascade.Failer   = snapshotMaker{}
	_ cascade.Remover  = snapshotMaker{}
)

// Needs returns the volume.
func (snapshotMaker) Needs(_ context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	return []ident.TopID{r.ParentID}, nil
}

// Body returns the snapshot as Cinder takes it.
func (snapshotMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	var spec SnapshotSpec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	volume, err := at.Bottom(ctx, r.ParentID)
	if err != nil {
		return nil, err
	}
	body := sites.Body{"volume_id": string(volume), "name": r.Name, "description": r.Description}
	if spec.Force {
		body["force"] = true
	}
	if len(spec.Metadata) > 0 {
		body["metadata"] = spec.Metadata
	}
	return merged(spec.Extra, body)
}

// Change pushes name, description and metadata.
func (snapshotMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	var spec SnapshotSpec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	if _, err := at.Adaptor.Update(ctx, sites.Snapshot, bottom, sites.Body{"name": r.Name, "description": r.Description}); err != nil {
		return err
	}
	meta := cloned(spec.Metadata)
	meta[sites.MetadataMarker] = sites.MarkerText(r.ID)
	_, err := at.Adaptor.Do(ctx, sites.Request{
		Service: sites.BlockStorage, Method: "PUT", Path: "snapshots/" + string(bottom) + "/metadata", Body: sites.Body{"metadata": meta}, Idempotent: true,
	})
	return err
}

// Usage is one snapshot and, as Cinder counts by default, its GiB.
func (snapshotMaker) Usage(r *index.Resource) map[string]int64 {
	var spec SnapshotSpec
	if r.Decode(&spec) != nil {
		return nil
	}
	return map[string]int64{"snapshots": 1, "gigabytes": spec.SizeGiB}
}

// Failed sets Cinder's spelling of the error status.
func (snapshotMaker) Failed(r *index.Resource) { r.Status = "error" }

// Settled reports whether the site is done with the snapshot for now.
func (snapshotMaker) Settled(r *index.Resource) bool {
	return r.State == index.Failed || settled(r.Status)
}

// Observe takes over what Cinder showed.
func (snapshotMaker) Observe(_ context.Context, r *index.Resource, _ cascade.At, obj sites.Object) error {
	body := maps.Clone(obj.Body)
	body["volume_id"] = string(r.ParentID)
	delete(body, "metadata")
	r.Status, r.Observed = obj.Text("status"), body
	return nil
}
