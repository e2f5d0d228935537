package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// How much is read.
const (
	wantServers  = 1000
	fillTime     = time.Minute // for making servers at the real region
	fillAtOnce   = 25
	readTime     = 5 * time.Second
	readClients  = 16
	singleReads  = 300
	listReads    = 30
	realReads    = 100
	realLists    = 5
	coresOfReads = 1
)

// measureReads compares GET of a server and of a list at Top, which has one core, with the same at the real region.
func measureReads(ctx context.Context, b *bench) error {
	w, err := b.theWorld(ctx)
	if err != nil {
		return err
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	theirs := realFigures{}
	if p := b.realRegion(ctx); p != nil {
		if theirs, err = p.reads(ctx, b); err != nil {
			return err
		}
	}
	w.top.stop()
	if w.top, err = b.startTop(ctx, filepath.Join(b.dir, "top"), topSettings{cores: coresOfReads}); err != nil {
		return err
	}
	if w.admin, err = w.top.administrator(ctx); err != nil {
		return err
	}
	tenant, err := signIn(ctx, account{authURL: w.top.url + "/identity/v3", region: "Global", user: "bench", password: adminPassword, project: "bench"})
	if err != nil {
		return err
	}
	w.tenant = tenant
	return b.readsOfTop(ctx, w, theirs)
}

// fill makes servers at Top until it has wantServers.
func (w *world) fill(ctx context.Context) error {
	by, err := w.tenant.count(ctx)
	if err != nil {
		return err
	}
	for missing := wantServers - total(by); missing > 0; missing -= 100 {
		body := w.kit.body("fill")
		n := min(missing, 100)
		body["server"].(object)["min_count"], body["server"].(object)["max_count"] = n, n
		if err := w.tenant.call(ctx, "POST", "compute", "/servers", body, nil); err != nil {
			return err
		}
	}
	_, _, err = w.settled(ctx)
	return err
}

// realFigures is what the peer's reads took; n is how many servers its list had.
type realFigures struct {
	n         int
	one, list outcome
}

// reads makes as many servers at the real region as a minute allows, and reads them.
func (p *peer) reads(ctx context.Context, b *bench) (realFigures, error) {
	var f realFigures
	b.say("making servers at the real region for %v ...", fillTime)
	if err := p.fill(ctx); err != nil {
		return f, err
	}
	var page struct{ Servers []struct{ ID string } }
	if err := p.tenant.call(ctx, "GET", "compute", "/servers?status=ACTIVE&limit=1000", nil, &page); err != nil {
		return f, err
	}
	if f.n = len(page.Servers); f.n == 0 {
		return f, fmt.Errorf("no server of the real region is ACTIVE")
	}
	b.say("reading %d servers at the real region ...", f.n)
	var err error
	if f.one, err = get(ctx, p.tenant, "/servers/"+page.Servers[0].ID, 1, realReads, 0); err != nil {
		return f, err
	}
	if f.list, err = get(ctx, p.tenant, fmt.Sprintf("/servers/detail?limit=%d", f.n), 1, realLists, 0); err != nil {
		return f, err
	}
	for _, s := range page.Servers { // now, so that the region is done with it when the run ends
		if err := p.tenant.call(ctx, "DELETE", "compute", "/servers/"+s.ID, nil, nil); err != nil && !notFound(err) {
			return f, err
		}
	}
	return f, nil
}

// fill makes servers without ports, some at a time, for fillTime, and waits for the last of them.
func (p *peer) fill(ctx context.Context) error {
	k := p.kit
	k.network = ""
	body := k.body("fill")
	body["server"].(object)["min_count"], body["server"].(object)["max_count"] = fillAtOnce, fillAtOnce
	end := time.Now().Add(fillTime)
	return until(ctx, 200*time.Millisecond, "the real region's servers", func() (bool, error) {
		var building struct{ Servers []struct{ ID string } }
		if err := p.tenant.call(ctx, "GET", "compute", "/servers?status=BUILD&limit=100", nil, &building); err != nil {
			return false, err
		}
		if time.Now().After(end) {
			return len(building.Servers) == 0, nil
		}
		if len(building.Servers) >= fillAtOnce {
			return false, nil
		}
		return false, p.tenant.call(ctx, "POST", "compute", "/servers", body, nil)
	})
}

// readsOfTop measures Top's reads and reports them beside the peer's.
func (b *bench) readsOfTop(ctx context.Context, w *world, theirs realFigures) error {
	var page struct{ Servers []struct{ ID string } }
	if err := w.tenant.call(ctx, "GET", "compute", "/servers?limit=1", nil, &page); err != nil {
		return err
	}
	b.say("reading at Top ...")
	show := "/servers/" + page.Servers[0].ID
	if _, err := get(ctx, w.tenant, show, 1, 100, 0); err != nil { // warm
		return err
	}
	one, err := get(ctx, w.tenant, show, 1, singleReads, 0)
	if err != nil {
		return err
	}
	peer := peerP50(theirs.one)
	b.report.beside(figure{Name: "GET server, p50", Unit: "ms", Ours: new(at(one.times, .5)), How: fmt.Sprintf(
		"one client, one request at a time: Top with GOMAXPROCS=1 over emulated sites (%s), real region (%s)", spread(one.times), spreadOr(theirs.one))}, peer, 20)
	if err := b.saturate(ctx, w, show); err != nil {
		return err
	}
	for _, n := range []int{theirs.n, wantServers} {
		if n == 0 || n == wantServers && theirs.n == wantServers {
			continue
		}
		o, err := get(ctx, w.tenant, fmt.Sprintf("/servers/detail?limit=%d", n), 1, listReads, 0)
		if err != nil {
			return err
		}
		f := figure{Name: fmt.Sprintf("list of %d servers with details, p50", n), Unit: "ms", Ours: new(at(o.times, .5)), How: fmt.Sprintf(
			"one client; Top with GOMAXPROCS=1, its servers have a port each (%s)", spread(o.times))}
		if n != theirs.n {
			b.report.add(f)
			continue
		}
		f.How += fmt.Sprintf("; the real region's %d servers, as many as it made in %v, have none (%s)", n, fillTime, spread(theirs.list.times))
		b.report.beside(f, peerP50(theirs.list), 20)
	}
	return nil
}

// saturate measures how many GETs a second one core answers.
func (b *bench) saturate(ctx context.Context, w *world, show string) error {
	cpu := w.top.cpu()
	o, err := get(ctx, w.tenant, show, readClients, 0, readTime)
	if err != nil {
		return err
	}
	used := w.top.cpu() - cpu
	how := fmt.Sprintf("%d clients for %v, Top with GOMAXPROCS=1, %s; Top used %s s of CPU in %s s",
		readClients, readTime, spread(o.times), number(used.Seconds()), number(o.elapsed.Seconds()))
	b.report.aim(figure{Name: "GET server, rate on one core", Unit: "1/s", Ours: new(o.rate()), How: how}, higher, 2000)
	b.report.aim(figure{Name: "GET server, for each second of Top's CPU", Unit: "1/s", Ours: new(float64(len(o.times)) / used.Seconds()), How: how +
		": what one core gives when nothing else takes of it"}, higher, 2000)
	return nil
}

func peerP50(o outcome) *float64 {
	if len(o.times) == 0 {
		return nil
	}
	v := at(o.times, .5)
	return &v
}

func spreadOr(o outcome) string {
	if len(o.times) == 0 {
		return "not measured"
	}
	return spread(o.times)
}
