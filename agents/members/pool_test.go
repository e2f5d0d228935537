package members

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func TestMembersSeeEachOther(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		all := f.fleet(t, 1, 5, func(c *Config) {
			c.Meta.Gateway = c.Host == member(3).Host
			c.Boot = 7
		})
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 5)...))
		for _, r := range all {
			v := r.View()
			m, ok := v.Member(member(3))
			if !ok || !m.Gateway || m.Agent != "1.0" || m.Boot != 7 || m.At != at(3) || m.Unreadable {
				t.Errorf("%s sees %+v", r.id, m)
			}
			if got := v.Ends()[member(3)]; len(got) != 1 || got[0] != (state.TunnelEnd{Address: at(3).Addr(), Zone: "rack", Port: 4789}) {
				t.Errorf("%s sees the tunnel ends %v", r.id, got)
			}
			if g := v.Gateways("east"); len(g) != 1 || g[0].ID != member(3) {
				t.Errorf("%s sees the gateways %v", r.id, g)
			}
		}
		endAll(t, all)
	})
}

func TestUpdateIsSeen(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var w watch
		all := f.fleet(t, 1, 3, nil)
		all = append(all, f.start(t, 4, func(c *Config) { c.Changed = w.changed }))
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 4)...))
		since, _ := all[3].View().Member(member(1))
		for i := range 100 {
			if err := all[0].Update(func(m *Meta) { m.Gateway, m.Agent = true, fmt.Sprint(i) }); err != nil {
				t.Fatal(err)
			}
		}
		calls := w.count()
		await(t, 3*time.Second, "the last update is seen", func() bool {
			return !slices.ContainsFunc(all, func(r *running) bool {
				m, _ := r.View().Member(member(1))
				return !m.Gateway || m.Agent != "99"
			})
		})
		if n := w.count() - calls; n > 5 {
			t.Errorf("100 updates at once made %d calls of Changed, want them together", n)
		}
		if m, _ := all[3].View().Member(member(1)); m.Since != since.Since {
			t.Errorf("an update changed since when the member is alive, from %s to %s", since.Since, m.Since)
		}
		if w.twice.Load() {
			t.Error("Changed was called twice at once")
		}
		if err := all[0].Update(func(m *Meta) { m.Health = 9 }); !fault.Is(err, fault.BadRequest) {
			t.Errorf("an update that cannot be announced: %v, want a bad request", err)
		}
		endAll(t, all)
	})
}

func TestLeaving(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var w watch
		all := f.fleet(t, 1, 4, nil)
		last := f.start(t, 5, func(c *Config) { c.Changed, c.Meta.Gateway = w.changed, true })
		await(t, 10*time.Second, "all see all", allSee(append(all, last), upTo(1, 5)...))
		began := time.Now()
		if err := last.end(nil); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("leaving took %s", took)
		}
		await(t, 3*time.Second, "the member has left", func() bool {
			return !slices.ContainsFunc(all, func(r *running) bool {
				m, _ := r.View().Member(member(5))
				return m.State != Left || time.Since(m.Since) > 5*time.Second
			})
		})
		if len(all[0].View().Gateways("east")) > 0 || len(all[0].View().Ends()) != 4 {
			t.Errorf("who left is still used: %v, %v", all[0].View().Gateways("east"), all[0].View().Ends())
		}
		calls := w.count()
		step(time.Minute)
		if w.count() != calls {
			t.Error("Changed was called after Run had returned")
		}
		last.again()
		await(t, 10*time.Second, "it came back", allSee(all, upTo(1, 5)...))
		if m, _ := all[0].View().Member(member(5)); m.Health != Healthy {
			t.Errorf("who came back is %s", m.Health)
		}
		endAll(t, append(all, last))
	})
}

// TestRestartIsNotNoticed: an agent that is upgraded must not move anybody's traffic.
func TestRestartIsNotNoticed(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var w watch
		all := f.fleet(t, 1, 6, func(c *Config) {
			if c.Host == member(2).Host {
				c.Changed = w.changed
			}
		})
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 6)...))
		before, _ := all[1].View().Member(member(6))
		for range 3 {
			if err := all[5].end(ErrStay); err != nil {
				t.Fatal(err)
			}
			step(2 * time.Second)
			all[5].again()
			await(t, 10*time.Second, "it is back", func() bool {
				m, _ := all[1].View().Member(member(6))
				back := m.Boot != before.Boot
				before = m
				return back && sees(all[5], upTo(1, 6)...)
			})
			step(20 * time.Second)
		}
		if got := w.saw(member(6)); got != "alive" {
			t.Errorf("the restarts were seen as: %s", got)
		}
		endAll(t, all)
	})
}

func TestDeath(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		all := f.fleet(t, 1, 10, func(c *Config) { c.Forget = 3 * time.Minute })
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 10)...))
		f.kill(all[9])
		all = all[:9]
		killed := time.Now()
		await(t, 30*time.Second, "all see the death", allSee(all, upTo(1, 9)...))
		m, ok := all[0].View().Member(member(10))
		if !ok || m.State != Dead || m.Since.Before(killed) || m.Since.After(time.Now()) {
			t.Errorf("the dead member is %v since %s, want dead since after %s", m.State, m.Since, killed)
		}
		if _, ok := all[0].View().Ends()[member(10)]; ok {
			t.Error("the tunnel ends of a dead member are told")
		}
		step(2 * time.Minute)
		if _, ok := all[0].View().Member(member(10)); !ok {
			t.Error("a dead member is forgotten early")
		}
		step(150 * time.Second)
		if _, ok := all[0].View().Member(member(10)); ok {
			t.Error("a dead member is remembered for longer than was asked")
		}
		endAll(t, all)
	})
}

// TestEndWhileNobodyAnswers: dials and exchanges that hang must not hold up the end of Run.
func TestEndWhileNobodyAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		f.set(func() { f.cut = func(from, to netip.AddrPort) bool { return true } })
		three := f.start(t, 3, nil)
		step(2 * time.Second)
		began := time.Now()
		if err := three.end(nil); err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("Run ended with %v after %s", err, time.Since(began))
		}
	})
}

// TestNothingAfterRun: suspicions that were running when Run ended come true later, and concern nobody.
func TestNothingAfterRun(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var w watch
		all := f.fleet(t, 1, 4, func(c *Config) { c.Changed = w.changed })
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 4)...))
		f.set(func() { f.cut = func(from, to netip.AddrPort) bool { return true } })
		step(4 * time.Second)
		for _, r := range all {
			_ = r.end(ErrStay)
		}
		calls, views := w.count(), []*View{}
		for _, r := range all {
			views = append(views, r.View())
		}
		step(5 * time.Minute)
		for i, r := range all {
			if r.View() != views[i] {
				t.Errorf("the view of %s changed after Run", r.id)
			}
		}
		if w.count() != calls {
			t.Error("Changed was called after Run")
		}
	})
}

// TestPaused: the kernel keeps some packets for a stopped process; its own questions of before go unanswered.
func TestPaused(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		all := f.fleet(t, 1, 7, nil)
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 7)...))
		others := slices.Concat(all[:4], all[5:])
		for _, pause := range []time.Duration{20 * time.Second, 2 * time.Minute} {
			f.freeze(at(5))
			step(pause)
			if !allSee(others, 1, 2, 3, 4, 6, 7)() {
				t.Errorf("a member that stood still for %s is not dead", pause)
			}
			f.thaw(at(5))
			took := await(t, time.Minute, "it is back and sees all", allSee(all, upTo(1, 7)...))
			t.Logf("back %s after a pause of %s", took, pause)
			step(time.Minute)
			if !allSee(all, upTo(1, 7)...)() {
				t.Error("the pause had an effect later")
			}
		}
		endAll(t, all)
	})
}

func TestLostPackets(t *testing.T) {
	lossy := 10 * time.Minute
	if testing.Short() {
		lossy = 2 * time.Minute
	}
	for _, scope := range []Scope{Site, WAN} {
		t.Run(scope.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				f.loss = 0.1
				var w [10]watch
				all := f.fleet(t, 1, 10, func(c *Config) {
					d := Default(scope)
					c.Scope, c.Probe, c.ProbeTimeout, c.Suspicion, c.Gossip, c.Sync = scope, d.Probe, d.ProbeTimeout, d.Suspicion, d.Gossip, d.Sync
					c.Changed = w[int(c.Bind.Addr().As4()[3])-1].changed
				})
				await(t, 30*time.Second, "all see all", allSee(all, upTo(1, 10)...))
				step(lossy)
				for i := range w {
					for j := range w {
						if got := w[i].saw(member(j + 1)); got != "alive" {
							t.Errorf("with one packet of ten lost, %s was %s to %s", member(j+1), got, member(i+1))
						}
					}
				}
				endAll(t, all)
			})
		})
	}
}

func TestClockJumps(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var jump atomic.Int64
		var w watch
		all := f.fleet(t, 1, 4, nil)
		five := f.start(t, 5, func(c *Config) {
			c.Changed = w.changed
			c.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		})
		all = append(all, five)
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 5)...))
		for _, by := range []time.Duration{48 * time.Hour, -400 * 24 * time.Hour, 0} {
			jump.Store(int64(by))
			step(90 * time.Second)
			if !allSee(all, upTo(1, 5)...)() {
				t.Errorf("a clock that jumps by %s has members vanish", by)
			}
		}
		for i := 1; i <= 5; i++ {
			if got := w.saw(member(i)); got != "alive" {
				t.Errorf("with a clock that jumps, %s was %s", member(i), got)
			}
		}
		endAll(t, all)
	})
}

func TestWANPool(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var all []*running
		for i := 1; i <= 6; i++ {
			cfg := Default(WAN)
			base := settings(i)
			cfg.Site, cfg.Host, cfg.Bind, cfg.Keys, cfg.Seeds = []ident.SiteID{"east", "west"}[i%2], "gateway", base.Bind, base.Keys, base.Seeds
			cfg.Host = fmt.Sprintf("gateway-%d", i/2) // the same names at both sites
			cfg.Meta = Meta{Gateway: true}
			all = append(all, f.run(t, cfg, nil))
		}
		await(t, 20*time.Second, "all see all", func() bool {
			return !slices.ContainsFunc(all, func(r *running) bool {
				return len(r.View().Gateways("east")) != 3 || len(r.View().Gateways("west")) != 3
			})
		})
		for network := range uint32(100) {
			want, ok := all[0].View().Forwarder("west", network)
			for _, r := range all {
				if got, _ := r.View().Forwarder("west", network); got != want || !ok || got.Site != "west" {
					t.Fatalf("network %d: %s chose %s, %s chose %s", network, all[0].id, want, r.id, got)
				}
			}
		}
		if _, ok := all[0].View().Forwarder("north", 1); ok {
			t.Error("a site without gateways has a forwarder")
		}
		if err := all[5].Update(func(m *Meta) { m.Health = Sick }); err != nil {
			t.Fatal(err)
		}
		await(t, 30*time.Second, "the sick gateway is none", func() bool {
			return !slices.ContainsFunc(all, func(r *running) bool { return len(r.View().Gateways(all[5].id.Site)) != 2 })
		})
		endAll(t, all)
	})
}

func TestRunTwiceAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		one := f.start(t, 1, nil)
		await(t, time.Second, "it runs", func() bool { return sees(one, 1) })
		if err := one.Run(t.Context()); !fault.Is(err, fault.Conflict) {
			t.Errorf("a second Run at once: %v, want a conflict", err)
		}
		squatter := f.run(t, settings(1), nil)
		if err := squatter.failed(t, time.Second); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Run on an address in use: %v, want unavailable", err)
		}
		if err := one.end(nil); err != nil {
			t.Error(err)
		}
		squatter.again()
		await(t, time.Second, "the address is free", func() bool { return sees(squatter, 1) })
		endAll(t, []*running{squatter})
	})
}

// TestAnnouncementsOfLaterVersions: agents are upgraded one after the other. Those of today must see that those of tomorrow live.
func TestAnnouncementsOfLaterVersions(t *testing.T) {
	for name, raw := range map[string][]byte{"version": {metaVersion + 1, 1, 2, 3}, "malformed": {metaVersion, 200}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				reg := prometheus.NewRegistry()
				all := f.fleet(t, 1, 3, func(c *Config) {
					if c.Host == member(1).Host {
						c.Registerer = reg
					}
					c.Meta.Gateway = true
				})
				await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 3)...))
				all[2].mu.Lock()
				all[2].announced = raw
				all[2].mu.Unlock()
				signal(all[2].retell)
				await(t, 10*time.Second, "it is unreadable", func() bool {
					m, _ := all[0].View().Member(member(3))
					return m.Unreadable
				})
				step(time.Minute)
				m, _ := all[0].View().Member(member(3))
				if m.State != Alive || m.Gateway || len(m.Ends) > 0 || m.At != at(3) {
					t.Errorf("it is seen as %+v", m)
				}
				if n := metric(t, reg, "headwater_members_refused_total", "site", name); n < 1 {
					t.Errorf("counted %v announcements", n)
				}
				endAll(t, all)
			})
		})
	}
}

func TestMembersOfNoPool(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"east/host": true, "west/host": false, "host": false, "east/": false, "": false, "east/a\nb": false} {
		for _, scope := range []Scope{Site, WAN} {
			cfg := settings(1)
			cfg.Scope = scope
			p, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			s := &session{pool: p}
			err = s.NotifyAlive(&memberlist.Node{Name: name, Addr: []byte{10, 0, 0, 1}, Port: 1})
			if taken := err == nil; taken != (want || scope == WAN && name == "west/host") {
				t.Errorf("%q in a pool of scope %s: %v", name, scope, err)
			}
			if s.NotifyAlive(&memberlist.Node{Name: name, Addr: []byte{1, 2, 3}}) == nil {
				t.Error("an address of three bytes is taken")
			}
		}
	}
}
