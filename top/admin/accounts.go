package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// zoneRoutes registers what is done with a site's zones.
func (h *Handler) zoneRoutes(api huma.API) {
	tags := []string{"Zones"}
	handle(api, huma.Operation{OperationID: "list-zones", Method: http.MethodGet, Path: "/sites/{name}/zones", Tags: tags,
		Summary: "List a site's zones"}, h.listZones)
	handle(api, huma.Operation{OperationID: "edit-zones", Method: http.MethodPut, Path: "/sites/{name}/zones", Tags: tags,
		Summary: "Edit a site's zones",
		Description: "Replaces all edits: the zones given stand whatever a probe finds, every other is what the last probe found. " +
			"The answer lists the zones that result."}, h.editZones)
}

type zonesOutput struct {
	Body struct {
		Zones []zoneView `json:"zones"`
	}
}

func (h *Handler) listZones(ctx context.Context, in *SiteName) (*zonesOutput, error) {
	site, err := h.cfg.Sites.Site(ctx, in.id())
	if err != nil {
		return nil, err
	}
	out := &zonesOutput{}
	out.Body.Zones = viewZones(site.Zones)
	return out, nil
}

type editZonesInput struct {
	SiteName
	Body struct {
		Zones []zoneView `json:"zones" maxItems:"1000"`
	}
}

func (h *Handler) editZones(ctx context.Context, in *editZonesInput) (*zonesOutput, error) {
	edits := make([]registry.Zone, len(in.Body.Zones))
	for i, z := range in.Body.Zones {
		edits[i] = registry.Zone{Top: z.Zone, Service: sites.Service(z.Service), Bottom: z.Bottom}
	}
	zones, err := h.cfg.Sites.EditZones(ctx, in.id(), edits)
	if err != nil {
		return nil, err
	}
	out := &zonesOutput{}
	out.Body.Zones = viewZones(zones)
	return out, nil
}

// projectRoutes registers what is done with the accounts of projects at a site.
func (h *Handler) projectRoutes(api huma.API) {
	tags := []string{"Site accounts"}
	const one = "/sites/{name}/projects/{project_id}"
	handle(api, huma.Operation{OperationID: "list-site-projects", Method: http.MethodGet, Path: "/sites/{name}/projects", Tags: tags,
		Summary: "List the accounts of projects at a site"}, h.listProjects)
	handle(api, huma.Operation{OperationID: "set-site-project", Method: http.MethodPut, Path: one, Tags: tags,
		Summary:     "Give a project its account at a site",
		Description: "For sites of tenancy static. The account is tried first. Two projects cannot share one."}, h.setProject)
	handle(api, huma.Operation{OperationID: "remove-site-project", Method: http.MethodDelete, Path: one, Tags: tags,
		Summary:     "Take a project's account at a site away",
		Description: "For accounts that an operator gave; nothing is changed at the site."}, h.removeProject)
}

type projectView struct {
	ProjectID       string    `json:"project_id"`
	BottomProjectID string    `json:"bottom_project_id" doc:"The project at the site; empty while it is being made."`
	BottomUserID    string    `json:"bottom_user_id"`
	State           string    `json:"state" enum:"pending,ready,releasing"`
	Made            bool      `json:"made" doc:"By Top, which removes it too."`
	CreatedAt       time.Time `json:"created_at"`
	UpdatedAt       time.Time `json:"updated_at"`
}

func viewProject(p registry.ProjectAccount) projectView {
	return projectView{ProjectID: p.ProjectID, BottomProjectID: p.BottomProjectID, BottomUserID: p.BottomUserID,
		State: p.State, Made: p.Made, CreatedAt: p.Created, UpdatedAt: p.Updated}
}

type projectsOutput struct {
	Body struct {
		Projects []projectView `json:"projects"`
	}
}

func (h *Handler) listProjects(ctx context.Context, in *SiteName) (*projectsOutput, error) {
	list, err := h.cfg.Sites.Projects(ctx, in.id())
	if err != nil {
		return nil, err
	}
	out := &projectsOutput{}
	out.Body.Projects = []projectView{}
	for _, p := range list {
		out.Body.Projects = append(out.Body.Projects, viewProject(p))
	}
	return out, nil
}

// ProjectPath is the part of a path that names a project at a site.
type ProjectPath struct {
	SiteName
	ProjectID string `path:"project_id" maxLength:"64" pattern:"^[0-9a-zA-Z-]+$"`
}

type setProjectInput struct {
	ProjectPath
	Body struct {
		Credential credentialBody `json:"credential"`
	}
}

type projectOutput struct {
	Body struct {
		Project projectView `json:"project"`
	}
}

func (h *Handler) setProject(ctx context.Context, in *setProjectInput) (*projectOutput, error) {
	p, err := h.cfg.Sites.SetProject(ctx, in.id(), in.ProjectID, in.Body.Credential.credential())
	if err != nil {
		return nil, err
	}
	out := &projectOutput{}
	out.Body.Project = viewProject(p)
	return out, nil
}

func (h *Handler) removeProject(ctx context.Context, in *ProjectPath) (*struct{}, error) {
	list, err := h.cfg.Sites.Projects(ctx, in.id())
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		switch {
		case p.ProjectID != in.ProjectID:
		case p.Made:
			return nil, fault.New(fault.Conflict, "top/admin", "site %s: Top made the account of project %s and removes it with the project", in.Name, in.ProjectID)
		default:
			return nil, h.cfg.Sites.ReleaseProject(ctx, in.id(), in.ProjectID)
		}
	}
	return nil, fault.New(fault.NotFound, "top/admin", "site %s: project %s has no account there", in.Name, in.ProjectID)
}
