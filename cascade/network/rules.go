package network

import (
	"context"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// CreateRules adds rules to security groups, all or none.
func (s *Service) CreateRules(ctx context.Context, caller sites.Caller, list []Fields) ([]*index.Resource, error) {
	var rows []*index.Resource
	err := s.core.Commit(ctx, caller, "security_group_rule.create", func(tx *cascade.Tx) error {
		rows = nil
		for _, f := range list {
			r, err := s.createRule(tx, f)
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	return rows, err
}

func (s *Service) createRule(tx *cascade.Tx, f Fields) (*index.Resource, error) {
	id, _ := f["security_group_id"].(string)
	group, err := own(tx, sites.SecurityGroup, id)
	if err != nil {
		return nil, err
	}
	spec := RuleSpec{Ethertype: "IPv4"}
	if err := overlay(&spec, f); err != nil {
		return nil, err
	}
	if spec.RemoteGroup != "" {
		remote, err := find(tx, sites.SecurityGroup, string(spec.RemoteGroup))
		if err != nil {
			return nil, err
		}
		spec.RemoteGroup = remote.ID
	}
	if err := checkRule(&spec); err != nil {
		return nil, err
	}
	rules, err := s.core.Index.Children(tx.Tx, group.ID, string(sites.SecurityGroupRule))
	if err != nil {
		return nil, err
	}
	for _, other := range rules {
		o, err := SpecOf[RuleSpec](other)
		if err != nil {
			return nil, err
		}
		if tupleOf(&o, string(o.RemoteGroup)) == tupleOf(&spec, string(spec.RemoteGroup)) {
			return nil, conflict("SecurityGroupRuleExists", "Security group rule already exists. Rule id is %s.", other.ID)
		}
	}
	text, _ := f["description"].(string)
	r, err := s.insertRule(tx, group, spec, text)
	if err != nil {
		return nil, err
	}
	return r, tx.Changed(group)
}

func (s *Service) insertRule(tx *cascade.Tx, group *index.Resource, spec RuleSpec, description string) (*index.Resource, error) {
	r := index.New(sites.SecurityGroupRule, tx.Caller, "")
	r.ProjectID, r.ParentID, r.State, r.Description = group.ProjectID, group.ID, index.Live, description
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	refs := []index.Ref{{To: group.ID, Role: "rule_of"}}
	if spec.RemoteGroup != "" {
		refs = append(refs, index.Ref{To: spec.RemoteGroup, Role: "remote_group"})
	}
	return r, tx.Insert(r, refs...)
}

// DeleteRule takes a rule from its group.
func (s *Service) DeleteRule(ctx context.Context, caller sites.Caller, c Change) error {
	return s.core.Commit(ctx, caller, "security_group_rule.delete", func(tx *cascade.Tx) error {
		r, err := changing(tx, sites.SecurityGroupRule, c)
		if err != nil {
			return err
		}
		return s.endRule(tx, r)
	})
}

func (s *Service) endRule(tx *cascade.Tx, rule *index.Resource) error {
	if rule.State == index.Deleted {
		return nil
	}
	if err := tx.Delete(rule); err != nil {
		return err
	}
	group, err := tx.Load(rule.ParentID)
	if err != nil || group.State != index.Live {
		return err
	}
	return tx.Changed(group)
}

// protocols are the names that Neutron takes, with their IANA numbers.
var protocols = map[string]string{
	"ah": "51", "dccp": "33", "egp": "8", "esp": "50", "gre": "47", "hopopt": "0", "icmp": "1", "igmp": "2", "ip": "0", "ipip": "4",
	"ipv6-encap": "41", "ipv6-frag": "44", "ipv6-icmp": "58", "icmpv6": "58", "ipv6-nonxt": "59", "ipv6-opts": "60", "ipv6-route": "43",
	"ospf": "89", "pgm": "113", "rsvp": "46", "sctp": "132", "tcp": "6", "udp": "17", "udplite": "136", "vrrp": "112",
}

// checkRule validates and normalizes a rule as Neutron does (securitygroups_db._validate_security_group_rule).
func checkRule(r *RuleSpec) error {
	if r.Direction != "ingress" && r.Direction != "egress" {
		return badRequest("Invalid input for direction. Reason: '%s' is not in ['ingress', 'egress'].", r.Direction)
	}
	if strings.EqualFold(r.Ethertype, "ipv4") {
		r.Ethertype = "IPv4"
	} else if strings.EqualFold(r.Ethertype, "ipv6") {
		r.Ethertype = "IPv6"
	} else {
		return badRequest("Security group rule for ethertype '%s' not supported. Allowed values are ['IPv4', 'IPv6'].", r.Ethertype)
	}
	if r.Prefix != nil && r.RemoteGroup != "" {
		return typed(fault.BadRequest, "SecurityGroupMultipleRemoteEntites", "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.")
	}
	if err := checkPrefix(r); err != nil {
		return err
	}
	return checkProtocol(r)
}

func checkPrefix(r *RuleSpec) error {
	if r.Prefix == nil {
		return nil
	}
	text := *r.Prefix
	if a, err := netip.ParseAddr(text); err == nil {
		text = netip.PrefixFrom(a, a.BitLen()).String()
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return badRequest("Invalid input for remote_ip_prefix. Reason: '%s' is not a valid IP subnet.", *r.Prefix)
	}
	if p.Addr().Is4() != (r.Ethertype == "IPv4") {
		return typed(fault.BadRequest, "SecurityGroupRuleParameterConflict", "Conflicting value ethertype %s for CIDR %s", r.Ethertype, *r.Prefix)
	}
	r.Prefix = &text
	return nil
}

func checkProtocol(r *RuleSpec) error {
	number := ""
	if r.Protocol != nil {
		name := strings.ToLower(*r.Protocol)
		switch n, err := strconv.Atoi(name); {
		case name == "any" || name == "":
			r.Protocol = nil
		case protocols[name] != "":
			number, r.Protocol = protocols[name], &name
		case err != nil || n < 0 || n > 255:
			return typed(fault.BadRequest, "SecurityGroupRuleInvalidProtocol", "Security group rule protocol %s not supported. Only protocol values [%s] and integer representations [0 to 255] are supported.", *r.Protocol, protocolNames())
		default:
			number = name
		}
	}
	return checkPorts(r, number)
}

func protocolNames() string {
	return "ah, dccp, egp, esp, gre, hopopt, icmp, icmpv6, igmp, ip, ipip, ipv6-encap, ipv6-frag, ipv6-icmp, ipv6-nonxt, ipv6-opts, ipv6-route, ospf, pgm, rsvp, sctp, tcp, udp, udplite, vrrp"
}

func checkPorts(r *RuleSpec, number string) error {
	if r.PortMin == nil && r.PortMax == nil {
		return nil
	}
	switch number {
	case "":
		return typed(fault.BadRequest, "SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
	case "1", "58":
		for _, f := range []struct {
			field, attr string
			value       *int
		}{{"type", "port_range_min", r.PortMin}, {"code", "port_range_max", r.PortMax}} {
			if f.value != nil && (*f.value < 0 || *f.value > 255) {
				return typed(fault.BadRequest, "SecurityGroupInvalidIcmpValue", "Invalid value for ICMP %s (%s) %d. It must be 0 to 255.", f.field, f.attr, *f.value)
			}
		}
		if r.PortMin == nil {
			return typed(fault.BadRequest, "SecurityGroupMissingIcmpType", "ICMP code (port-range-max) %d is provided but ICMP type (port-range-min) is missing.", *r.PortMax)
		}
		return nil
	case "6", "17", "33", "132", "136":
		if r.PortMin == nil || r.PortMax == nil || *r.PortMin < 1 || *r.PortMax > 65535 || *r.PortMin > *r.PortMax {
			return typed(fault.BadRequest, "SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")
		}
		return nil
	default:
		return typed(fault.BadRequest, "SecurityGroupInvalidProtocolForPort", "Invalid protocol %s for port range, only supported for TCP, UDP, UDPLITE, SCTP and DCCP.", *r.Protocol)
	}
}

// tuple is what makes two rules the same.
type tuple struct {
	direction, ethertype, protocol, min, max, prefix, group string
}

// tupleOf returns the tuple of a rule whose remote group has the given id there. Protocols count by number, and an all-matching prefix as none.
func tupleOf(r *RuleSpec, group string) tuple {
	t := tuple{direction: r.Direction, ethertype: r.Ethertype, group: group}
	if r.Protocol != nil {
		t.protocol = *r.Protocol
		if n := protocols[strings.ToLower(t.protocol)]; n != "" {
			t.protocol = n
		}
		if t.protocol == "1" && r.Ethertype == "IPv6" {
			t.protocol = "58" // Neutron stores icmp of IPv6 as icmpv6
		}
	}
	if r.PortMin != nil {
		t.min = strconv.Itoa(*r.PortMin)
	}
	if r.PortMax != nil {
		t.max = strconv.Itoa(*r.PortMax)
	}
	if r.Prefix != nil {
		if p, err := netip.ParsePrefix(*r.Prefix); err == nil {
			t.prefix = p.Masked().String()
		}
	}
	return t
}

// wanted is a rule as it is to be at a site.
type wanted struct {
	id    ident.TopID
	tuple tuple
	body  sites.Body
}

// diffRules says which rules a site lacks and which bottom rules are too many. Equal bottom rules count once.
func diffRules(want []wanted, have map[ident.BottomID]tuple) (add []wanted, remove []ident.BottomID) {
	there := map[tuple]bool{}
	needed := map[tuple]bool{}
	for _, w := range want {
		needed[w.tuple] = true
	}
	for id, t := range have {
		if !needed[t] || there[t] {
			remove = append(remove, id)
		}
		there[t] = true
	}
	for _, w := range want {
		if !there[w.tuple] {
			add = append(add, w)
			there[w.tuple] = true
		}
	}
	return add, remove
}

// ensureRules pushes a group's rules unless the site has those of the group's present generation.
func (s *Service) ensureRules(ctx context.Context, id ident.TopID, at cascade.At) error {
	r, err := s.core.Index.Get(ctx, id)
	if err != nil {
		return err
	}
	b, err := s.core.Bindings.Get(ctx, id, at.Site)
	if err != nil || !b.Known() || b.Detail == rulesDetail(r) {
		return err
	}
	return s.pushRules(ctx, r, at, b.BottomID)
}

// rulesDetail is the note in a binding that says which rules the site has.
func rulesDetail(r *index.Resource) string {
	return `{"rules":` + strconv.FormatInt(r.Generation, 10) + `}`
}

// pushRules makes the rules at a site those of the group. Groups that they name are made there first, without their own rules: those follow when a port needs them.
func (s *Service) pushRules(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	want, err := s.wantedRules(ctx, r, at, bottom)
	if err != nil {
		return err
	}
	have := map[ident.BottomID]tuple{}
	err = at.Adaptor.List(ctx, sites.SecurityGroupRule, sites.Query{Params: url.Values{"security_group_id": {string(bottom)}}}, func(o sites.Object) error {
		if o.Text("security_group_id") == string(bottom) {
			have[o.ID] = bottomTuple(o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	add, remove := diffRules(want, have)
	for _, w := range add {
		_, err := at.Adaptor.Create(ctx, sites.SecurityGroupRule, w.body, sites.CreateOptions{Marker: w.id})
		if err != nil && !fault.Is(err, fault.Conflict) { // it exists already: an earlier answer was lost
			return err
		}
	}
	for _, id := range remove {
		if err := at.Adaptor.Delete(ctx, sites.SecurityGroupRule, id); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return s.core.Internal(ctx, func(tx *cascade.Tx) error {
		b, err := s.core.Bindings.GetIn(tx.Tx, r.ID, at.Site)
		if err != nil || b == nil {
			return err
		}
		b.Detail = rulesDetail(r)
		return s.core.Bindings.Note(tx.Tx, b)
	})
}

func (s *Service) wantedRules(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) ([]wanted, error) {
	rules, err := s.core.Index.List(ctx, index.Query{Kind: sites.SecurityGroupRule, Project: r.ProjectID, In: map[index.Field][]string{index.ByParent: {string(r.ID)}}})
	if err != nil {
		return nil, err
	}
	var want []wanted
	for _, rule := range rules {
		spec, err := SpecOf[RuleSpec](rule)
		if err != nil {
			return nil, err
		}
		remote := ident.BottomID("")
		switch spec.RemoteGroup {
		case "":
		case r.ID:
			remote = bottom
		default:
			if remote, err = s.core.Ensure(ctx, at.Site, spec.RemoteGroup); err != nil {
				return nil, err
			}
		}
		want = append(want, wanted{rule.ID, tupleOf(&spec, string(remote)), ruleBody(&spec, bottom, remote)})
	}
	return want, nil
}

func ruleBody(r *RuleSpec, group, remote ident.BottomID) sites.Body {
	body := sites.Body{"security_group_id": group, "direction": r.Direction, "ethertype": r.Ethertype}
	if r.Protocol != nil {
		body["protocol"] = *r.Protocol
	}
	if r.PortMin != nil {
		body["port_range_min"] = *r.PortMin
	}
	if r.PortMax != nil {
		body["port_range_max"] = *r.PortMax
	}
	if r.Prefix != nil {
		body["remote_ip_prefix"] = *r.Prefix
	}
	if remote != "" {
		body["remote_group_id"] = remote
	}
	return withExtra(body, r.Extra)
}

func bottomTuple(o sites.Object) tuple {
	r := RuleSpec{Direction: o.Text("direction"), Ethertype: o.Text("ethertype")}
	if p := o.Text("protocol"); p != "" {
		r.Protocol = &p
	}
	if p := o.Text("remote_ip_prefix"); p != "" {
		r.Prefix = &p
	}
	r.PortMin, r.PortMax = number(o.Body["port_range_min"]), number(o.Body["port_range_max"])
	return tupleOf(&r, o.Text("remote_group_id"))
}

// number reads a JSON number of whatever Go type; nil when it is none.
func number(v any) *int {
	switch n := v.(type) {
	case float64:
		i := int(n)
		return &i
	case int:
		return &n
	case interface{ Int64() (int64, error) }: // json.Number
		if i, err := n.Int64(); err == nil {
			small := int(i)
			return &small
		}
	}
	return nil
}

// ruleMaker only counts rules: they come to sites with their group.
type ruleMaker struct{}

// Needs returns nothing.
func (ruleMaker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body is not used: a rule is never made by itself.
func (ruleMaker) Body(context.Context, *index.Resource, cascade.At) (sites.Body, error) {
	return nil, fault.New(fault.Internal, "cascade/network", "a rule is made with its group")
}

// Usage is the quota.
func (ruleMaker) Usage(*index.Resource) map[string]int64 {
	return map[string]int64{"security_group_rule": 1}
}
