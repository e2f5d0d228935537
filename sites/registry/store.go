package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// store reads and writes the tables sites, site_zones and site_projects.
type store struct{ db *dbschema.DB }

// keyIDs returns the ids of the keys that some credential is sealed with.
func (s store) keyIDs(ctx context.Context) ([]string, error) {
	var ids []string
	err := s.db.Read(ctx).Raw("SELECT key_id FROM sites UNION SELECT key_id FROM site_projects ORDER BY 1").Scan(&ids).Error
	if err != nil {
		return nil, fmt.Errorf("read the keys in use: %w", err)
	}
	return ids, nil
}

// versionRow is what refreshing a view reads of every site, each second: nothing big.
type versionRow struct {
	Name      string
	Version   int64
	State     *string
	Reason    *string
	Since     *time.Time
	CheckedAt *time.Time
}

// sites returns all sites, taking from known those whose version has not changed.
func (s store) sites(ctx context.Context, known []Site) ([]Site, error) {
	var rows []versionRow
	err := s.db.Read(ctx).Raw(`SELECT s.name, s.version, h.state, h.reason, h.since, h.checked_at
		FROM sites s LEFT JOIN site_health h ON h.site = s.name ORDER BY s.name`).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list sites: %w", err)
	}
	old := make(map[ident.SiteID]Site, len(known))
	for _, k := range known {
		old[k.Name] = k
	}
	var list []Site
	for _, row := range rows {
		site, ok := old[ident.SiteID(row.Name)]
		if !ok || site.Version != row.Version {
			site, ok, err = s.site(ctx, row.Name)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue // removed between the two queries
			}
		}
		site.Health = healthOf(row, site.Capabilities.ProbedAt)
		list = append(list, site)
	}
	return list, nil
}

// healthOf returns the health of a site; before the first check the probe that let the site in counts as one.
func healthOf(row versionRow, probed time.Time) Health {
	if row.State == nil || row.CheckedAt == nil {
		return Health{State: Up, Since: probed, CheckedAt: probed}
	}
	h := Health{State: HealthState(*row.State), CheckedAt: row.CheckedAt.UTC()}
	if row.Reason != nil {
		h.Reason = *row.Reason
	}
	if row.Since != nil {
		h.Since = row.Since.UTC()
	}
	return h
}

// site reads one site and its zones.
func (s store) site(ctx context.Context, name string) (Site, bool, error) {
	row, found, err := s.row(s.db.Read(ctx), name)
	if err != nil || !found {
		return Site{}, false, err
	}
	zones, err := s.zones(s.db.Read(ctx), name)
	if err != nil {
		return Site{}, false, err
	}
	site := Site{
		Name: ident.SiteID(row.Name), Region: row.Region, AuthURL: row.AuthURL, Tenancy: sites.Tenancy(row.Tenancy),
		Enabled: row.Enabled, Draining: row.Draining, State: State(row.State), Capabilities: &sites.Capabilities{}, Zones: zones,
		CredentialVersion: row.CredentialVersion, Version: row.Version, Created: row.CreatedAt.UTC(), Updated: row.UpdatedAt.UTC(),
	}
	if err := json.Unmarshal([]byte(row.Capabilities), site.Capabilities); err != nil {
		return Site{}, false, fmt.Errorf("site %s: decode its capabilities: %w", name, err)
	}
	if err := json.Unmarshal([]byte(row.Account), &site.Account); err != nil {
		return Site{}, false, fmt.Errorf("site %s: decode its account: %w", name, err)
	}
	return site, true, nil
}

func (store) row(on *gorm.DB, name string) (dbschema.Site, bool, error) {
	var rows []dbschema.Site
	if err := on.Where("name = ?", name).Limit(1).Find(&rows).Error; err != nil {
		return dbschema.Site{}, false, fmt.Errorf("read site %s: %w", name, err)
	}
	if len(rows) == 0 {
		return dbschema.Site{}, false, nil
	}
	return rows[0], true, nil
}

// must returns the row of a site or fault.NotFound.
func (s store) must(on *gorm.DB, name ident.SiteID) (dbschema.Site, error) {
	row, found, err := s.row(on, string(name))
	if err == nil && !found {
		err = fault.New(fault.NotFound, "sites/registry", "site %s: not found", name)
	}
	return row, err
}

func (store) zones(on *gorm.DB, name string) ([]Zone, error) {
	var rows []dbschema.SiteZone
	if err := on.Where("site = ?", name).Order("top_zone, service").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read the zones of site %s: %w", name, err)
	}
	zones := make([]Zone, len(rows))
	for i, z := range rows {
		zones[i] = Zone{Top: z.TopZone, Service: sites.Service(z.Service), Bottom: z.BottomZone, Edited: z.Edited}
	}
	sortZones(zones) // the databases collate differently
	return zones, nil
}

// saveZones replaces the zones of a site.
func (store) saveZones(tx dbschema.Tx, name string, zones []Zone) error {
	if err := tx.Gorm().Where("site = ?", name).Delete(&dbschema.SiteZone{}).Error; err != nil {
		return fmt.Errorf("replace the zones of site %s: %w", name, err)
	}
	rows := make([]dbschema.SiteZone, len(zones))
	for i, z := range zones {
		rows[i] = dbschema.SiteZone{Site: name, TopZone: z.Top, Service: string(z.Service), BottomZone: z.Bottom, Edited: z.Edited}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := tx.Gorm().Create(&rows).Error; err != nil {
		return fmt.Errorf("store the zones of site %s: %w", name, err)
	}
	return nil
}

// change sets columns of a site's row and raises its version. It returns fault.NotFound when there is no such site.
func (store) change(tx dbschema.Tx, name ident.SiteID, now time.Time, columns map[string]any) error {
	set := map[string]any{"version": gorm.Expr("version + 1"), "updated_at": now}
	for k, v := range columns {
		set[k] = v
	}
	done := tx.Gorm().Model(&dbschema.Site{}).Where("name = ?", string(name)).Updates(set)
	if done.Error != nil {
		return fmt.Errorf("change site %s: %w", name, done.Error)
	}
	if done.RowsAffected == 0 {
		return fault.New(fault.NotFound, "sites/registry", "site %s: not found", name)
	}
	return nil
}

// insert stores a new site with its zones.
func (s store) insert(tx dbschema.Tx, row *dbschema.Site, zones []Zone) error {
	if err := tx.Gorm().Create(row).Error; err != nil {
		return fmt.Errorf("store site %s: %w", row.Name, err)
	}
	return s.saveZones(tx, row.Name, zones)
}

// remove deletes a site's row and all that hangs on it.
func (store) remove(tx dbschema.Tx, name ident.SiteID) error {
	// The other tables' foreign keys cascade (site_health, site_zones, site_projects).
	if err := tx.Gorm().Where("name = ?", string(name)).Delete(&dbschema.Site{}).Error; err != nil {
		return fmt.Errorf("remove site %s: %w", name, err)
	}
	return nil
}

// cloudRow is what duplicates are recognised by.
type cloudRow struct{ Name, CloudKey, Tenancy, Region, AuthURL, Capabilities string }

func (store) clouds(on *gorm.DB) ([]cloudRow, error) {
	var rows []cloudRow
	err := on.Raw("SELECT name, cloud_key, tenancy, region, auth_url, capabilities FROM sites ORDER BY name").Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list sites: %w", err)
	}
	return rows, nil
}
