package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/client"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/table"
)

// siteCommand is "headwater site".
func (o *operator) siteCommand() *cobra.Command {
	return o.group("site", "Register and look after sites",
		o.siteAdd(), o.siteList(), o.siteShow(), o.siteSet(),
		o.siteSwitch("enable NAME", "Use a site", map[string]any{"enabled": true}),
		o.siteSwitch("disable NAME", "Do not use a site: Top does not talk to it for tenants", map[string]any{"enabled": false}),
		o.siteDrain(), o.siteRemove(), o.siteProbe(), o.siteZones(), o.siteProject())
}

// site is a site as the API shows it.
type site struct {
	Name   string `json:"name"`
	Health struct {
		State     string    `json:"state"`
		Reason    string    `json:"reason"`
		Since     time.Time `json:"since"`
		CheckedAt time.Time `json:"checked_at"`
	} `json:"health"`
	Zones    []string `json:"zones"`
	Volumes  []string `json:"volume_zones"`
	Draining bool     `json:"draining"`
	Capacity struct {
		Level   string  `json:"level"`
		Figures figures `json:"figures"`
	} `json:"capacity"`
	Enabled bool   `json:"enabled"`
	State   string `json:"state"`
	Tenancy string `json:"tenancy"`
	Region  string `json:"region"`
	AuthURL string `json:"auth_url"`
	Account struct {
		UserName    string `json:"user_name"`
		ProjectName string `json:"project_name"`
	} `json:"account"`
	Removal   *removal  `json:"removal"`
	Warnings  []string  `json:"warnings"`
	ProbedAt  time.Time `json:"probed_at"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Verbs     []verb    `json:"verbs"`
}

// figures are a site's own, as the API shows them.
type figures struct {
	Known      bool  `json:"known"`
	Hosts      int64 `json:"hosts"`
	VCPUs      int64 `json:"vcpus"`
	VCPUsUsed  int64 `json:"vcpus_used"`
	RAM        int64 `json:"ram"`
	RAMUsed    int64 `json:"ram_used"`
	Disk       int64 `json:"disk"`
	DiskUsed   int64 `json:"disk_used"`
	Running    int64 `json:"running"`
	Volumes    int64 `json:"volumes_gib"`
	VolumesMax int64 `json:"volumes_max_gib"`
}

// of returns "used of all", or nothing where the site does not tell.
func (f figures) of(used, all int64) string {
	if !f.Known {
		return ""
	}
	return fmt.Sprintf("%d of %d", used, all)
}

// verb is a line of the table verb x tenancy.
type verb struct {
	Verb string `json:"verb"`
	How  string `json:"how"`
	Why  string `json:"why"`
}

// status is what the operator made of the site, in a word. Who is none is not told whether a site is enabled, and
// sees only those that are.
func (s *site) status() string {
	switch {
	case s.State == "removing":
		return "removing"
	case s.State != "" && !s.Enabled:
		return "disabled"
	case s.Draining:
		return "draining"
	}
	return "enabled"
}

func (s *site) fields() []table.Field {
	f := s.Capacity.Figures
	return []table.Field{
		{Name: "Name", Value: s.Name}, {Name: "Status", Value: s.status()}, {Name: "Removal", Value: s.Removal.text()}, {Name: "Health", Value: s.Health.State},
		{Name: "Reason", Value: s.Health.Reason}, {Name: "Since", Value: s.Health.Since}, {Name: "Checked At", Value: s.Health.CheckedAt},
		{Name: "Tenancy", Value: s.Tenancy}, {Name: "Region", Value: s.Region}, {Name: "Auth URL", Value: s.AuthURL},
		{Name: "User", Value: s.Account.UserName}, {Name: "Project", Value: s.Account.ProjectName},
		{Name: "Zones", Value: s.Zones}, {Name: "Volume Zones", Value: s.Volumes},
		{Name: "Capacity", Value: s.Capacity.Level}, {Name: "vCPUs", Value: f.of(f.VCPUsUsed, f.VCPUs)}, {Name: "RAM MiB", Value: f.of(f.RAMUsed, f.RAM)},
		{Name: "Disk GiB", Value: f.of(f.DiskUsed, f.Disk)}, {Name: "Volumes GiB", Value: f.of(f.Volumes, f.VolumesMax)},
		{Name: "Hosts", Value: f.Hosts}, {Name: "Servers", Value: f.Running}, {Name: "Warnings", Value: append([]string{}, s.Warnings...)},
		{Name: "Probed At", Value: s.ProbedAt}, {Name: "Created At", Value: s.CreatedAt}, {Name: "Updated At", Value: s.UpdatedAt},
	}
}

func sitePath(name string) string { return "/sites/" + url.PathEscape(name) }

func (o *operator) siteList() *cobra.Command {
	var out table.Output
	c := &cobra.Command{Use: "list", Short: "List sites", Args: argsOf(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		api, err := o.client()
		if err != nil {
			return err
		}
		var got struct {
			Sites []site `json:"sites"`
		}
		if err := api.Get(c.Context(), "/sites", nil, &got); err != nil {
			return err
		}
		rows := [][]any{}
		for _, s := range got.Sites {
			rows = append(rows, []any{s.Name, s.status(), s.Health.State, s.Tenancy, s.Region, s.Zones, s.Capacity.Level, s.Health.Reason})
		}
		return out.List(o.out, []string{"Name", "Status", "Health", "Tenancy", "Region", "Zones", "Capacity", "Reason"}, rows)
	}}
	out.Flags(c.Flags())
	return c
}

func (o *operator) siteShow() *cobra.Command {
	var out table.Output
	var verbs bool
	c := &cobra.Command{Use: "show NAME", Short: "Show a site", Args: argsOf(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, args []string) error {
		api, err := o.client()
		if err != nil {
			return err
		}
		var got struct {
			Site site `json:"site"`
		}
		if err := api.Get(c.Context(), sitePath(args[0]), nil, &got); err != nil {
			return err
		}
		if verbs {
			return o.showVerbs(&out, got.Site.Verbs)
		}
		return out.Show(o.out, got.Site.fields())
	}}
	out.Flags(c.Flags())
	c.Flags().BoolVar(&verbs, "verbs", false, "show what the site's tenancy makes exact, mapped or refused")
	return c
}

func (o *operator) showVerbs(out *table.Output, verbs []verb) error {
	rows := make([][]any, len(verbs))
	for i, v := range verbs {
		rows[i] = []any{v.Verb, v.How, v.Why}
	}
	return out.List(o.out, []string{"Verb", "How", "Why"}, rows)
}

// report is what adding a site found.
type report struct {
	Site    string `json:"site"`
	DryRun  bool   `json:"dry_run"`
	Tenancy string `json:"tenancy"`
	Region  string `json:"region"`
	Account struct {
		UserName    string `json:"user_name"`
		ProjectName string `json:"project_name"`
	} `json:"account"`
	Warnings []string `json:"warnings"`
	Zones    []struct {
		Zone    string `json:"zone"`
		Service string `json:"service"`
	} `json:"zones"`
	Verbs        []verb `json:"verbs"`
	Capabilities struct {
		Services map[string]struct {
			Max     string `json:"max_microversion"`
			Version string `json:"version"`
		} `json:"services"`
		Flavors  []any `json:"flavors"`
		External []struct {
			Name string `json:"name"`
		} `json:"external_networks"`
		Admin bool `json:"admin"`
	} `json:"capabilities"`
}

func (r *report) fields() []table.Field {
	zones, networks := []string{}, []string{}
	for _, z := range r.Zones {
		if z.Service == "compute" {
			zones = append(zones, z.Zone)
		}
	}
	for _, n := range r.Capabilities.External {
		networks = append(networks, n.Name)
	}
	services := map[string]string{}
	for name, s := range r.Capabilities.Services {
		services[name] = cmp.Or(s.Max, s.Version, "there")
	}
	return []table.Field{
		{Name: "Name", Value: r.Site}, {Name: "Added", Value: !r.DryRun}, {Name: "Tenancy", Value: r.Tenancy}, {Name: "Region", Value: r.Region},
		{Name: "User", Value: r.Account.UserName}, {Name: "Project", Value: r.Account.ProjectName},
		{Name: "Administrator", Value: r.Capabilities.Admin}, {Name: "Services", Value: services}, {Name: "Zones", Value: zones},
		{Name: "Flavors", Value: len(r.Capabilities.Flavors)}, {Name: "External Networks", Value: networks}, {Name: "Warnings", Value: append([]string{}, r.Warnings...)},
	}
}

// account are the flags that name a site's account.
type account struct{ cloud, region string }

func (a *account) flags(c *cobra.Command) {
	c.Flags().StringVar(&a.cloud, "os-cloud", "", "the clouds.yaml entry of the account at the site")
	c.Flags().StringVar(&a.region, "region", "", "the region in the site's catalog, instead of the entry's region_name")
}

// wire returns the account as the API takes it.
func (a *account) wire(o *operator) (map[string]any, error) {
	name := cmp.Or(a.cloud, o.getenv("OS_CLOUD"))
	if name == "" {
		return nil, run.Usagef("say with --os-cloud which clouds.yaml entry is the account at the site")
	}
	cloud, err := client.Finder{Getenv: o.getenv, Region: a.region}.Cloud(name)
	if err != nil {
		return nil, run.Usage(err)
	}
	return client.Wire(cloud.Credential), nil
}

func (o *operator) siteAdd() *cobra.Command {
	var out table.Output
	var acc account
	var tenancy string
	var dry, disabled bool
	c := &cobra.Command{
		Use: "add NAME --os-cloud CLOUD", Short: "Register a site", Args: argsOf(cobra.ExactArgs(1)),
		Long: "Logs in at the site with the account of an ordinary clouds.yaml entry, looks at what the site offers, and registers it.\n" +
			"The tenancy says how projects appear there: project (Top makes one for each; needs an administrator's account),\n" +
			"static (you give an account for each: headwater site project set), shared (all use this account).\n" +
			"Without --tenancy it is project for an administrator's account, else shared.",
		RunE: func(c *cobra.Command, args []string) error {
			cred, err := acc.wire(o)
			if err != nil {
				return err
			}
			body := map[string]any{"name": args[0], "credential": cred}
			if tenancy != "" {
				body["tenancy"] = tenancy
			}
			if disabled {
				body["disabled"] = true
			}
			return o.addSite(c, &out, args[0], body, dry)
		}}
	out.Flags(c.Flags())
	acc.flags(c)
	c.Flags().StringVar(&tenancy, "tenancy", "", "project, static or shared")
	c.Flags().BoolVar(&dry, "dry-run", false, "check everything, register nothing")
	c.Flags().BoolVar(&disabled, "disabled", false, "register it, but do not use it yet")
	return c
}

func (o *operator) addSite(c *cobra.Command, out *table.Output, name string, body map[string]any, dry bool) error {
	api, err := o.client()
	if err != nil {
		return err
	}
	var got struct {
		Report report `json:"report"`
	}
	query := url.Values{}
	if dry {
		query.Set("dry_run", "true")
	}
	if _, err := api.Do(c.Context(), http.MethodPost, "/sites", query, body, &got); err != nil {
		return fmt.Errorf("site %s not added: %w", name, trimSite(err, name))
	}
	if err := out.Show(o.out, got.Report.fields()); err != nil || out.Format != table.Table {
		return err
	}
	return o.showVerbs(out, got.Report.Verbs)
}

// trimSite takes the site's name off a refusal that the command names already.
func trimSite(err error, name string) error {
	if text, ok := strings.CutPrefix(err.Error(), "site "+name+": "); ok {
		return fmt.Errorf("%s", text)
	}
	return err
}

func (o *operator) siteSet() *cobra.Command {
	var acc account
	var dry bool
	c := &cobra.Command{
		Use: "set NAME --os-cloud CLOUD", Short: "Replace the account that Top uses at a site", Args: argsOf(cobra.ExactArgs(1)),
		Long: "The account is tried and the site probed with it first; sessions of the old one end.",
		RunE: func(c *cobra.Command, args []string) error {
			cred, err := acc.wire(o)
			if err != nil {
				return err
			}
			return o.patchSite(c, args[0], map[string]any{"credential": cred}, url.Values{"dry_run": {strconv.FormatBool(dry)}})
		}}
	acc.flags(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "try the account, change nothing")
	return c
}

// siteSwitch is a command that sets members of a site.
func (o *operator) siteSwitch(use, short string, body map[string]any) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: argsOf(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, args []string) error {
		return o.patchSite(c, args[0], body, nil)
	}}
}

func (o *operator) siteDrain() *cobra.Command {
	var off bool
	c := &cobra.Command{Use: "drain NAME", Short: "Place nothing new at a site; what is there goes on", Args: argsOf(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return o.patchSite(c, args[0], map[string]any{"draining": !off}, nil)
		}}
	c.Flags().BoolVar(&off, "off", false, "allow new placements again")
	return c
}

func (o *operator) patchSite(c *cobra.Command, name string, body map[string]any, query url.Values) error {
	api, err := o.client()
	if err != nil {
		return err
	}
	_, err = api.Do(c.Context(), http.MethodPatch, sitePath(name), query, body, nil)
	return err
}

func (o *operator) siteProbe() *cobra.Command {
	var out table.Output
	var accept bool
	c := &cobra.Command{
		Use: "probe NAME", Short: "Look again at what a site offers", Args: argsOf(cobra.ExactArgs(1)),
		Long: "What is found is stored, unless the site offers less than before (a role was lost, a service is gone):\n" +
			"then the command fails with what is gone, and --accept stores it.",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := o.client()
			if err != nil {
				return err
			}
			var got struct {
				Lost string `json:"lost"`
				Site site   `json:"site"`
			}
			query := url.Values{"accept": {strconv.FormatBool(accept)}}
			if _, err := api.Do(c.Context(), http.MethodPost, sitePath(args[0])+"/probe", query, nil, &got); err != nil {
				return err
			}
			if got.Lost != "" && !accept {
				return fmt.Errorf("site %s offers less than before, nothing was stored (--accept stores it): %s", args[0], got.Lost)
			}
			return out.Show(o.out, got.Site.fields())
		}}
	out.Flags(c.Flags())
	c.Flags().BoolVar(&accept, "accept", false, "store the result also when the site offers less than before")
	return c
}
