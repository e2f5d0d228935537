package network

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
)

// zones handles GET /v2.0/availability_zones: the sites' network zones, for networks and for routers.
func (h *Handler) zones(c echo.Context) error {
	who := auth.From(c)
	if err := who.Require("get_availability_zone", ""); err != nil {
		return err
	}
	zones, err := h.service.Zones(c.Request().Context(), who.Caller())
	if err != nil {
		return err
	}
	out := []view{}
	for _, z := range zones {
		state := "unavailable"
		if z.Available {
			state = "available"
		}
		for _, resource := range []string{"network", "router"} {
			if r := c.QueryParam("resource"); r != "" && r != resource {
				continue
			}
			out = append(out, view{"name": z.Name, "resource": resource, "state": state})
		}
	}
	return c.JSON(http.StatusOK, map[string]any{"availability_zones": out})
}

// agents handles GET /v2.0/agents: the sites' agents are the sites' own, as they are to a tenant of Neutron.
func (h *Handler) agents(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"agents": []any{}})
}

// availabilities handles GET /v2.0/network-ip-availabilities.
func (h *Handler) availabilities(c echo.Context) error {
	who := auth.From(c)
	if err := who.Require("get_network", ""); err != nil {
		return err
	}
	q := c.QueryParams()
	query := index.Query{
		Kind: sites.Network, Project: who.Caller().ProjectID, AllProjects: who.Caller().Admin(), Pin: who.Caller().Pin,
		In: map[index.Field][]string{}, Sort: []index.Sort{{Field: index.ByCreated}},
	}
	for key, field := range map[string]index.Field{"network_id": index.ByID, "network_name": index.ByName, "tenant_id": index.ByProject, "project_id": index.ByProject} {
		if values := q[key]; len(values) > 0 {
			query.In[field] = values
		}
	}
	rows, err := h.service.Core().Index.List(c.Request().Context(), query)
	if err != nil {
		return err
	}
	views, err := h.usage(c.Request().Context(), who.Caller(), rows)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"network_ip_availabilities": views})
}

func (h *Handler) availability(c echo.Context) error {
	r, err := h.lookUp(c, h.collectionOf(sites.Network), "get")
	if err != nil {
		return err
	}
	views, err := h.usage(c.Request().Context(), auth.From(c).Caller(), []*row{r})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"network_ip_availability": views[0]})
}

// usage counts the addresses of networks. Those of the sites' own networks are not Top's to count.
func (h *Handler) usage(ctx context.Context, who sites.Caller, rows []*row) ([]view, error) {
	v := &viewer{handler: h, caller: who}
	subnets, err := v.children(ctx, sites.Subnet, rows)
	if err != nil {
		return nil, err
	}
	out := []view{}
	for _, r := range rows {
		var ids []ident.TopID
		for _, s := range subnets[r.ID] {
			ids = append(ids, s.ID)
		}
		figures, err := h.service.Usage(ctx, ids...)
		if err != nil {
			return nil, err
		}
		perSubnet := []view{}
		for _, s := range subnets[r.ID] {
			spec, err := network.SpecOf[network.SubnetSpec](s)
			if err != nil {
				return nil, err
			}
			f, ok := figures.Subnets[s.ID]
			if !ok {
				continue
			}
			perSubnet = append(perSubnet, view{
				"subnet_id": s.ID, "subnet_name": s.Name, "cidr": spec.CIDR, "ip_version": spec.IPVersion,
				"total_ips": json.Number(f.Total.String()), "used_ips": json.Number(f.Used.String()),
			})
		}
		out = append(out, view{
			"network_id": r.ID, "network_name": r.Name, "tenant_id": r.ProjectID, "project_id": r.ProjectID,
			"total_ips": json.Number(figures.Total.String()), "used_ips": json.Number(figures.Used.String()), "subnet_ip_availability": perSubnet,
		})
	}
	return out, nil
}
