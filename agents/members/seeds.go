package members

import (
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"
)

// seeds are the configured seeds and where they were found last.
type seeds struct {
	pool    *Pool
	names   []string                    // those that are to be looked up
	at      map[string][]netip.AddrPort // of all
	present map[netip.AddrPort]bool     // where members are alive, this one included
}

func newSeeds(p *Pool) *seeds {
	s := &seeds{pool: p, at: map[string][]netip.AddrPort{}}
	for _, seed := range p.cfg.Seeds {
		host, port, _ := p.cfg.seed(seed) // Validate has seen it
		if a, err := netip.ParseAddr(host); err == nil {
			s.at[seed] = []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), port)}
		} else {
			s.names = append(s.names, seed)
		}
	}
	return s
}

// addresses are the seeds that are given by their address, but our own.
func (s *seeds) addresses() []netip.AddrPort {
	var out []netip.AddrPort
	for _, seed := range s.pool.cfg.Seeds {
		if !slices.Contains(s.names, seed) {
			out = append(out, s.others(s.at[seed])...)
		}
	}
	return out
}

// others is a without our own address.
func (s *seeds) others(a []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(a), func(a netip.AddrPort) bool { return a == s.pool.cfg.advertise() })
}

// missing are the seeds at none of whose addresses a member is alive.
func (s *seeds) missing() []string {
	var out []string
	for _, seed := range s.pool.cfg.Seeds {
		there := false
		for _, a := range s.at[seed] {
			there = there || s.present[a]
		}
		if !there {
			out = append(out, seed)
		}
	}
	return out
}

// lookUpAll looks up all names at once, and reports whether each has an address. It returns them all, but our own.
func (s *seeds) lookUpAll(ctx context.Context) (found []netip.AddrPort, all bool) {
	answers := make([][]netip.AddrPort, len(s.names))
	var g errgroup.Group
	for i, seed := range s.names {
		g.Go(func() error {
			answers[i] = s.ask(ctx, seed)
			return nil
		})
	}
	_ = g.Wait() // they return no errors
	all = true
	for i, seed := range s.names {
		if len(answers[i]) > 0 {
			s.at[seed] = answers[i]
		}
		found, all = append(found, s.others(answers[i])...), all && len(answers[i]) > 0
	}
	return found, all
}

// lookUp returns the addresses of one seed, but our own; none where it cannot be found.
func (s *seeds) lookUp(ctx context.Context, seed string) []netip.AddrPort {
	if slices.Contains(s.names, seed) {
		if found := s.ask(ctx, seed); len(found) > 0 {
			s.at[seed] = found
		}
	}
	return s.others(s.at[seed])
}

// ask has the system look up a name.
func (s *seeds) ask(ctx context.Context, seed string) []netip.AddrPort {
	host, port, _ := s.pool.cfg.seed(seed)
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := s.pool.resolve(ctx, host)
	if err != nil {
		s.pool.log.DebugContext(ctx, "seed not found", "seed", seed, "err", err)
	}
	out := make([]netip.AddrPort, len(found))
	for i, a := range found {
		out[i] = netip.AddrPortFrom(a.Unmap(), port)
	}
	return out
}
