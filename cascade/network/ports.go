package network

import (
	"context"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The device owners that Neutron gives.
const (
	ownerInterface = "network:router_interface"
	ownerCompute   = "compute:"
)

// ordinaryOwner tells the owners of devices that are not the network's own.
func ordinaryOwner(owner string) bool { return !strings.HasPrefix(owner, "network:") }

// isRouterPort reports whether a port is a router's leg, which does not take part in automatic addresses.
func isRouterPort(owner string) bool { return strings.HasPrefix(owner, "network:router_") }

// CreatePorts records ports, all or none, with their addresses and MACs. Those
// on a network whose addresses are a site's are made there before the answer.
func (s *Service) CreatePorts(ctx context.Context, caller sites.Caller, list []Fields) ([]*index.Resource, error) {
	chosen := make([]ident.SiteID, len(list))
	for i, f := range list {
		var err error
		if chosen[i], err = s.siteForPort(ctx, caller, f); err != nil {
			return nil, err
		}
	}
	var rows []*index.Resource
	err := s.core.Commit(ctx, caller, "port.create", func(tx *cascade.Tx) error {
		rows = nil
		for i, f := range list {
			r, err := s.insertPort(tx, f, chosen[i])
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, r := range rows {
		if chosen[i] == "" {
			continue
		}
		if rows[i], err = s.makeNow(ctx, caller, r); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// siteForPort returns the site at which a port on a network of the sites' is made; "" for one on a network of Top's.
func (s *Service) siteForPort(ctx context.Context, caller sites.Caller, f Fields) (ident.SiteID, error) {
	id, _ := f["network_id"].(string)
	network, err := s.Find(ctx, caller, sites.Network, id)
	if err != nil || network.ProjectID != "" {
		return "", err
	}
	return s.siteWith(ctx, caller, network, "", "")
}

func (s *Service) insertPort(tx *cascade.Tx, f Fields, site ident.SiteID) (*index.Resource, error) {
	id, _ := f["network_id"].(string)
	network, err := find(tx, sites.Network, id)
	if err != nil {
		return nil, err
	}
	ns, err := SpecOf[NetworkSpec](network)
	if err != nil {
		return nil, err
	}
	if ns.External && !ns.Shared && !tx.Caller.Admin() {
		return nil, typed(fault.Forbidden, "HTTPForbidden", "Tenant %s not allowed to create port on this network", tx.Caller.ProjectID)
	}
	r := newRow(sites.Port, tx.Caller, f)
	spec := PortSpec{AdminStateUp: true, PortSecurity: site != "" || ns.PortSecurity}
	if err := overlay(&spec, portFields(f)); err != nil {
		return nil, err
	}
	if spec.Groups, err = s.groupsFor(tx, r.ProjectID, f, &spec); err != nil {
		return nil, err
	}
	if err := s.deviceAllowed(tx, r, f); err != nil {
		return nil, err
	}
	device, _ := f["device_id"].(string)
	r.DeviceID, r.ParentID, r.Site = deviceID(tx, device), network.ID, site
	topSubnets(tx, spec.FixedIPs)
	if site != "" {
		r.State, spec.SiteAllocated = index.Creating, true
	}
	if r, err = s.addPort(tx, r, network, &spec); err != nil || site == "" {
		return r, err
	}
	return r, arrive(tx, r)
}

// portFields leaves out what is decoded by other means.
func portFields(f Fields) Fields {
	out := Fields{}
	for k, v := range f {
		if k != "security_groups" && !(v == nil && (k == "mac_address" || k == "fixed_ips")) {
			out[k] = v
		}
	}
	return out
}

// addPort gives a port its MAC and addresses, records it with its references, and has it made where its network is.
func (s *Service) addPort(tx *cascade.Tx, r, network *index.Resource, spec *PortSpec) (*index.Resource, error) {
	r.Status = "DOWN"
	if !spec.SiteAllocated {
		if err := s.allocate(tx, r.ID, network, spec); err != nil {
			return nil, err
		}
	}
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	refs := []index.Ref{{To: network.ID, Role: "network"}}
	for _, id := range subnetsOf(spec.FixedIPs) {
		refs = append(refs, index.Ref{To: id, Role: "subnet"})
	}
	for _, id := range spec.Groups {
		refs = append(refs, index.Ref{To: id, Role: "group"})
	}
	if err := tx.Insert(r, refs...); err != nil {
		return nil, err
	}
	if r.Site != "" {
		return r, nil
	}
	return place(tx, r, network)
}

func subnetsOf(list []FixedIP) []ident.TopID {
	var out []ident.TopID
	for _, ip := range list {
		if !slices.Contains(out, ip.Subnet) {
			out = append(out, ip.Subnet)
		}
	}
	return out
}

// groupsFor resolves the groups that a request names; without any it is the project's default, unless the port has no security at all.
func (s *Service) groupsFor(tx *cascade.Tx, project string, f Fields, spec *PortSpec) ([]ident.TopID, error) {
	named, given := f["security_groups"]
	if given && named != nil {
		groups, err := s.resolveGroups(tx, named)
		if err == nil && len(groups) > 0 && !spec.PortSecurity {
			err = typed(fault.BadRequest, "PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled and port must have an IP address in order to use security groups.")
		}
		return groups, err
	}
	if !spec.PortSecurity || strings.HasPrefix(spec.DeviceOwner, "network:") {
		return []ident.TopID{}, nil
	}
	group, err := s.DefaultGroup(tx, project)
	if err != nil {
		return nil, err
	}
	return []ident.TopID{group.ID}, nil
}

func (s *Service) resolveGroups(tx *cascade.Tx, named any) ([]ident.TopID, error) {
	list, _ := named.([]any)
	out := []ident.TopID{}
	for _, v := range list {
		id, _ := v.(string)
		g, err := find(tx, sites.SecurityGroup, id)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, g.ID) {
			out = append(out, g.ID)
		}
	}
	return out, nil
}

// UpdatePort changes a port. What its site alone decides on is carried out there before the answer.
func (s *Service) UpdatePort(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	rest, direct, err := s.splitPort(ctx, caller, c)
	if err != nil {
		return nil, err
	}
	var out *index.Resource
	if len(rest) > 0 || len(direct) == 0 {
		out, err = s.updatePort(ctx, caller, Change{ID: c.ID, Fields: rest, Revision: c.Revision})
		if err != nil || len(direct) == 0 {
			return out, err
		}
		c.Revision = nil // checked
	}
	return s.setDirect(ctx, caller, Change{ID: c.ID, Fields: direct, Revision: c.Revision})
}

func (s *Service) updatePort(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	return s.update(ctx, caller, "port.update", sites.Port, c, func(tx *cascade.Tx, r *index.Resource) error {
		spec, err := SpecOf[PortSpec](r)
		if err != nil {
			return err
		}
		before := spec.FixedIPs
		if err := overlay(&spec, portFields(c.Fields)); err != nil {
			return err
		}
		if err := s.deviceAllowed(tx, r, c.Fields); err != nil {
			return err
		}
		if err := s.changeDevice(tx, r, c.Fields); err != nil {
			return err
		}
		if err := s.changeMAC(tx, r, &spec, c.Fields); err != nil {
			return err
		}
		if named, given := c.Fields["security_groups"]; given {
			if spec.Groups, err = s.resolveGroups(tx, named); err != nil {
				return err
			}
		}
		if len(spec.Groups) > 0 && !spec.PortSecurity {
			return conflict("PortSecurityPortHasSecurityGroup", "Port has security group associated. Cannot disable port security or IP address until security group is removed.")
		}
		topSubnets(tx, spec.FixedIPs)
		if _, given := c.Fields["fixed_ips"]; given && !spec.SiteAllocated {
			if err := s.reallocate(tx, r, &spec, before); err != nil {
				return err
			}
		}
		if err := s.portRefs(tx, r.ID, &spec); err != nil {
			return err
		}
		return r.Encode(spec)
	})
}

// deviceAllowed refuses a device that is not the port's owner's, and the owners of routers' ports, which only Top gives: a
// tenant who could write them would join his port to another's router.
func (s *Service) deviceAllowed(tx *cascade.Tx, r *index.Resource, f Fields) error {
	denied := typed(fault.Forbidden, "PolicyNotAuthorized", "(rule:create_port and rule:create_port:device_owner) is disallowed by policy")
	if owner, _ := f["device_owner"].(string); isRouterPort(owner) {
		return denied
	}
	id, _ := f["device_id"].(string)
	if id == "" {
		return nil
	}
	device, err := tx.Load(ident.TopID(id))
	if err == nil && device.ProjectID != r.ProjectID {
		return denied
	}
	return ignore(err, fault.NotFound)
}

// changeDevice is for who writes device_id himself: not a device of Top's own.
func (s *Service) changeDevice(tx *cascade.Tx, r *index.Resource, f Fields) error {
	text, given := f["device_id"].(string)
	id := deviceID(tx, text)
	if !given || id == r.DeviceID {
		return nil
	}
	if r.DeviceID != "" {
		if old, err := tx.Load(r.DeviceID); err == nil && old.State != index.Deleted {
			return conflict("PortInUse", "Unable to complete operation on port %s for network %s. Port already has an attached device %s.", r.ID, r.ParentID, r.DeviceID)
		}
	}
	r.DeviceID = id
	return nil
}

// deviceID is the Top id of a device of the caller's that is named by a site's id (a guest knows no other); any other text stays.
func deviceID(tx *cascade.Tx, text string) ident.TopID {
	for _, kind := range []sites.Kind{sites.Server, sites.Router} {
		if text == "" {
			break
		}
		if r, err := tx.Find(kind, text); err == nil {
			return r.ID
		}
	}
	return ident.TopID(text)
}

// topSubnets writes Top ids over the sites' ids of subnets; what is no subnet of the caller's stays, to be refused by its name.
func topSubnets(tx *cascade.Tx, list []FixedIP) {
	for i, ip := range list {
		if ip.Subnet == "" {
			continue
		}
		if r, err := tx.Find(sites.Subnet, string(ip.Subnet)); err == nil {
			list[i].Subnet = r.ID
		}
	}
}

func (s *Service) changeMAC(tx *cascade.Tx, r *index.Resource, spec *PortSpec, f Fields) error {
	if mac, _ := f["mac_address"].(string); mac == "" || spec.SiteAllocated {
		return nil
	}
	if err := s.ipam.ReleaseMAC(tx.Tx, r.ID); err != nil {
		return err
	}
	return s.giveMAC(tx, r.ID, r.ParentID, spec)
}

func (s *Service) portRefs(tx *cascade.Tx, id ident.TopID, spec *PortSpec) error {
	if err := s.core.Index.SetRefs(tx.Tx, id, "subnet", subnetsOf(spec.FixedIPs)...); err != nil {
		return err
	}
	return s.core.Index.SetRefs(tx.Tx, id, "group", spec.Groups...)
}

// DeletePort ends a port; ServicePortInUse for a router's leg.
func (s *Service) DeletePort(ctx context.Context, caller sites.Caller, c Change) error {
	return s.core.Commit(ctx, caller, "port.delete", func(tx *cascade.Tx) error {
		r, err := changing(tx, sites.Port, c)
		if err != nil {
			return err
		}
		spec, err := SpecOf[PortSpec](r)
		if err != nil {
			return err
		}
		if isRouterPort(spec.DeviceOwner) {
			return conflict("ServicePortInUse", "Port %s cannot be deleted directly via the port API: has device owner %s.", r.ID, spec.DeviceOwner)
		}
		return s.deletePort(tx, r)
	})
}

// deletePort ends a port after taking its floating IPs from it, as Neutron does.
func (s *Service) deletePort(tx *cascade.Tx, r *index.Resource) error {
	floats, err := s.core.Index.OfDevice(tx.Tx, r.ID, string(sites.FloatingIP))
	if err != nil {
		return err
	}
	for _, f := range floats {
		if err := s.disassociate(tx, f); err != nil {
			return err
		}
	}
	return tx.Delete(r)
}
