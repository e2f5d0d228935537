// Package network is Neutron's API v2.0 over Top: it decodes and validates the
// form of a request as Neutron's attribute maps do, asks whether the caller may,
// calls cascade/network, and shows rows in Neutron's words. It owns no state.
package network

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
	"github.com/headwater-cloud/headwater/top/wire"
)

// Config is what a Handler is made of.
type Config struct {
	Service *network.Service
	Auth    *auth.Authenticator
	// Ages tells how old Top's knowledge of each site is, for the header X-Headwater-Freshness; nil leaves the header out.
	Ages interface {
		Freshness(ctx context.Context) (map[ident.SiteID]compute.Age, error)
	}
	// PublicURL is how clients reach Top, without a path; "" takes it from each request.
	PublicURL string
}

// Handler serves the API.
type Handler struct {
	cfg         Config
	service     *network.Service
	collections []*collection
}

// New returns a Handler.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, service: cfg.Service}
	h.collections = h.tables()
	return h
}

// base is the address of the API as the client used it: ".../network/v2.0".
func (h *Handler) base(c echo.Context) string {
	return wire.Base(c, h.cfg.PublicURL) + "/network/v2.0"
}

// bad is a request that Neutron's controllers refuse before any plugin sees it.
func bad(format string, args ...any) error {
	return faultjson.Typed("HTTPBadRequest", fault.New(fault.BadRequest, "top/network", format, args...))
}

// preconditions renders the one answer that no fault.Kind says: a revision that is not the row's is 412.
func preconditions(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		var stale *network.RevisionError
		if !errors.As(err, &stale) {
			return err
		}
		asked := faultjson.Asked{Service: faultjson.Network, RequestID: ident.RequestID(c.Request().Context())}
		faultjson.RenderStatus(asked, http.StatusPreconditionFailed, stale.Error(), stale.NeutronType()).WriteTo(c.Response())
		return nil
	}
}

// fresh sets the header that tells how old the answer's knowledge of each site is.
func (h *Handler) fresh(c echo.Context, rows []*row) error {
	if h.cfg.Ages == nil {
		return nil
	}
	shown := map[ident.SiteID]bool{}
	for _, r := range rows {
		if r.Site != "" {
			shown[r.Site] = true
		}
	}
	if len(shown) == 0 {
		return nil
	}
	ages, err := h.cfg.Ages.Freshness(c.Request().Context())
	if err != nil {
		return err
	}
	var parts []string
	for _, site := range slices.Sorted(maps.Keys(shown)) {
		if a, ok := ages[site]; ok {
			parts = append(parts, string(site)+"="+a.Age.Truncate(time.Second).String())
		}
	}
	c.Response().Header().Set("X-Headwater-Freshness", strings.Join(parts, ", "))
	return nil
}
