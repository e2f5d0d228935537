package main

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/table"
)

// jobCommand is "headwater job".
func (o *operator) jobCommand() *cobra.Command {
	return o.group("job", "See and steer durable jobs", o.jobList(), o.jobShow(),
		o.jobVerb("cancel ID", "Cancel a job", "/cancel"), o.jobVerb("redo ID", "Run an ended job again", "/redo"))
}

// job is a job as the API shows it.
type job struct {
	ID              int64      `json:"id"`
	Kind            string     `json:"kind"`
	State           string     `json:"state"`
	Queue           string     `json:"queue"`
	Site            string     `json:"site"`
	ResourceID      string     `json:"resource_id"`
	ProjectID       string     `json:"project_id"`
	RequestID       string     `json:"request_id"`
	Attempt         int        `json:"attempt"`
	MaxAttempts     int        `json:"max_attempts"`
	Snoozes         int        `json:"snoozes"`
	CancelRequested bool       `json:"cancel_requested"`
	ClaimedBy       string     `json:"claimed_by"`
	RunAt           time.Time  `json:"run_at"`
	CreatedAt       time.Time  `json:"created_at"`
	StartedAt       *time.Time `json:"started_at"`
	EndedAt         *time.Time `json:"ended_at"`
	Args            any        `json:"args"`
	WaitsFor        []int64    `json:"waits_for"`
	Blocks          []int64    `json:"blocks"`
	Errors          []struct {
		Attempt int       `json:"attempt"`
		At      time.Time `json:"at"`
		Kind    string    `json:"kind"`
		Message string    `json:"message"`
	} `json:"errors"`
}

// lastError is the newest of what went wrong.
func (j *job) lastError() string {
	if len(j.Errors) == 0 {
		return ""
	}
	return j.Errors[len(j.Errors)-1].Message
}

func (o *operator) jobList() *cobra.Command {
	var out table.Output
	var states []string
	var limit int
	filter := map[string]*string{}
	c := &cobra.Command{Use: "list", Short: "List jobs, the newest first", Args: argsOf(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		api, err := o.client()
		if err != nil {
			return err
		}
		query := url.Values{"limit": {strconv.Itoa(limit)}}
		for name, value := range filter {
			if *value != "" {
				query.Set(name, *value)
			}
		}
		if len(states) > 0 {
			query.Set("state", strings.Join(states, ","))
		}
		var got struct {
			Jobs []job `json:"jobs"`
		}
		if err := api.Get(c.Context(), "/jobs", query, &got); err != nil {
			return err
		}
		rows := [][]any{}
		for _, j := range got.Jobs {
			rows = append(rows, []any{j.ID, j.Kind, j.State, j.Site, j.ResourceID, j.Attempt, j.RunAt, j.lastError()})
		}
		return out.List(o.out, []string{"ID", "Kind", "State", "Site", "Resource", "Attempt", "Run At", "Last Error"}, rows)
	}}
	out.Flags(c.Flags())
	c.Flags().StringArrayVar(&states, "state", nil, "waiting, scheduled, available, running, completed, failed or cancelled; may be repeated")
	c.Flags().IntVar(&limit, "limit", 100, "at most this many")
	for _, f := range [][3]string{{"kind", "kind", "only of this kind"}, {"site", "site", "only at this site"},
		{"resource", "resource_id", "only of this resource"}, {"project", "project_id", "only of this project"}} {
		filter[f[1]] = c.Flags().String(f[0], "", f[2])
	}
	return c
}

func (o *operator) jobShow() *cobra.Command {
	var out table.Output
	c := &cobra.Command{Use: "show ID", Short: "Show a job", Args: argsOf(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, args []string) error {
		j, err := o.job(c, http.MethodGet, args[0], "")
		if err != nil {
			return err
		}
		return out.Show(o.out, []table.Field{
			{Name: "ID", Value: j.ID}, {Name: "Kind", Value: j.Kind}, {Name: "State", Value: j.State}, {Name: "Queue", Value: j.Queue},
			{Name: "Site", Value: j.Site}, {Name: "Resource", Value: j.ResourceID}, {Name: "Project", Value: j.ProjectID},
			{Name: "Request", Value: j.RequestID}, {Name: "Attempt", Value: j.Attempt}, {Name: "Max Attempts", Value: j.MaxAttempts},
			{Name: "Snoozes", Value: j.Snoozes}, {Name: "Cancel Requested", Value: j.CancelRequested}, {Name: "Claimed By", Value: j.ClaimedBy},
			{Name: "Run At", Value: j.RunAt}, {Name: "Created At", Value: j.CreatedAt}, {Name: "Started At", Value: j.StartedAt},
			{Name: "Ended At", Value: j.EndedAt}, {Name: "Waits For", Value: j.WaitsFor}, {Name: "Blocks", Value: j.Blocks},
			{Name: "Args", Value: j.Args}, {Name: "Errors", Value: j.Errors},
		})
	}}
	out.Flags(c.Flags())
	return c
}

// jobVerb is a command that does something to a job and prints nothing.
func (o *operator) jobVerb(use, short, path string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: argsOf(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, args []string) error {
		_, err := o.job(c, http.MethodPost, args[0], path)
		return err
	}}
}

func (o *operator) job(c *cobra.Command, method, id, path string) (job, error) {
	if n, err := strconv.ParseInt(id, 10, 64); err != nil || n < 1 {
		return job{}, run.Usagef("job %s: want the number of a job", id)
	}
	api, err := o.client()
	if err != nil {
		return job{}, err
	}
	var got struct {
		Job job `json:"job"`
	}
	_, err = api.Do(c.Context(), method, "/jobs/"+id+path, nil, nil, &got)
	return got.Job, err
}
