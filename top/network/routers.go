package network

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

func (h *Handler) addRouterInterface(c echo.Context) error {
	return h.leg(c, "add_router_interface", h.service.AddLeg)
}

func (h *Handler) removeRouterInterface(c echo.Context) error {
	return h.leg(c, "remove_router_interface", h.service.RemoveLeg)
}

func (h *Handler) leg(c echo.Context, rule string, act func(context.Context, sites.Caller, string, network.Fields) (*network.Leg, error)) error {
	m, err := body(c)
	if err != nil {
		return err
	}
	fields := network.Fields{}
	for _, key := range []string{"port_id", "subnet_id"} {
		if value, ok := m[key]; ok && value != nil {
			checked, reason := id(value)
			if reason != "" {
				return invalid(key, reason)
			}
			fields[key] = checked
		}
	}
	who := auth.From(c)
	router, err := h.service.Find(c.Request().Context(), who.Caller(), sites.Router, c.Param("id"))
	if err != nil {
		return err
	}
	if err := who.Require(rule, router.ProjectID); err != nil {
		return err
	}
	l, err := act(c.Request().Context(), who.Caller(), string(router.ID), fields)
	if err != nil {
		return err
	}
	out := view{
		"id": l.Router.ID, "tenant_id": l.Router.ProjectID, "project_id": l.Router.ProjectID, "port_id": l.Port, "network_id": l.Network,
		"subnet_ids": list(l.Subnets),
	}
	if len(l.Subnets) > 0 {
		out["subnet_id"] = l.Subnets[0]
	}
	return c.JSON(http.StatusOK, out)
}

func (h *Handler) addExtraRoutes(c echo.Context) error {
	return h.extraRoutes(c, func(have, named []network.Route) []network.Route {
		for _, r := range named {
			if !slices.Contains(have, r) {
				have = append(have, r)
			}
		}
		return have
	})
}

func (h *Handler) removeExtraRoutes(c echo.Context) error {
	return h.extraRoutes(c, func(have, named []network.Route) []network.Route {
		return slices.DeleteFunc(have, func(r network.Route) bool { return slices.Contains(named, r) })
	})
}

// extraRoutes changes the routes of a router as a whole: when another request changes the router meanwhile, it starts again.
func (h *Handler) extraRoutes(c echo.Context, merge func(have, named []network.Route) []network.Route) error {
	col := h.collectionOf(sites.Router)
	m, err := body(c)
	if err != nil {
		return err
	}
	one, err := col.single(m)
	if err != nil {
		return err
	}
	// Neutron 21 fails with 500 when there is no list of routes: Top says what is missing.
	if _, ok := one["routes"].([]any); !ok {
		return faultjson.Typed("InvalidInput", fault.New(fault.BadRequest, "top/network", "Invalid input for operation: routes is not a list: it must be given."))
	}
	fields, err := col.fields(map[string]any{"routes": one["routes"]}, false)
	if err != nil {
		return err
	}
	var named []network.Route
	items, _ := fields["routes"].([]any)
	for _, item := range items {
		r, _ := item.(map[string]any)
		destination, _ := r["destination"].(string)
		hop, _ := r["nexthop"].(string)
		named = append(named, network.Route{Destination: destination, NextHop: hop})
	}
	for {
		r, err := h.lookUp(c, col, "update")
		if err != nil {
			return err
		}
		spec, err := network.SpecOf[network.RouterSpec](r)
		if err != nil {
			return err
		}
		change := network.Change{ID: string(r.ID), Fields: network.Fields{"routes": merge(spec.Routes, named)}, Revision: &r.Version}
		r, err = col.update(c.Request().Context(), auth.From(c).Caller(), change)
		var stale *network.RevisionError
		if errors.As(err, &stale) {
			continue
		}
		if err != nil {
			return err
		}
		return h.answer(c, col, r)
	}
}

func (h *Handler) collectionOf(kind sites.Kind) *collection {
	for _, col := range h.collections {
		if col.kind == kind {
			return col
		}
	}
	return nil
}
