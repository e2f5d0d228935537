package volume

import (
	"context"
	"net/http"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Which projects may use a private volume type is a list of Top's projects: those
// that an administrator named at Top, and those that a site's own list names,
// as far as they stand for a project of Top. A project that was named at Top gets its access
// at a site when it first needs the type there (Grant), since it may have no account there before.

// Accounts tell which project at a site stands for which of Top's.
type Accounts interface {
	Projects(ctx context.Context, site ident.SiteID) ([]registry.ProjectAccount, error)
}

// TypeProjects returns the projects that may use a private type, in order.
func TypeProjects(spec TypeSpec) []string {
	list := slices.Clone(spec.Projects)
	for _, there := range spec.There {
		list = append(list, there...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TypeVisible reports whether the caller may see a volume type: a private one is its projects' and the administrators'.
func TypeVisible(c sites.Caller, r *index.Resource) bool {
	var spec TypeSpec
	return c.Admin() || r.Decode(&spec) == nil && (spec.Public || slices.Contains(TypeProjects(spec), c.ProjectID))
}

// TypeAccess returns the projects that may use a private type; fault.NotFound for a public one, which has no list.
func (s *Service) TypeAccess(r *index.Resource) ([]string, error) {
	var spec TypeSpec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	if spec.Public {
		return nil, fault.New(fault.NotFound, "cascade/volume.TypeAccess", "Access list not available for public volume types.")
	}
	return TypeProjects(spec), nil
}

// AddTypeAccess lets a project use a private type.
func (s *Service) AddTypeAccess(ctx context.Context, c sites.Caller, id ident.TopID, project string) error {
	const op = "cascade/volume.AddTypeAccess"
	return s.core.Commit(ctx, c, "volume_type.add_access", func(tx *cascade.Tx) error {
		return changeType(tx, id, func(spec *TypeSpec) error {
			if err := private(*spec); err != nil {
				return err
			}
			if slices.Contains(TypeProjects(*spec), project) {
				return fault.New(fault.Conflict, op, "Volume type access for %s / %s combination already exists.", id, project)
			}
			spec.Projects = append(spec.Projects, project)
			return nil
		})
	})
}

// RemoveTypeAccess takes a private type from a project, at the sites as well: one that does not answer refuses it.
func (s *Service) RemoveTypeAccess(ctx context.Context, c sites.Caller, id ident.TopID, project string) error {
	r, err := s.core.Index.Get(ctx, id)
	if err != nil {
		return err
	}
	var spec TypeSpec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	if !slices.Contains(TypeProjects(spec), project) {
		return fault.New(fault.NotFound, "cascade/volume.RemoveTypeAccess", "Volume type access not found for %s / %s combination.", id, project)
	}
	bound, err := s.core.Bindings.OfTop(ctx, id)
	if err != nil {
		return err
	}
	for _, b := range bound {
		if b.Known() && slices.Contains(spec.There[b.Site], project) {
			if err := s.takeAccess(ctx, r, b.Site, b.BottomID, project); err != nil {
				return err
			}
		}
	}
	return s.core.Commit(ctx, c, "volume_type.remove_access", func(tx *cascade.Tx) error {
		return changeType(tx, id, func(spec *TypeSpec) error {
			gone := func(p string) bool { return p == project }
			spec.Projects = slices.DeleteFunc(spec.Projects, gone)
			for site := range spec.There {
				spec.There[site] = slices.DeleteFunc(spec.There[site], gone)
			}
			return nil
		})
	})
}

func (s *Service) takeAccess(ctx context.Context, r *index.Resource, site ident.SiteID, bottom ident.BottomID, project string) error {
	at, err := s.core.At(ctx, r, site)
	if err != nil {
		return err
	}
	accounts, err := s.accounts.Projects(ctx, site)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.ProjectID != project || a.BottomProjectID == "" {
			continue
		}
		if err := access(ctx, at.Adaptor, bottom, "removeProjectAccess", a.BottomProjectID); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}

func access(ctx context.Context, a sites.Adaptor, bottom ident.BottomID, action, project string) error {
	_, err := a.Do(ctx, sites.Request{
		Service: sites.BlockStorage, Method: http.MethodPost, Path: "types/" + string(bottom) + "/action",
		Body: sites.Body{action: sites.Body{"project": project}}, Idempotent: true,
	})
	return err
}

func private(spec TypeSpec) error {
	if spec.Public {
		return fault.New(fault.BadRequest, "cascade/volume", "Invalid volume type: Type access modification is not applicable to public volume type.")
	}
	return nil
}

func changeType(tx *cascade.Tx, id ident.TopID, fn func(*TypeSpec) error) error {
	r, err := tx.Load(id)
	if err != nil {
		return err
	}
	var spec TypeSpec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	if err := fn(&spec); err != nil {
		return err
	}
	if err := r.Encode(spec); err != nil {
		return err
	}
	return tx.Save(r)
}

var _ cascade.Granter = typeMaker{}

// Grant lets a project that may use a private type at Top use it at a site.
func (m typeMaker) Grant(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID, project string) error {
	var spec TypeSpec
	if err := r.Decode(&spec); err != nil || spec.Public || slices.Contains(spec.There[at.Site], project) {
		return err
	}
	if !slices.Contains(spec.Projects, project) {
		return nil // an administrator's volume: what the site says to it is the answer
	}
	there, err := at.ProjectOf(ctx, project)
	if err != nil {
		return err
	}
	if err := access(ctx, at.Adaptor, bottom, "addProjectAccess", there); err != nil && !fault.Is(err, fault.Conflict) { // it has it already
		return err
	}
	return m.core.Internal(ctx, func(tx *cascade.Tx) error {
		return changeType(tx, r.ID, func(spec *TypeSpec) error {
			if !slices.Contains(spec.There[at.Site], project) {
				spec.set(at.Site, append(spec.There[at.Site], project))
			}
			return nil
		})
	})
}

func (t *TypeSpec) set(site ident.SiteID, projects []string) {
	if t.There == nil {
		t.There = map[ident.SiteID][]string{}
	}
	slices.Sort(projects)
	if t.There[site] = slices.Compact(projects); len(projects) == 0 {
		delete(t.There, site)
	}
}

// listed reads which projects of Top a site's own list names, for each of its private types.
func (s *Service) listed(ctx context.Context, at cascade.At, there []sites.Object) (map[ident.BottomID][]string, error) {
	out := map[ident.BottomID][]string{}
	var tops map[string]string
	for _, o := range there {
		if public, _ := o.Body["is_public"].(bool); public {
			continue
		}
		if tops == nil {
			accounts, err := s.accounts.Projects(ctx, at.Site)
			if err != nil {
				return nil, err
			}
			tops = map[string]string{}
			for _, a := range accounts {
				tops[a.BottomProjectID] = a.ProjectID
			}
		}
		reply, err := at.Adaptor.Do(ctx, sites.Request{Service: sites.BlockStorage, Method: http.MethodGet, Path: "types/" + string(o.ID) + "/os-volume-type-access"})
		if fault.Is(err, fault.NotFound) {
			continue // gone, or public, since the list
		}
		if err != nil {
			return nil, err
		}
		out[o.ID] = []string{}
		list, _ := reply.Body["volume_type_access"].([]any)
		for _, item := range list {
			row, _ := item.(map[string]any)
			bottom, _ := row["project_id"].(string)
			if top, ours := tops[bottom]; ours && bottom != "" {
				out[o.ID] = append(out[o.ID], top)
			}
		}
	}
	return out, nil
}
