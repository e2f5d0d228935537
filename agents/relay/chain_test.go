package relay

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/interest"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/stream"
)

// Through a relay it is as without one: what hosts are told, what they say, what they are asked, and who has applied what.
func TestThroughRelay(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, r *rig) {
		r.commit(pair())
		top, _ := r.top("top")
		r.below("relay1", "top")
		a := r.agent(r.config("h1", "relay1"))
		settle(time.Second)
		last := r.commit([]*api.Object{apiPort("p1", "n1", "h1", 7)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := top.AppliedOn(ctx, last); err != nil {
			t.Error(err)
		}
		want(t, "commits", a.took(), "i1/101 whole h1 h2 n1 p1", "i1/102 p1")
		a.client.Report(&api.Report{Ports: []*api.PortStatus{{Port: "p1", Plugged: true, Ready: true}}})
		settle(time.Second)
		if got := strings.Join(r.heard(), "\n"); !strings.Contains(got, `report:{ports:{port:"p1" plugged:true ready:true}} host:"h1"`) {
			t.Errorf("Top heard %s", got)
		}
		var answer string
		err := top.Ask(ctx, "h1", &api.Request{}, func(m *api.Answer) bool { answer = m.GetError(); return false })
		if err != nil || answer != "nothing is done on request here" {
			t.Errorf("asked: %q, %v", answer, err)
		}
		if err := top.Ask(ctx, "h2", &api.Request{}, nil); err == nil {
			t.Error("a host without a stream was asked")
		}
	})
}

// A relay is killed: its agents go to another one, which goes on from where they are; Top is told again what they have said.
func TestRelayKilled(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, r *rig) {
		r.commit(pair())
		r.top("top")
		servers := map[string]*running{}
		_, servers["relay1"] = r.below("relay1", "top")
		_, servers["relay2"] = r.below("relay2", "top")
		a := r.agent(r.config("h1", "relay1", "relay2"))
		settle(time.Second)
		a.client.Report(&api.Report{Ports: []*api.PortStatus{{Port: "p1", Plugged: true}}})
		settle(time.Second)
		used := "relay1"
		if len(r.ports["relay2"].conns) > 0 {
			used = "relay2"
		}
		r.mu.Lock()
		r.told = nil
		r.mu.Unlock()
		servers[used].stop()
		settle(time.Minute)
		r.commit([]*api.Object{apiPort("p1", "n1", "h1", 7)})
		settle(time.Second)
		want(t, "commits", a.took(), "i1/101 whole h1 h2 n1 p1", "i1/101", "i1/102 p1")
		heard := strings.Join(r.heard(), "\n")
		for _, s := range []string{`port:"p1" plugged:true`, `applied:{incarnation:"i1" revision:102} host:"h1"`} {
			if !strings.Contains(heard, s) {
				t.Errorf("Top has not heard %s:\n%s", s, heard)
			}
		}
	})
}

// A relay that has never seen a host knows what the host has missed elsewhere, and sends that and no more.
func TestMovedHostGetsADelta(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, r *rig) {
		r.commit(pair())
		r.top("top")
		_, first := r.below("relay1", "top")
		second, _ := r.below("relay2", "top")
		cfg := r.config("h1", "relay1")
		cfg.File = filepath.Join(t.TempDir(), "state")
		a := r.agent(cfg)
		settle(time.Second)
		a.stop()
		first.stop()
		for i := range 5 {
			r.commit([]*api.Object{apiPort("p5", "n1", "h2", uint32(5+i))})
			settle(time.Second)
		}
		r.commit(nil, portRef("p5"))
		r.commit([]*api.Object{apiPort("p6", "n1", "h1", 6)})
		settle(time.Second) // the relay has it all
		cfg.Servers = []string{"relay2"}
		a = r.agent(cfg)
		settle(time.Second)
		want(t, "commits", a.took(), "i1/101 whole h1 h2 n1 p1", "i1/108 p6")
		if got := count(t, second.metrics.resumed); got != 1 {
			t.Errorf("%v resumes at the other relay, want 1", got)
		}
	})
}

// A stream that nothing concerns learns the present revision within minutes, so that it stays where it can be gone on from.
func TestIdleStreamIsTold(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, r *rig) {
		r.commit(pair())
		r.top("top")
		a := r.agent(r.config("h1", "top"))
		settle(time.Second)
		r.commit([]*api.Object{apiPort("p5", "n2", "h2", 5)})
		settle(2 * idleTime)
		want(t, "commits", a.took(), "i1/101 whole h1 h2 n1 p1", "i1/102")
	})
}

// While Top is away a relay goes on: with agents that come anew, and after a restart of its own. When Top is there again, all come to the present.
func TestUpstreamAway(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, r *rig) {
		r.commit(pair())
		_, top := r.top("top")
		cred := r.credentials(mtls.Identity{Role: mtls.Relay, Site: "east", Name: "relay1"})
		cfg := stream.Config{Servers: []string{"top"}, Site: "east", Credentials: cred, Dial: r.dial, File: filepath.Join(t.TempDir(), "state")}
		up, err := NewUpstream(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, relay := r.serve("relay1", up, cred)
		settle(time.Second)
		top.stop()
		settle(6 * time.Hour)
		a := r.agent(r.config("h1", "relay1"))
		settle(time.Minute)
		want(t, "new, with Top away", a.took(), "i1/101 whole h1 h2 n1 p1")
		relay.stop()
		if up, err = NewUpstream(cfg); err != nil {
			t.Fatal(err)
		}
		r.serve("relay1", up, cred)
		b := r.agent(r.config("h2", "relay1"))
		settle(time.Minute)
		want(t, "from a relay that has started with Top away", b.took(), "i1/101 whole h1 h2 n2 p2")
		want(t, "from where it was", a.took(), "i1/101")
		r.commit([]*api.Object{apiPort("p1", "n1", "h1", 7)})
		r.top("top")
		settle(2 * time.Minute)
		want(t, "with Top again", a.took(), "i1/102 p1")
	})
}

// One name at two relays: Top sees both and ends the earlier one.
func TestTwoOfOneNameAtTwoRelays(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, r *rig) {
		r.commit(pair())
		r.top("top")
		r.below("relay1", "top")
		r.below("relay2", "top")
		first := r.agent(r.config("h1", "relay1"))
		settle(time.Second)
		r.agent(r.config("h1", "relay2"))
		settle(time.Minute)
		if got := strings.Join(r.heard(), "\n"); !strings.Contains(got, AlarmDuplicateHost) {
			t.Errorf("Top heard no alarm: %s", got)
		}
		first.took()
		r.commit([]*api.Object{apiPort("p1", "n1", "h1", 7)})
		settle(time.Minute)
	})
}

// Whatever happens to the streams in between: each agent ends with its part of the present state, and every delta was built on what it had.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			objects := map[state.Ref]state.Object{}
			put := func(set ...*api.Object) {
				for _, o := range set {
					p, err := state.Parse(o)
					if err != nil {
						t.Fatal(err)
					}
					objects[p.Ref()] = p
				}
				r.commit(set)
			}
			put(apiHost("h0", 1), apiHost("h1", 2), apiHost("h2", 3), apiNetwork("n0", 1), apiNetwork("n1", 2), apiNetwork("n2", 3))
			r.top("top", func(c *Config) { c.Ring, c.QueueBytes = 20, 500 })
			r.below("relay0", "top")
			r.below("relay1", "top")
			agents := map[string]*agent{}
			dir := t.TempDir()
			begin := func(h string) {
				cfg := r.config(h, "relay0", "relay1")
				cfg.File = filepath.Join(dir, h)
				agents[h] = r.agent(cfg)
			}
			for i := range 3 {
				begin(fmt.Sprintf("h%d", i))
			}
			for range rapid.IntRange(5, 40).Draw(rt, "steps") {
				h := fmt.Sprintf("h%d", rapid.IntRange(0, 2).Draw(rt, "host"))
				switch rapid.IntRange(0, 9).Draw(rt, "step") {
				case 0:
					r.cut(fmt.Sprintf("relay%d", rapid.IntRange(0, 1).Draw(rt, "relay")))
				case 1:
					r.cut("top")
				case 2:
					agents[h].stop()
					begin(h)
				case 3:
					settle(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "ms")) * time.Millisecond)
				case 4:
					id := fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(rt, "port"))
					delete(objects, portRef(id))
					r.commit(nil, portRef(id))
				default:
					n := rapid.IntRange(0, 9).Draw(rt, "port")
					put(apiPort(fmt.Sprintf("p%d", n), fmt.Sprintf("n%d", rapid.IntRange(0, 2).Draw(rt, "network")), h, uint32(rapid.IntRange(1, 1000).Draw(rt, "key"))))
				}
			}
			settle(2 * time.Minute)
			g := interest.New()
			for _, o := range objects {
				g.Apply([]state.Object{o}, nil)
			}
			for h, a := range agents {
				g.Watch(h)
				check(t, h, a, g.Set(h), objects)
			}
		})
	})
}

func check(t *testing.T, h string, a *agent, want []state.Ref, objects map[state.Ref]state.Object) {
	t.Helper()
	a.store.Read(func(v *state.View) {
		if v.Len() != len(want) {
			t.Errorf("%s has %d objects, want %v", h, v.Len(), want)
		}
		for _, r := range want {
			if p, ok := objects[r].(*state.Port); ok {
				if got := state.Find[*state.Port](v, r.ID); got == nil || got.Key != p.Key || got.Host != p.Host {
					t.Errorf("%s has %v, want %v", h, got, p)
				}
			} else if v.Get(r) == nil {
				t.Errorf("%s has no %v", h, r)
			}
		}
	})
}
