package image

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// schema handles GET /v2/schemas/{image,images,member,members}, which glanceclient reads before it shows an image.
func (h *Handler) schema(c echo.Context) error {
	name := c.Param("name")
	item := map[string]any{"image": imageSchema(), "member": memberSchema()}
	switch name {
	case "image", "member":
		return c.JSON(http.StatusOK, item[name])
	case "images", "members":
		return c.JSON(http.StatusOK, map[string]any{
			"name": name,
			"properties": map[string]any{
				name:     map[string]any{"type": "array", "items": item[name[:len(name)-1]]},
				"schema": map[string]any{"type": "string"}, "first": map[string]any{"type": "string"}, "next": map[string]any{"type": "string"},
			},
			"links": []map[string]string{{"rel": "describedby", "href": "{schema}"}},
		})
	}
	return fault.New(fault.NotFound, "top/image.schema", "There is no schema %q.", name)
}

func text(maxLen int) map[string]any {
	return map[string]any{"type": []string{"null", "string"}, "maxLength": maxLen}
}

func member(kind string, readOnly bool) map[string]any {
	return map[string]any{"type": kind, "readOnly": readOnly}
}

func imageSchema() map[string]any {
	properties := map[string]any{
		"id": map[string]any{"type": "string", "pattern": uuidForm.String()}, "name": text(255),
		"status":     map[string]any{"type": "string", "readOnly": true, "enum": []string{"queued", "saving", "active", "killed", "deleted", "deactivated"}},
		"visibility": map[string]any{"type": "string", "enum": []string{"community", "public", "private", "shared"}},
		"protected":  member("boolean", false), "os_hidden": member("boolean", false), "owner": text(255),
		"disk_format":      map[string]any{"type": []string{"null", "string"}, "enum": withNil(diskFormats)},
		"container_format": map[string]any{"type": []string{"null", "string"}, "enum": withNil(containerFormats)},
		"min_disk":         member("integer", false), "min_ram": member("integer", false),
		"tags": map[string]any{"type": "array", "items": map[string]any{"type": "string", "maxLength": 255}},
	}
	for _, name := range []string{"checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "self", "file", "schema"} {
		properties[name] = map[string]any{"type": []string{"null", "string"}, "readOnly": true}
	}
	for _, name := range []string{"size", "virtual_size"} {
		properties[name] = map[string]any{"type": []string{"null", "integer"}, "readOnly": true}
	}
	return map[string]any{
		"name": "image", "properties": properties, "additionalProperties": map[string]any{"type": "string"},
		"links": []map[string]string{{"rel": "self", "href": "{self}"}, {"rel": "enclosure", "href": "{file}"}, {"rel": "describedby", "href": "{schema}"}},
	}
}

func withNil(list []string) []any {
	out := []any{nil}
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func memberSchema() map[string]any {
	return map[string]any{"name": "member", "properties": map[string]any{
		"member_id": member("string", false), "image_id": member("string", false), "created_at": member("string", false),
		"updated_at": member("string", false), "schema": member("string", true),
		"status": map[string]any{"type": "string", "enum": []string{"pending", "accepted", "rejected"}},
	}}
}
