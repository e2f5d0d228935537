package network_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A site that carries out each request once and loses its answer gets nothing twice, and its tenant notices nothing.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	s, list := emulated(t, "east")
	for _, path := range []string{"networks", "subnets", "ports", "routers", "floatingips", "security-groups", "security-group-rules"} {
		lose(t, list[0], "POST", "/v2.0/"+path+"$")
	}
	lose(t, list[0], "PUT", "/add_router_interface$")
	wholeLife(t, s, list[0])
}

func lose(t *testing.T, at *site, method, path string) {
	t.Helper()
	if _, err := at.cloud.Faults().Add(emulator.Fault{Service: "network", Method: method, Path: path, Count: 1, LostReply: true}); err != nil {
		t.Fatal(err)
	}
}

// While a site is down, what needs no site works, what needs it says so, and a
// delete that was accepted is carried out when it is back.
func TestSiteDown(t *testing.T) {
	t.Parallel()
	s, list := emulated(t, "east")
	external := text(s.items("networks?router:external=true")[0], "id")
	net := s.do(201, "POST", "/sites/east/network/v2.0/networks", object{"network": object{"name": "placed"}})
	there := func() int {
		found, err := list[0].member.FindMarked(t.Context(), sites.Network, ident.TopID(text(net, "id")))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net["id"], "ip_version": 4, "cidr": "10.1.0.0/24"}})
	port := s.do(201, "POST", "ports", object{"port": object{"network_id": net["id"]}})
	s.until("the port to be at the site", func() bool {
		found, err := list[0].member.FindMarked(t.Context(), sites.Port, ident.TopID(text(port, "id")))
		return err == nil && len(found) == 1 && there() == 1
	})
	list[0].cloud.Faults().Outage()
	other := s.do(201, "POST", "networks", object{"network": object{"name": "free"}})
	s.do(201, "POST", "subnets", object{"subnet": object{"network_id": other["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}})
	s.do(201, "POST", "ports", object{"port": object{"network_id": other["id"]}})
	if status, out := s.call("p1-member", "POST", "floatingips", object{"floatingip": object{"floating_network_id": external}}); status != 503 {
		t.Errorf("floating IP of a site that is down: %d %v, want 503", status, out)
	}
	s.do(204, "DELETE", "ports/"+text(port, "id"), nil)
	again := object{"port": object{"network_id": net["id"], "fixed_ips": []any{object{"ip_address": "10.1.0.2"}}}}
	s.refused(409, "IpAddressAlreadyAllocated", "POST", "ports", again) // the site still has it
	s.do(204, "DELETE", "networks/"+text(net, "id"), nil)
	if got := names(s.items("networks?name=placed&name=free")); got != "free" {
		t.Errorf("networks while the site is down: %s", got)
	}
	list[0].cloud.Faults().Recover()
	s.until("the delete to be carried out", func() bool { return there() == 0 })
}

// Many clients at once, on both databases: each port gets an address and a MAC of its own, and none fails.
func TestConcurrentPorts(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := newStackOn(t, db, network.Config{})
		net := s.do(201, "POST", "networks", object{"network": object{}})
		s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}})
		var mu sync.Mutex // guards the fields below
		seen := map[string]int{}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for range 8 {
					status, out := s.call("p1-member", "POST", "ports", object{"port": object{"network_id": net["id"]}})
					p, _ := out["port"].(object)
					mu.Lock()
					if status != 201 {
						t.Errorf("create port: %d %v", status, out)
					} else {
						seen[fmt.Sprint(p["fixed_ips"])]++
						seen[text(p, "mac_address")]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) != 2*48 {
			t.Errorf("%d different addresses and MACs of 48 ports", len(seen))
		}
	})
}

// A change that a site refuses stays noted at the resource until a later one is carried out.
func TestRefusedChange(t *testing.T) {
	t.Parallel()
	s, list := emulated(t, "east")
	net := text(s.do(201, "POST", "/sites/east/network/v2.0/networks", object{"network": object{"name": "n"}}), "id")
	live := func() bool {
		r, err := s.core.Index.Get(t.Context(), ident.TopID(net))
		return err == nil && r.Observed != nil
	}
	s.until("the network to be at the site", live)
	if _, err := list[0].cloud.Faults().Add(emulator.Fault{Service: "network", Method: "PUT", Status: 403, Count: 1}); err != nil {
		t.Fatal(err)
	}
	noted := func() bool {
		r, err := s.core.Index.Get(t.Context(), ident.TopID(net))
		return err == nil && r.Fault != nil && r.Fault.Code == 403 && r.Fault.Site == "east"
	}
	s.do(200, "PUT", "networks/"+net, object{"network": object{"name": "m"}})
	s.until("the refusal to be noted", noted)
	if f, _ := s.do(200, "GET", "networks/"+net, nil)["headwater:fault"].(object); f["site"] != "east" || f["code"] != 403.0 {
		t.Errorf("the refusal shows as %v", f)
	}
	s.do(200, "PUT", "networks/"+net, object{"network": object{"name": "o"}})
	s.until("the change to be carried out", func() bool { return !noted() })
}

// A gateway that a site refuses leaves the router as it was, with legs that work.
func TestRefusedGateway(t *testing.T) {
	t.Parallel()
	s, _ := emulated(t, "east")
	external := text(s.items("networks?router:external=true")[0], "id")
	net := s.do(201, "POST", "networks", object{"network": object{}})
	sub := s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}})
	router := text(s.do(201, "POST", "routers", object{"router": object{}}), "id")
	leg := text(s.do(200, "PUT", "routers/"+router+"/add_router_interface", object{"subnet_id": sub["id"]}), "port_id")
	refused := object{"network_id": external, "external_fixed_ips": []any{object{"ip_address": "203.0.113.9"}}}
	if status, out := s.call("p1-member", "PUT", "routers/"+router, object{"router": object{"external_gateway_info": refused}}); status < 400 || status >= 500 {
		t.Fatalf("a gateway address that the site does not give: %d %v", status, out)
	}
	if r := s.do(200, "GET", "routers/"+router, nil); r["external_gateway_info"] != nil || r["status"] != "ACTIVE" {
		t.Errorf("router after the refusal: %v", r)
	}
	r := s.do(200, "PUT", "routers/"+router, object{"router": object{"external_gateway_info": object{"network_id": external}}})
	if r["external_gateway_info"] == nil {
		t.Errorf("router with a gateway that is given: %v", r)
	}
	s.until("the leg to be made", func() bool {
		p, err := s.core.Index.Get(t.Context(), ident.TopID(leg))
		return err == nil && p.Observed != nil && p.Status != "ERROR"
	})
}
