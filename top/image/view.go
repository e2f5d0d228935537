package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// view renders an image as Glance does. Custom properties stand beside the base
// ones; headwater:sites tells where the bytes are.
func view(r *index.Resource, at []ident.SiteID) (map[string]any, error) {
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
	if len(at) > 0 {
		names := make([]string, len(at))
		for i, site := range at {
			names[i] = string(site)
		}
		out["headwater:sites"] = strings.Join(names, ",")
	}
	return out, nil
}

// views renders images; where their bytes are is one question for all of them.
func (h *Handler) views(ctx context.Context, rows ...*index.Resource) ([]map[string]any, error) {
	at, err := h.service.Residency(ctx, rows...)
	if err != nil {
		return nil, err
	}
	out := make([]map[string]any, len(rows))
	for i, r := range rows {
		if out[i], err = view(r, at[r.ID]); err != nil {
			return nil, err
		}
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

// readonly are the members that nobody sets (glance/api/v2/images.py: _disallowed_properties, _readonly_properties), and ours.
func readonly(name string) bool {
	switch name {
	case "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file", "schema", "os_hash_algo",
		"os_hash_value", "locations", "stores", sites.ImageMarker:
		return true
	}
	return strings.HasPrefix(name, "headwater:")
}

// reserved are names that Glance keeps for itself (_reserved_properties, _reserved_namespaces).
func reserved(name string) bool {
	return name == "location" || name == "deleted" || name == "deleted_at" || strings.HasPrefix(name, "os_glance")
}
