package emulator

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

type networkState struct {
	networks *table[*network]
	subnets  *table[*subnet]
	ports    *table[*port]
	routers  *table[*router]
	groups   *table[*secGroup]
	rules    *table[*secRule]
	fips     *table[*floatingIP]
	byDevice map[string][]*port
	quotas   map[string]map[string]int
	agents   []*agent
	vlans    map[string]string // "physnet/segment" or a tunnel id: network id
	macs     uint32
	nextVNI  int
}

// std is what every Neutron resource has.
type std struct {
	name, description string
	tags              []string
	created, updated  time.Time
	revision          int
}

func (s *std) meta() *std { return s }

func (c *Cloud) newStd(d doc) std {
	now := c.now()
	return std{name: d.str("name"), description: d.str("description"), created: now, updated: now}
}

func (c *Cloud) touch(s *std) {
	s.revision++
	s.updated = c.now()
}

type network struct {
	row
	std
	adminUp, shared, external, portSecurity, isDefault bool
	mtu, segment                                       int
	kind, physical                                     string
	subnets                                            []*subnet
	ports                                              map[string]*port // by MAC
	dhcp                                               *port
	grants                                             map[string]string // project: the policy that shares the network with it
}

// seenBy reports whether the caller may use the network, or at least look at it.
func (n *network) seenBy(q *request) bool {
	return q.admin || n.external || n.usedBy(q)
}

// usedBy reports whether the caller's project owns the network or it is shared with the project.
func (n *network) usedBy(q *request) bool {
	return n.Project == q.project || n.shared || n.grants[q.project] != ""
}

type addrRange struct{ first, last netip.Addr }

type subnet struct {
	row
	std
	network          *network
	dhcp             bool
	raMode, addrMode string
	gateway          netip.Addr
	cidr             netip.Prefix
	pools            []addrRange
	routes           []any
	dns              []string
	serviceTypes     []string
	used             map[netip.Addr]*port
	cursor           netip.Addr
}

func (s *subnet) slaac() bool { return s.addrMode == "slaac" || s.addrMode == "dhcpv6-stateless" }

type fixedIP struct {
	subnet *subnet
	addr   netip.Addr
}

type port struct {
	row
	std
	network           *network
	mac               string
	adminUp, security bool
	status            string
	deviceID, owner   string
	ips               []fixedIP
	groups            []string
	host, vnic        string
	pairs, dhcpOpts   []any
	profile           map[string]any
	fips              []*floatingIP // bound to its addresses
}

type gateway struct {
	network *network
	port    *port
	snat    bool
}

type router struct {
	row
	std
	adminUp bool
	gw      *gateway
	routes  []any
	zone    bool // it was scheduled once
}

type secGroup struct {
	row
	std
	stateful bool
}

type secRule struct {
	row
	std
	group, direction, ethertype, protocol, prefix, remoteGroup string
	min, max                                                   *int
	noText                                                     bool // its description is null: Neutron made it with the group
}

type floatingIP struct {
	row
	std
	addr    netip.Addr
	network *network
	own     *port // on the external network
	port    *port
	fixed   netip.Addr
	router  string
	status  string
}

type agent struct {
	id, kind, binary, host, topic string
}

func (c *Cloud) seedNetwork() {
	n := &c.network
	n.networks, n.subnets, n.ports = newTable[*network](), newTable[*subnet](), newTable[*port]()
	n.routers, n.groups, n.rules, n.fips = newTable[*router](), newTable[*secGroup](), newTable[*secRule](), newTable[*floatingIP]()
	n.byDevice, n.quotas, n.vlans = map[string][]*port{}, map[string]map[string]int{}, map[string]string{}
	host := c.cfg.Name + "-net"
	for _, a := range []agent{
		{kind: "DHCP agent", binary: "neutron-dhcp-agent", host: host, topic: "dhcp_agent"},
		{kind: "L3 agent", binary: "neutron-l3-agent", host: host, topic: "l3_agent"},
		{kind: "Metadata agent", binary: "neutron-metadata-agent", host: host, topic: "N/A"},
	} {
		a.id = fixedUUID(c.cfg.Name + a.kind)
		n.agents = append(n.agents, &a)
	}
	for _, h := range c.hosts() {
		n.agents = append(n.agents, &agent{id: fixedUUID(h.name + "ovs"), kind: "Open vSwitch agent", binary: "neutron-openvswitch-agent", host: h.name, topic: "N/A"})
	}
	admin := c.projectNamed("admin")
	pub := &network{row: row{ID: newID(), Project: admin.ID}, std: c.newStd(doc{"name": "public"}), adminUp: true, external: true, portSecurity: true,
		isDefault: true, mtu: 1500, kind: "flat", physical: "physnet1", ports: map[string]*port{}}
	pub.revision = 2
	n.networks.add(pub)
	cidr := netip.MustParsePrefix(c.cfg.ExternalCIDR).Masked()
	s := &subnet{row: row{ID: newID(), Project: admin.ID}, std: c.newStd(doc{"name": "public-v4"}), network: pub, cidr: cidr, gateway: cidr.Addr().Next(), used: map[netip.Addr]*port{}}
	s.pools = defaultPools(cidr, s.gateway)
	pub.subnets = append(pub.subnets, s)
	n.subnets.add(s)
}

// defaultPools is the whole range without the network address, IPv4's broadcast address and the gateway.
func defaultPools(cidr netip.Prefix, gw netip.Addr) []addrRange {
	first, last := cidr.Addr().Next(), lastAddr(cidr)
	if cidr.Addr().Is4() && cidr.Bits() < 31 {
		last = last.Prev()
	}
	if !gw.IsValid() || gw.Less(first) || last.Less(gw) {
		return []addrRange{{first, last}}
	}
	var out []addrRange
	if first.Less(gw) {
		out = append(out, addrRange{first, gw.Prev()})
	}
	if gw.Less(last) {
		out = append(out, addrRange{gw.Next(), last})
	}
	return out
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// allocate returns the next free address of the pools; an invalid one when none is free.
func (s *subnet) allocate() netip.Addr {
	for i, a := 0, s.after(s.cursor); i <= len(s.used)+1 && a.IsValid(); i, a = i+1, s.after(a) {
		if s.used[a] == nil && a != s.gateway {
			s.cursor = a
			return a
		}
	}
	return netip.Addr{}
}

// after returns the address that follows a in the pools, going round at the end.
func (s *subnet) after(a netip.Addr) netip.Addr {
	if len(s.pools) == 0 {
		return netip.Addr{}
	}
	if a.IsValid() {
		next := a.Next()
		for _, p := range s.pools {
			if next.Less(p.first) {
				return p.first
			}
			if !p.last.Less(next) {
				return next
			}
		}
	}
	return s.pools[0].first
}

// eui64 is the address that SLAAC gives a MAC in a /64.
func eui64(prefix netip.Prefix, mac string) netip.Addr {
	b := prefix.Masked().Addr().As16()
	hw := parseMAC(mac)
	b[8], b[9], b[10], b[11] = hw[0]^2, hw[1], hw[2], 0xff
	b[12], b[13], b[14], b[15] = 0xfe, hw[3], hw[4], hw[5]
	return netip.AddrFrom16(b)
}

func parseMAC(s string) (out [6]byte) {
	const digits = "0123456789abcdef"
	for i := range 6 {
		if len(s) >= i*3+2 {
			out[i] = byte(strings.IndexByte(digits, s[i*3])<<4 | strings.IndexByte(digits, s[i*3+1]))
		}
	}
	return out
}

func (c *Cloud) newMAC(n *network) string {
	const digits = "0123456789abcdef"
	for {
		c.network.macs++
		v := c.network.macs*2654435761 ^ 0x5bd1e9 // spread, so that MACs do not look like counters
		mac := []byte("fa:16:3e:00:00:00")
		for i, at := range []int{9, 10, 12, 13, 15, 16} {
			mac[at] = digits[v>>(4*i)&15]
		}
		if n.ports[string(mac)] == nil {
			return string(mac)
		}
	}
}

// defaultGroup returns the project's group "default", making it on first use.
func (c *Cloud) defaultGroup(project string) *secGroup {
	for _, g := range c.network.groups.of(project) {
		if g.name == "default" && g.Project == project {
			return g
		}
	}
	g := &secGroup{row: row{ID: newID(), Project: project}, std: c.newStd(doc{"name": "default", "description": "Default security group"}), stateful: true}
	c.network.groups.add(g)
	for _, family := range []string{"IPv4", "IPv6"} {
		c.addRule(&secRule{group: g.ID, direction: "ingress", ethertype: family, remoteGroup: g.ID, noText: true}, project)
		c.addRule(&secRule{group: g.ID, direction: "egress", ethertype: family, noText: true}, project)
	}
	g.revision = 4
	return g
}

func (c *Cloud) addRule(r *secRule, project string) *secRule {
	r.row, r.created, r.updated = row{ID: newID(), Project: project}, c.now(), c.now()
	c.network.rules.add(r)
	return r
}

// addPort puts a finished port into every index.
func (c *Cloud) addPort(p *port) {
	p.network.ports[p.mac] = p
	for _, ip := range p.ips {
		ip.subnet.used[ip.addr] = p
	}
	if p.deviceID != "" {
		c.network.byDevice[p.deviceID] = append(c.network.byDevice[p.deviceID], p)
	}
	c.network.ports.add(p)
}

// dropPort takes a port out of every index, and its address from floating IPs.
func (c *Cloud) dropPort(p *port) {
	delete(p.network.ports, p.mac)
	for _, ip := range p.ips {
		if ip.subnet.used[ip.addr] == p {
			delete(ip.subnet.used, ip.addr)
		}
	}
	c.setDevice(p, "", "")
	c.network.ports.remove(p)
	for _, f := range slices.Clone(p.fips) {
		c.detachFIP(f)
	}
	if p.network.dhcp == p {
		p.network.dhcp = nil
	}
}

func (c *Cloud) setDevice(p *port, device, owner string) {
	if p.deviceID != device {
		if rest := slices.DeleteFunc(c.network.byDevice[p.deviceID], func(o *port) bool { return o == p }); len(rest) > 0 {
			c.network.byDevice[p.deviceID] = rest
		} else {
			delete(c.network.byDevice, p.deviceID)
		}
		if device != "" {
			c.network.byDevice[device] = append(c.network.byDevice[device], p)
		}
	}
	p.deviceID, p.owner = device, owner
}

// portReady makes a bound port ACTIVE after a while, if it is still bound then.
func (c *Cloud) portReady(p *port) {
	c.after(c.cfg.Durations.PortReady, func() {
		if _, there := c.network.ports.get(p.ID); there && p.deviceID != "" && p.adminUp && p.status != "ACTIVE" {
			p.status = "ACTIVE"
			c.touch(&p.std)
		}
	})
}
