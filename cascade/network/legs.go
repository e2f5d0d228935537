package network

import (
	"context"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A router's leg is a port whose device is the router.

// Leg is what add_router_interface and remove_router_interface answer.
type Leg struct {
	Router  *index.Resource
	Port    ident.TopID
	Network ident.TopID
	Subnets []ident.TopID
}

type leg struct {
	row     *index.Resource
	spec    PortSpec
	subnets []subnet
}

func (s *Service) legs(tx *cascade.Tx, router ident.TopID) ([]leg, error) {
	ports, err := s.core.Index.OfDevice(tx.Tx, router, string(sites.Port))
	if err != nil {
		return nil, err
	}
	var out []leg
	for _, p := range ports {
		if p.State == index.Deleting {
			continue
		}
		l := leg{row: p}
		if l.spec, err = SpecOf[PortSpec](p); err != nil {
			return nil, err
		}
		if !isRouterPort(l.spec.DeviceOwner) {
			continue
		}
		for _, id := range subnetsOf(l.spec.FixedIPs) {
			row, err := tx.Load(id)
			if err != nil {
				return nil, err
			}
			spec, err := SpecOf[SubnetSpec](row)
			if err != nil {
				return nil, err
			}
			l.subnets = append(l.subnets, subnet{row, spec})
		}
		out = append(out, l)
	}
	return out, nil
}

// AddLeg puts a router into a subnet, at the subnet's gateway address, or gives
// it a port. What is placed of the two places the other; when both are, it must be at one site.
func (s *Service) AddLeg(ctx context.Context, caller sites.Caller, router string, f Fields) (*Leg, error) {
	port, byPort := f["port_id"].(string)
	id, bySubnet := f["subnet_id"].(string)
	if byPort == bySubnet {
		return nil, badRequest("Bad router request: %s.", map[bool]string{true: "Cannot specify both subnet-id and port-id", false: "Either subnet_id or port_id must be specified"}[byPort])
	}
	var made *Leg
	err := s.core.Commit(ctx, caller, "router.add_interface", func(tx *cascade.Tx) error {
		r, err := own(tx, sites.Router, router)
		if err != nil {
			return err
		}
		var p *index.Resource
		if byPort {
			p, err = s.legOfPort(tx, r, port)
		} else {
			p, err = s.legInSubnet(tx, r, id)
		}
		if err != nil {
			return err
		}
		if err := s.joinSites(tx, r, p); err != nil {
			return err
		}
		made, err = legOf(r, p)
		return err
	})
	return made, err
}

func legOf(router, port *index.Resource) (*Leg, error) {
	spec, err := SpecOf[PortSpec](port)
	return &Leg{Router: router, Port: port.ID, Network: port.ParentID, Subnets: subnetsOf(spec.FixedIPs)}, err
}

// joinSites places what became connected.
func (s *Service) joinSites(tx *cascade.Tx, router, port *index.Resource) error {
	for _, id := range []ident.TopID{router.ID, port.ParentID} {
		row, err := tx.Load(id)
		if err != nil {
			return err
		}
		if row.Site != "" {
			return tx.Place(row.Site, router.ID, port.ParentID, port.ID)
		}
	}
	return nil
}

// noOverlap refuses a subnet that overlaps one the router is in already.
func (s *Service) noOverlap(tx *cascade.Tx, router ident.TopID, n *subnet) error {
	legs, err := s.legs(tx, router)
	if err != nil {
		return err
	}
	for _, l := range legs {
		for _, o := range l.subnets {
			if o.row.ID == n.row.ID {
				return badRequest("Bad router request: Router already has a port on subnet %s.", n.row.ID)
			}
			if o.spec.Prefix().Overlaps(n.spec.Prefix()) {
				return badRequest("Bad router request: Cidr %s of subnet %s overlaps with cidr %s of subnet %s.", n.spec.CIDR, n.row.ID, o.spec.CIDR, o.row.ID)
			}
		}
	}
	return nil
}

func (s *Service) legInSubnet(tx *cascade.Tx, router *index.Resource, id string) (*index.Resource, error) {
	row, err := find(tx, sites.Subnet, id)
	if err != nil {
		return nil, err
	}
	if row.ProjectID != tx.Caller.ProjectID && !tx.Caller.Admin() {
		return nil, badRequest("Bad router request: Cannot add interface to router because subnet %s is not owned by project making the request.", row.ID)
	}
	if row, err = own(tx, sites.Subnet, id); err != nil {
		return nil, err
	}
	spec, err := SpecOf[SubnetSpec](row)
	if err != nil {
		return nil, err
	}
	if spec.Gateway == nil {
		return nil, badRequest("Bad router request: Subnet for router interface must have a gateway IP.")
	}
	if err := s.noOverlap(tx, router.ID, &subnet{row, spec}); err != nil {
		return nil, err
	}
	network, err := tx.Load(row.ParentID)
	if err != nil {
		return nil, err
	}
	p := index.New(sites.Port, tx.Caller, "")
	p.ProjectID, p.State, p.DeviceID, p.ParentID = router.ProjectID, index.Live, router.ID, network.ID
	ps := PortSpec{
		AdminStateUp: true, DeviceOwner: ownerInterface, Groups: []ident.TopID{}, PortSecurity: true,
		FixedIPs: []FixedIP{{Subnet: row.ID, IP: *spec.Gateway}},
	}
	return s.addLegPort(tx, p, network, &ps)
}

// addLegPort is addPort for a leg, whose device connects it to the router as well.
func (s *Service) addLegPort(tx *cascade.Tx, p, network *index.Resource, ps *PortSpec) (*index.Resource, error) {
	p.Status = "DOWN"
	if err := s.allocate(tx, p.ID, network, ps); err != nil {
		return nil, err
	}
	if err := p.Encode(ps); err != nil {
		return nil, err
	}
	refs := []index.Ref{{To: network.ID, Role: "network"}, {To: p.DeviceID, Role: "router"}}
	for _, id := range subnetsOf(ps.FixedIPs) {
		refs = append(refs, index.Ref{To: id, Role: "subnet"})
	}
	return p, tx.Insert(p, refs...)
}

// legOfPort gives a tenant's port to a router; where it is at a site already, the change is pushed there.
func (s *Service) legOfPort(tx *cascade.Tx, router *index.Resource, id string) (*index.Resource, error) {
	p, err := own(tx, sites.Port, id)
	if err != nil {
		return nil, err
	}
	if p.DeviceID != "" {
		return nil, conflict("PortInUse", "Unable to complete operation on port %s for network %s. Port already has an attached device %s.", p.ID, p.ParentID, p.DeviceID)
	}
	spec, err := SpecOf[PortSpec](p)
	if err != nil {
		return nil, err
	}
	if len(spec.FixedIPs) == 0 {
		return nil, badRequest("Bad router request: Router port must have at least one fixed IP.")
	}
	for _, sub := range subnetsOf(spec.FixedIPs) {
		row, err := tx.Load(sub)
		if err != nil {
			return nil, err
		}
		n, err := SpecOf[SubnetSpec](row)
		if err != nil {
			return nil, err
		}
		if err := s.noOverlap(tx, router.ID, &subnet{row, n}); err != nil {
			return nil, err
		}
	}
	spec.DeviceOwner, spec.Groups, p.DeviceID = ownerInterface, []ident.TopID{}, router.ID
	if err := s.core.Index.SetRefs(tx.Tx, p.ID, "group"); err != nil {
		return nil, err
	}
	if err := s.core.Index.AddRefs(tx.Tx, index.Ref{From: p.ID, To: router.ID, Role: "router"}); err != nil {
		return nil, err
	}
	if err := p.Encode(spec); err != nil {
		return nil, err
	}
	return p, tx.Changed(p)
}

// RemoveLeg takes a router out of a subnet; RouterInterfaceInUseByFloatingIP while an address there has a floating IP through it.
func (s *Service) RemoveLeg(ctx context.Context, caller sites.Caller, router string, f Fields) (*Leg, error) {
	port, _ := f["port_id"].(string)
	sub, _ := f["subnet_id"].(string)
	if port == "" && sub == "" {
		return nil, badRequest("Either subnet_id or port_id must be specified")
	}
	var gone *Leg
	err := s.core.Commit(ctx, caller, "router.remove_interface", func(tx *cascade.Tx) error {
		r, err := own(tx, sites.Router, router)
		if err != nil {
			return err
		}
		l, err := s.findLeg(tx, r, port, sub)
		if err != nil {
			return err
		}
		if err := s.legFree(tx, r, l); err != nil {
			return err
		}
		if gone, err = legOf(r, l.row); err != nil {
			return err
		}
		return tx.Delete(l.row)
	})
	return gone, err
}

func (s *Service) findLeg(tx *cascade.Tx, router *index.Resource, port, sub string) (*leg, error) {
	if port != "" {
		p, err := find(tx, sites.Port, port)
		if err != nil {
			return nil, err
		}
		port = string(p.ID)
	}
	if sub != "" {
		n, err := find(tx, sites.Subnet, sub)
		if err != nil {
			return nil, err
		}
		sub = string(n.ID)
	}
	legs, err := s.legs(tx, router.ID)
	if err != nil {
		return nil, err
	}
	for i := range legs {
		l := &legs[i]
		if port != "" && string(l.row.ID) != port {
			continue
		}
		for _, n := range l.subnets {
			if sub == "" || string(n.row.ID) == sub {
				return l, nil
			}
		}
	}
	if port != "" {
		return nil, typed(fault.NotFound, "RouterInterfaceNotFound", "Router %s does not have an interface with id %s", router.ID, port)
	}
	return nil, typed(fault.NotFound, "RouterInterfaceNotFoundForSubnet", "Router %s has no interface on subnet %s", router.ID, sub)
}

// legFree refuses to take a leg that floating IPs lead through, or that extra routes need.
func (s *Service) legFree(tx *cascade.Tx, router *index.Resource, l *leg) error {
	refs, err := s.core.Index.UsedByIn(tx.Tx, router.ID, "router")
	if err != nil {
		return err
	}
	for _, ref := range refs {
		f, err := tx.Load(ref.From)
		if err != nil {
			return err
		}
		if f.Kind != sites.FloatingIP || f.State == index.Deleting || f.State == index.Deleted || f.DeviceID == "" {
			continue
		}
		p, err := tx.Load(f.DeviceID)
		if err != nil {
			return err
		}
		if p.ParentID == l.row.ParentID {
			return conflict("RouterInterfaceInUseByFloatingIP", "Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more floating IPs.", l.subnets[0].row.ID, router.ID)
		}
	}
	spec, err := SpecOf[RouterSpec](router)
	if err != nil {
		return err
	}
	for _, route := range spec.Routes {
		for _, n := range l.subnets {
			if sameNet(n, route.NextHop) {
				return conflict("RouterInterfaceInUseByRoute", "Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more routes.", n.row.ID, router.ID)
			}
		}
	}
	return nil
}

func sameNet(n subnet, hop string) bool {
	_, err := choose([]subnet{n}, FixedIP{IP: hop}, "")
	return err == nil
}
