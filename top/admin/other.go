package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/placement"
)

// otherRoutes registers the audit log, the explanation of placements and the rotation of keys.
func (h *Handler) otherRoutes(api huma.API) {
	handle(api, huma.Operation{OperationID: "list-audit", Method: http.MethodGet, Path: "/audit", Tags: []string{"Audit"},
		Summary: "List who did what, the newest first"}, h.listAudit)
	handle(api, huma.Operation{OperationID: "explain-placement", Method: http.MethodPost, Path: "/placement/explain", Tags: []string{"Placement"},
		Summary: "Explain where a server would go",
		Description: "Takes the body of POST /compute/v2.1/servers, decides as a create would, and says of each site why it was chosen or not. " +
			"Nothing is created. That no site can take the server is an answer (200) too: its site is empty, and refused says what a create would be told. " +
			"Any member may ask for the own project.",
		Metadata: map[string]any{roleKey: "member"}}, h.explain)
	handle(api, huma.Operation{OperationID: "rotate-keys", Method: http.MethodPost, Path: "/keys/rotate", Tags: []string{"Keys"},
		Summary: "Seal all site credentials with a new key",
		Description: "Makes a key, adds it to the key file of the replica that serves this request, and seals every credential with it. " +
			"It can be repeated after an interruption. Replicas with copies of the key file: add the key to all copies, then call this with existing."}, h.rotate)
}

type auditView struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	RequestID string    `json:"request_id"`
	UserID    string    `json:"user_id"`
	UserName  string    `json:"user_name"`
	ProjectID string    `json:"project_id"`
	Remote    string    `json:"remote"`
	Action    string    `json:"action"`
	Target    string    `json:"target"`
	Site      string    `json:"site,omitempty"`
	Outcome   string    `json:"outcome"`
	Detail    string    `json:"detail,omitempty"`
}

type listAuditInput struct {
	ProjectID string    `query:"project_id"`
	UserID    string    `query:"user_id"`
	Action    string    `query:"action"`
	Target    string    `query:"target"`
	RequestID string    `query:"request_id"`
	Since     time.Time `query:"since" doc:"RFC 3339."`
	Until     time.Time `query:"until" doc:"RFC 3339."`
	Before    string    `query:"before" doc:"The id of the last event of the previous page."`
	Limit     int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type auditOutput struct {
	Body struct {
		Events []auditView `json:"events"`
	}
}

func (h *Handler) listAudit(ctx context.Context, in *listAuditInput) (*auditOutput, error) {
	list, err := h.cfg.Audit.List(ctx, audit.Filter{ProjectID: in.ProjectID, UserID: in.UserID, Action: in.Action, Target: in.Target,
		RequestID: in.RequestID, Since: in.Since, Until: in.Until, Before: in.Before, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &auditOutput{}
	out.Body.Events = []auditView{}
	for _, e := range list {
		out.Body.Events = append(out.Body.Events, auditView{ID: e.ID, At: e.At, RequestID: e.RequestID, UserID: e.UserID, UserName: e.UserName,
			ProjectID: e.ProjectID, Remote: e.Remote, Action: e.Action, Target: e.Target, Site: string(e.Site), Outcome: e.Outcome, Detail: e.Detail})
	}
	return out, nil
}

type explainInput struct {
	Body map[string]any
}

type explainOutput struct {
	Body placement.Explanation
}

func (h *Handler) explain(ctx context.Context, in *explainInput) (*explainOutput, error) {
	answer, err := h.cfg.Explain(ctx, caller(ctx), in.Body)
	if err != nil {
		return nil, err
	}
	return &explainOutput{Body: answer}, nil
}

type rotateInput struct {
	Body struct {
		Existing bool `json:"existing,omitempty" doc:"Make no new key: seal with the newest one that is in the file."`
	}
}

type rotateOutput struct {
	Body struct {
		Key      string `json:"key" doc:"The id of the key that seals now."`
		Sites    int    `json:"sites" doc:"Accounts of sites that were sealed again."`
		Projects int    `json:"projects" doc:"Accounts of projects that were sealed again."`
	}
}

func (h *Handler) rotate(ctx context.Context, in *rotateInput) (*rotateOutput, error) {
	done, err := h.cfg.Sites.Rotate(ctx, !in.Body.Existing)
	if err != nil {
		return nil, err
	}
	out := &rotateOutput{}
	out.Body.Key, out.Body.Sites, out.Body.Projects = done.Key, done.Sites, done.Projects
	return out, nil
}
