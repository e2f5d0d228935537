package volume_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
	"github.com/headwater-cloud/headwater/top/volume"
)

// api is Top's Cinder over a stack.
type api struct{ *cascadetest.API }

func newAPI(t testing.TB, stack *cascadetest.Stack) *api {
	t.Helper()
	policy, err := auth.NewPolicy(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		faultjson.Write(c.Response(), faultjson.Asked{Service: faultjson.Volume, RequestID: "req-1"}, err)
	}
	volume.New(volume.Config{Service: stack.Volume, Auth: auth.New(cascadetest.Tokens{}, policy), Zones: stack.Placer, Sites: stack.Registry}).Routes(e.Group("/volume"))
	return &api{stack.Serve(t, e, "/volume")}
}

// client is gophercloud as "ROLE:PROJECT", at the latest microversion.
func (a *api) client(token string) *gophercloud.ServiceClient {
	p := &gophercloud.ProviderClient{TokenID: token, HTTPClient: *http.DefaultClient}
	return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: a.URL + "/v3/", Type: "block-storage", Microversion: "3.70"}
}

// at is the header of a microversion.
func at(version string) string { return "OpenStack-API-Version: volume " + version }

// wait waits until a volume (or "snapshots") has a status.
func (a *api) wait(token, collection, id, want string) map[string]any {
	a.T.Helper()
	var one map[string]any
	cascadetest.Until(a.T, collection+" in status "+want, func() (any, bool) {
		got := a.Ask(token, "GET", "/v3/"+collection+"/"+id, nil, at("3.70"))
		one, _ = got.Body[strings.TrimSuffix(collection, "s")].(map[string]any)
		return string(got.Raw), one["status"] == want
	})
	return one
}

// gone waits until there is no such thing any more.
func (a *api) gone(token, path string) {
	a.T.Helper()
	cascadetest.Until(a.T, "the end of "+path, func() (any, bool) {
		got := a.Ask(token, "GET", path, nil)
		return string(got.Raw), got.Code == 404
	})
}

// make records a volume, waits for it, and returns its id.
func (a *api) make(token string, members map[string]any) string {
	a.T.Helper()
	body := map[string]any{"name": "vol", "size": 1}
	for k, v := range members {
		body[k] = v
	}
	got := a.Ask(token, "POST", "/v3/volumes", map[string]any{"volume": body})
	if got.Code != 202 {
		a.T.Fatalf("create: %d %s", got.Code, got.Raw)
	}
	id := got.Body["volume"].(map[string]any)["id"].(string)
	a.wait(token, "volumes", id, "available")
	return id
}

// used is what a project uses of a quota.
func (a *api) used(token, project, name string) any {
	a.T.Helper()
	got := a.Ask(token, "GET", "/v3/os-quota-sets/"+project+"?usage=True", nil)
	return got.Body["quota_set"].(map[string]any)[name].(map[string]any)["in_use"]
}
