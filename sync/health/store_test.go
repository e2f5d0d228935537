package health

import (
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func TestStore(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		s, ctx := store{db}, t.Context()
		err := db.Write(ctx, func(tx dbschema.Tx) error {
			for _, name := range []string{"east", "west"} {
				row := dbschema.Site{Name: name, CloudKey: name, Tenancy: "shared", State: "active", Credential: []byte{}, ProbedAt: now}
				if err := tx.Gorm().Create(&row).Error; err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second changes nothing
			if err := s.ensure(ctx, []ident.SiteID{"east", "west"}, now, now.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.ensure(ctx, []ident.SiteID{"nowhere"}, now, now); err == nil {
			t.Error("a row for a site that does not exist")
		}
		// Eight processes claim at once: each row goes to one of them.
		var wg sync.WaitGroup
		var mu sync.Mutex
		owners := map[string]string{}
		for range 8 {
			wg.Go(func() {
				token := ident.NewUUID()
				rows, err := s.claim(ctx, token, now, now.Add(lease), 1)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, r := range rows {
					if owners[r.Site] != "" {
						t.Errorf("%s was claimed twice", r.Site)
					}
					owners[r.Site] = token
				}
			})
		}
		wg.Wait()
		if len(owners) != 2 {
			t.Fatalf("claimed: %v", owners)
		}
		if due, err := s.due(ctx, now); err != nil || due {
			t.Errorf("due while claimed: %v, %v", due, err)
		}
		if due, err := s.due(ctx, now.Add(lease)); err != nil || !due {
			t.Errorf("due after the lease: %v, %v", due, err)
		}
		row := dbschema.SiteHealth{Site: "east", State: "down", Reason: "x", Since: now, CheckedAt: &now, ClaimToken: owners["east"],
			Run: 1, RunWorse: true, RunState: "down", RunReason: "y", NextCheckAt: now.Add(time.Minute), NextProbeAt: now.Add(time.Hour), Lost: "z"}
		if kept, err := s.finish(ctx, row); err != nil || !kept {
			t.Fatal(kept, err)
		}
		if kept, err := s.finish(ctx, row); err != nil || kept {
			t.Errorf("finish after the claim was given back = %v, %v", kept, err)
		}
		all, err := s.all(ctx)
		if err != nil || len(all) != 2 || all[0].State != "down" || !all[0].RunWorse || all[0].Lost != "z" || all[0].ClaimUntil != nil {
			t.Errorf("stored: %+v, %v", all, err)
		}
		if err := s.hasten(ctx, "east", now); err != nil {
			t.Fatal(err)
		}
		if rows, err := s.claim(ctx, "t", now, now.Add(lease), 5); err != nil || len(rows) != 1 || rows[0].Site != "east" {
			t.Errorf("after hasten: %+v, %v", rows, err)
		}
	})
}
