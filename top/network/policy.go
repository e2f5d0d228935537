package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// rule is Neutron's default policy for naming an attribute. A create asks for it
// when the value is not the attribute's default, an update whenever the attribute is there. What real
// Neutron says to members and administrators is in testdata/verdicts.json, and a test compares.
type rule struct {
	name  string // of the rule of Top's own policy that stands for it
	owner bool   // who owns the port's network may as well
	// notPut takes that from an update.
	notPut bool
	// unless, when set, tells the values that a create may have without being asked.
	unless func(v any) bool
	// always, when set, tells the values that nobody is asked for.
	always func(v any) bool
	// members, when set, are the members of the value that are asked for, one by one, instead of the whole.
	members []string
}

func isFalse(v any) bool { return v == false }
func isNull(v any) bool  { return v == nil }

// givesNoAddress tells a list of fixed IPs that leaves the addresses to Neutron.
func givesNoAddress(v any) bool {
	list, _ := v.([]any)
	return !slices.ContainsFunc(list, func(item any) bool {
		m, _ := item.(map[string]any)
		return m["ip_address"] != nil
	})
}

// ordinaryOwner tells the owners of devices that are not the network's own.
func ordinaryOwner(v any) bool {
	s, _ := v.(string)
	return !strings.HasPrefix(s, "network:")
}

// asked returns what of an attribute's value the rule asks for: "" for the whole, or names of members.
func (r *rule) asked(post bool, v any) []string {
	if r.always != nil && r.always(v) || post && r.unless != nil && r.unless(v) {
		return nil
	}
	if r.members == nil {
		return []string{""}
	}
	var out []string
	m, _ := v.(map[string]any)
	for _, name := range r.members {
		if _, ok := m[name]; ok {
			out = append(out, name)
		}
	}
	return out
}

// allowed asks for the rules of the attributes that a request names. Network is the project that owns the port's network.
func (col *collection) allowed(who *auth.Who, verb string, f map[string]any, network func() (string, error)) error {
	post := verb == "create"
	for _, name := range slices.Sorted(maps.Keys(f)) {
		r := col.attrs[name].rule
		if r == nil {
			continue
		}
		parts := r.asked(post, f[name])
		if len(parts) == 0 || who.Require(r.name, "") == nil {
			continue
		}
		if r.owner && (post || !r.notPut) {
			project, err := network()
			if err != nil {
				return err
			}
			if project != "" && project == who.Caller().ProjectID {
				continue
			}
		}
		return denied(verb+"_"+col.singular, name, parts)
	}
	return nil
}

// denied is Neutron's refusal to let an attribute, or members of one, be named.
func denied(action, attribute string, members []string) error {
	base := "rule:" + action
	text := base + ":" + attribute
	if members[0] != "" {
		all := []string{text + ":network_id"}
		for _, m := range members {
			all = append(all, text+":"+m)
		}
		text = fmt.Sprintf("(%s and (%s))", text, strings.Join(all, " and "))
	}
	return faultjson.Typed("PolicyNotAuthorized", fault.New(fault.Forbidden, "top/network", "(%s and %s) is disallowed by policy", base, text))
}

// ownerOf returns who owns the network that a new port names.
func (h *Handler) ownerOf(c echo.Context, f map[string]any) func() (string, error) {
	return func() (string, error) {
		id, _ := f["network_id"].(string)
		n, err := h.service.Find(c.Request().Context(), auth.From(c).Caller(), sites.Network, id)
		if err != nil {
			return "", err
		}
		return n.ProjectID, nil
	}
}
