package image_test

import (
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
	"github.com/headwater-cloud/headwater/top/image"
)

// api is Top's Glance over a stack.
type api struct{ *cascadetest.API }

func newAPI(t testing.TB, stack *cascadetest.Stack) *api {
	t.Helper()
	policy, err := auth.NewPolicy(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		faultjson.Write(c.Response(), faultjson.Asked{Service: faultjson.Image, RequestID: "req-1"}, err)
	}
	image.New(image.Config{Service: stack.Image, Auth: auth.New(cascadetest.Tokens{}, policy)}).Routes(e.Group("/image"))
	return &api{stack.Serve(t, e, "/image")}
}

// client is gophercloud as "ROLE:PROJECT".
func (a *api) client(token string) *gophercloud.ServiceClient {
	p := &gophercloud.ProviderClient{TokenID: token, HTTPClient: *http.DefaultClient}
	return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: a.URL + "/", ResourceBase: a.URL + "/v2/", Type: "image"}
}

const (
	octets = "Content-Type: application/octet-stream"
	patch  = "Content-Type: application/openstack-images-v2.1-json-patch"
)

// make records an image and returns its id.
func (a *api) make(token string, members map[string]any) string {
	a.T.Helper()
	body := map[string]any{"name": "img", "disk_format": "raw", "container_format": "bare"}
	for k, v := range members {
		body[k] = v
	}
	got := a.Ask(token, "POST", "/v2/images", body)
	if got.Code != 201 {
		a.T.Fatalf("create: %d %s", got.Code, got.Raw)
	}
	return got.Body["id"].(string)
}

// fill uploads bytes to an image.
func (a *api) fill(token, id, data string) {
	a.T.Helper()
	if got := a.Ask(token, "PUT", "/v2/images/"+id+"/file", data, octets); got.Code != 204 {
		a.T.Fatalf("upload: %d %s", got.Code, got.Raw)
	}
}
