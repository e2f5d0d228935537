package compute

import (
	"context"
	"path"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// CreateImage has a server's disk saved as an image at its site. The id that the site gives the image is its Top id.
func (s *Service) CreateImage(ctx context.Context, caller sites.Caller, id, name string, metadata map[string]string) (ident.TopID, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return "", err
	}
	if s.images == nil {
		return "", fault.New(fault.NotImplemented, "cascade/compute.CreateImage", "Images of servers are not offered here.")
	}
	if one.ImageID == "" && one.Spec.bootsFromVolume() {
		// Nova would make snapshots of its volumes that nobody at Top knows, and an image that boots at that site only.
		return "", fault.New(fault.Conflict, "cascade/compute.CreateImage", "Instance %s boots from a volume: make a snapshot of the volume instead.", one.ID)
	}
	var image ident.TopID
	_, err = s.run(ctx, caller, one, act{
		rule: "createImage", call: action("createImage", sites.Body{"name": name, "metadata": withText(metadata)}),
		done: func(tx *cascade.Tx, one *Server, reply sites.Reply) error {
			bottom := imageID(reply)
			if bottom == "" {
				return &fault.Error{Op: "cascade/compute.CreateImage", Site: string(one.Site), Kind: fault.Unavailable, Msg: "The site did not say which image it makes."}
			}
			tx.Caller = caller
			r, err := s.images.Snapshot(tx, SnapshotRequest{Bottom: bottom, Site: one.Site, Name: name, Server: one.Resource, Metadata: metadata})
			if err != nil {
				return err
			}
			image = r.ID
			return nil
		},
	})
	return image, err
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

func (s *ServerSpec) bootsFromVolume() bool {
	return slices.ContainsFunc(s.Volumes, func(v VolumeUse) bool { return v.Boot })
}
