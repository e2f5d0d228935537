package network

import (
	"context"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Allocate records a port for a server, with an address and a MAC where the network is Top's. See compute.Ports.
func (s *Service) Allocate(tx *cascade.Tx, want compute.PortRequest) (*index.Resource, error) {
	r := index.New(sites.Port, tx.Caller, "")
	r.ProjectID, r.DeviceID, r.ParentID, r.Site = want.Project, want.Server, want.Network.ID, want.Site
	spec := PortSpec{AdminStateUp: true, PortSecurity: true, DeviceOwner: ownerCompute + want.Zone, Groups: want.Groups, SiteAllocated: want.Network.ProjectID == ""}
	ns, err := SpecOf[NetworkSpec](want.Network)
	if err != nil {
		return nil, err
	}
	if ns.External && !ns.Shared && !tx.Caller.Admin() {
		return nil, fault.New(fault.Forbidden, "cascade/network", "It is not allowed to create an interface on external network %s", want.Network.ID)
	}
	spec.PortSecurity = spec.SiteAllocated || ns.PortSecurity
	if want.FixedIP != "" && want.Network.ProjectID != want.Project && !tx.Caller.Admin() {
		return nil, fault.New(fault.Forbidden, "cascade/network", "It is not allowed to choose an address on network %s, which belongs to another project.", want.Network.ID)
	}
	if want.FixedIP != "" {
		spec.FixedIPs = []FixedIP{{IP: want.FixedIP}}
	}
	switch {
	case !spec.PortSecurity:
		spec.Groups = []ident.TopID{}
	case len(spec.Groups) == 0:
		g, err := s.DefaultGroup(tx, want.Project)
		if err != nil {
			return nil, err
		}
		spec.Groups = []ident.TopID{g.ID}
	}
	return s.addPort(tx, r, want.Network, &spec)
}

// Bind gives a tenant's own port to a server. See compute.Ports.
func (s *Service) Bind(tx *cascade.Tx, port *index.Resource, server ident.TopID, zone string) error {
	if port.DeviceID != "" && port.DeviceID != server {
		return conflict("PortInUse", "Port %s is still in use.", port.ID)
	}
	spec, err := SpecOf[PortSpec](port)
	if err != nil {
		return err
	}
	spec.DeviceOwner, port.DeviceID = ownerCompute+zone, server
	if err := port.Encode(spec); err != nil {
		return err
	}
	return tx.Save(port)
}

// Unbind takes a port from its server. See compute.Ports.
func (s *Service) Unbind(tx *cascade.Tx, port *index.Resource, own bool) error {
	if own {
		return s.deletePort(tx, port)
	}
	spec, err := SpecOf[PortSpec](port)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(spec.DeviceOwner, ownerCompute) {
		return nil
	}
	spec.DeviceOwner, port.DeviceID, port.Status = "", "", "DOWN"
	if err := port.Encode(spec); err != nil {
		return err
	}
	return tx.Save(port)
}

// Usable returns the networks that a server of the project may use without naming them: its own and, as Nova does it, those
// that are shared. See compute.Networks.
func (s *Service) Usable(ctx context.Context, caller sites.Caller) ([]*index.Resource, error) {
	elsewhere, err := s.Elsewhere(ctx, caller.Pin)
	if err != nil {
		return nil, err
	}
	return s.core.Index.List(ctx, index.Query{
		Kind: sites.Network, Project: caller.ProjectID, Shared: true, ForAll: true, Pin: caller.Pin, Sort: []index.Sort{{Field: index.ByCreated}},
		Match: func(r *index.Resource) bool {
			spec, err := SpecOf[NetworkSpec](r)
			return r.State == index.Live && err == nil && !elsewhere[r.ID] && (r.ProjectID == caller.ProjectID || spec.Shared)
		},
	})
}

// Interfaces returns the ports of servers, each with the floating IPs that lead to it. See compute.Networks.
func (s *Service) Interfaces(ctx context.Context, servers ...ident.TopID) (map[ident.TopID][]compute.Interface, error) {
	ports, err := s.ofDevices(ctx, sites.Port, servers)
	if err != nil {
		return nil, err
	}
	var portIDs, networks []ident.TopID
	for _, p := range ports {
		portIDs = append(portIDs, p.ID)
		if !slices.Contains(networks, p.ParentID) {
			networks = append(networks, p.ParentID)
		}
	}
	names, err := s.core.Index.Names(ctx, networks)
	if err != nil {
		return nil, err
	}
	floats, err := s.ofDevices(ctx, sites.FloatingIP, portIDs)
	if err != nil {
		return nil, err
	}
	leadsTo := map[string]string{}
	for _, f := range floats {
		spec, err := SpecOf[FloatingSpec](f)
		if err != nil {
			return nil, err
		}
		leadsTo[string(f.DeviceID)+" "+spec.Fixed] = spec.Address
	}
	out := map[ident.TopID][]compute.Interface{}
	for _, p := range ports {
		spec, err := SpecOf[PortSpec](p)
		if err != nil {
			return nil, err
		}
		one := compute.Interface{Port: p.ID, Network: p.ParentID, NetworkName: names[p.ParentID], MAC: spec.MAC, Status: p.Status, Groups: spec.Groups}
		for _, ip := range spec.FixedIPs {
			one.Fixed = append(one.Fixed, compute.FixedIP{Subnet: ip.Subnet, IP: ip.IP, Floating: leadsTo[string(p.ID)+" "+ip.IP]})
		}
		out[p.DeviceID] = append(out[p.DeviceID], one)
	}
	return out, nil
}

// ofDevices lists the rows that belong to devices, in order of creation, some hundreds of devices at a time.
func (s *Service) ofDevices(ctx context.Context, kind sites.Kind, devices []ident.TopID) ([]*index.Resource, error) {
	var out []*index.Resource
	for part := range slices.Chunk(devices, 500) { // stays below SQLite's limit on variables
		texts := make([]string, len(part))
		for i, id := range part {
			texts[i] = string(id)
		}
		rows, err := s.core.Index.List(ctx, index.Query{
			Kind: kind, AllProjects: true, In: map[index.Field][]string{index.ByDevice: texts}, Sort: []index.Sort{{Field: index.ByCreated}}, Bare: true,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// Regroup replaces the security groups of a port. See compute.Networks.
func (s *Service) Regroup(tx *cascade.Tx, port *index.Resource, groups []ident.TopID) error {
	spec, err := SpecOf[PortSpec](port)
	if err != nil {
		return err
	}
	if len(groups) > 0 && !spec.PortSecurity {
		return typed(fault.BadRequest, "PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled and port must have an IP address in order to use security groups.")
	}
	spec.Groups = groups
	if err := s.core.Index.SetRefs(tx.Tx, port.ID, "group", groups...); err != nil {
		return err
	}
	if err := port.Encode(spec); err != nil {
		return err
	}
	return tx.Changed(port)
}
