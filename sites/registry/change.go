package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// SetEnabled turns the use of a site on or off. Off, Top does not talk to it for tenants.
func (r *Registry) SetEnabled(ctx context.Context, name ident.SiteID, on bool) error {
	return r.flag(ctx, name, "enabled", on)
}

// SetDraining stops (or allows again) new placements at a site; existing work goes on.
func (r *Registry) SetDraining(ctx context.Context, name ident.SiteID, on bool) error {
	return r.flag(ctx, name, "draining", on)
}

func (r *Registry) flag(ctx context.Context, name ident.SiteID, column string, on bool) error {
	changed := false
	err := r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		row, err := r.active(tx, name)
		if err != nil {
			return err
		}
		if changed = map[string]bool{"enabled": row.Enabled, "draining": row.Draining}[column] != on; !changed {
			return nil
		}
		tx.AfterCommit(r.Invalidate)
		return r.store.change(tx, name, r.stamp(), map[string]any{column: on})
	})
	if err == nil && changed {
		r.log.InfoContext(ctx, "site changed", "site", name, column, on)
	}
	return err
}

// active returns the row of a site that is not being removed; fault.Conflict when it is.
func (r *Registry) active(tx dbschema.Tx, name ident.SiteID) (dbschema.Site, error) {
	row, err := r.store.must(tx.Gorm(), name)
	if err == nil && row.State == string(Removing) {
		err = fault.New(fault.Conflict, "sites/registry", "site %s is being removed", name)
	}
	return row, err
}

// SetCredential replaces the account of a site, after a login and a probe with
// it. Existing sessions end, here at once and in other replicas within Config.Fresh.
// With dry nothing is stored. Report and errors are those of Add.
//
// The new account must be of the same cloud; where the tenancy is shared and Top
// holds something there, also of the same project: that is where it lies.
func (r *Registry) SetCredential(ctx context.Context, name ident.SiteID, cred sites.Credential, dry bool) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, addLimit)
	defer cancel()
	site, err := r.Site(ctx, name)
	if err != nil {
		return Report{Site: name}, err
	}
	spec := Spec{Name: name, Credential: cred, Tenancy: site.Tenancy}
	report := Report{Site: name, Tenancy: site.Tenancy}
	for _, bad := range checkCredential(cred) {
		report.refuse(CodeCredential, "%s", bad)
	}
	if err := report.fault(); err != nil {
		return report, err
	}
	bare, err := r.cfg.Adaptor(name, cred)
	if err != nil {
		report.refuse(CodeCredential, "%s", describe(err))
		return report, report.fault()
	}
	r.inspect(ctx, spec, bare, &report)
	r.sameSite(site, spec, &report)
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
	return report, r.storeCredential(ctx, spec, &report)
}

// sameSite refuses an account of another cloud than the one that the site is.
func (r *Registry) sameSite(site Site, spec Spec, report *Report) {
	if report.Account.ProjectID == "" {
		return // it never answered
	}
	was := cloudRow{AuthURL: site.AuthURL}
	if text, err := json.Marshal(site.Capabilities); err == nil {
		was.Capabilities = string(text)
	}
	if !sameKeystone(was, spec, report) || site.Region != report.Region {
		report.refuse(CodeCredential, "the account is of another cloud (%s, region %q) than the site (%s, region %q)",
			spec.Credential.AuthURL, report.Region, site.AuthURL, site.Region)
	}
}

func (r *Registry) storeCredential(ctx context.Context, spec Spec, report *Report) error {
	id, box, err := r.seal(spec.Credential, siteUse(string(spec.Name)))
	if err != nil {
		return err
	}
	now := r.stamp()
	row, err := newRow(spec, report, now)
	if err != nil {
		return err
	}
	err = r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		old, err := r.active(tx, spec.Name)
		if err != nil {
			return err
		}
		if err := r.sameProject(tx, old, row, report); err != nil {
			return err
		}
		zones, err := r.store.zones(tx.Gorm(), old.Name)
		if err != nil {
			return err
		}
		if err := r.store.saveZones(tx, old.Name, mergeZones(report.Zones, zones)); err != nil {
			return err
		}
		tx.AfterCommit(r.Invalidate)
		return r.store.change(tx, spec.Name, now, map[string]any{
			"credential": box, "key_id": id, "credential_version": max(old.CredentialVersion+1, now.UnixMicro()),
			"auth_url": row.AuthURL, "cloud_key": row.CloudKey, "account": row.Account, "capabilities": row.Capabilities, "probed_at": now,
		})
	})
	if dbschema.IsUnique(err) {
		err = fault.New(fault.Conflict, "sites/registry.SetCredential", "site %s: another site uses this account", spec.Name)
	}
	if err != nil {
		report.Accepted = false
		return err
	}
	r.drop(spec.Name, "")
	r.log.InfoContext(ctx, "site account replaced", "site", spec.Name)
	return nil
}

// sameProject keeps a shared site's account in the project where the tenants' resources lie.
func (r *Registry) sameProject(tx dbschema.Tx, old dbschema.Site, row *dbschema.Site, report *Report) error {
	if old.Tenancy != string(sites.TenancyShared) || strings.HasSuffix(old.CloudKey, "|"+report.Account.ProjectID) {
		return nil
	}
	held, err := r.cfg.Remover.Holdings(tx, ident.SiteID(old.Name))
	if err != nil {
		return err
	}
	if total(held) > 0 {
		return fault.New(fault.Conflict, "sites/registry.SetCredential",
			"site %s: the account is of project %s, but what Top holds there (%s) lies in another", row.Name, report.Account.ProjectName, counts(held))
	}
	return nil
}

// Probed is what a new probe of a site found.
type Probed struct {
	Capabilities sites.Capabilities
	// Lost says what is gone since the last probe (a service, the administrator's rights). When it is not "" and
	// the loss was not accepted, nothing was stored: a lost role must not read as a smaller site.
	Lost string
}

// Probe reads again what a site offers and stores it; the operator's zones stay.
// With accept also what is less than before is stored.
func (r *Registry) Probe(ctx context.Context, name ident.SiteID, accept bool) (Probed, error) {
	site, err := r.Site(ctx, name)
	if err != nil {
		return Probed{}, err
	}
	s, err := r.admin(ctx, name)
	if err != nil {
		return Probed{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, addLimit)
	defer cancel()
	// Without decorators: a breaker that keeps tenants' calls away must not keep the operator from looking.
	account, err := s.bare.Account(ctx)
	if err != nil {
		return Probed{}, fmt.Errorf("probe site %s: %w", name, err)
	}
	caps, err := s.bare.Probe(ctx)
	if err != nil {
		return Probed{}, fmt.Errorf("probe site %s: %w", name, err)
	}
	found := Probed{Capabilities: caps, Lost: lost(site, &caps)}
	if found.Lost != "" && !accept {
		return found, nil
	}
	return found, r.storeProbe(ctx, site, account, &caps)
}

// lost says what a site had at its last probe and lacks now.
func lost(site Site, caps *sites.Capabilities) string {
	var gone []string
	for service := range site.Capabilities.Services {
		if _, ok := caps.Services[service]; !ok {
			gone = append(gone, fmt.Sprintf("the catalog has no %s service any more", service))
		}
	}
	slices.Sort(gone)
	if site.Capabilities.Admin && !caps.Admin {
		gone = append(gone, "the account is no administrator any more: "+caps.AdminReason)
	}
	return strings.Join(gone, "; ")
}

func (r *Registry) storeProbe(ctx context.Context, site Site, account sites.Account, caps *sites.Capabilities) error {
	text, err := json.Marshal(caps)
	if err != nil {
		return fmt.Errorf("encode the capabilities of site %s: %w", site.Name, err)
	}
	who, err := json.Marshal(account)
	if err != nil {
		return fmt.Errorf("encode the account of site %s: %w", site.Name, err)
	}
	now := r.stamp()
	return r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		row, err := r.store.must(tx.Gorm(), site.Name)
		if err != nil {
			return err
		}
		if row.CredentialVersion != site.CredentialVersion {
			return nil // probed with an account that was replaced meanwhile; the replacing probed too
		}
		zones, err := r.store.zones(tx.Gorm(), row.Name)
		if err != nil {
			return err
		}
		if err := r.store.saveZones(tx, row.Name, mergeZones(probedZones(site.Name, caps), zones)); err != nil {
			return err
		}
		tx.AfterCommit(r.Invalidate)
		return r.store.change(tx, site.Name, now, map[string]any{"capabilities": string(text), "account": string(who), "probed_at": now})
	})
}

// EditZones replaces the operator's edits of a site's zones: edits stand, all
// others are again what the last probe found. It returns the zones that result,
// or fault.BadRequest naming each edit that cannot be.
func (r *Registry) EditZones(ctx context.Context, name ident.SiteID, edits []Zone) ([]Zone, error) {
	site, err := r.Site(ctx, name)
	if err != nil {
		return nil, err
	}
	if bad := checkZones(site, edits); len(bad) > 0 {
		return nil, fault.New(fault.BadRequest, "sites/registry.EditZones", "%s", strings.Join(bad, "; "))
	}
	stored := make([]Zone, len(edits))
	for i, z := range edits {
		stored[i] = Zone{Top: z.Top, Service: z.Service, Bottom: z.Bottom, Edited: true}
	}
	zones := mergeZones(probedZones(name, site.Capabilities), stored)
	err = r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		row, err := r.active(tx, name)
		if err != nil {
			return err
		}
		if err := r.store.saveZones(tx, row.Name, zones); err != nil {
			return err
		}
		tx.AfterCommit(r.Invalidate)
		return r.store.change(tx, name, r.stamp(), nil)
	})
	return zones, err
}

// checkZones returns what is wrong with an operator's zones.
func checkZones(site Site, edits []Zone) []string {
	var bad []string
	seen := map[[2]string]bool{}
	for _, z := range edits {
		what := fmt.Sprintf("zone %q, service %q", z.Top, z.Service)
		rest, inner := strings.CutPrefix(z.Top, string(site.Name)+"/")
		switch key := [2]string{z.Top, string(z.Service)}; {
		case z.Top != string(site.Name) && (!inner || rest == "" || len(z.Top) > 255 || strings.ContainsAny(rest, "/: \t\n")):
			bad = append(bad, fmt.Sprintf("%s: want %s or %s/ZONE", what, site.Name, site.Name))
		case !slices.Contains(zoned(), z.Service):
			bad = append(bad, what+": want compute, network or block-storage")
		case z.Bottom != "" && !slices.Contains(site.Capabilities.Zones[z.Service], z.Bottom):
			bad = append(bad, fmt.Sprintf("%s: the site has no zone %q (it has: %s)", what, z.Bottom,
				strings.Join(site.Capabilities.Zones[z.Service], ", ")))
		case seen[key]:
			bad = append(bad, what+": given twice")
		default:
			seen[key] = true
		}
	}
	return bad
}
