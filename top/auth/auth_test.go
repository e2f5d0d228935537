package auth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// fixed is a Provider of the tokens that it holds.
type fixed map[string]*identity.Token

func (f fixed) Validate(_ context.Context, token string) (*identity.Token, error) {
	if token == "broken" {
		return nil, fault.New(fault.Unavailable, "test", "the keystone does not answer")
	}
	if t := f[token]; t != nil {
		return t, nil
	}
	return nil, fault.New(fault.Unauthorized, "test", "")
}

func token(project string, roles ...string) *identity.Token {
	t := &identity.Token{User: identity.Ref{ID: "u1", Name: "ann", DomainID: "default"}}
	if project != "" {
		t.Project = &identity.Ref{ID: project}
	}
	for _, r := range roles {
		t.Roles = append(t.Roles, identity.Ref{ID: r, Name: r})
	}
	return t
}

func request(token string) echo.Context {
	r := httptest.NewRequest(http.MethodGet, "http://top:8780/compute/v2.1/servers", nil)
	if token != "" {
		r.Header.Set(TokenHeader, token)
	}
	return echo.New().NewContext(r, httptest.NewRecorder())
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	policy, err := NewPolicy(nil)
	if err != nil {
		t.Fatal(err)
	}
	a := New(fixed{"good": token("p1", "member"), "unscoped": token("")}, policy)
	const ok = fault.Kind(255)
	for _, tt := range []struct {
		token                  string
		project, any, optional fault.Kind
	}{
		{"", fault.Unauthorized, fault.Unauthorized, ok},
		{"bad", fault.Unauthorized, fault.Unauthorized, ok},
		{"broken", fault.Unavailable, fault.Unavailable, fault.Unavailable},
		{"unscoped", fault.Forbidden, ok, ok},
		{"good", ok, ok, ok},
	} {
		for name, m := range map[string]struct {
			use  echo.MiddlewareFunc
			want fault.Kind
		}{"project": {a.Project, tt.project}, "any": {a.Any, tt.any}, "optional": {a.Optional, tt.optional}} {
			c := request(tt.token)
			err := m.use(func(c echo.Context) error { return nil })(c)
			if got := fault.KindOf(err); (err == nil) != (m.want == ok) || err != nil && got != m.want {
				t.Errorf("%s with token %q: %v, want %v", name, tt.token, err, m.want)
			}
		}
	}
}

func TestCaller(t *testing.T) {
	t.Parallel()
	policy, _ := NewPolicy(nil)
	a := New(fixed{"good": token("p1", "member")}, policy)
	c := request("good")
	WithPin(c, "east")
	err := a.Project(func(c echo.Context) error {
		who := From(c).Caller()
		if who.UserID != "u1" || who.ProjectID != "p1" || who.Pin != "east" || who.RemoteAddr != "192.0.2.1" {
			t.Errorf("caller %+v", who)
		}
		return nil
	})(c)
	if err != nil {
		t.Error(err)
	}
	if err := From(request("")).Require("get_server", ""); !fault.Is(err, fault.Internal) {
		t.Errorf("without the middleware: %v, want an internal fault", err)
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	policy, err := NewPolicy(map[string]string{"get_hypervisor": "auditor"}, Rules{"brew_coffee": Member})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		role, rule, project string
		want                bool
	}{
		{"reader", "get_server", "p1", true},
		{"reader", "get_server", "p2", false},
		{"reader", "get_server", "", true},
		{"reader", "create_server", "p1", false},
		{"member", "create_server", "p1", true},
		{"member", "get_server", "p1", true},
		{"member", "create_flavor", "", false},
		{"member", "brew_coffee", "p1", true},
		{"other", "get_server", "p1", false},
		{"admin", "create_flavor", "", true},
		{"admin", "create_server", "p2", true},
		{"auditor", "get_hypervisor", "", true},
		{"admin", "get_hypervisor", "", true},
		{"member", "get_hypervisor", "", false},
	} {
		who := New(nil, policy).Enter(request(""), token("p1", tt.role), "")
		err := who.Require(tt.rule, tt.project)
		if (err == nil) != tt.want || err != nil && !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s %s of %q: %v, want allowed %v", tt.role, tt.rule, tt.project, err, tt.want)
		}
	}
	who := New(nil, policy).Enter(request(""), token("p1", "admin"), "")
	if err := who.Require("no_such_rule", ""); !fault.Is(err, fault.Internal) {
		t.Errorf("unknown rule: %v, want an internal fault", err)
	}
}

func TestNewPolicyRefuses(t *testing.T) {
	t.Parallel()
	_, err := NewPolicy(map[string]string{"no_such": "admin", "get_server": ""}, Rules{"get_port": Admin})
	for _, want := range []string{"policy no_such", "policy get_server", "rule get_port"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, public string
		header       map[string]string
		want         string
	}{
		{"direct", "", nil, "http://top:8780"},
		{"configured", "https://cloud.example/", nil, "https://cloud.example"},
		{"proxy", "", map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cloud.example, inner"}, "https://cloud.example"},
		{"prefix", "", map[string]string{"X-Forwarded-Host": "c", "X-Forwarded-Prefix": "/hw/"}, "http://c/hw"},
		{"bad host", "", map[string]string{"X-Forwarded-Host": "a\"b/c"}, "http://top:8780"},
		{"bad scheme", "", map[string]string{"X-Forwarded-Proto": "javascript"}, "http://top:8780"},
	} {
		c := request("")
		for k, v := range tt.header {
			c.Request().Header.Set(k, v)
		}
		if got := BaseURL(c, tt.public); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
