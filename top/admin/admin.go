// Package admin is the operator's API below /v1, described by an OpenAPI
// document at /v1/openapi.json that a person reads at /docs.
//
// What it promises: unknown fields and query parameters are refused; no answer
// holds a secret; everything needs the role admin, but for a summary of the
// sites and the explanation of a placement, which tenants may ask for.
package admin

import (
	"context"
	"embed"
	"io/fs"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Jobs shows and steers durable jobs.
type Jobs interface {
	List(ctx context.Context, f jobs.Filter) ([]jobs.Record, error)
	Show(ctx context.Context, id jobs.ID) (jobs.Record, error)
	Cancel(ctx context.Context, id jobs.ID) error
	Redo(ctx context.Context, id jobs.ID) error
}

// Audit shows who did what.
type Audit interface {
	List(ctx context.Context, f audit.Filter) ([]audit.Event, error)
}

// Config is what New needs.
type Config struct {
	Sites *registry.Registry
	Jobs  Jobs
	Audit Audit
	// Explain says where a server of the given body would be placed and why, or why nowhere.
	Explain func(ctx context.Context, who sites.Caller, body map[string]any) (placement.Explanation, error)
	// Caller says who asks; its error is fault.Unauthorized when there is no valid token.
	Caller func(echo.Context) (sites.Caller, error)
	// Version is shown in the OpenAPI document.
	Version string
}

// Handler serves the operator API.
type Handler struct{ cfg Config }

// New returns a Handler.
func New(c Config) *Handler { return &Handler{cfg: c} }

// Routes registers the API below g, which stands at /v1.
func (h *Handler) Routes(g *echo.Group) {
	config := huma.DefaultConfig("Headwater operator API", h.cfg.Version)
	config.CreateHooks = nil // they add a $schema link to every body
	config.DocsPath, config.SchemasPath = "", ""
	config.RejectUnknownQueryParameters = true
	config.Transformers = []huma.Transformer{plainProblem}
	config.Servers = []*huma.Server{{URL: "/v1"}}
	config.Info.Description = "What an operator does with Headwater. Every request carries a token of Top's Keystone " +
		"(/identity/v3) in X-Auth-Token; all but GET /sites and POST /placement/explain need the role admin."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "apiKey", In: "header", Name: "X-Auth-Token"},
	}
	config.Security = []map[string][]string{{"token": {}}}
	// The adapter needs the Echo instance only to be an http.Handler, which nobody uses here.
	api := humaecho.NewWithGroup(nil, g, config)
	api.UseMiddleware(h.authorize(api), noBody(api))
	h.siteRoutes(api)
	h.zoneRoutes(api)
	h.projectRoutes(api)
	h.jobRoutes(api)
	h.otherRoutes(api)
}

//go:embed docs
var docs embed.FS

// Docs registers the page that shows the OpenAPI document, with everything it needs, below g, which stands at /docs.
func (h *Handler) Docs(g *echo.Group) {
	files, err := fs.Sub(docs, "docs")
	if err != nil {
		panic(err) // cannot happen: the folder is embedded
	}
	show := func(c echo.Context) error {
		header := c.Response().Header()
		header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		name := c.Param("file")
		if name == "" {
			name = "index.html"
		}
		http.ServeFileFS(c.Response(), c.Request(), files, name)
		return nil
	}
	g.GET("", show)
	g.GET("/", show)
	g.GET("/:file", show)
}
