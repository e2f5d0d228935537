package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// settleLimit bounds the making of all accepted servers.
const settleLimit = 4 * time.Minute

// measureCreates has many clients create servers at once and waits until all are made.
func measureCreates(ctx context.Context, b *bench) error {
	w, err := b.theWorld(ctx)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		clients, each int
		aim           float64
	}{{100, 10, 150}, {1000, 2, 1000}} {
		if err := b.creates(ctx, w, c.clients, c.each, c.aim); err != nil {
			return fmt.Errorf("%d clients: %w", c.clients, err)
		}
	}
	return nil
}

func (b *bench) creates(ctx context.Context, w *world, clients, each int, aim float64) error {
	before, err := w.tenant.count(ctx)
	if err != nil {
		return err
	}
	l := load{clients: clients, each: each, want: http.StatusAccepted}
	requests := make([][][]byte, clients)
	for c := range clients {
		for n := range each {
			k := w.kit
			k.zone = []string{"one", ""}[c%2] // half name the site, half let Top choose
			text, err := json.Marshal(k.body(fmt.Sprintf("create-%d-%d-%d", clients, c, n)))
			if err != nil {
				return fmt.Errorf("encode a server: %w", err)
			}
			host, request, err := wire(w.tenant, "POST", w.tenant.url["compute"]+"/servers", text)
			if err != nil {
				return err
			}
			l.host, requests[c] = host, append(requests[c], request)
		}
	}
	l.request = func(client, n int) []byte { return requests[client][n] }
	cpu := w.top.cpu()
	o := l.run(ctx)
	used := w.top.cpu() - cpu
	if o.why != nil {
		b.note("create with %d clients: %d of %d refused, for instance: %v", clients, o.failed, clients*each, o.why)
	}
	if len(o.times) == 0 {
		return fmt.Errorf("no create was accepted: %w", o.why)
	}
	after, took, err := w.settled(ctx)
	if err != nil {
		return err
	}
	how := fmt.Sprintf("%d clients make %d servers with a port each, one after the other; %s; %s accepted a second, Top's CPU %s ms a create; two emulated sites in another process",
		clients, each, spread(o.times), number(o.rate()), number(1000*used.Seconds()/float64(clients*each)))
	name := fmt.Sprintf("create accepted, %d clients, ", clients)
	b.report.add(figure{Name: name + "p50", Unit: "ms", Ours: new(at(o.times, .5)), How: how})
	b.report.aim(figure{Name: name + "p99", Unit: "ms", Ours: new(at(o.times, .99)), How: how}, lower, aim)
	b.report.add(figure{Name: name + "max", Unit: "ms", Ours: new(at(o.times, 1)), How: how})
	b.report.none(figure{Name: name + "api failed", Unit: "%", Ours: new(o.failedShare()), How: how})
	made := len(o.times)
	failed := after["ERROR"] - before["ERROR"] + made - (total(after) - total(before))
	b.report.none(figure{Name: name + "server failed", Unit: "%", Ours: new(100 * float64(failed) / float64(max(made, 1))), How: fmt.Sprintf(
		"accepted servers that are not ACTIVE when none is in BUILD any more, %s s after the last was accepted (%s ACTIVE a second)",
		number(took.Seconds()), number(float64(made)/took.Seconds()))})
	return nil
}

func total(by map[string]int) int {
	n := 0
	for _, c := range by {
		n += c
	}
	return n
}

// settled waits until no server is being made, and returns how many there are in each status.
func (w *world) settled(ctx context.Context) (map[string]int, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	began := time.Now()
	var now map[string]int
	err := until(ctx, 250*time.Millisecond, "all servers to settle", func() (bool, error) {
		var building struct{ Servers []struct{ ID string } }
		if err := w.tenant.call(ctx, "GET", "compute", "/servers?status=BUILD&limit=1", nil, &building); err != nil || len(building.Servers) > 0 {
			return false, err
		}
		return true, nil
	})
	took := time.Since(began)
	if err != nil {
		if by, countErr := w.tenant.count(context.WithoutCancel(ctx)); countErr == nil {
			err = fmt.Errorf("%w (%v)", err, by)
		}
		return nil, took, err
	}
	now, err = w.tenant.count(ctx)
	return now, took, err
}
