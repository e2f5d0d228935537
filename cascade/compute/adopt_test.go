package compute_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// capabilities returns a copy of what a site was found to offer.
func capabilities(t *testing.T, s *cascadetest.Stack, site ident.SiteID) sites.Capabilities {
	t.Helper()
	found, err := s.Registry.Site(t.Context(), site)
	if err != nil {
		t.Fatal(err)
	}
	return *found.Capabilities
}

// Two sites are adopted at the same time as a rule: both are added, and polled side by side. Each read what the
// other's transaction had not shown yet, so that flavors of equal size became two at Top.
func TestFlavorsOfTwoSitesAtOnce(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites(), cascadetest.Idle())
	for round := range 10 {
		var wg sync.WaitGroup
		for _, site := range twoSites() {
			caps := capabilities(t, s, site)
			caps.Flavors = append(caps.Flavors[:len(caps.Flavors):len(caps.Flavors)], sites.FlavorInfo{
				ID: ident.BottomID(fmt.Sprintf("%s-%d", site, round)), Name: "new", VCPUs: 7, RAM: 1000 + round, Disk: 1, RxTxFactor: 1, Public: true,
			})
			wg.Go(func() {
				if err := s.Compute.AdoptSite(t.Context(), site, caps); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := s.Compute.Flavors(t.Context(), cascadetest.Member("p1"), compute.FlavorQuery{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range list {
			if f.Spec.RAM == int64(1000+round) {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("a flavor that both sites have is at Top %d times, want once", n)
		}
	}
}

// A flavor that was mapped onto one of the site, for a server that needed it, stays mapped when the site is probed
// again, also when another flavor of Top stands for the same: a server that was just being made ended in error.
func TestMappedFlavorStaysMapped(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east(), cascadetest.Idle())
	there := s.Flavor(t)
	twin, err := s.Compute.CreateFlavor(t.Context(), cascadetest.Admin(), "twin", "twin", "", there.Spec)
	if err != nil {
		t.Fatal(err)
	}
	bottom, err := s.Core.Ensure(t.Context(), "east", twin.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Compute.AdoptSite(t.Context(), "east", capabilities(t, s, "east")); err != nil {
		t.Fatal(err)
	}
	b, err := s.Core.Bindings.Get(t.Context(), twin.ID, "east")
	if err != nil || !b.Known() || b.BottomID != bottom {
		t.Errorf("after a probe the flavor is bound as %+v, %v; want to %s as before", b, err, bottom)
	}
}
