package health

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// look is the cheapest call that proves that a service serves this account: one row of one list.
type look struct {
	service sites.Service
	path    string
	query   url.Values
	// vital services take the site down when they do not answer; without the others it is degraded.
	vital bool
}

// looks returns the calls of one check. Where Top makes projects, the first is
// one that only administrators may make, so that a lost role shows.
func looks(site registry.Site) []look {
	identity := look{service: sites.Identity, path: "auth/projects", vital: true}
	if site.Tenancy == sites.TenancyProject {
		identity.path = "roles"
	}
	one := url.Values{"limit": {"1"}}
	all := []look{
		identity,
		{service: sites.Compute, path: "servers", query: one, vital: true},
		{service: sites.NetworkSvc, path: "networks", query: url.Values{"limit": {"1"}, "fields": {"id"}}},
		{service: sites.ImageService, path: "images", query: one},
		{service: sites.BlockStorage, path: "volumes", query: one},
	}
	return slices.DeleteFunc(all, func(l look) bool {
		_, ok := site.Capabilities.Services[l.service]
		return !ok && l.service != sites.Identity
	})
}

// check asks every service of a site at once and sums up.
func check(ctx context.Context, a sites.Adaptor, site registry.Site) Finding {
	calls := looks(site)
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, l := range calls {
		wg.Go(func() {
			_, errs[i] = a.Do(ctx, sites.Request{Service: l.service, Method: "GET", Path: l.path, Query: l.query})
		})
	}
	wg.Wait()
	return sum(site, calls, errs)
}

// sum turns the answers of one check into a finding. A service that answers
// with an error of the account, not of the service, degrades the site (cascade/README.md: Absence).
func sum(site registry.Site, calls []look, errs []error) Finding {
	f := Finding{State: registry.Up}
	var reasons []string
	for i, err := range errs {
		if err == nil {
			continue
		}
		state, reason := judge(site, calls[i], err)
		if state == registry.Up {
			continue
		}
		if severity(state) > severity(f.State) {
			f.State = state
		}
		if !slices.Contains(reasons, reason) { // a refused login is every service's
			reasons = append(reasons, reason)
		}
	}
	f.Reason = strings.Join(reasons, "; ")
	return f
}

// judge says how bad one failed call is, and why.
func judge(site registry.Site, l look, err error) (registry.HealthState, string) {
	switch fault.KindOf(err) {
	case fault.Unauthorized:
		// Where tenants have accounts of their own, what runs goes on without Top's.
		if site.Tenancy == sites.TenancyShared {
			return registry.Down, "the site refuses Top's account: " + text(err)
		}
		return registry.Degraded, "the site refuses Top's account: " + text(err)
	case fault.Forbidden:
		return registry.Degraded, "Top's account lost a role: " + string(l.service) + ": " + text(err)
	case fault.Unavailable, fault.Ambiguous, fault.Internal:
		if l.vital {
			return registry.Down, string(l.service) + ": " + text(err)
		}
		return registry.Degraded, string(l.service) + ": " + text(err)
	default:
		return registry.Degraded, string(l.service) + ": " + text(err)
	}
}

// text is an error in a few words for the operator.
func text(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if msg := fault.Message(err); msg != "" {
		return msg
	}
	return err.Error()
}
