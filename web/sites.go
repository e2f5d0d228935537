package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"
)

// site is a site as the operator API shows it; tenants see less of it.
type site struct {
	Name   string `json:"name"`
	Health struct {
		State   string     `json:"state"`
		Reason  string     `json:"reason"`
		Since   time.Time  `json:"since"`
		Checked *time.Time `json:"checked_at"`
	} `json:"health"`
	Zones    []string `json:"zones"`
	Draining bool     `json:"draining"`
	Capacity struct {
		Level   string   `json:"level"`
		Figures *figures `json:"figures"`
	} `json:"capacity"`

	Enabled  *bool    `json:"enabled"`
	State    string   `json:"state"`
	Tenancy  string   `json:"tenancy"`
	AuthURL  string   `json:"auth_url"`
	Warnings []string `json:"warnings"`
}

// figures are what a site has and what of it is used, by its own account.
type figures struct {
	Known     bool  `json:"known"`
	Hosts     int   `json:"hosts"`
	VCPUs     int64 `json:"vcpus"`
	VCPUsUsed int64 `json:"vcpus_used"`
	RAM       int64 `json:"ram"` // MiB
	RAMUsed   int64 `json:"ram_used"`
	Disk      int64 `json:"disk"` // GiB
	DiskUsed  int64 `json:"disk_used"`
	Running   int64 `json:"running"`
}

// Disabled reports whether an operator took the site out of use.
func (s site) Disabled() bool { return s.Enabled != nil && !*s.Enabled }

// Bars are the figures as bars.
func (f figures) Bars() []bar {
	return []bar{
		newBar("vCPUs", f.VCPUsUsed, f.VCPUs, func(n int64) string { return number(n) }),
		newBar("Memory", f.RAMUsed, f.RAM, mib),
		newBar("Disk", f.DiskUsed, f.Disk, func(n int64) string { return mib(n << 10) }),
	}
}

// bar is a used share of a total.
type bar struct {
	Label       string
	Used, Total int64
	Text        string
	Percent     int64
	Tone        string
}

func newBar(label string, used, total int64, show func(int64) string) bar {
	b := bar{Label: label, Used: used, Total: total, Tone: "good"}
	zero := "0"
	if used > 0 {
		zero = show(used)
	}
	b.Text = zero + " of " + show(total)
	if total > 0 {
		b.Percent = used * 100 / total
	}
	switch { // as top/admin's word for the same figures
	case b.Percent >= 90:
		b.Tone = "bad"
	case b.Percent >= 70:
		b.Tone = "busy"
	}
	return b
}

// siteList is the page of sites.
type siteList struct {
	live
	Sites    []site
	Operator bool
}

func (d *dashboard) showSites(w http.ResponseWriter, v *visit) error {
	list, err := d.sites(v.Context(), v)
	if err != nil {
		return err
	}
	data := siteList{live{Base + "/sites", paceCalm}, list, v.session.Operator}
	p := page{Title: "Sites", Tab: "sites", Data: data}
	if v.live() {
		return d.render(w, v, http.StatusOK, "sites", "live", p)
	}
	return d.show(w, v, http.StatusOK, "sites", p)
}

// sites are those that the person may see, by name.
func (d *dashboard) sites(ctx context.Context, v *visit) ([]site, error) {
	var got struct {
		Sites []site `json:"sites"`
	}
	if err := d.get(ctx, v, "/v1/sites", &got); err != nil {
		return nil, err
	}
	slices.SortFunc(got.Sites, func(a, b site) int { return cmp.Compare(a.Name, b.Name) })
	return got.Sites, nil
}
