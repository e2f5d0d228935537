package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/emulator"
)

var (
	seedFlag  = flag.Uint64("faults.seed", 0, "seed of the kill tests' random choices; 0 takes one from the clock and prints it")
	killsFlag = flag.Int("faults.kills", 200, "how often the kill test kills Top, over all its lanes")
)

const (
	lanes = 5
	// perRound is how often Top is killed before everything must have come to rest.
	perRound = 5
	// settled bounds how long after the last kill of a round everything is at rest: claims of the dead, the time in which
	// a site may still carry out what it was sent, and the work itself.
	settled = 60 * time.Second
)

func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: -faults.seed=%d", s)
	return s
}

// Top is killed at 200 random points, in creates and deletes of servers (with networks, ports, groups, keys and images),
// volumes and floating IPs: as the n-th call arrives at a site, between its being carried out and answered, and at
// random times. Each time everything that was accepted ends done or in an error that says why; nothing is there twice,
// nothing without an owner, the quota is that of what is there, and what is deleted leaves nothing.
func TestKilledAtRandomPoints(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	t.Parallel()
	s := seed(t)
	for lane := range lanes {
		t.Run(fmt.Sprintf("lane %d", lane), func(t *testing.T) {
			t.Parallel()
			// On PostgreSQL a dead Top's leases have to run out, as another replica might hold them: it takes longer, so those are few and on top.
			slow := max(*killsFlag/10, 1)
			cfg, kills := topproc.Config{}, (*killsFlag+lanes-2)/(lanes-1)
			if lane == lanes-1 {
				cfg.Database, kills = dbtest.PostgresConfig(t), slow
			}
			k := &killer{rng: rand.New(rand.NewPCG(s, uint64(lane))), kills: kills, lossy: lane%2 == 1}
			k.run(t, newWorld(t, cfg, "east", "west"))
		})
	}
}

// killer kills one Top while tenants work.
type killer struct {
	rng   *rand.Rand
	kills int
	lossy bool // one in 30 answers to a POST is lost
	*world

	subnets  map[string]string // by site
	networks map[string]string
	group    string

	mu       sync.Mutex        // guards the fields below
	accepted map[string]string // id to kind, of what Top said it would make
	dropped  map[string]bool   // of what Top said it would delete
	doubtful map[string]bool   // of what it was asked to delete without an answer
	asked    int
}

func (k *killer) run(t *testing.T, w *world) {
	k.world, k.accepted, k.dropped = w, map[string]string{}, map[string]bool{}
	k.doubtful = map[string]bool{}
	k.networks, k.subnets = map[string]string{}, map[string]string{}
	w.raiseQuota(t)
	for i, s := range w.sites {
		k.networks[s.Name], k.subnets[s.Name] = w.network(t, "net-"+s.Name, fmt.Sprintf("10.%d.0.0/22", 50+i))
	}
	w.routed(t, k.subnets["east"])
	k.group = w.create(t, "/network/v2.0/security-groups", "security_group", object{"name": "g"})
	w.create(t, "/network/v2.0/security-group-rules", "security_group_rule", object{"security_group_id": k.group, "direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22})
	w.create(t, "/compute/v2.1/os-keypairs", "keypair", object{"name": "k"})
	for done := 0; done < k.kills; done += perRound {
		k.round(t, min(perRound, k.kills-done))
	}
	k.verdict(t)
	w.clear(t, settled)
	t.Logf("%d kills, %d requests, %d accepted, %d deletes accepted", k.kills, k.asked, len(k.accepted), len(k.dropped))
}

// raiseQuota lets the tenant have as much as the test makes.
func (w *world) raiseQuota(t *testing.T) {
	t.Helper()
	admin := w.Admin(t)
	p := w.tenant.ProjectID
	admin.Must(t, "PUT", "/compute/v2.1/os-quota-sets/"+p, object{"quota_set": object{"instances": 2000, "cores": 5000, "ram": -1}}, nil)
	admin.Must(t, "PUT", "/volume/v3/"+admin.ProjectID+"/os-quota-sets/"+p, object{"quota_set": object{"volumes": 2000, "gigabytes": 5000}}, nil)
	admin.Must(t, "PUT", "/network/v2.0/quotas/"+p, object{"quota": object{"port": -1, "floatingip": -1}}, nil)
}

// round kills Top some times under load, lets the tenants stop, and waits for rest.
func (k *killer) round(t *testing.T, kills int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var tenants sync.WaitGroup
	if k.lossy {
		for _, s := range k.sites {
			id, err := s.Faults().Add(emulator.Fault{Method: http.MethodPost, LostReply: true, Chance: 1.0 / 30})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Faults().Remove(id)
		}
	}
	for range 3 {
		rng := rand.New(rand.NewPCG(k.rng.Uint64(), 0))
		tenants.Go(func() { k.work(ctx, t, rng) })
	}
	for range kills {
		k.kill(t)
		k.Restart()
	}
	stop()
	tenants.Wait()
	k.quiet(t, settled)
	k.verdict(t)
}

// kill waits for a random point and kills Top there.
func (k *killer) kill(t *testing.T) {
	t.Helper()
	dead := make(chan struct{})
	once := sync.OnceFunc(func() {
		k.Kill()
		close(dead)
	})
	after := time.Duration(k.rng.IntN(1500)) * time.Millisecond
	if k.rng.IntN(4) > 0 { // three of four at a call
		tr := &trap{after: k.rng.IntN(2) == 0, spring: once}
		tr.left.Store(1 + k.rng.Int64N(40))
		k.gates[k.rng.IntN(len(k.gates))].trap.Store(tr)
		after = 3 * time.Second // for when the tenants have nothing more to ask of that site
	}
	select {
	case <-dead:
	case <-time.After(after):
		once()
	case <-t.Context().Done():
	}
	for _, g := range k.gates {
		g.trap.Store(nil)
	}
}

// work is a tenant that makes and deletes things until ctx ends.
func (k *killer) work(ctx context.Context, t *testing.T, rng *rand.Rand) {
	for ctx.Err() == nil {
		site := k.sites[rng.IntN(len(k.sites))].Name
		switch rng.IntN(10) {
		case 8, 9:
			k.act(ctx, t, rng)
		case 0, 1:
			k.ask(ctx, t, "server", "/compute/v2.1/servers", object{"server": object{"name": "s", "flavorRef": k.flavor, "imageRef": k.image,
				"availability_zone": site, "networks": []object{{"uuid": k.networks[site]}}, "key_name": "k", "security_groups": []object{{"name": "g"}}}})
		case 2:
			port := k.ask(ctx, t, "port", "/network/v2.0/ports", object{"port": object{"network_id": k.networks[site], "security_groups": []string{k.group}}})
			if port != "" {
				k.ask(ctx, t, "server", "/compute/v2.1/servers", object{"server": object{"name": "p", "flavorRef": k.flavor, "imageRef": k.image,
					"availability_zone": site, "networks": []object{{"port": port}}}})
			}
		case 3:
			k.ask(ctx, t, "volume", "/volume/v3/"+k.tenant.ProjectID+"/volumes", object{"volume": object{"size": 1, "availability_zone": site}})
		case 4:
			k.ask(ctx, t, "floatingip", "/network/v2.0/floatingips", object{"floatingip": object{"floating_network_id": k.public}})
		default:
			k.drop(ctx, t, rng)
		}
	}
}

// do makes a request and says whether it was answered; one that was not has an unknown fate.
func (k *killer) do(ctx context.Context, t *testing.T, method, path string, body any) (topproc.Answer, bool) {
	k.mu.Lock()
	k.asked++
	k.mu.Unlock()
	a, err := k.tenant.Do(context.WithoutCancel(ctx), method, path, body)
	if err != nil {
		select { // Top is dead: wait a little
		case <-ctx.Done():
		case <-time.After(30 * time.Millisecond):
		}
		return a, false
	}
	if a.Status >= 500 && a.Status != http.StatusServiceUnavailable {
		t.Errorf("%s %s answered %d: %s", method, path, a.Status, a.Text)
	}
	return a, true
}

// ask creates something and remembers it when it was accepted.
func (k *killer) ask(ctx context.Context, t *testing.T, what, path string, body object) string {
	a, answered := k.do(ctx, t, "POST", path, body)
	if !answered || !a.OK() {
		if answered && a.Status < 500 {
			t.Errorf("POST %s answered %d: %s", path, a.Status, a.Text)
		}
		return ""
	}
	var got object
	if err := a.Decode(&got); err != nil {
		t.Error(err)
		return ""
	}
	id := idIn(got, what)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.accepted[id] = what
	return id
}

// act asks one verb of something; that its state forbids it, or that the site's answer got lost, is no fault.
func (k *killer) act(ctx context.Context, t *testing.T, rng *rand.Rand) {
	server, volume, address := k.pick(rng, "server"), k.pick(rng, "volume"), k.pick(rng, "floatingip")
	port := k.pick(rng, "port")
	switch path := "/compute/v2.1/servers/" + server; rng.IntN(4) {
	case 0:
		k.do(ctx, t, "POST", path+"/action", object{"os-stop": nil})
	case 1:
		k.do(ctx, t, "POST", path+"/action", object{"reboot": object{"type": "HARD"}})
	case 2:
		k.do(ctx, t, "POST", path+"/os-volume_attachments", object{"volumeAttachment": object{"volumeId": volume}})
	default:
		k.do(ctx, t, "PUT", "/network/v2.0/floatingips/"+address, object{"floatingip": object{"port_id": port}})
	}
}

// pick returns something of a kind that was accepted and that nobody has deleted, or an id of nothing.
func (k *killer) pick(rng *rand.Rand, what string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ids []string
	for id, kd := range k.accepted {
		if kd == what && !k.dropped[id] {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "none"
	}
	slices.Sort(ids)
	return ids[rng.IntN(len(ids))]
}

// drop deletes something at random that was accepted.
func (k *killer) drop(ctx context.Context, t *testing.T, rng *rand.Rand) {
	k.mu.Lock()
	var ids []string
	for id, what := range k.accepted {
		if !k.dropped[id] && what != "port" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		k.mu.Unlock()
		return
	}
	id := ids[rng.IntN(len(ids))]
	what := k.accepted[id]
	k.mu.Unlock()
	for _, kd := range kinds() {
		if kd.name != what {
			continue
		}
		a, answered := k.do(ctx, t, "DELETE", kd.of(k.world).path+id, nil)
		k.mu.Lock()
		k.doubtful[id] = k.doubtful[id] || !answered
		k.dropped[id] = k.dropped[id] || answered && (a.OK() || a.Status == http.StatusNotFound)
		k.mu.Unlock()
	}
}

// verdict holds what was accepted against what is there.
func (k *killer) verdict(t *testing.T) {
	t.Helper()
	servers := k.servers(t)
	for _, kd := range kinds() {
		have := k.states(t, kd.of(k.world))
		for id, what := range k.accepted {
			if what != kd.name {
				continue
			}
			_, there := have[id]
			switch failed := strings.EqualFold(have[id], "error"); {
			case there && k.dropped[id] && !failed:
				t.Errorf("%s %s is there (%s) though its deletion was accepted", what, id, have[id])
			case !there && !k.dropped[id] && !k.doubtful[id] && what != "port": // a port may have gone with nothing else; servers' own ports are theirs
				t.Errorf("%s %s is gone though nobody deleted it", what, id)
			case failed && what == "server" && servers[id].Fault.Message == "":
				t.Errorf("server %s is in ERROR and does not say why", id)
			case failed && what == "server":
				t.Logf("server %s: %s", id, servers[id].Fault.Message)
			case failed:
				t.Logf("%s %s failed: %s", what, id, k.reason(t, id))
			}
		}
	}
}

// reason is what the operator reads of the job that failed.
func (k *killer) reason(t *testing.T, id string) string {
	t.Helper()
	var got struct {
		Jobs []struct {
			Kind   string
			Errors []struct{ Message string }
		}
	}
	k.Admin(t).Must(t, "GET", "/v1/jobs?state=failed&resource_id="+id, nil, &got)
	return fmt.Sprint(got.Jobs)
}
