package image

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// The catalog of metadata definitions is help for people who type properties; Top keeps none. It answers as a Glance
// whose operator loaded none, because Horizon asks for it whenever it launches an instance or edits an image.

// metadefMembers are the members of each schema's items, all of them text.
var metadefMembers = map[string][]string{
	"namespace":      {"namespace", "display_name", "description", "visibility", "owner", "created_at", "updated_at", "self", "schema"},
	"resource_type":  {"name", "prefix", "properties_target", "created_at", "updated_at"},
	"object":         {"name", "description", "created_at", "updated_at", "self", "schema"},
	"property":       {"name", "title", "description", "type"},
	"tag":            {"name", "created_at", "updated_at"},
	"resource_types": nil, "namespaces": nil, "objects": nil, "properties": nil, "tags": nil,
}

// metadefSchema handles GET /v2/schemas/metadefs/NAME.
func metadefSchema(c echo.Context) error {
	name := c.Param("name")
	members, ok := metadefMembers[name]
	if !ok {
		return fault.New(fault.NotFound, "top/image.metadefSchema", "There is no schema %q.", "metadefs/"+name)
	}
	properties := map[string]any{}
	for _, m := range members {
		properties[m] = map[string]any{"type": "string"}
	}
	if members == nil {
		properties[name] = map[string]any{"type": "array"}
	}
	return c.JSON(http.StatusOK, map[string]any{"name": name, "properties": properties, "additionalProperties": true})
}

func noNamespaces(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"namespaces": []any{}, "first": "/v2/metadefs/namespaces", "schema": "/v2/schemas/metadefs/namespaces"})
}

func noResourceTypes(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"resource_types": []any{}})
}

func refuseMetadefs(echo.Context) error {
	return fault.New(fault.Forbidden, "top/image", "Metadata definitions are not kept here: properties of images are free text.")
}
