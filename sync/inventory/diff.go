package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

const (
	// progressLife is how old a full comparison may grow before another begins: what it saw first says little by then.
	progressLife = 6 * time.Hour
	// diffAgain is the time to the next full comparison when one failed for a kind.
	diffAgain = time.Minute
	// wholePage is how many rows of a whole listing are asked for at a time: the most that services give.
	wholePage = 1000
)

// Progress is how far a full comparison of a site got. It is what a restart, or another replica, goes on from.
type Progress struct {
	Began time.Time  `json:"began"`
	Kind  sites.Kind `json:"kind,omitempty"` // under way; "" before the first
	// Walk began when the listing of the kind did, by the first account.
	Walk    time.Time `json:"walk,omitzero"`
	Project string    `json:"project,omitempty"` // whose account is at it
	// Trail ends with the last bottom that was compared; those before it are markers to go back to when it is gone.
	Trail    []ident.BottomID `json:"trail,omitempty"`
	Known    int64            `json:"known,omitempty"`    // of the kind that Top has there
	Suspects int              `json:"suspects,omitempty"` // that the lists did not show so far
	Listed   bool             `json:"listed,omitempty"`   // only the suspects are left to be looked at
	Settled  ident.TopID      `json:"settled,omitempty"`  // the last suspect that was looked at
	Failed   bool             `json:"failed,omitempty"`   // for one of the kinds
}

// errPause says that the slice is over and the rest comes with the next poll.
var errPause = errors.New("the slice of the comparison is over")

func diffKinds() []sites.Kind {
	return []sites.Kind{
		sites.Server, sites.Volume, sites.Snapshot, sites.Network, sites.Subnet, sites.Port, sites.Router, sites.FloatingIP,
		sites.SecurityGroup, sites.Image,
	}
}

// differ is one slice of the full comparison of one site.
type differ struct {
	*Inventory
	site *registry.Site
	list []session
	at   *Progress
	ends time.Time // of the slice: its cost, not a moment, so not on the clock
}

// diff lists everything that Top holds at a site and looks at what is missing, doubled or orphaned, for the length
// of a slice. The cursor's progress is nil when it came to an end.
func (inv *Inventory) diff(ctx context.Context, s *registry.Site, cur *Cursor) error {
	list, err := inv.sessions(ctx, s)
	if err != nil {
		return err
	}
	d := &differ{Inventory: inv, site: s, list: list, at: cur.Progress, ends: time.Now().Add(inv.cfg.Slice)}
	paused := false
	if err = d.scope(ctx); err == nil {
		paused, err = d.run(ctx)
	}
	if paused || ctx.Err() != nil { // a Top that stops, or a turn that is over: the next goes on
		return err
	}
	var doubt *cascade.DoubtError
	if cur.Alarm = ""; errors.As(err, &doubt) {
		cur.Alarm, err = doubt.Reason, nil
		inv.cfg.Log.ErrorContext(ctx, "full comparison was stopped", "site", s.Name, "err", cur.Alarm)
	}
	inv.ring(cur)
	cur.DiffedAt, cur.Progress = cur.Progress.Began, nil
	if d.at.Failed {
		cur.DiffedAt = cur.DiffedAt.Add(min(diffAgain-inv.cfg.DiffEvery, 0))
	}
	return err
}

// run goes through the kinds from where the last slice stopped, and reports whether its time was over before the end. An
// error of one kind must not hide what the other services hold.
func (d *differ) run(ctx context.Context) (paused bool, err error) {
	kinds := diffKinds()
	var errs []error
	for i := max(slices.Index(kinds, d.at.Kind), 0); i < len(kinds); i++ {
		kind := kinds[i]
		if _, offered := d.site.Capabilities.Services[kind.Service()]; !offered {
			continue
		}
		if d.at.Kind != kind {
			*d.at = Progress{Began: d.at.Began, Failed: d.at.Failed, Kind: kind}
		}
		err := d.kind(ctx, kind)
		if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Unauthorized) {
			// The token in hand may say nothing of a role that was lost since; the list does.
			return false, &cascade.DoubtError{Site: d.site.Name, Reason: fmt.Sprintf("the account of site %s may not list its %ss any more: %s", d.site.Name, kind, fault.Message(err))}
		}
		var doubt *cascade.DoubtError
		switch {
		case errors.Is(err, errPause):
			return true, errors.Join(errs...)
		case errors.As(err, &doubt) || ctx.Err() != nil:
			return false, err
		case err != nil:
			d.at.Failed = true
			errs = append(errs, fmt.Errorf("compare %ss of %s: %w", kind, d.site.Name, err))
		}
	}
	return false, errors.Join(errs...)
}

// scope proves that the accounts are what they should be: an administrator's list of all projects is worth nothing without the role.
func (d *differ) scope(ctx context.Context) error {
	for _, ses := range d.list {
		acc, err := ses.adaptor.Account(ctx)
		if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Unauthorized) {
			return &cascade.DoubtError{Site: d.site.Name, Reason: "the account could not be read: " + err.Error()}
		}
		if err != nil {
			d.at.Failed = true
			return fmt.Errorf("read the account at site %s: %w", d.site.Name, err)
		}
		if ses.all && !slices.Contains(acc.Roles, "admin") {
			return &cascade.DoubtError{Site: d.site.Name, Reason: fmt.Sprintf("the account %s at site %s has no role admin any more", acc.UserName, d.site.Name)}
		}
	}
	return nil
}

// kind compares one kind, as all accounts together see it, and then settles what they did not show.
func (d *differ) kind(ctx context.Context, kind sites.Kind) error {
	if d.at.Walk.IsZero() {
		known, err := d.cfg.Core.Bindings.Count(ctx, d.site.Name, kind)
		if err != nil {
			return err
		}
		d.at.Walk, d.at.Known = d.cfg.Now(), known
	}
	if !d.at.Listed {
		for _, ses := range d.list {
			if ses.project < d.at.Project {
				continue
			}
			if ses.project != d.at.Project {
				d.at.Project, d.at.Trail = ses.project, nil
			}
			if err := d.walk(ctx, kind, ses); err != nil {
				return err
			}
		}
		d.at.Listed = true
	}
	return d.settle(ctx, kind)
}

// pause ends the slice when its time is over.
func (d *differ) pause() error {
	if time.Now().Before(d.ends) {
		return nil
	}
	return errPause
}
