package members

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// TestManyStartAtOnce: two seeds that are joined by others before they look for each other made two pools, for half a minute and more.
func TestManyStartAtOnce(t *testing.T) {
	for range 20 {
		t.Run("", func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				all := f.fleet(t, 1, 12, nil)
				await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 12)...))
				endAll(t, all)
			})
		})
	}
}

// TestSplitHeals: memberlist forgets the dead after half a minute, and then no side would ever ask for the other.
func TestSplitHeals(t *testing.T) {
	for _, tt := range []struct {
		name string
		far  func(netip.AddrPort) bool
	}{
		{"halves", func(a netip.AddrPort) bool { return a.Addr().As4()[3]%2 == 0 }},
		{"one alone", func(a netip.AddrPort) bool { return a == at(7) }},
		{"the seeds", func(a netip.AddrPort) bool { return a == at(1) || a == at(2) }},
		{"each by itself", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				all := f.fleet(t, 1, 10, nil)
				await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 10)...))
				if tt.far == nil {
					f.set(func() { f.cut = func(from, to netip.AddrPort) bool { return from != to } })
				} else {
					f.apart(tt.far)
				}
				step(5 * time.Minute)
				for i, r := range all {
					if sees(r, upTo(1, 10)...) {
						t.Errorf("after five minutes apart, %s sees all", member(i+1))
					}
				}
				f.heal()
				took := await(t, 2*time.Minute, "all see all again", allSee(all, upTo(1, 10)...))
				t.Logf("found each other %s after the cut was mended", took)
				endAll(t, all)
			})
		})
	}
}

func TestRestartOfAll(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		all := f.fleet(t, 1, 8, nil)
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 8)...))
		for _, r := range all {
			f.kill(r)
		}
		step(5 * time.Minute)
		for _, r := range all {
			r.again()
		}
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 8)...))
		endAll(t, all)
	})
}

func TestSeedsThatComeLater(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		f.set(func() { f.cut = func(_, to netip.AddrPort) bool { return to == at(1) } }) // answers nothing; the other one refuses
		late := f.fleet(t, 3, 5, nil)
		step(10 * time.Minute)
		for _, r := range late {
			if n := len(r.View().members); n != 1 {
				t.Errorf("without a seed %s knows %d members, want itself", r.id, n)
			}
		}
		second := f.start(t, 2, nil)
		await(t, time.Minute, "the living seed joins them", allSee(append(late, second), 2, 3, 4, 5))
		f.heal()
		first := f.start(t, 1, nil)
		await(t, time.Minute, "the other seed too", allSee(append(late, first, second), upTo(1, 5)...))
		endAll(t, append(late, first, second))
	})
}

func TestSeedsByName(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		one := f.start(t, 1, func(c *Config) { c.Seeds = nil })
		var answer atomic.Pointer[[]netip.Addr]
		cfg := settings(3)
		cfg.Seeds = []string{"nobody.example", "seeds.example:7946"}
		three := f.run(t, cfg, func(p *Pool) {
			p.resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
				if found := answer.Load(); found != nil && name == "seeds.example" {
					return *found, nil
				}
				return nil, errors.New("no such host")
			}
		})
		step(10 * time.Minute)
		answer.Store(&[]netip.Addr{at(9).Addr(), netip.MustParseAddr("2001:db8::1"), at(3).Addr()}) // nobody's, nobody's and its own
		step(10 * time.Minute)
		if !sees(three, 3) {
			t.Error("found members where there are none")
		}
		answer.Store(&[]netip.Addr{at(9).Addr(), at(1).Addr()})
		await(t, time.Minute, "the name's new address is tried", allSee([]*running{one, three}, 1, 3))
		endAll(t, []*running{one, three})
	})
}

// TestSilentSeeds: neither a resolver nor a seed that does not answer may hold up the seeds that do.
func TestSilentSeeds(t *testing.T) {
	for name, seeds := range map[string][]string{
		"resolver": {"silent.example", at(1).Addr().String(), "mute.example"},
		"seed":     {at(7).Addr().String(), at(8).Addr().String(), "seed.example"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				f.set(func() { f.cut = func(_, to netip.AddrPort) bool { return to == at(7) || to == at(8) } })
				one := f.start(t, 1, func(c *Config) { c.Seeds = nil })
				await(t, time.Second, "the seed runs", func() bool { return sees(one, 1) })
				cfg := settings(3)
				cfg.Seeds = seeds
				three := f.run(t, cfg, func(p *Pool) {
					p.resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
						if name == "seed.example" {
							return []netip.Addr{at(1).Addr()}, nil
						}
						<-ctx.Done()
						return nil, ctx.Err()
					}
				})
				await(t, time.Second, "the seed that answers is found", allSee([]*running{one, three}, 1, 3))
				endAll(t, []*running{one, three})
			})
		})
	}
}

// TestSeedThatIsGone: who has found the pool finds it again without the seed by which it came.
func TestSeedThatIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var gone atomic.Bool
		one := f.start(t, 1, func(c *Config) { c.Seeds = nil })
		cfg := settings(3)
		cfg.Seeds = []string{"seed.example"}
		three := f.run(t, cfg, func(p *Pool) {
			p.resolve = func(context.Context, string) ([]netip.Addr, error) {
				if gone.Load() {
					return nil, errors.New("no such host")
				}
				return []netip.Addr{at(1).Addr()}, nil
			}
		})
		both := []*running{one, three}
		await(t, 10*time.Second, "both see both", allSee(both, 1, 3))
		gone.Store(true)
		f.apart(func(a netip.AddrPort) bool { return a == at(1) })
		step(10 * time.Minute)
		f.heal()
		await(t, time.Minute, "both see both again", allSee(both, 1, 3))
		endAll(t, both)
	})
}

func TestPoolsStayApart(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config)
	}{
		{"another site", func(c *Config) { c.Site = "west" }},
		{"another scope", func(c *Config) { c.Scope = WAN }},
		{"another key", func(c *Config) { c.Keys = []ident.Secret{key(9)} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				ours := f.fleet(t, 1, 2, nil)
				stranger := f.start(t, 3, tt.edit)
				step(10 * time.Minute)
				if !allSee(ours, 1, 2)() || len(stranger.View().members) != 1 {
					t.Errorf("pools mixed: %v and %v", ours[0].View().members, stranger.View().members)
				}
				endAll(t, append(ours, stranger))
			})
		})
	}
}
