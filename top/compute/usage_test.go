package compute_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The marker of a usage report was not heeded: Horizon's overview, which asks for the page after the last server until
// there is none, never came. A period that ends in the future was charged to its end.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	for _, name := range []string{"a", "b", "c"} {
		s.Boot(t, who, name, img, net)
	}
	now := time.Now().UTC()
	const layout = "2006-01-02T15:04:05"
	window := "start=" + now.Add(-time.Hour).Format(layout) + "&end=" + now.Add(240*time.Hour).Format(layout)

	pages, seen := 0, map[string]bool{}
	for path := "/v2.1/os-simple-tenant-usage/p1?limit=2&" + window; path != ""; pages++ {
		got := a.ask("member:p1", "2.40", "GET", path, nil)
		if got.code != 200 || pages > 3 {
			t.Fatalf("page %d: %d %s", pages, got.code, got.raw)
		}
		usage := got.body["tenant_usage"].(map[string]any)
		servers, _ := usage["server_usages"].([]any)
		for _, one := range servers {
			one := one.(map[string]any)
			seen[one["instance_id"].(string)] = true
			if h := one["hours"].(float64); h < 0 || h > 1 || one["state"] != "active" || one["ended_at"] != nil {
				t.Errorf("server %v", one)
			}
		}
		path = ""
		if links, ok := got.body["tenant_usage_links"].([]any); ok {
			path = strings.TrimPrefix(links[0].(map[string]any)["href"].(string), "http://top/compute")
		}
	}
	if len(seen) != 3 || pages != 2 {
		t.Errorf("%d servers on %d pages", len(seen), pages)
	}
	if got := a.ask("member:p1", "2.39", "GET", "/v2.1/os-simple-tenant-usage/p1?limit=2&marker=x&"+window, nil); len(got.body["tenant_usage"].(map[string]any)["server_usages"].([]any)) != 3 {
		t.Errorf("before 2.40: %d %s", got.code, got.raw)
	}
	if got := a.ask("member:p1", "2.40", "GET", "/v2.1/os-simple-tenant-usage/p1?marker="+url.QueryEscape("no such"), nil); got.code != 400 {
		t.Errorf("unknown marker: %d %s", got.code, got.raw)
	}
	if got := a.ask("admin:ops", "2.1", "PUT", "/v2.1/os-quota-class-sets/default", `{"quota_class_set":{"instances":5}}`); got.code != 409 || !strings.Contains(string(got.raw), "quota set") {
		t.Errorf("default limits: %d %s", got.code, got.raw)
	}
	all := a.ask("admin:ops", "2.40", "GET", "/v2.1/os-simple-tenant-usage?limit=3&"+window, nil)
	if all.code != 200 || len(all.body["tenant_usages"].([]any)) != 1 || all.body["tenant_usages_links"] == nil {
		t.Errorf("all projects: %d %s", all.code, all.raw)
	}
}
