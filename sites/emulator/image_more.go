package emulator

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c *Cloud) downloadImage(q *request) (*reply, error) {
	i, err := c.imageAt(q)
	if err != nil {
		return nil, err
	}
	if i.status == "deactivated" && !q.admin {
		return nil, fail(403, "The requested image has been deactivated. Image data download is forbidden.")
	}
	if i.data == nil {
		return noContent()
	}
	rep := &reply{status: http.StatusOK, raw: i.data, ctype: "application/octet-stream"}
	rep.set("Content-Md5", i.checksum)
	if first, last, given := byteRange(q.http.Header.Get("Range"), len(i.data)); given {
		if first > last {
			return nil, fail(http.StatusRequestedRangeNotSatisfiable, "The byte range passed in the 'Range' header did not match the image size.")
		}
		rep.status, rep.raw = http.StatusPartialContent, i.data[first:last+1]
		rep.header.Del("Content-Md5")
		rep.set("Content-Range", "bytes "+strconv.Itoa(first)+"-"+strconv.Itoa(last)+"/"+strconv.Itoa(len(i.data)))
	}
	return rep, nil
}

// byteRange reads "bytes=a-b"; an unsatisfiable one comes back with first > last.
func byteRange(h string, size int) (first, last int, given bool) {
	text, found := strings.CutPrefix(h, "bytes=")
	a, b, isRange := strings.Cut(text, "-")
	if !found || !isRange {
		return 0, 0, false
	}
	last = size - 1
	if a == "" {
		n, err := strconv.Atoi(b)
		return max(0, size-n), last, err == nil
	}
	first, err := strconv.Atoi(a)
	if err != nil {
		return 0, 0, false
	}
	if n, err := strconv.Atoi(b); err == nil {
		last = min(last, n)
	}
	return first, last, true
}

// importImage handles POST /v2/images/{id}/import.
func (c *Cloud) importImage(q *request) (*reply, error) {
	i, err := c.ownImage(q, "upload_image")
	if err != nil {
		return nil, err
	}
	method := q.body.sub("method").str("name")
	if !slices.Contains(c.cfg.ImportMethods, method) || method == "web-download" {
		return nil, fail(400, "Unknown import method name '"+method+"'.")
	}
	if method == "copy-image" {
		return nil, fail(409, "Only images with status active can be targeted for copying")
	}
	if i.status != "uploading" || i.staged == nil {
		return nil, fail(409, "Image is not in 'uploading' state: "+i.status)
	}
	i.status = "importing"
	if i.props == nil {
		i.props = map[string]string{}
	}
	i.props["os_glance_importing_to_stores"], i.props["os_glance_failed_import"] = "", ""
	c.after(c.cfg.Durations.Image, func() {
		if _, there := c.image.images.get(i.ID); there && i.status == "importing" {
			data := i.staged
			i.staged = nil
			c.setImageData(i, data)
		}
	})
	return &reply{status: http.StatusAccepted}, nil
}

func (c *Cloud) imageAction(from, to string) handler {
	return func(q *request) (*reply, error) {
		i, err := c.imageAt(q)
		if err != nil {
			return nil, err
		}
		if !q.admin {
			return nil, fail(403, "You are not authorized to complete deactivate action.")
		}
		if i.status != from && i.status != to {
			return nil, fail(403, "Not allowed to change an image in status '"+i.status+"'")
		}
		i.status, i.updated = to, c.now()
		return noContent()
	}
}

func (c *Cloud) tagImage(q *request) (*reply, error) {
	i, err := c.ownImage(q, "modify_image")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(i.tags, q.path("tag")) {
		i.tags = append(i.tags, q.path("tag"))
		i.updated = c.now()
	}
	return noContent()
}

func (c *Cloud) untagImage(q *request) (*reply, error) {
	i, err := c.ownImage(q, "modify_image")
	if err != nil {
		return nil, err
	}
	at := slices.Index(i.tags, q.path("tag"))
	if at < 0 {
		return nil, fail(404, "The resource could not be found.")
	}
	i.tags = slices.Delete(slices.Clone(i.tags), at, at+1)
	i.updated = c.now()
	return noContent()
}

func (i *image) memberView(m *member) object {
	return object{{"member_id", m.project}, {"image_id", i.ID}, {"status", m.status}, {"created_at", stamp(m.created, zulu)}, {"updated_at", stamp(m.updated, zulu)}, {"schema", "/v2/schemas/member"}}
}

func (c *Cloud) listMembers(q *request) (*reply, error) {
	i, err := c.imageAt(q)
	if err != nil {
		return nil, err
	}
	if i.visibility != "shared" {
		return nil, fail(403, "Not allowed to list members for image "+i.ID+": Only shared images have members.")
	}
	out := []object{}
	for _, m := range i.members {
		if q.admin || i.Project == q.project || m.project == q.project {
			out = append(out, i.memberView(m))
		}
	}
	return ok(object{{"members", out}, {"schema", "/v2/schemas/members"}})
}

func (c *Cloud) addMember(q *request) (*reply, error) {
	i, err := c.ownImage(q, "add_member")
	if err != nil {
		return nil, err
	}
	if i.visibility != "shared" {
		return nil, fail(403, "Only shared images have members.")
	}
	id := q.body.str("member")
	if id == "" {
		return nil, fail(400, "Member to be added not specified")
	}
	if slices.ContainsFunc(i.members, func(m *member) bool { return m.project == id }) {
		return nil, fail(409, "Member "+id+" is duplicated for image "+i.ID)
	}
	m := &member{project: id, status: "pending", created: c.now(), updated: c.now()}
	i.members = append(i.members, m)
	return ok(i.memberView(m))
}

func (c *Cloud) memberAt(q *request) (*image, *member, error) {
	i, err := c.imageAt(q)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range i.members {
		if m.project == q.path("member") && (q.admin || i.Project == q.project || m.project == q.project) {
			return i, m, nil
		}
	}
	return nil, nil, fail(404, q.path("member")+" not found in the member list of the image "+i.ID+".")
}

func (c *Cloud) showMember(q *request) (*reply, error) {
	i, m, err := c.memberAt(q)
	if err != nil {
		return nil, err
	}
	return ok(i.memberView(m))
}

func (c *Cloud) updateMember(q *request) (*reply, error) {
	i, m, err := c.memberAt(q)
	if err != nil {
		return nil, err
	}
	if !q.admin && m.project != q.project {
		return nil, fail(403, "You are not permitted to modify 'status' on this image member.")
	}
	s := q.body.str("status")
	if !slices.Contains([]string{"pending", "accepted", "rejected"}, s) {
		return nil, fail(400, "Status not specified")
	}
	m.status, m.updated = s, c.now()
	return ok(i.memberView(m))
}

func (c *Cloud) removeMember(q *request) (*reply, error) {
	i, m, err := c.memberAt(q)
	if err != nil {
		return nil, err
	}
	if !q.admin && i.Project != q.project {
		return nil, fail(403, "You are not authorized to complete delete_member action.")
	}
	i.members = slices.DeleteFunc(i.members, func(o *member) bool { return o == m })
	return noContent()
}

func imageField(i *image, k string) (any, bool) {
	switch k {
	case "name":
		return i.name, true
	case "status":
		return i.status, true
	case "container_format":
		return i.container, true
	case "disk_format":
		return i.disk, true
	case "size":
		return int(i.size), true
	case "id":
		return i.ID, true
	case "created_at":
		return i.created.Format(micros), true
	case "updated_at":
		return i.updated.Format(micros), true
	}
	return nil, false
}

func (c *Cloud) imageMatches(q *request, i *image) bool {
	if q.query.Get("os_hidden") == "" && i.hidden {
		return false
	}
	for k, list := range q.query {
		v := list[0]
		switch k {
		case "limit", "marker", "sort", "sort_key", "sort_dir", "member_status":
		case "visibility":
			if v != "all" && i.visibility != v {
				return false
			}
		case "owner":
			if i.Project != v {
				return false
			}
		case "protected", "os_hidden":
			b, _ := toBool(v)
			if b != (k == "protected" && i.protected || k == "os_hidden" && i.hidden) {
				return false
			}
		case "tag":
			for _, t := range list {
				if !slices.Contains(i.tags, t) {
					return false
				}
			}
		case "size_min", "size_max":
			n, _ := strconv.ParseInt(v, 10, 64)
			if k == "size_min" && i.size < n || k == "size_max" && i.size > n {
				return false
			}
		case "created_at", "updated_at":
			t := i.created
			if k == "updated_at" {
				t = i.updated
			}
			if !timeOp(t.Truncate(time.Second), v) {
				return false
			}
		default:
			have, isBase := imageField(i, k)
			if !isBase {
				have = i.props[k]
			}
			if !inList(toText(have), v) {
				return false
			}
		}
	}
	return true
}

// inList understands Glance's "in:a,b".
func inList(have, want string) bool {
	if list, found := strings.CutPrefix(want, "in:"); found {
		return slices.Contains(strings.Split(list, ","), have)
	}
	return have == want
}

// timeOp understands "gte:2020-01-01T00:00:00Z" and a bare time, which means equal.
func timeOp(have time.Time, want string) bool {
	op, text, found := strings.Cut(want, ":")
	if !found || op == "" || op[0] >= '0' && op[0] <= '9' {
		op, text = "eq", want
	}
	t, isTime := parseTime(text)
	if !isTime {
		return false
	}
	n := have.Compare(t)
	switch op {
	case "gt":
		return n > 0
	case "gte":
		return n >= 0
	case "lt":
		return n < 0
	case "lte":
		return n <= 0
	case "neq":
		return n != 0
	}
	return n == 0
}

// listImages handles GET /v2/images.
func (c *Cloud) listImages(q *request) (*reply, error) {
	keys, err := imageSort(q)
	if err != nil {
		return nil, err
	}
	var rows []*image
	for i := range newestFirst(c.image.images.all) {
		seen := c.imageSeen(i, q.project, q.admin)
		if i.visibility == "community" && i.Project != q.project && q.query.Get("visibility") != "community" && q.query.Get("visibility") != "all" {
			seen = false
		}
		if i.visibility == "shared" && i.Project != q.project && !q.admin && !memberAccepts(i, q) {
			seen = false
		}
		if seen && c.imageMatches(q, i) {
			rows = append(rows, i)
		}
	}
	slices.SortStableFunc(rows, func(a, b *image) int { return compareImages(a, b, keys) })
	if m := q.query.Get("marker"); m != "" {
		at := slices.IndexFunc(rows, func(i *image) bool { return i.ID == m })
		if at < 0 {
			return nil, fail(400, "Invalid marker: "+m)
		}
		rows = rows[at+1:]
	}
	limit, err := imageLimit(q)
	if err != nil {
		return nil, err
	}
	more := len(rows) > limit || len(rows) == limit && q.query.Get("limit") != ""
	rows = rows[:min(limit, len(rows))]
	return ok(imagePage(c, q, rows, more))
}

func imagePage(c *Cloud, q *request, rows []*image, more bool) object {
	out := make([]object, len(rows))
	for i, r := range rows {
		out[i] = c.imageView(r)
	}
	v := url.Values{}
	for k, list := range q.query {
		if k != "marker" {
			v[k] = list
		}
	}
	first := "/v2/images"
	if len(v) > 0 {
		first += "?" + v.Encode()
	}
	body := object{{"images", out}, {"first", first}, {"schema", "/v2/schemas/images"}}
	if more && len(rows) > 0 {
		v.Set("marker", rows[len(rows)-1].ID)
		body = append(body, kv{"next", "/v2/images?" + v.Encode()})
	}
	return body
}

func memberAccepts(i *image, q *request) bool {
	want := q.query.Get("member_status")
	if want == "" {
		want = "accepted"
	}
	return i.visibility != "shared" || slices.ContainsFunc(i.members, func(m *member) bool { return m.project == q.project && (want == "all" || m.status == want) })
}

func imageLimit(q *request) (int, error) {
	text := q.query.Get("limit")
	if text == "" {
		return 25, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fail(400, "limit param must be an integer")
	}
	if n < 0 {
		return 0, fail(400, "limit param must be positive")
	}
	return min(n, 1000), nil
}

type sortKey struct {
	name string
	desc bool
}

func imageSort(q *request) ([]sortKey, error) {
	var keys []sortKey
	if s := q.query.Get("sort"); s != "" {
		for _, one := range strings.Split(s, ",") {
			name, dir, _ := strings.Cut(one, ":")
			keys = append(keys, sortKey{name, dir != "asc"})
		}
	}
	for n, name := range q.query["sort_key"] {
		dir := ""
		if n < len(q.query["sort_dir"]) {
			dir = q.query["sort_dir"][n]
		}
		keys = append(keys, sortKey{name, dir != "asc"})
	}
	for _, k := range keys {
		if _, known := imageField(&image{}, k.name); !known {
			return nil, fail(400, "Invalid sort key: "+k.name+". It must be one of the following: name, status, container_format, disk_format, size, id, created_at, updated_at.")
		}
	}
	return keys, nil
}

func compareImages(a, b *image, keys []sortKey) int {
	for _, k := range keys {
		x, _ := imageField(a, k.name)
		y, _ := imageField(b, k.name)
		n := cmpStrings(toText(x), toText(y))
		if xi, isInt := x.(int); isInt {
			n = xi - y.(int)
		}
		if k.desc {
			n = -n
		}
		if n != 0 {
			return n
		}
	}
	return 0
}

// showSchema handles GET /v2/schemas/{name}; clients read only which properties are the base ones.
func showSchema(q *request) (*reply, error) {
	item := func(name string, props ...string) object {
		var list object
		for _, p := range props {
			list = append(list, kv{p, object{{"type", []string{"null", "string"}}, {"description", p}}})
		}
		return object{{"name", name}, {"properties", list}, {"additionalProperties", object{{"type", "string"}}},
			{"links", []object{{{"rel", "self"}, {"href", "{self}"}}, {{"rel", "enclosure"}, {"href", "{file}"}}, {{"rel", "describedby"}, {"href", "{schema}"}}}}}
	}
	one := item("image", "id", "name", "status", "visibility", "protected", "os_hidden", "checksum", "os_hash_algo", "os_hash_value", "owner", "size", "virtual_size", "container_format",
		"disk_format", "created_at", "updated_at", "tags", "direct_url", "min_ram", "min_disk", "self", "file", "schema", "locations", "architecture", "instance_uuid", "kernel_id", "ramdisk_id", "os_distro", "os_version")
	mem := item("member", "member_id", "image_id", "created_at", "updated_at", "status", "schema")
	switch q.path("name") {
	case "image":
		return ok(one)
	case "member":
		return ok(mem)
	case "images", "members":
		items, inner := "images", one
		if q.path("name") == "members" {
			items, inner = "members", mem
		}
		return ok(object{{"name", items}, {"properties", object{{items, object{{"items", inner}, {"type", "array"}}}, {"first", object{{"type", "string"}}}, {"next", object{{"type", "string"}}}, {"schema", object{{"type", "string"}}}}},
			{"links", []object{{{"rel", "first"}, {"href", "{first}"}}, {{"rel", "next"}, {"href", "{next}"}}, {{"rel", "describedby"}, {"href", "{schema}"}}}}})
	}
	return nil, fail(404, "The resource could not be found.")
}
