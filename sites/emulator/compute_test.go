package emulator

import (
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/attachinterfaces"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

// rack is what a server needs: image, flavors, network.
type rack struct {
	image, network, subnet string
	flavor, bigger         string
}

func (s *site) rack(t *testing.T, c clients) rack {
	t.Helper()
	img := must(images.Create(t.Context(), c.image, images.CreateOpts{Name: "tiny", DiskFormat: "raw", ContainerFormat: "bare"}).Extract())(t)
	if err := imagedata.Upload(t.Context(), c.image, img.ID, strings.NewReader("bytes of an image")).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	n := must(networks.Create(t.Context(), c.network, networks.CreateOpts{Name: "net"}).Extract())(t)
	sub := must(subnets.Create(t.Context(), c.network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.1.0.0/24", IPVersion: 4}).Extract())(t)
	r := rack{image: img.ID, network: n.ID, subnet: sub.ID}
	list := must(flavors.ExtractFlavors(must(flavors.ListDetail(c.compute, nil).AllPages(t.Context()))(t)))(t)
	for _, f := range list {
		switch f.Name {
		case "m1.tiny":
			r.flavor = f.ID
		case "m1.small":
			r.bigger = f.ID
		}
	}
	return r
}

func (s *site) boot(t *testing.T, c clients, r rack, name string, tags ...string) *servers.Server {
	t.Helper()
	return must(servers.Create(t.Context(), c.compute, servers.CreateOpts{Name: name, ImageRef: r.image, FlavorRef: r.flavor, Networks: []servers.Network{{UUID: r.network}}, Tags: tags}, nil).Extract())(t)
}

func TestServerPassesThroughItsStates(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	srv := s.boot(t, c, r, "web", "hw:1")
	see := func() string {
		t.Helper()
		v := must(servers.Get(t.Context(), c.compute, srv.ID).Extract())(t)
		return v.Status + "/" + v.TaskState
	}
	want := func(state string) {
		t.Helper()
		if got := see(); got != state {
			t.Fatalf("server is %s, want %s", got, state)
		}
	}
	want("BUILD/scheduling")
	s.clock.step(150 * time.Millisecond)
	want("BUILD/spawning")
	s.clock.step(time.Second)
	want("ACTIVE/")
	act := func(body map[string]any, during, after string) {
		t.Helper()
		if _, err := c.compute.Post(t.Context(), c.compute.ServiceURL("servers", srv.ID, "action"), body, nil, okCodes(200, 202, 204)); err != nil {
			t.Fatalf("%v: %v", body, err)
		}
		want(during)
		s.clock.step(time.Second)
		want(after)
	}
	act(map[string]any{"os-stop": nil}, "ACTIVE/powering-off", "SHUTOFF/")
	act(map[string]any{"os-start": nil}, "SHUTOFF/powering-on", "ACTIVE/")
	act(map[string]any{"reboot": map[string]any{"type": "HARD"}}, "HARD_REBOOT/rebooting_hard", "ACTIVE/")
	act(map[string]any{"pause": nil}, "ACTIVE/pausing", "PAUSED/")
	act(map[string]any{"unpause": nil}, "PAUSED/unpausing", "ACTIVE/")
	act(map[string]any{"suspend": nil}, "ACTIVE/suspending", "SUSPENDED/")
	act(map[string]any{"resume": nil}, "SUSPENDED/resuming", "ACTIVE/")
	act(map[string]any{"rescue": map[string]any{}}, "ACTIVE/rescuing", "RESCUE/")
	act(map[string]any{"unrescue": nil}, "RESCUE/unrescuing", "ACTIVE/")
	act(map[string]any{"shelve": nil}, "ACTIVE/shelving_image_uploading", "SHELVED_OFFLOADED/")
	act(map[string]any{"unshelve": nil}, "SHELVED_OFFLOADED/unshelving", "ACTIVE/")
	act(map[string]any{"resize": map[string]any{"flavorRef": r.bigger}}, "RESIZE/resize_prep", "VERIFY_RESIZE/")
	act(map[string]any{"revertResize": nil}, "REVERT_RESIZE/resize_reverting", "ACTIVE/")
	act(map[string]any{"resize": map[string]any{"flavorRef": r.bigger}}, "RESIZE/resize_prep", "VERIFY_RESIZE/")
	act(map[string]any{"confirmResize": nil}, "VERIFY_RESIZE/", "ACTIVE/")
	act(map[string]any{"rebuild": map[string]any{"imageRef": r.image}}, "REBUILD/rebuilding", "ACTIVE/")
	act(map[string]any{"createImage": map[string]any{"name": "snap"}}, "ACTIVE/image_snapshot", "ACTIVE/")
	if err := servers.Delete(t.Context(), c.compute, srv.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	want("ACTIVE/deleting")
	s.clock.step(time.Second)
	_, err := servers.Get(t.Context(), c.compute, srv.ID).Extract()
	wantCode(t, err, 404)
	if left := s.Servers(); len(left) != 0 {
		t.Errorf("servers left: %+v", left)
	}
	if n := s.Census()[s.ProjectID("demo")]["port"]; n != 0 {
		t.Errorf("%d ports left behind, want 0", n)
	}
}

// okCodes says which answers are fine.
func okCodes(codes ...int) *gophercloud.RequestOpts { return &gophercloud.RequestOpts{OkCodes: codes} }

func TestServerRefusals(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	srv := s.boot(t, c, r, "web")
	post := func(body map[string]any) error {
		_, err := c.compute.Post(t.Context(), c.compute.ServiceURL("servers"), map[string]any{"server": body}, nil, nil)
		return err
	}
	base := func(k string, v any) map[string]any {
		m := map[string]any{"name": "x", "imageRef": r.image, "flavorRef": r.flavor, "networks": "none"}
		m[k] = v
		return m
	}
	for _, tt := range []struct {
		name string
		body map[string]any
		code int
		text string
	}{
		{"unknown member", base("bogus", 1), 400, "Additional properties"},
		{"no such flavor", base("flavorRef", "zz"), 400, "Flavor zz could not be found."},
		{"no such image", base("imageRef", newID()), 400, "Can not find requested image"},
		{"no such zone", base("availability_zone", "zz"), 400, "The requested availability zone is not available"},
		{"no such key", base("key_name", "zz"), 400, "Invalid key_name provided."},
		{"no such network", base("networks", []any{map[string]any{"uuid": newID()}}), 400, "could not be found"},
		{"external network", base("networks", []any{map[string]any{"uuid": s.publicNetwork(t, c)}}), 403, "not allowed to create an interface on external network"},
		{"empty name", base("name", ""), 400, "'' is too short"},
		{"over quota", base("max_count", 100), 403, "Quota exceeded for cores, instances"},
	} {
		err := post(tt.body)
		wantCode(t, err, tt.code)
		if !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.text)
		}
	}
	_, err := c.compute.Post(t.Context(), c.compute.ServiceURL("servers", srv.ID, "action"), map[string]any{"os-start": nil}, nil, nil)
	wantCode(t, err, 409)
	if _, err := s.clients(t, "admin", "admin").compute.Get(t.Context(), c.compute.ServiceURL("servers", srv.ID), nil, nil); err != nil {
		t.Errorf("admin cannot see a tenant's server: %v", err)
	}
}

func (s *site) publicNetwork(t *testing.T, c clients) string {
	t.Helper()
	list := must(networks.ExtractNetworks(must(networks.List(c.network, networks.ListOpts{Name: "public"}).AllPages(t.Context()))(t)))(t)
	if len(list) != 1 {
		t.Fatalf("%d networks are called public, want 1", len(list))
	}
	return list[0].ID
}

func TestListServers(t *testing.T) {
	t.Parallel()
	s := instant(t)
	if err := s.Seed(Seeding{Servers: 2500, Ports: 1, Marker: "hw:"}); err != nil {
		t.Fatal(err)
	}
	c := s.clients(t, "demo", "demo")
	all := must(servers.ExtractServers(must(servers.List(c.compute, nil).AllPages(t.Context()))(t)))(t)
	seen := map[string]bool{}
	for _, v := range all {
		seen[v.ID] = true
	}
	if len(all) != 2500 || len(seen) != 2500 {
		t.Fatalf("listed %d servers, %d of them different, want 2500", len(all), len(seen))
	}
	if all[0].Name != "seed-2499" {
		t.Errorf("first is %s, want the newest", all[0].Name)
	}
	tagged := must(servers.ExtractServers(must(servers.List(c.compute, servers.ListOpts{Tags: "hw:77"}).AllPages(t.Context()))(t)))(t)
	if len(tagged) != 1 || tagged[0].Name != "seed-77" {
		t.Errorf("tag hw:77 finds %d servers, want seed-77", len(tagged))
	}
	s.clock.step(30 * time.Minute)
	since := s.clock.Now().Add(-time.Minute)
	if err := servers.Delete(t.Context(), c.compute, tagged[0].ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	must(servers.Update(t.Context(), c.compute, all[5].ID, servers.UpdateOpts{Name: "renamed"}).Extract())(t)
	changed := must(servers.ExtractServers(must(servers.List(c.compute, servers.ListOpts{ChangesSince: since.Format(time.RFC3339)}).AllPages(t.Context()))(t)))(t)
	if len(changed) != 2 {
		t.Fatalf("changes-since shows %d servers, want the renamed and the deleted one", len(changed))
	}
	states := changed[0].Status + " " + changed[1].Status
	if states != "ACTIVE DELETED" {
		t.Errorf("changed servers are %s, want ACTIVE DELETED", states)
	}
}

func TestPortsVolumesAndKeysOfServers(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	must(keypairs.Create(t.Context(), c.compute, keypairs.CreateOpts{Name: "hw-key"}).Extract())(t)
	own := must(ports.Create(t.Context(), c.network, ports.CreateOpts{NetworkID: r.network, MACAddress: "fa:16:3e:00:00:99", FixedIPs: []ports.IP{{SubnetID: r.subnet, IPAddress: "10.1.0.200"}}}).Extract())(t)
	srv := must(servers.Create(t.Context(), c.compute, keypairs.CreateOptsExt{KeyName: "hw-key", CreateOptsBuilder: servers.CreateOpts{Name: "web", ImageRef: r.image, FlavorRef: r.flavor, Networks: []servers.Network{{Port: own.ID}}}}, nil).Extract())(t)
	list := must(attachinterfaces.ExtractInterfaces(must(attachinterfaces.List(c.compute, srv.ID).AllPages(t.Context()))(t)))(t)
	if len(list) != 1 || list[0].PortID != own.ID || list[0].MACAddr != "fa:16:3e:00:00:99" {
		t.Fatalf("interfaces are %+v, want the given port", list)
	}
	must(attachinterfaces.Create(t.Context(), c.compute, srv.ID, attachinterfaces.CreateOpts{NetworkID: r.network}).Extract())(t)
	v := must(volumes.Create(t.Context(), c.volume, volumes.CreateOpts{Size: 1, Name: "data", Metadata: map[string]string{"hw": "hw:9"}}, nil).Extract())(t)
	must(volumeattach.Create(t.Context(), c.compute, srv.ID, volumeattach.CreateOpts{VolumeID: v.ID}).Extract())(t)
	if got := must(volumes.Get(t.Context(), c.volume, v.ID).Extract())(t); got.Status != "in-use" || len(got.Attachments) != 1 || got.Attachments[0].ServerID != srv.ID {
		t.Errorf("volume is %s with %+v, want in-use by %s", got.Status, got.Attachments, srv.ID)
	}
	wantCode(t, volumes.Delete(t.Context(), c.volume, v.ID, nil).ExtractErr(), 400)
	if err := servers.Delete(t.Context(), c.compute, srv.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if got := must(volumes.Get(t.Context(), c.volume, v.ID).Extract())(t); got.Status != "available" {
		t.Errorf("volume of a deleted server is %s, want available", got.Status)
	}
	left := must(ports.Get(t.Context(), c.network, own.ID).Extract())(t)
	if left.DeviceID != "" || left.Status != "DOWN" {
		t.Errorf("the tenant's port is %s of %q after the server, want DOWN and free", left.Status, left.DeviceID)
	}
	if n := s.Census()[s.ProjectID("demo")]["port"]; n != 1 {
		t.Errorf("%d ports left, want only the tenant's own", n)
	}
}

func TestNoRoomIsAnErrorThatSaysWhy(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *Config) { *cfg = cfg.Instant(); cfg.Capacity.DiskGB = 1; cfg.Zones = []string{"az1"} })
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	s.boot(t, c, r, "fits")
	srv := must(servers.Get(t.Context(), c.compute, s.boot(t, c, r, "does-not").ID).Extract())(t)
	if srv.Status != "ERROR" || !strings.Contains(srv.Fault.Message, "No valid host was found") {
		t.Errorf("server is %s, fault %q, want ERROR and why", srv.Status, srv.Fault.Message)
	}
}
