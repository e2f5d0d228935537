package admin

import (
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// credentialBody is an account at a site, in the words of clouds.yaml.
type credentialBody struct {
	AuthURL           string `json:"auth_url" doc:"The site's Keystone: http or https." example:"https://keystone.east.example/v3"`
	Region            string `json:"region_name,omitempty" doc:"The region in the site's own catalog; empty takes its only one."`
	Interface         string `json:"interface,omitempty" enum:"public,internal,admin,publicURL,internalURL,adminURL" doc:"Which endpoints to use; public when empty."`
	Username          string `json:"username,omitempty"`
	UserID            string `json:"user_id,omitempty"`
	Password          string `json:"password,omitempty" writeOnly:"true"`
	UserDomainName    string `json:"user_domain_name,omitempty"`
	UserDomainID      string `json:"user_domain_id,omitempty"`
	ProjectName       string `json:"project_name,omitempty"`
	ProjectID         string `json:"project_id,omitempty"`
	ProjectDomainName string `json:"project_domain_name,omitempty"`
	ProjectDomainID   string `json:"project_domain_id,omitempty"`
	AppCredID         string `json:"application_credential_id,omitempty"`
	AppCredName       string `json:"application_credential_name,omitempty"`
	AppCredSecret     string `json:"application_credential_secret,omitempty" writeOnly:"true"`
	CACert            string `json:"cacert,omitempty" doc:"Certificates in PEM form that the site's TLS is checked against."`
	Insecure          bool   `json:"insecure,omitempty" doc:"Do not check the site's TLS certificate."`
}

func (c credentialBody) credential() sites.Credential {
	return sites.Credential{
		AuthURL: c.AuthURL, Region: c.Region, Interface: c.Interface, Username: c.Username, UserID: c.UserID,
		Password: ident.Secret(c.Password), UserDomainName: c.UserDomainName, UserDomainID: c.UserDomainID,
		ProjectName: c.ProjectName, ProjectID: c.ProjectID, ProjectDomainName: c.ProjectDomainName, ProjectDomainID: c.ProjectDomainID,
		AppCredID: c.AppCredID, AppCredName: c.AppCredName, AppCredSecret: ident.Secret(c.AppCredSecret),
		CACert: c.CACert, Insecure: c.Insecure,
	}
}

// siteView is a site. Members that only operators see are left out for others.
type siteView struct {
	Name     string       `json:"name"`
	Health   healthView   `json:"health"`
	Zones    []string     `json:"zones" doc:"The availability zones that servers can ask for; the first means any."`
	Volumes  []string     `json:"volume_zones" doc:"The availability zones that volumes can ask for."`
	Draining bool         `json:"draining" doc:"It takes nothing new."`
	Capacity capacityView `json:"capacity"`

	Enabled      *bool               `json:"enabled,omitempty"`
	State        string              `json:"state,omitempty" enum:"active,removing"`
	Removal      *removalView        `json:"removal,omitempty" doc:"How far the purge of a site in state removing has come."`
	Tenancy      string              `json:"tenancy,omitempty" enum:"project,static,shared"`
	Region       string              `json:"region,omitempty" doc:"The region in the site's own catalog."`
	AuthURL      string              `json:"auth_url,omitempty"`
	Account      *accountView        `json:"account,omitempty"`
	Warnings     []string            `json:"warnings,omitempty" doc:"What will not work there."`
	Verbs        []registry.Verb     `json:"verbs,omitempty" doc:"What the tenancy makes exact, mapped or refused."`
	Capabilities *sites.Capabilities `json:"capabilities,omitempty" doc:"What the last probe found."`
	ProbedAt     *time.Time          `json:"probed_at,omitempty"`
	CreatedAt    *time.Time          `json:"created_at,omitempty"`
	UpdatedAt    *time.Time          `json:"updated_at,omitempty"`
}

// removalView is how far the purge of a site has come.
type removalView struct {
	JobID   int64              `json:"job_id" doc:"The newest job of the purge: /jobs/{id}."`
	State   string             `json:"state" enum:"working,failed" doc:"Working until all is gone. Failed: the site did not delete what remains; remove the site again with purge, which asks again, or with keep, which leaves it there."`
	Began   time.Time          `json:"began_at"`
	Remains map[sites.Kind]int `json:"remains" doc:"What Top still has at the site, by kind."`
	Reason  string             `json:"reason,omitempty" doc:"What the site did not delete at the last attempt, and why."`
}

type healthView struct {
	State     string     `json:"state" enum:"unknown,up,degraded,down"`
	Reason    string     `json:"reason,omitempty"`
	Since     time.Time  `json:"since"`
	CheckedAt *time.Time `json:"checked_at,omitempty"`
}

type accountView struct {
	UserID      string   `json:"user_id"`
	UserName    string   `json:"user_name"`
	ProjectID   string   `json:"project_id"`
	ProjectName string   `json:"project_name"`
	Roles       []string `json:"roles,omitempty"`
}

// capacityView says how much room a site has: in a word for everybody, in figures for operators.
type capacityView struct {
	Level   string          `json:"level" enum:"plenty,some,scarce,unknown" doc:"By the fullest of vCPUs, memory and disk: under 70 % used, under 90 %, above."`
	Figures *sites.Capacity `json:"figures,omitempty"`
}

// summary is what a tenant may know of a site.
func summary(s *registry.Site) siteView {
	zones, volumes := s.TopZones(sites.Compute), s.TopZones(sites.BlockStorage)
	if zones == nil {
		zones = []string{}
	}
	if volumes == nil {
		volumes = []string{}
	}
	return siteView{
		Name: string(s.Name), Zones: zones, Volumes: volumes, Draining: s.Draining,
		Health:   healthView{State: string(s.Health.State), Since: s.Health.Since},
		Capacity: capacityView{Level: level(s.Capabilities.Capacity)},
	}
}

// operatorView is what an operator sees in a list; whole adds what only one site's page shows.
func operatorView(s *registry.Site, whole bool) siteView {
	v := summary(s)
	caps := s.Capabilities
	v.Health.Reason = s.Health.Reason
	if !s.Health.CheckedAt.IsZero() {
		v.Health.CheckedAt = &s.Health.CheckedAt
	}
	v.Capacity.Figures = &caps.Capacity
	v.Enabled, v.State, v.Tenancy, v.Region, v.AuthURL = &s.Enabled, string(s.State), string(s.Tenancy), s.Region, s.AuthURL
	v.Account = viewAccount(s.Account)
	v.Warnings, v.ProbedAt, v.CreatedAt, v.UpdatedAt = caps.Warnings, &caps.ProbedAt, &s.Created, &s.Updated
	if whole {
		v.Verbs, v.Capabilities = registry.Verbs(s.Tenancy, caps), caps
	}
	return v
}

func viewAccount(a sites.Account) *accountView {
	return &accountView{UserID: a.UserID, UserName: a.UserName, ProjectID: a.ProjectID, ProjectName: a.ProjectName, Roles: a.Roles}
}

// level sums a site's figures up in a word.
func level(c sites.Capacity) string {
	if !c.Known {
		return "unknown"
	}
	used := 0.0
	for _, f := range [][2]int64{{c.VCPUsUsed, c.VCPUs}, {c.RAMUsed, c.RAM}, {c.DiskUsed, c.Disk}} {
		if f[1] > 0 {
			used = max(used, float64(f[0])/float64(f[1]))
		}
	}
	switch {
	case used < 0.7:
		return "plenty"
	case used < 0.9:
		return "some"
	}
	return "scarce"
}

type zoneView struct {
	Zone    string `json:"zone" doc:"The zone at Top: the site's name (any zone of it) or SITE/ZONE." example:"east/az1"`
	Service string `json:"service" enum:"compute,network,block-storage"`
	Bottom  string `json:"bottom_zone" doc:"The service's own zone; empty asks for none, so that the service picks."`
	Edited  bool   `json:"edited,omitempty" readOnly:"true" doc:"By an operator: a probe leaves it alone."`
}

func viewZones(zones []registry.Zone) []zoneView {
	list := make([]zoneView, len(zones))
	for i, z := range zones {
		list[i] = zoneView{Zone: z.Top, Service: string(z.Service), Bottom: z.Bottom, Edited: z.Edited}
	}
	return list
}

// reportView is what adding a site, or replacing its account, found.
type reportView struct {
	Site         string              `json:"site"`
	DryRun       bool                `json:"dry_run"`
	Tenancy      string              `json:"tenancy" enum:"project,static,shared"`
	Region       string              `json:"region"`
	Account      *accountView        `json:"account"`
	Warnings     []string            `json:"warnings,omitempty"`
	Zones        []zoneView          `json:"zones"`
	Verbs        []registry.Verb     `json:"verbs"`
	Capabilities *sites.Capabilities `json:"capabilities"`
}

func viewReport(r *registry.Report, dry bool) reportView {
	return reportView{Site: string(r.Site), DryRun: dry, Tenancy: string(r.Tenancy), Region: r.Region, Account: viewAccount(r.Account),
		Warnings: r.Warnings, Zones: viewZones(r.Zones), Verbs: r.Verbs, Capabilities: &r.Capabilities}
}
