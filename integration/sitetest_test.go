package integration

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/limit"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/retry"
	"github.com/headwater-cloud/headwater/sites/sitetest"
)

// TestAdaptorOnRealRegion holds the OpenStack adaptor, as the programs wrap it, to the seam's promises at a real region.
func TestAdaptorOnRealRegion(t *testing.T) {
	east := realcloud.Need(t, "east").Region(t, "east")
	limiter := limit.New("east", limit.Config{})
	adaptor := func(t *testing.T, cred sites.Credential) sites.Adaptor {
		t.Helper()
		a, err := openstack.New(openstack.Config{Site: "east", Credential: cred, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return retry.Wrap(limiter.Wrap(a), retry.Config{})
	}
	sitetest.Run(t, sitetest.Target{
		Admin:  func(t *testing.T) sites.Adaptor { return adaptor(t, siteAccount(east, "admin")) },
		Member: func(t *testing.T) sites.Adaptor { return adaptor(t, siteAccount(east, "demo")) },
		Login: func(t *testing.T, projectID, userID string, password ident.Secret) sites.Adaptor {
			return adaptor(t, sites.Credential{AuthURL: east.AuthURL, Region: east.Name, UserID: userID, Password: password, ProjectID: projectID})
		},
	})
	if s := limiter.State(); s.Phase != limit.Closed || s.Running != 0 || s.Waiting != 0 {
		t.Errorf("at the end the limiter is %+v, want it closed and empty", s)
	}
}
