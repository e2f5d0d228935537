package cascade

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Which look is older than a verb was told by the moments that two replicas took from their own clocks. With one of
// them minutes ahead, looks from before a reboot counted (a client that waited saw ACTIVE at once), or none counted
// until the other clock had come that far.
func TestReplicasClocksDiffer(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for _, tt := range []struct {
			name        string
			verb, looks time.Duration // how far ahead the clocks of the two replicas are
		}{
			{"the one that looks is ahead", 0, 5 * time.Minute},
			{"the one that looks is behind", 0, -5 * time.Minute},
			{"the one that acts is ahead", 5 * time.Minute, 0},
		} {
			row := r.create(sites.Server)
			r.run(0)
			acts := r.anotherAt(func() time.Time { return r.clock.now().Add(tt.verb) })
			looks := r.anotherAt(func() time.Time { return r.clock.now().Add(tt.looks) })
			at, err := looks.At(t.Context(), row, east)
			if err != nil {
				t.Fatal(err)
			}
			stale := r.row(row.ID)
			_, err = acts.Run(t.Context(), tenant, row.ID, Verb{
				Action: "server.reboot",
				Begin:  func(_ *Tx, r *index.Resource) error { r.Status = "REBOOT"; return nil },
				Call:   func(context.Context, At, ident.BottomID) (sites.Reply, error) { return sites.Reply{}, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := looks.Observe(t.Context(), stale, at, sites.Object{ID: "b", Began: looks.Now(), Body: sites.Body{"status": "ACTIVE"}})
			if err != nil || got.Status != "REBOOT" {
				t.Errorf("%s: a look from before the reboot made it %s, %v", tt.name, got.Status, err)
			}
			got, err = looks.Refresh(t.Context(), row, east, r.bound(row.ID).BottomID)
			if err != nil || got.Status != "ACTIVE" {
				t.Errorf("%s: after a look that began later: %s, %v", tt.name, got.Status, err)
			}
		}
	})
}

// A worker that claims a row while its delete commits read the row outside of any transaction: on PostgreSQL it could
// see the row as it was, while the delete saw no claim, and what was made belonged to nobody.
func TestDeleteMeetsClaim(t *testing.T) {
	t.Parallel()
	clock := &stepper{}
	r := newRig(t, dbtest.Postgres(t, clock.db.Option), clock) // SQLite has one writer at a time: the two cannot meet
	row := index.New(sites.SecurityGroup, tenant, "g")
	row.State = index.Live
	if err := r.Commit(t.Context(), tenant, "create", func(tx *Tx) error { return tx.Insert(row) }); err != nil {
		t.Fatal(err)
	}
	var meet sync.Once
	var madeErr error
	err := r.Commit(t.Context(), tenant, "delete", func(tx *Tx) error {
		now, err := tx.Load(row.ID)
		if err != nil {
			return err
		}
		if err := tx.Delete(now); err != nil { // it sees no binding and ends the row
			return err
		}
		var wg sync.WaitGroup
		wg.Go(func() { meet.Do(func() { _, madeErr = r.Ensure(t.Context(), east, row.ID) }) })
		wg.Wait()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.run(5 * time.Second)
	there, _ := r.site.count()
	if now := r.row(row.ID); now.State != index.Deleted || there != 0 || r.bound(row.ID) != nil {
		t.Errorf("row %s, %d at the site, binding %+v; making it ended with %v", now.State, there, r.bound(row.ID), madeErr)
	}
}
