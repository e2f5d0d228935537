package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
)

func (s *site) add(t *testing.T, f Fault) int64 {
	t.Helper()
	return must(s.Faults().Add(f))(t)
}

const serversPath = `^/compute/v2\.1/servers$`

func (s *site) postServer(t *testing.T, c clients, r rack) error {
	t.Helper()
	_, err := servers.Create(t.Context(), c.compute, servers.CreateOpts{Name: "x", ImageRef: r.image, FlavorRef: r.flavor, Networks: []servers.Network{{UUID: r.network}}, Tags: []string{"hw:1"}}, nil).Extract()
	return err
}

// noAnswer ends the test unless the error is of the connection, not of the service.
func noAnswer(t *testing.T, err error) {
	t.Helper()
	var coded gophercloud.ErrUnexpectedResponseCode
	if err == nil || errors.As(err, &coded) {
		t.Fatalf("got %v, want a broken connection", err)
	}
}

func TestLostReplyIsCarriedOut(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	s.add(t, Fault{Method: "POST", Path: serversPath, Count: 1, LostReply: true})
	noAnswer(t, s.postServer(t, c, r))
	if got := s.Servers(); len(got) != 1 || got[0].Tags[0] != "hw:1" {
		t.Fatalf("servers are %+v, want the one whose reply was lost", got)
	}
	if err := s.postServer(t, c, r); err != nil {
		t.Errorf("second create: %v, want the fault spent", err)
	}
	call := s.Calls()
	if last := call[len(call)-2]; last.Fault != "lost reply" || last.Status != 202 {
		t.Errorf("call log has %+v, want a lost reply of 202", last)
	}
}

func TestLateExecutionComesAfterTheTimeout(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	s.add(t, Fault{Method: "POST", Path: serversPath, Count: 1, LateBy: time.Minute})
	noAnswer(t, s.postServer(t, c, r))
	if n := len(s.Servers()); n != 0 {
		t.Fatalf("%d servers at once, want none yet", n)
	}
	s.clock.step(59 * time.Second)
	if n := len(s.Servers()); n != 0 {
		t.Fatalf("%d servers after 59 s, want none yet", n)
	}
	s.clock.step(2 * time.Second)
	if n := len(s.Servers()); n != 1 {
		t.Fatalf("%d servers after a minute, want 1", n)
	}
}

func TestErrorsAndOutages(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	list := func() error {
		_, err := networks.List(c.network, nil).AllPages(t.Context())
		return err
	}
	id := s.add(t, Fault{Service: "network", Method: "GET", Skip: 1, Count: 2, Status: 503, RetryAfter: 7})
	if err := list(); err != nil {
		t.Fatalf("first call: %v, want it to pass", err)
	}
	for range 2 {
		err := list()
		wantCode(t, err, 503)
		if !strings.Contains(err.Error(), "NeutronError") {
			t.Errorf("error is %v, want Neutron's dialect", err)
		}
	}
	if err := list(); err != nil {
		t.Errorf("after the count: %v", err)
	}
	if n := s.Faults().Struck(id); n != 2 || len(s.Faults().List()) != 0 {
		t.Errorf("the fault struck %d times and %d are in force, want 2 and none", n, len(s.Faults().List()))
	}
	s.Faults().Outage("network")
	noAnswer(t, list())
	if _, err := servers.List(c.compute, nil).AllPages(t.Context()); err != nil {
		t.Errorf("compute is down with the network: %v", err)
	}
	s.Faults().Recover()
	if err := list(); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	s.add(t, Fault{Service: "network", Reset: true, Count: 1})
	noAnswer(t, list())
	_, err := s.Faults().Add(Fault{Path: "("})
	if err == nil {
		t.Error("a path that is no expression was taken")
	}
}

func TestChanceIsRepeatable(t *testing.T) {
	t.Parallel()
	run := func() string {
		s := start(t, func(cfg *Config) { cfg.Seed = 42 })
		c := s.clients(t, "demo", "demo")
		s.add(t, Fault{Service: "network", Chance: 0.5, Status: 500})
		var out strings.Builder
		for range 20 {
			if _, err := networks.List(c.network, nil).AllPages(t.Context()); err != nil {
				out.WriteByte('x')
			} else {
				out.WriteByte('.')
			}
		}
		return out.String()
	}
	first := run()
	if second := run(); second != first || !strings.Contains(first, "x") || !strings.Contains(first, ".") {
		t.Errorf("two runs of one seed: %s and %s", first, second)
	}
}

func TestStallUntilReleased(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	id := s.add(t, Fault{Service: "network", Method: "POST", Stall: true})
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { _, err = networks.Create(t.Context(), c.network, networks.CreateOpts{Name: "slow"}).Extract() })
	if err := s.Faults().Wait(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	if n := s.Census()[s.ProjectID("demo")]["network"]; n != 0 {
		t.Errorf("%d networks while the request is stalled, want 0", n)
	}
	s.Faults().Release(id)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { _, err = networks.Create(ctx, c.network, networks.CreateOpts{Name: "given up"}).Extract() })
	if err := s.Faults().Wait(t.Context(), id, 2); err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	s.Faults().Remove(id)
	if n := s.Census()[s.ProjectID("demo")]["network"]; err == nil || n != 1 {
		t.Errorf("a request given up while stalled: error %v, %d networks, want an error and 1", err, n)
	}
}

func TestAccountThatLosesARole(t *testing.T) {
	t.Parallel()
	s := instant(t)
	admin := s.clients(t, "admin", "admin")
	demo := s.clients(t, "demo", "demo")
	r := s.rack(t, demo)
	s.boot(t, demo, r, "web")
	listAll := func() (int, error) {
		pages, err := servers.List(admin.compute, servers.ListOpts{AllTenants: true}).AllPages(t.Context())
		if err != nil {
			return 0, err
		}
		list, err := servers.ExtractServers(pages)
		return len(list), err
	}
	if n, err := listAll(); n != 1 || err != nil {
		t.Fatalf("admin lists %d servers, %v, want 1", n, err)
	}
	s.Faults().LoseRoles("admin", "admin")
	_, err := listAll()
	wantCode(t, err, 403)
	nets := must(networks.ExtractNetworks(must(networks.List(admin.network, nil).AllPages(t.Context()))(t)))(t)
	for _, n := range nets {
		if n.Name == "net" {
			t.Error("an account without the admin role still sees a tenant's network")
		}
	}
	_, err = projects.List(admin.identity, nil).AllPages(t.Context())
	wantCode(t, err, 403)
	s.Faults().LoseRoles("admin")
	_, err = listAll()
	wantCode(t, err, 401)
	s.Faults().RestoreRoles("admin")
	if n, err := listAll(); n != 1 || err != nil {
		t.Errorf("after the roles are back: %d servers, %v", n, err)
	}
}

func TestSkewedClock(t *testing.T) {
	t.Parallel()
	s := instant(t)
	s.Faults().Skew(-10 * time.Minute)
	c := s.clients(t, "demo", "demo")
	n := must(networks.Create(t.Context(), c.network, networks.CreateOpts{Name: "n"}).Extract())(t)
	if want := s.clock.Now().Add(-10 * time.Minute); !n.CreatedAt.Equal(want) {
		t.Errorf("created at %v, want %v", n.CreatedAt, want)
	}
	res := must(http.Get(s.url + "/identity/v3"))(t)
	defer res.Body.Close()
	if got, want := res.Header.Get("Date"), s.clock.Now().Add(-10*time.Minute).Format(http.TimeFormat); got != want {
		t.Errorf("Date is %s, want %s", got, want)
	}
}

func TestControlAPI(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *Config) { *cfg = cfg.Instant(); cfg.ControlToken = "key" })
	call := func(method, path, token string, in, out any) int {
		t.Helper()
		raw := must(json.Marshal(in))(t)
		req := must(http.NewRequestWithContext(t.Context(), method, s.url+"/_emulator/"+path, bytes.NewReader(raw)))(t)
		req.Header.Set("X-Emulator-Token", token)
		res := must(http.DefaultClient.Do(req))(t)
		defer res.Body.Close()
		if out != nil {
			if err := json.NewDecoder(res.Body).Decode(out); err != nil {
				t.Fatal(err)
			}
		}
		return res.StatusCode
	}
	if code := call("GET", "faults", "wrong", nil, nil); code != 401 {
		t.Errorf("wrong token: %d, want 401", code)
	}
	var made struct{ ID int64 }
	call("POST", "faults", "key", Fault{Service: "network", Status: 500, Latency: time.Millisecond}, &made)
	var list struct{ Faults []Fault }
	call("GET", "faults", "key", nil, &list)
	if len(list.Faults) != 1 || list.Faults[0].ID != made.ID || list.Faults[0].Latency != time.Millisecond {
		t.Errorf("faults are %+v, want the one made", list.Faults)
	}
	if code := call("POST", "faults", "key", map[string]any{"statuss": 1}, nil); code != 400 {
		t.Errorf("unknown member: %d, want 400", code)
	}
	call("DELETE", "faults", "key", nil, nil)
	call("POST", "seed", "key", Seeding{Servers: 3}, nil)
	var servers struct{ Servers []Server }
	call("GET", "servers", "key", nil, &servers)
	if len(servers.Servers) != 3 {
		t.Errorf("%d servers over HTTP, want 3", len(servers.Servers))
	}
	closed := instant(t)
	res := must(http.Get(closed.url + "/_emulator/faults"))(t)
	defer res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("control API without a token in the configuration: %d, want 404", res.StatusCode)
	}
}
