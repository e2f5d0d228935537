package network

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// portMaker makes ports at sites. A router's leg is an ordinary port with the
// leg's address that is then given to the router: so it carries its marker from the start.
type portMaker struct{ *Service }

// Needs returns the network, the subnets, the groups and, for a leg, the router.
func (portMaker) Needs(_ context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	spec, err := SpecOf[PortSpec](r)
	if err != nil {
		return nil, err
	}
	needs := []ident.TopID{r.ParentID}
	if !spec.SiteAllocated {
		needs = append(needs, subnetsOf(spec.FixedIPs)...)
	}
	needs = append(needs, spec.Groups...)
	if spec.DeviceOwner == ownerInterface {
		needs = append(needs, r.DeviceID)
	}
	return needs, nil
}

// Body is the port as the site takes it.
func (m portMaker) Body(ctx context.Context, r *index.Resource, at cascade.At) (sites.Body, error) {
	spec, err := SpecOf[PortSpec](r)
	if err != nil {
		return nil, err
	}
	network, err := at.Bottom(ctx, r.ParentID)
	if err != nil {
		return nil, err
	}
	body, err := m.changeable(ctx, r, at, &spec)
	if err != nil {
		return nil, err
	}
	body["network_id"] = network
	if spec.MAC != "" { // of Top's giving, or what an administrator asked for of a site
		body["mac_address"] = spec.MAC
	}
	if spec.VNICType != "" && spec.VNICType != "normal" {
		body["binding:vnic_type"] = spec.VNICType
	}
	if len(spec.Profile) > 0 {
		body["binding:profile"] = spec.Profile
	}
	if spec.HostID != "" {
		body["binding:host_id"] = spec.HostID
	}
	if !spec.PortSecurity {
		body["port_security_enabled"] = false
	}
	// What the tenant says of a device that is not Top's; a server's and a router's owner is written by the site itself.
	if owner := spec.DeviceOwner; owner != "" && !isRouterPort(owner) && !strings.HasPrefix(owner, ownerCompute) {
		body["device_owner"] = owner
	}
	if spec.SiteAllocated && spec.FixedIPs != nil {
		if body["fixed_ips"], err = m.bottomFixed(ctx, at, &spec); err != nil {
			return nil, err
		}
	}
	if spec.SiteAllocated && len(spec.Pairs) > 0 {
		body["allowed_address_pairs"] = spec.Pairs
	}
	return withExtra(body, spec.Extra), nil
}

// changeable are the members that a create and an update have alike, with the groups' rules as they are to be.
func (m portMaker) changeable(ctx context.Context, r *index.Resource, at cascade.At, spec *PortSpec) (sites.Body, error) {
	groups := make([]ident.BottomID, len(spec.Groups))
	for i, id := range spec.Groups {
		var err error
		if groups[i], err = at.Bottom(ctx, id); err != nil {
			return nil, err
		}
		if err := m.ensureRules(ctx, id, at); err != nil {
			return nil, fmt.Errorf("rules of group %s: %w", id, err)
		}
	}
	body := sites.Body{"name": r.Name, "admin_state_up": spec.AdminStateUp, "security_groups": groups}
	if len(spec.DHCPOptions) > 0 {
		body["extra_dhcp_opts"] = spec.DHCPOptions
	}
	if spec.DNSName != "" {
		body["dns_name"] = spec.DNSName
	}
	if spec.SiteAllocated { // the rest is set at once (setDirect)
		return body, nil
	}
	fixed, err := m.bottomFixed(ctx, at, spec)
	if err != nil {
		return nil, err
	}
	body["fixed_ips"] = fixed
	if len(spec.Pairs) > 0 {
		body["allowed_address_pairs"] = spec.Pairs
	}
	return body, nil
}

// bottomFixed translates the addresses. In an automatic subnet only the subnet is named: the site computes the same address from the MAC.
func (m portMaker) bottomFixed(ctx context.Context, at cascade.At, spec *PortSpec) ([]sites.Body, error) {
	rows, err := m.core.Index.GetAll(ctx, subnetsOf(spec.FixedIPs))
	if err != nil {
		return nil, err
	}
	out := make([]sites.Body, 0, len(spec.FixedIPs))
	for _, ip := range spec.FixedIPs {
		if ip.Subnet == "" { // the site knows in which of its subnets the address is
			out = append(out, sites.Body{"ip_address": ip.IP})
			continue
		}
		id, err := at.Bottom(ctx, ip.Subnet)
		if err != nil {
			return nil, err
		}
		one := sites.Body{"subnet_id": id}
		auto := false
		if row := rows[ip.Subnet]; row != nil {
			n, err := SpecOf[SubnetSpec](row)
			if err != nil {
				return nil, err
			}
			auto = n.Auto()
		}
		if (!auto || isRouterPort(spec.DeviceOwner)) && ip.IP != "" {
			one["ip_address"] = ip.IP
		}
		out = append(out, one)
	}
	return out, nil
}

// Finish gives a leg to its router, and counts the port as made.
func (m portMaker) Finish(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	spec, err := SpecOf[PortSpec](r)
	if err != nil {
		return err
	}
	if spec.DeviceOwner == ownerInterface {
		if err := m.attach(ctx, r, at, bottom); err != nil {
			return err
		}
	}
	if r.State != index.Creating {
		return nil
	}
	if spec.SiteAllocated {
		_, err := m.core.Refresh(ctx, r, at.Site, bottom) // its address
		return err
	}
	return m.core.Internal(ctx, func(tx *cascade.Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil || row.State != index.Creating {
			return err
		}
		row.State = index.Live // so that changes are pushed from now on, before it is first looked at
		return tx.Save(row)
	})
}

func (m portMaker) attach(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	router, err := at.Bottom(ctx, r.DeviceID)
	if err != nil {
		return err
	}
	_, err = at.Adaptor.Do(ctx, sites.Request{
		Service: sites.NetworkSvc, Method: http.MethodPut, Path: "routers/" + string(router) + "/add_router_interface",
		Body: sites.Body{"port_id": bottom},
	})
	if err != nil {
		obj, lookErr := at.Adaptor.Show(ctx, sites.Port, bottom)
		if lookErr != nil || obj.Text("device_id") != string(router) {
			return err
		}
	}
	row, err := m.core.Index.Get(ctx, r.DeviceID)
	if err != nil {
		return err
	}
	return routerMaker(m).pushRoutes(ctx, row, at, router)
}

// Change sends what can be changed, then frees the addresses that the port no longer has anywhere.
func (m portMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	spec, err := SpecOf[PortSpec](r)
	if err != nil {
		return err
	}
	body, err := m.changeable(ctx, r, at, &spec)
	if err != nil {
		return err
	}
	if !spec.SiteAllocated {
		body["allowed_address_pairs"], body["extra_dhcp_opts"] = nonNil(spec.Pairs), nonNil(spec.DHCPOptions)
		if len(spec.DHCPOptions) == 0 {
			delete(body, "extra_dhcp_opts")
		}
	}
	if seen, ok := r.Observed["port_security_enabled"].(bool); ok && seen != spec.PortSecurity && !spec.SiteAllocated {
		body["port_security_enabled"] = spec.PortSecurity
	}
	if spec.DeviceOwner == ownerInterface {
		return m.changeLeg(ctx, r, at, bottom, body)
	}
	what, err := m.privileged(ctx, r, at, body)
	if err != nil {
		return err
	}
	session, err := m.session(ctx, at, what)
	if err != nil {
		return err
	}
	if _, err := session.Update(ctx, sites.Port, bottom, withExtra(body, spec.Extra)); err != nil {
		return err
	}
	if spec.SiteAllocated {
		return nil
	}
	return m.core.Internal(ctx, func(tx *cascade.Tx) error {
		row, err := tx.Load(r.ID)
		if err != nil || row.Generation != r.Generation {
			return err // a newer change frees what it no longer needs
		}
		return m.releaseOthers(tx, r.ID, &spec)
	})
}

// changeLeg changes a router's leg, or makes one of a port that is there already. The addresses and groups of a leg stay as they are.
func (m portMaker) changeLeg(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID, body sites.Body) error {
	obj, err := at.Adaptor.Show(ctx, sites.Port, bottom)
	if err != nil {
		return err
	}
	attached := strings.HasPrefix(obj.Text("device_owner"), "network:")
	if attached {
		body = sites.Body{"name": r.Name, "admin_state_up": body["admin_state_up"]}
	}
	if _, err := at.Adaptor.Update(ctx, sites.Port, bottom, body); err != nil || attached {
		return err
	}
	return m.attach(ctx, r, at, bottom)
}

// Remove takes a leg from its router, which ends the port, and deletes any other port.
func (m portMaker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	spec, err := SpecOf[PortSpec](r)
	if err != nil {
		return false, err
	}
	if spec.DeviceOwner != ownerInterface {
		return m.removePatiently(ctx, r, at, bottom)
	}
	obj, err := at.Adaptor.Show(ctx, sites.Port, bottom)
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if router := obj.Text("device_id"); strings.HasPrefix(obj.Text("device_owner"), "network:") && router != "" {
		_, err = at.Adaptor.Do(ctx, sites.Request{
			Service: sites.NetworkSvc, Method: http.MethodPut, Path: "routers/" + router + "/remove_router_interface",
			Body: sites.Body{"port_id": bottom}, Idempotent: true,
		})
		if fault.Is(err, fault.Conflict) { // a floating IP through it, whose delete has not reached the site yet
			return m.inUse(r, err)
		}
		return err == nil || fault.Is(err, fault.NotFound), ignore(err, fault.NotFound)
	}
	return m.removePatiently(ctx, r, at, bottom)
}

func ignore(err error, kind fault.Kind) error {
	if fault.Is(err, kind) {
		return nil
	}
	return err
}

// Observe takes the status, and the address and MAC where they are the site's to give.
func (m portMaker) Observe(ctx context.Context, r *index.Resource, at cascade.At, obj sites.Object) error {
	spec, err := SpecOf[PortSpec](r)
	if err != nil {
		return err
	}
	observe(r, obj)
	for _, k := range []string{"mac_address", "device_owner", "allowed_address_pairs", "extra_dhcp_opts"} {
		delete(r.Observed, k)
	}
	if !spec.SiteAllocated {
		return nil
	}
	spec.MAC = obj.Text("mac_address")
	if spec.FixedIPs, err = topFixed(ctx, at, obj.Body["fixed_ips"]); err != nil {
		return err
	}
	return r.Encode(spec)
}

// topFixed translates a site's fixed_ips.
func topFixed(ctx context.Context, at cascade.At, list any) ([]FixedIP, error) {
	entries, _ := list.([]any)
	out := make([]FixedIP, 0, len(entries))
	for _, e := range entries {
		one, _ := e.(map[string]any)
		bottom, _ := one["subnet_id"].(string)
		ip, _ := one["ip_address"].(string)
		id, err := at.Top(ctx, sites.Subnet, ident.BottomID(bottom))
		if err != nil {
			return nil, err
		}
		out = append(out, FixedIP{Subnet: id, IP: ip})
	}
	return out, nil
}

// Arrived has it made.
func (portMaker) Arrived(tx *cascade.Tx, r *index.Resource) error { return arrive(tx, r) }

// End gives the addresses and the MAC back.
func (m portMaker) End(tx *cascade.Tx, r *index.Resource) error { return m.ipam.Release(tx.Tx, r.ID) }

// Usage is the quota.
func (portMaker) Usage(*index.Resource) map[string]int64 { return map[string]int64{"port": 1} }
