package image

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// defaultLimit is Glance's limit_param_default.
const defaultLimit = 25

// show handles GET /v2/images/{id}.
func (h *Handler) show(c echo.Context) error {
	who := auth.From(c)
	if err := who.Require("get_image", ""); err != nil {
		return err
	}
	r, err := h.service.Find(c.Request().Context(), who.Caller(), c.Param("image"))
	if err != nil {
		return err
	}
	return h.answer(c, http.StatusOK, r)
}

// list handles GET /v2/images.
func (h *Handler) list(c echo.Context) error {
	who := auth.From(c)
	if err := who.Require("get_image", ""); err != nil {
		return err
	}
	params := c.Request().URL.Query()
	q, err := parseQuery(params)
	if err != nil {
		return err
	}
	rows, err := h.service.List(c.Request().Context(), who.Caller(), q)
	if err != nil {
		return err
	}
	items, err := h.views(c.Request().Context(), rows...)
	if err != nil {
		return err
	}
	params.Del("marker")
	out := map[string]any{"images": items, "schema": "/v2/schemas/images", "first": relative(params)}
	if len(rows) == q.Limit && q.Limit > 0 {
		params.Set("marker", string(rows[len(rows)-1].ID))
		out["next"] = relative(params)
	}
	return c.JSON(http.StatusOK, out)
}

func relative(params url.Values) string {
	if len(params) == 0 {
		return "/v2/images"
	}
	return "/v2/images?" + params.Encode()
}

func parseQuery(params url.Values) (image.Query, error) {
	page, err := wire.ParsePage(params)
	if err != nil {
		return image.Query{}, err
	}
	if !params.Has("limit") {
		page.Limit = defaultLimit
	}
	q := image.Query{Visibility: params.Get("visibility"), MemberStatus: params.Get("member_status"), Owner: params.Get("owner")}
	if v := q.MemberStatus; v != "" && !slices.Contains([]string{"pending", "accepted", "rejected", "all"}, v) {
		return q, wire.BadRequest("Invalid status: %s", v)
	}
	if params.Get("changes-since") != "" {
		return q, wire.BadRequest(`The "changes-since" filter is no longer available on v2.`)
	}
	q.Limit, q.Marker = page.Limit, ident.TopID(page.Marker)
	if v := q.Visibility; v != "" && !slices.Contains([]string{"all", image.Public, image.Private, image.Shared, image.Community}, v) {
		return q, wire.BadRequest("Invalid visibility value: %s", v)
	}
	if q.Sort, err = sorting(params); err != nil {
		return q, err
	}
	tests, err := filters(params)
	q.Match = func(r *index.Resource) bool {
		var spec image.Spec
		if r.Decode(&spec) != nil {
			return false
		}
		for _, test := range tests {
			if !test(r, &spec) {
				return false
			}
		}
		return true
	}
	if page.Limit == 0 {
		q.Limit, q.Match = 1, func(*index.Resource) bool { return false }
	}
	return q, err
}

// sortable are Glance's sort keys.
var sortable = map[string]index.Field{
	"name": index.ByName, "status": index.ByStatus, "id": index.ByID, "created_at": index.ByCreated, "updated_at": index.ByUpdated,
	"size": image.BySize, "disk_format": image.ByDiskFormat, "container_format": image.ByContainerFormat,
}

// sorting reads sort=key:dir,... or repeated sort_key and sort_dir; newest first by default.
func sorting(params url.Values) ([]index.Sort, error) {
	var keys, dirs []string
	if s := params.Get("sort"); s != "" {
		if params.Has("sort_key") || params.Has("sort_dir") {
			return nil, wire.BadRequest("Old and new sorting syntax cannot be combined")
		}
		for part := range strings.SplitSeq(s, ",") {
			key, dir, _ := cut(strings.Replace(part, ":", ";", 1))
			keys, dirs = append(keys, key), append(dirs, dir)
		}
	} else if keys, dirs = params["sort_key"], params["sort_dir"]; len(dirs) > 1 && len(dirs) != len(keys) {
		return nil, wire.BadRequest("Number of sort dirs does not match the number of sort keys")
	}
	if len(keys) == 0 && len(dirs) > 0 {
		keys = []string{"created_at"}
	}
	var out []index.Sort
	for i, key := range keys {
		field, ok := sortable[key]
		if !ok {
			return nil, wire.BadRequest("Invalid sort key: %s. It must be one of the following: name, status, container_format, disk_format, size, id, created_at, updated_at.", key)
		}
		dir := "desc"
		switch {
		case i < len(dirs) && dirs[i] != "":
			dir = dirs[i]
		case len(dirs) == 1 && dirs[0] != "":
			dir = dirs[0]
		}
		if dir != "asc" && dir != "desc" {
			return nil, wire.BadRequest("Invalid sort direction: %s", dir)
		}
		out = append(out, index.Sort{Field: field, Desc: dir == "desc"})
	}
	return out, nil
}

// cut splits at the first semicolon and trims.
func cut(s string) (before, after string, found bool) {
	before, after, found = strings.Cut(s, ";")
	return strings.TrimSpace(before), strings.TrimSpace(after), found
}

type test func(*index.Resource, *image.Spec) bool

// filters turns the query's other members into tests; unknown members are custom properties, as in Glance.
func filters(params url.Values) ([]test, error) {
	var out []test
	if !params.Has("os_hidden") {
		out = append(out, func(_ *index.Resource, s *image.Spec) bool { return !s.Hidden })
	}
	for name, values := range params {
		value := values[0]
		switch name {
		case "limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status", "owner":
		case "tag":
			out = append(out, func(_ *index.Resource, s *image.Spec) bool {
				return !slices.ContainsFunc(values, func(t string) bool { return !slices.Contains(s.Tags, t) })
			})
		case "os_hidden", "protected":
			want := strings.EqualFold(value, "true")
			if !want && !strings.EqualFold(value, "false") {
				return nil, wire.BadRequest("Invalid value '%s' for '%s' filter: true or false is wanted.", value, name)
			}
			out = append(out, func(_ *index.Resource, s *image.Spec) bool {
				return map[string]bool{"os_hidden": s.Hidden, "protected": s.Protected}[name] == want
			})
		case "size_min", "size_max":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return nil, wire.BadRequest("Filter %s must be a whole number of 0 or more.", name)
			}
			out = append(out, func(_ *index.Resource, s *image.Spec) bool {
				return s.Size != nil && (name == "size_min" && *s.Size >= n || name == "size_max" && *s.Size <= n)
			})
		case "created_at", "updated_at":
			t, err := timeTest(name, value)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
		default:
			out = append(out, textTest(name, value))
		}
	}
	return out, nil
}

// textTest compares a member with a value, or with "in:a,b".
func textTest(name, value string) test {
	want := []string{value}
	if list, ok := strings.CutPrefix(value, "in:"); ok {
		want = strings.Split(list, ",")
	}
	for i := range want {
		want[i] = strings.Trim(want[i], `"`)
	}
	return func(r *index.Resource, s *image.Spec) bool {
		have, base := map[string]string{
			"id": string(r.ID), "name": r.Name, "status": r.Status, "disk_format": s.DiskFormat, "container_format": s.ContainerFormat,
			"checksum": s.Checksum, "os_hash_value": s.HashValue, "os_hash_algo": s.HashAlgo,
			"min_disk": fmt.Sprint(s.MinDisk), "min_ram": fmt.Sprint(s.MinRAM),
		}[name]
		if name == "size" && s.Size != nil {
			have, base = fmt.Sprint(*s.Size), true
		}
		if !base {
			have, base = s.Properties[name]
		}
		return base && slices.Contains(want, have)
	}
}

// timeTest reads "gt:2026-01-02T03:04:05Z" and its like; without an operator it is eq.
func timeTest(name, value string) (test, error) {
	op, text, ok := strings.Cut(value, ":")
	if !ok || !slices.Contains([]string{"gt", "gte", "lt", "lte", "eq", "neq"}, op) {
		op, text = "eq", value
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, wire.BadRequest("Invalid time %q for filter %s.", text, name)
	}
	return func(r *index.Resource, _ *image.Spec) bool {
		have := r.CreatedAt
		if name == "updated_at" {
			have = r.UpdatedAt
		}
		n := have.Truncate(time.Second).Compare(at)
		return map[string]bool{"gt": n > 0, "gte": n >= 0, "lt": n < 0, "lte": n <= 0, "eq": n == 0, "neq": n != 0}[op]
	}, nil
}
