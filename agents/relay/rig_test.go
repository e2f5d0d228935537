package relay

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/stream"
)

// rig is a site in one process: a feed, servers at names, and agents. It lives in a bubble of testing/synctest, whose clock jumps over all waiting.
type rig struct {
	t    *testing.T
	ca   *mtls.Authority
	feed *Feed

	mu    sync.Mutex // guards the fields below
	told  []*api.FromAgent
	ports map[string]*door // servers by their address
}

// door is where a server listens; connections through it can be cut and held up.
type door struct {
	listener *bufconn.Listener
	conns    []net.Conn
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ca: ca, ports: map[string]*door{}}
	r.feed = NewFeed("i1", 100, r.tell)
	return r
}

func (r *rig) tell(m *api.FromAgent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, m)
}

// heard returns what hosts have said up to Top, as text.
func (r *rig) heard() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, m := range r.told {
		out = append(out, strings.ReplaceAll(m.String(), "  ", " "))
	}
	return out
}

func (r *rig) credentials(id mtls.Identity) *mtls.Credentials {
	r.t.Helper()
	cfg, err := r.ca.Issue(r.t.TempDir(), id, 24*time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := mtls.Load(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) dial(ctx context.Context, address string) (net.Conn, error) {
	r.mu.Lock()
	d := r.ports[address]
	r.mu.Unlock()
	if d == nil {
		return nil, fmt.Errorf("nobody listens at %s", address)
	}
	c, err := d.listener.DialContext(ctx)
	if err == nil {
		r.mu.Lock()
		d.conns = append(d.conns, c)
		r.mu.Unlock()
	}
	return c, err
}

// cut ends all connections to a server at once, wherever they are.
func (r *rig) cut(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.ports[address].conns {
		_ = c.Close()
	}
	r.ports[address].conns = nil
}

// running is something that has a Run.
type running struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func start(t *testing.T, run func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(t.Context())
	p := &running{cancel: cancel}
	p.wait.Go(func() {
		if err := run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

func (p *running) stop() {
	p.cancel()
	p.wait.Wait()
}

// top starts a server at the feed, below one that follows the servers above it.
func (r *rig) top(address string, change ...func(*Config)) (*Server, *running) {
	return r.serve(address, r.feed, r.credentials(mtls.Identity{Role: mtls.Top, Name: address}), change...)
}

func (r *rig) below(address string, above ...string) (*Server, *running) {
	r.t.Helper()
	cred := r.credentials(mtls.Identity{Role: mtls.Relay, Site: "east", Name: address})
	u, err := NewUpstream(stream.Config{Servers: above, Site: "east", Credentials: cred, Dial: r.dial, File: filepath.Join(r.t.TempDir(), "state")})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.serve(address, u, cred)
}

func (r *rig) serve(address string, from Source, cred *mtls.Credentials, change ...func(*Config)) (*Server, *running) {
	r.t.Helper()
	d := &door{listener: bufconn.Listen(256 << 10)}
	r.mu.Lock()
	r.ports[address] = d
	r.mu.Unlock()
	cfg := Config{Source: from, Site: "east", Credentials: cred, Listener: d.listener}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	p := start(r.t, s.Run)
	synctest.Wait()
	return s, p
}

// agent is a host's agent: it applies what it gets at once, unless it is held up.
type agent struct {
	*running
	client *stream.Client
	store  *state.Store

	mu      sync.Mutex // guards the fields below
	commits []stream.Commit
	block   chan struct{} // not nil: commits wait until it is closed
}

func (r *rig) config(host string, servers ...string) stream.Config {
	return stream.Config{Servers: servers, Host: host, Site: "east", Credentials: r.credentials(mtls.Identity{Role: mtls.Host, Site: "east", Name: host}), Dial: r.dial}
}

func (r *rig) agent(cfg stream.Config) *agent {
	r.t.Helper()
	a := &agent{store: state.NewStore()}
	cfg.Commit = func(ctx context.Context, c stream.Commit) error {
		a.mu.Lock()
		block := a.block
		a.mu.Unlock()
		if block != nil {
			select {
			case <-block:
			case <-ctx.Done():
				return nil
			}
		}
		if c.Snapshot {
			a.store.Replace(c.Set, false)
		} else {
			a.store.Apply(c.Set, c.Gone)
		}
		a.mu.Lock()
		a.commits = append(a.commits, c)
		a.mu.Unlock()
		a.client.Applied(c.Incarnation, c.Revision)
		return nil
	}
	var err error
	if a.client, err = stream.New(cfg); err != nil {
		r.t.Fatal(err)
	}
	a.running = start(r.t, a.client.Run)
	return a
}

// hold keeps the agent from applying until the function that it returns is called.
func (a *agent) hold() (release func()) {
	c := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.block = c
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.block = nil
		close(c)
	}
}

// has are the ids of what the agent holds, and the revision.
func (a *agent) has() string {
	var ids []string
	a.store.Read(func(v *state.View) {
		for k := state.KindHost; k <= state.KindMirror; k++ {
			ids = append(ids, v.IDs(state.Index{List: state.ListAll, ID: k.String()})...)
		}
	})
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// took returns the commits since the last call, as text: revision, "whole", what was set, -what is gone.
func (a *agent) took() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, c := range a.commits {
		s := fmt.Sprintf("%s/%d", c.Incarnation, c.Revision)
		if c.Snapshot {
			s += " whole"
		}
		for _, o := range c.Set {
			s += " " + o.Ref().ID
		}
		for _, g := range c.Gone {
			s += " -" + g.ID
		}
		out = append(out, s)
	}
	a.commits = nil
	return out
}

// settle lets the clock run until all that can happen has happened.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func apiHost(id string, key uint32) *api.Object {
	return &api.Object{Kind: &api.Object_Host{Host: &api.Host{Id: id, Key: key}}}
}

func apiNetwork(id string, key uint32) *api.Object {
	return &api.Object{Kind: &api.Object_Network{Network: &api.Network{Id: id, Key: key}}}
}

func apiPort(id, network, host string, key uint32) *api.Object {
	return &api.Object{Kind: &api.Object_Port{Port: &api.Port{Id: id, Network: network, Host: host, Key: key, Mac: fmt.Sprintf("fa:16:3e:00:%02x:%02x", key>>8&255, key&255)}}}
}

func (r *rig) commit(set []*api.Object, gone ...state.Ref) uint64 {
	r.t.Helper()
	n, err := r.feed.Commit(r.t.Context(), set, gone)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func portRef(id string) state.Ref { return state.Ref{Kind: state.KindPort, ID: id} }

// pair is two hosts with a network of their own each.
func pair() []*api.Object {
	return []*api.Object{apiHost("h1", 1), apiHost("h2", 2), apiNetwork("n1", 1), apiNetwork("n2", 2), apiPort("p1", "n1", "h1", 1), apiPort("p2", "n2", "h2", 2)}
}
