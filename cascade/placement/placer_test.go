package placement_test

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// At a site of tenancy static a project that was given no account was accepted, and what it asked for failed a moment later.
func TestNoAccountThere(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.As(sites.TenancyStatic))
	pinned := cascadetest.Member("acme")
	pinned.Pin = "east"
	_, err := s.Network.CreateNetworks(t.Context(), pinned, []network.Fields{{"name": "net"}})
	if said := fault.Message(err); !fault.Is(err, fault.Conflict) || !strings.Contains(said, "Site east") || !strings.Contains(said, "site project set") {
		t.Errorf("without an account: %v; want a conflict that names the site and what the operator must do", err)
	}
	s.GiveAccount(t, "east", "acme")
	if _, err := s.Network.CreateNetworks(t.Context(), pinned, []network.Fields{{"name": "net"}}); err != nil {
		t.Errorf("with an account: %v", err)
	}
}
