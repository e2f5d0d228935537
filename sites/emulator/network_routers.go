package emulator

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	ownerInterface = "network:router_interface"
	ownerGateway   = "network:router_gateway"
	ownerFloating  = "network:floatingip"
)

func (r *router) attr(_ *Cloud, name string) any {
	if v, found := r.common(&r.row, name); found {
		return v
	}
	switch name {
	case "admin_state_up":
		return r.adminUp
	case "status":
		return "ACTIVE"
	case "external_gateway_info":
		if r.gw == nil {
			return nil
		}
		return object{{"network_id", r.gw.network.ID}, {"external_fixed_ips", r.gw.port.fixedIPs()}, {"enable_snat", r.gw.snat}}
	case "availability_zones":
		if r.zone {
			return []string{"nova"}
		}
		return []string{}
	case "availability_zone_hints":
		return []string{}
	case "distributed", "ha":
		return false
	case "routes":
		return orEmpty(r.routes)
	}
	return nil
}

func (c *Cloud) routerKind() *netKind {
	n := &c.network
	return &netKind{
		one: "router", many: "routers", notFound: "RouterNotFound", missing: "Router %s could not be found",
		attrs: stdAttrs(
			attr{name: "admin_state_up", kind: 'b', post: true, put: true}, attr{name: "status"}, attr{name: "external_gateway_info", kind: 'm', post: true, put: true},
			attr{name: "availability_zones"}, attr{name: "distributed", kind: 'b', post: true, put: true, admin: true}, attr{name: "ha", kind: 'b', post: true, put: true, admin: true},
			attr{name: "availability_zone_hints", kind: 'l', post: true}, attr{name: "routes", kind: 'l', put: true}, attr{name: "flavor_id", kind: 's', post: true}),
		all: func(q *request) []netResource {
			if q.admin {
				return resources(n.routers.all)
			}
			return resources(n.routers.of(q.project))
		},
		get: func(id string) (netResource, bool) { r, found := n.routers.get(id); return r, found },
		create: func(q *request, d doc) (netResource, error) {
			r := &router{row: row{ID: newID(), Project: d.str("project_id")}, std: c.newStd(d), adminUp: d.truth("admin_state_up", true)}
			r.revision = 1
			if err := c.setGateway(q, r, d, "create"); err != nil {
				return nil, err
			}
			n.routers.add(r)
			return r, nil
		},
		update: func(q *request, res netResource, d doc) error {
			r := res.(*router)
			if err := c.setRoutes(r, d); err != nil {
				return err
			}
			r.adminUp = d.truth("admin_state_up", r.adminUp)
			return c.setGateway(q, r, d, "update")
		},
		remove: c.deleteRouter,
		mine:   func(q *request, r netResource) bool { return r.base().Project == q.project },
	}
}

// interfaces returns the router's ports towards tenants' subnets.
func (c *Cloud) interfaces(r *router) []*port {
	var out []*port
	for _, p := range c.network.byDevice[r.ID] {
		if p.owner == ownerInterface {
			out = append(out, p)
		}
	}
	return out
}

func (c *Cloud) deleteRouter(_ *request, res netResource) error {
	r := res.(*router)
	var ids []string
	for _, p := range c.interfaces(r) {
		ids = append(ids, p.ID)
	}
	if len(ids) > 0 {
		return neutronErr(409, "RouterInUse", "Router "+r.ID+" has ports still attached: "+strings.Join(ids, ", "))
	}
	if r.gw != nil {
		c.dropPort(r.gw.port)
	}
	c.network.routers.remove(r)
	return nil
}

func (c *Cloud) setRoutes(r *router, d doc) error {
	if !d.has("routes") {
		return nil
	}
	for _, one := range d.list("routes") {
		m, _ := one.(map[string]any)
		hop, err := netip.ParseAddr(doc(m).str("nexthop"))
		if err != nil {
			return badRequest("Invalid input for routes. Reason: Invalid data format for hostroute: '" + toText(one) + "'.")
		}
		reach := slices.ContainsFunc(c.network.byDevice[r.ID], func(p *port) bool {
			return slices.ContainsFunc(p.ips, func(ip fixedIP) bool { return ip.subnet.cidr.Contains(hop) })
		})
		if !reach {
			return neutronErr(400, "InvalidRoutes", "Invalid format for routes: [{'destination': '"+doc(m).str("destination")+"', 'nexthop': '"+doc(m).str("nexthop")+"'}], the nexthop is not connected with router")
		}
	}
	r.routes = d.list("routes")
	return nil
}

func (c *Cloud) setGateway(q *request, r *router, d doc, verb string) error {
	if !d.has("external_gateway_info") {
		return nil
	}
	info := d.sub("external_gateway_info")
	if !q.admin && (info.has("enable_snat") || info.has("external_fixed_ips")) {
		what := "enable_snat"
		if !info.has(what) {
			what = "external_fixed_ips"
		}
		base := "rule:" + verb + "_router"
		return denied("(" + base + " and (" + base + ":external_gateway_info and (" + base + ":external_gateway_info:network_id and " + base + ":external_gateway_info:" + what + ")))")
	}
	id := info.str("network_id")
	if r.gw != nil && (id == "" || id != r.gw.network.ID) && c.routerHasFIPs(r) {
		return neutronErr(409, "RouterExternalGatewayInUseByFloatingIp", "Gateway cannot be updated for router "+r.ID+", since a gateway to external network "+r.gw.network.ID+" is required by one or more floating IPs.")
	}
	if id == "" {
		if r.gw != nil {
			c.dropPort(r.gw.port)
			r.gw = nil
		}
		return nil
	}
	n, found := c.network.networks.get(id)
	if !found {
		return neutronErr(404, "NetworkNotFound", "Network "+id+" could not be found.")
	}
	if !n.external {
		return neutronErr(400, "BadRequest", "Bad router request: Network "+id+" is not an external network.")
	}
	if r.gw == nil || r.gw.network != n {
		p, err := c.ownPort(n, r.ID, ownerGateway, info["external_fixed_ips"])
		if err != nil {
			return err
		}
		if r.gw != nil {
			c.dropPort(r.gw.port)
		}
		r.gw = &gateway{network: n, port: p, snat: true}
		r.zone = true
		c.touch(&r.std)
	}
	r.gw.snat = info.truth("enable_snat", r.gw.snat)
	return nil
}

// ownPort makes a port that belongs to nobody on an external network.
func (c *Cloud) ownPort(n *network, device, owner string, ips any) (*port, error) {
	p := &port{row: row{ID: newID()}, std: c.newStd(nil), network: n, mac: c.newMAC(n), adminUp: true, status: "DOWN", deviceID: device, owner: owner, vnic: "normal"}
	p.revision = 1
	if owner == ownerFloating {
		p.status = "N/A"
	}
	list, err := c.pickAddresses(p, ips, ips != nil)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, neutronErr(400, "BadRequest", "Bad router request: No IPs available for external network "+n.ID+".")
	}
	p.ips = list
	c.addPort(p)
	return p, nil
}

func (c *Cloud) routerHasFIPs(r *router) bool {
	return slices.ContainsFunc(c.network.fips.all, func(f *floatingIP) bool { return f.router == r.ID })
}

func badRouter(msg string) error {
	return neutronErr(400, "BadRequest", "Bad router request: "+msg)
}

func (c *Cloud) routerAt(q *request, verb string) (*router, error) {
	k := c.routerKind()
	r, err := k.find(q, q.path("id"))
	if err != nil {
		return nil, err
	}
	if !q.admin && !k.mine(q, r) {
		return nil, denied("rule:" + verb)
	}
	return r.(*router), nil
}

// addInterface handles PUT /v2.0/routers/{id}/add_router_interface.
func (c *Cloud) addInterface(q *request) (*reply, error) {
	r, err := c.routerAt(q, "add_router_interface")
	if err != nil {
		return nil, err
	}
	var p *port
	switch subnetID, portID := q.body.str("subnet_id"), q.body.str("port_id"); {
	case subnetID != "" && portID != "":
		return nil, badRouter("Cannot specify both subnet-id and port-id.")
	case portID != "":
		p, err = c.interfaceByPort(q, r, portID)
	case subnetID != "":
		p, err = c.interfaceBySubnet(q, r, subnetID)
	default:
		return nil, badRouter("Either subnet_id or port_id must be specified.")
	}
	if err != nil {
		return nil, err
	}
	c.touch(&r.std)
	r.zone = true
	c.portReady(p)
	return ok(interfaceView(r, p))
}

func interfaceView(r *router, p *port) object {
	ids := []string{}
	for _, ip := range p.ips {
		ids = append(ids, ip.subnet.ID)
	}
	first := any(nil)
	if len(ids) > 0 {
		first = ids[0]
	}
	return object{{"id", r.ID}, {"tenant_id", r.Project}, {"port_id", p.ID}, {"network_id", p.network.ID}, {"subnet_id", first}, {"subnet_ids", ids}}
}

// clash refuses a subnet that the router has already, or whose range overlaps with one that it has.
func (c *Cloud) clash(r *router, s *subnet) error {
	for _, p := range c.interfaces(r) {
		for _, ip := range p.ips {
			if ip.subnet == s {
				return badRouter("Router already has a port on subnet " + s.ID + ".")
			}
			if ip.subnet.cidr.Overlaps(s.cidr) {
				return badRouter("Cidr " + s.cidr.String() + " of subnet " + s.ID + " overlaps with cidr " + ip.subnet.cidr.String() + " of subnet " + ip.subnet.ID + ".")
			}
		}
	}
	return nil
}

func (c *Cloud) interfaceByPort(q *request, r *router, id string) (*port, error) {
	found, err := c.portKind().find(q, id)
	if err != nil {
		return nil, err
	}
	p := found.(*port)
	if p.deviceID != "" && p.deviceID != r.ID {
		return nil, neutronErr(409, "PortInUse", "Unable to complete operation on port "+p.ID+" for network "+p.network.ID+". Port already has an attached device "+p.deviceID+".")
	}
	if len(p.ips) == 0 {
		return nil, badRouter("Router port must have at least one fixed IP.")
	}
	for _, ip := range p.ips {
		if err := c.clash(r, ip.subnet); err != nil {
			return nil, err
		}
	}
	c.setDevice(p, r.ID, ownerInterface)
	p.host = c.cfg.Name + "-net"
	p.security, p.groups = false, nil
	c.touch(&p.std)
	return p, nil
}

func (c *Cloud) interfaceBySubnet(q *request, r *router, id string) (*port, error) {
	found, err := c.subnetKind().find(q, id)
	if err != nil {
		return nil, err
	}
	s := found.(*subnet)
	if err := c.clash(r, s); err != nil {
		return nil, err
	}
	if !s.gateway.IsValid() {
		return nil, badRouter("Subnet for router interface must have a gateway IP.")
	}
	if other := s.used[s.gateway]; other != nil {
		return nil, neutronErr(409, "IpAddressAlreadyAllocated", "IP address "+s.gateway.String()+" already allocated in subnet "+s.ID)
	}
	p := &port{row: row{ID: newID(), Project: r.Project}, std: c.newStd(nil), network: s.network, mac: c.newMAC(s.network), adminUp: true, status: "DOWN",
		deviceID: r.ID, owner: ownerInterface, host: c.cfg.Name + "-net", vnic: "normal", ips: []fixedIP{{s, s.gateway}}}
	p.revision = 1
	c.addPort(p)
	return p, nil
}

// removeInterface handles PUT /v2.0/routers/{id}/remove_router_interface.
func (c *Cloud) removeInterface(q *request) (*reply, error) {
	r, err := c.routerAt(q, "remove_router_interface")
	if err != nil {
		return nil, err
	}
	portID, subnetID := q.body.str("port_id"), q.body.str("subnet_id")
	if portID == "" && subnetID == "" {
		return nil, badRouter("Either subnet_id or port_id must be specified.")
	}
	for _, p := range c.interfaces(r) {
		on := slices.ContainsFunc(p.ips, func(ip fixedIP) bool { return ip.subnet.ID == subnetID })
		if portID != "" && p.ID != portID || subnetID != "" && !on {
			continue
		}
		for _, f := range c.network.fips.all {
			if f.router == r.ID && f.port != nil && f.port.network == p.network {
				return nil, neutronErr(409, "RouterInterfaceInUseByFloatingIP", "Router interface for subnet "+p.ips[0].subnet.ID+" on router "+r.ID+" cannot be deleted, as it is required by one or more floating IPs.")
			}
		}
		view := interfaceView(r, p)
		if len(p.ips) > 1 && subnetID != "" { // one address of several goes, the port stays
			p.ips = slices.DeleteFunc(p.ips, func(ip fixedIP) bool {
				if ip.subnet.ID == subnetID {
					delete(ip.subnet.used, ip.addr)
				}
				return ip.subnet.ID == subnetID
			})
		} else {
			c.dropPort(p)
		}
		c.touch(&r.std)
		return ok(view)
	}
	if portID != "" {
		return nil, neutronErr(404, "RouterInterfaceNotFound", "Router "+r.ID+" does not have an interface with id "+portID)
	}
	return nil, neutronErr(404, "RouterInterfaceNotFoundForSubnet", "Router "+r.ID+" has no interface on subnet "+subnetID)
}

func (f *floatingIP) attr(_ *Cloud, name string) any {
	if v, found := f.common(&f.row, name); found && name != "name" {
		return v
	}
	switch name {
	case "floating_ip_address":
		return f.addr.String()
	case "floating_network_id":
		return f.network.ID
	case "router_id":
		return orNil(f.router)
	case "port_id":
		if f.port == nil {
			return nil
		}
		return f.port.ID
	case "fixed_ip_address":
		if f.port == nil {
			return nil
		}
		return f.fixed.String()
	case "status":
		return f.status
	case "port_details":
		if f.port == nil {
			return nil
		}
		p := f.port
		return object{{"name", p.name}, {"network_id", p.network.ID}, {"mac_address", p.mac}, {"admin_state_up", p.adminUp}, {"status", p.status}, {"device_id", p.deviceID}, {"device_owner", p.owner}}
	case "port_forwardings":
		return []any{}
	}
	return nil
}

func (c *Cloud) fipKind() *netKind {
	n := &c.network
	return &netKind{
		one: "floatingip", many: "floatingips", notFound: "FloatingIPNotFound", missing: "Floating IP %s could not be found",
		attrs: []attr{{name: "id"}, {name: "tenant_id", kind: 's', post: true}, {name: "floating_ip_address", kind: 's', post: true}, {name: "floating_network_id", kind: 's', post: true},
			{name: "router_id"}, {name: "port_id", kind: 's', post: true, put: true}, {name: "fixed_ip_address", kind: 's', post: true, put: true}, {name: "status"},
			{name: "description", kind: 's', post: true, put: true}, {name: "qos_policy_id", kind: 's', post: true, put: true}, {name: "port_details"}, {name: "port_forwardings"},
			{name: "subnet_id", kind: 's', post: true, adminSee: true}, {name: "tags"}, {name: "created_at"}, {name: "updated_at"}, {name: "revision_number"}, {name: "project_id", kind: 's', post: true}},
		all: func(q *request) []netResource {
			if q.admin {
				return resources(n.fips.all)
			}
			return resources(n.fips.of(q.project))
		},
		get:    func(id string) (netResource, bool) { r, found := n.fips.get(id); return r, found },
		create: c.createFIP,
		update: func(q *request, r netResource, d doc) error {
			if !d.has("port_id") {
				return nil
			}
			f := r.(*floatingIP)
			if d.str("port_id") == "" {
				c.detachFIP(f)
				return nil
			}
			return c.attachFIP(q, f, d)
		},
		remove: func(_ *request, r netResource) error {
			f := r.(*floatingIP)
			f.unlink()
			c.network.fips.remove(f)
			c.dropPort(f.own)
			return nil
		},
		mine: func(q *request, r netResource) bool { return r.base().Project == q.project },
	}
}

func (c *Cloud) createFIP(q *request, d doc) (netResource, error) {
	id := d.str("floating_network_id")
	n, found := c.network.networks.get(id)
	if !found {
		return nil, neutronErr(404, "NetworkNotFound", "Network "+id+" could not be found.")
	}
	if !n.external {
		return nil, neutronErr(400, "BadRequest", "Bad floatingip request: Network "+id+" is not a valid external network.")
	}
	if !q.admin && d.str("floating_ip_address") != "" {
		return nil, denied("(rule:create_floatingip and rule:create_floatingip:floating_ip_address)")
	}
	var ips any
	if a := d.str("floating_ip_address"); a != "" {
		ips = []any{map[string]any{"ip_address": a}}
	} else if s := d.str("subnet_id"); s != "" {
		ips = []any{map[string]any{"subnet_id": s}}
	}
	f := &floatingIP{row: row{ID: newID(), Project: d.str("project_id")}, std: c.newStd(d), network: n, status: "DOWN"}
	own, err := c.ownPort(n, f.ID, ownerFloating, ips)
	if err != nil {
		return nil, err
	}
	f.own, f.addr = own, own.ips[0].addr
	if d.str("port_id") != "" {
		if err := c.attachFIP(q, f, d); err != nil {
			c.dropPort(own)
			return nil, err
		}
	}
	c.network.fips.add(f)
	return f, nil
}

func (f *floatingIP) unlink() {
	if f.port != nil {
		f.port.fips = slices.DeleteFunc(f.port.fips, func(o *floatingIP) bool { return o == f })
	}
}

func (c *Cloud) detachFIP(f *floatingIP) {
	f.unlink()
	f.port, f.router, f.fixed = nil, "", netip.Addr{}
	c.touch(&f.std)
	c.fipStatus(f, "DOWN")
}

func (c *Cloud) fipStatus(f *floatingIP, status string) {
	bound := f.port
	c.after(c.cfg.Durations.PortReady, func() {
		if f.port == bound && f.status != status {
			f.status = status
			c.touch(&f.std)
		}
	})
}

// attachFIP binds a floating IP to a port that a router joins with its external network.
func (c *Cloud) attachFIP(q *request, f *floatingIP, d doc) error {
	found, err := c.portKind().find(q, d.str("port_id"))
	if err != nil {
		return err
	}
	p := found.(*port)
	ip, err := fixedFor(p, d.str("fixed_ip_address"))
	if err != nil {
		return err
	}
	for _, o := range p.fips {
		if o != f && o.fixed == ip.addr && o.network == f.network {
			return neutronErr(409, "FloatingIPPortAlreadyAssociated", "Cannot associate floating IP "+f.addr.String()+" ("+f.own.ID+") with port "+p.ID+" using fixed IP "+ip.addr.String()+", as that fixed IP already has a floating IP on external network "+f.network.ID+".")
		}
	}
	r := c.routerBetween(ip.subnet, f.network)
	if r == nil {
		return neutronErr(http.StatusNotFound, "ExternalGatewayForFloatingIPNotFound", "External network "+f.network.ID+" is not reachable from subnet "+ip.subnet.ID+".  Therefore, cannot associate Port "+p.ID+" with a Floating IP.")
	}
	f.unlink()
	f.port, f.fixed, f.router, f.status = p, ip.addr, r.ID, "DOWN"
	p.fips = append(p.fips, f)
	c.touch(&f.std)
	c.fipStatus(f, "ACTIVE")
	return nil
}

func fixedFor(p *port, want string) (fixedIP, error) {
	for _, ip := range p.ips {
		if want == "" && ip.addr.Is4() || ip.addr.String() == want {
			return ip, nil
		}
	}
	if want != "" {
		return fixedIP{}, neutronErr(400, "BadRequest", "Bad floatingip request: Port "+p.ID+" does not have fixed ip "+want+".")
	}
	return fixedIP{}, neutronErr(400, "BadRequest", "Bad floatingip request: Cannot add floating IP to port "+p.ID+" that has no fixed IPv4 addresses.")
}

func (c *Cloud) routerBetween(s *subnet, ext *network) *router {
	for _, p := range s.network.ports {
		if p.owner != ownerInterface || !slices.ContainsFunc(p.ips, func(ip fixedIP) bool { return ip.subnet == s }) {
			continue
		}
		if r, found := c.network.routers.get(p.deviceID); found && r.gw != nil && r.gw.network == ext {
			return r
		}
	}
	return nil
}
