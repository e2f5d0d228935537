package compute

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

func listServers(k *call) error   { return k.listServers(false) }
func detailServers(k *call) error { return k.listServers(true) }

func (k *call) listServers(detail bool) error {
	p, err := k.page()
	if err != nil {
		return err
	}
	q, err := k.serverQuery()
	if err != nil {
		return err
	}
	q.Limit, q.Marker = p.Limit, p.Marker
	var list []*engine.Server
	if p.Limit > 0 && (q.Statuses == nil || len(q.Statuses) > 0) {
		if list, err = k.h.service.Servers(k.ctx(), k.caller, q); err != nil {
			return err
		}
	}
	s := &seen{}
	if detail {
		if s, err = k.look(list); err != nil {
			return err
		}
	} else if s.ages, err = k.h.service.Freshness(k.ctx()); err != nil {
		return err
	}
	views := make([]object, len(list))
	for i, one := range list {
		switch {
		case detail:
			views[i] = k.server(one, s)
		case k.v.AtLeast(69) && s.ages[one.Site].Unknown && one.State == index.Live:
			views[i] = k.stub(one, false, false)
		default:
			views[i] = k.basic(one)
		}
	}
	body := object{"servers": views}
	if len(list) > 0 {
		path := "servers"
		if detail {
			path = "servers/detail"
		}
		k.next(body, "servers", path, p, len(list), string(list[len(list)-1].ID))
	}
	k.fresh(s, list)
	return k.ok(body)
}

// filters are the query parameters of a list, with the first minor version that takes them from everybody; -1 is
// for administrators until 2.83 opens some.
var filters = map[string]int{
	"reservation_id": 1, "name": 1, "status": 1, "image": 1, "flavor": 1, "ip": 1, "changes-since": 1, "all_tenants": 1, "ip6": 5,
	"tags": 26, "tags-any": 26, "not-tags": 26, "not-tags-any": 26, "changes-before": 66, "locked": 73,
	"availability_zone": 83, "config_drive": 83, "key_name": 83, "created_at": 83, "launched_at": 83, "terminated_at": 83,
	"power_state": 83, "task_state": 83, "vm_state": 83, "progress": 83, "user_id": 83, "hostname": 90,
}

// adminFilters are those that only administrators use; others take them and ignore them.
var adminFilters = []string{
	"project_id", "tenant_id", "launch_index", "image_ref", "kernel_id", "ramdisk_id", "host", "node", "display_name", "description",
	"display_description", "locked_by", "uuid", "root_device_name", "access_ip_v4", "access_ip_v6", "auto_disk_config", "soft_deleted", "deleted",
}

var (
	pageParams   = []string{"limit", "marker", "sort_key", "sort_dir", "page_size"}
	joinedParams = []string{"block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups", "pci_devices"}
)

// serverQuery reads the filters of a list by the rules of the microversion.
func (k *call) serverQuery() (engine.ListQuery, error) {
	raw := k.QueryParams()
	q := engine.ListQuery{}
	use := url.Values{}
	for key, values := range raw {
		first, open := filters[key]
		switch {
		case slices.Contains(joinedParams, key) || strings.HasPrefix(key, "_"):
			return q, wire.BadRequest("Invalid filter field: %s.", key)
		case slices.Contains(pageParams, key):
		case open && (k.v.AtLeast(first) || k.caller.Admin()), slices.Contains(adminFilters, key) && k.caller.Admin():
			use[key] = values
		case !open && !slices.Contains(adminFilters, key) && k.v.AtLeast(75):
			return q, wire.BadRequest("Additional properties are not allowed ('%s' was unexpected)", key)
		}
	}
	for _, read := range []func(*engine.ListQuery, url.Values) error{k.scope, k.plainFilters, k.patterns, k.times} {
		if err := read(&q, use); err != nil {
			return q, err
		}
	}
	var err error
	q.Sort, err = k.sorting(raw)
	return q, err
}

func (k *call) scope(q *engine.ListQuery, use url.Values) error {
	if use.Has("all_tenants") {
		var all wire.Bool
		text := use.Get("all_tenants")
		if text == "" {
			all = true
		} else if err := all.UnmarshalJSON([]byte(text)); err != nil {
			return wire.BadRequest("all_tenants param must be a boolean: %s", text)
		}
		if all {
			if err := k.who.Require("get_all_projects", ""); err != nil {
				return err
			}
			q.AllProjects, q.Project = true, firstOf(use, "project_id", "tenant_id")
		}
	}
	if use.Has("deleted") {
		var yes wire.Bool
		_ = yes.UnmarshalJSON([]byte(use.Get("deleted"))) // Nova takes what is no boolean for false
		q.Deleted = bool(yes)
	}
	return nil
}

func firstOf(q url.Values, keys ...string) string {
	for _, key := range keys {
		if v := q.Get(key); v != "" {
			return v
		}
	}
	return ""
}

func (k *call) plainFilters(q *engine.ListQuery, use url.Values) error {
	if use.Has("status") {
		q.Statuses = []string{}
		for _, s := range use["status"] {
			if engine.ValidStatus(s) {
				q.Statuses = append(q.Statuses, strings.ToUpper(s))
			} else if k.v.AtLeast(38) {
				return wire.BadRequest("Invalid status value")
			}
		}
		if slices.Contains(q.Statuses, "DELETED") {
			if !k.caller.Admin() {
				return fault.New(fault.Forbidden, "top/compute", "Only administrators may list deleted instances")
			}
			q.Deleted, q.Statuses = true, nil
		}
	}
	q.IDs, q.TaskStates, q.VMStates = use["uuid"], use["task_state"], use["vm_state"]
	q.Image, q.Flavor = firstOf(use, "image", "image_ref"), use.Get("flavor")
	q.User, q.Zone, q.KeyName = use.Get("user_id"), use.Get("availability_zone"), use.Get("key_name")
	q.Reservation, q.Host = use.Get("reservation_id"), firstOf(use, "host", "node")
	for key, to := range map[string]**bool{"locked": &q.Locked, "config_drive": &q.ConfigDrive} {
		if !use.Has(key) {
			continue
		}
		var b wire.Bool
		if err := b.UnmarshalJSON([]byte(use.Get(key))); err != nil {
			return wire.BadRequest("Invalid %s value %s", key, use.Get(key))
		}
		*to = (*bool)(&b)
	}
	for key, to := range map[string]*[]string{"tags": &q.TagsAll, "tags-any": &q.TagsAny, "not-tags": &q.NotTagsAll, "not-tags-any": &q.NotTagsAny} {
		if v := use.Get(key); v != "" {
			*to = strings.Split(v, ",")
		}
	}
	return nil
}

func (k *call) patterns(q *engine.ListQuery, use url.Values) error {
	for _, f := range []struct {
		to   **regexp.Regexp
		text string
	}{
		{&q.Name, firstOf(use, "name", "display_name")}, {&q.Description, firstOf(use, "description", "display_description")},
		{&q.Hostname, use.Get("hostname")}, {&q.IP, use.Get("ip")}, {&q.IP6, use.Get("ip6")},
	} {
		if f.text == "" {
			continue
		}
		re, err := regexp.Compile(f.text)
		if err != nil || len(f.text) > 1000 {
			return wire.BadRequest("Invalid regular expression in the query: %s", f.text[:min(len(f.text), 100)])
		}
		*f.to = re
	}
	return nil
}

func (k *call) times(q *engine.ListQuery, use url.Values) error {
	for key, to := range map[string]*time.Time{"changes-since": &q.ChangedSince, "changes-before": &q.ChangedBefore} {
		if !use.Has(key) {
			continue
		}
		t, err := parseTime(use.Get(key))
		if err != nil {
			return wire.BadRequest("Invalid input for query parameters %s. Value: %s. '%s' is not a 'date-time'", key, use.Get(key), use.Get(key))
		}
		*to = t
	}
	if !q.ChangedBefore.IsZero() && q.ChangedBefore.Before(q.ChangedSince) {
		return wire.BadRequest("The value of changes-since must be less than or equal to changes-before.")
	}
	return nil
}

// parseTime reads an ISO 8601 time; one without a zone is UTC.
func parseTime(text string) (time.Time, error) {
	text = strings.Replace(text, " ", "+", 1) // "+" of a zone that was not escaped
	var err error
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00", "2006-01-02"} {
		var t time.Time
		if t, err = time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, err
}

// sortFields are Nova's sort keys that the index sorts by; the others are taken and mean the default order.
var sortFields = map[string]index.Field{
	"created_at": index.ByCreated, "updated_at": index.ByUpdated, "display_name": index.ByName, "uuid": index.ByID, "vm_state": index.ByStatus,
	"task_state": index.ByTaskState, "image_ref": index.ByImage, "instance_type_id": index.ByFlavor, "key_name": index.ByKeyName,
	"project_id": index.ByProject, "user_id": index.ByUser, "availability_zone": index.ByZone, "host": index.BySite, "node": index.BySite,
}

var otherSortKeys = []string{
	"access_ip_v4", "access_ip_v6", "auto_disk_config", "config_drive", "display_description", "hostname", "kernel_id", "launch_index", "launched_at",
	"locked_by", "power_state", "progress", "ramdisk_id", "root_device_name", "terminated_at", "locked",
}

// ignoredSortKeys were valid once; Nova ignores them before 2.75.
var ignoredSortKeys = []string{
	"architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted", "deleted_at", "disable_terminate",
	"ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on", "memory_mb", "os_type", "reservation_id", "root_gb",
	"shutdown_terminate", "user_data", "vcpus", "vm_mode",
}

func (k *call) sorting(q url.Values) ([]index.Sort, error) {
	var out []index.Sort
	dirs := q["sort_dir"]
	for i, key := range q["sort_key"] {
		desc := true
		if len(dirs) > 0 {
			d := dirs[min(i, len(dirs)-1)]
			if d != "asc" && d != "desc" {
				return nil, wire.BadRequest("Invalid sort_dir %s: use asc or desc", d)
			}
			desc = d == "desc"
		}
		field, ok := sortFields[key]
		switch {
		case (key == "host" || key == "node") && !k.caller.Admin():
			return nil, fault.New(fault.Forbidden, "top/compute", "Only administrators can sort servers by %s", key)
		case ok:
			out = append(out, index.Sort{Field: field, Desc: desc})
		case slices.Contains(otherSortKeys, key), slices.Contains(ignoredSortKeys, key) && !k.v.AtLeast(75):
		default:
			return nil, wire.BadRequest("Invalid input for query parameters sort_key. Value: %s.", key)
		}
	}
	if len(out) == 0 {
		desc := len(dirs) == 0 || dirs[0] != "asc"
		out = []index.Sort{{Field: index.ByCreated, Desc: desc}}
	}
	return out, nil
}

func showServer(k *call) error {
	one, err := k.h.service.Server(k.ctx(), k.caller, k.Param("id"))
	if err != nil {
		return err
	}
	s, err := k.look([]*engine.Server{one})
	if err != nil {
		return err
	}
	s.single = true
	k.fresh(s, []*engine.Server{one})
	return k.ok(object{"server": k.server(one, s)})
}

func deleteServer(k *call) error {
	if err := k.h.service.Delete(k.ctx(), k.caller, k.Param("id")); err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

func updateServer(k *call) error {
	m, err := k.object("server")
	if err != nil {
		return err
	}
	u, err := k.readUpdate(m)
	if err != nil {
		return err
	}
	one, err := k.h.service.UpdateServer(k.ctx(), k.caller, k.Param("id"), u)
	if err != nil {
		return err
	}
	s, err := k.look([]*engine.Server{one})
	if err != nil {
		return err
	}
	s.single, s.brief = true, !k.v.AtLeast(75)
	return k.ok(object{"server": k.server(one, s)})
}

func (k *call) readUpdate(m wire.Members) (engine.Update, error) {
	var u engine.Update
	var description wire.Optional[string]
	fields := []wire.Field{{Key: "name", Into: &u.Name}, {Key: "OS-DCF:diskConfig", Into: &u.DiskConfig}, {Key: "accessIPv4", Into: &u.AccessIPv4}, {Key: "accessIPv6", Into: &u.AccessIPv6}}
	if k.v.AtLeast(19) {
		fields = append(fields, wire.Field{Key: "description", Into: &description})
	}
	if k.v.AtLeast(90) {
		fields = append(fields, wire.Field{Key: "hostname", Into: &u.Hostname})
	}
	if err := m.TakeAll(fields...); err != nil {
		return u, err
	}
	if description.Set {
		u.Description = &description.Value
	}
	if err := closed(m); err != nil {
		return u, err
	}
	return u, checkAll(
		checkName("name", u.Name), checkHostname(u.Hostname), checkDiskConfig(u.DiskConfig), checkIP("accessIPv4", u.AccessIPv4, 4),
		checkIP("accessIPv6", u.AccessIPv6, 6), checkDescription(description.Value),
	)
}
