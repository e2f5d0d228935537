package faults

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/topproc"
)

// health is what the operator sees of a site.
func (w *world) health(t *testing.T, name string) string {
	t.Helper()
	var got struct {
		Site struct{ Health struct{ State string } }
	}
	w.Admin(t).Must(t, "GET", "/v1/sites/"+name, nil, &got)
	return got.Site.Health.State
}

// listTime is the median time of listing servers.
func (w *world) listTime(t *testing.T) time.Duration {
	t.Helper()
	var all []time.Duration
	for range 41 {
		began := time.Now()
		w.tenant.Must(t, "GET", "/compute/v2.1/servers/detail", nil, nil)
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// where is the site of a server, by the census.
func (w *world) where(id string) string {
	site, _, _ := strings.Cut(strings.Join(w.marked("server")[id], " "), " ")
	return site
}

// A site is cut off. Listings answer as before; what needs nothing of it lands elsewhere; what needs it is refused with
// its name and the reason; what was accepted for it waits, and is done when the site is back.
func TestSiteDown(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for health to change")
	}
	t.Parallel()
	w := newWorld(t, topproc.Config{}, "east", "west")
	free := object{"name": "s", "flavorRef": w.flavor, "imageRef": w.image, "networks": "none"}
	newest := "OpenStack-API-Version: compute 2.93"
	first := w.create(t, "/compute/v2.1/servers", "server", free, newest)
	w.awaitServer(t, first)
	dead := w.where(first) // the project's home: the hardest case
	alive := map[string]string{"east": "west", "west": "east"}[dead]
	net, _ := w.network(t, "n", "10.7.0.0/24")
	tied := w.create(t, "/compute/v2.1/servers", "server", w.serverBody("tied", net, dead))
	w.awaitServer(t, tied)
	volume := w.create(t, "/volume/v3/"+w.tenant.ProjectID+"/volumes", "volume", object{"size": 1, "availability_zone": dead})
	// The image lies at the living site too, so that servers there need nothing of the dead one.
	w.awaitServer(t, w.create(t, "/compute/v2.1/servers", "server", with(free, "availability_zone", alive), newest))
	w.quiet(t, settled)
	before := w.listTime(t)

	w.site(dead).Faults().Outage()
	topproc.Await(t, "the site to count as down", func(context.Context) bool { return w.health(t, dead) == "down" })
	if during := w.listTime(t); during > 10*before+50*time.Millisecond {
		t.Errorf("a list takes %v while a site is down, %v before", during, before)
	}
	if got := w.servers(t); len(got) != 3 {
		t.Errorf("%d servers are listed, want 3: %v", len(got), got)
	}
	elsewhere := w.create(t, "/compute/v2.1/servers", "server", free, newest)
	if s := w.awaitServer(t, elsewhere); s.Status != "ACTIVE" || w.where(elsewhere) != alive {
		t.Errorf("a server tied to nothing is %+v at %q, want %s", s, w.where(elsewhere), alive)
	}
	for name, body := range map[string]object{
		"tied by its network": w.serverBody("t", net, ""),
		"pinned by its zone":  with(free, "availability_zone", dead),
	} {
		a, err := w.tenant.Do(t.Context(), "POST", "/compute/v2.1/servers", object{"server": body}, newest)
		if err != nil || a.Status != http.StatusServiceUnavailable || !strings.Contains(a.Text, dead) || a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %q %s %v; want a 503 that names %s", name, a.Status, a.Header.Get("Retry-After"), a.Text, err, dead)
		}
		t.Logf("%s, the tenant reads: %s", name, a.Text)
	}
	// Accepted while the site is away.
	w.tenant.Must(t, "DELETE", "/compute/v2.1/servers/"+tied, nil, nil)
	w.tenant.Must(t, "DELETE", "/volume/v3/"+w.tenant.ProjectID+"/volumes/"+volume, nil, nil)
	// A verb that calls through is refused with the site's name, and leaves the status as it was.
	a, err := w.tenant.Do(t.Context(), "POST", "/compute/v2.1/servers/"+first+"/action", object{"os-stop": nil})
	if err != nil || a.Status != http.StatusServiceUnavailable && a.Status != http.StatusConflict && a.Status != http.StatusAccepted {
		t.Errorf("stop: %d %s %v", a.Status, a.Text, err)
	}

	w.site(dead).Faults().Recover()
	topproc.Await(t, "the site to count as up", func(context.Context) bool { return w.health(t, dead) == "up" })
	topproc.Await(t, "what was accepted to be done", func(context.Context) bool {
		return len(w.marked("server")[tied]) == 0 && len(w.marked("volume")[volume]) == 0 && w.servers(t)[tied].ID == ""
	})
	again := w.create(t, "/compute/v2.1/servers", "server", w.serverBody("again", net, ""))
	if s := w.awaitServer(t, again); s.Status != "ACTIVE" || w.where(again) != dead {
		t.Errorf("after the site came back: %+v at %q", s, w.where(again))
	}
	topproc.Await(t, "a settled world", func(context.Context) bool { return w.servers(t)[first].Task == "" })
}

func with(body object, key string, value any) object {
	out := object{key: value}
	for k, v := range body {
		if k != key {
			out[k] = v
		}
	}
	return out
}

// A site's account loses its role. Top says so in an alarm, forgets nothing and deletes nothing; when the role is back, all goes on.
func TestLostRole(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	w := newWorld(t, topproc.Config{DiffEvery: time.Second}, "east")
	net, _ := w.network(t, "n", "10.7.0.0/24")
	for i := range 8 { // more than the few whose absence would be believed
		w.create(t, "/compute/v2.1/servers", "server", w.serverBody(fmt.Sprintf("s%d", i), net, ""))
	}
	w.quiet(t, settled)
	before := w.servers(t)
	there := len(w.site("east").Everything())
	alarm := func() bool {
		return strings.Contains(w.Metrics(), `headwater_inventory_alarm{site="east"} 1`)
	}
	for _, roles := range [][]string{{"admin"}, nil} { // one of them, or all
		w.site("east").Faults().LoseRoles("admin", roles...)
		topproc.Await(t, "the alarm", func(context.Context) bool { return alarm() })
		// As long as several comparisons take.
		n := countLines(w.Log(), "full comparison was stopped")
		topproc.Await(t, "three more comparisons", func(context.Context) bool { return countLines(w.Log(), "full comparison was stopped") >= n+3 })
		if got := w.servers(t); fmt.Sprint(got) != fmt.Sprint(before) {
			t.Errorf("servers are now %v, were %v", got, before)
		}
		if n := len(w.site("east").Everything()); n != there {
			t.Errorf("%d things are at the site, there were %d", n, there)
		}
		w.site("east").Faults().RestoreRoles("admin")
		topproc.Await(t, "the end of the alarm", func(context.Context) bool { return !alarm() })
	}
	id := w.create(t, "/compute/v2.1/servers", "server", w.serverBody("after", net, ""))
	if s := w.awaitServer(t, id); s.Status != "ACTIVE" {
		t.Errorf("server = %+v", s)
	}
	w.clear(t, settled)
}
