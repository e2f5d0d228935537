package quota

import (
	"errors"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// However many ask at once, no more is given than the limit, and all of it; what is given back can be had again.
func TestReserveAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := NewStore(db)
		reserve := func(need map[string]int64) error {
			return db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Reserve(tx, "p", need) })
		}
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			return s.SetLimits(tx, "p", map[string]int64{"instances": 7, "ram": -1})
		}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		given := 0
		for range 30 {
			all.Go(func() {
				err := reserve(map[string]int64{"instances": 1, "ram": 1 << 30})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					given++
				} else if !fault.Is(err, fault.OverQuota) {
					t.Errorf("Reserve = %v", err)
				}
			})
		}
		all.Wait()
		f, err := s.Figures(t.Context(), "p")
		if err != nil || given != 7 || f["instances"] != (Figure{Limit: 7, Used: 7}) || f["ram"] != (Figure{Limit: -1, Used: 7 << 30}) {
			t.Errorf("given %d, figures %+v %+v, %v", given, f["instances"], f["ram"], err)
		}
		var over *OverQuota
		if err := reserve(map[string]int64{"instances": 2}); !errors.As(err, &over) || over.Resource != "instances" || over.Used != 7 || over.Limit != 7 || over.Requested != 2 {
			t.Errorf("Reserve = %+v", over)
		}
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Release(tx, "p", map[string]int64{"instances": 1}) }); err != nil {
			t.Fatal(err)
		}
		if err := reserve(map[string]int64{"instances": 1}); err != nil {
			t.Errorf("after a release: %v", err)
		}
	})
}

// Each service has words of its own for a limit, and clients look into them: Tempest's quota tests want Neutron's.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ resource, want string }{
		{"network", "Quota exceeded for resources: ['network']."},
		{"gigabytes", "Requested volume or snapshot exceeds allowed gigabytes quota. Requested 3G, quota is 10G and 9G has been consumed."},
		{"volumes", "Maximum number of volumes allowed (10) exceeded for quota 'volumes'."},
		{"snapshots", "Maximum number of snapshots allowed (10) exceeded"},
		{"cores", "Quota exceeded for cores: Requested 3, but already used 9 of 10 cores"},
	} {
		if got := (&OverQuota{Resource: tt.resource, Requested: 3, Used: 9, Limit: 10}).Error(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.resource, got, tt.want)
		}
	}
}
