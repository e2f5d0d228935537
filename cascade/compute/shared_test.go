package compute_test

import (
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A server of one project boots on a network that an administrator shared at Top: at the site, where each
// project has its own account, the network is shared with that project, and the port is the project's own.
func TestBootOnSharedNetwork(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	nets, err := s.Network.CreateNetworks(t.Context(), cascadetest.Admin(), []network.Fields{{"name": "common", "shared": true}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Network.CreateSubnets(t.Context(), cascadetest.Admin(), []network.Fields{{"network_id": string(nets[0].ID), "ip_version": 4, "cidr": "10.1.0.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), nets[0])
	if usable, err := s.Network.Usable(t.Context(), who); err != nil || len(usable) != 1 {
		t.Errorf("networks that a server may use unnamed: %v, %v; want the shared one", usable, err)
	}
	member, err := s.Registry.Tenant(t.Context(), "east", "p1")
	if err != nil {
		t.Fatal(err)
	}
	ports, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.Port, Project: "p1"})
	if err != nil || len(ports) != 1 || ports[0].DeviceID != one.ID {
		t.Fatalf("ports of the project: %v, %v", ports, err)
	}
	found, err := member.FindMarked(t.Context(), sites.Port, ports[0].ID)
	if err != nil || len(found) != 1 {
		t.Fatalf("the port is not the project's own at the site: %v, %v", found, err)
	}
	account, err := member.Account(t.Context())
	if err != nil || found[0].Text("project_id") != account.ProjectID {
		t.Errorf("the port belongs to project %s of the site, want %s (%v)", found[0].Text("project_id"), account.ProjectID, err)
	}
	if _, err := member.Show(t.Context(), sites.Network, bottom(t, s, nets[0].ID)); err != nil {
		t.Errorf("the project does not see the network at the site: %v", err)
	}
	if _, err := s.Network.UpdatePort(t.Context(), who, network.Change{ID: string(ports[0].ID), Fields: network.Fields{"name": "renamed"}}); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the port's new name at the site", func() (any, bool) {
		now, err := member.Show(t.Context(), sites.Port, found[0].ID)
		return now.Text("name"), err == nil && now.Text("name") == "renamed"
	})
}

func bottom(t *testing.T, s *cascadetest.Stack, id ident.TopID) ident.BottomID {
	t.Helper()
	b, err := s.Core.Bindings.Get(t.Context(), id, "east")
	if err != nil || !b.Known() {
		t.Fatalf("%s is not at the site: %v", id, err)
	}
	return b.BottomID
}

// A bug: a project that used an external network of a site's was given it as a shared one, and could then boot
// servers on it past Top.
func TestSitesNetworksStayTheirs(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	nets, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.Network, Shared: true, Match: func(r *index.Resource) bool { return r.Name == "public" }})
	if err != nil || len(nets) != 1 {
		t.Fatalf("external networks: %v, %v", nets, err)
	}
	gateway := network.Fields{"name": "r", "external_gateway_info": map[string]any{"network_id": string(nets[0].ID)}}
	if _, err := s.Network.CreateRouters(t.Context(), who, []network.Fields{gateway}); err != nil {
		t.Fatal(err)
	}
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	reply, err := admin.Do(t.Context(), sites.Request{Service: sites.NetworkSvc, Method: "GET", Path: "rbac-policies"})
	if list, _ := reply.Body["rbac_policies"].([]any); err != nil || len(list) != 0 {
		t.Errorf("the site shares networks with single projects: %v, %v", list, err)
	}
}
