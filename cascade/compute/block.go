package compute

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// wantedBlock is a block device with its references found.
type wantedBlock struct {
	Block  Block
	row    *index.Resource // the existing volume; the snapshot of a new one
	source *index.Resource // the image of a new volume
	fresh  bool            // a volume that is to be made
	volume string          // type of the new volume
}

// planBlocks reads block_device_mapping_v2: what becomes a new volume is made by Top, so that it has a Top id at once.
func (s *Service) planBlocks(ctx context.Context, p *plan) error {
	for _, b := range p.req.Blocks {
		if b.Destination == "" {
			b.Destination = "volume"
			if b.Source == "image" || b.Source == "blank" {
				b.Destination = "local"
			}
		}
		w := wantedBlock{volume: b.Type, Block: Block{
			Source: b.Source, Destination: b.Destination, BootIndex: b.BootIndex, SizeGiB: b.SizeGiB, Delete: b.Delete,
			Device: b.Device, Format: b.Format, DeviceType: b.DeviceType, Bus: b.Bus, Tag: b.Tag,
		}}
		if err := s.planBlock(ctx, p, b, &w); err != nil {
			return err
		}
		p.blocks = append(p.blocks, w)
	}
	if len(p.blocks) > 0 && p.image == nil && !slices.ContainsFunc(p.blocks, func(w wantedBlock) bool { return w.Block.BootIndex != nil && *w.Block.BootIndex == 0 }) {
		return badRequest("Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid.")
	}
	return nil
}

func (s *Service) planBlock(ctx context.Context, p *plan, b BlockRequest, w *wantedBlock) error {
	invalid := func(format string, args ...any) error {
		return badRequest("Block Device Mapping is Invalid: "+format, args...)
	}
	var err error
	switch {
	case b.Source == "volume" && b.Destination == "volume":
		w.row, err = s.planVolume(ctx, p, b.ID)
		// What no site has looked at yet may become bootable; nova/compute/api.py, _validate_bdm.
		if boots := b.BootIndex != nil && *b.BootIndex == 0; err == nil && boots && w.row.Status == "available" && w.row.Observed["bootable"] == "false" {
			return badRequest("Block Device %s is not bootable.", w.row.ID)
		}
	case b.Source == "image" && b.Destination == "local":
		if w.source, err = s.usableImage(ctx, p.caller, b.ID); err == nil {
			w.Block.ID = w.source.ID
		}
	case b.Source == "image":
		if b.SizeGiB <= 0 {
			return invalid("Images with destination_type 'volume' need to have a non-zero size specified.")
		}
		w.fresh = true
		w.source, err = s.usableImage(ctx, p.caller, b.ID)
	case b.Source == "snapshot" && b.Destination == "volume":
		w.fresh = true
		w.row, err = s.core.Index.Find(ctx, p.caller, sites.Snapshot, b.ID)
		if fault.Is(err, fault.NotFound) {
			return invalid("failed to get snapshot %s.", b.ID)
		}
	case b.Source == "blank" && b.Destination == "volume":
		if b.SizeGiB <= 0 {
			return invalid("Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size.")
		}
		w.fresh = true
	case b.Source == "blank":
	default:
		return invalid("The block device mapping is invalid: Invalid destination_type: %s for source_type: %s", b.Destination, b.Source)
	}
	if err == nil && w.fresh && s.volumes == nil {
		err = fault.New(fault.NotImplemented, "cascade/compute.planBlock", "New volumes are not offered here.")
	}
	return err
}

func (s *Service) planVolume(ctx context.Context, p *plan, id string) (*index.Resource, error) {
	v, err := s.core.Index.Find(ctx, p.caller, sites.Volume, id)
	if fault.Is(err, fault.NotFound) {
		return nil, badRequest("Block Device Mapping is Invalid: failed to get volume %s.", id)
	}
	if err == nil && v.Status != "available" && v.Status != "creating" {
		return nil, badRequest("Invalid volume: volume '%s' status must be 'available'. Currently in '%s' status.", v.ID, v.Status)
	}
	return v, err
}

// giveBlocks records the volumes that the server brings and takes those that are there.
func (s *Service) giveBlocks(tx *cascade.Tx, p *plan, one *Server) error {
	for _, w := range p.blocks {
		b := w.Block
		volume := w.row
		var err error
		switch {
		case w.fresh:
			if volume, err = s.volumes.Create(tx, volumeRequest(p, one, w)); err != nil {
				return err
			}
			b.Source, b.SizeGiB = "volume", 0
		case b.Source == "volume":
			if volume, err = tx.Load(volume.ID); err != nil {
				return err
			}
			if err := s.holdVolume(tx, volume, one.ID); err != nil {
				return err
			}
		}
		if b.Source == "volume" {
			b.ID = volume.ID
			one.Spec.Volumes = append(one.Spec.Volumes, VolumeUse{ID: volume.ID, Device: b.Device, Tag: b.Tag, Delete: b.Delete, Boot: b.BootIndex != nil && *b.BootIndex == 0})
		}
		one.Spec.Blocks = append(one.Spec.Blocks, b)
	}
	if p.bootsFromVolume() {
		one.ImageID = "" // as Nova: what boots from a volume shows no image
	}
	return nil
}

func volumeRequest(p *plan, one *Server, w wantedBlock) VolumeRequest {
	v := VolumeRequest{Server: one.ID, Site: one.Site, Zone: p.req.Zone, SizeGiB: w.Block.SizeGiB, Type: w.volume}
	if w.source != nil {
		v.Image = w.source.ID
	}
	if w.row != nil {
		v.Snapshot = w.row.ID
	}
	return v
}

// holdVolume marks a volume as being taken by a server: nobody else can have it.
func (s *Service) holdVolume(tx *cascade.Tx, v *index.Resource, server ident.TopID) error {
	users, err := s.holders(tx, v.ID)
	if err != nil {
		return err
	}
	if len(users) > 0 || v.DeviceID != "" || v.State == index.Deleting || v.State == index.Failed {
		return badRequest("Invalid volume: volume %s is already attached or not available", v.ID)
	}
	v.DeviceID = server
	if v.Status == "available" {
		v.Status = "reserved"
	}
	return tx.Save(v)
}

// facts are what a server needs to know of an image.
type facts struct {
	minRAM  int64 // MiB
	minDisk int64 // GiB
	bytes   int64
}

// imageFacts reads them from the row, whoever wrote it: the members have Glance's names in its spec and in what sites showed.
func imageFacts(r *index.Resource) facts {
	var f struct {
		MinRAM  json.Number `json:"min_ram"`
		MinDisk json.Number `json:"min_disk"`
		Size    json.Number `json:"size"`
	}
	_ = json.Unmarshal(r.Spec, &f) // a spec of another form has no such members
	pick := func(own json.Number, member string) int64 {
		if n, err := own.Int64(); err == nil {
			return n
		}
		if shown, ok := r.Observed[member].(json.Number); ok {
			n, _ := shown.Int64()
			return n
		}
		return 0
	}
	return facts{minRAM: pick(f.MinRAM, "min_ram"), minDisk: pick(f.MinDisk, "min_disk"), bytes: pick(f.Size, "size")}
}
