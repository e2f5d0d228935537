package index_test

import (
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// SQLite took the index that gives the order of a list, and read every port of the cloud to find one server's.
func TestPlansOfSQLite(t *testing.T) {
	t.Parallel()
	db, err := dbschema.Open(t.Context(), dbschema.Config{Driver: dbschema.SQLite, DSN: t.TempDir() + "/plans.db"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct{ query, index string }{
		{"SELECT * FROM resources WHERE kind = 'port' AND project_id <> '' AND device_id IN (?, ?) AND state NOT IN (?, ?) ORDER BY created_at ASC, id ASC", "resources_by_device"},
		{"SELECT * FROM resources WHERE kind = 'network' AND project_id IN (?, ?) AND name = ? AND state NOT IN (?, ?) ORDER BY created_at DESC, id DESC", "resources_by_name"},
		{"SELECT * FROM resources WHERE kind = 'server' AND project_id = ? AND state NOT IN (?, ?) ORDER BY created_at DESC, id DESC LIMIT 1000", "resources_by_project"},
		{"SELECT site, spec FROM resources WHERE kind = 'server' AND state = 'creating'", "resources_creating"},
		{"SELECT id FROM jobs WHERE state IN ('waiting', 'scheduled', 'available', 'running') AND substr(args, 1, 44) = ? LIMIT 1", "jobs_about"},
		{"SELECT id FROM jobs WHERE state IN ('waiting', 'scheduled', 'available', 'running') AND resource_id = ? LIMIT 1", "jobs_resource"},
		{"SELECT * FROM bindings WHERE site = ? AND kind = ? AND adopted = ? AND state = ? AND absent_at >= ? AND top_id > ? ORDER BY top_id LIMIT 500", "bindings_absent"},
		{"SELECT * FROM bindings WHERE site = ? AND kind = ? AND bottom_id > ? AND bottom_id <= ? ORDER BY bottom_id LIMIT 500", "bindings_in_order"},
	} {
		var plan []struct{ Detail string }
		args := make([]any, strings.Count(tt.query, "?"))
		for i := range args {
			args[i] = "x"
		}
		if err := db.Read(t.Context()).Raw("EXPLAIN QUERY PLAN "+tt.query, args...).Scan(&plan).Error; err != nil {
			t.Fatal(err)
		}
		if len(plan) == 0 || !strings.Contains(plan[0].Detail, tt.index) {
			t.Errorf("%s\nis planned as %v, want index %s", tt.query, plan, tt.index)
		}
	}
}

func TestPromisesAreWhatIsBeingMade(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := index.NewStore(db, time.Now)
		caller := sites.Caller{ProjectID: "p1"}
		err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			for _, one := range []struct {
				kind  sites.Kind
				site  ident.SiteID
				state index.State
			}{
				{sites.Server, "east", index.Creating}, {sites.Server, "west", index.Live}, {sites.Port, "west", index.Creating},
			} {
				r := index.New(one.kind, caller, "n")
				r.Site, r.State, r.Spec = one.site, one.state, []byte(`{"vcpus":3}`)
				if err := s.Insert(tx, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Promises(t.Context(), sites.Server)
		if err != nil || len(got) != 1 || got[0].Site != "east" || string(got[0].Spec) != `{"vcpus":3}` {
			t.Errorf("Promises = %+v, %v; want the one server that is being made at east", got, err)
		}
	})
}

// A list inside a transaction sees what the transaction wrote; bare rows are whole but for what was observed.
func TestListInAndBare(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := index.NewStore(db, time.Now)
		r := index.New(sites.Port, sites.Caller{ProjectID: "p1"}, "web")
		r.State, r.Spec, r.Observed = index.Live, []byte(`{"mac_address":"x"}`), sites.Body{"a": "b"}
		q := index.Query{Kind: sites.Port, Project: "p1", Bare: true}
		err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			if err := s.Insert(tx, r); err != nil {
				return err
			}
			got, err := s.ListIn(tx, q)
			if err == nil && len(got) != 1 {
				t.Errorf("a list in the transaction shows %d rows, want the new one", len(got))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.List(t.Context(), q)
		if err != nil || len(got) != 1 || got[0].Observed != nil || string(got[0].Spec) != string(r.Spec) || got[0].Name != "web" {
			t.Errorf("bare list: %+v, %v; want the row without what was observed", got, err)
		}
		names, err := s.Names(t.Context(), []ident.TopID{r.ID, "gone"})
		if err != nil || len(names) != 1 || names[r.ID] != "web" {
			t.Errorf("Names = %v, %v; want web alone", names, err)
		}
	})
}
