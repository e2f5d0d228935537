package network

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// row and caller shorten the signatures of a collection's verbs.
type (
	row    = index.Resource
	caller = sites.Caller
)

// collection is one kind of resource as the API offers it.
type collection struct {
	path, singular, plural string
	kind                   sites.Kind
	attrs                  map[string]attribute
	columns                map[string]index.Field
	withShared             bool // lists show what belongs to no project as well
	// visible, when set, keeps what lists show.
	visible func(*row) bool

	make   func(context.Context, caller, []network.Fields) ([]*row, error)
	update func(context.Context, caller, network.Change) (*row, error) // nil: it cannot be changed
	end    func(context.Context, caller, network.Change) error
	view   func(context.Context, *viewer, []*row) ([]view, error)
}

// tables are the collections.
func (h *Handler) tables() []*collection {
	s := h.service
	return []*collection{
		{
			path: "networks", singular: "network", plural: "networks", kind: sites.Network, attrs: networkAttributes(), columns: columns(nil),
			withShared: true, make: s.CreateNetworks, update: s.UpdateNetwork, end: s.DeleteNetwork, view: viewNetworks,
		},
		{
			path: "subnets", singular: "subnet", plural: "subnets", kind: sites.Subnet, attrs: subnetAttributes(), withShared: true,
			columns: columns(map[string]index.Field{"network_id": index.ByParent}), visible: network.Listed,
			make: s.CreateSubnets, update: s.UpdateSubnet, end: s.DeleteSubnet, view: viewSubnets,
		},
		{
			path: "ports", singular: "port", plural: "ports", kind: sites.Port, attrs: portAttributes(),
			columns: columns(map[string]index.Field{"network_id": index.ByParent, "device_id": index.ByDevice}),
			make:    s.CreatePorts, update: s.UpdatePort, end: s.DeletePort, view: viewPorts,
		},
		{
			path: "routers", singular: "router", plural: "routers", kind: sites.Router, attrs: routerAttributes(), columns: columns(nil),
			make: s.CreateRouters, update: s.UpdateRouter, end: s.DeleteRouter, view: viewRouters,
		},
		{
			path: "floatingips", singular: "floatingip", plural: "floatingips", kind: sites.FloatingIP, attrs: floatingAttributes(),
			columns: columns(map[string]index.Field{"floating_network_id": index.ByParent, "port_id": index.ByDevice}),
			visible: addressed, update: s.UpdateFloatingIP, end: s.DeleteFloatingIP, view: viewFloating,
			make: func(ctx context.Context, c caller, list []network.Fields) ([]*row, error) {
				if len(list) > 1 {
					return nil, bad("Bulk operation not supported")
				}
				r, err := s.CreateFloatingIP(ctx, c, list[0])
				return []*row{r}, err
			},
		},
		{
			path: "security-groups", singular: "security_group", plural: "security_groups", kind: sites.SecurityGroup, attrs: groupAttributes(), columns: columns(nil),
			make: s.CreateGroups, update: s.UpdateGroup, end: s.DeleteGroup, view: viewGroups,
		},
		{
			path: "security-group-rules", singular: "security_group_rule", plural: "security_group_rules", kind: sites.SecurityGroupRule, attrs: ruleAttributes(),
			columns: columns(map[string]index.Field{"security_group_id": index.ByParent}),
			make:    s.CreateRules, end: s.DeleteRule, view: viewRules,
		},
	}
}

// addressed hides a floating IP that has no address yet: to its tenant it is not there before its create is answered.
func addressed(r *row) bool { return r.State != index.Creating || r.Observed != nil }

// render shows rows as the caller may see them, cut down to the fields asked for.
func (h *Handler) render(c echo.Context, col *collection, rows []*row) ([]view, error) {
	if err := h.fresh(c, rows); err != nil {
		return nil, err
	}
	v := &viewer{handler: h, caller: auth.From(c).Caller()}
	views, err := col.view(c.Request().Context(), v, rows)
	if err != nil {
		return nil, err
	}
	only := c.QueryParams()["fields"]
	if len(only) == 0 {
		return views, nil
	}
	for i, full := range views {
		cut := view{}
		for _, name := range only {
			if value, ok := full[name]; ok {
				cut[name] = value
			}
		}
		views[i] = cut
	}
	return views, nil
}

func (h *Handler) create(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		m, err := body(c)
		if err != nil {
			return err
		}
		objects, bulk, err := col.unwrap(m)
		if err != nil {
			return err
		}
		who := auth.From(c)
		if err := who.Require("create_"+col.singular, ""); err != nil {
			return err
		}
		list := make([]network.Fields, len(objects))
		for i, o := range objects {
			if list[i], err = col.fields(o, true); err != nil {
				return err
			}
			if err := owner(who, list[i]); err != nil {
				return err
			}
			if err := col.allowed(who, "create", list[i], h.ownerOf(c, list[i])); err != nil {
				return err
			}
		}
		rows, err := col.make(c.Request().Context(), who.Caller(), list)
		if err != nil {
			return err
		}
		views, err := h.render(c, col, rows)
		if err != nil {
			return err
		}
		if bulk {
			return c.JSON(http.StatusCreated, map[string]any{col.plural: views})
		}
		return c.JSON(http.StatusCreated, map[string]any{col.singular: views[0]})
	}
}

func (h *Handler) show(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, err := h.lookUp(c, col, "get")
		if err != nil {
			return err
		}
		return h.answer(c, col, r)
	}
}

func (h *Handler) answer(c echo.Context, col *collection, r *row) error {
	views, err := h.render(c, col, []*row{r})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{col.singular: views[0]})
}

// lookUp finds the row that a path names among those that the caller may see: NotFound comes before Forbidden.
func (h *Handler) lookUp(c echo.Context, col *collection, verb string) (*row, error) {
	who := auth.From(c)
	if col.kind == sites.SecurityGroup {
		if err := h.service.EnsureDefaultGroup(c.Request().Context(), who.Caller()); err != nil {
			return nil, err
		}
	}
	r, err := h.service.Find(c.Request().Context(), who.Caller(), col.kind, c.Param("id"))
	if err != nil {
		return nil, err
	}
	project := r.ProjectID
	if project == "" && col.kind == sites.Subnet && !who.Caller().Admin() {
		outside, err := h.service.Outside(c.Request().Context())
		if err != nil {
			return nil, err
		}
		if outside[r.ParentID] {
			return nil, faultjson.Typed("SubnetNotFound", fault.New(fault.NotFound, "top/network", "Subnet %s could not be found.", c.Param("id")))
		}
	}
	if project == "" && verb != "get" {
		return r, h.notOurs(who, col, verb)
	}
	if r.Visibility == index.ForAll && verb == "get" {
		project = ""
	}
	return r, who.Require(verb+"_"+col.singular, project)
}

// notOurs is for a verb on what belongs to the sites.
func (h *Handler) notOurs(who *auth.Who, col *collection, verb string) error {
	if err := who.Require(verb+"_"+col.singular, ""); err != nil {
		return err
	}
	return faultjson.Typed("PolicyNotAuthorized", fault.New(fault.Forbidden, "top/network", "rule:%s_%s is disallowed by policy: it belongs to the sites and is changed there", verb, col.singular))
}

func (h *Handler) update(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		m, err := body(c)
		if err != nil {
			return err
		}
		one, err := col.single(m)
		if err != nil {
			return err
		}
		r, err := h.lookUp(c, col, "update")
		if err != nil {
			return err
		}
		fields, err := col.fields(one, false)
		if err != nil {
			return err
		}
		who := auth.From(c)
		if err := col.allowed(who, "update", fields, h.ownerOf(c, map[string]any{"network_id": string(r.ParentID)})); err != nil {
			return err
		}
		return h.change(c, col, r, fields)
	}
}

// change updates a row and answers with it.
func (h *Handler) change(c echo.Context, col *collection, r *row, fields network.Fields) error {
	revision, err := ifMatch(c.Request())
	if err != nil {
		return err
	}
	r, err = col.update(c.Request().Context(), auth.From(c).Caller(), network.Change{ID: string(r.ID), Fields: fields, Revision: revision})
	if err != nil {
		return err
	}
	return h.answer(c, col, r)
}

func (h *Handler) remove(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, err := h.lookUp(c, col, "delete")
		if err != nil {
			return err
		}
		revision, err := ifMatch(c.Request())
		if err != nil {
			return err
		}
		if err := col.end(c.Request().Context(), auth.From(c).Caller(), network.Change{ID: string(r.ID), Revision: revision}); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
}
