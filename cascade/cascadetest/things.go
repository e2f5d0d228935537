package cascadetest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// NewImage records an active image of the caller's, with a few bytes at the site where placement puts it.
func (s *Stack) NewImage(t testing.TB, caller sites.Caller, name string) *index.Resource {
	t.Helper()
	r, err := s.Image.Create(t.Context(), caller, "", name, image.Private, image.Spec{DiskFormat: "raw", ContainerFormat: "bare"})
	must(t, err)
	const bytes = "not really a disk"
	must(t, s.Image.Upload(t.Context(), caller, r.ID, strings.NewReader(bytes), int64(len(bytes))))
	r, err = s.Core.Index.Get(t.Context(), r.ID)
	must(t, err)
	return r
}

// NewNetwork records a network of the caller's with one subnet of the given CIDR.
func (s *Stack) NewNetwork(t testing.TB, caller sites.Caller, name, cidr string) *index.Resource {
	t.Helper()
	nets, err := s.Network.CreateNetworks(t.Context(), caller, []network.Fields{{"name": name}})
	must(t, err)
	_, err = s.Network.CreateSubnets(t.Context(), caller, []network.Fields{{
		"name": name, "network_id": string(nets[0].ID), "cidr": cidr, "ip_version": json.Number("4"),
	}})
	must(t, err)
	return nets[0]
}

// Flavor returns the smallest flavor.
func (s *Stack) Flavor(t testing.TB) *compute.Flavor {
	t.Helper()
	list, err := s.Compute.Flavors(t.Context(), Admin(), compute.FlavorQuery{})
	must(t, err)
	if len(list) == 0 {
		t.Fatal("no site has a flavor")
	}
	least := list[0]
	for _, f := range list {
		if f.Spec.RAM < least.Spec.RAM {
			least = f
		}
	}
	return least
}

// Boot records one server of the caller's on the network, by the image, and waits until it is ACTIVE.
func (s *Stack) Boot(t testing.TB, caller sites.Caller, name string, img, net *index.Resource) *compute.Server {
	t.Helper()
	made, err := s.Compute.CreateServers(t.Context(), caller, compute.CreateRequest{
		Name: name, Image: string(img.ID), Flavor: string(s.Flavor(t).ID), NetworkMode: "list",
		Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 1, Max: 1,
	})
	must(t, err)
	return s.Await(t, caller, made[0].ID, "ACTIVE")
}

// Await waits until a server has the status and no task.
func (s *Stack) Await(t testing.TB, caller sites.Caller, id ident.TopID, status string) *compute.Server {
	t.Helper()
	var one *compute.Server
	Until(t, "server in status "+status, func() (any, bool) {
		var err error
		one, err = s.Compute.Server(t.Context(), caller, string(id))
		must(t, err)
		return []any{one.Status, one.TaskState, one.State, one.Fault}, one.Status == status && one.TaskState == ""
	})
	return one
}
