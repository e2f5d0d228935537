package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
)

// view renders an image as Glance does. Custom properties stand beside the base
// ones; headwater:sites tells where the bytes are.
func (h *Handler) view(ctx context.Context, r *index.Resource) (map[string]any, error) {
	var spec image.Spec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	out := map[string]any{}
	for k, v := range spec.Properties {
		out[k] = v
	}
	id := string(r.ID)
	owner := any(r.ProjectID)
	if r.ProjectID == "" {
		owner = nil // a site's own, for everybody
	}
	for k, v := range map[string]any{
		"id": id, "name": orNil(r.Name), "status": r.Status, "visibility": r.Visibility, "protected": spec.Protected, "os_hidden": spec.Hidden,
		"owner": owner, "size": spec.Size, "virtual_size": spec.VirtualSize, "checksum": orNil(spec.Checksum),
		"os_hash_algo": orNil(spec.HashAlgo), "os_hash_value": orNil(spec.HashValue), "container_format": orNil(spec.ContainerFormat),
		"disk_format": orNil(spec.DiskFormat), "min_disk": spec.MinDisk, "min_ram": spec.MinRAM, "tags": tags(spec.Tags),
		"created_at": stamp(r.CreatedAt), "updated_at": stamp(r.UpdatedAt),
		"self": "/v2/images/" + id, "file": "/v2/images/" + id + "/file", "schema": "/v2/schemas/image",
	} {
		out[k] = v
	}
	sites, err := h.service.Residency(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if len(sites) > 0 {
		names := make([]string, len(sites))
		for i, s := range sites {
			names[i] = string(s)
		}
		out["headwater:sites"] = strings.Join(names, ",")
	}
	return out, nil
}

// stamp is a moment as Glance shows it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func tags(list []string) []string {
	out := append([]string{}, list...)
	slices.Sort(out)
	return out
}

// readonly are the members that nobody sets (glance/api/v2/images.py, _readonly_properties and _reserved_properties).
func readonly(name string) bool {
	switch name {
	case "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file", "schema", "os_hash_algo",
		"os_hash_value", "locations", "stores", "owner", "headwater:sites":
		return true
	}
	return strings.HasPrefix(name, "os_glance_") || strings.HasPrefix(name, "headwater:") || name == "hw_marker"
}
