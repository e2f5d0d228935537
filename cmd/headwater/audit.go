package main

import (
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/table"
)

// auditCommand is "headwater audit".
func (o *operator) auditCommand() *cobra.Command {
	return o.group("audit", "See who did what", o.auditList())
}

func (o *operator) auditList() *cobra.Command {
	var out table.Output
	var limit int
	var since time.Duration
	filter := map[string]*string{}
	c := &cobra.Command{Use: "list", Short: "List who did what, the newest first", Args: argsOf(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		api, err := o.client()
		if err != nil {
			return err
		}
		if since < 0 {
			return run.Usagef("--since %s: want a duration into the past, such as 24h", since)
		}
		query := url.Values{"limit": {strconv.Itoa(limit)}}
		if since > 0 {
			query.Set("since", time.Now().Add(-since).UTC().Format(time.RFC3339))
		}
		for name, value := range filter {
			if *value != "" {
				query.Set(name, *value)
			}
		}
		var got struct {
			Events []struct {
				At        time.Time `json:"at"`
				UserName  string    `json:"user_name"`
				ProjectID string    `json:"project_id"`
				Remote    string    `json:"remote"`
				Action    string    `json:"action"`
				Target    string    `json:"target"`
				Site      string    `json:"site"`
				Outcome   string    `json:"outcome"`
				RequestID string    `json:"request_id"`
				Detail    string    `json:"detail"`
			} `json:"events"`
		}
		if err := api.Get(c.Context(), "/audit", query, &got); err != nil {
			return err
		}
		rows := [][]any{}
		for _, e := range got.Events {
			rows = append(rows, []any{e.At, e.UserName, e.ProjectID, e.Remote, e.Action, e.Target, e.Site, e.Outcome, e.RequestID, e.Detail})
		}
		return out.List(o.out, []string{"At", "User", "Project", "Remote", "Action", "Target", "Site", "Outcome", "Request", "Detail"}, rows)
	}}
	out.Flags(c.Flags())
	c.Flags().IntVar(&limit, "limit", 100, "at most this many")
	c.Flags().DurationVar(&since, "since", 0, "only the last, for instance 24h")
	for _, f := range [][3]string{{"user", "user_id", "only by this user id"}, {"project", "project_id", "only in this project"},
		{"action", "action", "only this action"}, {"target", "target", "only on this target"}, {"request", "request_id", "only of this request"}} {
		filter[f[1]] = c.Flags().String(f[0], "", f[2])
	}
	return c
}
