package compute

import (
	"net/http"
	"slices"
	"strconv"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

func (k *call) serverGroup(g *engine.Group) object {
	members := []string{}
	for _, m := range g.Members {
		members = append(members, string(m))
	}
	o := object{"id": g.ID, "name": g.Name, "members": members}
	if k.v.AtLeast(13) {
		o["project_id"], o["user_id"] = g.ProjectID, g.UserID
	}
	if !k.v.AtLeast(64) {
		o["policies"], o["metadata"] = []string{g.Spec.Policy}, object{}
		return o
	}
	rules := object{}
	if g.Spec.MaxPerHost > 0 {
		rules["max_server_per_host"] = g.Spec.MaxPerHost
	}
	o["policy"], o["rules"] = g.Spec.Policy, rules
	return o
}

func listServerGroups(k *call) error {
	p, err := k.page()
	if err != nil {
		return err
	}
	offset := 0
	if text := k.QueryParam("offset"); text != "" {
		if offset, err = strconv.Atoi(text); err != nil || offset < 0 {
			return wire.BadRequest("offset param must be a positive integer")
		}
	}
	list, err := k.h.service.Groups(k.ctx(), k.caller, k.QueryParams().Has("all_projects"), p.Limit, offset)
	if err != nil {
		return err
	}
	out := make([]object, len(list))
	for i, g := range list {
		out[i] = k.serverGroup(g)
	}
	return k.ok(object{"server_groups": out})
}

func showServerGroup(k *call) error {
	g, err := k.h.service.Group(k.ctx(), k.caller, k.Param("id"))
	if err != nil {
		return groupNotFound(err, k.Param("id"))
	}
	return k.ok(object{"server_group": k.serverGroup(g)})
}

func groupNotFound(err error, id string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "top/compute", "Instance group %s could not be found.", id)
	}
	return err
}

func createServerGroup(k *call) error {
	m, err := k.object("server_group")
	if err != nil {
		return err
	}
	var name *string
	var policies []string
	var spec engine.GroupSpec
	var rules struct {
		Max *wire.Int `json:"max_server_per_host"`
	}
	fields := []wire.Field{{Key: "name", Into: &name}}
	if k.v.AtLeast(64) {
		fields = append(fields, wire.Field{Key: "policy", Into: &spec.Policy}, wire.Field{Key: "rules", Into: &rules})
	} else {
		fields = append(fields, wire.Field{Key: "policies", Into: &policies})
	}
	if err := checkAll(m.TakeAll(fields...), closed(m), checkName("name", name)); err != nil {
		return err
	}
	if !k.v.AtLeast(64) {
		if len(policies) != 1 {
			return wire.BadRequest("Invalid input for field/attribute policies. Exactly one policy is needed")
		}
		spec.Policy = policies[0]
	}
	allowed := []string{"affinity", "anti-affinity"}
	if k.v.AtLeast(15) {
		allowed = append(allowed, "soft-affinity", "soft-anti-affinity")
	}
	switch {
	case name == nil:
		return wire.BadRequest("Invalid input for field/attribute server_group. 'name' is a required property")
	case !slices.Contains(allowed, spec.Policy):
		return wire.Invalid("policy", spec.Policy)
	case rules.Max != nil && (spec.Policy != "anti-affinity" || *rules.Max < 1):
		return wire.BadRequest("Only anti-affinity policy supports rules.")
	}
	if rules.Max != nil {
		spec.MaxPerHost = int64(*rules.Max)
	}
	g, err := k.h.service.CreateGroup(k.ctx(), k.caller, *name, spec)
	if err != nil {
		return err
	}
	return k.ok(object{"server_group": k.serverGroup(g)})
}

func deleteServerGroup(k *call) error {
	if err := k.h.service.DeleteGroup(k.ctx(), k.caller, k.Param("id")); err != nil {
		return groupNotFound(err, k.Param("id"))
	}
	return k.NoContent(http.StatusNoContent)
}
