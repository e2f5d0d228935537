package compute_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/compute"
)

// Every route, walked as no one, as another project and as a reader: nothing of
// a project shows to another, and a reader changes nothing.
func TestIsolation(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	grp := a.ask("member:p1", "2.64", "POST", "/v2.1/os-server-groups", `{"server_group":{"name":"g","policy":"affinity"}}`).body["server_group"].(map[string]any)["id"].(string)
	fill := func(path string) string {
		id := string(one.ID)
		switch {
		case strings.HasPrefix(path, "/os-server-groups"):
			id = grp
		case strings.HasPrefix(path, "/flavors"):
			id = "no-such-flavor"
		}
		return strings.NewReplacer(":id", id, ":key", "k", ":tag", "t", ":network", "net", ":request", "req-1", ":volume", "v", ":port", "p", ":name", "n").Replace("/v2.1" + path)
	}
	for _, r := range compute.Routes() {
		method, path := r[0], fill(r[1])
		t.Run(method+" "+r[1], func(t *testing.T) {
			if got := a.ask("", "2.93", method, path, nil); got.code != http.StatusUnauthorized {
				t.Errorf("as no one: %d %s", got.code, got.raw)
			}
			if got := a.ask("reader:p1", "2.93", method, path, `{}`); method != "GET" && got.code < 400 {
				t.Errorf("a reader's change was taken: %d %s", got.code, got.raw)
			}
			got := a.ask("member:p2", "2.93", method, path, bodyFor(r[1]))
			if got.code >= 500 {
				t.Errorf("as another project: %d %s", got.code, got.raw)
			}
			if strings.Contains(r[1], "/servers/:id") && got.code < 400 {
				t.Errorf("another project got at the server: %d %s", got.code, got.raw)
			}
			for _, secret := range []string{"web", grp} {
				if r[1] != "/os-server-groups/:id" && strings.Contains(string(got.raw), `"`+secret+`"`) {
					t.Errorf("another project saw %s: %s", secret, got.raw)
				}
			}
		})
	}
	for _, name := range compute.Actions() {
		got := a.ask("member:p2", "2.1", "POST", fill("/servers/:id/action"), map[string]any{name: argument(name)})
		if got.code < 400 || got.code >= 500 {
			t.Errorf("action %s by another project: %d %s", name, got.code, got.raw)
		}
		if got = a.ask("reader:p1", "2.1", "POST", fill("/servers/:id/action"), map[string]any{name: argument(name)}); got.code < 400 || got.code >= 500 {
			t.Errorf("action %s by a reader: %d %s", name, got.code, got.raw)
		}
	}
	if one = s.Await(t, who, one.ID, "ACTIVE"); one.Name != "web" || len(one.Spec.Metadata) > 0 {
		t.Errorf("the server was changed: %+v", one.Spec)
	}
}

// bodyFor is a body with which the route would succeed for the owner.
func bodyFor(path string) string {
	switch {
	case strings.HasSuffix(path, "/metadata"):
		return `{"metadata":{"a":"b"}}`
	case strings.HasSuffix(path, "/metadata/:key"):
		return `{"meta":{"k":"b"}}`
	case strings.HasSuffix(path, "/tags"):
		return `{"tags":["x"]}`
	case strings.HasSuffix(path, "/remote-consoles"):
		return `{"remote_console":{"protocol":"vnc","type":"novnc"}}`
	case strings.HasSuffix(path, "/action"):
		return `{"os-stop":null}`
	case path == "/servers/:id":
		return `{"server":{"name":"theirs"}}`
	default:
		return `{}`
	}
}

func argument(action string) any {
	switch action {
	case "reboot":
		return map[string]any{"type": "HARD"}
	case "resize":
		return map[string]any{"flavorRef": "1"}
	case "rebuild":
		return map[string]any{"imageRef": "x"}
	case "createImage":
		return map[string]any{"name": "x"}
	case "changePassword":
		return map[string]any{"adminPass": "x"}
	case "addSecurityGroup", "removeSecurityGroup":
		return map[string]any{"name": "default"}
	case "os-getVNCConsole":
		return map[string]any{"type": "novnc"}
	default:
		return nil
	}
}

// Whatever a body holds, the answer is one of Nova's refusals or a server, never a failure of ours.
func FuzzCreate(f *testing.F) {
	for _, seed := range []string{
		`{"server":{"name":"x","flavorRef":1,"imageRef":"","networks":"auto"}}`,
		`{"server":{"name":"x","flavorRef":"1","imageRef":"a","networks":[{"uuid":"u","fixed_ip":"::1","tag":"t"}],"block_device_mapping_v2":[{"boot_index":"-1","uuid":"b","source_type":"blank"}]},"os:scheduler_hints":{"group":7}}`,
		`{"server":{"name":"\u0000","min_count":"9999999999999999999","security_groups":[{}],"user_data":"%"}}`, `null`, `[]`, `{"server":null}`,
	} {
		f.Add(seed, "2.93")
		f.Add(seed, "2.1")
	}
	s := cascadetest.New(f, nil, cascadetest.Idle())
	shared := newAPI(f, s)
	f.Fuzz(func(t *testing.T, body, version string) {
		a := *shared
		a.t = t
		if !strings.HasPrefix(version, "2.") || len(version) > 4 || strings.ContainsAny(version, "\r\n") {
			version = "2.93"
		}
		if got := a.ask("member:p1", version, "POST", "/v2.1/servers", body); got.code < 400 || got.code >= 500 {
			t.Errorf("%d %s", got.code, got.raw)
		}
	})
}
