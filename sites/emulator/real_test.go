package emulator

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

var update = flag.Bool("update", false, "rewrite testdata/calls.golden from the real region that HEADWATER_REALCLOUD names")

// recorded is what must agree of one answer: the status code, the members of
// the body with their places, and the text of an error.
type recorded struct {
	Call    string   `json:"call"`
	Code    int      `json:"code"`
	Members []string `json:"members,omitempty"`
	Error   string   `json:"error,omitempty"`
}

func (s step) record(a answer) recorded {
	r := recorded{Call: strings.Join(strings.Fields(s.user+" "+s.service+" "+s.method+" "+s.path+" "+s.body+" "+s.version), " "), Code: a.code}
	switch {
	case s.loose:
	case a.code >= 400:
		r.Error = plain(a.text)
	default:
		names := map[string]bool{}
		memberNames(a.body, "", names)
		r.Members = slices.Sorted(maps.Keys(names))
	}
	return r
}

func compare(t *testing.T, s step, have, want recorded) {
	t.Helper()
	if have.Call != want.Call {
		t.Fatalf("line %d is %q, but %q was recorded: record anew with -update", s.line, have.Call, want.Call)
	}
	if have.Code != want.Code || have.Error != want.Error {
		t.Errorf("line %d: %s: got\n  %d %.300s\nwant, as from a real region,\n  %d %.300s", s.line, have.Call, have.Code, have.Error, want.Code, want.Error)
		return
	}
	var missing, extra []string
	for _, k := range want.Members {
		if !slices.Contains(have.Members, k) {
			missing = append(missing, k)
		}
	}
	for _, k := range have.Members {
		if !slices.Contains(want.Members, k) {
			extra = append(extra, k)
		}
	}
	if len(missing)+len(extra) > 0 {
		t.Errorf("line %d: %s: members missing %v, too many %v", s.line, have.Call, missing, extra)
	}
}

// emulatedTour is a tour of an emulated cloud with what the real regions are born with.
func emulatedTour(t *testing.T) *tour {
	t.Helper()
	srv := httptest.NewServer(New(Default("emu").Instant()))
	t.Cleanup(srv.Close)
	tr := newTour(t, srv.URL+"/identity/v3", "secret")
	tr.prepare(t)
	return tr
}

const goldenFile = "testdata/calls.golden"

// TestSameAsRecorded makes the calls of testdata/calls.txt at an emulated cloud
// and compares the answers with those that a real Zed region gave.
func TestSameAsRecorded(t *testing.T) {
	t.Parallel()
	var want []recorded
	if err := json.Unmarshal(must(os.ReadFile(goldenFile))(t), &want); err != nil {
		t.Fatal(err)
	}
	steps := readSteps(t)
	if len(steps) != len(want) {
		t.Fatalf("%d calls, but %d recorded answers: record anew with -update", len(steps), len(want))
	}
	tr := emulatedTour(t)
	for i, s := range steps {
		compare(t, s, s.record(tr.do(t, s)), want[i])
	}
}

// TestSameAsRealRegion makes the same calls at the real region "east" of the
// clouds.yaml that HEADWATER_REALCLOUD names; with -update it records them.
func TestSameAsRealRegion(t *testing.T) {
	t.Parallel()
	file := os.Getenv("HEADWATER_REALCLOUD")
	if file == "" {
		t.Skip("HEADWATER_REALCLOUD does not name a clouds.yaml of real regions")
	}
	var clouds struct {
		Clouds map[string]struct {
			Auth struct {
				AuthURL  string `yaml:"auth_url"`
				Password string `yaml:"password"`
			} `yaml:"auth"`
		} `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(must(os.ReadFile(file))(t), &clouds); err != nil {
		t.Fatal(err)
	}
	have, want := emulatedTour(t), newTour(t, clouds.Clouds["east"].Auth.AuthURL, clouds.Clouds["east"].Auth.Password)
	var golden []recorded
	for _, s := range readSteps(t) {
		w := s.record(want.do(t, s))
		golden = append(golden, w)
		compare(t, s, s.record(have.do(t, s)), w)
	}
	if *update {
		var out bytes.Buffer
		out.WriteString("[\n")
		for i, g := range golden { // a line each, so that a diff can be read
			out.Write(mustJSON(g))
			if i < len(golden)-1 {
				out.WriteByte(',')
			}
			out.WriteByte('\n')
		}
		out.WriteString("]\n")
		if err := os.WriteFile(goldenFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// step is one call. A line of the file is
//
//	USER SERVICE METHOD PATH [body|-] [save=NAME:member.member] [wait=member.member:VALUE] [version=V] [loose]
//
// where ${NAME} is what an earlier step saved, and a JSON body has no spaces.
type step struct {
	line                             int
	user, service, method, path      string
	body, save, wait, version, ctype string
	loose                            bool
}

func readSteps(t *testing.T) []step {
	t.Helper()
	var out []step
	for n, line := range strings.Split(string(must(os.ReadFile("testdata/calls.txt"))(t)), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 4 {
			t.Fatalf("testdata/calls.txt:%d: too short", n+1)
		}
		s := step{line: n + 1, user: f[0], service: f[1], method: f[2], path: f[3]}
		for _, x := range f[4:] {
			k, v, _ := strings.Cut(x, "=")
			switch k {
			case "save":
				s.save = v
			case "wait":
				s.wait = v
			case "version":
				s.version = v
			case "type":
				s.ctype = v
			case "loose":
				s.loose = true
			default:
				if x != "-" {
					s.body = x
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// tour walks through the steps at one cloud.
type tour struct {
	keystone string
	tokens   map[string]string
	urls     map[string]map[string]string // user: service: URL
	vars     map[string]string
	client   http.Client
}

type answer struct {
	code int
	text string
	body any
}

func newTour(t *testing.T, keystone, password string) *tour {
	t.Helper()
	tr := &tour{keystone: keystone, tokens: map[string]string{}, urls: map[string]map[string]string{}, vars: map[string]string{"run": newHex()[:8], "uuid": "11111111-1111-4111-8111-111111111111"}, client: http.Client{Timeout: time.Minute}}
	tr.vars["image-id"] = newID()
	for _, user := range []string{"admin", "demo"} {
		body := fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"id":"default"},"password":%q}}},"scope":{"project":{"name":%q,"domain":{"id":"default"}}}}}`, user, password, user)
		res := must(tr.client.Post(keystone+"/auth/tokens", "application/json", strings.NewReader(body)))(t)
		var token struct {
			Token struct {
				User    struct{ ID string }
				Project struct{ ID string }
				Catalog []struct {
					Type      string
					Endpoints []struct{ Interface, URL string }
				}
			}
		}
		err := json.NewDecoder(res.Body).Decode(&token)
		if err2 := res.Body.Close(); err != nil || err2 != nil || res.StatusCode != http.StatusCreated {
			t.Fatalf("log in at %s as %s: %d, %v", keystone, user, res.StatusCode, err)
		}
		tr.tokens[user] = res.Header.Get("X-Subject-Token")
		tr.vars[user], tr.vars[user+"-user"] = token.Token.Project.ID, token.Token.User.ID
		tr.urls[user] = map[string]string{"identity": keystone}
		for _, s := range token.Token.Catalog {
			for _, e := range s.Endpoints {
				if e.Interface == "public" && s.Type != "identity" {
					tr.urls[user][strings.Replace(s.Type, "volumev3", "volume", 1)] = strings.TrimSuffix(e.URL, "/")
				}
			}
		}
	}
	return tr
}

// prepare gives an emulated cloud the image and the network that the real regions are born with.
func (tr *tour) prepare(t *testing.T) {
	t.Helper()
	for _, s := range []step{
		{user: "admin", service: "image", method: "POST", path: "/v2/images", body: `{"name":"tiny","disk_format":"raw","container_format":"bare","visibility":"public"}`, save: "i:id"},
		{user: "admin", service: "image", method: "PUT", path: "/v2/images/${i}/file", body: "bytes", ctype: "application/octet-stream"},
		{user: "demo", service: "network", method: "POST", path: "/v2.0/networks", body: `{"network":{"name":"private"}}`, save: "n:network.id"},
		{user: "demo", service: "network", method: "POST", path: "/v2.0/subnets", body: `{"subnet":{"network_id":"${n}","cidr":"10.0.0.0/24","ip_version":4}}`},
	} {
		if a := tr.do(t, s); a.code >= 300 {
			t.Fatalf("prepare: %d %s", a.code, a.text)
		}
	}
}

var variable = regexp.MustCompile(`\$\{([a-z0-9-]+)\}`)

func (tr *tour) expand(t *testing.T, line int, s string) string {
	return variable.ReplaceAllStringFunc(s, func(m string) string {
		v, found := tr.vars[m[2:len(m)-1]]
		if !found {
			t.Fatalf("testdata/calls.txt:%d: %s was never saved at %s", line, m, tr.keystone)
		}
		return v
	})
}

// do makes the call; with wait=, again until the member has the value, or, for the value 404, until the thing is gone.
func (tr *tour) do(t *testing.T, s step) answer {
	t.Helper()
	colon := max(0, strings.LastIndexByte(s.wait, ':'))
	member, value := s.wait[:colon], strings.TrimPrefix(s.wait[colon:], ":")
	deadline := time.Now().Add(90 * time.Second)
	for {
		a := tr.once(t, s)
		if s.wait == "" || member == "code" && fmt.Sprint(a.code) == value || member != "code" && fmt.Sprint(dig(a.body, member)) == value {
			if name, path, saves := strings.Cut(s.save, ":"); saves {
				if v, isText := dig(a.body, path).(string); isText {
					tr.vars[name] = v
				} else {
					t.Fatalf("testdata/calls.txt:%d: no %s in %d %.300s of %s", s.line, path, a.code, a.text, tr.keystone)
				}
			}
			return a
		}
		if time.Now().After(deadline) {
			t.Errorf("testdata/calls.txt:%d: %s is not %s at %s: %.300s", s.line, member, value, tr.keystone, a.text)
			return a
		}
		select {
		case <-time.After(200 * time.Millisecond): // a real region's clock is not ours to move
		case <-t.Context().Done():
			return a
		}
	}
}

func (tr *tour) once(t *testing.T, s step) answer {
	t.Helper()
	base := tr.urls[s.user]
	if s.user == "nobody" {
		base = tr.urls["demo"]
	}
	req := must(http.NewRequestWithContext(t.Context(), s.method, base[s.service]+tr.expand(t, s.line, s.path), strings.NewReader(tr.expand(t, s.line, s.body))))(t)
	if token := tr.tokens[s.user]; token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	ctype, version := "application/json", map[string]string{"compute": "2.90", "volume": "3.70", "placement": "1.39"}[s.service]
	if s.ctype != "" {
		ctype = s.ctype
	}
	if s.body != "" {
		req.Header.Set("Content-Type", ctype)
	}
	if s.version != "" {
		version = s.version
	}
	if version != "" {
		req.Header.Set("OpenStack-API-Version", s.service+" "+version)
	}
	res := must(tr.client.Do(req))(t)
	raw := must(io.ReadAll(res.Body))(t)
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	a := answer{code: res.StatusCode, text: string(raw)}
	if json.Unmarshal(bytes.TrimSpace(raw), &a.body) != nil {
		a.body = nil
	}
	return a
}

// dig follows "a.b.0.c" into decoded JSON.
func dig(v any, path string) any {
	for _, k := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[k]
		case []any:
			i := 0
			if _, err := fmt.Sscan(k, &i); err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// free are members whose own members are the operator's or the tenant's words.
var free = []string{"metadata", "addresses", "extra_specs", "configurations", "connection_info", "binding:vif_details", "volume_image_metadata", "capabilities", "hosts", "cpu_info", "properties", "usages", "traits", "standard_attr_id"}

func memberNames(v any, prefix string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			into[prefix+"."+k] = true
			if !slices.Contains(free, k) {
				memberNames(x, prefix+"."+k, into)
			}
		}
	case []any:
		for _, x := range v {
			memberNames(x, prefix+"[]", into)
		}
	}
}

var varying = []struct {
	find *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"}, {regexp.MustCompile(`[0-9a-f]{32}`), "HEX"},
	{regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`), "IP"}, {regexp.MustCompile(`-[0-9a-f]{8}\b`), "-RUN"}, {regexp.MustCompile(`already used [\d, ]+ of`), "already used N of"},
	{regexp.MustCompile(`revision is \d+`), "revision is N"}, {regexp.MustCompile(`\s+`), " "}, {regexp.MustCompile(`(UUID,)*UUID`), "UUID"},
}

// plain takes out of an error text what differs from run to run.
func plain(s string) string {
	var v any
	if json.Unmarshal([]byte(s), &v) == nil {
		s = string(mustJSON(v)) // one order of members
	}
	for _, x := range varying {
		s = x.find.ReplaceAllString(s, x.with)
	}
	return strings.TrimSpace(s)
}
