package compute

import (
	"context"
	"net/http"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// AttachVolume gives a volume to a server, and returns how the server has it.
func (s *Service) AttachVolume(ctx context.Context, caller sites.Caller, id string, want VolumeUse) (VolumeUse, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return want, err
	}
	v, err := s.core.Index.Find(ctx, caller, sites.Volume, string(want.ID))
	if fault.Is(err, fault.NotFound) {
		return want, fault.New(fault.NotFound, "cascade/compute.AttachVolume", "Volume %s could not be found.", want.ID)
	}
	if err != nil {
		return want, err
	}
	want.ID = v.ID
	if v.Site != one.Site {
		return want, fault.New(fault.Conflict, "cascade/compute.AttachVolume", "Volume %s is at site %s and server %s at site %s: both must be at one site.", v.ID, v.Site, one.ID, one.Site)
	}
	held := &heldVolume{s: s, id: v.ID, server: one.ID}
	_, err = s.run(ctx, caller, one, act{
		rule: "attach_volume", begin: func(tx *cascade.Tx, _ *Server) error { return held.take(tx, "attaching") },
		call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error) {
			there, err := at.Bottom(ctx, v.ID)
			if err != nil {
				return sites.Request{}, err
			}
			args := sites.Body{"volumeId": string(there)}
			if want.Device != "" {
				args["device"] = want.Device
			}
			if want.Tag != "" {
				args["tag"] = want.Tag
			}
			if want.Delete {
				args["delete_on_termination"] = true
			}
			return sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "servers/" + string(bottom) + "/os-volume_attachments", Body: sites.Body{"volumeAttachment": args}}, nil
		},
		done: func(tx *cascade.Tx, one *Server, reply sites.Reply) error {
			if shown, ok := reply.Body["volumeAttachment"].(map[string]any); ok && text(shown["device"]) != "" {
				want.Device = text(shown["device"])
			}
			if !slices.ContainsFunc(one.Spec.Volumes, func(u VolumeUse) bool { return u.ID == v.ID }) {
				one.Spec.Volumes = append(one.Spec.Volumes, want)
			}
			return held.answered(tx)
		},
		undo: func(tx *cascade.Tx, _ *Server) error { return held.leave(tx, "available") },
	})
	return want, err
}

// heldVolume is a volume that a verb on a server changes too.
type heldVolume struct {
	s      *Service
	id     ident.TopID
	server ident.TopID
	follow jobs.ID
	shared bool // it had a server already (multiattach)
}

// take marks the volume as being attached to the server.
func (h *heldVolume) take(tx *cascade.Tx, status string) error {
	v, err := tx.Load(h.id)
	if err != nil {
		return err
	}
	users, err := h.s.holders(tx, h.id)
	if err != nil {
		return err
	}
	multi := multiattach(v)
	h.shared = multi && len(users) > 0
	switch {
	case v.State != index.Live:
		return badRequest("Invalid volume: volume '%s' status must be 'available'. Currently in '%s' status.", v.ID, v.Status)
	case slices.Contains(users, h.server):
		return badRequest("Invalid volume: volume %s already attached to instance %s", v.ID, h.server)
	case v.Status != "available" && !(multi && v.Status == "in-use"):
		return badRequest("Invalid volume: volume '%s' status must be 'available'. Currently in '%s' status.", v.ID, v.Status)
	case len(users) > 0 && !multi:
		return badRequest("Invalid volume: volume %s is already attached", v.ID)
	}
	v.Status, v.DeviceID = status, h.server
	if err := h.s.core.Index.AddRefs(tx.Tx, index.Ref{From: h.server, To: h.id, Role: roleVolume}); err != nil {
		return err
	}
	h.follow, err = tx.Await(v)
	return err
}

// holders are the servers that have a volume or may be getting it. A reference without either is what an attach left
// that was never carried out: it holds nothing.
func (s *Service) holders(tx *cascade.Tx, volume ident.TopID) ([]ident.TopID, error) {
	users, err := s.core.Index.UsedByIn(tx.Tx, volume, roleVolume)
	if err != nil {
		return nil, err
	}
	var out []ident.TopID
	for _, u := range users {
		r, err := tx.Load(u.From)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		one, err := decodeServer(r)
		if err != nil {
			return nil, err
		}
		if r.Outstanding() || slices.ContainsFunc(one.Spec.Volumes, func(v VolumeUse) bool { return v.ID == volume }) {
			out = append(out, u.From)
		}
	}
	return out, nil
}

// detach marks the volume as being detached.
func (h *heldVolume) detach(tx *cascade.Tx) error {
	v, err := tx.Load(h.id)
	if err != nil {
		return err
	}
	if v.Status != "in-use" {
		return badRequest("Invalid volume: Invalid input received: Invalid volume: Volume status must be 'in-use'. Currently in '%s' status", v.Status)
	}
	v.Status = "detaching"
	h.follow, err = tx.Await(v)
	return err
}

func (h *heldVolume) answered(tx *cascade.Tx) error {
	v, err := tx.Load(h.id)
	if err != nil {
		return err
	}
	return tx.Answered(v, h.follow)
}

// leave undoes take.
func (h *heldVolume) leave(tx *cascade.Tx, status string) error {
	v, err := tx.Load(h.id)
	if err != nil {
		return err
	}
	v.Status, v.DeviceID = status, ""
	if h.shared {
		v.Status = "in-use"
	}
	if err := h.s.core.Index.RemoveRefs(tx.Tx, index.Ref{From: h.server, To: h.id, Role: roleVolume}); err != nil {
		return err
	}
	return tx.Answered(v, h.follow)
}

func multiattach(v *index.Resource) bool {
	if yes, ok := v.Observed["multiattach"].(bool); ok {
		return yes
	}
	var spec struct {
		Multiattach bool `json:"multiattach"`
	}
	_ = v.Decode(&spec) // a spec of another form has no such member
	return spec.Multiattach
}

// Attachment returns how a server has a volume; fault.NotFound when it has it not.
func (s *Service) Attachment(ctx context.Context, caller sites.Caller, id, volume string) (*Server, VolumeUse, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return nil, VolumeUse{}, err
	}
	missing := fault.New(fault.NotFound, "cascade/compute.Attachment", "Instance %s is not attached to volume %s", id, volume)
	v, err := s.core.Index.Find(ctx, caller, sites.Volume, volume)
	if fault.Is(err, fault.NotFound) {
		return nil, VolumeUse{}, missing
	}
	if err != nil {
		return nil, VolumeUse{}, err
	}
	for _, u := range one.Spec.Volumes {
		if u.ID == v.ID {
			return one, u, nil
		}
	}
	return nil, VolumeUse{}, missing
}

// KeepVolume says whether a volume of a server is deleted with it.
func (s *Service) KeepVolume(ctx context.Context, caller sites.Caller, id, volume string, remove bool) error {
	_, use, err := s.Attachment(ctx, caller, id, volume)
	if err != nil {
		return err
	}
	return s.record1(ctx, caller, id, "server.update_volume", func(_ *cascade.Tx, one *Server) error {
		for i := range one.Spec.Volumes {
			if one.Spec.Volumes[i].ID == use.ID {
				one.Spec.Volumes[i].Delete = remove
			}
		}
		return nil
	})
}

// DetachVolume takes a volume from a server; it is available once the site says so.
func (s *Service) DetachVolume(ctx context.Context, caller sites.Caller, id, volume string) error {
	one, use, err := s.Attachment(ctx, caller, id, volume)
	if err != nil {
		return err
	}
	if use.Boot && VMState(one.Resource) != offloaded {
		return fault.New(fault.Forbidden, "cascade/compute.DetachVolume", "Cannot detach a root device volume")
	}
	held := &heldVolume{s: s, id: use.ID, server: one.ID}
	_, err = s.run(ctx, caller, one, act{
		rule: "detach_volume", goneOK: true,
		begin: func(tx *cascade.Tx, one *Server) error {
			if !slices.Contains(one.Spec.Detaching, use.ID) {
				one.Spec.Detaching = append(one.Spec.Detaching, use.ID)
			}
			return held.detach(tx)
		},
		call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error) {
			there, err := at.Bottom(ctx, use.ID)
			return sites.Request{Service: sites.Compute, Method: http.MethodDelete, Path: "servers/" + string(bottom) + "/os-volume_attachments/" + string(there)}, err
		},
		done: func(tx *cascade.Tx, _ *Server, _ sites.Reply) error { return held.answered(tx) },
		undo: func(tx *cascade.Tx, one *Server) error {
			one.Spec.Detaching = slices.DeleteFunc(one.Spec.Detaching, func(id ident.TopID) bool { return id == use.ID })
			v, err := tx.Load(use.ID)
			if err != nil {
				return err
			}
			v.Status = "in-use"
			return tx.Answered(v, held.follow)
		},
	})
	return err
}
