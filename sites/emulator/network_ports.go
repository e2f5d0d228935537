package emulator

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

func (p *port) attr(c *Cloud, name string) any {
	if v, found := p.common(&p.row, name); found {
		return v
	}
	switch name {
	case "network_id":
		return p.network.ID
	case "mac_address":
		return p.mac
	case "admin_state_up":
		return p.adminUp
	case "status":
		return p.status
	case "device_id":
		return p.deviceID
	case "device_owner":
		return p.owner
	case "fixed_ips":
		return p.fixedIPs()
	case "allowed_address_pairs":
		return orEmpty(p.pairs)
	case "extra_dhcp_opts":
		return orEmpty(p.dhcpOpts)
	case "security_groups":
		return append([]string{}, p.groups...)
	case "binding:vnic_type":
		return p.vnic
	case "binding:profile":
		if p.profile == nil {
			return object{}
		}
		return p.profile
	case "binding:host_id":
		return p.host
	case "binding:vif_type":
		if p.host == "" {
			return "unbound"
		}
		return "ovs"
	case "binding:vif_details":
		if p.host == "" {
			return object{}
		}
		return object{{"connectivity", "l2"}, {"port_filter", true}, {"ovs_hybrid_plug", nil}, {"datapath_type", "netdev"}, {"bound_drivers", object{{"0", "openvswitch"}}}}
	case "port_security_enabled":
		return p.security
	}
	return nil
}

func (p *port) fixedIPs() []object {
	out := make([]object, len(p.ips))
	for i, ip := range p.ips {
		out[i] = object{{"subnet_id", ip.subnet.ID}, {"ip_address", ip.addr.String()}}
	}
	return out
}

func (c *Cloud) portKind() *netKind {
	return &netKind{
		one: "port", many: "ports", notFound: "PortNotFound", missing: "Port %s could not be found.",
		attrs: stdAttrs(
			attr{name: "network_id", kind: 's', post: true}, attr{name: "mac_address", kind: 's', post: true, put: true}, attr{name: "admin_state_up", kind: 'b', post: true, put: true},
			attr{name: "status"}, attr{name: "device_id", kind: 's', post: true, put: true}, attr{name: "device_owner", kind: 's', post: true, put: true},
			attr{name: "fixed_ips", kind: 'l', post: true, put: true}, attr{name: "allowed_address_pairs", kind: 'l', post: true, put: true},
			attr{name: "extra_dhcp_opts", kind: 'l', post: true, put: true}, attr{name: "security_groups", kind: 'l', post: true, put: true},
			attr{name: "binding:vnic_type", kind: 's', post: true, put: true}, attr{name: "binding:profile", kind: 'm', post: true, put: true, admin: true},
			attr{name: "binding:host_id", kind: 's', post: true, put: true, admin: true}, attr{name: "binding:vif_type", adminSee: true},
			attr{name: "binding:vif_details", adminSee: true}, attr{name: "port_security_enabled", kind: 'b', post: true, put: true},
			attr{name: "qos_policy_id", kind: 's', post: true, put: true}, attr{name: "qos_network_policy_id"}, attr{name: "resource_request", adminSee: true}),
		all:    c.visiblePorts,
		get:    func(id string) (netResource, bool) { r, found := c.network.ports.get(id); return r, found },
		create: c.createPort,
		update: c.updatePort,
		remove: func(q *request, r netResource) error {
			p := r.(*port)
			if strings.HasPrefix(p.owner, "network:router") || p.owner == "network:floatingip" {
				return neutronErr(409, "ServicePortInUse", "Port "+p.ID+" cannot be deleted directly via the port API: has device owner "+p.owner+".")
			}
			c.dropPort(p)
			return nil
		},
		mine: func(q *request, r netResource) bool {
			return r.base().Project == q.project || r.(*port).network.Project == q.project
		},
	}
}

// visiblePorts narrows by the indexed filters before anything is looked at.
func (c *Cloud) visiblePorts(q *request) []netResource {
	n := &c.network
	sees := func(p *port) bool { return q.admin || p.Project == q.project || p.network.Project == q.project }
	var out []netResource
	keep := func(p *port) {
		if sees(p) {
			out = append(out, p)
		}
	}
	switch {
	case len(q.query["id"]) > 0:
		for _, id := range q.query["id"] {
			if p, found := n.ports.get(id); found {
				keep(p)
			}
		}
	case len(q.query["device_id"]) > 0:
		for _, id := range q.query["device_id"] {
			for _, p := range n.byDevice[id] {
				keep(p)
			}
		}
	case len(q.query["mac_address"]) == 1:
		for _, x := range n.networks.all {
			if p := x.ports[q.query["mac_address"][0]]; p != nil {
				keep(p)
			}
		}
	case q.admin:
		return resources(n.ports.all)
	default:
		for _, p := range n.ports.of(q.project) {
			out = append(out, p)
		}
		for _, x := range n.networks.of(q.project) {
			for _, p := range x.ports {
				if p.Project != q.project {
					out = append(out, p)
				}
			}
		}
		slices.SortFunc(out, func(a, b netResource) int { return int(a.base().seq - b.base().seq) })
	}
	return out
}

var macPattern = regexp.MustCompile(`^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$`)

func (c *Cloud) createPort(q *request, d doc) (netResource, error) {
	n, found := c.network.networks.get(d.str("network_id"))
	if !found || !n.seenBy(q) {
		return nil, neutronErr(404, "NetworkNotFound", "Network "+d.str("network_id")+" could not be found.")
	}
	own := q.admin || n.Project == q.project
	if err := portPolicy(d, own, "create"); err != nil {
		return nil, err
	}
	if !own && !n.usedBy(q) {
		return nil, neutronErr(403, "HTTPForbidden", "Tenant "+q.project+" not allowed to create port on this network")
	}
	p := &port{row: row{ID: newID(), Project: d.str("project_id")}, std: c.newStd(d), network: n, mac: strings.ToLower(d.str("mac_address")), adminUp: d.truth("admin_state_up", true),
		status: "DOWN", deviceID: d.str("device_id"), owner: d.str("device_owner"), vnic: "normal", security: d.truth("port_security_enabled", n.portSecurity)}
	p.revision = 1
	if p.mac != "" && !macPattern.MatchString(p.mac) {
		return nil, badRequest("Invalid input for mac_address. Reason: '" + p.mac + "' is not a valid MAC address.")
	}
	if p.mac != "" && n.ports[p.mac] != nil {
		return nil, neutronErr(409, "MacAddressInUse", "Unable to complete operation for network "+n.ID+". The mac address "+p.mac+" is in use.")
	}
	if p.mac == "" {
		p.mac = c.newMAC(n)
	}
	if err := c.portGroups(q, p, d); err != nil {
		return nil, err
	}
	if err := c.portPairs(p, d); err != nil {
		return nil, err
	}
	ips, err := c.pickAddresses(p, d["fixed_ips"], d.has("fixed_ips"))
	if err != nil {
		return nil, err
	}
	p.ips = ips
	c.portBinding(p, d)
	c.addPort(p)
	return p, nil
}

// portPolicy is Neutron's policy for a member: what the owner of the network may set and others may not.
func portPolicy(d doc, own bool, verb string) error {
	rule := func(name string) error {
		return denied("(rule:" + verb + "_port and rule:" + verb + "_port:" + name + ")")
	}
	if own {
		return nil
	}
	if strings.HasPrefix(d.str("device_owner"), "network:") {
		return rule("device_owner")
	}
	for _, name := range []string{"mac_address", "port_security_enabled", "allowed_address_pairs"} {
		if d[name] != nil {
			return rule(name)
		}
	}
	for _, one := range d.list("fixed_ips") {
		m, _ := one.(map[string]any)
		if m["ip_address"] != nil {
			return denied("(rule:" + verb + "_port and (rule:" + verb + "_port:fixed_ips and (rule:" + verb + "_port:fixed_ips:subnet_id and rule:" + verb + "_port:fixed_ips:ip_address)))")
		}
	}
	return nil
}

func (c *Cloud) portGroups(q *request, p *port, d doc) error {
	if d["security_groups"] == nil {
		if !p.security || strings.HasPrefix(p.owner, "network:") {
			p.groups = nil
		} else if p.groups == nil {
			p.groups = []string{c.defaultGroup(p.Project).ID}
		}
		return nil
	}
	groups := anyStrings(d.list("security_groups"))
	for _, id := range groups {
		g, found := c.network.groups.get(id)
		if !found || !q.admin && g.Project != q.project {
			return neutronErr(404, "SecurityGroupNotFound", "Security group "+id+" does not exist")
		}
	}
	if len(groups) > 0 && !p.security {
		return neutronErr(409, "PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled and port must have an IP address in order to use security groups.")
	}
	p.groups = groups
	return nil
}

func (c *Cloud) portPairs(p *port, d doc) error {
	if d.has("allowed_address_pairs") {
		p.pairs = nil
		for _, one := range d.list("allowed_address_pairs") {
			m, _ := one.(map[string]any)
			mac := doc(m).str("mac_address")
			if mac == "" {
				mac = p.mac
			}
			p.pairs = append(p.pairs, object{{"mac_address", mac}, {"ip_address", doc(m).str("ip_address")}})
		}
		if len(p.pairs) > 0 && !p.security {
			return neutronErr(409, "AddressPairAndPortSecurityRequired", "Port Security must be enabled in order to have allowed address pairs on a port.")
		}
	}
	if d.has("extra_dhcp_opts") {
		p.dhcpOpts = d.list("extra_dhcp_opts")
	}
	return nil
}

func (c *Cloud) portBinding(p *port, d doc) {
	if d.has("binding:vnic_type") && d.str("binding:vnic_type") != "" {
		p.vnic = d.str("binding:vnic_type")
	}
	if d.has("binding:profile") {
		p.profile, _ = d["binding:profile"].(map[string]any)
	}
	if d.has("binding:host_id") {
		p.host = d.str("binding:host_id")
		if p.host == "" {
			p.status = "DOWN"
		} else {
			c.portReady(p)
		}
	}
}

// pickAddresses returns the addresses of a port that is not indexed yet, or whose own addresses may be kept.
func (c *Cloud) pickAddresses(p *port, given any, isGiven bool) ([]fixedIP, error) {
	list, _ := given.([]any)
	none := isGiven && given != nil && len(list) == 0 // only what SLAAC gives
	var out []fixedIP
	for _, one := range list {
		m, _ := one.(map[string]any)
		ip, err := c.pickOne(p, doc(m))
		if err != nil {
			return nil, err
		}
		out = append(out, ip)
	}
	if len(list) == 0 && !none {
		ip, err := pickAny(p.network)
		if err != nil {
			return nil, err
		}
		if ip.subnet != nil {
			out = append(out, ip)
		}
	}
	for _, s := range p.network.subnets {
		if s.slaac() && !slices.ContainsFunc(out, func(ip fixedIP) bool { return ip.subnet == s }) {
			out = append(out, fixedIP{s, eui64(s.cidr, p.mac)})
		}
	}
	return out, nil
}

// pickAny takes an address from the first subnet that has one free.
func pickAny(n *network) (fixedIP, error) {
	any4 := false
	for _, s := range n.subnets {
		if s.slaac() {
			continue
		}
		any4 = true
		if a := s.allocate(); a.IsValid() {
			return fixedIP{s, a}, nil
		}
	}
	if any4 {
		return fixedIP{}, neutronErr(409, "IpAddressGenerationFailure", "No more IP addresses available on network "+n.ID+".")
	}
	return fixedIP{}, nil
}

func (c *Cloud) pickOne(p *port, m doc) (fixedIP, error) {
	var s *subnet
	if id := m.str("subnet_id"); id != "" {
		found := false
		if s, found = c.network.subnets.get(id); !found {
			return fixedIP{}, neutronErr(404, "SubnetNotFound", "Subnet "+id+" could not be found.")
		}
		if s.network != p.network {
			return fixedIP{}, neutronErr(400, "InvalidInput", "Invalid input for operation: Failed to create port on network "+p.network.ID+", because fixed_ips included invalid subnet "+id+".")
		}
	}
	text := m.str("ip_address")
	if text == "" {
		if s == nil {
			return fixedIP{}, neutronErr(400, "InvalidInput", "Invalid input for operation: IP allocation requires subnet_id or ip_address.")
		}
		if s.slaac() {
			return fixedIP{s, eui64(s.cidr, p.mac)}, nil
		}
		if a := s.allocate(); a.IsValid() {
			return fixedIP{s, a}, nil
		}
		return fixedIP{}, neutronErr(409, "IpAddressGenerationFailure", "No more IP addresses available on network "+p.network.ID+".")
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return fixedIP{}, badIP("fixed_ips", text)
	}
	return p.network.claim(s, a, p)
}

func (n *network) claim(s *subnet, a netip.Addr, p *port) (fixedIP, error) {
	if s == nil {
		i := slices.IndexFunc(n.subnets, func(o *subnet) bool { return o.cidr.Contains(a) })
		if i < 0 {
			return fixedIP{}, neutronErr(400, "InvalidIpForNetwork", "IP address "+a.String()+" is not a valid IP for any of the subnets on the specified network.")
		}
		s = n.subnets[i]
	}
	if !s.cidr.Contains(a) || a == s.cidr.Addr() && a.Is4() {
		return fixedIP{}, neutronErr(400, "InvalidIpForSubnet", "IP address "+a.String()+" is not a valid IP for the specified subnet.")
	}
	if other := s.used[a]; other != nil && other != p {
		return fixedIP{}, neutronErr(409, "IpAddressAlreadyAllocated", "IP address "+a.String()+" already allocated in subnet "+s.ID)
	}
	return fixedIP{s, a}, nil
}

func (c *Cloud) updatePort(q *request, r netResource, d doc) error {
	p := r.(*port)
	own := q.admin || p.network.Project == q.project
	if !own && d["fixed_ips"] != nil {
		return denied("(rule:update_port and rule:update_port:fixed_ips)")
	}
	if err := portPolicy(d, own, "update"); err != nil {
		return err
	}
	if mac := strings.ToLower(d.str("mac_address")); mac != "" && mac != p.mac {
		if !q.admin {
			return denied("(rule:update_port and rule:update_port:mac_address)")
		}
		if p.host != "" && strings.HasPrefix(p.owner, "compute:") {
			return neutronErr(409, "PortBound", "Unable to complete operation on port "+p.ID+", port is already bound, port type: ovs, old_mac "+p.mac+", new_mac "+mac+".")
		}
		if p.network.ports[mac] != nil {
			return neutronErr(409, "MacAddressInUse", "Unable to complete operation for network "+p.network.ID+". The mac address "+mac+" is in use.")
		}
		delete(p.network.ports, p.mac)
		p.mac = mac
		p.network.ports[mac] = p
	}
	p.security = d.truth("port_security_enabled", p.security)
	if err := c.portGroups(q, p, d); err != nil {
		return err
	}
	if err := c.portPairs(p, d); err != nil {
		return err
	}
	if d["fixed_ips"] != nil {
		if err := c.readdress(p, d); err != nil {
			return err
		}
	}
	p.adminUp = d.truth("admin_state_up", p.adminUp)
	if d.has("device_id") || d.has("device_owner") {
		device, owner := p.deviceID, p.owner
		if d.has("device_id") {
			device = d.str("device_id")
		}
		if d.has("device_owner") {
			owner = d.str("device_owner")
		}
		c.setDevice(p, device, owner)
	}
	c.portBinding(p, d)
	return nil
}

func (c *Cloud) readdress(p *port, d doc) error {
	old := p.ips
	for _, ip := range old {
		delete(ip.subnet.used, ip.addr)
	}
	ips, err := c.pickAddresses(p, d["fixed_ips"], true)
	if err != nil {
		ips = old
	}
	p.ips = ips
	for _, ip := range ips {
		ip.subnet.used[ip.addr] = p
	}
	return err
}
