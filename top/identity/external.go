package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// externalRoutes registers what Top answers when another Keystone knows the
// users: the catalog is Top's own, logging in, reading and what a user does to
// himself is handed on, and managing users is left to that Keystone's own address.
func (h *Handler) externalRoutes(g *echo.Group) {
	v3 := g.Group("/v3", h.cfg.Auth.Any)
	h.catalogRoutes(v3)

	g.POST("/v3/auth/tokens", h.forward)
	g.DELETE("/v3/auth/tokens", h.forward)
	g.POST("/v3/users/:user/password", h.forward)
	g.POST("/v3/users/:user/application_credentials", h.forward)
	g.DELETE("/v3/users/:user/application_credentials/:credential", h.forward)
	both(g, "/v3/*", h.forward)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		g.Add(method, "/v3/*", h.refuseWrite)
	}
}

// refuseWrite answers what changes users, projects and roles.
func (h *Handler) refuseWrite(echo.Context) error {
	return notOffered("Users, projects and roles of this cloud are managed at its own Keystone, %s.", h.cfg.External.URL())
}

// The headers that pass on the way out and on the way back.
var (
	headersOut  = []string{"Accept", "Content-Type", "X-Auth-Token", "X-Subject-Token", "User-Agent"}
	headersBack = []string{"Content-Type", "X-Subject-Token", "Vary", "Retry-After"}
)

// forward hands the request on to the external Keystone and shows its answer as Top's own.
func (h *Handler) forward(c echo.Context) error {
	path := strings.TrimPrefix(h.below(c), "/v3")
	to := h.cfg.External.URL().JoinPath(path) // which resolves "..": see below
	if !strings.HasPrefix(to.Path, h.cfg.External.URL().Path+"/") {
		return fault.New(fault.NotFound, "top/identity.forward", "The resource could not be found.")
	}
	to.RawQuery = c.QueryString()
	var failed error
	proxy := &httputil.ReverseProxy{
		Transport: h.cfg.External.Transport(),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL, r.Out.Host, r.Out.Header = to, "", http.Header{}
			for _, name := range headersOut {
				if values := r.In.Header.Values(name); len(values) > 0 {
					r.Out.Header[name] = values
				}
			}
			r.Out.Header.Set("X-Openstack-Request-Id", ident.RequestID(r.In.Context()))
		},
		ModifyResponse: func(r *http.Response) error { return h.adopt(c, r) },
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	if c.Request().Method == http.MethodDelete && path == "/auth/tokens" {
		defer h.cfg.External.Forget(c.Request().Header.Get(subjectHeader))
	}
	proxy.ServeHTTP(c.Response(), c.Request())
	var known *fault.Error
	if failed != nil && !errors.As(failed, &known) {
		return &fault.Error{Op: "top/identity.forward", Kind: fault.Unavailable, Msg: "The identity service does not answer.", Err: failed}
	}
	return failed
}

// maxAnswer bounds the external Keystone's answer, in bytes: tens of thousands of users.
const maxAnswer = 16 << 20

// adopt makes the Keystone's answer Top's: its catalog and its links point at Top.
func (h *Handler) adopt(c echo.Context, r *http.Response) error {
	header := http.Header{}
	for _, name := range headersBack {
		if values := r.Header.Values(name); len(values) > 0 {
			header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if r.StatusCode == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Keystone uri="`+h.link(c)+`"`)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return fault.New(fault.Unavailable, "top/identity.adopt", "The identity service's answer is too long.")
	}
	if body, err = h.replace(c, body); err != nil {
		return err
	}
	if r.Request == nil || r.Request.Method != http.MethodHead {
		header.Set("Content-Length", strconv.Itoa(len(body)))
		r.ContentLength = int64(len(body))
	}
	r.Header, r.Body = header, io.NopCloser(bytes.NewReader(body))
	return nil
}

// replace puts Top's catalog and address into a body.
func (h *Handler) replace(c echo.Context, body []byte) ([]byte, error) {
	body = bytes.ReplaceAll(body, []byte(`"`+h.cfg.External.URL().String()), []byte(`"`+h.link(c)))
	var outer map[string]json.RawMessage
	var token map[string]json.RawMessage
	isToken := json.Unmarshal(body, &outer) == nil && json.Unmarshal(outer["token"], &token) == nil
	if !isToken || token["catalog"] == nil {
		return body, nil
	}
	catalog, err := h.catalog(c)
	if err != nil {
		return nil, err
	}
	if token["catalog"], err = json.Marshal(catalog); err != nil {
		return nil, fmt.Errorf("encode catalog: %w", err)
	}
	if outer["token"], err = json.Marshal(token); err != nil {
		return nil, fmt.Errorf("encode token: %w", err)
	}
	return json.Marshal(outer)
}
