package registry

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// ProjectAccount is the account of a Top project at a site, without its secret.
type ProjectAccount struct {
	Site            ident.SiteID
	ProjectID       string // Top's
	BottomProjectID string // "" while pending
	BottomUserID    string
	State           string // pending, ready or releasing
	Made            bool   // by Top
	Created         time.Time
	Updated         time.Time
}

// ensureLimit bounds the making of a project at a site.
const ensureLimit = 90 * time.Second

// DefaultQuota is the native limit set of a project that Top makes: none. Top
// enforces the tenant's quota itself; a site's default of ten servers must not
// refuse what Top accepted.
func DefaultQuota() map[sites.Service]map[string]int64 {
	unlimited := func(names ...string) map[string]int64 {
		m := make(map[string]int64, len(names))
		for _, n := range names {
			m[n] = -1
		}
		return m
	}
	return map[sites.Service]map[string]int64{
		sites.Compute: unlimited("instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups", "server_group_members"),
		sites.NetworkSvc: unlimited("network", "subnet", "port", "router", "floatingip",
			"security_group", "security_group_rule"),
		sites.BlockStorage: unlimited("volumes", "snapshots", "gigabytes", "backups", "backup_gigabytes"),
	}
}

// ensure makes the account of a project at a site of tenancy "project". It may
// be asked for by many at once and repeated after a crash: names are fixed, and
// the password is stored before the site learns it, so everybody sets the same one.
func (r *Registry) ensure(ctx context.Context, site Site, projectID string) (dbschema.SiteProject, error) {
	done := r.flight.DoChan("project "+string(site.Name)+" "+projectID, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ensureLimit)
		defer cancel()
		return r.makeProject(ctx, site, projectID)
	})
	select {
	case <-ctx.Done():
		return dbschema.SiteProject{}, fmt.Errorf("make project %s at site %s: %w", projectID, site.Name, ctx.Err())
	case got := <-done:
		if got.Err != nil {
			return dbschema.SiteProject{}, got.Err
		}
		return got.Val.(dbschema.SiteProject), nil
	}
}

func (r *Registry) makeProject(ctx context.Context, site Site, projectID string) (dbschema.SiteProject, error) {
	row, err := r.pending(ctx, site.Name, projectID)
	if err != nil || row.State == projectReady {
		return row, err
	}
	if row.BottomProjectID, row.BottomUserID, err = r.atSite(ctx, site, row); err != nil {
		return row, err
	}
	now := r.stamp()
	won, err := r.store.ready(ctx, row, now)
	if err != nil {
		return row, err
	}
	if won {
		r.log.InfoContext(ctx, "project made at site", "site", site.Name, "project_id", projectID, "bottom_id", row.BottomProjectID)
	}
	// Another replica may have been faster, with the same ids; or the account is being removed again.
	row, found, err := r.store.project(r.cfg.DB.Read(ctx), site.Name, projectID)
	if err == nil && (!found || row.State != projectReady) {
		err = &fault.Error{Op: "sites/registry.Tenant", Site: string(site.Name), Kind: fault.Conflict,
			Msg: fmt.Sprintf("site %s: the account of project %s was removed meanwhile", site.Name, projectID)}
	}
	return row, err
}

// pending returns the row of a project's account, stored with a fresh password when there was none.
func (r *Registry) pending(ctx context.Context, site ident.SiteID, projectID string) (dbschema.SiteProject, error) {
	id, box, err := r.seal(sites.Credential{Password: newPassword()}, projectUse(string(site), projectID))
	if err != nil {
		return dbschema.SiteProject{}, err
	}
	now := r.stamp()
	return r.store.offer(ctx, dbschema.SiteProject{
		Site: string(site), ProjectID: projectID, Credential: box, KeyID: id, Version: now.UnixMicro(),
		State: projectPending, Made: true, CreatedAt: now, UpdatedAt: now,
	})
}

// atSite makes or finds the project and its member at the site and sets the limits.
func (r *Registry) atSite(ctx context.Context, site Site, row dbschema.SiteProject) (projectID, userID string, err error) {
	maker, err := r.maker(ctx, site.Name)
	if err != nil {
		return "", "", err
	}
	cred, err := r.open(row.KeyID, row.Credential, projectUse(row.Site, row.ProjectID))
	if err != nil {
		return "", "", err
	}
	top := ident.TopID(row.ProjectID)
	projectID, userID, err = maker.EnsureProject(ctx, sites.MarkedName(top), sites.MarkerText(top), cred.Password)
	if err != nil {
		return "", "", fmt.Errorf("make project %s: %w", row.ProjectID, err)
	}
	limits := maps.Clone(r.cfg.Quota)
	maps.DeleteFunc(limits, func(s sites.Service, _ map[string]int64) bool {
		_, ok := site.Capabilities.Services[s]
		return !ok
	})
	if len(limits) > 0 {
		if err := maker.SetQuota(ctx, projectID, limits); err != nil {
			return "", "", fmt.Errorf("set the limits of project %s: %w", row.ProjectID, err)
		}
	}
	return projectID, userID, nil
}

// maker returns the project maker of a site.
func (r *Registry) maker(ctx context.Context, site ident.SiteID) (sites.ProjectMaker, error) {
	s, err := r.admin(ctx, site)
	if err != nil {
		return nil, err
	}
	for _, a := range []sites.Adaptor{s.adaptor, s.bare} {
		if m, ok := sites.As[sites.ProjectMaker](a); ok {
			return m, nil
		}
	}
	return nil, &fault.Error{Op: "sites/registry", Site: string(site), Kind: fault.NotImplemented,
		Msg: fmt.Sprintf("site %s: its adaptor cannot make projects", site)}
}

// ReleaseProject removes the account of a project at a site, and what Top made
// of it there: the user and the project. Its resources must be gone. It may be
// repeated; a project without an account there is no error.
func (r *Registry) ReleaseProject(ctx context.Context, site ident.SiteID, projectID string) error {
	row, found, err := r.store.project(r.cfg.DB.Read(ctx), site, projectID)
	if err != nil || !found {
		return err
	}
	if err := r.store.releasing(ctx, site, projectID, r.stamp()); err != nil {
		return err
	}
	r.drop(site, projectID)
	if row.Made {
		if err := r.unmake(ctx, site, row); err != nil {
			return err
		}
	}
	if err := r.store.removeProject(ctx, site, projectID); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "project released at site", "site", site, "project_id", projectID)
	return nil
}

func (r *Registry) unmake(ctx context.Context, name ident.SiteID, row dbschema.SiteProject) error {
	maker, err := r.maker(ctx, name)
	if err != nil {
		return err
	}
	if row.BottomProjectID == "" {
		// A crash may have hidden that it was made: find it by making it again.
		site, err := r.Site(ctx, name)
		if err != nil {
			return err
		}
		if row.BottomProjectID, row.BottomUserID, err = r.atSite(ctx, site, row); err != nil {
			return err
		}
	}
	err = maker.DeleteProject(ctx, row.BottomProjectID, row.BottomUserID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("remove project %s: %w", row.ProjectID, err)
	}
	return nil
}

// HasAccount reports whether a project has an account at a site that can be used: under the tenancy static the operator gave it one.
func (r *Registry) HasAccount(ctx context.Context, site ident.SiteID, project string) (bool, error) {
	row, found, err := r.store.project(r.cfg.DB.Read(ctx), site, project)
	return found && row.State == projectReady, err
}

// Projects returns the accounts at a site, by project.
func (r *Registry) Projects(ctx context.Context, site ident.SiteID) ([]ProjectAccount, error) {
	if _, err := r.Site(ctx, site); err != nil {
		return nil, err
	}
	rows, err := r.store.projects(ctx, site)
	if err != nil {
		return nil, err
	}
	list := make([]ProjectAccount, len(rows))
	for i, row := range rows {
		list[i] = projectAccount(row)
	}
	return list, nil
}

func projectAccount(row dbschema.SiteProject) ProjectAccount {
	return ProjectAccount{
		Site: ident.SiteID(row.Site), ProjectID: row.ProjectID, BottomProjectID: row.BottomProjectID,
		BottomUserID: row.BottomUserID, State: row.State, Made: row.Made, Created: row.CreatedAt.UTC(), Updated: row.UpdatedAt.UTC(),
	}
}

// SetProject gives a project its account at a site of tenancy "static", or
// replaces it. The account is tried first.
//
// It returns fault.BadRequest when the account does not work, fault.Conflict
// when the site's tenancy is another or another project of Top uses the account's project.
func (r *Registry) SetProject(ctx context.Context, name ident.SiteID, projectID string, cred sites.Credential) (ProjectAccount, error) {
	site, err := r.Site(ctx, name)
	if err != nil {
		return ProjectAccount{}, err
	}
	if site.Tenancy != sites.TenancyStatic {
		return ProjectAccount{}, fault.New(fault.Conflict, "sites/registry.SetProject",
			"site %s has tenancy %s: accounts per project are given only where it is static", name, site.Tenancy)
	}
	if cred.Region == "" {
		cred.Region = site.Region
	}
	account, err := r.try(ctx, site, cred)
	if err != nil {
		return ProjectAccount{}, err
	}
	id, box, err := r.seal(cred, projectUse(string(name), projectID))
	if err != nil {
		return ProjectAccount{}, err
	}
	now := r.stamp()
	row := dbschema.SiteProject{
		Site: string(name), ProjectID: projectID, BottomProjectID: account.ProjectID, BottomUserID: account.UserID,
		Credential: box, KeyID: id, Version: now.UnixMicro(), State: projectReady, CreatedAt: now, UpdatedAt: now,
	}
	if err := r.store.put(ctx, row); dbschema.IsUnique(err) {
		return ProjectAccount{}, fault.New(fault.Conflict, "sites/registry.SetProject",
			"site %s: project %s there is the account of another project already", name, account.ProjectName)
	} else if err != nil {
		return ProjectAccount{}, fmt.Errorf("store the account of project %s at site %s: %w", projectID, name, err)
	}
	r.drop(name, projectID)
	r.log.InfoContext(ctx, "project account given", "site", name, "project_id", projectID)
	return projectAccount(row), nil
}

// try logs in with a credential that shall serve at a site.
func (r *Registry) try(ctx context.Context, site Site, cred sites.Credential) (sites.Account, error) {
	report := Report{Site: site.Name}
	for _, bad := range checkCredential(cred) {
		report.refuse(CodeCredential, "%s", bad)
	}
	if cloudURL(cred.AuthURL) != cloudURL(site.AuthURL) || cred.Region != site.Region {
		report.refuse(CodeCredential, "the account is of %s, region %q; the site is %s, region %q", cred.AuthURL, cred.Region, site.AuthURL, site.Region)
	}
	if err := report.fault(); err != nil {
		return sites.Account{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, addLimit)
	defer cancel()
	bare, err := r.cfg.Adaptor(site.Name, cred)
	if err != nil {
		report.refuse(CodeCredential, "%s", describe(err))
		return sites.Account{}, report.fault()
	}
	account, err := bare.Account(ctx)
	if err != nil {
		code, detail := explain(err, cred.AuthURL)
		report.refuse(code, "%s", detail)
		return sites.Account{}, report.fault()
	}
	return account, nil
}

// newPassword returns 256 random bits; its first characters satisfy the usual rules on classes of characters.
func newPassword() ident.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return ident.Secret("Hw1-" + base64.RawURLEncoding.EncodeToString(b[:]))
}
