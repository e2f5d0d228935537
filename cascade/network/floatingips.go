package network

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// CreateFloatingIP records a floating IP and has the site give its address before the answer.
func (s *Service) CreateFloatingIP(ctx context.Context, caller sites.Caller, f Fields) (*index.Resource, error) {
	id, _ := f["floating_network_id"].(string)
	network, err := s.Find(ctx, caller, sites.Network, id)
	if err != nil {
		return nil, err
	}
	ns, err := SpecOf[NetworkSpec](network)
	if err != nil {
		return nil, err
	}
	if !ns.External {
		return nil, badRequest("Bad floatingip request: Network %s is not a valid external network.", network.ID)
	}
	spec := FloatingSpec{}
	if err := overlay(&spec, f); err != nil {
		return nil, err
	}
	if spec.Subnet != "" {
		sub, err := s.siteSubnet(ctx, caller, spec.Subnet)
		if err != nil {
			return nil, err
		}
		spec.Subnet = sub.ID
	}
	portID, _ := f["port_id"].(string)
	site, err := s.floatingSite(ctx, caller, network, portID)
	if err != nil {
		return nil, err
	}
	var r *index.Resource
	err = s.core.Commit(ctx, caller, "floatingip.create", func(tx *cascade.Tx) error {
		r = newRow(sites.FloatingIP, caller, f)
		r.State, r.Status, r.Site, r.ParentID = index.Creating, "DOWN", site, network.ID
		refs := []index.Ref{{To: network.ID, Role: "floating_network"}}
		if portID != "" {
			to, err := s.target(tx, "", network.ID, portID, &spec)
			if err != nil {
				return err
			}
			r.DeviceID = to
			refs = append(refs, index.Ref{To: to, Role: "port"}, index.Ref{To: spec.Router, Role: "router"})
		}
		if err := r.Encode(spec); err != nil {
			return err
		}
		if err := tx.Insert(r, refs...); err != nil {
			return err
		}
		return arrive(tx, r)
	})
	if err != nil {
		return nil, err
	}
	return s.makeNow(ctx, caller, r)
}

// floatingSite chooses where a floating IP is made: where its port's router is, else where
// the project's routers to the network are, else a site that has the network.
func (s *Service) floatingSite(ctx context.Context, caller sites.Caller, network *index.Resource, portID string) (ident.SiteID, error) {
	placed := ident.SiteID("")
	if portID != "" {
		port, err := s.Find(ctx, caller, sites.Port, portID)
		if err != nil {
			return "", err
		}
		err = s.core.Internal(ctx, func(tx *cascade.Tx) error {
			placed, _, err = tx.SiteOf(port.ID)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if placed == "" && caller.Pin == "" {
		var err error
		if placed, err = s.gatewaySite(ctx, caller, network); err != nil {
			return "", err
		}
	}
	return s.siteWith(ctx, caller, network, placed, "")
}

// gatewaySite is the one site where the caller's project has routers with a
// gateway to the network: only there can a floating IP of it lead anywhere. "" when there is none, or several.
func (s *Service) gatewaySite(ctx context.Context, caller sites.Caller, network *index.Resource) (ident.SiteID, error) {
	refs, err := s.core.Index.UsedBy(ctx, network.ID, "gateway")
	if err != nil {
		return "", err
	}
	ids := make([]ident.TopID, len(refs))
	for i, ref := range refs {
		ids[i] = ref.From
	}
	routers, err := s.core.Index.GetAll(ctx, ids)
	site := ident.SiteID("")
	for _, r := range routers {
		switch {
		case r.ProjectID != caller.ProjectID || r.State != index.Live || r.Site == "":
		case site != "" && site != r.Site:
			return "", err
		default:
			site = r.Site
		}
	}
	return site, err
}

// target finds the port, its address and the router that a floating IP of the network can reach it by, and writes the
// last two into spec. Self is the floating IP that asks, "" for a new one: that it leads there already is no conflict.
func (s *Service) target(tx *cascade.Tx, self, network ident.TopID, portID string, spec *FloatingSpec) (ident.TopID, error) {
	port, err := own(tx, sites.Port, portID)
	if err != nil {
		return "", err
	}
	ps, err := SpecOf[PortSpec](port)
	if err != nil {
		return "", err
	}
	fixed, err := fixedFor(port, &ps, spec.Fixed)
	if err != nil {
		return "", err
	}
	floats, err := s.core.Index.OfDevice(tx.Tx, port.ID, string(sites.FloatingIP))
	if err != nil {
		return "", err
	}
	for _, f := range floats {
		other, err := SpecOf[FloatingSpec](f)
		if err != nil {
			return "", err
		}
		if f.ID != self && f.State != index.Deleting && other.Fixed == fixed.IP && f.ParentID == network {
			return "", conflict("FloatingIPPortAlreadyAssociated", "Cannot associate floating IP %s (%s) with port %s using fixed IP %s, as that fixed IP already has a floating IP on external network %s.", other.Address, f.ID, port.ID, fixed.IP, network)
		}
	}
	router, err := s.routerBetween(tx, network, port, fixed)
	if err != nil {
		return "", err
	}
	spec.Fixed, spec.Router = fixed.IP, router
	return port.ID, nil
}

// fixedFor picks the IPv4 address of a port that a floating IP leads to.
func fixedFor(port *index.Resource, ps *PortSpec, asked string) (FixedIP, error) {
	var v4 []FixedIP
	for _, ip := range ps.FixedIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is4() {
			v4 = append(v4, ip)
		}
	}
	switch {
	case asked != "":
		if ip, ok := held(v4, FixedIP{IP: asked}); ok {
			return ip, nil
		}
		return FixedIP{}, badRequest("Bad floatingip request: Port %s does not have fixed ip %s.", port.ID, asked)
	case len(v4) == 0:
		return FixedIP{}, badRequest("Bad floatingip request: Cannot add floating IP to port %s that has no fixed IPv4 addresses.", port.ID)
	case len(v4) > 1:
		return FixedIP{}, badRequest("Bad floatingip request: Port %s has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a floating IP.", port.ID)
	}
	return v4[0], nil
}

// routerBetween finds the router with a gateway in the external network and a leg in the subnet of the address.
func (s *Service) routerBetween(tx *cascade.Tx, network ident.TopID, port *index.Resource, fixed FixedIP) (ident.TopID, error) {
	users, err := s.core.Index.UsedByIn(tx.Tx, fixed.Subnet, "subnet")
	if err != nil {
		return "", err
	}
	for _, u := range users {
		p, err := tx.Load(u.From)
		if err != nil {
			return "", err
		}
		ps, err := SpecOf[PortSpec](p)
		if err != nil {
			return "", err
		}
		if !isRouterPort(ps.DeviceOwner) || p.State == index.Deleting || p.State == index.Deleted {
			continue
		}
		router, err := tx.Load(p.DeviceID)
		if err != nil {
			return "", err
		}
		rs, err := SpecOf[RouterSpec](router)
		if err != nil {
			return "", err
		}
		if rs.Gateway != nil && rs.Gateway.Network == network {
			return router.ID, nil
		}
	}
	return "", typed(fault.NotFound, "ExternalGatewayForFloatingIPNotFound", "External network %s is not reachable from subnet %s.  Therefore, cannot associate Port %s with a Floating IP.", network, fixed.Subnet, port.ID)
}

// UpdateFloatingIP associates, disassociates or describes a floating IP.
func (s *Service) UpdateFloatingIP(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	asked, touches := c.Fields["port_id"]
	if !touches {
		return s.update(ctx, caller, "floatingip.update", sites.FloatingIP, c, func(_ *cascade.Tx, r *index.Resource) error {
			spec, err := SpecOf[FloatingSpec](r)
			if err != nil {
				return err
			}
			fields := Fields{}
			for _, k := range []string{"tags", "extra"} {
				if v, ok := c.Fields[k]; ok {
					fields[k] = v
				}
			}
			if err := overlay(&spec, fields); err != nil {
				return err
			}
			return r.Encode(spec)
		})
	}
	port, _ := asked.(string)
	fixed, _ := c.Fields["fixed_ip_address"].(string)
	return s.associate(ctx, caller, c, port, fixed)
}

// associate leads a floating IP to a port, or with "" to none.
func (s *Service) associate(ctx context.Context, caller sites.Caller, c Change, port, fixed string) (*index.Resource, error) {
	r, err := s.Find(ctx, caller, sites.FloatingIP, c.ID)
	if err != nil {
		return nil, err
	}
	before := *r
	var target *index.Resource
	_, err = s.core.Run(ctx, caller, r.ID, cascade.Verb{
		Action: "floatingip.associate",
		Begin: func(tx *cascade.Tx, row *index.Resource) error {
			target = nil
			if c.Revision != nil && *c.Revision != row.Version {
				return &RevisionError{Wanted: *c.Revision, Current: row.Version}
			}
			columns(row, c.Fields)
			if port == "" {
				return s.point(tx, row, "", "", "")
			}
			spec := FloatingSpec{Fixed: fixed}
			to, err := s.target(tx, row.ID, row.ParentID, port, &spec)
			if err != nil {
				return err
			}
			if target, err = tx.Load(to); err != nil {
				return err
			}
			if target.Site != "" && target.Site != row.Site {
				return fault.New(fault.Conflict, "cascade/network", "Floating IP %s is at site %s, but port %s is at site %s. Both must be at one site.", row.ID, row.Site, to, target.Site)
			}
			return s.point(tx, row, to, spec.Router, spec.Fixed)
		},
		Call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Reply, error) {
			body := sites.Body{"port_id": nil}
			if target != nil {
				p, err := s.reach(ctx, at, target)
				if err != nil {
					return sites.Reply{}, err
				}
				body["port_id"] = p
				if fixed != "" {
					body["fixed_ip_address"] = fixed
				}
			}
			return at.Adaptor.Do(ctx, sites.Request{
				Service: sites.NetworkSvc, Method: http.MethodPut, Path: "floatingips/" + string(bottom), Body: sites.Body{"floatingip": body},
			})
		},
		Undo: func(tx *cascade.Tx, row *index.Resource) error {
			old, err := SpecOf[FloatingSpec](&before)
			if err != nil {
				return err
			}
			return s.point(tx, row, before.DeviceID, old.Router, old.Fixed)
		},
	})
	if err != nil {
		return nil, err
	}
	b, err := s.core.Bindings.Get(ctx, r.ID, r.Site)
	if err != nil || !b.Known() {
		return nil, err
	}
	return s.core.Refresh(ctx, r, r.Site, b.BottomID)
}

// reach has the port, and the leg of the router that a floating IP needs, made at the site.
func (s *Service) reach(ctx context.Context, at cascade.At, port *index.Resource) (ident.BottomID, error) {
	legs, err := s.core.Index.List(ctx, index.Query{Kind: sites.Port, AllProjects: true, In: map[index.Field][]string{index.ByParent: {string(port.ParentID)}}, Match: func(p *index.Resource) bool {
		spec, err := SpecOf[PortSpec](p)
		return err == nil && isRouterPort(spec.DeviceOwner)
	}})
	if err != nil {
		return "", err
	}
	for _, l := range legs {
		if _, err := s.ensureNow(ctx, at.Site, l.ID); err != nil {
			return "", err
		}
	}
	return s.ensureNow(ctx, at.Site, port.ID)
}

// point writes where a floating IP leads to; with empty arguments to nowhere.
func (s *Service) point(tx *cascade.Tx, r *index.Resource, port, router ident.TopID, fixed string) error {
	spec, err := SpecOf[FloatingSpec](r)
	if err != nil {
		return err
	}
	spec.Router, spec.Fixed, r.DeviceID = router, fixed, port
	if err := r.Encode(spec); err != nil {
		return err
	}
	for role, id := range map[string]ident.TopID{"port": port, "router": router} {
		var to []ident.TopID
		if id != "" {
			to = []ident.TopID{id}
		}
		if err := s.core.Index.SetRefs(tx.Tx, r.ID, role, to...); err != nil {
			return err
		}
	}
	return nil
}

// disassociate is for a port that ends: its site takes the floating IP from it by itself.
func (s *Service) disassociate(tx *cascade.Tx, f *index.Resource) error {
	if f.State == index.Deleting {
		return nil
	}
	if err := s.point(tx, f, "", "", ""); err != nil {
		return err
	}
	f.Status = "DOWN"
	return tx.Save(f)
}

// DeleteFloatingIP ends a floating IP.
func (s *Service) DeleteFloatingIP(ctx context.Context, caller sites.Caller, c Change) error {
	return s.core.Commit(ctx, caller, "floatingip.delete", func(tx *cascade.Tx) error {
		r, err := changing(tx, sites.FloatingIP, c)
		if err != nil {
			return err
		}
		return tx.Delete(r)
	})
}

// floatingMaker makes floating IPs at sites.
type floatingMaker struct{ *Service }

// Needs returns the network, the port and the leg that leads to it.
func (m floatingMaker) Needs(ctx context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	needs := []ident.TopID{r.ParentID}
	if r.DeviceID == "" {
		return needs, nil
	}
	port, err := m.core.Index.Get(ctx, r.DeviceID)
	if err != nil {
		return nil, err
	}
	spec, err := SpecOf[FloatingSpec](r)
	if err != nil {
		return nil, err
	}
	legs, err := m.core.Index.List(ctx, index.Query{Kind: sites.Port, AllProjects: true, In: map[index.Field][]string{
		index.ByDevice: {string(spec.Router)}, index.ByParent: {string(port.ParentID)},
	}})
	if err != nil {
		return nil, err
	}
	for _, l := range legs {
		needs = append(needs, l.ID)
	}
	return append(needs, port.ID), nil
}

// Body is the floating IP as the site takes it.
func (floatingMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	spec, err := SpecOf[FloatingSpec](r)
	if err != nil {
		return nil, err
	}
	network, err := at.Bottom(ctx, r.ParentID)
	if err != nil {
		return nil, err
	}
	body := sites.Body{"floating_network_id": network}
	if spec.Address != "" {
		body["floating_ip_address"] = spec.Address
	}
	if spec.Subnet != "" {
		if body["subnet_id"], err = at.Bottom(ctx, spec.Subnet); err != nil {
			return nil, err
		}
	}
	if r.DeviceID != "" {
		if body["port_id"], err = at.Bottom(ctx, r.DeviceID); err != nil {
			return nil, err
		}
		body["fixed_ip_address"] = spec.Fixed
	}
	return withExtra(body, spec.Extra), nil
}

// Change changes nothing: all that a recorded update can change of a floating IP is Top's own.
func (floatingMaker) Change(context.Context, *index.Resource, cascade.At, ident.BottomID) error {
	return nil
}

// Observe takes the status and the address that the site gave.
func (floatingMaker) Observe(_ context.Context, r *index.Resource, _ cascade.At, obj sites.Object) error {
	spec, err := SpecOf[FloatingSpec](r)
	if err != nil {
		return err
	}
	observe(r, obj)
	if ip := obj.Text("floating_ip_address"); ip != "" {
		spec.Address = ip
	}
	for _, k := range []string{"floating_ip_address", "fixed_ip_address"} {
		delete(r.Observed, k)
	}
	return r.Encode(spec)
}

// Arrived has it made.
func (floatingMaker) Arrived(tx *cascade.Tx, r *index.Resource) error { return arrive(tx, r) }

// Usage is the quota.
func (floatingMaker) Usage(*index.Resource) map[string]int64 {
	return map[string]int64{"floatingip": 1}
}
