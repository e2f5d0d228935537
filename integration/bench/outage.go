package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// measureOutage times listings with both sites alive, right after one died, and when Top knows that it is down.
func measureOutage(ctx context.Context, b *bench) error {
	w, err := b.theWorld(ctx)
	if err != nil {
		return err
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	list := func() ([]time.Duration, error) {
		o, err := get(ctx, w.tenant, "/servers/detail?limit=100", 1, 100, 0)
		return o.times, err
	}
	if _, err := list(); err != nil {
		return err
	}
	alive, err := list()
	if err != nil {
		return err
	}
	if err := control(ctx, "PUT", w.urls["two"], "outage", object{"services": []string{}}); err != nil {
		return err
	}
	fresh, err := list()
	if err != nil {
		return err
	}
	if err := w.health(ctx, "two", "down"); err != nil {
		return err
	}
	down, err := list()
	if err != nil {
		return err
	}
	if err := control(ctx, "DELETE", w.urls["two"], "outage", nil); err != nil {
		return err
	}
	p50 := at(alive, .5)
	for _, one := range []struct {
		name  string
		times []time.Duration
	}{{"just died", fresh}, {"is known to be down", down}} {
		b.report.beside(figure{Name: "list of 100 servers, p50, one of two sites " + one.name, Unit: "ms", Ours: new(at(one.times, .5)), How: fmt.Sprintf(
			"GET /servers/detail?limit=100 at Top, one client; %s; the column peer is the same with both sites alive (%s)", spread(one.times), spread(alive))}, &p50, 0)
	}
	return w.health(ctx, "two", "up")
}

// health waits until Top says that a site is in a state.
func (w *world) health(ctx context.Context, site, want string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, 200*time.Millisecond, "site "+site+" to be "+want, func() (bool, error) {
		var got struct {
			Site struct{ Health struct{ State string } }
		}
		err := w.admin.call(ctx, "GET", "operator", "/sites/"+site, nil, &got)
		return got.Site.Health.State == want, err
	})
}

// get has clients repeat one GET of a compute path, each some times or for some time.
func get(ctx context.Context, c *cloud, path string, clients, each int, length time.Duration) (outcome, error) {
	host, request, err := wire(c, "GET", c.url["compute"]+path, nil)
	if err != nil {
		return outcome{}, err
	}
	l := load{clients: clients, each: each, length: length, host: host, want: http.StatusOK, request: func(int, int) []byte { return request }}
	o := l.run(ctx)
	slices.Sort(o.times)
	if o.failed > 0 || len(o.times) == 0 {
		return o, fmt.Errorf("GET %s: %d of %d failed: %w", path, o.failed, o.failed+len(o.times), o.why)
	}
	return o, nil
}
