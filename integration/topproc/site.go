package topproc

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/sites/emulator"
)

// SitePassword is of the administrators of emulated sites.
const SitePassword = "emulated-Secret-2"

// Site is an emulated cloud in the test's own process, so that it outlives every Top.
type Site struct {
	*emulator.Cloud
	Name    string
	AuthURL string
}

// Emulate starts an emulated cloud that ends with the test. Requests, when not nil, stands before it.
func Emulate(t testing.TB, cfg emulator.Config, before func(http.Handler) http.Handler) *Site {
	t.Helper()
	cfg.AdminPassword = SitePassword
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cloud := emulator.New(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = cloud
	if before != nil {
		handler = before(cloud)
	}
	srv := &http.Server{Handler: handler} //nolint:gosec // for clients of the test's own
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(ln); err != http.ErrServerClosed { //nolint:errorlint // Serve returns it as it is
			t.Errorf("site %s: %v", cfg.Name, err)
		}
	})
	t.Cleanup(func() {
		cloud.Faults().Clear() // lets go of what is stalled
		_ = srv.Close()
		serving.Wait()
	})
	return &Site{Cloud: cloud, Name: cfg.Name, AuthURL: "http://" + ln.Addr().String() + "/identity/v3"}
}

// Account is an account of a site in the form in which the operator API takes it.
func Account(authURL, region, user, password string) Object {
	return Object{"auth_url": authURL, "region_name": region, "username": user, "password": password,
		"user_domain_id": "default", "project_name": user, "project_domain_id": "default"}
}

// AddSite registers a site under a tenancy ("" chooses by the account) and waits until its flavors are taken over.
func (p *Top) AddSite(t testing.TB, name, tenancy string, account Object) {
	t.Helper()
	admin := p.Admin(t)
	body := Object{"name": name, "credential": account}
	if tenancy != "" {
		body["tenancy"] = tenancy
	}
	admin.Must(t, "POST", "/v1/sites", body, nil)
	Await(t, "the hypervisor "+name+" and its flavors", func(context.Context) bool {
		flavors, err := admin.Do(t.Context(), "GET", "/compute/v2.1/flavors", nil)
		return err == nil && strings.Contains(flavors.Text, "m1.tiny") && strings.Contains(p.zones(t, admin), `"`+name+`"`)
	})
}

func (p *Top) zones(t testing.TB, c *Client) string {
	t.Helper()
	a, err := c.Do(t.Context(), "GET", "/compute/v2.1/os-availability-zone", nil)
	if err != nil {
		return ""
	}
	return a.Text
}

// AddEmulated registers emulated sites with their administrators' accounts.
func (p *Top) AddEmulated(t testing.TB, list ...*Site) {
	t.Helper()
	for _, s := range list {
		p.AddSite(t, s.Name, "", Account(s.AuthURL, s.Name, "admin", SitePassword))
	}
}
