package emulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stored is what the lists of Cinder's resources need to know of a row.
type stored interface {
	storable
	field(name string) (string, bool)
	times() (created, updated time.Time)
	metadata() map[string]string
}

func (v *volume) field(name string) (string, bool) {
	switch name {
	case "name":
		return v.name, true
	case "status":
		return v.status, true
	case "size":
		return strconv.Itoa(v.size), true
	case "bootable":
		return strconv.FormatBool(v.bootable), true
	case "availability_zone":
		return "nova", true
	case "id":
		return v.ID, true
	case "migration_status", "group_id":
		return "", true
	case "consumes_quota":
		return "true", true
	}
	return "", false
}
func (v *volume) times() (time.Time, time.Time) { return v.created, later(v.updated, v.created) }
func (v *volume) metadata() map[string]string   { return v.meta }

func (s *snapshot) field(name string) (string, bool) {
	switch name {
	case "name":
		return s.name, true
	case "status":
		return s.status, true
	case "volume_id":
		return s.volume, true
	case "id":
		return s.ID, true
	case "availability_zone":
		return "nova", true
	case "consumes_quota":
		return "true", true
	}
	return "", false
}
func (s *snapshot) times() (time.Time, time.Time) { return s.created, later(s.updated, s.created) }
func (s *snapshot) metadata() map[string]string   { return s.meta }

func (b *backup) field(name string) (string, bool) {
	switch name {
	case "name":
		return b.name, true
	case "status":
		return b.status, true
	case "volume_id":
		return b.volume, true
	case "id":
		return b.ID, true
	}
	return "", false
}
func (b *backup) times() (time.Time, time.Time) { return b.created, later(b.updated, b.created) }
func (b *backup) metadata() map[string]string   { return b.meta }

func (a *attachment) field(name string) (string, bool) {
	switch name {
	case "volume_id":
		return a.volume.ID, true
	case "status", "attach_status":
		return a.status, true
	case "instance_id":
		return a.server, true
	case "id":
		return a.ID, true
	}
	return "", false
}
func (a *attachment) times() (time.Time, time.Time) { return a.at, a.at }
func (a *attachment) metadata() map[string]string   { return nil }

func later(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// cinderPage filters, sorts and cuts a list as Cinder does; more tells that a next page may exist.
func cinderPage[T stored](q *request, t *table[T], extra ...string) (rows []T, more bool, err error) {
	project := q.project
	if all, given := toBool(q.query.Get("all_tenants")); q.admin && given && all {
		project = q.query.Get("project_id")
	}
	var bad []string
	for key := range q.query {
		var zero T
		_, known := zeroField(zero, key)
		if !known && !slices.Contains(append(extra, "all_tenants", "project_id", "limit", "marker", "offset", "sort", "sort_key", "sort_dir", "metadata", "created_at", "updated_at", "with_count", "glance_metadata"), key) {
			bad = append(bad, key)
		}
	}
	if len(bad) > 0 && q.at(31) {
		slices.Sort(bad)
		return nil, false, fail(400, "Invalid filters "+strings.Join(bad, ",")+" are found in query options.")
	}
	for r := range newestFirst(t.of(project)) {
		if cinderMatch(q, r) {
			rows = append(rows, r)
		}
	}
	cinderSort(q, rows)
	return cinderCut(q, rows)
}

// zeroField asks whether a key is a field of the kind, without a row at hand.
func zeroField[T stored](_ T, key string) (string, bool) {
	switch any(*new(T)).(type) {
	case *volume:
		return (&volume{}).field(key)
	case *snapshot:
		return (&snapshot{}).field(key)
	case *backup:
		return (&backup{}).field(key)
	case *attachment:
		return (&attachment{volume: &volume{}}).field(key)
	}
	return "", false
}

func cinderMatch(q *request, r stored) bool {
	for key := range q.query {
		v := q.query.Get(key)
		created, updated := r.times()
		switch key {
		case "metadata":
			if !metaMatches(r.metadata(), v) {
				return false
			}
		case "created_at", "updated_at":
			at := created
			if key == "updated_at" {
				at = updated
			}
			for _, one := range strings.Split(v, ",") {
				if !timeOp(at.Truncate(time.Second), one) {
					return false
				}
			}
		default:
			if have, known := r.field(key); known && !strings.EqualFold(have, v) {
				return false
			} else if known && key == "name" && have != v {
				return false
			}
		}
	}
	return true
}

// metaMatches reads the filter in JSON or, as old clients send it, in Python's spelling.
func metaMatches(have map[string]string, want string) bool {
	var m map[string]any
	if json.Unmarshal([]byte(want), &m) != nil && json.Unmarshal([]byte(strings.ReplaceAll(strings.ReplaceAll(want, "u'", "'"), "'", `"`)), &m) != nil {
		return false
	}
	for k, v := range m {
		if got, found := have[k]; !found || got != toText(v) {
			return false
		}
	}
	return true
}

func cinderSort[T stored](q *request, rows []T) {
	var keys []sortKey
	if s := q.query.Get("sort"); s != "" {
		for _, one := range strings.Split(s, ",") {
			name, dir, _ := strings.Cut(one, ":")
			keys = append(keys, sortKey{name, dir != "asc"})
		}
	} else if k := q.query.Get("sort_key"); k != "" {
		keys = append(keys, sortKey{k, q.query.Get("sort_dir") != "asc"})
	}
	if len(keys) == 0 {
		return
	}
	value := func(r stored, name string) string {
		created, updated := r.times()
		switch name {
		case "created_at":
			return created.Format(micros)
		case "updated_at":
			return updated.Format(micros)
		}
		v, _ := r.field(name)
		return v
	}
	slices.SortStableFunc(rows, func(a, b T) int {
		for _, k := range keys {
			n := cmpStrings(value(a, k.name), value(b, k.name))
			if k.desc {
				n = -n
			}
			if n != 0 {
				return n
			}
		}
		return int(b.base().seq - a.base().seq)
	})
}

func cinderCut[T stored](q *request, rows []T) ([]T, bool, error) {
	if m := q.query.Get("marker"); m != "" {
		i := slices.IndexFunc(rows, func(r T) bool { return r.base().ID == m })
		if i < 0 {
			return nil, false, fail(404, "Volume "+m+" could not be found.")
		}
		rows = rows[i+1:]
	}
	if n, err := strconv.Atoi(q.query.Get("offset")); err == nil && n > 0 {
		rows = rows[min(n, len(rows)):]
	}
	limit := 1000
	if text := q.query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, false, badQuery("limit", text, "does not match '^[0-9]*$'")
		}
		limit = min(n, 1000)
	}
	if len(rows) >= limit && limit > 0 {
		return rows[:limit], true, nil
	}
	return rows[:min(limit, len(rows))], false, nil
}

// withLinks adds "<many>_links" with the next page.
func withLinks(q *request, body object, many, path, last string, more bool) object {
	if !more || last == "" {
		return body
	}
	v := url.Values{}
	maps.Copy(v, q.query)
	v.Set("marker", last)
	return append(body, kv{many + "_links", []object{{{"rel", "next"}, {"href", q.url("/v3/" + q.project + path + "?" + v.Encode())}}}})
}

func (c *Cloud) listVolumes(detail bool) handler {
	return func(q *request) (*reply, error) {
		rows, more, err := cinderPage(q, c.volume.volumes)
		if err != nil {
			return nil, err
		}
		out := make([]object, len(rows))
		last := ""
		for i, v := range rows {
			last = v.ID
			if detail {
				out[i] = c.volumeView(q, v, true)
			} else {
				out[i] = object{{"id", v.ID}, {"name", textOrNil(v.name, v.noName)}, {"links", q.volumeLinks("volumes", v.ID)}}
			}
		}
		path := "/volumes"
		if detail {
			path += "/detail"
		}
		body := object{{"volumes", out}}
		if wants, _ := toBool(q.query.Get("with_count")); wants && q.at(45) {
			body = append(body, kv{"count", len(c.volume.volumes.of(q.project))})
		}
		return ok(withLinks(q, body, "volumes", path, last, more))
	}
}

func (c *Cloud) volumeSummary(q *request) (*reply, error) {
	count, size := 0, 0
	meta := map[string][]string{}
	for _, v := range c.volume.volumes.of(q.project) {
		count, size = count+1, size+v.size
		for k, x := range v.meta {
			if !slices.Contains(meta[k], x) {
				meta[k] = append(meta[k], x)
			}
		}
	}
	return ok(object{{"volume-summary", object{{"total_count", count}, {"total_size", size}, {"metadata", meta}}}})
}

func (c *Cloud) volumeMetadata(q *request) (*reply, error) {
	v, err := c.volumeAt(q)
	if err != nil {
		return nil, err
	}
	return editMetadata(q, &v.meta, func() { v.updated = c.now() })
}

// editMetadata is GET, POST (merge) and PUT (replace) of a metadata collection.
func editMetadata(q *request, m *map[string]string, touch func()) (*reply, error) {
	if q.http.Method != http.MethodGet {
		if q.body.sub("metadata") == nil {
			return nil, fail(400, "'metadata' is a required property")
		}
		next := maps.Clone(*m)
		if next == nil || q.http.Method == http.MethodPut {
			next = map[string]string{}
		}
		maps.Copy(next, q.body.stringMap("metadata"))
		*m = next
		touch()
	}
	return ok(object{{"metadata", orEmptyMap(*m)}})
}

func (c *Cloud) volumeMeta(q *request) (*reply, error) {
	v, err := c.volumeAt(q)
	if err != nil {
		return nil, err
	}
	return editMeta(q, &v.meta, "Volume "+v.ID, func() { v.updated = c.now() })
}

// editMeta is GET, PUT and DELETE of one key.
func editMeta(q *request, m *map[string]string, owner string, touch func()) (*reply, error) {
	key := q.path("key")
	if q.http.Method == http.MethodPut {
		x, given := q.body.stringMap("meta")[key]
		if !given {
			return nil, fail(400, "Request body and URI mismatch")
		}
		next := maps.Clone(*m)
		if next == nil {
			next = map[string]string{}
		}
		next[key] = x
		*m = next
		touch()
		return ok(object{{"meta", map[string]string{key: x}}})
	}
	x, found := (*m)[key]
	if !found {
		return nil, fail(404, owner+" has no metadata with key "+key+".")
	}
	if q.http.Method == http.MethodDelete {
		*m = maps.Clone(*m)
		delete(*m, key)
		touch()
		return &reply{status: http.StatusOK}, nil
	}
	return ok(object{{"meta", map[string]string{key: x}}})
}
