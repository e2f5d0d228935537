package emulator

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

func (c *Cloud) snapshotRoutes(h func(string, handler)) {
	h("GET /v3/snapshots", c.listSnapshots(false))
	h("GET /v3/snapshots/detail", c.listSnapshots(true))
	h("POST /v3/snapshots", c.createSnapshot)
	h("GET /v3/snapshots/{id}", c.showSnapshot)
	h("PUT /v3/snapshots/{id}", c.updateSnapshot)
	h("DELETE /v3/snapshots/{id}", c.deleteSnapshot)
	h("POST /v3/snapshots/{id}/action", c.snapshotAction)
	meta := func(q *request) (*reply, error) {
		s, err := c.snapshotAt(q)
		if err != nil {
			return nil, err
		}
		return editMetadata(q, &s.meta, func() { s.updated = c.now() })
	}
	one := func(q *request) (*reply, error) {
		s, err := c.snapshotAt(q)
		if err != nil {
			return nil, err
		}
		return editMeta(q, &s.meta, "Snapshot "+s.ID, func() { s.updated = c.now() })
	}
	h("GET /v3/snapshots/{id}/metadata", meta)
	h("POST /v3/snapshots/{id}/metadata", meta)
	h("PUT /v3/snapshots/{id}/metadata", meta)
	h("GET /v3/snapshots/{id}/metadata/{key}", one)
	h("PUT /v3/snapshots/{id}/metadata/{key}", one)
	h("DELETE /v3/snapshots/{id}/metadata/{key}", one)
	h("GET /v3/backups", c.listBackups(false))
	h("GET /v3/backups/detail", c.listBackups(true))
	h("POST /v3/backups", c.createBackup)
	h("GET /v3/backups/{id}", c.showBackup)
	h("PUT /v3/backups/{id}", c.updateBackup)
	h("DELETE /v3/backups/{id}", c.deleteBackup)
	h("POST /v3/backups/{id}/restore", c.restoreBackup)
	h("POST /v3/backups/{id}/action", c.backupAction)
}

func (s *snapshot) view(q *request, detail, tail bool) object {
	v := object{{"id", s.ID}, {"created_at", stamp(s.created, micros)}, {"updated_at", stamp(s.updated, micros)}, {"name", textOrNil(s.name, s.noName)}, {"description", textOrNil(s.description, s.noText)},
		{"volume_id", s.volume}, {"status", s.status}, {"size", s.size}, {"metadata", orEmptyMap(s.meta)}}
	if !detail {
		return v
	}
	if q.at(14) {
		v = append(v, kv{"group_snapshot_id", nil})
	}
	if q.at(41) {
		v = append(v, kv{"user_id", s.user})
	}
	if q.at(65) {
		v = append(v, kv{"consumes_quota", true})
	}
	if tail {
		progress := "0%"
		if s.status == "available" {
			progress = "100%"
		}
		v = append(v, kv{"os-extended-snapshot-attributes:project_id", s.Project}, kv{"os-extended-snapshot-attributes:progress", progress})
	}
	return v
}

func (c *Cloud) listSnapshots(detail bool) handler {
	return func(q *request) (*reply, error) {
		rows, more, err := cinderPage(q, c.volume.snapshots)
		if err != nil {
			return nil, err
		}
		out, last, path := []object{}, "", "/snapshots"
		for _, s := range rows {
			last = s.ID
			out = append(out, s.view(q, detail, detail))
		}
		if detail {
			path += "/detail"
		}
		return ok(withLinks(q, object{{"snapshots", out}}, "snapshots", path, last, more))
	}
}

// newSnapshot stores a snapshot that becomes available after a while.
func (c *Cloud) newSnapshot(v *volume, name string) *snapshot {
	s := &snapshot{row: row{ID: newID(), Project: v.Project}, name: name, user: v.user, volume: v.ID, size: v.size, status: "creating", created: c.now(), content: v.content, bootable: v.bootable, imageMeta: v.imageMeta, noText: true}
	c.volume.snapshots.add(s)
	c.after(c.cfg.Durations.Snapshot, func() {
		if s.status == "creating" {
			s.status, s.updated = "available", c.now()
		}
	})
	return s
}

func (c *Cloud) createSnapshot(q *request) (*reply, error) {
	d := undisplay(q.body.sub("snapshot"))
	if d == nil {
		return nil, fail(400, "'snapshot' is a required property")
	}
	if d.str("volume_id") == "" {
		return nil, badField("snapshot", string(mustJSON(map[string]any(d))), "'volume_id' is a required property")
	}
	v, found := c.volume.volumes.get(d.str("volume_id"))
	if !found || !q.admin && v.Project != q.project {
		return nil, fail(404, "Volume "+d.str("volume_id")+" could not be found.")
	}
	if v.status != "available" && !(v.status == "in-use" && (d.truth("force", false) || q.at(66))) {
		return nil, fail(400, "Invalid volume: Volume "+v.ID+" status must be available, but current status is: "+v.status+".")
	}
	if err := c.volumeQuota(q.project, "snapshots", v.size); err != nil {
		return nil, err
	}
	s := c.newSnapshot(v, d.str("name"))
	s.description, s.meta, s.user = d.str("description"), d.stringMap("metadata"), q.user.ID
	s.noName, s.noText = d["name"] == nil, d["description"] == nil
	return accepted(object{{"snapshot", s.view(q, true, false)}})
}

func (c *Cloud) snapshotAt(q *request) (*snapshot, error) {
	if s, found := c.volume.snapshots.get(q.path("id")); found && (q.admin || s.Project == q.project) {
		return s, nil
	}
	return nil, fail(404, "Snapshot "+q.path("id")+" could not be found.")
}

func (c *Cloud) showSnapshot(q *request) (*reply, error) {
	s, err := c.snapshotAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"snapshot", s.view(q, true, true)}})
}

func (c *Cloud) updateSnapshot(q *request) (*reply, error) {
	s, err := c.snapshotAt(q)
	if err != nil {
		return nil, err
	}
	d := undisplay(q.body.sub("snapshot"))
	if d.has("name") {
		s.name, s.noName = d.str("name"), d["name"] == nil
	}
	if d.has("description") {
		s.description, s.noText = d.str("description"), d["description"] == nil
	}
	s.updated = c.now()
	return ok(object{{"snapshot", s.view(q, true, false)}})
}

func (c *Cloud) deleteSnapshot(q *request) (*reply, error) {
	s, err := c.snapshotAt(q)
	if err != nil {
		return nil, err
	}
	if s.status != "available" && s.status != "error" {
		return nil, fail(400, "Invalid snapshot: Snapshot status must be available or error, and must not be part of a group.")
	}
	return c.beginSnapshotEnd(s)
}

func (c *Cloud) beginSnapshotEnd(s *snapshot) (*reply, error) {
	s.status, s.updated = "deleting", c.now()
	c.after(c.cfg.Durations.Volume, func() { c.volume.snapshots.remove(s) })
	return accepted(nil)
}

func (c *Cloud) snapshotAction(q *request) (*reply, error) {
	s, err := c.snapshotAt(q)
	if err != nil {
		return nil, err
	}
	if arg := q.body.sub("os-reset_status"); arg != nil {
		if !q.admin {
			return nil, cinderPolicy("volume_extension:snapshot_admin_actions:reset_status")
		}
		s.status, s.updated = arg.str("status"), c.now()
		return accepted(nil)
	}
	if q.body.has("os-force_delete") {
		if !q.admin {
			return nil, cinderPolicy("volume_extension:snapshot_admin_actions:force_delete")
		}
		return c.beginSnapshotEnd(s)
	}
	return nil, fail(400, "There is no such action: None. Verify the request body and Content-Type header and try again.")
}

func (c *Cloud) backupView(q *request, b *backup) object {
	count := 0
	if b.status == "available" {
		count = 2
	}
	dependants := slices.ContainsFunc(c.volume.backups.of(b.Project), func(o *backup) bool { return o.parent == b.ID })
	v := object{{"id", b.ID}, {"status", b.status}, {"size", b.size}, {"object_count", count}, {"availability_zone", nil}, {"container", orNil(b.container)}, {"created_at", stamp(b.created, micros)},
		{"updated_at", stamp(b.updated, micros)}, {"name", textOrNil(b.name, b.noName)}, {"description", orNil(b.description)}, {"fail_reason", nil}, {"volume_id", b.volume}, {"links", q.volumeLinks("backups", b.ID)},
		{"is_incremental", b.parent != ""}, {"has_dependent_backups", dependants}, {"snapshot_id", orNil(b.snapshot)}, {"data_timestamp", stamp(b.created, micros)}}
	if q.admin && q.at(18) {
		v = append(v, kv{"os-backup-project-attr:project_id", b.Project})
	}
	if q.at(43) {
		v = append(v, kv{"metadata", orEmptyMap(b.meta)})
	}
	if q.at(56) && q.admin {
		v = append(v, kv{"user_id", b.user})
	}
	return v
}

func (c *Cloud) listBackups(detail bool) handler {
	return func(q *request) (*reply, error) {
		rows, more, err := cinderPage(q, c.volume.backups)
		if err != nil {
			return nil, err
		}
		out, last, path := []object{}, "", "/backups"
		for _, b := range rows {
			last = b.ID
			if detail {
				out = append(out, c.backupView(q, b))
			} else {
				out = append(out, object{{"id", b.ID}, {"name", textOrNil(b.name, b.noName)}, {"links", q.volumeLinks("backups", b.ID)}})
			}
		}
		if detail {
			path += "/detail"
		}
		return ok(withLinks(q, object{{"backups", out}}, "backups", path, last, more))
	}
}

func (c *Cloud) createBackup(q *request) (*reply, error) {
	d := q.body.sub("backup")
	v, found := c.volume.volumes.get(d.str("volume_id"))
	if !found || !q.admin && v.Project != q.project {
		return nil, fail(404, "Volume "+d.str("volume_id")+" could not be found.")
	}
	if v.status != "available" && !(v.status == "in-use" && d.truth("force", false)) && d.str("snapshot_id") == "" {
		return nil, fail(400, "Invalid volume: Backing up an in-use volume must use the force flag.")
	}
	if limit := c.volumeLimit("backups", q.project); limit >= 0 && c.volumeUsed("backups", q.project) >= limit {
		return nil, fail(413, "BackupLimitExceeded: Maximum number of backups allowed ("+toText(limit)+") exceeded")
	}
	b := &backup{row: row{ID: newID(), Project: q.project}, name: d.str("name"), noName: d["name"] == nil, description: d.str("description"), status: "creating", user: q.user.ID, volume: v.ID,
		snapshot: d.str("snapshot_id"), size: v.size, created: c.now(), updated: c.now(), content: v.content, bootable: v.bootable}
	if q.at(43) {
		b.meta = d.stringMap("metadata")
	}
	if d.truth("incremental", false) {
		for o := range newestFirst(c.volume.backups.of(q.project)) {
			if o.volume == v.ID && o.status == "available" {
				b.parent = o.ID
				break
			}
		}
		if b.parent == "" {
			return nil, fail(400, "Invalid backup: No backups available to do an incremental backup.")
		}
	}
	c.volume.backups.add(b)
	before := v.status
	v.status = "backing-up"
	c.after(c.cfg.Durations.Snapshot, func() {
		if v.status == "backing-up" {
			v.status = before
		}
		if b.status == "creating" {
			b.status, b.container, b.updated = "available", b.ID[:2]+"/"+b.ID[2:4]+"/"+b.ID, c.now()
		}
	})
	return accepted(object{{"backup", object{{"id", b.ID}, {"name", textOrNil(b.name, b.noName)}, {"links", q.volumeLinks("backups", b.ID)}}}})
}

func (c *Cloud) backupAt(q *request) (*backup, error) {
	if b, found := c.volume.backups.get(q.path("id")); found && (q.admin || b.Project == q.project) {
		return b, nil
	}
	return nil, fail(404, "Backup "+q.path("id")+" could not be found.")
}

func (c *Cloud) showBackup(q *request) (*reply, error) {
	b, err := c.backupAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"backup", c.backupView(q, b)}})
}

func (c *Cloud) updateBackup(q *request) (*reply, error) {
	b, err := c.backupAt(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("backup")
	if d.has("name") {
		b.name, b.noName = d.str("name"), d["name"] == nil
	}
	if d.has("description") {
		b.description = d.str("description")
	}
	b.updated = c.now()
	return ok(object{{"backup", object{{"id", b.ID}, {"name", textOrNil(b.name, b.noName)}, {"links", q.volumeLinks("backups", b.ID)}}}})
}

func (c *Cloud) deleteBackup(q *request) (*reply, error) {
	b, err := c.backupAt(q)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(c.volume.backups.of(b.Project), func(o *backup) bool { return o.parent == b.ID && o.status != "deleting" }) {
		return nil, fail(400, "Invalid backup: Incremental backups exist for this backup.")
	}
	if b.status != "available" && b.status != "error" {
		return nil, fail(400, "Invalid backup: Backup status must be available or error")
	}
	b.status, b.updated = "deleting", c.now()
	c.after(c.cfg.Durations.Volume, func() { c.volume.backups.remove(b) })
	return accepted(nil)
}

func (c *Cloud) restoreBackup(q *request) (*reply, error) {
	b, err := c.backupAt(q)
	if err != nil {
		return nil, err
	}
	if b.status != "available" {
		return nil, fail(400, "Invalid backup: Backup status must be available")
	}
	d := q.body.sub("restore")
	v, found := c.volume.volumes.get(d.str("volume_id"))
	if d.str("volume_id") != "" {
		if !found || !q.admin && v.Project != q.project {
			return nil, fail(404, "Volume "+d.str("volume_id")+" could not be found.")
		}
		if v.status != "available" {
			return nil, fail(400, "Invalid volume: Volume to be restored to must be available")
		}
		if v.size < b.size {
			return nil, fail(400, "Invalid volume: volume size is too small to restore backup of size "+toText(b.size)+".")
		}
	} else {
		name := d.str("name")
		if name == "" {
			name = "restore_backup_" + b.ID
		}
		v = c.newVolume(q.project, q.user.ID, name, b.size)
		v.description, v.meta = "auto-created_from_restore_from_backup", map[string]string{"src_backup_id": b.ID}
		c.volume.volumes.add(v)
	}
	v.status, b.status = "restoring-backup", "restoring"
	c.after(c.cfg.Durations.Snapshot, func() {
		v.status, v.content, v.bootable, v.updated = "available", b.content, b.bootable, c.now()
		if b.status == "restoring" {
			b.status = "available"
		}
	})
	return accepted(object{{"restore", object{{"backup_id", b.ID}, {"volume_id", v.ID}, {"volume_name", v.name}}}})
}

func (c *Cloud) backupAction(q *request) (*reply, error) {
	b, err := c.backupAt(q)
	if err != nil {
		return nil, err
	}
	if arg := q.body.sub("os-reset_status"); arg != nil {
		if !q.admin {
			return nil, cinderPolicy("volume_extension:backup_admin_actions:reset_status")
		}
		b.status, b.updated = arg.str("status"), c.now()
		return accepted(nil)
	}
	return nil, fail(400, "There is no such action: None. Verify the request body and Content-Type header and try again.")
}

func (c *Cloud) volumeTypeRoutes(h func(string, handler)) {
	h("GET /v3/types", c.listTypes)
	h("POST /v3/types", c.createType)
	h("GET /v3/types/{id}", c.showType)
	h("PUT /v3/types/{id}", c.updateType)
	h("DELETE /v3/types/{id}", c.deleteType)
	h("GET /v3/types/{id}/os-volume-type-access", c.typeAccess)
	h("POST /v3/types/{id}/action", c.changeTypeAccess)
	h("GET /v3/types/{id}/extra_specs", c.typeSpecs)
	h("POST /v3/types/{id}/extra_specs", c.typeSpecs)
	h("DELETE /v3/types/{id}/extra_specs/{key}", c.deleteTypeSpec)
}

func (t *volumeType) view(q *request) object {
	specs := orEmptyMap(t.specs)
	if !q.admin {
		specs = map[string]string{}
	}
	v := object{{"id", t.ID}, {"name", t.name}, {"is_public", t.public}, {"description", orNil(t.description)}, {"extra_specs", specs}}
	if q.admin {
		v = append(v, kv{"qos_specs_id", nil})
	}
	return append(v, kv{"os-volume-type-access:is_public", t.public})
}

// shown reports whether the caller may use the type.
func (t *volumeType) shown(q *request) bool {
	return t.public || q.admin || slices.Contains(t.projects, q.project)
}

// typeFilter is Cinder's is_public: administrators alone may ask, and see public types when they do not.
func typeFilter(q *request) (func(*volumeType) bool, error) {
	text := q.query.Get("is_public")
	if !q.admin || text == "" {
		return func(t *volumeType) bool { return t.public || slices.Contains(t.projects, q.project) }, nil
	}
	if strings.EqualFold(text, "none") {
		return func(*volumeType) bool { return true }, nil
	}
	public, isBool := toBool(text)
	if !isBool {
		return nil, fail(400, "Invalid is_public filter ["+text+"]")
	}
	return func(t *volumeType) bool {
		return t.public == public || public && slices.Contains(t.projects, q.project)
	}, nil
}

func (c *Cloud) typeAccess(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:volume_type_access:get_all_for_type")
	}
	t, err := c.typeAt(q)
	if err != nil {
		return nil, err
	}
	if t.public {
		return nil, fail(404, "Access list not available for public volume types.")
	}
	out := []object{}
	for _, p := range t.projects {
		out = append(out, object{{"volume_type_id", t.ID}, {"project_id", p}})
	}
	return ok(object{{"volume_type_access", out}})
}

func (c *Cloud) changeTypeAccess(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:volume_type_access:addProjectAccess")
	}
	t, err := c.typeAt(q)
	if err != nil {
		return nil, err
	}
	add, remove := q.body.sub("addProjectAccess").str("project"), q.body.sub("removeProjectAccess").str("project")
	switch {
	case t.public:
		return nil, fail(400, "Invalid volume type: Type access modification is not applicable to public volume type.")
	case add != "" && slices.Contains(t.projects, add):
		return nil, fail(409, "Volume type access for "+t.ID+" / "+add+" combination already exists.")
	case add != "":
		t.projects = append(t.projects, add)
	case !slices.Contains(t.projects, remove):
		return nil, fail(404, "Volume type access not found for "+t.ID+" / "+remove+" combination.")
	default:
		t.projects = slices.DeleteFunc(slices.Clone(t.projects), func(p string) bool { return p == remove })
	}
	return accepted(nil)
}

func (c *Cloud) listTypes(q *request) (*reply, error) {
	wanted, err := typeFilter(q)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for t := range newestFirst(c.volume.types.all) {
		if wanted(t) {
			out = append(out, t.view(q))
		}
	}
	return ok(object{{"volume_types", out}})
}

func (c *Cloud) typeAt(q *request) (*volumeType, error) {
	id := q.path("id")
	if id == "default" {
		return c.volume.types.all[0], nil
	}
	if t, found := c.volume.types.get(id); found && t.shown(q) {
		return t, nil
	}
	return nil, fail(404, "Volume type "+id+" could not be found.")
}

func (c *Cloud) showType(q *request) (*reply, error) {
	t, err := c.typeAt(q)
	if err != nil {
		return nil, err
	}
	v := t.view(q)
	if q.path("id") == "default" {
		v = v[:len(v)-1] // Cinder's extension does not reach this path
	}
	return ok(object{{"volume_type", v}})
}

func (c *Cloud) createType(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:type_create")
	}
	d := q.body.sub("volume_type")
	if err := checkServerName(d["name"]); err != nil {
		return nil, err
	}
	for _, t := range c.volume.types.all {
		if t.name == d.str("name") {
			return nil, fail(409, "Volume Type "+t.name+" already exists.")
		}
	}
	t := &volumeType{row: row{ID: newID()}, name: d.str("name"), description: d.str("description"), public: d.truth("os-volume-type-access:is_public", true), specs: d.stringMap("extra_specs")}
	c.volume.types.add(t)
	return ok(object{{"volume_type", object{{"id", t.ID}, {"name", t.name}, {"is_public", t.public}, {"extra_specs", orEmptyMap(t.specs)}, {"description", orNil(t.description)}, {"os-volume-type-access:is_public", t.public}}}})
}

func (c *Cloud) updateType(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:type_update")
	}
	t, err := c.typeAt(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("volume_type")
	if d.str("name") != "" {
		t.name = d.str("name")
	}
	if d.has("description") {
		t.description = d.str("description")
	}
	t.public = d.truth("is_public", t.public)
	return ok(object{{"volume_type", object{{"id", t.ID}, {"name", t.name}, {"is_public", t.public}, {"extra_specs", orEmptyMap(t.specs)}, {"description", orNil(t.description)}}}})
}

func (c *Cloud) deleteType(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:type_delete")
	}
	t, err := c.typeAt(q)
	if err != nil {
		return nil, err
	}
	if t == c.volume.types.all[0] {
		return nil, fail(400, "Volume type "+t.ID+" is the default volume type and cannot be deleted.")
	}
	for _, v := range c.volume.volumes.all {
		if v.kind == t {
			return nil, fail(400, "Target volume type is still in use.")
		}
	}
	c.volume.types.remove(t)
	return accepted(nil)
}

func (c *Cloud) typeSpecs(q *request) (*reply, error) {
	t, err := c.typeAt(q)
	if err != nil {
		return nil, err
	}
	if q.http.Method == http.MethodGet {
		return ok(object{{"extra_specs", orEmptyMap(t.specs)}})
	}
	if !q.admin {
		return nil, cinderPolicy("volume_extension:types_extra_specs:create")
	}
	t.specs = orEmptyMap(maps.Clone(t.specs))
	given := q.body.stringMap("extra_specs")
	maps.Copy(t.specs, given)
	return ok(object{{"extra_specs", orEmptyMap(given)}})
}

func (c *Cloud) deleteTypeSpec(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:types_extra_specs:delete")
	}
	t, err := c.typeAt(q)
	if err != nil {
		return nil, err
	}
	if _, found := t.specs[q.path("key")]; !found {
		return nil, fail(404, "Volume Type "+t.ID+" has no extra specs with key "+q.path("key")+".")
	}
	delete(t.specs, q.path("key"))
	return accepted(nil)
}
