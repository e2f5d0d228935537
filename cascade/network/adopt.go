package network

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// AdoptSite takes over what a site offers to all: its external networks, and those that it shares with every project. Each
// name is one logical network over all sites, bound wherever it is, with each site's own subnets; external and shared ones of
// one name stay apart. It is idempotent. What vanished from the site loses its binding there when two looks have said so
// (cascade/README.md: Absence), and ends when no site has it and nothing uses it.
// The slices that the site has of Top's subnets are looked after at the same time.
func (s *Service) AdoptSite(ctx context.Context, site ident.SiteID, caps sites.Capabilities) error {
	list := offers(&caps)
	logical, err := s.core.Index.List(ctx, index.Query{Kind: sites.Network, AllProjects: true, Shared: true, In: map[index.Field][]string{index.ByProject: {""}}})
	if err != nil {
		return err
	}
	absent, err := s.absent(ctx, site, &caps, list)
	if err != nil {
		return err
	}
	err = s.core.Internal(ctx, func(tx *cascade.Tx) error {
		a := &adoption{s: s, tx: tx, site: site, caps: &caps, seen: map[ident.TopID]bool{}}
		if err := a.take(list); err != nil {
			return err
		}
		if err := a.drop(absent); err != nil {
			return err
		}
		for _, n := range logical { // whose last site was removed meanwhile
			if a.seen[n.ID] {
				continue
			}
			if err := s.endUnused(tx, n.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.widen(ctx, site)
}

// offer is a network that a site offers to all of Top's projects.
type offer struct {
	sites.ExternalNetwork
	external bool
}

// word begins the name from which the id of a logical network is derived.
func (o offer) word() string {
	if o.external {
		return "external network"
	}
	return "shared network"
}

// offers returns what a probe found that is for all, external networks first, in order of their ids. What carries a marker is some Top's own.
func offers(caps *sites.Capabilities) []offer {
	var list []offer
	for _, n := range caps.ExternalNetworks {
		list = append(list, offer{n, true})
	}
	for _, n := range caps.SharedNetworks {
		if n.ToAll {
			list = append(list, offer{n.ExternalNetwork, false})
		}
	}
	list = slices.DeleteFunc(list, func(o offer) bool { _, marked := sites.MarkerOf(o.Body); return marked })
	slices.SortStableFunc(list, func(a, b offer) int {
		if a.external != b.external {
			return map[bool]int{true: -1, false: 1}[a.external]
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return list
}

// adoption is one walk over what a site offers, in one transaction.
type adoption struct {
	s    *Service
	tx   *cascade.Tx
	site ident.SiteID
	caps *sites.Capabilities
	seen map[ident.TopID]bool

	byTop    map[ident.TopID]*binding.Binding // networks that are bound at the site
	byBottom map[ident.BottomID]*binding.Binding
}

// take records the networks of the list with their subnets.
func (a *adoption) take(list []offer) error {
	bound, err := a.s.core.Bindings.OfSiteIn(a.tx.Tx, a.site, sites.Network)
	if err != nil {
		return err
	}
	a.byTop, a.byBottom = map[ident.TopID]*binding.Binding{}, map[ident.BottomID]*binding.Binding{}
	for _, b := range bound {
		a.byTop[b.TopID], a.byBottom[b.BottomID] = b, b
	}
	for _, n := range list {
		id, name := a.identify(n, list)
		if id == "" {
			continue
		}
		if err := a.network(id, name, n); err != nil {
			return err
		}
		for _, body := range n.Subnets {
			if err := a.subnet(id, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// identify finds the logical network that a site's network is part of, and its name: the one that it was part of before, also
// after it was renamed; else the one of its name; a second one of that name at the site is told apart by its id there. ""
// is for what waits: another network of that name was there, and is not yet believed to be gone.
func (a *adoption) identify(n offer, list []offer) (ident.TopID, string) {
	plain, apart := n.Name, fmt.Sprintf("%s-%.8s", n.Name, n.ID)
	if b := a.byBottom[n.ID]; b != nil {
		switch {
		case !b.Adopted:
			return "", ""
		case b.TopID == derived(n.word(), apart):
			return b.TopID, apart
		default:
			return b.TopID, plain
		}
	}
	id := derived(n.word(), plain)
	if b := a.byTop[id]; b != nil || a.seen[id] {
		if b != nil && !slices.ContainsFunc(list, func(o offer) bool { return o.ID == b.BottomID }) {
			return "", ""
		}
		return derived(n.word(), apart), apart
	}
	return id, plain
}

func (a *adoption) network(id ident.TopID, name string, n offer) error {
	shared, _ := n.Body["shared"].(bool)
	up, known := n.Body["admin_state_up"].(bool)
	security, told := n.Body["port_security_enabled"].(bool)
	r := &index.Resource{ID: id, Kind: sites.Network, Name: name, State: index.Live, Status: "ACTIVE"}
	if err := r.Encode(NetworkSpec{AdminStateUp: up || !known, External: n.external, Shared: shared, PortSecurity: security || !told}); err != nil {
		return err
	}
	observe(r, sites.Object{ID: n.ID, Body: n.Body})
	r.ObservedAdmin = nil // each site has its own
	return a.adopt(r, n.ID)
}

func (a *adoption) subnet(network ident.TopID, body sites.Body) error {
	obj := sites.Object{Body: body}
	bottom := ident.BottomID(obj.Text("id"))
	b, err := a.s.core.Bindings.OfBottomIn(a.tx.Tx, a.site, sites.Subnet, bottom)
	if err != nil || b != nil && !b.Adopted { // a tenant of Top may have made it there
		return err
	}
	spec := SubnetSpec{}
	fields := Fields{}
	for _, k := range []string{"ip_version", "cidr", "gateway_ip", "enable_dhcp", "allocation_pools", "dns_nameservers", "host_routes", "ipv6_ra_mode", "ipv6_address_mode"} {
		if v, ok := body[k]; ok {
			fields[k] = v
		}
	}
	if err := overlay(&spec, fields); err != nil {
		return err
	}
	spec.SiteAllocated, spec.Unseen = true, spec.CIDR == ""
	id := derived("external subnet", string(a.site), string(bottom))
	r := &index.Resource{ID: id, Kind: sites.Subnet, Name: obj.Text("name"), State: index.Live, ParentID: network, Site: a.site}
	if err := r.Encode(spec); err != nil {
		return err
	}
	return a.adopt(r, bottom)
}

// adopt records, or brings up to date, a row of the sites' and its binding.
func (a *adoption) adopt(r *index.Resource, bottom ident.BottomID) error {
	a.seen[r.ID] = true
	if err := a.record(r); err != nil {
		return err
	}
	b, err := a.s.core.Bindings.GetIn(a.tx.Tx, r.ID, a.site)
	if err != nil {
		return err
	}
	detail, err := json.Marshal(sighting{Roles: a.caps.Roles, Admin: a.caps.Admin})
	if err != nil {
		return fmt.Errorf("encode who saw %s: %w", bottom, err)
	}
	if b.Known() && b.BottomID == bottom && b.Detail == string(detail) {
		return nil
	}
	return a.s.core.Bindings.Adopt(a.tx.Tx, binding.Binding{
		TopID: r.ID, Site: a.site, Kind: r.Kind, BottomID: bottom, Generation: 1, Adopted: true, Detail: string(detail),
	})
}

func (a *adoption) record(r *index.Resource) error {
	old, err := a.tx.Load(r.ID)
	if fault.Is(err, fault.NotFound) {
		return a.tx.Insert(r)
	}
	if err != nil {
		return err
	}
	if r.Kind == sites.Subnet && old.State == index.Live && !Listed(r) && Listed(old) {
		r.Name, r.Spec = old.Name, old.Spec // seen by an account with more rights, or before a list that came back short
	}
	next := *old
	next.Name, next.State, next.Status, next.Spec, next.Observed = r.Name, index.Live, r.Status, r.Spec, r.Observed
	next.ParentID, next.Site, next.DeletedAt = r.ParentID, r.Site, r.DeletedAt
	if r.Kind == sites.Network && old.State == index.Live {
		// A logical network shows what the first site that had it says of it: two sites must not take turns.
		bound, err := a.s.core.Bindings.OfTopIn(a.tx.Tx, r.ID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(bound, func(b *binding.Binding) bool { return b.Site != a.site }) {
			next.Name, next.Spec, next.Observed, next.Status = old.Name, old.Spec, old.Observed, old.Status
		}
	}
	if reflect.DeepEqual(&next, old) {
		return nil
	}
	return a.tx.Save(&next)
}

// Elsewhere returns the networks of the sites' that the given site does not have; none for "".
func (s *Service) Elsewhere(ctx context.Context, site ident.SiteID) (map[ident.TopID]bool, error) {
	if site == "" {
		return nil, nil
	}
	rows, err := s.core.Index.List(ctx, index.Query{
		Kind: sites.Network, AllProjects: true, Shared: true, In: map[index.Field][]string{index.ByProject: {""}}, Bare: true,
	})
	if err != nil {
		return nil, err
	}
	out := make(map[ident.TopID]bool, len(rows))
	ids := make([]ident.TopID, len(rows))
	for i, r := range rows {
		out[r.ID], ids[i] = true, r.ID
	}
	bound, err := s.core.Bindings.OfTops(ctx, ids...)
	for id, list := range bound {
		if slices.ContainsFunc(list, func(b *binding.Binding) bool { return b.Site == site }) {
			delete(out, id)
		}
	}
	return out, err
}

// sighting is the detail of the binding of what was adopted: who saw it last, and when it was first missed after that.
type sighting struct {
	Roles  []string  `json:"roles,omitempty"`
	Admin  bool      `json:"admin,omitempty"`
	Missed time.Time `json:"missed,omitzero"` // when the probe that did not show it began
}

func sightingOf(b *binding.Binding) sighting {
	var s sighting
	if b.Detail == "" || json.Unmarshal([]byte(b.Detail), &s) != nil {
		return sighting{}
	}
	return s
}

func (s *Service) endUnused(tx *cascade.Tx, id ident.TopID) error {
	elsewhere, err := s.core.Bindings.OfTopIn(tx.Tx, id)
	if err != nil || len(elsewhere) > 0 {
		return err
	}
	users, err := s.core.Index.UsedByIn(tx.Tx, id, "")
	if err != nil || len(users) > 0 {
		return err
	}
	r, err := tx.Load(id)
	if err != nil || r.State == index.Deleted {
		return err
	}
	return tx.End(r)
}
