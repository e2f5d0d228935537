package inventory_test

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// What only administrators see of a volume (its host) came with its first change after it was made; one that rested
// never showed it.
func TestAdministratorsSeeWhatRests(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	r, err := s.Volume.Create(t.Context(), cascadetest.Member("p1"), volume.CreateRequest{Name: "rests", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "an available volume", func() (any, bool) {
		got, err := s.Core.Index.Get(t.Context(), r.ID)
		return got, err == nil && got.Status == "available"
	})
	newPoller(s, time.Now).must(t, "east", true)
	got, err := s.Core.Index.Get(t.Context(), r.ID)
	if err != nil || got.ObservedAdmin["os-vol-host-attr:host"] == nil {
		t.Errorf("for administrators: %v, %v", got.ObservedAdmin, err)
	}
}
