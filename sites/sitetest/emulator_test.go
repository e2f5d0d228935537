package sitetest_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/limit"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/retry"
	"github.com/headwater-cloud/headwater/sites/sitetest"
)

// emulated runs the suite on the OpenStack adaptor over an emulated cloud.
func emulated(t *testing.T, cfg emulator.Config) {
	t.Helper()
	cloud := emulator.New(cfg)
	server := httptest.NewServer(cloud)
	t.Cleanup(server.Close)
	login := func(t *testing.T, cred sites.Credential) sites.Adaptor {
		t.Helper()
		cred.AuthURL, cred.Region = server.URL+"/identity/v3", cfg.Name
		a, err := openstack.New(openstack.Config{Site: ident.SiteID(cfg.Name), Credential: cred, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	as := func(user string) func(*testing.T) sites.Adaptor {
		return func(t *testing.T) sites.Adaptor {
			return login(t, sites.Credential{Username: user, Password: cfg.AdminPassword, UserDomainID: "default", ProjectName: user, ProjectDomainID: "default"})
		}
	}
	sitetest.Run(t, sitetest.Target{Admin: as("admin"), Member: as("demo"), Wait: 20 * time.Second, Poll: 10 * time.Millisecond,
		Login: func(t *testing.T, projectID, userID string, password ident.Secret) sites.Adaptor {
			return login(t, sites.Credential{UserID: userID, Password: password, ProjectID: projectID})
		}})
}

func TestEmulator(t *testing.T) {
	t.Parallel()
	emulated(t, emulator.Default("east"))
}

// TestOldEmulator is a site without server tags at creation and without Cinder's time filter, whose Neutron heeds changed_since.
func TestOldEmulator(t *testing.T) {
	t.Parallel()
	cfg := emulator.Default("west")
	cfg.ComputeMax, cfg.VolumeMax, cfg.ChangedSince = 51, 59, true
	emulated(t, cfg)
}

// site is an emulated cloud and its demo's adaptor.
func site(t *testing.T, timeout time.Duration) (*emulator.Cloud, sites.Adaptor) {
	t.Helper()
	cloud := emulator.New(emulator.Default("east"))
	server := httptest.NewServer(cloud)
	t.Cleanup(server.Close)
	t.Cleanup(cloud.Faults().Clear)
	a, err := openstack.New(openstack.Config{Site: "east", Timeout: timeout, Credential: sites.Credential{AuthURL: server.URL + "/identity/v3", Region: "east",
		Username: "demo", Password: "secret", UserDomainID: "default", ProjectName: "demo", ProjectDomainID: "default"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cloud, a
}

// A create whose reply is lost, comes late or is an error of the site's own
// must be told apart from one that was certainly not carried out, and be found by its marker.
func TestLostCreates(t *testing.T) {
	t.Parallel()
	create := emulator.Fault{Service: "network", Method: "POST", Path: "networks$", Count: 1}
	for _, tt := range []struct {
		name  string
		fault func(emulator.Fault) emulator.Fault
		want  fault.Kind
		made  int
	}{
		{"reply lost", func(f emulator.Fault) emulator.Fault { f.LostReply = true; return f }, fault.Ambiguous, 1},
		{"carried out later", func(f emulator.Fault) emulator.Fault { f.LateBy = 50 * time.Millisecond; return f }, fault.Ambiguous, 1},
		{"stalled beyond the time-out", func(f emulator.Fault) emulator.Fault { f.Stall = true; return f }, fault.Ambiguous, 0},
		{"reset", func(f emulator.Fault) emulator.Fault { f.Reset = true; return f }, fault.Ambiguous, 0},
		{"500", func(f emulator.Fault) emulator.Fault { f.Status = 500; return f }, fault.Ambiguous, 0},
		{"503", func(f emulator.Fault) emulator.Fault { f.Status = 503; return f }, fault.Unavailable, 0},
		{"429", func(f emulator.Fault) emulator.Fault { f.Status, f.RetryAfter = 429, 7; return f }, fault.Unavailable, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cloud, a := site(t, 500*time.Millisecond)
			if _, err := cloud.Faults().Add(tt.fault(create)); err != nil {
				t.Fatal(err)
			}
			marker := ident.NewTopID()
			_, err := a.Create(t.Context(), sites.Network, sites.Body{"name": "n"}, sites.CreateOptions{Marker: marker})
			if !fault.Is(err, tt.want) {
				t.Errorf("create: %v, want %s", err, tt.want)
			}
			deadline := time.Now().Add(5 * time.Second)
			for {
				found, err := a.FindMarked(t.Context(), sites.Network, marker)
				if err != nil {
					t.Fatalf("find: %v", err)
				}
				if len(found) == tt.made {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("found %d, want %d", len(found), tt.made)
				}
			}
		})
	}
}

// A dead site fails its callers at once, is named, and comes back by itself.
func TestOutageThroughTheDecorators(t *testing.T) {
	t.Parallel()
	cloud, bare := site(t, time.Second)
	limiter := limit.New("east", limit.Config{OpenAfter: 3, CloseAfter: 1, OpenFor: 20 * time.Millisecond})
	a := retry.Wrap(limiter.Wrap(bare), retry.Config{Base: time.Millisecond})
	cloud.Faults().Outage()
	_, err := a.Show(t.Context(), sites.Server, ident.BottomID(ident.NewUUID()))
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), "east") || limiter.State().Phase == limit.Closed {
		t.Errorf("during an outage: %v, breaker %s; want Unavailable naming east, and the breaker open", err, limiter.State().Phase)
	}
	cloud.Faults().Recover()
	deadline := time.Now().Add(5 * time.Second)
	for limiter.State().Phase != limit.Closed && time.Now().Before(deadline) {
		_, err = a.Show(t.Context(), sites.Server, ident.BottomID(ident.NewUUID()))
	}
	if !fault.Is(err, fault.NotFound) || limiter.State().Phase != limit.Closed {
		t.Errorf("after the outage: %v, breaker %s; want NotFound and closed", err, limiter.State().Phase)
	}
}
