package faults

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/emulator"
)

// A site carries out a create and loses the answer, or carries it out only when the client has long given up: there is
// one of each thing in the end, and it is the tenant's.
func TestLostAndLateAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	w := newWorld(t, topproc.Config{CallTimeout: time.Second, SettleTime: 4 * time.Second}, "east")
	net, subnet := w.network(t, "n", "10.9.0.0/24")
	w.routed(t, subnet)
	first := w.create(t, "/compute/v2.1/servers", "server", w.serverBody("first", net, "east"))
	if s := w.awaitServer(t, first); s.Status != "ACTIVE" {
		t.Fatalf("server = %+v", s)
	}
	faults := w.sites[0].Faults()
	volumes := "/volume/v3/" + w.tenant.ProjectID + "/volumes"
	for _, hurt := range []struct {
		name  string
		fault emulator.Fault
	}{
		{"the answer is lost", emulator.Fault{LostReply: true, Count: 1}},
		{"three answers are lost", emulator.Fault{LostReply: true, Count: 3}},
		{"carried out after the time-out", emulator.Fault{LateBy: 2 * time.Second, Count: 1}},
		{"never carried out", emulator.Fault{Reset: true, Count: 1}},
		{"an error without a meaning", emulator.Fault{Status: 500, Count: 1}},
	} {
		for _, what := range []struct {
			kind, path, bottom, key string
			body                    object
		}{
			{"server", "/compute/v2.1/servers", `/servers$`, "server", w.serverBody("s", net, "east")},
			{"port", "/network/v2.0/ports", `/ports$`, "port", object{"network_id": net}},
			{"volume", volumes, `/volumes$`, "volume", object{"size": 1, "availability_zone": "east"}},
			{"floatingip", "/network/v2.0/floatingips", `/floatingips$`, "floatingip", object{"floating_network_id": w.public}},
			{"network", "/network/v2.0/networks", `/networks$`, "network", object{"name": "other"}},
		} {
			hurt.fault.Method, hurt.fault.Path = "POST", what.bottom
			id, err := faults.Add(hurt.fault)
			if err != nil {
				t.Fatal(err)
			}
			a, err := w.tenant.Do(t.Context(), "POST", what.path, object{what.key: what.body})
			if err != nil || !a.OK() && a.Status != http.StatusServiceUnavailable {
				t.Errorf("%s, %s: %d %s %v", hurt.name, what.kind, a.Status, a.Text, err)
			}
			w.quiet(t, settled)
			faults.Remove(id)
		}
	}
	w.clear(t, settled)
}

func (w *world) serverBody(name, network, zone string) object {
	body := object{"name": name, "flavorRef": w.flavor, "imageRef": w.image, "networks": []object{{"uuid": network}}}
	if zone != "" {
		body["availability_zone"] = zone
	}
	return body
}

// Of two replicas on one database, the one that works stands still at some call of its own and goes on long after its
// lease and its claim: in between the other has made the server. There is one server in the end.
func TestPausedReplica(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	t.Parallel()
	cfg := topproc.Config{Database: dbtest.PostgresConfig(t), Dir: t.TempDir(), CallTimeout: time.Second, SettleTime: 2 * time.Second, Lease: 3 * time.Second}
	w := newWorld(t, cfg, "east")
	other := topproc.Start(t, cfg)
	net, _ := w.network(t, "n", "10.9.0.0/24")
	tops := []*topproc.Top{w.Top, other}
	for _, p := range []struct {
		name  string
		call  string // how the path of the POST ends
		after bool   // the site has carried it out
	}{
		{"before the server's create", "/servers", false},
		{"after the server's create", "/servers", true},
		{"before the port's create", "/ports", false},
		{"after the port's create", "/ports", true},
	} {
		var stopped *topproc.Top
		paused := make(chan struct{})
		once := sync.OnceFunc(func() { close(paused) })
		g := w.gates[0]
		g.catch(func(inner http.Handler, rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, p.call) || stopped != nil {
				return false
			}
			for _, top := range tops {
				if top.Owns(r.RemoteAddr) {
					stopped = top
				}
			}
			if stopped == nil {
				return false
			}
			if !p.after {
				stopped.Pause()
			}
			inner.ServeHTTP(rw, r)
			if p.after {
				stopped.Pause()
			}
			once()
			return true
		})
		id := w.create(t, "/compute/v2.1/servers", "server", w.serverBody("s", net, "east"))
		select {
		case <-paused:
		case <-time.After(settled):
			t.Fatalf("%s: no such call", p.name)
		}
		g.catch(nil)
		awake := other
		if stopped == other {
			awake = w.Top
		}
		tenant := awake.SignIn(t, "demo", "demo")
		t.Run(p.name, func(t *testing.T) {
			mine := *w
			mine.Top, mine.tenant = awake, tenant
			if s := mine.awaitServer(t, id); s.Status != "ACTIVE" {
				t.Errorf("server = %+v", s)
			}
		})
		stopped.Resume()
		w.quiet(t, settled)
		for top, places := range w.marked("server") {
			if len(places) != 1 {
				t.Errorf("%s: server %s is at %v", p.name, top, places)
			}
		}
	}
	w.clear(t, settled)
	fmt.Fprintln(t.Output(), "second bottoms deleted:", countLines(w.Log()+other.Log(), "second bottom was deleted"))
}
