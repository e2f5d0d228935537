package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// problem is every error of this API (RFC 9457), as top/faultjson spells it, with details where there are some.
type problem struct {
	Type      string             `json:"type"`
	Title     string             `json:"title"`
	Status    int                `json:"status"`
	Detail    string             `json:"detail"`
	RequestID string             `json:"request_id,omitempty"`
	Problems  []registry.Problem `json:"problems,omitempty" doc:"Why a site was refused, one by one."`
	Errors    []fieldError       `json:"errors,omitempty" doc:"What is wrong with the request, field by field."`

	retryAfter string
}

// fieldError is huma's ErrorDetail without the value, which may be a password.
type fieldError struct {
	Location string `json:"location,omitempty" example:"body.credential.auth_url"`
	Message  string `json:"message"`
}

// Error returns the detail.
func (p *problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders returns the headers that go with the answer.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter != "" {
		h.Set("Retry-After", p.retryAfter)
	}
	return h
}

// ContentType returns application/problem+json.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// refusal turns a fault into the answer.
func refusal(ctx context.Context, err error) *problem {
	var done *problem
	if errors.As(err, &done) {
		return done
	}
	reply := faultjson.Render(faultjson.Asked{Service: faultjson.Operator, RequestID: ident.RequestID(ctx)}, err)
	p := &problem{Status: reply.Status, retryAfter: reply.Header.Get("Retry-After")}
	if jsonErr := json.Unmarshal(reply.Body, p); jsonErr != nil {
		p.Title = http.StatusText(p.Status)
	}
	return p
}

// plainProblem is a huma.Transformer: it gives huma's own errors (a field of the wrong type) the form of ours.
func plainProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &problem{Type: "about:blank", Title: m.Title, Status: m.Status, Detail: m.Detail, RequestID: ident.RequestID(ctx.Context())}
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, fieldError{Location: e.Location, Message: e.Message})
	}
	return p, nil
}

type callerKey struct{}

// caller returns who asks; the middleware has put it there.
func caller(ctx context.Context) sites.Caller {
	who, _ := ctx.Value(callerKey{}).(sites.Caller)
	return who
}

// roleKey is the operation's metadata that names the role it needs, when that is not admin.
const roleKey = "role"

// authorize lets in who has the role that the operation names, before anything of the request is read.
func (h *Handler) authorize(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		who, err := h.cfg.Caller(humaecho.Unwrap(ctx))
		if err == nil {
			err = allowed(who, ctx.Operation())
		}
		if err != nil {
			p := refusal(ctx.Context(), err)
			for name, values := range p.GetHeaders() {
				ctx.SetHeader(name, values[0])
			}
			_ = huma.WriteErr(api, ctx, p.Status, p.Detail) // the connection's error is nobody's
			return
		}
		next(huma.WithValue(ctx, callerKey{}, who))
	}
}

// noBody refuses a body where the operation takes none: whoever sends one expects something of it. An empty object,
// which many clients send with every POST, expects nothing.
func noBody(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if op := ctx.Operation(); op.RequestBody == nil && op.Method != http.MethodGet {
			data, err := io.ReadAll(io.LimitReader(ctx.BodyReader(), 3))
			if text := bytes.TrimSpace(data); err != nil || len(text) > 0 && string(text) != "{}" {
				_ = huma.WriteErr(api, ctx, http.StatusBadRequest, "this operation takes no request body") // the connection's error is nobody's
				return
			}
		}
		next(ctx)
	}
}

func allowed(who sites.Caller, op *huma.Operation) error {
	role, _ := op.Metadata[roleKey].(string)
	if role == "" {
		role = "admin"
	}
	if !who.Has(role) {
		return fault.New(fault.Forbidden, "top/admin", "this needs the role %s", role)
	}
	return nil
}

// handle registers an operation whose errors are faults.
func handle[I, O any](api huma.API, op huma.Operation, do func(context.Context, *I) (*O, error)) {
	op.MaxBodyBytes = maxBody
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			return nil, refusal(ctx, err)
		}
		return out, nil
	})
}

// maxBody bounds a request in bytes: a credential with a CA bundle is the greatest.
const maxBody = 1 << 20
