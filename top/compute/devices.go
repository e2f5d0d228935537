package compute

import (
	"net/http"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// The devices of a server: volumes and ports; and what else a site or its guest tells of it.

func (k *call) attachment(one *engine.Server, u engine.VolumeUse) object {
	o := object{"id": u.ID, "volumeId": u.ID, "serverId": one.ID, "device": orNull(u.Device)}
	if k.v.AtLeast(70) {
		o["tag"] = orNull(u.Tag)
	}
	if k.v.AtLeast(79) {
		o["delete_on_termination"] = u.Delete
	}
	if k.v.AtLeast(89) {
		delete(o, "id")
		o["attachment_id"], o["bdm_uuid"] = u.ID, u.ID
	}
	return o
}

func listAttachments(k *call) error {
	one, err := k.find()
	if err != nil {
		return err
	}
	out := []object{}
	for _, u := range one.Spec.Volumes {
		out = append(out, k.attachment(one, u))
	}
	return k.ok(object{"volumeAttachments": out})
}

func showAttachment(k *call) error {
	one, u, err := k.h.service.Attachment(k.ctx(), k.caller, k.id(), k.Param("volume"))
	if err != nil {
		return err
	}
	return k.ok(object{"volumeAttachment": k.attachment(one, u)})
}

func createAttachment(k *call) error {
	m, err := k.object("volumeAttachment")
	if err != nil {
		return err
	}
	var use engine.VolumeUse
	var device, tag *string
	var remove wire.Bool
	fields := []wire.Field{{Key: "volumeId", Into: &use.ID}, {Key: "device", Into: &device}}
	if k.v.AtLeast(49) {
		fields = append(fields, wire.Field{Key: "tag", Into: &tag})
	}
	if k.v.AtLeast(79) {
		fields = append(fields, wire.Field{Key: "delete_on_termination", Into: &remove})
	}
	if err := m.TakeAll(fields...); err != nil {
		return err
	}
	if err := closed(m); err != nil {
		return err
	}
	if use.ID == "" {
		return wire.BadRequest("Invalid input for field/attribute volumeAttachment. 'volumeId' is a required property")
	}
	use.Device, use.Tag, use.Delete = deref(device), deref(tag), bool(remove)
	if use, err = k.h.service.AttachVolume(k.ctx(), k.caller, k.id(), use); err != nil {
		return err
	}
	one, err := k.find()
	if err != nil {
		return err
	}
	return k.ok(object{"volumeAttachment": k.attachment(one, use)})
}

func deleteAttachment(k *call) error {
	if err := k.h.service.DetachVolume(k.ctx(), k.caller, k.id(), k.Param("volume")); err != nil {
		return err
	}
	return k.accepted()
}

// updateAttachment handles PUT os-volume_attachments: since 2.85 it may say whether the volume goes with the server. To
// swap volumes is what only a site's own block storage may ask (Nova's policy: the service role).
func updateAttachment(k *call) error {
	one, use, err := k.h.service.Attachment(k.ctx(), k.caller, k.id(), k.Param("volume"))
	if err != nil {
		return err
	}
	m, err := k.object("volumeAttachment")
	if err != nil {
		return err
	}
	var volume string
	var remove *wire.Bool
	if err := m.TakeAll(wire.Field{Key: "volumeId", Into: &volume}, wire.Field{Key: "delete_on_termination", Into: &remove}); err != nil {
		return err
	}
	if volume != string(use.ID) && volume != k.Param("volume") {
		return fault.New(fault.Conflict, "top/compute", "Attached volumes are not swapped through Top: retype or migrate the volume at its site.")
	}
	if remove == nil || !k.v.AtLeast(85) {
		return wire.BadRequest("Invalid input for field/attribute volumeAttachment. Only 'delete_on_termination' can be changed, since 2.85.")
	}
	if err := k.h.service.KeepVolume(k.ctx(), k.caller, string(one.ID), string(use.ID), bool(*remove)); err != nil {
		return err
	}
	return k.accepted()
}

func (k *call) port(i engine.Interface) object {
	fixed := []object{}
	for _, f := range i.Fixed {
		fixed = append(fixed, object{"subnet_id": f.Subnet, "ip_address": f.IP})
	}
	o := object{"port_id": i.Port, "net_id": i.Network, "mac_addr": i.MAC, "port_state": i.Status, "fixed_ips": fixed}
	if k.v.AtLeast(70) {
		o["tag"] = nil
	}
	return o
}

func listInterfaces(k *call) error {
	list, err := k.h.service.Interfaces(k.ctx(), k.caller, k.id())
	if err != nil {
		return err
	}
	out := []object{}
	for _, i := range list {
		out = append(out, k.port(i))
	}
	return k.ok(object{"interfaceAttachments": out})
}

func showInterface(k *call) error {
	i, err := k.h.service.Interface(k.ctx(), k.caller, k.id(), k.Param("port"))
	if err != nil {
		return err
	}
	return k.ok(object{"interfaceAttachment": k.port(i)})
}

func createInterface(k *call) error {
	m, err := wire.Body(k.Context)
	if err != nil {
		return err
	}
	want, err := k.interfaceRequest(m)
	if err != nil {
		return err
	}
	i, err := k.h.service.AttachInterface(k.ctx(), k.caller, k.id(), want)
	if err != nil {
		return err
	}
	return k.ok(object{"interfaceAttachment": k.port(i)})
}

// interfaceRequest reads what is to be attached. As in Nova's schema, no other members are taken, and a tag since 2.49.
func (k *call) interfaceRequest(m wire.Members) (engine.AttachRequest, error) {
	var want engine.AttachRequest
	var in wire.Members
	var fixed []wire.Members
	if err := m.Take("interfaceAttachment", &in); err != nil {
		return want, err
	}
	if err := closed(m); err != nil {
		return want, err
	}
	fields := []wire.Field{{Key: "port_id", Into: &want.Port}, {Key: "net_id", Into: &want.Network}, {Key: "fixed_ips", Into: &fixed}}
	if k.v.AtLeast(49) {
		fields = append(fields, wire.Field{Key: "tag", Into: &want.Tag})
	}
	if err := in.TakeAll(fields...); err != nil {
		return want, err
	}
	if err := closed(in); err != nil {
		return want, err
	}
	for _, one := range fixed {
		if err := one.Take("ip_address", &want.FixedIP); err != nil {
			return want, err
		}
		if err := closed(one); err != nil {
			return want, err
		}
		if want.FixedIP == "" {
			return want, wire.BadRequest("Invalid input for field/attribute 0. Value: {}. 'ip_address' is a required property")
		}
	}
	if want.Port != "" && (want.Network != "" || len(fixed) > 0) || want.Network == "" && len(fixed) > 0 || len(fixed) > 1 {
		return want, wire.BadRequest("Must not input both network_id and port_id; fixed_ips takes one address together with net_id.")
	}
	return want, nil
}

func deleteInterface(k *call) error {
	if err := k.h.service.DetachInterface(k.ctx(), k.caller, k.id(), k.Param("port")); err != nil {
		return err
	}
	return k.accepted()
}

func showPassword(k *call) error {
	text, err := k.h.service.Password(k.ctx(), k.caller, k.id(), false)
	if err != nil {
		return err
	}
	return k.ok(object{"password": text})
}

func clearPassword(k *call) error {
	if _, err := k.h.service.Password(k.ctx(), k.caller, k.id(), true); err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

func diagnostics(k *call) error {
	d, err := k.h.service.Diagnostics(k.ctx(), k.caller, k.id())
	if err != nil {
		return err
	}
	return k.ok(d)
}
