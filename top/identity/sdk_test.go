package identity

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/catalog"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/domains"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/regions"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	sdkservices "github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
)

func (w *top) sdk(t *testing.T, opts gophercloud.AuthOptions) (*gophercloud.ProviderClient, *gophercloud.ServiceClient) {
	t.Helper()
	opts.IdentityEndpoint = w.url
	provider, err := openstack.AuthenticatedClient(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	client, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{Region: "Global"})
	if err != nil {
		t.Fatal(err)
	}
	return provider, client
}

// The region picks the site, in the SDK that Terraform uses.
func TestRegionsInSDK(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	provider, client := w.sdk(t, gophercloud.AuthOptions{Username: "ann", Password: "ann-pw", TenantName: "demo", DomainName: "Default", AllowReauth: true})
	top := strings.TrimSuffix(w.url, "/identity/v3")
	for region, want := range map[string]string{"Global": top + "/", "east": top + "/sites/east/", "west": top + "/sites/west/"} {
		compute, err := openstack.NewComputeV2(provider, gophercloud.EndpointOpts{Region: region})
		if err != nil || compute.Endpoint != want+"compute/v2.1/" {
			t.Errorf("compute in %s: %v, %v", region, compute, err)
		}
		for kind, path := range map[string]string{"image": "image/", "network": "network/", "volumev3": "volume/v3/", "block-storage": "volume/v3/"} {
			opts := gophercloud.EndpointOpts{Type: kind, Region: region, Availability: gophercloud.AvailabilityPublic}
			got, err := provider.EndpointLocator(opts)
			if err != nil || got != want+path {
				t.Errorf("%s in %s: %s, %v, want %s", kind, region, got, err, want+path)
			}
		}
	}
	pages, err := catalog.List(client).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := catalog.ExtractServiceCatalog(pages); err != nil || len(entries) != 6 {
		t.Errorf("catalog %v, %v", entries, err)
	}
	if all, err := regions.List(client, nil).AllPages(t.Context()); err != nil {
		t.Errorf("regions: %v %v", all, err)
	}
	if all, err := sdkservices.List(client, sdkservices.ListOpts{ServiceType: "compute"}).AllPages(t.Context()); err != nil {
		t.Errorf("services: %v %v", all, err)
	}
	if ok, err := tokens.Validate(t.Context(), client, provider.Token()); err != nil || !ok {
		t.Errorf("validate: %v %v", ok, err)
	}
}

func TestManageInSDK(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	ctx := t.Context()
	_, client := w.sdk(t, gophercloud.AuthOptions{Username: "admin", Password: "admin-pw", TenantName: "admin", DomainName: "Default"})
	p, err := projects.Create(ctx, client, projects.CreateOpts{Name: "tf", DomainID: "default", Tags: []string{"a"}}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	u, err := users.Create(ctx, client, users.CreateOpts{
		Name: "tf", Password: "tf-pw", DefaultProjectID: p.ID, Options: map[users.Option]any{users.IgnorePasswordExpiry: false}, Extra: map[string]any{"email": "tf@x"},
	}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if u.Extra["email"] != "tf@x" {
		t.Errorf("user %+v", u)
	}
	pages, err := roles.List(client, roles.ListOpts{Name: "member"}).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found, err := roles.ExtractRoles(pages)
	if err != nil || len(found) != 1 {
		t.Fatalf("roles %v %v", found, err)
	}
	if err := roles.Assign(ctx, client, found[0].ID, roles.AssignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	_, own := w.sdk(t, gophercloud.AuthOptions{Username: "tf", Password: "tf-pw", DomainName: "Default", Scope: &gophercloud.AuthScope{ProjectID: p.ID}})
	made, err := applicationcredentials.Create(ctx, own, u.ID, applicationcredentials.CreateOpts{Name: "k8s", Unrestricted: true}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	w.sdk(t, gophercloud.AuthOptions{ApplicationCredentialID: made.ID, ApplicationCredentialSecret: made.Secret})
	w.sdk(t, gophercloud.AuthOptions{ApplicationCredentialName: "k8s", ApplicationCredentialSecret: made.Secret, Username: "tf", DomainName: "Default"})
	if err := applicationcredentials.Delete(ctx, own, u.ID, made.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if err := roles.Unassign(ctx, client, found[0].ID, roles.UnassignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr(); err != nil {
		t.Error(err)
	}
	if err := users.Delete(ctx, client, u.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if err := projects.Delete(ctx, client, p.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if _, err := projects.Get(ctx, client, p.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("deleted project: %v", err)
	}
}

// What gophercloud's own acceptance tests found: inexact filters and filters by tag were ignored, roles of a
// domain refused, and the end of an application credential could not be parsed.
func TestAcceptanceFindingsInSDK(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	ctx := t.Context()
	_, admin := w.sdk(t, gophercloud.AuthOptions{Username: "admin", Password: "admin-pw", TenantName: "admin", DomainName: "Default"})
	p, err := projects.Create(ctx, admin, projects.CreateOpts{Name: "web-shop", Tags: []string{"blue", "prod"}}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		opts  projects.ListOpts
		found bool
	}{
		{"contains", projects.ListOpts{Filters: map[string]string{"name__contains": "b-s"}}, true},
		{"contains, other case", projects.ListOpts{Filters: map[string]string{"name__contains": "B-S"}}, false},
		{"icontains", projects.ListOpts{Filters: map[string]string{"name__icontains": "B-S"}}, true},
		{"startswith", projects.ListOpts{Filters: map[string]string{"name__startswith": "shop"}}, false},
		{"iendswith", projects.ListOpts{Filters: map[string]string{"name__iendswith": "SHOP"}}, true},
		{"equals", projects.ListOpts{Filters: map[string]string{"name__equals": "web-shop"}}, true},
		{"all tags", projects.ListOpts{Tags: "blue,prod"}, true},
		{"all tags but one", projects.ListOpts{Tags: "blue,test"}, false},
		{"any tag", projects.ListOpts{TagsAny: "test,blue"}, true},
		{"not all tags", projects.ListOpts{NotTags: "blue,test"}, true},
		{"not these", projects.ListOpts{NotTagsAny: "test,blue"}, false},
	} {
		pages, err := projects.List(admin, test.opts).AllPages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		list, err := projects.ExtractProjects(pages)
		found := slices.ContainsFunc(list, func(q projects.Project) bool { return q.ID == p.ID })
		if err != nil || found != test.found {
			t.Errorf("%s: found %v, %v", test.name, found, err)
		}
	}
	_, own := w.sdk(t, gophercloud.AuthOptions{Username: "ann", Password: "ann-pw", TenantName: "demo", DomainName: "Default"})
	ann := w.users["ann"]
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	made, err := applicationcredentials.Create(ctx, own, ann, applicationcredentials.CreateOpts{Name: "ends", ExpiresAt: &end}).Extract()
	if err != nil || !made.ExpiresAt.Equal(end) {
		t.Errorf("application credential: %+v, %v", made, err)
	}
}

// A role of a domain may have the name of a global one, and gives nothing, as in Keystone.
func TestRolesOfADomainInSDK(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	ctx := t.Context()
	_, admin := w.sdk(t, gophercloud.AuthOptions{Username: "admin", Password: "admin-pw", TenantName: "admin", DomainName: "Default"})
	role, err := roles.Create(ctx, admin, roles.CreateOpts{Name: "admin", DomainID: "default"}).Extract()
	if err != nil || role.DomainID != "default" {
		t.Fatalf("role of a domain: %+v, %v", role, err)
	}
	for domain, want := range map[string]bool{"": false, "default": true} {
		pages, err := roles.List(admin, roles.ListOpts{DomainID: domain}).AllPages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		list, err := roles.ExtractRoles(pages)
		if err != nil || slices.ContainsFunc(list, func(r roles.Role) bool { return r.ID == role.ID }) != want {
			t.Errorf("roles of domain %q: %+v, %v", domain, list, err)
		}
	}
	to := roles.AssignOpts{UserID: w.users["ann"], ProjectID: w.demo}
	if err := roles.Assign(ctx, admin, role.ID, to).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	provider, _ := w.sdk(t, gophercloud.AuthOptions{Username: "ann", Password: "ann-pw", TenantName: "demo", DomainName: "Default"})
	held, err := provider.GetAuthResult().(tokens.CreateResult).ExtractRoles()
	if err != nil || len(held) == 0 || slices.ContainsFunc(held, func(r tokens.Role) bool { return r.Name == "admin" }) {
		t.Errorf("roles in the token: %+v, %v", held, err)
	}
	other, err := domains.Create(ctx, admin, domains.CreateOpts{Name: "other"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := roles.Create(ctx, admin, roles.CreateOpts{Name: "x", DomainID: other.ID}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if err := roles.Assign(ctx, admin, foreign.ID, to).ExtractErr(); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("a role of another domain was assigned: %v", err)
	}
	off := false
	if _, err := domains.Update(ctx, admin, other.ID, domains.UpdateOpts{Enabled: &off}).Extract(); err != nil {
		t.Fatal(err)
	}
	if err := domains.Delete(ctx, admin, other.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if _, err := roles.Get(ctx, admin, foreign.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("the role outlived its domain: %v", err)
	}
}
