package members

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// twin is settings for a machine at(i) that claims the host id of another member.
func twin(i, of int) Config {
	c := settings(i)
	c.Host = member(of).Host
	return c
}

// TestNewcomerWithATakenHostID: a cloned machine's clock may be wrong and its state file as old as the original's.
func TestNewcomerWithATakenHostID(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bound time.Duration // from now
	}{
		{"later", time.Minute},
		{"the same", 0},
		{"earlier, by its clock", -1000 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				var seen, own watch
				bound := time.Now()
				all := f.fleet(t, 1, 5, func(c *Config) {
					c.Bound = bound
					switch c.Host {
					case member(2).Host:
						c.Changed = seen.changed
					case member(4).Host:
						c.Changed = own.changed
					}
				})
				await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 5)...))
				step(time.Minute)
				for range 3 { // its supervisor tries again
					clone := twin(9, 4)
					clone.Bound = bound.Add(tt.bound)
					newcomer := f.run(t, clone, nil)
					if err := newcomer.failed(t, 10*time.Second); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), at(4).String()) {
						t.Errorf("the newcomer's Run returned %v, want a conflict that names %s", err, at(4))
					}
				}
				step(time.Minute)
				for _, r := range all {
					if m, _ := r.View().Member(member(4)); m.At != at(4) || m.State != Alive {
						t.Errorf("%s sees the holder %v at %s", r.id, m.State, m.At)
					}
				}
				if seen.saw(member(4)) != "alive" || own.saw(member(4)) != "alive" {
					t.Errorf("the holder was seen %s, by itself %s", seen.saw(member(4)), own.saw(member(4)))
				}
				if !slices.ContainsFunc(all, func(r *running) bool { return claimed(r, at(9)) }) {
					t.Error("no member tells of the conflict")
				}
				step(10 * time.Minute)
				if slices.ContainsFunc(all, func(r *running) bool { return len(r.View().Conflicts()) > 0 }) {
					t.Error("the conflict is told of when it is long over")
				}
				endAll(t, all)
			})
		})
	}
}

func claimed(r *running, by netip.AddrPort) bool {
	return slices.ContainsFunc(r.View().Conflicts(), func(c Conflict) bool { return c.ID == member(4) && c.Claims == by && c.Holds == at(4) })
}

// TestTwinsOfTwoHalves: both were accepted, each by its half, before the halves met. The older binding holds. When the younger one dies, news of
// its death may be taken for the older one's by some, until that refutes it.
func TestTwinsOfTwoHalves(t *testing.T) {
	for name, quiet := range map[string]bool{"the younger one finds out": false, "the younger one is told": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				f.apart(func(a netip.AddrPort) bool { return a.Addr().As4()[3]%2 == 0 })
				var seen, own watch
				left := []*running{
					f.start(t, 2, func(c *Config) { c.Changed = seen.changed }), f.start(t, 4, func(c *Config) { c.Changed = own.changed }), f.start(t, 6, nil),
				}
				await(t, 10*time.Second, "the left half sees itself", allSee(left, 2, 4, 6))
				step(time.Minute)
				right := []*running{f.start(t, 1, nil), f.start(t, 3, nil)}
				twin := f.run(t, twin(9, 4), func(p *Pool) {
					if quiet {
						p.random = func() float64 { return 0.999 } // it does not look for the others by itself
					}
				})
				await(t, 10*time.Second, "the right half sees itself", allSee(append(right, twin), 1, 3, 4))
				step(time.Minute)
				f.heal()
				if err := twin.failed(t, 10*time.Minute); !fault.Is(err, fault.Conflict) {
					t.Errorf("the younger twin's Run returned %v", err)
				}
				all := append(left, right...)
				took := await(t, 3*time.Minute, "all see the older twin", func() bool {
					return !slices.ContainsFunc(all, func(r *running) bool {
						m, _ := r.View().Member(member(4))
						return m.At != at(4) || !sees(r, 1, 2, 3, 4, 6)
					})
				})
				t.Logf("all saw the older twin %s after the younger one had given up", took)
				if got := seen.saw(member(4)); got != "alive" && got != "alive dead alive" || own.saw(member(4)) != "alive" {
					t.Errorf("the older twin was seen %s, by itself %s", got, own.saw(member(4)))
				}
				endAll(t, all)
			})
		})
	}
}

// TestHostWithANewAddress: a machine that came back elsewhere has to wait until its old self is dead to the others.
func TestHostWithANewAddress(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		all := f.fleet(t, 1, 4, nil)
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 4)...))
		f.kill(all[3])
		moved := f.run(t, twin(9, 4), nil)
		if err := moved.failed(t, 10*time.Second); !fault.Is(err, fault.Conflict) {
			t.Fatalf("Run returned %v while the old self lived", err)
		}
		took := await(t, 2*time.Minute, "it is a member at its new address", func() bool {
			if moved.ended.Load() {
				moved.done.Wait()
				moved.again()
				step(time.Second)
			}
			return !slices.ContainsFunc(all[:3], func(r *running) bool {
				m, _ := r.View().Member(member(4))
				return m.State != Alive || m.At != at(9)
			})
		})
		t.Logf("at home with a new address after %s", took)
		endAll(t, append(all[:3], moved))
	})
}

// TestClaims: whatever two machines believe of each other, both never give way; and once they know the truth, one does.
func TestClaims(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) claim {
			return claim{
				joined: rapid.Bool().Draw(t, name+" joined"),
				bound:  time.UnixMilli(rapid.Int64Range(0, 2).Draw(t, name+" bound")),
				at:     at(map[string]int{"a": 1, "b": 2}[name]),
			}
		}
		a, b := draw("a"), draw("b")
		if a.holds(b) == b.holds(a) {
			t.Fatalf("%+v and %+v: both or neither holds", a, b)
		}
		stale := func(c claim, name string) claim {
			c.joined = c.joined && rapid.Bool().Draw(t, name+" known to have joined")
			return c
		}
		if !a.holds(stale(b, "b")) && !b.holds(stale(a, "a")) {
			t.Fatalf("%+v and %+v: both give way", a, b)
		}
	})
}
