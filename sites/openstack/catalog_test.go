package openstack

import (
	"net/http"
	"slices"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	entry := func(kind, region, iface, url string) tokens.CatalogEntry {
		return tokens.CatalogEntry{Type: kind, Endpoints: []tokens.Endpoint{{Region: region, Interface: iface, URL: url}}}
	}
	for _, tt := range []struct {
		name    string
		catalog []tokens.CatalogEntry
		service sites.Service
		want    string
	}{
		{"compute as it is", []tokens.CatalogEntry{entry("compute", "r1", "public", "http://h:8774/v2.1")}, sites.Compute, "http://h:8774/v2.1/"},
		{"compute with a project", []tokens.CatalogEntry{entry("compute", "r1", "public", "http://h/compute/v2.1/p1/")}, sites.Compute, "http://h/compute/v2.1/p1/"},
		{"compute without a version", []tokens.CatalogEntry{entry("compute", "r1", "public", "http://h/compute")}, sites.Compute, "http://h/compute/v2.1/"},
		{"network", []tokens.CatalogEntry{entry("network", "r1", "public", "http://h:9696")}, sites.NetworkSvc, "http://h:9696/v2.0/"},
		{"network with its version", []tokens.CatalogEntry{entry("network", "r1", "public", "http://h:9696/v2.0")}, sites.NetworkSvc, "http://h:9696/v2.0/"},
		{"image", []tokens.CatalogEntry{entry("image", "r1", "public", "http://h/image/")}, sites.ImageService, "http://h/image/v2/"},
		{"volumev3", []tokens.CatalogEntry{entry("volumev3", "r1", "public", "http://h/v3/p1")}, sites.BlockStorage, "http://h/v3/p1/"},
		{"the official type first", []tokens.CatalogEntry{entry("volumev3", "r1", "public", "http://old/v3/p1"), entry("block-storage", "r1", "public", "http://new/v3/p1")}, sites.BlockStorage, "http://new/v3/p1/"},
		{"volume without a version", []tokens.CatalogEntry{entry("block-storage", "r1", "public", "http://h/volume")}, sites.BlockStorage, "http://h/volume/v3/p1/"},
		{"volume v2 is not spoken", []tokens.CatalogEntry{entry("volume", "r1", "public", "http://h/v2/p1"), entry("volumev2", "r1", "public", "http://h/v2/p1")}, sites.BlockStorage, ""},
		{"another region", []tokens.CatalogEntry{entry("compute", "r2", "public", "http://h/v2.1")}, sites.Compute, ""},
		{"another interface", []tokens.CatalogEntry{entry("compute", "r1", "internal", "http://h/v2.1")}, sites.Compute, ""},
		{"identity of old", []tokens.CatalogEntry{entry("identity", "r1", "public", "http://h/identity/v2.0")}, sites.Identity, "http://h/identity/v3/"},
		{"no URL", []tokens.CatalogEntry{entry("compute", "r1", "public", "::")}, sites.Compute, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := endpoints(tt.catalog, "r1", "", "p1")[tt.service]; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	both := []tokens.CatalogEntry{entry("compute", "r2", "public", "u"), entry("identity", "r3", "public", "u"), entry("compute", "r1", "public", "u")}
	if got := regions(both); !slices.Equal(got, []string{"r1", "r2"}) {
		t.Errorf("regions are %v, want those with a compute service", got)
	}
}

func TestVersionsURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		service        sites.Service
		endpoint, want string
	}{
		{sites.Compute, "http://h/compute/v2.1/p1/", "http://h/compute/v2.1/"},
		{sites.BlockStorage, "http://h:8776/v3/p1/", "http://h:8776/v3/"},
		{sites.ImageService, "http://h/image/v2/", "http://h/image/"},
		{sites.NetworkSvc, "http://h:9696/v2.0/", "http://h:9696/"},
		{sites.Placement, "http://h/placement/", "http://h/placement/"},
		{sites.Identity, "http://h/identity/v3/", "http://h/identity/v3/"},
	} {
		if got := versionsURL(tt.service, tt.endpoint); got != tt.want {
			t.Errorf("versionsURL(%s, %s) = %s, want %s", tt.service, tt.endpoint, got, tt.want)
		}
	}
}

func TestMicroversionSpoken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		min, max version
		want     version
		fails    bool
	}{
		{"newer than ours", version{2, 1}, version{2, 100}, version{2, 93}, false},
		{"older than ours", version{2, 1}, version{2, 60}, version{2, 60}, false},
		{"none", version{}, version{}, version{}, false},
		{"beyond ours", version{2, 95}, version{2, 100}, version{}, true},
		{"before ours", version{2, 0}, version{2, 0}, version{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newFakeSite(t, ok).adaptor(t)
			a.windows.set(sites.Compute, window{min: tt.min, max: tt.max})
			got, err := a.chosen(t.Context(), sites.Compute)
			if got != tt.want || fault.Is(err, fault.NotAcceptable) != tt.fails {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

// A site that is set back to an older release is spoken to in its old words again, from the second call on.
func TestDowngradedSite(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, nil)
	f.handle = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Openstack-Api-Version") != "compute 2.60" {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		ok(w, r)
	}
	a := f.adaptor(t)
	if _, err := a.Show(t.Context(), sites.Server, "7"); !fault.Is(err, fault.NotAcceptable) {
		t.Fatalf("the first call: %v, want NotAcceptable", err)
	}
	f.mu.Lock()
	f.compute = "2.60"
	f.mu.Unlock()
	if _, err := a.Show(t.Context(), sites.Server, "7"); err != nil {
		t.Errorf("the second call: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := sites.Credential{AuthURL: "https://h/v3", Username: "u", UserDomainName: "d", Password: "x", ProjectName: "p", ProjectDomainID: "d"}
	for _, tt := range []struct {
		name   string
		change func(*sites.Credential)
		want   string // "" is accepted
	}{
		{"good", func(*sites.Credential) {}, ""},
		{"by ids", func(c *sites.Credential) {
			*c = sites.Credential{AuthURL: c.AuthURL, UserID: "u", Password: "x", ProjectID: "p"}
		}, ""},
		{"application credential", func(c *sites.Credential) {
			*c = sites.Credential{AuthURL: c.AuthURL, AppCredID: "a", AppCredSecret: "x"}
		}, ""},
		{"no URL", func(c *sites.Credential) { c.AuthURL = "h:5000" }, "auth_url"},
		{"URL with a password", func(c *sites.Credential) { c.AuthURL = "https://u:p@h/v3" }, "auth_url"},
		{"no password", func(c *sites.Credential) { c.Password = "" }, "password is missing"},
		{"no project domain", func(c *sites.Credential) { c.ProjectDomainID = "" }, "project_domain_name"},
		{"no user domain", func(c *sites.Credential) { c.UserDomainName = "" }, "user_domain_name"},
		{"odd interface", func(c *sites.Credential) { c.Interface = "wan" }, "interface"},
		{"no secret", func(c *sites.Credential) { *c = sites.Credential{AuthURL: c.AuthURL, AppCredID: "a"} }, "no secret"},
		{"no certificate", func(c *sites.Credential) { c.CACert = "x" }, "PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := good
			tt.change(&c)
			_, err := New(Config{Site: "east", Credential: c})
			if tt.want == "" && err != nil || tt.want != "" && (!fault.Is(err, fault.BadRequest) || !contains(fault.Message(err), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
