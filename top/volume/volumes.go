package volume

import (
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// maxName is the length of Cinder's names and descriptions.
const maxName = 255

func checkText(name, value string) error {
	if len(value) > 4*maxName || len([]rune(value)) > maxName {
		return wire.BadRequest("Invalid input for field/attribute %s. It has more than %d characters.", name, maxName)
	}
	return nil
}

// createVolume handles POST /volumes.
func (h *Handler) createVolume(c echo.Context) error {
	in, rest, err := wire.Object(c, "volume")
	if err != nil {
		return err
	}
	var req volume.CreateRequest
	var size *wire.Int
	var name, description, display, zone, typ, image, snapshot, source, imageID *string
	var multi wire.Bool
	err = in.TakeAll(wire.Field{Key: "size", Into: &size}, wire.Field{Key: "name", Into: &name}, wire.Field{Key: "display_name", Into: &display},
		wire.Field{Key: "description", Into: &description}, wire.Field{Key: "display_description", Into: &description},
		wire.Field{Key: "availability_zone", Into: &zone}, wire.Field{Key: "volume_type", Into: &typ},
		wire.Field{Key: "imageRef", Into: &image}, wire.Field{Key: "image_id", Into: &imageID}, wire.Field{Key: "snapshot_id", Into: &snapshot},
		wire.Field{Key: "source_volid", Into: &source}, wire.Field{Key: "metadata", Into: &req.Metadata}, wire.Field{Key: "multiattach", Into: &multi})
	if err != nil {
		return err
	}
	for _, member := range []string{"status", "attach_status", "user_id", "project_id", "consistencygroup_id", "source_replica"} {
		delete(in, member) // sent by old clients, without meaning since v2
	}
	var hints map[string]any
	if err := rest.Take("OS-SCH-HNT:scheduler_hints", &hints); err != nil {
		return err
	}
	_, req.Spread = hints["headwater:spread"]
	if size != nil {
		if req.SizeGiB = int64(*size); req.SizeGiB <= 0 {
			return wire.BadRequest("Invalid input for field/attribute size. Value: %d. It must be a positive number of GiB.", req.SizeGiB)
		}
	}
	req.Name, req.Description, req.Zone, req.Type = first(name, display), first(description), first(zone), first(typ)
	req.ImageID, req.SnapshotID, req.SourceID, req.Multiattach = first(image, imageID), first(snapshot), first(source), bool(multi)
	if req.Extra = known(in); len(req.Metadata) > 128 {
		return wire.BadRequest("Metadata has more than 128 items.")
	}
	for field, value := range map[string]string{"name": req.Name, "description": req.Description} {
		if err := checkText(field, value); err != nil {
			return err
		}
	}
	who := auth.From(c)
	if err := who.Require("create_volume", ""); err != nil {
		return err
	}
	r, err := h.service.Create(c.Request().Context(), who.Caller(), req)
	if err != nil {
		return err
	}
	return h.answerVolume(c, http.StatusAccepted, r)
}

// known drops members that are null: they say nothing.
func known(in wire.Members) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for k, v := range in {
		if string(v) != "null" {
			out[k] = v
		}
	}
	return out
}

func first(values ...*string) string {
	for _, v := range values {
		if v != nil && *v != "" {
			return *v
		}
	}
	return ""
}

func (h *Handler) answerVolume(c echo.Context, status int, r *index.Resource) error {
	out, err := h.viewVolume(c, r)
	if err != nil {
		return err
	}
	return c.JSON(status, map[string]any{"volume": out})
}

// find looks a resource up and then checks the rule: what is not there comes before what is not allowed.
func (h *Handler) find(c echo.Context, kind sites.Kind, verb string) (*index.Resource, error) {
	who := auth.From(c)
	r, err := h.service.Find(c.Request().Context(), who.Caller(), kind, c.Param("id"))
	if err != nil {
		return nil, err
	}
	return r, who.Require(verb+"_"+kindRule(kind), r.ProjectID)
}

// showVolume handles GET /volumes/{id}.
func (h *Handler) showVolume(c echo.Context) error {
	r, err := h.find(c, sites.Volume, "get")
	if err != nil {
		return err
	}
	return h.answerVolume(c, http.StatusOK, r)
}

// update handles PUT /volumes/{id} and /snapshots/{id}.
func (h *Handler) update(kind sites.Kind) echo.HandlerFunc {
	return func(c echo.Context) error {
		in, _, err := wire.Object(c, string(kind))
		if err != nil {
			return err
		}
		var ch volume.Change
		var display, displayDescription *string
		err = in.TakeAll(wire.Field{Key: "name", Into: &ch.Name}, wire.Field{Key: "description", Into: &ch.Description},
			wire.Field{Key: "display_name", Into: &display}, wire.Field{Key: "display_description", Into: &displayDescription},
			wire.Field{Key: "metadata", Into: &ch.Metadata})
		if err != nil {
			return err
		}
		if ch.Name == nil {
			ch.Name = display
		}
		if ch.Description == nil {
			ch.Description = displayDescription
		}
		for field, value := range map[string]*string{"name": ch.Name, "description": ch.Description} {
			if value != nil {
				if err := checkText(field, *value); err != nil {
					return err
				}
			}
		}
		r, err := h.find(c, kind, "update")
		if err != nil {
			return err
		}
		r, err = h.service.Update(c.Request().Context(), auth.From(c).Caller(), kind, string(r.ID), ch)
		if err != nil {
			return err
		}
		if kind == sites.Snapshot {
			return h.answerSnapshot(c, http.StatusOK, r, false)
		}
		return h.answerVolume(c, http.StatusOK, r)
	}
}

// deleteVolume handles DELETE /volumes/{id}.
func (h *Handler) deleteVolume(c echo.Context) error {
	r, err := h.find(c, sites.Volume, "delete")
	if err != nil {
		return err
	}
	withSnapshots := isTrue(c.QueryParam("cascade"))
	force := isTrue(c.QueryParam("force")) && auth.From(c).Caller().Admin()
	if err := h.service.Delete(c.Request().Context(), auth.From(c).Caller(), string(r.ID), withSnapshots, force); err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}

func isTrue(s string) bool { return s == "True" || s == "true" || s == "1" }

// summary handles GET /volumes/summary (3.12).
func (h *Handler) summary(c echo.Context) error {
	who := auth.From(c)
	if err := who.Require("get_volume", ""); err != nil {
		return err
	}
	q, err := h.query(c, sites.Volume)
	if err != nil {
		return err
	}
	q.Limit, q.Marker = 0, ""
	rows, err := h.service.List(c.Request().Context(), q)
	if err != nil {
		return err
	}
	var size int64
	for _, r := range rows {
		var spec volume.Spec
		if err := r.Decode(&spec); err != nil {
			return err
		}
		size += spec.SizeGiB
	}
	out := map[string]any{"total_count": len(rows), "total_size": size}
	if version(c).AtLeast(36) {
		out["metadata"] = map[string]any{}
	}
	return c.JSON(http.StatusOK, map[string]any{"volume-summary": out})
}
