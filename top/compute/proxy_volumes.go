package compute

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/headwater-cloud/headwater/top/wire"
)

func (k *call) volumesPath(collection string) string {
	return "/volume/v3/" + k.caller.ProjectID + "/" + collection
}

// oldVolume shows a volume as Nova did (nova/api/openstack/compute/volumes.py).
func oldVolume(v object) object {
	out := object{
		"id": v["id"], "status": v["status"], "size": v["size"], "availabilityZone": v["availability_zone"], "createdAt": v["created_at"],
		"attachments": []object{{}}, "displayName": v["name"], "displayDescription": v["description"], "volumeType": v["volume_type"],
		"snapshotId": v["snapshot_id"], "metadata": v["metadata"],
	}
	if list, _ := v["attachments"].([]any); len(list) > 0 {
		a, _ := list[0].(object)
		shown := object{"id": v["id"], "volumeId": v["id"], "serverId": a["server_id"]}
		if device := text(a["device"]); device != "" {
			shown["device"] = device
		}
		out["attachments"] = []object{shown}
	}
	return out
}

func oldSnapshot(s object) object {
	return object{
		"id": s["id"], "volumeId": s["volume_id"], "status": s["status"], "size": s["size"], "createdAt": s["created_at"],
		"displayName": s["name"], "displayDescription": s["description"],
	}
}

// old is one of the two collections that Nova passes on to Cinder.
type old struct {
	plural, singular string
	view             func(object) object
}

var (
	oldVolumes   = old{"volumes", "volume", oldVolume}
	oldSnapshots = old{"snapshots", "snapshot", oldSnapshot}
)

func (o old) list(k *call) error {
	list, err := k.many(k.volumesPath(o.plural+"/detail"), o.plural, nil)
	if err != nil {
		return err
	}
	out, err := cut(k, each(list, o.view))
	if err != nil {
		return err
	}
	return k.ok(object{o.plural: out})
}

func (o old) show(k *call) error {
	v, err := k.one(http.MethodGet, k.volumesPath(o.plural)+"/"+url.PathEscape(k.id()), o.singular, nil)
	if err != nil {
		return err
	}
	return k.ok(object{o.singular: o.view(v)})
}

func (o old) remove(k *call) error {
	if _, err := k.elsewhere(http.MethodDelete, k.volumesPath(o.plural)+"/"+url.PathEscape(k.id()), nil, nil); err != nil {
		return err
	}
	return k.accepted()
}

// create passes a create on; the names that differ are in the pairs.
func (o old) create(k *call) error {
	m, err := k.object(o.singular)
	if err != nil {
		return err
	}
	in := object{}
	for name, raw := range m {
		if to := map[string]string{"display_name": "name", "display_description": "description"}[name]; to != "" {
			name = to
		}
		in[name] = raw
	}
	if o.singular == "volume" {
		if err := sized(m); err != nil {
			return err
		}
	} else if len(m["volume_id"]) == 0 {
		return wire.BadRequest("Invalid input for field/attribute snapshot. 'volume_id' is a required property")
	}
	made, err := k.one(http.MethodPost, k.volumesPath(o.plural), o.singular, object{o.singular: in})
	if err != nil {
		return err
	}
	if o.singular == "volume" {
		k.Response().Header().Set("Location", k.versioned()+"/os-volumes/"+text(made["id"]))
	}
	return k.ok(object{o.singular: o.view(made)})
}

// sized wants a size above zero, unless a snapshot has one; clients send it as a number or as a text.
func sized(m wire.Members) error {
	var size wire.Int
	raw, given := m["size"]
	if !given || string(raw) == "null" {
		if _, snapshot := m["snapshot_id"]; snapshot {
			return nil
		}
		return wire.BadRequest("Invalid input for field/attribute volume. 'size' is a required property")
	}
	if err := json.Unmarshal(raw, &size); err != nil || fmt.Sprint(size) == "0" || fmt.Sprint(size)[0] == '-' {
		return wire.BadRequest("Invalid input for field/attribute size. Value: %s. It must be a whole number above 0", raw)
	}
	return nil
}
