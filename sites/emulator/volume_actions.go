package emulator

import (
	"slices"
	"strconv"
)

// volumeAction handles POST /volumes/{id}/action.
func (c *Cloud) volumeAction(q *request) (*reply, error) {
	v, err := c.volumeAt(q)
	if err != nil {
		return nil, err
	}
	for name := range q.body {
		arg := q.body.sub(name)
		switch name {
		case "os-extend":
			return c.extendVolume(q, v, arg)
		case "os-reset_status":
			return c.resetVolume(q, v, arg)
		case "os-retype":
			return c.retypeVolume(v, arg)
		case "os-volume_upload_image":
			return c.uploadVolume(q, v, arg)
		case "os-set_bootable":
			v.bootable = arg.truth("bootable", v.bootable)
			v.updated = c.now()
			return &reply{status: 200}, nil
		case "os-update_readonly_flag":
			v.meta = orEmptyMap(v.meta)
			v.meta["readonly"] = toText(arg.truth("readonly", false))
			v.updated = c.now()
			return accepted(nil)
		case "os-set_image_metadata":
			v.imageMeta = orEmptyMap(v.imageMeta)
			for k, x := range arg.stringMap("metadata") {
				v.imageMeta[k] = x
			}
			return ok(object{{"metadata", v.imageMeta}})
		case "os-unset_image_metadata":
			key := arg.str("key")
			if _, found := v.imageMeta[key]; !found {
				return nil, fail(404, "Glance metadata for volume/snapshot "+v.ID+" cannot be found.")
			}
			delete(v.imageMeta, key)
			return &reply{status: 200}, nil
		case "os-show_image_metadata":
			return ok(object{{"metadata", orEmptyMap(v.imageMeta)}})
		case "os-force_delete":
			if !q.admin {
				return nil, cinderPolicy("volume_extension:volume_admin_actions:force_delete")
			}
			return noReply(c.beginDelete(v, true, true))
		default:
			return c.attachAction(q, v, name, arg)
		}
	}
	return nil, fail(400, "There is no such action: None. Verify the request body and Content-Type header and try again.")
}

func noReply(err error) (*reply, error) {
	if err != nil {
		return nil, err
	}
	return accepted(nil)
}

// attachAction is the old way to attach, by status changes only.
func (c *Cloud) attachAction(q *request, v *volume, name string, arg doc) (*reply, error) {
	moves := map[string]struct{ from, to string }{
		"os-reserve": {"available", "reserved"}, "os-unreserve": {"reserved", "available"}, "os-begin_detaching": {"in-use", "detaching"}, "os-roll_detaching": {"detaching", "in-use"},
	}
	if m, known := moves[name]; known {
		if v.status != m.from && name == "os-reserve" {
			return nil, fail(400, "Invalid volume: Volume status must be available to reserve, but the status is "+v.status+".")
		}
		if v.status == m.from {
			v.status, v.updated = m.to, c.now()
		}
		return accepted(nil)
	}
	switch name {
	case "os-attach":
		if v.status != "available" && v.status != "reserved" && v.status != "attaching" {
			return nil, fail(400, "Invalid volume: Volume "+v.ID+" status must be available or reserved to attach, but the status is "+v.status+".")
		}
		a := &attachment{row: row{ID: newID(), Project: v.Project}, volume: v, server: arg.str("instance_uuid"), device: arg.str("mountpoint"), mode: "rw", bdm: newID()}
		v.attachments = append(v.attachments, a)
		c.volume.attachments.add(a)
		c.completeAttach(a)
		return accepted(nil)
	case "os-detach":
		for _, a := range slices.Clone(v.attachments) {
			if id := arg.str("attachment_id"); id == "" || id == a.ID {
				c.detach(a)
			}
		}
		if v.status == "detaching" {
			v.status = "available"
		}
		return accepted(nil)
	case "os-initialize_connection":
		return ok(object{{"connection_info", object{{"driver_volume_type", "nfs"}, {"data", object{{"name", "volume-" + v.ID}, {"access_mode", "rw"}}}}}})
	case "os-terminate_connection":
		return accepted(nil)
	}
	return nil, fail(400, "There is no such action: "+name+". Verify the request body and Content-Type header and try again.")
}

func (c *Cloud) extendVolume(q *request, v *volume, arg doc) (*reply, error) {
	size, given := arg.num("new_size")
	if !given || size < 1 {
		return nil, badField("new_size", arg["new_size"], toText(arg["new_size"])+" is not of type 'integer', 'string'")
	}
	if size <= v.size {
		return nil, fail(400, "Invalid input received: New size for extend must be greater than current size. (current: "+strconv.Itoa(v.size)+", extended: "+strconv.Itoa(size)+").")
	}
	if v.status != "available" && !(v.status == "in-use" && q.at(42)) {
		return nil, fail(400, "Invalid volume: Volume "+v.ID+" status must be '['available']' to extend, currently "+v.status+".")
	}
	if err := c.volumeQuota(v.Project, "", size-v.size); err != nil {
		return nil, err
	}
	before := v.status
	v.status, v.updated = "extending", c.now()
	c.after(c.cfg.Durations.Volume, func() {
		if v.status == "extending" {
			v.size, v.status, v.updated = size, before, c.now()
		}
	})
	return accepted(nil)
}

func (c *Cloud) resetVolume(q *request, v *volume, arg doc) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:volume_admin_actions:reset_status")
	}
	if s := arg.str("status"); s != "" {
		v.status = s
	}
	if arg.str("attach_status") == "detached" {
		for _, a := range slices.Clone(v.attachments) {
			status := v.status
			c.detach(a)
			v.status = status
		}
	}
	v.updated = c.now()
	return accepted(nil)
}

func (c *Cloud) retypeVolume(v *volume, arg doc) (*reply, error) {
	t := c.typeNamed(arg.str("new_type"))
	if t == nil {
		return nil, fail(404, "Volume type with name "+arg.str("new_type")+" could not be found.")
	}
	if t == v.kind || v.status != "available" && v.status != "in-use" {
		return nil, fail(400, "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a consistency group, requested type has to be different that the one from the volume, and for in-use volumes front-end qos specs cannot change.")
	}
	before := v.status
	v.status, v.updated = "retyping", c.now()
	c.after(c.cfg.Durations.Volume, func() {
		if v.status == "retyping" {
			v.kind, v.status, v.updated = t, before, c.now()
		}
	})
	return accepted(nil)
}

// uploadVolume makes an image of a volume.
func (c *Cloud) uploadVolume(q *request, v *volume, arg doc) (*reply, error) {
	name := arg.str("image_name")
	if name == "" {
		return nil, badField("os-volume_upload_image", string(mustJSON(map[string]any(arg))), "'image_name' is a required property")
	}
	if v.status != "available" && !(v.status == "in-use" && arg.truth("force", false)) {
		return nil, fail(400, "Invalid volume: Volume "+v.ID+" status must be ('available',) to upload to an image, currently "+v.status+".")
	}
	i := &image{row: row{ID: newID(), Project: q.project}, name: name, status: "queued", visibility: "shared", disk: arg.str("disk_format"), container: arg.str("container_format"), size: -1, created: c.now(), updated: c.now()}
	orDefault(&i.disk, "raw")
	orDefault(&i.container, "bare")
	if q.at(1) {
		i.visibility = "private"
		if x := arg.str("visibility"); x != "" {
			i.visibility = x
		}
	}
	i.protected = arg.truth("protected", false)
	c.image.images.add(i)
	before := v.status
	shown := v.updated
	v.status, v.updated = "uploading", c.now()
	c.after(c.cfg.Durations.Snapshot, func() {
		if v.status == "uploading" {
			v.status = before
		}
		if _, there := c.image.images.get(i.ID); there && i.status == "queued" {
			data := v.content
			if data == nil {
				data = []byte{}
			}
			c.setImageData(i, data)
		}
	})
	t := v.kind
	view := object{{"id", v.ID}, {"updated_at", stamp(shown, micros)}, {"status", "uploading"}, {"display_description", textOrNil(v.description, v.noText)}, {"size", v.size},
		{"volume_type", object{{"id", t.ID}, {"name", t.name}, {"description", t.description}, {"is_public", t.public}, {"extra_specs", orEmptyMap(t.specs)}, {"qos_specs_id", nil}, {"created_at", nil},
			{"updated_at", nil}, {"deleted_at", nil}, {"deleted", false}}}, {"image_id", i.ID}, {"container_format", i.container}, {"disk_format", i.disk}, {"image_name", i.name}}
	if q.at(1) {
		view = append(view, kv{"protected", i.protected}, kv{"visibility", i.visibility})
	}
	return accepted(object{{"os-volume_upload_image", view}})
}

func (c *Cloud) volumeAdminRoutes(h func(string, handler)) {
	h("GET /v3/limits", c.volumeLimits)
	h("GET /v3/os-availability-zone", func(*request) (*reply, error) {
		return ok(object{{"availabilityZoneInfo", []object{{{"zoneName", "nova"}, {"zoneState", object{{"available", true}}}}}}})
	})
	h("GET /v3/os-services", c.listVolumeServices)
	h("GET /v3/scheduler-stats/get_pools", c.volumePools)
	h("GET /v3/os-quota-sets/{id}", c.showVolumeQuota(false))
	h("GET /v3/os-quota-sets/{id}/defaults", c.showVolumeQuota(true))
	h("PUT /v3/os-quota-sets/{id}", c.setVolumeQuota)
	h("DELETE /v3/os-quota-sets/{id}", func(q *request) (*reply, error) {
		if !q.admin {
			return nil, cinderPolicy("volume_extension:quotas:delete")
		}
		delete(c.volume.quotas, q.path("id"))
		return &reply{status: 200}, nil
	})
	h("GET /v3/attachments", c.listAttachments(false))
	h("GET /v3/attachments/detail", c.listAttachments(true))
	h("GET /v3/attachments/{id}", c.showAttachment)
	h("GET /v3/extensions", func(*request) (*reply, error) { return ok(object{{"extensions", []object{}}}) })
	h("GET /v3/messages", func(*request) (*reply, error) { return ok(object{{"messages", []object{}}}) })
	h("GET /v3/group_types", func(*request) (*reply, error) {
		return ok(object{{"group_types", []object{{{"id", fixedUUID("default_cgsnapshot_type")}, {"name", "default_cgsnapshot_type"}, {"description", "Default group type for migrating cgsnapshot"}, {"is_public", true}}}}})
	})
	h("GET /v3/groups/detail", func(*request) (*reply, error) { return ok(object{{"groups", []object{}}}) })
	h("GET /v3/capabilities/{host}", func(q *request) (*reply, error) {
		if !q.admin {
			return nil, cinderPolicy("volume_extension:capabilities")
		}
		return unknownPath(q)
	})
	h("GET /v3/resource_filters", func(*request) (*reply, error) {
		one := func(name string, filters ...string) object { return object{{"resource", name}, {"filters", filters}} }
		return ok(object{{"resource_filters", []object{
			one("volume", "name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size", "created_at", "updated_at", "consumes_quota"),
			one("backup", "name", "status", "volume_id"), one("snapshot", "name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"),
			one("attachment", "volume_id", "status", "instance_id", "attach_status")}}})
	})
	h("GET /v3/qos-specs", func(q *request) (*reply, error) {
		if !q.admin {
			return nil, cinderPolicy("volume_extension:qos_specs_manage:get_all")
		}
		return ok(object{{"qos_specs", []object{}}})
	})
}

func (c *Cloud) listVolumeServices(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:services:index")
	}
	out := []object{}
	for _, s := range [][2]string{{"cinder-backup", c.cfg.Name}, {"cinder-volume", c.cfg.Name + "@pool"}, {"cinder-scheduler", c.cfg.Name}} {
		if !match(q, "binary", s[0]) || !match(q, "host", s[1]) {
			continue
		}
		v := object{{"binary", s[0]}, {"host", s[1]}, {"zone", "nova"}, {"status", "enabled"}, {"state", "up"}, {"updated_at", stamp(c.now(), micros)}}
		if s[0] == "cinder-volume" && q.at(49) {
			v = append(v, kv{"backend_state", "up"})
		}
		if q.at(7) {
			v = append(v, kv{"cluster", nil})
		}
		v = append(v, kv{"disabled_reason", nil})
		if s[0] == "cinder-volume" {
			v = append(v, kv{"replication_status", "disabled"}, kv{"active_backend_id", nil}, kv{"frozen", false})
		}
		out = append(out, v)
	}
	return ok(object{{"services", out}})
}

func (c *Cloud) volumePools(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("scheduler_extension:scheduler_stats:get_pools")
	}
	used := 0
	for _, v := range c.volume.volumes.all {
		used += v.size
	}
	pool := object{{"name", c.cfg.Name + "@pool#pool"}}
	if detail, _ := toBool(q.query.Get("detail")); detail {
		total := c.cfg.Capacity.VolumeGB
		pool = append(pool, kv{"capabilities", object{{"volume_backend_name", "pool"}, {"vendor_name", "Open Source"}, {"driver_version", "1.4.0"}, {"storage_protocol", "NFS"}, {"total_capacity_gb", float64(total)},
			{"free_capacity_gb", float64(max(0, total-used))}, {"reserved_percentage", 0}, {"QoS_support", false}, {"sparse_copy_volume", true}, {"provisioned_capacity_gb", float64(used)},
			{"max_over_subscription_ratio", "20.0"}, {"thin_provisioning_support", true}, {"thick_provisioning_support", false}, {"allocated_capacity_gb", used}, {"filter_function", nil}, {"goodness_function", nil},
			{"timestamp", stamp(c.now(), micros)}}})
	}
	return ok(object{{"pools", []object{pool}}})
}

// volumeQuotas are Cinder's quotas with their defaults, in its order; those of each type come in between.
func (c *Cloud) volumeQuotas() []kv {
	list := []kv{{"volumes", 10}, {"per_volume_gigabytes", -1}, {"snapshots", 10}, {"gigabytes", 1000}, {"backups", 10}, {"backup_gigabytes", 1000}}
	for _, t := range c.volume.types.all {
		list = append(list, kv{"volumes_" + t.name, -1}, kv{"gigabytes_" + t.name, -1}, kv{"snapshots_" + t.name, -1})
	}
	list = append(list, kv{"groups", 10})
	if c.cfg.Unlimited {
		for i := range list {
			list[i].V = -1
		}
	}
	return list
}

func (c *Cloud) volumeLimit(name, project string) int {
	if n, set := c.volume.quotas[project][name]; set {
		return n
	}
	for _, x := range c.volumeQuotas() {
		if x.K == name {
			return x.V.(int)
		}
	}
	return -1
}

func (c *Cloud) volumeUsed(name, project string) int {
	s := &c.volume
	size := 0
	switch name {
	case "volumes":
		return len(s.volumes.of(project))
	case "snapshots":
		return len(s.snapshots.of(project))
	case "backups":
		return len(s.backups.of(project))
	case "gigabytes":
		for _, v := range s.volumes.of(project) {
			size += v.size
		}
		for _, v := range s.snapshots.of(project) {
			size += v.size
		}
	case "backup_gigabytes":
		for _, b := range s.backups.of(project) {
			size += b.size
		}
	}
	return size
}

// volumeQuota refuses one more of a resource, or so many more gigabytes.
func (c *Cloud) volumeQuota(project, resource string, gigabytes int) error {
	limit := c.volumeLimit("gigabytes", project)
	used := 0
	if limit >= 0 {
		used = c.volumeUsed("gigabytes", project)
	}
	if limit >= 0 && used+gigabytes > limit {
		return fail(413, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested "+strconv.Itoa(gigabytes)+"G, quota is "+strconv.Itoa(limit)+"G and "+strconv.Itoa(used)+"G has been consumed.")
	}
	if resource == "" {
		return nil
	}
	if limit := c.volumeLimit(resource, project); limit >= 0 && c.volumeUsed(resource, project) >= limit {
		kind := map[string]string{"volumes": "VolumeLimitExceeded: Maximum number of volumes allowed (", "snapshots": "SnapshotLimitExceeded: Maximum number of snapshots allowed ("}[resource]
		return fail(413, kind+strconv.Itoa(limit)+") exceeded for quota '"+resource+"'.")
	}
	return nil
}

func (c *Cloud) volumeLimits(q *request) (*reply, error) {
	l := func(n string) int { return c.volumeLimit(n, q.project) }
	u := func(n string) int { return c.volumeUsed(n, q.project) }
	return ok(object{{"limits", object{{"rate", []any{}}, {"absolute", object{{"maxTotalVolumes", l("volumes")}, {"maxTotalSnapshots", l("snapshots")}, {"maxTotalVolumeGigabytes", l("gigabytes")},
		{"maxTotalBackups", l("backups")}, {"maxTotalBackupGigabytes", l("backup_gigabytes")}, {"totalVolumesUsed", u("volumes")}, {"totalGigabytesUsed", u("gigabytes")}, {"totalSnapshotsUsed", u("snapshots")},
		{"totalBackupsUsed", u("backups")}, {"totalBackupGigabytesUsed", u("backup_gigabytes")}}}}}})
}

func (c *Cloud) showVolumeQuota(defaults bool) handler {
	return func(q *request) (*reply, error) {
		if !q.admin && q.path("id") != q.project {
			return nil, cinderPolicy("volume_extension:quotas:show")
		}
		usage, _ := toBool(q.query.Get("usage"))
		var v object
		for _, x := range c.volumeQuotas() {
			limit := c.volumeLimit(x.K, q.path("id"))
			switch {
			case defaults:
				v = append(v, x)
			case usage:
				v = append(v, kv{x.K, object{{"limit", limit}, {"in_use", c.volumeUsed(x.K, q.path("id"))}, {"reserved", 0}}})
			default:
				v = append(v, kv{x.K, limit})
			}
		}
		return ok(object{{"quota_set", append(v, kv{"id", q.path("id")})}})
	}
}

func (c *Cloud) setVolumeQuota(q *request) (*reply, error) {
	if !q.admin {
		return nil, cinderPolicy("volume_extension:quotas:update")
	}
	set := c.volume.quotas[q.path("id")]
	if set == nil {
		set = map[string]int{}
	}
	d := q.body.sub("quota_set")
	for name := range d {
		n, isNumber := d.num(name)
		if !slices.ContainsFunc(c.volumeQuotas(), func(x kv) bool { return x.K == name }) {
			continue // Cinder ignores names that it does not know
		}
		if !isNumber || n < -1 {
			return nil, badField(name, d[name], toText(d[name])+" is less than the minimum of -1")
		}
		set[name] = n
	}
	c.volume.quotas[q.path("id")] = set
	var v object
	for _, x := range c.volumeQuotas() {
		v = append(v, kv{x.K, c.volumeLimit(x.K, q.path("id"))})
	}
	return ok(object{{"quota_set", v}})
}

func (a *attachment) view(detail bool) object {
	v := object{{"id", a.ID}, {"status", a.status}, {"instance", orNil(a.server)}, {"volume_id", a.volume.ID}}
	if detail {
		v = append(v, kv{"attached_at", toText(stamp(a.at, micros))}, kv{"detached_at", ""}, kv{"attach_mode", a.mode},
			kv{"connection_info", object{{"name", "volume-" + a.volume.ID}, {"driver_volume_type", "nfs"}, {"access_mode", "rw"}, {"encrypted", false}, {"attachment_id", a.ID}}})
	}
	return v
}

func (c *Cloud) listAttachments(detail bool) handler {
	return func(q *request) (*reply, error) {
		if !q.at(27) {
			return unknownPath(q)
		}
		rows, more, err := cinderPage(q, c.volume.attachments)
		if err != nil {
			return nil, err
		}
		out := []object{}
		last := ""
		for _, a := range rows {
			last = a.ID
			out = append(out, a.view(detail))
		}
		return ok(withLinks(q, object{{"attachments", out}}, "attachments", "/attachments", last, more))
	}
}

func (c *Cloud) showAttachment(q *request) (*reply, error) {
	a, found := c.volume.attachments.get(q.path("id"))
	if !found || !q.at(27) || !q.admin && a.Project != q.project {
		return nil, fail(404, "Volume attachment could not be found with filter: attachment_id = "+q.path("id")+".")
	}
	return ok(object{{"attachment", a.view(true)}})
}
