package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// sessionKey names an account: of a site (project "") or of a Top project there.
type sessionKey struct {
	site    ident.SiteID
	project string
}

// session is a logged-in adaptor. It serves as long as both versions are those in the database.
type session struct {
	siteVersion, version int64
	bare, adaptor        sites.Adaptor // bare is without decorators
	checked              time.Time     // when the version was last compared with the database
}

// Admin returns an adaptor that acts as the site's own account: Top's. It is
// shared and kept until the account changes, here or in another replica.
func (r *Registry) Admin(ctx context.Context, site ident.SiteID) (sites.Adaptor, error) {
	s, err := r.admin(ctx, site)
	if err != nil {
		return nil, err
	}
	return s.adaptor, nil
}

// Bare returns an adaptor that acts as the site's own account and has no
// decorators: for health checks, which must reach a site that a breaker keeps others from.
func (r *Registry) Bare(ctx context.Context, site ident.SiteID) (sites.Adaptor, error) {
	s, err := r.admin(ctx, site)
	if err != nil {
		return nil, err
	}
	return s.bare, nil
}

func (r *Registry) admin(ctx context.Context, name ident.SiteID) (*session, error) {
	site, err := r.Site(ctx, name)
	if err != nil {
		return nil, err
	}
	key := sessionKey{site: name}
	if s := r.session(key); s != nil && s.siteVersion == site.CredentialVersion {
		return s, nil
	}
	cred, version, err := r.siteCredential(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.start(key, cred, version, version)
}

// siteCredential reads and opens the account of a site.
func (r *Registry) siteCredential(ctx context.Context, name ident.SiteID) (sites.Credential, int64, error) {
	row, err := r.store.must(r.cfg.DB.Read(ctx), name)
	if err != nil {
		return sites.Credential{}, 0, err
	}
	cred, err := r.open(row.KeyID, row.Credential, siteUse(row.Name))
	return cred, row.CredentialVersion, err
}

// Tenant returns an adaptor that acts at the site for a project of Top, as the
// site's tenancy says (sites/README.md: Tenancies): as a member of a project made on first use,
// as the account that the operator gave, or as the site's one account. It is
// shared and kept like Admin's.
//
// It returns fault.Conflict when the project has no account there and none can
// be made, fault.NotFound when there is no such site.
func (r *Registry) Tenant(ctx context.Context, name ident.SiteID, projectID string) (sites.Adaptor, error) {
	site, err := r.Site(ctx, name)
	if err != nil {
		return nil, err
	}
	if site.Tenancy == sites.TenancyShared {
		return r.Admin(ctx, name)
	}
	if projectID == "" {
		return nil, fault.New(fault.Internal, "sites/registry.Tenant", "no project given")
	}
	key := sessionKey{name, projectID}
	if s := r.session(key); s != nil && s.siteVersion == site.CredentialVersion && r.now().Sub(s.checked) < r.cfg.Fresh {
		return s.adaptor, nil
	}
	row, err := r.account(ctx, site, projectID)
	if err != nil {
		return nil, err
	}
	if s := r.session(key); s != nil && s.siteVersion == site.CredentialVersion && s.version == row.Version {
		r.touch(key, s)
		return s.adaptor, nil
	}
	return r.startTenant(ctx, site, key, row)
}

// account returns the ready account of a project, making it where the tenancy is project.
func (r *Registry) account(ctx context.Context, site Site, projectID string) (dbschema.SiteProject, error) {
	row, found, err := r.store.project(r.cfg.DB.Read(ctx), site.Name, projectID)
	switch {
	case err != nil:
		return row, err
	case found && row.State == projectReady:
		return row, nil
	case found && row.State == projectReleasing:
		return row, &fault.Error{Op: "sites/registry.Tenant", Site: string(site.Name), Kind: fault.Conflict,
			Msg: fmt.Sprintf("site %s: the account of project %s is being removed", site.Name, projectID)}
	case site.Tenancy == sites.TenancyStatic:
		return row, &fault.Error{Op: "sites/registry.Tenant", Site: string(site.Name), Kind: fault.Conflict,
			Msg: fmt.Sprintf("project %s has no account at site %s: the operator must give one (headwater site project set)", projectID, site.Name)}
	}
	return r.ensure(ctx, site, projectID)
}

// startTenant opens a project's account and makes its session.
func (r *Registry) startTenant(ctx context.Context, site Site, key sessionKey, row dbschema.SiteProject) (sites.Adaptor, error) {
	cred, err := r.open(row.KeyID, row.Credential, projectUse(row.Site, row.ProjectID))
	if err != nil {
		return nil, err
	}
	siteVersion := site.CredentialVersion
	if row.Made {
		var own sites.Credential
		own, siteVersion, err = r.siteCredential(ctx, site.Name)
		if err != nil {
			return nil, err
		}
		cred = memberOf(own, row, cred.Password)
	}
	s, err := r.start(key, cred, siteVersion, row.Version)
	if err != nil {
		return nil, err
	}
	return s.adaptor, nil
}

// memberOf is the credential of a member that Top made: the site's address and trust, the member's name and password.
func memberOf(own sites.Credential, row dbschema.SiteProject, password ident.Secret) sites.Credential {
	return sites.Credential{
		AuthURL: own.AuthURL, Region: own.Region, Interface: own.Interface, CACert: own.CACert, Insecure: own.Insecure,
		UserID: row.BottomUserID, ProjectID: row.BottomProjectID, Password: password,
	}
}

func (r *Registry) session(key sessionKey) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[key]
}

// touch notes that a session was compared with the database just now.
func (r *Registry) touch(key sessionKey, old *session) {
	fresh := *old
	fresh.checked = r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[key] == old {
		r.sessions[key] = &fresh
	}
}

// start makes the adaptor of an account, and keeps it unless somebody was
// faster: one account has one adaptor, and with it one token and one set of limits.
func (r *Registry) start(key sessionKey, cred sites.Credential, siteVersion, version int64) (*session, error) {
	bare, err := r.cfg.Adaptor(key.site, cred)
	if err != nil {
		return nil, fmt.Errorf("site %s: %w", key.site, err)
	}
	s := &session{siteVersion: siteVersion, version: version, bare: bare, adaptor: bare, checked: r.now()}
	for _, wrap := range r.cfg.Decorate {
		s.adaptor = wrap(s.adaptor)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.sessions[key]; old != nil && old.siteVersion >= siteVersion && old.version >= version {
		return old, nil
	}
	r.sessions[key] = s
	return s, nil
}

// drop forgets the sessions of a site; with a project only that project's.
func (r *Registry) drop(site ident.SiteID, project string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.sessions {
		if key.site == site && (project == "" || key.project == project) {
			delete(r.sessions, key)
		}
	}
}
