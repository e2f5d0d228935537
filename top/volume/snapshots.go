package volume

import (
	"maps"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// createSnapshot handles POST /snapshots.
func (h *Handler) createSnapshot(c echo.Context) error {
	in, _, err := wire.Object(c, "snapshot")
	if err != nil {
		return err
	}
	var req volume.SnapshotRequest
	var name, description *string
	var force wire.Bool
	null := string(in["volume_id"]) == "null" // which passes Cinder's schema
	err = in.TakeAll(wire.Field{Key: "volume_id", Into: &req.VolumeID}, wire.Field{Key: "name", Into: &name}, wire.Field{Key: "display_name", Into: &name},
		wire.Field{Key: "description", Into: &description}, wire.Field{Key: "display_description", Into: &description}, wire.Field{Key: "force", Into: &force}, wire.Field{Key: "metadata", Into: &req.Metadata})
	if err != nil {
		return err
	}
	if len(in) > 0 {
		return unexpected("snapshot", in)
	}
	if null {
		return fault.New(fault.NotFound, "top/volume", "Volume None could not be found.")
	}
	if req.VolumeID == "" {
		return wire.BadRequest("Invalid input for field/attribute snapshot. 'volume_id' is a required property")
	}
	// From 3.66 on in-use volumes are taken without force.
	req.Name, req.Description, req.Force = first(name), first(description), bool(force) || version(c).AtLeast(66)
	for field, value := range map[string]string{"name": req.Name, "description": req.Description} {
		if err := checkText(field, value); err != nil {
			return err
		}
	}
	who := auth.From(c)
	if err := who.Require("create_snapshot", ""); err != nil {
		return err
	}
	r, err := h.service.CreateSnapshot(c.Request().Context(), who.Caller(), req)
	if err != nil {
		return err
	}
	return h.answerSnapshot(c, http.StatusAccepted, r, false)
}

func (h *Handler) answerSnapshot(c echo.Context, status int, r *index.Resource, detail bool) error {
	out, err := h.viewSnapshot(c, r, detail)
	if err != nil {
		return err
	}
	return c.JSON(status, map[string]any{"snapshot": out})
}

// showSnapshot handles GET /snapshots/{id}.
func (h *Handler) showSnapshot(c echo.Context) error {
	r, err := h.find(c, sites.Snapshot, "get")
	if err != nil {
		return err
	}
	return h.answerSnapshot(c, http.StatusOK, r, true)
}

// listSnapshots handles GET /snapshots and /snapshots/detail.
func (h *Handler) listSnapshots(detail bool) echo.HandlerFunc {
	return h.list(sites.Snapshot, "snapshots", func(c echo.Context, r *index.Resource) (map[string]any, error) {
		return h.viewSnapshot(c, r, detail)
	})
}

// deleteSnapshot handles DELETE /snapshots/{id}.
func (h *Handler) deleteSnapshot(c echo.Context) error {
	r, err := h.find(c, sites.Snapshot, "delete")
	if err != nil {
		return err
	}
	if err := h.service.DeleteSnapshot(c.Request().Context(), auth.From(c).Caller(), string(r.ID), false); err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}

// metadataOf reads the tenant's metadata of a volume or snapshot.
func metadataOf(r *index.Resource) (map[string]string, error) {
	var spec struct {
		Metadata map[string]string `json:"metadata"`
	}
	err := r.Decode(&spec)
	return texts(spec.Metadata), err
}

// showMetadata handles GET .../metadata.
func (h *Handler) showMetadata(kind sites.Kind) echo.HandlerFunc {
	return h.withMetadata(kind, func(_ echo.Context, meta map[string]string) (any, error) {
		return map[string]any{"metadata": meta}, nil
	})
}

// withMetadata answers with what view makes of a resource's metadata.
func (h *Handler) withMetadata(kind sites.Kind, view func(c echo.Context, meta map[string]string) (any, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, err := h.find(c, kind, "get")
		if err != nil {
			return err
		}
		meta, err := metadataOf(r)
		if err != nil {
			return err
		}
		out, err := view(c, meta)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, out)
	}
}

// setMetadata handles POST (adds) and PUT (replaces) .../metadata.
func (h *Handler) setMetadata(kind sites.Kind, replace bool) echo.HandlerFunc {
	return func(c echo.Context) error {
		body, err := wire.Body(c)
		if err != nil {
			return err
		}
		var given map[string]string
		if err := body.Take("metadata", &given); err != nil {
			return err
		}
		if given == nil {
			return wire.BadRequest("Invalid input for field/attribute metadata. 'metadata' is a required property")
		}
		return h.changeMetadata(c, kind, func(meta map[string]string) (map[string]string, error) {
			if replace {
				return given, nil
			}
			maps.Copy(meta, given)
			return meta, nil
		}, func(meta map[string]string) any { return map[string]any{"metadata": meta} })
	}
}

// changeMetadata changes metadata as they are inside the transaction, so that two changes at once both count.
func (h *Handler) changeMetadata(c echo.Context, kind sites.Kind, change func(map[string]string) (map[string]string, error), view func(map[string]string) any) error {
	r, err := h.find(c, kind, "update")
	if err != nil {
		return err
	}
	if r, err = h.service.Update(c.Request().Context(), auth.From(c).Caller(), kind, string(r.ID), volume.Change{Metadata: change}); err != nil {
		return err
	}
	if view == nil {
		return c.NoContent(http.StatusOK)
	}
	meta, err := metadataOf(r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, view(meta))
}

func noKey(key string) error {
	return fault.New(fault.NotFound, "top/volume", "Metadata item %s was not found.", key)
}

// showMetadatum handles GET .../metadata/{key}.
func (h *Handler) showMetadatum(kind sites.Kind) echo.HandlerFunc {
	return h.withMetadata(kind, func(c echo.Context, meta map[string]string) (any, error) {
		key := c.Param("key")
		value, ok := meta[key]
		if !ok {
			return nil, noKey(key)
		}
		return map[string]any{"meta": map[string]string{key: value}}, nil
	})
}

// setMetadatum handles PUT .../metadata/{key}.
func (h *Handler) setMetadatum(kind sites.Kind) echo.HandlerFunc {
	return func(c echo.Context) error {
		body, err := wire.Body(c)
		if err != nil {
			return err
		}
		var given map[string]string
		if err := body.Take("meta", &given); err != nil {
			return err
		}
		key := c.Param("key")
		value, ok := given[key]
		if !ok || len(given) != 1 {
			return wire.BadRequest("Request body and URI mismatch")
		}
		return h.changeMetadata(c, kind, func(meta map[string]string) (map[string]string, error) {
			meta[key] = value
			return meta, nil
		}, func(map[string]string) any { return map[string]any{"meta": given} })
	}
}

// deleteMetadatum handles DELETE .../metadata/{key}.
func (h *Handler) deleteMetadatum(kind sites.Kind) echo.HandlerFunc {
	return func(c echo.Context) error {
		key := c.Param("key")
		return h.changeMetadata(c, kind, func(meta map[string]string) (map[string]string, error) {
			if _, ok := meta[key]; !ok {
				return nil, noKey(key)
			}
			delete(meta, key)
			return meta, nil
		}, nil)
	}
}
