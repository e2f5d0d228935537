package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// maxAnswer bounds a JSON answer in memory; a page of 1000 servers is about 3 MB.
const maxAnswer = 64 << 20

// statusOK are the answers that count as done.
var statusOK = []int{http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNonAuthoritativeInfo,
	http.StatusNoContent, http.StatusResetContent, http.StatusPartialContent, http.StatusMultiStatus}

// call is one request to one service.
type call struct {
	op           string
	service      sites.Service
	method       string
	path         string // below the endpoint
	versions     bool   // ask the service for its versions instead; path is not used
	query        url.Values
	body         any
	header       http.Header
	idempotent   bool
	microversion string // "" is what the adaptor chose, "none" sends none
}

// answer is an accepted call's. Body must be closed.
type answer struct {
	status int
	header http.Header
	body   io.ReadCloser
	began  time.Time
}

func (c *call) repeatable() bool {
	switch c.method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return true
	}
	return c.idempotent
}

// doJSON carries out a call within the adaptor's time-out and decodes a JSON object that comes back.
func (a *Adaptor) doJSON(ctx context.Context, c *call) (sites.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	ans, err := a.exchange(ctx, c)
	if err != nil {
		return sites.Reply{}, err
	}
	defer ans.body.Close()
	reply := sites.Reply{Status: ans.status, Header: ans.header, Began: ans.began}
	raw, err := io.ReadAll(io.LimitReader(ans.body, maxAnswer+1))
	if err == nil && len(raw) > maxAnswer {
		err = fmt.Errorf("answer is longer than %d bytes", maxAnswer)
	}
	if err == nil && looksJSON(ans.header, raw) {
		reply.Body, err = decodeObject(raw)
	}
	if err != nil {
		return sites.Reply{}, a.unreadable(c, ans.header, err)
	}
	return reply, nil
}

// unreadable makes the fault of an accepted call whose answer cannot be read: for a call that must not be
// repeated, what was made is known to the site alone.
func (a *Adaptor) unreadable(c *call, header http.Header, err error) *fault.Error {
	e := &fault.Error{Op: c.op, Site: string(a.site), Kind: fault.Unavailable, RequestID: requestID(header), Err: bareCause(err),
		Msg: "the answer of site " + string(a.site) + " could not be read"}
	if !c.repeatable() {
		e.Kind = fault.Ambiguous
	}
	return e
}

// looksJSON reports whether an answer is meant to be a JSON object; lists and texts are not.
func looksJSON(h http.Header, raw []byte) bool {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	if len(trimmed) == 0 {
		return false
	}
	return trimmed[0] == '{' || strings.Contains(h.Get("Content-Type"), "json") && trimmed[0] != '['
}

// decodeObject reads exactly one JSON object, its numbers as json.Number.
func decodeObject(raw []byte) (sites.Body, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var body sites.Body
	if err := dec.Decode(&body); err != nil {
		return nil, err
	}
	if body == nil {
		return nil, errors.New("JSON null in place of an object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return body, nil
}

// exchange sends a call, logging in before and, when the site refuses the
// token, once again. The caller bounds it through ctx and closes the body.
func (a *Adaptor) exchange(ctx context.Context, c *call) (*answer, error) {
	payload, contentType, err := encode(c)
	if err != nil {
		return nil, &fault.Error{Op: c.op, Site: string(a.site), Kind: fault.BadRequest, Msg: "the request cannot be written as JSON", Err: err}
	}
	g, err := a.session.grant(ctx)
	if err != nil {
		return nil, err
	}
	version, err := a.version(ctx, c)
	if err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		target, err := a.target(g, c)
		if err != nil {
			return nil, err
		}
		headers := a.headers(ctx, g.token, c, contentType, version)
		ans, refused, err := a.send(ctx, c, target, headers, payload)
		if refused != nil && refused.Kind == fault.Unauthorized && !again {
			if _, stream := c.body.(io.Reader); !stream {
				if g, err = a.session.renew(ctx, g.token); err != nil {
					return nil, err
				}
				continue
			}
		}
		if refused != nil {
			if refused.Kind == fault.NotAcceptable && c.microversion == "" {
				a.windows.forget(c.service) // the site was set back to an older release
			}
			return nil, refused
		}
		return ans, err
	}
}

// encode returns the bytes of a call's body and their type, or none for a stream.
func encode(c *call) ([]byte, string, error) {
	switch c.body.(type) {
	case nil, io.Reader:
		return nil, "", nil
	}
	payload, err := json.Marshal(c.body)
	return payload, "application/json", err
}

// target returns the URL of a call.
func (a *Adaptor) target(g *grant, c *call) (string, error) {
	base := g.endpoints[c.service]
	if base == "" {
		return "", &fault.Error{Op: c.op, Site: string(a.site), Kind: fault.NotImplemented,
			Msg: fmt.Sprintf("site %s offers no %s service", a.site, c.service)}
	}
	if c.versions {
		return versionsURL(c.service, base), nil
	}
	target := base + strings.TrimLeft(c.path, "/")
	if len(c.query) > 0 {
		target += "?" + c.query.Encode()
	}
	return target, nil
}

// passDown returns the headers that tie a site's log to ours.
func passDown(ctx context.Context) map[string]string {
	headers := map[string]string{}
	if id := ident.RequestID(ctx); id != "" {
		headers["X-Openstack-Request-Id"] = id
	}
	if trace := ident.Trace(ctx); trace != "" {
		headers["Traceparent"] = trace
	}
	return headers
}

func (a *Adaptor) headers(ctx context.Context, token string, c *call, contentType, version string) map[string]string {
	headers := map[string]string{}
	for name := range c.header {
		headers[http.CanonicalHeaderKey(name)] = c.header.Get(name)
	}
	if contentType != "" && headers["Content-Type"] == "" {
		headers["Content-Type"] = contentType
	}
	if version != "" {
		headers["Openstack-Api-Version"] = version
	}
	maps.Copy(headers, passDown(ctx))
	headers["X-Auth-Token"] = token
	return headers
}

// send does one exchange on the wire. refused is set when the site answered, but with no success.
func (a *Adaptor) send(ctx context.Context, c *call, target string, headers map[string]string, payload []byte) (_ *answer, refused *fault.Error, _ error) {
	sent := &sentState{}
	opts := &gophercloud.RequestOpts{MoreHeaders: headers, KeepResponseBody: true, OkCodes: statusOK}
	if c.versions { // Glance and Nova answer 300 to that question
		opts.OkCodes = append(slices.Clone(statusOK), http.StatusMultipleChoices)
	}
	if stream, ok := c.body.(io.Reader); ok {
		opts.RawBody = stream
	} else if payload != nil {
		opts.RawBody = bytes.NewReader(payload)
	}
	began := a.now()
	resp, err := a.client.Request(httptrace.WithClientTrace(ctx, sent.watch()), c.method, target, opts)
	var code gophercloud.ErrUnexpectedResponseCode
	switch {
	case errors.As(err, &code):
		return nil, a.refused(outcome{op: c.op, status: code.Actual, header: code.ResponseHeader, body: code.Body, idempotent: c.repeatable()}), nil
	case err != nil:
		return nil, nil, a.lost(c.op, sent, c.repeatable(), err)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: resp.Body, began: began}, nil, nil
}

// Do makes one call in the service's own dialect.
func (a *Adaptor) Do(ctx context.Context, r sites.Request) (sites.Reply, error) {
	return a.doJSON(ctx, &call{op: "sites/openstack.Do", service: r.Service, method: r.Method, path: r.Path, query: r.Query,
		body: r.Body, header: r.Header, idempotent: r.Idempotent, microversion: r.Microversion})
}
