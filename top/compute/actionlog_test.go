package compute_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The history of a server was Top's audit alone: the site's own events are in it, each member from its version on, and a site that is
// down takes away its own part only.
func TestInstanceActions(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.Timeouts(time.Second, 2*time.Second))
	who := cascadetest.Member("p1")
	one := s.Boot(t, who, "web", s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24"))
	for range 2 {
		if err := s.Compute.Reboot(t.Context(), who, string(one.ID), true); err != nil {
			t.Fatal(err)
		}
		s.Await(t, who, one.ID, "ACTIVE")
	}
	a := newAPI(t, s)
	path := "/v2.1/servers/" + string(one.ID) + "/os-instance-actions"
	list := func(token, version, query string) []map[string]any {
		t.Helper()
		got := a.ask(token, version, http.MethodGet, path+query, nil)
		if got.code != http.StatusOK {
			t.Fatalf("list: %d %s", got.code, got.raw)
		}
		var out []map[string]any
		for _, v := range got.body["instanceActions"].([]any) {
			out = append(out, v.(map[string]any))
		}
		return out
	}
	all := list("member:p1", "2.93", "")
	if len(all) != 3 || all[0]["action"] != "reboot" || all[2]["action"] != "create" || all[2]["user_id"] != who.UserID || all[2]["request_id"] != who.RequestID {
		t.Errorf("actions: %v, want create and two reboots, each once, by Top's ids", all)
	}
	if page := list("member:p1", "2.58", "?limit=1"); len(page) != 1 {
		t.Errorf("a page of one: %v", page)
	}
	if old := list("member:p1", "2.1", ""); old[0]["updated_at"] != nil {
		t.Errorf("2.1 shows %v", old[0])
	}
	if got := a.ask("member:p1", "2.65", http.MethodGet, path+"?changes-before=2030-01-01T00:00:00Z", nil); got.code != http.StatusBadRequest {
		t.Errorf("changes-before at 2.65: %d", got.code)
	}
	if late := list("member:p1", "2.66", "?changes-since=2099-01-01T00:00:00Z"); len(late) != 0 {
		t.Errorf("after 2099: %v", late)
	}
	events := func(token, version string) []any {
		t.Helper()
		got := a.ask(token, version, http.MethodGet, path+"/"+who.RequestID, nil)
		if got.code != http.StatusOK {
			t.Fatalf("show: %d %s", got.code, got.raw)
		}
		list, _ := got.body["instanceAction"].(map[string]any)["events"].([]any)
		return list
	}
	if e := events("member:p1", "2.50"); e != nil {
		t.Errorf("events for a member at 2.50: %v", e)
	}
	names := fmt.Sprint(events("member:p1", "2.51"))
	if want := "compute_"; !strings.Contains(names, want) || strings.Contains(names, "traceback") || strings.Contains(names, "hostId") {
		t.Errorf("events for a member at 2.51: %s", names)
	}
	if e := fmt.Sprint(events("admin:admin", "2.84")); !strings.Contains(e, "traceback") || !strings.Contains(e, "details") || !strings.Contains(e, "hostId") {
		t.Errorf("events for an administrator at 2.84: %s", e)
	}
	if _, err := s.Clouds["east"].Faults().Add(emulator.Fault{Service: "compute", Path: "os-instance-actions", Reset: true}); err != nil {
		t.Fatal(err)
	}
	if left := list("member:p1", "2.93", ""); len(left) != 3 {
		t.Errorf("with the site down: %v, want Top's part", left)
	}
	if err := s.Compute.Delete(t.Context(), who, string(one.ID)); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "end of the server", func() (any, bool) {
		got := a.ask("member:p1", "2.1", http.MethodGet, path, nil)
		return got.code, got.code == http.StatusNotFound
	})
	if gone := list("member:p1", "2.21", ""); len(gone) != 4 {
		t.Errorf("of a server that is gone: %v", gone)
	}
	if got := a.ask("member:p2", "2.21", http.MethodGet, path, nil); got.code != http.StatusNotFound {
		t.Errorf("another project: %d", got.code)
	}
}
