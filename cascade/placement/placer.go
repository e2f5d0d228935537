package placement

import (
	"context"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Want is what a caller asks to be placed.
type Want struct {
	Caller  sites.Caller
	Zone    string // as the tenant gave it: "", "east" or "east/az1"
	Service sites.Service
	Ties    []Tie
	Image   ident.TopID // "" when none is needed
	Flavor  ident.TopID
	VCPUs   int64
	RAMMiB  int64
	DiskGiB int64
	Spread  bool // scheduler hint headwater:spread: the emptiest site, not the home
}

// registered gives the sites as they are now.
type registered interface {
	Sites(ctx context.Context) ([]registry.Site, error)
}

// accounts tells where a project was given an account (tenancy static). A registered that lacks it has no such site.
type accounts interface {
	HasAccount(ctx context.Context, site ident.SiteID, project string) (bool, error)
}

// Placer reads what Choose needs and records what it decided.
type Placer struct {
	sites    registered
	index    *index.Store
	bindings *binding.Store
	homes    *homes
	promised *promised
}

// New returns a Placer.
func New(s registered, idx *index.Store, bindings *binding.Store, h *HomeStore) *Placer {
	return &Placer{sites: s, index: idx, bindings: bindings, homes: h, promised: newPromised(idx, h.now)}
}

// Choose decides where the wanted resource goes. Nothing is recorded but, for a
// project that has none yet, its home site. The errors are those of the function Choose.
func (p *Placer) Choose(ctx context.Context, w Want) (Decision, error) {
	d, err := p.choose(ctx, w)
	if err == nil {
		p.promised.add(d.Site, w.Need())
	}
	return d, err
}

func (p *Placer) choose(ctx context.Context, w Want) (Decision, error) {
	d, err := p.Explain(ctx, w)
	if err != nil {
		return d, err
	}
	if w.Caller.ProjectID == "" || d.Rule == "zone" || d.Rule == "region" || d.Rule == "reference" || w.Spread {
		return d, nil
	}
	home, err := p.homes.settle(ctx, w.Caller.ProjectID, d.Site)
	if err != nil || home == d.Site || d.Rule != "score" {
		return d, err
	}
	// Another request of the project chose its home at the same time: go there if that is possible.
	if again, err := p.Explain(ctx, w); err == nil {
		return again, nil
	}
	return d, nil
}

// Explain is Choose without recording anything: the decision, or its refusal
// with every site's verdict, by the same code.
func (p *Placer) Explain(ctx context.Context, w Want) (Decision, error) {
	all, err := p.candidates(ctx, w)
	if err != nil {
		return Decision{}, err
	}
	home, err := p.homes.of(ctx, w.Caller.ProjectID)
	if err != nil {
		return Decision{}, err
	}
	return Choose(Ask{
		Pin: w.Caller.Pin, Zone: w.Zone, Service: w.Service, Ties: w.Ties, Home: home, Spread: w.Spread,
		Image: w.Image != "", Flavor: w.Flavor != "", Need: w.Need(),
	}, all)
}

func (p *Placer) candidates(ctx context.Context, w Want) ([]Site, error) {
	rows, err := p.sites.Sites(ctx)
	if err != nil {
		return nil, err
	}
	imageAt, err := p.boundAt(ctx, w.Image)
	if err != nil {
		return nil, err
	}
	flavorAt, err := p.boundAt(ctx, w.Flavor)
	if err != nil {
		return nil, err
	}
	out := make([]Site, 0, len(rows))
	for i := range rows {
		s := &rows[i]
		c := Site{
			Name: s.Name, Enabled: s.Enabled && s.State == registry.Active, Draining: s.Draining, Health: Health(s.Health.State),
			Reason: s.Health.Reason, Capable: s.Capabilities, Zones: map[string]string{}, ImageThere: imageAt[s.Name],
			FlavorOK:  flavorAt[s.Name] || s.Capabilities.Admin,
			FlavorWhy: "the site has no flavor of that size and Top may not make one there",
		}
		for _, z := range s.Zones {
			if z.Service == w.Service {
				c.Zones[z.Top] = z.Bottom
			}
		}
		if s.Tenancy == sites.TenancyShared {
			c.Quota = s.Capabilities.Quota[sites.Compute]
		}
		if c.Closed, err = p.closed(ctx, w.Caller.ProjectID, s); err != nil {
			return nil, err
		}
		if w.Need() != (Load{}) && (c.Capable.Capacity.Known || c.Quota != nil) {
			if c.Pending, err = p.promised.at(ctx, s.Name); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// closed says why a project cannot be at a site: under the tenancy static it has an account there or it has not.
func (p *Placer) closed(ctx context.Context, project string, s *registry.Site) (string, error) {
	known, ok := p.sites.(accounts)
	if s.Tenancy != sites.TenancyStatic || project == "" || !ok {
		return "", nil
	}
	has, err := known.HasAccount(ctx, s.Name, project)
	if err != nil || has {
		return "", err
	}
	return "project " + project + " has no account there: the operator must give one (headwater site project set)", nil
}

// Need is the load that the wanted resource brings.
func (w Want) Need() Load {
	l := Load{VCPUs: w.VCPUs, RAMMiB: w.RAMMiB, DiskGiB: w.DiskGiB}
	if w.VCPUs > 0 {
		l.Servers = 1
	}
	return l
}

func (p *Placer) boundAt(ctx context.Context, id ident.TopID) (map[ident.SiteID]bool, error) {
	at := map[ident.SiteID]bool{}
	if id == "" {
		return at, nil
	}
	bound, err := p.bindings.OfTop(ctx, id)
	for _, b := range bound {
		at[b.Site] = b.Known()
	}
	return at, err
}

// Zone is one availability zone as tenants see it.
type Zone struct {
	Name      string // "east" or "east/az1"
	Site      ident.SiteID
	Available bool
}

// Zones lists the zones of a service, by name; a pinned caller sees its site's only.
func (p *Placer) Zones(ctx context.Context, caller sites.Caller, service sites.Service) ([]Zone, error) {
	rows, err := p.sites.Sites(ctx)
	if err != nil {
		return nil, err
	}
	var out []Zone
	for i := range rows {
		s := &rows[i]
		if caller.Pin != "" && caller.Pin != s.Name {
			continue
		}
		placeable, _ := s.Placeable()
		for _, name := range s.TopZones(service) {
			out = append(out, Zone{Name: name, Site: s.Name, Available: placeable})
		}
	}
	slices.SortFunc(out, func(a, b Zone) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// BottomZone translates a tenant's zone for another service of the same site (a
// volume's zone for a server's); "" is the service's default. The zone's site must be the given one.
func (p *Placer) BottomZone(ctx context.Context, zone string, site ident.SiteID, service sites.Service) (string, error) {
	name, inner, _ := strings.Cut(zone, "/")
	if inner == "" {
		return "", nil
	}
	if ident.SiteID(name) != site {
		return "", fault.New(fault.Conflict, "cascade/placement.BottomZone", "Availability zone %s is not at site %s.", zone, site)
	}
	rows, err := p.sites.Sites(ctx)
	if err != nil {
		return "", err
	}
	for i := range rows {
		if rows[i].Name == site {
			bottom, _ := rows[i].BottomZone(zone, service)
			return bottom, nil
		}
	}
	return "", nil
}

// PlaceComponent puts the connected, unplaced network component of the rows at a site, within the transaction: see cascade.Tx.Place.
func (p *Placer) PlaceComponent(tx *cascade.Tx, site ident.SiteID, ids ...ident.TopID) error {
	return tx.Place(site, ids...)
}
