package compute

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

const (
	groupsPath = "/network/v2.0/security-groups"
	rulesPath  = "/network/v2.0/security-group-rules"
)

// groupNames are groups of the caller's by id, to name those that rules admit.
func (k *call) groupNames(groups []object) map[any]object {
	names := map[any]object{}
	for _, g := range groups {
		names[g["id"]] = object{"name": g["name"], "tenant_id": g["project_id"]}
	}
	return names
}

// oldGroup shows a security group as Nova did; a rule that admits a group which is gone is left out.
func (k *call) oldGroup(g object, names map[any]object) object {
	rules := []object{}
	list, _ := g["security_group_rules"].([]any)
	for _, item := range list {
		r, _ := item.(object)
		if r["direction"] != "ingress" {
			continue
		}
		if shown := k.oldRule(r, names); shown != nil {
			rules = append(rules, shown)
		}
	}
	return object{"id": g["id"], "name": g["name"], "description": g["description"], "tenant_id": g["project_id"], "rules": rules}
}

func (k *call) oldRule(r object, names map[any]object) object {
	protocol, _ := r["protocol"].(string)
	from, to := r["port_range_min"], r["port_range_max"]
	if protocol != "" && from == nil && to == nil {
		from, to = -1, -1
		if p := strings.ToLower(protocol); p == "tcp" || p == "udp" {
			from, to = 1, 65535
		}
	}
	out := object{
		"id": r["id"], "parent_group_id": r["security_group_id"], "ip_protocol": r["protocol"], "from_port": from, "to_port": to,
		"group": object{}, "ip_range": object{},
	}
	if other, _ := r["remote_group_id"].(string); other != "" {
		if names[other] == nil {
			g, err := k.one(http.MethodGet, groupsPath+"/"+other, "security_group", nil)
			if err != nil {
				return nil
			}
			names[other] = object{"name": g["name"], "tenant_id": g["project_id"]}
		}
		out["group"] = names[other]
		return out
	}
	prefix := r["remote_ip_prefix"]
	if prefix == nil { // nova/network/security_group_api.py, parse_cidr
		prefix = "0.0.0.0/0"
	}
	out["ip_range"] = object{"cidr": prefix}
	return out
}

func listGroupProxy(k *call) error {
	q := url.Values{"project_id": {k.caller.ProjectID}}
	if k.caller.Admin() && k.QueryParams().Has("all_tenants") {
		q = nil
	}
	list, err := k.many(groupsPath, "security_groups", q)
	if err != nil {
		return err
	}
	names := k.groupNames(list)
	out, err := cut(k, each(list, func(g object) object { return k.oldGroup(g, names) }))
	if err != nil {
		return err
	}
	slices.SortStableFunc(out, func(a, b object) int {
		return strings.Compare(text(a["tenant_id"])+"\x00"+text(a["name"]), text(b["tenant_id"])+"\x00"+text(b["name"]))
	})
	return k.ok(object{"security_groups": out})
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func (k *call) answerGroup(g object) error {
	return k.ok(object{"security_group": k.oldGroup(g, k.groupNames([]object{g}))})
}

func showGroupProxy(k *call) error {
	if err := uuid(k.id()); err != nil {
		return err
	}
	g, err := k.one(http.MethodGet, groupsPath+"/"+k.id(), "security_group", nil)
	if err != nil {
		return err
	}
	return k.answerGroup(g)
}

// uuid refuses what can be no id of Neutron's, as nova's validate_id does.
func uuid(id string) error {
	if len(strings.ReplaceAll(id, "-", "")) != 32 || strings.Trim(strings.ToLower(id), "0123456789abcdef-") != "" {
		return wire.BadRequest("Security group id should be uuid")
	}
	return nil
}

// groupBody is the name and description of a create or an update.
func (k *call) groupBody() (object, error) {
	m, _, err := wire.Object(k.Context, "security_group")
	if err != nil {
		return nil, err
	}
	out := object{}
	for _, key := range []string{"name", "description"} {
		var value *string
		if err := m.Take(key, &value); err != nil {
			return nil, err
		}
		if value == nil {
			return nil, wire.BadRequest("Invalid input received: %s is not a string or unicode", key)
		}
		if len(*value) > 255 {
			return nil, wire.BadRequest("Invalid input received: %s has %d characters, more than 255.", key, len(*value))
		}
		out[key] = *value
	}
	return object{"security_group": out}, nil
}

func createGroupProxy(k *call) error {
	body, err := k.groupBody()
	if err != nil {
		return err
	}
	g, err := k.one(http.MethodPost, groupsPath, "security_group", body)
	if err != nil {
		return err
	}
	return k.answerGroup(g)
}

func updateGroupProxy(k *call) error {
	if err := uuid(k.id()); err != nil {
		return err
	}
	body, err := k.groupBody()
	if err != nil {
		return err
	}
	g, err := k.one(http.MethodPut, groupsPath+"/"+k.id(), "security_group", body)
	if err != nil {
		return err
	}
	return k.answerGroup(g)
}

// remove deletes at a path of Neutron and answers 202.
func remove(path string) func(*call) error {
	return func(k *call) error {
		if err := uuid(k.id()); err != nil {
			return err
		}
		if _, err := k.elsewhere(http.MethodDelete, path+"/"+k.id(), nil, nil); err != nil {
			return err
		}
		return k.NoContent(http.StatusAccepted)
	}
}

// createRuleProxy makes an ingress rule, the only kind that Nova knew.
func createRuleProxy(k *call) error {
	m, _, err := wire.Object(k.Context, "security_group_rule")
	if err != nil {
		return err
	}
	var parent, group, cidr, protocol *string
	var from, to any
	err = m.TakeAll(wire.Field{Key: "parent_group_id", Into: &parent}, wire.Field{Key: "group_id", Into: &group}, wire.Field{Key: "cidr", Into: &cidr},
		wire.Field{Key: "ip_protocol", Into: &protocol}, wire.Field{Key: "from_port", Into: &from}, wire.Field{Key: "to_port", Into: &to})
	if err != nil {
		return err
	}
	rule, err := oldRuleBody(group, cidr, protocol, from, to)
	if err != nil {
		return err
	}
	if parent == nil {
		return wire.BadRequest("Security group id should be uuid")
	}
	if err := uuid(*parent); err != nil {
		return err
	}
	if _, err := k.one(http.MethodGet, groupsPath+"/"+*parent, "security_group", nil); err != nil {
		return err
	}
	rule["security_group_id"] = *parent
	r, err := k.one(http.MethodPost, rulesPath, "security_group_rule", object{"security_group_rule": rule})
	if err != nil {
		return err
	}
	return k.ok(object{"security_group_rule": k.oldRule(r, map[any]object{})})
}

// oldRuleBody is a rule for Neutron of Nova's members (nova/network/security_group_api.py, _new_ingress_rule).
func oldRuleBody(group, cidr, protocol *string, from, to any) (object, error) {
	out := object{"direction": "ingress", "ethertype": "IPv4"}
	low, lowErr := portOf(from)
	high, highErr := portOf(to)
	p := ""
	if protocol != nil {
		p = strings.ToLower(*protocol)
	}
	if group != nil {
		if err := uuid(*group); err != nil {
			return nil, err
		}
		out["remote_group_id"] = *group
		if from == nil && to == nil {
			low, high = -1, -1
			if p == "tcp" || p == "udp" {
				low, high = 1, 65535
			}
			from, to = low, high
		}
	} else {
		prefix := netip.MustParsePrefix("0.0.0.0/0")
		if cidr != nil && *cidr != "" {
			var err error
			if prefix, err = netip.ParsePrefix(*cidr); err != nil {
				return nil, wire.BadRequest("Invalid cidr %s.", *cidr)
			}
		}
		if prefix.Addr().Is6() {
			out["ethertype"] = "IPv6"
		}
		out["remote_ip_prefix"] = prefix.String()
	}
	switch {
	case p == "" || from == nil || to == nil:
		if group == nil {
			return nil, wire.BadRequest("Not enough parameters to build a valid rule.")
		}
		return out, nil
	case lowErr != nil || highErr != nil:
		return nil, wire.BadRequest("Invalid input received: To and From ports must be integers")
	case p != "tcp" && p != "udp" && p != "icmp":
		return nil, wire.BadRequest("Invalid IP protocol %s.", *protocol)
	case p != "icmp" && (low > high || low < 1 || high > 65535), p == "icmp" && (low < -1 || low > 255 || high < -1 || high > 255):
		return nil, wire.BadRequest("Invalid port range %d:%d.", low, high)
	}
	out["protocol"] = p
	if low != -1 {
		out["port_range_min"] = low
	}
	if high != -1 {
		out["port_range_max"] = high
	}
	return out, nil
}

// portOf takes a number, or one in a text, as clients send both.
func portOf(v any) (int, error) {
	if s, ok := v.(string); ok {
		v = json.RawMessage(strings.TrimSpace(s))
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return 0, fault.Wrap(fault.BadRequest, "top/compute", err)
	}
	n := 0
	if err := json.Unmarshal(raw, &n); err != nil {
		return 0, fault.Wrap(fault.BadRequest, "top/compute", err)
	}
	return n, nil
}
