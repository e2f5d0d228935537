package network

import "github.com/headwater-cloud/headwater/cascade/index"

// attribute is one member of a resource, as in Neutron's RESOURCE_ATTRIBUTE_MAP.
type attribute struct {
	post, put bool
	required  bool
	check     check // nil takes any value
	rule      *rule // what naming it asks for; nil for nothing
}

// The ways in which an attribute can be named.
func both(c check) attribute     { return attribute{post: true, put: true, check: c} }
func postOnly(c check) attribute { return attribute{post: true, check: c} }
func must(c check) attribute     { return attribute{post: true, required: true, check: c} }
func readOnly() attribute        { return attribute{} }

func (a attribute) ruled(r rule) attribute { a.rule = &r; return a }

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
		"admin_state_up": both(boolean), "shared": both(boolean).ruled(rule{name: "share_network", unless: isFalse}), "mtu": both(integer(0)),
		"router:external": both(boolean).ruled(rule{name: "external_network", unless: isFalse}), "port_security_enabled": both(boolean),
		"availability_zone_hints": postOnly(listOf(text(255))), "subnets": readOnly(), "availability_zones": readOnly(), "is_default": both(boolean).ruled(rule{name: "external_network", unless: isFalse}),
		"provider:network_type":     both(someText(32)).ruled(rule{name: "provider_network"}),
		"provider:physical_network": both(someText(64)).ruled(rule{name: "provider_network"}),
		"provider:segmentation_id":  both(integer(0)).ruled(rule{name: "provider_network"}),
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
		"network_id": must(id), "admin_state_up": both(boolean), "mac_address": both(orNull(mac)).ruled(rule{name: "provider_network", owner: true, notPut: true, unless: isNull}),
		"fixed_ips": both(orNull(listOf(optional("subnet_id", "ip_address")))).ruled(rule{name: "provider_network", owner: true, unless: givesNoAddress}),
		"device_id": both(text(255)), "device_owner": both(text(255)).ruled(rule{name: "provider_network", owner: true, always: ordinaryOwner}),
		"security_groups": both(orNull(listOf(id))), "port_security_enabled": both(boolean).ruled(rule{name: "provider_network", owner: true}),
		"allowed_address_pairs": both(orNull(listOf(pair))).ruled(rule{name: "provider_network", owner: true}), "extra_dhcp_opts": both(orNull(listOf(anyObject))),
		"binding:vnic_type": both(oneText("normal", "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "accelerator-direct", "accelerator-direct-physical", "remote-managed", "vdpa")),
		"binding:profile":   both(orNull(anyObject)).ruled(rule{name: "provider_network"}), "binding:host_id": both(text(255)).ruled(rule{name: "provider_network"}),
		"binding:vif_type": readOnly(), "binding:vif_details": readOnly(),
	})
}

func routerAttributes() map[string]attribute {
	return shared(map[string]attribute{
		"admin_state_up": both(boolean), "external_gateway_info": both(orNull(gateway)).ruled(rule{name: "provider_network", members: []string{"enable_snat", "external_fixed_ips"}}), "routes": {put: true, check: orNull(listOf(object("destination", "nexthop")))},
		"availability_zone_hints": postOnly(listOf(text(255))), "availability_zones": readOnly(),
		"distributed": both(orNull(boolean)).ruled(rule{name: "provider_network"}), "ha": both(orNull(boolean)).ruled(rule{name: "provider_network"}),
	})
}

func floatingAttributes() map[string]attribute {
	all := shared(map[string]attribute{
		"floating_network_id": must(id), "port_id": both(orNull(id)), "fixed_ip_address": both(orNull(address)), "subnet_id": postOnly(orNull(id)),
		"floating_ip_address": postOnly(orNull(address)).ruled(rule{name: "provider_network", unless: isNull}), "router_id": readOnly(),
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
