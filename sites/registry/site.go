package registry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// State is where a site is in its life.
type State string

// The states of a site.
const (
	Active   State = "active"
	Removing State = "removing" // what Top made there is being deleted; the site then goes
)

// HealthState is what the checks say of a site.
type HealthState string

// The health states. Unknown means that nobody has checked lately.
const (
	Unknown  HealthState = "unknown"
	Up       HealthState = "up"
	Degraded HealthState = "degraded"
	Down     HealthState = "down"
)

// Health is how a site is, and why.
type Health struct {
	State     HealthState
	Reason    string // "" when up
	Since     time.Time
	CheckedAt time.Time // of the last check; zero when there was none yet
}

// staleAfter is the age at which a check says nothing any more: 12 check intervals of sync/health.
const staleAfter = 2 * time.Minute

// age turns a health that nobody has checked for staleAfter into Unknown.
func (h *Health) age(now time.Time) {
	if !h.CheckedAt.IsZero() && now.Sub(h.CheckedAt) > staleAfter && h.State != Unknown {
		h.Reason = fmt.Sprintf("not checked since %s; was %s", h.CheckedAt.UTC().Format(time.RFC3339), h.State)
		h.State, h.Since = Unknown, h.CheckedAt
	}
}

// Zone says which zone of a service stands for a zone of Top.
type Zone struct {
	Top     string        // the site's name (any zone of it) or SITE/ZONE
	Service sites.Service // compute, network or block-storage
	Bottom  string        // "" asks for none: the service picks its default
	Edited  bool          // by an operator: a probe leaves it alone
}

// Site is one registered site.
type Site struct {
	Name    ident.SiteID
	Region  string // in the site's own catalog
	AuthURL string
	Tenancy sites.Tenancy
	Enabled bool
	// Draining sites get nothing new; what is there goes on.
	Draining bool
	State    State
	Account  sites.Account // Top's own at the site, as the last login said
	// Capabilities is what the last successful probe found; shared, never nil.
	Capabilities      *sites.Capabilities
	Zones             []Zone // by zone, then service; shared
	Health            Health
	CredentialVersion int64
	Version           int64
	Created, Updated  time.Time
}

// Offered returns what the last probe found, as Top's projects may use it: where the tenancy is shared, they all act as the
// account that the site's shared networks were shown to.
func (s *Site) Offered() sites.Capabilities {
	caps := *s.Capabilities
	if s.Tenancy == sites.TenancyShared {
		caps.SharedNetworks = slices.Clone(caps.SharedNetworks)
		for i := range caps.SharedNetworks {
			caps.SharedNetworks[i].ToAll = true
		}
	}
	return caps
}

// Usable reports whether Top talks to the site at all: it is enabled and not
// down. Unknown counts as usable: the call itself will tell.
func (s *Site) Usable() bool { return s.Enabled && s.State == Active && s.Health.State != Down }

// Placeable reports whether something new may be put there, and the reason when not.
func (s *Site) Placeable() (bool, string) {
	switch {
	case s.State == Removing:
		return false, "site " + string(s.Name) + " is being removed"
	case !s.Enabled:
		return false, "site " + string(s.Name) + " is disabled"
	case s.Draining:
		return false, "site " + string(s.Name) + " is draining"
	case s.Health.State == Down:
		return false, "site " + string(s.Name) + " is down: " + s.Health.Reason
	}
	return true, ""
}

// BottomZone returns the zone of the service at the site that stands for a zone
// of Top ("" means the service's default), and whether the site has that zone for the service.
func (s *Site) BottomZone(top string, service sites.Service) (string, bool) {
	for _, z := range s.Zones {
		if z.Top == top && z.Service == service {
			return z.Bottom, true
		}
	}
	return "", false
}

// TopZones returns the zones of Top that the site has for a service, the site's own name first.
func (s *Site) TopZones(service sites.Service) []string {
	var names []string
	for _, z := range s.Zones {
		if z.Service == service {
			names = append(names, z.Top)
		}
	}
	return names
}

// zoned are the services that have zones.
func zoned() []sites.Service {
	return []sites.Service{sites.Compute, sites.NetworkSvc, sites.BlockStorage}
}

var siteName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// reservedNames would be mistaken for something else where a site's name
// stands: a region, a zone, a host, a path or a word of the command line.
var reservedNames = []string{"global", "all", "any", "none", "nova", "internal", "default", "regionone", "sites", "site", "top", "headwater", "local"}

// checkName returns what is wrong with a site's name, or "".
func checkName(name ident.SiteID) string {
	switch {
	case !siteName.MatchString(string(name)):
		return fmt.Sprintf("name %q: a site's name is 1 to 31 lower-case letters, digits and hyphens and starts with a letter", name)
	case slices.Contains(reservedNames, string(name)):
		return fmt.Sprintf("name %q is reserved", name)
	}
	return ""
}

// probedZones returns the zones of Top that follow from what a site's services offer (sites/README.md: Zones).
//
// The site's own name means any zone. SITE/ZONE is a zone that some service has;
// where compute has it, the services that lack it serve it with their default, since a server there needs them.
func probedZones(name ident.SiteID, caps *sites.Capabilities) []Zone {
	var zones []Zone
	for _, service := range zoned() {
		if _, ok := caps.Services[service]; !ok {
			continue
		}
		zones = append(zones, Zone{Top: string(name), Service: service})
		for _, z := range caps.Zones[service] {
			zones = append(zones, Zone{Top: string(name) + "/" + z, Service: service, Bottom: z})
		}
		for _, z := range caps.Zones[sites.Compute] {
			if !slices.Contains(caps.Zones[service], z) {
				zones = append(zones, Zone{Top: string(name) + "/" + z, Service: service})
			}
		}
	}
	sortZones(zones)
	return zones
}

func sortZones(zones []Zone) {
	slices.SortFunc(zones, func(a, b Zone) int {
		if c := strings.Compare(a.Top, b.Top); c != 0 {
			return c
		}
		return strings.Compare(string(a.Service), string(b.Service))
	})
}

// mergeZones returns the probed zones with the operator's edits kept.
func mergeZones(probed, stored []Zone) []Zone {
	var merged []Zone
	taken := map[[2]string]bool{}
	for _, z := range stored {
		if z.Edited {
			merged = append(merged, z)
			taken[[2]string{z.Top, string(z.Service)}] = true
		}
	}
	for _, z := range probed {
		if !taken[[2]string{z.Top, string(z.Service)}] {
			merged = append(merged, z)
		}
	}
	sortZones(merged)
	return merged
}
