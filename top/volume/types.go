package volume

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// listTypes handles GET /types.
func (h *Handler) listTypes(c echo.Context) error {
	if err := auth.From(c).Require("get_volume_type", ""); err != nil {
		return err
	}
	params := c.Request().URL.Query()
	wanted, err := wantedTypes(auth.From(c).Caller(), params.Get("is_public"))
	if err != nil {
		return err
	}
	page, err := wire.ParsePage(params)
	if err != nil {
		return err
	}
	q := index.Query{Kind: sites.VolumeType, Shared: true, Limit: page.Limit, Marker: ident.TopID(page.Marker), Match: wanted}
	if q.Sort, err = sorting(params); err != nil {
		return err
	}
	if page.Limit == 0 && params.Has("limit") {
		q.Limit, q.Match = 1, func(*index.Resource) bool { return false }
	}
	rows, err := h.service.List(c.Request().Context(), q)
	if err != nil {
		return err
	}
	items := []map[string]any{}
	for _, r := range rows {
		v, err := viewType(c, r)
		if err != nil {
			return err
		}
		items = append(items, v)
	}
	out := map[string]any{"volume_types": items}
	if params.Has("limit") && page.Limit > 0 && len(items) == page.Limit {
		out["volume_type_links"] = wire.NextLink(c, "types", string(rows[len(rows)-1].ID))
	}
	return c.JSON(http.StatusOK, out)
}

// wantedTypes is Cinder's filter is_public (cinder/api/api_utils.py _parse_is_public): administrators alone may ask for private
// types, or for all with None, and see what is public or their own project's when they do not ask.
func wantedTypes(c sites.Caller, asked string) (func(*index.Resource) bool, error) {
	own := c
	own.Roles = nil
	if !c.Admin() || asked == "" {
		return func(r *index.Resource) bool { return volume.TypeVisible(own, r) }, nil
	}
	if strings.EqualFold(asked, "none") {
		return nil, nil
	}
	public, ok := strictBool(asked)
	if !ok {
		return nil, wire.BadRequest("Invalid is_public filter [%s]", asked)
	}
	return func(r *index.Resource) bool {
		var spec volume.TypeSpec
		if public {
			return volume.TypeVisible(own, r)
		}
		return r.Decode(&spec) == nil && !spec.Public
	}, nil
}

// strictBool reads a truth value as oslo's strict parser does.
func strictBool(text string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "1", "t", "true", "on", "y", "yes":
		return true, true
	case "0", "f", "false", "off", "n", "no":
		return false, true
	}
	return false, false
}

// listTypeAccess handles GET /types/{id}/os-volume-type-access.
func (h *Handler) listTypeAccess(c echo.Context) error {
	if err := auth.From(c).Require("get_volume_type_access", ""); err != nil {
		return err
	}
	r, err := h.findType(c)
	if err != nil {
		return err
	}
	projects, err := h.service.TypeAccess(r)
	if err != nil {
		return err
	}
	out := []map[string]string{}
	for _, p := range projects {
		out = append(out, map[string]string{"volume_type_id": string(r.ID), "project_id": p})
	}
	return c.JSON(http.StatusOK, map[string]any{"volume_type_access": out})
}

// changeTypeAccess handles POST /types/{id}/action: addProjectAccess and removeProjectAccess.
func (h *Handler) changeTypeAccess(c echo.Context) error {
	body, err := wire.Body(c)
	if err != nil {
		return err
	}
	action, change := "addProjectAccess", h.service.AddTypeAccess
	if _, remove := body["removeProjectAccess"]; remove {
		action, change = "removeProjectAccess", h.service.RemoveTypeAccess
	}
	var args map[string]string
	if err := body.Take(action, &args); err != nil {
		return err
	}
	if args == nil || len(body) > 0 {
		return wire.BadRequest("There is no such action: %s. Verify the request body and Content-Type header and try again.", "None")
	}
	project, given := args["project"]
	if !given || len(args) != 1 {
		return wire.BadRequest("Invalid input for field/attribute %s. 'project' is a required property", action)
	}
	if !uuidLike.MatchString(strings.ToLower(project)) {
		return wire.BadRequest("Invalid input for field/attribute project. Value: %s. %s is not a 'uuid'", project, strconv.Quote(project))
	}
	if err := auth.From(c).Require("update_volume_type", ""); err != nil {
		return err
	}
	r, err := h.findType(c)
	if err != nil {
		return err
	}
	if err := change(c.Request().Context(), auth.From(c).Caller(), r.ID, project); err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}

// uuidLike is what oslo takes for a UUID: with or without hyphens.
var uuidLike = regexp.MustCompile(`^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$`)

// findType looks a type up by id, or the default one.
func (h *Handler) findType(c echo.Context) (*index.Resource, error) {
	who := auth.From(c)
	if err := who.Require("get_volume_type", ""); err != nil {
		return nil, err
	}
	id := c.Param("id")
	if id == "default" {
		id = "__DEFAULT__" // Cinder's own, since Train
	}
	if r, err := h.service.Find(c.Request().Context(), who.Caller(), sites.VolumeType, id); err == nil && volume.TypeVisible(who.Caller(), r) {
		return r, nil
	}
	if id == "" { // FindType's word for no type at all
		return nil, index.NotFound(sites.VolumeType, id)
	}
	r, err := h.service.FindType(c.Request().Context(), who.Caller(), id)
	if fault.Is(err, fault.NotFound) && c.Param("id") == "default" {
		err = fault.New(fault.NotFound, "top/volume.findType", "Default volume type can not be found.")
	}
	return r, err
}

// showType handles GET /types/{id}.
func (h *Handler) showType(c echo.Context) error {
	r, err := h.findType(c)
	if err != nil {
		return err
	}
	v, err := viewType(c, r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"volume_type": v})
}

// typeSpecs handles GET /types/{id}/extra_specs.
func (h *Handler) typeSpecs(c echo.Context) error {
	r, err := h.findType(c)
	if err != nil {
		return err
	}
	var spec volume.TypeSpec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"extra_specs": shownSpecs(auth.From(c).Caller(), spec)})
}
