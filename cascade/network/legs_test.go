package network_test

import (
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A router's interface that was removed right after a floating IP behind it ended in an error: the delete of the floating IP
// had not reached the site, which refused the other, and that was taken for its last word.
func TestLegOutlivesFloatingIP(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	who := cascadetest.Member("p1")
	net := s.NewNetwork(t, who, "net", "10.1.0.0/24")
	subs, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.Subnet, Project: "p1"})
	if err != nil || len(subs) != 1 {
		t.Fatalf("subnets %v, %v", subs, err)
	}
	s.Boot(t, who, "web", s.NewImage(t, who, "img"), net)
	routers, err := s.Network.CreateRouters(t.Context(), who, []network.Fields{{"name": "r"}})
	if err != nil {
		t.Fatal(err)
	}
	leg, err := s.Network.AddLeg(t.Context(), who, string(routers[0].ID), network.Fields{"subnet_id": string(subs[0].ID)})
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "an interface at the site", func() (any, bool) {
		b, err := s.Core.Bindings.Get(t.Context(), leg.Port, "east")
		return b, err == nil && b.Known() && b.Generation > 0
	})
	_, err = s.Clouds["east"].Faults().Add(emulator.Fault{
		Service: "network", Method: "PUT", Path: `/remove_router_interface$`, Count: 2, Status: 409, Body: "required by one or more floating IPs",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Network.RemoveLeg(t.Context(), who, string(routers[0].ID), network.Fields{"subnet_id": string(subs[0].ID)}); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the end of the interface", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), leg.Port)
		if err == nil && r.State == index.Failed {
			t.Fatalf("the interface is %s: %+v", r.Status, r.Fault)
		}
		return r, fault.Is(err, fault.NotFound) || err == nil && r.State == index.Deleted
	})
}
