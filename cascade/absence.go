package cascade

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// What is not in a site's list is a suspicion and no more (cascade/README.md: Absence). One rule
// holds for whatever takes something for gone, the full comparison and every adopter:
//
//   - the list began after the bottom was last bound or seen;
//   - the account has proved that it sees what it should: it has its roles, and finds something that Top knows to be there;
//   - of few, or of a small part, only: more is a fault of the list (TooMany);
//   - the bottom is looked for by its id, twice, missingAfter apart, and not found either time.
//
// Sites lose roles, and lists come back short, far more often than somebody deletes a tenth of everything behind our back.
const (
	fewSuspects  = 5
	suspectShare = 0.10
	// canaries is how many known bottoms are looked for, at most, before an account counts as blind.
	canaries = 5
)

// DoubtError says that what a site shows is not to be believed: an operator's alarm, and nothing is forgotten.
type DoubtError struct {
	Site   ident.SiteID
	Reason string // one sentence
}

// Error says why.
func (d *DoubtError) Error() string { return d.Reason }

// Unwrap gives the error its kind.
func (d *DoubtError) Unwrap() error {
	return &fault.Error{Op: "cascade.Doubt", Site: string(d.Site), Kind: fault.Unavailable, Msg: d.Reason}
}

// TooMany returns a *DoubtError when more of a kind are missing from a site's list than can be believed.
func TooMany(site ident.SiteID, kind sites.Kind, suspects, known int) error {
	if suspects <= fewSuspects || float64(suspects) <= suspectShare*float64(known) {
		return nil
	}
	return &DoubtError{Site: site, Reason: fmt.Sprintf("%d of %d %ss are missing from the list of site %s: too many to be believed", suspects, known, kind, site)}
}

// Look is one whole list of a kind at a site.
type Look struct {
	Kind  sites.Kind
	Began time.Time
	// Admin says that the list was meant to be an administrator's.
	Admin bool
	Shown map[ident.BottomID]bool
	// Still reports whether an object that the list did not show and that is there is still what was taken over
	// (a public one, say). Nil believes that whatever is there is.
	Still func(sites.Object) bool
}

// Vanished returns which of the bindings stand for nothing any more, by the rule
// above. What it notes of the others is in the bindings' rows. A *DoubtError comes with no binding.
func (c *Core) Vanished(ctx context.Context, at At, look Look, bound []*binding.Binding) ([]*binding.Binding, error) {
	var suspects, seen []*binding.Binding
	known := 0
	for _, b := range bound {
		switch {
		case !b.Known() || b.State != binding.Bound:
			continue
		case look.Shown[b.BottomID] && !b.MissingSince.IsZero():
			seen = append(seen, b)
		case !look.Shown[b.BottomID] && b.BoundAt.Before(look.Began):
			suspects = append(suspects, b)
		}
		known++
	}
	if len(seen) > 0 {
		if err := c.internal(ctx, func(tx *Tx) error { return c.Bindings.Seen(tx.Tx, seen...) }); err != nil {
			return nil, err
		}
	}
	if len(suspects) == 0 {
		return nil, nil
	}
	if err := TooMany(at.Site, look.Kind, len(suspects), known); err != nil {
		return nil, err
	}
	if err := c.Sighted(ctx, at, look.Kind, look.Admin, suspects); err != nil {
		return nil, err
	}
	var gone []*binding.Binding
	for _, b := range suspects {
		lost, err := c.Lost(ctx, at, b, look.Still)
		if err != nil {
			return nil, err
		}
		if lost {
			gone = append(gone, b)
		}
	}
	return gone, nil
}

// Sighted returns a *DoubtError when an account at a site does not see what it
// should: it lost the role that it needs (a new token tells), or finds, by their ids, none of the
// resources of the same service that Top knows besides the suspects. Where Top knows none besides, the roles decide.
func (c *Core) Sighted(ctx context.Context, at At, kind sites.Kind, admin bool, suspects []*binding.Binding) error {
	account := at.Adaptor.Account
	if p, ok := sites.As[sites.Prover](at.Adaptor); ok {
		account = p.Prove
	}
	acc, err := account(ctx)
	if err != nil {
		return fmt.Errorf("read the account at site %s: %w", at.Site, err)
	}
	if admin && !slices.Contains(acc.Roles, "admin") {
		return &DoubtError{Site: at.Site, Reason: fmt.Sprintf("the account %s at site %s has no role admin any more", acc.UserName, at.Site)}
	}
	suspected := make(map[ident.BottomID]bool, len(suspects))
	for _, b := range suspects {
		suspected[b.BottomID] = true
	}
	tried := 0
	for _, k := range canaryKinds(kind) {
		list, err := c.Bindings.Between(ctx, binding.Range{Site: at.Site, Kind: k, Limit: canaries + len(suspects)})
		if err != nil {
			return err
		}
		for _, b := range list {
			if tried == canaries || k == kind && suspected[b.BottomID] || b.State != binding.Bound || !admin && !b.Adopted {
				continue
			}
			tried++
			switch _, err := at.Adaptor.Show(ctx, k, b.BottomID); {
			case err == nil:
				return nil
			case !fault.Is(err, fault.NotFound):
				return fmt.Errorf("look for what site %s is known to have: %w", at.Site, err)
			}
		}
	}
	if tried == 0 {
		return nil
	}
	return &DoubtError{Site: at.Site, Reason: fmt.Sprintf("the account %s finds none of the %ss that site %s is known to have", acc.UserName, kind, at.Site)}
}

// canaryKinds are the kinds that may prove the sight of one, itself first.
func canaryKinds(kind sites.Kind) []sites.Kind {
	out := []sites.Kind{kind}
	for _, k := range []sites.Kind{
		sites.Flavor, sites.Server, sites.VolumeType, sites.Volume, sites.Snapshot, sites.Image, sites.Network, sites.Subnet,
		sites.SecurityGroup, sites.Port, sites.Router, sites.FloatingIP,
	} {
		if k != kind && k.Service() == kind.Service() {
			out = append(out, k)
		}
	}
	return out
}

// Lost looks for a suspect by its id and reports whether it is gone: not found
// for the second time, missingAfter behind the first, or found and not what was taken over any more (still, which may be nil).
func (c *Core) Lost(ctx context.Context, at At, b *binding.Binding, still func(sites.Object) bool) (bool, error) {
	obj, err := at.Adaptor.Show(ctx, b.Kind, b.BottomID)
	switch {
	case err == nil && still != nil && !still(obj):
		return true, nil
	case err == nil:
		return false, c.internal(ctx, func(tx *Tx) error { return c.Bindings.Seen(tx.Tx, b) })
	case !fault.Is(err, fault.NotFound):
		return false, fmt.Errorf("look for %s %s at site %s: %w", b.Kind, b.BottomID, at.Site, err)
	case !b.MissingSince.IsZero():
		return c.Now().Sub(b.MissingSince) >= missingAfter, nil
	}
	return false, c.internal(ctx, func(tx *Tx) error { return c.Bindings.Missing(tx.Tx, b, c.Now()) })
}
