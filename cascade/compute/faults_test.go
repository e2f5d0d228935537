package compute_test

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// A site that carries a create out and loses the reply, or carries it out only
// after our time-out, must not get a second server (cascade/README.md: Markers).
func TestOneServerWhateverTheReply(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault emulator.Fault
	}{
		{"lost reply", emulator.Fault{LostReply: true}},
		{"carried out late", emulator.Fault{LateBy: 1500 * time.Millisecond}},
		{"refused once", emulator.Fault{Status: 503, RetryAfter: 1}},
		{"connection reset", emulator.Fault{Reset: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := cascadetest.New(t, east(), cascadetest.Timeouts(time.Second, 2*time.Second))
			who := cascadetest.Member("p1")
			img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
			f := tt.fault
			f.Service, f.Method, f.Path, f.Count = "compute", "POST", `^/compute/v2\.1/servers$`, 1
			if _, err := s.Clouds["east"].Faults().Add(f); err != nil {
				t.Fatal(err)
			}
			one := s.Boot(t, who, "web", img, net)
			if there := s.Clouds["east"].Servers(); len(there) != 1 || there[0].Tags[0] != "hw:"+string(one.ID) {
				t.Errorf("at the site: %+v, want the one server", there)
			}
		})
	}
}

// What the site refuses for good shows as an error that says why, and can be deleted.
func TestRefusedBySite(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	_, err := s.Clouds["east"].Faults().Add(emulator.Fault{
		Service: "compute", Method: "POST", Path: `^/compute/v2\.1/servers$`, Count: 1, Status: 400, Body: `{"badRequest":{"code":400,"message":"no such disk bus"}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "web", Image: string(img.ID), Flavor: string(s.Flavor(t).ID), NetworkMode: "list",
		Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 1, Max: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	one := s.Await(t, who, made[0].ID, "ERROR")
	if one.Fault == nil || one.Fault.Site != "east" || one.Fault.Code != 400 || one.Spec.AdminPass != "" {
		t.Errorf("fault %+v, password %q; want the site's refusal and no password kept", one.Fault, one.Spec.AdminPass)
	}
	if err := s.Compute.Plain(t.Context(), who, string(one.ID), "os-start", nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("start of what failed: %v, want a conflict", err)
	}
	if err := s.Compute.Delete(t.Context(), who, string(one.ID)); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "end of quota use", func() (any, bool) {
		q, err := s.Compute.Quota(t.Context(), "p1")
		return q["port"], err == nil && q["instances"].Used == 0 && q["port"].Used == 0
	})
}

func TestVolumesAndPorts(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	net := s.NewNetwork(t, who, "net", "10.1.0.0/24")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), net)
	id := string(one.ID)
	v, err := s.Volume.Create(t.Context(), who, volume.CreateRequest{Name: "v", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	status := func(want string) {
		t.Helper()
		cascadetest.Until(t, "volume "+want, func() (any, bool) {
			r, err := s.Core.Index.Get(t.Context(), v.ID)
			return []any{r.Status, r.DeviceID, err}, err == nil && r.Status == want
		})
	}
	status("available")
	use, err := s.Compute.AttachVolume(t.Context(), who, id, compute.VolumeUse{ID: v.ID})
	if err != nil || use.Device == "" {
		t.Fatalf("attach: %+v, %v", use, err)
	}
	status("in-use")
	if _, err := s.Compute.AttachVolume(t.Context(), who, id, compute.VolumeUse{ID: v.ID}); !fault.Is(err, fault.BadRequest) {
		t.Errorf("second attach: %v, want a bad request", err)
	}
	if err := s.Compute.DetachVolume(t.Context(), who, id, string(v.ID)); err != nil {
		t.Fatal(err)
	}
	status("available")
	cascadetest.Until(t, "server without volume", func() (any, bool) {
		one, err := s.Compute.Server(t.Context(), who, id)
		return one.Spec.Volumes, err == nil && len(one.Spec.Volumes) == 0
	})

	mine, err := s.Network.CreatePorts(t.Context(), who, []network.Fields{{"network_id": string(net.ID), "name": "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []compute.AttachRequest{{Port: string(mine[0].ID)}, {Network: string(net.ID)}} {
		i, err := s.Compute.AttachInterface(t.Context(), who, id, want)
		if err != nil || len(i.Fixed) != 1 {
			t.Fatalf("attach %+v: %+v, %v", want, i, err)
		}
		if err := s.Compute.DetachInterface(t.Context(), who, id, string(i.Port)); err != nil {
			t.Fatalf("detach %+v: %v", want, err)
		}
	}
	ports, err := s.Compute.Interfaces(t.Context(), who, id)
	if err != nil || len(ports) != 1 {
		t.Errorf("ports: %+v, %v; want the first one only", ports, err)
	}
	if r, err := s.Core.Index.Get(t.Context(), mine[0].ID); err != nil || r.State != "live" || r.DeviceID != "" {
		t.Errorf("the tenant's own port: %+v, %v; want it free", r, err)
	}
}

func TestBootFromNewVolume(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	zero := 0
	made, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "web", Flavor: string(s.Flavor(t).ID), NetworkMode: "list", Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 1, Max: 1,
		Blocks: []compute.BlockRequest{{Source: "image", Destination: "volume", ID: string(img.ID), BootIndex: &zero, SizeGiB: 1, Delete: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	one := s.Await(t, who, made[0].ID, "ACTIVE")
	if len(one.Spec.Volumes) != 1 || one.ImageID != "" {
		t.Fatalf("volumes %+v, image %q; want one volume and no image", one.Spec.Volumes, one.ImageID)
	}
	boot := one.Spec.Volumes[0].ID
	cascadetest.Until(t, "boot volume in use", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), boot)
		return r, err == nil && r.Status == "in-use" && r.DeviceID == one.ID
	})
	if err := s.Compute.DetachVolume(t.Context(), who, string(one.ID), string(boot)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("detach of the root disk: %v, want forbidden", err)
	}
	if err := s.Compute.Delete(t.Context(), who, string(one.ID)); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "end of server and volume at the site", func() (any, bool) {
		var left []emulator.Resource
		for _, r := range s.Clouds["east"].Everything() {
			if r.Kind == "server" || r.Kind == "volume" {
				left = append(left, r)
			}
		}
		return left, len(left) == 0
	})
}

// Flavors of equal size and specs at two sites are one flavor at Top; one that a site lacks is made there when needed.
func TestFlavorsAreMapped(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, twoSites())
	list, err := s.Compute.Flavors(t.Context(), cascadetest.Member("p1"), compute.FlavorQuery{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range list {
		if names[f.Name] {
			t.Errorf("flavor %s is there twice", f.Name)
		}
		names[f.Name] = true
		bound, err := s.Core.Bindings.OfTop(t.Context(), f.ID)
		if err != nil || len(bound) != 2 {
			t.Errorf("flavor %s is bound %d times, %v; want at both sites", f.Name, len(bound), err)
		}
	}
	before := len(list)
	s.Adopt(t, "east")
	if list, _ = s.Compute.Flavors(t.Context(), cascadetest.Member("p1"), compute.FlavorQuery{}); len(list) != before {
		t.Errorf("%d flavors after a second adoption, want %d", len(list), before)
	}
	for _, site := range twoSites() { // an operator takes one away
		admin, err := s.Registry.Admin(t.Context(), site)
		if err != nil {
			t.Fatal(err)
		}
		if err := admin.Delete(t.Context(), sites.Flavor, capabilities(t, s, site).Flavors[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	cascadetest.Until(t, "the end of a flavor that vanished everywhere", func() (any, bool) {
		for _, site := range twoSites() {
			rest := capabilities(t, s, site)
			rest.Flavors, rest.ProbedAt = rest.Flavors[1:], time.Now()
			if err := s.Compute.AdoptSite(t.Context(), site, rest); err != nil {
				t.Fatal(err)
			}
		}
		list, _ = s.Compute.Flavors(t.Context(), cascadetest.Member("p1"), compute.FlavorQuery{})
		return list, len(list) == before-1
	})
	private, err := s.Compute.CreateFlavor(t.Context(), cascadetest.Admin(), "", "odd", "", compute.FlavorSpec{Size: compute.Size{VCPUs: 3, RAM: 333, Disk: 3}, RxTx: 1, Access: []string{"p1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compute.Flavor(t.Context(), cascadetest.Member("p2"), string(private.ID)); !fault.Is(err, fault.NotFound) {
		t.Errorf("another project's look at a private flavor: %v, want not found", err)
	}
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	made, err := s.Compute.CreateServers(t.Context(), who, compute.CreateRequest{
		Name: "web", Image: string(img.ID), Flavor: string(private.ID), NetworkMode: "list", Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 1, Max: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Await(t, who, made[0].ID, "ACTIVE")
	_, err = s.Compute.UpdateFlavor(t.Context(), cascadetest.Admin(), string(private.ID), "flavor.extra_specs", func(f *compute.Flavor) error {
		f.Spec.Extra = map[string]string{"hw:a": "b"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "extra specs at the site", func() (any, bool) {
		b, err := s.Core.Bindings.Get(t.Context(), private.ID, made[0].Site)
		return b, err == nil && b.Known() && b.Generation == 2
	})
	if list, _ = s.Compute.Flavors(t.Context(), cascadetest.Admin(), compute.FlavorQuery{}); len(list) != before {
		t.Errorf("%d flavors, want %d: what Top made at a site is not taken over", len(list), before)
	}
}

// A user's keypair is one keypair at Top whatever the project, and at a site one for each project's account.
func TestKeypairs(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, east())
	who := cascadetest.Member("p1")
	k, secret, err := s.Compute.CreateKeypair(t.Context(), who, who.UserID, "mine", "ssh", "")
	if err != nil || secret == "" || k.Spec.Fingerprint == "" {
		t.Fatalf("create: %+v, %v", k, err)
	}
	if _, _, err := s.Compute.CreateKeypair(t.Context(), who, who.UserID, "mine", "ssh", k.Spec.PublicKey); !fault.Is(err, fault.Conflict) {
		t.Errorf("second of a name: %v, want a conflict", err)
	}
	for _, c := range []struct {
		caller string
		cidr   string
	}{{"p1", "10.1.0.0/24"}, {"p2", "10.2.0.0/24"}} {
		user := who
		user.ProjectID = c.caller
		img, net := s.NewImage(t, user, "img"), s.NewNetwork(t, user, "net", c.cidr)
		made, err := s.Compute.CreateServers(t.Context(), user, compute.CreateRequest{
			Name: "web", Image: string(img.ID), Flavor: string(s.Flavor(t).ID), NetworkMode: "list", KeyName: "mine",
			Networks: []compute.NetworkRequest{{Network: string(net.ID)}}, Min: 1, Max: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		if one := s.Await(t, user, made[0].ID, "ACTIVE"); one.KeyName != "mine" {
			t.Errorf("key name %q, want mine", one.KeyName)
		}
	}
	if n := keys(s); n != 2 {
		t.Errorf("%d keys at the site, want one for each project", n)
	}
	list, err := s.Compute.Keypairs(t.Context(), who.UserID, "", 0)
	if err != nil || len(list) != 1 {
		t.Errorf("listed %d keypairs, %v; want 1", len(list), err)
	}
	if err := s.Compute.DeleteKeypair(t.Context(), who, who.UserID, "mine"); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "end of the keys at the site", func() (any, bool) { return keys(s), keys(s) == 0 })
}

func keys(s *cascadetest.Stack) int {
	n := 0
	for _, r := range s.Clouds["east"].Everything() {
		if r.Kind == "keypair" && !r.Auto {
			n++
		}
	}
	return n
}
