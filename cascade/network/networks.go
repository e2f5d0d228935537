package network

import (
	"context"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// CreateNetworks records networks, all or none. They are live at once, and unplaced unless the region or a zone hint names a site.
func (s *Service) CreateNetworks(ctx context.Context, caller sites.Caller, list []Fields) ([]*index.Resource, error) {
	placed := make([]ident.SiteID, len(list))
	for i, f := range list {
		var err error
		if placed[i], err = s.hinted(ctx, caller, f); err != nil {
			return nil, err
		}
	}
	var rows []*index.Resource
	err := s.core.Commit(ctx, caller, "network.create", func(tx *cascade.Tx) error {
		rows = nil
		for i, f := range list {
			r, err := s.insertNetwork(tx, f, placed[i])
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	return rows, err
}

// hinted returns the site that the region or the zone hints of a request name, or "".
func (s *Service) hinted(ctx context.Context, caller sites.Caller, f Fields) (ident.SiteID, error) {
	zone := ""
	if hints, _ := f["availability_zone_hints"].([]any); len(hints) > 0 {
		zone, _ = hints[0].(string)
	}
	if zone == "" && caller.Pin == "" {
		return "", nil
	}
	d, err := s.placer.Choose(ctx, placement.Want{Caller: caller, Zone: zone, Service: sites.NetworkSvc})
	if zone != "" && fault.Is(err, fault.BadRequest) {
		return "", typed(fault.NotFound, "AvailabilityZoneNotFound", "AvailabilityZone %s could not be found.", zone)
	}
	return d.Site, err
}

func (s *Service) insertNetwork(tx *cascade.Tx, f Fields, site ident.SiteID) (*index.Resource, error) {
	spec := NetworkSpec{AdminStateUp: true, PortSecurity: true}
	if err := overlay(&spec, f); err != nil {
		return nil, err
	}
	if err := ordinary(f); err != nil {
		return nil, err
	}
	r := newRow(sites.Network, tx.Caller, f)
	r.Status, r.Site = "ACTIVE", site
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	if _, err := s.DefaultGroup(tx, r.ProjectID); err != nil {
		return nil, err
	}
	if spec.Shared {
		r.Visibility = index.ForAll
	}
	if err := tx.Insert(r); err != nil {
		return r, err
	}
	if spec.Shared {
		if err := s.core.Index.SetForAll(tx.Tx, r, true); err != nil {
			return r, err
		}
	}
	if site == "" {
		return r, nil
	}
	return r, arrive(tx, r)
}

// ordinary refuses what makes a network a site's: external networks, and those that are mapped onto something of the site.
func ordinary(f Fields) error {
	for name, value := range f {
		if strings.HasPrefix(name, "provider:") || (name == "router:external" || name == "is_default") && value == true {
			return conflict("Conflict", "Networks of Top cannot have %s: external and provider networks are made at a site, by its operator, and show at Top as soon as they are there.", name)
		}
	}
	return nil
}

// share lets all projects use a network with its subnets, or its own project alone, which is refused while others have ports there.
func (s *Service) share(tx *cascade.Tx, r *index.Resource, shared bool) error {
	if !shared {
		ports, err := s.living(tx, r.ID, sites.Port)
		if err != nil {
			return err
		}
		for _, p := range ports {
			if p.ProjectID != r.ProjectID {
				return conflict("InvalidSharedSetting", "Unable to reconfigure sharing settings for network %s. Multiple tenants are using it.", r.Name)
			}
		}
	}
	subnets, err := s.living(tx, r.ID, sites.Subnet)
	if err != nil {
		return err
	}
	for _, n := range subnets {
		if err := s.core.Index.SetForAll(tx.Tx, n, shared); err != nil {
			return err
		}
		if err := s.core.Index.SaveQuietly(tx.Tx, n); err != nil {
			return err
		}
	}
	return s.core.Index.SetForAll(tx.Tx, r, shared)
}

// UpdateNetwork changes a network.
func (s *Service) UpdateNetwork(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	return s.update(ctx, caller, "network.update", sites.Network, c, func(tx *cascade.Tx, r *index.Resource) error {
		spec, err := SpecOf[NetworkSpec](r)
		if err != nil {
			return err
		}
		was := spec.Shared
		if err := overlay(&spec, c.Fields); err != nil {
			return err
		}
		if err := ordinary(c.Fields); err != nil {
			return err
		}
		if err := r.Encode(spec); err != nil || was == spec.Shared {
			return err
		}
		return s.share(tx, r, spec.Shared)
	})
}

// update is the frame of all recorded updates: change writes the spec; columns and the push to the sites are done here.
func (s *Service) update(ctx context.Context, caller sites.Caller, action string, kind sites.Kind, c Change, change func(tx *cascade.Tx, r *index.Resource) error) (*index.Resource, error) {
	var out *index.Resource
	err := s.core.Commit(ctx, caller, action, func(tx *cascade.Tx) error {
		r, err := changing(tx, kind, c)
		if err != nil {
			return err
		}
		columns(r, c.Fields)
		if err := change(tx, r); err != nil {
			return err
		}
		out = r
		return tx.Changed(r)
	})
	return out, err
}

// DeleteNetwork ends a network with its subnets; NetworkInUse while ports other than floating addresses of Top's making are on it.
func (s *Service) DeleteNetwork(ctx context.Context, caller sites.Caller, c Change) error {
	return s.core.Commit(ctx, caller, "network.delete", func(tx *cascade.Tx) error {
		r, err := changing(tx, sites.Network, c)
		if err != nil {
			return err
		}
		ports, err := s.living(tx, r.ID, sites.Port)
		if err != nil {
			return err
		}
		if len(ports) > 0 {
			return conflict("NetworkInUse", "Unable to complete operation on network %s. There are one or more ports still in use on the network, id for these ports is: %s.", r.ID, ids(ports))
		}
		subnets, err := s.living(tx, r.ID, sites.Subnet)
		if err != nil {
			return err
		}
		for _, n := range subnets {
			if err := tx.Delete(n); err != nil {
				return err
			}
		}
		return tx.Delete(r)
	})
}

// living returns the children of a row that are not on their way out.
func (s *Service) living(tx *cascade.Tx, parent ident.TopID, kind sites.Kind) ([]*index.Resource, error) {
	all, err := s.core.Index.Children(tx.Tx, parent, string(kind))
	var out []*index.Resource
	for _, r := range all {
		if r.State != index.Deleting {
			out = append(out, r)
		}
	}
	return out, err
}

func ids(rows []*index.Resource) string {
	texts := make([]string, len(rows))
	for i, r := range rows {
		texts[i] = string(r.ID)
	}
	return strings.Join(texts, ",")
}

// networkMaker makes networks at sites.
type networkMaker struct{ *Service }

// Needs returns nothing: a network stands alone.
func (networkMaker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body is the network as the site takes it.
func (m networkMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	spec, err := SpecOf[NetworkSpec](r)
	if err != nil {
		return nil, err
	}
	body := sites.Body{"name": r.Name, "admin_state_up": spec.AdminStateUp}
	if spec.MTU > 0 {
		body["mtu"] = spec.MTU
	}
	if !spec.PortSecurity {
		body["port_security_enabled"] = false
	}
	zones, err := m.bottomHints(ctx, at.Site, spec.ZoneHints)
	if err != nil {
		return nil, err
	}
	if len(zones) > 0 {
		body["availability_zone_hints"] = zones
	}
	return withExtra(body, spec.Extra), nil
}

// bottomHints translates "east/az1" into "az1"; a site's own name asks for nothing there.
func (s *Service) bottomHints(ctx context.Context, site ident.SiteID, hints []string) ([]string, error) {
	var out []string
	for _, h := range hints {
		d, err := s.placer.Choose(ctx, placement.Want{Zone: h, Service: sites.NetworkSvc})
		if err != nil {
			return nil, err
		}
		if d.Site == site && d.BottomZone != "" {
			out = append(out, d.BottomZone)
		}
	}
	return out, nil
}

// Change sends what can be changed.
func (m networkMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	body, err := m.Body(ctx, r, at)
	if err != nil {
		return err
	}
	delete(body, "availability_zone_hints")
	spec, err := SpecOf[NetworkSpec](r)
	if err != nil {
		return err
	}
	if seen, ok := r.Observed["port_security_enabled"].(bool); ok && seen != spec.PortSecurity {
		body["port_security_enabled"] = spec.PortSecurity
	}
	_, err = at.Adaptor.Update(ctx, sites.Network, bottom, body)
	return err
}

// Remove waits for the ports and subnets that are still going: Neutron fails when they go while it deletes the network.
func (m networkMaker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	for _, kind := range []sites.Kind{sites.Port, sites.Subnet} {
		going, err := m.core.Index.Count(ctx, index.Query{Kind: kind, AllProjects: true, Hidden: true, In: map[index.Field][]string{
			index.ByParent: {string(r.ID)}, index.ByState: {string(index.Deleting)},
		}})
		if err != nil {
			return false, err
		}
		if wait := m.core.Now().Sub(r.UpdatedAt); going > 0 && wait < patienceTime {
			return false, &cascade.WaitError{After: min(max(wait/4, minWait), maxWait), For: string(kind) + "s of network " + string(r.ID) + " to go"}
		}
	}
	return m.removePatiently(ctx, r, at, bottom)
}

// Observe takes the status and what only the site knows.
func (networkMaker) Observe(_ context.Context, r *index.Resource, _ cascade.At, obj sites.Object) error {
	observe(r, obj)
	return nil
}

// Arrived has it made.
func (networkMaker) Arrived(tx *cascade.Tx, r *index.Resource) error { return arrive(tx, r) }

// Usage is the quota.
func (networkMaker) Usage(*index.Resource) map[string]int64 { return map[string]int64{"network": 1} }

func withExtra(body sites.Body, extra map[string]any) sites.Body {
	for k, v := range extra {
		if _, ours := body[k]; !ours {
			body[k] = v
		}
	}
	return body
}

// translated are the members of a body that hold ids, names or texts of which Top has its own.
var translated = map[string]bool{
	"id": true, "name": true, "description": true, "tenant_id": true, "project_id": true, "created_at": true,
	"tags": true, "subnets": true, "standard_attr_id": true, "availability_zones": true,
	"availability_zone_hints": true, "external_gateway_info": true, "fixed_ips": true, "security_groups": true, "port_details": true,
	"subnetpool_id": true, "device_id": true, "port_forwardings": true, "segments": true,
}

// observe stores the status and the members that Top does not have itself: those for
// everybody in Observed, those for administrators apart. What names other things of the site by id is left out.
// The site's own updated_at and revision_number stay as well: by them the next look tells whether anything changed.
func observe(r *index.Resource, obj sites.Object) {
	if status := obj.Text("status"); status != "" {
		r.Status = status
	}
	r.Observed = sites.Body{}
	admin := sites.Body{}
	for k, v := range obj.Body {
		switch {
		case translated[k]:
		case strings.HasPrefix(k, "provider:") || strings.HasPrefix(k, "binding:") && k != "binding:vnic_type":
			admin[k] = v
		case v != nil && (strings.HasSuffix(k, "_id") || strings.HasSuffix(k, "_ids")):
		default:
			r.Observed[k] = v
		}
	}
	if len(admin) > 0 { // an ordinary user's look says nothing about them
		r.ObservedAdmin = admin
	}
}

// A delete that the site calls in use is repeated for patienceTime: what used it is mostly going as well.
const (
	patienceTime = 2 * time.Minute
	minWait      = 250 * time.Millisecond
	maxWait      = 5 * time.Second
)

// removePatiently deletes a bottom. While something that Top is ending, or a change that Top is still pushing, holds it, the answer is a *cascade.WaitError.
func (s *Service) removePatiently(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	err := at.Adaptor.Delete(ctx, r.Kind, bottom)
	switch {
	case err == nil:
		return true, nil
	case fault.Is(err, fault.NotFound):
		// Neutron answers 404 as well when something else went while it deleted this: a network's subnet.
		if _, err := at.Adaptor.Show(ctx, r.Kind, bottom); err != nil {
			return fault.Is(err, fault.NotFound), ignore(err, fault.NotFound)
		}
	}
	return s.inUse(r, err)
}

// inUse tells a refusal for good from one that is waited out: what holds the bottom is mostly going as well.
func (s *Service) inUse(r *index.Resource, err error) (bool, error) {
	if !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
		return false, err
	}
	wait := s.core.Now().Sub(r.UpdatedAt)
	var inUse error
	if fault.Is(err, fault.Conflict) {
		inUse = err
	}
	if wait > patienceTime && inUse != nil {
		return false, err
	}
	return false, &cascade.WaitError{After: min(max(wait/4, minWait), maxWait), For: string(r.Kind) + " " + string(r.ID) + " to be free at the site", Refused: inUse}
}
