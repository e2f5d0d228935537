package compute

import (
	"context"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// GroupSpec is the desired state of a server group.
type GroupSpec struct {
	Policy     string `json:"policy"` // affinity, anti-affinity, soft-affinity, soft-anti-affinity
	MaxPerHost int64  `json:"max_server_per_host,omitempty"`
}

// Group is a server group with its members.
type Group struct {
	*index.Resource
	Spec    GroupSpec
	Members []ident.TopID
}

// Group returns one server group of the caller's project.
func (s *Service) Group(ctx context.Context, caller sites.Caller, id string) (*Group, error) {
	r, err := s.core.Index.Find(ctx, caller, sites.ServerGroup, id)
	if err != nil {
		return nil, err
	}
	return s.group(ctx, r)
}

func (s *Service) group(ctx context.Context, r *index.Resource) (*Group, error) {
	g := &Group{Resource: r}
	if err := r.Decode(&g.Spec); err != nil {
		return nil, err
	}
	users, err := s.core.Index.UsedBy(ctx, r.ID, roleMember)
	for _, u := range users {
		g.Members = append(g.Members, u.From)
	}
	return g, err
}

// Groups lists the server groups of the caller's project, of all for an administrator who asks.
func (s *Service) Groups(ctx context.Context, caller sites.Caller, all bool, limit, offset int) ([]*Group, error) {
	rows, err := s.core.Index.List(ctx, index.Query{
		Kind: sites.ServerGroup, Project: caller.ProjectID, AllProjects: all && caller.Admin(), Sort: []index.Sort{{Field: index.ByCreated}},
	})
	if err != nil {
		return nil, err
	}
	rows = rows[min(offset, len(rows)):]
	if limit > 0 {
		rows = rows[:min(limit, len(rows))]
	}
	out := make([]*Group, len(rows))
	for i, r := range rows {
		if out[i], err = s.group(ctx, r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// CreateGroup records a server group. A site gets it with its first member there.
func (s *Service) CreateGroup(ctx context.Context, caller sites.Caller, name string, spec GroupSpec) (*Group, error) {
	g := &Group{Resource: index.New(sites.ServerGroup, caller, name), Spec: spec}
	g.State = index.Live
	if err := g.Encode(&g.Spec); err != nil {
		return nil, err
	}
	err := s.core.Commit(ctx, caller, "server_group.create", func(tx *cascade.Tx) error { return tx.Insert(g.Resource) })
	return g, err
}

// DeleteGroup ends a server group; its members stay.
func (s *Service) DeleteGroup(ctx context.Context, caller sites.Caller, id string) error {
	g, err := s.Group(ctx, caller, id)
	if err != nil {
		return err
	}
	return s.core.Commit(ctx, caller, "server_group.delete", func(tx *cascade.Tx) error {
		r, err := tx.Load(g.ID)
		if err != nil {
			return err
		}
		return tx.Delete(r)
	})
}

// memberTies keeps a group of policy affinity at the site of its first member.
func (s *Service) memberTies(ctx context.Context, r *index.Resource) ([]placement.Tie, error) {
	g, err := s.group(ctx, r)
	if err != nil || g.Spec.Policy != "affinity" {
		return nil, err
	}
	rows, err := s.core.Index.GetAll(ctx, g.Members)
	if err != nil {
		return nil, err
	}
	for _, id := range g.Members {
		if m := rows[id]; m != nil && m.State != index.Failed && m.State != index.Deleted {
			return []placement.Tie{{ID: m.ID, Kind: m.Kind, Site: m.Site}}, nil
		}
	}
	return nil, nil
}

// groupMaker makes server groups at sites.
type groupMaker struct{ *Service }

var _ cascade.Usage = groupMaker{}

// Needs returns nothing: a group stands alone.
func (groupMaker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body returns the create request; the name is the marker.
func (groupMaker) Body(_ context.Context, r *index.Resource, _ cascade.At) (sites.Body, error) {
	var spec GroupSpec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	body := sites.Body{"policy": spec.Policy}
	if spec.MaxPerHost > 0 {
		body["rules"] = sites.Body{"max_server_per_host": spec.MaxPerHost}
	}
	return body, nil
}

// Usage is one group of the project's quota.
func (groupMaker) Usage(*index.Resource) map[string]int64 {
	return map[string]int64{"server_groups": 1}
}
