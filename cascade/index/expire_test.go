package index

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
)

// Rows of what was deleted went on for ever; what lives, and what was deleted lately, must stay.
func TestExpire(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		now := time.Now()
		s := NewStore(db, func() time.Time { return now })
		long, lately, live := New(sites.Server, sites.Caller{ProjectID: "p"}, "long"), New(sites.Server, sites.Caller{ProjectID: "p"}, "lately"), New(sites.Server, sites.Caller{ProjectID: "p"}, "live")
		long.State, long.DeletedAt = Deleted, now.Add(-KeepDeleted-time.Hour)
		lately.State, lately.DeletedAt = Deleted, now.Add(-time.Hour)
		live.State = Live
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Insert(tx, long, lately, live) }); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Expire(t.Context(), KeepDeleted); n != 1 || err != nil {
			t.Errorf("Expire = %d, %v, want 1", n, err)
		}
		left, err := s.List(t.Context(), Query{Kind: sites.Server, Project: "p", Deleted: true})
		if err != nil || len(left) != 2 {
			t.Errorf("%d rows are left, %v, want those of lately and live", len(left), err)
		}
	})
}
