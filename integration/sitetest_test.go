package integration

import (
	"bytes"
	"io"
	"net/http"
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

// aged makes a region look like an older release: its compute service says that it speaks no microversion beyond 2.51.
type aged struct{ http.RoundTripper }

func (a aged) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(r)
	if err != nil || r.URL.Path != "/v2.1/" {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	body = bytes.Replace(body, []byte(`"2.93"`), []byte(`"2.51"`), 1)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, err
}

// Before 2.52 a server cannot be created with tags: it is marked by metadata,
// which Nova filters for administrators only, and found again all the same.
func TestAdaptorOnOldRegion(t *testing.T) {
	east := realcloud.Need(t, "east").Region(t, "east")
	adaptor := func(t *testing.T, cred sites.Credential) sites.Adaptor {
		t.Helper()
		transport, err := openstack.NewTransport(cred)
		if err != nil {
			t.Fatal(err)
		}
		a, err := openstack.New(openstack.Config{Site: "east", Credential: cred, Transport: aged{transport}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	const same = "does not depend on compute's microversion"
	sitetest.Run(t, sitetest.Target{
		Admin:  func(t *testing.T) sites.Adaptor { return adaptor(t, siteAccount(east, "admin")) },
		Member: func(t *testing.T) sites.Adaptor { return adaptor(t, siteAccount(east, "demo")) },
		Without: map[sites.Kind]string{sites.Volume: same, sites.Snapshot: same, sites.Backup: same, sites.Image: same, sites.Network: same,
			sites.Subnet: same, sites.Port: same, sites.Router: same, sites.FloatingIP: same, sites.SecurityGroup: same, sites.SecurityGroupRule: same},
	})
}
