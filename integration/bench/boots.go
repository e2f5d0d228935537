package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The numbers of boots: a real region takes some seconds for each.
const (
	emulatedBoots = 15
	realBoots     = 5
	look          = 20 * time.Millisecond // between looks at a server that is being made
)

// measureBoots times a server from the request to ACTIVE, through Top and straight at the same site.
func measureBoots(ctx context.Context, b *bench) error {
	w, err := b.theWorld(ctx)
	if err != nil {
		return err
	}
	through := w.kit
	through.zone = "one"
	if err := b.bootsBeside(ctx, "emulated site", w.tenant, through, w.direct, w.own, emulatedBoots); err != nil {
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
	return b.bootsBeside(ctx, "real region "+b.real, w.tenant, k, p.tenant, p.kit, realBoots)
}

func (b *bench) bootsBeside(ctx context.Context, where string, top *cloud, through kit, site *cloud, straight kit, n int) error {
	var ours, theirs []time.Duration
	for i := range n + 1 {
		for _, one := range []struct {
			at    *cloud
			kit   kit
			times *[]time.Duration
		}{{top, through, &ours}, {site, straight, &theirs}} {
			took, err := one.at.bootOnce(ctx, one.kit, fmt.Sprintf("boot-%d", i))
			if err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
			if i > 0 { // the first makes the project, image and network there
				*one.times = append(*one.times, took)
			}
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	straightP50 := at(theirs, .5)
	b.report.add(figure{Name: "boot to ACTIVE, p50, " + where, Unit: "ms", Ours: new(at(ours, .5)), Peer: &straightP50, How: fmt.Sprintf(
		"POST of one server with one port until a GET every %v shows ACTIVE, alternating: through Top (%s) and straight at the site (%s); deleted after each", look, spread(ours), spread(theirs))})
	return nil
}

// bootOnce makes a server, waits until it is ACTIVE, and deletes it.
func (c *cloud) bootOnce(ctx context.Context, k kit, name string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	id, err := c.boot(ctx, k, name)
	if err != nil {
		return 0, err
	}
	if err := c.await(ctx, id, "ACTIVE", look); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, c.remove(ctx, id)
}

// remove deletes a server and waits until it is gone.
func (c *cloud) remove(ctx context.Context, id string) error {
	if err := c.call(ctx, "DELETE", "compute", "/servers/"+id, nil, nil); err != nil {
		return err
	}
	return until(ctx, 5*look, "server "+id+" to be gone", func() (bool, error) {
		err := c.call(ctx, "GET", "compute", "/servers/"+id, nil, nil)
		if notFound(err) {
			return true, nil
		}
		return false, err
	})
}
