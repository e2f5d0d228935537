package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func member(project string) sites.Caller {
	return sites.Caller{UserID: "u-" + project, ProjectID: project, Roles: []string{"member"}}
}

func insert(t *testing.T, db *dbschema.DB, s *Store, rows ...*Resource) {
	t.Helper()
	if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Insert(tx, rows...) }); err != nil {
		t.Fatal(err)
	}
}

// Pages by marker show each row once, in order, also where the sort key is the same for many, and read filters with an OR in them as one.
func TestPages(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := NewStore(db, time.Now)
		at := Stamp(time.Now())
		var all []*Resource
		for i := range 40 {
			r := New(sites.Server, member("p"), fmt.Sprintf("n%d", i%3))
			r.CreatedAt, r.State, r.Status = at.Add(time.Duration(i%4)*time.Second), Live, "ACTIVE"
			other := New(sites.Server, member("q"), "n0")
			insert(t, db, s, r, other)
			all = append(all, r)
		}
		for _, sort := range [][]Sort{nil, {{ByName, false}}, {{ByName, true}, {ByCreated, false}}, {{ByCreated, false}, {ByName, true}}, {{ByID, true}}} {
			q := Query{Kind: sites.Server, Project: "p", Sort: sort}
			whole, err := s.List(t.Context(), q)
			if err != nil || len(whole) != len(all) {
				t.Fatalf("%v: %d rows, %v", sort, len(whole), err)
			}
			var paged []*Resource
			for q.Limit = 1 + rand.IntN(9); ; q.Marker = paged[len(paged)-1].ID {
				page, err := s.List(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				paged = append(paged, page...)
			}
			same := slices.EqualFunc(whole, paged, func(a, b *Resource) bool { return a.ID == b.ID })
			if !same {
				t.Errorf("%v in pages of %d: %d rows, want the same %d in the same order", sort, q.Limit, len(paged), len(whole))
			}
		}
	})
}

// A caller finds what is its own, by Top's id or the site's, and nothing else; names that no database keeps find nothing.
func TestFind(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := NewStore(db, time.Now)
		r := New(sites.Server, member("p"), "n")
		r.State, r.Site = Live, "east"
		gone := New(sites.Server, member("p"), "gone")
		gone.State = Deleted
		insert(t, db, s, r, gone)
		now := Stamp(time.Now())
		err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			return tx.Gorm().Create(&dbschema.Binding{TopID: string(r.ID), Site: "east", Kind: "server", BottomID: "bottom-1", State: "bound", CreatedAt: now, UpdatedAt: now}).Error
		})
		if err != nil {
			t.Fatal(err)
		}
		pinned := member("p")
		pinned.Pin = "west"
		admin := sites.Caller{ProjectID: "q", Roles: []string{"admin"}}
		for _, tt := range []struct {
			name  string
			who   sites.Caller
			kind  sites.Kind
			id    string
			found bool
		}{
			{"own", member("p"), sites.Server, string(r.ID), true},
			{"own, by the site's id", member("p"), sites.Server, "bottom-1", true},
			{"another project's", member("q"), sites.Server, string(r.ID), false},
			{"another project's, by the site's id", member("q"), sites.Server, "bottom-1", false},
			{"another kind", member("p"), sites.Volume, string(r.ID), false},
			{"pinned to another site", pinned, sites.Server, string(r.ID), false},
			{"deleted", member("p"), sites.Server, string(gone.ID), false},
			{"the administrator", admin, sites.Server, string(r.ID), true},
			{"no project", sites.Caller{}, sites.Server, string(r.ID), false},
			{"NUL", member("p"), sites.Server, "a\x00", false}, // was an internal error on PostgreSQL
			{"no UTF-8", member("p"), sites.Server, "\xff", false},
		} {
			got, err := s.Find(t.Context(), tt.who, tt.kind, tt.id)
			if (err == nil) != tt.found || err != nil && !fault.Is(err, fault.NotFound) || err == nil && got.ID != r.ID {
				t.Errorf("%s: %v, %v", tt.name, got, err)
			}
		}
	})
}

// A name with a NUL is the tenant's mistake on both databases; PostgreSQL made it an internal error, SQLite kept it.
func TestUnstorable(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := NewStore(db, time.Now)
		for _, name := range []string{"a\x00b", "\xff"} {
			err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Insert(tx, New(sites.Volume, member("p"), name)) })
			if !fault.Is(err, fault.BadRequest) {
				t.Errorf("insert %q: %v", name, err)
			}
			got, err := s.List(t.Context(), Query{Kind: sites.Volume, Project: "p", In: map[Field][]string{ByName: {name}}})
			if err != nil || len(got) != 0 {
				t.Errorf("list of %q: %v, %v", name, got, err)
			}
			if _, err := s.List(t.Context(), Query{Kind: sites.Volume, Project: "p", Marker: ident.TopID(name)}); !fault.Is(err, fault.BadRequest) {
				t.Errorf("marker %q: %v", name, err)
			}
		}
	})
}

// Of two that read a row, the second to write it is told.
func TestStaleSave(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := NewStore(db, time.Now)
		r := New(sites.Volume, member("p"), "n")
		insert(t, db, s, r)
		one, two := *r, *r
		save := func(r *Resource) error {
			return db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Save(tx, r) })
		}
		one.Name = "one"
		if err := save(&one); err != nil {
			t.Fatal(err)
		}
		two.Name = "two"
		if err := save(&two); !fault.Is(err, fault.Conflict) {
			t.Errorf("the second save = %v, want a Conflict", err)
		}
		if got, err := s.Get(t.Context(), r.ID); err != nil || got.Name != "one" {
			t.Errorf("row = %v, %v", got, err)
		}
	})
}
