package identity

import (
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/catalog"
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
