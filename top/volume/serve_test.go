package volume_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
	"github.com/headwater-cloud/headwater/top/volume"
)

// tokens are "ROLE:PROJECT".
type tokens struct{}

func (tokens) Validate(_ context.Context, text string) (*identity.Token, error) {
	role, project, ok := strings.Cut(text, ":")
	if !ok {
		return nil, fault.New(fault.Unauthorized, "test", "no such token")
	}
	return &identity.Token{
		User: identity.Ref{ID: "user-of-" + project, Name: "user", DomainID: "default"}, Project: &identity.Ref{ID: project, Name: project, DomainID: "default"},
		Roles: []identity.Ref{{ID: role, Name: role}},
	}, nil
}

// api is Top's Cinder over a stack, behind a real socket: bodies that break off need one.
type api struct {
	t     testing.TB
	stack *cascadetest.Stack
	url   string
}

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
	volume.New(volume.Config{Service: stack.Volume, Auth: auth.New(tokens{}, policy), Zones: stack.Placer, Sites: stack.Registry}).Routes(e.Group("/volume"))
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	return &api{t: t, stack: stack, url: srv.URL + "/volume"}
}

// client is gophercloud as "ROLE:PROJECT", at the latest microversion.
func (a *api) client(token string) *gophercloud.ServiceClient {
	p := &gophercloud.ProviderClient{TokenID: token, HTTPClient: *http.DefaultClient}
	return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: a.url + "/v3/", Type: "block-storage", Microversion: "3.70"}
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   map[string]any
	raw    []byte
}

// ask makes one request as "ROLE:PROJECT"; a text or reader goes as it is, all else as JSON. Header is "Name: value" pairs.
func (a *api) ask(token, method, path string, body any, header ...string) answer {
	a.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader = b
	case string:
		reader = strings.NewReader(b)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			a.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for _, h := range header {
		if k, v, ok := strings.Cut(h, ": "); ok {
			r.Header.Set(k, v)
		}
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{raw: []byte(err.Error())}
	}
	defer w.Body.Close()
	out := answer{code: w.StatusCode, header: w.Header}
	if out.raw, err = io.ReadAll(w.Body); err != nil {
		return answer{raw: []byte(err.Error())}
	}
	if len(out.raw) > 0 && out.raw[0] == '{' {
		if err := json.Unmarshal(out.raw, &out.body); err != nil {
			a.t.Fatalf("%s %s: %v in %s", method, path, err, out.raw)
		}
	}
	return out
}

// at is the header of a microversion.
func at(version string) string { return "OpenStack-API-Version: volume " + version }

// wait waits until a volume (or "snapshots") has a status.
func (a *api) wait(token, collection, id, want string) map[string]any {
	a.t.Helper()
	var one map[string]any
	cascadetest.Until(a.t, collection+" in status "+want, func() (any, bool) {
		got := a.ask(token, "GET", "/v3/"+collection+"/"+id, nil, at("3.70"))
		one, _ = got.body[strings.TrimSuffix(collection, "s")].(map[string]any)
		return string(got.raw), one["status"] == want
	})
	return one
}

// gone waits until there is no such thing any more.
func (a *api) gone(token, path string) {
	a.t.Helper()
	cascadetest.Until(a.t, "the end of "+path, func() (any, bool) {
		got := a.ask(token, "GET", path, nil)
		return string(got.raw), got.code == 404
	})
}

// make records a volume, waits for it, and returns its id.
func (a *api) make(token string, members map[string]any) string {
	a.t.Helper()
	body := map[string]any{"name": "vol", "size": 1}
	for k, v := range members {
		body[k] = v
	}
	got := a.ask(token, "POST", "/v3/volumes", map[string]any{"volume": body})
	if got.code != 202 {
		a.t.Fatalf("create: %d %s", got.code, got.raw)
	}
	id := got.body["volume"].(map[string]any)["id"].(string)
	a.wait(token, "volumes", id, "available")
	return id
}

// used is what a project uses of a quota.
func (a *api) used(token, project, name string) any {
	a.t.Helper()
	got := a.ask(token, "GET", "/v3/os-quota-sets/"+project+"?usage=True", nil)
	return got.body["quota_set"].(map[string]any)[name].(map[string]any)["in_use"]
}
