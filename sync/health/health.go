// Package health keeps saying of every site whether it is up, degraded or
// down, and why.
//
// What it promises: one bad answer changes nothing (the thresholds are
// WorseAfter and BetterAfter); each site is checked by one process at a time,
// however many replicas run; an account that lost its roles makes a site
// degraded and never a smaller site.
package health

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// The intervals. Each pause is shortened at random by up to a tenth, so that
// the checks of many sites do not march in step.
const (
	// Every is the pause between checks of a site whose state is settled.
	Every = 10 * time.Second
	// InDoubt is the pause while findings contradict the state: a dead site is
	// down Every + InDoubt + twice CheckLimit after its last good answer at the latest.
	InDoubt = 3 * time.Second
	// CheckLimit bounds one check; a service that takes longer does not answer.
	CheckLimit = 8 * time.Second
	// ProbeEvery is the pause between full probes of what a site offers: placement is told by them how much room
	// there is. A probe is some thirty small requests.
	ProbeEvery = 2 * time.Minute
	// ProbeAgain is the pause after a probe that failed or found less than before.
	ProbeAgain = time.Minute
	// HintEvery is how often a caller's report may hasten the check of one site.
	HintEvery = 2 * time.Second
	// tick is how often the loop looks for due checks.
	tick = time.Second
	// lease is how long a claimed site is left alone by others: longer than CheckLimit and a probe's minute together.
	lease = 90 * time.Second
	// workers bounds the checks that run at once in one process.
	workers = 32
)

// Directory is what the loop needs of the site registry.
type Directory interface {
	Sites(ctx context.Context) ([]registry.Site, error)
	Bare(ctx context.Context, site ident.SiteID) (sites.Adaptor, error)
	Probe(ctx context.Context, site ident.SiteID, accept bool) (registry.Probed, error)
	Invalidate()
}

var _ Directory = (*registry.Registry)(nil)

// Config is what New needs.
type Config struct {
	DB         *dbschema.DB
	Directory  Directory
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil means time.Now
	Random     func() float64        // in [0, 1); nil means math/rand/v2.Float64
}

// Loop checks the sites. It is safe for concurrent use.
type Loop struct {
	dir     Directory
	rows    rows
	log     *slog.Logger
	now     func() time.Time
	random  func() float64
	metrics *metrics
	hints   chan ident.SiteID // never closed

	mu     sync.Mutex // guards the field below
	hinted map[ident.SiteID]time.Time
}

// New makes a loop; Run runs it.
func New(c Config) (*Loop, error) {
	l := &Loop{
		dir: c.Directory, rows: store{c.DB}, log: c.Log, now: c.Now, random: c.Random,
		hints: make(chan ident.SiteID, 64), hinted: map[ident.SiteID]time.Time{},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.random == nil {
		l.random = rand.Float64
	}
	var err error
	l.metrics, err = newMetrics(c.Registerer)
	return l, err
}

// Report tells the loop how a call to a site ended, for whoever makes calls. It
// never blocks. A report changes no state by itself: it hastens the next check,
// at most once in HintEvery, when the site failed (err is Unavailable,
// Ambiguous, Unauthorized or Forbidden); other errors and nil say nothing.
func (l *Loop) Report(site ident.SiteID, err error) {
	if err == nil {
		return
	}
	switch fault.KindOf(err) {
	case fault.Unavailable, fault.Ambiguous, fault.Unauthorized, fault.Forbidden:
	default:
		return
	}
	now := l.now()
	l.mu.Lock()
	late := now.Sub(l.hinted[site]) < HintEvery
	if !late {
		l.hinted[site] = now
	}
	l.mu.Unlock()
	if late {
		return
	}
	select {
	case l.hints <- site:
	default: // the loop is busy; the next check comes soon anyway
	}
}

// Run checks sites until ctx ends, and returns nil then, after every check that it began has ended.
func (l *Loop) Run(ctx context.Context) error {
	var checks errgroup.Group
	checks.SetLimit(workers)
	defer func() { _ = checks.Wait() }() // they return no errors
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	known := map[ident.SiteID]time.Time{}
	for {
		if err := l.turn(ctx, &checks, known); err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "health turn failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case site := <-l.hints:
			if err := l.rows.hasten(ctx, site, l.stamp()); err != nil && ctx.Err() == nil {
				l.log.WarnContext(ctx, "check not hastened", "site", site, "err", err)
			}
		}
	}
}

// turn begins the checks that are due.
func (l *Loop) turn(ctx context.Context, checks *errgroup.Group, known map[ident.SiteID]time.Time) error {
	list, err := l.dir.Sites(ctx)
	if err != nil {
		return err
	}
	if err := l.adopt(ctx, list, known); err != nil {
		return err
	}
	if err := l.show(ctx, list); err != nil {
		return err
	}
	now := l.stamp()
	if due, err := l.rows.due(ctx, now); err != nil || !due {
		return err
	}
	claimed, err := l.rows.claim(ctx, ident.NewUUID(), now, now.Add(lease), workers)
	if err != nil {
		return err
	}
	byName := map[string]registry.Site{}
	for _, s := range list {
		byName[string(s.Name)] = s
	}
	for _, row := range claimed {
		site, ok := byName[row.Site]
		if !ok {
			continue // added or removed this second; the lease runs out
		}
		checks.Go(func() error {
			l.one(ctx, site, row)
			return nil
		})
	}
	return nil
}

// adopt begins the checks of new sites. known is the loop's own: the sites that have a row, by when they were added,
// since a name that was removed and added again has none.
func (l *Loop) adopt(ctx context.Context, list []registry.Site, known map[ident.SiteID]time.Time) error {
	var fresh []ident.SiteID
	present := map[ident.SiteID]bool{}
	for _, s := range list {
		present[s.Name] = true
		if added, ok := known[s.Name]; !ok || !added.Equal(s.Created) {
			fresh = append(fresh, s.Name)
		}
	}
	for name := range known {
		if !present[name] {
			delete(known, name)
			l.metrics.forget(name)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	now := l.stamp()
	if err := l.rows.ensure(ctx, fresh, now, now.Add(l.jitter(ProbeEvery))); err != nil {
		return err
	}
	for _, s := range list {
		known[s.Name] = s.Created
	}
	return nil
}

// show sets the gauges from the database: every replica shows every site.
func (l *Loop) show(ctx context.Context, list []registry.Site) error {
	if l.metrics == nil {
		return nil
	}
	all, err := l.rows.all(ctx)
	if err != nil {
		return err
	}
	for _, row := range all {
		l.metrics.state(ident.SiteID(row.Site), registry.HealthState(row.State))
	}
	return nil
}

// one checks one claimed site and stores what it found.
func (l *Loop) one(ctx context.Context, site registry.Site, row dbschema.SiteHealth) {
	began := l.now()
	finding := l.find(ctx, site)
	l.metrics.checked(site.Name, finding.State, l.now().Sub(began))
	if ctx.Err() != nil {
		return // our end, not the site's; the lease runs out
	}
	if finding.State != registry.Down && !row.NextProbeAt.After(l.now()) {
		row.Lost, row.NextProbeAt = l.probe(ctx, site, row.Lost)
	}
	if row.Lost != "" && finding.State == registry.Up {
		finding = Finding{State: registry.Degraded, Reason: row.Lost}
	}
	before := track(row)
	after, changed := before.Next(finding, l.stamp())
	l.fill(&row, after)
	kept, err := l.rows.finish(ctx, row)
	if err != nil || !kept {
		if ctx.Err() == nil {
			l.log.WarnContext(ctx, "health not stored", "site", site.Name, "err", err)
		}
		return
	}
	if changed {
		l.metrics.changed(site.Name, after.State)
		l.dir.Invalidate()
		l.log.InfoContext(ctx, "site health changed", "site", site.Name, "from", before.State, "to", after.State, "reason", after.Reason)
	}
}

// find makes one check.
func (l *Loop) find(ctx context.Context, site registry.Site) Finding {
	ctx, cancel := context.WithTimeout(ctx, CheckLimit)
	defer cancel()
	a, err := l.dir.Bare(ctx, site.Name)
	if err != nil {
		return Finding{State: registry.Down, Reason: "no session: " + text(err)}
	}
	return check(ctx, a, site)
}

// probe reads again what the site offers. It returns what is lost, and when to probe next.
func (l *Loop) probe(ctx context.Context, site registry.Site, was string) (string, time.Time) {
	again := l.stamp().Add(l.jitter(ProbeAgain))
	found, err := l.dir.Probe(ctx, site.Name, false)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			l.log.WarnContext(ctx, "site probe failed", "site", site.Name, "err", err)
		}
		return was, again
	case found.Lost != "":
		return found.Lost, again
	}
	return "", l.stamp().Add(l.jitter(ProbeEvery))
}

// track reads the state machine out of a row.
func track(row dbschema.SiteHealth) Track {
	return Track{State: registry.HealthState(row.State), Reason: row.Reason, Since: row.Since, Run: row.Run, Worse: row.RunWorse,
		Lead: Finding{State: registry.HealthState(row.RunState), Reason: row.RunReason}}
}

// fill writes the state machine and the next check into a row.
func (l *Loop) fill(row *dbschema.SiteHealth, t Track) {
	now := l.stamp()
	row.State, row.Reason, row.Since = string(t.State), t.Reason, t.Since
	row.Run, row.RunWorse, row.RunState, row.RunReason = t.Run, t.Worse, string(t.Lead.State), t.Lead.Reason
	row.CheckedAt = &now
	pause := Every
	if t.Run > 0 {
		pause = InDoubt
	}
	row.NextCheckAt = now.Add(l.jitter(pause))
}

// jitter shortens a pause at random by up to a tenth.
func (l *Loop) jitter(d time.Duration) time.Duration {
	return d - time.Duration(l.random()*float64(d)/10)
}

// stamp is the present as it is stored.
func (l *Loop) stamp() time.Time { return l.now().UTC().Truncate(time.Microsecond) }
