package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// pages serves rows of a kind the way a service does: pages by limit and marker, with a link to the next.
func pages(key string, ids []string, link func(query string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		var limit int
		_, _ = fmt.Sscan(q.Get("limit"), &limit)
		at := 0
		if marker := q.Get("marker"); marker != "" {
			if at = slices.Index(ids, marker) + 1; at == 0 {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"badRequest": {"message": "marker [%s] not found"}}`, marker)
				return
			}
		}
		end := min(at+limit, len(ids))
		var rows []string
		for _, id := range ids[at:end] {
			rows = append(rows, fmt.Sprintf(`{"id": %q}`, id))
		}
		more := ""
		if end < len(ids) {
			more = "," + link("limit="+q.Get("limit")+"&marker="+ids[end-1])
		}
		fmt.Fprintf(w, `{%q: [%s]%s}`, key, strings.Join(rows, ","), more)
	}
}

func listed(t *testing.T, a *Adaptor, kind sites.Kind, size int) ([]string, error) {
	t.Helper()
	var ids []string
	err := a.List(t.Context(), kind, sites.Query{PageSize: size}, func(o sites.Object) error {
		ids = append(ids, string(o.ID))
		return nil
	})
	return ids, err
}

func TestPaging(t *testing.T) {
	t.Parallel()
	ids := []string{"a", "b", "c", "d", "e"}
	links := func(name string) func(string) string {
		// The host is one that only the site can resolve: it must not be followed.
		return func(query string) string {
			return fmt.Sprintf(`%q: [{"rel": "previous", "href": "x"}, {"rel": "next", "href": "http://inner:1/x?%s"}]`, name, query)
		}
	}
	for _, tt := range []struct {
		kind  sites.Kind
		serve http.HandlerFunc
	}{
		{sites.Server, pages("servers", ids, links("servers_links"))},
		{sites.Network, pages("networks", ids, links("networks_links"))},
		{sites.VolumeType, pages("volume_types", ids, links("volume_type_links"))},
		{sites.Image, pages("images", ids, func(query string) string { return fmt.Sprintf(`"next": "/v2/images?%s"`, query) })},
		{sites.ServerGroup, func(w http.ResponseWriter, r *http.Request) {
			var offset, limit int
			_, _ = fmt.Sscan(r.URL.Query().Get("offset"), &offset)
			_, _ = fmt.Sscan(r.URL.Query().Get("limit"), &limit)
			var rows []string
			for _, id := range ids[min(offset, 5):min(offset+limit, 5)] {
				rows = append(rows, fmt.Sprintf(`{"id": %q}`, id))
			}
			fmt.Fprintf(w, `{"server_groups": [%s]}`, strings.Join(rows, ","))
		}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			t.Parallel()
			a := newFakeSite(t, tt.serve).adaptor(t)
			for _, size := range []int{1, 2, 5, 7} {
				if got, err := listed(t, a, tt.kind, size); err != nil || !slices.Equal(got, ids) {
					t.Errorf("pages of %d: %v, %v; want %v", size, got, err, ids)
				}
			}
		})
	}
}

// With pages of one row no other of the page is left to go on from; and a whole page may go away.
func TestPagingPastVanishedPages(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]map[int][]string{
		"one":           {3: {"b"}},
		"two in a row":  {3: {"a", "b"}},
		"all there was": {2: {"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ids, asked := []string{"a", "b", "c", "d"}, 0
			f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				ids = slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(gone[asked], id) })
				pages("servers", ids, func(q string) string { return fmt.Sprintf(`"servers_links": [{"rel": "next", "href": "?%s"}]`, q) })(w, r)
			})
			got, err := listed(t, f.adaptor(t), sites.Server, 1)
			if want := []string{"a", "b", "c", "d"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
		})
	}
}

// A site whose links lead back must not keep a poller for ever.
func TestPagingInACircle(t *testing.T) {
	t.Parallel()
	calls := 0
	f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		next := map[string]string{"": "a", "a": "b", "b": "a"}[r.URL.Query().Get("marker")]
		fmt.Fprintf(w, `{"servers": [{"id": %q}], "servers_links": [{"rel": "next", "href": "?marker=%s"}]}`, next, next)
	})
	_, err := listed(t, f.adaptor(t), sites.Server, 1)
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, errLoop) || calls != 3 {
		t.Errorf("got %v after %d calls, want Unavailable after 3", err, calls)
	}
}

// A service that heeds no offset answers its whole list each time; a list as long as a page would then never end.
func TestPagingWithoutOffsets(t *testing.T) {
	t.Parallel()
	calls := 0
	f := newFakeSite(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		fmt.Fprint(w, `{"server_groups": [{"id": "a"}, {"id": "b"}]}`)
	})
	_, err := listed(t, f.adaptor(t), sites.ServerGroup, 2)
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, errLoop) {
		t.Errorf("got %v after %d calls, want Unavailable", err, calls)
	}
}

// A row deleted between two pages moves those behind it up by one: none of them may be missed, none told twice.
func TestPagingByOffsetWhileRowsGoAway(t *testing.T) {
	t.Parallel()
	ids, asked := []string{"a", "b", "c", "d", "e"}, 0
	f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
		var offset, limit int
		_, _ = fmt.Sscan(r.URL.Query().Get("offset"), &offset)
		_, _ = fmt.Sscan(r.URL.Query().Get("limit"), &limit)
		if asked++; asked == 2 {
			ids = ids[1:]
		}
		var rows []string
		for _, id := range ids[min(offset, len(ids)):min(offset+limit, len(ids))] {
			rows = append(rows, fmt.Sprintf(`{"id": %q}`, id))
		}
		fmt.Fprintf(w, `{"server_groups": [%s]}`, strings.Join(rows, ","))
	})
	got, err := listed(t, f.adaptor(t), sites.ServerGroup, 2)
	if want := []string{"a", "b", "c", "d", "e"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

// The row that a page ended with may be deleted before the next page is asked for.
func TestPagingPastAVanishedMarker(t *testing.T) {
	t.Parallel()
	ids := []string{"a", "b", "c", "d", "e", "f"}
	asked := 0
	f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 2 {
			ids = []string{"a", "b", "d", "e", "f"} // c, the first page's last, went away
		}
		pages("servers", ids, func(q string) string { return fmt.Sprintf(`"servers_links": [{"rel": "next", "href": "?%s"}]`, q) })(w, r)
	})
	got, err := listed(t, f.adaptor(t), sites.Server, 3)
	if want := []string{"a", "b", "c", "d", "e", "f"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestListOfNonsense(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"no list": `{}`, "list of numbers": `{"servers": [1]}`, "row without id": `{"servers": [{}]}`, "null": `null`, "array": `[]`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeSite(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, body)
			})
			if _, err := listed(t, f.adaptor(t), sites.Server, 1); !fault.Is(err, fault.Unavailable) {
				t.Errorf("got %v, want Unavailable", err)
			}
		})
	}
}

// Ids beyond 2^53 and prices with many digits come through as they are.
func TestNumbersKeepTheirDigits(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"server": {"id": "7", "big": 12345678901234567890, "fine": 0.10000000000000000555, "new": {"x": null}}}`)
	})
	got, err := f.adaptor(t).Show(t.Context(), sites.Server, "7")
	if err != nil || fmt.Sprint(got.Body["big"]) != "12345678901234567890" || fmt.Sprint(got.Body["fine"]) != "0.10000000000000000555" || got.Body["new"] == nil {
		t.Errorf("got %v, %v", got.Body, err)
	}
}

func FuzzPage(f *testing.F) {
	for _, seed := range []string{`{"servers": [{"id": "a"}], "servers_links": [{"rel": "next", "href": "?marker=a"}]}`, `{"servers": [{"id": 3}]}`,
		`{"keypairs": [{"keypair": {"name": "k"}}], "next": "%zz"}`, `{"versions": [{"status": "CURRENT", "version": "2.93"}]}`, `{"version": {"id": 3}}`, `[]`, `{} x`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := decodeObject(raw)
		if err != nil {
			return
		}
		for kind, form := range forms {
			l := &listing{kind: kind, form: form, params: map[string][]string{}, size: 1}
			if rows, err := form.rows(body); err == nil {
				for _, row := range rows {
					_, _ = form.idOf(row), readFlavor(sites.Object{Body: row})
					for _, way := range []sites.Mark{sites.MarkTag, sites.MarkMetadata, sites.MarkDescription, sites.MarkName, sites.MarkProperty} {
						if carries(row, way, ident.TopID("never")) {
							t.Errorf("%v carries a marker", row)
						}
					}
				}
				if l.next(body, len(rows)) && form.paging == byLinks && l.params.Get("marker") == "" {
					t.Error("a next page without a marker")
				}
			}
		}
		w := readWindow(body)
		if w.max.less(version{}) {
			t.Errorf("window %v", w)
		}
	})
}
