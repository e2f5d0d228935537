package integration

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/relay"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// server is a relay at the site, fed by the test as Top would.
type server struct {
	t     *testing.T
	feed  *relay.Feed
	relay *relay.Server
	end   func()

	mu        sync.Mutex // guards the fields below
	ready     map[string]string
	neighbors []*api.Neighbor
}

const serverAddress = "172.31.1.2:7900"

// serve starts a server of the fleet's site that hands out its state.
func (f *fleet) serve(ca *mtls.Authority) *server {
	f.t.Helper()
	s := &server{t: f.t, ready: map[string]string{}}
	s.feed = relay.NewFeed("i1", 1, s.tell)
	if _, err := s.feed.Commit(f.t.Context(), objectsOf(f.state), nil); err != nil {
		f.t.Fatal(err)
	}
	l, err := f.bed.Site(1).Listen(f.t.Context(), "tcp", serverAddress)
	if err != nil {
		f.t.Fatal(err)
	}
	r, err := relay.New(relay.Config{Source: s.feed, Site: "s1", Credentials: f.credentials(ca, mtls.Identity{Role: mtls.Top, Name: "top"}), Listener: l})
	if err != nil {
		f.t.Fatal(err)
	}
	s.relay = r
	ctx, cancel := context.WithCancel(f.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			f.t.Errorf("server: %v", err)
		}
	})
	s.end = sync.OnceFunc(func() { cancel(); wg.Wait() })
	f.t.Cleanup(s.end)
	return s
}

func (s *server) tell(m *api.FromAgent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range m.GetReport().GetPorts() {
		if p.GetReady() {
			s.ready[p.GetPort()] = m.GetHost()
		}
	}
	s.neighbors = append(s.neighbors, m.GetReport().GetNeighbors()...)
}

func objectsOf(st *api.State) []*api.Object {
	var out []*api.Object
	for _, o := range st.GetHosts() {
		out = append(out, &api.Object{Kind: &api.Object_Host{Host: o}})
	}
	for _, o := range st.GetNetworks() {
		out = append(out, &api.Object{Kind: &api.Object_Network{Network: o}})
	}
	for _, o := range st.GetSubnets() {
		out = append(out, &api.Object{Kind: &api.Object_Subnet{Subnet: o}})
	}
	for _, o := range st.GetSecurityGroups() {
		out = append(out, &api.Object{Kind: &api.Object_SecurityGroup{SecurityGroup: o}})
	}
	for _, o := range st.GetPorts() {
		out = append(out, &api.Object{Kind: &api.Object_Port{Port: o}})
	}
	return out
}

func (f *fleet) credentials(ca *mtls.Authority, id mtls.Identity) *mtls.Credentials {
	f.t.Helper()
	c, err := mtls.Load(f.issue(ca, id))
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *fleet) issue(ca *mtls.Authority, id mtls.Identity) mtls.Config {
	f.t.Helper()
	cfg, err := ca.Issue(filepath.Join(f.bed.Dir, "tls-"+id.Name), id, time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	return cfg
}

// join starts the agents of all hosts with the server, and returns how.
func (f *fleet) join(ca *mtls.Authority) map[string][]string {
	f.t.Helper()
	return f.joinAt(ca, serverAddress)
}

// joinAt is join with a server somewhere else.
func (f *fleet) joinAt(ca *mtls.Authority, server string) map[string][]string {
	f.t.Helper()
	args := map[string][]string{}
	for _, h := range f.bed.Hosts() {
		id := f.issue(ca, mtls.Identity{Role: mtls.Host, Site: "s1", Name: h.Name})
		args[h.Name] = []string{"--server", server, "--site", "s1", "--cert", id.CertFile, "--key", id.KeyFile, "--ca", id.CAFile}
		f.start(h, args[h.Name]...)
	}
	return args
}

// awaitReady waits until the server has been told that ports are ready on their hosts.
func (s *server) awaitReady(ctx context.Context, f *fleet, ports ...*api.Port) {
	s.t.Helper()
	f.await(ctx, "the ports are ready", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range ports {
			if s.ready[p.Id] != p.Host {
				return fmt.Errorf("ready are %v", s.ready)
			}
		}
		return nil
	})
}

// Agents follow a server: hosts are joined, ports are told ready, and while the server is gone agents that are killed start from their own copies without losing a packet.
func TestAgentsFollowServer(t *testing.T) {
	t.Parallel()
	f := newBareFleet(t, 2)
	ctx := t.Context()
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	first, second := f.bed.Host("s1h1"), f.bed.Host("s1h2")
	a, pa := f.vm("vm1", first, hosts.VMConfig{})
	b, pb := f.vm("vm2", second, hosts.VMConfig{})
	s := f.serve(ca)
	args := f.join(ca)
	for _, ip := range b.IPs {
		a.MustReach(ip.Addr())
	}
	s.awaitReady(ctx, f, pa, pb)
	s.end()
	p := f.pings(ctx, a, b)
	for _, h := range f.bed.Hosts() {
		f.agents[h.Name].Kill()
		f.start(h, args[h.Name]...)
	}
	f.same(ctx)
	p.go1(ctx, 100)
	if lost := p.stop("agents killed and started again without a server"); lost > 0 {
		t.Errorf("%d pings were lost, want none", lost)
	}
}
