package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestSignInToTheOnlyProject(t *testing.T) {
	t.Parallel()
	v := newVisitor(t, "p1")
	if res := v.get(Base + "/signin"); res.Code != http.StatusOK || !strings.Contains(res.Body.String(), `autocomplete="current-password"`) {
		t.Fatalf("sign-in page: %d %s", res.Code, res.Body)
	}
	before := v.session().CSRF
	res := v.post(Base+"/signin", url.Values{"user": {"ann"}, "password": {"secret"}, "next": {Base + "/sites"}})
	if res.Code != http.StatusSeeOther || res.Header().Get("Location") != Base+"/sites" {
		t.Fatalf("sign in = %d to %q", res.Code, res.Header().Get("Location"))
	}
	s := v.session()
	if s.ProjectID != "p1" || s.Token != "token-2" || s.CSRF == before {
		t.Errorf("session = %+v: want project p1, its token, and a secret that nobody knew before", s)
	}
	if !v.api.dead["token-1"] {
		t.Error("the token without a scope was not revoked")
	}
	if got := v.api.saw("POST /identity/v3/auth/tokens"); got[0].RemoteAddr != "192.0.2.1:1234" {
		t.Errorf("the API counts failed sign-ins by %q, want the browser's address", got[0].RemoteAddr)
	}
}

func TestSignInAsksForTheProject(t *testing.T) {
	t.Parallel()
	v := newVisitor(t, "p1", "p2")
	res := v.post(Base+"/signin", url.Values{"user": {"ann"}, "password": {"secret"}, "next": {Base + "/launch"}})
	if want := Base + "/projects?next=%2Fdashboard%2Flaunch"; res.Header().Get("Location") != want {
		t.Fatalf("sign in leads to %q, want %q", res.Header().Get("Location"), want)
	}
	if res := v.get(Base + "/instances"); res.Code != http.StatusSeeOther || !strings.HasPrefix(res.Header().Get("Location"), Base+"/projects") {
		t.Errorf("a page without a project = %d to %q", res.Code, res.Header().Get("Location"))
	}
	if body := v.get(Base + "/projects").Body.String(); !strings.Contains(body, "name of p1") || !strings.Contains(body, "name of p2") {
		t.Errorf("the projects are not offered: %s", body)
	}
	res = v.post(Base+"/projects", url.Values{"project": {"p2"}, "next": {Base + "/launch"}})
	if res.Header().Get("Location") != Base+"/launch" || v.session().ProjectID != "p2" {
		t.Errorf("choosing leads to %q with %+v", res.Header().Get("Location"), v.session())
	}
	old := v.session().Token
	if res = v.post(Base+"/projects", url.Values{"project": {"p1"}}); v.session().ProjectID != "p1" || !v.api.dead[old] {
		t.Errorf("switching = %d %+v; old token revoked: %v", res.Code, v.session(), v.api.dead[old])
	}
	res = v.post(Base+"/projects", url.Values{"project": {"foreign"}})
	if res.Code != http.StatusUnprocessableEntity || v.session().ProjectID != "p1" || !strings.Contains(res.Body.String(), "cannot work in that project") {
		t.Errorf("a foreign project = %d, session %+v", res.Code, v.session())
	}
}

func TestSignInRefused(t *testing.T) {
	t.Parallel()
	v := newVisitor(t, "p1")
	res := v.post(Base+"/signin", url.Values{"user": {hostile}, "password": {"wr0ng"}, "domain": {"corp"}})
	body := res.Body.String()
	if res.Code != http.StatusUnprocessableEntity || !strings.Contains(body, "password or the domain is wrong") || !strings.Contains(body, `value="corp"`) {
		t.Errorf("refused = %d %s", res.Code, body)
	}
	if strings.Contains(body, "wr0ng") || strings.Contains(body, "<script>alert") || v.session().SignedIn() {
		t.Errorf("the page repeats the password or a script: %s", body)
	}
	v.api.set("POST /identity/v3/auth/tokens", `429 {"error":{"code":429,"message":"Too many attempts: wait 30 seconds."}}`)
	if body := v.post(Base+"/signin", url.Values{"user": {"ann"}, "password": {"secret"}}).Body.String(); !strings.Contains(body, "wait 30 seconds") {
		t.Errorf("the API's own reason is not shown: %s", body)
	}
}

func TestCookie(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	c := v.cookie
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != Base || c.Domain != "" || c.Secure {
		t.Errorf("cookie on plain HTTP = %+v", c)
	}
	if strings.Contains(c.Value, "token-") {
		t.Error("the cookie shows the token")
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://top.example"+Base+"/signin", nil)
	res := httptest.NewRecorder()
	v.h.ServeHTTP(res, r)
	if !res.Result().Cookies()[0].Secure {
		t.Error("the cookie is not Secure under TLS")
	}
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(*visitor)
	}{
		{"token expired", func(v *visitor) { v.now = start.Add(7 * time.Hour) }},
		{"token revoked", func(v *visitor) { v.api.dead["token-2"] = true }},
		{"cookie forged", func(v *visitor) { v.cookie.Value = v.cookie.Value[:len(v.cookie.Value)-2] + "AA" }},
		{"cookie of another key", func(v *visitor) { v.cookie.Value = "k2" + v.cookie.Value[2:] }},
		{"no cookie", func(v *visitor) { v.cookie = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := signedIn(t)
			tt.end(v)
			kept := v.cookie
			res := v.get(Base + "/instances/s1")
			const back = Base + "/signin?ended=1&next=%2Fdashboard%2Finstances%2Fs1"
			if res.Code != http.StatusSeeOther || res.Header().Get("Location") != back || v.cookie != nil {
				t.Errorf("page = %d to %q, cookie %v", res.Code, res.Header().Get("Location"), v.cookie)
			}
			v.cookie = kept
			res = v.get(Base+"/instances", "HX-Request", "true", "HX-Current-URL", "http://top"+Base+"/instances?name=a")
			if got := res.Header().Get("HX-Redirect"); got != Base+"/signin?ended=1&next=%2Fdashboard%2Finstances%3Fname%3Da" || res.Body.Len() > 0 {
				t.Errorf("live part sends to %q with %q", got, res.Body)
			}
		})
	}
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	if res := v.post(Base+"/signout", url.Values{}); res.Header().Get("Location") != Base+"/signin" || v.cookie != nil || !v.api.dead["token-2"] {
		t.Errorf("sign out leads to %q; cookie %v, revoked %v", res.Header().Get("Location"), v.cookie, v.api.dead["token-2"])
	}
}

// Every form of every page is refused without the session's secret, and from another origin.
func TestForgedForms(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/signin", "/signout", "/projects", "/launch", "/launch/placement", "/instances/s1/do/delete", "/instances/s1/do/stop"} {
		for name, form := range map[string]url.Values{"no secret": {csrfField: {""}}, "another's secret": {csrfField: {"AAAAAAAAAAAAAAAAAAAAAAAAAA"}}} {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				v := signedIn(t)
				before := len(v.api.calls)
				if res := v.post(Base+path, form); res.Code != http.StatusForbidden || len(v.api.calls) != before {
					t.Errorf("= %d, and the API was called %d times", res.Code, len(v.api.calls)-before)
				}
			})
		}
		t.Run(path+" cross-site", func(t *testing.T) {
			t.Parallel()
			v := signedIn(t)
			form := url.Values{csrfField: {v.session().CSRF}}
			before := len(v.api.calls)
			if res := v.post(Base+path, form, "Sec-Fetch-Site", "cross-site"); res.Code != http.StatusForbidden || len(v.api.calls) != before {
				t.Errorf("= %d, and the API was called %d times", res.Code, len(v.api.calls)-before)
			}
		})
	}
}

// What stands in a link must not lead out of the dashboard.
func TestLocal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		Base + "/sites":                Base + "/sites",
		Base + "/instances?name=a%2Fb": Base + "/instances?name=a%2Fb",
		"":                             Base, "/": Base, Base: Base, "/identity/v3": Base,
		"//evil.example/dashboard/x": Base, "https://evil.example/dashboard/x": Base, "javascript:alert(1)//dashboard/": Base,
		`/dashboard/\evil.example`: Base, `\\evil.example\dashboard`: Base, "/dashboardevil/": Base, "/dashboard/signout": Base,
	} {
		if got := local(in); got != want {
			t.Errorf("local(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	d := &dashboard{cfg: Config{Seal: newSealer(f)}}
	for _, seed := range []string{"", ".", "k1.", "k1.AAAA", "k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "x.y.z", "k1.%%%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if s, err := d.open(value); err == nil {
			t.Errorf("a forged cookie opened: %+v", s)
		}
	})
}
