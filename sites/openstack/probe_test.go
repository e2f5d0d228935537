package openstack

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

// Each thing that can be wrong with a site is named to the operator.
func TestProbeSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	noKeystone := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(noKeystone.Close)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(broken.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	mute := httptest.NewUnstartedServer(nil) // hangs up, as Debian's services under uWSGI do
	mute.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}
	}
	mute.Start()
	t.Cleanup(mute.Close)
	only := func(kinds ...string) string {
		var entries []string
		for _, kind := range kinds {
			entries = append(entries, fmt.Sprintf(`{"type": %q, "endpoints": [{"interface": "public", "region": "r1", "url": "http://h/v3"}]}`, kind))
		}
		return "[" + strings.Join(entries, ",") + "]"
	}
	for _, tt := range []struct {
		name string
		site func(*fakeSite)
		cred func(*sites.Credential)
		kind fault.Kind
		want []string
	}{
		{"wrong password", func(f *fakeSite) { f.password = "other" }, nil, fault.Unauthorized, []string{"user u of project p", "wrong user, password or project", "/identity"}},
		{"refused", nil, func(c *sites.Credential) { c.AuthURL = closed.URL }, fault.Unavailable, []string{closed.URL, "refuses connections"}},
		{"no such name", nil, func(c *sites.Credential) { c.AuthURL = "http://no-such-host.invalid:5000/v3" }, fault.Unavailable, []string{"no-such-host.invalid", "cannot be"}},
		{"https to a server without TLS that says nothing", nil, func(c *sites.Credential) { c.AuthURL = strings.Replace(mute.URL, "http:", "https:", 1) }, fault.Unavailable, []string{"cannot be reached", "without TLS"}},
		{"no Keystone", nil, func(c *sites.Credential) { c.AuthURL = noKeystone.URL }, fault.BadRequest, []string{"no Keystone v3", noKeystone.URL}},
		{"broken Keystone", nil, func(c *sites.Credential) { c.AuthURL = broken.URL }, fault.Unavailable, []string{"status 502", broken.URL}},
		{"unknown authority", nil, func(c *sites.Credential) { c.AuthURL = secure.URL }, fault.BadRequest, []string{"TLS failure", "unknown authority", "cacert"}},
		{"wrong host in the certificate", nil, func(c *sites.Credential) {
			c.AuthURL = strings.Replace(secure.URL, "127.0.0.1", "localhost", 1)
			c.CACert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
		}, fault.BadRequest, []string{"TLS failure", "not for this host"}},
		{"no TLS there", nil, func(c *sites.Credential) { c.AuthURL = strings.Replace(noKeystone.URL, "http:", "https:", 1) }, fault.BadRequest, []string{"TLS failure", "does not speak TLS"}},
		{"no such region", nil, func(c *sites.Credential) { c.Region = "r9" }, fault.BadRequest, []string{"no compute service in region r9", "r1"}},
		{"region left open", func(f *fakeSite) {
			f.catalog = `[{"type": "compute", "endpoints": [{"interface": "public", "region": "r1", "url": "u"}, {"interface": "public", "region": "r2", "url": "u"}]}]`
		}, func(c *sites.Credential) { c.Region = "" }, fault.BadRequest, []string{"r1, r2", "region_name"}},
		{"no image service", func(f *fakeSite) { f.catalog = only("compute", "network") }, nil, fault.BadRequest, []string{"no image service"}},
		{"no network service", func(f *fakeSite) { f.catalog = only("compute", "image") }, nil, fault.BadRequest, []string{"no network service"}},
		{"no internal interface", nil, func(c *sites.Credential) { c.Interface = "internal" }, fault.BadRequest, []string{"no compute service", "internal"}},
		{"a service is down", func(f *fakeSite) {
			f.catalog = strings.ReplaceAll(strings.Replace(wholeCatalog, "URL/network/", closed.URL+"/net", 1), "URL", f.URL)
		}, nil, fault.Unavailable, []string{closed.URL + "/net", "refuses connections"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeSite(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
			if tt.site != nil {
				tt.site(f)
			}
			cred := f.credential()
			if tt.cred != nil {
				tt.cred(&cred)
			}
			_, err := f.adaptor(t, func(c *Config) { c.Credential = cred }).Probe(t.Context())
			if !fault.Is(err, tt.kind) {
				t.Fatalf("got %v, want %s", err, tt.kind)
			}
			for _, part := range tt.want {
				if !contains(fault.Message(err), part) {
					t.Errorf("message %q lacks %q", fault.Message(err), part)
				}
			}
			if contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// probeAnswers are a small administrator's site whose hypervisors no longer show their sizes beyond 2.87.
var probeAnswers = map[string]string{
	"/compute/v2.1/flavors/detail":                  `{"flavors": [{"id": "f2", "name": "big", "vcpus": 4, "ram": 4096, "disk": 10, "swap": ""}, {"id": "f1", "name": "small", "vcpus": 1, "ram": 512, "disk": 1, "os-flavor-access:is_public": false, "extra_specs": {"a": "b"}, "rxtx_factor": 1.5}]}`,
	"/compute/v2.1/flavors/f2/os-extra_specs":       `{"extra_specs": {"c": "d"}}`,
	"/volume/v3/p1/types":                           `{"volume_types": [{"id": "1", "name": "ssd"}]}`,
	"/network/v2.0/networks":                        `{"networks": [{"id": "n1", "name": "public", "router:external": true}, {"id": "n2", "name": "not", "router:external": false}, {"id": "n3", "name": "provider", "shared": true}, {"id": "n4", "name": "mine", "shared": true}]}`,
	"/network/v2.0/rbac-policies":                   `{"rbac_policies": [{"id": "r1", "object_id": "n3", "action": "access_as_shared", "target_tenant": "*"}, {"id": "r2", "object_id": "n4", "action": "access_as_shared", "target_tenant": "p1"}]}`,
	"/network/v2.0/subnets":                         `{"subnets": [{"id": "s1", "network_id": "n1", "cidr": "10.0.0.0/24"}]}`,
	"/network/v2.0/extensions":                      `{"extensions": [{"alias": "router"}, {"alias": "port-security"}, {"alias": "standard-attr-description"}]}`,
	"/image/v2/info/import":                         `{"import-methods": {"value": ["web-download", "glance-direct"]}}`,
	"/compute/v2.1/os-availability-zone":            `{"availabilityZoneInfo": [{"zoneName": "az2", "zoneState": {"available": true}}, {"zoneName": "az1", "zoneState": {"available": true}}, {"zoneName": "off", "zoneState": {"available": false}}, {"zoneName": "internal", "zoneState": {"available": true}}]}`,
	"/volume/v3/p1/os-availability-zone":            `{"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": true}}]}`,
	"/network/v2.0/availability_zones":              `{"availability_zones": [{"name": "nova", "state": "available", "resource": "network"}, {"name": "nova", "state": "available", "resource": "router"}]}`,
	"/compute/v2.1/limits":                          `{"limits": {"absolute": {"maxTotalInstances": 10, "totalInstancesUsed": 12, "maxTotalCores": -1, "totalCoresUsed": 5, "maxTotalRAMSize": 1000, "totalRAMUsed": 400}}}`,
	"/volume/v3/p1/limits":                          `{"limits": {"absolute": {"maxTotalVolumes": 10, "totalVolumesUsed": 1, "maxTotalVolumeGigabytes": 100, "totalGigabytesUsed": 30}}}`,
	"/network/v2.0/quotas/p1/details.json":          `{"quota": {"network": {"limit": 10, "used": 3, "reserved": 1}, "trunk": {"limit": -1, "used": 0, "reserved": 0}}}`,
	"/image/v2/info/usage":                          `{"usage": {}}`,
	"/identity/v3/projects":                         `{"projects": []}`,
	"/compute/v2.1/os-hypervisors":                  `{"hypervisors": []}`,
	"/compute/v2.1/os-hypervisors/detail":           `{"hypervisors": [{"id": "a-1", "state": "up", "status": "enabled", "vcpus": 8, "vcpus_used": 2, "memory_mb": 1000, "memory_mb_used": 600, "local_gb": 50, "local_gb_used": 5, "running_vms": 2}, {"id": "a-2", "state": "down", "vcpus": 99}]}`,
	"/placement/resource_providers/a-1/inventories": `{"inventories": {"VCPU": {"total": 8, "reserved": 0, "allocation_ratio": 4.0}, "MEMORY_MB": {"total": 1000, "reserved": 100, "allocation_ratio": 1.5}}}`,
	"/placement/resource_providers/a-1/usages":      `{"usages": {"VCPU": 3, "MEMORY_MB": 512}}`,
	"/placement/":                                   `{"versions": [{"id": "v1.0", "max_version": "1.39", "min_version": "1.0", "status": "CURRENT"}]}`,
	"/volume/v3/p1/scheduler-stats/get_pools":       `{"pools": [{"capabilities": {"total_capacity_gb": 250.5, "allocated_capacity_gb": 7}}]}`,
}

func TestProbeOfAnAdministrator(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(5*time.Minute).UTC().Format(http.TimeFormat))
		body, ok := probeAnswers[r.URL.Path]
		if r.URL.Path == "/compute/v2.1/os-hypervisors/detail" && r.Header.Get("Openstack-Api-Version") != "compute 2.87" {
			t.Errorf("hypervisors are asked at %q, want 2.87", r.Header.Get("Openstack-Api-Version"))
		}
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, body)
	})
	f.catalog = strings.ReplaceAll(strings.TrimSuffix(wholeCatalog, "]")+`, {"type": "placement", "endpoints": [{"interface": "public", "region": "r1", "url": "URL/placement"}]}]`, "URL", f.URL)
	c, err := f.adaptor(t).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.Admin, c.Zones, c.DefaultZones, c.VolumeTypes, c.ImportMethods, c.Extensions, c.Quota, len(c.ExternalNetworks), len(c.ExternalNetworks[0].Subnets))
	want := "true map[block-storage:[nova] compute:[az1 az2] network:[nova]] map[block-storage:nova compute: network:nova] [ssd] [glance-direct web-download]" +
		" [port-security router standard-attr-description] map[block-storage:map[gigabytes:70 volumes:9] compute:map[cores:-1 instances:0 ram:600] image:map[] network:map[network:6 trunk:-1]] 1 1"
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if f := c.Flavors; len(f) != 2 || f[0].Name != "small" || f[0].Public || f[0].Extra["a"] != "b" || f[0].RxTxFactor != 1.5 || f[1].Extra["c"] != "d" || !f[1].Public {
		t.Errorf("flavors are %+v", f)
	}
	// The disk is not in placement: the hypervisor's own figures stay.
	if want := (sites.Capacity{Known: true, Hosts: 1, VCPUs: 32, VCPUsUsed: 3, RAM: 1350, RAMUsed: 512, Disk: 50, DiskUsed: 5, Running: 2, Volumes: 7, VolumesMax: 250}); c.Capacity != want {
		t.Errorf("capacity is %+v, want %+v", c.Capacity, want)
	}
	if c.ClockSkew < 4*time.Minute || !contains(strings.Join(c.Warnings, "\n"), "clock differs") {
		t.Errorf("clock skew %v, warnings %v", c.ClockSkew, c.Warnings)
	}
	if n := c.SharedNetworks; len(n) != 2 || n[0].Name != "mine" || n[0].ToAll || n[1].Name != "provider" || !n[1].ToAll || !c.NetworksListed {
		t.Errorf("shared networks are %+v, all listed: %v; want that only provider is for all", n, c.NetworksListed)
	}
	if !contains(strings.Join(c.Warnings, "\n"), "network mine (n4) is shared with the account") {
		t.Errorf("warnings %v say nothing of network mine", c.Warnings)
	}
	if i := c.Services[sites.Compute]; i.MaxMicroversion != "2.93" || i.MinMicroversion != "2.1" || i.Version != "v2.1" || c.Services[sites.ImageService].Version != "v2.15" {
		t.Errorf("services are %+v", c.Services)
	}
}

// A site whose certificate a private authority signed is reached when the operator gives that authority.
func TestPrivateAuthority(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, ok)
	secure := httptest.NewTLSServer(f)
	t.Cleanup(secure.Close)
	f.catalog = strings.ReplaceAll(wholeCatalog, "URL", secure.URL)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	for _, tt := range []struct {
		name  string
		trust func(*sites.Credential)
		fails bool
	}{
		{"its authority", func(c *sites.Credential) { c.CACert = ca }, false},
		{"insecure", func(c *sites.Credential) { c.Insecure = true }, false},
		{"neither", func(*sites.Credential) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cred := f.credential()
			cred.AuthURL = secure.URL + "/identity/v3"
			tt.trust(&cred)
			a := f.adaptor(t, func(c *Config) { c.Credential = cred })
			_, err := a.Show(t.Context(), sites.Server, "7")
			if tt.fails != (err != nil) || tt.fails && (!fault.Is(err, fault.Unavailable) || contains(fault.Message(err), "127.0.0.1")) {
				t.Errorf("got %v; want a failure: %v, Unavailable and without an address", err, tt.fails)
			}
		})
	}
}
