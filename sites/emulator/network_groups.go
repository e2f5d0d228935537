package emulator

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (g *secGroup) attr(c *Cloud, name string) any {
	if v, found := g.common(&g.row, name); found {
		return v
	}
	switch name {
	case "stateful":
		return g.stateful
	case "shared":
		return false
	case "security_group_rules":
		kind := c.ruleKind()
		out := []object{}
		for _, r := range c.rulesOf(g) {
			out = append(out, append(kind.view(&request{c: c}, r, nil), kv{"standard_attr_id", int(r.seq)}, kv{"tags", []string{}}))
		}
		return out
	}
	return nil
}

func (c *Cloud) rulesOf(g *secGroup) []*secRule {
	var out []*secRule
	for _, r := range c.network.rules.of(g.Project) {
		if r.group == g.ID {
			out = append(out, r)
		}
	}
	return out
}

func (c *Cloud) groupKind() *netKind {
	n := &c.network
	return &netKind{
		one: "security_group", many: "security_groups", notFound: "SecurityGroupNotFound", missing: "Security group %s does not exist",
		attrs: stdAttrs(attr{name: "stateful", kind: 'b', post: true, put: true}, attr{name: "shared"}, attr{name: "security_group_rules"}),
		all: func(q *request) []netResource {
			c.defaultGroup(q.project)
			if q.admin {
				return resources(n.groups.all)
			}
			return resources(n.groups.of(q.project))
		},
		get:    func(id string) (netResource, bool) { r, found := n.groups.get(id); return r, found },
		create: c.createGroup,
		update: func(_ *request, r netResource, d doc) error {
			g := r.(*secGroup)
			if g.name == "default" && d.has("name") && d.str("name") != "default" {
				return neutronErr(409, "SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
			}
			g.stateful = d.truth("stateful", g.stateful)
			return nil
		},
		remove: c.deleteGroup,
		mine:   func(q *request, r netResource) bool { return r.base().Project == q.project },
	}
}

func (c *Cloud) createGroup(_ *request, d doc) (netResource, error) {
	if d.str("name") == "default" {
		return nil, neutronErr(409, "SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
	}
	c.defaultGroup(d.str("project_id"))
	g := &secGroup{row: row{ID: newID(), Project: d.str("project_id")}, std: c.newStd(d), stateful: d.truth("stateful", true)}
	g.revision = 1
	c.network.groups.add(g)
	for _, family := range []string{"IPv4", "IPv6"} {
		c.addRule(&secRule{group: g.ID, direction: "egress", ethertype: family, noText: true}, g.Project)
	}
	return g, nil
}

func (c *Cloud) deleteGroup(q *request, r netResource) error {
	g := r.(*secGroup)
	if g.name == "default" && !q.admin {
		return neutronErr(409, "SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
	}
	if c.groupInUse(g) {
		return neutronErr(409, "SecurityGroupInUse", "Security Group "+g.ID+" in use.")
	}
	for _, rule := range c.rulesOf(g) {
		c.network.rules.remove(rule)
	}
	for _, rule := range slices.Clone(c.network.rules.all) {
		if rule.remoteGroup == g.ID {
			c.network.rules.remove(rule)
		}
	}
	c.network.groups.remove(g)
	return nil
}

func (c *Cloud) groupInUse(g *secGroup) bool {
	for _, p := range c.network.ports.of(g.Project) {
		if slices.Contains(p.groups, g.ID) {
			return true
		}
	}
	return false
}

func (r *secRule) attr(_ *Cloud, name string) any {
	switch name {
	case "description":
		if r.noText {
			return nil
		}
	case "security_group_id":
		return r.group
	case "ethertype":
		return r.ethertype
	case "direction":
		return r.direction
	case "protocol":
		return orNil(r.protocol)
	case "port_range_min":
		return intOrNil(r.min)
	case "port_range_max":
		return intOrNil(r.max)
	case "remote_ip_prefix":
		return orNil(r.prefix)
	case "normalized_cidr":
		if p, err := netip.ParsePrefix(r.prefix); err == nil {
			return p.Masked().String()
		}
		return nil
	case "remote_group_id":
		return orNil(r.remoteGroup)
	}
	v, _ := r.common(&r.row, name)
	return v
}

func intOrNil(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

func (c *Cloud) ruleKind() *netKind {
	n := &c.network
	return &netKind{
		one: "security_group_rule", many: "security_group_rules", notFound: "SecurityGroupRuleNotFound", missing: "Security group rule %s does not exist",
		attrs: []attr{{name: "id"}, {name: "tenant_id", kind: 's', post: true}, {name: "security_group_id", kind: 's', post: true}, {name: "ethertype", kind: 's', post: true},
			{name: "direction", kind: 's', post: true}, {name: "protocol", kind: 'x', post: true}, {name: "port_range_min", kind: 'i', post: true}, {name: "port_range_max", kind: 'i', post: true},
			{name: "remote_ip_prefix", kind: 's', post: true}, {name: "remote_address_group_id", kind: 's', post: true}, {name: "normalized_cidr"}, {name: "remote_group_id", kind: 's', post: true},
			{name: "description", kind: 's', post: true}, {name: "created_at"}, {name: "updated_at"}, {name: "revision_number"}, {name: "project_id", kind: 's', post: true}},
		all: func(q *request) []netResource {
			c.defaultGroup(q.project)
			if q.admin {
				return resources(n.rules.all)
			}
			return resources(n.rules.of(q.project))
		},
		get:    func(id string) (netResource, bool) { r, found := n.rules.get(id); return r, found },
		create: c.createRule,
		update: func(*request, netResource, doc) error { return nil },
		remove: func(_ *request, r netResource) error {
			if g, found := n.groups.get(r.(*secRule).group); found {
				c.touch(&g.std)
			}
			n.rules.remove(r.(*secRule))
			return nil
		},
		mine: func(q *request, r netResource) bool { return r.base().Project == q.project },
	}
}

func (c *Cloud) createRule(q *request, d doc) (netResource, error) {
	r := &secRule{std: c.newStd(d), group: d.str("security_group_id"), direction: d.str("direction"), ethertype: d.str("ethertype"), protocol: strings.ToLower(toText(d["protocol"])),
		prefix: d.str("remote_ip_prefix"), remoteGroup: d.str("remote_group_id")}
	if r.direction != "ingress" && r.direction != "egress" {
		return nil, badRequest("Invalid input for direction. Reason: " + r.direction + " is not in valid_values.")
	}
	if r.ethertype == "" {
		r.ethertype = "IPv4"
	}
	if r.ethertype != "IPv4" && r.ethertype != "IPv6" {
		return nil, neutronErr(400, "SecurityGroupRuleInvalidEtherType", "Security group rule for ethertype '"+r.ethertype+"' not supported. Allowed values are ['IPv4', 'IPv6'].")
	}
	g, found := c.network.groups.get(r.group)
	if !found || !q.admin && g.Project != q.project {
		return nil, neutronErr(404, "SecurityGroupNotFound", "Security group "+r.group+" does not exist")
	}
	if min, given := d.num("port_range_min"); given {
		r.min = &min
	}
	if max, given := d.num("port_range_max"); given {
		r.max = &max
	}
	if err := c.checkRule(q, r); err != nil {
		return nil, err
	}
	for _, other := range c.rulesOf(g) {
		if other.same(r) {
			return nil, neutronErr(409, "SecurityGroupRuleExists", "Security group rule already exists. Rule id is "+other.ID+".")
		}
	}
	c.touch(&g.std)
	return c.addRule(r, g.Project), nil
}

func (c *Cloud) checkRule(q *request, r *secRule) error {
	if r.protocol != "" && !validProtocol(r.protocol) {
		return neutronErr(400, "SecurityGroupRuleInvalidProtocol", "Security group rule protocol "+r.protocol+" not supported. Only protocol values [None, 'ah', 'dccp', 'egp', 'esp', 'gre', 'hopopt', 'icmp', 'igmp', 'ip', 'ipip', 'ipv6-encap', 'ipv6-frag', 'ipv6-icmp', 'icmpv6', 'ipv6-nonxt', 'ipv6-opts', 'ipv6-route', 'ospf', 'pgm', 'rsvp', 'sctp', 'tcp', 'udp', 'udplite', 'vrrp'] and integer representations [0 to 255] are supported.")
	}
	if (r.min != nil || r.max != nil) && r.protocol == "" {
		return neutronErr(400, "SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
	}
	if r.min != nil && r.max != nil && *r.min > *r.max && !strings.Contains(r.protocol, "icmp") {
		return neutronErr(400, "SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")
	}
	if r.prefix != "" {
		p, err := netip.ParsePrefix(r.prefix)
		if err != nil {
			a, err2 := netip.ParseAddr(r.prefix)
			if err2 != nil {
				return badRequest("Invalid input for remote_ip_prefix. Reason: '" + r.prefix + "' is not a valid IP subnet.")
			}
			p = netip.PrefixFrom(a, a.BitLen())
			r.prefix = p.String()
		}
		if p.Addr().Is4() != (r.ethertype == "IPv4") {
			return neutronErr(400, "SecurityGroupRuleParameterConflict", "Conflicting value ethertype "+r.ethertype+" for CIDR "+r.prefix)
		}
	}
	if r.prefix != "" && r.remoteGroup != "" {
		return neutronErr(400, "SecurityGroupMultipleRemoteEntites", "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.")
	}
	if r.remoteGroup != "" {
		if g, found := c.network.groups.get(r.remoteGroup); !found || !q.admin && g.Project != q.project {
			return neutronErr(404, "SecurityGroupNotFound", "Security group "+r.remoteGroup+" does not exist")
		}
	}
	return nil
}

func validProtocol(p string) bool {
	if n, err := strconv.Atoi(p); err == nil {
		return n >= 0 && n <= 255
	}
	return slices.Contains([]string{"any", "ah", "dccp", "egp", "esp", "gre", "hopopt", "icmp", "icmpv6", "igmp", "ip", "ipip", "ipv6-encap", "ipv6-frag",
		"ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite", "vrrp"}, p)
}

func (r *secRule) same(o *secRule) bool {
	eq := func(a, b *int) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
	return r.direction == o.direction && r.ethertype == o.ethertype && r.protocol == o.protocol && r.prefix == o.prefix && r.remoteGroup == o.remoteGroup && eq(r.min, o.min) && eq(r.max, o.max)
}
