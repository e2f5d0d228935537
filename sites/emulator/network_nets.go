package emulator

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (n *network) attr(_ *Cloud, name string) any {
	if v, found := n.common(&n.row, name); found {
		return v
	}
	switch name {
	case "admin_state_up":
		return n.adminUp
	case "mtu":
		return n.mtu
	case "status":
		return "ACTIVE"
	case "subnets":
		ids := make([]string, len(n.subnets))
		for i, s := range n.subnets {
			ids[i] = s.ID
		}
		return ids
	case "shared":
		return n.shared
	case "router:external":
		return n.external
	case "port_security_enabled":
		return n.portSecurity
	case "is_default":
		return n.isDefault
	case "availability_zone_hints":
		return []string{}
	case "availability_zones":
		if len(n.subnets) == 0 {
			return []string{}
		}
		return []string{"nova"}
	case "provider:network_type":
		return n.kind
	case "provider:physical_network":
		return orNil(n.physical)
	case "provider:segmentation_id":
		if n.segment == 0 {
			return nil
		}
		return n.segment
	}
	return nil // ipv4_address_scope and the like: always null here
}

func (c *Cloud) networkKind() *netKind {
	n := &c.network
	return &netKind{
		one: "network", many: "networks", notFound: "NetworkNotFound", missing: "Network %s could not be found.",
		attrs: stdAttrs(
			attr{name: "admin_state_up", kind: 'b', post: true, put: true}, attr{name: "mtu", kind: 'i', post: true, put: true}, attr{name: "status"},
			attr{name: "subnets"}, attr{name: "shared", kind: 'b', post: true, put: true}, attr{name: "availability_zone_hints", kind: 'l', post: true},
			attr{name: "availability_zones"}, attr{name: "ipv4_address_scope"}, attr{name: "ipv6_address_scope"},
			attr{name: "router:external", kind: 'b', post: true, put: true}, attr{name: "port_security_enabled", kind: 'b', post: true, put: true},
			attr{name: "qos_policy_id", kind: 's', post: true, put: true}, attr{name: "is_default", kind: 'b', post: true, put: true},
			attr{name: "provider:network_type", kind: 's', post: true, put: true, admin: true},
			attr{name: "provider:physical_network", kind: 's', post: true, put: true, admin: true},
			attr{name: "provider:segmentation_id", kind: 'i', post: true, put: true, admin: true}),
		all: func(q *request) []netResource {
			if q.admin {
				return resources(n.networks.all)
			}
			var out []netResource
			for _, x := range n.networks.all {
				if x.seenBy(q) {
					out = append(out, x)
				}
			}
			return out
		},
		get:    func(id string) (netResource, bool) { r, found := n.networks.get(id); return r, found },
		create: c.createNetwork,
		update: c.updateNetwork,
		remove: c.deleteNetwork,
		mine:   func(q *request, r netResource) bool { return r.base().Project == q.project },
	}
}

func resources[T netResource](list []T) []netResource {
	out := make([]netResource, len(list))
	for i, r := range list {
		out[i] = r
	}
	return out
}

func (c *Cloud) createNetwork(q *request, d doc) (netResource, error) {
	if err := adminFlags(q, d, "create"); err != nil {
		return nil, err
	}
	n := &network{row: row{ID: newID(), Project: d.str("project_id")}, std: c.newStd(d), adminUp: d.truth("admin_state_up", true), shared: d.truth("shared", false),
		external: d.truth("router:external", false), portSecurity: d.truth("port_security_enabled", true), isDefault: d.truth("is_default", false), mtu: 1450, ports: map[string]*port{}}
	n.revision = 1
	if err := c.segment(n, d); err != nil {
		return nil, err
	}
	if mtu, given := d.num("mtu"); given {
		if mtu < 68 || mtu > n.mtu {
			return nil, neutronErr(400, "InvalidInput", "Invalid input for operation: Requested MTU is too big, maximum is "+strconv.Itoa(n.mtu)+".")
		}
		n.mtu = mtu
	}
	c.network.networks.add(n)
	return n, nil
}

func adminFlags(q *request, d doc, verb string) error {
	for _, name := range []string{"router:external", "shared", "is_default"} {
		if !q.admin && d.truth(name, false) {
			return denied("(rule:" + verb + "_network and rule:" + verb + "_network:" + name + ")")
		}
	}
	return nil
}

// segment gives a network its segment: the one asked for, or a tunnel id.
func (c *Cloud) segment(n *network, d doc) error {
	n.kind, n.physical = d.str("provider:network_type"), d.str("provider:physical_network")
	n.segment, _ = d.num("provider:segmentation_id")
	switch n.kind {
	case "":
		n.kind = "vxlan"
		c.network.nextVNI++
		n.segment = c.network.nextVNI
		return nil
	case "vxlan", "gre", "geneve":
		if n.segment == 0 {
			c.network.nextVNI++
			n.segment = c.network.nextVNI
		}
	case "flat", "vlan":
		if n.physical != "physnet1" {
			return neutronErr(400, "InvalidInput", "Invalid input for operation: physical_network '"+n.physical+"' unknown for "+n.kind+" provider network.")
		}
		n.mtu = 1500
	case "local":
	default:
		return neutronErr(400, "InvalidInput", "Invalid input for operation: provider:network_type "+n.kind+" not supported.")
	}
	key := n.kind + "/" + n.physical + "/" + strconv.Itoa(n.segment)
	for _, other := range c.network.networks.all {
		if other.kind+"/"+other.physical+"/"+strconv.Itoa(other.segment) != key {
			continue
		}
		switch n.kind {
		case "vlan":
			return neutronErr(409, "VlanIdInUse", "Unable to create the network. The VLAN "+strconv.Itoa(n.segment)+" on physical network physnet1 is in use.")
		case "flat":
			return neutronErr(409, "FlatNetworkInUse", "Unable to create the flat network. Physical network physnet1 is in use.")
		}
		return neutronErr(409, "TunnelIdInUse", "Unable to create the network. The tunnel ID "+strconv.Itoa(n.segment)+" is in use.")
	}
	return nil
}

func (c *Cloud) updateNetwork(q *request, r netResource, d doc) error {
	n := r.(*network)
	if err := adminFlags(q, d, "update"); err != nil {
		return err
	}
	n.adminUp = d.truth("admin_state_up", n.adminUp)
	n.shared = d.truth("shared", n.shared)
	n.external = d.truth("router:external", n.external)
	n.portSecurity = d.truth("port_security_enabled", n.portSecurity)
	n.isDefault = d.truth("is_default", n.isDefault)
	if mtu, given := d.num("mtu"); given {
		n.mtu = mtu
	}
	return nil
}

func (c *Cloud) deleteNetwork(_ *request, r netResource) error {
	n := r.(*network)
	var busy []string
	for _, p := range n.ports {
		if p.owner != "network:dhcp" {
			busy = append(busy, p.ID)
		}
	}
	if len(busy) > 0 {
		slices.Sort(busy)
		return neutronErr(409, "NetworkInUse", "Unable to complete operation on network "+n.ID+". There are one or more ports still in use on the network, id for these ports is: "+strings.Join(busy, ",")+".")
	}
	for _, p := range n.ports {
		c.dropPort(p)
	}
	for _, s := range n.subnets {
		c.network.subnets.remove(s)
	}
	c.network.networks.remove(n)
	return nil
}

func (s *subnet) attr(_ *Cloud, name string) any {
	if v, found := s.common(&s.row, name); found {
		return v
	}
	switch name {
	case "network_id":
		return s.network.ID
	case "ip_version":
		return s.version()
	case "enable_dhcp":
		return s.dhcp
	case "ipv6_ra_mode":
		return orNil(s.raMode)
	case "ipv6_address_mode":
		return orNil(s.addrMode)
	case "gateway_ip":
		if !s.gateway.IsValid() {
			return nil
		}
		return s.gateway.String()
	case "cidr":
		return s.cidr.String()
	case "allocation_pools":
		out := make([]object, len(s.pools))
		for i, p := range s.pools {
			out[i] = object{{"start", p.first.String()}, {"end", p.last.String()}}
		}
		return out
	case "host_routes":
		return orEmpty(s.routes)
	case "dns_nameservers":
		return append([]string{}, s.dns...)
	case "service_types":
		return append([]string{}, s.serviceTypes...)
	}
	return nil
}

func orEmpty(l []any) []any {
	if l == nil {
		return []any{}
	}
	return l
}

func (s *subnet) version() int {
	if s.cidr.Addr().Is6() {
		return 6
	}
	return 4
}

func (c *Cloud) subnetKind() *netKind {
	n := &c.network
	return &netKind{
		one: "subnet", many: "subnets", notFound: "SubnetNotFound", missing: "Subnet %s could not be found.",
		attrs: stdAttrs(
			attr{name: "network_id", kind: 's', post: true}, attr{name: "ip_version", kind: 'i', post: true}, attr{name: "subnetpool_id", kind: 's', post: true},
			attr{name: "enable_dhcp", kind: 'b', post: true, put: true}, attr{name: "ipv6_ra_mode", kind: 's', post: true}, attr{name: "ipv6_address_mode", kind: 's', post: true},
			attr{name: "gateway_ip", kind: 's', post: true, put: true}, attr{name: "cidr", kind: 's', post: true}, attr{name: "allocation_pools", kind: 'l', post: true, put: true},
			attr{name: "host_routes", kind: 'l', post: true, put: true}, attr{name: "dns_nameservers", kind: 'l', post: true, put: true},
			attr{name: "service_types", kind: 'l', post: true, put: true}),
		all: func(q *request) []netResource {
			if q.admin {
				return resources(n.subnets.all)
			}
			var out []netResource
			for _, x := range n.subnets.all {
				if x.Project == q.project || x.network.usedBy(q) {
					out = append(out, x)
				}
			}
			return out
		},
		get:    func(id string) (netResource, bool) { r, found := n.subnets.get(id); return r, found },
		create: c.createSubnet,
		update: c.updateSubnet,
		remove: c.deleteSubnet,
		mine: func(q *request, r netResource) bool {
			return r.base().Project == q.project || r.(*subnet).network.Project == q.project
		},
	}
}

func badIP(name, value string) error {
	return badRequest("Invalid input for " + name + ". Reason: '" + value + "' is not a valid IP address.")
}

func (c *Cloud) createSubnet(q *request, d doc) (netResource, error) {
	n, found := c.network.networks.get(d.str("network_id"))
	if !found || !n.seenBy(q) {
		return nil, neutronErr(404, "NetworkNotFound", "Network "+d.str("network_id")+" could not be found.")
	}
	if !q.admin && n.Project != q.project {
		return nil, denied("rule:create_subnet")
	}
	if gw := d.str("gateway_ip"); gw != "" {
		if _, err := netip.ParseAddr(gw); err != nil {
			return nil, badIP("gateway_ip", gw)
		}
	}
	if d.str("cidr") == "" {
		return nil, neutronErr(400, "BadRequest", "Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
	}
	cidr, err := netip.ParsePrefix(d.str("cidr"))
	if err != nil || cidr.Masked() != cidr {
		return nil, badRequest("Invalid input for cidr. Reason: '" + d.str("cidr") + "' is not a valid IP subnet.")
	}
	v, _ := d.num("ip_version")
	s := &subnet{row: row{ID: newID(), Project: d.str("project_id")}, std: c.newStd(d), network: n, cidr: cidr, dhcp: d.truth("enable_dhcp", true),
		raMode: d.str("ipv6_ra_mode"), addrMode: d.str("ipv6_address_mode"), used: map[netip.Addr]*port{}}
	if v != s.version() {
		return nil, neutronErr(400, "InvalidInput", "Invalid input for operation: cidr '"+cidr.String()+"' does not match the ip_version '"+strconv.Itoa(v)+"'.")
	}
	for _, other := range n.subnets {
		if other.cidr.Overlaps(cidr) {
			return nil, neutronErr(400, "InvalidInput", "Invalid input for operation: Requested subnet with cidr: "+cidr.String()+" for network: "+n.ID+" overlaps with another subnet.")
		}
	}
	if err := s.setGateway(d); err != nil {
		return nil, err
	}
	if err := s.setPools(d); err != nil {
		return nil, err
	}
	s.setRest(d)
	n.subnets = append(n.subnets, s)
	c.touch(&n.std)
	c.network.subnets.add(s)
	c.dhcpPort(n)
	return s, nil
}

func (s *subnet) setGateway(d doc) error {
	switch {
	case d.str("gateway_ip") != "":
		s.gateway, _ = netip.ParseAddr(d.str("gateway_ip"))
	case !d.has("gateway_ip") && s.version() == 6:
		s.gateway = s.cidr.Addr()
		if !s.slaac() {
			s.gateway = s.cidr.Addr().Next()
		}
	case !d.has("gateway_ip"):
		s.gateway = s.cidr.Addr().Next()
	}
	return nil
}

func (s *subnet) setPools(d doc) error {
	if d["allocation_pools"] == nil {
		s.pools = defaultPools(s.cidr, s.gateway)
		return nil
	}
	s.pools = nil
	for _, one := range d.list("allocation_pools") {
		m, _ := one.(map[string]any)
		first, err1 := netip.ParseAddr(doc(m).str("start"))
		last, err2 := netip.ParseAddr(doc(m).str("end"))
		if err1 != nil || err2 != nil {
			return badRequest("Invalid input for allocation_pools. Reason: Invalid data format for IP pool: '" + toText(one) + "'.")
		}
		if last.Less(first) {
			return neutronErr(400, "InvalidAllocationPool", "The allocation pool "+first.String()+"-"+last.String()+" is not valid.")
		}
		if !s.cidr.Contains(first) || !s.cidr.Contains(last) {
			return neutronErr(400, "OutOfBoundsAllocationPool", "The allocation pool "+first.String()+"-"+last.String()+" spans beyond the subnet cidr "+s.cidr.String()+".")
		}
		if s.gateway.IsValid() && !s.gateway.Less(first) && !last.Less(s.gateway) {
			return neutronErr(409, "GatewayConflictWithAllocationPools", "Gateway ip "+s.gateway.String()+" conflicts with allocation pool "+first.String()+"-"+last.String()+".")
		}
		s.pools = append(s.pools, addrRange{first, last})
	}
	slices.SortFunc(s.pools, func(a, b addrRange) int { return a.first.Compare(b.first) })
	for i := 1; i < len(s.pools); i++ {
		if !s.pools[i-1].last.Less(s.pools[i].first) {
			return neutronErr(409, "OverlappingAllocationPools", "Found overlapping allocation pools: "+s.pools[i-1].first.String()+"-"+s.pools[i-1].last.String()+" "+s.pools[i].first.String()+"-"+s.pools[i].last.String()+" for subnet "+s.cidr.String()+".")
		}
	}
	s.cursor = netip.Addr{}
	return nil
}

func (s *subnet) setRest(d doc) {
	if d.has("host_routes") {
		s.routes = d.list("host_routes")
	}
	if d.has("dns_nameservers") {
		s.dns = anyStrings(d.list("dns_nameservers"))
	}
	if d.has("service_types") {
		s.serviceTypes = anyStrings(d.list("service_types"))
	}
}

func (c *Cloud) updateSubnet(_ *request, r netResource, d doc) error {
	s := r.(*subnet)
	if d.has("gateway_ip") {
		gw := netip.Addr{}
		if text := d.str("gateway_ip"); text != "" {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return badIP("gateway_ip", text)
			}
			gw = a
		}
		if p := s.used[s.gateway]; p != nil && gw != s.gateway && strings.HasPrefix(p.owner, "network:router_interface") {
			return neutronErr(409, "GatewayIpInUse", "Current gateway ip "+s.gateway.String()+" already in use by port "+p.ID+". Unable to update.")
		}
		s.gateway = gw
	}
	if d["allocation_pools"] != nil {
		if err := s.setPools(d); err != nil {
			return err
		}
	}
	s.setRest(d)
	if was := s.dhcp; d.truth("enable_dhcp", was) != was {
		s.dhcp = !was
		c.dhcpPort(s.network)
	}
	return nil
}

func (c *Cloud) deleteSubnet(_ *request, r netResource) error {
	s := r.(*subnet)
	for _, p := range s.used {
		if p.owner != "network:dhcp" && !(s.slaac() && !strings.HasPrefix(p.owner, "network:router")) {
			return neutronErr(409, "SubnetInUse", "Unable to complete operation on subnet "+s.ID+": One or more ports have an IP allocation from this subnet.")
		}
	}
	for _, p := range s.used {
		p.ips = slices.DeleteFunc(p.ips, func(ip fixedIP) bool { return ip.subnet == s })
	}
	s.network.subnets = slices.DeleteFunc(s.network.subnets, func(o *subnet) bool { return o == s })
	c.touch(&s.network.std)
	c.network.subnets.remove(s)
	s.dhcp = false
	c.dhcpPort(s.network)
	return nil
}

// dhcpPort makes the network's DHCP port have an address on each of its DHCP
// subnets, as the agent does a moment after it hears of a change.
func (c *Cloud) dhcpPort(n *network) {
	c.after(c.cfg.Durations.PortReady, func() {
		if _, there := c.network.networks.get(n.ID); !there {
			return
		}
		var want []*subnet
		for _, s := range n.subnets {
			if s.dhcp {
				want = append(want, s)
			}
		}
		if len(want) == 0 {
			if n.dhcp != nil {
				c.dropPort(n.dhcp)
			}
			return
		}
		if n.dhcp == nil {
			host := c.cfg.Name + "-net"
			n.dhcp = &port{row: row{ID: newID(), Project: n.Project}, std: c.newStd(nil), network: n, mac: c.newMAC(n), adminUp: true, status: "ACTIVE",
				deviceID: "dhcp" + fixedUUID(host) + "-" + n.ID, owner: "network:dhcp", host: host, vnic: "normal"}
			n.dhcp.revision = 3
			c.addPort(n.dhcp)
		}
		c.dhcpAddresses(n.dhcp, want)
	})
}

func (c *Cloud) dhcpAddresses(p *port, want []*subnet) {
	p.ips = slices.DeleteFunc(p.ips, func(ip fixedIP) bool {
		gone := !slices.Contains(want, ip.subnet)
		if gone {
			delete(ip.subnet.used, ip.addr)
		}
		return gone
	})
	for _, s := range want {
		if slices.ContainsFunc(p.ips, func(ip fixedIP) bool { return ip.subnet == s }) {
			continue
		}
		addr := s.allocate()
		if s.slaac() {
			addr = eui64(s.cidr, p.mac)
		}
		if addr.IsValid() {
			s.used[addr] = p
			p.ips = append(p.ips, fixedIP{s, addr})
			c.touch(&p.std)
		}
	}
}
