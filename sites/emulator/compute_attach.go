package emulator

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func interfaceOf(q *request, p *port) object {
	v := object{{"net_id", p.network.ID}, {"port_id", p.ID}, {"mac_addr", p.mac}, {"port_state", p.status}, {"fixed_ips", p.fixedIPs()}}
	if q.at(70) {
		v = append(v, kv{"tag", nil})
	}
	return v
}

func (c *Cloud) listInterfaces(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for _, p := range c.network.byDevice[s.ID] {
		out = append(out, interfaceOf(q, p))
	}
	return ok(object{{"interfaceAttachments", out}})
}

func (c *Cloud) serverPort(q *request) (*server, *port, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range c.network.byDevice[s.ID] {
		if p.ID == q.path("port") {
			return s, p, nil
		}
	}
	return s, nil, fail(404, "Port id "+q.path("port")+" could not be found.")
}

func (c *Cloud) showInterface(q *request) (*reply, error) {
	_, p, err := c.serverPort(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"interfaceAttachment", interfaceOf(q, p)}})
}

// attachInterface handles POST /servers/{id}/os-interface; Nova answers when the port is plugged.
func (c *Cloud) attachInterface(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("interfaceAttachment")
	netID, portID := d.str("net_id"), d.str("port_id")
	if netID != "" && portID != "" {
		return nil, fail(400, "Must not input both network_id and port_id")
	}
	if d.list("fixed_ips") != nil && netID == "" {
		return nil, fail(400, "Must input network_id when request IP address")
	}
	if err := may(q, s, "attach_interface", []string{"active", "paused", "stopped"}); err != nil {
		return nil, err
	}
	b := &build{server: s, max: 1}
	r := netRequest{}
	switch {
	case portID != "":
		if r, err = c.planNetwork(q, b, doc{"port": portID}); err != nil {
			return nil, notFoundInstead(err)
		}
	case netID != "":
		if r, err = c.planNetwork(q, b, doc{"uuid": netID}); err != nil {
			return nil, notFoundInstead(err)
		}
	default:
		if err := c.autoNetwork(q, b, true); err != nil {
			return nil, err
		}
		r = b.nets[0]
	}
	for _, one := range d.list("fixed_ips") {
		m, _ := one.(map[string]any)
		r.fixed = doc(m).str("ip_address")
	}
	a := c.note(q, s, "attach_interface")
	p, err := c.plugPort(s, r, nil)
	a.done = c.now()
	if err != nil {
		a.failed = true
		return nil, fail(400, err.Error())
	}
	c.touchServer(s)
	return ok(object{{"interfaceAttachment", interfaceOf(q, p)}})
}

// notFoundInstead turns the 400 that POST /servers has for a missing reference into the 404 that other verbs have.
func notFoundInstead(err error) error {
	var e *apiError
	if errors.As(err, &e) && e.status == http.StatusBadRequest && strings.HasSuffix(e.msg, "could not be found.") {
		return fail(404, e.msg)
	}
	return err
}

func (c *Cloud) detachInterface(q *request) (*reply, error) {
	s, p, err := c.serverPort(q)
	if s == nil {
		return nil, err
	}
	if err := may(q, s, "detach_interface", []string{"active", "paused", "stopped"}); err != nil {
		return nil, err
	}
	a := c.note(q, s, "detach_interface")
	a.done = c.now()
	if p == nil { // Nova accepts it, and its compute node fails later
		a.failed = true
		return accepted(nil)
	}
	c.after(c.cfg.Durations.PortReady, func() {
		if p.deviceID == s.ID {
			c.unplugPort(s, p)
			c.touchServer(s)
		}
	})
	return accepted(nil)
}

func volumeAttachmentOf(q *request, s *server, a *attachment) object {
	var v object
	if !q.at(89) {
		v = object{{"id", a.volume.ID}}
	}
	v = append(v, kv{"volumeId", a.volume.ID}, kv{"serverId", s.ID}, kv{"device", a.device})
	if q.at(70) {
		v = append(v, kv{"tag", orNil(a.tag)})
	}
	if q.at(79) {
		v = append(v, kv{"delete_on_termination", a.deleteToo})
	}
	if q.at(89) {
		v = append(v, kv{"attachment_id", a.ID}, kv{"bdm_uuid", a.bdm})
	}
	return v
}

func (c *Cloud) listVolumeAttachments(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for _, a := range s.attached {
		out = append(out, volumeAttachmentOf(q, s, a))
	}
	return ok(object{{"volumeAttachments", out}})
}

func (c *Cloud) serverVolume(q *request) (*server, *attachment, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range s.attached {
		if a.volume.ID == q.path("volume") {
			return s, a, nil
		}
	}
	return s, nil, fail(404, "Instance "+s.ID+" is not attached to volume "+q.path("volume"))
}

func (c *Cloud) showVolumeAttachment(q *request) (*reply, error) {
	s, a, err := c.serverVolume(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"volumeAttachment", volumeAttachmentOf(q, s, a)}})
}

func (c *Cloud) updateVolumeAttachment(q *request) (*reply, error) {
	_, a, err := c.serverVolume(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("volumeAttachment")
	if id := d.str("volumeId"); id != "" && id != a.volume.ID {
		return nil, policyError("os-volumes-attachments:swap")
	}
	a.deleteToo = d.truth("delete_on_termination", a.deleteToo)
	return accepted(nil)
}

// attachVolume handles POST /servers/{id}/os-volume_attachments.
func (c *Cloud) attachVolume(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("volumeAttachment")
	id := d.str("volumeId")
	if !uuidPattern.MatchString(id) {
		return nil, badField("volumeId", id, "'"+id+"' is not a 'uuid'")
	}
	v, found := c.volume.volumes.get(id)
	if !found || v.Project != q.project && !q.admin {
		return nil, fail(404, "Volume "+id+" could not be found.")
	}
	if err := may(q, s, "attach_volume", []string{"active", "suspended", "stopped", "resized", "paused", "shelved", "shelved_offloaded"}); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(v.attachments, func(a *attachment) bool { return a.server == s.ID }) {
		return nil, fail(400, "Invalid volume: volume "+id+" is already attached to instances: "+s.ID)
	}
	if v.status != "available" && !(v.multiattach && v.status == "in-use") {
		return nil, fail(400, "Invalid volume: volume "+id+" status must be 'available' or 'downloading'. Currently in status '"+v.status+"'")
	}
	a := c.reserve(v, s, d.str("device"))
	a.deleteToo, a.tag = d.truth("delete_on_termination", false), d.str("tag")
	act := c.note(q, s, "attach_volume")
	c.after(c.cfg.Durations.Volume, func() {
		if !s.deleted && slices.Contains(s.attached, a) {
			c.completeAttach(a)
			act.done = c.now()
			c.touchServer(s)
		}
	})
	view := object{{"id", v.ID}, {"serverId", s.ID}, {"volumeId", v.ID}, {"device", a.device}}
	if q.at(70) {
		view = append(view, kv{"tag", orNil(a.tag)})
	}
	if q.at(79) {
		view = append(view, kv{"delete_on_termination", a.deleteToo})
	}
	return ok(object{{"volumeAttachment", view}})
}

// detachVolume handles DELETE /servers/{id}/os-volume_attachments/{volume}.
func (c *Cloud) detachVolume(q *request) (*reply, error) {
	s, a, err := c.serverVolume(q)
	if err != nil {
		return nil, err
	}
	if err := may(q, s, "detach_volume", []string{"active", "suspended", "stopped", "resized", "paused", "shelved", "shelved_offloaded"}); err != nil {
		return nil, err
	}
	if a.device == s.rootDevice {
		return nil, fail(400, "Cannot detach a root device volume")
	}
	if a.volume.status != "in-use" {
		return nil, fail(400, "Invalid volume: Invalid input received: Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach. (HTTP 400) (Request-ID: "+q.id+")")
	}
	a.volume.status, a.volume.updated = "detaching", c.now()
	act := c.note(q, s, "detach_volume")
	c.after(c.cfg.Durations.Volume, func() {
		if slices.Contains(s.attached, a) {
			c.detach(a)
			act.done = c.now()
			c.touchServer(s)
		}
	})
	return accepted(nil)
}

// serverTags handles /servers/{id}/tags.
func (c *Cloud) serverTags(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	if !q.at(26) {
		return unknownPath(q)
	}
	switch q.http.Method {
	case http.MethodPut:
		var tags []string
		for _, t := range anyStrings(q.body.list("tags")) {
			if err := checkTag(t); err != nil {
				return nil, err
			}
			if !slices.Contains(tags, t) {
				tags = append(tags, t)
			}
		}
		s.tags = tags
		c.touchServer(s)
	case http.MethodDelete:
		s.tags = nil
		c.touchServer(s)
		return noContent()
	}
	return ok(object{{"tags", append([]string{}, s.tags...)}})
}

func checkTag(t string) error {
	if t == "" || len(t) > 60 {
		return badField("tags", t, "'"+t+"' is too long")
	}
	return nil
}

// serverTag handles /servers/{id}/tags/{tag}.
func (c *Cloud) serverTag(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	tag := q.path("tag")
	has := slices.Contains(s.tags, tag)
	switch q.http.Method {
	case http.MethodPut:
		if err := checkTag(tag); err != nil {
			return nil, err
		}
		rep := &reply{status: 204}
		if !has {
			s.tags = append(slices.Clone(s.tags), tag)
			rep.status = 201
			c.touchServer(s)
		}
		return rep.set("Location", q.url("/v2.1/servers/"+s.ID+"/tags/"+tag)), nil
	case http.MethodDelete:
		if !has {
			return nil, fail(404, "Instance "+s.ID+" has no tag '"+tag+"'")
		}
		s.tags = slices.DeleteFunc(slices.Clone(s.tags), func(t string) bool { return t == tag })
		c.touchServer(s)
		return noContent()
	}
	if !has {
		return nil, fail(404, "Server "+s.ID+" has no tag '"+tag+"'")
	}
	return noContent()
}

// serverMetadata handles /servers/{id}/metadata.
func (c *Cloud) serverMetadata(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	if q.http.Method != http.MethodGet {
		if q.body.sub("metadata") == nil {
			return nil, fail(400, "'metadata' is a required property")
		}
		if err := checkServerParts(q, q.body); err != nil {
			return nil, err
		}
		if s.locked && !q.admin {
			return nil, locked(s)
		}
		next := maps.Clone(s.meta)
		if q.http.Method == http.MethodPut || next == nil {
			next = map[string]string{}
		}
		maps.Copy(next, q.body.stringMap("metadata"))
		if len(next) > 128 {
			return nil, fail(403, "Maximum number of metadata items exceeds 128")
		}
		s.meta = next
		c.touchServer(s)
	}
	return ok(object{{"metadata", orEmptyMap(s.meta)}})
}

// serverMeta handles /servers/{id}/metadata/{key}.
func (c *Cloud) serverMeta(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	key := q.path("key")
	switch q.http.Method {
	case http.MethodPut:
		m := q.body.stringMap("meta")
		v, found := m[key]
		if !found || len(m) != 1 {
			return nil, fail(400, "Request body and URI mismatch")
		}
		s.meta = maps.Clone(s.meta)
		if s.meta == nil {
			s.meta = map[string]string{}
		}
		s.meta[key] = v
		c.touchServer(s)
		return ok(object{{"meta", map[string]string{key: v}}})
	case http.MethodDelete:
		if _, found := s.meta[key]; !found {
			return nil, fail(404, "Metadata item was not found")
		}
		s.meta = maps.Clone(s.meta)
		delete(s.meta, key)
		c.touchServer(s)
		return noContent()
	}
	v, found := s.meta[key]
	if !found {
		return nil, fail(404, "Metadata item was not found")
	}
	return ok(object{{"meta", map[string]string{key: v}}})
}

func (c *Cloud) serverIPs(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	all := c.addresses(s, false)
	name := q.path("network")
	if name == "" {
		return ok(object{{"addresses", all}})
	}
	list, _ := all.(object)
	for _, m := range list {
		if m.K == name {
			return ok(object{m})
		}
	}
	return nil, fail(404, "Instance is not a member of specified network")
}

func (c *Cloud) serverTopology(q *request) (*reply, error) {
	if _, err := c.serverAt(q); err != nil {
		return nil, err
	}
	return ok(object{{"nodes", []any{}}, {"pagesize_kb", nil}})
}

func (c *Cloud) serverDiagnostics(q *request) (*reply, error) {
	if _, err := c.serverAt(q); err != nil {
		return nil, err
	}
	if !q.admin {
		return nil, policyError("os-server-diagnostics")
	}
	return nil, fail(501, "The requested functionality is not supported.")
}

func (c *Cloud) noMigrations(q *request) (*reply, error) {
	if !q.admin {
		return nil, policyError("servers:migrations:index")
	}
	return ok(object{{"migrations", []object{}}})
}

func (c *Cloud) serverSecurityGroups(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	out := []object{}
	var seen []string
	for _, p := range c.network.byDevice[s.ID] {
		for _, id := range p.groups {
			if g, found := c.network.groups.get(id); found && !slices.Contains(seen, id) {
				seen = append(seen, id)
				out = append(out, c.oldGroupView(g))
			}
		}
	}
	return ok(object{{"security_groups", out}})
}

func (c *Cloud) oldGroupView(g *secGroup) object {
	rules := []object{}
	for _, r := range c.rulesOf(g) {
		if r.direction != "ingress" {
			continue
		}
		group, ipRange := object{}, object{}
		if r.prefix != "" {
			ipRange = object{{"cidr", r.prefix}}
		}
		if o, found := c.network.groups.get(r.remoteGroup); found {
			group = object{{"name", o.name}, {"tenant_id", o.Project}}
		}
		rules = append(rules, object{{"id", r.ID}, {"parent_group_id", g.ID}, {"ip_protocol", orNil(r.protocol)}, {"from_port", intOrNil(r.min)}, {"to_port", intOrNil(r.max)}, {"group", group}, {"ip_range", ipRange}})
	}
	return object{{"id", g.ID}, {"description", g.description}, {"name", g.name}, {"tenant_id", g.Project}, {"rules", rules}}
}

func (a *action) view(q *request, s *server) object {
	message := any(nil)
	if a.failed {
		message = "Error"
	}
	v := object{{"action", a.name}, {"instance_uuid", s.ID}, {"request_id", a.request}, {"user_id", a.user}, {"project_id", a.project}, {"start_time", stamp(a.at, micros)}, {"message", message}}
	if q.at(58) {
		at := a.done
		if at.IsZero() {
			at = a.at
		}
		v = append(v, kv{"updated_at", stamp(at, micros)})
	}
	return v
}

func (c *Cloud) listActions(q *request) (*reply, error) {
	s, err := c.serverOrGone(q)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for a := range newestFirst(s.actions) {
		out = append(out, a.view(q, s))
	}
	return ok(object{{"instanceActions", out}})
}

// serverOrGone also finds a deleted server, from 2.21 on.
func (c *Cloud) serverOrGone(q *request) (*server, error) {
	s, err := c.serverAt(q)
	if err == nil || !q.at(21) {
		return s, err
	}
	for _, g := range c.compute.gone {
		if g.ID == q.path("id") && (q.admin || g.Project == q.project) {
			return g, nil
		}
	}
	return nil, err
}

func (c *Cloud) showAction(q *request) (*reply, error) {
	s, err := c.serverOrGone(q)
	if err != nil {
		return nil, err
	}
	for _, a := range s.actions {
		if a.request != q.path("request") {
			continue
		}
		result, finish := any("Success"), stamp(a.done, micros)
		if a.failed {
			result = "Error"
		}
		if a.done.IsZero() {
			result, finish = nil, nil
		}
		e := object{{"event", "compute_" + a.name + "_instance"}, {"start_time", stamp(a.at, micros)}, {"finish_time", finish}, {"result", result}}
		if q.admin {
			e = append(e, kv{"traceback", nil})
			if q.at(62) && s.host != nil {
				e = append(e, kv{"host", s.host.name})
			}
		}
		if q.at(62) {
			e = append(e, kv{"hostId", hostID(s.Project, s.host)})
		}
		if q.admin && q.at(84) {
			e = append(e, kv{"details", nil})
		}
		return ok(object{{"instanceAction", append(a.view(q, s), kv{"events", []object{e}})}})
	}
	return nil, fail(404, "Action for request_id "+q.path("request")+" on instance "+s.ID+" not found")
}
