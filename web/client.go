package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// What one answer of the API may cost.
const (
	apiTimeout = 90 * time.Second // a verb that Top calls through waits for the site
	maxAnswer  = 32 << 20
)

// computeVersion is what the dashboard speaks: flavors inside servers (2.47), tags, the hostname (2.90).
const computeVersion = "compute 2.90"

// client speaks to Top's HTTP API.
type client struct {
	http *http.Client
	base string
}

// apiError is an answer of the API other than success.
type apiError struct {
	Status    int
	Message   string // the API's own
	RequestID string
}

// Error returns the API's message.
func (e *apiError) Error() string { return fmt.Sprintf("%s (HTTP %d)", e.Message, e.Status) }

// statusOf returns the API's status, or 0 when err is no answer of the API.
func statusOf(err error) int {
	var e *apiError
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// call makes one request as the token's owner and decodes the answer into out, unless that is nil.
func (c *client) call(ctx context.Context, token, method, path string, body, out any) (http.Header, error) {
	var data io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		data = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, data)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	if strings.HasPrefix(path, "/compute/") {
		req.Header.Set("OpenStack-API-Version", computeVersion)
	}
	return c.do(req, out)
}

func (c *client) do(req *http.Request, out any) (http.Header, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer to %s %s: %w", req.Method, req.URL.Path, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &apiError{Status: resp.StatusCode, Message: message(resp.StatusCode, text), RequestID: resp.Header.Get("X-Openstack-Request-Id")}
	}
	if out != nil && len(text) > 0 {
		if err := json.Unmarshal(text, out); err != nil {
			return nil, fmt.Errorf("decode the answer to %s %s: %w", req.Method, req.URL.Path, err)
		}
	}
	return resp.Header, nil
}

// revoke ends a token.
func (c *client) revoke(ctx context.Context, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.base+"/identity/v3/auth/tokens", nil)
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("X-Subject-Token", token)
	_, err = c.do(req, nil)
	return err
}

// get is call of GET.
func (c *client) get(ctx context.Context, token, path string, out any) error {
	_, err := c.call(ctx, token, http.MethodGet, path, nil, out)
	return err
}

// glancePage finds the message in Glance's HTML.
var glancePage = regexp.MustCompile(`(?s)</h1>\s*(.*?)\s*<br`)

// message finds what an error says, in the dialect of any of the services.
func message(status int, body []byte) string {
	var outer map[string]json.RawMessage
	if json.Unmarshal(body, &outer) == nil {
		var detail string
		if json.Unmarshal(outer["detail"], &detail) == nil && detail != "" {
			return detail
		}
		for _, inner := range outer {
			var fault struct {
				Message string `json:"message"`
			}
			if json.Unmarshal(inner, &fault) == nil && fault.Message != "" {
				return fault.Message
			}
		}
	}
	if m := glancePage.FindSubmatch(body); m != nil {
		return html.UnescapeString(string(m[1]))
	}
	return http.StatusText(status)
}
