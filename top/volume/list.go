package volume

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// sortable are Cinder's sort keys that Top has as columns.
var sortable = map[string]index.Field{
	"id": index.ByID, "name": index.ByName, "display_name": index.ByName, "status": index.ByStatus, "created_at": index.ByCreated,
	"updated_at": index.ByUpdated, "availability_zone": index.ByZone, "project_id": index.ByProject,
}

// query turns the request's parameters into a query of rows.
func (h *Handler) query(c echo.Context, kind sites.Kind) (index.Query, error) {
	params := c.Request().URL.Query()
	who := auth.From(c)
	caller := who.Caller()
	page, err := wire.ParsePage(params)
	if err != nil {
		return index.Query{}, err
	}
	q := index.Query{Kind: kind, Project: caller.ProjectID, Pin: caller.Pin, Limit: page.Limit, Marker: ident.TopID(page.Marker), In: map[index.Field][]string{}}
	if project := c.Param("project"); project != "" && caller.Admin() {
		q.Project = project
	}
	if isTrue(params.Get("all_tenants")) && caller.Admin() {
		q.AllProjects, q.Project = true, ""
		if p := params.Get("project_id"); p != "" {
			q.AllProjects, q.Project = false, p
		}
	}
	for param, field := range map[string]index.Field{"name": index.ByName, "display_name": index.ByName, "status": index.ByStatus, "id": index.ByID, "volume_id": index.ByParent} {
		if v := params.Get(param); v != "" {
			q.In[field] = []string{v}
		}
	}
	if q.Sort, err = sorting(params); err != nil {
		return q, err
	}
	q.Match = match(params)
	skip, err := offset(params)
	if err != nil {
		return q, err
	}
	if inner := q.Match; skip > 0 {
		q.Match = func(r *index.Resource) bool {
			if inner != nil && !inner(r) {
				return false
			}
			skip--
			return skip < 0
		}
	}
	if page.Limit == 0 && params.Has("limit") {
		q.Limit, q.Match = 1, func(*index.Resource) bool { return false }
	}
	return q, nil
}

// offset is how many of the rows asked for are left out (cinder/api/common.py, get_pagination_params).
func offset(params url.Values) (int, error) {
	text := params.Get("offset")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, wire.BadRequest("Invalid input for field/attribute offset. Value: %.60s. It must be a whole number", text)
	}
	if n < 0 || n > 1<<31-1 {
		return 0, wire.BadRequest("Invalid input for field/attribute offset. Value: %.60s. It must be 0 or greater", text)
	}
	return n, nil
}

// sorting reads sort=key:dir,... or the older sort_key and sort_dir.
func sorting(params url.Values) ([]index.Sort, error) {
	var parts []string
	if s := params.Get("sort"); s != "" {
		parts = strings.Split(s, ",")
	} else if key := params.Get("sort_key"); key != "" {
		parts = []string{key + ":" + params.Get("sort_dir")}
	}
	var out []index.Sort
	for _, part := range parts {
		key, dir, _ := strings.Cut(part, ":")
		field, ok := sortable[strings.TrimSpace(key)]
		if !ok {
			return nil, wire.BadRequest("Invalid input received: '%s' is not a sort key.", key)
		}
		if dir = strings.TrimSpace(dir); dir != "" && dir != "asc" && dir != "desc" {
			return nil, wire.BadRequest("Invalid input received: '%s' is not a sort direction; it must be asc or desc.", dir)
		}
		out = append(out, index.Sort{Field: field, Desc: dir != "asc"})
	}
	return out, nil
}

// match tests what is no column: name~, bootable, metadata, zone. Unknown parameters are ignored, as Cinder does for ordinary users.
func match(params url.Values) func(*index.Resource) bool {
	var tests []func(*index.Resource, *volume.Spec) bool
	if part := params.Get("name~"); part != "" {
		tests = append(tests, func(r *index.Resource, _ *volume.Spec) bool { return strings.Contains(r.Name, part) })
	}
	if zone := params.Get("availability_zone"); zone != "" {
		tests = append(tests, func(r *index.Resource, _ *volume.Spec) bool { return zoneOf(r) == zone || string(r.Site) == zone })
	}
	if v := params.Get("bootable"); v != "" {
		tests = append(tests, func(r *index.Resource, _ *volume.Spec) bool {
			have, _ := r.Observed["bootable"].(string)
			return strings.EqualFold(have, v) || isTrue(v) && have == "true"
		})
	}
	if v := params.Get("metadata"); v != "" {
		want := pairs(v)
		tests = append(tests, func(_ *index.Resource, s *volume.Spec) bool {
			for k, value := range want {
				if have, ok := s.Metadata[k]; !ok || have != value {
					return false
				}
			}
			return true
		})
	}
	if len(tests) == 0 {
		return nil
	}
	return func(r *index.Resource) bool {
		var spec volume.Spec
		if r.Decode(&spec) != nil {
			return false
		}
		return !slices.ContainsFunc(tests, func(t func(*index.Resource, *volume.Spec) bool) bool { return !t(r, &spec) })
	}
}

// pair is one member of a flat map of texts as Python or JSON spell it: 'a': u'b'.
var pair = regexp.MustCompile(`u?(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*:\s*u?(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")`)

// pairs reads {'a': 'b', "c": "d"}: what clients send is Python's or JSON's spelling of a flat map.
func pairs(text string) map[string]string {
	out := map[string]string{}
	plain := strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\"`, `"`)
	for _, m := range pair.FindAllStringSubmatch(text, -1) {
		out[plain.Replace(m[1]+m[2])] = plain.Replace(m[3] + m[4])
	}
	return out
}

// listVolumes handles GET /volumes and /volumes/detail.
func (h *Handler) listVolumes(detail bool) echo.HandlerFunc {
	return h.list(sites.Volume, "volumes", func(c echo.Context, r *index.Resource) (map[string]any, error) {
		if !detail {
			return h.viewBrief(c, r, "volumes"), nil
		}
		return h.viewVolume(c, r)
	})
}

// list answers one page of a kind.
func (h *Handler) list(kind sites.Kind, collection string, view func(echo.Context, *index.Resource) (map[string]any, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		who := auth.From(c)
		if err := who.Require("get_"+kindRule(kind), ""); err != nil {
			return err
		}
		q, err := h.query(c, kind)
		if err != nil {
			return err
		}
		if q.Marker != "" { // Cinder looks it up as one of the kind, and a site's id will do
			r, err := h.service.Find(c.Request().Context(), who.Caller(), kind, string(q.Marker))
			if err != nil {
				return err
			}
			q.Marker = r.ID
		}
		rows, err := h.service.List(c.Request().Context(), q)
		if err != nil {
			return err
		}
		items := make([]map[string]any, len(rows))
		for i, r := range rows {
			if items[i], err = view(c, r); err != nil {
				return err
			}
		}
		out := map[string]any{collection: items}
		if len(rows) > 0 && len(rows) == q.Limit {
			versioned, _ := h.endpoint(c)
			path := collection
			if strings.HasSuffix(c.Request().URL.Path, "/detail") {
				path += "/detail"
			}
			out[collection+"_links"] = wire.NextLink(c, versioned+"/"+path, string(rows[len(rows)-1].ID))
		}
		if isTrue(c.QueryParam("with_count")) && version(c).AtLeast(45) {
			n, err := h.service.Count(c.Request().Context(), q)
			if err != nil {
				return err
			}
			out["count"] = n
		}
		return c.JSON(http.StatusOK, out)
	}
}
