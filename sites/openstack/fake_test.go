package openstack

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
)

// fakeSite is a Keystone with a catalog, and behind it whatever a test answers.
type fakeSite struct {
	*httptest.Server
	handle http.HandlerFunc // everything but login and version documents

	mu        sync.Mutex // guards the fields below
	logins    int
	valid     string // the token that is taken
	life      time.Duration
	password  string
	catalog   string // "" is the whole one
	compute   string // newest microversion
	slowLogin chan struct{}
	seen      []*http.Request
}

func newFakeSite(t *testing.T, handle http.HandlerFunc) *fakeSite {
	t.Helper()
	f := &fakeSite{handle: handle, life: time.Hour, password: "secret", compute: "2.93"}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// credential is the account that the fake takes.
func (f *fakeSite) credential() sites.Credential {
	return sites.Credential{AuthURL: f.URL + "/identity/v3", Region: "r1", Username: "u", Password: "secret", UserDomainID: "default",
		ProjectName: "p", ProjectDomainID: "default"}
}

func (f *fakeSite) adaptor(t *testing.T, change ...func(*Config)) *Adaptor {
	t.Helper()
	c := Config{Site: "east", Credential: f.credential()}
	for _, f := range change {
		f(&c)
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (f *fakeSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/identity/v3/auth/tokens" {
		f.login(w, r)
		return
	}
	f.mu.Lock()
	token, newest := f.valid, f.compute
	f.seen = append(f.seen, r.Clone(r.Context()))
	f.mu.Unlock()
	if r.Header.Get("X-Auth-Token") != token {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}`)
		return
	}
	switch r.URL.Path {
	case "/compute/v2.1/":
		fmt.Fprintf(w, `{"version": {"id": "v2.1", "status": "CURRENT", "version": %q, "min_version": "2.1"}}`, newest)
	case "/volume/v3/":
		fmt.Fprint(w, `{"versions": [{"id": "v3.0", "status": "CURRENT", "version": "3.70", "min_version": "3.0"}]}`)
	case "/image/", "/network/":
		w.WriteHeader(http.StatusMultipleChoices)
		fmt.Fprint(w, `{"versions": [{"id": "v2.1", "status": "SUPPORTED"}, {"id": "v2.15", "status": "CURRENT"}]}`)
	case "/identity/v3/":
		fmt.Fprint(w, `{"version": {"id": "v3.14", "status": "stable"}}`)
	default:
		f.handle(w, r)
	}
}

func (f *fakeSite) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Password struct{ User struct{ Password string } }
			}
		}
	}
	raw, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(raw, &body)
	f.mu.Lock()
	f.logins++
	slow := f.slowLogin
	f.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-r.Context().Done():
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if body.Auth.Identity.Password.User.Password != f.password {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}`)
		return
	}
	f.valid = fmt.Sprintf("token-%d", f.logins)
	w.Header().Set("X-Subject-Token", f.valid)
	w.WriteHeader(http.StatusCreated)
	now := time.Now().UTC()
	catalog := f.catalog
	if catalog == "" {
		catalog = strings.ReplaceAll(wholeCatalog, "URL", f.URL)
	}
	fmt.Fprintf(w, `{"token": {"issued_at": %q, "expires_at": %q, "user": {"id": "u1", "name": "u", "domain": {"id": "default"}},
		"project": {"id": "p1", "name": "p", "domain": {"id": "default"}}, "roles": [{"name": "member"}], "catalog": %s}}`,
		now.Format(time.RFC3339), now.Add(f.life).Format(time.RFC3339), catalog)
}

const wholeCatalog = `[
	{"type": "identity", "endpoints": [{"interface": "public", "region": "r1", "url": "URL/identity"}]},
	{"type": "compute", "endpoints": [{"interface": "public", "region": "r1", "url": "URL/compute/v2.1"}]},
	{"type": "image", "endpoints": [{"interface": "public", "region": "r1", "url": "URL/image"}]},
	{"type": "network", "endpoints": [{"interface": "public", "region": "r1", "url": "URL/network/"}]},
	{"type": "volumev3", "endpoints": [{"interface": "public", "region": "r1", "url": "URL/volume/v3/p1"}]}]`

// revoke makes the site refuse the token in use.
func (f *fakeSite) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.valid = "revoked"
}

func (f *fakeSite) loginCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logins
}

// last returns the newest request that was not a login.
func (f *fakeSite) last() *http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[len(f.seen)-1]
}
