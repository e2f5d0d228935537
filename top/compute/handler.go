// Package compute is Top's Nova: the compute API of microversions 2.1 to 2.93
// as unmodified clients speak it. It decodes, authorizes, calls package
// cascade/compute, and renders each answer as the asked microversion shows it.
package compute

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// dialect is how Nova spells microversions: those of OpenStack Zed.
var dialect = wire.Dialect{
	Name: "compute", Legacy: "X-OpenStack-Nova-API-Version",
	Min: wire.Version{Major: 2, Minor: 1}, Max: wire.Version{Major: 2, Minor: 93},
}

// Config is what a Handler is made of.
type Config struct {
	Service *engine.Service
	Auth    *auth.Authenticator
	// PublicURL is how clients reach Top; "" takes it from each request.
	PublicURL string
	Now       func() time.Time // nil is time.Now
}

// Handler answers the compute API.
type Handler struct {
	service *engine.Service
	auth    *auth.Authenticator
	public  string
	now     func() time.Time
}

// New returns a Handler.
func New(cfg Config) *Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Handler{service: cfg.Service, auth: cfg.Auth, public: cfg.PublicURL, now: cfg.Now}
}

// call is one request under way.
type call struct {
	echo.Context
	h      *Handler
	who    *auth.Who
	caller sites.Caller
	v      wire.Version
	// versionedURL and bareURL are worked out once: a page of servers has thousands of links.
	versionedURL, bareURL string
	// explains says that nothing is made: what a create may leave to the site may be absent.
	explains bool
}

// do makes a route of a function: it negotiates the microversion and applies the rule of that name.
func (h *Handler) do(rule string, serve func(*call) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		v, err := dialect.Negotiate(c)
		if err != nil {
			return err
		}
		k := &call{Context: c, h: h, who: auth.From(c), v: v}
		k.caller = k.who.Caller()
		if pid := c.Param("project_id"); pid != "" && pid != k.caller.ProjectID {
			return wire.BadRequest("Malformed request URL: URL's project_id '%s' doesn't match Context's project_id '%s'", pid, k.caller.ProjectID)
		}
		if err := k.who.Require(rule, ""); err != nil {
			return err
		}
		return serve(k)
	}
}

// from serves a route of a microversion and later; before it there is no such route.
func from(minor int, serve func(*call) error) func(*call) error {
	return func(k *call) error {
		if !k.v.AtLeast(minor) {
			return errNoRoute
		}
		return serve(k)
	}
}

// until serves a route up to a microversion.
func until(minor int, serve func(*call) error) func(*call) error {
	return func(k *call) error {
		if k.v.AtLeast(minor + 1) {
			return errNoRoute
		}
		return serve(k)
	}
}

var errNoRoute = fault.New(fault.NotFound, "top/compute", "The resource could not be found.")

// ctx is the request's context, for the layers below.
func (k *call) ctx() context.Context { return k.Request().Context() }

// versioned and bare are the addresses below which links stand.
func (k *call) versioned() string {
	if k.versionedURL == "" {
		base := wire.Base(k.Context, k.h.public) + "/compute"
		project := ""
		if pid := k.Param("project_id"); pid != "" {
			project = "/" + pid
		}
		k.versionedURL, k.bareURL = base+"/v2.1"+project, base+project
	}
	return k.versionedURL
}

func (k *call) bare() string {
	k.versioned()
	return k.bareURL
}

func (k *call) links(collection, id string) []wire.Link {
	return wire.SelfLinks(k.versioned(), k.bare(), collection, id)
}

// bookmark is the links of a resource that another one shows.
func (k *call) bookmark(collection, id string) []wire.Link {
	return []wire.Link{{Rel: "bookmark", Href: k.bare() + "/" + collection + "/" + id}}
}

// ok answers 200.
func (k *call) ok(body any) error { return k.JSON(http.StatusOK, body) }

// page reads the part of the listing that is asked for.
func (k *call) page() (wire.Page, error) { return wire.ParsePage(k.QueryParams()) }

// next adds the link to the next page, when the page is full.
func (k *call) next(body map[string]any, collection, path string, p wire.Page, count int, last string) {
	if count > 0 && count == p.Limit {
		body[collection+"_links"] = wire.NextLink(k.Context, k.versioned()+"/"+path, last)
	}
}

// object reads the body's one member and refuses others beside it.
func (k *call) object(key string) (wire.Members, error) {
	inner, rest, err := wire.Object(k.Context, key)
	if err != nil {
		return nil, err
	}
	for other := range rest {
		return nil, wire.BadRequest("Additional properties are not allowed ('%s' was unexpected)", other)
	}
	return inner, nil
}

// closed refuses members that are left over.
func closed(m wire.Members) error {
	for key := range m {
		return wire.BadRequest("Additional properties are not allowed ('%s' was unexpected)", key)
	}
	return nil
}
