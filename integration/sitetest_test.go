package integration

import (
	"os"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/sitetest"
)

// TestAdaptorOnRealRegion holds the OpenStack adaptor to the seam's promises at a real region.
func TestAdaptorOnRealRegion(t *testing.T) {
	if os.Getenv("HEADWATER_REALCLOUD") == "" {
		t.Skip("HEADWATER_REALCLOUD names no clouds.yaml of real regions")
	}
	const authURL = "http://127.0.1.1:5000/v3"
	login := func(t *testing.T, c sites.Credential) sites.Adaptor {
		t.Helper()
		c.AuthURL, c.Region = authURL, "east"
		a, err := openstack.New(openstack.Config{Site: "east", Credential: c})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	named := func(name string) func(*testing.T) sites.Adaptor {
		return func(t *testing.T) sites.Adaptor {
			return login(t, sites.Credential{Username: name, Password: "secret", UserDomainID: "default", ProjectName: name, ProjectDomainID: "default"})
		}
	}
	sitetest.Run(t, sitetest.Target{Admin: named("admin"), Member: named("demo"),
		Login: func(t *testing.T, projectID, userID string, password ident.Secret) sites.Adaptor {
			return login(t, sites.Credential{UserID: userID, Password: password, ProjectID: projectID})
		}})
}
