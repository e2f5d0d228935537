package jobs_test

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
)

type about struct {
	ID   string `json:"id"`
	Rest string `json:"rest"`
}

// Kind names the job.
func (about) Kind() string { return "about" }

// Whether a row has a job was found by reading every job that had not ended, for each of a site's thousands of rows in transition.
func TestBusy(t *testing.T) {
	t.Parallel()
	const id = "0f5a9f0e-65b1-4b3c-8d1e-000000000001"
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		insert := func(args jobs.Args, o jobs.Options) (made jobs.ID) {
			t.Helper()
			err := db.Write(t.Context(), func(tx dbschema.Tx) (err error) {
				made, err = jobs.Insert(t.Context(), tx, args, o)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return made
		}
		busy := func(resource string) (is bool, err error) {
			err = db.Write(t.Context(), func(tx dbschema.Tx) (err error) { is, err = jobs.Busy(tx, resource); return err })
			return is, err
		}
		check := func(when, resource string, want bool) {
			t.Helper()
			if got, err := busy(resource); err != nil || got != want {
				t.Errorf("%s: Busy(%s) = %v, %v; want %v", when, resource, got, err, want)
			}
			if len(resource) != len(id) {
				return
			}
			idle, err := jobs.NewStore(db).Idle(t.Context(), []string{"0f5a9f0e-65b1-4b3c-8d1e-00000000ffff", resource})
			if err != nil || len(idle) != map[bool]int{true: 1, false: 2}[want] {
				t.Errorf("%s: Idle = %v, %v", when, idle, err)
			}
		}
		check("no job", id, false)
		first := insert(about{ID: id, Rest: strings.Repeat("long ", 1000)}, jobs.Options{})
		check("named", id, true)
		check("named is a longer one", id[:35], false)
		check("named is a shorter one", id+"0", false)
		if err := jobs.NewStore(db).Cancel(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		check("ended", id, false)
		insert(about{ID: "m1-small"}, jobs.Options{})
		check("no UUID", "m1-small", true)
		insert(task{"x"}, jobs.Options{ResourceID: id})
		check("in its line", id, true)
		if _, err := busy(`"%`); err == nil {
			t.Error(`Busy("%) has no error`)
		}
	})
}
