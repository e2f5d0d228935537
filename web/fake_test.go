package web

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// hostile is a text that does harm where it is not escaped.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'`

// sealer is a Sealer with one fixed key.
type sealer struct{ aead cipher.AEAD }

func newSealer(t testing.TB) sealer {
	t.Helper()
	block, err := aes.NewCipher([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{aead}
}

func (s sealer) Seal(plain []byte, use string) (string, []byte, error) {
	return "k1", s.aead.Seal(nil, nil, plain, []byte(use)), nil
}

func (s sealer) Open(id string, box []byte, use string) ([]byte, error) {
	if id != "k1" {
		return nil, errors.New("no such key")
	}
	return s.aead.Open(nil, nil, box, []byte(use))
}

// call is a request that the fake API got.
type seen struct {
	What, Token, Body, RemoteAddr string
}

// fakeAPI is Top's HTTP API as the dashboard sees it: two projects, two sites, two servers.
type fakeAPI struct {
	mu       sync.Mutex        // guards the fields below
	answers  map[string]string // by "METHOD path", instead of the usual one; a leading "418 " is the status
	calls    []seen
	projects []string
	dead     map[string]bool // tokens
	made     int
}

func (f *fakeAPI) set(what, answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[what] = answer
}

// saw returns the calls of "METHOD path".
func (f *fakeAPI) saw(what string) []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []seen
	for _, c := range f.calls {
		if c.What == what {
			out = append(out, c)
		}
	}
	return out
}

const server1 = `{"id":"s1","name":"web-1","status":"ACTIVE","OS-EXT-STS:task_state":null,"OS-EXT-AZ:availability_zone":"west/az1",
"created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:05:05Z","image":{"id":"i1"},"flavor":{"original_name":"m1.small","vcpus":1,"ram":2048,"disk":20},
"addresses":{"lan":[{"addr":"10.0.0.5","OS-EXT-IPS:type":"fixed","OS-EXT-IPS-MAC:mac_addr":"fa:16:3e:00:00:01"},{"addr":"203.0.113.9","OS-EXT-IPS:type":"floating"}]},
"security_groups":[{"name":"default"}],"key_name":"mine","locked":true,"tags":["prod"]}`

const server2 = `{"id":"s2","name":"db-1","status":"ERROR","OS-EXT-STS:task_state":null,"OS-EXT-AZ:availability_zone":"","created":"2026-01-02T03:04:05Z",
"updated":"2026-01-02T03:04:05Z","image":"","flavor":{"original_name":"m1.big","vcpus":4,"ram":8192,"disk":80},"addresses":{},"fault":{"message":"no room at east"}}`

// usual are the answers where a test sets none.
var usual = map[string]string{
	"GET /v1/sites": `{"sites":[{"name":"west","health":{"state":"up","since":"2026-01-02T00:00:00Z"},"zones":["west","west/az1"],"capacity":{"level":"plenty"}},
		{"name":"east","health":{"state":"down","since":"2026-01-02T00:00:00Z"},"zones":["east"],"draining":true,"capacity":{"level":"unknown"}}]}`,
	"GET /image/v2/images":             `{"images":[{"id":"i1","name":"debian","status":"active","size":3145728,"headwater:sites":"west,east","visibility":"public"},{"id":"i2","name":"another's","visibility":"private","owner":"p9"}]}`,
	"GET /compute/v2.1/flavors/detail": `{"flavors":[{"id":"f1","name":"m1.small","vcpus":1,"ram":2048,"disk":20}]}`,
	"GET /network/v2.0/networks": `{"networks":[{"id":"n1","name":"lan","project_id":"p1","subnets":["sub1"],"availability_zones":["west"]},{"id":"n2","name":"public","project_id":"p1","router:external":true},
		{"id":"n3","name":"another project's","project_id":"p9"},{"id":"n4","name":"for all","project_id":"p9","shared":true}]}`,
	"GET /network/v2.0/networks/n1":                    `{"network":{"id":"n1","name":"lan"}}`,
	"GET /network/v2.0/subnets":                        `{"subnets":[{"id":"sub1","cidr":"10.0.0.0/24"}]}`,
	"GET /network/v2.0/security-groups":                `{"security_groups":[{"id":"g1","name":"default","description":"the default"}]}`,
	"GET /compute/v2.1/os-keypairs":                    `{"keypairs":[{"keypair":{"name":"mine"}}]}`,
	"GET /compute/v2.1/servers/detail":                 `{"servers":[` + server1 + `,` + server2 + `]}`,
	"GET /compute/v2.1/servers/s1":                     `{"server":` + server1 + `}`,
	"GET /compute/v2.1/servers/s1/os-instance-actions": `{"instanceActions":[{"action":"create","start_time":"2026-01-02T03:04:05.000000","message":null,"request_id":"req-1"}]}`,
	"POST /compute/v2.1/servers/s1/action":             `{"output":"boot ok"}`,
	"DELETE /compute/v2.1/servers/s1":                  `204 `,
	"POST /compute/v2.1/servers":                       `202 {"server":{"id":"s3"}}`,
	"POST /v1/placement/explain": `{"site":"west","rule":"home","verdicts":[{"site":"west","fit":true,"reasons":["the image is there already"],"score":7.25},
		{"site":"east","fit":false,"reasons":["the site is down: it does not answer"],"score":0}]}`,
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	what := r.Method + " " + r.URL.Path
	f.calls = append(f.calls, seen{what, r.Header.Get("X-Auth-Token"), string(body), r.RemoteAddr})
	w.Header().Set("X-Openstack-Request-Id", "req-fake")
	if answer, ok := f.answers[what]; ok {
		reply(w, answer)
		return
	}
	switch {
	case what == "POST /identity/v3/auth/tokens":
		f.login(w, body)
		return
	case f.dead[r.Header.Get("X-Auth-Token")] || !strings.HasPrefix(r.Header.Get("X-Auth-Token"), "token-"):
		reply(w, `401 {"error":{"code":401,"message":"The request you have made requires authentication."}}`)
	case what == "DELETE /identity/v3/auth/tokens":
		f.dead[r.Header.Get("X-Subject-Token")] = true
		reply(w, "204 ")
	case what == "GET /identity/v3/auth/projects":
		var list []string
		for _, p := range f.projects {
			list = append(list, fmt.Sprintf(`{"id":%q,"name":%q,"enabled":true}`, p, "name of "+p))
		}
		reply(w, `{"projects":[`+strings.Join(list, ",")+`]}`)
	case usual[what] != "":
		reply(w, usual[what])
	default:
		reply(w, `404 {"itemNotFound":{"code":404,"message":"There is no such thing."}}`)
	}
}

// login answers who knows the password "secret", and whoever has a token.
func (f *fakeAPI) login(w http.ResponseWriter, body []byte) {
	var in struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
				Token struct{ ID string }
			}
			Scope any
		}
	}
	_ = json.Unmarshal(body, &in)
	user := in.Auth.Identity.Password.User
	old := in.Auth.Identity.Token.ID
	text, _ := json.Marshal(in.Auth.Scope)
	scope := regexp.MustCompile(`"id":"([^"]*)"`).FindSubmatch(text)
	if user.Password != "secret" && (old == "" || f.dead[old]) || scope != nil && string(scope[1]) == "foreign" {
		reply(w, `401 {"error":{"code":401,"message":"The request you have made requires authentication."}}`)
		return
	}
	f.made++
	w.Header().Set("X-Subject-Token", fmt.Sprintf("token-%d", f.made))
	project := ""
	if scope != nil {
		project = fmt.Sprintf(`,"project":{"id":%q,"name":%q},"roles":[{"name":"member"}]`, scope[1], "name of "+string(scope[1]))
	}
	reply(w, `201 {"token":{"expires_at":"2026-01-02T12:00:00.000000Z","user":{"name":"ann","domain":{"name":"Default"}}`+project+`}}`)
}

func reply(w http.ResponseWriter, answer string) {
	code := http.StatusOK
	if len(answer) > 3 && answer[3] == ' ' {
		_, _ = fmt.Sscan(answer[:3], &code)
		answer = answer[4:]
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, answer)
}

// start is the clock of every test; the fake's tokens end at noon.
var start = time.Date(2026, 1, 2, 6, 0, 0, 0, time.UTC)

// visitor is a browser without scripts: it keeps cookies and follows nothing.
type visitor struct {
	t      *testing.T
	api    *fakeAPI
	h      http.Handler
	cookie *http.Cookie
	now    time.Time
}

func newVisitor(t *testing.T, projects ...string) *visitor {
	t.Helper()
	v := &visitor{t: t, api: &fakeAPI{answers: map[string]string{}, dead: map[string]bool{}, projects: projects}, now: start}
	v.h = New(Config{API: InProcess(v.api), Seal: newSealer(t), Now: func() time.Time { return v.now }, Log: slog.New(slog.DiscardHandler)})
	return v
}

// signedIn is a visitor in project p1.
func signedIn(t *testing.T) *visitor {
	t.Helper()
	v := newVisitor(t, "p1")
	v.get(Base + "/signin")
	if res := v.post(Base+"/signin", url.Values{"user": {"ann"}, "password": {"secret"}}); res.Code != http.StatusSeeOther {
		t.Fatalf("sign in: %d %s", res.Code, res.Body)
	}
	return v
}

func (v *visitor) do(r *http.Request) *httptest.ResponseRecorder {
	v.t.Helper()
	if v.cookie != nil {
		r.AddCookie(v.cookie)
	}
	res := httptest.NewRecorder()
	v.h.ServeHTTP(res, r)
	for _, c := range res.Result().Cookies() {
		if v.cookie = c; c.MaxAge < 0 {
			v.cookie = nil
		}
	}
	return res
}

func (v *visitor) get(path string, header ...string) *httptest.ResponseRecorder {
	v.t.Helper()
	r := httptest.NewRequestWithContext(v.t.Context(), http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return v.do(r)
}

var csrfInput = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// post sends a form with the secret that the session's pages carry, unless the form has one.
func (v *visitor) post(path string, form url.Values, header ...string) *httptest.ResponseRecorder {
	v.t.Helper()
	if !form.Has(csrfField) {
		where := Base + "/projects"
		if v.cookie == nil || !v.session().SignedIn() {
			where = Base + "/signin"
		}
		m := csrfInput.FindStringSubmatch(v.get(where).Body.String())
		if m == nil {
			v.t.Fatalf("%s has no form", where)
		}
		form.Set(csrfField, m[1])
	}
	r := httptest.NewRequestWithContext(v.t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return v.do(r)
}

// session is what the cookie holds.
func (v *visitor) session() *session {
	v.t.Helper()
	s, err := (&dashboard{cfg: Config{Seal: newSealer(v.t)}}).open(v.cookie.Value)
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}
