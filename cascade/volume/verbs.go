package volume

import (
	"context"
	"errors"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Change is what an update of a volume or snapshot sets; nil members stay.
type Change struct {
	Name, Description *string
	// Metadata changes the metadata, which it gets as its own copy; nil leaves it. It runs inside the transaction, maybe more than once.
	Metadata func(map[string]string) (map[string]string, error)
}

// Update changes a volume's or snapshot's own words; the site gets them by a job.
func (s *Service) Update(ctx context.Context, c sites.Caller, kind sites.Kind, id string, ch Change) (*index.Resource, error) {
	var out *index.Resource
	err := s.core.Commit(ctx, c, string(kind)+".update", func(tx *cascade.Tx) error {
		r, err := tx.Find(kind, id)
		if err != nil {
			return err
		}
		out = r
		if ch.Name != nil {
			r.Name = *ch.Name
		}
		if ch.Description != nil {
			r.Description = *ch.Description
		}
		if ch.Metadata != nil {
			if err := setMetadata(r, ch.Metadata); err != nil {
				return err
			}
		}
		return tx.Changed(r)
	})
	return out, err
}

func setMetadata(r *index.Resource, change func(map[string]string) (map[string]string, error)) error {
	if r.Kind == sites.Snapshot {
		var spec SnapshotSpec
		if err := r.Decode(&spec); err != nil {
			return err
		}
		var err error
		if spec.Metadata, err = change(cloned(spec.Metadata)); err != nil {
			return err
		}
		return errors.Join(checkMetadata(spec.Metadata), r.Encode(spec))
	}
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	var err error
	if spec.Metadata, err = change(cloned(spec.Metadata)); err != nil {
		return err
	}
	return errors.Join(checkMetadata(spec.Metadata), r.Encode(spec))
}

// maxText is the length in characters of Cinder's names, descriptions, and metadata keys and values.
const maxText = 255

func checkMetadata(meta map[string]string) error {
	const op = "cascade/volume"
	for k, v := range meta {
		if k == "" || utf8.RuneCountInString(k) > maxText || utf8.RuneCountInString(v) > maxText {
			return fault.New(fault.BadRequest, op, "Invalid input for field/attribute metadata. Keys have 1 to %d characters, values at most %d.", maxText, maxText)
		}
		if k == sites.MetadataMarker {
			return fault.New(fault.BadRequest, op, "The metadata key %q is Headwater's own.", k)
		}
	}
	return nil
}

// deletable are the statuses in which Cinder deletes a volume (cinder/volume/api.py delete).
var deletable = []string{"available", "error", "error_restoring", "error_extending", "error_managing", "error_deleting", "creating"}

// Delete ends a volume. Cascade deletes its snapshots with it; force (administrators) looks at no status.
func (s *Service) Delete(ctx context.Context, c sites.Caller, id string, withSnapshots, force bool) error {
	const op = "cascade/volume.Delete"
	return s.core.Commit(ctx, c, "volume.delete", func(tx *cascade.Tx) error {
		r, err := tx.Find(sites.Volume, id)
		if err != nil {
			return err
		}
		if r.DeviceID != "" || r.Status == "in-use" {
			return fault.New(fault.BadRequest, op, "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer.")
		}
		if !force && !slices.Contains(deletable, r.Status) {
			return fault.New(fault.BadRequest, op, "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing; it is %s.", r.Status)
		}
		snaps, err := s.core.Index.Children(tx.Tx, r.ID, string(sites.Snapshot))
		if err != nil {
			return err
		}
		if len(snaps) > 0 && !withSnapshots {
			return fault.New(fault.BadRequest, op, "Invalid volume: Volume %s has %d snapshots; delete them first, or with cascade.", r.ID, len(snaps))
		}
		if err := s.unused(tx, r); err != nil {
			return err
		}
		for _, snap := range snaps {
			if err := errors.Join(s.unused(tx, snap), s.deleteSnapshot(tx, snap, force)); err != nil {
				return err
			}
		}
		if force {
			if err := setForce(r); err != nil {
				return err
			}
		}
		r.Status = "deleting"
		return tx.Delete(r)
	})
}

// unused refuses the end of what something is being made of right now: at the site that may not have begun yet.
func (s *Service) unused(tx *cascade.Tx, r *index.Resource) error {
	users, err := s.core.Index.UsedByIn(tx.Tx, r.ID, "")
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.Role == roleVolume {
			continue // a snapshot of the volume, or a server that has it: judged by themselves
		}
		user, err := tx.Load(u.From)
		if err == nil && user.State == index.Creating {
			return fault.New(fault.BadRequest, "cascade/volume.Delete", "Invalid %s: %s %s is being made of %s.", r.Kind, user.Kind, user.ID, r.ID)
		}
	}
	return nil
}

// setForce notes that an administrator wants the end in any status.
func setForce(r *index.Resource) error {
	if r.Kind == sites.Snapshot {
		var spec SnapshotSpec
		if err := r.Decode(&spec); err != nil {
			return err
		}
		spec.ForceDelete = true
		return r.Encode(spec)
	}
	var spec Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	spec.ForceDelete = true
	return r.Encode(spec)
}

func (s *Service) deleteSnapshot(tx *cascade.Tx, snap *index.Resource, force bool) error {
	if snap.State == index.Deleting {
		return nil
	}
	if force {
		if err := setForce(snap); err != nil {
			return err
		}
	}
	snap.Status = "deleting"
	return tx.Delete(snap)
}

// Remove waits, before a volume is deleted at a site, until its snapshots are gone there.
func (m volumeMaker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	left, err := m.core.Index.Count(ctx, index.Query{Kind: sites.Snapshot, AllProjects: true, In: map[index.Field][]string{index.ByParent: {string(r.ID)}}})
	if err == nil && left > 0 {
		err = &cascade.WaitError{After: snapshotWait, For: "the volume's snapshots to be deleted"}
	}
	var spec Spec
	if err = errors.Join(err, r.Decode(&spec)); err != nil || !spec.ForceDelete {
		return false, err
	}
	return true, forceDelete(ctx, at, "volumes/"+string(bottom))
}

// Remove deletes a snapshot by force when an administrator wanted that.
func (snapshotMaker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	var spec SnapshotSpec
	if err := r.Decode(&spec); err != nil || !spec.ForceDelete {
		return false, err
	}
	return true, forceDelete(ctx, at, "snapshots/"+string(bottom))
}

// forceDelete is an administrator's verb, also at the site.
func forceDelete(ctx context.Context, at cascade.At, path string) error {
	admin, err := at.Admin(ctx)
	if err != nil {
		return err
	}
	_, err = admin.Do(ctx, sites.Request{Service: sites.BlockStorage, Method: "POST", Path: path + "/action", Body: sites.Body{"os-force_delete": sites.Body{}}, Idempotent: true})
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return err
}

// DeleteSnapshot ends a snapshot.
func (s *Service) DeleteSnapshot(ctx context.Context, c sites.Caller, id string, force bool) error {
	return s.core.Commit(ctx, c, "snapshot.delete", func(tx *cascade.Tx) error {
		snap, err := tx.Find(sites.Snapshot, id)
		if err != nil {
			return err
		}
		if !force && snap.Status != "available" && snap.Status != "error" && snap.Status != "error_deleting" {
			return fault.New(fault.BadRequest, "cascade/volume.DeleteSnapshot", "Invalid snapshot: Snapshot status must be available or error; it is %s.", snap.Status)
		}
		if err := s.unused(tx, snap); err != nil {
			return err
		}
		return s.deleteSnapshot(tx, snap, force)
	})
}

// SnapshotRequest is what a tenant asks of a new snapshot.
type SnapshotRequest struct {
	VolumeID, Name, Description string
	Force                       bool
	Metadata                    map[string]string
}

// CreateSnapshot records a snapshot of a volume and the job that makes it, where the volume is.
func (s *Service) CreateSnapshot(ctx context.Context, c sites.Caller, req SnapshotRequest) (*index.Resource, error) {
	if err := checkMetadata(req.Metadata); err != nil {
		return nil, err
	}
	r := index.New(sites.Snapshot, c, req.Name)
	err := s.core.Commit(ctx, c, "snapshot.create", func(tx *cascade.Tx) error {
		vol, err := tx.Find(sites.Volume, req.VolumeID)
		if err != nil {
			return err
		}
		if vol.State != index.Live || vol.Status != "available" && (!req.Force || vol.Status != "in-use") {
			return fault.New(fault.BadRequest, "cascade/volume.CreateSnapshot", "Invalid volume: Volume %s status must be available, but current status is: %s.", vol.ID, vol.Status)
		}
		var have Spec
		if err := vol.Decode(&have); err != nil {
			return err
		}
		r.Site, r.ParentID, r.Description, r.Status, r.Version = vol.Site, vol.ID, req.Description, "creating", 0
		if err := r.Encode(SnapshotSpec{SizeGiB: have.SizeGiB, Force: req.Force, Metadata: req.Metadata}); err != nil {
			return err
		}
		if err := tx.Insert(r, index.Ref{To: vol.ID, Role: roleVolume}); err != nil {
			return err
		}
		_, err = tx.Make(r)
		return err
	})
	return r, err
}

// Extend makes a volume larger. The quota is taken before the site is asked, and given back when it refuses.
func (s *Service) Extend(ctx context.Context, c sites.Caller, id string, newGiB int64) error {
	r, err := s.core.Index.Find(ctx, c, sites.Volume, id)
	if err != nil {
		return err
	}
	if err := s.fits(ctx, r.ProjectID, newGiB); err != nil {
		return err
	}
	var old int64
	resize := func(tx *cascade.Tx, row *index.Resource, from, to int64) error {
		var spec Spec
		if err := row.Decode(&spec); err != nil {
			return err
		}
		spec.SizeGiB = to
		if err := tx.Quota(row.ProjectID, map[string]int64{"gigabytes": to - from}); err != nil {
			return err
		}
		return row.Encode(spec)
	}
	_, err = s.core.Run(ctx, c, r.ID, cascade.Verb{
		Action: "volume.extend", Settle: true,
		Begin: func(tx *cascade.Tx, row *index.Resource) error {
			var spec Spec
			if err := row.Decode(&spec); err != nil {
				return err
			}
			old = spec.SizeGiB
			if row.Status != "available" && row.Status != "in-use" {
				return fault.New(fault.BadRequest, "cascade/volume.Extend", "Invalid volume: Volume %s status must be available or in-use to extend, but current status is: %s.", row.ID, row.Status)
			}
			if newGiB <= old {
				return fault.New(fault.BadRequest, "cascade/volume.Extend", "Invalid input received: New size for extend must be greater than current size. (current: %d, extended: %d).", old, newGiB)
			}
			row.Status = "extending"
			return resize(tx, row, old, newGiB)
		},
		Call: action("os-extend", sites.Body{"new_size": newGiB}),
		Undo: func(tx *cascade.Tx, row *index.Resource) error { return resize(tx, row, newGiB, old) },
	})
	return err
}

// action returns the call of a Cinder volume action.
func action(name string, args any) func(context.Context, cascade.At, ident.BottomID) (sites.Reply, error) {
	return func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Reply, error) {
		return at.Adaptor.Do(ctx, sites.Request{
			Service: sites.BlockStorage, Method: "POST", Path: "volumes/" + string(bottom) + "/action", Body: sites.Body{name: args},
		})
	}
}

// Deed is an action that is passed on to the site.
type Deed struct {
	Name string // Cinder's: os-set_bootable
	Args any    // without ids
	// Admin says that Cinder lets administrators do it only: it is done by the site's own account.
	Admin bool
	// Done, which may be nil, writes what the accepted action means into the row at once.
	Done func(r *index.Resource) error
}

// Act passes an action on and reads the volume or snapshot again.
func (s *Service) Act(ctx context.Context, c sites.Caller, kind sites.Kind, id string, d Deed) error {
	r, err := s.core.Index.Find(ctx, c, kind, id)
	if err != nil {
		return err
	}
	collection := map[sites.Kind]string{sites.Volume: "volumes", sites.Snapshot: "snapshots"}[kind]
	_, err = s.core.Run(ctx, c, r.ID, cascade.Verb{
		Action: string(kind) + "." + d.Name, Settle: true,
		Call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Reply, error) {
			a := at.Adaptor
			if d.Admin {
				var err error
				if a, err = at.Admin(ctx); err != nil {
					return sites.Reply{}, err
				}
			}
			return a.Do(ctx, sites.Request{Service: sites.BlockStorage, Method: "POST", Path: collection + "/" + string(bottom) + "/action", Body: sites.Body{d.Name: d.Args}})
		},
		Done: func(_ *cascade.Tx, row *index.Resource, _ sites.Reply) error {
			if d.Done == nil {
				return nil
			}
			row.Observed = maps.Clone(row.Observed)
			if row.Observed == nil {
				row.Observed = sites.Body{}
			}
			return d.Done(row)
		},
	})
	return err
}

// Retype changes a volume's type to one that its site has.
func (s *Service) Retype(ctx context.Context, c sites.Caller, id, newType, policy string) error {
	r, err := s.core.Index.Find(ctx, c, sites.Volume, id)
	if err != nil {
		return err
	}
	typ, err := s.typeFor(ctx, c, newType)
	if err != nil {
		return err
	}
	if typ == nil {
		return fault.New(fault.BadRequest, "cascade/volume.Retype", "Invalid input received: new_type is missing.")
	}
	_, err = s.core.Run(ctx, c, r.ID, cascade.Verb{
		Action: "volume.retype", Settle: true,
		Begin: func(_ *cascade.Tx, row *index.Resource) error { row.Status = "retyping"; return nil },
		Call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Reply, error) {
			there, err := at.Bottom(ctx, typ.ID)
			if err != nil {
				return sites.Reply{}, err
			}
			args := sites.Body{"new_type": string(there)}
			if policy != "" {
				args["migration_policy"] = policy
			}
			return action("os-retype", args)(ctx, at, bottom)
		},
		Done: func(tx *cascade.Tx, row *index.Resource, _ sites.Reply) error {
			var spec Spec
			if err := row.Decode(&spec); err != nil {
				return err
			}
			spec.Type, spec.TypeID = typ.Name, typ.ID
			return errors.Join(row.Encode(spec), s.core.Index.SetRefs(tx.Tx, row.ID, roleType, typ.ID))
		},
	})
	return err
}

// UploadRequest is what a tenant asks of an image made of a volume.
type UploadRequest struct {
	Name, DiskFormat, ContainerFormat string
	Visibility                        string // "" is private
	Force, Protected                  bool
}

// Upload makes an image of a volume at its site. The image's id there becomes its Top id.
func (s *Service) Upload(ctx context.Context, c sites.Caller, id string, req UploadRequest) (*index.Resource, sites.Body, error) {
	r, err := s.core.Index.Find(ctx, c, sites.Volume, id)
	if err != nil {
		return nil, nil, err
	}
	if req.Visibility == "" {
		req.Visibility = "private"
	}
	if req.Visibility == "public" && !c.Admin() {
		return nil, nil, fault.New(fault.Forbidden, "cascade/volume.Upload", "Policy doesn't allow volume_extension:volume_actions:upload_public to be performed.")
	}
	var img *index.Resource
	var told sites.Body
	_, err = s.core.Run(ctx, c, r.ID, cascade.Verb{
		Action: "volume.upload_image", Settle: true,
		Begin: func(_ *cascade.Tx, row *index.Resource) error {
			if row.Status != "available" && (!req.Force || row.Status != "in-use") {
				return fault.New(fault.BadRequest, "cascade/volume.Upload", "Invalid volume: Volume %s status must be available, but current status is: %s.", row.ID, row.Status)
			}
			row.Status = "uploading"
			return nil
		},
		Call: action("os-volume_upload_image", sites.Body{
			"image_name": req.Name, "disk_format": req.DiskFormat, "container_format": req.ContainerFormat, "force": req.Force,
		}),
		Done: func(tx *cascade.Tx, row *index.Resource, reply sites.Reply) error {
			told, _ = reply.Body["os-volume_upload_image"].(map[string]any)
			made, _ := told["image_id"].(string)
			if made == "" {
				return fault.New(fault.Internal, "cascade/volume.Upload", "site %s answered without the image's id", row.Site)
			}
			tx.Caller = c
			var err error
			img, err = s.images.FromVolume(tx, image.FromVolumeRequest{
				Bottom: ident.BottomID(made), Volume: row, Name: req.Name, DiskFormat: req.DiskFormat, ContainerFormat: req.ContainerFormat,
				Visibility: req.Visibility, Protected: req.Protected,
			})
			return err
		},
	})
	return img, told, err
}
