package network

import (
	"context"
	"net/netip"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// routerMaker makes routers at sites.
type routerMaker struct{ *Service }

// Needs returns the external network, which is there or nowhere.
func (routerMaker) Needs(_ context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	spec, err := SpecOf[RouterSpec](r)
	if err != nil || spec.Gateway == nil {
		return nil, err
	}
	return []ident.TopID{spec.Gateway.Network}, nil
}

// Body is the router as the site takes it.
func (m routerMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	spec, err := SpecOf[RouterSpec](r)
	if err != nil {
		return nil, err
	}
	body := sites.Body{"name": r.Name, "admin_state_up": spec.AdminStateUp}
	if spec.Gateway != nil {
		if body["external_gateway_info"], err = bottomGateway(ctx, at, spec.Gateway); err != nil {
			return nil, err
		}
	}
	if spec.Distributed != nil {
		body["distributed"] = *spec.Distributed
	}
	if spec.HA != nil {
		body["ha"] = *spec.HA
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

// Change sends what can be changed. The gateway has its own way (UpdateRouter) and is sent only when the site has another one.
func (m routerMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	spec, err := SpecOf[RouterSpec](r)
	if err != nil {
		return err
	}
	session, err := m.session(ctx, at, spec.privileged())
	if err != nil {
		return err
	}
	obj, err := session.Show(ctx, sites.Router, bottom)
	if err != nil {
		return err
	}
	info, err := bottomGateway(ctx, at, spec.Gateway)
	if err != nil {
		return err
	}
	body := sites.Body{"name": r.Name, "admin_state_up": spec.AdminStateUp}
	has, _ := obj.Body["external_gateway_info"].(map[string]any)
	if wants, _ := info["network_id"].(ident.BottomID); obj.Body["external_gateway_info"] != nil && has["network_id"] != string(wants) || has == nil && wants != "" {
		body["external_gateway_info"] = info
	}
	for name, value := range map[string]*bool{"distributed": spec.Distributed, "ha": spec.HA} {
		if value != nil && obj.Body[name] != *value {
			body[name] = *value
		}
	}
	if _, err := session.Update(ctx, sites.Router, bottom, withExtra(body, spec.Extra)); err != nil {
		return err
	}
	return m.pushRoutes(ctx, r, at, bottom)
}

// pushRoutes sends the extra routes whose next hop the router reaches at the site by now; the others follow with their leg.
func (m routerMaker) pushRoutes(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	spec, err := SpecOf[RouterSpec](r)
	if err != nil {
		return err
	}
	obj, err := at.Adaptor.Show(ctx, sites.Router, bottom)
	if err != nil {
		return err
	}
	had, _ := obj.Body["routes"].([]any)
	if len(spec.Routes) == 0 && len(had) == 0 {
		return nil
	}
	reach, err := m.reachable(ctx, r, at)
	if err != nil {
		return err
	}
	routes := []Route{}
	for _, route := range spec.Routes {
		hop, err := netip.ParseAddr(route.NextHop)
		if err != nil {
			return err
		}
		ok := spec.Gateway != nil
		for _, p := range reach {
			ok = ok || p.Contains(hop)
		}
		if ok {
			routes = append(routes, route)
		}
	}
	_, err = at.Adaptor.Update(ctx, sites.Router, bottom, sites.Body{"routes": routes})
	return err
}

// reachable returns the subnets that the router's legs have at the site.
func (m routerMaker) reachable(ctx context.Context, r *index.Resource, at cascade.At) ([]netip.Prefix, error) {
	ports, err := m.core.Index.List(ctx, index.Query{Kind: sites.Port, AllProjects: true, In: map[index.Field][]string{index.ByDevice: {string(r.ID)}}})
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, p := range ports {
		b, err := m.core.Bindings.Get(ctx, p.ID, at.Site)
		if err != nil {
			return nil, err
		}
		if !b.Known() {
			continue
		}
		spec, err := SpecOf[PortSpec](p)
		if err != nil {
			return nil, err
		}
		rows, err := m.core.Index.GetAll(ctx, subnetsOf(spec.FixedIPs))
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			n, err := SpecOf[SubnetSpec](row)
			if err != nil {
				return nil, err
			}
			out = append(out, n.Prefix())
		}
	}
	return out, nil
}

// Remove waits for legs that are still going.
func (m routerMaker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	return m.removePatiently(ctx, r, at, bottom)
}

// Observe takes the status and the gateway's addresses.
func (routerMaker) Observe(ctx context.Context, r *index.Resource, at cascade.At, obj sites.Object) error {
	observe(r, obj)
	delete(r.Observed, "routes")
	info, _ := obj.Body["external_gateway_info"].(map[string]any)
	if info == nil {
		return nil
	}
	bottom, _ := info["network_id"].(string)
	network, err := at.Top(ctx, sites.Network, ident.BottomID(bottom))
	if err != nil {
		return err
	}
	fixed, err := topFixed(ctx, at, info["external_fixed_ips"])
	if err != nil {
		return err
	}
	list := make([]any, len(fixed))
	for i, ip := range fixed {
		one := map[string]any{"ip_address": ip.IP}
		if ip.Subnet != "" { // Top does not know one that is newer than the last probe
			one["subnet_id"] = string(ip.Subnet)
		}
		list[i] = one
	}
	seen := map[string]any{"network_id": string(network), "external_fixed_ips": list}
	if snat, ok := info["enable_snat"]; ok {
		seen["enable_snat"] = snat
	}
	r.Observed["external_gateway_info"] = seen
	return nil
}

// Arrived has it made.
func (routerMaker) Arrived(tx *cascade.Tx, r *index.Resource) error { return arrive(tx, r) }

// Usage is the quota.
func (routerMaker) Usage(*index.Resource) map[string]int64 { return map[string]int64{"router": 1} }
