package volume

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// since says from which minor microversion on a member is shown (cinder/api/v3/views/volumes.py).
var since = map[string]int{
	"group_id": 13, "provider_id": 21, "shared_targets": 48, "service_uuid": 48, "cluster_name": 61, "volume_type_id": 63,
	"encryption_key_id": 64, "consumes_quota": 65, "user_id": 0,
}

// viewChanged renders a volume as Cinder answers a create and an update: without the members that its extensions add to
// what is shown and listed (cinder/api/contrib/volume_tenant_attribute.py and its neighbours).
func (h *Handler) viewChanged(c echo.Context, r *index.Resource) (map[string]any, error) {
	out, err := h.viewVolume(c, r)
	maps.DeleteFunc(out, func(name string, _ any) bool {
		return strings.HasPrefix(name, "os-vol-") || name == "volume_image_metadata"
	})
	return out, err
}

// viewVolume renders a volume in full: what the site showed, with Top's ids and words over it.
func (h *Handler) viewVolume(c echo.Context, r *index.Resource) (map[string]any, error) {
	var spec volume.Spec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	out := map[string]any{
		"attachments": []any{}, "bootable": "false", "encrypted": false, "consistencygroup_id": nil, "replication_status": nil,
		"multiattach": false, "snapshot_id": nil, "source_volid": nil, "migration_status": nil,
	}
	maps.Copy(out, r.Observed)
	meta := maps.Clone(texts(spec.Metadata))
	if shown, ok := r.Observed["metadata"].(map[string]any); ok {
		for k, v := range shown {
			meta[k] = fmt.Sprint(v)
		}
	}
	for name, minor := range since {
		if !version(c).AtLeast(minor) {
			delete(out, name)
		}
	}
	if auth.From(c).Caller().Admin() {
		for name, v := range r.ObservedAdmin {
			if version(c).AtLeast(since[name]) {
				out[name] = v
			}
		}
	} else {
		delete(out, "migration_status")
	}
	versioned, bare := h.endpoint(c)
	for k, v := range map[string]any{
		"id": string(r.ID), "name": r.Name, "description": orNil(r.Description), "size": spec.SizeGiB, "status": r.Status,
		"metadata": meta, "availability_zone": zoneOf(r), "volume_type": orNil(spec.Type), "user_id": r.UserID,
		"created_at": wire.Micros(r.CreatedAt), "updated_at": wire.Micros(r.UpdatedAt), "os-vol-tenant-attr:tenant_id": r.ProjectID,
		"links": wire.SelfLinks(versioned, bare, "volumes", string(r.ID)),
	} {
		out[k] = v
	}
	if version(c).AtLeast(63) {
		if spec.TypeID != "" {
			out["volume_type_id"] = string(spec.TypeID)
		} else if id, _ := out["volume_type_id"].(string); id == "" {
			out["volume_type_id"] = nil
		}
	}
	if spec.Snapshot != "" {
		out["snapshot_id"] = string(spec.Snapshot)
	}
	if spec.Source != "" {
		out["source_volid"] = string(spec.Source)
	}
	return out, nil
}

// zoneOf is the zone exactly as the tenant gave it, else the site.
func zoneOf(r *index.Resource) string {
	if r.Zone != "" {
		return r.Zone
	}
	return string(r.Site)
}

func texts(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (h *Handler) viewBrief(c echo.Context, r *index.Resource, collection string) map[string]any {
	versioned, bare := h.endpoint(c)
	return map[string]any{"id": string(r.ID), "name": r.Name, "links": wire.SelfLinks(versioned, bare, collection, string(r.ID))}
}

func (h *Handler) viewSnapshot(c echo.Context, r *index.Resource, detail bool) (map[string]any, error) {
	var spec volume.SnapshotSpec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	out := map[string]any{
		"id": string(r.ID), "name": r.Name, "description": orNil(r.Description), "status": r.Status, "size": spec.SizeGiB,
		"volume_id": string(r.ParentID), "metadata": texts(spec.Metadata), "created_at": wire.Micros(r.CreatedAt), "updated_at": wire.Micros(r.UpdatedAt),
	}
	if detail {
		progress := "0%"
		if p, ok := r.Observed["os-extended-snapshot-attributes:progress"].(string); ok {
			progress = p
		}
		out["os-extended-snapshot-attributes:progress"], out["os-extended-snapshot-attributes:project_id"] = progress, r.ProjectID
	}
	if version(c).AtLeast(14) {
		out["group_snapshot_id"] = nil
	}
	if version(c).AtLeast(41) {
		out["user_id"] = r.UserID
	}
	if version(c).AtLeast(65) {
		out["consumes_quota"] = true
	}
	return out, nil
}

func viewType(c echo.Context, r *index.Resource) (map[string]any, error) {
	var spec volume.TypeSpec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	out := map[string]any{
		"id": string(r.ID), "name": r.Name, "description": orNil(r.Description), "is_public": spec.Public, "os-volume-type-access:is_public": spec.Public,
	}
	caller := auth.From(c).Caller()
	out["extra_specs"] = shownSpecs(caller, spec)
	if caller.Admin() {
		out["qos_specs_id"] = nil
	}
	return out, nil
}

// shownSpecs are the extra specs of a type that the caller may read: all for an administrator, else those that
// Cinder calls user visible (cinder/api/extensions.py, USER_VISIBLE_EXTRA_SPECS).
func shownSpecs(caller sites.Caller, spec volume.TypeSpec) map[string]string {
	out := maps.Clone(texts(spec.ExtraSpecs))
	if !caller.Admin() {
		maps.DeleteFunc(out, func(k, _ string) bool {
			return !slices.Contains([]string{"RESKEY:availability_zones", "multiattach", "replication_enabled"}, k)
		})
	}
	return out
}

// kindRule is the rule's noun for a kind.
func kindRule(kind sites.Kind) string { return strings.TrimPrefix(string(kind), "volume_") }
