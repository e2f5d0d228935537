package network

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// CreateRouters records routers. One with a gateway is placed and made before the answer: the site chooses the address.
func (s *Service) CreateRouters(ctx context.Context, caller sites.Caller, list []Fields) ([]*index.Resource, error) {
	out := make([]*index.Resource, len(list))
	for i, f := range list {
		r, err := s.createRouter(ctx, caller, f)
		if err != nil {
			return nil, err
		}
		out[i] = r
	}
	return out, nil
}

func (s *Service) createRouter(ctx context.Context, caller sites.Caller, f Fields) (*index.Resource, error) {
	spec := RouterSpec{AdminStateUp: true}
	if err := overlay(&spec, f); err != nil {
		return nil, err
	}
	if spec.Gateway != nil && spec.Gateway.Network == "" {
		spec.Gateway = nil // {} asks for none, as null does
	}
	site, err := s.hinted(ctx, caller, f)
	if err != nil {
		return nil, err
	}
	zone := ""
	if len(spec.ZoneHints) > 0 {
		zone = spec.ZoneHints[0]
	}
	external, err := s.gatewayNetwork(ctx, caller, spec.Gateway)
	if err != nil {
		return nil, err
	}
	if external != nil {
		if site, err = s.siteWith(ctx, caller, external, "", zone); err != nil {
			return nil, err
		}
	}
	var r *index.Resource
	err = s.core.Commit(ctx, caller, "router.create", func(tx *cascade.Tx) error {
		r = newRow(sites.Router, caller, f)
		r.Status, r.Site = "ACTIVE", site
		if err := r.Encode(spec); err != nil {
			return err
		}
		var refs []index.Ref
		if external != nil {
			r.State = index.Creating
			refs = append(refs, index.Ref{To: external.ID, Role: "gateway"})
		}
		if err := tx.Insert(r, refs...); err != nil || site == "" {
			return err
		}
		return arrive(tx, r)
	})
	if err != nil || external == nil {
		return r, err
	}
	return s.makeNow(ctx, caller, r)
}

// gatewayNetwork finds the external network that a gateway names, and writes its Top id; nil without a gateway.
func (s *Service) gatewayNetwork(ctx context.Context, caller sites.Caller, g *Gateway) (*index.Resource, error) {
	if g == nil {
		return nil, nil //nolint:nilnil // no gateway, no network
	}
	n, err := s.Find(ctx, caller, sites.Network, string(g.Network))
	if err != nil {
		return nil, err
	}
	spec, err := SpecOf[NetworkSpec](n)
	if err != nil {
		return nil, err
	}
	if !spec.External {
		return nil, badRequest("Bad router request: Network %s is not an external network.", n.ID)
	}
	g.Network = n.ID
	for i, ip := range g.Fixed {
		if ip.Subnet == "" {
			continue
		}
		sub, err := s.siteSubnet(ctx, caller, ip.Subnet)
		if err != nil {
			return nil, err
		}
		g.Fixed[i].Subnet = sub.ID
	}
	return n, nil
}

// UpdateRouter changes a router. A gateway that is set or taken is carried out at the site before the answer.
func (s *Service) UpdateRouter(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	asked, touches := c.Fields["external_gateway_info"]
	rest := Fields{}
	for k, v := range c.Fields {
		if k != "external_gateway_info" {
			rest[k] = v
		}
	}
	var out *index.Resource
	if len(rest) > 0 || !touches {
		var err error
		if out, err = s.updateRouter(ctx, caller, Change{ID: c.ID, Fields: rest, Revision: c.Revision}); err != nil || !touches {
			return out, err
		}
		c.Revision = nil // checked
	}
	return s.setGateway(ctx, caller, c, asked)
}

func (s *Service) updateRouter(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	return s.update(ctx, caller, "router.update", sites.Router, c, func(tx *cascade.Tx, r *index.Resource) error {
		spec, err := SpecOf[RouterSpec](r)
		if err != nil {
			return err
		}
		before := spec
		if err := overlay(&spec, c.Fields); err != nil {
			return err
		}
		if err := keepsType(&before, &spec); err != nil {
			return err
		}
		if _, ok := c.Fields["routes"]; ok {
			if err := s.checkRoutes(tx, r, &spec); err != nil {
				return err
			}
		}
		return r.Encode(spec)
	})
}

// keepsType refuses to change what kind of router an active one is.
func keepsType(before, after *RouterSpec) error {
	is := func(b *bool) bool { return b != nil && *b }
	switch {
	case !before.AdminStateUp:
		return nil
	case after.Distributed != nil && is(before.Distributed) != *after.Distributed:
		return badRequest("Bad router request: Cannot change the 'distributed' attribute of active routers. Please set router admin_state_up to False prior to upgrade.")
	case after.HA != nil && is(before.HA) != *after.HA:
		return badRequest("Bad router request: Cannot change HA attribute of active routers. Please set router admin_state_up to False prior to upgrade.")
	}
	return nil
}

// checkRoutes wants each next hop in a subnet that the router is in; a router with a gateway may lead out by any address of it.
func (s *Service) checkRoutes(tx *cascade.Tx, r *index.Resource, spec *RouterSpec) error {
	legs, err := s.legs(tx, r.ID)
	if err != nil {
		return err
	}
	for _, route := range spec.Routes {
		hop, err := netip.ParseAddr(route.NextHop)
		if err != nil {
			return badRequest("Invalid input for routes. Reason: '%s' is not a valid IP address.", route.NextHop)
		}
		if _, err := netip.ParsePrefix(route.Destination); err != nil {
			return badRequest("Invalid input for routes. Reason: '%s' is not a valid IP subnet.", route.Destination)
		}
		connected := spec.Gateway != nil
		for _, leg := range legs {
			for _, n := range leg.subnets {
				connected = connected || n.spec.Prefix().Contains(hop)
			}
		}
		if !connected {
			return typed(fault.BadRequest, "InvalidRoutes", "Invalid format for routes: [{'destination': '%s', 'nexthop': '%s'}], the nexthop is not connected with router", route.Destination, route.NextHop)
		}
	}
	return nil
}

// setGateway writes the desired gateway and makes it true at the site.
func (s *Service) setGateway(ctx context.Context, caller sites.Caller, c Change, asked any) (*index.Resource, error) {
	var change RouterSpec
	if err := overlay(&change, Fields{"external_gateway_info": asked}); err != nil {
		return nil, err
	}
	if change.Gateway != nil && change.Gateway.Network == "" {
		change.Gateway = nil // {} clears
	}
	r, err := s.Find(ctx, caller, sites.Router, c.ID)
	if err != nil {
		return nil, err
	}
	external, err := s.gatewayNetwork(ctx, caller, change.Gateway)
	if err != nil {
		return nil, err
	}
	b, err := s.core.Bindings.Get(ctx, r.ID, r.Site)
	if err != nil {
		return nil, err
	}
	if b.Known() && r.State == index.Live {
		return s.gatewayAtSite(ctx, caller, r, c, external, change.Gateway)
	}
	return s.gatewayFirst(ctx, caller, r, c, external, change.Gateway)
}

// writeGateway validates the change of a gateway and writes it into the row.
func (s *Service) writeGateway(tx *cascade.Tx, r *index.Resource, g *Gateway) error {
	spec, err := SpecOf[RouterSpec](r)
	if err != nil {
		return err
	}
	if g == nil || spec.Gateway != nil && spec.Gateway.Network != g.Network {
		if err := s.gatewayFree(tx, r); err != nil {
			return err
		}
	}
	spec.Gateway = g
	var to []ident.TopID
	if g != nil {
		to = []ident.TopID{g.Network}
	}
	if err := s.core.Index.SetRefs(tx.Tx, r.ID, "gateway", to...); err != nil {
		return err
	}
	return r.Encode(spec)
}

// gatewayFree refuses to take a gateway through which floating IPs lead.
func (s *Service) gatewayFree(tx *cascade.Tx, r *index.Resource) error {
	floats, err := s.core.Index.UsedByIn(tx.Tx, r.ID, "router")
	if err != nil {
		return err
	}
	for _, ref := range floats {
		f, err := tx.Load(ref.From)
		if err != nil {
			return err
		}
		if f.Kind == sites.FloatingIP && f.State != index.Deleting && f.State != index.Deleted { // a router's interfaces use it, too
			return conflict("RouterExternalGatewayInUseByFloatingIp", "Gateway cannot be updated for router %s, since a gateway to external network is required by one or more floating IPs.", r.ID)
		}
	}
	return nil
}

// gatewayFirst is for a router that is at no site yet: it gets there now, first
// without the gateway, so that a gateway which the site refuses leaves a router and its legs that work.
func (s *Service) gatewayFirst(ctx context.Context, caller sites.Caller, r *index.Resource, c Change, external *index.Resource, g *Gateway) (*index.Resource, error) {
	site, err := s.routerSite(ctx, caller, r, external)
	if err != nil {
		return nil, err
	}
	err = s.core.Commit(ctx, caller, "router.gateway", func(tx *cascade.Tx) error {
		row, err := changing(tx, sites.Router, c)
		if err != nil {
			return err
		}
		if external != nil {
			return tx.Place(site, row.ID)
		}
		if err := s.writeGateway(tx, row, g); err != nil {
			return err
		}
		return tx.Changed(row)
	})
	if err == nil && external != nil {
		_, err = s.ensureNow(ctx, site, r.ID)
	}
	if err != nil {
		return nil, err
	}
	row, err := s.core.Index.Get(ctx, r.ID)
	if err != nil || external == nil {
		return row, err
	}
	c.Revision = nil // checked
	return s.gatewayAtSite(ctx, caller, row, c, external, g)
}

// routerSite chooses where a router with a gateway goes: where what it is connected to lives, else where the external network is.
func (s *Service) routerSite(ctx context.Context, caller sites.Caller, r, external *index.Resource) (ident.SiteID, error) {
	if external == nil {
		return r.Site, nil
	}
	var placed ident.SiteID
	err := s.core.Internal(ctx, func(tx *cascade.Tx) error {
		var err error
		placed, _, err = tx.SiteOf(r.ID)
		return err
	})
	if err != nil {
		return "", err
	}
	spec, err := SpecOf[RouterSpec](r)
	if err != nil {
		return "", err
	}
	zone := ""
	if len(spec.ZoneHints) > 0 {
		zone = spec.ZoneHints[0]
	}
	return s.siteWith(ctx, caller, external, placed, zone)
}

// gatewayAtSite changes the gateway of a router that is at its site.
func (s *Service) gatewayAtSite(ctx context.Context, caller sites.Caller, r *index.Resource, c Change, external *index.Resource, g *Gateway) (*index.Resource, error) {
	if external != nil {
		if _, err := s.siteWith(ctx, caller, external, r.Site, ""); err != nil {
			return nil, err
		}
	}
	old, err := SpecOf[RouterSpec](r)
	if err != nil {
		return nil, err
	}
	var at cascade.At
	_, err = s.core.Run(ctx, caller, r.ID, cascade.Verb{
		Action: "router.gateway",
		Begin: func(tx *cascade.Tx, row *index.Resource) error {
			if c.Revision != nil && *c.Revision != row.Version {
				return &RevisionError{Wanted: *c.Revision, Current: row.Version}
			}
			return s.writeGateway(tx, row, g)
		},
		Call: func(ctx context.Context, a cascade.At, bottom ident.BottomID) (sites.Reply, error) {
			at = a
			info, err := bottomGateway(ctx, a, g)
			if err != nil {
				return sites.Reply{}, err
			}
			session, err := s.session(ctx, a, g.privileged())
			if err != nil {
				return sites.Reply{}, err
			}
			return session.Do(ctx, sites.Request{
				Service: sites.NetworkSvc, Method: http.MethodPut, Path: "routers/" + string(bottom),
				Body: sites.Body{"router": sites.Body{"external_gateway_info": info}},
			})
		},
		Undo: func(tx *cascade.Tx, row *index.Resource) error { return s.writeGateway(tx, row, old.Gateway) },
	})
	if err != nil {
		return nil, err
	}
	b, err := s.core.Bindings.Get(ctx, r.ID, at.Site)
	if err != nil || !b.Known() {
		return nil, err
	}
	return s.core.Refresh(ctx, r, at.Site, b.BottomID)
}

// bottomGateway is external_gateway_info as the site takes it.
func bottomGateway(ctx context.Context, at cascade.At, g *Gateway) (sites.Body, error) {
	if g == nil {
		return sites.Body{}, nil // {} clears, as null does
	}
	network, err := at.Bottom(ctx, g.Network)
	if err != nil {
		return nil, err
	}
	info := sites.Body{"network_id": network}
	if g.SNAT != nil {
		info["enable_snat"] = *g.SNAT
	}
	fixed := []sites.Body{}
	for _, ip := range g.Fixed {
		one := sites.Body{}
		if ip.IP != "" {
			one["ip_address"] = ip.IP
		}
		if ip.Subnet != "" {
			if one["subnet_id"], err = at.Bottom(ctx, ip.Subnet); err != nil {
				return nil, err
			}
		}
		fixed = append(fixed, one)
	}
	if len(fixed) > 0 {
		info["external_fixed_ips"] = fixed
	}
	return info, nil
}

// DeleteRouter ends a router; RouterInUse while it has legs.
func (s *Service) DeleteRouter(ctx context.Context, caller sites.Caller, c Change) error {
	return s.core.Commit(ctx, caller, "router.delete", func(tx *cascade.Tx) error {
		r, err := changing(tx, sites.Router, c)
		if err != nil {
			return err
		}
		legs, err := s.legs(tx, r.ID)
		if err != nil {
			return err
		}
		if len(legs) > 0 {
			texts := make([]string, len(legs))
			for i, l := range legs {
				texts[i] = string(l.row.ID)
			}
			return conflict("RouterInUse", "Router %s has ports still attached: %s", r.ID, strings.Join(texts, ", "))
		}
		if err := s.gatewayFree(tx, r); err != nil {
			return err
		}
		return tx.Delete(r)
	})
}
