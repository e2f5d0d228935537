package compute_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/aggregates"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/attachinterfaces"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/hypervisors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/instanceactions"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/remoteconsoles"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/usage"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// client is gophercloud, unmodified, as it talks to Nova.
func client(a *api, srv *httptest.Server, token, microversion string) *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{TokenID: token}, Endpoint: srv.URL + "/compute/v2.1/", Type: "compute", Microversion: microversion,
	}
}

// gophercloud accepts for each call only the codes that Nova answers, and decodes each body into its own types.
func TestGophercloudServers(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	srv := httptest.NewServer(a.echo)
	t.Cleanup(srv.Close)
	who := cascadetest.Member("p1")
	img, net, flavor := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"), s.Flavor(t)
	ctx, c := t.Context(), client(a, srv, "member:p1", "2.90")
	key, err := keypairs.Create(ctx, c, keypairs.CreateOpts{Name: "k"}).Extract()
	if err != nil || key.PrivateKey == "" {
		t.Fatalf("keypair: %+v, %v", key, err)
	}
	grp, err := servergroups.Create(ctx, c, servergroups.CreateOpts{Name: "g", Policy: "soft-anti-affinity"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	made, err := servers.Create(ctx, c, keypairs.CreateOptsExt{CreateOptsBuilder: servers.CreateOpts{
		Name: "web", ImageRef: string(img.ID), FlavorRef: string(flavor.ID), Networks: []servers.Network{{UUID: string(net.ID)}},
		Metadata: map[string]string{"a": "b"}, Tags: []string{"t1"}, UserData: []byte("#!/bin/sh"), ConfigDrive: &yes, SecurityGroups: []string{"default"},
	}, KeyName: "k"}, servers.SchedulerHintOpts{Group: grp.ID}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	await := func(status string) { t.Helper(); s.Await(t, who, ident.TopID(made.ID), status) }
	await("ACTIVE")
	got, err := servers.Get(ctx, c, made.ID).Extract()
	if err != nil || got.Name != "web" || got.KeyName != "k" || len(*got.Tags) != 1 || got.Metadata["a"] != "b" || len(*got.ServerGroups) != 1 {
		t.Errorf("get: %+v, %v", got, err)
	}
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = servers.Update(ctx, c, made.ID, servers.UpdateOpts{Name: "web2"}).Extract()
	check("update", err)
	_, err = servers.UpdateMetadata(ctx, c, made.ID, servers.MetadataOpts{"c": "d"}).Extract()
	check("metadata", err)
	_, err = servers.CreateMetadatum(ctx, c, made.ID, servers.MetadatumOpts{"e": "f"}).Extract()
	check("metadatum", err)
	check("delete metadatum", servers.DeleteMetadatum(ctx, c, made.ID, "e").ExtractErr())
	check("tag", tags.Add(ctx, c, made.ID, "t2").ExtractErr())
	_, err = tags.ReplaceAll(ctx, c, made.ID, tags.ReplaceAllOpts{Tags: []string{"t3"}}).Extract()
	check("tags", err)
	check("stop", servers.Stop(ctx, c, made.ID).ExtractErr())
	await("SHUTOFF")
	check("start", servers.Start(ctx, c, made.ID).ExtractErr())
	await("ACTIVE")
	check("reboot", servers.Reboot(ctx, c, made.ID, servers.RebootOpts{Type: servers.HardReboot}).ExtractErr())
	await("ACTIVE")
	check("suspend", servers.Suspend(ctx, c, made.ID).ExtractErr())
	await("SUSPENDED")
	check("resume", servers.Resume(ctx, c, made.ID).ExtractErr())
	await("ACTIVE")
	_, err = servers.Rescue(ctx, c, made.ID, servers.RescueOpts{}).Extract()
	check("rescue", err)
	await("RESCUE")
	check("unrescue", servers.Unrescue(ctx, c, made.ID).ExtractErr())
	await("ACTIVE")
	_, err = servers.Rebuild(ctx, c, made.ID, servers.RebuildOpts{ImageRef: string(img.ID), Name: "web3"}).Extract()
	check("rebuild", err)
	await("ACTIVE")
	check("lock", servers.Lock(ctx, c, made.ID).ExtractErr())
	check("unlock", servers.Unlock(ctx, c, made.ID).ExtractErr())
	_, err = servers.ShowConsoleOutput(ctx, c, made.ID, servers.ShowConsoleOutputOpts{Length: 5}).Extract()
	check("console output", err)
	_, err = remoteconsoles.Create(ctx, c, made.ID, remoteconsoles.CreateOpts{Protocol: "vnc", Type: "novnc"}).Extract()
	check("remote console", err)
	snap, err := servers.CreateImage(ctx, c, made.ID, servers.CreateImageOpts{Name: "snap"}).ExtractImageID()
	if err != nil || snap == "" {
		t.Errorf("create image: %q, %v", snap, err)
	}
	await("ACTIVE")
	testGophercloudDevices(t, s, c, made.ID, string(net.ID))
	pages, err := instanceactions.List(c, made.ID, nil).AllPages(ctx)
	check("actions", err)
	actions, err := instanceactions.ExtractInstanceActions(pages)
	if err != nil || len(actions) < 5 {
		t.Errorf("actions: %+v, %v", actions, err)
	}
	check("delete", servers.Delete(ctx, c, made.ID).ExtractErr())
	cascadetest.Until(t, "404", func() (any, bool) {
		_, err := servers.Get(ctx, c, made.ID).Extract()
		return err, gophercloud.ResponseCodeIs(err, 404)
	})
	check("delete keypair", keypairs.Delete(ctx, c, "k", nil).ExtractErr())
	// Terraform replaces a keypair, and every server that has it, when the key that it reads is not the file it
	// imported: the line's end was cut off.
	imported, err := keypairs.Create(ctx, c, keypairs.CreateOpts{Name: "file", PublicKey: key.PublicKey + "\n"}).Extract()
	if err != nil || imported.PublicKey != key.PublicKey+"\n" || imported.Fingerprint != key.Fingerprint {
		t.Errorf("imported keypair: %+v, %v", imported, err)
	}
	if again, err := keypairs.Get(ctx, c, "file", nil).Extract(); err != nil || again.PublicKey != key.PublicKey+"\n" {
		t.Errorf("keypair read again: %+v, %v", again, err)
	}
	check("delete group", servergroups.Delete(ctx, c, grp.ID).ExtractErr())
}

func testGophercloudDevices(t *testing.T, s *cascadetest.Stack, c *gophercloud.ServiceClient, id, net string) {
	t.Helper()
	ctx := t.Context()
	v, err := s.Volume.Create(ctx, cascadetest.Member("p1"), volume.CreateRequest{Name: "v", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "volume", func() (any, bool) {
		r, err := s.Core.Index.Get(ctx, v.ID)
		return err, err == nil && r.Status == "available"
	})
	at, err := volumeattach.Create(ctx, c, id, volumeattach.CreateOpts{VolumeID: string(v.ID)}).Extract()
	if err != nil || at.VolumeID != string(v.ID) || at.ServerID != id || at.Device == "" {
		t.Errorf("attach volume: %+v, %v", at, err)
	}
	cascadetest.Until(t, "volume in use", func() (any, bool) {
		r, err := s.Core.Index.Get(ctx, v.ID)
		return r.Status, err == nil && r.Status == "in-use"
	})
	if err := volumeattach.Delete(ctx, c, id, string(v.ID)).ExtractErr(); err != nil {
		t.Errorf("detach volume: %v", err)
	}
	i, err := attachinterfaces.Create(ctx, c, id, attachinterfaces.CreateOpts{NetworkID: net}).Extract()
	if err != nil {
		t.Fatalf("attach interface: %v", err)
	}
	if _, err := attachinterfaces.Get(ctx, c, id, i.PortID).Extract(); err != nil {
		t.Errorf("get interface: %v", err)
	}
	if err := attachinterfaces.Delete(ctx, c, id, i.PortID).ExtractErr(); err != nil {
		t.Errorf("detach interface: %v", err)
	}
}

func TestGophercloudRest(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east", "west"})
	a := newAPI(t, s)
	srv := httptest.NewServer(a.echo)
	t.Cleanup(srv.Close)
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, version := range []string{"", "2.53", "2.87", "2.93"} {
		c := client(a, srv, "admin:p1", version)
		pages, err := availabilityzones.ListDetail(c).AllPages(ctx)
		check("zones", err)
		zones, err := availabilityzones.ExtractAvailabilityZones(pages)
		if err != nil || len(zones) < 2 || zones[0].ZoneName != "east" {
			t.Errorf("zones at %q: %+v, %v", version, zones, err)
		}
		pages, err = hypervisors.List(c, nil).AllPages(ctx)
		check("hypervisors", err)
		hosts, err := hypervisors.ExtractHypervisors(pages)
		if err != nil || len(hosts) != 2 || hosts[0].HypervisorHostname != "east" {
			t.Errorf("hypervisors at %q: %+v, %v", version, hosts, err)
		}
		pages, err = services.List(c, nil).AllPages(ctx)
		check("services", err)
		list, err := services.ExtractServices(pages)
		if err != nil || len(list) != 2 || list[0].Zone != "east" {
			t.Errorf("services at %q: %+v, %v", version, list, err)
		}
		pages, err = aggregates.List(c).AllPages(ctx)
		check("aggregates", err)
		_, err = aggregates.ExtractAggregates(pages)
		check("aggregates", err)
		_, err = limits.Get(ctx, c, nil).Extract()
		check("limits", err)
		_, err = quotasets.GetDetail(ctx, c, "p1").Extract()
		check("quota detail", err)
		cores := 7
		q, err := quotasets.Update(ctx, c, "p1", quotasets.UpdateOpts{Cores: &cores}).Extract()
		if err != nil || q.Cores != 7 {
			t.Errorf("quota update at %q: %+v, %v", version, q, err)
		}
		check("quota delete", quotasets.Delete(ctx, c, "p1").Err)
		check("usage", usage.SingleTenant(c, "p1", nil).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
			_, err := usage.ExtractSingleTenant(page)
			return false, err
		}))
		disk, isPublic := 1, false
		f, err := flavors.Create(ctx, c, flavors.CreateOpts{Name: "f" + version, RAM: 1, VCPUs: 1, Disk: &disk, IsPublic: &isPublic}).Extract()
		if err != nil {
			t.Fatalf("flavor: %v", err)
		}
		_, err = flavors.CreateExtraSpecs(ctx, c, f.ID, flavors.ExtraSpecsOpts{"hw:x": "y"}).Extract()
		check("extra specs", err)
		check("delete extra spec", flavors.DeleteExtraSpec(ctx, c, f.ID, "hw:x").ExtractErr())
		_, err = flavors.AddAccess(ctx, c, f.ID, flavors.AddAccessOpts{Tenant: "p2"}).Extract()
		check("access", err)
		_, err = flavors.RemoveAccess(ctx, c, f.ID, flavors.RemoveAccessOpts{Tenant: "p2"}).Extract()
		check("remove access", err)
		check("delete flavor", flavors.Delete(ctx, c, f.ID).ExtractErr())
	}
}

// An administrator sees every project's networks and images, but a server is made at its site by a member of its own
// project: what was accepted came to nothing there, with "Network ... could not be found" of the site's id.
func TestServerOfForeignParts(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	srv := httptest.NewServer(a.echo)
	t.Cleanup(srv.Close)
	theirs, own := cascadetest.Member("p1"), cascadetest.Member("ops")
	net, img, flavor := s.NewNetwork(t, own, "own", "10.1.0.0/24"), s.NewImage(t, own, "own"), s.Flavor(t)
	foreignNet, foreignImage := s.NewNetwork(t, theirs, "net", "10.1.0.0/24"), s.NewImage(t, theirs, "img")
	c := client(a, srv, "admin:ops", "2.90")
	for _, test := range []struct {
		name       string
		net, image *index.Resource
		want       int
	}{{"own parts", net, img, 202}, {"another's network", foreignNet, img, 409}, {"another's image", net, foreignImage, 409}} {
		_, err := servers.Create(t.Context(), c, servers.CreateOpts{
			Name: "web", ImageRef: string(test.image.ID), FlavorRef: string(flavor.ID), Networks: []servers.Network{{UUID: string(test.net.ID)}},
		}, nil).Extract()
		if test.want == 202 && err != nil || test.want == 409 && (!gophercloud.ResponseCodeIs(err, 409) || !strings.Contains(err.Error(), "another project")) {
			t.Errorf("%s: %v, want %d", test.name, err, test.want)
		}
	}
}
