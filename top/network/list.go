package network

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
	"github.com/headwater-cloud/headwater/top/wire"
)

// page is which part of a list is asked for.
type page struct {
	limit   int  // of the request; 0 when it named none
	reverse bool // the page before the marker
	marker  string
}

// size is the number of rows that a page holds.
func (p page) size() int {
	if p.limit == 0 {
		return wire.MaxLimit
	}
	return min(p.limit, wire.MaxLimit)
}

func parsePage(q url.Values) (page, error) {
	p := page{marker: q.Get("marker")}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return p, faultjson.Typed("BadRequest", fault.New(fault.BadRequest, "top/network", "Bad limit request: Limit must be an integer 0 or greater and not '%s'.", text))
		}
		p.limit = n
	}
	p.reverse = strings.EqualFold(q.Get("page_reverse"), "true")
	return p, nil
}

func (h *Handler) list(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		who := auth.From(c)
		if err := who.Require("get_"+col.singular, ""); err != nil {
			return err
		}
		ctx, q := c.Request().Context(), c.QueryParams()
		if col.kind == sites.SecurityGroup || col.kind == sites.SecurityGroupRule {
			if err := h.service.EnsureDefaultGroup(ctx, who.Caller()); err != nil {
				return err
			}
		}
		p, err := parsePage(q)
		if err != nil {
			return err
		}
		query, err := h.query(c, col, who.Caller(), q, p)
		if err != nil {
			return err
		}
		rows, err := h.service.Core().Index.List(ctx, query)
		if err != nil {
			return err
		}
		if p.reverse {
			slices.Reverse(rows)
		}
		views, err := h.render(c, col, rows)
		if err != nil {
			return err
		}
		answer := map[string]any{col.plural: views}
		if links := h.links(c, col, p, rows); len(links) > 0 {
			answer[col.plural+"_links"] = links
		}
		return c.JSON(http.StatusOK, answer)
	}
}

// query turns the query string into one indexed query.
func (h *Handler) query(c echo.Context, col *collection, who sites.Caller, q url.Values, p page) (index.Query, error) {
	query := index.Query{
		Kind: col.kind, Project: who.ProjectID, AllProjects: who.Admin(), Shared: col.withShared, ForAll: col.withShared, Pin: who.Pin,
		In: map[index.Field][]string{}, Marker: ident.TopID(p.marker), Limit: p.size(),
	}
	var err error
	if query.Sort, err = col.sorting(q, p.reverse); err != nil {
		return query, err
	}
	if p.marker != "" { // a bottom id will do, and an unknown one is the kind's own NotFound
		r, err := h.service.Find(c.Request().Context(), who, col.kind, p.marker)
		if err != nil {
			return query, err
		}
		query.Marker = r.ID
	}
	matchers, err := col.filters(h.topIDs(c, col, who, q), &query)
	if err != nil {
		return query, err
	}
	elsewhere := map[ident.TopID]bool(nil)
	if col.kind == sites.Network && col.withShared {
		if elsewhere, err = h.service.Elsewhere(c.Request().Context(), who.Pin); err != nil {
			return query, err
		}
	}
	outside := map[ident.TopID]bool(nil)
	if col.kind == sites.Subnet && !who.Admin() {
		if outside, err = h.service.Outside(c.Request().Context()); err != nil {
			return query, err
		}
	}
	if len(matchers) > 0 || col.visible != nil || len(elsewhere) > 0 {
		v := &viewer{handler: h, caller: who, plain: true}
		query.Match = func(r *row) bool {
			if col.visible != nil && !col.visible(r) || elsewhere[r.ID] || r.ProjectID == "" && outside[r.ParentID] {
				return false
			}
			if len(matchers) == 0 {
				return true
			}
			views, err := col.view(c.Request().Context(), v, []*row{r})
			return err == nil && !slices.ContainsFunc(matchers, func(m matcher) bool { return !m(views[0]) })
		}
	}
	return query, nil
}

// named are the filters whose values are ids, with the kinds that they may be of.
func named(col *collection) map[string][]sites.Kind {
	return map[string][]sites.Kind{
		"id": {col.kind}, "network_id": {sites.Network}, "floating_network_id": {sites.Network}, "port_id": {sites.Port}, "router_id": {sites.Router},
		"security_group_id": {sites.SecurityGroup}, "security_groups": {sites.SecurityGroup}, "remote_group_id": {sites.SecurityGroup},
		"device_id": {sites.Server, sites.Router},
	}
}

// mostIDs is how many values of a filter are looked up; who names more of them at a time got them from a list of Top's.
const mostIDs = 20

// topIDs writes Top ids over the sites' ids in filters: a guest knows its server by the site's id alone (cascade/README.md: Aliases).
func (h *Handler) topIDs(c echo.Context, col *collection, who sites.Caller, q url.Values) url.Values {
	out := url.Values{}
	kinds := named(col)
	for key, values := range q {
		out[key] = values
		if len(kinds[key]) == 0 || len(values) > mostIDs {
			continue
		}
		out[key] = slices.Clone(values)
		for i, value := range values {
			for _, kind := range kinds[key] {
				if !isUUID(value) {
					break
				}
				if r, err := h.service.Find(c.Request().Context(), who, kind, value); err == nil {
					out[key][i] = string(r.ID)
					break
				}
			}
		}
	}
	return out
}

// sorting reads sort_key and sort_dir, pairwise.
func (col *collection) sorting(q url.Values, reverse bool) ([]index.Sort, error) {
	keys, dirs := q["sort_key"], q["sort_dir"]
	if len(keys) != len(dirs) {
		return nil, bad("The number of sort_keys and sort_dirs must be same")
	}
	var out []index.Sort
	for i, key := range keys {
		field, ok := col.columns[key]
		if !ok {
			return nil, bad("['%.60s'] is invalid attribute for sort_keys", key)
		}
		if dirs[i] != "asc" && dirs[i] != "desc" {
			return nil, bad("%.60s is invalid value for sort_dirs, valid value is 'asc' and 'desc'", dirs[i])
		}
		out = append(out, index.Sort{Field: field, Desc: (dirs[i] == "desc") != reverse})
	}
	if len(out) == 0 {
		out = []index.Sort{{Field: index.ByCreated, Desc: reverse}}
	}
	return out, nil
}

// matcher decides on a row as it is shown.
type matcher func(view) bool

// filters puts what the database can decide into the query and returns the rest.
func (col *collection) filters(q url.Values, query *index.Query) ([]matcher, error) {
	var rest []matcher
	for key, values := range q {
		switch key {
		case "fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir":
			continue
		case "tags", "tags-any", "not-tags", "not-tags-any":
			rest = append(rest, tagMatcher(key, values))
			continue
		case "changed_since":
			at, err := time.Parse("2006-01-02T15:04:05", strings.TrimSuffix(values[0], "Z"))
			if err != nil {
				return nil, faultjson.Typed("InvalidInput", fault.New(fault.BadRequest, "top/network", "Invalid input for operation: The input %.60s must be in the following format: YYYY-MM-DDTHH:MM:SS.", values[0]))
			}
			query.ChangedSince = at
			continue
		case "fixed_ips":
			m, err := fixedMatcher(values)
			if err != nil {
				return nil, err
			}
			rest = append(rest, m)
			continue
		case "ip_address", "subnet_id": // older clients' short forms of fixed_ips
			if col.kind == sites.Port {
				m, err := fixedMatcher([]string{key + "=" + values[0]})
				if err != nil {
					return nil, err
				}
				rest = append(rest, m)
				continue
			}
		}
		if field, ok := col.columns[key]; ok {
			query.In[field] = append(query.In[field], values...)
			continue
		}
		if _, ok := col.attrs[key]; !ok {
			return nil, bad("['%.60s'] is invalid attribute for filtering", key)
		}
		rest = append(rest, memberMatcher(key, values))
	}
	return rest, nil
}

// memberMatcher compares one member with any of the values; a list matches when it holds one of them.
func memberMatcher(key string, values []string) matcher {
	return func(v view) bool {
		got := v[key]
		switch list := got.(type) {
		case []string:
			return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(values, s) })
		case []ident.TopID:
			return slices.ContainsFunc(list, func(s ident.TopID) bool { return slices.Contains(values, string(s)) })
		}
		text := ""
		if got != nil {
			text = fmt.Sprint(got)
		}
		return slices.ContainsFunc(values, func(want string) bool { return sameText(got, text, want) })
	}
}

func sameText(got any, text, want string) bool {
	if b, ok := got.(bool); ok {
		asked, reason := boolean(want)
		return reason == "" && asked == b
	}
	if a, err := netip.ParseAddr(want); err == nil {
		if b, err := netip.ParseAddr(text); err == nil {
			return a == b
		}
	}
	return text == want
}

// tagMatcher is Neutron's four ways to filter by tags: all, any, not all, not any.
func tagMatcher(key string, values []string) matcher {
	var want []string
	for _, v := range values {
		want = append(want, strings.Split(v, ",")...)
	}
	return func(v view) bool {
		have, _ := v["tags"].([]string)
		n := 0
		for _, w := range want {
			if slices.Contains(have, w) {
				n++
			}
		}
		switch key {
		case "tags":
			return n == len(want)
		case "tags-any":
			return n > 0
		case "not-tags":
			return n < len(want)
		default:
			return n == 0
		}
	}
}

// fixedMatcher is fixed_ips=ip_address=... , subnet_id=... or ip_address_substr=...; all of them must hold for one address.
func fixedMatcher(values []string) (matcher, error) {
	want := map[string]string{}
	for _, value := range values {
		key, text, ok := strings.Cut(value, "=")
		if !ok {
			return nil, faultjson.Typed("InvalidInput", fault.New(fault.BadRequest, "top/network", "Invalid input for operation: '%.60s' is not of the form <key>=[value].", value))
		}
		if key != "ip_address" && key != "subnet_id" && key != "ip_address_substr" {
			return nil, bad("['%.60s'] is invalid attribute for filtering", key)
		}
		want[key] = text
	}
	return func(v view) bool {
		list, _ := v["fixed_ips"].([]map[string]any)
		return slices.ContainsFunc(list, func(ip map[string]any) bool {
			addr, _ := ip["ip_address"].(string)
			if sub := want["subnet_id"]; sub != "" && fmt.Sprint(ip["subnet_id"]) != sub {
				return false
			}
			if a := want["ip_address"]; a != "" && !sameText(addr, addr, a) {
				return false
			}
			return strings.Contains(addr, want["ip_address_substr"])
		})
	}, nil
}

// links are the pages around this one, as Neutron gives them; without a limit only the next page is named, when the list is cut at our own greatest page.
func (h *Handler) links(c echo.Context, col *collection, p page, rows []*row) []wire.Link {
	full := len(rows) >= p.size()
	if len(rows) == 0 || p.limit == 0 && !full {
		return nil
	}
	link := func(rel string, marker *row, reverse bool) wire.Link {
		q := c.Request().URL.Query()
		q.Set("marker", string(marker.ID))
		q.Del("page_reverse")
		if reverse {
			q.Set("page_reverse", "True")
		}
		return wire.Link{Rel: rel, Href: h.base(c) + "/" + col.path + "?" + q.Encode()}
	}
	var out []wire.Link
	if full || p.reverse {
		out = append(out, link("next", rows[len(rows)-1], false))
	}
	if p.limit > 0 && (full || !p.reverse) {
		out = append(out, link("previous", rows[0], true))
	}
	return out
}
