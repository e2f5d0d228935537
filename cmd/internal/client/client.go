// Package client is how the operator's commands reach Top: a clouds.yaml entry
// for who they are, a Keystone v3 login, and calls of the operator API /v1.
//
// What it promises: errors name the file, the key or the site that is wrong,
// and never show a password or a token.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// callLimit bounds one call; adding a site takes as long as the site's probe, up to a minute.
const callLimit = 90 * time.Second

// maxAnswer bounds an answer in memory.
const maxAnswer = 64 << 20

// Client calls the operator API of one Top. It is safe for concurrent use.
type Client struct {
	base string // without a trailing slash: http://127.0.0.1:8780
	cred sites.Credential
	name string // of the cloud, for errors
	http *http.Client

	mu    sync.Mutex // guards token
	token ident.Secret
}

// New returns a client that logs in as the cloud's account. base is Top's URL;
// "" takes it from the cloud's auth_url, which ends in /identity or /identity/v3 where Top is its own Keystone.
func New(cloud Cloud, base string) (*Client, error) {
	c := &Client{base: strings.TrimRight(base, "/"), cred: cloud.Credential, name: cloud.Name}
	if c.base == "" {
		root, ok := strings.CutSuffix(keystone(c.cred.AuthURL), "/identity")
		if !ok {
			return nil, fmt.Errorf("%s: cloud %s: auth_url %s is not Top's own Keystone (it does not end in /identity): say with --url or HEADWATER_URL where Top is",
				cloud.File, cloud.Name, cloud.Credential.AuthURL)
		}
		c.base = root
	}
	if u, err := url.Parse(c.base); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("url %q: want http://HOST:PORT or https://HOST:PORT", c.base)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.cred.Insecure}
	if c.cred.CACert != "" {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM([]byte(c.cred.CACert)) {
			return nil, fmt.Errorf("%s: cloud %s: cacert: it holds no certificate", cloud.File, cloud.Name)
		}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true}
	c.http = &http.Client{Transport: transport, Timeout: callLimit,
		// A redirect would carry the password or the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// keystone returns a Keystone URL without its version.
func keystone(authURL string) string {
	return strings.TrimSuffix(strings.TrimRight(authURL, "/"), "/v3")
}

// Problem is an error that Top answered with.
type Problem struct {
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Problems []struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"problems"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
	RequestID string `json:"request_id"`
}

// Error returns what is wrong, in one line.
func (p *Problem) Error() string {
	text := p.Detail
	for _, e := range p.Errors {
		text += "; " + e.Location + ": " + e.Message
	}
	if p.Status >= http.StatusInternalServerError && p.RequestID != "" {
		text += " (" + p.RequestID + ")"
	}
	return text
}

// IsStatus reports whether err is Top's answer of the given HTTP status.
func IsStatus(err error, status int) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status
}

// Get reads path below /v1 into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	_, err := c.Do(ctx, http.MethodGet, path, query, nil, out)
	return err
}

// Do makes one call of the operator API: path is below /v1, in is sent as JSON
// unless it is nil, the answer is read into out unless that is nil. It returns
// the status. A refusal is a *Problem.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any) (int, error) {
	token, err := c.login(ctx, false)
	if err != nil {
		return 0, err
	}
	status, err := c.call(ctx, token, method, path, query, in, out)
	if status != http.StatusUnauthorized {
		return status, err
	}
	// The token may have ended; once more with a fresh one.
	if token, err = c.login(ctx, true); err != nil {
		return 0, err
	}
	return c.call(ctx, token, method, path, query, in, out)
}

func (c *Client) call(ctx context.Context, token ident.Secret, method, path string, query url.Values, in, out any) (int, error) {
	target := c.base + "/v1" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	resp, body, err := c.send(ctx, method, target, token, in)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return resp.StatusCode, problem(resp, body, c.base)
	}
	if out != nil && len(body) > 0 {
		if err := json.Unmarshal(body, out); err != nil {
			return resp.StatusCode, fmt.Errorf("%s %s: the answer is no JSON as expected: is Headwater's Top at %s?: %w", method, target, c.base, err)
		}
	}
	return resp.StatusCode, nil
}

// problem reads a refusal.
func problem(resp *http.Response, body []byte, base string) error {
	p := &Problem{}
	if json.Unmarshal(body, p) != nil || p.Detail == "" {
		p.Detail = fmt.Sprintf("%s answered %s: is Headwater's Top there?", base, resp.Status)
	}
	p.Status = resp.StatusCode
	return p
}

func (c *Client) send(ctx context.Context, method, target string, token ident.Secret, in any) (*http.Response, []byte, error) {
	var payload io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %s: %w", method, target, err)
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return nil, nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("X-Auth-Token", token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, unreached(err, c.base)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: the answer broke off: %w", method, target, err)
	}
	return resp, body, nil
}

// unreached says in one sentence that Top is not there.
func unreached(err error, base string) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("%s does not answer: %w", u.URL, u.Err)
	}
	return fmt.Errorf("%s does not answer: %w", base, err)
}

// login returns a token, asking Keystone when there is none yet or again says so.
func (c *Client) login(ctx context.Context, again bool) (ident.Secret, error) {
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	if token != "" && !again {
		return token, nil
	}
	target := keystone(c.cred.AuthURL) + "/v3/auth/tokens"
	resp, body, err := c.send(ctx, http.MethodPost, target, "", authBody(c.cred))
	if err != nil {
		return "", fmt.Errorf("log in as cloud %s: %w", c.name, err)
	}
	token = ident.Secret(resp.Header.Get("X-Subject-Token"))
	if resp.StatusCode == http.StatusUnauthorized {
		return "", fmt.Errorf("log in as cloud %s: %s refuses it: wrong user, password, domain or project", c.name, target)
	}
	if resp.StatusCode != http.StatusCreated || token == "" {
		return "", fmt.Errorf("log in as cloud %s at %s: %s", c.name, target, keystoneMessage(resp, body))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
	return token, nil
}

// keystoneMessage is Keystone's sentence, or the status.
func keystoneMessage(resp *http.Response, body []byte) string {
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Error.Message+answer.Detail != "" {
		return answer.Error.Message + answer.Detail
	}
	return resp.Status
}
