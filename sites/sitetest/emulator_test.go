package sitetest_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
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
