package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/integration/topproc"
)

// realKills is how often Top is killed over real regions, where each round takes a minute.
const realKills = 6

// Top is killed while it makes and deletes things at two real regions. Everything accepted ends, nothing is there
// twice, and when all is deleted both regions are as before.
func TestKilledOverRealRegions(t *testing.T) {
	cloud := realcloud.Need(t, "east", "west")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	before := map[string]realcloud.Snapshot{}
	for _, region := range []string{"east", "west"} {
		var err error
		if before[region], err = cloud.Snapshot(t.Context(), region); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{Top: topproc.Start(t, topproc.Config{CallTimeout: 20 * time.Second, SettleTime: 25 * time.Second, Lease: 30 * time.Second, InventoryEvery: time.Second, DiffEvery: 30 * time.Second})}
	for _, region := range []string{"east", "west"} {
		w.AddSite(t, region, "", topproc.Account(cloud.Region(t, region).AuthURL, region, "admin", realcloud.Password))
	}
	w.tenant = w.NewTenant(t, "k-demo", "k-demo", "member")
	w.flavor, w.public = w.findFlavor(t, "m1.tiny"), w.external(t)
	w.image = w.upload(t, "k-image")
	volumes := "/volume/v3/" + w.tenant.ProjectID + "/volumes"
	networks := map[string]string{}
	for i, region := range []string{"east", "west"} {
		networks[region], _ = w.network(t, "k-net-"+region, fmt.Sprintf("10.%d.0.0/24", 180+i))
	}
	prefix := fmt.Sprintf("k-%d-", rng.Uint32())
	for n := range realKills {
		region := []string{"east", "west"}[n%2]
		for what, ask := range map[string]object{
			"/compute/v2.1/servers": {"server": w.serverBody(fmt.Sprintf("%s%d", prefix, n), networks[region], region)},
			volumes:                 {"volume": object{"name": fmt.Sprintf("%sv%d", prefix, n), "size": 1, "availability_zone": region}},
		} {
			w.tenant.Must(t, "POST", what, ask, nil)
		}
		if n >= 2 { // and some of what is there goes
			for _, k := range kinds()[:2] {
				for id := range w.states(t, k.of(w)) {
					w.remove(t, k.of(w), id)
					break
				}
			}
		}
		select {
		case <-time.After(time.Duration(rng.IntN(6000)) * time.Millisecond):
		case <-t.Context().Done():
		}
		w.Kill()
		w.Restart()
	}
	atRest := func(context.Context) bool {
		for _, k := range kinds()[:2] {
			for id, status := range w.states(t, k.of(w)) {
				if !strings.EqualFold(status, "active") && status != "available" && !strings.EqualFold(status, "error") {
					_ = id
					return false
				}
			}
		}
		return true
	}
	topproc.AwaitFor(t, 5*time.Minute, "everything to come to rest", atRest)
	w.onceAtRegions(t, cloud, prefix)
	for _, s := range w.servers(t) {
		if s.Status == "ERROR" && s.Fault.Message == "" {
			t.Errorf("server %s is in ERROR and does not say why", s.Name)
		}
		t.Logf("%s is %s %s", s.Name, s.Status, s.Fault.Message)
	}
	w.clearReal(t)
	cloud.NothingLeft(t, before, 2*time.Minute)
}

// onceAtRegions holds Top's servers and volumes against both regions by their names, each of which was given once.
func (w *world) onceAtRegions(t *testing.T, cloud *realcloud.Cloud, prefix string) {
	t.Helper()
	there := map[string]int{}
	for _, region := range []string{"east", "west"} {
		snap, err := cloud.Snapshot(t.Context(), region)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"server", "volume"} {
			for _, name := range snap[kind] {
				if strings.HasPrefix(name, prefix) {
					there[name]++
				}
			}
		}
	}
	have := map[string]bool{}
	for _, k := range kinds()[:2] {
		var got map[string][]object
		w.tenant.Must(t, "GET", k.of(w).list, nil, &got)
		for _, r := range got[k.plural] {
			name, _ := r["name"].(string)
			status, _ := r["status"].(string)
			have[name] = true
			if n := there[name]; n > 1 || n == 0 && !strings.EqualFold(status, "error") {
				t.Errorf("%s is %s, and %d times at the regions", name, status, n)
			}
		}
	}
	for name, n := range there {
		if !have[name] {
			t.Errorf("%s is %d times at the regions and not at Top", name, n)
		}
	}
}

// clearReal deletes all that the tenant has, and then the tenant.
func (w *world) clearReal(t *testing.T) {
	t.Helper()
	for _, k := range kinds() {
		k = k.of(w)
		topproc.AwaitFor(t, 3*time.Minute, "no "+k.name, func(context.Context) bool {
			left := 0
			for id := range w.states(t, k) {
				if k.name == "security_group" && w.isDefault(t, id) {
					continue
				}
				left++
				w.remove(t, k, id)
			}
			return left == 0
		})
	}
	w.tenant.Must(t, "DELETE", "/image/v2/images/"+w.image, nil, nil)
	admin := w.Admin(t)
	topproc.AwaitFor(t, 2*time.Minute, "the project to be deletable", func(ctx context.Context) bool {
		a, err := admin.Do(ctx, "DELETE", "/identity/v3/projects/"+w.tenant.ProjectID, nil)
		return err == nil && (a.OK() || a.Status == http.StatusNotFound)
	})
}
