package emulator

import (
	"maps"
	"slices"
)

// Sharing of networks by policies. A network that is shared with everybody has one policy, whose id is the
// network's own; other kinds of object and of action are not there.

const rbacShared = "access_as_shared"

func rbacView(n *network, id, target string) object {
	return object{{"id", id}, {"project_id", n.Project}, {"tenant_id", n.Project}, {"object_type", "network"}, {"object_id", n.ID}, {"action", rbacShared}, {"target_tenant", target}}
}

// listRBAC shows an administrator all policies, others those of their own networks.
func (c *Cloud) listRBAC(q *request) (*reply, error) {
	out := []object{}
	for _, n := range c.network.networks.all {
		if !q.admin && n.Project != q.project {
			continue
		}
		var all []object
		if n.shared {
			all = append(all, rbacView(n, n.ID, "*"))
		}
		for _, project := range slices.Sorted(maps.Keys(n.grants)) {
			all = append(all, rbacView(n, n.grants[project], project))
		}
		for _, one := range all {
			if rbacMatches(q, one) {
				out = append(out, one)
			}
		}
	}
	return ok(object{{"rbac_policies", out}})
}

func rbacMatches(q *request, one object) bool {
	for _, m := range one {
		if want := q.query[m.K]; len(want) > 0 && !slices.Contains(want, toText(m.V)) {
			return false
		}
	}
	return true
}

func (c *Cloud) createRBAC(q *request) (*reply, error) {
	d := q.body.sub("rbac_policy")
	n, found := c.network.networks.get(d.str("object_id"))
	target := d.str("target_tenant")
	switch {
	case d.str("object_type") != "network" || d.str("action") != rbacShared || target == "":
		return nil, badRequest("Invalid input for object_type. Reason: the emulator shares networks only.")
	case !found || !n.seenBy(q):
		return nil, neutronErr(404, "NetworkNotFound", "Network "+d.str("object_id")+" could not be found.")
	case !q.admin && n.Project != q.project:
		return nil, neutronErr(400, "InvalidInput", "Invalid input for operation: Cannot share what is not owned by the project.")
	case target == "*" && !q.admin:
		return nil, denied("(rule:create_rbac_policy and rule:create_rbac_policy:target_tenant)")
	case target == "*" && n.shared || n.grants[target] != "":
		return nil, neutronErr(409, "DuplicateRBACPolicy", "An RBAC policy already exists with those values.")
	case target == "*":
		n.shared = true
		return made(object{{"rbac_policy", rbacView(n, n.ID, "*")}})
	}
	if n.grants == nil {
		n.grants = map[string]string{}
	}
	n.grants[target] = newID()
	return made(object{{"rbac_policy", rbacView(n, n.grants[target], target)}})
}

func (c *Cloud) deleteRBAC(q *request) (*reply, error) {
	id := q.path("id")
	for _, n := range c.network.networks.all {
		if !q.admin && n.Project != q.project {
			continue
		}
		if n.shared && n.ID == id {
			n.shared = false
			return noContent()
		}
		for project, policy := range n.grants {
			if policy == id {
				delete(n.grants, project)
				return noContent()
			}
		}
	}
	return nil, neutronErr(404, "RbacPolicyNotFound", "RBAC policy of type "+id+" not found.")
}
