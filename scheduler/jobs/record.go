package jobs

import (
	"encoding/json"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// keptErrors is the number of errors kept of a job, the newest.
const keptErrors = 8

// maxMessage bounds one kept error in bytes: some sites answer with whole pages.
const maxMessage = 2000

// AttemptError is what went wrong in one attempt.
type AttemptError struct {
	Attempt int       `json:"attempt"` // 0 when the job never ran
	At      time.Time `json:"at"`
	Kind    string    `json:"kind,omitempty"` // the fault's kind
	Site    string    `json:"site,omitempty"`
	// RequestID is the bottom's when the bottom failed, else the job's own.
	RequestID string `json:"request_id,omitempty"`
	Message   string `json:"message"`
}

// Record is a job as operators see it. Moments are UTC and zero when they have not come.
type Record struct {
	ID              ID              `json:"id"`
	Kind            string          `json:"kind"`
	Args            json.RawMessage `json:"args"`
	State           State           `json:"state"`
	Queue           string          `json:"queue"`
	Site            ident.SiteID    `json:"site"`
	ResourceID      string          `json:"resource_id"`
	ProjectID       string          `json:"project_id"`
	RequestID       string          `json:"request_id"`
	Trace           string          `json:"trace,omitempty"` // W3C traceparent of what made the job
	Priority        int             `json:"priority"`
	Attempt         int             `json:"attempt"`
	MaxAttempts     int             `json:"max_attempts"`
	Snoozes         int             `json:"snoozes"`
	CancelRequested bool            `json:"cancel_requested"`
	ClaimedBy       string          `json:"claimed_by"` // the engine that runs it, or ran it last
	RunAt           time.Time       `json:"run_at"`
	CreatedAt       time.Time       `json:"created_at"`
	StartedAt       time.Time       `json:"started_at,omitzero"`
	EndedAt         time.Time       `json:"ended_at,omitzero"`
	LeaseUntil      time.Time       `json:"lease_until,omitzero"`
	Errors          []AttemptError  `json:"errors"`              // the last 8, oldest first
	WaitsFor        []ID            `json:"waits_for,omitempty"` // only from Show
	Blocks          []ID            `json:"blocks,omitempty"`    // only from Show
}

func record(row dbschema.Job) Record {
	r := Record{
		ID: ID(row.ID), Kind: row.Kind, Args: json.RawMessage(row.Args), State: State(row.State), Queue: row.Queue,
		Site: ident.SiteID(row.Site), ResourceID: row.ResourceID, ProjectID: row.ProjectID, RequestID: row.RequestID,
		Trace: row.Trace, Priority: row.Priority, Attempt: row.Attempt, MaxAttempts: row.MaxAttempts, Snoozes: row.Snoozes,
		CancelRequested: row.CancelRequested, ClaimedBy: row.ClaimedBy,
		RunAt: moment(row.RunAt), CreatedAt: moment(row.CreatedAt), StartedAt: moment(row.StartedAt),
		EndedAt: moment(row.EndedAt), LeaseUntil: moment(row.LeaseUntil), Errors: decodeErrors(row.Errors),
	}
	return r
}

func (r Record) info() Info {
	return Info{ID: r.ID, Kind: r.Kind, Site: r.Site, ResourceID: r.ResourceID, ProjectID: r.ProjectID, RequestID: r.RequestID,
		Attempt: r.Attempt, MaxAttempts: r.MaxAttempts, Snoozes: r.Snoozes, CreatedAt: r.CreatedAt}
}

// LastError returns the newest error's message, or "".
func (r Record) LastError() string {
	if len(r.Errors) == 0 {
		return ""
	}
	return r.Errors[len(r.Errors)-1].Message
}

func moment(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// decodeErrors returns the kept errors. What cannot be read is dropped: it is
// only for the eye, and must not keep the job from running.
func decodeErrors(text string) []AttemptError {
	list := []AttemptError{}
	_ = json.Unmarshal([]byte(text), &list)
	return list
}

func appendError(text string, e AttemptError) string {
	if len(e.Message) > maxMessage {
		e.Message = e.Message[:maxMessage] + "…"
	}
	list := append(decodeErrors(text), e)
	list = list[max(0, len(list)-keptErrors):]
	out, err := json.Marshal(list)
	if err != nil {
		return text // no value of the type can fail to encode
	}
	return string(out)
}

// attemptError describes err for the record.
func attemptError(row dbschema.Job, at time.Time, err error) AttemptError {
	e := AttemptError{Attempt: row.Attempt, At: at, Site: row.Site, RequestID: row.RequestID,
		Kind: fault.KindOf(err).String(), Message: err.Error()}
	if site, request := origin(err); request != "" {
		e.Site, e.RequestID = site, request
	}
	return e
}
