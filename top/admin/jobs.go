package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/headwater-cloud/headwater/scheduler/jobs"
)

// jobRoutes registers what is done with durable jobs.
func (h *Handler) jobRoutes(api huma.API) {
	tags := []string{"Jobs"}
	handle(api, huma.Operation{OperationID: "list-jobs", Method: http.MethodGet, Path: "/jobs", Tags: tags, Summary: "List jobs, the newest first"}, h.listJobs)
	handle(api, huma.Operation{OperationID: "show-job", Method: http.MethodGet, Path: "/jobs/{id}", Tags: tags, Summary: "Show a job"}, h.showJob)
	handle(api, huma.Operation{OperationID: "cancel-job", Method: http.MethodPost, Path: "/jobs/{id}/cancel", Tags: tags, Summary: "Cancel a job",
		Description: "One that runs is asked to stop; what it did at a site stays."}, h.cancelJob)
	handle(api, huma.Operation{OperationID: "redo-job", Method: http.MethodPost, Path: "/jobs/{id}/redo", Tags: tags, Summary: "Run an ended job again"}, h.redoJob)
}

type jobView struct {
	ID              int64      `json:"id"`
	Kind            string     `json:"kind"`
	State           string     `json:"state"`
	Queue           string     `json:"queue"`
	Site            string     `json:"site,omitempty"`
	ResourceID      string     `json:"resource_id,omitempty"`
	ProjectID       string     `json:"project_id,omitempty"`
	RequestID       string     `json:"request_id,omitempty"`
	Attempt         int        `json:"attempt"`
	MaxAttempts     int        `json:"max_attempts"`
	Snoozes         int        `json:"snoozes"`
	CancelRequested bool       `json:"cancel_requested,omitempty"`
	ClaimedBy       string     `json:"claimed_by,omitempty"`
	RunAt           time.Time  `json:"run_at"`
	CreatedAt       time.Time  `json:"created_at"`
	StartedAt       *time.Time `json:"started_at,omitempty"`
	EndedAt         *time.Time `json:"ended_at,omitempty"`
	Errors          []jobError `json:"errors" doc:"What went wrong, oldest first; the last few only."`
	Args            any        `json:"args,omitempty"`
	WaitsFor        []jobs.ID  `json:"waits_for,omitempty"`
	Blocks          []jobs.ID  `json:"blocks,omitempty"`
}

type jobError struct {
	Attempt   int       `json:"attempt"`
	At        time.Time `json:"at"`
	Kind      string    `json:"kind,omitempty"`
	Site      string    `json:"site,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Message   string    `json:"message"`
}

func viewJob(r jobs.Record) jobView {
	v := jobView{ID: int64(r.ID), Kind: r.Kind, State: string(r.State), Queue: r.Queue, Site: string(r.Site), ResourceID: r.ResourceID,
		ProjectID: r.ProjectID, RequestID: r.RequestID, Attempt: r.Attempt, MaxAttempts: r.MaxAttempts, Snoozes: r.Snoozes,
		CancelRequested: r.CancelRequested, ClaimedBy: r.ClaimedBy, RunAt: r.RunAt, CreatedAt: r.CreatedAt,
		StartedAt: moment(r.StartedAt), EndedAt: moment(r.EndedAt), Errors: []jobError{}, WaitsFor: r.WaitsFor, Blocks: r.Blocks}
	for _, e := range r.Errors {
		v.Errors = append(v.Errors, jobError(e))
	}
	// Args are ids, never secrets. What cannot be read is left out.
	if err := json.Unmarshal(r.Args, &v.Args); err != nil {
		v.Args = nil
	}
	return v
}

// moment is a time that may not have come.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

type listJobsInput struct {
	State      []string `query:"state" enum:"waiting,scheduled,available,running,completed,failed,cancelled" doc:"Several are separated by commas."`
	Kind       string   `query:"kind"`
	Site       string   `query:"site"`
	ResourceID string   `query:"resource_id"`
	ProjectID  string   `query:"project_id"`
	Before     int64    `query:"before" minimum:"1" doc:"Only jobs with a smaller id: the last of the previous page."`
	Limit      int      `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type jobsOutput struct {
	Body struct {
		Jobs []jobView `json:"jobs"`
	}
}

func (h *Handler) listJobs(ctx context.Context, in *listJobsInput) (*jobsOutput, error) {
	f := jobs.Filter{Kind: in.Kind, Site: in.Site, ResourceID: in.ResourceID, ProjectID: in.ProjectID, Before: jobs.ID(in.Before), Limit: in.Limit}
	for _, s := range in.State {
		f.States = append(f.States, jobs.State(s))
	}
	list, err := h.cfg.Jobs.List(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &jobsOutput{}
	out.Body.Jobs = []jobView{}
	for _, r := range list {
		out.Body.Jobs = append(out.Body.Jobs, viewJob(r))
	}
	return out, nil
}

type jobPath struct {
	ID int64 `path:"id" minimum:"1"`
}

type jobOutput struct {
	Body struct {
		Job jobView `json:"job"`
	}
}

func (h *Handler) showJob(ctx context.Context, in *jobPath) (*jobOutput, error) {
	r, err := h.cfg.Jobs.Show(ctx, jobs.ID(in.ID))
	if err != nil {
		return nil, err
	}
	out := &jobOutput{}
	out.Body.Job = viewJob(r)
	return out, nil
}

func (h *Handler) cancelJob(ctx context.Context, in *jobPath) (*jobOutput, error) {
	if err := h.cfg.Jobs.Cancel(ctx, jobs.ID(in.ID)); err != nil {
		return nil, err
	}
	return h.showJob(ctx, in)
}

func (h *Handler) redoJob(ctx context.Context, in *jobPath) (*jobOutput, error) {
	if err := h.cfg.Jobs.Redo(ctx, jobs.ID(in.ID)); err != nil {
		return nil, err
	}
	return h.showJob(ctx, in)
}
