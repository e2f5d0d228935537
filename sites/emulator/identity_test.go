package emulator

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
)

func TestProjectAndMemberMadeByAnAdmin(t *testing.T) {
	t.Parallel()
	s := instant(t)
	admin := s.clients(t, "admin", "admin")
	ctx := t.Context()
	p := must(projects.Create(ctx, admin.identity, projects.CreateOpts{Name: "hw-1", DomainID: "default", Tags: []string{"hw:1"}}).Extract())(t)
	_, err := projects.Create(ctx, admin.identity, projects.CreateOpts{Name: "hw-1", DomainID: "default"}).Extract()
	wantCode(t, err, 409)
	u := must(users.Create(ctx, admin.identity, users.CreateOpts{Name: "hw-user", Password: "first", DomainID: "default"}).Extract())(t)
	login := func(password string) error {
		_, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{IdentityEndpoint: s.url + "/identity/v3", Username: "hw-user", Password: password, TenantID: p.ID, DomainID: "default"})
		return err
	}
	wantCode(t, login("first"), 401) // no role yet
	member := must(roles.ExtractRoles(must(roles.List(admin.identity, roles.ListOpts{Name: "member"}).AllPages(ctx))(t)))(t)[0]
	if err := roles.Assign(ctx, admin.identity, member.ID, roles.AssignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := login("first"); err != nil {
		t.Fatal(err)
	}
	must(users.Update(ctx, admin.identity, u.ID, users.UpdateOpts{Password: "second"}).Extract())(t)
	wantCode(t, login("first"), 401)
	if err := login("second"); err != nil {
		t.Fatal(err)
	}
	demo := s.clients(t, "demo", "demo")
	_, err = projects.Create(ctx, demo.identity, projects.CreateOpts{Name: "x"}).Extract()
	wantCode(t, err, 403)
	if err := projects.Delete(ctx, admin.identity, p.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, login("second"), 401)
}

func TestApplicationCredential(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	ctx := t.Context()
	me := must(tokens.Get(ctx, c.identity, c.identity.Token()).ExtractUser())(t)
	ac := must(applicationcredentials.Create(ctx, c.identity, me.ID, applicationcredentials.CreateOpts{Name: "ac"}).Extract())(t)
	p := must(openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{IdentityEndpoint: s.url + "/identity/v3", ApplicationCredentialID: ac.ID, ApplicationCredentialSecret: ac.Secret}))(t)
	net := must(openstack.NewNetworkV2(p, gophercloud.EndpointOpts{Region: "emu"}))(t)
	must(networks.Create(ctx, net, networks.CreateOpts{Name: "n"}).Extract())(t)
	if err := applicationcredentials.Delete(ctx, c.identity, me.ID, ac.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	_, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{IdentityEndpoint: s.url + "/identity/v3", ApplicationCredentialID: ac.ID, ApplicationCredentialSecret: ac.Secret})
	wantCode(t, err, 401)
}

func TestTokensEnd(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	list := func() error {
		_, err := networks.List(c.network, nil).AllPages(t.Context())
		return err
	}
	if err := list(); err != nil {
		t.Fatal(err)
	}
	s.clock.step(61 * time.Minute)
	wantCode(t, list(), 401)
	c = s.clients(t, "demo", "demo")
	if err := tokens.Revoke(t.Context(), c.identity, c.identity.Token()).Err; err != nil {
		t.Fatal(err)
	}
	wantCode(t, list(), 401)
}

func TestVersionsAndMicroversions(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *Config) { cfg.ComputeMax = 60 })
	token := s.login(t, "demo", "demo").Token()
	get := func(path, version string) (int, string, http.Header) {
		t.Helper()
		req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil))(t)
		req.Header.Set("X-Auth-Token", token)
		if version != "" {
			req.Header.Set("OpenStack-API-Version", version)
		}
		res := must(http.DefaultClient.Do(req))(t)
		defer res.Body.Close()
		body := new(strings.Builder)
		buf := make([]byte, 4096)
		for {
			n, err := res.Body.Read(buf)
			body.Write(buf[:n])
			if err != nil {
				break
			}
		}
		return res.StatusCode, body.String(), res.Header
	}
	for _, tt := range []struct {
		path, version string
		code          int
		text          string
	}{
		{"/identity/", "", 300, `"v3.14"`}, {"/identity/v3", "", 200, `"version"`}, {"/compute/", "", 200, `"2.60"`}, {"/compute/v2.1/", "", 200, `"2.60"`},
		{"/volume/", "", 300, `"3.70"`}, {"/volume/v3/", "", 200, `"versions"`}, {"/image/", "", 300, `"CURRENT"`}, {"/network/", "", 200, `"v2.0"`}, {"/placement/", "", 200, `"1.39"`},
		{"/compute/v2.1/servers", "compute 2.61", 406, "Minimum is 2.1 and maximum is 2.60."}, {"/compute/v2.1/servers", "compute x", 400, "invalid format"},
		{"/compute/v2.1/servers", "compute latest", 200, `"servers"`}, {"/compute/v2.1/nope", "", 404, "could not be found"}, {"/nope", "", 404, ""},
	} {
		code, body, _ := get(tt.path, tt.version)
		if code != tt.code || !strings.Contains(body, tt.text) {
			t.Errorf("GET %s %s: %d %s, want %d with %s", tt.path, tt.version, code, body, tt.code, tt.text)
		}
	}
	_, _, h := get("/compute/v2.1/servers", "compute 2.30")
	if h.Get("X-OpenStack-Nova-API-Version") != "2.30" || h.Get("OpenStack-API-Version") != "compute 2.30" || !strings.HasPrefix(h.Get("X-Openstack-Request-Id"), "req-") {
		t.Errorf("headers are %v", h)
	}
}
