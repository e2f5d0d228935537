package network

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// More networks than both of these missing at once are not believed to be gone: sites lose rights and lists
// come back short far more often than somebody takes a tenth of all networks away.
const (
	fewMissing   = 5
	missingShare = 0.10
)

// absence is an adopted network or subnet that a probe did not show, with what a look at it by its id said.
type absence struct {
	*binding.Binding
	gone bool // it is not there, or no longer for all; false: it is there all the same
}

// absent looks, by id, at what was adopted from the site and is not among its offers. It returns nothing when the probe
// cannot prove that it saw all: what an account does not see after it lost a role is not gone (cascade/README.md: Absence).
func (s *Service) absent(ctx context.Context, site ident.SiteID, caps *sites.Capabilities, list []offer) ([]absence, error) {
	if !caps.NetworksListed {
		return nil, nil
	}
	there := map[ident.BottomID]bool{}
	for _, n := range list {
		there[n.ID] = true
		for _, body := range n.Subnets {
			there[ident.BottomID(sites.Object{Body: body}.Text("id"))] = true
		}
	}
	var out []absence
	withdrawn := map[ident.TopID]bool{}
	for _, kind := range []sites.Kind{sites.Network, sites.Subnet} {
		bound, err := s.core.Bindings.OfSite(ctx, site, kind)
		if err != nil {
			return nil, err
		}
		bound = slices.DeleteFunc(bound, func(b *binding.Binding) bool { return !b.Adopted })
		missing := slices.DeleteFunc(slices.Clone(bound), func(b *binding.Binding) bool { return there[b.BottomID] || !proves(caps, b) })
		if n := len(missing); kind == sites.Network && n > fewMissing && float64(n) > missingShare*float64(len(bound)) {
			s.core.Log().ErrorContext(ctx, "networks were missed", "site", site, "kind", kind,
				"err", fmt.Sprintf("%d of the %d networks that site %s offered are missing from its list: too many to be believed", n, len(bound), site))
			return nil, nil
		}
		for _, b := range missing {
			gone, err := s.lookAt(ctx, b, withdrawn)
			if err != nil {
				return nil, err
			}
			withdrawn[b.TopID] = gone
			out = append(out, absence{b, gone})
		}
	}
	return out, nil
}

// proves reports whether who probed may see at least what saw the binding's bottom last.
func proves(caps *sites.Capabilities, b *binding.Binding) bool {
	saw := sightingOf(b)
	if saw.Admin && !caps.Admin {
		return false
	}
	return !slices.ContainsFunc(saw.Roles, func(role string) bool { return !slices.Contains(caps.Roles, role) })
}

// lookAt asks the site for one network or subnet. A subnet goes with its network; a network that nobody but its owner may use any more is gone to Top.
func (s *Service) lookAt(ctx context.Context, b *binding.Binding, withdrawn map[ident.TopID]bool) (gone bool, err error) {
	r, err := s.core.Index.Get(ctx, b.TopID)
	if err != nil {
		return false, err
	}
	if r.Kind == sites.Subnet && withdrawn[r.ParentID] {
		return true, nil
	}
	at, err := s.core.At(ctx, &index.Resource{Kind: r.Kind}, b.Site)
	if err != nil {
		return false, err
	}
	obj, err := at.Adaptor.Show(ctx, r.Kind, b.BottomID)
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s %s at %s: %w", r.Kind, b.BottomID, b.Site, err)
	}
	if r.Kind == sites.Subnet {
		return false, nil
	}
	external, _ := obj.Body["router:external"].(bool)
	shared, _ := obj.Body["shared"].(bool)
	return !external && !shared, nil
}

// drop notes what is missing for the first time, and forgets what a later probe still misses.
func (a *adoption) drop(list []absence) error {
	for _, m := range slices.Backward(list) { // subnets before their network
		b, err := a.s.core.Bindings.GetIn(a.tx.Tx, m.TopID, a.site)
		if err != nil {
			return err
		}
		if !b.Known() || b.BottomID != m.BottomID || a.seen[m.TopID] {
			continue
		}
		saw := sightingOf(b)
		switch missed := saw.Missed; {
		case !m.gone && missed.IsZero() || m.gone && !missed.IsZero() && !a.caps.ProbedAt.After(missed):
			continue
		case !m.gone:
			saw.Missed = time.Time{}
		case missed.IsZero():
			saw.Missed = a.caps.ProbedAt
		default:
			if err := a.forget(m); err != nil {
				return err
			}
			continue
		}
		if err := a.note(b, saw); err != nil {
			return err
		}
	}
	return nil
}

func (a *adoption) note(b *binding.Binding, saw sighting) error {
	detail, err := json.Marshal(saw)
	if err != nil {
		return fmt.Errorf("encode who saw %s: %w", b.BottomID, err)
	}
	b.Detail = string(detail)
	return a.s.core.Bindings.Note(a.tx.Tx, b)
}

func (a *adoption) forget(m absence) error {
	if err := a.s.core.Bindings.Forget(a.tx.Tx, m.TopID, a.site); err != nil {
		return err
	}
	return a.s.endUnused(a.tx, m.TopID)
}
