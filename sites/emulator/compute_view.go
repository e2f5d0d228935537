package emulator

import (
	"slices"
	"strings"
)

// status is what Nova shows for a pair of vm_state and task_state (nova/api/openstack/common.py).
func (s *server) status() string {
	switch s.vm {
	case "active", "stopped":
		switch {
		case strings.HasPrefix(s.task, "rebuil"):
			return "REBUILD"
		case strings.HasPrefix(s.task, "resize_"):
			return "RESIZE"
		case s.task == "migrating":
			return "MIGRATING"
		case s.vm == "stopped":
			return "SHUTOFF"
		case s.task == "rebooting_hard" || s.task == "reboot_pending_hard" || s.task == "reboot_started_hard":
			return "HARD_REBOOT"
		case strings.HasPrefix(s.task, "reboot"):
			return "REBOOT"
		case s.task == "updating_password":
			return "PASSWORD"
		}
		return "ACTIVE"
	case "building":
		return "BUILD"
	case "resized":
		if s.task == "resize_reverting" {
			return "REVERT_RESIZE"
		}
		return "VERIFY_RESIZE"
	case "paused":
		return "PAUSED"
	case "suspended":
		return "SUSPENDED"
	case "rescued":
		return "RESCUE"
	case "error":
		if strings.HasPrefix(s.task, "rebuil") {
			return "REBUILD"
		}
		return "ERROR"
	case "deleted":
		return "DELETED"
	case "shelved":
		return "SHELVED"
	case "shelved_offloaded":
		return "SHELVED_OFFLOADED"
	}
	return "UNKNOWN"
}

func (q *request) bothLinks(kind, id string) []object {
	return []object{{{"rel", "self"}, {"href", q.url("/v2.1/" + kind + "/" + id)}}, {{"rel", "bookmark"}, {"href", q.url("/" + kind + "/" + id)}}}
}

func (q *request) bookmark(kind, id string) []object {
	return []object{{{"rel", "bookmark"}, {"href", q.url("/" + kind + "/" + id)}}}
}

type viewKind uint8

const (
	viewShow viewKind = iota
	viewDetail
	viewRebuild
)

// serverView renders a server as the caller's microversion and rights have it.
func (c *Cloud) serverView(q *request, s *server, kind viewKind) object {
	v := make(object, 0, 48)
	st := s.status()
	v = append(v, kv{"id", s.ID}, kv{"name", s.name}, kv{"status", st}, kv{"tenant_id", s.Project}, kv{"user_id", s.user}, kv{"metadata", orEmptyMap(s.meta)},
		kv{"hostId", hostID(s.Project, s.host)}, kv{"image", q.imageRef(s)}, kv{"flavor", q.flavorRef(s.flavor)}, kv{"created", stamp(s.created, zulu)}, kv{"updated", stamp(s.updated, zulu)},
		kv{"addresses", c.addresses(s, true)}, kv{"accessIPv4", s.v4}, kv{"accessIPv6", s.v6}, kv{"links", q.bothLinks("servers", s.ID)}, kv{"OS-DCF:diskConfig", s.diskConfig()})
	if s.fault != nil && (st == "ERROR" || st == "DELETED") {
		v = append(v, kv{"fault", s.fault.view(q)})
	}
	if slices.Contains([]string{"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"}, st) {
		v = append(v, kv{"progress", 0})
	}
	if kind == viewRebuild && !q.at(75) {
		return c.tailView(q, s, v, kind)
	}
	drive := ""
	if s.configDrive {
		drive = "True"
	}
	v = append(v, kv{"OS-EXT-AZ:availability_zone", s.shownZone()}, kv{"config_drive", drive}, kv{"key_name", orNil(s.key)},
		kv{"OS-SRV-USG:launched_at", stamp(s.launched, micros)}, kv{"OS-SRV-USG:terminated_at", stamp(s.terminated, micros)})
	if names := c.serverGroupNames(s); kind != viewDetail && len(names) > 0 {
		v = append(v, kv{"security_groups", names})
	}
	if q.admin {
		v = s.adminView(q, v)
	}
	v = append(v, kv{"OS-EXT-STS:task_state", orNil(s.task)}, kv{"OS-EXT-STS:vm_state", s.vm}, kv{"OS-EXT-STS:power_state", int(s.power)}, kv{"os-extended-volumes:volumes_attached", s.volumesView(q)})
	return c.tailView(q, s, v, kind)
}

// tailView adds the members that microversions have brought.
func (c *Cloud) tailView(q *request, s *server, v object, kind viewKind) object {
	if q.admin && q.at(16) && kind != viewRebuild {
		state := "UP"
		if s.host == nil {
			state = ""
		}
		v = append(v, kv{"host_status", state})
	}
	if q.at(9) {
		v = append(v, kv{"locked", s.locked})
	}
	if q.at(73) {
		v = append(v, kv{"locked_reason", orNil(s.lockedReason)})
	}
	if q.at(19) {
		text := any(s.description)
		if s.noText {
			text = nil
		}
		v = append(v, kv{"description", text})
	}
	if q.at(26) {
		v = append(v, kv{"tags", append([]string{}, s.tags...)})
	}
	if q.at(63) {
		v = append(v, kv{"trusted_image_certificates", nil})
	}
	if q.at(90) && !q.admin {
		v = append(v, kv{"OS-EXT-SRV-ATTR:hostname", s.hostname})
	}
	if names := c.serverGroupNames(s); kind == viewDetail && len(names) > 0 {
		v = append(v, kv{"security_groups", names})
	}
	if q.at(71) && kind != viewDetail {
		groups := []string{}
		if s.group != "" {
			groups = append(groups, s.group)
		}
		v = append(v, kv{"server_groups", groups})
	}
	return v
}

func (s *server) adminView(q *request, v object) object {
	name := any(nil)
	if s.host != nil {
		name = s.host.name
	}
	v = append(v, kv{"OS-EXT-SRV-ATTR:host", name}, kv{"OS-EXT-SRV-ATTR:instance_name", instanceName(s.number)}, kv{"OS-EXT-SRV-ATTR:hypervisor_hostname", name})
	if !q.at(3) {
		return v
	}
	return append(v, kv{"OS-EXT-SRV-ATTR:reservation_id", s.reservation}, kv{"OS-EXT-SRV-ATTR:launch_index", s.index}, kv{"OS-EXT-SRV-ATTR:hostname", s.hostname},
		kv{"OS-EXT-SRV-ATTR:kernel_id", ""}, kv{"OS-EXT-SRV-ATTR:ramdisk_id", ""}, kv{"OS-EXT-SRV-ATTR:root_device_name", orNil(s.rootDevice)}, kv{"OS-EXT-SRV-ATTR:user_data", orNil(s.userData)})
}

func instanceName(n int) string {
	const digits = "0123456789abcdef"
	out := []byte("instance-00000000")
	for i := len(out) - 1; n > 0; i, n = i-1, n/16 {
		out[i] = digits[n%16]
	}
	return string(out)
}

func (f *serverFault) view(q *request) object {
	v := object{{"code", f.code}, {"created", stamp(f.at, zulu)}, {"message", f.message}}
	if q.admin && f.details != "" {
		v = append(v, kv{"details", f.details})
	}
	return v
}

func orEmptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (s *server) diskConfig() string {
	if s.diskAuto {
		return "AUTO"
	}
	return "MANUAL"
}

// shownZone is the host's zone, or the one asked for before there is a host.
func (s *server) shownZone() string {
	if s.host != nil {
		return s.host.zone
	}
	return s.zone
}

func (q *request) imageRef(s *server) any {
	if s.bfv || s.imageID == "" {
		return ""
	}
	return object{{"id", s.imageID}, {"links", q.bookmark("images", s.imageID)}}
}

func (q *request) flavorRef(f *flavor) any {
	if !q.at(47) {
		return object{{"id", f.ID}, {"links", q.bookmark("flavors", f.ID)}}
	}
	return object{{"vcpus", f.vcpus}, {"ram", f.ram}, {"disk", f.disk}, {"ephemeral", f.ephemeral}, {"swap", f.swap}, {"original_name", f.name}, {"extra_specs", orEmptyMap(f.specs)}}
}

func (s *server) volumesView(q *request) []object {
	out := []object{}
	for _, a := range s.attached {
		v := object{{"id", a.volume.ID}}
		if q.at(3) {
			v = append(v, kv{"delete_on_termination", a.deleteToo})
		}
		out = append(out, v)
	}
	return out
}

// addresses groups the server's addresses by network name; full ones carry the MAC and the type.
func (c *Cloud) addresses(s *server, full bool) any {
	ports := c.network.byDevice[s.ID]
	if len(ports) == 0 || s.vm == "building" && s.task != "" {
		return object{}
	}
	var v object
	add := func(name string, one object) {
		for i := range v {
			if v[i].K == name {
				v[i].V = append(v[i].V.([]object), one)
				return
			}
		}
		v = append(v, kv{name, []object{one}})
	}
	for _, p := range ports {
		for _, ip := range p.ips {
			add(p.network.name, addressView(ip.addr.String(), ip.subnet.version(), "fixed", p.mac, full))
			for _, f := range p.fips {
				if f.fixed == ip.addr {
					add(p.network.name, addressView(f.addr.String(), 4, "floating", p.mac, full))
				}
			}
		}
	}
	return v
}

func addressView(addr string, version int, kind, mac string, full bool) object {
	o := object{{"version", version}, {"addr", addr}}
	if full {
		o = append(o, kv{"OS-EXT-IPS:type", kind}, kv{"OS-EXT-IPS-MAC:mac_addr", mac})
	}
	return o
}

// serverGroupNames lists the names of the security groups of the server's ports.
func (c *Cloud) serverGroupNames(s *server) []object {
	var out []object
	var seen []string
	for _, p := range c.network.byDevice[s.ID] {
		for _, id := range p.groups {
			if slices.Contains(seen, id) {
				continue
			}
			seen = append(seen, id)
			if g, found := c.network.groups.get(id); found {
				out = append(out, object{{"name", g.name}})
			}
		}
	}
	return out
}
