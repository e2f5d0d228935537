package volume

import (
	"maps"
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

// viewVolume renders a volume in full: what the site showed, with Top's ids and words over it.
func (h *Handler) viewVolume(c echo.Context, r *index.Resource) (map[string]any, error) {
	var spec volume.Spec
	if err := r.Decode(&spec); err != nil {
		return nil, err
	}
	out := map[string]any{
		"attachments": []any{}, "bootable": "false", "encrypted": false, "consistencygroup_id": nil, "replication_status": nil,
		"multiattach": spec.Multiattach, "snapshot_id": nil, "source_volid": nil, "migration_status": nil,
	}
	maps.Copy(out, r.Observed)
	for name, minor := range since {
		if !version(c).AtLeast(minor) {
			delete(out, name)
		}
	}
	if auth.From(c).Caller().Admin() {
		maps.Copy(out, r.ObservedAdmin)
	}
	versioned, bare := h.endpoint(c)
	for k, v := range map[string]any{
		"id": string(r.ID), "name": r.Name, "description": orNil(r.Description), "size": spec.SizeGiB, "status": r.Status,
		"metadata": texts(spec.Metadata), "availability_zone": zoneOf(r), "volume_type": orNil(spec.Type), "user_id": r.UserID,
		"created_at": wire.Micros(r.CreatedAt), "updated_at": wire.Micros(r.UpdatedAt), "os-vol-tenant-attr:tenant_id": r.ProjectID,
		"links": wire.SelfLinks(versioned, bare, "volumes", string(r.ID)),
	} {
		out[k] = v
	}
	if version(c).AtLeast(63) {
		out["volume_type_id"] = orNil(string(spec.TypeID))
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
	if auth.From(c).Caller().Admin() {
		out["extra_specs"], out["qos_specs_id"] = texts(spec.ExtraSpecs), nil
	}
	return out, nil
}

// kindRule is the rule's noun for a kind.
func kindRule(kind sites.Kind) string { return strings.TrimPrefix(string(kind), "volume_") }
