package integration

import (
	"bytes"
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	cinder "github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// TestStack plays what Terraform does with a typical stack: it makes it in the
// region of one site, reads every attribute back, finds no drift, changes it
// and destroys it. Whatever reads back other than it was given, Terraform would
// change or replace in every run: an imported key lost its line's end. And what
// it sends again with a change, like a floating IP's port, was a conflict.
func TestStack(t *testing.T) {
	t.Parallel()
	top := topproc.Start(t, topproc.Config{})
	top.AddEmulated(t, topproc.Emulate(t, emulator.Default("east"), nil), topproc.Emulate(t, emulator.Default("west"), nil))
	playStack(t, top, stack{prefix: "stack-", zone: "east/az1", size: 2}, 2*time.Minute)
}

// TestStackOverRealRegion is the same over a real region, where it leaves nothing.
func TestStackOverRealRegion(t *testing.T) {
	cloud := realcloud.Need(t, "east")
	before, err := cloud.Snapshot(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	top := topproc.Start(t, topproc.Config{CallTimeout: time.Minute, SettleTime: 2 * time.Minute, Lease: 90 * time.Second, InventoryEvery: 2 * time.Second, DiffEvery: time.Minute})
	top.AddSite(t, "east", "project", topproc.Account(cloud.Region(t, "east").AuthURL, "east", "admin", realcloud.Password))
	who := playStack(t, top, stack{prefix: "hw" + ident.NewHexID()[:6] + "-", zone: "east", size: 1}, 5*time.Minute)
	admin := top.Admin(t)
	admin.Must(t, "DELETE", "/identity/v3/users/"+who.UserID, nil, nil)
	admin.Must(t, "DELETE", "/identity/v3/projects/"+who.ProjectID, nil, nil)
	cloud.NothingLeft(t, map[string]realcloud.Snapshot{"east": before}, 2*time.Minute)
}

// stack is what Terraform keeps of one: the clients of the region and the ids in its state.
type stack struct {
	t                                *testing.T
	compute, network, volume, images *gophercloud.ServiceClient
	prefix, key                      string
	zone                             string // of the server: each zone of the real region has one host, and a resize needs another
	size                             int    // what the volume of 1 GiB is extended to while it is attached, which the real region's NFS driver cannot

	image, flavors                      []string
	public, net, sub, router, sg, rule  string
	vol, port, web, byPort, fip, device string
}

// playStack plays it as a new tenant.
func playStack(t *testing.T, top *topproc.Top, cfg stack, limit time.Duration) *topproc.Client {
	s, prefix := &cfg, cfg.prefix
	who := top.NewTenant(t, prefix+"project", prefix+"terry", "member")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	provider, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: top.URL + "/identity/v3", Username: prefix + "terry", Password: string(topproc.Password), TenantName: prefix + "project", DomainID: "default",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	in := gophercloud.EndpointOpts{Region: "east"}
	s.compute, s.network = done(openstack.NewComputeV2(provider, in))(t), done(openstack.NewNetworkV2(provider, in))(t)
	s.volume, s.images = done(openstack.NewBlockStorageV3(provider, in))(t), done(openstack.NewImageV2(provider, in))(t)
	s.compute.Microversion, s.volume.Microversion = "2.60", "3.47" // what the provider asks for
	s.lookUp(ctx)
	s.create(ctx)
	s.same("just made", s.read(ctx), s.given("one", 1, 0))
	s.same("read again", s.read(ctx), s.given("one", 1, 0))
	s.update(ctx, "two")
	s.same("changed", s.read(ctx), s.given("two", s.size, 1))
	s.destroy(ctx)
	return who
}

// done returns the value of a call that must succeed.
func done[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (s *stack) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// lookUp is what data sources do; the image is uploaded first.
func (s *stack) lookUp(ctx context.Context) {
	t := s.t
	img := done(images.Create(ctx, s.images, images.CreateOpts{Name: s.prefix + "img", DiskFormat: "raw", ContainerFormat: "bare"}).Extract())(t)
	s.ok(imagedata.Upload(ctx, s.images, img.ID, bytes.NewReader(bytes.Repeat([]byte("stack"), 1<<16))).ExtractErr())
	s.until(ctx, func(ctx context.Context) (bool, error) {
		list, err := images.List(s.images, images.ListOpts{Name: s.prefix + "img", Status: images.ImageStatusActive}).AllPages(ctx)
		if err != nil {
			return false, err
		}
		found, err := images.ExtractImages(list)
		for _, i := range found {
			s.image = append(s.image, i.ID)
		}
		return len(found) == 1, err
	})
	all := done(flavors.ExtractFlavors(done(flavors.ListDetail(s.compute, flavors.ListOpts{}).AllPages(ctx))(t)))(t)
	for _, name := range []string{"m1.tiny", "m1.small"} {
		i := slices.IndexFunc(all, func(f flavors.Flavor) bool { return f.Name == name })
		if i < 0 {
			t.Fatalf("no flavor %s in %+v", name, all)
		}
		s.flavors = append(s.flavors, all[i].ID)
	}
	public := done(networks.ExtractNetworks(done(networks.List(s.network, networks.ListOpts{Name: "public"}).AllPages(ctx))(t)))(t)
	if len(public) != 1 {
		t.Fatalf("external networks: %+v", public)
	}
	s.public = public[0].ID
}

func (s *stack) create(ctx context.Context) {
	t, yes := s.t, true
	made := done(keypairs.Create(ctx, s.compute, keypairs.CreateOpts{Name: s.prefix + "made"}).Extract())(t)
	s.key = made.PublicKey + "\n" // as file("id_rsa.pub") is
	s.ok(keypairs.Delete(ctx, s.compute, made.Name, nil).ExtractErr())
	s.ok(keypairs.Create(ctx, s.compute, keypairs.CreateOpts{Name: s.prefix + "key", PublicKey: s.key}).Err)
	s.net = done(networks.Create(ctx, s.network, networks.CreateOpts{Name: s.prefix + "one", Description: "one", AdminStateUp: &yes}).Extract())(t).ID
	s.sub = done(subnets.Create(ctx, s.network, subnets.CreateOpts{
		NetworkID: s.net, Name: s.prefix + "one", CIDR: "10.77.0.0/24", IPVersion: gophercloud.IPv4, DNSNameservers: []string{"9.9.9.9", "1.1.1.1"},
		AllocationPools: []subnets.AllocationPool{{Start: "10.77.0.20", End: "10.77.0.200"}},
	}).Extract())(t).ID
	s.router = done(routers.Create(ctx, s.network, routers.CreateOpts{Name: s.prefix + "one", GatewayInfo: &routers.GatewayInfo{NetworkID: s.public}}).Extract())(t).ID
	s.ok(routers.AddInterface(ctx, s.network, s.router, routers.AddInterfaceOpts{SubnetID: s.sub}).Err)
	s.sg = done(groups.Create(ctx, s.network, groups.CreateOpts{Name: s.prefix + "one", Description: "one"}).Extract())(t).ID
	s.rule = done(rules.Create(ctx, s.network, rules.CreateOpts{
		Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolTCP, PortRangeMin: 22, PortRangeMax: 22, RemoteIPPrefix: "0.0.0.0/0", SecGroupID: s.sg,
	}).Extract())(t).ID
	s.port = done(ports.Create(ctx, s.network, ports.CreateOpts{
		NetworkID: s.net, Name: s.prefix + "one", SecurityGroups: &[]string{s.sg}, FixedIPs: []ports.IP{{SubnetID: s.sub, IPAddress: "10.77.0.50"}},
		AllowedAddressPairs: []ports.AddressPair{{IPAddress: "10.77.0.99"}},
	}).Extract())(t).ID
	s.vol = done(cinder.Create(ctx, s.volume, cinder.CreateOpts{Name: s.prefix + "one", Description: "one", Size: 1, Metadata: map[string]string{"who": "one"}}, nil).Extract())(t).ID
	s.reaches(ctx, "available", s.volumeStatus)
	boot := servers.CreateOpts{
		Name: s.prefix + "one", ImageRef: s.image[0], FlavorRef: s.flavors[0], AvailabilityZone: s.zone, SecurityGroups: []string{s.prefix + "one"},
		Networks: []servers.Network{{UUID: s.net}}, Metadata: map[string]string{"who": "one"}, Tags: []string{"a", "one"}, UserData: []byte("#cloud-config\n"),
	}
	s.web = done(servers.Create(ctx, s.compute, keypairs.CreateOptsExt{CreateOptsBuilder: boot, KeyName: s.prefix + "key"}, nil).Extract())(t).ID
	byPort := servers.CreateOpts{Name: s.prefix + "port", ImageRef: s.image[0], FlavorRef: s.flavors[0], Networks: []servers.Network{{Port: s.port}}}
	s.byPort = done(servers.Create(ctx, s.compute, byPort, nil).Extract())(t).ID
	for _, id := range []string{s.web, s.byPort} {
		s.reaches(ctx, "ACTIVE", s.serverStatus(id))
	}
	s.device = done(volumeattach.Create(ctx, s.compute, s.web, volumeattach.CreateOpts{VolumeID: s.vol}).Extract())(t).Device
	s.reaches(ctx, "in-use", s.volumeStatus)
	s.fip = done(floatingips.Create(ctx, s.network, floatingips.CreateOpts{FloatingNetworkID: s.public, Description: "one"}).Extract())(t).ID
	s.ok(floatingips.Update(ctx, s.network, s.fip, floatingips.UpdateOpts{PortID: &s.port}).Err)
	s.tag(ctx, "one")
}

// taggable are the resources of Neutron's that the stack tags.
func (s *stack) taggable() map[string]string {
	return map[string]string{"networks": s.net, "subnets": s.sub, "routers": s.router, "security-groups": s.sg, "ports": s.port, "floatingips": s.fip}
}

func (s *stack) tag(ctx context.Context, extra string) {
	for kind, id := range s.taggable() {
		s.ok(attributestags.ReplaceAll(ctx, s.network, kind, id, attributestags.ReplaceAllOpts{Tags: []string{"a", extra}}).Err)
	}
}

// given is the configuration; a server has the flavor of that number.
func (s *stack) given(extra string, size, flavor int) map[string]any {
	name := s.prefix + extra
	want := map[string]any{
		"key":    s.key,
		"net":    []any{name, extra, true},
		"sub":    []any{name, "10.77.0.0/24", "10.77.0.1", []string{"9.9.9.9", "1.1.1.1"}, []subnets.AllocationPool{{Start: "10.77.0.20", End: "10.77.0.200"}}, true},
		"router": []any{name, s.public, true},
		"sg":     []any{name, extra},
		"rule":   []any{"ingress", "IPv4", "tcp", 22, 22, "0.0.0.0/0", s.sg},
		"vol":    []any{name, extra, size, map[string]string{"who": extra}, s.web, s.device},
		"port":   []any{name, []string{s.sg}, []ports.IP{{SubnetID: s.sub, IPAddress: "10.77.0.50"}}, "10.77.0.99", s.byPort},
		"web": []any{name, s.image[0], s.flavors[flavor], s.zone, s.prefix + "key", map[string]string{"who": extra}, []string{"a", extra},
			[]map[string]any{{"name": name}}, "ACTIVE"},
		"fip": []any{extra, s.public, s.port, "10.77.0.50"},
	}
	for kind := range s.taggable() {
		want["tags of "+kind] = []string{"a", extra}
	}
	return want
}

// read is what a refresh reads.
func (s *stack) read(ctx context.Context) map[string]any {
	t := s.t
	key := done(keypairs.Get(ctx, s.compute, s.prefix+"key", nil).Extract())(t)
	net, sub := done(networks.Get(ctx, s.network, s.net).Extract())(t), done(subnets.Get(ctx, s.network, s.sub).Extract())(t)
	router, sg := done(routers.Get(ctx, s.network, s.router).Extract())(t), done(groups.Get(ctx, s.network, s.sg).Extract())(t)
	rule, port := done(rules.Get(ctx, s.network, s.rule).Extract())(t), done(ports.Get(ctx, s.network, s.port).Extract())(t)
	fip, vol := done(floatingips.Get(ctx, s.network, s.fip).Extract())(t), done(cinder.Get(ctx, s.volume, s.vol).Extract())(t)
	web := done(servers.Get(ctx, s.compute, s.web).Extract())(t)
	attached := done(volumeattach.Get(ctx, s.compute, s.web, s.vol).Extract())(t)
	flavor := ""
	for _, f := range done(flavors.ExtractFlavors(done(flavors.ListDetail(s.compute, nil).AllPages(ctx))(t)))(t) {
		if f.Name == web.Flavor["original_name"] { // from 2.47 on a server shows its flavor's name, not its id
			flavor = f.ID
		}
	}
	slices.Sort(*web.Tags)
	got := map[string]any{
		"key":    key.PublicKey,
		"net":    []any{net.Name, net.Description, net.AdminStateUp},
		"sub":    []any{sub.Name, sub.CIDR, sub.GatewayIP, sub.DNSNameservers, sub.AllocationPools, sub.EnableDHCP},
		"router": []any{router.Name, router.GatewayInfo.NetworkID, router.AdminStateUp},
		"sg":     []any{sg.Name, sg.Description},
		"rule":   []any{rule.Direction, rule.EtherType, rule.Protocol, rule.PortRangeMin, rule.PortRangeMax, rule.RemoteIPPrefix, rule.SecGroupID},
		"vol":    []any{vol.Name, vol.Description, vol.Size, vol.Metadata, vol.Attachments[0].ServerID, attached.Device},
		"port":   []any{port.Name, port.SecurityGroups, port.FixedIPs, port.AllowedAddressPairs[0].IPAddress, port.DeviceID},
		"web": []any{web.Name, web.Image["id"], flavor, web.AvailabilityZone, web.KeyName, web.Metadata, *web.Tags, web.SecurityGroups,
			web.Status},
		"fip": []any{fip.Description, fip.FloatingNetworkID, fip.PortID, fip.FixedIP},
	}
	for kind, id := range s.taggable() {
		list := done(attributestags.List(ctx, s.network, kind, id).Extract())(t)
		slices.Sort(list)
		got["tags of "+kind] = list
	}
	return got
}

func (s *stack) same(when string, got, want map[string]any) {
	s.t.Helper()
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			s.t.Errorf("%s, drift in %s:\n got %v\nwant %v", when, name, got[name], want[name])
		}
	}
}

func (s *stack) update(ctx context.Context, extra string) {
	name := s.prefix + extra
	s.ok(networks.Update(ctx, s.network, s.net, networks.UpdateOpts{Name: &name, Description: &extra}).Err)
	s.ok(subnets.Update(ctx, s.network, s.sub, subnets.UpdateOpts{Name: &name}).Err)
	s.ok(routers.Update(ctx, s.network, s.router, routers.UpdateOpts{Name: name}).Err)
	s.ok(groups.Update(ctx, s.network, s.sg, groups.UpdateOpts{Name: name, Description: &extra}).Err)
	s.ok(ports.Update(ctx, s.network, s.port, ports.UpdateOpts{Name: &name}).Err)
	s.ok(floatingips.Update(ctx, s.network, s.fip, floatingips.UpdateOpts{Description: &extra, PortID: &s.port}).Err)
	s.tag(ctx, extra)
	s.ok(cinder.Update(ctx, s.volume, s.vol, cinder.UpdateOpts{Name: &name, Description: &extra, Metadata: map[string]string{"who": extra}}).Err)
	if s.size > 1 {
		s.ok(cinder.ExtendSize(ctx, s.volume, s.vol, cinder.ExtendSizeOpts{NewSize: s.size}).ExtractErr()) // from 3.42 on
		s.reaches(ctx, "in-use", s.volumeStatus)
	}
	s.ok(servers.Update(ctx, s.compute, s.web, servers.UpdateOpts{Name: name}).Err)
	s.ok(servers.UpdateMetadata(ctx, s.compute, s.web, servers.MetadataOpts{"who": extra}).Err)
	s.ok(tags.ReplaceAll(ctx, s.compute, s.web, tags.ReplaceAllOpts{Tags: []string{"a", extra}}).Err)
	s.ok(servers.Resize(ctx, s.compute, s.web, servers.ResizeOpts{FlavorRef: s.flavors[1]}).ExtractErr())
	s.reaches(ctx, "VERIFY_RESIZE", s.serverStatus(s.web))
	s.ok(servers.ConfirmResize(ctx, s.compute, s.web).ExtractErr())
	s.reaches(ctx, "ACTIVE", s.serverStatus(s.web))
}

func (s *stack) destroy(ctx context.Context) {
	none := ""
	s.ok(floatingips.Update(ctx, s.network, s.fip, floatingips.UpdateOpts{PortID: &none}).Err)
	s.ok(floatingips.Delete(ctx, s.network, s.fip).ExtractErr())
	s.ok(volumeattach.Delete(ctx, s.compute, s.web, s.vol).ExtractErr())
	s.gone(ctx, func() error { return volumeattach.Get(ctx, s.compute, s.web, s.vol).Err })
	for _, id := range []string{s.web, s.byPort} {
		s.ok(servers.Delete(ctx, s.compute, id).ExtractErr())
		s.gone(ctx, func() error { return servers.Get(ctx, s.compute, id).Err })
	}
	s.reaches(ctx, "available", s.volumeStatus)
	s.ok(cinder.Delete(ctx, s.volume, s.vol, nil).ExtractErr())
	s.gone(ctx, func() error { return cinder.Get(ctx, s.volume, s.vol).Err })
	s.ok(routers.RemoveInterface(ctx, s.network, s.router, routers.RemoveInterfaceOpts{SubnetID: s.sub}).Err)
	for _, d := range []struct{ remove, look func() error }{
		{func() error { return ports.Delete(ctx, s.network, s.port).Err }, func() error { return ports.Get(ctx, s.network, s.port).Err }},
		{func() error { return routers.Delete(ctx, s.network, s.router).Err }, func() error { return routers.Get(ctx, s.network, s.router).Err }},
		{func() error { return subnets.Delete(ctx, s.network, s.sub).Err }, func() error { return subnets.Get(ctx, s.network, s.sub).Err }},
		{func() error { return networks.Delete(ctx, s.network, s.net).Err }, func() error { return networks.Get(ctx, s.network, s.net).Err }},
		{func() error { return groups.Delete(ctx, s.network, s.sg).Err }, func() error { return groups.Get(ctx, s.network, s.sg).Err }},
		{func() error { return keypairs.Delete(ctx, s.compute, s.prefix+"key", nil).Err }, func() error { return keypairs.Get(ctx, s.compute, s.prefix+"key", nil).Err }},
		{func() error { return images.Delete(ctx, s.images, s.image[0]).Err }, func() error { return images.Get(ctx, s.images, s.image[0]).Err }},
	} {
		s.ok(d.remove())
		s.gone(ctx, d.look)
	}
}

func (s *stack) volumeStatus(ctx context.Context) (string, error) {
	v, err := cinder.Get(ctx, s.volume, s.vol).Extract()
	if err != nil {
		return "", err
	}
	return v.Status, nil
}

func (s *stack) serverStatus(id string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		v, err := servers.Get(ctx, s.compute, id).Extract()
		if err != nil {
			return "", err
		}
		return v.Status, nil
	}
}

// reaches polls until a status is reached; an error status ends the wait.
func (s *stack) reaches(ctx context.Context, want string, status func(context.Context) (string, error)) {
	s.t.Helper()
	s.until(ctx, func(ctx context.Context) (bool, error) {
		got, err := status(ctx)
		if strings.EqualFold(got, "error") {
			s.t.Fatalf("status %s, want %s", got, want)
		}
		return got == want, err
	})
}

func (s *stack) gone(ctx context.Context, look func() error) {
	s.t.Helper()
	s.until(ctx, func(context.Context) (bool, error) {
		err := look()
		if gophercloud.ResponseCodeIs(err, 404) {
			return true, nil
		}
		return false, err
	})
}

func (s *stack) until(ctx context.Context, ok func(context.Context) (bool, error)) {
	s.t.Helper()
	s.ok(gophercloud.WaitFor(ctx, ok))
}
