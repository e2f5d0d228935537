package audit

import (
	"errors"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
)

// Events are there if and only if their transaction is; pages show each once, also those of one moment, within the filter; old ones go.
func TestEvents(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		now := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
		s := NewStore(db, func() time.Time { return now })
		ann := sites.Caller{UserID: "ann", UserName: "Ann", ProjectID: "p", RequestID: "req-1", RemoteAddr: "192.0.2.1", Pin: "east"}
		for i := range 25 {
			if i == 20 {
				now = now.Add(time.Hour)
			}
			for _, who := range []sites.Caller{ann, {UserID: "bob", ProjectID: "q"}} {
				if err := s.Append(t.Context(), By(who, "server.create", "s1")); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			return errors.Join(s.Record(tx, By(ann, "server.delete", "s1")), errors.New("it failed"))
		})
		if got, listErr := s.List(t.Context(), Filter{Action: "server.delete"}); err == nil || listErr != nil || len(got) != 0 {
			t.Errorf("a failed transaction left %+v, %v", got, listErr)
		}
		seen := map[string]bool{}
		f := Filter{UserID: "ann", Limit: 7}
		for {
			page, err := s.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				if seen[e.ID] || e.UserID != "ann" || e.UserName != "Ann" || e.Remote != "192.0.2.1" || e.Site != "east" || e.RequestID != "req-1" || e.Outcome != "accepted" {
					t.Errorf("event %+v, seen before: %t", e, seen[e.ID])
				}
				seen[e.ID] = true
			}
			f.Before = page[len(page)-1].ID
		}
		if len(seen) != 25 {
			t.Errorf("%d events in pages, want 25", len(seen))
		}
		if got, err := s.List(t.Context(), Filter{Since: now, Until: now.Add(time.Second)}); err != nil || len(got) != 10 || !got[0].At.Equal(now) {
			t.Errorf("of the last hour: %d, %v", len(got), err)
		}
		if n, err := s.Expire(t.Context(), time.Minute); err != nil || n != 40 {
			t.Errorf("Expire = %d, %v, want 40", n, err)
		}
	})
}
