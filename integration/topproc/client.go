package topproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Object is one JSON object.
type Object = map[string]any

// Client makes requests as one user in one project.
type Client struct {
	URL, Token string
	UserID     string
	ProjectID  string
	HTTP       *http.Client
}

// Answer is what a request was answered with.
type Answer struct {
	Status int
	Header http.Header
	Text   string
}

// OK reports a 2xx.
func (a Answer) OK() bool { return a.Status/100 == 2 }

// Decode reads the body as JSON into v.
func (a Answer) Decode(v any) error {
	if err := json.Unmarshal([]byte(a.Text), v); err != nil {
		return fmt.Errorf("answer %d %q: %w", a.Status, a.Text, err)
	}
	return nil
}

// Do makes one request; body is nil, bytes (sent as an octet stream), a string (sent as it is, as JSON) or a value to be encoded as JSON.
// An error means that no answer came; what became of the request is then unknown.
func (c *Client) Do(ctx context.Context, method, path string, body any, header ...string) (Answer, error) {
	kind := "application/json"
	var data []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		data, kind = b, "application/octet-stream"
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			return Answer{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(data))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", kind)
	if c.Token != "" {
		req.Header.Set("X-Auth-Token", c.Token)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return Answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return Answer{}, err
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Text: string(text)}, nil
}

// Must is Do for requests that have to be answered with a 2xx; out, when not nil, takes the body. It goes on asking while
// nobody listens (Top is being started), which is certain not to have been carried out.
func (c *Client) Must(t testing.TB, method, path string, body, out any, header ...string) Answer {
	t.Helper()
	limit := time.After(startLimit)
	for {
		a, err := c.Do(t.Context(), method, path, body, header...)
		if err != nil && refused(err) {
			select {
			case <-limit:
			case <-time.After(20 * time.Millisecond):
				continue
			}
		}
		if err == nil && !a.OK() {
			err = fmt.Errorf("answered %d: %s", a.Status, a.Text)
		}
		if err == nil && out != nil {
			err = a.Decode(out)
		}
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		return a
	}
}

func refused(err error) bool { return strings.Contains(err.Error(), "connection refused") }

// SignIn returns a client for a user of the domain default in a project of it.
func (p *Top) SignIn(t testing.TB, user, project string) *Client {
	t.Helper()
	domain := Object{"id": "default"}
	c := &Client{URL: p.URL, HTTP: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	t.Cleanup(c.HTTP.CloseIdleConnections)
	var got struct {
		Token struct {
			User    struct{ ID string }
			Project struct{ ID string }
		}
	}
	a := c.Must(t, "POST", "/identity/v3/auth/tokens", Object{"auth": Object{
		"identity": Object{"methods": []string{"password"}, "password": Object{"user": Object{"name": user, "domain": domain, "password": Password}}},
		"scope":    Object{"project": Object{"name": project, "domain": domain}},
	}}, &got)
	c.Token, c.UserID, c.ProjectID = a.Header.Get("X-Subject-Token"), got.Token.User.ID, got.Token.Project.ID
	return c
}

// Admin returns a client for the operator.
func (p *Top) Admin(t testing.TB) *Client { t.Helper(); return p.SignIn(t, "admin", "admin") }

// NewTenant makes a project and in it a user of the same name with a role, unless they are there, and returns the user's client.
func (p *Top) NewTenant(t testing.TB, project, user, role string) *Client {
	t.Helper()
	admin := p.Admin(t)
	projectID := admin.ensure(t, "projects", "project", project, Object{"name": project, "domain_id": "default"})
	userID := admin.ensure(t, "users", "user", user, Object{"name": user, "domain_id": "default", "password": Password})
	roleID := admin.ensure(t, "roles", "role", role, Object{"name": role})
	admin.Must(t, "PUT", "/identity/v3/projects/"+projectID+"/users/"+userID+"/roles/"+roleID, nil, nil)
	return p.SignIn(t, user, project)
}

// ensure finds something of Keystone's by its name or makes it.
func (c *Client) ensure(t testing.TB, plural, singular, name string, body Object) string {
	t.Helper()
	var list map[string]json.RawMessage
	c.Must(t, "GET", "/identity/v3/"+plural+"?name="+name, nil, &list)
	var found []struct{ ID, Name string }
	if err := json.Unmarshal(list[plural], &found); err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Name == name {
			return f.ID
		}
	}
	var made map[string]struct{ ID string }
	c.Must(t, "POST", "/identity/v3/"+plural, Object{singular: body}, &made)
	return made[singular].ID
}
