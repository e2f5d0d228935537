package network

import (
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// attribute is one member of a resource, as in Neutron's RESOURCE_ATTRIBUTE_MAP.
type attribute struct {
	post, put bool
	required  bool
	check     check  // nil takes any value
	admin     string // the rule that naming it asks for (its name); "" for none
	onlyTrue  bool   // the rule is asked for true only
}

// The ways in which an attribute can be named.
func both(c check) attribute     { return attribute{post: true, put: true, check: c} }
func postOnly(c check) attribute { return attribute{post: true, check: c} }
func must(c check) attribute     { return attribute{post: true, required: true, check: c} }
func readOnly() attribute        { return attribute{} }

func (a attribute) ruled(rule string) attribute { a.admin = rule; return a }
func (a attribute) whenTrue(rule string) attribute {
	a.admin, a.onlyTrue = rule, true
	return a
}

// shared are the attributes that every resource has.
func shared(more map[string]attribute) map[string]attribute {
	all := map[string]attribute{
		"id": readOnly(), "status": readOnly(), "created_at": readOnly(), "updated_at": readOnly(), "revision_number": readOnly(),
		"tags": readOnly(), "name": both(text(255)), "description": both(text(255)),
		"tenant_id": postOnly(text(255)), "project_id": postOnly(text(255)),
	}
	for k, v := range more {
		all[k] = v
	}
	return all
}

func networkAttributes() map[string]attribute {
	return shared(map[string]attribute{
		"admin_state_up": both(boolean), "shared": both(boolean).whenTrue("share_network"), "mtu": both(integer(0)),
		"router:external": both(boolean).whenTrue("external_network"), "port_security_enabled": both(boolean),
		"availability_zone_hints": postOnly(listOf(text(255))), "subnets": readOnly(), "availability_zones": readOnly(), "is_default": both(boolean).whenTrue("external_network"),
		"provider:network_type": both(nil).ruled("provider_network"), "provider:physical_network": both(nil).ruled("provider_network"),
		"provider:segmentation_id": both(nil).ruled("provider_network"),
	})
}

func subnetAttributes() map[string]attribute {
	modes := orNull(oneOf("slaac", "dhcpv6-stateful", "dhcpv6-stateless"))
	return shared(map[string]attribute{
		"network_id": must(id), "ip_version": must(version), "cidr": must(text(64)), "gateway_ip": both(orNull(address)),
		"enable_dhcp": both(boolean), "allocation_pools": both(orNull(listOf(object("start", "end")))), "dns_nameservers": both(orNull(listOf(address))),
		"host_routes": both(orNull(listOf(object("destination", "nexthop")))), "ipv6_ra_mode": postOnly(modes), "ipv6_address_mode": postOnly(modes),
		"service_types": both(listOf(text(255))),
	})
}

func portAttributes() map[string]attribute {
	return shared(map[string]attribute{
		"network_id": must(id), "admin_state_up": both(boolean), "mac_address": {post: true, put: true, check: orNull(mac)},
		"fixed_ips": both(orNull(listOf(optional("subnet_id", "ip_address")))), "device_id": both(text(255)), "device_owner": both(text(255)),
		"security_groups": both(orNull(listOf(id))), "port_security_enabled": both(boolean),
		"allowed_address_pairs": both(orNull(listOf(pair))), "extra_dhcp_opts": both(orNull(listOf(anyObject))),
		"binding:vnic_type": both(text(255)), "binding:profile": both(nil).ruled("provider_network"), "binding:host_id": both(nil).ruled("provider_network"),
		"binding:vif_type": readOnly(), "binding:vif_details": readOnly(),
	})
}

func routerAttributes() map[string]attribute {
	return shared(map[string]attribute{
		"admin_state_up": both(boolean), "external_gateway_info": both(orNull(gateway)), "routes": {put: true, check: orNull(listOf(object("destination", "nexthop")))},
		"availability_zone_hints": postOnly(listOf(text(255))), "availability_zones": readOnly(),
		"distributed": both(orNull(boolean)).whenTrue("provider_network"), "ha": both(orNull(boolean)).whenTrue("provider_network"),
	})
}

func floatingAttributes() map[string]attribute {
	all := shared(map[string]attribute{
		"floating_network_id": must(id), "port_id": both(orNull(id)), "fixed_ip_address": both(orNull(address)), "subnet_id": postOnly(orNull(id)),
		"floating_ip_address": postOnly(orNull(address)).ruled("provider_network"), "router_id": readOnly(),
	})
	delete(all, "name")
	return all
}

func groupAttributes() map[string]attribute {
	return shared(map[string]attribute{"stateful": both(boolean), "security_group_rules": readOnly(), "shared": readOnly()})
}

func ruleAttributes() map[string]attribute {
	all := shared(map[string]attribute{
		"security_group_id": must(id), "direction": must(oneOf("ingress", "egress")), "ethertype": postOnly(text(16)), "protocol": postOnly(orNull(protocol)),
		"port_range_min": postOnly(orNull(portNumber)), "port_range_max": postOnly(orNull(portNumber)), "remote_ip_prefix": postOnly(orNull(text(64))),
		"remote_group_id": postOnly(orNull(text(255))), "normalized_cidr": readOnly(),
	})
	delete(all, "name")
	delete(all, "status")
	return all
}

// refused are attributes of extensions that Top does not list because they name
// things that Top does not have; with a value they are what they are to a Neutron without the extension.
var refused = map[string]bool{
	"qos_policy_id": true, "qos_network_policy_id": true, "subnetpool_id": true, "use_default_subnetpool": true, "prefixlen": true, "segment_id": true,
	"segments": true, "ipv4_address_scope": true, "ipv6_address_scope": true, "remote_address_group_id": true, "flavor_id": true,
	"service_type_id": true, "trunk_details": true, "port_forwardings": true, "distributed_gateway": true,
}

// columns are the attributes that lists filter and sort by in the database.
func columns(more map[string]index.Field) map[string]index.Field {
	all := map[string]index.Field{
		"id": index.ByID, "name": index.ByName, "tenant_id": index.ByProject, "project_id": index.ByProject, "status": index.ByStatus,
		"created_at": index.ByCreated, "updated_at": index.ByUpdated,
	}
	for k, v := range more {
		all[k] = v
	}
	return all
}

// allowed asks for the rules of the attributes that a request names.
func (col *collection) allowed(who *auth.Who, verb string, f map[string]any) error {
	for name, value := range f {
		a, ok := col.attrs[name]
		if !ok || a.admin == "" || a.onlyTrue && value != true {
			continue
		}
		if who.Require(a.admin, "") != nil {
			return faultjson.Typed("PolicyNotAuthorized", fault.New(fault.Forbidden, "top/network",
				"(rule:%s_%s and rule:%s_%s:%s) is disallowed by policy", verb, col.singular, verb, col.singular, name))
		}
		if a.admin == "provider_network" && col.kind == sites.Network {
			return faultjson.Typed("NotImplemented", fault.New(fault.NotImplemented, "top/network", "Provider attributes are set at the sites: Top's networks are the tenants'."))
		}
	}
	return nil
}
