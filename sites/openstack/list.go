package openstack

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

const (
	defaultPage = 500
	maxPage     = 1000 // Nova's, Cinder's and Glance's own upper limit
	maxRestarts = 5    // of one listing, while the site's rows keep going away
)

var (
	errNoResource = errors.New("the answer holds no resource")
	errNoID       = errors.New("the answer's resource has no id")
	errLoop       = errors.New("the pages of the listing go round in a circle")
)

// List calls each for every selected resource, page by page.
func (a *Adaptor) List(ctx context.Context, kind sites.Kind, q sites.Query, each func(sites.Object) error) error {
	const op = "sites/openstack.List"
	f, err := a.formOf(op, kind)
	if err != nil {
		return err
	}
	l := &listing{adaptor: a, kind: kind, form: f, params: url.Values{}, seen: map[string]bool{}, told: map[string]bool{}}
	maps.Copy(l.params, q.Params)
	l.size = q.PageSize
	if l.size <= 0 {
		l.size = defaultPage
	}
	l.size = min(l.size, maxPage)
	if f.paging == byOffset {
		l.size = max(l.size, 2) // a page repeats the last row of the one before
	}
	if f.paging != allInOne {
		l.params.Set("limit", strconv.Itoa(l.size))
	}
	if q.AllProjects && f.all[0] != "" {
		l.params.Set(f.all[0], f.all[1])
	}
	for more := true; more; {
		if more, err = l.page(ctx, each); err != nil {
			return err
		}
	}
	return nil
}

// listing is a walk through pages.
type listing struct {
	adaptor *Adaptor
	kind    sites.Kind
	form    form
	params  url.Values
	size    int
	seen    map[string]bool // queries sent
	last    []string        // ids of the last page and of up to maxPage rows before it, in order
	forgot  bool            // rows before those were told as well
	told    map[string]bool // ids not to be told twice: of the last page when its marker vanished, of all pages where they go by offset

	restarts int // of the walk, since rows that it went by went away
	steps    int // back
}

// page reads one page and reports whether another follows.
func (l *listing) page(ctx context.Context, each func(sites.Object) error) (bool, error) {
	query := l.params.Encode()
	c := &call{op: "sites/openstack.List", service: l.kind.Service(), method: http.MethodGet, path: l.form.path, query: l.params}
	if l.form.detail != "" {
		c.path = l.form.detail
	}
	if l.seen[query] {
		return false, l.adaptor.unreadable(c, nil, errLoop)
	}
	l.seen[query] = true
	reply, err := l.adaptor.doJSON(ctx, c)
	if err != nil {
		if l.stepBack(err) {
			return true, nil
		}
		return false, err
	}
	rows, err := l.form.rows(reply.Body)
	if err != nil {
		return false, l.adaptor.unreadable(c, reply.Header, err)
	}
	if l.form.paging == byOffset && len(l.last) > 0 && (len(rows) == 0 || l.form.idOf(rows[0]) != l.last[len(l.last)-1]) {
		if l.restarts++; l.restarts > maxRestarts {
			return false, l.adaptor.unreadable(c, reply.Header, errLoop)
		}
		l.params.Del("offset")
		l.last = l.last[:0]
		clear(l.seen)
		return true, nil
	}
	if over := len(l.last) - maxPage; over > 0 {
		l.last, l.forgot = slices.Delete(l.last, 0, over), true
	}
	for _, row := range rows {
		id := l.form.idOf(row)
		if id == "" {
			return false, l.adaptor.unreadable(c, reply.Header, errNoID)
		}
		l.last = append(l.last, id)
		if l.told[id] {
			continue
		}
		if l.form.paging == byOffset {
			l.told[id] = true
		}
		if err := each(sites.Object{ID: ident.BottomID(id), Body: row, Began: reply.Began}); err != nil {
			return false, err
		}
	}
	return l.next(reply.Body, len(rows)), nil
}

// stepBack deals with a marker whose resource went away between two pages,
// which services refuse: the walk goes on from the row before it, or, where none
// of those remains, from the beginning.
func (l *listing) stepBack(err error) bool {
	marker := l.params.Get("marker")
	if marker == "" || !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.BadRequest) {
		return false
	}
	for _, id := range l.last {
		l.told[id] = true
	}
	for len(l.last) > 0 {
		id := l.last[len(l.last)-1]
		l.last = l.last[:len(l.last)-1]
		if id != marker {
			l.params.Set("marker", id)
			delete(l.seen, l.params.Encode()) // it was asked before, and is not in vain now
			l.steps++
			return l.steps <= maxPage
		}
	}
	if l.restarts++; l.forgot || l.restarts > maxRestarts {
		return false
	}
	l.params.Del("marker")
	clear(l.seen)
	return true
}

// next prepares the query of the next page. By offset it begins at the row that
// ended this one: where that is no longer there, a row before it was deleted, and
// the walk begins again lest one be missed. Else it is taken from the service's link: its
// query only, since its host may be one that the site knows by another name.
func (l *listing) next(body sites.Body, rows int) bool {
	switch l.form.paging {
	case allInOne:
		return false
	case byOffset:
		offset, _ := strconv.Atoi(l.params.Get("offset"))
		l.params.Set("offset", strconv.Itoa(offset+rows-1))
		return rows == l.size
	}
	link, err := url.Parse(nextLink(body))
	if err != nil || link.RawQuery == "" {
		return false
	}
	query, err := url.ParseQuery(link.RawQuery)
	if err != nil || query.Get("marker") == "" {
		return false
	}
	l.params.Set("marker", query.Get("marker"))
	return true
}

// nextLink finds the link to the next page: Glance's "next", Keystone's
// "links", or the list "servers_links" and its like, which Cinder sometimes
// names otherwise than the rows.
func nextLink(body sites.Body) string {
	if next := str(body["next"]); next != "" {
		return next
	}
	for key, value := range body {
		links, ok := value.([]any)
		if !ok || !strings.HasSuffix(key, "_links") {
			continue
		}
		for _, link := range links {
			if l, ok := link.(map[string]any); ok && str(l["rel"]) == "next" {
				return str(l["href"])
			}
		}
	}
	return ""
}

// rows reads the resources of a page.
func (f form) rows(body sites.Body) ([]sites.Body, error) {
	list, ok := body[f.many].([]any)
	if !ok {
		return nil, errors.New("the answer holds no list " + f.many)
	}
	rows := make([]sites.Body, 0, len(list))
	for _, item := range list {
		row, ok := item.(map[string]any)
		if ok && f.inRow {
			row, ok = row[f.one].(map[string]any)
		}
		if !ok {
			return nil, errors.New("the list " + f.many + " holds something that is no object")
		}
		rows = append(rows, row)
	}
	return rows, nil
}
