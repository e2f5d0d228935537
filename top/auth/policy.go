package auth

import (
	"errors"
	"fmt"
	"sort"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// The roles that rules ask for. Admin implies member, member implies reader.
const (
	Admin  = "admin"
	Member = "member"
	Reader = "reader"
)

// Rules says which role each rule asks for, by the rule's name. Names are
// "verb_noun" as OpenStack's policies have them: create_server, get_network.
// Each service has its table beside its routes.
type Rules map[string]string

// Policy judges who may do what. It never changes.
type Policy struct{ rules Rules }

// NewPolicy joins the default rules and the services' tables and applies the operator's
// overrides, rule to role. It reports everything that is wrong at once: an
// override of a rule that nobody has, an empty role, two tables that disagree.
func NewPolicy(overrides map[string]string, tables ...Rules) (*Policy, error) {
	p := &Policy{rules: Rules{}}
	var errs []error
	for _, table := range append([]Rules{DefaultRules()}, tables...) {
		for name, role := range table {
			if old, ok := p.rules[name]; ok && old != role {
				errs = append(errs, fmt.Errorf("rule %s: asks for %s in one table and %s in another", name, old, role))
			}
			p.rules[name] = role
		}
	}
	for name, role := range overrides {
		switch _, known := p.rules[name]; {
		case !known:
			errs = append(errs, fmt.Errorf("policy %s: there is no such rule", name))
		case role == "":
			errs = append(errs, fmt.Errorf("policy %s: the role is empty", name))
		default:
			p.rules[name] = role
		}
	}
	if len(errs) > 0 {
		sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// Names returns the rules' names in order.
func (p *Policy) Names() []string {
	names := make([]string, 0, len(p.rules))
	for name := range p.rules {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Role returns the role that a rule asks for, or "" when there is no such rule.
func (p *Policy) Role(rule string) string { return p.rules[rule] }

func (p *Policy) check(c sites.Caller, rule, projectID string) error {
	role, ok := p.rules[rule]
	if !ok {
		return fault.New(fault.Internal, "top/auth.Require", "there is no rule %s", rule)
	}
	if c.Admin() {
		return nil
	}
	if !c.Has(role) || projectID != "" && projectID != c.ProjectID {
		return fault.New(fault.Forbidden, "top/auth.Require", "Policy doesn't allow %s to be performed.", rule)
	}
	return nil
}

// DefaultRules returns the rules that follow the house's pattern: get_ for readers, create_,
// update_ and delete_ for members, and the exceptions that only an administrator may.
func DefaultRules() Rules {
	rules := Rules{}
	for _, noun := range []string{
		"server", "server_metadata", "server_tag", "server_group", "keypair", "interface", "volume_attachment",
		"image", "image_data", "image_member", "image_tag",
		"network", "subnet", "port", "router", "security_group", "security_group_rule", "floatingip", "subnetpool", "address_group",
		"volume", "volume_metadata", "snapshot", "snapshot_metadata", "backup", "volume_transfer",
		"plan", "checkpoint", "restore", "scheduled_operation", "trigger",
	} {
		rules["get_"+noun] = Reader
		for _, verb := range []string{"create_", "update_", "delete_"} {
			rules[verb+noun] = Member
		}
	}
	for _, noun := range []string{"flavor", "flavor_access", "volume_type", "quota", "aggregate", "service", "provider"} {
		rules["get_"+noun] = Reader
		for _, verb := range []string{"create_", "update_", "delete_"} {
			rules[verb+noun] = Admin
		}
	}
	for name, role := range exceptions {
		rules[name] = role
	}
	return rules
}

// exceptions are the rules that the pattern does not make, or makes wrongly.
var exceptions = Rules{
	"act_on_server":        Member, // start, stop, reboot, resize, rebuild, rescue and their like
	"get_console":          Member, // a console is a keyboard, not a look
	"act_on_volume":        Member,
	"add_router_interface": Member, "remove_router_interface": Member,
	"get_availability_zone": Reader, "get_limits": Reader, "get_extension": Reader, "get_usage": Reader,
	"get_hypervisor": Admin, "get_aggregate": Admin, "get_service": Admin, "get_flavor_access": Admin, "get_volume_type_access": Admin,
	"get_agent":        Admin,
	"get_all_projects": Admin, // list what belongs to every project
	"create_for_other": Admin, // make something that another project shall own
	"publicize_image":  Admin,
	"share_network":    Admin,
	"external_network": Admin,
	"provider_network": Admin,
	"reset_state":      Admin,
	"force_delete":     Member,
	"migrate_server":   Admin,
	"get_admin_fields": Admin,
}
