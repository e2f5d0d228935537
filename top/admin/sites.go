package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// siteRoutes registers what is done with sites.
func (h *Handler) siteRoutes(api huma.API) {
	tags := []string{"Sites"}
	handle(api, huma.Operation{OperationID: "list-sites", Method: http.MethodGet, Path: "/sites", Tags: tags, Summary: "List sites",
		Description: "Operators see every site; others see the enabled ones in a short form.",
		Metadata:    map[string]any{roleKey: "reader"}}, h.listSites)
	handle(api, huma.Operation{OperationID: "show-site", Method: http.MethodGet, Path: "/sites/{name}", Tags: tags, Summary: "Show a site"}, h.showSite)
	handle(api, huma.Operation{OperationID: "add-site", Method: http.MethodPost, Path: "/sites", Tags: tags, Summary: "Add a site",
		DefaultStatus: http.StatusCreated,
		Description: "Logs in at the site, probes it, and registers it. A refusal names every reason in problems. " +
			"With dry_run nothing is stored and the answer is 200."}, h.addSite)
	handle(api, huma.Operation{OperationID: "update-site", Method: http.MethodPatch, Path: "/sites/{name}", Tags: tags, Summary: "Change a site",
		Description: "Enables, disables or drains it, or replaces its account, which is tried and probed first. " +
			"With dry_run only the account is tried and nothing is stored."}, h.updateSite)
	handle(api, huma.Operation{OperationID: "remove-site", Method: http.MethodDelete, Path: "/sites/{name}", Tags: tags, Summary: "Remove a site",
		DefaultStatus: http.StatusNoContent,
		Description: "A site that holds nothing goes at once (204). One that does needs to be told what becomes of it: " +
			"keep leaves the resources where they are and forgets them (204); purge deletes them first (202), which removal of the site shows. " +
			"Purge again asks again for what a site did not delete."}, h.removeSite)
	handle(api, huma.Operation{OperationID: "probe-site", Method: http.MethodPost, Path: "/sites/{name}/probe", Tags: tags, Summary: "Probe a site again",
		Description: "Reads what the site offers. When it offers less than before, nothing is stored and lost says what is gone, unless accept is given."}, h.probeSite)
}

// SiteName is the part of a path that names a site. It is exported because huma sets only exported embedded fields.
type SiteName struct {
	Name string `path:"name" maxLength:"31" example:"east"`
}

func (n SiteName) id() ident.SiteID { return ident.SiteID(n.Name) }

type listSitesOutput struct {
	Body struct {
		Sites []siteView `json:"sites"`
	}
}

func (h *Handler) listSites(ctx context.Context, _ *struct{}) (*listSitesOutput, error) {
	all, err := h.cfg.Sites.Sites(ctx)
	if err != nil {
		return nil, err
	}
	out := &listSitesOutput{}
	out.Body.Sites = []siteView{}
	operator := caller(ctx).Admin()
	for i := range all {
		switch {
		case operator:
			out.Body.Sites = append(out.Body.Sites, operatorView(&all[i], false))
		case all[i].Enabled && all[i].State == registry.Active:
			out.Body.Sites = append(out.Body.Sites, summary(&all[i]))
		}
	}
	return out, nil
}

type siteOutput struct {
	Body struct {
		Site siteView `json:"site"`
	}
}

func (h *Handler) showSite(ctx context.Context, in *SiteName) (*siteOutput, error) {
	site, err := h.cfg.Sites.Site(ctx, in.id())
	if err != nil {
		return nil, err
	}
	out := &siteOutput{}
	out.Body.Site = operatorView(&site, true)
	out.Body.Site.Removal, err = h.removal(ctx, &site)
	return out, err
}

// removal tells of the newest purge of a site that is being removed.
func (h *Handler) removal(ctx context.Context, site *registry.Site) (*removalView, error) {
	if site.State != registry.Removing {
		return nil, nil //nolint:nilnil // nothing to tell
	}
	list, err := h.cfg.Jobs.List(ctx, jobs.Filter{Kind: cascade.PurgeKind, ResourceID: cascade.PurgeResource(site.Name), Limit: 1})
	if err != nil || len(list) == 0 || list[0].CreatedAt.Before(site.Created) { // one of an earlier site of the name
		return nil, err
	}
	held, err := h.cfg.Sites.Holdings(ctx, site.Name)
	if err != nil {
		return nil, err
	}
	purge := &list[0]
	v := &removalView{JobID: int64(purge.ID), State: "working", Began: purge.CreatedAt, Remains: held, Reason: purge.LastError()}
	if v.Remains == nil {
		v.Remains = map[sites.Kind]int{}
	}
	if purge.State == jobs.Failed || purge.State == jobs.Cancelled {
		v.State = "failed"
	}
	return v, nil
}

type addSiteInput struct {
	DryRun bool `query:"dry_run" doc:"Check everything, store nothing."`
	Body   struct {
		Name       string         `json:"name" doc:"Lower-case letters, digits and hyphens; it becomes the name of a region and of a zone and never changes." example:"east"`
		Credential credentialBody `json:"credential"`
		Tenancy    string         `json:"tenancy,omitempty" enum:"project,static,shared" doc:"How projects appear at the site; when empty, project if the account is an administrator there, else shared."`
		Disabled   bool           `json:"disabled,omitempty" doc:"Do not use it yet."`
	}
}

type reportOutput struct {
	Status int
	Body   struct {
		Report reportView `json:"report"`
	}
}

func (h *Handler) addSite(ctx context.Context, in *addSiteInput) (*reportOutput, error) {
	report, err := h.cfg.Sites.Add(ctx, registry.Spec{
		Name: ident.SiteID(in.Body.Name), Credential: in.Body.Credential.credential(),
		Tenancy: sites.Tenancy(in.Body.Tenancy), Disabled: in.Body.Disabled,
	}, in.DryRun)
	if err != nil {
		return nil, refused(ctx, &report, err)
	}
	out := &reportOutput{Status: http.StatusCreated}
	if in.DryRun {
		out.Status = http.StatusOK
	}
	out.Body.Report = viewReport(&report, in.DryRun)
	return out, nil
}

// refused is a refusal with the report's problems.
func refused(ctx context.Context, report *registry.Report, err error) error {
	p := refusal(ctx, err)
	p.Problems = report.Problems
	return p
}

type updateSiteInput struct {
	SiteName
	DryRun bool `query:"dry_run" doc:"Try the account, store nothing."`
	Body   struct {
		Enabled    *bool           `json:"enabled,omitempty"`
		Draining   *bool           `json:"draining,omitempty" doc:"Place nothing new there; what is there goes on."`
		Credential *credentialBody `json:"credential,omitempty"`
	}
}

func (h *Handler) updateSite(ctx context.Context, in *updateSiteInput) (*siteOutput, error) {
	reg := h.cfg.Sites
	if in.Body.Credential != nil {
		report, err := reg.SetCredential(ctx, in.id(), in.Body.Credential.credential(), in.DryRun)
		if err != nil {
			return nil, refused(ctx, &report, err)
		}
	}
	if in.Body.Enabled != nil && !in.DryRun {
		if err := reg.SetEnabled(ctx, in.id(), *in.Body.Enabled); err != nil {
			return nil, err
		}
	}
	if in.Body.Draining != nil && !in.DryRun {
		if err := reg.SetDraining(ctx, in.id(), *in.Body.Draining); err != nil {
			return nil, err
		}
	}
	return h.showSite(ctx, &in.SiteName)
}

type removeSiteInput struct {
	SiteName
	Resources string `query:"resources" enum:"keep,purge" doc:"What becomes of what Top made there."`
}

type removeSiteOutput struct{ Status int }

func (h *Handler) removeSite(ctx context.Context, in *removeSiteInput) (*removeSiteOutput, error) {
	gone, err := h.cfg.Sites.Remove(ctx, in.id(), registry.Fate(in.Resources))
	if err != nil {
		return nil, err
	}
	if !gone {
		return &removeSiteOutput{Status: http.StatusAccepted}, nil
	}
	return &removeSiteOutput{Status: http.StatusNoContent}, nil
}

type probeSiteInput struct {
	SiteName
	Accept bool `query:"accept" doc:"Store the result also when the site offers less than before."`
}

type probeSiteOutput struct {
	Body struct {
		Lost string   `json:"lost,omitempty" doc:"What the site had at the last probe and lacks now; it was stored only if accepted."`
		Site siteView `json:"site"`
	}
}

func (h *Handler) probeSite(ctx context.Context, in *probeSiteInput) (*probeSiteOutput, error) {
	found, err := h.cfg.Sites.Probe(ctx, in.id(), in.Accept)
	if err != nil {
		return nil, err
	}
	site, err := h.cfg.Sites.Site(ctx, in.id())
	if err != nil {
		return nil, err
	}
	out := &probeSiteOutput{}
	out.Body.Lost = found.Lost
	out.Body.Site = operatorView(&site, true)
	return out, nil
}
