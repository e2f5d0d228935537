package integration

import (
	"testing"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/sitetest"
)

// TestAdaptorOnRealRegion holds the OpenStack adaptor to the seam's promises at a real region.
func TestAdaptorOnRealRegion(t *testing.T) {
	east := realcloud.Need(t, "east").Region(t, "east")
	login := func(t *testing.T, c sites.Credential) sites.Adaptor {
		t.Helper()
		c.AuthURL, c.Region = east.AuthURL, east.Name
		a, err := openstack.New(openstack.Config{Site: "east", Credential: c})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	named := func(name string) func(*testing.T) sites.Adaptor {
		return func(t *testing.T) sites.Adaptor {
			return login(t, sites.Credential{Username: name, Password: realcloud.Password, UserDomainID: "default", ProjectName: name, ProjectDomainID: "default"})
		}
	}
	sitetest.Run(t, sitetest.Target{Admin: named("admin"), Member: named("demo"),
		Login: func(t *testing.T, projectID, userID string, password ident.Secret) sites.Adaptor {
			return login(t, sites.Credential{UserID: userID, Password: password, ProjectID: projectID})
		}})
}
