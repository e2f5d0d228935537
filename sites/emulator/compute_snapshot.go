package emulator

import (
	"slices"
	"strings"
)

// snapshotImage makes the queued image that a snapshot will fill.
func (c *Cloud) snapshotImage(q *request, s *server, name string, meta map[string]string) *image {
	i := &image{row: row{ID: newID(), Project: s.Project}, name: name, status: "queued", visibility: "private", disk: "raw", container: "bare", size: -1, created: c.now(), updated: c.now(),
		minDisk: s.flavor.disk, props: map[string]string{"image_type": "snapshot", "instance_uuid": s.ID, "base_image_ref": s.imageID, "user_id": s.user, "owner_project_name": "", "boot_roles": strings.Join(q.roles, ",")}}
	delete(i.props, "owner_project_name")
	c.inherit(i, s)
	for k, v := range meta {
		i.props[k] = v
	}
	c.image.images.add(i)
	return i
}

// inherit copies the properties of what the server was made of (nova/compute/utils.py, initialize_instance_snapshot_metadata).
func (c *Cloud) inherit(i *image, s *server) {
	base := map[string]string{}
	if from, there := c.image.images.get(s.imageID); there {
		base = from.props
		i.minRAM = from.minRAM
	} else if s.bfv && len(s.attached) > 0 {
		for k, v := range s.attached[0].volume.imageMeta {
			if !slices.Contains([]string{"image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"}, k) {
				base[k] = v
			}
		}
	}
	for k, v := range base {
		_, own := i.props[k]
		if !own && !strings.HasPrefix(k, "os_glance") && !strings.HasPrefix(k, "img_signature") && !strings.HasPrefix(k, "cinder_encryption_key") &&
			!slices.Contains([]string{"cache_in_nova", "bittorrent", "block_device_mapping", "bdm_v2", "root_device_name"}, k) {
			i.props[k] = v
		}
	}
}

func (c *Cloud) snapshotServer(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	d := doc(m)
	if err := checkServerName(d["name"]); err != nil {
		return nil, err
	}
	if err := may(q, s, "createImage", []string{"active", "stopped", "paused", "suspended"}); err != nil {
		return nil, err
	}
	i := c.snapshotImage(q, s, d.str("name"), d.stringMap("metadata"))
	a := c.begin(q, s, "createImage")
	if s.bfv {
		c.snapshotVolumes(s, i)
		a.done = c.now()
	} else {
		s.task = "image_snapshot"
		vm := s.vm
		c.then(s, c.cfg.Durations.Snapshot, func() {
			if _, there := c.image.images.get(i.ID); there {
				c.setImageData(i, s.disk)
			}
			c.finish(s, a, vm, -1)
		})
	}
	rep := &reply{status: 202}
	if q.at(45) {
		rep.body = object{{"image_id", i.ID}}
		return rep, nil
	}
	return rep.set("Location", q.base+"/image/v2/images/"+i.ID), nil
}

// snapshotVolumes makes the image of a volume-backed server: no bytes, but snapshots of its volumes.
func (c *Cloud) snapshotVolumes(s *server, i *image) {
	var list []object
	for n, at := range s.attached {
		sn := c.newSnapshot(at.volume, "snapshot for "+i.name)
		boot := any(nil)
		if n == 0 {
			boot = 0
		}
		list = append(list, object{{"source_type", "snapshot"}, {"destination_type", "volume"}, {"snapshot_id", sn.ID}, {"volume_size", sn.size}, {"boot_index", boot}, {"device_name", at.device}, {"delete_on_termination", false}})
	}
	i.props["bdm_v2"], i.props["root_device_name"] = "True", s.rootDevice
	i.props["block_device_mapping"] = string(appendJSON(nil, list))
	c.setImageData(i, []byte{})
}

// backupServer is createImage that throws away the oldest images of its kind beyond "rotation".
func (c *Cloud) backupServer(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	d := doc(m)
	keep, given := d.num("rotation")
	kind := d.str("backup_type")
	if !given || keep < 0 || kind == "" {
		return nil, badField("createBackup", string(mustJSON(arg)), "'rotation' is a required property")
	}
	if s.bfv {
		return nil, fail(400, "Backup is not supported for volume-backed instances.")
	}
	rep, err := c.snapshotServer(q, s, map[string]any{"name": d["name"], "metadata": d["metadata"]})
	if err != nil {
		return nil, err
	}
	all := c.image.images.of(s.Project)
	all[len(all)-1].props["backup_type"] = kind // the snapshot is the newest
	for i := range newestFirst(slices.Clone(all)) {
		if i.props["backup_type"] != kind || i.props["instance_uuid"] != s.ID {
			continue
		}
		if keep--; keep < 0 {
			c.dropImage(i)
		}
	}
	return rep, nil
}
