package cascadetest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Tokens are "ROLE:PROJECT": who shows one has that role in that project.
type Tokens struct{}

// Validate reads a token.
func (Tokens) Validate(_ context.Context, text string) (*identity.Token, error) {
	role, project, ok := strings.Cut(text, ":")
	if !ok {
		return nil, fault.New(fault.Unauthorized, "test", "no such token")
	}
	return &identity.Token{
		User: identity.Ref{ID: "user-of-" + project, Name: "user", DomainID: "default"}, Project: &identity.Ref{ID: project, Name: project, DomainID: "default"},
		Roles: []identity.Ref{{ID: role, Name: role}},
	}, nil
}

// API is one of Top's services over a stack, behind a real socket: bodies that break off need one.
type API struct {
	T     testing.TB
	Stack *Stack
	URL   string // with the service's own path
}

// Serve returns an API that a handler answers at a path.
func (s *Stack) Serve(t testing.TB, handler http.Handler, path string) *API {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return &API{T: t, Stack: s, URL: srv.URL + path}
}

// Answer is what came back; its Code is 0, and Raw the error, when nothing did.
type Answer struct {
	Code   int
	Header http.Header
	Body   map[string]any // when it is a JSON object
	Raw    []byte
}

// Ask makes one request as "ROLE:PROJECT"; a text or reader goes as it is, all else as JSON. Header is "Name: value" pairs.
func (a *API) Ask(token, method, path string, body any, header ...string) Answer {
	a.T.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader = b
	case string:
		reader = strings.NewReader(b)
	default:
		raw, err := json.Marshal(body)
		must(a.T, err)
		reader = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(a.T.Context(), method, a.URL+path, reader)
	must(a.T, err)
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for _, h := range header {
		if k, v, ok := strings.Cut(h, ": "); ok {
			r.Header.Set(k, v)
		}
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return Answer{Raw: []byte(err.Error())}
	}
	defer w.Body.Close() //nolint:errcheck // a reader's; what was read is what counts
	out := Answer{Code: w.StatusCode, Header: w.Header}
	if out.Raw, err = io.ReadAll(w.Body); err != nil {
		return Answer{Raw: []byte(err.Error())}
	}
	if len(out.Raw) > 0 && out.Raw[0] == '{' {
		if err := json.Unmarshal(out.Raw, &out.Body); err != nil {
			a.T.Fatalf("%s %s: %v in %s", method, path, err, out.Raw)
		}
	}
	return out
}
