package emulator

import (
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// serverFilters are the query parameters that Nova 2.75 and later knows; others are 400 there and ignored before.
var serverFilters = []string{"user_id", "project_id", "tenant_id", "launch_index", "image_ref", "image", "kernel_id", "ramdisk_id", "hostname", "key_name", "instance_type_id", "flavor",
	"availability_zone", "host", "node", "launched_at", "terminated_at", "power_state", "reservation_id", "display_name", "name", "status", "vm_state", "task_state", "access_ip_v4",
	"access_ip_v6", "ip", "ip6", "uuid", "locked", "progress", "deleted", "soft_deleted", "config_drive", "auto_disk_config", "changes-since", "changes-before", "all_tenants", "limit",
	"marker", "sort_key", "sort_dir", "tags", "tags-any", "not-tags", "not-tags-any", "created_at", "updated_at", "root_device_name", "display_description", "description", "block_device_mapping", "services", "metadata", "system_metadata", "cleaned", "root_device_name", "not-tags-any"}

var serverSorts = []string{"host", "access_ip_v4", "config_drive", "ramdisk_id", "terminated_at", "progress", "auto_disk_config", "display_description", "availability_zone", "locked_by",
	"root_device_name", "updated_at", "user_id", "node", "task_state", "uuid", "image_ref", "launch_index", "display_name", "instance_type_id", "key_name", "launched_at", "kernel_id", "project_id",
	"access_ip_v6", "hostname", "created_at", "power_state", "locked", "vm_state"}

type serverQuery struct {
	project       string // "" is all
	since, before time.Time
	deleted       bool // only deleted ones
	withDeleted   bool
	tests         []func(*server) bool
	limit         int
	limited       bool
	marker        string
	keys          []sortKey
}

func badQuery(name, value, why string) error {
	return fail(400, "Invalid input for query parameters "+name+". Value: "+value+". '"+value+"' "+why)
}

// novaMaxLimit is the most rows of one page, Nova's [api]max_limit.
const novaMaxLimit = 1000

// parseServerQuery reads and checks the query of a listing.
func (c *Cloud) parseServerQuery(q *request) (*serverQuery, error) {
	if q.at(75) {
		for _, k := range slices.Sorted(keysOf(q.query)) {
			if !slices.Contains(serverFilters, k) && !strings.HasPrefix(k, "_") {
				return nil, fail(400, "'"+k+"' does not match any of the regexes: '^_'")
			}
		}
	}
	sq := &serverQuery{project: q.project, limit: novaMaxLimit, marker: q.query.Get("marker")}
	if text := q.query.Get("limit"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, badQuery("limit", text, "does not match '^[0-9]*$'")
		}
		sq.limit, sq.limited = min(int(n), novaMaxLimit), true
		if n == 0 {
			sq.limit, sq.limited = novaMaxLimit, false
		}
	}
	for name, at := range map[string]*time.Time{"changes-since": &sq.since, "changes-before": &sq.before} {
		if text := q.query.Get(name); text != "" && (name == "changes-since" || q.at(66)) {
			t, isTime := parseTime(text)
			if !isTime {
				return nil, badQuery(name, text, "is not a 'date-time'")
			}
			*at = t
			sq.withDeleted = true
		}
	}
	if err := sq.scope(q); err != nil {
		return nil, err
	}
	for i, key := range q.query["sort_key"] {
		if !slices.Contains(serverSorts, key) {
			return nil, badQuery("sort_key", key, "is not one of ['"+strings.Join(serverSorts, "', '")+"']")
		}
		dir := "desc"
		if i < len(q.query["sort_dir"]) {
			dir = q.query["sort_dir"][i]
		}
		if dir != "asc" && dir != "desc" {
			return nil, badQuery("sort_dir", dir, "is not one of ['asc', 'desc']")
		}
		sq.keys = append(sq.keys, sortKey{key, dir == "desc"})
	}
	sq.filters(c, q)
	return sq, nil
}

func (sq *serverQuery) scope(q *request) error {
	all := false
	if list, given := q.query["all_tenants"]; given {
		v, isBool := toBool(list[0])
		if list[0] == "" {
			v, isBool = true, true
		}
		if !isBool {
			return fail(400, "Invalid value '"+list[0]+"'")
		}
		all = v
	}
	if all && !q.admin {
		return policyError("servers:index:get_all_tenants")
	}
	if d, isBool := toBool(q.query.Get("deleted")); isBool && q.admin {
		sq.deleted, sq.withDeleted = d, d || sq.withDeleted
	} else if isBool && d && sq.since.IsZero() {
		sq.deleted = false // a member's filter is ignored
	}
	if all {
		sq.project = ""
		if p := q.query.Get("project_id"); p != "" {
			sq.project = p
		} else if p := q.query.Get("tenant_id"); p != "" {
			sq.project = p
		}
	}
	return nil
}

func keysOf(v url.Values) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range v {
			if !yield(k) {
				return
			}
		}
	}
}

func (sq *serverQuery) test(f func(*server) bool) { sq.tests = append(sq.tests, f) }

func pattern(text string) *regexp.Regexp {
	re, err := regexp.Compile(text)
	if err != nil {
		re = regexp.MustCompile(regexp.QuoteMeta(text))
	}
	return re
}

// filters turns the query into tests. Admins' filters of a member are ignored, as Nova does.
func (sq *serverQuery) filters(c *Cloud, q *request) {
	for _, key := range slices.Sorted(keysOf(q.query)) {
		list, v := q.query[key], q.query.Get(key)
		switch key {
		case "name", "display_name":
			re := pattern(v)
			sq.test(func(s *server) bool { return re.MatchString(s.name) })
		case "status":
			sq.test(func(s *server) bool {
				return slices.ContainsFunc(list, func(w string) bool { return strings.EqualFold(w, s.status()) })
			})
		case "vm_state":
			sq.test(func(s *server) bool { return slices.Contains(list, s.vm) })
		case "task_state":
			sq.test(func(s *server) bool { return s.task == v })
		case "image", "image_ref":
			sq.test(func(s *server) bool { return s.imageID == v && !s.bfv })
		case "flavor", "instance_type_id":
			sq.test(func(s *server) bool { return s.flavor.ID == v })
		case "reservation_id":
			sq.test(func(s *server) bool { return s.reservation == v })
		case "uuid":
			sq.test(func(s *server) bool { return slices.Contains(list, s.ID) })
		case "ip", "ip6":
			re := pattern(v)
			sq.test(func(s *server) bool {
				return slices.ContainsFunc(c.network.byDevice[s.ID], func(p *port) bool {
					return slices.ContainsFunc(p.ips, func(ip fixedIP) bool { return ip.addr.Is4() == (key == "ip") && re.MatchString(ip.addr.String()) })
				})
			})
		case "tags", "tags-any", "not-tags", "not-tags-any":
			if q.at(26) {
				only := url.Values{key: list}
				sq.test(func(s *server) bool { return tagsMatch(only, s.tags) })
			}
		case "locked":
			if b, isBool := toBool(v); isBool && q.at(73) {
				sq.test(func(s *server) bool { return s.locked == b })
			}
		case "user_id", "key_name", "availability_zone", "hostname", "host", "node", "power_state", "description", "display_description":
			if q.admin || q.at(83) && slices.Contains([]string{"user_id", "key_name", "availability_zone", "power_state"}, key) {
				sq.test(func(s *server) bool { return adminField(s, key) == v })
			}
		}
	}
}

func adminField(s *server, key string) string {
	hostName := ""
	if s.host != nil {
		hostName = s.host.name
	}
	switch key {
	case "user_id":
		return s.user
	case "key_name":
		return s.key
	case "availability_zone":
		return s.shownZone()
	case "hostname":
		return s.hostname
	case "host", "node":
		return hostName
	case "power_state":
		return strconv.Itoa(int(s.power))
	}
	return s.description
}

func (sq *serverQuery) match(s *server) bool {
	if !sq.since.IsZero() && s.updated.Before(sq.since) || !sq.before.IsZero() && s.updated.After(sq.before) {
		return false
	}
	if sq.deleted && !s.deleted {
		return false
	}
	for _, t := range sq.tests {
		if !t(s) {
			return false
		}
	}
	return true
}

// rows returns one page. The order of creation, newest first, needs no sorting and no look at what lies after the page.
func (c *Cloud) serverRows(sq *serverQuery) ([]*server, error) {
	live := c.compute.servers.of(sq.project)
	plain := len(sq.keys) == 0 && !sq.withDeleted
	if plain {
		if sq.marker != "" {
			m, found := c.compute.servers.get(sq.marker)
			if !found || sq.project != "" && m.Project != sq.project {
				return nil, fail(400, "marker ["+sq.marker+"] not found")
			}
			live = live[:sort.Search(len(live), func(i int) bool { return live[i].seq >= m.seq })]
		}
		out := make([]*server, 0, min(sq.limit, len(live)))
		for s := range newestFirst(live) {
			if len(out) == sq.limit {
				break
			}
			if sq.match(s) {
				out = append(out, s)
			}
		}
		return out, nil
	}
	return c.sortedServers(sq, live)
}

func (c *Cloud) sortedServers(sq *serverQuery, live []*server) ([]*server, error) {
	var out []*server
	for _, s := range live {
		if sq.match(s) {
			out = append(out, s)
		}
	}
	if sq.withDeleted {
		for _, s := range c.compute.gone {
			if (sq.project == "" || s.Project == sq.project) && sq.match(s) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b *server) int {
		for _, k := range sq.keys {
			n := cmpStrings(sortField(a, k.name), sortField(b, k.name))
			if k.desc {
				n = -n
			}
			if n != 0 {
				return n
			}
		}
		return int(b.seq - a.seq)
	})
	if sq.marker != "" {
		i := slices.IndexFunc(out, func(s *server) bool { return s.ID == sq.marker })
		if i < 0 {
			return nil, fail(400, "marker ["+sq.marker+"] not found")
		}
		out = out[i+1:]
	}
	return out[:min(sq.limit, len(out))], nil
}

func sortField(s *server, key string) string {
	switch key {
	case "uuid":
		return s.ID
	case "display_name":
		return s.name
	case "created_at":
		return s.created.Format(micros)
	case "updated_at":
		return s.updated.Format(micros)
	case "launched_at":
		return s.launched.Format(micros)
	case "terminated_at":
		return s.terminated.Format(micros)
	case "vm_state":
		return s.vm
	case "task_state":
		return s.task
	case "image_ref":
		return s.imageID
	case "instance_type_id":
		return s.flavor.ID
	case "project_id":
		return s.Project
	case "locked":
		return strconv.FormatBool(s.locked)
	case "launch_index":
		return strconv.Itoa(s.index)
	case "user_id", "key_name", "availability_zone", "hostname", "host", "node", "power_state", "display_description":
		return adminField(s, key)
	}
	return ""
}

// listServers handles GET /servers and /servers/detail.
func (c *Cloud) listServers(detail bool) handler {
	return func(q *request) (*reply, error) {
		sq, err := c.parseServerQuery(q)
		if err != nil {
			return nil, err
		}
		rows, err := c.serverRows(sq)
		if err != nil {
			return nil, err
		}
		out := make([]object, len(rows))
		for i, s := range rows {
			if detail {
				out[i] = c.serverView(q, s, viewDetail)
			} else {
				out[i] = object{{"id", s.ID}, {"name", s.name}, {"links", q.bothLinks("servers", s.ID)}}
			}
		}
		body := object{{"servers", out}}
		if len(rows) == sq.limit && len(rows) > 0 {
			v := url.Values{}
			for k, list := range q.query {
				v[k] = list
			}
			v.Set("marker", rows[len(rows)-1].ID)
			path := "/v2.1/servers"
			if detail {
				path += "/detail"
			}
			body = append(body, kv{"servers_links", []object{{{"rel", "next"}, {"href", q.url(path + "?" + v.Encode())}}}})
		}
		return ok(body)
	}
}

func (c *Cloud) showServer(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"server", c.serverView(q, s, viewShow)}})
}
