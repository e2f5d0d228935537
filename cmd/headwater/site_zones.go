package main

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/client"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/table"
)

// zone says which zone of a service stands for a zone of Top.
type zone struct {
	Zone    string `json:"zone"`
	Service string `json:"service"`
	Bottom  string `json:"bottom_zone"`
	Edited  bool   `json:"edited,omitempty"`
}

func (o *operator) siteZones() *cobra.Command {
	var out table.Output
	var set, unset []string
	c := &cobra.Command{
		Use: "zones NAME", Short: "Show or edit which zones stand for a site's zones at Top", Args: argsOf(cobra.ExactArgs(1)),
		Example: "  headwater site zones east --set east/gold:compute=az2 --set east/gold:block-storage=ssd\n" +
			"  headwater site zones east --unset east/gold:compute",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := o.client()
			if err != nil {
				return err
			}
			zones, err := readZones(c.Context(), api, args[0])
			if err != nil {
				return err
			}
			if len(set)+len(unset) > 0 {
				if zones, err = editZones(c.Context(), api, args[0], zones, set, unset); err != nil {
					return err
				}
			}
			rows := make([][]any, len(zones))
			for i, z := range zones {
				rows[i] = []any{z.Zone, z.Service, z.Bottom, z.Edited}
			}
			return out.List(o.out, []string{"Zone", "Service", "Bottom Zone", "Edited"}, rows)
		}}
	out.Flags(c.Flags())
	c.Flags().StringArrayVar(&set, "set", nil, "ZONE:SERVICE=BOTTOM_ZONE; an empty BOTTOM_ZONE lets the service pick; may be repeated")
	c.Flags().StringArrayVar(&unset, "unset", nil, "ZONE:SERVICE: take an edit back; may be repeated")
	return c
}

type zoneList struct {
	Zones []zone `json:"zones"`
}

func readZones(ctx context.Context, api *client.Client, site string) ([]zone, error) {
	var got zoneList
	err := api.Get(ctx, sitePath(site)+"/zones", nil, &got)
	return got.Zones, err
}

// editZones adds to the edits that are there, or takes from them.
func editZones(ctx context.Context, api *client.Client, site string, zones []zone, set, unset []string) ([]zone, error) {
	edits := []zone{}
	for _, z := range zones {
		if z.Edited && !slices.Contains(unset, z.Zone+":"+z.Service) {
			edits = append(edits, zone{Zone: z.Zone, Service: z.Service, Bottom: z.Bottom})
		}
	}
	for _, text := range set {
		where, bottom, ok := strings.Cut(text, "=")
		top, service, both := strings.Cut(where, ":")
		if !ok || !both {
			return nil, run.Usagef("--set %s: want ZONE:SERVICE=BOTTOM_ZONE", text)
		}
		edits = slices.DeleteFunc(edits, func(z zone) bool { return z.Zone == top && z.Service == service })
		edits = append(edits, zone{Zone: top, Service: service, Bottom: bottom})
	}
	var got zoneList
	_, err := api.Do(ctx, http.MethodPut, sitePath(site)+"/zones", nil, zoneList{edits}, &got)
	return got.Zones, err
}

// siteProject is "headwater site project": the accounts of projects at a site of tenancy static.
func (o *operator) siteProject() *cobra.Command {
	c := &cobra.Command{Use: "project", Short: "Give projects their accounts at a site of tenancy static", Args: argsOf(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return run.Usagef("%s needs a command: %s", c.CommandPath(), strings.Join(names(c), ", "))
		}}
	c.AddCommand(o.siteProjectList(), o.siteProjectSet(), o.siteProjectUnset())
	return c
}

func (o *operator) siteProjectList() *cobra.Command {
	var out table.Output
	c := &cobra.Command{Use: "list SITE", Short: "List the accounts of projects at a site", Args: argsOf(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := o.client()
			if err != nil {
				return err
			}
			var got struct {
				Projects []struct {
					ProjectID       string    `json:"project_id"`
					BottomProjectID string    `json:"bottom_project_id"`
					BottomUserID    string    `json:"bottom_user_id"`
					State           string    `json:"state"`
					Made            bool      `json:"made"`
					UpdatedAt       time.Time `json:"updated_at"`
				} `json:"projects"`
			}
			if err := api.Get(c.Context(), sitePath(args[0])+"/projects", nil, &got); err != nil {
				return err
			}
			rows := [][]any{}
			for _, p := range got.Projects {
				rows = append(rows, []any{p.ProjectID, p.BottomProjectID, p.BottomUserID, p.State, p.Made, p.UpdatedAt})
			}
			return out.List(o.out, []string{"Project", "Bottom Project", "Bottom User", "State", "Made", "Updated At"}, rows)
		}}
	out.Flags(c.Flags())
	return c
}

func projectPath(site, project string) string {
	return sitePath(site) + "/projects/" + url.PathEscape(project)
}

func (o *operator) siteProjectSet() *cobra.Command {
	var acc account
	c := &cobra.Command{Use: "set SITE PROJECT_ID --os-cloud CLOUD", Short: "Give a project its account at a site", Args: argsOf(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			cred, err := acc.wire(o)
			if err != nil {
				return err
			}
			api, err := o.client()
			if err != nil {
				return err
			}
			_, err = api.Do(c.Context(), http.MethodPut, projectPath(args[0], args[1]), nil, map[string]any{"credential": cred}, nil)
			return err
		}}
	acc.flags(c)
	return c
}

func (o *operator) siteProjectUnset() *cobra.Command {
	return &cobra.Command{Use: "unset SITE PROJECT_ID", Short: "Take a project's account at a site away; nothing changes at the site",
		Args: argsOf(cobra.ExactArgs(2)), RunE: func(c *cobra.Command, args []string) error {
			api, err := o.client()
			if err != nil {
				return err
			}
			_, err = api.Do(c.Context(), http.MethodDelete, projectPath(args[0], args[1]), nil, nil, nil)
			return err
		}}
}
