// Package identity speaks Keystone v3 to unmodified clients. The catalog that
// it gives out always points at Top, with the region Global for all sites first
// and one region for each enabled site, whatever Keystone knows the users.
package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
)

// siteNames knows the sites that clients may be sent to.
type siteNames interface {
	Enabled(ctx context.Context) ([]ident.SiteID, error)
}

// Config is what a Handler needs. Exactly one of Store and External is set.
type Config struct {
	// Store is the built-in identity service.
	Store *identity.Store
	// External is the Keystone that Top trusts instead: requests are handed on to it, and tokens are shown with Top's catalog.
	External *auth.External
	Auth     *auth.Authenticator
	Sites    siteNames
	// PublicURL is Top's address as clients know it, without a trailing slash; "" takes it from each request.
	PublicURL string
}

// Handler answers below /identity.
type Handler struct {
	cfg   Config
	store *identity.Store
}

// New returns a Handler.
func New(cfg Config) *Handler { return &Handler{cfg: cfg, store: cfg.Store} }

// base returns the address of Top, with the site's prefix when the request came through one.
func (h *Handler) base(c echo.Context) string {
	base := auth.BaseURL(c, h.cfg.PublicURL)
	if site := auth.Pin(c); site != "" {
		base += "/sites/" + string(site)
	}
	return base
}

// link returns the address of something below /identity/v3.
func (h *Handler) link(c echo.Context, path ...string) string {
	out := h.base(c) + "/identity/v3"
	for _, p := range path {
		out += "/" + url.PathEscape(p)
	}
	return out
}

// object is a JSON object in the making.
type object = map[string]any

// list answers with a collection in Keystone's form, less what an inexact filter of the query leaves out. There are no pages, as in Keystone's own SQL driver.
func (h *Handler) list(c echo.Context, name string, items []object) error {
	if items = named(c.QueryParams(), items); items == nil {
		items = []object{}
	}
	self := h.base(c) + "/identity" + h.below(c)
	if q := c.QueryString(); q != "" {
		self += "?" + q
	}
	return c.JSON(http.StatusOK, object{name: items, "links": object{"self": self, "previous": nil, "next": nil}})
}

// below returns the request's path below /identity.
func (h *Handler) below(c echo.Context) string {
	const prefix = "/identity"
	if p := c.Request().URL.EscapedPath(); len(p) > len(prefix) && p[:len(prefix)] == prefix {
		return p[len(prefix):]
	}
	return ""
}

// require lets in who the rule allows.
func require(c echo.Context, rule string) error { return auth.From(c).Require(rule, "") }

// requireSelf lets in the user that the path names, and who the rule allows.
func requireSelf(c echo.Context, userID, rule string) error {
	if who := auth.From(c); userID != "" && who.Token().User.ID == userID {
		return nil
	}
	return require(c, rule)
}

// empty answers 204.
func empty(c echo.Context, err error) error {
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func views[T any](items []T, view func(T) object) []object {
	out := make([]object, len(items))
	for i, item := range items {
		out[i] = view(item)
	}
	return out
}

func badRequest(format string, args ...any) error {
	return fault.New(fault.BadRequest, "top/identity", format, args...)
}

// objectBody is middleware that refuses bodies which are no JSON object, also where nobody looks at them: Keystone reads
// every body before it knows what is asked (keystone/server/flask/request_processing/json_body.py).
func objectBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		data, err := body(c)
		if err != nil {
			return err
		}
		if len(data) > 0 {
			var m map[string]json.RawMessage
			if json.Unmarshal(data, &m) != nil || m == nil {
				return badRequest("Expecting to find valid JSON in request body.")
			}
		}
		c.Request().Body = io.NopCloser(bytes.NewReader(data))
		return next(c)
	}
}

// storable is middleware that refuses paths and queries that no id or name can equal: what is not text, or holds a NUL.
func storable(next echo.HandlerFunc) echo.HandlerFunc {
	bad := func(s string) bool { return !utf8.ValidString(s) || strings.ContainsRune(s, 0) }
	return func(c echo.Context) error {
		if slices.ContainsFunc(c.ParamValues(), bad) {
			return fault.New(fault.NotFound, "top/identity", "The resource could not be found.")
		}
		for _, values := range c.QueryParams() {
			if slices.ContainsFunc(values, bad) {
				return badRequest("The query is not valid text.")
			}
		}
		return next(c)
	}
}
