package network

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// nowTime bounds how long a tenant waits for what is made before the answer; after it, the job goes on.
const nowTime = 90 * time.Second

// makeNow makes a row that was just recorded before its tenant is answered, and returns it as the site shows it. When the site refuses, the
// row ends and the refusal is the answer; when the site does not answer, the job goes on and the answer is fault.Unavailable.
func (s *Service) makeNow(ctx context.Context, caller sites.Caller, r *index.Resource) (*index.Resource, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), nowTime) // the tenant's going does not undo what was recorded
	defer cancel()
	bottom, err := s.ensureNow(ctx, r.Site, r.ID)
	if err == nil {
		return s.core.Refresh(ctx, r, r.Site, bottom)
	}
	if !refused(err) {
		return nil, err
	}
	endErr := s.core.Internal(ctx, func(tx *cascade.Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil {
			return err
		}
		return tx.Delete(row)
	})
	return nil, errors.Join(err, endErr)
}

// After an answer that was lost the site is asked every lookAgain what became of
// the request, for lostTime; then the tenant is told, and the job goes on.
const (
	lookAgain = 300 * time.Millisecond
	lostTime  = 5 * time.Second
)

// ensureNow is Core.Ensure that waits where a job would come back later: for
// another worker, and for what became of a request whose answer was lost.
func (s *Service) ensureNow(ctx context.Context, site ident.SiteID, id ident.TopID) (ident.BottomID, error) {
	var enough <-chan time.Time // closes the wait after an answer was lost
	for {
		bottom, err := s.core.Ensure(ctx, site, id)
		var wait *cascade.WaitError
		after := lookAgain
		switch {
		case errors.As(err, &wait):
			after = wait.After
		case !fault.Is(err, fault.Ambiguous):
			return bottom, err
		case enough == nil:
			enough = time.After(lostTime)
		}
		timer := time.NewTimer(after)
		select {
		case <-ctx.Done():
			timer.Stop()
			return "", err
		case <-enough:
			timer.Stop()
			return "", err
		case <-timer.C:
		}
	}
}

// refused reports whether an error is the site's verdict, which repeating does not change.
func refused(err error) bool {
	switch fault.KindOf(err) {
	case fault.BadRequest, fault.Forbidden, fault.NotFound, fault.Conflict, fault.OverQuota, fault.TooLarge, fault.NotImplemented:
		return true
	default:
		return false
	}
}

// siteWith chooses a site at which a network of the sites' (external, shared) is. What is placed already decides.
func (s *Service) siteWith(ctx context.Context, caller sites.Caller, network *index.Resource, placed ident.SiteID, zone string) (ident.SiteID, error) {
	bound, err := s.core.Bindings.OfTop(ctx, network.ID)
	if err != nil {
		return "", err
	}
	at := map[ident.SiteID]bool{}
	for _, b := range bound {
		at[b.Site] = b.Known()
	}
	want := placement.Want{Caller: caller, Zone: zone, Service: sites.NetworkSvc}
	if placed != "" {
		want.Ties = []placement.Tie{{ID: network.ID, Kind: sites.Network, Site: placed}}
	}
	d, err := s.placer.Choose(ctx, want)
	switch {
	case err == nil && at[d.Site]:
		return d.Site, nil
	case err == nil && (placed != "" || caller.Pin != "" || zone != ""):
		return "", fault.New(fault.Conflict, "cascade/network", "Network %s (%s) does not exist at site %s.", network.ID, network.Name, d.Site)
	case err != nil && (placed != "" || caller.Pin != "" || zone != ""):
		return "", err
	}
	for _, b := range bound { // in order of the sites' names
		want.Ties = []placement.Tie{{ID: network.ID, Kind: sites.Network, Site: b.Site}}
		if d, tieErr := s.placer.Choose(ctx, want); tieErr == nil {
			return d.Site, nil
		} else if err == nil {
			err = tieErr
		}
	}
	if err == nil {
		err = fault.New(fault.Conflict, "cascade/network", "Network %s (%s) is at no site.", network.ID, network.Name)
	}
	return "", err
}
