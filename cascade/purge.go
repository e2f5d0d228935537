package cascade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// SiteRemover knows what Top holds at a site that is to be removed. It implements registry.Remover.
type SiteRemover struct {
	core *Core
	// Also runs in the transaction that forgets a site: what other packages keep by site.
	also []func(dbschema.Tx, ident.SiteID) error
	rows SiteRows
}

// SiteRows are the sites' own rows.
type SiteRows interface {
	// Removing reports whether the site is there and being removed.
	Removing(ctx context.Context, site ident.SiteID) (bool, error)
	// Drop takes the row away, once nothing is held at the site.
	Drop(ctx context.Context, site ident.SiteID) error
}

// NewSiteRemover returns a SiteRemover. Also runs, in order, wherever a site's records are dropped.
func NewSiteRemover(core *Core, also ...func(dbschema.Tx, ident.SiteID) error) *SiteRemover {
	return &SiteRemover{core: core, also: also}
}

// DropFrom says where the sites' own rows are, which a purge ends with. For set-up.
func (s *SiteRemover) DropFrom(rows SiteRows) { s.rows = rows }

// RegisterJobs adds the purge's kind of job.
func (s *SiteRemover) RegisterJobs(e *jobs.Engine) error { return jobs.Add(e, purgeWorker{s}) }

// Holdings counts what Top holds at the site, by kind; what was adopted is the site's own and not counted.
func (s *SiteRemover) Holdings(tx dbschema.Tx, site ident.SiteID) (map[sites.Kind]int, error) {
	counted, err := s.core.Bindings.CountSiteIn(tx, site)
	out := make(map[sites.Kind]int, len(counted))
	for k, n := range counted {
		out[k] = int(n)
	}
	return out, err
}

// Forget ends every row that lives at the site and drops its bindings; what is at the site stays there as it is.
func (s *SiteRemover) Forget(ctx context.Context, t dbschema.Tx, site ident.SiteID) error {
	if _, err := s.core.Bindings.ForgetSite(t, site); err != nil {
		return err
	}
	tx := &Tx{Tx: t, ctx: ctx, core: s.core}
	rows, err := s.core.Index.AtSiteIn(t, site)
	if err != nil {
		return err
	}
	for _, r := range rows {
		// An Ender of an earlier row may have ended this one.
		if r, err = tx.Load(r.ID); err != nil {
			return err
		}
		if r.State == index.Deleted {
			continue
		}
		if err := tx.End(r); err != nil {
			return fmt.Errorf("forget %s %s: %w", r.Kind, r.ID, err)
		}
	}
	return s.dropRecords(t, site)
}

func (s *SiteRemover) dropRecords(t dbschema.Tx, site ident.SiteID) error {
	for _, f := range s.also {
		if err := f(t, site); err != nil {
			return err
		}
	}
	return nil
}

// Purge enqueues the job that deletes everything at the site and then drops the site. It may be repeated: what an
// earlier one left is asked for again.
func (s *SiteRemover) Purge(ctx context.Context, tx dbschema.Tx, site ident.SiteID) error {
	_, err := jobs.Insert(ctx, tx, purgeArgs{Site: site}, jobs.Options{ResourceID: PurgeResource(site), MaxAttempts: purgeRounds})
	return err
}

type projectGoneArgs struct {
	Project string `json:"project"`
}

// Kind names the job.
func (projectGoneArgs) Kind() string { return "cascade.project_gone" }

// ProjectGone refuses, in the transaction that deletes a project, while resources of it are left; else it enqueues the job
// that ends what Top made for the project by itself, also at the sites. What is on its way out does not stand in the way:
// its tenant has deleted it and cannot see it any more, and the job waits for it.
func (c *Core) ProjectGone(ctx context.Context, tx dbschema.Tx, project string) error {
	left, err := c.Index.OfProjectIn(tx, project)
	if err != nil {
		return err
	}
	for _, r := range left {
		if !ownDefault(r) && r.State != index.Deleting {
			return fault.New(fault.Conflict, "cascade.ProjectGone", "Project %s still has resources, such as %s %s: delete them first.", project, r.Kind, r.ID)
		}
	}
	_, err = jobs.Insert(ctx, tx, projectGoneArgs{Project: project}, jobs.Options{ProjectID: project, ResourceID: "project/" + project, MaxAttempts: 1000})
	return err
}

// ownDefault tells what Top makes for each project by itself: its group "default" and the group's rules.
func ownDefault(r *index.Resource) bool {
	return r.Kind == sites.SecurityGroup && r.Name == "default" || r.Kind == sites.SecurityGroupRule
}

// Accounts are the projects' accounts at the sites.
type Accounts interface {
	ReleaseProject(ctx context.Context, site ident.SiteID, project string) error
	Sites(ctx context.Context) ([]registry.Site, error)
}

// ProjectCleaner ends what deleted projects leave.
type ProjectCleaner struct {
	core     *Core
	accounts Accounts
}

// NewProjectCleaner returns a ProjectCleaner.
func NewProjectCleaner(core *Core, accounts Accounts) *ProjectCleaner {
	return &ProjectCleaner{core: core, accounts: accounts}
}

// RegisterJobs adds the cleaner's kind of job.
func (p *ProjectCleaner) RegisterJobs(e *jobs.Engine) error { return jobs.Add(e, p) }

// Work ends the project's default group everywhere and then its account at every site; it may run twice.
func (p *ProjectCleaner) Work(ctx context.Context, job jobs.Job[projectGoneArgs]) error {
	project := job.Args.Project
	left := 0
	err := p.core.internal(ctx, func(tx *Tx) error {
		left = 0
		rows, err := p.core.Index.OfProjectIn(tx.Tx, project)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r, err = tx.Load(r.ID); err != nil { // a group's end ends its rules
				return err
			}
			if r.State == index.Deleted || r.Kind == sites.SecurityGroupRule {
				continue
			}
			left++
			if err := tx.Delete(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if left > 0 {
		return jobs.Snooze(purgePoll)
	}
	return p.release(ctx, project, job.CreatedAt)
}

func (p *ProjectCleaner) release(ctx context.Context, project string, since time.Time) error {
	list, err := p.accounts.Sites(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i := range list {
		errs = append(errs, p.accounts.ReleaseProject(ctx, list[i].Name, project))
	}
	return p.core.outcome(errors.Join(errs...), since)
}
