package members

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// firstRetry is the pause after the first attempt to join that came to nothing; it doubles up to Config.Rejoin.
	firstRetry = 250 * time.Millisecond
	// firstSettle is the pause between joining and the first exchange with another member; it doubles up to lastSettle. Where many
	// start at once, they may join into several pools, and news get lost: each believes for a moment that few must be told.
	firstSettle = time.Second
	lastSettle  = 4 * time.Second
	// patience is how long one address may take before the next one is tried beside it.
	patience = time.Second
	// attempts bounds the addresses that are tried in one go.
	attempts = 16
	// lookupTime bounds the lookup of a seed's name.
	lookupTime = 5 * time.Second
)

// join has this member find the others, and find them again, until ctx ends.
func (s *session) join(ctx context.Context) {
	seeds := newSeeds(s.pool)
	longest := s.pool.cfg.Rejoin
	search, settle := firstRetry, firstSettle
	for {
		wait := longest
		switch st := s.standing(seeds); {
		case st.alone():
			settle = firstSettle
			if !s.search(ctx, seeds, st.lost) && ctx.Err() == nil {
				if search == firstRetry {
					s.pool.log.WarnContext(ctx, "no other member found", "seeds", len(s.pool.cfg.Seeds), "dead", len(st.lost))
				}
				wait, search = search, min(2*search, longest)
				break
			}
			wait = min(settle, longest)
		case settle <= lastSettle:
			s.joinAny(ctx, s.another(ctx, seeds, st))
			search, settle = firstRetry, 2*settle
			wait = min(settle, longest)
		default:
			if target, ok := s.draw(ctx, seeds, st); ok {
				s.joinAny(ctx, target)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.jitter(wait)):
		}
	}
}

// search tries all that is known, and reports whether another member was found, or nobody is to be found: this member is its only seed.
// Addresses do not wait for names.
func (s *session) search(ctx context.Context, seeds *seeds, lost []netip.AddrPort) bool {
	var g errgroup.Group
	var joined atomic.Bool
	try := func(targets []netip.AddrPort) {
		if len(targets) > 0 && s.joinAny(ctx, targets[:min(len(targets), attempts)]) {
			joined.Store(true)
		}
	}
	known := seeds.addresses()
	s.shuffle(known) // so that not everybody begins with the same one
	s.shuffle(lost)
	known = append(known, lost...)
	g.Go(func() error { try(known); return nil })
	found, all := seeds.lookUpAll(ctx)
	s.shuffle(found)
	try(found)
	_ = g.Wait() // it returns no error
	return joined.Load() || all && len(known)+len(found) == 0
}

// pick is a number from 0 to n-1.
func (s *session) pick(n int) int { return int(s.pool.random() * float64(n)) }

func (s *session) shuffle(a []netip.AddrPort) {
	for i := range a {
		j := s.pick(i + 1)
		a[i], a[j] = a[j], a[i]
	}
}

// jitter is between a half and one and a half of d.
func (s *session) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(s.pool.random()*float64(d))
}

// standing is where this member stands.
type standing struct {
	others []netip.AddrPort // members that are alive, but this one
	lost   []netip.AddrPort // where members died, and nobody else is
}

func (s standing) alone() bool { return len(s.others) == 0 }

func (s *session) standing(seeds *seeds) standing {
	var st standing
	seeds.present = map[netip.AddrPort]bool{s.pool.cfg.advertise(): true}
	v := s.pool.View()
	for i := range v.members {
		m := &v.members[i]
		if m.State == Alive && m.ID != v.self {
			st.others = append(st.others, m.At)
			seeds.present[m.At] = true
		} else if m.State == Dead {
			st.lost = append(st.lost, m.At)
		}
	}
	st.lost = slices.DeleteFunc(st.lost, func(a netip.AddrPort) bool { return seeds.present[a] })
	return st
}

// another returns whom to exchange all with soon after joining: a seed that is missing or, where none is or it does not answer, a member chosen by lot.
func (s *session) another(ctx context.Context, seeds *seeds, st standing) []netip.AddrPort {
	var targets []netip.AddrPort
	if missing := seeds.missing(); len(missing) > 0 {
		targets = seeds.lookUp(ctx, missing[s.pick(len(missing))])
	}
	return append(targets, st.others[s.pick(len(st.others))])
}

// draw picks one of the dead members and missing seeds, by lot: as many are tried at a time by the whole pool as there are, however large it is.
func (s *session) draw(ctx context.Context, seeds *seeds, st standing) ([]netip.AddrPort, bool) {
	missing := seeds.missing()
	n := len(st.lost) + len(missing)
	if n == 0 || s.pool.random()*float64(len(st.others)+1) >= float64(n) {
		return nil, false
	}
	i := s.pick(n)
	if i < len(st.lost) {
		return st.lost[i : i+1], true
	}
	found := seeds.lookUp(ctx, missing[i-len(st.lost)])
	return found, len(found) > 0
}

// joinAny exchanges all that is known with the first of some addresses that answers, and reports whether one did. One that takes long
// is left to itself; it may still answer.
func (s *session) joinAny(ctx context.Context, targets []netip.AddrPort) bool {
	answers := make(chan bool, len(targets))
	for _, to := range targets {
		if !s.dialling.add(to) {
			continue // an earlier attempt has not ended
		}
		s.attempts.Go(func() {
			answers <- s.joinOne(ctx, to)
			s.dialling.remove(to)
		})
		select {
		case joined := <-answers:
			if joined {
				return true
			}
		case <-ctx.Done():
			return false
		case <-time.After(patience):
		}
	}
	return false
}

// joinOne exchanges all that is known with the member at an address.
func (s *session) joinOne(ctx context.Context, to netip.AddrPort) bool {
	if _, err := s.list.Join([]string{to.String()}); err != nil {
		s.pool.metrics.joins.WithLabelValues(joinFailed).Inc()
		s.pool.log.DebugContext(ctx, "join attempt failed", "at", to.String(), "err", err)
		return false
	}
	s.pool.metrics.joins.WithLabelValues(joinDone).Inc()
	return true
}

// addresses is a set, for several goroutines. Its zero value is empty.
type addresses struct {
	mu sync.Mutex // guards the field below
	in map[netip.AddrPort]bool
}

// add puts an address in and reports whether it was not there.
func (s *addresses) add(a netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		s.in = map[netip.AddrPort]bool{}
	}
	was := s.in[a]
	s.in[a] = true
	return !was
}

func (s *addresses) remove(a netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.in, a)
}
