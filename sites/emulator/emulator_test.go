package emulator

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
)

// clock is a time that moves only when a test says so.
type clock struct {
	mu  sync.Mutex // guards the field below
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// site is a running cloud with clients of the users admin and demo.
type site struct {
	*Cloud
	url   string
	clock *clock
}

// start runs a cloud; change may alter its configuration.
func start(t *testing.T, change func(*Config)) *site {
	t.Helper()
	s := &site{clock: newClock()}
	cfg := Default("emu")
	cfg.Now = s.clock.Now
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s.Cloud = New(cfg)
	srv := httptest.NewServer(s.Cloud)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// instant runs a cloud whose transitions take no time.
func instant(t *testing.T) *site {
	t.Helper()
	return start(t, func(cfg *Config) { *cfg = cfg.Instant() })
}

func (s *site) login(t *testing.T, user, project string) *gophercloud.ProviderClient {
	t.Helper()
	p, err := openstack.AuthenticatedClient(t.Context(), gophercloud.AuthOptions{IdentityEndpoint: s.url + "/identity/v3", Username: user, Password: "secret", TenantName: project, DomainID: "default"})
	if err != nil {
		t.Fatal(err)
	}
	p.HTTPClient = http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // so that a dropped connection is never retried
	return p
}

type clients struct {
	identity, compute, image, network, volume *gophercloud.ServiceClient
}

func (s *site) clients(t *testing.T, user, project string) clients {
	t.Helper()
	p := s.login(t, user, project)
	var c clients
	for _, x := range []struct {
		to *(*gophercloud.ServiceClient)
		f  func(context.Context, *gophercloud.ProviderClient) (*gophercloud.ServiceClient, error)
	}{
		{&c.identity, wrap(openstack.NewIdentityV3)}, {&c.compute, wrap(openstack.NewComputeV2)}, {&c.image, wrap(openstack.NewImageV2)},
		{&c.network, wrap(openstack.NewNetworkV2)}, {&c.volume, wrap(openstack.NewBlockStorageV3)},
	} {
		sc, err := x.f(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		*x.to = sc
	}
	c.compute.Microversion, c.volume.Microversion = "2.90", "3.70"
	return c
}

func wrap(f func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)) func(context.Context, *gophercloud.ProviderClient) (*gophercloud.ServiceClient, error) {
	return func(_ context.Context, p *gophercloud.ProviderClient) (*gophercloud.ServiceClient, error) {
		return f(p, gophercloud.EndpointOpts{Region: "emu"})
	}
}

// must returns v, or ends the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantCode ends the test unless err is the HTTP answer code.
func wantCode(t *testing.T, err error, code int) {
	t.Helper()
	if !gophercloud.ResponseCodeIs(err, code) {
		t.Fatalf("got error %v, want HTTP %d", err, code)
	}
}
