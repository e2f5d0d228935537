package network

import (
	"context"
	"strings"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/wire"
)

// view is a resource as the API shows it.
type view = map[string]any

// viewer knows for whom rows are shown.
type viewer struct {
	handler *Handler
	caller  sites.Caller
	plain   bool // only to filter: what other rows would have to be read for is left out
}

// defaultMTU is what Neutron shows for an overlay network over Ethernet of 1500 bytes, before a site has said its own.
const defaultMTU = 1450

// common starts a view with what the site showed and Top does not know, and puts over it what all resources have.
func (v *viewer) common(r *row, c network.Common) view {
	out := make(view, 32)
	for k, value := range r.Observed {
		out[k] = value
	}
	if v.caller.Admin() {
		for k, value := range r.ObservedAdmin {
			if adminMember(k) {
				out[k] = value
			}
		}
	}
	for k, value := range c.Extra {
		if _, seen := out[k]; !seen {
			out[k] = value
		}
	}
	out["id"], out["name"], out["description"] = r.ID, r.Name, r.Description
	out["tenant_id"], out["project_id"] = r.ProjectID, r.ProjectID
	out["created_at"], out["updated_at"], out["revision_number"] = wire.Time(r.CreatedAt), wire.Time(r.UpdatedAt), r.Version
	out["tags"] = list(c.Tags)
	if f := r.Fault; f != nil { // what Neutron has no word for: why a site did not do what was accepted
		out["headwater:fault"] = view{"code": f.Code, "message": f.Message, "site": f.Site, "created": wire.Time(f.At)}
	}
	return out
}

// adminMember tells what an administrator sees besides; other members that an administrator's look at a site brought hold the site's ids.
func adminMember(name string) bool {
	return strings.HasPrefix(name, "provider:") || strings.HasPrefix(name, "binding:") || name == "distributed" || name == "ha"
}

// list makes [] of nil.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// orNil makes null of an empty text.
func orNil[T ~string](s T) any {
	if s == "" {
		return nil
	}
	return s
}

// each shows rows one by one.
func each[T any](rows []*row, show func(*row, T) view) ([]view, error) {
	out := make([]view, 0, len(rows))
	for _, r := range rows {
		spec, err := network.SpecOf[T](r)
		if err != nil {
			return nil, err
		}
		out = append(out, show(r, spec))
	}
	return out, nil
}

// children reads the rows below others, in one query, by their parent.
func (v *viewer) children(ctx context.Context, kind sites.Kind, rows []*row) (map[ident.TopID][]*row, error) {
	out := map[ident.TopID][]*row{}
	if v.plain {
		return out, nil
	}
	for len(rows) > 0 {
		n := min(len(rows), 500) // stays below SQLite's limit on variables
		parents := make([]string, n)
		for i, r := range rows[:n] {
			parents[i] = string(r.ID)
		}
		found, err := v.handler.service.Core().Index.List(ctx, index.Query{
			Kind: kind, AllProjects: true, Shared: true, ForAll: true, Pin: v.caller.Pin, In: map[index.Field][]string{index.ByParent: parents}, Sort: []index.Sort{{Field: index.ByCreated}},
		})
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			out[r.ParentID] = append(out[r.ParentID], r)
		}
		rows = rows[n:]
	}
	return out, nil
}

// zones is availability_zones: the site, when there is one.
func zones(r *row) []string {
	if r.Site == "" {
		return []string{}
	}
	return []string{string(r.Site)}
}

func viewNetworks(ctx context.Context, v *viewer, rows []*row) ([]view, error) {
	subnets, err := v.children(ctx, sites.Subnet, rows)
	if err != nil {
		return nil, err
	}
	return each(rows, func(r *row, n network.NetworkSpec) view {
		out := v.common(r, n.Common)
		ids := []ident.TopID{}
		for _, s := range subnets[r.ID] {
			ids = append(ids, s.ID)
		}
		out["subnets"], out["status"], out["admin_state_up"], out["shared"] = ids, r.Status, n.AdminStateUp, n.Shared
		out["router:external"], out["port_security_enabled"] = n.External, n.PortSecurity
		out["availability_zone_hints"], out["availability_zones"] = list(n.ZoneHints), zones(r)
		if n.MTU > 0 {
			out["mtu"] = n.MTU
		} else if out["mtu"] == nil {
			out["mtu"] = defaultMTU
		}
		if n.External {
			out["is_default"] = false
		}
		return out
	})
}

func viewSubnets(_ context.Context, v *viewer, rows []*row) ([]view, error) {
	return each(rows, func(r *row, n network.SubnetSpec) view {
		out := v.common(r, n.Common)
		out["network_id"], out["ip_version"], out["cidr"], out["enable_dhcp"] = r.ParentID, n.IPVersion, n.CIDR, n.DHCP
		out["gateway_ip"], out["ipv6_ra_mode"], out["ipv6_address_mode"] = n.Gateway, n.RAMode, n.AddressMode
		out["allocation_pools"], out["dns_nameservers"], out["host_routes"] = list(n.Pools), list(n.Nameservers), list(n.HostRoutes)
		out["service_types"], out["subnetpool_id"] = list(n.ServiceType), nil
		return out
	})
}

func viewPorts(_ context.Context, v *viewer, rows []*row) ([]view, error) {
	return each(rows, func(r *row, p network.PortSpec) view {
		out := v.common(r, p.Common)
		fixed := make([]map[string]any, len(p.FixedIPs))
		for i, ip := range p.FixedIPs {
			fixed[i] = map[string]any{"subnet_id": orNil(ip.Subnet), "ip_address": ip.IP}
		}
		out["network_id"], out["status"], out["admin_state_up"], out["mac_address"] = r.ParentID, r.Status, p.AdminStateUp, p.MAC
		out["fixed_ips"], out["security_groups"], out["port_security_enabled"] = fixed, list(p.Groups), p.PortSecurity
		out["device_id"], out["device_owner"] = r.DeviceID, p.DeviceOwner
		pairs := make([]map[string]any, len(p.Pairs))
		for i, a := range p.Pairs {
			pairs[i] = map[string]any{"ip_address": a.IP, "mac_address": a.MAC}
			if a.MAC == "" {
				pairs[i]["mac_address"] = p.MAC
			}
		}
		out["allowed_address_pairs"], out["extra_dhcp_opts"] = pairs, list(p.DHCPOptions)
		out["binding:vnic_type"] = p.VNICType
		if p.VNICType == "" {
			out["binding:vnic_type"] = "normal"
		}
		if v.caller.Admin() {
			v.bindings(out, p)
		}
		return out
	})
}

// bindings adds what a port that no site has shown yet has of bindings.
func (v *viewer) bindings(out view, p network.PortSpec) {
	if p.Profile == nil {
		p.Profile = map[string]any{}
	}
	for name, value := range map[string]any{"binding:host_id": p.HostID, "binding:profile": p.Profile, "binding:vif_type": "unbound", "binding:vif_details": view{}} {
		if _, seen := out[name]; !seen {
			out[name] = value
		}
	}
}

func viewRouters(_ context.Context, v *viewer, rows []*row) ([]view, error) {
	return each(rows, func(r *row, n network.RouterSpec) view {
		out := v.common(r, n.Common)
		out["status"], out["admin_state_up"], out["routes"] = r.Status, n.AdminStateUp, list(n.Routes)
		out["availability_zone_hints"], out["availability_zones"] = list(n.ZoneHints), zones(r)
		seen, _ := out["external_gateway_info"].(map[string]any)
		switch {
		case n.Gateway == nil:
			out["external_gateway_info"] = nil
		case seen == nil || seen["network_id"] != string(n.Gateway.Network):
			out["external_gateway_info"] = map[string]any{"network_id": n.Gateway.Network, "enable_snat": n.Gateway.SNAT == nil || *n.Gateway.SNAT, "external_fixed_ips": []any{}}
		}
		if v.caller.Admin() {
			for name, value := range map[string]*bool{"distributed": n.Distributed, "ha": n.HA} {
				if out[name] == nil {
					out[name] = value != nil && *value
				}
			}
		} else {
			delete(out, "distributed")
			delete(out, "ha")
		}
		return out
	})
}

func viewFloating(_ context.Context, v *viewer, rows []*row) ([]view, error) {
	return each(rows, func(r *row, f network.FloatingSpec) view {
		out := v.common(r, f.Common)
		delete(out, "name")
		out["floating_network_id"], out["status"], out["floating_ip_address"] = r.ParentID, r.Status, f.Address
		out["port_id"], out["router_id"], out["fixed_ip_address"] = orNil(r.DeviceID), orNil(f.Router), orNil(f.Fixed)
		return out
	})
}

func viewGroups(ctx context.Context, v *viewer, rows []*row) ([]view, error) {
	rules, err := v.children(ctx, sites.SecurityGroupRule, rows)
	if err != nil {
		return nil, err
	}
	var failed error
	views, err := each(rows, func(r *row, g network.GroupSpec) view {
		out := v.common(r, g.Common)
		nested, err := viewRules(ctx, v, rules[r.ID])
		if err != nil {
			failed = err
		}
		out["stateful"], out["shared"], out["security_group_rules"] = g.Stateful, false, nested
		return out
	})
	if err == nil {
		err = failed
	}
	return views, err
}

func viewRules(_ context.Context, v *viewer, rows []*row) ([]view, error) {
	return each(rows, func(r *row, n network.RuleSpec) view {
		out := v.common(r, n.Common)
		delete(out, "name")
		out["security_group_id"], out["direction"], out["ethertype"], out["protocol"] = r.ParentID, n.Direction, n.Ethertype, n.Protocol
		out["port_range_min"], out["port_range_max"], out["remote_ip_prefix"] = n.PortMin, n.PortMax, n.Prefix
		out["remote_group_id"], out["normalized_cidr"] = orNil(n.RemoteGroup), n.Prefix
		return out
	})
}
