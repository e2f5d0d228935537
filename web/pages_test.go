package web

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// everyPage are the addresses that show something.
var everyPage = []string{"/instances", "/instances/s1", "/instances/s1/log", "/instances/s1/do/delete", "/sites", "/launch", "/projects", "/nowhere"}

// Every page keeps the rules that the content security policy enforces, and says so to the browser.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`(?i)<script(?: [^>]*)?>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:|https?://`)
	ids := regexp.MustCompile(` id="([^"]+)"`)
	for _, path := range everyPage {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			res := signedIn(t).get(Base + path)
			body := res.Body.String()
			if found := forbidden.FindString(body); found != "" {
				t.Errorf("the page has %q", found)
			}
			csp := res.Header().Get("Content-Security-Policy")
			if !strings.Contains(csp, "script-src 'self';") || strings.Contains(csp, "unsafe") || res.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("headers = %v", res.Header())
			}
			if strings.Contains(body, "token-") {
				t.Error("the page shows the token")
			}
			count := map[string]int{}
			for _, m := range ids.FindAllStringSubmatch(body, -1) {
				if count[m[1]]++; count[m[1]] > 1 {
					t.Errorf("two elements have the id %q", m[1])
				}
			}
		})
	}
}

// What users, sites and guests write is text, wherever it is shown.
func TestEverythingIsEscaped(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	text, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	replace := regexp.MustCompile(`"(west|east|web-1|db-1|debian|lan|default|the default|mine|m1\.small|no room at east|10\.0\.0\.5|10\.0\.0\.0/24|prod|create|req-1|boot ok|the image is there already|the site is down: it does not answer|west/az1|plenty|n1|g1|f1)"`)
	for what, answer := range usual {
		v.api.set(what, string(replace.ReplaceAllLiteral([]byte(answer), text)))
	}
	for _, path := range append(everyPage, "/launch?site="+url.QueryEscape(hostile), "/instances?name="+url.QueryEscape(hostile)) {
		body := v.get(Base + path).Body.String()
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") {
			t.Errorf("%s lets a script through", path)
		}
		if path != "/nowhere" && path != "/projects" && !strings.Contains(body, "&lt;script&gt;") {
			t.Errorf("%s does not show the text at all", path)
		}
	}
	v.api.set("GET /compute/v2.1/servers/s1", `500 {"computeFault":{"message":`+string(text)+`}}`)
	if body := v.get(Base + "/instances/s1").Body.String(); strings.Contains(body, "<script>alert") {
		t.Error("an error of the API lets a script through")
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	body := v.get(Base + "/instances").Body.String()
	for _, want := range []string{
		"2 instances: 1 active, 1 error", "<b>west</b> <span class=\"faint\">az1</span>", "10.0.0.5", "203.0.113.9", "floating", "m1.small", "debian",
		"2 hours ago", "locked", "no room at east", "not placed yet", `hx-trigger="every 10s,`, "do/stop", "do/reboot", "do/delete",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the list lacks %q", want)
		}
	}
	if strings.Contains(body, "s1/do/start") || strings.Contains(body, "s2/do/reboot") {
		t.Error("a verb is offered that the API would refuse")
	}
	v.api.set("GET /compute/v2.1/servers/detail", `{"servers":[`+strings.Replace(server1, `"OS-EXT-STS:task_state":null`, `"OS-EXT-STS:task_state":"powering-off"`, 1)+`],"servers_links":[{"rel":"next"}]}`)
	body = v.get(Base+"/instances", "HX-Request", "true").Body.String()
	if !strings.Contains(body, `hx-trigger="every 2s,`) || !strings.Contains(body, "powering off") || strings.Contains(body, "<html") || strings.Contains(body, "do/stop") {
		t.Errorf("the live part = %s", body)
	}
	if !strings.Contains(body, "/dashboard/instances?after=s1") {
		t.Error("there is no way to the next page")
	}
	v.api.set("GET /compute/v2.1/servers/detail", `{"servers":[]}`)
	if body := v.get(Base + "/instances").Body.String(); !strings.Contains(body, "Nothing runs in this project yet") || !strings.Contains(body, "openstack --os-cloud headwater server create") {
		t.Error("the empty list does not say how to begin")
	}
}

func TestAPIFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		code         int
		want         string
	}{
		{"forbidden", `403 {"forbidden":{"message":"Policy does not allow it."}}`, 403, "Policy does not allow it."},
		{"down", `503 {"serviceUnavailable":{"message":"Site east is down."}}`, 503, "Site east is down."},
		{"no JSON", `<html>`, 502, "gave no usable answer"},
		{"wrong types", `{"servers":7}`, 502, "gave no usable answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := signedIn(t)
			v.api.set("GET /compute/v2.1/servers/detail", tt.answer)
			if res := v.get(Base + "/instances"); res.Code != tt.code || !strings.Contains(res.Body.String(), tt.want) {
				t.Errorf("page = %d %s", res.Code, res.Body)
			}
			res := v.get(Base+"/instances", "HX-Request", "true")
			if res.Header().Get("HX-Retarget") != "#notices" || !strings.Contains(res.Body.String(), tt.want) || strings.Contains(res.Body.String(), "<html") {
				t.Errorf("live part = %v %s", res.Header(), res.Body)
			}
		})
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]seen{
		"stop":   {What: "POST /compute/v2.1/servers/s1/action", Body: `{"os-stop":null}`},
		"start":  {What: "POST /compute/v2.1/servers/s1/action", Body: `{"os-start":null}`},
		"reboot": {What: "POST /compute/v2.1/servers/s1/action", Body: `{"reboot":{"type":"SOFT"}}`},
		"delete": {What: "DELETE /compute/v2.1/servers/s1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := signedIn(t)
			path := Base + "/instances/s1/do/" + name
			if ask := v.get(path, "HX-Request", "true"); !strings.Contains(ask.Body.String(), "web-1") || len(v.api.saw(want.What)) != 0 {
				t.Errorf("the question = %s, and the API saw %v", ask.Body, v.api.saw(want.What))
			}
			res := v.post(path, url.Values{}, "HX-Request", "true")
			got := v.api.saw(want.What)
			if len(got) != 1 || got[0].Body != want.Body || got[0].Token != "token-2" || res.Header().Get("HX-Trigger") != "headwater-changed" {
				t.Errorf("the API saw %+v; answer %v %s", got, res.Header(), res.Body)
			}
			if res := v.post(path, url.Values{}); res.Code != http.StatusSeeOther || res.Header().Get("Location") != Base+"/instances" {
				t.Errorf("without scripts = %d to %q", res.Code, res.Header().Get("Location"))
			}
			v.api.set(want.What, `409 {"conflictingRequest":{"message":"It is locked."}}`)
			res = v.post(path, url.Values{}, "HX-Request", "true")
			if res.Header().Get("HX-Retarget") != "#dialog-body" || !strings.Contains(res.Body.String(), "It is locked.") || res.Header().Get("HX-Trigger") != "" {
				t.Errorf("refused = %v %s", res.Header(), res.Body)
			}
		})
	}
	if res := signedIn(t).get(Base + "/instances/s1/do/explode"); res.Code != http.StatusNotFound {
		t.Errorf("an unknown verb = %d", res.Code)
	}
}

func TestInstancePage(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	body := v.get(Base + "/instances/s1").Body.String()
	for _, want := range []string{"web-1", "fa:16:3e:00:00:01", "1 vCPU", "2 GiB", "mine", "req-1", `hx-get="/dashboard/instances/s1/log"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if log := v.get(Base+"/instances/s1/log", "HX-Request", "true").Body.String(); !strings.Contains(log, "boot ok") || strings.Contains(log, "<html") {
		t.Errorf("log = %s", log)
	}
	v.api.set("POST /compute/v2.1/servers/s1/action", `409 {"conflictingRequest":{"message":"Instance s1 is not ready"}}`)
	if log := v.get(Base + "/instances/s1/log"); log.Code != http.StatusOK || !strings.Contains(log.Body.String(), "Instance s1 is not ready") {
		t.Errorf("no log = %d %s", log.Code, log.Body)
	}
	v.api.set("GET /compute/v2.1/servers/s1", `404 {"itemNotFound":{"message":"Instance s1 could not be found."}}`)
	if res := v.get(Base + "/instances/s1"); res.Code != http.StatusNotFound || !strings.Contains(res.Body.String(), "could not be found") {
		t.Errorf("a page of what is gone = %d %s", res.Code, res.Body)
	}
	if res := v.get(Base+"/instances/s1", "HX-Request", "true"); res.Header().Get("HX-Redirect") != Base+"/instances" {
		t.Errorf("deleted while looking: %v", res.Header())
	}
}

func TestSites(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	body := v.get(Base + "/sites").Body.String()
	for _, want := range []string{"west/az1", "plenty", "draining", "6 hours"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "<progress") || strings.Contains(body, "launch?site=east") {
		t.Error("a tenant sees figures, or may launch at a draining site")
	}
	v.api.set("GET /v1/sites", `{"sites":[{"name":"east","enabled":false,"state":"active","tenancy":"project","auth_url":"http://e",
		"health":{"state":"down","reason":"refused by east","since":"2026-01-02T00:00:00Z"},"zones":[],
		"capacity":{"level":"scarce","figures":{"known":true,"hosts":3,"vcpus":1000,"vcpus_used":950,"ram":4096,"ram_used":3072,"disk":2048,"disk_used":0}}}]}`)
	body = v.get(Base + "/sites").Body.String()
	for _, want := range []string{"refused by east", "disabled", `class="bad" max="100" value="95"`, "950 of 1,000", "3 GiB of 4 GiB", "0 of 2 TiB", "3 hosts"} {
		if !strings.Contains(body, want) {
			t.Errorf("the operator's page lacks %q", want)
		}
	}
	v.api.set("GET /v1/sites", `{"sites":[]}`)
	if body := v.get(Base + "/sites").Body.String(); !strings.Contains(body, "headwater site add east --os-cloud east") {
		t.Error("the empty page does not say how to add a site")
	}
}

func launchForm() url.Values {
	return url.Values{"name": {"new-1"}, "image": {"i1"}, "flavor": {"f1"}, "network": {"n1"}, "group": {"g1"}, "key": {"mine"},
		"site": {"west"}, "zone": {"west/az1"}, "user_data": {"#!/bin/sh\r\necho hi\r\n"}}
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	res := v.post(Base+"/launch", launchForm())
	if res.Code != http.StatusSeeOther || res.Header().Get("Location") != Base+"/instances" {
		t.Fatalf("launch = %d %s", res.Code, res.Body)
	}
	var got object
	if err := json.Unmarshal([]byte(v.api.saw("POST /compute/v2.1/servers")[0].Body), &got); err != nil {
		t.Fatal(err)
	}
	want := object{"server": object{
		"name": "new-1", "imageRef": "i1", "flavorRef": "f1", "availability_zone": "west/az1", "key_name": "mine",
		"networks": []any{object{"uuid": "n1"}}, "security_groups": []any{object{"name": "g1"}},
		"user_data": base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho hi\n")),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the API got %v, want %v", got, want)
	}
}

// What is refused, by the API or before it is asked, is said at the form, which keeps what was typed.
func TestLaunchRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(url.Values)
		answer string
		want   string
		asked  int
	}{
		{"by the API", func(url.Values) {}, `403 {"forbidden":{"message":"Quota exceeded for instances."}}`, "Quota exceeded for instances.", 1},
		{"by the API, with an id", func(url.Values) {}, `409 {"conflictingRequest":{"message":"Zone west, but network n1 is at site east."}}`, "network lan is at site east.", 1},
		{"no name", func(f url.Values) { f.Set("name", " ") }, "", "needs a name", 0},
		{"no network", func(f url.Values) { f.Del("network") }, "", "Choose a network", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := signedIn(t)
			if tt.answer != "" {
				v.api.set("POST /compute/v2.1/servers", tt.answer)
			}
			form := launchForm()
			tt.change(form)
			res := v.post(Base+"/launch", form)
			body := res.Body.String()
			if res.Code != http.StatusUnprocessableEntity || len(v.api.saw("POST /compute/v2.1/servers")) != tt.asked {
				t.Errorf("= %d, the API was asked %d times", res.Code, len(v.api.saw("POST /compute/v2.1/servers")))
			}
			for _, want := range []string{tt.want, `value="i1" selected`, `value="g1" checked`, `value="west" id="pick-west" checked`, `value="west/az1" selected`, "echo hi", "<option selected>mine"} {
				if !strings.Contains(body, want) {
					t.Errorf("the form lacks %q", want)
				}
			}
		})
	}
}

// The picker shows placement's word on every site, for the very body that a launch would send.
func TestPicker(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	form := launchForm()
	body := v.post(Base+"/launch/placement", form, "HX-Request", "true").Body.String()
	for _, want := range []string{"would choose west: it is the project&#39;s home site", "Fits", "score 7.2", "the image is there already", "Does not fit",
		"the site is down: it does not answer", `<select id="zone-west"`, "The instance goes to west, zone west/az1."} {
		if !strings.Contains(body, want) {
			t.Errorf("the picker lacks %q in %s", want, body)
		}
	}
	zones := map[any]int{}
	for _, c := range v.api.saw("POST /v1/placement/explain") {
		var got struct{ Server object }
		if err := json.Unmarshal([]byte(c.Body), &got); err != nil {
			t.Fatal(err)
		}
		zones[got.Server["availability_zone"]]++
		if got.Server["name"] != "new-1" || got.Server["imageRef"] != "i1" || got.Server["user_data"] == nil {
			t.Errorf("placement was asked about %v", got.Server)
		}
	}
	if zones[nil] != 1 || zones["west/az1"] != 1 {
		t.Errorf("placement was asked about the zones %v", zones)
	}
	form.Set("site", "east") // the zone is still that of west
	if body = v.post(Base+"/launch/placement", form, "HX-Request", "true").Body.String(); strings.Contains(body, "west/az1") {
		t.Error("a zone of the other site stays")
	}
	v.api.set("POST /v1/placement/explain", `{"site":"","rule":"","verdicts":[{"site":"west","fit":false,"reasons":["network n1 is not at the site"],"score":0}],
		"refused":{"kind":"unavailable","message":"No site can take it: west: not enough vCPUs."}}`)
	body = v.post(Base+"/launch/placement", launchForm(), "HX-Request", "true").Body.String()
	for _, want := range []string{`class="said bad"`, "No site can take it: west: not enough vCPUs.", `<br>network lan is not at the site`} {
		if !strings.Contains(body, want) {
			t.Errorf("where nothing fits, the picker lacks %q in %s", want, body)
		}
	}
	v.api.set("POST /v1/placement/explain", `503 {"title":"Service Unavailable","status":503,"detail":"Site west is down: no answer."}`)
	body = v.post(Base+"/launch/placement", launchForm(), "HX-Request", "true").Body.String()
	if !strings.Contains(body, `class="said bad"`) || !strings.Contains(body, "Site west is down: no answer") {
		t.Errorf("refused = %s", body)
	}
}

// An operator's token lists what is of all projects; the form offers what this one can use.
func TestLaunchOffersWhatIsUsable(t *testing.T) {
	t.Parallel()
	body := signedIn(t).get(Base + "/launch").Body.String()
	for want, there := range map[string]bool{`value="n1"`: true, `value="n4"`: true, `value="n2"`: false, `value="n3"`: false, `value="i1"`: true, `value="i2"`: false, "at west, east": true} {
		if strings.Contains(body, want) != there {
			t.Errorf("the form has %q: %v, want %v", want, !there, there)
		}
	}
}

func TestEmptyLaunchForm(t *testing.T) {
	t.Parallel()
	v := signedIn(t)
	for what, answer := range map[string]string{
		"GET /image/v2/images": `{"images":[]}`, "GET /compute/v2.1/flavors/detail": `{"flavors":[]}`, "GET /network/v2.0/networks": `{"networks":[]}`,
		"GET /network/v2.0/security-groups": `{"security_groups":[]}`, "GET /compute/v2.1/os-keypairs": `{"keypairs":[]}`, "GET /v1/sites": `{"sites":[]}`,
	} {
		v.api.set(what, answer)
	}
	body := v.get(Base + "/launch").Body.String()
	for _, want := range []string{"openstack --os-cloud headwater network create", "openstack --os-cloud headwater image create", "keypair create", "headwater site add"} {
		if !strings.Contains(body, want) {
			t.Errorf("the empty form does not say %q", want)
		}
	}
	if n := len(v.api.saw("POST /v1/placement/explain")); n != 0 {
		t.Errorf("placement was asked %d times about nothing", n)
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	v := newVisitor(t)
	page := v.get(Base + "/signin").Body.String()
	for _, m := range regexp.MustCompile(`(?:src|href)="(/dashboard/static/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		if res := v.get(m[1]); res.Code != http.StatusOK || !strings.Contains(res.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s = %d %v", m[1], res.Code, res.Header())
		}
	}
	for _, path := range []string{"/static/", "/static/../templates/layout.html", "/templates/layout.html", "/static/nothing"} {
		if res := v.get(Base + path); res.Code == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	transport := InProcess(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("broken")
		}
		w.Header().Set("X-Before", "1")
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-After", "1")
		_, _ = w.Write([]byte(r.Host + " " + r.RequestURI + " " + r.RemoteAddr))
	}))
	client := &http.Client{Transport: transport}
	get := func(path string) (*http.Response, error) {
		req := httptest.NewRequestWithContext(withRemoteAddr(t.Context(), "192.0.2.7:1"), http.MethodGet, "http://top"+path, nil)
		req.RequestURI = ""
		return client.Do(req)
	}
	res, err := get("/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := make([]byte, 100)
	n, _ := res.Body.Read(body)
	if got := string(body[:n]); res.StatusCode != http.StatusTeapot || got != "top /a?b=c 192.0.2.7:1" || res.Header.Get("X-Before") != "1" || res.Header.Get("X-After") != "" {
		t.Errorf("answer = %d %v %q", res.StatusCode, res.Header, got)
	}
	if res, err := get("/panic"); err == nil {
		res.Body.Close()
		t.Error("a panic is no error")
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"itemNotFound":{"code":404,"message":"no server"}}`:                        "no server",
		`{"NeutronError":{"type":"NetworkNotFound","message":"no net","detail":""}}`: "no net",
		`{"error":{"code":401,"title":"Unauthorized","message":"who?"}}`:             "who?",
		`{"title":"Conflict","status":409,"detail":"two sites"}`:                     "two sites",
		"<html><body><h1>403 Forbidden</h1>\n  You may &lt;not&gt;<br /><br />":      "You may <not>",
		`[]`: "Bad Request", ``: "Bad Request", `{"a":{"message":7}}`: "Bad Request",
	} {
		if got := message(http.StatusBadRequest, []byte(body)); got != want {
			t.Errorf("message(%s) = %q, want %q", body, got, want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, seed := range []string{`{"error":{"message":"x"}}`, `{"detail":"x"}`, "</h1>x<br", "{", "null", `{"detail":null,"a":[]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, body []byte) { message(http.StatusBadRequest, body) })
}

func FuzzServer(f *testing.F) {
	for _, seed := range []string{server1, server2, `{"image":{}}`, `{"image":[]}`, `{"addresses":null}`, `{"created":""}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, body []byte) {
		var s server
		if json.Unmarshal(body, &s) == nil {
			s.Actions()
			s.Addresses.All()
			pace(s)
		}
	})
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", time.Second: "1 second ago", 90 * time.Second: "1 minute ago", 47 * time.Hour: "47 hours ago", 72 * time.Hour: "3 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "under 1 MiB", 64: "64 MiB", 2048: "2 GiB", 1536: "1.5 GiB", 3 << 20: "3 TiB", 5 << 30: "5 PiB"} {
		if got := mib(n); got != want {
			t.Errorf("mib(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %q, want %q", n, got, want)
		}
	}
}
