package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Saving is an image of a server that its site was told to make and has not
// named yet. Its id marks the image at the site; the image's Top id is the one that the site gives it (cascade/README.md: Aliases).
type Saving struct {
	ID       ident.TopID       `json:"id"`
	Verb     int64             `json:"verb"`
	Name     string            `json:"name"`
	Metadata map[string]string `json:"metadata,omitempty"`
	// Held is the quota kept for the volume snapshots that come with it.
	Held map[string]int64 `json:"held,omitempty"`
}

// savedImage is what a site made of a createImage.
type savedImage struct {
	bottom    ident.BottomID
	mapping   map[string]string // the properties by which it boots from volumes
	snapshots []FoundSnapshot
}

// mappingProperties make an image without bytes one that boots from volume snapshots.
var mappingProperties = []string{"block_device_mapping", "bdm_v2", "root_device_name"}

// CreateImage has a server's disk saved as an image at its site. The id that the site gives the image is its Top id.
// Of a server that boots from a volume the site makes, as Nova does, snapshots of its volumes and an image that only
// names them; the snapshots become Top's under the ids that the site gave them, too.
func (s *Service) CreateImage(ctx context.Context, caller sites.Caller, id, name string, metadata map[string]string) (ident.TopID, error) {
	const op = "cascade/compute.CreateImage"
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return "", err
	}
	if s.images == nil {
		return "", fault.New(fault.NotImplemented, op, "Images of servers are not offered here.")
	}
	saving := Saving{ID: ident.NewTopID(), Name: name, Metadata: metadata}
	sent := withText(maps.Clone(metadata))
	sent[sites.ImageMarker] = sites.MarkerText(saving.ID)
	var made savedImage
	var image ident.TopID
	_, err = s.run(ctx, caller, one, act{
		rule: "createImage", call: action("createImage", sites.Body{"name": name, "metadata": sent}),
		begin: func(tx *cascade.Tx, one *Server) error {
			saving.Verb = one.VerbNo + 1
			var err error
			if saving.Held, err = s.holdSnapshots(tx, one); err == nil {
				one.Spec.Saving = append(one.Spec.Saving, saving)
			}
			return err
		},
		then: func(ctx context.Context, at cascade.At, reply sites.Reply) error {
			bottom := imageID(reply)
			if bottom == "" {
				return fault.New(fault.Unavailable, op, "The site did not say which image it makes.")
			}
			made = savedImage{bottom: bottom}
			if one.ImageID != "" {
				return nil
			}
			obj, err := at.Adaptor.Show(ctx, sites.Image, bottom)
			if err == nil {
				made, err = s.readSaved(ctx, at, obj)
			}
			return err
		},
		done: func(tx *cascade.Tx, one *Server, _ sites.Reply) error {
			tx.Caller = caller
			r, err := s.saved(tx, one, saving, made)
			if err == nil {
				image = r.ID
			}
			return err
		},
		undo: func(tx *cascade.Tx, one *Server) error { return s.unsaved(tx, one, saving) },
	})
	return image, err
}

// bootsFromVolume reports whether a server has no disk of its own: then its image is made of snapshots.
func (s *Server) bootsFromVolume() bool { return s.ImageID == "" && len(s.Spec.Volumes) > 0 }

// holdSnapshots takes the quota of the snapshots that a site will make, before it is asked.
func (s *Service) holdSnapshots(tx *cascade.Tx, one *Server) (map[string]int64, error) {
	if !one.bootsFromVolume() {
		return nil, nil
	}
	if s.volumes == nil {
		return nil, fault.New(fault.NotImplemented, "cascade/compute.CreateImage", "Snapshots of volumes are not offered here.")
	}
	var ids []ident.TopID
	for _, v := range one.Spec.Volumes {
		ids = append(ids, v.ID)
	}
	return s.volumes.HoldSnapshots(tx, one.ProjectID, ids)
}

// saved records the image that a site made, with the snapshots that it names. It may come twice: from the request and from the job that looked for its lost answer.
func (s *Service) saved(tx *cascade.Tx, one *Server, saving Saving, made savedImage) (*index.Resource, error) {
	if err := s.unsaved(tx, one, saving); err != nil {
		return nil, err
	}
	for _, snap := range made.snapshots {
		if err := s.volumes.AdoptSnapshot(tx, one.Site, snap); err != nil {
			return nil, err
		}
	}
	return s.images.Snapshot(tx, SnapshotRequest{
		Bottom: made.bottom, Site: one.Site, Name: saving.Name, Server: one.Resource, Metadata: saving.Metadata, Mapping: made.mapping,
	})
}

// unsaved ends the wait for an image and gives back the quota that was held for it.
func (s *Service) unsaved(tx *cascade.Tx, one *Server, saving Saving) error {
	at := slices.IndexFunc(one.Spec.Saving, func(x Saving) bool { return x.ID == saving.ID })
	if at < 0 {
		return nil
	}
	held := one.Spec.Saving[at].Held
	one.Spec.Saving = slices.Delete(slices.Clone(one.Spec.Saving), at, at+1)
	if len(held) == 0 {
		return nil
	}
	return s.core.Quota.Release(tx.Tx, one.ProjectID, held)
}

// readSaved reads which snapshots an image boots from, and of which volumes they are. Those of volumes that Top does not know are left out.
func (s *Service) readSaved(ctx context.Context, at cascade.At, obj sites.Object) (savedImage, error) {
	out := savedImage{bottom: obj.ID, mapping: map[string]string{}}
	for _, key := range mappingProperties {
		if v, ok := obj.Body[key]; ok && v != nil {
			out.mapping[key] = fmt.Sprint(v)
		}
	}
	for _, m := range readMapping(out.mapping["block_device_mapping"]) {
		if m.Snapshot == "" {
			continue
		}
		snap, err := at.Adaptor.Show(ctx, sites.Snapshot, ident.BottomID(m.Snapshot))
		if err != nil {
			return out, fmt.Errorf("look at snapshot %s of image %s: %w", m.Snapshot, obj.ID, err)
		}
		volume, err := at.Top(ctx, sites.Volume, ident.BottomID(snap.Text("volume_id")))
		if err != nil {
			return out, err
		}
		if volume != "" {
			out.snapshots = append(out.snapshots, FoundSnapshot{Volume: volume, Object: snap})
		}
	}
	return out, nil
}

// imageDevice is one entry of an image's block_device_mapping.
type imageDevice struct {
	Source      string `json:"source_type"`
	Destination string `json:"destination_type"`
	Snapshot    string `json:"snapshot_id"`
	Volume      string `json:"volume_id"`
	Image       string `json:"image_id"`
	BootIndex   *int   `json:"boot_index"`
	SizeGiB     *int64 `json:"volume_size"`
	Type        string `json:"volume_type"`
	Delete      *bool  `json:"delete_on_termination"`
	Device      string `json:"device_name"`
	Format      string `json:"guest_format"`
	DeviceType  string `json:"device_type"`
	Bus         string `json:"disk_bus"`
}

// readMapping decodes the property; what is none (a tenant may write anything there) has no devices.
func readMapping(property string) []imageDevice {
	var out []imageDevice
	if json.Unmarshal([]byte(property), &out) != nil {
		return nil
	}
	return out
}

// requests are the image's devices as a request names them.
func (m imageDevice) request() BlockRequest {
	b := BlockRequest{
		Source: m.Source, Destination: m.Destination, BootIndex: m.BootIndex, Type: m.Type, Device: m.Device, Format: m.Format, DeviceType: m.DeviceType, Bus: m.Bus,
	}
	if m.SizeGiB != nil {
		b.SizeGiB = *m.SizeGiB
	}
	b.Delete = m.Delete != nil && *m.Delete
	switch m.Source {
	case "snapshot":
		b.ID = m.Snapshot
	case "volume":
		b.ID = m.Volume
	case "image":
		b.ID = m.Image
	}
	return b
}

// planMapping takes over the block devices that an image names (nova/compute/api.py, _check_and_transform_bdm): such an
// image boots from snapshots, where they are. A device of the request replaces the image's of the same name, and the
// root that clients add for every image gives way.
func (s *Service) planMapping(_ context.Context, p *plan) error {
	if p.image == nil {
		return nil
	}
	var spec struct {
		Properties map[string]string `json:"properties"`
	}
	if err := p.image.Decode(&spec); err != nil {
		return err
	}
	isRoot := func(b BlockRequest) bool { return b.BootIndex != nil && *b.BootIndex == 0 }
	var own []BlockRequest
	for _, m := range readMapping(spec.Properties["block_device_mapping"]) {
		b := m.request()
		if !slices.ContainsFunc(p.req.Blocks, func(r BlockRequest) bool { return r.Device != "" && r.Device == b.Device }) {
			own = append(own, b)
		}
	}
	if slices.ContainsFunc(own, isRoot) {
		p.req.Blocks = slices.DeleteFunc(slices.Clone(p.req.Blocks), func(b BlockRequest) bool { return isRoot(b) && b.Source == "image" })
		p.mapped, p.image = p.image, nil
	}
	p.req.Blocks = append(own, p.req.Blocks...)
	return nil
}

func withText(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// imageID reads the id of the image: in the body since 2.45, in the Location before.
func imageID(reply sites.Reply) ident.BottomID {
	if id := text(reply.Body["image_id"]); id != "" {
		return ident.BottomID(id)
	}
	if at := reply.Header.Get("Location"); at != "" {
		return ident.BottomID(path.Base(at))
	}
	return ""
}

// Open reports whether a verb up to a number left something undecided.
func (m serverMaker) Open(r *index.Resource, verb int64) bool {
	one, err := decodeServer(r)
	return err == nil && slices.ContainsFunc(one.Spec.Saving, func(x Saving) bool { return x.Verb <= verb })
}

// Decide looks for the images that verbs without an answer had made, by their markers.
func (m serverMaker) Decide(ctx context.Context, r *index.Resource, at cascade.At, verb int64) (bool, func(*cascade.Tx, *index.Resource) error, error) {
	one, err := decodeServer(r)
	if err != nil {
		return false, nil, err
	}
	sure := false
	found := map[ident.TopID]savedImage{}
	for _, x := range one.Spec.Saving {
		if x.Verb > verb {
			continue
		}
		list, err := at.Adaptor.FindMarked(ctx, sites.Image, x.ID)
		if err != nil {
			return false, nil, fmt.Errorf("look for the image of server %s: %w", r.ID, err)
		}
		if len(list) == 0 {
			continue
		}
		if found[x.ID], err = m.readSaved(ctx, at, list[0]); err != nil {
			return false, nil, err
		}
		sure = sure || x.Verb == verb
	}
	return sure, func(tx *cascade.Tx, r *index.Resource) error {
		return edit(r, func(one *Server) error {
			for _, x := range slices.Clone(one.Spec.Saving) {
				made, ok := found[x.ID]
				switch {
				case x.Verb > verb:
					continue
				case sure && x.Verb < verb && !ok:
					continue // only this verb is decided before its time: an earlier one may be on its way, and has a job of its own
				case ok:
					if _, err := m.saved(tx, one, x, made); err != nil {
						return err
					}
				default: // the site never made it
					if err := m.unsaved(tx, one, x); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}, nil
}
