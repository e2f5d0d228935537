package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Spec is a site as the operator gives it.
type Spec struct {
	Name       ident.SiteID
	Credential sites.Credential
	// Tenancy "" means: project where the account is an administrator, else shared.
	Tenancy sites.Tenancy
	// Disabled adds the site without using it yet.
	Disabled bool
}

// Problem is one reason why a site cannot be added.
type Problem struct {
	// Code is one of the Code constants.
	Code string `json:"code"`
	// Detail is a sentence for the operator. It holds no secret.
	Detail string `json:"detail"`
}

// The codes of problems.
const (
	CodeName         = "invalid_name"
	CodeCredential   = "invalid_credential"
	CodeTenancy      = "invalid_tenancy"
	CodeDuplicate    = "duplicate_name"
	CodeSameCloud    = "cloud_already_registered"
	CodeUnreachable  = "unreachable"
	CodeNoKeystone   = "no_keystone"
	CodeTLS          = "tls_failure"
	CodeUnauthorized = "credential_refused"
	CodeNoCompute    = "no_compute_service"
	CodeNoService    = "missing_service"
	CodeNotAdmin     = "not_admin"
	CodeProbe        = "probe_failed"
)

// Report says what adding a site found. It is the same for a dry run.
type Report struct {
	Site         ident.SiteID
	Tenancy      sites.Tenancy // as it was chosen
	Accepted     bool
	Problems     []Problem // why not
	Warnings     []string  // what will not work there
	Account      sites.Account
	Region       string
	Capabilities sites.Capabilities
	Zones        []Zone
	Verbs        []Verb // what the tenancy makes exact, mapped or refused
}

func (p *Report) refuse(code, format string, args ...any) {
	p.Problems = append(p.Problems, Problem{Code: code, Detail: fmt.Sprintf(format, args...)})
}

// fault turns the problems into one error: Conflict when the site is there already, else BadRequest.
func (p *Report) fault() error {
	if len(p.Problems) == 0 {
		return nil
	}
	kind := fault.BadRequest
	details := make([]string, len(p.Problems))
	for i, problem := range p.Problems {
		details[i] = problem.Detail
		if problem.Code == CodeDuplicate || problem.Code == CodeSameCloud {
			kind = fault.Conflict
		}
	}
	return fault.New(kind, "sites/registry.Add", "site %s: %s", p.Site, strings.Join(details, "; "))
}

// addLimit bounds the login and the probe of a site.
const addLimit = 60 * time.Second

// Add registers a site: it checks what it can without the site, logs in, probes,
// and stores the site with its sealed credential. With dry it stores nothing.
//
// The report is filled in either case. The error is fault.BadRequest or
// fault.Conflict with every reason that was found; what stands in the report as problems.
func (r *Registry) Add(ctx context.Context, spec Spec, dry bool) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, addLimit)
	defer cancel()
	report := Report{Site: spec.Name, Tenancy: spec.Tenancy}
	if err := r.precheck(ctx, spec, &report); err != nil {
		return report, err
	}
	if len(report.Problems) > 0 {
		return report, report.fault()
	}
	bare, err := r.cfg.Adaptor(spec.Name, spec.Credential)
	if err != nil {
		report.refuse(CodeCredential, "%s", describe(err))
		return report, report.fault()
	}
	r.inspect(ctx, spec, bare, &report)
	if err := r.sameCloud(ctx, spec, &report); err != nil {
		return report, err
	}
	if err := report.fault(); err != nil {
		return report, err
	}
	report.Accepted = true
	if dry {
		return report, nil
	}
	return report, r.addRow(ctx, spec, &report)
}

// precheck finds what is wrong without asking the site.
func (r *Registry) precheck(ctx context.Context, spec Spec, report *Report) error {
	if bad := checkName(spec.Name); bad != "" {
		report.refuse(CodeName, "%s", bad)
	}
	switch spec.Tenancy {
	case "", sites.TenancyProject, sites.TenancyStatic, sites.TenancyShared:
	default:
		report.refuse(CodeTenancy, "tenancy %q: want project, static or shared", spec.Tenancy)
	}
	for _, bad := range checkCredential(spec.Credential) {
		report.refuse(CodeCredential, "%s", bad)
	}
	_, found, err := r.store.row(r.cfg.DB.Read(ctx), string(spec.Name))
	if found {
		report.refuse(CodeDuplicate, "a site of that name is registered")
	}
	return err
}

// inspect logs in and probes, and judges what it finds.
func (r *Registry) inspect(ctx context.Context, spec Spec, bare sites.Adaptor, report *Report) {
	caps, err := bare.Probe(ctx) // first: it logs in, and says best what is wrong
	if err == nil {
		report.Account, err = bare.Account(ctx)
	}
	if err != nil {
		code, detail := explain(err, spec.Credential.AuthURL)
		report.refuse(code, "%s", detail)
		return
	}
	report.Capabilities = caps
	report.Region = spec.Credential.Region
	report.Warnings = caps.Warnings
	r.judge(bare, report)
	report.Zones = probedZones(spec.Name, &report.Capabilities)
	report.Verbs = Verbs(report.Tenancy, &report.Capabilities)
}

// judge decides whether a probed site can work, and chooses the tenancy where none was named.
func (r *Registry) judge(bare sites.Adaptor, report *Report) {
	caps := &report.Capabilities
	in := ""
	if report.Region != "" {
		in = fmt.Sprintf(" in region %q (is region_name right?)", report.Region)
	}
	if _, ok := caps.Services[sites.Compute]; !ok {
		report.refuse(CodeNoCompute, "its catalog has no compute service%s", in)
	}
	for _, needed := range []sites.Service{sites.ImageService, sites.NetworkSvc} {
		if _, ok := caps.Services[needed]; !ok {
			report.refuse(CodeNoService, "its catalog has no %s service%s", needed, in)
		}
	}
	_, maker := sites.As[sites.ProjectMaker](bare)
	if report.Tenancy == "" {
		report.Tenancy = sites.TenancyShared
		if caps.Admin && maker {
			report.Tenancy = sites.TenancyProject
		}
	}
	if report.Tenancy == sites.TenancyProject && !(caps.Admin && maker) {
		why := caps.AdminReason
		if why == "" {
			why = "its adaptor cannot make projects"
		}
		report.refuse(CodeNotAdmin, "tenancy project needs an administrator's account, and this one (user %s, project %s) is none: %s; "+
			"give such an account or choose --tenancy static or shared", report.Account.UserName, report.Account.ProjectName, why)
	}
	if caps.ClockSkew.Abs() > maxSkew {
		report.Warnings = append(report.Warnings, fmt.Sprintf("its clock is off by %s: status changes may show late", caps.ClockSkew))
	}
}

// maxSkew is the difference of clocks from which an operator is told.
const maxSkew = 30 * time.Second

// sameCloud refuses a cloud that is registered under another name.
//
// One account twice is always refused. Where a site makes its own projects (tenancy project), no second site may be
// the same region of the same cloud, whatever its account: both would own the projects hw-ID.
func (r *Registry) sameCloud(ctx context.Context, spec Spec, report *Report) error {
	if report.Account.ProjectID == "" {
		return nil // it never answered
	}
	rows, err := r.store.clouds(r.cfg.DB.Read(ctx))
	if err != nil {
		return err
	}
	if other := twin(rows, spec, report); other != "" {
		report.refuse(CodeSameCloud, "this cloud (%s, region %q, project %s) is registered as site %s already",
			spec.Credential.AuthURL, report.Region, report.Account.ProjectName, other)
	}
	return nil
}

// twin returns the name of a registered site that is the same cloud, or "".
func twin(rows []cloudRow, spec Spec, report *Report) string {
	key := cloudKey(spec.Credential, report.Region, report.Account.ProjectID)
	for _, row := range rows {
		if row.Name == string(spec.Name) {
			continue
		}
		if row.CloudKey == key {
			return row.Name
		}
		exclusive := report.Tenancy == sites.TenancyProject || row.Tenancy == string(sites.TenancyProject)
		if exclusive && row.Region == report.Region && sameKeystone(row, spec, report) {
			return row.Name
		}
	}
	return ""
}

// sameKeystone compares by the URL given and by the one in the catalog: one cloud is often reached by several names.
func sameKeystone(row cloudRow, spec Spec, report *Report) bool {
	if cloudURL(row.AuthURL) == cloudURL(spec.Credential.AuthURL) {
		return true
	}
	var caps sites.Capabilities
	if err := json.Unmarshal([]byte(row.Capabilities), &caps); err != nil {
		return false
	}
	a, b := caps.Services[sites.Identity].URL, report.Capabilities.Services[sites.Identity].URL
	return a != "" && b != "" && cloudURL(a) == cloudURL(b)
}

// addRow stores an accepted site.
func (r *Registry) addRow(ctx context.Context, spec Spec, report *Report) error {
	id, box, err := r.seal(spec.Credential, siteUse(string(spec.Name)))
	if err != nil {
		return err
	}
	row, err := newRow(spec, report, r.stamp())
	if err != nil {
		return err
	}
	row.KeyID, row.Credential = id, box
	err = r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		rows, err := r.store.clouds(tx.Gorm())
		if err != nil {
			return err
		}
		// Somebody may have added it while we probed.
		for _, other := range rows {
			if other.Name == row.Name {
				return fault.New(fault.Conflict, "sites/registry.Add", "site %s: a site of that name is registered", row.Name)
			}
		}
		if other := twin(rows, spec, report); other != "" {
			return fault.New(fault.Conflict, "sites/registry.Add", "site %s: this cloud is registered as site %s already", row.Name, other)
		}
		tx.AfterCommit(r.Invalidate)
		return r.store.insert(tx, row, report.Zones)
	})
	if dbschema.IsUnique(err) { // PostgreSQL: another replica committed while our transaction ran
		err = fault.New(fault.Conflict, "sites/registry.Add", "site %s: it, or the same cloud, was registered meanwhile", row.Name)
	}
	if err != nil {
		report.Accepted = false
		return err
	}
	r.log.InfoContext(ctx, "site added", "site", spec.Name, "tenancy", report.Tenancy, "region", report.Region)
	return nil
}

func newRow(spec Spec, report *Report, now time.Time) (*dbschema.Site, error) {
	caps, err := json.Marshal(report.Capabilities)
	if err != nil {
		return nil, fmt.Errorf("encode the capabilities of site %s: %w", spec.Name, err)
	}
	account, err := json.Marshal(report.Account)
	if err != nil {
		return nil, fmt.Errorf("encode the account of site %s: %w", spec.Name, err)
	}
	// Versions begin at the time, so that a name that is used again does not repeat them.
	return &dbschema.Site{
		Name: string(spec.Name), Region: report.Region, AuthURL: spec.Credential.AuthURL,
		CloudKey: cloudKey(spec.Credential, report.Region, report.Account.ProjectID),
		Tenancy:  string(report.Tenancy), Enabled: !spec.Disabled, State: string(Active),
		CredentialVersion: now.UnixMicro(), Account: string(account), Capabilities: string(caps), ProbedAt: now,
		Version: now.UnixMicro(), CreatedAt: now, UpdatedAt: now,
	}, nil
}
