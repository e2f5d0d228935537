package emulator

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

type volumeState struct {
	volumes     *table[*volume]
	snapshots   *table[*snapshot]
	backups     *table[*backup]
	types       *table[*volumeType]
	attachments *table[*attachment]
	quotas      map[string]map[string]int
}

type volumeType struct {
	row
	name, description string
	public            bool
	specs             map[string]string
	projects          []string // that may use it when it is private
}

type volume struct {
	row
	name, description, user, status string
	size                            int
	kind                            *volumeType
	snapshotID, sourceID            string
	meta, imageMeta                 map[string]string
	bootable, multiattach, hosted   bool
	created, updated                time.Time
	attachments                     []*attachment
	content                         []byte // of the image that it was made from; shared with it
	reservedFor                     string
	noName, noText                  bool
}

type attachment struct {
	row
	volume               *volume
	server, device, mode string
	status, bdm, tag     string
	at                   time.Time
	deleteToo            bool
}

type snapshot struct {
	row
	name, description, status, user string
	volume                          string
	size                            int
	meta                            map[string]string
	created, updated                time.Time
	content                         []byte
	bootable                        bool
	imageMeta                       map[string]string
	noName, noText                  bool
}

type backup struct {
	row
	name, description, status, user, volume, snapshot, container string
	parent                                                       string
	size                                                         int
	created, updated                                             time.Time
	content                                                      []byte
	bootable, noName                                             bool
	meta                                                         map[string]string
}

func (c *Cloud) seedVolume() {
	s := &c.volume
	s.volumes, s.snapshots, s.backups = newTable[*volume](), newTable[*snapshot](), newTable[*backup]()
	s.types, s.attachments, s.quotas = newTable[*volumeType](), newTable[*attachment](), map[string]map[string]int{}
	s.types.add(&volumeType{row: row{ID: newID()}, name: "__DEFAULT__", description: "Default Volume Type", public: true})
}

func cinderPolicy(rule string) error {
	return fail(http.StatusForbidden, "Policy doesn't allow "+rule+" to be performed.")
}

func (c *Cloud) volumeRoutes() {
	h := func(pattern string, f handler) { c.handle(volumeSvc, pattern, needsToken, f) }
	o := func(pattern string, f handler) { c.handle(volumeSvc, pattern, open, f) }
	root := func(q *request) (*reply, error) { return status(http.StatusMultipleChoices, c.volumeVersions(q)) }
	o("GET /{$}", root)
	o("GET ", root)
	h("GET /v3/{$}", func(q *request) (*reply, error) { return ok(c.volumeVersions(q)) }) // a real one wants a token here
	h("GET /v3", func(q *request) (*reply, error) {
		return (&reply{status: http.StatusFound}).set("Location", q.url("/v3/")), nil
	})
	h("GET /v3/volumes", c.listVolumes(false))
	h("GET /v3/volumes/detail", c.listVolumes(true))
	h("GET /v3/volumes/summary", c.volumeSummary)
	h("POST /v3/volumes", c.createVolume)
	h("GET /v3/volumes/{id}", c.showVolume)
	h("PUT /v3/volumes/{id}", c.updateVolume)
	h("DELETE /v3/volumes/{id}", c.deleteVolume)
	h("POST /v3/volumes/{id}/action", c.volumeAction)
	h("GET /v3/volumes/{id}/metadata", c.volumeMetadata)
	h("POST /v3/volumes/{id}/metadata", c.volumeMetadata)
	h("PUT /v3/volumes/{id}/metadata", c.volumeMetadata)
	h("GET /v3/volumes/{id}/metadata/{key}", c.volumeMeta)
	h("PUT /v3/volumes/{id}/metadata/{key}", c.volumeMeta)
	h("DELETE /v3/volumes/{id}/metadata/{key}", c.volumeMeta)
	c.snapshotRoutes(h)
	c.volumeTypeRoutes(h)
	c.volumeAdminRoutes(h)
	for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
		h(m+" /", unknownPath)
	}
}

func (c *Cloud) volumeVersions(q *request) object {
	return object{{"versions", []object{{{"id", "v3.0"}, {"status", "CURRENT"}, {"version", "3." + strconv.Itoa(c.cfg.VolumeMax)}, {"min_version", "3.0"}, {"updated", "2022-08-31T00:00:00Z"},
		{"links", []object{{{"rel", "describedby"}, {"type", "text/html"}, {"href", "https://docs.openstack.org/"}}, {{"rel", "self"}, {"href", q.url("/v3/")}}}},
		{"media-types", []object{{{"base", "application/json"}, {"type", "application/vnd.openstack.volume+json;version=3"}}}}}}}}
}

func (q *request) volumeLinks(kind, id string) []object {
	return []object{{{"rel", "self"}, {"href", q.url("/v3/" + q.project + "/" + kind + "/" + id)}}, {{"rel", "bookmark"}, {"href", q.url("/" + q.project + "/" + kind + "/" + id)}}}
}

func textOrNil(text string, null bool) any {
	if null {
		return nil
	}
	return text
}

func (c *Cloud) volumeView(q *request, v *volume, tail bool) object {
	attached := []object{}
	for _, a := range v.attachments {
		if a.status == "attached" {
			attached = append(attached, object{{"id", v.ID}, {"attachment_id", a.ID}, {"volume_id", v.ID}, {"server_id", a.server}, {"host_name", nil}, {"device", a.device}, {"attached_at", stamp(a.at, micros)}})
		}
	}
	out := object{{"id", v.ID}, {"status", v.status}, {"size", v.size}, {"availability_zone", "nova"}, {"created_at", stamp(v.created, micros)}, {"updated_at", stamp(v.updated, micros)},
		{"name", textOrNil(v.name, v.noName)}, {"description", textOrNil(v.description, v.noText)}, {"volume_type", v.kind.name}, {"snapshot_id", orNil(v.snapshotID)}, {"source_volid", orNil(v.sourceID)},
		{"metadata", orEmptyMap(v.meta)}, {"links", q.volumeLinks("volumes", v.ID)}, {"user_id", v.user}, {"bootable", strconv.FormatBool(v.bootable)}, {"encrypted", false}, {"replication_status", nil},
		{"consistencygroup_id", nil}, {"multiattach", v.multiattach}, {"attachments", attached}}
	if q.admin {
		out = append(out, kv{"migration_status", nil})
	}
	if q.at(13) {
		out = append(out, kv{"group_id", nil})
	}
	if q.at(21) && q.admin {
		out = append(out, kv{"provider_id", nil})
	}
	service := any(nil)
	if v.hosted {
		service = fixedUUID(c.cfg.Name + "cinder-volume")
	}
	if q.at(48) {
		out = append(out, kv{"shared_targets", !v.hosted}, kv{"service_uuid", service})
	}
	if q.at(61) && q.admin {
		out = append(out, kv{"cluster_name", nil})
	}
	if q.at(63) {
		out = append(out, kv{"volume_type_id", v.kind.ID})
	}
	if q.at(65) {
		out = append(out, kv{"consumes_quota", true})
	}
	if !tail {
		return out
	}
	if q.admin {
		at := any(c.cfg.Name + "@pool#pool")
		out = append(out, kv{"os-vol-host-attr:host", at}, kv{"os-vol-mig-status-attr:migstat", nil}, kv{"os-vol-mig-status-attr:name_id", nil})
	}
	out = append(out, kv{"os-vol-tenant-attr:tenant_id", v.Project})
	if len(v.imageMeta) > 0 {
		out = append(out, kv{"volume_image_metadata", v.imageMeta})
	}
	return out
}

// newVolume returns a volume that is not stored yet.
func (c *Cloud) newVolume(project, userID, name string, size int) *volume {
	return &volume{row: row{ID: newID(), Project: project}, name: name, user: userID, size: size, status: "creating", kind: c.volume.types.all[0], created: c.now(), hosted: true}
}

// fillVolume gives a new volume the content of what it is made from.
func (c *Cloud) fillVolume(v *volume, x blockDevice) {
	v.updated = c.now()
	switch x.source {
	case "image":
		if i, found := c.image.images.get(x.uuid); found {
			v.content, v.bootable, v.imageMeta = i.data, true, imageMeta(i)
		}
	case "snapshot":
		if s, found := c.volume.snapshots.get(x.uuid); found {
			v.content, v.bootable, v.imageMeta, v.snapshotID = s.content, s.bootable, s.imageMeta, s.ID
		}
	case "volume":
		if o, found := c.volume.volumes.get(x.uuid); found {
			v.content, v.bootable, v.imageMeta, v.sourceID = o.content, o.bootable, o.imageMeta, o.ID
		}
	}
}

func imageMeta(i *image) map[string]string {
	m := maps.Clone(i.props)
	if m == nil {
		m = map[string]string{}
	}
	m["image_id"], m["image_name"], m["checksum"], m["container_format"], m["disk_format"] = i.ID, i.name, i.checksum, i.container, i.disk
	m["min_disk"], m["min_ram"], m["size"] = strconv.Itoa(i.minDisk), strconv.Itoa(i.minRAM), strconv.FormatInt(i.size, 10)
	return m
}

// undisplay turns the names of API v1, which Cinder still takes, into today's.
func undisplay(d doc) doc {
	for _, k := range []string{"name", "description"} {
		if v, given := d["display_"+k]; given {
			if !d.has(k) {
				d[k] = v
			}
			delete(d, "display_"+k)
		}
	}
	return d
}

// createVolume handles POST /volumes.
func (c *Cloud) createVolume(q *request) (*reply, error) {
	d := undisplay(q.body.sub("volume"))
	if d == nil {
		return nil, fail(400, "'volume' is a required property")
	}
	v, x, err := c.planVolume(q, d)
	if err != nil {
		return nil, err
	}
	if err := c.volumeQuota(q.project, "volumes", v.size); err != nil {
		return nil, err
	}
	v.hosted = false
	c.volume.volumes.add(v)
	if x.source == "snapshot" || x.source == "volume" {
		c.fillVolume(v, x)
		v.updated = time.Time{}
	}
	view := c.volumeView(q, v, false)
	c.after(c.cfg.Durations.Volume, func() {
		if _, there := c.volume.volumes.get(v.ID); there && v.status == "creating" {
			c.fillVolume(v, x)
			v.status, v.hosted = "available", true
		}
	})
	return accepted(object{{"volume", view}})
}

func (c *Cloud) planVolume(q *request, d doc) (*volume, blockDevice, error) {
	x := blockDevice{}
	for _, k := range sortedKeys(d) {
		if !slices.Contains([]string{"name", "description", "size", "availability_zone", "volume_type", "metadata", "imageRef", "image_id", "snapshot_id", "source_volid",
			"consistencygroup_id", "group_id", "multiattach", "backup_id", "scheduler_hints", "source_replica", "project_id", "user_id", "status", "attach_status"}, k) {
			return nil, x, badField("volume", string(mustJSON(map[string]any(d))), "Additional properties are not allowed ('"+k+"' was unexpected)")
		}
	}
	size, hasSize := d.num("size")
	if d["size"] != nil && (!hasSize || size < 1) {
		return nil, x, badField("size", d["size"], toText(d["size"])+" is less than the minimum of 1")
	}
	if z := d.str("availability_zone"); z != "" && z != "nova" {
		return nil, x, fail(400, "Availability zone '"+z+"' is invalid.")
	}
	v := c.newVolume(q.project, q.user.ID, d.str("name"), size)
	v.description, v.meta, v.multiattach = d.str("description"), d.stringMap("metadata"), d.truth("multiattach", false)
	v.noName, v.noText = d["name"] == nil, d["description"] == nil
	if t := d.str("volume_type"); t != "" {
		if v.kind = c.typeNamed(t); v.kind == nil || !v.kind.shown(q) {
			return nil, x, fail(404, "Volume type with name "+t+" could not be found.")
		}
	}
	x, least, err := c.volumeSource(q, d)
	if err != nil {
		return nil, x, err
	}
	if v.size == 0 {
		v.size = least
	}
	if v.size == 0 {
		return nil, x, fail(400, "The server could not comply with the request since it is either malformed or otherwise incorrect.")
	}
	if v.size < least {
		what := map[string]string{"snapshot": "the snapshot size", "volume": "original volume size", "image": "the image size"}[x.source]
		return nil, x, fail(400, "Invalid input received: Volume size '"+strconv.Itoa(v.size)+"'GB cannot be smaller than "+what+" "+strconv.Itoa(least)+"GB. They must be >= original snapshot size.")
	}
	return v, x, nil
}

// volumeSource finds what a volume is to be made from and the least size that it then has.
func (c *Cloud) volumeSource(q *request, d doc) (blockDevice, int, error) {
	ref := d.str("imageRef")
	if ref == "" {
		ref = d.str("image_id")
	}
	switch {
	case ref != "":
		i, found := c.image.images.get(ref)
		if !found || !c.imageSeen(i, q.project, q.admin) || i.status != "active" {
			return blockDevice{}, 0, fail(400, "Invalid image identifier or unable to access requested image.")
		}
		return blockDevice{source: "image", uuid: ref}, max(i.minDisk, int((i.size+1<<30-1)>>30)), nil
	case d.str("snapshot_id") != "":
		s, found := c.volume.snapshots.get(d.str("snapshot_id"))
		if !found || s.Project != q.project && !q.admin {
			return blockDevice{}, 0, fail(404, "Snapshot "+d.str("snapshot_id")+" could not be found.")
		}
		if s.status != "available" {
			return blockDevice{}, 0, fail(400, "Invalid snapshot: Originating snapshot status must be one of 'available' values")
		}
		return blockDevice{source: "snapshot", uuid: s.ID}, s.size, nil
	case d.str("source_volid") != "":
		o, found := c.volume.volumes.get(d.str("source_volid"))
		if !found || o.Project != q.project && !q.admin {
			return blockDevice{}, 0, fail(404, "Volume "+d.str("source_volid")+" could not be found.")
		}
		if o.status != "available" && o.status != "in-use" {
			return blockDevice{}, 0, fail(400, "Invalid volume: Originating volume status must be 'available' or 'in-use'.")
		}
		return blockDevice{source: "volume", uuid: o.ID}, o.size, nil
	case d.str("backup_id") != "" && q.at(47):
		b, found := c.volume.backups.get(d.str("backup_id"))
		if !found || b.Project != q.project && !q.admin {
			return blockDevice{}, 0, fail(404, "Backup "+d.str("backup_id")+" could not be found.")
		}
		return blockDevice{source: "backup", uuid: b.ID}, b.size, nil
	}
	return blockDevice{}, 0, nil
}

func (c *Cloud) typeNamed(t string) *volumeType {
	for _, k := range c.volume.types.all {
		if k.ID == t || k.name == t {
			return k
		}
	}
	return nil
}

func (c *Cloud) volumeAt(q *request) (*volume, error) {
	if v, found := c.volume.volumes.get(q.path("id")); found && (q.admin || v.Project == q.project) {
		return v, nil
	}
	return nil, fail(404, "Volume "+q.path("id")+" could not be found.")
}

func (c *Cloud) showVolume(q *request) (*reply, error) {
	v, err := c.volumeAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"volume", c.volumeView(q, v, true)}})
}

func (c *Cloud) updateVolume(q *request) (*reply, error) {
	v, err := c.volumeAt(q)
	if err != nil {
		return nil, err
	}
	d := undisplay(q.body.sub("volume"))
	if len(d) == 0 {
		return nil, fail(400, "Invalid input for field/attribute volume. Value: {}. {} does not have enough properties")
	}
	if d.has("name") {
		v.name, v.noName = d.str("name"), d["name"] == nil
	}
	if d.has("description") {
		v.description, v.noText = d.str("description"), d["description"] == nil
	}
	if d.has("metadata") {
		v.meta = d.stringMap("metadata")
	}
	v.updated = c.now()
	return ok(object{{"volume", c.volumeView(q, v, false)}})
}

const notDeletable = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."

func (c *Cloud) deleteVolume(q *request) (*reply, error) {
	v, err := c.volumeAt(q)
	if err != nil {
		return nil, err
	}
	cascade, _ := toBool(q.query.Get("cascade"))
	force, _ := toBool(q.query.Get("force"))
	if err := c.beginDelete(v, cascade, force && q.admin); err != nil {
		return nil, err
	}
	return accepted(nil)
}

func (c *Cloud) beginDelete(v *volume, cascade, force bool) error {
	var snaps []*snapshot
	for _, s := range c.volume.snapshots.of(v.Project) {
		if s.volume == v.ID {
			snaps = append(snaps, s)
		}
	}
	able := slices.Contains([]string{"available", "error", "error_restoring", "error_extending", "error_managing"}, v.status)
	if len(v.attachments) > 0 || len(snaps) > 0 && !cascade || !able && !force {
		return fail(400, notDeletable)
	}
	for _, s := range snaps {
		c.volume.snapshots.remove(s)
	}
	v.status, v.updated = "deleting", c.now()
	c.after(c.cfg.Durations.Volume, func() { c.dropVolume(v) })
	return nil
}

func (c *Cloud) dropVolume(v *volume) { c.volume.volumes.remove(v) }

// reserveVolume keeps a volume for a server that is being built.
func (c *Cloud) reserveVolume(v *volume) {
	if v.status == "available" {
		v.status, v.updated = "reserved", c.now()
	}
}

// reserve makes the attachment that completeAttach turns into a working one.
func (c *Cloud) reserve(v *volume, s *server, device string) *attachment {
	if device == "" {
		device = freeDevice(s)
	}
	c.reserveVolume(v)
	a := &attachment{row: row{ID: newID(), Project: v.Project}, volume: v, server: s.ID, device: device, mode: "rw", status: "reserved", bdm: newID()}
	v.attachments = append(v.attachments, a)
	s.attached = append(s.attached, a)
	c.volume.attachments.add(a)
	return a
}

func freeDevice(s *server) string {
	first := 'b'
	if s.bfv && len(s.attached) == 0 {
		first = 'a'
	}
	for letter := first; letter <= 'z'; letter++ {
		name := "/dev/sd" + string(letter)
		if !slices.ContainsFunc(s.attached, func(a *attachment) bool { return a.device == name }) {
			return name
		}
	}
	return "/dev/sdaa"
}

func (c *Cloud) completeAttach(a *attachment) {
	a.status, a.at = "attached", c.now()
	a.volume.status, a.volume.updated = "in-use", c.now()
}

func (c *Cloud) attach(v *volume, s *server, device string) *attachment {
	a := c.reserve(v, s, device)
	c.completeAttach(a)
	return a
}

func (c *Cloud) detach(a *attachment) {
	drop := func(o *attachment) bool { return o == a }
	v := a.volume
	v.attachments = slices.DeleteFunc(v.attachments, drop)
	if s, found := c.compute.servers.get(a.server); found {
		s.attached = slices.DeleteFunc(s.attached, drop)
	}
	c.volume.attachments.remove(a)
	if len(v.attachments) == 0 {
		v.status = "available"
	}
	v.updated = c.now()
}
