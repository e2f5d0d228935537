package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// serverMaker makes a server row one at a site.
type serverMaker struct{ *Service }

var (
	_ cascade.Observer = serverMaker{}
	_ cascade.Settler  = serverMaker{}
	_ cascade.Ender    = serverMaker{}
	_ cascade.Usage    = serverMaker{}
	_ cascade.Changer  = serverMaker{}
	_ cascade.Failer   = serverMaker{}
	_ cascade.Reckoner = serverMaker{}
	_ cascade.Decider  = serverMaker{}
	_ cascade.Resumer  = serverMaker{}
)

// Needs returns the flavor, key, image, volumes, group and ports, in the order in which they are quick to get.
func (m serverMaker) Needs(_ context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	one, err := decodeServer(r)
	if err != nil {
		return nil, err
	}
	needs := []ident.TopID{r.FlavorID}
	add := func(id ident.TopID) {
		if id != "" && !slices.Contains(needs, id) {
			needs = append(needs, id)
		}
	}
	add(one.Spec.Keypair)
	add(one.Spec.ServerGroup)
	add(r.ImageID)
	for _, b := range one.Spec.Blocks {
		add(b.ID)
	}
	for _, p := range one.Spec.Ports {
		add(p.ID)
	}
	return needs, nil
}

// Body returns the create request for the site, with the ids that things have there.
func (m serverMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	one, err := decodeServer(r)
	if err != nil {
		return nil, err
	}
	body := sites.Body{}
	for key, raw := range one.Spec.Extra {
		body[key] = raw
	}
	body["name"] = r.Name
	for _, part := range []func(context.Context, *Server, cascade.At, sites.Body) error{m.references, m.blocks, m.nets} {
		if err := part(ctx, one, at, body); err != nil {
			return nil, err
		}
	}
	plainMembers(one, body)
	return body, nil
}

// plainMembers adds what goes down as the tenant wrote it.
func plainMembers(one *Server, body sites.Body) {
	spec := one.Spec
	for key, text := range map[string]string{
		"availability_zone": spec.BottomZone, "user_data": spec.UserData, "adminPass": spec.AdminPass, "hostname": spec.Hostname,
		"accessIPv4": spec.AccessIPv4, "accessIPv6": spec.AccessIPv6, "OS-DCF:diskConfig": spec.DiskConfig,
	} {
		if text != "" {
			body[key] = text
		}
	}
	if len(spec.Metadata) > 0 {
		body["metadata"] = spec.Metadata
	}
	if spec.Description != nil && *spec.Description != "" {
		body["description"] = *spec.Description
	}
	if spec.ConfigDrive {
		body["config_drive"] = true
	}
	if len(spec.TrustedCerts) > 0 {
		body["trusted_image_certificates"] = spec.TrustedCerts
	}
	if len(spec.Personality) > 0 {
		body["personality"] = spec.Personality
	}
}

func (m serverMaker) references(ctx context.Context, one *Server, at cascade.At, body sites.Body) error {
	flavor, err := at.Bottom(ctx, one.FlavorID)
	if err != nil {
		return err
	}
	if err := m.grantFlavor(ctx, one.FlavorID, at); err != nil {
		return err
	}
	body["flavorRef"] = string(flavor)
	if one.ImageID != "" {
		image, err := at.Bottom(ctx, one.ImageID)
		if err != nil {
			return err
		}
		body["imageRef"] = string(image)
	}
	if one.Spec.Keypair != "" {
		key, err := at.Bottom(ctx, one.Spec.Keypair)
		if err != nil {
			return err
		}
		body["key_name"] = string(key)
	}
	hints := sites.Body{}
	for k, v := range one.Spec.Hints {
		if k != "headwater:spread" {
			hints[k] = v
		}
	}
	if err := m.hintServers(ctx, hints, at); err != nil {
		return err
	}
	if one.Spec.ServerGroup != "" {
		group, err := at.Bottom(ctx, one.Spec.ServerGroup)
		if err != nil {
			return err
		}
		hints["group"] = string(group)
	}
	if len(hints) > 0 {
		body["os:scheduler_hints"] = hints
	}
	return nil
}

// hintServers translates the servers that hints name; one that is at another site is left out, which "different_host" thereby gets anyway.
func (m serverMaker) hintServers(ctx context.Context, hints sites.Body, at cascade.At) error {
	for _, key := range []string{"same_host", "different_host"} {
		named, ok := hints[key]
		if !ok {
			continue
		}
		list, ok := named.([]any)
		if !ok {
			list = []any{named}
		}
		var bottoms []any
		for _, v := range list {
			id, _ := v.(string)
			b, err := m.core.Bindings.Get(ctx, ident.TopID(id), at.Site)
			switch {
			case err != nil:
				return err
			case b.Known():
				bottoms = append(bottoms, string(b.BottomID))
			case key == "same_host":
				return &fault.Error{Op: "cascade/compute.Body", Site: string(at.Site), Kind: fault.Conflict, Msg: fmt.Sprintf("Server %s of the hint same_host is not at site %s.", id, at.Site)}
			}
		}
		hints[key] = bottoms
		if len(bottoms) == 0 {
			delete(hints, key)
		}
	}
	return nil
}

func (m serverMaker) blocks(ctx context.Context, one *Server, at cascade.At, body sites.Body) error {
	var out []any
	for _, b := range one.Spec.Blocks {
		item := sites.Body{"source_type": b.Source, "destination_type": b.Destination, "delete_on_termination": b.Delete}
		if b.ID != "" {
			id, err := at.Bottom(ctx, b.ID)
			if err != nil {
				return err
			}
			item["uuid"] = string(id)
		}
		if b.BootIndex != nil {
			item["boot_index"] = *b.BootIndex
		}
		if b.SizeGiB > 0 {
			item["volume_size"] = b.SizeGiB
		}
		for key, text := range map[string]string{"device_name": b.Device, "guest_format": b.Format, "device_type": b.DeviceType, "disk_bus": b.Bus, "tag": b.Tag} {
			if text != "" {
				item[key] = text
			}
		}
		out = append(out, item)
	}
	if len(out) > 0 {
		body["block_device_mapping_v2"] = out
	}
	return nil
}

func (m serverMaker) nets(ctx context.Context, one *Server, at cascade.At, body sites.Body) error {
	if len(one.Spec.Ports) == 0 {
		body["networks"] = "none"
		return nil
	}
	var out []any
	for _, p := range one.Spec.Ports {
		id, err := at.Bottom(ctx, p.ID)
		if err != nil {
			return err
		}
		item := sites.Body{"port": string(id)}
		if p.Tag != "" {
			item["tag"] = p.Tag
		}
		out = append(out, item)
	}
	body["networks"] = out
	return nil
}

// Change pushes the members that can be changed while a server lives.
func (m serverMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	one, err := decodeServer(r)
	if err != nil {
		return err
	}
	body := sites.Body{"name": r.Name, "description": one.Spec.Description, "accessIPv4": nil, "accessIPv6": nil}
	for key, text := range map[string]string{"accessIPv4": one.Spec.AccessIPv4, "accessIPv6": one.Spec.AccessIPv6} {
		if text == "" {
			delete(body, key)
			continue
		}
		body[key] = text
	}
	if one.Spec.Hostname != "" {
		body["hostname"] = one.Spec.Hostname
	}
	_, err = at.Adaptor.Update(ctx, sites.Server, bottom, body)
	return err
}

// Usage is what a server takes of its project's quota.
func (m serverMaker) Usage(r *index.Resource) map[string]int64 {
	one, err := decodeServer(r)
	if err != nil {
		return nil
	}
	return map[string]int64{"instances": 1, "cores": one.Spec.VCPUs, "ram": one.Spec.RAM}
}

// Failed is how a server looks whose create failed for good.
func (m serverMaker) Failed(r *index.Resource) {
	r.Status, r.TaskState = "ERROR", ""
	if r.Observed != nil {
		r.Observed[stateMember] = erred
	}
	if one, err := decodeServer(r); err == nil {
		one.Spec.wipe()
		one.Spec.Waiting = nil // no verb is carried out any more, and some have passwords
		_ = one.encode()       // cannot fail: it was decoded from JSON
	}
}

// wipe forgets what only the site's create needs.
func (s *ServerSpec) wipe() { s.AdminPass, s.Personality = "", nil }

// leavingFor is how long a status that a verb is to end may stay without being taken for final.
const leavingFor = 2 * time.Minute

// Settled tells final states from those that a verb or the site is about to end.
func (m serverMaker) Settled(r *index.Resource) bool {
	if r.TaskState != "" || r.Status == "BUILD" {
		return false
	}
	one, err := decodeServer(r)
	if err != nil || one.Spec.Leaving == "" && len(one.Spec.Detaching) == 0 {
		return true
	}
	waits := one.Spec.Leaving == r.Status || len(one.Spec.Detaching) > 0
	return !waits || m.core.Now().Sub(r.VerbAckedAt) > leavingFor
}

// End frees what the server had: its ports, its volumes.
func (m serverMaker) End(tx *cascade.Tx, r *index.Resource) error {
	one, err := decodeServer(r)
	if err != nil {
		return err
	}
	for _, p := range one.Spec.Ports {
		if err := m.freePort(tx, p); err != nil {
			return err
		}
	}
	for _, v := range one.Spec.Volumes {
		if err := m.freeVolume(tx, r.ID, v); err != nil {
			return err
		}
	}
	for _, x := range one.Spec.Saving { // nobody looks for their images any more: their quota must not stay
		if err := m.unsaved(tx, one, x); err != nil {
			return err
		}
	}
	one.Spec.wipe()
	one.Spec.UserData, one.Spec.Waiting = "", nil // the row stays for a week, and needs no secrets for that
	r.Status = "DELETED"
	return one.encode()
}

func (s *Service) freePort(tx *cascade.Tx, p PortUse) error {
	port, err := tx.Load(p.ID)
	if fault.Is(err, fault.NotFound) || err == nil && (port.State == index.Deleted || port.State == index.Deleting) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.ports.Unbind(tx, port, p.Own)
}

func (s *Service) freeVolume(tx *cascade.Tx, server ident.TopID, use VolumeUse) error {
	v, err := tx.Load(use.ID)
	if fault.Is(err, fault.NotFound) || err == nil && (v.State == index.Deleted || v.State == index.Deleting) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.DeviceID == server {
		v.DeviceID = ""
	}
	if use.Delete {
		if err := tx.Save(v); err != nil {
			return err
		}
		return tx.Delete(v)
	}
	if v.Status == "in-use" || v.Status == "reserved" || v.Status == "detaching" || v.Status == "attaching" {
		v.Status = "available"
	}
	if err := tx.Save(v); err != nil {
		return err
	}
	if v.State != index.Live {
		return nil
	}
	return tx.Follow(v)
}

// Reckon keeps quota and references in step with what the site showed: a resize
// that the site took back, a volume that is detached.
func (m serverMaker) Reckon(tx *cascade.Tx, before, after *index.Resource) error {
	was, err := decodeServer(before)
	if err != nil {
		return err
	}
	is, err := decodeServer(after)
	if err != nil {
		return err
	}
	if cores, ram := is.Spec.VCPUs-was.Spec.VCPUs, is.Spec.RAM-was.Spec.RAM; cores != 0 || ram != 0 {
		if err := m.core.Quota.Release(tx.Tx, after.ProjectID, map[string]int64{"cores": -cores, "ram": -ram}); err != nil {
			return err
		}
	}
	if before.FlavorID != after.FlavorID {
		if err := m.core.Index.SetRefs(tx.Tx, after.ID, roleFlavor, after.FlavorID); err != nil {
			return err
		}
	}
	if VMState(before) == building && VMState(after) != building {
		for _, v := range is.Spec.Volumes { // they are in use from now on
			if err := m.lookAt(tx, v.ID); err != nil {
				return err
			}
		}
	}
	for _, p := range was.Spec.Ports {
		if !slices.ContainsFunc(is.Spec.Ports, func(q PortUse) bool { return q.ID == p.ID }) {
			if err := m.unplug(tx, after.ID, p); err != nil {
				return err
			}
		}
	}
	for _, v := range was.Spec.Volumes {
		gone := !slices.ContainsFunc(is.Spec.Volumes, func(u VolumeUse) bool { return u.ID == v.ID })
		if !gone {
			continue
		}
		if err := m.core.Index.RemoveRefs(tx.Tx, index.Ref{From: after.ID, To: v.ID, Role: roleVolume}); err != nil {
			return err
		}
		v.Delete = false // detached, not deleted
		if err := m.freeVolume(tx, after.ID, v); err != nil {
			return err
		}
	}
	return nil
}

// number reads a JSON number of an observed body.
func number(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return i, err == nil
}
