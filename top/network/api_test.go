package network_test

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// emulated is a stack over emulated sites.
func emulated(t testing.TB, names ...string) (*stack, []*site) {
	t.Helper()
	list := clouds(t, names...)
	return newStack(t, list...), list
}

func clouds(t testing.TB, names ...string) []*site {
	t.Helper()
	var list []*site
	for _, name := range names {
		cloud := emulator.New(emulator.Default(name))
		srv := httptest.NewServer(cloud)
		t.Cleanup(srv.Close)
		one := accounts(t, ident.SiteID(name), name, srv.URL+"/identity/v3")
		one.cloud = cloud
		list = append(list, one)
	}
	return list
}

// On the emulator as on a real region, on both databases.
func TestWholeLife(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		list := clouds(t, "east")
		wholeLife(t, newStackOn(t, db, network.Config{}, list...), list[0])
	})
}

// The sites' external networks of one name are one network, with each site's own
// subnets; a pinned caller sees its site's.
func TestExternalNetworks(t *testing.T) {
	t.Parallel()
	s, _ := emulated(t, "east", "west")
	nets := s.items("networks?router:external=true")
	if len(nets) != 1 || len(nets[0]["subnets"].([]any)) != 2 {
		t.Fatalf("external networks %v; want one with two subnets", nets)
	}
	if n := len(s.items("/sites/west/network/v2.0/networks?router:external=true")[0]["subnets"].([]any)); n != 1 {
		t.Errorf("%d subnets in region west, want one", n)
	}
	s.refused(403, "PolicyNotAuthorized", "DELETE", "networks/"+text(nets[0], "id"), nil)
	s.refused(403, "HTTPForbidden", "POST", "ports", object{"port": object{"network_id": nets[0]["id"]}})
	s.refused(403, "PolicyNotAuthorized", "POST", "subnets", object{"subnet": object{"network_id": nets[0]["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}})
}

// A region places what is made in it; what lives at one site cannot be joined with what lives at another.
func TestTwoSites(t *testing.T) {
	t.Parallel()
	s, _ := emulated(t, "east", "west")
	east := s.do(201, "POST", "/sites/east/network/v2.0/networks", object{"network": object{"name": "e"}})
	west := s.do(201, "POST", "networks", object{"network": object{"name": "w", "availability_zone_hints": []any{"west"}}})
	if z := east["availability_zones"].([]any); len(z) != 1 || z[0] != "east" {
		t.Errorf("network of region east is in %v", z)
	}
	var subs []object
	for i, n := range []object{east, west} {
		subs = append(subs, s.do(201, "POST", "subnets", object{"subnet": object{"network_id": n["id"], "ip_version": 4, "cidr": fmt.Sprintf("10.%d.0.0/24", i)}}))
	}
	router := text(s.do(201, "POST", "routers", object{"router": object{}}), "id")
	s.do(200, "PUT", "routers/"+router+"/add_router_interface", object{"subnet_id": subs[0]["id"]})
	s.refused(409, "Conflict", "PUT", "routers/"+router+"/add_router_interface", object{"subnet_id": subs[1]["id"]})
	if got, _ := s.call("p1-member", "GET", "/sites/west/network/v2.0/networks/"+text(east, "id"), nil); got != 404 {
		t.Errorf("network of east in region west: %d, want 404", got)
	}
	s.refused(404, "AvailabilityZoneNotFound", "POST", "networks", object{"network": object{"availability_zone_hints": []any{"north"}}})
}

// A site's refusal of a synchronous create is the tenant's answer, and leaves nothing.
func TestRefusedBySite(t *testing.T) {
	t.Parallel()
	s, _ := emulated(t, "east")
	external := text(s.items("networks?router:external=true")[0], "id")
	status, out := s.call("p1-admin", "POST", "floatingips", object{"floatingip": object{"floating_network_id": external, "floating_ip_address": "203.0.113.9"}})
	if status < 400 || status >= 500 {
		t.Errorf("an address that the site does not have: %d %v", status, out)
	}
	if left := s.items("floatingips"); len(left) != 0 {
		t.Errorf("floating IPs after the refusal: %v", left)
	}
}

// What a site keeps for itself of a subnet is enlarged when its own ports need more.
func TestSliceIsEnlarged(t *testing.T) {
	t.Parallel()
	list := clouds(t, "east")
	s := newStackOf(t, network.Config{Slice: 2}, list...)
	net := s.do(201, "POST", "/sites/east/network/v2.0/networks", object{"network": object{}})
	sub := s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}})
	pools := func() string {
		found, err := list[0].member.FindMarked(t.Context(), sites.Subnet, ident.TopID(text(sub, "id")))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			return "none"
		}
		return fmt.Sprint(found[0].Body["allocation_pools"])
	}
	s.until("the subnet to be at the site", func() bool { return pools() == "[map[end:10.0.0.254 start:10.0.0.253]]" })
	s.until("the site's own port", func() bool {
		n := 0
		err := list[0].member.List(t.Context(), sites.Port, sites.Query{Params: url.Values{"device_owner": {"network:dhcp"}}}, func(sites.Object) error { n++; return nil })
		return err == nil && n > 0
	})
	for range 2 {
		if err := s.service.AdoptSite(t.Context(), "east", list[0].caps); err != nil {
			t.Fatal(err)
		}
		if got := pools(); got != "[map[end:10.0.0.254 start:10.0.0.251]]" {
			t.Errorf("pools at the site: %s, want two addresses more", got)
		}
	}
}

// What a site no longer has, or a site that is gone, takes its part of the external network along; in the end the network goes.
func TestExternalNetworksVanish(t *testing.T) {
	t.Parallel()
	s, list := emulated(t, "east", "west")
	subnets := func() int {
		nets := s.items("networks?router:external=true")
		if len(nets) == 0 {
			return -1
		}
		return len(nets[0]["subnets"].([]any))
	}
	if err := list[1].admin.Delete(t.Context(), sites.Network, list[1].caps.ExternalNetworks[0].ID); err != nil {
		t.Fatal(err)
	}
	none := list[1].caps
	look := func(want int, when string) {
		t.Helper()
		for range 2 { // again with the same probe: that is no second look
			if err := s.service.AdoptSite(t.Context(), "west", none); err != nil {
				t.Fatal(err)
			}
		}
		if n := subnets(); n != want {
			t.Errorf("%d subnets %s, want %d", n, when, want)
		}
	}
	none.ExternalNetworks, none.ProbedAt = nil, none.ProbedAt.Add(time.Minute)
	look(2, "after a first look that misses west's network")
	none.ProbedAt = none.ProbedAt.Add(time.Minute)
	look(1, "after a second look")
	err := s.core.DB.Write(t.Context(), func(tx dbschema.Tx) error {
		return cascade.NewSiteRemover(s.core).Forget(t.Context(), tx, "east")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.service.AdoptSite(t.Context(), "west", none); err != nil {
		t.Fatal(err)
	}
	if n := subnets(); n != -1 {
		t.Errorf("the external network of no site has %d subnets", n)
	}
	if err := s.service.AdoptSite(t.Context(), "east", list[0].caps); err != nil {
		t.Fatal(err)
	}
	if n := subnets(); n != 1 {
		t.Errorf("%d subnets after east came back", n)
	}
}

// A port that is at its site already can become a router's leg, as Terraform does it.
func TestPortBecomesLeg(t *testing.T) {
	t.Parallel()
	s, list := emulated(t, "east")
	net := s.do(201, "POST", "/sites/east/network/v2.0/networks", object{"network": object{}})
	s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.9"}})
	port := text(s.do(201, "POST", "ports", object{"port": object{"network_id": net["id"], "fixed_ips": []any{object{"ip_address": "10.0.0.9"}}}}), "id")
	there := func() sites.Object {
		found, err := list[0].member.FindMarked(t.Context(), sites.Port, ident.TopID(port))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			return sites.Object{}
		}
		return found[0]
	}
	s.until("the port to be at the site", func() bool { return there().ID != "" })
	router := text(s.do(201, "POST", "routers", object{"router": object{}}), "id")
	s.do(200, "PUT", "routers/"+router+"/add_router_interface", object{"port_id": port})
	s.until("the port to be a leg", func() bool { return there().Text("device_owner") == "network:router_interface" })
	s.do(200, "PUT", "ports/"+port, object{"port": object{"name": "leg"}})
	s.until("the leg to have its name", func() bool { return there().Text("name") == "leg" })
	s.do(200, "PUT", "routers/"+router+"/remove_router_interface", object{"port_id": port})
	s.until("the leg to be gone", func() bool { return there().ID == "" })
}
