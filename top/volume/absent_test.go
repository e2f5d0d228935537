package volume_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Horizon's lists of volumes and snapshots failed as a whole, because the list of transfers beside them was a 404, and
// 400 "Malformed request url" without the project in the path.
func TestAbsent(t *testing.T) {
	t.Parallel()
	a := newAPI(t, cascadetest.New(t, []ident.SiteID{"east"}))
	for path, key := range map[string]string{
		"volume-transfers/detail": "transfers", "os-volume-transfer": "transfers", "groups/detail?all_tenants=1": "groups", "group_snapshots/detail": "group_snapshots",
		"group_types": "group_types", "backups/detail": "backups", "qos-specs": "qos_specs", "consistencygroups": "consistencygroups",
	} {
		for _, base := range []string{"/v3/", "/v3/p1/"} {
			got := a.Ask("member:p1", http.MethodGet, base+path, nil)
			if list, ok := got.Body[key].([]any); got.Code != 200 || !ok || len(list) != 0 {
				t.Errorf("%s%s = %d %s", base, path, got.Code, got.Raw)
			}
		}
	}
	for path, want := range map[string]int{"nonsense/detail": 404, "0123456789abcdef0123456789abcdef/volumes": 400} {
		if got := a.Ask("member:p1", http.MethodGet, "/v3/"+path, nil); got.Code != want {
			t.Errorf("%s = %d %s, want %d", path, got.Code, got.Raw, want)
		}
	}
	if got := a.Ask("member:p1", http.MethodPost, "/v3/p1/volume-transfers", map[string]any{"transfer": map[string]any{"volume_id": "x"}}); got.Code != 403 || !strings.Contains(string(got.Raw), "change hands") {
		t.Errorf("transfer: %d %s", got.Code, got.Raw)
	}
	if got := a.Ask("member:p1", http.MethodGet, "/v3/extensions", nil); !strings.Contains(string(got.Raw), `"AvailabilityZones"`) {
		t.Errorf("extensions: %s", got.Raw)
	}
	if got := a.Ask("admin:p1", http.MethodPut, "/v3/os-quota-class-sets/default", map[string]any{"quota_class_set": map[string]any{"volumes": 5}}); got.Code != 403 || !strings.Contains(string(got.Raw), "quota set") {
		t.Errorf("default limits: %d %s", got.Code, got.Raw)
	}
	if got := a.Ask("admin:p1", http.MethodGet, "/v3/os-quota-class-sets/default", nil); got.Code != 200 || !strings.Contains(string(got.Raw), `"volumes":`) {
		t.Errorf("default limits: %d %s", got.Code, got.Raw)
	}
}
