package network

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The specs are what a tenant asked for, under the wire's names, and what Top
// gave to it (addresses, MACs). Names and descriptions are columns of the row.

// Common is what all kinds have.
type Common struct {
	Tags []string `json:"tags,omitempty"`
	// Extra are members that Headwater does not know; they go to the site as they are (cascade/README.md: Unknown members).
	Extra map[string]any `json:"extra,omitempty"`
}

// NetworkSpec is a network.
type NetworkSpec struct {
	Common
	AdminStateUp bool     `json:"admin_state_up"`
	External     bool     `json:"router:external,omitempty"`
	Shared       bool     `json:"shared,omitempty"`
	MTU          int      `json:"mtu,omitempty"` // 0: the site's own
	PortSecurity bool     `json:"port_security_enabled"`
	ZoneHints    []string `json:"availability_zone_hints,omitempty"`
}

// PoolSpec is an allocation pool.
type PoolSpec struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

// Route is a host route of a subnet or an extra route of a router.
type Route struct {
	Destination string `json:"destination"`
	NextHop     string `json:"nexthop"`
}

// SubnetSpec is a subnet.
type SubnetSpec struct {
	Common
	IPVersion   int        `json:"ip_version"`
	CIDR        string     `json:"cidr"`
	Gateway     *string    `json:"gateway_ip"`
	DHCP        bool       `json:"enable_dhcp"`
	Pools       []PoolSpec `json:"allocation_pools"`
	Nameservers []string   `json:"dns_nameservers,omitempty"`
	HostRoutes  []Route    `json:"host_routes,omitempty"`
	RAMode      *string    `json:"ipv6_ra_mode,omitempty"`
	AddressMode *string    `json:"ipv6_address_mode,omitempty"`
	ServiceType []string   `json:"service_types,omitempty"`
	// SiteAllocated: the addresses are a site's to give (an external network's subnet).
	SiteAllocated bool `json:"site_allocated,omitempty"`
	// Unseen: the site shows Top's account no more than its id. It stands behind gateways and floating IPs, and is neither shown nor listed.
	Unseen bool `json:"unseen,omitempty"`
}

// Auto reports whether hosts give themselves their addresses (SLAAC, DHCPv6 stateless).
func (n *SubnetSpec) Auto() bool {
	return n.AddressMode != nil && (*n.AddressMode == "slaac" || *n.AddressMode == "dhcpv6-stateless")
}

// Prefix is the parsed CIDR; it was valid when the subnet was accepted.
func (n *SubnetSpec) Prefix() netip.Prefix {
	p, err := netip.ParsePrefix(n.CIDR)
	if err != nil {
		return netip.Prefix{}
	}
	return p.Masked()
}

// FixedIP is one address of a port.
type FixedIP struct {
	Subnet ident.TopID `json:"subnet_id,omitempty"`
	IP     string      `json:"ip_address,omitempty"`
}

// AddressPair is what a port may send from besides its own addresses.
type AddressPair struct {
	MAC string `json:"mac_address,omitempty"`
	IP  string `json:"ip_address"`
}

// PortSpec is a port. Its device's id is a column.
type PortSpec struct {
	Common
	AdminStateUp bool             `json:"admin_state_up"`
	MAC          string           `json:"mac_address"`
	FixedIPs     []FixedIP        `json:"fixed_ips"`
	Groups       []ident.TopID    `json:"security_groups"`
	PortSecurity bool             `json:"port_security_enabled"`
	Pairs        []AddressPair    `json:"allowed_address_pairs,omitempty"`
	DHCPOptions  []map[string]any `json:"extra_dhcp_opts,omitempty"`
	DeviceOwner  string           `json:"device_owner"`
	VNICType     string           `json:"binding:vnic_type,omitempty"`
	Profile      map[string]any   `json:"binding:profile,omitempty"`
	HostID       string           `json:"binding:host_id,omitempty"`
	DNSName      string           `json:"dns_name,omitempty"`
	// SiteAllocated: the address and MAC are the site's to give.
	SiteAllocated bool `json:"site_allocated,omitempty"`
}

// Gateway is a router's way out.
type Gateway struct {
	Network ident.TopID `json:"network_id"`
	SNAT    *bool       `json:"enable_snat,omitempty"`
	Fixed   []FixedIP   `json:"external_fixed_ips,omitempty"` // as asked for
}

// RouterSpec is a router.
type RouterSpec struct {
	Common
	AdminStateUp bool     `json:"admin_state_up"`
	Gateway      *Gateway `json:"external_gateway_info,omitempty"`
	Routes       []Route  `json:"routes,omitempty"`
	ZoneHints    []string `json:"availability_zone_hints,omitempty"`
	Distributed  *bool    `json:"distributed,omitempty"`
	HA           *bool    `json:"ha,omitempty"`
}

// FloatingSpec is a floating IP. Its network is the row's parent, its port the row's device.
type FloatingSpec struct {
	Common
	Address string      `json:"floating_ip_address,omitempty"` // asked for, then what the site gave
	Fixed   string      `json:"fixed_ip_address,omitempty"`
	Router  ident.TopID `json:"router_id,omitempty"`
	Subnet  ident.TopID `json:"subnet_id,omitempty"` // asked for
}

// GroupSpec is a security group. Its rules are rows of their own.
type GroupSpec struct {
	Common
	Stateful bool `json:"stateful"`
}

// RuleSpec is a security group rule. Its group is the row's parent.
type RuleSpec struct {
	Common
	Direction   string      `json:"direction"`
	Ethertype   string      `json:"ethertype"`
	Protocol    *string     `json:"protocol,omitempty"`
	PortMin     *int        `json:"port_range_min,omitempty"`
	PortMax     *int        `json:"port_range_max,omitempty"`
	Prefix      *string     `json:"remote_ip_prefix,omitempty"`
	RemoteGroup ident.TopID `json:"remote_group_id,omitempty"`
}

// SpecOf reads a row's spec of the given type.
func SpecOf[T any](r *index.Resource) (T, error) {
	var spec T
	err := r.Decode(&spec)
	return spec, err
}

// overlay puts the given members over a spec: those that are not named stay.
func overlay[T any](spec *T, f Fields) error {
	old, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(old, &members); err != nil {
		return fmt.Errorf("decode spec: %w", err)
	}
	for k, v := range f {
		if extra, ok := v.(map[string]any); ok && k == "extra" && members[k] != nil { // unknown members stay one by one
			if v, err = joinExtra(members[k], extra); err != nil {
				return err
			}
		}
		if members[k], err = json.Marshal(v); err != nil {
			return fmt.Errorf("encode member %s: %w", k, err)
		}
	}
	merged, err := json.Marshal(members)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	var fresh T // lists must not keep what the old one had in the same place
	if err := json.Unmarshal(merged, &fresh); err != nil {
		return badRequest("Invalid input: %v.", err) //nolint:errorlint // the decoder's sentence is for the tenant
	}
	*spec = fresh
	return nil
}

func joinExtra(old json.RawMessage, more map[string]any) (map[string]any, error) {
	all := map[string]any{}
	if err := json.Unmarshal(old, &all); err != nil {
		return nil, fmt.Errorf("decode extra members: %w", err)
	}
	for k, v := range more {
		all[k] = v
	}
	return all, nil
}
