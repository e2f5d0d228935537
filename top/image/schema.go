package image

import (
	_ "embed"
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// The schemas of one image and of one member, as Glance of the release Zed gives them with its default properties
// (glance/api/v2/images.py get_base_properties, etc/schema-image.json, glance/api/v2/image_members.py).
var (
	//go:embed schemas/image.json
	imageSchema []byte
	//go:embed schemas/member.json
	memberSchema []byte
)

// schema handles GET /v2/schemas/{image,images,member,members}, which glanceclient reads before it shows an image.
func (h *Handler) schema(c echo.Context) error {
	text := map[string]any{"type": "string"}
	link := func(rel string) map[string]string { return map[string]string{"rel": rel, "href": "{" + rel + "}"} }
	described := map[string]string{"rel": "describedby", "href": "{schema}"}
	switch name := c.Param("name"); name {
	case "image":
		return c.JSONBlob(http.StatusOK, imageSchema)
	case "member":
		return c.JSONBlob(http.StatusOK, memberSchema)
	case "images":
		list := map[string]any{"type": "array", "items": json.RawMessage(imageSchema)}
		return c.JSON(http.StatusOK, map[string]any{
			"name": name, "properties": map[string]any{name: list, "schema": text, "first": text, "next": text}, "links": []any{link("first"), link("next"), described},
		})
	case "members":
		list := map[string]any{"type": "array", "items": json.RawMessage(memberSchema)}
		return c.JSON(http.StatusOK, map[string]any{"name": name, "properties": map[string]any{name: list, "schema": text}, "links": []any{described}})
	default:
		return fault.New(fault.NotFound, "top/image.schema", "There is no schema %q.", name)
	}
}
