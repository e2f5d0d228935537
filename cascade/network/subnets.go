package network

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// CreateSubnets records subnets, all or none.
func (s *Service) CreateSubnets(ctx context.Context, caller sites.Caller, list []Fields) ([]*index.Resource, error) {
	var rows []*index.Resource
	err := s.core.Commit(ctx, caller, "subnet.create", func(tx *cascade.Tx) error {
		rows = nil
		for _, f := range list {
			r, err := s.insertSubnet(tx, f)
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	return rows, err
}

func (s *Service) insertSubnet(tx *cascade.Tx, f Fields) (*index.Resource, error) {
	id, _ := f["network_id"].(string)
	network, err := own(tx, sites.Network, id)
	if err != nil {
		return nil, err
	}
	spec, err := newSubnetSpec(f)
	if err != nil {
		return nil, err
	}
	siblings, err := s.living(tx, network.ID, sites.Subnet)
	if err != nil {
		return nil, err
	}
	for _, other := range siblings {
		o, err := SpecOf[SubnetSpec](other)
		if err != nil {
			return nil, err
		}
		if o.Prefix().Overlaps(spec.Prefix()) {
			return nil, invalid("Requested subnet with cidr: %s for network: %s overlaps with another subnet", spec.CIDR, network.ID)
		}
	}
	r := newRow(sites.Subnet, tx.Caller, f)
	r.ProjectID, r.ParentID = network.ProjectID, network.ID
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	r.Visibility = network.Visibility
	if err := tx.Insert(r, index.Ref{To: network.ID, Role: "network"}); err != nil {
		return nil, err
	}
	if r.Visibility == index.ForAll {
		if err := s.core.Index.SetForAll(tx.Tx, r, true); err != nil {
			return nil, err
		}
	}
	slice := s.slice
	if spec.Auto() {
		slice = 0 // a site's own ports there give themselves their addresses too
	}
	err = s.ipam.AddSubnet(tx.Tx, ipam.Subnet{ID: r.ID, Network: network.ID, CIDR: spec.Prefix(), Pools: ranges(spec.Pools), Slice: slice})
	if err != nil {
		return nil, err
	}
	if spec.Auto() {
		if err := s.addAuto(tx, network, r, &spec); err != nil {
			return nil, err
		}
	}
	return place(tx, r, network)
}

// addAuto gives each host port of the network its address in a subnet where hosts give themselves theirs, as Neutron does.
func (s *Service) addAuto(tx *cascade.Tx, network, subnet *index.Resource, spec *SubnetSpec) error {
	ports, err := s.living(tx, network.ID, sites.Port)
	if err != nil {
		return err
	}
	for _, p := range ports {
		ps, err := SpecOf[PortSpec](p)
		if err != nil {
			return err
		}
		if isRouterPort(ps.DeviceOwner) {
			continue
		}
		ip, err := s.autoAddress(tx, p.ID, subnet.ID, spec, ps.MAC)
		if err != nil {
			return err
		}
		ps.FixedIPs = append(ps.FixedIPs, FixedIP{Subnet: subnet.ID, IP: ip})
		if err := p.Encode(ps); err != nil {
			return err
		}
		if err := s.core.Index.AddRefs(tx.Tx, index.Ref{From: p.ID, To: subnet.ID, Role: "subnet"}); err != nil {
			return err
		}
		if err := tx.Changed(p); err != nil {
			return err
		}
	}
	return nil
}

// newSubnetSpec reads a create request and completes it as Neutron would.
func newSubnetSpec(f Fields) (SubnetSpec, error) {
	spec := SubnetSpec{DHCP: true}
	if err := overlay(&spec, f); err != nil {
		return spec, err
	}
	prefix, err := netip.ParsePrefix(spec.CIDR)
	switch {
	case err != nil:
		return spec, invalid("%s is not in a CIDR format", spec.CIDR)
	case prefix.Masked() != prefix:
		return spec, typed(fault.BadRequest, "HTTPBadRequest", "Invalid input for cidr. Reason: '%s' isn't a recognized IP subnet cidr, '%s' is recommended.", spec.CIDR, prefix.Masked())
	case prefix.Bits() == 0:
		return spec, invalid("0 is not allowed as CIDR prefix length")
	case spec.IPVersion == 0:
		return spec, badRequest("Failed to parse request. Required attribute 'ip_version' not specified")
	case prefix.Addr().Is4() != (spec.IPVersion == 4):
		return spec, invalid("cidr %s does not match the ip_version %d", spec.CIDR, spec.IPVersion)
	case prefix.Addr().IsMulticast():
		return spec, invalid("Multicast IP subnet is not supported if enable_dhcp is True")
	}
	spec.CIDR = prefix.String()
	if err := checkModes(&spec, prefix); err != nil {
		return spec, err
	}
	if _, named := f["gateway_ip"]; !named {
		first := prefix.Addr().Next().String()
		if prefix.IsSingleIP() {
			first = prefix.Addr().String()
		}
		spec.Gateway = &first
	}
	if _, named := f["allocation_pools"]; !named || spec.Pools == nil {
		spec.Pools = poolSpecs(ipam.Pools(prefix, gatewayOf(&spec)))
	}
	return spec, checkSubnet(&spec)
}

// checkModes are Neutron's rules on IPv6 (db_base_plugin_v2._validate_ipv6_attributes).
func checkModes(spec *SubnetSpec, prefix netip.Prefix) error {
	ra, mode := spec.RAMode, spec.AddressMode
	switch {
	case ra == nil && mode == nil:
		return nil
	case spec.IPVersion == 4:
		return invalid("ipv6_address_mode or ipv6_ra_mode cannot be set when ip_version is 4")
	case !spec.DHCP:
		return invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
	case ra != nil && mode != nil && *ra != *mode:
		return invalid("ipv6_ra_mode set to '%s' with ipv6_address_mode set to '%s' is not valid. If both attributes are set, they must be the same value", *ra, *mode)
	case spec.Auto() && prefix.Bits() != 64:
		return invalid("Invalid CIDR %s for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64", spec.CIDR)
	}
	return nil
}

// checkSubnet checks what a create and an update can set.
func checkSubnet(spec *SubnetSpec) error {
	prefix := spec.Prefix()
	if err := checkPools(spec, prefix); err != nil {
		return err
	}
	if gw := gatewayOf(spec); gw.IsValid() {
		first, last := ipam.Ends(prefix)
		if gw.Is4() != prefix.Addr().Is4() {
			return invalid("gateway_ip %s does not match the ip_version %d", gw, spec.IPVersion)
		}
		if gw.Is4() && prefix.Bits() < 31 && (gw == first || gw == last) {
			return invalid("Gateway is not valid on subnet")
		}
		for _, p := range spec.Pools {
			if (ipam.Range{First: p.Start, Last: p.End}).Contains(gw) {
				return conflict("GatewayConflictWithAllocationPools", "Gateway ip %s conflicts with allocation pool %s-%s.", gw, p.Start, p.End)
			}
		}
	}
	for _, r := range spec.HostRoutes {
		if _, err := netip.ParsePrefix(r.Destination); err != nil {
			return invalid("Invalid route %s: the destination is not a CIDR", r.Destination)
		}
		hop, err := netip.ParseAddr(r.NextHop)
		if err != nil || hop.Is4() != prefix.Addr().Is4() {
			return invalid("Invalid route %s: the nexthop %s is not an address of IPv%d", r.Destination, r.NextHop, spec.IPVersion)
		}
	}
	return nil
}

func checkPools(spec *SubnetSpec, prefix netip.Prefix) error {
	first, last := ipam.Ends(prefix)
	if prefix.Addr().Is4() && prefix.Bits() < 31 {
		first, last = first.Next(), last.Prev()
	}
	for i, p := range spec.Pools {
		text := fmt.Sprintf("%s-%s", p.Start, p.End)
		switch {
		case !p.Start.IsValid() || !p.End.IsValid() || p.Start.BitLen() != p.End.BitLen() || p.End.Less(p.Start):
			return typed(fault.BadRequest, "InvalidAllocationPool", "The allocation pool %s is not valid.", text)
		case p.Start.Is4() != first.Is4() || p.Start.Less(first) || last.Less(p.End):
			return typed(fault.BadRequest, "OutOfBoundsAllocationPool", "The allocation pool %s spans beyond the subnet cidr %s.", text, spec.CIDR)
		}
		for _, o := range spec.Pools[:i] {
			if (ipam.Range{First: p.Start, Last: p.End}).Overlaps(ipam.Range{First: o.Start, Last: o.End}) {
				return conflict("OverlappingAllocationPools", "Found overlapping allocation pools: %s-%s %s for subnet %s.", o.Start, o.End, text, spec.CIDR)
			}
		}
	}
	return nil
}

func gatewayOf(spec *SubnetSpec) netip.Addr {
	if spec.Gateway == nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(*spec.Gateway)
	if err != nil {
		return netip.Addr{}
	}
	return a
}

func ranges(pools []PoolSpec) []ipam.Range {
	out := make([]ipam.Range, len(pools))
	for i, p := range pools {
		out[i] = ipam.Range{First: p.Start, Last: p.End}
	}
	return out
}

func poolSpecs(list []ipam.Range) []PoolSpec {
	out := make([]PoolSpec, len(list))
	for i, r := range list {
		out[i] = PoolSpec{r.First, r.Last}
	}
	return out
}

// UpdateSubnet changes a subnet.
func (s *Service) UpdateSubnet(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	return s.update(ctx, caller, "subnet.update", sites.Subnet, c, func(tx *cascade.Tx, r *index.Resource) error {
		spec, err := SpecOf[SubnetSpec](r)
		if err != nil {
			return err
		}
		before := gatewayOf(&spec)
		if err := overlay(&spec, c.Fields); err != nil {
			return err
		}
		if err := checkSubnet(&spec); err != nil {
			return err
		}
		if gw := gatewayOf(&spec); gw != before && before.IsValid() {
			owners, err := s.ipam.OwnersOf(tx.Tx, r.ID)
			if err != nil {
				return err
			}
			if port, used := owners[before]; used {
				return conflict("GatewayIpInUse", "Current gateway ip %s already in use by port %s. Unable to update.", before, port)
			}
		}
		if _, ok := c.Fields["allocation_pools"]; ok {
			if err := s.ipam.SetPools(tx.Tx, r.ID, ranges(spec.Pools)); err != nil {
				return err
			}
		}
		return r.Encode(spec)
	})
}

// DeleteSubnet ends a subnet; SubnetInUse while a port has an address of it that it did not give itself.
func (s *Service) DeleteSubnet(ctx context.Context, caller sites.Caller, c Change) error {
	return s.core.Commit(ctx, caller, "subnet.delete", func(tx *cascade.Tx) error {
		r, err := changing(tx, sites.Subnet, c)
		if err != nil {
			return err
		}
		spec, err := SpecOf[SubnetSpec](r)
		if err != nil {
			return err
		}
		users, err := s.core.Index.UsedByIn(tx.Tx, r.ID, "subnet")
		if err != nil {
			return err
		}
		for _, u := range users {
			p, err := tx.Load(u.From)
			if err != nil {
				return err
			}
			if p.State == index.Deleting || p.State == index.Deleted {
				continue
			}
			if err := s.leaveSubnet(tx, p, r, &spec); err != nil {
				return err
			}
		}
		return tx.Delete(r)
	})
}

// leaveSubnet takes a port's own address in an automatic subnet away; SubnetInUse for every other one.
func (s *Service) leaveSubnet(tx *cascade.Tx, p, subnet *index.Resource, spec *SubnetSpec) error {
	ps, err := SpecOf[PortSpec](p)
	if err != nil {
		return err
	}
	if !spec.Auto() || isRouterPort(ps.DeviceOwner) {
		return conflict("SubnetInUse", "Unable to complete operation on subnet %s: One or more ports have an IP allocation from this subnet.", subnet.ID)
	}
	var kept []FixedIP
	for _, ip := range ps.FixedIPs {
		if ip.Subnet != subnet.ID {
			kept = append(kept, ip)
		}
	}
	ps.FixedIPs = kept
	if err := p.Encode(ps); err != nil {
		return err
	}
	if err := s.core.Index.SetRefs(tx.Tx, p.ID, "subnet", subnetsOf(kept)...); err != nil {
		return err
	}
	return tx.Changed(p)
}

// subnetMaker makes subnets at sites.
type subnetMaker struct{ *Service }

// Needs returns the network.
func (subnetMaker) Needs(_ context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	return []ident.TopID{r.ParentID}, nil
}

// Body is the subnet as the site takes it: the same addresses, but a pool of the site's own slice only (crosssite/README.md: Slices).
func (m subnetMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	spec, err := SpecOf[SubnetSpec](r)
	if err != nil {
		return nil, err
	}
	network, err := at.Bottom(ctx, r.ParentID)
	if err != nil {
		return nil, err
	}
	body := changeable(r, &spec)
	body["network_id"], body["cidr"], body["ip_version"] = network, spec.CIDR, spec.IPVersion
	if spec.RAMode != nil {
		body["ipv6_ra_mode"] = *spec.RAMode
	}
	if spec.AddressMode != nil {
		body["ipv6_address_mode"] = *spec.AddressMode
	}
	if spec.Auto() {
		return withExtra(body, spec.Extra), nil
	}
	slice, err := m.ipam.Slice(ctx, r.ID, at.Site, m.slice)
	if err != nil {
		return nil, err
	}
	body["allocation_pools"] = poolSpecs(slice)
	return withExtra(body, spec.Extra), nil
}

func changeable(r *index.Resource, spec *SubnetSpec) sites.Body {
	body := sites.Body{
		"name": r.Name, "enable_dhcp": spec.DHCP, "gateway_ip": nil,
		"dns_nameservers": nonNil(spec.Nameservers), "host_routes": nonNil(spec.HostRoutes),
	}
	if spec.Gateway != nil {
		body["gateway_ip"] = *spec.Gateway
	}
	if len(spec.ServiceType) > 0 {
		body["service_types"] = spec.ServiceType
	}
	return body
}

// nonNil makes an empty list of none, so that it is [] in JSON.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Change sends what can be changed. The pool at the site is not the tenant's pool: it stays.
func (subnetMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	spec, err := SpecOf[SubnetSpec](r)
	if err != nil {
		return err
	}
	body := changeable(r, &spec)
	if seen, ok := r.Observed["gateway_ip"]; ok && seen == body["gateway_ip"] {
		delete(body, "gateway_ip") // Neutron refuses to set a gateway that is in use, also to what it is
	}
	_, err = at.Adaptor.Update(ctx, sites.Subnet, bottom, withExtra(body, spec.Extra))
	return err
}

// Remove waits for ports that are still going.
func (m subnetMaker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	return m.removePatiently(ctx, r, at, bottom)
}

// Observe takes what only the site knows.
func (subnetMaker) Observe(_ context.Context, r *index.Resource, _ cascade.At, obj sites.Object) error {
	observe(r, obj)
	return nil
}

// Arrived has it made.
func (subnetMaker) Arrived(tx *cascade.Tx, r *index.Resource) error { return arrive(tx, r) }

// End forgets the addresses.
func (m subnetMaker) End(tx *cascade.Tx, r *index.Resource) error {
	return m.ipam.RemoveSubnet(tx.Tx, r.ID)
}

// Usage is the quota.
func (subnetMaker) Usage(*index.Resource) map[string]int64 { return map[string]int64{"subnet": 1} }
