package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

const defaultGroup = "default"

// derived returns the id of a resource that there can be one of only: always the same for the same parts, so that two requests cannot make two.
func derived(parts ...string) ident.TopID {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	b := h.Sum(nil)[:16]
	b[6] = b[6]&0x0f | 0x80 // version 8: made by our own rule (RFC 9562)
	b[8] = b[8]&0x3f | 0x80
	t := hex.EncodeToString(b)
	return ident.TopID(t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:])
}

// defaultID is the id of the n-th group "default" of a project: the next one when an administrator deleted the one before.
func defaultID(project string, n int) ident.TopID {
	return derived("default security group", project, strconv.Itoa(n))
}

// DefaultGroup returns the project's security group "default", recording it on
// first use with the rules that Neutron gives it. It is Top's own: a site's group of that name is never used (cascade/README.md: Default groups).
func (s *Service) DefaultGroup(tx *cascade.Tx, project string) (*index.Resource, error) {
	for n := 0; ; n++ {
		r, err := tx.Load(defaultID(project, n))
		switch {
		case fault.Is(err, fault.NotFound):
			return s.insertDefault(tx, project, defaultID(project, n))
		case err != nil:
			return nil, err
		case r.State != index.Deleted && r.State != index.Deleting:
			return r, nil
		}
	}
}

// EnsureDefaultGroup records the caller's project's default group if it has none yet: Neutron has made it before the first list.
func (s *Service) EnsureDefaultGroup(ctx context.Context, caller sites.Caller) error {
	if caller.ProjectID == "" {
		return nil
	}
	if r, err := s.core.Index.Get(ctx, defaultID(caller.ProjectID, 0)); err == nil && r.State == index.Live {
		return nil
	}
	return s.core.Commit(ctx, caller, "security_group.create", func(tx *cascade.Tx) error {
		_, err := s.DefaultGroup(tx, caller.ProjectID)
		return err
	})
}

func (s *Service) insertDefault(tx *cascade.Tx, project string, id ident.TopID) (*index.Resource, error) {
	r := index.New(sites.SecurityGroup, tx.Caller, defaultGroup)
	r.ID, r.ProjectID, r.State, r.Description = id, project, index.Live, "Default security group"
	if err := r.Encode(GroupSpec{Stateful: true}); err != nil {
		return nil, err
	}
	if err := tx.Insert(r); err != nil {
		return nil, err
	}
	for _, version := range []string{"IPv4", "IPv6"} {
		for _, rule := range []RuleSpec{{Direction: "egress", Ethertype: version}, {Direction: "ingress", Ethertype: version, RemoteGroup: id}} {
			if _, err := s.insertRule(tx, r, rule, ""); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// CreateGroups records security groups with the two rules that let everything out.
func (s *Service) CreateGroups(ctx context.Context, caller sites.Caller, list []Fields) ([]*index.Resource, error) {
	var rows []*index.Resource
	err := s.core.Commit(ctx, caller, "security_group.create", func(tx *cascade.Tx) error {
		rows = nil
		for _, f := range list {
			r, err := s.insertGroup(tx, f)
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	return rows, err
}

func (s *Service) insertGroup(tx *cascade.Tx, f Fields) (*index.Resource, error) {
	spec := GroupSpec{Stateful: true}
	if err := overlay(&spec, f); err != nil {
		return nil, err
	}
	r := newRow(sites.SecurityGroup, tx.Caller, f)
	if r.Name == defaultGroup {
		return nil, conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
	}
	if _, err := s.DefaultGroup(tx, r.ProjectID); err != nil {
		return nil, err
	}
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	if err := tx.Insert(r); err != nil {
		return nil, err
	}
	for _, version := range []string{"IPv4", "IPv6"} {
		if _, err := s.insertRule(tx, r, RuleSpec{Direction: "egress", Ethertype: version}, ""); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// UpdateGroup changes a security group; the default one keeps its name.
func (s *Service) UpdateGroup(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	return s.update(ctx, caller, "security_group.update", sites.SecurityGroup, c, func(tx *cascade.Tx, r *index.Resource) error {
		before, err := tx.Load(r.ID)
		if err != nil {
			return err
		}
		if before.Name == defaultGroup && r.Name != defaultGroup {
			return conflict("SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
		}
		if before.Name != defaultGroup && r.Name == defaultGroup {
			return conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
		}
		spec, err := SpecOf[GroupSpec](r)
		if err != nil {
			return err
		}
		stateful := spec.Stateful
		if err := overlay(&spec, c.Fields); err != nil {
			return err
		}
		if spec.Stateful != stateful {
			users, err := s.users(tx, r.ID)
			if err != nil {
				return err
			}
			if len(users) > 0 {
				return conflict("SecurityGroupInUse", "Security Group %s in use.", r.ID)
			}
		}
		return r.Encode(spec)
	})
}

// users returns the ports that a group holds.
func (s *Service) users(tx *cascade.Tx, group ident.TopID) ([]ident.TopID, error) {
	refs, err := s.core.Index.UsedByIn(tx.Tx, group, "group")
	if err != nil {
		return nil, err
	}
	var out []ident.TopID
	for _, ref := range refs {
		p, err := tx.Load(ref.From)
		if err != nil {
			return nil, err
		}
		if p.State != index.Deleting && p.State != index.Deleted {
			out = append(out, p.ID)
		}
	}
	return out, nil
}

// DeleteGroup ends a security group with its rules, and the rules of other groups that name it; SecurityGroupInUse while a port has it.
func (s *Service) DeleteGroup(ctx context.Context, caller sites.Caller, c Change) error {
	return s.core.Commit(ctx, caller, "security_group.delete", func(tx *cascade.Tx) error {
		r, err := changing(tx, sites.SecurityGroup, c)
		if err != nil {
			return err
		}
		if r.Name == defaultGroup && !caller.Admin() {
			return conflict("SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
		}
		users, err := s.users(tx, r.ID)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return conflict("SecurityGroupInUse", "Security Group %s in use.", r.ID)
		}
		if err := s.dropRules(tx, r); err != nil {
			return err
		}
		return tx.Delete(r)
	})
}

func (s *Service) dropRules(tx *cascade.Tx, group *index.Resource) error {
	rules, err := s.core.Index.Children(tx.Tx, group.ID, string(sites.SecurityGroupRule))
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if err := tx.Delete(rule); err != nil {
			return err
		}
	}
	named, err := s.core.Index.UsedByIn(tx.Tx, group.ID, "remote_group")
	if err != nil {
		return err
	}
	for _, ref := range named {
		rule, err := tx.Load(ref.From)
		if err != nil {
			return err
		}
		if rule.ParentID == group.ID {
			continue
		}
		if err := s.endRule(tx, rule); err != nil {
			return err
		}
	}
	return nil
}

// groupMaker makes security groups at sites, as many as their ports need.
type groupMaker struct{ *Service }

// Needs returns nothing: the groups that rules name are ensured with the rules, since they may name each other.
func (groupMaker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body is the group without its rules.
func (groupMaker) Body(_ context.Context, r *index.Resource, _ cascade.At) (sites.Body, error) {
	spec, err := SpecOf[GroupSpec](r)
	if err != nil {
		return nil, err
	}
	name := r.Name
	if name == defaultGroup {
		name = "hw-" + defaultGroup // the site keeps the name for a group of its own
	}
	body := sites.Body{"name": name}
	if !spec.Stateful {
		body["stateful"] = false
	}
	return withExtra(body, spec.Extra), nil
}

// Change pushes the name and the rules.
func (m groupMaker) Change(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) error {
	body, err := m.Body(ctx, r, at)
	if err != nil {
		return err
	}
	if _, err := at.Adaptor.Update(ctx, sites.SecurityGroup, bottom, body); err != nil {
		return err
	}
	return m.pushRules(ctx, r, at, bottom)
}

// Remove waits for ports that are still going.
func (m groupMaker) Remove(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID) (bool, error) {
	return m.removePatiently(ctx, r, at, bottom)
}

// Observe changes nothing: all of a group is Top's.
func (groupMaker) Observe(context.Context, *index.Resource, cascade.At, sites.Object) error {
	return nil
}

// Usage is the quota.
func (groupMaker) Usage(*index.Resource) map[string]int64 {
	return map[string]int64{"security_group": 1}
}
