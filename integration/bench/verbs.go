package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// measureVerbs times os-stop and os-start, which Top forwards while the caller
// waits, through Top and straight at the same site.
func measureVerbs(ctx context.Context, b *bench) error {
	w, err := b.theWorld(ctx)
	if err != nil {
		return err
	}
	through := w.kit
	through.zone = "one"
	if err := b.verbsBeside(ctx, "emulated site", w.tenant, through, w.direct, w.own, 25, 8); err != nil {
		return err
	}
	p := b.realRegion(ctx)
	if p == nil {
		return nil
	}
	k, err := w.addReal(ctx, p)
	if err != nil {
		return err
	}
	return b.verbsBeside(ctx, "real region "+b.real, w.tenant, k, p.tenant, p.kit, 3, 5)
}

// verbsBeside makes servers at both, and stops and starts them for some rounds.
func (b *bench) verbsBeside(ctx context.Context, where string, top *cloud, through kit, site *cloud, straight kit, servers, rounds int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	sides := []*side{{cloud: top, kit: through}, {cloud: site, kit: straight}}
	for _, s := range sides {
		for i := range servers {
			id, err := s.boot(ctx, s.kit, fmt.Sprintf("verb-%d", i))
			if err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
			s.ids = append(s.ids, id)
		}
		if err := s.all(ctx, "ACTIVE"); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	for range rounds {
		for _, verb := range []struct{ action, status string }{{"os-stop", "SHUTOFF"}, {"os-start", "ACTIVE"}} {
			for i := range servers { // alternating, so that both meet the same moments of the machine
				for _, s := range sides {
					began := time.Now()
					if err := s.call(ctx, "POST", "compute", "/servers/"+s.ids[i]+"/action", object{verb.action: nil}, nil); err != nil {
						return fmt.Errorf("%s: %w", where, err)
					}
					s.times = append(s.times, time.Since(began))
				}
			}
			for _, s := range sides {
				if err := s.all(ctx, verb.status); err != nil {
					return fmt.Errorf("%s: %w", where, err)
				}
			}
		}
	}
	b.reportVerbs(where, sides[0].times, sides[1].times)
	for _, s := range sides {
		for _, id := range s.ids {
			if err := s.remove(ctx, id); err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
		}
	}
	return nil
}

// side is one of the two ways to a site, with its servers.
type side struct {
	*cloud
	kit   kit
	ids   []string
	times []time.Duration
}

// all waits until all servers have a status and no task.
func (s *side) all(ctx context.Context, status string) error {
	for _, id := range s.ids {
		if err := s.await(ctx, id, status, look); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) reportVerbs(where string, ours, theirs []time.Duration) {
	slices.Sort(ours)
	slices.Sort(theirs)
	how := fmt.Sprintf("os-stop and os-start, one at a time, alternating: through Top (%s) and straight at the site (%s)", spread(ours), spread(theirs))
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", .5}, {"p99", .99}} {
		peer := at(theirs, q.at)
		b.report.add(figure{Name: fmt.Sprintf("forwarded verb, %s, %s", q.name, where), Unit: "ms", Ours: new(at(ours, q.at)), Peer: &peer, How: how})
		f := figure{Name: fmt.Sprintf("forwarded verb, overhead at %s, %s", q.name, where), Unit: "ms", Ours: new(at(ours, q.at) - peer), How: how}
		if q.name == "p99" && len(ours) >= 100 { // of fewer, the p99 is one moment of the machine
			b.report.aim(f, lower, 5)
		} else {
			b.report.add(f)
		}
	}
}
