// Package inventory keeps Top's index true of what the sites hold: it polls each
// site for what changed, and from time to time compares everything, which alone
// finds deletions and doubles (cascade/README.md: Absence).
//
// It promises that a change at a site shows at Top within a poll, that no poll
// overwrites what a newer verb said, and that nothing is forgotten because an
// account lost a role or a list came back short: absence is only a suspicion,
// settled by looking at each id twice, and more than a few suspicions stop the diff with an alarm.
// A site of any size is compared in bounded memory, in slices that a restart does not lose.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Adopter takes over what everybody shares at a site: flavors, types, external and shared networks, public images.
type Adopter interface {
	AdoptSite(ctx context.Context, site ident.SiteID, caps sites.Capabilities) error
}

// Directory is the part of the registry that is used here.
type Directory interface {
	Sites(ctx context.Context) ([]registry.Site, error)
	Admin(ctx context.Context, site ident.SiteID) (sites.Adaptor, error)
	Tenant(ctx context.Context, site ident.SiteID, project string) (sites.Adaptor, error)
	Projects(ctx context.Context, site ident.SiteID) ([]registry.ProjectAccount, error)
}

// Config is what New needs.
type Config struct {
	Core      *cascade.Core
	Directory Directory
	Store     *Store
	Adopters  []Adopter
	Log       *slog.Logger
	Now       func() time.Time
	Metrics   prometheus.Registerer
	// Every is the time between polls of a site. Default 5 s.
	Every time.Duration
	// DiffEvery is the time between full comparisons of a site. Default 10 min.
	DiffEvery time.Duration
	// Slice is how much of one poll the full comparison may take; the next poll goes on with it. Default 30 s.
	Slice time.Duration
}

// The intervals of Config's zero values.
const (
	DefaultEvery     = 5 * time.Second
	DefaultDiffEvery = 10 * time.Minute
	DefaultSlice     = 30 * time.Second
	// tick is how often the loop looks for sites that are due.
	tick = 500 * time.Millisecond
	// turn bounds one poll of one site, and with it the claim on the site. A full comparison takes as many turns as it needs.
	turn = 5 * time.Minute
	// overlap is how much of the time before the last poll is asked for again, beside twice the clocks' difference:
	// a change is visible to filters only once its transaction has ended.
	overlap = 10 * time.Second
)

// Inventory is the poller of all sites.
type Inventory struct {
	cfg    Config
	polls  *prometheus.CounterVec
	alarms *prometheus.GaugeVec
	swept  *prometheus.CounterVec
	pace   *pace
}

// New returns an Inventory.
func New(cfg Config) *Inventory {
	if cfg.Every == 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.DiffEvery == 0 {
		cfg.DiffEvery = DefaultDiffEvery
	}
	if cfg.Slice == 0 {
		cfg.Slice = DefaultSlice
	}
	inv := &Inventory{
		cfg:    cfg,
		pace:   newPace(cfg.Now),
		polls:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_inventory_polls_total", Help: "Polls of a site, by outcome."}, []string{"site", "outcome"}),
		alarms: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "headwater_inventory_alarm", Help: "1 while the full comparison of a site is stopped by an alarm."}, []string{"site"}),
		swept:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_inventory_swept_total", Help: "Second or orphaned bottoms deleted at a site."}, []string{"site", "kind"}),
	}
	cfg.Metrics.MustRegister(inv.polls, inv.alarms, inv.swept)
	return inv
}

// Run polls until ctx ends. Each site is polled by one replica at a time, sites side by side.
func (inv *Inventory) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-t.C:
		}
		list, err := inv.cfg.Directory.Sites(ctx)
		if err != nil {
			if ctx.Err() == nil {
				inv.cfg.Log.ErrorContext(ctx, "sites were not read", "err", err)
			}
			continue
		}
		for i := range list {
			if s := &list[i]; s.Usable() {
				g.TryGo(func() error { inv.turn(ctx, s); return nil })
			}
		}
	}
}

// turn polls one site if it is due and nobody else is at it. Errors are logged here: the next turn tries again.
func (inv *Inventory) turn(ctx context.Context, s *registry.Site) {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	cur, err := inv.cfg.Store.claim(ctx, s.Name, turn)
	if err == nil && cur == nil {
		return
	}
	if err == nil {
		err = inv.Poll(ctx, s, cur)
		err = errors.Join(err, inv.cfg.Store.release(context.WithoutCancel(ctx), cur, inv.cfg.Every))
	}
	outcome := "done"
	if err != nil {
		outcome = "failed"
		if ctx.Err() == nil {
			inv.cfg.Log.WarnContext(ctx, "poll of a site failed", "site", s.Name, "err", err)
		}
	}
	inv.polls.WithLabelValues(string(s.Name), outcome).Inc()
}

// Poll takes over what a new probe found, what changed since the last poll and, when due, a slice of the full
// comparison. What of it fails is tried again and holds up none of the rest: a volume service that is down does not stop
// the servers' states, nor does a comparison of a hundred thousand servers.
func (inv *Inventory) Poll(ctx context.Context, s *registry.Site, cur *Cursor) error {
	began := inv.cfg.Now()
	adopted := inv.adopt(ctx, s, cur)
	changed := inv.poll(ctx, s, cur, began)
	if p := cur.Progress; p != nil && began.Sub(p.Began) > progressLife {
		cur.Progress = nil
	}
	if cur.Progress == nil {
		if began.Sub(cur.DiffedAt) < inv.cfg.DiffEvery {
			return errors.Join(adopted, changed)
		}
		cur.Progress = &Progress{Began: began}
	}
	return errors.Join(adopted, changed, inv.diff(ctx, s, cur))
}

// poll looks at what changed since the last poll. Before the first there is nothing to go on from: what was there
// when it began is the full comparison's.
func (inv *Inventory) poll(ctx context.Context, s *registry.Site, cur *Cursor, began time.Time) error {
	if !cur.PolledAt.IsZero() {
		if err := inv.changes(ctx, s, cur.PolledAt); err != nil {
			return err
		}
	}
	cur.PolledAt = began
	return nil
}

// adopt takes over what a new probe found. What an adopter does not believe is an alarm, until the next probe.
func (inv *Inventory) adopt(ctx context.Context, s *registry.Site, cur *Cursor) error {
	if !s.Capabilities.ProbedAt.After(cur.AdoptedAt) {
		return nil
	}
	var errs []error
	var doubts []string
	caps := s.Offered()
	for _, a := range inv.cfg.Adopters {
		err := a.AdoptSite(ctx, s.Name, caps)
		if doubt := (*cascade.DoubtError)(nil); errors.As(err, &doubt) {
			doubts, err = append(doubts, doubt.Reason), nil
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("adopt what site %s shares: %w", s.Name, err)
	}
	if cur.AdoptAlarm = strings.Join(doubts, "; "); cur.AdoptAlarm != "" {
		inv.cfg.Log.ErrorContext(ctx, "what a site no longer shares was not believed", "site", s.Name, "err", cur.AdoptAlarm)
	}
	inv.ring(cur)
	cur.AdoptedAt = s.Capabilities.ProbedAt
	return nil
}

// ring shows whether there is an alarm.
func (inv *Inventory) ring(cur *Cursor) {
	on := 0.0
	if cur.Alarm != "" || cur.AdoptAlarm != "" {
		on = 1
	}
	inv.alarms.WithLabelValues(string(cur.Site)).Set(on)
}

// session is one account's view of a site.
type session struct {
	adaptor sites.Adaptor
	project string        // of Top, which alone the account sees; "" sees all that Top holds there
	all     bool          // sees every project, as an administrator
	skew    time.Duration // the site's clock minus ours
}

// sessions returns the accounts that together see all that Top holds at a site.
func (inv *Inventory) sessions(ctx context.Context, s *registry.Site) ([]session, error) {
	if s.Tenancy != sites.TenancyStatic {
		a, err := inv.cfg.Directory.Admin(ctx, s.Name)
		return []session{{adaptor: a, all: s.Tenancy == sites.TenancyProject, skew: s.Capabilities.ClockSkew}}, err
	}
	accounts, err := inv.cfg.Directory.Projects(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(accounts, func(a, b registry.ProjectAccount) int { return strings.Compare(a.ProjectID, b.ProjectID) })
	var out []session
	for _, p := range accounts {
		a, err := inv.cfg.Directory.Tenant(ctx, s.Name, p.ProjectID)
		if err != nil {
			return nil, err
		}
		out = append(out, session{adaptor: a, project: p.ProjectID, skew: s.Capabilities.ClockSkew})
	}
	return out, nil
}
